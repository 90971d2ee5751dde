"""Attention: what somebody should look at now, as lines, the weightiest first.

For: ``attention mute``.
Not for: telling anybody by itself (rules, alerts), why one task waits (reasons), what only a stopped instance shows (doctor).
Runs in: the daemon, inside the broker's turn, and only for who asks; ``saw`` in each turn.
Promises: looks at queues, types and schedules, never at tasks; a line keeps its key for as long as what it is about lasts, so that it can
be muted; what is muted stays in the list, last, until its time is over; who mutes is remembered as an event, but the muting itself
is in memory: a new daemon starts without any.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from functools import partial
from heapq import nsmallest
from typing import Any, NamedTuple

from tq.arguments import arguments, between
from tq.broker.breakers import Breakers
from tq.broker.desk import Desk, Turn, Verb
from tq.broker.rules import Rules
from tq.errors import UsageError
from tq.history import WHOLE
from tq.model import State, brief
from tq.schedule import words_of
from tq.store import QueueInfo
from tq.waiting import Request

LINES_MOST = 50
"""Nobody reads more; what is mended makes room for the next."""
RATE, RATE_BAD, ENDS_LEAST, RATE_MINUTES = 0.05, 0.25, 20, 10
"""One attempt in twenty fails: more than the odd time-out, and what a queue that works does not reach; one in four: something is down.
Of fewer ends than twenty one failure would be a rate."""
WAIT_MS = 60_000
"""How long the next of a queue without aging may wait: as the usual aging has it. Beyond that who sends outruns who works."""
WORKERS_MS = 5000
"""A worker needs about a second to be ready: who waits for longer has none."""
LOST_MS = 3_600_000
LOST_MOST = 1000
LOST_BAD = 3
"""One worker in an hour may be bad luck; so many have a reason."""
DEAD_MINUTES = 60
STEPPED_MS = 3_600_000
"""For so long a stepped clock explains what looks odd."""
SPACE = 8
"""Free space that is so many times what new tasks do not get is soon used up: it is what ``tq doctor`` warns of, too."""
FULL = 4
"""So is the last quarter of the store."""
MUTE_MS = (60_000, 7 * 86_400_000)
_WEIGHTS = ("bad", "warn", "note")


class Line(NamedTuple):
    """``about`` is what (queue, type, ...) and its name; ``what`` goes on behind that; ``since`` in ms, 0: not known."""

    key: str
    weight: str
    about: tuple[str, str]
    what: str
    since: int = 0


class Attention:
    def __init__(self, desk: Desk, rules: Rules, breakers: Breakers) -> None:
        self._desk = desk
        self._rules = rules
        self._breakers = breakers
        self._lost: deque[int] = deque(maxlen=LOST_MOST)  # when workers died unasked
        self._lost_before = 0
        self._found: dict[str, int] = {}  # when a line of which nobody knows since when was first in the list
        self._muted: dict[str, int] = {}  # until when
        self.reads: dict[str, Verb] = {"attention": self._attention}
        self.writes: dict[str, Verb] = {"mute": self._mute}

    def saw(self) -> None:
        """A turn begins: what is counted and has no time gets one."""
        lost = self._desk.lost()
        if lost != self._lost_before:
            self._lost.extend([self._desk.now] * min(lost - self._lost_before, LOST_MOST))
            self._lost_before = lost

    # -- the verbs -------------------------------------------------------------------------------------------------

    def _attention(self, request: Request, turn: Turn) -> dict[str, Any]:
        arguments(request.verb, request.args)
        now = self._desk.now
        self._muted = {key: until for key, until in self._muted.items() if until > now}
        found = {line.key: line for line in self.lines()}
        self._found = {key: line.since or self._found.get(key, now) for key, line in found.items()}
        first = nsmallest(LINES_MOST, found.values(), key=self._rank)
        return {
            "lines": [
                {**line._asdict(), "about": list(line.about), "since": self._found[line.key], "muted_until": self._muted.get(line.key, 0)}
                for line in first
            ]
        }

    def _rank(self, line: Line) -> tuple[bool, int, int]:
        return line.key in self._muted, _WEIGHTS.index(line.weight), self._found[line.key]

    def _mute(self, request: Request, turn: Turn) -> dict[str, Any]:
        args = arguments(request.verb, request.args, "key", "for_ms", key=object, for_ms=int)  # a key may be longer than a name
        key, for_ms = args["key"], between(args["for_ms"], *MUTE_MS, "mute: for_ms")
        if not any(line.key == key for line in self.lines()):
            raise UsageError(f"mute: key: expected that of a line that is there now, got {brief(key)}. `attention` gives them.")
        until = self._desk.now + for_ms
        self._desk.note(request, "muted", f"attention {key}", None, {"for_ms": for_ms, "until": until})
        turn.later.append(partial(self._muted.__setitem__, key, until))
        return {}

    # -- the lines -------------------------------------------------------------------------------------------------

    def lines(self) -> Iterator[Line]:
        """All there is to see, in no order."""
        yield from self._of_queues()
        yield from self._of_workers()
        yield from self._of_ends()
        yield from self._of_schedules()
        yield from self._of_the_store()
        yield from self._of_breakers()
        for name, raised_at in self._rules.raised.items():
            yield Line(f"alert:{name}", "bad", ("alert", name), "raised", raised_at)
        at, ms = self._desk.stepped
        if at and self._desk.now - at < STEPPED_MS:
            way = "forward" if ms > 0 else "back"
            yield Line(
                "clock_stepped", "note", ("clock", ""), f"was put {way} by {abs(ms) // 1000:,} s; waits and leases last as before", at
            )

    def _pending(self) -> dict[str, int]:
        """Ready tasks by queue."""
        found: dict[str, int] = {}
        for tally in self._desk.store.tallies():
            found[tally.queue] = found.get(tally.queue, 0) + tally.states[State.PENDING]
        return found

    def _of_queues(self) -> Iterator[Line]:
        desk, now = self._desk, self._desk.now
        pending, infos, oldest = self._pending(), desk.store.queues(), desk.store.oldest_of_each()
        for name in {**infos, **pending}:
            info, waiting, about = infos.get(name, QueueInfo(name)), pending.get(name, 0), ("queue", name)
            hold = desk.held.get(name)
            if info.paused:
                if waiting:
                    by = f" by {info.paused_by}" if info.paused_by else ""
                    yield Line(f"queue_paused:{name}", "warn", about, f"paused{by}, {_tasks(waiting)}", info.paused_at)
            elif hold is not None and hold.rules:
                yield Line(f"queue_held:{name}", "warn" if waiting else "note", about, f"held: {hold.why}; {_tasks(waiting)}", 0)
            elif waiting and (since := oldest.get(name, 0)) and now - since > (most := info.aging_ms or WAIT_MS):
                words = f"the next has waited for {(now - since) // 1000:,} s, more than {most // 1000:,} s; {_tasks(waiting)}"
                yield Line(f"queue_waits:{name}", "warn", about, words, since + most)
            _, succeeded, failed, retried = desk.history.lately(name, RATE_MINUTES, now)
            ends = succeeded + failed + retried
            if ends >= ENDS_LEAST and failed + retried > RATE * ends:
                share = (failed + retried) / ends
                words = f"{failed + retried:,} of {ends:,} attempts failed in the last {RATE_MINUTES} minutes ({share:.0%})"
                yield Line(f"queue_fails:{name}", "bad" if share > RATE_BAD else "warn", about, words)

    def _of_workers(self) -> Iterator[Line]:
        desk, now, about = self._desk, self._desk.now, ("workers", "")
        if not desk.slots()[1]:
            infos, pending = desk.store.queues(), self._pending()
            shut = {name for name, info in infos.items() if info.paused or info.external} | desk.held.keys()
            oldest = [since for name, since in desk.store.oldest_of_each().items() if name not in shut]
            if oldest and now - min(oldest) > WORKERS_MS:
                waiting = sum(count for name, count in pending.items() if name not in shut)
                yield Line("workers_none", "bad", about, f"none is ready; {_tasks(waiting)}", min(oldest))
        lost = [at for at in self._lost if now - at < LOST_MS]
        if lost:
            words = f"{len(lost)} died unasked in the last hour" if len(lost) > 1 else "one died unasked in the last hour"
            yield Line("workers_lost", "bad" if len(lost) >= LOST_BAD else "warn", about, words, lost[0])
        for name, crashes in desk.suspected().items():
            words = f"suspected: {crashes} runs in a row killed their worker; its tasks are tried one at a time"
            yield Line(f"type_suspected:{name}", "warn", ("type", name), words)

    def _of_ends(self) -> Iterator[Line]:
        history, now = self._desk.history, self._desk.now
        dead = history.lately(WHOLE, DEAD_MINUTES, now)[2]
        if dead:
            queues = {tally.queue for tally in self._desk.store.tallies() if tally.states[State.FAILED]}
            most, name = max(((history.lately(name, DEAD_MINUTES, now)[2], name) for name in queues), default=(0, ""))
            where = f", {most:,} of them in queue {name}" if 0 < most < dead else f", in queue {name}" if most else ""
            yield Line("tasks_dead", "warn", ("tasks", ""), f"{dead:,} failed for good in the last hour{where}")

    def _of_schedules(self) -> Iterator[Line]:
        for name, one in self._desk.store.schedules().items():
            about = ("schedule", name)
            if one.overdue:
                yield Line(f"schedule_overdue:{name}", "bad", about, f"overdue: no run since that of {words_of(one.overdue)} has succeeded",
                    one.overdue)  # fmt: skip
            if one.failing:
                yield Line(f"schedule_failing:{name}", "warn", about, f"failing since task {one.failing}")

    def _of_breakers(self) -> Iterator[Line]:
        for row in self._breakers.shut:
            about = ("type", row["type"]) if row["type"] else ("service", row["name"])
            if row["state"] == "half_open":
                yield Line(
                    f"breaker_half_open:{':'.join(about)}", "note", about, f"its breaker lets probes through; {row['why']}", row["since"]
                )
            else:
                yield Line(f"breaker_open:{':'.join(about)}", "warn", about, f"its breaker is open: {row['why']}", row["since"])

    def _of_the_store(self) -> Iterator[Line]:
        space = self._desk.space()
        if space is None:
            return
        about = ("store", "")
        if space.free < SPACE * space.least:
            words = f"{space.free >> 20:,} MiB are free on its disk; below {space.least >> 20:,} MiB new tasks are refused"
            yield Line("store_disk", "bad" if space.free < space.least else "warn", about, words)
        if space.live > space.most - space.most // FULL:
            words = f"{space.live >> 20:,} MiB of records, {space.most >> 20:,} MiB at most; a part of it new tasks do not get"
            yield Line("store_full", "bad" if space.live > space.most - space.reserve else "warn", about, words)


def _tasks(count: int) -> str:
    return "no task waits" if not count else "1 task waits" if count == 1 else f"{count:,} tasks wait"

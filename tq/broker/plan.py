"""The plan: what schedules and due tasks will do, in the order of time.

For: ``plan``: slots by the rules of their schedules, and tasks that wait for an instant, up to one.
Not for: when a rule comes due (``tq.schedule``), acting upon it (schedules), what stands in line already (``peek``).
Runs in: the daemon, inside the broker's turn; read in slices beside the other lists.
Promises: it says what would happen if nothing else did: what cannot be sent, or waits for a paused queue or the end of a run,
says so; a slot is reckoned only when those before it are told, so a thousand schedules cost no more than the rows that are asked for.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator
from dataclasses import dataclass, field
from functools import partial
from heapq import heappop, heappush
from typing import Any

from tq.arguments import arguments, between, filter_of
from tq.broker.desk import Desk, Turn, Verb
from tq.broker.schedules import as_sent
from tq.errors import StoreDamaged, TqError
from tq.model import MAX_DURATION_MS, State, Task
from tq.schedule import rule_of
from tq.store import SCAN_MOST, Schedule
from tq.waiting import Request

HOUR_MS = 3_600_000
PAUSED_TOLD = 100
PROBLEM_MOST = 300
"""Characters of why a schedule's task cannot be sent."""
DUE_EACH = 50
"""Timers that are read at a time."""
Row = dict[str, Any]


class Plan:
    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self.reads: dict[str, Verb] = {"plan": self._plan}

    def _plan(self, request: Request, turn: Turn) -> None:
        args = arguments(request.verb, request.args, for_ms=int, limit=int)
        span = between(args.get("for_ms", HOUR_MS), 1, MAX_DURATION_MS, "for_ms")
        limit = between(args.get("limit", 100), 1, SCAN_MOST, "limit")
        desk = self._desk
        desk.lists.check()
        one = _Reading(desk, desk.now, desk.now + span, limit)
        turn.later.append(partial(self._add, request, one))

    def _add(self, request: Request, one: _Reading) -> None:
        self._desk.lists.add(request, one.read(), filter_of({}), one)


@dataclass(slots=True)
class _Reading:
    """One plan as it is read: rows so far, and what stands before the next of each schedule."""

    desk: Desk
    now: int
    until: int
    limit: int
    rows: list[Row] = field(default_factory=list)
    paused: list[str] = field(default_factory=list)
    more: bool = False

    def take(self, task: Task, cursor: bytes) -> bool:
        raise NotImplementedError  # what it reads is no list of tasks

    def body(self) -> dict[str, Any]:
        return {"rows": self.rows, "from": self.now, "until": self.until, "more": self.more, "paused": self.paused}

    def read(self) -> Iterator[None]:
        """Rows in the order of their instants; each None is a place where it may be left for another turn."""
        slots, due = self._slots(), self._due()
        slot, task = (yield from _next(slots)), (yield from _next(due))
        while slot is not None or task is not None:
            if len(self.rows) == self.limit:
                self.more = True
                return
            if slot is None or (task is not None and task["at"] <= slot["at"]):
                self.rows.append(task or {})
                task = yield from _next(due)
            else:
                self.rows.append(slot)
                slot = yield from _next(slots)

    def _slots(self) -> Iterator[Row | None]:
        """A row for each slot that becomes a task."""
        ahead: list[tuple[int, int, int, Schedule, Iterator[int]]] = []
        for number, one in enumerate(self.desk.store.schedules().values()):
            rule = rule_of(one.rule)
            if one.paused:
                if 0 < one.slot_at <= self.until and len(self.paused) < PAUSED_TOLD:
                    again = next(rule.slots(max(one.slot_at - 1, self.now), one.made_at), 0)
                    self.paused += [one.name] if 0 < again <= self.until else []
                    yield None
                continue
            for slot in (*([one.held] if one.held else []), *one.slots):  # these have come, and wait
                heappush(ahead, (self.now, number, slot, one, iter(())))
            if 0 < one.slot_at <= self.until:
                at = max(one.slot_at + rule.delay(one.name, one.slot_at), self.now)
                heappush(ahead, (at, number, one.slot_at, one, rule.slots(one.slot_at, one.made_at)))
            if number % DUE_EACH == 0:
                yield None
        about: dict[int, Row] = {}
        while ahead and ahead[0][0] <= self.until:
            at, number, first, one, following = heappop(ahead)
            slots, delay = [first], partial(rule_of(one.rule).delay, one.name)
            for slot in following:
                begins = slot + delay(slot)
                if begins > at:
                    heappush(ahead, (begins, number, slot, one, following))
                    break
                slots.append(slot)  # a slot does not begin before the one that comes before it: those that meet are a backlog
                del slots[: -one.catch_up]
                yield None
            if number not in about:
                about[number] = self._about(one)
            for slot in slots:
                waits = {"waits": list(one.live)[:10]} if slot == one.held else {}
                yield {"at": at, "schedule": one.name, "slot_at": slot, **about[number], **waits}

    def _about(self, one: Schedule) -> Row:
        """What all rows of a schedule have."""
        kind = one.task[0]
        found: Row = {"type": kind, "queue": None, "overlap": one.overlap}
        try:
            drafts, _ = self.desk.intake.drafts([as_sent(one, one.slot_at, 0)], self.now)
        except TqError as error:
            return {**found, "problem": error.message[:PROBLEM_MOST]}
        return {**found, **self._line(drafts[0].header.queue)}

    def _line(self, queue: str) -> Row:
        info = self.desk.store.queues().get(queue)
        return {"queue": queue, **({"queue_paused": True} if info is not None and info.paused else {})}

    def _due(self) -> Iterator[Row | None]:
        """A row for each task that waits for an instant."""
        after: tuple[int, int] | None = (0, 0)
        while after is not None:
            found, after = self.desk.store.coming(after, self.until, DUE_EACH)
            yield None
            for at, task_id in found:
                try:
                    task = self.desk.one(task_id)
                except StoreDamaged:
                    continue
                if task is None or task.state not in (State.SCHEDULED, State.RETRYING):
                    continue
                head, status = task.spec.header, task.status
                more = {"state": task.state.word, "attempt": status.attempt + 1, "label": head.label}
                yield {"at": at, "id": task_id, "type": head.type, **more, **self._line(head.queue)}


def _next(rows: Iterator[Row | None]) -> Generator[None, None, Row | None]:
    """Its value is the next row, None at the end; it pauses where that does, and before each row."""
    for row in rows:
        yield None
        if row is not None:
            return row
    return None

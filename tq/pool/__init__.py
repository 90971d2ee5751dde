"""The pool: the parent of the workers.

For: who is fed, how far ahead, and what is taken back from those that do not come to it.
Not for: deciding what becomes of a task (broker, lifecycle), reading the store, running user code.
Runs in: the daemon, on the thread of its loop; workers are spawned (never forked) from it.
Times here are milliseconds of a clock that never steps (time.monotonic), so no change of the wall clock ends a task.
Promises: a task that a worker does not come to is taken back, so a long task never hoards those behind it: they wait in the
store, in their order and with their times, for whoever is free first; nothing polls. Those of its parts: ``jobs`` (what workers
have in hand, and how it ends), ``crew`` (which workers there are), ``scaling`` (how many), ``costs``, ``suspects`` (what kills
workers is tried rarely).

How far ahead a worker is fed: about ``LOOKAHEAD_MS`` of work by the mean run time of each type, at most
``LOOKAHEAD`` tasks; one task of a type that is not measured or runs over ``SLOW_MS``. Commands are one type.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from tq.answers import environment_for
from tq.board import Board
from tq.child import Child, Job, Together
from tq.loop import Loop
from tq.model import HEAD, SHELL, Header
from tq.pool.costs import SLOW_MS, Means
from tq.pool.crew import HELLO_MS, Crew
from tq.pool.jobs import DEAF_MS, row_of
from tq.store import Claimed, Want

__all__ = ["DEAF_MS", "LOOKAHEAD", "LOOKAHEAD_MS", "SLOW_MS", "STALL_MS", "Means", "Pool"]

LOOKAHEAD_MS = 20.0
LOOKAHEAD = 512
QUICK_MS = 0.25
"""Tasks under this share records: a system call a task would cost more than the task."""
STALL_MS = 30
"""A worker that has answered nothing for so long is asked to send what it has, and loses what it has not begun."""


class Pool(Crew):
    """All workers of one daemon. ``options`` is what each is told (see tq.worker); ``sizes`` the fewest and the most there
    may be; a worker is replaced after ``recycle`` tasks, when it takes more than ``max_rss`` bytes of memory, or when ``failing``
    tasks in a row have failed on it (0: never);
    ``environment`` gives that of a command, as the store keeps it."""

    def __init__(
        self,
        loop: Loop,
        options: Mapping[str, Any],
        sizes: tuple[int, int],
        log: Callable[..., None],
        *,
        cooldown_ms: int = 10_000,
        recycle: int = 0,
        max_rss: int = 0,
        failing: int = 0,
        environment: Callable[[bytes], bytes | None] = lambda _: None,
    ) -> None:
        super().__init__(loop, options, sizes, cooldown_ms, (recycle, max_rss, failing), log)
        self._environment = environment
        self._free = (0, 0)  # slots that run nothing, slots in all, as claims are told

    # -- wants and grants ------------------------------------------------------------------------------------------

    def wants(self, now: int) -> list[Want]:
        """A claim for every worker that could do with more work."""
        self._now = now
        self._rebalance(now)
        ready = [child for child in self._children.values() if child.state == "ready"]
        slots = self._slots
        self._free = free, total = sum([max(slots - child.load, 0) for child in ready]), len(ready) * slots
        wants = []
        costs = self._costs.known
        for child in ready:
            if child.stuffed or (child.lonely and slots > 1):
                continue
            has = child.load
            if not has:
                wants.append(self._whole_want(child))
            elif slots > 1:
                if has < slots:
                    most = min(slots - has, LOOKAHEAD)
                    wants.append(Want(child.name, most, math.inf, types=child.known, at_once=most, free=free, slots=total))
            elif now - child.active_at >= STALL_MS:
                continue  # what was taken back from it would go to it again
            elif has < LOOKAHEAD and (busy := child.work_ms) < LOOKAHEAD_MS / 2:
                wants.append(
                    Want(child.name, LOOKAHEAD - has, LOOKAHEAD_MS - busy, costs, types=child.known, at_once=0, free=free, slots=total)
                )
        if self._gathering:
            wants = self._with_calls(wants)
        return wants if not self._suspects.types else self._wary(wants)

    def _with_calls(self, wants: Sequence[Want]) -> list[Want]:
        """The same wants, for types of which a call takes many only where there are enough: then all of a call, if one of these is next.
        Of a type that is suspected one task is tried, which waits for no others."""
        gathering, now = self._gathering, self._now
        left = {kind: gathering.batches(kind, now) for kind in gathering.kinds - self._suspects.types}
        gathering.offered()
        found = []
        for want in wants:
            child = self._children[want.worker]
            here = child.batched & left.keys()
            fill = {kind: gathering.size(kind) for kind in here if left[kind] > 0}
            for kind in fill:
                left[kind] -= 1
            types = child.known - (here - fill.keys())
            if self._slots == 1 or not fill:
                found.append(replace(want, types=types, fill=fill))
            else:  # one of such a type, or any number of others
                found.append(replace(want, types=types, fill=fill, budget_ms=1.0, costs=dict.fromkeys(types - fill.keys(), 0.0)))
        return found

    def gather(self, waiting: Mapping[str, int], now: int, *, granted: bool) -> None:
        """So many tasks of ``gathers`` wait at the end of a turn; ``granted``: something was handed out in it."""
        self._now = now
        self._gathering.look(waiting, now, granted=granted)

    @property
    def gathers(self) -> frozenset[str]:
        """The types of which a call takes many."""
        return self._gathering.kinds

    def gathered(self, kind: str) -> tuple[int, int, int] | None:
        """Of a type whose next call waits for more tasks: how many there are, how many it takes, and how many ms it waits for them."""
        return self._gathering.missing(kind, self._now)

    @property
    def _hungry(self) -> bool:
        """Whether some worker would take more if there were anything for it."""
        for child in self._children.values():
            if child.state != "ready" or child.stuffed or (child.lonely and self._slots > 1):
                continue
            if child.load < self._slots or (self._slots == 1 and child.load < LOOKAHEAD and child.work_ms < LOOKAHEAD_MS / 2):
                return True
        return False

    def _wary(self, wants: Sequence[Want]) -> list[Want]:
        """The same wants but for types whose runs kill their workers; of these one task, when it is time for one."""
        suspected, now = self._suspects.types, self._now
        found = []
        for want in wants:
            known = want.types or self._children[want.worker].known
            if known - suspected:
                found.append(replace(want, types=known - suspected))
            if want is wants[-1] and known & suspected and now >= self._suspects.try_at:
                found.append(replace(want, limit=1, budget_ms=math.inf, types=known & suspected, fill={}))
        return found

    def _whole_want(self, child: Child) -> Want:
        """The want of a worker that has nothing: kept, since an idle pool shows it at every turn."""
        want = child.want
        free, total = self._free
        if want is None or want.free != free or want.slots != total:
            limit, budget = (LOOKAHEAD, LOOKAHEAD_MS) if self._slots == 1 else (min(self._slots, LOOKAHEAD), math.inf)
            want = Want(
                child.name, limit, budget, self._costs.known, types=child.known, at_once=min(self._slots, limit), free=free, slots=total
            )
            child.want = want
        return want

    def hand_out(self, want: Want, tasks: Sequence[Claimed], now: int, wall: int) -> None:
        """Send granted tasks to the worker that wanted them. ``wall``: the same moment by the wall clock, for deadlines."""
        child = self._children.get(want.worker)
        if child is None or child.state != "ready":
            self._rows += [row_of(task.id, task.claim, "released") for task in tasks]
            return
        if not child.jobs:
            child.active_at, child.judged = now, False
        entries: list[tuple[list[Any], float | None]] = []
        gathered: list[tuple[Claimed, float]] = []
        for task_id, claim, attempt, crashes, header, record, failures in tasks:
            ends_at = math.inf
            if header.type in self._suspects.types:
                self._suspects.tried(now)
            if header.deadline_ms:
                ends_at = now + _left(header, record, wall)
                if ends_at <= now:  # nobody wants it any more, which the broker sees for itself
                    self._rows.append(row_of(task_id, claim, "released"))
                    continue
            if header.type in child.batched:
                gathered.append((Claimed(task_id, claim, attempt, crashes, header, record, failures), ends_at))
                continue
            # A task that crashed before runs alone: nothing is sent behind it, and what is before it is over by then.
            cost = self._costs.known.get(header.type, math.inf) if not crashes else math.inf
            quick = cost < QUICK_MS and self._slots == 1
            entry = [task_id, claim, attempt, record, failures]
            if not quick and header.type == SHELL and not self._equip(entry, header):
                continue
            child.take(Job(task_id, claim, header.type, header.timeout_ms, now, cost, ends_at, crashes > 0, quick))
            if crashes and self._slots > 1:
                child.alone.append(entry)
            else:
                entries.append((entry, cost if quick else None))
        self._send(child, entries)
        if gathered:
            self._hand_over(child, [one for one in gathered if not one[0].crashes], now)
            for one in gathered:
                if one[0].crashes:
                    self._hand_over(child, [one], now)
        self._send_alone(child)

    def _hand_over(self, child: Child, tasks: Sequence[tuple[Claimed, float]], now: int) -> None:
        """Send tasks that one call takes, under the longest timeout of theirs; one that crashed before is alone in its call."""
        if not tasks:
            return
        times = [task.header.timeout_ms for task, _ in tasks]
        timeout_ms = max(times) if all(times) else 0
        ids, tokens = tuple(task.id for task, _ in tasks), frozenset(Board.token(task.id, task.claim) for task, _ in tasks)
        call = Together(ids, tokens, timeout_ms, now, min(ends_at for _, ends_at in tasks))
        mean = self._costs.mean(tasks[0][0].header.type)
        alone = tasks[0][0].crashes > 0
        cost = mean if mean is not None and mean * len(tasks) <= SLOW_MS and not alone else math.inf
        entries: list[list[Any]] = []
        for (task_id, claim, attempt, _, header, record, failures), ends_at in tasks:
            child.take(Job(task_id, claim, header.type, timeout_ms, now, cost, ends_at, alone, call=call))
            entries.append([task_id, claim, attempt, record, failures])
        if alone and self._slots > 1:
            child.alone += entries
        else:
            self._send_call(child, entries)

    def _equip(self, entry: list[Any], header: Header) -> bool:
        """Put a command's environment behind its entry; False: it cannot be read, and the task is answered for."""
        found, failed = environment_for(header, self._environment)
        if failed:
            self._rows.append(row_of(entry[0], entry[1], "failed", failed))
        elif found is not None:
            entry.append(found)
        return not failed

    # -- taking back -----------------------------------------------------------------------------------------------

    def _rebalance(self, now: int) -> None:
        """A worker that makes no progress gives back what it has not begun, and is asked last; one that has begun nothing does so only
        where another is idle, or it would be given the same again."""
        for child in list(self._children.values()):
            if not child.jobs or now - child.active_at < STALL_MS:
                continue
            if child.board.count != child.seen:  # it has begun others since: it works, its answers are on their way
                child.seen, child.active_at, child.flushed, child.judged = child.board.count, now, False, False
                continue
            if not child.flushed:
                child.flushed = True
                child.tell("flush")
            if child.offered and (self._idle or (self._slots == 1 and child.works)):
                self._take_back(child)
                self._children[child.name] = self._children.pop(child.name)

    @property
    def _idle(self) -> bool:
        return any(child.state == "ready" and not child.jobs for child in self._children.values())

    # -- time ------------------------------------------------------------------------------------------------------

    def wake(self, now: int) -> None:
        """The time at which what comes next has arrived."""
        self._now = now

    def tick(self, now: int) -> None:
        """Timeouts, kills that are due, and new workers for those that could not start."""
        self._now = now
        self._end_late(now)
        self._look_after(now)

    @property
    def next_due(self) -> float | None:
        """The instant (ms) at which ``tick``, ``wants`` or ``scale`` has something to do if nothing arrives."""
        times: list[float] = [self._respawn_at] if self._respawn_at and not self._stopping else []
        if self._suspects.types and self._suspects.try_at > self._now:
            times.append(self._suspects.try_at)
        if self._gathering:
            if self._gathering.stirred and self._hungry:
                times.append(self._now)
            if (due := self._gathering.next_due(self._now)) is not None:
                times.append(due)
        for child in self._children.values():
            if not child.jobs and child.state == "ready":
                continue
            times.append(child.started_at + HELLO_MS if child.state == "starting" else child.kill_at)
            for job in child.jobs.values():
                times.append(min(job.kill_at, self._deadline(child, job)))
                if self._slots == 1:
                    break
            if child.state != "ready":
                continue
            if child.jobs and (not child.flushed or (child.offered and self._now - child.active_at < STALL_MS)):
                times.append(child.active_at + STALL_MS)
            if child.jobs and not child.judged:
                times.append(child.active_at + DEAF_MS)
        if not (self._scaling.fixed or self._stopping) and (due := self._scaling.next_due(self._now, self._size)) is not None:
            times.append(due)
        return min(times, default=None)

    # -- looking ---------------------------------------------------------------------------------------------------

    @property
    def workers(self) -> list[Child]:
        return list(self._children.values())

    @property
    def slots(self) -> tuple[int, int]:
        """Slots that run a task, or that a heavy one takes beside its own; slots in all."""
        ready = [child for child in self._children.values() if child.state in {"ready", "draining"}]
        total = len(ready) * self._slots
        return min(sum(min(child.load, self._slots) for child in ready) + self.beside(), total), total

    @property
    def files(self) -> set[str]:
        """The application's files, as far as workers named them."""
        return {file for child in self._children.values() for file in child.files}

    def crew_for(self, kind: str) -> tuple[int, int, int]:
        """Workers that are ready, those that are starting, and those of the ready ones that have this type."""
        staying = [child for child in self._children.values() if not child.only_checks]
        ready = [child for child in staying if child.state == "ready"]
        return len(ready), sum(child.state == "starting" for child in staying), sum(kind in child.known for child in ready)

    def held_back(self, kind: str) -> tuple[int, int]:
        """Crashes in a row of a type that is held back for them, and in how many ms one of it may be tried; (0, 0): it is not."""
        if kind not in self._suspects.types:
            return 0, 0
        return self._suspects.crashes.get(kind, 0), max(self._suspects.try_at - self._now, 0)

    def suspected(self) -> dict[str, int]:
        """The types that are held back, and the crashes in a row of each."""
        return {kind: self._suspects.crashes.get(kind, 0) for kind in self._suspects.types}

    def mean(self, kind: str) -> float | None:
        """How long a task of a type ran lately, in ms; None if none was seen."""
        return self._costs.mean(kind)

    def begun(self, task_id: int) -> bool:
        """Whether a task has been begun; of one that no worker has here, nothing else is known."""
        for child in self._children.values():
            job = child.jobs.get(task_id)
            if job is not None:
                return child.has_begun(job, child.board.begun())
        return True

    def ask(self) -> None:
        """Ask each worker for a sign of life, for those who look."""
        for child in self._children.values():
            if child.state in {"ready", "draining"}:
                child.tell("ping")

    def silent(self, since: int) -> bool:
        """Whether some worker that was asked has given no sign of life since then."""
        return any(child.heard_at < since for child in self._children.values() if child.state in {"ready", "draining"})


def _left(header: Header, record: bytes, wall: int) -> int:
    """How much time, in ms, a task has until its deadline; a ms more, so that it has surely passed when it is told to end."""
    created_at: int = HEAD.unpack_from(record)[1]
    left = created_at + header.deadline_ms - wall
    return left + 1 if left > 0 else 0

"""Limits that count each worker by itself: at most so many of a type, or of a queue, on each.

For: what a claim of one worker may take, beside what limits of the store allow; how far each worker has used its share.
Not for: limits that count workers together (store), setting limits (limits).
Runs in: the daemon, inside the broker's turn.
Promises: what is next stays next: a claim takes in the order that it would have without, less what its worker may not have; one that
has come to its limit is looked at again when that opens. A worker is a process of the pool or a connection of a consumer, and ends
with that: nothing of it is stored. Without such limits nothing is looked at.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

from tq.broker.desk import Desk, Turn
from tq.model import Header, State
from tq.store import Claimed, Limit, Used, Want
from tq.store.limits import FULL, Bucket

KEPT_MOST = 1000
"""Tokens of so many are kept before those of workers that rest are forgotten."""
Share = tuple[str, str]
"""A limit, and the worker that it counts."""


class Given(NamedTuple):
    """A task that a worker has: since when (ms), and the limits that count it."""

    worker: str
    at: int
    limits: tuple[str, ...]


class EachWorker:
    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self._limits: dict[str, Limit] = {}
        self._given: dict[int, Given] = {}
        self._running: Counter[Share] = Counter()
        self._buckets: dict[Share, Bucket] = {}
        self._staged: dict[Share, Bucket] = {}
        self._waking: dict[Share, int] = {}
        self._turn: Turn | None = None  # that has changed something and is not committed
        self.learn()

    def learn(self) -> None:
        """Limits have changed, or what a turn did is lost: begin with what runs."""
        desk = self._desk
        self._limits = {name: limit for name, limit in desk.store.limits().items() if limit.each == "worker"}
        self._given.clear()
        self._running.clear()
        self._waking.clear()
        self._buckets = {share: bucket for share, bucket in self._buckets.items() if share[0] in self._limits}
        self._turn, self._staged = None, {}
        desk.each_worker = self._claim if self._limits else None
        if not self._limits:
            desk.ends_seen.pop("each worker", None)
            desk.left_seen = None
            return
        desk.ends_seen["each worker"], desk.left_seen = self._ends, self._left
        held = desk.store.held()
        for one, run in zip(held, desk.store.running([one.id for one in held]), strict=True):
            if run is not None:
                self._add(one.id, run.header, one.worker, one.claimed_at)

    def _of(self, header: Header) -> tuple[str, ...]:
        """The limits that count a task."""
        return tuple([limit.name for limit in self._limits.values() if limit.of == getattr(header, limit.scope)])

    def _add(self, task_id: int, header: Header, worker: str, at: int) -> None:
        if names := self._of(header):
            self._given[task_id] = Given(worker, at, names)
            for name in names:
                self._running[name, worker] += 1

    # -- what happens ------------------------------------------------------------------------------------------------

    def _begin(self, turn: Turn) -> None:
        """Something changes in this turn; what one did that was lost is forgotten."""
        if self._turn is turn:
            return
        if self._turn is not None:
            self.learn()
        self._turn = turn
        turn.later.append(self._keep)

    def _keep(self) -> None:
        self._buckets |= self._staged
        self._turn, self._staged = None, {}
        if len(self._buckets) > KEPT_MOST:
            now = self._desk.now
            self._buckets = {one: bucket for one, bucket in self._buckets.items() if self._limits[one[0]].is_missed(bucket, now)}

    def _bucket(self, share: Share) -> Bucket:
        return self._staged[share] if share in self._staged else self._buckets.get(share, FULL)

    def _ends(self, rows: Sequence[Sequence[Any]], turn: Turn) -> None:
        """Before these rows are settled."""
        running = self._desk.store.running([row[0] for row in rows])
        for row, run in zip(rows, running, strict=True):
            if run is not None and run.claim == row[1]:
                self._left(row[0], turn, unused=row[2] == "released")

    def _left(self, task_id: int, turn: Turn, *, unused: bool = False) -> None:
        """A task runs no longer, if it did; ``unused``: it has not begun."""
        if task_id not in self._given:
            return
        self._begin(turn)
        given = self._given.pop(task_id, Given("", 0, ()))
        for name in given.limits:
            share = (name, given.worker)
            self._running[share] -= 1
            if not self._running[share]:
                del self._running[share]
            if unused and self._limits[name].rate:
                self._staged[share] = self._limits[name].given_back(self._bucket(share), given.at)

    # -- claims ------------------------------------------------------------------------------------------------------

    def _room(self, limit: Limit, worker: str) -> float:
        """How many more a worker may begin."""
        share, now = (limit.name, worker), self._desk.now
        bucket = limit.sound(self._bucket(share), now)
        free = limit.running - self._running[share] if limit.running else math.inf
        return min(free, limit.tokens(bucket, now))

    def _claim(self, want: Want, claim: Callable[[Want], list[Claimed]], turn: Turn) -> list[Claimed]:
        """What a claim gives, in steps in which no limit can be passed."""
        self._begin(turn)
        for limit in self._limits.values():  # no tokens are missing for longer than they can be, when the clock was put back
            bucket = self._bucket((limit.name, want.worker))
            if (sound := limit.sound(bucket, self._desk.now)) != bucket:
                self._staged[limit.name, want.worker] = sound
        got: list[Claimed] = []
        spent = 0.0
        while len(got) < want.limit:
            rooms = {limit: self._room(limit, want.worker) for limit in self._limits.values()}
            shut = [limit for limit, room in rooms.items() if room < 1]
            most = int(min([want.limit - len(got), *(room for room in rooms.values() if room >= 1)]))
            begins = None if want.at_once is None else max(want.at_once - len(got), 0)
            part = self._without(shut, replace(want, limit=most, budget_ms=want.budget_ms - spent, at_once=begins))
            found = claim(part) if part is not None else []
            for task in found:
                self._take(task, want.worker)
                spent += want.costs.get(task.header.type, math.inf) if want.budget_ms != math.inf else 0.0
            got += found
            if len(found) < most or spent >= want.budget_ms:
                break
        self._note_waiting(want.worker)
        return got

    def _take(self, task: Claimed, worker: str) -> None:
        now = self._desk.now
        self._add(task.id, task.header, worker, now)
        for name in self._of(task.header):
            limit, share = self._limits[name], (name, worker)
            if limit.rate:
                self._staged[share] = limit.taken(limit.sound(self._bucket(share), now), 1, now)

    def _without(self, shut: Sequence[Limit], want: Want) -> Want | None:
        """The claim, less what these limits keep from its worker; None: all of it."""
        store, types, queues = self._desk.store, want.types, want.queues
        kinds = {limit.of for limit in shut if limit.scope == "type"}
        names = {limit.of for limit in shut if limit.scope == "queue"}
        if kinds:
            types = (frozenset(tally.type for tally in store.tallies()) if types is None else types) - kinds
        if names:
            infos = store.queues()
            if queues is None:
                queues = frozenset(one.queue for one in store.tallies() if one.queue not in infos or not infos[one.queue].external)
            queues -= names
        return (
            None if (types is not None and not types) or (queues is not None and not queues) else replace(want, types=types, queues=queues)
        )

    # -- when to look again ------------------------------------------------------------------------------------------

    def _note_waiting(self, worker: str) -> None:
        """When time opens what a worker may not have now, and something waits for it."""
        for limit in self._limits.values():
            share = (limit.name, worker)
            bucket = limit.sound(self._bucket(share), self._desk.now)
            if limit.rate and limit.tokens(bucket, self._desk.now) < 1 and self._waits(limit):
                self._waking[share] = limit.wakes_at(bucket)
            else:
                self._waking.pop(share, None)

    def _waits(self, limit: Limit) -> bool:
        return any(tally.states[State.PENDING] and limit.of == getattr(tally, limit.scope) for tally in self._desk.store.tallies())

    @property
    def next_due(self) -> int | None:
        """When a worker may have more (ms); None: nobody waits for that."""
        return min(self._waking.values(), default=None)

    def look(self) -> bool:
        """Whether that has come; each is told once, since it is asked for again."""
        due = [share for share, at in self._waking.items() if at <= self._desk.now]
        for share in due:
            del self._waking[share]
        return bool(due)

    def reached(self, header: Header, workers: int) -> list[tuple[Limit, Used]]:
        """The limits that each of the pool's ``workers`` has come to, which keep a task waiting; and the worker that may go on first."""
        found = []
        for name in self._of(header):
            shut = [one for one in self.used(self._limits[name]) if one.reached and not one.of.startswith("consumer-")]
            if 0 < workers <= len(shut):
                found.append((self._limits[name], min(shut, key=lambda one: (one.opens_at or math.inf, one.of))))
        return found

    def stepped(self, ms: int) -> None:
        """The clock was put forward or back: who waits is looked at with the next turn."""
        self._waking = dict.fromkeys(self._waking, self._desk.now + min(ms, 0))

    # -- what is told ------------------------------------------------------------------------------------------------

    def used(self, limit: Limit) -> Iterator[Used]:
        """How far each worker has used its share, if it has."""
        now = self._desk.now
        there = {share for share in (*self._running, *self._buckets, *self._staged) if share[0] == limit.name}
        for share in sorted(there):
            bucket = limit.sound(self._bucket(share), now)
            running, room = self._running[share], self._room(limit, share[1])
            if running or limit.is_missed(bucket, now):
                by_time = room < 1 and not 0 < limit.running <= running
                yield Used(share[1], running, limit.tokens(bucket, now), room < 1, limit.opens_at(bucket) if by_time else 0)

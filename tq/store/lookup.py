"""Reading the LMDB store.

For: tasks by id, lists, the order of what is next, counts; everything that changes nothing.
Not for: writes (lmdb.py, hot.py).
Runs in: the daemon, on the thread of its loop.
Promises: inside a turn a read sees what the turn wrote; no read transaction outlives a call, nor a slice of ``find``.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from heapq import nsmallest
from itertools import islice
from pathlib import Path
from struct import unpack
from typing import Any

import lmdb

from tq.errors import StoreDamaged
from tq.model import HEAD, Header, Spec, State, Status, Task, header_of, slots_in, spec_of, status_from, status_of
from tq.store import (
    SCAN_MOST,
    Account,
    Chore,
    Held,
    Holder,
    InUse,
    KeyRef,
    Limits,
    Peeked,
    Query,
    QueueInfo,
    RequestId,
    Schedule,
    Tally,
    Tenant,
    TypeInfo,
    Want,
)
from tq.store.accounts import Accounts, untouched
from tq.store.environments import environment, inputs_of
from tq.store.files import Dbs, unreadable
from tq.store.keys import DUE, MALFORMED, PAIR, PAST, READY, TIMER, U64, Run
from tq.store.lanes import Lanes
from tq.store.leases import Leases
from tq.store.limits import Allowance, Limit, Used
from tq.store.lines import joined
from tq.store.names import Names
from tq.store.needs import WORKERS, Supply
from tq.store.order import Order, claimable, listed
from tq.store.retention import sent_before

WALK = 500
"""Ids that ``walk`` gives at once: a fraction of a millisecond, or a millisecond if it looks where each of them stands."""
SLICE = 100
"""Records that ``find`` reads before it offers to pause: well under a millisecond."""
FEW = 5000
"""Up to so many matching tasks are gathered from the index of their states instead of by walking all tasks."""


_log = logging.getLogger("tq.store")
_PENDING = frozenset({State.PENDING})
_RUNNING = frozenset({State.RUNNING})
_TIMED = frozenset({State.SCHEDULED, State.RETRYING})


class Lookup:
    """The reading half of ``LmdbStore``, which owns all of these."""

    _path: Path
    _env: lmdb.Environment
    _db: Dbs
    _txn: Any
    _now: int
    _limits: Limits
    _names: Names
    _lanes: Lanes
    _running: dict[int, Run]
    _leases: Leases
    _tally: dict[tuple[str, str], tuple[int, Tally]]
    _types: dict[str, TypeInfo]
    _standings: dict[tuple[str, str], Sequence[Any]]
    _accounts: Accounts
    _chores: dict[int, Chore]
    _schedules: dict[int, Schedule]
    _id: int
    _next_timer: int | None
    _freed: list[str]

    def _flush(self) -> None:
        raise NotImplementedError

    def states(self, ids: Sequence[int]) -> list[State | None]:
        raise NotImplementedError

    def _view(self) -> AbstractContextManager[Any]:
        """The turn's transaction, or a read transaction of its own."""
        if self._txn is None:
            return self._env.begin()
        self._flush()
        return nullcontext(self._txn)

    def _read(self, txn: Any, task_id: int) -> Task | None:
        """The task as it stands in ``txn``."""
        if not 0 < task_id <= self._id:
            return None
        key = U64.pack(task_id)
        record = txn.get(key, db=self._db["tasks"])
        if record is None:
            return None
        spec = spec_of(task_id, record)
        run = self._running.get(task_id)
        if run is not None:
            claim, batch, seq, _, past, _, _ = run
            before = Status(State.RUNNING) if past is None else status_from(past)
            status = replace(
                before, state=State.RUNNING, claim=claim, seq=seq, worker=batch.worker, started_at=batch.claimed_at, finished_at=0
            )
            return Task(spec, status)
        state = txn.get(key, db=self._db["states"])
        return Task(spec, status_of(task_id, state) if state is not None else self._untouched(txn, spec))

    def _untouched(self, txn: Any, spec: Spec) -> Status:
        """The status of a task that has none: nothing has happened to it, so its place must be where it was put."""
        status = untouched(spec)
        if status.state is State.PENDING:
            lane = self._lanes.by_key.get(spec.header.lane)
            place = lane and txn.get(READY.pack(lane.number, 9 - spec.header.priority, spec.seq), db=self._db["ready"])
            there = place and not place.endswith(PAST, PAIR.size)  # a place that tells of a status was not put there by its enqueue
        else:
            there = txn.get(TIMER.pack(spec.due_at, DUE, spec.id), db=self._db["timers"]) is not None
        if not there:
            raise StoreDamaged(
                f"task {spec.id}: expected its place among those that are {status.state.word}, or a status that says more, found neither. "
                "Run `tq verify`, then restore a backup."
            )
        return status

    def _read_sound(self, txn: Any, task_id: int) -> Task | None:
        """The same for those who walk: a task that cannot be read is passed over, and said so in the log."""
        try:
            return self._read(txn, task_id)
        except StoreDamaged as error:
            _log.error("task %d is passed over: %s", task_id, error)
            return None

    def get(self, ids: Sequence[int]) -> list[Task | None]:
        with self._view() as txn:
            try:
                return [self._read(txn, task_id) for task_id in ids]
            except lmdb.Error as error:
                raise unreadable(self._path, error) from error

    # -- lists -----------------------------------------------------------------------------------------------------

    def find(self, query: Query) -> Iterator[tuple[Task, bytes] | None]:
        if query.states == _PENDING and not query.oldest:
            yield from self._find_pending(query)
            return
        first, last = (1, self._id) if query.ids is None else (max(query.ids[0], 1), min(query.ids[1], self._id))
        if query.oldest:
            first = max(first, U64.unpack(query.before)[0] + 1) if query.before else first
            some = range(first, last + 1)
            ids = iter(some) if query.states != _RUNNING else iter(sorted(one for one in self._running if one in some))
        else:
            last = min(last, U64.unpack(query.before)[0] - 1) if query.before else last
            ids = iter(range(last, first - 1, -1)) if query.states is None else self._ids(query.states, first, last)
        left = query.limit
        while left > 0:
            seen = self._read_all(islice(ids, SLICE))
            if not seen:
                return
            for task in seen:
                if task is not None and left > 0 and _matches(task, query):
                    left -= 1
                    yield task, U64.pack(task.id)
            yield None

    def _find_pending(self, query: Query) -> Iterator[tuple[Task, bytes] | None]:
        """Pending tasks in the order of their lanes' queue; the cursor counts them."""
        skip = U64.unpack(query.before)[0] if query.before else 0
        order = self._listed(query.queue)
        at, left = 0, query.limit
        while at < skip:
            passed = len(self._next_of(order, min(SLICE, skip - at)))
            if not passed:
                return
            at += passed
            yield None
        while left > 0:
            seen = self._read_all(self._next_of(order, SLICE))
            if not seen:
                return
            for task in seen:
                at += 1
                if task is not None and left > 0 and _matches(task, query):
                    left -= 1
                    yield task, U64.pack(at)
            yield None

    def walk(self, states: frozenset[State] | None, first: int, last: int, *, oldest: bool = False) -> Iterator[Sequence[int]]:
        first, last = max(first, 1), min(last, self._id)
        few = None if states is None else self._few(states, first, last)
        if few is not None:
            few.sort(reverse=not oldest)
            yield from (self._those_in(few[at : at + WALK], states) for at in range(0, len(few), WALK))
            return
        while first <= last:
            ids = self._next_ids(first, last, oldest)
            if not ids:
                return
            first, last = (ids[-1] + 1, last) if oldest else (first, ids[-1] - 1)
            yield ids if states is None else self._those_in(ids, states)

    def headers(self, ids: Sequence[int]) -> list[Header | None]:
        with self._view() as txn:
            get, tasks = txn.get, self._db["tasks"]
            return [self._header(one, get(U64.pack(one), db=tasks)) for one in ids]

    def _header(self, task_id: int, record: bytes | None) -> Header | None:
        if record is None:
            return None
        try:
            start = HEAD.size
            return header_of(record[start : start + HEAD.unpack_from(record)[5]])
        except MALFORMED as error:
            _log.error("task %d is passed over: its record cannot be read (%s)", task_id, type(error).__name__)
            return None

    def _those_in(self, ids: Sequence[int], states: frozenset[State] | None) -> list[int]:
        """Those of these tasks that are in ``states`` now; one of which that cannot be said is passed over, and the log says so."""
        try:
            return [
                one for one, state in zip(ids, self.states(ids), strict=True) if state is not None and (states is None or state in states)
            ]
        except StoreDamaged as error:
            if len(ids) > 1:
                return [one for at in ids for one in self._those_in([at], states)]
            _log.error("task %d is passed over: %s", ids[0], error)
            return []

    # A list that stands still must not keep one of LMDB's 126 places for readers, which go free with the last reference to
    # a transaction, so those of a slice end with functions of their own.

    def _read_all(self, ids: Iterable[int]) -> list[Task | None]:
        with self._view() as txn:
            return [self._read_sound(txn, task_id) for task_id in ids]

    def _next_ids(self, first: int, last: int, oldest: bool) -> Sequence[int]:
        """The first tasks of a range, or the last of them the last one first: keys alone, of which no record is looked at."""
        with self._view() as txn:
            cursor = txn.cursor(self._db["tasks"])
            if oldest:
                cursor.set_range(U64.pack(first))
                keys = list(islice(cursor.iternext(values=False), WALK))
            else:
                (cursor.prev if cursor.set_range(U64.pack(last + 1)) else cursor.last)()
                keys = list(islice(cursor.iterprev(values=False), WALK))
        ids: Sequence[int] = unpack(f">{len(keys)}Q", b"".join(keys))
        return ids if ids and first <= ids[-1] <= last else [one for one in ids if first <= one <= last]

    def _next_of(self, order: Order, count: int) -> list[int]:
        with self._view() as txn:
            return order.take(txn, count)

    def _ids(self, states: frozenset[State], first: int, last: int) -> Iterator[int]:
        """Ids of a range, newest first, among which are all that are in ``states``: few, or simply all."""
        few = self._few(states, first, last)
        return iter(range(last, first - 1, -1)) if few is None else iter(sorted(few, reverse=True))

    def _few(self, states: frozenset[State], first: int, last: int) -> list[int] | None:
        """Those of a range that are in ``states``, in no order, if they are so few that their indexes are read at once; else None."""
        count = sum(tally.states[s] for _, tally in self._tally.values() for s in states)
        if count <= min(FEW, last - first + 1) and State.BLOCKED not in states and (not states & _TIMED or self._few_timers()):
            found = [task_id for state in states for task_id in self._ids_in(state)]
            if len(found) == count:  # a timer that was taken and not acted upon is in no index
                return [one for one in found if first <= one <= last]
        return None

    def _few_timers(self) -> bool:
        """Whether all timers may be read at once; others' deadlines are among them."""
        with self._view() as txn:
            return bool(txn.stat(self._db["timers"])["entries"] <= 2 * FEW)

    def _ids_in(self, state: State) -> list[int]:
        """Every task in ``state``, from its index."""
        if state is State.RUNNING:
            return list(self._running)
        with self._view() as txn:
            if state is State.PENDING:
                return self._listed(None).take(txn, 1 << 62)
            if state.final:
                cursor, prefix = txn.cursor(self._db["history"]), bytes([state])
                found = cursor.set_range(prefix)
                ids = []
                while found and cursor.key()[:1] == prefix:
                    ids.append(U64.unpack(cursor.key()[9:])[0])
                    found = cursor.next()
                return ids
            timed = [TIMER.unpack(key) for key in txn.cursor(self._db["timers"]).iternext(values=False)]
            tasks = (self._read_sound(txn, task_id) for _, kind, task_id in timed if kind == DUE)
            return [task.id for task in tasks if task is not None and task.state is state]

    # -- what is next ----------------------------------------------------------------------------------------------

    def _listed(self, queue: str | None) -> Order:
        """Pending tasks as a list shows them: as if no queue were paused, external or full, and nothing had aged."""
        lines = [line for line in self._lanes.lines.values() if line.lanes and queue in (None, line.info.name)]
        return Order(self._db, listed(lines), self._lanes.by_key.values(), self._now)

    def peek(self, limit: int, queue: str | None = None) -> list[Peeked]:
        lanes, named = self._lanes, None if queue is None else frozenset({queue})
        lines = lanes.open_lines(named)
        turns = claimable(lines, joined(lines))
        allowance = self._allowance() if lanes.gates.limits else None
        supply = Supply(lanes.totals, dict(lanes.used), dict(lanes.over), None) if lanes.needy else None
        others = lanes.reach(named) if supply is not None else ()
        order = Order(self._db, turns, lanes.by_key.values(), self._now, supply, others, allowance)
        with self._view() as txn:
            return [Peeked(task_id, why) for task_id, why in order.explain(txn, limit)]

    def line(self, queue: str, limit: int) -> list[int]:
        known = self._lanes.lines.get(queue)
        if known is None:
            return []
        (turns,) = claimable([known], [0.0])
        with self._view() as txn:
            return Order(self._db, [replace(turns, left=limit)], self._lanes.by_key.values(), self._now).take(txn, limit)

    def standings(self, kind: str) -> dict[str, Sequence[Any]]:
        return {name: row for (of, name), row in self._standings.items() if of == kind}

    def tenants(self) -> dict[str, Tenant]:
        return dict(self._accounts.tenants)

    def account(self, name: str | None) -> Account | None:
        return self._accounts.total if name is None else self._accounts.one(name)

    def accounts(self, after: str, most: int) -> list[Account]:
        return self._accounts.some(after, most)

    def resources(self) -> dict[str, int]:
        return dict(self._lanes.totals)

    def in_use(self, workers: int = 0) -> InUse:
        lanes = self._lanes
        used, slots = dict(lanes.used), {line.info.name: line.running for line in lanes.lines.values() if line.running}
        supply = Supply(lanes.totals, used, lanes.over, Want("", 0, at_once=1, slots=workers) if workers else None)
        heads = list(lanes.heads(lanes.reach(None), None))
        supply.look(heads, self._now)
        kept = supply.kept()
        places = (
            {
                lane.heads[level][0]: READY.pack(lane.number, level, lane.heads[level][0])
                for lane in lanes.by_key.values()
                if lane.needs
                for level in lane.heads
            }
            if kept
            else {}
        )
        with self._view() as txn:
            ids = {key: PAIR.unpack(txn.get(places[seq], db=self._db["ready"])[:16])[0] for key, seq in kept.items()}
        return InUse(used, slots, used.pop(WORKERS, 0), ids)

    def heaviest(self, types: Collection[str]) -> int:
        lanes, slots = self._lanes, 0
        for line in lanes.reach(None):
            if lanes.is_shut(line):
                continue
            some = 1 if line.left >= 1 and lanes.some(line, (), frozenset(types)) else 0
            found = [slots_in(needs) for needs in line.needy if lanes.is_free(line, needs) and lanes.some(line, needs, frozenset(types))]
            slots = max(slots, some, *found)
        return slots

    def oldest(self, queue: str | None, type: str | None) -> int:  # noqa: A002
        lanes = (lane for lane in self._lanes.by_key.values() if queue in (None, lane.key[0]) and type in (None, lane.key[1]))
        return min((ready_at for lane in lanes for _, ready_at in lane.heads.values()), default=0)

    def oldest_of_each(self) -> dict[str, int]:
        found: dict[str, int] = {}
        for lane in self._lanes.by_key.values():
            for _, ready_at in lane.heads.values():
                found[lane.key[0]] = min(found.get(lane.key[0], ready_at), ready_at)
        return found

    def coming(self, after: tuple[int, int], until: int, limit: int) -> tuple[list[tuple[int, int]], tuple[int, int] | None]:
        found: list[tuple[int, int]] = []
        last, looked = after, 0
        with self._view() as txn:
            cursor = txn.cursor(self._db["timers"])
            more = cursor.set_range(TIMER.pack(after[0], DUE, after[1] + 1))
            while more and len(found) < limit and looked < SCAN_MOST:
                looked += 1
                at, kind, task_id = TIMER.unpack(cursor.key())
                if at > until:
                    return found, None
                if kind == DUE:
                    found.append((at, task_id))
                    last, more = (at, task_id), cursor.next()
                else:  # within an instant the due come first
                    last, more = (at + 1, 0), cursor.set_range(TIMER.pack(at + 1, DUE, 0))
        return found, last if more else None

    def environment(self, key: bytes) -> bytes | None:
        with self._view() as txn:
            return environment(txn, self._db, key)

    def inputs(self) -> set[str]:
        with self._view() as txn:
            return inputs_of(txn, self._db)

    def freed(self) -> list[str]:
        found, self._freed = self._freed, []
        return found

    # -- names and requests ----------------------------------------------------------------------------------------

    def holders(self, names: Sequence[KeyRef]) -> list[Holder | None]:
        with self._view() as txn:
            return self._names.holders(txn, names)

    def sent(self, request: RequestId) -> Sequence[int] | None:
        since = (self._now - self._limits.keep_requests_ms) // 60_000 - 1
        with self._view() as txn:
            return sent_before(txn, self._db["requests"], request, since)

    # -- the rest, from memory -------------------------------------------------------------------------------------

    def held(self) -> list[Held]:
        return [
            Held(task_id, claim, batch.worker, batch.claimed_at, batch.lease_ms)
            for task_id, (claim, batch, *_) in self._running.items()
        ]  # fmt: skip

    def tallies(self) -> list[Tally]:
        return [tally for _, tally in self._tally.values()]

    def queues(self) -> dict[str, QueueInfo]:
        return {name: line.info for name, line in self._lanes.lines.items()}

    def types(self) -> dict[str, TypeInfo]:
        return dict(self._types)

    def chores(self) -> list[Chore]:
        return list(self._chores.values())

    def schedules(self) -> dict[str, Schedule]:
        return {one.name: one for one in self._schedules.values()}

    def last_id(self) -> int:
        return self._id

    def shut(self, queues: Collection[str]) -> None:
        self._lanes.shut_only(frozenset(queues))

    def would_start(self, queue: str) -> bool:
        return self._lanes.would_start(queue)

    def ready(self) -> bool:
        return self._lanes.ready()

    def limits(self) -> dict[str, Limit]:
        return {name: limit for name, limit in self._lanes.gates.limits.items() if not limit.is_quota}

    def is_limited(self) -> bool:
        return bool(self._lanes.gates.limits)

    def limited(self, limit: Limit, most: int) -> list[Used]:
        found = [gate for gate in self._lanes.gates if gate.limit == limit and (gate.busy or gate.running)]
        some = nsmallest(most, found, key=lambda gate: (gate.open, gate.counted))
        allowance = self._allowance()
        return [allowance.used(gate.counted) for gate in some]

    def reached(self, header: Header) -> list[tuple[Limit, Used]]:
        return self._allowance().reached(header.lane) if self._lanes.gates.limits else []

    def _allowance(self) -> Allowance:
        gates = self._lanes.gates
        return Allowance(gates.limits, gates.running, gates.bucket, self._now)

    def next_due(self) -> int | None:
        instants = (self._leases.next, self._next_timer, self._lanes.gates.next())
        return min((at for at in instants if at is not None), default=None)


def _matches(task: Task, query: Query) -> bool:
    head = task.spec.header
    return (
        (query.states is None or task.state in query.states)
        and query.queue in (None, head.queue)
        and query.type in (None, head.type)
        and query.tenant in (None, head.tenant)
        and query.label in (None, head.label)
        and (query.ids is None or query.ids[0] <= task.id <= query.ids[1])
    )

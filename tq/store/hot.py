"""The hot path of the LMDB store: accepting tasks, handing them out, and their success at the first attempt.

For: ``enqueue``, ``claim`` and ``succeed``, through which nearly every task goes, a batch at a time.
Not for: everything else that happens to a task (lmdb.py), which rung is next (lanes.py).
Runs in: the daemon, on the thread of its loop, in the transaction of a turn.
Promises: a first-attempt success costs five small writes and one delete, gathered and put in sorted runs; nothing is
written before all of the input was checked; a task whose records cannot be read stops nobody.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from dataclasses import replace
from heapq import heapify, heappop, heapreplace
from typing import Any

from tq.environment import environment_key, input_of
from tq.errors import StoreDamaged, StoreError
from tq.model import FORMAT, HEAD, Header, State, Status, header_of, seal, status_row, unseal
from tq.store import Claimed, Draft, RequestId, SuccessRow, Tally, Want, places_filled, release
from tq.store.batches import RUNS, WAITS, join
from tq.store.environments import keep
from tq.store.keys import (
    DUE,
    ENDED,
    EXPIRE,
    FORGET,
    HISTORY,
    PAIR,
    READY,
    REQUEST,
    RUNG,
    SEALED,
    TIMER,
    U32,
    U64,
    Batch,
    lane_row,
    sealed,
)
from tq.store.lines import Head, Lane, Pick
from tq.store.names import is_named
from tq.store.ordering import Ordering
from tq.store.records import first_success, success_again
from tq.store.retention import remember
from tq.store.room import Room, Run, guarded, runs_of

_log = logging.getLogger("tq.store")
_PENDING, _RUNNING, _SUCCEEDED = State.PENDING, State.RUNNING, State.SUCCEEDED


Place = tuple[Lane, int, bytes]
"""Where a task stood that is handed out: its lane, its sequence, and the entry's value."""


class Front:
    """The first of the ready entries that are yet to be taken; ``key`` is empty where there is none. Lanes that were made one after the
    other stand so in the index, and what is next to be taken is often where the last one was."""

    __slots__ = ("_cursor", "key", "value")

    def __init__(self, cursor: Any) -> None:
        self._cursor = cursor
        self.key: bytes = b""
        self.value: bytes = b""

    def seek(self, key: bytes) -> None:
        if self.key != key:
            self._cursor.set_range(key)
            self.key, self.value = self._cursor.item()

    def drop(self) -> None:
        self._cursor.delete()
        self.key, self.value = self._cursor.item()


class HotPath(Ordering):
    """The hot half of ``LmdbStore``, which is made of it."""

    _room: Room
    _tasks: list[tuple[bytes, bytes]]
    _ended: list[bytes]
    _dirty: dict[int, Tally]
    _empty: dict[int, Lane]
    _tally_of: dict[int, Tally]
    _finals: list[int]
    _kept: list[int]
    _seq: int
    _batch: int

    # -- enqueue ---------------------------------------------------------------------------------------------------

    @guarded
    def enqueue(self, drafts: Sequence[Draft], request: RequestId | None = None, places: Sequence[int] | None = None) -> Sequence[int]:
        if request is not None and request.again:
            self._flush()
            if (known := self.sent(request)) is not None:
                return known
        runs = runs_of(drafts)
        if self._accounts.tenants:
            self._accounts.admit(runs, self._now)
        self._room.check(runs, self._lanes.lines, self._txn, self._now)
        names = self._names.check(self._txn, drafts) if any(is_named(header) for run in runs for header in run.headers) else ()
        first = self._id + 1
        for run in runs:
            header, some, alike = run
            if header.order is not None and self._line_up(header, self._id + 1, len(some)):
                self._add(Run(header, some[:1], alike))
                if len(some) > 1:
                    self._add(Run(some[1].header, some[1:], alike), behind=True)
            else:
                self._add(run, behind=header.order is not None)
        if names:
            self._names.take(self._txn, first, drafts, names)
        fresh = range(first, self._id + 1)
        ids = fresh if places is None else places_filled(fresh, places)
        if request is not None:
            key = REQUEST.pack(self._now // 60_000, request.nonce, request.number)
            self._gathered["requests"].append((key, remember(key, ids)))
        return ids

    def _add(self, run: Run, *, behind: bool = False) -> None:
        """Store a run of drafts; ``behind`` others of their ordering key."""
        header, drafts, alike = run
        now, seq, task_id = self._now, self._seq, self._id
        tasks, ready, timers = self._tasks, self._gathered["ready"], self._gathered["timers"]
        packed, level = header.packed, 9 - header.priority
        key, lane, tally, load = header.lane, self._lane(header), self._tally_for(header), self._room.load[header.queue]
        heads, number, length, size, later, blocked = lane.heads, lane.number, len(packed), 0, 0, 0
        if header.extras is not None and (environment := environment_key(header)) is not None:
            keep(self._txn, self._db, header, environment)
            self._gathered["environments"] += [
                (environment + U64.pack(one), input_of(header)) for one in range(task_id + 1, task_id + 1 + len(drafts))
            ]
        for draft in drafts:
            task_id += 1
            payload, due_at, expires_at = draft.payload, draft.due_at, draft.expires_at
            size += len(payload)
            if not alike:
                header = draft.header
                packed = header.packed
                length = len(packed)
                if header.lane is not key:
                    key, lane = header.lane, self._lane(header)
                    heads, number = lane.heads, lane.number
            if draft.waits or behind:
                blocked += 1
                head = HEAD.pack(FORMAT, now, 0, due_at, expires_at, length)
                self._block(task_id, draft, behind=behind)
            elif due_at > now:
                later += 1
                head = HEAD.pack(FORMAT, now, 0, due_at, expires_at, length)
                timers.append((TIMER.pack(due_at, DUE, task_id), b""))
            else:
                seq += 1
                head = HEAD.pack(FORMAT, now, seq, 0, expires_at, length)
                ready.append((READY.pack(number, level, seq), PAIR.pack(task_id, now)))
                if level not in heads:
                    self._lanes.set_head(lane, level, (seq, now))
                    self._empty.pop(number, None)
            if expires_at:
                timers.append((TIMER.pack(expires_at, EXPIRE, task_id), b""))
            tasks.append((U64.pack(task_id), seal(head + packed + payload, task_id)))
        if header.batch:
            join(self._moves_of(header.batch), len(drafts), self._id + 1, task_id)
        tally.states[State.BLOCKED] += blocked
        tally.states[State.SCHEDULED] += later
        tally.states[_PENDING] += len(drafts) - later - blocked
        tally.bytes += size
        tally.added += len(drafts)
        load[0] += len(drafts)
        load[1] += size
        self._id, self._seq = task_id, seq
        if header.tenant is not None:
            self._accounts.came(header.tenant, (later, blocked, len(drafts) - later - blocked), size, now)

    def _lane(self, header: Header) -> Lane:
        lane = self._lanes.by_key.get(header.lane)
        if lane is None:
            number = self._lanes.last + 1
            self._gathered["lanes"].append((U32.pack(number), sealed(lane_row(header.lane))))
            lane = self._lanes.add(number, header.lane)
            self._empty[number] = lane
        return lane

    def _tally_for(self, header: Header) -> Tally:
        """The tally of a header's queue and type, marked to be written."""
        key = (header.queue, header.type)
        found = self._tally.get(key)
        if found is None:
            found = (len(self._tally) + 1, Tally(*key))
            self._tally[key] = found
            self._tally_of[found[0]] = found[1]
            self._room.weigh(header.queue, 0, 0)
        self._dirty[found[0]] = found[1]
        return found[1]

    # -- claim -----------------------------------------------------------------------------------------------------

    @guarded
    def claim(self, want: Want) -> list[Claimed]:
        taken, missed = self._claim(want)
        while missed and len(taken) < want.limit:  # what cannot be read must not keep others waiting
            more, missed = self._claim(replace(want, limit=want.limit - len(taken)))
            taken += more
        return taken

    def _claim(self, want: Want) -> tuple[list[Claimed], bool]:
        """What is handed out, and whether some that should have been could not be read."""
        lanes = self._lanes
        supply = lanes.supply(want.queues, want)
        lines = lanes.open_lines(want.queues)
        if not lines:
            return [], False
        reach = lanes.reach(want.queues) if supply is not None else ()
        self._flush()
        lanes.join(lines)
        turns = [(line.passed, line.info.name, line) for line in lines]
        heapify(turns)
        places: list[Place] = []
        spent = 0.0
        front = Front(self._txn.cursor(self._db["ready"]))
        self._batch += 1
        batch = Batch(self._batch, want.worker, self._now, want.lease_ms)
        while turns and len(places) < want.limit:
            line = turns[0][2]
            if supply is not None:
                supply.look(lanes.heads(reach, want.types), self._now)
            pick = lanes.best(line, want.types, self._now, supply)
            if pick is None:
                heappop(turns)
                continue
            cost = want.costs.get(pick.lane.key[1], math.inf)
            most = want.limit - len(places) if len(turns) == 1 else 1
            if pick.most is not None:
                most = min(most, pick.most)
            if pick.lane.gates:
                most = int(min(most, lanes.room(pick.lane)))
            if line.info.slots:
                most = min(most, line.info.slots - line.running)
            if supply is not None:
                most = 1 if pick.lane.needs else int(min(most, supply.most(line.info.name)))
            if want.budget_ms != math.inf:
                if places and spent + cost > want.budget_ms:
                    break
                if cost > 0:
                    most = min(most, max(1, int((want.budget_ms - spent) / cost)))
            head = pick.lane.heads[pick.level]
            got = self._take(front, pick, most, places)
            spent += cost * got
            lanes.took(line, pick, got)
            if supply is not None and got:
                supply.take(line.info.name, pick.lane.needs, head[0], got)
            if line.full:
                heappop(turns)
            elif len(turns) > 1:
                heapreplace(turns, (line.passed, line.info.name, line))
        taken = self._hand_over(places, batch) if places else []
        if taken:
            lanes.given += min(len(taken), want.at_once or 0)
            claims = None if all(c.claim == 1 for c in taken) else [c.claim for c in taken]
            row = [want.worker, self._now, want.lease_ms, [c.id for c in taken], claims]
            self._txn.put(U64.pack(batch.number), sealed(row), db=self._db["running"], append=True)
        return taken, len(taken) < len(places)

    def _take(self, front: Front, pick: Pick, most: int, places: list[Place]) -> int:
        """Take up to ``most`` places from the front of the rung that was picked, as long as it comes first; how many."""
        lane, level, until = pick.lane, pick.level, pick.until
        prefix = RUNG.pack(lane.number, level)
        front.seek(READY.pack(lane.number, level, lane.heads[level][0]))
        head: Head | None = None
        before, most = len(places), len(places) + most
        while front.key[:5] == prefix:
            if len(front.key) != READY.size:
                raise StoreError(
                    f"the index of what is ready is damaged: expected keys of {READY.size} bytes, found one of {len(front.key)}. "
                    "Nothing of this turn was stored. Run `tq verify`, then restore a backup."
                )
            seq = U64.unpack_from(front.key, 5)[0]
            if len(places) >= most or (until is not None and seq >= until and len(places) > before):
                head = (seq, U64.unpack_from(front.value, 8)[0])
                break
            places.append((lane, seq, front.value))
            front.drop()
        self._lanes.set_head(lane, level, head)
        if not lane.heads:
            self._empty[lane.number] = lane
        count = len(places) - before
        lane.line.running += count * lane.slots
        return count

    def _hand_over(self, places: Sequence[Place], batch: Batch) -> list[Claimed]:
        """The tasks in these places are running from now on; a damaged one is set aside."""
        running, now, lease_ms = self._running, self._now, batch.lease_ms
        records = dict(self._txn.cursor(self._db["tasks"]).getmulti([value[:8] for _, _, value in places]))
        taken: list[Claimed] = []
        tally: Tally | None = None
        queue = kind = ""
        for lane, seq, value in places:
            key = value[:8]
            task_id = U64.unpack(key)[0]
            past, claim, attempt, crashes, failures = None, 1, 0, 0, 0
            try:
                record = records[key]
                body = unseal(record, "task", task_id)
                version, _, first_seq, _, expires_at, length = HEAD.unpack_from(body)
                if version != FORMAT:
                    raise StoreDamaged(f"task {task_id}: expected record format {FORMAT}, got {version}.")
                header = header_of(body[HEAD.size : HEAD.size + length])
                if len(value) > 16:
                    past = status_row(task_id, self._txn.get(key, db=self._db["states"]))
                    claim, attempt, failures, crashes = past[1] + 1, *past[7:10]
            except (StoreDamaged, KeyError, TypeError) as error:  # the last two: a record is gone
                self._missed(lane, batch)
                self._set_aside(task_id, lane, error)
                continue
            if seq != (past[2] if past is not None else first_seq):
                _log.error("the place %d in a lane names task %d, which is not there: it is passed over. Run `tq verify`.", seq, task_id)
                self._missed(lane, batch)
                continue
            if tally is None or header.type != kind or header.queue != queue:
                tally, kind, queue = self._tally_for(header), header.type, header.queue
            tally.states[_PENDING] -= 1
            tally.states[_RUNNING] += 1
            if header.tenant is not None:
                self._accounts.runs(header.tenant)
            running[task_id] = (claim, batch, seq, len(body) - HEAD.size - length, past, header, expires_at > 0)
            taken.append(Claimed(task_id, claim, attempt, crashes, header, record, failures))
            if header.batch:
                made = self._moves_of(header.batch)
                made[WAITS] -= 1
                made[RUNS] += 1
            if lease_ms:
                self._leases.hold(task_id, now + lease_ms)
        batch.left += len(taken)
        return taken

    def _missed(self, lane: Lane, batch: Batch) -> None:
        """What was taken from a lane for a task that cannot be read is free again."""
        queue, kind, tenant, flow, needs = lane.key
        self._lanes.ended(lane.line, 1)
        self._lanes.freed(Header(kind, queue, tenant=tenant, flow=flow, needs=needs), local=not batch.lease_ms, unused_since=self._now)

    def _set_aside(self, task_id: int, lane: Lane, error: Exception) -> None:
        """A pending task whose records cannot be read ends as failed: it must not stop those behind it, nor the daemon."""
        _log.error("task %d cannot be read and is failed: %s", task_id, error if isinstance(error, StoreDamaged) else repr(error))
        status = Status(State.FAILED, claim=1, finished_at=self._now, error={"type": "StoreDamaged", "message": str(error)})
        tally = self._tally_for(Header(lane.key[1], lane.key[0]))
        record = status.record(task_id)
        self._txn.put(U64.pack(task_id), record, db=self._db["states"])
        number = self._tally[tally.queue, tally.type][0]
        self._txn.put(HISTORY.pack(State.FAILED, self._now, task_id), ENDED.pack(number, False, len(record)), db=self._db["history"])
        self._names.forget(self._txn, task_id)
        self._lose(task_id)
        if batch := self._batch_of(task_id):
            self._member_moved(batch, _PENDING, State.FAILED)
        if self.awaited([task_id]):
            self.put_chore(release(task_id, State.FAILED, self._id + 1))
        tally.states[_PENDING] -= 1
        tally.states[State.FAILED] += 1
        tally.failed += 1
        self._keep(tally, State.FAILED, 1, len(record))
        self._room.weigh(tally.queue, -1, 0)
        if lane.key[2] is not None:
            self._accounts.moved(lane.key[2], _PENDING, State.FAILED)

    def _keep(self, tally: Tally, state: State, count: int, size: int) -> None:
        """So many tasks and bytes more (or fewer) are in the history in ``state``."""
        self._finals[state] += count
        self._kept[state is State.FAILED] += size
        tally.kept[state is State.FAILED] += size

    # -- success ---------------------------------------------------------------------------------------------------

    @guarded
    def succeed(self, results: Sequence[SuccessRow]) -> list[bool]:
        held: list[bool] = []
        running, states, history, timers = self._running, self._gathered["states"], self._gathered["history"], self._gathered["timers"]
        sums: dict[int, tuple[Tally, list[int], dict[int, int]]] = {}  # by tally: [tasks, payload bytes, bytes kept], how many ran how long
        of_tenants: dict[str, list[int]] = {}  # [tasks, payload bytes, how long they ran]
        mine: list[int] | None = None
        header: Header | None = None
        number, done, took = 0, [0, 0, 0], dict[int, int]()
        special, keep_ms, fixed = False, None, 0
        for task_id, claim, started_at, finished_at, output, result in results:
            run = running.get(task_id)
            if run is None or run[0] != claim:
                held.append(False)
                continue
            held.append(True)
            _, batch, seq, size, past, head, _ = run
            del running[task_id]
            if head is not header:
                header = head
                tally = self._tally_for(header)
                number = self._tally[header.queue, header.type][0]
                _, done, took = sums.setdefault(number, (tally, [0, 0, 0], {}))
                special = is_named(header) or bool(header.needs or self._lanes.gates.limits or header.order or header.batch)
                keep_ms, fixed = self._lanes.line(header.queue).info.keep_ms, SEALED + len(header.packed)
                mine = None if header.tenant is None else of_tenants.setdefault(header.tenant, [0, 0, 0])
            key = U64.pack(task_id)
            if past is None:
                record = first_success(task_id, claim, seq, batch.worker, started_at, finished_at, output, result)
            else:
                record = success_again(task_id, past, claim, seq, batch.worker, started_at, finished_at, output, result)
            kept = fixed + size + len(record)
            states.append((key, record))
            history.append((HISTORY.pack(5, finished_at, task_id), ENDED.pack(number, output or bool(past and past[13]), kept)))
            done[0] += 1
            done[1] += size
            done[2] += kept
            ms = finished_at - started_at
            took[ms] = took.get(ms, 0) + 1
            if mine is not None:
                mine[0] += 1
                mine[1] += size
                mine[2] += max(ms, 0)
            batch.left -= 1
            if not batch.left:
                self._ended.append(U64.pack(batch.number))
            if batch.lease_ms:
                self._leases.drop(task_id)
            if special:
                self._let_go_of(task_id, header, local=not batch.lease_ms)
            if keep_ms is not None:
                timers.append((TIMER.pack(finished_at + keep_ms, FORGET, task_id), b""))
        for tally, (count, size, kept), ran in sums.values():
            self._count_successes(tally, count, size, kept)
            for ms, runs in ran.items():
                tally.ran(ms, runs)
        for tenant, ended in of_tenants.items():
            self._accounts.ran(tenant, _SUCCEEDED, *ended)
        return held

    def _let_go_of(self, task_id: int, header: Header, *, local: bool) -> None:
        """A task has succeeded that held something beside its slot: a name, what it needs, its turn, a place in a batch."""
        if is_named(header):
            self._names.end(self._txn, task_id, header, self._now)
        self._lanes.freed(header, local=local)
        if header.order is not None:
            self._leave_line(header, task_id)
        if header.batch:
            self._member_moved(header.batch, _RUNNING, _SUCCEEDED)

    def _count_successes(self, tally: Tally, count: int, size: int, kept: int) -> None:
        tally.states[_RUNNING] -= count
        tally.states[_SUCCEEDED] += count
        tally.succeeded += count
        tally.bytes -= size
        self._keep(tally, _SUCCEEDED, count, kept)
        self._room.weigh(tally.queue, -count, -size)
        self._lanes.ended(self._lanes.line(tally.queue), count)

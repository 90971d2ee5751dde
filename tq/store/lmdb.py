"""The LMDB store: one environment, one writer, keys that are the index.

For: carrying out the Store protocol on one machine's disk.
Not for: deciding (lifecycle), files and locks (files.py), which lane is next (lanes.py).
Runs in: the daemon, on the thread of its loop.
Promises: those of ``tq.store``; the next task is the first key of its lane; a first-attempt success costs five
small writes and one delete. Writes are gathered and put in sorted runs when the turn commits or a read needs them.

The layout is in keys.py.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import lmdb

from tq.errors import StoreDamaged, StoreError
from tq.lifecycle import Transition
from tq.model import FORMAT, HEAD, Header, State, Status, Task, first_success, header_of, pack, seal, spec_of, status_of, unpack, unseal
from tq.store import Chore, Claimed, Draft, Limits, QueueInfo, RequestId, Success, SuccessRow, Tally, TypeInfo, Want
from tq.store.files import MAP_SIZE, open_store
from tq.store.keys import COUNTED, COUNTERS, DUE, ENDED, EXPIRE, HISTORY, PAIR, PAST, READY, REQUEST, TIMER, U32, U64, Batch, Run
from tq.store.lanes import Lane, Lanes
from tq.store.leases import Leases
from tq.store.registry import Registry
from tq.store.retention import Ended, drop_requests, forget, sent_before, take_oldest
from tq.store.room import Room, guarded, kinds

EMPTY_LANES_KEPT = 1024
_KEPT_ALIKE = (State.SUCCEEDED, State.CANCELLED, State.EXPIRED)
_TIMED = (State.SCHEDULED, State.RETRYING)
_log = logging.getLogger("tq.store")
_PENDING, _RUNNING, _SUCCEEDED = State.PENDING, State.RUNNING, State.SUCCEEDED


class LmdbStore(Registry):
    """The store in ``path`` (made at first start). One write transaction a turn; one thread."""

    def __init__(self, path: Path, limits: Limits = Limits(), map_size: int = MAP_SIZE) -> None:
        self._path = path
        self._limits = limits
        self._env, dbs = open_store(path, map_size)
        self._db = dbs
        self._room = Room(path, self._env, dbs, limits, map_size)
        self._txn: Any = None
        self._now = 0
        self._env.reader_check()
        self._clear()
        self._load()

    # -- the turn --------------------------------------------------------------------------------------------------

    def _clear(self) -> None:
        """Nothing gathered, nothing mirrored."""
        self._tasks: list[tuple[bytes, bytes]] = []
        self._gathered: dict[str, list[tuple[bytes, bytes]]] = {n: [] for n in ("ready", "states", "history", "timers", "requests")}
        self._ended: list[bytes] = []
        self._dirty: dict[int, Tally] = {}
        self._lanes = Lanes()
        self._empty: dict[int, Lane] = {}
        self._running: dict[int, Run] = {}
        self._leases = Leases()
        self._fresh: list[int] = []
        self._tally: dict[tuple[str, str], tuple[int, Tally]] = {}
        self._tally_of: dict[int, Tally] = {}
        self._types: dict[str, TypeInfo] = {}
        self._chores: dict[int, Chore] = {}
        self._room.load.clear()
        self._finals = [0] * len(State)
        self._id = self._seq = self._batch = self._chore = 0
        self._next_timer: int | None = None

    def _load(self) -> None:
        """Fill the mirrors from what is committed: O(lanes + running + types), never O(tasks)."""
        with self._env.begin() as txn:
            counters = txn.get(COUNTED, db=self._db["tallies"])
            if counters:
                self._id, self._seq, self._batch, self._chore = COUNTERS.unpack(counters)
            for key, value in txn.cursor(self._db["queues"]):
                self._lanes.line(key.decode()).info = QueueInfo(*unpack(value))
            for _, value in txn.cursor(self._db["types"]):
                info = TypeInfo(*unpack(value))
                self._types[info.name] = info
            for _, value in txn.cursor(self._db["chores"]):
                chore = Chore(*unpack(value))
                self._chores[chore.id] = chore
            for key, value in txn.cursor(self._db["tallies"]):
                if key == COUNTED:
                    continue
                number, tally = U32.unpack(key)[0], Tally(*unpack(value))
                self._tally[tally.queue, tally.type] = (number, tally)
                self._tally_of[number] = tally
                self._room.weigh(tally.queue, sum(tally.states[:5]), tally.bytes)
                self._finals = [a + b for a, b in zip(self._finals, tally.states, strict=True)]
            ready = txn.cursor(self._db["ready"])
            for key, value in txn.cursor(self._db["lanes"]):
                lane = self._lanes.add(U32.unpack(key)[0], tuple(unpack(value)))
                self._find_head(ready, lane)
            for key, value in txn.cursor(self._db["running"]):
                self._load_batch(txn, U64.unpack(key)[0], unpack(unseal(value, "a running record")))
            self._read_next_timer(txn)

    def _load_batch(self, txn: Any, number: int, row: list[Any]) -> None:
        worker, claimed_at, lease_ms, ids, claims = row
        batch = Batch(number, worker, claimed_at, lease_ms)
        for task_id, claim in zip(ids, claims or [1] * len(ids), strict=True):
            key = U64.pack(task_id)
            record, state = txn.get(key, db=self._db["tasks"]), txn.get(key, db=self._db["states"])
            prior = status_of(task_id, state) if state else None
            if record is None or (prior and (prior.claim > claim or (prior.claim == claim and prior.state is not _RUNNING))):
                continue
            spec = spec_of(task_id, record)
            batch.left += 1
            self._running[task_id] = (claim, batch, prior.seq if prior else spec.seq, len(spec.payload), prior, spec.header)
            if lease_ms:
                self._fresh.append(task_id)

    def begin(self, now: int) -> None:
        self._now = now
        try:
            self._txn = self._env.begin(write=True)
        except lmdb.Error as e:
            raise StoreError(f"the store cannot be written: {e}. Stop the daemon, check the disk, run `tq verify`.") from e
        while self._fresh:  # after a restart every lease starts anew
            task_id = self._fresh.pop()
            self._leases.hold(task_id, now + self._running[task_id][1].lease_ms)

    def commit(self) -> None:
        try:
            self._flush()
            txn, db = self._txn, self._db
            for number, tally in self._dirty.items():
                txn.put(U32.pack(number), pack(tally.row()), db=db["tallies"])
            self._dirty.clear()
            txn.put(COUNTED, COUNTERS.pack(self._id, self._seq, self._batch, self._chore), db=db["tallies"])
            if len(self._empty) > EMPTY_LANES_KEPT:
                self._drop_lanes()
            self._read_next_timer(txn)
            txn.commit()
        except lmdb.Error as e:
            raise self._room.trouble(e) from e
        self._txn = None

    def abort(self) -> None:
        if self._txn is not None:
            self._txn.abort()
            self._txn = None
        passes = {name: line.passed for name, line in self._lanes.lines.items()}
        leases = self._leases
        self._clear()
        self._load()
        for name, line in self._lanes.lines.items():
            line.passed = passes.get(name, line.passed)
        self._fresh = [task_id for task_id in self._fresh if not self._leases.keep(task_id, leases)]

    def close(self) -> None:
        if self._txn is not None:
            self._txn.abort()
            self._txn = None
        self._env.close()

    def _flush(self) -> None:
        """Put what was gathered, each database in one sorted run."""
        txn, db = self._txn, self._db
        if self._tasks:
            txn.cursor(db["tasks"]).putmulti(self._tasks, append=True)
            self._tasks = []
        for name, rows in self._gathered.items():
            if rows:
                txn.cursor(db[name]).putmulti(rows)
                rows.clear()
        if self._ended:
            running = db["running"]
            for key in self._ended:
                txn.delete(key, db=running)
            self._ended.clear()

    # -- enqueue ---------------------------------------------------------------------------------------------------

    @guarded
    def enqueue(self, drafts: Sequence[Draft], request: RequestId | None = None) -> Sequence[int]:
        if request is not None and request.again:
            self._flush()
            minutes = self._limits.keep_requests_ms // 60_000 + 2
            if known := sent_before(self._txn, self._db["requests"], request, self._now // 60_000, minutes):
                return known
        runs = kinds(drafts)
        self._room.check(runs, self._txn, self._now)
        now, seq, task_id = self._now, self._seq, self._id
        first = task_id + 1
        tasks, ready, timers = self._tasks, self._gathered["ready"], self._gathered["timers"]
        for header, run in runs:
            packed, level, blocked = header.packed, 9 - header.priority, bool(header.parents)
            lane, tally, load = self._lane(header), self._tally_for(header), self._room.load[header.queue]
            length, size, waits = len(packed), 0, 0
            for draft in run:
                task_id += 1
                payload, due_at, expires_at = draft.payload, draft.due_at, draft.expires_at
                size += len(payload)
                if due_at > now or blocked:
                    waits += 1
                    head = HEAD.pack(FORMAT, now, 0, due_at, expires_at, length)
                    if not blocked:
                        timers.append((TIMER.pack(due_at, DUE, task_id), b""))
                else:
                    seq += 1
                    head = HEAD.pack(FORMAT, now, seq, 0, expires_at, length)
                    ready.append((READY.pack(lane.number, level, seq), PAIR.pack(task_id, now)))
                    if lane.head is None or level < lane.head[0]:
                        self._lanes.set_head(lane, (level, seq))
                        self._empty.pop(lane.number, None)
                if expires_at:
                    timers.append((TIMER.pack(expires_at, EXPIRE, task_id), b""))
                tasks.append((U64.pack(task_id), seal(head + packed + payload)))
            tally.states[State.BLOCKED if blocked else State.SCHEDULED] += waits
            tally.states[_PENDING] += len(run) - waits
            tally.bytes += size
            load[0] += len(run)
            load[1] += size
        self._id, self._seq = task_id, seq
        if request is not None:
            key = REQUEST.pack(now // 60_000, request.nonce, request.number)
            self._gathered["requests"].append((key, PAIR.pack(first, len(drafts))))
        return range(first, task_id + 1)

    def _lane(self, header: Header) -> Lane:
        lane = self._lanes.by_key.get(header.lane)
        if lane is None:
            number = self._lanes.last + 1
            self._txn.put(U32.pack(number), pack(list(header.lane)), db=self._db["lanes"])
            lane = self._lanes.add(number, header.lane)
            self._empty[number] = lane
        return lane

    def _drop_lanes(self) -> None:
        for number, lane in self._empty.items():
            self._txn.delete(U32.pack(number), db=self._db["lanes"])
            self._lanes.drop(lane)
        self._empty.clear()

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

    # -- claim and success: the hot path ---------------------------------------------------------------------------

    @guarded
    def claim(self, want: Want) -> list[Claimed]:
        lines = self._lanes.open_lines(want.queues)
        if not lines:
            return []
        self._flush()
        taken: list[Claimed] = []
        spent = 0.0
        ready = self._txn.cursor(self._db["ready"])
        self._batch += 1
        batch = Batch(self._batch, want.worker, self._now, want.lease_ms)
        while len(taken) < want.limit and lines:
            line = min(lines, key=lambda one: (one.passed, one.info.name))
            pick = self._lanes.best(line, want.types)
            if pick is None:
                lines.remove(line)
                continue
            cost = want.costs.get(pick.lane.key[1], math.inf)
            most = want.limit - len(taken) if len(lines) == 1 else 1
            if want.budget_ms != math.inf:
                if taken and spent + cost > want.budget_ms:
                    break
                if cost > 0:
                    most = min(most, max(1, int((want.budget_ms - spent) / cost)))
            got = self._take(ready, pick.lane, pick.until, most, batch, taken)
            spent += cost * got
            line.passed += got / line.info.weight
        if taken:
            claims = None if all(c.claim == 1 for c in taken) else [c.claim for c in taken]
            row = [want.worker, self._now, want.lease_ms, [c.id for c in taken], claims]
            self._txn.put(U64.pack(batch.number), seal(pack(row)), db=self._db["running"], append=True)
        return taken

    def _take(self, ready: Any, lane: Lane, until: tuple[int, int] | None, most: int, batch: Batch, taken: list[Claimed]) -> int:
        """Take up to ``most`` tasks from the front of ``lane``, as long as it comes before ``until``."""
        prefix, found = U32.pack(lane.number), ready.set_range(READY.pack(lane.number, *(lane.head or (0, 0))))
        head: tuple[int, int] | None = None
        places: list[tuple[int, bytes]] = []  # seq, and the entry's value
        while found:
            key, value = ready.item()
            if key[:4] != prefix:
                break
            _, level, seq = READY.unpack(key)
            if len(places) >= most or (places and until is not None and (level, seq) >= until):
                head = (level, seq)
                break
            places.append((seq, value))
            found = ready.delete() and bool(ready.key())
        self._lanes.set_head(lane, head)
        if head is None:
            self._empty[lane.number] = lane
        return self._hand_over(lane, places, batch, taken)

    def _hand_over(self, lane: Lane, places: list[tuple[int, bytes]], batch: Batch, taken: list[Claimed]) -> int:
        """The tasks of these ready entries are running from now on; how many (a damaged one is set aside)."""
        running, lease_ms, count = self._running, batch.lease_ms, 0
        records = dict(self._txn.cursor(self._db["tasks"]).getmulti([value[:8] for _, value in places]))
        tally: Tally | None = None
        for seq, value in places:
            key = value[:8]
            task_id = U64.unpack(key)[0]
            prior, claim, attempt, crashes = None, 1, 0, 0
            try:
                record = records[key]
                body = unseal(record, "task", task_id)
                version, _, _, _, _, length = HEAD.unpack_from(body)
                if version != FORMAT:
                    raise StoreDamaged(f"task {task_id}: expected record format {FORMAT}, got {version}.")
                header = header_of(body[HEAD.size : HEAD.size + length])
                if len(value) > 16:
                    prior = status_of(task_id, self._txn.get(key, db=self._db["states"]))
                    claim, attempt, crashes = prior.claim + 1, prior.attempt, prior.crashes
            except (StoreDamaged, KeyError, TypeError) as error:  # the last two: a record is gone
                self._set_aside(task_id, lane, error)
                continue
            if tally is None:
                tally = self._tally_for(header)
            running[task_id] = (claim, batch, seq, len(body) - HEAD.size - length, prior, header)
            taken.append(Claimed(task_id, claim, attempt, crashes, header, record))
            if lease_ms:
                self._leases.hold(task_id, self._now + lease_ms)
            count += 1
        batch.left += count
        if tally is not None:
            tally.states[_PENDING] -= count
            tally.states[_RUNNING] += count
        return count

    def _set_aside(self, task_id: int, lane: Lane, error: Exception) -> None:
        """A pending task whose records cannot be read ends as failed: it must not stop those behind it, nor the daemon."""
        _log.error("task %d cannot be read and is failed: %s", task_id, error)
        status = Status(State.FAILED, claim=1, finished_at=self._now, error={"type": "StoreDamaged", "message": str(error)})
        tally = self._tally_for(Header(lane.key[1], lane.key[0]))
        self._txn.put(U64.pack(task_id), status.record(), db=self._db["states"])
        number = self._tally[tally.queue, tally.type][0]
        self._txn.put(HISTORY.pack(State.FAILED, self._now, task_id), ENDED.pack(number, False), db=self._db["history"])
        tally.states[_PENDING] -= 1
        tally.states[State.FAILED] += 1
        tally.failed += 1
        self._finals[State.FAILED] += 1
        self._room.weigh(tally.queue, -1, 0)

    @guarded
    def succeed(self, results: Sequence[SuccessRow]) -> list[bool]:
        held: list[bool] = []
        running, states, history = self._running, self._gathered["states"], self._gathered["history"]
        sums: dict[int, tuple[Tally, list[int], dict[int, int]]] = {}  # by tally: [tasks, payload bytes], how many ran how long
        header: Header | None = None
        number, done, took = 0, [0, 0], dict[int, int]()
        for task_id, claim, started_at, finished_at, output, result in results:
            run = running.get(task_id)
            if run is None or run[0] != claim:
                held.append(False)
                continue
            held.append(True)
            _, batch, seq, size, prior, head = run
            if prior is not None:
                self._succeed_again(Success(task_id, claim, started_at, finished_at, output, result), run)
                continue
            del running[task_id]
            if head is not header:
                header = head
                tally = self._tally_for(header)
                number = self._tally[header.queue, header.type][0]
                _, done, took = sums.setdefault(number, (tally, [0, 0], {}))
            key = U64.pack(task_id)
            states.append((key, first_success(claim, seq, batch.worker, started_at, finished_at, output, result)))
            history.append((HISTORY.pack(5, finished_at, task_id), ENDED.pack(number, output)))
            done[0] += 1
            done[1] += size
            ms = finished_at - started_at
            took[ms] = took.get(ms, 0) + 1
            batch.left -= 1
            if not batch.left:
                self._ended.append(U64.pack(batch.number))
            if batch.lease_ms:
                self._leases.drop(task_id)
        for tally, (count, size), ran in sums.values():
            tally.states[_RUNNING] -= count
            tally.states[_SUCCEEDED] += count
            self._finals[_SUCCEEDED] += count
            tally.succeeded += count
            tally.bytes -= size
            self._room.weigh(tally.queue, -count, -size)
            for ms, runs in ran.items():
                tally.ran(ms, runs)
        return held

    def _succeed_again(self, one: Success, run: Run) -> None:
        """A success of a task with a past (a retry, or a cancel that came too late)."""
        task_id, claim, started_at, finished_at, output, result = one
        prior = run[4] or Status(_PENDING)
        status = replace(
            prior, state=_SUCCEEDED, claim=claim, attempt=prior.attempt + 1, started_at=started_at, finished_at=finished_at,
            worker=run[1].worker, output=prior.output or output, result=result, error=None, exit_code=None, due_at=0,
        )  # fmt: skip
        self.apply([Transition(task_id, "succeeded", frozenset({_RUNNING}), claim, status)])

    # -- every other transition ------------------------------------------------------------------------------------

    @guarded
    def apply(self, transitions: Sequence[Transition]) -> list[Task | None]:
        self._flush()
        return [self._apply(one) for one in transitions]

    def _apply(self, one: Transition) -> Task | None:
        task = self._read(self._txn, one.id)
        if task is None or task.state not in one.start or (one.claim is not None and task.status.claim != one.claim):
            return None
        old, new = task.status, one.status
        if new.state is _RUNNING:  # only the flag of a cancel
            claim, batch, seq, size, _, header = self._running[one.id]
            self._running[one.id] = (claim, batch, seq, size, new, header)
        else:
            self._leave(task, old)
            new = self._enter(task, new)
            self._count(task, old, new, one.event)
        self._txn.put(U64.pack(one.id), new.record(), db=self._db["states"])
        return replace(task, status=new)

    def _leave(self, task: Task, old: Status) -> None:
        """Take a task out of the index of its state."""
        txn, db, header = self._txn, self._db, task.spec.header
        if old.state is _PENDING:
            lane = self._lane(header)
            txn.delete(READY.pack(lane.number, 9 - header.priority, old.seq), db=db["ready"])
            if lane.head == (9 - header.priority, old.seq):
                self._find_head(txn.cursor(db["ready"]), lane)
        elif old.state in _TIMED:
            txn.delete(TIMER.pack(old.due_at or task.spec.due_at, DUE, task.id), db=db["timers"])
        elif old.state is _RUNNING:
            batch = self._running.pop(task.id)[1]
            self._leases.drop(task.id)
            batch.left -= 1
            if not batch.left:
                txn.delete(U64.pack(batch.number), db=db["running"])
        elif old.state.final:
            txn.delete(HISTORY.pack(old.state, old.finished_at, task.id), db=db["history"])

    def _enter(self, task: Task, new: Status) -> Status:
        """Put a task into the index of its new state; the status with its place."""
        txn, db, header = self._txn, self._db, task.spec.header
        if new.state is _PENDING:
            if not new.seq:
                self._seq += 1
                new = replace(new, seq=self._seq)
            new = replace(new, ready_at=new.ready_at or task.spec.created_at)
            lane, place = self._lane(header), (9 - header.priority, new.seq)
            txn.put(READY.pack(lane.number, *place), PAIR.pack(task.id, new.ready_at) + PAST, db=db["ready"])
            if lane.head is None or place < lane.head:
                self._lanes.set_head(lane, place)
                self._empty.pop(lane.number, None)
        elif new.state in _TIMED:
            txn.put(TIMER.pack(new.due_at, DUE, task.id), b"", db=db["timers"])
        elif new.state.final:
            self._tally_for(header)
            number = self._tally[header.queue, header.type][0]
            txn.put(HISTORY.pack(new.state, new.finished_at, task.id), ENDED.pack(number, new.output), db=db["history"])
        return new

    def _count(self, task: Task, old: Status, new: Status, event: str) -> None:
        tally, load = self._tally_for(task.spec.header), self._room.load[task.spec.header.queue]
        tally.states[old.state] -= 1
        tally.states[new.state] += 1
        self._finals[old.state] -= 1
        self._finals[new.state] += 1
        size = len(task.spec.payload)
        change = old.state.final - new.state.final  # -1: it is over, 1: it lives again
        tally.bytes += change * size
        load[0] += change
        load[1] += change * size
        tally.succeeded += new.state is _SUCCEEDED
        tally.failed += new.state is State.FAILED
        tally.retried += new.state is State.RETRYING
        if event in ("succeeded", "failed", "timed_out"):
            run = new if new.finished_at else new.attempts[-1]  # one that will be retried keeps its times there
            tally.ran(run.finished_at - run.started_at)

    def _find_head(self, ready: Any, lane: Lane) -> None:
        """Look up the first ready task of ``lane``."""
        head = None
        if ready.set_range(U32.pack(lane.number)):
            number, level, seq = READY.unpack(ready.key())
            if number == lane.number:
                head = (level, seq)
        self._lanes.set_head(lane, head)
        if head is None:
            self._empty[lane.number] = lane
        else:
            self._empty.pop(lane.number, None)

    # -- time ------------------------------------------------------------------------------------------------------

    def _read_next_timer(self, txn: Any) -> None:
        cursor = txn.cursor(self._db["timers"])
        self._next_timer = TIMER.unpack(cursor.key())[0] if cursor.first() else None

    @guarded
    def due(self, limit: int) -> list[tuple[str, int]]:
        self._flush()
        found: list[tuple[str, int]] = []
        cursor = self._txn.cursor(self._db["timers"])
        more = cursor.first()
        while more and len(found) < limit:
            at, kind, task_id = TIMER.unpack(cursor.key())
            if at > self._now:
                break
            task = self._read_sound(self._txn, task_id)  # a damaged one must not stop those that come due after it
            if task is not None and kind == EXPIRE and not task.state.final:
                found.append(("expire", task_id))
            elif task is not None and kind == DUE and task.state in _TIMED and (task.status.due_at or task.spec.due_at) == at:
                found.append(("due", task_id))
            more = cursor.delete() and bool(cursor.key())
        found += [("lease", task_id) for task_id in self._leases.lapsed(self._now, limit - len(found))]
        return found

    def extend(self, task_id: int, claim: int, lease_ms: int) -> bool:
        run = self._running.get(task_id)
        held = run is not None and run[0] == claim and run[1].lease_ms > 0
        if held:
            self._leases.hold(task_id, self._now + lease_ms)
        return held

    # -- forgetting ------------------------------------------------------------------------------------------------

    @guarded
    def remove(self, ids: Sequence[int]) -> list[bool]:
        self._flush()
        gone = []
        for task_id in ids:
            task = self._read(self._txn, task_id)
            gone.append(task is not None and task.state.final)
            if task is not None and task.state.final:
                key = HISTORY.pack(task.state, task.status.finished_at, task_id)
                self._forget([(key, self._txn.pop(key, db=self._db["history"]))])
        return gone

    def _forget(self, ended: Sequence[Ended]) -> list[tuple[int, bool]]:
        """Forget the finished tasks of these history entries: (id, had output)."""
        forget(self._txn, self._db, ended)
        gone = []
        for key, value in ended:
            number, output = ENDED.unpack(value)
            self._finals[key[0]] -= 1
            tally = self._tally_of[number]
            tally.states[key[0]] -= 1
            self._dirty[number] = tally
            gone.append((U64.unpack(key[9:])[0], bool(output)))
        return gone

    @guarded
    def retain(self, limits: Limits, most: int) -> list[tuple[int, bool]]:
        self._flush()
        counts, cursor = self._finals, self._txn.cursor(self._db["history"])
        ended: list[Ended] = []
        for states, keep_ms in (((State.FAILED,), limits.keep_failed_ms), (_KEPT_ALIKE, limits.keep_ms)):
            there = [s for s in states if counts[s]]
            over = sum(counts[s] for s in there) - limits.keep
            ended += take_oldest(cursor, there, over, self._now - keep_ms, most - len(ended))
        oldest = (self._now - limits.keep_requests_ms) // 60_000 - 1
        drop_requests(self._txn.cursor(self._db["requests"]), oldest, most)
        return self._forget(ended) if ended else []

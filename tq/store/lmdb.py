"""The LMDB store: one environment, one writer, keys that are the index.

For: carrying out the Store protocol on one machine's disk: the turn, every transition but the hot ones, time, forgetting.
Not for: deciding (lifecycle), files and locks (files.py), the hot path (hot.py), which rung is next (lanes.py).
Runs in: the daemon, on the thread of its loop.
Promises: those of ``tq.store``; the next task is the first key of its rung; each database is put in one sorted run when the
turn commits or a read needs it; starting costs O(lanes + running + types), never O(tasks).

The layout is in keys.py.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import lmdb

from tq.errors import Refused, StoreDamaged, StoreError
from tq.lifecycle import Transition
from tq.model import SHELL, Spec, State, Status, Task
from tq.store import SCAN_MOST, Limits, Space, arriving
from tq.store.compaction import Sizes, compact_copy, size_of
from tq.store.environments import let_go
from tq.store.files import COPIED, MAP_SIZE, OLD, open_store, put_in_place
from tq.store.keys import (
    COUNTED,
    DUE,
    ENDED,
    EXPIRE,
    FORGET,
    HISTORY,
    KEY,
    PAIR,
    PAST,
    READY,
    SEALED,
    SLOT,
    TIMER,
    U32,
    U64,
    counters_record,
    sealed,
)
from tq.store.loading import Loading
from tq.store.names import Names, is_named
from tq.store.retention import Ended, drop_requests, forget, take_oldest
from tq.store.room import Room, guarded, live_bytes

_log = logging.getLogger("tq.store")
EMPTY_LANES_KEPT = 1024
KEPT_AT_LEAST_MS = 600_000
"""How long who asked for a task finds its result, unless others could not end then."""
COMPACT_MOST = 4 << 30
"""Bytes of records that are copied while callers wait: some 6 s at the 700 MB/s of an ordinary disk."""
GATHERED = ("ready", "states", "history", "timers", "requests", "children", "environments")
_KEPT_ALIKE = (State.SUCCEEDED, State.CANCELLED, State.EXPIRED)
_TIMED = (State.SCHEDULED, State.RETRYING)
_PENDING, _RUNNING, _SUCCEEDED = State.PENDING, State.RUNNING, State.SUCCEEDED
_WORDS = {EXPIRE: "expire", FORGET: "forget"}


class LmdbStore(Loading):
    """The store in ``path`` (made at first start). One write transaction a turn; one thread."""

    def __init__(self, path: Path, limits: Limits = Limits(), map_size: int = MAP_SIZE) -> None:
        self._path = path
        self._limits = limits
        self._map_size = map_size
        self._env, dbs = open_store(path, map_size)
        self._db = dbs
        self._room = Room(path, self._env, dbs, limits, map_size)
        self._names = Names(dbs, limits.keep_keys_ms)
        self._txn: Any = None
        self._freed: list[str] = []
        self._now = 0
        self._unsound: set[bytes] = set()  # entries of the history that the log has named
        self._env.reader_check()
        self._count_tenants()
        self._clear()
        self._load()

    # -- the turn --------------------------------------------------------------------------------------------------

    def begin(self, now: int) -> None:
        self._now = now
        self._lanes.begin(now)
        try:
            self._txn = self._env.begin(write=True)
        except lmdb.Error as e:
            raise StoreError(f"the store cannot be written: {e}. Stop the daemon, check the disk, run `tq verify`.") from e
        self._room.begin(self._txn)
        while self._fresh:  # after a restart every lease starts anew
            task_id = self._fresh.pop()
            self._leases.hold(task_id, now + self._running[task_id][1].lease_ms)

    def commit(self) -> None:
        try:
            self._flush()
            txn, db = self._txn, self._db
            for number, tally in self._dirty.items():
                txn.put(U32.pack(number), sealed(tally.row()), db=db["tallies"])
            self._dirty.clear()
            self._accounts.store(txn, db)
            txn.put(COUNTED, counters_record(self._id, self._seq, self._batch, self._chore), db=db["tallies"])
            if len(self._empty) > EMPTY_LANES_KEPT:
                self._drop_lanes()
            for counted, bucket in self._lanes.gates.changes(len(self._lanes.by_key)):
                self._store_tokens(counted, bucket)
            self._read_next_timer(txn)
            self._room.end(txn)
            txn.commit()
        except lmdb.Error as e:
            raise self._room.trouble(e) from e
        self._txn = None
        self._freed += self._freeing
        self._freeing.clear()

    def abort(self) -> None:
        if self._txn is not None:
            self._txn.abort()
            self._txn = None
        lanes, leases = self._lanes, self._leases
        self._clear()
        self._load()
        self._lanes.follow(lanes)
        self._fresh = [task_id for task_id in self._fresh if not self._leases.keep(task_id, leases)]

    def close(self) -> None:
        if self._txn is not None:
            self._txn.abort()
            self._txn = None
        self._env.close()

    def adopt(self) -> None:
        """What ran when this store was copied has been recovered: it is a copy no more."""
        if self.copied:
            try:
                with self._env.begin(write=True) as txn:
                    txn.delete(COPIED, db=self._db["meta"])
            except lmdb.Error as error:
                _log.warning("the next start takes this store for a copy again: %s", error)
            self.copied = False

    def space(self) -> Space:
        """How much room there is; a look at the file system and at the size of each database."""
        with self._view() as txn:
            return self._room.space(txn)

    def compact(self) -> Sizes:
        """Between two turns: put a compact copy in the place of the file; takes as long as it takes to copy what is live.

        Refused: there is too much of it for callers to wait, or no room; nothing was changed. StoreError ends the daemon.
        """
        with self._env.begin() as txn:
            live = live_bytes(txn, self._db)
        if live > COMPACT_MOST:
            raise Refused(
                f"expected at most {COMPACT_MOST >> 20} MiB of records to compact while callers wait, got {live >> 20} MiB. "
                "Stop the daemon (`tq daemon stop`), compact, and start it again."
            )
        before = size_of(self._path)
        fresh = compact_copy(self._env, self._db, self._path)
        self._env.close()
        failed: StoreError | None = None
        try:
            put_in_place(self._path, fresh, self._path.with_name(OLD))
        except StoreError as e:
            failed = e
        self._env, dbs = open_store(self._path, self._map_size)  # the new one, or the old one put back
        self._db.update(dbs)  # everybody has this very dictionary
        self._room.opened(self._env)
        if failed is not None:
            raise Refused(f"the store was not compacted: {failed.message}") from failed
        return Sizes(before, size_of(self._path))

    @guarded
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

    def _drop_lanes(self) -> None:
        for number, lane in self._empty.items():
            self._txn.delete(U32.pack(number), db=self._db["lanes"])
            self._lanes.drop(lane)
        self._empty.clear()

    # -- every other transition ------------------------------------------------------------------------------------

    @guarded
    def apply(self, transitions: Sequence[Transition]) -> list[Task | None]:
        self._flush()
        return self._apply_all(transitions, [self._read(self._txn, one.id) for one in transitions])

    @guarded
    def change(self, ids: Sequence[int], decide: Callable[[Task], Transition | None]) -> list[tuple[Transition, Task | None]]:
        self._flush()
        tasks = [task for task_id in ids if (task := self._read(self._txn, task_id)) is not None]
        found = [(change, task) for task in tasks if (change := decide(task)) is not None]
        changes = [change for change, _ in found]
        return list(zip(changes, self._apply_all(changes, [task for _, task in found]), strict=True))

    def _apply_all(self, transitions: Sequence[Transition], tasks: Sequence[Task | None]) -> list[Task | None]:
        """``apply``, to the tasks as they have just been read."""
        if any(one.spec is not None for one in transitions):  # what edits write is new work
            self._room.check((), self._lanes.lines, self._txn, self._now)
        if more := arriving(zip(tasks, transitions, strict=True)):
            self._room.admit(more, self._lanes.lines)
        changed: list[Task | None] = []
        seen: set[int] = set()
        for one, task in zip(transitions, tasks, strict=True):
            changed.append(self._apply(one, self._read(self._txn, one.id) if one.id in seen else task))
            seen.add(one.id)
        return changed

    def _apply(self, one: Transition, task: Task | None) -> Task | None:
        if task is None or task.state not in one.start or (one.claim is not None and task.status.claim != one.claim):
            return None
        old, new, spec = task.status, one.status, one.spec or task.spec
        if new.state is _RUNNING:  # only the flag of a cancel
            claim, batch, seq, size, _, header, expires = self._running[one.id]
            self._running[one.id] = (claim, batch, seq, size, new.row(), header, expires)
        else:
            if not self._rename(task, spec, new):
                return None
            self._leave(task, old, unused=one.event == "released")
            if one.spec is not None:
                self._respecify(task.spec, spec)
            if one.parents or (old.waits and not new.waits):
                self._unblock(one.id, one.parents or task.spec.header.parents)
            if one.waits:
                self._block_again(one.id, one.waits)
            new = self._enter(spec, new)
            self._count(task.spec, spec, old, new, one.event)
        self._txn.put(U64.pack(one.id), new.record(one.id), db=self._db["states"])
        return Task(spec, new)

    def _rename(self, task: Task, spec: Spec, new: Status) -> bool:
        """Let the names follow the task to its new state and specification; False, and nothing changed, if they cannot."""
        txn, was, now = self._txn, task.spec.header, spec.header
        if not (is_named(was) or is_named(now)):
            return True
        if new.state.final:
            if not task.state.final:
                self._names.end(txn, task.id, was, self._now)
        elif task.state.final or (was.type, was.key, was.unique) != (now.type, now.key, now.unique):
            if not self._names.fit(txn, task.id, was, now):
                return False
            self._names.live_on(txn, task.id, was, now)
        return True

    def _respecify(self, was: Spec, now: Spec) -> None:
        """Give a task another specification; its place in an index is not looked after here."""
        self._txn.put(U64.pack(now.id), now.record(), db=self._db["tasks"])
        if was.expires_at != now.expires_at:
            if was.expires_at:
                self._txn.delete(TIMER.pack(was.expires_at, EXPIRE, now.id), db=self._db["timers"])
            if now.expires_at:
                self._txn.put(TIMER.pack(now.expires_at, EXPIRE, now.id), b"", db=self._db["timers"])

    def _leave(self, task: Task, old: Status, *, unused: bool = False) -> None:
        """Take a task out of the index of its state; ``unused``: it was handed out and has not begun."""
        txn, db, header = self._txn, self._db, task.spec.header
        if old.state is _PENDING:
            lane, level = self._lane(header), 9 - header.priority
            txn.delete(READY.pack(lane.number, level, old.seq), db=db["ready"])
            if level in lane.heads and lane.heads[level][0] == old.seq:
                self._find_head(txn.cursor(db["ready"]), lane, level)
        elif old.state in _TIMED:
            txn.delete(TIMER.pack(old.due_at or task.spec.due_at, DUE, task.id), db=db["timers"])
        elif old.state is _RUNNING:
            batch = self._running.pop(task.id)[1]
            self._leases.drop(task.id)
            self._lanes.freed(header, local=not batch.lease_ms, unused_since=batch.claimed_at if unused else 0)
            self._lanes.ended(self._lanes.line(header.queue), 1)
            batch.left -= 1
            if not batch.left:
                txn.delete(U64.pack(batch.number), db=db["running"])
        elif old.state.final:
            number, _, size = ENDED.unpack(self._take_end(task)[1])
            self._keep(self._tally_of[number], old.state, -1, -size)

    def _take_end(self, task: Task) -> Ended:
        """Take a finished task out of the history. StoreDamaged, and nothing changed, if it is not there whole."""
        key = HISTORY.pack(task.state, task.status.finished_at, task.id)
        value = self._txn.get(key, db=self._db["history"])
        if value is None or not self._is_sound_end(key, value):
            found = "none" if value is None else "one that cannot be read"
            raise StoreDamaged(f"task {task.id}: expected its end in the history, found {found}. Run `tq verify`, then restore a backup.")
        self._txn.delete(key, db=self._db["history"])
        return key, value

    def _is_sound_end(self, key: bytes, value: bytes) -> bool:
        """Whether an entry of the history can be read; the log names each that cannot, once."""
        if len(value) == ENDED.size and len(key) == HISTORY.size and U32.unpack_from(value)[0] in self._tally_of:
            return True
        if key not in self._unsound:
            self._unsound.add(key)
            _log.error("history: the entry %s cannot be read and is left as it is. Run `tq verify`, then restore a backup.", key.hex())
        return False

    def _enter(self, spec: Spec, new: Status) -> Status:
        """Put a task into the index of its new state; the status with its place."""
        txn, db, header = self._txn, self._db, spec.header
        if new.state is _PENDING:
            if not new.seq:
                self._seq += 1
                new = replace(new, seq=self._seq, ready_at=new.ready_at or spec.created_at)
            elif not new.ready_at:
                new = replace(new, ready_at=spec.created_at)
            lane, level = self._lane(header), 9 - header.priority
            txn.put(READY.pack(lane.number, level, new.seq), PAIR.pack(spec.id, new.ready_at) + PAST, db=db["ready"])
            if level not in lane.heads or new.seq < lane.heads[level][0]:
                self._lanes.set_head(lane, level, (new.seq, new.ready_at))
                self._empty.pop(lane.number, None)
        elif new.state in _TIMED:
            txn.put(TIMER.pack(new.due_at, DUE, spec.id), b"", db=db["timers"])
        elif new.state.final:
            tally, size = self._tally_for(header), SEALED + len(header.packed) + len(spec.payload) + len(new.record(spec.id))
            number = self._tally[header.queue, header.type][0]
            txn.put(HISTORY.pack(new.state, new.finished_at, spec.id), ENDED.pack(number, new.output, size), db=db["history"])
            self._keep(tally, new.state, 1, size)
            keep_ms = self._lanes.line(header.queue).info.keep_ms
            if keep_ms is not None:
                txn.put(TIMER.pack(new.finished_at + keep_ms, FORGET, spec.id), b"", db=db["timers"])
        return new

    def _count(self, was: Spec, now: Spec, old: Status, new: Status, event: str) -> None:
        self._accounts.changed(was, now, old, new, event)
        for spec, status, change in ((was, old, -1), (now, new, 1)):
            tally = self._tally_for(spec.header)
            tally.states[status.state] += change
            if not status.state.final:
                tally.bytes += change * len(spec.payload)
                self._room.weigh(tally.queue, change, change * len(spec.payload))
        if event != "edited":  # one that is edited while it waits for its retry has not failed again
            tally = self._tally_for(now.header)
            tally.succeeded += new.state is _SUCCEEDED
            tally.failed += new.state is State.FAILED
            tally.retried += new.state is State.RETRYING
        if event in ("succeeded", "failed", "timed_out"):
            run = new if new.finished_at else new.attempts[-1]  # one that will be retried keeps its times there
            self._tally_for(now.header).ran(run.finished_at - run.started_at)

    # -- time ------------------------------------------------------------------------------------------------------

    @guarded
    def due(self, limit: int) -> list[tuple[str, int]]:
        self._flush()
        found: list[tuple[str, int]] = []
        later: list[bytes] = []
        looked, most = 0, max(limit, SCAN_MOST)  # a million that nobody needs any more must not be one turn's work
        lapsed = self._leases.lapsed(self._now, (limit + 1) // 2)  # first: no number of timers may hold up a lease
        limit -= len(lapsed)
        cursor = self._txn.cursor(self._db["timers"])
        more = cursor.first()
        while more and len(found) < limit and looked < most:
            at, kind, task_id = TIMER.unpack(cursor.key())
            if at > self._now:
                break
            looked += 1
            if kind == DUE:  # these are for promote: go on behind all of their instant
                more = cursor.set_range(TIMER.pack(at, EXPIRE, 0))
                continue
            if kind == SLOT:  # and these for slots
                more = cursor.next()
                continue
            if kind == KEY:
                self._names.lapse(self._txn, at, task_id, cursor.value())
            elif self._is_wanted(kind, task_id, later):
                found.append((_WORDS[kind], task_id))
            more = cursor.delete() and bool(cursor.key())
        for timer in later:
            self._txn.put(timer, b"", db=self._db["timers"])
        return found + [("lease", task_id) for task_id in lapsed]

    def _is_wanted(self, kind: int, task_id: int, later: list[bytes]) -> bool:
        """Whether a timer still means something; one that has to go off again stands in ``later``."""
        task = self._read_sound(self._txn, task_id)  # a damaged one must not stop those that come due after it
        if task is None:
            return False
        if kind == EXPIRE:
            return not task.state.final
        keep_ms = self._lanes.line(task.spec.header.queue).info.keep_ms
        if not task.state.final or keep_ms is None:
            return False
        until = task.status.finished_at + keep_ms
        if until > self._now:  # it has lived again since, or its queue keeps longer now
            later.append(TIMER.pack(until, FORGET, task_id))
        return until <= self._now

    def extend(self, task_id: int, claim: int, lease_ms: int) -> bool:
        run = self._running.get(task_id)
        held = run is not None and run[0] == claim and run[1].lease_ms > 0
        if held:
            self._leases.hold(task_id, self._now + lease_ms)
        return held

    def stepped(self, ms: int) -> None:
        self._leases.shift(ms)

    # -- forgetting ------------------------------------------------------------------------------------------------

    @guarded
    def remove(self, ids: Sequence[int]) -> list[bool]:
        self._flush()
        gone: list[bool] = []
        ended: list[Ended] = []
        waited: list[bytes] = []
        commands: list[bytes] = []
        seen: set[int] = set()
        for task_id in ids:
            task = self._read(self._txn, task_id) if task_id not in seen else None
            seen.add(task_id)
            gone.append(task is not None and task.state is not _RUNNING)
            if task is None or task.state is _RUNNING:
                continue
            if task.state.final:
                ended.append(self._take_end(task))
                continue
            header, size = task.spec.header, len(task.spec.payload)
            if is_named(header):
                self._names.end(self._txn, task_id, header, self._now)
            self._leave(task, task.status)
            if task.status.waits:
                self._unblock(task_id, header.parents)
            tally = self._tally_for(header)
            tally.states[task.state] -= 1
            tally.bytes -= size
            self._room.weigh(header.queue, -1, -size)
            if header.tenant is not None:
                self._accounts.removed(header.tenant, task.state, size)
            waited.append(U64.pack(task_id))
            commands += [waited[-1]] if header.type == SHELL else []
        let_go(self._txn, self._db, commands, self._freeing)
        forget(self._txn, self._db, waited)
        self._forget(ended)
        return gone

    def _forget(self, ended: Sequence[Ended]) -> list[tuple[int, bool]]:
        """Forget the finished tasks of these history entries: (id, had output)."""
        keys = [key[9:] for key, _ in ended]
        outputs: list[bool] = []
        sums: dict[tuple[int, int], list[int]] = {}  # by state and tally: tasks, bytes
        for key, value in ended:
            number, output, size = ENDED.unpack(value)
            outputs.append(output > 0)
            done = sums.setdefault((key[0], number), [0, 0])
            done[0] += 1
            done[1] += size
        if shell := {number for _, number in sums if self._tally_of[number].type == SHELL}:
            let_go(self._txn, self._db, [key[9:] for key, value in ended if ENDED.unpack(value)[0] in shell], self._freeing)
        forget(self._txn, self._db, keys)
        for (kind, number), (count, size) in sums.items():
            state, tally = State(kind), self._tally_of[number]
            tally.states[state] -= count
            self._keep(tally, state, -count, -size)
            self._dirty[number] = tally
        return list(zip((task_id for (task_id,) in U64.iter_unpack(b"".join(keys))), outputs, strict=True))

    def short(self) -> bool:
        self._room.look(self._txn, self._now)
        return self._room.short or self._room.tight

    @guarded
    def retain(self, limits: Limits, most: int) -> list[tuple[int, bool]]:
        self._flush()
        counts, cursor = self._finals, self._txn.cursor(self._db["history"])
        ended: list[Ended] = []
        groups = ((_KEPT_ALIKE, limits.keep_ms), ((State.FAILED,), limits.keep_failed_ms))
        for failed in (True, False):
            states, keep_ms = groups[failed]
            there = [s for s in states if counts[s]]
            over = sum(counts[s] for s in there) - limits.keep, self._kept[failed] - limits.keep_bytes
            ended += take_oldest(cursor, there, over, self._now - keep_ms, most - len(ended), self._is_sound_end)
        if self.short():
            there = [s for s in _KEPT_ALIKE if counts[s]]
            room, before = (most - len(ended) if self._room.short else 0, 0), self._now - KEPT_AT_LEAST_MS
            ended += take_oldest(cursor, there, room, before, most - len(ended), self._is_sound_end)
        if self._room.short and counts[State.FAILED]:
            ended += take_oldest(cursor, [State.FAILED], (most - len(ended), 0), 0, most - len(ended), self._is_sound_end)
        oldest = (self._now - limits.keep_requests_ms) // 60_000 - 1
        drop_requests(self._txn.cursor(self._db["requests"]), oldest, most)
        return self._forget(ended) if ended else []

"""The mirrors of the LMDB store, filled from what is committed.

For: a start, and what follows an aborted turn.
Not for: what the mirrors are for (hot.py, lanes.py, lookup.py), keeping them right while turns go on.
Runs in: the daemon, inside the LMDB store.
Promises: costs O(lanes + tenants + running + types), never O(tasks); a task that ran and cannot be read stops none that can.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import lmdb

from tq.errors import StoreDamaged
from tq.model import State, spec_of, status_row
from tq.store import Chore, Resource, Schedule, Tally, Tenant, TypeInfo, queue_of
from tq.store.accounts import Accounts, count_once
from tq.store.again import Again
from tq.store.files import COPIED, unreadable
from tq.store.keys import COUNTED, MALFORMED, PAIR, READY, RUNG, TIMER, U32, U64, Batch, Run, counters_of, lane_key, opened
from tq.store.lanes import Lanes
from tq.store.leases import Leases
from tq.store.limits import Limit
from tq.store.lines import Lane
from tq.store.needs import hold
from tq.store.tenants import quota_of

_log = logging.getLogger("tq.store")
GATHERED = ("ready", "states", "history", "timers", "requests", "children", "environments")
_RUNNING, _SUCCEEDED = State.RUNNING, State.SUCCEEDED


class Loading(Again):
    """The part of ``LmdbStore`` that fills its mirrors."""

    _path: Path
    copied: bool

    def _clear(self) -> None:
        """Nothing gathered, nothing mirrored."""
        self._tasks: list[tuple[bytes, bytes]] = []
        self._gathered: dict[str, list[tuple[bytes, bytes]]] = {n: [] for n in GATHERED}
        self._ended: list[bytes] = []
        self._dirty: dict[int, Tally] = {}
        self._lanes = Lanes()
        self._empty: dict[int, Lane] = {}
        self._running: dict[int, Run] = {}
        self._leases = Leases()
        self._fresh: list[int] = []
        self._parents = set()
        self._tally: dict[tuple[str, str], tuple[int, Tally]] = {}
        self._tally_of: dict[int, Tally] = {}
        self._types: dict[str, TypeInfo] = {}
        self._standings: dict[tuple[str, str], Sequence[Any]] = {}
        self._accounts = Accounts()
        self._chores: dict[int, Chore] = {}
        self._schedules: dict[int, Schedule] = {}
        self._first_slot = None
        self._room.load.clear()
        self._freeing: list[str] = []
        self._finals, self._kept = [0] * len(State), [0, 0]
        self._id = self._seq = self._batch = self._chore = self._event = 0
        self._next_timer: int | None = None

    def _load(self) -> None:
        """Fill the mirrors from what is committed: O(lanes + tenants + running + types), never O(tasks). StoreDamaged; StoreError."""
        try:
            self._fill()
        except lmdb.Error as e:
            raise unreadable(self._path, e) from e
        except MALFORMED as e:
            raise StoreDamaged(
                f"{self._path}: expected the records of a store, got others ({type(e).__name__}: {e!s:.100}). "
                "Nothing was changed. Run `tq verify`, restore a backup, or choose another --data-dir."
            ) from e

    def _fill(self) -> None:
        with self._env.begin() as txn:
            self.copied = txn.get(COPIED, db=self._db["meta"]) is not None
            self._id, self._seq, self._batch, self._chore = counters_of(txn.get(COUNTED, db=self._db["tallies"]))
            for key, value in txn.cursor(self._db["queues"]):
                self._lanes.line(key.decode()).info = queue_of(opened(value, "a queue"))
            for _, value in txn.cursor(self._db["resources"]):
                resource = Resource(*opened(value, "a resource"))
                self._lanes.totals[resource.name] = resource.amount
            for _, value in txn.cursor(self._db["standings"]):
                kind, name, row = opened(value, "a standing")
                self._standings[kind, name] = row
            for _, value in txn.cursor(self._db["tenants"]):
                tenant = Tenant(*opened(value, "a tenant"))
                self._accounts.tenants[tenant.name] = tenant
                self._lanes.weigh(tenant.name, tenant.weight)
            self._accounts.load(value for _, value in txn.cursor(self._db["accounts"]))
            self._load_limits(txn)
            for _, value in txn.cursor(self._db["types"]):
                info = TypeInfo(*opened(value, "a type"))
                self._types[info.name] = info
            for _, value in txn.cursor(self._db["chores"]):
                chore = Chore(*opened(value, "a chore"))
                self._chores[chore.id] = chore
            for _, value in txn.cursor(self._db["schedules"]):
                schedule = Schedule(*opened(value, "a schedule"))
                self._schedules[schedule.number] = schedule
            for key, value in txn.cursor(self._db["tallies"]):
                if key == COUNTED:
                    continue
                number, tally = U32.unpack(key)[0], Tally(*opened(value, "a tally"))
                self._tally[tally.queue, tally.type] = (number, tally)
                self._tally_of[number] = tally
                self._room.weigh(tally.queue, sum(tally.states[:_SUCCEEDED]), tally.bytes)
                self._finals = [a + b for a, b in zip(self._finals, tally.states, strict=True)]
                self._kept = [a + b for a, b in zip(self._kept, tally.kept, strict=True)]
            ready = txn.cursor(self._db["ready"])
            for key, value in txn.cursor(self._db["lanes"]):
                self._find_heads(ready, self._lanes.add(U32.unpack(key)[0], lane_key(opened(value, "a lane"))))
            self._lanes.loaded()
            for key, value in txn.cursor(self._db["running"]):
                self._load_batch(txn, U64.unpack(key)[0], opened(value, "a running record"))
            newest = txn.cursor(self._db["events"])
            self._event = U64.unpack(newest.key())[0] if newest.last() else 0
            self._load_parents(txn)
            self._read_next_timer(txn)

    def _count_tenants(self) -> None:
        """Count the tasks of a store that was made before tenants had accounts: its first start takes O(tasks)."""
        try:
            with self._env.begin(write=True) as txn:
                count_once(txn, self._db)
        except lmdb.Error as e:
            raise unreadable(self._path, e) from e

    def _load_limits(self, txn: Any) -> None:
        gates = self._lanes.gates
        gates.now = self._now
        limits = [Limit(*opened(value, "a limit")) for _, value in txn.cursor(self._db["limits"])]
        limits += [quota for tenant in self._accounts.tenants.values() if (quota := quota_of(tenant)) is not None]
        gates.limits = {limit.name: limit for limit in limits}
        for _, value in txn.cursor(self._db["tokens"]):
            name, of, *bucket = opened(value, "tokens")
            if name in gates.limits:
                gates.add(gates.limits[name], of, (bucket[0], bucket[1], bucket[2]))

    def _load_batch(self, txn: Any, number: int, row: list[Any]) -> None:
        worker, claimed_at, lease_ms, ids, claims = row
        batch = Batch(number, worker, claimed_at, lease_ms)
        for task_id, claim in zip(ids, claims or [1] * len(ids), strict=True):
            key = U64.pack(task_id)
            record, state = txn.get(key, db=self._db["tasks"]), txn.get(key, db=self._db["states"])
            try:
                past = status_row(task_id, state) if state else None
                if record is None or (past and (past[1] > claim or (past[1] == claim and past[0] != _RUNNING))):
                    continue
                spec = spec_of(task_id, record)
            except StoreDamaged as error:  # nobody can settle it; it must not stop those that can be
                _log.error("task %d ran, and is left as it is: %s", task_id, error)
                continue
            batch.left += 1
            self._lanes.line(spec.header.queue).running += spec.header.slots
            hold(self._lanes.used, spec.header.needs, local=not lease_ms)
            self._lanes.runs(spec.header)
            if spec.header.tenant is not None:
                self._accounts.runs(spec.header.tenant)
            seq = past[2] if past else spec.seq
            self._running[task_id] = (claim, batch, seq, len(spec.payload), past, spec.header, bool(spec.expires_at))
            if lease_ms:
                self._fresh.append(task_id)

    def _find_head(self, ready: Any, lane: Lane, level: int) -> None:
        """Look up the first ready task of ``lane`` at ``level``."""
        head = None
        if ready.set_range(READY.pack(lane.number, level, 0)) and ready.key()[: RUNG.size] == RUNG.pack(lane.number, level):
            head = (READY.unpack(ready.key())[2], PAIR.unpack(ready.value()[:16])[1])
        self._lanes.set_head(lane, level, head)
        if not lane.heads:
            self._empty[lane.number] = lane

    def _find_heads(self, ready: Any, lane: Lane) -> None:
        """Look up the heads of all levels of ``lane``."""
        number = U32.pack(lane.number)
        there = ready.set_range(number)
        while there and ready.key()[:4] == number:
            _, level, seq = READY.unpack(ready.key())
            self._lanes.set_head(lane, level, (seq, PAIR.unpack(ready.value()[:16])[1]))
            there = ready.set_range(RUNG.pack(lane.number, level + 1))
        if not lane.heads:
            self._empty[lane.number] = lane

    def _read_next_timer(self, txn: Any) -> None:
        cursor = txn.cursor(self._db["timers"])
        self._next_timer = TIMER.unpack(cursor.key())[0] if cursor.first() else None

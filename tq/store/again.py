"""The second hot path of the LMDB store: what fails and is retried, and what comes due, a batch at a time.

For: ``running``, ``retry_later`` and ``promote``.
Not for: whether a task is retried and when (lifecycle), every other change of a task (lmdb.py).
Runs in: the daemon, on the thread of its loop, in the transaction of a turn.
Promises: what is written is what the table of transitions would have written, byte for byte; a record is decoded only where
its contents matter; a task whose records cannot be read holds up nobody.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence

from tq.errors import StoreDamaged
from tq.model import HEAD, Header, State, Status, header_of, unseal
from tq.store import SCAN_MOST, Failure, Running
from tq.store.hot import HotPath
from tq.store.keys import DUE, PAIR, PAST, READY, TIMER, U64
from tq.store.records import made_pending, retry_later
from tq.store.room import guarded

_log = logging.getLogger("tq.store")


class Again(HotPath):
    """What ``LmdbStore`` is made of, with all that is hot."""

    def running(self, ids: Sequence[int]) -> list[Running | None]:
        found: list[Running | None] = []
        for task_id in ids:
            run = self._running.get(task_id)
            if run is None:
                found.append(None)
                continue
            claim, _, _, _, past, header, expires = run
            asked = past is not None and past[11]
            plain = not (asked or expires or header.deadline_ms or header.retry_for_ms or header.once)
            found.append(Running(claim, header, past[8] if past is not None else 0, plain))
        return found

    @guarded
    def retry_later(self, failures: Sequence[Failure]) -> list[bool]:
        held: list[bool] = []
        running, states, timers = self._running, self._gathered["states"], self._gathered["timers"]
        sums: dict[tuple[str, str, str | None], tuple[Header, dict[int, int]]] = {}  # by queue, type and tenant: how many ran how long
        for task_id, claim, started_at, finished_at, output, details, due_at in failures:
            run = running.get(task_id)
            if run is None or run[0] != claim:
                held.append(False)
                continue
            held.append(True)
            _, batch, _, _, past, header, _ = run
            del running[task_id]
            record = retry_later(task_id, past, claim, batch.worker, started_at, finished_at, output, details, due_at)
            states.append((U64.pack(task_id), record))
            timers.append((TIMER.pack(due_at, DUE, task_id), b""))
            batch.left -= 1
            if not batch.left:
                self._ended.append(U64.pack(batch.number))
            if batch.lease_ms:
                self._leases.drop(task_id)
            if header.needs or self._lanes.gates.limits:
                self._lanes.freed(header, local=not batch.lease_ms)
            kind = (header.queue, header.type, header.tenant)
            if kind not in sums:
                sums[kind] = (header, {})
            took, ms = sums[kind][1], finished_at - started_at
            took[ms] = took.get(ms, 0) + 1
        for header, took in sums.values():
            tally, count = self._tally_for(header), sum(took.values())
            tally.states[State.RUNNING] -= count
            tally.states[State.RETRYING] += count
            tally.retried += count
            self._lanes.ended(self._lanes.line(header.queue), count)
            if header.tenant is not None:
                self._accounts.ran(header.tenant, State.RETRYING, count, 0, sum([max(ms, 0) * runs for ms, runs in took.items()]))
            for ms, runs in took.items():
                tally.ran(ms, runs)
        return held

    @guarded
    def promote(self, limit: int) -> list[int]:
        self._flush()
        promoted: list[int] = []
        looked, cursor = 0, self._txn.cursor(self._db["timers"])
        more = cursor.first()
        while more and len(promoted) < limit and looked < max(limit, SCAN_MOST):
            looked += 1
            at, kind, task_id = TIMER.unpack(cursor.key())
            if at > self._now:
                break
            if kind != DUE:  # within an instant the due come first
                more = cursor.set_range(TIMER.pack(at + 1, DUE, 0))
                continue
            try:
                if self._promote(at, task_id):
                    promoted.append(task_id)
            except (StoreDamaged, IndexError) as error:
                _log.error("task %d cannot be read and does not come due: %s", task_id, error)
            more = cursor.delete() and bool(cursor.key())
        return promoted

    def _promote(self, at: int, task_id: int) -> bool:
        """Make a task pending whose timer this is; False if the timer means nothing any more."""
        key = U64.pack(task_id)
        record = self._txn.get(key, db=self._db["tasks"])
        if record is None or task_id in self._running:
            return False
        body = unseal(record, "task", task_id)
        _, _, seq, due_at, _, length = HEAD.unpack_from(body)
        header = header_of(body[HEAD.size : HEAD.size + length])
        status = self._txn.get(key, db=self._db["states"])
        if status is None:
            if seq or due_at != at:
                return False
            state, status = State.SCHEDULED, Status(State.PENDING, seq=self._seq + 1, ready_at=self._now).record(task_id)
        else:
            found = made_pending(task_id, status, at, self._seq + 1, self._now)
            if found is None:
                return False
            state, status = found
        self._seq += 1
        self._gathered["states"].append((key, status))
        self._make_ready(header, task_id, state)
        return True

    def _make_ready(self, header: Header, task_id: int, state: State) -> None:
        """Put a task at the end of its rung that was in ``state`` until now."""
        lane, level = self._lane(header), 9 - header.priority
        self._gathered["ready"].append((READY.pack(lane.number, level, self._seq), PAIR.pack(task_id, self._now) + PAST))
        if level not in lane.heads:
            self._lanes.set_head(lane, level, (self._seq, self._now))
            self._empty.pop(lane.number, None)
        tally = self._tally_for(header)
        tally.states[state] -= 1
        tally.states[State.PENDING] += 1
        if header.tenant is not None:
            self._accounts.moved(header.tenant, state, State.PENDING)

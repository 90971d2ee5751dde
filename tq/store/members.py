"""Members: which batches there are in the LMDB store, and how many of their tasks stand where.

For: the records in ``batches``, and what moves there while a turn goes on.
Not for: what a batch is (batches.py), when one is over and what is sent then (the broker's batches).
Runs in: the daemon, inside the LMDB store, in the transaction of a turn.
Promises: the counts are written with the changes of the members, so they are exact after a crash and after an abort; a batch is
read when somebody looks at it, and never at the start; tasks of no batch cost a look at a number.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from tq.errors import StoreDamaged, TqError
from tq.model import HEAD, State, header_of, unseal
from tq.store.batches import PLACE, PLACES, BatchInfo, Moves, batch_of, ends_in, move, moved, moves
from tq.store.files import Dbs
from tq.store.keys import BATCH, MALFORMED, TIMER, U64, opened, sealed
from tq.store.lookup import Lookup

CACHED = 256
"""Batches that are kept in memory between two turns."""
LAST = b"last"
"""The key of the last number given."""


class Headcount:
    """Members counted one by one, and held against what batches say: for `tq verify`."""

    def __init__(self) -> None:
        self._found: dict[int, list[int]] = {}

    def count(self, number: int, state: State) -> None:
        self._found.setdefault(number, [0] * len(PLACES))[PLACE[state]] += 1

    def problems(self, txn: Any, dbs: Dbs, *, sure: bool) -> Iterator[str]:
        """Each batch decodes, and counts its members: those that live exactly, those that are over and kept at the least. Not ``sure``:
        some tasks could not be read, so nobody knows whose members they are."""
        last = 0
        for key, value in txn.cursor(dbs["batches"]) if "batches" in dbs else ():
            number = U64.unpack(key)[0] if len(key) == U64.size else 0
            what = f"batch {number}" if number else "the last batch"
            try:
                if key == LAST:
                    last = opened(value, what)[0]
                elif number:
                    info = batch_of(opened(value, what), opened(txn.get(key + b"s", db=dbs["batches"]), what))
                    if info.number != number:
                        yield f"{what}: expected a record of that number, got that of {info.number!r:.100}."
                    elif sure:
                        yield from self._differences(info)
            except TqError as error:
                yield error.message
            except MALFORMED as error:
                yield f"{what}: expected a record of its kind, got another ({type(error).__name__}: {error!s:.100})."
        if max(self._found, default=0) > last:
            yield f"batch {max(self._found)}: expected a number up to the last one given, {last}."

    def _differences(self, info: BatchInfo) -> Iterator[str]:
        found = self._found.get(info.number, [0] * len(PLACES))
        said = dict(zip(PLACES, info.counts, strict=True))
        for place, have, count in zip(PLACES, found, info.counts, strict=True):
            if (have != count) if place in ("waiting", "running") else have > count:
                yield f"batch {info.number}: its counts say {said}, a recount finds {have} {place}."


class Members(Lookup):
    """The part of ``LmdbStore`` that keeps them: a record of what was said, and one of how it stands."""

    _batches: dict[int, BatchInfo]  # as far as they were looked at
    _moves: dict[int, Moves]  # since they were
    _changed: set[int]  # whose records are to be written
    _touched: set[int]

    def _clear_batches(self) -> None:
        self._batches, self._moves, self._changed, self._touched = {}, {}, set(), set()

    def _moves_of(self, number: int) -> Moves:
        found = self._moves.get(number)
        if found is None:
            found = self._moves[number] = moves()
        return found

    def _member_moved(self, number: int, was: State, now: State) -> None:
        move(self._moves_of(number), was, now)
        if ends_in(was, now):
            self._touched.add(number)

    def put_batch(self, batch: BatchInfo) -> BatchInfo:
        txn, db = self._txn, self._db["batches"]
        if not batch.number:
            last = txn.get(LAST, db=db)
            batch = replace(batch, number=(opened(last, "the last batch")[0] if last is not None else 0) + 1)
            txn.put(LAST, sealed([batch.number]), db=db)
            txn.put(U64.pack(batch.number), sealed(batch.said()), db=db)
        old = self.batch(batch.number)
        if batch.finished_at and (old is None or old.finished_at != batch.finished_at):
            txn.put(TIMER.pack(batch.finished_at + self._limits.keep_failed_ms, BATCH, batch.number), b"", db=self._db["timers"])
        self._batches[batch.number] = batch
        self._changed.add(batch.number)
        self._touched.add(batch.number)
        return batch

    def drop_batch(self, number: int) -> None:
        for key in (U64.pack(number), U64.pack(number) + b"s"):
            self._txn.delete(key, db=self._db["batches"])
        for kept in (self._batches, self._moves):
            kept.pop(number, None)
        self._changed.discard(number)
        self._touched.discard(number)

    def touched(self) -> list[int]:
        if not self._touched:
            return []
        found = sorted(self._touched)
        self._touched.clear()
        return found

    def batch(self, number: int) -> BatchInfo | None:
        info = self._batches.get(number)
        if info is None:
            info = self._read_batch(number)
            if info is None:
                self._moves.pop(number, None)  # it was forgotten before its members
                return None
            self._batches[number] = info
        made = self._moves.pop(number, None)
        if made is not None:
            info = self._batches[number] = moved(info, made)
            self._changed.add(number)
        return info

    def _read_batch(self, number: int) -> BatchInfo | None:
        key = U64.pack(number)
        with self._view() as txn:
            said, stands = txn.get(key, db=self._db["batches"]), txn.get(key + b"s", db=self._db["batches"])
        if said is None:
            return None
        what = f"batch {number}"
        return batch_of(opened(said, what), opened(stands, what) if stands is not None else BatchInfo(number).stands())

    def batches(self, before: int | None, limit: int, *, oldest: bool = False) -> list[BatchInfo]:
        numbers: list[int] = []
        with self._view() as txn:
            cursor = txn.cursor(self._db["batches"])
            if oldest:
                more = cursor.first()
            else:
                more = cursor.prev() if cursor.set_range(LAST if before is None else U64.pack(max(before, 0))) else cursor.last()
            while more and len(numbers) < limit:
                if len(cursor.key()) == U64.size:
                    numbers.append(U64.unpack(cursor.key())[0])
                more = cursor.next() if oldest else cursor.prev()
        return [info for number in numbers if (info := self.batch(number)) is not None]

    def batch_count(self) -> int:
        with self._view() as txn:
            return int(txn.stat(self._db["batches"])["entries"]) // 2

    def _write_batches(self) -> None:
        """Before the commit: how each of those that changed stands."""
        for number in [*self._moves]:
            self.batch(number)
        for number in self._changed:
            self._txn.put(U64.pack(number) + b"s", sealed(self._batches[number].stands()), db=self._db["batches"])
        self._changed.clear()
        if len(self._batches) > CACHED:
            self._batches.clear()

    def _batch_of(self, task_id: int) -> int:
        """The batch of a task that cannot be read whole, if that much can be; 0: nobody knows, and `tq verify` tells of the batch."""
        try:
            body = unseal(self._txn.get(U64.pack(task_id), db=self._db["tasks"]) or b"", "task", task_id)
            return header_of(body[HEAD.size : HEAD.size + HEAD.unpack_from(body)[5]]).batch
        except (StoreDamaged, *MALFORMED):
            return 0

    def _lapse_batch(self, number: int) -> None:
        """A timer of one that was over is due: it is forgotten, unless it has lived again since."""
        info = self.batch(number)
        if info is not None and 0 < info.finished_at <= self._now - self._limits.keep_failed_ms:
            self.drop_batch(number)

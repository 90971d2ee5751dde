"""Ordering: whose turn it is among the tasks of an ordering key in the LMDB store.

For: the entries in ``orders``, from the acceptance of a task with an ordering key to its end; ``turns ordered``.
Not for: what becomes of a task whose turn it is (lifecycle), when that is asked for (broker), the layout (orders.py).
Runs in: the daemon, inside the LMDB store, in the transaction of a turn.
Promises: in each line it is one task's turn, and no other of it is ready or runs; the next one's turn comes in the transaction in
which that one leaves; tasks without an ordering key cost nothing. A task that cannot be read holds up nobody once it is forgotten.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from tq.errors import StoreDamaged
from tq.lifecycle import in_line
from tq.model import Header, Spec, State, Status, Task, spec_of
from tq.store.children import Children
from tq.store.keys import U64
from tq.store.orders import line_of, order_key, turn_key, turn_record, whose_turn
from tq.store.retention import Ended
from tq.store.room import guarded

_log = logging.getLogger("tq.store")
_HOLDING = (State.FAILED, State.EXPIRED)


class Ordering(Children):
    """What ``LmdbStore`` is made of, between its children and the hot path."""

    _ordered: bool  # whether any task ever stood in a line: else nobody need look
    _vacant: dict[bytes, None]  # lines of which nobody has the turn, though some may wait for it

    def _load_orders(self, txn: Any) -> None:
        self._ordered = txn.stat(self._db["orders"])["entries"] > 0

    # -- coming and going ------------------------------------------------------------------------------------------

    def _line_up(self, header: Header, first: int, count: int) -> bool:
        """So many tasks have come, from an id on, as the last of their line; whether it is the first one's turn at once."""
        line, db = line_of(order_key(header)), self._db["orders"]
        self._ordered = True
        free = self._txn.get(turn_key(line), db=db) is None and not (line in self._vacant and self._first_behind(line))
        if free:
            self._txn.put(turn_key(line), turn_record(first), db=db)
        behind = [(line + U64.pack(one), b"") for one in range(first + free, first + count)]
        if behind:
            self._txn.cursor(db).putmulti(behind)
        return free

    def _leave_line(self, header: Header, task_id: int) -> bool:
        """A task goes from its line; whether it was behind others."""
        line, db = line_of(order_key(header)), self._db["orders"]
        if self._txn.delete(line + U64.pack(task_id), db=db):
            return True
        if self._txn.get(turn_key(line), db=db) == turn_record(task_id):
            self._txn.delete(turn_key(line), db=db)
            self._vacant[line] = None
        return False

    def _follow(self, task: Task, spec: Spec, new: Status) -> Status:
        """Let a task's place follow its change: the status as it is with that."""
        was, now = task.spec.header, spec.header
        if now.order is None:
            return new
        stood, stands = in_line(was, task.state), in_line(now, new.state)
        lives_again = task.state.final and not new.state.final
        if stood and stands and was.queue == now.queue and not lives_again:
            return new
        line, db = line_of(order_key(now)), self._db["orders"]
        if stood and stands and was.queue == now.queue and self._txn.get(turn_key(line), db=db) == turn_record(task.id):
            return new  # it had failed, and kept its turn
        behind = stood and self._leave_line(was, task.id)
        if not stands:
            return new
        self._txn.put(line + U64.pack(task.id), b"", db=db)
        self._vacant[line] = None
        self._ordered = True
        if behind and task.state is State.BLOCKED:  # that is counted already
            return new
        return replace(new, state=State.BLOCKED, waits=new.waits + 1, seq=0, ready_at=0)

    def _forget_places(self, ended: Sequence[Ended]) -> None:
        """Finished tasks are forgotten; those that had failed may have held up others."""
        for key, _ in ended if self._ordered else ():
            if key[0] not in _HOLDING:
                continue
            task_id = U64.unpack(key[9:])[0]
            record = self._txn.get(key[9:], db=self._db["tasks"])
            try:
                header = spec_of(task_id, record).header if record is not None else None
            except (StoreDamaged, ValueError, TypeError) as error:
                _log.error("task %d is forgotten, wherever it stood: %s", task_id, error)
                self._lose(task_id)
                continue
            if header is not None and header.order is not None:
                self._leave_line(header, task_id)

    def _lose(self, task_id: int) -> None:
        """A task goes from its line whose specification cannot be read: a walk over all lines."""
        found, cursor = U64.pack(task_id), self._txn.cursor(self._db["orders"])
        more = cursor.first() if self._ordered else False
        while more:
            key = cursor.key()
            mine = key[-8:] == found or (key[-8:] == U64.pack(0) and cursor.value() == turn_record(task_id))
            if mine and key[-8:] != found:
                self._vacant[key[:-8]] = None
            more = (cursor.delete() and bool(cursor.key())) if mine else cursor.next()

    # -- whose turn it is ------------------------------------------------------------------------------------------

    @guarded
    def turns(self, limit: int) -> list[int]:
        found: list[int] = []
        db = self._db["orders"]
        while self._vacant and len(found) < limit:
            line, _ = self._vacant.popitem()
            if self._txn.get(turn_key(line), db=db) is not None:
                continue
            if task_id := self._first_behind(line):
                self._txn.delete(line + U64.pack(task_id), db=db)
                self._txn.put(turn_key(line), turn_record(task_id), db=db)
                found.append(task_id)
        return found

    def _first_behind(self, line: bytes) -> int:
        """The first of a line after the one whose turn it is; 0: there is none."""
        cursor = self._txn.cursor(self._db["orders"])
        there = cursor.set_range(line + U64.pack(1)) and cursor.key().startswith(line)
        return int(U64.unpack(cursor.key()[-8:])[0]) if there else 0

    def ordered(self, queue: str, order: str, limit: int) -> list[int]:
        line = line_of((queue, order))
        with self._view() as txn:
            turn = whose_turn(txn.get(turn_key(line), db=self._db["orders"]), line)
            found = [turn] if turn else []
            cursor = txn.cursor(self._db["orders"])
            more = cursor.set_range(line + U64.pack(1))
            while more and len(found) < limit and cursor.key().startswith(line):
                found.append(U64.unpack(cursor.key()[len(line) :])[0])
                more = cursor.next()
        return found[:limit]

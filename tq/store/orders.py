"""Orders: the lines in which tasks of one ordering key of a queue stand, as every store keeps them.

For: what a store answers about them; the layout of ``orders`` in the LMDB store, and whether it is whole.
Not for: which task is in a line (``lifecycle.in_line``), keeping the lines (ordering.py, ordered.py).
Runs in: the daemon; ``tq verify``.
Promises: a line has one task whose turn it is, and those behind it, by id: that is the order in which they were accepted. The keys of
a line stand together, whose turn it is before those behind.
"""

from __future__ import annotations

import struct
from typing import Any, Protocol

from tq.lifecycle import in_line
from tq.model import Header, Spec, State, seal, unseal

U64 = struct.Struct(">Q")

OrderKey = tuple[str, str]
"""A queue, and the ordering key that tasks of it share."""


class Orders(Protocol):
    """What a store is asked about lines. A task with an ordering key stands in that of its queue while ``lifecycle.in_line``: the first
    that comes has the turn, those after it are blocked, each with one more in ``waits`` than parents. So is what comes back to life or
    moves to another queue, whatever its transition says. Whose end or removal leaves a line without a turn is asked for with ``turns``.
    """

    def turns(self, limit: int) -> list[int]:
        """Those whose turn it is now, since whoever had it before them has left the line in this turn; they have it from now on."""

    def ordered(self, queue: str, order: str, limit: int) -> list[int]:
        """The tasks in the line of an ordering key: the one whose turn it is, and those behind it as they follow."""


def order_key(header: Header) -> OrderKey:
    """In which line such tasks stand."""
    return header.queue, header.order or ""


def line_of(key: OrderKey) -> bytes:
    """What the keys of a line begin with."""
    queue, order = (part.encode("utf-8", "surrogatepass") for part in key)
    return bytes((len(queue), len(order))) + queue + order


def turn_key(line: bytes) -> bytes:
    """Where it stands whose turn it is."""
    return line + U64.pack(0)


def turn_record(task_id: int) -> bytes:
    return seal(U64.pack(task_id))


def whose_turn(record: bytes | None, line: bytes) -> int:
    """The task whose turn it is; 0: nobody's. StoreDamaged; struct.error."""
    return 0 if record is None else int(U64.unpack(unseal(record, f"the turn of the line {line!r:.100}"))[0])


class LinesCheck:
    """Whether the lines of an LMDB store are those of its tasks: each task is ``seen``, then what is left over is looked for."""

    def __init__(self, txn: Any, db: Any) -> None:
        self._txn, self._db = txn, db
        self._members = 0

    def seen(self, spec: Spec, state: State) -> tuple[bool, str | None]:
        """Whether a task stands behind others; and what is wrong with its place, if anything."""
        if spec.header.order is None:
            return False, None
        line = line_of(order_key(spec.header))
        behind = self._txn.get(line + U64.pack(spec.id), db=self._db) is not None
        turn = self._txn.get(turn_key(line), db=self._db) == turn_record(spec.id)
        places = behind + turn
        self._members += places
        if places == in_line(spec.header, state):
            return behind, None
        key = spec.header.order
        return behind, f"task {spec.id}: {state.word}, and has {places} places in the line of its ordering key {key!r:.100}."

    def problems(self) -> list[str]:
        """Lines without a turn, and places of tasks that should have none."""
        found, places, led = [], 0, b""
        for key, record in self._txn.cursor(self._db):
            places += 1
            line, task_id = key[:-8], int.from_bytes(key[-8:], "big")
            if not task_id:
                led = line
                if record != turn_record(int.from_bytes(record[:8], "big")):
                    found.append(f"orders {key.hex()}: the record fails its checksum.")
            elif line != led:
                led = line
                found.append(f"orders {key.hex()}: task {task_id} waits for its turn behind nobody.")
        if places != self._members:
            found.append(f"orders: expected the {self._members} places of the tasks that have an ordering key, got {places}.")
        return found

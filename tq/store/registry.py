"""What an LMDB store knows beside its tasks: types, queues, chores.

For: the small tables that are kept in memory and written through.
Not for: tasks.
Runs in: the daemon, inside the LMDB store, in the transaction of a turn.
Promises: what was put is there after a restart; an abort reloads all of it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from tq.errors import UsageError
from tq.model import pack
from tq.store import Chore, QueueInfo, TypeInfo
from tq.store.keys import U64
from tq.store.lookup import Lookup


class Registry(Lookup):
    """The writing half for settings; ``LmdbStore`` is made of it."""

    _chore: int

    def put_types(self, types: Sequence[TypeInfo]) -> None:
        for info in types:
            self._types[info.name] = info
            self._txn.put(info.name.encode(), pack(info.row()), db=self._db["types"])

    def put_queue(self, queue: QueueInfo) -> None:
        if queue.weight < 1:
            raise UsageError(f"queue {queue.name!r}: expected a weight of at least 1, got {queue.weight}.")
        self._lanes.configure(queue)
        self._txn.put(queue.name.encode(), pack(queue.row()), db=self._db["queues"])

    def put_chore(self, chore: Chore) -> Chore:
        if not chore.id:
            self._chore += 1
            chore = replace(chore, id=self._chore)
        self._chores[chore.id] = chore
        self._txn.put(U64.pack(chore.id), pack(chore.row()), db=self._db["chores"])
        return chore

    def drop_chore(self, chore_id: int) -> None:
        self._chores.pop(chore_id, None)
        self._txn.delete(U64.pack(chore_id), db=self._db["chores"])

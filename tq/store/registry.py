"""What an LMDB store knows beside its tasks: types, queues, chores, events.

For: the small tables that are kept in memory and written through; the bounded list of what operators did.
Not for: tasks.
Runs in: the daemon, inside the LMDB store, in the transaction of a turn.
Promises: what was put is there after a restart; an abort reloads all of it; the newest event is always kept, since the
next one's number follows from it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from tq.model import pack, unpack
from tq.store import SCAN_MOST, Chore, Event, QueueInfo, TypeInfo, checked
from tq.store.keys import U64
from tq.store.lookup import Lookup


class Registry(Lookup):
    """The writing half for settings; ``LmdbStore`` is made of it."""

    _chore: int
    _event: int

    def put_types(self, types: Sequence[TypeInfo]) -> None:
        for info in types:
            self._types[info.name] = info
            self._txn.put(info.name.encode(), pack(info.row()), db=self._db["types"])

    def put_queue(self, queue: QueueInfo) -> None:
        self._lanes.configure(checked(queue))
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

    def note(self, event: Event) -> Event:
        self._event += 1
        event = replace(event, number=self._event)
        self._txn.put(U64.pack(event.number), pack(event.row()), db=self._db["events"], append=True)
        oldest = U64.pack(max(event.number - max(self._limits.keep_events, 1) + 1, 0))
        cursor = self._txn.cursor(self._db["events"])
        more, most = cursor.first(), SCAN_MOST  # more than one only after the limit was lowered
        while more and most and cursor.key() < oldest:
            more, most = cursor.delete(), most - 1
        return event

    def events(self, before: int | None, limit: int) -> list[Event]:
        found: list[Event] = []
        with self._view() as txn:
            cursor = txn.cursor(self._db["events"])
            more = cursor.last() if before is None or not cursor.set_range(U64.pack(max(before, 0))) else cursor.prev()
            while more and len(found) < limit:
                found.append(Event(*unpack(cursor.value())))
                more = cursor.prev()
        return found

"""What an LMDB store knows beside its tasks: types, queues, chores, schedules, events.

For: the small tables that are kept in memory and written through; the bounded list of what operators did.
Not for: tasks.
Runs in: the daemon, inside the LMDB store, in the transaction of a turn.
Promises: what was put is there after a restart; an abort reloads all of it; the newest event is always kept, since the
next one's number follows from it; a schedule's timer is where its ``due_at`` says, and who is due is found without reading any.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import islice
from typing import Any

from tq.store import SCAN_MOST, Chore, Event, Loan, QueueInfo, Resource, Schedule, Tenant, TypeInfo, checked
from tq.store.keys import SLOT, TIMER, U64, opened, sealed, standing_key, tenant_key, tokens_key
from tq.store.limits import Bucket, Counted, Limit
from tq.store.lookup import Lookup
from tq.store.room import guarded
from tq.store.tenants import with_quota

NEVER = 1 << 63


class Registry(Lookup):
    """The writing half for settings; ``LmdbStore`` is made of it."""

    _chore: int
    _event: int
    _first_slot: int | None  # None: not known

    def put_types(self, types: Sequence[TypeInfo]) -> None:
        for info in types:
            self._types[info.name] = info
            self._txn.put(info.name.encode(), sealed(info.row()), db=self._db["types"])

    def put_queue(self, queue: QueueInfo) -> None:
        self._lanes.configure(checked(queue))
        self._txn.put(queue.name.encode(), sealed(queue.row()), db=self._db["queues"])

    def put_resource(self, resource: Resource) -> None:
        self._lanes.totals[resource.name] = resource.amount
        self._txn.put(resource.name.encode(), sealed(resource.row()), db=self._db["resources"])

    def drop_resource(self, name: str) -> None:
        self._lanes.totals.pop(name, None)
        self._txn.delete(name.encode(), db=self._db["resources"])

    def put_standing(self, kind: str, name: str, row: Sequence[Any] | None) -> None:
        key = standing_key(kind, name)
        if row is None:
            self._standings.pop((kind, name), None)
            self._txn.delete(key, db=self._db["standings"])
        else:
            self._standings[kind, name] = row
            self._txn.put(key, sealed([kind, name, row]), db=self._db["standings"])

    def put_limit(self, limit: Limit) -> None:
        self._relimit({**self._lanes.gates.limits, limit.name: limit})
        self._txn.put(limit.name.encode(), sealed(limit.row()), db=self._db["limits"])

    def drop_limit(self, name: str) -> None:
        self._relimit({other: limit for other, limit in self._lanes.gates.limits.items() if other != name})
        self._txn.delete(name.encode(), db=self._db["limits"])

    def put_tenant(self, tenant: Tenant) -> None:
        self._accounts.tenants[tenant.name] = tenant
        self._lanes.weigh(tenant.name, tenant.weight)
        self._requota(tenant.name)
        self._txn.put(tenant_key(tenant.name), sealed(tenant.row()), db=self._db["tenants"])

    def drop_tenant(self, name: str) -> None:
        self._accounts.tenants.pop(name, None)
        self._lanes.weigh(name, 1)
        self._requota(name)
        self._txn.delete(tenant_key(name), db=self._db["tenants"])

    def _requota(self, name: str) -> None:
        """What was set for a tenant is another now."""
        before = self._lanes.gates.limits
        limits = with_quota(before, name, self._accounts.tenants.get(name))
        if limits != before:
            self._relimit(limits)

    def _relimit(self, limits: dict[str, Limit]) -> None:
        """These are the limits from now on. Every lane is looked at."""
        gates, gone = self._lanes.gates.replaced(limits)
        gates.now = self._now
        for counted in gone:
            self._store_tokens(counted, None)
        self._lanes.limit(gates, [header for *_, header, _ in self._running.values()] if limits else ())

    def _store_tokens(self, counted: Counted, bucket: Bucket | None) -> None:
        key = tokens_key(counted)
        if bucket is None:
            self._txn.delete(key, db=self._db["tokens"])
        else:
            self._txn.put(key, sealed([*counted, *bucket]), db=self._db["tokens"])

    def put_chore(self, chore: Chore) -> Chore:
        if not chore.id:
            self._chore += 1
            chore = replace(chore, id=self._chore)
        self._chores[chore.id] = chore
        self._txn.put(U64.pack(chore.id), sealed(chore.row()), db=self._db["chores"])
        return chore

    def drop_chore(self, chore_id: int) -> None:
        self._chores.pop(chore_id, None)
        self._txn.delete(U64.pack(chore_id), db=self._db["chores"])

    @guarded
    def hold_names(self, loans: Sequence[Loan]) -> None:
        self._names.lend(self._txn, loans)

    @guarded
    def put_schedule(self, schedule: Schedule) -> Schedule:
        if not schedule.number:
            schedule = replace(schedule, number=max(self._schedules, default=0) + 1)
        self._set_timer(schedule.number, schedule.due_at)
        self._schedules[schedule.number] = schedule
        self._txn.put(U64.pack(schedule.number), sealed(schedule.row()), db=self._db["schedules"])
        return schedule

    @guarded
    def drop_schedule(self, number: int) -> None:
        self._set_timer(number, 0)
        self._schedules.pop(number, None)
        self._txn.delete(U64.pack(number), db=self._db["schedules"])

    def _set_timer(self, number: int, due_at: int) -> None:
        old = self._schedules.get(number)
        was = old.due_at if old is not None else 0
        if was == due_at:
            return
        if was:
            self._txn.delete(TIMER.pack(was, SLOT, number), db=self._db["timers"])
        if due_at:
            self._txn.put(TIMER.pack(due_at, SLOT, number), b"", db=self._db["timers"])
        self._first_slot = None

    def slots(self, limit: int) -> list[Schedule]:
        if self._first_slot is None:
            self._first_slot = min((one.due_at for one in self._schedules.values() if one.due_at), default=NEVER)
        if self._first_slot > self._now:
            return []
        due = [one for one in self._schedules.values() if 0 < one.due_at <= self._now]
        return sorted(due, key=lambda one: (one.due_at, one.number))[:limit]

    def note(self, event: Event) -> Event:
        self._event += 1
        event = replace(event, number=self._event)
        self._txn.put(U64.pack(event.number), sealed(event.row()), db=self._db["events"], append=True)
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
                found.append(Event(*opened(cursor.value(), "an event")))
                more = cursor.prev()
        return found

    def events_after(self, number: int, limit: int) -> list[Event]:
        with self._view() as txn:
            cursor = txn.cursor(self._db["events"])
            if not cursor.set_range(U64.pack(number + 1)):
                return []
            return [Event(*opened(record, "an event")) for record in islice(cursor.iternext(keys=False), limit)]

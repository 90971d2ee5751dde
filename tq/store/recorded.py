"""What a memory store knows beside its tasks: types, resources, chores, schedules, batches, events.

For: the small tables of ``MemoryStore``, as registry.py and batches.py have those of the LMDB store.
Not for: tasks, queues.
Runs in: the process that opens a memory store.
Promises: what is put in a turn is gone if that is lost.
"""

from __future__ import annotations

from bisect import insort
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from tq.errors import UsageError
from tq.model import MAX_NAME, State, is_name
from tq.store import Chore, Event, Limit, Limits, Loan, Resource, Schedule, Tenant, TypeInfo
from tq.store.batches import BatchInfo, ends_in, move, moves
from tq.store.snapshot import Contents, Owner
from tq.store.tenants import with_quota


class Recorded:
    """The part of the memory store that keeps what is no task."""

    _contents: Contents
    _limits: Limits

    def _turn(self) -> tuple[Contents, int]:
        raise NotImplementedError

    def note(self, event: Event) -> Event:
        mem, _ = self._turn()
        event = replace(event, number=mem.events[-1].number + 1 if mem.events else 1)
        mem.events = [*mem.events, event][-max(self._limits.keep_events, 1) :]
        return event

    def put_types(self, types: Sequence[TypeInfo]) -> None:
        mem, _ = self._turn()
        mem.types |= {info.name: info for info in types}

    def put_resource(self, resource: Resource) -> None:
        mem, _ = self._turn()
        mem.resources[resource.name] = resource.amount

    def drop_resource(self, name: str) -> None:
        self._turn()[0].resources.pop(name, None)

    def put_standing(self, kind: str, name: str, row: Sequence[Any] | None) -> None:
        mem, _ = self._turn()
        if row is None:
            mem.standings.pop((kind, name), None)
        else:
            mem.standings[kind, name] = row

    def put_limit(self, limit: Limit) -> None:
        mem, now = self._turn()
        mem.limit({**mem.limits, limit.name: limit}, now)

    def drop_limit(self, name: str) -> None:
        mem, now = self._turn()
        mem.limit({other: limit for other, limit in mem.limits.items() if other != name}, now)

    def put_tenant(self, tenant: Tenant) -> None:
        mem, now = self._turn()
        mem.tenants[tenant.name] = tenant
        mem.limit(with_quota(mem.limits, tenant.name, tenant), now)

    def drop_tenant(self, name: str) -> None:
        mem, now = self._turn()
        mem.tenants.pop(name, None)
        mem.limit(with_quota(mem.limits, name, None), now)

    def put_chore(self, chore: Chore) -> Chore:
        mem, _ = self._turn()
        if not chore.id:
            mem.last_chore += 1
            chore = replace(chore, id=mem.last_chore)
        mem.chores[chore.id] = chore
        return chore

    def drop_chore(self, chore_id: int) -> None:
        mem, _ = self._turn()
        mem.chores.pop(chore_id, None)

    def put_batch(self, batch: BatchInfo) -> BatchInfo:
        mem, _ = self._turn()
        if not batch.number:
            mem.last_batch += 1
            batch = replace(batch, number=mem.last_batch)
        old = mem.batches.get(batch.number)
        if batch.finished_at and (old is None or old.finished_at != batch.finished_at):
            insort(mem.timers, (batch.finished_at + self._limits.keep_failed_ms, "batch", batch.number))
        mem.batches[batch.number] = batch
        mem.touched.add(batch.number)
        return batch

    def drop_batch(self, number: int) -> None:
        mem, _ = self._turn()
        mem.batches.pop(number, None)
        mem.touched.discard(number)

    def _member_moved(self, number: int, was: State, now: State) -> None:
        mem, _ = self._turn()
        move(made := moves(), was, now)
        mem.member(number, made)
        if ends_in(was, now):
            mem.touched.add(number)

    def _lapse_batch(self, number: int) -> None:
        mem, now = self._turn()
        info = mem.batches.get(number)
        if info is not None and 0 < info.finished_at <= now - self._limits.keep_failed_ms:
            self.drop_batch(number)

    def touched(self) -> list[int]:
        found = sorted(self._contents.touched)
        self._contents.touched = set()
        return found

    def batch(self, number: int) -> BatchInfo | None:
        return self._contents.batches.get(number)

    def batches(self, before: int | None, limit: int, *, oldest: bool = False) -> list[BatchInfo]:
        numbers = sorted(self._contents.batches, reverse=not oldest)
        return [self._contents.batches[one] for one in numbers if oldest or before is None or one < before][:limit]

    def batch_count(self) -> int:
        return len(self._contents.batches)

    def hold_names(self, loans: Sequence[Loan]) -> None:
        mem, _ = self._turn()
        for name, *_ in loans:
            if not (is_name(name.type) and is_name(name.name)):
                raise UsageError(f"{name.kind}: expected a name and a type of 1 to {MAX_NAME} bytes. Nothing was changed.")
        for name, task_id, digest, until in loans:
            before = mem.names.get(name)
            if before is not None and before.until:
                mem.timers.remove((before.until, "key", before.id))
            mem.names[name] = Owner(task_id, digest, mem.free_name_at(until, task_id))

    def put_schedule(self, schedule: Schedule) -> Schedule:
        mem, _ = self._turn()
        schedule = schedule if schedule.number else replace(schedule, number=max(mem.schedules, default=0) + 1)
        mem.set_schedule(schedule.number, schedule)
        return schedule

    def drop_schedule(self, number: int) -> None:
        self._turn()[0].set_schedule(number, None)

    def slots(self, limit: int) -> list[Schedule]:
        mem, now = self._turn()
        return [mem.schedules[number] for at, kind, number in mem.timers if at <= now and kind == "slot"][:limit]

    def events(self, before: int | None, limit: int) -> list[Event]:
        return [event for event in reversed(self._contents.events) if before is None or event.number < before][:limit]

    def events_after(self, number: int, limit: int) -> list[Event]:
        return [event for event in self._contents.events if event.number > number][:limit]

    def types(self) -> dict[str, TypeInfo]:
        return dict(self._contents.types)

    def chores(self) -> list[Chore]:
        return [chore for _, chore in sorted(self._contents.chores.items())]

    def schedules(self) -> dict[str, Schedule]:
        return {one.name: one for _, one in sorted(self._contents.schedules.items())}

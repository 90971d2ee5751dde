"""What the memory store remembers, as one value that can be copied and written to a file.

For: the contents of ``MemoryStore``, their copy before a turn's first write, and the record of a snapshot.
Not for: any operation on them (memory.py).
Runs in: the process that opens a memory store.
Promises: a record that decodes is whole (format version and CRC-32 checked) and gives back all but the caches: whose turn
it is among the queues starts anew.
"""

from __future__ import annotations

import os
from bisect import insort
from collections import Counter
from collections.abc import Sequence
from copy import deepcopy
from dataclasses import dataclass, field, replace
from math import inf
from pathlib import Path
from typing import Any

from tq.environment import environment_key, input_of
from tq.errors import StoreError, StoreTooNew
from tq.model import Header, Spec, State, Status, pack, seal, spec_of, status_of, unpack, unseal
from tq.store import Account, Chore, Event, Held, KeyRef, Limit, QueueInfo, Schedule, Tally, Tenant, TypeInfo, queue_of
from tq.store.batches import BatchInfo, Moves, batch_of, moved
from tq.store.limits import FULL, Allowance, Bucket, Counted
from tq.store.needs import Key, hold, is_free
from tq.store.orders import OrderKey
from tq.store.shares import joins

FORMAT = 1
"""The format of a snapshot; the records in it have versions of their own."""

Timer = tuple[int, str, int]
"""(instant in ms, "due" | "expire" | "forget" | "key" | "lease", task id), or (instant, "slot" or "batch", its number)."""
Line = dict[int, list[tuple[int, int]]]
"""The pending tasks of a queue: by level, each sorted: (sequence, task id)."""


@dataclass(frozen=True, slots=True)
class Owner:
    """Who holds a name; ``until`` is when a key runs out, 0 while its task lives."""

    id: int
    digest: bytes
    until: int = 0


@dataclass(frozen=True, slots=True)
class Turn:
    """Whose turn it is, as seen by one queue: see ``tq.store.lanes``."""

    passed: float = 0.0
    back: bool = True
    at: int = 0
    clock: int = 0


@dataclass(frozen=True, slots=True)
class Had:
    """What a tenant has had of a queue: see ``tq.store.shares``."""

    passed: int = 0
    since: int = 0
    passed_over: int = 0


@dataclass(slots=True)
class Contents:
    """All that is remembered. Values are never changed in place, but for the lists and tallies that ``copy`` copies."""

    last_id: int = 0
    last_seq: int = 0
    last_chore: int = 0
    specs: dict[int, Spec] = field(default_factory=dict)
    statuses: dict[int, Status] = field(default_factory=dict)
    held: dict[int, tuple[Held, int]] = field(default_factory=dict)  # with the instant its lease lapses, 0: never
    timers: list[Timer] = field(default_factory=list)  # sorted
    ready: dict[str, Line] = field(default_factory=dict)  # by queue
    turns: dict[str, Turn] = field(default_factory=dict)  # by queue
    had: dict[tuple[str, str | None], Had] = field(default_factory=dict)  # by queue and tenant
    waiting: Counter[tuple[str, str | None]] = field(default_factory=Counter)  # how many tasks are ready
    queues: dict[str, QueueInfo] = field(default_factory=dict)
    types: dict[str, TypeInfo] = field(default_factory=dict)
    chores: dict[int, Chore] = field(default_factory=dict)
    schedules: dict[int, Schedule] = field(default_factory=dict)
    requests: dict[tuple[bytes, int], tuple[int, list[int]]] = field(default_factory=dict)  # when, and the ids
    tallies: dict[tuple[str, str], Tally] = field(default_factory=dict)
    names: dict[KeyRef, Owner] = field(default_factory=dict)
    events: list[Event] = field(default_factory=list)  # oldest first
    environments: dict[bytes, bytes] = field(default_factory=dict)  # packed, by key
    freed: list[str] = field(default_factory=list)  # names of inputs whose tasks are gone; not in a snapshot
    children: set[tuple[int, int]] = field(default_factory=set)  # (parent, blocked task that waits for it)
    first: dict[OrderKey, int] = field(default_factory=dict)  # whose turn it is in each line of an ordering key
    behind: set[tuple[str, str, int]] = field(default_factory=set)  # (queue, ordering key, id) of those behind them
    resources: dict[str, int] = field(default_factory=dict)  # how much there is, by name
    standings: dict[tuple[str, str], Sequence[Any]] = field(default_factory=dict)  # by kind and name
    limits: dict[str, Limit] = field(default_factory=dict)
    tokens: dict[Counted, Bucket] = field(default_factory=dict)
    tenants: dict[str, Tenant] = field(default_factory=dict)
    accounts: dict[str, Account] = field(default_factory=dict)  # without what follows from the tasks that are not over
    batches: dict[int, BatchInfo] = field(default_factory=dict)
    last_batch: int = 0
    touched: set[int] = field(default_factory=set)  # batches of which members ended; not in a snapshot
    over: dict[Key, int] = field(default_factory=dict)  # see needs.py; not in a snapshot
    needy: bool = False  # whether any task that was ready ever needed something: else nobody need look; not in a snapshot
    given: int = 0  # slots of workers that were given tasks in this turn; not in a snapshot

    def copy(self) -> Contents:
        return replace(
            self, specs=dict(self.specs), statuses=dict(self.statuses), held=dict(self.held), timers=list(self.timers),
            ready={name: {level: list(rung) for level, rung in line.items()} for name, line in self.ready.items()},
            turns=dict(self.turns), had=dict(self.had), waiting=Counter(self.waiting),
            queues=dict(self.queues), types=dict(self.types), chores=dict(self.chores),
            requests=dict(self.requests), tallies={key: copied(tally) for key, tally in self.tallies.items()},
            names=dict(self.names), events=list(self.events), schedules=dict(self.schedules), children=set(self.children),
            environments=dict(self.environments), freed=list(self.freed), resources=dict(self.resources),
            standings=dict(self.standings), over=dict(self.over), limits=dict(self.limits), tokens=dict(self.tokens),
            tenants=dict(self.tenants), accounts=deepcopy(self.accounts),
            first=dict(self.first), behind=set(self.behind),
            batches=dict(self.batches), touched=set(self.touched),
        )  # fmt: skip

    def queue(self, name: str) -> QueueInfo:
        return self.queues.get(name) or QueueInfo(name)

    def slots_left(self, queue: str) -> float:
        """How many more of its tasks may run."""
        slots = self.queue(queue).slots
        return slots - self.slots_taken(queue) if slots else inf

    def slots_taken(self, queue: str) -> int:
        """How many slots its tasks that run take."""
        headers = (self.specs[task_id].header for task_id in self.held)
        return sum(header.slots for header in headers if header.queue == queue)

    def used(self) -> dict[str, int]:
        """What tasks that run hold: see needs.py."""
        used: dict[str, int] = {}
        for held, _ in self.held.values():
            hold(used, self.specs[held.id].header.needs, local=not held.lease_ms)
        return used

    def lacks(self, queue: str, now: int) -> bool:
        """Whether each ready task of a queue needs more than is free, or has reached a limit."""
        allowance = self.allowance(now)
        if not self.needy and allowance is None:
            return False
        left, used = self.slots_left(queue), self.used()
        lanes = {self.specs[task_id].header.lane for rung in self.ready[queue].values() for _, task_id in rung}
        needs = {lane[4] for lane in lanes if allowance is None or allowance.room(lane) >= 1}
        return bool(lanes) and all(one and not is_free(one, left, self.resources, used) for one in needs)

    def allowance(self, now: int) -> Allowance | None:
        """What the limits allow; None: there are none."""
        if not self.limits:
            return None
        return Allowance(self.limits, self.running().__getitem__, lambda counted: self.tokens.get(counted, FULL), now)

    def running(self) -> Counter[Counted]:
        """How many tasks run of those that a limit counts together."""
        return Counter(one for task_id in self.held for one in self.counted(self.specs[task_id].header))

    def counted(self, header: Header) -> list[Counted]:
        """With whom the limits count a task."""
        found = [(name, limit.counts(header.lane)) for name, limit in self.limits.items()]
        return [(name, of) for name, of in found if of is not None]

    def account(self, name: str) -> Account | None:
        """What there is of a tenant, counted anew."""
        live = [(spec, self.statuses[one].state) for one, spec in self.specs.items() if spec.header.tenant == name]
        found = deepcopy(self.accounts.get(name))
        for spec, state in live:
            if found is not None and not state.final:
                found.states[state] += 1
                found.bytes += len(spec.payload)
        return found

    def put_back(self, now: int) -> None:
        """The clock may have been put back: no tokens are missing for longer than they can be."""
        self.tokens = {(name, of): self.limits[name].sound(bucket, now) for (name, of), bucket in self.tokens.items()}

    def limit(self, limits: dict[str, Limit], now: int) -> None:
        """These are the limits from now on; of those that only changed, what was taken stays taken."""
        tokens: dict[Counted, Bucket] = {}
        for (name, of), bucket in self.tokens.items():
            old, new = self.limits[name], limits.get(name)
            if new is not None and new.scope == old.scope and new.of in (None, of):
                tokens[name, of] = bucket if new == old else new.carried(bucket, old, now)
        self.limits, self.tokens = limits, tokens

    def full(self, queue: str) -> bool:
        return self.slots_left(queue) <= 0

    def keep(self, header: Header) -> None:
        """A task of this header has come, and with the first that has it its environment."""
        key = environment_key(header)
        if key is not None and header.environment:
            self.environments.setdefault(key, header.environment)

    def let_go(self, spec: Spec) -> None:
        """A task was forgotten, and with the last one that has it its environment."""
        key = environment_key(spec.header)
        self.freed += [input_of(spec.header).decode()] if key is not None and input_of(spec.header) else []
        if key is not None and not any(environment_key(one.header) == key for one in self.specs.values()):
            self.environments.pop(key, None)

    def line_up(self, spec: Spec, status: Status) -> None:
        """A task is pending: put it in its place."""
        self.needy = self.needy or bool(spec.header.needs)
        self.waiting[spec.header.queue, spec.header.tenant] += 1
        line = self.ready.setdefault(spec.header.queue, {})
        insort(line.setdefault(spec.header.priority, []), (status.seq, spec.id))

    def weight(self, tenant: str | None) -> int:
        return self.tenants[tenant].weight if tenant in self.tenants else 1

    def has_work(self, queue: str, tenant: str | None, seq: int) -> None:
        """A tenant that had no work in a queue has some, this first."""
        had, turn = self.had.get((queue, tenant), Had()), self.turns[queue]
        self.had[queue, tenant] = Had(joins(had.passed, turn.clock, turn.at, self.weight(tenant)), seq)

    def set_schedule(self, number: int, schedule: Schedule | None) -> None:
        """Put a schedule in the place of the one with its number, or nothing; its timer with it."""
        self.timers = [timer for timer in self.timers if timer[1:] != ("slot", number)]
        self.schedules.pop(number, None)
        if schedule is not None:
            self.schedules[number] = schedule
            if schedule.due_at:
                insort(self.timers, (schedule.due_at, "slot", number))

    def free_name_at(self, until: int, task_id: int) -> int:
        """Set the timer of a name that is held until then: at the first instant from then on at which the task has no other."""
        while (until, "key", task_id) in self.timers:
            until += 1
        insort(self.timers, (until, "key", task_id))
        return until

    def member(self, number: int, made: Moves) -> None:
        """Members of a batch went their way."""
        if number in self.batches:
            self.batches[number] = moved(self.batches[number], made)

    def record(self) -> bytes:
        """Everything but what follows from the rest (``ready``) or is a cache (``turns``)."""
        counters = [self.last_id, self.last_seq, self.last_chore]
        tasks = [[i, spec.record(), self.statuses[i].record(i)] for i, spec in self.specs.items()]
        held = [[h.id, h.claim, h.worker, h.claimed_at, h.lease_ms, lapses] for h, lapses in self.held.values()]
        requests = [[nonce, number, at, ids] for (nonce, number), (at, ids) in self.requests.items()]
        names = [[*ref, owner.id, owner.digest, owner.until] for ref, owner in self.names.items()]
        events = [event.row() for event in self.events]
        named = [[value.row() for value in kind.values()] for kind in (self.queues, self.types, self.chores, self.tallies, self.schedules)]
        standings = [[kind, name, row] for (kind, name), row in self.standings.items()]
        later: list[Any] = [sorted(self.children), self.environments, self.resources, standings]
        later += [[one.row() for one in self.limits.values()], [[*counted, *bucket] for counted, bucket in self.tokens.items()]]
        later += [[one.row() for one in self.tenants.values()], [one.row() for one in self.accounts.values()]]
        later += [[[*key, task_id] for key, task_id in self.first.items()], sorted(self.behind)]
        later += [self.last_batch, [[one.said(), one.stands()] for one in self.batches.values()]]
        return seal(pack([FORMAT, counters, tasks, held, self.timers, requests, names, events, *named, *later]))


def contents_of(record: bytes, what: str) -> Contents:
    """Decode a snapshot; StoreDamaged or StoreTooNew if it is not a whole one of this format."""
    version, *rows = unpack(unseal(record, what))
    if version != FORMAT:
        raise StoreTooNew(f"{what}: expected snapshot format {FORMAT}, got {version}. Use the tq that wrote it.")
    counters, tasks, held, timers, requests, names, events, queues, types, chores, tallies, *later = rows
    found = Contents()
    found.last_id, found.last_seq, found.last_chore = counters
    found.timers = [(at, kind, task_id) for at, kind, task_id in timers]
    for task_id, spec, status in tasks:
        found.specs[task_id], found.statuses[task_id] = spec_of(task_id, spec), status_of(task_id, status)
        if found.statuses[task_id].state is State.PENDING:
            found.line_up(found.specs[task_id], found.statuses[task_id])
    found.turns = {name: Turn() for name in found.ready}
    for spec in found.specs.values():
        if (status := found.statuses[spec.id]).state is State.PENDING:
            whose = spec.header.queue, spec.header.tenant
            found.had[whose] = Had(since=min(found.had.get(whose, Had(since=status.seq)).since, status.seq))
    found.held = {row[0]: (Held(*row[:5]), row[5]) for row in held}
    found.requests = {(nonce, number): (at, ids) for nonce, number, at, ids in requests}
    found.names = {KeyRef(*row[:3]): Owner(*row[3:]) for row in names}
    found.events = [Event(*row) for row in events]
    found.queues = {row[0]: queue_of(row) for row in queues}
    found.types = {row[0]: TypeInfo(*row) for row in types}
    found.chores = {row[0]: Chore(*row) for row in chores}
    found.schedules = {row[0]: Schedule(*row) for row in (later[0] if later else ())}
    found.environments = dict(later[2]) if len(later) > 2 else {}
    found.children = {(parent, child) for parent, child in (later[1] if len(later) > 1 else ())}
    found.resources = dict(later[3]) if len(later) > 3 else {}
    found.standings = {(kind, name): row for kind, name, row in (later[4] if len(later) > 4 else ())}
    found.limits = {row[0]: Limit(*row) for row in (later[5] if len(later) > 5 else ())}
    found.tokens = {(row[0], row[1]): tuple(row[2:]) for row in (later[6] if len(later) > 6 else ())}
    found.tenants = {row[0]: Tenant(*row) for row in (later[7] if len(later) > 7 else ())}
    found.accounts = {row[0]: Account(*row) for row in (later[8] if len(later) > 8 else ())}
    found.first = {(queue, order): task_id for queue, order, task_id in (later[9] if len(later) > 9 else ())}
    found.behind = {(queue, order, task_id) for queue, order, task_id in (later[10] if len(later) > 10 else ())}
    found.last_batch = later[11] if len(later) > 11 else 0
    found.batches = {said[0]: batch_of(said, stands) for said, stands in (later[12] if len(later) > 12 else ())}
    found.tallies = {(row[0], row[1]): Tally(*row) for row in tallies}
    return found


def write(path: Path, record: bytes) -> None:
    """Put a snapshot where the last one was, all or nothing; StoreError if it cannot be written."""
    fresh = path.with_name(path.name + ".new")
    try:
        with open(fresh, "wb") as file:
            file.write(record)
            file.flush()
            os.fsync(file.fileno())
        os.rename(fresh, path)
        directory = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)
    except OSError as e:
        raise StoreError(f"{path}: expected to write a snapshot, got: {e}. Nothing was committed; free space, then try again.") from e


def copied(tally: Tally) -> Tally:
    return replace(tally, states=list(tally.states), times=dict(tally.times), kept=list(tally.kept))

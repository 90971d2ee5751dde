"""Every store against one small model, through histories that nobody would think of.

The model is a dict of tasks, a few counters, names, events and a set of timers; it is copied at ``begin`` and put back
by an abort. Several steps share a turn, so each read is also a read of what is not committed yet. One queue is the pool's
and gets ever new settings, one is external, and each claim names one of them: how queues share is the conformance suite's
matter, and in ``test_two_stores`` they are compared with each other.

For: ``MACHINES``: Hypothesis's state machine of each store.
Not for: how many histories are run, and with which seeds (model).
Runs in: a process without pytest: what tests leave behind (collector settings, warnings) is no input of the model's.
Promises: each operation's answer, and after each step all that can be read, is what the model says.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections import Counter
from collections.abc import Callable, Collection
from dataclasses import dataclass, field, fields, replace
from fractions import Fraction
from importlib import import_module
from math import inf
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from tq.environment import environment_key, environment_of
from tq.errors import UsageError
from tq.lifecycle import Outcome, Transition, cancel, come_due, edit, in_line, parents_over, retry, run_out, settle, turn_came
from tq.model import FINAL, SHELL, WAITING, Backoff, Header, Needs, Spec, State, Status, Task, needs_of
from tq.store import (
    Account,
    Draft,
    Event,
    Failure,
    Holder,
    KeyRef,
    Limit,
    Limits,
    Loan,
    Query,
    QueueFull,
    QueueInfo,
    QuotaReached,
    RequestId,
    Resource,
    Schedule,
    Store,
    Success,
    Tenant,
    Want,
)
from tq.store.limits import QUOTA
from tq.store.room import DISK_RESERVE
from tq.store.shares import PASS
from tq.store.tenants import DAY_MS

POOL, OUTSIDE = "pool", "outside"
ENDS = ("succeeded", "failed", "timed_out", "lapsed", "crashed", "interrupted", "released", "snoozed", "stopped")
LEASE_MS = 30
LIMITS = Limits(keep_keys_ms=25, keep_events=3)
TIMED = (State.SCHEDULED, State.RETRYING)
PICK = st.integers(0, 1000)
QUEUE = st.sampled_from([POOL, POOL, OUTSIDE])
NAMED = [KeyRef(kind, type_, name) for kind in ("key", "unique", "pace") for type_ in "ab" for name in "xy"]
LENT = [ref for ref in NAMED if ref.kind == "pace"]
STANDINGS = [(kind, name) for kind in ("breaker", "tenant") for name in "st"]
NAME = st.sampled_from([None, None, None, "x", "y"])
NEED = st.sampled_from([(), (), (), (), needs_of(1, {"g": 1}), needs_of(1, {"g": 2}), needs_of(2, {}), needs_of(2, {"g": 1, "h": 1})])
TENANT = st.sampled_from([None, None, "x", "y"])
LIMITED = [("queue", POOL), ("queue", OUTSIDE), ("type", "a"), ("tenant", "x"), ("tenant", None), ("flow", None)]
Key = str | tuple[str]
"""What a task may wait for: a resource, or slots of its queue."""
VERBS: list[st.SearchStrategy[tuple[str, dict[str, Any]]]] = []


def verb(weight: int, **arguments: st.SearchStrategy[Any]) -> Callable[[Any], Any]:
    """Make a method one of the steps: ``weight`` in all of them. (Rules of their own would be switched off by halves
    in each history, and with them most of what needs five verbs to happen.)"""

    def note(method: Any) -> Any:
        VERBS.extend([st.tuples(st.just(method.__name__), st.fixed_dictionaries(arguments))] * weight)
        return method

    return note


class Had(NamedTuple):
    """What a tenant has had of a queue: its pass, since when it has work (a sequence), and how many went before one that has aged."""

    passed: int
    since: int
    passed_over: int = 0


@dataclass
class Model:
    """What a store should hold. Its values are never changed in place."""

    tasks: dict[int, tuple[Spec, Status]] = field(default_factory=dict)
    last_id: int = 0
    last_seq: int = 0
    claims: list[tuple[int, int]] = field(default_factory=list)  # every (id, claim) ever handed out
    timers: set[tuple[int, str, int]] = field(default_factory=set)  # (instant, "due", "expire", "forget" or "key", id)
    leases: dict[int, tuple[float, float]] = field(default_factory=dict)  # lapses no sooner, and no later, than
    requests: dict[int, list[int]] = field(default_factory=dict)
    totals: Counter[tuple[str, str, str]] = field(default_factory=Counter)  # by queue, type and what is counted
    queues: dict[str, QueueInfo] = field(default_factory=lambda: {POOL: QueueInfo(POOL), OUTSIDE: QueueInfo(OUTSIDE, external=True)})
    had: dict[tuple[str, str | None], Had] = field(default_factory=dict)  # by queue and tenant
    at: dict[str, tuple[int, int]] = field(default_factory=dict)  # by queue: the latest start of a tenant's task, and the clock
    names: dict[KeyRef, tuple[int, bytes, int]] = field(default_factory=dict)  # id, digest, until (0: while it lives)
    events: list[Event] = field(default_factory=list)

    schedules: dict[str, Schedule] = field(default_factory=dict)
    children: set[tuple[int, int]] = field(default_factory=set)  # (parent, blocked task)
    first: dict[tuple[str, str], int] = field(default_factory=dict)  # whose turn it is, by queue and ordering key
    behind: set[tuple[str, str, int]] = field(default_factory=set)  # and those behind them
    resources: dict[str, int] = field(default_factory=dict)
    over: dict[Key, int] = field(default_factory=dict)  # how many took of something before the one that waits longest for it
    limits: dict[str, Limit] = field(default_factory=dict)  # quotas of what may run among them
    tenants: dict[str, Tenant] = field(default_factory=dict)
    accepted: Counter[tuple[str, int]] = field(default_factory=Counter)  # by tenant and day
    tokens: dict[tuple[str, str], tuple[Fraction, int, int]] = field(default_factory=dict)  # how many; taken when last, and how many then
    began: dict[tuple[str, str], tuple[int, ...]] = field(default_factory=dict)  # of limits with a window: when each began
    standings: dict[tuple[str, str], list[Any]] = field(default_factory=dict)
    shut: frozenset[str] = frozenset()

    def copy(self) -> Model:
        parts: list[Any] = [getattr(self, part.name) for part in fields(self)]
        return Model(*(one if isinstance(one, int) else one.copy() for one in parts))

    def line(self, queue: str, kinds: frozenset[str] | None = None) -> list[int]:
        """Pending tasks by level and sequence."""
        found = [(spec, status) for spec, status in self.tasks.values() if status.state is State.PENDING and spec.header.queue == queue]
        found.sort(key=lambda pair: (-pair[0].header.priority, pair[1].seq))
        return [spec.id for spec, _ in found if kinds is None or spec.header.type in kinds]

    def running(self, taken: Collection[int] = ()) -> list[Header]:
        """The headers of tasks that run, those that a claim has ``taken`` among them."""
        return [spec.header for spec, status in self.tasks.values() if status.state is State.RUNNING or spec.id in taken]

    def counted(self, header: Header) -> list[tuple[str, str]]:
        """With whom limits count a task: (limit, of which of its scope)."""
        names = {"queue": header.queue, "type": header.type, "tenant": header.tenant, "flow": header.flow}
        found = [(limit.name, names[limit.scope]) for limit in self.limits.values() if limit.of in (None, names[limit.scope])]
        return [(name, of) for name, of in found if of is not None]

    def may_have(self, name: str | None, count: int, size: int, now: int) -> bool:
        """Whether the quotas of a tenant let in so many tasks of so many bytes."""
        tenant = self.tenants.get(name or "")
        if name is None or tenant is None:
            return True
        live = [(spec, status) for spec, status in self.tasks.values() if spec.header.tenant == name and status.state not in FINAL]
        waiting = sum(status.state is not State.RUNNING for _, status in live)
        quotas = [(tenant.queued, waiting + count), (tenant.bytes, sum(len(spec.payload) for spec, _ in live) + size)]
        quotas.append((tenant.per_day, self.accepted[name, now // DAY_MS] + count))
        return all(not most or found <= most for most, found in quotas)

    def left_of(self, counted: tuple[str, str], now: int) -> Fraction:
        """How many tokens there are, and parts of one."""
        limit = self.limits[counted[0]]
        if limit.window != "none":
            since = now - limit.per_ms + 1 if limit.window == "sliding" else now - now % limit.per_ms
            return Fraction(limit.rate - sum(at >= since for at in self.began.get(counted, ())))
        left, at, _ = self.tokens.get(counted, (Fraction(limit.burst), now, 0))
        return min(left + Fraction((now - at) * limit.rate, limit.per_ms), Fraction(limit.burst))

    def may_begin(self, header: Header, taken: Collection[int], now: int) -> bool:
        """Whether the limits let a task begin beside those that run and those that were taken."""
        for counted in self.counted(header):
            limit = self.limits[counted[0]]
            others = sum(counted in self.counted(self.tasks[one][0].header) for one in taken)
            running = sum(counted in self.counted(one) for one in self.running())
            if (limit.running and running + others >= limit.running) or (limit.rate and self.left_of(counted, now) - others < 1):
                return False
        return True

    def begins(self, header: Header, now: int) -> None:
        for counted in self.counted(header):
            if self.limits[counted[0]].window != "none":
                self.began[counted] = (*self.began.get(counted, ()), now)
            elif self.limits[counted[0]].rate:
                _, at, count = self.tokens.get(counted, (0, now, 0))
                self.tokens[counted] = (self.left_of(counted, now) - 1, now, count + 1 if at == now else 1)

    def never_began(self, header: Header, taken_at: int) -> None:
        """The tokens of a hand-out are there again, but for those that went later meanwhile."""
        for counted in self.counted(header):
            if taken_at in self.began.get(counted, ()):
                at = self.began[counted].index(taken_at)
                self.began[counted] = (*self.began[counted][:at], *self.began[counted][at + 1 :])
            if counted in self.tokens:
                left, at, count = self.tokens[counted]
                count -= taken_at == at and count > 0
                self.tokens[counted] = (min(left + 1, Fraction(self.limits[counted[0]].burst - count)) if count else left + 1, at, count)

    def in_use(self, running: Collection[Header] | None = None) -> Counter[str]:
        """How much of each resource tasks that run have."""
        used: Counter[str] = Counter()
        for header in self.running() if running is None else running:
            if header.needs:
                used.update(header.uses)
        return used

    def free(self, line: list[int], taken: Collection[int] = (), *, now: int, held: bool = True) -> list[int]:
        """Those of a line for which there is enough of what they need; ``held`` False: also if its queue were not held."""
        running = self.running(taken)
        used, rooms, found = self.in_use(running), dict[str, float](), []
        for task_id in line:
            header = self.tasks[task_id][0].header
            queue = header.queue
            if queue not in rooms:
                info = self.queues[queue]
                slots = sum(one.slots for one in running if one.queue == queue)
                rooms[queue] = 0 if info.paused or (held and queue in self.shut) else max(info.slots - slots, 0) if info.slots else inf
            enough = all(amount <= self.resources.get(name, 0) - used[name] for name, amount in header.needs if name)
            if enough and header.slots <= rooms[queue] and self.may_begin(header, taken, now):
                found.append(task_id)
        return found

    def waits(self, line: list[int], now: int, taken: Collection[int] = ()) -> dict[Key, int]:
        """Who of those that have waited too long has done so longest, for each thing that it could ever have."""
        found: dict[Key, int] = {}
        for task_id in sorted(line, key=lambda i: self.tasks[i][1].seq):
            header = self.tasks[task_id][0].header
            info = self.queues[header.queue]
            never = any(amount > self.resources.get(name, 0) for name, amount in header.uses.items()) or 0 < info.slots < header.slots
            never = never or not self.may_begin(header, taken, now)
            if never or not (info.aging_ms and info.aging_share) or now - self.tasks[task_id][1].ready_at <= info.aging_ms:
                continue
            for key in (*header.uses, *(((info.name,),) if header.slots > 1 and info.slots else ())):
                found.setdefault(key, task_id)
        return found

    def fits(self, queue: str, tasks: int, size: int) -> bool:
        """Whether so many unfinished tasks and bytes more may come into a queue."""
        info = self.queues[queue]
        there = [len(spec.payload) for spec, status in self.tasks.values() if status.state not in FINAL and spec.header.queue == queue]
        room = not tasks or info.max_tasks is None or len(there) + tasks <= info.max_tasks
        return room and (info.max_bytes is None or sum(there) + size <= info.max_bytes)

    def next(self, line: list[int], queue: str, now: int, taken: list[int]) -> tuple[int, str] | None:
        """Which of a line goes first, and why; it goes from the line to those that are taken. None: none of them may go."""
        info, waits = self.queues[queue], self.waits(line, now, taken)
        everybody = [i for i in self.free(line, taken, now=now) if not self.is_kept(i, waits)]
        if not everybody:
            return None
        tenants = {self.tasks[i][0].header.tenant for i in everybody}
        tenant = min(tenants, key=lambda one: (self.had[queue, one].passed, self.had[queue, one].since, one or ""))
        may_go = [i for i in everybody if self.tasks[i][0].header.tenant == tenant]
        first, had, (at, clock) = may_go[0], self.had[queue, tenant], self.at.get(queue, (0, 0))
        passed_over = had.passed_over
        lower = [i for i in may_go if self.tasks[i][0].header.priority < self.tasks[first][0].header.priority]
        oldest = min(lower, key=lambda i: self.tasks[i][1].seq, default=0)
        why = "priority"
        if oldest and info.aging_ms and info.aging_share and now - self.tasks[oldest][1].ready_at > info.aging_ms:
            passed_over += 1
            if passed_over >= info.aging_share:
                passed_over, first, why = 0, oldest, "aged"
        if why != "aged" and self.tasks[everybody[0]][0].header.priority > self.tasks[first][0].header.priority:
            why = "share"
        start, there = max(had.passed, at), {self.tasks[i][0].header.tenant for i in self.line(queue) if i not in taken}
        self.at[queue] = start, max(clock + PASS // sum(self.weight(one) for one in there), start)
        self.had[queue, tenant] = Had(start + PASS // self.weight(tenant), had.since, passed_over)
        line.remove(first)
        taken.append(first)
        for key in (*self.tasks[first][0].header.uses, (queue,)):
            if key in waits:
                self.over[key] = 0 if waits[key] == first else self.over.get(key, 0) + 1
        return first, why

    def is_kept(self, task_id: int, waits: dict[Key, int]) -> bool:
        """Whether something that it would take is kept for another."""
        header = self.tasks[task_id][0].header
        others = [(key, first) for key in (*header.uses, (header.queue,)) if (first := waits.get(key, task_id)) != task_id]
        return any(self.over.get(key, 0) >= self.queues[self.tasks[first][0].header.queue].aging_share - 1 for key, first in others)

    def order(self, queue: str, now: int) -> list[tuple[int, str]]:
        """All that claims would take, in that order."""
        model, line, found, taken = self.copy(), self.line(queue), list[tuple[int, str]](), list[int]()
        while (one := model.next(line, queue, now, taken)) is not None:
            found.append(one)
        return found

    def weight(self, tenant: str | None) -> int:
        return self.tenants[tenant].weight if tenant in self.tenants else 1

    def lines_up(self, task_id: int, header: Header, seq: int) -> None:
        """A task is pending, but not there yet: if it is its tenant's only one, that one joins the others."""
        there = [one for one in self.line(header.queue) if one != task_id and self.tasks[one][0].header.tenant == header.tenant]
        if not there:
            whose, (at, clock) = (header.queue, header.tenant), self.at.get(header.queue, (0, 0))
            passed = max(self.had[whose].passed if whose in self.had else 0, clock)
            self.had[whose] = Had(min(passed, at + PASS // self.weight(header.tenant)), seq)

    def starts(self) -> None:
        """A process begins: what tenants have had is not remembered."""
        self.had, self.at = {}, {}
        for spec, status in self.tasks.values():
            whose = spec.header.queue, spec.header.tenant
            if status.state is State.PENDING and (whose not in self.had or status.seq < self.had[whose].since):
                self.had[whose] = Had(0, status.seq)

    def holds(self, task_id: int, start: frozenset[State], claim: int | None) -> bool:
        if task_id not in self.tasks:
            return False
        status = self.tasks[task_id][1]
        return status.state in start and claim in (None, status.claim)

    def end_names(self, task_id: int, now: int) -> None:
        for ref, (owner, digest, _) in list(self.names.items()):
            if owner == task_id and ref.kind == "unique":
                del self.names[ref]
            elif owner == task_id and ref.kind == "key":
                self.names[ref] = (owner, digest, self.free_at(now + LIMITS.keep_keys_ms, task_id))

    def live_on(self, task_id: int, header: Header) -> bool:
        """Take the names of ``header``: False if another has one that the task did not have before."""
        old = names_of(self.tasks[task_id][0].header)
        own = {ref: owner for ref, owner in self.names.items() if owner[0] == task_id and ref.kind != "pace"}
        for ref in names_of(header):
            if ref not in own and ref in self.names and not (ref.kind == "key" and ref in old):
                return False
        for ref in own:
            del self.names[ref]
        kept = {ref.kind: digest for ref, (_, digest, _) in own.items()}
        for ref in names_of(header):
            if ref.kind == "unique" or ref.kind in kept:
                self.names[ref] = (task_id, kept.get(ref.kind, b""), 0)
        return True

    def comes(self, header: Header, task_id: int) -> bool:
        """A new task has its place in the line of its ordering key: whether that is behind others."""
        if header.order is None:
            return False
        key = header.queue, header.order
        behind = key in self.first or any(one[:2] == key for one in self.behind)
        if behind:
            self.behind = self.behind | {(*key, task_id)}
        else:
            self.first = {**self.first, key: task_id}
        return behind

    def goes(self, task_id: int) -> bool:
        """It leaves its line: whether it stood behind others."""
        behind = any(one[2] == task_id for one in self.behind)
        self.first = {key: one for key, one in self.first.items() if one != task_id}
        self.behind = {one for one in self.behind if one[2] != task_id}
        return behind

    def follow(self, task_id: int, status: Status, now: Header) -> Status:
        """Its place follows what it becomes: what comes to a line, or back to life in it, waits at its place by age."""
        spec, old = self.tasks[task_id]
        was = spec.header
        if now.order is None or (old.state not in FINAL and status.state not in FINAL and was.queue == now.queue):
            return status
        stays = in_line(was, old.state) and in_line(now, status.state) and was.queue == now.queue
        if stays and (old.state not in FINAL or task_id in self.first.values()):
            return status
        behind = self.goes(task_id)
        if not in_line(now, status.state):
            return status
        self.behind = self.behind | {(now.queue, now.order, task_id)}
        counted = behind and old.state is State.BLOCKED
        return status if counted else replace(status, state=State.BLOCKED, waits=status.waits + 1, seq=0, ready_at=0)

    def lend(self, loan: Loan) -> None:
        """A name is held until an instant, whoever held it before."""
        owner, _, until = self.names.get(loan.name, (0, b"", 0))
        self.timers.discard((until, "key", owner))
        self.names[loan.name] = (loan.id, loan.digest, self.free_at(loan.until, loan.id))

    def free_at(self, until: int, task_id: int) -> int:
        """When a name that is held until then is free: no two of one task are at once."""
        while (until, "key", task_id) in self.timers:
            until += 1
        self.timers.add((until, "key", task_id))
        return until

    def is_awaited(self, timer: tuple[int, str, int]) -> bool:
        """Whether a timer means something: a name that ends with it, or else a task that is not over."""
        if timer[1] == "key":
            return any((owner, until) == (timer[2], timer[0]) for owner, _, until in self.names.values())
        return self.holds(timer[2], frozenset(State) - FINAL, None)

    def relimit(self, name: str, limit: Limit | None, now: int) -> None:
        """A limit is that from now on (None: gone); if it takes the place of another what was taken stays taken, as far as it holds it."""
        old = self.limits.pop(name, None)
        taken = {counted: self.missing_of(old, counted, now) for counted in self.tokens if counted[0] == name} if old else {}
        if limit is not None:
            self.limits[name] = limit
        if limit == old:
            return
        self.tokens = {counted: left for counted, left in self.tokens.items() if counted[0] != name}
        self.began = {counted: instants for counted, instants in self.began.items() if counted[0] != name}
        if limit is None or old is None or limit.scope != old.scope or not (limit.rate and old.rate):
            return
        for (_, of), missing in taken.items():
            if limit.of in (None, of) and missing > 0:
                self.tokens[name, of] = limit.burst - min(missing, Fraction(limit.burst)), now, 0

    def missing_of(self, old: Limit, counted: tuple[str, str], now: int) -> Fraction:
        """How many tokens are missing by a limit that is about to change."""
        left, at, _ = self.tokens[counted]
        return old.burst - min(left + Fraction((now - at) * old.rate, old.per_ms), Fraction(old.burst))

    def become(self, task_id: int, status: Status, spec: Spec | None = None) -> None:
        was, old = self.tasks[task_id]
        spec = spec or was
        if status.state is State.PENDING and not status.seq:
            self.last_seq += 1
            status = replace(status, seq=self.last_seq)
        if status.state is State.PENDING:
            self.lines_up(task_id, spec.header, status.seq)
        if old.state in TIMED:
            self.timers.discard((old.due_at, "due", task_id))
        if status.state in TIMED:
            self.timers.add((status.due_at, "due", task_id))
        if was.expires_at != spec.expires_at:
            self.timers.discard((was.expires_at, "expire", task_id))
            if spec.expires_at:
                self.timers.add((spec.expires_at, "expire", task_id))
        keep_ms = self.queues[spec.header.queue].keep_ms
        if status.state in FINAL and keep_ms is not None:
            self.timers.add((status.finished_at + keep_ms, "forget", task_id))
        if status.state is not State.RUNNING:
            self.leases.pop(task_id, None)
        if status.state is not State.BLOCKED:
            self.children = {pair for pair in self.children if pair[1] != task_id}
        self.tasks[task_id] = (spec, status)

    def drop(self, task_id: int, now: int) -> None:
        """A task is removed; one that waited ends with that."""
        _, status = self.tasks.pop(task_id)
        if status.state not in FINAL:
            self.end_names(task_id, now)
        self.timers.discard((status.due_at, "due", task_id))
        self.children = {pair for pair in self.children if pair[1] != task_id}
        self.goes(task_id)

    def count(self, task_id: int, event: str, ms: int) -> None:
        spec, status = self.tasks[task_id]
        key = (spec.header.queue, spec.header.type)
        word = {State.SUCCEEDED: "succeeded", State.FAILED: "failed", State.RETRYING: "retried"}.get(status.state)
        if word and event != "edited":
            self.totals[*key, word] += 1
        if event in ("succeeded", "failed", "timed_out"):
            self.totals[*key, "runs"] += 1
            self.totals[*key, "run_ms"] += ms

    def timers_over(self, now: int) -> list[tuple[str, int]]:
        """Timers that are due, and mean something, but for those that ``promote`` takes; they are gone."""
        found = []
        for at, kind, task_id in sorted(timer for timer in self.timers if timer[0] <= now and timer[1] != "due"):
            self.timers.discard((at, kind, task_id))
            spec, status = self.tasks.get(task_id, (None, None))
            if kind == "key":
                self.names = {ref: owner for ref, owner in self.names.items() if (owner[0], owner[2]) != (task_id, at)}
            elif spec is None or status is None:
                continue
            elif kind == "forget":
                keep_ms = self.queues[spec.header.queue].keep_ms
                if status.state in FINAL and keep_ms is not None:
                    if status.finished_at + keep_ms > now:
                        self.timers.add((status.finished_at + keep_ms, kind, task_id))
                    else:
                        found.append((kind, task_id))
            elif status.state not in FINAL:
                found.append((kind, task_id))
        return found


def names_of(header: Header) -> list[KeyRef]:
    return [KeyRef(kind, header.type, name) for kind in ("key", "unique") if (name := getattr(header, kind)) is not None]


class StoreMachine(RuleBasedStateMachine):
    """One history: verbs in turns, turns that are lost, restarts, and a clock."""

    make: Callable[[Path], Store]

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp(prefix="tq-model-", dir=MEMORY))
        self.raw = type(self).make(self.folder / "store")
        self.model = Model()
        self.before: Model | None = None  # the model at the begin of the open turn
        self.renew = ""  # what the next begin does to leases: nothing; "all" after a restart; "maybe" after an abort
        self.now = DAY_MS - 200  # a day ends in the midst of it
        self.latest = 0  # the now of the last turn since the start

    def teardown(self) -> None:
        self.raw.close()
        shutil.rmtree(self.folder)

    def turn(self) -> Store:
        """The store, in a turn."""
        if self.before is None:
            self.before = self.model.copy()
            self.raw.begin(self.now)
            self.latest = self.now
            for task_id, (first, last) in self.model.leases.items() if self.renew else ():
                anew = self.now + LEASE_MS
                self.model.leases[task_id] = (anew, anew) if self.renew == "all" else (min(first, anew), max(last, anew))
        return self.raw

    def apply(self, change: Transition) -> None:
        """Carry out one transition on both sides."""
        if self.model.holds(change.id, change.start, change.claim) and not self.may_come(change):
            with pytest.raises(QueueFull, match="is full"):
                self.turn().apply([change])
            return
        (answer,) = self.turn().apply([change])
        self.follow(change, answer)

    def follow(self, change: Transition, answer: Task | None) -> None:
        """The model's part of a transition, of which the store gave that answer."""
        model = self.model
        if not model.holds(change.id, change.start, change.claim):
            assert answer is None
            return
        spec, old = model.tasks[change.id]
        if change.status.state in FINAL:
            model.end_names(change.id, self.now)
        elif (change.spec is not None or old.state in FINAL) and not model.live_on(change.id, (change.spec or spec).header):
            assert answer is None
            return
        started_at = change.status.started_at
        if change.event == "released":
            model.never_began(spec.header, old.started_at)
        model.become(change.id, model.follow(change.id, change.status, (change.spec or spec).header), change.spec)
        model.children = model.children | {(parent, change.id) for parent in change.waits}
        model.count(change.id, change.event, self.now - started_at)
        assert answer is not None
        self.compare(answer)

    def may_come(self, change: Transition) -> bool:
        """Whether what a transition brings into a queue finds room there."""
        was, old = self.model.tasks[change.id]
        spec = change.spec or was
        queue, size = spec.header.queue, len(spec.payload)
        if change.status.state in FINAL:
            return True
        if old.state in FINAL or queue != was.header.queue:
            return self.model.fits(queue, 1, size)
        return size <= len(was.payload) or self.model.fits(queue, 0, size - len(was.payload))

    def task(self, pick: int) -> Task | None:
        """Some task as the model has it."""
        known = list(self.model.tasks)
        return Task(*self.model.tasks[known[pick % len(known)]]) if known else None

    # what clients do

    @verb(
        12,
        count=st.integers(1, 3),
        level=st.integers(0, 2),
        kind=st.sampled_from("ab"),
        queue=QUEUE,
        due_in=st.sampled_from([0, 0, 0, 0, 0, 0, 7, 40]),
        ttl=st.sampled_from([0, 0, 20]),
        retries=st.integers(0, 2),
        blocked=st.sampled_from([0] * 8 + [1, 1, 2]),
        loose=st.booleans(),
        payload=st.binary(max_size=3),
        request=st.none() | st.integers(0, 3),
        once=st.booleans(),
        key=NAME,
        unique=NAME,
        env=st.sampled_from([None] * 8 + ["x", "y"]),
        needs=NEED,
        tenant=TENANT,
        flow=TENANT,
        order=st.sampled_from([None] * 5 + ["k", "k", "l"]),
    )
    def enqueue(
        self, count: int, level: int, kind: str, queue: str, due_in: int, ttl: int, retries: int, blocked: int, loose: bool, payload: bytes,
        request: int | None, once: bool, key: str | None, unique: str | None, env: str | None,
        needs: Needs, tenant: str | None = None, flow: str | None = None, order: str | None = None,
    ) -> None:  # fmt: skip
        living = [task_id for task_id, (_, status) in self.model.tasks.items() if status.state not in FINAL]
        parents = tuple(living[-blocked:]) if blocked else ()
        extras, environment = None, b""
        if env is not None:  # a command
            (own, environment), kind, key, unique = environment_of({"E": env}), SHELL, None, None
            extras = {"env": own}
        header = Header(
            kind, queue, level, retries, backoff=Backoff("fixed", 10, jitter=False), once=once, parents=parents, key=key, unique=unique,
            extras=extras, environment=environment, parents_any=parents if loose else (), needs=needs, strict=count == 2,
            tenant=tenant, flow=flow, order=order, order_goes_on=order is not None and loose,
        )  # fmt: skip
        due_at, expires_at = self.now + due_in if due_in else 0, self.now + ttl if ttl else 0
        model = self.model
        again = request in model.requests
        number = None if request is None else RequestId(b"8 bytes!", request, again)
        drafts = [Draft(header, payload, due_at, expires_at, b"digest of " + payload, parents)] * count
        names = names_of(header)
        if not again and not model.may_have(tenant, count, count * len(payload), self.now):
            with pytest.raises(QuotaReached, match="has reached its quota"):
                self.turn().enqueue(drafts, number)
            return
        if not again and not model.fits(queue, count, count * len(payload)):
            with pytest.raises(QueueFull, match="is full"):
                self.turn().enqueue(drafts, number)
            return
        if not again and names and (count > 1 or any(name in model.names for name in names)):
            with pytest.raises(UsageError, match="free"):
                self.turn().enqueue(drafts, number)
            return
        ids = list(self.turn().enqueue(drafts, number))
        if request is not None and again:
            assert ids == model.requests[request]
            return
        assert ids == list(range(model.last_id + 1, model.last_id + 1 + count))
        if tenant is not None:
            model.accepted[tenant, self.now // DAY_MS] += count
        for task_id in ids:
            model.last_id = task_id
            behind = model.comes(header, task_id)
            pending = not due_in and not parents and not behind
            model.last_seq += pending
            seq = model.last_seq if pending else 0
            if pending:
                status = Status(State.PENDING, seq=seq, ready_at=self.now)
                model.lines_up(task_id, header, seq)
            else:
                status = Status(State.BLOCKED if parents or behind else State.SCHEDULED, due_at=due_at, waits=len(parents) + behind)
            model.children = model.children | {(parent, task_id) for parent in parents}
            model.tasks[task_id] = (Spec(task_id, header, payload, self.now, seq, due_at, expires_at), status)
            if status.state is State.SCHEDULED:
                model.timers.add((due_at, "due", task_id))
            if expires_at:
                model.timers.add((expires_at, "expire", task_id))
            model.names |= dict.fromkeys(names, (task_id, drafts[0].digest, 0))
        if request is not None:
            model.requests[request] = ids

    @verb(
        4,
        links=st.lists(
            st.lists(st.tuples(st.integers(0, 3), st.sampled_from(["after", "loose", "failed"])), max_size=3), min_size=1, max_size=3
        ),
        others=st.lists(st.tuples(st.integers(0, 3), st.booleans(), PICK), max_size=2),
        strict=st.booleans(),
        request=st.none() | st.integers(4, 6),
    )
    def graph(
        self, links: list[list[tuple[int, str]]], others: list[tuple[int, bool, int]], strict: bool, request: int | None
    ) -> None:  # fmt: skip
        """Tasks that wait for others of their own request, or for one of before; some of the request's are there already, or twins."""
        model = self.model
        if not model.fits(POOL, len(links), 0) or request in model.requests:
            return
        living = [task_id for task_id, (_, status) in model.tasks.items() if status.state not in FINAL][-1:]
        first, drafts = model.last_id + 1, []
        for at, some in enumerate(links):
            known = [*living, *range(first, first + at)]
            named = {known[-1 - back]: how for back, how in some if back < len(known)}
            loose, failed = (tuple(one for one, how in named.items() if how == word) for word in ("loose", "failed"))
            header = Header("a", POOL, 1, 0, parents=tuple(named), parents_any=loose, parents_failed=failed, strict=strict)
            drafts.append(Draft(header, b"", waits=header.parents))
        places = [0] * len(drafts)
        for at, is_twin, pick in others:
            twin = is_twin or not model.last_id
            places.insert(min(at, len(places)), -1 - pick % len(drafts) if twin else 1 + pick % model.last_id)
        number = None if request is None else RequestId(b"8 bytes!", request)
        fresh = list(range(first, first + len(drafts)))
        new = iter(fresh)
        expected = [next(new) if not place else fresh[-1 - place] if place < 0 else place for place in places]
        assert list(self.turn().enqueue(drafts, number, places)) == expected
        for task_id, draft in zip(fresh, drafts, strict=True):
            model.last_seq += not draft.waits
            seq = 0 if draft.waits else model.last_seq
            status = Status(State.BLOCKED, waits=len(draft.waits)) if draft.waits else Status(State.PENDING, seq=seq, ready_at=self.now)
            if not draft.waits:
                model.lines_up(task_id, draft.header, seq)
            model.tasks[task_id] = (Spec(task_id, draft.header, b"", self.now, seq), status)
            model.children = model.children | {(parent, task_id) for parent in draft.waits}
        model.last_id += len(drafts)
        if request is not None:
            model.requests[request] = expected

    @verb(2, picks=st.lists(PICK, max_size=4), what=st.sampled_from(["cancel", "retry", "tell"]))
    def change(self, picks: list[int], what: str) -> None:
        """One decision about several tasks, as when a workflow is cancelled or run again as a whole."""
        model = self.model
        ids = [*dict.fromkeys(1 + pick % (model.last_id + 1) for pick in picks)]  # the last one is of no task

        def decide(task: Task) -> Transition | None:
            if what == "tell":
                ends = {parent: State.FAILED for parent, child in sorted(model.children) if child == task.id}
                return parents_over(task, ends, self.now) if ends else None
            return cancel(task, self.now) if what == "cancel" else retry(task, self.now)

        expected = [change for i in ids if i in model.tasks and (change := decide(Task(*model.tasks[i]))) is not None]
        came: dict[str, list[int]] = {}
        for change in expected if what == "retry" else ():
            header = model.tasks[change.id][0].header
            came.setdefault(header.queue, []).append(len(model.tasks[change.id][0].payload))
        if not all(model.fits(queue, len(sizes), sum(sizes)) for queue, sizes in came.items()):
            with pytest.raises(QueueFull, match="is full"):
                self.turn().change(ids, decide)
            return
        answers = self.turn().change(ids, decide)
        assert [change.id for change, _ in answers] == [change.id for change in expected]
        for change, (_, answer) in zip(expected, answers, strict=True):
            self.follow(change, answer)

    @verb(2, pick=PICK)
    def cancel(self, pick: int) -> None:
        task = self.task(pick)
        change = cancel(task, self.now) if task else None
        if change:
            self.apply(change)

    @verb(2, pick=PICK, level=st.integers(0, 2), changed=st.booleans(), behind=st.booleans())
    def retry(self, pick: int, level: int, changed: bool, behind: bool) -> None:
        task = self.task(pick)
        living = {i for i, (_, status) in self.model.tasks.items() if status.state not in FINAL} if behind else set()
        waits = tuple(parent for parent in task.spec.header.parents if parent in living) if task else ()
        spec = replace(task.spec, payload=b"again", header=replace(task.spec.header, priority=level)) if task and changed else None
        change = retry(task, self.now, spec, waits) if task else None
        if change:
            self.apply(change)

    @verb(
        4,
        pick=PICK,
        changes=st.fixed_dictionaries(
            {},
            optional={"priority": st.integers(0, 2), "queue": QUEUE, "type": st.sampled_from("ab"), "label": st.just("l"), "needs": NEED},
        ),
        payload=st.none() | st.binary(max_size=3),
        ttl=st.sampled_from([None, None, 0, 20]),
        due_in=st.sampled_from([None, None, 0, 7, 40]),
    )
    def edit(self, pick: int, changes: dict[str, Any], payload: bytes | None, ttl: int | None, due_in: int | None) -> None:
        """A waiting one, as long as there is any."""
        waiting = [i for i, (_, status) in self.model.tasks.items() if status.state in WAITING]
        if not waiting:
            return
        task = Task(*self.model.tasks[waiting[pick % len(waiting)]])
        if task.spec.header.type == SHELL:  # nobody makes anything else of a command
            changes = {name: value for name, value in changes.items() if name != "type"}
        spec = replace(task.spec, header=replace(task.spec.header, **changes), payload=task.spec.payload if payload is None else payload)
        if ttl is not None:
            spec = replace(spec, expires_at=self.now + ttl if ttl else 0)
        change = edit(task, spec, due_in if not due_in else self.now + due_in, self.now)
        assert change is not None
        self.apply(change)

    @verb(4, pick=PICK, end=st.sampled_from([State.SUCCEEDED] * 3 + [State.FAILED, State.EXPIRED]), all_of_them=st.booleans())
    def tell_a_child(self, pick: int, end: State, all_of_them: bool) -> None:
        """Of its parent's end, or of those of all that it waits for."""
        pairs = sorted(self.model.children)
        if not pairs:
            return
        parent, child = pairs[pick % len(pairs)]
        ends = {other: end for other, of in pairs if of == child} if all_of_them else {parent: end}
        self.apply(parents_over(Task(*self.model.tasks[child]), ends, self.now))
        self.model.children = self.model.children - {(other, child) for other in ends}

    @verb(1, ids=st.lists(st.integers(0, 40), max_size=5))
    def remove(self, ids: list[int]) -> None:
        answers = self.turn().remove(ids)
        for task_id, answer in zip(ids, answers, strict=True):
            assert answer == self.model.holds(task_id, FINAL | WAITING, None)
            if answer:
                self.model.drop(task_id, self.now)

    @verb(
        3,
        paused=st.sampled_from([False] * 7 + [True]),
        aging_ms=st.sampled_from([60_000, 8, 8, 0]),
        aging_share=st.sampled_from([2, 3, 1, 0]),
        slots=st.sampled_from([0, 0, 1, 3]),
        keep_ms=st.sampled_from([None, None, 0, 30]),
        max_tasks=st.sampled_from([None] * 6 + [0, 4]),
        max_bytes=st.sampled_from([None, None, None, 5, 20]),
    )
    def configure(self, **settings: Any) -> None:
        self.turn().put_queue(QueueInfo(POOL, **settings))
        self.model.queues[POOL] = QueueInfo(POOL, **settings)

    @verb(3, name=st.sampled_from("gh"), amount=st.sampled_from([2, 3, 1, 2, 0, None]))
    def share(self, name: str, amount: int | None) -> None:
        """How much there is of a resource."""
        if amount is None:
            self.turn().drop_resource(name)
            self.model.resources.pop(name, None)
        else:
            self.turn().put_resource(Resource(name, amount))
            self.model.resources[name] = amount

    @verb(
        4,
        name=st.sampled_from("lm"),
        what=st.sampled_from(LIMITED),
        rate=st.sampled_from([0, 0, 1, 3]),
        burst=st.sampled_from([1, 2]),
        running=st.sampled_from([0, 1, 2]),
        window=st.sampled_from(["none", "sliding", "fixed"]),
        way=st.sampled_from(["anew", "instead", "instead", "gone"]),
    )
    def limit(self, name: str, what: tuple[str, str | None], rate: int, burst: int, running: int, window: str, way: str) -> None:
        """A limit of that name: in the place of another, or anew, when that has gone, so that tokens begin anew; or none."""
        raw, model = self.turn(), self.model
        limit = Limit(name, *what, rate, 20, burst, running, window if rate else "none")
        old = model.limits.get(name)
        if old is not None and (way != "instead" or {limit.window, old.window} != {"none"}):
            raw.drop_limit(name)
            model.relimit(name, None, self.now)
        if way != "gone":
            raw.put_limit(limit)
            model.relimit(name, limit, self.now)

    @verb(3, loans=st.lists(st.tuples(st.sampled_from(LENT), PICK, st.sampled_from([5, 25, 25, 60])), min_size=1, max_size=2))
    def lend(self, loans: list[tuple[KeyRef, int, int]]) -> None:
        """Names are held for a time, by tasks that may be over or gone."""
        raw, model, lent = self.turn(), self.model, []
        for name, pick, ms in loans:
            lent.append(Loan(name, 1 + pick % max(model.last_id, 1), b"of %d" % pick, self.now + ms))
            model.lend(lent[-1])
        raw.hold_names(lent)

    @verb(2, which=st.sampled_from(STANDINGS), row=st.sampled_from([None, [1], [True, "open", 7]]))
    def stand(self, which: tuple[str, str], row: list[Any] | None) -> None:
        self.turn().put_standing(*which, row)
        if row is None:
            self.model.standings.pop(which, None)
        else:
            self.model.standings[which] = row

    @verb(
        3,
        name=st.sampled_from("xy"),
        queued=st.sampled_from([0, 0, 3, 9]),
        running=st.sampled_from([0, 1, 2]),
        per_day=st.sampled_from([0, 0, 12]),
        size=st.sampled_from([0, 0, 20]),
        parts=st.sampled_from([1, 1, 2, 4]),
        gone=st.booleans(),
    )
    def quotas(self, name: str, parts: int, queued: int, running: int, per_day: int, size: int, gone: bool) -> None:
        """What is set for a tenant, ``parts`` its weight; how many may run is a limit of its own."""
        raw, model, limit = self.turn(), self.model, QUOTA + name
        model.limits.pop(limit, None)
        if gone:
            raw.drop_tenant(name)
            model.tenants.pop(name, None)
            return
        model.tenants[name] = Tenant(name, parts, queued, running, per_day, size)
        raw.put_tenant(model.tenants[name])
        if running:
            model.limits[limit] = Limit(limit, "tenant", name, running=running)

    @verb(2, queues=st.sampled_from([frozenset(), frozenset(), frozenset({POOL}), frozenset({POOL, OUTSIDE, "none"})]))
    def shut(self, queues: frozenset[str]) -> None:
        """In a turn, only more of them."""
        queues = queues if self.before is None else queues | self.model.shut
        self.raw.shut(queues)
        self.model.shut = queues

    @verb(1, what=st.sampled_from(["cancelled", "paused"]))
    def note(self, what: str) -> None:
        event = Event(0, self.now, "user 0", what, "task 1", None, {"n": self.now})
        stored = self.turn().note(event)
        assert stored == replace(event, number=self.model.events[-1].number + 1 if self.model.events else 1)
        self.model.events = [*self.model.events, stored][-LIMITS.keep_events :]

    @verb(2, name=st.sampled_from("pqr"), due_in=st.sampled_from([0, 5, 20, 60]))
    def put_schedule(self, name: str, due_in: int) -> None:
        raw, known = self.turn(), self.model.schedules
        number = known[name].number if name in known else 0
        schedule = Schedule(number, name, [], [], due_at=self.now + due_in if due_in else 0, missed=self.now)
        stored = raw.put_schedule(schedule)
        assert stored == replace(schedule, number=number or max([one.number for one in known.values()], default=0) + 1)
        known[name] = stored

    @verb(1, name=st.sampled_from("pqr"))
    def drop_schedule(self, name: str) -> None:
        raw = self.turn()  # first: it keeps a copy of the model
        gone = self.model.schedules.pop(name, None)
        raw.drop_schedule(gone.number if gone is not None else 99)

    @verb(2, ms=st.sampled_from([0, 5, 30]), limit=st.sampled_from([1, 100]))
    def slots(self, ms: int, limit: int) -> None:
        self.commit()
        self.now += ms
        due = sorted((one.due_at, one.number) for one in self.model.schedules.values() if 0 < one.due_at <= self.now)
        assert [(one.due_at, one.number) for one in self.turn().slots(limit)] == due[:limit]

    # what workers and consumers do

    @verb(
        16,
        limit=st.sampled_from([3, 1, 10, 1, 2, 5, 3, 0]),
        queue=QUEUE,
        kinds=st.sampled_from([None, None, None, frozenset("a"), frozenset("ab")]),
        budget_ms=st.sampled_from([inf, inf, 0.0, 10.0]),
        costs=st.sampled_from([{}, {"a": 3.0}, {"a": 4, "b": 1}]),
        lease=st.booleans(),
        anywhere=st.sampled_from([True, True, True, False]),
    )
    def claim(
        self, limit: int, queue: str, kinds: frozenset[str] | None, budget_ms: float, costs: dict[str, float], lease: bool, anywhere: bool
    ) -> None:
        if anywhere and not self.model.line(queue, kinds):
            queue, kinds = OUTSIDE if queue == POOL else POOL, None
        queues = None if queue == POOL else frozenset({OUTSIDE})
        claimed = self.turn().claim(Want("w", limit, budget_ms, costs, queues, kinds, LEASE_MS if lease else 0))
        model = self.model
        expected: list[int] = []
        spent = 0.0
        line = model.line(queue, kinds)
        while len(expected) < limit:
            before = dict(model.had), dict(model.at), dict(model.over)
            found = model.next(line, queue, self.now, expected)
            if found is None:
                break
            cost = costs.get(model.tasks[found[0]][0].header.type, inf)
            if len(expected) > 1 and spent + cost > budget_ms:
                (model.had, model.at, model.over), _ = before, expected.pop()
                break
            spent += cost
        assert [one.id for one in claimed] == expected
        for one in claimed:
            spec, old = model.tasks[one.id]
            assert (one.claim, one.attempt, one.crashes, one.failures) == (old.claim + 1, old.attempt, old.crashes, old.failures)
            assert (one.header, one.record) == (spec.header, spec.record())
            model.become(one.id, replace(old, state=State.RUNNING, claim=one.claim, worker="w", started_at=self.now, finished_at=0))
            model.begins(spec.header, self.now)
            model.claims.append((one.id, one.claim))
            if lease:
                model.leases[one.id] = (self.now + LEASE_MS, self.now + LEASE_MS)

    @verb(3, heavy=st.booleans(), share=st.sampled_from([1, 1, 2, 3]), level=st.integers(0, 2), small=st.integers(1, 3), ends=st.booleans())
    def press(self, heavy: bool, share: int, level: int, small: int, ends: bool) -> None:
        """One that needs all of something, behind one that has a part of it and before others that need little."""
        little, much = needs_of(1, {} if heavy else {"g": 1}), needs_of(2, {}) if heavy else needs_of(1, {"g": 2})
        more: dict[str, Any] = {"due_in": 0, "ttl": 0, "retries": 1, "blocked": 0, "loose": False, "payload": b"", "request": None}
        more |= {"once": False, "key": None, "unique": None, "env": None, "kind": "a", "queue": POOL}
        claim: dict[str, Any] = {"queue": POOL, "kinds": None, "budget_ms": inf, "costs": {}, "lease": False, "anywhere": False}
        self.configure(paused=False, aging_ms=8, aging_share=share, slots=2 if heavy else 0)
        self.share("g", 2)
        for needs, count, at in ((little, 1, 2), (much, 1, level), (little, small, 1)):
            self.enqueue(count=count, level=at, needs=needs, **more)
            self.claim(limit=int(needs is little), **claim)
            self.commit()
            self.now += 10
        for _ in range(3):
            if ends:
                self.settle(0, "succeeded", None, False)
            self.claim(limit=1, **claim)

    @verb(
        3,
        what=st.sampled_from([("queue", POOL), ("type", "a"), ("tenant", None), ("flow", "x")]),
        rates=st.tuples(st.sampled_from([0, 1, 3]), st.sampled_from([0, 1, 2])),
        bursts=st.tuples(st.sampled_from([1, 2]), st.sampled_from([1, 2, 3])),
        running=st.tuples(st.sampled_from([0, 2]), st.sampled_from([0, 1, 2])),
        ms=st.sampled_from([0, 5, 15]),
        back=st.booleans(),
    )
    def squeeze(
        self, what: tuple[str, str | None], rates: tuple[int, int], bursts: tuple[int, int], running: tuple[int, int], ms: int, back: bool
    ) -> None:  # fmt: skip
        """A limit that changes, or comes, while tasks run that it counts, and others wait; perhaps one of them had not begun."""
        more: dict[str, Any] = {"due_in": 0, "ttl": 0, "retries": 1, "blocked": 0, "loose": False, "payload": b"", "request": None}
        more |= {"once": False, "key": None, "unique": None, "env": None, "kind": "a", "queue": POOL, "needs": (), "level": 2}
        claim: dict[str, Any] = {"queue": POOL, "kinds": None, "budget_ms": inf, "costs": {}, "lease": False, "anywhere": False}
        self.configure(paused=False, aging_ms=0, aging_share=0, slots=0)
        for name in "lm":
            self.limit(name, what, 0, 1, 0, "none", "gone")
        if rates[0] or running[0]:
            self.limit("l", what, rates[0], bursts[0], running[0], "none", "instead")
        self.enqueue(count=3, tenant="x", flow="x", **more)
        self.claim(limit=2, **claim)
        self.commit()
        self.now += ms
        self.limit("l", what, rates[1], bursts[1], running[1], "none", "instead")
        if back:
            self.settle(0, "released", None, False)
        self.claim(limit=2, **claim)
        self.limit("l", what, 0, 1, 0, "none", "gone")

    @verb(3, picks=st.lists(PICK, min_size=1, max_size=4), output=st.booleans(), result=st.sampled_from([None, b"\x01"]))
    def succeed(self, picks: list[int], output: bool, result: bytes | None) -> None:
        """New and old claims alike: those that are over change nothing."""
        if not self.model.claims:
            return
        tokens = [self.model.claims[-1 - pick % len(self.model.claims)] for pick in picks]
        answers = self.turn().succeed([Success(task_id, claim, self.now - 2, self.now, output, result) for task_id, claim in tokens])
        for (task_id, claim), answer in zip(tokens, answers, strict=True):
            assert answer == self.model.holds(task_id, frozenset({State.RUNNING}), claim)
            if answer:
                outcome = Outcome("succeeded", self.now - 2, self.now, result, output=output)
                self.model.end_names(task_id, self.now)
                self.model.goes(task_id)
                self.model.become(task_id, settle(Task(*self.model.tasks[task_id]), outcome, self.now, 0.5).status)
                self.model.count(task_id, "succeeded", 2)

    @verb(12, pick=PICK, kind=st.sampled_from(ENDS), delay_ms=st.sampled_from([None, 5]), permanent=st.booleans())
    def settle(self, pick: int, kind: str, delay_ms: int | None, permanent: bool) -> None:
        """New and old claims alike."""
        if not self.model.claims:
            return
        task_id, claim = self.model.claims[-1 - pick % len(self.model.claims)]
        if task_id in self.model.tasks:
            outcome = Outcome(kind, error={"type": "E", "message": "no"}, exit_code=pick, delay_ms=delay_ms, permanent=permanent)
            self.apply(replace(settle(Task(*self.model.tasks[task_id]), outcome, self.now, 0.5), claim=claim))

    @verb(4, picks=st.lists(PICK, min_size=1, max_size=3), output=st.booleans(), exit_code=st.sampled_from([None, 3]))
    def retry_later(self, picks: list[int], output: bool, exit_code: int | None) -> None:
        """Failures that will be retried, in a batch: of those for which the short way is meant."""
        model = self.model
        details: dict[str, Any] = {"error": {"type": "E", "message": "no"}, "exit_code": exit_code}
        tokens = list(dict.fromkeys(model.claims[-1 - pick % len(model.claims)] for pick in picks if model.claims))
        chosen = []
        for (task_id, claim), run in zip(tokens, self.turn().running([task_id for task_id, _ in tokens]), strict=True):
            assert (run is not None) == model.holds(task_id, frozenset({State.RUNNING}), None)
            if run is None:
                continue
            spec, status = model.tasks[task_id]
            assert (run.claim, run.header, run.failures) == (status.claim, spec.header, status.failures)
            assert run.plain == (not (status.cancel_asked or spec.expires_at or spec.header.once))
            if run.plain and run.failures < spec.header.retries:
                chosen.append(Failure(task_id, claim, self.now - 2, self.now, output, details, self.now + 5))
        answers = self.turn().retry_later(chosen)
        for one, answer in zip(chosen, answers, strict=True):
            assert answer == model.holds(one.id, frozenset({State.RUNNING}), one.claim)
            if answer:
                outcome = Outcome("failed", self.now - 2, self.now, None, details["error"], exit_code, output, delay_ms=5)
                model.become(one.id, settle(Task(*model.tasks[one.id]), outcome, self.now, 0.5).status)
                model.count(one.id, "failed", 2)

    @verb(1, pick=PICK)
    def extend(self, pick: int) -> None:
        if not self.model.claims:
            return
        task_id, claim = self.model.claims[-1 - pick % len(self.model.claims)]
        answer = self.turn().extend(task_id, claim, LEASE_MS)
        assert answer == (task_id in self.model.leases and self.model.holds(task_id, frozenset({State.RUNNING}), claim))
        if answer:
            self.model.leases[task_id] = (self.now + LEASE_MS, self.now + LEASE_MS)

    # what the daemon does

    @verb(4, ms=st.sampled_from([0, 1, 5, 10, 30, 100]), act=st.booleans())
    def time_passes(self, ms: int, act: bool) -> None:
        """Timers are taken, in a turn of their own; what expires or lapses may be let go on."""
        self.commit()
        self.now += ms
        found = self.turn().due(1000)
        model = self.model
        assert [one for one in found if one[0] != "lease"] == model.timers_over(self.now)
        lapsed = {task_id for kind, task_id in found if kind == "lease"}
        assert {i for i, (_, last) in model.leases.items() if last <= self.now} <= lapsed
        assert lapsed <= {i for i, (first, _) in model.leases.items() if first <= self.now}
        for task_id in lapsed:
            model.leases[task_id] = (inf, inf)
        for kind, task_id in found:
            if not act:
                continue
            if kind == "forget":
                assert self.raw.remove([task_id]) == [True]
                del model.tasks[task_id]
                model.goes(task_id)
                continue
            task = Task(*model.tasks[task_id])
            if kind == "lease":
                self.apply(settle(task, Outcome("lapsed"), self.now, 0.5))
            else:
                self.apply(run_out(task, self.now))

    @verb(3, ms=st.sampled_from([0, 5, 10, 40]), limit=st.sampled_from([1, 2, 100]))
    def promote(self, ms: int, limit: int) -> None:
        """What comes due, in a batch."""
        self.commit()
        self.now += ms
        raw, model = self.turn(), self.model
        expected = [task_id for at, kind, task_id in sorted(model.timers) if kind == "due" and at <= self.now][:limit]
        assert raw.promote(limit) == expected
        for task_id in expected:
            model.become(task_id, come_due(Task(*model.tasks[task_id]), self.now).status)

    @verb(
        1,
        keep=st.sampled_from([0, 2, 100]),
        keep_bytes=st.sampled_from([1 << 30, 250]),
        age=st.sampled_from([0, 50, 10**9]),
        age_failed=st.sampled_from([0, 50, 10**9]),
    )
    def retain(self, keep: int, keep_bytes: int, age: int, age_failed: int) -> None:
        over = [i for i, (_, status) in self.model.tasks.items() if status.state in FINAL]
        sizes = {task.id: len(task.spec.record()) + len(task.status.record(task.id)) for task in self.turn().get(over) if task is not None}
        found = self.turn().retain(Limits(keep=keep, keep_bytes=keep_bytes, keep_ms=age, keep_failed_ms=age_failed), 1000)
        expected = []
        for failed, keep_ms in ((True, age_failed), (False, age)):
            ends = sorted((self.model.tasks[i][1].finished_at, i) for i in over if (self.model.tasks[i][1].state is State.FAILED) == failed)
            while ends and (
                len(ends) > keep or sum(sizes[i] for _, i in ends) > keep_bytes or ends[0][0] < self.now - keep_ms
            ):  # fmt: skip
                expected.append(ends.pop(0)[1])
        assert sorted(found) == sorted((i, self.model.tasks[i][1].output) for i in expected)
        for task_id in expected:
            del self.model.tasks[task_id]
            self.model.goes(task_id)

    @verb(2)
    def give_turns(self) -> None:
        """Those whose turn it is in the lines of ordering keys hear of it."""
        raw, model = self.turn(), self.model
        lines: dict[tuple[str, str], int] = {}
        for queue, order, task_id in sorted(model.behind, reverse=True):
            lines[queue, order] = task_id
        found = raw.turns(100)
        assert sorted(found) == sorted(task_id for key, task_id in lines.items() if key not in model.first)
        for task_id in sorted(found):
            order = model.tasks[task_id][0].header.order
            model.goes(task_id)
            model.first = {**model.first, (model.tasks[task_id][0].header.queue, str(order)): task_id}
            change = turn_came(Task(*model.tasks[task_id]), self.now)
            if change is not None:
                self.apply(change)

    @verb(3)
    def commit(self) -> None:
        if self.before is None:
            return
        self.give_turns()
        self.raw.commit()
        self.before, self.renew = None, ""
        alive = [timer[0] for timer in self.model.timers if self.model.is_awaited(timer)]
        instants = [*alive, *(last for _, last in self.model.leases.values() if last != inf)]
        instants += [one.due_at for one in self.model.schedules.values() if one.due_at]
        if instants:
            first = self.raw.next_due()
            assert first is not None
            assert first <= min(instants)

    @verb(1)
    def abort(self) -> None:
        if self.before is None:
            return
        self.raw.abort()
        self.lose()
        self.renew = self.renew or "maybe"

    @verb(1, committed=st.booleans())
    def restart(self, committed: bool) -> None:
        """The process ends, with or without its last turn."""
        if committed:
            self.commit()
        self.raw.close()
        self.lose()
        self.raw = type(self).make(self.folder / "store")
        self.model.shut = frozenset()
        self.model.over = {}
        self.model.starts()
        self.renew, self.latest = "all", 0

    def lose(self) -> None:
        if self.before is not None:
            self.before.shut = self.model.shut
            self.model, self.before = self.before, None

    @verb(
        2,
        states=st.none() | st.frozensets(st.sampled_from(State), max_size=3),
        limit=st.integers(1, 4),
        queue=st.sampled_from([None, POOL]),
    )
    def lists_are_complete(self, states: frozenset[State] | None, limit: int, queue: str | None) -> None:
        """Page after page."""
        tasks = self.model.tasks.values()
        expected = [
            spec.id for spec, status in tasks if (states is None or status.state in states) and queue in (None, spec.header.queue)
        ]  # fmt: skip
        expected.sort(reverse=True)
        found: list[int] = []
        cursor = None
        while page := [row for row in self.raw.find(Query(states, queue, limit=limit, before=cursor)) if row is not None]:
            found += [task.id for task, _ in page]
            cursor = page[-1][1]
        if states == frozenset({State.PENDING}):
            assert queue is None or found == self.model.line(queue)
            found.sort(reverse=True)
        assert found == expected

    @rule(step=st.sampled_from(VERBS).flatmap(lambda verb: verb))
    def step(self, step: tuple[str, dict[str, Any]]) -> None:
        getattr(self, step[0])(**step[1])

    # what must hold after each step

    def compare(self, task: Task) -> None:
        """``ready_at`` 0 means "when it was created", and a pending task has no due time."""
        spec, status = self.model.tasks[task.id]
        assert replace(task.status, ready_at=task.status.ready_at or spec.created_at) == replace(
            status, ready_at=status.ready_at or spec.created_at
        )
        assert task.spec == spec

    @invariant()
    def tasks_are_as_they_should_be(self) -> None:
        model = self.model
        for task_id, task in enumerate(self.raw.get(range(model.last_id + 2))):
            assert (task is not None) == (task_id in model.tasks)
            if task is not None:
                self.compare(task)
        assert self.raw.last_id() == model.last_id
        for queue in (POOL, OUTSIDE):
            for order in ("k", "l"):
                line = [model.first[queue, order]] if (queue, order) in model.first else []
                assert self.raw.ordered(queue, order, 999) == line + sorted(one[2] for one in model.behind if one[:2] == (queue, order))
        held = {(held.id, held.claim) for held in self.raw.held()}
        assert held == {(i, status.claim) for i, (_, status) in model.tasks.items() if status.state is State.RUNNING}

    @invariant()
    def what_is_next_is_in_order(self) -> None:
        model = self.model
        for queue in (POOL, OUTSIDE):
            found = self.raw.peek(100, None if queue == POOL else queue)
            assert [(one.id, one.why) for one in found] == model.order(queue, self.latest)
            assert self.raw.would_start(queue) == bool(model.free(model.line(queue), now=self.latest, held=False))
        assert self.raw.ready() == bool(model.free(model.line(POOL), now=self.latest))
        assert self.raw.limits() == {name: limit for name, limit in model.limits.items() if not limit.is_quota}
        assert self.raw.tenants() == model.tenants

    @invariant()
    def what_is_in_use_is_what_tasks_that_run_have(self) -> None:
        model, found = self.model, self.raw.in_use()
        assert self.raw.resources() == model.resources
        assert found.resources == dict(model.in_use())
        assert found.slots == dict(sum((Counter({header.queue: header.slots}) for header in model.running()), Counter()))
        line = [] if model.queues[POOL].paused or POOL in model.shut else model.line(POOL)
        waits = model.waits(line, self.latest)
        assert found.kept == {key: one for key, one in waits.items() if model.over.get(key, 0) >= model.queues[POOL].aging_share - 1}
        weights = [model.tasks[one][0].header.slots for one in model.free(line, now=self.latest)]
        assert self.raw.heaviest(frozenset({"a", "b", SHELL})) == max(weights, default=0)

    @invariant()
    def who_waits_for_whom_is_as_it_should_be(self) -> None:
        parents = {parent for parent, _ in self.model.children}
        assert set(self.raw.awaited(range(self.model.last_id + 2))) == parents
        for parent in parents:
            assert self.raw.children(parent, 100) == sorted(child for of, child in self.model.children if of == parent)
        ids = range(1, self.model.last_id + 2)
        assert self.raw.states(ids) == [self.model.tasks[one][1].state if one in self.model.tasks else None for one in ids]

    @invariant()
    def names_and_events_are_as_they_should_be(self) -> None:
        model = self.model
        owners = [model.names.get(name) for name in NAMED]
        assert self.raw.holders(NAMED) == [None if owner is None else Holder(*owner[:2]) for owner in owners]
        assert self.raw.events(None, 10) == model.events[::-1]
        for kind in ("breaker", "tenant"):
            assert self.raw.standings(kind) == {name: row for (of, name), row in model.standings.items() if of == kind}
        found = {name: (one.number, one.due_at, one.missed) for name, one in self.raw.schedules().items()}
        assert found == {name: (one.number, one.due_at, one.missed) for name, one in model.schedules.items()}
        assert self.raw.events(model.events[-1].number if model.events else 1, 1) == model.events[-2:-1]

    @invariant()
    def environments_are_those_of_the_commands_there_are(self) -> None:
        used = {environment_key(spec.header) for spec, _ in self.model.tasks.values()}
        for key, packed in (environment_of({"E": env}) for env in "xyz"):
            assert self.raw.environment(key) == (packed if key in used else None)

    @invariant()
    def counts_equal_a_recount(self) -> None:
        states: Counter[tuple[str, str, State]] = Counter()
        size: Counter[tuple[str, str]] = Counter()
        for spec, status in self.model.tasks.values():
            key = (spec.header.queue, spec.header.type)
            states[*key, status.state] += 1
            size[key] += 0 if status.state.final else len(spec.payload)
        kept: Counter[tuple[str, str, bool]] = Counter()
        for task in self.raw.get([i for i, (_, status) in self.model.tasks.items() if status.state in FINAL]):
            assert task is not None
            head, size_of = task.spec.header, len(task.spec.record()) + len(task.status.record(task.id))
            kept[head.queue, head.type, task.state is State.FAILED] += size_of
        for tally in self.raw.tallies():
            key = (tally.queue, tally.type)
            assert tally.kept == [kept[*key, False], kept[*key, True]]
            assert tally.states == [states.pop((*key, state), 0) for state in State]
            assert tally.bytes == size[key]
            for word in ("succeeded", "failed", "retried", "runs", "run_ms"):
                assert getattr(tally, word) == self.model.totals[*key, word]
        assert not states

    @invariant()
    def accounts_equal_a_recount(self) -> None:
        found, live = {one.tenant: one for one in self.raw.accounts("", 9)}, list(State)[: State.SUCCEEDED]
        for name in ("x", "y"):
            mine = [(spec, status.state) for spec, status in self.model.tasks.values() if spec.header.tenant == name]
            account = found.pop(name, Account(name))
            assert account.states[: State.SUCCEEDED] == [sum(state is one for _, state in mine) for one in live]
            assert account.bytes == sum(len(spec.payload) for spec, state in mine if state in live)
            assert account.today(self.now) == self.model.accepted[name, self.now // DAY_MS]
        assert not found


MEMORY = "/dev/shm" if os.access("/dev/shm", os.W_OK) and shutil.disk_usage("/dev/shm").free > 4 * DISK_RESERVE else None
"""Thousands of commits: on a disk their syncs would take most of the time, and some disks take minutes. (Some machines
have so little there that a store would refuse everything.)"""


def _machine(module: str, name: str) -> type[StoreMachine]:
    """The machine of one store; its first turn makes the external queue."""

    def make(path: Path) -> Store:
        store: Store = getattr(import_module(module), name)(path, LIMITS)
        if OUTSIDE not in store.queues():
            store.begin(1)
            store.put_queue(QueueInfo(OUTSIDE, external=True))
            store.commit()
        return store

    return type(f"{name}Machine", (StoreMachine,), {"make": staticmethod(make)})


MACHINES = {"memory": _machine("tq.store.memory", "MemoryStore"), "lmdb": _machine("tq.store.lmdb", "LmdbStore")}

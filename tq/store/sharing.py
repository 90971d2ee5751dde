"""Whose turn it is, in the most obvious way: what is next in the memory store.

For: the order of claims (promise 6 of ``tq.store``), and that of lists of pending tasks.
Not for: changing anything.
Runs in: the process that opens a memory store.
Promises: one task at a time, each chosen anew by the rules of lanes.py; it costs what that costs.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any, NamedTuple

from tq.model import Header, Needs, State, environment_key, input_of, pack, slots_in, unpack
from tq.store import Account, InUse, Limit, Peeked, Query, QueueInfo, Tenant, Used, Want
from tq.store.limits import Allowance
from tq.store.needs import WORKERS, Head, Key, Supply, is_free
from tq.store.shares import began, ticked
from tq.store.snapshot import Contents, Had, Turn
from tq.store.tenants import together

Rung = tuple[int, Needs]
"""Tasks of one level of a queue that need the same."""


Heads = dict[Rung, tuple[int, int]]
"""(sequence, id) of the next of each."""


@dataclass(slots=True)
class Part:
    """A tenant of a queue while claims take from it, or would: what it has had, the next of each rung and those behind."""

    tenant: str | None
    had: Had
    heads: Heads
    behind: dict[Rung, Iterator[tuple[int, int]]]

    def may_go(self, info: QueueInfo, left: float, supply: Supply | None) -> Heads:
        """The next of each rung for which there is enough of everything; None: whatever there is."""
        if supply is None:
            return self.heads
        return {rung: head for rung, head in self.heads.items() if supply.allows(info.name, left, rung[1], head[0] if rung[1] else 0)}

    def leave_out(self, mem: Contents, allowance: Allowance) -> None:
        """Those that have reached a limit, which opens no more while these claims go on."""
        for rung, head in list(self.heads.items()):
            allowed = (one for one in (head, *self.behind[rung]) if allowance.room(mem.specs[one[1]].header.lane) >= 1)
            del self.heads[rung]
            for first in islice(allowed, 1):
                self.heads[rung], self.behind[rung] = first, allowed

    def choose(self, mem: Contents, info: QueueInfo, heads: Heads, now: int) -> tuple[Rung, int, bool]:
        """The rung of the next task, how many then went before one that has aged, and whether this one has."""
        best = min(heads, key=lambda rung: (-rung[0], heads[rung]))
        lower = [rung for rung in heads if rung[0] != best[0]]
        passed_over = self.had.passed_over
        if lower and info.aging_ms and info.aging_share:
            oldest = min(lower, key=lambda rung: heads[rung])
            if now - mem.statuses[heads[oldest][1]].ready_at > info.aging_ms:
                return (oldest, 0, True) if passed_over >= info.aging_share - 1 else (best, passed_over + 1, False)
        return best, passed_over, False

    def take(self, rung: Rung) -> tuple[int, int]:
        head = self.heads.pop(rung)
        following = next(self.behind[rung], None)
        if following is not None:
            self.heads[rung] = following
        return head


@dataclass(slots=True)
class Going:
    """A queue while claims take from it, or would: its turn, what it may still give, and its tenants."""

    info: QueueInfo
    turn: Turn
    left: float
    parts: list[Part]
    waiting: Counter[str | None]
    """How many tasks each tenant with work has there, whatever their type."""

    def next(self, supply: Supply | None) -> Part | None:
        """The tenant whose turn it is, of those that have a task that may go."""
        some = [part for part in self.parts if part.may_go(self.info, self.left, supply)]
        return min(some, key=lambda part: (part.had.passed, part.had.since, part.tenant or ""), default=None)

    def highest(self, supply: Supply | None) -> int:
        """The level of the highest task that may go."""
        return max((level for part in self.parts for level, _ in part.may_go(self.info, self.left, supply)), default=-1)


class Step(NamedTuple):
    """A task in its turn: why it goes first; then this is the turn of its queue, what its tenant has had, and how many took of what
    others wait for."""

    id: int
    why: str
    turn: Turn
    had: Had
    over: dict[Key, int]


def joined(mem: Contents, queues: Sequence[str]) -> dict[str, Turn]:
    """The turns of these queues, when those that came back have joined the others."""
    turns = {name: mem.turns[name] for name in queues}
    least = min([turn.passed for turn in turns.values() if not turn.back] or [turn.passed for turn in turns.values()], default=0.0)
    for name, turn in turns.items():
        if turn.back:
            most = least + 1 / mem.queue(name).weight
            turns[name] = replace(turn, passed=min(max(turn.passed, least), most), back=False)
    return turns


def order(
    mem: Contents,
    queues: Sequence[str],
    types: frozenset[str] | None,
    now: int,
    most: float | None = None,
    *,
    reach: Sequence[str] = (),
    want: Want | None = None,
) -> Iterator[Step]:
    """The ready tasks of these open queues as promise 6 orders them. ``reach``: the queues for whose tasks something may be kept.

    ``most`` of each queue, whatever they need; None: as many as there are slots and resources for.
    """
    going: dict[str, Going] = {}
    supply = Supply(mem.resources, mem.used(), dict(mem.over), want, mem.given) if most is None else None
    over, allowance = mem.over, mem.allowance(now) if most is None else None
    for name, turn in joined(mem, queues).items():
        left = mem.slots_left(name) if most is None else most
        waiting = Counter({tenant: count for (queue, tenant), count in mem.waiting.items() if queue == name and count})
        going[name] = Going(mem.queue(name), turn, left, _parts(mem, name, types), waiting)
    taken: set[int] = set()
    while going:
        if allowance is not None:
            for part in [part for one in going.values() for part in one.parts]:
                part.leave_out(mem, allowance)
        if supply is not None:
            supply.look(_waiting(mem, reach, types, taken, allowance), now)
        name = min(going, key=lambda queue: (going[queue].turn.passed, queue))
        one = going[name]
        chosen = one.next(supply)
        if chosen is None:
            del going[name]
            continue
        rung, passed_over, aged = chosen.choose(mem, one.info, chosen.may_go(one.info, one.left, supply), now)
        share = any(other.highest(supply) > rung[0] for other in going.values())
        seq, task_id = chosen.take(rung)
        passed, at = began(chosen.had.passed, one.turn.at, 1, mem.weight(chosen.tenant))
        chosen.had = replace(chosen.had, passed=passed, passed_over=passed_over)
        clock = ticked(one.turn.clock, at, 1, sum(mem.weight(tenant) for tenant, count in one.waiting.items() if count))
        one.waiting[chosen.tenant] -= 1
        one.turn = Turn(one.turn.passed + 1 / one.info.weight, False, at, clock)
        slots = slots_in(rung[1])
        one.left -= slots if most is None else 1
        taken.add(task_id)
        if allowance is not None:
            allowance.take(mem.specs[task_id].header.lane)
        if supply is not None:
            supply.take(name, rung[1], seq, 1)
            over = supply.over
        if one.left <= 0:
            del going[name]
        yield Step(task_id, "aged" if aged else "share" if share else "priority", one.turn, chosen.had, over)


def _parts(mem: Contents, queue: str, types: frozenset[str] | None) -> list[Part]:
    """The tenants of a queue that have ready tasks of these types."""
    found: dict[str | None, Part] = {}
    for rung, tasks in _rungs(mem, queue, types).items():
        of: dict[str | None, list[tuple[int, int]]] = {}
        for one in tasks:
            of.setdefault(mem.specs[one[1]].header.tenant, []).append(one)
        for tenant, (first, *behind) in of.items():
            part = found.setdefault(tenant, Part(tenant, mem.had[queue, tenant], {}, {}))
            part.heads[rung], part.behind[rung] = first, iter(behind)
    return list(found.values())


def _rungs(mem: Contents, queue: str, types: frozenset[str] | None) -> dict[Rung, list[tuple[int, int]]]:
    """The ready tasks of a queue, of these types, by what makes them go or wait: (sequence, id), in order."""
    if types is None and not mem.needy:
        return {(level, ()): tasks for level, tasks in mem.ready[queue].items() if tasks}
    found: dict[Rung, list[tuple[int, int]]] = {}
    for level, tasks in mem.ready[queue].items():
        for seq, task_id in tasks:
            header = mem.specs[task_id].header
            if types is None or header.type in types:
                found.setdefault((level, header.needs), []).append((seq, task_id))
    return found


def _waiting(
    mem: Contents, queues: Sequence[str], types: frozenset[str] | None, taken: Collection[int] = (), allowance: Allowance | None = None
) -> Iterator[Head]:
    """The ready tasks of these queues that need something, but for those that are taken or have reached a limit."""
    for name in queues if mem.needy else ():
        for (_, needs), tasks in _rungs(mem, name, types).items():
            for seq, task_id in tasks if needs else ():
                if task_id not in taken and (allowance is None or allowance.room(mem.specs[task_id].header.lane) >= 1):
                    yield mem.queue(name), needs, seq, mem.statuses[task_id].ready_at


def in_order(mem: Contents, query: Query) -> Iterator[tuple[int, bytes]]:
    """Pending tasks as they would run if no queue were paused, external or full, and nothing had aged."""
    after = {name: (passed, tuple(place)) for name, passed, place in unpack(query.before)} if query.before is not None else {}
    lines: dict[str, list[tuple[int, int, int]]] = {}
    for name, line in mem.ready.items():
        if any(line.values()) and query.queue in (None, name):
            places = sorted((-level, *entry) for level, rung in line.items() for entry in rung)
            passed, place = after.get(name, (mem.turns[name].passed, (-10, 0, 0)))
            after[name], lines[name] = (passed, place), places[bisect_right(places, place) :][::-1]
    while lines := {name: line for name, line in lines.items() if line}:
        name = min(lines, key=lambda queue: (after[queue][0], queue))
        after[name] = (after[name][0] + 1 / mem.queue(name).weight, lines[name].pop())
        yield after[name][1][2], pack([[queue, *rest] for queue, rest in after.items()])


class Ahead:
    """The part of the memory store that says what comes next."""

    _contents: Contents
    _latest: int
    """Now, of this turn or the last."""
    _shut: frozenset[str] = frozenset()
    """Queues of which nothing is given out for now."""

    def shut(self, queues: Collection[str]) -> None:
        let_go, self._shut = self._shut - set(queues), frozenset(queues)
        for queue in let_go:
            self._comes_back(queue)

    def _comes_back(self, queue: str) -> None:
        """The queue joins the others at the next claim: it has not saved up turns."""
        turns = self._contents.turns
        turns[queue] = replace(turns.get(queue, Turn()), back=True)

    def would_start(self, queue: str) -> bool:
        mem = self._contents
        return any(mem.ready.get(queue, {}).values()) and not (mem.queue(queue).paused or mem.full(queue) or mem.lacks(queue, self._latest))

    def _within(self, queues: frozenset[str] | None) -> list[str]:
        """The queues with work that a claim for ``queues`` looks at."""
        mem = self._contents
        names = mem.ready.keys() - self._shut if queues is None else mem.ready.keys() & queues - self._shut
        infos = [mem.queue(name) for name in names if any(mem.ready[name].values())]
        return [i.name for i in infos if not (i.paused or (i.external and queues is None))]

    def _open(self, queues: frozenset[str] | None) -> list[str]:
        """Those of them that it may take from."""
        mem = self._contents
        return [name for name in self._within(queues) if not (mem.full(name) or mem.lacks(name, self._latest))]

    def peek(self, limit: int, queue: str | None = None) -> list[Peeked]:
        named = None if queue is None else frozenset({queue})
        ahead = order(self._contents, self._open(named), None, self._latest, reach=self._within(named))
        return [Peeked(one.id, one.why) for one in islice(ahead, limit)]

    def line(self, queue: str, limit: int) -> list[int]:
        mem = self._contents
        some = [queue] if any(mem.ready.get(queue, {}).values()) else []
        return [one.id for one in order(mem, some, None, self._latest, limit)] if limit else []

    def oldest(self, queue: str | None, type: str | None) -> int:  # noqa: A002
        mem = self._contents
        ready = (
            mem.specs[task_id] for name, line in mem.ready.items() if queue in (None, name) for rung in line.values() for _, task_id in rung
        )
        return min((mem.statuses[spec.id].ready_at for spec in ready if type in (None, spec.header.type)), default=0)

    def oldest_of_each(self) -> dict[str, int]:
        return {name: since for name in self._contents.ready if (since := self.oldest(name, None))}

    def coming(self, after: tuple[int, int], until: int, limit: int) -> tuple[list[tuple[int, int]], tuple[int, int] | None]:
        timers = self._contents.timers
        found = [(at, task_id) for at, kind, task_id in timers if kind == "due" and after < (at, task_id) and at <= until]
        return found[:limit], found[limit - 1] if len(found) > limit else None


class Stock:
    """The part of the memory store that knows what there is of resources and slots, and who has it."""

    _contents: Contents
    _latest: int

    def _within(self, queues: frozenset[str] | None) -> list[str]:
        raise NotImplementedError

    def standings(self, kind: str) -> dict[str, Sequence[Any]]:
        return {name: row for (of, name), row in self._contents.standings.items() if of == kind}

    def limits(self) -> dict[str, Limit]:
        return {name: limit for name, limit in self._contents.limits.items() if not limit.is_quota}

    def is_limited(self) -> bool:
        return bool(self._contents.limits)

    def tenants(self) -> dict[str, Tenant]:
        return dict(self._contents.tenants)

    def account(self, name: str | None) -> Account | None:
        if name is not None:
            return self._contents.account(name)
        known = [self._contents.account(one) or Account(one) for one in self._contents.accounts]
        return together([*known, Account(None)])

    def accounts(self, after: str, most: int) -> list[Account]:
        names = sorted(name for name in self._contents.accounts.keys() | self._contents.tenants.keys() if name > after)
        return [self._contents.account(name) or Account(name) for name in names[:most]]

    def limited(self, limit: Limit, most: int) -> list[Used]:
        mem, allowance = self._contents, self._contents.allowance(self._latest)
        headers = [mem.specs[one].header for one, status in mem.statuses.items() if status.state in (State.PENDING, State.RUNNING)]
        there = {counted for header in headers for counted in mem.counted(header) if counted[0] == limit.name}
        used = [] if allowance is None else [allowance.used(counted) for counted in there]
        return sorted(used, key=lambda one: (not one.reached, one.of))[:most]

    def reached(self, header: Header) -> list[tuple[Limit, Used]]:
        allowance = self._contents.allowance(self._latest)
        return [] if allowance is None else allowance.reached(header.lane)

    def resources(self) -> dict[str, int]:
        return dict(self._contents.resources)

    def in_use(self, workers: int = 0) -> InUse:
        mem = self._contents
        used = mem.used()
        queues = {mem.specs[task_id].header.queue for task_id in mem.held}
        supply = Supply(mem.resources, used, mem.over, Want("", 0, at_once=1, slots=workers) if workers else None)
        supply.look(_waiting(mem, self._within(None), None, (), mem.allowance(self._latest)), self._latest)
        ids = {status.seq: task_id for task_id, status in mem.statuses.items() if status.state is State.PENDING}
        beside = used.pop(WORKERS, 0)
        return InUse(used, {name: mem.slots_taken(name) for name in queues}, beside, {key: ids[seq] for key, seq in supply.kept().items()})

    def heaviest(self, types: Collection[str]) -> int:
        mem, used = self._contents, self._contents.used()
        allowance, found = mem.allowance(self._latest), set[tuple[str, Needs]]()
        for name in self._within(None):
            lanes = {mem.specs[task_id].header.lane for tasks in mem.ready[name].values() for _, task_id in tasks}
            found |= {(name, lane[4]) for lane in lanes if lane[1] in types and (allowance is None or allowance.room(lane) >= 1)}
        return max((slots_in(needs) for name, needs in found if is_free(needs, mem.slots_left(name), mem.resources, used)), default=0)


class Commands:
    """The part of the memory store that knows what commands have beside their tasks."""

    _contents: Contents

    def environment(self, key: bytes) -> bytes | None:
        return self._contents.environments.get(key)

    def inputs(self) -> set[str]:
        headers = [spec.header for spec in self._contents.specs.values()]
        return {input_of(header).decode() for header in headers if environment_key(header) is not None} - {""}

    def freed(self) -> list[str]:
        found, self._contents.freed = self._contents.freed, []
        return found

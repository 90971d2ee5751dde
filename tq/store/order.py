"""The order of what is next, read ahead: what a claim would take, and then, and then.

For: ``peek``, and lists of pending tasks.
Not for: claiming (hot.py), which by the same rules takes runs and not one task at a time.
Runs in: the daemon, on the thread of its loop.
Promises: changes nothing; costs O(lanes) once and O(log lanes) a task; holds no transaction between two reads, and passes
over what was claimed since the last.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from heapq import heapify, heappop, heappush, heapreplace
from math import inf
from typing import Any

from tq.model import Needs, slots_in
from tq.store import QueueInfo
from tq.store.files import Dbs
from tq.store.keys import PAIR, READY, RUNG
from tq.store.limits import Allowance
from tq.store.lines import Lane, Line
from tq.store.needs import Head, Supply
from tq.store.shares import began

Entry = tuple[int, int, int]
"""The next of a rung: its sequence, its lane's number, and since when it is ready."""


Rung = tuple[int, Needs]
"""Tasks of one level, and where it matters of the same needs."""


@dataclass(slots=True)
class Part:
    """A tenant of a queue whose turn it may be: its pass, since when it has had work, and for each rung the next of its lanes as a heap."""

    passed: int = 0
    since: int = 0
    name: str = ""
    weight: int = 1
    passed_over: int = 0
    rungs: dict[Rung, list[Entry]] = field(default_factory=dict)

    def __lt__(self, other: Part) -> bool:
        return False  # of two entries that are equal but for this one is stale

    def next_rung(self, rungs: Collection[Rung], info: QueueInfo, now: int) -> tuple[Rung, bool]:
        """Of these the one whose next task goes first, and whether because it has aged."""
        best = min(rungs, key=lambda rung: (rung[0], self.rungs[rung][0]))
        lower = [rung for rung in rungs if rung[0] != best[0]] if len(rungs) > 1 and info.aging_ms and info.aging_share else ()
        if lower:
            oldest = min(lower, key=lambda rung: self.rungs[rung][0])
            if now - self.rungs[oldest][0][2] > info.aging_ms:
                if self.passed_over >= info.aging_share - 1:
                    self.passed_over = 0
                    return oldest, True
                self.passed_over += 1
        return best, False


@dataclass(slots=True)
class Turns:
    """A queue whose turn it may be: its pass, how many it may still give, and its tenants; ``shared`` False: all as if they were one.

    ``rings`` and ``tops`` are heaps of tenants for each kind of needs, by whose turn it is and by level; of rungs that need something
    ``needy`` has the next of all tenants. Entries in them may be stale.
    """

    info: QueueInfo
    passed: float
    left: float = inf
    shared: bool = False
    at: int = 0
    parts: dict[str | None, Part] = field(default_factory=dict)
    rings: dict[Needs, list[tuple[int, int, str, Part]]] = field(default_factory=dict)
    tops: dict[Needs, list[tuple[int, Part]]] = field(default_factory=dict)
    needy: dict[Rung, list[Entry]] = field(default_factory=dict)

    @property
    def name(self) -> str:
        return self.info.name

    def add(self, lane: Lane, level: int, needs: Needs) -> None:
        share, (seq, ready_at) = lane.share, lane.heads[level]
        tenant = share.tenant if self.shared else None
        part = self.parts.get(tenant)
        if part is None and self.shared:
            part = self.parts[tenant] = Part(share.passed, share.since, share.name, share.weight, share.passed_over)
        elif part is None:
            part = self.parts[tenant] = Part()
        part.rungs.setdefault((level, needs), []).append((seq, lane.number, ready_at))
        if needs:
            self.needy.setdefault((level, needs), []).append((seq, lane.number, ready_at))

    def arrange(self) -> None:
        """Every lane was added."""
        for part in self.parts.values():
            for heap in part.rungs.values():
                heapify(heap)
            for level, needs in part.rungs:
                self.tops.setdefault(needs, []).append((level, part))
            for needs in {needs for _, needs in part.rungs}:
                self.rings.setdefault(needs, []).append((part.passed, part.since, part.name, part))
        heaps: list[list[Any]] = [*self.rings.values(), *self.tops.values(), *self.needy.values()]
        for heap in heaps:
            heapify(heap)


def listed(lines: Iterable[Line]) -> list[Turns]:
    """The turns of these lines as a list shows them: every task by level and sequence, whoever's it is, has aged or how many run."""
    return [Turns(QueueInfo(line.info.name, weight=line.info.weight, aging_ms=0), line.passed) for line in lines]


def claimable(lines: Sequence[Line], passes: Sequence[float]) -> list[Turns]:
    """The turns of these open lines as claims would give them."""
    return [Turns(line.info, passed, line.left, True, line.at) for line, passed in zip(lines, passes, strict=True)]


class Order:
    """Ids in the order of claims. Each ``take`` goes on where the last one ended.

    ``supply``: what is left of what tasks need, None: that does not matter. Something of it may also be kept for tasks of ``others``,
    lines whose turn it is not. ``allowance``: what the limits allow, None: whatever there is; a lane that has used it up is left out.
    """

    def __init__(
        self, dbs: Dbs, turns: list[Turns], lanes: Iterable[Lane], now: int, supply: Supply | None = None, others: Iterable[Line] = (),
        allowance: Allowance | None = None,
    ) -> None:  # fmt: skip
        self._dbs = dbs
        self._now = now
        self._supply = supply
        self._allowance = allowance
        self._lanes: dict[int, Lane] = {}
        self._taken: set[int] = set()  # sequences of those that needed something
        by_name = {line.info.name: Turns(line.info, line.passed, shared=True) for line in others} | {one.name: one for one in turns}
        for lane in lanes:
            one = by_name.get(lane.line.info.name)
            if one is None or (allowance is not None and lane.parked):
                continue
            self._lanes[lane.number] = lane
            for level in lane.heads:
                one.add(lane, level, lane.needs if supply is not None else ())
        self._all = list(by_name.values())
        for one in self._all:
            one.arrange()
        self._turns = [one for one in turns if one.parts]

    def take(self, txn: Any, count: int) -> list[int]:
        """The next ``count`` ids, fewer at the end."""
        return [task_id for task_id, _ in self._go_on(txn, count, told=False)]

    def explain(self, txn: Any, count: int) -> list[tuple[int, str]]:
        """The same, each with the reason why it goes first: see ``Peeked``."""
        return self._go_on(txn, count, told=True)

    def _go_on(self, txn: Any, count: int, *, told: bool) -> list[tuple[int, str]]:
        cursor = txn.cursor(self._dbs["ready"])
        found: list[tuple[int, str]] = []
        while self._turns and len(found) < count:
            if self._supply is not None:
                self._supply.look(self._waiting(cursor), self._now)
            turn = min(self._turns, key=lambda one: (one.passed, one.name)) if len(self._turns) > 1 else self._turns[0]
            part = self._whose(cursor, turn)
            rungs = self._may_go(cursor, turn, part) if part is not None else []
            if part is None or not rungs:
                self._turns.remove(turn)
                continue
            rung, aged = part.next_rung(rungs, turn.info, self._now)
            higher = told and any(self._highest(cursor, one) < rung[0] for one in self._turns)
            found.append((self._take_one(cursor, turn, part, rung), "aged" if aged else "share" if higher else "priority"))
            if turn.left <= 0:
                self._turns.remove(turn)
        return found

    def _classes(self, cursor: Any, turn: Turns) -> Iterator[tuple[Needs, list[tuple[Rung, Part]] | None]]:
        """The needs of which a task may go; with them the only ones that may, where what they need is kept from the others."""
        supply = self._supply
        for needs in list(turn.rings):
            if supply is None or supply.allows(turn.name, turn.left, needs):
                yield needs, None
            else:
                kept = []
                for rung in [rung for rung in turn.needy if rung[1] == needs]:
                    heap = turn.needy[rung]
                    if self._settle(cursor, heap, rung[0]) and supply.allows(turn.name, turn.left, needs, heap[0][0]):
                        kept.append((rung, turn.parts[self._lanes[heap[0][1]].share.tenant]))
                yield needs, kept

    def _whose(self, cursor: Any, turn: Turns) -> Part | None:
        """The tenant whose turn it is."""
        if len(turn.parts) == 1:
            return next(iter(turn.parts.values()))
        first: list[tuple[int, int, str, Part]] = []
        for needs, kept in self._classes(cursor, turn):
            if kept is not None:
                first += [(part.passed, part.since, part.name, part) for _, part in kept]
                continue
            ring = turn.rings[needs]
            while ring:
                part = ring[0][3]
                if ring[0][0] != part.passed:
                    heapreplace(ring, (part.passed, part.since, part.name, part))
                elif not self._there(cursor, part, needs):
                    heappop(ring)
                else:
                    first.append(ring[0])
                    break
            else:
                del turn.rings[needs]
        return min(first)[3] if first else None

    def _may_go(self, cursor: Any, turn: Turns, part: Part) -> list[Rung]:
        """The rungs of a tenant for which there is enough of everything."""
        found: list[Rung] = []
        for needs, kept in self._classes(cursor, turn):
            if kept is None:
                found += self._there(cursor, part, needs, every=bool(turn.info.aging_ms) or self._supply is not None)
            else:
                found += [rung for rung, one in kept if one is part and self._settle(cursor, part.rungs[rung], rung[0])]
        return found

    def _highest(self, cursor: Any, turn: Turns) -> float:
        """The level of the highest task of a queue that may go."""
        highest = inf
        for needs, kept in self._classes(cursor, turn):
            if kept is not None:
                highest = min([highest] + [rung[0] for rung, _ in kept])
                continue
            tops = turn.tops.get(needs, [])
            while tops and not self._is_there(cursor, tops[0][1], (tops[0][0], needs)):
                heappop(tops)
            highest = min([highest] + [level for level, _ in tops[:1]])
        return highest

    def _waiting(self, cursor: Any) -> Iterator[Head]:
        """The next of each rung whose tasks need something."""
        for turn in self._all:
            for rung in list(turn.needy):
                if self._settle(cursor, turn.needy[rung], rung[0]):
                    seq, _, ready_at = turn.needy[rung][0]
                    yield turn.info, rung[1], seq, ready_at
                else:
                    del turn.needy[rung]

    def _there(self, cursor: Any, part: Part, needs: Needs, *, every: bool = False) -> list[Rung]:
        """The highest rung of a tenant with these needs that has a next task, or all of them; those that have none are gone."""
        found: list[Rung] = []
        for rung in sorted(part.rungs):
            if rung[1] == needs and self._is_there(cursor, part, rung):
                found.append(rung)
                if not every:
                    break
        return found

    def _is_there(self, cursor: Any, part: Part, rung: Rung) -> bool:
        """Whether a rung has a next task; if not, it is gone."""
        heap = part.rungs.get(rung)
        if heap is None:
            return False
        if self._settle(cursor, heap, rung[0]):
            return True
        del part.rungs[rung]
        return False

    def _settle(self, cursor: Any, heap: list[Entry], level: int) -> bool:
        """Make the first of a heap one that is still there, and may go as far as limits go; False: none is."""
        while heap:
            seq, number, _ = heap[0]
            if self._allowance is not None and self._allowance.room(self._lanes[number].key) < 1:
                heappop(heap)
            elif seq not in self._taken and cursor.set_key(READY.pack(number, level, seq)):
                return True
            else:
                heappop(heap)
                self._push(cursor, heap, number, level, cursor.set_range(READY.pack(number, level, seq + 1)))
        return False

    def _push(self, cursor: Any, heap: list[Entry], number: int, level: int, there: bool) -> None:
        """Where the cursor stands is the next of its rung, unless that is at its end."""
        if there and cursor.key()[: RUNG.size] == RUNG.pack(number, level):
            heappush(heap, (READY.unpack(cursor.key())[2], number, PAIR.unpack(cursor.value()[:16])[1]))

    def _take_one(self, cursor: Any, turn: Turns, part: Part, rung: Rung) -> int:
        """The next of a rung goes; everything that follows from that."""
        heap, (level, needs) = part.rungs[rung], rung
        seq, number, _ = heappop(heap)
        cursor.set_key(READY.pack(number, level, seq))
        task_id = PAIR.unpack(cursor.value()[:16])[0]
        self._push(cursor, heap, number, level, cursor.next())
        if not heap:
            del part.rungs[rung]
        if self._allowance is not None:
            self._allowance.take(self._lanes[number].key)
        if self._supply is not None:
            self._supply.take(turn.name, needs, seq, 1)
        if needs:
            self._taken.add(seq)
        turn.passed += 1 / turn.info.weight
        turn.left -= slots_in(needs)
        part.passed, turn.at = began(part.passed, turn.at, 1, part.weight)
        return int(task_id)

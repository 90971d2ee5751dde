"""The order of what is next, read ahead: what a claim would take, and then, and then.

For: ``peek``, and lists of pending tasks.
Not for: claiming (hot.py), which by the same rules takes runs and not one task at a time.
Runs in: the daemon, on the thread of its loop.
Promises: changes nothing; costs O(rungs) once and O(log rungs) a task; holds no transaction between two reads, and passes
over what was claimed since the last.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from heapq import heapify, heappop, heappush
from math import inf
from typing import Any

from tq.model import Needs, slots_in
from tq.store import QueueInfo
from tq.store.files import Dbs
from tq.store.keys import PAIR, READY, RUNG
from tq.store.lanes import Lane, Line
from tq.store.limits import Allowance
from tq.store.needs import Head, Supply

Entry = tuple[int, int, int]
"""The next of a rung: its sequence, its lane's number, and since when it is ready."""


Rung = tuple[int, Needs]
"""Tasks of one level of a queue, and where it matters of the same needs."""


@dataclass(slots=True)
class Turns:
    """A queue whose turn it may be: its pass, how many it may still give, and for each rung the next of its lanes as a heap."""

    info: QueueInfo
    passed: float
    left: float = inf
    aging_ms: int = 0
    passed_over: int = 0
    rungs: dict[Rung, list[Entry]] = field(default_factory=dict)

    @property
    def name(self) -> str:
        return self.info.name

    def next_rung(self, rungs: Collection[Rung], now: int) -> tuple[Rung, bool]:
        """Of these the one whose next task goes first, and whether because it has aged."""
        best = min(rungs, key=lambda rung: (rung[0], self.rungs[rung][0]))
        lower = [rung for rung in rungs if rung[0] != best[0]] if len(rungs) > 1 and self.aging_ms else ()
        if lower and self.info.aging_share:
            oldest = min(lower, key=lambda rung: self.rungs[rung][0])
            if now - self.rungs[oldest][0][2] > self.aging_ms:
                if self.passed_over >= self.info.aging_share - 1:
                    self.passed_over = 0
                    return oldest, True
                self.passed_over += 1
        return best, False


def listed(lines: Iterable[Line]) -> list[Turns]:
    """The turns of these lines as a list shows them: every task by level and sequence, whatever has aged or how many run."""
    return [Turns(line.info, line.passed) for line in lines]


def claimable(lines: Sequence[Line], passes: Sequence[float]) -> list[Turns]:
    """The turns of these open lines as claims would give them."""
    return [Turns(line.info, passed, line.left, line.info.aging_ms, line.passed_over) for line, passed in zip(lines, passes, strict=True)]


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
        self._keys = {} if allowance is None else {lane.number: lane.key for lane in lanes}
        by_name = {line.info.name: Turns(line.info, line.passed) for line in others} | {one.name: one for one in turns}
        for lane in lanes:
            one = by_name.get(lane.line.info.name)
            left_out = one is None or (allowance is not None and lane.parked)
            for level, (seq, ready_at) in lane.heads.items() if not left_out else ():
                rung = (level, lane.needs if supply is not None else ())
                by_name[lane.line.info.name].rungs.setdefault(rung, []).append((seq, lane.number, ready_at))
        self._all = list(by_name.values())
        self._turns = [one for one in turns if one.rungs]
        for one in self._all:
            for heap in one.rungs.values():
                heapify(heap)

    def take(self, txn: Any, count: int) -> list[int]:
        """The next ``count`` ids, fewer at the end."""
        return [task_id for task_id, _ in self.explain(txn, count)]

    def explain(self, txn: Any, count: int) -> list[tuple[int, str]]:
        """The same, each with the reason why it goes first: see ``Peeked``."""
        cursor = txn.cursor(self._dbs["ready"])
        supply = self._supply
        found: list[tuple[int, str]] = []
        while self._turns and len(found) < count:
            if self._allowance is not None:
                for one in self._all:
                    self._refresh(cursor, one)
            if supply is not None:
                supply.look(self._waiting(), self._now)
            turn = min(self._turns, key=lambda one: (one.passed, one.name)) if len(self._turns) > 1 else self._turns[0]
            self._refresh(cursor, turn)
            rungs = self._may_go(turn)
            if not rungs:
                self._turns.remove(turn)
                continue
            rung, aged = turn.next_rung(rungs, self._now)
            higher = any(level < rung[0] for other in self._turns if other is not turn for level, _ in self._may_go(other))
            seq, number, _ = turn.rungs[rung][0]
            if self._allowance is not None:
                self._allowance.take(self._keys[number])
            task_id = self._take_one(cursor, turn, rung)
            found.append((task_id, "aged" if aged else "share" if higher else "priority"))
            turn.passed += 1 / turn.info.weight
            turn.left -= slots_in(rung[1])
            if supply is not None:
                supply.take(turn.name, rung[1], seq, 1)
            if turn.left <= 0 or not turn.rungs:
                self._turns.remove(turn)
        return found

    def _may_go(self, turn: Turns) -> Collection[Rung]:
        """The rungs of a queue for which there is enough of everything."""
        supply = self._supply
        if supply is None:
            return turn.rungs
        heads = [(rung, heap[0][0] if rung[1] else 0) for rung, heap in turn.rungs.items()]
        return [rung for rung, seq in heads if supply.allows(turn.name, turn.left, rung[1], seq)]

    def _waiting(self) -> Iterator[Head]:
        """The next of each rung whose tasks need something."""
        for turn in self._all:
            for (_, needs), heap in turn.rungs.items():
                if needs:
                    yield turn.info, needs, heap[0][0], heap[0][2]

    def _refresh(self, cursor: Any, turn: Turns) -> None:
        """Make the first of each rung that may be chosen one that is still there."""
        while turn.rungs and not self._is_there(cursor, turn, min(turn.rungs)):
            pass
        for rung in sorted(turn.rungs)[1:] if turn.aging_ms or self._allowance is not None else ():
            self._is_there(cursor, turn, rung)

    def _is_there(self, cursor: Any, turn: Turns, rung: Rung) -> bool:
        """Whether the rung has a next task; if not, it is gone from the turn."""
        heap = turn.rungs[rung]
        while heap:
            seq, number, _ = heap[0]
            if self._allowance is not None and self._allowance.room(self._keys[number]) < 1:
                heappop(heap)
                continue
            if cursor.set_key(READY.pack(number, rung[0], seq)):
                return True
            heappop(heap)
            self._push(cursor, heap, number, rung[0], cursor.set_range(READY.pack(number, rung[0], seq)))
        del turn.rungs[rung]
        return False

    def _push(self, cursor: Any, heap: list[Entry], number: int, level: int, there: bool) -> None:
        """Where the cursor stands is the next of its rung, unless that is at its end."""
        if there and cursor.key()[: RUNG.size] == RUNG.pack(number, level):
            heappush(heap, (READY.unpack(cursor.key())[2], number, PAIR.unpack(cursor.value()[:16])[1]))

    def _take_one(self, cursor: Any, turn: Turns, rung: Rung) -> int:
        heap = turn.rungs[rung]
        seq, number, _ = heappop(heap)
        cursor.set_key(READY.pack(number, rung[0], seq))
        task_id = PAIR.unpack(cursor.value()[:16])[0]
        self._push(cursor, heap, number, rung[0], cursor.next())
        if not heap:
            del turn.rungs[rung]
        return int(task_id)

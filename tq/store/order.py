"""The order of what is next, read ahead: what a claim would take, and then, and then.

For: ``peek``, and lists of pending tasks.
Not for: claiming (hot.py), which by the same rules takes runs and not one task at a time.
Runs in: the daemon, on the thread of its loop.
Promises: changes nothing; costs O(rungs) once and O(log rungs) a task; holds no transaction between two reads, and passes
over what was claimed since the last.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from heapq import heapify, heappop, heappush
from math import inf
from typing import Any

from tq.store.files import Dbs
from tq.store.keys import PAIR, READY, RUNG
from tq.store.lanes import Lane, Line

Entry = tuple[int, int, int]
"""The next of a rung: its sequence, its lane's number, and since when it is ready."""


@dataclass(slots=True)
class Turns:
    """A queue whose turn it may be: its pass, how many it may still give, and for each level the next of its lanes as a heap."""

    name: str
    passed: float
    weight: int
    left: float = inf
    aging_ms: int = 0
    aging_share: int = 0
    passed_over: int = 0
    levels: dict[int, list[Entry]] = field(default_factory=dict)

    def next_level(self, now: int) -> tuple[int, bool]:
        """The level whose next task goes first, and whether because it has aged."""
        best = min(self.levels)
        if len(self.levels) > 1 and self.aging_ms and self.aging_share:
            (_, _, ready_at), level = min((heap[0], level) for level, heap in self.levels.items() if level != best)
            if now - ready_at > self.aging_ms:
                if self.passed_over >= self.aging_share - 1:
                    self.passed_over = 0
                    return level, True
                self.passed_over += 1
        return best, False


def listed(lines: Iterable[Line]) -> list[Turns]:
    """The turns of these lines as a list shows them: every task by level and sequence, whatever has aged or how many run."""
    return [Turns(line.info.name, line.passed, line.info.weight) for line in lines]


def claimable(lines: Sequence[Line], passes: Sequence[float]) -> list[Turns]:
    """The turns of these open lines as claims would give them."""
    found = []
    for line, passed in zip(lines, passes, strict=True):
        info = line.info
        left = info.slots - line.running if info.slots else inf
        found.append(Turns(info.name, passed, info.weight, left, info.aging_ms, info.aging_share, line.passed_over))
    return found


class Order:
    """Ids in the order of claims. Each ``take`` goes on where the last one ended."""

    def __init__(self, dbs: Dbs, turns: list[Turns], lanes: Iterable[Lane], now: int) -> None:
        self._dbs = dbs
        self._now = now
        by_name = {one.name: one for one in turns}
        for lane in lanes:
            one = by_name.get(lane.line.info.name)
            for level, (seq, ready_at) in lane.heads.items() if one is not None else ():
                by_name[lane.line.info.name].levels.setdefault(level, []).append((seq, lane.number, ready_at))
        self._turns = [one for one in turns if one.levels]
        for one in self._turns:
            for heap in one.levels.values():
                heapify(heap)

    def take(self, txn: Any, count: int) -> list[int]:
        """The next ``count`` ids, fewer at the end."""
        return [task_id for task_id, _ in self.explain(txn, count)]

    def explain(self, txn: Any, count: int) -> list[tuple[int, str]]:
        """The same, each with the reason why it goes first: see ``Peeked``."""
        cursor = txn.cursor(self._dbs["ready"])
        found: list[tuple[int, str]] = []
        while self._turns and len(found) < count:
            turn = min(self._turns, key=lambda one: (one.passed, one.name)) if len(self._turns) > 1 else self._turns[0]
            self._refresh(cursor, turn)
            if not turn.levels:
                self._turns.remove(turn)
                continue
            level, aged = turn.next_level(self._now)
            higher = any(min(other.levels) < level for other in self._turns if other is not turn)
            task_id = self._take_one(cursor, turn, level)
            found.append((task_id, "aged" if aged else "share" if higher else "priority"))
            turn.passed += 1 / turn.weight
            turn.left -= 1
            if turn.left <= 0 or not turn.levels:
                self._turns.remove(turn)
        return found

    def _refresh(self, cursor: Any, turn: Turns) -> None:
        """Make the first of each level that may be chosen one that is still there."""
        while turn.levels and not self._is_there(cursor, turn, min(turn.levels)):
            pass
        for level in sorted(turn.levels)[1:] if turn.aging_ms else ():
            self._is_there(cursor, turn, level)

    def _is_there(self, cursor: Any, turn: Turns, level: int) -> bool:
        """Whether the level has a next task; if not, it is gone from the turn."""
        heap = turn.levels[level]
        while heap:
            seq, number, _ = heap[0]
            if cursor.set_key(READY.pack(number, level, seq)):
                return True
            heappop(heap)
            self._push(cursor, heap, number, level, cursor.set_range(READY.pack(number, level, seq)))
        del turn.levels[level]
        return False

    def _push(self, cursor: Any, heap: list[Entry], number: int, level: int, there: bool) -> None:
        """Where the cursor stands is the next of its rung, unless that is at its end."""
        if there and cursor.key()[: RUNG.size] == RUNG.pack(number, level):
            heappush(heap, (READY.unpack(cursor.key())[2], number, PAIR.unpack(cursor.value()[:16])[1]))

    def _take_one(self, cursor: Any, turn: Turns, level: int) -> int:
        heap = turn.levels[level]
        seq, number, _ = heappop(heap)
        cursor.set_key(READY.pack(number, level, seq))
        task_id = PAIR.unpack(cursor.value()[:16])[0]
        self._push(cursor, heap, number, level, cursor.next())
        if not heap:
            del turn.levels[level]
        return int(task_id)

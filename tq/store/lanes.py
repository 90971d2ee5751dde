"""Lanes: which ready task is next, without ever reading past one that may not be taken.

For: the in-memory heads of the lanes, by queue and type; choosing the next lane for a claim.
Not for: the ready entries themselves (lmdb.py keeps them); counting.
Runs in: the daemon, inside the LMDB store; a cache, rebuilt at start and after an aborted turn.
Promises: ``best`` costs O(log lanes), whatever is paused; stale heap entries are dropped when they surface, and there
are never more than one a change of a head.

A lane is the set of ready tasks that stop and go together: same queue, type, tenant and flow key. Between queues:
stride scheduling (Waldspurger, 1995): each has a pass that grows by 1/weight a task, the smallest goes first, and
one that had no work joins at the smallest pass of those that have some.
"""

from __future__ import annotations

from heapq import heappop, heappush
from typing import NamedTuple

from tq.store import QueueInfo

Place = tuple[int, int]
"""(9 - priority, sequence): the smaller goes first."""
LaneKey = tuple[str, str, str | None, str | None]


class Lane:
    """One lane: its number in the store and the place of its first ready task (None: it is empty)."""

    __slots__ = ("head", "key", "line", "number")

    def __init__(self, number: int, key: LaneKey, line: Line) -> None:
        self.number = number
        self.key = key
        self.line = line
        self.head: Place | None = None


class Line:
    """A queue as the claim sees it: its pass, and a heap of (place, lane number) for each type."""

    __slots__ = ("busy", "heaps", "info", "passed")

    def __init__(self, info: QueueInfo) -> None:
        self.info = info
        self.passed = 0.0
        self.busy = 0  # lanes with work
        self.heaps: dict[str, list[tuple[int, int, int]]] = {}


class Pick(NamedTuple):
    """The lane to take from, and the place at which another lane of the same queue would come first."""

    lane: Lane
    until: Place | None


class Lanes:
    """Every lane and line of one store."""

    def __init__(self) -> None:
        self.by_key: dict[LaneKey, Lane] = {}
        self.by_number: dict[int, Lane] = {}
        self.lines: dict[str, Line] = {}
        self.last = 0

    def line(self, name: str) -> Line:
        line = self.lines.get(name)
        if line is None:
            line = self.lines[name] = Line(QueueInfo(name))
        return line

    def add(self, number: int, key: LaneKey) -> Lane:
        lane = Lane(number, key, self.line(key[0]))
        self.by_key[key] = self.by_number[number] = lane
        self.last = max(self.last, number)
        return lane

    def drop(self, lane: Lane) -> None:
        """Forget an empty lane."""
        del self.by_key[lane.key], self.by_number[lane.number]

    def set_head(self, lane: Lane, head: Place | None) -> None:
        """The first ready task of ``lane`` is now at ``head``."""
        old, line = lane.head, lane.line
        if head == old:
            return
        lane.head = head
        if head is None:
            line.busy -= 1
            return
        if old is None:
            if not line.busy:
                self._join(line)
            line.busy += 1
        heappush(line.heaps.setdefault(lane.key[1], []), (*head, lane.number))

    def _join(self, line: Line) -> None:
        """A line that has nothing to give, or gave nothing, saves up no turns."""
        working = [other.passed for other in self.lines.values() if other is not line and other.busy and not other.info.paused]
        if working:
            line.passed = min(working)

    def configure(self, info: QueueInfo) -> None:
        """New settings for a queue."""
        line = self.line(info.name)
        resumed = line.info.paused and not info.paused
        line.info = info
        if resumed:
            self._join(line)

    def _top(self, heap: list[tuple[int, int, int]]) -> tuple[int, int, int] | None:
        """The first entry of a heap that still is its lane's head; stale ones are dropped."""
        while heap:
            top = heap[0]
            lane = self.by_number.get(top[2])
            if lane is not None and lane.head == top[:2]:
                return top
            heappop(heap)
        return None

    def best(self, line: Line, types: frozenset[str] | None = None) -> Pick | None:
        """The lane of ``line`` whose head goes first, among ``types``; None if there is none."""
        tops = []
        for name, heap in line.heaps.items():
            if heap and (types is None or name in types):
                top = self._top(heap)
                if top is not None:
                    tops.append((top, heap))
        if not tops:
            return None
        tops.sort(key=lambda pair: pair[0])
        first, heap = tops[0]
        rivals = [tops[1][0]] if len(tops) > 1 else []
        if len(heap) > 1:
            heappop(heap)
            second = self._top(heap)
            heappush(heap, first)
            if second is not None:
                rivals.append(second)
        until = min(rivals)[:2] if rivals else None
        return Pick(self.by_number[first[2]], until)

    def open_lines(self, queues: frozenset[str] | None) -> list[Line]:
        """Lines that a claim may look at: with work, not paused, and external only by name."""
        lines = self.lines.values() if queues is None else [self.lines[q] for q in queues if q in self.lines]
        return [line for line in lines if line.busy and not line.info.paused and (queues is not None or not line.info.external)]

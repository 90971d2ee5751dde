"""Lanes: which ready task is next, without ever reading past one that may not be taken.

For: the in-memory heads of the lanes, by queue, type and level; which lines may be claimed from; choosing the next for a claim.
Not for: the ready entries themselves (hot.py keeps them); counting.
Runs in: the daemon, inside the LMDB store; a cache, rebuilt at start and after an aborted turn.
Promises: ``best`` costs O(log lanes), whatever is paused; stale heap entries are dropped when they surface, and a heap
that is more stale than not is built anew, so it never holds more than twice the heads there are.

A lane is the set of ready tasks that stop and go together: same queue, type, tenant and flow key. Its tasks of one
level are a **rung**, known by its head. Between queues: stride scheduling (Waldspurger, 1995): each line has a pass that
grows by 1/weight a task, and the smallest goes first. A line that comes back (it had no work, was paused or held, or ran as many
tasks as it has slots) joins those it is claimed with: at the smallest pass of theirs, or its own if that is larger, but
never more than one task behind. So it has saved up no turns, and what it took before it left still counts.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from heapq import heapify, heappop, heappush
from typing import NamedTuple

from tq.store import QueueInfo

Head = tuple[int, int]
"""The first task of a rung: its sequence, and since when it is ready (ms)."""
Heap = list[tuple[int, int]]
"""(sequence, lane number) of the heads of one type at one level; entries may be stale."""
LaneKey = tuple[str, str, str | None, str | None]


class Lane:
    """One lane: its number in the store and the head of each rung that has tasks, by level (9 - priority)."""

    __slots__ = ("heads", "key", "line", "number")

    def __init__(self, number: int, key: LaneKey, line: Line) -> None:
        self.number = number
        self.key = key
        self.line = line
        self.heads: dict[int, Head] = {}


class Line:
    """A queue as the claim sees it: its pass, how many of its tasks run, and a heap of heads for each type and level."""

    __slots__ = ("back", "heaps", "info", "lanes", "passed", "passed_over", "running")

    def __init__(self, info: QueueInfo) -> None:
        self.info = info
        self.passed = 0.0
        self.passed_over = 0  # claims that went before a head that had aged, since the last such head's own
        self.back = True  # it has not been claimed from since it came back
        self.lanes = 0  # those with work
        self.running = 0
        self.heaps: dict[str, dict[int, Heap]] = {}

    @property
    def full(self) -> bool:
        """It runs as many tasks as it has slots."""
        return 0 < self.info.slots <= self.running


class Pick(NamedTuple):
    """The rung to take from: only before sequence ``until`` (None: all), and ``most`` tasks (None: any number)."""

    lane: Lane
    level: int
    until: int | None
    most: int | None
    aged: bool
    waits: bool
    """A head of a lower level has aged."""


class Lanes:
    """Every lane and line of one store."""

    def __init__(self) -> None:
        self.by_key: dict[LaneKey, Lane] = {}
        self.by_number: dict[int, Lane] = {}
        self.lines: dict[str, Line] = {}
        self.last = 0
        self.shut: frozenset[str] = frozenset()
        """Queues that are held for now: nothing is given out of them."""
        self._busy: dict[str, Line] = {}  # lines with work
        self._before: dict[str, tuple[float, int, bool]] = {}  # the turns of lines at the begin of this turn, where they changed

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

    # -- heads -----------------------------------------------------------------------------------------------------

    def set_head(self, lane: Lane, level: int, head: Head | None) -> None:
        """The first ready task of ``lane`` at ``level`` is now ``head``."""
        heads, line = lane.heads, lane.line
        if head == heads.get(level):
            return
        if head is None:
            del heads[level]
            line.lanes -= not heads
            if not line.lanes:
                del self._busy[line.info.name]
            return
        if not heads:
            if not line.lanes:
                self._busy[line.info.name] = line
                self._comes_back(line)
            line.lanes += 1
        heads[level] = head
        heap = line.heaps.setdefault(lane.key[1], {}).setdefault(level, [])
        heappush(heap, (head[0], lane.number))
        if len(heap) > 2 * line.lanes + 16:
            self._tidy(heap, level)

    def _top(self, heap: Heap, level: int) -> tuple[int, int] | None:
        """The first entry of a heap that still is its lane's head; stale ones are dropped."""
        while heap:
            lane = self.by_number.get(heap[0][1])
            head = None if lane is None else lane.heads.get(level)
            if head is not None and head[0] == heap[0][0]:
                return heap[0]
            heappop(heap)
        return None

    def _tidy(self, heap: Heap, level: int) -> None:
        """Drop all stale entries, and what stands there twice."""
        lanes = {number: self.by_number.get(number) for _, number in heap}
        heap[:] = {(lane.heads[level][0], number) for number, lane in lanes.items() if lane is not None and level in lane.heads}
        heapify(heap)

    def best(self, line: Line, types: frozenset[str] | None, now: int) -> Pick | None:
        """The rung of ``line`` whose head goes first, among ``types``; None if there is none."""
        tops: list[tuple[int, int, int, Heap]] = []  # level, sequence, lane number, and the heap it stands in
        spent: list[tuple[str, int]] = []
        for name, levels in line.heaps.items():
            if types is None or name in types:
                for level, heap in levels.items():
                    top = self._top(heap, level)
                    if top is None:
                        spent.append((name, level))
                    else:
                        tops.append((level, top[0], top[1], heap))
        for name, level in spent:
            del line.heaps[name][level]
            if not line.heaps[name]:
                del line.heaps[name]
        if not tops:
            return None
        if len(tops) > 1:
            tops.sort()
        level, seq, number, heap = tops[0]
        most = None
        if tops[-1][0] != level and (aged := self._aged(line, tops, now)) is not None:
            most = line.info.aging_share - 1 - line.passed_over
            if most <= 0:
                return Pick(self.by_number[aged[2]], aged[0], None, 1, aged=True, waits=True)
        until = self._second(heap, level, (seq, number)) if len(heap) > 1 else None
        if len(tops) > 1 and tops[1][0] == level and (until is None or tops[1][1] < until):
            until = tops[1][1]
        return Pick(self.by_number[number], level, until, most, aged=False, waits=most is not None)

    def _aged(self, line: Line, tops: Sequence[tuple[int, int, int, Heap]], now: int) -> tuple[int, int, int, Heap] | None:
        """The longest-waiting head below the best level, if it has waited longer than the queue allows."""
        info = line.info
        if not info.aging_ms or not info.aging_share:
            return None
        oldest = min((top for top in tops if top[0] != tops[0][0]), key=lambda top: top[1])
        ready_at = self.by_number[oldest[2]].heads[oldest[0]][1]
        return oldest if now - ready_at > info.aging_ms else None

    def _second(self, heap: Heap, level: int, first: tuple[int, int]) -> int | None:
        """The sequence at which another lane of the heap comes first."""
        heappop(heap)
        while (second := self._top(heap, level)) == first:
            heappop(heap)
        heappush(heap, first)
        return None if second is None else second[0]

    # -- whose turn it is ------------------------------------------------------------------------------------------

    def configure(self, info: QueueInfo) -> None:
        """New settings for a queue."""
        line = self.line(info.name)
        closed = line.info.paused or line.full
        line.info = info
        if closed and not (info.paused or line.full):
            self._comes_back(line)

    def ended(self, line: Line, count: int) -> None:
        """So many tasks of ``line`` run no longer."""
        full = line.full
        line.running -= count
        if full and not line.full:
            self._comes_back(line)

    def _comes_back(self, line: Line) -> None:
        self._note(line)
        line.back = True

    def shut_only(self, queues: frozenset[str]) -> None:
        """These are held from now on, and no others."""
        let_go, self.shut = self.shut - queues, queues
        for name in let_go & self.lines.keys():
            self._comes_back(self.lines[name])

    def would_start(self, queue: str) -> bool:
        """Whether a queue has work that could start if it is not held."""
        line = self._busy.get(queue)
        return line is not None and not (line.info.paused or line.full)

    def _with_work(self) -> Collection[Line]:
        """Lines with work that are not held."""
        lines = self._busy.values()
        return [line for line in lines if line.info.name not in self.shut] if self.shut else lines

    def open_lines(self, queues: frozenset[str] | None) -> list[Line]:
        """Lines that a claim may take from: with work, not held, not paused, a slot free, and external only by name."""
        lines = self._with_work() if queues is None else [self._busy[q] for q in queues - self.shut if q in self._busy]
        return [line for line in lines if not line.info.paused and (queues is not None or not line.info.external) and not line.full]

    def join(self, lines: Sequence[Line]) -> None:
        """Those of ``lines`` that came back take their places among the others, before these are claimed from."""
        for line in lines:
            if line.back:
                break
        else:
            return
        for line, passed in zip(lines, joined(lines), strict=True):
            if line.back:
                self._note(line)
                line.passed, line.back = passed, False

    def took(self, line: Line, pick: Pick, count: int) -> None:
        """``count`` tasks were taken from where ``pick`` pointed to."""
        self._note(line)
        line.passed += count / line.info.weight
        if pick.waits:
            line.passed_over = 0 if pick.aged else line.passed_over + count

    def ready(self) -> bool:
        """Whether the pool could take something."""
        return any(not (line.info.paused or line.info.external or line.full) for line in self._with_work())

    # -- aborted turns ---------------------------------------------------------------------------------------------

    def _note(self, line: Line) -> None:
        if line.info.name not in self._before:
            self._before[line.info.name] = (line.passed, line.passed_over, line.back)

    def begin(self) -> None:
        """A turn begins: from here on ``follow`` goes back to."""
        self._before.clear()

    def follow(self, old: Lanes) -> None:
        """Take over whose turn it was at the begin of ``old``'s turn, which is lost, and what is held."""
        self.shut = old.shut
        for name, line in self.lines.items():
            if name in old.lines:
                was = old.lines[name]
                line.passed, line.passed_over, line.back = old._before.get(name, (was.passed, was.passed_over, was.back))
        self._before.clear()


def joined(lines: Sequence[Line]) -> list[float]:
    """The passes with which these lines share, those that came back in their places; nothing changes."""
    least = min([line.passed for line in lines if not line.back] or [line.passed for line in lines], default=0.0)
    return [min(max(line.passed, least), least + 1 / line.info.weight) if line.back else line.passed for line in lines]

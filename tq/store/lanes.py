"""Lanes: which ready task is next, without ever reading past one that may not be taken.

For: the in-memory heads of the lanes, by queue, type and level; which lines may be claimed from; choosing the next for a claim.
Not for: the ready entries themselves (hot.py keeps them); counting.
Runs in: the daemon, inside the LMDB store; a cache, rebuilt at start and after an aborted turn.
Promises: ``best`` costs O(log lanes), whatever is paused; stale heap entries are dropped when they surface, and a heap
that is more stale than not is built anew, so it never holds more than twice the heads there are.

A lane is the set of ready tasks that stop and go together: same queue, type, tenant, flow key and needs (what they hold while
they run: see needs.py). One whose tenant or flow key has reached a limit is parked: it stands in no heap until that opens (gates.py);
limits of queues and types close those as a whole. Its tasks of one level are a **rung**, known by its head. Between queues: stride
scheduling (Waldspurger, 1995): each line has a pass that grows by 1/weight a task, and the smallest goes first. A line that comes back (it
had no work, was paused or held, ran as many tasks as it has slots, or had none that might go) joins those it is
claimed with: at the smallest pass of theirs, or its own if that is larger, but never more than one task behind. So it has saved
up no turns, and what it took before it left still counts.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from heapq import heapify, heappop, heappush
from math import inf
from typing import NamedTuple

from tq.model import Header, Needs, slots_in
from tq.store import QueueInfo, Want
from tq.store import needs as supplies
from tq.store.gates import Gate, Gates
from tq.store.limits import Limit
from tq.store.needs import Supply, is_free

Head = tuple[int, int]
"""The first task of a rung: its sequence, and since when it is ready (ms)."""
Heap = list[tuple[int, int]]
"""(sequence, lane number) of the heads of one type at one level; entries may be stale."""
Heaps = dict[str, dict[int, Heap]]
"""By type and level."""
LaneKey = tuple[str, str, str | None, str | None, Needs]


class Lane:
    """One lane: its number in the store and the head of each rung that has tasks, by level (9 - priority)."""

    __slots__ = ("gates", "heads", "key", "line", "needs", "number", "parked", "slots")

    def __init__(self, number: int, key: LaneKey, line: Line) -> None:
        self.number = number
        self.needs = key[4]
        self.slots = slots_in(self.needs)
        self.key = key
        self.line = line
        self.heads: dict[int, Head] = {}
        self.gates: tuple[Gate, ...] = ()
        self.parked = False  # a limit of its tenant or flow key is reached: it stands in no heap


class Group:
    """The lanes of a line that need the same: how many have work, and their heads."""

    __slots__ = ("heaps", "lanes")

    def __init__(self) -> None:
        self.heaps: Heaps = {}
        self.lanes = 0


class Line:
    """A queue as the claim sees it: its pass, how many slots its tasks take, and a heap of heads for each type and level."""

    __slots__ = ("back", "heaps", "info", "lanes", "needy", "passed", "passed_over", "running")

    def __init__(self, info: QueueInfo) -> None:
        self.info = info
        self.passed = 0.0
        self.passed_over = 0  # claims that went before a head that had aged, since the last such head's own
        self.back = True  # it has not been claimed from since it came back
        self.lanes = 0  # those with work
        self.running = 0
        self.heaps: Heaps = {}  # of tasks without needs
        self.needy: dict[Needs, Group] = {}  # of the others; those with work

    @property
    def full(self) -> bool:
        """It runs as many tasks as it has slots."""
        return 0 < self.info.slots <= self.running

    @property
    def left(self) -> float:
        """How many slots it has left."""
        return self.info.slots - self.running if self.info.slots else inf


Top = tuple[int, int, int, Heap]
"""A head: level, sequence, lane number, and the heap it stands in."""


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
        self.totals: dict[str, int] = {}
        """The resources there are."""
        self.used: dict[str, int] = {}
        """What of them is held by tasks that run: see ``needs.hold``."""
        self.over: dict[supplies.Key, int] = {}
        self.gates = Gates()
        """The limits there are, and how far they are used."""
        self.given = 0
        """Slots of workers that were given tasks in this turn."""
        self.needy = 0
        """Lanes with work whose tasks need something."""
        self._over_before: dict[supplies.Key, int] = {}
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
        if self.gates.limits:
            self._gate(lane)
        return lane

    def drop(self, lane: Lane) -> None:
        """Forget an empty lane."""
        for gate in lane.gates:
            gate.lanes.pop(lane.number, None)
        del self.by_key[lane.key], self.by_number[lane.number]

    # -- heads -----------------------------------------------------------------------------------------------------

    def set_head(self, lane: Lane, level: int, head: Head | None) -> None:
        """The first ready task of ``lane`` at ``level`` is now ``head``."""
        heads, line = lane.heads, lane.line
        if head == heads.get(level):
            return
        if head is None:
            del heads[level]
            if not heads:
                line.lanes -= 1
                if lane.needs:
                    self._no_more_needy(lane)
                if lane.gates:
                    self.gates.rests(lane.gates)
            if not line.lanes:
                del self._busy[line.info.name]
            return
        if not heads:
            if not line.lanes:
                self._busy[line.info.name] = line
                self._comes_back(line)
            line.lanes += 1
            if lane.needs:
                self.needy += 1
                line.needy.setdefault(lane.needs, Group()).lanes += 1
            if lane.gates:
                self.gates.waits(lane.gates)
        heads[level] = head
        if not lane.parked:
            self._push(lane, level, head)

    def _push(self, lane: Lane, level: int, head: Head) -> None:
        line = lane.line
        heaps = line.needy[lane.needs].heaps if lane.needs else line.heaps
        heap = heaps.setdefault(lane.key[1], {}).setdefault(level, [])
        heappush(heap, (head[0], lane.number))
        if len(heap) > 2 * line.lanes + 16:
            self._tidy(heap, level)

    def _no_more_needy(self, lane: Lane) -> None:
        self.needy -= 1
        group = lane.line.needy[lane.needs]
        group.lanes -= 1
        if not group.lanes:
            del lane.line.needy[lane.needs]

    def _top(self, heap: Heap, level: int) -> tuple[int, int] | None:
        """The first entry of a heap that still is its lane's head; stale ones are dropped."""
        while heap:
            lane = self.by_number.get(heap[0][1])
            head = None if lane is None else lane.heads.get(level)
            if head is not None and head[0] == heap[0][0] and lane is not None and not lane.parked:
                return heap[0]
            heappop(heap)
        return None

    def _tidy(self, heap: Heap, level: int) -> None:
        """Drop all stale entries, and what stands there twice."""
        lanes = {number: self.by_number.get(number) for _, number in heap}
        heap[:] = {
            (lane.heads[level][0], number) for number, lane in lanes.items() if lane is not None and level in lane.heads and not lane.parked
        }
        heapify(heap)

    def tops(self, heaps: Heaps, types: frozenset[str] | None) -> list[Top]:
        """The head of each heap, among ``types`` whose limits are not reached; heaps that have none are forgotten."""
        tops: list[Top] = []
        spent: list[tuple[str, int]] = []
        shut = self.gates.shut
        for name, levels in heaps.items():
            if (types is None or name in types) and not (shut and ("type", name) in shut):
                for level, heap in levels.items():
                    top = self._top(heap, level)
                    if top is None:
                        spent.append((name, level))
                    else:
                        tops.append((level, top[0], top[1], heap))
        for name, level in spent:
            del heaps[name][level]
            if not heaps[name]:
                del heaps[name]
        return tops

    def best(self, line: Line, types: frozenset[str] | None, now: int, supply: Supply | None = None) -> Pick | None:
        """The rung of ``line`` whose head goes first, among ``types`` and those that ``supply`` has enough for; None if there is none."""
        if self.is_shut(line):
            return None
        if supply is None:
            tops = self.tops(line.heaps, types)
        else:
            queue, left = line.info.name, line.left
            tops = self.tops(line.heaps, types) if supply.allows(queue, left) else []
            for needs, group in line.needy.items():
                tops += [top for top in self.tops(group.heaps, types) if supply.allows(queue, left, needs, top[1])]
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

    def _aged(self, line: Line, tops: Sequence[Top], now: int) -> Top | None:
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
        """So many slots of ``line`` are free again."""
        full = line.full
        line.running -= count
        if full and not line.full:
            self._comes_back(line)

    def freed(self, header: Header, local: bool, unused_since: int = 0) -> None:
        """A task runs no longer: what it held beside one slot of its queue is free. ``unused_since``: it was handed out then (ms),
        and has not begun."""
        if self.gates.limits:
            lane = self.by_key.get(header.lane)
            self._changed(self.gates.ended(self.gates.of(header.lane) if lane is None else lane.gates, unused_since))
        if header.needs:
            supplies.let_go(self.used, header.needs, local)
            if header.slots > 1:
                self.ended(self.line(header.queue), header.slots - 1)

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
        return line is not None and not (line.info.paused or line.full or self.lacks(line))

    def _with_work(self) -> Collection[Line]:
        """Lines with work that are not held."""
        lines = self._busy.values()
        return [line for line in lines if line.info.name not in self.shut] if self.shut else lines

    def reach(self, queues: frozenset[str] | None) -> list[Line]:
        """Lines that a claim looks at: with work, not held, not paused, and external only by name."""
        lines = self._with_work() if queues is None else [self._busy[q] for q in queues - self.shut if q in self._busy]
        return [line for line in lines if not line.info.paused and (queues is not None or not line.info.external)]

    def open_lines(self, queues: frozenset[str] | None) -> list[Line]:
        """Those of them that a claim may take from: a slot free, and enough for some of their tasks."""
        lines = [line for line in self.reach(queues) if not line.full]
        return [line for line in lines if not self.lacks(line)] if self.needy or self.gates.limits else lines

    def lacks(self, line: Line) -> bool:
        """Whether each of its tasks needs more than is free, or has reached a limit."""
        if self.gates.limits:
            return self.is_shut(line) or not (
                self.tops(line.heaps, None) or any(self.is_free(line, one) and self.tops(line.needy[one].heaps, None) for one in line.needy)
            )
        if not line.needy or sum(group.lanes for group in line.needy.values()) < line.lanes:
            return False
        return not any(self.is_free(line, needs) for needs in line.needy)

    def is_shut(self, line: Line) -> bool:
        """Whether a limit of the queue itself is reached."""
        return bool(self.gates.shut) and ("queue", line.info.name) in self.gates.shut

    def is_free(self, line: Line, needs: Needs) -> bool:
        """Whether there is enough for such a task of this line, the workers not looked at."""
        return is_free(needs, line.left, self.totals, self.used)

    def supply(self, queues: frozenset[str] | None, want: Want) -> Supply | None:
        """What is left for a claim; None where nobody needs anything. A line that lacks something comes back when it does no more."""
        enough = not (self.needy or self.used) and (want.at_once is None or want.at_once <= want.free - self.given)
        for line in self.reach(queues) if self.gates.limits or not enough else ():
            if self.lacks(line):
                self._comes_back(line)
        return None if enough else Supply(self.totals, self.used, self.over, want, self.given)

    def heads(self, lines: Sequence[Line], types: frozenset[str] | None) -> Iterator[supplies.Head]:
        """The heads of lanes of these lines that need something."""
        for line in lines:
            for needs, group in line.needy.items() if not self.is_shut(line) else ():
                for level, seq, number, _ in self.tops(group.heaps, types):
                    yield line.info, needs, seq, self.by_number[number].heads[level][1]

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
        if pick.lane.gates:
            self._changed(self.gates.began(pick.lane.gates, count))
        self._note(line)
        line.passed += count / line.info.weight
        if pick.waits:
            line.passed_over = 0 if pick.aged else line.passed_over + count

    def ready(self) -> bool:
        """Whether the pool could take something."""
        lines = self._with_work()
        return any(not (line.info.paused or line.info.external or line.full or self.lacks(line)) for line in lines)

    # -- limits ----------------------------------------------------------------------------------------------------

    def limit(self, gates: Gates, running: Iterable[Header]) -> None:
        """These gates take the place of those there were, while tasks of these headers run."""
        self.gates = gates
        for lane in self.by_number.values():
            self._gate(lane)
        for header in running:
            self.runs(header)

    def tune(self, limit: Limit) -> None:
        """Another number in the place of one of a limit that there is."""
        self._changed(self.gates.tuned(limit))

    def runs(self, header: Header) -> None:
        """A task of this header runs, as it did before these limits were seen."""
        if self.gates.limits:
            gates = self.gates.of(header.lane)
            for gate in gates:
                gate.running += 1
            self._changed(self.gates.look(gates))

    def room(self, lane: Lane) -> float:
        """How many tasks of a lane its limits let begin."""
        return min((gate.room(self.gates.now) for gate in lane.gates), default=inf)

    def _gate(self, lane: Lane) -> None:
        """Find the limits of a lane, and whether it has reached one."""
        lane.gates = self.gates.of(lane.key)
        for gate in lane.gates:
            if gate.of_lanes:
                gate.lanes[lane.number] = lane
        if lane.heads:
            self.gates.waits(lane.gates)
        self._changed(self.gates.look(lane.gates))
        self._park(lane)

    def _changed(self, gates: Iterable[Gate]) -> None:
        """These have opened or closed: their lanes with them."""
        for gate in gates:
            for lane in gate.lanes.values():
                self._park(lane)

    def _park(self, lane: Lane) -> None:
        """Take a lane out of the heaps if one of its gates is closed, or put it back."""
        was, lane.parked = lane.parked, any(not gate.open for gate in lane.gates if gate.of_lanes)
        if was and not lane.parked:
            for level, head in lane.heads.items():
                self._push(lane, level, head)

    # -- aborted turns ---------------------------------------------------------------------------------------------

    def _note(self, line: Line) -> None:
        if line.info.name not in self._before:
            self._before[line.info.name] = (line.passed, line.passed_over, line.back)

    def begin(self, now: int) -> None:
        """A turn begins: from here on ``follow`` goes back to."""
        if self.gates.limits:
            self._changed(self.gates.begin(now))
        self._before.clear()
        self._over_before = dict(self.over) if self.over else {}
        self.given = 0

    def follow(self, old: Lanes) -> None:
        """Take over whose turn it was at the begin of ``old``'s turn, which is lost, and what is held."""
        self.shut = old.shut
        for name, line in self.lines.items():
            if name in old.lines:
                was = old.lines[name]
                line.passed, line.passed_over, line.back = old._before.get(name, (was.passed, was.passed_over, was.back))
        self._before.clear()
        self.over = dict(old._over_before)


def joined(lines: Sequence[Line]) -> list[float]:
    """The passes with which these lines share, those that came back in their places; nothing changes."""
    least = min([line.passed for line in lines if not line.back] or [line.passed for line in lines], default=0.0)
    return [min(max(line.passed, least), least + 1 / line.info.weight) if line.back else line.passed for line in lines]

"""Lanes: which ready task is next, without ever reading past one that may not be taken.

For: the in-memory heads of the lanes, by queue, tenant, type and level; which lines may be claimed from; choosing the next for a claim.
Not for: the ready entries themselves (hot.py keeps them); counting; the arithmetic of shares (shares.py).
Runs in: the daemon, inside the LMDB store; a cache, rebuilt at start and after an aborted turn.
Promises: ``best`` costs O(log lanes), whatever is paused, and nothing for tenants where all of a queue's work is one tenant's;
stale heap entries are dropped when they surface, and a heap that is more stale than not is built anew, so it never holds more than
twice the heads there are.

A lane is the set of ready tasks that stop and go together: same queue, type, tenant, flow key and needs (what they hold while
they run: see needs.py). One whose tenant or flow key has reached a limit is parked: it stands in no heap until that opens (gates.py);
limits of queues and types close those as a whole. Its tasks of one level are a **rung**, known by its head. Between queues: stride
scheduling (Waldspurger, 1995): each line has a pass that grows by 1/weight a task, and the smallest goes first. A line that comes back (it
had no work, was paused or held, ran as many tasks as it has slots, or had none that might go) joins those it is
claimed with: at the smallest pass of theirs, or its own if that is larger, but never more than one task behind. So it has saved
up no turns, and what it took before it left still counts. Within a line its tenants share (shares.py), and levels and aging hold among
the tasks of one tenant: a low task that has waited too long gets its tenant's turns, and takes none from others.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from heapq import heapify, heappop, heappush
from math import inf

from tq.model import Header, Needs
from tq.store import QueueInfo, Want
from tq.store import needs as supplies
from tq.store.gates import Gate, Gates
from tq.store.limits import Limit
from tq.store.lines import Group, Head, Lane, LaneKey, Line, Pick, Top, Turn, joined, longest_waiting
from tq.store.needs import Supply, is_free
from tq.store.shares import Heap, Ring, Share, Stand, Stands, before, began, joins, ticked


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
        self.weights: dict[str, int] = {}
        """Of tenants, where that is not 1."""
        self._busy: dict[str, Line] = {}  # lines with work
        self._before: dict[str, Turn] = {}  # the turns of lines at the begin of this turn, where they changed
        self._noted: list[Share] = []  # the same of shares: see Share.was

    def line(self, name: str) -> Line:
        line = self.lines.get(name)
        if line is None:
            line = self.lines[name] = Line(QueueInfo(name))
        return line

    def add(self, number: int, key: LaneKey) -> Lane:
        line, tenant = self.line(key[0]), key[2]
        share = line.shares.get(tenant)
        if share is None:
            share = line.shares[tenant] = Share(tenant, self.weights.get(tenant or "", 1))
        share.lanes += 1
        lane = Lane(number, key, line, share)
        self.by_key[key] = self.by_number[number] = lane
        self.last = max(self.last, number)
        if self.gates.limits:
            self._gate(lane)
        return lane

    def drop(self, lane: Lane) -> None:
        """Forget an empty lane, and with its last one what its tenant has had."""
        for gate in lane.gates:
            gate.lanes.pop(lane.number, None)
        lane.share.lanes -= 1
        if not lane.share.lanes:
            del lane.line.shares[lane.share.tenant]
        del self.by_key[lane.key], self.by_number[lane.number]

    # -- heads -----------------------------------------------------------------------------------------------------

    def set_head(self, lane: Lane, level: int, head: Head | None) -> None:
        """The first ready task of ``lane`` at ``level`` is now ``head``."""
        heads, line, share = lane.heads, lane.line, lane.share
        if head == heads.get(level):
            return
        if head is None:
            del heads[level]
            if not heads:
                line.lanes -= 1
                share.busy -= 1
                if lane.needs:
                    self._no_more_needy(lane)
                if lane.gates:
                    self.gates.rests(lane.gates)
                if not share.busy:
                    self._rests(line, share)
            if not line.lanes:
                del self._busy[line.info.name]
            return
        if not heads:
            if not line.lanes:
                self._busy[line.info.name] = line
                self._comes_back(line)
            line.lanes += 1
            if not share.busy:
                self._works(line, share, head[0])
            share.busy += 1
            if lane.needs:
                self.needy += 1
                line.needy.setdefault(lane.needs, Group()).lanes += 1
            if lane.gates:
                self.gates.waits(lane.gates)
        heads[level] = head
        if not lane.parked:
            self._push(lane, level, head)

    def _works(self, line: Line, share: Share, seq: int) -> None:
        """A tenant that had no work has some."""
        self._note_share(share)
        share.since, share.passed_over = seq, 0
        share.passed = joins(share.passed, line.clock, line.at, share.weight)
        line.total += share.weight
        working = line.working
        working[share.tenant] = share
        if len(working) == 1:
            line.alone = share
        elif len(working) == 2:
            self._enter_all(line)

    def _rests(self, line: Line, share: Share) -> None:
        """It has none any more."""
        share.rests()
        line.total -= share.weight
        working = line.working
        del working[share.tenant]
        if len(working) < 2:
            self._leave_all(line)
            line.alone = next(iter(working.values()), None)

    def _enter_all(self, line: Line) -> None:
        """Several tenants have work: from now on they stand in rings."""
        line.alone = None
        for share in line.working.values():
            for needs, name, stand in share.stands():
                if not stand.entered and (not needs or needs in line.needy):
                    self._enter(line, needs, name, stand)

    def _leave_all(self, line: Line) -> None:
        for share in line.working.values():
            for _, _, stand in share.stands():
                stand.entered = False
        line.rings = {}
        for group in line.needy.values():
            group.rings = {}

    def _enter(self, line: Line, needs: Needs, name: str, stand: Stand) -> None:
        rings = line.needy[needs].rings if needs else line.rings
        ring = rings.get(name)
        if ring is None:
            ring = rings[name] = Ring()
        ring.enter(stand, len(line.working))

    def _push(self, lane: Lane, level: int, head: Head) -> None:
        share, needs, name = lane.share, lane.needs, lane.key[1]
        stands = share.needy.setdefault(needs, {}) if needs else share.plain
        stand = stands.get(name)
        if stand is None:
            stand = stands[name] = Stand(share)
        self._into(stand, level, head[0], lane.number, share.busy)
        line = lane.line
        if not stand.entered and line.alone is None:
            self._enter(line, needs, name, stand)
        if needs:
            group = line.needy[needs]
            self._into(group.heads.setdefault(name, Stand(None)), level, head[0], lane.number, group.lanes)

    def _into(self, stand: Stand, level: int, seq: int, number: int, most: int) -> None:
        heap = stand.levels.get(level)
        if heap is None:
            heap = stand.levels[level] = []
        heappush(heap, (seq, number))
        if len(heap) > 2 * most + 16:
            self._tidy(heap, level)

    def _no_more_needy(self, lane: Lane) -> None:
        self.needy -= 1
        group = lane.line.needy[lane.needs]
        group.lanes -= 1
        if not group.lanes:
            del lane.line.needy[lane.needs]
            lane.share.needy.pop(lane.needs, None)
            for ring in group.rings.values():
                ring.end()

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

    def tops(self, stands: Stands, types: frozenset[str] | None) -> list[Top]:
        """The head of each heap, among ``types`` whose limits are not reached; heaps that have none are forgotten."""
        tops: list[Top] = []
        spent: list[tuple[str, int]] = []
        shut = self.gates.shut
        for name, stand in stands.items():
            if (types is None or name in types) and not (shut and ("type", name) in shut):
                for level, heap in stand.levels.items():
                    top = self._top(heap, level)
                    if top is None:
                        spent.append((name, level))
                    else:
                        tops.append((level, top[0], top[1], heap))
        for name, level in spent:
            del stands[name].levels[level]
            if not stands[name].levels:
                del stands[name]
        return tops

    def best(self, line: Line, types: frozenset[str] | None, now: int, supply: Supply | None = None) -> Pick | None:
        """The rung of ``line`` whose head goes first, among ``types`` and those that ``supply`` has enough for; None if there is none."""
        if self.is_shut(line):
            return None
        share, most = line.alone, None
        if share is None:
            found = self._whose(line, types, supply)
            if found is None:
                return None
            share, most = found
        tops = self.tops(share.plain, types) if supply is None else self._tops_for(line, share, types, supply)
        if not tops:
            return None
        if len(tops) > 1:
            tops.sort()
        level, seq, number, heap = tops[0]
        waits = False
        if tops[-1][0] != level and (aged := longest_waiting(self.by_number, line, tops, now)) is not None:
            left = line.info.aging_share - 1 - share.passed_over
            if left <= 0:
                return Pick(self.by_number[aged[2]], aged[0], None, 1, aged=True, waits=True, total=line.total)
            most, waits = left if most is None else min(most, left), True
        until = self._second(heap, level, (seq, number)) if len(heap) > 1 else None
        if len(tops) > 1 and tops[1][0] == level and (until is None or tops[1][1] < until):
            until = tops[1][1]
        return Pick(self.by_number[number], level, until, most, aged=False, waits=waits, total=line.total)

    def _tops_for(self, line: Line, share: Share, types: frozenset[str] | None, supply: Supply) -> list[Top]:
        """The heads of a tenant for whose tasks there is enough of everything."""
        queue, left = line.info.name, line.left
        tops = self.tops(share.plain, types) if supply.allows(queue, left) else []
        for needs, group in line.needy.items():
            if supply.allows(queue, left, needs):
                tops += self.tops(share.needy.get(needs, {}), types)
            else:
                tops += [top for top in self._kept_for(group, types, supply, (queue, left, needs)) if self.by_number[top[2]].share is share]
        return tops

    def _kept_for(
        self, group: Group, types: frozenset[str] | None, supply: Supply, whose: tuple[str, float, Needs]
    ) -> list[Top]:  # fmt: skip
        """The heads for which something is kept from all others that need the same."""
        queue, left, needs = whose
        return [top for top in self.tops(group.heads, types) if supply.allows(queue, left, needs, top[1])]

    def _whose(self, line: Line, types: frozenset[str] | None, supply: Supply | None) -> tuple[Share, int | None] | None:
        """The tenant whose turn it is, of those that have a task that may go; and how many it may take (None: any number)."""
        if supply is None and len(line.rings) == 1 and types is None and not self.gates.shut:
            (ring,) = line.rings.values()
            if (share := self._first(ring)) is not None:
                return share, None if len(ring.entries) == 1 else before(share.passed, line.at, share.weight, ring.second())
        shares: list[tuple[int, int, str, Share]] = []
        others: list[int] = []
        queue, left = line.info.name, line.left
        rings = [line.rings] if supply is None or supply.allows(queue, left) else []
        for needs, group in line.needy.items() if supply is not None else ():
            if supply is not None and supply.allows(queue, left, needs):
                rings.append(group.rings)
            elif supply is not None:
                for top in self._kept_for(group, types, supply, (queue, left, needs)):
                    share = self.by_number[top[2]].share
                    shares.append((share.passed, share.since, share.name, share))
        for some in rings:
            for ring, share in self._open(some, types):
                shares.append((share.passed, share.since, share.name, share))
                if len(ring.entries) > 1:
                    others.append(ring.second())
        if not shares:
            return None
        first = min(shares)[3]
        others += [one[0] for one in shares if one[3] is not first]
        return first, before(first.passed, line.at, first.weight, min(others)) if others else None

    def _open(self, rings: dict[str, Ring], types: frozenset[str] | None) -> Iterator[tuple[Ring, Share]]:
        """Those of these types in which a tenant stands, and the first that has a task that may go."""
        shut = self.gates.shut
        for name in list(rings):
            if (types is None or name in types) and not (shut and ("type", name) in shut):
                share = self._first(rings[name])
                if share is None:
                    del rings[name]
                else:
                    yield rings[name], share

    def _first(self, ring: Ring) -> Share | None:
        """The first tenant in a ring that has a task that may go."""
        while (stand := ring.surface()) is not None:
            for level, heap in stand.levels.items():
                if self._top(heap, level) is not None:
                    return stand.share
            ring.leave()
        return None

    def some(self, line: Line, needs: Needs, types: frozenset[str] | None) -> bool:
        """Whether a task with these needs would go, if there is enough of them."""
        if needs:
            return bool(self.tops(line.needy[needs].heads, types))
        if line.alone is not None:
            return bool(self.tops(line.alone.plain, types))
        return next(self._open(line.rings, types), None) is not None

    def _second(self, heap: Heap, level: int, first: tuple[int, int]) -> int | None:
        """The sequence at which another lane of the heap comes first."""
        seq, number = min(heap[1:3])  # nothing else of a heap can be next
        lane = self.by_number.get(number)
        if (
            lane is not None
            and not lane.parked
            and (seq, number) != first
            and (head := lane.heads.get(level)) is not None
            and head[0] == seq
        ):
            return seq
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
                self.some(line, (), None) or any(self.is_free(line, needs) and self.some(line, needs, None) for needs in line.needy)
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
                for level, seq, number, _ in self.tops(group.heads, types):
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
        share = pick.lane.share
        self._note_share(share)
        if count:
            share.passed, line.at = began(share.passed, line.at, count, share.weight)
            line.clock = ticked(line.clock, line.at, count, pick.total)
        if pick.waits:
            share.passed_over = 0 if pick.aged else share.passed_over + count

    def ready(self) -> bool:
        """Whether the pool could take something."""
        lines = self._with_work()
        return any(not (line.info.paused or line.info.external or line.full or self.lacks(line)) for line in lines)

    # -- tenants ---------------------------------------------------------------------------------------------------

    def weigh(self, tenant: str, weight: int) -> None:
        """This is a tenant's weight from now on."""
        if weight == 1:
            self.weights.pop(tenant, None)
        else:
            self.weights[tenant] = weight
        for line in self.lines.values():
            share = line.shares.get(tenant)
            if share is not None:
                line.total += weight - share.weight if share.busy else 0
                share.weight = weight

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
        was, lane.parked = lane.parked, bool([1 for gate in lane.gates if gate.of_lanes and not gate.open])
        if was and not lane.parked:
            for level, head in lane.heads.items():
                self._push(lane, level, head)

    # -- aborted turns ---------------------------------------------------------------------------------------------

    def _note(self, line: Line) -> None:
        if line.info.name not in self._before:
            self._before[line.info.name] = (line.passed, line.back, line.at, line.clock)

    def _note_share(self, share: Share) -> None:
        if share.was is None:
            share.was = (share.passed, share.since, share.passed_over)
            self._noted.append(share)

    def begin(self, now: int) -> None:
        """A turn begins: from here on ``follow`` goes back to."""
        if self.gates.limits:
            self._changed(self.gates.begin(now))
        self._before.clear()
        for share in self._noted:
            share.was = None
        self._noted.clear()
        self._over_before = dict(self.over) if self.over else {}
        self.given = 0

    def loaded(self) -> None:
        """Every lane is there, in whatever order they came: who has had work for longest among tenants is known now."""
        for lane in self.by_number.values():
            for seq, _ in lane.heads.values():
                lane.share.since = min(lane.share.since, seq)
        self._close_ranks()

    def _close_ranks(self) -> None:
        """Tenants have other places than those at which they were entered."""
        for line in self._busy.values():
            if line.alone is None:
                self._leave_all(line)
                self._enter_all(line)

    def follow(self, old: Lanes) -> None:
        """Take over whose turn it was at the begin of ``old``'s turn, which is lost, and what is held."""
        self.shut = old.shut
        for name, line in self.lines.items():
            if name in old.lines:
                was = old.lines[name]
                turn = old._before.get(name, (was.passed, was.back, was.at, was.clock))
                line.passed, line.back, line.at, line.clock = turn
                for tenant, share in line.shares.items():
                    if (known := was.shares.get(tenant)) is not None:
                        share.passed, share.since, share.passed_over = known.was or known.state
        self._close_ranks()
        self._before.clear()
        self.over = dict(old._over_before)

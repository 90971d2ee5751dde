"""Gates: the limits of a store as its lanes meet them, each open or closed.

For: ``Gate``, those that are counted together by one limit; which are closed, when time opens them, what of them is to be stored.
Not for: the arithmetic of tokens (limits), which lane is next (lanes), the rows themselves (registry, loading).
Runs in: the daemon, inside the LMDB store; a cache, rebuilt at start and after an aborted turn.
Promises: a gate changes only in a turn, with what begins and ends and with its ``now``; costs O(log gates) for each that
opens by time; nobody is woken for a gate behind which nothing waits.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from heapq import heappop, heappush
from math import inf
from typing import Any

from tq.store.limits import FULL, Bucket, Counted, Limit, Rules


class Gate:
    """Those that are counted together by one limit: how many of them run, their tokens, and how many lanes of theirs have work.

    ``lanes`` (by number) are kept of tenants and flow keys alone; queues and types are closed as a whole.
    """

    __slots__ = ("bucket", "busy", "counted", "lanes", "limit", "of_lanes", "open", "opens_at", "running", "wakes_at")

    def __init__(self, limit: Limit, of: str, bucket: Bucket = FULL) -> None:
        self.limit = limit
        self.of_lanes = limit.scope in ("tenant", "flow")  # it closes lanes, one by one
        self.counted: Counted = (limit.name, of)
        self.running = 0
        self.bucket = bucket
        self.open = True
        self.busy = 0
        self.lanes: dict[int, Any] = {}
        self.opens_at = self.wakes_at = 0  # as they stand in the heaps

    def room(self, now: int) -> float:
        """How many more may begin."""
        limit = self.limit
        tokens = limit.tokens(self.bucket, now) if limit.rate else inf
        return min(tokens, limit.running - self.running) if limit.running else tokens


class Gates:
    """Every gate of one store. What opens or closes is returned: the lanes have to know."""

    def __init__(self) -> None:
        self.limits = {}
        self.now = 0
        self.shut: dict[tuple[str, str], int] = {}
        """How many limits close ("queue", name) or ("type", name)."""
        self.closed: dict[str, dict[str, Gate]] = {}
        """By limit, the gates of its that are closed, by whom they count."""
        self._all: dict[Counted, Gate] = {}
        self._touched: dict[Counted, Gate] = {}
        self._opening: list[tuple[int, Counted]] = []
        self._waking: list[tuple[int, Counted]] = []

    @property
    def limits(self) -> dict[str, Limit]:
        """Those of tenants' quotas among them."""
        return self._limits

    @limits.setter
    def limits(self, limits: dict[str, Limit]) -> None:
        self._limits, self._rules = limits, Rules(limits)

    def __len__(self) -> int:
        return len(self._all)

    def __iter__(self) -> Iterator[Gate]:
        return iter(self._all.values())

    def add(self, limit: Limit, of: str, bucket: Bucket) -> None:
        """One whose tokens are known."""
        self._see(limit, of).bucket = bucket

    def _see(self, limit: Limit, of: str) -> Gate:
        gate = self._all.get((limit.name, of))
        if gate is None:
            gate = self._all[limit.name, of] = Gate(limit, of)
        return gate

    def replaced(self, limits: dict[str, Limit]) -> tuple[Gates, list[Counted]]:
        """Those of these limits, none of which is open or closed yet, with the tokens that were taken; and whose tokens are gone."""
        fresh, gone = Gates(), []
        fresh.limits, fresh.now = limits, self.now
        for gate in self._all.values():
            (name, of), old = gate.counted, gate.limit
            new = limits.get(name)
            if new == old and gate.bucket != FULL:
                fresh.add(old, of, gate.bucket)
            elif new is not None and new.scope == old.scope and new.of in (None, of) and new.rate and old.rate:
                fresh.add(new, of, new.carried(gate.bucket, old, self.now))
                fresh._touched[gate.counted] = fresh._all[gate.counted]
            elif new != old and old.rate:
                gone.append(gate.counted)
        fresh._touched |= {counted: there for counted in self._touched if (there := fresh._all.get(counted)) is not None}
        return fresh, gone

    def tuned(self, limit: Limit) -> list[Gate]:
        """Another number in the place of one of a limit of one queue, type, tenant or flow key; what opens or closes with that."""
        self.limits = {**self.limits, limit.name: limit}
        gate = self._all.get((limit.name, limit.of or ""))
        if gate is None:
            return []
        if limit.rate:
            gate.bucket = limit.carried(gate.bucket, gate.limit, self.now)
            self._touched[gate.counted] = gate
        gate.limit = limit
        gate.opens_at = gate.wakes_at = 0
        return self.look([gate])

    def of(self, lane: Sequence[Any]) -> tuple[Gate, ...]:
        """Those through which the tasks of a lane go."""
        return tuple([self._see(limit, of) for limit, of in self._rules.of(lane)])

    def bucket(self, counted: Counted) -> Bucket:
        gate = self._all.get(counted)
        return FULL if gate is None else gate.bucket

    def running(self, counted: Counted) -> int:
        gate = self._all.get(counted)
        return 0 if gate is None else gate.running

    # -- what happens ----------------------------------------------------------------------------------------------

    def begin(self, now: int) -> list[Gate]:
        """A turn begins; those that time has opened."""
        if now < self.now or not self.now:  # a start, or a clock that was put back
            for gate in self._all.values():
                if (sound := gate.limit.sound(gate.bucket, now)) != gate.bucket:
                    gate.bucket = sound
                    self._touched[gate.counted] = gate
            self.now = now
            return self.look(list(self._all.values()))
        self.now = now
        due: list[Gate] = []
        while self._opening and self._opening[0][0] <= now:
            at, counted = heappop(self._opening)
            known = self._all.get(counted)
            if known is not None and known.opens_at == at:
                known.opens_at = 0
                due.append(known)
        return self.look(due) if due else []

    def began(self, gates: Iterable[Gate], count: int) -> list[Gate]:
        """So many tasks begin; those that close with that."""
        for gate in gates:
            gate.running += count
            if gate.limit.rate:
                gate.bucket = gate.limit.taken(gate.bucket, count, self.now)
                self._touched[gate.counted] = gate
        return self.look(gates)

    def ended(self, gates: Iterable[Gate], unused_since: int = 0) -> list[Gate]:
        """A task runs no longer; one that had not begun gives back the tokens that it took at ``unused_since``."""
        for gate in gates:
            gate.running -= 1
            if unused_since and gate.limit.rate:
                gate.bucket = gate.limit.given_back(gate.bucket, unused_since)
                self._touched[gate.counted] = gate
        return self.look(gates)

    def look(self, gates: Iterable[Gate]) -> list[Gate]:
        """Whether these are open now; those that changed."""
        changed = []
        for gate in gates:
            is_open = gate.room(self.now) >= 1
            if not is_open and gate.limit.rate:
                self._time(gate)
            if is_open != gate.open:
                gate.open = is_open
                changed.append(gate)
                name, of = gate.counted
                if is_open:
                    self.closed[name].pop(of, None)
                else:
                    self.closed.setdefault(name, {})[of] = gate
                if not gate.of_lanes:
                    place = (gate.limit.scope, gate.counted[1])
                    count = self.shut.pop(place, 0) + (-1 if is_open else 1)
                    if count:
                        self.shut[place] = count
        return changed

    def _time(self, gate: Gate) -> None:
        """Note when a closed gate opens by itself; one that waits for an end is looked at then."""
        limit = gate.limit
        if limit.tokens(gate.bucket, self.now) >= 1 or (limit.running and gate.running >= limit.running):
            return
        opens_at, wakes_at = limit.opens_at(gate.bucket), limit.wakes_at(gate.bucket)
        if gate.opens_at != opens_at:
            gate.opens_at = opens_at
            heappush(self._opening, (opens_at, gate.counted))
        if gate.busy and gate.wakes_at != wakes_at:
            gate.wakes_at = wakes_at
            heappush(self._waking, (wakes_at, gate.counted))

    def waits(self, gates: Iterable[Gate]) -> None:
        """A lane of these has work."""
        for gate in gates:
            gate.busy += 1
            if not gate.open and gate.busy == 1 and gate.limit.rate:
                self._time(gate)

    def rests(self, gates: Iterable[Gate]) -> None:
        """It has none any more."""
        for gate in gates:
            gate.busy -= 1

    def next(self) -> int | None:
        """When to look again at those behind which something waits."""
        waking = self._waking
        while waking:
            at, counted = waking[0]
            gate = self._all.get(counted)
            if gate is not None and gate.wakes_at == at:
                if gate.busy and not gate.open:
                    return at
                gate.wakes_at = 0
            heappop(waking)
        return None

    # -- what is stored --------------------------------------------------------------------------------------------

    def changes(self, lanes: int) -> list[tuple[Counted, Bucket | None]]:
        """The tokens to be stored; None: to be forgotten, it is full. Where there are many more gates than lanes, the idle ones go."""
        found: list[tuple[Counted, Bucket | None]] = [
            (counted, gate.bucket if self._is_missed(gate) else None) for counted, gate in self._touched.items()
        ]
        self._touched.clear()
        if len(self._all) > 2 * lanes + 1024:
            idle = [gate for gate in self._all.values() if gate.of_lanes and not (gate.running or gate.lanes or self._is_missed(gate))]
            for gate in idle:
                del self._all[gate.counted]
                self.closed.get(gate.counted[0], {}).pop(gate.counted[1], None)
            found += [(gate.counted, None) for gate in idle if gate.limit.rate]
        return found

    def _is_missed(self, gate: Gate) -> bool:
        """Whether a token of its is missing."""
        return gate.limit.is_missed(gate.bucket, self.now)

"""Shares: what the tenants of a queue have had of it, and whose turn it is among them.

For: ``began``, the arithmetic that every store and every look ahead has in common; ``Share`` and ``Ring``, by which lanes.py finds
the next tenant.
Not for: turns between queues, which task of a tenant goes (lanes.py).
Runs in: the daemon, inside a store.
Promises: ``first`` costs O(log tenants), and is never led to a tenant none of whose tasks may go; an entry that is behind the times
is set right, or dropped, when it surfaces, and a ring that is more stale than not is built anew.

Tasks without a tenant are one tenant's. A tenant's pass grows by 1/weight with each task of its that goes, and the smallest goes
first, among equals the one that has had work for longer. Its start is its pass, or the queue's if that is larger: the latest at which
any tenant's task has started (start-time fair queueing: Goyal, Vin and Cheng, 1996). So nobody is ever more than one task ahead, or
has saved up turns: neither from a time without work, nor from one in which its tasks could not go (a limit, a resource, a type that
nobody asked for). One that comes to have work joins at the queue's clock, which each task moves on as if all tenants with work had
shared it, or at its own pass if that is larger, and never more than one task behind: so new tenants that keep coming push nobody out.
Passes are whole numbers, of which PASS make one task of a tenant of weight 1, so that they do not depend on who counts together.
"""

from __future__ import annotations

from collections.abc import Iterator
from heapq import heapify, heappop, heappush, heapreplace

from tq.model import Needs

PASS = 1 << 40
Heap = list[tuple[int, int]]
"""(sequence, lane number) of heads at one level; entries may be stale."""
Entry = tuple[int, int, str, "Stand"]
"""Of a tenant: its pass when it was entered, since when it has had work (a sequence), and its name."""


def began(passed: int, at: int, count: int, weight: int) -> tuple[int, int]:
    """So many tasks of a tenant with this pass went: its pass now, and the latest start in its queue, which was ``at``."""
    stride = PASS // weight
    start = max(passed, at)
    return start + count * stride, start + (count - 1) * stride


def ticked(clock: int, at: int, count: int, total: int) -> int:
    """The clock of a queue after so many tasks, the last started at ``at``, while tenants of this ``total`` weight had work."""
    return max(clock + count * (PASS // total), at)


def joins(passed: int, clock: int, at: int, weight: int) -> int:
    """The pass of a tenant that comes to have work."""
    return min(max(passed, clock), at + PASS // weight)


def before(passed: int, at: int, weight: int, other: int) -> int:
    """How many tasks a tenant may be given in one go before another, whose pass is ``other``, has to be asked."""
    return max(1, (other - max(passed, at)) // (PASS // weight))


class Stand:
    """Lanes with work of one type, by level; of a tenant, and if it shares its queue then it is ``entered`` in a ring with them."""

    __slots__ = ("entered", "levels", "share")

    def __init__(self, share: Share | None) -> None:
        self.levels: dict[int, Heap] = {}
        self.share = share
        self.entered = False

    def __lt__(self, other: Stand) -> bool:
        return False  # of two entries that are equal but for this one is stale


Stands = dict[str, Stand]
"""By type."""


class Share:
    """A tenant of a queue (None: of the tasks that have none): its pass, and its lanes with work, by what they need."""

    __slots__ = ("busy", "lanes", "name", "needy", "passed", "passed_over", "plain", "since", "tenant", "was", "weight")

    def __init__(self, tenant: str | None, weight: int) -> None:
        self.tenant = tenant
        self.name = tenant or ""
        self.weight = weight
        self.passed = 0
        self.since = 0  # with which sequence it came to have work
        self.passed_over = 0  # tasks that went before a head that had aged, since the last such head's own
        self.lanes = 0
        self.busy = 0  # those with work
        self.plain: Stands = {}  # of tasks without needs
        self.needy: dict[Needs, Stands] = {}
        self.was: tuple[int, int, int] | None = None  # at the begin of this turn, if that has changed

    @property
    def state(self) -> tuple[int, int, int]:
        return self.passed, self.since, self.passed_over

    def stands(self) -> Iterator[tuple[Needs, str, Stand]]:
        for name, stand in self.plain.items():
            yield (), name, stand
        for needs, stands in self.needy.items():
            for name, stand in stands.items():
                yield needs, name, stand

    def rests(self) -> None:
        """It has no work any more."""
        for _, _, stand in self.stands():
            stand.entered = False
        self.plain = {}
        if self.needy:
            self.needy = {}


class Ring:
    """Tenants of a queue whose lanes of one type and need have work, by whose turn it is."""

    __slots__ = ("entries",)

    def __init__(self) -> None:
        self.entries: list[Entry] = []

    def enter(self, stand: Stand, most: int) -> None:
        """A tenant stands here from now on; ``most``: how many may."""
        share = stand.share
        assert share is not None
        heappush(self.entries, (share.passed, share.since, share.name, stand))
        stand.entered = True
        if len(self.entries) > 2 * most + 16:
            self.entries = [entry for entry in self.entries if entry[3].entered]
            heapify(self.entries)

    def surface(self) -> Stand | None:
        """Whoever's entry comes first, and is right; the lanes may have no task that may go."""
        entries = self.entries
        while entries:
            stand = entries[0][3]
            share = stand.share
            if not stand.entered or share is None:
                heappop(entries)
            elif entries[0][0] != share.passed:
                heapreplace(entries, (share.passed, share.since, share.name, stand))
            else:
                return stand
        return None

    def leave(self) -> None:
        """The first has none: it is entered again with its next one."""
        heappop(self.entries)[3].entered = False

    def end(self) -> None:
        """Nobody stands here any more."""
        for *_, stand in self.entries:
            stand.entered = False
        self.entries.clear()

    def second(self) -> int:
        """Where there are several: the pass behind the first one's, or less."""
        entries = self.entries
        return entries[1][0] if len(entries) == 2 else min(entries[1][0], entries[2][0])

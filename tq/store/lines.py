"""Lines: the queues, and the lanes of each, as a claim sees them.

For: ``Line``, ``Lane`` and ``Pick``, the values that lanes.py works on; the places of lines that came back.
Not for: which comes first (lanes.py, shares.py).
Runs in: the daemon, inside the LMDB store; a cache, rebuilt at start and after an aborted turn.
Promises: they know nothing of each other but who stands where.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import inf
from typing import NamedTuple

from tq.model import Needs, slots_in
from tq.store import QueueInfo
from tq.store.gates import Gate
from tq.store.shares import Heap, Ring, Share, Stands

Head = tuple[int, int]
"""The first task of a rung: its sequence, and since when it is ready (ms)."""
LaneKey = tuple[str, str, str | None, str | None, Needs]


class Lane:
    """One lane: its number in the store and the head of each rung that has tasks, by level (9 - priority)."""

    __slots__ = ("gates", "heads", "key", "line", "needs", "number", "parked", "share", "slots")

    def __init__(self, number: int, key: LaneKey, line: Line, share: Share) -> None:
        self.number = number
        self.needs = key[4]
        self.slots = slots_in(self.needs)
        self.key = key
        self.line = line
        self.share = share
        self.heads: dict[int, Head] = {}
        self.gates: tuple[Gate, ...] = ()
        self.parked = False  # a limit of its tenant or flow key is reached: it stands in no heap


class Group:
    """The lanes of a line that need the same: how many have work, their heads, and a ring of tenants for each type."""

    __slots__ = ("heads", "lanes", "rings")

    def __init__(self) -> None:
        self.heads: Stands = {}
        self.lanes = 0
        self.rings: dict[str, Ring] = {}


class Line:
    """A queue as the claim sees it: its pass, how many slots its tasks take, and its tenants.

    While only one of them has work it is ``alone``, and stands in no ring.
    """

    __slots__ = ("alone", "at", "back", "clock", "info", "lanes", "needy", "passed", "rings", "running", "shares", "total", "working")

    def __init__(self, info: QueueInfo) -> None:
        self.info = info
        self.passed = 0.0
        self.back = True  # it has not been claimed from since it came back
        self.lanes = 0  # those with work
        self.running = 0
        self.needy: dict[Needs, Group] = {}  # of tasks that need something; those with work
        self.rings: dict[str, Ring] = {}  # of the others, by type
        self.shares: dict[str | None, Share] = {}
        self.working: dict[str | None, Share] = {}  # those with work
        self.alone: Share | None = None
        self.total = 0  # their weights together
        self.at = 0  # the latest at which a tenant's task has started
        self.clock = 0  # where tenants join: see shares.py

    @property
    def full(self) -> bool:
        """It runs as many tasks as it has slots."""
        return 0 < self.info.slots <= self.running

    @property
    def left(self) -> float:
        """How many slots it has left."""
        return self.info.slots - self.running if self.info.slots else inf


Turn = tuple[float, bool, int, int]
"""What is put back when a turn is lost: a line's pass, whether it came back, the latest start among its tenants and their clock."""
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
    total: int
    """The weights of the tenants with work, this one's among them."""


def joined(lines: Sequence[Line]) -> list[float]:
    """The passes with which these lines share, those that came back in their places; nothing changes."""
    least = min([line.passed for line in lines if not line.back] or [line.passed for line in lines], default=0.0)
    return [min(max(line.passed, least), least + 1 / line.info.weight) if line.back else line.passed for line in lines]


def longest_waiting(lanes: Mapping[int, Lane], line: Line, tops: Sequence[Top], now: int) -> Top | None:
    """The longest-waiting head below the best level, if it has waited longer than the queue allows; ``lanes`` by number."""
    info = line.info
    if not info.aging_ms or not info.aging_share:
        return None
    oldest = min((top for top in tops if top[0] != tops[0][0]), key=lambda top: top[1])
    ready_at = lanes[oldest[2]].heads[oldest[0]][1]
    return oldest if now - ready_at > info.aging_ms else None

"""Batches: tasks that belong together, and how many of them stand where.

For: what a store keeps of a batch (``BatchInfo``), how its counts follow its members (``moved``).
Not for: where it is kept (members, recorded), when it is over and what is sent then (the broker's batches), handlers that take
several tasks at once (tq.batch).
Runs in: the daemon, inside a store, in the transaction of a turn.
Promises: a member that is forgotten stays counted as it ended, one that was removed while it waited counts as cancelled.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from tq.model import State

PLACES = ("waiting", "running", "succeeded", "failed", "cancelled", "expired")
PLACE = tuple({State.RUNNING: 1}.get(state, state - State.SUCCEEDED + 2 if state.final else 0) for state in State)
"""By state, where it is counted."""
WAITS, RUNS = 0, 1


@dataclass(frozen=True, slots=True)
class BatchInfo:
    """A batch: ``number`` 0 is one not stored yet; times in ms, 0 for none.

    ``callbacks`` are tasks as ``enqueue`` has them, by the event for which they are sent, ``sent`` the ids of those that were.
    ``request`` names the request that created it, if that may come again. ``auto``: it closes itself once its members are over.
    ``counts`` are those of PLACES, ``first`` and ``last`` the smallest and the greatest id of its members; ``hit``: one of them failed
    for good, whatever became of it later. ``cancelled_at``: it was cancelled as a whole, and not retried since.
    """

    number: int
    name: str = ""
    created_at: int = 0
    auto: bool = False
    meta: Mapping[str, str] = field(default_factory=dict)
    callbacks: Mapping[str, Sequence[Any]] = field(default_factory=dict)
    request: bytes = b""
    closed_at: int = 0
    finished_at: int = 0
    counts: tuple[int, ...] = (0,) * len(PLACES)
    first: int = 0
    last: int = 0
    hit: bool = False
    sent: Mapping[str, int] = field(default_factory=dict)
    cancelled_at: int = 0

    @property
    def total(self) -> int:
        return sum(self.counts)

    @property
    def live(self) -> int:
        """How many members are not over."""
        return self.counts[WAITS] + self.counts[RUNS]

    def said(self) -> list[Any]:
        """What was said of it once and for all, as a row."""
        return [self.number, self.name, self.created_at, self.auto, dict(self.meta), dict(self.callbacks), self.request]

    def stands(self) -> list[Any]:
        """What changes, as a row."""
        row = [self.closed_at, self.finished_at, list(self.counts), self.first, self.last, self.hit, dict(self.sent)]
        return [*row, self.cancelled_at] if self.cancelled_at else row


def batch_of(said: Sequence[Any], stands: Sequence[Any]) -> BatchInfo:
    """The batch whose rows these are."""
    closed_at, finished_at, counts, *rest = stands
    number, name, created_at, auto, meta, callbacks, request = said
    return BatchInfo(number, name, created_at, auto, meta, callbacks, request, closed_at, finished_at, tuple(counts), *rest)


Moves = list[int]
"""What came to each of PLACES (or went), the smallest and the greatest id of new members (0: none), and how many failed for good."""


def moves() -> Moves:
    return [0] * (len(PLACES) + 3)


def move(made: Moves, was: State, now: State, count: int = 1) -> None:
    """Members that were in one state are in another."""
    made[PLACE[was]] -= count
    made[PLACE[now]] += count
    if now is State.FAILED:
        made[-1] += count


def join(made: Moves, count: int, first: int, last: int) -> None:
    """New members came, which wait."""
    made[WAITS] += count
    made[-3] = min(made[-3] or first, first)
    made[-2] = max(made[-2], last)


def moved(info: BatchInfo, made: Moves) -> BatchInfo:
    """The batch after its members went their way."""
    counts = tuple(map(sum, zip(info.counts, made, strict=False)))
    first = min(info.first or made[-3], made[-3]) if made[-3] else info.first
    return replace(info, counts=counts, first=first, last=max(info.last, made[-2]), hit=info.hit or made[-1] > 0)


def ends_in(was: State, now: State) -> bool:
    """Whether such a change may bring a batch to its end, or back from it."""
    return was.final or now.final

"""Limits: how many tasks may begin in a time, and how many may run at a time, of a queue, a type, a tenant or a flow key.

For: ``Limit``, whom it counts together, and the arithmetic of its tokens, the same for every store.
Not for: lanes that wait for a limit (lanes), who may set one (broker.limits).
Runs in: the daemon, inside a store, and whatever shows limits.
Promises: pure and in whole numbers: tokens come back at their instants however often anybody looks; never more begin within a
time than the bucket held at its begin and got in it; a hand-out that is given back leaves the bucket as if it had not been (of a
sliding window for so long as the others of its grain count).

The rate is a token bucket, kept as the instant at which it would be full again (the "theoretical arrival time" of the generic
cell rate algorithm, ITU-T I.371) in parts of a millisecond: ``rate`` parts make one, so a token is ``per_ms`` of them. Or it is a
window (windows.py): then what it has left is called its tokens.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import inf
from typing import Any, NamedTuple

from tq.store import windows

Bucket = tuple[int, ...]
"""When it is full again (in parts), and of the last instant at which tokens were taken when it was (ms) and how many; or a
window's log (windows.py)."""
FULL: Bucket = ()
WINDOWS = ("none", "fixed", "sliding")
SCOPES = ("queue", "type", "tenant", "flow")
"""What a limit may be of; by its place in a lane's key ``(queue, type, tenant, flow, needs)``."""
Counted = tuple[str, str]
"""Those that are counted together: the limit's name, and of which of its scope."""
QUOTA = "\0"
"""What the name of a limit begins with that is a tenant's quota of what may run; no other's does."""
MERGE_MS = 10
"""A wake-up may come so much later if no token is lost by it: a fast limit needs no turn for each token."""


class Used(NamedTuple):
    """How far a limit is used by those that it counts together: ``of`` which of its scope they are, how many run, how many more may
    begin at once by its rate (inf: it has none), whether it is reached, and when (ms) time alone lets the next go (0: an end does)."""

    of: str
    running: int
    tokens: float
    reached: bool
    opens_at: int = 0


@dataclass(frozen=True, slots=True)
class Limit:
    """A named rule for the tasks of one queue, type or tenant, ``of`` which it is; of tenants and flow keys None is each by itself.

    At most ``rate`` of them begin in each ``per_ms``, beside up to ``burst`` at once after a rest (``rate`` 0: any number), and
    at most ``running`` run at a time (0: any number). With a ``window`` there is no burst: it is any stretch of ``per_ms``
    ("sliding") or each in its turn ("fixed").

    One that is ``adaptive`` ("rate" or "running") has that number between ``low`` and ``high``, by the outcomes of its tasks; the
    rest says which are good: see ``tq.aimd.Rule``. Stores only keep it. And so one that counts ``each`` "worker" by itself.
    """

    name: str
    scope: str
    of: str | None = None
    rate: int = 0
    per_ms: int = 1000
    burst: int = 1
    running: int = 0
    window: str = "none"
    adaptive: str = "none"
    low: int = 0
    high: int = 0
    latency_ms: int = 0
    failures: int = 0
    factor: int = 0
    each: str = "none"

    def row(self) -> list[Any]:
        return [getattr(self, name) for name in self.__slots__]

    @property
    def is_quota(self) -> bool:
        """Whether it is part of what was set for a tenant, and not a rule of its own."""
        return self.name.startswith(QUOTA)

    def counts(self, lane: Sequence[Any]) -> str | None:
        """With which others it counts the tasks of a lane; None: it has nothing to do with them."""
        if self.each != "none":
            return None
        name = lane[SCOPES.index(self.scope)]
        return name if isinstance(name, str) and self.of in (None, name) else None

    def is_tuned(self, old: Limit) -> bool:
        """Whether it is ``old`` but for numbers: it counts the same tasks together, in the same way, and those are one group."""
        alike = (self.scope, self.of, self.each, bool(self.rate), self.per_ms, self.window) == (
            old.scope, old.of, old.each, bool(old.rate), old.per_ms, old.window,
        )  # fmt: skip
        return alike and self.of is not None

    def tokens(self, bucket: Bucket, now: int) -> float:
        """How many tokens there are."""
        if not self.rate:
            return inf
        if self.window == "sliding":
            return windows.sliding_left(bucket, self.rate, self.per_ms, now)
        if self.window == "fixed":
            return windows.fixed_left(bucket, self.rate, self.per_ms, now)
        if not bucket:
            return self.burst
        return (self.burst * self.per_ms - max(bucket[0] - now * self.rate, 0)) // self.per_ms

    def taken(self, bucket: Bucket, count: int, now: int) -> Bucket:
        """``count`` tokens were taken."""
        if not self.rate:
            return FULL
        if self.window == "sliding":
            return windows.sliding_taken(bucket, self.per_ms, count, now)
        if self.window == "fixed":
            return windows.fixed_taken(bucket, self.per_ms, count, now)
        full_at, last, before = bucket or (0, 0, 0)
        return max(full_at, now * self.rate) + count * self.per_ms, now, count + (before if last == now else 0)

    def given_back(self, bucket: Bucket, taken_at: int) -> Bucket:
        """A token that was taken at ``taken_at`` was not used. Those taken later stay taken."""
        if not self.rate or not bucket:
            return bucket
        if self.window == "sliding":
            return windows.sliding_given_back(bucket, self.per_ms, taken_at)
        if self.window == "fixed":
            return windows.fixed_given_back(bucket, taken_at)
        full_at, last, count = bucket
        count -= taken_at == last and count > 0
        least = last * self.rate + count * self.per_ms if count else 0
        return max(full_at - self.per_ms, least), last, count

    def is_missed(self, bucket: Bucket, now: int) -> bool:
        """Whether a token is missing."""
        if not self.rate or not bucket:
            return False
        if self.window == "none":
            return bucket[0] > now * self.rate
        return bucket[0 if self.window == "fixed" else -2] + self.per_ms > now

    def opens_at(self, bucket: Bucket) -> int:
        """The first instant (ms) at which there is a token."""
        if self.window == "sliding":
            return windows.sliding_opens_at(bucket, self.rate, self.per_ms)
        if self.window == "fixed":
            return bucket[0] + self.per_ms
        return _up(bucket[0] - (self.burst - 1) * self.per_ms, self.rate)

    def wakes_at(self, bucket: Bucket) -> int:
        """When to look again at one that has none: late enough for the tokens of some ms, as far as the bucket holds them."""
        later = min(MERGE_MS, (self.burst - 1) * self.per_ms // self.rate) if self.window == "none" else 0
        return self.opens_at(bucket) + later

    def sound(self, bucket: Bucket, now: int) -> Bucket:
        """The bucket, when the clock may have been put back: it is empty at the most."""
        if self.window == "sliding":
            return windows.sliding_sound(bucket, now)
        if self.window == "fixed":
            return windows.fixed_sound(bucket, self.per_ms, now)
        most = now * self.rate + self.burst * self.per_ms
        return bucket if not bucket or bucket[0] <= most else (most, now, 0)

    def carried(self, bucket: Bucket, old: Limit, now: int) -> Bucket:
        """The bucket of ``old``, whose place this one takes: what was taken is taken, as far as this one holds it."""
        if not self.rate or not old.rate or not bucket:
            return FULL
        if self.window == old.window == "none":
            lacks = max(bucket[0] - now * old.rate, 0)
            part = min(lacks * self.per_ms // old.per_ms, self.burst * self.per_ms)
            return (now * self.rate + part, now, 0) if part else FULL
        if self.window == old.window and (self.window == "sliding" or self.per_ms == old.per_ms):
            return bucket
        lacks = int(min(old.most - old.tokens(bucket, now), self.most))
        return self.taken(FULL, lacks, now) if lacks else FULL

    @property
    def most(self) -> int:
        """How many may begin at once after a rest."""
        return self.burst if self.window == "none" else self.rate


def _up(value: int, by: int) -> int:
    """``value / by``, rounded up."""
    return -(-value // by)


class Rules:
    """All limits of a store. However many tenants have a quota, a lane is held against its own alone."""

    def __init__(self, limits: Mapping[str, Limit]) -> None:
        self._quotas = {limit.of: limit for limit in limits.values() if limit.is_quota}
        plain = [limit for limit in limits.values() if not limit.is_quota and limit.each == "none"]
        self._others = [(limit, SCOPES.index(limit.scope), limit.of) for limit in plain]

    def of(self, lane: Sequence[Any]) -> list[tuple[Limit, str]]:
        """Those that count the tasks of a lane, and with which others."""
        found = [(limit, lane[at]) for limit, at, of in self._others if lane[at] is not None and of in (None, lane[at])]
        if lane[2] is not None and (quota := self._quotas.get(lane[2])) is not None:
            found.append((quota, lane[2]))
        return found


class Allowance:
    """What limits still allow while a claim, or a look ahead, takes tasks at one instant; nothing of it is stored.

    ``running``: how many run, and ``bucket``: the tokens, of those that are counted together.
    """

    def __init__(
        self, limits: Mapping[str, Limit], running: Callable[[Counted], int], bucket: Callable[[Counted], Bucket], now: int
    ) -> None:
        self._limits = limits
        self._rules = Rules(limits)
        self._running = running
        self._bucket = bucket
        self._now = now
        self._taken: dict[Counted, int] = {}

    def _of(self, lane: Sequence[Any]) -> list[tuple[Limit, Counted]]:
        return [(limit, (limit.name, of)) for limit, of in self._rules.of(lane)]

    def room(self, lane: Sequence[Any]) -> float:
        """How many more of a lane may go."""
        return min((self._left(limit, counted) for limit, counted in self._of(lane)), default=inf)

    def _left(self, limit: Limit, counted: Counted) -> float:
        free = limit.running - self._running(counted) if limit.running else inf
        return min(free, limit.tokens(self._bucket(counted), self._now)) - self._taken.get(counted, 0)

    def used(self, counted: Counted) -> Used:
        """How far a limit is used by some."""
        limit, running = self._limits[counted[0]], self._running(counted)
        bucket, reached = self._bucket(counted), self._left(limit, counted) < 1
        by_time = reached and not 0 < limit.running <= running
        return Used(counted[1], running, limit.tokens(bucket, self._now), reached, limit.opens_at(bucket) if by_time else 0)

    def reached(self, lane: Sequence[Any]) -> list[tuple[Limit, Used]]:
        """The limits that hold a lane back, and how far each is used."""
        found = [(limit, self.used(counted)) for limit, counted in self._of(lane)]
        return [(limit, used) for limit, used in found if used.reached]

    def wakes_at(self, lane: Sequence[Any]) -> list[int]:
        """When to look again at the limits that time alone holds a lane back by."""
        return [limit.wakes_at(self._bucket((limit.name, used.of))) for limit, used in self.reached(lane) if used.opens_at]

    def take(self, lane: Sequence[Any]) -> None:
        """One of a lane goes."""
        for _, counted in self._of(lane):
            self._taken[counted] = self._taken.get(counted, 0) + 1

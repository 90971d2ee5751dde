"""Waiting: who waits for what, and until when.

For: requests that are answered later (``wait``, ``claim`` with a wait) and connections that watch.
Not for: what the answers say (broker), who is connected (doors).
Runs in: the daemon, in the broker's memory; nothing of it outlives the daemon.
Promises: a task's end finds those who wait for it without looking at the others; a connection that is gone is
forgotten everywhere; each waiting request is given out exactly once, by its event or by its deadline.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from heapq import heappop, heappush
from typing import Any, NamedTuple

from tq.store import Want


class Request(NamedTuple):
    """One request of a connection. ``nonce`` names the client that sent it, if it gave one."""

    conn: int
    number: int
    verb: str
    args: dict[str, Any]
    nonce: bytes | None = None


@dataclass(slots=True, eq=False)
class Wait:
    """A request that is answered when its tasks (or any of them) are over. ``left``: those that are not."""

    request: Request
    ids: list[int]
    left: set[int]
    any: bool
    until: float


@dataclass(slots=True, eq=False)
class Claim:
    """A consumer that waits for tasks."""

    request: Request
    want: Want
    until: float


Watcher = tuple[int, int]
"""(connection, request number)."""


class Waiting:
    """All that wait and watch. Times are instants in ms; infinity waits for ever."""

    def __init__(self) -> None:
        self.claims: list[Claim] = []
        self._waits: dict[int, list[Wait]] = {}
        self._ends: dict[Watcher, frozenset[int] | None] = {}
        self._totals: dict[Watcher, tuple[int, float]] = {}  # interval, next instant
        self._deadlines: list[tuple[float, int, Wait | Claim]] = []
        self._ticket = 0

    @property
    def for_ends(self) -> bool:
        """Whether anybody wants to know which tasks ended."""
        return bool(self._waits or self._ends)

    def park(self, one: Wait | Claim) -> None:
        """Keep a request until its event or its deadline."""
        if isinstance(one, Claim):
            self.claims.append(one)
        else:
            for task_id in one.left:
                self._waits.setdefault(task_id, []).append(one)
        if one.until != math.inf:
            self._ticket += 1
            heappush(self._deadlines, (one.until, self._ticket, one))

    def watch_ends(self, watcher: Watcher, ids: frozenset[int] | None) -> None:
        """Tell ``watcher`` of ends; ``ids`` None: of all."""
        self._ends[watcher] = ids

    def watch_totals(self, watcher: Watcher, every_ms: int, now: float) -> None:
        self._totals[watcher] = (every_ms, now)

    def served(self, claim: Claim) -> None:
        """A waiting consumer got tasks."""
        if claim in self.claims:
            self.claims.remove(claim)

    def ended(self, task_id: int) -> list[Wait]:
        """The waits that a task's end fulfils; they are forgotten."""
        over = []
        for wait in self._waits.pop(task_id, ()):
            wait.left.discard(task_id)
            if wait.any or not wait.left:
                self._forget(wait)
                over.append(wait)
        return over

    def watchers_of(self, task_id: int) -> Iterator[Watcher]:
        return (watcher for watcher, ids in self._ends.items() if ids is None or task_id in ids)

    def expired(self, now: float) -> list[Wait | Claim]:
        """Those whose time is up; they are forgotten."""
        found: list[Wait | Claim] = []
        while self._deadlines and self._deadlines[0][0] <= now:
            one = heappop(self._deadlines)[2]
            if isinstance(one, Claim) and one in self.claims:
                self.claims.remove(one)
                found.append(one)
            elif isinstance(one, Wait) and one.left:
                self._forget(one)
                found.append(one)
        return found

    def totals_due(self, now: float) -> list[Watcher]:
        """Who is to be told the totals now."""
        due = [(watcher, every) for watcher, (every, at) in self._totals.items() if at <= now]
        for watcher, every in due:
            self._totals[watcher] = (every, now + every)
        return [watcher for watcher, _ in due]

    @property
    def next_due(self) -> float | None:
        """The instant at which somebody's time is up or totals are due."""
        times = [self._deadlines[0][0]] if self._deadlines else []
        return min([*times, *(at for _, at in self._totals.values())], default=None)

    def gone(self, conn: int) -> None:
        """A connection is closed."""
        self.claims = [claim for claim in self.claims if claim.request.conn != conn]
        self._ends = {watcher: ids for watcher, ids in self._ends.items() if watcher[0] != conn}
        self._totals = {watcher: when for watcher, when in self._totals.items() if watcher[0] != conn}
        waits = {id(wait): wait for found in self._waits.values() for wait in found if wait.request.conn == conn}
        for wait in waits.values():
            self._forget(wait)

    def _forget(self, wait: Wait) -> None:
        for task_id in wait.left:
            waits = self._waits.get(task_id, [])
            if wait in waits:
                waits.remove(wait)
            if not waits:
                self._waits.pop(task_id, None)
        wait.left = set()

"""Waiting: who waits for what, and until when.

For: requests that wait for their turn, those that are answered later (``wait``, ``claim`` with a wait), connections that watch.
Not for: what the answers say (broker), who is connected (doors).
Runs in: the daemon, in the broker's memory; nothing of it outlives the daemon.
Promises: a task's end finds those who wait for it without looking at the others; a connection that is gone is
forgotten everywhere, at the cost of what it had; each waiting request is given out exactly once, by its event or by
its deadline; totals are due only after something has changed; what one connection may have waiting is bounded; connections take
turns, and each one's requests stay in order.
"""

from __future__ import annotations

import math
from collections import Counter, OrderedDict, deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from heapq import heapify, heappop, heappush
from typing import Any, NamedTuple

from tq.errors import Refused
from tq.store import Want

MOST = 100_000
"""Tasks and names that one connection may have waiting: some 20 MB; an event loop that awaits ten thousand tasks fits."""
WATCHES_MOST = 100
"""Watches of one connection: each of them is told of everything that happens to the tasks it is about."""
DEAD_MOST = 64
INBOX_MOST = 64
"""Requests of one connection that may wait for their turn before no more of its bytes are read."""
INBOX_BYTES = 8 << 20
"""Bytes of all requests that wait for their turn, before nobody's are read: as values they take some ten times as much."""


class Request(NamedTuple):
    """One request of a connection. ``nonce`` names the client that sent it, if it gave one; ``who`` whose process it is;
    ``size`` is what it was on the wire, in bytes."""

    conn: int
    number: int
    verb: str
    args: dict[str, Any]
    nonce: bytes | None = None
    who: str = ""
    size: int = 0


class Inbox:
    """Requests that wait for their turn."""

    def __init__(self) -> None:
        self._queues: OrderedDict[int, deque[Request]] = OrderedDict()  # by connection, the one whose turn it is first
        self._bytes = 0

    def __bool__(self) -> bool:
        return bool(self._queues)

    def __iter__(self) -> Iterator[Request]:
        """All of them, in no order that matters."""
        return (request for queue in self._queues.values() for request in queue)

    def add(self, request: Request) -> None:
        self._queues.setdefault(request.conn, deque()).append(request)
        self._bytes += request.size

    def taken(self) -> Iterator[Request]:
        """Take one of each connection in turn, until nobody has any or the caller has enough."""
        while self._queues:
            conn, queue = self._queues.popitem(last=False)
            request = queue.popleft()
            self._bytes -= request.size
            if queue:
                self._queues[conn] = queue
            yield request

    def full(self, conn: int) -> bool:
        """Whether the connection (or everybody) has to be served before it may ask for more."""
        return len(self._queues.get(conn, ())) >= INBOX_MOST or self._bytes >= INBOX_BYTES

    def holds(self, conn: int) -> bool:
        return conn in self._queues

    def gone(self, conn: int, stays: Callable[[Request], bool]) -> None:
        """A connection is closed: forget what it asked, except what ``stays``."""
        asked = self._queues.pop(conn, deque())
        kept = deque(filter(stays, asked))
        self._bytes -= sum(one.size for one in asked) - sum(one.size for one in kept)
        if kept:
            self._queues[conn] = kept


@dataclass(slots=True, eq=False)
class Wait:
    """A request that is answered when its tasks (or any of them) are over. ``left``: those that are not."""

    request: Request
    ids: list[int]
    left: set[int]
    any: bool
    until: float
    over: bool = False

    @property
    def weight(self) -> int:
        return 1 + len(self.ids)


@dataclass(slots=True, eq=False)
class Claim:
    """A consumer that waits for tasks."""

    request: Request
    want: Want
    until: float
    over: bool = False

    @property
    def weight(self) -> int:
        return 1 + len(self.want.queues or ()) + len(self.want.types or ())


Watcher = tuple[int, int]
"""(connection, request number)."""


@dataclass(slots=True)
class _Totals:
    """One watcher of the totals: how often at most, when next, and which version it has seen."""

    every_ms: int
    at: float
    seen: int = -1


class Waiting:
    """All that wait and watch. Times are instants in ms; infinity waits for ever."""

    def __init__(self) -> None:
        self.claims: dict[Claim, None] = {}
        """Consumers that wait, the first one first."""
        self._waits: dict[int, dict[Wait, None]] = {}  # by task
        self._parked: dict[int, dict[Wait | Claim, None]] = {}  # by connection
        self._load: Counter[int] = Counter()  # by connection
        self._ends: dict[Watcher, frozenset[int] | None] = {}
        self._steps: dict[Watcher, frozenset[int] | None] = {}
        self._totals: dict[Watcher, _Totals] = {}
        self._watches: Counter[int] = Counter()  # by connection
        self._deadlines: list[tuple[float, int, Wait | Claim]] = []
        self._dead = 0  # deadlines of what is over
        self._ticket = 0
        self._version = 0

    @property
    def for_ends(self) -> bool:
        """Whether anybody wants to know which tasks ended."""
        return bool(self._waits or self._ends or self._steps)

    def check(self, conn: int) -> None:
        """Refused if the connection has so much waiting that it may not add to it."""
        if self._load[conn] >= MOST:
            raise Refused(
                f"expected at most {MOST} tasks and names that one connection waits for or watches, it has {self._load[conn]}. "
                "Wait for some of them first, or use another connection."
            )

    def check_watches(self, conn: int, more: int) -> None:
        """Refused if the connection watches so much that it may not watch ``more`` topics."""
        self.check(conn)
        if self._watches[conn] + more > WATCHES_MOST:
            raise Refused(
                f"expected at most {WATCHES_MOST} topics watched by one connection, it watches {self._watches[conn]} and asks for {more}. "
                "Name several ids in one watch, or close the connection: that ends them all."
            )

    def holds(self, conn: int) -> bool:
        """Whether the connection has anything to expect."""
        return self._load[conn] > 0

    def park(self, one: Wait | Claim) -> None:
        """Keep a request until its event or its deadline."""
        conn = one.request.conn
        self._parked.setdefault(conn, {})[one] = None
        self._load[conn] += one.weight
        if isinstance(one, Claim):
            self.claims[one] = None
        else:
            for task_id in one.left:
                self._waits.setdefault(task_id, {})[one] = None
        if one.until != math.inf:
            self._ticket += 1
            heappush(self._deadlines, (one.until, self._ticket, one))

    def watch_ends(self, watcher: Watcher, ids: frozenset[int] | None) -> None:
        """Tell ``watcher`` of ends; ``ids`` None: of all."""
        self._watch(watcher, 1 + len(ids or ()))
        self._ends[watcher] = ids

    def watch_steps(self, watcher: Watcher, ids: frozenset[int] | None) -> None:
        """Tell ``watcher`` of everything that happens; ``ids`` None: to all tasks."""
        self._watch(watcher, 1 + len(ids or ()))
        self._steps[watcher] = ids

    @property
    def for_steps(self) -> bool:
        return bool(self._steps)

    def step_watchers(self, task_id: int) -> list[Watcher]:
        return [watcher for watcher, ids in self._steps.items() if ids is None or task_id in ids]

    def watch_totals(self, watcher: Watcher, every_ms: int, now: float) -> None:
        """Tell ``watcher`` the totals now, and then when they have changed, at most every ``every_ms``."""
        self._watch(watcher, 1)
        self._totals[watcher] = _Totals(every_ms, now)

    def _watch(self, watcher: Watcher, weight: int) -> None:
        self._load[watcher[0]] += weight
        self._watches[watcher[0]] += 1

    def served(self, claim: Claim) -> None:
        """A waiting consumer got tasks."""
        self._forget(claim)

    def ended(self, task_id: int) -> list[Wait]:
        """The waits that a task's end fulfils; they are forgotten."""
        over = []
        for wait in list(self._waits.pop(task_id, ())):
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
            if one.over:
                self._dead -= 1
            else:
                self._forget(one, timed=False)
                found.append(one)
        return found

    # -- totals ----------------------------------------------------------------------------------------------------

    def changed(self) -> None:
        """The totals are not what they were."""
        self._version += 1

    def totals_due(self, now: float) -> list[Watcher]:
        """Who is to be told the totals now."""
        due = [(watcher, one) for watcher, one in self._totals.items() if one.at <= now and one.seen != self._version]
        for _, one in due:
            one.at, one.seen = now + one.every_ms, self._version
        return [watcher for watcher, _ in due]

    @property
    def next_due(self) -> float | None:
        """The instant at which somebody's time is up or totals are due."""
        while self._deadlines and self._deadlines[0][2].over:
            heappop(self._deadlines)
            self._dead -= 1
        times = [self._deadlines[0][0]] if self._deadlines else []
        return min([*times, *(one.at for one in self._totals.values() if one.seen != self._version)], default=None)

    def stepped(self, ms: int) -> None:
        """The clock was put forward (or back, if less than 0) by so much: waits last as long as they would have."""
        for _, _, one in self._deadlines:
            one.until += ms
        self._deadlines = [(one.until, ticket, one) for _, ticket, one in self._deadlines]
        for totals in self._totals.values():
            totals.at += ms

    # -- forgetting ------------------------------------------------------------------------------------------------

    def gone(self, conn: int) -> None:
        """A connection is closed."""
        for one in list(self._parked.get(conn, ())):
            self._forget(one)
        self._watches.pop(conn, None)
        if self._load.pop(conn, 0):
            self._ends = {watcher: ids for watcher, ids in self._ends.items() if watcher[0] != conn}
            self._steps = {watcher: ids for watcher, ids in self._steps.items() if watcher[0] != conn}
            self._totals = {watcher: one for watcher, one in self._totals.items() if watcher[0] != conn}

    def _forget(self, one: Wait | Claim, *, timed: bool = True) -> None:
        if one.over:
            return
        one.over = True
        conn = one.request.conn
        parked = self._parked[conn]
        del parked[one]
        if not parked:
            del self._parked[conn]
        self._load[conn] -= one.weight
        if not self._load[conn]:
            del self._load[conn]
        if isinstance(one, Claim):
            del self.claims[one]
        else:
            for task_id in one.left:
                waits = self._waits[task_id]
                del waits[one]
                if not waits:
                    del self._waits[task_id]
        if timed and one.until != math.inf:
            self._dead += 1
            if self._dead > DEAD_MOST and 2 * self._dead > len(self._deadlines):
                self._deadlines = [entry for entry in self._deadlines if not entry[2].over]
                heapify(self._deadlines)
                self._dead = 0

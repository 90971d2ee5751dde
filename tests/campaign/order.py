"""What limits and graphs promise, checked after each turn of a simulated daemon.

For: ``Order``: no limit is passed, nothing begins before what it waits for is over as it should be, nobody is let go twice in a life.
Not for: what was promised to clients (oracle), making anything happen (actors).
Runs in: the process of a simulation, between the turns of its daemon.
Promises: it counts for itself, from what turns say they did and from the headers of tasks; what it cannot know (what a daemon did that
died before it said so, tokens of a limit that has just changed) it takes to be as good as it may be.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from tq.broker import Turn
from tq.model import Header, State
from tq.store import Limit, Store

Counted = tuple[str, str]


class Order:
    def __init__(self, wrong: Callable[[str, str], None], lives: Mapping[int, int], again: Callable[[int], bool]) -> None:
        """``lives``: how often each task was asked to be retried; ``again``: whether one may be retried as often as anybody likes."""
        self.wrong, self.lives, self.again = wrong, lives, again
        self.released: Counter[int] = Counter()
        self.claims = 0  # of tasks that a limit counts
        self.children = 0  # that began behind their parents
        self.forget()

    def forget(self) -> None:
        """A daemon starts: nobody knows what the one before has yet done."""
        self.limits: dict[str, Limit] = {}
        self.tokens: dict[Counted, tuple[float, int]] = {}

    def turned(self, store: Store, turn: Turn, now: int) -> None:
        limits = store.limits()
        steady = [limit for name, limit in limits.items() if self.limits.get(name) == limit]  # others changed in this very turn
        self.tokens = {counted: left for counted, left in self.tokens.items() if self.limits.get(counted[0]) == limits.get(counted[0])}
        self.limits = limits
        claimed: list[tuple[int, Header]] = []
        for event, rows in turn.steps:
            if event == "claimed":
                claimed += [(one.id, one.header) for one in rows]
                for one in rows:
                    self._take(steady, one.header, now, one.id)
            elif event == "released":
                for task in rows:
                    self._give_back(steady, task.spec.header, now)
            elif event == "unblocked":
                for task in rows:
                    self._let_go(task if isinstance(task, int) else task.id)
        for task_id, header in claimed:
            if header.parents:
                self._stands_behind(store, task_id, header)
        if claimed and any(limit.running for limit in steady):
            self._count(store, [limit for limit in steady if limit.running], [header for _, header in claimed])

    # -- limits ----------------------------------------------------------------------------------------------------

    def _left(self, limit: Limit, of: str, now: int) -> float:
        left, at = self.tokens.get((limit.name, of), (float(limit.burst), now))
        return float(limit.burst) if now < at else min(left + (now - at) * limit.rate / limit.per_ms, float(limit.burst))

    def _take(self, limits: Iterable[Limit], header: Header, now: int, task_id: int) -> None:
        for limit, of in _counting(limits, header):
            self.claims += 1
            if not limit.rate:
                continue
            left = self._left(limit, of, now) - 1
            if left < -1e-6:
                self.wrong("I8", f"expected limit {limit} to let nothing of {of!r} begin, found task {task_id} handed out at {now}")
            self.tokens[limit.name, of] = left, now

    def _give_back(self, limits: Iterable[Limit], header: Header, now: int) -> None:
        for limit, of in _counting(limits, header):
            if limit.rate:
                self.tokens[limit.name, of] = min(self._left(limit, of, now) + 1, float(limit.burst)), now

    def _count(self, store: Store, limits: list[Limit], claimed: list[Header]) -> None:
        """What was handed out runs beside no more than its limits let."""
        running = Counter(
            (limit.name, of)
            for header in store.headers([one.id for one in store.held()])
            for limit, of in (_counting(limits, header) if header is not None else ())
        )
        for header in claimed:
            for limit, of in _counting(limits, header):
                if running[limit.name, of] > limit.running:
                    self.wrong("I8", f"expected limit {limit} to let no more of {of!r} run, found {running[limit.name, of]} that do")

    def overslept(self, store: Store, pending: Iterable[Header], now: int, ms: float) -> str | None:
        """What waits for limits alone that time opens sooner than the daemon means to wake; None: nothing does."""
        for header in pending:
            found = store.reached(header)
            if found and all(used.opens_at for _, used in found) and now + ms > (at := max(used.opens_at for _, used in found)):
                return f"what limits {[limit.name for limit, _ in found]} let go at {at}, {at - now} ms from now"
        return None

    # -- graphs ----------------------------------------------------------------------------------------------------

    def _let_go(self, task_id: int) -> None:
        self.released[task_id] += 1
        if self.released[task_id] > 1 + self.lives[task_id] and not self.again(task_id):
            self.wrong("I13", f"expected task {task_id} to be let go once in each of {1 + self.lives[task_id]} lives, it was once more")

    def _stands_behind(self, store: Store, task_id: int, header: Header) -> None:
        """What it waits for is over, as it should be, unless that was retried since; one that is retried by itself waits for nobody."""
        if self.lives[task_id] or self.again(task_id):
            return
        self.children += 1
        for parent, state in zip(header.parents, store.states(header.parents), strict=True):
            if state is not None and not (self.lives[parent] or self.again(parent) or _suits(header, parent, state)):
                self.wrong("I13", f"expected task {task_id} to wait for task {parent}, which is {state.word}, found it handed out")


def _counting(limits: Iterable[Limit], header: Header) -> list[tuple[Limit, str]]:
    """The limits that count a task, and of which of their scope."""
    names: dict[str, Any] = {"queue": header.queue, "type": header.type, "tenant": header.tenant, "flow": header.flow}
    found = [(limit, names[limit.scope]) for limit in limits]
    return [(limit, of) for limit, of in found if of is not None and limit.of in (None, of)]


def _suits(header: Header, parent: int, state: State) -> bool:
    if parent in header.parents_failed:
        return state in (State.FAILED, State.EXPIRED)
    return state.final if parent in header.parents_any else state is State.SUCCEEDED

"""How many workers there should be: more while work waits, fewer when some have long had nothing to do.

For: one decision, from what the pool sees at the end of each turn.
Not for: starting or ending anybody (crew), knowing the store (the daemon says what waits).
Runs in: the daemon, inside the pool; in tests under a clock turned by hand.
Promises: pure but for what it remembers; nobody is let go who was needed, even for a moment, within the cool-down; nothing
is asked and no timer runs where there is nothing to decide.

Up: while tasks wait and no worker is idle for ``UP_MS``, the number doubles, but never to more than those that wait need.
Down: each number of workers that were idle at every look throughout the cool-down is too many.
"""

from __future__ import annotations

import math
from collections.abc import Callable

UP_MS = 200
"""How long tasks wait, while nobody is idle, before there are more workers."""
LOOK_MS = 50
"""What waits is counted at most this often."""


class Scaling:
    """Between ``low`` and ``high`` workers of ``slots`` each; times in ms of a clock that never steps."""

    def __init__(self, low: int, high: int, cooldown_ms: int, slots: int) -> None:
        self.low, self.high = low, high
        self.cooldown_ms = cooldown_ms
        self._slots = slots
        self._pressed_since: int | None = None
        self._looked_at = -LOOK_MS
        self._look_at: int | None = None
        self._idle_since: list[int] = []
        """Since when at least one, two, three ... workers have been idle at every look."""

    @property
    def fixed(self) -> bool:
        return self.low == self.high

    def decide(self, now: int, size: int, ready: int, idle: int, backlog: Callable[[], int]) -> int:
        """How many there should be: ``size`` is how many there are or are being started, ``ready`` those that work,
        ``idle`` those of them without a task; ``backlog`` counts the tasks that wait for one."""
        del self._idle_since[idle:]
        self._idle_since += [now] * (idle - len(self._idle_since))
        more = self._more(now, size, ready, backlog) if size < self.high and not idle else None
        if more is not None:
            return more
        if idle or size >= self.high:
            self._pressed_since = self._look_at = None
        spare = sum(now - since >= self.cooldown_ms for since in self._idle_since)
        wanted = min(max(size - spare, self.low), self.high)
        del self._idle_since[: max(size - wanted, 0)]  # of those that stay, so many fewer have been idle
        return wanted

    def _more(self, now: int, size: int, ready: int, backlog: Callable[[], int]) -> int | None:
        """A larger number, if tasks have waited long enough."""
        if now - self._looked_at < LOOK_MS:
            self._look_at = self._looked_at + LOOK_MS
            return None
        self._looked_at, self._look_at = now, None
        waiting = backlog()
        if not waiting:
            self._pressed_since = None
            return None
        if self._pressed_since is None:
            self._pressed_since = now
        if size and now - self._pressed_since < UP_MS:
            return None
        self._pressed_since = now
        wanted = min(max(2 * size, 1), ready + math.ceil(waiting / self._slots), self.high)
        return wanted if wanted > size else None

    def next_due(self, now: int, size: int) -> int | None:
        """When to decide again if nothing happens until then."""
        times = [] if self._look_at is None else [self._look_at]
        if self._pressed_since is not None:
            times.append(max(self._pressed_since + UP_MS, self._looked_at + LOOK_MS))
        if size > self.low:
            times += [at for since in self._idle_since if (at := since + self.cooldown_ms) > now][:1]
        return min(times, default=None)

"""Additive increase, multiplicative decrease: a level between two bounds that follows how the work beneath it goes.

For: ``Rule`` and ``Window``: when a limit that adapts itself grows and shrinks.
Not for: which outcomes belong to it, what its level limits (broker.adaptive).
Runs in: the daemon.
Promises: pure: instants come in as arguments; the level stays within its bounds; a window of outcomes changes it once at the most.

The rule is that of Chiu and Jain ("Analysis of the increase and decrease algorithms for congestion avoidance in computer networks", 1989),
by which TCP shares a line and which Netflix's concurrency-limits has as ``AIMDLimit``. A window is as many outcomes as the level, LEAST at
the least. If too many of them failed, or more than one in ten took too long, the level is multiplied by less than one, at once, and what
began before says nothing of the new level. If all went well and the level was reached meanwhile, it grows by a step.
"""

from __future__ import annotations

from typing import NamedTuple

LEAST = 10
"""Fewer outcomes than these say too little."""
WINDOW_MOST = 1000
"""More than these need not be waited for."""
SLOW_SHARE = 10
"""In a hundred: of more that took too long, the latency (its 90th percentile) is over the bound."""


class Rule(NamedTuple):
    """Between ``low`` and ``high``; ``latency_ms`` (0: any) is what nine in ten may take, ``failures`` how many in a hundred may fail,
    ``factor`` the hundredths that are left after a decrease, ``step`` what an increase adds."""

    low: int
    high: int
    latency_ms: int = 0
    failures: int = 10
    factor: int = 90
    step: int = 1


class Window(NamedTuple):
    """The level, and of the attempts that began ``since`` (ms) and ended: how many went well, failed, and took too long; and whether
    the level was reached meanwhile."""

    level: int
    since: int = 0
    good: int = 0
    bad: int = 0
    slow: int = 0
    pressed: bool = False

    def heard(self, rule: Rule, now: int, began_at: int, took_ms: int, *, failed: bool, pressed: bool) -> Window:
        """An attempt has ended; ``pressed``: so many as the level allows were under way, or had begun, meanwhile."""
        if began_at < self.since:
            return self
        slow = bool(rule.latency_ms) and took_ms > rule.latency_ms
        next_one = Window(self.level, self.since, self.good + (not failed), self.bad + failed, self.slow + slow, self.pressed or pressed)
        size = min(max(self.level, LEAST), WINDOW_MOST)
        if next_one.bad * 100 > rule.failures * size or next_one.slow * 100 > SLOW_SHARE * size:
            return Window(max(min(self.level - 1, self.level * rule.factor // 100), rule.low), now)
        if next_one.good + next_one.bad < size:
            return next_one
        return Window(min(self.level + rule.step, rule.high) if next_one.pressed else self.level, self.since)

    def why(self) -> str:
        """What its outcomes say, in words."""
        count = self.good + self.bad
        if self.bad or self.slow:
            return f"of {count} outcomes {self.bad} failed and {self.slow} took too long"
        return f"{count} outcomes went well"

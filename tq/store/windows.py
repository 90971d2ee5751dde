"""Windows: at most so many within any stretch of a time (sliding), or within each (fixed), kept exactly.

For: what limits with a window count, as plain tuples that can be stored.
Not for: token buckets and whom a limit counts together (limits).
Runs in: the daemon, inside a store.
Promises: pure, in whole ms; of a sliding window no stretch of ``per_ms``, wherever it begins, ever holds more than the rate; of a
fixed one none that begins at a multiple of ``per_ms`` since 1970-01-01 00:00 UTC. What is kept is at most 2 * (GRAINS + 1) numbers.

The sliding window is a log of what began (the "sliding window log"), the fixed one a counter ("fixed window counter"): see Cloudflare,
"How we built rate limiting capable of scaling to millions of domains" (2017), which names both. What began within a GRAINS-th of the
time is one entry, with the instant of the last of it: so the log stays small, and errs only towards fewer.
"""

from __future__ import annotations

Log = tuple[int, ...]
"""Of a sliding window instant and count, alternating, oldest first; of a fixed one the window's begin and its count."""
GRAINS = 128


def sliding_left(log: Log, rate: int, per_ms: int, now: int) -> int:
    """How many more may begin."""
    return max(rate - sum(log[1::2]) + sum(log[1 : _gone(log, per_ms, now) : 2]), 0)


def sliding_taken(log: Log, per_ms: int, count: int, now: int) -> Log:
    """``count`` begin now."""
    log, grain = log[_gone(log, per_ms, now) :], _grain(per_ms)
    if log and log[-2] // grain == now // grain:
        return (*log[:-2], now, log[-1] + count)
    return (*log, now, count)


def sliding_given_back(log: Log, per_ms: int, taken_at: int) -> Log:
    """One of those of ``taken_at`` did not begin."""
    grain = _grain(per_ms)
    for at in range(len(log) - 2, -1, -2):
        if log[at] // grain == taken_at // grain:
            return (*log[:at], log[at], log[at + 1] - 1, *log[at + 2 :]) if log[at + 1] > 1 else (*log[:at], *log[at + 2 :])
    return log


def sliding_opens_at(log: Log, rate: int, per_ms: int) -> int:
    """The first instant at which one more may begin."""
    over = sum(log[1::2]) - rate + 1
    for at, count in zip(log[::2], log[1::2], strict=True):
        over -= count
        if over <= 0:
            return at + per_ms
    return 0


def sliding_sound(log: Log, now: int) -> Log:
    """The log, when the clock may have been put back: nothing began later than now."""
    ahead = sum(count for at, count in zip(log[::2], log[1::2], strict=True) if at > now)
    if not ahead:
        return log
    kept = tuple(value for at, count in zip(log[::2], log[1::2], strict=True) if at <= now for value in (at, count))
    return (*kept, now, ahead)


def _gone(log: Log, per_ms: int, now: int) -> int:
    """Where in the log what still counts begins."""
    at = 0
    while at < len(log) and log[at] + per_ms <= now:
        at += 2
    return at


def _grain(per_ms: int) -> int:
    return max(per_ms // GRAINS, 1)


def fixed_left(log: Log, rate: int, per_ms: int, now: int) -> int:
    """How many more may begin in the window of ``now``."""
    return rate if not log or log[0] + per_ms <= now else max(rate - log[1], 0)


def fixed_taken(log: Log, per_ms: int, count: int, now: int) -> Log:
    start = now - now % per_ms
    return start, count + (log[1] if log and log[0] >= start else 0)


def fixed_given_back(log: Log, taken_at: int) -> Log:
    """One that began at ``taken_at`` did not; in a window that is over it counts no more."""
    return (log[0], log[1] - 1) if log and taken_at >= log[0] and log[1] else log


def fixed_sound(log: Log, per_ms: int, now: int) -> Log:
    start = now - now % per_ms
    return (start, log[1]) if log and log[0] > start else log

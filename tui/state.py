"""What the monitor knows: the newest answer to each question, metric history, and what changed since it was last shown.

For: ``Known``, which the feed and the refresher fill and screens read.
Not for: asking (feed, refresh), showing, anything of Textual.
Runs in: the monitor's event loop.
Promises: every text in it is fit for a terminal: it is cleaned here, once, and nowhere else; taking an answer in costs only what
it holds, and marks its topic in ``dirty``, so that a screen repaints what changed and no more.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from tui.formats import cleaned

Body = dict[str, Any]
COUNTED = ("added", "succeeded", "failed", "retried")
"""Series that count what happened in a bucket; the others tell how it stood at its end."""
SERIES = (*COUNTED, "pending", "running", "scheduled", "retrying", "dead", "p50", "p95", "p99")
KEEP = 720
"""Buckets of a series that are kept."""
RATE_OVER_MS = 10_000


@dataclass(slots=True)
class History:
    """Metrics of one queue or of all, oldest first; None where no daemon ran. ``until``: ms, the end of the newest bucket."""

    step_s: int
    until: int = 0
    series: dict[str, list[float | None]] = field(default_factory=dict)

    @property
    def length(self) -> int:
        return max(map(len, self.series.values()), default=0)

    def merge(self, until: int, series: Mapping[str, Sequence[float | None]]) -> bool:
        """Take in newer buckets; those that were there already are replaced, a gap between is a gap. Whether any value is another one."""
        step_ms = self.step_s * 1000
        before = self.series
        if until < self.until or not self.series:  # the clock stepped, or there was nothing
            self.series = {name: list(values)[-KEEP:] for name, values in series.items()}
        else:
            shift = (until - self.until) // step_ms
            self.series = dict(before)
            for name, values in series.items():
                old = self.series.get(name, [])
                overlap = max(len(values) - shift, 0)
                kept = old[: len(old) - overlap] if overlap else old
                gap: list[float | None] = [None] * max(shift - len(values), 0)
                self.series[name] = [*kept, *gap, *values][-KEEP:]
        self.until = until
        return self.series != before

    def last(self, name: str, count: int) -> list[float | None]:
        """The newest ``count`` values, filled with None in front."""
        values = self.series.get(name, [])[-count:]
        return [None] * (count - len(values)) + values

    def added_up(self, name: str, count: int) -> float | None:
        """The sum of the newest ``count`` values; None if there is none."""
        values = [value for value in self.last(name, count) if value is not None]
        return sum(values) if values else None


class Known:
    """All that is known, by topic. ``dirty``: topics that changed since whoever shows them last took the set."""

    def __init__(self) -> None:
        self.dirty: set[str] = set()
        self.came = asyncio.Event()
        """Set with each of them; whoever waits for it clears it."""
        self.taken: dict[str, int] = {}
        """When each topic last came, wall clock in ms."""
        self.lacking: dict[str, str] = {}
        """Topics that this daemon does not offer, or refused, and why."""
        self._bodies: dict[str, Body] = {}
        self._history: dict[tuple[str | None, int], History] = {}
        self._ended: deque[tuple[int, int]] = deque()

    def touch(self, topic: str) -> None:
        """Something about ``topic`` is otherwise than it was shown."""
        self.dirty.add(topic)
        self.came.set()

    def take(self, topic: str, body: Body, now_ms: int) -> None:
        """The newest answer about ``topic``."""
        fresh = cleaned(body)
        self.taken[topic] = now_ms
        self.lacking.pop(topic, None)
        if topic == "totals":
            self._count(fresh, now_ms)
        if self._bodies.get(topic) != fresh:
            self._bodies[topic] = fresh
            self.touch(topic)

    def take_history(self, topic: str, queue: str | None, body: Body, now_ms: int) -> None:
        """Newer buckets of ``queue``, or of all."""
        step = int(body["step_s"])
        history = self._history.setdefault((queue, step), History(step))
        if history.merge(int(body["until"]), body["series"]):
            self.touch(topic)
        self.taken[topic] = now_ms
        self.lacking.pop(topic, None)

    def lacks(self, topic: str, why: str) -> None:
        """The daemon has no answer to this: say so once."""
        if topic not in self.lacking:
            self.lacking[topic] = cleaned(why)
            self.touch(topic)

    def begin_anew(self) -> None:
        """Another connection: what is shown stays until it is replaced, what was lacking may be there now."""
        self.lacking.clear()
        self._ended.clear()

    def _count(self, totals: Body, now_ms: int) -> None:
        ended = int(totals.get("completed", 0)) + int(totals.get("failed", 0)) + int(totals.get("retried", 0))
        if self._ended and ended < self._ended[-1][1]:
            self._ended.clear()  # another store, or counted anew
        self._ended.append((now_ms, ended))
        while now_ms - self._ended[0][0] > RATE_OVER_MS and len(self._ended) > 2:
            self._ended.popleft()

    # what is known

    def get(self, topic: str) -> Body | None:
        """The newest answer about ``topic``, cleaned; None if none has come."""
        return self._bodies.get(topic)

    def rows(self, topic: str, key: str) -> Sequence[Body]:
        """The list under ``key`` of the newest answer; empty if none has come."""
        found = (self._bodies.get(topic) or {}).get(key)
        return found if isinstance(found, tuple) else ()

    def history(self, queue: str | None, step_s: int) -> History | None:
        return self._history.get((queue, step_s))

    def missing(self, queue: str | None, step_s: int, limit: int, now_ms: int) -> int:
        """How many buckets to ask for, so that ``limit`` of them are known up to now."""
        known = self._history.get((queue, step_s))
        if known is None or known.length < limit:
            return limit
        return max(min((now_ms - known.until) // (step_s * 1000) + 2, limit), 2)

    @property
    def totals(self) -> Body | None:
        return self._bodies.get("totals")

    def ended_per_s(self, now_ms: int) -> float:
        """Runs that ended in each of the last seconds."""
        if len(self._ended) < 2:
            return 0.0
        (first, low), (_, high) = self._ended[0], self._ended[-1]
        return (high - low) * 1000 / max(now_ms - first, 1000)

"""Counts: how many tasks of a queue and type stand in each state, and how long their runs took.

For: the tallies that every store keeps, and their histogram.
Not for: what people read of it (stats).
Runs in: the daemon, inside a store; ``tq verify``.
Promises: a percentile from the histogram is within 19 %.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from tq.model import State


@dataclass(slots=True)
class Tally:
    """Counts of one queue and type: tasks by state now, and totals since the store was made.

    ``states`` has one number per State; ``bytes`` are those of live tasks' payloads; ``succeeded``, ``failed`` and
    ``retried`` count ends and failed attempts that will be retried; ``run_ms`` is the sum of run times of ``runs``
    finished runs and ``times`` their histogram (see ``bucket_of``); ``kept`` has the bytes of the specifications and
    statuses of what is over: of all but the failed, and of the failed. ``added`` counts tasks that have come since the store was
    opened or, after a turn that was given up, since then; it is stored nowhere.
    """

    queue: str
    type: str
    states: list[int] = field(default_factory=lambda: [0] * len(State))
    bytes: int = 0
    succeeded: int = 0
    failed: int = 0
    retried: int = 0
    runs: int = 0
    run_ms: int = 0
    times: dict[int, int] = field(default_factory=dict)
    kept: list[int] = field(default_factory=lambda: [0, 0])
    added: int = field(default=0, compare=False)

    def ran(self, ms: int, runs: int = 1) -> None:
        """Count ``runs`` of ``ms`` each; a clock that stepped back makes it 0."""
        ms = max(ms, 0)
        self.runs += runs
        self.run_ms += ms * runs
        bucket = bucket_of(ms)
        self.times[bucket] = self.times.get(bucket, 0) + runs

    def row(self) -> list[Any]:
        head = [self.queue, self.type, self.states, self.bytes, self.succeeded, self.failed, self.retried]
        return [*head, self.runs, self.run_ms, self.times, self.kept]


def bucket_of(ms: int) -> int:
    """The histogram bucket of a duration: four to an octave, so a percentile is within 19 % (as HdrHistogram does)."""
    if ms < 4:
        return ms
    octave = ms.bit_length() - 1
    return octave * 4 + ((ms >> (octave - 2)) & 3) - 4


def bucket_top(bucket: int) -> int:
    """The largest duration in ms that falls into ``bucket``."""
    if bucket < 4:
        return bucket
    octave, quarter = divmod(bucket + 4, 4)
    return ((4 + quarter + 1) << (octave - 2)) - 1

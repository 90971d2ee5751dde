"""Statistics: from a store's tallies to what people and programs read.

For: the body of ``stats``: totals, and the same for each queue and type; percentiles from histograms.
Not for: counting (stores do), showing (cli, monitor).
Runs in: the daemon.
Promises: costs O(queues x types), never O(tasks); run times are seconds, percentiles within 19 % (see bucket_of).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from tq.model import STATES, State
from tq.store import Tally, bucket_top


def percentile(times: dict[int, int], share: float) -> float | None:
    """The run time in seconds that ``share`` (0..1) of the runs did not pass; None without runs."""
    total = sum(times.values())
    if not total:
        return None
    seen = 0
    for bucket in sorted(times):
        seen += times[bucket]
        if seen >= share * total:
            return bucket_top(bucket) / 1000
    return None


def _summary(tallies: Iterable[Tally]) -> dict[str, Any]:
    """What ``stats`` says of these tallies together."""
    total = Tally("", "")
    for one in tallies:
        total.states = [a + b for a, b in zip(total.states, one.states, strict=True)]
        total.bytes += one.bytes
        total.succeeded += one.succeeded
        total.failed += one.failed
        total.retried += one.retried
        total.runs += one.runs
        total.run_ms += one.run_ms
        for bucket, count in one.times.items():
            total.times[bucket] = total.times.get(bucket, 0) + count
    ended = total.succeeded + total.failed
    return {
        "states": dict(zip(STATES, total.states, strict=True)),
        "queue_length": total.states[State.PENDING],
        "running": total.states[State.RUNNING],
        "completed": total.succeeded,
        "failed": total.failed,
        "retried": total.retried,
        "bytes": total.bytes,
        "avg_process_time": total.run_ms / total.runs / 1000 if total.runs else None,
        "success_rate": total.succeeded / ended if ended else None,
        "failure_rate": total.failed / ended if ended else None,
        "p50": percentile(total.times, 0.50),
        "p95": percentile(total.times, 0.95),
        "p99": percentile(total.times, 0.99),
    }


def stats(tallies: list[Tally], active: int, total: int) -> dict[str, Any]:
    """The whole body; ``active`` of ``total`` slots are running a task."""
    return {
        **_summary(tallies),
        "workers": {"active": active, "total": total},
        "utilisation": active / total if total else 0.0,
        "queues": {name: _summary(t for t in tallies if t.queue == name) for name in sorted({t.queue for t in tallies})},
        "types": {name: _summary(t for t in tallies if t.type == name) for name in sorted({t.type for t in tallies})},
    }

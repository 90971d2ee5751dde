"""Statistics: from a store's tallies to what people and programs read.

For: the body of ``stats``: totals, and the same for each queue and type; percentiles from histograms.
Not for: counting (stores do), showing (cli, monitor).
Runs in: the daemon.
Promises: costs one look at each (queue, type), never O(tasks); run times are seconds, percentiles within 19 % (see
bucket_of); the body fits into a frame: beyond MOST queues or types it shows those with the most tasks, and says so.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable
from typing import Any

from tq.model import STATES, State
from tq.store.tally import Tally, bucket_top

MOST = 400
"""Queues, and types, that are shown one by one: each takes up to a kilobyte of the answer."""


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
    queues, more_queues = _by(lambda tally: tally.queue, tallies)
    types, more_types = _by(lambda tally: tally.type, tallies)
    return {
        **_summary(tallies),
        "workers": {"active": active, "total": total},
        "utilisation": active / total if total else 0.0,
        "queues": queues,
        "types": types,
        "not_shown": {"queues": more_queues, "types": more_types},
    }


def _by(name_of: Callable[[Tally], str], tallies: list[Tally]) -> tuple[dict[str, Any], int]:
    """A summary for each name, in their order, and how many names are left out."""
    groups: defaultdict[str, list[Tally]] = defaultdict(list)
    for tally in tallies:
        groups[name_of(tally)].append(tally)
    largest = sorted(groups, key=lambda name: -sum(sum(tally.states) for tally in groups[name]))[:MOST]
    return {name: _summary(groups[name]) for name in sorted(largest)}, len(groups) - len(largest)

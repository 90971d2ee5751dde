"""Limits at speed: how exact a rate is while a hundred thousand wait for it, what others keep, and many flow keys.

For: bars of the rate of a limited type, of the type beside it, and of a hundred thousand lanes.
Not for: what limits promise (tests/tq/store/test_conformance_limits.py).
Runs in: the process that measures; each bench has daemons of its own.
Promises: both sides of a ratio are measured in the same run; when a task began is the worker's own word.
"""

from __future__ import annotations

import time
from bisect import bisect_left
from collections.abc import Iterator
from statistics import median

from tests.bench.bars import HANDLERS, Bar, Size, at_most
from tq import bench
from tq.bench import PAYLOAD, instance, until_completed
from tq.client import Client

RATE = 500
BEGINS_WITHIN_MS = 100
"""A limit counts what is handed out; a worker that is given hundreds at once comes to the last of them some ms later."""
READ = 500


def _begun(client: Client, ids: range) -> list[int]:
    """When the first of these tasks began, in ms and in order, up to one that has not."""
    found: list[int] = []
    for at in range(0, len(ids), READ):
        rows = client.call("get", {"ids": list(ids[at : at + READ])})["tasks"]
        found += [row["started_at"] for row in rows if row["state"] == "succeeded"]
        if rows[-1]["state"] != "succeeded":
            break
    return sorted(found)


def flow(size: Size) -> Iterator[Bar]:
    with instance(HANDLERS, keep=5_000_000) as client:
        bench.end_to_end(client, max(size.tasks // 10, 1))
        alone = median(bench.end_to_end(client, size.tasks) for _ in range(3))
        client.set_queue("slow", paused=True)
        client.set_limit("slow", scope="type", of="stamp", rate=RATE, burst=RATE)
        ids = client.enqueue_many([("stamp", None, {"queue": "slow"})] * size.waiting)
        client.set_queue("slow", paused=False)
        began, rates = time.monotonic(), list[float]()
        while (left := size.limited_s - (time.monotonic() - began)) > 0:
            if left > size.limited_s / 2:
                rates.append(_beside(client, size.tasks))
            else:
                time.sleep(left)
        begun = _begun(client, range(ids[0], ids[-1] + 1))
    yield from _limited(begun, size, rates, alone)
    yield from _windows(size)
    with instance(HANDLERS) as client:
        bench.end_to_end(client, max(size.tasks // 10, 1))
        plain = bench.end_to_end(client, size.lanes)
        client.set_limit("one", scope="flow", running=1)
        rate = _end_to_end_by_key(client, size.lanes)
        yield Bar(
            f"{size.lanes:,} flow keys of one task each, one at a time", rate / plain, "x", 0.5, beside=f"{rate:,.0f}/s of {plain:,.0f}/s"
        )


def _limited(begun: list[int], size: Size, rates: list[float], alone: float) -> Iterator[Bar]:
    within = [at for at in begun if at - begun[0] < size.limited_s * 1000]
    span = (within[-1] - within[0]) / 1000
    allowed = RATE + RATE * span
    most = max(bisect_left(begun, at + 1000) - place for place, at in enumerate(begun))
    what = f"limit of {RATE}/s, burst {RATE}, {size.waiting:,} waiting: off what it allows in {span:.1f} s"
    yield at_most(what, abs(len(within) / allowed - 1), "", 0.01, beside=f"{len(within):,} of {allowed:,.0f}")
    yield at_most("  most that began within a second, over what the bucket held and got", most / (2 * RATE), "x", 1.02)
    yield Bar("  a type without limit beside it", median(rates) / alone, "x", 0.9, beside=f"alone {alone:,.0f}/s")


def _windows(size: Size) -> Iterator[Bar]:
    """A rate in any second, of ten thousand that wait: never more, and nearly as many as may."""
    with instance(HANDLERS, keep=5_000_000) as client:
        client.set_queue("slow", paused=True)
        client.set_limit("slow", scope="type", of="stamp", rate=RATE, window="sliding")
        span = max(size.limited_s / 4, 2.0)
        ids = client.enqueue_many([("stamp", None, {"queue": "slow"})] * int(RATE * span * 2))
        client.set_queue("slow", paused=False)
        time.sleep(span)
        begun = _begun(client, range(ids[0], ids[-1] + 1))
    within = [at for at in begun if at - begun[0] < int(span) * 1000]
    most = max(bisect_left(begun, at + 1000 - BEGINS_WITHIN_MS) - place for place, at in enumerate(begun))
    what = f"limit of {RATE}/s, sliding window: off what it allows in {int(span)} s"
    yield at_most(what, abs(len(within) / (RATE * int(span)) - 1), "", 0.02, beside=f"{len(within):,} of {RATE * int(span):,}")
    yield at_most(f"  most that began within a second less {BEGINS_WITHIN_MS} ms, over what it allows", most / RATE, "x", 1.02)


def _beside(client: Client, tasks: int) -> float:
    """The rate of a type without limit, while one with a limit goes on."""
    began = time.monotonic()
    ids = client.enqueue_many([("noop", PAYLOAD)] * tasks)
    client.wait([ids[-1]], 120)
    return tasks / (time.monotonic() - began)


def _end_to_end_by_key(client: Client, tasks: int) -> float:
    """``bench.end_to_end`` with a flow key for each task."""
    before, began = client.stats()["completed"], time.monotonic()
    client.enqueue_many(("noop", PAYLOAD, {"flow": f"key-{number}"}) for number in range(tasks))
    until_completed(client, before + tasks)
    return tasks / (time.monotonic() - began)

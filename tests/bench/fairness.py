"""Tenants at speed: how long small ones wait beside ten that have a hundred thousand tasks each, and what many tenants cost.

For: bars of the wait of small tenants, and of a hundred thousand tenants with one task each.
Not for: what shares promise (tests/tq/store/test_conformance_shares.py).
Runs in: the process that measures; each bench has daemons of its own.
Promises: both sides of a ratio are measured in the same run; when a task began is the worker's own word.

The fair wait of a tenant is the time at which an ideal fluid scheduler would have served its last task: one that serves all tenants
with work at once, each with an equal part of the rate. As all small ones have come before anything runs, n of them with k tasks
each, and the hot ones have more, all end when (n + hot) * k tasks of the whole are served; the time that takes is read from the run
itself: when that many tasks had begun.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from statistics import median

from tests.bench.bars import HANDLERS, Bar, Size, at_most
from tq import bench
from tq.bench import PAYLOAD, instance, until_completed
from tq.client import Client

HOT = 10
EACH = 10
READ = 500


def tenants(size: Size) -> Iterator[Bar]:
    yield _small_beside_hot(size)
    with instance(HANDLERS) as client:
        bench.end_to_end(client, max(size.tasks // 10, 1))
        plain = bench.end_to_end(client, size.lanes)
        rate = _end_to_end_by_tenant(client, size.lanes)
        few = median(_end_to_end_by_tenant(client, size.tasks, HOT) for _ in range(3))
    yield Bar(f"{size.lanes:,} tenants of one task each", rate / plain, "x", 0.5, beside=f"{rate:,.0f}/s of {plain:,.0f}/s")
    yield Bar(f"{HOT} tenants that take turns", few / plain, "x", 0.5, beside=f"{few:,.0f}/s of {plain:,.0f}/s")


def _small_beside_hot(size: Size) -> Bar:
    """The longest wait of a small tenant, over its fair wait."""
    with instance(HANDLERS, keep=5_000_000) as client:
        bench.end_to_end(client, max(size.tasks // 10, 1))
        client.set_queue("default", paused=True)
        hot = [client.enqueue_many([("noop", None, {"tenant": f"hot-{number}"})] * size.hot) for number in range(HOT)]
        small = client.enqueue_many(("noop", None, {"tenant": f"small-{n}"}) for n in range(size.small) for _ in range(EACH))
        opened = int(time.time() * 1000)
        client.set_queue("default", paused=False)
        client.wait(list(small)[-1:], 600)
        waits = sorted(_begun(client, list(small)))
        fluid = (size.small + HOT) * EACH
        begun = sorted(waits + [at for ids in hot for at in _begun(client, list(ids)[: 2 * EACH * 20])])
    fair = begun[min(fluid, len(begun)) - 1] - opened
    longest = waits[-1] - opened
    what = f"{size.small:,} tenants of {EACH} tasks beside {HOT} of {size.hot:,}: the longest wait over the fair one"
    return at_most(what, longest / max(fair, 1), "x", 1.5, beside=f"{longest:,} ms, fair {fair:,} ms")


def _begun(client: Client, ids: list[int]) -> list[int]:
    """When these tasks began (ms), as far as they have."""
    found: list[int] = []
    for at in range(0, len(ids), READ):
        rows = client.call("get", {"ids": ids[at : at + READ]})["tasks"]
        found += [row["started_at"] for row in rows if row["state"] == "succeeded"]
    return found


def _end_to_end_by_tenant(client: Client, tasks: int, tenants: int | None = None) -> float:
    """``bench.end_to_end`` with so many tenants in turn, or one for each task."""
    before, began = client.stats()["completed"], time.monotonic()
    client.enqueue_many(("noop", PAYLOAD, {"tenant": f"tenant-{number % (tenants or tasks)}"}) for number in range(tasks))
    until_completed(client, before + tasks)
    return tasks / (time.monotonic() - began)

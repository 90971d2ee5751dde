"""Tenants at speed: how long small ones wait beside ten that have a hundred thousand tasks each, and what many tenants cost.

For: bars of the wait of small tenants, and of a hundred thousand tenants with one task each.
Not for: what shares promise (tests/tq/store/test_conformance_shares.py).
Runs in: the process that measures; each bench has daemons of its own.
Promises: both sides of a ratio are measured in the same run; when a task began is the worker's own word.

The fair wait of a tenant is the time at which an ideal fluid scheduler would have served its last task: one that serves all tenants
with work at once, each with an equal part of the rate. As all have come before anything runs, n small ones with k tasks each, and
the h hot ones have more, all small ones end when (n + h) * k tasks of the whole are served, at the rate of this very run: so the wait
over the fair wait is the number of tasks that had begun when the last small one began, over that.
"""

from __future__ import annotations

import time
from bisect import bisect_right
from collections.abc import Iterator
from math import inf
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
    yield Bar(f"{HOT} tenants that take turns, task by task", few / plain, "x", 0.4, beside=f"{few:,.0f}/s of {plain:,.0f}/s")


def _small_beside_hot(size: Size) -> Bar:
    """The longest wait of a small tenant, over its fair wait."""
    with instance(HANDLERS, keep=5_000_000) as client:
        bench.end_to_end(client, max(size.tasks // 10, 1))
        client.set_queue("default", paused=True)
        hot = [list(client.enqueue_many([("noop", None, {"tenant": f"hot-{number}"})] * size.hot)) for number in range(HOT)]
        small = client.enqueue_many(("noop", None, {"tenant": f"small-{n}"}) for n in range(size.small) for _ in range(EACH))
        opened = int(time.time() * 1000)
        client.set_queue("default", paused=False)
        while len(begun := _begun(client, list(small))) < len(small):
            time.sleep(0.2)
        before = len(small) + sum(bisect_right(ids, float(max(begun)), key=lambda one: _began(client, one)) for ids in hot)
    fluid, longest = (size.small + HOT) * EACH, max(begun) - opened
    what = f"{size.small:,} tenants of {EACH} beside {HOT} of {size.hot:,} tasks: wait over fair wait"
    return at_most(what, before / fluid, "x", 1.5, beside=f"{longest:,} ms, fair {longest * fluid / before:,.0f} ms")


def _begun(client: Client, ids: list[int]) -> list[int]:
    """When these tasks began (ms), as far as they are over."""
    found: list[int] = []
    for at in range(0, len(ids), READ):
        rows = client.call("get", {"ids": ids[at : at + READ]})["tasks"]
        found += [row["started_at"] for row in rows if row["state"] == "succeeded"]
    return found


def _began(client: Client, task: int) -> float:
    (row,) = client.call("get", {"ids": [task]})["tasks"]
    return float(row["started_at"]) if row["state"] in ("running", "succeeded") else inf


def _end_to_end_by_tenant(client: Client, tasks: int, tenants: int | None = None) -> float:
    """``bench.end_to_end`` with so many tenants, the tasks of each together, or one for each task."""
    before, began = client.stats()["completed"], time.monotonic()
    client.enqueue_many(("noop", PAYLOAD, {"tenant": f"tenant-{number * (tenants or tasks) // tasks}"}) for number in range(tasks))
    until_completed(client, before + tasks)
    return tasks / (time.monotonic() - began)

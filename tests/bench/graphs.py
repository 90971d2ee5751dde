"""Graphs of tasks: how fast one whose tasks wait for each other is stored, released and run.

For: the bench ``graph``.
Not for: tasks that wait for nobody (speed).
Runs in: the process that measures, beside a real daemon with two workers.
Promises: a figure counts from the first request to the end of the last task, and every task has ended as it should.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from typing import Any

from tests.bench.bars import HANDLERS, Bar, Size
from tq.bench import instance
from tq.client import Client

TASKS_A_REQUEST = 5_000
MUST = 8_000
KEEP = 200_000


def graph(size: Size) -> Iterator[Bar]:
    layers, wide = (1_000, 100) if size.tasks >= 60_000 else (10, 10)
    rates = []
    for _ in range(min(size.rounds, 3)):
        with instance(HANDLERS, keep=KEEP) as client:
            began = time.perf_counter()
            last = _send(client, layers, wide)
            _over(client, last)
            rates.append(layers * wide / (time.perf_counter() - began))
            states = client.stats()["states"]
            if states["succeeded"] != layers * wide:
                raise RuntimeError(f"expected all tasks to succeed, got {states}")
    told = f"{layers:,} layers of {wide}, each task after three of the layer before"
    yield Bar("a graph: tasks stored, let go and run", sorted(rates)[len(rates) // 2], "/s", MUST, beside=told)
    many = 10_000 if layers == 1_000 else 100
    with instance(HANDLERS, keep=KEEP) as client:
        began = time.perf_counter()
        ids = client.enqueue_graph([("noop", None), *[("noop", None, {"after": [-1]})] * (many - 1)])
        _over(client, ids)
        yield Bar("children of one parent", many / (time.perf_counter() - began), "/s", MUST)
        parents = many // 10
        began = time.perf_counter()
        for _ in range(10):
            ids = client.enqueue_graph([*[("noop", None)] * parents, ("noop", None, {"after": [-1 - at for at in range(parents)]})])
        _over(client, ids)
        yield Bar("parents of one child", 10 * (parents + 1) / (time.perf_counter() - began), "/s", MUST, beside=f"{parents:,} each")


def _send(client: Client, layers: int, wide: int) -> Sequence[int]:
    """The ids of the last layer. Each request names what it comes after by ids of the one before, and else by places."""
    above: Sequence[int] = ()
    a_request = max(TASKS_A_REQUEST // wide, 1)
    for start in range(0, layers, a_request):
        rows: list[Any] = []
        for layer in range(start, min(start + a_request, layers)):
            before = above if layer == start else range(-1 - len(rows) + wide, -1 - len(rows), -1)
            for at in range(wide):
                after = [before[(at + step) % wide] for step in (0, 1, 7)] if before else []
                rows.append(("noop", None, {"after": after}))
        above = client.enqueue_graph(rows)[-wide:]
    return above


def _over(client: Client, ids: Sequence[int]) -> None:
    for start in range(0, len(ids), 500):
        client.wait(ids[start : start + 500], 300)

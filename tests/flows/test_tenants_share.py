"""Tenants that share a queue, and a real daemon: who goes first, by what weight, also after the daemon was killed."""

from __future__ import annotations

import json
import subprocess
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest

from tq.client import Client

pytestmark = pytest.mark.flow

Tq = Callable[..., subprocess.CompletedProcess[str]]


def send(client: Client, tenant: str, count: int) -> list[int]:
    return list(client.enqueue_many([("noop", None, {"tenant": tenant})] * count))


def next_ones(tq: Tq, count: int) -> Counter[str]:
    """Whose the next tasks of a queue for consumers outside are."""
    found = tq("peek", "-q", "out", "--json", "--limit", str(count)).stdout.splitlines()
    return Counter(json.loads(line)["tenant"] for line in found)


def test_one_with_much_does_not_delay_one_with_little(daemon: Any, app: str, client: Client, tq: Tq) -> None:
    daemon(app=app, workers=1)
    client.set_queue("default", paused=True)
    much, little = send(client, "much", 3000), send(client, "little", 10)
    why = {one["reason"]: one for one in json.loads(tq("why", str(little[-1]), "--json").stdout)["reasons"]}
    assert why["place"]["ahead"] == 19
    client.set_queue("default", paused=False)
    client.wait(much[-1:], 60)
    last = max(row["started_at"] for row in client.get_many(little) if row is not None)
    first = [row for row in client.get_many(much[:500]) if row is not None]
    assert sum(row["started_at"] < last for row in first) < 300


def test_weights_hold_and_last(daemon: Any, app: str, client: Client, tq: Tq) -> None:
    one = daemon(app=app, workers=1)
    client.set_queue("out", external=True)
    assert tq("tenant", "set", "gold", "--weight", "3").returncode == 0
    for tenant in ("gold", "iron"):
        client.enqueue_many([("noop", None, {"tenant": tenant, "queue": "out"})] * 300)
    assert next_ones(tq, 100) == {"gold": 75, "iron": 25}
    one.kill()
    one.start()
    assert next_ones(tq, 100) == {"gold": 75, "iron": 25}
    assert tq("tenant", "set", "gold", "--weight", "1").returncode == 0
    assert next_ones(tq, 100) == {"gold": 50, "iron": 50}

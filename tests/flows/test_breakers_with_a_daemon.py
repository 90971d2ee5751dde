"""Circuit breakers with a real daemon and real workers: one that opened is open for all of them, and through a kill of the daemon."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import tq as face
from tq.client import Client

pytestmark = [pytest.mark.flow, pytest.mark.timeout(120)]

Tq = Callable[..., subprocess.CompletedProcess[str]]
Until = Callable[..., Any]


def shown(tq: Tq) -> list[dict[str, Any]]:
    return [json.loads(line) for line in tq("breaker", "list", "--json").stdout.splitlines()]


def test_tasks_are_put_off_while_a_service_is_down_and_done_when_it_is_back(
    tq: Tq, daemon: Any, app: str, client: Client, until: Until, gate: Path
) -> None:
    one = daemon(workers=2, app=app)
    ids = client.enqueue_many([("call", {"gate": str(gate), "rule": "2 failures, cool 200ms to 300ms"}, {"retries": 100})] * 6)
    until(lambda: any(row["state"] == "scheduled" for row in client.get_many(ids) if row), what="one is turned away")
    assert tq("breaker", "trip", "smtp").returncode == 0
    with pytest.raises(face.ServiceDown, match="service 'smtp' is open: tripped"), face.breaker("smtp", client=client):
        raise AssertionError("it was entered")
    one.kill()
    one.start()
    (row,) = shown(tq)
    assert (row["name"], row["state"], row["why"], row["until"]) == ("smtp", "open", "tripped", 0)
    gate.touch()
    assert tq("breaker", "reset", "smtp").returncode == 0
    found = client.wait(ids, 60)
    assert [one["state"] for one in found if one] == ["succeeded"] * 6
    assert any(one["attempt"] > one["failures"] + 1 for one in found if one), "who is turned away loses no retry"
    assert shown(tq)[0]["state"] == "closed"

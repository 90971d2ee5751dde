"""A tenant at its quotas, with a real daemon and real workers: refused, let in again, held, and through a restart."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tq.client import Client

pytestmark = [pytest.mark.flow, pytest.mark.timeout(120)]

Tq = Callable[..., subprocess.CompletedProcess[str]]


def told(tq: Tq) -> dict[str | None, dict[str, Any]]:
    return {row["name"]: row for row in map(json.loads, tq("tenant", "list", "--json").stdout.splitlines())}


def test_a_tenant_at_its_quota_is_refused_and_goes_on_when_its_tasks_begin(
    tq: Tq, daemon: Any, client: Client, rows: Callable[..., list[dict[str, Any]]], until: Any, gate: Path
) -> None:
    running = daemon(workers=3)
    assert tq("tenant", "set", "acme", "--queued", "2", "--running", "1", "--per-day", "4").returncode == 0
    wait = f"while ! test -e {gate}; do sleep 0.02; done"
    held = [int(tq("add", "--tenant", "acme", "--", "sh", "-c", wait).stdout)]
    until(lambda: told(tq)["acme"]["running"] == 1, what="the first one runs")
    held += [int(tq("add", "--tenant", "acme", "--", "true").stdout) for _ in range(2)]
    done = tq("add", "--tenant", "acme", "--", "true")
    assert (done.returncode, done.stdout) == (75, "")
    assert "tenant 'acme' has reached its quota: expected at most 2 tasks that wait, it has 2 and 1 came" in done.stderr
    assert "tenant acme runs 1 tasks, and its quota is 1" in tq("why", str(held[1])).stdout
    (other,) = [int(tq("add", "--tenant", "beta", "--", "true").stdout)]
    assert rows([other])[0]["state"] == "succeeded"
    running.kill()
    running.start()
    assert told(tq)["acme"]["today"] == 3
    gate.touch()
    assert {row["state"] for row in rows(held)} == {"succeeded"}
    held.append(int(tq("add", "--tenant", "acme", "--", "true").stdout))
    done = tq("add", "--tenant", "acme", "--", "true")
    assert done.returncode == 75
    assert "expected at most 4 tasks accepted in a day (UTC), today it had 4 and 1 came" in done.stderr
    assert tq("tenant", "set", "acme", "--per-day", "none").returncode == 0
    held.append(int(tq("add", "--tenant", "acme", "--", "true").stdout))
    rows(held)
    found = told(tq)
    assert (found["acme"]["states"]["succeeded"], found["beta"]["states"]["succeeded"], found[None]["states"]["succeeded"]) == (5, 1, 6)
    assert tq("verify").returncode == 0

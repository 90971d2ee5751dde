"""Alert rules and a real daemon: a worker that dies is told by a command, a settings file that is read again counts at once."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.living import wait_until, wake_ups

pytestmark = pytest.mark.flow

Tq = Callable[..., subprocess.CompletedProcess[str]]


def alerts(tq: Tq) -> dict[str, Any]:
    done = tq("alerts", "--json")
    assert done.returncode == 0, done.stderr
    return {row["name"]: row for row in map(json.loads, done.stdout.splitlines())}


def test_a_dead_worker_and_a_deep_queue_are_told_and_known_after_a_restart(daemon: Any, tq: Tq, data_dir: Path, tmp_path: Path) -> None:
    told = tmp_path / "told"
    line = f'echo "$TQ_RULE $TQ_ALERT $TQ_VALUE" >> {told}'
    rules = f"[alerts.dying]\nwatch = 'lost_worker'\nwindow = '1h'\nrun = '''{line}'''\n"
    (data_dir / "tq.toml").write_text(rules)
    one = daemon(workers=1)
    worker = json.loads(tq("worker", "list", "--json").stdout)["pid"]
    os.kill(worker, signal.SIGKILL)
    wait_until(lambda: told.exists() and told.read_text() == "dying raised 1\n", 20)
    assert "alert        dying is raised since" in tq("daemon", "status").stdout
    deep = f"[alerts.deep]\nwatch = 'queue_depth'\nabove = 2\nqueue = 'later'\nrun = '''{line}'''\nclear = '''{line}'''\n"
    (data_dir / "tq.toml").write_text(rules + deep)
    os.kill(one.pid, signal.SIGHUP)
    wait_until(lambda: alerts(tq).keys() == {"dying", "deep"}, 20)
    assert tq("queue", "pause", "later").returncode == 0
    for _ in range(3):
        assert tq("add", "--queue", "later", "--", "true").returncode == 0
    wait_until(lambda: told.read_text().splitlines()[1:] == ["deep raised 3"], 20)
    one.restart()
    assert all(row["raised_at"] for row in alerts(tq).values())
    assert tq("queue", "resume", "later").returncode == 0
    wait_until(lambda: len(told.read_text().splitlines()) > 2, 20)
    assert told.read_text().splitlines()[2].startswith("deep cleared ")
    (data_dir / "tq.toml").write_text(rules + deep.replace("above", "abov"))
    checked = tq("config", "check")
    assert checked.returncode == 2
    assert "[alerts.deep]: expected a key of a rule, got 'abov'. Did you mean 'above'?" in checked.stderr


def test_rules_wake_no_idle_daemon(daemon: Any, tq: Tq, data_dir: Path) -> None:
    tables = {
        "deep": "watch = 'queue_depth'\nabove = 5", "slow": "watch = 'oldest_wait'\nabove = '1m'", "lost": "watch = 'lost_worker'",
        "bad": "watch = 'failure_rate'\nabove = 0.5\nwindow = '1s'", "late": "watch = 'late_schedule'",
    }  # fmt: skip
    (data_dir / "tq.toml").write_text("\n".join(f"[alerts.{name}]\n{table}" for name, table in tables.items()))
    one = daemon(workers=1)
    assert tq("add", "--wait", "--", "true").returncode == 0
    assert wake_ups(one.pid) <= 4

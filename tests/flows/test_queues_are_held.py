"""Queues that are held, and a real daemon: a probe that reads a file, one that hangs, memory that is not there."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.living import wait_until, wake_ups

pytestmark = pytest.mark.flow

Tq = Callable[..., subprocess.CompletedProcess[str]]


def say(tq: Tq, *words: str) -> str:
    done = tq(*words)
    assert done.returncode == 0, done.stderr
    return done.stdout


def reason(tq: Tq, task: str) -> dict[str, Any]:
    """Why a task waits, as far as the answer of a probe has to do with it."""
    found = {one["reason"]: one for one in json.loads(say(tq, "why", task, "--json"))["reasons"]}
    held: dict[str, Any] = found.get("queue_held", {})
    return held


def test_a_task_starts_within_the_interval_when_the_probe_finds_its_file(daemon: Any, tq: Tq, tmp_path: Path) -> None:
    go = tmp_path / "go"
    daemon(workers=1)
    say(tq, "queue", "set", "heavy", "--hold-probe", f"test -e '{go}'", "--hold-every", "500ms")
    task = say(tq, "add", "-q", "heavy", "--", "echo", "it runs").strip()
    other = say(tq, "add", "--", "true").strip()
    assert tq("wait", other, "--timeout", "20").returncode == 0
    wait_until(lambda: reason(tq, task).get("rules"), 20)
    assert "queue heavy is held: its probe says no (exit code 1); looked" in say(tq, "why", task)
    assert "held: its probe says no (exit code 1)" in say(tq, "queue", "list")
    assert "queue heavy: its probe says no (exit code 1)" in say(tq, "daemon", "status")
    go.touch()
    began = time.monotonic()
    assert tq("wait", task, "--timeout", "20").returncode == 0
    assert time.monotonic() - began < 5
    done = [json.loads(line) for line in say(tq, "events", "--json").splitlines()]
    told = [(one["what"], one["after"]["why"]) for one in done if one["what"] in ("held", "let_go")]
    assert told == [("let_go", "its probe says go"), ("held", "its probe says no (exit code 1)")]


def test_a_rule_of_the_settings_file_holds_from_the_start_and_costs_few_wake_ups(daemon: Any, tq: Tq, data_dir: Path) -> None:
    (data_dir / "tq.toml").write_text("[queues.heavy]\nhold_memory = '1000000G'\n")
    one = daemon(workers=1)
    task = say(tq, "add", "-q", "heavy", "--", "true").strip()
    assert reason(tq, task)["rules"] == ["memory"]
    assert wake_ups(one.pid, after_s=2) <= 25
    one.restart()
    assert reason(tq, task)["rules"] == ["memory"]
    say(tq, "queue", "set", "heavy", "--unset", "hold-memory")
    assert tq("wait", task, "--timeout", "20").returncode == 0


def test_a_rule_and_no_task_wake_no_idle_daemon(daemon: Any, tq: Tq) -> None:
    one = daemon(workers=1)
    say(tq, "queue", "set", "heavy", "--hold-probe", "true", "--hold-every", "100ms", "--hold-load", "10000")
    say(tq, "add", "-q", "heavy", "--wait", "--", "true")
    assert wake_ups(one.pid) <= 4


@pytest.mark.parametrize("killed", [False, True], ids=["stopped", "killed"])
def test_a_probe_that_hangs_goes_with_the_daemon_or_with_the_start_of_the_next(daemon: Any, tq: Tq, data_dir: Path, killed: bool) -> None:
    one = daemon(workers=1)
    say(tq, "queue", "set", "heavy", "--hold-probe", "sleep 1000 & sleep 1000; true")
    task = say(tq, "add", "-q", "heavy", "--", "true").strip()

    def probes() -> list[psutil.Process]:
        return [child for child in psutil.Process(one.pid).children(recursive=True) if child.cwd() == str(data_dir)]

    found = wait_until(lambda: len(probes()) == 3 and probes(), 20)
    assert "queue heavy is held: its probe has not answered yet" in say(tq, "why", task)
    if killed:
        one.kill()
        one.start()
        say(tq, "queue", "set", "heavy", "--unset", "hold-probe")
        assert tq("wait", task, "--timeout", "20").returncode == 0
    else:
        say(tq, "daemon", "stop")
        assert not list((data_dir / "run").glob("probes*"))
    assert [process for process in found if process.is_running() and process.status() != psutil.STATUS_ZOMBIE] == []

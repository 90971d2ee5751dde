"""Schedules and a real daemon: commands on time, in their caller's surroundings, and each slot once whatever dies."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.living import wait_until

pytestmark = [pytest.mark.flow, pytest.mark.slow]

Tq = Callable[..., subprocess.CompletedProcess[str]]

APP = """
import tq

@tq.task("beat", schedule=tq.Schedule(cron="* * * * * *", payload={"n": 3}, misfire="all:1000"))
def beat(n: int) -> int:
    return n
"""


def lines(done: subprocess.CompletedProcess[str]) -> list[Any]:
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_a_command_runs_on_its_schedule_where_it_was_added(daemon: Any, tq: Tq, data_dir: Path) -> None:
    daemon(workers=1)
    done = tq("schedule", "add", "tick", "--every", "1s", "--label", "tock", "--", "sh", "-c", "echo $WORD; exit 3", env={"WORD": "hello"})
    assert done.returncode == 0, done.stderr
    wait_until(lambda: len(lines(tq("schedule", "history", "tick", "--json"))) > 1, 20)
    (row,) = lines(tq("schedule", "list", "--json"))
    assert (row["name"], row["every"], row["last"]["state"] in ("failed", "running", "pending")) == ("tick", 1.0, True)
    assert tq("schedule", "pause", "tick").returncode == 0
    newest, *_ = lines(tq("schedule", "history", "tick", "--json"))
    assert (newest["task"]["label"], newest["task"]["meta"]["schedule"], newest["task"]["exit_code"]) == ("tock", "tick", 3)
    assert newest["task"]["meta"]["slot"] == newest["slot"]
    assert tq("log", str(newest["id"])).stdout == "hello\n"
    assert "paused" in tq("schedule", "list").stdout
    assert tq("schedule", "run", "tick", "--wait").returncode == 3
    assert "by hand" in tq("schedule", "history", "tick").stdout
    shown = tq("schedule", "show", "tick").stdout
    assert "sh -c 'echo $WORD; exit 3'" in shown
    assert "hello" not in shown  # what its environment holds is nobody's to read
    assert tq("schedule", "remove", "tick").returncode == 0
    assert tq("schedule", "show", "tick").returncode == 2


def test_a_schedule_that_is_after_another_runs_when_that_has_succeeded(daemon: Any, tq: Tq, tmp_path: Path) -> None:
    daemon(workers=2)
    out = tmp_path / "out"
    assert tq("schedule", "add", "load", "--every", "1s", "--", "sh", "-c", f"sleep 0.2; echo load >> {out}").returncode == 0
    done = tq("schedule", "add", "report", "--every", "1s", "--after-schedule", "load", "--", "sh", "-c", f"echo report >> {out}")
    assert done.returncode == 0, done.stderr
    assert "after           load" in tq("schedule", "show", "report").stdout
    wait_until(lambda: out.exists() and out.read_text().count("report") > 1, 30)
    for task in (row["task"] for row in lines(tq("schedule", "history", "report", "--json"))):
        loads = {row["id"]: row["slot"] for row in lines(tq("schedule", "history", "load", "--json"))}
        assert all(loads[parent] <= task["meta"]["slot"] for parent in task["parents"])
    assert out.read_text().splitlines()[0] == "load"
    refused = tq("schedule", "edit", "load", "--after-schedule", "report")
    assert (refused.returncode, "load > report > load" in refused.stderr) == (2, True)
    assert tq("schedule", "edit", "report", "--clear", "after-schedule").returncode == 0
    assert lines(tq("schedule", "show", "report", "--json"))[0]["after"] == []


def test_a_failure_and_a_recovery_run_their_commands_once_each_where_the_schedule_runs(daemon: Any, tq: Tq, tmp_path: Path) -> None:
    daemon(workers=1)
    told, state = tmp_path / "told", tmp_path / "broken"
    state.touch()
    line = f'echo "$TQ_ALERT $TQ_SCHEDULE $TQ_ABOUT $TQ_OUTCOME $TQ_EXIT_CODE $TQ_ERROR $WORD" >> {told}'
    rule = ("--cron", "0 0 1 1 *", "--on-failure", line, "--on-recovery", line)
    done = tq("schedule", "add", "job", *rule, "--", "sh", "-c", f"test ! -e {state}", env={"WORD": "own"})
    assert done.returncode == 0, done.stderr
    for _ in range(3):
        assert tq("schedule", "run", "job", "--wait").returncode == 1
    state.unlink()
    assert tq("schedule", "run", "job", "--wait").returncode == 0
    wait_until(lambda: told.exists() and len(told.read_text().splitlines()) > 1, 20)
    assert tq("schedule", "run", "job", "--wait").returncode == 0
    sent = [row for row in lines(tq("list", "--json")) if (row["label"] or "").startswith("alert")]
    assert len(sent) == 2
    failure, recovery = told.read_text().splitlines()
    assert failure == "failure job 1 failed 1 ExitCode: exit code 1 own"
    assert recovery.startswith("recovery job ")
    assert recovery.endswith(" succeeded   own")


def test_a_daemon_that_is_killed_again_and_again_runs_each_slot_of_a_declared_schedule_once(
    daemon: Any, tq: Tq, data_dir: Path, tmp_path: Path
) -> None:
    app = tmp_path / "beats.py"
    app.write_text(APP)
    one = daemon(app=str(app), workers=1)
    for _ in range(4):
        time.sleep(0.7)  # any moment will do
        one.kill()
        time.sleep(0.5)
        one.start()
    wait_until(lambda: len(lines(tq("schedule", "history", "beat", "--json", "-n", "100"))) > 7, 30)
    assert tq("schedule", "pause", "beat").returncode == 0
    slots = [row["slot"] for row in lines(tq("schedule", "history", "beat", "--json", "-n", "100"))][::-1]
    seconds = [round(time.mktime(time.strptime(slot, "%Y-%m-%dT%H:%M:%S.000Z"))) for slot in slots]
    assert seconds == list(range(seconds[0], seconds[0] + len(seconds)))
    assert tq("verify").returncode == 0

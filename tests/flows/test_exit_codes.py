"""What a script learns from waiting: every exit code of the table, from real tasks."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.flow

Tq = Callable[..., subprocess.CompletedProcess[str]]

APP = """
import time
import tq

@tq.task(retries=0)
def fails() -> None:
    raise ValueError("no good")

@tq.task(retries=0)
def sleeps() -> None:
    time.sleep(60)

@tq.task
def works() -> int:
    return 3
"""


@pytest.fixture
def app(daemon: Any, tmp_path: Path) -> None:
    path = tmp_path / "codes.py"
    path.write_text(APP)
    daemon(app=path, workers=2)


def _id(done: subprocess.CompletedProcess[str]) -> str:
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_every_way_to_end_has_its_code_for_wait_and_for_what_waits_itself(tq: Tq, app: None) -> None:
    ended = {
        "success": (_id(tq("add", "--", "true")), 0),
        "own": (_id(tq("add", "--", "sh", "-c", "exit 7")), 7),
        "signal": (_id(tq("add", "--", "sh", "-c", "kill -TERM $$")), 143),
        "killed": (_id(tq("add", "--", "sh", "-c", "kill -KILL $$")), 137),
        "no such command": (_id(tq("add", "--", "no-such-command-at-all")), 127),
        "function": (_id(tq("enqueue", "--type", "works")), 0),
        "failed function": (_id(tq("enqueue", "--type", "fails")), 1),
        "timed out": (_id(tq("add", "--timeout", "0.1", "--", "sleep", "60")), 124),
        "timed out function": (_id(tq("enqueue", "--type", "sleeps", "--timeout", "0.1")), 124),
        "expired": (_id(tq("add", "--in", "1h", "--ttl", "0.1", "--", "true")), 124),
    }
    waits = _id(tq("add", "--in", "1h", "--", "true"))
    assert tq("cancel", waits).returncode == 0
    ended["cancelled"] = (waits, 143)
    runs = _id(tq("add", "--", "sleep", "60"))
    assert tq("wait", runs, "--timeout", "0.1").returncode == 124
    assert tq("cancel", runs).returncode == 0
    ended["cancelled while it ran"] = (runs, 143)
    ended["unknown"] = ("999", 66)
    assert {how: tq("wait", task).returncode for how, (task, _) in ended.items()} == {how: code for how, (_, code) in ended.items()}

    def wait(*hows: str) -> int:
        return tq("wait", *(ended[how][0] for how in hows)).returncode

    assert wait("success", "function") == 0
    assert wait("success", "own", "failed function") == 7
    assert wait("cancelled", "own", "expired") == 143
    assert wait("expired", "cancelled") == 124
    assert wait("success", "unknown", "own") == 66

    for words, code in (
        (["enqueue", "--type", "works"], 0), (["enqueue", "--type", "fails"], 1),
        (["enqueue", "--type", "sleeps", "--timeout", "0.1"], 124),
        (["add", "--ttl", "0.1", "--in", "1h", "--", "true"], 124), (["add", "--", "sh", "-c", "exit 5"], 5), (["add", "--", "true"], 0),
    ):  # fmt: skip
        done = tq(*words[:1], "--wait", *words[1:])
        assert done.returncode == code, (words, done.stderr)
        assert done.stdout.strip().isdigit()  # its id is printed all the same
    assert tq("wait").returncode == tq("wait", "x").returncode == 2


def test_any_ends_with_the_first_that_is_over_and_says_which(tq: Tq, app: None) -> None:
    slow, later = _id(tq("add", "--", "sleep", "60")), _id(tq("add", "--in", "1h", "--", "true"))
    fails = _id(tq("add", "--", "sh", "-c", "sleep 0.3; exit 9"))
    done = tq("wait", "--any", slow, fails, later)
    assert (done.returncode, done.stdout) == (9, f"{fails}\n")
    done = tq("wait", "--any", "--json", slow, fails, later)
    assert (done.returncode, json.loads(done.stdout)["exit_code"]) == (9, 9)
    done = tq("wait", "--any", "--timeout", "0.1", slow, later)
    assert (done.returncode, done.stdout) == (124, "")
    assert "expected one of them to be over in time" in done.stderr
    assert tq("wait", "--any", slow, "999").returncode == 66
    assert tq("cancel", slow).returncode == 0
    assert tq("wait", "--any", slow, later).returncode == 143


def test_run_knows_the_end_of_a_task_that_is_not_kept(tq: Tq, app: None) -> None:
    assert tq("queue", "set", "brief", "--keep", "0s").returncode == 0
    for _ in range(3):
        done = tq("run", "-q", "brief", "--", "sh", "-c", "echo said; sleep 1; exit 3")  # long enough to be followed
        assert (done.returncode, done.stdout) == (3, "said\n")
    assert tq("run", "-q", "brief", "--", "sleep", "1").returncode == 0


def test_the_first_task_of_a_machine_may_have_an_input(tq: Tq, data_dir: Path) -> None:
    done = tq("run", "--stdin", "--data-dir", str(data_dir / "new"), "--", "cat", input="read")
    tq("daemon", "stop", "--data-dir", str(data_dir / "new"))
    assert (done.returncode, done.stdout) == (0, "read")


def test_an_input_for_which_there_is_no_daemon_is_not_kept(tq: Tq, data_dir: Path) -> None:
    done = tq("add", "--stdin", "--", "cat", input="x" * 100_000, env={"TQ_AUTOSTART": "0"})
    assert done.returncode == 69
    assert [path for path in data_dir.rglob("*") if path.is_file()] == []

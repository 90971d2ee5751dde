"""Commands and functions that run after others, from the command line and from Python, with real workers."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tq.client import Client
from tq.errors import NoSuchTask, TaskCancelled, UsageError

pytestmark = pytest.mark.flow

Tq = Callable[..., subprocess.CompletedProcess[str]]


def _id(done: subprocess.CompletedProcess[str]) -> str:
    assert done.returncode == 0, done.stderr
    return done.stdout.split()[-1]


def _shown(tq: Tq, task: str) -> Any:
    return json.loads(tq("show", task, "--json").stdout)


def test_a_command_runs_after_those_it_was_given_and_not_before(tq: Tq, daemon: Any, tmp_path: Path) -> None:
    daemon(workers=2)
    gate, out = tmp_path / "gate", tmp_path / "out"
    wait = f"while ! test -e {gate}; do sleep 0.01; done; echo first >> {out}"
    first = _id(tq("add", "--", "sh", "-c", wait))
    second = _id(tq("add", "--after", "@last", "--", "sh", "-c", f"echo second >> {out}"))
    third = _id(tq("add", "--after", f"{first},{second}", "--after-any", second, "--", "sh", "-c", f"echo third >> {out}"))
    assert [_shown(tq, task)["state"] for task in (second, third)] == ["blocked", "blocked"]
    words = tq("show", third).stdout
    assert f"after           {first}, {second}\n" in words
    assert "waits for       2 of them\n" in words
    assert f"waits for 2 of 2 tasks: {first} (running), {second} (blocked)" in tq("why", third).stdout
    assert tq("list", "state:blocked", "--json").stdout.count("\n") == 2
    assert json.loads(tq("list", f"parent:{second}", "--json").stdout)["id"] == int(third)
    assert json.loads(tq("stats", "--json").stdout)["states"]["blocked"] == 2
    gate.touch()
    assert tq("wait", third).returncode == 0
    assert out.read_text() == "first\nsecond\nthird\n"


def test_what_fails_cancels_those_after_it_and_lets_those_run_that_come_after_any_end(tq: Tq, daemon: Any) -> None:
    daemon(workers=1)
    fails = _id(tq("add", "--in", "0.5s", "--", "sh", "-c", "exit 3"))
    lost = _id(tq("add", "--after", fails, "--", "true"))
    further = _id(tq("add", "--after", lost, "--", "true"))
    cleans = _id(tq("add", "--after-any", fails, "--", "sh", "-c", "exit 4"))
    done = tq("wait", lost)
    assert (done.returncode, done.stderr) == (
        143, f"tq: task {lost} cancelled: ParentFailed: expected task {fails} to succeed before this one runs, but it failed\n",
    )  # fmt: skip
    assert tq("wait", further).returncode == 143
    assert tq("wait", cleans).returncode == 4
    assert f"after           {fails} (however it ends)\n" in tq("show", cleans).stdout
    assert tq("run", "--after", fails, "--", "echo", "never").returncode == 143  # it is over already
    assert tq("run", "--after-any", fails, "--", "echo", "told").stdout == "told\n"
    done = tq("add", "--after", "999", "--", "true")
    assert (done.returncode, done.stdout) == (66, "")
    assert done.stderr.startswith("tq: --after: expected the id of a task, got 999: there is none")


def test_batches_and_each_take_what_their_tasks_wait_for(tq: Tq, daemon: Any) -> None:
    daemon(workers=1)
    first = _id(tq("add", "--in", "1h", "--", "true"))
    lines = (
        f'{{"type": "shell", "after": {first}}}\n{{"type": "shell", "after_any": ["{first}"]}}\n{{"type": "shell", "after": [{first}]}}\n'
    )
    assert tq("enqueue", "--batch", "-", "--in", "1h", input=lines).stdout == "2\n3\n4\n"
    assert tq("enqueue", "--batch", "-", "--type", "shell", "--after", "@last", "--in", "1h", input="{}\n").stdout == "5\n"
    assert tq("add", "--each", "--after", "@last", "--", "echo", input="a\nb\n").stdout == "6\n7\n"
    assert [_shown(tq, str(task))["state"] for task in range(2, 8)] == ["blocked"] * 6
    assert tq("cancel", first).returncode == 0
    assert [_shown(tq, str(task))["state"] for task in range(2, 8)] == [
        "cancelled", "scheduled", "cancelled", "cancelled", "cancelled", "cancelled",
    ]  # fmt: skip
    bad = tq("enqueue", "--batch", "-", "--type", "shell", input='{}\n{"after": "@last"}\n')
    assert (bad.returncode, bad.stdout) == (2, "8\n")
    assert bad.stderr.startswith("tq: line 2: --after: expected ids of tasks such as 17,18, got '@last'.")


def test_handles_say_what_comes_after_them(daemon: Any, data_dir: Path) -> None:
    daemon(app="tests.flows.tasks_for_flows", workers=1)
    with Client(data_dir) as q:
        first = q.enqueue("noop", delay=0.3)
        second = q.enqueue("noop", after=first)
        third = q.enqueue("noop", after=[first, second.id], after_any=second)
        assert q.get(third.id)["parents"] == [first.id, second.id]
        assert third.wait(20) == "succeeded"
        q.cancel(q.enqueue("noop", delay=60).id)
        lost = q.enqueue("noop", after=q.list(limit=1)[0]["id"])
        with pytest.raises(TaskCancelled, match="expected task 4 to succeed before this one runs, but it was cancelled"):
            lost.result(20)
        with pytest.raises(NoSuchTask, match="after: expected the id of a task, got 99"):
            q.enqueue("noop", after=99)
        with pytest.raises(UsageError, match="expected the id of a task or its handle"):
            q.enqueue("noop", after="1")  # type: ignore[arg-type]


def test_children_of_a_task_that_was_running_when_the_daemon_was_killed_run_after_its_second_attempt(
    tq: Tq, daemon: Any, data_dir: Path, until: Any, tmp_path: Path
) -> None:
    one = daemon(workers=1)
    gate = tmp_path / "gate"
    parent = _id(tq("add", "--", "sh", "-c", f"while ! test -e {gate}; do sleep 0.01; done"))
    child = _id(tq("add", "--after", parent, "--", "true"))
    until(lambda: _shown(tq, parent)["state"] == "running")
    one.kill()
    gate.touch()
    one.start()
    assert tq("wait", child).returncode == 0
    assert _shown(tq, parent)["attempt"] == 2

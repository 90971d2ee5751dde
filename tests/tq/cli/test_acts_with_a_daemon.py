"""What a person does to tasks, from the command line to the store: retry, edit, remove, dead letters, queues, why, events."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.living import unmeasured

pytestmark = pytest.mark.flow

Tq = Callable[..., subprocess.CompletedProcess[str]]

APP = """
import tq

@tq.task("double", retries=0)
def double(n: int) -> int:
    return 2 * n

@tq.task("nightly", retries=0)
def nightly() -> None:
    raise ValueError("no")
"""


@pytest.fixture
def app(tmp_path: Path) -> Path:
    path = tmp_path / "app.py"
    path.write_text(APP)
    return path


def lines(done: subprocess.CompletedProcess[str]) -> list[dict[str, Any]]:
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_a_dead_letter_is_found_by_its_group_mended_and_run_again(tq: Tq, daemon: Any, app: Path) -> None:
    daemon(app=app)
    rows = [*('"x"' for _ in range(3)), "[]"]
    batch = "".join(f'{{"type": "double", "payload": {{"n": {row}, "m": 1}}}}\n' for row in rows)
    assert tq("enqueue", "--batch", "-", "--wait", input=batch).returncode == 1
    (group,) = lines(tq("dead", "list", "--json"))
    assert (group["count"], group["type"], group["error"]) == (4, "double", "TypeError")
    assert "unexpected keyword" in tq("dead", "show", group["group"]).stdout
    assert tq("dead", "retry", "--group", group["group"], "--dry-run").stdout == "4\n"
    done = tq("dead", "retry", "--group", group["group"], "--payload", '{"n": 21}', "-p", "high", "--wait")
    assert (done.returncode, done.stderr) == (0, "4 tasks retried\n")
    assert tq("wait", "1", "2", "3", "4", "--timeout", "20s").returncode == 0
    assert tq("result", "4").stdout == "42\n"
    shown = lines(tq("show", "4", "--json"))[0]
    assert (shown["priority"], [(one["attempt"], one["outcome"]) for one in shown["attempts"]]) == (2, [(1, "failed"), (2, "succeeded")])
    assert tq("dead", "list").stderr == "no dead letters\n"


def test_dead_letters_are_purged_by_age_and_live_tasks_stay(tq: Tq, daemon: Any, app: Path) -> None:
    daemon(app=app)
    assert tq("enqueue", "--type", "nightly", "--wait").returncode == 1
    assert tq("add", "--wait", "--", "true").returncode == 0
    assert tq("dead", "purge", "--older-than", "1h", "--wait").stderr == "0 tasks removed\n"
    assert tq("dead", "purge", "--newer-than", "1h", "--wait").stderr == "1 task removed\n"
    assert [row["id"] for row in lines(tq("list", "--json"))] == [2]


def test_waiting_tasks_are_edited_and_run_in_their_new_order(tq: Tq, daemon: Any) -> None:
    daemon(workers=1)
    assert tq("queue", "pause", "default").returncode == 0
    for _ in range(3):
        assert tq("add", "--", "true").returncode == 0
    assert tq("edit", "3", "--priority", "9", "--label", "first").returncode == 0
    assert tq("edit", "2", "--in", "1h").returncode == 0
    assert "queue default is paused" in tq("why", "1").stdout
    assert "not due before" in tq("why", "2").stdout
    assert tq("queue", "resume", "default").returncode == 0
    assert tq("wait", "1", "3", "--timeout", "20s").returncode == 0
    first, third = lines(tq("wait", "1", "3", "--json"))
    assert (third["label"], third["started_at"] <= first["started_at"]) == ("first", True)
    assert tq("edit", "1", "--priority", "2").returncode == 75
    assert tq("edit", "--where", "state:scheduled", "--in", "0", "--wait").stderr == "1 task changed\n"
    assert tq("wait", "2", "--timeout", "20s").returncode == 0


def test_why_says_what_only_the_daemon_knows(tq: Tq, daemon: Any, until: Any, app: Path) -> None:
    one = daemon(workers=1, app=app, grace=0.5)
    said = lambda task_id: tq("why", task_id).stdout  # noqa: E731
    assert tq("add", "--", "sleep", "60").stdout == "1\n"
    until(lambda: "attempt 1 runs on w1 since" in said("1"), 20)
    assert tq("suspend", "1").returncode == 0
    assert "it is suspended" in said("1")
    assert tq("enqueue", "--type", "double", "--payload", '{"n": 1}').stdout == "2\n"
    assert said("2").startswith("task 2 (double, queue default) is pending: 1 of 1 slots of the workers are taken; it is the next one")
    app.write_text(APP.replace('"double"', '"triple"'))
    one.restart()
    until(lambda: "none of the 1 workers has the type double any more" in said("2"), 20)
    assert tq("cancel", "2").returncode == 0
    told = lines(tq("why", "2", "--json"))[0]["why"]
    assert told.startswith("task 2 (double, queue default) is cancelled: it was cancelled at 2")
    assert f" by user {os.getuid()} (pid " in told


def test_a_queue_is_purged_and_what_runs_is_left_to_run(tq: Tq, daemon: Any, until: Any) -> None:
    daemon(workers=1)
    assert tq("add", "--", "sleep", "60").stdout == "1\n"
    until(lambda: lines(tq("status", "1", "--json"))[0]["state"] == "running")
    for _ in range(3):
        assert tq("add", "--", "true").returncode == 0
    assert tq("queue", "purge", "default", "--dry-run").stdout == "3\n"
    assert tq("queue", "purge", "default", "--wait").stderr == "3 tasks removed\n"
    assert tq("remove", "1").returncode == 75
    assert tq("retry", "1").returncode == 75
    assert tq("cancel", "--where", "type:shell", "--wait").stderr == "1 task cancelled\n"
    assert tq("wait", "1", "--timeout", "20s").returncode == 143
    assert [row["id"] for row in lines(tq("list", "state:cancelled age<1h", "--json"))] == [1]


def test_what_was_done_is_told_with_who_did_it(tq: Tq, daemon: Any) -> None:
    daemon()
    assert tq("queue", "set", "mail", "--slots", "2").returncode == 0
    assert tq("queue", "set", "mail", "--unset", "slots").returncode == 0
    newest, first = lines(tq("events", "--json"))[:2]
    assert (first["before"], first["after"]) == ({"slots": 0}, {"slots": 2})
    assert (newest["what"], newest["target"], newest["after"]) == ("set_queue", "mail", {"slots": 0})
    assert first["who"].startswith(f"user {os.getuid()} (pid ")
    assert tq("queue", "set", "mail", "--timeout", "90s", "--keep", "2d").returncode == 0
    told = tq("events").stdout
    assert "slots 0 -> 2" in told
    assert "timeout default -> 1m30s" in told
    assert "keep default -> 2d" in told


def test_the_live_stream_of_a_task_begins_before_it_runs_and_ends_with_it(tq: Tq, daemon: Any, data_dir: Path) -> None:
    daemon()
    assert tq("queue", "pause", "default").returncode == 0
    assert tq("add", "--correlation-id", "order-17", "--", "true").stdout == "1\n"
    argv = [sys.executable, "-m", "tq", "events", "-f", "1", "--json"]
    heard = threading.Event()

    def edit_until_heard() -> None:
        while not heard.is_set():
            tq("edit", "1", "--label", "seen")

    editing = threading.Thread(target=edit_until_heard)
    with subprocess.Popen(argv, env=unmeasured(TQ_DATA_DIR=str(data_dir)), stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        editing.start()
        try:
            assert '"edited"' in process.stdout.readline()
        finally:
            heard.set()
            editing.join(60)
        assert tq("queue", "resume", "default").returncode == 0
        said = [json.loads(line) for line in process.stdout]
        assert process.wait(20) == 0
    assert [one["event"] for one in said if one["event"] != "edited"] == ["started", "succeeded"]
    assert {one["correlation_id"] for one in said} == {"order-17"}
    steps = lines(tq("events", "1", "--json"))
    assert [one["event"] for one in steps] == ["added", "started", "succeeded"]


def test_a_name_that_another_task_has_is_refused_for_now_and_stores_nothing(tq: Tq, daemon: Any) -> None:
    daemon(workers=0)
    assert tq("add", "--in", "1h", "--unique", "nightly", "--", "true").stdout == "1\n"
    assert tq("add", "--in", "1h", "--key", "order-17", "--", "true").stdout == "2\n"
    for name, command in (("--unique=nightly", "false"), ("--key=order-17", "false")):
        for patience in ([], ["--wait-for-room", "30s"]):  # a name is no room: it is not waited for
            done = tq("add", name, *patience, "--", command)
            assert (done.returncode, done.stdout) == (75, "")
            assert "Nothing was stored" in done.stderr
            assert len(done.stderr.splitlines()) == 1, done.stderr
    batch = '{"in": "1h"}\n{"unique": "nightly", "in": "1h"}\n'
    done = tq("enqueue", "--batch", "-", "--type", "shell", input=batch)
    assert (done.returncode, done.stdout) == (75, "")
    assert "line 2" in done.stderr or "No task is stored" in done.stderr
    assert [row["id"] for row in lines(tq("list", "--json"))] == [2, 1]


def test_as_many_events_are_kept_as_the_settings_say(tq: Tq, daemon: Any) -> None:
    daemon(workers=0, env={"TQ_KEEP_EVENTS": "3"})
    for weight in range(2, 7):
        assert tq("queue", "set", "mail", "--weight", str(weight)).returncode == 0
    assert [one["after"]["weight"] for one in lines(tq("events", "--json"))] == [6, 5, 4]

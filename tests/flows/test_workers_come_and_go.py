"""Workers that follow the work, that are replaced, let go and looked at; and commands that stand still."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest

from tq.client import Client
from tq.errors import ConfigError, UsageError

pytestmark = pytest.mark.flow
Rows = Callable[..., list[dict[str, Any]]]
Until = Callable[..., Any]
TASKS = int(os.environ.get("TQ_SCALE_TASKS", "240"))
STEADY_S = float(os.environ.get("TQ_STEADY_S", "6"))
COOLDOWN_S = float(os.environ.get("TQ_COOLDOWN_S", "1"))


def size(client: Client) -> int:
    return sum(row["state"] != "draining" for row in client.workers())


def scaled(one: Any) -> list[tuple[int, int]]:
    """Each change of the pool's size: (before, after)."""
    return [(int(before), int(after)) for after, before in re.findall(r"pool_scaled workers=(\d+) before=(\d+)", one.words.read_text())]


def test_the_number_of_workers_follows_the_work_and_no_task_is_interrupted(
    daemon: Callable[..., Any], app: str, client: Client, ready: Callable[..., Any], rows: Rows, until: Until
) -> None:
    """The bar of the product is TQ_SCALE_TASKS=1000 TQ_COOLDOWN_S=10 TQ_STEADY_S=60."""
    one = daemon(env={"TQ_SCALE_COOLDOWN_S": str(COOLDOWN_S)}, app=app, min_workers=1, max_workers=4)
    assert size(client) == 1
    ids = client.enqueue_many([("nap", {"seconds": 0.05})] * TASKS)
    began = time.monotonic()
    assert len(ready(4)) == 4
    assert time.monotonic() - began < 2
    found = rows(ids, 60)
    ended = time.monotonic()
    until(lambda: size(client) == 1, COOLDOWN_S + 2, "one worker again")
    assert time.monotonic() - ended > COOLDOWN_S / 2
    assert {(row["state"], row["attempt"], row["interrupts"], row["crashes"]) for row in found} == {("succeeded", 1, 0, 0)}

    settled: int | None = None
    began, sent = time.monotonic(), 0
    while (past := time.monotonic() - began) < STEADY_S + 3 * COOLDOWN_S:  # 30 tasks a second of 50 ms: one and a half workers
        client.enqueue_many([("nap", {"seconds": 0.05})] * (int(past * 30) - sent))
        sent = int(past * 30)
        settled = len(scaled(one)) if settled is None and past > 3 * COOLDOWN_S else settled
        time.sleep(1 / 30)
    later = scaled(one)[settled:]
    print("changes of size under a steady load:", scaled(one), "once settled:", later)
    ups, downs = sum(after > before for before, after in later), sum(after < before for before, after in later)
    assert min(ups, downs) == 0, "it flaps"


def test_behind_a_long_task_a_new_worker_takes_what_waits(
    daemon: Callable[..., Any], app: str, client: Client, account: Any, gate: Path, rows: Rows
) -> None:
    """The type is known as quick, so the only worker has been handed many tasks when the first of them does not end."""
    daemon(app=app, min_workers=1, max_workers=2)
    args = {"path": str(account), "takes": 0.001}
    rows(client.enqueue_many([("hold", args)] * 100))
    held, *behind = client.enqueue_many([("hold", {**args, "gate": str(gate)}), *[("hold", args)] * 30])
    assert {(row["state"], row["attempt"]) for row in rows(behind, 5)} == {("succeeded", 1)}
    assert client.get(held)["state"] == "running"
    gate.touch()
    assert rows([held])[0]["attempt"] == 1


def test_a_long_task_never_delays_the_ones_behind_it_while_another_worker_idles(
    daemon: Callable[..., Any], app: str, client: Client, account: Any, gate: Path, ready: Callable[..., Any], rows: Rows, until: Until
) -> None:
    """Functions nobody has measured, functions thought to be quick, and commands: each kind behind one that does not end."""
    daemon(app=app, workers=2)
    ready(2)
    quick = {"path": str(account), "takes": 0.001}
    rows(client.enqueue_many([("hold", quick)] * 200))
    held = client.enqueue("hold", {**quick, "gate": str(gate)}).id
    until(lambda: account.runs(held), what="the long task's run")
    for kind, payload in [("hold", quick), ("anap", {"seconds": 0.001}), ("shell", {"argv": ["true"]})]:
        began = time.monotonic()
        found = rows(client.enqueue_many([(kind, payload)] * 20), 5)
        assert {row["state"] for row in found} == {"succeeded"}
        assert time.monotonic() - began < 3, kind
    assert client.get(held)["state"] == "running"
    gate.touch()
    rows([held])


def test_workers_are_shown_with_what_they_do_and_take(
    daemon: Callable[..., Any], app: str, client: Client, account: Any, gate: Path, ready: Callable[..., Any], until: Until
) -> None:
    daemon(app=app, workers=2)
    ready(2)
    held = client.enqueue("hold", {"path": str(account), "gate": str(gate)}).id
    until(lambda: account.runs(held), what="the task's run")
    before = time.time() * 1000
    rows = {tuple(row["tasks"]): row for row in client.workers()}
    busy, idle = rows[held,], rows[()]
    assert (busy["state"], idle["state"]) == ("busy", "idle")
    for row in rows.values():
        assert row["hostname"]
        assert row["rss"] > 1 << 20
        assert 0 <= row["cpu"] <= 200
        assert row["started_at"] < before
        assert row["last_heartbeat"] >= before - 50  # it was asked just now
    gate.touch()
    until(lambda: sum(row["done"] for row in client.workers()) == 1, what="the task's end")


def test_an_operator_scales_drains_and_restarts(
    daemon: Callable[..., Any], app: str, client: Client, account: Any, gate: Path, ready: Callable[..., Any], rows: Rows, tq: Any,
    until: Until,
) -> None:  # fmt: skip
    daemon(app=app, workers=1)
    held = client.enqueue("hold", {"path": str(account), "gate": str(gate)}).id
    until(lambda: account.runs(held), what="the task's run")
    assert tq("worker", "scale", "3").stderr == "workers: 3\n"
    old = ready(3)
    assert tq("worker", "restart").returncode == 0
    gate.touch()
    until(lambda: len(now := ready(3)) == 3 and not set(now.values()) & set(old.values()), 30, "three others")
    assert rows([held])[0]["attempt"] == 1  # nothing was interrupted
    name = min(ready(3))
    assert tq("worker", "drain", name).returncode == 0
    until(lambda: size(client) == 2, 10, "one less")
    assert tq("worker", "scale", "--min", "1", "--max", "2").stderr == "workers: 1 to 2, as the work needs\n"
    assert "min_workers 1" in " ".join(tq("daemon", "status").stdout.split()).replace("min workers", "min_workers")
    assert tq("worker", "scale").returncode == UsageError.exit_code
    assert tq("worker", "scale", "2", "--min", "1").returncode == UsageError.exit_code
    assert tq("worker", "drain", "w99").returncode == UsageError.exit_code
    listed = tq("worker", "list").stdout
    assert all(word in listed.splitlines()[0] for word in ("host", "heartbeat", "cpu", "memory", "tasks"))
    for bad in ({}, {"min": 3, "max": 2}, {"min": -1}, {"max": 5000}, {"min": "1"}):
        with pytest.raises(UsageError):
            client.call("scale_workers", bad)


def test_a_command_is_suspended_and_goes_on(
    daemon: Callable[..., Any], app: str, client: Client, tq: Any, tmp_path: Path, rows: Rows, until: Until
) -> None:
    daemon(app=app, workers=1)
    go = tmp_path / "go"
    task = client.enqueue("shell", {"argv": ["sh", "-c", f"echo $$; until [ -e {go} ]; do :; done"]}, timeout=60)
    pid = int(until(task.log, what="the command"))
    assert tq("suspend", str(task.id)).returncode == 0
    until(lambda: psutil.Process(pid).status() == psutil.STATUS_STOPPED, what="its standstill")
    assert client.get(task.id).get("suspended") is True
    go.touch()
    time.sleep(0.2)
    assert client.get(task.id)["state"] == "running"
    assert tq("resume", str(task.id)).returncode == 0
    assert rows([task.id])[0]["state"] == "succeeded"
    assert client.call("suspend", {"ids": [task.id, 999]})["outcomes"] == ["over", "unknown"]
    later = client.enqueue("shell", {"argv": ["true"]}, delay=60).id
    assert client.call("suspend", {"ids": [later]})["outcomes"] == ["not_running"]
    assert client.call("resume", {"ids": [later]})["outcomes"] == ["not_suspended"]
    assert tq("suspend", "999").returncode == 66
    function = client.enqueue("noop", None, delay=60).id
    assert client.suspend([function, later]) == ["function", "not_running"]
    assert tq("suspend", str(function)).returncode == 2


def test_all_commands_that_a_filter_means_are_suspended_and_go_on_and_functions_are_left(
    daemon: Callable[..., Any], app: str, client: Client, tq: Any, tmp_path: Path, rows: Rows, until: Until
) -> None:
    daemon(app=app, workers=3)
    go = tmp_path / "go"
    argv = ["sh", "-c", f"echo $$; until [ -e {go} ]; do :; done"]
    ids = [client.enqueue("shell", {"argv": argv}, timeout=60, queue="builds").id for _ in range(2)]
    function = client.enqueue("nap", {"seconds": 30}, queue="builds").id
    pids = [int(until(lambda one=one: client.log(one), what="the command")) for one in ids]
    until(lambda: client.get(function)["state"] == "running", what="the function")
    assert tq("suspend", "--where", "queue:builds", "--dry-run").stdout == "2\n"
    assert tq("resume", "--where", "queue:builds", "--dry-run").stdout == "0\n"
    done = tq("suspend", "--where", "queue:builds", "--wait")
    assert done.returncode == 0
    assert done.stderr.splitlines()[-2:] == ["2 tasks suspended", "1 task left as it is: only commands stand still, not functions"]
    until(lambda: {psutil.Process(pid).status() for pid in pids} == {psutil.STATUS_STOPPED}, what="their standstill")
    assert tq("resume", "--where", "queue:builds", "--dry-run").stdout == "2\n"
    go.touch()
    chore = client.start_chore("resume", {"queue": "builds"})
    assert client.wait_chore(chore, timeout=10) == {"seen": 3, "changed": 2, "left": {"function": 1}}
    assert [row["state"] for row in rows(ids)] == ["succeeded", "succeeded"]
    client.cancel([function])


def test_a_changed_application_is_taken_over_and_a_broken_one_is_not(
    daemon: Callable[..., Any], client: Client, tmp_path: Path, rows: Rows, until: Until
) -> None:
    file = tmp_path / "edited.py"

    def write(body: str) -> None:
        file.write_text(f"import tq\n\n\n@tq.task\ndef answer() -> int:\n    {body}\n")

    def answer() -> Any:
        return rows([client.enqueue("answer").id])[0]["result"]

    write("return 1")
    one = daemon(app=str(file), workers=1, reload=True)
    old = client.workers()[0]["pid"]
    assert answer() == 1
    write("return (")
    until(lambda: "reload_refused" in one.words.read_text(), 15, "the refusal")
    assert [row["pid"] for row in client.workers()] == [old]
    assert answer() == 1
    with pytest.raises(ConfigError, match="SyntaxError"):
        client.call("restart_workers", {}, 30)
    write("return 2")
    until(lambda: [row["pid"] for row in client.workers() if row["state"] == "idle"] not in ([], [old]), 15, "another worker")
    until(lambda: answer() == 2, 10, "the new answer")

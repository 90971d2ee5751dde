"""A worker that does not move (SIGSTOP, a long task) keeps only what it has begun."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tq.client import Client

pytestmark = pytest.mark.flow
AT_ONCE_S = 2.0
"""The pool looks after 30 ms; the rest is for the machine that runs the tests."""

Stop = Callable[[int], None]


@pytest.fixture
def stop() -> Iterator[Stop]:
    """Stop a process; it goes on at the end of the test."""
    stopped: list[int] = []

    def pause(pid: int) -> None:
        os.kill(pid, signal.SIGSTOP)
        stopped.append(pid)

    yield pause
    for pid in stopped:
        try:
            os.kill(pid, signal.SIGCONT)
        except ProcessLookupError:
            continue


@pytest.fixture
def fed(daemon: Callable[..., Any], app: str, client: Client, account: Any, ready: Callable[..., Any], rows: Callable[..., Any]) -> Any:
    """A daemon with two workers to which ``hold`` is known to take about a millisecond: each is fed some twenty at once."""
    one = daemon(app=app, workers=2)
    ready(2)
    rows(client.enqueue_many([("hold", {"path": str(account), "takes": 0.001})] * 200))
    return one


def test_unstarted_tasks_of_a_worker_stopped_in_a_task_run_elsewhere_at_once(
    fed: Any, client: Client, account: Any, gate: Path, stop: Stop, rows: Callable[..., Any], until: Callable[..., Any]
) -> None:
    args = {"path": str(account), "takes": 0.001}
    held, *behind = client.enqueue_many([("hold", {**args, "gate": str(gate)}), *[("hold", args)] * 60])
    ((_, pid),) = until(lambda: account.runs(held), what="the held task's run")
    stop(pid)
    found = rows(behind, AT_ONCE_S)
    assert {(row["state"], row["attempt"], row["crashes"]) for row in found} == {("succeeded", 1, 0)}
    assert client.get(held)["state"] == "running"
    os.kill(pid, signal.SIGCONT)
    gate.touch()
    (row,) = rows([held])
    assert (row["state"], row["attempt"]) == ("succeeded", 1)
    assert all(len(account.runs(task_id)) == 1 for task_id in (held, *behind))  # taken back means: never run by both


def test_an_idle_worker_that_is_stopped_holds_up_nothing(
    fed: Any, client: Client, account: Any, stop: Stop, ready: Callable[..., Any], rows: Callable[..., Any]
) -> None:
    stopped = min(ready(2).values())
    stop(stopped)
    began = time.monotonic()
    ids = client.enqueue_many([("hold", {"path": str(account), "takes": 0.001})] * 60)
    found = rows(ids, AT_ONCE_S)
    assert time.monotonic() - began < AT_ONCE_S
    assert {(row["state"], row["attempt"]) for row in found} == {("succeeded", 1)}
    assert all(pid != stopped for task_id in ids for _, pid in account.runs(task_id))


def test_a_single_task_offered_to_a_stopped_worker_runs_elsewhere_at_once(
    fed: Any, client: Client, account: Any, stop: Stop, ready: Callable[..., Any], rows: Callable[..., Any]
) -> None:
    """One task, one command, one more of an unknown kind: each is all that the stopped worker was offered."""
    stop(min(ready(2).values()))
    for kind, payload in [("note", {"path": str(account)}), ("shell", {"argv": ["true"]}), ("noop", None)] * 2:
        (row,) = rows([client.enqueue(kind, payload).id], AT_ONCE_S)
        assert (row["state"], row["attempt"]) == ("succeeded", 1)


def test_a_stopped_worker_that_is_killed_is_charged_for_what_it_had_begun_alone(
    fed: Any, client: Client, account: Any, gate: Path, stop: Stop, rows: Callable[..., Any], until: Callable[..., Any]
) -> None:
    args = {"path": str(account), "takes": 0.001}
    held, *behind = client.enqueue_many([("hold", {**args, "gate": str(gate)}), *[("hold", args)] * 30])
    ((_, pid),) = until(lambda: account.runs(held), what="the held task's run")
    stop(pid)
    os.kill(pid, signal.SIGKILL)
    gate.touch()
    first, *others = rows([held, *behind])
    assert (first["state"], first["attempt"], first["crashes"]) == ("succeeded", 2, 1)
    assert {(row["state"], row["attempt"], row["crashes"]) for row in others} == {("succeeded", 1, 0)}


def test_a_long_task_does_not_hoard_what_stands_behind_it(
    fed: Any, client: Client, account: Any, gate: Path, rows: Callable[..., Any], until: Callable[..., Any]
) -> None:
    """The same without a signal: the worker is busy for longer than anybody expected."""
    args = {"path": str(account), "takes": 0.001}
    held, *behind = client.enqueue_many([("hold", {**args, "gate": str(gate)}), *[("hold", args)] * 60])
    until(lambda: account.runs(held), what="the held task's run")
    assert {row["attempt"] for row in rows(behind, AT_ONCE_S)} == {1}
    assert client.get(held)["state"] == "running"
    gate.touch()
    assert rows([held])[0]["attempt"] == 1


def test_what_stands_behind_a_long_command_expires_in_time_and_lets_an_urgent_one_go_first(
    daemon: Callable[..., Any], client: Client, gate: Path, rows: Callable[..., Any], until: Callable[..., Any]
) -> None:
    daemon(workers=1)
    rows(client.enqueue_many([("shell", {"argv": ["true"]})] * 100))  # commands are known as quick
    wait = ["sh", "-c", f"while [ ! -e {gate} ]; do sleep 0.01; done"]
    held, short, *backlog = client.enqueue_many(
        [("shell", {"argv": wait}), ("shell", {"argv": ["true"]}, {"ttl": 0.3}), *[("shell", {"argv": ["true"]})] * 5]
    )
    until(lambda: client.get(held)["state"] == "running", what="the long command")
    assert rows([short])[0]["state"] == "expired"
    urgent = client.enqueue("shell", {"argv": ["true"]}, priority="critical").id
    gate.touch()
    first, *others = rows([urgent, *backlog])
    assert first["started_at"] <= min(row["started_at"] for row in others)


def test_a_worker_that_does_not_answer_at_all_is_replaced_and_its_task_is_not_charged(
    daemon: Callable[..., Any], app: str, client: Client, account: Any, ready: Callable[..., Any], stop: Stop, rows: Callable[..., Any]
) -> None:
    daemon(app=app, workers=1)
    ready(1)
    (worker,) = client.workers()
    stop(worker["pid"])
    handed = client.enqueue("hold", {"path": str(account), "takes": 0.001}).id
    (found,) = rows([handed], 20.0)
    assert (found["state"], found["attempt"], found["crashes"], found["interrupts"]) == ("succeeded", 1, 0, 0)
    assert client.workers()[0]["pid"] != worker["pid"]

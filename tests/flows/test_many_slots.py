"""More than one task at a time in a worker: threads and coroutines, their deaths and their ends."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tq.client import Client

pytestmark = [pytest.mark.flow, pytest.mark.timeout(120)]
MANY = 1000

Rows = Callable[..., list[dict[str, Any]]]
Until = Callable[..., Any]


@pytest.mark.parametrize("kind", ["ameets", "meets"])
def test_a_thousand_tasks_wait_beside_each_other_in_four_workers(
    daemon: Callable[..., Any], app: str, client: Client, rows: Rows, until: Until, data_dir: Path, kind: str
) -> None:
    daemon(app=app, workers=4, slots=256)
    gate = data_dir / "gate"
    ids = client.enqueue_many([(kind, {"gate": str(gate)})] * MANY)
    until(lambda: client.stats()["running"] == MANY, 30, "all run at once")
    gate.touch()
    found = rows(ids)
    assert {(row["state"], row["attempt"]) for row in found} == {("succeeded", 1)}
    assert len({row["worker"] for row in found}) == 4


@pytest.mark.parametrize("slots", [2, 8])
def test_slots_run_at_the_same_time_and_never_more_than_there_are(
    daemon: Callable[..., Any], app: str, client: Client, account: Any, rows: Rows, slots: int
) -> None:
    daemon(app=app, workers=1, slots=slots)
    rows(client.enqueue_many([("span", {"path": str(account), "sleep": 0.1})] * 4 * slots))
    now = most = 0
    for word, _ in account.lines():
        now += 1 if word == "begin" else -1
        most = max(most, now)
    assert now == 0
    assert most == slots


def test_a_killed_worker_is_blamed_for_every_task_it_had_begun_and_for_no_other(
    daemon: Callable[..., Any], app: str, client: Client, account: Any, gate: Path, rows: Rows, until: Until
) -> None:
    daemon(app=app, workers=1, slots=4)
    held = client.enqueue_many([("hold", {"path": str(account), "gate": str(gate)})] * 4)
    behind = client.enqueue_many([("noop", None)] * 8)
    until(lambda: len(account.lines()) == 4, what="four tasks under way")
    os.kill(int(account.lines()[0][2]), signal.SIGKILL)
    gate.touch()
    found = rows([*held, *behind])
    assert {(row["state"], row["attempt"], row["crashes"]) for row in found[:4]} == {("succeeded", 2, 1)}
    assert {(row["state"], row["attempt"], row["crashes"]) for row in found[4:]} == {("succeeded", 1, 0)}


def test_a_drain_waits_for_all_slots(
    daemon: Callable[..., Any], app: str, client: Client, account: Any, gate: Path, rows: Rows, until: Until
) -> None:
    one = daemon(app=app, workers=1, slots=8)
    held = client.enqueue_many([("hold", {"path": str(account), "gate": str(gate)})] * 4)
    naps = client.enqueue_many([("anap", {"seconds": 0.3})] * 4)
    until(lambda: len(account.lines()) == 4, what="four tasks under way")
    until(lambda: all(row and row["state"] == "running" for row in client.get_many(naps)), what="four coroutines handed out")
    one.process.terminate()
    until(lambda: client.status()["draining"], what="the drain")
    gate.touch()
    assert one.process.wait(20) == 0
    one.start()
    assert {(row or {})["state"] for row in client.get_many(held)} == {"succeeded"}
    assert {(row["state"], row["attempt"], row["interrupts"]) for row in rows([*held, *naps])} == {("succeeded", 1, 0)}


def test_a_cancelled_coroutine_ends_at_once_and_its_neighbours_go_on(
    daemon: Callable[..., Any], app: str, client: Client, rows: Rows, until: Until
) -> None:
    daemon(app=app, workers=1, slots=4)
    long, short = client.enqueue_many([("anap", {"seconds": 1000.0}), ("anap", {"seconds": 0.5})])
    until(lambda: client.get(long)["state"] == "running", what="the long nap")
    began = time.monotonic()
    assert list(client.cancel([long])) == ["asked"]
    first, second = rows([long, short])
    assert time.monotonic() - began < 5
    assert (first["state"], second["state"]) == ("cancelled", "succeeded")
    assert second["attempt"] == 1


def test_a_timeout_ends_one_task_and_its_neighbours_are_not_charged(
    daemon: Callable[..., Any], app: str, client: Client, rows: Rows
) -> None:
    daemon(app=app, workers=1, slots=4)
    ids = client.enqueue_many([("anap", {"seconds": 1000.0}, {"timeout": 0.3, "retries": 0}), *[("anap", {"seconds": 0.6})] * 3])
    first, *others = rows(ids)
    assert (first["state"], first["error"]["type"], first["failures"]) == ("failed", "TimedOut", 1)
    assert {(row["state"], row["failures"], row["crashes"]) for row in others} == {("succeeded", 0, 0)}


def test_commands_share_the_slots(daemon: Callable[..., Any], client: Client, rows: Rows) -> None:
    daemon(workers=1, slots=8)
    began = time.monotonic()
    found = rows(client.enqueue_many([("shell", {"argv": ["sh", "-c", "sleep 0.5; echo done"]})] * 8))
    assert time.monotonic() - began < 3
    assert {(row["state"], row["exit_code"]) for row in found} == {("succeeded", 0)}
    assert {client.log(row["id"]) for row in found} == {"done\n"}

"""Many tasks in one call, in real workers: how many calls there are, what is retried, what a death costs, when they begin."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tq.client import Client

pytestmark = [pytest.mark.flow, pytest.mark.timeout(120)]
APP = str(Path(__file__).with_name("tasks_in_batches.py"))

Rows = Callable[..., list[dict[str, Any]]]
Until = Callable[..., Any]
Calls = Callable[[], list[list[int]]]


@pytest.fixture
def calls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Calls:
    """The tasks of each call that there was."""
    path = tmp_path / "calls"
    monkeypatch.setenv("TQ_CALLS", str(path))

    def read() -> list[list[int]]:
        lines = path.read_text().splitlines() if path.exists() else []
        return [[int(word) for word in line.split()[2].split(",")] for line in lines]

    read.path = path  # type: ignore[attr-defined]
    return read


def test_a_thousand_tasks_make_ten_calls_or_some_more_and_only_what_failed_runs_again(
    daemon: Callable[..., Any], client: Client, calls: Calls, rows: Rows
) -> None:
    daemon(app=APP, workers=2)
    ids = client.enqueue_many([("index", {"fail": "x"} if n % 100 == 7 else {}) for n in range(1000)])
    failing = set(ids[7::100])
    found = rows(ids)
    assert {row["id"] for row in found if row["attempt"] == 2} == failing
    assert {(row["state"], row["result"] == row["id"], row["failures"]) for row in found if row["id"] not in failing} == {
        ("succeeded", True, 0)
    }
    assert {(row["state"], row["failures"]) for row in found if row["id"] in failing} == {("succeeded", 1)}
    ran = calls()
    assert sorted(task for call in ran for task in call) == sorted([*ids, *failing])
    assert len([call for call in ran if not failing.issuperset(call)]) <= 20


def test_what_a_crash_takes_along_is_charged_to_the_whole_call_and_runs_again(
    daemon: Callable[..., Any], client: Client, calls: Calls, rows: Rows
) -> None:
    daemon(app=APP, workers=2)
    ids = client.enqueue_many([("index", {"kill": "x"} if n == 3 else {}) for n in range(5)])
    found = rows(ids)
    assert {(row["state"], row["attempt"], row["crashes"], row["failures"]) for row in found} == {("succeeded", 2, 1, 0)}
    first, *others = calls()
    assert sorted(first) == sorted(ids)
    assert sorted(others) == [[task] for task in sorted(ids)]  # who crashed before runs alone


def test_a_call_waits_for_others_as_long_as_it_says_and_no_longer(
    daemon: Callable[..., Any], client: Client, calls: Calls, rows: Rows
) -> None:
    daemon(app=APP, workers=2)
    ids = client.enqueue_many([("gather", {})] * 3)
    assert {client.get(task)["state"] for task in ids} == {"pending"}
    ids += client.enqueue_many([("gather", {})] * 2)
    found = rows(ids)
    assert calls() == [sorted(ids)]
    waited = [row["started_at"] - found[0]["created_at"] for row in found]
    assert min(waited) >= 400
    assert max(waited) < 5000
    many = client.enqueue_many([("gather", {})] * 50)
    assert max(row["started_at"] - row["created_at"] for row in rows(many)) < 400  # enough of them wait for nobody


def test_one_of_a_call_is_cancelled_alone_and_a_kill_loses_none(
    daemon: Callable[..., Any], client: Client, calls: Calls, rows: Rows, until: Until, gate: Path
) -> None:
    daemon(app=APP, workers=1)
    ids = client.enqueue_many([("stays", {"gate": str(gate)})] * 4)
    until(lambda: client.get(ids[3])["state"] == "succeeded", what="one that was settled while its call goes on")
    client.cancel([ids[1]])
    gate.touch()
    assert [row["state"] for row in rows(ids)] == ["succeeded", "cancelled", "succeeded", "succeeded"]
    gate.unlink()
    ids = client.enqueue_many([("stays", {"gate": str(gate)})] * 4)
    until(lambda: client.get(ids[3])["state"] == "succeeded", what="the next call")
    os.kill(int(calls.path.read_text().split()[-2]), signal.SIGKILL)  # type: ignore[attr-defined]
    gate.touch()
    found = rows(ids)
    assert [(row["state"], row["attempt"], row["crashes"]) for row in found] == [("succeeded", 2, 1)] * 3 + [("succeeded", 1, 0)]


@pytest.mark.parametrize("slots", [1, 3])
def test_the_time_of_a_call_is_that_of_all_its_tasks(
    daemon: Callable[..., Any], client: Client, calls: Calls, rows: Rows, slots: int
) -> None:
    daemon(app=APP, workers=1, slots=slots)
    ids = client.enqueue_many([("late", {})] * 3)
    found = rows(ids)
    assert [row["state"] for row in found] == ["failed", "failed", "succeeded"]
    assert {row["error"]["type"] for row in found[:2]} == {"TimedOut"}


def test_calls_of_coroutines_run_beside_each_other_and_their_output_is_kept(
    daemon: Callable[..., Any], client: Client, calls: Calls, rows: Rows
) -> None:
    daemon(app=APP, workers=1, slots=8)
    ids = client.enqueue_many([("aindex", {})] * 60)
    assert {row["state"] for row in rows(ids)} == {"succeeded"}
    assert sorted(map(len, calls())) == [10] * 6
    assert client.log(ids[0]) == "a call of 10\n"

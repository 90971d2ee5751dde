"""Kill -9 of workers: noticed at once, blamed exactly, and nobody else pays for it.

``TQ_KILL_TASKS`` is the size of the long run (default 10,000; ``TQ_KILL_TASKS=100000`` is the bar of the product).
"""

from __future__ import annotations

import os
import random
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tq.client import Client

pytestmark = [pytest.mark.flow, pytest.mark.timeout(300)]
KILLS = 50
TASKS = int(os.environ.get("TQ_KILL_TASKS", "10000"))

Rows = Callable[..., list[dict[str, Any]]]
Until = Callable[..., Any]


@pytest.mark.slow
def test_fifty_times_the_task_runs_again_and_those_behind_it_are_not_charged(
    daemon: Callable[..., Any], app: str, client: Client, account: Any, tmp_path: Path, rows: Rows, until: Until
) -> None:
    daemon(app=app, workers=2)
    quick = {"path": str(account)}
    rows(client.enqueue_many([("hold", quick)] * 300))  # the type is known as quick: a worker is fed many at once
    for number in range(KILLS):
        gate = tmp_path / f"gate-{number}"
        batch = [("hold", {**quick, "gate": str(gate)}), *[("hold", quick)] * 40]
        victim, *behind = client.enqueue_many(batch)
        ((_, pid),) = until(lambda task=victim: account.runs(task), what="the task's first run")
        os.kill(pid, signal.SIGKILL)
        gate.touch()
        row, *others = rows([victim, *behind])
        assert (row["state"], row["attempt"], row["crashes"], row["failures"]) == ("succeeded", 2, 1, 0), number
        (first, _), (second, other) = account.runs(victim)
        assert (first, second) == (1, 2)
        assert other != pid
        assert row["attempts"][0][3] == "crashed"
        assert {(one["state"], one["attempt"], one["crashes"], one["interrupts"]) for one in others} == {("succeeded", 1, 0, 0)}, number
    seen = [words[0] for words in account.lines()]
    assert len(seen) == 300 + KILLS * 42  # every other task ran once, in fact


def test_a_death_is_noticed_at_once(
    daemon: Callable[..., Any], app: str, client: Client, account: Any, gate: Path, ready: Callable[..., Any], until: Until
) -> None:
    daemon(app=app, workers=2)
    ready(2)
    task = client.enqueue("hold", {"path": str(account), "gate": str(gate)}).id
    ((_, pid),) = until(lambda: account.runs(task), what="the first run")
    began = time.monotonic()
    os.kill(pid, signal.SIGKILL)
    until(lambda: len(account.runs(task)) == 2, within_s=2, what="the second run, on the other worker")
    assert time.monotonic() - began < 1
    gate.touch()
    assert len(ready(2)) == 2  # and the pool is of its size again


def test_a_task_that_kills_its_worker_three_times_is_poison_and_the_others_never_notice(
    daemon: Callable[..., Any], app: str, client: Client, account: Any, rows: Rows
) -> None:
    daemon(app=app, workers=2)
    batch = [("noop", None)] * 100 + [("kills_its_worker", {"path": str(account)}, {"retries": 10})] + [("noop", None)] * 100
    found = rows(client.enqueue_many(batch))
    poison = found.pop(100)
    assert (poison["state"], poison["crashes"], poison["attempt"], poison["failures"]) == ("failed", 3, 3, 0)
    assert poison["error"]["type"] == "WorkerDied"
    assert "SIGKILL" in poison["error"]["message"]
    assert [attempt for attempt, _ in account.runs(poison["id"])] == [1, 2, 3]
    assert {(row["state"], row["attempt"], row["crashes"]) for row in found} == {("succeeded", 1, 0)}


def test_a_task_that_kills_its_worker_twice_may_still_succeed(
    daemon: Callable[..., Any], app: str, client: Client, account: Any, rows: Rows
) -> None:
    daemon(app=app, workers=1)
    (row,) = rows([client.enqueue("kills_its_worker", {"path": str(account), "times": 2}).id])
    assert (row["state"], row["crashes"], row["attempt"], row["result"]) == ("succeeded", 2, 3, "survived")


def test_a_task_of_once_is_not_run_again_when_its_worker_dies(
    daemon: Callable[..., Any], app: str, client: Client, account: Any, rows: Rows
) -> None:
    daemon(app=app, workers=1)
    (row,) = rows([client.enqueue("kills_its_worker", {"path": str(account), "times": 1}, once=True).id])
    assert (row["state"], row["crashes"], row["attempt"]) == ("failed", 1, 1)
    assert len(account.runs(row["id"])) == 1


def test_the_command_of_a_killed_worker_is_ended_before_it_runs_again(
    daemon: Callable[..., Any], client: Client, instance: Any, gate: Path, rows: Rows, until: Until
) -> None:
    """The command ignores TERM and has a child; both are gone when the second run says that it began."""
    one = daemon(workers=1)
    script = f'trap "" TERM; echo "up $$"; sleep 1000 & while [ ! -e {gate} ]; do sleep 0.01; done; kill -9 $!'
    task = client.enqueue("shell", {"argv": ["sh", "-c", script]})
    until(lambda: "up" in task.log(), what="the command")
    (worker,) = client.workers()
    old = {pid: ticks for pid, ticks in instance.alive().items() if pid not in (one.pid, worker["pid"])}
    assert len(old) >= 2
    os.kill(worker["pid"], signal.SIGKILL)
    until(lambda: task.log().count("up") == 2, what="the second run")
    assert instance.gone(old, 0.0), "the first run's processes live beside the second's"
    gate.touch()
    (row,) = rows([task.id])
    assert (row["state"], row["attempt"], row["crashes"]) == ("succeeded", 2, 1)


@pytest.mark.slow
def test_a_worker_killed_every_second_costs_no_task(
    daemon: Callable[..., Any], app: str, client: Client, instance: Any, rows: Rows
) -> None:
    one = daemon(app=app, workers=2)
    seed = random.randrange(1 << 32)
    print(f"seed {seed}, {TASKS} tasks")
    rng = random.Random(seed)
    ids = client.enqueue_many([("nap", {"seconds": 0.0005})] * TASKS)
    kills, next_kill = 0, time.monotonic() + 0.5
    while client.stats()["states"]["pending"]:
        time.sleep(max(next_kill - time.monotonic(), 0))
        next_kill += 1.0
        workers = client.workers()
        if workers:
            os.kill(rng.choice(workers)["pid"], signal.SIGKILL)
            kills += 1
    found = rows(ids, 60)
    crashes = sum(row["crashes"] for row in found)
    assert kills >= 3
    assert crashes <= kills  # one slot: a death is the fault of one task at the most
    assert all(row["state"] == "succeeded" or (row["state"], row["crashes"]) == ("failed", 3) for row in found)
    assert sum(row["state"] == "succeeded" for row in found) >= 0.999 * TASKS
    assert all(row["attempt"] == row["crashes"] + (row["state"] == "succeeded") for row in found)
    assert one.stop() == 0
    assert instance.problems() == []

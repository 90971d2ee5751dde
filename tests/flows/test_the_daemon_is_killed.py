"""Kill -9 of the daemon: what ran runs again, what had not begun is not charged, nothing survives it (at random: tests/campaign)."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tq.client import Client
from tq.client.link import Link

pytestmark = [pytest.mark.flow, pytest.mark.slow, pytest.mark.timeout(600)]
GONE_WITHIN_S = 2.0


def test_workers_and_commands_die_with_the_daemon(
    daemon: Callable[..., Any], app: str, instance: Any, client: Client, account: Any, gate: Path, until: Callable[..., Any]
) -> None:
    one = daemon(app=app, workers=3)
    client.enqueue("hold", {"path": str(account), "gate": str(gate)})  # one worker is inside a handler,
    command = client.enqueue("shell", {"argv": ["sh", "-c", "trap '' TERM; echo up; sleep 1000 & wait; wait"]})
    until(lambda: account.lines() and command.log(), what="a handler and a command under way")  # one runs a command, one is idle
    living = instance.alive()
    assert len(living) >= 1 + 3 + 2
    one.kill()
    assert instance.gone(living, GONE_WITHIN_S), living


def test_a_stopped_worker_and_its_command_are_ended_before_the_next_daemon_runs_their_task(
    daemon: Callable[..., Any], client: Client, instance: Any, gate: Path, rows: Callable[..., Any], until: Callable[..., Any]
) -> None:
    """The kernel lets a stopped worker go on when its daemon dies, and so it ends its command and itself."""
    one = daemon(workers=1)
    task = client.enqueue("shell", {"argv": ["sh", "-c", f"echo up; while [ ! -e {gate} ]; do sleep 0.01; done"]})
    until(task.log, what="the command")
    os.kill(client.workers()[0]["pid"], signal.SIGSTOP)
    one.kill()
    orphans = instance.alive()
    assert instance.gone(orphans, 5.0), orphans
    one.start()
    until(lambda: task.log().count("up") == 2, what="the second run")
    gate.touch()
    (row,) = rows([task.id])
    assert (row["state"], row["attempt"], row["interrupts"]) == ("succeeded", 2, 1)


def test_what_ran_when_the_daemon_died_runs_again_and_what_had_not_begun_is_not_charged(
    daemon: Callable[..., Any], app: str, client: Client, account: Any, gate: Path, rows: Callable[..., Any], until: Callable[..., Any]
) -> None:
    one = daemon(app=app, workers=1)
    quick = {"path": str(account)}
    rows(client.enqueue_many([("hold", quick)] * 300))  # the type is known as quick: a worker is fed many at once
    held, *behind = client.enqueue_many([("hold", {**quick, "gate": str(gate)}), *[("hold", quick)] * 40])
    until(lambda: account.runs(held), what="the held task's first run")
    one.kill()
    gate.touch()
    one.start()
    first, *others = rows([held, *behind])
    assert (first["state"], first["attempt"], first["interrupts"], first["crashes"]) == ("succeeded", 2, 1, 0)
    assert [attempt for attempt, _ in account.runs(held)] == [1, 2]
    assert {(row["state"], row["attempt"], row["interrupts"]) for row in others} == {("succeeded", 1, 0)}
    assert any(row["claim"] == 2 for row in others)  # some had been handed out


def test_once_means_a_task_that_was_cut_short_fails_and_does_not_run_again(
    daemon: Callable[..., Any], app: str, client: Client, account: Any, gate: Path, rows: Callable[..., Any], until: Callable[..., Any]
) -> None:
    one = daemon(app=app, workers=1)
    held = client.enqueue("hold", {"path": str(account), "gate": str(gate)}, once=True).id
    until(account.lines, what="its run")
    one.kill()
    gate.touch()
    one.start()
    (row,) = rows([held])
    assert (row["state"], row["attempt"], row["error"]["type"]) == ("failed", 1, "Interrupted")
    assert len(account.runs(held)) == 1


def test_a_request_whose_answer_died_with_the_daemon_gives_the_same_ids_when_repeated(
    daemon: Callable[..., Any], app: str, client: Client, until: Callable[..., Any]
) -> None:
    one = daemon(app=app, workers=1)
    link = Link(client.path, 10.0)
    link.open()
    number = link.send("enqueue", {"tasks": [["noop", b"", {"delay_ms": 60_000}]] * 3, "again": False})
    until(lambda: client.status()["last_id"] == 3, what="the tasks on disk")  # and nobody has read the answer
    one.kill()
    one.start()
    link.open()  # repeats what is unanswered
    assert link.answer(number, 10.0)["ids"] == [1, 2, 3]
    link.close()
    assert client.status()["last_id"] == 3

"""Kill -9 of the daemon at random moments, under load: nothing that was accepted is lost, nothing survives it.

``TQ_KILL_ROUNDS`` is the number of kills (default 40; ``TQ_KILL_ROUNDS=200`` for the long run), ``TQ_KILL_SEED`` repeats one.
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tq.client import Client
from tq.client.link import Link
from tq.errors import DaemonError, Refused, TqError

pytestmark = [pytest.mark.flow, pytest.mark.slow, pytest.mark.timeout(600)]
ROUNDS = int(os.environ.get("TQ_KILL_ROUNDS", "40"))
SEED = int(os.environ.get("TQ_KILL_SEED", "0")) or random.randrange(1, 1 << 32)
GONE_WITHIN_S = 2.0
LIVES_S = 0.25
BOOTS_S = 0.6
DRAINS_S = 0.05
A_ROUND = 300
"""Tasks that clients send in a round at the most: all are still kept at the end, whatever ``TQ_KILL_ROUNDS``."""


class Clients:
    """Three clients that send as fast as they can until the daemon is gone; ``accepted`` is what they were told."""

    def __init__(self, data_dir: Path, account: str) -> None:
        self.data_dir = data_dir
        self.account = account
        self.accepted: set[int] = set()
        self.notes: set[int] = set()
        self._lock = threading.Lock()

    def start(self, rng: random.Random) -> list[threading.Thread]:
        works = [self._one_by_one, self._in_batches, self._commands]
        threads = [threading.Thread(target=self._send, args=(work, random.Random(rng.random()))) for work in works]
        for thread in threads:
            thread.start()
        return threads

    def _send(self, work: Callable[[Client, random.Random], None], rng: random.Random) -> None:
        with Client(self.data_dir) as q:
            try:
                work(q, rng)
            except (DaemonError, Refused) as error:  # it is dead, or it drains
                self._told(error)

    def _told(self, answer: TqError | list[int], notes: bool = False) -> None:
        ids = answer.details.get("ids", []) if isinstance(answer, TqError) else answer
        assert isinstance(ids, list)
        with self._lock:
            self.accepted.update(ids)
            if notes:
                self.notes.update(ids)

    def _one_by_one(self, q: Client, rng: random.Random) -> None:
        for _ in range(A_ROUND // 3):
            note = {"path": self.account, "sleep": rng.choice([0.0, 0.0, 0.01])}
            self._told([q.enqueue("note", note, priority=rng.randrange(3)).id], notes=True)

    def _in_batches(self, q: Client, rng: random.Random) -> None:
        left = 2 * A_ROUND // 3
        while left > 0:
            count = min(rng.choice([2, 20, 90]), left)
            left -= count
            delay = rng.choice([0.0, 0.0, 0.1])
            self._told(q.enqueue_many([("noop", None, {"delay": delay} if delay else {})] * count))

    def _commands(self, q: Client, rng: random.Random) -> None:
        for _ in range(2):
            argv = ["sh", "-c", f"sleep {rng.uniform(0, 0.2):.3f} & wait"]  # two processes: the child must not survive either
            self._told([q.enqueue("shell", {"argv": argv}, priority=5).id])


def kill_at_boot(data_dir: Path, app: str, after_s: float) -> None:
    """Start a daemon and kill it before, while or just after it becomes ready."""
    argv = [sys.executable, "-m", "tq.daemon", "--data-dir", str(data_dir), "--app", app, "--workers", "2", "--foreground"]
    with subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        time.sleep(after_s)
        process.kill()


def test_nothing_accepted_is_lost_and_nothing_survives(
    daemon: Callable[..., Any], app: str, instance: Any, client: Client, account: Any, until: Callable[..., Any]
) -> None:
    print(f"TQ_KILL_SEED={SEED} TQ_KILL_ROUNDS={ROUNDS}")
    rng = random.Random(SEED)
    clients = Clients(instance.data_dir, str(account))
    one = daemon(app=app, workers=2)
    for number in range(ROUNDS):
        threads = clients.start(rng)
        time.sleep(rng.uniform(0, LIVES_S))
        if number % 4 == 2:  # a daemon that dies as it drains
            one.process.terminate()
            time.sleep(rng.uniform(0, DRAINS_S))
        one.kill()
        orphans = instance.alive()
        for thread in threads:
            thread.join(30)
        if number % 4 == 3:  # a daemon that dies as it recovers from a dead one
            kill_at_boot(instance.data_dir, app, rng.uniform(0, BOOTS_S))
            orphans |= instance.alive()
        if number % 2:  # the next one starts at once, among the orphans
            one.start()
            assert instance.gone(orphans, GONE_WITHIN_S), f"round {number}: survived the daemon: {orphans}"
            assert instance.problems() == [], f"round {number}"
        else:
            assert instance.gone(orphans, GONE_WITHIN_S), f"round {number}: survived the daemon: {orphans}"
            assert instance.problems() == [], f"round {number}"
            assert instance.missing(clients.accepted) == set(), f"round {number}"
            one.start()
        client.close()
    until(lambda: not sum(count for state, count in client.stats()["states"].items() if state in WAITING), 60, "the end of every task")
    check_the_end(clients, client, account)
    assert one.stop() == 0
    assert instance.problems() == []
    assert instance.missing(clients.accepted) == set()


WAITING = ("scheduled", "blocked", "pending", "running", "retrying")


def check_the_end(clients: Clients, client: Client, account: Any) -> None:
    """Every accepted task has its end, and every run that was seen has been counted."""
    assert len(clients.accepted) > 10 * ROUNDS
    ids = sorted(clients.accepted)
    found = [row for at in range(0, len(ids), 500) for row in client.get_many(ids[at : at + 500])]
    runs: dict[int, int] = {}
    for words in account.lines():
        runs[int(words[0])] = runs.get(int(words[0]), 0) + 1
    for task_id, row in zip(ids, found, strict=True):
        assert row is not None, task_id
        assert row["state"] == "succeeded" or row["interrupts"] == 10, row
        assert row["crashes"] == 0, row
        assert row["attempt"] == row["interrupts"] + (row["state"] == "succeeded"), row
        if task_id in clients.notes:
            assert runs.get(task_id, 0) <= row["attempt"], row
            assert row["state"] != "succeeded" or runs[task_id] >= 1, row


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
    """A stopped worker cannot end by itself; the next daemon finds it on its board."""
    one = daemon(workers=1)
    task = client.enqueue("shell", {"argv": ["sh", "-c", f"echo up; while [ ! -e {gate} ]; do sleep 0.01; done"]})
    until(task.log, what="the command")
    os.kill(client.workers()[0]["pid"], signal.SIGSTOP)
    one.kill()
    orphans = instance.alive()
    assert len(orphans) >= 2
    one.start()
    assert instance.gone(orphans, 0.0), orphans  # it answers: so they are gone
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

"""SIGTERM: what runs may finish, what has not begun waits, nobody is charged for it, nothing is lost."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tq.client import Client
from tq.errors import DaemonError, Refused

pytestmark = pytest.mark.flow
SHUTDOWNS = int(os.environ.get("TQ_TERM_ROUNDS", "20"))
TERM_SEED = int(os.environ.get("TQ_TERM_SEED", "0")) or random.randrange(1, 1 << 32)

Rows = Callable[..., list[dict[str, Any]]]
Until = Callable[..., Any]


@pytest.fixture
def holding(daemon: Callable[..., Any], app: str, client: Client, account: Any, gate: Path, until: Until) -> Callable[..., Any]:
    """A daemon with one worker that is inside a task until the gate opens, with tasks behind it: (daemon, held, behind)."""

    def start(**options: object) -> tuple[Any, int, list[int]]:
        one = daemon(app=app, **{"workers": 1, **options})
        held = client.enqueue("hold", {"path": str(account), "gate": str(gate)}).id
        behind = client.enqueue_many([("note", {"path": str(account)})] * 10)
        until(lambda: account.runs(held), what="the held task's run")
        return one, held, behind

    return start


def drained(one: Any, client: Client, until: Until) -> None:
    """Send SIGTERM and wait until the daemon says that it drains."""
    one.process.send_signal(signal.SIGTERM)
    until(lambda: client.status()["draining"], what="the drain")


def test_what_runs_finishes_and_what_has_not_begun_waits_for_the_next_daemon(
    holding: Callable[..., Any], client: Client, account: Any, gate: Path, rows: Rows, until: Until, instance: Any
) -> None:
    one, held, behind = holding()
    drained(one, client, until)
    gate.touch()
    assert one.process.wait(10) == 0
    assert instance.alive() == {}
    assert instance.problems() == []
    one.start()
    first, *others = rows([held, *behind])
    assert (first["state"], first["attempt"], first["interrupts"]) == ("succeeded", 1, 0)
    assert {(row["state"], row["attempt"], row["interrupts"], row["crashes"]) for row in others} == {("succeeded", 1, 0, 0)}
    assert all(len(account.runs(task_id)) == 1 for task_id in (held, *behind))


def test_a_draining_daemon_refuses_new_work_for_now_and_still_answers_everything_else(
    holding: Callable[..., Any], client: Client, tq: Callable[..., Any], gate: Path, until: Until
) -> None:
    one, held, behind = holding()
    client.set_queue("letters", external=True)
    letter = client.enqueue("letter", "a", queue="letters", allow_unknown=True).id
    (claimed,) = client.claim(["letters"])
    drained(one, client, until)
    with pytest.raises(Refused) as refused:
        client.enqueue("noop")
    assert refused.value.retry_after > 0
    assert tq("enqueue", "--type", "noop", env={"TQ_AUTOSTART": "0"}).returncode == 75
    with pytest.raises(Refused):
        client.claim(["letters"])
    assert client.settle([(letter, claimed["claim"], "succeeded", {"result": "sent"})]) == [True]
    assert client.get(letter)["state"] == "succeeded"
    assert client.get(held)["state"] == "running"
    assert list(client.cancel(behind[:1])) == ["cancelled"]
    gate.touch()
    assert one.process.wait(10) == 0


def test_when_the_grace_is_over_what_still_runs_is_interrupted_and_not_blamed(
    holding: Callable[..., Any], client: Client, gate: Path, rows: Rows, until: Until
) -> None:
    one, held, _ = holding(grace=0.3)
    began = time.monotonic()
    assert one.stop() == 0
    assert 0.3 <= time.monotonic() - began < 2.3
    gate.touch()
    one.start()
    (row,) = rows([held])
    assert (row["state"], row["attempt"], row["interrupts"], row["crashes"], row["failures"]) == ("succeeded", 2, 1, 0, 0)
    assert [attempt[3] for attempt in row["attempts"]] == ["interrupted"]


def test_a_second_sigterm_ends_it_at_once(
    holding: Callable[..., Any], client: Client, gate: Path, rows: Rows, until: Until, instance: Any
) -> None:
    one, held, behind = holding()
    drained(one, client, until)
    one.process.send_signal(signal.SIGTERM)
    assert one.process.wait(2) == 0
    assert instance.alive() == {}
    gate.touch()
    one.start()
    first, *others = rows([held, *behind])
    assert (first["state"], first["attempt"], first["interrupts"]) == ("succeeded", 2, 1)
    assert {(row["state"], row["attempt"]) for row in others} == {("succeeded", 1)}


def test_a_sigterm_that_comes_when_all_is_done_changes_nothing(data_dir: Path, client: Client, until: Until) -> None:
    code = "import os, sys; from tq.daemon import main; code = main(sys.argv[1:]); os.kill(os.getpid(), 15); sys.exit(code)"
    argv = [sys.executable, "-c", code, "--data-dir", str(data_dir), "--workers", "0", "--foreground"]
    with subprocess.Popen(argv, stderr=subprocess.DEVNULL) as process:
        until((data_dir / "tq.sock").exists, what="the daemon")
        client.stop()
        assert process.wait(20) == 0


def test_commands_end_with_the_grace_and_all_their_processes(
    daemon: Callable[..., Any], client: Client, instance: Any, until: Until
) -> None:
    one = daemon(workers=2, grace=0.2)
    task = client.enqueue("shell", {"argv": ["sh", "-c", "trap '' TERM; echo up; sleep 1000 & sleep 1000"]})
    until(task.log, what="the command")
    assert one.stop() == 0
    assert instance.alive() == {}
    one.start()
    assert client.get(task.id)["crashes"] == 0


def test_a_stop_without_a_drain_is_a_verb_too(holding: Callable[..., Any], client: Client, gate: Path, rows: Rows) -> None:
    one, held, _ = holding()
    client.stop(now=True)
    assert one.process.wait(5) == 0
    gate.touch()
    one.start()
    assert rows([held])[0]["interrupts"] == 1


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_shutdowns_at_random_moments_lose_nothing_and_charge_nobody(
    daemon: Callable[..., Any], app: str, client: Client, account: Any, instance: Any, rows: Rows
) -> None:
    """``TQ_TERM_ROUNDS`` shutdowns (default 20), each fourth in a hurry; ``TQ_TERM_SEED`` repeats a run."""
    print(f"TQ_TERM_SEED={TERM_SEED} TQ_TERM_ROUNDS={SHUTDOWNS}")
    rng = random.Random(TERM_SEED)
    one = daemon(app=app, workers=2)
    ids: list[int] = []
    for number in range(SHUTDOWNS):
        note = {"path": str(account), "sleep": 0.002}
        ids += client.enqueue_many([("note", note)] * 30 + [("shell", {"argv": ["sleep", "0.03"]}), ("noop", None)] * 5)
        time.sleep(rng.uniform(0, 0.1))
        if number % 4 == 3:  # a second SIGTERM while it drains: what runs is interrupted
            one.process.send_signal(signal.SIGTERM)
            time.sleep(rng.uniform(0, 0.01))
        assert one.stop() == 0, number
        assert instance.alive() == {}, number  # so nothing can run beside its own next attempt
        assert instance.missing(set(ids)) == set(), number
        one.start()
    found = rows(ids, 60)
    assert {(row["state"], row["failures"], row["crashes"]) for row in found} == {("succeeded", 0, 0)}
    assert all(row["attempt"] == row["interrupts"] + 1 for row in found)
    assert sum(row["interrupts"] for row in found) <= 2 * SHUTDOWNS // 4  # two workers, and only those that were cut short
    runs = [(words[0], words[1]) for words in account.lines()]
    assert len(runs) == len(set(runs))  # no attempt was handed out twice
    assert {task_id for task_id, _ in runs} == {str(row["id"]) for row in found if row["type"] == "note"}
    assert one.stop() == 0
    assert instance.problems() == []


def test_a_stopped_daemon_is_simply_not_there(daemon: Callable[..., Any], client: Client) -> None:
    one = daemon(workers=1)
    assert client.status()["pid"] == one.pid
    assert one.stop() == 0
    with pytest.raises(DaemonError):
        client.status()

"""A worker as its parent holds it: descriptors, records, back-pressure, and that the kernel decides who has a task."""

from __future__ import annotations

import os
import select
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tq.board import start_ticks
from tq.child import INLINE_BYTES, RECORD_TASKS, Child, Job, kill_and_wait
from tq.model import Header, Spec, pack

APP = "import tq\n\n@tq.task\ndef quick(value=None):\n    return value\n"


@pytest.fixture
def spawn(data_dir: Path) -> Iterator[Callable[[], Child]]:
    (data_dir / "app.py").write_text(APP)
    (data_dir / "run").mkdir()
    options = {
        "data_dir": str(data_dir),
        "app": str(data_dir / "app.py"),
        "slots": 1,
        "log_limit": 1 << 20,
        "result_limit": 1 << 16,
        "grace_ms": 99,
    }
    made: list[Child] = []

    def make() -> Child:
        child = Child(f"w{len(made) + 1}", data_dir / "run", options, 0)
        made.append(child)
        select.select([child.control], [], [], 30)
        message = child.hear()
        assert message
        assert message[0] == "hello"
        return child

    yield make
    for child in made:
        child.kill()
        child.process.wait(10)
        child.keep_board().unlink()
        child.close()
    assert list((data_dir / "run").iterdir()) == []


def entry(task_id: int, value: object = None) -> list[Any]:
    return [task_id, 1, 0, Spec(task_id, Header("quick"), pack([value]), 1, 1).record(), 0]


def hold(child: Child, *ids: int) -> None:
    for task_id in ids:
        child.take(Job(task_id, 1, "quick", 0, 0, 1.0))


def open_fds() -> int:
    return len(os.listdir("/proc/self/fd"))


def results(child: Child, count: int) -> dict[int, Any]:
    found: dict[int, Any] = {}
    deadline = time.monotonic() + 30
    while len(found) < count:
        assert time.monotonic() < deadline, found
        select.select([child.tasks], [], [], 0.1)
        found |= {row[0]: row for row in child.receive(64)}
        child.send_on()
    return found


def test_it_has_no_descriptor_but_its_own_and_a_session_of_its_own(spawn: Callable[[], Child], data_dir: Path) -> None:
    secret = (data_dir / "secret").open("w+")
    os.set_inheritable(secret.fileno(), True)
    child = spawn()
    pid = child.process.pid
    assert os.getsid(pid) == pid
    names = {os.readlink(f"/proc/{pid}/fd/{fd}") for fd in os.listdir(f"/proc/{pid}/fd")}
    assert not any("secret" in name for name in names)
    secret.close()
    assert child.board.worker() == (pid, start_ticks(pid))


def test_records_are_shared_by_quick_tasks_and_large_ones_travel_beside_theirs(spawn: Callable[[], Child]) -> None:
    child = spawn()
    before = open_fds()
    big = "x" * (2 * INLINE_BYTES)
    ids = range(1, 2 * RECORD_TASKS + 1)
    hold(child, *ids, 500, 501)
    assert child.send([(entry(i, i), 0.001) for i in ids])
    assert child.send([(entry(500, big), 0.001), (entry(501, len(big)), None)])
    found = results(child, len(ids) + 2)
    assert [found[i][6] for i in ids] == [pack(i) for i in ids]
    assert found[501][6] == pack(len(big))
    assert open_fds() == before


def test_a_stopped_worker_is_back_pressure_and_what_it_has_not_read_can_be_taken_back(spawn: Callable[[], Child]) -> None:
    child = spawn()
    before = open_fds()
    os.kill(child.process.pid, signal.SIGSTOP)
    big = "x" * (INLINE_BYTES + 1)
    ids = list(range(1, 20_001))
    began = time.monotonic()
    child.send([(entry(i), None) for i in ids[:-3]])
    child.send([(entry(i, big), None) for i in ids[-3:]])
    assert time.monotonic() - began < 20  # nothing here blocks
    assert child.stuffed
    assert child.send_on() is False
    back = child.take_back()
    assert sorted(task_id for task_id, _ in back) == ids
    assert not child.stuffed
    assert open_fds() == before
    os.kill(child.process.pid, signal.SIGCONT)
    hold(child, 30_000)
    assert child.send([(entry(30_000, "after"), None)])
    assert results(child, 1)[30_000][6] == pack("after")


def test_what_is_said_to_one_that_has_died_does_not_raise(spawn: Callable[[], Child]) -> None:
    child = spawn()
    child.process.kill()
    child.process.wait(10)
    child.tell("drain")
    child.send([(entry(1), None)])
    assert child.receive(5) == []
    assert child.hear() in (None, [])


def test_only_the_process_that_is_meant_is_killed(spawn: Callable[[], Child]) -> None:
    child = spawn()
    pid = child.process.pid
    ticks = start_ticks(pid)
    assert ticks
    kill_and_wait(pid, ticks + 1)  # the number was given to another process since
    assert child.process.poll() is None
    kill_and_wait(pid, ticks)
    assert child.process.wait(10) == -signal.SIGKILL
    kill_and_wait(pid, ticks)  # it is gone: nothing to do

"""The room for all output: the oldest goes first, what may still be written stays, and a look costs little where nothing changed."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tq.client import Client
from tq.daemon import sweeping
from tq.daemon.sweeping import EVERY_MS, Sweeper
from tq.output import OUT, OutputWriter, size

KIB = 1024


class House:
    """A directory of output, and a sweeper that looks at it; ``over`` are the tasks that have ended, the others run or wait."""

    def __init__(self, logs: Path, most: int) -> None:
        self.logs = logs
        self.running: set[int] = set()
        self.waiting: set[int] = set()
        self.now = 0.0
        self.step = 0.0
        self.told: list[tuple[int, int]] = []
        self.ticks = 0
        self.sweeper = Sweeper(
            logs, most, lambda: self.running, lambda one: one not in self.running | self.waiting, self._clock,
            lambda tasks, size: self.told.append((tasks, size)),
        )  # fmt: skip

    def _clock(self) -> float:
        self.now += self.step
        return self.now

    def write(self, task_id: int, kib: int, at: int) -> None:
        """A task's output, last written at a second; a head alone."""
        out = OutputWriter(self.logs, task_id, 2 * (kib + 8) * KIB)
        out.write(OUT, b"x" * (kib * KIB - 100), at * 1000)
        out.close()
        path = self.logs / str(task_id // 1000) / f"{task_id}.head"
        os.utime(path, (at, at))

    def look(self) -> int:
        """A whole round; the slices that it took."""
        self.sweeper.stir(self.ticks, 0)
        slices = 1
        while self.sweeper.work(self.ticks):
            slices += 1
        return slices

    def kept(self, *ids: int) -> list[int]:
        return [one for one in ids if size(self.logs, one)]


@pytest.fixture
def house(tmp_path: Path) -> House:
    (tmp_path / "logs").mkdir()
    return House(tmp_path / "logs", 100 * KIB)


def test_what_was_written_longest_ago_goes_first_whatever_its_number(house: House) -> None:
    for task_id, at in ((1, 500), (2, 100), (1001, 300), (1002, 50), (5000, 400)):
        house.write(task_id, 24, at)
    house.look()
    assert house.sweeper.size <= 90 * KIB
    assert house.kept(1, 2, 1001, 1002, 5000) == [1, 1001, 5000]
    assert house.told == [(2, 48 * KIB)]
    house.look()
    assert house.told == [(2, 48 * KIB)]


def test_below_the_limit_nothing_goes(house: House) -> None:
    for task_id in range(4):
        house.write(task_id + 1, 24, task_id)
    house.look()
    assert house.kept(1, 2, 3, 4) == [1, 2, 3, 4]
    assert house.sweeper.size == 96 * KIB


def test_what_may_still_be_written_stays_however_old_it_is(house: House) -> None:
    for task_id in range(1, 7):
        house.write(task_id, 24, task_id)
    house.running, house.waiting = {1}, {2, 6}
    house.look()
    assert house.kept(*range(1, 7)) == [1, 2, 6]
    house.waiting |= {3, 4}
    for task_id in (3, 4):
        house.write(task_id, 24, 9)
    house.look()
    assert house.kept(1, 2, 3, 4, 6) == [1, 2, 3, 4, 6]  # too much, and none may go: it ends all the same
    house.waiting.clear()
    house.look()
    assert house.kept(1, 2, 3, 4, 6) == [1, 3, 4]


def test_nothing_is_looked_at_until_a_task_has_ended(house: House) -> None:
    assert house.sweeper.due_at is None
    assert not house.sweeper.work(10**9)
    house.sweeper.stir(1000)
    house.sweeper.stir(50_000)
    assert house.sweeper.due_at == 1000 + EVERY_MS
    house.write(1, 200, 1)
    assert not house.sweeper.work(1000 + EVERY_MS - 1)
    assert house.kept(1) == [1]
    while house.sweeper.work(1000 + EVERY_MS):
        pass
    assert (house.kept(1), house.sweeper.due_at) == ([], None)


def test_only_directories_that_changed_and_those_of_running_tasks_are_read_again(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    house.write(1, 4, 1)
    house.write(1001, 4, 1)
    house.write(2001, 4, 1)
    for shard, at in ((0, 100), (1, 100), (2, 10_000)):
        os.utime(house.logs / str(shard), (at, at))
    read: list[str] = []
    scandir = os.scandir

    def noted(path: Any) -> Any:
        read.append(os.path.basename(path))
        return scandir(path)

    monkeypatch.setattr(sweeping.os, "scandir", noted)
    house.look()
    assert sorted(read) == ["0", "1", "2", "logs"]
    read.clear()
    house.running = {1999}
    house.look()
    assert sorted(read) == ["1", "2", "logs"]  # the newest may change within one tick of the clock
    read.clear()
    house.running = set()
    house.look()
    assert sorted(read) == ["1", "2", "logs"]  # it may have written until it ended
    os.utime(house.logs / "0", (200, 200))
    read.clear()
    house.look()
    assert sorted(read) == ["0", "2", "logs"]


def test_a_slice_ends_soon_after_its_time_and_the_round_goes_on(house: House) -> None:
    for task_id in range(1, 41):
        house.write(task_id, 8, task_id)
    house.step = sweeping.SLICE_S / 4
    assert house.look() > 10
    assert house.sweeper.size <= 90 * KIB
    assert house.kept(*range(1, 41)) == list(range(30, 41))


def test_what_goes_meanwhile_and_strange_names_are_no_trouble(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    (house.logs / "elsewhere").mkdir()
    (house.logs / "7").touch()
    house.write(1, 200, 1)
    (house.logs / "0" / "no number.head").write_bytes(b"x")
    (house.logs / "0" / "2.head").symlink_to("/nowhere")
    house.look()
    assert house.kept(1) == []
    (house.logs / "0" / "no number.head").unlink()
    (house.logs / "0" / "2.head").unlink(missing_ok=True)
    (house.logs / "0").rmdir()
    house.look()
    assert house.sweeper.size == 0


@pytest.mark.flow
def test_a_daemon_removes_the_oldest_output_and_says_so(
    daemon: Callable[..., Any], data_dir: Path, until: Callable[..., Any], tq: Callable[..., Any]
) -> None:
    (data_dir / "tq.toml").write_text('[retention]\nlogs = "1M"\n')
    with Client(data_dir) as client:
        one = daemon(workers=1)
        argv = [os.path.realpath("/bin/sh"), "-c", "head -c 300000 /dev/urandom"]
        tasks = client.enqueue_many([("shell", {"argv": argv})] * 6)
        assert [row["state"] for row in client.wait(tasks, 30)] == ["succeeded"] * 6
        one.end()
        one.start()
        until(lambda: "output_removed" in one.log(), 30, "the first look")
        assert [bool(size(data_dir / "logs", task)) for task in tasks] == [False] * 3 + [True] * 3
    done = tq("log", str(tasks[0]))
    assert (done.returncode, done.stdout, "no longer kept" in done.stderr) == (0, "", True)

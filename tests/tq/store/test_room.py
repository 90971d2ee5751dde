"""Little room: new tasks are refused in time, what is kept goes before what must end, and bytes lie ready for that."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from math import inf
from pathlib import Path

import pytest

from tq.environment import environment_of
from tq.errors import Refused
from tq.lifecycle import Outcome, settle
from tq.model import SHELL, Header, State
from tq.store import Draft, Limits, Want
from tq.store import room as rooms
from tq.store.lmdb import KEPT_AT_LEAST_MS, LmdbStore
from tq.store.room import BALLAST, DISK_RESERVE, map_reserve

MIB = 1 << 20
HEAD = Header("t", retries=0)


class Turns:
    """A store with a small map, and a clock."""

    def __init__(self, path: Path, map_size: int = 4 * MIB) -> None:
        self.store = LmdbStore(path / "store", Limits(), map_size)
        self.now = 1_000_000

    def add(self, count: int, size: int) -> list[int]:
        self.now += 1
        self.store.begin(self.now)
        try:
            ids = list(self.store.enqueue([Draft(HEAD, os.urandom(size)) for _ in range(count)]))
            self.store.commit()
        except Refused:
            self.store.abort()
            raise
        return ids

    def fill(self, size: int, group: int = 1) -> int:
        """Add until it is refused, so many at once; how many there are."""
        count = 0
        while True:
            try:
                count += len(self.add(group, size))
            except Refused as error:
                if "nearly full" not in error.message or error.retry_after <= 0:
                    raise
                return count

    def end(self, count: int, kind: str = "succeeded") -> None:
        self.now += 1
        self.store.begin(self.now)
        for one in self.store.claim(Want("w", count, inf)):
            (task,) = self.store.get([one.id])
            assert task is not None
            self.store.apply([settle(task, Outcome(kind, self.now, self.now), self.now, 0.5)])
        self.store.commit()

    def retain(self) -> int:
        self.store.begin(self.now)
        gone = self.store.retain(Limits(), 64)
        self.store.commit()
        return len(gone)

    def short(self) -> bool:
        self.store.begin(self.now)
        found = self.store.short()
        self.store.abort()
        return found


@pytest.fixture
def turns(tmp_path: Path) -> Turns:
    return Turns(tmp_path)


@pytest.mark.parametrize("map_size", [4 * MIB, 16 * MIB, 32 * MIB, 1 << 30, 64 << 30])
def test_of_every_map_enough_is_kept_for_ends(map_size: int) -> None:
    assert MIB <= map_reserve(map_size) <= map_size // 4
    assert map_reserve(map_size) >= min(8 * MIB, map_size // 4)


def test_so_many_small_tasks_as_can_also_end_come_in(turns: Turns) -> None:
    count = turns.fill(1, 200)
    for _ in range(0, count, 200):
        turns.end(200)
    assert turns.store.held() == []
    assert sum(tally.states[State.SUCCEEDED] for tally in turns.store.tallies()) == count  # none had to go


def test_a_request_that_would_not_leave_enough_is_refused_though_the_map_is_not_full(turns: Turns) -> None:
    with pytest.raises(Refused, match="nearly full"):
        turns.add(20, 200_000)
    assert len(turns.add(5, 200_000)) == 5  # and nobody else is


def test_what_tasks_wait_for_and_run_in_takes_room_too(turns: Turns) -> None:
    parents = turns.add(500, 0)
    key, packed = environment_of({"A": os.urandom(2 * MIB).hex()})
    waits = Header("t", parents=tuple(parents), parents_any=tuple(parents))
    for header in (waits, Header(SHELL, extras={"env": key}, environment=packed)):
        turns.store.begin(turns.now)
        with pytest.raises(Refused, match="nearly full"):
            turns.store.enqueue([Draft(header, b"", waits=header.parents)] * 200)
        turns.store.abort()
    turns.store.begin(turns.now)
    assert len(turns.store.enqueue([Draft(waits, b"", waits=waits.parents)] * 10)) == 10
    turns.store.commit()
    turns.end(500)
    assert turns.store.held() == []


def test_all_requests_of_one_turn_together_leave_enough(turns: Turns) -> None:
    turns.store.begin(turns.now)
    taken = 0
    try:
        while taken < 100:
            taken += len(turns.store.enqueue([Draft(HEAD, os.urandom(50_000))] * 2))
    except Refused:
        turns.store.commit()
    assert 30 < taken <= 60


def test_a_result_is_found_for_a_while_and_then_makes_way_for_new_tasks(turns: Turns) -> None:
    count = turns.fill(20_000)
    turns.end(count)
    with pytest.raises(Refused):
        turns.add(10, 20_000)
    assert (turns.short(), turns.retain()) == (True, 0)
    turns.now += KEPT_AT_LEAST_MS + 10
    assert turns.retain() > 10
    assert len(turns.add(10, 20_000)) == 10


def test_a_failed_task_is_no_room_for_a_new_one(turns: Turns) -> None:
    """It waits for a person."""
    turns.end(turns.fill(20_000), "failed")
    turns.now += KEPT_AT_LEAST_MS + 10
    assert turns.retain() == 0
    with pytest.raises(Refused):
        turns.add(10, 20_000)


def test_where_others_could_not_end_any_end_makes_way(turns: Turns, caplog: pytest.LogCaptureFixture) -> None:
    turns.fill(20_000)
    turns.end(40, "failed")
    turns.end(40)
    turns.store._room._map_size = 3 * MIB  # as if what is there were so much more
    with caplog.at_level(logging.WARNING, "tq.store"):
        assert turns.short()
        kept = [sum(tally.states[state] for tally in turns.store.tallies()) for state in (State.FAILED, State.SUCCEEDED)]
        assert kept == [40, 40]
        while turns.retain():
            turns.now += 1
    left = [sum(tally.states[state] for tally in turns.store.tallies()) for state in (State.FAILED, State.SUCCEEDED)]
    assert left[1] == 0
    assert 0 <= left[0] < 40
    assert len([record for record in caplog.records if "little room" in record.message]) == 1


def test_bytes_lie_ready_behind_the_last_page_and_stay_so(turns: Turns, tmp_path: Path) -> None:
    data = tmp_path / "store" / "data.mdb"
    turns.add(1, 1)
    for _ in range(3):
        used = (turns.store._env.info()["last_pgno"] + 1) * 4096
        assert BALLAST // 2 <= data.stat().st_size - used <= BALLAST
        assert data.stat().st_blocks * 512 >= data.stat().st_size - 8192
        turns.add(10, 30_000)
        turns.now += 1000
        turns.add(1, 1)


def test_where_bytes_cannot_lie_ready_the_store_works_without(turns: Turns, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def never(fd: int, start: int, size: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", never)
    assert turns.add(1, 1) == [1]
    turns.end(1)


def test_a_disk_that_others_fill_lets_what_is_kept_go_first(turns: Turns, monkeypatch: pytest.MonkeyPatch) -> None:
    turns.add(3, 100)
    turns.end(3)
    free: Callable[[object], int] = lambda _: DISK_RESERVE - 1  # noqa: E731
    monkeypatch.setattr(rooms.Room, "_free_bytes", free)
    turns.now += 2000
    with pytest.raises(Refused, match="less than 64 MiB are free"):
        turns.add(1, 1)
    assert not turns.short()
    monkeypatch.setattr(rooms.Room, "_free_bytes", lambda _: 0)
    monkeypatch.setattr(rooms.Room, "_ready_bytes", lambda _: 4096)
    assert turns.short()
    assert turns.retain() == 3


def test_the_store_says_how_much_room_there_is(tmp_path: Path) -> None:
    one = Turns(tmp_path)
    before = one.store.space()
    one.add(100, 2000)
    space = one.store.space()
    assert (space.least, space.reserve, space.most) == (DISK_RESERVE, map_reserve(4 * MIB), 4 * MIB)
    assert 100 * 2000 < space.live - before.live < 3 * 100 * 2000  # a page each
    found = os.statvfs(tmp_path)
    assert abs(space.free - found.f_bavail * found.f_frsize) < 1 << 32
    one.store.begin(one.now)  # in a turn, too
    assert one.store.space().live == space.live
    one.store.abort()
    one.store.close()

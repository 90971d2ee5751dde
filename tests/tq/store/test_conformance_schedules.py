"""Schedules, on every store: records whose time comes, in the same transactions as tasks."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from time import perf_counter
from typing import Any

import pytest

from tests.tq.store.conftest import Driver
from tq.model import Header, pack, seal, unpack, unseal
from tq.schedule import Rule
from tq.store import Draft, Schedule
from tq.store.files import FORMAT, open_store
from tq.store.keys import SLOT, TIMER
from tq.store.lmdb import LmdbStore
from tq.store.memory import MemoryStore
from tq.store.verify import verify

RULE = Rule("* * * * *").row()


def one(name: str, due_in: int = 0, now: int = 1_000_000, **more: Any) -> Schedule:
    return Schedule(0, name, RULE, ["t", b"payload", None], due_at=now + due_in if due_in else 0, **more)


def put(store: Driver, *schedules: Schedule) -> list[Schedule]:
    with store.turn() as raw:
        return [raw.put_schedule(schedule) for schedule in schedules]


def plain(schedule: Schedule) -> Any:
    """Its row as it travels: lists and tuples are one."""
    return unpack(pack(schedule.row()))


def rows(store: Driver) -> list[Any]:
    found = store.raw.schedules()
    assert list(found) == [schedule.name for schedule in found.values()]
    return [plain(schedule) for schedule in found.values()]


def due(store: Driver, limit: int = 100) -> list[str]:
    with store.turn() as raw:
        return [schedule.name for schedule in raw.slots(limit)]


def test_a_schedule_is_kept_as_it_was_put_also_over_a_restart(store: Driver) -> None:
    a, b = put(store, one("a", 5, runs=[[7, 1], [8, 2]], live=[2], slots=[9], missed=3, boot=(1 << 64) - 1), one("b"))
    assert (a.number, b.number) == (1, 2)
    assert rows(store) == [plain(a), plain(b)]
    store.reopen()
    assert rows(store) == [plain(a), plain(b)]
    (moved,) = put(store, replace(a, due_at=store.now + 50, paused=True))
    store.reopen()
    assert rows(store) == [plain(moved), plain(b)]


def test_a_row_of_an_earlier_version_is_the_same_schedule() -> None:
    a = one("a", 5, runs=[[7, 1]], boot=7, after=["b"])
    assert Schedule(*a.row()) == a
    assert Schedule(*a.row()[:-2]) == replace(a, boot=0, after=())


def test_what_is_due_comes_oldest_first_until_it_is_put_again(store: Driver) -> None:
    a, b, _, _ = put(store, one("a", 20), one("b", 10), one("c", 30), one("d"))
    assert store.raw.next_due() == store.now + 10
    assert due(store) == []
    store.now += 20
    assert due(store) == ["b", "a"]
    assert due(store, 1) == ["b"]
    put(store, replace(b, due_at=store.now + 100), replace(a, due_at=0))
    assert due(store) == []
    assert store.raw.next_due() == store.now + 10
    store.reopen()
    store.now += 100
    assert due(store) == ["c", "b"]


def test_a_dropped_schedule_is_gone_with_its_timer_and_another_takes_its_name(store: Driver) -> None:
    (a,) = put(store, one("a", 10))
    with store.turn() as raw:
        raw.drop_schedule(a.number)
        raw.drop_schedule(99)
    assert store.raw.schedules() == {}
    assert store.raw.next_due() is None
    put(store, one("a", 10))
    store.now += 10
    assert due(store) == ["a"]


def test_a_turn_that_is_lost_moves_no_schedule_on(store: Driver) -> None:
    (a,) = put(store, one("a", 10))
    store.now += 10
    store.raw.begin(store.now)
    store.raw.put_schedule(replace(a, due_at=store.now + 60))
    store.raw.enqueue([store.draft()])
    store.raw.abort()
    assert due(store) == ["a"]
    assert store.ids() == []
    with store.turn() as raw:
        raw.put_schedule(replace(a, due_at=store.now + 60))
        raw.enqueue([store.draft()])
    store.reopen()
    assert due(store) == []
    assert store.ids() == [1]


def test_timers_of_tasks_and_of_schedules_do_not_hold_each_other_up(store: Driver) -> None:
    put(store, *(one(f"s{n}", 10) for n in range(5)))
    ids = store.add(3, due_in=10)
    (expires,) = store.add(ttl=10)
    store.now += 10
    assert store.due(2) == [("expire", expires)]
    assert store.promote(2) == ids[:2]
    assert due(store, 3) == ["s0", "s1", "s2"]
    assert store.promote() == ids[2:]
    assert store.due() == []
    store.run_out(expires)


def test_a_thousand_schedules_cost_nothing_while_none_is_due(tmp_path: Path) -> None:
    """A turn that sends and claims, beside a thousand schedules of tomorrow and beside none."""
    took = {}
    for count in (0, 1000):
        store = LmdbStore(tmp_path / f"store{count}")
        store.begin(1000)
        for number in range(count):
            store.put_schedule(one(f"s{number}", 86_400_000, now=1000))
        store.commit()
        assert store.next_due() == (86_401_000 if count else None)
        best = float("inf")
        for _ in range(300):
            began = perf_counter()
            store.begin(2000)
            assert store.slots(100) == []
            assert store.due(100) == []
            best = min(best, perf_counter() - began)
            store.commit()
        took[count] = best
        store.close()
    assert took[1000] < took[0] * 3 + 0.0005, took


# directories of before there were schedules


def as_format_one(path: Path) -> None:
    """Make of a store what the tq before this one wrote."""
    env, dbs = open_store(path)
    with env.begin(write=True) as txn:
        txn.drop(dbs["schedules"])
        txn.put(b"format", b"1", db=dbs["meta"])
    env.close()


def test_a_directory_of_before_is_read_verified_and_taken_over(tmp_path: Path) -> None:
    path = tmp_path / "store"
    store = LmdbStore(path)
    store.begin(1000)
    store.enqueue([Draft(Header("t"), b"payload")] * 3)
    store.commit()
    store.close()
    as_format_one(path)
    env, dbs = open_store(path, readonly=True)
    env.close()
    assert "schedules" not in dbs
    assert verify(tmp_path) == []
    store = LmdbStore(path)
    store.begin(2000)
    store.put_schedule(one("a", 10))
    store.commit()
    store.close()
    assert verify(tmp_path) == []
    env, dbs = open_store(path, readonly=True)
    with env.begin() as txn:
        assert txn.get(b"format", db=dbs["meta"]) == FORMAT
    env.close()
    store = LmdbStore(path)
    assert list(store.schedules()) == ["a"]
    assert store.last_id() == 3
    store.close()


def test_a_snapshot_of_before_is_read(tmp_path: Path) -> None:
    path = tmp_path / "memory"
    store = MemoryStore(path)
    store.begin(1000)
    store.enqueue([Draft(Header("t"), b"payload")])
    store.commit()
    rows = unpack(unseal(path.read_bytes(), "a snapshot"))
    path.write_bytes(seal(pack(rows[:-1])))
    again = MemoryStore(path)
    assert again.schedules() == {}
    assert again.last_id() == 1


# verify


@pytest.mark.parametrize("harm", ["no timer", "a timer too many", "a broken record"])
def test_verify_names_a_schedule_that_disagrees_with_its_timer(tmp_path: Path, harm: str) -> None:
    store = LmdbStore(tmp_path / "store")
    store.begin(1000)
    store.put_schedule(one("a", 10, now=1000))
    store.commit()
    store.close()
    assert verify(tmp_path) == []
    env, dbs = open_store(tmp_path / "store")
    with env.begin(write=True) as txn:
        if harm == "no timer":
            txn.delete(TIMER.pack(1010, SLOT, 1), db=dbs["timers"])
        elif harm == "a timer too many":
            txn.put(TIMER.pack(99, SLOT, 7), b"", db=dbs["timers"])
        else:
            key, value = next(iter(txn.cursor(dbs["schedules"])))
            txn.put(key, value[:-1] + bytes([value[-1] ^ 1]), db=dbs["schedules"])
    env.close()
    said = verify(tmp_path)
    assert said
    assert "schedule" in said[0]

"""A running LMDB store meets records that the disk changed: it never takes them for what they were, and nobody else is harmed."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import lmdb
import pytest

from tq.errors import StoreDamaged, StoreError
from tq.lifecycle import Outcome, settle
from tq.model import Header
from tq.store import BatchInfo, Chore, Draft, Event, KeyRef, NoRoom, QueueInfo, RequestId, TypeInfo, Want
from tq.store.keys import DUE, PAIR, READY, TIMER, U64, name_key
from tq.store.lmdb import LmdbStore

NOW = 1_700_000_000_000
ANY = Want("w1", 100, float("inf"))


@pytest.fixture
def store(tmp_path: Path) -> Iterator[LmdbStore]:
    one = LmdbStore(tmp_path / "store")
    yield one
    one.close()


def add(store: LmdbStore, count: int = 1, due_at: int = 0, **header: Any) -> list[int]:
    store.begin(NOW)
    ids = store.enqueue([Draft(Header("t", **header), b"payload", due_at)] * count, RequestId(b"a client", store.last_id()))
    store.commit()
    return list(ids)


def change(store: LmdbStore, name: str, key: bytes, value: bytes | None = None) -> None:
    """Put another value there; None: the entry is lost."""
    with store._env.begin(write=True) as txn:
        if value is None:
            assert txn.delete(key, db=store._db[name])
        else:
            txn.put(key, value, db=store._db[name])


def bit(store: LmdbStore, name: str, key: bytes | None = None) -> None:
    """A bit turns in the middle of a record (of the first, unless one is named)."""
    with store._env.begin(write=True) as txn:
        cursor = txn.cursor(store._db[name])
        assert cursor.first() if key is None else cursor.set_key(key)
        where, record = cursor.key(), bytearray(cursor.value())
        record[len(record) // 2] ^= 4
        txn.put(where, bytes(record), db=store._db[name])


def state(store: LmdbStore, task_id: int) -> str:
    (task,) = store.get([task_id])
    assert task is not None
    return task.state.word


def run(store: LmdbStore) -> list[int]:
    """Claim and settle all there is; which tasks that were."""
    store.begin(NOW)
    taken = store.claim(ANY)
    assert all(store.succeed([(one.id, one.claim, NOW, NOW + 1, False, None) for one in taken]))
    store.commit()
    return [one.id for one in taken]


def _release_all(store: LmdbStore) -> None:
    """Claim all there is, and give it back."""
    store.begin(NOW)
    for one in store.claim(ANY):
        (task,) = store.get([one.id])
        assert task is not None
        over = settle(task, Outcome("released", finished_at=NOW), NOW, 0.5)
        assert over is not None
        store.apply([over])
    store.commit()


def test_a_task_whose_status_is_lost_is_not_shown_as_if_nothing_had_happened_to_it(store: LmdbStore) -> None:
    ids = add(store, 3)
    assert run(store) == ids
    change(store, "states", U64.pack(2))
    with pytest.raises(StoreDamaged, match="task 2: expected its place among those that are pending, or a status"):
        store.get([2])
    assert [state(store, one) for one in (1, 3)] == ["succeeded"] * 2


def test_a_task_that_waits_again_is_not_shown_as_new_when_its_status_is_lost(store: LmdbStore) -> None:
    add(store, 2)
    _release_all(store)
    assert [state(store, one) for one in (1, 2)] == ["pending"] * 2
    change(store, "states", U64.pack(2))
    with pytest.raises(StoreDamaged, match="task 2: expected its place among those that are pending, or a status"):
        store.get([2])
    assert state(store, 1) == "pending"


def test_a_scheduled_task_whose_timer_is_lost_is_told(store: LmdbStore) -> None:
    add(store, 1, NOW + 5000)
    assert state(store, 1) == "scheduled"
    change(store, "timers", TIMER.pack(NOW + 5000, DUE, 1))
    with pytest.raises(StoreDamaged, match="task 1: expected its place among those that are scheduled"):
        store.get([1])


def test_a_place_in_line_that_names_another_task_hands_out_nothing_twice(store: LmdbStore) -> None:
    add(store, 1)
    assert run(store) == [1]
    add(store, 2)
    change(store, "ready", READY.pack(1, 8, 2), PAIR.pack(1, NOW))
    assert run(store) == [3]
    assert state(store, 1) == "succeeded"


def test_a_released_task_whose_place_names_another_is_not_confused_with_it(store: LmdbStore) -> None:
    add(store, 2)
    _release_all(store)
    change(store, "ready", READY.pack(1, 8, 1), PAIR.pack(2, NOW) + b"\x01")
    assert run(store) == [2]


def test_a_damaged_name_is_told_to_who_asks_for_it_and_keeps_no_task_from_its_end(store: LmdbStore) -> None:
    add(store, 1, unique="a", key="k")
    name = KeyRef("unique", "t", "a")
    key = name_key(name)
    assert key is not None
    bit(store, "names", key)
    with pytest.raises(StoreDamaged, match=r"the name .*fails its checksum"):
        store.holders([name])
    assert run(store) == [1]
    assert state(store, 1) == "succeeded"


def test_a_request_whose_ids_are_damaged_is_not_given_others(store: LmdbStore) -> None:
    add(store, 2)
    bit(store, "requests")
    store.begin(NOW)
    with pytest.raises(StoreDamaged, match=r"request .*fails its checksum"):
        store.enqueue([Draft(Header("t"), b"payload")] * 2, RequestId(b"a client", 0, again=True))
    store.abort()


@pytest.mark.parametrize("name", ["queues", "types", "chores", "tallies", "lanes", "running"])
def test_a_store_whose_small_records_are_damaged_does_not_open_and_says_why(tmp_path: Path, name: str) -> None:
    store = LmdbStore(tmp_path / "store")
    add(store, 2)
    store.begin(NOW)
    store.put_queue(QueueInfo("q", weight=3))
    store.put_types([TypeInfo("t", retries=1)])
    store.put_chore(Chore(0, "remove", {}))
    store.claim(Want("w1", 1, 0.0))
    store.commit()
    bit(store, name)
    store.close()
    data = tmp_path / "store" / "data.mdb"
    before = data.read_bytes()
    with pytest.raises(StoreDamaged, match="fails its checksum"):
        LmdbStore(tmp_path / "store")
    assert data.read_bytes() == before


def test_a_damaged_event_is_told_to_who_reads_it(store: LmdbStore) -> None:
    store.begin(NOW)
    store.note(Event(0, NOW, "tq", "paused", "q"))
    store.commit()
    bit(store, "events")
    with pytest.raises(StoreDamaged, match=r"event.*fails its checksum"):
        store.events(None, 5)


@pytest.mark.parametrize("words", ["No space left on device", "File too large", "Disk quota exceeded"])
def test_a_disk_without_room_is_a_refusal_and_any_other_trouble_is_not(store: LmdbStore, words: str) -> None:
    assert isinstance(store._room.trouble(lmdb.DiskError(f"mdb_txn_commit: {words}")), NoRoom)
    assert not isinstance(store._room.trouble(lmdb.Error("mdb_txn_commit: Input/output error")), NoRoom)


def test_a_store_that_cannot_be_read_any_more_after_a_failed_turn_says_so(store: LmdbStore, monkeypatch: pytest.MonkeyPatch) -> None:
    def panics() -> None:
        raise lmdb.PanicError("MDB_PANIC: Update of meta page failed")

    add(store)
    store.begin(NOW)
    monkeypatch.setattr(store, "_fill", panics)
    with pytest.raises(StoreError, match="MDB_PANIC") as caught:
        store.abort()
    assert not isinstance(caught.value, StoreDamaged)


def test_a_page_of_the_wrong_kind_is_damage_and_not_trouble_of_the_disk(store: LmdbStore, monkeypatch: pytest.MonkeyPatch) -> None:
    def corrupted(*_: object) -> None:
        raise lmdb.CorruptedError("mdb_get: MDB_CORRUPTED")

    add(store)
    monkeypatch.setattr(store, "_read", corrupted)
    with pytest.raises(StoreDamaged, match="MDB_CORRUPTED"):
        store.get([1])


def test_a_place_in_line_whose_key_is_damaged_is_named_and_nothing_is_handed_out(store: LmdbStore) -> None:
    add(store, 3)
    with store._env.begin() as txn:
        keys = [bytes(key) for key, _ in txn.cursor(store._db["ready"])]
    change(store, "ready", keys[1])
    change(store, "ready", keys[1] + b"\0", PAIR.pack(2, NOW))
    store.begin(NOW)
    with pytest.raises(StoreError, match=r"expected keys of 13 bytes, found one of 14.*Run `tq verify`"):
        store.claim(ANY)
    store.abort()


@pytest.mark.parametrize(("damaged", "counts"), [("states", (0, 0, 0, 1, 0, 0)), ("tasks", (1, 0, 0, 0, 0, 0))])
def test_a_member_that_cannot_be_read_fails_for_its_batch_if_that_much_is_known(
    store: LmdbStore, damaged: str, counts: tuple[int, ...]
) -> None:
    store.begin(NOW)
    number = store.put_batch(BatchInfo(0)).number
    store.commit()
    (member,) = add(store, batch=number)
    store.begin(NOW)
    (got,) = store.claim(ANY)
    task = store.get([got.id])[0]
    assert task is not None
    store.apply([settle(task, Outcome("interrupted"), NOW, 0.5)])
    store.commit()
    bit(store, damaged)
    store.begin(NOW)
    assert store.claim(ANY) == []
    store.commit()
    info = store.batch(number)
    assert info is not None
    assert info.counts == counts
    assert member == got.id

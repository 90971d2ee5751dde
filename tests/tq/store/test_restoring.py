"""A backup takes the place of a store: checked first, the old one kept, and no id given twice."""

from __future__ import annotations

from math import inf
from pathlib import Path

import pytest

from tq.errors import ConfigError, StoreDamaged, StoreError, StoreLocked, StoreTooNew
from tq.model import Header, State
from tq.store import Draft, Want
from tq.store.files import Lock, backup, open_store
from tq.store.lmdb import LmdbStore
from tq.store.restoring import restore
from tq.store.verify import verify

HEAD = Header("mail")


def add(where: Path, *payloads: bytes) -> list[int]:
    store = LmdbStore(where / "store")
    store.begin(1000 + store.last_id())
    ids = store.enqueue([Draft(HEAD, payload) for payload in payloads])
    store.commit()
    store.close()
    return list(ids)


def all_of(where: Path) -> dict[int, bytes]:
    store = LmdbStore(where / "store")
    found = {task.id: task.spec.payload for task in store.get(range(1, store.last_id() + 1)) if task is not None}
    store.close()
    return found


@pytest.fixture
def live(tmp_path: Path) -> Path:
    (tmp_path / "live").mkdir()
    return tmp_path / "live"


def test_a_backup_takes_the_place_of_the_store_which_is_kept(live: Path, tmp_path: Path) -> None:
    add(live, b"one", b"two")
    backup(live, tmp_path / "copy")
    add(live, b"three")
    tasks, aside = restore(tmp_path / "copy", live, "then")
    assert (tasks, aside) == (2, live / "store.before-then")
    assert all_of(live) == {1: b"one", 2: b"two"}
    assert verify(live) == []
    (tmp_path / "old").mkdir()
    (live / "store.before-then").rename(tmp_path / "old" / "store")
    assert all_of(tmp_path / "old") == {1: b"one", 2: b"two", 3: b"three"}
    assert {path.name for path in live.iterdir()} == {"store", "lock"}
    assert all_of(tmp_path / "copy") == {1: b"one", 2: b"two"}


def test_ids_that_were_given_since_the_backup_are_not_given_again(live: Path, tmp_path: Path) -> None:
    add(live, b"one")
    backup(live, tmp_path / "copy")
    add(live, b"two", b"three")
    restore(tmp_path / "copy", live, "a")
    assert add(live, b"four") == [4]
    assert verify(live) == []


def test_ids_of_which_only_output_is_left_are_not_given_again(live: Path, tmp_path: Path) -> None:
    """The store is lost, and with it its counter; what task 1017 printed must not become another task's."""
    add(live, b"one")
    backup(live, tmp_path / "copy")
    (live / "logs" / "1").mkdir(parents=True)
    (live / "logs" / "1" / "1017.head").write_bytes(b"")
    (live / "logs" / "0").mkdir()
    (live / "logs" / "0" / "12.head").write_bytes(b"")
    data = live / "store" / "data.mdb"
    data.write_bytes(b"\xff" * 8192 + data.read_bytes()[8192:])
    tasks, aside = restore(tmp_path / "copy", live, "a")
    assert (tasks, aside is not None) == (1, True)
    assert add(live, b"two") == [1018]


def test_a_task_that_ran_at_the_time_of_the_backup_is_held_until_the_next_start_recovers_it(live: Path, tmp_path: Path) -> None:
    add(live, b"one", b"two")
    store = LmdbStore(live / "store")
    store.begin(2000)
    store.claim(Want("w1", 1, inf))
    store.commit()
    store.close()
    backup(live, tmp_path / "copy")
    restore(tmp_path / "copy", live, "a")
    store = LmdbStore(live / "store")
    assert [(one.id, one.worker) for one in store.held()] == [(1, "w1")]
    states = [task.state for task in store.get([1, 2]) if task is not None]
    assert states == [State.RUNNING, State.PENDING]
    store.close()


def test_a_new_instance_is_made_from_a_backup(live: Path, tmp_path: Path) -> None:
    add(live, b"one")
    backup(live, tmp_path / "copy")
    (tmp_path / "fresh").mkdir(mode=0o700)
    assert restore(tmp_path / "copy", tmp_path / "fresh", "a") == (1, None)
    assert all_of(tmp_path / "fresh") == {1: b"one"}


# refusals, after each of which everything is as it was


def test_a_running_daemon_is_not_pulled_the_store_from_under(live: Path, tmp_path: Path) -> None:
    add(live, b"one")
    backup(live, tmp_path / "copy")
    lock = Lock(live)
    with pytest.raises(StoreLocked, match="tq daemon stop"):
        restore(tmp_path / "copy", live, "a")
    lock.close()
    assert all_of(live) == {1: b"one"}


def test_the_directory_of_a_running_daemon_is_no_backup(live: Path, tmp_path: Path) -> None:
    add(live, b"one")
    (tmp_path / "other").mkdir()
    add(tmp_path / "other", b"two")
    lock = Lock(tmp_path / "other")
    with pytest.raises(ConfigError, match=r"running daemon.*tq --data-dir .*other backup"):
        restore(tmp_path / "other", live, "a")
    lock.close()
    assert all_of(live) == {1: b"one"}
    restore(tmp_path / "other", live, "a")  # stopped, it is as good as one
    assert all_of(live) == {1: b"two"}


@pytest.mark.parametrize("make", [lambda path: None, lambda path: path.mkdir(), lambda path: path.write_text("x")])
def test_what_is_no_backup_is_refused(live: Path, tmp_path: Path, make: object) -> None:
    add(live, b"one")
    make(tmp_path / "copy")  # type: ignore[operator]
    with pytest.raises(ConfigError, match=r"expected a backup.*tq backup"):
        restore(tmp_path / "copy", live, "a")
    with pytest.raises(ConfigError, match="that it is to be restored into"):
        restore(live, live, "a")
    assert all_of(live) == {1: b"one"}


def test_a_damaged_backup_is_refused_before_anything_is_changed(live: Path, tmp_path: Path) -> None:
    add(live, *[b"%d" % n * 500 for n in range(50)])
    backup(live, tmp_path / "copy")
    data = tmp_path / "copy" / "store" / "data.mdb"
    whole = data.read_bytes()
    at = whole.index(b"17" * 100)
    data.write_bytes(whole[:at] + b"\0" + whole[at + 1 :])
    with pytest.raises(StoreDamaged, match=r"expected a sound backup, got: task \d+"):
        restore(tmp_path / "copy", live, "a")
    data.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(StoreDamaged, match="expected a sound backup"):
        restore(tmp_path / "copy", live, "a")
    assert len(all_of(live)) == 50
    assert {path.name for path in live.iterdir()} == {"store", "lock"}


def test_a_backup_of_a_newer_tq_is_refused_by_name(live: Path, tmp_path: Path) -> None:
    add(live, b"one")
    backup(live, tmp_path / "copy")
    env, dbs = open_store(tmp_path / "copy" / "store")
    with env.begin(write=True) as txn:
        txn.put(b"format", b"99", db=dbs["meta"])
    env.close()
    with pytest.raises(StoreTooNew, match="99"):
        restore(tmp_path / "copy", live, "a")
    assert all_of(live) == {1: b"one"}


def test_an_aside_that_is_taken_is_not_overwritten(live: Path, tmp_path: Path) -> None:
    add(live, b"one")
    backup(live, tmp_path / "copy")
    restore(tmp_path / "copy", live, "a")
    with pytest.raises(StoreError, match="not empty"):
        restore(tmp_path / "copy", live, "a")
    assert all_of(live) == {1: b"one"}
    assert verify(live) == []

"""Environments of commands, on every store: each distinct one once, for as long as a task has it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.tq.store.conftest import Driver
from tq.environment import environment_key, environment_of
from tq.errors import StoreDamaged
from tq.model import SHELL, Header
from tq.store import Draft, Limits, QueueInfo
from tq.store.files import open_store
from tq.store.keys import U64
from tq.store.lmdb import LmdbStore
from tq.store.verify import verify

HOME, WORK = ({"PLACE": name, "BIG": "x" * 4000} for name in ("home", "work"))


def head(env: dict[str, str], **more: Any) -> Header:
    key, packed = environment_of(env)
    return Header(SHELL, extras={"cwd": "/", "env": key}, environment=packed, **more)


def there(store: Driver, env: dict[str, str]) -> bool:
    key, packed = environment_of(env)
    found = store.raw.environment(key)
    assert found in (None, packed)
    return found is not None


def send(store: Driver, env: dict[str, str], count: int = 1, **more: Any) -> list[int]:
    return store.enqueue([Draft(head(env, **more), b"")] * count)


def run(store: Driver, count: int = 1, **want: Any) -> list[int]:
    """Claim and end so many."""
    claimed = store.claim(count, **want)
    assert all(store.succeed(*claimed))
    return [one.id for one in claimed]


def remove(store: Driver, *ids: int) -> list[bool]:
    with store.turn() as raw:
        return raw.remove(ids)


def test_the_same_variables_are_the_same_environment_in_whatever_order() -> None:
    assert environment_of({"A": "1", "B": b"\xff"}) == environment_of({"B": b"\xff", "A": "1"})
    assert environment_of({"A": "1"})[0] != environment_of({"A": "2"})[0]


def test_an_environment_is_there_from_the_first_task_that_has_it_until_the_last_is_forgotten(store: Driver) -> None:
    first, second, third = *send(store, HOME, 2), *send(store, HOME, unique="u")
    (other,) = send(store, WORK)
    store.reopen()
    assert (there(store, HOME), there(store, WORK)) == (True, True)
    run(store, 2)
    assert remove(store, first, third) == [True, True], "one that is over, one that waits"
    assert there(store, HOME)
    store.reopen()
    assert remove(store, second) == [True]
    assert (there(store, HOME), there(store, WORK)) == (False, True)
    assert remove(store, other, other) == [True, False]
    store.reopen()
    assert not there(store, WORK)
    send(store, HOME)
    assert there(store, HOME), "it may come again"


def test_the_record_of_a_task_has_the_key_of_its_environment_and_not_the_environment(store: Driver) -> None:
    send(store, HOME, 3)
    for claimed in store.claim(3):
        assert len(claimed.record) < 200
        assert environment_key(claimed.header) == environment_of(HOME)[0]


def test_retention_forgets_environments_with_their_tasks(store: Driver) -> None:
    send(store, HOME, 3)
    store.add(2)
    run(store, 5)
    store.now += 1000
    send(store, WORK)
    run(store)
    with store.turn() as raw:
        assert len(raw.retain(Limits(keep_ms=500, keep_failed_ms=500), 4)) == 4
    store.now += 1
    with store.turn() as raw:
        raw.retain(Limits(keep_ms=500, keep_failed_ms=500), 100)
    assert (there(store, HOME), there(store, WORK)) == (False, True)


def test_what_ends_or_lives_again_keeps_its_environment(store: Driver) -> None:
    (task_id,) = send(store, HOME)
    run(store)
    assert store.retry(task_id) is not None
    assert store.edit(task_id, label="l", payload=b"other") is not None
    assert there(store, HOME)
    store.cancel(task_id)
    assert there(store, HOME)
    remove(store, task_id)
    assert not there(store, HOME)


def test_an_aborted_turn_leaves_neither_environment_nor_a_hole(store: Driver) -> None:
    (task_id,) = send(store, HOME)
    with store.turn() as raw:
        raw.enqueue([Draft(head(WORK), b"")])
        assert raw.environment(environment_of(WORK)[0]) is not None, "a turn sees what it wrote"
        raise store.lost
    with store.turn() as raw:
        raw.remove([task_id])
        raise store.lost
    assert (there(store, HOME), there(store, WORK)) == (True, False)
    remove(store, task_id)
    assert not there(store, HOME)


def test_a_task_of_an_earlier_tq_that_has_its_environment_in_itself_goes_as_it_came(store: Driver) -> None:
    (task_id,) = store.enqueue([Draft(Header(SHELL, extras={"env": {"A": "b"}}), b"")])
    store.reopen()
    assert (store.get(task_id).spec.header.extras, remove(store, task_id)) == ({"env": {"A": "b"}}, [True])


def test_a_queue_that_keeps_nothing_keeps_no_environment(store: Driver) -> None:
    with store.turn() as raw:
        raw.put_queue(QueueInfo("default", keep_ms=0))
    send(store, HOME)
    (task_id,) = run(store)
    with store.turn() as raw:
        assert raw.due(10) == [("forget", task_id)]
        raw.remove([task_id])
    assert not there(store, HOME)


# LMDB alone


@pytest.fixture
def kept(tmp_path: Path) -> Path:
    """A directory with three commands of two environments."""
    store = LmdbStore(tmp_path / "store")
    store.begin(1000)
    store.enqueue([Draft(head(HOME), b"")] * 2 + [Draft(replace(head(WORK), label="l"), b"")])
    store.commit()
    store.close()
    assert verify(tmp_path) == []
    return tmp_path


@pytest.mark.parametrize(
    ("harm", "words"),
    [
        ("no environment", "expected it to be there, since a task has it"),
        ("no entry", "task 1: it is not among those that have the environment"),
        ("an entry too many", "expected the 3 entries of the commands that have one, got 4"),
        ("an environment too many", "no task has it"),
        ("another content", "its content is not what its key says"),
    ],
)
def test_verify_names_an_environment_that_disagrees_with_its_tasks(kept: Path, harm: str, words: str) -> None:
    key, packed = environment_of(HOME)
    env, dbs = open_store(kept / "store")
    with env.begin(write=True) as txn:
        if harm == "no environment":
            txn.delete(key, db=dbs["environments"])
        elif harm == "no entry":
            txn.delete(key + U64.pack(1), db=dbs["environments"])
        elif harm == "an entry too many":
            txn.put(key + U64.pack(7), b"", db=dbs["environments"])
        elif harm == "an environment too many":
            txn.put(b"\xff" * 16, packed, db=dbs["environments"])
        else:
            txn.put(key, packed[:-1] + b"?", db=dbs["environments"])
    env.close()
    assert any(words in problem for problem in verify(kept)), verify(kept)


def test_an_environment_that_was_changed_is_not_given(kept: Path) -> None:
    key, packed = environment_of(HOME)
    env, dbs = open_store(kept / "store")
    with env.begin(write=True) as txn:
        txn.put(key, packed[:-1] + b"?", db=dbs["environments"])
    env.close()
    store = LmdbStore(kept / "store")
    with pytest.raises(StoreDamaged, match="its content is not what its key says"):
        store.environment(key)
    store.close()


def test_a_thousand_commands_of_one_environment_take_little_more_than_their_names(tmp_path: Path) -> None:
    store = LmdbStore(tmp_path / "store")
    store.begin(1000)
    store.enqueue([Draft(head(HOME), b"")] * 1000)
    store.commit()
    store.close()
    env, dbs = open_store(tmp_path / "store", readonly=True)
    with env.begin() as txn:
        found = txn.stat(dbs["tasks"])
        pages = sum(found[kind] for kind in ("branch_pages", "leaf_pages", "overflow_pages"))
    env.close()
    assert pages * 4096 < 1000 * 250

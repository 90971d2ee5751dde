"""The lines of ordering keys in the LMDB store: what they cost, and what ``verify`` says of damaged ones."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tq.model import Header
from tq.store import Draft, Want
from tq.store.files import open_store
from tq.store.keys import U64
from tq.store.lmdb import LmdbStore
from tq.store.orders import line_of, turn_key, turn_record
from tq.store.verify import verify

NOW = 1_000_000
LINE = line_of(("default", "k"))


@pytest.fixture
def store(tmp_path: Path) -> Any:
    found = LmdbStore(tmp_path / "store")
    found.begin(NOW)
    found.enqueue([Draft(Header("t", order="k"), b"")] * 3 + [Draft(Header("t"), b"")])
    found.commit()
    yield found
    found.close()


def _no_turn(put: Callable[..., Any], drop: Callable[[bytes], Any]) -> None:
    drop(turn_key(LINE))


def _no_place(put: Callable[..., Any], drop: Callable[[bytes], Any]) -> None:
    drop(LINE + U64.pack(3))


def _two_places(put: Callable[..., Any], drop: Callable[[bytes], Any]) -> None:
    put(LINE + U64.pack(1), b"")


def _a_place_too_many(put: Callable[..., Any], drop: Callable[[bytes], Any]) -> None:
    put(LINE + U64.pack(4), b"")


def _a_bit(put: Callable[..., Any], drop: Callable[[bytes], Any]) -> None:
    put(turn_key(LINE), turn_record(1)[:-1] + b"\0")


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (_no_turn, "task 1: pending, and has 0 places in the line of its ordering key 'k'"),
        (_no_turn, "orders [0-9a-f]+: task 2 waits for its turn behind nobody"),
        (_no_place, "task 3: blocked, waits for 1 tasks, and has entries in children for 0"),
        (_two_places, "task 1: pending, and has 2 places"),
        (_a_place_too_many, "orders: expected the 3 places of the tasks that have an ordering key, got 4"),
        (_a_bit, "orders [0-9a-f]+: the record fails its checksum"),
    ],
)
def test_a_damaged_line_is_named(store: Any, tmp_path: Path, damage: Callable[..., None], words: str) -> None:
    store.close()
    assert verify(tmp_path) == []
    env, dbs = open_store(tmp_path / "store")
    with env.begin(write=True) as txn:
        damage(lambda key, value: txn.put(key, value, db=dbs["orders"]), lambda key: txn.delete(key, db=dbs["orders"]))
    env.close()
    problems = verify(tmp_path)
    assert any(re.search(words, problem) for problem in problems), problems


def test_a_store_of_an_earlier_format_gets_its_lines(store: Any, tmp_path: Path) -> None:
    store.close()
    env, dbs = open_store(tmp_path / "store")
    with env.begin(write=True) as txn:
        for name in ("tasks", "states", "ready", "tallies", "lanes"):
            txn.drop(dbs[name], delete=False)
        txn.drop(dbs["orders"])
        txn.put(b"format", b"5", db=dbs["meta"])
    env.close()
    assert verify(tmp_path) == []
    again = LmdbStore(tmp_path / "store")
    again.begin(NOW)
    (first, second) = again.enqueue([Draft(Header("t", order="k"), b"")] * 2)
    again.commit()
    assert again.ordered("default", "k", 9) == [first, second]
    again.close()


def test_without_ordering_keys_nobody_looks_for_lines(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = LmdbStore(tmp_path / "store")
    for name in ("_line_up", "_leave_line", "_first_behind"):
        monkeypatch.setattr(store, name, None)
    store.begin(NOW)
    store.enqueue([Draft(Header("t"), b"")] * 3)
    claimed = store.claim(Want("w", 2))
    store.succeed([(one.id, one.claim, NOW, NOW, False, None) for one in claimed])
    assert store.turns(9) == []
    assert store.remove([1, 3]) == [True, True]
    store.commit()
    store.close()


def test_one_that_cannot_be_read_any_more_is_let_go_of_when_it_is_forgotten(store: Any) -> None:
    store.begin(NOW)
    store._lose(1)
    assert store.turns(9) == [2]
    store._lose(3)
    assert store.ordered("default", "k", 9) == [2]
    store.abort()
    assert store.ordered("default", "k", 9) == [1, 2, 3]

"""What only the memory store has: its snapshot file, and its insistence on turns."""

from __future__ import annotations

import os
import time

import pytest

from tq.errors import StoreDamaged, StoreError, StoreTooNew
from tq.model import Header, State, pack, seal
from tq.store import Draft, Want
from tq.store.memory import MemoryStore


def _filled(path):
    store = MemoryStore(path)
    store.begin(1)
    store.enqueue([Draft(Header("t"), b"data")] * 3)
    store.commit()
    return store


def test_without_a_path_nothing_is_kept(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    _filled(None).close()
    assert list(tmp_path.iterdir()) == []


def test_a_snapshot_leaves_nothing_beside_it(tmp_path):
    _filled(tmp_path / "snapshot").close()
    assert [path.name for path in tmp_path.iterdir()] == ["snapshot"]


def test_a_turn_that_wrote_nothing_writes_no_snapshot(tmp_path):
    path = tmp_path / "snapshot"
    store = _filled(path)
    path.unlink()
    store.begin(2)
    store.get([1])
    store.commit()
    assert not path.exists()


def test_a_store_that_is_closed_in_a_turn_forgets_that_turn(tmp_path):
    store = _filled(tmp_path / "snapshot")
    store.begin(2)
    store.enqueue([Draft(Header("t"), b"lost")])
    store.close()
    assert MemoryStore(tmp_path / "snapshot").last_id() == 3


def test_every_flipped_byte_of_a_snapshot_is_noticed(tmp_path):
    path = tmp_path / "snapshot"
    _filled(path).close()
    whole = path.read_bytes()
    for at in range(len(whole)):
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 0x10]) + whole[at + 1 :])
        with pytest.raises(StoreDamaged, match="snapshot"):
            MemoryStore(path)


@pytest.mark.parametrize("size", [0, 1, 4, 50])
def test_a_snapshot_cut_short_is_noticed(tmp_path, size):
    path = tmp_path / "snapshot"
    _filled(path).close()
    path.write_bytes(path.read_bytes()[:size])
    with pytest.raises(StoreDamaged):
        MemoryStore(path)


def test_a_snapshot_of_a_newer_format_is_left_alone(tmp_path):
    path = tmp_path / "snapshot"
    newer = seal(pack([2, "whatever", "comes", "then"]))
    path.write_bytes(newer)
    with pytest.raises(StoreTooNew, match="expected snapshot format 1, got 2"):
        MemoryStore(path)
    assert path.read_bytes() == newer


def test_a_commit_that_cannot_be_written_can_be_aborted(tmp_path):
    path = tmp_path / "folder" / "snapshot"
    path.parent.mkdir()
    store = _filled(path)
    os.rename(path.parent, tmp_path / "elsewhere")
    store.begin(2)
    store.enqueue([Draft(Header("t"), b"lost")])
    with pytest.raises(StoreError, match="Nothing was committed"):
        store.commit()
    store.abort()
    assert store.last_id() == 3
    os.rename(tmp_path / "elsewhere", path.parent)
    assert MemoryStore(path).last_id() == 3


def test_nothing_is_written_outside_a_turn():
    store = _filled(None)
    for write in (
        lambda: store.enqueue([Draft(Header("t"), b"")]),
        lambda: store.claim(Want("w", 1)),
        lambda: store.due(1),
        lambda: store.drop_chore(1),
    ):
        with pytest.raises(StoreError, match="begin"):
            write()
    assert store.last_id() == 3
    assert store.get([1])[0].state is State.PENDING


def test_a_turn_within_a_turn_is_an_error():
    store = _filled(None)
    store.begin(2)
    with pytest.raises(StoreError, match="second begin"):
        store.begin(3)


def test_a_claim_among_ten_thousand_is_quick():
    store = MemoryStore()
    store.begin(1)
    store.enqueue([Draft(Header("t", priority=level), b"") for level in range(10)] * 1000)
    store.commit()
    best = 1.0
    for now in range(2, 12):
        before = time.perf_counter()
        store.begin(now)
        assert len(store.claim(Want("w", 1))) == 1
        store.commit()
        best = min(best, time.perf_counter() - before)
    assert best < 0.02  # about 0.4 ms here; a scan of all tasks would cost more than this allows

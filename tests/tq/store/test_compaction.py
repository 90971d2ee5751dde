"""A compaction gives space back and changes nothing else: without a daemon, between two turns, and under whoever reads."""

from __future__ import annotations

import os
import subprocess
import sys
from math import inf
from pathlib import Path

import pytest

from tq.errors import ConfigError, Refused, StoreDamaged, StoreLocked
from tq.model import Header, State
from tq.store import Draft, Query, Want
from tq.store import lmdb as lmdb_store
from tq.store.compaction import compact, size_of
from tq.store.files import Lock, open_store
from tq.store.lmdb import LmdbStore
from tq.store.verify import verify

HEAD = Header("mail", key="k", unique="u")
PLAIN = Header("mail")


def grown(where: Path, kept: int = 20, gone: int = 400) -> LmdbStore:
    """A store that has had more in it than it has."""
    store = LmdbStore(where / "store")
    store.begin(1000)
    ids = store.enqueue([Draft(PLAIN, b"x" * 2000)] * (kept + gone))
    store.commit()
    store.begin(1001)
    store.remove(ids[kept:])
    store.enqueue([Draft(HEAD, b"named")])
    store.commit()
    return store


def payloads(store: LmdbStore) -> list[tuple[int, bytes, State]]:
    return [(one[0].id, one[0].spec.payload, one[0].state) for one in store.find(Query(limit=1000)) if one is not None]


def test_a_store_that_is_compacted_takes_less_and_holds_the_same(tmp_path: Path) -> None:
    store = grown(tmp_path)
    before, size = payloads(store), size_of(tmp_path / "store")
    store.close()
    found = compact(tmp_path)
    assert found.before == size
    assert found.after == size_of(tmp_path / "store") < size / 4
    store = LmdbStore(tmp_path / "store")
    assert payloads(store) == before
    store.close()
    assert verify(tmp_path) == []
    assert {path.name for path in tmp_path.iterdir()} == {"store", "lock"}
    assert (tmp_path / "store" / "data.mdb").stat().st_mode & 0o777 == 0o600


def test_a_store_goes_on_after_a_compaction_between_two_turns(tmp_path: Path) -> None:
    store = grown(tmp_path)
    store.begin(1002)
    held = store.claim(Want("w1", 5, inf))
    store.commit()
    before = payloads(store)
    found = store.compact()
    assert found.after < found.before / 4
    assert payloads(store) == before
    store.begin(1003)
    assert store.succeed([(one.id, one.claim, 1002, 1003, False, None) for one in held]) == [True] * 5
    (fresh,) = store.enqueue([Draft(PLAIN, b"later")])
    store.commit()
    assert fresh == before[0][0] + 1
    store.close()
    assert verify(tmp_path) == []


@pytest.mark.parametrize("state", [None, State.PENDING])
def test_a_list_that_is_read_while_the_store_is_compacted_is_whole(tmp_path: Path, state: State | None) -> None:
    store = grown(tmp_path, kept=350)
    query = Query(limit=1000, states=frozenset({state}) if state is not None else None)
    expected = [one[0].id for one in store.find(query) if one is not None]
    seen, paused = [], 0
    for one in store.find(query):
        if one is None:
            paused += 1
            store.compact()
        else:
            seen.append(one[0].id)
    assert (seen, paused > 2) == (expected, True)
    store.close()


def test_who_reads_the_old_file_reads_it_to_the_end(tmp_path: Path) -> None:
    """A verify or a backup is another process: it has the old file open, and must not take the new one's lock file for its own."""
    store = grown(tmp_path)
    code = """
import sys, pathlib
from tq.store.files import open_store
env, dbs = open_store(pathlib.Path(sys.argv[1]) / "store", readonly=True)
with env.begin() as txn:
    print("open", flush=True)
    sys.stdin.readline()
    print(sum(len(value) for _, value in txn.cursor(dbs["tasks"])), flush=True)
"""
    with subprocess.Popen([sys.executable, "-c", code, tmp_path], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as reader:
        assert reader.stdout is not None
        assert reader.stdin is not None
        assert reader.stdout.readline() == "open\n"
        store.compact()
        for turn in range(20):
            store.begin(2000 + turn)
            store.enqueue([Draft(PLAIN, b"y" * 3000)] * 10)
            store.commit()
        reader.stdin.write("\n")
        reader.stdin.flush()
        total = int(reader.stdout.readline())
    assert 40_000 < total < 45_000
    store.close()
    assert verify(tmp_path) == []


def test_a_reader_that_opens_a_store_as_it_is_replaced_opens_the_new_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from tq.store import files

    grown(tmp_path).close()
    real = files._open
    swapped: list[Path] = []

    def slow(path: Path, *args: object, **named: object) -> object:
        env = real(path, *args, **named)  # type: ignore[arg-type]
        if not swapped:  # the moment between the look at the path and that at what lies there
            swapped.append(path)
            os.rename(path, path.with_name("away"))
            os.rename(path.with_name("other"), path)
        return env

    store = LmdbStore(tmp_path / "other")
    store.begin(1000)
    store.enqueue([Draft(PLAIN, b"new")])
    store.commit()
    store.close()
    monkeypatch.setattr(files, "_open", slow)
    env, dbs = open_store(tmp_path / "store", readonly=True)
    with env.begin() as txn:
        assert txn.stat(dbs["tasks"])["entries"] == 1
    env.close()


# refusals


def test_a_running_daemons_store_is_left_to_the_daemon(tmp_path: Path) -> None:
    grown(tmp_path).close()
    lock = Lock(tmp_path)
    with pytest.raises(StoreLocked, match="stop it"):
        compact(tmp_path)
    lock.close()


def test_without_room_for_the_copy_nothing_is_changed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = grown(tmp_path)
    size, before = size_of(tmp_path / "store"), payloads(store)
    real = os.statvfs(tmp_path)
    monkeypatch.setattr(os, "statvfs", lambda _: type("Full", (), {"f_bavail": 70 << 8, "f_frsize": 1024, "f_blocks": real.f_blocks}))
    with pytest.raises(Refused, match=r"expected \d+ MiB of free space for a compact copy, got 17 MiB"):
        store.compact()
    assert (payloads(store), size_of(tmp_path / "store")) == (before, size)
    store.close()
    with pytest.raises(Refused, match="make room"):
        compact(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {"store", "lock"}


def test_more_than_callers_can_wait_for_is_left_to_a_daemon_that_is_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = grown(tmp_path)
    monkeypatch.setattr(lmdb_store, "COMPACT_MOST", 1000)
    with pytest.raises(Refused, match="Stop the daemon"):
        store.compact()
    store.close()


def test_where_there_is_no_store_none_is_made(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="found nothing"):
        compact(tmp_path)
    with pytest.raises(ConfigError, match="expected a data directory"):
        compact(tmp_path / "nowhere")
    assert not (tmp_path / "store").exists()


def test_a_damaged_store_is_not_compacted(tmp_path: Path) -> None:
    grown(tmp_path).close()
    data = tmp_path / "store" / "data.mdb"
    whole = data.read_bytes()
    with data.open("r+b") as file:
        file.seek(5 * 4096)
        file.write(b"\xff" * 4096 * 20)
    damaged = data.read_bytes()
    with pytest.raises(StoreDamaged, match="tq restore"):
        compact(tmp_path)
    assert data.read_bytes() == damaged != whole

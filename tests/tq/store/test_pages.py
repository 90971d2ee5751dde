"""A data file that was cut short is named before LMDB meets it, and no sound one is."""

from __future__ import annotations

import os
import random
import subprocess
import sys
from pathlib import Path

import lmdb
import pytest

from tq.errors import StoreDamaged
from tq.model import Header
from tq.store import Draft
from tq.store.files import backup, open_store
from tq.store.lmdb import LmdbStore
from tq.store.pages import cut_short

PAGE = 4096


def _data(path: Path) -> Path:
    return path / "data.mdb"


def _count(path: Path) -> int:
    """The pages that LMDB itself says there are."""
    with lmdb.open(str(path), max_dbs=20, readonly=True, lib_version=0) as env:
        return int(env.info()["last_pgno"]) + 1


def _store(path: Path, tasks: int = 3000) -> Path:
    store = LmdbStore(path)
    store.begin(1000)
    store.enqueue([Draft(Header("t"), b"x" * 300)] * tasks)
    store.commit()
    store.close()
    return _data(path)


@pytest.mark.parametrize("left", [3 * PAGE, 8 * PAGE, -1, -100 * PAGE])
def test_a_file_that_was_cut_short_is_refused_and_left_as_it_is(tmp_path: Path, left: int) -> None:
    data = _store(tmp_path / "store")
    whole = _count(tmp_path / "store") * PAGE
    os.truncate(data, left if left > 0 else whole + left)
    before = data.read_bytes()
    with pytest.raises(StoreDamaged, match=r"cut short: expected \d+ pages .* Restore a backup"):
        open_store(tmp_path / "store")
    with pytest.raises(StoreDamaged, match="cut short"):
        backup(tmp_path, tmp_path / "copy")
    assert data.read_bytes() == before


@pytest.mark.parametrize("left", [0, 1, 100, PAGE, PAGE + 10, 2 * PAGE])
def test_a_file_of_its_meta_pages_at_most_is_refused(tmp_path: Path, left: int) -> None:
    os.truncate(_store(tmp_path / "store", 10), left)
    with pytest.raises(StoreDamaged):
        open_store(tmp_path / "store")


def _churn(path: Path, chance: random.Random, turns: int) -> int:
    """Values of all sizes come and go in one environment; how many of its moments left the file shorter than its count."""
    short = 0
    with lmdb.open(str(path), map_size=1 << 28, max_dbs=2, lib_version=0, sync=False) as env:
        dbs = [env.open_db(name) for name in (b"a", b"b")]
        for _ in range(turns):
            with env.begin(write=True) as txn:
                for _ in range(chance.randrange(1, 200)):
                    key = b"%05d" % chance.randrange(400)
                    if chance.random() < 0.55:
                        txn.delete(key, db=chance.choice(dbs))
                    else:
                        txn.put(key, b"v" * chance.choice([10, 300, 3000, 9000, 60_000]), db=chance.choice(dbs))
                if chance.random() < 0.1:
                    txn.drop(chance.choice(dbs), delete=False)
            assert cut_short(_data(path)) is None
            short += _data(path).stat().st_size < (env.info()["last_pgno"] + 1) * PAGE
    return short


def test_no_moment_of_a_sound_file_is_refused_however_it_grows_and_shrinks(tmp_path: Path) -> None:
    for seed in (*range(4), 128):  # with 128 there is a moment when the file is shorter than its count
        _churn(tmp_path / str(seed), random.Random(seed), 60)


def test_a_sound_file_whose_last_pages_are_free_and_unwritten_is_taken(tmp_path: Path) -> None:
    """As LMDB leaves it when pages are freed in the transaction that took them: made here by cutting free pages off."""
    path = tmp_path / "store"
    with lmdb.open(str(path), map_size=1 << 28, max_dbs=2, lib_version=0) as env:
        db = env.open_db(b"a")
        for value in (b"v" * 60_000, *[None] * 6):
            with env.begin(write=True, db=db) as txn:
                for number in range(60):
                    txn.put(b"%d" % number, value) if value else txn.delete(b"%d" % number)
                txn.put(b"kept", b"x")
    os.truncate(_data(path), _data(path).stat().st_size - 20 * PAGE)
    assert _count(path) * PAGE > _data(path).stat().st_size
    assert cut_short(_data(path)) is None
    code = "import lmdb, sys\nwith lmdb.open(sys.argv[1], max_dbs=2, lib_version=0) as env:\n    db = env.open_db(b'a')\n"
    code += "    with env.begin(write=True, db=db) as txn:\n        txn.put(b'more', b'v' * 500_000)\n        print(txn.get(b'kept'))"
    done = subprocess.run([sys.executable, "-c", code, str(path)], capture_output=True, text=True, timeout=30, check=False)
    assert (done.returncode, done.stdout) == (0, "b'x'\n"), done.stderr

"""The store's directory: made whole or not at all, held by one daemon, copied while it is written."""

from __future__ import annotations

import errno
import os
import signal
import stat
import subprocess
import sys
import textwrap
from pathlib import Path

import lmdb
import pytest

from tq.errors import ConfigError, StoreDamaged, StoreError, StoreLocked, StoreTooNew
from tq.model import Header
from tq.store import Draft
from tq.store.files import FORMAT, NAMES, Lock, backup, open_store
from tq.store.lmdb import LmdbStore
from tq.store.verify import verify


def make(path: Path, tasks: int = 3) -> None:
    store = LmdbStore(path)
    store.begin(1000)
    store.enqueue([Draft(Header("t"), b"payload")] * tasks)
    store.commit()
    store.close()


def python(code: str, *argv: object) -> subprocess.Popen[str]:
    return subprocess.Popen([sys.executable, "-c", textwrap.dedent(code), *map(str, argv)], stdout=subprocess.PIPE, text=True)


# making it


def test_a_new_store_is_private_and_has_all_its_databases(tmp_path: Path) -> None:
    env, dbs = open_store(tmp_path / "store")
    env.close()
    assert set(dbs) == set(NAMES)
    assert stat.S_IMODE((tmp_path / "store").stat().st_mode) == 0o700
    assert stat.S_IMODE((tmp_path / "store" / "data.mdb").stat().st_mode) == 0o600
    assert [path.name for path in tmp_path.iterdir()] == ["store"]


def test_a_first_start_that_was_cut_short_is_made_again_from_the_beginning(tmp_path: Path) -> None:
    """Killed at each system call of the making that leaves a trace: what is there then opens, or is not there at all."""
    code = """
        import os, signal, sys
        from pathlib import Path
        from tq.store import files
        step = int(sys.argv[2])
        def die(name, real):
            def call(*args, **more):
                global step
                step -= 1
                if step == 0:
                    os.kill(os.getpid(), signal.SIGKILL)
                return real(*args, **more)
            return call
        steps = [(files.shutil, "rmtree"), (files.Path, "mkdir"), (files.lmdb, "open"), (files.os, "fsync"), (files.os, "rename")]
        for owner, name in steps:
            setattr(owner, name, die(name, getattr(owner, name)))
        files.open_store(Path(sys.argv[1]))
        print("made")
    """
    died = 0
    for step in range(1, 20):
        path = tmp_path / f"store{step}"
        with python(code, path, step) as process:
            assert process.stdout is not None
            made = process.stdout.read()
            if process.wait(30) == 0:
                assert made == "made\n"
                break
            assert process.returncode == -signal.SIGKILL
        died += 1
        env, dbs = open_store(path)
        env.close()
        assert set(dbs) == set(NAMES)
        assert not path.with_name(f"{path.name}.new").exists()
    assert died >= 5


def test_the_way_to_a_new_store_is_certain_before_the_store_has_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A power cut must not take directories that were made for it a moment ago."""
    seen: list[str] = []
    fsync, rename = os.fsync, os.rename

    def synced(fd: int) -> None:
        seen.append(os.readlink(f"/proc/self/fd/{fd}"))
        fsync(fd)

    def renamed(old: Path, new: Path) -> None:
        seen.append("renamed")
        rename(old, new)

    monkeypatch.setattr("tq.store.files.os.fsync", synced)
    monkeypatch.setattr("tq.store.files.os.rename", renamed)
    (tmp_path / "state" / "tq").mkdir(parents=True)
    open_store(tmp_path / "state" / "tq" / "store")[0].close()
    before = seen[: seen.index("renamed")]
    assert {str(tmp_path / "state" / "tq" / "store.new"), str(tmp_path / "state"), str(tmp_path)} <= set(before)
    assert str(tmp_path / "state" / "tq") in seen[seen.index("renamed") :]


def test_a_disk_without_room_for_a_store_is_told_as_that_and_not_as_damage(tmp_path: Path) -> None:
    code = """
        import resource, signal, sys
        from pathlib import Path
        from tq.errors import StoreError
        from tq.store.files import open_store
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[2]), resource.RLIM_INFINITY))
        try:
            open_store(Path(sys.argv[1]))
        except StoreError as error:
            print(type(error).__name__, error)
    """
    for size in (0, 4096, 8192, 16384):
        with python(code, tmp_path / "store", size) as process:
            assert process.stdout is not None
            words = process.stdout.read()
            assert process.wait(30) == 0
        assert words.startswith("StoreError "), words
        assert "Restore" not in words
        assert not (tmp_path / "store").exists()


def test_a_reader_makes_nothing(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="expected a store, found nothing"):
        open_store(tmp_path / "store", readonly=True)
    assert list(tmp_path.iterdir()) == []


# refusing what is not a store, and leaving it as it is


@pytest.mark.parametrize("content", [b"", b"no LMDB at all" * 1000, b"\0" * 8192])
def test_a_file_that_is_no_store_is_refused_and_left_as_it_is(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "store").mkdir()
    data = tmp_path / "store" / "data.mdb"
    data.write_bytes(content)
    with pytest.raises(StoreDamaged, match=r"expected .*(Restore|choose) "):
        open_store(tmp_path / "store")
    assert data.read_bytes() == content


def test_an_empty_directory_in_its_place_is_refused(tmp_path: Path) -> None:
    (tmp_path / "store").mkdir()
    with pytest.raises(StoreDamaged, match=r"expected data\.mdb"):
        open_store(tmp_path / "store")


def test_another_programs_lmdb_file_is_refused(tmp_path: Path) -> None:
    with lmdb.open(str(tmp_path / "store"), lib_version=0) as env, env.begin(write=True) as txn:
        txn.put(b"key", b"value")
    with pytest.raises(StoreDamaged):
        open_store(tmp_path / "store")


@pytest.mark.parametrize(("found", "error"), [(b"%d" % (int(FORMAT) + 1), StoreTooNew), (b"99", StoreTooNew), (b"one", StoreDamaged)])
def test_a_newer_or_unknown_format_is_refused_by_name(tmp_path: Path, found: bytes, error: type[Exception]) -> None:
    env, dbs = open_store(tmp_path / "store")
    with env.begin(write=True) as txn:
        txn.put(b"format", found, db=dbs["meta"])
    env.close()
    with pytest.raises(error):
        open_store(tmp_path / "store")
    assert found != FORMAT


@pytest.mark.parametrize("name", [name for name in NAMES if name != "meta"])
def test_a_database_that_is_gone_is_damage_and_is_not_made_anew(tmp_path: Path, name: str) -> None:
    env, dbs = open_store(tmp_path / "store")
    with env.begin(write=True) as txn:
        txn.drop(dbs[name])
    env.close()
    before = (tmp_path / "store" / "data.mdb").read_bytes()
    with pytest.raises(StoreDamaged, match="Nothing was changed"):
        open_store(tmp_path / "store")
    assert (tmp_path / "store" / "data.mdb").read_bytes() == before


def test_a_truncated_file_is_refused_or_named_by_verify(tmp_path: Path) -> None:
    make(tmp_path / "store", 2000)
    env, _ = open_store(tmp_path / "store")
    pages = env.info()["last_pgno"] + 1  # what lies behind them is kept for the ends of tasks
    env.close()
    os.truncate(tmp_path / "store" / "data.mdb", pages // 2 * 4096)
    assert verify(tmp_path)


# the lock


def test_a_second_daemon_is_refused_and_told_who_holds_the_directory(tmp_path: Path) -> None:
    lock = Lock(tmp_path)
    with pytest.raises(StoreLocked, match=rf"another daemon \(pid {os.getpid()}\) holds this directory"):
        Lock(tmp_path)
    lock.close()
    Lock(tmp_path).close()


def test_a_full_disk_keeps_no_daemon_from_its_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("tq.store.files.os.pwrite", full)
    lock = Lock(tmp_path)
    with pytest.raises(StoreLocked, match=r"another daemon \(pid unknown\)"):
        Lock(tmp_path)
    lock.close()


def test_the_lock_goes_with_the_process_and_its_file_stays(tmp_path: Path) -> None:
    code = """
        import sys, time
        from pathlib import Path
        from tq.store.files import Lock
        lock = Lock(Path(sys.argv[1]))
        print("held", flush=True)
        time.sleep(60)
    """
    with python(code, tmp_path) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(StoreLocked, match=rf"pid {holder.pid}\)"):
            Lock(tmp_path)
        holder.kill()
        holder.wait(10)
    assert (tmp_path / "lock").exists()
    Lock(tmp_path).close()


def test_a_lock_that_is_a_link_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "precious").write_text("keep me")
    (tmp_path / "lock").symlink_to(tmp_path / "precious")
    with pytest.raises(StoreError, match="symbolic links"):
        Lock(tmp_path)
    assert (tmp_path / "precious").read_text() == "keep me"


def test_no_descriptor_of_the_store_or_the_lock_reaches_a_child(tmp_path: Path) -> None:
    lock = Lock(tmp_path)
    env, _ = open_store(tmp_path / "store")
    try:
        # By exec without closing anything: only close-on-exec keeps a descriptor back.
        listing = "import os\nfor fd in os.listdir('/proc/self/fd'):\n    print(os.path.realpath(f'/proc/self/fd/{fd}'))"
        seen = subprocess.run([sys.executable, "-c", listing], close_fds=False, capture_output=True, text=True, check=True).stdout
    finally:
        env.close()
        lock.close()
    assert str(tmp_path) not in seen


# backup


def test_a_backup_is_a_data_directory_of_its_own_whole_and_private(tmp_path: Path) -> None:
    (tmp_path / "live").mkdir()
    make(tmp_path / "live" / "store")
    dest = backup(tmp_path / "live", tmp_path / "copy")
    assert dest == tmp_path / "copy"
    assert verify(dest) == []
    assert stat.S_IMODE((dest / "store" / "data.mdb").stat().st_mode) == 0o600
    assert stat.S_IMODE(dest.stat().st_mode) == 0o700
    store = LmdbStore(dest / "store")
    assert [task and task.spec.payload for task in store.get([1, 2, 3])] == [b"payload"] * 3
    store.close()


def test_a_backup_under_load_is_one_moment_of_the_store(tmp_path: Path) -> None:
    """The live store grows by groups of seven in each commit; a copy never holds a part of a group."""
    live = tmp_path / "live"
    live.mkdir()
    store = LmdbStore(live / "store")
    code = "import sys, pathlib; from tq.store.files import backup; backup(*map(pathlib.Path, sys.argv[1:]))"
    for number in range(3):
        with python(code, live, tmp_path / f"copy{number}") as copier:
            turns = 0
            while copier.poll() is None:
                turns += 1
                store.begin(1000 + turns)
                store.enqueue([Draft(Header("t"), b"x" * 500)] * 7)
                store.commit()
            assert copier.returncode == 0
        assert turns > 1
        copy = LmdbStore(tmp_path / f"copy{number}" / "store")
        assert copy.last_id() % 7 == 0
        assert 0 <= copy.last_id() <= store.last_id()
        copy.close()
        assert verify(tmp_path / f"copy{number}") == []
    store.close()


def test_a_backup_never_overwrites_and_leaves_nothing_half_done(tmp_path: Path) -> None:
    make(tmp_path / "store")
    (tmp_path / "there").mkdir()
    with pytest.raises(ConfigError, match="does not exist yet"):
        backup(tmp_path, tmp_path / "there")
    with pytest.raises(ConfigError, match="expected a directory to put the backup in"):
        backup(tmp_path, tmp_path / "nowhere" / "copy")
    with pytest.raises(ConfigError, match="expected a store, found nothing"):
        backup(tmp_path / "there", tmp_path / "copy")
    assert {path.name for path in tmp_path.iterdir()} == {"store", "there"}


def test_what_a_killed_backup_left_is_cleared_by_the_next(tmp_path: Path) -> None:
    make(tmp_path / "store")
    (tmp_path / "copy.part" / "store").mkdir(parents=True)
    (tmp_path / "copy.part" / "store" / "data.mdb").write_bytes(b"half")
    backup(tmp_path, tmp_path / "copy")
    assert not (tmp_path / "copy.part").exists()
    assert verify(tmp_path / "copy") == []

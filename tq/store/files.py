"""The files of the LMDB store: how they are made, opened, locked and copied.

For: the directory ``DATA_DIR/store``, its first start, the one-daemon lock, online backups.
Not for: what the records mean (lmdb.py), checks of DATA_DIR itself (config).
Runs in: the daemon; ``backup`` and ``read_only`` also in processes of the command line.
Promises: a store exists completely or not at all (made beside its place, synced, renamed); the lock is held for
life and its file never removed; no descriptor of the store is inherited by a child; the LMDB lock file is never
opened and closed by hand (POSIX locks of the whole process would go with it).
"""

from __future__ import annotations

import fcntl
import os
import shutil
from pathlib import Path

import lmdb

from tq.errors import ConfigError, StoreDamaged, StoreError, StoreLocked, StoreTooNew
from tq.store.pages import cut_short

FORMAT = b"1"
"""The format of the whole store; a record has a version of its own."""
NAMES = (
    "meta", "tasks", "states", "ready", "lanes", "running", "timers",
    "history", "tallies", "requests", "types", "queues", "chores", "names", "events",
)  # fmt: skip
MAP_SIZE = 64 << 30


class Lock:
    """An exclusive flock on DATA_DIR/lock, held for the life of the process."""

    def __init__(self, data_dir: Path) -> None:
        self._fd = os.open(data_dir / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            pid = os.pread(self._fd, 32, 0).decode(errors="replace").strip() or "unknown"
            os.close(self._fd)
            raise StoreLocked(
                f"{data_dir}: another daemon (pid {pid}) holds this directory. "
                "Use it (`tq daemon status`), stop it (`tq daemon stop`), or choose another --data-dir."
            ) from None
        os.ftruncate(self._fd, 0)
        os.pwrite(self._fd, b"%d\n" % os.getpid(), 0)

    def close(self) -> None:
        os.close(self._fd)


def _sync_directory(path: Path) -> None:
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def _open(path: Path, map_size: int, *, readonly: bool = False, create: bool = False) -> lmdb.Environment:
    before = set(os.listdir("/proc/self/fd"))
    try:
        env = lmdb.open(
            str(path), map_size=map_size, max_dbs=len(NAMES) + 3, max_readers=126, create=create, readonly=readonly, mode=0o600,
            sync=True, metasync=True, writemap=False, map_async=False, lock=True, meminit=True, max_spare_txns=0, lib_version=0,
        )  # fmt: skip
    except lmdb.Error as e:
        raise StoreDamaged(
            f"{path}: expected an LMDB 0.9 data file, got: {e}. Nothing was changed. Restore a backup, or choose another --data-dir."
        ) from e
    for name in set(os.listdir("/proc/self/fd")) - before:  # LMDB leaves its data file open across exec
        try:
            os.set_inheritable(int(name), False)
        except OSError:
            continue  # the descriptor of the listing itself
    return env


def _create(path: Path, map_size: int) -> None:
    """Make an empty store at ``path``, all or nothing."""
    fresh = path.with_name(path.name + ".new")
    shutil.rmtree(fresh, ignore_errors=True)  # what a crash at this point left behind
    fresh.mkdir(mode=0o700)
    env = _open(fresh, map_size, create=True)
    try:
        dbs = {name: env.open_db(name.encode()) for name in NAMES}
        with env.begin(write=True) as txn:
            txn.put(b"format", FORMAT, db=dbs["meta"])
            txn.put(b"engine", str(lmdb.version()).encode(), db=dbs["meta"])
        env.sync(True)
    finally:
        env.close()
    _sync_directory(fresh)
    os.rename(fresh, path)
    _sync_directory(path.parent)


Dbs = dict[str, lmdb._Database]


def open_store(path: Path, map_size: int = MAP_SIZE, *, readonly: bool = False) -> tuple[lmdb.Environment, Dbs]:
    """The environment at ``path`` and its databases; made if there is none (unless ``readonly``).

    StoreDamaged, StoreTooNew or ConfigError say why it cannot be used; nothing is changed then.
    """
    if not path.exists():
        if readonly:
            raise ConfigError(f"{path}: expected a store, found nothing. Start a daemon on this directory first.")
        _create(path, map_size)
    if not (path / "data.mdb").is_file() or (path / "data.mdb").stat().st_size == 0:
        raise StoreDamaged(f"{path}: expected data.mdb with a store in it, found none. Restore a backup or choose another --data-dir.")
    if lacks := cut_short(path / "data.mdb"):
        raise StoreDamaged(f"{path}: data.mdb was cut short: {lacks}. Nothing was changed. Restore a backup, or choose another --data-dir.")
    env = _open(path, map_size, readonly=readonly)
    try:
        with env.begin() as txn:
            meta = env.open_db(b"meta", txn=txn, create=False)
            found = txn.get(b"format", db=meta)
        if found is None or not found.isdigit():
            raise StoreDamaged(f"{path}: expected a store of tq, found another LMDB file. Choose another --data-dir.")
        if int(found) > int(FORMAT):
            raise StoreTooNew(f"{path}: expected store format {FORMAT.decode()} or older, got {found.decode()}. Use the tq that wrote it.")
        dbs = {name: env.open_db(name.encode(), create=not readonly) for name in NAMES}
    except lmdb.Error as e:
        env.close()
        raise StoreDamaged(f"{path}: the data file cannot be read: {e}. Nothing was changed. Restore a backup.") from e
    except StoreError:
        env.close()
        raise
    return env, dbs


def backup(data_dir: Path, dest: Path) -> Path:
    """Copy the store of a (running or stopped) daemon to the new directory ``dest``: consistent, compact, synced.

    The copy stands beside its place until it is whole; ``dest`` is then a data directory to start a daemon on.
    """
    if dest.exists():
        raise ConfigError(f"{dest}: expected a path that does not exist yet. Choose a new directory for the backup.")
    if not dest.parent.is_dir():
        raise ConfigError(f"{dest.parent}: expected a directory to put the backup in. Make it first.")
    part = dest.with_name(dest.name + ".part")
    shutil.rmtree(part, ignore_errors=True)
    env, _ = open_store(data_dir / "store", readonly=True)
    umask = os.umask(0o077)
    try:
        (part / "store").mkdir(parents=True)
        env.copy(str(part / "store"), compact=True)
        with open(part / "store" / "data.mdb", "rb") as file:
            os.fsync(file.fileno())
        _sync_directory(part / "store")
        _sync_directory(part)
        os.rename(part, dest)
        _sync_directory(dest.parent)
    finally:
        os.umask(umask)
        env.close()
        shutil.rmtree(part, ignore_errors=True)
    return dest

"""The files of the LMDB store: how they are made, opened, locked and copied.

For: the directory ``DATA_DIR/store``, its first start, the one-daemon lock, online backups, another store in its place.
Not for: what the records mean (lmdb.py), what is put in its place (compaction, restoring), checks of DATA_DIR itself (config).
Runs in: the daemon; ``backup`` and ``read_only`` also in processes of the command line.
Promises: a store exists completely or not at all (made beside its place, synced, renamed); the lock is held for
life and its file never removed; no descriptor of the store is inherited by a child; the LMDB lock file is never
opened and closed by hand (POSIX locks of the whole process would go with it).
"""

from __future__ import annotations

import fcntl
import os
import shutil
from contextlib import suppress
from pathlib import Path

import lmdb

from tq.errors import ConfigError, NotAllowed, StoreDamaged, StoreError, StoreLocked, StoreTooNew, TqError
from tq.store.pages import cut_short

FORMAT = b"6"
"""The format of the whole store; a record has a version of its own. A store of format 1 knew no schedules, one of format 2 no task
that waits for others and no environment beside its task, one of format 3 no resources, one of format 4 no standings and no limits,
one of format 5 no tenants, and nothing else is new."""
NAMES = (
    "meta", "tasks", "states", "ready", "lanes", "running", "timers",
    "history", "tallies", "requests", "types", "queues", "chores", "names", "events", "schedules", "children",
    "environments", "resources", "standings", "limits", "tokens", "tenants", "accounts",
)  # fmt: skip
NEW = {
    "schedules": 2,
    "children": 3,
    "environments": 3,
    "resources": 4,
    "standings": 5,
    "limits": 5,
    "tokens": 5,
    "tenants": 6,
    "accounts": 6,
}
"""Databases that stores of an older format do not have until a daemon opens them."""
MAP_SIZE = 64 << 30
COPIED = b"copied"
"""In meta, of a store that was copied while tasks ran, until a daemon has recovered them: nobody knows whether they had begun."""
COPY, OLD = "store.copy", "store.old"
PASSING = (COPY, OLD)
"""What lies beside a store while another is put in its place; of no use to anybody later."""


class Lock:
    """An exclusive flock on DATA_DIR/lock, held for the life of the process."""

    def __init__(self, data_dir: Path) -> None:
        try:
            self._fd = os.open(data_dir / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        except OSError as e:
            raise _unusable(data_dir / "lock", e) from e
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            pid = os.pread(self._fd, 32, 0).decode(errors="replace").strip() or "unknown"
            os.close(self._fd)
            raise StoreLocked(
                f"{data_dir}: another daemon (pid {pid}) holds this directory. "
                "Use it (`tq daemon status`), stop it (`tq daemon stop`), or choose another --data-dir."
            ) from None
        except OSError as e:
            os.close(self._fd)
            raise _unusable(data_dir / "lock", e) from e
        with suppress(OSError):  # it is for people to read: a full disk must not keep a daemon from settling what there is
            os.ftruncate(self._fd, 0)
            os.pwrite(self._fd, b"%d\n" % os.getpid(), 0)

    def close(self) -> None:
        os.close(self._fd)


def _unusable(path: Path, error: OSError) -> TqError:
    if isinstance(error, PermissionError):
        return NotAllowed(f"{path}: expected a file that this user may use, got: {error.strerror}. Run tq as the one whose it is.")
    return StoreError(f"{path}: expected a file that can be used, got: {error.strerror}. Nothing is lost; see to the disk, try again.")


def sync_directory(path: Path) -> None:
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def _sync_way(path: Path) -> None:
    """Make certain the names of ``path`` and of the directories above it that may be new: those are this user's."""
    uid, device = os.geteuid(), path.stat().st_dev
    while path != path.parent and path.stat().st_uid == uid and path.parent.stat().st_dev == device:
        path = path.parent
        with suppress(PermissionError):  # one that may not be listed is not new either
            sync_directory(path)


_SYSTEM = (lmdb.Error, lmdb.DiskError, lmdb.LockError, lmdb.MemoryError, lmdb.PanicError, lmdb.ReadersFullError)
"""What LMDB raises for troubles of the system, not of the file: an error of exactly one of these types."""


def unreadable(path: Path, error: lmdb.Error) -> StoreError:
    """What it means that the store at ``path`` cannot be opened or read."""
    if type(error) in _SYSTEM:
        return StoreError(
            f"{path}: expected a store that can be opened, got: {error}. Nothing was changed; see to the disk, then try again."
        )
    return StoreDamaged(
        f"{path}: expected an LMDB 0.9 data file, got: {error}. Nothing was changed. Restore a backup, or choose another --data-dir."
    )


def _open(path: Path, map_size: int, *, readonly: bool = False, create: bool = False) -> lmdb.Environment:
    before = set(os.listdir("/proc/self/fd"))
    try:
        env = lmdb.open(
            str(path), map_size=map_size, max_dbs=len(NAMES) + 3, max_readers=126, create=create, readonly=readonly, mode=0o600,
            sync=True, metasync=True, writemap=False, map_async=False, lock=True, meminit=True, max_spare_txns=0, lib_version=0,
        )  # fmt: skip
    except lmdb.Error as e:
        raise unreadable(path, e) from e
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
    except lmdb.Error as e:
        raise StoreError(f"{path}: expected to make a store, got: {e}. See to the disk, then try again.") from e
    finally:
        env.close()
    sync_directory(fresh)
    _sync_way(path.parent)
    os.rename(fresh, path)
    sync_directory(path.parent)


Dbs = dict[str, lmdb._Database]


def open_store(path: Path, map_size: int = MAP_SIZE, *, readonly: bool = False) -> tuple[lmdb.Environment, Dbs]:
    """The environment at ``path`` and its databases; made if there is none (unless ``readonly``).

    StoreDamaged, StoreTooNew, ConfigError or StoreError (the disk's troubles) say why it cannot be used; nothing is changed then.
    """
    try:
        return _open_store(path, map_size, readonly)
    except OSError as e:
        raise _unusable(path, e) from e


def _open_store(path: Path, map_size: int, readonly: bool) -> tuple[lmdb.Environment, Dbs]:
    if not readonly:
        end_switch(path)
        _tidy(path)
    if not path.exists():
        if readonly:
            words = "it is being replaced. Try again" if _switch(path).exists() else "found nothing. Start a daemon on this directory first"
            raise ConfigError(f"{path}: expected a store, {words}.")
        _create(path, map_size)
    place = path.stat()
    if not (path / "data.mdb").is_file() or (path / "data.mdb").stat().st_size == 0:
        raise StoreDamaged(f"{path}: expected data.mdb with a store in it, found none. Restore a backup or choose another --data-dir.")
    if lacks := cut_short(path / "data.mdb"):
        raise StoreDamaged(f"{path}: data.mdb was cut short: {lacks}. Nothing was changed. Restore a backup, or choose another --data-dir.")
    env = _open(path, map_size, readonly=readonly)
    try:
        with env.begin() as txn:
            meta = env.open_db(b"meta", txn=txn, create=False)
            found = txn.get(b"format", db=meta)
        if found is None or not found.isdigit() or not int(found):
            raise StoreDamaged(f"{path}: expected a store of tq, found another LMDB file. Choose another --data-dir.")
        if int(found) > int(FORMAT):
            raise StoreTooNew(f"{path}: expected store format {FORMAT.decode()} or older, got {found.decode()}. Use the tq that wrote it.")
        # One that is not there where it should be is damage: it must not be made, be it under a name that was damaged.
        dbs = {name: env.open_db(name.encode(), create=False) for name in NAMES if name not in NEW or int(found) >= NEW[name]}
        if found != FORMAT and not readonly:
            with env.begin(write=True) as txn:
                dbs |= {name: env.open_db(name.encode(), txn=txn) for name in NAMES if name not in dbs}
                txn.put(b"format", FORMAT, db=dbs["meta"])
    except lmdb.Error as e:
        env.close()
        raise unreadable(path, e) from e
    except StoreError:
        env.close()
        raise
    if readonly and not (path.exists() and os.path.samestat(path.stat(), place)):
        env.close()
        return open_store(path, map_size, readonly=True)  # it was replaced under our hands: the lock file may be the old one's
    return env, dbs


def copy_to(env: lmdb.Environment, fresh: Path) -> None:
    """Make the directory ``fresh`` with a compact and synced copy of what ``env`` has committed; nobody else may read it."""
    umask = os.umask(0o077)
    try:
        fresh.mkdir()
        env.copy(str(fresh), compact=True)
    finally:
        os.umask(umask)
    with open(fresh / "data.mdb", "rb") as file:
        os.fsync(file.fileno())
    sync_directory(fresh)


def mark_copied(path: Path) -> None:
    """Note in the store at ``path`` that it is a copy; lmdb.Error."""
    env = _open(path, MAP_SIZE)
    try:
        with env.begin(write=True) as txn:
            txn.put(COPIED, b"", db=env.open_db(b"meta", txn=txn, create=False))
    finally:
        env.close()


# another store in its place


def _switch(path: Path) -> Path:
    """The file that says that another store is being put in the place of that at ``path``, and where the old one goes."""
    return path.with_name(path.name + ".switch")


def is_there(path: Path) -> bool:
    """Whether there is a store at ``path``, be it one whose place is being taken."""
    return path.exists() or _switch(path).exists()


def put_in_place(path: Path, fresh: Path, aside: Path) -> None:
    """Let the store at ``fresh``, which is synced, take the place ``path``; what is there is called ``aside`` then.

    All three lie in one directory, and the lock is held. Killed at any moment, the next start finds the old store or the
    new one, whole, and so it does after a StoreError. It is a directory that is replaced, not its data file: LMDB's lock
    file belongs to one data file.
    """
    try:
        _put_in_place(path, fresh, aside)
    except OSError as e:
        raise _unusable(path, e) from e


def _put_in_place(path: Path, fresh: Path, aside: Path) -> None:
    if path.exists():
        with open(_switch(path), "w", encoding="utf-8") as note:
            note.write(aside.name)
            note.flush()
            os.fsync(note.fileno())
        sync_directory(path.parent)
        os.rename(path, aside)
        sync_directory(path.parent)
    os.rename(fresh, path)
    sync_directory(path.parent)
    end_switch(path)


def end_switch(path: Path) -> None:
    """Where putting a store in place was cut short between its two steps, put the old one back."""
    note = _switch(path)
    try:
        aside = note.read_text("utf-8")
    except FileNotFoundError:
        return
    if aside and not path.exists() and path.with_name(aside).is_dir():
        os.rename(path.with_name(aside), path)
        sync_directory(path.parent)
    note.unlink()
    sync_directory(path.parent)


def _tidy(path: Path) -> None:
    """Remove what a compaction or a restore that was cut short has left beside the store."""
    for name in PASSING if path.exists() and path.name not in PASSING else ():
        shutil.rmtree(path.with_name(name), ignore_errors=True)


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
    try:
        part.mkdir(mode=0o700)
        copy_to(env, part / "store")
        mark_copied(part / "store")
        sync_directory(part)
        os.rename(part, dest)
        sync_directory(dest.parent)
    except (OSError, lmdb.Error) as e:
        raise StoreError(f"{dest}: expected to write a backup, got: {e}. Nothing is left of it; see to its disk, then try again.") from e
    finally:
        env.close()
        shutil.rmtree(part, ignore_errors=True)
    return dest

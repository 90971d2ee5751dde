"""Restoring: the store of a backup in the place of an instance's own.

For: ``tq restore``.
Not for: making backups (files), the steps that make the exchange all or nothing (files), what happens to tasks that ran when
the backup was made (the broker, at the next start: they were interrupted).
Runs in: processes of the command line.
Promises: killed at any moment, the next start finds the old store or the restored one, whole; a backup that is not sound, is in
use or does not fit is refused before anything is changed; the old store is kept; no id is given again that the old one gave.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import struct
from pathlib import Path
from typing import NamedTuple

import lmdb

from tq.errors import ConfigError, Refused, StoreDamaged, StoreError, TqError
from tq.output import newest
from tq.store.files import COPIED, COPY, Lock, end_switch, open_store, put_in_place, sync_directory
from tq.store.keys import COUNTED, counters_of, counters_record
from tq.store.room import DISK_RESERVE
from tq.store.verify import broken_pages, broken_records

TOLD = 3
"""Problems of a damaged backup that its refusal names."""


class Restored(NamedTuple):
    """``tasks``: how many the restored store has; ``aside``: where the one before it lies now (None: there was none)."""

    tasks: int
    aside: Path | None


def restore(source: Path, data_dir: Path, stamp: str) -> Restored:
    """Put the store of the backup ``source`` in the place of that of ``data_dir``, whose daemon is stopped.

    What was there is kept as ``store.before-STAMP``. The backup is copied, and the copy checked, before anything is changed.
    ConfigError: ``source`` is no backup, or one in use; StoreDamaged: it is not sound; StoreTooNew; StoreLocked: a daemon runs.
    """
    if not (source / "store" / "data.mdb").is_file():
        raise ConfigError(f"{source}: expected a backup, a directory with store/data.mdb in it, got none. `tq backup DIR` makes one.")
    if source.samefile(data_dir):
        raise ConfigError(f"{source}: expected a backup, got the directory that it is to be restored into. Give another.")
    lock = Lock(data_dir)
    path, aside, fresh = data_dir / "store", data_dir / f"store.before-{stamp}", data_dir / COPY
    try:
        shutil.rmtree(fresh, ignore_errors=True)
        _fetch(source, fresh)
        if problems := broken_pages(fresh / "data.mdb") or broken_records(fresh):
            told = "; ".join(problems[:TOLD])
            raise StoreDamaged(f"{source}: expected a sound backup, got: {told}. Nothing was changed; try another one.")
        end_switch(path)
        tasks = _go_on_counting(fresh, data_dir)
        there = path.exists()
        put_in_place(path, fresh, aside)
        return Restored(tasks, aside if there else None)
    except (OSError, lmdb.Error) as error:
        raise StoreError(f"{data_dir}: expected to restore {source} into it, got: {error}. Nothing was changed.") from error
    finally:
        shutil.rmtree(fresh, ignore_errors=True)
        lock.close()


def _fetch(source: Path, fresh: Path) -> None:
    """Copy the data file of a backup that no daemon uses into the new directory ``fresh``, and sync it."""
    held = _hold(source)
    data = source / "store" / "data.mdb"
    try:
        found, size = os.statvfs(fresh.parent), data.stat().st_size
        if found.f_bavail * found.f_frsize < size + DISK_RESERVE:
            need, free = size + DISK_RESERVE >> 20, found.f_bavail * found.f_frsize >> 20
            text = f"{fresh.parent}: expected {need} MiB of free space, got {free} MiB. Nothing was changed; make room."
            raise Refused(text, retry_after=60.0)
        fresh.mkdir(mode=0o700)
        fd = os.open(fresh / "data.mdb", os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with open(data, "rb") as old, open(fd, "wb") as new:
            shutil.copyfileobj(old, new, 1 << 20)
            new.flush()
            os.fsync(fd)
        sync_directory(fresh)
    finally:
        if held >= 0:
            os.close(held)


def _hold(source: Path) -> int:
    """Keep daemons off a directory while it is copied: a descriptor to close, or -1 where none has ever run."""
    try:
        fd = os.open(source / "lock", os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except FileNotFoundError:
        return -1
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(fd)
        text = f"{source}: expected a backup, got the directory of a running daemon. Make one of it: `tq --data-dir {source} backup DIR`."
        raise ConfigError(text) from None
    return fd


def _go_on_counting(fresh: Path, data_dir: Path) -> int:
    """Let the ids of the store at ``fresh`` go on behind all that ``data_dir`` has given; how many tasks it has."""
    given = max(_last_id(data_dir / "store"), newest(data_dir / "logs"))
    env, dbs = open_store(fresh)
    try:
        with env.begin(write=True) as txn:
            last, *others = counters_of(txn.get(COUNTED, db=dbs["tallies"]))
            txn.put(COUNTED, counters_record(max(last, given), *others), db=dbs["tallies"])
            txn.put(COPIED, b"", db=dbs["meta"])
            tasks = int(txn.stat(dbs["tasks"])["entries"])
    finally:
        env.close()
    return tasks


def _last_id(path: Path) -> int:
    """The last id that the store at ``path`` gave; 0 if that cannot be read."""
    if not path.is_dir() or broken_pages(path / "data.mdb"):
        return 0
    try:
        env, dbs = open_store(path, readonly=True)
    except TqError:
        return 0
    try:
        with env.begin() as txn:
            return counters_of(txn.get(COUNTED, db=dbs["tallies"]))[0]
    except (lmdb.Error, struct.error, StoreDamaged):
        return 0
    finally:
        env.close()

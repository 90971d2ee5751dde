"""Compaction: the store written anew without its free pages, and put in its own place.

For: the copy that is put in place, whether there is room for it; the compaction of a store whose daemon is stopped.
Not for: the steps that make the exchange all or nothing (files), when a running daemon does it (lmdb, daemon).
Runs in: the daemon, between two turns, and processes of the command line.
Promises: killed at any moment, the next start finds the old store or the new one, whole; what does not fit or is not sound
is refused before anything is changed.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import NamedTuple

import lmdb

from tq.errors import ConfigError, Refused, StoreDamaged, StoreError
from tq.store.files import COPY, OLD, Dbs, Lock, copy_to, end_switch, is_there, open_store, put_in_place
from tq.store.room import DISK_RESERVE, live_bytes


class Sizes(NamedTuple):
    """Bytes of the store's file before and after a compaction."""

    before: int
    after: int


def compact_copy(env: lmdb.Environment, dbs: Dbs, path: Path) -> Path:
    """A compact, synced copy beside the store at ``path``. Refused: the disk has no room for it; nothing is left then."""
    with env.begin() as txn:
        need = live_bytes(txn, dbs) + DISK_RESERVE
    found = os.statvfs(path)
    if found.f_bavail * found.f_frsize < need:
        free = found.f_bavail * found.f_frsize >> 20
        text = f"{path}: expected {need >> 20} MiB of free space for a compact copy, got {free} MiB. Nothing was changed; make room."
        raise Refused(text, retry_after=60.0)
    fresh = path.with_name(COPY)
    shutil.rmtree(fresh, ignore_errors=True)
    shutil.rmtree(path.with_name(OLD), ignore_errors=True)
    try:
        copy_to(env, fresh)
    except (OSError, lmdb.Error) as error:
        shutil.rmtree(fresh, ignore_errors=True)
        raise Refused(f"{path}: expected to write a compact copy, got: {error}. Nothing was changed; look at its disk.") from error
    return fresh


def compact(data_dir: Path) -> Sizes:
    """Compact the store of a daemon that is stopped. StoreLocked: it runs; StoreDamaged: it is not sound, and was left as it is."""
    from tq.store.verify import broken_pages  # nothing for a daemon

    path = data_dir / "store"
    if not data_dir.is_dir():
        raise ConfigError(f"{data_dir}: expected a data directory, found none. Give another with --data-dir.")
    lock = Lock(data_dir)
    try:
        if not is_there(path):
            raise ConfigError(f"{path}: expected a store, found nothing. Start a daemon on this directory first.")
        end_switch(path)
        if problems := broken_pages(path / "data.mdb"):
            raise StoreDamaged(f"{path}: {problems[0]}. Nothing was changed; restore a backup: `tq restore DIR`.")
        env, dbs = open_store(path)
        try:
            before = size_of(path)
            fresh = compact_copy(env, dbs, path)
        finally:
            env.close()
        put_in_place(path, fresh, path.with_name(OLD))
        shutil.rmtree(path.with_name(OLD), ignore_errors=True)
        return Sizes(before, size_of(path))
    except (OSError, lmdb.Error) as error:
        raise StoreError(f"{path}: expected to compact it, got: {error}. Nothing is lost; see to its disk, then try again.") from error
    finally:
        lock.close()


def size_of(path: Path) -> int:
    """Bytes of the data file of the store at ``path``."""
    return (path / "data.mdb").stat().st_size

"""Room: how much the store may still take, and the refusal when it is too much.

For: limits of queues, free space of the disk, fill of LMDB's map.
Not for: what is stored.
Runs in: the daemon, inside the LMDB store.
Promises: new work is refused long before the disk or the map is full, so what is there can always be settled
(a full map refuses deletes too); looking costs two system calls a second, not one a turn.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from functools import wraps
from pathlib import Path
from typing import Any, TypeVar, cast

import lmdb

from tq.errors import PayloadError, Refused, StoreError
from tq.model import MAX_HEADER, Header
from tq.store import Draft, Limits, NoRoom, bounds, full
from tq.store.files import Dbs
from tq.store.lanes import Line

DISK_RESERVE = 64 << 20
"""Free bytes of the file system below which new work is refused."""
MAP_RESERVE = 16
"""One part in so many of the map is kept for settling: a turn of 512 tasks needs some 2,000 pages at the worst."""
CHECK_EVERY_MS = 1000
READERS_EVERY_MS = 60_000
PAGE = 4096


class Room:
    """The limits of one store; ``load`` has (tasks, payload bytes) of each queue's live tasks."""

    def __init__(self, path: Path, env: lmdb.Environment, dbs: Dbs, limits: Limits, map_size: int) -> None:
        self._path = path
        self._env = env
        self._dbs = dbs
        self._limits = limits
        self._map_size = map_size
        self._until = self._readers_until = 0
        self._full: str | None = None
        self.load: dict[str, list[int]] = {}

    def weigh(self, queue: str, tasks: int, size: int) -> None:
        load = self.load.setdefault(queue, [0, 0])
        load[0] += tasks
        load[1] += size

    def check(self, runs: Sequence[tuple[Header, Sequence[Draft]]], lines: Mapping[str, Line], txn: Any, now: int) -> None:
        """Refused or PayloadError unless all of ``runs`` may come in; ``lines`` may have limits of their own."""
        if now >= self._readers_until:
            self._readers_until = now + READERS_EVERY_MS
            self._env.reader_check()  # a backup or verify that was killed would pin its pages for ever
        if now >= self._until:
            self._until = now + CHECK_EVERY_MS
            self._full = self._look(txn)
        if self._full:
            raise Refused(f"no room for new tasks: {self._full}. Nothing was stored; make room, then try again.", retry_after=5.0)
        more: dict[str, tuple[int, int]] = {}
        for header, run in runs:
            if len(header.packed) > MAX_HEADER:
                raise PayloadError(
                    f"expected options and extras of at most {MAX_HEADER} bytes together, got {len(header.packed)}. "
                    "Put large data in the payload or in a file."
                )
            tasks, size = more.get(header.queue, (0, 0))
            more[header.queue] = tasks + len(run), size + sum([len(draft.payload) for draft in run])
        for queue, (tasks, size) in more.items():
            old_tasks, old_size = self.load.get(queue, (0, 0))
            most_tasks, most_size = bounds(lines[queue].info if queue in lines else None, self._limits)
            if old_tasks + tasks > most_tasks:
                raise full(queue, most_tasks, "tasks", old_tasks, tasks)
            if old_size + size > most_size:
                raise full(queue, most_size, "bytes of payload", old_size, size)

    def _free_bytes(self) -> int:
        found = os.statvfs(self._path)
        return found.f_bavail * found.f_frsize

    def _look(self, txn: Any) -> str | None:
        """Why nothing more comes in; None: there is room."""
        if self._free_bytes() < DISK_RESERVE:
            return f"less than {DISK_RESERVE >> 20} MiB are free on the disk of {self._path}"
        most = self._map_size - max(self._map_size // MAP_RESERVE, 256 * PAGE)
        used = (self._env.info()["last_pgno"] + 1) * PAGE
        if used > most:  # much of it may be free pages: count the live ones
            stats = [txn.stat(db) for db in self._dbs.values()]
            used = sum(s["branch_pages"] + s["leaf_pages"] + s["overflow_pages"] for s in stats) * PAGE
        return f"the store's map of {self._map_size >> 20} MiB is nearly full" if used > most else None

    def trouble(self, error: lmdb.Error) -> Exception:
        """What a failed write means: no room is a refusal (nothing of the turn was stored); all else ends the daemon."""
        full = isinstance(error, lmdb.MapFullError | lmdb.TxnFullError) or "No space left" in str(error) or "File too large" in str(error)
        if full or self._free_bytes() < DISK_RESERVE:  # a short write is reported as an I/O error
            text = f"the store has no room: {error}. Nothing was stored; make room on its disk, then try again."
            return NoRoom(text, retry_after=5.0)
        return StoreError(f"the store cannot be written: {error}. Nothing of this turn was stored. Check the disk, run `tq verify`.")


Method = TypeVar("Method", bound=Callable[..., Any])


def guarded(method: Method) -> Method:
    """A store's operation whose LMDB errors are told as what they mean (``Room.trouble``)."""

    @wraps(method)
    def call(store: Any, *args: Any, **named: Any) -> Any:
        try:
            return method(store, *args, **named)
        except lmdb.Error as error:
            raise store._room.trouble(error) from error

    return cast("Method", call)


def kinds(drafts: Sequence[Draft]) -> list[tuple[Header, Sequence[Draft]]]:
    """The drafts in runs of one kind: nearly always a single run."""
    if len(drafts) == 1:
        return [(drafts[0].header, drafts)]
    runs: list[tuple[Header, Sequence[Draft]]] = []
    start = 0
    for at, draft in enumerate(drafts):
        if draft.header is not drafts[start].header:
            runs.append((drafts[start].header, drafts[start:at]))
            start = at
    return [*runs, (drafts[start].header, drafts[start:])] if drafts else []

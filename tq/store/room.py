"""Room: how much the store may still take, and the refusal when it is too much.

For: limits of queues, free space of the disk, fill of LMDB's map, the bytes that lie ready for ends.
Not for: what is stored.
Runs in: the daemon, inside the LMDB store.
Promises: new work is refused long before the disk or the map is full, so what is there can always be settled
(a full map refuses deletes too); a full map forgets finished tasks before their time, those that failed only where others could
not end; looking costs some twenty calls a second, and so many a turn only where there is little.
"""

from __future__ import annotations

import logging
import os
import resource
from collections.abc import Callable, Mapping, Sequence
from functools import wraps
from pathlib import Path
from typing import Any, TypeVar, cast

import lmdb

from tq.errors import PayloadError, Refused, StoreError
from tq.model import MAX_HEADER, Header
from tq.store import Draft, Limits, NoRoom, Space, admit, bounds
from tq.store.files import Dbs
from tq.store.lines import Line
from tq.store.names import is_named

_log = logging.getLogger("tq.store")
DISK_RESERVE = 64 << 20
"""Free bytes of the file system below which new work is refused."""
MAP_RESERVE = 16
"""One part in so many of the map is kept for settling, but no less than ``TURN_BYTES``, or a quarter of a small map."""
TURN_BYTES = 8 << 20
"""What a turn of 512 ends takes at the worst."""
NO_SPACE = ("No space left", "File too large", "Disk quota exceeded")
"""How errors of the system say that there is no room."""
TASK_BYTES = 200
"""Of the map, taken by a task beside its payload: its header, its place in line, what pages lose."""
END_BYTES = 320
"""Of the map, kept for each task that is not over: its end and its place in the history take that much, and seldom more."""
ENTRY_BYTES = 64
"""Of the map, taken by an entry that only joins two things: a child and its parent, a task and its environment."""
BALLAST = 2 << 20
"""Bytes of the file that lie ready behind its last page: a disk that others fill lets tasks end."""
LAST_BYTES = 64 * 4096
"""Of the map, for forgetting: so much is never taken by anything that adds to what is there."""
A_SECOND = 64 << 20
"""More bytes than a daemon can write in a second."""
CHECK_EVERY_MS = 1000
MINUTE_MS = 60_000
PAGE = 4096


class Room:
    """The limits of one store; ``load`` has (tasks, payload bytes) of each queue's live tasks."""

    def __init__(self, path: Path, env: lmdb.Environment, dbs: Dbs, limits: Limits, map_size: int) -> None:
        self._path = path
        self._env = env
        self._dbs = dbs
        self._limits = limits
        most, _ = resource.getrlimit(resource.RLIMIT_FSIZE)
        self._map_size = map_size if most == resource.RLIM_INFINITY else min(map_size, most)
        self._until = self._readers_until = self._told = 0
        self._full: str | None = None
        self._left = self._came = self._live = 0
        self._refused = 0
        self.tight = self.short = False
        """Whether finished tasks go before their time: so that others can come, older ones that did not fail; so that others can
        end, any."""
        self.load: dict[str, list[int]] = {}

    def opened(self, env: lmdb.Environment) -> None:
        """The same store is open anew."""
        self._env = env
        self._until = self._readers_until = 0

    def weigh(self, queue: str, tasks: int, size: int) -> None:
        load = self.load.setdefault(queue, [0, 0])
        load[0] += tasks
        load[1] += size

    def check(self, runs: Sequence[tuple[Header, Sequence[Draft]]], lines: Mapping[str, Line], txn: Any, now: int) -> None:
        """Refused or PayloadError unless all of ``runs`` may come in; ``lines`` may have limits of their own."""
        self.look(txn, now)
        if self._full:
            raise _no_room(self._full)
        more: dict[str, tuple[int, int]] = {}
        beside = 0
        environments: set[bytes] = set()
        for header, run in runs:
            packed = max([len(draft.header.packed) for draft in run]) if is_named(header) else len(header.packed)
            if packed > MAX_HEADER:
                raise PayloadError(
                    f"expected options and extras of at most {MAX_HEADER} bytes together, got {packed}. "
                    "Put large data in the payload or in a file."
                )
            tasks, size = more.get(header.queue, (0, 0))
            more[header.queue] = tasks + len(run), size + sum([len(draft.payload) for draft in run])
            if header.parents:
                beside += ENTRY_BYTES * sum([len(draft.waits) for draft in run])
            if header.environment:
                beside += ENTRY_BYTES * len(run)
                environments.add(header.environment)
        self.admit(more, lines)
        came = sum(size + tasks * (TASK_BYTES + END_BYTES) for tasks, size in more.values()) + beside + sum(map(len, environments))
        if came > self._left:
            self._until = 0
            self.look(txn, now)
            if came > self._left:
                self._refused = min(came, self._map_size // MAP_RESERVE)
                raise _no_room(self._map_words())
        self._left -= came
        self._came += came

    def begin(self, txn: Any) -> None:
        """A turn begins: nothing has come in that does not stand in the store yet."""
        self._came = 0
        self._live = live_bytes(txn, self._dbs) if self.short else 0

    def end(self, txn: Any) -> None:
        """A turn is about to be committed: NoRoom if it would take the last pages, without which nothing can be forgotten either."""
        if self.short:
            live = live_bytes(txn, self._dbs)
            if live > max(self._map_size - LAST_BYTES, self._live):
                raise NoRoom("the store has no room: its map is full. Nothing was stored; let tasks end, or remove some.", retry_after=5.0)

    def _map_words(self) -> str:
        return f"the store's map of {self._map_size >> 20} MiB is nearly full"

    def admit(self, more: Mapping[str, tuple[int, int]], lines: Mapping[str, Line]) -> None:
        """QueueFull unless so many tasks and bytes of payload more fit into each of these queues."""
        for queue, came in more.items():
            admit(queue, self.load.get(queue, (0, 0)), came, bounds(lines[queue].info if queue in lines else None, self._limits))

    def _free_bytes(self) -> int:
        found = os.statvfs(self._path)
        return found.f_bavail * found.f_frsize

    def space(self, txn: Any) -> Space:
        """How much there is now."""
        return Space(self._free_bytes(), DISK_RESERVE, live_bytes(txn, self._dbs), map_reserve(self._map_size), self._map_size)

    def look(self, txn: Any, now: int) -> None:
        """Find out how much there is left, unless that was done a moment ago and was plenty."""
        if self._until - CHECK_EVERY_MS <= now < self._until:
            return
        if not self._readers_until - MINUTE_MS <= now < self._readers_until:
            self._readers_until = now + MINUTE_MS
            self._env.reader_check()  # a backup or verify that was killed would pin its pages for ever
        live, free = live_bytes(txn, self._dbs), self._free_bytes()
        reserve = map_reserve(self._map_size)
        ends = END_BYTES * sum(tasks for tasks, _ in self.load.values())
        in_map = self._map_size - reserve - live - self._came
        in_file = self._ready_bytes() - live + free - BALLAST // 2
        if free < DISK_RESERVE:
            self._full = f"less than {DISK_RESERVE >> 20} MiB are free on the disk of {self._path}"
        else:
            self._full = self._map_words() if in_map < ends else None
        self._left = in_map - ends
        self.tight = in_map - ends < max(reserve // MAP_RESERVE, self._refused)
        if not self.tight:
            self._refused = 0
        short = min(in_map, in_file) < 0
        if short and not self._told - MINUTE_MS <= now < self._told:
            self._told = now + MINUTE_MS
            _log.warning("there is little room for the ends of tasks: finished ones are forgotten before their time")
        self.short = short
        self._until = now + (CHECK_EVERY_MS if min(in_map - ends, in_file) > A_SECOND else 0)

    def _ready_bytes(self) -> int:
        """The size of the data file, which is made larger before it is used up."""
        used = (self._env.info()["last_pgno"] + 1) * PAGE
        most = min(used + BALLAST, self._map_size)
        fd = os.open(self._path / "data.mdb", os.O_RDWR | os.O_CLOEXEC)
        size = os.fstat(fd).st_size
        try:
            if size >= min(used + BALLAST // 2, most):
                return size
            os.posix_fallocate(fd, size, most - size)
        except OSError:  # there is no room for it now, or the file system cannot do it
            return size
        finally:
            os.close(fd)
        return most

    def trouble(self, error: lmdb.Error | SystemError) -> Exception:
        """What a failed write means: no room is a refusal (nothing of the turn was stored); all else ends the daemon."""
        full = isinstance(error, lmdb.MapFullError | lmdb.TxnFullError) or any(words in str(error) for words in NO_SPACE)
        if full or self._free_bytes() < DISK_RESERVE:  # a short write is reported as an I/O error
            text = f"the store has no room: {error}. Nothing was stored; make room on its disk, then try again."
            return NoRoom(text, retry_after=5.0)
        return StoreError(f"the store cannot be written: {error}. Nothing of this turn was stored. Check the disk, run `tq verify`.")


def _no_room(why: str) -> Refused:
    return Refused(f"no room for new tasks: {why}. Nothing was stored; make room, then try again.", retry_after=5.0)


def map_reserve(map_size: int) -> int:
    """Bytes of the map that new tasks may not take."""
    return max(map_size // MAP_RESERVE, min(TURN_BYTES, map_size // 4), 256 * PAGE)


def live_bytes(txn: Any, dbs: Dbs) -> int:
    """What the records take, free pages left out: about the size of a compact copy."""
    stats = [txn.stat(db) for db in dbs.values()]
    return PAGE * sum(int(s["branch_pages"] + s["leaf_pages"] + s["overflow_pages"]) for s in stats)


Method = TypeVar("Method", bound=Callable[..., Any])


def guarded(method: Method) -> Method:
    """A store's operation whose LMDB errors are told as what they mean (``Room.trouble``)."""

    @wraps(method)
    def call(store: Any, *args: Any, **named: Any) -> Any:
        try:
            return method(store, *args, **named)
        except (lmdb.Error, SystemError) as error:  # the latter is how a cursor's delete tells of a damaged page
            raise store._room.trouble(error) from error

    return cast("Method", call)


def kinds(drafts: Sequence[Draft]) -> list[tuple[Header, Sequence[Draft]]]:
    """The drafts in runs of one kind, whatever their names are: nearly always a single run. Each with the header of its first."""
    if len(drafts) == 1:
        return [(drafts[0].header, drafts)]
    runs: list[tuple[Header, Sequence[Draft]]] = []
    start = 0
    for at, draft in enumerate(drafts):
        header, first = draft.header, drafts[start].header
        if header is not first and not (
            header.lane is first.lane and header.priority == first.priority and header.parents is first.parents and is_named(first)
        ):
            runs.append((drafts[start].header, drafts[start:at]))
            start = at
    return [*runs, (drafts[start].header, drafts[start:])] if drafts else []

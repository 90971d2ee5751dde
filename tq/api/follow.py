"""Following a task's output: pushed as it is written, from any position, until the task is over.

For: ``watch`` with the topic "output": one follower is one connection's interest in one task.
Not for: writing output (the worker does), deciding when a task is over (``ended`` is called).
Runs in: the daemon, on the thread of its loop; inotify says when a file grows, so nothing polls.
Promises: every byte that is kept is pushed once, in order, and the last before the event that says ``end``; a follower
that does not keep up is slowed by its own connection, never the writer. Where the kernel gives no more watches (or no
inotify at all) nobody is refused: only then, and only while such a follower is there, its files are looked at ten times
a second.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tq import output, wire
from tq.loop import Loop

PIECE = 64 << 10
PIECES_A_TURN = 8
BEHIND = 256 << 10
"""Unsent bytes at which a follower waits until its client has read them."""
LOOK_MS = 100
"""How often the files of a task that could not be watched are looked at."""
_EVENT = struct.Struct("iIII")
_MODIFY, _MOVED_TO, _CREATE = 0x2, 0x80, 0x100


class _Inotify:
    """The kernel's notice of file changes; loaded at the first follower, since most daemons never have one."""

    def __init__(self) -> None:
        import ctypes

        self._libc = ctypes.CDLL(None, use_errno=True)
        self.fd: int = self._libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
        if self.fd < 0:
            raise OSError(ctypes.get_errno(), "inotify is not available")
        self._errno = ctypes.get_errno

    def watch(self, path: Path, mask: int) -> int:
        """A watch's number, 0 or above. FileNotFoundError: no such file (yet); another OSError: the kernel gives no more watches."""
        number = int(self._libc.inotify_add_watch(self.fd, os.fsencode(path), mask))
        if number < 0:
            raise OSError(self._errno(), "no watch")
        return number

    def forget(self, number: int) -> None:
        self._libc.inotify_rm_watch(self.fd, number)

    def read(self) -> list[tuple[int, str]]:
        """(watch, file name) of each change."""
        try:
            data = os.read(self.fd, 64 << 10)
        except BlockingIOError:
            return []
        found, at = [], 0
        while at < len(data):
            number, _, _, length = _EVENT.unpack_from(data, at)
            at += _EVENT.size
            found.append((number, data[at : at + length].split(b"\0", 1)[0].decode(errors="replace")))
            at += length
        return found


@dataclass(slots=True, eq=False)
class _Follower:
    """One follower: how far it is, and whether the task is over, so that it ends where the output does."""

    conn: int
    number: int
    task_id: int
    offset: int
    over: bool
    how: dict[str, Any] = field(default_factory=dict)


class Followers:
    """All followers of one daemon. ``send(conn, frame)`` and ``unsent(conn)``, in bytes, are the door's."""

    def __init__(self, loop: Loop, logs: Path, send: Callable[[int, bytes], None], unsent: Callable[[int], int]) -> None:
        self._loop = loop
        self._logs = logs
        self._send = send
        self._unsent = unsent
        self._inotify: _Inotify | None = None
        self._all: dict[int, list[_Follower]] = {}  # by task
        self._ready: dict[_Key, _Follower] = {}  # those for whom there is (or may be) something to push
        self._behind: dict[_Key, _Follower] = {}  # those that would be, if their clients read faster
        self._watches: dict[int, int] = {}  # inotify number -> task, 0 for a directory
        self._shards: dict[int, int] = {}  # shard -> inotify number of its directory
        self._unwatched: set[int] = set()  # tasks of whose output we may hear nothing
        self._look_at = 0

    @property
    def waiting(self) -> bool:
        return bool(self._ready)

    @property
    def due_at(self) -> int | None:
        """When ``look`` is to be called next, in ticks; None while every task that is followed is watched."""
        return self._look_at if self._unwatched else None

    def look(self, ticks: int) -> None:
        """It may be time to see whether the output of tasks without a watch has grown."""
        if self._unwatched and ticks >= self._look_at:
            self._look_at = ticks + LOOK_MS
            self._ready |= {_key(one): one for task_id in self._unwatched for one in self._all[task_id]}

    @property
    def tasks(self) -> set[int]:
        return set(self._all)

    def holds(self, conn: int) -> bool:
        """Whether the connection follows anything."""
        return any(one.conn == conn for followers in self._all.values() for one in followers)

    def add(self, conn: int, number: int, task_id: int, offset: int, over: bool) -> None:
        """Follow ``task_id`` from ``offset``; ``over``: it has ended, so push what there is and finish."""
        if not over:
            self._watch(task_id)
        one = _Follower(conn, number, task_id, offset, over)
        self._all.setdefault(task_id, []).append(one)
        self._ready[_key(one)] = one

    def _watch(self, task_id: int) -> None:
        shard = task_id // 1000
        directory = self._logs / str(shard)
        try:
            if self._inotify is None:
                self._inotify = inotify = _Inotify()
                self._loop.add(inotify.fd, lambda _: self._changed(inotify))
            if shard not in self._shards:
                directory.mkdir(mode=0o700, parents=True, exist_ok=True)
                self._shards[shard] = number = self._inotify.watch(directory, _CREATE | _MOVED_TO)
                self._watches[number] = 0
        except OSError:
            self._unwatched.add(task_id)
        else:
            self._watch_files(self._inotify, task_id)

    def _watch_files(self, inotify: _Inotify, task_id: int) -> None:
        for name in ("head", "tail"):
            try:
                self._watches[inotify.watch(self._logs / str(task_id // 1000) / f"{task_id}.{name}", _MODIFY)] = task_id
            except FileNotFoundError:
                pass  # its directory tells when it is there
            except OSError:
                self._unwatched.add(task_id)

    def _changed(self, inotify: _Inotify) -> None:
        for number, name in inotify.read():
            task_id = self._watches.get(number, -1)
            named = name.split(".")[0]
            if task_id == 0 and named.isdigit() and int(named) in self._all:
                task_id = int(named)
                self._watch_files(inotify, task_id)
            if number < 0:  # more happened than the kernel keeps: any file may have grown
                self._ready |= {_key(one): one for followers in self._all.values() for one in followers}
            self._ready |= {_key(one): one for one in self._all.get(task_id, ())}

    def push(self) -> None:
        """Push what has grown; more than a turn's share is left for the next, and who is behind waits for ``drained``."""
        ready, self._ready = self._ready, {}
        for key, one in ready.items():
            if self._unsent(one.conn) > BEHIND:
                self._behind[key] = one
            elif not self._push(one):
                self._ready[key] = one
            elif one.over:
                self._event(one, [], end=True)
                self._leave(one)

    def _push(self, one: _Follower) -> bool:
        """Push a turn's share; whether the reader has reached the end of what is written."""
        for _ in range(PIECES_A_TURN):
            chunks, after = output.read(self._logs, one.task_id, one.offset, PIECE)
            if after == one.offset and not chunks:
                return True
            one.offset = after
            self._event(one, [list(chunk) for chunk in chunks], end=False)
        return False

    def _event(self, one: _Follower, chunks: list[Any], *, end: bool) -> None:
        body = {"topic": "output", "id": one.task_id, "chunks": chunks, "next": one.offset, "end": end, **(one.how if end else {})}
        self._send(one.conn, wire.frame([one.number, wire.EVENT, body]))

    def ended(self, task_id: int, state: str, exit_code: int | None) -> None:
        """The task is over: push the rest, as fast as each client reads, and say so and how; by then nobody else may know it any more."""
        for one in self._all.get(task_id, ()):
            one.over, one.how = True, {"state": state, "exit_code": exit_code}
            if _key(one) not in self._behind:
                self._ready[_key(one)] = one

    def drained(self, conn: int) -> None:
        """The connection's client has taken all that waited for it."""
        for key in [key for key in self._behind if key[0] == conn]:
            self._ready[key] = self._behind.pop(key)

    def gone(self, conn: int) -> None:
        for one in [one for followers in self._all.values() for one in followers if one.conn == conn]:
            self._leave(one)

    def _leave(self, one: _Follower) -> None:
        """Forget a follower, and what only it needed watched."""
        self._ready.pop(_key(one), None)
        self._behind.pop(_key(one), None)
        self._all[one.task_id].remove(one)
        if self._all[one.task_id]:
            return
        del self._all[one.task_id]
        self._unwatched.discard(one.task_id)
        for number in [number for number, task_id in self._watches.items() if task_id == one.task_id]:
            self._forget(number)
        shard = one.task_id // 1000
        if shard in self._shards and not any(task_id // 1000 == shard for task_id in self._all):
            self._forget(self._shards.pop(shard))

    def _forget(self, number: int) -> None:
        del self._watches[number]
        if self._inotify is not None:
            self._inotify.forget(number)


_Key = tuple[int, int, int]


def _key(one: _Follower) -> _Key:
    return one.conn, one.number, one.task_id

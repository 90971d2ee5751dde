"""Following a task's output: pushed as it is written, from any position, until the task is over.

For: ``watch`` with the topic "output": one follower is one connection's interest in one task.
Not for: writing output (the worker does), deciding when a task is over (``ended`` is called).
Runs in: the daemon, on the thread of its loop; inotify says when a file grows, so nothing polls.
Promises: every byte that is kept is pushed once, in order, and the last before the event that says ``end``; a follower
that does not keep up is slowed by its own connection, never the writer.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tq import output, wire
from tq.errors import TqError
from tq.loop import Loop

PIECE = 64 << 10
PIECES_A_TURN = 8
_EVENT = struct.Struct("iIII")
_MODIFY, _MOVED_TO, _CREATE = 0x2, 0x80, 0x100


class _Inotify:
    """The kernel's notice of file changes; loaded at the first follower, since most daemons never have one."""

    def __init__(self) -> None:
        import ctypes

        self._libc = ctypes.CDLL(None, use_errno=True)
        self.fd: int = self._libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
        if self.fd < 0:
            raise TqError(f"inotify is not available: {os.strerror(ctypes.get_errno())}. Raise fs.inotify.max_user_instances.")

    def watch(self, path: Path, mask: int) -> int:
        """A watch's number, or -1 if there is no such file (yet)."""
        return int(self._libc.inotify_add_watch(self.fd, os.fsencode(path), mask))

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


class Followers:
    """All followers of one daemon. ``send(conn, frame)`` is the door's."""

    def __init__(self, loop: Loop, logs: Path, send: Callable[[int, bytes], None]) -> None:
        self._loop = loop
        self._logs = logs
        self._send = send
        self._inotify: _Inotify | None = None
        self._at: dict[tuple[int, int, int], int] = {}  # (connection, request number, task) -> offset
        self._grown: set[int] = set()  # tasks whose files changed
        self._watches: dict[int, int] = {}  # inotify number -> task, 0 for a directory

    @property
    def waiting(self) -> bool:
        return bool(self._grown)

    @property
    def tasks(self) -> set[int]:
        return {task_id for _, _, task_id in self._at}

    def add(self, conn: int, number: int, task_id: int, offset: int, over: bool) -> None:
        """Follow ``task_id`` from ``offset``; ``over``: it has ended, so push what there is and finish."""
        self._at[conn, number, task_id] = offset
        if over:
            self.ended(task_id)
            return
        if self._inotify is None:
            self._inotify = _Inotify()
            self._loop.add(self._inotify.fd, self._changed)
        shard = self._logs / str(task_id // 1000)
        shard.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._watches[self._inotify.watch(shard, _CREATE | _MOVED_TO)] = 0
        self._watch_files(task_id)
        self._grown.add(task_id)

    def _watch_files(self, task_id: int) -> None:
        for name in ("head", "tail"):
            number = self._inotify.watch(self._logs / str(task_id // 1000) / f"{task_id}.{name}", _MODIFY) if self._inotify else -1
            if number >= 0:
                self._watches[number] = task_id

    def _changed(self, _: int) -> None:
        followed = self.tasks
        for number, name in self._inotify.read() if self._inotify else ():
            task_id = self._watches.get(number, -1)
            if task_id == 0 and name.split(".")[0].isdigit() and int(name.split(".")[0]) in followed:
                task_id = int(name.split(".")[0])
                self._watch_files(task_id)
            if task_id > 0:
                self._grown.add(task_id)

    def push(self) -> None:
        """Push what has grown; more than a turn's share is left for the next."""
        grown, self._grown = self._grown, set()
        for key in [k for k in self._at if k[2] in grown]:
            if not self._push(key, PIECES_A_TURN):
                self._grown.add(key[2])

    def _push(self, key: tuple[int, int, int], pieces: int, end: bool = False) -> bool:
        """Push up to ``pieces`` events; whether the reader has reached the end of what is written."""
        conn, number, task_id = key
        for _ in range(pieces):
            offset = self._at.get(key)
            if offset is None:
                return True
            chunks, after = output.read(self._logs, task_id, offset, PIECE)
            if after == offset and not chunks:
                return True
            self._at[key] = after
            self._event(conn, number, {"id": task_id, "chunks": [list(chunk) for chunk in chunks], "next": after, "end": False})
        return False

    def _event(self, conn: int, number: int, body: dict[str, Any]) -> None:
        self._send(conn, wire.frame([number, wire.EVENT, {"topic": "output", **body}]))

    def ended(self, task_id: int) -> None:
        """The task is over: push the rest and say so."""
        for key in [k for k in self._at if k[2] == task_id]:
            self._push(key, 1 << 20)
            after = self._at.pop(key, None)
            if after is not None:
                self._event(key[0], key[1], {"id": task_id, "chunks": [], "next": after, "end": True})
        self._grown.discard(task_id)
        for number in [n for n, followed in self._watches.items() if followed == task_id]:
            del self._watches[number]
            if self._inotify is not None:
                self._inotify.forget(number)

    def gone(self, conn: int) -> None:
        for key in [k for k in self._at if k[0] == conn]:
            del self._at[key]

"""What tasks print: bounded files on disk, written by workers, read by the daemon, followed byte by byte.

For: keeping the head and the tail of each task's output within a limit, and giving readers a position to resume at.
Not for: capturing it (worker, shell), deciding how long it is kept (broker), colours or terminals (cli).
Runs in: the worker (writes) and the daemon (reads, removes).
Promises: what was written when ``write`` returned survives kill -9; a chunk cut short by a power cut is ignored and
what follows is sound; a full disk costs output, never the task; memory and disk are bounded by the limit.

The output of task 4711 lies in ``logs/4/4711.head`` (its first limit/2 bytes), ``4711.tail`` (the newest) and
``4711.old`` (the tail before it; each at most limit/4). What lay between is dropped. A file is

    segment    >4s "tqo1"   >Q start   >Q data before   >Q data in the head, then chunks
    chunk      >Q at_ms     >B stream  >I length        and that many bytes

An **offset** counts the bytes of chunks, their 13-byte heads included, since the task's first: it is a position in the
whole stream, whether that part is still kept or not. ``start`` is the offset of a segment's first chunk. Streams: 1 is
standard output, 2 standard error, 0 a note of tq's own.
"""

from __future__ import annotations

import errno
import os
import struct
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple, Self

SEGMENT = struct.Struct(">4sQQQ")
CHUNK = struct.Struct(">QBI")
MAGIC = b"tqo1"
NOTE, OUT, ERR = 0, 1, 2
LIMIT = 1 << 20
"""The bytes a task's output may take on disk, unless set otherwise."""
PIECE = 64 * 1024
"""The most bytes of one chunk."""
SMALL = 4096
"""A chunk up to this size (a line, that is) is never cut in two at the end of a segment."""
HEAD, TAIL, OLD = "head", "tail", "old"
_FLAGS = os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW

Chunk = tuple[int, int, bytes]


def _path(logs: Path, task_id: int) -> str:
    return f"{logs}/{task_id // 1000}/{task_id}."


class OutputWriter:
    """One attempt's way to its task's files; made at no cost, opened by the first byte. Any thread may write."""

    __slots__ = (
        "_attempt",
        "_before",
        "_data",
        "_end",
        "_fd",
        "_head_data",
        "_limit",
        "_lock",
        "_lost",
        "_path",
        "_start",
        "_why",
        "written",
    )

    def __init__(self, logs: Path, task_id: int, limit: int = LIMIT, attempt: int = 1) -> None:
        self._path = _path(logs, task_id)
        self._limit = limit
        self._attempt = attempt
        self._lock = threading.Lock()
        self._fd = -1
        self._start = 0  # the offset at which the open segment starts
        self._end = 0  # the offset behind the last chunk
        self._data = 0  # bytes of data before the end
        self._head_data: int | None = None  # of these, in the head; None while that is the open segment
        self._lost = 0
        self._why = ""
        self.written = False

    def write(self, stream: int, data: bytes | bytearray | memoryview, at_ms: int) -> None:
        """Append what a task printed at ``at_ms``. Never raises for the disk's troubles: they leave a note."""
        if not data:
            return
        with self._lock:
            self.written = True
            try:
                if self._fd < 0:
                    self._open(at_ms)
                if self._lost:
                    self._append(NOTE, f"{self._lost} bytes of output were lost: {self._why}\n".encode(), at_ms)
                    self._lost = 0
                self._append(stream, data, at_ms)
            except OSError as error:
                self._lost += len(data)
                self._why = error.strerror or str(error)

    def close(self) -> None:
        with self._lock:
            if self._fd >= 0:
                os.close(self._fd)
                self._fd = -1

    def _append(self, stream: int, data: bytes | bytearray | memoryview, at_ms: int) -> None:
        view, at, size = memoryview(data), 0, len(data)
        while at < size:
            limit = self._limit // 2 if self._head_data is None else self._limit // 4
            room = max(limit, CHUNK.size + 1) - (self._end - self._start) - CHUNK.size
            rest = size - at
            if room < min(rest, SMALL, limit // 4):
                self._rotate()
                continue
            take = min(rest, PIECE, room)
            whole = CHUNK.size + take
            if os.writev(self._fd, (CHUNK.pack(at_ms, stream, take), view[at : at + take])) != whole:
                self._mend()
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            at += take
            self._end += whole
            self._data += take

    def _mend(self) -> None:
        """Leave no torn chunk behind the last whole one."""
        os.ftruncate(self._fd, SEGMENT.size + self._end - self._start)

    def _open(self, at_ms: int) -> None:
        """Go on where the attempt before ended, or start the task's head."""
        os.makedirs(os.path.dirname(self._path), 0o700, exist_ok=True)
        newest = next((found for name in (TAIL, OLD, HEAD) if (found := _segment(self._path + name))), None)
        if newest is None:
            self._begin(HEAD)
        else:
            with newest:
                lengths = list(newest.lengths())
                self._start = newest.start
                self._end = newest.start + sum(lengths) + CHUNK.size * len(lengths)
                self._data = newest.before + sum(lengths)
                name = newest.path.rpartition(".")[2]
                self._head_data = None if name == HEAD else newest.head_data
            if name == OLD:
                self._begin(TAIL)
            else:
                self._fd = os.open(newest.path, _FLAGS)
                self._mend()
        if self._attempt > 1:
            self._append(NOTE, f"attempt {self._attempt}\n".encode(), at_ms)

    def _begin(self, name: str) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
        self._start = self._end
        self._fd = os.open(self._path + name, _FLAGS | os.O_CREAT | os.O_TRUNC, 0o600)
        os.write(self._fd, SEGMENT.pack(MAGIC, self._start, self._data, self._head_data or 0))

    def _rotate(self) -> None:
        """The segment is full: a new tail; the tail before it is the oldest that is kept."""
        if self._head_data is None:
            self._head_data = self._data
        else:
            os.replace(self._path + TAIL, self._path + OLD)
        self._begin(TAIL)


class _Segment(NamedTuple):
    path: str
    fd: int
    size: int  # bytes of chunks, the last perhaps torn
    start: int
    before: int
    head_data: int

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self.fd)

    def lengths(self) -> Iterator[int]:
        """The data lengths of the whole chunks."""
        for _, _, data in _chunks(os.pread(self.fd, self.size, SEGMENT.size)):
            yield len(data)


def _segment(path: str) -> _Segment | None:
    """The segment at ``path``, opened; None if there is none or its head was never finished."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except OSError:
        return None
    head = os.pread(fd, SEGMENT.size, 0)
    if len(head) == SEGMENT.size:
        magic, start, before, head_data = SEGMENT.unpack(head)
        if magic == MAGIC:
            return _Segment(path, fd, os.fstat(fd).st_size - SEGMENT.size, start, before, head_data)
    os.close(fd)
    return None


def _chunks(data: bytes) -> Iterator[Chunk]:
    """The whole chunks at the start of ``data``."""
    at, have = 0, len(data)
    while have - at > CHUNK.size:
        at_ms, stream, length = CHUNK.unpack_from(data, at)
        at += CHUNK.size + length
        if stream > ERR or length > PIECE or at > have:
            return
        yield at_ms, stream, data[at - length : at]


def read(logs: Path, task_id: int, offset: int = 0, limit_bytes: int = PIECE) -> tuple[list[Chunk], int]:
    """Chunks from ``offset`` on (0, or what an earlier call gave), about ``limit_bytes`` of them, and the next offset.

    Where output was dropped a note on stream 0 says how much. No output, no file: no chunks, and the same offset.
    """
    path = _path(logs, task_id)
    # The tail first: if it turns into the old one meanwhile, we have it open already and nothing is missed.
    found = [segment for name in (TAIL, OLD, HEAD) if (segment := _segment(path + name))]
    out: list[Chunk] = []
    try:
        head_read = False  # whether the offset is the end of the head: then the bytes dropped are known exactly
        for segment in sorted(found, key=lambda each: each.start):
            end = segment.start + segment.size
            if offset < end:
                if limit_bytes <= 0:
                    break
                gap = max(segment.start - offset, 0)
                offset += gap
                data = os.pread(segment.fd, max(limit_bytes, PIECE + CHUNK.size), SEGMENT.size + offset - segment.start)
                chunks = list(_chunks(data))
                if gap and chunks:
                    dropped = segment.before - segment.head_data if head_read else gap
                    out.append((chunks[0][0], NOTE, f"{dropped} bytes dropped\n".encode()))
                out += chunks
                whole = sum(CHUNK.size + len(chunk[2]) for chunk in chunks)
                limit_bytes -= whole
                offset += whole
                if offset + len(data) - whole < end:
                    break  # there is more in this segment than we took
            head_read = segment.start == 0 and offset == end
    finally:
        for segment in found:
            os.close(segment.fd)
    return out, offset


def size(logs: Path, task_id: int) -> int:
    """The offset behind the last byte on disk, 0 without output: a reader there has all there is."""
    for name in (TAIL, OLD, HEAD):
        segment = _segment(_path(logs, task_id) + name)
        if segment:
            with segment:
                return segment.start + segment.size
    return 0


def remove(logs: Path, task_id: int) -> bool:
    """Forget a task's output; whether there was any."""
    gone = False
    for name in (TAIL, OLD, HEAD):
        try:
            os.unlink(_path(logs, task_id) + name)
            gone = True
        except FileNotFoundError:
            pass
    return gone


def newest(logs: Path) -> int:
    """The highest id of a task whose output is kept; 0 if there is none."""
    try:
        groups = sorted((int(name) for name in os.listdir(logs) if name.isdecimal()), reverse=True)
        for group in groups:
            ids = [int(task_id) for name in os.listdir(f"{logs}/{group}") if (task_id := name.partition(".")[0]).isdecimal()]
            if ids:
                return max(ids)
    except FileNotFoundError:
        pass
    return 0

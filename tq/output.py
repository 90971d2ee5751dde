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

or, once the task is over and if it is worth it, that packed: each file by itself is written anew beside the old one, which it
then replaces, so that who dies meanwhile loses nothing, and who reads meanwhile sees no difference.

    packed     >4s "tqz1"   >Q start   >Q data before   >Q data in the head   >Q bytes of chunks, then blocks
    block      >I bytes of chunks      >I packed bytes  and these: whole chunks, compressed by zlib, each block by itself

An **offset** counts the bytes of chunks, their 13-byte heads included, since the task's first: it is a position in the
whole stream, whether that part is still kept or not. ``start`` is the offset of a segment's first chunk. Streams: 1 is
standard output, 2 standard error, 0 a note of tq's own. The note ``attempt 2`` stands before what that attempt wrote, and
again at the beginning of each file that it began.
"""

from __future__ import annotations

import errno
import os
import struct
import threading
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple, Self

SEGMENT = struct.Struct(">4sQQQ")
CHUNK = struct.Struct(">QBI")
MAGIC, PACKED = b"tqo1", b"tqz1"
TOTAL = struct.Struct(">Q")
BLOCK = struct.Struct(">II")
NOTE, OUT, ERR = 0, 1, 2
LIMIT = 1 << 20
"""The bytes a task's output may take on disk, unless set otherwise."""
PIECE = 64 * 1024
"""The most bytes of one chunk."""
SMALL = 4096
"""A chunk up to this size (a line, that is) is never cut in two at the end of a segment."""
HEAD, TAIL, OLD = "head", "tail", "old"
ASIDE = "pack"
"""A file that is being packed, or unpacked, and would take another's place."""
WORTH = 16 * 1024
"""A smaller file is not packed: the disk would hardly be freed of a block."""
BLOCK_MOST = 128 * 1024
_GAIN = 0.9
_LEVEL = 1
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

    def pack(self) -> None:
        """The task is over: compress what is large. Never raises for the disk's troubles: then it stays as it is."""
        with self._lock:
            for name in (HEAD, OLD, TAIL) if self._head_data is not None else (HEAD,):
                try:
                    _pack(self._path + name, self._path + ASIDE)
                except OSError:
                    _forget(self._path + ASIDE)

    def _append(self, stream: int, data: bytes | bytearray | memoryview, at_ms: int) -> None:
        view, at, size = memoryview(data), 0, len(data)
        while at < size:
            limit = self._limit // 2 if self._head_data is None else self._limit // 4
            room = max(limit, CHUNK.size + 1) - (self._end - self._start) - CHUNK.size
            rest = size - at
            if room < min(rest, SMALL, limit // 4):
                self._rotate()
                self._label(at_ms)
                continue
            take = min(rest, PIECE, room)
            self._put(stream, view[at : at + take], at_ms)
            at += take

    def _put(self, stream: int, data: bytes | memoryview, at_ms: int) -> None:
        """Write one chunk."""
        whole = CHUNK.size + len(data)
        if os.writev(self._fd, (CHUNK.pack(at_ms, stream, len(data)), data)) != whole:
            self._mend()
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        self._end += whole
        self._data += len(data)

    def _label(self, at_ms: int) -> None:
        """Say whose output follows, where that is not known from what stands before."""
        if self._attempt > 1:
            self._put(NOTE, f"attempt {self._attempt}\n".encode(), at_ms)

    def _mend(self) -> None:
        """Leave no torn chunk behind the last whole one."""
        os.ftruncate(self._fd, SEGMENT.size + self._end - self._start)

    def _open(self, at_ms: int) -> None:
        """Go on where the attempt before ended, or start the task's head."""
        os.makedirs(os.path.dirname(self._path), 0o700, exist_ok=True)
        newest = self._newest()
        if newest is None:
            self._begin(HEAD)
        else:
            if newest.packed:
                with newest:
                    _unpack(newest, self._path + ASIDE)
                newest = self._newest()
                assert newest is not None
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
        self._label(at_ms)

    def _newest(self) -> _Segment | None:
        return next((found for name in (TAIL, OLD, HEAD) if (found := _segment(self._path + name))), None)

    def _begin(self, name: str) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
        self._start = self._end
        fd = os.open(self._path + name, _FLAGS | os.O_CREAT | os.O_TRUNC, 0o600)
        try:
            head = SEGMENT.pack(MAGIC, self._start, self._data, self._head_data or 0)
            if os.write(fd, head) != len(head):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        except OSError:  # what follows could never be read
            os.close(fd)
            _forget(self._path + name)
            raise
        self._fd = fd

    def _rotate(self) -> None:
        """The segment is full: a new tail; the tail before it is the oldest that is kept."""
        if self._head_data is None:
            self._head_data = self._data
        else:
            _forget(self._path + OLD)  # a rename over it would make some file systems write what is renamed to disk at once
            os.replace(self._path + TAIL, self._path + OLD)
        self._begin(TAIL)


class _Segment(NamedTuple):
    path: str
    fd: int
    size: int  # bytes of chunks, the last perhaps torn
    start: int
    before: int
    head_data: int
    packed: bool

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self.fd)

    def lengths(self) -> Iterator[int]:
        """The data lengths of the whole chunks."""
        for _, _, data in _chunks(self.part(0, self.size)):
            yield len(data)

    def part(self, at: int, most: int) -> bytes:
        """The bytes of chunks from ``at`` on, all there are or ``most``; OSError where they are packed and damaged."""
        if not self.packed:
            return os.pread(self.fd, most, SEGMENT.size + at)
        found, place = bytearray(), SEGMENT.size + TOTAL.size
        while len(found) < most and (head := os.pread(self.fd, BLOCK.size, place)):
            raw, size = BLOCK.unpack(head) if len(head) == BLOCK.size else (BLOCK_MOST + 1, 0)
            if raw > BLOCK_MOST or size > BLOCK_MOST:
                raise OSError(errno.EIO, "a packed file is damaged")
            place += BLOCK.size
            if at < raw:
                found += _plain(os.pread(self.fd, size, place), raw)[at:]
            at = max(at - raw, 0)
            place += size
        return bytes(found[:most])


def _plain(data: bytes, size: int) -> bytes:
    """A block's bytes of chunks, which are so many."""
    block = zlib.decompressobj()
    try:
        plain = block.decompress(data, size + 1)
    except zlib.error as error:
        raise OSError(errno.EIO, str(error)) from error
    if len(plain) != size or not block.eof:  # its end, with the checksum, was not seen
        raise OSError(errno.EIO, "a packed file is damaged")
    return plain


def _segment(path: str) -> _Segment | None:
    """The segment at ``path``, opened; None if there is none or its head was never finished."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except OSError:
        return None
    head = os.pread(fd, SEGMENT.size + TOTAL.size, 0)
    if len(head) >= SEGMENT.size:
        magic, start, before, head_data = SEGMENT.unpack_from(head)
        if magic == MAGIC:
            return _Segment(path, fd, os.fstat(fd).st_size - SEGMENT.size, start, before, head_data, packed=False)
        if magic == PACKED and len(head) == SEGMENT.size + TOTAL.size:
            return _Segment(path, fd, TOTAL.unpack_from(head, SEGMENT.size)[0], start, before, head_data, packed=True)
    os.close(fd)
    return None


def _pack(path: str, aside: str) -> None:
    """Put a packed file in the place of a plain one, if that frees what it costs."""
    segment = _segment(path)
    if segment is None:
        return
    with segment:
        if segment.packed or segment.size < WORTH:
            return
        size = 0
        with open(aside, "wb", opener=_private) as file:
            file.write(SEGMENT.pack(PACKED, segment.start, segment.before, segment.head_data) + TOTAL.pack(0))
            while data := segment.part(size, BLOCK_MOST):
                data = data[: _whole(data)]
                packed = zlib.compress(data, _LEVEL)
                if not data or (not size and len(packed) > _GAIN * len(data)):
                    break
                file.write(BLOCK.pack(len(data), len(packed)) + packed)
                size += len(data)
            file.seek(SEGMENT.size)
            file.write(TOTAL.pack(size))
            file.flush()
            if size == segment.size:
                os.fdatasync(file.fileno())  # or a power cut could take what had been on disk for long
    if size == segment.size:
        os.replace(aside, path)
    else:  # it is noise, or its end is torn
        _forget(aside)


def _unpack(segment: _Segment, aside: str) -> None:
    """Put a plain file in the place of a packed one: more is to be written to it."""
    with open(aside, "wb", opener=_private) as file:
        file.write(SEGMENT.pack(MAGIC, segment.start, segment.before, segment.head_data))
        size = 0
        while data := segment.part(size, BLOCK_MOST):
            file.write(data)
            size += len(data)
    os.replace(aside, segment.path)


def _private(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)


def _forget(path: str) -> bool:
    try:
        os.unlink(path)
    except OSError:
        return False
    return True


def _chunks(data: bytes) -> Iterator[Chunk]:
    """The whole chunks at the start of ``data``."""
    at, have = 0, len(data)
    while have - at > CHUNK.size:
        at_ms, stream, length = CHUNK.unpack_from(data, at)
        at += CHUNK.size + length
        if stream > ERR or length > PIECE or at > have:
            return
        yield at_ms, stream, data[at - length : at]


def _whole(data: bytes) -> int:
    """The bytes of the whole chunks at the start of ``data``."""
    at, have, unpack, head = 0, len(data), CHUNK.unpack_from, CHUNK.size
    while have - at > head:
        _, stream, length = unpack(data, at)
        if stream > ERR or length > PIECE or at + head + length > have:
            break
        at += head + length
    return at


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
                try:
                    data = segment.part(offset - segment.start, max(limit_bytes, PIECE + CHUNK.size))
                except OSError as error:
                    out.append((out[-1][0] if out else 0, NOTE, f"{end - offset} bytes cannot be read: {error.strerror}\n".encode()))
                    offset = end
                    continue
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
    path = _path(logs, task_id)
    return sum(_forget(path + name) for name in (ASIDE, TAIL, OLD, HEAD)) > 0


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

"""What a task prints, on its way to the task's files.

For: ``sys.stdout`` and ``sys.stderr`` that belong to whichever task prints, and descriptors 1 and 2 for what writes
     past them (C libraries, child processes).
Not for: the files themselves (output), commands (shell has pipes of its own).
Runs in: the worker.
Promises: a line is on disk when ``print`` returned; a line without an end is there after 0.25 s, a flush, or the task's
end; output outside of any task goes to the process's real standard error; a full file or disk never fails a task.

Descriptors 1 and 2 are only taken where one task runs at a time: they cannot be told apart otherwise. They point to
files without a name rather than pipes, because C code that fills a pipe while it holds the interpreter would wait for
a reader that can never run.
"""

from __future__ import annotations

import ctypes
import fcntl
import io
import os
import sys
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from tq.context import Context, running
from tq.model import Spec
from tq.output import ERR, LIMIT, NOTE, OUT, OutputWriter
from tq.signature import results_of
from tq.worker.progress import Progress

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing_extensions import Buffer

    from tq.client.batches import Batch

LONGEST_LINE = 8192
"""Bytes without a line end that are written all the same."""
_PUNCH = 0x3  # FALLOC_FL_KEEP_SIZE | FALLOC_FL_PUNCH_HOLE
_READ = 256 * 1024

libc = ctypes.CDLL(None, use_errno=True)
_lock = threading.RLock()  # a finalizer may print while its own thread is in here


class Run(Context):
    """A task that runs in this worker: what its handler may know, and what the worker needs to end it well.

    ``stop`` interrupts it, where that can be done: a command, a coroutine. ``pause`` suspends it (True) or lets it go on:
    a command. ``stopped``: Stopped was raised in it; ``overdue``: it would have been, but for what is being written.
    """

    __slots__ = ("_lines", "_progress", "claim", "over", "overdue", "pause", "stop", "stopped", "suspended", "writer")

    def __init__(self, spec: Spec, attempt: int, started_at: int, claim: int, failures: int) -> None:
        self.spec = spec
        self.attempt = attempt
        self.started_at = started_at
        self.failures = failures
        self.claim = claim
        self.cancelled = False
        self.over = self.overdue = self.stopped = self.suspended = False
        self.stop: Callable[[], object] | None = None
        self.pause: Callable[[bool], object] | None = None
        self.writer: OutputWriter | None = None
        self._lines: dict[int, bytes] | None = None
        self._progress: Progress | None = None

    def _results(self) -> Mapping[int, Any]:
        return results_of(self.spec.header.parents)

    def _batch(self, number: int) -> Batch:
        from tq.client import default

        return default().get_batch(number)

    def _report(self, fraction: float, text: str) -> None:
        if self._progress is None:
            self._progress = Progress(_tell, _soon, self.spec.id, self.claim)
        self._progress.say(fraction, text)

    def look(self) -> None:
        """Pass on what the task printed and said and nobody has seen yet."""
        self.flush()
        if self._progress is not None:
            self._progress.look()

    def note(self, text: str) -> None:
        """Put a word of tq's own into the task's log."""
        self.output().write(NOTE, f"{text}\n".encode("utf-8", "backslashreplace"), time.time_ns() // 1_000_000)

    def output(self) -> OutputWriter:
        """The way to the task's files, made when it is first needed."""
        with _lock:
            if self.writer is None:
                self.writer = OutputWriter(_logs, self.spec.id, _limit, self.attempt)
            return self.writer

    def say(self, stream: int, data: bytes) -> None:
        """Take what the task printed; whole lines go to disk at once."""
        with _lock:
            lines = self._lines = self._lines or {}
            data = lines.get(stream, b"") + data
            cut = len(data) if len(data) > LONGEST_LINE else data.rfind(b"\n") + 1
            lines[stream] = data[cut:]
            if cut:
                self.output().write(stream, data[:cut], time.time_ns() // 1_000_000)

    def flush(self) -> None:
        """Write lines without an end, too."""
        with _lock:
            for stream, rest in (self._lines or {}).items():
                self.output().write(stream, rest, time.time_ns() // 1_000_000)
            self._lines = None

    def end(self) -> bool:
        """The task prints no more; whether it did."""
        self.over = True
        if self._progress is not None:
            self._progress.end()
        if self._lines:
            self.flush()
        if self.writer is None:
            return False
        self.writer.close()
        return self.writer.written


def catch_up(run: Run) -> None:
    """Called when an overdue task has written something; ``tq.worker.stopping`` puts its own in this place."""


_logs = Path()
_limit = LIMIT
_real = 2


def _nobody(*_: object) -> None:
    """Who hears of progress before a worker has said who."""


_tell: Callable[[list[Any]], object] = _nobody
_soon: Callable[[], object] = _nobody


class _Stream(io.RawIOBase):
    """The bytes behind ``sys.stdout`` or ``sys.stderr``: to the task that prints, or to the real standard error."""

    def __init__(self, number: int) -> None:
        self._number = number

    def writable(self) -> bool:
        return True

    def fileno(self) -> int:
        return self._number

    def write(self, data: Buffer, /) -> int:
        data = bytes(data)
        run = running()
        if isinstance(run, Run) and not run.over:
            run.say(self._number, data)
            if run.overdue:
                catch_up(run)
        else:
            aside(data)
        return len(data)

    def close(self) -> None:
        """Stays open: a handler that closes ``sys.stdout`` must not silence the tasks after it."""

    def flush(self) -> None:
        run = running()
        if isinstance(run, Run) and not run.over:
            run.flush()


def aside(data: bytes) -> None:
    """Output that belongs to no task."""
    try:
        os.write(_real, data)
    except OSError:  # nobody is left to read it
        pass


def listen(tell: Callable[[list[Any]], object], soon: Callable[[], object]) -> None:
    """From now on what tasks say of their progress goes to ``tell``; ``soon`` asks for a look at those who keep something."""
    global _tell, _soon
    _tell, _soon = tell, soon


def install(logs: Path, limit: int) -> None:
    """Give ``sys.stdout`` and ``sys.stderr`` to tasks. Before the application is imported: its loggers keep them."""
    global _logs, _limit, _real
    _logs, _limit = logs, limit
    _real = os.dup(2)
    sys.stdout, sys.stderr = (
        io.TextIOWrapper(_Stream(number), "utf-8", "backslashreplace", newline="", write_through=True)  # type: ignore[type-var]
        for number in (OUT, ERR)
    )


class Descriptors:
    """Descriptors 1 and 2 as files without a name, and what was written to them since we last looked."""

    def __init__(self, directory: Path) -> None:
        self._fds = [_nameless(directory), _nameless(directory)]
        self._seen = [0, 0]
        self._freed = [0, 0]  # up to where the disk space was given back
        for number, fd in zip((OUT, ERR), self._fds, strict=True):
            os.dup2(fd, number)

    def waiting(self) -> bool:
        """Whether something was written: two system calls, so it can be asked after each task."""
        out, err = self._fds
        return os.lseek(out, 0, os.SEEK_END) != self._seen[0] or os.lseek(err, 0, os.SEEK_END) != self._seen[1]

    def drain(self, run: Run | None) -> None:
        """Give what was written to ``run``, or to the real standard error."""
        with _lock:
            for which, fd in enumerate(self._fds):
                seen = self._seen[which]
                while data := os.pread(fd, _READ, seen):
                    seen += len(data)
                    if run is None or run.over:
                        aside(data)
                    else:
                        run.output().write(which + OUT, data, time.time_ns() // 1_000_000)
                    if seen - self._freed[which] >= _READ:
                        # The position only grows, so nobody's write is lost; the disk space behind it is given back.
                        libc.fallocate(fd, _PUNCH, ctypes.c_long(0), ctypes.c_long(seen))
                        self._freed[which] = seen
                self._seen[which] = seen


def _nameless(directory: Path) -> int:
    """An empty file that has no name, every write at its end; in memory where the file system cannot do that."""
    try:
        return os.open(directory, os.O_TMPFILE | os.O_RDWR | os.O_APPEND | os.O_CLOEXEC, 0o600)
    except OSError:
        fd = os.memfd_create("tq-output", os.MFD_CLOEXEC)
        fcntl.fcntl(fd, fcntl.F_SETFL, os.O_APPEND)
        return fd

"""The built-in handler of commands: one command, its output on disk, its exit code, and nothing left behind.

For: the ``shell`` type; ``tq.launch`` has its payload and its extras.
Not for: shell syntax (``sh -c`` is a command like any other), how it is started (launch), deciding about retries or timeouts.
Runs in: the worker, on the thread of the slot that runs the command.
Promises: the command leads a session of its own and stands on the worker's board before it can be forgotten; memory
is bounded however much it prints; it is over when its leader is, whatever background children keep open; a cancel
is TERM to its group, then KILL of all it started after the grace; one that cannot be watched is ended, not left to run.
Its standard input is empty, unless it is interactive or has a terminal: then what is sent to it (``tq.inlet``) comes at its own pace.

Exit codes as a shell gives them: 127 not found, 126 found but not to be run, 128 + n killed by signal n. The command
finds ``TQ_TASK_ID``, ``TQ_ATTEMPT`` (counted from 1), ``TQ_DATA_DIR`` and, if it runs after other tasks, ``TQ_PARENTS`` (their ids,
with spaces between: ``tq result ID`` says what one gave) in its environment, ``TQ_BATCH`` if it is of a batch or sent for one, and
``TQ_COMMAND``, a mark by which it is found if its worker dies while it starts it, and what it started with ``setsid`` if it must end
before its time.
"""

from __future__ import annotations

import os
import select
import signal
import subprocess
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

from tq import spool
from tq.board import Board, end_command, start_ticks
from tq.inlet import Feed, Inlet, set_size
from tq.launch import Launch
from tq.model import Spec, batch_of, safe_text
from tq.output import ERR, OUT, OutputWriter

CHUNK = 64 * 1024
NOT_FOUND, NOT_RUN = 127, 126
FOREVER = float("inf")
SPAWNING = threading.Lock()
"""Held from before a command is started until it stands on the board: who kills what is on the board takes it first."""


class Ended(NamedTuple):
    """How a command ended; ``message`` is empty for exit code 0. Whether that is a success, ``Launch.ok`` says."""

    exit_code: int
    message: str


class _Streams:
    """The standard streams of one command: nothing to read and two pipes; or an inlet; or a terminal."""

    def __init__(self) -> None:
        self.written: dict[int, int] = {}
        """What the command writes to: our descriptors, and which stream each is."""
        self._inlet: Inlet | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._ours: list[int] = []  # to be closed
        self._target = -1  # what is sent to the command goes there
        self._feed: Feed | None = None
        self._tty = False

    def given(self, launch: Launch, run: Path, task_id: int) -> dict[str, Any]:
        """What it is started with. OSError: there is no terminal, or no descriptor, to be had."""
        if launch.tty or launch.interactive:
            self._inlet = Inlet(run, task_id)
        if launch.tty:
            self._tty = True
            master, slave = os.openpty()
            self._ours += [master, slave]
            set_size(slave, *launch.tty)
            self._target = os.dup(master)
            self.written[master] = OUT
            return {"stdin": slave, "stdout": slave, "stderr": slave, "terminal": os.ttyname(slave)}
        source = subprocess.DEVNULL
        if launch.stdin is not None:
            try:
                source = spool.opened(str(run.parent), launch.stdin)
            except OSError as error:
                raise OSError(0, f"expected what it is to read ({launch.stdin} in stdin/), found none: {error.strerror}") from None
            self._ours.append(source)
        elif launch.interactive:
            source, self._target = os.pipe()
            self._ours.append(source)
        return {"stdin": source, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}

    def begin(self, process: subprocess.Popen[bytes]) -> None:
        """It has been started."""
        self._process = process
        for stream, number in ((process.stdout, OUT), (process.stderr, ERR)):
            if stream is not None:
                self.written[stream.fileno()] = number
        if not self._tty:  # of a terminal one end stays open here: it must outlive what opens and closes it
            self._close_ours()

    def feed(self, poll: select.poll) -> Feed | None:
        if self._inlet is None:
            return None
        target, self._target = self._target, -1
        self._feed = Feed(self._inlet, target, poll, self._tty)
        return self._feed

    def close(self) -> None:
        if self._feed is not None:
            self._feed.close()
        if self._inlet is not None:
            self._inlet.close()
        if self._target >= 0:
            os.close(self._target)
        self._close_ours()
        for stream in (self._process.stdout, self._process.stderr) if self._process is not None else ():
            if stream is not None:
                stream.close()

    def _close_ours(self) -> None:
        while self._ours:
            os.close(self._ours.pop())


class Command:
    """One run of one command. ``run`` belongs to one thread; ``cancel`` and ``suspend`` may come from any other."""

    def __init__(self, spec: Spec, launch: Launch, attempt: int, data_dir: Path, output: OutputWriter, board: Board, grace_ms: int) -> None:
        self._launch = launch
        self._mark = int.from_bytes(os.urandom(8), "big") | 1
        self._own = {"TQ_TASK_ID": str(spec.id), "TQ_ATTEMPT": str(attempt), "TQ_DATA_DIR": str(data_dir), "TQ_COMMAND": f"{self._mark:x}"}
        if spec.header.parents:
            self._own["TQ_PARENTS"] = " ".join(map(str, spec.header.parents))
        if batch := batch_of(spec.header):
            self._own["TQ_BATCH"] = str(batch)
        self._task = spec.id
        self._run_dir = data_dir / "run"
        self._output = output
        self._board = board
        self._grace_ms = grace_ms
        self._wake = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._lock = threading.Lock()
        self._asked = self._over = self._suspended = False
        self._pgid = 0  # while it has a process to which signals may go

    def cancel(self) -> None:
        """Ask it to end: TERM to its group now (and CONT, if it was suspended), KILL to all it started when the grace is over."""
        with self._lock:
            if not self._over:
                self._asked = True
                os.eventfd_write(self._wake, 1)

    def suspend(self, wanted: bool) -> None:
        """STOP its process group, or let it go on (CONT); one that was asked to end is not stopped any more."""
        with self._lock:
            if not (wanted and self._asked):
                self._suspended = wanted
                if self._pgid:
                    _signal_group(self._pgid, signal.SIGSTOP if wanted else signal.SIGCONT)

    def run(self) -> Ended:
        """Start it, keep what it prints, wait for its end."""
        try:
            return self._run()
        finally:
            with self._lock:
                self._over = True
                os.close(self._wake)

    def _run(self) -> Ended:
        streams = _Streams()
        try:
            return self._run_with(streams)
        finally:
            streams.close()

    def _run_with(self, streams: _Streams) -> Ended:
        with SPAWNING:
            self._board.command_starting(self._mark)
            try:
                process = self._launch.start(self._own, **streams.given(self._launch, self._run_dir, self._task))
            except (OSError, ValueError) as error:
                self._board.command_started(self._mark, 0, 0)
                return self._not_started(error)
            ticks = start_ticks(process.pid) or 0
            self._board.command_started(self._mark, process.pid, ticks)
        streams.begin(process)
        with self._lock:
            self._pgid = process.pid
            if self._suspended:
                _signal_group(process.pid, signal.SIGSTOP)
        handle = -1
        try:  # whatever goes wrong from here on, it is ended before it is reaped, so that its number is still its own
            handle = os.pidfd_open(process.pid)
            self._pump(process, streams, handle, ticks)
            if self._asked:
                end_command(process.pid, ticks, self._mark)
        except BaseException:
            _signal_group(process.pid, signal.SIGKILL)  # needs no descriptor, of which there may be none
            with suppress(OSError):
                end_command(process.pid, ticks, self._mark)
            raise
        finally:
            with self._lock:
                self._pgid = 0  # once it is reaped, its number may be another's
            code = process.wait()
            self._board.command_ended(process.pid)
            if handle >= 0:
                os.close(handle)
        if code < 0:
            return Ended(128 - code, f"killed by signal {-code} ({signal_name(-code)})")
        return Ended(code, f"exit code {code}" if code else "")

    def _pump(self, process: subprocess.Popen[bytes], between: _Streams, handle: int, ticks: int) -> None:
        """Move output to disk until the leader has ended, then take what is there already."""
        streams = between.written
        buffer = bytearray(CHUNK)
        poll = select.poll()
        for fd in (*streams, handle, self._wake):
            poll.register(fd, select.POLLIN)
        feed = between.feed(poll)
        kill_at = 0.0  # 0: no cancel was asked; infinite: it was killed
        ended = False
        while not ended:
            left_ms = (kill_at - time.monotonic()) * 1000
            for fd, _ in poll.poll(max(left_ms, 0) if 0 < kill_at < FOREVER else None):
                if fd in streams:
                    if not self._take(fd, streams[fd], buffer):
                        poll.unregister(fd)
                elif fd == handle:
                    ended = True
                elif fd != self._wake:
                    assert feed is not None
                    feed.ready(fd)
                else:
                    os.eventfd_read(fd)
                    if not kill_at:
                        _signal_group(process.pid, signal.SIGTERM, signal.SIGCONT)
                        kill_at = time.monotonic() + self._grace_ms / 1000
            if not ended and 0 < kill_at <= time.monotonic():
                end_command(process.pid, ticks, self._mark)
                kill_at = FOREVER
        for fd, stream in streams.items():
            self._drain(fd, stream, buffer)

    def _take(self, fd: int, stream: int, buffer: bytearray) -> int:
        try:
            got = os.readv(fd, (buffer,))
        except OSError:  # a terminal that nobody has open any more
            return 0
        if got:
            self._output.write(stream, memoryview(buffer)[:got], time.time_ns() // 1_000_000)
        return got

    def _drain(self, fd: int, stream: int, buffer: bytearray) -> None:
        """What the pipe holds now (at most a pipe's 1 MiB): a background child may go on writing for ever."""
        poll = select.poll()
        poll.register(fd, select.POLLIN)
        for _ in range((1 << 20) // CHUNK):
            ready = poll.poll(0)
            if not ready or not ready[0][1] & select.POLLIN or not self._take(fd, stream, buffer):
                return

    def _not_started(self, error: OSError | ValueError) -> Ended:
        word, cwd = safe_text(os.fsdecode(self._launch.argv[0])), self._launch.cwd
        code = NOT_RUN
        if isinstance(error, OSError) and cwd is not None and error.filename == cwd:
            why = f"cannot enter the directory {safe_text(os.fsdecode(cwd))}: {error.strerror}"
        elif isinstance(error, FileNotFoundError | NotADirectoryError):
            code, why = NOT_FOUND, f"{word}: command not found"
        else:
            why = f"{word}: {getattr(error, 'strerror', None) or error}"
        self._output.write(ERR, f"tq: {why}\n".encode("utf-8", "backslashreplace"), time.time_ns() // 1_000_000)
        return Ended(code, why)


def _signal_group(pgid: int, *signals: signal.Signals) -> None:
    for number in signals:
        try:
            os.killpg(pgid, number)
        except OSError:  # it is gone already
            return


def signal_name(number: int) -> str:
    """What people call it: ``SIGKILL``; real-time signals have no names."""
    try:
        return signal.Signals(number).name
    except ValueError:
        return "a real-time signal"

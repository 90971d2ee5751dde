"""The inlet of a running command: what people and programs send it, on its way into its standard input or its terminal.

For: a datagram socket for each command that was added with ``--interactive`` or ``--tty``; records of bytes, the end of input,
     and the size of the terminal, in the order in which they were sent.
Not for: who may send (the daemon has been asked), commands whose input was given with them, keeping what was sent.
Runs in: the worker (receives, and writes to its command) and the daemon (sends, and never waits).
Promises: the command's own pace is kept: what it does not read waits in the kernel and in one record here, and then senders
are told that it is full; a command that reads no more does no harm; nothing that was sent is sent again to a later attempt.

The socket is ``run/TASK.in``, 0600 in a directory that is 0700. It is there from just before the command begins until it is over.
A record is ``[bytes, whether that was all, rows, columns]`` as msgpack.
"""

from __future__ import annotations

import fcntl
import os
import select
import socket
import struct
import termios
from pathlib import Path
from typing import Any

import msgpack

RECORD_MOST = 32 << 10
"""Bytes of one record."""
TAKEN, FULL, CLOSED, ABSENT = "taken", "full", "closed", "absent"
_END_OF_INPUT = b"\x04"
"""What a terminal makes an end of input of, at the beginning of a line."""


class Inlet:
    """The worker's end: ``fd`` to be polled, ``take`` gives the next record."""

    def __init__(self, run: Path, task_id: int) -> None:
        self._path = f"{task_id}.in"
        self._run = os.open(run, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        try:
            _unlink(self._path, self._run)  # that of an attempt whose worker died
            self._socket.bind(_address(self._run, self._path))
            os.chmod(self._path, 0o600, dir_fd=self._run)
        except OSError:
            self.close()
            raise

    @property
    def fd(self) -> int:
        return self._socket.fileno()

    def take(self) -> tuple[bytes, bool, int, int] | None:
        """The next record; None: there is none."""
        try:
            data, end, rows, columns = msgpack.unpackb(self._socket.recv(2 * RECORD_MOST), raw=False)
            return bytes(data), bool(end), int(rows), int(columns)
        except (OSError, ValueError, TypeError):
            return None

    def shut(self) -> None:
        """Take no more: senders are told."""
        self._socket.close()

    def close(self) -> None:
        self.shut()
        _unlink(self._path, self._run)
        os.close(self._run)


class Feed:
    """From an inlet into ``target``, a descriptor that is written to without waiting; ``poll`` is that of the command's own loop.

    ``tty``: the target is the master of a terminal. It belongs to the thread that runs the command.
    """

    def __init__(self, inlet: Inlet, target: int, poll: select.poll, tty: bool) -> None:
        self._inlet, self._target, self._poll, self._tty = inlet, target, poll, tty
        self._rest = b""
        self._ends = False
        self._listening = True
        os.set_blocking(target, False)
        poll.register(inlet.fd, select.POLLIN)

    def ready(self, fd: int) -> None:
        """One of its descriptors is ready."""
        if self._target < 0:
            return
        if fd != self._target and (record := self._inlet.take()) is not None:
            self._rest, self._ends, rows, columns = record
            if self._tty and self._ends:
                self._rest, self._ends = self._rest + _END_OF_INPUT, False
            if self._tty and rows and columns:
                set_size(self._target, rows, columns)
        self._write()

    def _write(self) -> None:
        try:
            while self._rest:
                self._rest = self._rest[os.write(self._target, self._rest) :]
        except BlockingIOError:
            pass
        except OSError:  # it reads no more
            self._rest, self._ends = b"", True
        if self._rest and self._listening:
            self._poll.unregister(self._inlet.fd)
            self._poll.register(self._target, select.POLLOUT)
        elif not self._rest and not self._listening:
            self._poll.unregister(self._target)
            self._poll.register(self._inlet.fd, select.POLLIN)
        self._listening = not self._rest
        if self._ends and not self._rest:
            self._poll.unregister(self._inlet.fd)
            self._inlet.shut()
            self.close()

    def close(self) -> None:
        if self._target >= 0:
            os.close(self._target)
            self._target = -1


def send(data_dir: Path, task_id: int, data: bytes, end: bool, rows: int, columns: int) -> str:
    """Send a record to the command of a task: TAKEN, FULL (try again), CLOSED (it reads no more) or ABSENT (it has no inlet now)."""
    run = os.open(data_dir / "run", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as sender:
            sender.sendto(msgpack.packb([data, end, rows, columns]), _address(run, f"{task_id}.in"))
            return TAKEN
    except BlockingIOError:
        return FULL
    except ConnectionError:
        return CLOSED
    except OSError:
        return ABSENT
    finally:
        os.close(run)


def sweep(run: Path) -> None:
    """Remove the inlets that dead workers left. Before any worker runs."""
    for path in run.glob("*.in"):
        path.unlink(missing_ok=True)


def set_size(terminal: int, rows: int, columns: int) -> None:
    """The size of a terminal's window, which its programs are told of."""
    size = struct.pack("HHHH", min(rows, 0xFFFF), min(columns, 0xFFFF), 0, 0)
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, size)


def size_of(row: Any) -> tuple[int, int]:
    """(rows, columns) as a task's extras have them; ValueError if they are none."""
    rows, columns = row
    if not all(type(one) is int and 0 < one <= 0xFFFF for one in (rows, columns)):
        raise ValueError("expected rows and columns")
    return rows, columns


def _address(run: int, name: str) -> str:
    return f"/proc/self/fd/{run}/{name}"  # an address has no room for a long path


def _unlink(name: str, run: int) -> None:
    try:
        os.unlink(name, dir_fd=run)
    except OSError:
        pass

"""A link: one connection of the blocking client, and the requests on it.

For: ``blocking``, and the thin path of the command line where an answer was lost.
Not for: what is asked (blocking), event loops (aio).
Runs in: any process but the daemon, in one thread at a time.
Promises: a lost connection is made again once per answer, and what was unanswered is repeated under its number; silence
is an error after the time that the caller gives.
"""

from __future__ import annotations

import os
import socket
import struct
import time
from typing import Any, cast

from tq import wire
from tq.client.core import Body, Core, Lost, error_of
from tq.errors import ConfigError, DaemonError, DaemonNotRunning, NotAllowed, TqError


def socket_path(data_dir: str) -> str:
    """The socket of the daemon of ``data_dir``; ConfigError if its path is longer than the system takes."""
    path = f"{data_dir}/{wire.SOCKET}"
    if len(os.fsencode(path)) > wire.MAX_SOCKET_PATH:
        raise ConfigError(
            f"expected a socket path of at most {wire.MAX_SOCKET_PATH} bytes, got {len(os.fsencode(path))}: {path}. "
            "Use a shorter --data-dir."
        )
    return path


def not_running(path: str, error: OSError) -> TqError:
    """What a failed connect means to the caller."""
    if isinstance(error, PermissionError):
        return NotAllowed(f"expected a daemon of this user at {path}, got: {error.strerror}. Run as its user.")
    return DaemonNotRunning(f"expected a daemon at {path}, but nobody answers. Start one with `tq daemon start`.")


class Link:
    """One connection and the requests on it, used by one thread at a time. ``patience``: seconds that it tries to open again."""

    def __init__(self, path: str, timeout: float, core: Core | None = None, patience: float = 0.0) -> None:
        self.path, self.timeout, self.patience = path, timeout, patience
        self.core = core or Core()
        self._got: dict[int, tuple[int, Any]] = {}
        self._within = 0.0
        self._socket: socket.socket | None = None

    def open(self) -> None:
        """Connect; DaemonNotRunning or NotAllowed if nobody answers."""
        self.close()
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            # Kernel timeouts on a blocking socket: one system call a receive instead of two, and a full backlog waits.
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, _timeval(self.timeout))
            connection.connect(self.path)
            self._socket, self._within = connection, 0.0
            connection.sendall(self.core.connected())
        except OSError as error:
            connection.close()
            self._socket = None
            raise not_running(self.path, error) from None

    def open_again(self) -> None:
        """Connect to a daemon that was there before; its ``patience`` is the time it has to come back."""
        until = time.monotonic() + self.patience
        while True:
            try:
                return self.open()
            except DaemonNotRunning:
                if time.monotonic() >= until:
                    if not self.core.unanswered:
                        raise
                    raise DaemonNotRunning(
                        f"the daemon at {self.path} has gone, and nobody answers there now; what was asked may or may not have been done. "
                        "Start one with `tq daemon start`, and look with `tq list` before you ask again."
                    ) from None
            time.sleep(0.05)

    def close(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def _send(self, data: bytes) -> None:
        if self._socket is None:
            raise Lost
        try:
            self._socket.sendall(data)
        except BlockingIOError:
            raise DaemonError(f"the daemon at {self.path} took nothing for {self.timeout:g} s. Look with `tq daemon status`.") from None
        except OSError:
            raise Lost from None

    def receive(self, within: float) -> list[tuple[int, int, Any]]:
        """The next answers; Lost if the connection ended, DaemonError after ``within`` seconds (0: no limit) of silence."""
        if self._socket is None:
            raise Lost
        try:
            if within != self._within:
                self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, _timeval(within))
                self._within = within
            data = self._socket.recv(262_144)
        except BlockingIOError:
            raise DaemonError(
                f"the daemon at {self.path} did not answer within {within:g} s; what was asked may or may not have been done. "
                "Look with `tq daemon status`, then ask again."
            ) from None
        except OSError:
            raise Lost from None
        if not data:
            raise Lost
        return self.core.received(data)

    def send(self, verb: str, args: Body) -> int:
        """Send a request without waiting; its number. A connection lost here is made again once."""
        number, data = self.core.request(verb, args)
        try:
            self._send(data)
        except Lost:
            self.open_again()
        return number

    def answer(self, number: int, within: float) -> Body:
        """The body of an answer, or its error raised. A connection lost here is made again once."""
        lost = False
        while number not in self._got:
            try:
                for got, kind, body in self.receive(within):
                    self._got[got] = (kind, body)
                    lost = False
            except Lost:
                if lost:
                    raise DaemonNotRunning(f"the daemon at {self.path} ends the connection again and again. See its daemon.log.") from None
                lost = True
                self.open_again()
        kind, body = self._got.pop(number)
        if kind == wire.ERROR:
            raise error_of(body)
        return cast(Body, body)


def _timeval(seconds: float) -> bytes:
    return struct.pack("ll", int(seconds), int(seconds % 1 * 1_000_000))

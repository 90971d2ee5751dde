"""A daemon that a service manager runs: what it is told, and what it gives.

For: systemd's protocols, sd_notify(3) and sd_listen_fds(3), which others speak as well: readiness, a line on how it stands,
signs of life, a listening socket that was made before.
Not for: the units (cli.service), what a reload does (daemon).
Runs in: the daemon, on the thread of its loop.
Promises: without a service manager it does nothing; its variables are taken out of the environment, so that no worker or
command speaks for the daemon; a manager that does not listen harms nobody: signs of life wait for nothing, other words a second.
"""

from __future__ import annotations

import os
import socket
import stat
import time
from collections.abc import MutableMapping
from pathlib import Path

from tq.errors import ConfigError

FIRST_FD = 3
"""Where descriptors that are handed over begin."""
TELL_S = 1.0
"""How long words wait if the manager has ten of them to read already, which is all that a socket holds."""
VARIABLES = ("NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID", "LISTEN_FDS", "LISTEN_PID", "LISTEN_FDNAMES")


class Supervisor:
    """The service manager that started this process, if one did; ``environ`` loses its variables."""

    def __init__(self, environ: MutableMapping[str, str]) -> None:
        said = {name: environ.pop(name, "") for name in VARIABLES}
        own = str(os.getpid())
        place = said["NOTIFY_SOCKET"]
        self._place = "\0" + place[1:] if place.startswith("@") else place
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) if place.startswith(("/", "@")) else None
        patience = said["WATCHDOG_USEC"] if said["WATCHDOG_PID"] in ("", own) else ""
        self._patience_us = int(patience) if patience.isdigit() and self._socket is not None else 0
        self.beat_at: float = 0.0 if self._patience_us else float("inf")
        """When the next sign of life is due, in ms of the clock that never steps."""
        self._fds = int(said["LISTEN_FDS"]) if said["LISTEN_PID"] == own and said["LISTEN_FDS"].isdigit() else 0
        self._handed = [fd for fd in range(FIRST_FD, FIRST_FD + min(self._fds, 64)) if _is_socket(fd)]
        for fd in self._handed:
            os.set_inheritable(fd, False)

    @property
    def there(self) -> bool:
        return self._socket is not None or self._fds > 0

    def tell(self, *lines: str, within_s: float = TELL_S) -> None:
        """Say something; each line is ``NAME=value``. What finds no room within the time is lost."""
        if self._socket is not None:
            try:
                self._socket.settimeout(within_s)
                self._socket.sendto("\n".join(lines).encode(errors="replace"), self._place)
            except OSError:
                pass  # it does not listen, or not now: the next sign of life comes in time

    def ready(self, status: str) -> None:
        self.tell("READY=1", f"STATUS={_line(status)}")

    def reloading(self) -> None:
        """``ready`` says when it is over."""
        self.tell("RELOADING=1", f"MONOTONIC_USEC={time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000}")

    def stopping(self, within_s: float, status: str) -> None:
        """The end has begun, and may take so long."""
        self.tell("STOPPING=1", f"EXTEND_TIMEOUT_USEC={int(within_s * 1e6)}", f"STATUS={_line(status)}")

    def status(self, status: str) -> None:
        self.tell(f"STATUS={_line(status)}")

    def beat(self, ticks: int) -> None:
        """A sign of life, if one is due."""
        if ticks >= self.beat_at:
            self.beat_at = ticks + self._patience_us / 2000
            self.tell("WATCHDOG=1", within_s=0)

    def patience(self, within_s: float | None) -> None:
        """The next sign of life may take so long; None: as usual again."""
        if self._patience_us:
            self.tell("WATCHDOG=1", f"WATCHDOG_USEC={self._patience_us if within_s is None else int(within_s * 1e6)}")

    def listener(self, path: Path) -> socket.socket | None:
        """The socket that listens at ``path`` already; None if none was handed over. ConfigError: it is another one."""
        if not self._fds:
            return None
        found = []
        for fd in self._handed:
            sock = socket.socket(fileno=os.dup(fd))
            listens = sock.type == socket.SOCK_STREAM and sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
            if sock.family == socket.AF_UNIX and listens and sock.getsockname() == str(path):
                sock.setblocking(False)
                return sock
            found.append(sock.getsockname() or "a socket without a name")
            sock.close()
        text = f"LISTEN_FDS: expected a Unix stream socket that listens at {path}, got {', '.join(map(repr, found)) or 'no socket'}. "
        raise ConfigError(text + "Mend ListenStream= of the socket unit: `tq service install` writes one that fits.")

    def close(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None


def _is_socket(fd: int) -> bool:
    try:
        return stat.S_ISSOCK(os.fstat(fd).st_mode)
    except OSError:
        return False


def _line(text: str) -> str:
    """One line: a second one would be another message."""
    return " ".join(text.split())[:500]

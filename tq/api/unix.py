"""The Unix door: connections, frames, limits, credentials.

For: accepting local clients, cutting their bytes into requests, and sending answers as fast as each will read.
Not for: what a verb does: requests go to ``serve``, which is the daemon's.
Runs in: the daemon, on the thread of its loop.
Promises: only this user (and root) gets in; what connections send or do not read costs bounded memory, one and all together; a frame
that is no request gets one error and ends its connection; a client that has said its last word (``shutdown``) still gets
its answers; without a free descriptor a client is told so; a live daemon's socket is never stolen (the lock is taken
before, so a socket found here is a dead one's).
"""

from __future__ import annotations

import errno
import os
import select
import socket
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tq import wire
from tq.errors import ConfigError
from tq.loop import READ, WRITE, Loop

READ_BYTES = 256 << 10
FRAMES_A_TURN = 256
OUT_MOST = 8 << 20
"""Unsent answer bytes at which a connection that does not read is closed."""
HELD_MOST = 32 << 20
"""Bytes of frames begun and answers unsent, of all connections together (or two of the largest frames, if these are more)."""
BACKLOG = 512
DEAF_S = 1.0
"""How long nobody is let in when the system has no descriptor left, not even the spare one."""
_CREDENTIALS = struct.Struct("3i")

Serve = Callable[["Connection", int, str, dict[str, Any]], None]


class Connection:
    """One client. ``nonce`` names it across connections; ``id`` is never given twice in a daemon's life; ``who`` is its process.

    ``read_only``: it has said that it only reads. ``reads`` is READ, or 0 once it has said its last word. ``held``: the bytes
    that it makes us keep. ``size``: those of the request that is being served.
    """

    __slots__ = ("frames", "greeted", "held", "id", "nonce", "out", "read_only", "reads", "size", "sock", "waits_to_write", "who")

    def __init__(self, number: int, sock: socket.socket, max_frame: int, who: str = "") -> None:
        self.id = number
        self.who = who
        self.sock = sock
        self.frames = wire.Frames(max_frame)
        self.nonce: bytes | None = None
        self.greeted = False
        self.read_only = False
        self.held = 0
        self.size = 0
        self.out = bytearray()
        self.reads = READ
        self.waits_to_write = False


class UnixDoor:
    """Listens on ``path``; gives each request to ``serve`` and the id of each closed connection to ``gone``.

    ``drained`` gets the id of a connection whose client has taken all that waited for it. ``full`` says of an id whether
    what it has asked must be served before it is read on; while that is so the loop must keep turning. ``listener`` listens at
    ``path`` already and goes on when this door is shut: a service manager made it.
    """

    def __init__(
        self,
        loop: Loop,
        path: Path,
        serve: Serve,
        gone: Callable[[int], None],
        max_frame: int,
        max_connections: int,
        drained: Callable[[int], None],
        full: Callable[[int], bool],
        listener: socket.socket | None = None,
    ) -> None:
        self._loop = loop
        self._path = path
        self._serve = serve
        self._gone = gone
        self._drained = drained
        self._full = full
        self._max_frame = max_frame
        self._max_connections = max_connections
        self._connections: dict[int, Connection] = {}
        self._last = 0
        self._unread: dict[int, Connection] = {}
        self._holding: dict[int, Connection] = {}  # those with frames begun or answers unsent; who got on last is the last
        self._held = 0
        self._held_most = max(HELD_MOST, 2 * max_frame)
        self._leaving: dict[int, Connection] = {}  # those that have said their last word
        self._spare = _open_spare()
        self.deaf = False
        """Whether the system has no descriptor left: call ``hear`` after DEAF_S."""
        self._lent = listener is not None
        self._listener = listener or self._listen()
        loop.add(self._listener.fileno(), self._accept)

    def _listen(self) -> socket.socket:
        """Bind beside the place, make it private, move it there: nobody ever connects to a half-made socket."""
        path = os.fsencode(self._path)
        if len(path) > wire.MAX_SOCKET_PATH:
            raise ConfigError(
                f"{self._path}: expected a socket path of at most {wire.MAX_SOCKET_PATH} bytes, got {len(path)}. "
                "Choose a shorter --data-dir."
            )
        if _somebody_listens(path):
            raise ConfigError(
                f"{self._path}: expected a socket that nobody listens at, got one that a service manager keeps for its own daemon. "
                "Start that one (`systemctl start tq`, with --user if it is a user's); `tq service uninstall` takes it away."
            )
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        fresh = path[:-1] + b"-" if len(path) + 1 > wire.MAX_SOCKET_PATH else path + b"-"
        if os.path.lexists(fresh):
            os.unlink(fresh)
        umask = os.umask(0o177)
        try:
            listener.bind(fresh)
        finally:
            os.umask(umask)
        listener.listen(BACKLOG)
        os.rename(fresh, path)
        return listener

    # -- coming in -------------------------------------------------------------------------------------------------

    def _accept(self, _: int) -> None:
        while True:
            try:
                sock, _address = self._listener.accept()
            except OSError as error:
                if error.errno == errno.ECONNABORTED or (error.errno in (errno.EMFILE, errno.ENFILE) and self._turn_away()):
                    continue
                return  # nobody is left, or it is offered again
            sock.setblocking(False)
            pid, uid, _ = _CREDENTIALS.unpack(sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size))
            if uid not in (0, os.geteuid()):
                self._refuse(sock, "not_allowed", f"expected user {os.geteuid()}, got user {uid}. Use a data directory of your own.")
            elif len(self._connections) >= self._max_connections:
                text = f"the daemon serves at most {self._max_connections} connections and has them all."
                self._refuse(sock, "refused", text + " Try again later, or raise max_connections.")
            else:
                self._last += 1
                connection = Connection(self._last, sock, self._max_frame, f"user {uid} (pid {pid})")
                self._connections[connection.id] = connection
                self._loop.add(sock.fileno(), lambda events, c=connection: self._ready(c, events))  # type: ignore[misc]

    def _turn_away(self) -> bool:
        """With no descriptor left, take one client on the spare one and tell it so; False: there is none, or it cannot be done."""
        if self._spare is not None:
            os.close(self._spare)
            self._spare = None
        try:
            sock, _address = self._listener.accept()
            self._refuse(sock, "refused", "the daemon has no file descriptor left. Try again later, or raise its limit (ulimit -n).")
            found = True
        except BlockingIOError:  # accept wants a descriptor before it looks whether anybody is there
            found = False
        except OSError:
            self.deaf = True
            self._loop.remove(self._listener.fileno())
            return False
        self._spare = _open_spare()
        return found

    def hear(self) -> None:
        """Let clients in again."""
        if self.deaf:
            self._spare = _open_spare()
            self.deaf = self._spare is None
            if not self.deaf:
                self._loop.add(self._listener.fileno(), self._accept)

    def _refuse(self, sock: socket.socket, code: str, text: str) -> None:
        self._tell(sock, code, text)
        sock.close()

    def _tell(self, sock: socket.socket, code: str, text: str) -> None:
        try:
            sock.send(wire.error(0, code, text))
        except OSError:
            pass  # it did not wait for the reason

    def _ready(self, connection: Connection, events: int) -> None:
        if events & WRITE:
            self._flush(connection)
        if not events & ~WRITE or connection.id not in self._connections or connection.id in self._unread:
            return  # what it has sent already comes first, so that its buffer is bounded
        if self._full(connection.id):
            return  # the rest waits in the kernel, and is offered again
        try:
            data = connection.sock.recv(READ_BYTES)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if data:
            connection.frames.feed(data)
            self._cut(connection)
            self._weigh(connection)
        elif events & (select.EPOLLHUP | select.EPOLLERR):
            self.close(connection)
        else:  # it has only ended its own side
            connection.reads = 0
            self._leaving[connection.id] = connection
            self._listen_to(connection)

    def _listen_to(self, connection: Connection) -> None:
        self._loop.change(connection.sock.fileno(), connection.reads | (WRITE if connection.waits_to_write else 0))

    def let_go(self, holds: Callable[[int], bool]) -> None:
        """Close those that have said their last word and have all their answers; ``holds(id)``: more is to come."""
        for connection in list(self._leaving.values()):
            if not connection.out and connection.id not in self._unread and not holds(connection.id):
                self.close(connection)

    def _cut(self, connection: Connection) -> None:
        """Serve whole frames, a bounded number a turn."""
        try:
            bodies = connection.frames.take(FRAMES_A_TURN)
        except wire.FrameTooLarge as error:
            self._reject(connection, f"{error}. Send less at once.")
            return
        if len(bodies) == FRAMES_A_TURN:
            self._unread[connection.id] = connection
        else:
            self._unread.pop(connection.id, None)
        for body in bodies:
            connection.size = len(body)
            request = _request(body)
            if request is None:
                self._reject(
                    connection, "expected a frame that holds [number, verb, arguments] in msgpack, got something else. See tq/wire.py."
                )
                return
            self._serve(connection, *request)
            if connection.id not in self._connections:
                return

    def _reject(self, connection: Connection, text: str) -> None:
        self.send(connection.id, wire.error(0, "protocol", text))
        self.close(connection)

    @property
    def unread(self) -> bool:
        """Whether whole frames are left from the last turn."""
        return bool(self._unread)

    def read_on(self) -> None:
        """Serve what is left from the last turn."""
        for connection in list(self._unread.values()):
            if connection.id in self._unread and not self._full(connection.id):
                self._cut(connection)
                self._weigh(connection)

    # -- what they make us keep ------------------------------------------------------------------------------------

    def _weigh(self, connection: Connection) -> None:
        """Count what a connection makes us keep. If all together is too much, who has got on least of those that hold most is closed."""
        if connection.id not in self._connections:
            return
        held = connection.frames.waiting + len(connection.out)
        self._held += held - connection.held
        if held < connection.held or not held:
            self._holding.pop(connection.id, None)
        if held:
            self._holding[connection.id] = connection
        connection.held = held
        while self._held > self._held_most:
            many = len(self._holding)
            one = next(one for one in self._holding.values() if one.held * many >= self._held)
            if not one.out:
                text = f"the daemon keeps at most {self._held_most} bytes of frames begun and answers unread. Send a frame without a pause."
                self._tell(one.sock, "refused", text)
            self.close(one)

    # -- going out -------------------------------------------------------------------------------------------------

    def send(self, conn: int, data: bytes) -> None:
        """Send an answer; what the client does not take at once waits for it, up to a bound."""
        connection = self._connections.get(conn)
        if connection is None:
            return
        if connection.out:
            connection.out += data
        else:
            try:
                sent = connection.sock.send(data)
            except BlockingIOError:
                sent = 0
            except OSError:
                self.close(connection)
                return
            if sent < len(data):
                connection.out += data[sent:]
        if connection.out:
            if len(connection.out) > OUT_MOST:
                self.close(connection)
            else:
                if not connection.waits_to_write:
                    connection.waits_to_write = True
                    self._listen_to(connection)
                self._weigh(connection)

    def _flush(self, connection: Connection) -> None:
        try:
            sent = connection.sock.send(connection.out)
        except BlockingIOError:
            return
        except OSError:
            self.close(connection)
            return
        del connection.out[:sent]
        self._weigh(connection)
        if not connection.out:
            connection.waits_to_write = False
            self._listen_to(connection)
            self._drained(connection.id)

    def unsent(self, conn: int) -> int:
        """Bytes that wait until the client takes them."""
        connection = self._connections.get(conn)
        return len(connection.out) if connection is not None else 0

    def close(self, connection: Connection) -> None:
        if self._connections.pop(connection.id, None) is None:
            return
        self._unread.pop(connection.id, None)
        self._leaving.pop(connection.id, None)
        if self._holding.pop(connection.id, None) is not None:
            self._held -= connection.held
        self._loop.remove(connection.sock.fileno())
        connection.sock.close()
        self.hear()
        self._gone(connection.id)

    @property
    def connections(self) -> int:
        return len(self._connections)

    def hang_up(self) -> None:
        """From any thread, when the loop does not turn any more: who waits, or comes, hears at once that nobody will answer."""
        for sock in (*([] if self._lent else [self._listener]), *(connection.sock for connection in list(self._connections.values()))):
            try:
                sock.shutdown(socket.SHUT_RDWR)
            except OSError:
                continue

    def shut(self) -> None:
        """Stop listening, send what can be sent at once, close all."""
        self.deaf = False
        self._loop.remove(self._listener.fileno())
        self._listener.close()
        if self._spare is not None:
            os.close(self._spare)
        if not self._lent:
            self._path.unlink(missing_ok=True)
        for connection in list(self._connections.values()):
            if connection.out:
                self._flush(connection)
            self.close(connection)


def _somebody_listens(path: bytes) -> bool:
    """Whether a live process listens there: no daemon of this directory, whose lock we have."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK) as probe:
        try:
            probe.connect(path)
        except BlockingIOError:
            return True  # and has more to accept than it can
        except OSError:
            return False
    return True


def _open_spare() -> int | None:
    """A descriptor to give up when there is no other; None if there is none already."""
    try:
        return os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None


def _request(body: bytes) -> tuple[int, str, dict[str, Any]] | None:
    """The request in a frame; None if it is something else."""
    try:
        number, verb, args = wire.request(body)
    except (ValueError, TypeError, RecursionError, MemoryError):
        return None
    if not isinstance(number, int) or isinstance(number, bool) or not 0 <= number < 1 << 63:
        return None
    if not isinstance(verb, str) or not isinstance(args, dict | None):
        return None
    return number, verb, args or {}

"""The blocking face of the client: ``Client`` and ``Handle``.

For: programs, scripts and handlers that call and wait.
Not for: event loops (aio), starting daemons (start).
Runs in: any process but the daemon, on any of its threads.
Promises: a thread that waits never holds up another's call (each borrows a connection of its own); a forked child
never uses its parent's connections; a lost connection is made again once per call, and what was unanswered repeated.
"""

from __future__ import annotations

import atexit
import os
import socket
import struct
import threading
import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Generic, Self, TypeVar, Unpack, cast

from tq import wire
from tq.client.core import (
    ANSWER_WITHIN,
    BACK_WITHIN,
    FRAMES_IN_FLIGHT,
    WAIT_SLICE,
    Body,
    Core,
    Duration,
    Lost,
    Options,
    WireTask,
    claim_args,
    decode,
    decoded,
    encode,
    ended,
    error_of,
    groups,
    no_such_task,
    not_over,
    watch_args,
    wire_options,
    wire_results,
    wire_tasks,
)
from tq.errors import ConfigError, DaemonError, DaemonNotRunning, NoSuchTask, NotAllowed, TqError
from tq.model import duration_ms

R = TypeVar("R")
Rows = list[Body]
Found = list[Body | None]
"""Rows of tasks; None stands where there is no such task."""


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
                    raise
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


class Client:
    """A client of one daemon, by its data directory; see ``connect``. Close it, or use it in a ``with``.

    Methods raise DaemonNotRunning if nobody answers, DaemonError after ``timeout`` seconds without an answer, and
    the errors that the daemon answers with. Tasks are maps as ``tq.model.Task.row`` makes them, payload and result decoded.
    """

    def __init__(
        self, data_dir: str | Path, *, autostart: bool = False, started: Callable[[int], None] | None = None, timeout: float = ANSWER_WITHIN
    ) -> None:
        self.data_dir, self.timeout = str(data_dir), timeout
        self._autostart, self._started, self._met = autostart, started, False
        self.path = socket_path(self.data_dir)
        self._idle: deque[Link] = deque()
        self._pid = os.getpid()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Close what is connected; a later call connects again."""
        while self._idle:
            self._idle.pop().close()

    # connections

    def _borrow(self) -> Link:
        if self._pid != os.getpid():
            self.close()  # after a fork they are the parent's: two readers would take each other's answers
            self._pid = os.getpid()
        try:
            return self._idle.pop()
        except IndexError:
            return self._opened()

    def _opened(self) -> Link:
        link = Link(self.path, self.timeout, patience=BACK_WITHIN if self._autostart else 0.0)
        try:
            if self._met:
                link.open_again()
            else:
                link.open()
        except DaemonNotRunning:
            if self._met or not self._autostart:
                raise
            from tq.client.start import start_if_needed

            pid = start_if_needed(self.data_dir)
            if pid is not None and self._started is not None:
                self._started(pid)
            link.open()
        self._met = True
        return link

    def _on_a_link(self, work: Callable[[Link], R]) -> R:
        link = self._borrow()
        try:
            answer = work(link)
        except TqError:
            # A link with nothing on its way may be used again; any other is in the middle of something.
            if link.core.unanswered:
                link.close()
            else:
                self._idle.append(link)
            raise
        except BaseException:
            link.close()
            raise
        self._idle.append(link)
        return answer

    def call(self, verb: str, args: Body | None = None, timeout: float | None = None) -> Body:
        """Any verb of ``tq.wire``, as it stands there. ``timeout``: seconds until the answer must be there."""
        within = self.timeout if timeout is None else timeout
        return self._on_a_link(lambda link: link.answer(link.send(verb, args or {}), within))

    # sending

    def enqueue(self, type: str, payload: object = None, **options: Unpack[Options]) -> Handle[Any]:  # noqa: A002
        """Store one task; when this returns it is on disk. Raises PayloadError, UnknownType, UsageError, Refused."""
        task = (type, encode(payload), wire_options(options))
        return Handle(self, self.call("enqueue", {"tasks": [task], "again": False})["ids"][0])

    def enqueue_many(self, rows: Iterable[Sequence[Any]]) -> list[int]:
        """Store many ``(type, payload)`` or ``(type, payload, options)`` rows, in groups; their ids, in order.

        A group is stored whole or not at all. If one is refused, its error is raised once the groups on their way
        are answered; ``details["ids"]`` holds the ids of all that was stored, ``details["refused"]`` the groups that
        were not, as [place of their first task, how many].
        """
        return [task_id for ids in self.enqueue_groups(wire_tasks(rows)) for task_id in ids]

    def enqueue_groups(self, tasks: Iterable[WireTask]) -> Iterator[list[int]]:
        """As ``enqueue_many``, for tasks in wire form: yields each group's ids as soon as it is stored."""
        link = self._borrow()
        waiting: deque[tuple[int, int, int]] = deque()  # request, place of its first task, tasks
        done: list[int] = []
        refused: list[list[int]] = []
        failed: TqError | None = None
        place = 0

        def next_ids() -> list[int]:
            number, first, count = waiting.popleft()
            try:
                ids = cast("list[int]", link.answer(number, self.timeout)["ids"])
            except TqError:
                refused.append([first, count])
                raise
            done.extend(ids)
            return ids

        try:
            for group in groups(tasks):
                waiting.append((link.send("enqueue", {"tasks": group, "again": False}), place, len(group)))
                place += len(group)
                if len(waiting) >= FRAMES_IN_FLIGHT:
                    yield next_ids()
            while waiting:
                yield next_ids()
        except (TqError, ValueError) as error:
            failed = error if isinstance(error, TqError) else TqError(str(error))
            while waiting and not isinstance(error, DaemonError):
                try:
                    yield next_ids()
                except DaemonError:
                    break
                except TqError:
                    continue
        finally:
            if link.core.unanswered:
                link.close()
            else:
                self._idle.append(link)
        if failed is not None:
            failed.details.update(ids=done, refused=refused)
            raise failed

    # reading

    def get(self, task_id: int) -> Body:
        """The task; NoSuchTask if there is none."""
        task = self.get_many([task_id])[0]
        if task is None:
            raise NoSuchTask(no_such_task(task_id))
        return task

    def get_many(self, ids: Sequence[int]) -> Found:
        return [decoded(row) for row in self.call("get", {"ids": list(ids)})["tasks"]]

    def list(self, *, limit: int = 50, before: bytes | None = None, **filters: object) -> Rows:
        """The newest tasks that match ``states`` (words), ``queue``, ``type``, ``tenant``, ``label``."""
        rows = self.call("find", {**filters, "limit": limit, "before": before})["tasks"]
        return [cast(Body, decoded(row)) for row in rows]

    def peek(self, limit: int = 10, queue: str | None = None) -> Rows:
        """The next tasks to run, in order."""
        return [cast(Body, decoded(row)) for row in self.call("peek", {"limit": limit, "queue": queue})["tasks"]]

    def wait(self, ids: Sequence[int], timeout: Duration | None = None, any_one: bool = False) -> Found:
        """The tasks once all (``any_one``: one) of them are over. TaskTimeout if ``timeout`` passes first; None: no limit."""
        rows, done = self._wait(ids, timeout, any_one)
        if not done:
            raise not_over(ids, timeout)
        return [decoded(row) for row in rows]

    def _wait(self, ids: Sequence[int], timeout: Duration | None, any_one: bool) -> tuple[Any, bool]:
        deadline = None if timeout is None else time.monotonic() + duration_ms(timeout) / 1000
        while True:
            left = WAIT_SLICE if deadline is None else min(max(deadline - time.monotonic(), 0.0), WAIT_SLICE)
            args = {"ids": list(ids), "timeout_ms": int(left * 1000) or 1, "any": any_one}
            body = self.call("wait", args, left + self.timeout)
            if body["done"] or (deadline is not None and time.monotonic() >= deadline):
                return body["tasks"], body["done"]

    def result(self, task_id: int, timeout: Duration | None = None) -> Any:
        """The decoded result, once the task is over; TaskFailed, TaskCancelled or TaskTimeout if it has none."""
        rows, done = self._wait([task_id], timeout, False)
        if rows[0] is None:
            raise NoSuchTask(no_such_task(task_id))
        if not done:
            raise not_over([task_id], timeout)
        return ended(rows[0])

    def log_chunks(self, task_id: int, offset: int = 0) -> Iterator[tuple[int, int, bytes]]:
        """What a task has written so far: (ms since the epoch, stream, bytes); stream 1 is out, 2 err, 0 a note of tq's."""
        while True:
            body = self.call("log", {"id": task_id, "offset": offset, "limit": 256 * 1024})
            yield from body["chunks"]
            if body["end"] or not body["chunks"]:
                return
            offset = body["next"]

    def log(self, task_id: int) -> str:
        """What a task has written so far, as text; not cleaned for a terminal (``tq.model.safe_text`` does that)."""
        return b"".join(data for _, stream, data in self.log_chunks(task_id) if stream).decode("utf-8", "replace")

    def watch(self, topics: Sequence[str], ids: Sequence[int] | None = None, *, hz: int = 4, offset: int = 0) -> Generator[Body]:
        """Events as they come, from this call on, until the caller closes it; DaemonNotRunning when the connection is lost."""
        link = self._opened()
        try:
            number = link.send("watch", watch_args(topics, ids, hz, offset))
            seen: deque[tuple[int, int, Any]] = deque()
            while not any(got == number and kind != wire.EVENT for got, kind, _ in seen):
                seen += link.receive(self.timeout)
        except Lost:
            link.close()
            raise DaemonNotRunning(f"the daemon at {self.path} ended the connection. Start one with `tq daemon start`.") from None
        except BaseException:
            link.close()
            raise
        return self._events(link, seen)

    def _events(self, link: Link, seen: Iterable[tuple[int, int, Any]]) -> Generator[Body]:
        try:
            while True:
                for _, kind, body in seen:
                    if kind == wire.ERROR:
                        raise error_of(body)
                    if kind == wire.EVENT:
                        yield body
                seen = link.receive(0.0)
        except Lost:
            raise DaemonNotRunning(f"the daemon at {self.path} ended the connection. Start one with `tq daemon start`.") from None
        finally:
            link.close()

    def stats(self) -> Body:
        return self.call("stats")

    def queues(self) -> Sequence[Body]:
        return cast("Sequence[Body]", self.call("queues")["queues"])

    def types(self) -> Sequence[Body]:
        return cast("Sequence[Body]", self.call("types")["types"])

    def workers(self) -> Sequence[Body]:
        return cast("Sequence[Body]", self.call("workers")["workers"])

    def status(self) -> Body:
        """Who the daemon is: pid, boot, version, started_at (ms), data_dir, app, ..."""
        return self.call("status")

    # acting

    def cancel(self, ids: Sequence[int]) -> Sequence[str]:
        """For each id: cancelled, asked (it runs, and was told), over, or unknown."""
        return cast("Sequence[str]", self.call("cancel", {"ids": [*ids]})["outcomes"])

    def set_queue(self, name: str, **settings: object) -> None:
        """Change ``external``, ``paused`` (bool) or ``weight`` (1..100) of a queue; absent ones stay."""
        self.call("set_queue", {"name": name, **settings})

    def stop(self, now: bool = False) -> None:
        """Ask the daemon to drain and end (``now``: without draining); see ``stop_daemon`` to wait for it."""
        self.call("stop", {"now": now})

    # consuming from outside the pool

    def claim(
        self, queues: Sequence[str], types: Sequence[str] | None = None, *, limit: int = 1, wait: Duration = 0, lease: Duration = 30
    ) -> Sequence[Body]:
        """Take at most ``limit`` tasks under a lease; waits up to ``wait`` for one. Payloads are decoded."""
        args = claim_args(queues, types, limit, wait, lease)
        body = self.call("claim", args, args["wait_ms"] / 1000 + self.timeout)
        return [{**task, "payload": decode(task["payload"])} for task in body["tasks"]]

    def extend(self, task_id: int, claim: int, lease: Duration = 30) -> bool:
        """Push the lease out; False: the claim is over, stop working."""
        return bool(self.call("extend", {"id": task_id, "claim": claim, "lease_ms": duration_ms(lease)})["ok"])

    def settle(self, results: Sequence[Sequence[Any]]) -> Sequence[bool]:
        """End claims: ``(id, claim, "succeeded", {"result": value})`` or ``(id, claim, "failed", {"error": {...}})``.

        False: somebody else holds the task, or it is over (also when the answer to this very settle was lost).
        """
        return cast("Sequence[bool]", self.call("settle", {"results": wire_results(results)})["settled"])

    def release(self, claims: Sequence[tuple[int, int]]) -> Sequence[bool]:
        """Give ``(id, claim)`` back unstarted, uncharged."""
        return cast("Sequence[bool]", self.call("release", {"claims": [[*claim] for claim in claims]})["released"])


class Handle(Generic[R]):
    """One task, by its client and id. ``R`` is what its handler returns."""

    __slots__ = ("client", "id")

    def __init__(self, client: Client, task_id: int) -> None:
        self.client, self.id = client, task_id

    def __repr__(self) -> str:
        return f"<task {self.id}>"

    def state(self) -> str:
        """The word of its state; NoSuchTask if it was removed."""
        return cast(str, self.client.get(self.id)["state"])

    def wait(self, timeout: Duration | None = None) -> str:
        """Its final state. TaskTimeout if it is not over in time, NoSuchTask if it was removed."""
        row = self.client.wait([self.id], timeout)[0]
        if row is None:
            raise NoSuchTask(no_such_task(self.id))
        return cast(str, row["state"])

    def result(self, timeout: Duration | None = None) -> R:
        """What the handler returned, once it is over; TaskFailed, TaskCancelled or TaskTimeout otherwise."""
        return cast(R, self.client.result(self.id, timeout))

    def log(self) -> str:
        """What it has written so far."""
        return self.client.log(self.id)

    def cancel(self) -> str:
        """cancelled, asked (it runs, and was told), over, or unknown."""
        return self.client.cancel([self.id])[0]


def connect(data_dir: str | Path | None = None, autostart: bool | None = None, started: Callable[[int], None] | None = None) -> Client:
    """A client of the daemon of ``data_dir`` (None: TQ_DATA_DIR, else the default). Connects at the first call.

    ``autostart``: start a daemon if none runs at the first call (None: only if TQ_AUTOSTART is 1); ``started`` is then told
    its pid. A daemon that goes later is waited for, ``BACK_WITHIN`` seconds, and not replaced.
    """
    from tq.config import data_dir_of

    wanted = os.environ.get("TQ_AUTOSTART") == "1" if autostart is None else autostart
    return Client(data_dir_of(data_dir), autostart=wanted, started=started)


_defaults: dict[str | None, Client] = {}
_lock = threading.Lock()


def default() -> Client:
    """The client of this process for the data directory of its environment; shared by its threads."""
    name = os.environ.get("TQ_DATA_DIR")
    client = _defaults.get(name)
    if client is None:
        with _lock:
            client = _defaults.get(name) or _defaults.setdefault(name, connect())
    return client


@atexit.register
def _close_defaults() -> None:
    for client in _defaults.values():
        client.close()

"""A broker on each of the stores, and a daemon of paper: it speaks the wire and does nothing, so that a lost answer comes
exactly when a test wants it.

For: tests of the broker; tests of the client and the command line.
Not for: what a daemon does (the flows use a real one).
Runs in: pytest, on a thread.
Promises: remembers every request; an enqueue repeated with ``again`` under its nonce and number gets its old ids.
"""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import tq.testing
from tests.tq.broker_driver import STORES, Driver
from tq import wire
from tq.store.verify import verify

Body = dict[str, Any]


def row(task_id: int, **changes: Any) -> Body:
    """A task as it travels."""
    base: Body = {
        "id": task_id, "type": "email", "queue": "default", "state": "succeeded", "priority": 1, "payload": b"", "attempt": 1,
        "failures": 0, "crashes": 0, "interrupts": 0, "claim": 1, "retries": 3, "timeout_ms": 300_000,
        "backoff": ["exponential", 1000, 2.0, 300_000, True], "once": False, "created_at": 1_700_000_000_000, "due_at": 0, "ready_at": 0,
        "started_at": 1_700_000_000_100, "finished_at": 1_700_000_000_350, "expires_at": 0, "worker": "w1", "progress": None,
        "result": None, "error": None, "exit_code": None, "cancel_asked": False, "output": False, "label": None, "meta": None,
        "tenant": None, "flow": None, "correlation_id": None, "parents": [], "attempts": [], "retry_for_ms": 0, "deadline_ms": 0,
        "key": None, "unique": None,
    }  # fmt: skip
    return {**base, **changes}


def _nothing(_args: Body) -> Body:
    return {}


class Refuse(Exception):
    """Answer with this error: code, message, details."""


class FakeDaemon:
    """Answers from ``verbs`` (verb -> function of the arguments); ``lose`` names verbs whose next answer is lost."""

    def __init__(self, data_dir: Path) -> None:
        self.path = str(data_dir / wire.SOCKET)
        self.requests: list[tuple[int, str, Body]] = []
        self.hellos: list[Body] = []
        self.lose: list[str] = []
        self.silent: set[str] = set()
        self.garbage: set[str] = set()
        self.stored: dict[tuple[bytes, int], list[int]] = {}
        self.tasks: list[Any] = []
        self.events: list[Body] = []
        self.ends_watch = False  # hang up behind the events
        self.verbs: dict[str, Callable[[Body], Body]] = {
            "get": lambda args: {"tasks": [row(i) if i <= 100 else None for i in args["ids"]]},
            "wait": lambda args: {"tasks": [row(i) if i <= 100 else None for i in args["ids"]], "done": True},
            "find": lambda args: {"tasks": [row(7)], "next": None},
            "peek": lambda args: {"tasks": [row(3, state="pending")]},
            "cancel": lambda args: {"outcomes": ["cancelled" if i <= 100 else "unknown" for i in args["ids"]]},
            "attention": lambda args: {"lines": []},
            "status": lambda args: {"pid": 1, "version": "0", "started_at": 1},
        }
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._socket.bind(self.path)
        self._socket.listen(64)
        self._open: list[socket.socket] = []
        self._threads = [threading.Thread(target=self._accept, daemon=True)]
        self._threads[0].start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = self._socket.accept()
                self._open.append(connection)
                thread = threading.Thread(target=self._serve, args=(connection,), daemon=True)
                self._threads.append(thread)
                thread.start()

    def _serve(self, connection: socket.socket) -> None:
        frames, nonce = wire.Frames(), b""
        with contextlib.suppress(OSError), connection:
            while data := connection.recv(1 << 20):
                frames.feed(data)
                for body in frames.take():
                    number, verb, args = wire.message(body)
                    if verb == "hello":
                        self.hellos.append(args)
                        nonce = args["nonce"]
                        connection.sendall(wire.frame([number, wire.ANSWER, {"protocol": 1}]))
                        continue
                    self.requests.append((number, verb, args))
                    answer = self._answer(number, verb, args, nonce)
                    if verb in self.lose:
                        self.lose.remove(verb)
                        return
                    if verb not in self.silent:
                        connection.sendall(answer)
                    if verb == "watch":
                        for event in self.events:
                            connection.sendall(wire.frame([number, wire.EVENT, event]))
                        if self.ends_watch:
                            return

    def _answer(self, number: int, verb: str, args: Body, nonce: bytes) -> bytes:
        if verb in self.garbage:
            return (4).to_bytes(4, "big") + b"\xc1\xc1\xc1\xc1"
        try:
            if verb == "enqueue" and verb not in self.verbs:
                return wire.frame([number, wire.ANSWER, {"ids": self._enqueue(number, args, nonce)}])
            return wire.frame([number, wire.ANSWER, self.verbs.get(verb, _nothing)(args)])
        except Refuse as refusal:
            code, message, details = refusal.args
            return wire.error(number, code, message, details)

    def _enqueue(self, number: int, args: Body, nonce: bytes) -> list[int]:
        known = self.stored.get((nonce, number))
        if args["again"] and known is not None:
            return known
        first = len(self.tasks) + 1
        self.tasks += args["tasks"]
        ids = [*range(first, len(self.tasks) + 1)]
        self.stored[nonce, number] = ids
        return ids

    def asked(self, verb: str) -> list[Body]:
        """The arguments of every request with this verb, in order."""
        return [args for _, one, args in self.requests if one == verb]

    def hang_up(self) -> None:
        """End every connection, as a daemon does that dies; it goes on listening."""
        for connection in self._open:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        self._open.clear()

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()
        self.hang_up()
        for thread in self._threads:
            thread.join(5)
            assert not thread.is_alive()


@pytest.fixture
def app() -> tq.App:
    """An application without types."""
    return tq.App()


@pytest.fixture
def q(app: tq.App) -> Iterator[tq.testing.Fake]:
    """Its client, and a daemon that is this process."""
    with tq.testing.fake(app) as q:
        yield q


@pytest.fixture
def fake(data_dir: Path) -> Iterator[FakeDaemon]:
    daemon = FakeDaemon(data_dir)
    yield daemon
    daemon.close()


@pytest.fixture
def task_row() -> Callable[..., Body]:
    return row


@pytest.fixture
def refuse() -> type[Refuse]:
    return Refuse


@pytest.fixture(params=STORES)
def store_kind(request: pytest.FixtureRequest) -> str:
    """Each of the stores that can be had without a server."""
    return str(request.param)


@pytest.fixture
def d(store_kind: str, tmp_path: Path) -> Iterator[Driver]:
    """A broker on a store of its own; what is on disk at the end must be sound."""
    driver = Driver(store_kind, tmp_path / "store")
    yield driver
    driver.store.close()
    if store_kind == "lmdb":
        assert verify(tmp_path) == []

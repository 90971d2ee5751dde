"""A consumer outside the daemon's pool, written from the text of `tq/wire.py` alone: it does not import tq.

    tq queue set letters --external
    tq enqueue --type count --queue letters --allow-unknown --payload '"some text"'
    python examples/consumer.py DATA_DIR letters

It takes tasks of one queue under a lease, counts letters, extends the lease while it works, and settles. The same in
another language needs a Unix socket and msgpack. Ends after --idle seconds without work, or by SIGTERM or Ctrl-C; then
it gives back what it has not begun.
"""

from __future__ import annotations

import argparse
import os
import signal
import socket
import time
from collections.abc import Callable
from typing import Any

import msgpack

LEASE_MS = 30_000


class Refused(Exception):
    """The daemon answered with an error; the text is its own."""


class Connection:
    """One request at a time: 4 bytes of length, then one msgpack value."""

    def __init__(self, path: str) -> None:
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.connect(path)
        self.number = 0
        hello = self.ask("hello", protocol=1, client="examples/consumer.py", nonce=os.urandom(8))
        print(f"connected to tq {hello['version']}, pid {hello['pid']}", flush=True)

    def ask(self, verb: str, **arguments: Any) -> dict[str, Any]:
        self.number += 1
        body = msgpack.packb([self.number, verb, arguments])
        self.socket.sendall(len(body).to_bytes(4, "big") + body)
        number, kind, answer = msgpack.unpackb(self.read(int.from_bytes(self.read(4), "big")))
        if kind == 1:
            code, message, _details = answer
            raise Refused(f"{verb}: {code}: {message}")
        if number != self.number:
            raise Refused(f"{verb}: expected the answer to request {self.number}, got that to {number}")
        return dict(answer)

    def read(self, size: int) -> bytes:
        data = b""
        while len(data) < size:
            piece = self.socket.recv(size - len(data))
            if not piece:
                raise ConnectionError("the daemon closed the connection")
            data += piece
        return data


class LostClaim(Exception):
    """Somebody else has the task now: stop working on it, and do not settle it."""


def count_letters(text: str, still_mine: Callable[[], None]) -> dict[str, int]:
    """The work: how often each letter occurs. ``still_mine`` is called now and then."""
    counts: dict[str, int] = {}
    for at in range(0, len(text), 65536):
        still_mine()
        for letter in text[at : at + 65536].lower():
            if letter.isalpha():
                counts[letter] = counts.get(letter, 0) + 1
    return counts


def work_on(task: dict[str, Any], daemon: Connection) -> None:
    """Run one task and settle it."""
    extended = time.monotonic()

    def still_mine() -> None:
        nonlocal extended
        if time.monotonic() - extended < LEASE_MS / 1000 / 3:
            return
        extended = time.monotonic()
        if not daemon.ask("extend", id=task["id"], claim=task["claim"], lease_ms=LEASE_MS)["ok"]:
            raise LostClaim

    try:
        text = msgpack.unpackb(task["payload"]) if task["payload"] else ""
        if not isinstance(text, str):
            raise TypeError(f"expected a text, got {type(text).__name__}")
        outcome: tuple[str, dict[str, Any]] = ("succeeded", {"result": msgpack.packb(count_letters(text, still_mine))})
    except LostClaim:
        print(f"task {task['id']}: the lease was lost", flush=True)
        return
    except Exception as error:  # noqa: BLE001 - whatever went wrong is the task's outcome
        outcome = ("failed", {"error": {"type": type(error).__name__, "message": str(error)}})
    (settled,) = daemon.ask("settle", results=[[task["id"], task["claim"], *outcome]])["settled"]
    print(f"task {task['id']}: {outcome[0]}{'' if settled else ', but somebody else had it already'}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data_dir", help="the directory of the daemon, which holds tq.sock")
    parser.add_argument("queue", help="an external queue")
    parser.add_argument("--idle", type=float, default=60.0, help="seconds without work after which to end")
    options = parser.parse_args()

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    signal.signal(signal.SIGTERM, interrupt)
    daemon = Connection(os.path.join(options.data_dir, "tq.sock"))
    tasks: list[dict[str, Any]] = []
    try:
        while True:
            wait_ms = int(options.idle * 1000)
            tasks = daemon.ask("claim", queues=[options.queue], types=None, limit=4, wait_ms=wait_ms, lease_ms=LEASE_MS)["tasks"]
            if not tasks:
                return
            while tasks:
                work_on(tasks.pop(0), daemon)
    except KeyboardInterrupt:
        # The answer to a request that was cut short may still come, so this goes over a connection of its own.
        if tasks:
            claims = [[task["id"], task["claim"]] for task in tasks]
            Connection(os.path.join(options.data_dir, "tq.sock")).ask("release", claims=claims)


if __name__ == "__main__":
    main()

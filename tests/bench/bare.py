"""The bare loop: the daemon's turn with no product around it, the rate that end-to-end figures are held against.

For: a ceiling for this design on this machine in this minute: one epoll loop on one thread, one fsynced transaction a turn,
     two worker processes over SOCK_SEQPACKET, a batch producer over a Unix socket.
Not for: anything that could go wrong: no checks of what came, no limits, one kind of task, one client, no recovery.
Runs in: a process of its own that forks its workers; ``Bare`` in the process that measures.
Promises: it writes what the product writes for a task, in the same places and with the same flags: specification with its
CRC, ready entry, its share of a running record, status with its CRC, history entry, counters once a commit; a record's CRC
is checked where the product checks it.
"""

from __future__ import annotations

import contextlib
import gc
import os
import select
import shutil
import socket
import struct
import subprocess
import sys
import tempfile
import time
from collections import deque
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Self
from zlib import crc32

import msgpack

from tests.bench.bars import ROOT
from tq.model import HEAD
from tq.store.files import open_store
from tq.store.keys import ENDED, HISTORY, PAIR, READY, U64

COUNTERS = struct.Struct(">QQQQ")
WORKERS = 2
AHEAD = 512
RECORD = 64
GROUP = 500
IN_FLIGHT = 8
HEADER = msgpack.packb(["noop", "default", 1, 0, 300_000, False])
SWITCH, DONE = 1, 2  # what a request that is no list of tasks asks for: pause or go on; how many are done

pack = msgpack.Packer(autoreset=True).pack
unpack = msgpack.unpackb


def now_ms() -> int:
    return time.time_ns() // 1_000_000


def sealed(body: bytes) -> bytes:
    return body + crc32(body).to_bytes(4, "big")


def frame(value: object) -> bytes:
    body: bytes = pack(value)
    return len(body).to_bytes(4, "big") + body


def frames(buffer: bytearray) -> Iterator[Any]:
    """Take the whole frames out of ``buffer``."""
    at = 0
    while len(buffer) - at >= 4 and len(buffer) - at - 4 >= (size := int.from_bytes(buffer[at : at + 4], "big")):
        yield unpack(buffer[at + 4 : at + 4 + size])
        at += 4 + size
    del buffer[:at]


def work(tasks: socket.socket) -> None:
    """A worker: read a record, run a no-op for each of its tasks, answer with one record."""
    while data := tasks.recv(1 << 18):
        rows = []
        for task_id, record in unpack(data):
            began = now_ms()
            body = record[:-4]
            if crc32(body).to_bytes(4, "big") != record[-4:]:
                raise ValueError(f"task {task_id}: the record fails its checksum")
            unpack(body[HEAD.size + HEAD.unpack_from(body)[5] :])
            rows.append((task_id, began, now_ms(), None))
        tasks.send(pack(rows))


class Turns:
    """The loop. ``keep``: finished tasks that stay."""

    def __init__(self, directory: Path, keep: int) -> None:
        self.env, self.db = open_store(directory / "store")
        self.keep = keep
        self.id = self.batch = self.pending = self.done = self.kept = 0
        self.paused = False
        self.running: dict[int, list[int]] = {}
        self.added: list[list[Any]] = []
        self.ended: list[Sequence[Any]] = []
        self.workers: dict[int, tuple[socket.socket, list[int]]] = {}  # by descriptor: its socket, [how far ahead]
        for _ in range(WORKERS):
            ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            if not os.fork():
                ours.close()
                for other, _ahead in self.workers.values():
                    other.close()
                work(theirs)
                os._exit(0)
            theirs.close()
            ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4 << 20)
            self.workers[ours.fileno()] = (ours, [0])

    def serve(self, client: socket.socket) -> None:
        """Turn until the client is gone."""
        epoll, buffer = select.epoll(), bytearray()
        for fd in (client.fileno(), *self.workers):
            epoll.register(fd, select.EPOLLIN)
        while True:
            for fd, _ in epoll.poll():
                if fd == client.fileno():
                    data = client.recv(1 << 18)
                    if not data:
                        return
                    buffer += data
                else:
                    tasks, ahead = self.workers[fd]
                    rows = unpack(tasks.recv(1 << 18))
                    ahead[0] -= len(rows)
                    self.ended += rows
            answers = []
            for request in frames(buffer):
                if isinstance(request, list):
                    self.added.append(request)
                elif request == DONE:
                    answers.append(self.done)
                else:
                    self.paused = not self.paused
                    answers.append(self.pending)
            answered, grants = self.turn()
            client.sendall(b"".join(map(frame, answered + answers)))
            for tasks, record in grants:
                tasks.send(record)

    def turn(self) -> tuple[list[Any], list[tuple[socket.socket, bytes]]]:
        now, db = now_ms(), self.db
        with self.env.begin(write=True) as txn:
            if self.ended:
                self.settle(txn)
            answers = [self.enqueue(txn, now, rows) for rows in self.added]
            self.added.clear()
            grants = [] if self.paused else self.claim(txn, now)
            txn.put(b"counters", COUNTERS.pack(self.id, self.id, self.batch, self.done), db=db["meta"])
            txn.put(b"tally", pack(["default", "noop", self.pending, self.done, len(self.running)]), db=db["tallies"])
        return answers, grants

    def settle(self, txn: Any) -> None:
        states, history, db = [], [], self.db
        for task_id, began, ended, result in self.ended:
            batch = self.running.pop(task_id)
            states.append((U64.pack(task_id), sealed(pack([5, 1, task_id, 0, 0, began, ended, 1, 0, 0, 0, False, "w1", False, result]))))
            history.append((HISTORY.pack(5, ended, task_id), ENDED.pack(1, 0, 200)))
            batch[1] -= 1
            if not batch[1]:
                txn.delete(U64.pack(batch[0]), db=db["running"])
        txn.cursor(db["states"]).putmulti(states)
        txn.cursor(db["history"]).putmulti(history)
        self.done += len(states)
        self.kept += len(states)
        self.ended.clear()
        ends = txn.cursor(db["history"])
        for _ in range(min(self.kept - self.keep, 2 * len(states))):
            ends.first()
            key = ends.key()[9:]
            ends.delete()
            txn.delete(key, db=db["tasks"])
            txn.delete(key, db=db["states"])
            self.kept -= 1

    def enqueue(self, txn: Any, now: int, rows: list[Any]) -> list[int]:
        tasks, ready, first, task_id = [], [], self.id + 1, self.id
        for _type, payload, _options in rows:
            task_id += 1
            tasks.append((U64.pack(task_id), sealed(HEAD.pack(1, now, task_id, 0, 0, len(HEADER)) + HEADER + payload)))
            ready.append((READY.pack(1, 8, task_id), PAIR.pack(task_id, now)))
        txn.cursor(self.db["tasks"]).putmulti(tasks, append=True)
        txn.cursor(self.db["ready"]).putmulti(ready)
        self.id = task_id
        self.pending += len(rows)
        return list(range(first, task_id + 1))

    def claim(self, txn: Any, now: int) -> list[tuple[socket.socket, bytes]]:
        grants: list[tuple[socket.socket, bytes]] = []
        ready, specifications = txn.cursor(self.db["ready"]), self.db["tasks"]
        for tasks, ahead in self.workers.values():
            if ahead[0] > AHEAD // 2 or not ready.first():
                continue
            self.batch += 1
            batch = [self.batch, 0]
            taken: list[tuple[int, bytes]] = []
            while ahead[0] + len(taken) < AHEAD and (value := ready.value()):
                record = txn.get(value[:8], db=specifications)
                if crc32(record[:-4]).to_bytes(4, "big") != record[-4:]:
                    raise ValueError("a record fails its checksum")
                task_id = U64.unpack_from(value)[0]
                self.running[task_id] = batch
                taken.append((task_id, record))
                ready.delete()
            batch[1] = len(taken)
            ahead[0] += len(taken)
            self.pending -= len(taken)
            txn.put(U64.pack(self.batch), sealed(pack(["w1", now, 0, [row[0] for row in taken], None])), db=self.db["running"], append=True)
            grants += [(tasks, pack(taken[at : at + RECORD])) for at in range(0, len(taken), RECORD)]
        return grants


class Bare:
    """A client of a bare loop of its own; it has the few methods of ``tq.client.Client`` that the measures use."""

    def __init__(self, keep: int = 100_000) -> None:
        self.home = tempfile.mkdtemp(prefix="tq-bare-", dir="/tmp" if len(tempfile.gettempdir()) > 60 else None)
        ours, theirs = socket.socketpair()
        command = [sys.executable, "-c", "from tests.bench.bare import main; main()", self.home, str(keep), str(theirs.fileno())]
        self.process = subprocess.Popen(command, pass_fds=[theirs.fileno()], cwd=ROOT)
        theirs.close()
        self.socket, self.buffer, self.answers = ours, bytearray(), deque[Any]()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()
        try:
            self.process.wait(10)
        finally:
            self.process.kill()
            shutil.rmtree(self.home, ignore_errors=True)

    def ask(self, request: object) -> None:
        self.socket.sendall(frame(request))

    def answer(self) -> Any:
        while not self.answers:
            data = self.socket.recv(1 << 18)
            if not data:
                raise EOFError("the bare loop has ended; its own words are on stderr")
            self.buffer += data
            self.answers += frames(self.buffer)
        return self.answers.popleft()

    def enqueue_many(self, rows: Sequence[tuple[str, object]]) -> list[int]:
        ids: list[int] = []
        waiting = 0
        for at in range(0, len(rows), GROUP):
            self.ask([(name, msgpack.packb(payload), None) for name, payload in rows[at : at + GROUP]])
            waiting += 1
            if waiting >= IN_FLIGHT:
                ids += self.answer()
                waiting -= 1
        for _ in range(waiting):
            ids += self.answer()
        return ids

    def stats(self) -> dict[str, int]:
        self.ask(DONE)
        return {"completed": self.answer()}

    def set_queue(self, _name: str, *, paused: bool) -> None:
        self.ask(SWITCH)
        self.answer()


def main() -> None:
    """The process of the loop: directory, tasks to keep, and the descriptor of its only client."""
    directory, keep, client = Path(sys.argv[1]), int(sys.argv[2]), socket.socket(fileno=int(sys.argv[3]))
    gc.disable()
    turns = Turns(directory, keep)
    with contextlib.suppress(ConnectionError):
        turns.serve(client)

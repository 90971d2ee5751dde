"""A machine that is not there: time, descriptors, sockets and processes for a daemon that is.

For: ``Machine`` (virtual time, chance, what is scheduled, the log of what happened), the loop that sleeps in it, the sockets
of clients, and the pairs and processes of workers, in the shapes that ``tq.daemon``, ``tq.api.unix`` and ``tq.child`` know.
Not for: what clients ask (actors), what must hold (oracle), what breaks when (simulation).
Runs in: the process of a simulation, on one thread.
Promises: nothing here reads a clock, waits, or depends on anything but the seed; time moves only in ``SimLoop.poll``, in
``Machine.sleep`` and while a commit takes its time.
"""

from __future__ import annotations

import hashlib
import heapq
import math
import os
import random
import signal
import struct
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any

from tq.board import Board
from tq.child import Child
from tq.loop import READ, WRITE, Handler

HANG_UP = 0x10
START = 1_700_000_000_000
SPINS = 2000
"""Polls in one and the same millisecond after which a daemon counts as spinning."""


class Found(BaseException):
    """An invariant does not hold. No handler of tq may swallow it."""


class Cut(BaseException):
    """The daemon dies here: "kill" leaves what the kernel has, "power" only what is durable."""

    def __init__(self, kind: str) -> None:
        super().__init__(kind)
        self.kind = kind


class Over(BaseException):
    """The simulation is over."""


class Machine:
    """Virtual time in ms (``ticks`` never steps back or forth, ``wall`` may), one stream of chance, and the events to come."""

    def __init__(self, seed: int) -> None:
        self.chance = random.Random(seed)
        self.ticks = 1_000_000
        self.offset = START - self.ticks
        self.cpu_s = 0.0
        self.boot = 1
        self.calm = False  # no faults any more
        self.holds = seed % 4 == 0  # queues have rules by which they are held
        self.breakers = seed % 4 == 2  # types have breakers
        self.flows = seed % 8 in (1, 7)  # there are limits, tenants and flow keys, and requests of tasks that wait for each other
        self.sources: dict[int, Any] = {}
        self.processes: dict[int, Process] = {}
        self.listener: Listener | None = None
        self.doom: tuple[int, str] | None = None  # how many points from now the daemon dies, and how
        self.log: list[str] | None = None
        self._digest = hashlib.blake2b(digest_size=8)
        self._heap: list[tuple[int, int, Callable[[], None]]] = []
        self._order = 0
        self._fd = self._pid = 10_000_000  # no number that the system gives
        self.events = 0

    # -- time ------------------------------------------------------------------------------------------------------

    def wall(self) -> int:
        return self.ticks + self.offset

    def now(self) -> int:
        return self.ticks

    def cpu(self) -> float:
        """Seconds that never step: each look at this clock costs a little."""
        self.cpu_s += 0.0002
        return self.cpu_s + self.ticks / 1000

    def at(self, delay: int, act: Callable[[], None]) -> None:
        """Do ``act`` so many ms from now."""
        self._order += 1
        heapq.heappush(self._heap, (self.ticks + delay, self._order, act))

    def step(self, until: int | None) -> bool:
        """Let time pass to the next event and have it happen; False: ``until`` came before it."""
        if not self._heap and until is None:
            raise Found("I11: expected something to happen yet, found a daemon that sleeps for ever and nobody to wake it")
        if not self._heap or (until is not None and self._heap[0][0] > until):
            self.ticks = max(self.ticks, until or 0)
            return False
        at, _, act = heapq.heappop(self._heap)
        self.ticks = max(self.ticks, at)
        self.events += 1
        act()
        return True

    def sleep(self, ms: int) -> None:
        """Let events happen for so long, with no daemon there."""
        until = self.ticks + ms
        while self.step(until):
            pass

    # -- what happened ---------------------------------------------------------------------------------------------

    def note(self, *words: object) -> None:
        """Write it into the log, of which the digest is the proof that a seed gives the same again."""
        line = f"{self.ticks} {' '.join(map(str, words))}"
        self._digest.update(line.encode() + b"\n")
        if self.log is not None:
            self.log.append(line)

    def digest(self) -> str:
        return self._digest.hexdigest()

    def point(self, where: str) -> None:
        """A place at which the daemon may die."""
        if self.doom is not None:
            left, kind = self.doom
            self.doom = (left - 1, kind) if left else None
            if not left:
                self.note("dies", kind, where)
                raise Cut(kind)

    def some(self, *choices: Any) -> Any:
        return self.chance.choice(choices)

    def often(self, share: float) -> bool:
        return self.chance.random() < share

    def between(self, low: int, high: int) -> int:
        return self.chance.randint(low, high)

    # -- numbers ---------------------------------------------------------------------------------------------------

    def descriptor(self, source: Any) -> int:
        self._fd += 1
        self.sources[self._fd] = source
        return self._fd

    def pid(self) -> int:
        self._pid += 1
        return self._pid

    def start_ticks(self, pid: int) -> int | None:
        """As tq.board's: when a process started, None if it is gone."""
        process = self.processes.get(pid)
        return process.started if process is not None else None

    def kill_and_wait(self, pid: int, ticks: int) -> None:
        if self.start_ticks(pid) == ticks:
            self.processes[pid].die(-signal.SIGKILL)


class SimLoop:
    """In the place of ``tq.loop.Loop``."""

    def __init__(self, machine: Machine) -> None:
        self._machine = machine
        self._handlers: dict[int, Handler] = {}
        self._events: dict[int, int] = {}
        self._signals: dict[int, Callable[[], None]] = {}
        self.pending: list[int] = []
        self.woke: Callable[[], None] = lambda: None
        self.idle: Callable[[float], None] = lambda _: None
        """Called before it sleeps, with how long (ms) it would."""
        self._last = (0, 0)

    def add(self, fd: int, handler: Handler, events: int = READ) -> None:
        assert fd not in self._handlers
        self._handlers[fd], self._events[fd] = handler, events

    def change(self, fd: int, events: int) -> None:
        assert fd in self._handlers
        self._events[fd] = events

    def remove(self, fd: int) -> None:
        self._handlers.pop(fd, None)
        self._events.pop(fd, None)

    def on_signal(self, number: int, handler: Callable[[], None]) -> None:
        self._signals[number] = handler

    def close(self) -> None:
        self._handlers.clear()

    def _ready(self) -> list[tuple[int, int]]:
        found = []
        for fd, wanted in self._events.items():
            events = self._machine.sources[fd].events() & (wanted | HANG_UP)
            if events:
                found.append((fd, events))
        return found

    def poll(self, timeout_s: float | None) -> None:
        machine = self._machine
        machine.point("poll")
        until = None if timeout_s is None else machine.ticks + math.ceil(max(timeout_s, 0.0) * 1000)
        while machine.step(machine.ticks):
            pass
        if not (ready := self._ready()) and not self.pending:
            self.idle(math.inf if until is None else until - machine.ticks)
        while not ready and not self.pending and machine.step(until):
            ready = self._ready()
        since, spins = self._last
        self._last = (since, spins + 1) if since == machine.ticks else (machine.ticks, 0)
        if spins > SPINS:
            raise Found(f"I11: expected a daemon that sleeps when there is nothing to do, found {spins} turns in one millisecond")
        self.woke()
        while self.pending:
            self._signals[self.pending.pop(0)]()
        for fd, events in ready:
            if (handler := self._handlers.get(fd)) is not None:
                handler(events)


# -- clients' sockets ----------------------------------------------------------------------------------------------


class Stream:
    """The daemon's end of a client's connection; ``client`` has ``take(stream, data)`` and ``lost(stream)``."""

    def __init__(self, machine: Machine, client: Any) -> None:
        self._machine = machine
        self.client: Any = client
        self._fd = machine.descriptor(self)
        self._in = bytearray()
        self._out = bytearray()
        self._arrives = 0  # when the last bytes of the client will be here
        self._delivers = False
        self.room = machine.some(1 << 20, 1 << 20, 4000)
        self.slow_ms = machine.some(0, 0, 0, 3000)
        self.closed = self.hung_up = False

    # the client's side

    def feed(self, data: bytes) -> None:
        """Bytes from the client, in one piece or two."""
        at = self._machine.between(1, len(data)) if self._machine.often(0.2) else len(data)
        for piece in (data[:at], data[at:]):
            if piece:
                self._arrives = max(self._arrives, self._machine.ticks + self._machine.between(0, 5))
                self._machine.at(self._arrives - self._machine.ticks, lambda piece=piece: self._in.extend(piece))  # type: ignore[misc]

    def hang_up(self) -> None:
        """The client is gone."""
        self.hung_up, self.client = True, None

    def _deliver(self) -> None:
        self._delivers = False
        data, self._out = bytes(self._out), bytearray()
        if self.client is not None and data:
            self.client.take(self, data)
        if self.closed and self.client is not None:
            client, self.client = self.client, None
            client.lost(self)

    def _soon(self) -> None:
        if not self._delivers:
            self._delivers = True
            self._machine.at(self._machine.between(0, 5) + self.slow_ms, self._deliver)

    # the daemon's side

    def events(self) -> int:
        gone = HANG_UP if self.hung_up else 0
        return gone | (READ if self._in or self.hung_up else 0) | (WRITE if len(self._out) < self.room else 0)

    def fileno(self) -> int:
        return self._fd

    def setblocking(self, _: bool) -> None:
        pass

    def getsockopt(self, *_: int) -> bytes:
        return struct.pack("3i", 4242, os.geteuid(), 0)

    def recv(self, most: int) -> bytes:
        if not self._in:
            if self.hung_up:
                return b""
            raise BlockingIOError
        data = bytes(self._in[:most])
        del self._in[:most]
        return data

    def send(self, data: bytes) -> int:
        self._machine.point("send")
        if self.hung_up:
            raise BrokenPipeError
        taken = min(len(data), self.room - len(self._out))
        if not taken:
            raise BlockingIOError
        self._out += data[:taken]
        self._soon()
        return taken

    def close(self) -> None:
        """Also what the kernel does for a daemon that died: what it has sent still arrives."""
        if not self.closed:
            self.closed = True
            self._machine.sources.pop(self._fd, None)
            self._soon()


class Listener:
    """The socket on which the daemon listens."""

    def __init__(self, machine: Machine) -> None:
        self._machine = machine
        self.waiting: deque[Stream] = deque()
        self.streams: list[Stream] = []
        self._fd = machine.descriptor(self)

    def dial(self, client: Any) -> Stream:
        stream = Stream(self._machine, client)
        self.waiting.append(stream)
        self.streams.append(stream)
        return stream

    def events(self) -> int:
        return READ if self.waiting else 0

    def fileno(self) -> int:
        return self._fd

    def accept(self) -> tuple[Stream, None]:
        if not self.waiting:
            raise BlockingIOError
        return self.waiting.popleft(), None

    def close(self) -> None:
        """With all that was connected, or about to be."""
        if self._machine.listener is self:
            self._machine.listener = None
        self._machine.sources.pop(self._fd, None)
        for stream in self.streams:
            stream.close()


# -- workers' pairs and processes ----------------------------------------------------------------------------------


class Records:
    """One direction of a SOCK_SEQPACKET pair: whole records, so many at most."""

    def __init__(self, most: int) -> None:
        self.most = most
        self.records: deque[bytes] = deque()
        self.heard: Callable[[], None] = lambda: None
        self.ended = False


class End:
    """One end of a pair."""

    def __init__(self, machine: Machine, comes: Records, goes: Records) -> None:
        self._comes, self._goes = comes, goes
        self._sources = machine.sources
        self._fd = machine.descriptor(self)

    def events(self) -> int:
        readable = READ if self._comes.records or self._comes.ended else 0
        return readable | (WRITE if len(self._goes.records) < self._goes.most else 0)

    def fileno(self) -> int:
        return self._fd

    def send(self, record: bytes) -> int:
        if self._goes.ended:
            raise BrokenPipeError
        if len(self._goes.records) >= self._goes.most:
            raise BlockingIOError
        self._goes.records.append(record)
        self._goes.heard()
        return len(record)

    def recv(self, _: int) -> bytes:
        if self._comes.records:
            return self._comes.records.popleft()
        if self._comes.ended:
            return b""
        raise BlockingIOError

    def recvmsg(self, most: int, *_: int) -> tuple[bytes, list[Any], int, None]:
        return self.recv(most), [], 0, None

    def close(self) -> None:
        self._sources.pop(self._fd, None)


class Process:
    """A process as its parent sees it (the part of ``Popen`` that tq uses), and what it is on the machine."""

    def __init__(self, machine: Machine) -> None:
        self.machine = machine
        self.pid = machine.pid()
        self.started = machine.ticks // 10
        self.code: int | None = None
        self.frozen = False
        self.fd = machine.descriptor(self)
        machine.processes[self.pid] = self

    def events(self) -> int:
        return READ if self.code is not None else 0

    def wait(self) -> int:
        assert self.code is not None, "a wait for a process that lives would block the daemon"
        return self.code

    def send_signal(self, number: int) -> None:
        if number == signal.SIGSTOP:
            self.frozen = True

    def terminate(self) -> None:
        if not self.ignores_term():
            self.machine.at(self.machine.between(0, 20), lambda: self.die(-signal.SIGTERM))

    def kill(self) -> None:
        self.machine.at(self.machine.between(0, 20), lambda: self.die(-signal.SIGKILL))

    def die(self, code: int) -> None:
        if self.code is None:
            self.code = code
            self.machine.processes.pop(self.pid, None)
            self.died()

    def ignores_term(self) -> bool:
        return False

    def died(self) -> None:
        """What else its death means."""

    def let_go(self) -> None:
        """Nobody looks at it any more."""


class SimChild(Child):
    """A worker's parent side, but for the kernel's part in it. ``start`` makes the process behind the three pairs' other ends."""

    machine: Machine
    start: Callable[[SimChild, Mapping[str, Any], Records, Records, Records, Records], Process]
    granted: Callable[[int, int], None]
    closed = False

    def _spawn(self, options: Mapping[str, Any]) -> None:
        machine = self.machine
        machine.point("spawn")
        to_worker, results = Records(machine.some(3, 60, 1600)), Records(1600)
        says, hears = Records(1000), Records(1000)
        self.tasks, self._theirs = End(machine, results, to_worker), End(machine, to_worker, results)  # type: ignore[assignment]
        self.control = End(machine, says, hears)  # type: ignore[assignment]
        self.board = Board.create(self._board_path)
        process = type(self).start(self, options, to_worker, results, says, hears)
        self.process = process  # type: ignore[assignment]
        self.pidfd = process.fd
        self.board.set_worker(process.pid, process.started)

    def take(self, job: Any) -> None:
        type(self).granted(job.id, job.claim)
        super().take(job)

    def close(self) -> None:
        self.closed = True
        self._let_go_of_ends()
        self.board.close()

    def _let_go_of_ends(self) -> None:
        for end in (self.tasks, self._theirs, self.control):
            end.close()
        self.machine.sources.pop(self.pidfd, None)

    def orphaned(self, kind: str) -> None:
        """Its daemon is gone: by a power cut with all processes, else it notices before long."""
        if self.closed:
            return
        self._let_go_of_ends()
        process: Any = self.process
        process.orphan = True
        if process.code is not None:
            self.board.close()
        elif kind == "power":
            process.die(-signal.SIGKILL)
        else:
            self.machine.at(self.machine.between(0, 1000), lambda: process.die(0))

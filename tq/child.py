"""A worker process as its parent holds it: the process, its two socket pairs, its board.

For: spawning, sending tasks as records, receiving results, taking back what was not read, ending it.
Not for: whom to feed with what, what a death means (pool).
Runs in: the daemon, on the thread of its loop.
Promises: spawned, never forked: no descriptor but its own three, a session of its own; a record is read once, by the
worker or by ``take_back``: the kernel decides; nothing here blocks.
"""

from __future__ import annotations

import json
import math
import os
import select
import signal
import socket
import subprocess
import sys
from collections import deque
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tq.board import Board, sessions_below, start_ticks
from tq.model import pack, unpack
from tq.store import TypeInfo, Want

INLINE_BYTES = 64 << 10
"""A larger specification travels as a memfd beside its record: a stock kernel takes no record over some 200 kB."""
RECORD_BYTES = 100 << 10
RECORD_TASKS = 64
RECORD_MS = 1.0
"""Work that shares a record: small enough that nothing long hides behind it."""
BUFFER = 4 << 20
"""Asked of the kernel for each pair, so that 1,600 small records fit instead of 300."""
READ_BYTES = 1 << 18
SHORT_BYTES = 1 << 10
CALL = "call"
"""In place of ``quick``: one call of the handler takes all of the record."""


@dataclass(slots=True)
class Job:
    """A task in the hands of a worker; instants and durations in ms of the pool's clock. ``ending``: we asked for its end.

    ``ends_at`` is when it must be over, running or not; ``quick``: it shares a record, so nobody knows when it begins;
    ``suspended_at`` 0: it is not; ``paused_ms`` is how long it was, which is not counted as running; ``call`` is what it shares
    with others that one call of their handler takes.
    """

    id: int
    claim: int
    type: str
    timeout_ms: int
    sent_at: int
    cost: float
    ends_at: float = math.inf
    lonely: bool = False  # it crashed before: it runs with nothing beside it
    quick: bool = False
    suspended_at: int = 0
    paused_ms: int = 0
    ending: str | None = None
    kill_at: float = math.inf
    call: Together | None = None


@dataclass(slots=True)
class Together:
    """The tasks of one call; instants and durations in ms of the pool's clock. ``tokens`` are theirs on the worker's board."""

    ids: tuple[int, ...]
    tokens: frozenset[int]
    timeout_ms: int
    sent_at: int
    ends_at: float = math.inf
    """When the first of them must be over, running or not."""
    began_at: int = 0
    """When the worker was free for it; 0: it is not yet."""
    ending: bool = False
    """All of them were asked to end."""
    kill_at: float = math.inf
    open: int = 0
    """How many of them are in the worker's hands."""


class Child:
    """One worker process. ``jobs`` are in the order of their records; ``state``: starting, ready, draining, ending."""

    def __init__(self, name: str, run: Path, options: Mapping[str, Any], now: int, *, only_checks: bool = False) -> None:
        self.name = name
        self.started_at = self.active_at = self.freed_at = self.heard_at = now
        """When it was spawned; last made progress; last answered for tasks; last gave any sign of life."""
        self.only_checks = only_checks
        self.state = "starting"
        self.jobs: dict[int, Job] = {}
        self._beside = 0  # jobs that take no slot of their own: all but one of a call
        self._work = 0.0
        self._slow = 0  # jobs of which nobody knows how long they take, or too long
        self.want: Want | None = None
        """What it would like when it has nothing."""
        self.done = 0
        self.weighed_at = 0  # when its memory was last looked at
        self.failed: set[int] = set()  # tasks that failed one after the other
        self.worn = False  # it has done enough, or takes too much: another one is to take its place
        self.leaves = False  # it has said that it begins nothing more
        self.retiring = False  # another one is on its way to take its place
        self.unwanted = False  # it was let go before it was ready
        self.keep_until = 0  # not before: the last one that was to replace it could not start
        self.kill_at = math.inf
        """When it is killed unless it is gone by then."""
        self.sessions: set[tuple[int, int]] = set()
        """(session, start in ticks) of what its handlers started and must end with it."""
        self.notes: list[list[Any]] = []
        """What it said of tasks that go on: ``["progress", id, claim, fraction, text]``."""
        self.files: list[str] = []
        """The application's files, if it was asked to name them."""
        self.seen = 0
        """How many tasks it had begun when last looked at."""
        self.flushed = False  # asked, since its last sign of progress, to send what it has
        self.judged = False  # looked at since then for being alive at all
        self.offered = False
        """Whether something was sent since the last take-back."""
        self.types: list[TypeInfo] = []
        self.refused: str | None = None
        self.batched: frozenset[str] = frozenset()
        """The types of which a call takes many."""
        self.known: frozenset[str] = frozenset()
        """The types it may be given, once it has said so."""
        self.alone: deque[list[Any]] = deque()
        """Entries of tasks that crashed before, while others run here: each is sent when nothing else does."""
        self.lonely = 0  # jobs that crashed before
        self._unsent: deque[tuple[bytes, list[int]]] = deque()
        self._board_path = run / f"{name}.board"
        self._spawn(options)

    def _spawn(self, options: Mapping[str, Any]) -> None:
        """Start the process, with its pairs and its board. OSError: there are no descriptors, no room, no process."""
        with ExitStack() as opened:  # what was opened is closed again if the rest fails: no descriptors, no room, no process
            self.tasks, self._theirs = map(opened.enter_context, socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET))
            self.control, theirs = map(opened.enter_context, socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET))
            for end in (self.tasks, self._theirs):
                end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, BUFFER)
            self.board = Board.create(self._board_path)
            opened.callback(self.board.close)
            fds = (self._theirs.fileno(), theirs.fileno(), self.board.fd)
            told = json.dumps({"worker": self.name, **options})
            argv = [sys.executable, "-c", "from tq.worker import main; main()", *map(str, fds), told]
            self.process = subprocess.Popen(argv, pass_fds=fds, start_new_session=True, stdin=subprocess.DEVNULL)
            opened.callback(self.process.wait)
            opened.callback(self.process.kill)
            self.pidfd = os.pidfd_open(self.process.pid)
            self.board.set_worker(self.process.pid, start_ticks(self.process.pid) or 0)
            opened.pop_all()
        theirs.close()
        self.tasks.setblocking(False)
        self.control.setblocking(False)

    # -- jobs ------------------------------------------------------------------------------------------------------

    def take(self, job: Job) -> None:
        """``job`` is this worker's now."""
        self.jobs[job.id] = job
        self.lonely += job.lonely
        if (call := job.call) is not None:
            self._beside += call.open > 0
            call.open += 1
        if job.cost == math.inf:
            self._slow += 1
        else:
            self._work += job.cost

    def drop(self, task_id: int, claim: int) -> Job | None:
        """The job is its no more; None if it was not (or not under this claim)."""
        job = self.jobs.get(task_id)
        if job is None or job.claim != claim:
            return None
        del self.jobs[task_id]
        self.lonely -= job.lonely
        if (call := job.call) is not None:
            call.open -= 1
            self._beside -= call.open > 0
        if job.cost == math.inf:
            self._slow -= 1
        else:
            self._work -= job.cost
        if not self.jobs:
            self._work = 0.0  # no rounding error stays
        return job

    def running(self, slots: int) -> list[int]:
        """The tasks in its first so many slots, a call's being in one."""
        found: list[int] = []
        call: Together | None = None
        for job in self.jobs.values():
            slots -= job.call is None or job.call is not call
            if slots < 0:
                break
            call = job.call
            found.append(job.id)
        return found

    @property
    def load(self) -> int:
        """How many slots its jobs take, now or when it comes to them."""
        return len(self.jobs) - self._beside

    @property
    def work_ms(self) -> float:
        """How long its jobs will take, as far as one can tell."""
        return math.inf if self._slow else self._work

    # -- sending ---------------------------------------------------------------------------------------------------

    @property
    def stuffed(self) -> bool:
        """Whether records wait for the pair to have room."""
        return bool(self._unsent)

    def send(self, entries: Sequence[tuple[list[Any], float | None]]) -> bool:
        """Send ``[id, claim, runs before, specification, failures]`` entries in order; those with a cost (ms) share records. A command's
        has its environment behind it, if the store keeps that apart.

        Whether all of it is on its way; if not, call ``send_on`` when ``tasks`` can be written.
        """
        self.offered = True
        group: list[list[Any]] = []
        size, work = 0, 0.0
        for entry, cost in entries:
            length = len(entry[3])
            alone = cost is None or length > INLINE_BYTES
            if group and (alone or work + (cost or 0) > RECORD_MS or len(group) >= RECORD_TASKS or size + length > RECORD_BYTES):
                self._unsent.append((pack([True, group]), []))
                group, size, work = [], 0, 0.0
            if alone:
                self._append_alone(entry)
                continue
            group.append(entry)
            size += length
            work += cost or 0
        if group:
            self._unsent.append((pack([True, group]), []))
        return self.send_on()

    def _append_alone(self, entry: list[Any]) -> None:
        fds: list[int] = []
        entry, beside = entry[:5], entry[5:]
        if len(entry[3]) + sum(map(len, beside)) > INLINE_BYTES:
            fds.append(_file_of(entry[3]))
            entry = [*entry[:3], None, *entry[4:]]
        self._unsent.append((pack([False, [entry], *beside]), fds))

    def send_call(self, entries: Sequence[list[Any]]) -> bool:
        """Send entries, as ``send`` takes them, that one call of their handler is to take; the same is returned."""
        self.offered = True
        fds: list[int] = []
        if sum(len(entry[3]) for entry in entries) > INLINE_BYTES:
            fds.append(_file_of(pack([entry[3] for entry in entries])))
            entries = [[*entry[:3], None, *entry[4:]] for entry in entries]
        self._unsent.append((pack([CALL, entries]), fds))
        return self.send_on()

    def send_on(self) -> bool:
        """Send what the pair takes; a full one is back-pressure."""
        while self._unsent:
            record, fds = self._unsent[0]
            try:
                if fds:
                    socket.send_fds(self.tasks, [record], fds)
                else:
                    self.tasks.send(record)
            except BlockingIOError:
                return False
            except (BrokenPipeError, ConnectionResetError):  # it is dying, which its pidfd tells
                return True
            except OSError:  # ENOBUFS and the like: later
                return False
            self._unsent.popleft()
            _close_all(fds)
        return True

    def tell(self, *message: object) -> None:
        """Say something on the control pair. A full one is nobody listening, who will be ended in time."""
        try:
            self.control.send(pack(message))
        except OSError:
            return

    # -- receiving -------------------------------------------------------------------------------------------------

    def receive(self, most: int) -> list[Sequence[Any]]:
        """Results of at most ``most`` records; what is no result is kept in ``notes``."""
        rows: list[Sequence[Any]] = []
        for _ in range(most):
            try:
                data = self.tasks.recv(READ_BYTES)
            except OSError:
                break
            if not data:
                break
            found = unpack(data)
            if type(found[0]) is list:
                rows += found
            else:  # what is no end travels alone
                self.notes.append(found)
            if len(data) < SHORT_BYTES:  # surely the last for now; if not, the loop offers it again
                break
        return rows

    def hear(self) -> list[Any] | None:
        """One message of the control pair; None when it is closed; empty when there is none."""
        try:
            data = self.control.recv(READ_BYTES)
        except BlockingIOError:
            return []
        except OSError:
            return None
        return list(unpack(data)) if data else None

    def take_back(self) -> list[tuple[int, int]]:
        """Read the records the worker has not read: (id, claim) of each task in them."""
        self.offered = False
        records = []
        while True:
            try:
                # not socket.recv_fds, which up to 3.12 at least forgets its flags and would wait here for ever
                data, rights, _, _ = self._theirs.recvmsg(READ_BYTES, socket.CMSG_SPACE(4), socket.MSG_DONTWAIT | socket.MSG_CMSG_CLOEXEC)
            except OSError:
                break
            _close_all([int.from_bytes(fd[:4], sys.byteorder) for _, _, fd in rights])
            if not data:
                break
            records.append(data)
        while self._unsent:
            data, fds = self._unsent.popleft()
            _close_all(fds)
            records.append(data)
        entries = [entry for record in records for entry in unpack(record)[1]] + list(self.alone)
        self.alone.clear()
        return [(entry[0], entry[1]) for entry in entries]

    def has_begun(self, job: Job, begun: set[int]) -> bool:
        """Whether ``job`` is among the tokens of ``board.begun()``, or one that begins with it is."""
        return Board.token(job.id, job.claim) in begun or (job.call is not None and not begun.isdisjoint(job.call.tokens))

    @property
    def works(self) -> bool:
        """Whether some job has begun."""
        begun = self.board.begun()
        return any(self.has_begun(job, begun) for job in self.jobs.values())

    # -- the end ---------------------------------------------------------------------------------------------------

    def terminate(self) -> None:
        """TERM: it ends, unless what runs in it has taken that signal for itself. Nothing more is given to it."""
        self.state = "ending"
        self.sessions.update(sessions_below(self.process.pid))
        self.process.terminate()

    def kill(self) -> None:
        """KILL, once it is known what it leaves behind: a process that is stopped starts no more."""
        self.state, self.kill_at = "ending", math.inf
        self.process.send_signal(signal.SIGSTOP)
        self.sessions.update(sessions_below(self.process.pid))
        self.process.kill()

    def close(self) -> None:
        """After its death: let go of everything."""
        for end in (self.tasks, self._theirs, self.control):
            end.close()
        while self._unsent:
            _close_all(self._unsent.popleft()[1])
        os.close(self.pidfd)
        self.board.close()

    def keep_board(self) -> Path:
        """Give the board of a dead worker a name of its own: what it says must outlive us until it is stored."""
        kept = self._board_path.with_name(f"{self.name}.{self.process.pid}.dead.board")
        self._board_path.rename(kept)
        return kept


def _file_of(data: bytes) -> int:
    """A nameless file that holds this."""
    fd = os.memfd_create("tq-task", os.MFD_CLOEXEC)
    try:
        view = memoryview(data)
        while view:
            view = view[os.write(fd, view) :]
    except OSError:
        os.close(fd)
        raise
    return fd


def _close_all(fds: Sequence[int]) -> None:
    for fd in fds:
        os.close(fd)


def kill_and_wait(pid: int, ticks: int) -> None:
    """Kill a process that is not our child, if it still is the one that started at ``ticks``, and wait for its end."""
    try:
        fd = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    try:
        if start_ticks(pid) == ticks:
            signal.pidfd_send_signal(fd, signal.SIGKILL)
            poll = select.poll()
            poll.register(fd, select.POLLIN)
            poll.poll(10_000)
    finally:
        os.close(fd)

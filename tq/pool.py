"""The pool: the parent of the workers.

For: spawning workers, handing out claims, taking back what was not begun, noticing death, timeouts, drain.
Not for: deciding what becomes of a task (broker, lifecycle), reading the store, running user code.
Runs in: the daemon, on the thread of its loop; workers are spawned (never forked) from it.
Promises: a death is noticed at once (pidfd) and its blame is exact: tasks on the worker's board that were not answered
have crashed, the others are released uncharged; who is running a task is decided by the kernel (a record of the socket
pair is read once, by the worker or by ``take back``); no process outlives its end unnoticed; nothing polls.

How far ahead a worker is fed: about ``LOOKAHEAD_MS`` of work by the mean run time of each type, at most
``LOOKAHEAD`` tasks; one task of a type that is not measured, runs over ``SLOW_MS``, or is a command.
"""

from __future__ import annotations

import json
import math
import os
import signal
import socket
import subprocess
import sys
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tq.board import Board, end_group, machine, start_ticks
from tq.loop import READ, WRITE, Loop
from tq.store import Claimed, TypeInfo, Want
from tq.model import SHELL, pack, unpack

LOOKAHEAD_MS = 20.0
LOOKAHEAD = 512
SLOW_MS = 5.0
QUICK_MS = 0.25
"""Tasks under this share records, RECORD_MS of work in each: a system call a task would cost more than the task."""
RECORD_MS = 1.0
RECORD_TASKS = 64
OVERHEAD_MS = 0.01
"""What a task costs its worker beside the handler; measured on a no-op."""
INLINE_BYTES = 64 << 10
RECORD_BYTES = 100 << 10
STALL_MS = 30
"""A worker that has answered nothing for so long is asked to send what it has, and loses what it has not begun to
idle ones."""
HELLO_MS = 60_000
RESPAWN_MS = 1000
BUFFER = 4 << 20


@dataclass(slots=True)
class Job:
    """A task in the hands of a worker. ``ending``: we asked for its end, for this reason."""

    id: int
    claim: int
    type: str
    timeout_ms: int
    sent_at: int
    cost: float
    alone: bool = False
    ending: str | None = None
    kill_at: float = math.inf


@dataclass(slots=True, eq=False)
class Worker:
    """A process of the pool, as its parent sees it."""

    name: str
    process: subprocess.Popen[bytes]
    pidfd: int
    tasks: socket.socket
    theirs: socket.socket  # a copy of the worker's end, to take back through
    control: socket.socket
    board: Board
    started_at: int
    state: str = "starting"  # ready, draining, ending
    jobs: dict[int, Job] = field(default_factory=dict)  # in the order of their records
    unsent: deque[tuple[bytes, list[int]]] = field(default_factory=deque)
    active_at: int = 0  # the last sign of progress
    done: int = 0
    flushed: bool = False
    blame: tuple[int, str] | None = None  # the task for which we end it, and what that makes of it
    types: list[TypeInfo] = field(default_factory=list)
    refused: str | None = None
    only_checks: bool = False


@dataclass(slots=True)
class Means:
    """The recent mean run time of a type, in ms, and from how many runs."""

    mean: float = 0.0
    runs: int = 0

    def add(self, total_ms: int, runs: int) -> None:
        self.runs += runs
        self.mean += (total_ms / runs - self.mean) * max(min(1.0, runs / 256), 1 / self.runs)

    @property
    def cost(self) -> float:
        """Mean plus overhead, and while few runs are known a margin that shrinks with them (times are whole ms)."""
        return self.mean + OVERHEAD_MS + 2.0 / self.runs


class Pool:
    """All workers of one daemon."""

    def __init__(self, loop: Loop, data_dir: Path, options: Mapping[str, Any], workers: int, recycle: int, log: Callable[..., None]) -> None:
        self._loop = loop
        self._data_dir = data_dir
        self._run = data_dir / "run"
        self._run.mkdir(mode=0o700, exist_ok=True)
        self._options = dict(options)  # what every worker is told: app, slots, limits
        self._slots = int(options["slots"])
        self._size = workers
        self._grace_ms = int(options["grace_ms"])
        self._recycle_after = recycle
        self._log = log
        self._workers: dict[str, Worker] = {}
        self._means: dict[str, Means] = {}
        self._costs: dict[str, float] = {}
        self._rows: list[Sequence[Any]] = []
        self._respawn_at = 0.0
        self._stopping = False
        self._known: frozenset[str] = frozenset()
        self.checked: list[tuple[str, list[TypeInfo], str | None]] = []
        """Application checks that are over: worker, its types, and why it refused (None: it did not)."""
        self._now = 0

    # -- boot ------------------------------------------------------------------------------------------------------

    def bury(self) -> Callable[[int, int], bool]:
        """End what a dead daemon left running; a function that says whether (id, claim) had been begun."""
        tokens: set[int] = set()
        certain = True
        for path in sorted(self._run.glob("*.board")):
            board = Board.open(path)
            if board.machine != machine():
                certain = False  # another boot: every process is gone, and so may be the page's last words
            else:
                pid, ticks = board.worker()
                if pid and start_ticks(pid) == ticks:
                    self._log("orphan_ended", "warning", worker=path.stem, pid=pid)
                    _kill_and_wait(pid, ticks)
                for pgid, since in board.commands():
                    end_group(pgid, since)
            tokens |= board.begun()
            board.close()
            path.unlink()
        return lambda task_id, claim: not certain or Board.token(task_id, claim) in tokens

    def spawn(self, now: int, only_checks: bool = False) -> Worker:
        """Start one more worker; it is fed once its hello has come."""
        number = next(n for n in range(1, 1 << 20) if f"w{n}" not in self._workers)
        name = f"w{number}"
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        control, their_control = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        for end in (ours, theirs):
            end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, BUFFER)
        board = Board.create(self._run / f"{name}.board")
        told = json.dumps({"worker": name, "data_dir": str(self._data_dir), **self._options})
        fds = (theirs.fileno(), their_control.fileno(), board.fd)
        argv = [sys.executable, "-c", "from tq.worker import main; main()", *map(str, fds), told]
        process = subprocess.Popen(argv, pass_fds=fds, start_new_session=True, stdin=subprocess.DEVNULL)
        their_control.close()
        pidfd = os.pidfd_open(process.pid)
        board.set_worker(process.pid, start_ticks(process.pid) or 0)
        ours.setblocking(False)
        control.setblocking(False)
        worker = Worker(name, process, pidfd, ours, theirs, control, board, now, active_at=now, only_checks=only_checks)
        self._workers[name] = worker
        self._loop.add(ours.fileno(), lambda events: self._on_tasks(worker, events))
        self._loop.add(control.fileno(), lambda _: self._on_control(worker))
        self._loop.add(pidfd, lambda _: self._on_death(worker))
        return worker

    def start(self, now: int) -> None:
        """Bring the pool to its size."""
        self._now = now
        while sum(not w.only_checks and w.state != "draining" for w in self._workers.values()) < self._size:
            self.spawn(now)

    # -- wants and grants ------------------------------------------------------------------------------------------

    def wants(self, now: int) -> list[Want]:
        """A claim for every worker that could do with more work."""
        self._now = now
        self._rebalance(now)
        wants = []
        for worker in self._workers.values():
            if worker.state != "ready" or worker.unsent:
                continue
            jobs = worker.jobs
            if self._slots > 1:
                free = self._slots - len(jobs)
                if free > 0 and not any(job.alone for job in jobs.values()):
                    wants.append(Want(worker.name, min(free, LOOKAHEAD), math.inf, types=self._known))
                continue
            busy = 0.0
            for job in jobs.values():
                busy += job.cost
            if busy < LOOKAHEAD_MS / 2 and len(jobs) < LOOKAHEAD:
                wants.append(Want(worker.name, LOOKAHEAD - len(jobs), LOOKAHEAD_MS - busy, self._costs, types=self._known))
        return wants

    def hand_out(self, want: Want, tasks: Sequence[Claimed], now: int) -> None:
        """Send granted tasks to the worker that wanted them."""
        worker = self._workers.get(want.worker)
        if worker is None or worker.state != "ready":
            self._rows += [_row(task.id, task.claim, "released", now) for task in tasks]
            return
        if not worker.jobs:
            worker.active_at = now
        group: list[list[Any]] = []
        size, work = 0, 0.0
        for task in tasks:
            kind = task.header.type
            cost = self._costs.get(kind, math.inf)
            quick = cost < QUICK_MS and not task.crashes and self._slots == 1
            worker.jobs[task.id] = Job(task.id, task.claim, kind, task.header.timeout_ms, now, math.inf if task.crashes else cost, bool(task.crashes))
            entry = [task.id, task.claim, task.attempt, task.record]
            if not quick:
                group, size, work = self._flush_group(worker, group)
                self._send_one(worker, entry)
                continue
            if group and (work + cost > RECORD_MS or len(group) >= RECORD_TASKS or size + len(task.record) > RECORD_BYTES):
                group, size, work = self._flush_group(worker, group)
            group.append(entry)
            size += len(task.record)
            work += cost
        self._flush_group(worker, group)
        self._send_unsent(worker)

    def _flush_group(self, worker: Worker, group: list[list[Any]]) -> tuple[list[list[Any]], int, float]:
        if group:
            if len(group) == 1 and len(group[0][3]) > INLINE_BYTES:
                self._send_one(worker, group[0])
            else:
                worker.unsent.append((pack([True, group]), []))
        return [], 0, 0.0

    def _send_one(self, worker: Worker, entry: list[Any]) -> None:
        """One task in a record of its own; a large specification travels as a memfd beside it."""
        fds = []
        if len(entry[3]) > INLINE_BYTES:
            fd = os.memfd_create("tq-task", os.MFD_CLOEXEC)
            view = memoryview(entry[3])
            while view:
                view = view[os.write(fd, view) :]
            fds.append(fd)
            entry[3] = None
        worker.unsent.append((pack([False, [entry]]), fds))

    def _send_unsent(self, worker: Worker) -> None:
        """Send what the pair takes; a full one is back-pressure, and tells when it has room."""
        unsent = worker.unsent
        waited = len(unsent) > 0
        while unsent:
            record, fds = unsent[0]
            try:
                if fds:
                    socket.send_fds(worker.tasks, [record], fds)
                else:
                    worker.tasks.send(record)
            except BlockingIOError:
                self._loop.change(worker.tasks.fileno(), READ | WRITE)
                return
            except OSError:  # it is dying: its pidfd tells
                break
            unsent.popleft()
            for fd in fds:
                os.close(fd)
        if waited:
            self._loop.change(worker.tasks.fileno(), READ)

    # -- what comes from workers -----------------------------------------------------------------------------------

    def settled(self) -> list[Sequence[Any]]:
        """Results since the last call, for the broker."""
        rows, self._rows = self._rows, []
        return rows

    @property
    def waiting(self) -> bool:
        return bool(self._rows)

    def _on_tasks(self, worker: Worker, events: int) -> None:
        if events & WRITE:
            self._send_unsent(worker)
        if events & ~WRITE:
            self._receive(worker)

    def _receive(self, worker: Worker, most: int = 64) -> None:
        """Take up to ``most`` records of results."""
        jobs = worker.jobs
        for _ in range(most):
            try:
                data = worker.tasks.recv(1 << 18)
            except BlockingIOError:
                return
            except OSError:
                return
            if not data:
                return
            rows = unpack(data)
            if type(rows[0]) is int:  # an end that is no success travels alone
                rows = [rows]
            worker.active_at, worker.flushed = self._now, False
            total, runs, kind = 0, 0, ""
            for row in rows:
                job = jobs.pop(row[0], None)
                if job is None or job.claim != row[1]:
                    continue
                if job.ending is not None:
                    row = _ended(row, job)
                self._rows.append(row)
                if row[2] == 0:
                    if job.type != kind:
                        self._measure(kind, total, runs)
                        total, runs, kind = 0, 0, job.type
                    total += row[4] - row[3]
                    runs += 1
            worker.done += len(rows)
            self._measure(kind, total, runs)
            if worker.state == "ready" and not jobs and self._recycle(worker):
                self.drain_worker(worker)

    def _recycle(self, worker: Worker) -> bool:
        return bool(self._recycle_after) and worker.done >= self._recycle_after

    def _measure(self, kind: str, total_ms: int, runs: int) -> None:
        if not runs or kind == SHELL:
            return
        means = self._means.setdefault(kind, Means())
        means.add(max(total_ms, 0), runs)
        cost = means.cost
        if cost <= SLOW_MS:
            self._costs[kind] = cost
        else:
            self._costs.pop(kind, None)

    def _on_control(self, worker: Worker) -> None:
        try:
            data = worker.control.recv(1 << 18)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self._loop.remove(worker.control.fileno())
            return
        word, *rest = unpack(data)
        if word == "hello":
            worker.types = [TypeInfo(*row) for row in rest[0]["types"]]
            if worker.only_checks:
                self.drain_worker(worker)
                return
            worker.state = "ready" if worker.state == "starting" else worker.state
            self._known = frozenset({SHELL, *(info.name for info in worker.types)})
            self._log("worker_started", worker=worker.name, pid=worker.process.pid, types=len(worker.types))
        elif word == "refused":
            worker.refused = str(rest[0])

    # -- the end of a worker ---------------------------------------------------------------------------------------

    def _on_death(self, worker: Worker) -> None:
        """It is gone: settle what it answered, then say of each other task what became of it."""
        self._receive(worker, most=1 << 20)
        code = worker.process.wait()
        begun = worker.board.begun()
        clean = worker.state == "draining" and code == 0
        how = f"signal {-code} ({signal.Signals(-code).name})" if code < 0 else f"exit code {code}"
        for pgid, ticks in worker.board.commands():
            end_group(pgid, ticks)
        for job in list(worker.jobs.values()):
            if Board.token(job.id, job.claim) not in begun:
                self._rows.append(_row(job.id, job.claim, "released", self._now))
            elif worker.blame is not None and (worker.blame[0] == job.id or job.ending):
                self._rows.append(_ended(_row(job.id, job.claim, "failed", self._now, job.sent_at, worker=worker.name), job))
            elif worker.blame is not None or self._stopping:
                error = {"type": "Interrupted", "message": "its worker process was ended for another reason"}
                self._rows.append(_row(job.id, job.claim, "interrupted", self._now, job.sent_at, error, worker.name))
            else:
                error = {"type": "WorkerDied", "message": f"the worker process died under it: {how}"}
                more = 128 - code if code < 0 else None
                self._rows.append(_row(job.id, job.claim, "crashed", self._now, job.sent_at, error, worker.name, more))
        if not clean and not worker.only_checks:
            self._log("worker_died", "warning", worker=worker.name, pid=worker.process.pid, how=how, tasks=len(worker.jobs), refused=worker.refused)
            if worker.state == "starting":
                self._respawn_at = self._now + RESPAWN_MS
        if worker.only_checks:
            refused = worker.refused if worker.types or worker.refused else f"the worker ended with {how} before its hello"
            self.checked.append((worker.name, worker.types, refused))
        self._close(worker)
        if not self._stopping and self._now >= self._respawn_at:
            self.start(self._now)

    def _close(self, worker: Worker) -> None:
        del self._workers[worker.name]
        for fd in (worker.tasks.fileno(), worker.control.fileno(), worker.pidfd):
            self._loop.remove(fd)
        for end in (worker.tasks, worker.theirs, worker.control):
            end.close()
        for _, fds in worker.unsent:
            for fd in fds:
                os.close(fd)
        os.close(worker.pidfd)
        worker.board.close()
        (self._run / f"{worker.name}.board").unlink(missing_ok=True)

    # -- taking back, timeouts, cancel -----------------------------------------------------------------------------

    def _rebalance(self, now: int) -> None:
        """A worker that makes no progress gives what it has not begun to those that have nothing."""
        idle = any(w.state == "ready" and not w.jobs for w in self._workers.values())
        for worker in self._workers.values():
            if not worker.jobs or now - worker.active_at < STALL_MS:
                continue
            if not worker.flushed:
                worker.flushed = True
                self._tell(worker, ["flush"])
            if idle and (len(worker.jobs) > 1 or worker.unsent):
                self.take_back(worker)

    def take_back(self, worker: Worker) -> int:
        """Read the records the worker has not read; those tasks are released, uncharged. How many."""
        records = []
        while True:
            try:
                data, fds, _, _ = socket.recv_fds(worker.theirs, 1 << 18, 1, socket.MSG_DONTWAIT)
            except OSError:
                break
            for fd in fds:
                os.close(fd)
            if not data:
                break
            records.append(data)
        while worker.unsent:
            data, fds = worker.unsent.popleft()
            for fd in fds:
                os.close(fd)
            records.append(data)
        count = 0
        for record in records:
            for task_id, claim, _, _ in unpack(record)[1]:
                if worker.jobs.pop(task_id, None) is not None:
                    count += 1
                    self._rows.append(_row(task_id, claim, "released", self._now))
        return count

    def cancel(self, task_id: int, ending: str = "stopped") -> None:
        """Ask for the end of a running task; its worker is killed if that has no effect within the grace."""
        for worker in self._workers.values():
            job = worker.jobs.get(task_id)
            if job is not None and job.ending is None:
                if Board.token(job.id, job.claim) not in worker.board.begun():
                    self.take_back(worker)
                    if task_id not in worker.jobs:
                        return
                job.ending = ending
                job.kill_at = self._now + self._grace_ms + 100
                self._tell(worker, ["cancel", task_id])

    def tick(self, now: int) -> None:
        """Timeouts, kills that are due, and new workers for those that could not start."""
        self._now = now
        for worker in list(self._workers.values()):
            if worker.state == "starting" and now - worker.started_at > HELLO_MS:
                self._kill(worker)
            for job in list(worker.jobs.values()):
                if job.ending is not None and job.kill_at <= now:
                    worker.blame = worker.blame or (job.id, job.ending)
                    self._kill(worker)
                elif job.ending is None and self._deadline(worker, job) <= now:
                    self.cancel(job.id, "timed_out")
                if self._slots == 1:
                    break  # only the first can be running
        if self._respawn_at and now >= self._respawn_at and not self._stopping:
            self._respawn_at = 0.0
            self.start(now)

    def _deadline(self, worker: Worker, job: Job) -> float:
        """When a job's time is up: with one slot it began, at the earliest, when the one before it was answered."""
        if not job.timeout_ms:
            return math.inf
        return max(job.sent_at, worker.active_at if self._slots == 1 else 0) + job.timeout_ms

    @property
    def next_due(self) -> float | None:
        """The instant (ms) at which ``tick`` or ``wants`` has something to do if nothing arrives."""
        times = [self._respawn_at] if self._respawn_at else []
        idle = any(w.state == "ready" and not w.jobs for w in self._workers.values())
        for worker in self._workers.values():
            if worker.state == "starting":
                times.append(worker.started_at + HELLO_MS)
            for job in worker.jobs.values():
                times.append(min(job.kill_at, self._deadline(worker, job) if job.ending is None else math.inf))
                if self._slots == 1:
                    break
            if worker.jobs and not worker.flushed or (idle and len(worker.jobs) > 1 and self._now - worker.active_at < STALL_MS):
                times.append(worker.active_at + STALL_MS)
        return min(times, default=None)

    def _tell(self, worker: Worker, message: list[Any]) -> None:
        try:
            worker.control.send(pack(message))
        except OSError:
            return  # full: it is not listening, and will be killed in time; or it is dying

    def _kill(self, worker: Worker) -> None:
        worker.state = "ending"
        worker.process.kill()

    # -- stopping --------------------------------------------------------------------------------------------------

    def drain_worker(self, worker: Worker) -> None:
        worker.state = "draining"
        self.take_back(worker)
        self._tell(worker, ["drain"])

    def drain(self) -> None:
        """No new work: what is not begun goes back, what runs may finish, and each worker ends when it has."""
        self._stopping = True
        for worker in self._workers.values():
            if worker.state == "starting":
                self._kill(worker)
            elif worker.state == "ready":
                self.drain_worker(worker)

    def kill(self) -> None:
        """End all workers now; what they had begun is interrupted."""
        self._stopping = True
        for worker in self._workers.values():
            self._kill(worker)

    @property
    def empty(self) -> bool:
        return not self._workers

    # -- looking ---------------------------------------------------------------------------------------------------

    @property
    def workers(self) -> list[Worker]:
        return list(self._workers.values())

    @property
    def slots(self) -> tuple[int, int]:
        """Slots that run a task, slots in all."""
        ready = [w for w in self._workers.values() if w.state in ("ready", "draining")]
        return sum(min(len(w.jobs), self._slots) for w in ready), len(ready) * self._slots


def _row(task_id: int, claim: int, kind: str, now: int, since: int = 0, error: Any = None, worker: str = "", code: int | None = None) -> list[Any]:
    return [task_id, claim, kind, since, now, False, {"error": error, "worker": worker, "exit_code": code}]


_WHY = {"timed_out": ("TimedOut", "it ran longer than its timeout"), "stopped": ("Cancelled", "a cancel was asked")}


def _ended(row: Sequence[Any], job: Job) -> Sequence[Any]:
    """A result of a task whose end we asked for: unless it succeeded after all, that is what became of it."""
    if row[2] == 0 or job.ending is None:
        return row
    name, message = _WHY[job.ending]
    if job.ending == "timed_out":
        message += f" of {job.timeout_ms / 1000:g} s"
    more = {**(row[6] or {}), "error": {"type": name, "message": message}}
    return [row[0], row[1], job.ending, row[3], row[4], row[5], more]


def _kill_and_wait(pid: int, ticks: int) -> None:
    """Kill a process that is not our child and wait until it is gone."""
    try:
        fd = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    try:
        if start_ticks(pid) == ticks:
            signal.pidfd_send_signal(fd, signal.SIGKILL)
            import select

            poll = select.poll()
            poll.register(fd, select.POLLIN)
            poll.poll(10_000)
    finally:
        os.close(fd)

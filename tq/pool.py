"""The pool: the parent of the workers.

For: how many there are, who is fed how far ahead, what a death means, timeouts, cancel, drain.
Not for: deciding what becomes of a task (broker, lifecycle), reading the store, running user code.
Runs in: the daemon, on the thread of its loop; workers are spawned (never forked) from it.
Times here are milliseconds of a clock that never steps (time.monotonic), so no change of the wall clock ends a task.
Promises: a death is noticed at once (pidfd) and its blame is exact: tasks on the worker's board that were not answered
have crashed, the others are released uncharged; a task that a worker does not come to is taken back for one that has
nothing to do; no process outlives its end unnoticed; nothing polls.

How far ahead a worker is fed: about ``LOOKAHEAD_MS`` of work by the mean run time of each type, at most
``LOOKAHEAD`` tasks; one task of a type that is not measured, runs over ``SLOW_MS``, or is a command.
"""

from __future__ import annotations

import math
import signal
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tq.board import Board, end_group, machine, start_ticks
from tq.child import Child, Job, kill_and_wait
from tq.errors import ConfigError
from tq.loop import READ, WRITE, Loop
from tq.model import SHELL
from tq.store import Claimed, TypeInfo, Want

LOOKAHEAD_MS = 20.0
LOOKAHEAD = 512
SLOW_MS = 5.0
QUICK_MS = 0.25
"""Tasks under this share records: a system call a task would cost more than the task."""
OVERHEAD_MS = 0.01
"""What a task costs its worker beside the handler; measured on a no-op."""
RECORDS_A_TURN = 64
STALL_MS = 30
"""A worker that has answered nothing for so long is asked to send what it has, and loses what it has not begun to
idle ones."""
DEAF_MS = 5000
"""A worker that has not even begun what it was handed so long ago does not answer: it is replaced."""
HELLO_MS = 60_000
RESPAWN_MS = 1000
GRACE_MORE_MS = 100
"""Beside the kill grace that the worker itself keeps for a command."""


@dataclass(slots=True)
class Means:
    """The recent mean run time of a type, in ms, and from how many runs."""

    mean: float = 0.0
    runs: int = 0

    def add(self, total_ms: int, runs: int) -> None:
        self.runs += runs
        self.mean += (total_ms / runs - self.mean) * min(1.0, runs / min(self.runs, 256))

    @property
    def cost(self) -> float:
        """Mean plus overhead, and while few runs are known a margin that shrinks with them (times are whole ms)."""
        return self.mean + OVERHEAD_MS + 2.0 / self.runs


class Pool:
    """All workers of one daemon. ``options`` is what each is told (see tq.worker); ``recycle`` 0 is never."""

    def __init__(self, loop: Loop, options: Mapping[str, Any], workers: int, recycle: int, log: Callable[..., None]) -> None:
        self._loop = loop
        self._run = Path(options["data_dir"]) / "run"
        self._run.mkdir(mode=0o700, exist_ok=True)
        self._options = options
        self._slots = int(options["slots"])
        self._grace_ms = int(options["grace_ms"])
        self._size = workers
        self._recycle_after = recycle
        self._log = log
        self._children: dict[str, Child] = {}
        self._means: dict[str, Means] = {}
        self._costs: dict[str, float] = {}
        self._rows: list[Sequence[Any]] = []
        self._respawn_at = 0.0
        self._stopping = False
        self._now = 0
        self.closed: list[Path] = []
        """Boards of dead workers, to be removed when what they say is stored."""
        self.hellos: list[list[TypeInfo]] = []
        """Types that workers named since they were last taken."""
        self.checked: list[tuple[str, list[TypeInfo], str | None]] = []
        """Application checks that are over: worker, its types, and why it refused (None: it did not)."""

    # -- boot ------------------------------------------------------------------------------------------------------

    def bury(self) -> Callable[[int, int], bool]:
        """End what a dead daemon left running; a function that says whether (id, claim) had been begun.

        The boards stay, in ``closed``, until what they say is stored.
        """
        tokens: set[int] = set()
        certain = True
        for path in sorted(self._run.glob("*.board")):
            try:
                board = Board.open(path)
            except (ConfigError, OSError) as error:  # a power cut leaves such: nothing on it, so nobody knows
                self._log("board_lost", "warning", board=path.name, why=str(error))
                certain = False
                self.closed.append(path)
                continue
            if board.machine != machine():
                certain = False  # another boot: every process is gone, and so may be the page's last words
            else:
                pid, ticks = board.worker()
                if pid and start_ticks(pid) == ticks:
                    self._log("orphan_ended", "warning", worker=path.stem, pid=pid)
                    kill_and_wait(pid, ticks)
                if pid:
                    end_group(pid, ticks)  # what its handlers started
                for pgid, since in board.commands():
                    end_group(pgid, since)
            tokens |= board.begun()
            board.close()
            self.closed.append(path)
        return lambda task_id, claim: not certain or Board.token(task_id, claim) in tokens

    def spawn(self, now: int, *, only_checks: bool = False) -> Child:
        """Start one more worker; it is fed once its hello has come. ``only_checks``: it imports and ends."""
        number = next(n for n in range(1, 1 << 20) if f"w{n}" not in self._children)
        child = Child(f"w{number}", self._run, self._options, now, only_checks=only_checks)
        self._children[child.name] = child
        self._loop.add(child.tasks.fileno(), lambda events: self._on_tasks(child, events))
        self._loop.add(child.control.fileno(), lambda _: self._on_control(child))
        self._loop.add(child.pidfd, lambda _: self._on_death(child))
        return child

    def start(self, now: int) -> None:
        """Bring the pool to its size."""
        self._now = now
        try:
            while sum(not c.only_checks and c.state != "draining" for c in self._children.values()) < self._size:
                self.spawn(now)
        except (OSError, ConfigError) as error:  # no descriptors, no memory, no room: later
            self._log("worker_not_started", "error", why=str(error))
            self._respawn_at = now + RESPAWN_MS

    # -- wants and grants ------------------------------------------------------------------------------------------

    def wants(self, now: int) -> list[Want]:
        """A claim for every worker that could do with more work."""
        self._now = now
        self._rebalance(now)
        wants = []
        for child in self._children.values():
            if child.state != "ready" or child.stuffed or (child.lonely and self._slots > 1):
                continue
            has = len(child.jobs)
            if not has:
                wants.append(self._whole_want(child))
            elif self._slots > 1:
                if has < self._slots:
                    wants.append(Want(child.name, min(self._slots - has, LOOKAHEAD), math.inf, types=child.known))
            elif now - child.active_at >= STALL_MS:
                continue  # what was taken back from it would go to it again
            elif has < LOOKAHEAD and (busy := child.work_ms) < LOOKAHEAD_MS / 2:
                wants.append(Want(child.name, LOOKAHEAD - has, LOOKAHEAD_MS - busy, self._costs, types=child.known))
        return wants

    def _whole_want(self, child: Child) -> Want:
        """The want of a worker that has nothing: made once, since an idle pool shows it at every turn."""
        want = child.want
        if want is None:
            limit, budget = (LOOKAHEAD, LOOKAHEAD_MS) if self._slots == 1 else (min(self._slots, LOOKAHEAD), math.inf)
            want = child.want = Want(child.name, limit, budget, self._costs, types=child.known)
        return want

    def hand_out(self, want: Want, tasks: Sequence[Claimed], now: int) -> None:
        """Send granted tasks to the worker that wanted them."""
        child = self._children.get(want.worker)
        if child is None or child.state != "ready":
            self._rows += [_row(task.id, task.claim, "released") for task in tasks]
            return
        if not child.jobs:
            child.active_at, child.judged = now, False
        entries: list[tuple[list[Any], float | None]] = []
        for task_id, claim, attempt, crashes, header, record in tasks:
            # A task that crashed before runs alone: nothing is sent behind it, and what is before it is over by then.
            cost = self._costs.get(header.type, math.inf) if not crashes else math.inf
            child.take(Job(task_id, claim, header.type, header.timeout_ms, now, cost, lonely=crashes > 0))
            entry = [task_id, claim, attempt, record]
            if crashes and self._slots > 1:
                child.alone.append(entry)
            else:
                entries.append((entry, cost if cost < QUICK_MS and self._slots == 1 else None))
        self._send(child, entries)
        self._send_alone(child)

    def _send(self, child: Child, entries: Sequence[tuple[list[Any], float | None]]) -> None:
        try:
            sent = child.send(entries)
        except OSError as error:  # no descriptor or memory for a large one: its tasks go back with its end
            self._log("worker_not_fed", "error", worker=child.name, why=str(error))
            child.kill()
            return
        if not sent:
            self._loop.change(child.tasks.fileno(), READ | WRITE)

    def _send_alone(self, child: Child) -> None:
        """With more slots than one, a task that crashed before is sent when nothing else runs beside it."""
        if child.alone and len(child.jobs) == len(child.alone) and child.state == "ready":
            self._send(child, [(child.alone.popleft(), None)])

    # -- what comes from workers -----------------------------------------------------------------------------------

    def settled(self) -> list[Sequence[Any]]:
        """Results since the last call, for the broker."""
        rows, self._rows = self._rows, []
        return rows

    @property
    def waiting(self) -> bool:
        return bool(self._rows)

    def _on_tasks(self, child: Child, events: int) -> None:
        if events & WRITE and child.send_on():
            self._loop.change(child.tasks.fileno(), READ)
        if events & ~WRITE:
            self._receive(child, RECORDS_A_TURN)

    def _receive(self, child: Child, most: int) -> bool:
        """Take up to ``most`` records of results (False: there is none); what is not the worker's to answer is dropped."""
        try:
            rows = child.receive(most)
        except (ValueError, LookupError, TypeError) as error:  # a handler has written into our pair
            self._log("worker_babbles", "error", worker=child.name, why=str(error))
            child.kill()
            return True
        if not rows:
            return False
        child.active_at, child.flushed, child.judged = self._now, False, False
        child.done += len(rows)
        total, runs, kind = 0, 0, ""
        for row in rows:
            job = child.drop(row[0], row[1])
            if job is None:
                continue
            self._rows.append(row if job.ending is None else _ended(row, job))
            if row[2] == 0:
                if job.type != kind:
                    self._measure(kind, total, runs)
                    total, runs, kind = 0, 0, job.type
                total += row[4] - row[3]
                runs += 1
        self._measure(kind, total, runs)
        self._send_alone(child)
        if self._recycle_after and child.done >= self._recycle_after and child.state == "ready":
            self._drain(child)
        return True

    def _measure(self, kind: str, total_ms: int, runs: int) -> None:
        if not runs or kind == SHELL:
            return
        means = self._means.setdefault(kind, Means())
        means.add(max(total_ms, 0), runs)
        if means.cost <= SLOW_MS:
            self._costs[kind] = means.cost
        else:
            self._costs.pop(kind, None)

    def _on_control(self, child: Child) -> None:
        message = child.hear()
        if message is None:
            self._loop.remove(child.control.fileno())
        elif message and message[0] == "hello":
            child.types = [TypeInfo(*row) for row in message[1]["types"]]
            if child.only_checks:
                self._drain(child)
                return
            child.state = "ready" if child.state == "starting" else child.state
            child.known = frozenset({SHELL, *(info.name for info in child.types)})
            self.hellos.append(child.types)
            self._log("worker_started", worker=child.name, pid=child.process.pid, types=len(child.types))
        elif message and message[0] == "refused":
            child.refused = str(message[1])

    # -- the end of a worker ---------------------------------------------------------------------------------------

    def _on_death(self, child: Child) -> None:
        """It is gone: settle what it answered, say of each other task what became of it, replace it."""
        while self._receive(child, RECORDS_A_TURN):
            pass  # to the last of them: what it answered is not to blame
        if child.state != "draining":
            end_group(*child.board.worker())  # what its handlers started, before its number may be another's
        code = child.process.wait()
        how = f"signal {-code} ({signal.Signals(-code).name})" if code < 0 else f"exit code {code}"
        for pgid, ticks in child.board.commands():
            end_group(pgid, ticks)
        lost = len(child.jobs)
        self._rows += self._explain(child, how, 128 - code if code < 0 else None)
        if child.only_checks:
            known = child.refused is not None or child.state == "draining"
            self.checked.append((child.name, child.types, child.refused if known else f"the worker ended with {how} before its hello"))
        elif child.state != "draining" or code:
            pid = child.process.pid
            self._log("worker_died", "warning", worker=child.name, pid=pid, how=how, tasks=lost, refused=child.refused)
            if child.state == "starting":
                self._respawn_at = self._now + RESPAWN_MS
        del self._children[child.name]
        for fd in (child.tasks.fileno(), child.control.fileno(), child.pidfd):
            self._loop.remove(fd)
        self.closed.append(child.keep_board())
        child.close()
        if not self._stopping and not self._respawn_at:
            self._respawn_at = self._now  # by the next tick: not among events that are still to be handled

    def _explain(self, child: Child, how: str, exit_code: int | None) -> list[Sequence[Any]]:
        """A row for each task that a dead worker did not answer."""
        rows: list[Sequence[Any]] = []
        begun = child.board.begun()
        for job in child.jobs.values():
            if not child.has_begun(job, begun):
                rows.append(_row(job.id, job.claim, "released"))
                continue
            if job.ending is not None:
                rows.append(_ended(_row(job.id, job.claim, "failed", {"worker": child.name}), job))
                continue
            if child.state == "ending":
                kind, error = "interrupted", {"type": "Interrupted", "message": "its worker process was ended for another reason"}
            else:
                kind, error = "crashed", {"type": "WorkerDied", "message": f"the worker process died under it: {how}"}
            more = {"error": error, "worker": child.name, "exit_code": exit_code if kind == "crashed" else None}
            rows.append(_row(job.id, job.claim, kind, more))
        child.jobs.clear()
        return rows

    # -- taking back, timeouts, cancel -----------------------------------------------------------------------------

    def _rebalance(self, now: int) -> None:
        """A worker that makes no progress gives what it has not begun to those that have nothing, and is asked last."""
        for child in list(self._children.values()):
            if not child.jobs or now - child.active_at < STALL_MS:
                continue
            if child.board.count != child.seen:  # it has begun others since: it works, its answers are on their way
                child.seen, child.active_at, child.flushed, child.judged = child.board.count, now, False, False
                continue
            if not child.flushed:
                child.flushed = True
                child.tell("flush")
            if child.offered and self._idle:
                self._take_back(child)
                self._children[child.name] = self._children.pop(child.name)

    @property
    def _idle(self) -> bool:
        return any(child.state == "ready" and not child.jobs for child in self._children.values())

    def _take_back(self, child: Child) -> None:
        """What the worker has not read is released, uncharged."""
        for task_id, claim in child.take_back():
            if child.drop(task_id, claim) is not None:
                self._rows.append(_row(task_id, claim, "released"))
        if not child.stuffed:
            self._loop.change(child.tasks.fileno(), READ)

    def cancel(self, task_id: int, ending: str = "stopped") -> None:
        """Ask for the end of a running task; its worker is killed if that has no effect within the grace."""
        for child in self._children.values():
            job = child.jobs.get(task_id)
            if job is None or job.ending is not None:
                continue
            if not child.has_begun(job, child.board.begun()):
                self._take_back(child)
            if task_id in child.jobs:
                job.ending = ending
                job.kill_at = self._now + self._grace_ms + GRACE_MORE_MS
                child.tell("cancel", task_id)

    def wake(self, now: int) -> None:
        """The time at which what comes next has arrived."""
        self._now = now

    def tick(self, now: int) -> None:
        """Timeouts, kills that are due, and new workers for those that could not start."""
        self._now = now
        for child in list(self._children.values()):
            if child.state == "starting" and now - child.started_at > HELLO_MS:
                child.kill()
            if not child.jobs:
                continue
            if not child.judged and now - child.active_at >= DEAF_MS:
                self._judge(child)
            for job in child.jobs.values() if self._slots == 1 else list(child.jobs.values()):
                if job.kill_at <= now:
                    job.kill_at = math.inf
                    child.kill()
                elif self._deadline(child, job) <= now:
                    self.cancel(job.id, "timed_out")
                if self._slots == 1:
                    break  # only the first can be running
        if self._respawn_at and now >= self._respawn_at and not self._stopping:
            self._respawn_at = 0.0
            self.start(now)

    def _judge(self, child: Child) -> None:
        """End a worker that holds jobs and has begun none of them; one that works is judged by its tasks' timeouts only."""
        child.judged = True
        begun = child.board.begun()
        if child.state == "ready" and not any(child.has_begun(job, begun) for job in child.jobs.values()):
            self._log("worker_deaf", "warning", worker=child.name, pid=child.process.pid, tasks=len(child.jobs))
            child.kill()

    def _deadline(self, child: Child, job: Job) -> float:
        """When a job's time is up: with one slot it began, at the earliest, when the one before it was answered."""
        if not job.timeout_ms or job.ending is not None:
            return math.inf
        return max(job.sent_at, child.active_at if self._slots == 1 else 0) + job.timeout_ms

    @property
    def next_due(self) -> float | None:
        """The instant (ms) at which ``tick`` or ``wants`` has something to do if nothing arrives."""
        times = [self._respawn_at] if self._respawn_at else []
        idle = self._idle
        for child in self._children.values():
            if not child.jobs and child.state == "ready":
                continue
            if child.state == "starting":
                times.append(child.started_at + HELLO_MS)
            for job in child.jobs.values():
                times.append(min(job.kill_at, self._deadline(child, job)))
                if self._slots == 1:
                    break
            if child.state != "ready":
                continue
            if child.jobs and (not child.flushed or (idle and child.offered and self._now - child.active_at < STALL_MS)):
                times.append(child.active_at + STALL_MS)
            if child.jobs and not child.judged:
                times.append(child.active_at + DEAF_MS)
        return min(times, default=None)

    # -- stopping --------------------------------------------------------------------------------------------------

    def _drain(self, child: Child) -> None:
        child.state = "draining"
        self._take_back(child)
        child.tell("drain")

    def drain(self) -> None:
        """No new work: what is not begun goes back, what runs may finish, and each worker ends when it has."""
        self._stopping = True
        for child in self._children.values():
            if child.state == "starting":
                child.kill()
            elif child.state == "ready":
                self._drain(child)

    def kill(self) -> None:
        """End all workers now; what they had begun is interrupted."""
        self._stopping = True
        for child in self._children.values():
            child.kill()

    @property
    def empty(self) -> bool:
        return not self._children

    # -- looking ---------------------------------------------------------------------------------------------------

    @property
    def workers(self) -> list[Child]:
        return list(self._children.values())

    @property
    def slots(self) -> tuple[int, int]:
        """Slots that run a task, slots in all."""
        ready = [child for child in self._children.values() if child.state in {"ready", "draining"}]
        return sum(min(len(child.jobs), self._slots) for child in ready), len(ready) * self._slots


def _row(task_id: int, claim: int, kind: str, more: Mapping[str, Any] | None = None) -> list[Any]:
    """A result that the pool gives in a worker's stead; its times are the broker's to fill in."""
    return [task_id, claim, kind, 0, 0, False, more or {}]


_WHY = {"timed_out": ("TimedOut", "it ran longer than its timeout"), "stopped": ("Cancelled", "a cancel was asked")}


def _ended(row: Sequence[Any], job: Job) -> Sequence[Any]:
    """A result of a task whose end we asked for: unless it succeeded after all, that is what became of it."""
    if row[2] in (0, "released") or job.ending is None:
        return row
    name, message = _WHY[job.ending]
    if job.ending == "timed_out":
        message += f" of {job.timeout_ms / 1000:g} s"
    more = {**(row[6] or {}), "error": {"type": name, "message": message}}
    return [row[0], row[1], job.ending, row[3], row[4], row[5], more]

"""Tasks in the hands of workers: sent, answered, taken back, suspended, ended.

For: what goes to a worker and comes from it, and how a task ends that does not end by itself.
Not for: who gets what (pool), which workers there are (crew), what an end means to the task (lifecycle).
Runs in: the daemon, inside the pool.
Promises: a task is answered once, by its worker or for it; blame is exact: what was begun and not answered has crashed,
the rest is released uncharged; a task is over only when its process is.

When its time is up or somebody cancels it (``grace`` is the setting ``kill_grace_s``):

    at once          what was not begun is taken back; the worker is told. ``current().cancelled`` turns true, a coroutine is
                     cancelled, a command's process group gets TERM (and CONT, if it was suspended).
    grace / 2        (at most 1 s) a function that still runs: Stopped is raised in its thread.
    grace            a command and all it started are killed. For anything else the worker process gets TERM, which ends it
                     unless the handler has taken that signal for itself ...
    grace + 0.1 s    ... and KILL, with everything in its session and in the sessions of its descendants. Only when it is
                     reaped is the task settled. Other tasks that ran in its slots are interrupted.

A task that answers meanwhile leaves the worker alive: a value is a success after all, anything raised counts as timed out or
stopped. Only where processes of it had to be killed the worker is replaced, since its modules may count on them.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from tq.child import Child, Job, Together
from tq.loop import READ, WRITE, Loop
from tq.model import SHELL, error_in
from tq.pool.costs import Costs
from tq.pool.suspects import Suspects

RECORDS_A_TURN = 64
DEAF_MS = 5000
"""A worker that has not even begun what it was handed so long ago does not answer: it is replaced."""
GRACE_MORE_MS = 100
"""From TERM to KILL of a worker; and beside the grace that a worker itself keeps for a command."""
WEIGH_MS = 1000
"""A worker's memory is looked at when a task ends, at most this often."""
FAILING_MS = 60_000
"""Until another worker may be replaced because tasks fail on it: where they fail on all of them, that is not the workers' fault."""
MAX_TEXT = 200
"""Characters that a task may say of its progress."""
_RUNS = (0, "failed")
"""Ends of runs that took as long as such a task takes: a failure is one."""
_PAGE = os.sysconf("SC_PAGE_SIZE")


class Jobs:
    """The tasks of all workers; ``crew`` and ``pool`` build on it."""

    def __init__(self, loop: Loop, options: Mapping[str, Any], wear: tuple[int, int, int], log: Callable[..., None]) -> None:
        self._loop = loop
        self._log = log
        self._slots = int(options["slots"])
        self._grace_ms = int(options["grace_ms"])
        self._recycle_after, self._max_rss, self._failing_after = wear
        self._fails_again_at = -math.inf
        self.failing: Callable[[str, int], None] = lambda _worker, _failures: None
        """A worker is to be replaced since so many tasks in a row have failed on it: the daemon's to remember."""
        self._children: dict[str, Child] = {}
        self._costs = Costs()
        self._suspects = Suspects(log)
        self._rows: list[Sequence[Any]] = []
        self._now = 0
        self.said: list[tuple[int, float, str]] = []
        """What tasks said of their progress since it was last taken."""
        self.progress: dict[int, tuple[float, str]] = {}
        """How far running tasks say they are: a share from 0 to 1, and words."""
        self.suspended: set[int] = set()
        """Running commands that somebody has stopped where they stood."""

    # -- to a worker -----------------------------------------------------------------------------------------------

    def _send(self, child: Child, entries: Sequence[tuple[list[Any], float | None]]) -> None:
        try:
            sent = child.send(entries)
        except OSError as error:  # no descriptor or memory for a large one: its tasks go back with its end
            self._log("worker_not_fed", "error", worker=child.name, why=str(error))
            child.kill()
            return
        if not sent:
            self._loop.change(child.tasks.fileno(), READ | WRITE)

    def _send_call(self, child: Child, entries: Sequence[list[Any]]) -> None:
        try:
            sent = child.send_call(entries)
        except OSError as error:  # as above
            self._log("worker_not_fed", "error", worker=child.name, why=str(error))
            child.kill()
            return
        if not sent:
            self._loop.change(child.tasks.fileno(), READ | WRITE)

    def _send_alone(self, child: Child) -> None:
        """With more slots than one, a task that crashed before is sent when nothing else runs beside it."""
        if child.alone and len(child.jobs) == len(child.alone) and child.state == "ready":
            entry = child.alone.popleft()
            job = child.jobs[entry[0]]
            job.sent_at = self._now
            if job.call is None:
                self._send(child, [(entry, None)])
            else:
                job.call.sent_at = self._now
                self._send_call(child, [entry])

    def _take_back(self, child: Child) -> None:
        """What the worker has not read is released, uncharged."""
        for task_id, claim in child.take_back():
            if self._drop(child, task_id, claim) is not None:
                self._rows.append(row_of(task_id, claim, "released"))
        if not child.stuffed:
            self._loop.change(child.tasks.fileno(), READ)

    def _drop(self, child: Child, task_id: int, claim: int) -> Job | None:
        """The worker's job is over; None if it was not the worker's (or not under this claim)."""
        job = child.drop(task_id, claim)
        if job is not None and (self.progress or self.suspended):
            self._forget(task_id)
        return job

    def _forget(self, task_id: int) -> None:
        self.progress.pop(task_id, None)
        self.suspended.discard(task_id)

    # -- from a worker ---------------------------------------------------------------------------------------------

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
        """Take up to ``most`` records (False: there is none); what is not the worker's to answer is dropped."""
        try:
            rows = child.receive(most)
            noted = bool(child.notes)
            if noted:
                self._take_notes(child)
        except (ValueError, LookupError, TypeError) as error:  # a handler has written into our pair
            self._log("worker_babbles", "error", worker=child.name, why=str(error))
            child.kill()
            return True
        child.heard_at = self._now
        if not rows:
            return noted
        freed_at = child.freed_at
        child.active_at = child.freed_at = self._now
        child.flushed = child.judged = False
        child.done += len(rows)
        if self._failing_after:
            self._count_failures(child, rows)
        total, runs, kind = 0, 0, ""
        for row in rows:
            job = self._drop(child, row[0], row[1])
            if job is None:
                continue
            if self._suspects.crashes and row[2] != "released" and job.type in self._suspects.crashes:
                self._suspects.ended(job.type)
            self._rows.append(row if job.ending is None else ended(row, job))
            if (call := job.call) is not None:
                call.began_at = call.began_at or max(call.sent_at, freed_at)  # what is answered early gives the others no more time
                if row[2] in _RUNS:
                    self._costs.share(job.type, row[4] - row[3], len(call.ids))
            elif row[2] in _RUNS:
                if job.type != kind:
                    self._costs.add(kind, total, runs)
                    total, runs, kind = 0, 0, job.type
                total += row[4] - row[3]
                runs += 1
        self._costs.add(kind, total, runs)
        self._send_alone(child)
        if self._max_rss and self._now - child.weighed_at >= WEIGH_MS:
            child.weighed_at = self._now
            child.worn = child.worn or resident(child.process.pid) > self._max_rss
        if self._recycle_after and child.done >= self._recycle_after:
            child.worn = True
        self._see_off(child)
        return True

    def _count_failures(self, child: Child, rows: Sequence[Sequence[Any]]) -> None:
        """A worker on which different tasks fail one after the other may be broken itself; if all fail, one goes in a while."""
        for row in rows:
            if row[2] in (0, "succeeded"):
                child.failed.clear()
            elif row[2] == "failed" and len(child.failed) < self._failing_after:
                child.failed.add(row[0])
        if len(child.failed) >= self._failing_after and not child.worn and child.state == "ready" and self._now >= self._fails_again_at:
            child.worn, self._fails_again_at = True, self._now + FAILING_MS
            self._log("worker_failing", "warning", worker=child.name, pid=child.process.pid, failures=len(child.failed))
            self.failing(child.name, len(child.failed))

    def _see_off(self, child: Child) -> None:
        """A worker that was let go and has nothing left to do is ended unless it ends within the grace: threads that its
        handlers or its application have started may go on for ever."""
        if child.state == "draining" and not child.jobs:
            child.kill_at = self._now + self._grace_ms

    def _take_notes(self, child: Child) -> None:
        """What a worker says of tasks that go on. It is user code's word: ValueError or TypeError if it is none."""
        notes, child.notes = child.notes, []
        for what, task_id, claim, fraction, text in notes:
            job = child.jobs.get(task_id)
            if what == "progress" and job is not None and job.claim == claim:
                share = float(fraction)  # which may be no number at all, and then is nothing
                self.progress[task_id] = (min(share, 1.0) if share >= 0.0 else 0.0, str(text)[:MAX_TEXT])
                self.said.append((task_id, *self.progress[task_id]))
            elif what == "leaves":
                child.leaves = True

    # -- the end of a task -----------------------------------------------------------------------------------------

    def cancel(self, task_id: int, ending: str = "stopped") -> None:
        """Ask for the end of a running task; its worker is ended if that has no effect within the grace."""
        for child in self._children.values():
            job = child.jobs.get(task_id)
            if job is None or job.ending is not None:
                continue
            if not child.has_begun(job, child.board.begun()):
                self._take_back(child)
            if task_id in child.jobs and (call := job.call) is not None:
                job.ending = ending
                child.tell("cancel", task_id)
                if all(other.ending is not None for other in self._of_call(child, call)):
                    call.ending, call.kill_at = True, self._now + self._grace_ms
            elif task_id in child.jobs:
                job.ending, job.suspended_at = ending, 0
                job.kill_at = self._now + self._grace_ms + (GRACE_MORE_MS if job.type == SHELL else 0)
                self.suspended.discard(task_id)
                child.tell("cancel", task_id)

    @staticmethod
    def _of_call(child: Child, call: Together) -> list[Job]:
        """Those of a call's tasks that are not answered yet."""
        return [job for task_id in call.ids if (job := child.jobs.get(task_id)) is not None and job.call is call]

    def _end_call_late(self, child: Child, call: Together, now: int) -> None:
        """The same of a call for many tasks: its time is up for all of them; where one has a deadline, that one is only asked."""
        if call.kill_at <= now:
            call.kill_at = math.inf
            if child.kill_at == math.inf:
                child.terminate()
                child.kill_at = now + GRACE_MORE_MS
        elif self._call_deadline(child, call) <= now:
            late = [job for job in self._of_call(child, call) if job.ending is None and job.ends_at <= now]
            for job in late:
                self.cancel(job.id, "too_late")
            open_jobs = self._of_call(child, call)
            call.ends_at = min((job.ends_at for job in open_jobs if job.ending is None), default=math.inf)
            if not call.ending and self._call_deadline(child, call) <= now:
                if not any(child.has_begun(job, child.board.begun()) for job in open_jobs[:1]):
                    self._take_back(child)
                    open_jobs = self._of_call(child, call)
                for job in open_jobs:
                    job.ending = job.ending or "timed_out"
                call.ending, call.kill_at = True, now + self._grace_ms
                child.tell("cancel", *(job.id for job in open_jobs))

    def _call_deadline(self, child: Child, call: Together) -> float:
        """When the time of a call is up, or of the first of its tasks that has a deadline."""
        if call.ending:
            return math.inf
        if not call.timeout_ms:
            return call.ends_at
        began = call.began_at or (max(call.sent_at, child.freed_at) if self._slots == 1 else call.sent_at)
        return min(began + call.timeout_ms, call.ends_at)

    def suspend(self, task_id: int) -> bool:
        """Stop a running command where it stands; its timeout stands still, too. False: it is no command that runs here."""
        for child in self._children.values():
            job = child.jobs.get(task_id)
            if job is None or job.ending is not None or job.type != SHELL or not child.has_begun(job, child.board.begun()):
                continue
            if not job.suspended_at:
                job.suspended_at = self._now
                self.suspended.add(task_id)
                child.tell("suspend", task_id)
            return True
        return False

    def resume(self, task_id: int) -> bool:
        """Let a suspended command go on; False: it is not suspended."""
        for child in self._children.values():
            job = child.jobs.get(task_id)
            if job is not None and job.suspended_at:
                job.paused_ms += self._now - job.suspended_at
                job.suspended_at = 0
                self.suspended.discard(task_id)
                child.tell("resume", task_id)
                return True
        return False

    def time_left(self, task_id: int) -> float | None:
        """In how many ms the time of a task is up that is in the hands of a worker; inf: never, as things stand. None: it is in none."""
        for child in self._children.values():
            job = child.jobs.get(task_id)
            if job is not None:
                return self._deadline(child, job) - self._now
        return None

    def _end_late(self, now: int) -> None:
        """Timeouts, and the kills that are due."""
        for child in list(self._children.values()):
            if child.kill_at <= now:
                child.kill()
            if not child.jobs:
                continue
            if not child.judged and now - child.active_at >= DEAF_MS:
                self._judge(child)
            for job in child.jobs.values() if self._slots == 1 else list(child.jobs.values()):
                if job.call is not None:
                    self._end_call_late(child, job.call, now)
                elif job.kill_at <= now:
                    job.kill_at = math.inf
                    if job.type == SHELL:
                        child.kill()
                    elif child.kill_at == math.inf:
                        child.terminate()
                        child.kill_at = now + GRACE_MORE_MS
                elif self._deadline(child, job) <= now:
                    self.cancel(job.id, "too_late" if job.ends_at <= now else "timed_out")
                if self._slots == 1:
                    break  # only the first can be running

    def _deadline(self, child: Child, job: Job) -> float:
        """When a job's time is up: with one slot it began, at the earliest, when the one before it was answered."""
        if job.call is not None:
            return min(self._call_deadline(child, job.call), job.call.kill_at)
        if job.ending is not None:
            return math.inf
        if not job.timeout_ms or job.suspended_at:
            return job.ends_at
        began = job.sent_at
        if self._slots == 1:
            began = max(began, child.active_at if job.quick else child.freed_at)
        return min(began + job.timeout_ms + job.paused_ms, job.ends_at)

    def _judge(self, child: Child) -> None:
        """End a worker that holds jobs and has begun none of them; one that works is judged by its tasks' timeouts only."""
        child.judged = True
        begun = child.board.begun()
        if child.state == "ready" and not any(child.has_begun(job, begun) for job in child.jobs.values()):
            self._log("worker_deaf", "warning", worker=child.name, pid=child.process.pid, tasks=len(child.jobs))
            child.kill()

    def _explain(self, child: Child, how: str, exit_code: int | None) -> None:
        """Answer for each task that a dead worker did not answer."""
        begun = child.board.begun()
        crashed = set()
        for job in child.jobs.values():
            self._forget(job.id)
            if not child.has_begun(job, begun):
                self._rows.append(row_of(job.id, job.claim, "released"))
                continue
            if job.ending is not None:
                self._rows.append(ended(row_of(job.id, job.claim, "failed", {"worker": child.name}), job))
                continue
            if child.state == "ending":
                kind, error = "interrupted", {"type": "Interrupted", "message": "its worker process was ended for another reason"}
            else:
                kind, error = "crashed", {"type": "WorkerDied", "message": f"the worker process died under it: {how}"}
                crashed.add(job.type)
            more = {"error": error, "worker": child.name, "exit_code": exit_code if kind == "crashed" else None}
            self._rows.append(row_of(job.id, job.claim, kind, more))
        for name in crashed:
            self._suspects.crashed(name, self._now)
        child.jobs.clear()


def row_of(task_id: int, claim: int, kind: str, more: Mapping[str, Any] | None = None) -> list[Any]:
    """A result that the pool gives in a worker's stead; its times are the broker's to fill in."""
    return [task_id, claim, kind, 0, 0, False, more or {}]


def ended(row: Sequence[Any], job: Job) -> Sequence[Any]:
    """A result of a task whose end we asked for: unless it succeeded after all, that is what became of it."""
    if row[2] in (0, "succeeded", "released") or job.ending is None:
        return row
    kind, error = "timed_out", {"type": "TimedOut", "message": f"it ran longer than its timeout of {job.timeout_ms / 1000:g} s"}
    if job.ending == "too_late":
        error["message"] = "it was not over by its deadline"
    elif job.ending == "stopped":
        kind, error = "stopped", {"type": "Cancelled", "message": "a cancel was asked"}
    said = row[6] or {}
    frames = (error_in(said.get("error")) or {}).get("frames")  # where it was when it was stopped
    more = {key: said[key] for key in ("worker", "exit_code") if key in said}
    return [row[0], row[1], kind, row[3], row[4], row[5], {**more, "error": {**error, "frames": frames} if frames else error}]


def resident(pid: int) -> int:
    """The bytes of memory that a process has; 0 if it is gone."""
    try:
        with open(f"/proc/{pid}/statm", "rb") as file:
            return int(file.read().split()[1]) * _PAGE
    except (OSError, IndexError):
        return 0

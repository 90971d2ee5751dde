"""T1: kill -9 of the whole daemon at random moments, under load: nothing that was accepted is lost, nothing survives it.

For: ``SUITE``: clients that send as fast as they can, a kill (under load, while it drains, starts, copies or compacts its
store), the next daemon on the same directory, and at the end of a run an account of every task.
Not for: kills at a chosen call (points).
Runs in: the process that drives it; daemons, workers and commands are real.
Promises: a cycle is one kill, all of whose chance comes from its seed; the moments are not repeated exactly, real time passes.
"""

from __future__ import annotations

import random
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from tests.campaign.suite import ROOT, Report, Suite, plain_env, python, scratch
from tests.living import Account, Daemon, Instance, wait_until
from tq.client import Client
from tq.errors import DaemonError, Refused, TqError
from tq.store.files import backup
from tq.store.verify import verify

APP = ROOT / "tests" / "flows" / "tasks_for_flows.py"
GONE_WITHIN_S = 2.0
LIVES_S = 0.25
BOOTS_S = 0.6
DRAINS_S = 0.05
COPIES_S = 0.02
A_ROUND = 300
"""Tasks that clients send in a round at the most."""
A_LIFE = 50
"""Kills of one directory: then its tasks run to their ends and are counted, all still kept."""
MOMENTS = ("load", "load", "load", "drain", "boot", "copy")
WAITING = ("scheduled", "blocked", "pending", "running", "retrying")


class Clients:
    """Three clients that send as fast as they can until the daemon is gone; ``accepted`` is what they were told."""

    def __init__(self, data_dir: Path, account: Account) -> None:
        self.data_dir = data_dir
        self.account = str(account)
        self.accepted: set[int] = set()
        self.notes: set[int] = set()
        self._lock = threading.Lock()

    def start(self, rng: random.Random) -> list[threading.Thread]:
        works = [self._one_by_one, self._in_batches, self._commands]
        threads = [threading.Thread(target=self._send, args=(work, random.Random(rng.random()))) for work in works]
        for thread in threads:
            thread.start()
        return threads

    def _send(self, work: Callable[[Client, random.Random], None], rng: random.Random) -> None:
        with Client(self.data_dir) as q:
            try:
                work(q, rng)
            except (DaemonError, Refused) as error:  # it is dead, or it drains
                self._told(error)

    def _told(self, answer: TqError | list[int], notes: bool = False) -> None:
        ids = answer.details.get("ids", []) if isinstance(answer, TqError) else answer
        assert isinstance(ids, list)
        with self._lock:
            self.accepted.update(ids)
            if notes:
                self.notes.update(ids)

    def _one_by_one(self, q: Client, rng: random.Random) -> None:
        for _ in range(A_ROUND // 3):
            note = {"path": self.account, "sleep": rng.choice([0.0, 0.0, 0.01])}
            self._told([q.enqueue("note", note, priority=rng.randrange(3)).id], notes=True)

    def _in_batches(self, q: Client, rng: random.Random) -> None:
        left = 2 * A_ROUND // 3
        while left > 0:
            count = min(rng.choice([2, 20, 90]), left)
            left -= count
            delay = rng.choice([0.0, 0.0, 0.1])
            self._told(q.enqueue_many([("noop", None, {"delay": delay} if delay else {})] * count))

    def _commands(self, q: Client, rng: random.Random) -> None:
        for _ in range(2):
            argv = ["sh", "-c", f"sleep {rng.uniform(0, 0.2):.3f} & wait"]  # two processes: the child must not survive either
            self._told([q.enqueue("shell", {"argv": argv}, priority=5).id])


class Life:
    """One directory and the daemons that were killed on it."""

    def __init__(self, where: Path, plant: str | None) -> None:
        self.where = where
        self.data_dir = where / "d"
        self.data_dir.mkdir(mode=0o700)
        self.account = Account(where / "account")
        self.instance = Instance(self.data_dir)
        self.clients = Clients(self.data_dir, self.account)
        self.kills = 0
        self.copies: list[Path] = []
        self.daemon = Daemon(self.data_dir, app=APP, workers=2)
        if plant is not None:
            self.daemon.module = ["tests.campaign.planted", plant, "tq.daemon"]
        self.daemon.env = plain_env(PYTHONFAULTHANDLER="1")  # who has to be aborted says where he was
        self.daemon.start()

    def kill(self, rng: random.Random) -> Iterator[str]:
        """One cycle: clients send, the daemon dies, another one starts; what was violated."""
        moment = rng.choice(MOMENTS)
        at_once = rng.random() < 0.5  # the next daemon starts among the orphans of this one
        threads = self.clients.start(rng)
        time.sleep(rng.uniform(0, LIVES_S))
        if moment == "drain":
            self.daemon.process.terminate()
            time.sleep(rng.uniform(0, DRAINS_S))
        elif moment == "copy":
            threads.append(self._copy())
            time.sleep(rng.uniform(0, COPIES_S))
        self.daemon.kill()
        self.kills += 1
        orphans = self.instance.alive()
        for thread in threads:
            thread.join(30)
        if moment == "boot":
            self._kill_at_boot(rng.uniform(0, BOOTS_S))
            orphans |= self.instance.alive()
        if at_once:
            self.daemon.start()
        if not (self.instance.gone(orphans, GONE_WITHIN_S) or self.instance.gone(orphans, 2 * a_start())):
            left = self.instance.stuck(orphans)
            self.instance.gone(orphans, 5.0)
            said = self.daemon.words.read_text(errors="replace")[-4000:]
            yield f"{moment}: expected all of its processes to end with the daemon within {GONE_WITHIN_S} s, these do not: {left}; {said}"
        yield from (f"{moment}: expected a store without faults, found: {problem}" for problem in self.instance.problems()[:3])
        for copy in self.copies:
            yield from (f"copy: expected a sound copy, found: {problem}" for problem in verify(copy)[:3])
            shutil.rmtree(copy)
        self.copies.clear()
        if not at_once:
            yield from self._lost(moment)
            self.daemon.start()

    def _copy(self) -> threading.Thread:
        """Back the store up meanwhile: the copy must be sound, whatever becomes of the daemon."""
        copy = self.where / f"copy{self.kills}"

        def work() -> None:
            backup(self.data_dir, copy)
            self.copies.append(copy)

        thread = threading.Thread(target=work)
        thread.start()
        return thread

    def _kill_at_boot(self, after_s: float) -> None:
        """Start a daemon and kill it before, while or just after it becomes ready, recovering from a dead one."""
        argv = [sys.executable, "-m", "tq.daemon", "--data-dir", str(self.data_dir), "--app", str(APP), "--workers", "2", "--foreground"]
        null = subprocess.DEVNULL
        with subprocess.Popen(argv, stdin=null, stdout=null, stderr=null, env=plain_env(), cwd=ROOT) as process:
            time.sleep(after_s)
            process.kill()
        self.kills += 1

    def _lost(self, moment: str) -> Iterator[str]:
        lost = self.instance.missing(self.clients.accepted)
        if lost:
            yield f"{moment}: expected all {len(self.clients.accepted)} accepted tasks on disk, lost: {sorted(lost)[:10]} ({len(lost)})"

    def end(self) -> Iterator[str]:
        """Let every task come to its end and hold each against what clients were told and handlers wrote."""
        with Client(self.data_dir) as client:

            def open_tasks() -> int:
                return sum(count for state, count in client.stats()["states"].items() if state in WAITING)

            try:
                wait_until(lambda: not open_tasks(), 60, "the end of every task")
            except AssertionError as error:
                yield str(error)
            ids = sorted(self.clients.accepted)
            rows = [row for at in range(0, len(ids), 500) for row in client.get_many(ids[at : at + 500])]
        runs: dict[int, int] = {}
        for words in self.account.lines():
            runs[int(words[0])] = runs.get(int(words[0]), 0) + 1
        for task_id, row in zip(ids, rows, strict=True):
            if row is None:
                yield f"task {task_id}: it was accepted and is not there"
            elif found := wrong(row, runs.get(task_id, 0), task_id in self.clients.notes):
                yield f"task {task_id}: {found}: {row}"
        code = self.daemon.stop()
        if code != 0:
            yield f"expected exit code 0 of the last daemon, got {code}"
        yield from self.instance.problems()[:3]
        yield from self._lost("at the end")

    def close(self) -> None:
        self.daemon.end()
        self.daemon.words.unlink(missing_ok=True)


def a_start() -> float:
    """Seconds that a worker's imports take just now: one that had just been spawned can look for its parent only after them."""
    began = time.monotonic()
    subprocess.run(python("-c", "import tq.worker"), env=plain_env(), cwd=ROOT, check=True)
    return time.monotonic() - began


def wrong(row: dict[str, Any], runs: int, notes: bool) -> str:
    """What is wrong with a task at its end, which ran ``runs`` times by its own account; '' if nothing is."""
    if row["state"] != "succeeded" and row["interrupts"] != 10:
        return "expected it to have succeeded, or to have been interrupted ten times"
    if row["crashes"]:
        return "expected no crash: only daemons were killed"
    if row["attempt"] != row["interrupts"] + (row["state"] == "succeeded"):
        return "expected an attempt for each interrupt and one for its success"
    if notes and runs > row["attempt"]:
        return f"expected its {runs} runs to be counted"
    if notes and row["state"] == "succeeded" and not runs:
        return "expected a run behind its success"
    return ""


def run(seed: int, cycles: int, plant: str | None = None) -> Report:
    """``cycles`` kills, ``A_LIFE`` of them on a directory."""
    report, began = Report("kills", seed), time.monotonic()
    while report.cycles < cycles and not report.violations:
        first = seed + report.cycles
        where = Path(tempfile.mkdtemp(prefix="tqk", dir=scratch()))
        life = Life(where, plant)
        found: list[str] = []
        try:
            for number in range(first, min(first + A_LIFE, seed + cycles)):
                found += life.kill(random.Random(number))
                report.cycles += 1
                if found:
                    break
            found = found or list(life.end())
            report.add(kills=life.kills, tasks=len(life.clients.accepted), runs=len(life.account.lines()))
        finally:
            life.close()
            shutil.rmtree(where, ignore_errors=True)
        report.violations += [f"kills --seed {first} --cycles {seed + report.cycles - first}: {line}" for line in found[:10]]
    report.seconds = time.monotonic() - began
    return report


SUITE = Suite("kills", "kills of the daemon", 40, 3_000, run, ("answer_before_commit", "index_skipped"), tested=12)

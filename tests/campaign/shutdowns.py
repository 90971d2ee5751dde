"""T9 and T10: the end of a daemon, by each signal in each phase of its life.

For: ``SUITE``: SIGTERM once and twice, SIGINT, SIGHUP and SIGKILL, as it boots, idles, works, drains, starts a worker, compacts its
store. A signal that asks for an end is exit code 0 within the grace, a SIGHUP is no end at all, after a SIGKILL every process is
gone within a second; what was accepted is there, what was cut short is an interrupt and no crash, and runs again.
Not for: deaths of workers (workers), kills at random under a heavy load (kills).
Runs in: the process that drives it; daemon, workers and commands are real.
Promises: a cycle's phase, signal and chance come from its seed; the instants are not repeated exactly, real time passes.
"""

from __future__ import annotations

import random
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

from tests.campaign.suite import ROOT, Report, Suite, python
from tests.campaign.workers import Life
from tests.living import Instance
from tq.client import Client
from tq.errors import DaemonError, Refused, TqError

PHASES = ("boot", "idle", "loaded", "draining", "starting", "compaction")
SIGNALS = ("TERM", "TERM TERM", "INT", "HUP", "KILL")
COMBINED = [(phase, signals) for phase in PHASES for signals in SIGNALS]
DRAIN_S = 5.0
GONE_S = 1.0
BOOTS_S = 0.5
LATER_S = 0.4
"""When the task is due that is accepted last: no turn of the loop comes of it before."""


class Sender(threading.Thread):
    """A client that sends one task after the other until nobody takes them; ``accepted`` are those it was told of."""

    def __init__(self, data_dir: Path) -> None:
        super().__init__(name="sender", daemon=True)
        self.data_dir = data_dir
        self.accepted: list[int] = []

    def run(self) -> None:
        with Client(self.data_dir, timeout=20) as q:
            try:
                for _ in range(100):
                    self.accepted.append(q.enqueue("works", {"seconds": 0.002}).id)
            except (DaemonError, Refused):  # it is dead, or it drains
                return


class Ends(Life):
    """A directory on which daemons begin and end."""

    def __init__(self, plant: str | None) -> None:
        super().__init__(plant, workers=2, grace=DRAIN_S)
        self.instance = Instance(self.data_dir)
        self.running = False

    def cycle(self, seed: int, report: Report) -> Iterator[str]:
        rng = random.Random(seed)
        phase, signals = COMBINED[seed % len(COMBINED)]
        told = f"{signals} at {phase}"
        self.yardstick.reset()
        if phase == "boot":
            if self.running and (code := self.daemon.stop()) != 0:
                yield f"{told}: expected exit code 0 of an idle daemon, got {code}"
            self.running = False
            yield from (f"{told}: {line}" for line in self._boot(rng, signals))
            return
        if not self.running:
            self.start()
        self.running = False
        ids = self._work(rng, phase)
        sender = Sender(self.data_dir)
        if phase not in ("idle", "draining"):
            sender.start()
        self._reach(rng, phase)
        if phase != "draining":
            try:
                ids.append(self.client.enqueue("works", {"seconds": 0.0}, delay=LATER_S).id)
            except TqError as error:
                yield f"{told}: expected a task to be accepted, got {error}"
        alive = self.instance.alive()
        found = list(self._end(rng, signals))
        if sender.ident is not None:
            sender.join()
        ids += sender.accepted
        gone_s = GONE_S + self.yardstick.slack() if signals == "KILL" else 0.0
        if not self.instance.gone(alive | self.instance.alive(), gone_s):
            found.append(f"expected no process {gone_s:.1f} s after the daemon's, alive: {self.instance.alive()}")
        found += self.instance.problems()[:3]
        lost = self.instance.missing(set(ids))
        if lost:
            found.append(f"expected all {len(ids)} accepted tasks on disk, lost: {sorted(lost)[:10]}")
        else:
            found += self._afterwards(ids, signals in ("TERM", "INT", "HUP") and phase != "draining")
        report.add(tasks=len(ids))
        yield from (f"{told}: {line}" for line in found)

    def _work(self, rng: random.Random, phase: str) -> list[int]:
        if phase in ("idle", "starting"):
            return []
        seconds = 0.4 if phase == "draining" else 0.05
        works = [("works", {"seconds": rng.uniform(0, seconds)}) for _ in range(4 if phase == "draining" else 30)]
        commands = [("shell", {"argv": ["sh", "-c", f"sleep {rng.uniform(0, seconds):.3f} & wait"]}, {"retries": 0}) for _ in range(3)]
        return self.client.enqueue_many(rng.sample([*works, *commands], len(works) + 3))

    def _reach(self, rng: random.Random, phase: str) -> None:
        """Be in the phase."""
        if phase == "idle":
            return
        time.sleep(rng.uniform(0, 0.1))
        if phase == "draining":
            self.daemon.process.terminate()
            time.sleep(rng.uniform(0, 0.1))
        elif phase == "starting":
            self.client.call("restart_workers", {}, 30)
            time.sleep(rng.uniform(0, 0.15))
        elif phase == "compaction":
            threading.Thread(target=self._compact, daemon=True).start()
            time.sleep(rng.uniform(0, 0.01))

    def _compact(self) -> None:
        with Client(self.data_dir, timeout=20) as q:
            try:
                q.call("compact", {})
            except (DaemonError, Refused):
                return

    def _end(self, rng: random.Random, signals: str) -> Iterator[str]:
        """Send the signals and wait for the end; what is wrong with it."""
        process = self.daemon.process
        most = DRAIN_S + 2.0
        if signals == "HUP":
            process.send_signal(signal.SIGHUP)
            time.sleep(rng.uniform(0, 0.05))
            if process.poll() is not None and process.returncode != 0:  # 0: it drained anyway
                yield f"expected a SIGHUP to end nothing, got {process.returncode}"
            signals = "TERM"
        began = time.monotonic()
        for number, name in enumerate(signals.split()):
            if number:
                time.sleep(rng.uniform(0, 0.02))
                most = 2.0
            process.send_signal(signal.Signals[f"SIG{name}"])
        want = -signal.SIGKILL if signals == "KILL" else 0
        most += self.yardstick.slack()
        try:
            code = process.wait(most)
        except subprocess.TimeoutExpired:
            yield f"expected an end within {most:.1f} s, got none"
            self.daemon.kill()
            return
        if code not in (want, 0):  # 0: one that drained has been faster than the kill
            yield f"expected exit code {want} within {most:.1f} s, got {code} after {time.monotonic() - began:.1f} s"

    def _afterwards(self, ids: list[int], gently: bool) -> list[str]:
        """What the next daemon makes of it; ``gently``: nothing was cut short."""
        found = []
        self.start()
        self.running = True
        for row in self.over(ids):
            counts = (row["state"], row["failures"], row["crashes"])
            if counts != ("succeeded", 0, 0) or row["attempt"] != row["interrupts"] + 1:
                found.append(f"expected success, and no attempt but for interrupts, got {row}")
            elif row["interrupts"] and gently:
                found.append(f"expected what ran to finish within the grace, task {row['id']} has interrupts: {row['interrupts']}")
            found += self.runs.overlaps(row["id"])
            if self.runs.begun(row["id"]) > row["attempt"]:
                found.append(f"task {row['id']}: expected its {self.runs.begun(row['id'])} runs to be counted, got {row['attempt']}")
        return found[:5]

    def _boot(self, rng: random.Random, signals: str) -> Iterator[str]:
        """The signal comes while it starts."""
        argv = ["--data-dir", str(self.data_dir), "--app", str(self.daemon.options["app"]), "--workers", "2", "--foreground"]
        self.daemon.process = process = subprocess.Popen(
            python("-m", *self.daemon.module, *argv), stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL, env=self.daemon.env, cwd=ROOT,
        )  # fmt: skip
        time.sleep(rng.uniform(0, BOOTS_S))
        ours = heard(process.pid)  # before that it is Python that starts, and nothing is open yet
        found = list(self._end(rng, signals))
        if ours or signals == "KILL":
            yield from found
        elif process.poll() is None:
            yield f"expected an end of a Python that starts, got none: {found}"
        if not self.instance.gone(self.instance.alive(), GONE_S + self.yardstick.slack()):
            yield f"expected no process to be left, got {self.instance.alive()}"
        yield from self.instance.problems()[:3] if (self.data_dir / "store" / "data.mdb").exists() else []


def heard(pid: int) -> bool:
    """Whether the process has said what a SIGTERM does."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return True
    caught = next((int(line.split()[1], 16) for line in lines if line.startswith("SigCgt:")), 0)
    return bool(caught >> (signal.SIGTERM - 1) & 1)


def run(seed: int, cycles: int, plant: str | None = None) -> Report:
    return Ends(plant).live("shutdowns", seed, cycles)


SUITE = Suite("shutdowns", "ends of a daemon", len(COMBINED), 600, run, ("answer_before_commit",), tested=len(COMBINED) // 2)

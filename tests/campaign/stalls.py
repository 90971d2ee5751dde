"""T18: the daemon's loop fails, or does not turn any more: it is noticed, who waits hears of it, and nothing that was promised is lost.

For: ``SUITE``: one fault a cycle, in a daemon with a task that runs, one client that waits for it and one that sends.
Not for: disks that refuse (errors), kills (kills).
Runs in: the process that drives it; ``python -m tests.campaign.stalls FAULT module args...`` is the daemon with the fault in it,
which strikes once, when the file ``fault`` appears in its directory.
Promises: a cycle's fault comes from its seed; the watchdog's patience is a hundredth of what it is, and the rest is real.
"""

from __future__ import annotations

import os
import random
import runpy
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from tests.campaign.planted import plant as plant_bug
from tests.campaign.suite import Report, Suite, each
from tests.campaign.workers import Life
from tests.living import Instance, wait_until
from tq import daemon
from tq.client import Client
from tq.errors import StoreError, TqError
from tq.loop import Loop
from tq.store.lmdb import LmdbStore

STALL_S, STUCK_S = 0.05, 0.6
SLOW_S = 0.4
"""How long a commit takes that is slow and no more."""
GONE_S = 1.0
HEARD_S = 1.0
"""Until a client has heard that nobody will answer: beside what the watchdog waits."""
FAULTS = ("raises", "slow", "stuck", "spins", "store")
CODES = {"raises": daemon.EXIT_BROKEN, "stuck": daemon.EXIT_BROKEN, "spins": daemon.EXIT_BROKEN, "store": daemon.EXIT_STORE}
EVENTS = {"raises": "daemon_failed", "slow": "turn_stalled", "stuck": "daemon_stuck", "spins": "daemon_stuck", "store": "daemon_failed"}


# the daemon's side


def _raises() -> None:
    raise RuntimeError("planted: the loop fails")


def _slow() -> None:
    time.sleep(SLOW_S)


def _stuck() -> None:
    while True:
        time.sleep(3600)


def _spins() -> None:
    while True:
        pass


def _store() -> None:
    raise StoreError("planted: the store cannot be written")


def strike(fault: str, flag: Path) -> None:
    """Let the fault happen in this process, once, when ``flag`` is there."""
    work: Callable[[], None] = {"raises": _raises, "slow": _slow, "stuck": _stuck, "spins": _spins, "store": _store}[fault]

    def check() -> None:
        if flag.exists():
            flag.unlink()
            work()

    poll, commit = Loop.poll, LmdbStore.commit

    def polled(self: Any, timeout_s: float | None) -> None:
        poll(self, timeout_s)
        check()

    def committed(self: Any) -> None:
        check()
        commit(self)

    if fault == "raises":
        Loop.poll = polled  # type: ignore[method-assign]
    else:
        LmdbStore.commit = committed  # type: ignore[method-assign]
    daemon.STALL_S, daemon.STUCK_S = STALL_S, STUCK_S


def main() -> None:
    """Be ``python -m module args...`` with a fault, and with a planted bug if ``fault+bug`` is named."""
    fault, _, bug = sys.argv[1].partition("+")
    module = sys.argv[2]
    strike(fault, Path(sys.argv[sys.argv.index("--data-dir") + 1]) / "fault")
    plant_bug(bug or None)
    sys.argv = [module, *sys.argv[3:]]
    runpy.run_module(module, run_name="__main__", alter_sys=True)


# the suite's side


class Waiter(threading.Thread):
    """A client with one request under way; ``answer`` and ``error`` are what became of it, ``at`` when."""

    def __init__(self, data_dir: Path, ask: Callable[[Client], Any]) -> None:
        super().__init__(daemon=True)
        self._data_dir, self._ask = data_dir, ask
        self.answer: Any = None
        self.error: TqError | None = None
        self.at = 0.0

    def run(self) -> None:
        with Client(self._data_dir, timeout=60) as q:
            try:
                self.answer = self._ask(q)
            except TqError as error:
                self.error = error
            self.at = time.monotonic()


class Stalls(Life):
    def __init__(self, bug: str | None) -> None:
        super().__init__(None, workers=2, grace=5)
        self.bug = bug
        self.instance = Instance(self.data_dir)

    def cycle(self, seed: int, report: Report) -> Iterator[str]:
        rng = random.Random(seed)
        fault = FAULTS[seed % len(FAULTS)]
        self.daemon.module = ["tests.campaign.stalls", f"{fault}+{self.bug}" if self.bug else fault, "tq.daemon"]
        self.start()
        found = list(self._strike(fault, rng))
        if self.daemon.process.poll() is None:
            self.daemon.kill()
        yield from (f"{fault}: {line}" for line in found)

    def _strike(self, fault: str, rng: random.Random) -> Iterator[str]:
        running = self.client.enqueue("works", {"seconds": 1.5}).id
        accepted = [running, *self.client.enqueue_many([("works", {"seconds": 0.0}, {"delay": 3600})] * rng.randint(1, 50))]
        wait_until(lambda: self.runs.begun(running), 10, "the run")
        waits = Waiter(self.data_dir, lambda q: q.wait([running], 30))
        sends = Waiter(self.data_dir, lambda q: q.enqueue("works", {"seconds": 0.0}, delay=3600).id)
        waits.start()
        time.sleep(0.05)  # it is under way
        alive = self.instance.alive()
        self.yardstick.reset()
        began = time.monotonic()
        (self.data_dir / "fault").touch()
        sends.start()
        if fault == "slow":
            yield from self._goes_on(waits, sends, began)
        else:
            yield from self._ends(fault, (waits, sends), began, alive)
        if sends.answer is not None:
            accepted.append(sends.answer)
        self.client.close()
        lost = self.instance.missing(set(accepted))
        if lost:
            yield f"expected all {len(accepted)} accepted tasks on disk, lost: {sorted(lost)}"
        yield from self.instance.problems()[:3]
        yield from self._told(EVENTS[fault])

    def _goes_on(self, waits: Waiter, sends: Waiter, began: float) -> Iterator[str]:
        """A disk that is slow is waited for: nobody is answered before, and everybody afterwards."""
        sends.join(30)
        if sends.answer is None or sends.at - began < SLOW_S:
            told = f"{sends.answer} ({sends.error}) after {sends.at - began:.2f} s"
            yield f"expected an answer when the commit is over, which takes {SLOW_S} s, got {told}"
        waits.join(30)
        if waits.answer is None or waits.answer[0]["state"] != "succeeded":
            yield f"expected the run to go on, got {waits.answer} ({waits.error})"
        if (code := self.daemon.stop()) != 0:
            yield f"expected exit code 0 afterwards, got {code}"

    def _ends(self, fault: str, clients: tuple[Waiter, ...], began: float, alive: dict[int, int]) -> Iterator[str]:
        """It ends by itself, tells why, and takes its workers with it; nobody waits for an answer that does not come."""
        most = HEARD_S + self.yardstick.slack() + (STUCK_S if fault in ("stuck", "spins") else 0.0)
        for client in clients:
            client.join(max(began + most - time.monotonic(), 0.1))
            if client.error is None:
                yield f"expected every client to hear within {most:.1f} s that there is no answer, got {client.answer}"
        try:
            code = self.daemon.process.wait(max(began + most - time.monotonic(), 0.1))
        except subprocess.TimeoutExpired:
            yield f"expected an end within {most:.1f} s, got none"
            os.kill(self.daemon.pid, signal.SIGKILL)
            code = self.daemon.process.wait(10)
        if code != CODES[fault]:
            yield f"expected exit code {CODES[fault]}, got {code}"
        if not self.instance.gone(alive, GONE_S + self.yardstick.slack()):
            yield f"expected its workers to end with it, alive: {self.instance.alive()}"

    def _told(self, event: str) -> Iterator[str]:
        """The log says it."""
        if event not in self.daemon.log():
            yield f"expected {event} in the log, got {self.daemon.log()[-1000:]}"


def run(seed: int, cycles: int, plant: str | None = None) -> Report:
    def cycle(number: int, report: Report) -> Iterator[str]:
        stalls = Stalls(plant)
        try:
            yield from stalls.cycle(number, report)
        finally:
            left = stalls.close()
        yield from (f"expected no process to be left, got {one}" for one in left)

    return each("stalls", seed, cycles, cycle)


SUITE = Suite("stalls", "daemons whose loop fails or stalls", len(FAULTS), 100, run, ("watchdog_asleep",))

if __name__ == "__main__":
    main()

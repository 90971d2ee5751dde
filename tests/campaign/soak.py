"""T23: minutes of mixed work on one instance: what it holds stays what it was.

For: ``SUITE``: a cycle is a minute in the life of one instance: 200 tasks a second of several kinds (short, failing, delayed, commands,
now and then one that kills its worker), one client that sends and reads all the time, and one that comes and goes each second.
When its time is over a cycle waits for the ends of all. Each fifth cycle ends with the daemon's death in the midst of the work.
Not for: top speed (tests/bench); deaths at bad moments (kills).
Runs in: the process that drives it; daemon and workers are real.
Promises: ten cycles are one run, since what grows is seen only within a life. Expected: as many ends as tasks were accepted; and
within a daemon's life, from its first cycle on, no more memory of its own, descriptors, threads, reader slots, files and no larger
store than ``MORE`` allows. How long an answer took is a figure (``p50_us``, ``p99_us``, summed over the cycles), since a machine has
other work.
"""

from __future__ import annotations

import os
import random
import threading
import time
from collections.abc import Iterator
from typing import NamedTuple

import psutil

from tests.campaign.suite import Report, Suite
from tests.campaign.workers import Life
from tests.living import wait_until
from tq.client import Client
from tq.errors import DaemonError
from tq.store.survey import survey

SECONDS = 60.0
RATE = 200
STEP_S = 0.1
LIVES = 5
"""So many cycles a daemon lives."""
SETTINGS = "keep = 2000\nkeep_requests_ms = 2000\nkeep_events = 500\n"


class Held(NamedTuple):
    """What an instance holds when it has nothing to do. Memory: what is no file's (RssAnon), in KiB; ``store`` in KiB, too."""

    daemon: int
    workers: int
    descriptors: int
    threads: int
    readers: int
    files: int
    store: int


MORE = Held(daemon=12 << 10, workers=40 << 10, descriptors=4, threads=1, readers=1, files=600, store=8 << 10)
"""How much more is no violation: allocators and the map of pages grow in steps, retention looks after so many ends."""


def _anonymous_kib(pid: int) -> int:
    with open(f"/proc/{pid}/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith("RssAnon:"))


class Sender(threading.Thread):
    """A client that sends a task, waits for the answer and reads what there is, until it is told to stop."""

    def __init__(self, life: Soak) -> None:
        super().__init__(name="sender")
        self.life = life
        self.took_us: list[int] = []
        self.accepted = 0
        self.over = threading.Event()

    def run(self) -> None:
        client = Client(self.life.data_dir, timeout=30)
        while not self.over.wait(0.02):
            began = time.monotonic_ns()
            client.enqueue("naps", {"seconds": 0}, queue="sender")
            self.took_us.append((time.monotonic_ns() - began) // 1000)
            self.accepted += 1
            if self.accepted % 50 == 0:  # one that comes, looks and goes
                with Client(self.life.data_dir, timeout=30) as guest:
                    guest.stats()
                    guest.list(limit=20)
        client.close()


class Soak(Life):
    def __init__(self, plant: str | None, seconds: float) -> None:
        super().__init__(plant, workers=3)
        settings = (self.data_dir / "tq.toml").read_text().replace("keep = 1000000\n", SETTINGS)
        (self.data_dir / "tq.toml").write_text(settings)
        self.seconds = seconds
        self.accepted = 0
        self.first: Held | None = None

    def begin(self) -> list[str]:
        self.start()
        return []

    def cycle(self, seed: int, report: Report) -> Iterator[str]:
        sender = Sender(self)
        sender.start()
        self._work(random.Random(seed))
        sender.over.set()
        sender.join()
        self.accepted += sender.accepted
        dies = seed % LIVES == 0
        if dies:
            self.daemon.kill()
            self.client.close()
            self.client = Client(self.data_dir, timeout=30)
            self.start()
        yield from self._ended()
        took = sorted(sender.took_us)
        report.add(tasks=self.accepted, deaths=dies, p50_us=took[len(took) // 2], p99_us=took[len(took) * 99 // 100])
        held = self._held()
        if self.first is None or dies:
            self.first = held
        for name, was, now, more in zip(Held._fields, self.first, held, MORE, strict=True):
            if now > was + more:
                yield f"expected {name} to stay at {was}, give or take {more}, got {now}"

    def _work(self, rng: random.Random) -> None:
        """Send at a steady rate for the cycle's time."""
        began = time.monotonic()
        for step in range(int(self.seconds / STEP_S)):
            time.sleep(max(0.0, began + step * STEP_S - time.monotonic()))
            count = int(RATE * STEP_S)
            tasks = [("naps", {"seconds": rng.choice([0, 0, 0.001])}, {})] * (count - 3)
            tasks += [("naps", {"seconds": 0}, {"delay": rng.choice([0.05, 0.2, 1.0])}), ("fails", None, {"retries": 1})]
            tasks += [("shell", {"argv": ["echo", str(step)]}, {"priority": 3})]
            if step % 100 == 50:
                tasks += [("kills", {"way": rng.choice(["killed", "exits"]), "times": 1}, {})]
            self.accepted += len(self.client.enqueue_many(tasks))

    def _ended(self) -> Iterator[str]:
        """Wait until nothing is left to do."""

        def over() -> int:
            found = self.client.stats()
            return int(found["completed"] + found["failed"])

        try:
            wait_until(lambda: over() >= self.accepted, 60 + self.seconds, "the end of all tasks")
        except (AssertionError, DaemonError) as error:
            yield f"expected {self.accepted} tasks to end, got {over()}: {error}"
        if over() > self.accepted:
            yield f"expected {self.accepted} ends, got {over()}"

    def _held(self) -> Held:
        self.full()
        daemon = psutil.Process(self.daemon.pid)
        workers = [_anonymous_kib(child.pid) for child in daemon.children()]
        files = sum(len(names) for _, _, names in os.walk(self.data_dir))
        readers = len(survey(self.data_dir).readers)
        store = (self.data_dir / "store" / "data.mdb").stat().st_blocks // 2
        return Held(_anonymous_kib(daemon.pid), sum(workers), daemon.num_fds(), daemon.num_threads(), readers, files, store)


def run(seed: int, cycles: int, plant: str | None = None, seconds: float = SECONDS) -> Report:
    return Soak(plant, seconds).live("soak", seed, cycles)


SUITE = Suite("soak", "minutes of mixed work", 10, 10, run, ("answers_hoarded",))

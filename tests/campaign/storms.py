"""T24: storms of tasks that all fail, all kill their worker, all hang, or all come back, beside a queue of honest ones.

For: ``SUITE``: one storm a cycle, in a queue that may have one of the eight workers. The honest queue runs on meanwhile; the storm
comes to its end, each task of it ends as it should and no run beside another of its own; the pool has its size afterwards, and
of the dead letters no more are kept than were asked for.
Not for: one killer among honest tasks (workers).
Runs in: the process that drives it; daemon and workers are real.
Promises: a cycle's storm and its chance come from its seed. How fast the honest queue was is a figure and no violation, since a
machine has other work: beside each storm ``<storm>_done`` of its tasks were done in a time in which ``<storm>_alone`` would have
been without it. They wait rather than compute, so it is the sharing of workers that is measured and not that of processors.
"""

from __future__ import annotations

import random
import time
from collections.abc import Iterator
from typing import Any

from tests.campaign.suite import Report, Suite
from tests.campaign.workers import Life
from tests.living import wait_until
from tq import Backoff

STORMS = ("failing", "poison", "hanging", "retrying")
NAP_S, HONEST = 0.006, 160
"""What a task of the honest queue takes (too long to be fed ahead), and how many are sent at once."""
ROUNDS = 5
"""So many times they are sent at the most, as long as the storm lasts."""
KEEP = 50
KEPT_MORE = 200
"""Dead letters beyond ``KEEP`` that retention may not have looked at yet: it looks after so many ends."""
WAITING = ("scheduled", "blocked", "pending", "running", "retrying")


def storm(kind: str, rng: random.Random) -> list[tuple[Any, ...]]:
    """Its tasks."""
    if kind == "failing":
        return [("fails", None, {"queue": "storm"})] * rng.randint(400, 600)
    if kind == "poison":
        return [("kills", {"way": rng.choice(["killed", "exits", "segfault"])}, {"queue": "storm"}) for _ in range(rng.randint(2, 3))]
    if kind == "hanging":
        how = {"timeout": 0.15, "retries": 3, "queue": "storm"}
        return [("kills", {"way": rng.choice(["ignores_term", "ignores_term", "stops", "in_c", "endless"])}, how)]
    again = {"backoff": Backoff.exponential("50ms", most="200ms"), "retries": 5, "queue": "storm"}
    return [("fails", None, again)] * rng.randint(400, 600)


ENDS = {"failing": (5, 0), "poison": (3, 3), "hanging": (4, 0), "retrying": (6, 0)}
"""(attempts, crashes) of each task of a storm."""


class Weather(Life):
    def __init__(self, plant: str | None) -> None:
        super().__init__(plant)
        settings = (self.data_dir / "tq.toml").read_text().replace("keep = 1000000", f"keep = {KEEP}")
        (self.data_dir / "tq.toml").write_text(settings)
        self.alone_s = 0.0

    def begin(self) -> list[str]:
        """Start, and measure how fast the honest queue is alone."""
        self.start()
        self.client.set_queue("storm", slots=1)
        self._honest()
        self.alone_s = sum(self._honest() for _ in range(3)) / 3
        return []

    def _honest(self) -> float:
        """How long one round of the honest queue takes, in seconds."""
        began = time.monotonic()
        self.client.enqueue_many([("naps", {"seconds": NAP_S}, {"queue": "honest"})] * HONEST)
        wait_until(lambda: not self._left("honest"), 120, "the end of the honest queue")
        return time.monotonic() - began

    def _left(self, queue: str) -> int:
        """Tasks of the queue that are not over."""
        states = self.client.stats()["queues"].get(queue, {}).get("states", {})
        return sum(states.get(state, 0) for state in WAITING)

    def cycle(self, seed: int, report: Report) -> Iterator[str]:
        kind = STORMS[seed % len(STORMS)]
        failed = self.client.stats()["queues"].get("storm", {}).get("failed", 0)
        ids = self.client.enqueue_many(storm(kind, random.Random(seed)))
        for _ in range(ROUNDS):
            took = self._honest()
            if not self._left("storm"):  # some of that was without it
                break
            report.add(**{f"{kind}_done": HONEST, f"{kind}_alone": round(HONEST * took / self.alone_s)})
        try:
            wait_until(lambda: not self._left("storm"), 120, "the end of the storm")
            self.full()
        except AssertionError as error:
            yield f"{kind}: expected the storm to pass, got {error}"
            return
        after = self.client.stats()["queues"]["storm"]
        report.add(storms=1, dead_letters=len(ids))
        if after["failed"] != failed + len(ids):
            yield f"{kind}: expected {len(ids)} tasks to be failed by it, got {after['failed'] - failed}"
        if after["states"]["failed"] > KEEP + KEPT_MORE:
            yield f"{kind}: expected about {KEEP} dead letters to be kept, got {after['states']['failed']}"
        for row in self.client.get_many(ids[-KEEP:]):
            if row is not None and (row["attempt"], row["crashes"], row["interrupts"]) != (*ENDS[kind], 0):
                yield f"{kind}: expected attempts and crashes {ENDS[kind]} and no interrupt, got {row}"
        for task_id in ids if kind in ("poison", "hanging") else []:
            yield from (f"{kind}: {line}" for line in self.runs.overlaps(task_id))
            if self.runs.begun(task_id) != ENDS[kind][0]:
                yield f"{kind}: expected {ENDS[kind][0]} runs of task {task_id}, got {self.runs.begun(task_id)}"


def run(seed: int, cycles: int, plant: str | None = None) -> Report:
    return Weather(plant).live("storms", seed, cycles)


SUITE = Suite("storms", "storms", len(STORMS), 60, run, ("requeue_before_reap",))

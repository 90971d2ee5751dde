"""A task's life beyond its first success: what a retry costs, and whether a million of anything lets others be answered.

For: retries beside successes; a million delayed tasks that come due in one second, cancelled, retried, removed.
Not for: top speed (speed), costs among many stored tasks (scale).
Runs in: the process that measures; each bench has a daemon of its own.
Promises: CPU is that of the daemon and its workers together; a pause is the longest time that another caller waited.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Self

import psutil

from tests.bench.bars import HANDLERS, Bar, Size, at_most
from tests.bench.scale import private_mib
from tq.bench import instance, until_completed
from tq.client import Client
from tq.model import Backoff

WITHIN_S = 600.0
AT_ONCE = Backoff("fixed", 0, 1.0, 0, jitter=False)


def _cpu_s(pid: int) -> float:
    """Seconds of CPU of a daemon and its workers, to a hundredth."""
    daemon = psutil.Process(pid)
    times = [process.cpu_times() for process in (daemon, *daemon.children(recursive=True))]
    return sum(one.user + one.system for one in times)


def retries(size: Size) -> Iterator[Bar]:
    with instance(HANDLERS) as client:
        pid = client.status()["pid"]
        costs: dict[str, float] = {}
        done = 0
        for name in ("noop", "fails_once", "noop", "fails_once"):
            client.set_queue("default", paused=True)
            client.enqueue_many([(name, None, {"retries": 1, "backoff": AT_ONCE})] * size.few)
            before = _cpu_s(pid)
            client.set_queue("default", paused=False)
            done += size.few
            until_completed(client, done, WITHIN_S)
            costs[name] = min(costs.get(name, 1e9), max(_cpu_s(pid) - before, 0.01))
        told = f"{1e6 * costs['fails_once'] / size.few:.0f} us of CPU a task, {1e6 * costs['noop'] / size.few:.0f} for one that succeeds"
        ratio = costs["fails_once"] / costs["noop"]
        yield at_most(f"{size.few:,} tasks that fail once, over as many that succeed", ratio, "x", 4, beside=told)


@dataclass
class Caller:
    """Somebody who asks and sends all the time; ``pauses`` are seconds of each call since it was last looked at."""

    client: Client
    pauses: list[float] = field(default_factory=list)
    stopping: bool = False

    def __enter__(self) -> Self:
        self.thread = threading.Thread(target=self._ask)
        self.thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stopping = True
        self.thread.join()

    def _ask(self) -> None:
        while not self.stopping:
            began = time.monotonic()
            self.client.get_many([1])
            self.pauses.append(time.monotonic() - began)
            time.sleep(0.002)

    def during(self, work: Callable[[], object]) -> tuple[float, float]:
        """(longest pause in ms while ``work`` went on, how long that was in s)."""
        self.pauses.clear()
        began = time.monotonic()
        work()
        return 1000 * max([0.0, *self.pauses]), time.monotonic() - began


def _until(done: Callable[[], bool]) -> None:
    end = time.monotonic() + WITHIN_S
    while not done():
        if time.monotonic() > end:
            raise TimeoutError(f"not done after {WITHIN_S:.0f} s")
        time.sleep(0.05)


def _chore(client: Client, verb: str, **args: object) -> Callable[[], None]:
    def run() -> None:
        client.call(verb, args)
        _until(lambda: not client.call("chores", {})["chores"])

    return run


def million(size: Size) -> Iterator[Bar]:
    """Without workers nothing runs by itself; a consumer claims."""
    with instance(workers=0, keep=10 * size.queued) as client, Client(client.data_dir) as other:
        pid = client.status()["pid"]
        before = private_mib(pid)
        due_ms = int(time.time() * 1000) + int(20_000 * max(size.queued / 1e6, 0.05))
        _fill(client, size.queued, due_ms)
        grown = private_mib(pid) - before
        yield at_most(f"daemon: memory grown by {size.queued:,} delayed tasks", max(grown, 0.0), "MiB", 32)
        time.sleep(max(due_ms / 1000 - time.time() - 0.1, 0))

        def promoted() -> bool:
            return int(client.stats()["queue_length"]) == size.queued

        with Caller(other) as caller:
            yield _paused("all due in one second: promoted", caller, lambda: _until(promoted), size)
            first = [task["id"] for task in client.claim(["default"], limit=500)]
            yield Bar("claimed after that in the order of arrival", float(first == sorted(first) and first[0] == 1), "", 1)
            client.release([(task, 1) for task in first])
            yield _paused("cancelled at once", caller, _chore(client, "cancel", queue="default"), size)
            yield _paused("retried at once", caller, _chore(client, "retry", queue="default"), size)
            yield _paused("purged at once", caller, _chore(client, "remove", queue="default", states=["pending"]), size)
        left = sum(client.stats()["states"].values())
        yield at_most("left after the purge", left, "", 0)


def _paused(what: str, caller: Caller, work: Callable[[], object], size: Size) -> Bar:
    pause, took = caller.during(work)
    return at_most(f"{size.queued:,} tasks, {what}: longest wait of another caller", pause, "ms", 50, beside=f"{took:.1f} s in all")


def _fill(client: Client, tasks: int, due_ms: int) -> None:
    from datetime import UTC, datetime

    options = {"at": datetime.fromtimestamp(due_ms / 1000, UTC), "allow_unknown": True}
    for at in range(0, tasks, 50_000):
        client.enqueue_many([("stamp", None, options)] * min(50_000, tasks - at))

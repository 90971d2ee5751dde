"""What holds over time: an idle daemon that sleeps, slots that scale, workers that die.

For: wake-ups, CPU and memory at rest; concurrency; crash rescue under load.
Not for: top speed (speed), size (scale).
Runs in: the process that measures; each bench has daemons of its own.
Promises: what is counted is what the kernel counted.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from statistics import median

import psutil

from tests.bench.bars import HANDLERS, Bar, Size, at_most
from tq.bench import instance, until_completed
from tq.client import Client


def _processes(client: Client) -> list[psutil.Process]:
    """The daemon and its workers."""
    daemon = psutil.Process(client.status()["pid"])
    return [daemon, *daemon.children()]


def _wakeups(process: psutil.Process) -> int:
    """Times that a thread of the process has been put on a processor after it had slept."""
    lines = [line for path in Path(f"/proc/{process.pid}/task").glob("*/status") for line in path.read_text("utf-8").splitlines()]
    return sum(int(line.split()[1]) for line in lines if line.startswith("voluntary_ctxt_switches"))


def _pss_mib(process: psutil.Process) -> float:
    lines = Path(f"/proc/{process.pid}/smaps_rollup").read_text("utf-8").splitlines()
    return sum(int(line.split()[1]) for line in lines if line.startswith("Pss:")) / 1024


def idle(size: Size) -> Iterator[Bar]:
    with instance(HANDLERS) as client:
        client.enqueue_many([("noop", None)] * 1000)
        until_completed(client, 1000)
        family = _processes(client)
        client.close()
        time.sleep(min(12.0, size.idle_s))  # the watchdog and the log finish what the work began
        before = [(_wakeups(one), sum(one.cpu_times()[:2])) for one in family]
        time.sleep(size.idle_s)
        after = [(_wakeups(one), sum(one.cpu_times()[:2])) for one in family]
        woken = [b[0] - a[0] for a, b in zip(before, after, strict=True)]
        cpu = sum(b[1] - a[1] for a, b in zip(before, after, strict=True))
        rate = sum(woken) * 60 / size.idle_s
        yield at_most("idle: wake-ups a minute, all threads of daemon and 2 workers", rate, "", 2, beside=f"each {woken}")
        yield at_most("idle: CPU", 100 * cpu / size.idle_s, "%", 0.1)
        pss = [_pss_mib(one) for one in family]
        yield at_most("idle: PSS of daemon and 2 workers", sum(pss), "MiB", 60, 40, ", ".join(f"{one:.1f}" for one in pss))


def _seconds(client: Client, name: str, argument: float, tasks: int, workers: int = 1) -> float:
    """How long ``tasks`` take, once the workers know the type."""
    before = client.stats()["completed"] + 20
    client.enqueue_many([(name, argument)] * 20)
    until_completed(client, before)
    while len([one for one in client.workers() if one["state"] == "idle"]) < workers:
        time.sleep(0.02)
    began = time.monotonic()
    client.enqueue_many([(name, argument)] * tasks)
    until_completed(client, before + tasks)
    return time.monotonic() - began


def slots(size: Size) -> Iterator[Bar]:
    with instance(HANDLERS, workers=1) as one, instance(HANDLERS, workers=2) as two:
        ratios = [_seconds(one, "burn", 10, size.burns) / _seconds(two, "burn", 10, size.burns, 2) for _ in range(min(size.rounds, 3))]
    yield Bar("tasks of 10 ms of CPU: two workers over one", median(ratios), "x", 1.8)
    alone = 0.0
    for count in (1, 2, 4, 8):
        with instance(HANDLERS, workers=1, slots=count) as client:
            rate = size.naps * count / _seconds(client, "nap", 0.02, size.naps * count)
        alone = alone or rate
        yield Bar(f"tasks of 20 ms of sleep, {count} slots: share of linear", rate / alone / count, "x", 0.9, beside=f"{rate:,.0f}/s")


def sleepers(size: Size) -> Iterator[Bar]:
    with instance(HANDLERS, workers=4, slots=256) as client:
        while sum(one["state"] == "idle" for one in client.workers()) < 4:
            time.sleep(0.02)
        began = time.monotonic()
        client.enqueue_many([("nap", 1.0)] * size.sleepers)
        running = 0.0
        while not running and client.stats()["completed"] < size.sleepers:
            if client.stats()["running"] >= size.sleepers:
                running = time.monotonic() - began
        until_completed(client, size.sleepers)
        took = time.monotonic() - began
    yield at_most(f"{size.sleepers:,} tasks that sleep 1 s on 4 workers of 256 slots, all over", took, "s", 4)
    yield at_most("  all of them running at once after", running or took, "s", 2, 0.5)


def kills(size: Size) -> Iterator[Bar]:
    with instance(HANDLERS, keep=size.killed * 2) as client:
        client.enqueue_many([("nap", 0.0003)] * size.killed)
        deadline, count = time.monotonic() + 300, 0
        left = size.killed
        while left and time.monotonic() < deadline:
            time.sleep(size.kill_every_s)
            workers = [one for one in client.workers() if one["state"] == "busy"]
            if workers:
                os.kill(workers[count % len(workers)]["pid"], signal.SIGKILL)
                count += 1
            states = client.stats()["states"]
            left = sum(states[word] for word in ("pending", "running", "retrying", "scheduled", "blocked"))
        states = client.stats()["states"]
        explained = sum(bool(row["error"]) for row in client.list(states=["failed"], limit=500))
    told = f"{count} kills, {states['failed']} failed, {explained} of them with a reason, {left} not over"
    over = left == 0 and sum(states.values()) == size.killed and explained == min(states["failed"], 500)
    what = f"{size.killed:,} tasks while a worker is killed every {size.kill_every_s:g} s: succeeded"
    yield Bar(what, 100 * states["succeeded"] / size.killed, "%", 99.9, beside=told)
    yield Bar("  all final and explained", float(over), "", 1)

"""Rates and latencies: end to end, drain, one client, many clients, pickup, one worker, whole commands.

For: bars that are a ratio to the bare loop, to bare commits or to a bare interpreter.
Not for: size and steadiness (scale, steady).
Runs in: the process that measures; each bench has daemons of its own.
Promises: both sides of a ratio are measured in turn in the same run; figures are medians.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from statistics import median
from typing import Any

from tests.bench.bare import Bare
from tests.bench.bars import HANDLERS, ROOT, Bar, Size, at_most
from tq import bench
from tq.bench import LATER, Commits, instance

Measure = Callable[[Any, int], float]


def _against_the_bare_loop(measure: Measure, tasks: int, rounds: int, keep: int) -> tuple[float, float, float]:
    """Medians of tasks per second, those of the bare loop, and their ratio."""
    with Bare(keep) as bare, instance(keep=keep) as client:
        for one in (bare, client):
            bench.end_to_end(one, max(tasks // 10, 1))  # type: ignore[arg-type]  # a Bare has the methods that matter here
        pairs = [(measure(client, tasks), measure(bare, tasks)) for _ in range(rounds)]
    return median(p[0] for p in pairs), median(p[1] for p in pairs), median(a / b for a, b in pairs)


def end_to_end(size: Size) -> Iterator[Bar]:
    rate, bare, ratio = _against_the_bare_loop(bench.end_to_end, size.tasks, size.rounds, 100_000)
    yield Bar("end to end, no-op tasks of 100 bytes, 2 workers, one batch producer", rate, "/s", 20_000, 40_000)
    yield Bar("  the same beside the bare loop", ratio, "x", 0.4, 0.8, beside=f"bare loop {bare:,.0f}/s")


def drain(size: Size) -> Iterator[Bar]:
    rate, bare, ratio = _against_the_bare_loop(bench.drain, size.drained, size.rounds, size.drained // 4)
    yield Bar(f"drain of {size.drained:,} tasks, {size.drained // 4:,} kept, 2 workers", rate, "/s", 20_000, 40_000)
    yield Bar("  the same beside the bare loop", ratio, "x", 0.4, 0.8, beside=f"bare loop {bare:,.0f}/s")


def one_client(size: Size) -> Iterator[Bar]:
    with instance() as client, Commits(client.data_dir) as commits:
        for what, must, aim, options in (
            ("one client, one durable enqueue a call, due in an hour", 0.45, 0.7, {"delay": LATER}),
            ("  due at once, no-op workers beside it", 0.35, None, {}),
        ):
            one = bench.enqueue_one(client, **options)
            rate, ratio = bench.beside(commits, lambda one=one: bench.rate(one, size.seconds), size.seconds, size.rounds)  # type: ignore[misc]
            yield Bar(what, ratio, "x", must, aim, f"{rate:,.0f}/s over bare commits")


def many_clients(size: Size) -> Iterator[Bar]:
    with instance() as client, Commits(client.data_dir) as commits:
        rounds = min(size.rounds, 3)
        rate, ratio = bench.beside(commits, lambda: bench.many_clients(client, size.clients, 4 * size.seconds), size.seconds, rounds)
        yield Bar(f"{size.clients} client processes, one durable enqueue a call", ratio, "x", 3, 5, f"{rate:,.0f}/s over bare commits")


def pickup(size: Size) -> Iterator[Bar]:
    with instance() as client, Commits(client.data_dir) as commits:
        bench.pickup(client, commits, 5)
        times, bare = bench.pickup(client, commits, size.pickups)
        told = f"bare commit {bare:.2f} ms, that is {median(times) / bare:.2f} commits"
        what = "pickup on an idle daemon, enqueue call to handler start, p50"
        yield at_most(what, median(times), "ms", 2.5 * bare + 1, 1.2 * bare, told)
        yield at_most("  p99", times[int(len(times) * 0.99)], "ms", 10)


def one_worker(size: Size) -> Iterator[Bar]:
    with instance(workers=1) as client:
        bench.end_to_end(client, max(size.tasks // 10, 1))
        rate = median(bench.end_to_end(client, size.tasks // 2) for _ in range(size.rounds))
        yield Bar("one worker with one slot, no-op tasks", rate, "/s", 1000)


def commands(size: Size) -> Iterator[Bar]:
    with instance(HANDLERS) as client:
        done = client.enqueue("noop").id
        client.wait([done], 30)
        tq = [sys.executable, str(ROOT / "tq" / "cli" / "entry")]
        lines = {
            "enqueue": [*tq, "enqueue", "--type", "noop", "--payload", "{}", "--in", "1h"],
            "add": [*tq, "add", "--in", "1h", "--", "true"],
            "status": [*tq, "status", str(done)],
            "wait": [*tq, "wait", str(done)],
            "stats": [*tq, "stats"],
            "completion": [*tq, "__complete", "bash", "show", ""],
        }
        # An installed tq has its byte code; a checkout may have stale one, or an environment that forbids writing it.
        ours = {
            "TQ_DATA_DIR": client.data_dir,
            "TQ_AUTOSTART": "0",
            "PYTHONPATH": str(ROOT),
            "PYTHONPYCACHEPREFIX": f"{client.data_dir}/code",
        }
        env = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"} | ours
        lines = {"pass": [sys.executable, "-c", "pass"], **lines}
        times: dict[str, list[float]] = {name: [] for name in lines}
        for number in range(size.processes + 1):
            for name, line in lines.items():
                began = time.monotonic()
                subprocess.run(line, env=env, check=True, stdout=subprocess.DEVNULL)
                if number:  # the first writes byte code
                    times[name].append((time.monotonic() - began) * 1000)
        bare, completion = median(times.pop("pass")), median(times.pop("completion"))
        yield at_most("completing `tq show ` after a Tab", completion, "ms", 150, 100, f"python -c pass {bare:.1f} ms")
        for name, found in times.items():
            told = f"python -c pass {bare:.1f} ms, ratio {median(found) / bare:.2f}; fastest {min(found):.1f} ms"
            yield at_most(f"`tq {name}` as a process", median(found), "ms", 2 * bare + 3, 1.5 * bare, told)

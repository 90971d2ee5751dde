"""A million tasks: what the next one costs, what they weigh, how fast a dead daemon is back, how it answers under load.

For: costs that must not grow with what is stored.
Not for: top speed (speed).
Runs in: the process that measures; each bench has stores and daemons of its own.
Promises: few and many are measured in turn; the store's map is not counted as the daemon's memory.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from statistics import median

import psutil

from tests.bench.bars import ROOT, Bar, Size, at_most
from tq.bench import LATER, PAYLOAD, enqueue_one, instance
from tq.client import Client, encode, start_daemon
from tq.model import Header
from tq.store import Draft, Limits, Success, Want
from tq.store.lmdb import LmdbStore

GROUP = 500
HEADER = Header("noop")
Costs = dict[str, list[float]]


def _compared(what: str, few: list[float], many: list[float], size: Size) -> Bar:
    """A cost among many tasks over that among few."""
    told = f"{1e6 * median(many) / GROUP:.1f} us a task among {size.queued:,}, {1e6 * median(few) / GROUP:.1f} among {size.few:,}"
    return at_most(what, median(many) / median(few), "x", 1.2, 1.1, told)


class Stored:
    """A store with ``queued`` ready tasks; ``step`` adds a group, claims one and settles it, so that number stays."""

    def __init__(self, home: Path, queued: int) -> None:
        home.mkdir()
        self.store = LmdbStore(home / "store", Limits(keep=GROUP))
        self.drafts = [Draft(HEADER, encode(PAYLOAD))] * GROUP
        self.now = time.time_ns() // 1_000_000
        self.costs: Costs = {"enqueue": [], "claim": []}
        for _ in range(0, queued, GROUP):
            self.store.begin(self.now)
            self.store.enqueue(self.drafts)
            self.store.commit()

    def timed(self, name: str, work: Callable[[], object]) -> None:
        began = time.monotonic()
        self.store.begin(self.now)
        work()
        self.store.commit()
        self.costs[name].append(time.monotonic() - began)

    def step(self) -> None:
        self.timed("enqueue", lambda: self.store.enqueue(self.drafts))
        taken = []
        self.timed("claim", lambda: taken.extend(self.store.claim(Want("w1", GROUP, float("inf")))))
        self.store.begin(self.now)
        self.store.succeed([Success(one.id, one.claim, self.now, self.now, False, None) for one in taken])
        self.store.retain(Limits(keep=GROUP), 2 * GROUP)
        self.store.commit()


def store(size: Size) -> Iterator[Bar]:
    home = Path(tempfile.mkdtemp(prefix="tq-bench-"))
    try:
        few, many = Stored(home / "few", size.few), Stored(home / "many", size.queued)
        for _ in range(size.turns):
            few.step()
            many.step()
        for name in few.costs:
            yield _compared(f"store: {name} among {size.queued:,} queued tasks, over {size.few:,}", few.costs[name], many.costs[name], size)
        few.store.close()
        many.store.close()
    finally:
        shutil.rmtree(home, ignore_errors=True)


def private_mib(pid: int) -> float:
    """Memory that is the process's own, without the store's map (whose clean pages count as private while nobody shares them)."""
    maps = psutil.Process(pid).memory_maps(grouped=False)
    return sum(one.private_clean + one.private_dirty for one in maps if not one.path.endswith("data.mdb")) / (1 << 20)


def _fill(client: Client, tasks: int, **options: object) -> None:
    for at in range(0, tasks, 50_000):
        client.enqueue_many([("stamp", None, options)] * min(50_000, tasks - at))


def _step(client: Client, costs: Costs) -> None:
    began = time.monotonic()
    client.enqueue_many([("stamp", None, UNKNOWN)] * GROUP)
    costs["enqueue"].append(time.monotonic() - began)
    began = time.monotonic()
    taken = client.claim(["default"], limit=GROUP)
    costs["claim"].append(time.monotonic() - began)
    client.settle([(one["id"], one["claim"], "succeeded", {}) for one in taken])


UNKNOWN = {"allow_unknown": True}


def queued(size: Size) -> Iterator[Bar]:
    """Without workers nothing runs by itself: a consumer claims."""
    with instance(workers=0) as few, instance(workers=0) as many:
        _fill(few, size.few, **UNKNOWN)
        _fill(many, size.queued, **UNKNOWN)
        costs: list[Costs] = [{"enqueue": [], "claim": []}, {"enqueue": [], "claim": []}]
        for _ in range(size.turns):
            _step(few, costs[0])
            _step(many, costs[1])
        for name in costs[0]:
            yield _compared(f"daemon: {name} among {size.queued:,} queued tasks, over {size.few:,}", costs[0][name], costs[1][name], size)
        pid = many.status()["pid"]
        yield at_most(f"daemon: private memory with {size.queued:,} queued tasks", private_mib(pid), "MiB", 150)
        yield _restart(many, pid, size.queued)


def _restart(client: Client, pid: int, queued: int) -> Bar:
    """From the start of the new daemon until the handler of the first task begins."""
    first = client.peek(1)[0]["id"]
    daemon = psutil.Process(pid)
    daemon.kill()
    daemon.wait(10)
    began = time.monotonic_ns()
    start_daemon(client.data_dir, "tq.bench:app", workers=2)
    ready = (time.monotonic_ns() - began) / 1e9
    taken = (client.result(first, 30) - began) / 1e9
    told = f"answers after {ready:.2f} s"
    return at_most(f"kill -9 with {queued:,} queued tasks: restart to the first claim", taken, "s", 1, 0.5, told)


def views(size: Size) -> Iterator[Bar]:
    """What somebody waits who opens a list and goes anywhere in it; a view is whole when its last row is asked for."""
    with instance(workers=0) as client:
        _fill(client, size.queued, **UNKNOWN)
        times: dict[str, list[float]] = {"a new view and its first page": [], "any jump": []}

        def timed(name: str, work: Callable[[], object]) -> None:
            began = time.monotonic()
            work()
            times[name].append((time.monotonic() - began) * 1000)

        for _ in range(size.turns):
            timed("a new view and its first page", lambda: client.page(client.view().number, 0))
            view = client.view(where="state:pending").number
            client.page(view, -1, 1)
            for at in range(20):
                timed("any jump", partial(client.page, view, at * 7919 * size.queued // 20_011 % size.queued))
        used = sum(psutil.Process(client.status()["pid"]).cpu_times()[:2])
        client.page(client.view().number, -1, 1)
        scan = sum(psutil.Process(client.status()["pid"]).cpu_times()[:2]) - used
    for name, found in times.items():
        told = f"p50 {median(found):.1f} ms, {len(found)} times"
        yield at_most(f"views, {size.queued:,} stored: {name}, p95", sorted(found)[int(len(found) * 0.95)], "ms", 150, beside=told)
    yield at_most(f"views, {size.queued:,} stored: CPU of the daemon for all of one", scan, "s", 1.5)


def load() -> None:
    """A process that keeps the daemon of a directory at full load until it is ended."""
    from tq.bench import end_to_end

    with Client(sys.argv[1]) as client:
        while True:
            end_to_end(client, 20_000)


def loaded(size: Size) -> Iterator[Bar]:
    with instance() as client:
        client.enqueue_many([("noop", PAYLOAD, {"delay": LATER})] * size.queued)
        process = subprocess.Popen([sys.executable, "-c", "from tests.bench.scale import load; load()", client.data_dir], cwd=ROOT)
        try:
            while not client.stats()["running"]:
                time.sleep(0.01)
            before, began = client.stats()["completed"], time.monotonic()
            calls: dict[str, Callable[[], object]] = {
                "get": lambda: client.get(1 + int(time.monotonic() * 1e6) % size.queued),
                "list of 50": lambda: client.list(limit=50),
                "stats": client.stats,
                "enqueue": enqueue_one(client, delay=LATER),
            }
            times: dict[str, list[float]] = {name: [] for name in calls}
            while time.monotonic() - began < size.load_s:
                for name, call in calls.items():
                    asked = time.monotonic()
                    call()
                    times[name].append((time.monotonic() - asked) * 1000)
            rate = (client.stats()["completed"] - before) / (time.monotonic() - began)
        finally:
            process.kill()
            process.wait()
    for name, found in times.items():
        told = f"p50 {median(found):.1f} ms, {len(found)} calls beside {rate:,.0f} tasks/s"
        p95 = sorted(found)[int(len(found) * 0.95)]
        yield at_most(f"full load, {size.queued:,} stored: {name}, p95", p95, "ms", 100, beside=told)

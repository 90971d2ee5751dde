"""``tq bench``: what this machine's disk and processors make of tq, measured as redis-benchmark does.

For: a table (or JSON) of rates and latencies, each beside the disk's own rate of commits; the measures themselves, which
     tests/bench holds against the bars.
Not for: showing what tq can do (demo), or measuring an instance that does somebody's work.
Runs in: the process of ``tq bench``; its handlers in worker processes, its many clients in processes of their own.
Promises: works in a private temporary directory with a daemon of its own; both are gone when it ends, also by Ctrl-C or
SIGTERM; each measure is bounded in time; fsync is on, as always.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import platform
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Generator, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any, Self

from tq import __version__
from tq.app import App
from tq.client import Client, start_daemon, stop_daemon
from tq.errors import TaskTimeout, TqError, UsageError

PAYLOAD = "x" * 98
"""100 bytes when packed."""
LATER = 3600.0
"""Seconds: long enough that no task comes due while something is measured."""
CLIENTS = 32
ROUNDS = 5
WITHIN_S = 120.0

app = App()


@app.task
def noop(_payload: object = None) -> None:
    """Does nothing: what is left is the queue's own cost."""


@app.task
def stamp() -> int:
    """When the handler began, by the clock that all processes share."""
    return time.monotonic_ns()


# an instance of one's own


@contextlib.contextmanager
def instance(application: str = "tq.bench:app", *, workers: int = 2, slots: int = 1, **settings: object) -> Iterator[Client]:
    """A daemon in a private directory, and a client of it; ``settings`` are those of tq.toml."""
    room = "/tmp" if len(tempfile.gettempdir()) > 60 else None  # noqa: S108 - mkdtemp makes it private; a socket's path must be short
    home = Path(tempfile.mkdtemp(prefix="tq-bench-", dir=room))
    try:
        (home / "tq.toml").write_text("".join(f"{name} = {json.dumps(value)}\n" for name, value in settings.items()), "utf-8")
        with _uninterrupted():  # a daemon that has not answered yet could not be found to be ended
            start_daemon(home, application, workers=workers, slots=slots)
        with Client(home) as client:
            yield client
    finally:
        _end(home)
        shutil.rmtree(home, ignore_errors=True)


@contextlib.contextmanager
def _uninterrupted() -> Iterator[None]:
    """Ctrl-C and SIGTERM wait until the end of this. Main thread only."""
    came: list[int] = []
    before = {number: signal.signal(number, lambda number, _: came.append(number)) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    if came:
        raise KeyboardInterrupt


def _end(home: Path) -> None:
    """End the daemon of ``home``, by force if it must be; its workers end with it."""
    try:
        stop_daemon(Client(home, timeout=10.0), now=True, timeout=10.0)
    except TqError:
        with contextlib.suppress(FileNotFoundError), open(home / "lock", "rb") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)  # nobody holds it: it is dead already
            except BlockingIOError:
                os.kill(int(lock.read()), signal.SIGKILL)


# the measures


class Commits:
    """Bare LMDB commits of one record each: same flags as the store, same disk, nothing else."""

    def __init__(self, directory: str | Path) -> None:
        from tq.store.files import open_store

        self._env, databases = open_store(Path(directory) / "commits", 1 << 30)
        self._records = databases["tasks"]
        self._number = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._env.close()

    def one(self) -> None:
        self._number += 1
        with self._env.begin(write=True) as txn:
            txn.put(self._number.to_bytes(8, "big"), bytes(140), db=self._records, append=True)


def calls(call: Callable[[], object], seconds: float) -> tuple[int, float, float]:
    """One call after the other for ``seconds``: how many, and when the first began and the last ended."""
    began = now = time.monotonic()
    count = 0
    while now - began < seconds:
        call()
        count += 1
        now = time.monotonic()
    return count, began, now


def rate(call: Callable[[], object], seconds: float) -> float:
    """Calls per second, one after the other."""
    count, began, ended = calls(call, seconds)
    return count / (ended - began)


def beside(commits: Commits, measure: Callable[[], float], seconds: float, rounds: int = ROUNDS) -> tuple[float, float]:
    """(rate, ratio to bare commits): medians of ``rounds`` of both in turn, since disks have moods."""
    pairs = []
    for _ in range(rounds):
        bare = rate(commits.one, seconds / 2)
        value = measure()
        pairs.append((value, value / ((bare + rate(commits.one, seconds / 2)) / 2)))
    return median(value for value, _ in pairs), median(ratio for _, ratio in pairs)


def enqueue_one(client: Client, **options: Any) -> Callable[[], object]:
    """A call that stores one no-op task and returns when it is on disk."""
    return lambda: client.enqueue("noop", PAYLOAD, **options)


def enqueue_batches(client: Client, tasks: int, **options: Any) -> float:
    """Tasks per second, stored in groups on one connection."""
    began = time.monotonic()
    client.enqueue_many([("noop", PAYLOAD, options)] * tasks)
    return tasks / (time.monotonic() - began)


def many_clients(client: Client, clients: int, seconds: float) -> float:
    """Enqueues per second of ``clients`` processes, each with one task of the future a call."""
    command = [sys.executable, "-c", "from tq.bench import sender; sender()", client.data_dir, str(seconds)]
    with contextlib.ExitStack() as stack:
        senders = []
        for _ in range(clients):  # in sessions of their own: a Ctrl-C is for the bench, which ends them
            one = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True)
            senders.append(stack.enter_context(one))
            stack.callback(one.kill)
        if not all(one.stdout and one.stdout.readline() for one in senders):
            raise TqError("expected every client process to start, and one did not. Its own words are on stderr.")
        for one in senders:
            if one.stdin:
                one.stdin.close()
        rows = [one.stdout.read().split() if one.stdout else [] for one in senders]
    began, ended = min(float(row[1]) for row in rows), max(float(row[2]) for row in rows)
    return sum(int(row[0]) for row in rows) / (ended - began)


def sender() -> None:
    """One of many clients: says that it is ready, starts when its input ends, prints its count, begin and end."""
    with Client(sys.argv[1]) as client:
        client.status()
        print(flush=True)
        sys.stdin.read()
        print(*calls(enqueue_one(client, delay=LATER), float(sys.argv[2])))


def end_to_end(client: Client, tasks: int) -> float:
    """Tasks per second from the first enqueue to the last end, enqueued in batches by one producer."""
    before, began = client.stats()["completed"], time.monotonic()
    client.enqueue_many([("noop", PAYLOAD)] * tasks)
    until_completed(client, before + tasks)
    return tasks / (time.monotonic() - began)


def drain(client: Client, tasks: int) -> float:
    """Tasks per second of a queue that was filled before any worker might begin."""
    before = client.stats()["completed"]
    client.set_queue("default", paused=True)
    client.enqueue_many([("noop", PAYLOAD)] * tasks)
    began = time.monotonic()
    client.set_queue("default", paused=False)
    until_completed(client, before + tasks)
    return tasks / (time.monotonic() - began)


def until_completed(client: Client, wanted: int, within_s: float = WITHIN_S) -> None:
    """Wait until ``wanted`` tasks have succeeded in all, looking seldom at first and often near the end."""
    began, first = time.monotonic(), None
    while (done := client.stats()["completed"]) < wanted:
        first = done if first is None else first
        passed = time.monotonic() - began
        if passed > within_s:
            raise TaskTimeout(f"expected {wanted} tasks to succeed within {within_s:g} s, got {done}. The machine is very slow or busy.")
        left_s = (wanted - done) * passed / (done - first) if done > first else 0.0
        time.sleep(min(max(left_s / 4, 0.002), 0.05))


def pickup(client: Client, commits: Commits, times: int, pause_s: float = 0.02) -> tuple[list[float], float]:
    """(ms from the enqueue call to the handler's start on an idle daemon, sorted; the median ms of a bare commit)."""
    found, bare = [], []
    for _ in range(times):
        time.sleep(pause_s)
        began = time.monotonic_ns()
        commits.one()
        bare.append((time.monotonic_ns() - began) / 1e6)
        time.sleep(pause_s)
        asked = time.monotonic_ns()
        found.append((client.enqueue("stamp").result(WITHIN_S) - asked) / 1e6)
    return sorted(found), median(bare)


# the command


@dataclass(frozen=True, slots=True)
class Figure:
    """One line of the table. ``commits``: the value as a multiple of the bare commit's rate, or of its time."""

    name: str
    what: str
    value: float
    unit: str
    commits: float | None = None


def figures(tasks: int, workers: int, seconds: float, clients: int = CLIENTS) -> Generator[Figure, None, None]:
    """Every measure, one after the other, on an instance of its own; per-call measures take ``seconds`` a round."""
    with instance(workers=workers) as client, Commits(client.data_dir) as commits:
        yield Figure("commits", "bare LMDB commits of one record", median(rate(commits.one, seconds / ROUNDS) for _ in range(ROUNDS)), "/s")
        times, bare = pickup(client, commits, max(int(100 * seconds), 5))
        p50, p99 = median(times), times[int(len(times) * 0.99)]
        yield Figure("pickup_p50", "pickup on an idle daemon, enqueue call to handler start, p50", p50, "ms", p50 / bare)
        yield Figure("pickup_p99", "the same, p99", p99, "ms", p99 / bare)
        part = seconds / ROUNDS
        value, ratio = beside(commits, lambda: rate(enqueue_one(client, delay=LATER), part), part)
        yield Figure("one", "one client, one durable enqueue per call, due in an hour", value, "/s", ratio)
        value, ratio = beside(commits, lambda: rate(enqueue_one(client), part), part)
        yield Figure("one_busy", f"the same, due at once, {workers} workers run them", value, "/s", ratio)
        value, ratio = beside(commits, lambda: many_clients(client, clients, seconds), seconds, rounds=1)
        yield Figure("many", f"{clients} client processes, one durable enqueue per call", value, "/s", ratio)
        yield Figure("batch", "one client, durable enqueue in batches", enqueue_batches(client, tasks, delay=LATER), "/s")
        end_to_end(client, max(tasks // 10, 1))  # a type that was never run is handed out one at a time
        what = f"end to end, no-op tasks of 100 bytes, {workers} workers, one batch producer"
        yield Figure("end_to_end", what, end_to_end(client, tasks), "/s")
        yield Figure("drain", f"drain of {tasks:,} tasks enqueued before, {workers} workers", drain(client, tasks), "/s")


def machine(directory: str) -> dict[str, Any]:
    """Where it was measured: figures mean nothing without it."""
    import psutil

    disks = [disk for disk in psutil.disk_partitions(all=True) if Path(directory).is_relative_to(disk.mountpoint)]
    disk = max(disks, key=lambda one: len(one.mountpoint), default=None)
    return {
        "tq": __version__, "python": platform.python_version(), "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "cpus": len(os.sched_getaffinity(0)), "directory": directory, "file_system": disk.fstype if disk else "unknown",
    }  # fmt: skip


def run(*, tasks: int = 20_000, workers: int = 2, as_json: bool = False, seconds: float = 1.0, clients: int = CLIENTS) -> int:
    """Measure and print; the exit code. ``tasks``: for each measure of many; ``seconds``: for each of one at a time."""
    if tasks < 1 or workers < 1:
        raise UsageError(f"bench: expected at least 1 task and 1 worker, got --tasks {tasks} and --workers {workers}.")
    before = signal.signal(signal.SIGTERM, _interrupt)
    try:
        where = machine(tempfile.gettempdir())
        found = []
        if not as_json:
            disk = f"{where['directory']} ({where['file_system']})"
            print(f"tq {where['tq']}, Python {where['python']}, {where['cpus']} CPUs, {disk}, fsync on\n")
        with contextlib.closing(figures(tasks, workers, seconds, clients)) as measured:
            for figure in measured:
                found.append(figure)
                if not as_json:
                    print(line(figure), flush=True)
        if as_json:
            print(json.dumps({"machine": where, "tasks": tasks, "workers": workers, "figures": [asdict(figure) for figure in found]}))
    except KeyboardInterrupt:
        print("tq bench: interrupted; its daemon is ended and its directory removed", file=sys.stderr)
        return 130
    finally:
        signal.signal(signal.SIGTERM, before)
    return 0


def _interrupt(*_: object) -> None:
    raise KeyboardInterrupt


def line(figure: Figure) -> str:
    """The figure as a row of the table."""
    number = f"{figure.value:,.2f}" if figure.unit == "ms" else f"{figure.value:,.0f}"
    row = f"{figure.what:<76}{number:>10} {figure.unit:<3}"
    if figure.commits is None:
        return row.rstrip()
    return f"{row}{figure.commits:>8.2f} {'commits' if figure.unit == 'ms' else 'of the bare commits'}"

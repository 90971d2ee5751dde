"""The application of the suites against workers: handlers that end, stop or fill the process under them, and honest ones.

For: daemons that a suite starts with ``app=`` this file and ``KILLERS=`` a directory in their environment.
Not for: what comes of it (workers, shutdowns, storms).
Runs in: worker processes.
Promises: every run is in ``KILLERS/runs/<task id>``, a line each in one write: ``begin <attempt> <pid> <start in ticks> <ns>`` before
anything else, ``dies <attempt> <ns> <ms since the epoch>`` right before a death, ``end <attempt> <ns>`` at every end but that, and
``beside <attempt> <pid>`` if a run before this one still lives in another process. The ns are of a clock that never steps.
"""

from __future__ import annotations

import ctypes
import os
import resource
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import tq
from tq.board import start_ticks

PLACE = Path(os.environ["KILLERS"])
RUNS = PLACE / "runs"
BROKEN = PLACE / "broken"
CGROUP = PLACE / "cgroup"
"""A file that names a cgroup in which there is little memory."""
BLOCK = 64 << 20

if BROKEN.exists():
    raise RuntimeError("planted: the application is broken")
resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def _note(*words: object) -> None:
    fd = os.open(RUNS / str(tq.current().id), os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    try:
        os.write(fd, (" ".join(map(str, words)) + "\n").encode())
    finally:
        os.close(fd)


def _lives(pid: int, ticks: int) -> bool:
    """Whether the process is there and can run."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            fields = file.read().rpartition(b")")[2].split()
    except OSError:
        return False
    return int(fields[19]) == ticks and fields[0] not in (b"Z", b"X")


def _beside() -> list[int]:
    """Processes in which a run of this task has begun and not ended."""
    try:
        lines = [line.split() for line in (RUNS / str(tq.current().id)).read_text().splitlines()]
    except FileNotFoundError:
        return []
    ended = {words[1] for words in lines if words[0] == "end"}
    begun = [(int(words[2]), int(words[3])) for words in lines if words[0] == "begin" and words[1] not in ended]
    return [pid for pid, ticks in begun if pid != os.getpid() and _lives(pid, ticks)]


@contextmanager
def noted() -> Iterator[int]:
    """A run, in the account; its attempt."""
    attempt = tq.current().attempt
    beside = _beside()
    _note("begin", attempt, os.getpid(), start_ticks(os.getpid()), time.monotonic_ns())
    for pid in beside:
        _note("beside", attempt, pid)
    try:
        yield attempt
    finally:
        _note("end", attempt, time.monotonic_ns())


def _killed() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def _segfault() -> None:
    ctypes.string_at(0)


def _exits() -> None:
    os._exit(3)


def _overflows() -> None:
    """The stack of C runs over, or Python has seen it coming."""
    sys.setrecursionlimit(1 << 30)

    def deeper(_: object = None) -> list[int]:
        return sorted([1], key=deeper)

    deeper()


def _breaks_import() -> None:
    """No other worker can start until the file is gone."""
    BROKEN.touch()
    _killed()


def _out_of_memory() -> None:
    """In a cgroup with little memory, more and more of it: the kernel's own killer comes."""
    (Path(CGROUP.read_text()) / "cgroup.procs").write_text(str(os.getpid()))
    hoard = []
    while True:
        hoard.append(bytearray(os.urandom(1 << 20) * 8))


def _no_memory() -> None:
    """A limit of its own: an exception like any other."""
    with open("/proc/self/statm", "rb") as file:
        now = int(file.read().split()[0]) * resource.getpagesize()
    limits = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (now + BLOCK, limits[1]))
    try:
        bytearray(64 * BLOCK)
    finally:
        resource.setrlimit(resource.RLIMIT_AS, limits)


def _stops() -> None:
    os.kill(os.getpid(), signal.SIGSTOP)


def _ignores_term() -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    while True:
        try:
            while True:
                time.sleep(0.01)
        except BaseException:  # tq.Stopped, too
            continue


def _endless() -> None:
    while True:
        pass


def _in_c() -> None:
    ctypes.PyDLL(None).sleep(3600)  # with the interpreter's lock: no thread of the worker runs


CRASHES: dict[str, Callable[[], None]] = {
    "killed": _killed, "segfault": _segfault, "exits": _exits, "overflows": _overflows, "breaks_import": _breaks_import,
    "out_of_memory": _out_of_memory,
}  # fmt: skip
HANGS: dict[str, Callable[[], None]] = {"stops": _stops, "ignores_term": _ignores_term, "endless": _endless, "in_c": _in_c}
WAYS = CRASHES | HANGS | {"no_memory": _no_memory}
AGAIN = tq.Backoff.fixed(0, jitter=False)


@tq.task("kills", retries=5, backoff=AGAIN)
def kills(way: str, times: int = 1 << 30) -> str:
    """Come to grief in its first ``times`` attempts."""
    with noted() as attempt:
        if attempt <= times:
            _note("dies", attempt, time.monotonic_ns(), time.time_ns() // 1_000_000)
            WAYS[way]()
    return "survived"


@tq.task("works", retries=0)
def works(seconds: float) -> None:
    with noted():
        time.sleep(seconds)


@tq.task("naps", retries=0)
def naps(seconds: float) -> None:
    """Honest work that nobody has to write down."""
    time.sleep(seconds)


@tq.task("fails", retries=4, backoff=AGAIN)
def fails() -> None:
    raise ValueError("as planted")

"""A real instance from outside: the daemon as a child process, its directory, and an account that tq knows nothing of.

For: flows and campaigns, which start, kill and look at whole daemons.
Not for: tests of one room.
Runs in: the process that tests.
Promises: ``Daemon.end`` leaves no process of the instance alive and names those it had to kill.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

import psutil

from tq.board import start_ticks
from tq.store.files import open_store
from tq.store.keys import U64
from tq.store.verify import verify

ROOT = Path(__file__).resolve().parent.parent
START_WITHIN_S = 30.0
END_WITHIN_S = 10.0

T = TypeVar("T")


def wait_until(condition: Callable[[], T], within_s: float = 10.0, what: str = "the condition") -> T:
    """The first true value of ``condition``; AssertionError if there is none within the time."""
    deadline = time.monotonic() + within_s
    while not (value := condition()):
        if time.monotonic() > deadline:
            raise AssertionError(f"{what} did not come true within {within_s:g} s; last value: {value!r}")
        time.sleep(0.01)
    return value


def wake_ups(pid: int, after_s: float = 4.0) -> int:
    """How often a process that should have nothing to do is woken within five seconds, once it has settled for so long.

    It is time that is measured here, so there is nothing to wait for: this sleeps."""
    process = psutil.Process(pid)
    time.sleep(after_s)
    before = sum(process.num_ctx_switches())
    time.sleep(5)
    return sum(process.num_ctx_switches()) - before


def arguments(process: psutil.Process) -> str:
    try:
        return " ".join(process.cmdline())
    except (psutil.NoSuchProcess, psutil.AccessDenied):
        return "(ended)"


def processes_of(data_dir: Path) -> list[psutil.Process]:
    """Living processes that name this directory in their arguments or environment: daemon, workers, commands."""
    found = []
    needle = str(data_dir)
    for process in psutil.process_iter():
        try:
            if process.pid == os.getpid() or process.status() == psutil.STATUS_ZOMBIE:
                continue
            if needle in " ".join(process.cmdline()) or process.environ().get("TQ_DATA_DIR") == needle:
                found.append(process)
        except (psutil.NoSuchProcess, psutil.AccessDenied, OSError):
            continue
    return found


def pressure() -> float:
    """How long some process has waited for the processor, or for a disk, since this machine started, in seconds."""
    total = 0
    for kind in ("cpu", "io"):
        with suppress(OSError):  # a kernel without it
            total += int(Path(f"/proc/pressure/{kind}").read_text("ascii").split("total=")[1].split()[0])
    return total / 1e6


def unmeasured(**more: str) -> dict[str, str]:
    """The environment of a process that is short, or to be interrupted, with ``more``: no coverage is measured in it.

    Coverage holds a lock while it notes a file; an exception that a signal raises there leaves it taken, and the process
    waits for itself at its next file, for ever.
    """
    return {name: value for name, value in os.environ.items() if not name.startswith("COV")} | more


class Daemon:
    """A real daemon, child of the test. ``options`` are its own: ``app="module"``, ``workers=2``, ``log_level="debug"``."""

    def __init__(self, data_dir: Path, env: dict[str, str] | None = None, **options: object) -> None:
        self.data_dir = data_dir
        self.module = ["tq.daemon"]
        self.options = {"workers": 2, **options}
        self.env = {**os.environ, **(env or {})}
        self.words = data_dir.parent / f"{data_dir.name}.words"
        self.process: subprocess.Popen[bytes]

    def start(self) -> None:
        """Start it (again) and wait until it answers; RuntimeError has what it said if it refuses."""
        argv = [sys.executable, "-X", "faulthandler", "-m", *self.module, "--data-dir", str(self.data_dir), "--foreground"]
        for name, value in self.options.items():
            argv += [f"--{name.replace('_', '-')}", *([] if value is True else [str(value)])]
        reader, writer = os.pipe()
        try:
            with self.words.open("ab") as words:
                self.process = subprocess.Popen(
                    [*argv, "--ready-fd", str(writer)], stdin=subprocess.DEVNULL, stdout=words, stderr=words, env=self.env,
                    cwd=ROOT, pass_fds=[writer], start_new_session=True,
                )  # fmt: skip
        finally:
            os.close(writer)
        with open(reader, "rb") as ready:
            os.set_blocking(reader, False)
            try:
                answer = wait_until(lambda: ready.read() or self._gone(), START_WITHIN_S, "the daemon's start")
            except AssertionError as error:
                self.process.send_signal(signal.SIGABRT)  # it says where each of its threads is
                self.process.wait(END_WITHIN_S)
                raise AssertionError(f"{error}\n{self.log()}") from None
        if not answer.startswith(b"ready"):
            self.end()
            raise RuntimeError(f"the daemon did not start: {answer.decode(errors='replace')}\n{self.log()}")

    def _gone(self) -> bytes:
        code = self.process.poll()
        return b"" if code is None else b"it left with exit code %d" % code

    @property
    def pid(self) -> int:
        return self.process.pid

    def log(self) -> str:
        """What it wrote: its own words and log, the last 16 KiB of each."""
        paths = [path for path in (self.words, self.data_dir / "daemon.log") if path.exists()]
        return "\n".join(f"--- {path.name}\n{path.read_bytes()[-16384:].decode(errors='replace')}" for path in paths)

    def kill(self) -> None:
        """SIGKILL, as an out-of-memory killer would; returns when it is dead."""
        self.process.kill()
        self.process.wait(END_WITHIN_S)

    def stop(self, within_s: float = 60.0) -> int:
        """SIGTERM and wait for the drain; its exit code."""
        self.process.terminate()
        return self.process.wait(within_s)

    def restart(self) -> None:
        """Stop it unless it is dead already, and start it with the same options on the same directory."""
        if self.process.poll() is None:
            self.stop()
        self.start()

    def end(self) -> list[str]:
        """End it for sure; what it left behind (workers, commands) is killed too and named."""
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(END_WITHIN_S)
            except subprocess.TimeoutExpired:
                self.kill()
        deadline = time.monotonic() + END_WITHIN_S
        while (left := processes_of(self.data_dir)) and time.monotonic() < deadline:
            time.sleep(0.02)
        names = [f"{process.pid} {arguments(process)[:200]}" for process in left if process.is_running()]
        for process in left:
            process.kill()
        return names


class Account:
    """What handlers wrote as they ran: lines that tq knows nothing of."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __str__(self) -> str:
        return str(self.path)

    def lines(self) -> list[list[str]]:
        """Each line in words."""
        return [line.split() for line in self.path.read_text().splitlines()] if self.path.exists() else []

    def runs(self, task_id: int) -> list[tuple[int, int]]:
        """(attempt, pid) of each run of a task, in order."""
        return [(int(words[1]), int(words[2])) for words in self.lines() if words[0] == str(task_id)]


class Instance:
    """An instance of tq, from outside."""

    def __init__(self, data_dir: Path) -> None:
        self.data_dir = data_dir

    def alive(self) -> dict[int, int]:
        """Every living process of the instance (daemon, workers, commands): pid -> start in ticks."""
        own = os.fsencode(f"TQ_DATA_DIR={self.data_dir}")
        place = os.fsencode(self.data_dir)
        found = {}
        for name in os.listdir("/proc"):
            if not name.isdigit() or int(name) == os.getpid():
                continue
            try:
                with open(f"/proc/{name}/environ", "rb") as environ, open(f"/proc/{name}/cmdline", "rb") as cmdline:
                    ours = own in environ.read().split(b"\0") or place in cmdline.read()
            except OSError:
                continue
            ticks = start_ticks(int(name))
            if ours and ticks is not None:
                found[int(name)] = ticks
        return found

    def gone(self, processes: dict[int, int], within_s: float) -> bool:
        """Whether all of these end within the time."""
        deadline = time.monotonic() + within_s
        while any(_lives(pid, ticks) for pid, ticks in processes.items()):
            if time.monotonic() > deadline:
                return False
            time.sleep(0.005)
        return True

    def stuck(self, processes: dict[int, int]) -> list[str]:
        """Those of these that live, and where: command line, and what the kernel says each thread does. They are told to abort."""
        found = []
        for pid in [pid for pid, ticks in processes.items() if _lives(pid, ticks)]:
            with suppress(OSError):
                words = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
                state = next(line for line in Path(f"/proc/{pid}/status").read_text("utf-8").splitlines() if line.startswith("State"))
                waits = [(task / "wchan").read_text("utf-8") for task in Path(f"/proc/{pid}/task").iterdir()]
                found.append(f"{pid} {words[:120]} ({state}; in {', '.join(waits)})")
                os.kill(pid, signal.SIGABRT)
        return found

    def missing(self, ids: set[int]) -> set[int]:
        """Ids that the store on disk does not know; for when no daemon runs."""
        env, dbs = open_store(self.data_dir / "store", readonly=True)
        try:
            with env.begin(db=dbs["tasks"]) as txn:
                return {task_id for task_id in ids if txn.get(U64.pack(task_id)) is None}
        finally:
            env.close()

    def problems(self) -> list[str]:
        return verify(self.data_dir)


def _lives(pid: int, ticks: int) -> bool:
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            state = file.read().rpartition(b")")[2].split()[0]
    except OSError:
        return False
    return start_ticks(pid) == ticks and state not in (b"Z", b"X")

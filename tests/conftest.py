"""What every test may ask for: a private place, a real daemon, the command line, a clock turned by hand.

For: fixtures that more than one room's tests need.
Not for: doubles of a single room (they stand beside its test).
Runs in: pytest.
Promises: no test reads or writes the user's own instance or settings; every daemon a test starts is ended with all its
workers and commands, and one that leaves a process behind fails its test; the daemon's log is shown where a test failed.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import psutil
import pytest

ROOT = Path(__file__).resolve().parent.parent
START_WITHIN_S = 30.0
END_WITHIN_S = 10.0
_FAILED = pytest.StashKey[bool]()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Any:
    report = yield
    if report.failed:
        item.stash[_FAILED] = True
    return report


@pytest.fixture(scope="session", autouse=True)
def private_surroundings() -> Iterator[Path]:
    """No variable, settings file or default directory of the person who runs the tests reaches them."""
    home = Path(tempfile.mkdtemp(prefix="tqt-"))
    with pytest.MonkeyPatch.context() as patch:
        for name in [name for name in os.environ if name.startswith("TQ_") and name not in {"TQ_EXAMPLES", "TQ_ROUNDS"}]:
            patch.delenv(name)
        patch.setenv("XDG_CONFIG_HOME", str(home / "config"))
        patch.setenv("XDG_STATE_HOME", str(home / "state"))
        patch.setenv("PYTHONPATH", os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]))
        yield home
    shutil.rmtree(home, ignore_errors=True)


@pytest.fixture
def data_dir() -> Iterator[Path]:
    """An empty directory of this test's own, 0700, with a path short enough for a socket."""
    path = Path(tempfile.mkdtemp(prefix="tq-", dir="/tmp"))
    yield path
    shutil.rmtree(path, ignore_errors=True)


class Clock:
    """A clock turned by hand, in ms: call it for the time, ``advance`` it to make time pass."""

    def __init__(self, now_ms: int = 1_700_000_000_000) -> None:
        self.now_ms = now_ms

    def __call__(self) -> int:
        return self.now_ms

    def advance(self, ms: int) -> int:
        self.now_ms += ms
        return self.now_ms


@pytest.fixture
def clock() -> Clock:
    return Clock()


T = TypeVar("T")


def wait_until(condition: Callable[[], T], within_s: float = 10.0, what: str = "the condition") -> T:
    """The first true value of ``condition``; fails the test if there is none within the time."""
    deadline = time.monotonic() + within_s
    while not (value := condition()):
        if time.monotonic() > deadline:
            pytest.fail(f"{what} did not come true within {within_s:g} s; last value: {value!r}")
        time.sleep(0.01)
    return value


@pytest.fixture
def until() -> Callable[..., Any]:
    """``until(condition, within_s=10, what="...")``: waits for it, never longer, and gives its value."""
    return wait_until


def _arguments(process: psutil.Process) -> str:
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


class Daemon:
    """A real daemon, child of the test. ``options`` are its own: ``app="module"``, ``workers=2``, ``log_level="debug"``."""

    def __init__(self, data_dir: Path, env: dict[str, str] | None = None, **options: object) -> None:
        self.data_dir = data_dir
        self.options = {"workers": 2, **options}
        self.env = {**os.environ, **(env or {})}
        self.words = data_dir.parent / f"{data_dir.name}.words"
        self.process: subprocess.Popen[bytes]

    def start(self) -> None:
        """Start it (again) and wait until it answers; RuntimeError has what it said if it refuses."""
        argv = [sys.executable, "-m", "tq.daemon", "--data-dir", str(self.data_dir), "--foreground"]
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
            answer = wait_until(lambda: ready.read() or self._gone(), START_WITHIN_S, "the daemon's start")
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
        names = [f"{process.pid} {_arguments(process)[:200]}" for process in left if process.is_running()]
        for process in left:
            process.kill()
        return names


@pytest.fixture
def daemon(data_dir: Path, request: pytest.FixtureRequest) -> Iterator[Callable[..., Daemon]]:
    """``daemon(app="module", workers=2, ...)`` starts one in ``data_dir`` (or ``where=``); all are ended with the test."""
    started: list[Daemon] = []

    def start(where: Path | None = None, env: dict[str, str] | None = None, **options: object) -> Daemon:
        one = Daemon(where or data_dir, env, **options)
        started.append(one)
        one.start()
        return one

    yield start
    left = []
    for one in started:
        left += one.end()
        if left or request.node.stash.get(_FAILED, False):
            print(one.log())
        one.words.unlink(missing_ok=True)
    if left:
        pytest.fail(f"expected no process of the instance to survive it, got: {left}")


Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def tq(data_dir: Path) -> Iterator[Run]:
    """``tq("status", "1", input=..., env=..., timeout=60)`` runs the command line on ``data_dir``; ends what it autostarted."""

    def run(
        *argv: str | os.PathLike[str], input: str = "", env: dict[str, str] | None = None, timeout: float = 60.0  # noqa: A002 - as in subprocess
    ) -> subprocess.CompletedProcess[str]:  # fmt: skip
        return subprocess.run(
            [sys.executable, "-m", "tq", *argv], input=input, text=True, capture_output=True, timeout=timeout, check=False,
            env={**os.environ, "TQ_DATA_DIR": str(data_dir), **(env or {})},
        )  # fmt: skip

    yield run
    for process in processes_of(data_dir):
        if " tq.daemon " in _arguments(process) and process.ppid() != os.getpid():
            process.terminate()
            process.wait(END_WITHIN_S)

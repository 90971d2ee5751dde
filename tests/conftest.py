"""What every test may ask for: a private place, a real daemon, the command line, a clock turned by hand.

For: fixtures that more than one room's tests need.
Not for: doubles of a single room (they stand beside its test).
Runs in: pytest.
Promises: no test reads or writes the user's own instance or settings; every daemon a test starts is ended with all its
workers and commands, and one that leaves a process behind fails its test; the daemon's log is shown where a test failed.
"""

from __future__ import annotations

import gc
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from zlib import crc32

import pytest

from tests.living import END_WITHIN_S, ROOT, Daemon, arguments, processes_of, unmeasured, wait_until

_FAILED = pytest.StashKey[bool]()
gc.set_threshold(50_000, 20, 20)  # a tenth of what the tests cost was the collection of what they keep for a moment


def _sampled(item: pytest.Item) -> bool:
    """Whether coverage is measured in a test: every fourth that is not slow, and none of what lives many lives or draws screens.

    It doubles what a test costs, its daemons and workers included, and a fourth of them reaches what all of them reach but for some lines
    in a hundred. ``TQ_COVERAGE=all`` measures every one.
    """
    if os.environ.get("TQ_COVERAGE") == "all":
        return True
    of = item.nodeid.split("/")[1]
    return of not in ("campaign", "bench", "tui") and item.get_closest_marker("slow") is None and crc32(item.nodeid.encode()) % 4 == 0


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Where coverage is measured, it is in a sample of the tests.

    Where processes share the tests, slow ones stand evenly among nine tenths of the quick: nobody is alone with one at the end.
    """
    for item in items:
        if not _sampled(item):
            item.add_marker("no_cover")
    if not hasattr(config, "workerinput"):
        return
    quick = [item for item in items if item.get_closest_marker("slow") is None]
    slow = [item for item in items if item.get_closest_marker("slow") is not None]
    places = [(0.9 * number * len(quick) / max(len(slow), 1), item) for number, item in enumerate(slow)]
    items[:] = [item for _, item in sorted([*places, *enumerate(quick)], key=lambda one: one[0])]


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_setupnodes() -> None:
    """The processes that share the tests begin no measurement by themselves, as daemons do: see ``pytest_sessionstart``."""
    for name in ("COVERAGE_PROCESS_START", "COVERAGE_PROCESS_CONFIG"):
        os.environ.pop(name, None)


@pytest.hookimpl(tryfirst=True)
def pytest_sessionstart(session: pytest.Session) -> None:
    """In them pytest-cov measures with two, of which it stops one for a test that is not to be measured, and the other goes on:
    it doubled what all tests took."""
    cov = session.config.pluginmanager.getplugin("_cov")
    if hasattr(session.config, "workerinput") and cov is not None and cov.cov_controller is not None:
        cov.cov_controller.cov.stop()


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
        for name in [name for name in os.environ if name.startswith("TQ_")]:
            patch.delenv(name)
        patch.setenv("XDG_CONFIG_HOME", str(home / "config"))
        patch.setenv("XDG_STATE_HOME", str(home / "state"))
        patch.setenv("PYTHONPATH", os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]))
        yield home
    shutil.rmtree(home, ignore_errors=True)


@pytest.fixture(autouse=True)
def _processes_are_measured_as_their_test_is(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if request.node.get_closest_marker("no_cover") is not None:
        for name in [name for name in os.environ if name.startswith("COV")]:
            monkeypatch.delenv(name)


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


@pytest.fixture
def until() -> Callable[..., Any]:
    """``until(condition, within_s=10, what="...")``: waits for it, never longer, and gives its value."""
    return wait_until


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
    """``tq("status", "1", input=..., env=..., timeout=60)`` runs the command line on ``data_dir``; ends what it autostarted.

    Coverage would double what such a process takes; in-process tests (``run``) measure the command line.
    """

    def run(
        *argv: str | os.PathLike[str], input: str = "", env: dict[str, str] | None = None, timeout: float = 60.0  # noqa: A002 - as in subprocess
    ) -> subprocess.CompletedProcess[str]:  # fmt: skip
        return subprocess.run(
            [sys.executable, "-m", "tq", *argv], input=input, text=True, capture_output=True, timeout=timeout, check=False,
            env=unmeasured(**{"TQ_DATA_DIR": str(data_dir), **(env or {})}),
        )  # fmt: skip

    yield run
    for process in processes_of(data_dir):
        if " tq.daemon " in arguments(process) and process.ppid() != os.getpid():
            process.terminate()
            process.wait(END_WITHIN_S)

"""`tq bench`: a complete table in words and in JSON, and nothing left behind."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.living import processes_of, unmeasured
from tq import bench
from tq.errors import TqError, UsageError

pytestmark = pytest.mark.flow
NAMES = {"commits", "pickup_p50", "pickup_p99", "one", "one_busy", "many", "batch", "end_to_end", "drain"}


def begun_daemon(place: Path) -> Path | None:
    """The directory of a daemon that is being started."""
    return next((path.parent for path in place.glob("*/lock")), None)


@pytest.fixture
def place(data_dir: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where temporary directories are made, so that a test sees what is left there."""
    monkeypatch.setattr("tempfile.tempdir", str(data_dir))
    monkeypatch.setenv("TMPDIR", str(data_dir))
    return data_dir


def test_json_is_one_object_with_every_figure_and_the_machine(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert bench.run(tasks=200, workers=1, as_json=True, seconds=0.05, clients=2) == 0
    told = json.loads(capsys.readouterr().out)
    assert {"cpus", "python", "file_system"} <= set(told["machine"])
    assert {figure["name"] for figure in told["figures"]} == NAMES
    assert all(figure["value"] > 0 and figure["unit"] in {"/s", "ms"} for figure in told["figures"])
    assert list(place.iterdir()) == []


def test_words_are_an_aligned_table_with_ratios_to_bare_commits(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    figures = [bench.Figure("one", "one client", 4321.6, "/s", 0.5), bench.Figure("pickup_p50", "pickup", 1.234, "ms", 2.0)]
    rate, latency = (bench.line(figure) for figure in figures)
    assert "4,322 /s" in rate
    assert "0.50 of the bare commits" in rate
    assert "1.23 ms" in latency
    assert "2.00 commits" in latency
    assert rate.index("/s") == latency.index("ms")


@pytest.mark.parametrize("sign", [signal.SIGTERM, signal.SIGINT], ids=["term", "int"])
def test_a_bench_interrupted_as_its_daemon_starts_leaves_nothing(place: Path, until: Callable[..., Any], sign: signal.Signals) -> None:
    command = [sys.executable, "-c", "from tq.bench import run; raise SystemExit(run())"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, env=unmeasured())
    try:
        home = until(lambda: begun_daemon(place), 20, "a daemon that starts")
        process.send_signal(sign)
        _, words = process.communicate(timeout=30)
    finally:
        process.kill()
    assert process.returncode == 130
    assert b"interrupted" in words
    until(lambda: not processes_of(home), what="no process left")
    assert list(place.iterdir()) == []


def test_what_makes_no_sense_is_refused_before_a_daemon_starts(place: Path) -> None:
    with pytest.raises(UsageError, match="expected at least 1 task"):
        bench.run(tasks=0)
    assert list(place.iterdir()) == []


def test_waiting_for_tasks_that_never_end_has_an_end(place: Path) -> None:
    with bench.instance(workers=0) as client:
        began = time.monotonic()
        with pytest.raises(TqError, match="expected 1 tasks to succeed"):
            bench.until_completed(client, 1, within_s=0.1)
        assert time.monotonic() - began < 10

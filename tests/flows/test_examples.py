"""The examples run as they say."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.living import unmeasured

ROOT = Path(__file__).resolve().parents[2]
CONSUMER = ROOT / "examples" / "consumer.py"
pytestmark = pytest.mark.flow


@pytest.fixture
def letters(daemon: Callable[..., Any], tq: Callable[..., Any], data_dir: Path) -> Callable[..., list[str]]:
    """A queue for outside consumers; puts payloads into it and gives the ids."""
    daemon(workers=0)
    assert tq("queue", "set", "letters", "--external").returncode == 0

    def send(*payloads: str) -> list[str]:
        ids = []
        for payload in payloads:
            done = tq("enqueue", "--type", "count", "--queue", "letters", "--allow-unknown", "--payload", payload)
            assert done.returncode == 0, done.stderr
            ids.append(done.stdout.strip())
        return ids

    return send


def test_a_consumer_written_from_the_protocol_alone_settles_what_it_claims(
    letters: Callable[..., list[str]], tq: Callable[..., Any], data_dir: Path
) -> None:
    good, bad = letters('"abba"', "17")
    command = [sys.executable, str(CONSUMER), str(data_dir), "letters", "--idle", "0.5"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    assert f"task {good}: succeeded" in done.stdout
    assert f"task {bad}: failed" in done.stdout
    assert '"a": 2' in tq("result", good).stdout.replace('"a":2', '"a": 2')
    assert "expected a text, got int" in tq("show", bad).stdout


def test_the_consumer_does_not_import_tq() -> None:
    code = f"import runpy, sys; runpy.run_path({str(CONSUMER)!r}); print([name for name in sys.modules if name.split('.')[0] == 'tq'])"
    assert subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout.strip() == "[]"


def test_a_consumer_that_is_ended_gives_back_what_it_has_not_begun(
    letters: Callable[..., list[str]], tq: Callable[..., Any], data_dir: Path, until: Callable[..., Any]
) -> None:
    command = [sys.executable, str(CONSUMER), str(data_dir), "letters", "--idle", "60"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as consumer:
        assert consumer.stdout is not None
        assert consumer.stdout.readline().startswith("connected to tq")
        (first,) = letters('"abba"')
        until(lambda: "succeeded" in tq("status", first).stdout, what="the first task's end")
        consumer.terminate()
        assert consumer.wait(20) == 0
    (second,) = letters('"abba"')
    assert "pending" in tq("status", second).stdout


def test_the_first_example_enqueues_and_prints_its_results(daemon: Callable[..., Any], data_dir: Path) -> None:
    daemon(app=str(ROOT / "examples" / "first_tasks.py"))
    command = [sys.executable, str(ROOT / "examples" / "first_tasks.py")]
    env = unmeasured(TQ_DATA_DIR=str(data_dir))
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == ["Hello, Ada!", "3.0"]

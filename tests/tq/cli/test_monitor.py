"""The door to the monitor: what a pipe gets, what is refused before the screen is taken, and what nobody else pays for."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest

from tests.living import unmeasured
from tui.web import Look, Offer

Run = Callable[..., tuple[int, str, str]]


@pytest.mark.parametrize("name", ["monitor", "top"])
def test_where_there_is_no_terminal_the_monitor_prints_the_statistics(fake: Any, run: Run, name: str) -> None:
    fake.verbs["stats"] = lambda _: {
        "states": {"pending": 3}, "queue_length": 3, "running": 0, "completed": 0, "failed": 0, "avg_process_time": None,
        "success_rate": None, "failure_rate": None, "p50": None, "p95": None, "p99": None,
        "workers": {"active": 0, "total": 2}, "utilisation": 0.0,
    }  # fmt: skip
    assert run(name, "--read-only", "--ascii", "--no-color", "--no-mouse", "--reduce-motion", "--charts", "ascii") == run("stats")


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--theme", "tq-drak"], "--theme: expected one of tq-dark"),
        (["--charts", "pie"], "--charts: expected block, braille or ascii, got 'pie'"),
        (["--allow-writes"], "--allow-writes: expected --web beside it"),
        (["--port", "8080"], "--port: expected --web beside it"),
        (["--web", "--port", "65536"], "--port: expected a number up to 65535, got 65536"),
        (["--web", "--sessions", "0"], "--sessions: expected a number from 1 to 64, got 0"),
        (["--web", "--idle", "0"], "--idle: expected a time such as 30m, got '0'"),
        (["--web", "--read-only", "--allow-writes"], "expected either --read-only or --allow-writes, got both"),
        (["--demo"], "--demo: expected a terminal to show it on, got none."),
    ],
)
def test_options_that_make_no_sense_are_refused_by_name(run: Run, options: list[str], says: str) -> None:
    code, out, err = run("monitor", *options)
    assert (code, out) == (2, "")
    assert says in err


def test_what_is_served_to_browsers_is_what_the_options_say(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []

    def serve(data_dir: str, environ: Any, offer: Any, say: Callable[[str], None]) -> int:
        asked.append(offer)
        say("http://127.0.0.1:1/?token=x")
        return 0

    monkeypatch.setattr("tui.web.serve", serve)
    assert run("monitor", "--web") == (0, "http://127.0.0.1:1/?token=x\n", "")
    more = "--web --port 8471 --allow-writes --sessions 2 --idle 90s --theme tq-mono --charts ascii --ascii --no-color --no-mouse"
    assert run("top", *more.split())[0] == 0
    assert asked == [
        Offer(port=0, allow_writes=False, sessions=4, idle_ms=1_800_000, look=Look()),
        Offer(
            port=8471, allow_writes=True, sessions=2, idle_ms=90_000,
            look=Look(theme="tq-mono", charts="ascii", ascii=True, color=False, mouse=False),
        ),
    ]  # fmt: skip


def loaded_by(line: str) -> set[str]:
    """The top-level modules that a line of Python loads."""
    code = f"{line}\nimport sys\nprint('\\n'.join(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True, env=unmeasured())
    return {name.split(".")[0] for name in done.stdout.split()}


def test_no_other_command_imports_textual_or_the_monitor() -> None:
    rooms = "from tq.cli import app, fast, perform, tasks, control, render, monitor\nfrom tq.cli.app import build\nbuild()"
    assert loaded_by(rooms).isdisjoint({"textual", "tui"})


def test_the_package_of_the_monitor_alone_loads_nothing_of_the_screen() -> None:
    assert "textual" not in loaded_by("import tui, tui.feed, tui.state, tui.refresh, tui.actions, tui.command, tui.preferences")

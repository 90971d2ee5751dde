"""The monitor in a real terminal, before a real daemon: it is there at once, outlives a kill -9, and leaves the terminal as it was."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.living import ROOT, Daemon, unmeasured

pytestmark = [pytest.mark.flow, pytest.mark.skipif(shutil.which("tmux") is None, reason="needs tmux, which is a terminal one can ask")]


class Terminal:
    """A terminal of 120 by 36 with a shell in it: what is typed goes in, what is seen comes out."""

    def __init__(self, place: Path, until: Callable[..., Any], env: dict[str, str]) -> None:
        self._tmux = ["tmux", "-S", str(place / "tmux"), "-f", "/dev/null"]
        self._until = until
        command = [*self._tmux, "new-session", "-d", "-x", "120", "-y", "36", "env -i " + " ".join(_quoted(env)) + " sh"]
        subprocess.run(command, check=True, timeout=20, env=unmeasured(), cwd=ROOT)

    def keys(self, *keys: str) -> None:
        subprocess.run([*self._tmux, "send-keys", *keys], check=True, timeout=20)

    def text(self) -> str:
        return subprocess.run([*self._tmux, "capture-pane", "-p"], check=True, timeout=20, capture_output=True, text=True).stdout

    def sees(self, *words: str, within_s: float = 20.0) -> str:
        """What is on the screen, once all these words are."""
        found = self._until(
            lambda: (text := self.text()) and all(word in text for word in words) and text, within_s, f"{words} on the screen"
        )
        return str(found)

    def end(self) -> None:
        subprocess.run([*self._tmux, "kill-server"], check=False, timeout=20, capture_output=True)


def _quoted(env: dict[str, str]) -> list[str]:
    return [shlex.quote(f"{name}={value}") for name, value in env.items()]


@pytest.fixture
def terminal(data_dir: Path, tmp_path: Path, until: Callable[..., Any]) -> Iterator[Terminal]:
    env = {
        "PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), "TQ_DATA_DIR": str(data_dir), "LANG": "C.UTF-8", "TERM": "tmux-256color",
        "PS1": "$ ", "HOME": str(tmp_path),
    }  # fmt: skip
    one = Terminal(data_dir, until, env)
    yield one
    one.end()


MONITOR = f"{shlex.quote(sys.executable)} -m tq monitor"


@pytest.mark.timeout(180)
def test_the_monitor_outlives_a_daemon_that_is_killed_and_shows_it_again(
    daemon: Callable[..., Daemon], terminal: Terminal, tq: Any
) -> None:
    first = daemon(workers=1)
    assert tq("add", "--wait", "-q", "mail", "--", "true").returncode == 0
    assert tq("add", "--wait", "-q", "broken", "--", "false").returncode == 1
    terminal.keys(f"{MONITOR}; echo left with $?", "Enter")
    terminal.sees("● live", "mail", "broken", "[1 Overview]", "read/write")
    first.kill()
    text = terminal.sees("✗ down", "READ ONLY", "The daemon does not answer", within_s=5.0)
    assert "mail" in text  # the last that was known stays
    assert "Traceback" not in text
    first.restart()
    terminal.keys("j")
    terminal.sees("● live", "The daemon was restarted", "mail", within_s=10.0)
    tq("add", "--wait", "-q", "later", "--", "true")
    terminal.sees("later")
    terminal.keys("q")
    terminal.sees("left with 0")


@pytest.mark.timeout(120)
def test_read_only_without_colours_in_plain_characters_it_shows_the_same(
    daemon: Callable[..., Daemon], terminal: Terminal, tq: Any, until: Callable[..., Any]
) -> None:
    daemon(workers=1)
    assert tq("add", "--wait", "-q", "mail", "--", "true").returncode == 0
    terminal.keys(f"{MONITOR} --read-only --no-color --ascii; echo left with $?", "Enter")
    text = terminal.sees("* live", "READ ONLY", "mail", "+- Queues 1")
    assert text.isascii()
    terminal.keys("?")
    assert "Leave the monitor" in terminal.sees("Help", "esc Close")
    terminal.keys("Escape")
    until(lambda: "esc Close" not in terminal.text(), 10, "the help's end")  # what follows an escape at once would be alt and a key
    terminal.keys(":", "quit", "Enter")
    terminal.sees("left with 0")


@pytest.mark.timeout(180)
def test_workers_schedules_and_events_are_a_real_daemons_and_are_steered(
    daemon: Callable[..., Daemon], terminal: Terminal, tq: Any, until: Callable[..., Any]
) -> None:
    daemon(workers=1, grace=0.5)
    assert tq("add", "-q", "mail", "--", "sleep", "60").returncode == 0
    assert tq("schedule", "add", "nightly", "--cron", "0 2 * * *", "--tz", "Europe/Berlin", "--", "true").returncode == 0
    assert tq("schedule", "run", "nightly").returncode == 0
    assert tq("queue", "pause", "mail").returncode == 0
    terminal.keys(f"{MONITOR}; echo left with $?", "Enter")
    terminal.sees("● live", "[1 Overview]")
    terminal.keys("4")
    terminal.sees("[4 Workers]", "● busy", "1/1", "shell", "1 wanted", "w1 slots")
    terminal.keys("+")
    terminal.sees("Workers from now on: 2", "2 wanted")
    terminal.keys("u")
    terminal.sees("Taken back.", "1 wanted")
    terminal.keys("d")
    terminal.sees("worker w1 will finish and go: 1 task runs there now")
    until(lambda: terminal.keys("n") or "will finish" not in terminal.text(), 10, "the dialog's end")  # it is deaf for a moment
    terminal.keys("5")
    terminal.sees("[5 Schedules]", "nightly", "0 2 * * *", "Europe/Berlin", "by hand", "Next 24 h", "■")
    terminal.keys("p")
    terminal.sees("Paused: schedule nightly", "‖ off")
    terminal.keys("7")
    terminal.sees("[7 Events]", "● audit", "schedule nightly", "paused no → yes", "added_schedule")
    terminal.keys("q")
    terminal.sees("left with 0")

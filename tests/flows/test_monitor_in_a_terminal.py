"""The monitor as a person has it: in a real terminal (tmux), on a real daemon, by its keys alone."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.living import ROOT, unmeasured, wait_until
from tq.client import Client

pytestmark = [pytest.mark.flow, pytest.mark.skipif(shutil.which("tmux") is None, reason="needs tmux")]
WITHIN_S = 60.0


class Terminal:
    """A terminal of its own, with the monitor in it."""

    def __init__(self, data_dir: Path, width: int, height: int, *options: str) -> None:
        self._tmux = ["tmux", "-S", str(data_dir / "tmux"), "-f", "/dev/null"]
        line = shlex.join([sys.executable, "-m", "tq", "--data-dir", str(data_dir), "monitor", *options])
        stale = {"COLUMNS": "77", "LINES": "20"}  # which some shells hand on: the terminal's own size counts
        env = unmeasured(TERM="xterm-256color", PYTHONPATH=str(ROOT), LC_ALL="C.UTF-8", **stale)
        for name in ("TMUX", "NO_COLOR", "DISPLAY", "WAYLAND_DISPLAY"):
            env.pop(name, None)
        self._run("new-session", "-d", "-x", str(width), "-y", str(height), line, env=env)

    def _run(self, *argv: str, env: dict[str, str] | None = None) -> str:
        return subprocess.run(
            [*self._tmux, *argv], env=env or dict(os.environ), capture_output=True, text=True, check=True, timeout=30
        ).stdout

    @property
    def text(self) -> str:
        return self._run("capture-pane", "-p")

    def press(self, *keys: str) -> None:
        self._run("send-keys", *keys)

    def shows(self, *words: str) -> str:
        """The screen once all of these stand on it."""

        def there() -> str:
            text = self.text
            return text if all(word in text for word in words) else ""

        try:
            return wait_until(there, WITHIN_S, f"{words} on the screen")
        except AssertionError as error:
            raise AssertionError(f"{error}\n{self.text}") from None

    def end(self) -> None:
        subprocess.run([*self._tmux, "kill-server"], capture_output=True, check=False, timeout=30)


@pytest.fixture
def terminal(data_dir: Path) -> Iterator[Callable[..., Terminal]]:
    """``terminal(width, height)`` opens the monitor of the instance; it is ended with the test."""
    opened: list[Terminal] = []

    def start(width: int, height: int, *options: str) -> Terminal:
        opened.append(Terminal(data_dir, width, height, *options))
        return opened[-1]

    yield start
    for one in opened:
        one.end()


@pytest.mark.parametrize("size", [(120, 36), (80, 24)], ids=["120", "80"])
def test_a_newcomer_finds_why_one_task_failed_and_retries_it_in_eight_keys(
    daemon: Callable[..., Any], client: Client, app: str, terminal: Callable[..., Terminal], size: tuple[int, int], tmp_path: Path
) -> None:
    daemon(app=app)
    client.enqueue_many([("noop", None)] * 50)
    missing = tmp_path / "invoice-7.txt"
    invoice = client.enqueue("shell", {"argv": ["cat", str(missing)]}, label="invoice-7", retries=0).id
    client.enqueue_many([("noop", None)] * 50)
    shell = terminal(*size)
    pressed = 0

    def press(*keys: str) -> None:
        nonlocal pressed
        pressed += len(keys)
        shell.press(*keys)

    shell.shows("3 Tasks")
    press("3")
    shell.shows("LAST ERROR", "/ Filter")
    press("/", "i", "n", "v")
    shell.shows("/ inv", "1 " + ("match of" if size[0] == 120 else "of"), "invoice-7")
    press("Enter")
    shell.shows("enter Open")
    press("Enter")
    shell.shows("Timeline", "exit code 1", "r Retry")
    missing.write_text("paper\n")
    press("r")
    shell.shows("1 task retried.")
    assert pressed == 8
    (row,) = client.wait([invoice], 30)
    assert row is not None
    assert row["state"] == "succeeded"
    shell.shows("done")


def test_a_daemon_that_is_killed_and_comes_back_ends_nothing(
    daemon: Callable[..., Any], client: Client, app: str, terminal: Callable[..., Terminal]
) -> None:
    one = daemon(app=app)
    client.enqueue_many([("noop", None)] * 30)
    shell = terminal(120, 36)
    shell.shows("live")
    shell.press("3")
    shell.shows("30 tasks", "noop")
    shell.press("Space")
    shell.shows("1 marked")
    one.kill()
    began = time.monotonic()
    text = shell.shows("down")
    assert time.monotonic() - began < 5
    assert "noop" in text
    one.start()
    text = shell.shows("live", "1 marked", "noop")
    assert "Traceback (most recent call last)" not in text

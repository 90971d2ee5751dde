"""`tq demo` and `tq monitor --demo`: real work, an explained failure, a busy queue; and nothing left behind, however it ends."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import select
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from tests.flows.conftest import left_behind
from tests.living import unmeasured

pytestmark = pytest.mark.flow
DEMO = [sys.executable, "-m", "tq", "demo"]


@pytest.fixture
def place(data_dir: Path) -> Path:
    return data_dir


def surroundings(place: Path) -> dict[str, str]:
    return {**os.environ, "TMPDIR": str(place), "COLUMNS": "110"}


def test_it_does_real_work_explains_the_failure_and_cleans_up(place: Path, until: Callable[..., Any]) -> None:
    began = time.monotonic()
    done = subprocess.run(DEMO, env=surroundings(place), capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert time.monotonic() - began < 15
    out = done.stdout
    assert "\x1b" not in out  # nobody watches: plain lines
    for work in ("hash a file", "pack a file", "count the words", "fetch a page", "run a command", "fail on purpose"):
        assert work in out
    assert re.search(r"hash a file .* succeeded +\d+ ms +sha256 [0-9a-f]{20}", out)
    assert re.search(r"run a command +succeeded .* exit code 0, printed \d+ \d+", out)
    assert re.search(r"fetch a page .* succeeded .* status 200, bytes \d+", out)
    assert re.search(r"fail on purpose +failed .* ValueError", out)
    assert "ValueError: invalid literal for int() with base 10: 'four'" in out  # the cause, with its traceback
    assert "demo_tasks.py" in out
    until(lambda: not left_behind(place), what="nothing left behind")


def test_on_a_terminal_it_shows_bars_and_a_table(place: Path) -> None:
    screen, terminal = pty.openpty()
    env = {**surroundings(place), "TERM": "xterm-256color"}
    env.pop("NO_COLOR", None)
    with subprocess.Popen(DEMO, env=env, stdin=terminal, stdout=terminal, stderr=terminal) as demo:
        os.close(terminal)
        seen = b""
        try:
            while piece := os.read(screen, 65536):
                seen += piece
        except OSError:  # the other side of a terminal ends with EIO
            pass
        os.close(screen)
        assert demo.wait(60) == 0
    text = seen.decode()
    assert "━" in text  # a bar
    assert "What was done" in text
    assert "│" in text  # a table
    assert left_behind(place) == []


@pytest.mark.parametrize(("sent", "at"), [(signal.SIGINT, "on disk"), (signal.SIGTERM, "worker processes"), (signal.SIGTERM, "")])
def test_an_interrupted_demo_leaves_nothing_behind(place: Path, until: Callable[..., Any], sent: signal.Signals, at: str) -> None:
    env = unmeasured(TMPDIR=str(place), PYTHONUNBUFFERED="1")
    with subprocess.Popen(DEMO, env=env, stdout=subprocess.PIPE, text=True) as demo, ExitStack() as at_last:
        at_last.callback(demo.kill)
        assert demo.stdout is not None
        if at:
            while at not in (line := demo.stdout.readline()):
                assert line, "the demo ended before it could be interrupted"
        else:  # while the daemon is starting
            until(lambda: list(place.glob("tq-demo-*/tq")), what="the demo's directory")
        demo.send_signal(sent)
        demo.stdout.read()
        assert demo.wait(30) == 130
    until(lambda: not left_behind(place), what="nothing left behind")


def test_a_kept_instance_can_be_looked_at_and_ended_as_it_says(place: Path, until: Callable[..., Any]) -> None:
    done = subprocess.run([*DEMO, "--keep"], env=surroundings(place), capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    data_dir = re.search(r"tq --data-dir (\S+) list", done.stdout)
    assert data_dir is not None
    tq = [sys.executable, "-m", "tq", "--data-dir", data_dir[1]]
    try:
        listed = subprocess.run([*tq, "list", "--state", "failed"], capture_output=True, text=True, timeout=30, check=True)
        assert "order" in listed.stdout
    finally:
        subprocess.run([*tq, "daemon", "stop"], capture_output=True, timeout=60, check=True)
    until(lambda: not [left for left in left_behind(place) if "tq.daemon" in left], what="the daemon's end")


@pytest.mark.parametrize("sent", [signal.SIGTERM, signal.SIGHUP], ids=["SIGTERM", "its terminal is gone"])
def test_a_busy_queue_is_shown_without_any_daemon_of_the_users_and_is_gone_however_the_monitor_ends(
    place: Path, until: Callable[..., Any], sent: signal.Signals
) -> None:
    screen, terminal = pty.openpty()
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 36, 120, 0, 0))
    theirs = place / "theirs"
    env = unmeasured(TMPDIR=str(place), TERM="xterm-256color", LC_ALL="C.UTF-8", TQ_DATA_DIR=str(theirs), TQ_APP="no.such.module")
    argv = [sys.executable, "-m", "tq", "monitor", "--demo"]
    with subprocess.Popen(argv, env=env, stdin=terminal, stdout=terminal, stderr=terminal, start_new_session=True) as monitor:
        os.close(terminal)
        seen = bytearray()

        def read() -> bytearray:
            while select.select([screen], [], [], 0)[0]:
                try:
                    seen.extend(os.read(screen, 65536))
                except OSError:  # the other side of a terminal ends with EIO
                    break
            return seen

        try:
            words = [word.encode() for word in ("DEMO", "● live", "of 12", "invoices", "mail")]
            until(lambda: all(word in read() for word in words), within_s=30, what="a busy queue on the screen")
            assert left_behind(place)
            if sent == signal.SIGHUP:
                os.close(screen)
            monitor.send_signal(sent)
            if sent == signal.SIGTERM:
                until(lambda: bool(read()) and monitor.poll() is not None, within_s=30, what="the monitor's end")
                assert b"\x1b[?1049l" in seen  # the terminal is as it was
                os.close(screen)
            assert monitor.wait(30) == 128 + sent
        finally:
            monitor.kill()
    until(lambda: not left_behind(place), within_s=30, what="nothing left behind")

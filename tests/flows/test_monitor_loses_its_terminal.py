"""A monitor whose terminal is closed: a window shut, a connection cut, with and without nohup."""

from __future__ import annotations

import fcntl
import os
import pty
import signal
import subprocess
import sys
import termios
from pathlib import Path

import pytest

from tests.living import ROOT, unmeasured

pytestmark = pytest.mark.flow
WITHIN_S = 60.0
LOADER = """
import fcntl, os, signal, sys, termios
if sys.argv[1] == "nohup":
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
os.execv(sys.argv[2], sys.argv[2:])
"""
"""Makes the terminal the one that sends the signal, as a shell does."""


@pytest.mark.parametrize("how", ["", "nohup"])
def test_a_terminal_that_is_closed_ends_it_with_a_code(data_dir: Path, how: str) -> None:
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, (36).to_bytes(2, sys.byteorder) + (120).to_bytes(2, sys.byteorder) + bytes(4))
    monitor = [sys.executable, "-m", "tq", "--data-dir", str(data_dir), "monitor"]
    process = subprocess.Popen(
        [sys.executable, "-c", LOADER, how, *monitor], stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True, cwd=ROOT,
        env=unmeasured(TERM="xterm-256color", PYTHONPATH=str(ROOT), LC_ALL="C.UTF-8"),
    )  # fmt: skip
    os.close(theirs)
    try:
        seen = b""
        while b"No daemon answers" not in seen:
            seen += os.read(ours, 1 << 16)
        os.close(ours)
        assert process.wait(WITHIN_S) == 128 + signal.SIGHUP
    finally:
        process.kill()
        process.wait()

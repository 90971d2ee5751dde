"""What really goes to the terminal: its bytes, with hostile data, without colours, and none where nothing changes."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import select
import struct
import subprocess
import sys
import termios
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.living import ROOT, unmeasured

SGR = re.compile(rb"\x1b\[([\d;]*)m")
COLOURS = {str(number).encode() for first in (30, 40, 90, 100) for number in range(first, first + 8)} | {b"38", b"48"}
"""Parameters of SGR that name a colour; 39 and 49 mean the terminal's own."""
SEQUENCE = re.compile(rb"\x1b(?:\[[0-?]*[ -/]*[@-~]|[=>78])")
EVIL = "\x1b]0;owned\x07\x1b]52;c;eA==\x07\x9b31m[@click=app.quit]x[/]\u202e"
SERVER = """
import asyncio, sys
from pathlib import Path
from tests.tui.fake import FakeDaemon, HandClock, busy
evil = sys.argv[2]
scenario = busy()
scenario.queues[0]["name"] = evil
scenario.attention[0] |= {"what": evil, "about": ["queue", evil]}
scenario.chores = [{"id": 1, "verb": evil, "where": evil, "seen": 5, "changed": 1}]
scenario.totals["queues"] = {evil: {}}
async def main():
    daemon = FakeDaemon(Path(sys.argv[1]), HandClock(), scenario)
    await daemon.start()
    print("ready", flush=True)
    await asyncio.Event().wait()
asyncio.run(main())
"""


@pytest.fixture
def evil_daemon(where: Path) -> Iterator[Path]:
    """A fake daemon in a process of its own whose every name wants to steer the terminal."""
    with subprocess.Popen(
        [sys.executable, "-c", SERVER, str(where), EVIL], stdout=subprocess.PIPE, cwd=ROOT, env=unmeasured(PYTHONPATH=str(ROOT))
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        yield where
        process.kill()


def shown(where: Path, keys: bytes, wanted: Callable[[bytes], bool], **environ: str) -> bytes:
    """All bytes that a monitor sends to a terminal of 120 by 36 until what is wanted has come and these keys were typed."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 36, 120, 0, 0))
    env = unmeasured(TQ_DATA_DIR=str(where), PYTHONPATH=str(ROOT), TERM="xterm-256color", COLORTERM="truecolor", LANG="C.UTF-8", **environ)
    found = bytearray()
    with subprocess.Popen(
        [sys.executable, "-m", "tq", "monitor"], stdin=theirs, stdout=theirs, stderr=theirs, env=env, cwd=ROOT, start_new_session=True
    ) as process:
        os.close(theirs)
        deadline, typed = time.monotonic() + 60, False
        try:
            while process.poll() is None:
                assert time.monotonic() < deadline, bytes(found[-2000:])
                if select.select([ours], [], [], 0.05)[0]:
                    found += os.read(ours, 1 << 16)
                if not typed and wanted(bytes(found)):
                    threading.Timer(1.5, lambda: os.write(ours, keys)).start()
                    typed = True
        except OSError:  # the terminal's other end is closed
            pass
        finally:
            process.kill()
            os.close(ours)
    return bytes(found)


def coloured(found: bytes) -> int:
    """How many sequences name a colour."""
    return sum(not COLOURS.isdisjoint(match[1].split(b";")) for match in SGR.finditer(found))


def live(found: bytes) -> bool:
    return "● live".encode() in found and b"mail" in found


@pytest.mark.timeout(120)
def test_no_escape_of_a_task_reaches_the_terminal(evil_daemon: Path) -> None:
    found = shown(evil_daemon, b"jj\t\t\tjm\rq", live)
    assert b"owned" in found  # it is shown, as letters
    assert rb"\x1b]0;owned\x07" in found
    assert b"\x1b]" not in found.replace(b"\x1b]22;", b"").replace(b"\x1b]0;tq", b"")
    for char in ("\u202e", "\u009b"):
        assert char.encode() not in found
    rest = SEQUENCE.sub(b"", found)
    assert not [byte for byte in rest.replace(b"\x1b]22;", b"") if byte < 32 and byte not in b"\r\n\x1b\x0e\x0f\x07\x08"]


@pytest.mark.timeout(120)
@pytest.mark.parametrize("environ", [{"NO_COLOR": "1"}], ids=["NO_COLOR"])
def test_without_colours_no_sequence_has_one(evil_daemon: Path, environ: dict[str, Any]) -> None:
    found = shown(evil_daemon, b"jq", live, **environ)
    assert coloured(found) == 0
    assert [one for one in SGR.finditer(found) if b"7" in one[1].split(b";")]  # the cursor is told by reverse
    assert coloured(shown(evil_daemon, b"jq", live)) > 50

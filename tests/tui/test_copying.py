"""Getting a text out: the desktop's tool, the terminal, a file; and which was used."""

from __future__ import annotations

import base64
import os
from pathlib import Path

import pytest

from tui.copying import OSC_52_MOST, copy_out, osc_52

pytestmark = pytest.mark.asyncio


def taken(path: str) -> tuple[str, int]:
    """What the file has, and its mode; it is gone then."""
    file = Path(path)
    found = file.read_text("utf-8"), file.stat().st_mode & 0o777
    file.unlink()
    return found


async def test_the_terminal_is_asked_in_its_own_words() -> None:
    written: list[str] = []
    said = await copy_out("héllo", {"TERM": "xterm"}, written.append)
    assert written == [f"\x1b]52;c;{base64.b64encode('héllo'.encode()).decode()}\x07"]
    assert said == "Copied by the terminal (OSC 52)."


async def test_inside_tmux_the_sequence_is_wrapped_and_its_escapes_doubled() -> None:
    written: list[str] = []
    said = await copy_out("x", {"TERM": "tmux-256color", "TMUX": "/tmp/tmux"}, written.append)
    assert written == ["\x1bPtmux;\x1b\x1b]52;c;eA==\x07\x1b\\"]
    assert "tmux" in said


async def test_what_is_too_long_goes_to_a_file_that_only_its_owner_reads() -> None:
    text = "x" * OSC_52_MOST
    assert osc_52(text, tmux=False) is None
    written: list[str] = []
    said = await copy_out(text, {"TERM": "xterm"}, written.append)
    assert written == []
    assert taken(said.rpartition(" ")[2]) == (text, 0o600)


async def test_a_tool_of_the_desktop_goes_first_and_one_that_fails_is_no_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tool = tmp_path / "xclip"
    tool.write_text(f"#!/bin/sh\ncat > {tmp_path}/copied\n")
    tool.chmod(0o700)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    environ = {"DISPLAY": ":0", "TERM": "xterm", "PATH": os.environ["PATH"]}
    written: list[str] = []
    assert await copy_out("text", environ, written.append) == "Copied with xclip."
    assert (tmp_path / "copied").read_text() == "text"
    tool.write_text("#!/bin/sh\nexit 1\n")
    assert "OSC 52" in await copy_out("text", environ, written.append)
    assert len(written) == 1

"""Getting a text out of the monitor: the desktop's own tool, the terminal (OSC 52), or a file.

For: ``copy_out``, which tries them in this order.
Not for: what is copied (screens), selecting with the mouse (Textual).
Runs in: the monitor's event loop; the tool is a process of its own, waited for at most two seconds.
Promises: it says which means was used, or the path of the file; nothing that is longer than terminals take is sent to one.
"""

from __future__ import annotations

import asyncio
import base64
import os
import shutil
import tempfile
from collections.abc import Callable, Mapping
from contextlib import suppress

OSC_52_MOST = 74_000
"""Bytes of base64 that terminals take in one sequence."""
TOOL_WITHIN_S = 2.0
_TOOLS = (("WAYLAND_DISPLAY", ("wl-copy",)), ("DISPLAY", ("xclip", "-selection", "clipboard")), ("DISPLAY", ("xsel", "-ib")))


def osc_52(text: str, tmux: bool) -> str | None:
    """The sequence that puts ``text`` on the clipboard of the terminal, wrapped for tmux; None if it is too long."""
    data = base64.b64encode(text.encode()).decode()
    if len(data) > OSC_52_MOST:
        return None
    bare = f"\x1b]52;c;{data}\x07"
    return "\x1bPtmux;" + bare.replace("\x1b", "\x1b\x1b") + "\x1b\\" if tmux else bare


async def copy_out(text: str, environ: Mapping[str, str], write: Callable[[str], None], web: bool = False) -> str:
    """Copy ``text``; a sentence that says how. OSError if not even a file can be written."""
    for variable, argv in () if web else _TOOLS:
        if environ.get(variable) and shutil.which(argv[0]) and await _piped(argv, text, environ):
            return f"Copied with {argv[0]}."
    tmux = bool(environ.get("TMUX"))
    sequence = osc_52(text, tmux)
    if sequence is not None and environ.get("TERM") != "linux":
        write(sequence)
        return "Copied by the terminal (OSC 52 through tmux)." if tmux else "Copied by the terminal (OSC 52)."
    handle, path = tempfile.mkstemp(prefix="tq-copied-", suffix=".txt")
    with os.fdopen(handle, "w", encoding="utf-8") as file:
        file.write(text)
    return f"Too much for the terminal's clipboard: written to {path}" if sequence is None else f"Written to {path}"


async def _piped(argv: tuple[str, ...], text: str, environ: Mapping[str, str]) -> bool:
    with suppress(OSError, TimeoutError):
        process = await asyncio.create_subprocess_exec(
            *argv, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.DEVNULL, env=dict(environ)
        )
        try:
            async with asyncio.timeout(TOOL_WITHIN_S):
                await process.communicate(text.encode())
        except TimeoutError:
            process.kill()
            await process.wait()
            raise
        return process.returncode == 0
    return False

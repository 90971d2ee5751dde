"""What a page may send to its session, and how large its terminal is.

For: ``read``, for each message of the WebSocket, and ``window`` for its address.
Not for: what the session sends (Textual's own packets, passed on as they are).
Runs in: the server; without it in tests.
Promises: whatever comes, the answer is one of four kinds of message or None; no number or text in it is larger than said here.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, NamedTuple

MOST_BYTES = 1 << 16
"""Of a message; a longer one ends the session. Pasted text comes in one."""
SMALLEST, WIDEST, HIGHEST = 1, 600, 300
USUAL = (80, 24)


class Message(NamedTuple):
    """``kind``: keys (``text`` is what was typed, or the mouse did), resize (``width`` and ``height`` in cells), focus, blur or ping
    (``text`` goes back)."""

    kind: str
    text: str = ""
    width: int = 0
    height: int = 0


def _cells(value: object, most: int) -> int | None:
    return min(max(value, SMALLEST), most) if type(value) is int else None


def read(data: str) -> Message | None:
    """The message, or None for what none of our pages sends."""
    try:
        found: Any = json.loads(data)
    except (ValueError, RecursionError):
        return None
    if not isinstance(found, list) or not found or len(found) > 2:
        return None
    kind, value = found[0], found[1] if len(found) == 2 else None
    if kind in ("focus", "blur"):
        return Message(kind)
    if kind in ("stdin", "ping") and isinstance(value, str):
        return Message("keys" if kind == "stdin" else "ping", value)
    if kind == "resize" and isinstance(value, dict):
        width, height = _cells(value.get("width"), WIDEST), _cells(value.get("height"), HIGHEST)
        if width is not None and height is not None:
            return Message("resize", width=width, height=height)
    return None


def window(query: Mapping[str, str]) -> tuple[int, int]:
    """Columns and rows of the terminal, as the page's address has them; the usual ones where it does not say."""
    sizes = []
    for name, usual, most in (("width", USUAL[0], WIDEST), ("height", USUAL[1], HIGHEST)):
        text = query.get(name, "")
        size = _cells(int(text), most) if text.isascii() and text.isdigit() and len(text) < 6 else None
        sizes.append(usual if size is None else size)
    return sizes[0], sizes[1]

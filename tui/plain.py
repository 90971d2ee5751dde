"""Nothing but ASCII on the screen, for terminals and fonts that have no more.

For: ``PlainCharacters``, the last filter before the terminal when ``--ascii`` is asked for.
Not for: choosing signs (formats has an ASCII set); this is what makes sure.
Runs in: the monitor, on Textual.
Promises: what leaves has only the characters from blank to tilde, and as many cells as before.
"""

from __future__ import annotations

from rich.segment import Segment
from textual.color import Color
from textual.filter import LineFilter

from tui.formats import cells

_LIKE = {
    **dict.fromkeys("─━═╌╍┄┈▁▔", "-"), **dict.fromkeys("│┃║▏▎▍▌▐▕╎", "|"), **dict.fromkeys("┌┐└┘├┤┬┴┼╭╮╰╯╔╗╚╝┏┓┗┛", "+"),
    "…": "~", "—": "-", "·": ".", "▸": ">", "→": ">", "←": "<", "▲": "^", "▼": "v", "↑": "^",
    "↓": "v", "●": "*", "○": ".", "✓": "+", "✗": "x", "‖": '"', "█": "#", "▀": "#", "▄": "#", "▊": "#", "■": "#", "░": ".", "▒": ":",
    "▓": "#", "↻": "~", "⊘": "-",
}  # fmt: skip


class PlainCharacters(LineFilter):
    """Replaces each character that is not ASCII by one that is, or by as many ``?`` as it has cells."""

    def apply(self, segments: list[Segment], background: Color) -> list[Segment]:
        return [segment if segment.text.isascii() else Segment(plain(segment.text), segment.style, segment.control) for segment in segments]


def plain(text: str) -> str:
    """``text`` in ASCII, as wide as before."""
    return "".join(one if one.isascii() else _LIKE.get(one, "?" * cells(one)) for one in text)

"""Lines of text across the screen: pieces with a style, some of which can be clicked.

For: ``Line``, and the two lines at the bottom: the status line and the keys line, which is made from the registry of actions.
Not for: the lines at the top (topbar), lists (table).
Runs in: the monitor, on Textual.
Promises: a line repaints only when its pieces changed; what does not fit is left out or cut, never wrapped.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from rich.segment import Segment
from rich.style import Style as RichStyle
from textual import events
from textual.strip import Strip
from textual.style import Style
from textual.widget import Widget

from tui.actions import Action, Context, shown_key
from tui.formats import cells, clip


class Piece(NamedTuple):
    """A bit of a line. ``style``: as ``bold $warn``; ``action``: what a click on it does."""

    text: str
    style: str = ""
    action: str = ""


class Line(Widget, can_focus=False):
    """One line: pieces from the left, pieces at the right end."""

    ALLOW_SELECT = False

    def __init__(self, id: str | None = None, *, keeps_right: bool = False) -> None:  # noqa: A002 - as Textual names it
        """``keeps_right``: where there is no room for all, the left is cut before the right end goes."""
        super().__init__(id=id)
        self._keeps_right = keeps_right
        self._left: tuple[Piece, ...] = ()
        self._right: tuple[Piece, ...] = ()
        self._drawn: list[tuple[int, int, str]] = []
        self._styles: dict[str, RichStyle] = {}

    def show(self, left: Iterable[Piece], right: Iterable[Piece] = ()) -> None:
        """Show these pieces from now on."""
        fresh = (tuple(left), tuple(right))
        if fresh != (self._left, self._right):
            self._left, self._right = fresh
            self.refresh()

    def notify_style_update(self) -> None:
        super().notify_style_update()
        self._styles.clear()

    def render_line(self, y: int) -> Strip:
        """Drawn without Textual's text, which would parse each style anew: the clock alone draws a line a second."""
        width = self.size.width
        left, right = list(self._left), list(self._right)
        while right and not self._keeps_right and _cells(left) + _cells(right) > width:
            right.pop(0)
        room = width - _cells(right)
        self._drawn, at, parts = [], 0, []
        for piece in left:
            text = clip(piece.text, room - at)
            if text:
                parts.append(Segment(text, self._style(piece.style)))
                self._drawn.append((at, at + cells(text), piece.action))
                at += cells(text)
        parts.append(Segment(" " * (room - at), self._style("")))
        at = room
        for piece in right:
            parts.append(Segment(piece.text, self._style(piece.style)))
            self._drawn.append((at, at + cells(piece.text), piece.action))
            at += cells(piece.text)
        return Strip(Segment.simplify(parts)).adjust_cell_length(width, self._style(""))

    def _style(self, text: str) -> RichStyle:
        """The style of a piece, looked up once until the theme changes."""
        found = self._styles.get(text)
        if found is None:
            found = self._styles[text] = (self.visual_style + Style.parse(text)).rich_style
        return found

    async def on_click(self, event: events.Click) -> None:
        for start, end, action in self._drawn:
            if start <= event.x < end and action:
                await self.app.run_action(action)
                return


def _cells(pieces: Sequence[Piece]) -> int:
    return sum(cells(piece.text) for piece in pieces)


HELP = "help"
"""The action that leads to all the others: where there is no room it is not the one that is missing."""


def key_pieces(actions: Iterable[Action], context: Context, keymap: dict[str, str], width: int) -> list[Piece]:
    """The keys line: the most important actions that can be done now, as many as fit, and always the help."""
    wanted = sorted((action for action in actions if action.footer and (action.keys or action.by)), key=lambda action: action.footer)
    shown: list[tuple[str, int, list[Piece]]] = []
    for action in wanted:
        if action.available(context):
            key = action.by or shown_key(keymap.get(action.id, action.keys).split(",")[0].strip())
            text, run = action.short or action.title, f"app.do({action.id!r})"
            its = [Piece(key, "bold $primary", run), Piece(f" {text}", "", run), Piece("  ")]
            shown.append((action.id, _cells(its), its))
    pieces, full = [Piece(" ")], False
    room = width + 1 - sum(size for id_, size, _ in shown if id_ == HELP)  # the blanks behind the last need none
    for id_, size, its in shown:
        if id_ != HELP:
            full = full or size > room
            if full:
                continue
            room -= size
        pieces += its
    return pieces

"""Painting: how widgets that draw their own lines come by full styles, and by rows of exactly so many cells.

For: names of styles for what is drawn (``STYLES``), their rich styles under the theme in use, and strips made of them.
Not for: which colours a theme gives them (themes), what is drawn (the widgets).
Runs in: the monitor, on the loop of its Textual application.
Promises: every style has a foreground and a background, since a segment without one leaves a hole; a strip is exactly as wide as asked for.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from rich.segment import Segment
from rich.style import Style
from textual.color import Color
from textual.strip import Strip
from textual.widget import Widget

from tui.formats import WORDS, cells, clip

STYLES: dict[str, tuple[str, str]] = {
    "text": ("foreground", ""), "dim": ("muted", ""), "strong": ("", "bold"), "head": ("muted", "bold"), "axis": ("muted", ""),
    "cursor": ("", "bold"), "mark": ("", "bold"), "hit": ("", "underline bold"), "here": ("", "reverse bold"),
    "bad": ("bad", "bold"), "warn": ("warn", ""), "good": ("good", ""), "note": ("muted", ""), "live": ("state-running", ""),
    "key": ("primary", ""), "string": ("good", ""), "number": ("state-scheduled", ""), "literal": ("warn", ""),
    "code": ("foreground", ""), "p50": ("state-running", ""), "p95": ("warn", ""), "p99": ("bad", ""), "paused": ("warn", ""),
    **{state: (f"state-{state}", "bold" if state == "failed" else "") for state in WORDS},
}  # fmt: skip
"""A run of text names one of these: the theme's variable of its colour, and how it is written. Any other name is drawn as "text".

They are no component classes of Textual's, since it would look up thirty of these for each widget whenever a screen is styled:
that was half of what the first paint cost."""
GROUNDS = {"mark": "marked"}
"""Those that have a ground of their own: the theme's variable of it."""

Run = tuple[str, str]
Runs = Sequence[Run]
"""Pieces of a line, each with the name of its style."""


class Brush:
    """The styles of one widget, looked up once until the theme changes. The widget's ``notify_style_update`` calls ``forget``."""

    __slots__ = ("_faded", "_styles", "_widget", "generation")

    def __init__(self, widget: Widget) -> None:
        self._widget = widget
        self._styles: dict[tuple[str, bool, bool], Style] = {}
        self._faded = False
        self.generation = 0
        """Rises when all styles may be others: part of the key under which a strip is kept."""

    @property
    def faded(self) -> bool:
        """Whether all is drawn dim: what is shown is no longer sure."""
        return self._faded

    @faded.setter
    def faded(self, faded: bool) -> None:
        if faded != self._faded:
            self._faded = faded
            self.forget()
            self._widget.refresh()

    def forget(self) -> None:
        """Look all styles up anew."""
        self._styles.clear()
        self.generation += 1

    def style(self, name: str, *, reverse: bool = False, struck: bool = False) -> Style:
        """The full style of a name. ``reverse``: foreground and background change places, and back where the style has them so already."""
        found = self._styles.get((name, reverse, struck))
        if found is None:
            found = self._widget.rich_style
            if name in STYLES:
                found += self._named(name)
            if reverse:
                found += Style(reverse=not found.reverse)
            if struck:
                found += Style(strike=True, dim=True)
            if self._faded:
                found += Style(dim=True)
            self._styles[(name, reverse, struck)] = found
        return found

    def _named(self, name: str) -> Style:
        variables = self._widget.app.theme_variables
        color, how = STYLES[name]
        ground = GROUNDS.get(name)
        return Style.parse(how) + Style(
            color=Color.parse(variables[color]).rich_color if color else None,
            bgcolor=Color.parse(variables[ground]).rich_color if ground else None,
        )

    def strip(self, runs: Runs, width: int, *, reverse: bool = False, struck: bool = False) -> Strip:
        """One line of ``width`` cells: the runs, cut or filled with blanks at the end. ``reverse``: it is the line of the cursor."""
        named = [(text, uncoloured(name) if reverse else name) for text, name in fitted(runs, width)]
        return Strip([Segment(text, self.style(name, reverse=reverse, struck=struck)) for text, name in named], width)


def uncoloured(name: str) -> str:
    """The style instead of this one in the line of the cursor: in reverse each colour would be a ground of its own, a patchwork."""
    return "text" if STYLES.get(name, ("", ""))[0] else name


def fitted(runs: Iterable[Run], width: int, *, right: bool = False, more: str = "…") -> list[Run]:
    """The runs in exactly ``width`` cells; ``right``: the blanks stand before them. Neighbours of one style are joined."""
    found: list[Run] = []
    left = width
    for text, name in runs:
        if left <= 0:
            if text and found:  # something is cut off here: say so in the last cell
                last, its = found[-1]
                found[-1] = (clip(last + text, cells(last), more), its)
            break
        piece = clip(text, left, more)
        left -= cells(piece)
        if found and found[-1][1] == name:
            found[-1] = (found[-1][0] + piece, name)
        elif piece:
            found.append((piece, name))
    if left > 0:
        return [(" " * left, "text"), *found] if right else [*found, (" " * left, "text")]
    return found

"""What comes up over a screen and goes by itself: a toast, and the notice that the terminal is too small.

For: ``Toast`` (what an action did, what failed, whether it can be undone) and ``TooSmall``.
Not for: questions (confirm), the connection's state (topbar).
Runs in: the monitor, on Textual.
Promises: its text is never parsed; the newest toast replaces the one before.
"""

from __future__ import annotations

from textual.content import Content
from textual.widget import Widget

LEAST = (60, 16)
"""Columns and rows below which only a notice is shown."""


class Toast(Widget, can_focus=False):
    """One message over the lower right corner. Shown by the application, for so long as it thinks right."""

    ALLOW_SELECT = False

    def __init__(self) -> None:
        super().__init__()
        self._text, self._style = "", ""

    def say(self, text: str, style: str = "") -> None:
        """Show ``text``, or nothing if it is empty."""
        self._text, self._style = text, style
        self.display = bool(text)
        self.refresh(layout=True)

    def render(self) -> Content:
        return Content.styled(self._text, self._style)


class TooSmall(Widget, can_focus=False):
    """Covers a screen that is smaller than ``LEAST`` (the style sheet says when)."""

    ALLOW_SELECT = False

    def __init__(self) -> None:
        super().__init__()
        self._figures = ""

    def tell(self, figures: str) -> None:
        """The headline numbers, in a line each."""
        if figures != self._figures:
            self._figures = figures
            if self.display:
                self.refresh()

    def render(self) -> Content:
        columns, rows = self.app.size
        notice = f"tq monitor needs {LEAST[0]} by {LEAST[1]}, this is {columns} by {rows}"
        return Content.assemble((notice, "bold"), "\n", self._figures)

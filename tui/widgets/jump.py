"""Jump letters: one on each pane that can have the focus; its key goes there.

For: ``Jump``, over a screen of several panes.
Not for: going from screen to screen (digits), from row to row (the lists).
Runs in: the monitor, on Textual.
Promises: one key closes it, whichever it is, and only a letter that is shown moves the focus.
"""

from __future__ import annotations

from collections.abc import Sequence

from textual import events
from textual.app import ComposeResult
from textual.screen import ModalScreen
from textual.widget import Widget
from textual.widgets import Static

LETTERS = "asdfghjklqwertyuiopzxcvbnm"
"""Those under the fingers first."""


def panes_of(chain: Sequence[Widget]) -> list[Widget]:
    """Of what can have the focus that of which something is seen."""
    return [one for one in chain if one.region.area][: len(LETTERS)]


class Jump(ModalScreen[None]):
    """The letters, over the screen whose ``panes`` they lead to."""

    AUTO_FOCUS = ""

    def __init__(self, panes: Sequence[Widget]) -> None:
        super().__init__()
        self._panes = dict(zip(LETTERS, panes, strict=False))

    def compose(self) -> ComposeResult:
        self._stood = self.app.size
        for letter, pane in self._panes.items():
            mark = Static(f" {letter} ", classes="jump", markup=False)
            mark.styles.offset = pane.region.offset
            yield mark

    def on_key(self, event: events.Key) -> None:
        event.stop()
        event.prevent_default()
        self.dismiss()
        if event.character and (pane := self._panes.get(event.character)) is not None:
            pane.screen.set_focus(pane)

    def on_resize(self) -> None:
        if self.is_current and self.app.size != self._stood:
            self.dismiss()  # what they stood on is elsewhere

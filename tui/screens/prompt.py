"""The ``:`` line over the foot of a screen.

For: typing a command, completing it, and finding earlier ones again.
Not for: what a line means (command), what it does (the action).
Runs in: the monitor, on Textual.
Promises: a line that is not understood stays, with what was expected above it; escape changes nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from textual import events
from textual.app import ComposeResult
from textual.containers import Horizontal, Vertical
from textual.screen import ModalScreen
from textual.widgets import Input

from tui.command import complete, read
from tui.widgets.bars import Line, Piece

if TYPE_CHECKING:
    from tui.app import MonitorApp


def _common(choices: list[str]) -> str:
    """What all of them begin with."""
    first, last = min(choices), max(choices)
    return first[: next((at for at, one in enumerate(first) if last[at : at + 1] != one), len(first))]


SHOWN = 8
"""Choices that are shown above the line."""


class Prompt(ModalScreen[None]):
    """The line, and above it what may come next."""

    AUTO_FOCUS = "#command"

    def __init__(self) -> None:
        super().__init__()
        self._choices: list[str] = []
        self._at = -1  # the choice that tab has put in, or the place in the history
        self._typed = ""

    @property
    def _monitor(self) -> MonitorApp:
        return cast("MonitorApp", self.app)

    def compose(self) -> ComposeResult:
        with Vertical(id="prompt"):
            yield Line(id="choices")
            with Horizontal(id="prompt-line"):
                colon = Line(id="colon")
                colon.show([Piece(":", "bold $primary")])
                yield colon
                yield Input(id="command", compact=True, select_on_focus=False)

    def on_mount(self) -> None:
        self.query_one(Input).cursor_blink = False
        self._offer("")

    def _offer(self, text: str) -> None:
        self._typed = text
        self._choices = complete(text, self._monitor.registry, self._monitor.context())
        self._at = -1
        self._show()

    def _show(self) -> None:
        first = max(self._at - SHOWN + 1, 0)
        pieces = [Piece(" ")]
        for at, choice in enumerate(self._choices[first : first + SHOWN], first):
            pieces += [Piece(f" {choice} ", "reverse" if at == self._at else "$muted"), Piece(" ")]
        more = len(self._choices) - first - SHOWN
        self.query_one("#choices", Line).show(pieces, [Piece(f"{more} more ", "$muted")] if more > 0 else [])

    def on_input_changed(self, event: Input.Changed) -> None:
        if self._at < 0 or event.value != self._choices[self._at]:
            self._offer(event.value)

    def on_input_submitted(self, event: Input.Submitted) -> None:
        self._take(event.value)

    def _take(self, text: str) -> None:
        """Carry out the line, or say what was expected."""
        monitor = self._monitor
        if not text.strip():
            self.dismiss()
            return
        try:
            action, words = read(text, monitor.registry, monitor.context())
        except ValueError as error:
            self.query_one("#choices", Line).show([Piece(f" {error}", "bold $bad")])
            return
        monitor.memory.command(text.strip())
        self.dismiss()
        self.app.call_later(monitor.carry_out, action, words, told=True)

    def on_key(self, event: events.Key) -> None:
        line = self.query_one(Input)
        if event.key == "escape":
            self.dismiss()
        elif event.key in ("tab", "shift+tab"):
            if self._at < 0 or line.value != self._choices[self._at]:
                self._offer(line.value)  # the last key may be ahead of the message that tells of it
            if not self._choices:
                return
            common = _common(self._choices)
            if self._at < 0 and len(common) > len(self._typed):
                line.value = common
            else:
                self._at = (self._at + (1 if event.key == "tab" else -1)) % len(self._choices)
                line.value = self._choices[self._at]
                self._show()
            line.cursor_position = len(line.value)
        elif event.key in ("up", "down"):
            self._earlier(-1 if event.key == "up" else 1)
        elif event.key == "enter":  # this and the next: whoever types fast is ahead of the focus
            self._take(line.value)
        elif event.is_printable and event.character:
            line.value += event.character
            line.cursor_position = len(line.value)
        else:
            return
        event.stop()
        event.prevent_default()

    def _earlier(self, step: int) -> None:
        """A line that was typed before."""
        typed, line = self._monitor.memory.kept.commands, self.query_one(Input)
        if not typed:
            return
        here = typed.index(line.value) if line.value in typed else len(typed)
        at = min(max(here + step, 0), len(typed))
        line.value = typed[at] if at < len(typed) else ""
        line.cursor_position = len(line.value)

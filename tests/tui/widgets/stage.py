"""An application with one widget on it, in the monitor's looks, for tests of widgets by themselves."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from textual.app import App, ComposeResult
from textual.pilot import Pilot
from textual.widget import Widget

import tui
from tui.themes import DEFAULTS, THEMES, StyleSheet


class Stage(App[None]):
    """``told``: the messages of the widget, in their order."""

    CSS_PATH = Path(tui.__file__).parent / "monitor.tcss"

    def __init__(self, *widgets: Widget) -> None:
        super().__init__()
        self.animation_level = "none"
        self._widgets = widgets
        self.told: list[Any] = []
        for theme in THEMES:
            self.register_theme(theme)
        self.theme = "tq-dark"
        self.stylesheet = StyleSheet(variables=self.get_css_variables())

    def get_theme_variable_defaults(self) -> dict[str, str]:
        return dict(DEFAULTS)

    def compose(self) -> ComposeResult:
        yield from self._widgets

    def on_mount(self) -> None:
        self._widgets[0].focus()

    async def _on_message(self, message: Any) -> None:
        if type(message).__module__.startswith("tui."):
            self.told.append(message)
        await super()._on_message(message)

    @property
    def lines(self) -> list[str]:
        """What is on the screen, without blanks at the ends of lines."""
        return [strip.text.rstrip() for strip in self.screen._compositor.render_strips(self.size)]


def strips_of(widget: Widget) -> list[Any]:
    """The strips that a widget gives for its lines now."""
    return [widget.render_line(y) for y in range(widget.size.height)]


async def rest(pilot: Pilot[None], times: int = 3) -> None:
    """Let messages, workers and refreshes come to rest."""
    for _ in range(times):
        await pilot.pause()

"""The palette: everything that can be done here and now, found by a part of its name.

For: ``open_palette``.
Not for: which actions there are (actions), the ``:`` line (prompt).
Runs in: the monitor, on Textual.
Promises: it offers what applies and is allowed, with the keys that do the same; nothing in it is parsed as markup.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, cast

from textual.command import CommandPalette, DiscoveryHit, Hit, Hits, Provider
from textual.content import Content
from textual.widgets import Input

from tui.actions import Action, shown_keys

if TYPE_CHECKING:
    from tui.app import MonitorApp


class ActionProvider(Provider):
    """The registry, as the palette asks for it."""

    def _offered(self) -> list[tuple[str, Action, str]]:
        monitor = cast("MonitorApp", self.app)
        context = monitor.context()
        here = context.screen.title_id if context.screen is not None else ""
        found = [action for action in monitor.registry.on(here) if action.available(context) and action.takes[:1] in ("", "[")]
        themes = [("Theme: " + name, monitor.registry["set"], f"theme {name}") for name in sorted(monitor.available_themes)]
        views = [(f"View: {name}", monitor.registry["view"], name) for name in sorted(monitor.memory.kept.views)]
        return [(action.title_in(context), action, "") for action in found] + views + themes

    def _help(self, action: Action) -> str:
        keys = action.by or shown_keys(cast("MonitorApp", self.app).keys_by_id.get(action.id, action.keys))
        return f"{keys}  {action.help}" if keys else action.help

    async def discover(self) -> Hits:
        for title, action, words in self._offered():
            if not words:
                run = partial(cast("MonitorApp", self.app).carry_out, action, words)
                yield DiscoveryHit(Content(title), run, text=title, help=self._help(action))

    async def search(self, query: str) -> Hits:
        matcher = self.matcher(query)
        for title, action, words in self._offered():
            score = matcher.match(title)
            if score > 0:
                run = partial(cast("MonitorApp", self.app).carry_out, action, words)
                yield Hit(score, matcher.highlight(title), run, text=title, help=self._help(action))


class Palette(CommandPalette):
    """The palette with a cursor that stands still, as in every other line of the monitor."""

    def on_mount(self) -> None:
        self.query_one(Input).cursor_blink = False


def open_palette(app: MonitorApp) -> None:
    """Open it over the screen in front."""
    app.push_screen(Palette(providers=[ActionProvider], placeholder="What do you want to do?"))

"""The help: every key and every command of the screen it was opened on, made from the registry.

For: ``HelpScreen``.
Not for: what is said of an action (beside the action).
Runs in: the monitor, on Textual.
Promises: it lists all actions of that screen and all that are everywhere, with the keys as they are now and the ids for the key map.
"""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING, Any, ClassVar, cast

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import VerticalScroll
from textual.content import Content
from textual.screen import ModalScreen
from textual.widgets import Static

from tui.actions import Action, shown_keys

if TYPE_CHECKING:
    from tui.app import MonitorApp

MOVING = (
    ("j k, arrows", "move; h l sideways or to the next tab"),
    ("g G, home end", "to the first, to the last"),
    ("^d ^u, pgdn pgup", "half a page, a page"),
    ("tab, shift+tab", "the next pane, the one before"),
    ("mouse", "click selects, a second click opens; headers sort; keys and names of screens can be clicked; shift-drag selects text"),
)
"""How one moves inside lists and panes; their widgets bind these."""
BOX = 100
"""Cells that the box has in width where there is room for them, as the style sheet says."""
INDENT = 28
"""Cells before the words of an action, which stand under each other."""


class HelpScreen(ModalScreen[None]):
    """A page of help over the screen in front."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape,q,?,f1", "dismiss", "Close")]

    @property
    def _monitor(self) -> MonitorApp:
        return cast("MonitorApp", self.app)

    def compose(self) -> ComposeResult:
        with VerticalScroll(id="help"):
            yield Static(self.text(), id="help-text", markup=False)

    def on_resize(self) -> None:
        self.query_one("#help-text", Static).update(self.text())

    def on_mount(self) -> None:
        box = self.query_one("#help", VerticalScroll)
        box.border_title, box.border_subtitle = "Help", "esc Close"

    def text(self) -> Content:
        """All of it."""
        monitor = self._monitor
        front = monitor.front
        here = front.title_id if front is not None else ""
        actions = monitor.registry.on(here)
        own = [action for action in actions if action.screen]
        groups = [(front.name_long if front is not None else "", own)] if own else []
        for action in actions:
            if not action.screen and action.group not in [name for name, _ in groups]:
                groups.append((action.group, [one for one in actions if not one.screen and one.group == action.group]))
        parts: list[Any] = []
        for name, members in groups:
            parts += [(f"{name}\n", "bold $primary"), *(part for action in members for part in self._lines(action)), "\n"]
        parts += [("Moving about\n", "bold $primary")]
        for keys, words in MOVING:
            parts += [(f"  {keys:{INDENT - 2}}", "bold"), self._wrapped(words, INDENT, INDENT)]
        names = ", ".join(f"{shown_keys(self._keys(action))}\xa0{action.id}" for action in actions if action.keys)  # never parted
        parts += [("\nOther keys\n", "bold $primary"), "  In [monitor.keys] of tq.toml, by these names:\n"]
        parts += [(f"  {self._wrapped(names, 2, 2)}".replace("\xa0", " "), "$muted")]
        return Content.assemble(*parts)

    def _keys(self, action: Action) -> str:
        return action.by or shown_keys(self._monitor.keys_by_id.get(action.id, action.keys))

    def _lines(self, action: Action) -> list[Any]:
        word = f":{action.words[0]} {action.takes}".rstrip() if action.words else ""
        key, word = f"  {self._keys(action):9} ", f"{word:15} "
        return [(key, "bold"), (word, "$muted"), self._wrapped(action.help, len(key + word), INDENT)]

    def _wrapped(self, words: str, begins: int, indent: int) -> str:
        """Words behind so many cells of their first line, further lines under each other, in what the box has within its edges."""
        width = min(BOX, self.app.size.width) - 6
        lines = textwrap.fill(" " * begins + words, width, subsequent_indent=" " * indent, break_on_hyphens=False)
        return f"{lines[begins:]}\n"

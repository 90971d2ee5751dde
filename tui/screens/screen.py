"""What every screen is: four fixed lines, a banner when something is wrong, and between them what is its own.

For: ``MonitorScreen``, which the screens of the digits and the pages behind them derive from.
Not for: dialogs (widgets), when a screen is told to repaint (app).
Runs in: the monitor, on Textual.
Promises: line 1 tells identity and connection, line 2 the screens, the last but one the status, the last the keys that work now;
bindings are made from ``ACTIONS`` and nothing else.

A screen gives: ``ACTIONS``, ``wants`` (its questions), ``body`` (its widgets), ``apply`` (repaint what changed) and ``status``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, tzinfo
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar, cast

from textual import events
from textual.app import ComposeResult
from textual.binding import Binding
from textual.containers import Vertical
from textual.content import Content
from textual.screen import Screen
from textual.widget import Widget

from tui.actions import Action, Context
from tui.widgets import topbar
from tui.widgets.bars import Line, Piece, key_pieces
from tui.widgets.charts import Drawn
from tui.widgets.panes import TextPane
from tui.widgets.table import PagedTable
from tui.widgets.toast import Toast, TooSmall

if TYPE_CHECKING:
    from tui.app import MonitorApp
    from tui.refresh import Want


def entitle(widget: Widget, title: str, subtitle: str = "") -> None:
    """Give a pane its titles, if they are others: to set one draws the whole pane again. They are shown as they are, never parsed."""
    titles = Content(title), Content(subtitle)
    if (widget.border_title or "", widget.border_subtitle or "") != tuple([one.markup for one in titles]):
        widget.border_title, widget.border_subtitle = titles


def explain(table: PagedTable, *lines: tuple[str, str]) -> None:
    """Say why a list is empty: lines of text, each with the name of its style."""
    wanted = tuple([line] for line in lines)
    if table.empty != wanted:
        table.empty = wanted
        table.refresh()


def binding(action: Action) -> Binding:
    """The binding of an action; its id is what the key map of the settings file names."""
    return Binding(
        action.keys,
        f"app.do({action.id!r})",
        action.title,
        show=bool(action.footer),
        tooltip=action.help,
        id=action.id,
        priority=action.priority,
    )


class MonitorScreen(Screen[Any]):
    """A screen of the monitor. ``title_id`` names it in the registry; ``number``: the digit that leads to it, "" for a page."""

    title_id: ClassVar[str] = ""
    name_long: ClassVar[str] = ""
    name_short: ClassVar[str] = ""
    number: ClassVar[str] = ""
    ACTIONS: ClassVar[tuple[Action, ...]] = ()
    AUTO_FOCUS = ""
    _zone: tzinfo | None = UTC

    def __init_subclass__(cls, **rest: Any) -> None:
        cls.BINDINGS = [binding(action) for action in cls.__dict__.get("ACTIONS", ()) if action.keys]
        super().__init_subclass__(**rest)

    @property
    def monitor(self) -> MonitorApp:
        """The application, with what it knows."""
        return cast("MonitorApp", self.app)

    # what a screen says of itself

    def wants(self) -> Mapping[str, Want]:
        """Its questions to the daemon, by topic."""
        return {}

    def body(self) -> ComposeResult:
        """Its own widgets, between the lines."""
        yield from ()

    def apply(self, dirty: set[str]) -> None:
        """Repaint what these topics changed; "tick" is among them each second, for ages, and "all" at first."""

    def status(self) -> Sequence[Piece]:
        """Its part of the status line."""
        return ()

    def show_item(self, kind: str, name: str) -> bool:
        """Put the cursor on a queue, a task, ... ; False if it is not here."""
        return False

    @property
    def can_step_back(self) -> bool:
        """Whether escape has something to undo on the screen itself, as a filter."""
        return False

    def step_back(self) -> None:
        """Undo that."""

    # what it has that draws lines of its own

    @cached_property
    def tables(self) -> tuple[PagedTable, ...]:
        """Its lists. Looked for once, since to ask the whole screen each second was a fifth of what one at rest cost."""
        return tuple(self.query(PagedTable))

    @cached_property
    def _drawings(self) -> tuple[PagedTable | Drawn | TextPane, ...]:
        return (*self.tables, *self.query(Drawn), *self.query(TextPane))

    def fade(self) -> None:
        """Draw dim what is no longer sure."""
        standing = self.monitor.feed.standing
        faded = not standing.phase.connected and bool(standing.heard_ms)
        for drawn in self._drawings:
            drawn.brush.faded = faded

    # the lines

    def compose(self) -> ComposeResult:
        yield Line(id="top")
        yield Line(id="places")
        yield Line(id="banner", keeps_right=True)
        with Vertical(id="body"):
            yield from self.body()
        yield Line(id="status")
        yield Line(id="keys")
        yield Toast()
        yield TooSmall()

    def on_mount(self) -> None:
        self.flush({"all"})

    def on_screen_resume(self) -> None:
        self.monitor.entered(self)

    def flush(self, dirty: set[str]) -> None:
        """Repaint lines and body; the application calls this at most four times a second."""
        if self._zone is not self.monitor.zone:
            self._zone = self.monitor.zone
            for table in self.tables:  # rows that are the same read differently
                table.brush.forget()
                table.refresh()
        self.lines()
        self.apply(dirty)

    def lines(self) -> None:
        """Repaint the fixed lines, where they changed."""
        monitor, width = self.monitor, self.size.width
        view = monitor.view()
        self.query_one("#top", Line).show(*topbar.identity(view, width))
        self.query_one("#places", Line).show(topbar.places(self.place, monitor.places(), width))
        text, keys = topbar.banner(view)
        line = self.query_one("#banner", Line)
        line.display = bool(text)
        line.show([Piece(f" {text}", "bold reverse")], [Piece(f"  {keys} ", "bold reverse")])
        self.set_class(not view.standing.phase.connected and bool(view.standing.heard_ms), "-cut-off")
        self.query_one("#status", Line).show([Piece(" "), *monitor.jobs(), *self.status()])
        context = Context(monitor, self)
        self.query_one("#keys", Line).show(key_pieces(monitor.registry.on(self.title_id), context, monitor.keys_by_id, width))
        self.query_one(TooSmall).tell(monitor.headline())

    @property
    def place(self) -> str:
        """The screen of a digit that this one is, or belongs to."""
        return self.title_id

    def on_descendant_focus(self) -> None:
        self.lines()  # what can be done depends on what has the focus

    def on_key(self, event: events.Key) -> None:
        self.monitor.passed.append((event, self))  # the application sees to it that the key is not lost if another is in front by then

    def on_resize(self) -> None:
        if self.is_mounted:
            self.lines()

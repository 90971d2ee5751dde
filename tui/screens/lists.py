"""What the screens of workers, schedules and events have in common: a list in an order, panels beside it, and why it is empty.

For: ``ListScreen``, ``ListPage`` (a list behind one), ``Card`` (lines of text in a pane), and reading the short rows of tasks that
``rows`` gives.
Not for: what is listed (the screens themselves), lists of tasks (PagedSource).
Runs in: the monitor, on Textual.
Promises: nothing is asked for because time passed only: what the daemon pushes asks for the list again, and once in a while somebody
looks at what it does not push; an order is chosen by key as well as by mouse; an empty list says why, and what to do.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from operator import itemgetter
from typing import Any, ClassVar

from textual.app import ComposeResult

from tq.query.terms import written
from tui.actions import Context
from tui.paging import ListSource
from tui.refresh import Want
from tui.screens.screen import explain
from tui.screens.sorting import SortedScreen
from tui.state import Body
from tui.widgets.bars import Line, Piece
from tui.widgets.charts import Drawn
from tui.widgets.painting import Run, Runs
from tui.widgets.panes import TextPane
from tui.widgets.table import Column, PagedTable

SOON_S, IDLE_S = 1.0, 10.0
"""How often something is asked for after the daemon has told of a change, and while it tells of none."""
WAITING, ABSENT = "Waiting for the daemon's answer.", "Nothing has been read yet: no daemon answers."


@dataclass(frozen=True, slots=True)
class Brief:
    """A task as ``rows`` gives it: what a line about it needs. Instants in ms, 0 for none."""

    id: int
    state: str
    type: str
    queue: str
    attempt: int
    started_at: int
    finished_at: int
    progress: float | None
    error: str
    label: str
    suspended: bool


def briefs(rows: Iterable[Any]) -> dict[int, Brief]:
    """The tasks among these rows, by id; those that are gone are not."""
    found = {}
    for row in rows:
        if row is not None:
            found[row[0]] = Brief(
                row[0], row[1], row[2], row[3], row[5], row[9], row[10], row[11], row[12] or "", row[13] or "", bool(row[15])
            )
    return found


class Card(Drawn):
    """A pane of lines."""

    def __init__(self, **rest: Any) -> None:
        super().__init__(**rest)
        self._text: Sequence[Runs] = ()

    def show(self, lines: Sequence[Runs]) -> None:
        """These lines from now on; those that there is no room for are not seen."""
        self._text = lines
        self._remake()

    def _make(self, width: int, height: int) -> list[list[Run]]:
        return [list(line) for line in self._text[:height]]


class ListScreen(SortedScreen):
    """A screen with one list in front. ``TOPIC`` is what it shows."""

    TOPIC: ClassVar[str]

    def __init__(self) -> None:
        super().__init__()
        self._sought = ""

    @property
    def here(self) -> Body | None:
        """The row under the cursor."""
        row = self.table.cursor_row if self.is_mounted else None
        return row if isinstance(row, dict) else None

    @property
    def chosen(self) -> list[Body]:
        """The rows that a verb is about: those marked, or else the one under the cursor."""
        table = self.table
        entries = [table.source.entry(place) for place in range(table.source.total)]
        rows = [entry.row for entry in entries if entry is not None and (table.all_marked or entry.key in table.marks)]
        return rows or ([self.here] if self.here is not None else [])

    @property
    def chosen_names(self) -> list[str]:
        """Their names."""
        return [str(row[self.KEY]) for row in self.chosen]

    def stood(self) -> object:
        """What most answers depend on: the daemon's totals, which it pushes when anything has happened."""
        return (self.monitor.known.totals,)

    def told(self) -> None:
        """What each screen does first: tell the time, show what is no longer sure as such."""
        monitor = self.monitor
        seconds = monitor.clock.ticks()
        for table in self.tables:
            table.tick(seconds)
        self.fade()

    def explained(self, *empty: tuple[str, str]) -> None:
        """Say in an empty list why it is: ``empty``, or that nothing is known yet."""
        known = self.monitor.known
        if self.TOPIC in known.lacking:
            explain(self.table, ("This daemon does not tell it:", "text"), (known.lacking[self.TOPIC], "dim"))
        elif known.get(self.TOPIC) is None:
            explain(self.table, (WAITING if self.monitor.feed.standing.phase.connected else ABSENT, "dim"))
        else:
            explain(self.table, *empty)

    def unknown(self) -> Sequence[Piece]:
        """What the status line says while nothing is known; nothing once something is."""
        known = self.monitor.known
        if self.TOPIC in known.lacking:
            return [Piece(f"this daemon does not tell of its {self.TOPIC}", "$muted")]
        return [] if known.get(self.TOPIC) is not None else [Piece(f"waiting for the {self.TOPIC}", "$muted")]

    def seek(self, key: str) -> bool:
        """Put the cursor on this row; while nothing is known yet, as soon as it is. False: it is not here."""
        found = self.table.select(key)
        self._sought = "" if found or self.monitor.known.get(self.TOPIC) is not None else key
        if found:
            self.table.focus()
        return found or bool(self._sought)

    def sought(self) -> None:
        """The rows have come: see whether one is wanted."""
        if self._sought:
            self.seek(self._sought)


class ListPage(ListScreen):
    """A list behind the screen ``BEHIND``, over a pane about the row under the cursor, whose tasks the filter ``TERM`` finds.

    ``MOST`` rows are asked for, at the most every ``EVERY_S`` seconds.
    """

    BEHIND: ClassVar[str]
    TERM: ClassVar[str]
    MOST: ClassVar[int]
    EVERY_S: ClassVar[float] = SOON_S

    def __init__(self) -> None:
        super().__init__()
        self._source = ListSource(itemgetter(self.KEY))

    @property
    def place(self) -> str:
        return self.BEHIND.lower()

    @property
    def rows(self) -> Sequence[Body]:
        """What the daemon told last."""
        return self.monitor.known.rows(self.TOPIC, self.TOPIC)

    @property
    def row(self) -> Body | None:
        """The one under the cursor, as the daemon told it."""
        here = self.here
        return next((row for row in self.rows if here is not None and row[self.KEY] == here[self.KEY]), None)

    def wants(self) -> Mapping[str, Want]:
        return {self.TOPIC: Want(self.TOPIC, {"limit": self.MOST}, every_s=self.EVERY_S, of=self.stood, rest_s=IDLE_S)}

    def body(self) -> ComposeResult:
        glyphs = self.monitor.glyphs
        yield Line(id="crumb")
        yield PagedTable(self.columns(), self._source, glyphs=glyphs, flashes=self.monitor.flashes, id=self.LIST)
        yield TextPane(glyphs=glyphs, wrap=True, id=f"{self.TERM}-pane", classes="pane")

    def columns(self) -> list[Column]:
        """Of the list."""
        raise NotImplementedError

    def about(self, pane: TextPane) -> None:
        """Fill the pane, about the row under the cursor or about none."""
        raise NotImplementedError

    def tell(self) -> None:
        """Paint the pane, and the way back."""
        self.about(self.query_one(f"#{self.TERM}-pane", TextPane))
        self.query_one("#crumb", Line).show([Piece(f" {self.BEHIND} > ", "$muted", "app.do('back')"), Piece(self.name_long, "bold")])

    def on_paged_table_cursor_moved(self) -> None:
        self.tell()
        self.lines()

    def on_paged_table_opened(self) -> None:
        self.tasks()

    def tasks(self) -> None:
        """Its tasks where tasks are listed."""
        if self.here is not None:
            self.monitor.open_place("filter", f"{self.TERM}:{written(str(self.here[self.KEY]))}")


def has_row(context: Context) -> bool:
    """Whether there is a row to do something with."""
    return isinstance(context.screen, ListScreen) and context.screen.is_mounted and context.screen.here is not None

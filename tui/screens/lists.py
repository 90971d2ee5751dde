"""What the screens of workers, schedules and events have in common: a list in an order, panels beside it, and why it is empty.

For: ``ListScreen`` and ``Card`` (lines of text in a pane), and reading the short rows of tasks that ``rows`` gives.
Not for: what is listed (the screens themselves), lists of tasks (PagedSource).
Runs in: the monitor, on Textual.
Promises: nothing is asked for because time passed only: what the daemon pushes asks for the list again, and once in a while somebody
looks at what it does not push; an order is chosen by key as well as by mouse; an empty list says why, and what to do.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from tui.actions import Context
from tui.screens.screen import explain
from tui.screens.sorting import SortedScreen
from tui.state import Body
from tui.widgets.bars import Piece
from tui.widgets.charts import Drawn
from tui.widgets.painting import Run, Runs

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


def has_row(context: Context) -> bool:
    """Whether there is a row to do something with."""
    return isinstance(context.screen, ListScreen) and context.screen.is_mounted and context.screen.here is not None

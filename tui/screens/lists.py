"""What the screens of workers, schedules and events have in common: a list in an order, panels beside it, and why it is empty.

For: ``ListScreen`` and ``Card`` (lines of text in a pane), and reading the short rows of tasks that ``rows`` gives.
Not for: what is listed (the screens themselves), lists of tasks (PagedSource).
Runs in: the monitor, on Textual.
Promises: nothing is asked for because time passed only: what the daemon pushes asks for the list again, and once in a while somebody
looks at what it does not push; an order is chosen by key as well as by mouse; an empty list says why, and what to do.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from tui.actions import Action, Context
from tui.screens.screen import MonitorScreen, explain
from tui.state import Body
from tui.widgets.bars import Piece
from tui.widgets.charts import Drawn
from tui.widgets.painting import Run, Runs
from tui.widgets.table import PagedTable

IDLE_S = 10.0
"""How often something is asked for while the daemon tells of no change."""
WAITING, ABSENT = "Waiting for the daemon's answer.", "Nothing has been read yet: no daemon answers."
Orders = Mapping[str, Callable[[Body], Any]]


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


class ListScreen(MonitorScreen):
    """A screen with one list in front. ``LIST`` is the table's id, ``TOPIC`` what it shows, ``ORDERS`` its columns that rows can be
    ordered by; ``order`` the one that is, and whether downwards."""

    LIST: ClassVar[str]
    TOPIC: ClassVar[str]
    KEY: ClassVar[str] = "name"
    """What names a row."""
    ORDERS: ClassVar[Orders] = {}
    STIRS: ClassVar[tuple[str, ...]] = ()
    """Topics that are asked for again soon after something happened."""

    def __init__(self) -> None:
        super().__init__()
        self.order = (next(iter(self.ORDERS), ""), False)
        self._sought = ""

    @property
    def table(self) -> PagedTable:
        return self.query_one(f"#{self.LIST}", PagedTable)

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

    def ordered(self, rows: Iterable[Body]) -> list[Body]:
        """The rows in the order that was chosen."""
        name, falling = self.order
        return sorted(rows, key=self.ORDERS[name], reverse=falling)

    def next_order(self) -> None:
        """By the next column."""
        names = list(self.ORDERS)
        self._order_by(names[(names.index(self.order[0]) + 1) % len(names)], False)

    def turn_order(self) -> None:
        """The other way round."""
        self._order_by(self.order[0], not self.order[1])

    def on_paged_table_sort_asked(self, event: PagedTable.SortAsked) -> None:
        if event.table.id == self.LIST and event.column in self.ORDERS:
            self._order_by(event.column, event.column == self.order[0] and not self.order[1])

    def _order_by(self, name: str, falling: bool) -> None:
        self.order = (name, falling)
        self.table.sorted_by(name, falling)
        self.flush({"all"})

    def on_mount(self) -> None:
        if self.ORDERS:
            self.table.sorted_by(*self.order)

    def told(self, dirty: set[str]) -> None:
        """What each screen does first: ask again, tell the time, show what is no longer sure as such."""
        monitor = self.monitor
        if "totals" in dirty:
            monitor.refresher.soon(*self.STIRS)
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


def order_actions(screen: str, group: str) -> tuple[Action, ...]:
    """What chooses the order of a screen's list."""
    return (
        Action(
            id=f"{screen}.sort", title="Sort", help="Order the list by the next column; a click on a title does the same.", keys="s",
            run=lambda context: context.screen.next_order(), screen=screen, words=("sort",), footer=45, group=group,
        ),
        Action(
            id=f"{screen}.turn", title="Turn the order", help="Order the list the other way round.", keys="I",
            run=lambda context: context.screen.turn_order(), screen=screen, words=("turn",), footer=0, group=group,
        ),
    )  # fmt: skip


def has_row(context: Context) -> bool:
    """Whether there is a row to do something with."""
    return isinstance(context.screen, ListScreen) and context.screen.is_mounted and context.screen.here is not None

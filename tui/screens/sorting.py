"""In which order a list that is all here stands, and how a person changes it.

For: ``Order``, and ``SortedScreen`` for the screens whose rows the daemon gives all at once, with ``sort_actions``.
Not for: views of tasks (the daemon sorts them), the sign at a column's title (widgets.table).
Runs in: the monitor, on Textual; ``Order`` is pure.
Promises: rows without a value stand last, whichever way round; rows that are alike stay in the order of their names; an order that
a person has chosen is there again in the monitor's next run.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any, ClassVar

from tui.actions import Action
from tui.screens.screen import MonitorScreen
from tui.state import Body
from tui.widgets.bars import Piece
from tui.widgets.table import PagedTable

Orders = Mapping[str, Callable[[Body], Any]]
"""Columns that a list can be ordered by, each with what is compared; None: the row has no value there."""


class Order:
    """By one of ``columns``, ``first`` at first. Those of ``rising`` begin with the smallest, the others with the greatest."""

    def __init__(self, columns: Orders, first: str, rising: Collection[str], name: str = "name") -> None:
        self.columns, self._rising, self._name = columns, frozenset(rising), name
        self.column, self.down = first, first not in self._rising

    def by(self, column: str) -> None:
        """By this column, or the other way round if it is so already; "" is the next one. ValueError: there is none such."""
        if column and column not in self.columns:
            raise ValueError(f"sort: expected one of {', '.join(self.columns)}, got {column!r}")
        if column == self.column:
            self.turn()
            return
        names = list(self.columns)
        self.column = column or names[(names.index(self.column) + 1) % len(names)]
        self.down = self.column not in self._rising

    def turn(self) -> None:
        """The other way round."""
        self.down = not self.down

    @property
    def written(self) -> str:
        """As the tasks' orders are written: a column, after a ``-`` if the greatest comes first."""
        return f"-{self.column}" if self.down else self.column

    def read(self, written: str) -> None:
        """The order that ``written`` names; nothing changes if there is none such here."""
        if (column := written.removeprefix("-")) in self.columns:
            self.column, self.down = column, written.startswith("-")

    def sorted(self, rows: Iterable[Body]) -> list[Body]:
        """The rows in this order."""
        value, named = self.columns[self.column], sorted(rows, key=lambda row: str(row[self._name]))
        with_value = [row for row in named if value(row) is not None]
        without = [row for row in named if value(row) is None]
        return sorted(with_value, key=value, reverse=self.down) + without


class SortedScreen(MonitorScreen):
    """A screen with one list in front, which can be ordered. ``LIST`` is the table's id, ``KEY`` what names a row, ``ORDERS`` its
    columns that rows can be ordered by, ``FIRST`` the one at first, and ``RISING`` those that begin with the smallest."""

    LIST: ClassVar[str]
    KEY: ClassVar[str] = "name"
    ORDERS: ClassVar[Orders] = {}
    FIRST: ClassVar[str] = ""
    RISING: ClassVar[tuple[str, ...]] = ()

    def __init__(self) -> None:
        super().__init__()
        self.order = Order(self.ORDERS, self.FIRST, self.RISING, self.KEY)

    @property
    def table(self) -> PagedTable:
        return self.query_one(f"#{self.LIST}", PagedTable)

    def on_mount(self) -> None:
        if self.ORDERS:
            self.order.read(self.monitor.memory.kept.orders.get(self.title_id, ""))
            self.table.sorted_by(self.order.column, self.order.down)
        super().on_mount()

    def sort(self, column: str) -> None:
        """By this column; "" is the next one. ValueError: there is none such."""
        self.order.by(column.strip())
        self._sorted()

    def invert(self) -> None:
        """The other way round."""
        self.order.turn()
        self._sorted()

    def _sorted(self) -> None:
        self.monitor.memory.order(self.title_id, self.order.written)
        self.table.sorted_by(self.order.column, self.order.down)
        self.flush({"all"})

    def on_paged_table_sort_asked(self, event: PagedTable.SortAsked) -> None:
        if event.table.id == self.LIST and event.column in self.ORDERS:
            self.sort(event.column)

    def sign(self) -> Piece:
        """The order, for the status line; a click chooses the next."""
        glyphs = self.monitor.glyphs
        sign = glyphs.falling if self.order.down else glyphs.rising
        return Piece(f"sort {self.order.column} {sign}", "$muted", f"app.do('{self.title_id}.sort')")


def sort_actions(screen: str, group: str) -> tuple[Action, ...]:
    """What chooses the order of a screen's list."""

    def lists(context: Any) -> bool:
        return isinstance(context.screen, SortedScreen)

    return (
        Action(
            id=f"{screen}.sort", title="Sort", help="Sort by the next column, or the one that is named; a click on a title does, too.",
            keys="s", run=lambda context: context.screen.sort(context.words), screen=screen, applies=lists, words=("sort",),
            takes="[COLUMN]", choices=lambda context: tuple(context.screen.order.columns), footer=45, group=group,
        ),
        Action(
            id=f"{screen}.invert", title="Turn the order round", help="Turn the order of the list round.", keys="I,f6",
            run=lambda context: context.screen.invert(), screen=screen, applies=lists, words=("invert",), footer=0, group=group,
        ),
    )  # fmt: skip

"""In which order a list that is all here stands, and how a person changes it.

For: ``Order``, for the screens whose rows the daemon gives all at once.
Not for: views of tasks (the daemon sorts them), the sign at a column's title (widgets.table).
Runs in: the monitor; pure.
Promises: rows without a value stand last, whichever way round; rows that are alike stay in the order of their names.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from tui.state import Body


class Order:
    """By one of ``columns``, the first at first. Those of ``rising`` begin with the smallest, the others with the greatest."""

    def __init__(self, columns: Sequence[str], first: str, rising: Sequence[str] = ("name",)) -> None:
        self.columns, self._rising = tuple(columns), frozenset(rising)
        self.column, self.down = first, first not in self._rising

    def by(self, column: str) -> None:
        """By this column, or the other way round if it is so already; "" is the next one. ValueError: there is none such."""
        if column and column not in self.columns:
            raise ValueError(f"sort: expected one of {', '.join(self.columns)}, got {column!r}")
        if column == self.column:
            self.turn()
            return
        self.column = column or self.columns[(self.columns.index(self.column) + 1) % len(self.columns)]
        self.down = self.column not in self._rising

    def turn(self) -> None:
        """The other way round."""
        self.down = not self.down

    def sorted(self, rows: Iterable[Body]) -> list[Body]:
        """The rows in this order; each has a ``name``."""
        named = sorted(rows, key=lambda row: str(row["name"]))
        with_value = [row for row in named if row[self.column] is not None]
        without = [row for row in named if row[self.column] is None]
        return sorted(with_value, key=lambda row: row[self.column], reverse=self.down) + without

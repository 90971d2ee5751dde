"""The orders in which a view may show what a filter finds.

For: ``view`` of the daemon, and whoever offers its orders: the command line, the monitor.
Not for: putting tasks into an order (views).
Runs in: every process that asks for a view.
Promises: pure; a text is an order, or a UsageError that names those there are.
"""

from __future__ import annotations

from typing import NamedTuple

from tq.errors import UsageError
from tq.query.terms import NAMES

SORTS = ("id", "state", "type", "queue", "priority", "attempt", "created", "due", "started", "finished", "run", "wait")
"""Fields that tasks may be sorted by."""


class Order(NamedTuple):
    """By this field, up or down; then by id the same way."""

    field: str
    descending: bool

    def __str__(self) -> str:
        return "-" * self.descending + self.field


def order_of(text: str, said: str = "sort") -> Order:
    """What ``run`` and ``-run`` mean; the other names of fields are understood. ``said``: what an error is about."""
    name = NAMES.get(text.removeprefix("-"))
    if name not in SORTS:
        raise UsageError(f"{said}: expected {', '.join(SORTS)}, or - before one for the reverse, got {text!r:.80}.")
    return Order(name, text.startswith("-"))

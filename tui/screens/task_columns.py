"""The columns of the list of tasks, and which of them are shown.

For: what stands in each cell of a row of a view.
Not for: drawing them (widgets.table), their order on the wire (tq.wire, ``page``).
Runs in: the monitor, on Textual.
Promises: a state is told by sign and word, and no cell by a colour alone; what grows with time is marked as such.
"""

from __future__ import annotations

from typing import Any

from tui.formats import age, duration
from tui.screens.screen import MonitorScreen
from tui.telling import of_tries
from tui.widgets.painting import Run
from tui.widgets.table import Column

SIDE_FROM = 100
"""Cells of the screen from which there is a pane beside the list."""

ID, STATE, TYPE, QUEUE, PRIORITY, ATTEMPT, RETRIES, CREATED, DUE, STARTED, FINISHED, PROGRESS, ERROR, LABEL, WORKER, SUSPENDED = range(16)
"""Places in a row of a view."""


def columns_of(screen: MonitorScreen) -> list[Column]:
    """All columns there are, in their order."""
    monitor = screen.monitor
    glyphs = monitor.glyphs

    def now() -> int:
        return monitor.clock.now_ms()

    def state(row: Any) -> list[Run]:
        if row[SUSPENDED]:
            return [(f"{glyphs.paused} pause", "paused")]
        share = f" {row[PROGRESS]:.0%}" if row[STATE] == "running" and row[PROGRESS] is not None else ""
        return [(glyphs.word(row[STATE]) + share, row[STATE])]

    def run(row: Any) -> list[Run]:
        if not row[STARTED]:
            return [("", "dim")]
        end = now() if row[STATE] == "running" else row[FINISHED]
        return [(duration(max(0, end - row[STARTED])) if end else "", "text")]

    def due(row: Any) -> list[Run]:
        ahead = row[DUE] - now()
        return [(f"+{duration(ahead)}" if ahead > 0 else "", "dim")]

    return [
        Column("id", "ID", 9, lambda row: [(str(row[ID]), "dim")]),
        Column("state", "STATE", 9, state),
        Column("type", "NAME", 12, lambda row: [(row[LABEL] if row[LABEL] and row[TYPE] == "shell" else row[TYPE], "text")]),
        Column("queue", "QUEUE", 8, lambda row: [(row[QUEUE], "text")]),
        Column("priority", "P", 1, lambda row: [(str(row[PRIORITY]), "dim")], right=True, shown_from=SIDE_FROM),
        Column("attempt", "TRY", 4, lambda row: [(of_tries(row[ATTEMPT], row[RETRIES]), "text")], right=True),
        Column("created", "AGE", 4, lambda row: [(age(now() - row[CREATED]), "dim")], right=True, ticks=True),
        Column("due", "DUE", 7, due, right=True, ticks=True),
        Column("run", "RUN", 6, run, right=True, ticks=True),
        Column("worker", "WORKER", 8, lambda row: [(row[WORKER] or "", "dim")], sorts=False),
        Column("error", "LAST ERROR", 0, lambda row: [(row[ERROR] or "", "dim")], sorts=False, least=10),
    ]


FIRST = ("id", "state", "type", "queue", "priority", "attempt", "created", "run", "error")
"""The columns that are shown until a person takes others."""

"""The screen of the dead letters: what failed for good, grouped by what went wrong.

For: the groups, and of the one under the cursor its newest tasks and the error of the newest.
Not for: what is done to them (dead_acts), what makes failures alike (the daemon).
Runs in: the monitor, on Textual.
Promises: the daemon looks through its failed tasks again only after their number has changed; a group keeps its cursor and its mark
while others come and go.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from operator import itemgetter
from typing import Any, ClassVar

from textual.app import ComposeResult
from textual.containers import Container

from tq.errors import TqError
from tui.actions import Action
from tui.formats import age, count, counted, day
from tui.paging import ListSource
from tui.refresh import Want
from tui.screens.dead_acts import ACTIONS, DeadActs
from tui.screens.screen import entitle, explain
from tui.screens.sorting import Orders, SortedScreen
from tui.state import Body
from tui.telling import of_tries
from tui.widgets.bars import Piece
from tui.widgets.painting import Run
from tui.widgets.panes import TextPane, TracebackPane
from tui.widgets.table import Column, PagedTable

REST_S = 0.15
MANY, EVERY_S, EVERY_MANY_S = 10_000, 2.0, 15.0
"""To group many failed tasks takes the daemon a while: from so many on it is asked less often."""
RESTS_S = 60.0
TOLD = 8
"""Newest tasks of a group that are listed."""
REST = "rest"
"""The key of the group that has no name: what is beyond those that the daemon tells apart."""


def row_of(group: Body) -> Body:
    """What the table shows of a group."""
    if group.get("group") is None:
        words, kind = "of other kinds", None
    else:
        words, kind = f"{group.get('error') or 'no type'}: {group.get('message') or ''}".rstrip(": "), group.get("type")
    queues = list(group.get("queues") or ())
    return {
        "name": group.get("group") or REST, "count": int(group["count"]), "error": words, "type": kind or "",
        "queues": (queues[0] if queues else "") + (f" +{len(queues) - 1}" if len(queues) > 1 else ""),
        "first": int(group["first_at"]), "last": int(group["last_at"]),
    }  # fmt: skip


def lines_of(group: Body, tasks: Sequence[Body], now_ms: int) -> list[list[Run]]:
    """What the pane tells of a group, and of its newest tasks."""

    def since(name: str) -> Run:
        at = int(group[name])
        return f"{day(at)} ({age(now_ms - at)} ago)", "text"

    queues = ", ".join(group.get("queues") or ())
    lines: list[list[Run]] = [
        [("type    ", "head"), (str(group.get("type") or "several"), "strong"), ("   queues ", "head"), (queues, "text")],
        [("first   ", "head"), since("first_at")],
        [("last    ", "head"), since("last_at")],
        [("error   ", "head"), (row_of(group)["error"], "failed")],
    ]
    for at, task in enumerate(tasks):
        label = f"  {task['label']}" if task.get("label") else ""
        tried = of_tries(task.get("attempt") or 0, task.get("retries") or 0).replace("/", " of ")
        words = f"  {day(task['finished_at'])}  try {tried}{label}"
        lines.append([("tasks   " if not at else "        ", "head"), (str(task["id"]), "key"), (words, "text")])
    more = int(group["count"]) - len(tasks)
    if tasks and more > 0:
        lines.append([(f"        and {more:,} more", "dim")])
    return lines


def errors_of(task: Mapping[str, Any]) -> list[tuple[int, Mapping[str, Any]]]:
    """The attempts of a task that have an error, and these."""
    found = {int(run[0]): run[5] for run in task.get("attempts") or () if isinstance(run[5], dict)}
    if isinstance(task.get("error"), dict):
        found[int(task["attempt"])] = task["error"]
    return list(found.items())


class DeadScreen(DeadActs, SortedScreen):
    """The screen of the digit 6."""

    title_id = "dead"
    name_long, name_short, number = "Dead", "Dead", "6"
    AUTO_FOCUS = "#dead-list"
    ACTIONS: ClassVar[tuple[Action, ...]] = ACTIONS
    LIST = "dead-list"
    ORDERS: ClassVar[Orders] = {one: itemgetter(one) for one in ("count", "error", "type", "first", "last")}
    FIRST, RISING = "count", ("error", "type")

    def __init__(self) -> None:
        super().__init__()
        self._source = ListSource(lambda row: row["name"])
        self._about: tuple[object, ...] = ()
        self._tasks: tuple[str, Sequence[Body]] = ("", ())
        self._written: list[list[Run]] = []

    def wants(self) -> Mapping[str, Want]:
        every = EVERY_MANY_S if self._failed >= MANY else EVERY_S
        return {"dead": Want("dead", every_s=every, of=lambda: self._ended, rest_s=RESTS_S)}

    @property
    def _failed(self) -> int:
        """Tasks that are failed for good, by the totals."""
        return int(((self.monitor.known.totals or {}).get("states") or {}).get("failed") or 0)

    @property
    def _ended(self) -> tuple[int, int]:
        """What changes when a dead letter comes or goes."""
        return self._failed, int((self.monitor.known.totals or {}).get("failed") or 0)

    def body(self) -> ComposeResult:
        glyphs = self.monitor.glyphs
        yield PagedTable(self._columns(), self._source, glyphs=glyphs, flashes=self.monitor.flashes, id=self.LIST)
        with Container(id="dead-panes"):
            yield TextPane(glyphs=glyphs, wrap=True, id="dead-group", classes="pane")
            yield TracebackPane(glyphs=glyphs, wrap=True, id="dead-trace", classes="pane")

    def _columns(self) -> list[Column]:
        now = self.monitor.clock.now_ms
        return [
            Column("count", "COUNT", 7, lambda row: [(count(row["count"]), "strong")], right=True),
            Column("error", "ERROR", 0, lambda row: [(row["error"], "failed")], least=16),
            Column("type", "TYPE", 14, lambda row: [(row["type"], "text")]),
            Column("queues", "QUEUES", 12, lambda row: [(row["queues"], "text")], shown_from=70, sorts=False),
            Column("first", "FIRST", 12, lambda row: [(day(row["first"]), "dim")], shown_from=100),
            Column("last", "LAST", 8, lambda row: [(f"{age(now() - row['last'])} ago", "text")], right=True, ticks=True),
        ]

    @property
    def _groups(self) -> dict[str, Body]:
        return {str(group.get("group") or REST): group for group in self.monitor.known.rows("dead", "groups")}

    @property
    def chosen(self) -> Sequence[Body]:
        if not self.is_mounted:
            return ()
        groups, table = self._groups, self.table
        chosen = set(table.chosen)
        return [group for key, group in groups.items() if group.get("group") is not None and (table.all_marked or key in chosen)]

    @property
    def _here(self) -> Body | None:
        """The group under the cursor."""
        key = self.table.cursor_key
        return None if key is None else self._groups.get(str(key))

    def apply(self, dirty: set[str]) -> None:
        if dirty & {"all", "dead"}:
            self._list()
            self._look()
        if dirty & {"all", "dead", "tick"}:
            self._tell()
        self.table.tick(self.monitor.clock.ticks())
        self.fade()

    def _list(self) -> None:
        known = self.monitor.known
        self._source.show(self.order.sorted(row_of(group) for group in known.rows("dead", "groups")))
        if "dead" in known.lacking:
            explain(self.table, ("This daemon does not tell of its dead letters.", "dim"), (known.lacking["dead"], "dim"))
        elif known.get("dead") is None:
            explain(self.table, ("Waiting for the daemon's answer.", "dim"))
        else:
            explain(
                self.table, (f"No dead letters {self.monitor.glyphs.good}", "good"),
                ("A task that fails for good stays here until it is retried, discarded, or no longer kept.", "dim"),
            )  # fmt: skip

    def _look(self) -> None:
        """Ask for the group's tasks, if it is another one than was asked for, or has others."""
        group = self._here
        about = () if group is None else (group.get("group"), group["count"], group["last_id"])
        if about != self._about:
            self._about = about
            self.run_worker(self._looked(group), group="look", exclusive=True, exit_on_error=False)

    async def _looked(self, group: Body | None) -> None:
        monitor, trace = self.monitor, self.query_one(TracebackPane)
        await monitor.clock.sleep(REST_S)
        if group is None:
            trace.show_lines([])
            return
        tasks: Sequence[Body] = ()
        try:
            if group.get("group") is not None:
                tasks = (await monitor.call("find", {"states": ["failed"], "group": group["group"], "limit": TOLD}))["tasks"]
            newest = (await monitor.feed.call("get", {"ids": [group["last_id"]]}))["tasks"][0]
        except TqError:
            self._about = ()  # asked again with the next answer
            return
        self._tasks = str(group.get("group") or REST), tasks
        trace.show_errors(errors_of(newest) if newest is not None else [])
        entitle(trace, f"newest {group['last_id']}", "[ ] attempts   z all frames" if newest is not None else "it is there no more")
        self._tell()

    def _tell(self) -> None:
        """Write the pane of the group anew, if it reads differently."""
        group, pane = self._here, self.query_one("#dead-group", TextPane)
        entitle(pane, "No group" if group is None else f"{group.get('group') or 'others'}  {counted(int(group['count']), 'task')}")
        lines: list[list[Run]] = [[("nothing is selected", "dim")]]
        if group is not None:
            name = str(group.get("group") or REST)
            lines = lines_of(group, self._tasks[1] if self._tasks[0] == name else (), self.monitor.clock.now_ms())
        if lines != self._written:
            self._written = lines
            pane.show_lines(lines, stay=True)

    def status(self) -> Sequence[Piece]:
        rows, table = self.monitor.known.rows("dead", "groups"), self.table
        if self.monitor.known.get("dead") is None:
            return [Piece("" if "dead" in self.monitor.known.lacking else "waiting for the dead letters", "$muted")]
        total = sum(int(group["count"]) for group in rows)
        marked = len(rows) if table.all_marked else len(table.marks & set(self._groups))
        tasks = sum(int(group["count"]) for group in self.chosen)
        found = [Piece(f"{counted(marked, 'group')} marked ({tasks:,})   ", "bold")] if marked else []
        found.append(Piece(f"{total:,} dead in {counted(len(rows), 'group')}   "))
        if rows:
            oldest = min(int(group["first_at"]) for group in rows)
            found.append(Piece(f"oldest {age(self.monitor.clock.now_ms() - oldest)}   "))
        return [*found, self.sign()]

    # what a person does

    def copy(self) -> None:
        """Copy what the pane of the error shows."""
        self.app.copy_to_clipboard(self.query_one(TracebackPane).text)

    def show_item(self, kind: str, name: str) -> bool:
        self.table.focus()
        return kind == "tasks"

    def on_paged_table_cursor_moved(self) -> None:
        self._look()
        self._tell()
        self.lines()

    def on_paged_table_marks_changed(self) -> None:
        self.lines()

    def on_paged_table_opened(self) -> None:
        if "tasks" in self.monitor.MODES:
            self.monitor.action_do("dead.tasks")
        else:
            self.query_one(TracebackPane).focus()

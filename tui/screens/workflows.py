"""The screen of the workflows: which there are, how far each is, and what went wrong in it.

For: the list of the newest, and a pane of the one under the cursor.
Not for: the steps of one (workflow), what is done to them (workflow_acts), words (workflow_words).
Runs in: the monitor, on Textual.
Promises: the daemon looks through all of its tasks for workflows once, then only through those that came since; how tasks stand is asked
for while something changes, for the workflows that are seen first, and at most LOOK_MOST at a time.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from operator import itemgetter
from typing import Any, ClassVar

from textual.app import ComposeResult

from tq import workflows
from tq.errors import TqError
from tui.actions import Action, Context
from tui.formats import clock as time_of
from tui.formats import counted, day, duration
from tui.graphs import Graph, head_of
from tui.paging import ListSource
from tui.screens.lists import SOON_S, ListScreen, has_row
from tui.screens.screen import entitle
from tui.screens.sorting import Orders, sort_actions
from tui.screens.workflow import WorkflowPage
from tui.screens.workflow_acts import WorkflowActs, acts_of, states, whole
from tui.screens.workflow_words import BAR, about_graph, row_of, title_of, took
from tui.state import Body
from tui.widgets.bars import Piece
from tui.widgets.painting import Run
from tui.widgets.panes import TextPane
from tui.widgets.table import Column, PagedTable

HEADS_MOST = 100
"""Workflows that are listed, the newest."""
LOOK_MOST = 1000
"""Tasks that are asked for in one look."""
DAY_MS = 86_400_000
GROUP = "Workflows"
NO_WORKFLOWS = (
    ("There is no workflow yet.", "text"),
    ("tq workflow run deploy.toml  begins one, and so does a tq.workflow in Python.", "dim"),
)


def _ids(context: Context) -> Sequence[str]:
    return [str(one) for one in context.screen.graphs]


ACTIONS = (
    Action(
        id="workflows.open", title="Steps", help="The workflow as a tree of its steps, with states and times.",
        run=lambda context: context.screen.open(), screen="workflows", by="enter", words=("open",), applies=has_row, footer=8, group=GROUP,
    ),
    *acts_of("workflows", GROUP),
    Action(
        id="workflows.batches", title="Batches", help="The batches: how many members of each stand where, and their callbacks.", keys="b",
        run=lambda context: context.app.carry_out(context.app.registry["batches"]), screen="workflows", footer=24, group=GROUP,
    ),
    *sort_actions("workflows", GROUP),
    Action(
        id="workflows.go", title="Go to a workflow", help="Open the workflow of this id, or the one that the task of this id is of.",
        run=lambda context: context.screen.go(context.words), screen="workflows", words=("workflow",), takes="ID", choices=_ids, footer=0,
        group=GROUP,
    ),
)  # fmt: skip


class WorkflowsScreen(WorkflowActs, ListScreen):
    """The screen of the digit 9."""

    title_id = "workflows"
    name_long, name_short, number = "Workflows", "Flow", "9"
    LIST, TOPIC, KEY, AUTO_FOCUS = "workflow-list", "workflows", "id", "#workflow-list"
    ACTIONS = ACTIONS
    ORDERS: ClassVar[Orders] = {
        "id": itemgetter("id"), "name": itemgetter("name"), "state": itemgetter("state"), "over": itemgetter("share"),
        "failed": itemgetter("bad"), "took": lambda row: row["ended"] - row["began"] if row["ended"] else None,
    }  # fmt: skip
    FIRST, RISING = "id", ("name", "state")

    def __init__(self) -> None:
        super().__init__()
        self.graphs: dict[int, Graph] = {}
        self._source = ListSource(itemgetter("id"))
        self._looking = False
        self._looked = -SOON_S
        self._stood: object = None
        self._greeting: object = None
        self._newest = 0

    def body(self) -> ComposeResult:
        glyphs = self.monitor.glyphs
        yield PagedTable(self._columns(), self._source, glyphs=glyphs, flashes=self.monitor.flashes, id=self.LIST)
        yield TextPane(glyphs=glyphs, wrap=True, id="workflow-pane", classes="pane")

    def _columns(self) -> list[Column]:
        def number(key: str, style: str) -> Any:
            return lambda row: [(f"{row[key]:,}", style if row[key] else "dim")]

        return [
            Column("name", "WORKFLOW", 0, lambda row: [(row["name"], "strong")], least=12),
            Column("state", "STATE", 9, lambda row: [(row["word"], row["style"])]),
            Column("over", "OVER", 11, lambda row: [(f"{row['over']}/{row['count']}", "text")], right=True),
            Column("bar", "", BAR, lambda row: row["bar"], sorts=False, shown_from=66),
            Column("running", "RUN", 6, number("running", "running"), right=True, sorts=False, shown_from=100),
            Column("failed", "FAIL", 5, number("bad", "failed"), right=True, shown_from=80),
            Column("began", "BEGUN", 12, self._began, right=True, sorts=False),
            Column("took", "TOOK", 7, self._took, right=True, ticks=True),
            Column("id", "ID", 10, lambda row: [(str(row["id"]), "dim")], right=True, shown_from=100),
        ]

    def _began(self, row: Body) -> list[Run]:
        at, zone = row["began"], self.monitor.zone
        if not at:
            return [("not yet", "dim")]
        return [(time_of(at, zone) if abs(at - self.monitor.clock.now_ms()) < DAY_MS else day(at, zone), "text")]

    def _took(self, row: Body) -> list[Run]:
        span = took(row["began"], row["ended"], self.monitor.clock.now_ms())
        return [] if span is None else [(duration(span), "text" if row["ended"] else "running")]

    # what is asked for

    def look(self, *, moved: bool = False) -> None:
        monitor = self.monitor
        now, totals, standing = monitor.clock.ticks(), monitor.known.totals, monitor.feed.standing
        again = moved or standing.hello is not self._greeting or totals is not self._stood or any(self._unread())
        if self._looking or not standing.phase.connected or not again or (not moved and now - self._looked < SOON_S):
            return
        self._looking, self._looked, self._stood = True, now, totals
        self.run_worker(self._look(), group="look", exit_on_error=False)

    async def _look(self) -> None:
        monitor = self.monitor
        try:
            await self._heads()
            left = LOOK_MOST
            for graph in [*sorted(self._unread(), key=lambda graph: graph.count), *self._seen()]:  # nobody waits for a large one
                asked = min(graph.count, left)
                if asked > 0:
                    await states(monitor.feed, graph, asked)
                left -= asked
            for one in [one for one, graph in self.graphs.items() if graph.gone]:
                del self.graphs[one]
            monitor.known.take(self.TOPIC, {"ids": list(self.graphs), "newest": self._newest}, monitor.clock.now_ms())
        except TqError as error:
            if monitor.feed.standing.phase.connected:
                monitor.known.lacks(self.TOPIC, error.message)
        finally:
            self._looking = False
            if self.is_mounted:
                self._show()

    async def _heads(self) -> None:
        """Look for workflows among the tasks that have come since that was asked last."""
        call, hello = self.monitor.feed.call, self.monitor.feed.standing.hello
        newest = max([row["id"] for row in (await call("find", {"limit": 1}))["tasks"]], default=0)
        if newest < self._newest:  # another store
            self._newest = 0
        if newest > self._newest:
            where = f"meta.{workflows.PLACE}:1/*" + (f" id>{self._newest}" if self._newest else "")
            rows = (await call("find", {"where": where, "limit": HEADS_MOST}))["tasks"]
            for row in [(await whole(self.monitor.feed, [row["id"]]))[0] if row.get("cut") else row for row in rows]:
                graph = head_of(row) if row is not None else None
                if graph is not None:
                    self.graphs.setdefault(graph.id, graph)
            kept = sorted(self.graphs, reverse=True)[:HEADS_MOST]
            self.graphs = {one: self.graphs[one] for one in kept}
        self._newest, self._greeting = newest, hello

    def _unread(self) -> Iterator[Graph]:
        """Those of which not all is known yet."""
        return (graph for graph in self.graphs.values() if graph.read < graph.count)

    def _seen(self) -> list[Graph]:
        """Those in sight, that under the cursor first and those that are over last."""
        keys = [self.table.cursor_key, *self.table.visible_keys]
        found = [self.graphs[one] for one in dict.fromkeys(keys) if isinstance(one, int) and one in self.graphs]
        return sorted(found, key=lambda graph: graph.over == graph.count)

    # what changed

    def apply(self, dirty: set[str]) -> None:
        self.told()
        self.look(moved="all" in dirty)
        if dirty & {"all", "standing", "workflows"}:
            self._show()
        elif "tick" in dirty:
            self.tell()

    def _show(self) -> None:
        self._source.show(self.order.sorted(row_of(graph, self.monitor.glyphs) for graph in self.graphs.values()))
        self.explained(*NO_WORKFLOWS)
        self.sought()
        self.tell()
        self.lines()

    def tell(self) -> None:
        graph, pane, monitor = self.graph, self.query_one("#workflow-pane", TextPane), self.monitor
        entitle(pane, title_of(graph) if graph else "No workflow", "enter Steps" if graph else "")
        pane.show_lines(about_graph(graph, monitor.glyphs, monitor.clock.now_ms(), monitor.zone), stay=True)

    def status(self) -> Sequence[Piece]:
        if (unknown := self.unknown()) and not self.graphs:
            return unknown
        words: dict[str, int] = {}
        for graph in self.graphs.values():
            words[graph.state] = words.get(graph.state, 0) + 1
        newest = "the newest " if len(self.graphs) == HEADS_MOST else ""
        found = [Piece(f"{newest}{counted(len(self.graphs), 'workflow')}   ")]
        for word, style in (("running", "$state-running"), ("failed", "bold $state-failed")):
            if words.get(word):
                found.append(Piece(f"{self.monitor.glyphs.state(word)} {words[word]:,} {word}   ", style))
        return [*found, self.sign()]

    # what a person does

    @property
    def graph(self) -> Graph | None:
        key = self.table.cursor_key if self.is_mounted else None
        return self.graphs.get(key) if isinstance(key, int) else None

    def open(self) -> None:
        """The tree of the one under the cursor."""
        if self.graph is not None:
            self.app.push_screen(WorkflowPage(self.graph))

    async def go(self, words: str) -> None:
        """Open a workflow by the id of any of its tasks. ValueError: there is none."""
        if not words.strip().isdecimal():
            raise ValueError(f"expected the id of a workflow, got {words.strip()!r:.60}")
        (row,) = await whole(self.monitor.feed, [int(words)])
        graph = head_of(row) if row is not None else None
        if graph is None:
            raise ValueError(f"expected the id of a workflow, got {words.strip()}, which is of none")
        self.app.push_screen(WorkflowPage(self.graphs.get(graph.id, graph)))

    def show_item(self, kind: str, name: str) -> bool:
        found = kind == "workflow" and name.isdecimal() and self.table.select(int(name))
        if found:
            self.table.focus()
        return found

"""The page of a workflow: its steps as a tree, how each stands and how long it took, on one scale of time.

For: understanding where a workflow is, what held it up and what broke it; going to its tasks.
Not for: which workflows there are (workflows), what is done to them (workflow_acts), words (workflow_words).
Runs in: the monitor, on Textual.
Promises: a workflow of 10,000 tasks shows its first steps after one question, the rest comes behind them; steps of many tasks are
folded; while nothing changes nothing is asked.
"""

from __future__ import annotations

from collections.abc import Sequence
from operator import itemgetter
from typing import Any

from textual.app import ComposeResult

from tq import workflows
from tq.errors import TqError
from tui.actions import Action, Context
from tui.formats import clip, duration
from tui.graphs import Graph
from tui.paging import ListSource
from tui.screens.lists import SOON_S
from tui.screens.screen import entitle, explain
from tui.screens.task import TaskPage
from tui.screens.workflow_acts import WHOLE, WorkflowActs, acts_of, states, whole
from tui.screens.workflow_words import BAD, about_line, counts_of, lines_of, name_of, scale_of, stretch, took, word_of
from tui.state import Body
from tui.widgets.bars import Line, Piece
from tui.widgets.painting import Run
from tui.widgets.panes import TextPane
from tui.widgets.table import Column, PagedTable

LOOK_MOST = 1000
"""Tasks that are asked for in one look."""
READ_S = 0.05
"""Between two questions for steps: a person waits for the first alone."""
COURSE, COURSE_WIDE = 16, 44
LIST = "step-list"
GROUP = "Workflow"


def _at(context: Context) -> bool:
    return isinstance(context.screen, WorkflowPage) and context.screen.is_mounted and context.screen.here is not None


ACTIONS = (
    Action(
        id="workflow.open", title="Open", help="Open the task of the step; unfold a step of many tasks, or fold it again.",
        run=lambda context: context.screen.open(), screen="workflow", by="enter", words=("open",), applies=_at, footer=8, group=GROUP,
        says=lambda context: "Open task" if _at(context) and context.screen.here["id"] else "Unfold",
    ),
    *acts_of("workflow", GROUP),
    Action(
        id="workflow.failed", title="Next failure", short="Failed", help="Put the cursor on the next task that went wrong.", keys="f",
        run=lambda context: context.screen.next_failed(), screen="workflow", words=("failed",), applies=_at, footer=18, group=GROUP,
    ),
    Action(
        id="workflow.fold", title="Fold all", short="Fold", help="Fold all steps of many tasks, or unfold them.", keys="z",
        run=lambda context: context.screen.fold(), screen="workflow", words=("fold",), applies=_at, footer=20, group=GROUP,
    ),
)  # fmt: skip


class WorkflowPage(WorkflowActs):
    """The page of one; what is learnt of it stays with the ``graph`` that was given."""

    title_id, name_long, name_short = "workflow", "Workflow", "Flow"
    AUTO_FOCUS = f"#{LIST}"
    ACTIONS = ACTIONS

    def __init__(self, graph: Graph) -> None:
        super().__init__()
        self._graph = graph
        self._source = ListSource(itemgetter("key"))
        self._opened: set[str] = set()
        self._tree: list[Any] = []
        self._drawn = -1  # so many tasks stand in the tree
        self._scale = (0, 1)
        self._looking = self._reading = False
        self._looked = -SOON_S
        self._stood: object = None
        self._problem = ""

    @property
    def place(self) -> str:
        return "workflows"

    @property
    def graph(self) -> Graph:
        return self._graph

    @property
    def table(self) -> PagedTable:
        return self.query_one(f"#{LIST}", PagedTable)

    @property
    def here(self) -> Body | None:
        """The line under the cursor."""
        row = self.table.cursor_row
        return row if isinstance(row, dict) else None

    def body(self) -> ComposeResult:
        glyphs = self.monitor.glyphs
        yield Line(id="crumb")
        yield PagedTable(self._columns(), self._source, glyphs=glyphs, flashes=self.monitor.flashes, id=LIST)
        yield TextPane(glyphs=glyphs, wrap=True, id="step-pane", classes="pane")

    def _columns(self) -> list[Column]:
        wide = self.app.size.width >= 120
        width = COURSE_WIDE if wide else COURSE

        def course(row: Body) -> list[Run]:
            end = self.monitor.clock.now_ms() if row["live"] else row["ended"]
            return stretch(row["began"], end, self._scale, width, self.monitor.glyphs, row["style"])

        def took_by_now(row: Body) -> list[Run]:
            span = took(row["began"], 0 if row["live"] else row["ended"], self.monitor.clock.now_ms())
            return [] if span is None else [(duration(span), "running" if row["live"] else "text")]

        return [
            Column("name", "STEP", 0, lambda row: name_of(row, self.monitor.glyphs), least=16, sorts=False),
            Column("state", "STATE", 20, lambda row: row["counts"], sorts=False),
            Column("took", "TOOK", 7, took_by_now, right=True, ticks=True, sorts=False),
            Column("course", "WHEN", width, course, ticks=True, sorts=False, shown_from=66),
            Column("id", "TASK", 9, lambda row: [(str(row["id"] or ""), "dim")], right=True, sorts=False, shown_from=80),
        ]

    # what is asked for

    def look(self, *, moved: bool = False) -> None:
        monitor, graph = self.monitor, self._graph
        now, totals = monitor.clock.ticks(), monitor.known.totals
        if not monitor.feed.standing.phase.connected:
            return
        if not self._reading and graph.not_looked_into(1):
            self._reading = True
            self.run_worker(self._read(), group="steps", exit_on_error=False)
        elif not self._looking and (moved or (totals is not self._stood and now - self._looked >= SOON_S)):
            self._looking, self._looked, self._stood = True, now, totals
            self.run_worker(self._look(), group="look", exit_on_error=False)

    async def _look(self) -> None:
        try:
            await states(self.monitor.feed, self._graph, LOOK_MOST)
            self._problem = self._problem if self._graph.not_looked_into(1) else ""
        except TqError as error:
            self._problem = error.message
        finally:
            self._looking = False
            self._show()

    async def _read(self) -> None:
        """Read its steps, the first at once and the others one question after the other."""
        feed, graph = self.monitor.feed, self._graph
        try:
            while self.is_mounted and (ids := graph.not_looked_into(WHOLE)):
                rows = await whole(feed, ids)
                self._problem = ""
                graph.look_into(rows)
                graph.take([one for one, row in zip(ids, rows, strict=True) if row is None], [None] * rows.count(None))
                self._show()
                await self.monitor.clock.sleep(READ_S)
        except TqError as error:
            self._problem = error.message
        finally:
            self._reading = False
            self._show()

    # what changed

    def apply(self, dirty: set[str]) -> None:
        self.look(moved="all" in dirty)
        if "all" in dirty:
            self._show()
        elif "tick" in dirty:
            self._scaled()
            self.tell()
        self.table.tick(self.monitor.clock.ticks())
        self.fade()

    def _scaled(self) -> None:
        scale = scale_of(self._graph.rows.values(), self.monitor.clock.now_ms())
        if scale != self._scale:
            self._scale = scale
            self.table.brush.forget()
            self.table.refresh()

    def _show(self) -> None:
        if not self.is_mounted:
            return
        graph = self._graph
        if self._drawn != len(graph.rows):
            self._drawn, self._tree = len(graph.rows), workflows.tree([graph.rows[one] for one in sorted(graph.rows)])
        self._scaled()
        self._source.show(lines_of(self._tree, self._opened, self.monitor.glyphs))
        explain(self.table, (self._problem or ("None of its tasks is there any more." if graph.gone else "Reading its steps."), "dim"))
        self.tell()
        self.lines()

    def tell(self) -> None:
        pane, monitor, line = self.query_one("#step-pane", TextPane), self.monitor, self.here
        entitle(pane, line["name"] if line else "Step", "enter Open task" if line and line["id"] else "")
        pane.show_lines(about_line(line, self._graph, monitor.glyphs, monitor.clock.now_ms(), monitor.zone), stay=True)

    def lines(self) -> None:
        super().lines()
        graph, glyphs = self._graph, self.monitor.glyphs
        word, style = word_of(graph.state, glyphs) if graph.state else ("reading", "muted")
        span = took(graph.began_at, graph.ended_at, self.monitor.clock.now_ms())
        color = "$muted" if style in ("dim", "muted") else f"bold $state-{style}"
        left = [
            Piece(" Workflows > ", "$muted", "app.do('back')"), Piece(f"{graph.id}  ", "bold"), Piece(f"{clip(graph.name, 40)}  "),
            Piece(f"{word}  ", color), Piece(f"took {duration(span)}  " if span is not None else "", "$muted"),
        ]  # fmt: skip
        self.query_one("#crumb", Line).show(left, [Piece(f"{graph.over:,} of {graph.count:,} over ", "$muted")])

    def status(self) -> Sequence[Piece]:
        graph = self._graph
        if (unread := graph.count - len(graph.rows)) and self._reading:
            return [Piece(f"reading its steps: {graph.count - unread:,} of {graph.count:,} tasks", "$muted")]
        told = [
            Piece(text, f"$state-{style}" if style != "dim" else "$muted") for text, style in counts_of(graph.counts, self.monitor.glyphs)
        ]
        return [*told, Piece(f"  {self._problem}" if self._problem else "", "$bad")]

    # what a person does

    def open(self) -> None:
        """Open the task, or fold and unfold the step."""
        line = self.here
        if line is not None and line["id"]:
            self.app.push_screen(TaskPage(line["id"]))
        elif line is not None:
            self._opened ^= {line["name"]}
            self._show()

    def fold(self) -> None:
        """Fold all steps of many, or, if all are, unfold them."""
        self._opened = set() if self._opened else {step for _, step, rows in self._tree if len(rows) > 1}
        self._show()

    def next_failed(self) -> None:
        """The cursor to the next task that went wrong, behind the last to the first. ValueError: none has."""
        lines = [self._source.entry(place) for place in range(self._source.total)]
        wrong = [place for place, entry in enumerate(lines) if entry is not None and entry.row["id"] and entry.row["state"] in BAD]
        if not wrong:
            raise ValueError("nothing of it went wrong")
        self.table.move_to(next((place for place in wrong if place > self.table.cursor_place), wrong[0]))

    def show_item(self, kind: str, name: str) -> bool:
        return kind == "task" and name.isdecimal() and self.table.select(int(name))

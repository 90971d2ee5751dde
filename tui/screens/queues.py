"""The screen of the queues: how each stands and goes, and what holds it up.

For: the list with five minutes of each, the pane of the one under the cursor, and its page.
Not for: what is done to queues (queue_acts), words and figures (queue_words).
Runs in: the monitor, on Textual.
Promises: the cursor stays on its queue however the order changes; while the daemon's totals stand still it is asked only now and then;
history is asked for the queues that are seen.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from operator import itemgetter
from typing import Any, ClassVar

from textual.app import ComposeResult

from tq.errors import TqError
from tui.actions import Action
from tui.charts import gauge, spark
from tui.formats import count, counted, duration, percent, rate, short
from tui.paging import ListSource
from tui.refresh import Want
from tui.screens.flow_words import breakers_of, limits_of, reached
from tui.screens.queue_acts import ACTIONS, QueueActs
from tui.screens.queue_words import BUCKETS, STEP_S, More, course_of, fail_style, lines_of, row_of
from tui.screens.screen import entitle, explain
from tui.screens.sorting import Orders, SortedScreen
from tui.state import Body
from tui.widgets.bars import Piece
from tui.widgets.painting import Run
from tui.widgets.panes import TextPane
from tui.widgets.table import Column, PagedTable

REST_S, LOOK_S = 0.15, 5.0
"""How long the cursor rests on a queue before more of it is asked for, and how often again while something happens."""
FLOW_S, FLOW_RESTS_S = 2.0, 20.0
"""How often limits and breakers are asked for while something happens, and while nothing does."""
FLOW = ("limits", "breakers")
SEEN_MOST = 40
"""Queues whose history is asked for."""
RESTS_S = 30.0
KNOWN = ("name", "state", "pending", "running", "used", "retrying", "failed")
"""Columns of which every queue's value is known; history is there only for what is seen."""


class OfQueues(QueueActs):
    """What the list and the page share: their questions, and the lines of one queue."""

    def __init__(self) -> None:
        super().__init__()
        self._more: tuple[str, More] = ("", More())
        self._looked = -LOOK_S
        self._stood: object = None
        self._written: list[list[Run]] = []

    @property
    def seen(self) -> Sequence[str]:
        """The queues whose history is wanted."""
        return self.names[:1]

    @property
    def shown(self) -> str:
        """The queue that is told in full; "" for none."""
        return next(iter(self.names), "")

    def wants(self) -> Mapping[str, Want]:
        known, clock = self.monitor.known, self.monitor.clock

        def totals() -> object:
            return (known.totals,)

        def history(queue: str) -> Want:
            def args() -> Body:
                return {"queue": queue, "step_s": STEP_S, "limit": known.missing(queue, STEP_S, BUCKETS, clock.now_ms())}

            return Want("history", args, float(STEP_S), queue, of=totals, rest_s=RESTS_S)

        found = {"queues": Want("queues", of=totals, rest_s=LOOK_S), "types": Want("types", every_s=60.0)}
        found |= {topic: Want(topic, every_s=FLOW_S, of=totals, rest_s=FLOW_RESTS_S) for topic in FLOW}
        return found | {f"history:5m:{name}": history(name) for name in self.seen}

    def held_by(self, row: Body) -> tuple[str, list[Body], list[Body]]:
        """What holds the waiting tasks of a queue, if anything ("breaker" or "limit"), its limits, and its breakers that are not closed."""
        known, types = self.monitor.known, self.types_of(row["name"])
        limits = limits_of(row["name"], types, known.rows("limits", "limits"))
        breakers = breakers_of(types, known.rows("breakers", "breakers"))
        waits = bool((row.get("states") or {}).get("pending"))
        full = any(reached(one) for one in limits if one["scope"] in ("queue", "type"))
        return ("breaker" if waits and breakers else "limit" if waits and full else ""), limits, breakers

    def look(self, *, moved: bool = False) -> None:
        """Ask for more of the queue that is told, if it is another one, or something may have changed."""
        now, totals = self.monitor.clock.ticks(), self.monitor.known.totals
        if not moved and (now - self._looked < LOOK_S or totals is self._stood):
            return
        self._looked, self._stood = now, totals
        self.run_worker(self._look(), group="look", exclusive=True, exit_on_error=False)

    async def _look(self) -> None:
        monitor = self.monitor
        await monitor.clock.sleep(REST_S)
        name = self.shown
        states = (self.row(name) or {}).get("states") or {}
        next_one, dead = None, None
        try:
            if states.get("pending"):
                next_one = next(iter((await monitor.call("peek", {"queue": name, "limit": 1}))["tasks"]), None)
            if states.get("failed"):
                dead = (await monitor.call("dead", {"queue": name}))["groups"]
        except TqError:
            return  # the daemon is gone, or has no answer: what was told stays
        self._more = name, More(next_one, dead)
        self.tell()

    def tell(self) -> None:
        """Write the lines of the queue anew, if they read differently."""
        name, monitor = self.shown, self.monitor
        pane = self.query_one(TextPane)
        row = self.row(name)
        entitle(pane, name or "No queue", "enter Page   tab Into it" if self.lists and row else "")
        if row is None:
            lines: list[list[Run]] = [[("nothing is selected", "dim")]]
        else:
            known = monitor.known
            more = self._more[1] if self._more[0] == name else More()
            figures = (known.totals or {}).get("types") or {}
            here = [one for one in self.types_of(name) if one in figures]
            busiest = sorted(here, key=lambda one: -(figures[one].get("completed") or 0))[:6]
            stop, limits, breakers = self.held_by(row)
            file = str((known.get("queues") or {}).get("file") or "")
            more = More(more.next, more.dead, [(one, figures[one]) for one in busiest], file, limits, breakers, stop)
            course = course_of(known.history(name, STEP_S))
            lines = lines_of(row, course, more, monitor.glyphs, monitor.clock.now_ms(), max(pane.size.width - 2, 40))
        if lines != self._written:
            self._written = lines
            pane.show_lines(lines, stay=True)


class QueuesScreen(OfQueues, SortedScreen):
    """The screen of the digit 2."""

    title_id = "queues"
    name_long, name_short, number = "Queues", "Queue", "2"
    AUTO_FOCUS = "#queue-list"
    ACTIONS: ClassVar[tuple[Action, ...]] = ACTIONS
    lists = True
    LIST = "queue-list"
    ORDERS: ClassVar[Orders] = {one: itemgetter(one) for one in KNOWN}
    FIRST, RISING = "pending", ("name", "state")

    def __init__(self) -> None:
        super().__init__()
        self._source = ListSource(lambda row: row["name"])
        self._seen: tuple[str, ...] = ()

    def body(self) -> ComposeResult:
        app = self.monitor  # its classes are those of its size from the first layout on; Textual sets them a moment later
        for points, size in ((app.HORIZONTAL_BREAKPOINTS, app.size.width), (app.VERTICAL_BREAKPOINTS, app.size.height)):
            self.add_class(max(point for point in points if point[0] <= size)[1])
        glyphs = self.monitor.glyphs
        yield PagedTable(self._columns(), self._source, glyphs=glyphs, flashes=self.monitor.flashes, id=self.LIST)
        yield TextPane(glyphs=glyphs, wrap=True, id="queue-pane", classes="pane")

    def _columns(self) -> list[Column]:
        glyphs = self.monitor.glyphs

        def running(row: Body) -> list[Run]:
            return [(f"{row['running']:,}/{row['slots']}" if row["slots"] else f"{row['running']:,}", "text")]

        def number(key: str, style: str) -> Any:
            return lambda row: [(count(row[key]), style if row[key] else "dim")]

        return [
            Column("name", "QUEUE", 0, lambda row: [(row["name"], "text")], least=10),
            Column("state", "STATE", 9, lambda row: [(row["state"], row["style"])]),
            Column("pending", "PENDING", 10, number("pending", "text"), right=True),
            Column("running", "RUN", 8, running, right=True),
            Column("used", "SLOTS", 8, lambda row: [(gauge(row["used"], 8, glyphs), "live")], shown_from=100),
            Column("retrying", "RETRY", 7, number("retrying", "retrying"), right=True, shown_from=100),
            Column("failed", "DEAD", 7, number("failed", "failed"), right=True, shown_from=100),
            Column("rate", "RATE", 7, lambda row: [(rate(row["rate"], minute=True), "text")], right=True, sorts=False),
            Column("p95", "RUN95", 7, lambda row: [(duration(row["p95"]), "text")], right=True, sorts=False),
            Column(
                "fail", "FAIL", 6, lambda row: [(percent(row["fail"]), fail_style(row["fail"]))], right=True, sorts=False, shown_from=66
            ),
            Column("course", "5 MIN", 10, lambda row: [(spark(row["course"], 10, glyphs), "live")], sorts=False, shown_from=80),
        ]

    @property
    def names(self) -> Sequence[str]:
        if not self.is_mounted:
            return ()
        table = self.table
        entries = [self._source.entry(place) for place in range(self._source.total)]
        chosen = set(table.chosen)
        return [str(entry.key) for entry in entries if entry is not None and (table.all_marked or entry.key in chosen)]

    @property
    def seen(self) -> Sequence[str]:
        return self._seen

    @property
    def shown(self) -> str:
        key = self.table.cursor_key
        return "" if key is None else str(key)

    def apply(self, dirty: set[str]) -> None:
        histories = any(topic.startswith("history") for topic in dirty)
        if dirty & {"all", "queues", *FLOW} or histories:
            self._list()
        if dirty & {"all", "queues", "types", "tick", *FLOW} or histories:
            self.tell()
        if dirty & {"all", "queues", "totals"}:
            self.look()
        self.table.tick(self.monitor.clock.ticks())
        self.fade()

    def _list(self) -> None:
        known, glyphs = self.monitor.known, self.monitor.glyphs
        rows = [
            row_of(row, course_of(known.history(row["name"], STEP_S)), glyphs, self.held_by(row)[0])
            for row in known.rows("queues", "queues")
        ]
        table = self.table
        self._source.show(self.order.sorted(rows))
        if "queues" in known.lacking:
            explain(table, ("This daemon does not tell of its queues.", "dim"), (known.lacking["queues"], "dim"))
        elif known.get("queues") is None:
            explain(table, ("Waiting for the daemon's answer.", "dim"))
        else:
            explain(table, ("No queue has had a task yet.", "text"), ("tq add -- make all  sends the first.", "dim"))
        self._see()

    def _see(self) -> None:
        """Ask for the history of what is seen."""
        seen = tuple(str(key) for key in self.table.visible_keys[:SEEN_MOST])
        if set(seen) != set(self._seen):
            self._seen = seen
            self.monitor.wants_changed()

    def status(self) -> Sequence[Piece]:
        rows = self.monitor.known.rows("queues", "queues")
        if self.monitor.known.get("queues") is None:
            return [Piece("" if "queues" in self.monitor.known.lacking else "waiting for the queues", "$muted")]
        glyphs, table = self.monitor.glyphs, self.table
        marked = len(rows) if table.all_marked else len(table.marks)
        pending = sum(int((row.get("states") or {}).get("pending") or 0) for row in rows)
        paused = sum(bool(row.get("paused") or row.get("held")) for row in rows)
        found = [Piece(f"{marked:,} marked   ", "bold")] if marked else []
        found.append(Piece(f"{counted(len(rows), 'queue')}   {short(pending)} pending   ", ""))
        if paused:
            found.append(Piece(f"{glyphs.paused} {paused:,} paused or held   ", "$warn"))
        return [*found, self.sign()]

    # what a person does

    def go(self, name: str) -> None:
        """The cursor to this queue. ValueError: there is none."""
        if not self.show_item("queue", name.strip()):
            raise ValueError(f"expected a queue, got {name.strip()!r}")

    def show_item(self, kind: str, name: str) -> bool:
        found = kind == "queue" and self.table.select(name)
        if found:
            self.table.focus()
        return found

    def on_paged_table_cursor_moved(self) -> None:
        self._see()
        self.tell()
        self.look(moved=True)
        self.lines()

    def on_paged_table_marks_changed(self) -> None:
        self.lines()

    def on_paged_table_opened(self) -> None:
        self.open()

    def open(self) -> None:
        """All of the queue under the cursor on the whole screen."""
        if self.table.cursor_key is not None:
            self.app.push_screen(QueuePage(str(self.table.cursor_key)))


class QueuePage(OfQueues):
    """All of one queue on the whole screen."""

    title_id = "queues"
    AUTO_FOCUS = "#queue-pane"
    ACTIONS: ClassVar[tuple[Action, ...]] = ACTIONS

    def __init__(self, name: str) -> None:
        super().__init__()
        self._queue = name

    @property
    def names(self) -> Sequence[str]:
        return (self._queue,)

    def body(self) -> ComposeResult:
        yield TextPane(glyphs=self.monitor.glyphs, wrap=True, id="queue-pane", classes="pane")

    def apply(self, dirty: set[str]) -> None:
        if dirty & {"all", "queues", "types", "tick", *FLOW} or any(topic.startswith("history") for topic in dirty):
            self.tell()
        if dirty & {"all", "queues", "totals"}:
            self.look(moved="all" in dirty)
        self.fade()

    def status(self) -> Sequence[Piece]:
        gone = self.row(self._queue) is None
        return [Piece("it is there no more" if gone else "esc goes back to the list", "$warn" if gone else "$muted")]

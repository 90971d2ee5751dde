"""The first screen: is it healthy, and where not.

For: six figures, throughput and latency, queues, and what needs attention.
Not for: acting on queues and tasks (their own screens), judging what needs attention (the daemon).
Runs in: the monitor, on Textual.
Promises: charts are full at once, from the daemon's history; every line of attention leads to what it is about; a daemon without
history or attention says so there, and all else works.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from textual.app import ComposeResult
from textual.containers import Horizontal

from tui.actions import Action, Context
from tui.charts import Series, spark
from tui.formats import age, clip, count, counted, duration, fit, percent, rate, short, size
from tui.paging import ListSource
from tui.preferences import WINDOWS
from tui.refresh import Want
from tui.screens.screen import MonitorScreen, entitle, explain
from tui.state import Body, History
from tui.widgets.bars import Line, Piece
from tui.widgets.charts import Chart, Drawn
from tui.widgets.painting import Run
from tui.widgets.table import Column, PagedTable

BUCKETS = {1: 600, 10: 720, 60: 720, 600: 720}
"""Buckets of each step that fill a window."""
SPARK_STEP_S, SPARK_BUCKETS = 10, 12
"""Two minutes of a queue."""
QUEUES_MOST = 40
"""Queues whose history is asked for: more are not seen at once."""
MUTE_MS = 3_600_000
RESTS_S = 10.0
"""Where no task moves the history is asked for so often: it is the same all along."""
WAITING = ("Waiting for the daemon's answer.", "dim")
SIGNS = {"bad": "bad", "warn": "warn", "note": "note"}


class Figures(Drawn):
    """Six numbers with where they come from: wide in three lines each, narrow in one line of three."""

    def __init__(self, **rest: Any) -> None:
        super().__init__(**rest)
        self._figures: Sequence[tuple[str, str, str, str, Sequence[float | None]]] = ()

    def show(self, figures: Sequence[tuple[str, str, str, str, Sequence[float | None]]]) -> None:
        """Each: title, value, what is said beside it, style, and its course."""
        self._figures = figures
        self._remake()

    def _make(self, width: int, height: int) -> list[list[Run]]:
        number = max(len(self._figures), 1)
        if height >= 3:
            cell = max(width // number, 8)
            lines: list[list[Run]] = [[], [], []]
            for title, value, beside, style, course in self._figures:
                edge, inside = (self.glyphs.mark, style), cell - 1
                lines[0] += [edge, (fit(title, inside), "head")]
                lines[1] += [edge, (value, "strong"), (fit(f" {beside}", max(inside - len(value), 0)), "dim")]
                lines[2] += [edge, (fit(spark(course, max(inside - 3, 1), self.glyphs), inside), style)]
            return lines
        lines, cell = [[], []], max(width // 3, 12)
        for at, (title, value, beside, style, _) in enumerate(self._figures):
            room = cell - 13 - len(value)
            lines[at // 3] += [
                (self.glyphs.mark, style), (fit(title, 11), "head"), (f" {value}", "strong"), (fit(f" {beside}", max(room, 0)), "dim"),
            ]  # fmt: skip
        return lines


def _has_row(context: Context) -> bool:
    return isinstance(context.screen, OverviewScreen) and context.screen.list_in_use.cursor_key is not None


def _mute(context: Context) -> Any:
    return context.screen.mute()


class OverviewScreen(MonitorScreen):
    """The screen of the digit 1."""

    title_id = "overview"
    name_long, name_short, number = "Overview", "Over", "1"
    AUTO_FOCUS = "#queues"
    ACTIONS: ClassVar[tuple[Action, ...]] = (
        Action(
            id="overview.open", title="Open", help="Show the queue, or what the line of attention is about, on its own screen.", by="enter",
            run=lambda context: context.screen.open(), screen="overview", words=("open",), applies=_has_row, footer=0, group="Overview",
        ),
        Action(
            id="overview.window", title="Window", help="Show 10 minutes, 2 hours, 12 hours or 5 days in the charts.", keys="w",
            run=lambda context: context.screen.next_window(), screen="overview", words=("window",), footer=20, group="Overview",
        ),
        Action(
            id="overview.mute", title="Mute 1h", help="Say nothing of this line of attention for an hour.", keys="m", weight=1, run=_mute,
            writes=True, screen="overview", applies=lambda context: context.screen.at_attention is not None, words=("mute",), footer=15,
            group="Overview",
        ),
    )  # fmt: skip

    def __init__(self) -> None:
        super().__init__()
        self.window = ""
        self._queues = ListSource(lambda row: row["name"])
        self._lines = ListSource(lambda row: row["key"])
        self._names: tuple[str, ...] = ()

    @property
    def step_s(self) -> int:
        return WINDOWS[self.window or self.monitor.wanted.window]

    def wants(self) -> Mapping[str, Want]:
        known, clock, refresher = self.monitor.known, self.monitor.clock, self.monitor.refresher

        def moves() -> object:
            return known.totals if refresher.quiet else int(clock.ticks())  # at rest one bucket is like the next

        def history(queue: str | None, step: int, limit: int, every: float) -> Want:
            def args() -> Body:
                return {"queue": queue, "step_s": step, "limit": known.missing(queue, step, limit, clock.now_ms())}

            return Want("history", args, every, queue, of=moves, rest_s=max(every, RESTS_S))

        found = {
            "queues": Want("queues", every_s=1.0),
            "attention": Want("attention", every_s=2.0),
            "history:1": history(None, 1, BUCKETS[1], 1.0),
        }
        if self.step_s != 1:
            found[f"history:{self.step_s}"] = history(None, self.step_s, BUCKETS[self.step_s], min(self.step_s, 10.0))
        for name in self._names:
            found[f"history:q:{name}"] = history(name, SPARK_STEP_S, SPARK_BUCKETS, float(SPARK_STEP_S))
        return found

    def body(self) -> ComposeResult:
        monitor = self.monitor
        self.window = monitor.wanted.window
        glyphs, drawing = monitor.glyphs, monitor.drawing
        yield Figures(glyphs=glyphs, id="figures")
        with Horizontal(id="charts"):
            yield Chart(drawing=drawing, writer=short, glyphs=glyphs, id="throughput", classes="pane")
            yield Chart(drawing=drawing, writer=duration, glyphs=glyphs, id="latency", classes="pane")
        with Horizontal(id="lists"):
            yield PagedTable(self._queue_columns(), self._queues, glyphs=glyphs, flashes=self.monitor.flashes, id="queues", classes="pane")
            yield PagedTable(self._attention_columns(), self._lines, glyphs=glyphs, flashes=False, id="attention", classes="pane")
        yield Line(id="worst")

    def _queue_columns(self) -> list[Column]:
        glyphs = self.monitor.glyphs

        def share(row: Body) -> list[Run]:
            style = "dim" if not row["fail"] else "bad" if row["fail"] >= 0.05 else "warn" if row["fail"] >= 0.01 else "text"
            return [(percent(row["fail"]), style)]

        return [
            Column("name", "QUEUE", 0, lambda row: [(row["name"], "text")], least=10),
            Column("state", "STATE", 9, lambda row: [(row["state"], row["style"])]),
            Column("pending", f"PEND {glyphs.falling}", 8, lambda row: [(count(row["pending"]), "text")], right=True),
            Column("running", "RUN", 6, lambda row: [(row["running"], "text")], right=True),
            Column("rate", "RATE", 7, lambda row: [(rate(row["rate"], minute=True), "text")], right=True),
            Column("fail", "FAIL", 6, share, right=True),
            Column("p95", "RUN95", 7, lambda row: [(duration(row["p95"]), "dim")], right=True, shown_from=140),
            Column("course", "2 MIN", 12, lambda row: [(spark(row["course"], 12, glyphs), "live")], shown_from=70),
        ]

    def _attention_columns(self) -> list[Column]:
        glyphs = self.monitor.glyphs
        signs = {"bad": glyphs.bad, "warn": glyphs.warn, "note": glyphs.note}
        return [
            Column("sign", "", 1, lambda row: [(signs.get(row["weight"], glyphs.note), SIGNS.get(row["weight"], "note"))]),
            Column("about", "ABOUT", 12, lambda row: [(str(row["about"][1] or row["about"][0]), "strong")]),
            Column("what", "WHAT", 0, lambda row: [(str(row["what"]), "dim" if row.get("muted_until") else "text")], least=12),
            Column("since", "FOR", 4, lambda row: [(self._age(row.get("since")), "dim")], right=True, ticks=True),
        ]

    def _age(self, since: object) -> str:
        return age(self.monitor.clock.now_ms() - since) if isinstance(since, int) and since else ""

    # what changed

    def apply(self, dirty: set[str]) -> None:
        histories = any(topic.startswith("history") for topic in dirty)
        if dirty & {"all", "totals"} or histories:
            self.query_one(Figures).show(self._figures())
        if "all" in dirty or histories:
            self._charts()
        if dirty & {"all", "queues"} or histories:
            self._list_queues()
        if dirty & {"all", "attention", "standing"}:
            self._list_attention()
        seconds = self.monitor.clock.ticks()
        for table in self.tables:
            table.tick(seconds)
        self.fade()

    def _figures(self) -> list[tuple[str, str, str, str, Sequence[float | None]]]:
        totals = self.monitor.known.totals or {}
        states = totals.get("states", {})
        slots = totals.get("workers", {})
        history = self.monitor.known.history(None, 1) or History(1)
        wide = self.monitor.known.history(None, self.step_s) or History(self.step_s)
        done, failed, retried = (history.added_up(name, 60) for name in ("succeeded", "failed", "retried"))
        ended = (done or 0) + (failed or 0) + (retried or 0)
        pending = [value for value in history.last("pending", 60) if value is not None]
        change = (pending[-1] - pending[0]) * 60 / max(len(pending) - 1, 1) if len(pending) > 10 else 0.0
        before = [value for value in history.last("succeeded", 120)[:60] if value is not None]
        earlier = sum(before, 0.0) if len(before) == 60 else 0.0
        more = done / earlier - 1 if done is not None and earlier else None
        glyphs, lost = self.monitor.glyphs, wide.added_up("failed", BUCKETS[self.step_s])

        def trend(value: float, text: str) -> str:
            return f"{glyphs.rising if value > 0 else glyphs.falling}{text}" if abs(value) >= 0.005 else ""

        def course(name: str) -> list[float | None]:
            return wide.last(name, BUCKETS[self.step_s])

        none = glyphs.nothing
        return [
            ("PENDING", count(states.get("pending")), trend(change, f"{short(abs(change))}/m"), "pending", course("pending")),
            ("RUNNING", count(states.get("running")), f"of {slots['total']:,}" if slots else "", "running", course("running")),
            ("DONE/MIN", none if done is None else count(done), "" if more is None else trend(more, percent(abs(more))), "succeeded",
             course("succeeded")),
            ("FAILED/MIN", none if failed is None else count(failed), percent((failed or 0) / ended) if ended and failed else "", "failed",
             course("failed")),
            ("RETRYING", count(states.get("retrying")), f"{short(retried)}/m" if retried else "", "retrying", course("retrying")),
            ("DEAD", count(states.get("failed")), f"+{short(lost)} in {self.window}" if lost else "", "failed", course("dead")),
        ]  # fmt: skip

    def _charts(self) -> None:
        history = self.monitor.known.history(None, self.step_s) or History(self.step_s)
        number, ticks = BUCKETS[self.step_s], self.monitor.clock.ticks()
        parts = [history.last(name, number) for name in ("succeeded", "failed", "retried")]
        ended: list[float | None] = [
            None if all(value is None for value in bucket) else sum(value or 0 for value in bucket) / self.step_s
            for bucket in zip(*parts, strict=True)
        ]
        throughput, latency = self.query_one("#throughput", Chart), self.query_one("#latency", Chart)
        throughput.show([Series(ended, "live", name="ended")], until_ms=history.until, step_s=self.step_s, now_s=ticks)
        lines = [
            Series(history.last(name, number), name, weight, name)
            for name, weight in (("p50", "thick"), ("p95", "thin"), ("p99", "dotted"))
        ]
        latency.show(lines, until_ms=history.until, step_s=self.step_s, now_s=ticks)
        here = [value for value in ended if value is not None]
        topic = f"history:{self.step_s}"
        lacking = self.monitor.known.lacking.get(topic)
        now = f"{self.window}  now {rate(here[-1])}  peak {rate(max(here))}" if here else "no history" if lacking else "loading"
        entitle(throughput, "Throughput tasks/s", now)
        newest = {one.name: next((value for value in reversed(one.values) if value is not None), None) for one in lines}
        entitle(
            latency, "Latency", "  ".join(f"{name} {duration(value)}" for name, value in newest.items()) if any(newest.values()) else ""
        )

    def _list_queues(self) -> None:
        rows = sorted(
            (self._queue(row) for row in self.monitor.known.rows("queues", "queues")), key=lambda row: (-row["pending"], row["name"])
        )
        self._queues.show(rows)
        table = self.query_one("#queues", PagedTable)
        entitle(table, f"Queues {len(rows):,}" if rows else "Queues")
        if self.monitor.known.get("queues") is None:
            explain(table, WAITING)
        else:
            explain(table, ("No queue has had a task yet.", "text"), ("tq add -- make all  sends the first.", "dim"))
        names = tuple(row["name"] for row in rows[:QUEUES_MOST])
        if set(names) != set(self._names):
            self._names = names
            self.monitor.wants_changed()

    def _queue(self, row: Body) -> Body:
        """A row of the table, from the daemon's words and the queue's two minutes."""
        glyphs, name = self.monitor.glyphs, row["name"]
        states, slots = row.get("states") or {}, int(row.get("slots") or 0)
        running = int(states.get("running") or 0)
        history = self.monitor.known.history(name, SPARK_STEP_S) or History(SPARK_STEP_S)
        parts = [history.added_up(one, SPARK_BUCKETS) or 0 for one in ("succeeded", "failed", "retried")]
        minute = [history.added_up(one, 60 // SPARK_STEP_S) for one in ("succeeded", "failed", "retried")]
        state, style = f"{glyphs.live} run", "good"
        if row.get("paused"):
            state, style = f"{glyphs.paused} pause", "paused"
        elif row.get("held"):
            state, style = f"{glyphs.paused} held", "paused"
        elif row.get("external"):
            state, style = f"{glyphs.state('pending')} extern", "note"
        elif slots and running >= slots:
            state, style = f"{glyphs.live} limit", "warn"
        times = [value for value in history.last("p95", SPARK_BUCKETS) if value is not None]
        return {
            "name": name, "state": state, "style": style, "pending": int(states.get("pending") or 0),
            "running": f"{running:,}/{slots}" if slots else f"{running:,}",
            "rate": None if minute[0] is None else sum(value or 0 for value in minute) / 60,
            "fail": (parts[1] + parts[2]) / sum(parts) if sum(parts) else None, "p95": times[-1] if times else None,
            "course": history.last("pending", SPARK_BUCKETS),
        }  # fmt: skip

    def _list_attention(self) -> None:
        known = self.monitor.known
        now = self.monitor.clock.now_ms()
        rows = [row for row in known.rows("attention", "lines") if row.get("key") and len(row.get("about", ())) == 2]
        self._lines.show(rows)
        loud = [row for row in rows if (row.get("muted_until") or 0) <= now]
        table = self.query_one("#attention", PagedTable)
        entitle(table, f"Needs attention {len(loud)}" if loud else "Needs attention", "enter opens it, m mutes it 1h" if rows else "")
        if "attention" in known.lacking:
            explain(table, ("This daemon does not say what does.", "dim"))
        else:
            explain(table, WAITING if known.get("attention") is None else ("Nothing needs a look.", "good"))
        glyphs = self.monitor.glyphs
        signs = {"bad": Piece(f"{glyphs.bad} ", "$bad"), "warn": Piece(f"{glyphs.warn} ", "$warn")}
        pieces: list[Piece] = [Piece(" ")]
        for row in loud[:3]:
            name = row["about"][1] or row["about"][0]
            pieces += [signs.get(row["weight"], Piece(f"{glyphs.note} ")), Piece(clip(f"{name} {row['what']}", 40)), Piece("   ")]
        self.query_one("#worst", Line).show(pieces)

    def status(self) -> Sequence[Piece]:
        known, glyphs, now = self.monitor.known, self.monitor.glyphs, self.monitor.clock.now_ms()
        loud = [row for row in known.rows("attention", "lines") if (row.get("muted_until") or 0) <= now]
        bad, warn = (len([row for row in loud if row.get("weight") == weight]) for weight in ("bad", "warn"))
        totals = known.totals
        if totals is None:
            return [Piece("waiting for the first figures", "$muted")]
        counts = ", ".join(text for text in (f"{bad} {glyphs.bad}" if bad else "", f"{warn} {glyphs.warn}" if warn else "") if text)
        if "attention" in known.lacking:
            health = Piece("", "")
        elif bad or warn:
            health = Piece(f"{glyphs.warn} degraded ({counts})   ", "bold $bad" if bad else "bold $warn")
        else:
            health = Piece(f"{glyphs.good} healthy   ", "$good")
        slots = totals.get("workers", {})
        words = f"slots {slots.get('active', 0)} of {slots.get('total', 0)}   payloads {size(totals.get('bytes'))}"
        hidden = sum(totals.get("not_shown", {}).values())
        more = f"   {counted(hidden, 'smaller queue or type', 'smaller queues and types')} not shown" if hidden else ""
        return [health, Piece(words + more, "$muted")]

    # what a person does

    def next_window(self) -> None:
        """The next longer window; after the longest the shortest."""
        names = list(WINDOWS)
        self.window = names[(names.index(self.window) + 1) % len(names)]
        self.monitor.wants_changed()
        self.flush({"all"})

    @property
    def at_attention(self) -> Body | None:
        """The line of attention under the cursor, if the list has the focus."""
        table = self.query_one("#attention", PagedTable) if self.is_mounted else None
        row = table.cursor_row if table is not None and table.has_focus else None
        return row if isinstance(row, dict) else None

    async def mute(self) -> None:
        """Say nothing of the line under the cursor for an hour, or until that is undone."""
        row = self.at_attention
        if row is not None:
            monitor, key = self.monitor, row["key"]
            await monitor.call("mute", {"key": key, "for_ms": MUTE_MS})
            monitor.say(f"Muted for an hour: {row['what']}")
            monitor.refresher.again("attention")

    @property
    def list_in_use(self) -> PagedTable:
        """The list with the focus, or else that of the queues."""
        attention = self.query_one("#attention", PagedTable)
        return attention if attention.has_focus else self.query_one("#queues", PagedTable)

    def on_paged_table_opened(self) -> None:
        self.open()

    def open(self) -> None:
        """Show what is under the cursor on its own screen."""
        table = self.list_in_use
        row = table.cursor_row
        if table.id == "queues":
            self.monitor.open_place("queue", str(table.cursor_key))
        elif isinstance(row, dict):
            self.monitor.open_place(*(str(word) for word in row["about"]))

    def show_item(self, kind: str, name: str) -> bool:
        table = self.query_one("#queues", PagedTable)
        found = kind == "queue" and table.select(name)
        if found:
            table.focus()
        return found

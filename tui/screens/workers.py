"""The workers: which there are, what runs in each, and what they use.

For: the list, the slots of the worker under the cursor, its process, all of them together; drain, restart, scale.
Not for: tasks (their own screens), how many workers the work needs (the daemon).
Runs in: the monitor, on Textual.
Promises: before a worker ends, the number of tasks that run in it is told; what has died is told as far as the daemon remembers it.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Mapping, Sequence
from operator import itemgetter
from typing import Any, ClassVar

from textual.app import ComposeResult
from textual.containers import Horizontal

from tui.actions import Action, Context
from tui.charts import gauge, spark
from tui.formats import count, counted, duration, percent, size
from tui.paging import ROWS_MOST, ListSource
from tui.refresh import Want
from tui.screens.lists import IDLE_S, SOON_S, Brief, Card, ListScreen, briefs, has_row
from tui.screens.screen import entitle, explain
from tui.screens.sorting import Orders, sort_actions
from tui.state import Body
from tui.widgets.bars import Piece
from tui.widgets.confirm import Question
from tui.widgets.painting import Run, Runs
from tui.widgets.table import Column, PagedTable

COURSE = 60
"""Answers that the small courses of a worker go back."""
SILENT_MS = 10_000
"""A worker that gave no sign of life for so long is marked."""
STYLES = {"starting": "scheduled", "idle": "dim", "busy": "good", "draining": "paused", "ending": "paused"}
GROUP = "Workers"
NO_WORKERS = (("No worker runs.", "text"), ("+ adds one, or :scale 4 has four of them.", "dim"))


def _tasks_in(rows: Sequence[Body]) -> str:
    running = sum(len(row["tasks"]) for row in rows)
    return f"{counted(running, 'task')} {'runs' if running == 1 else 'run'} there now"


def _named(rows: Sequence[Body]) -> str:
    return f"worker {rows[0]['id']}" if len(rows) == 1 else counted(len(rows), "worker")


def _sizes(sizes: Body) -> str:
    low, high = sizes["min"], sizes["max"]
    return str(low) if low == high else f"{low} to {high}, as the work needs"


def _scaled(context: Context) -> Any:
    words = context.words.split()
    if len(words) not in (1, 2) or not all(word.isascii() and word.isdigit() and len(word) < 6 for word in words):
        raise ValueError(f"scale: expected a number of workers, or the fewest and the most, got {context.words!r}")
    return context.screen.scale(int(words[0]), int(words[-1]))


def _may_scale(context: Context) -> bool:
    return isinstance(context.screen, WorkersScreen) and context.screen.options.get("min_workers") is not None


def _twin(verb: str) -> Callable[[Context], str]:
    def twin(context: Context) -> str:
        return "; ".join(f"tq worker {verb} {name}" for name in ([context.words] if context.words else context.screen.chosen_names))

    return twin


ACTIONS = (
    Action(
        id="workers.open", title="Slots", help="Go to the slots of the worker; on a slot, open its task.",
        run=lambda context: context.screen.open(), says=lambda context: "Open task" if context.screen.in_slots else "Slots",
        screen="workers", by="enter", words=("open",), applies=has_row, footer=0, group=GROUP,
    ),
    Action(
        id="workers.drain", title="Drain…", keys="d",
        help="Let the worker, or those marked, finish what runs in them and go. It asks first.",
        run=lambda context: context.screen.drain(context.words), weight=2, writes=True, screen="workers", words=("drain",),
        takes="[NAME]", choices=lambda context: context.screen.names, applies=has_row, twin=_twin("drain"), footer=15, group=GROUP,
    ),
    Action(
        id="workers.restart", title="Restart…",
        help="Replace the worker, or those marked, by fresh ones when they have finished. It asks first.",
        keys="R", run=lambda context: context.screen.restart(context.words), weight=2, writes=True, screen="workers", words=("restart",),
        takes="[NAME]", choices=lambda context: context.screen.names, applies=has_row, twin=_twin("restart"), footer=20, group=GROUP,
    ),
    Action(
        id="workers.more", title="One worker more", short="More", help="Have one worker more; u takes it back.", keys="plus",
        run=lambda context: context.screen.change(1), writes=True, screen="workers", words=("more",), applies=_may_scale, footer=30,
        group=GROUP,
    ),
    Action(
        id="workers.fewer", title="One worker less", short="Fewer", help="Have one worker less, but never none; u takes it back.",
        keys="-", run=lambda context: context.screen.change(-1), writes=True, screen="workers", words=("fewer",),
        applies=_may_scale, footer=31, group=GROUP,
    ),
    Action(
        id="workers.scale", title="Scale", help="Have so many workers, or between so many, as the work needs: :scale 2 8.", run=_scaled,
        writes=True, screen="workers", words=("scale",), takes="N or MIN MAX", applies=_may_scale,
        twin=lambda context: f"tq worker scale {context.words}", footer=0, group=GROUP,
    ),
    *sort_actions("workers", GROUP),
)  # fmt: skip


class WorkersScreen(ListScreen):
    """The screen of the digit 4."""

    title_id = "workers"
    name_long, name_short, number = "Workers", "Work", "4"
    LIST, TOPIC, AUTO_FOCUS = "worker-list", "workers", "#worker-list"
    KEY = "id"
    ACTIONS = ACTIONS
    ORDERS: ClassVar[Orders] = {
        "id": itemgetter("id"), "state": itemgetter("state"), "cpu": itemgetter("cpu"), "rss": itemgetter("rss"),
        "slots": lambda row: len(row["tasks"]), "done": itemgetter("done"), "for": lambda row: -row["since"] or None,
        "beat": itemgetter("beat"),
    }  # fmt: skip
    FIRST, RISING = "id", ("id", "state")

    def __init__(self) -> None:
        super().__init__()
        self._workers = ListSource(lambda row: row["id"])
        self._slots = ListSource(lambda row: row["place"])
        self._ids: tuple[int, ...] = ()
        self._courses: dict[str, deque[tuple[float, float]]] = {}
        self._seen_at = 0

    def wants(self) -> Mapping[str, Want]:
        found = {
            "workers": Want("workers", every_s=SOON_S, of=self.stood, rest_s=IDLE_S), "attention": Want("attention", every_s=IDLE_S),
        }  # fmt: skip
        if self._ids:
            found["workers:tasks"] = Want(
                "rows", lambda: {"ids": list(self._ids)}, every_s=SOON_S, of=lambda: (self.stood(), self._ids), rest_s=IDLE_S
            )
        return found

    def body(self) -> ComposeResult:
        glyphs = self.monitor.glyphs
        yield PagedTable(self._columns(), self._workers, glyphs=glyphs, flashes=False, id="worker-list")
        with Horizontal(id="worker-panels"):
            yield PagedTable(self._slot_columns(), self._slots, glyphs=glyphs, flashes=False, id="worker-slots", classes="pane")
            yield Card(glyphs=glyphs, id="worker-process", classes="pane")
        yield Card(glyphs=glyphs, id="worker-all", classes="pane")

    def _columns(self) -> list[Column]:
        glyphs = self.monitor.glyphs

        def cpu(row: Body) -> list[Run]:
            share = row["cpu"] / (100 * max(row["slots"], 1))
            return [(gauge(share, 8, glyphs, empty=False), "live"), (f"{row['cpu']:>4}%", "text")]

        def beat(row: Body) -> list[Run]:
            silent = row["beat"] >= SILENT_MS // 1000
            return [(f"{row['beat']}s{f' {glyphs.warn}' if silent else ''}", "warn" if silent else "dim")]

        return [
            Column("id", "NAME", 10, lambda row: [(row["id"], "strong")]),
            Column("state", "STATE", 8, lambda row: [(row["word"], row["style"])]),
            Column("pid", "PID", 7, lambda row: [(str(row["pid"]), "dim")], right=True, sorts=False),
            Column("cpu", "CPU", 13, cpu),
            Column("memory", "MEM", 5, lambda row: [(spark(row["course"], 5, glyphs), "live")], shown_from=100, sorts=False),
            Column("rss", "RSS", 5, lambda row: [(size(row["rss"], narrow=True), "text")], right=True),
            Column("slots", "SLOTS", 5, lambda row: [(f"{len(row['tasks'])}/{row['slots']}", "text")], right=True),
            Column("ahead", "AHEAD", 5, lambda row: [(count(row["ahead"]), "dim")], right=True, shown_from=140, sorts=False),
            Column("done", "DONE", 9, lambda row: [(count(row["done"]), "text")], right=True, shown_from=100),
            Column("task", "TASK", 0, lambda row: [(row["task"], "text")], least=6, sorts=False),
            Column("for", "FOR", 6, lambda row: [(self._since(row["since"]), "dim")], right=True, ticks=True),
            Column("beat", "BEAT", 5, beat, right=True),
        ]

    def _slot_columns(self) -> list[Column]:
        glyphs = self.monitor.glyphs

        def progress(row: Body) -> list[Run]:
            if row["suspended"]:
                return [(f"{glyphs.paused} suspended", "paused")]
            share = row["progress"]
            return [] if share is None else [(gauge(share, 7, glyphs, empty=False), "live"), (f" {percent(share)}", "dim")]

        return [
            Column("place", "SLOT", 4, lambda row: [(str(row["place"]), "dim")], right=True),
            Column("type", "TYPE", 0, lambda row: [(row["type"], "text" if row["id"] else "dim")], least=8),
            Column("id", "TASK", 9, lambda row: [(str(row["id"] or ""), "text")], right=True),
            Column("for", "FOR", 6, lambda row: [(self._since(row["since"]), "dim")], right=True, ticks=True),
            Column("progress", "PROGRESS", 12, progress),
        ]

    def _since(self, ms: int) -> str:
        standing = self.monitor.feed.standing  # what runs while nobody answers, nobody knows
        now = self.monitor.clock.now_ms() if standing.phase.connected else standing.heard_ms
        return duration(max(now - ms, 0) // 100 * 100) if ms else ""

    # what is known

    @property
    def options(self) -> Body:
        """What the daemon says of its workers: the fewest, the most, and the slots of each."""
        return (self.monitor.known.get("status") or {}).get("options") or {}

    def _worker(self, row: Body, tasks: Mapping[int, Brief], at: int) -> Body:
        glyphs = self.monitor.glyphs
        signs = {
            "starting": glyphs.state("scheduled"), "idle": glyphs.state("pending"), "busy": glyphs.live, "draining": glyphs.paused,
            "ending": glyphs.state("cancelled"),
        }  # fmt: skip
        words = {"starting": "start", "draining": "drain", "ending": "end"}
        running = [tasks[one] for one in row["tasks"] if one in tasks]
        types = Counter(task.type for task in running)
        first = next(iter(types), f"task {row['tasks'][0]}" if row["tasks"] else "")
        more = len(row["tasks"]) - (types[first] or 1)
        times = f" x{types[first]}" if types[first] > 1 else ""
        state = row["state"]
        return {
            "id": row["id"], "state": state, "word": f"{signs.get(state, '?')} {words.get(state, state)}",
            "style": STYLES.get(state, "warn"), "pid": row["pid"], "cpu": round(row["cpu"]), "rss": row["rss"] >> 20 << 20,
            "tasks": tuple(row["tasks"]), "ahead": row["ahead"], "done": row["done"],
            "slots": max(int(self.options.get("slots") or 1), len(row["tasks"])),
            "task": first + times + (f" +{more}" if more > 0 else ""), "beat": max(at - row["last_heartbeat"], 0) // 1000,
            "since": min((task.started_at for task in running if task.started_at), default=0),
            "course": tuple(rss for _, rss in list(self._courses.get(row["id"], ()))[-5:]),
        }  # fmt: skip

    def _see(self, rows: Sequence[Body], at: int) -> None:
        """Remember what each uses, once for each answer."""
        if at == self._seen_at:
            return
        self._seen_at = at
        names = {row["id"] for row in rows}
        self._courses = {name: course for name, course in self._courses.items() if name in names}
        for row in rows:
            self._courses.setdefault(row["id"], deque(maxlen=COURSE)).append((round(row["cpu"]), row["rss"] >> 20))

    # what changed

    def apply(self, dirty: set[str]) -> None:
        self.told()
        if dirty & {"all", "workers", "workers:tasks", "status", "attention", "standing"}:
            self._show()

    def _show(self) -> None:
        known = self.monitor.known
        at = known.taken.get("workers", 0)
        rows = [row for row in known.rows("workers", "workers") if isinstance(row.get("id"), str)]
        self._see(rows, at)
        tasks = briefs(known.rows("workers:tasks", "rows"))
        shown = [self._worker(row, tasks, at) for row in rows]
        self._workers.show(self.order.sorted(shown))
        self.explained(*NO_WORKERS)
        self.sought()
        self._show_slots(tasks)
        self._show_process(rows)
        self._show_all(shown, tasks)
        ids = tuple([one for row in rows for one in row["tasks"]][:ROWS_MOST])
        if ids != self._ids:
            self._ids = ids
            self.monitor.wants_changed()

    def _show_slots(self, tasks: Mapping[int, Brief]) -> None:
        here, table = self.here, self.query_one("#worker-slots", PagedTable)
        rows = []
        for place in range(here["slots"] if here is not None else 0):
            id_ = here["tasks"][place] if here is not None and place < len(here["tasks"]) else 0
            task = tasks.get(id_)
            nothing = "" if id_ else self.monitor.glyphs.nothing
            rows.append({
                "place": place + 1, "id": id_, "type": f"{task.type}  {task.label}".rstrip() if task else nothing,
                "since": task.started_at if task else 0, "progress": task.progress if task else None,
                "suspended": task is not None and task.suspended,
            })  # fmt: skip
        self._slots.show(rows)
        entitle(table, f"{here['id']} slots" if here else "Slots", "enter opens the task" if here and here["tasks"] else "")
        explain(table, ("No worker is chosen.", "dim"))

    def _show_process(self, rows: Sequence[Body]) -> None:
        here, card, glyphs = self.here, self.query_one("#worker-process", Card), self.monitor.glyphs
        row = next((row for row in rows if here is not None and row["id"] == here["id"]), None)
        entitle(card, f"{row['id']} process" if row else "Process")
        if row is None or here is None:
            card.show(())
            return
        course = self._courses.get(row["id"], deque())
        up = (self.monitor.known.taken.get("workers", 0) - row["started_at"]) // 1000 * 1000
        card.show([
            [("cpu   ", "dim"), (spark([cpu for cpu, _ in course], 14, glyphs, 100.0), "live"), (f" {here['cpu']}% of a core", "text"),
             (f"   {duration(row['cpu_s'] * 1000)} in all", "dim")],
            [("rss   ", "dim"), (spark([rss for _, rss in course], 14, glyphs), "live"), (f" {size(here['rss'])}", "text")],
            [("host  ", "dim"), (row["hostname"], "text"), ("   pid ", "dim"), (str(row["pid"]), "text"), ("   up ", "dim"),
             (duration(max(up, 0)), "text")],
            [("state ", "dim"), (here["word"], here["style"]), ("   done ", "dim"), (count(row["done"]), "text"), ("   ahead ", "dim"),
             (count(row["ahead"]), "text")],
        ])  # fmt: skip

    def _show_all(self, rows: Sequence[Body], tasks: Mapping[int, Brief]) -> None:
        card, glyphs = self.query_one("#worker-all", Card), self.monitor.glyphs
        slots, running = sum(row["slots"] for row in rows), sum(len(row["tasks"]) for row in rows)
        use = running / slots if slots else None
        by_queue = Counter(task.queue for task in tasks.values() if task.id in self._ids).most_common(6)
        queues: list[Run] = [("queues ", "dim")]
        for name, number in by_queue:
            bar = gauge(number / max(by_queue[0][1], 1), 8, glyphs, empty=False).rstrip()
            queues += [(f"{name} ", "text"), (bar, "live"), (f" {number:,}   ", "dim")]
        entitle(card, "All workers")
        if self.monitor.known.get("workers") is None:
            card.show(())
            return
        card.show([
            [("cpu ", "dim"), (f"{sum(row['cpu'] for row in rows)}%", "text"), (" of a core   rss ", "dim"),
             (size(sum(row["rss"] for row in rows)), "text"), ("   slots ", "dim"), (f"{running:,}/{slots:,} ", "text"),
             (gauge(use, 16, glyphs), "live"), (f" {percent(use)}" if slots else "", "text"), ("   done ", "dim"),
             (count(sum(row["done"] for row in rows)), "text")],
            queues if by_queue else [("nothing runs in them", "dim")],
            self._trouble(),
        ])  # fmt: skip

    def _trouble(self) -> Runs:
        """What the daemon says of workers that died, or are not there."""
        lines = [
            row for row in self.monitor.known.rows("attention", "lines") if tuple(row.get("about", ()))[:1] in (("workers",), ("worker",))
        ]
        glyphs = self.monitor.glyphs
        found: list[Run] = []
        for row in lines:
            bad = row.get("weight") == "bad"
            found += [(f"{glyphs.bad if bad else glyphs.warn} ", "bad" if bad else "warn"), (f"{row.get('what')}   ", "text")]
        return found or [("none was lost lately" if self.monitor.known.get("attention") is not None else "", "dim")]

    def on_paged_table_cursor_moved(self, event: PagedTable.CursorMoved) -> None:
        if event.table.id == self.LIST:
            known = self.monitor.known
            self._show_slots(briefs(known.rows("workers:tasks", "rows")))
            self._show_process(known.rows("workers", "workers"))

    def status(self) -> Sequence[Piece]:
        if unknown := self.unknown():
            return unknown
        low, high = self.options.get("min_workers"), self.options.get("max_workers")
        sizes = "" if low is None else f"   {low} wanted" if low == high else f"   {low} to {high}, as the work needs"
        table = self.table
        marked = len(self.chosen) if table.marks or table.all_marked else 0
        marks = [Piece(f"{marked} marked   ", "bold")] if marked else []
        words = f"{counted(self._workers.total, 'worker')}{sizes}   "
        trouble = [Piece(text, f"${style}" if style in ("bad", "warn") else "") for text, style in self._trouble() if style != "dim"]
        return [*marks, Piece(words, "$muted"), self.sign(), Piece("   "), *trouble]

    # what a person does

    def on_paged_table_opened(self, event: PagedTable.Opened) -> None:
        self.open(event.table)

    def open(self, table: PagedTable | None = None) -> None:
        """From the list to the slots; from a slot to its task."""
        slots = self.query_one("#worker-slots", PagedTable)
        if (table or self.focused) is not slots and self.query_one("#worker-panels").display:
            slots.focus()
        elif isinstance(slots.cursor_row, dict) and slots.cursor_row["id"]:
            self.monitor.open_place("task", str(slots.cursor_row["id"]))

    @property
    def in_slots(self) -> bool:
        return self.is_mounted and self.query_one("#worker-slots").has_focus

    def _about(self, name: str) -> list[Body]:
        """The worker of this name, or those chosen. ValueError: there is none."""
        entries = [self._workers.entry(place) for place in range(self._workers.total)]
        rows = [entry.row for entry in entries if entry is not None and entry.row["id"] == name] if name else self.chosen
        if not rows:
            raise ValueError(f"expected a worker, got {name!r}" if name else "there is no worker")
        return rows

    @property
    def names(self) -> list[str]:
        return [str(row["id"]) for row in self.monitor.known.rows("workers", "workers")]

    async def drain(self, name: str) -> None:
        """Let workers finish what runs in them and go."""
        rows, monitor = self._about(name), self.monitor
        question = Question(
            "Drain workers", f"{_named(rows)} will finish and go: {_tasks_in(rows)}", f"Drain {len(rows)}", 2,
            facts=(("workers", ", ".join(row["id"] for row in rows)), ("after", "none takes their place: there will be fewer")),
        )  # fmt: skip
        if await monitor.confirm(question):
            sizes = [await monitor.call("drain_worker", {"id": row["id"]}) for row in rows]
            monitor.say(f"Draining; workers from now on: {_sizes(sizes[-1])}")
            monitor.refresher.again("workers", "status")

    async def restart(self, name: str) -> None:
        """Replace workers by fresh ones, one after the other."""
        rows, monitor = self._about(name), self.monitor
        question = Question(
            "Restart workers", f"{_named(rows)} will finish and be replaced: {_tasks_in(rows)}", f"Restart {len(rows)}", 2,
            facts=(("workers", ", ".join(row["id"] for row in rows)), ("how", "one after the other, if the application imports")),
        )  # fmt: skip
        if await monitor.confirm(question):
            for row in rows:
                await monitor.call("restart_workers", {"id": row["id"]})
            monitor.say(f"Restarting, one after the other: {', '.join(row['id'] for row in rows)}")
            monitor.refresher.again("workers")

    async def scale(self, low: int, high: int) -> None:
        """Have between so many workers; undone for a while by ``u``."""
        monitor, options = self.monitor, self.options
        before = {"min": options.get("min_workers"), "max": options.get("max_workers")}
        sizes = await monitor.call("scale_workers", {"min": low, "max": high})

        async def undo() -> None:
            await monitor.call("scale_workers", before)

        monitor.say(f"Workers from now on: {_sizes(sizes)}", undo=undo if None not in before.values() else None)
        monitor.refresher.again("workers", "status")

    async def change(self, by: int) -> None:
        """One worker more, or less; never none."""
        low, high = int(self.options["min_workers"]), int(self.options["max_workers"])
        fresh = max(high + by, 1)
        await self.scale(fresh if low == high else min(low, fresh), fresh)

    def show_item(self, kind: str, name: str) -> bool:
        return kind == "workers" or (kind == "worker" and self.seek(name))

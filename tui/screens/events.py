"""The events: who did what to what, the newest first.

For: the list, which pages back as far as the daemon remembers; following it; some of them by words; what each has changed.
Not for: keeping them (the daemon), what happens inside of tasks (their own page).
Runs in: the monitor, on Textual.
Promises: rows do not move under a person but while following; how much of what there is was looked through is told beside a choice.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from textual import events
from textual.app import ComposeResult
from textual.containers import Horizontal
from textual.widgets import Input

from tui.actions import Action, Context
from tui.documents import cut
from tui.eventlog import KEEP_MOST, SYSTEM, EventLog
from tui.formats import ASCII, clock, count, counted, day, duration
from tui.refresh import Want
from tui.screens.lists import SOON_S, ListScreen, has_row
from tui.screens.screen import entitle
from tui.state import Body
from tui.widgets.bars import Line, Piece
from tui.widgets.painting import Run, Runs
from tui.widgets.panes import TextPane
from tui.widgets.table import Column, PagedTable

ASK_S = 2.0
"""What is done to queues and schedules changes no total, so the daemon tells nobody: this often it is asked for what is new."""
QUEUE_DID = frozenset({"set_queue", "paused", "resumed", "held", "let_go"})
"""What is done to queues, whose events name nothing but the queue."""
TROUBLE = frozenset({"slot_skipped", "slots_missed", "held", "alert_not_sent", "alert_raised", "interrupted", "crashed"})
WORDS_MOST = 200
GROUP = "Events"


def _filtered(context: Context) -> Any:
    return context.screen.choose(context.words)


ACTIONS = (
    Action(
        id="events.open", title="Open", help="Show what the event is about: its queue, schedule, worker or task.",
        run=lambda context: context.screen.open(), screen="events", by="enter", words=("open",), applies=has_row, footer=0, group=GROUP,
    ),
    Action(
        id="events.filter", title="Filter", help="Choose by words: queue paused -1000 are events with the first two and without the last.",
        keys="slash", run=lambda context: context.screen.edit(), screen="events", footer=15, group=GROUP,
    ),
    Action(
        id="events.words", title="Filter by words", help="The same on one line: :filter mail paused; :filter alone shows all again.",
        run=_filtered, screen="events", words=("filter",), takes="[WORDS]", footer=0, group=GROUP,
    ),
    Action(
        id="events.audit", title="Audit only", short="Audit", keys="a",
        help="Show only what people did, or all again.",
        run=lambda context: context.screen.toggle_audit(),
        says=lambda context: "All" if context.screen.events_here.people else "Audit only",
        screen="events", words=("audit",), footer=20, group=GROUP,
    ),
    Action(
        id="events.follow", title="Follow", help="Stay at the newest event, or hold still again.", keys="F",
        run=lambda context: context.screen.toggle_follow(), says=lambda context: "Hold" if context.screen.table.follows else "Follow",
        screen="events", words=("follow",), footer=25, group=GROUP,
    ),
    Action(
        id="events.copy", title="Copy", help="Copy the event as it stands in the panel.", keys="y",
        run=lambda context: context.screen.copy(), screen="events", words=("copy",), applies=has_row, footer=40, group=GROUP,
    ),
)  # fmt: skip


class EventsScreen(ListScreen):
    """The screen of the digit 7."""

    title_id = "events"
    name_long, name_short, number = "Events", "Event", "7"
    LIST, TOPIC, AUTO_FOCUS = "event-list", "events", "#event-list"
    ACTIONS = ACTIONS
    ORDERS: ClassVar[Mapping[str, Any]] = {}

    def __init__(self) -> None:
        super().__init__()
        self._log: EventLog | None = None
        self._boot: object = None
        self._taken = 0
        self._shown: object = None

    @property
    def events_here(self) -> EventLog:
        """The events that are here."""
        if self._log is None:
            self._log = EventLog(self.monitor.feed.call, self._came)
        return self._log

    def wants(self) -> Mapping[str, Want]:
        return {"events": Want("events", self.events_here.news, every_s=SOON_S, of=self.stood, rest_s=ASK_S)}

    def body(self) -> ComposeResult:
        glyphs = self.monitor.glyphs
        with Horizontal(id="event-filter"):
            yield Line(id="event-filter-sign")
            yield Input(id="event-words", compact=True, max_length=WORDS_MOST, placeholder="words; -word leaves out")
        yield PagedTable(self._columns(), self.events_here, glyphs=glyphs, flashes=False, id="event-list")
        yield TextPane(glyphs=glyphs, wrap=True, id="event-details", classes="pane")

    def on_mount(self) -> None:
        self.table.follows = True
        self.query_one(Input).cursor_blink = False
        self.query_one("#event-filter").display = False
        self.query_one("#event-filter-sign", Line).show([Piece(" / ", "bold $primary")])

    def on_unmount(self) -> None:
        self.events_here.close()

    def _columns(self) -> list[Column]:
        return [
            Column("at", "TIME", 12, self._time, sorts=False),
            Column("level", "LEVEL", 7, self._level, sorts=False),
            Column("what", "WHAT", 14, lambda row: [(row["what"], "strong")], sorts=False),
            Column("target", "TARGET", 18, lambda row: [(row["target"], "text")], sorts=False),
            Column("change", "CHANGE", 0, lambda row: [("   ".join(self._changes(row)), "dim")], least=8, sorts=False),
            Column("who", "WHO", 21, lambda row: [(row["who"], "dim" if row["who"] in SYSTEM else "text")], shown_from=100, sorts=False),
        ]

    # words

    def _time(self, row: Body) -> list[Run]:
        zone, now = self.monitor.zone, self.monitor.clock.now_ms()
        today = day(row["at"], zone)[:6] == day(now, zone)[:6]
        return [(clock(row["at"], zone, millis=True), "text")] if today else [(day(row["at"], zone), "dim")]

    def _level(self, row: Body) -> list[Run]:
        glyphs = self.monitor.glyphs
        if row["what"] in TROUBLE:
            return [(f"{glyphs.warn} warn", "warn")]
        return [(f"{glyphs.note} info", "dim")] if row["who"] in SYSTEM else [(f"{glyphs.live} audit", "live")]

    def _changes(self, row: Body) -> list[str]:
        """``slots 2 → 4``, ``paused yes``: what it was, if that is known, and what it is."""
        before, after = row.get("before") or {}, row.get("after") or {}
        arrow = "->" if self.monitor.glyphs is ASCII else "→"
        found = []
        for key in dict.fromkeys([*before, *after]):
            if key not in before and after[key] in (None, "", 0, False, ()):
                continue  # nobody said so: it is what it is if nothing is said
            was = f"{self._value(key, before[key])} {arrow} " if key in before else ""
            name = str(key).removesuffix("_ms").removesuffix("_at").replace("_", " ")
            found.append(f"{name} {was}{self._value(key, after[key]) if key in after else 'gone'}")
        return found

    def _value(self, key: str, value: object) -> str:
        if value in (None, "", ()):
            return "none"
        if isinstance(value, bool):
            return "yes" if value else "no"
        if isinstance(value, bytes):
            return counted(len(value), "byte")
        if isinstance(value, int) and str(key).endswith("_ms"):
            return duration(value)
        if isinstance(value, int) and (str(key).endswith("_at") or key in ("at", "until")):
            return day(value, self.monitor.zone) if value else "none"
        return cut(", ".join(map(str, value)) if isinstance(value, tuple) else str(value), 400)

    # what changed

    def apply(self, dirty: set[str]) -> None:
        self.told()
        known, standing, log = self.monitor.known, self.monitor.feed.standing, self.events_here
        boot = (standing.hello or {}).get("boot")
        if boot != self._boot and standing.phase.connected:
            if self._boot is not None:  # another daemon: it may know of less than is here
                log.forget()
                self.monitor.refresher.again("events")
                self._taken = known.taken.get("events", 0)
            self._boot = boot
        taken = known.taken.get("events", 0)
        if taken != self._taken:
            self._taken = taken
            log.take(known.rows("events", "events"))
        if "standing" in dirty and standing.phase.connected:
            log.again()
        if dirty & {"all", "events", "standing"}:
            self._came()

    def _came(self) -> None:
        """Other events are here than before, or others are chosen."""
        if not self.is_mounted:
            return
        log = self.events_here
        if log.words or log.people:
            chosen = " ".join(log.words) or "what people did"
            seen = f"{counted(log.loaded, 'event')} looked through"
            self.explained((f"No event matches: {chosen}", "text"), (f"{seen}. / changes the words, a shows all again.", "dim"))
        else:
            self.explained(("Nothing has been done here yet.", "text"), ("Pausing a queue, for one, is remembered here.", "dim"))
        self._show_one()
        self.lines()

    def _show_one(self) -> None:
        row, pane = self.here, self.query_one("#event-details", TextPane)
        key = (row["number"] if row else 0, self.monitor.zone)
        if key == self._shown:
            return
        self._shown = key
        entitle(pane, f"event {row['number']:,}" if row else "Event", "enter opens what it is about" if row and self._subject(row) else "")
        lines: list[Runs] = []
        if row is not None:
            zone = self.monitor.zone
            at = f"{day(row['at'], zone)[:-6]} {clock(row['at'], zone, millis=True)}"
            lines = [
                [(f"{row['what']}  ", "strong"), (row["target"], "text"), ("   at ", "dim"), (at, "text"), ("   by ", "dim"),
                 (row["who"], "text")],
                *[[("  ", "text"), (text, "text")] for text in self._changes(row)],
            ]  # fmt: skip
        pane.show_lines(lines)

    def status(self) -> Sequence[Piece]:
        if unknown := self.unknown():
            return unknown
        log, table = self.events_here, self.table
        chosen = bool(log.words or log.people)
        words = f"{count(log.total)} of {counted(log.loaded, 'event')} match" if chosen else counted(log.loaded, "event")
        if log.failed:
            more = f"   older ones did not come: {log.failed}"
        elif log.complete:
            more = "   all that are kept"
        else:
            more = f"   the newest {KEEP_MOST:,}; tq events --limit has more" if log.exact else "   older ones below"
        pieces = [Piece("following   ", "$good") if table.follows else Piece("holding still   ", "$muted")]
        pieces += [Piece("audit only   ", "bold")] if log.people else []
        pieces += [Piece(f"/ {' '.join(log.words)}   ", "bold")] if log.words else []
        return [*pieces, Piece(words + more, "$muted")]

    # what a person does

    def on_paged_table_cursor_moved(self, event: PagedTable.CursorMoved) -> None:
        if event.place and self.table.follows:
            self.table.follows = False
            self.lines()
        self._show_one()

    def on_paged_table_opened(self, event: PagedTable.Opened) -> None:
        self.open()

    def on_paged_table_noted(self, event: PagedTable.Noted) -> None:
        self.monitor.say(event.words, "$bad")

    def _subject(self, row: Body) -> tuple[str, str] | None:
        """What an event is about, as ``open_place`` names it; None: nothing that has a place."""
        what, target = row["what"], row["target"]
        kind, blank, name = target.partition(" ")
        if blank and kind in ("schedule", "worker"):
            return kind, name
        if target == "workers":
            return "workers", ""
        if target == "settings":
            return "setting", next(iter({**(row.get("before") or {}), **(row.get("after") or {})}), "")
        if what in QUEUE_DID:
            return "queue", target
        return ("task", target) if target.isascii() and target.isdigit() and what != "chore_done" else None

    def open(self) -> None:
        """Show what the event is about."""
        row = self.here
        if row is not None and (subject := self._subject(row)) is not None:
            self.monitor.open_place(*subject)
        elif row is not None:
            self.monitor.say(f"{row['what']} {row['target']} has no place of its own to show.")

    def edit(self) -> None:
        """Type the words to choose by."""
        self.query_one("#event-filter").display = True
        self.query_one(Input).focus()

    def choose(self, words: str) -> None:
        """Show the events that have all these words; "" shows all."""
        line = self.query_one(Input)
        if line.value != words:
            line.value = words
        self.query_one("#event-filter").display = bool(words) or line.has_focus
        self.events_here.choose(words.lower().split(), self.events_here.people)
        self._came()

    def on_input_changed(self, event: Input.Changed) -> None:
        self.choose(event.value)

    def on_input_submitted(self, event: Input.Submitted) -> None:
        self.table.focus()
        self.query_one("#event-filter").display = bool(event.value.strip())

    def on_key(self, event: events.Key) -> None:
        line = self.query_one(Input)
        if event.key == "escape" and (line.has_focus or self.events_here.words):
            event.stop()
            self.table.focus()
            self.choose("")
            self.query_one("#event-filter").display = False

    def toggle_audit(self) -> None:
        """What people did alone, or all."""
        self.events_here.choose(self.events_here.words, not self.events_here.people)
        self._came()

    def toggle_follow(self) -> None:
        """Stay at the newest, or hold still."""
        table = self.table
        table.follows = not table.follows
        if table.follows:
            table.move_to(0)
        self.lines()

    def copy(self) -> None:
        """Copy what the panel shows."""
        self.monitor.copy_to_clipboard(self.query_one("#event-details", TextPane).text)

    def show_item(self, kind: str, name: str) -> bool:
        """The events of an alert, or of the clock: chosen by these words."""
        if kind in ("alert", "clock"):
            self.choose(f"{kind} {name}".strip())
        return kind in ("alert", "clock")

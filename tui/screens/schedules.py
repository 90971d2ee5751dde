"""The schedules: what comes again and again, when next, and how it went.

For: the list, what the schedule under the cursor sends and when, its last runs, and the slots of the next day.
Not for: reckoning slots and reading expressions (the daemon), making, editing and skipping (schedule_acts).
Runs in: the monitor, on Textual.
Promises: a schedule is removed only after its name was typed; every time is in the zone that is shown everywhere; slots that nobody has
reckoned are not drawn as if somebody had.
"""

from __future__ import annotations

import shlex
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from operator import itemgetter
from typing import Any, ClassVar

from textual.app import ComposeResult
from textual.containers import Horizontal

from tq.errors import TqError
from tq.model import SHELL, unpack
from tui.actions import Action, Context
from tui.documents import JsonText, cut
from tui.formats import ASCII, NOTHING, clip, clock, counted, day, duration
from tui.paging import ROWS_MOST, ListSource
from tui.refresh import Want
from tui.screens import schedule_acts
from tui.screens.lists import IDLE_S, SOON_S, Brief, Card, ListScreen, briefs, has_row
from tui.screens.screen import entitle, explain
from tui.screens.sorting import Orders, sort_actions
from tui.state import Body
from tui.widgets.bars import Piece
from tui.widgets.confirm import Question
from tui.widgets.painting import Run, Runs
from tui.widgets.panes import TextPane
from tui.widgets.table import Column, PagedTable

LIST_MOST = 500
"""Schedules that are listed: what one answer holds."""
LOOKED_AT = 40
"""Schedules whose runs and slots are asked for: more are not seen at once."""
RUNS = 12
SLOTS_MOST = 200
"""Slots of a schedule that are asked for; beyond them the strip says that there are more."""
SELDOM_S = 60.0
HOUR_MS, DAY_MS = 3_600_000, 86_400_000
LATE_MS = 10_000
"""A run that began so long after its slot, and the schedule's jitter, is marked."""
REBOOT = "@reboot"
GROUP = "Schedules"
NO_SCHEDULES = (("There is no schedule yet.", "text"), ("tq schedule add nightly --cron '0 2 * * *' -- backup.sh  makes the first.", "dim"))


def _named(rows: Sequence[Body]) -> str:
    return f"schedule {rows[0]['name']}" if len(rows) == 1 else counted(len(rows), "schedule")


def _twin(verb: str) -> Callable[[Context], str]:
    def twin(context: Context) -> str:
        return "; ".join(f"tq schedule {verb} {name}" for name in ([context.words] if context.words else context.screen.chosen_names))

    return twin


def _puts(paused: bool | None) -> Callable[[Context], Any]:
    return lambda context: context.screen.pause(context.words, paused)


def _paused(context: Context) -> str:
    return "Resume" if has_row(context) and context.screen.chosen and all(row["paused"] for row in context.screen.chosen) else "Pause"


def _names(context: Context) -> Sequence[str]:
    found: list[str] = context.screen.names
    return found


ACTIONS = (
    Action(
        id="schedules.open", title="Runs", help="Go to the last runs of the schedule; on a run, open its task.",
        run=lambda context: context.screen.open(), says=lambda context: "Open task" if context.screen.in_runs else "Runs",
        screen="schedules", by="enter", words=("open",), applies=has_row, footer=0, group=GROUP,
    ),
    Action(
        id="schedules.trigger", title="Trigger now…", short="Trigger…", keys="t",
        help="Send the task of the schedule, or of those marked, now, whatever goes on. It asks first.",
        run=lambda context: context.screen.trigger(context.words), weight=1, writes=True, screen="schedules", words=("trigger",),
        takes="[NAME]", choices=_names, applies=has_row, twin=_twin("run"), footer=15, group=GROUP,
    ),
    Action(
        id="schedules.pause", title="Pause or resume", short="Pause/Resume", keys="p",
        help="Pause the schedule, or those marked; if they are paused, resume them.",
        run=_puts(None), says=_paused, writes=True, screen="schedules", words=("toggle",), takes="[NAME]", choices=_names,
        applies=has_row, footer=16, group=GROUP,
    ),
    Action(
        id="schedules.off", title="Pause", help="Pause the schedule, or those marked; u takes it back.", run=_puts(True), writes=True,
        screen="schedules", words=("pause",), takes="[NAME]", choices=_names, applies=has_row, twin=_twin("pause"), footer=0, group=GROUP,
    ),
    Action(
        id="schedules.on", title="Resume", help="Resume the schedule, or those marked; u takes it back.", run=_puts(False), writes=True,
        screen="schedules", words=("resume",), takes="[NAME]", choices=_names, applies=has_row, twin=_twin("resume"), footer=0, group=GROUP,
    ),
    Action(
        id="schedules.remove", title="Remove…", help="Remove the schedule, or those marked, for good; their tasks stay. It asks first.",
        keys="D", run=lambda context: context.screen.drop(context.words), weight=3, writes=True, screen="schedules", words=("remove",),
        takes="[NAME]", choices=_names, applies=has_row, twin=_twin("remove"), footer=20, group=GROUP,
    ),
    Action(
        id="schedules.edit", title="Edit", help="Rule, zone, task and policies of the schedule in a form; u takes a change back.",
        keys="e", run=lambda context: context.screen.edit(context.words), writes=True, screen="schedules", words=("edit",), takes="[NAME]",
        choices=_names, applies=has_row, footer=17, group=GROUP,
    ),
    Action(
        id="schedules.new", title="New", help="Make a schedule in a form: what it sends or runs, and when.", keys="plus",
        run=lambda context: context.screen.new(), writes=True, screen="schedules", words=("new",), footer=18, group=GROUP,
    ),
    Action(
        id="schedules.skip", title="Skip next", help="Leave out the next slot of the schedule, or of those marked; u takes it back.",
        keys="i", run=lambda context: context.screen.skip(context.words), writes=True, screen="schedules", words=("skip",),
        takes="[NAME]", choices=_names, applies=has_row, footer=19, group=GROUP,
    ),
    *sort_actions("schedules", GROUP),
)  # fmt: skip


class SchedulesScreen(ListScreen):
    """The screen of the digit 5."""

    title_id = "schedules"
    name_long, name_short, number = "Schedules", "Sched", "5"
    LIST, TOPIC, AUTO_FOCUS = "schedule-list", "schedules", "#schedule-list"
    ACTIONS = ACTIONS
    ORDERS: ClassVar[Orders] = {
        "next": lambda row: row["next_at"] or None, "name": itemgetter("name"), "state": itemgetter("word"),
        "last": lambda row: row["last_at"] or None, "drift": itemgetter("drift"),
    }  # fmt: skip
    FIRST, RISING = "next", ("next", "name", "state")

    def __init__(self) -> None:
        super().__init__()
        self._schedules = ListSource(lambda row: row["name"])
        self._runs = ListSource(lambda row: row["key"])
        self._looked: tuple[str, ...] = ()
        self._ids: tuple[int, ...] = ()
        self._signs: dict[str, tuple[object, object]] = {}
        self._details: object = None
        self._made = ""  # the name of one that was made here, and is not in the list yet

    def wants(self) -> Mapping[str, Want]:
        def seldom(verb: str, args: Body | Callable[[], Body], of: Callable[[], object]) -> Want:
            return Want(verb, args, every_s=SOON_S, of=of, rest_s=SELDOM_S)

        found = {"schedules": Want("schedules", {"limit": LIST_MOST}, every_s=SOON_S, of=self.stood, rest_s=IDLE_S)}
        for name in self._looked:
            found[f"schedule:{name}"] = seldom("schedules", {"name": name}, partial(self._signs_of_one, name))
            found[f"slots:{name}"] = seldom("next_slots", {"name": name, "count": SLOTS_MOST}, partial(self._rules_of, name))
        if self._ids:
            found["schedules:tasks"] = seldom("rows", lambda: {"ids": list(self._ids)}, lambda: (self.stood(), self._ids))
        return found

    def _signs_of_one(self, name: str) -> object:
        return self._signs.get(name)

    def _rules_of(self, name: str) -> object:
        return self._signs.get(name, (None, None))[1]

    def body(self) -> ComposeResult:
        glyphs = self.monitor.glyphs
        yield PagedTable(self._columns(), self._schedules, glyphs=glyphs, flashes=self.monitor.flashes, id="schedule-list")
        with Horizontal(id="schedule-panels"):
            yield TextPane(glyphs=glyphs, id="schedule-details", classes="pane")
            yield PagedTable(self._run_columns(), self._runs, glyphs=glyphs, flashes=False, id="schedule-runs", classes="pane")
        yield Card(glyphs=glyphs, id="schedule-day", classes="pane")

    def _columns(self) -> list[Column]:
        return [
            Column("name", "NAME", 0, lambda row: [(row["name"], "strong")], least=10),
            Column("state", "STATE", 7, lambda row: [(row["word"], row["style"])]),
            Column("rule", "RULE", 15, lambda row: [(row["rule"], "text")], sorts=False),
            Column("zone", "ZONE", 14, lambda row: [(row["zone"], "dim")], shown_from=100, sorts=False),
            Column("next", "NEXT", 17, self._next, ticks=True),
            Column("last", "LAST", 8, lambda row: row["last"], right=True),
            Column("drift", "DRIFT", 9, self._drift, right=True, shown_from=100),
            Column("runs", "LAST 12", RUNS, lambda row: row["glyphs"], sorts=False),
        ]

    def _run_columns(self) -> list[Column]:
        return [
            Column("slot", "SLOT", 12, lambda row: [(self._instant(row["slot"]) if row["slot"] else "by hand", "text")]),
            Column("state", "STATE", 8, lambda row: [(row["word"], row["style"])]),
            Column("took", "TOOK", 7, self._took, right=True, ticks=True),
            Column("id", "TASK", 8, lambda row: [(str(row["id"]), "dim")], right=True),
            Column("error", "ERROR", 0, lambda row: [(row["error"], "text")], least=6),
        ]

    # words

    def _day(self, ms: int) -> str:
        return day(ms, self.monitor.zone)

    def _instant(self, ms: int) -> str:
        """Of the next day the time alone, else the day as well."""
        near = abs(ms - self.monitor.clock.now_ms()) < DAY_MS
        return clock(ms, self.monitor.zone) if near else self._day(ms)

    def _next(self, row: Body) -> list[Run]:
        if row["paused"]:
            return [("paused", "paused")]
        if not row["next_at"]:
            return [("at boot" if row["rule"] == REBOOT else "no more", "dim")]
        left = row["next_at"] - self.monitor.clock.now_ms()
        if left >= DAY_MS:
            return [(self._day(row["next_at"]), "text"), (f" {_left(left)}", "dim")]
        return [(clock(row["next_at"], self.monitor.zone)[:5], "text"), (f" ({_left(left)})", "dim")]

    def _drift(self, row: Body) -> list[Run]:
        if row["drift"] is None:
            return []
        late = row["drift"] > row["jitter_ms"] + LATE_MS
        return [(f"{'' if row['drift'] < 0 else '+'}{duration(row['drift'])}", "warn" if late else "dim"),
                (f" {self.monitor.glyphs.warn}" if late else "", "warn")]  # fmt: skip

    def _took(self, row: Body) -> list[Run]:
        if not row["started"]:
            return []
        end = row["finished"] or self.monitor.clock.now_ms() // 1000 * 1000
        return [(duration(max(end - row["started"], 0)), "text")]

    def _rule(self, row: Body) -> str:
        if row["cron"]:
            return str(row["cron"])
        return f"every {_span(row['every_ms'])}" if row["every_ms"] else f"at {self._day(row['at'])}"

    def _schedule(self, row: Body, tasks: Mapping[int, Brief]) -> Body:
        glyphs, last = self.monitor.glyphs, row.get("last") or {}
        word, style = f"{glyphs.live} on", "good"
        if row["paused"]:
            word, style = f"{glyphs.paused} off", "paused"
        elif row["failing"]:
            word, style = f"{glyphs.bad} fails", "bad"
        elif row["overdue_at"]:
            word, style = f"{glyphs.warn} late", "warn"
        elif row["held_at"]:
            word, style = f"{glyphs.state('scheduled')} waits", "scheduled"
        elif not row["next_at"] and row["cron"] != REBOOT:
            word, style = f"{glyphs.good} over", "dim"
        elif row["at"]:
            word, style = f"{glyphs.live} once", "good"
        started, slot, state = last.get("started_at") or 0, last.get("slot_at") or 0, last.get("state")
        took = duration(last["finished_at"] - started) if started and last.get("finished_at") else ""
        return {
            "name": row["name"], "paused": row["paused"], "word": word, "style": style, "rule": self._rule(row),
            "zone": row["tz"] if row["cron"] and row["cron"] != REBOOT else "", "next_at": row["next_at"], "jitter_ms": row["jitter_ms"],
            "last": ((f"{glyphs.state(state)} {took}" if state else glyphs.nothing, state or "dim"),), "last_at": started,
            "drift": started - slot if started and slot else None, "glyphs": self._course(row["name"], tasks),
        }  # fmt: skip

    def _course(self, name: str, tasks: Mapping[int, Brief]) -> Runs:
        """The last runs as signs, the newest at the end."""
        found: list[Run] = []
        for _, id_ in self._runs_of(name)[-RUNS:]:
            task = tasks.get(id_)
            found.append((self.monitor.glyphs.state(task.state), task.state) if task else (self.monitor.glyphs.note, "dim"))
        return tuple(found)

    def _whole(self, name: str) -> Body | None:
        """A schedule with its runs and what it sends."""
        rows = self.monitor.known.rows(f"schedule:{name}", "schedules")
        return rows[0] if rows else None

    def _runs_of(self, name: str) -> Sequence[tuple[int, int]]:
        found: Sequence[tuple[int, int]] = (self._whole(name) or {}).get("runs") or ()
        return found

    # what changed

    def apply(self, dirty: set[str]) -> None:
        self.told()
        self._look()
        mine = {topic for topic in dirty if topic.startswith(("schedule", "slots:"))}
        if mine or dirty & {"all", "standing"}:
            self._show()
        elif "tick" in dirty and self.monitor.clock.now_ms() // 1000 % 60 == 0:
            self._show_day()  # the strip begins with this hour

    def _show(self) -> None:
        known = self.monitor.known
        rows = [row for row in known.rows("schedules", "schedules") if isinstance(row.get("name"), str)]
        tasks = briefs(known.rows("schedules:tasks", "rows"))
        self._schedules.show(self.order.sorted(self._schedule(row, tasks) for row in rows))
        self.explained(*NO_SCHEDULES)
        self.sought()
        if self._made and self.table.select(self._made):
            self._made = ""
        self._changed(rows)
        self._look()
        self._show_one(tasks)
        self._show_day()

    def _changed(self, rows: Sequence[Body]) -> None:
        """What the list says of a run or a rule tells when to ask for the rest again."""
        before, self._signs = self._signs, {}
        for row in rows:
            last = row.get("last") or {}
            rule = tuple(row[key] for key in ("cron", "every_ms", "at", "tz", "jitter_ms", "only", "from_at", "until_at", "paused"))
            self._signs[row["name"]] = (last.get("id"), last.get("state")), (*rule, row["misfire"], row["overlap"], row["type"])
        if self._signs != before:
            self.monitor.refresher.wake()

    def _look(self) -> None:
        """Ask for the runs and slots of those that are seen."""
        here = [self.here["name"]] if self.here is not None else []
        names = tuple(dict.fromkeys([*here, *map(str, self.table.visible_keys)]))[:LOOKED_AT]
        ids = tuple(dict.fromkeys([id_ for name in names for _, id_ in self._runs_of(name)[-RUNS:]]))[:ROWS_MOST]
        if (set(names), set(ids)) != (set(self._looked), set(self._ids)):
            self._looked, self._ids = names, ids
            self.monitor.wants_changed()

    def on_paged_table_cursor_moved(self, event: PagedTable.CursorMoved) -> None:
        if event.table.id == self.LIST:
            self._look()
            self._show_one(briefs(self.monitor.known.rows("schedules:tasks", "rows")))
            self._show_day()

    def _show_one(self, tasks: Mapping[int, Brief]) -> None:
        here, runs, pane = self.here, self.query_one("#schedule-runs", PagedTable), self.query_one("#schedule-details", TextPane)
        glyphs, rows = self.monitor.glyphs, []
        for slot, id_ in reversed(self._runs_of(here["name"])[-RUNS:] if here is not None else ()):
            task = tasks.get(id_)
            rows.append({
                "key": id_, "id": id_, "slot": slot, "word": glyphs.word(task.state) if task else f"{glyphs.note} gone",
                "style": task.state if task else "dim", "started": task.started_at if task else 0,
                "finished": task.finished_at if task else 0, "error": task.error if task else "",
            })  # fmt: skip
        self._runs.show(rows)
        entitle(runs, "Last runs", "enter opens the task" if rows else "")
        explain(runs, ("It has not run yet." if here is not None and self._whole(here["name"]) else "", "dim"))
        entitle(pane, here["name"] if here is not None else "Schedule")
        whole = self._whole(here["name"]) if here is not None else None
        lines = self._lines(whole) if whole is not None else []
        if lines != self._details:
            self._details = lines
            pane.show_lines(lines, stay=True)

    def _lines(self, row: Body) -> list[Runs]:
        """What there is to say of a schedule."""
        options = row.get("options") or {}
        more = [
            f"{key.removesuffix('_ms')} {_value(key, value)}"
            for key, value in sorted(options.items())
            if key != "extras" and value is not None
        ]
        found: list[Runs] = [[("task     ", "dim"), (str(row["type"]), "strong"), (f"   {'   '.join(more)}" if more else "", "text")]]
        slots = (self.monitor.known.get(f"slots:{row['name']}") or {}).get("slots") or ()
        nexts = f" {self.monitor.glyphs.note} ".join(self._instant(begins) for _, begins in slots[:3])
        found.append([("next     ", "dim"), (nexts or NOTHING, "text")])
        words = [f"overlap {row['overlap']}", f"misfire {row['misfire']}"]
        words += [f"jitter {_span(row['jitter_ms'])}"] if row["jitter_ms"] else []
        words += [f"zone {row['tz']}"] if row["cron"] else []
        words += [f"after {', '.join(row['after'])}"] if row.get("after") else []
        found.append([("policy   ", "dim"), ("   ".join(words), "text")])
        bounds = [f"only {', '.join(row['only'])}"] if row["only"] else []
        bounds += [f"{word} {self._day(row[key])}" for word, key in (("from", "from_at"), ("until", "until_at")) if row[key]]
        found += [[("window   ", "dim"), ("   ".join(bounds), "text")]] if bounds else []
        tells = [key.replace("_", " ") for key in ("on_failure", "on_recovery", "on_missed") if row.get(key)]
        tells += [f"missed after {_span(row['missed_after_ms'])}"] if row["missed_after_ms"] else []
        found += [[("tells    ", "dim"), (", ".join(tells), "text")]] if tells else []
        found += [[("failing  ", "dim"), (f"since task {row['failing']}", "bad")]] if row["failing"] else []
        found += [[("overdue  ", "dim"), (f"since the slot {self._day(row['overdue_at'])}", "warn")]] if row["overdue_at"] else []
        found += (
            [[("waits    ", "dim"), (f"slot {self._day(row['held_at'])}, for the end of a run", "scheduled")]] if row["held_at"] else []
        )
        found += [[("made     ", "dim"), ("by the application, which declares it", "text")]] if row["declared"] else []
        return [*found, *_payload(row)]

    # the next day

    def _show_day(self) -> None:
        card, known, zone = self.query_one("#schedule-day", Card), self.monitor.known, self.monitor.zone
        width, height = card.content_size
        each = 4 if width >= 24 * 4 + 16 else 2
        now = self.monitor.clock.now_ms()
        since = int(clock(now, zone)[3:5]) * 60_000 + now % 60_000  # this hour, by the clock that is shown
        start = now - since
        room = max(width - 24 * each - 1, 0)
        hours = range(0, 24, 4 // each)
        lines: list[Runs] = [[("".join(clock(start + hour * HOUR_MS, zone)[:2].ljust(4) for hour in hours), "head")]]
        names = [name for name in self._looked if known.get(f"slots:{name}") is not None]
        for name in names[: max(height - 1, 0)]:
            body = known.get(f"slots:{name}") or {}
            slots = [begins for _, begins in body.get("slots", ())]
            drawn = self._strip(slots, start, each, paused=bool(body.get("paused")))
            sign = f"{self.monitor.glyphs.paused} " if body.get("paused") else ""
            lines.append([*drawn, (f" {clip(sign + name, room)}", "paused" if sign else "text")])
        entitle(card, "Next 24 h", f"{self._signs_of()[0]} one  {self._signs_of()[1]} several" if names else "")
        card.show(lines if names else ())

    def _signs_of(self) -> str:
        return "#%" if self.monitor.glyphs is ASCII else "■▒"

    def _strip(self, slots: Sequence[int], start: int, each: int, *, paused: bool) -> list[Run]:
        """A day in cells: no slot, one, several; the cells behind the last slot that was reckoned as several, if there are more."""
        step = HOUR_MS // each
        counts = [0] * (24 * each)
        for slot in slots:
            if 0 <= (at := (slot - start) // step) < len(counts):
                counts[at] += 1
        if len(slots) == SLOTS_MOST:
            last = max((slots[-1] - start) // step, -1)
            counts[last + 1 :] = [2] * len(counts[last + 1 :])
        one, many = tuple(self._signs_of())
        note = self.monitor.glyphs.note
        signs = [many if number > 1 else one if number else note if at % each == 0 else " " for at, number in enumerate(counts)]
        return [("".join(signs), "dim" if paused else "live")]

    def status(self) -> Sequence[Piece]:
        if unknown := self.unknown():
            return unknown
        body = self.monitor.known.get("schedules") or {}
        rows = self.monitor.known.rows("schedules", "schedules")
        on = [row for row in rows if not row["paused"]]
        due = min((row for row in on if row["next_at"]), key=lambda row: row["next_at"], default=None)
        left = _left(due["next_at"] - self.monitor.clock.now_ms()) if due else ""
        table = self.table
        marked = len(self.chosen) if table.marks or table.all_marked else 0
        marks = [Piece(f"{marked} marked   ", "bold")] if marked else []
        more = f", the first {LIST_MOST} by name" if body.get("next") else ""
        words = f"{counted(len(rows), 'schedule')}{more}   {len(on)} on"
        words += f"   next {clip(due['name'], 24)} in {left}" if due else ""
        zone = "times in UTC (T: local)" if self.monitor.zone is not None else "local times (T: UTC)"
        return [*marks, Piece(f"{words}   ", "$muted"), self.sign(), Piece(f"   {zone}", "$muted")]

    # what a person does

    @property
    def names(self) -> list[str]:
        return [str(row["name"]) for row in self.monitor.known.rows("schedules", "schedules")]

    @property
    def in_runs(self) -> bool:
        return self.is_mounted and self.query_one("#schedule-runs").has_focus

    def on_paged_table_opened(self, event: PagedTable.Opened) -> None:
        self.open(event.table)

    def open(self, table: PagedTable | None = None) -> None:
        """From the list to the runs; from a run to its task."""
        runs = self.query_one("#schedule-runs", PagedTable)
        if runs.display and (table or self.focused) is not runs:
            runs.focus()
        elif isinstance(runs.cursor_row, dict):
            self.monitor.open_place("task", str(runs.cursor_row["id"]))

    def _about(self, name: str) -> list[Body]:
        """The schedule of this name, or those chosen. ValueError: there is none."""
        entries = [self._schedules.entry(place) for place in range(self._schedules.total)]
        rows = [entry.row for entry in entries if entry is not None and entry.row["name"] == name] if name else self.chosen
        if not rows:
            raise ValueError(f"expected a schedule, got {name!r}" if name else "there is no schedule")
        return rows

    async def trigger(self, name: str) -> None:
        """Send the task of a schedule now."""
        rows, monitor = self._about(name), self.monitor
        question = Question(
            "Trigger now", f"{_named(rows)} {'sends its task' if len(rows) == 1 else 'send their tasks'} now, whatever goes on",
            f"Trigger {len(rows)}", 2 if len(rows) > 1 else 1, facts=(("schedules", ", ".join(row["name"] for row in rows)),),
        )  # fmt: skip
        if await monitor.confirm(question):
            ids = [str((await monitor.call("run_schedule", {"name": row["name"]}))["id"]) for row in rows]
            monitor.say(f"Sent: task {', '.join(ids)}")
            self._again(rows)

    async def pause(self, name: str, paused: bool | None) -> None:
        """Pause or resume; None: resume if all of them are paused, else pause. ``u`` takes it back. ValueError: they are so already."""
        rows, monitor = self._about(name), self.monitor
        value = not all(row["paused"] for row in rows) if paused is None else paused
        changed = [row for row in rows if row["paused"] != value]
        if not changed:
            raise ValueError(f"{_named(rows)}: {'paused' if value else 'not paused'} already")

        async def put(paused: bool) -> None:
            for row in changed:
                await monitor.call("set_schedule", {"name": row["name"], "paused": paused})
            self._again(changed)

        await put(value)
        monitor.say(f"{'Paused' if value else 'Resumed'}: {_named(changed)}", undo=lambda: put(not value))

    async def edit(self, name: str) -> None:
        """Change a schedule in a form."""
        await schedule_acts.edit(self.monitor, self._about(name)[0]["name"])

    async def new(self) -> None:
        """Make one in a form, and go to it."""
        self._made = await schedule_acts.new(self.monitor)

    async def skip(self, name: str) -> None:
        """Leave out the next slot of schedules. ValueError: one has none."""
        await schedule_acts.skip(self.monitor, [row["name"] for row in self._about(name)])

    async def drop(self, name: str) -> None:
        """Remove schedules; the name, or of several their number, is typed first."""
        rows, monitor = self._about(name), self.monitor
        question = Question(
            "Remove schedules", f"{_named(rows)} will be removed for good", f"Remove {len(rows)}", 3,
            facts=(("schedules", ", ".join(row["name"] for row in rows)), ("tasks", "what was sent stays, and nothing more is sent")),
            typed=rows[0]["name"] if len(rows) == 1 else str(len(rows)),
        )  # fmt: skip
        if not await monitor.confirm(question):
            return
        for number, row in enumerate(rows):
            try:
                await monitor.call("remove_schedule", {"name": row["name"]})
            except TqError as error:
                monitor.say(f"{number} of {len(rows)} removed; {row['name']}: {error.message}", "$bad")
                break
            self.table.marks.discard(row["name"])
        else:
            monitor.say(f"Removed: {_named(rows)}")
        monitor.refresher.again("schedules")

    def _again(self, rows: Sequence[Body]) -> None:
        topics = [f"{kind}:{row['name']}" for row in rows for kind in ("schedule", "slots")]
        self.monitor.refresher.again("schedules", "schedules:tasks", *topics)

    def show_item(self, kind: str, name: str) -> bool:
        return kind == "schedule" and self.seek(name)


def _left(ms: int) -> str:
    """How long until then, in whole seconds: ``17s``, ``2m53s``."""
    return duration(ms // 1000 * 1000) if ms >= 60_000 else f"{max(ms, 0) // 1000}s"


def _span(ms: int) -> str:
    """A duration as a person would say it: ``90s``, ``5m``, ``1h30m``."""
    found = ""
    for unit, size in (("d", DAY_MS), ("h", HOUR_MS), ("m", 60_000), ("s", 1000), ("ms", 1)):
        if ms >= size:
            found += f"{ms // size}{unit}"
            ms %= size
    return found or "0s"


def _value(key: str, value: Any) -> str:
    return _span(value) if key.endswith("_ms") and isinstance(value, int) else cut(str(value), 200)


def _payload(row: Body) -> list[Runs]:
    """What a run gets: the command, or the payload with what looks secret hidden."""
    data = row.get("payload")
    if not data:
        return []
    try:
        value = unpack(data)
    except ValueError:
        return [[("payload  ", "dim"), (f"{len(data)} bytes that are no value", "note")]]
    if row["type"] == SHELL and isinstance(value, dict) and isinstance(value.get("argv"), list):
        words = [one.decode("utf-8", "replace") if isinstance(one, bytes) else str(one) for one in value["argv"]]
        return [[("command  ", "dim"), (cut(shlex.join(words)), "text")]]
    return [[("payload", "dim")], *[line.runs for line in JsonText(value).lines()]]

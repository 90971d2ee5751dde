"""The settings of the daemon: what each is, who said so and when a change counts; changed here, checked by the daemon as it is typed.

For: the list by table and by words, the pane in which one is edited, what is staged, and writing that to the settings file.
Not for: the words and lines (config_words), settings of queues (their own screen), the monitor's own wishes (preferences).
Runs in: the monitor, on Textual.
Promises: nothing is written that was not seen as a difference and confirmed, or that the daemon has not checked; what somebody else has
changed meanwhile is told beside what is wanted, and written over only by who has seen it; what was typed is not lost by one key.
"""

from __future__ import annotations

import asyncio
import textwrap
from collections.abc import Coroutine, Mapping, Sequence
from typing import Any, ClassVar

from textual import events
from textual.app import ComposeResult
from textual.containers import Horizontal, Vertical
from textual.widgets import Input

from tq.errors import Refused, TqError
from tui.actions import Action, Context
from tui.formats import cleaned, clip, counted
from tui.paging import ListSource
from tui.refresh import Want
from tui.screens import config_words as words_of
from tui.screens.config_words import ALL, CHANGED, Staged
from tui.screens.lists import Card, ListScreen, has_row
from tui.screens.screen import entitle
from tui.state import Body
from tui.widgets.bars import Line, Piece
from tui.widgets.confirm import Question
from tui.widgets.painting import Runs
from tui.widgets.panes import TextPane
from tui.widgets.table import Column, PagedTable

ASK_S, SCHEMA_S = 5.0, 3600.0
CHECK_S = 0.25
"""How long nothing is typed before the daemon is asked whether it can be."""
TYPED_MOST, WORDS_MOST = 4096, 200
GROUP = "Settings"


def _calm(context: Context) -> bool:
    """Whether keys are free: no value is being typed."""
    return not context.screen.editing


def _can_edit(context: Context) -> bool:
    row = context.screen.here if has_row(context) else None
    return row is not None and row["edits"] and not context.screen.editing


def _can_reset(context: Context) -> bool:
    return _can_edit(context) and context.screen.here["file"] is not None


def _is_staged(context: Context) -> bool:
    return has_row(context) and not context.screen.editing and context.screen.here["key"] in context.screen.staged


def _has_staged(context: Context) -> bool:
    return bool(context.screen.staged) and not context.screen.editing


def _keys(context: Context) -> list[str]:
    return [row["key"] for row in context.screen.rows]


def _tabs(context: Context) -> list[str]:
    return [name for name, _ in words_of.tabs_of(context.screen.rows)]


ACTIONS = (
    Action(
        id="config.edit", title="Edit", help="Type another value; the daemon checks it meanwhile, and nothing is written yet.",
        run=lambda context: context.screen.edit(), by="enter", screen="config", writes=True, words=("edit",), applies=_can_edit, footer=10,
        group=GROUP,
    ),
    Action(
        id="config.write", title="Write…", help="Write what is staged to the settings file. It asks first; u takes it back.", keys="W",
        run=lambda context: context.screen.write(), screen="config", weight=2, writes=True, words=("write",), applies=_has_staged,
        footer=12, group=GROUP,
    ),
    Action(
        id="config.drop", title="Drop", help="Forget what is staged for the setting under the cursor.", keys="d",
        run=lambda context: context.screen.drop(), screen="config", words=("drop",), applies=_is_staged, footer=14, group=GROUP,
    ),
    Action(
        id="config.drop_all", title="Drop all", help="Forget all that is staged.", keys="D", run=lambda context: context.screen.drop_all(),
        screen="config", words=("drop-all",), applies=_has_staged, footer=16, group=GROUP,
    ),
    Action(
        id="config.reset", title="To default", help="Stage the default: the setting is taken out of the file.", keys="r",
        run=lambda context: context.screen.reset(), screen="config", writes=True, words=("reset",), applies=_can_reset, footer=18,
        group=GROUP,
    ),
    Action(
        id="config.filter", title="Find", help="Show the settings that have all these words in their name, value, source or description.",
        keys="slash", run=lambda context: context.screen.find(), screen="config", applies=_calm, footer=20, group=GROUP,
    ),
    Action(
        id="config.words", title="Find by words", help="The same on one line: :find retention; :find alone shows all again.",
        run=lambda context: context.screen.choose(context.words), screen="config", words=("find",), takes="[WORDS]", footer=0, group=GROUP,
    ),
    Action(
        id="config.next", title="Next table", short="Table", help="Show the next table of settings alone; after the last, all.",
        keys="l,right", run=lambda context: context.screen.step(1), screen="config", applies=_calm, footer=22, group=GROUP,
    ),
    Action(
        id="config.previous", title="Previous table", help="Show the table of settings before it.", keys="h,left",
        run=lambda context: context.screen.step(-1), screen="config", applies=_calm, footer=0, group=GROUP,
    ),
    Action(
        id="config.tab", title="Show a table", help="Show one table of settings alone, those that are changed, or all.",
        run=lambda context: context.screen.show_tab(context.words), screen="config", words=("table",), takes="NAME", choices=_tabs,
        footer=0, group=GROUP,
    ),
    Action(
        id="config.go", title="Go to a setting", help="Put the cursor on the setting of this name.",
        run=lambda context: context.screen.go(context.words), screen="config", words=("setting",), takes="KEY", choices=_keys, footer=0,
        group=GROUP,
    ),
    Action(
        id="config.copy", title="Copy", help="Copy the setting as a line of the file.", keys="y",
        run=lambda context: context.screen.copy(), screen="config", words=("copy",), applies=has_row, footer=40, group=GROUP,
    ),
)  # fmt: skip


class ConfigScreen(ListScreen):
    """The screen of the digit 8. ``rows``: all settings as they are known; ``staged``: by key, what is to be written."""

    title_id = "config"
    name_long, name_short, number = "Config", "Conf", "8"
    LIST, TOPIC, KEY, AUTO_FOCUS = "config-list", "settings", "key", "#config-list"
    ACTIONS = ACTIONS
    ORDERS: ClassVar[Mapping[str, Any]] = {}

    def __init__(self) -> None:
        super().__init__()
        self.rows: list[Body] = []
        self.staged: dict[str, Staged] = {}
        self._source = ListSource(lambda row: row["key"])
        self._tab, self._words = ALL, ""
        self._edited = ""  # the key that is edited; "" for none
        self._began = ""  # what stood there at first
        self._warned = False
        self._checked: tuple[str, str] = ("", "")  # what the daemon has checked last, and why it cannot be
        self._asking: asyncio.Task[None] | None = None
        self._shown: dict[str, list[Runs]] = {}

    def wants(self) -> Mapping[str, Want]:
        return {
            "settings": Want("config", {"ask": "get"}, every_s=ASK_S),
            "settings:schema": Want("config", {"ask": "schema"}, every_s=SCHEMA_S),
        }

    def body(self) -> ComposeResult:
        glyphs = self.monitor.glyphs
        with Horizontal(id="config-filter"):
            sign = Line()
            sign.show([Piece(" / ", "bold $primary")])
            yield sign
            yield Input(id="config-words", compact=True, max_length=WORDS_MOST, placeholder="words", select_on_focus=False)
            yield Line(id="config-tabs")
        yield PagedTable(self._columns(), self._source, glyphs=glyphs, flashes=False, id="config-list")
        with Horizontal(id="config-panes"):
            with Vertical(id="config-edit", classes="pane"):
                yield TextPane(glyphs=glyphs, wrap=True, id="config-about")
                with Horizontal(id="config-entry"):
                    yield Line(id="config-label")
                    yield Input(id="config-value", compact=True, max_length=TYPED_MOST, select_on_focus=False)
                yield Card(glyphs=glyphs, id="config-verdict")
            yield TextPane(glyphs=glyphs, wrap=True, id="config-staged", classes="pane")

    def on_mount(self) -> None:
        for one in self.query(Input):
            one.cursor_blink = False
        self.query_one("#config-label", Line).show([Piece("new value  ", "bold")])
        self._show_entry()

    def _columns(self) -> list[Column]:
        glyphs = self.monitor.glyphs
        return [
            Column("key", "KEY", 24, lambda row: [(row["key"], "strong" if row["edits"] else "dim")], sorts=False),
            Column("value", "VALUE", 0, lambda row: words_of.value_runs(row, glyphs), least=12, sorts=False),
            Column("default", "DEFAULT", 10, lambda row: [(words_of.or_none(row["default"], glyphs), "dim")], shown_from=70, sorts=False),
            Column("from", "FROM", 12, lambda row: [(row["source"], "dim" if row["source"] == "default" else "text")], sorts=False),
            Column("applies", "APPLIES", 9, lambda row: words_of.applies_runs(row, glyphs), sorts=False),
        ]

    # what changed

    def apply(self, dirty: set[str]) -> None:
        self.told()
        if dirty & {"all", "settings", "settings:schema", "standing"}:
            self._show()

    def _show(self) -> None:
        known = self.monitor.known
        self.rows = words_of.rows_of(known.get("settings"), known.get("settings:schema"), self.staged)
        self._source.show(words_of.chosen(self.rows, self._tab, self._words.lower().split()))
        if not self.rows:
            self.explained(("Waiting for the daemon's answer.", "dim"))
        elif self._words:
            self.explained((f"No setting matches: {self._words}", "text"), ("esc shows all again.", "dim"))
        else:
            self.explained(("Nothing differs from its default.", "text"), ("h and l show the tables.", "dim"))
        self.sought()
        self._show_tabs()
        self._show_panes()

    def _show_tabs(self) -> None:
        pieces = [Piece("  ")]
        for name, number in words_of.tabs_of(self.rows):
            title = name.capitalize() + (f" {number}" if name == CHANGED else "")
            here = name == self._tab
            pieces += [Piece(f"[{title}]" if here else f" {title} ", "bold" if here else "$muted", f"app.do('config.tab', {name!r})")]
        self.query_one("#config-tabs", Line).show(pieces if self.rows else ())

    def _show_panes(self) -> None:
        row, glyphs = self._row(self._edited) if self._edited else self.here, self.monitor.glyphs
        box = self.query_one("#config-edit")
        may = bool(row and row["edits"] and self.monitor.may_write)
        entitle(box, row["key"] if row else "Setting", "enter Stage  esc Cancel" if self._edited else "enter Edit" if may else "")
        self._write_pane("#config-about", words_of.about_lines(row, glyphs, box.size.width - 4) if self.rows else [])
        by_key = {one["key"]: one for one in self.rows}
        known = self.monitor.known.get("settings") or {}
        lines: list[Runs] = [[(f"{glyphs.bad} {known['problem']}", "bad")]] if known.get("problem") else []
        if self.staged:
            title = f"{counted(len(self.staged), 'staged change')} (not written)"
            lines += words_of.staged_lines(self.staged, by_key, glyphs)
        else:
            title = "Staged changes"
            lines += words_of.waiting_lines(self.rows, glyphs) or [[("nothing is staged, and nothing waits for a restart", "dim")]]
        pane = self.query_one("#config-staged", TextPane)
        entitle(pane, title, "W Write..." if self.staged and self.monitor.may_write else "")
        self._write_pane("#config-staged", lines if self.rows else [])

    def _write_pane(self, id_: str, lines: list[Runs]) -> None:
        if self._shown.get(id_) != lines:
            self._shown[id_] = lines
            self.query_one(id_, TextPane).show_lines(lines, stay=True)

    def _row(self, key: str) -> Body | None:
        return next((row for row in self.rows if row["key"] == key), None)

    def status(self) -> Sequence[Piece]:
        if unknown := self.unknown():
            return unknown
        known, glyphs = self.monitor.known.get("settings") or {}, self.monitor.glyphs
        changed = sum(words_of.differs(row) for row in self.rows)
        waits = sum(row["next"] is not None for row in self.rows)
        pieces = [Piece(f"{counted(len(self.staged), 'change')} staged   ", "bold")] if self.staged else []
        pieces.append(Piece(f"{changed} differ from the default   " if changed != 1 else "1 differs from the default   "))
        if waits:
            pieces.append(Piece(f"{glyphs.warn} {waits} wait{'s' * (waits == 1)} for a restart   ", "$warn"))
        if known.get("problem"):
            return [*pieces, Piece(f"{glyphs.bad} the settings file cannot be used", "bold $bad")]
        name = str(known.get("file")) if known.get("exists") else "no settings file yet"
        return [*pieces, Piece(f"{name}   revision {known.get('revision')}", "$muted")]

    # choosing

    @property
    def editing(self) -> bool:
        """Whether a value is being typed."""
        return bool(self._edited)

    @property
    def can_step_back(self) -> bool:
        return not self._edited and (bool(self._words) or self._tab != ALL)

    def step_back(self) -> None:
        if self._words:
            self.choose("")
        else:
            self.show_tab(ALL)

    def find(self) -> None:
        """Type the words to choose by."""
        self.query_one("#config-words", Input).focus()

    def choose(self, words: str) -> None:
        """Show the settings that have all these words; "" shows all."""
        field = self.query_one("#config-words", Input)
        if field.value != words:
            field.value = words
        self._words = words.strip()
        self._show()
        self.lines()

    def show_tab(self, name: str) -> None:
        """One table alone, those that are changed, or all. ValueError: there is none of that name."""
        names = [one for one, _ in words_of.tabs_of(self.rows)]
        if name.strip() not in names:
            raise ValueError(f"expected one of {', '.join(names)}, got {name.strip()!r}")
        self._tab = name.strip()
        self._show()
        self.lines()

    def step(self, by: int) -> None:
        """The next table, or the one before."""
        names = [one for one, _ in words_of.tabs_of(self.rows)]
        self.show_tab(names[(names.index(self._tab) + by) % len(names)] if self._tab in names else ALL)

    def go(self, key: str) -> None:
        """The cursor to this setting. ValueError: there is none."""
        if not self.show_item("setting", key.strip()):
            raise ValueError(f"expected a setting such as workers.count, got {key.strip()!r}")

    def show_item(self, kind: str, name: str) -> bool:
        key = {"store": "daemon.map_size"}.get(kind, name)
        self._tab = ALL
        self.choose("")
        return self.seek(key) if key else True

    def on_paged_table_cursor_moved(self, event: PagedTable.CursorMoved) -> None:
        if not self._edited:
            self._show_panes()
            self.lines()

    def on_paged_table_opened(self, event: PagedTable.Opened) -> None:
        self.monitor.action_do("config.edit")  # by a click

    def copy(self) -> None:
        """Copy the setting as a line of the file."""
        if (row := self.here) is not None:
            self.monitor.copy_to_clipboard(words_of.written(row["key"], row["value"]))

    # editing one

    def edit(self) -> None:
        """Type another value of the setting under the cursor."""
        row = self.here
        if row is None or self._edited:
            return
        key = row["key"]
        self._edited, self._warned, self._checked = key, False, ("", "")
        self._began = self.staged[key].text if key in self.staged else row["file"] or row["value"]
        field = self.query_one("#config-value", Input)
        field.value = self._began
        self._show_entry()
        self.set_focus(field)  # at once: the next key is its first letter
        field.cursor_position = len(field.value)
        self._show_panes()
        self.lines()

    def _show_entry(self) -> None:
        for id_ in ("#config-entry", "#config-verdict"):
            self.query_one(id_).display = bool(self._edited)
        self.set_class(bool(self._edited), "-editing")
        row = self._row(self._edited)
        choices = row["choices"] if row is not None else ()
        self._verdict("tab puts in the next of what there is" if choices else "", "dim")

    def _verdict(self, text: str, style: str) -> None:
        card = self.query_one("#config-verdict", Card)
        card.show([[(line, style)] for line in textwrap.wrap(text, max(card.size.width, 20))])

    def _leave(self) -> None:
        """Back to the list."""
        self._edited = ""
        self._show_entry()
        self.set_focus(self.table)
        self._show()
        self.lines()

    def on_input_changed(self, event: Input.Changed) -> None:
        if event.input.id == "config-words":
            self.choose(event.value)
        elif self._edited and event.value != self._checked[0]:
            self._warned = False
            self._ask(self._check_soon())

    def _ask(self, question: Coroutine[Any, Any, None]) -> None:
        """Ask this, and no more what was asked before."""
        if self._asking is not None:
            self._asking.cancel()
        self._asking = asyncio.create_task(question, name="tq-monitor-settings")

    def on_unmount(self) -> None:
        if self._asking is not None:
            self._asking.cancel()

    async def _check_soon(self) -> None:
        await self.monitor.clock.sleep(CHECK_S)
        await self._check()

    async def _check(self) -> bool:
        """Ask the daemon whether what stands there can be, with all else that is staged; whether it can."""
        key, text = self._edited, self.query_one("#config-value", Input).value.strip()
        try:
            found = await self.monitor.call("config", {"ask": "validate", "changes": {**self._wanted(), key: text}})
        except TqError as error:
            why = error.message
        else:
            mine = sorted(found["errors"], key=lambda one: one["key"] != key)
            why = "" if not mine else str(mine[0]["reason"]) if mine[0]["key"] in (key, "") else f"{mine[0]['key']}: {mine[0]['reason']}"
        if self._edited != key or self.query_one("#config-value", Input).value.strip() != text:
            return False  # somebody types on: the next question is under way
        glyphs = self.monitor.glyphs
        self._checked = text, why
        row = self._row(key)
        good = "valid" if text or row is None else f"its default, {words_of.or_none(row['default'], glyphs)}"
        self._verdict(f"{glyphs.bad} {why}" if why else f"{glyphs.good} {good}", "bad" if why else "good")
        return not why

    def _wanted(self) -> dict[str, str]:
        """What is staged, as changes."""
        return {key: one.text for key, one in self.staged.items()}

    def on_input_submitted(self, event: Input.Submitted) -> None:
        if event.input.id == "config-words":
            self.set_focus(self.table)
        else:
            self._ask(self._stage())

    async def _stage(self) -> None:
        key, text = self._edited, self.query_one("#config-value", Input).value.strip()
        row = self._row(key)
        if row is None or not await self._check():
            return
        self._put(row, text)
        self._leave()

    def _put(self, row: Body, text: str) -> None:
        """Stage a value, unless that is what the file says."""
        base = self.staged[row["key"]].base if row["key"] in self.staged else row["file"]
        if text == (row["file"] or ""):
            self.staged.pop(row["key"], None)
        else:
            self.staged[row["key"]] = Staged(text, base)

    def reset(self) -> None:
        """Stage the default of the setting under the cursor."""
        if (row := self.here) is not None:
            self._put(row, "")
            self._show()
            self.lines()

    def drop(self) -> None:
        """Forget what is staged for the setting under the cursor."""
        if (row := self.here) is not None:
            self.staged.pop(row["key"], None)
            self._show()
            self.lines()

    def drop_all(self) -> None:
        """Forget all that is staged; it can be taken back."""
        before = dict(self.staged)
        self.staged.clear()
        self._show()

        async def undo() -> None:
            self.staged = {**before, **self.staged}
            self._show()

        self.monitor.say(f"{counted(len(before), 'change')} dropped.", undo=undo)

    def on_key(self, event: events.Key) -> None:
        field, words = self.query_one("#config-value", Input), self.query_one("#config-words", Input)
        if event.key == "escape" and field.has_focus:
            event.stop()
            if field.value.strip() != self._began and not self._warned:
                self._warned = True
                self._verdict("What was typed is not staged. esc once more throws it away.", "warn")
            else:
                self._leave()
        elif event.key == "escape" and words.has_focus:
            event.stop()
            self.set_focus(self.table)
            self.choose("")
        elif event.key == "enter" and self.table.has_focus:
            event.stop()
            self.monitor.action_do("config.edit")  # at once: the next key is its first letter
        elif event.key in ("tab", "shift+tab") and field.has_focus:
            event.stop()
            event.prevent_default()
            self._next_choice(1 if event.key == "tab" else -1)

    def _next_choice(self, by: int) -> None:
        row, field = self._row(self._edited), self.query_one("#config-value", Input)
        choices = list(row["choices"]) if row is not None else []
        if choices:
            at = choices.index(field.value) + by if field.value in choices else 0
            field.value = choices[at % len(choices)]
            field.cursor_position = len(field.value)

    # writing

    async def write(self) -> None:
        """Show the difference as it is now, ask, and write it."""
        monitor = self.monitor
        told = await monitor.feed.call("config", {"ask": "get"})
        monitor.known.take("settings", told, monitor.clock.now_ms())
        self._show()
        changes = self._wanted()
        if not changes or not await monitor.confirm(self._question()):
            return
        before = {one["key"]: one["file"] for one in told["options"] if one["key"] in changes}
        try:
            done = await monitor.call("configure", {"changes": changes, "revision": told["revision"]})
        except Refused as error:
            monitor.refresher.again("settings")
            monitor.say(self._conflict(error) or error.message, "$bad")
            return
        self.staged = {key: one for key, one in self.staged.items() if one.text != changes.get(key)}
        monitor.refresher.again("settings")
        self._told(done, before, changes)

    def _question(self) -> Question:
        glyphs, rows = self.monitor.glyphs, {one["key"]: one for one in self.rows}
        known = self.monitor.known.get("settings") or {}
        facts, warnings = [("file", str(known.get("file")))], []
        for key, one in self.staged.items():
            row = rows.get(key)
            now = row["file"] if row is not None else one.base
            when = words_of.counts_when(row) if row is not None else ""
            change = f"{words_of.or_none(now, glyphs)} {words_of.arrow(glyphs)} {one.text or 'its default'}"
            facts.append((clip(key, 24, glyphs.more), f"{change}   {when}"))
            warnings += [against] if (against := words_of.told_against(key, one, now, glyphs)) else []
        says = f"{counted(len(self.staged), 'setting')} will be written"
        return Question("Write settings", says, f"Write {len(self.staged)}", 2, facts=facts, warning="; ".join(warnings))

    def _conflict(self, error: Refused) -> str:
        """Both values of what somebody else has changed in the meantime."""
        now = error.details.get("now")
        found = [
            against
            for key, text in (cleaned(now) if isinstance(now, dict) else {}).items()
            if key in self.staged and (against := words_of.told_against(key, self.staged[key], text, self.monitor.glyphs))
        ]
        return "Nothing was written. " + "; ".join(found) + ". W asks again." if found else ""

    def _told(self, done: Body, before: Mapping[str, str | None], changes: Mapping[str, str]) -> None:
        """Say what came of it, and how it is taken back."""
        waits, wins = len(done["waits"]), done["wins"]
        text = f"{counted(len(changes), 'setting')} written"
        text += f"; {waits} wait{'s' * (waits == 1)} for a restart" if waits else ""
        text += "; " + ", ".join(f"{who} wins over {key}" for key, who in wins.items()) if wins else ""
        revision = done["revision"]

        async def undo() -> None:
            await self.monitor.call("configure", {"changes": dict(before), "revision": revision})
            self.monitor.refresher.again("settings")

        self.monitor.say(f"{text}.", "$warn" if wins else "", undo=undo)

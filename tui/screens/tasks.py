"""The list of tasks: states, filter, order, marks, and what may be done to one or to all that match.

For: finding tasks among a million and acting on them.
Not for: one task in full (task), how verbs are asked for (acting), the filter language (tq.query).
Runs in: the monitor, on Textual.
Promises: rows do not move under a person: what is new waits behind a sign, unless the first row of newest first is looked at, or ``F``;
the daemon is asked about the rows that are seen at most once a second, and only after something changed; what fails keeps its mark.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

from textual.app import ComposeResult
from textual.containers import Horizontal

from tq.errors import TqError, UsageError
from tq.model import STATES, priority_of
from tq.query import Filter, parse
from tq.query.orders import SORTS
from tui.feed import Phase
from tui.formats import WORDS, cells, cleaned, count, counted, short
from tui.memory import View
from tui.paging import PagedSource
from tui.screens import acting, task_asking
from tui.screens.acting import Meant
from tui.screens.export_acts import export_tasks, found, named
from tui.screens.screen import MonitorScreen, explain
from tui.screens.task import TaskPage
from tui.screens.task_actions import ACTIONS
from tui.screens.task_columns import FIRST, PRIORITY, QUEUE, SIDE_FROM, STATE, TYPE, columns_of
from tui.telling import gist
from tui.widgets.bars import Line, Piece
from tui.widgets.filterbar import FilterBar
from tui.widgets.panes import TextPane
from tui.widgets.table import Column, PagedTable

REST_S = 0.08
"""How long the cursor rests before the pane beside the list asks for its task."""
RENEW_S = 1.0
TABS = ("pending", "running", "retrying", "scheduled", "blocked", "succeeded", "failed", "cancelled", "expired")


class TasksScreen(MonitorScreen):
    """The screen of the digit 3."""

    title_id, name_long, name_short, number = "tasks", "Tasks", "Tasks", "3"
    AUTO_FOCUS = "#list"
    ACTIONS = ACTIONS

    def __init__(self) -> None:
        super().__init__()
        self._text, self._filter = "", Filter(None)
        self._state = ""
        self._sort = "-id"
        self._shown: tuple[str, ...] = FIRST
        self._source = PagedSource(self._ask, matches=self._still)
        self._greeting: object = None
        self._problem = ""
        self._opening = False
        self._open_then = False  # enter came before the list that it is about
        self._hints: tuple[str, ...] = ()
        self._follow = False
        self.new = 0
        """How many tasks that came later match."""
        self._stale = False
        self._renewed = -RENEW_S
        self._renewing = False
        self._beside: tuple[Any, Any] = (None, None)
        self._told: dict[str, Any] | None = None

    async def _ask(self, verb: str, args: Mapping[str, Any]) -> Any:
        return await self.monitor.feed.call(verb, dict(args))

    def body(self) -> ComposeResult:
        monitor, kept = self.monitor, self.monitor.memory.kept
        if (order := kept.orders.get(self.title_id, "")).removeprefix("-") in SORTS:
            self._sort = order
        known = [column.id for column in columns_of(self)]
        self._shown = tuple(one for one in kept.columns.get(self.title_id, ()) if one in known) or self._shown
        yield Line(id="states")
        yield FilterBar(monitor.call, monitor.clock, earlier=kept.filters, typed=monitor.memory.filter, zone=monitor.zone, id="filterbar")
        with Horizontal(id="tasks"):
            yield PagedTable(self._columns(), self._source, glyphs=monitor.glyphs, flashes=monitor.flashes, id="list")
            yield TextPane(glyphs=monitor.glyphs, id="beside")

    def _columns(self) -> list[Column]:
        return [column for column in columns_of(self) if column.id in self._shown]

    @property
    def table(self) -> PagedTable:
        return self.query_one("#list", PagedTable)

    def on_mount(self) -> None:
        self.query_one("#beside").can_focus = False
        self.table.focus()
        super().on_mount()

    # what is asked for

    def _read(self, text: str) -> Filter:
        return parse(text, self.monitor.clock.now_ms(), self.monitor.zone)

    @property
    def _asked(self) -> dict[str, Any]:
        states = {"states": [self._state]} if self._state else {}
        where = {"where": str(self._filter)} if self._filter.root is not None else {}
        return {**states, **where, "sort": self._sort}

    def _still(self, row: Any) -> bool:
        """Whether a changed row may still match: by what the filter says of states, queue and type for sure."""
        states = self._filter.states
        return (
            (not self._state or row[STATE] == self._state)
            and (states is None or row[STATE] in [state.word for state in states])
            and (self._filter.queue is None or row[QUEUE] == self._filter.queue)
        )

    def _open(self) -> None:
        self._opening = True
        self.run_worker(self._opened(), group="open", exclusive=True, exit_on_error=False)

    async def _opened(self) -> None:
        try:
            await self._source.open(self._asked)
            self._problem, self.new = "", 0
            self._opening = False
        except TqError as error:
            self._opening = False
            self._problem = str(cleaned(error.message))
            if error.details.get("too_much") and self._sort.removeprefix("-") != "id":
                self.monitor.say(error.message, "$warn")
                self._sort = "-id"
                self._open()
                return
        self._hints = ()
        self._sign_order()
        self._say_empty()
        self.lines()
        if self._open_then:
            self._open_then = False
            self.open()
        if not self._source.total and self._source.exact and self._filter.root is not None and not self._problem:
            with suppress(TqError):
                terms = (await self.monitor.call("explain", {"where": str(self._filter)}))["terms"]
                self._hints = tuple(
                    f"{text} alone matches {'very many' if number is None else f'{number:,}'}" for text, number in terms[:6]
                )
                self._say_empty()

    def _say_empty(self) -> None:
        if self._problem:
            explain(self.table, ("The daemon did not give the list:", "bad"), (self._problem, "text"), ("^r asks anew.", "dim"))
        elif self._source.view is None or not self._source.exact:
            explain(self.table, ("Waiting for the daemon's answer.", "dim"))
        elif self._filter.root is not None or self._state:
            state = f"in state {self._state} " if self._state else ""
            rest = "esc clears the filter." if self._filter.root is not None else "h and l, or :state all, show other states."
            explain(self.table, (f"No task {state}matches.", "text"), *((hint, "dim") for hint in self._hints), (rest, "dim"))
        else:
            explain(self.table, ("There is no task yet.", "text"), ("tq add -- make all  sends the first.", "dim"))

    def _sign_order(self) -> None:
        self.table.sorted_by(self._sort.removeprefix("-"), self._sort.startswith("-"))

    # what changed

    def apply(self, dirty: set[str]) -> None:
        monitor = self.monitor
        standing = monitor.feed.standing
        if standing.phase.connected and standing.hello is not self._greeting:
            self._greeting = standing.hello
            self._open()
        if dirty & {"all", "totals"}:
            self._stale = True
            self._tabs()
        self._renew()
        table = self.table
        table.tick(monitor.clock.ticks())
        table.brush.faded = not standing.phase.connected and bool(standing.heard_ms)
        if "all" in dirty:
            self._say_empty()
            self._look_beside()
        elif "tick" in dirty and self._told is not None and self._told.get("state") not in ("succeeded", "failed", "cancelled", "expired"):
            self._show_beside()

    def _tabs(self) -> None:
        monitor, width = self.monitor, self.size.width
        states = (monitor.known.totals or {}).get("states") or {}
        glyphs = monitor.glyphs
        found: list[Piece] = []
        for write, words in ((count, True), (short, True), (short, False)):
            found = [Piece(" ")]
            for name in ("", *TABS):
                number = write(sum(states.values()) if not name else states.get(name)) if states else glyphs.nothing
                text = f"{glyphs.state(name)} {WORDS[name] + ' ' if words else ''}{number}" if name else f"all {number}"
                here = name == self._state
                style = "bold" if here else "$muted" if not name or not states.get(name) else f"$state-{name}"
                found.append(Piece(f"[{text}]" if here else f" {text} ", style, f"app.do('tasks.state', {name or 'all'!r})"))
            if sum(cells(piece.text) for piece in found) <= width:
                break
        self.query_one("#states", Line).show(found)

    def _renew(self) -> None:
        """Ask about what is seen, if something changed, and not more than once a second."""
        now, phase = self.monitor.clock.ticks(), self.monitor.feed.standing.phase
        if self._renewing or self._source.view is None or phase not in (Phase.LIVE, Phase.SYNCING) or now - self._renewed < RENEW_S:
            return
        runs = [key for key in self._seen() if self._row(key)[STATE] == "running"]
        if self._stale or runs:
            keys = self._seen() if self._stale else runs
            self._renewing, self._renewed = True, now
            self.run_worker(self._renewed_now(keys, news=self._stale), group="renew", exit_on_error=False)
            self._stale = False

    def _seen(self) -> list[Any]:
        return [key for key in self.table.visible_keys if self._row(key) is not None]

    def _row(self, key: Any) -> Any:
        place = self._source.find(key)
        entry = None if place is None else self._source.entry(place)
        return None if entry is None else entry.row

    async def _renewed_now(self, keys: list[Any], *, news: bool) -> None:
        try:
            await self._source.freshen(keys)
            if news and self._source.view is not None:
                self.new = int((await self._ask("news", {"view": self._source.view}))["new"])
                if self.new and self._follows and not self.monitor.frozen:
                    await self._reloaded()
            self._look_beside()
        except TqError as error:
            if error.details.get("gone"):
                self._open()
        finally:
            self._renewing = False
            if self.is_current:
                self.lines()

    @property
    def _follows(self) -> bool:
        table = self.table
        at_top = table.cursor_place == 0 and self._sort == "-id" and not table.marks and not table.all_marked
        return self._follow or at_top

    async def _reloaded(self) -> None:
        table = self.table
        table.follows = self._follows
        try:
            await self._source.reload()
            self.new = 0
        finally:
            table.follows = self._follow

    def reload(self) -> None:
        """The list anew, with what has come since; the cursor stays on its task."""
        self._open()

    # the pane beside the list

    def _look_beside(self) -> None:
        """Ask for the task under the cursor, if it is another, or is not as it was."""
        if self.size.width < SIDE_FROM:
            return
        wanted = (self.table.cursor_key, self.table.cursor_row)
        if wanted != self._beside:
            self._beside = wanted
            self.run_worker(self._asked_beside(wanted[0]), group="beside", exclusive=True, exit_on_error=False)

    async def _asked_beside(self, key: Any) -> None:
        await self.monitor.clock.sleep(REST_S)
        if key is None:
            self._told = None
        else:
            try:
                (self._told,) = (await self._ask("get", {"ids": [key]}))["tasks"]
            except TqError:
                return  # the connection says so
        self._show_beside()

    def _show_beside(self) -> None:
        pane, told = self.query_one("#beside", TextPane), self._told
        lines = [] if told is None else gist(told, self.monitor.clock.now_ms(), pane.size.width - 2, self.monitor.glyphs, self.monitor.zone)
        pane.show_lines(lines, stay=told is not None)

    # what happens in the list

    def on_paged_table_cursor_moved(self, event: PagedTable.CursorMoved) -> None:
        if event.table.id != "list":
            return
        if event.place and self._follow:
            self._follow = event.table.follows = False
        self._look_beside()
        front = self.monitor.front
        if isinstance(front, TaskPage) and event.key is not None:
            front.cursor_came(event.key)
        elif self.is_current:
            self.lines()

    def on_paged_table_marks_changed(self) -> None:
        self.lines()

    def on_paged_table_noted(self, event: PagedTable.Noted) -> None:
        self.monitor.say(event.words, "$warn")

    def on_paged_table_sort_asked(self, event: PagedTable.SortAsked) -> None:
        same = self._sort == f"-{event.column}"
        self.sort_by(event.column if same else f"-{event.column}")

    def on_paged_table_opened(self, event: PagedTable.Opened) -> None:
        if self._opening:
            self._open_then = True
        elif isinstance(event.key, int):
            self.monitor.push_screen(TaskPage(event.key, self))

    def on_filter_bar_changed(self, event: FilterBar.Changed) -> None:
        if event.done:
            self.set_focus(self.table)
        self._take_filter(event.text)

    def _take_filter(self, text: str) -> None:
        found = self._read(text)
        if text != self._text:
            self._text, self._filter = text, found
            if self.table.all_marked:
                self.table.action_unmark()
            self._open()

    def put_filter(self, text: str) -> None:
        """This filter stands in the line, and counts. UsageError says where it is none."""
        self._take_filter(text)
        self.query_one(FilterBar).show(text)

    @property
    def view(self) -> View:
        """How the list looks now."""
        return View(self._text, self._state, self._sort)

    def put_view(self, view: View) -> None:
        """The list as it looked then. UsageError: its filter is none any more."""
        found = self._read(view.filter)
        self._text, self._filter = view.filter, found
        self._state = view.state if view.state in STATES else ""
        self._sort = view.sort if view.sort.removeprefix("-") in SORTS else "-id"
        if self.table.all_marked:
            self.table.action_unmark()
        self.query_one(FilterBar).show(view.filter)
        self._tabs()
        self._open()

    async def save_view(self, name: str) -> None:
        await task_asking.save_view(self.monitor, self.view, name)

    # what a person does

    @property
    def typing(self) -> bool:
        """Whether the filter line has the focus."""
        return self.query_one(FilterBar).editing

    @property
    def meant(self) -> Meant | None:
        """Which tasks a verb is about; None while another list is on its way, since nobody has seen what is in it."""
        if not self.is_mounted or self._opening:
            return None
        table = self.table
        if table.all_marked:
            return Meant(where=str(self._filter), states=(self._state,) if self._state else ()) if self._source.total else None
        ids = tuple(sorted(key for key in table.chosen if isinstance(key, int)))
        row = self._row(ids[0]) if len(ids) == 1 else None
        return Meant(ids, name=row[TYPE] if row else "", state=row[STATE] if row else "") if ids else None

    def open(self) -> None:
        self.table.action_open()

    def filter(self, text: str) -> None:
        """Type a filter, or take this one."""
        if text:
            self.put_filter(text)
        else:
            self.query_one(FilterBar).open()

    def _came(self, came: acting.Came | None) -> None:
        if came is None:
            return
        table = self.table
        if not came.chore:
            table.marks = set(came.failed) if len(came.failed) > 1 or table.marks else set()
        table.all_marked = False
        table.refresh()
        self._stale, self._renewed = True, -RENEW_S
        self._renew()
        self.lines()

    async def act(self, verb: acting.Verb) -> None:
        """Do it to what is meant."""
        if (meant := self.meant) is not None:
            self._came(await acting.act(self.monitor, verb, meant))

    async def reprioritise(self, words: str) -> None:
        if words:
            priority_of(words)
        if (meant := self.meant) is not None:
            row = self._row(meant.ids[0]) if meant.one else None
            self._came(await acting.reprioritise(self.monitor, meant, words, row[PRIORITY] if row else None))

    async def move(self, words: str) -> None:
        if (meant := self.meant) is not None:
            row = self._row(meant.ids[0]) if meant.one else None
            self._came(await acting.move(self.monitor, meant, words, row[QUEUE] if row else ""))

    async def edit(self) -> None:
        if (meant := self.meant) is not None:
            self._came(await acting.edit_payload(self.monitor, meant))

    async def export(self, words: str) -> None:
        """Write to a file what is marked, or all that match."""
        monitor, ids = self.monitor, sorted((key for key in self.table.marks if isinstance(key, int)), reverse=True)
        if ids and not self.table.all_marked:
            await export_tasks(monitor, "tasks", words, len(ids), named(monitor, ids))
        else:
            which = Meant(where=str(self._filter), states=(self._state,) if self._state else ())
            await export_tasks(monitor, "tasks", words, self._source.total, found(monitor, which.args))

    def turn(self, by: int) -> None:
        """Only the next state, or the one before; all stands before the first."""
        names = ("", *TABS)
        self.only(names[(names.index(self._state) + by) % len(names)] or "all")

    def only(self, words: str) -> None:
        """Only tasks in this state; ``all``: in any."""
        name = "" if words == "all" else words
        if name and name not in STATES:
            raise ValueError(f"state: expected all, {', '.join(STATES)}, got {words!r:.60}")
        if name != self._state:
            self._state = name
            if self.table.all_marked:
                self.table.action_unmark()
            self._tabs()
            self._open()

    def sort_by(self, order: str) -> None:
        """In this order from now on; one that the daemon refuses is told, and changes nothing."""
        if order.removeprefix("-") not in SORTS:
            raise ValueError(f"sort: expected {', '.join(SORTS)}, - before one for the reverse, got {order!r:.60}")
        self._sort = order
        self.monitor.memory.order(self.title_id, order)
        self._open()

    def invert(self) -> None:
        self.sort_by(self._sort.removeprefix("-") if self._sort.startswith("-") else f"-{self._sort}")

    def shift_sort(self, by: int) -> None:
        """By the next of the columns that are shown."""
        names = [column.id for column in self._columns() if column.id in SORTS]
        here = self._sort.removeprefix("-")
        at = names.index(here) if here in names else -by
        self.sort_by(("-" if self._sort.startswith("-") else "") + names[(at + by) % len(names)])

    async def choose_sort(self, words: str) -> None:
        if words := words or await task_asking.order(self.monitor, self._sort.removeprefix("-"), self._source.total):
            self.sort_by(words)

    async def choose_columns(self) -> None:
        if found := await task_asking.columns(self.monitor, columns_of(self), self._shown):
            marks, key = set(self.table.marks), self.table.cursor_key
            self._shown = found
            self.monitor.memory.columns(self.title_id, list(found))
            self.table.show(self._source, self._columns())
            self.table.marks = marks
            if key is not None:
                self.table.select(key)

    def toggle_follow(self) -> None:
        self._follow = not self._follow
        if self._follow:
            self.table.move_to(0)
            self.run_worker(self._reloaded(), group="open", exclusive=True, exit_on_error=False)
        self.table.follows = self._follow
        self.lines()

    def go_to_row(self, words: str) -> None:
        """``42000``: that row; ``50%``: so far down."""
        total = self._source.total
        try:
            place = round(float(words[:-1]) / 100 * (total - 1)) if words.endswith("%") else int(words) - 1
        except ValueError:
            raise ValueError(f"row: expected a number or a share such as 50%, got {words!r:.60}") from None
        self.table.move_to(place)
        self.table.focus()

    async def copy(self, what: str) -> None:
        row, key = self.table.cursor_row, self.table.cursor_key
        if isinstance(key, int):
            self.monitor.copy_to_clipboard(await task_asking.copied(self.monitor, what, key, row, self.view))

    async def copy_menu(self) -> None:
        if found := await task_asking.what_to_copy(self.monitor):
            await self.copy(found)

    @property
    def can_step_back(self) -> bool:
        return self.is_mounted and bool(self.table.marks or self.table.all_marked or self._text or self._state)

    def step_back(self) -> None:
        """Away with the marks; if there are none, with the filter; then with the state."""
        if self.table.marks or self.table.all_marked:
            self.table.action_unmark()
        elif self._text:
            self.put_filter("")
        else:
            self.only("all")

    def show_item(self, kind: str, name: str) -> bool:
        if kind == "task" and name.isdigit():
            self.monitor.push_screen(TaskPage(int(name), self))
        elif kind in ("type", "queue", "worker") and name:
            self.put_filter(f"{kind}:{json.dumps(name, ensure_ascii=False)}")
        elif kind == "filter":
            self.put_filter(name)
        elif kind == "tasks":
            self.only("failed")
        elif kind == "view" and name in (views := self.monitor.memory.kept.views):
            try:
                self.put_view(views[name])
            except UsageError as error:
                self.monitor.say(f"view {name}: {error}", "$bad")
        else:
            return False
        return True

    def status(self) -> Sequence[Piece]:
        glyphs, table, source = self.monitor.glyphs, self.table, self._source
        total = sum(((self.monitor.known.totals or {}).get("states") or {}).values())
        found: list[str] = []
        if table.all_marked:
            found.append(f"all {source.total:,}{'' if source.exact else '+'} marked")
        elif table.marks:
            away = len([key for key in table.marks if source.find(key) is None])
            found.append(f"{len(table.marks):,} marked" + (f" ({away:,} not in view)" if away else ""))
        narrowed = self._filter.root is not None or bool(self._state)
        if source.view is None:
            found.append(self._problem or "waiting for the list")
        else:
            most = "" if source.exact else "at least "
            wide = self.size.width >= SIDE_FROM
            found.append(
                f"{most}{source.total:,} {'match ' if wide else ''}of {total:,}" if narrowed else most + counted(source.total, "task")
            )
            found.append(f"row {table.cursor_place + 1:,}" if source.total else "")
            found.append(f"sort {self._sort.removeprefix('-')} {glyphs.falling if self._sort.startswith('-') else glyphs.rising}")
        loading = [page + 1 for page in source.loading if page * 200 < table.window[1] and (page + 1) * 200 > table.window[0]]
        found.append(f"loading page {loading[0]:,}" if loading else "")
        found.append("following" if self._follow else "")
        pieces = [Piece(" · ".join(text for text in found if text), "$muted")]
        if self.new:
            pieces += [Piece(f" · {glyphs.rising} {self.new:,} new (. to show)", "bold $warn", "app.do('tasks.take_in')")]
        if source.problem and source.view is not None:
            pieces.append(Piece(f" · {glyphs.warn} {source.problem}", "$bad"))
        return pieces

"""One task in full: its course, its facts, why it waits or failed, what it was given and gave, and its output as it comes.

For: understanding one task, and acting on it; the next and the one before without going back to the list.
Not for: finding tasks (tasks), how verbs are asked for (acting), words and lines of a task (telling, documents).
Runs in: the monitor, on Textual.
Promises: a payload is unpacked, events are asked for and an output is followed only while its pane is seen; the task is asked for anew
only after its row has changed, which is looked at once a second while the daemon says that anything does.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from textual.app import ComposeResult
from textual.containers import Horizontal, Vertical

from tq.errors import TqError
from tq.model import unpack
from tui.actions import Action, Context
from tui.documents import Line as Text
from tui.documents import absolute, cut
from tui.feed import Phase
from tui.formats import clip, clock, counted, size
from tui.graphs import head_of
from tui.screens import acting
from tui.screens.acting import Meant
from tui.screens.screen import MonitorScreen, entitle
from tui.screens.task_kin import choose_kin, kin_of_task, states_of
from tui.telling import FINAL, Kin, course, errors_of, facts, kin_lines, name_of, progress_text, tries, why_lines
from tui.widgets.bars import Line, Piece
from tui.widgets.choosing import Choice, Choose
from tui.widgets.panes import JsonPane, LogPane, TextPane, TracebackPane

if TYPE_CHECKING:
    from tui.screens.tasks import TasksScreen

PANES = ("course", "facts", "trace", "payload", "result", "log", "audit", "raw")
NAMES = {
    "course": "Timeline", "facts": "Facts", "trace": "Traceback", "payload": "Payload", "result": "Result", "log": "Log", "audit": "Audit",
    "raw": "Raw",
}  # fmt: skip
TICKING = ("course", "facts")
"""Panes that tell how long something takes, or how soon it comes."""
SLOT = ("payload", "result", "audit", "raw")
"""Panes that share one place where several are seen at once."""
RENEW_S = 1.0
EVENTS = 500
"""Newest events that are looked through for those of this task."""
_COPIES = (
    ("id", "id"), ("command", "the command that shows it"), ("error", "its traceback, as shown"), ("payload", "its payload, as shown"),
    ("json", "all of it, as shown"),
)  # fmt: skip


def _there(context: Context) -> bool:
    return bool(context.screen is not None and context.screen.title_id == "task" and context.screen.told is not None)


def _of_list(context: Context) -> bool:
    return bool(context.screen is not None and context.screen.title_id == "task" and context.screen.listed)


def _do(name: str, *given: Any, words: bool = False) -> Any:
    """Calls a method of the page: with what is given, or with what stands behind the word."""
    return lambda context: getattr(context.screen, name)(*([context.words] if words else given))


def _task(id_: str, title: str, text: str, run: Any, **rest: Any) -> Action:
    return Action(id=f"task.{id_}", title=title, help=text, run=run, screen="task", **rest)


def _twin(verb: str) -> Any:
    return lambda context: f"tq {verb} {context.screen.id_}"


class TaskPage(MonitorScreen):
    """The page of the task ``id_``; ``listing`` is the screen that opened it."""

    title_id, name_long, name_short = "task", "Task", "Task"
    ACTIONS = (
        _task("next", "Next", "The next task of the list.", _do("walk", 1), keys="J", words=("next",), footer=8,
              applies=_of_list),
        _task("before", "Before", "The task before it in the list.", _do("walk", -1), keys="K", words=("before",),
              footer=9, applies=_of_list),
        _task("retry", "Retry", "Run it again, if it is over, counting from zero.", _do("act", acting.RETRY), keys="r",
              words=("retry",), applies=lambda c: _there(c) and c.screen.over, writes=True, weight=1, twin=_twin("retry"), footer=10),
        _task("cancel", "Cancel", "Cancel it if it waits; ask it to end if it runs.", _do("act", acting.CANCEL), keys="c",
              words=("cancel",), applies=lambda c: _there(c) and not c.screen.over, writes=True, weight=1, twin=_twin("cancel"), footer=12),
        _task("edit", "Edit", "Change its payload; if it is over it runs again with it.", _do("edit"), keys="e", words=("edit",),
              applies=_there, writes=True, weight=1, footer=14),
        _task("remove", "Delete…", "Forget it for good.", _do("act", acting.REMOVE), keys="D", words=("remove",), applies=_there,
              writes=True, weight=3, twin=_twin("remove"), footer=16),
        _task("priority", "Priority", "Give it another priority, if it waits.", _do("reprioritise", words=True), keys="P",
              words=("priority",), takes="[0-9]", applies=lambda c: _there(c) and not c.screen.over, writes=True, footer=18),
        _task("move", "Move", "Move it into another queue, if it waits.", _do("move", words=True), keys="m", words=("move",),
              takes="[QUEUE]", applies=lambda c: _there(c) and not c.screen.over, writes=True, footer=20),
        _task("kin", "After and before", "Choose one of the tasks that it comes after, or that come after it, and show that.",
              _do("go_to_kin"), keys="a", short="After", words=("after",), applies=lambda c: _there(c) and bool(c.screen._kin), footer=21),
        _task("workflow", "Workflow", "The workflow that it is of, as a tree of its steps.", _do("open_workflow"), keys="W",
              words=("workflow-of",), applies=lambda c: _there(c) and head_of(c.screen.told) is not None, footer=21),
        _task("copy", "Copy", "Copy the id of the task.", _do("copy", "id"), keys="y", applies=_there, words=("copy",), footer=22),
        _task("copy_menu", "Copy more", "Choose what to copy: its traceback, payload, all of it.", _do("copy_menu"), keys="Y",
              applies=_there, words=("yank",), footer=0),
        _task("pane", "Next pane", "The next pane: timeline, facts, traceback, payload, result, log, audit, raw.",
              _do("turn", 1), keys="tab", footer=24, short="Pane", priority=True),
        _task("pane_before", "Pane before", "The pane before.", _do("turn", -1), keys="shift+tab", footer=0, priority=True),
        _task("log", "Log", "Its output, followed while it runs.", _do("bring", "log"), keys="L", words=("log",), footer=26),
        _task("pager", "Pager", "Show the pane in front, all of it, in your $PAGER.", _do("page"), keys="o", words=("pager",),
              applies=lambda c: _there(c) and not c.app.is_web, footer=28),
        _task("show", "Show", "Bring a pane to the front: :pane payload.", _do("bring", words=True), words=("pane",), takes="NAME",
              choices=lambda _: PANES, footer=0),
    )  # fmt: skip

    def __init__(self, id_: int, listing: TasksScreen | None = None) -> None:
        super().__init__()
        self.id_ = id_
        self.told: dict[str, Any] | None = None
        """As the daemon has it, not cleaned."""
        self._listing = listing
        self._missing = ""
        self._reasons: Sequence[Text] = ()
        self._kin: Sequence[Kin] = ()
        self._row: Any = None
        self._front = "course"
        self._filled: set[str] = set()
        self._stale = True
        self._renewed = -RENEW_S
        self._renewing = False
        self._logged = 0

    @property
    def place(self) -> str:
        return "tasks"

    @property
    def listed(self) -> bool:
        """Whether it was opened from a list, in which there are others."""
        return self._listing is not None

    def body(self) -> ComposeResult:
        glyphs = self.monitor.glyphs
        with Vertical(id="page"):
            yield Line(id="crumb")
            yield Line(id="panes")
            with Horizontal(id="upper"):
                yield TextPane(glyphs=glyphs, id="course", classes="pane")
                yield TextPane(glyphs=glyphs, wrap=True, id="facts", classes="pane")
            with Horizontal(id="middle"):
                yield TracebackPane(glyphs=glyphs, id="trace", classes="pane")
                yield JsonPane(glyphs=glyphs, wrap=True, id="payload", classes="pane slot")
                yield JsonPane(glyphs=glyphs, wrap=True, id="result", classes="pane slot")
                yield TextPane(glyphs=glyphs, id="audit", classes="pane slot")
                yield JsonPane(glyphs=glyphs, wrap=True, id="raw", classes="pane slot")
            yield LogPane(stamps=(absolute, None), glyphs=glyphs, id="log", classes="pane")

    def on_mount(self) -> None:
        super().on_mount()
        self.bring("course" if not self.multiple else "trace")

    # which panes are seen

    @property
    def multiple(self) -> bool:
        """Whether there is room for several panes at once."""
        return self.has_class("-tall") and (self.has_class("-wide") or self.has_class("-huge"))

    def bring(self, name: str) -> None:
        """A pane to the front, with the focus."""
        found = next((one for one in PANES if one == name or NAMES[one].lower().startswith(name.lower())), "") if name else ""
        if not found:
            raise ValueError(f"pane: expected {', '.join(PANES)}, got {name!r:.60}")
        self._front = found
        slot = found if found in SLOT else next((one for one in SLOT if self.query_one(f"#{one}").has_class("-slot")), "payload")
        for one in PANES:
            widget = self.query_one(f"#{one}")
            widget.set_class(one == found, "-front")
            widget.set_class(one == slot, "-slot")
        for box, members in (("#upper", ("course", "facts")), ("#middle", ("trace", *SLOT))):
            self.query_one(box).set_class(found in members, "-front")
        self.query_one(f"#{found}").focus()
        self._tabs()
        self._fill()

    def turn(self, by: int) -> None:
        self.bring(PANES[(PANES.index(self._front) + by) % len(PANES)])

    def _seen(self, name: str) -> bool:
        return self._front == name or (self.multiple and (name not in SLOT or self.query_one(f"#{name}").has_class("-slot")))

    def on_descendant_focus(self) -> None:
        focused = self.focused
        if focused is not None and focused.id in PANES and focused.id != self._front:
            self._front = focused.id
            self._tabs()
        super().on_descendant_focus()

    def on_resize(self) -> None:
        if self.is_mounted:
            self._filled.discard("course")
            self.call_after_refresh(self._fill)
        super().on_resize()

    # what is asked for

    def show(self, id_: int) -> None:
        """Another task on this page, at the same pane."""
        self.id_, self.told, self._row, self._missing, self._reasons, self._kin = id_, None, None, "", (), ()
        self._stop_log()
        self._filled.clear()
        self._stale, self._renewed = True, -RENEW_S
        self._renew()
        self.lines()

    def _renew(self) -> None:
        now, phase = self.monitor.clock.ticks(), self.monitor.feed.standing.phase
        if self._renewing or phase not in (Phase.LIVE, Phase.SYNCING) or now - self._renewed < RENEW_S:
            return
        runs = self.told is not None and self.told["state"] == "running"
        if self._stale or runs:
            self._renewing, self._renewed, self._stale = True, now, False
            self.run_worker(self._renewed_now(self.id_), group="task", exit_on_error=False)

    async def _renewed_now(self, id_: int) -> None:
        """Look at the row, which is small; ask for all of it only if that is another."""
        call = self.monitor.feed.call
        try:
            (row,) = (await call("rows", {"ids": [id_]}))["rows"]
            if id_ != self.id_:
                return
            if row is None:
                self._missing = f"There is no task {id_} any more." if self.told is not None else f"There is no task {id_}."
            elif row != self._row or self.told is None:
                (task,) = (await call("get", {"ids": [id_], "how": True}))["tasks"]
                reasons: Sequence[Text] = ()
                kin: Sequence[Kin] = ()
                if task is not None:
                    with suppress(TqError):
                        why = await call("why", {"id": id_})
                        if task["state"] != "running":
                            reasons = why_lines(why["reasons"], self.monitor.clock.now_ms())
                        kin = await kin_of_task(self.monitor.feed, task, why.get("children") or ())
                if id_ == self.id_:
                    self._take(row, task, reasons, kin)
            elif self._kin and self.told["state"] == "blocked":
                fresh = await states_of(self.monitor.feed, self.told, self._kin)
                if id_ == self.id_ and fresh != self._kin:
                    self._kin = fresh
                    self._filled.discard("facts")
                    self._fill()
        except TqError as error:
            self._missing = cut(error.message, 300) if self.told is None else ""
        finally:
            self._renewing = False
            if id_ != self.id_:
                self._renew()
            if self.is_mounted:
                self.lines()

    def _take(self, row: Any, task: dict[str, Any] | None, reasons: Sequence[Text], kin: Sequence[Kin]) -> None:
        before = self.told
        self._row, self.told, self._reasons, self._kin, self._missing = row, task, reasons, kin, ""
        kept = {"log"} if before is not None and task is not None and before["attempt"] == task["attempt"] else set()
        for name in ("payload", "result"):
            if before is not None and task is not None and before.get(name) == task.get(name):
                kept.add(name)
        self._filled &= kept
        self.call_after_refresh(self._fill)

    def apply(self, dirty: set[str]) -> None:
        if dirty & {"all", "totals", "standing"}:
            self._stale = True
        self._renew()
        standing = self.monitor.feed.standing
        for name in PANES:
            pane = self.query_one(f"#{name}")
            pane.brush.faded = not standing.phase.connected and bool(standing.heard_ms)  # type: ignore[attr-defined]
        if "all" in dirty:
            self._fill()
        elif "tick" in dirty and self.told is not None and not self.over:
            for name in TICKING:
                if self._seen(name):
                    getattr(self, f"_show_{name}")()

    # filling panes

    def _fill(self) -> None:
        """What is seen and is not as it is."""
        if not self.is_mounted:
            return
        self._tabs()
        if self.told is None:
            return
        for name in PANES:
            if name not in self._filled and self._seen(name):
                self._filled.add(name)
                getattr(self, f"_show_{name}")()

    def _show_course(self) -> None:
        pane = self.query_one("#course", TextPane)
        task, now = self.told or {}, self.monitor.clock.now_ms()
        width = max(20, pane.size.width - 6)
        lines = course(task, now, width, self.monitor.glyphs, self.monitor.zone)
        progress = task.get("progress")
        if task.get("state") == "running" and isinstance(progress, list | tuple) and len(progress) == 2:
            lines.append([(" " * 13, "dim"), (progress_text(progress, width, self.monitor.glyphs), "running")])
        errors = errors_of(task)
        if errors and not self.multiple:
            error = errors[-1][1]
            lines += [
                [],
                [(cut(f"{error.get('type')}: {error.get('message')}", 400), "bad")],
                [("tab shows facts and the traceback", "dim")],
            ]
        pane.show_lines(lines, stay=True)
        entitle(pane, "Timeline")

    def _show_facts(self) -> None:
        pane, task = self.query_one("#facts", TextPane), self.told or {}
        monitor = self.monitor
        kin = kin_lines(self._kin, len(task.get("parents") or ()), monitor.glyphs)
        pane.show_lines([*facts(task, monitor.clock.now_ms(), monitor.glyphs, monitor.zone), *kin, *self._reasons], stay=True)
        entitle(pane, "Facts", "a opens one of those after and before" if kin else "")

    def _show_trace(self) -> None:
        pane = self.query_one("#trace", TracebackPane)
        pane.show_errors(errors_of(self.told or {}))
        _, at, number = pane.attempt
        entitle(pane, "Traceback", f"try {pane.attempt[0]}, {at} of {number}: [ ] older, newer  z library frames" if number else "")

    def _show_payload(self) -> None:
        self._value("payload")

    def _show_result(self) -> None:
        self._value("result")

    def _value(self, name: str) -> None:
        pane, data = self.query_one(f"#{name}", JsonPane), (self.told or {}).get(name)
        if data is None or (name == "payload" and not data):
            pane.show_value(None)
            entitle(pane, NAMES[name], "none")
            return
        try:
            pane.show_value(unpack(data))
            words = "packed"
        except (ValueError, RecursionError):
            pane.show_value(data)
            words = "cannot be read as msgpack"
        hidden = f"  {counted(pane.hidden, 'secret')} hidden, ! shows" if pane.hidden else ""
        entitle(pane, f"{NAMES[name]} {size(len(data))} {words}", f"z folds{hidden}")

    def _show_raw(self) -> None:
        pane, task = self.query_one("#raw", JsonPane), self.told or {}
        pane.show_value({name: f"{size(len(one))}, in its own pane" if isinstance(one, bytes) else one for name, one in task.items()})
        entitle(pane, "Raw", "z folds")

    def _show_audit(self) -> None:
        self.run_worker(self._audited(self.id_), group="audit", exclusive=True, exit_on_error=False)

    async def _audited(self, id_: int) -> None:
        pane = self.query_one("#audit", TextPane)
        try:
            events = (await self.monitor.feed.call("events", {"limit": EVENTS}))["events"]
        except TqError as error:
            pane.show_lines([[(cut(error.message), "bad")]])
            return
        found: list[Text] = []
        for one in events:
            if str(one.get("target")) == str(id_):
                changes = json.dumps([one.get("before"), one.get("after")], default=str, ensure_ascii=False)
                found.append([
                    (f"{clock(int(one['at']), self.monitor.zone)} ", "dim"), (cut(str(one.get("who")), 40), "strong"),
                    (f" {cut(str(one.get('what')), 60)} ", "text"), (cut(changes, 300) if changes != "[null, null]" else "", "dim"),
                ])  # fmt: skip
        if id_ == self.id_:
            pane.show_lines(found or [[(f"Nobody did anything to it, as far as the newest {EVENTS} events tell.", "dim")]])
            entitle(pane, "Audit")

    def _show_log(self) -> None:
        pane = self.query_one("#log", LogPane)
        entitle(pane, "Log", "" if (self.told or {}).get("output") or not self.over else "it has written nothing")
        self._logged += 1
        pane.clear()
        self.run_worker(self._follow_log(self.id_, self._logged), group="log", exclusive=True, exit_on_error=False)

    async def _follow_log(self, id_: int, number: int) -> None:
        """What it has written and writes, until it is over or another is shown."""
        pane = self.query_one("#log", LogPane)
        with suppress(TqError):
            async for body in self.monitor.feed.stream(["output"], [id_]):
                if self._logged != number:
                    return
                pane.append(body.get("chunks") or (), end=bool(body.get("end")))
                if body.get("end"):
                    return

    def _stop_log(self) -> None:
        self._logged += 1
        self.workers.cancel_group(self, "log")

    def on_unmount(self) -> None:
        self._stop_log()

    # the lines

    def _tabs(self) -> None:
        if not self.is_mounted:
            return
        pieces = [Piece(" ")]
        for name in PANES:
            here = name == self._front
            pieces.append(
                Piece(f"[{NAMES[name]}]" if here else f" {NAMES[name]} ", "bold" if here else "$muted", f"app.do('task.show', {name!r})")
            )
        self.query_one("#panes", Line).show(pieces, [Piece("tab Next pane ", "$muted")])

    def lines(self) -> None:
        super().lines()
        task, glyphs = self.told, self.monitor.glyphs
        where = Piece("")
        if self._listing is not None:
            table = self._listing.table
            total = table.source.total
            where = Piece(f"K  {table.cursor_place + 1:,} of {total:,}  J " if total and table.cursor_key == self.id_ else "", "$muted")
        left = [Piece(" Tasks > ", "$muted", "app.do('back')"), Piece(f"{self.id_}  ", "bold")]
        if task is not None:
            left += [Piece(f"{clip(name_of(task), 40)}  "), Piece(f"{glyphs.word(task['state'])}  ", f"bold $state-{task['state']}")]
            left += [Piece(f"try {tries(task)}", "$muted")]
        left += [Piece(f"  {self._missing}", "bold $bad")] if self._missing else [Piece("loading", "$muted")] if task is None else []
        self.query_one("#crumb", Line).show(left, [where])

    def status(self) -> Sequence[Piece]:
        task = self.told
        if task is None:
            return [Piece(self._missing or "waiting for the task", "$muted")]
        words = f"{cut(str(task.get('queue')), 40)} · priority {task.get('priority')} · payload {size(len(task.get('payload') or b''))}"
        return [Piece(words, "$muted")]

    # what a person does

    @property
    def over(self) -> bool:
        return self.told is not None and self.told["state"] in FINAL

    @property
    def _meant(self) -> Meant:
        task = self.told or {}
        return Meant((self.id_,), name=name_of(task), state=str(task.get("state") or ""))

    def _came(self, came: acting.Came | None) -> None:
        if came is not None:
            self._stale, self._renewed = True, -RENEW_S
            self._renew()

    async def act(self, verb: acting.Verb) -> None:
        self._came(await acting.act(self.monitor, verb, self._meant))

    async def reprioritise(self, words: str) -> None:
        self._came(await acting.reprioritise(self.monitor, self._meant, words, (self.told or {}).get("priority")))

    async def move(self, words: str) -> None:
        self._came(await acting.move(self.monitor, self._meant, words, cut(str((self.told or {}).get("queue") or ""), 200)))

    async def edit(self) -> None:
        self._came(await acting.edit_payload(self.monitor, self._meant))

    def walk(self, by: int) -> None:
        """To the next task of the list, or the one before."""
        if self._listing is None:
            raise ValueError("this page was not opened from a list")
        table = self._listing.table
        place = table.cursor_place + by
        if not 0 <= place < table.source.total:
            raise ValueError("this is the last task of the list" if by > 0 else "this is the first task of the list")
        table.move_to(place)

    def cursor_came(self, id_: Any) -> None:
        """The list's cursor is at this task now."""
        if isinstance(id_, int) and id_ != self.id_:
            self.show(id_)

    async def go_to_kin(self) -> None:
        """Choose one of those that it comes after, or that come after it, and show that here."""
        if (chosen := await choose_kin(self.monitor, self._kin)) is not None:
            self.show(chosen)

    def open_workflow(self) -> None:
        """The workflow that it is of, as a tree."""
        from tui.screens.workflow import WorkflowPage  # which opens pages of tasks

        if (graph := head_of(self.told or {})) is not None:
            self.monitor.push_screen(WorkflowPage(graph))

    def copy(self, what: str) -> None:
        panes = {"error": "trace", "payload": "payload", "json": "raw"}
        if what in panes:
            if panes[what] not in self._filled:
                self._filled.add(panes[what])
                getattr(self, f"_show_{panes[what]}")()
            text = self._pane(panes[what]).text
        else:
            text = str(self.id_) if what == "id" else f"tq show {self.id_}"
        self.monitor.copy_to_clipboard(text)

    def page(self) -> None:
        """The pane in front in the person's pager. ValueError: there is nothing in it, or no pager."""
        text = self._pane(self._front).text
        if not text.strip():
            raise ValueError(f"{NAMES[self._front].lower()}: there is nothing to show")
        self.monitor.show_in_pager(f"{text}\n")

    def _pane(self, name: str) -> TextPane:
        return self.query_one(f"#{name}", TextPane)

    async def copy_menu(self) -> None:
        found = await self.monitor.push_screen_wait(
            Choose("Copy", [Choice(key, text) for key, text in _COPIES], glyphs=self.monitor.glyphs)
        )
        if found:
            self.copy(found[0])

    def show_item(self, kind: str, name: str) -> bool:
        if kind == "task" and name.isdigit():
            self.show(int(name))
            return True
        listing = self._listing
        self.dismiss()
        return listing is not None and listing.show_item(kind, name)

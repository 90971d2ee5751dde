"""What can be done in the list of tasks.

For: the actions of the screen of tasks, with their keys, words and titles.
Not for: what they do (methods of the screen, acting), the actions of the page of one task (task).
Runs in: the monitor, on Textual.
Promises: what acts on tasks is offered only while there is one to act on, and nobody types a filter.
"""

from __future__ import annotations

from operator import attrgetter
from typing import Any

from tq.model import STATES
from tq.query.orders import SORTS
from tui.actions import Action, Context
from tui.screens import acting
from tui.screens.export_acts import export_title, may_export


def _on(context: Context) -> bool:
    """Whether there is a task to act on, and nobody is typing a filter."""
    screen = context.screen
    return bool(screen is not None and screen.title_id == "tasks" and not screen.typing and screen.meant is not None)


def _says(verb: str) -> Any:
    def title(context: Context) -> str:
        meant = context.screen.meant
        return verb if meant is None or meant.one else f"{verb} {meant.described}"

    return title


def _twin(verb: str) -> Any:
    def line(context: Context) -> str:
        meant = context.screen.meant
        if meant is None:
            return f"tq {verb}"
        if meant.ids:
            return f"tq {verb} {' '.join(map(str, meant.ids[:5]))}"
        return " ".join(
            [f"tq {verb}", *(f"--state {state}" for state in meant.states), f"--where '{meant.where}'" if meant.where else ""]
        ).strip()

    return line


def _do(name: str, *given: Any, words: bool = False) -> Any:
    """Calls a method of the screen: with what is given, or with what stands behind the word."""
    return lambda context: attrgetter(name)(context.screen)(*([context.words] if words else given))


def _tasks(id_: str, title: str, text: str, run: Any, **rest: Any) -> Action:
    return Action(id=f"tasks.{id_}", title=title, help=text, run=run, screen="tasks", **rest)


ACTIONS = (
    _tasks("open", "Open", "Everything about the task under the cursor.", _do("open"), by="enter", words=("open",),
           applies=_on, footer=10),
    _tasks("filter", "Filter", "Filter the list: a part of a name, or fields such as state:failed age<1h.", _do("filter", words=True),
           keys="slash", words=("filter",), takes="[TEXT]", footer=12, priority=True,
           applies=lambda context: not context.screen.typing),
    _tasks("retry", "Retry", "Run what is over again, counting from zero.", _do("act", acting.RETRY), keys="r", words=("retry",),
           applies=_on, writes=True, weight=2, says=_says("Retry"), twin=_twin("retry"), footer=14),
    _tasks("cancel", "Cancel", "Cancel what waits; ask what runs to end.", _do("act", acting.CANCEL), keys="c", words=("cancel",),
           applies=_on, writes=True, weight=2, says=_says("Cancel"), twin=_twin("cancel"), footer=16),
    _tasks("remove", "Delete…", "Forget tasks for good.", _do("act", acting.REMOVE), keys="D", words=("remove",), applies=_on,
           writes=True, weight=3, twin=_twin("remove"), footer=18),
    _tasks("mark", "Mark", "Mark or unmark the task under the cursor; v marks a range.", _do("table.action_mark"), by="space",
           words=("mark",), applies=_on, footer=20),
    _tasks("all", "All", "Mark all that match, also those that nobody has seen.", _do("table.action_mark_all"), by="A",
           words=("all",), applies=_on, footer=22),
    _tasks("sort", "Sort", "Choose the order of the list.", _do("choose_sort", words=True), keys="s", words=("sort",),
           takes="[FIELD]", choices=lambda _: SORTS, footer=24),
    _tasks("take_in", "Show new", "Make the list anew, with what has come since.", _do("reload"), keys="full_stop",
           words=("new",), footer=26),
    _tasks("follow", "Follow", "Stay at the first row and take in what is new by itself.", _do("toggle_follow"), keys="F",
           words=("follow",), footer=28),
    _tasks("copy", "Copy", "Copy the id of the task under the cursor.", _do("copy", "id"), keys="y", applies=_on, words=("copy",),
           footer=30),
    _tasks("copy_menu", "Copy more", "Choose what to copy: the row, JSON, its error, the filter.", _do("copy_menu"), keys="Y",
           applies=_on, words=("yank",), footer=0),
    _tasks("priority", "Priority", "Give what waits another priority.", _do("reprioritise", words=True), keys="P",
           words=("priority",), takes="[0-9]", applies=_on, writes=True, weight=2, footer=32),
    _tasks("move", "Move", "Move what waits into another queue.", _do("move", words=True), keys="m", words=("move",),
           takes="[QUEUE]", applies=_on, writes=True, weight=2, footer=34),
    _tasks("edit", "Edit", "Change the payload of one task; what is over runs again with it.", _do("edit"), keys="e",
           words=("edit",), applies=lambda c: _on(c) and c.screen.meant.one, writes=True, weight=1, footer=36),
    _tasks("export", "Export", "Write what is marked, or all that match, to a file: NDJSON, or CSV by its ending.",
           _do("export", words=True), keys="x", words=("export",), takes="[FILE]", says=export_title, footer=38,
           applies=lambda c: may_export(c) and _on(c)),
    _tasks("tab_next", "Next state", "Only tasks of the next state, or all.", _do("turn", 1), keys="l,right", words=("next",),
           footer=0),
    _tasks("tab_before", "State before", "Only tasks of the state before, or all.", _do("turn", -1), keys="h,left",
           words=("before",), footer=0),
    _tasks("state", "State", "Only tasks in this state, or all: :state failed.", _do("only", words=True), words=("state",),
           takes="NAME", choices=lambda _: ("all", *STATES), footer=0),
    _tasks("sort_right", "Sort right", "Sort by the next column.", _do("shift_sort", 1), keys="greater_than_sign", words=("sort>",),
           footer=0),
    _tasks("sort_left", "Sort left", "Sort by the column before.", _do("shift_sort", -1), keys="less_than_sign", words=("sort<",),
           footer=0),
    _tasks("invert", "Invert", "Turn the order of the list round.", _do("invert"), keys="I", words=("invert",), footer=0),
    _tasks("columns", "Columns", "Choose the columns of the list.", _do("choose_columns"), keys="C", words=("columns",), footer=0),
    _tasks("range", "Range", "Begin or end a range of marks, which goes on with the cursor.", _do("table.action_range"), by="v",
           words=("range",), applies=_on, footer=0),
    _tasks("unmark", "Clear marks", "Unmark everything.", _do("table.action_unmark"), by="U", words=("unmark",), footer=0),
    _tasks("save", "Save view", "Keep the filter, the state and the order under a name; :view NAME opens it.",
           _do("save_view", words=True), keys="ctrl+s", words=("save",), takes="[NAME]",
           choices=lambda context: sorted(context.app.memory.kept.views), footer=0),
    _tasks("row", "Go to row", "Go to a place of the list: :42000 or :50%.", _do("go_to_row", words=True), words=("row",),
           takes="NUMBER", footer=0),
)  # fmt: skip

"""What a person is asked about the list of tasks: its order, its columns, a name for how it looks, what of a task to copy.

For: the screen of the tasks.
Not for: what is done to tasks (acting), the list itself (tasks), the questions' boxes (widgets.choosing).
Runs in: the monitor, on Textual; inside the worker of an action.
Promises: escape changes nothing; what the daemon would refuse is shown with the reason, and cannot be chosen.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, cast

from tq.query.orders import SORTS
from tui.formats import cleaned
from tui.memory import View, check_name
from tui.telling import errors_of
from tui.widgets.choosing import Ask, Choice, Choose, Pick
from tui.widgets.table import Column

if TYPE_CHECKING:
    from tui.app import MonitorApp

SORTED_MOST = 100_000
"""Tasks that the daemon puts into another order than that of ids."""
_SORT_NAMES = {
    "id": "newest or oldest first", "type": "name", "created": "when it was sent", "due": "when it is to run",
    "started": "when it last began", "finished": "when it ended", "run": "how long it ran", "wait": "how long it waited",
    "attempt": "tries", "state": "state", "queue": "queue", "priority": "priority",
}  # fmt: skip
_COPIES = (
    ("id", "id"), ("row", "the row, with tabs"), ("json", "the task as JSON"), ("command", "the command that shows it"),
    ("error", "its last error"), ("filter", "the filter of this list"),
)  # fmt: skip


async def order(monitor: MonitorApp, here: str, total: int) -> str:
    """The order that is chosen, the greatest first; "": none. ``here``: the column it is by now, ``total``: tasks in the list."""
    many = f"only up to {SORTED_MOST:,} matches" if total > SORTED_MOST else ""
    choices = [Choice(name, name, _SORT_NAMES[name] + (" (now)" if name == here else ""), many if name != "id" else "") for name in SORTS]
    found = await monitor.push_screen_wait(Choose("Sort by", choices, glyphs=monitor.glyphs))
    return f"-{found[0]}" if found else ""


async def columns(monitor: MonitorApp, there: Sequence[Column], shown: Sequence[str]) -> tuple[str, ...]:
    """The columns that are chosen, with that of the error, which takes what room is left; none: no change."""
    choices = [Choice(column.id, column.title, _SORT_NAMES.get(column.id, "")) for column in there]
    found = await monitor.push_screen_wait(Pick("Columns", choices, shown, glyphs=monitor.glyphs))
    return () if not found else tuple(found) if "error" in found else (*found, "error")


async def what_to_copy(monitor: MonitorApp) -> str:
    """One of the words that ``copied`` takes; "": nothing."""
    found = await monitor.push_screen_wait(Choose("Copy", [Choice(key, text) for key, text in _COPIES], glyphs=monitor.glyphs))
    return str(found[0]) if found else ""


async def copied(monitor: MonitorApp, what: str, key: int, row: Any, view: View) -> str:
    """The text of it. The daemon's errors."""
    if what in ("json", "error"):
        (task,) = (await monitor.feed.call("get", {"ids": [key]}))["tasks"]
        task = task or {}
        errors = errors_of(task)
        shown = cleaned({name: value for name, value in task.items() if name not in ("payload", "result")})
        return json.dumps(
            shown if what == "json" else cleaned(errors[-1][1]) if errors else None, ensure_ascii=False, indent=2, default=str
        )
    return {
        "id": str(key), "row": "\t".join("" if one is None else str(one) for one in row or ()), "command": f"tq show {key}",
        "filter": " ".join([*([f"state:{view.state}"] if view.state else []), view.filter]).strip(),
    }[what]  # fmt: skip


async def save_view(monitor: MonitorApp, view: View, name: str) -> None:
    """Keep how the list looks under a name; "": it is asked for. ``u`` takes it back. ValueError: it can be none."""
    memory = monitor.memory
    name = name or await monitor.push_screen_wait(cast("Any", Ask("Save this view as", "", check_name))) or ""
    if not name:
        return
    before = memory.view(name, view)

    async def undo() -> None:
        memory.view(name, before)

    monitor.say(f"View {name} saved; :view {name} opens it.", undo=undo)

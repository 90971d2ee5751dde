"""The kin of a task: those it comes after, those that come after it, and the way to them.

For: ``kin_of_task``, ``states_of`` (the same again, which costs one question) and ``choose_kin``.
Not for: words and lines (telling), workflows as a whole (workflow).
Runs in: the monitor, on Textual.
Promises: of parents and of children at most ``KIN_MOST`` are asked for; children that are blocked are found wherever they are, others
among the ids behind the task, of its workflow or the next NEAR.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from tui.feed import Feed
from tui.graphs import head_of
from tui.telling import KIN_MOST, Kin, Task, kin_of
from tui.widgets.choosing import Choice, Choose

if TYPE_CHECKING:
    from tui.app import MonitorApp

NEAR = 1000
"""Ids behind a task of no workflow among which its children are looked for: what is sent together stands together."""


async def kin_of_task(feed: Feed, task: Task, waiting: Iterable[int]) -> list[Kin]:
    """All kin of a task of which ``waiting`` wait for it. The daemon's errors."""
    number, graph = int(task["id"]), head_of(task)
    last = graph.ids[-1] if graph is not None else number + NEAR
    children = set(list(waiting)[:KIN_MOST])
    if last > number and len(children) < KIN_MOST:
        where = f"parent:{number} id:{number + 1}..{last}"
        children |= {row["id"] for row in (await feed.call("find", {"where": where, "limit": KIN_MOST}))["tasks"]}
    return kin_of(task, sorted(children), await _rows(feed, [*list(task.get("parents") or ())[:KIN_MOST], *sorted(children)[:KIN_MOST]]))


async def states_of(feed: Feed, task: Task, kin: Sequence[Kin]) -> list[Kin]:
    """The same kin, as they stand now."""
    children = [one.id for one in kin if not one.before]
    return kin_of(task, children, await _rows(feed, [one.id for one in kin]))


async def _rows(feed: Feed, ids: Sequence[int]) -> Mapping[int, Sequence[Any] | None]:
    return dict(zip(ids, (await feed.call("rows", {"ids": list(ids)}))["rows"], strict=True)) if ids else {}


async def choose_kin(monitor: MonitorApp, kin: Sequence[Kin]) -> int | None:
    """Which of them a person wants to see; None: none."""
    choices = []
    for one in kin:
        side = f"it stands before this one {one.how}".rstrip() if one.before else "it comes after this one"
        state = monitor.glyphs.word(one.state) if one.state else "gone"
        choices.append(Choice(str(one.id), f"{one.id}  {state}  {one.name}", side, "" if one.state else "it is gone"))
    found = await monitor.push_screen_wait(Choose("After and before", choices, glyphs=monitor.glyphs))
    return int(found[0]) if found else None

"""Exporting tasks from a list: where to, page by page, with how far it is, until it is done or stopped.

For: the screens that list tasks or groups of them: what is marked, or all that match.
Not for: what a file looks like (exporting), which tasks (the screens).
Runs in: the monitor, on Textual; inside the worker of an action.
Promises: tasks are written as the daemon has them, also those that it cuts short in a long answer; a file that is there is replaced only
after a yes, and only once the new one is whole; what is stopped or fails leaves no file.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from tq.errors import DaemonError
from tui.actions import Context
from tui.formats import age, cleaned, counted, size
from tui.screens.exporting import Exists, Out, create, export
from tui.state import Body
from tui.widgets.confirm import Question
from tui.widgets.form import Field, Form

if TYPE_CHECKING:
    from tui.app import MonitorApp

PAGE = 500
Pages = AsyncIterator[Sequence[Body]]


@dataclass
class Exporting:
    """One that is under way: tasks that are written, of how many."""

    total: int
    done: int = 0
    stopped: bool = False

    @property
    def told(self) -> str:
        return f"export: {self.done:,} of {counted(self.total, 'task')}, :stop ends it"


class _StoppedError(Exception):
    """A person has stopped it."""


async def found(monitor: MonitorApp, which: Mapping[str, Any]) -> Pages:
    """All tasks that match, newest first, uncleaned: what is written to a file is exact."""
    before: Any = None
    while True:
        answer = await monitor.feed.call("find", {**which, "limit": PAGE, **({"before": before} if before else {})})
        if answer["tasks"]:
            yield answer["tasks"]
        before = answer["next"]
        if not before:
            return


async def named(monitor: MonitorApp, ids: Sequence[int]) -> Pages:
    """The tasks of these ids that are still there, uncleaned."""
    for at in range(0, len(ids), PAGE):
        answer = await monitor.feed.call("get", {"ids": list(ids[at : at + PAGE])})
        yield [task for task in answer["tasks"] if task is not None]


async def _whole(monitor: MonitorApp, tasks: Sequence[Body]) -> Sequence[Body]:
    """These tasks, those that were cut to fit the answer asked for alone."""
    whole = []
    for task in tasks:
        alone = (await monitor.feed.call("get", {"ids": [task["id"]]}))["tasks"][0] if task.get("cut") else task
        whole.append(task if alone is None else alone)
    return whole


async def _target(monitor: MonitorApp, name: str) -> Out:
    try:
        return create(name)
    except Exists as error:
        there = error.path.stat()
        facts = [("file", str(cleaned(str(error.path.absolute())))), ("size", size(there.st_size)),
                 ("changed", f"{age(monitor.clock.now_ms() - int(there.st_mtime * 1000))} ago")]  # fmt: skip
        question = Question("Replace a file", "There is a file of this name; what is in it will be lost", "Replace", 2, facts=facts)
        if not await monitor.confirm(question):
            raise ValueError("the file that is there stays: choose another name") from None
        return create(name, over=True)


async def export_tasks(monitor: MonitorApp, stem: str, words: str, total: int, pages: Pages) -> None:
    """Write these tasks to the file of ``words``, or of a name that is asked for; while one export is under way, stop that instead."""
    if monitor.exporting is not None:
        monitor.exporting.stopped = True
        return
    made: list[Out] = []

    async def save(texts: dict[str, str]) -> None:
        made.append(await _target(monitor, texts["file"]))

    if words.strip():
        await save({"file": words})
    else:
        stamp = datetime.fromtimestamp(monitor.clock.now_ms() // 1000, UTC)
        field = Field("file", "file", f"{stem}-{stamp:%Y%m%d-%H%M%S}.ndjson", "a name that ends in .ndjson (exact) or .csv")
        if not await monitor.push_screen_wait(Form("Export", counted(total, "task"), [field], "Export", save)):
            return
    under_way = monitor.exporting = Exporting(total)

    async def told() -> Pages:
        async for rows in pages:
            if under_way.stopped:
                raise _StoppedError
            yield await _whole(monitor, rows)
            under_way.done += len(rows)

    path = cleaned(str(made[0].path.absolute()))
    try:
        number = await export(made[0], told())
        monitor.say(f"Exported {counted(number, 'task')} to {path}")
    except _StoppedError:
        monitor.say(f"Stopped after {counted(under_way.done, 'task')}; nothing is left of {path}", "$warn")
    except DaemonError as error:
        raise ValueError(f"The export broke off after {counted(under_way.done, 'task')}: {error.message}") from None
    finally:
        monitor.exporting = None


def may_export(context: Context) -> bool:
    """Whether files can be written where the person is: the monitor in a browser runs elsewhere."""
    return not context.app.is_web


def export_title(context: Context) -> str:
    """What the key does now."""
    return "Export" if context.app.exporting is None else "Stop the export"

"""``tq run --cron NAME -- CMD``: a command that stays in the crontab, with a lock, a history and mail only if it failed.

For: lines of a crontab: what a run sends, what is said of it and what not, its exit code.
Not for: crontabs that become schedules (crontabs), other runs (tasks), output that is followed (log).
Runs in: the ``tq`` command, mostly with cron's few variables and without a terminal.
Promises: cron mails what is printed, so nothing is, unless the run failed or there was no run to be had; runs of one name never overlap.

The task has the label NAME: ``tq list label:NAME`` is its history. A run that finds the one before still going on (or waiting) is left
out: exit code 0 and nothing said, for that is no failure of the command; ``--verbose`` says it. Of a failure there are said the task's
id, how it ended, and the last TAIL lines of what it wrote, each on the stream it came from. TERM ends the task, too, as for ``tq run``.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from typing import Any

from tq.cli import hot
from tq.cli.command import command_task
from tq.cli.log import Chunk, Screen, Tail
from tq.cli.options import a_name
from tq.cli.render import clean
from tq.cli.tasks import code_of_run, until_over
from tq.client import Client
from tq.client.core import format_error
from tq.errors import Conflict, UsageError

TAIL = 100
"""Lines of its output that are shown of a run that failed."""
_NOT_WITH = {
    "key": "--key", "unique": "--unique", "on_conflict": "--on-conflict", "label": "--label", "interactive": "--interactive",
    "tty": "--tty",
}  # fmt: skip
"""Options that say what ``--cron`` says, or that need somebody who types."""


def run_of_cron(client: Client, values: dict[str, Any]) -> int:
    name = a_name("--cron", values["cron_name"])
    wrong = [flag for key, flag in _NOT_WITH.items() if values[key] not in (None, False)]
    if wrong:
        raise UsageError(
            f"expected either --cron or {wrong[0]}, got both. Drop one: --cron names its label and its lock, and nobody types."
        )
    task = command_task({**values, "label": name, "unique": f"cron {name}"})
    try:
        task_id = hot.sent(client.call, task, values)["ids"][0]
    except Conflict as conflict:
        if values["verbose"]:
            hot.say(f"tq: {clean(name)}: left out, since the run before goes on: task {conflict.details.get('id')}.")
        return 0
    tail = Tail(TAIL)
    row, code = until_over(client, task_id, tail, nullcontext())
    if code:
        return code
    if row is None or row["state"] != "succeeded":
        _tell(clean(name), task_id, row, tail.end())
    elif values["verbose"]:
        hot.say(f"tq: {clean(name)}: task {task_id} succeeded.")
    return code_of_run(row)


def _tell(name: str, task_id: int, row: dict[str, Any] | None, last: Sequence[Chunk]) -> None:
    """What the mail of cron says."""
    text = f"tq: {name}: task {task_id} "
    text += "is over, and no longer kept: nobody knows how it ended" if row is None else row["state"]
    text += f": {format_error(row['error'])}" if row and row["error"] else ""
    if not any(stream for _, stream, _ in last):
        hot.say(f"{text}\ntq: it has written nothing")
        return
    hot.say(f"{text}\ntq: its last lines follow, {TAIL} at most; all of it: tq log {task_id}")
    screen = Screen(raw=False, live=True)
    screen.write(last)
    screen.end()

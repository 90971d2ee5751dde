"""``tq run --cron NAME -- CMD``: a command that stays in the crontab, with a lock, a history and mail only if it failed.

For: lines of a crontab: what a run sends, what is said of it and what not, its exit code.
Not for: crontabs that become schedules (crontabs), other runs (tasks), output that is followed (log).
Runs in: the ``tq`` command, mostly with cron's few variables and without a terminal.
Promises: cron mails what is printed, so nothing is, unless the run failed or there was no run to be had; runs of one name never overlap.

The task has the label NAME: ``tq list label:NAME`` is its history. A run that finds the one before still going on (or waiting) is left
out: exit code 0 and nothing said, for that is no failure of the command; ``--verbose`` says it. Of a failure there are said the task's
id, how it ended, and the last TAIL lines of what it wrote, each on the stream it came from.
"""

from __future__ import annotations

import time
from contextlib import suppress
from typing import Any

from tq.cli import hot
from tq.cli.log import BACK_WITHIN, Screen, last_lines
from tq.cli.options import a_name, command_task
from tq.cli.render import clean, code_of, run_time, seconds
from tq.client import Client
from tq.client.core import format_error
from tq.errors import Conflict, DaemonNotRunning, NoSuchTask, TqError, UsageError

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
    row = _ended(client, task_id)
    code = row["exit_code"] or 0 if row["state"] == "succeeded" else code_of(row)
    if row["state"] != "succeeded":
        _tell(client, clean(name), row)
    elif values["verbose"]:
        hot.say(f"tq: {clean(name)}: task {task_id} succeeded after {seconds(run_time(row))}.")
    return code


def _ended(client: Client, task_id: int) -> dict[str, Any]:
    """The task once it is over; a daemon that goes has BACK_WITHIN to come back."""
    gone_at = 0.0
    while True:
        try:
            (row,) = hot.waited(client.call, [task_id], None)
        except DaemonNotRunning:
            gone_at = gone_at or time.monotonic()
            if time.monotonic() - gone_at > BACK_WITHIN:
                raise
            time.sleep(0.1)
        else:
            if row is None:
                raise NoSuchTask(hot.no_such(task_id))
            return row


def _tell(client: Client, name: str, row: dict[str, Any]) -> None:
    """What the mail of cron says."""
    error, took = row["error"], run_time(row)
    text = f"tq: {name}: task {row['id']} {row['state']}"
    text += "" if took is None else f" after {seconds(took)}"
    text += f": {format_error(error)}" if error else ""
    shows = f"its last {TAIL} lines at most follow, and `tq log {row['id']}` shows all" if row["output"] else "it has written nothing"
    hot.say(f"{text}\ntq: {shows}")
    if row["output"]:
        with suppress(TqError):  # what it wrote is no longer to be had: how it ended is said
            screen = Screen(raw=False, live=False)
            last_lines(client, row["id"], screen, TAIL)
            screen.end()

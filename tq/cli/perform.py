"""What a command line does, once it is known what it says: the function of a command, and the connection that it uses.

For: both parsers of command lines, the quick one (fast) and Typer's (app).
Not for: parsing, what commands do (a room for each noun), the verbs that need no client (hot, through fast).
Runs in: the ``tq`` command.
Promises: nothing but the room of the command is loaded; every error of tq ends as one line on stderr and the exit code of
``tq.errors``.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from importlib import import_module
from typing import Any

from tq.cli.hot import VERBS, report, say
from tq.client import Client, connect
from tq.config import data_dir_of
from tq.errors import TqError

Verb = Callable[[Client, dict[str, Any]], int]

AUTOSTART = ("enqueue", "add", "run", "workflow run")
ROOMS = {
    **dict.fromkeys(("cancel", "retry", "edit", "remove", "suspend", "resume"), "control"),
    "dead": "dead", "events": "events", "why": "why", "plan": "plan", "alerts": "alerts",
    "run": "tasks", "enqueue": "many", "add": "many", "show": "tasks", "list": "tasks", "peek": "tasks", "log": "log", "send": "send",
    "daemon": "daemon", "queue": "queues", "worker": "workers", "service": "service", "completion": "complete", "man": "man",
    "schedule": "schedules", "schedule import": "crontabs", "resource": "resources", "workflow": "workflows", "breaker": "breakers",
    "limit": "limits", "tenant": "tenants",
    "verify": "instance", "backup": "instance", "restore": "instance", "compact": "instance", "doctor": "instance",
    "config": "instance", "demo": "instance", "bench": "instance", "monitor": "monitor", "top": "monitor",
}  # fmt: skip


def verb_of(name: str) -> Verb:
    """The function of a command: ``daemon start`` is ``tq.cli.daemon.daemon_start``."""
    room = ROOMS.get(name) or ROOMS.get(name.partition(" ")[0])
    if room is None:
        hot = VERBS[name]
        return lambda client, values: hot(client.call, values)
    verb: Verb = getattr(import_module(f"tq.cli.{room}"), name.replace(" ", "_").replace("-", "_") + ("_tasks" if name == "list" else ""))
    return verb


def perform(name: str, values: dict[str, Any]) -> int:
    """Carry out a command; its exit code. ``values``: one for each option (None, or False for a flag, if it was not given), and
    what stood behind them under the name of the argument."""
    try:
        quiet = values.get("cron_name") is not None and not values["verbose"]
        with _client(name, values.pop("data_dir"), quiet) as client:
            if values.get("stdin"):
                values["data_dir"] = client.data_dir
            code = verb_of(name)(client, values)
        sys.stdout.flush()
    except TqError as error:
        return report(error)
    except KeyboardInterrupt:
        return 130
    return code


def _client(name: str, data_dir: str | None, quiet: bool) -> Client:
    autostart = name in AUTOSTART and os.environ.get("TQ_AUTOSTART") != "0"

    def started(pid: int) -> None:
        if not quiet:
            say(f"tq: started a daemon for {data_dir_of(data_dir)} (pid {pid})")

    return connect(data_dir, autostart=autostart, started=started)

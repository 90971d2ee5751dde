"""``tq daemon start|stop|restart|status|log-level``.

For: the life of an instance's daemon, for people.
Not for: starting and stopping themselves (client.start), or what a daemon does (tq.daemon).
Runs in: the ``tq`` command.
Promises: ``start`` returns when the daemon answers; ``stop`` when its process is gone; ``restart`` leaves the running
daemon alone if its application does not import.
"""

from __future__ import annotations

import os
import sys
from datetime import UTC, datetime
from typing import Any

from tq.cli.hot import say
from tq.cli.options import duration, whole
from tq.cli.render import clean, held_object, held_words, instant, json_line, plain, seconds
from tq.client import Client
from tq.client.start import READY_WITHIN, command, start_daemon, stop_daemon
from tq.errors import UsageError

NUMBERS = ("workers", "min_workers", "max_workers", "slots")


def _settings(values: dict[str, Any]) -> dict[str, Any]:
    """The options of ``start`` as those of a daemon; absent ones are its own to decide."""
    found: dict[str, Any] = {key: values[key] for key in ("app", "log_level") if values[key] is not None}
    found |= {key: whole(f"--{key.replace('_', '-')}", values[key]) for key in NUMBERS if values[key] is not None}
    if values["grace"] is not None:
        found["grace"] = duration("--grace", values["grace"]) / 1000
    if values["reload"]:
        found["reload"] = True
    if values["log_level"] not in (None, "debug", "info", "warning", "error"):
        raise UsageError(f"--log-level: expected debug, info, warning or error, got {values['log_level']!r}.")
    return found


def daemon_start(client: Client, values: dict[str, Any]) -> int:
    settings = _settings(values)
    if values["foreground"]:
        words = [*command(client.data_dir, **settings), "--foreground"]
        sys.stdout.flush()
        os.execv(words[0], words)  # noqa: S606  (no shell is the point)
    pid = start_daemon(client.data_dir, **settings)
    say(f"daemon started: pid {pid}, {client.data_dir}")
    return 0


def daemon_stop(client: Client, values: dict[str, Any]) -> int:
    pid = stop_daemon(client, now=values["now"], timeout=_patience(client.status()))
    say(f"daemon stopped: pid {pid}")
    return 0


def _patience(status: dict[str, Any]) -> float:
    """Seconds in which a daemon must be gone: its own grace for running tasks, and time to end them and sync."""
    return float(status["options"]["grace_s"]) + READY_WITHIN


def daemon_restart(client: Client, _values: dict[str, Any]) -> int:
    status = client.status()
    if status.get("supervised"):
        text = "expected a daemon that `tq daemon start` started, got one that a service manager runs, and would start again. "
        raise UsageError(text + "Nothing was stopped. Ask that: `systemctl restart tq`, with --user if `tq service status` says so.")
    client.call("check_app", {}, READY_WITHIN)  # a ConfigError with the traceback: nothing was stopped
    stop_daemon(client, timeout=_patience(status))
    pid = start_daemon(client.data_dir, **{key.removesuffix("_s"): value for key, value in status["options"].items()})
    say(f"daemon restarted: pid {pid}, {client.data_dir}")
    return 0


def daemon_log_level(client: Client, values: dict[str, Any]) -> int:
    client.call("set_log", {"level": values["level"]})
    return 0


def daemon_status(client: Client, values: dict[str, Any]) -> int:
    status, lines = client.status(), client.attention()
    if values["json"]:
        told = [{**line, "since": instant(line["since"]), "muted_until": instant(line["muted_until"])} for line in lines]
        raised = {name: instant(at) for name, at in status.get("alerts", {}).items()}
        held = {name: held_object(hold) for name, hold in status.get("held", {}).items()}
        print(json_line(plain({**status, "started_at": instant(status["started_at"]), "alerts": raised, "held": held, "attention": told})))
        return 0
    uptime = datetime.now(UTC).timestamp() - status["started_at"] / 1000
    print(f"running  pid {status['pid']}  version {clean(status['version'])}  since {instant(status['started_at'])}  up {seconds(uptime)}")
    rest = {key: value for key, value in status.items() if key not in _APART}
    for key, value in {**rest, **status["options"]}.items():
        if value is not None:
            print(f"  {key.replace('_', ' '):<12} {clean(value)}")
    for name, raised_at in status.get("alerts", {}).items():
        print(f"  {'alert':<12} {clean(name)} is raised since {instant(raised_at)}")
    for name, hold in status.get("held", {}).items():
        print(f"  {'held':<12} queue {clean(name)}: {held_words(hold)}")
    for line in lines:
        if not line["muted_until"] and line["about"][0] != "alert" and not line["key"].startswith("queue_held:"):  # those are told above
            print(f"  {_WEIGHTS[line['weight']]:<12} {clean(' '.join(filter(None, line['about'])))}: {clean(line['what'])}")
    return 0


_WEIGHTS = {"bad": "wrong", "warn": "warning", "note": "note"}
_APART = ("pid", "version", "started_at", "boot", "workers", "options", "alerts", "held")

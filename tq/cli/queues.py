"""``tq queue list|set|pause|resume|purge|chores``: queues, what stands in them, and long work over many tasks.

For: a queue's settings, from options to the wire and back into words.
Not for: who runs next (``tq peek``), the work itself (control).
Runs in: the ``tq`` command.
Promises: a setting that is not named stays as it is; what is shown as a setting is what differs from the default.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from tq.cli import hot
from tq.cli.control import in_bulk
from tq.cli.options import duration, task_options, unicode_text, whole
from tq.cli.render import backoff_object, clean, json_line, plain, seconds, table
from tq.client import Client
from tq.errors import UsageError
from tq.model import WAITING
from tq.store import QueueInfo

_SIZE = re.compile(r"(\d{1,18})([kmgt]?)(?:i?b)?", re.ASCII | re.IGNORECASE)
_UNITS = {"": 0, "k": 10, "m": 20, "g": 30, "t": 40}


def _size(flag: str, text: str) -> int:
    """Bytes from ``500M``, ``1G``, ``4096``: the units are those of 1,024."""
    found = _SIZE.fullmatch(text)
    if not found:
        raise UsageError(f"{flag}: expected a size such as 500M or 1G, got {text!r}. See `tq queue set --help`.")
    return int(found[1]) << _UNITS[found[2].lower()]


_SETTINGS: dict[str, tuple[str, Callable[[str, str], int]]] = {
    "weight": ("weight", whole),
    "slots": ("slots", whole),
    "aging": ("aging_ms", duration),
    "aging_share": ("aging_share", whole),
    "max_tasks": ("max_tasks", whole),
    "max_bytes": ("max_bytes", _size),
    "keep": ("keep_ms", duration),
}
"""Options that are settings of the queue itself: their names on the wire, and what their values mean."""
_FOR_TASKS = ("priority", "retries", "timeout", "backoff", "retry_delay", "max_delay", "jitter")
_NAMES = {key: wire for key, (wire, _) in _SETTINGS.items()} | {
    "priority": "priority", "retries": "retries", "timeout": "timeout_ms", "backoff": "backoff", "route": "routes",
}  # fmt: skip


def queue_set(client: Client, values: dict[str, Any]) -> int:
    changes: dict[str, object] = {}
    if values["external"] is not None:
        changes["external"] = values["external"]
    for key, (name, meaning) in _SETTINGS.items():
        if values[key] is not None:
            changes[name] = meaning("--" + key.replace("_", "-"), values[key])
    changes |= task_options({key: values[key] for key in _FOR_TASKS}) or {}
    if values["route"]:
        changes["routes"] = [unicode_text("--route", pattern) for pattern in values["route"]]
    unset = [_setting(word) for given in values["unset"] or [] for word in given.split(",")]
    if both := next((name for name in unset if name in changes), None):
        raise UsageError(f"expected {both} to be either set or unset, got both. Drop one.")
    if unset:
        changes["unset"] = unset
    if not changes:
        raise UsageError("expected something to change (--weight 3, --slots 2, --external, --unset slots, ...), got nothing.")
    return _set(client, values["name"], changes)


def _set(client: Client, name: str, changes: dict[str, Any]) -> int:
    """Change a queue; a name that nobody has used may be a slip, so it is said."""
    if client.set_queue(name, **changes):
        hot.say(f"queue {name} is new: no task was ever sent to it. `tq queue list` shows those there are.")
    return 0


def _setting(word: str) -> str:
    name = _NAMES.get(word.strip().removeprefix("--").replace("-", "_"))
    if name is None:
        known = ", ".join(key.replace("_", "-") for key in _NAMES)
        raise UsageError(f"--unset: expected settings of a queue ({known}), got {word!r}. --no-external has an option of its own.")
    return name


def queue_pause(client: Client, values: dict[str, Any]) -> int:
    return _set(client, values["name"], {"paused": True})


def queue_resume(client: Client, values: dict[str, Any]) -> int:
    return _set(client, values["name"], {"paused": False})


def queue_purge(client: Client, values: dict[str, Any]) -> int:
    which = {"queue": values["name"], "states": sorted(state.word for state in WAITING)}
    return in_bulk(client, "remove", values, which, {})


def queue_chores(client: Client, values: dict[str, Any]) -> int:
    rows = client.chores()
    if values["json"]:
        for row in rows:
            print(json_line(plain(row)))
        return 0
    if not rows:
        hot.say("nothing is under way")
        return 0
    print(
        table(
            ("chore", "does", "looked at", "changed", "to"),
            [(r["id"], r["verb"], r["seen"], r["changed"], r["where"] or "all") for r in rows],
        )
    )
    return 0


# what they are


def _object(row: dict[str, Any]) -> dict[str, Any]:
    """A queue for ``--json``: durations in seconds, None where the daemon's own value holds."""
    found = {key: value for key, value in row.items() if not key.endswith("_ms")}
    for key in ("aging_ms", "timeout_ms", "keep_ms"):
        value = row.get(key)
        found[key.removesuffix("_ms")] = None if value is None else value / 1000
    found["backoff"] = backoff_object(row["backoff"]) if row.get("backoff") else None
    return found


def _settings(row: dict[str, Any]) -> str:
    """What differs from the default, in words."""
    usual = QueueInfo("")
    said = [word for word in ("paused", "external") if row[word]]
    for name in QueueInfo.__slots__:
        value = row.get(name)
        if name in ("name", "paused", "external", "weight") or value is None or value in (getattr(usual, name), []):
            continue
        said.append(f"{name.removesuffix('_ms').replace('_', '-')} {_words(name, value)}")
    return "  ".join(said) or "-"


_ZERO = {"aging_ms": "never", "timeout_ms": "none", "keep_ms": "not at all"}
"""What nothing means: 0 ms would be a strange time limit."""


def _words(name: str, value: Any) -> str:
    if not value and name in _ZERO:
        return _ZERO[name]
    if name.endswith("_ms"):
        return seconds(value / 1000)
    if name == "max_bytes":
        unit = next((unit for unit in "tgmk" if value % (1 << _UNITS[unit]) == 0 and value), "")
        return f"{value >> _UNITS[unit]}{unit.upper()}"
    if name == "backoff":
        return f"{value[0]} {seconds(value[1] / 1000)} to {seconds(value[3] / 1000)}"
    return " ".join(map(str, value)) if name == "routes" else str(value)


def queue_list(client: Client, values: dict[str, Any]) -> int:
    rows = client.queues()
    if values["json"]:
        for row in rows:
            print(json_line(plain(_object(row))))
        return 0
    cells = []
    for row in rows:
        states = "  ".join(f"{word} {count}" for word, count in (row["states"] or {}).items() if count)
        cells.append((clean(row["name"]), row["weight"], states or "-", row.get("bytes") or 0, _settings(row)))
    print(table(("queue", "weight", "tasks", "bytes", "settings"), cells) if cells else "no queues yet: the first task makes one")
    return 0

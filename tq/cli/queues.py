"""``tq queue list|show|set|pause|resume|purge|chores``: queues, what stands in them, and long work over many tasks.

For: a queue's settings, from options to the wire and back into words.
Not for: who runs next (``tq peek``), the work itself (control).
Runs in: the ``tq`` command.
Promises: a setting that is not named stays as it is; what is shown as a setting is what differs from the default.
"""

from __future__ import annotations

from collections.abc import Callable
from math import inf, nan
from typing import Any

from tq.cli import hot
from tq.cli.control import in_bulk
from tq.cli.options import a_name, duration, task_options, unicode_text, whole
from tq.cli.render import clean, held_object, held_words, json_line, option_name, option_words, options_object, plain, print_table, table
from tq.client import Client
from tq.client.acting import not_both, routes_of, size_of, unset_of
from tq.errors import UsageError
from tq.model import WAITING
from tq.store import QueueInfo


def _size(flag: str, text: str) -> int:
    try:
        return size_of(text)
    except ValueError as error:
        raise UsageError(f"{flag}: {error}. See `tq queue set --help`.") from None


def _load(flag: str, text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = nan
    if 0 < value < inf:
        return value
    raise UsageError(f"{flag}: expected a load average above 0 such as 4 or 2.5, got {text!r}. See `tq queue set --help`.")


def _command(flag: str, text: str) -> str:
    if text.strip():
        return unicode_text(flag, text)
    raise UsageError(f"{flag}: expected a line for /bin/sh such as 'test -e /run/go', got {text!r}. For no probe: --unset hold-probe.")


_SETTINGS: dict[str, tuple[str, Callable[[str, str], object]]] = {
    "weight": ("weight", whole),
    "slots": ("slots", whole),
    "aging": ("aging_ms", duration),
    "aging_share": ("aging_share", whole),
    "max_tasks": ("max_tasks", whole),
    "max_bytes": ("max_bytes", _size),
    "keep": ("keep_ms", duration),
    "hold_load": ("hold_load", _load),
    "hold_memory": ("hold_memory", _size),
    "hold_probe": ("hold_probe", _command),
    "hold_every": ("hold_every_ms", duration),
}
"""Options that are settings of the queue itself: their names on the wire, and what their values mean."""
_FOR_TASKS = ("priority", "retries", "timeout", "backoff", "retry_delay", "max_delay", "jitter")


def queue_set(client: Client, values: dict[str, Any]) -> int:
    changes: dict[str, object] = {}
    if values["external"] is not None:
        changes["external"] = values["external"]
    for key, (name, meaning) in _SETTINGS.items():
        if values[key] is not None:
            changes[name] = meaning("--" + key.replace("_", "-"), values[key])
    changes |= task_options({key: values[key] for key in _FOR_TASKS}) or {}
    words: tuple[tuple[str, str, Callable[[list[str]], list[str]]], ...] = (("route", "routes", routes_of), ("unset", "unset", _unset))
    for key, name, read in words:
        if values[key]:
            try:
                changes[name] = read([unicode_text(f"--{key}", word) for word in values[key]])
            except ValueError as error:
                raise UsageError(f"--{key}: {error}.") from None
    not_both(changes)
    if not changes:
        raise UsageError("expected something to change (--weight 3, --slots 2, --external, --unset slots, ...), got nothing.")
    return _set(client, values["name"], changes)


def _unset(words: list[str]) -> list[str]:
    """By the options' names, each or some with commas between them."""
    return unset_of([name for word in words for name in word.split(",")])


def _set(client: Client, name: str, changes: dict[str, Any]) -> int:
    """Change a queue; a name that nobody has used may be a slip, so it is said."""
    answer = client.call("set_queue", {"name": a_name("NAME", name), **changes})
    if declared := answer.get("declared"):
        words = ", ".join(option_name(key) for key in declared)
        hot.say(f"the settings file says {words} of queue {name}, too: what it says is set again when the daemon starts. `tq config path`")
    if answer.get("new"):
        hot.say(f"queue {name} is new: no task was ever sent to it. `tq queue list` shows those there are.")
    return 0


def queue_pause(client: Client, values: dict[str, Any]) -> int:
    return _set(client, values["name"], {"paused": True})


def queue_resume(client: Client, values: dict[str, Any]) -> int:
    return _set(client, values["name"], {"paused": False})


def queue_purge(client: Client, values: dict[str, Any]) -> int:
    which = {"queue": a_name("NAME", values["name"]), "states": sorted(state.word for state in WAITING)}
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
            ("chore", "does", "looked at", "changed", "left", "to"),
            [(r["id"], r["verb"], r["seen"], r["changed"], sum((r.get("left") or {}).values()), r["where"] or "all") for r in rows],
        )
    )
    return 0


# what they are


def _settings(row: dict[str, Any]) -> str:
    """What differs from the default, in words."""
    usual = QueueInfo("")
    said = [word for word in ("paused", "external") if row[word]]
    said += [f"held: {held_words(row['held'])}"] if row.get("held") else []
    said += [f"limit {clean(name)} reached" for name in row.get("limits", [])]
    said += [f"breaker of {clean(kind)} not closed" for kind in row.get("breakers", [])]
    for name in QueueInfo.__slots__:
        value = row.get(name)
        if name in ("name", "paused", "external", "weight") or value is None or value in (getattr(usual, name), []):
            continue
        said.append(f"{option_name(name)} {option_words(name, value)}")
    return "  ".join(said) or "-"


def queue_show(client: Client, values: dict[str, Any]) -> int:
    answer = client.call("queues", {})
    name = a_name("NAME", values["name"])
    row = next((row for row in answer["queues"] if row["name"] == name), None)
    if row is None:
        known = ", ".join(clean(row["name"]) for row in answer["queues"][:20]) or "there is none yet"
        raise UsageError(f"expected a queue ({known}), got {name!r}. `tq queue list` shows them.")
    sources = {key: _source(row, key, answer.get("file")) for key in QueueInfo.__slots__ if key != "name"}
    if values["json"]:
        told = options_object({key: row[key] for key in sources})
        names = {key: key.removesuffix("_ms") for key in sources}
        shown = {name: {"value": told[name], "source": sources[key]} for key, name in names.items()}
        back = {key: row.get(key, []) for key in ("limits", "breakers")}
        print(json_line(plain({**shown, "held": held_object(row.get("held")), **back})))
        return 0
    print(table(("setting", "value", "said by"), [(option_name(key), option_words(key, row[key]), sources[key]) for key in sources]))
    if row.get("held"):
        print(f"queue {clean(name)} is held: {held_words(row['held'])}")
    for limit in row.get("limits", []):
        print(f"limit {clean(limit)} is reached: `tq limit list` shows how far")
    for kind in row.get("breakers", []):
        print(f"the breaker of type {clean(kind)} is not closed: `tq breaker list` shows why")
    return 0


def _source(row: dict[str, Any], key: str, file: str | None) -> str:
    """Who said a setting."""
    value, declared = row[key], row.get("declared") or {}
    if key in declared:
        again = option_words(key, declared[key])
        return str(file) if declared[key] == value else f"tq queue set; {file} says {again}, from the next start on"
    usual = getattr(QueueInfo(""), key)
    return "default" if value == (list(usual) if isinstance(usual, tuple) else usual) else "tq queue set"


def queue_list(client: Client, values: dict[str, Any]) -> int:
    rows = client.queues()
    if values["json"]:
        for row in rows:
            print(json_line(plain({**options_object(row), "held": held_object(row.get("held"))})))
        return 0
    cells = []
    for row in rows:
        states = "  ".join(f"{word} {count}" for word, count in (row["states"] or {}).items() if count)
        cells.append((clean(row["name"]), row["weight"], states or "-", row.get("bytes") or 0, _settings(row)))
    print_table(("queue", "weight", "tasks", "bytes", "settings"), cells, "no queues yet: the first task makes one")
    return 0

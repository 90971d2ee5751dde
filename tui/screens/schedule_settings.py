"""A schedule as people write it: each of its settings in words for the form, and from words for the daemon.

For: ``fields_of`` (the form), ``changes_of`` and ``back_to`` (arguments of ``set_schedule``).
Not for: whether a rule can be carried out, and when it comes due (the daemon says), the form (widgets.form), what is shown (schedules).
Runs in: the monitor; pure.
Promises: what is written and read again is the same; a setting whose text is as it was is not sent; an empty one has its default again; a
payload that JSON cannot say is not offered to be changed; what cannot be meant is a ValueError or UsageError that names the setting.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from tq.client.schedules import rule_args
from tq.config.tables import spoken
from tq.model import SHELL, pack, unpack
from tui.formats import cleaned
from tui.screens.acting import payload_of
from tui.widgets.form import Field

Texts = Mapping[str, str]
_LABELS = {
    "rule": ("rule", "0 2 * * *, @daily, every 90s, at tomorrow 9am"), "tz": ("zone", "of the rule's clock: Europe/Berlin; empty: UTC"),
    "type": ("task", "the type of what is sent: report.build"), "payload": ("payload", "of each run, in JSON"),
    "command": ("command", "its words: backup.sh --all, or sh -c 'a | b'; run where the daemon is"), "queue": ("queue", "empty: default"),
    "jitter": ("spread", "begins up to so much later: 30s; empty: none"), "only": ("only", "of the day: 22:00-06:00; empty: always"),
    "start": ("from", "not before: 2026-12-01, monday 9am; empty: at once"), "until": ("until", "not after: 2026-12-24; empty: for ever"),
    "misfire": ("missed", "slots that were missed: coalesce (one run for all), skip, all, all:10"),
    "overlap": ("overlap", "if the run before goes on: allow, skip, queue_one, cancel_old"),
}  # fmt: skip
_DEFAULTS = {"misfire": "coalesce", "overlap": "allow"}
_NONE = {"jitter": ("jitter_ms", 0), "only": ("only", []), "start": ("from_at", 0), "until": ("until_at", 0)}
"""What stands on the wire for an empty text."""
_KINDS = ("cron", "every_ms", "at")


def _instant(ms: int) -> str:
    return datetime.fromtimestamp(ms / 1000, UTC).isoformat(timespec="milliseconds" if ms % 1000 else "seconds").replace("+00:00", "Z")


def _value(row: Mapping[str, Any]) -> Any:
    """The payload as a value that JSON says exactly; ValueError: there is none such."""
    value = unpack(row["payload"]) if row.get("payload") else None
    if pack(json.loads(json.dumps(value, allow_nan=False))) != pack(value):
        raise ValueError("JSON cannot say it")
    return value


def _rule(row: Mapping[str, Any]) -> str:
    if row["cron"]:
        return str(row["cron"])
    return f"every {spoken(row['every_ms'])}" if row["every_ms"] else f"at {_instant(row['at'])}"


def texts_of(row: Mapping[str, Any] | None) -> dict[str, str]:
    """What stands in the form about a whole row of ``schedules``; None: about a new one, which has a name to be given."""
    if row is None:
        return {"name": "", **dict.fromkeys(_LABELS, ""), "payload": "", **_DEFAULTS}
    found = {
        "rule": _rule(row), "tz": row["tz"] if row["tz"] != "UTC" else "", "queue": str((row.get("options") or {}).get("queue") or ""),
        "jitter": spoken(row["jitter_ms"]) if row["jitter_ms"] else "", "only": ", ".join(row["only"]),
        "start": _instant(row["from_at"]) if row["from_at"] else "", "until": _instant(row["until_at"]) if row["until_at"] else "",
        "misfire": row["misfire"], "overlap": row["overlap"],
    }  # fmt: skip
    try:
        value = _value(row)
        if row["type"] != SHELL:
            found |= {"type": row["type"], "payload": json.dumps(value) if row.get("payload") else ""}
        elif isinstance(value, dict) and all(isinstance(one, str) for one in value["argv"]):
            found["command"] = shlex.join(value["argv"])
    except (ValueError, TypeError, KeyError, RecursionError):
        found |= {"type": row["type"]} if row["type"] != SHELL else {}
    return {name: str(cleaned(text)) for name, text in found.items()}


def fields_of(texts: Texts) -> list[Field]:
    """The fields of these texts, in the order in which people think of them."""
    names = [name for name in ("name", *_LABELS) if name in texts]
    labels = {"name": ("name", "what the schedule is called: nightly-report"), **_LABELS}
    return [Field(name, labels[name][0], texts[name], labels[name][1]) for name in names]


def changes_of(row: Mapping[str, Any] | None, texts: Texts, now_ms: int) -> dict[str, Any]:
    """The arguments of ``set_schedule`` that make it as the texts say, without the name; none: it is so. ``row`` None: it is new."""
    before = texts_of(row)
    now = {name: text.strip() for name, text in texts.items()}
    changed = {name for name in now if row is None or now[name] != before[name]} - {"name"}
    said: dict[str, Any] = {}
    if "rule" in changed:
        kind, _, rest = now["rule"].partition(" ")
        if not now["rule"]:
            raise ValueError("rule: expected such as 0 2 * * *, every 90s or at tomorrow 9am, got nothing")
        said |= {kind: rest} if kind in ("every", "at") else {"cron": now["rule"]}
    found: dict[str, Any] = {}
    for name in changed & _NONE.keys():
        if now[name]:
            said[name] = now[name]
        elif row is not None:
            found[_NONE[name][0]] = _NONE[name][1]
    said |= {name: now[name] or _DEFAULTS[name] for name in changed & _DEFAULTS.keys()}
    if changed & {"rule", "tz", "start", "until"}:  # words of time are those of its zone
        said["tz"] = now["tz"] or "UTC"
    found |= rule_args(said, now_ms) if said else {}
    task = _task(row, now, changed)
    return found | ({"task": task} if any(one is not None for one in task) else {})


def _task(row: Mapping[str, Any] | None, now: Texts, changed: set[str]) -> list[Any]:
    kind, payload, options = None, None, None
    if "queue" in changed and (row is not None or now["queue"]):
        options = {"queue": now["queue"] or None}
    if row is None and bool(now["command"]) == bool(now["type"]):
        raise ValueError("task: expected either a task or a command, got " + ("both" if now["type"] else "none of them"))
    if "command" in changed and (row is not None or now["command"]):
        try:
            argv = shlex.split(now["command"])
        except ValueError as error:
            raise ValueError(f"command: {error}") from None
        if not argv:
            raise ValueError("command: expected a command, got nothing")
        kind, payload = (SHELL if row is None else None), pack({**(_value(row) if row is not None else {}), "argv": argv})
        return [kind, payload, options]
    if "type" in changed and now["type"]:
        kind = now["type"]
    elif "type" in changed and row is not None:
        raise ValueError("task: expected the type of a task, got nothing")
    if "payload" in changed or row is None:
        try:
            payload = payload_of(now["payload"]) if now["payload"] else b""
        except ValueError as error:
            raise ValueError(f"payload: {error}") from None
    return [kind, payload, options]


def back_to(row: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """What makes a schedule as ``row`` again that was changed so."""
    found = {name: list(row[name]) if name == "only" else row[name] for name in changes if name not in ("task", *_KINDS)}
    if any(kind in changes for kind in _KINDS):
        found |= next({kind: row[kind]} for kind in _KINDS if row[kind])
    if "task" in changes:
        kind, payload, options = changes["task"]
        queue = (row.get("options") or {}).get("queue")
        found["task"] = [None if kind is None else row["type"], None if payload is None else row["payload"], options and {"queue": queue}]
    return found


def named(names: Sequence[str]) -> str:
    """Some schedules in a few words."""
    return ", ".join(names[:4]) + (f" and {len(names) - 4} more" if len(names) > 4 else "")

"""``tq alerts``: the alert rules of the settings file, and which of them are raised.

For: rules in a table, or as JSON.
Not for: what rules mean (``tq.broker.rules``), alerts of schedules (schedules).
Runs in: the ``tq`` command.
Promises: values are told in the unit of what is watched; times are UTC.
"""

from __future__ import annotations

from typing import Any

from tq.cli.render import instant, json_line, plain, print_table, seconds
from tq.client import Client

_IN_MS = ("oldest_wait", "late_schedule")


def alerts(client: Client, values: dict[str, Any]) -> int:
    rows = client.alerts()
    if values["json"]:
        for row in rows:
            print(json_line(plain(_object(row))))
        return 0
    empty = "no alert rules: a table [alerts.NAME] of tq.toml makes one, with watch, above and run"
    cells = [(row["name"], _state(row), _what(row), _words(row["watch"], row["above"]), _words(row["watch"], row["value"])) for row in rows]
    print_table(("alert", "state", "watches", "above", "value"), cells, empty)
    return 0


def _object(row: dict[str, Any]) -> dict[str, Any]:
    told = {key.removesuffix("_ms"): value / 1000 if key.endswith("_ms") else value for key, value in row.items()}
    told |= {key: instant(row[key]) for key in ("raised_at", "changes_at")}
    if row["watch"] in _IN_MS:
        told |= {key: None if row[key] is None else row[key] / 1000 for key in ("above", "value")}
    return told


def _state(row: dict[str, Any]) -> str:
    state = f"raised since {instant(row['raised_at'])}" if row["raised_at"] else "quiet"
    return f"{state}, {'over' if row['raised_at'] else 'raised'} at {instant(row['changes_at'])}" if row["changes_at"] else state


def _what(row: dict[str, Any]) -> str:
    about = [f"{key} {row[key]}" for key in ("queue", "type") if row[key]]
    return " ".join([row["watch"].replace("_", " "), *(["of", *about] if about else [])])


def _words(watch: str, value: float | None) -> str | None:
    """A figure in the unit of what is watched."""
    if value is None:
        return None
    if watch in _IN_MS:
        return seconds(value / 1000)
    return f"{value:.1%}" if watch == "failure_rate" else f"{value:g}"

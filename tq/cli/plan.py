"""``tq plan``: what schedules and due tasks will do.

For: the plan in a table, or as JSON.
Not for: reckoning it (daemon).
Runs in: the ``tq`` command.
Promises: rows are in the order of time; that there are more, or schedules that are paused, is said on stderr.
"""

from __future__ import annotations

from typing import Any

from tq.cli import hot
from tq.cli.options import duration, whole
from tq.cli.render import clean, instant, json_line, plain, spoken, table
from tq.client import Client
from tq.client.acting import READ_WITHIN

HOUR_MS = 3_600_000
LIMIT = 100


def plan(client: Client, values: dict[str, Any]) -> int:
    span = HOUR_MS if values["span"] is None else duration("--for", values["span"])
    limit = LIMIT if values["limit"] is None else whole("--limit", values["limit"])
    body = client.call("plan", {"for_ms": span, "limit": limit}, READ_WITHIN)
    rows = body["rows"]
    if values["json"]:
        for row in rows:
            print(json_line(plain({key: instant(value) if key in ("at", "slot_at") else value for key, value in row.items()})))
    elif rows:
        cells = [(instant(row["at"]), _what(row), row["type"], row["queue"], _notes(row)) for row in rows]
        print(table(("at", "what", "type", "queue", "note"), cells))
    else:
        hot.say(f"nothing comes due within {spoken(span)}")
    if body["more"]:
        hot.say(f"tq: there is more until {instant(body['until'])}: these are the first {limit} (--limit)")
    if body["paused"]:
        hot.say(f"tq: paused schedules, which would come due: {', '.join(map(clean, body['paused']))}")
    return 0


def _what(row: dict[str, Any]) -> str:
    if "schedule" in row:
        return f"schedule {row['schedule']}"
    return f"task {row['id']}" + (f" ({row['label']})" if row["label"] else "")


def _notes(row: dict[str, Any]) -> str:
    notes = []
    if row.get("state") == "retrying":
        notes.append(f"attempt {row['attempt']}")
    if row.get("slot_at") not in (None, row["at"]):
        notes.append(f"slot {instant(row['slot_at'])}")
    if row.get("waits"):
        notes.append(f"waits for the end of {', '.join(map(str, row['waits']))}")
    elif row.get("overlap", "allow") != "allow":
        notes.append(f"if the run before goes on: {row['overlap']}")
    if row.get("queue_paused"):
        notes.append("its queue is paused")
    if row.get("problem"):
        notes.append(f"cannot be sent: {row['problem']}")
    return "; ".join(notes) or "-"

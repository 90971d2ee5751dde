"""``tq schedule add|edit|list|show|next|history|run|pause|resume|skip|remove``: what is sent again and again.

For: schedules, from options to the wire and back into words.
Not for: what a rule means (``tq.schedule``), tasks (tasks).
Runs in: the ``tq`` command.
Promises: what is wrong with a rule is said before anything is asked for; a command's environment and directory are those of who added
it; times in tables are UTC, but for ``next``, which has the schedule's own clock beside it.
"""

from __future__ import annotations

import shlex
import time
from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

from tq.cli import hot
from tq.cli.command import command_task, extras_of
from tq.cli.options import HOW, a_name, enqueue_task, task_options, unicode_text, whole
from tq.cli.payloads import json_value, packed, source
from tq.cli.render import (
    clean,
    instant,
    json_line,
    options_object,
    plain,
    print_table,
    run_time,
    seconds,
    spoken,
    table,
    task_object,
    value_of,
)
from tq.client import Client
from tq.errors import UsageError
from tq.model import SHELL
from tq.schedule import KINDS, REBOOT, wire_when

_WHEN = {
    "cron": "cron", "every": "every", "at": "at", "tz": "tz", "spread": "jitter", "only": "only", "start": "start", "until": "until",
    "misfire": "misfire", "overlap": "overlap", "on_failure": "on_failure", "on_recovery": "on_recovery", "on_missed": "on_missed",
    "missed_after": "missed_after", "alert_each": "alert_each", "after_schedule": "after",
}  # fmt: skip
"""The keys of the options, and the words of ``tq.schedule.When``."""
TELLS = ("on_failure", "on_recovery", "on_missed")
_CLEARED: dict[str, tuple[str, Any]] = {
    "jitter": ("jitter_ms", 0), "only": ("only", []), "from": ("from_at", 0), "until": ("until_at", 0), "on-failure": ("on_failure", []),
    "on-recovery": ("on_recovery", []), "on-missed": ("on_missed", []), "missed-after": ("missed_after_ms", 0),
    "after-schedule": ("after", []),
}  # fmt: skip


def said_of(values: dict[str, Any]) -> dict[str, Any]:
    """The rule and the policies, as they travel."""
    said = {word: values[key] for key, word in _WHEN.items() if values.get(key) not in (None, [])}
    try:
        found = wire_when(said, int(time.time() * 1000))
    except UsageError as error:
        name, colon, rest = error.message.partition(":")
        flag = {"start": "from", "after": "after-schedule"}.get(name, name.replace("_", "-"))
        raise UsageError(f"--{flag}{colon}{rest}" if name in said else error.message) from None
    for key in TELLS if not values.get("command") else ():  # that of a command has its directory and environment
        if found.get(key) and found[key][0] == SHELL:
            found[key][2] = {"extras": extras_of({})}
    return found


def _named(values: dict[str, Any]) -> str:
    return a_name("NAME", values["name"])


def _not_both(values: dict[str, Any]) -> None:
    if values["command"] and (values["type"] is not None or values["payload"] is not None):
        raise UsageError("expected either a command after -- or --type and --payload, got both. Drop one.")
    how = next((option.flags[0] for option in HOW if values[option.key] not in (None, False, [])), None)
    if how and not values["command"]:
        raise UsageError(f"{how}: expected a command after --, got none. It says how a command is run.")


def schedule_add(client: Client, values: dict[str, Any]) -> int:
    name, when = _named(values), said_of(values)
    if not any(kind in when for kind in KINDS):
        raise UsageError("expected a rule: --cron '0 3 * * *', --every 90s or --at 'tomorrow 9am', got none.")
    _not_both(values)
    if not values["command"] and not values["type"]:
        raise UsageError("expected a command after --, or --type T (with --payload JSON), got neither.")
    sent = {**values, "at": None}  # that is the rule's
    task = command_task(sent) if values["command"] else enqueue_task(sent)
    client.call("set_schedule", {"name": name, "new": True, **when, "task": task})
    slots = client.next_slots(name, 1)
    hot.say(f"schedule {name} comes due {f'at {instant(slots[0])}' if slots else 'when the machine has started again'}")
    return 0


def schedule_edit(client: Client, values: dict[str, Any]) -> int:
    name, changes = _named(values), said_of(values)
    for word in [one for words in values["clear"] or [] for one in words.split(",")]:
        if word not in _CLEARED:
            raise UsageError(f"--clear: expected {', '.join(_CLEARED)}, got {word!r}.")
        key, nothing = _CLEARED[word]
        if key in changes:
            raise UsageError(f"expected {word} to be either set or cleared, got both. Drop one.")
        changes[key] = nothing
    _not_both(values)
    if values["command"]:
        changes["task"] = command_task({**values, "at": None})
    else:
        text, kind = values["payload"], values["type"]
        payload = None if text is None else packed(json_value("--payload", source("--payload", text)))
        task = [None if kind is None else unicode_text("--type", a_name("--type", kind)), payload, task_options({**values, "at": None})]
        changes |= {"task": task} if task != [None] * 3 else {}
    if not changes:
        raise UsageError("expected something to change (--cron '0 4 * * *', --tz Europe/Paris, --clear only, ...), got nothing.")
    client.call("set_schedule", {"name": name, **changes})
    return 0


def schedule_pause(client: Client, values: dict[str, Any]) -> int:
    client.pause_schedule(_named(values))
    return 0


def schedule_resume(client: Client, values: dict[str, Any]) -> int:
    client.resume_schedule(_named(values))
    return 0


def schedule_skip(client: Client, values: dict[str, Any]) -> int:
    skipped, following = client.skip_schedule(_named(values))
    hot.say(f"skipped {instant(skipped)}; {'next:' if following else 'it comes due no more'}")
    if following:
        hot.put(str(instant(following)))
    return 0


def schedule_remove(client: Client, values: dict[str, Any]) -> int:
    client.remove_schedule(_named(values))
    return 0


def schedule_run(client: Client, values: dict[str, Any]) -> int:
    task_id = client.run_schedule(_named(values)).id
    hot.print_ids([task_id])
    return hot.exit_code([task_id], hot.waited(client.call, [task_id], None)) if values["wait"] else 0


# what they are


def _object(row: dict[str, Any]) -> dict[str, Any]:
    """A schedule for ``--json``."""
    last, options = row["last"], row.get("options")
    told = options_object({key: value for key, value in row.items() if key not in _NOT_PLAIN})
    told |= {"at": instant(row["at"]), "last": None}
    if last is not None:
        told["last"] = options_object(last) | {"run_time": run_time(last)}
    if "payload" in row:
        told |= {"payload": plain(value_of(row["payload"])), "options": plain(options_object({**(options or {}), "extras": None}))}
        told |= {key: _told(row["alerts"].get(key)) for key in TELLS}
    return told


_NOT_PLAIN = ("last", "options", "payload", "runs", "at", "alerts")


def _told(target: list[Any] | None) -> str | None:
    """Whom an alert tells, as its option says it."""
    if not target:
        return None
    if target[0] != SHELL:
        return f"type:{target[0]}"
    value = value_of(target[1])
    words = value.get("argv", []) if isinstance(value, dict) else []
    return str(words[2]) if words[:2] == ["/bin/sh", "-c"] and len(words) == 3 else _command(value)


def _when(row: dict[str, Any]) -> str:
    """Its rule in words."""
    rule = clean(row["cron"]) if row["cron"] else f"every {spoken(row['every_ms'])}" if row["every_ms"] else f"at {instant(row['at'])}"
    return rule if row["tz"] == "UTC" or not row["cron"] else f"{rule}  {clean(row['tz'])}"


def _next(row: dict[str, Any]) -> str:
    return "paused" if row["paused"] else instant(row["next_at"]) or ("at boot" if row["cron"] == REBOOT else "no more")


def schedule_list(client: Client, values: dict[str, Any]) -> int:
    rows = client.schedules()
    if values["json"]:
        for row in rows:
            print(json_line(_object(row)))
        return 0
    cells = []
    for row in rows:
        last = row["last"] or {}
        outcome = "-" if not last else last["state"] or "forgotten"
        outcome += f" ({last['exit_code']})" if last.get("exit_code") else ""
        took = run_time(last) if last else None
        started = instant(last["started_at"]) if last else None
        cells.append((clean(row["name"]), _when(row), _next(row), started, outcome, None if took is None else seconds(took), row["type"]))
    head = ("schedule", "when", "next", "last run", "outcome", "took", "type")
    print_table(head, cells, "no schedules yet: tq schedule add NAME --cron '0 3 * * *' -- CMD")
    return 0


def schedule_show(client: Client, values: dict[str, Any]) -> int:
    row = client.call("schedules", {"name": _named(values)})["schedules"][0]
    if values["json"]:
        print(json_line(_object(row)))
        return 0
    print(f"{clean(row['name'])}  {_when(row)}  next {_next(row)}")
    last, value = row["last"], value_of(row["payload"])
    lines: list[tuple[str, object]] = [("zone", row["tz"]), ("jitter", spoken(row["jitter_ms"]) if row["jitter_ms"] else None)]
    lines += [("only", ", ".join(row["only"])), ("from", instant(row["from_at"])), ("until", instant(row["until_at"]))]
    lines += [
        ("misfire", row["misfire"]),
        ("overlap", row["overlap"]),
        ("after", ", ".join(row.get("after") or ())),
        ("waits", f"slot {instant(row['held_at'])}" if row["held_at"] else None),
    ]
    lines += [("declared", "by the application" if row["declared"] else None), ("type", row["type"])]
    lines += [("command", _command(value)) if row["type"] == SHELL else ("payload", json_line(plain(value)) if row["payload"] else None)]
    lines += [(key.removesuffix("_ms"), _option(key, one)) for key, one in sorted((row["options"] or {}).items()) if key != "extras"]
    lines += [(key.replace("_", " "), _told(row["alerts"].get(key))) for key in TELLS]
    lines += [("missed after", spoken(row["missed_after_ms"]) if row["missed_after_ms"] else None)]
    lines += [
        ("alerts", "each time" if row["alert_each"] else None),
        ("failing", f"since task {row['failing']}" if row["failing"] else None),
    ]
    lines += [("overdue", f"since slot {instant(row['overdue_at'])}" if row["overdue_at"] else None)]
    lines += [("last task", f"{last['id']}  {last['state'] or 'forgotten'}")] if last else []
    for name, text in lines:
        if text not in (None, ""):
            print(f"  {name:<15} {clean(text)}")
    return 0


def _option(name: str, value: Any) -> str:
    return spoken(value) if name.endswith("_ms") else value if isinstance(value, str) else json_line(plain(value))


def _command(value: Any) -> str:
    words = value.get("argv", []) if isinstance(value, dict) else []
    return shlex.join(word.decode("utf-8", "replace") if isinstance(word, bytes) else str(word) for word in words)


def schedule_next(client: Client, values: dict[str, Any]) -> int:
    count = 10 if values["limit"] is None else whole("--limit", values["limit"])
    body = client.call("next_slots", {"name": _named(values), "count": count})
    zone = ZoneInfo(body["tz"])
    slots = [(slot, due, datetime.fromtimestamp(slot / 1000, zone).isoformat()) for slot, due in body["slots"]]
    if values["json"]:
        for slot, due, shown in slots:
            print(json_line({"slot": instant(slot), "begins_at": instant(due), "local": shown}))
        return 0
    if body["paused"]:
        hot.say("it is paused: these would be its slots")
    if not slots:
        reboot = client.schedule(_named(values))["cron"] == REBOOT
        hot.say("it comes due when the machine has started again" if reboot else "it comes due no more")
        return 0
    print(table(("slot", clean(body["tz"]), "begins"), [(instant(slot), shown, instant(due)) for slot, due, shown in slots]))
    return 0


def schedule_history(client: Client, values: dict[str, Any]) -> int:
    limit = 20 if values["limit"] is None else whole("--limit", values["limit"])
    runs = client.schedule(_named(values))["runs"][::-1][:limit]
    tasks = client.call("get", {"ids": [task_id for _, task_id in runs]})["tasks"] if runs else []
    if values["json"]:
        for (slot, task_id), row in zip(runs, tasks, strict=True):
            print(json_line({"slot": instant(slot), "id": task_id, "task": task_object(row) if row else None}))
        return 0
    if not runs:
        hot.say("it has not run yet")
        return 0
    cells = []
    for (slot, task_id), row in zip(runs, tasks, strict=True):
        took = run_time(row) if row else None
        cells.append((
            instant(slot) or "by hand", task_id, row["state"] if row else "forgotten", row["exit_code"] if row else None,
            instant(row["started_at"]) if row else None, None if took is None else seconds(took),
        ))  # fmt: skip
    print(table(("slot", "task", "state", "exit code", "started", "took"), cells))
    return 0

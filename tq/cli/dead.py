"""``tq dead list|show|retry|purge``: what failed for good and waits for a person.

For: groups of tasks that failed alike, and the acts on single ones, on a group, or on all that match.
Not for: the acts themselves (control), what makes failures alike (daemon).
Runs in: the ``tq`` command.
Promises: touches dead letters only: a task that is no (longer a) failed one is named and left as it is.
"""

from __future__ import annotations

import shutil
import sys
from typing import Any

from tq.cli import hot
from tq.cli.control import changes_of, chosen, counted, dry_run, each, in_bulk
from tq.cli.options import RETRY, duration, task_ids, whole
from tq.cli.render import clean, instant, json_line, plain, table
from tq.cli.tasks import pages, print_rows, show_row
from tq.client import Client
from tq.errors import UsageError

FAILED = {"states": ["failed"]}
_AGES = (("older_than", "<="), ("newer_than", ">="))


def _which(values: dict[str, Any]) -> dict[str, Any]:
    """Which of them the options mean; empty: nothing was said."""
    given = [(name, sign, values[name]) for name, sign in _AGES if values[name] is not None]
    parts = [f"finished{sign}-{duration('--' + name.replace('_', '-'), value)}ms" for name, sign, value in given]
    if parts and values["where"]:
        parts.append(f"({values['where']})")
    return chosen(values, "queue", "type", "tenant", "group", where=" ".join(parts))


def _group_object(group: dict[str, Any]) -> dict[str, Any]:
    return {**group, "first_at": instant(group["first_at"]), "last_at": instant(group["last_at"])}


def dead_list(client: Client, values: dict[str, Any]) -> int:
    which = _which(values)
    limit = 50 if values["limit"] is None else whole("--limit", values["limit"])
    if values["tasks"]:
        print_rows(pages(client, which | FAILED, limit), values["json"])
        return 0
    if "group" in which:
        raise UsageError("--group: expected --tasks beside it: it chooses single tasks. Without both, all groups are listed.")
    groups = client.dead(**which)[:limit]
    if values["json"]:
        for group in groups:
            print(json_line(plain(_group_object(group))))
        return 0
    if not groups:
        hot.say("no dead letters")
        return 0
    cells = [
        (group["group"], group["count"], group.get("type"), group.get("error"), instant(group["first_at"]), instant(group["last_at"]),
         group["last_id"], group.get("message"))
        for group in groups
    ]  # fmt: skip
    width = shutil.get_terminal_size().columns if sys.stdout.isatty() else 0
    print(table(("group", "tasks", "type", "error", "first", "last", "newest", "message"), cells, width))
    return 0


def dead_show(client: Client, values: dict[str, Any]) -> int:
    word = values["which"]
    if word == "@last" or word.isdecimal():
        row = hot.rows_of(client.call, task_ids(client.call, [word]))[0]
        if row["state"] != "failed":
            hot.say(f"tq: task {row['id']} is no dead letter: it is {row['state']}.")
        show_row(row, values["json"])
        return 0
    group = next((one for one in client.dead() if one["group"] == word), None)
    if group is None:
        raise UsageError(f"expected the id of a task or the name of a group, got {word!r}. `tq dead list` names them.")
    row = hot.rows_of(client.call, [group["last_id"]])[0]
    if values["json"]:
        from tq.cli.render import task_object

        print(json_line(plain(_group_object(group)) | {"newest": task_object(row)}))
        return 0
    times = f"from {instant(group['first_at'])} to {instant(group['last_at'])}"
    print(f"{clean(word)}  {counted(group['count'])} of {clean(group['type'])}  {times}")
    print(f"  {clean(group['error'])}: {clean(group['message'])}")
    print(f"  queues {', '.join(map(clean, group['queues']))}\n\nthe newest of them:\n")
    show_row(row, as_json=False)
    return 0


def dead_retry(client: Client, values: dict[str, Any]) -> int:
    return _act(client, "retry", {**values, "queue": None}, changes_of(values, RETRY))


def dead_purge(client: Client, values: dict[str, Any]) -> int:
    return _act(client, "remove", values, {})


def _act(client: Client, verb: str, values: dict[str, Any], changes: dict[str, Any]) -> int:
    which, words = _which(values), values["ids"] or []
    given = sum((bool(words), bool(which), values["all"]))
    if given != 1:
        got = "nothing" if not given else "more than one of them"
        raise UsageError(f"expected ids, or --group, or a filter (--where, --type, --older-than, ...), or --all. Got {got}.")
    if not words:
        return in_bulk(client, verb, values, which | FAILED, changes)
    ids, code = _dead_ones(client, task_ids(client.call, words))
    if values["dry_run"]:
        return dry_run(client, verb, ids, changes) or code
    return each(client, verb, ids, changes) or code


def _dead_ones(client: Client, ids: list[int]) -> tuple[list[int], int]:
    """Those that are dead letters, and the exit code for the others, each of which is named."""
    found, code = [], 0
    for start in range(0, len(ids), hot.IDS_A_CALL):
        part = ids[start : start + hot.IDS_A_CALL]
        for task_id, row in zip(part, client.call("get", {"ids": part})["tasks"], strict=True):
            if row is not None and row["state"] == "failed":
                found.append(task_id)
                continue
            hot.say(f"tq: {hot.no_such(task_id)}" if row is None else f"task {task_id}: is {row['state']}, no dead letter. Left as it is")
            code = code or (66 if row is None else 75)
    return found, code

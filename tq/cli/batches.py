"""``tq batch create|list|show|close|cancel|retry|wait|remove``: tasks that belong together, and what is sent when they are over.

For: batches in a table, a line or JSON; callbacks from words to tasks.
Not for: adding tasks (``--in-batch`` of enqueue, add and run), when a batch is over (the daemon), files of JSON lines (many).
Runs in: the ``tq`` command.
Promises: what can be no callback or no id is said before anything is sent; names are hostile text; the exit code of ``wait`` is that of
the worst end among the members.
"""

from __future__ import annotations

from typing import Any

from tq.cli import hot
from tq.cli.command import command_payload, extras_of, words_of
from tq.cli.control import in_bulk_done
from tq.cli.options import a_name, duration, is_id, refuse, unicode_text, whole
from tq.cli.payloads import json_value, packed
from tq.cli.render import clean, instant, json_line, plain, print_table
from tq.cli.several import pairs_of
from tq.client import Client
from tq.errors import UsageError
from tq.model import SHELL, is_name

LIMIT = 20
CALLBACKS = ("on_complete", "on_success", "on_failure")
TIMES = ("created_at", "closed_at", "cancelled_at", "finished_at")
ENDS = ("succeeded", "failed", "cancelled", "expired")


def batch_create(client: Client, values: dict[str, Any]) -> int:
    args: dict[str, Any] = {"auto": values["auto"]}
    if values["name"] is not None:
        args["name"] = a_name("NAME", values["name"])
    if values["meta"]:
        args["meta"] = pairs_of("--meta", values["meta"])
    for word in CALLBACKS:
        if values[word] is not None:
            args[word] = callback(f"--{word.replace('_', '-')}", values[word])
    hot.print_ids([client.call("create_batch", args)["id"]])
    return 0


def callback(flag: str, text: str) -> list[Any]:
    """The task that a callback is, [type, payload, options], from ``type:NAME JSON`` or a line for the shell."""
    text = text.strip()
    if not text:
        refuse(flag, "expected a line for the shell, or type:NAME and its payload as JSON, got an empty text")
    if not text.startswith("type:"):
        return [SHELL, command_payload(words_of({"command": [unicode_text(flag, text)], "shell": True})), {"extras": extras_of({})}]
    name, _, payload = text[5:].partition(" ")
    if not is_name(unicode_text(flag, name)):
        refuse(flag, f"expected type:NAME, the name of a handler, got {text!r}")
    return [name, packed(json_value(flag, payload)) if payload.strip() else b"", {}]


def _number(word: str) -> int:
    if not is_id(word):
        raise UsageError(f"expected the id of a batch (a number), got {word!r}. `tq batch list` shows them.")
    return int(word)


def batch_list(client: Client, values: dict[str, Any]) -> int:
    limit = LIMIT if values["limit"] is None else whole("--limit", values["limit"])
    rows: list[dict[str, Any]] = []
    while len(rows) < limit:
        found = client.batches(min(limit - len(rows), 500), rows[-1]["id"] if rows else None)
        if not found:
            break
        rows += found
    if values["json"]:
        for row in rows:
            print(json_line(_object(row)))
        return 0
    cells = [(row["id"], row["name"], row["state"], f"{_over(row)}/{row['total']}", _ends(row), instant(row["created_at"])) for row in rows]
    print_table(("id", "batch", "state", "over", "ends", "created"), cells, "no batches: `tq batch create NAME` makes one")
    return 0


def _object(row: dict[str, Any]) -> dict[str, Any]:
    """A batch for ``--json``."""
    callbacks = {word: {"type": kind, "id": task_id} for word, (kind, task_id) in row["callbacks"].items()}
    times = {key: instant(row[key]) for key in TIMES}
    found: dict[str, Any] = plain({**row, **times, "callbacks": callbacks})
    return found


def _over(row: dict[str, Any]) -> int:
    return sum(row[word] for word in ENDS)


def _ends(row: dict[str, Any]) -> str:
    return ", ".join(f"{row[word]} {word}" for word in ENDS if row[word]) or "-"


def batch_show(client: Client, values: dict[str, Any]) -> int:
    row = client.get_batch(_number(values["id"])).progress()
    if values["json"]:
        print(json_line(_object(row)))
        return 0
    name = f"  {clean(row['name'])}" if row["name"] else ""
    print(f"batch {row['id']}{name}  {row['state']}  {_over(row)} of {row['total']} over  {_ends(row)}")
    lines = [("waits for", _waits_for(row)), ("waiting", row["waiting"]), ("running", row["running"])]
    lines += [(word.replace("_", " "), _sent(row, word, *row["callbacks"][word])) for word in CALLBACKS if word in row["callbacks"]]
    lines += [(key.removesuffix("_at"), instant(row[key])) for key in TIMES]
    lines += [(f"meta {clean(key)}", clean(value)) for key, value in row["meta"].items()]
    for what, text in lines:
        if text:
            print(f"  {what:<12} {text}")
    return 0


def _waits_for(row: dict[str, Any]) -> str:
    """Why it is not complete, and what would help."""
    if row["state"] == "complete":
        return ""
    live = f"{row['waiting'] + row['running']} members that are not over: `tq list 'batch:{row['id']} -finished:*'`"
    if row["state"] == "running":
        return live
    if row["auto"]:
        return live if row["total"] else "its first member"
    return f"`tq batch close {row['id']}`" + (f", and {live}" if row["waiting"] or row["running"] else "")


def _sent(row: dict[str, Any], word: str, kind: str, task_id: int | None) -> str:
    if task_id is not None:
        return f"{clean(kind)}, sent as task {task_id}"
    return f"{clean(kind)}, {'refused for now, and tried again' if word in row['owed'] else 'not sent'}"


def batch_close(client: Client, values: dict[str, Any]) -> int:
    row = client.get_batch(_number(values["id"])).close()
    hot.say(f"batch {row['id']} is {'complete' if row['state'] == 'complete' or not row['waiting'] + row['running'] else 'closed'}")
    return 0


def batch_cancel(client: Client, values: dict[str, Any]) -> int:
    return _chore(client, "cancel", values)


def batch_retry(client: Client, values: dict[str, Any]) -> int:
    return _chore(client, "retry", values)


def _chore(client: Client, verb: str, values: dict[str, Any]) -> int:
    batch = client.get_batch(_number(values["id"]))
    chore = batch.cancel() if verb == "cancel" else batch.retry()
    if chore is None:
        nothing = "none of its members were left to be cancelled" if verb == "cancel" else "nothing to run again"
        hot.say(f"batch {batch.id}: {nothing}")
        return 0 if verb == "cancel" else 75
    hot.print_ids([chore])
    return in_bulk_done(client, verb, chore, wait=values["wait"])


def batch_wait(client: Client, values: dict[str, Any]) -> int:
    batch = client.get_batch(_number(values["id"]))
    row = batch.wait(None if values["timeout"] is None else duration("--timeout", values["timeout"]) / 1000)
    if values["json"]:
        print(json_line(_object(row)))
    return code_of_batch(row)


def code_of_batch(row: dict[str, Any]) -> int:
    """The exit code of a batch that is complete."""
    return next((code for word, code in (("failed", 1), ("expired", 124), ("cancelled", 143)) if row[word]), 0)


def batch_remove(client: Client, values: dict[str, Any]) -> int:
    client.get_batch(_number(values["id"])).remove()
    return 0

"""Commands about tasks that stream, read files or print much: ``enqueue --batch``, ``run``, ``show list peek log``.

For: the verbs of tasks that are not on the thin path.
Not for: parsing, rendering, the hot verbs (``enqueue`` here only adds ``--batch``).
Runs in: the ``tq`` command.
Promises: ``run`` ends with the command's own exit code and passes Ctrl-C on; a batch stops at its first bad line,
names it, and has printed the id of everything it stored.
"""

from __future__ import annotations

import difflib
import os
import shutil
import sys
from collections.abc import Iterator
from typing import Any

from tq.cli import hot
from tq.cli.options import COMMANDS, command_task, json_value, packed, task_ids, task_options, whole
from tq.cli.render import clean, code_of, instant, json_line, plain, run_time, seconds, status_line, table, task_object, value_of
from tq.client import Client, format_error
from tq.client.core import WireTask
from tq.errors import DaemonNotRunning, NoSuchTask, TqError, UsageError
from tq.model import safe_text, state_named

END_WITHIN = 10.0
"""Seconds that a command may go on printing after Ctrl-C has cancelled its task."""


# sending


def enqueue(client: Client, values: dict[str, Any]) -> int:
    name = values.get("batch")
    if name is None:
        return hot.enqueue(client.call, values)
    if values.get("payload") is not None:
        raise UsageError("expected either --payload or --batch, got both. In a batch each line has its own payload.")
    ids: list[int] = []
    try:
        with sys.stdin.buffer if name == "-" else open(name, "rb") as file:
            for group in client.enqueue_groups(_batch(file, values)):
                print(*group, sep="\n", flush=True)
                if values["wait"]:
                    ids += group
    except OSError as error:
        if isinstance(error, BrokenPipeError):
            raise
        raise UsageError(f"--batch: expected a file that can be read, got {name!r}: {error.strerror}.") from None
    return hot.exit_code(ids, hot.waited(client.call, ids, None)) if ids else 0


def _batch(lines: Any, given: dict[str, Any]) -> Iterator[WireTask]:
    """Tasks of JSON lines; what was said on the command line holds where a line says nothing."""
    keys = {"payload", "in", *(option.key for option in COMMANDS["enqueue"].options)} - {"data_dir", "batch", "wait"}
    options: dict[str, dict[str, Any] | None] = {}  # most lines of a batch say the same
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        where = f"line {number}"
        try:
            row = json_value(where, line.decode())
        except UnicodeDecodeError as error:
            raise UsageError(f"{where}: expected UTF-8, got byte {line[error.start]:#04x} at {error.start}.") from None
        if not isinstance(row, dict):
            raise UsageError(f'{where}: expected an object such as {{"type": "email", "payload": {{}}}}, got {type(row).__name__}.')
        row = {key.replace("-", "_"): value for key, value in row.items()}
        if unknown := row.keys() - keys:
            bad = min(unknown)
            close = difflib.get_close_matches(bad, keys, 1)
            raise UsageError(f"{where}: expected the name of an option, got {bad!r}." + (f" Did you mean {close[0]!r}?" if close else ""))
        name = row.pop("type", given["type"])
        if not isinstance(name, str) or not name:
            raise UsageError(f'{where}: expected a type, got {name!r}. Give each line a "type", or all of them --type.')
        payload = packed(row.pop("payload", None))
        key = repr(row) if row else ""
        if key not in options:
            options = {} if len(options) > 1000 else options
            try:
                options[key] = task_options({**given, **row})
            except UsageError as error:
                raise UsageError(f"{where}: {error.message}") from None
        yield name, payload, options[key]


def run(client: Client, values: dict[str, Any]) -> int:
    task_id = client.call("enqueue", {"tasks": [command_task(values)], "again": False})["ids"][0]
    try:
        _follow(client, task_id)
    except KeyboardInterrupt:
        return _interrupted(client, task_id)
    row = hot.waited(client.call, [task_id], None)[0]
    if row is not None and (row["state"] != "failed" or row["exit_code"] is None):
        hot.say_end(row)
    return code_of(row)


def _interrupted(client: Client, task_id: int) -> int:
    try:
        client.cancel([task_id])
        hot.waited(client.call, [task_id], int(END_WITHIN * 1000))
    except (KeyboardInterrupt, TqError):
        hot.say(f"tq: task {task_id} was asked to end; see `tq status {task_id}`.")
    return 130


def _follow(client: Client, task_id: int, raw: bool = True) -> None:
    """Show what a task writes, on the streams it writes to, until it is over. A lost connection is made again once."""
    offset, lost = 0, False
    while True:
        try:
            for event in client.watch(["output"], [task_id], offset=offset):
                if event.get("topic") == "output" and event.get("id") == task_id:
                    _write(event["chunks"], raw)
                    offset, lost = event["next"], False
                    if event["end"]:
                        return
        except DaemonNotRunning:
            if lost:
                raise
            lost = True


def _write(chunks: list[Any], raw: bool) -> None:
    for _, stream, data in chunks:
        if stream == 0:
            hot.say(f"tq: {data.decode('utf-8', 'replace')}".rstrip())
            continue
        out = sys.stdout if stream == 1 else sys.stderr
        if raw or not out.isatty():
            out.buffer.write(data)
        else:
            out.write(safe_text(data.decode("utf-8", "replace").replace("\r\n", "\n"), newlines=True))
        out.flush()


# reading


def show(client: Client, values: dict[str, Any]) -> int:
    row = hot.rows_of(client.call, task_ids(client.call, [values["id"]]))[0]
    if values["json"]:
        print(json_line(task_object(row)))
        return 0
    print(status_line(row))
    lines: list[tuple[str, object]] = [("priority", row["priority"]), ("retries", row["retries"])]
    lines += [("timeout", seconds(row["timeout_ms"] / 1000))] if row["timeout_ms"] else []
    lines += [(key[:-3], instant(row[key])) for key in ("created_at", "due_at", "started_at", "finished_at", "expires_at")]
    lines += [(key, row[key]) for key in ("worker", "failures", "crashes", "interrupts", "tenant", "correlation_id")]
    lines += [("meta", "  ".join(f"{key}={value}" for key, value in (row["meta"] or {}).items()))]
    lines += [(key, json_line(plain(value_of(row[key])))) for key in ("payload", "result") if row[key]]
    for name, value in lines:
        if value not in (None, "", 0) or name in ("priority", "retries"):
            print(f"  {name:<15} {clean(value)}")
    for one in task_object(row)["attempts"]:
        error = one["error"] or {}
        words = f"{one['outcome']}  {error.get('type', '')}: {error.get('message', '')}" if error else one["outcome"]
        print(f"  attempt {one['attempt']:<7} {clean(one['started_at'])}  {clean(words)}")
    if row["error"]:
        print(f"\n{format_error(row['error'])}")
    if row["output"]:
        hot.say(f"It has written output: tq log {row['id']}")
    return 0


def _print_rows(rows: list[dict[str, Any]], as_json: bool) -> None:
    if as_json:
        for row in rows:
            print(json_line(task_object(row)))
        return
    if not rows:
        hot.say("no tasks")
        return
    cells = [
        (row["id"], row["state"], row["type"], row["queue"], row["priority"], row["attempt"], instant(row["created_at"]),
         "-" if (took := run_time(row)) is None else seconds(took), row["label"] or _brief(row))
        for row in rows
    ]  # fmt: skip
    width = shutil.get_terminal_size().columns if sys.stdout.isatty() else 0
    print(table(("id", "state", "type", "queue", "prio", "runs", "created", "took", "what"), cells, width))


def _brief(row: dict[str, Any]) -> str:
    """What a task without a label is about: its command, or the beginning of its payload."""
    value = value_of(row["payload"])
    if row["type"] == "shell" and isinstance(value, dict) and isinstance(value.get("argv"), list):
        return " ".join(os.fsdecode(word) if isinstance(word, bytes) else str(word) for word in value["argv"])[:60]
    return "" if value is None else json_line(plain(value))[:60]


def list_tasks(client: Client, values: dict[str, Any]) -> int:
    try:
        states = [state_named(word).word for given in values["state"] or [] for word in given.split(",")]
    except ValueError as error:
        raise UsageError(f"--state: {error}.") from None
    given: dict[str, Any] = {key: values[key] for key in ("queue", "type", "label", "tenant") if values[key] is not None}
    args = {**given, "states": states} if states else given
    left = 50 if values["limit"] is None else whole("--limit", values["limit"])
    rows: list[dict[str, Any]] = []
    before: bytes | None = None
    while left > 0:
        body = client.call("find", {**args, "limit": min(left, 100)} | ({"before": before} if before else {}))
        left -= len(body["tasks"])
        before = body["next"]
        if values["json"]:
            _print_rows(body["tasks"], True)
        else:
            rows += body["tasks"]
        if before is None or not body["tasks"]:
            break
    if not values["json"]:
        _print_rows(rows, False)
    return 0


def peek(client: Client, values: dict[str, Any]) -> int:
    limit = 10 if values["limit"] is None else whole("--limit", values["limit"])
    _print_rows(client.call("peek", {"limit": limit} | ({"queue": values["queue"]} if values["queue"] else {}))["tasks"], values["json"])
    return 0


def log(client: Client, values: dict[str, Any]) -> int:
    task_id = task_ids(client.call, [values["id"]])[0]
    if client.get_many([task_id])[0] is None:
        raise NoSuchTask(f"expected the id of a task, got {task_id}: there is none, or it was removed. `tq list` shows those there are.")
    if values["follow"]:
        _follow(client, task_id, values["raw"])
        return 0
    for at, stream, data in client.log_chunks(task_id):
        if values["json"]:
            name = ("tq", "stdout", "stderr")[stream]
            print(json_line({"at": instant(at), "stream": name, "text": data.decode("utf-8", "replace")}))
        else:
            _write([(at, stream, data)], values["raw"])
    return 0

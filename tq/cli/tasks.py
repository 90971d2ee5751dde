"""Commands about tasks that stream, read files or print much: ``enqueue --batch``, ``run``, ``show list peek log``.

For: the verbs of tasks that are not on the thin path.
Not for: parsing, rendering, the hot verbs (``enqueue`` here only adds ``--batch``).
Runs in: the ``tq`` command.
Promises: ``run`` ends with the command's own exit code and passes Ctrl-C on; a batch stops at its first bad line,
names it, and has stored the lines before it; where the daemon refuses a line, it says which lines are stored. The id of
everything that is stored is printed.
"""

from __future__ import annotations

import difflib
import os
import re
import shutil
import sys
from array import array
from codecs import getincrementaldecoder
from collections.abc import Iterable, Iterator
from signal import Signals
from textwrap import indent
from typing import Any

from tq.cli import hot
from tq.cli.control import chosen
from tq.cli.options import COMMANDS, MOVING, a_name, command_task, duration, json_value, packed, task_ids, task_options, unicode_text, whole
from tq.cli.render import (
    attempts_of,
    clean,
    code_of,
    instant,
    json_line,
    plain,
    run_time,
    seconds,
    status_line,
    table,
    task_object,
    value_of,
)
from tq.client import Client, format_error
from tq.client.acting import READ_WITHIN
from tq.client.core import WireTask
from tq.errors import DaemonError, DaemonNotRunning, NoSuchTask, PayloadError, TqError, UsageError
from tq.model import safe_text
from tq.query.terms import NAMES

_TERM = re.compile(r"([a-z_]+)(?:\.[^:=<>!]+)?(?:[:=<>]|!=)")
END_WITHIN = 10.0
"""Seconds that a command may go on printing after Ctrl-C has cancelled its task."""


# sending


def enqueue(client: Client, values: dict[str, Any]) -> int:
    name = values.get("batch")
    if name is None:
        return hot.enqueue(client.call, values)
    if values.get("payload") is not None:
        raise UsageError("expected either --payload or --batch, got both. In a batch each line has its own payload.")
    if values["wait_for_room"] is not None:
        client.wait_for_room = duration("--wait-for-room", values["wait_for_room"]) / 1000
    ids: list[int] = []
    existing: list[int] = []
    batch = _Batch(values)
    try:
        with sys.stdin.buffer if name == "-" else open(name, "rb") as file:
            for group in client.enqueue_groups(batch.until_a_bad_line(file), existing):
                hot.print_ids(group)
                if values["wait"]:
                    ids += group
    except KeyboardInterrupt:
        hot.say("tq: interrupted. The tasks whose ids were printed are stored; whether more are, `tq list` shows.")
        return 130
    except OSError as error:
        if isinstance(error, BrokenPipeError):
            raise
        raise UsageError(f"--batch: expected a file that can be read, got {name!r}: {error.strerror}.") from None
    except TqError as error:
        error.message = batch.in_lines(error)
        raise
    if batch.bad is not None:
        batch.bad.message = f"{batch.bad.message} {batch.stored([])}"
        raise batch.bad
    hot.say_existing(existing)
    return hot.exit_code(ids, hot.waited(client.call, ids, None)) if ids else 0


class _Batch:
    """The lines of one batch: which of them became tasks, and what was wrong with the first that did not."""

    def __init__(self, given: dict[str, Any]) -> None:
        self._given = given
        self._lines = array("Q")  # the line of each task
        self.bad: UsageError | None = None

    def until_a_bad_line(self, lines: Any) -> Iterator[WireTask]:
        """The tasks before the first line that is wrong; ``bad`` is then the reason."""
        try:
            for number, task in _batch(lines, self._given):
                self._lines.append(number)
                yield task
        except UsageError as error:
            self.bad = error

    def stored(self, refused: list[list[int]], count: int | None = None) -> str:
        """Which lines are on disk, in words: of the first ``count`` tasks (None: all) those that were not refused."""
        at, end, spans = 0, len(self._lines) if count is None else count, []
        for first, size in [*sorted(refused), [end, 0]]:
            if first > at:
                spans.append(f"{self._lines[at]}-{self._lines[first - 1]}")
            at = first + size
        return f"The tasks of lines {' and '.join(spans)} are stored." if spans else "No task is stored."

    def in_lines(self, error: TqError) -> str:
        """What the daemon said, with the line instead of the task's place in its request, and what is stored."""
        ids, refused = error.details.get("ids"), error.details.get("refused")
        if not isinstance(ids, list) or not isinstance(refused, list):
            return error.message  # not about a group: the output failed, say
        text = error.message
        found = re.match(r"task (\d+) of (\d+): ", text)
        if refused:
            first, size = refused[0]
            if found and int(found[2]) == size:
                text = f"line {self._lines[first + int(found[1]) - 1]}: {text[found.end() :]}"
            elif size == 1:
                text = f"line {self._lines[first]}: {text}"
        words = self.stored(refused, len(ids) + sum(size for _, size in refused))
        if isinstance(error, DaemonError):  # it may have gone between the commit and the answer
            words = f"{words if ids else ''} Of the {'other ' if ids else ''}lines it is not known: look with `tq list`.".lstrip()
        return f"{text} {words}"


def _batch(lines: Any, given: dict[str, Any]) -> Iterator[tuple[int, WireTask]]:
    """Tasks of JSON lines with the lines' numbers; what was said on the command line holds where a line says nothing."""
    keys = {"payload", "in", *(option.key for option in COMMANDS["enqueue"].options)} - {"data_dir", "batch", "wait", "wait_for_room"}
    options: dict[str, dict[str, Any] | None] = {}  # most lines of a batch say the same
    moving = {name for name in MOVING if given.get(name) is not None}
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
        name = unicode_text(f"{where}: type", name)
        try:
            payload = packed(row.pop("payload", None))
        except PayloadError as error:
            raise PayloadError(f"{where}: {error.message}") from None
        key = repr(row) if row else ""
        if key not in options or moving or not MOVING.isdisjoint(row):
            options = {} if len(options) > 1000 else options
            try:
                options[key] = task_options({**given, **row})
            except UsageError as error:
                raise UsageError(f"{where}: {error.message}") from None
        yield number, (name, payload, options[key])


def run(client: Client, values: dict[str, Any]) -> int:
    body = hot.sent(client.call, command_task(values), values)
    task_id = body["ids"][0]
    hot.say_existing([task_id] if body.get("existing") else [])
    try:
        _follow(client, task_id, _Screen(values["raw"], live=True))
    except KeyboardInterrupt:
        return _interrupted(client, task_id)
    row = hot.waited(client.call, [task_id], None)[0]
    if row is not None and (row["exit_code"] is None or (row["error"] or {}).get("type", "ExitCode") != "ExitCode"):
        hot.say_end(row)  # a command that failed by itself has said so
    return code_of(row)


def _interrupted(client: Client, task_id: int) -> int:
    try:
        client.cancel([task_id])
        hot.waited(client.call, [task_id], int(END_WITHIN * 1000))
    except (KeyboardInterrupt, TqError):
        hot.say(f"tq: task {task_id} was asked to end; see `tq status {task_id}`.")
    return 130


def _follow(client: Client, task_id: int, screen: _Screen) -> None:
    """Show what a task writes, on the streams it writes to, until it is over. A lost connection is made again once."""
    offset, lost = 0, False
    while True:
        try:
            for event in client.watch(["output"], [task_id], offset=offset):
                if event.get("topic") == "output" and event.get("id") == task_id:
                    screen.write(event["chunks"])
                    offset, lost = event["next"], False
                    if event["end"]:
                        screen.end()
                        return
        except DaemonNotRunning:
            if lost:
                raise
            lost = True


class _Screen:
    """A task's output on its way out: bytes as they are, but to a terminal cleaned text, unless ``raw``; or ``as_json`` objects.

    ``live``: it is read while it is written, so that hundreds of gaps may open; their total is told at the end.
    """

    def __init__(self, raw: bool, live: bool, as_json: bool = False) -> None:
        self._raw, self._live, self._json = raw, live, as_json
        self._dropped = 0
        utf8 = getincrementaldecoder("utf-8")  # a chunk may end within a character
        self._decoders = {1: utf8("replace"), 2: utf8("replace")}

    def write(self, chunks: list[Any]) -> None:
        for at, stream, data in chunks:
            if self._json:
                name = ("tq", "stdout", "stderr")[stream]
                print(json_line({"at": instant(at), "stream": name, "text": data.decode("utf-8", "replace")}), flush=self._live)
                continue
            if stream == 0:
                self._note(data.decode("utf-8", "replace").rstrip())
                continue
            out = sys.stdout if stream == 1 else sys.stderr
            if out is None:
                continue
            if self._raw or not out.isatty():
                out.buffer.write(data)
            else:
                out.write(safe_text(self._decoders[stream].decode(data).replace("\r\n", "\n"), newlines=True))
            out.flush()

    def _note(self, text: str) -> None:
        found = re.fullmatch(r"(\d+) bytes dropped", text) if self._live else None
        if found:
            self._dropped += int(found[1])
        else:
            hot.say(f"tq: {text}")

    def end(self) -> None:
        """The output is over: say how much of it is missing."""
        if self._dropped:
            hot.say(f"tq: {self._dropped} bytes of output are missing: of much output only the head and the tail are kept (log_bytes).")


# reading


def show(client: Client, values: dict[str, Any]) -> int:
    show_row(hot.rows_of(client.call, task_ids(client.call, [values["id"]]))[0], values["json"])
    return 0


def show_row(row: dict[str, Any], as_json: bool) -> None:
    """Everything about a task."""
    if as_json:
        print(json_line(task_object(row)))
        return
    print(status_line(row))
    lines: list[tuple[str, object]] = [("priority", row["priority"]), ("retries", row["retries"])]
    lines += [("timeout", seconds(row["timeout_ms"] / 1000))] if row["timeout_ms"] else []
    lines += [(key[:-3], instant(row[key])) for key in ("created_at", "due_at", "started_at", "finished_at", "expires_at")]
    for name, key in (("retry until", "retry_for_ms"), ("deadline", "deadline_ms")):
        lines += [(name, instant(row["created_at"] + row[key]))] if row[key] else []
    lines += [(key, row[key]) for key in ("worker", "failures", "crashes", "interrupts", "key", "unique", "tenant", "correlation_id")]
    lines += [("meta", "  ".join(f"{key}={value}" for key, value in (row["meta"] or {}).items()))]
    lines += [("waits for", ", ".join(map(str, row["parents"])))]
    lines += [(key, json_line(plain(value_of(row[key])))) for key in ("payload", "result") if row[key]]
    for name, value in lines:
        if value not in (None, "", 0) or name in ("priority", "retries"):
            print(f"  {name:<15} {clean(value)}")
    _show_attempts(row)
    if row["output"]:
        hot.say(f"It has written output: tq log {row['id']}")


def _show_attempts(row: dict[str, Any]) -> None:
    """Each attempt with its times, its worker and how it ended, tracebacks and all."""
    attempts = attempts_of(row)
    if attempts and attempts[0]["attempt"] > 1:
        print(f"  attempts 1 to {attempts[0]['attempt'] - 1} are not kept")
    told: object = None
    for one in attempts:
        parts = [f"attempt {one['attempt']}", instant(one["started_at"]) or "-", clean(one["outcome"])]
        if one["finished_at"] and one["started_at"]:
            parts.append(f"after {seconds((one['finished_at'] - one['started_at']) / 1000)}")
        parts += [f"on {clean(one['worker'])}"] if one["worker"] else []
        parts += [exit_words(one["exit_code"])] if one["exit_code"] is not None else []
        print("  " + "  ".join(parts))
        if one["error"]:
            print(indent("the same error" if one["error"] == told else format_error(one["error"]), "      "))
        told = one["error"]
    if row["error"] and row["error"] not in [one["error"] for one in attempts]:
        print(f"\n{format_error(row['error'])}")


def exit_words(code: int) -> str:
    """An exit code, and the signal that it stands for."""
    try:
        return f"exit code {code} ({Signals(code - 128).name})"
    except ValueError:
        return f"exit code {code}"


def print_rows(pages: Iterable[list[dict[str, Any]]], as_json: bool) -> None:
    """Tasks in a table, or an object a line as they come."""
    if as_json:
        for page in pages:
            for row in page:
                print(json_line(task_object(row)))
        return
    rows = [row for page in pages for row in page]
    if not rows:
        hot.say("no tasks")
        return
    why = "why" in rows[0]
    cells = [
        (row["id"], row["state"], row["type"], row["queue"], row["priority"], *([row["why"]] if why else []), row["attempt"],
         instant(row["created_at"]), "-" if (took := run_time(row)) is None else seconds(took), row["label"] or _brief(row))
        for row in rows
    ]  # fmt: skip
    width = shutil.get_terminal_size().columns if sys.stdout.isatty() else 0
    head = ("id", "state", "type", "queue", "prio", *(["goes by"] if why else []), "runs", "created", "took", "what")
    print(table(head, cells, width))


def _brief(row: dict[str, Any]) -> str:
    """What a task without a label is about: its command, or the beginning of its payload."""
    value = value_of(row["payload"])
    if row["type"] == "shell" and isinstance(value, dict) and isinstance(value.get("argv"), list):
        return " ".join(os.fsdecode(word) if isinstance(word, bytes) else str(word) for word in value["argv"])[:60]
    return "" if value is None else json_line(plain(value))[:60]


def list_tasks(client: Client, values: dict[str, Any]) -> int:
    _no_option_meant_as_filter(values)
    words = " ".join(values["filter"] or [])
    where = f"({values['where']}) ({words})" if words and values["where"] else words
    which = chosen(values, "queue", "type", "label", "tenant", where=where)
    print_rows(pages(client, which, 50 if values["limit"] is None else whole("--limit", values["limit"])), values["json"])
    return 0


def _no_option_meant_as_filter(values: dict[str, Any]) -> None:
    """``tq list -type:x`` means everything but x, and not the type ``ype:x``."""
    given = [("q", values["queue"]), ("t", values["type"]), ("l", values["label"]), *(("s", word) for word in values["state"] or [])]
    for flag, value in given:
        term = _TERM.match(f"{flag}{value}") if value is not None else None
        if term and term[1] in NAMES:
            raise UsageError(f"expected a filter that does not begin with -, got {f'-{flag}{value}'!r}. Write 'NOT {flag}{value}'.")


def pages(client: Client, which: dict[str, Any], left: int) -> Iterator[list[dict[str, Any]]]:
    """The newest ``left`` tasks that match, page by page."""
    before: bytes | None = None
    while left > 0:
        body = client.call("find", {**which, "limit": min(left, 100)} | ({"before": before} if before else {}), READ_WITHIN)
        yield body["tasks"]
        left -= len(body["tasks"])
        before = body["next"]
        if before is None or not body["tasks"]:
            return


def peek(client: Client, values: dict[str, Any]) -> int:
    limit = 10 if values["limit"] is None else whole("--limit", values["limit"])
    name = None if values["queue"] is None else a_name("--queue", values["queue"])
    rows = client.call("peek", {"limit": limit} | ({"queue": name} if name else {}))["tasks"]
    held = [] if rows else [row for row in client.queues() if name in (None, row["name"]) and _held(row)]
    for row in held:
        hot.say(f"queue {clean(row['name'])} {_held(row)}: {row['states']['pending']} wait")
    if rows or not held:
        print_rows([rows], values["json"])
    return 0


def _held(queue: dict[str, Any]) -> str:
    """Why no worker takes what waits in a queue, if tasks do wait in it."""
    if not (queue["states"] or {}).get("pending"):  # None: it has settings, and had no tasks yet
        return ""
    return "is paused" if queue["paused"] else "is left to consumers outside the pool" if queue.get("external") else ""


def log(client: Client, values: dict[str, Any]) -> int:
    task_id = task_ids(client.call, [values["id"]])[0]
    if client.get_many([task_id])[0] is None:
        raise NoSuchTask(f"expected the id of a task, got {task_id}: there is none, or it was removed. `tq list` shows those there are.")
    screen = _Screen(values["raw"], live=values["follow"], as_json=values["json"])
    if values["follow"]:
        _follow(client, task_id, screen)
        return 0
    for chunk in client.log_chunks(task_id):
        screen.write([chunk])
    return 0

"""Many tasks from one input: ``enqueue --batch`` with a JSON object on each line, ``add --each`` with an argument on each.

For: ``enqueue`` and ``add`` where they are not one task's.
Not for: parsing options, one task (hot).
Runs in: the ``tq`` command.
Promises: stops at the first bad line, names it, and has stored the lines before it; where the daemon refuses a line, it says
which lines are stored. The id of everything that is stored is printed. One connection, and a commit for thousands of lines;
but what comes slowly, as from `tail -f`, is sent as it comes.
"""

from __future__ import annotations

import difflib
import os
import re
import select
import sys
from array import array
from collections.abc import Iterable, Iterator
from contextlib import nullcontext
from typing import Any

from tq.cli import hot
from tq.cli.command import command_payload, extras_of, line_words, words_of
from tq.cli.options import COMMANDS, HOW, MOVING, after_newest, command_task, duration, task_options, unicode_text
from tq.cli.payloads import json_value, packed
from tq.client import Client
from tq.client.core import WireTask
from tq.errors import DaemonError, PayloadError, TqError, UsageError
from tq.model import SHELL

Line = tuple[int, WireTask]
"""A task, and the number of the line that it stands on."""
SOON_S = 0.02
"""How long the next line of an input may be in coming before those that are there are sent without it."""
ARGUMENT_MOST = (1 << 17) - 1
"""Bytes of one argument of a command; Linux takes no longer one (MAX_ARG_STRLEN)."""


def enqueue(client: Client, values: dict[str, Any]) -> int:
    name = values.get("batch")
    if name is None:
        return hot.enqueue(client.call, values)
    if values.get("payload") is not None:
        raise UsageError("expected either --payload or --batch, got both. In a batch each line has its own payload.")
    try:
        with nullcontext(sys.stdin.buffer) if name == "-" else open(name, "rb") as file:
            return _stored(client, values, _Lines(_batch(file, after_newest(client.call, values))))
    except OSError as error:
        if isinstance(error, BrokenPipeError):
            raise
        raise UsageError(f"--batch: expected a file that can be read, got {name!r}: {error.strerror}.") from None


def add(client: Client, values: dict[str, Any]) -> int:
    if not (values["each"] or values["null"]):
        return hot.add(client.call, values)
    if values["stdin"]:
        raise UsageError("expected either --stdin or --each (-0), got both. Standard input is read once.")
    try:
        return _stored(client, values, _Lines(_each(after_newest(client.call, values)), "item" if values["null"] else "line"))
    except OSError as error:
        if isinstance(error, BrokenPipeError):
            raise
        raise UsageError(f"--each: expected standard input that can be read: {error.strerror}.") from None


def _stored(client: Client, values: dict[str, Any], lines: _Lines) -> int:
    """Store the lines' tasks and print their ids; the exit code."""
    if values["wait_for_room"] is not None:
        client.wait_for_room = duration("--wait-for-room", values["wait_for_room"]) / 1000
    ids: list[int] = []
    existing: list[int] = []
    try:
        for group in client.enqueue_groups(lines.until_a_bad_one(), existing):
            hot.print_ids(group)
            if values["wait"]:
                ids += group
    except KeyboardInterrupt:
        hot.say("tq: interrupted. The tasks whose ids were printed are stored; whether more are, `tq list` shows.")
        return 130
    except TqError as error:
        error.message = lines.in_words(error)
        raise
    if lines.bad is not None:
        lines.bad.message = f"{lines.bad.message} {lines.stored([])}"
        raise lines.bad
    hot.say_existing(existing)
    return hot.exit_code(ids, hot.waited(client.call, ids, None)) if ids else 0


class _Lines:
    """The lines of one command's input: which of them became tasks, and what was wrong with the first that did not. ``noun`` is
    what a line is called."""

    def __init__(self, tasks: Iterable[Line | None], noun: str = "line") -> None:
        self._tasks, self._noun = tasks, noun
        self._lines = array("Q")  # the line of each task
        self.bad: UsageError | None = None

    def until_a_bad_one(self) -> Iterator[WireTask | None]:
        """The tasks before the first line that is wrong; ``bad`` is then the reason."""
        try:
            for line in self._tasks:
                if line is not None:
                    self._lines.append(line[0])
                yield line and line[1]
        except UsageError as error:
            self.bad = error

    def stored(self, refused: list[list[int]], count: int | None = None) -> str:
        """Which lines are on disk, in words: of the first ``count`` tasks (None: all) those that were not refused."""
        at, end, spans = 0, len(self._lines) if count is None else count, []
        for first, size in [*sorted(refused), [end, 0]]:
            if first > at:
                spans.append(f"{self._lines[at]}-{self._lines[first - 1]}")
            at = first + size
        return f"The tasks of {self._noun}s {' and '.join(spans)} are stored." if spans else "No task is stored."

    def in_words(self, error: TqError) -> str:
        """What the daemon said, with the line instead of the task's place in its request, and what is stored."""
        ids, refused = error.details.get("ids"), error.details.get("refused")
        if not isinstance(ids, list) or not isinstance(refused, list):
            return error.message  # not about a group: the output failed, say
        text = error.message
        found = re.match(r"task (\d+) of (\d+): ", text)
        if refused:
            first, size = refused[0]
            if found and int(found[2]) == size:
                text = f"{self._noun} {self._lines[first + int(found[1]) - 1]}: {text[found.end() :]}"
            elif size == 1:
                text = f"{self._noun} {self._lines[first]}: {text}"
        words = self.stored(refused, len(ids) + sum(size for _, size in refused))
        if isinstance(error, DaemonError):  # it may have gone between the commit and the answer
            words = f"{words if ids else ''} Of the {'other ' if ids else ''}{self._noun}s it is not known: look with `tq list`.".lstrip()
        return f"{text} {words}"


def _batch(lines: Any, given: dict[str, Any]) -> Iterator[Line]:
    """Tasks of JSON lines with the lines' numbers; what was said on the command line holds where a line says nothing."""
    keys = {"payload", "in", "command", *(option.key for option in (*COMMANDS["enqueue"].options, *HOW))}
    keys -= {"data_dir", "batch", "wait", "wait_for_room"}
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
        name, payload, command = _content(where, row, given["type"])
        key = repr(row) if row else ""
        if key not in options or moving or not MOVING.isdisjoint(row):
            options = {} if len(options) > 1000 else options
            try:
                options[key] = (
                    {**(task_options({**given, **row}) or {}), "extras": extras_of(row)} if command else task_options({**given, **row})
                )
            except UsageError as error:
                raise UsageError(f"{where}: {error.message}") from None
        yield number, (name, payload, options[key])


def _content(where: str, row: dict[str, Any], usual: str | None) -> tuple[str, bytes, bool]:
    """The type and the payload of a line, which are taken out of it, and whether it is a command."""
    command = row.pop("command", None)
    how = [option.key for option in HOW if option.key in row]
    if command is not None:
        if "type" in row or "payload" in row:
            raise UsageError(f'{where}: expected either a "command" or a "type" and "payload", got both. Drop one.')
        row["command"] = command
        try:
            payload = command_payload(line_words(row))
        except UsageError as error:
            raise UsageError(f"{where}: {error.message}") from None
        del row["command"]
        row.pop("shell", None)
        return SHELL, payload, True
    if how:
        raise UsageError(f'{where}: {how[0]}: expected a "command" beside it, got none. It says how a command is run.')
    name = row.pop("type", usual)
    if not isinstance(name, str) or not name:
        raise UsageError(f'{where}: expected a type, got {name!r}. Give each line a "type" or a "command", or all of them --type.')
    try:
        return unicode_text(f"{where}: type", name), packed(row.pop("payload", None)), False
    except PayloadError as error:
        raise PayloadError(f"{where}: {error.message}") from None


def _each(values: dict[str, Any]) -> Iterator[Line | None]:
    """A command for each line (or item) of standard input, with its number. None: the next may be long in coming."""
    kind, _, options = command_task(values)
    words, noun, end = _template(values), "item" if values["null"] else "line", b"\0" if values["null"] else b"\n"
    template = words if any("{}" in word for word in words) else [*words, "{}"]
    number = 0
    for record in _records(sys.stdin.fileno(), end):
        number += record is not None
        if record is None:
            yield None
        elif record or end == b"\0":
            if len(record) > ARGUMENT_MOST:
                raise UsageError(f"{noun} {number}: expected at most {ARGUMENT_MOST} bytes, got more. Linux takes no longer argument.")
            if b"\0" in record:
                raise UsageError(f"line {number}: expected text, got a byte of NUL. For names that end in it: -0.")
            text = os.fsdecode(record)
            command = [word.replace("{}", text) for word in template]
            if not command[0]:
                raise UsageError(f"{noun} {number}: expected the name of a command, got an empty one.")
            yield number, (kind, command_payload(command), options)


def _template(values: dict[str, Any]) -> list[str]:
    """The words of each command. A line for the shell gets what was read as its "$1": in the line it could become part of a program."""
    words = [*words_of(values)]
    if values["shell"]:
        if "{}" in words[-1]:
            raise UsageError("""--shell: expected "$1" in the line where the argument is to stand, got {}. A file's name is no program.""")
        words += ["sh", "{}"]
    return words


def _records(file: int, end: bytes) -> Iterator[bytes | None]:
    """What stands before each ``end`` in what is read, and behind the last; None where nothing more has come for SOON_S."""
    rest = b""
    while len(rest) <= ARGUMENT_MOST and (data := os.read(file, 1 << 16)):
        *whole, rest = (rest + data).split(end)
        yield from whole
        if not select.select([file], [], [], SOON_S)[0]:
            yield None
    if rest:
        yield rest

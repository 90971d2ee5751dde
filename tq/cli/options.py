"""The one table of commands and their options, and what the values of options mean.

For: both parsers are built from ``COMMANDS``; both make requests with the functions below.
Not for: parsing (fast, app), doing (hot, tasks, ...), printing (render).
Runs in: the ``tq`` command; imports only what every command needs, since shell loops pay for it.
Promises: a value that cannot be used is a UsageError that names its option; JSON text becomes the bytes that the
Python client would send for the same value.
"""

from __future__ import annotations

import sys

from tq import wire
from tq.errors import NoSuchTask, PayloadError, UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from typing import Any, NoReturn

    Call = Callable[..., dict[str, Any]]
    """``call(verb, arguments, within_s=None)``: sends a request and gives the body of its answer."""


class Option:
    """``kind``: text (one value), many (repeatable), flag (present or not), switch (--x, --no-x or neither)."""

    __slots__ = ("flags", "help", "key", "kind")

    def __init__(self, flags: str, help: str, kind: str = "text", key: str = "") -> None:  # noqa: A002
        self.flags = flags.split()
        self.help, self.kind = help, kind
        self.key = key or self.flags[0][2:].replace("-", "_")


class Command:
    """``argument``: the name of what stands after the options; ``takes``: none, one, optional, some (one or more) or rest."""

    __slots__ = ("argument", "help", "options", "takes")

    def __init__(self, help: str, argument: str = "", takes: str = "none", options: Iterable[Option] = ()) -> None:  # noqa: A002
        self.help, self.argument, self.takes = help, argument, takes
        self.options = (DATA_DIR, *options)


DATA_DIR = Option("--data-dir", "The directory of the instance (default: TQ_DATA_DIR, else the user's own).")
JSON = Option("--json", "Print JSON: an object, or one a line where there may be many.", "flag")
QUEUE = Option("--queue -q", "Queue.")
TYPE = Option("--type -t", "Type: the name of a handler.")
LABEL = Option("--label -l", "A word of your own to find the task by.")
TENANT = Option("--tenant", "Whose task it is; `tq list --tenant` shows theirs.")
LIMIT = Option("--limit -n", "At most so many.")
RAW = Option("--raw", "Leave control characters as they are, also on a terminal.", "flag")
WAIT = Option("--wait", "Wait until it is over and exit with its code.", "flag")
WITHIN = Option("--timeout", "Give up waiting after this time (exit code 124).")
TASK = (
    QUEUE,
    Option("--priority -p", "0 to 9 or low, medium, high, critical; higher runs first (default 1)."),
    Option("--in", "Run it after this time: 10s 5m 2h 3d.", key="delay"),
    Option("--at", "Run it at this time: 2030-01-31T08:00+01:00, or 08:00 for the next such time here."),
    Option("--ttl", "Let it expire if it has not begun within this time."),
    Option("--retries", "Runs after the first one that fails."),
    Option("--backoff", "How the delay before a retry grows: fixed, linear or exponential."),
    Option("--retry-delay", "Delay before the first retry (default 1s)."),
    Option("--max-delay", "Longest delay before a retry (default 5m)."),
    Option("--jitter", "Spread the delays at random (the default).", "switch"),
    Option("--timeout", "End it if it runs longer than this."),
    Option("--once", "Never run it again if it was cut short.", "flag"),
    LABEL,
    Option("--meta", "K=V, a note of your own; may be repeated.", "many"),
    TENANT,
    Option("--correlation-id", "The id of what it belongs to in other systems."),
)
START = (
    Option("--app", "The module with the handlers: package.module, module:app or path/file.py."),
    Option("--workers", "Worker processes (default: one for each CPU)."),
    Option("--slots", "Tasks at a time in each worker (default 1)."),
    Option("--log-level", "debug, info, warning or error."),
    Option("--grace", "How long running tasks may go on when it stops (default 25s)."),
    Option("--foreground", "Stay in the foreground and log to stderr.", "flag"),
)

COMMANDS: dict[str, Command] = {
    "enqueue": Command("Store a task, or many, and print its id.", options=(
        TYPE,
        Option("--payload -P", "JSON text, @FILE, or - for standard input."),
        Option("--batch", "A file of JSON lines whose keys are these options, or - for standard input."),
        *TASK, WAIT,
        Option("--allow-unknown", "Accept a type that no worker has named yet.", "flag"),
    )),
    "add": Command("Store a command to be run and print its id: tq add -- make all.", "command", "rest", (*TASK, WAIT)),
    "run": Command(
        "Run a command as a task: show its output, exit with its code. Of more than 1 MiB of output (log_bytes) only the head and "
        "the tail are kept: piped through `tq run` it may lose its middle.",
        "command", "rest", (*TASK, RAW),
    ),
    "status": Command("Where a task stands, in a line.", "id", "optional", (Option("--task-id", "The task's id."), JSON)),
    "show": Command("Everything about a task.", "id", "one", (JSON,)),
    "list": Command("Tasks, newest first.", options=(
        Option("--state -s", "Only these: scheduled, blocked, pending, running, retrying, succeeded, failed, ...", "many"),
        QUEUE, TYPE, LABEL, TENANT, LIMIT, JSON,
    )),
    "peek": Command("The next tasks to run, in order.", options=(QUEUE, LIMIT, JSON)),
    "result": Command("Print what a task returned, as JSON.", "id", "one", (JSON,)),
    "wait": Command("Wait until tasks are over; exit with the first code that is not 0.", "ids", "some", (WITHIN, JSON)),
    "cancel": Command("Cancel tasks that wait; ask those that run to end.", "ids", "some"),
    "log": Command("What a task has written.", "id", "one", (
        Option("--follow -f", "Go on until the task is over.", "flag"),
        RAW,
        JSON,
    )),
    "stats": Command("Counts, rates and run times.", options=(JSON,)),
    "verify": Command("Check every record of the store; the daemon may run."),
    "backup": Command("Copy the store, also while the daemon runs.", "dest", "one"),
    "demo": Command("Real work on this machine, in a directory of its own.", options=(Option("--keep", "Keep that directory.", "flag"),)),
    "bench": Command("Measure this machine.", options=(
        Option("--tasks -n", "Tasks for each measurement."),
        Option("--workers", "Worker processes (default 2)."),
        JSON,
    )),
    "daemon start": Command("Start the daemon.", options=START),
    "daemon stop": Command("Let running tasks finish, then end the daemon.", options=(Option("--now", "Do not wait for them.", "flag"),)),
    "daemon restart": Command("Stop it and start it with the same options; a broken application leaves it as it is."),
    "daemon log-level": Command("Change what a running daemon writes to daemon.log: debug, info, warning or error.", "level", "one"),
    "daemon status": Command("Whether it runs, since when, with what.", options=(JSON,)),
    "queue list": Command("Queues and what stands in them.", options=(JSON,)),
    "queue set": Command("Change a queue.", "name", "one", (
        Option("--external", "Leave it to consumers outside the pool.", "switch"),
        Option("--weight", "Its share among the queues, 1 to 100."),
    )),
    "queue pause": Command("Hand out no more tasks of it.", "name", "one"),
    "queue resume": Command("Hand them out again.", "name", "one"),
    "worker list": Command("Worker processes and what they do.", options=(JSON,)),
}  # fmt: skip

_PRIORITIES = {"low": 0, "medium": 1, "normal": 1, "high": 2, "critical": 3}  # tq.model's, whose import costs two interpreters
_UNITS = {"s": 1000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}


def _refuse(flag: str, text: str) -> NoReturn:
    raise UsageError(f"{flag}: {text}. See `tq --help`.")


def duration(flag: str, value: object) -> int:
    """Milliseconds from ``10s``, ``1h30m``, a number of seconds."""
    if type(value) is str and value.isascii() and value[:-1].isdigit() and len(value) < 6 and value[-1] in _UNITS:
        return int(value[:-1]) * _UNITS[value[-1]]
    from tq.model import duration_ms

    try:
        return duration_ms(value)
    except ValueError as error:
        _refuse(flag, str(error))


def whole(flag: str, value: object) -> int:
    """A whole number, 0 or more."""
    if type(value) is int and value >= 0:
        return value
    if type(value) is str and value.isascii() and value.isdigit() and len(value) < 19:
        return int(value)
    _refuse(flag, f"expected a whole number, 0 or more, got {value!r}")


def _priority(flag: str, value: object) -> int:
    known = _PRIORITIES.get(value) if type(value) is str else None
    if known is not None:
        return known
    from_digit = int(value) if type(value) is str and len(value) == 1 and value.isascii() and value.isdigit() else None
    if from_digit is not None:
        return from_digit
    from tq.model import priority_of

    try:
        return priority_of(value)
    except ValueError as error:
        _refuse(flag, str(error))


def _instant(flag: str, value: object) -> int:
    """Milliseconds since the epoch from ISO 8601 with a zone, or ``HH:MM``: the next such time here."""
    from datetime import datetime, timedelta

    text = value.strip() if isinstance(value, str) else ""
    try:
        if len(text) == 5 and text[2] == ":":
            now = datetime.now().astimezone()
            then = datetime.strptime(text, "%H:%M").replace(year=now.year, month=now.month, day=now.day).astimezone()
            return int((then if then > now else then + timedelta(days=1)).timestamp() * 1000)
        then = datetime.fromisoformat(text)
        if then.tzinfo is not None:
            return int(then.timestamp() * 1000)
    except (ValueError, OverflowError):
        pass
    _refuse(flag, f"expected a time with its zone as 2030-01-31T08:00+01:00, or HH:MM, got {value!r}")


def _text(flag: str, value: object) -> str:
    if type(value) is str and value:
        return unicode_text(flag, value)
    _refuse(flag, f"expected a text, got {value!r}")


def unicode_text(flag: str, value: str) -> str:
    """The text, if it can travel: bytes of a command line that are no UTF-8 are lone surrogates here."""
    if not value.isascii():
        try:
            value.encode()
        except UnicodeEncodeError:
            _refuse(flag, f"expected text in UTF-8, got {value!r}")
    return value


def _yes(flag: str, value: object) -> bool:
    if value is True or value is False:
        return value
    _refuse(flag, f"expected true or false, got {value!r}")


def _pairs(flag: str, value: object) -> dict[str, str]:
    if isinstance(value, dict):
        for key, text in value.items():
            if type(text) is not str:
                _refuse(flag, f'expected an object of texts such as {{"branch": "main"}}, got {text!r} for {key!r}')
            unicode_text(flag, key)
            unicode_text(flag, text)
        return value
    found = {}
    for pair in value if isinstance(value, list) else [value]:
        key, equals, text = pair.partition("=") if type(pair) is str else ("", "", "")
        if not key or not equals:
            _refuse(flag, f"expected K=V, got {pair!r}")
        found[unicode_text(flag, key)] = unicode_text(flag, text)
    return found


_MEANING: dict[str, tuple[str, Callable[[str, object], Any]]] = {
    "queue": ("queue", _text),
    "priority": ("priority", _priority),
    "delay": ("delay_ms", duration),
    "in": ("delay_ms", duration),
    "at": ("due_at", _instant),
    "ttl": ("ttl_ms", duration),
    "retries": ("retries", whole),
    "timeout": ("timeout_ms", duration),
    "once": ("once", _yes),
    "label": ("label", _text),
    "meta": ("meta", _pairs),
    "tenant": ("tenant", _text),
    "correlation_id": ("correlation_id", _text),
    "allow_unknown": ("allow_unknown", _yes),
}
_BACKOFF = ("backoff", "retry_delay", "max_delay", "jitter")


def task_options(values: Mapping[str, Any]) -> dict[str, Any] | None:
    """The wire options that the values of ``TASK`` stand for; None where none was given."""
    found: dict[str, Any] = {}
    for key, (name, meaning) in _MEANING.items():
        value = values.get(key)
        if value is not None and value is not False and value != []:
            found[name] = meaning("--in" if key == "delay" else "--" + key.replace("_", "-"), value)
    if "due_at" in found and "delay_ms" in found:
        raise UsageError("expected either --in or --at, got both. Drop one.")
    if any(values.get(key) is not None for key in _BACKOFF):
        kind = values.get("backoff") or "exponential"
        if kind not in ("fixed", "linear", "exponential"):
            _refuse("--backoff", f"expected fixed, linear or exponential, got {kind!r}")
        base = duration("--retry-delay", values.get("retry_delay") or "1s")
        cap = duration("--max-delay", values.get("max_delay") or "5m")
        jitter = values.get("jitter")
        cap = max(cap, base) if values.get("max_delay") is None else cap
        found["backoff"] = [kind, base, 2.0, cap, True if jitter is None else _yes("--jitter", jitter)]
    return found or None


def source(flag: str, word: str) -> str:
    """The text that a word stands for: ``@FILE``, ``-`` (standard input), or the word itself."""
    try:
        if word == "-":
            return sys.stdin.buffer.read().decode()
        if not word.startswith("@"):
            return word
        with open(word[1:], "rb") as file:
            return file.read().decode()
    except OSError as error:
        _refuse(flag, f"expected a file that can be read, got {word[1:]!r}: {error.strerror}")
    except UnicodeDecodeError as error:
        _refuse(flag, f"expected UTF-8, got byte {error.object[error.start]:#04x} at {error.start}")


class _Scanning:
    """What the C scanner behind ``json.loads`` asks of its decoder. ``json`` itself costs most of an interpreter start."""

    strict = True
    object_hook = object_pairs_hook = None
    parse_int = int
    memo: dict[str, str] = {}  # noqa: RUF012

    @staticmethod
    def parse_constant(word: str) -> object:
        raise ValueError(f"expected a number, got {word}")

    @staticmethod
    def parse_float(word: str) -> float:
        value = float(word)
        if value - value != 0.0:
            raise ValueError(f"expected a number of at most 1.8e308, got {word}")
        return value


def json_value(flag: str, text: str) -> Any:
    """The value of a JSON text; UsageError says where it is wrong."""
    try:
        from _json import make_scanner

        stripped = text.strip(" \t\r\n")
        value, end = make_scanner(_Scanning)(stripped, 0)  # type: ignore[arg-type]
        if end == len(stripped):
            return value
    except (ImportError, StopIteration, ValueError, AttributeError, TypeError, RecursionError, SystemError):
        pass  # SystemError: it looks for json's own exception, which is not loaded
    import json  # the scanner is private to the standard library: whatever it says, this one decides

    try:
        return json.loads(text, parse_constant=_Scanning.parse_constant, parse_float=_Scanning.parse_float)
    except json.JSONDecodeError as error:
        _refuse(flag, f"expected JSON, got {text[:80]!r}: {error.msg} at line {error.lineno} column {error.colno}")
    except ValueError as error:
        _refuse(flag, f"expected JSON: {error}")
    except RecursionError:
        raise PayloadError(f"{flag}: expected JSON of at most 500 levels, got deeper one. Send a path to the data instead.") from None


def packed(value: object) -> bytes:
    """A JSON value as a payload."""
    try:
        return b"" if value is None else wire.pack(value)
    except (ValueError, OverflowError, RecursionError):
        from tq.client.core import encode

        return encode(value)  # raises with the path of what does not fit


def enqueue_task(values: Mapping[str, Any]) -> list[Any]:
    """[type, payload, options] of ``tq enqueue``."""
    if not values.get("type"):
        raise UsageError("expected --type T (with --payload JSON) or --batch FILE, got neither. For a command: `tq add -- CMD`.")
    text = values.get("payload")
    payload = b"" if text is None else packed(json_value("--payload", source("--payload", text)))
    return [unicode_text("--type", values["type"]), payload, task_options(values)]


def _raw(text: str) -> str | bytes:
    """Text as it may travel: names and arguments that are not UTF-8 go as their bytes."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode(errors="surrogateescape")
    return text


def command_task(values: Mapping[str, Any]) -> list[Any]:
    """[type, payload, options] of ``tq add`` and ``tq run``: the command, and how this process would run it."""
    import os

    if not values["command"] or not values["command"][0]:
        got = "an empty word" if values["command"] else "none"
        raise UsageError(f"expected a command after --, got {got}. For example: tq add -- make all")
    umask = os.umask(0o077)
    os.umask(umask)
    env = {_raw(key): _raw(value) for key, value in os.environ.items()}
    options = task_options(values) or {}
    options["extras"] = {"cwd": _raw(os.getcwd()), "env": env, "umask": umask}
    return ["shell", wire.pack({"argv": [_raw(word) for word in values["command"]]}), options]


def task_ids(call: Call, words: Iterable[str]) -> list[int]:
    """Ids from words; ``@last`` is the newest task's."""
    found = []
    for word in words:
        if word == "@last":
            newest = call("find", {"limit": 1})["tasks"]
            if not newest:
                raise NoSuchTask("@last: expected a task, but there is none. Enqueue one first.")
            found.append(newest[0]["id"])
        elif word.isascii() and word.isdigit() and len(word) < 19:
            found.append(int(word))
        else:
            raise UsageError(f"expected the id of a task (a number, or @last), got {word!r}. `tq list` shows them.")
    return found

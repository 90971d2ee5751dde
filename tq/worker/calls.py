"""One call of one handler: its arguments from the payload, its answer as the record that settles the task.

For: what a value, an exception or a wish of the handler (Snooze, Cancel, Retry, Permanent) means on the wire.
Not for: when and where a handler runs, sockets, output.
Runs in: the worker.
Promises: whatever a handler returns or raises becomes an answer, also SystemExit, an exception that cannot be
printed, or a result that cannot travel; an error takes at most 4 KiB, its message at most 2,000 characters.
"""

from __future__ import annotations

import linecache
from collections.abc import Callable, Collection, Iterable
from types import TracebackType
from typing import Any, NoReturn

import msgpack

from tq.app import Cancel, Permanent, Retry, Snooze
from tq.errors import PayloadError
from tq.model import MAX_ERROR, brief, unpack

MAX_MESSAGE = 2000
MAX_FRAMES = 20
MAX_LINE = 200
MAX_CHAIN = 3
_MACHINERY = frozenset({"tq.worker", "tq.worker.calls", "tq.worker.slots", "tq.shell", "asyncio.runners", "asyncio.base_events"})

Details = dict[str, Any]


class Unpackable(TypeError):
    """A result that is not JSON-like data."""


class ExitCode(Exception):
    """A command that did not end with 0."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code = code


def unknown(name: str, known: Collection[str]) -> NoReturn:
    """The failure of a task whose type this worker has no handler for."""
    raise Permanent(
        f"expected a type this application knows ({', '.join(sorted(known)) or 'it has none'}), got {name!r}. "
        "Start the daemon with the application that has it (--app)."
    )


def call(function: Callable[..., Any], payload: bytes) -> Any:
    """Call the handler with its payload: a map by name, an array by position, nil or nothing without arguments."""
    if not payload:
        return function()
    value = unpack(payload)
    if isinstance(value, dict):
        return function(**value)
    if isinstance(value, list):
        return function(*value)
    return function() if value is None else function(value)


def result_bytes(value: object, pack: Callable[[object], bytes]) -> bytes:
    """A handler's result as it is kept; Unpackable if it is not data."""
    try:
        data = pack(value)
        if (key := _list_as_key(value)) is not None:
            raise TypeError(f"expected text or numbers as keys, got {brief(key)}")
        return data
    except (TypeError, ValueError, OverflowError, RecursionError, UnicodeError) as error:
        raise Unpackable(
            f"the handler's result cannot be stored: expected JSON-like data (None, bool, numbers, text, bytes, lists, maps), "
            f"got {type(value).__name__}: {error}. Return plain data."
        ) from None


def _list_as_key(value: object) -> object:
    """A tuple that is a key in ``value``, which packs but can never be read; None if there is none."""
    inner: Iterable[object] = ()
    if isinstance(value, dict):
        for key in value:
            if isinstance(key, tuple):
                return key
        inner = value.values()
    elif isinstance(value, list | tuple):
        inner = value
    return next((found for item in inner if (found := _list_as_key(item)) is not None), None)


def wish(value: Snooze | Cancel) -> tuple[str, Details]:
    """(kind, details) of what a handler asked for by its return value."""
    if isinstance(value, Snooze):
        return "snoozed", {"delay_ms": value.after_ms}
    return "stopped", {"error": {"type": "Cancel", "message": _clean(value.why, MAX_MESSAGE)}}


def failure(error: BaseException) -> Details:
    """The details of an attempt that ended with an exception."""
    if isinstance(error, ExitCode):
        return {"error": {"type": "ExitCode", "message": str(error)}, "exit_code": error.code}
    details: Details = {"error": error_map(error)}
    if isinstance(error, Permanent | PayloadError):
        details["permanent"] = True
    elif isinstance(error, Retry) and error.after_ms is not None:
        details["delay_ms"] = error.after_ms
    return details


def error_map(error: BaseException) -> Details:
    """An exception as a map of at most 4 KiB: type, message, frames, and the chain of its causes."""
    found = _one(error)
    chain: list[Details] = []
    seen = {id(error)}
    cause = _cause(error)
    while cause is not None and id(cause) not in seen and len(chain) < MAX_CHAIN:
        seen.add(id(cause))
        chain.append(_one(cause))
        cause = _cause(cause)
    if chain:
        found["chain"] = chain
    while len(msgpack.packb(found)) > MAX_ERROR:
        _shorten(found)
    return found


def _shorten(found: Details) -> None:
    """Take away what is missed least: causes' frames and causes, frames from the middle, then the message's end."""
    chain, frames = found.get("chain"), found["frames"]
    if chain:
        if len(chain[-1]["frames"]) > 1:
            del chain[-1]["frames"][len(chain[-1]["frames"]) // 2]
        else:
            chain.pop()
            if not chain:
                del found["chain"]
    elif frames:
        del frames[len(frames) // 2]
    else:
        found["message"] = found["message"][: len(found["message"]) * 2 // 3]


def _cause(error: BaseException) -> BaseException | None:
    return error.__cause__ or (None if error.__suppress_context__ else error.__context__)


def _one(error: BaseException) -> Details:
    try:
        message = str(error)
    except BaseException as another:  # noqa: BLE001 - an exception's __str__ is user code too
        message = f"(its message cannot be made: {type(another).__name__})"
    return {"type": _clean(type(error).__name__, 100), "message": _clean(message, MAX_MESSAGE), "frames": _frames(error.__traceback__)}


def _frames(trace: TracebackType | None) -> list[list[Any]]:
    """[file, line, function, source line] of the handler's own frames, outermost first; the middle of many is left out."""
    places: list[tuple[str, int, str]] = []
    while trace is not None:
        code = trace.tb_frame.f_code
        if trace.tb_frame.f_globals.get("__name__") not in _MACHINERY:
            places.append((code.co_filename, trace.tb_lineno, code.co_qualname))
        trace = trace.tb_next
    if len(places) > MAX_FRAMES:
        places = places[: MAX_FRAMES // 2] + places[-MAX_FRAMES // 2 :]
    return [[_clean(f, MAX_LINE), line, _clean(name, MAX_LINE), _clean(_source(f, line), MAX_LINE)] for f, line, name in places]


def _source(file: str, line: int) -> str:
    try:
        return linecache.getline(file, line).strip()
    except (OSError, SyntaxError, UnicodeError, MemoryError):
        return ""


def _clean(text: str, most: int) -> str:
    """Text that can travel (no lone surrogates), cut to ``most`` characters."""
    text = text[:most] + "…" if len(text) > most else text
    return text if text.isascii() else text.encode("utf-8", "backslashreplace").decode()

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
from functools import lru_cache
from types import CodeType, TracebackType
from typing import TYPE_CHECKING, Any, NoReturn, Protocol

import msgpack

from tq.context import Cancel, Permanent, Retry, ServiceDown, Snooze
from tq.errors import PayloadError
from tq.model import MAX_ERROR, brief, duration_ms, safe_text

if TYPE_CHECKING:
    from tq.app import BackoffFunction, Handler
    from tq.model import Spec

MAX_MESSAGE = 2000
MAX_FRAMES = 20
MAX_LINE = 200
MAX_CHAIN = 3
_MACHINERY = frozenset({
    "tq.worker", "tq.worker.calls", "tq.worker.slots", "tq.worker.stopping", "tq.worker.together", "tq.shell",
    "tq.app", "tq.typed", "tq.middleware", "tq.testing", "tq.client.guard",
    "asyncio.runners", "asyncio.base_events",
})  # fmt: skip

Details = dict[str, Any]
Frame = tuple[str, int, str, str]
"""File, line, function, source line."""


class Noting(Protocol):
    """What an answer needs of a task's context: see ``tq.context.Context``; ``note`` puts a line into its log."""

    spec: Spec
    failures: int
    cancelled: bool

    def note(self, text: str) -> None: ...


class Unpackable(TypeError):
    """A result that is not JSON-like data."""


class ExitCode(Exception):
    """A command that did not end with 0."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code = code


class OkCode(Exception):
    """A command that did not end with 0, and succeeded."""

    def __init__(self, code: int) -> None:
        super().__init__(code)
        self.code = code


def unknown(name: str, known: Collection[str]) -> NoReturn:
    """The failure of a task whose type this worker has no handler for."""
    raise Permanent(
        f"expected a type this application knows ({', '.join(sorted(known)) or 'it has none'}), got {name!r}. "
        "Start the daemon with the application that has it (--app)."
    )


def result_bytes(value: object, pack: Callable[[object], bytes]) -> bytes:
    """A handler's result as it is kept; Unpackable if it is not data."""
    try:
        data = pack(value)
        if (key := _list_as_key(value)) is not None:
            raise TypeError(f"expected text or numbers as keys, got {brief(key)}")
        return data
    except Exception as error:  # noqa: BLE001 - a class of its own, or a map that another thread changes, may raise anything
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


def returned(value: object, pack: Callable[[object], bytes], most: int, run: Noting) -> tuple[int | str, Any]:
    """(kind, last of the row) for a handler that returned ``value``. Unpackable if that is not data."""
    if isinstance(value, Snooze | Cancel):
        return wish(value)
    result = result_bytes(value, pack)
    if len(result) > most:
        run.note(f"the result was dropped: expected at most {most} bytes, got {len(result)}. Store it elsewhere and return where.")
        return 0, None
    return 0, result


def raised(error: BaseException, handler: Handler | None, run: Noting) -> tuple[str, Details]:
    """(kind, last of the row) for a handler that raised ``error``."""
    if isinstance(error, OkCode):
        return "succeeded", {"exit_code": error.code}
    return wish(error) if isinstance(error, Snooze | Cancel) else ("failed", failure(error, handler, run))


def wish(value: Snooze | Cancel) -> tuple[str, Details]:
    """(kind, details) of what a handler asked for, be it returned or raised."""
    if isinstance(value, ServiceDown):
        return "snoozed", {"delay_ms": value.after_ms, "error": {"type": "ServiceDown", "message": _clean(str(value), MAX_MESSAGE)}}
    if isinstance(value, Snooze):
        return "snoozed", {"delay_ms": value.after_ms}
    return "stopped", {"error": {"type": "Cancel", "message": _clean(value.why, MAX_MESSAGE)}}


def failure(error: BaseException, handler: Handler | None, run: Noting) -> Details:
    """The details of an attempt that ended with an exception: what it was, and what its type says of trying again."""
    if isinstance(error, ExitCode):
        return {"error": {"type": "ExitCode", "message": str(error)}, "exit_code": error.code}
    details: Details = {"error": error_map(error)}
    if isinstance(error, Permanent | PayloadError):
        details["permanent"] = True
    elif isinstance(error, Retry):
        if error.after_ms is not None:
            details["delay_ms"] = error.after_ms
        elif handler is not None and handler.backoff is not None:
            details |= _delay(handler.backoff, error, run)
    elif handler is None or run.cancelled:
        pass  # asked to end: what it raised because of that is not for its type to judge
    elif not handler.may_retry(error):
        details["permanent"] = True
    elif handler.backoff is not None:
        details |= _delay(handler.backoff, error, run)
    return details


def _delay(backoff: BackoffFunction, error: BaseException, run: Noting) -> Details:
    """The delay that a type's own function gives; none where the default holds, or no retry is left to be delayed."""
    failures = run.failures + 1
    if failures > run.spec.header.retries:
        return {}
    try:
        answer = backoff(failures, error)
        return {} if answer is None else {"delay_ms": duration_ms(answer)}
    except (Exception, SystemExit) as problem:  # noqa: BLE001 - it is user code, and no reason to lose the retry
        why = f"{type(problem).__name__}: {_message(problem)}"
        run.note(f"the default backoff holds, since this type's own failed: {safe_text(_clean(why, MAX_LINE))}")
        return {}


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
    if chain or not _is_short(found):
        while len(msgpack.packb(found)) > MAX_ERROR:
            _shorten(found)
    return found


def _is_short(found: Details) -> bool:
    """Whether an error is surely under 4 KiB when packed, which costs more to find out than to say for most."""
    chars = len(found["type"]) + len(found["message"]) + sum([len(f) + len(name) + len(source) for f, _, name, source in found["frames"]])
    return 4 * chars + 24 * len(found["frames"]) + 64 <= MAX_ERROR  # UTF-8 takes four bytes a character at the most


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
    name, message = _clean(type(error).__name__, 100), _clean(_message(error), MAX_MESSAGE)
    return {"type": name, "message": message, "frames": _frames(error.__traceback__)}


def _message(error: BaseException) -> str:
    try:
        return str(error)
    except BaseException as another:  # noqa: BLE001 - an exception's __str__ is user code too
        return f"(its message cannot be made: {type(another).__name__})"


def _frames(trace: TracebackType | None) -> list[Frame]:
    """[file, line, function, source line] of the handler's own frames, outermost first; the middle of many is left out."""
    places: list[tuple[CodeType, int]] = []
    while trace is not None:
        code = trace.tb_frame.f_code
        if trace.tb_frame.f_globals.get("__name__") not in _MACHINERY:
            places.append((code, trace.tb_lineno))
        trace = trace.tb_next
    if len(places) > MAX_FRAMES:
        places = places[: MAX_FRAMES // 2] + places[-MAX_FRAMES // 2 :]
    return [_frame(code, line) for code, line in places]


@lru_cache(maxsize=1024)
def _frame(code: CodeType, line: int) -> Frame:
    """Kept, since what fails a thousand times fails at the same place."""
    file = code.co_filename
    return _clean(file, MAX_LINE), line, _clean(code.co_qualname, MAX_LINE), _clean(_source(file, line), MAX_LINE)


def _source(file: str, line: int) -> str:
    try:
        return linecache.getline(file, line).strip()
    except (OSError, SyntaxError, UnicodeError, MemoryError):
        return ""


def _clean(text: str, most: int) -> str:
    """Text that can travel (no lone surrogates), cut to ``most`` characters."""
    text = text[:most] + "…" if len(text) > most else text
    return text if text.isascii() else text.encode("utf-8", "backslashreplace").decode()

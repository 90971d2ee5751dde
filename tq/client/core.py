"""The protocol as a client sees it, without I/O: numbers, frames, payloads, options, errors.

For: what the blocking and the asyncio face share.
Not for: sockets, event loops, processes.
Runs in: every process that uses a client.
Promises: only JSON-like data leaves (None, bool, int, float, str, bytes, list, tuple, dict with text keys), and what
does not fit is named by its path; an unanswered request is kept until its answer came, for a repeat.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, Literal, Protocol, TypedDict, cast

import msgpack

from tq import wire
from tq.context import correlation
from tq.errors import PayloadError, ProtocolError, Refused, TaskCancelled, TaskFailed, TaskTimeout, TqError, UsageError, from_wire
from tq.model import Backoff, brief, duration_ms, priority_of, safe_text, unpack

Duration = float | str | timedelta
"""Seconds, a timedelta, or text such as ``10s 5m 2h 3d``."""

Body = dict[str, Any]
WireTask = tuple[str, bytes, Body | None]
"""(type, packed payload, wire options): a task as an ``enqueue`` frame carries it."""

GROUP_TASKS = 500
ALIKE_TASKS = 2500
"""The most of a group: of tasks that have options of their own, and of those that share theirs: such a turn takes some 20 ms."""
GROUP_BYTES = 512 * 1024
FRAMES_IN_FLIGHT = 8
ANSWER_WITHIN = 30.0
"""Seconds that a daemon may take for an answer before a call gives up."""
BACK_WITHIN = 5.0
"""Seconds that a client which may start a daemon waits for one that it knew and that has gone: a new one would lack its application."""
ERROR, EVENT = wire.ERROR, wire.EVENT
"""Kinds of what ``Core.received`` gives; all else is an answer."""
WAIT_SLICE = 60.0
"""A longer wait is asked for in slices of this many seconds, so that a daemon that hangs is noticed."""


class Identified(Protocol):
    """What has a task's id: a handle of either face."""

    @property
    def id(self) -> int: ...


Ids = int | Identified | Iterable[int | Identified]
"""One task or several, by ids or handles."""


def ids_of(given: object) -> list[int]:
    """The ids. UsageError for anything else."""
    single = isinstance(given, str | bytes | Mapping) or not isinstance(given, Iterable)
    found = [one if type(one) is int else getattr(one, "id", None) for one in ((given,) if single else cast("Iterable[object]", given))]
    if not all(type(one) is int for one in found):
        raise UsageError(
            f"expected the id of a task or its handle, or several of them, got {brief(given)}. Give numbers, as `tq list` shows them."
        )
    return cast("list[int]", found)


class Wishes(TypedDict, total=False):
    """What may be said when a task is sent, and changed while it waits."""

    queue: str
    priority: int | str
    delay: Duration
    at: datetime
    ttl: Duration
    retries: int
    backoff: str | Backoff
    timeout: Duration
    once: bool
    label: str
    meta: Mapping[str, str]
    correlation_id: str
    slots: int
    uses: Mapping[str, int]


class Options(Wishes, total=False):
    """What may be said about a task; absent ones fall to the type's, then the queue's, then tq's defaults.

    ``retries`` counts runs after the first, ``retry_for`` and ``deadline`` count from now: no retry begins after the first,
    after the second it is over, running or not. ``ttl``: it expires unless it has begun by then.

    ``key`` names this very request: sent again it is the same task, sent with something else it is a Conflict. ``unique``
    names what the task is about: of a type only one live task has it. Another is a Conflict (``on_conflict="reject"``, the
    default), gives the one there is ("existing"), or takes the place of one that still waits ("replace").

    ``debounce`` and ``throttle`` are for what is sent again and again about one thing, named by ``unique``: of a debounced one there is
    one task that waits, with the last payload, and runs when no more has come for so long (at the latest ``debounce_most`` after the
    first came); of a throttled one the first is accepted, and none until that time is over. What is not accepted gives the id of the
    task that there is.

    ``after`` are tasks, by ids or handles, after which it runs if they succeed (else it is cancelled), ``after_any`` such as may end
    in any way, ``after_failure`` such as must fail or expire. ``on_parent_failure`` says what becomes of it if one of ``after`` does
    not succeed: "cancel", "fail" (it is a dead letter, too), or "run". In ``enqueue_graph`` -n is the n-th task sent with it.

    ``order_key``: of a queue, those that share it run one at a time, strictly in the order in which they were accepted, retries and
    delays included; behind one that failed for good or expired the others wait until it is retried, cancelled or removed, or with
    ``order_on_failure="continue"`` go on.

    ``slots``: it counts as so many of the slots of its queue and of the workers; ``uses={"gpu": 1}`` is what it holds of named
    resources while it runs.

    ``batch`` is the batch that it joins (``Client.batch``), by its id or handle.

    ``correlation_id`` says what it belongs to; what a running task enqueues inherits its own, or its id.

    ``wait_for_room`` is the client's own: if the task is refused for now (a full queue, a drain), it is sent again and
    again for so long before ``Refused`` is raised.
    """

    tenant: str
    flow: str
    allow_unknown: bool
    extras: Mapping[str, Any]
    retry_for: Duration
    deadline: Duration
    key: str
    unique: str
    on_conflict: Literal["reject", "existing", "replace"]
    debounce: Duration
    debounce_most: Duration
    throttle: Duration
    wait_for_room: Duration
    after: Ids
    after_any: Ids
    after_failure: Ids
    on_parent_failure: Literal["cancel", "fail", "run"]
    order_key: str
    order_on_failure: Literal["block", "continue"]
    batch: int | Identified


def _instant_ms(value: object) -> int:
    if not isinstance(value, datetime) or value.tzinfo is None:
        raise ValueError(f"expected a datetime with a time zone, got {value!r}")
    return int(value.timestamp() * 1000)


def _policy(value: object) -> object:
    if value in ("reject", "existing", "replace"):
        return value
    raise ValueError(f"expected reject, existing or replace, got {value!r}")


def _on_parent_failure(value: object) -> object:
    if value in ("cancel", "fail", "run"):
        return value
    raise ValueError(f"expected cancel, fail or run, got {value!r}")


def _order_on_failure(value: object) -> object:
    if value in ("block", "continue"):
        return value
    raise ValueError(f"expected block or continue, got {value!r}")


def _backoff_row(value: object) -> list[Any]:
    return Backoff.of(value).row()


def _batch(value: object) -> int:
    number = value if isinstance(value, int) else getattr(value, "id", None)
    if isinstance(number, int) and not isinstance(number, bool) and number > 0:
        return number
    raise ValueError(f"expected the id of a batch or its handle, got {brief(value)}")


_WIRE: dict[str, tuple[str, Callable[[Any], Any] | None]] = {
    "priority": ("priority", priority_of),
    "delay": ("delay_ms", duration_ms),
    "at": ("due_at", _instant_ms),
    "ttl": ("ttl_ms", duration_ms),
    "timeout": ("timeout_ms", duration_ms),
    "backoff": ("backoff", _backoff_row),
    "retry_for": ("retry_for_ms", duration_ms),
    "deadline": ("deadline_ms", duration_ms),
    "on_conflict": ("unique_policy", _policy),
    "debounce": ("debounce_ms", duration_ms),
    "debounce_most": ("debounce_most_ms", duration_ms),
    "throttle": ("throttle_ms", duration_ms),
    "after": ("after", ids_of),
    "after_any": ("after_any", ids_of),
    "after_failure": ("after_failure", ids_of),
    "on_parent_failure": ("on_parent_failure", _on_parent_failure),
    "order_key": ("order", None),
    "order_on_failure": ("order_on_failure", _order_on_failure),
    "batch": ("batch", _batch),
}
_AFTER = ("after", "after_any", "after_failure")


def wire_options(options: Options) -> Body | None:
    """The options as they travel; None where there are none. UsageError names the option that is wrong.

    Inside a running task they say what it belongs to, unless they do so themselves.
    """
    found: Body = {}
    for name, value in options.items():
        if value is None or name == "wait_for_room":
            continue
        if name not in Options.__annotations__:
            raise UsageError(f"expected an option of enqueue ({', '.join(Options.__annotations__)}), got {name!r}")
        key, convert = _WIRE.get(name, (name, None))
        try:
            found[key] = convert(value) if convert else value
        except ValueError as error:
            raise UsageError(f"{name}: {error}") from None
    if "delay_ms" in found and "due_at" in found:
        raise UsageError("expected either delay or at, got both: drop one")
    if "unique_policy" in found and "unique" not in found:
        raise UsageError("expected unique, the name that on_conflict is about, got none: give one")
    if "correlation_id" not in found and (belongs_to := correlation()) is not None:
        found["correlation_id"] = belongs_to
    return found or None


class Room:
    """How long a refusal that is only for now is borne. ``wait``: seconds or words, from now on; 0 is not at all."""

    __slots__ = ("_until", "_wait")

    def __init__(self, wait: Duration = 0) -> None:
        try:
            self._wait = duration_ms(wait) / 1000
        except ValueError as error:
            raise UsageError(f"wait_for_room: {error}") from None
        self.begin()

    def begin(self) -> None:
        """Count from now: the next of many groups has a patience of its own."""
        self._until = time.monotonic() + self._wait

    def halves(self, error: TqError, group: Sequence[WireTask]) -> bool:
        """Whether to send the group in two parts: its queue never takes so much at once, and there is patience."""
        return self._wait > 0 and len(group) > 1 and isinstance(error, Refused) and error.details.get("too_much") is True

    def pause(self, refused: Refused) -> float | None:
        """Seconds until the same may be sent again; None if the time is over, or waiting would not help.

        Spread by half, so that those who were refused together do not come back together.
        """
        left = self._until - time.monotonic()
        if left <= 0 or "retry_after" not in refused.details:
            return None
        chance = int.from_bytes(os.urandom(2), "big") / 65536
        return min(refused.retry_after * (0.5 + chance), left)


def _problem(path: str, value: object) -> str | None:
    """What in ``value`` is not JSON-like, as words with its path; None if all is."""
    kind = type(value)
    if value is None or kind in _SCALARS:
        if kind is int and not -(1 << 63) <= cast(int, value) < 1 << 64:
            return f"{path}: expected an integer of at most 64 bits, got {value}"
        if kind is str and any("\ud800" <= c <= "\udfff" for c in cast(str, value)):
            return f"{path}: expected text that is Unicode, got a lone surrogate"
        return None
    items: Iterable[tuple[str, object]]
    if kind is dict:
        for key in cast(dict[object, object], value):
            if type(key) is not str:
                return f"{path}: expected text as keys, got {key!r} ({type(key).__name__})"
        items = ((f"{path}.{key}", item) for key, item in cast(dict[str, object], value).items())
    elif kind is list or kind is tuple:
        items = ((f"{path}[{i}]", item) for i, item in enumerate(cast(list[object], value)))
    else:
        return f"{path}: expected None, bool, int, float, str, bytes, list, tuple or dict, got {kind.__module__}.{kind.__qualname__}"
    return next((found for where, item in items if (found := _problem(where, item))), None)


_SCALARS = frozenset({type(None), bool, int, float, str, bytes})


def is_plain(value: object) -> bool:
    """Whether ``value`` is JSON-like data or bytes, as far as its types tell."""
    kind = type(value)
    if kind is dict:
        for key, item in cast(dict[object, object], value).items():
            if type(key) is not str or (type(item) not in _SCALARS and not is_plain(item)):
                return False
        return True
    if kind is list or kind is tuple:
        return all(type(item) in _SCALARS or is_plain(item) for item in cast(list[object], value))
    return kind in _SCALARS


def encode(value: object, name: str = "payload") -> bytes:
    """``value`` as packed msgpack, empty for None; PayloadError names the path of what is not JSON-like."""
    if value is None:
        return b""
    try:
        if is_plain(value):
            return msgpack.packb(value, use_bin_type=True)
        problem = _problem(name, value)
    except (ValueError, OverflowError, RecursionError) as error:
        deep = isinstance(error, RecursionError) or "recursion" in str(error)
        problem = f"{name}: expected data of at most 500 levels, got deeper ones" if deep else _problem(name, value) or f"{name}: {error}"
    raise PayloadError(f"{problem}. Send JSON-like data: convert the value, or send a path or an id instead.")


def decode(data: bytes | None) -> Any:
    """The value in a payload or result; None for none. Bytes that are not one sound value are given back as they are."""
    if not data:
        return None
    try:
        return unpack(data)
    except (TypeError, ValueError, RecursionError, msgpack.UnpackException):
        return data


def decoded(row: Body | None) -> Body | None:
    """A task's row with its payload and result as values."""
    if row is not None:
        row["payload"], row["result"] = decode(row["payload"]), decode(row["result"])
    return row


def groups(tasks: Iterable[WireTask | None]) -> Iterator[list[WireTask]]:
    """The tasks in groups that fit a frame and share a commit. None among them: the next may be long in coming; what there is
    goes at once, and an empty group behind it says so."""
    group: list[WireTask] = []
    bodies = options = more = waits = each = 0
    last: Body | None = None
    alike = True
    for task in tasks:
        if task is None:
            yield from [group, []] if group else [[]]
            group, bodies, options, waits = [], 0, 0, 0
            continue
        if task[2] is None or task[2] is not last:
            last = task[2]
            more = 0 if last is None else 64 + len(str(last).encode())  # never much less than it takes when it is packed
            each = 0 if last is None else sum(len(last.get(name) or ()) for name in _AFTER)
        body = len(task[1]) + 64
        alike = _shares(task[2]) and (not group or (alike and task[2] is group[0][2]))
        size = bodies + body + more + (0 if alike else options)
        most = ALIKE_TASKS if alike else GROUP_TASKS
        if group and (len(group) >= most or size > GROUP_BYTES or waits + each > wire.WAITS_MOST):
            yield group
            group, bodies, options, waits = [], 0, 0, 0
            alike = _shares(task[2])
        group.append(task)
        bodies += body
        options += more
        waits += each
    if group:
        yield group


def _shares(options: Body | None) -> bool:
    """Whether options may be sent once for many tasks: large ones that name none of them."""
    return options is not None and "extras" in options and "key" not in options and "unique" not in options


def enqueue_args(group: Sequence[WireTask]) -> Body:
    """The arguments of an ``enqueue`` of these tasks; options that all of them share are sent once."""
    options = group[0][2]
    if len(group) > 1 and _shares(options) and all(task[2] is options for task in group):
        return {"tasks": [(task[0], task[1], None) for task in group], "options": options, "again": False}
    return {"tasks": group, "again": False}


def wire_tasks(rows: Iterable[Sequence[Any]]) -> Iterator[WireTask]:
    """(type, payload[, options]) rows as they travel. Rows that share one options mapping convert it once."""
    last: object = rows  # which no row gives
    options: Body | None = None
    for row in rows:
        given: Options | None = row[2] if len(row) > 2 else None
        if given is not last:
            last, options = given, wire_options(given or {})
            if options is not None and any(min(options.get(name) or (1,)) < 1 for name in _AFTER):
                raise UsageError("after: expected the ids of tasks, got a number below 1. Tasks sent together are named so: enqueue_graph.")
        yield row[0], encode(row[1]), options


class Lost(Exception):
    """The connection ended before the answer. Inside the client only: callers see DaemonNotRunning."""


class Core:
    """One client's side of the protocol. ``nonce``: 8 bytes that name its requests for as long as it lives. ``read_only``: the daemon
    is to refuse whatever would change something. ``via``: what stands between the person and this process. ``met``: what the daemon
    last said of itself, its answer to the hello."""

    __slots__ = ("_frames", "_number", "client", "met", "nonce", "read_only", "unanswered", "via")

    def __init__(self, nonce: bytes | None = None, read_only: bool = False, client: str = "tq-python", via: str = "") -> None:
        self.read_only, self.client, self.via = read_only, client, via
        self.nonce = nonce or os.urandom(8)
        self.met: Body | None = None
        self._number = 1
        self._frames = wire.Frames()
        self.unanswered: dict[int, tuple[str, Body]] = {}

    def _hello(self) -> bytes:
        more: Body = {"read_only": True} if self.read_only else {}  # which a daemon of before would not know
        more |= {"via": self.via} if self.via else {}
        return wire.frame([1, "hello", {"protocol": wire.PROTOCOL, "client": self.client, "nonce": self.nonce, **more}])

    def request(self, verb: str, args: Body) -> tuple[int, bytes]:
        """The number and the frame of a new request. PayloadError if it is larger than any frame may be."""
        number = self._number + 1
        try:
            frame = wire.frame([number, verb, args])
        except (TypeError, ValueError, OverflowError) as error:
            raise UsageError(f"{verb}: expected arguments that msgpack can carry, got one that it cannot: {error}") from None
        if len(frame) - 4 > wire.MAX_FRAME:
            raise PayloadError(
                f"{verb}: expected a request of at most {wire.MAX_FRAME} bytes, got {len(frame) - 4}. Send less, or a path to the data."
            )
        self._number = number
        self.unanswered[number] = (verb, args)
        return number, frame

    def connected(self) -> bytes:
        """What a new connection starts with: the hello, and each unanswered request again under its old number."""
        self._frames = wire.Frames()
        again = [self._hello()]
        for number, (verb, args) in self.unanswered.items():
            again.append(wire.frame([number, verb, {**args, "again": True} if verb in ("enqueue", "create_batch") else args]))
        return b"".join(again)

    def received(self, data: bytes) -> list[tuple[int, int, Any]]:
        """(number, kind, body) of each whole answer in what has come so far."""
        self._frames.feed(data)
        found = []
        try:
            for body in self._frames.take():
                number, kind, what = wire.message(body)
                if number <= 1:
                    if kind == wire.ERROR:
                        raise error_of(what)
                    self.met = what
                    continue
                if kind != wire.EVENT:
                    self.unanswered.pop(number, None)
                found.append((number, kind, what))
        except (ValueError, TypeError) as error:
            raise ProtocolError(f"expected a message of protocol {wire.PROTOCOL} from the daemon, got something else: {error}") from None
        return found


def error_of(body: Sequence[Any]) -> TqError:
    """The exception that an error answer stands for."""
    code, message, details = body
    return from_wire(code, message, {str(key): value for key, value in (details or {}).items() if key not in ("self", "message")})


def _frames_of(error: Mapping[str, Any]) -> Iterator[str]:
    frames = error.get("frames") or ()
    if frames:
        yield "Traceback (most recent call last):"
    for frame in frames:
        file, line, function, *source = frame
        yield f'  File "{file}", line {line}, in {function}'
        if source and source[0]:
            yield f"    {source[0]}"
    kind, text = error.get("type") or "Error", str(error.get("message") or "")
    yield f"{kind}: {text}" if text else str(kind)


def format_error(error: Mapping[str, Any] | None) -> str:
    """An error map as Python would print its traceback, causes first; fit for a terminal."""
    if not error:
        return ""
    parts = ["\n".join(_frames_of(one)) for one in (*reversed(error.get("chain") or ()), error)]
    return safe_text("\n\nThe above exception was the cause of the following one:\n\n".join(parts), newlines=True)


def ended(row: Body) -> Any:
    """The decoded result of a finished task's row, or TaskFailed, TaskCancelled, TaskTimeout raised."""
    state, error, exit_code = row["state"], row["error"], row["exit_code"]
    if state == "succeeded":
        return decode(row["result"])
    kind: type[TaskFailed] = {"cancelled": TaskCancelled, "expired": TaskTimeout}.get(state, TaskFailed)
    if state == "failed" and (error or {}).get("type") == "TimedOut":
        kind = TaskTimeout
    text = f"task {row['id']} ({safe_text(row['type'])}) {state}"
    raise kind(f"{text}:\n{format_error(error)}" if error else text, id=row["id"], state=state, error=error, exit_code=exit_code)


def no_such_task(task_id: int) -> str:
    return f"expected the id of a task, got {task_id}: there is none, or it was removed. `tq list` shows those there are."


def not_over(ids: Sequence[int], timeout: object) -> TaskTimeout:
    which = f"task {ids[0]}" if len(ids) == 1 else f"{len(ids)} tasks"
    return TaskTimeout(f"expected {which} to be over within {timeout}, but not all is. Nothing was stopped: wait again, or cancel.")


def claim_args(queues: Sequence[str], types: Sequence[str] | None, limit: int, wait: Duration, lease: Duration) -> Body:
    """The arguments of ``claim``, durations in ms."""
    names = None if types is None else [*types]
    return {"queues": [*queues], "types": names, "limit": limit, "wait_ms": duration_ms(wait), "lease_ms": duration_ms(lease)}


def wire_results(results: Sequence[Sequence[Any]]) -> list[list[Any]]:
    """Settles as they travel: the value of a success is packed."""
    rows = []
    for task_id, claim, kind, details in results:
        packed = {**details, "result": encode(details.get("result"), "result")} if kind == "succeeded" else dict(details)
        rows.append([task_id, claim, kind, packed])
    return rows


def watch_args(topics: Sequence[str], ids: Sequence[int] | None, hz: int, offset: int) -> Body:
    """The arguments of ``watch``: an offset belongs to output only, a rate to totals."""
    args: Body = {"topics": [*topics]}
    if ids is not None:
        args["ids"] = [*ids]
    if "totals" in topics:
        args["hz"] = hz
    if "output" in topics:
        args["offset"] = offset
    return args

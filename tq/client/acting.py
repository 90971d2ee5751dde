"""What a person does to tasks, as a client sends it: which tasks are meant, what is changed, how long work ends.

For: what the blocking and the asyncio face share of ``retry``, ``edit``, ``remove`` and chores, without I/O.
Not for: sending (blocking, aio), what becomes of a task (daemon).
Runs in: every process that uses a client.
Promises: words of time in a filter mean the wall clock of this process; a task's changes say nothing that was not given.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Literal, TypedDict, cast

from tq.client.core import Body, Duration, Options, Wishes, encode, wire_options
from tq.errors import TaskTimeout, UsageError
from tq.model import Backoff, brief, duration_ms, is_pattern, priority_of

Act = Literal["cancel", "retry", "edit", "remove", "suspend", "resume"]
READ_WITHIN = 300.0
"""Seconds that a read may take which looks at every task there is."""
EVENTS_MOST = 500
"""Events that are looked through for what a chore did."""
FIRST_PAUSE, LAST_PAUSE, GROWTH = 0.02, 2.0, 1.5


class Which(TypedDict, total=False):
    """Which tasks are meant; they match all that is given. ``where`` is a filter (``tq.query``: ``error:timeout age>1h``),
    ``states`` are words, ``group`` is the name of a group of dead letters."""

    where: str
    queue: str
    type: str
    tenant: str
    states: Sequence[str]
    group: str


class Changes(Wishes, total=False):
    """What may be changed of a task that is there; see ``Options``. ``delay=0`` is now."""

    payload: object


def which_args(which: Mapping[str, Any]) -> Body:
    """The arguments that choose tasks. UsageError if the filter cannot be read, or is an empty text."""
    found = {name: value for name, value in which.items() if value is not None}
    if "where" in found:
        from tq.query import parse  # most programs never filter

        if not found["where"]:
            raise UsageError("where: expected a filter such as 'state:failed age>1h', got an empty text. For all tasks: 'id>0'.")
        found["where"] = str(parse(found["where"], int(time.time() * 1000)))
    return found


def wire_changes(changes: Mapping[str, Any]) -> Body:
    """The changes as they travel. UsageError names one that cannot be."""
    for name in changes:
        if name not in Changes.__annotations__:
            raise UsageError(f"expected what can be changed of a task ({', '.join(Changes.__annotations__)}), got {name!r}")
    found = wire_options(cast(Options, {name: value for name, value in changes.items() if name != "payload"})) or {}
    if "correlation_id" not in changes:
        found.pop("correlation_id", None)  # who changes a task from inside another does not take it over
    if "payload" in changes:
        found["payload"] = encode(changes["payload"])
    return found


class LimitSettings(TypedDict, total=False):
    """A limit: ``scope`` ("queue", "type", "tenant" or "flow") and ``of`` which one (of the last two absent: each by itself); at most
    ``rate`` tasks begin in ``per_ms`` (1000), beside a ``burst`` after a rest; at most ``running`` run at a time; 0: any number.
    ``window``: "sliding" or "fixed" (without burst), or "none". ``adaptive``: "rate" or "running", which then is between ``low`` and
    ``high``: more while tasks go well, ``factor`` hundredths of it (90) when more than ``failures`` in a hundred (10) fail, or over one in
    ten takes longer than ``latency_ms`` (0: any time). ``each``: "worker", of a queue or type: so many on each worker; or "none"."""

    scope: str
    of: str
    rate: int
    per_ms: int
    burst: int
    running: int
    window: str
    adaptive: str
    low: int
    high: int
    latency_ms: int
    failures: int
    factor: int
    each: str


class QueueSettings(TypedDict, total=False):
    """Settings of a queue, as ``tq queue set`` names them. ``paused``: no more of its tasks are handed out.

    ``priority``, ``retries``, ``backoff`` and ``timeout`` are of its tasks that do not say; 0 is no ``timeout``, any number of
    ``slots``, no ``aging``. ``max_bytes`` is a number or text such as ``500M``. ``route`` lists patterns of types that go here
    if a task names no queue. Nothing of it starts while the load average is ``hold_load`` or more, less than ``hold_memory`` is
    available, or ``hold_probe``, a line for the shell that is run each ``hold_every``, exits with another code than 0. ``unset``
    names settings that shall have their default again.
    """

    paused: bool
    external: bool
    weight: int
    slots: int
    aging: Duration
    aging_share: int
    priority: int | str
    retries: int
    backoff: str | Backoff
    timeout: Duration
    max_tasks: int
    max_bytes: int | str
    keep: Duration
    route: Sequence[str]
    hold_load: float
    hold_memory: int | str
    hold_probe: str
    hold_every: Duration
    unset: Sequence[str]


_NAMES = {"aging": "aging_ms", "timeout": "timeout_ms", "keep": "keep_ms", "route": "routes", "hold_every": "hold_every_ms"}
WITH_DEFAULT = {name: _NAMES.get(name, name) for name in QueueSettings.__annotations__ if name not in ("paused", "external", "unset")}
"""Settings that may be unset, and their names in ``tq.wire``."""

_SIZE = re.compile(r"(\d{1,18})([kmgt]?)(?:i?b)?", re.ASCII | re.IGNORECASE)
SIZES = {"": 0, "k": 10, "m": 20, "g": 30, "t": 40}
"""What a letter behind a size shifts it by: the units are those of 1,024."""


def size_of(value: object) -> int:
    """Bytes from a number, or text such as ``500M``, ``1G``, ``4096``. ValueError for anything else."""
    found = _SIZE.fullmatch(value) if isinstance(value, str) else None
    if found:
        return int(found[1]) << SIZES[found[2].lower()]
    if type(value) is int:
        return value
    raise ValueError(f"expected a size such as 500M or 1G, got {value!r}")


def routes_of(patterns: object) -> list[str]:
    """Patterns of types. ValueError names one that could match no type."""
    if isinstance(patterns, str) or not isinstance(patterns, Iterable):
        raise ValueError(f"expected a list of patterns, got {patterns!r}")  # noqa: TRY004 - as all that is said of settings
    found = list(patterns)
    wrong = next((one for one in found if not is_pattern(one)), None)
    if wrong is not None:
        raise ValueError(
            f"expected patterns of types such as report.*, got {brief(wrong)}. Each is a name with * or ? in it: printable, "
            "without spaces, at most 200 bytes. Give several one by one"
        )
    return found


def unset_of(names: object) -> list[str]:
    """Names of settings as ``tq.wire`` has them. ValueError names one that has no default."""
    if isinstance(names, str) or not isinstance(names, Iterable):
        raise ValueError(f"expected a list of settings, got {names!r}")  # noqa: TRY004
    found = []
    for name in names:
        known = WITH_DEFAULT.get(str(name).strip().removeprefix("--").replace("-", "_"))
        if known is None:
            raise ValueError(f"expected settings of a queue that have a default ({', '.join(WITH_DEFAULT)}), got {name!r}")
        found.append(known)
    return found


_SETTINGS: dict[str, Callable[[Any], Any]] = {
    "aging": duration_ms, "timeout": duration_ms, "keep": duration_ms, "priority": priority_of, "max_bytes": size_of,
    "backoff": lambda value: Backoff.of(value).row(), "route": routes_of, "unset": unset_of,
    "hold_memory": size_of, "hold_every": duration_ms,
}  # fmt: skip


def wire_settings(settings: Mapping[str, Any]) -> Body:
    """Settings of a queue as they travel. UsageError names one that cannot be."""
    found: Body = {}
    for name, value in settings.items():
        if name not in QueueSettings.__annotations__:
            from difflib import get_close_matches

            close = get_close_matches(name, QueueSettings.__annotations__, 1)
            hint = f" Did you mean {close[0]!r}?" if close else ""
            raise UsageError(f"expected settings of a queue ({', '.join(QueueSettings.__annotations__)}), got {name!r}.{hint}")
        try:
            if value is not None and value != []:
                found[WITH_DEFAULT.get(name, name)] = _SETTINGS[name](value) if name in _SETTINGS else value
        except ValueError as error:
            raise UsageError(f"{name}: {error}.") from None
    not_both(found)
    return found


def not_both(settings: Body) -> None:
    """UsageError if one of these, as they travel, is to be set and unset."""
    if both := next((name for name, known in WITH_DEFAULT.items() if known in settings and known in settings.get("unset", ())), None):
        raise UsageError(f"expected {both} to be either set or unset, got both. Drop one.")


def act_args(which: Mapping[str, Any], changes: Mapping[str, Any], expected: int | None = None) -> Body:
    """The arguments of a verb that acts on tasks: ``{"ids": [...]}`` or a filter, the changes if there are any, and how many tasks are
    expected if that is known."""
    found = which_args(which)
    return {**found, **({"changes": wire_changes(changes)} if changes else {}), **({} if expected is None else {"expected": expected})}


def pauses() -> Iterator[float]:
    """Seconds between two looks at something that may take a moment or an hour."""
    pause = FIRST_PAUSE
    while True:
        yield pause
        pause = min(pause * GROWTH, LAST_PAUSE)


def chore_of(chore: int, chores: Iterable[Body]) -> Body | None:
    """Where a chore stands; None: it is under way no more."""
    return next((one for one in chores if one["id"] == chore), None)


def chore_goes_on(chore: int, timeout: object) -> TaskTimeout:
    return TaskTimeout(f"expected chore {chore} to be done within {timeout}, but it goes on. Nothing was stopped: wait again.")


def end_of(chore: int, events: Iterable[Body]) -> Body | None:
    """What a chore did, from the newest events; None if it is too long ago."""
    done = next((one for one in events if one["what"] == "chore_done" and one["target"] == str(chore)), None)
    return {"left": {}, **{name: done["after"][name] for name in ("seen", "changed", "left") if name in done["after"]}} if done else None

"""What a person does to tasks, as a client sends it: which tasks are meant, what is changed, how long work ends.

For: what the blocking and the asyncio face share of ``retry``, ``edit``, ``remove`` and chores, without I/O.
Not for: sending (blocking, aio), what becomes of a task (daemon).
Runs in: every process that uses a client.
Promises: words of time in a filter mean the wall clock of this process; a task's changes say nothing that was not given.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Literal, TypedDict, cast

from tq.client.core import Body, Options, Wishes, encode, wire_options
from tq.errors import TaskTimeout, UsageError

Act = Literal["cancel", "retry", "edit", "remove"]
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


def act_args(which: Mapping[str, Any], changes: Mapping[str, Any]) -> Body:
    """The arguments of a verb that acts on tasks: ``{"ids": [...]}`` or a filter, and the changes if there are any."""
    return {**which_args(which), **({"changes": wire_changes(changes)} if changes else {})}


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
    return {name: done["after"][name] for name in ("seen", "changed")} if done else None

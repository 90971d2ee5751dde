"""Arguments: what a verb may be given, checked.

For: kinds, ranges and names in a request's arguments.
Not for: what the verbs do with them (broker).
Runs in: the daemon.
Promises: each refusal is a UsageError that names the verb or argument, what was expected and what came.
"""

from __future__ import annotations

from typing import Any

from tq.errors import UsageError
from tq.model import State, state_named
from tq.store import SCAN_MOST


def arguments(verb: str, given: dict[str, Any], *needed: str, **kinds: type) -> dict[str, Any]:
    """The arguments that are given (nil counts as absent), each of its kind; UsageError says which is not."""
    for name in given:
        if name not in kinds:
            raise UsageError(f"{verb}: expected the arguments {', '.join(kinds)}, got {name!r:.80}.")
    args = {name: value for name, value in given.items() if value is not None}
    for name, value in args.items():
        kind = kinds[name]
        if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
            raise UsageError(f"{verb}: {name}: expected {kind.__name__}, got {value!r:.80}.")
    for name in needed:
        if name not in args:
            raise UsageError(f"{verb}: expected the argument {name}, got none.")
    return args


def between(value: int, low: int, high: int, name: str) -> int:
    if not low <= value <= high:
        raise UsageError(f"{name}: expected a number from {low} to {high}, got {value}.")
    return value


def at_most(rows: list[Any], name: str) -> list[Any]:
    if len(rows) > SCAN_MOST:
        raise UsageError(f"{name}: expected at most {SCAN_MOST}, got {len(rows)}. Send the rest in another request.")
    return rows


def task_ids(values: list[Any]) -> list[int]:
    for value in at_most(values, "ids"):
        if not isinstance(value, int) or isinstance(value, bool) or not 0 < value < 1 << 63:
            raise UsageError(f"ids: expected task numbers, got {value!r:.80}.")
    return values


def some_names(values: list[Any] | None, name: str) -> frozenset[str] | None:
    if values is None:
        return None
    if not all(isinstance(value, str) for value in values):
        raise UsageError(f"{name}: expected texts, got {values!r:.80}.")
    return frozenset(values)


def some_states(values: list[Any] | None) -> frozenset[State] | None:
    if values is None:
        return None
    try:
        return frozenset(state_named(str(value)) for value in values)
    except ValueError as error:
        raise UsageError(f"states: {error}.") from None


def is_claim(row: list[Any]) -> bool:
    return all(isinstance(value, int) and not isinstance(value, bool) and 0 < value < 1 << 63 for value in row[:2])

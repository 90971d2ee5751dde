"""Arguments: what a verb may be given, checked.

For: kinds, ranges and names in a request's arguments; the rows of ``settle``.
Not for: what the verbs do with them (broker).
Runs in: the daemon.
Promises: each refusal is a UsageError that names the verb or argument, what was expected and what came; a name that
passes is a key of any store, a number fits 63 bits, and what is to be stored is bounded and of the kind its readers expect.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import Any

from tq import wire
from tq.errors import ConfigError, UsageError
from tq.model import MAX_DURATION_MS, MAX_ERROR, MAX_NAME, MAX_RESULT, State, brief, is_name, state_named
from tq.query import Filter, from_options
from tq.store import SCAN_MOST, TypeInfo

KINDS = ("succeeded", "failed")


def arguments(verb: str, given: dict[str, Any], *needed: str, **kinds: type) -> dict[str, Any]:
    """The arguments that are given (nil counts as absent), each of its kind, texts being names; UsageError says which is not."""
    for name in given:
        if name not in kinds:
            raise UsageError(f"{verb}: expected the arguments {', '.join(kinds)}, got {brief(name)}.")
    args = {name: value for name, value in given.items() if value is not None}
    for name, value in args.items():
        kind = kinds[name]
        if not isinstance(value, int | float if kind is float else kind) or (kind in (int, float) and isinstance(value, bool)):
            raise UsageError(f"{verb}: {name}: expected {kind.__name__}, got {brief(value)}.")
        if kind is str and name not in ("where", "text", "hold_probe") and not is_name(value):  # these have limits of their own
            raise UsageError(f"{verb}: {name}: expected a name of 1 to {MAX_NAME} bytes, got {brief(value)}.")
    for name in needed:
        if name not in args:
            raise UsageError(f"{verb}: expected the argument {name}, got none.")
    return args


def unknown(what: str, known: Iterable[str], got: str) -> UsageError:
    """There is no ``what`` of that name: which there are, the closest, and the command that shows them."""
    names = sorted(known)
    some = (", ".join(names[:20]) + (", ..." if len(names) > 20 else "")) or "there is none yet"
    close = difflib.get_close_matches(got, names, 1)
    hint = f" Did you mean {close[0]!r}?" if close else ""
    return UsageError(f"expected a {what} ({some:.400}), got {brief(got)}.{hint} `tq {what} list` shows them.")


def between(value: int, low: int, high: int, name: str) -> int:
    if not low <= value <= high:
        raise UsageError(f"{name}: expected a number from {low} to {high}, got {value}.")
    return value


def at_most(rows: list[Any], name: str) -> list[Any]:
    if len(rows) > SCAN_MOST:
        raise UsageError(f"{name}: expected at most {SCAN_MOST}, got {len(rows)}. Send the rest in another request.")
    return rows


def _is_number(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 < value < 1 << 63


def task_ids(values: list[Any]) -> list[int]:
    for value in at_most(values, "ids"):
        if not _is_number(value):
            raise UsageError(f"ids: expected task numbers, got {brief(value)}.")
    return values


def some_names(values: list[Any] | None, name: str) -> frozenset[str] | None:
    """The names; None (any) if there are none."""
    for value in at_most(values or [], name):
        if not is_name(value):
            raise UsageError(f"{name}: expected names of 1 to {MAX_NAME} bytes, got {brief(value)}.")
    return frozenset(values) if values else None


def some_states(values: list[Any] | None) -> frozenset[State] | None:
    if values is None:
        return None
    if not values:
        raise UsageError("states: expected at least one state, got none. Leave it out for any.")
    try:
        return frozenset(state_named(str(value)) for value in values)
    except ValueError as error:
        raise UsageError(f"states: {error!s:.300}.") from None


def filter_of(args: dict[str, Any]) -> Filter:
    """The filter that ``where`` and what was given beside it (queue, type, states, tenant, label) mean together."""
    return from_options(
        states=some_states(args.get("states")),
        queue=args.get("queue"),
        type=args.get("type"),
        tenant=args.get("tenant"),
        label=args.get("label"),
        text=args.get("where") or "",
    )


def claim_of(verb: str, task_id: object, claim: object) -> tuple[int, int]:
    """The fencing token; UsageError unless both are numbers above 0."""
    if isinstance(task_id, int) and isinstance(claim, int) and _is_number(task_id) and _is_number(claim):
        return task_id, claim
    raise UsageError(f"{verb}: expected an id and a claim, numbers above 0, got {brief(task_id)} and {brief(claim)}.")


def claims_of(verb: str, rows: list[Any]) -> list[tuple[int, int]]:
    """``[[id, claim], ...]``, at most SCAN_MOST."""
    for row in at_most(rows, "claims"):
        if not isinstance(row, list) or len(row) != 2:
            raise UsageError(f"{verb}: expected [id, claim], got {brief(row)}.")
    return [claim_of(verb, *row) for row in rows]


def results_of(rows: list[Any]) -> list[tuple[int, int, str, dict[str, Any]]]:
    """The rows of ``settle``: ids and claims, the kind, and of the details only what belongs to it, checked."""
    found = []
    for row in at_most(rows, "results"):
        if not (isinstance(row, list) and len(row) == 4 and row[2] in KINDS and isinstance(row[3], dict | None)):
            raise UsageError(f"settle: expected [id, claim, {' or '.join(KINDS)}, details], got {brief(row)}.")
        details = row[3] or {}
        checked = {"result": _result(details.get("result"))} if row[2] == "succeeded" else _failure(details)
        found.append((*claim_of("settle", *row[:2]), str(row[2]), checked))
    return found


def _result(value: object) -> bytes | None:
    if value is None or (isinstance(value, bytes) and len(value) <= MAX_RESULT):
        return value
    raise UsageError(f"settle: result: expected at most {MAX_RESULT} bytes of packed msgpack, got {brief(value)}.")


def _failure(details: dict[str, Any]) -> dict[str, Any]:
    error, delay_ms = details.get("error"), details.get("delay_ms")
    exit_code, permanent = details.get("exit_code"), details.get("permanent")
    if error is not None:
        sound = isinstance(error, dict) and error.keys() == {"type", "message"} and all(isinstance(text, str) for text in error.values())
        if not sound or len(wire.pack(error)) > MAX_ERROR:
            raise UsageError(f"settle: error: expected a map of the texts type and message, at most {MAX_ERROR} bytes, got {brief(error)}.")
    for name, value, low, high in (("delay_ms", delay_ms, 0, MAX_DURATION_MS), ("exit_code", exit_code, -255, 255)):
        if value is not None and not (isinstance(value, int) and not isinstance(value, bool) and low <= value <= high):
            raise UsageError(f"settle: {name}: expected a number from {low} to {high}, got {brief(value)}.")
    if not isinstance(permanent, bool | None):
        raise UsageError(f"settle: permanent: expected true or false, got {brief(permanent)}.")
    return {"error": error, "delay_ms": delay_ms, "exit_code": exit_code, "permanent": bool(permanent)}


def named(info: TypeInfo) -> TypeInfo:
    """A type of a worker's hello, if its names may stand in a store; ConfigError says which may not."""
    if is_name(info.name) and (info.queue is None or is_name(info.queue)):
        return info
    raise ConfigError(f"task {info.name!r:.80}: expected a name and a queue of 1 to 200 bytes. Give shorter ones.")

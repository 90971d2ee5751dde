"""Limits as ``tq.toml`` declares them: ``[limits.NAME]`` turned into what ``set_limit`` takes, and checked as that checks it.

For: the daemon's start and ``tq config check``.
Not for: reading the file (config.tables), changing the store (limits).
Runs in: the daemon at its start, and commands about settings.
Promises: a key is an option of ``tq limit set``, with the value that it has there; what cannot be is a ConfigError that names the
file, the limit, and the closest key that there is.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping
from typing import Any

from tq.broker.limits import LIMITS_MOST, limit_of
from tq.errors import ConfigError, UsageError
from tq.model import brief, duration_ms
from tq.rates import between_numbers, between_rates, factor_of, percent_of, rate_of

DeclaredLimits = dict[str, dict[str, Any]]
"""By name, what ``set_limit`` is to be told beside it."""
_WHOSE = ("queue", "type", "tenant", "each")
_NUMBERS: dict[str, tuple[str, Callable[[object], Any]]] = {
    "burst": ("burst", lambda value: value), "window": ("window", lambda value: value), "latency": ("latency_ms", duration_ms),
    "failures": ("failures", percent_of), "factor": ("factor", factor_of),
}  # fmt: skip
KEYS = (*_WHOSE, "rate", "running", "adaptive", *_NUMBERS)


def declared_limits(source: object, tables: Mapping[str, Mapping[str, Any]]) -> DeclaredLimits:
    """What the tables of a file mean; ``source`` is its path. ConfigError names what cannot be."""
    if len(tables) > LIMITS_MOST:
        raise ConfigError(f"{source}: [limits]: expected at most {LIMITS_MOST} limits, got {len(tables)}. Drop some.")
    found: DeclaredLimits = {}
    for name, table in tables.items():
        try:
            found[name] = _wire(table)
            limit_of("set_limit", {"name": name, **found[name]}, {})
        except (UsageError, ValueError) as error:
            raise ConfigError(f"{source}: [limits.{name}]: {str(error).removeprefix('set_limit: ')}") from None
    return found


def _wire(table: Mapping[str, Any]) -> dict[str, Any]:
    """A rule as it travels."""
    for key in table:
        if key not in KEYS:
            close = difflib.get_close_matches(key, KEYS, 1)
            hint = f"Did you mean {close[0]!r}?" if close else f"The settings of a limit are: {', '.join(KEYS)}."
            raise UsageError(f"expected a setting of a limit, got {key!r}. {hint}")
    whose = [key for key in _WHOSE if key in table]
    each = {"each": "worker"} if table.get("each") == "worker" else {}
    whose = [key for key in whose if not (each and key == "each")]
    if len(whose) != 1:
        raise UsageError(f"expected one of {', '.join(_WHOSE)}, got {' and '.join(whose) or 'none'}.")
    (key,) = whose
    if key == "each" and table[key] not in ("tenant", "flow"):
        raise UsageError(f"each: expected tenant, flow or worker, got {brief(table[key])}.")
    rule = {**each, "scope": table[key]} if key == "each" else {**each, "scope": key, "of": table[key]}
    for key, (word, read) in _NUMBERS.items():
        if key in table:
            rule[word] = _read(key, read, table[key])
    return rule | _levels(table)


def _levels(table: Mapping[str, Any]) -> dict[str, Any]:
    """What it says of how many: fixed numbers, or one between two."""
    adaptive = table.get("adaptive", False)
    ranges = [key for key in ("rate", "running") if isinstance(table.get(key), str) and ".." in table[key]]
    if not isinstance(adaptive, bool):
        raise UsageError(f"adaptive: expected true or false, got {brief(adaptive)}.")
    if len(ranges) != adaptive:
        raise UsageError(
            f"adaptive: expected {'one range' if adaptive else 'true beside a range'}, running = '1..50' or rate = '10/s..500/s'."
        )
    rule: dict[str, Any] = {"adaptive": ranges[0]} if ranges else {}
    if "rate" in ranges:
        rule["low"], rule["high"], rule["per_ms"] = _read("rate", between_rates, table["rate"])
    elif "rate" in table:
        rule["rate"], rule["per_ms"] = _read("rate", rate_of, table["rate"])
    if "running" in ranges:
        rule["low"], rule["high"] = _read("running", between_numbers, table["running"])
    elif "running" in table:
        rule["running"] = table["running"]
    return rule


def _read(key: str, read: Callable[[Any], Any], value: object) -> Any:
    try:
        return read(value)
    except ValueError as error:
        raise UsageError(f"{key}: {error}") from None

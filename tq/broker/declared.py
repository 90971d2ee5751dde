"""Queues as ``tq.toml`` declares them: ``[queues.NAME]`` turned into settings, checked as ``set_queue`` checks them.

For: the daemon's start and ``tq config check``.
Not for: reading the file (config.tables), changing the store (lines).
Runs in: the daemon at its start, and commands about settings.
Promises: a key is one of ``tq queue set`` or a usual word for one (``workers`` for ``slots``); what cannot be is a
ConfigError that names the file, the queue, and the closest key that there is.

The file and ``tq queue set`` both set: what the file names holds from each start of the daemon on, what it does not name
stays as it was set. A setting that the file named and names no more has its default again, unless it was set since.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from typing import Any

from tq.broker.lines import checked_settings
from tq.client.acting import QueueSettings, wire_settings
from tq.errors import ConfigError, UsageError
from tq.model import Backoff, duration_ms, is_name

Declared = dict[str, dict[str, Any]]
"""By queue, settings by their names in ``tq.wire``."""
WORDS = {"workers": "slots", "max_retries": "retries", "retry_strategy": "backoff", "default_timeout": "timeout"}
"""Usual words for settings."""
_DELAYS = ("retry_delay", "max_delay", "jitter")
KEYS = (*(name for name in QueueSettings.__annotations__ if name not in ("paused", "unset")), *_DELAYS)


def declared_queues(source: object, queues: Mapping[str, Mapping[str, Any]]) -> Declared:
    """What the tables of a file mean; ``source`` is its path. ConfigError names what cannot be."""
    found: Declared = {}
    for queue, table in queues.items():
        try:
            if not is_name(queue):
                raise UsageError("expected a name of 1 to 200 bytes")
            found[queue] = checked_settings("set_queue", {"name": queue, **_wire(table)})[1]
        except (UsageError, ValueError) as error:
            raise ConfigError(f"{source}: [queues.{queue}]: {str(error).removeprefix('set_queue: ')}") from None
    return found


def _wire(table: Mapping[str, Any]) -> dict[str, Any]:
    """The settings as they travel."""
    named: dict[str, Any] = {}
    for key, value in table.items():
        name = WORDS.get(key, key)
        if name not in KEYS:
            close = difflib.get_close_matches(key, (*KEYS, *WORDS), 1)
            hint = f"Did you mean {close[0]!r}?" if close else f"The settings of a queue are: {', '.join(KEYS)}."
            raise UsageError(f"expected a setting of a queue, got {key!r}. {hint}")
        if name in named:
            raise UsageError(f"expected {name} once, got it as {key} too. Drop one.")
        named[name] = value
    delays = {name: named.pop(name) for name in _DELAYS if name in named}
    if delays:
        named["backoff"] = _backoff(named.get("backoff", "exponential"), **delays)
    return wire_settings(named)


def _backoff(kind: str, retry_delay: object = "1s", max_delay: object = None, jitter: object = True) -> Backoff:
    """As the options of ``tq queue set`` say it."""
    if not isinstance(jitter, bool):
        raise UsageError(f"jitter: expected true or false, got {jitter!r}.")
    base, usual = duration_ms(retry_delay), Backoff.of(kind)
    cap = max(usual.cap_ms, base) if max_delay is None else duration_ms(max_delay)
    return Backoff(kind, base, usual.factor, cap, jitter)

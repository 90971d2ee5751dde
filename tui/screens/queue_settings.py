"""The settings of a queue as people write them: each in words for the form, and from words for the daemon.

For: ``SETTINGS``, ``texts_of`` (a row of ``queues`` as texts) and ``changes_of`` (texts as arguments of ``set_queue``).
Not for: whether a setting can be carried out (the daemon says), the form (widgets.form), pausing (queues).
Runs in: the monitor; pure.
Promises: what is written and read again is the same value; a setting whose text is as it was is not sent; an empty one has its default
again; what cannot be meant is a ValueError that names the setting, what was expected and what came.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from tq.client.acting import SIZES, routes_of, size_of
from tq.config.tables import spoken
from tq.errors import UsageError
from tq.model import Backoff, duration_ms, priority_of


def _bytes(number: int) -> str:
    letter, shift = max(((letter, shift) for letter, shift in SIZES.items() if number % (1 << shift) == 0), key=lambda one: one[1])
    return f"{number >> shift}{letter.upper()}" if number else "0"


def _whole(text: str) -> int:
    if not re.fullmatch(r"\d{1,19}", text, re.ASCII):
        raise ValueError(f"expected a whole number, got {text!r}")
    return int(text)


def _load(text: str) -> float:
    if not re.fullmatch(r"\d{1,9}(\.\d{1,6})?", text, re.ASCII):
        raise ValueError(f"expected a load average such as 4 or 2.5, got {text!r}")
    return float(text)


def _yes(text: str) -> bool:
    if text not in ("yes", "no"):
        raise ValueError(f"expected yes or no, got {text!r}")
    return text == "yes"


_BACKOFF = re.compile(r"(fixed|linear|exponential)(?: (\S+?))?(?: x(\d+(?:\.\d+)?))?(?: to (\S+?))?( without jitter)?", re.ASCII)


def _backoff(text: str) -> list[Any]:
    found = _BACKOFF.fullmatch(" ".join(text.split()))
    if found is None:
        raise ValueError(f"expected such as exponential 1s to 5m, or fixed 30s, got {text!r}")
    kind, first, factor, most, plain = found.groups()
    usual = Backoff(kind)
    base = usual.base_ms if first is None else duration_ms(first)
    grows = (2.0 if factor is None else float(factor)) if kind == "exponential" else 1.0
    cap = base if kind == "fixed" else max(usual.cap_ms if most is None else duration_ms(most), base)
    return [kind, base, grows, cap, plain is None]


def _backoff_text(row: Any) -> str:
    kind, base, factor, cap, jitter = row
    grows = f" x{factor:g}" if kind == "exponential" and factor != 2 else ""
    most = f" to {spoken(cap)}" if kind != "fixed" else ""
    return f"{kind} {spoken(base)}{grows}{most}{'' if jitter else ' without jitter'}"


@dataclass(frozen=True, slots=True)
class Setting:
    """One setting: its name on the wire, its label, what may be written, and both directions."""

    name: str
    label: str
    hint: str
    read: Callable[[str], Any]
    write: Callable[[Any], str]


SETTINGS = (
    Setting("slots", "slots", "tasks that may run at once; 0: any number", _whole, str),
    Setting("weight", "weight", "its share beside others, 1 to 100", _whole, str),
    Setting("external", "external", "yes: only consumers outside the pool take from it", _yes, lambda value: "yes" if value else "no"),
    Setting("priority", "priority", "of tasks that do not say: 0 to 9, or low, normal, high", priority_of, str),
    Setting("retries", "retries", "of tasks that do not say", _whole, str),
    Setting("backoff", "backoff", "exponential 1s to 5m, linear 10s to 1h, fixed 30s", _backoff, _backoff_text),
    Setting("timeout_ms", "timeout", "of tasks that do not say: 30s, 5m; 0: none", duration_ms, spoken),
    Setting("aging_ms", "aging", "waits so long before it passes others: 1m; 0: never", duration_ms, spoken),
    Setting("aging_share", "aging share", "one start in so many is the longest waiting; 0: none", _whole, str),
    Setting("max_tasks", "max tasks", "unfinished tasks it takes", _whole, str),
    Setting("max_bytes", "max bytes", "of unfinished tasks: 500M, 1G", size_of, _bytes),
    Setting("keep_ms", "keep", "finished tasks so long: 1h, 7d; 0: not at all", duration_ms, spoken),
    Setting("routes", "routes", "types that come here: report.* mail.*", lambda text: routes_of(text.split()), " ".join),
    Setting("hold_load", "hold: load", "nothing starts from this load average on: 4", _load, lambda value: f"{value:g}"),
    Setting("hold_memory", "hold: memory", "nothing starts while less is available: 2G", size_of, _bytes),
    Setting("hold_probe", "hold: probe", "nothing starts unless this line of sh exits with 0", str, str),
    Setting("hold_every_ms", "hold: every", "how often the probe runs: 10s", duration_ms, spoken),
)
LABELS = {one.name: one.label for one in SETTINGS}


def texts_of(row: Mapping[str, Any]) -> dict[str, str]:
    """What stands in the form, by the names of the wire; "": nothing is set."""
    return {one.name: "" if row.get(one.name) in (None, [], ()) else one.write(row[one.name]) for one in SETTINGS}


def changes_of(row: Mapping[str, Any], texts: Mapping[str, str]) -> dict[str, Any]:
    """What makes a queue that is as ``row`` as the texts say; empty if it is so."""
    before, found, unset = texts_of(row), dict[str, Any](), []
    for one in SETTINGS:
        text = texts[one.name].strip()
        if text == before[one.name]:
            continue
        if not text and one.name != "external":
            unset.append(one.name)
            continue
        try:
            found[one.name] = one.read(text or "no")
        except (ValueError, UsageError) as error:
            raise ValueError(f"{one.label}: {error}") from None
    return {**found, **({"unset": unset} if unset else {})}


def back_to(row: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """What makes a queue as ``row`` again that was changed so."""
    names = [name for name in changes if name != "unset"] + list(changes.get("unset", ()))
    values = {name: row.get(name) for name in names}
    unset = [name for name, value in values.items() if value is None or (name == "routes" and not value)]
    kept = {name: list(value) if isinstance(value, tuple) else value for name, value in values.items() if name not in unset}
    return {**kept, **({"unset": unset} if unset else {})}

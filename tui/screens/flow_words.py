"""Limits and breakers in words: what holds the tasks of a queue beside its own settings, and limits as they are typed.

For: ``limits_of`` and ``breakers_of`` (which have to do with a queue), a line for each, ``texts_of`` and ``changes_of`` for the form.
Not for: asking and setting (flow_acts), what opens a breaker and when a limit is reached (the daemon).
Runs in: the monitor; pure.
Promises: a limit that counts each tenant or flow key by itself is told with a queue only while somebody has reached it; what is typed
and cannot be meant is a ValueError with what was expected; what is not changed is not sent.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping
from typing import Any

from tq.config.tables import spoken
from tq.errors import UsageError
from tq.model import duration_ms
from tui.formats import Glyphs, age, clip, counted, duration
from tui.widgets.form import Field

Body = dict[str, Any]
Run = tuple[str, str]
EACH = {"tenant": "tenant", "flow": "flow key"}
NAMES_TOLD = 4
STATES = {"closed": "closed", "open": "open", "half_open": "half open"}
_UNITS = {1000: "s", 60_000: "m", 3_600_000: "h", 86_400_000: "d"}
_RATE = re.compile(r"(\d{1,7})/(\S+?)(?: (\S+))?", re.ASCII)
_OPTIONAL = {"window": (), "adaptive": ("low", "high", "latency_ms", "failures", "factor")}
"""Ways of a limit that may be "none", and what belongs to each."""


def limits_of(queue: str, types: Collection[str], limits: Iterable[Body]) -> list[Body]:
    """The limits that have to do with a queue to which these types come; those that are reached first."""
    found = [
        one for one in limits
        if (one["scope"] == "queue" and one["of"] == queue) or (one["scope"] == "type" and one["of"] in types)
        or (one["scope"] not in ("queue", "type") and reached(one))
    ]  # fmt: skip
    return sorted(found, key=lambda one: (not reached(one), one["name"]))


def reached(limit: Body) -> list[Body]:
    """By whom a limit is reached."""
    return [one for one in limit["used"] if one["reached"]]


def whom(limit: Mapping[str, Any]) -> str:
    """Whose tasks it counts: ``queue mail``, ``each tenant``."""
    scope = str(limit["scope"])
    return f"{scope} {limit['of']}" if limit["of"] is not None else f"each {EACH.get(scope, scope)}"


def rate_text(limit: Mapping[str, Any]) -> str:
    """A rate as it is typed: ``100/m``; "" for none."""
    if not limit["rate"]:
        return ""
    window = limit.get("window") or "none"
    return f"{limit['rate']}/{_UNITS.get(limit['per_ms']) or spoken(limit['per_ms'])}" + (f" {window}" if window != "none" else "")


def limit_line(limit: Body, glyphs: Glyphs, now_ms: int) -> list[Run]:
    """A limit, how far it is used, and since whom it holds."""
    rule = [rate_text(limit), f"{limit['running']:,} at a time" if limit["running"] else ""]
    running = sum(one["running"] for one in limit["used"])
    told = f"{limit['name']}: {whom(limit)} {', '.join(filter(None, rule))}, {running:,} running"
    held = reached(limit)
    if not held:
        return [(told, "text")]
    opens = min((one["opens_at"] for one in held if one["opens_at"] > now_ms), default=0)
    when = "; the next when one of them ends" if limit["running"] else ""
    if opens:
        when = f"; the next in {duration(-((now_ms - opens) // 1000) * 1000)}"
    names = ", ".join(str(one["of"]) for one in held[:NAMES_TOLD])
    names += f" and {len(held) - NAMES_TOLD} more" if len(held) > NAMES_TOLD else ""
    return [(f"{told}   ", "text"), (f"{glyphs.warn} reached{f' by {names}' if limit['of'] is None else ''}{when}", "warn")]


def breakers_of(types: Collection[str], breakers: Iterable[Body]) -> list[Body]:
    """The breakers of these types that are not closed."""
    return [one for one in breakers if one["type"] in types and one["state"] != "closed"]


def breaker_line(breaker: Body, glyphs: Glyphs, now_ms: int) -> list[Run]:
    """A breaker that is not closed, since when and why."""
    what = f"of type {breaker['type']}" if breaker["type"] else str(breaker["name"])
    left = f", {duration(max(breaker['until'] - now_ms, 0) // 1000 * 1000)} more" if breaker["until"] else ", until it is reset"
    state = f"open for {age(now_ms - breaker['since'])}{left}" if breaker["state"] == "open" else "half open: some run as probes"
    return [(f"{glyphs.paused} breaker {what} is {state}: {clip(breaker['why'], 100)}", "paused")]


def called(breaker: Body) -> str:
    """A breaker as the command line names it: ``smtp``, or ``type:email``."""
    return f"type:{breaker['type']}" if breaker["type"] else str(breaker["name"])


def breaker_note(breaker: Body) -> str:
    """State and counts of a breaker, for a list of them."""
    lately = f", {breaker['failed']} of {counted(breaker['calls'], 'call')} failed" if breaker["calls"] else ""
    return f"{STATES.get(breaker['state'], breaker['state'])}, {breaker['row']} in a row{lately}   {breaker['rule']}"


# as it is typed


def texts_of(limit: Mapping[str, Any] | None, queue: str = "") -> dict[str, str]:
    """What stands in the form; None: of a new one, of this queue."""
    if limit is None:
        return {"name": "", "whom": f"queue {queue}" if queue else "", "rate": "", "burst": "", "running": ""}
    each = f"each {limit['scope']}"
    return {
        "name": str(limit["name"]), "whom": f"{limit['scope']} {limit['of']}" if limit["of"] is not None else each,
        "rate": rate_text(limit), "burst": str(limit["burst"]) if limit["rate"] else "",
        "running": str(limit["running"]) if limit["running"] else "",
    }  # fmt: skip


def fields_of(texts: Mapping[str, str], *, new: bool) -> list[Field]:
    """The fields of the form."""
    hints = {
        "name": "what it is called" if new else "another name makes another limit",
        "whom": "queue mail, type email, tenant acme, each tenant or each flow",
        "rate": "so many begin in a time: 500/s, 100/m, 5/10s; empty: any number",
        "burst": "so many at once after a rest; empty: of a second",
        "running": "so many run at a time; empty: any number",
    }  # fmt: skip
    labels = {"running": "at a time"}
    return [Field(name, labels.get(name, name), text, hints[name]) for name, text in texts.items()]


def _rate(text: str) -> Body:
    found = _RATE.fullmatch(text)
    try:
        if found is None or not int(found[1]):
            raise ValueError
        per = found[2] if found[2][0].isdigit() else f"1{found[2]}"
        return {"rate": int(found[1]), "per_ms": max(duration_ms(per), 1), **({"window": found[3]} if found[3] else {})}
    except (ValueError, UsageError):
        raise ValueError(f"rate: expected such as 500/s, 100/m or 5/10s, got {text!r:.60}") from None


def _whole(name: str, text: str) -> int:
    if not re.fullmatch(r"\d{1,10}", text, re.ASCII):
        raise ValueError(f"{name}: expected a whole number, got {text!r:.60}")
    return int(text)


def changes_of(before: Mapping[str, str] | None, texts: Mapping[str, str]) -> Body:
    """The arguments of ``set_limit`` that make what is typed of what was there; empty if nothing was changed."""
    new = {name: text.strip() for name, text in texts.items()}
    if not new["name"]:
        raise ValueError("name: expected what the limit is called, got nothing")
    old = before if before is not None and before["name"] == new["name"] else {}
    changed = {name for name, text in new.items() if text != old.get(name, "")} - {"name"}
    found: Body = {}
    if "whom" in changed:
        scope, _, of = new["whom"].partition(" ")
        if not of.strip():
            raise ValueError(f"whom: expected such as queue mail, type email, each tenant or each flow, got {new['whom']!r:.60}")
        found |= {"scope": of.strip()} if scope == "each" else {"scope": scope, "of": of.strip()}
    if changed & {"rate", "burst"}:
        found |= _rate(new["rate"]) if new["rate"] else {"rate": 0}
        if new["rate"] and new["burst"] and ("burst" in changed or "rate" not in changed):
            found["burst"] = _whole("burst", new["burst"])
    if "running" in changed:
        found["running"] = _whole("at a time", new["running"]) if new["running"] else 0
    return {"name": new["name"], **found} if found else {}


def back_to(limit: Mapping[str, Any]) -> Body:
    """The arguments of ``set_limit`` that make a limit as it is."""
    found = {name: value for name, value in limit.items() if name != "used" and value is not None}
    if (found.get("window") or "none") != "none":
        found.pop("burst", None)
    for way, more in _OPTIONAL.items():
        if found.get(way, "none") == "none":
            for name in (way, *more):
                found.pop(name, None)
    return found


def span_of(text: str) -> Body:
    """For how long a breaker is to be open; nothing for "", until it is reset. ValueError: no such time."""
    if not text.strip():
        return {}
    try:
        return {"for_ms": max(duration_ms(text.strip()), 1)}
    except (ValueError, UsageError):
        raise ValueError(f"expected a time such as 10m, or nothing for until it is reset, got {text.strip()!r:.60}") from None

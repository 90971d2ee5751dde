"""What may stand at a place of a filter that is being written.

For: ``complete`` of the daemon, and who asks it: shells at each Tab, the line of the monitor.
Not for: which values there are (the daemon knows), whether the text is a filter (reading).
Runs in: the daemon, on the thread of its loop.
Promises: pure; any text, however unfinished, has a place at each column; a choice put into its place is read as what it says.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import NamedTuple

from tq.model import PRIORITIES
from tq.query.terms import FIELDS, JOINING, NAMES, TEXTS, field_of, written

NOTES: dict[str, str] = {
    "id": "number", "parent": "id of a task that it waits for", "state": "where it stands", "queue": "the line it waits in",
    "type": "name of its handler", "priority": "0 to 9, higher runs first", "label": "what it was called", "tenant": "whose it is",
    "batch": "number of the batch it belongs to",
    "worker": "who runs it, or ran it last", "flow": "key that limits count by", "order": "ordering key",
    "correlation": "what it belongs to", "key": "names its request", "unique": "names what it is about",
    "error": "part of its last error", "exit": "code of a command", "attempt": "runs that began",
    "failures": "runs that failed", "crashes": "workers that died under it", "interrupts": "runs cut short",
    "size": "bytes of the payload", "created": "when it was sent", "due": "when it is to run", "started": "when it last began",
    "finished": "when it ended", "expires": "when it is too late", "age": "since it was sent", "wait": "ready until it began",
    "run": "how long its last attempt took",
}  # fmt: skip
"""A few words for each field."""
_COMPARED = ("duration", "instant")
"""Kinds of fields that hardly any task has to the millisecond, so that a sign is offered that compares."""
_LENGTHS, _SPANS = ("30s", "5m", "1h", "1d", "7d"), ("0s..1m", "1m..1h", "1h..1d", "1d..7d")
_SINCE, _DAYS = ("-5m", "-1h", "-1d", "-7d", "today", "yesterday"), ("today", "yesterday", "-1h..now", "-1d..now")
_SIZES = ("1k", "64k", "1m")

_SIGNED = re.compile(r"([^\W\d][\w.-]*)(:|!=|>=|<=|=|>|<)")
_WORD = re.compile(r"[^\s()]*")
_BARE = re.compile(r"[^\s(),]*")

Choice = tuple[str, str]
"""A text, and a note to it."""


class Place(NamedTuple):
    """From ``start`` to ``end`` something may be put in: a term, or a value of ``field`` behind ``sign`` or ".." ("?": of none there is);
    ``typed`` is what stands there up to the cursor, without quotes. ``first``: no term stands before it. Columns count from 0."""

    start: int
    end: int
    typed: str
    field: str = ""
    sign: str = ""
    first: bool = False


def place_of(text: str, at: int) -> Place:
    """What stands at column ``at``, 0 to the length of the text."""
    begin, first = 0, True
    while begin < at:
        if text[begin].isspace() or text[begin] in "()-":
            begin += 1
            continue
        end, place = _term(text, begin, at)
        if place is not None:
            return place._replace(first=first)
        begin, first = max(end, begin + 1), text[begin:end] in ("AND", "OR", "NOT")
    signed = _SIGNED.match(text, at)
    found = signed or _WORD.match(text, at)
    joined = text[at : at + 1] in ("'", '"', "-")  # what follows is not a name
    return Place(at, at if joined or found is None else found.end(), "", first=first)


def _term(text: str, start: int, at: int) -> tuple[int, Place | None]:
    """Where the term that begins here ends, and the place if the column is in it."""
    signed = _SIGNED.match(text, start)
    if signed is None:
        end = _quoted_to(text, start) if text[start] in "'\"" else start + len(_WORD.match(text, start)[0])  # type: ignore[index]
        found = Place(start, end, text[start:at], "?" if text[start] in "'\"" else "")
        return end, found if at <= end else None
    if at < signed.end():
        return signed.end(), Place(start, signed.end(), text[start:at])
    name = signed[1].lower().replace("-", "_")
    field = NAMES.get(name) or (name[:5] + signed[1][5:] if name.startswith("meta.") and len(name) > 5 else "")
    ranged = field != "" and field_of(field).kind not in (*TEXTS, "state")
    begin, sign = signed.end(), signed[2]
    while True:
        end = _value_to(text, begin, ranged)
        if begin <= at <= end:
            typed = re.sub(r"\\(.)", r"\1", text[begin + 1 : at]) if text[begin : begin + 1] in ("'", '"') else text[begin:at]
            return end, Place(begin, end, typed, field or "?", sign)
        if ranged and text.startswith("..", end):
            begin, sign = end + 2, ".."
        elif text.startswith(",", end):
            begin, sign = end + 1, signed[2]
        else:
            return end, None


def _quoted_to(text: str, start: int) -> int:
    """Behind the quote that closes the one at ``start``; the end of the text, if none does."""
    found = re.compile(rf"{text[start]}(?:[^{text[start]}\\]|\\.)*{text[start]}?", re.DOTALL).match(text, start)
    return len(text) if found is None else found.end()


def _value_to(text: str, start: int, ranged: bool) -> int:
    if text[start : start + 1] in ("'", '"'):
        return _quoted_to(text, start)
    found = _BARE.match(text, start)
    end = start if found is None else found.end()
    dots = text.find("..", start, end) if ranged else -1
    return end if dots < 0 else dots


def fields_at(place: Place, keys: Iterable[str] = ()) -> list[Choice]:
    """The fields, ``keys`` of meta among them, and joining words that may stand there."""
    typed = place.typed.lower()
    found = [(_opening(name), NOTES[name]) for name in FIELDS if name.startswith(typed)]
    others = ((name, field) for name, field in NAMES.items() if typed and name.startswith(typed) and not field.startswith(typed))
    found += [(_opening(name), NOTES[field]) for name, field in others]
    found += [(f"meta.{key}:", "meta") for key in keys if f"meta.{key}".lower().startswith(typed) and re.fullmatch(r"[\w.-]+", key)]
    words = [word.upper() for word in JOINING if word.startswith(typed) and (word == "not" or not place.first)]
    return found + [(word, "") for word in words]


def _opening(name: str) -> str:
    return name + (">" if FIELDS[NAMES[name]].kind in _COMPARED else ":")


def fixed_values(place: Place) -> list[Choice]:
    """The values that are the same whatever tasks there are."""
    kind, compared = field_of(place.field).kind, place.sign not in (":", "=", "!=")
    if kind == "priority":
        return [(name, str(number)) for name, number in sorted(PRIORITIES.items(), key=lambda one: -one[1])]
    found = {"duration": _LENGTHS if compared else _SPANS, "instant": _SINCE if compared else _DAYS, "size": _SIZES}.get(kind, ())
    return [(text, "") for text in found]


def values_at(place: Place, values: Iterable[Choice]) -> list[Choice]:
    """Of these values those that go on from what is typed, then those that have it inside, as they are written in a filter."""
    typed, named = place.typed.lower(), place.field != "" and field_of(place.field).kind in TEXTS
    begun = [(text, note) for text, note in values if typed in text.lower()]
    begun.sort(key=lambda one: not one[0].lower().startswith(typed))
    return [(written(text) if named else text, note) for text, note in begun]

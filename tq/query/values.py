"""The values of fields that have an order: from their words to numbers.

For: ``tq.query.reading``.
Not for: where in a filter a word stands (reading), texts and patterns.
Runs in: every process that reads a filter.
Promises: pure; a word is a Span or a ValueError whose text says what was expected, and nothing else.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import tzinfo

from tq.instants import span_ms
from tq.model import STATES, duration_ms, priority_of, state_named
from tq.query.terms import Span

MAX_NUMBER = (1 << 63) - 1
_NUMBER = re.compile(r"-?\d{1,19}", re.ASCII)
_SIZE = re.compile(r"(\d{1,19})([kmg]?)(?:i?b)?", re.ASCII | re.IGNORECASE)
_SIZES = {"": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30}


def span_of(kind: str, word: str, now: int | None, zone: tzinfo | None) -> Span:
    """What a word means for a field of this kind, from its first to its last number: a date is a whole day."""
    if kind == "instant":
        return _instant(word, now, zone)
    number = _KINDS[kind](word)
    return Span(number, number)


def _number(word: str) -> int:
    if _NUMBER.fullmatch(word) and abs(int(word)) <= MAX_NUMBER:
        return int(word)
    raise ValueError("a whole number")


def _size(word: str) -> int:
    found = _SIZE.fullmatch(word)
    size = int(found[1]) * _SIZES[found[2].lower()] if found else MAX_NUMBER + 1
    if size > MAX_NUMBER:
        raise ValueError("a size in bytes such as 500, 64k or 2m")
    return size


def _priority(word: str) -> int:
    try:
        return priority_of(word)
    except ValueError:
        raise ValueError("a priority from 0 to 9, or low, medium, high, critical") from None


def _state(word: str) -> int:
    try:
        return int(state_named(word))
    except ValueError:
        near = [at for at, one in enumerate(STATES) if one.startswith(word.lower())]
        if len(near) == 1:
            return near[0]
        raise ValueError(f"a state ({', '.join(STATES)})") from None


def _duration(word: str) -> int:
    try:
        return duration_ms(word)
    except ValueError:
        raise ValueError("a duration such as 30s, 5m, 1h30m or 2d") from None


_KINDS: dict[str, Callable[[str], int]] = {
    "number": _number, "size": _size, "priority": _priority, "state": _state, "duration": _duration,
}  # fmt: skip


def _instant(word: str, now: int | None, zone: tzinfo | None) -> Span:
    if word == "now":
        return Span(0, 0, 1, 1)
    signed = word[:1] in ("-", "+")
    length = _length(word[1:] if signed else word)
    if length is not None:
        if not signed:
            raise ValueError(f"-{word} (so long ago) or +{word} (from now on)")
        length = -length if word[0] == "-" else length
        return Span(length, length, 1, 1)
    try:
        return Span(*span_ms(word, now, zone, past=True))
    except ValueError as error:
        expected = str(error).removeprefix("expected ").rpartition(", got ")[0]
        raise ValueError(f"{expected}, or -1h for an hour ago") from None


def _length(word: str) -> int | None:
    """Milliseconds, if the word is a duration with a unit."""
    try:
        return None if word.isdecimal() else duration_ms(word)
    except ValueError:
        return None

"""Words: names, priorities and durations as people and programs write them, and their text made safe for a terminal.

For: everybody who takes a word from outside, or shows one. The rooms above take these from ``tq.model``.
Not for: what the words are about.
Runs in: the daemon, the workers and every client but the thin path of the command line.
Promises: what is none is a ValueError that says what was expected and what came; ``safe_text`` leaves nothing in a text that could
steer a terminal.
"""

from __future__ import annotations

import re
import reprlib
from datetime import timedelta

MAX_NAME = 200
PRIORITIES = {"low": 0, "medium": 1, "normal": 1, "high": 2, "critical": 3}


def is_name(value: object) -> bool:
    """Whether ``value`` is a text that every store takes as a key: 1 to MAX_NAME bytes of UTF-8."""
    return isinstance(value, str) and 0 < len(value) <= MAX_NAME and len(value.encode(errors="surrogatepass")) <= MAX_NAME


def is_pattern(value: object) -> bool:
    """Whether ``value`` may stand for names of types, as ``report.*`` does: printable, and without spaces (``?`` matches one)."""
    return isinstance(value, str) and is_name(value) and value.isprintable() and " " not in value


def is_resource(value: object) -> bool:
    """Whether ``value`` may name a resource: printable, without spaces and colons (``gpu:2`` is two of it)."""
    return is_pattern(value) and ":" not in str(value)


def priority_of(value: object) -> int:
    """A priority 0..9 from a number, its text, or one of the names; ValueError for anything else."""
    if isinstance(value, str):
        text = value.strip().lower()
        if text in PRIORITIES:
            return PRIORITIES[text]
        value = int(text) if text.isascii() and text.isdigit() else text
    if isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= 9:
        return value
    raise ValueError(f"expected a priority from 0 to 9 (higher runs first) or {', '.join(PRIORITIES)}, got {value!r}")


_BIDI = (0x061C, 0x200E, 0x200F, *range(0x202A, 0x202F), *range(0x2066, 0x206A))
_UNSAFE = {c: f"\\x{c:02x}" for c in (*range(0x20), *range(0x7F, 0xA0))} | {c: f"\\u{c:04x}" for c in (*_BIDI, 0x2028, 0x2029)}
_UNSAFE_BUT_LINES = {c: text for c, text in _UNSAFE.items() if c not in (0x09, 0x0A)}


def safe_text(text: str, newlines: bool = False) -> str:
    """``text`` as it may meet a terminal or a log: what could steer one becomes a visible escape such as ``\\x1b``.

    Those are the C0 and C1 controls, DEL, bidirectional controls, line separators and lone surrogates;
    ``newlines`` lets line feeds and tabs stand.
    """
    if text.isprintable():
        return text
    return text.encode("utf-8", "backslashreplace").decode().translate(_UNSAFE_BUT_LINES if newlines else _UNSAFE)


_repr = reprlib.Repr()
_repr.maxlevel, _repr.maxstring, _repr.maxother = 3, 60, 60


def brief(value: object) -> str:
    """``value`` for an error's text: at most 80 characters of its repr, however large or deep it is."""
    text = _repr.repr(value[:60] if isinstance(value, bytes) else value)
    return text if len(text) <= 80 else text[:77] + "..."


_UNITS_MS = {"ms": 1, "s": 1000, "m": 60_000, "h": 3_600_000, "d": 86_400_000, "w": 604_800_000}
_DURATION = re.compile(r"(?:\d+(?:\.\d+)?(?:ms|[smhdw])\s*)+", re.ASCII)
MAX_DURATION_MS = 100 * 366 * 86_400_000


def duration_ms(value: object) -> int:
    """Milliseconds from seconds (a number or its text), a ``timedelta``, or text as ``10s``, ``1h30m``, ``2d 4h``.

    ValueError for anything else, and for less than nothing or more than a hundred years.
    """
    ms: float = -1.0
    if isinstance(value, timedelta):
        ms = value / timedelta(milliseconds=1)
    elif isinstance(value, int | float) and not isinstance(value, bool):
        ms = value * 1000
    elif isinstance(value, str):
        text = value.strip().lower()
        if _DURATION.fullmatch(text):
            ms = sum(float(n) * _UNITS_MS[unit] for n, unit in re.findall(r"([\d.]+)(ms|[smhdw])", text))
        elif re.fullmatch(r"\d+(\.\d+)?", text, re.ASCII):
            ms = float(text) * 1000
    if 0 <= ms <= MAX_DURATION_MS:
        return round(ms)
    raise ValueError(f"expected a duration (seconds, a timedelta, or text as 10s, 5m, 2h, 3d, 1h30m), got {value!r}")

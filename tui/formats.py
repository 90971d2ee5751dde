"""How the monitor writes things: words, glyphs, durations, ages, counts, sizes, rates, and text cut to cells.

For: every number, time and name that a screen shows, so that all screens write them alike.
Not for: charts (charts), colours (widgets.painting), cleaning text of tasks (tq.model.safe_text; ``cleaned`` only applies it).
Runs in: the monitor; pure, without Textual, clock or locale.
Promises: every answer has no control character if the text had none; ``fit`` is exactly as many cells wide as asked for, also with
wide and combining characters; durations and counts are never wider than eight and seven cells.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, tzinfo
from itertools import pairwise
from math import floor, log10
from typing import Any

from rich.cells import cell_len, split_text

from tq.model import safe_text

NOTHING = "—"
"""What stands where there is no value; ``Glyphs.nothing`` in the set that is used."""

WORDS = {
    "scheduled": "sched", "blocked": "block", "pending": "pend", "running": "run", "retrying": "retry", "succeeded": "done",
    "failed": "fail", "cancelled": "cancel", "expired": "expire",
}  # fmt: skip
"""A state's word in a narrow column; all but "done" begin the state's name, and filters understand "done", too."""


@dataclass(frozen=True, slots=True)
class Glyphs:
    """One set of signs. Each is one cell wide, but for ``eighths`` and ``sparks``, which are lists of such."""

    states: Mapping[str, str]
    cursor: str
    mark: str
    more: str
    """Stands where text was cut."""
    dots: str
    """Fills a row that is not here yet."""
    nothing: str
    rising: str
    falling: str
    """Which way a column is sorted, and which way a number went."""
    paused: str
    live: str
    warn: str
    bad: str
    note: str
    good: str
    opened: str
    closed: str
    """Before what can be folded."""
    bar: str
    end: str
    """After the last line of an output."""
    sparks: str
    """From nothing to full, nine steps."""
    eighths: str
    """A bar's last cell, from left to right, nine steps."""
    full: str
    empty: str
    axis: Mapping[str, str] = field(default_factory=dict)
    """The frame of a chart: ``left``, ``tick``, ``corner`` and ``line``."""

    def state(self, state: str) -> str:
        """The sign of a state; ``?`` of one that is unknown here, as a newer daemon may have."""
        return self.states.get(state, "?")

    def word(self, state: str) -> str:
        """Sign and short word: ``✗ fail``."""
        return f"{self.states.get(state, '?')} {WORDS.get(state, state)}"


UNICODE = Glyphs(
    states={
        "scheduled": "◷", "blocked": "◇", "pending": "○", "running": "●", "retrying": "↻", "succeeded": "✓", "failed": "✗",
        "cancelled": "⊘", "expired": "□",
    },
    cursor="▸", mark="▌", more="…", dots="·", nothing=NOTHING, rising="▲", falling="▼", paused="‖", live="●", warn="▲", bad="✗",
    note="·", good="✓", opened="▾", closed="▸", bar="│", end="▮", sparks=" ▁▂▃▄▅▆▇█", eighths=" ▏▎▍▌▋▊▉█", full="█", empty="░",
    axis={"left": "│", "tick": "┤", "corner": "└", "line": "─"},
)  # fmt: skip
"""No sign of it has an emoji form, which some terminals would draw two cells wide."""
ASCII = Glyphs(
    states={
        "scheduled": "@", "blocked": "=", "pending": ".", "running": "*", "retrying": "~", "succeeded": "+", "failed": "x",
        "cancelled": "-", "expired": "!",
    },
    cursor=">", mark="|", more="~", dots=".", nothing="-", rising="^", falling="v", paused='"', live="*", warn="!", bad="x",
    note=".", good="+", opened="-", closed="+", bar="|", end="#", sparks=" ..::+*##", eighths="    =====", full="#", empty=".",
    axis={"left": "|", "tick": "+", "corner": "+", "line": "-"},
)  # fmt: skip

_UNITS_MS = (("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1000))


def duration(ms: float | None) -> str:
    """How long something took or lasts, to about three figures: ``803ms 4.8s 30.0s 4m12s 1h05m 3d04h``; milliseconds. None: ``—``."""
    if ms is None:
        return NOTHING
    if ms < 0:
        return f"-{duration(-ms)}"
    if ms < 1000:
        return f"{int(ms)}ms"
    if ms < 60_000:
        return f"{int(ms / 100) / 10:.1f}s"
    return _two(int(ms))


def _two(ms: int) -> str:
    """The two largest units of a minute or more."""
    for (unit, size), (below, part) in pairwise(_UNITS_MS):
        if ms >= size:
            whole = ms // size
            return f"{whole}{unit}" if whole >= 100 else f"{whole}{unit}{ms % size // part:02d}{below}"
    return f"{ms // 1000}s"


def age(ms: float | None) -> str:
    """How long ago, in one unit: ``0s 25s 8m 3h 2d``; milliseconds. None: ``—``. What lies ahead, by clocks that differ, is ``0s``."""
    if ms is None:
        return NOTHING
    for unit, size in _UNITS_MS:
        if ms >= size:
            return f"{int(ms // size)}{unit}"
    return "0s"


def clock(ms: int, zone: tzinfo | None = UTC, *, millis: bool = False) -> str:
    """The time of day of an instant (milliseconds since 1970): ``14:30:38``, or ``14:30:38.031``; zone None: this machine's."""
    at = _at(ms, zone)
    if at is None:
        return NOTHING
    return f"{at:%H:%M:%S}.{ms % 1000:03d}" if millis else f"{at:%H:%M:%S}"


def day(ms: int, zone: tzinfo | None = UTC) -> str:
    """The day and the minute of an instant: ``22 Nov 14:30``; English whatever the locale. 0: ``—``."""
    at = _at(ms, zone)
    return NOTHING if at is None else f"{at.day} {_MONTHS[at.month - 1]} {at:%H:%M}"


_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")


def _at(ms: int, zone: tzinfo | None) -> datetime | None:
    try:
        return datetime.fromtimestamp(ms // 1000, UTC).astimezone(zone) if ms else None
    except (ValueError, OverflowError, OSError):  # an instant that no calendar has
        return None


def count(number: float | None) -> str:
    """A whole number in full: ``12,481``. None: ``—``."""
    return NOTHING if number is None else f"{int(number):,}"


def short(number: float | None) -> str:
    """A number in at most five cells, cut and never rounded up: ``0.4 37 999 1.2k 12.4k 989k 1.0M``. None: ``—``."""
    if number is None:
        return NOTHING
    if number < 0:
        return f"-{short(-number)}"
    if number < 1000:
        return str(int(number)) if number >= 10 or number == int(number) else f"{int(number * 10) / 10:.1f}"
    unit = ""
    for larger in "kMGTPE":
        if number < 1000:
            break
        number, unit = number / 1000, larger
    return f"{int(number)}{unit}" if number >= 100 else f"{int(number * 10) / 10:.1f}{unit}"


def counted(number: int, one: str, many: str = "") -> str:
    """``1 task``, ``12,481 tasks``."""
    return f"{number:,} {one if number == 1 else many or one + 's'}"


def rate(per_second: float | None, *, minute: bool = False) -> str:
    """So many in a second, or in a minute: ``214/s``, ``8.9k/m``. None: ``—``."""
    if per_second is None:
        return NOTHING
    return f"{short(per_second * 60)}/m" if minute else f"{short(per_second)}/s"


def percent(fraction: float | None) -> str:
    """``62%``, ``6.4%``, ``0.13%``; what is less than 0.01 % and not nothing is ``<0.01%``. None: ``—``."""
    if fraction is None:
        return NOTHING
    value = fraction * 100
    if 0 < value < 0.01:
        return "<0.01%"
    if value == 0 or abs(value) >= 10:
        return f"{value:.0f}%"
    return f"{value:.1f}%" if abs(value) >= 1 else f"{value:.2f}%"


def size(number: float | None, *, narrow: bool = False) -> str:
    """Bytes, in steps of 1,024: ``218 B``, ``2.1 GiB``; narrow: ``218B``, ``2.1G``. None: ``—``."""
    if number is None:
        return NOTHING
    unit = "B"
    for larger in ("KiB", "MiB", "GiB", "TiB", "PiB"):
        if number < 1024:
            break
        number, unit = number / 1024, larger
    text = f"{number:.1f}" if unit != "B" and number < 10 else f"{int(number)}"
    return f"{text}{unit[0]}" if narrow else f"{text} {unit}"


def cells(text: str) -> int:
    """How many cells of a terminal the text takes."""
    return len(text) if text.isascii() else cell_len(text)


def clip(text: str, width: int, more: str = "…") -> str:
    """At most ``width`` cells of the text; ``more`` (one cell, or nothing) is the last of them where something was cut off."""
    if len(text) > 4 * width + 64:
        text = text[: 4 * width + 64]  # measuring a megabyte to show forty cells of it takes as long as all the rest
    if cells(text) <= width:
        return text
    if width <= 0:
        return ""
    room = width - len(more)
    return (text[:room] if text.isascii() else split_text(text, room)[0]) + more


def fit(text: str, width: int, *, right: bool = False, more: str = "…") -> str:
    """The text in exactly ``width`` cells: cut, or filled with blanks at its end (``right``: before it)."""
    text = clip(text, width, more)
    blanks = " " * (width - cells(text))
    return blanks + text if right else text + blanks


def nice_above(value: float) -> float:
    """The least round number that is not below ``value``: 1 1.5 2 2.5 3 4 5 6 8 10 times a power of ten; 1 for nothing."""
    if not 0 < value < 1e300:
        return 1.0
    exponent = floor(log10(value)) - 1  # one less, since log10 may be a hair too high
    for power in range(exponent, exponent + 3):
        for factor in _STEPS:
            if (step := float(f"{factor}e{power}")) >= value:  # as written, so that 3e-1 is 0.3 and no more
                return step
    return value


_STEPS = (1, 1.5, 2, 2.5, 3, 4, 5, 6, 8)


def cleaned(value: Any) -> Any:
    """A value of the wire as the monitor may keep it: every text in it, keys as well, through ``safe_text``; lists become tuples."""
    if isinstance(value, str):
        return safe_text(value)
    if isinstance(value, list | tuple):
        return tuple([cleaned(one) for one in value])
    if isinstance(value, dict):
        return {cleaned(key): cleaned(one) for key, one in value.items()}
    return value


Writer = Callable[[float | None], str]
"""Turns a value into the text of a label: ``count``, ``duration``, ``rate``, ..."""

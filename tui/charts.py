"""Charts as rows of text: sparks, bars, lines of dots, gauges, and the frame with its axis.

For: drawing a series of values into so many cells, in blocks, in braille or in plain ASCII.
Not for: colours and keys (widgets.charts), how numbers are written (formats).
Runs in: the monitor; pure, without Textual or clock.
Promises: the axis begins at zero; the least and the greatest of what falls into one column are both drawn, so that a spike is seen
however many values share it; None is a gap and never a zero; every row is exactly as wide as asked for, and so is their number.

A series runs from its oldest value to its newest, which stands at the right edge. Where there are more columns than values, each value
takes several columns.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tui.formats import ASCII, UNICODE, Glyphs, Writer, cells, fit, nice_above, short

Values = Sequence[float | None]
Run = tuple[str, str]
"""A piece of a row: its text, and the name of its style."""
Bucket = tuple[float, float] | None
"""Least and greatest of the values of one column; None: a gap."""

BLOCK, BRAILLE, PLAIN = "block", "braille", "ascii"
DRAWINGS = (BLOCK, BRAILLE, PLAIN)
LASTS_S = 30.0
"""How long an axis keeps its upper bound after what needed it is gone: one that follows each value cannot be read."""


@dataclass(frozen=True, slots=True)
class Series:
    """One line, or one filled shape, of a chart."""

    values: Values
    style: str = "live"
    weight: str = "fill"
    """``fill`` (from zero up), ``thin``, ``thick`` or ``dotted``: what tells lines apart without colour."""
    name: str = ""


def place_of(column: int, columns: int, number: int) -> tuple[int, int]:
    """Which of ``number`` values stand in that of ``columns``: the first, and the first that no longer does."""
    first = column * number // columns
    return first, max(first + 1, (column + 1) * number // columns)


def buckets(values: Values, columns: int) -> list[Bucket]:
    """The values by column; a column with values and gaps has the values'."""
    number = len(values)
    if not number:
        return [None] * columns
    found: list[Bucket] = []
    for column in range(columns):
        first, end = place_of(column, columns, number)
        here = [value for value in values[first:end] if value is not None]
        found.append((min(here), max(here)) if here else None)
    return found


def greatest(*series: Values) -> float:
    """The greatest of all values; 0 if there are none."""
    return max((value for values in series for value in values if value is not None), default=0.0)


class Bound:
    """The upper end of an axis: a round number that grows at once and shrinks only after LASTS_S seconds."""

    __slots__ = ("_lower_since", "value")

    def __init__(self) -> None:
        self.value = 0.0
        self._lower_since: float | None = None

    def above(self, value: float, now_s: float) -> float:
        """The bound for a greatest value of ``value`` at ``now_s`` (seconds of any clock that only rises)."""
        wanted = nice_above(value)
        if wanted >= self.value:
            self.value, self._lower_since = wanted, None
        elif self._lower_since is None:
            self._lower_since = now_s
        elif now_s - self._lower_since >= LASTS_S:
            self.value, self._lower_since = wanted, None
        return self.value


def spark(values: Values, width: int, glyphs: Glyphs = UNICODE, top: float = 0.0) -> str:
    """One row, from zero to ``top`` (0: the greatest value). A value above zero is never drawn as nothing; a gap is a blank."""
    steps, top = glyphs.sparks, top or greatest(values)
    return "".join([" " if one is None else steps[max(1, _level(one[1], top, 8))] for one in buckets(values, width)])


def _level(value: float, top: float, steps: int) -> int:
    """How many of ``steps`` are full; at least one for what is not nothing."""
    if value <= 0 or top <= 0:
        return 0
    return max(1, min(steps, round(value / top * steps)))


def gauge(fraction: float | None, width: int, glyphs: Glyphs = UNICODE, *, empty: bool = True) -> str:
    """A bar that is full to ``fraction`` (0 to 1); blanks where it is None. ``empty``: the rest is shaded, and whole cells alone count."""
    if fraction is None or width <= 0:
        return " " * max(0, width)
    share = min(1.0, max(0.0, fraction))
    if empty:
        whole = max(1, int(share * width)) if share else 0
        return glyphs.full * whole + glyphs.empty * (width - whole)
    eighths = int(share * width * 8) or (1 if share else 0)
    whole, rest = divmod(eighths, 8)
    return (glyphs.full * whole + (glyphs.eighths[rest] if rest else "")).ljust(width)


def filled(values: Values, columns: int, rows: int, top: float, glyphs: Glyphs = UNICODE) -> list[str]:
    """The area under the values, row by row from the top, in eighths of a cell (ASCII: whole cells, and ``.`` for less)."""
    steps = glyphs.sparks if glyphs is not ASCII else " .......#"
    levels = [0 if one is None else max(1, _level(one[1], top, rows * 8)) for one in buckets(values, columns)]  # a zero is no gap
    return ["".join([steps[max(0, min(8, level - 8 * below))] for level in levels]) for below in range(rows - 1, -1, -1)]


_DOTS = ((0x01, 0x02, 0x04, 0x40), (0x08, 0x10, 0x20, 0x80))
"""Braille's dots of the left and the right half of a cell, from the top (Unicode 15, section 21.1)."""


def dotted(series: Sequence[Series], columns: int, rows: int, top: float) -> list[list[Run]]:
    """Lines in braille, two by four dots to a cell; in a cell that two lines share, the style is the later one's."""
    dots = [[0] * columns for _ in range(rows)]
    owner = [[""] * columns for _ in range(rows)]
    height = rows * 4
    for one in series:
        for x, (first, last) in _course(one, columns * 2, height, top):
            for y in range(first, last + 1):
                dots[y // 4][x // 2] |= _DOTS[x % 2][y % 4]
                owner[y // 4][x // 2] = one.style
    return [
        runs([(chr(0x2800 + cell) if cell else " ", style) for cell, style in zip(line, styles, strict=True)])
        for line, styles in zip(dots, owner, strict=True)
    ]


def _course(one: Series, columns: int, height: int, top: float) -> list[tuple[int, tuple[int, int]]]:
    """(column, (first, last)) of the dots of a line, counted from the top; it goes on from where the column before ended."""
    found: list[tuple[int, tuple[int, int]]] = []
    before: tuple[int, int] | None = None
    for x, bucket in enumerate(buckets(one.values, columns)):
        if bucket is None:
            before = None
            continue
        high, low = (_from_top(value, top, height) for value in (bucket[1], bucket[0]))
        first, last = high, low
        if one.weight == "fill":
            last = height - 1
        elif before is not None:  # no hole between two columns, also where it is steep
            first, last = min(first, before[1] + 1), max(last, before[0] - 1)
        if one.weight == "thick" and first == last:
            first, last = (first - 1, last) if first else (first, min(last + 1, height - 1))
        before = (high, low)
        if one.weight != "dotted" or x % 3 != 2 or last - first > 1:
            found.append((x, (first, last)))
    return found


def _from_top(value: float, top: float, height: int) -> int:
    share = min(1.0, max(0.0, value / top)) if top > 0 else 0.0
    return height - 1 - round(share * (height - 1))


_MARKS = {"fill": "#", "thin": "+", "thick": "#", "dotted": "."}


def plain(series: Sequence[Series], columns: int, rows: int, top: float) -> list[list[Run]]:
    """Lines, or filled shapes, in ASCII: ``+`` a thin line, ``#`` a thick or filled one, ``.`` a dotted one."""
    grid = [[(" ", "")] * columns for _ in range(rows)]
    for one in series:
        for x, (first, last) in _course(Series(one.values, one.style, "fill" if one.weight == "fill" else "thin"), columns, rows, top):
            for y in range(first, last + 1):
                grid[y][x] = (_MARKS[one.weight], one.style)
    return [runs(line) for line in grid]


def runs(line: Sequence[Run]) -> list[Run]:
    """The same row with neighbours of one style joined, which is what makes it cheap to draw."""
    found: list[Run] = []
    text, style = "", ""
    for piece, its in line:
        if its != style and not (piece == " " and text):
            if text:
                found.append((text, style))
            text, style = "", its
        text += piece
    if text:
        found.append((text, style))
    return found


@dataclass(frozen=True, slots=True)
class Frame:
    """What stands around a chart: the axis at the left and the line of time below it."""

    top: float
    writer: Writer = short
    oldest: str = ""
    middle: str = ""
    newest: str = "now"


def chart(series: Sequence[Series], width: int, height: int, drawing: str, frame: Frame, glyphs: Glyphs = UNICODE) -> list[list[Run]]:
    """A chart with its axis: ``height`` rows of ``width`` cells, the last the line of time. One filled series may be drawn in blocks;
    several lines are drawn in braille in its place. Too small for an axis (12 by 3): the drawing alone."""
    label = max([cells(frame.writer(value)) for value in (0, frame.top / 2, frame.top)])
    inside = width - label - 2
    if inside < 6 or height < 3:
        return _drawn(series, width, height, drawing, frame.top, glyphs)
    rows = height - 1
    middle = (rows - 1) // 2 if rows >= 4 else None
    found: list[list[Run]] = []
    for y, line in enumerate(_drawn(series, inside, rows, drawing, frame.top, glyphs)):
        value = frame.top if y == 0 else 0.0 if y == rows - 1 else frame.top / 2 if y == middle else None
        words = " " * (label + 1) if value is None else f"{fit(frame.writer(value), label, right=True)} "
        found.append([(words + glyphs.axis["left" if value is None else "tick"], "axis"), *line])
    found.append([(" " * (label + 1) + glyphs.axis["corner"] + timeline(frame, inside, glyphs), "axis")])
    return found


def axis_width(frame: Frame, width: int, height: int) -> int:
    """How many cells ``chart`` gives to the axis: where its drawing begins."""
    label = max([cells(frame.writer(value)) for value in (0, frame.top / 2, frame.top)]) + 2
    return 0 if width - label < 6 or height < 3 else label


def _drawn(series: Sequence[Series], columns: int, rows: int, drawing: str, top: float, glyphs: Glyphs) -> list[list[Run]]:
    if drawing == PLAIN or glyphs is ASCII:
        return plain(series, columns, rows, top)
    if drawing == BLOCK and len(series) == 1 and series[0].weight == "fill":
        return [[(row, series[0].style)] for row in filled(series[0].values, columns, rows, top, glyphs)]
    return dotted(series, columns, rows, top)


def timeline(frame: Frame, columns: int, glyphs: Glyphs = UNICODE) -> str:
    """The line below a chart: ``10m──────5m──────now``; words that have no room are left out."""
    line = glyphs.axis["line"]
    if cells(frame.oldest) + cells(frame.newest) + 1 > columns:
        return line * columns
    text = frame.oldest + line * (columns - cells(frame.oldest) - cells(frame.newest)) + frame.newest
    at = columns // 2 - cells(frame.middle) // 2
    if frame.middle and at > cells(frame.oldest) + 2 and at + cells(frame.middle) + cells(frame.newest) + 2 < columns:
        text = text[:at] + frame.middle + text[at + len(frame.middle) :]
    return text

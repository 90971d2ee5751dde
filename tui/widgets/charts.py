"""Charts on the screen: a history with its axis and a value to be read, a spark, a gauge.

For: drawing what ``charts`` makes in the theme's colours, and reading single values by key and by mouse.
Not for: how a chart looks (charts), where its values come from (screens).
Runs in: the monitor, on the loop of its Textual application.
Promises: a redraw draws those lines that look different now and no others (``lines_rendered`` counts them); no widget asks for a layout.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import ClassVar

from textual import events
from textual.binding import Binding, BindingType
from textual.geometry import Region
from textual.strip import Strip
from textual.widget import Widget

from tui.charts import BLOCK, Bound, Frame, Run, Series, Values, axis_width, chart, filled, gauge, greatest, place_of, runs, spark
from tui.formats import UNICODE, Glyphs, Writer, age, cells, clock, fit, short
from tui.widgets.painting import Brush


class Drawn(Widget):
    """A widget whose lines are runs of text; ``_make`` gives them for the present size."""

    ALLOW_SELECT = False

    def __init__(self, *, glyphs: Glyphs = UNICODE, id: str | None = None, classes: str | None = None) -> None:  # noqa: A002 - Textual's name
        super().__init__(id=id, classes=classes)
        self.glyphs = glyphs
        self.brush = Brush(self)
        self.lines_rendered = 0
        self._lines: list[list[Run]] = []
        self._size_made = (-1, -1)

    def notify_style_update(self) -> None:
        super().notify_style_update()
        self.brush.forget()

    def _make(self, width: int, height: int) -> list[list[Run]]:
        raise NotImplementedError

    def _remake(self) -> None:
        """Make the lines again, and draw those that differ."""
        width, height = self.size
        before, same = self._lines, self._size_made == (width, height)
        self._lines, self._size_made = self._make(width, height), (width, height)
        if not same or len(before) != len(self._lines):
            self.refresh()
            return
        changed = [y for y, (old, new) in enumerate(zip(before, self._lines, strict=True)) if old != new]
        if changed:
            self.refresh(*[Region(0, y, width, 1) for y in changed])

    def render_line(self, y: int) -> Strip:
        width, height = self.size
        if self._size_made != (width, height):  # drawn before it was told of its new size
            self._lines, self._size_made = self._make(width, height), (width, height)
        self.lines_rendered += 1
        return self.brush.strip(self._lines[y] if y < len(self._lines) else (), width)


class Chart(Drawn, can_focus=True):
    """A history: one filled shape, or several lines. Left and right go from value to value and tell what each was."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("left,h", "read(-1)", "Value before", show=False, id="chart.before"),
        Binding("right,l", "read(1)", "Value after", show=False, id="chart.after"),
        Binding("shift+left,H", "read(-10)", "Ten values before", show=False, id="chart.before_10"),
        Binding("shift+right,L", "read(10)", "Ten values after", show=False, id="chart.after_10"),
        Binding("home", "read(-1000000)", "Oldest value", show=False, id="chart.oldest"),
        Binding("end", "read(1000000)", "Newest value", show=False, id="chart.newest"),
    ]

    def __init__(
        self,
        *,
        drawing: str = BLOCK,
        writer: Writer = short,
        zone: Callable[[int], str] = clock,
        glyphs: Glyphs = UNICODE,
        id: str | None = None,  # noqa: A002 - Textual's name for it
        classes: str | None = None,
    ) -> None:
        """``writer`` writes a value, ``zone`` the time of day of an instant in ms."""
        super().__init__(glyphs=glyphs, id=id, classes=classes)
        self.drawing, self._writer, self._zone = drawing, writer, zone
        self._series: Sequence[Series] = ()
        self._until_ms, self._step_s = 0, 1
        self._bound = Bound()
        self._top = 1.0
        self._at: int | None = None

    def show(self, series: Sequence[Series], *, until_ms: int, step_s: int, now_s: float) -> None:
        """These values from now on. ``until_ms`` is the end of the newest value's bucket, ``step_s`` how long each is; ``now_s``: any clock
        that only rises, for the upper end of the axis."""
        self._series, self._until_ms, self._step_s = series, until_ms, step_s
        self._top = self._bound.above(greatest(*[one.values for one in series]), now_s)
        self._remake()

    @property
    def reading(self) -> str:
        """What the value at the cursor was, and when; empty without a cursor."""
        if self._at is None or not self._count:
            return ""
        back = self._count - self._at
        told = [f"{one.name} {self._said(one.values)}".strip() for one in self._series]
        return f"{self._zone(self._until_ms - back * self._step_s * 1000)}  {'  '.join(told)}"

    def _said(self, values: Values) -> str:
        value = values[self._at] if self._at is not None and self._at < len(values) else None
        return self.glyphs.nothing if value is None else self._writer(value)

    @property
    def _count(self) -> int:
        return max((len(one.values) for one in self._series), default=0)

    @property
    def _frame(self) -> Frame:
        length = self._count * self._step_s * 1000
        return Frame(self._top, self._writer, age(length), age(length // 2) if length >= 120_000 else "")

    def _make(self, width: int, height: int) -> list[list[Run]]:
        if width < 1 or height < 1:
            return []
        lines = chart(self._series, width, height, self.drawing, self._frame, self.glyphs)
        if self._at is None or not self._count:
            return lines
        left = axis_width(self._frame, width, height)
        inside = width - left
        column = left + min(inside - 1, self._at * inside // self._count)
        if left:
            lines[-1] = [(fit(f"{' ' * (left - 1)}{self.glyphs.axis['corner']} {self.reading}", width, more=self.glyphs.more), "strong")]
        return [_ticked(line, column, self.glyphs.bar) if y < len(lines) - bool(left) else line for y, line in enumerate(lines)]

    def action_read(self, by: int) -> None:
        """Go from value to value; the first step begins at the newest."""
        last = self._count - 1
        if last >= 0:
            self._at = last if self._at is None else max(0, min(last, self._at + by))
            self._remake()

    def on_mouse_move(self, event: events.MouseMove) -> None:
        at = event.get_content_offset(self)
        left = axis_width(self._frame, *self.size)
        inside = self.size.width - left
        if at is not None and at.x >= left and self._count and inside > 0:
            self._at = min(self._count - 1, place_of(at.x - left, inside, self._count)[0])
            self._remake()

    def on_leave(self) -> None:
        self._unread()

    def on_blur(self) -> None:
        self._unread()

    def _unread(self) -> None:
        if self._at is not None:
            self._at = None
            self._remake()


def _ticked(line: list[Run], column: int, bar: str) -> list[Run]:
    """The line with a bar in that column, where it is empty, and else what is there, marked."""
    found: list[Run] = []
    at = 0
    for text, style in line:
        if at <= column < at + len(text):
            here = text[column - at]
            found += [(text[: column - at], style), (bar if here == " " else here, "here"), (text[column - at + 1 :], style)]
        else:
            found.append((text, style))
        at += len(text)
    if at <= column:
        found += [(" " * (column - at), "text"), (bar, "here")]
    return [piece for piece in found if piece[0]]


class Spark(Drawn):
    """A series without an axis, as high as the widget: one row, or a filled shape."""

    def __init__(
        self, style: str = "live", *, glyphs: Glyphs = UNICODE, id: str | None = None, classes: str | None = None  # noqa: A002 - as above
    ) -> None:  # fmt: skip
        super().__init__(glyphs=glyphs, id=id, classes=classes)
        self._style = style
        self._values: Values = ()
        self._top = 0.0

    def show(self, values: Values, top: float = 0.0) -> None:
        """These values, from zero to ``top``; 0: to the greatest of them."""
        self._values, self._top = values, top
        self._remake()

    def _make(self, width: int, height: int) -> list[list[Run]]:
        if height == 1:
            return [[(spark(self._values, width, self.glyphs, self._top), self._style)]]
        top = self._top or greatest(self._values)
        return [[(row, self._style)] for row in filled(self._values, width, height, top, self.glyphs)]


class Gauge(Drawn):
    """A share of a whole as a bar, and words behind it."""

    def __init__(
        self, style: str = "live", *, glyphs: Glyphs = UNICODE, id: str | None = None, classes: str | None = None  # noqa: A002 - as above
    ) -> None:  # fmt: skip
        super().__init__(glyphs=glyphs, id=id, classes=classes)
        self._style = style
        self._fraction: float | None = None
        self._words = ""

    def show(self, fraction: float | None, words: str = "") -> None:
        """``fraction`` from 0 to 1, None: not known."""
        self._fraction, self._words = fraction, words
        self._remake()

    def _make(self, width: int, height: int) -> list[list[Run]]:
        words = f" {self._words}" if self._words else ""
        bar = gauge(self._fraction, max(1, width - cells(words)), self.glyphs)
        return [runs([(bar, self._style), (words, "text")])]

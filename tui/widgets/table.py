"""The one table: any number of rows, drawn line by line from a source, with a cursor that belongs to a row and not to a place.

For: every list of the monitor, be it seven queues or a million tasks.
Not for: where rows come from (paging), what is done with them (actions, screens), sorting and filtering (the daemon, or the screen).
Runs in: the monitor, on the loop of its Textual application.
Promises: no row has a widget; a change of some rows draws their lines and no others (``lines_rendered`` counts them); the cursor and the
marks stay with their rows when rows come before them, when the order changes and when the view is made anew; nothing moves by itself.

A row's cells come from functions of its columns, as pieces of text with the names of styles (``widgets.painting``). What changed in a row
is shown in reverse for FLASH_S; what no longer matches is struck through; a row that is not here yet is dots. There is no clock in here:
``tick`` tells the time, ends what has been shown long enough, and draws again those lines whose ages read differently.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import ClassVar

from rich.segment import Segment
from textual import events
from textual.binding import Binding, BindingType
from textual.geometry import Offset, Region, Size
from textual.message import Message
from textual.scroll_view import ScrollView
from textual.strip import Strip

from tq.errors import TqError
from tui.formats import ASCII, UNICODE, Glyphs, cells, clip, fit
from tui.paging import Change, Entry, Key, PagedSource, Row, Source
from tui.widgets.painting import Brush, Run, Runs, fitted, uncoloured

FLASH_S = 1.0
STRIPS = 512
"""Lines that are kept drawn: some screens full."""
RANGE_MOST = 5000
"""Rows that ``v`` marks at once; ``A`` marks any number."""
GUTTER = 2
"""Cells before the first column, for the cursor and the mark."""


@dataclass(frozen=True, slots=True)
class Column:
    """One column. ``width`` in cells, 0 for the one that takes what is left, which is at least ``least``."""

    id: str
    title: str
    width: int
    cell: Callable[[Row], Runs]
    """The pieces of a row's cell."""
    right: bool = False
    shown_from: int = 0
    """The width of the screen, in cells, from which there is room for it."""
    ticks: bool = False
    """What it shows depends on the time as well, as an age does."""
    sorts: bool = True
    least: int = 8


@dataclass(slots=True)
class _Mark:
    """A range under way: where it began, what was marked before, and the keys seen in it by place."""

    began: int
    before: set[Key]
    seen: dict[int, Key]


class PagedTable(ScrollView, can_focus=True):
    """A list of rows of a Source. See the module's docstring."""

    ALLOW_SELECT = False
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("j,down", "step(1)", "Down", show=False, id="list.down"),
        Binding("k,up", "step(-1)", "Up", show=False, id="list.up"),
        Binding("g,home", "first", "First", show=False, id="list.first"),
        Binding("G,end", "last", "Last", show=False, id="list.last"),
        Binding("ctrl+d", "pages(0.5)", "Half a page down", show=False, id="list.half_down"),
        Binding("ctrl+u", "pages(-0.5)", "Half a page up", show=False, id="list.half_up"),
        Binding("pagedown", "pages(1)", "Page down", show=False, id="list.page_down"),
        Binding("pageup", "pages(-1)", "Page up", show=False, id="list.page_up"),
        Binding("enter", "open", "Open", show=False, id="list.open"),
        Binding("space", "mark", "Mark", show=False, id="list.mark"),
        Binding("v", "range", "Mark a range", show=False, id="list.range"),
        Binding("A", "mark_all", "Mark all that match", show=False, id="list.all"),
        Binding("U", "unmark", "Clear marks", show=False, id="list.unmark"),
    ]

    class Told(Message):
        """What a table tells its screen."""

        def __init__(self, table: PagedTable) -> None:
            super().__init__()
            self.table = table

        @property
        def control(self) -> PagedTable:
            return self.table

    class Opened(Told):
        """A person wants to see this one."""

        def __init__(self, table: PagedTable, key: Key) -> None:
            super().__init__(table)
            self.key = key

    class CursorMoved(Told):
        """The cursor is at another row, or its row has come at last. ``key`` is None while that row is not here."""

        def __init__(self, table: PagedTable, key: Key | None, place: int) -> None:
            super().__init__(table)
            self.key, self.place = key, place

        def can_replace(self, message: Message) -> bool:
            return isinstance(message, PagedTable.CursorMoved) and message.table is self.table

    class MarksChanged(Told):
        """Others are marked than before: see ``marks`` and ``all_marked``."""

    class SortAsked(Told):
        """A person clicked a column's title."""

        def __init__(self, table: PagedTable, column: str) -> None:
            super().__init__(table)
            self.column = column

    class Noted(Told):
        """Something to tell the person, in words."""

        def __init__(self, table: PagedTable, words: str) -> None:
            super().__init__(table)
            self.words = words

    def __init__(
        self,
        columns: Sequence[Column],
        source: Source,
        *,
        glyphs: Glyphs = UNICODE,
        flashes: bool = True,
        id: str | None = None,  # noqa: A002 - Textual's name for it
        classes: str | None = None,
    ) -> None:
        """``flashes``: whether changed cells are shown in reverse for a while. ``source`` may be changed later with ``show``."""
        super().__init__(id=id, classes=classes)
        self.glyphs, self.flashes = glyphs, flashes
        self.brush = Brush(self)
        self.empty: Sequence[Runs] = ()
        """Lines that say why there are no rows, and what to do."""
        self.follows = False
        """The cursor stays at the first place, whatever row comes there."""
        self.marks: set[Key] = set()
        self.all_marked = False
        """All that match are marked, also those that nobody has seen: ``marks`` does not count then."""
        self.lines_rendered = 0
        """Lines of rows that were drawn so far, from the strips that are kept or anew."""
        self.strips_made = 0
        """Of these, those drawn anew."""
        if glyphs is ASCII:
            self.styles.scrollbar_size_vertical = 0  # Textual draws it with half blocks
        self._columns = tuple(columns)
        self._sorted_by: tuple[str, bool] | None = None
        self._source = source
        self._place = 0
        self._key: Key | None = None
        self._clicked: Key | None = None
        self._range: _Mark | None = None
        self._height = 0  # rows that were seen before the last change of size
        self._now_s = 0.0
        self._flashes: dict[Key, tuple[float, frozenset[str]]] = {}
        self._ticked: dict[Key, tuple[Runs, ...]] = {}
        self._strips: OrderedDict[tuple[object, ...], Strip] = OrderedDict()
        self._widths: tuple[tuple[int, int], list[tuple[Column, int]]] | None = None

    # -- what screens ask and say ----------------------------------------------------------------------------------

    @property
    def source(self) -> Source:
        return self._source

    @property
    def cursor_key(self) -> Key | None:
        """The row under the cursor; None: there is none, or it is not here yet."""
        return self._key

    @property
    def cursor_place(self) -> int:
        return self._place

    @property
    def cursor_row(self) -> Row | None:
        """The row under the cursor itself; None as ``cursor_key``."""
        entry = self._source.entry(self._place)
        return None if entry is None or entry.key != self._key else entry.row

    @property
    def window(self) -> tuple[int, int]:
        """The places that are seen: the first, and the first behind them."""
        top = self.scroll_offset.y
        return top, min(self._source.total, top + max(0, self.size.height - 1))

    @property
    def visible_keys(self) -> list[Key]:
        """The rows that are seen and here, from the top."""
        entries = [self._source.entry(place) for place in range(*self.window)]
        return [entry.key for entry in entries if entry is not None and entry.key is not None]

    @property
    def chosen(self) -> list[Key]:
        """What a verb is about, unless ``all_marked``: the marked rows, or else the one under the cursor."""
        if self.marks:
            return list(self.marks)
        return [] if self._key is None else [self._key]

    def show(self, source: Source, columns: Sequence[Column] | None = None) -> None:
        """Rows of this source from now on, from the top, nothing marked; with other columns if they are given."""
        self._source, self._columns = source, tuple(columns or self._columns)
        self._widths, self._key, self._place, self._range = None, None, 0, None
        self.marks, self.all_marked = set(), False
        self._flashes.clear()
        self._ticked.clear()
        self._strips.clear()
        source.attach(self)
        self.rows_moved()

    def sorted_by(self, column: str | None, descending: bool = False) -> None:
        """Show at a column's title that the rows are in its order; None: at none."""
        self._sorted_by = None if column is None else (column, descending)
        self.refresh_line(self.scroll_offset.y)

    def tick(self, now_s: float) -> None:
        """It is ``now_s`` (seconds of any clock that only rises): draw again what the time alone has changed."""
        self._now_s = now_s
        over = {key for key, (until, _) in self._flashes.items() if until <= now_s}
        for key in over:
            del self._flashes[key]
        changed = []
        for place in range(*self.window):
            entry = self._source.entry(place)
            if entry is not None and (entry.key in over or self._ticking(entry) != self._ticked.get(entry.key, ())):
                changed.append(place)
        self._draw(changed)

    def move_to(self, place: int) -> None:
        """Put the cursor there, or at the nearest place there is, and bring it into view."""
        total = self._source.total
        place = max(0, min(place, total - 1))
        before, self._place = self._place, place
        entry = self._source.entry(place)
        self._key = None if entry is None else entry.key
        if self._range is not None:
            self._extend(self._range)
        top, height = self.scroll_offset.y, max(1, self.size.height - 1)
        if not top <= place < top + height:
            self._scroll(place if place < top else place - height + 1)
        self._draw([before, place])
        self._point()
        self.post_message(self.CursorMoved(self, self._key, place))

    def select(self, key: Key) -> bool:
        """Put the cursor on this row; False if it is not here."""
        place = self._source.find(key)
        if place is not None:
            self.move_to(place)
        return place is not None

    # -- what the source says --------------------------------------------------------------------------------------

    def held(self) -> tuple[Key | None, int]:
        return (None, 0) if self.follows else (self._key, self.scroll_offset.y)

    def rows_changed(self, changes: Sequence[Change]) -> None:
        first, end = self.window
        drawn = []
        for place, old, new in changes:
            if not first <= place < end:
                continue
            drawn.append(place)
            if self.flashes and old is not None and old.row is not None and old.row != new.row:
                differ = frozenset(c.id for c, _ in self._layout() if not c.ticks and c.cell(old.row) != c.cell(new.row))
                if differ:
                    self._flashes[new.key] = (self._now_s + FLASH_S, differ)
        if self._range is not None:
            self._extend(self._range)
        self._draw(drawn)
        if self._key is None and (entry := self._source.entry(self._place)) is not None and entry.key is not None:
            self._key = entry.key
            self.post_message(self.CursorMoved(self, self._key, self._place))

    def rows_moved(self) -> None:
        if not self.is_mounted:
            return
        total = self._source.total
        self._sized()
        before, key, top = self._place, self._key, self.scroll_offset.y
        place = None if key is None or self.follows else self._source.find(key)
        if place is None:
            place = 0 if self.follows else max(0, min(before, total - 1))
            entry = self._source.entry(place)
            if self.follows or key is None or self._source.exact or entry is not None:
                self._key = None if entry is None else entry.key
        self._place = place
        if self.follows:
            top = 0
        elif top <= before < top + max(1, self.size.height - 1):
            top += place - before  # the row keeps its line of the screen
        self._scroll(max(0, min(top, total + 1 - self.size.height)))
        if (self._key, place) != (key, before):
            self.post_message(self.CursorMoved(self, self._key, place))
        self.refresh()
        self._look()
        self._point()

    # -- drawing ---------------------------------------------------------------------------------------------------

    @property
    def _width(self) -> int:
        """Cells of a line, without the scroll bar."""
        return self.scrollable_content_region.width

    def notify_style_update(self) -> None:
        super().notify_style_update()
        self.brush.forget()

    def render_line(self, y: int) -> Strip:
        width = self._width
        if y == 0:
            return self._titles(width)
        place = self.scroll_offset.y + y - 1
        if place >= self._source.total:
            return self._below(place - self._source.total if self._source.total else place, width)
        self.lines_rendered += 1
        entry = self._source.entry(place)
        if entry is None or entry.row is None:
            return self._absent(place, entry, width)
        at_cursor, focused = place == self._place, self.has_focus
        marked = self.all_marked or entry.key in self.marks
        flash = self._flashes.get(entry.key, (0.0, frozenset()))[1]
        ticking = self._ticking(entry)
        self._ticked[entry.key] = ticking
        shown = (entry.stamp, width, self.app.size.width, self.brush.generation, at_cursor, focused, marked, flash, ticking)
        strip = self._strips.get(shown)
        if strip is None:
            self.strips_made += 1
            strip = self._strips[shown] = self._row(entry, width, at_cursor, marked, flash)
            while len(self._strips) > STRIPS:
                self._strips.popitem(last=False)
        else:
            self._strips.move_to_end(shown)
        return strip

    def _row(self, entry: Entry, width: int, at_cursor: bool, marked: bool, flash: frozenset[str]) -> Strip:
        brush, more = self.brush, self.glyphs.more
        reverse = at_cursor and self.has_focus
        segments = [self._gutter(at_cursor, marked, reverse)]
        left = width - GUTTER
        for at, (column, its) in enumerate(self._layout()):
            if at and left > 0:
                segments.append(Segment(" ", brush.style("text", reverse=reverse, struck=entry.struck)))
                left -= 1
            room = min(its, left)
            left -= room
            turned = reverse != (column.id in flash)
            cell = fitted(column.cell(entry.row), room, right=column.right, more=more)
            first = next((name for text, name in cell if not text.isspace()), "text")
            for text, name in cell:
                filled = first if turned and not reverse and text.isspace() else name  # a blank of a flash is ground, too
                its_name = uncoloured(filled) if reverse and turned else filled
                segments.append(Segment(text, brush.style(its_name, reverse=turned, struck=entry.struck)))
        segments.append(Segment(" " * left, brush.style("text", reverse=reverse)))
        return Strip(Segment.simplify(segments), width)

    def _gutter(self, at_cursor: bool, marked: bool, reverse: bool) -> Segment:
        signs = (self.glyphs.cursor if at_cursor else "") + (self.glyphs.mark if marked else "")
        return Segment(signs.ljust(GUTTER), self.brush.style("mark" if marked else "cursor", reverse=reverse))

    def _titles(self, width: int) -> Strip:
        runs: list[Run] = [(" " * GUTTER, "head")]
        for at, (column, its) in enumerate(self._layout()):
            title = column.title
            if self._sorted_by is not None and self._sorted_by[0] == column.id:
                sign = self.glyphs.falling if self._sorted_by[1] else self.glyphs.rising
                title = f"{title} {sign}" if cells(title) + 2 <= its else clip(title, max(0, its - 1), "") + sign
            runs.append((" " * bool(at) + fit(title, its, right=column.right), "head"))
        return self.brush.strip(runs, width)

    def _absent(self, place: int, entry: Entry | None, width: int) -> Strip:
        """A row that is not here: dots, or, once it was removed, a line that says so."""
        at_cursor = place == self._place
        signs = (self.glyphs.cursor if at_cursor else "").ljust(GUTTER)
        if entry is not None:
            runs = [(signs, "cursor"), ("removed", "dim")]
        else:
            cuts = [(self.glyphs.dots * (min(its, 10) if column.width else 10)).ljust(its) for column, its in self._layout()]
            runs = [(signs, "cursor"), (" ".join(cuts), "dim")]
        return self.brush.strip(runs, width, reverse=at_cursor and self.has_focus)

    def _below(self, line: int, width: int) -> Strip:
        """The ground below the last row; where there are no rows at all, why."""
        if self._source.total == 0 and line - 1 in range(len(self.empty)):
            return self.brush.strip([(" " * GUTTER, "text"), *self.empty[line - 1]], width)
        return self.brush.strip((), width)

    def _ticking(self, entry: Entry) -> tuple[Runs, ...]:
        if entry.row is None:
            return ()
        return tuple([tuple(column.cell(entry.row)) for column, _ in self._layout() if column.ticks])

    def _layout(self) -> list[tuple[Column, int]]:
        """The columns there is room for, and their widths."""
        width, screen = self._width, self.app.size.width
        if self._widths is None or self._widths[0] != (width, screen):
            shown = [column for column in self._columns if column.shown_from <= screen]
            fixed = sum(column.width or column.least for column in shown) + len(shown) - 1 + GUTTER
            spare = max(0, width - fixed)
            self._widths = (width, screen), [(c, c.width or c.least + spare) for c in shown]
        return self._widths[1]

    def _draw(self, places: Iterable[int]) -> None:
        """Draw these lines again, those of them that are seen."""
        first, end = self.window
        width = self.size.width
        regions = [Region(0, place - first + 1, width, 1) for place in set(places) if first <= place < end]
        if regions:
            self.refresh(*regions)

    # -- scrolling and looking -------------------------------------------------------------------------------------

    def on_mount(self) -> None:
        self._source.attach(self)
        self.rows_moved()

    def on_resize(self) -> None:
        self._sized()
        self._look()
        top, height = self.scroll_offset.y, max(1, self.size.height - 1)
        if top + height <= self._place < top + self._height:  # the cursor was seen, and the screen has become lower
            self._scroll(self._place - height + 1)
        self._height = height
        self._point()

    def watch_scroll_y(self, old_value: float, new_value: float) -> None:
        super().watch_scroll_y(old_value, new_value)
        if round(old_value) != round(new_value):
            self._look()
            self._point()

    def _sized(self) -> None:
        """There are others, or more. Textual itself looks at the scroll bar only where a widget is not as large as what holds it."""
        self.virtual_size = Size(0, self._source.total + 1)
        self._scroll_update(self.virtual_size)

    def _scroll(self, top: int) -> None:
        self.scroll_to(y=top, animate=False, force=True)

    def _look(self) -> None:
        top = self.scroll_offset.y
        self._source.look(top, top + max(1, self.size.height - 1))
        if len(self._ticked) > STRIPS:
            seen = set(self.visible_keys)
            self._ticked = {key: runs for key, runs in self._ticked.items() if key in seen}

    def on_focus(self) -> None:
        self._point()

    def _point(self) -> None:
        """The terminal's own cursor goes where the cursor is: magnifiers and braille displays follow it."""
        top, end = self.window
        if self.has_focus and top <= self._place < end:
            self.app.cursor_position = self.content_region.offset + Offset(0, self._place - top + 1)

    # -- keys ------------------------------------------------------------------------------------------------------

    def action_step(self, by: int) -> None:
        self.move_to(self._place + by)

    def action_first(self) -> None:
        self.move_to(0)

    def action_last(self) -> None:
        if self._source.exact:
            self.move_to(self._source.total - 1)
        else:
            self.run_worker(self._to_last(), group="table-last", exclusive=True, exit_on_error=False)

    async def _to_last(self) -> None:
        try:
            self.move_to(await self._source.last())
        except TqError as error:
            self.post_message(self.Noted(self, error.message))

    def action_pages(self, pages: float) -> None:
        lines = max(1, self.size.height - 1)
        by = int(lines * abs(pages)) or 1
        self.move_to(self._place + (by if pages > 0 else -by))

    def action_open(self) -> None:
        if self._key is not None:
            self.post_message(self.Opened(self, self._key))

    # -- marks -----------------------------------------------------------------------------------------------------

    def action_mark(self) -> None:
        """Mark or unmark the row under the cursor, and go to the next; where all are marked, none is afterwards."""
        if self.all_marked:
            self.action_unmark()
            return
        if self._key is None:
            return
        self._range = None
        self.marks ^= {self._key}
        self._draw([self._place])
        self.post_message(self.MarksChanged(self))
        if self._place + 1 < self._source.total:
            self.move_to(self._place + 1)

    def action_range(self) -> None:
        """Begin a range, which goes on with the cursor; or end the one that is under way, whose rows stay marked."""
        if self._range is not None:
            self._range = None
        elif self._key is not None and not self.all_marked:
            self._range = _Mark(self._place, set(self.marks), {})
            self._extend(self._range)

    def _extend(self, mark: _Mark) -> None:
        low, high = min(mark.began, self._place), max(mark.began, self._place) + 1
        if high - low > RANGE_MOST:
            self._range = None
            self.post_message(self.Noted(self, f"a range holds at most {RANGE_MOST:,} rows; A marks all that match"))
            return
        missing = False
        for place in range(low, high):
            if place not in mark.seen:
                entry = self._source.entry(place)
                if entry is not None and entry.key is not None:
                    mark.seen[place] = entry.key
                missing = missing or entry is None
        if missing and isinstance(self._source, PagedSource):
            self._source.fetch(low, high)
        marks = mark.before | {key for place, key in mark.seen.items() if low <= place < high}
        if marks != self.marks:
            self.marks = marks
            self._draw(range(*self.window))
            self.post_message(self.MarksChanged(self))

    def action_mark_all(self) -> None:
        self.marks, self.all_marked, self._range = set(), True, None
        self._draw(range(*self.window))
        self.post_message(self.MarksChanged(self))

    def action_unmark(self) -> None:
        self.marks, self.all_marked, self._range = set(), False, None
        self._draw(range(*self.window))
        self.post_message(self.MarksChanged(self))

    # -- mouse -----------------------------------------------------------------------------------------------------

    def on_click(self, event: events.Click) -> None:
        at = event.get_content_offset(self)
        if at is None:
            return
        event.stop()
        if at.y == 0:
            column = self._column_at(at.x)
            if column is not None and column.sorts:
                self.post_message(self.SortAsked(self, column.id))
            return
        place = self.scroll_offset.y + at.y - 1
        entry = self._source.entry(place)
        if place >= self._source.total or entry is None or entry.key is None:
            return
        again = entry.key in (self._key, self._clicked) and self._clicked == self._key
        self.move_to(place)
        if event.button == 2:
            self.marks ^= {entry.key}
            self._draw([place])
            self.post_message(self.MarksChanged(self))
        elif again:
            self.action_open()
        self._clicked = entry.key

    def _column_at(self, x: int) -> Column | None:
        left = GUTTER
        for column, its in self._layout():
            if left <= x < left + its + 1:
                return column
            left += its + 1
        return None

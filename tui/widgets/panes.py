"""Panes: texts, values, errors and outputs that a person scrolls, searches and folds.

For: reading what is longer than its place: ``TextPane``, and on it ``JsonPane``, ``TracebackPane`` and ``LogPane``.
Not for: turning data into lines (documents, which cleans them too), fetching it (screens).
Runs in: the monitor, on the loop of its Textual application.
Promises: only the lines that are seen are wrapped into strips; a pane that follows an output keeps LOG_LINES lines and no more, however
fast they come; what a person looks at stays where it is while more comes.

``/`` searches (letters in either case), ``n`` and ``N`` go on; ``w`` wraps; ``h`` and ``l`` shift what is not wrapped.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, ClassVar

from rich.cells import chop_cells
from textual import events
from textual.binding import Binding, BindingType
from textual.geometry import Size
from textual.message import Message
from textual.scroll_view import ScrollView
from textual.strip import Strip

from tui.documents import JsonLine, JsonText, Line, OutputLine, OutputReader, text_lines, traceback_lines
from tui.formats import ASCII, UNICODE, Glyphs, cells, counted
from tui.widgets.painting import Brush, Runs

LOG_LINES = 2000
SHIFT = 8
"""Cells that ``h`` and ``l`` move what is not wrapped."""
HITS_MOST = 10_000

Hit = tuple[int, int, int]
"""(line, first character, the first behind it)."""


def parts_of(line: Runs, width: int) -> list[tuple[int, Line]]:
    """A line wrapped to ``width`` cells, between words where it can be: for each row where it begins, in characters, and its pieces."""
    text = "".join([piece for piece, _ in line])
    if not text or width < 2 or cells(text) <= width:
        return [(0, list(line))]
    rows: list[tuple[int, Line]] = []
    at = 0
    while at < len(text):
        end = at + max(1, len(chop_cells(text[at : at + 2 * width], width)[0]))  # some have no width
        if end < len(text) and text[end] != " ":
            blank = text.rfind(" ", at, end)
            end = blank + 1 if blank >= 0 and text[at:blank].strip() else end  # a word that fits no line is cut
        rows.append((at, between(line, at, end)))
        at = end + (text[end : end + 1] == " ")  # the blank at a full row's end is its end
    return rows


def between(line: Runs, first: int, end: int) -> Line:
    """The pieces of a line from one character to before another."""
    found: Line = []
    at = 0
    for text, style in line:
        if at < end and at + len(text) > first:
            found.append((text[max(0, first - at) : end - at], style))
        at += len(text)
    return found


class TextPane(ScrollView, can_focus=True):
    """Lines of pieces with styles, to be scrolled, wrapped and searched."""

    ALLOW_SELECT = False
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("j,down", "go(1)", "Down", show=False, id="pane.down"),
        Binding("k,up", "go(-1)", "Up", show=False, id="pane.up"),
        Binding("g,home", "top", "Top", show=False, id="pane.top"),
        Binding("G,end", "bottom", "Bottom", show=False, id="pane.bottom"),
        Binding("ctrl+d", "leaf(0.5)", "Half a page down", show=False, id="pane.half_down"),
        Binding("ctrl+u", "leaf(-0.5)", "Half a page up", show=False, id="pane.half_up"),
        Binding("pagedown", "leaf(1)", "Page down", show=False, id="pane.page_down"),
        Binding("pageup", "leaf(-1)", "Page up", show=False, id="pane.page_up"),
        Binding("h,left", "shift(-1)", "To the left", show=False, id="pane.left"),
        Binding("l,right", "shift(1)", "To the right", show=False, id="pane.right"),
        Binding("slash", "find", "Find", show=False, id="pane.find"),
        Binding("n", "hit(1)", "Next hit", show=False, id="pane.next"),
        Binding("N", "hit(-1)", "Previous hit", show=False, id="pane.previous"),
        Binding("w", "wrap", "Wrap", show=False, id="pane.wrap"),
    ]

    def __init__(self, *, glyphs: Glyphs = UNICODE, wrap: bool = False, id: str | None = None, classes: str | None = None) -> None:  # noqa: A002
        super().__init__(id=id, classes=classes)
        self.glyphs = glyphs
        self.brush = Brush(self)
        self.wrap = wrap
        if glyphs is ASCII:
            self.styles.scrollbar_size_vertical = 0  # Textual draws it with half blocks
        self.lines_rendered = 0
        self._lines: list[Runs] = []
        self._first = 0  # the number of the first line that is kept; a line keeps its number for ever
        self._rows: list[tuple[int, int]] = []  # what is seen in each row: a line, and which of its parts
        self._flowed: tuple[int, bool] = (-1, wrap)  # the width and the wrapping that the rows are for
        self._parts: dict[int, list[tuple[int, Line]]] = {}
        self._shift = 0
        self._sought = ""
        self._typing = False
        self._hits: list[Hit] = []
        self._hit = -1

    # -- what is shown ---------------------------------------------------------------------------------------------

    def show_text(self, text: str) -> None:
        """This text, from its first line; of more than 64 KiB the rest is left out, and a last line says so."""
        self.show_lines(text_lines(text))

    def show_lines(self, lines: Iterable[Runs], *, stay: bool = False) -> None:
        """These lines, which are clean; ``stay``: what was seen at the top stays there, if there is as much."""
        top = self.scroll_offset.y if stay else 0
        self._lines, self._first = list(lines), 0
        self._search()
        self._flow()
        self._scroll(top)

    @property
    def text(self) -> str:
        """All that is shown, for copying: lines without their styles."""
        return "\n".join(["".join([piece for piece, _ in line]) for line in self._lines])

    def _flow(self) -> None:
        """Rows anew, after other lines, another width, or another wrapping."""
        self._parts.clear()
        self._flowed = (self._width, self.wrap)
        self._rows = [row for number in range(self._first, self._first + len(self._lines)) for row in self._rows_of(number)]
        self._sized()
        self.refresh()

    def _rows_of(self, number: int) -> list[tuple[int, int]]:
        if not self.wrap:
            return [(number, 0)]
        line = self._lines[number - self._first]
        if sum([len(piece) for piece, _ in line]) * 2 <= self._width:  # no character is wider than two cells
            return [(number, 0)]
        return [(number, part) for part in range(len(self._parts_of(number)))]

    def _parts_of(self, number: int) -> list[tuple[int, Line]]:
        found = self._parts.get(number)
        if found is None:
            if len(self._parts) > LOG_LINES:
                self._parts.clear()
            found = self._parts[number] = parts_of(self._lines[number - self._first], self._width)
        return found

    @property
    def _width(self) -> int:
        return self.scrollable_content_region.width

    @property
    def _height(self) -> int:
        """Rows for lines: all but the one at the foot, where there is one."""
        return max(1, self.size.height - bool(self._foot()))

    def _sized(self) -> None:
        self.virtual_size = Size(0, len(self._rows) + bool(self._foot()))
        self._scroll_update(self.virtual_size)  # see PagedTable
        if self.wrap and self._flowed[0] != self._width:  # there is a scroll bar now, or none any more; after that it stays so
            self._flow()

    def _scroll(self, top: int) -> None:
        self.scroll_to(y=top, animate=False, force=True)

    def on_resize(self) -> None:
        if self._flowed != (self._width, self.wrap):
            number = self._rows[self.scroll_offset.y][0] if self.scroll_offset.y < len(self._rows) else 0
            self._flow()
            self._scroll(self._row_of(number))

    def _row_of(self, number: int, at: int = 0) -> int:
        """The row in which a character of a line is seen."""
        row = bisect_left(self._rows, (number, 0))
        if self.wrap and at:
            row += max(0, bisect_right([start for start, _ in self._parts_of(number)], at) - 1)
        return row

    # -- drawing ---------------------------------------------------------------------------------------------------

    def notify_style_update(self) -> None:
        super().notify_style_update()
        self.brush.forget()

    def render_line(self, y: int) -> Strip:
        width = self._width
        foot = self._foot()
        if foot and y == self.size.height - 1:
            return self.brush.strip(foot, width)
        row = self.scroll_offset.y + y
        if row >= len(self._rows) or self._rows[row][0] < self._first:
            return self.brush.strip((), width)
        self.lines_rendered += 1
        number, part = self._rows[row]
        start, runs = 0, self._lines[number - self._first]
        if self.wrap and self._flowed == (width, True):
            start, runs = self._parts_of(number)[part] if part < len(self._parts_of(number)) else (0, [])
        runs = self._marked(runs, number, start)
        if self._shift and not self.wrap:
            runs = between(runs, self._shift, 1 << 30)
        return self.brush.strip(runs, width, reverse=self._is_cursor(number))

    def _is_cursor(self, number: int) -> bool:
        """Whether a line is the one that keys are about."""
        return False

    def _foot(self) -> Line:
        """What stands in the last row; empty: a line of the text."""
        if self._typing or self._sought:
            where = f"{self._hit + 1} of {len(self._hits)}" if self._hits else "not found" if self._sought else ""
            return [("/", "head"), (self._sought + ("_" if self._typing else ""), "strong"), (f"  {where}", "dim")]
        return []

    def _marked(self, runs: Runs, number: int, start: int) -> Runs:
        """The pieces, which begin at that character of their line, with the hits in it."""
        if not self._hits:
            return runs
        end = start + sum(len(text) for text, _ in runs)
        found: Line = []
        at = start
        for place in range(bisect_left(self._hits, (number, 0, 0)), len(self._hits)):
            line, first, last = self._hits[place]
            if line != number or first >= end:
                break
            first, last = max(first, at), min(last, end)
            if last > first:
                style = "here" if place == self._hit else "hit"
                found += between(runs, at - start, first - start)
                found.append(("".join([text for text, _ in between(runs, first - start, last - start)]), style))
                at = last
        return [*found, *between(runs, at - start, end - start)]

    # -- moving ----------------------------------------------------------------------------------------------------

    def action_go(self, by: int) -> None:
        self._scroll(self.scroll_offset.y + by)

    def action_leaf(self, pages: float) -> None:
        self._scroll(self.scroll_offset.y + int(self._height * pages))

    def action_top(self) -> None:
        self._scroll(0)

    def action_bottom(self) -> None:
        self._scroll(len(self._rows))

    def action_shift(self, by: int) -> None:
        longest = max([sum([len(piece) for piece, _ in line]) for line in self._lines], default=0)
        self._shift = max(0, min(self._shift + by * SHIFT, longest - 1))
        self.refresh()

    def action_wrap(self) -> None:
        number = self._rows[self.scroll_offset.y][0] if self.scroll_offset.y < len(self._rows) else self._first
        self.wrap, self._shift = not self.wrap, 0
        self._flow()
        self._scroll(self._row_of(number))

    # -- finding ---------------------------------------------------------------------------------------------------

    def check_consume_key(self, key: str, character: str | None) -> bool:
        return self._typing

    def action_find(self) -> None:
        self._typing, self._sought = True, ""
        self._search()
        self._sized()
        self.refresh()

    async def _on_key(self, event: events.Key) -> None:
        """While something to be found is typed, keys are its letters; escape ends that, and then the search."""
        if not self._typing:
            if event.key == "escape" and self._sought:
                event.stop()
                self.find("")
            return
        event.stop()
        event.prevent_default()
        if event.key == "escape":
            self._typing = False
            self.find("")
        elif event.key == "enter":
            self._typing = False
            self._sized()
            self.refresh()
        elif event.key == "backspace":
            self.find(self._sought[:-1])
        elif event.is_printable and event.character:
            self.find(self._sought + event.character)

    def find(self, text: str) -> int:
        """Mark all places of this text, in letters of either case, go to the first from the top of what is seen, and say how many there
        are (HITS_MOST at the most); an empty text ends the search."""
        self._sought = text
        self._search()
        row = min(self.scroll_offset.y, len(self._rows) - 1)
        if self._hits:
            self._hit = bisect_left(self._hits, (self._rows[row][0], 0, 0)) % len(self._hits)
            self._show_hit()
        self._sized()
        self.refresh()
        return len(self._hits)

    def _search(self) -> None:
        self._hits, self._hit = [], -1
        if self._sought:
            for number, line in enumerate(self._lines, self._first):
                self._search_in(number, line)

    def _search_in(self, number: int, line: Runs) -> None:
        sought = self._sought.lower()
        text = "".join([piece for piece, _ in line])
        lower = text.lower()
        if len(lower) != len(text):  # a letter whose small form is two: places would not agree
            lower, sought = text, self._sought
        at = lower.find(sought)
        while at >= 0 and len(self._hits) < HITS_MOST:
            self._hits.append((number, at, at + len(sought)))
            at = lower.find(sought, at + len(sought))

    def action_hit(self, by: int) -> None:
        if self._hits:
            self._hit = (self._hit + by) % len(self._hits)
            self._show_hit()
            self.refresh()

    def _show_hit(self) -> None:
        number, at, _ = self._hits[self._hit]
        row, top = self._row_of(number, at), self.scroll_offset.y
        if not top <= row < top + self._height:
            self._scroll(row - self._height // 2)
        if not self.wrap and not self._shift <= at < self._shift + max(8, self._width - 8):
            self._shift = max(0, at - self._width // 2)


class JsonPane(TextPane):
    """A value as JSON. The cursor goes from line to line; ``z`` folds and opens what begins there, ``!`` shows what looks secret."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("z,enter", "fold", "Fold", show=False, id="json.fold"),
        Binding("exclamation_mark", "secrets", "Show secrets", show=False, id="json.secrets"),
    ]

    class SecretsShown(Message):
        """A person asked to see what looked secret: to be written down by whoever keeps the record."""

        def __init__(self, pane: JsonPane) -> None:
            super().__init__()
            self.pane = pane

        @property
        def control(self) -> JsonPane:
            return self.pane

    def __init__(self, *, glyphs: Glyphs = UNICODE, wrap: bool = False, id: str | None = None, classes: str | None = None) -> None:  # noqa: A002
        super().__init__(glyphs=glyphs, wrap=wrap, id=id, classes=classes)
        self._json = JsonText(None, glyphs)
        self._told: list[JsonLine] = []
        self._line = 0

    def show_value(self, value: Any) -> None:
        """This value, secrets hidden, what is long folded. It is cleaned here."""
        self._json, self._line = JsonText(value, self.glyphs), 0
        self._retell(stay=False)

    @property
    def hidden(self) -> int:
        """How many values are hidden as secrets."""
        return self._json.secrets

    def _retell(self, *, stay: bool = True) -> None:
        self._told = self._json.lines()
        self._line = min(self._line, len(self._told) - 1)
        self.show_lines([self._with_sign(line) for line in self._told], stay=stay)

    def _with_sign(self, line: JsonLine) -> Runs:
        sign = "  " if line.opened is None else f"{self.glyphs.opened if line.opened else self.glyphs.closed} "
        return [(sign, "dim"), *line.runs]

    def _is_cursor(self, number: int) -> bool:
        return self.has_focus and number == self._line

    def action_go(self, by: int) -> None:
        self._line = max(0, min(self._line + by, len(self._told) - 1))
        row, top = self._row_of(self._line), self.scroll_offset.y
        if not top <= row < top + self._height:
            self._scroll(row if row < top else row - self._height + 1)
        self.refresh()

    def action_leaf(self, pages: float) -> None:
        self.action_go(int(self._height * pages))

    def action_top(self) -> None:
        self.action_go(-len(self._told))

    def action_bottom(self) -> None:
        self.action_go(len(self._told))

    def action_fold(self) -> None:
        """Fold or open the list or map of the cursor's line; on another line, fold what it stands in."""
        if not self._told:
            return
        line = self._told[self._line]
        path = line.path if line.opened is not None else line.path[:-1]
        self._json.turn(path)
        self._line = next((at for at, one in enumerate(self._told) if one.path == path), 0)
        self._retell()
        self.action_go(0)

    def action_secrets(self) -> None:
        self._json.show_secrets = not self._json.show_secrets
        self._retell()
        if self._json.show_secrets:
            self.post_message(self.SecretsShown(self))

    def on_click(self, event: events.Click) -> None:
        at = event.get_content_offset(self)
        row = -1 if at is None else self.scroll_offset.y + at.y
        if 0 <= row < len(self._rows):
            again, self._line = self._rows[row][0] == self._line, self._rows[row][0]
            if again and self._told[self._line].opened is not None:
                self.action_fold()
            self.refresh()


class TracebackPane(TextPane):
    """The errors of a task's attempts, the newest first. ``[`` and ``]`` go to older and newer ones, ``z`` shows frames of libraries."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("left_square_bracket", "attempt(1)", "Older attempt", show=False, id="trace.older"),
        Binding("right_square_bracket", "attempt(-1)", "Newer attempt", show=False, id="trace.newer"),
        Binding("z", "fold", "Fold library frames", show=False, id="trace.fold"),
    ]

    def __init__(self, *, glyphs: Glyphs = UNICODE, wrap: bool = False, id: str | None = None, classes: str | None = None) -> None:  # noqa: A002
        super().__init__(glyphs=glyphs, wrap=wrap, id=id, classes=classes)
        self._attempts: list[tuple[int, Mapping[str, Any]]] = []
        self._at = 0
        self._folded = True

    def show_errors(self, attempts: Iterable[tuple[int, Mapping[str, Any]]]) -> None:
        """Numbers of attempts and their error maps, as the daemon has them, in any order."""
        self._attempts, self._at = sorted(attempts, key=lambda one: -one[0]), 0
        self._retell()

    @property
    def attempt(self) -> tuple[int, int, int]:
        """The number of the attempt that is shown, which of them it is (from 1, the newest), and how many have an error; zeros: none."""
        if not self._attempts:
            return 0, 0, 0
        return self._attempts[self._at][0], self._at + 1, len(self._attempts)

    def _retell(self) -> None:
        error = self._attempts[self._at][1] if self._attempts else None
        self.show_lines(traceback_lines(error, fold=self._folded) if error is not None else [[("no attempt has failed", "dim")]])

    def action_attempt(self, by: int) -> None:
        self._at = max(0, min(self._at + by, len(self._attempts) - 1))
        self._retell()

    def action_fold(self) -> None:
        self._folded = not self._folded
        self._retell()


class LogPane(TextPane):
    """An output as it comes. It follows its end until somebody scrolls up; ``F`` follows again, ``t`` shows times."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("F", "follow", "Follow", show=False, id="log.follow"),
        Binding("t", "stamps", "Times", show=False, id="log.times"),
    ]

    def __init__(
        self,
        *,
        stamps: Sequence[Callable[[int], str] | None] = (None,),
        glyphs: Glyphs = UNICODE,
        wrap: bool = True,
        id: str | None = None,  # noqa: A002 - Textual's name for it
        classes: str | None = None,
    ) -> None:
        """``stamps``: the ways to write a line's time (ms), None for not at all; ``t`` takes the next."""
        super().__init__(glyphs=glyphs, wrap=wrap, id=id, classes=classes)
        self._stamps, self._stamp = tuple(stamps), 0
        self.follows = True
        self.note = ""
        """What else is to be said at the foot, such as the rate."""
        self._reader = OutputReader()
        self._output: list[OutputLine] = []
        self._open = 0  # how many of the lines shown are still being written
        self._dropped = 0
        self._ended = False

    def clear(self) -> None:
        """Another output begins."""
        self._reader, self._output, self._open, self._dropped, self._ended = OutputReader(), [], 0, 0, False
        self.follows = True
        self.show_lines(())

    def append(self, chunks: Iterable[Sequence[Any]], *, end: bool = False) -> None:
        """More of the output: (milliseconds, stream, bytes) each, as the daemon has them; ``end``: it is over. Cleaned here."""
        self._ended = self._ended or end
        self._take(self._reader.read(chunks)[-LOG_LINES:], self._reader.unfinished())

    def _take(self, lines: list[OutputLine], unfinished: list[OutputLine]) -> None:
        seen = self._rows[self.scroll_offset.y] if self.scroll_offset.y < len(self._rows) else None
        kept = len(self._output) - self._open
        del self._output[kept:], self._lines[kept:]
        del self._rows[bisect_left(self._rows, (self._first + kept, 0)) :]
        for number in range(self._first + kept, self._first + kept + self._open):
            self._parts.pop(number, None)
        stamp = self._stamps[self._stamp]
        added = lines + unfinished
        self._output += added
        self._lines += [line.runs(stamp) for line in added]
        self._open = len(unfinished)
        over = max(0, len(self._output) - LOG_LINES)
        for number in range(self._first + kept, self._first + len(self._output)):
            if number >= self._first + over:
                self._rows += self._rows_of(number)
        self._drop(over)
        if self._sought:
            self._search()
        self._sized()
        if self.follows:
            self._scroll(len(self._rows))
        elif seen is not None:
            self._scroll(bisect_left(self._rows, seen))
        self.refresh()

    def _drop(self, over: int) -> None:
        if over:
            for number in range(self._first, self._first + over):
                self._parts.pop(number, None)
            del self._output[:over], self._lines[:over]
            self._first += over
            self._dropped += over
            del self._rows[: bisect_left(self._rows, (self._first, 0))]

    def show_lines(self, lines: Iterable[Runs], *, stay: bool = False) -> None:
        super().show_lines(lines, stay=stay)
        if self.follows:
            self._scroll(len(self._rows))

    def _foot(self) -> Line:
        if self._typing or self._sought:
            return super()._foot()
        parts = ["the output is over" if self._ended else "end of output" if self.follows else "", "following" if self.follows else ""]
        if not self.follows:
            below = max(0, len(self._rows) - self.scroll_offset.y - max(1, self.size.height - 1))
            parts = [f"not following: {counted(below, 'row')} below, F follows"]
        parts.append(counted(len(self._output) + self._dropped, "line") + (f", the last {LOG_LINES:,} kept" if self._dropped else ""))
        return [(f"{self.glyphs.end} ", "dim"), (" · ".join([part for part in [*parts, self.note] if part]), "note")]

    def watch_scroll_y(self, old_value: float, new_value: float) -> None:
        super().watch_scroll_y(old_value, new_value)
        if new_value < old_value and self.follows and new_value < self.max_scroll_y:
            self.follows = False
            self.refresh()

    def action_bottom(self) -> None:
        self.action_follow()

    def action_follow(self) -> None:
        """Follow the end from now on."""
        self.follows = True
        self._scroll(len(self._rows))
        self.refresh()

    def action_stamps(self) -> None:
        self._stamp = (self._stamp + 1) % len(self._stamps)
        stamp = self._stamps[self._stamp]
        follows = self.follows
        self._lines = [line.runs(stamp) for line in self._output]
        self._search()
        self._flow()
        self.follows = follows
        if follows:
            self._scroll(len(self._rows))

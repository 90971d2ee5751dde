"""Small questions over a screen: one of a list, some of a list, a line of text, a text of many lines.

For: ``Choose`` (sort, copy), ``Pick`` (columns), ``Ask`` (a number, a name) and ``Write`` (a payload).
Not for: confirming what is asked for (confirm), the ``:`` line (screens.prompt).
Runs in: the monitor, on Textual.
Promises: escape changes nothing; what cannot be chosen says why and is not chosen; what is written wrongly stays, with what was expected.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import ClassVar, NamedTuple

from textual import events
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.screen import ModalScreen
from textual.widgets import Input, TextArea

from tui.formats import UNICODE, Glyphs, cells
from tui.paging import ListSource
from tui.widgets.bars import Line, Piece
from tui.widgets.table import Column, PagedTable


class Choice(NamedTuple):
    """One of a list. ``why_not``: why it cannot be chosen now; empty: it can."""

    key: str
    text: str
    note: str = ""
    why_not: str = ""


class _Listed(ModalScreen[list[str] | None]):
    """A list over a screen; its keys are the list's own, and escape."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape,q", "dismiss(None)", "Close")]
    AUTO_FOCUS = "#choosing"
    SAYS = "enter Choose  esc Close"

    def __init__(self, title: str, choices: Sequence[Choice], *, glyphs: Glyphs = UNICODE) -> None:
        super().__init__()
        self._title, self._choices, self._glyphs = title, choices, glyphs
        self._source = ListSource(lambda one: one.key)

    def _columns(self) -> list[Column]:
        size = max((cells(one.text) for one in self._choices), default=8)
        return [
            Column("text", "", min(size, 40), lambda one: [(one.text, "dim" if one.why_not else "text")], sorts=False),
            Column("note", "", 0, lambda one: [(one.why_not or one.note, "note")], sorts=False),
        ]

    def compose(self) -> ComposeResult:
        with Vertical(id="chooser"):
            yield PagedTable(self._columns(), self._source, glyphs=self._glyphs, flashes=False, id="choosing")

    def on_mount(self) -> None:
        box = self.query_one("#chooser", Vertical)
        box.border_title, box.border_subtitle = self._title, self.SAYS
        box.styles.height = min(len(self._choices), 20) + 3
        self._source.show(self._choices)

    @property
    def _table(self) -> PagedTable:
        return self.query_one(PagedTable)


class Choose(_Listed):
    """One of a list; gives its key in a list, None for nothing."""

    def on_paged_table_opened(self, event: PagedTable.Opened) -> None:
        row = event.table.cursor_row
        if isinstance(row, Choice) and not row.why_not:
            self.dismiss([row.key])


class Pick(_Listed):
    """Some of a list, those that are marked; gives their keys in the order of the list, None for no change."""

    SAYS = "space Mark  enter Take  esc Close"

    def __init__(self, title: str, choices: Sequence[Choice], marked: Sequence[str], *, glyphs: Glyphs = UNICODE) -> None:
        super().__init__(title, choices, glyphs=glyphs)
        self._marked = marked

    def on_mount(self) -> None:
        super().on_mount()
        self._table.marks = set(self._marked)

    def on_paged_table_opened(self, event: PagedTable.Opened) -> None:
        self.dismiss([one.key for one in self._choices if event.table.all_marked or one.key in event.table.marks])


Check = Callable[[str], object]
"""Says by a ValueError what was expected."""


class Ask(ModalScreen[str | None]):
    """A line of text; gives it, None for nothing."""

    AUTO_FOCUS = "#asked"

    def __init__(self, title: str, value: str, check: Check) -> None:
        super().__init__()
        self._title, self._value, self._check = title, value, check

    def compose(self) -> ComposeResult:
        with Vertical(id="asker"):
            yield Input(self._value, id="asked", compact=True)
            yield Line(id="expected")

    def on_mount(self) -> None:
        box = self.query_one("#asker", Vertical)
        box.border_title, box.border_subtitle = self._title, "enter Take  esc Close"
        self.query_one(Input).cursor_blink = False

    def on_input_submitted(self, event: Input.Submitted) -> None:
        try:
            self._check(event.value.strip())
        except ValueError as error:
            self.query_one("#expected", Line).show([Piece(str(error), "bold $bad")])
            return
        self.dismiss(event.value.strip())

    def on_key(self, event: events.Key) -> None:
        if event.key == "escape":
            event.stop()
            self.dismiss(None)


class Write(ModalScreen[str | None]):
    """A text of many lines; ctrl+s gives it, escape nothing. What was changed is not thrown away by one escape."""

    AUTO_FOCUS = "#written"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("ctrl+s", "send", "Send", priority=True),
        Binding("escape", "leave", "Close", priority=True),  # before the text takes it
    ]

    def __init__(self, title: str, text: str, check: Check) -> None:
        super().__init__()
        self._title, self._text, self._check = title, text, check
        self._warned = False

    def compose(self) -> ComposeResult:
        with Vertical(id="writer"):
            yield TextArea(self._text, id="written", show_line_numbers=True, soft_wrap=True, tab_behavior="indent", compact=True)
            yield Line(id="expected")

    def on_mount(self) -> None:
        box = self.query_one("#writer", Vertical)
        box.border_title, box.border_subtitle = self._title, "^s Send  esc Close"
        self.query_one(TextArea).cursor_blink = False

    def action_leave(self) -> None:
        area = self.query_one(TextArea)
        if area.text == self._text or self._warned:
            self.dismiss(None)
            return
        self._warned = True
        self.query_one("#expected", Line).show([Piece("It was changed: esc once more throws that away, ^s sends it.", "bold $warn")])

    def action_send(self) -> None:
        text = self.query_one(TextArea).text
        try:
            self._check(text)
        except ValueError as error:
            self.query_one("#expected", Line).show([Piece(str(error), "bold $bad")])
            return
        self.dismiss(text)

"""A form over a screen: some texts to be changed, each with its name and what may stand there.

For: ``Field`` and ``Form``; settings of a queue, where an export goes.
Not for: what a text means and whether it can be (who opened it says), yes or no (confirm).
Runs in: the monitor, on Textual.
Promises: what was typed is never lost by one key: escape asks again where something was changed, and a form that is refused stays as it
is, with the reason; nothing that it shows is parsed as markup.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar

from textual import events
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical, VerticalScroll
from textual.content import Content
from textual.screen import ModalScreen
from textual.widgets import Input

from tq.errors import TqError
from tui.formats import cleaned
from tui.widgets.bars import Line, Piece

LABEL = 14
"""Cells of a name."""


@dataclass(frozen=True, slots=True)
class Field:
    """One text: ``name`` for who opened the form, ``label`` and ``hint`` for people."""

    name: str
    label: str
    text: str = ""
    hint: str = ""


Save = Callable[[dict[str, str]], Awaitable[None]]
"""Takes the texts by their names; ValueError or TqError says why they cannot be, and the form stays."""


class Form(ModalScreen[bool]):
    """The dialog; gives whether it was saved. ``verb`` is what saving is called; ``says`` stands above the fields."""

    AUTO_FOCUS = "Input"
    BINDINGS: ClassVar[list[BindingType]] = [  # before the field takes them: the next letter is the next field's, however fast it comes
        Binding("tab,down", "go(1)", "Next", priority=True),
        Binding("shift+tab,up", "go(-1)", "Before", priority=True),
    ]

    def __init__(self, title: str, says: str, fields: Sequence[Field], verb: str, save: Save) -> None:
        super().__init__()
        self._heading, self._says, self._fields, self._verb, self._save = title, says, fields, verb, save
        self._asked = False  # whether escape was pressed once over something that was changed
        self._busy = False

    def compose(self) -> ComposeResult:
        with Vertical(id="form"):
            yield Line(id="form-says")
            with VerticalScroll(id="form-fields", can_focus=False):
                for at, field in enumerate(self._fields):
                    with Horizontal(classes="form-row"):
                        label = Line()
                        label.show([Piece(field.label.ljust(LABEL), "bold")])
                        yield label
                        yield Input(field.text, id=f"field-{at}", compact=True, select_on_focus=False)
            yield Line(id="form-hint")
            yield Line(id="form-foot")

    def on_mount(self) -> None:
        box = self.query_one("#form", Vertical)
        box.border_title = Content(self._heading)
        for one in self.query(Input):
            one.cursor_blink = False
        self.query_one("#form-says", Line).show([Piece(f" {self._says}", "bold")])
        self._tell("")

    @property
    def texts(self) -> dict[str, str]:
        """What stands in the fields now, by their names."""
        return {field.name: self.query_one(f"#field-{at}", Input).value for at, field in enumerate(self._fields)}

    @property
    def changed(self) -> bool:
        """Whether any text is another than at first."""
        texts = self.texts
        return any(texts[field.name] != field.text for field in self._fields)

    def _tell(self, problem: str) -> None:
        keys = Piece(f" ^s {self._verb}  tab Next  esc Leave it", "$muted", "")
        self.query_one("#form-foot", Line).show([Piece(f" {problem}", "bold $bad")] if problem else [keys])

    def on_descendant_focus(self) -> None:
        at = next((at for at, one in enumerate(self.query(Input)) if one.has_focus), 0)
        self.query_one("#form-hint", Line).show([Piece(f" {self._fields[at].hint}", "$muted")])

    def on_input_changed(self) -> None:
        self._asked = False
        self._tell("")

    def on_input_submitted(self) -> None:
        self._begin()

    def on_key(self, event: events.Key) -> None:
        if event.key == "ctrl+s":
            self._begin()
        elif event.key in ("escape", "ctrl+c"):
            self._leave()
        else:
            return
        event.stop()
        event.prevent_default()

    def action_go(self, by: int) -> None:
        """To the next field, or the one before."""
        if by > 0:
            self.focus_next(Input)
        else:
            self.focus_previous(Input)

    def _leave(self) -> None:
        if self.changed and not self._asked:
            self._asked = True
            self._tell("What was typed is not saved. esc once more throws it away.")
        else:
            self.dismiss(False)

    def _begin(self) -> None:
        if not self._busy:
            self._busy = True
            self.run_worker(self._saved(), group="save", exit_on_error=False)

    async def _saved(self) -> None:
        try:
            await self._save(self.texts)
        except (TqError, ValueError) as error:
            if self.is_mounted:
                self._tell(str(cleaned(str(error))))
            return
        finally:
            self._busy = False
        if self.is_current:
            self.dismiss(True)

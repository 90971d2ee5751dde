"""The ``/`` line of a list: a filter as it is typed, what may come next, and where it is wrong.

For: typing, completing and correcting a filter; earlier ones with up and down.
Not for: what matches (the daemon), what a filter means (tq.query), the list itself.
Runs in: the monitor, on Textual.
Promises: a filter counts 150 ms after the last key, or at once with enter; one that cannot be read counts not at all, and a caret
stands where it goes wrong; escape brings back the one from before.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from datetime import tzinfo
from typing import Any

from textual import events
from textual.app import ComposeResult
from textual.containers import Horizontal, Vertical
from textual.message import Message
from textual.widgets import Input

from tq.errors import TqError, UsageError
from tq.query import parse
from tui.clock import Clock
from tui.formats import cells, clip
from tui.widgets.bars import Line, Piece

Call = Callable[[str, dict[str, Any]], Awaitable[Any]]
SETTLES_S = 0.15
EARLIER_MOST = 50
SHOWN = 6


class FilterBar(Vertical):
    """A filter of a list. ``call`` asks the daemon for completions; one that has none completes nothing. ``earlier``: filters that were
    typed in another run; ``typed`` is told of each that is typed in this one."""

    class Changed(Message):
        """Another filter counts now, one that can be read. ``done``: the person is through with it."""

        def __init__(self, bar: FilterBar, text: str, done: bool) -> None:
            super().__init__()
            self.bar, self.text, self.done = bar, text, done

        @property
        def control(self) -> FilterBar:
            return self.bar

    def __init__(
        self, call: Call, clock: Clock, *, earlier: Sequence[str] = (), typed: Callable[[str], None] | None = None,
        zone: tzinfo | None = None, id: str | None = None,  # noqa: A002 - Textual's name
    ) -> None:  # fmt: skip
        super().__init__(id=id, classes="filterbar")
        self._call, self._clock, self._zone = call, clock, zone
        self._counts = ""
        self._before = ""
        self._earlier = list(earlier)
        self._typed = typed
        self._choices: Sequence[tuple[str, str]] = ()
        self._span = (0, 0)
        self._at = -1
        self._put = ""  # what a completion has put in, which is no typing
        self._problem = ""
        self._column = 0
        self._waiting: asyncio.Task[None] | None = None

    def compose(self) -> ComposeResult:
        with Horizontal(classes="filterline"):
            sign = Line()
            sign.show([Piece(" / ", "bold $primary")])
            yield sign
            field = Input(compact=True, select_on_focus=False)
            field.cursor_blink = False
            yield field
        yield Line(id="filter-note")

    @property
    def text(self) -> str:
        """The filter that counts."""
        return self._counts

    @property
    def editing(self) -> bool:
        return self.query_one(Input).has_focus

    def show(self, text: str) -> None:
        """This filter counts from now on; nobody is told."""
        self._counts = self._put = text
        self.query_one(Input).value = text
        self._note()

    def open(self) -> None:
        """Type from here on."""
        self._before = self._counts
        field = self.query_one(Input)
        self.screen.set_focus(field)  # at once: the next key is its first letter
        field.cursor_position = len(field.value)
        self._settle_soon()

    # typing

    def on_input_changed(self, event: Input.Changed) -> None:
        event.stop()
        if event.value != self._put:
            self._put, self._at = "", -1
            self._settle_soon()

    def _settle_soon(self) -> None:
        if self._waiting is not None:
            self._waiting.cancel()
        self._waiting = asyncio.create_task(self._settled(), name="tq-monitor-filter")

    async def _settled(self) -> None:
        await self._clock.sleep(SETTLES_S)
        self._take(done=False)
        await self._complete()

    def on_unmount(self) -> None:
        if self._waiting is not None:
            self._waiting.cancel()

    def _take(self, *, done: bool) -> bool:
        """Let what is typed count, if it can be read; whether it can."""
        text = self.query_one(Input).value.strip()
        try:
            parse(text, self._clock.now_ms(), self._zone)
        except UsageError as error:
            column = error.details.get("column")
            self._problem, self._column = error.message, column if isinstance(column, int) else 1
            self._note()
            return False
        self._problem = ""
        if text != self._counts or done:
            self._counts = text
            self.post_message(self.Changed(self, text, done))
        self._note()
        return True

    async def _complete(self) -> None:
        field = self.query_one(Input)
        text, at = field.value, field.cursor_position
        try:
            found = await self._call("complete", {"text": text, "at": at})
        except TqError:
            self._choices = ()
            return
        if field.value == text:
            self._span = (int(found["start"]), int(found["end"]))
            self._choices = [(str(choice), str(note or "")) for choice, note in found["choices"]]
            self._at = -1
            self._note()

    # keys

    def on_key(self, event: events.Key) -> None:
        field = self.query_one(Input)
        if not field.has_focus:
            return
        if event.key == "escape":
            self.show(self._before)
            self._problem = ""
            self.post_message(self.Changed(self, self._before, True))
        elif event.key == "enter":
            if self._take(done=True) and self._counts:
                self._earlier = [*[one for one in self._earlier if one != self._counts][-EARLIER_MOST + 1 :], self._counts]
                if self._typed is not None:
                    self._typed(self._counts)
        elif event.key in ("tab", "shift+tab"):
            self._choose(1 if event.key == "tab" else -1)
        elif event.key in ("up", "down"):
            self._from_earlier(-1 if event.key == "up" else 1)
        else:
            return
        event.stop()
        event.prevent_default()

    def _choose(self, step: int) -> None:
        """Put the next choice in the place of what stands there."""
        if not self._choices:
            return
        field = self.query_one(Input)
        start, end = self._span
        self._at = (self._at + step) % len(self._choices)
        choice = self._choices[self._at][0]
        self._put = field.value[:start] + choice + field.value[end:]
        self._span = (start, start + len(choice))
        field.value = self._put
        field.cursor_position = start + len(choice)
        self._take(done=False)

    def _from_earlier(self, step: int) -> None:
        field = self.query_one(Input)
        if not self._earlier:
            return
        here = self._earlier.index(field.value) if field.value in self._earlier else len(self._earlier)
        at = min(max(here + step, 0), len(self._earlier))
        field.value = self._earlier[at] if at < len(self._earlier) else ""
        field.cursor_position = len(field.value)

    # what stands below

    def _note(self) -> None:
        line, field = self.query_one("#filter-note", Line), self.query_one(Input)
        if self._problem:
            before = cells(field.value[: max(self._column - 1, 0)]) + 3
            room = max(self.size.width - before - 3, 20)
            pieces = [Piece(" " * min(before, max(self.size.width - 24, 3))), Piece(f"^ {clip(self._problem, room)}", "bold $bad")]
        else:
            first = max(self._at - SHOWN + 1, 0)
            pieces = [Piece("   ")]
            for at, (choice, note) in enumerate(self._choices[first : first + SHOWN], first):
                pieces += [Piece(f" {choice} ", "reverse" if at == self._at else ""), Piece(f"{note}  ", "$muted")]
        line.show(pieces)
        line.display = bool(self._problem) or (field.has_focus and bool(self._choices))

    def on_descendant_focus(self) -> None:
        self._note()

    def on_descendant_blur(self) -> None:
        self._choices = ()
        self._note()

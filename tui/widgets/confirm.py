"""Asking before something is done that cannot be taken back.

For: ``Question`` (what is to happen, to how much, and how heavy that is) and ``Confirm``, the dialog.
Not for: actions that are asked for nothing (weights 0 and most of 1), what is done then.
Runs in: the monitor, on Textual.
Promises: No has the focus; a key within 300 ms of its opening counts for nothing, so that blind typing confirms nothing; enter alone
confirms nothing heavier than 2; from weight 3 on what is to go is typed out first; weight 4 waits three seconds more.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

from textual import events
from textual.app import ComposeResult
from textual.content import Content
from textual.screen import ModalScreen
from textual.widget import Widget

from tq.errors import TqError
from tui.formats import clip

if TYPE_CHECKING:
    from tui.app import MonitorApp

DEAF_S, HEAVY_S = 0.3, 3.0


@dataclass(frozen=True, slots=True)
class Question:
    """What is asked. ``verb``: the words of the button (``Delete 213``); ``says``: what happens, in a sentence."""

    title: str
    says: str
    verb: str
    weight: int
    facts: Sequence[tuple[str, str]] = ()
    """Names and values: where, queues, oldest."""
    warning: str = ""
    typed: str = ""
    """What is to be typed from weight 3 on: the number, or the name of one thing."""
    dry_run: Callable[[], Awaitable[str]] | None = None
    """Asks the daemon what it would do; a sentence."""


class Confirm(ModalScreen[bool]):
    """The dialog; gives whether it was confirmed."""

    AUTO_FOCUS = ""

    def __init__(self, question: Question) -> None:
        super().__init__()
        if question.weight >= 3 and not question.typed:
            raise ValueError(f"{question.title}: expected what is to be typed, got nothing")
        self._question = question
        self._yes = False
        self._typed = ""
        self._found = ""
        self._opened = 0.0

    @property
    def _monitor(self) -> MonitorApp:
        return cast("MonitorApp", self.app)

    def compose(self) -> ComposeResult:
        yield _Box(self._text)

    def on_mount(self) -> None:
        self._opened = self._monitor.clock.ticks()

    @property
    def _ready(self) -> bool:
        """Whether Yes may be chosen at all."""
        question = self._question
        if question.weight >= 3 and self._typed != question.typed:
            return False
        return question.weight < 4 or self._monitor.clock.ticks() - self._opened >= HEAVY_S

    def _text(self, width: int) -> Content:
        question = self._question
        parts: list[Any] = [("\n", ""), (f" {question.says}", "bold"), "\n"]
        if question.facts:
            parts.append("\n")
        size = max((len(name) for name, _ in question.facts), default=0)
        for name, value in question.facts:
            parts += [(f" {name.ljust(size)}   ", "$muted"), clip(value, max(width - size - 5, 8)), "\n"]
        if question.warning:
            parts += ["\n", (f" {self._monitor.glyphs.warn} {question.warning}", "bold $warn"), "\n"]
        if question.weight >= 3:
            parts += ["\n", " type ", (question.typed, "bold"), " to go on:  ", (f"{self._typed}_", "bold underline"), "\n"]
        if question.weight >= 4:
            left = HEAVY_S - (self._monitor.clock.ticks() - self._opened)
            parts += [(f" {question.verb} works in {left:.0f} s" if left > 0 else " ", "$muted"), "\n"]
        if self._found:
            parts += ["\n", (f" {self._found}", "$muted"), "\n"]
        no, yes = (" No, keep ", f" {question.verb} ")
        calm, chosen = "$muted", "bold reverse"
        parts += ["\n", "      ", (f"[{no}]" if not self._yes else f" {no} ", calm if self._yes else chosen), "      "]
        ready = "" if self._ready else "dim "
        parts += [(f"[{yes}]" if self._yes else f" {yes} ", ready + (chosen if self._yes else calm))]
        parts.append(("      d dry run" if question.dry_run else "", "$muted"))
        parts.append("\n")
        return Content.assemble(*parts)

    def repaint(self) -> None:
        """Draw it again: what was typed, or the time, has changed what may be chosen."""
        box = self.query_one(_Box)
        box.border_title = self._question.title
        box.refresh(layout=True)

    async def on_key(self, event: events.Key) -> None:
        event.stop()
        event.prevent_default()
        if self._monitor.clock.ticks() - self._opened < DEAF_S:
            return
        typing = self._question.weight >= 3
        key = event.key
        if key in ("escape", "ctrl+c") or (not typing and key in ("n", "q")):
            self.dismiss(False)
        elif key in ("left", "right", "tab", "shift+tab") or (not typing and key in ("h", "l")):
            self._yes = not self._yes
        elif key == "enter":
            self._enter()
        elif not typing and key == "y":
            if self._ready:
                self.dismiss(True)
        elif key == "d" and self._question.dry_run is not None and not self._digits_wanted(key):
            self.run_worker(self._look(self._question.dry_run), group="dry-run", exclusive=True, exit_on_error=False)
        elif typing and key == "backspace":
            self._typed = self._typed[:-1]
        elif typing and event.is_printable and event.character:
            self._typed = (self._typed + event.character)[:200]
        if self.is_current:
            self.repaint()

    def _digits_wanted(self, key: str) -> bool:
        """Whether the key belongs to what is to be typed."""
        return self._question.weight >= 3 and self._question.typed.startswith(self._typed + key)

    def _enter(self) -> None:
        """What has the focus; of the heavy ones, what was typed in full is enough."""
        if not self._yes and not (self._question.weight >= 3 and self._typed):
            self.dismiss(False)
        elif self._ready:
            self.dismiss(True)

    async def _look(self, dry_run: Callable[[], Awaitable[str]]) -> None:
        try:
            self._found = await dry_run()
        except TqError as error:
            self._found = error.message
        if self.is_current:
            self.repaint()

    async def on_click(self, event: events.Click) -> None:
        if event.widget is self:  # beside the box
            self.dismiss(False)


class _Box(Widget, can_focus=False):
    """The frame and its text."""

    ALLOW_SELECT = False

    def __init__(self, text: Callable[[int], Content]) -> None:
        super().__init__()
        self._text = text

    def on_mount(self) -> None:
        screen = cast(Confirm, self.screen)
        screen.repaint()

    def render(self) -> Content:
        return self._text(self.size.width or 60)

"""The filter line: when a filter counts, what completes it, where it is wrong."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from textual.app import App, ComposeResult
from textual.widgets import Input

from tests.tui.fake import HandClock, settle
from tq.errors import ProtocolError
from tui.themes import DEFAULTS
from tui.widgets.filterbar import FilterBar

pytestmark = pytest.mark.asyncio
STYLES = Path(__file__).parents[3] / "tui" / "monitor.tcss"


class Host(App[None]):
    CSS_PATH = STYLES

    def __init__(self) -> None:
        super().__init__()
        self.clock = HandClock()
        self.told: list[tuple[str, bool]] = []
        self.lacking = False

    def get_theme_variable_defaults(self) -> dict[str, str]:
        return DEFAULTS

    async def call(self, verb: str, args: dict[str, Any]) -> Any:
        if self.lacking:
            raise ProtocolError("expected a verb")
        start = args["text"].rfind(" ") + 1
        return {"start": start, "end": args["at"], "choices": [["state:failed", 37], ["state:running", 64]]}

    def compose(self) -> ComposeResult:
        yield FilterBar(self.call, self.clock)

    def on_filter_bar_changed(self, event: FilterBar.Changed) -> None:
        self.told.append((event.text, event.done))


class Typing:
    def __init__(self, app: Host, pilot: Any) -> None:
        self.app, self.pilot, self.bar = app, pilot, app.query_one(FilterBar)

    async def keys(self, *keys: str, wait: float = 0.2) -> None:
        await self.pilot.press(*keys)
        await self.app.clock.advance(wait)
        await settle()
        await self.pilot.pause()

    @property
    def value(self) -> str:
        return self.app.query_one(Input).value

    @property
    def note(self) -> str:
        return self.app.query_one("#filter-note").render_line(0).text.rstrip()


@contextlib.asynccontextmanager
async def typing() -> AsyncIterator[Typing]:
    app = Host()
    async with app.run_test(size=(80, 5)) as pilot:
        one = Typing(app, pilot)
        one.bar.open()
        await one.keys()
        yield one


async def test_a_filter_counts_once_the_keys_rest(where: Path) -> None:
    async with typing() as one:
        await one.keys(*"queue:mai", wait=0.1)
        assert one.app.told == []
        await one.keys("l", wait=0.2)
        assert one.app.told == [("queue:mail", False)]
        await one.keys("enter")
        assert one.app.told[-1] == ("queue:mail", True)
        assert one.bar.text == "queue:mail"


async def test_what_cannot_be_read_counts_not_and_a_caret_shows_where(where: Path) -> None:
    async with typing() as one:
        await one.keys(*"colour:red")
        assert one.app.told == []
        assert one.note.lstrip().startswith("^ ")
        assert "colour" in one.note
        assert one.note.index("^") == 3
        await one.keys("enter")
        assert one.app.told == []


async def test_escape_brings_back_the_filter_from_before(where: Path) -> None:
    async with typing() as one:
        one.bar.show("queue:mail")
        one.bar.open()
        await one.keys(*" age>1h")
        assert one.bar.text == "queue:mail age>1h"
        await one.keys("escape")
        assert one.app.told[-1] == ("queue:mail", True)
        assert one.value == "queue:mail"


async def test_tab_goes_through_what_may_stand_there(where: Path) -> None:
    async with typing() as one:
        await one.keys(*"queue:mail sta")
        assert "state:failed 37" in one.note
        await one.keys("tab")
        assert one.value == "queue:mail state:failed"
        await one.keys("tab")
        assert one.value == "queue:mail state:running"
        await one.keys("shift+tab", "enter")
        assert one.app.told[-1] == ("queue:mail state:failed", True)


async def test_earlier_filters_come_back_with_up_and_down(where: Path) -> None:
    async with typing() as one:
        await one.keys(*"queue:a", "enter")
        await one.keys(*["backspace"] * 7, *"queue:b", "enter")
        await one.keys("up")
        assert one.value == "queue:a"
        await one.keys("down")
        assert one.value == "queue:b"


async def test_a_daemon_that_completes_nothing_is_no_trouble(where: Path) -> None:
    async with typing() as one:
        one.app.lacking = True
        await one.keys(*"state:failed")
        await one.keys("tab")
        assert one.value == "state:failed"
        assert one.bar.text == "state:failed"

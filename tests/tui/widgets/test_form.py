"""The form: what is typed is kept until it is saved or thrown away on purpose, and nothing in it is parsed."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from textual import events

from tests.tui.fake import Driven, driven
from tq.errors import DaemonError
from tui.widgets.form import Field, Form

pytestmark = pytest.mark.asyncio
FIELDS = [Field("a", "first", "one", "a number"), Field("b", "second", "", "anything")]


@asynccontextmanager
async def shown(where: Path, fields: list[Field] | None = None) -> AsyncIterator[tuple[Driven, Form, list[dict[str, str]]]]:
    saved: list[dict[str, str]] = []

    async def save(texts: dict[str, str]) -> None:
        if texts["a"] == "bad":
            raise ValueError("first: expected a number, got \x1b[1m'bad'")
        if texts["a"] == "gone":
            raise DaemonError("the daemon is gone")
        saved.append(texts)

    async with driven(where) as monitor:
        form = Form("Title", "what it is about", fields or FIELDS, "Set", save)
        await monitor.app.push_screen(form)
        await monitor.shows()
        yield monitor, form, saved


async def test_it_tells_names_texts_the_hint_of_the_field_and_its_keys(where: Path) -> None:
    async with shown(where) as (monitor, _, _):
        text = await monitor.shows()
        for words in ("Title", "what it is about", "first          one", "a number", "^s Set", "esc Leave it"):
            assert words in text
        assert "anything" in await monitor.press("tab")
        assert "a number" in await monitor.press("up")


@pytest.mark.parametrize("key", ["enter", "ctrl+s"])
async def test_saving_gives_all_texts_and_closes_it(where: Path, key: str) -> None:
    async with shown(where) as (monitor, _, saved):
        await monitor.press("end", "2", "down", "x", key)
        assert saved == [{"a": "one2", "b": "x"}]
        assert monitor.app.screen is monitor.app.front


@pytest.mark.parametrize(("typed", "reason"), [("bad", "expected a number, got \\x1b[1m'bad'"), ("gone", "the daemon is gone")])
async def test_what_is_refused_stays_with_the_reason(where: Path, typed: str, reason: str) -> None:
    async with shown(where, [Field("a", "first")]) as (monitor, form, saved):
        text = await monitor.press(*typed, "enter")
        assert reason in text
        assert form.texts == {"a": typed}
        assert not saved
        assert "^s Set" in await monitor.press("x")


async def test_letters_that_come_faster_than_the_focus_reach_the_field_that_they_are_meant_for(where: Path) -> None:
    async with shown(where) as (monitor, form, _):
        for key in ("end", "x", "tab", "y", "up", "z", "down", "z"):
            monitor.app.post_message(events.Key(key, key if len(key) == 1 else None))
        await monitor.shows()
        assert form.texts == {"a": "onexz", "b": "yz"}


async def test_escape_leaves_at_once_where_nothing_was_typed_and_asks_where_it_was(where: Path) -> None:
    async with shown(where) as (monitor, form, saved):
        assert "esc once more throws it away" in await monitor.press("x", "escape")
        await monitor.press("y", "escape")
        assert monitor.app.screen is form
        await monitor.press("escape")
        assert monitor.app.screen is monitor.app.front
        assert not saved
    async with shown(where) as (monitor, _, _):
        await monitor.press("escape")
        assert monitor.app.screen is monitor.app.front


async def test_hostile_texts_are_shown_as_they_are(where: Path) -> None:
    async with shown(where, [Field("a", "[bold]first", "[@click=app.exit]x[/]", "[red]hint")]) as (monitor, form, _):
        text = await monitor.shows()
        for words in ("[bold]first", "[@click=app.exit]x[/]", "[red]hint"):
            assert words in text
        assert form.texts == {"a": "[@click=app.exit]x[/]"}

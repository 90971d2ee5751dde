"""What a person does to limits and breakers: the right one is meant, it is asked first, and it can be taken back."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.tui.conftest import Same
from tests.tui.fake import START_MS, Driven, driven
from tests.tui.screens.test_flow_words import breaker, limit, used
from tests.tui.stock import Stock, stocked
from tui.widgets.confirm import Confirm
from tui.widgets.form import Form

pytestmark = pytest.mark.asyncio
BAD = "\x1b[31m"


@asynccontextmanager
async def on_queues(where: Path, **how: Any) -> AsyncIterator[tuple[Driven, Stock]]:
    """The queues, one of whose types is broken and one limited."""
    scenario = stocked()
    scenario.limits = [
        limit("mails", used=[used("email", 10, reached=True, opens_at=START_MS + 9_000)]), limit(f"odd{BAD}", "queue", "reports"),
    ]  # fmt: skip
    scenario.breakers = [breaker("render", why=f"5 failures in a row: {BAD}"), breaker("", "closed")]
    async with driven(where, scenario, **how) as monitor:
        stock = Stock(monitor.daemon)
        stock.types = [{"name": "email", "queue": "mail"}, {"name": "render", "queue": "thumbs"}]
        monitor.daemon.verbs |= dict.fromkeys(("set_limit", "remove_limit", "trip_breaker", "reset_breaker"), lambda _: {})
        await monitor.press("2")
        await monitor.shows(3)
        yield monitor, stock


async def agree(monitor: Driven) -> str:
    assert isinstance(monitor.app.screen, Confirm)
    await monitor.shows(0.5)
    await monitor.press("y")
    return await monitor.shows()


async def retyped(monitor: Driven, downs: int, *keys: str) -> str:
    """The form's field so many below with another text, and it is saved."""
    await monitor.press(*["down"] * downs, "end", *["backspace"] * 12, *keys, "ctrl+s")
    return await monitor.shows()


async def test_the_pane_tells_what_holds_a_queue_and_the_list_its_state(where: Path, same: Same) -> None:
    async with on_queues(where) as (monitor, _):
        await monitor.press("j")
        same("queues-limited-120", await monitor.shows())
        text = await monitor.press("j")
        assert "breaker of type render is open for 15s, 15.0s more: 5 failures in a row: \\x1b[31m" in text
        assert text.count("▲ breaker") == 2  # in the list, and in the pane


async def test_a_new_limit_is_of_the_queue_under_the_cursor_and_undo_takes_it_away(where: Path) -> None:
    async with on_queues(where) as (monitor, _):
        await monitor.press("j", "L", "enter")
        assert "queue mail" in await monitor.shows()
        await monitor.press(*"slow", "down", "down", *"5/s", "ctrl+s")
        assert monitor.daemon.asked_for("set_limit") == [{"name": "slow", "scope": "queue", "of": "mail", "rate": 5, "per_ms": 1000}]
        assert "Limit slow is new" in await monitor.shows()
        await monitor.press("u")
        assert monitor.daemon.asked_for("remove_limit") == [{"name": "slow"}]


async def test_a_limit_of_the_queue_stands_first_and_is_changed_only_in_what_was_typed(where: Path) -> None:
    async with on_queues(where) as (monitor, _):
        text = await monitor.press("j", "L")
        assert text.index("mails ") < text.index("odd\\x1b[31m")
        await monitor.press("j", "enter")
        await retyped(monitor, 2, *"9/m")
        assert monitor.daemon.asked_for("set_limit") == [{"name": "mails", "rate": 9, "per_ms": 60_000}]
        await monitor.press("u")
        assert monitor.daemon.asked_for("set_limit")[1] == {
            "name": "mails", "scope": "type", "of": "email", "rate": 100, "per_ms": 60_000, "burst": 1, "running": 10,
        }  # fmt: skip


async def test_what_cannot_be_stays_in_the_form_and_a_name_that_is_taken_is_not_written_over(where: Path) -> None:
    async with on_queues(where) as (monitor, _):
        await monitor.press("j", "L", "enter")
        await monitor.press(*"mails", "down", "down", *"often", "ctrl+s")
        assert "rate: expected such as 500/s, 100/m or 5/10s, got 'often'" in await monitor.shows()
        assert "there is a limit 'mails' already" in await retyped(monitor, 0, *"5/s")
        assert isinstance(monitor.app.screen, Form)
        assert not monitor.daemon.asked_for("set_limit")


async def test_a_limit_is_removed_after_a_yes_by_its_own_name_and_made_again_by_undo(where: Path) -> None:
    async with on_queues(where) as (monitor, _):
        await monitor.press(*":unlimit", "enter", "j", "enter")
        assert not monitor.daemon.asked_for("remove_limit")
        assert "Removed limit odd\\x1b[31m." in await agree(monitor)
        assert monitor.daemon.asked_for("remove_limit") == [{"name": f"odd{BAD}"}]
        await monitor.press("u")
        assert monitor.daemon.asked_for("set_limit")[0]["name"] == f"odd{BAD}"


async def test_without_a_limit_there_is_none_to_remove_and_the_first_is_made_at_once(where: Path) -> None:
    async with on_queues(where) as (monitor, _):
        monitor.daemon.scenario.limits = []
        assert "there is no limit: L makes one" in await monitor.press(*":unlimit", "enter")
        await monitor.press("L")
        assert isinstance(monitor.app.screen, Form)


async def test_an_open_breaker_is_reset_after_a_yes(where: Path) -> None:
    async with on_queues(where) as (monitor, _):
        text = await monitor.press("B")
        assert text.index("type:render") < text.index("smtp")  # what is not closed stands first
        await monitor.press("enter")
        assert not monitor.daemon.asked_for("reset_breaker")
        assert "Breaker type:render is closed." in await agree(monitor)
        assert monitor.daemon.asked_for("reset_breaker") == [{"type": "render"}]


@pytest.mark.parametrize(("keys", "sent", "told"), [("10m", {"for_ms": 600_000}, "open for 10m"), ("", {}, "open until it is reset")])
async def test_a_breaker_is_opened_for_a_time_after_a_yes(where: Path, keys: str, sent: dict[str, Any], told: str) -> None:
    async with on_queues(where) as (monitor, _):
        await monitor.press("j", "B", "j", "enter", *keys, "enter")  # of a type of this queue that has none yet
        assert not monitor.daemon.asked_for("trip_breaker")
        text = await agree(monitor)
        assert monitor.daemon.asked_for("trip_breaker") == [{"type": "email", **sent}]
        assert f"Breaker type:email is {told}: no task of type email begins." in text


async def test_of_a_service_calls_are_held_and_what_is_no_time_is_said(where: Path) -> None:
    async with on_queues(where) as (monitor, _):
        await monitor.press("B", "j", "enter", *"soon", "enter")
        assert "expected a time such as 10m" in await monitor.shows()
        await monitor.press(*["backspace"] * 4, "enter")
        await agree(monitor)
        assert monitor.daemon.asked_for("trip_breaker") == [{"name": "smtp"}]


async def test_escape_and_no_change_nothing(where: Path) -> None:
    async with on_queues(where) as (monitor, _):
        await monitor.press("B", "escape", "L", "escape")
        await monitor.press("B", "enter", "escape")
        assert not [verb for verb, _ in monitor.daemon.asked if verb in ("set_limit", "remove_limit", "trip_breaker", "reset_breaker")]


async def test_a_daemon_that_knows_neither_shows_its_queues_all_the_same(where: Path) -> None:
    scenario = stocked()
    scenario.lacking = ("limits", "breakers")
    async with driven(where, scenario) as monitor:
        Stock(monitor.daemon)
        await monitor.press("2")
        assert "default" in await monitor.shows(3)

"""What a person does to queues: it is done to the right ones, told, and can be taken back."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.tui.fake import Driven, Scenario, driven
from tests.tui.stock import Stock, stocked
from tui.screens.queues import LOOK_S
from tui.widgets.confirm import DEAF_S, HEAVY_S
from tui.widgets.form import Form

pytestmark = pytest.mark.asyncio


@asynccontextmanager
async def on_queues(where: Path, scenario: Scenario | None = None, **how: Any) -> AsyncIterator[tuple[Driven, Stock]]:
    async with driven(where, scenario or stocked(), **how) as monitor:
        stock = Stock(monitor.daemon)
        await monitor.press("2")
        await monitor.shows(1)
        yield monitor, stock


def sent(monitor: Driven) -> list[dict[str, Any]]:
    """What the daemon was told to set."""
    return monitor.daemon.asked_for("set_queue")


async def test_p_pauses_the_queue_u_resumes_it_and_both_are_seen(where: Path) -> None:
    async with on_queues(where) as (monitor, stock):
        text = await monitor.press("p")
        assert stock.row("default")["paused"]
        assert "Paused default" in text
        assert text.count("‖ pause") == 4  # two in the list, two in the pane
        await monitor.press("u")
        assert not stock.row("default")["paused"]
        assert (await monitor.shows(1)).count("‖ pause") == 1


async def test_p_resumes_what_is_paused(where: Path) -> None:
    async with on_queues(where) as (monitor, stock):
        await monitor.press("j", "j", "j", "p")
        assert not stock.row("billing")["paused"]
        assert "Resumed billing." in await monitor.shows()


async def test_marked_queues_are_paused_together_and_only_those_that_ran_are_resumed_again(where: Path) -> None:
    async with on_queues(where) as (monitor, stock):
        await monitor.press("space", "space", "j", "space")
        assert "3 marked" in await monitor.shows()
        await monitor.press("p")
        assert [row["name"] for row in monitor.daemon.scenario.queues if row["paused"]] == ["default", "mail", "billing"]
        assert [one["name"] for one in sent(monitor)] == ["default", "mail"]
        await monitor.press("u")
        assert stock.row("billing")["paused"]
        assert not stock.row("mail")["paused"]


async def test_all_queues_are_paused_by_one_key(where: Path) -> None:
    async with on_queues(where) as (monitor, _):
        await monitor.press("A", "p")
        assert all(row["paused"] for row in monitor.daemon.scenario.queues)


async def test_each_key_is_a_slot_and_one_undo_takes_all_of_them_back(where: Path) -> None:
    async with on_queues(where) as (monitor, stock):
        await monitor.press("+", "+", "+", "-")
        assert [one["slots"] for one in sent(monitor)] == [65, 66, 67, 66]
        assert "Slots: default 67 to 66." in await monitor.shows()
        await monitor.press("u")
        assert stock.row("default")["slots"] == 64


async def test_one_slot_is_the_least_since_none_would_be_any_number(where: Path) -> None:
    async with on_queues(where) as (monitor, stock):
        stock.row("default")["slots"] = 1
        assert "one slot is the least" in await monitor.press("-")
        stock.row("default")["slots"] = 0
        assert "no limit of slots here" in await monitor.press("+")
        assert not sent(monitor)


async def test_a_queue_that_is_gone_is_told_and_made_anew_by_nothing(where: Path) -> None:
    async with on_queues(where) as (monitor, _):
        del monitor.daemon.scenario.queues[0]
        assert "default: is there no more" in await monitor.press("p")
        assert not sent(monitor)


async def test_what_the_settings_file_says_otherwise_is_told(where: Path) -> None:
    async with on_queues(where) as (monitor, stock):
        stock.row("default")["declared"] = {"slots": 64}
        assert "The settings file says otherwise from the daemon's next start on." in await monitor.press("+")


async def test_the_form_sends_what_was_changed_and_undo_sets_it_back(where: Path) -> None:
    async with on_queues(where) as (monitor, stock):
        stock.row("default")["keep_ms"] = 86_400_000
        await monitor.shows(LOOK_S)
        text = await monitor.press("e")
        assert "keep           1d" in text
        await monitor.press("backspace", "backspace", "8", "down", "end", "0", *(["down"] * 10), "backspace", "backspace", "ctrl+s")
        assert sent(monitor) == [{"name": "default", "slots": 8, "weight": 10, "unset": ["keep_ms"]}]
        assert "Set 3 settings of default." in await monitor.shows()
        await monitor.press("u")
        assert sent(monitor)[1] == {"name": "default", "slots": 64, "weight": 1, "keep_ms": 86_400_000}
        assert stock.row("default")["keep_ms"] == 86_400_000


async def test_what_cannot_be_stays_in_the_form_with_the_reason(where: Path) -> None:
    async with on_queues(where) as (monitor, _):
        await monitor.press("e", "x", "enter")
        assert "slots: expected a whole number, got '64x'" in await monitor.shows()
        assert isinstance(monitor.app.screen, Form)
        monitor.daemon.errors["set_queue"] = ("usage", "slots: expected a number from 0 to 1000000, got 640.")
        await monitor.press("backspace", "0", "enter")
        assert "from 0 to 1000000, got 640" in await monitor.shows()
        await monitor.press("escape", "escape")
        assert monitor.app.screen is monitor.app.front


async def test_a_form_that_changes_nothing_sends_nothing(where: Path) -> None:
    async with on_queues(where) as (monitor, _):
        await monitor.press("e", "enter")
        assert monitor.app.screen is monitor.app.front
        assert not sent(monitor)


async def test_a_purge_wants_the_name_and_three_seconds_and_forgets_what_waits(where: Path) -> None:
    async with on_queues(where) as (monitor, _):
        monitor.app.front.go("mail")  # type: ignore[union-attr]
        text = await monitor.press("X")
        assert "301 tasks that wait will be cancelled and forgotten" in text
        await monitor.clock.advance(2 * DEAF_S)
        await monitor.press(*"mail", "enter")
        assert len(monitor.daemon.asked_for("remove")) == 1
        await monitor.clock.advance(HEAVY_S)
        text = await monitor.press("enter")
        waiting = ["blocked", "pending", "retrying", "scheduled"]
        assert monitor.daemon.asked_for("remove")[1] == {"queue": "mail", "states": waiting, "expected": 301}
        assert "Chore 7 purges mail" in text


@pytest.mark.parametrize("keys", [["enter"], ["escape"], [*"mai", "enter"], ["y"]], ids=" ".join)
async def test_anything_else_purges_nothing(where: Path, keys: list[str]) -> None:
    async with on_queues(where) as (monitor, _):
        monitor.app.front.go("mail")  # type: ignore[union-attr]
        await monitor.press("X")
        await monitor.clock.advance(HEAVY_S + DEAF_S)
        await monitor.press(*keys)
        assert [one.get("dry_run") for one in monitor.daemon.asked_for("remove")] == [True]


async def test_a_purge_that_the_daemon_refuses_is_told(where: Path) -> None:
    async with on_queues(where) as (monitor, _):
        await monitor.press("X")
        monitor.daemon.errors["remove"] = ("refused", "expected 12038 tasks, now they are 14000.")
        await monitor.clock.advance(HEAVY_S + DEAF_S)
        text = await monitor.press(*"default", "enter")
        assert "Nothing was purged: expected 12038 tasks, now they are 14000." in text


async def test_an_empty_queue_is_asked_for_nothing(where: Path) -> None:
    async with on_queues(where) as (monitor, _):
        monitor.app.front.go("gc")  # type: ignore[union-attr]
        assert "Nothing waits in gc." in await monitor.press("X")
        assert monitor.app.screen is monitor.app.front


async def test_settings_and_purges_are_for_one_queue_alone(where: Path) -> None:
    async with on_queues(where) as (monitor, _):
        text = await monitor.press("space", "space")
        assert "Purge" not in text
        assert "e Edit" not in text
        assert "p Pause/Resume" in text

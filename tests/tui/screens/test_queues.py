"""The screen of the queues in its states, at both sizes, as kept texts; its order, its cursor, its pane and its page."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.tui.conftest import Same
from tests.tui.fake import Driven, Scenario, driven, queue, totals
from tests.tui.stock import USUAL, Stock, stocked
from tui.screens.queues import LOOK_S
from tui.widgets.panes import TextPane
from tui.widgets.table import PagedTable

pytestmark = pytest.mark.asyncio
sizes = pytest.mark.parametrize("size", [(120, 36), (80, 24)], ids=["120", "80"])


@asynccontextmanager
async def on_queues(where: Path, scenario: Scenario | None = None, **how: Any) -> AsyncIterator[tuple[Driven, Stock]]:
    async with driven(where, scenario or stocked(), **how) as monitor:
        stock = Stock(monitor.daemon)
        stock.types = [{"name": "mail.send", "queue": "default"}, {"name": "other", "queue": "mail"}]
        await monitor.press("2")
        await monitor.shows(1)
        yield monitor, stock


def table_of(monitor: Driven) -> PagedTable:
    return monitor.app.screen.query_one("#queue-list", PagedTable)


@sizes
async def test_normal_it_tells_of_each_queue_and_in_full_of_one(where: Path, same: Same, size: tuple[int, int]) -> None:
    scenario = stocked()
    figures = {"completed": 989_800, "failure_rate": 0.001, "p95": 0.18}
    scenario.totals["types"] = {"mail.send": figures, "other": figures}
    async with on_queues(where, scenario, size=size) as (monitor, _):
        text = await monitor.shows(1)
        assert "42 mail.send, waits" in text
        assert "other" not in text
        same(f"queues-normal-{size[0]}", text)


@sizes
async def test_empty_it_says_how_to_begin(where: Path, same: Same, size: tuple[int, int]) -> None:
    async with on_queues(where, Scenario(), size=size) as (monitor, _):
        text = await monitor.shows(1)
        assert "No queue has had a task yet." in text
        assert "Pause" not in text
        same(f"queues-empty-{size[0]}", text)


@sizes
async def test_loading_it_says_that_it_waits(where: Path, same: Same, size: tuple[int, int]) -> None:
    async with driven(where, stocked(), size=size, start=False) as monitor:
        monitor.daemon.errors |= dict.fromkeys(("queues", "history", "types", "status", "attention"), ("refused", "later"))
        await monitor.daemon.start()
        await monitor.press("2")
        text = await monitor.shows(1.5)
        assert "Waiting for the daemon's answer." in text
        same(f"queues-loading-{size[0]}", text)


@sizes
async def test_stale_it_keeps_all_and_tells_its_age(where: Path, same: Same, size: tuple[int, int]) -> None:
    async with on_queues(where, size=size) as (monitor, _):
        monitor.daemon.silent = True
        text = await monitor.shows(12)
        assert "stale 12s" in text
        assert "12,038" in text
        same(f"queues-stale-{size[0]}", text)


@sizes
async def test_down_it_keeps_all_and_offers_nothing_that_writes(where: Path, same: Same, size: tuple[int, int]) -> None:
    async with on_queues(where, size=size) as (monitor, _):
        await monitor.daemon.stop()
        text = await monitor.shows(5)
        assert "12,038" in text
        assert "Purge" not in text
        same(f"queues-down-{size[0]}", text)


@sizes
async def test_read_only_it_says_so_and_offers_nothing_that_writes(where: Path, same: Same, size: tuple[int, int]) -> None:
    async with on_queues(where, size=size, read_only=True) as (monitor, _):
        text = await monitor.press("p")
        assert "READ ONLY" in text
        assert "Pause" not in text
        assert not monitor.daemon.asked_for("set_queue")
        same(f"queues-read-only-{size[0]}", text)


@sizes
async def test_error_where_the_daemon_does_not_tell_it_says_so_and_why(where: Path, same: Same, size: tuple[int, int]) -> None:
    scenario = stocked()
    scenario.lacking = ("queues",)
    async with on_queues(where, scenario, size=size) as (monitor, _):
        text = await monitor.shows(1)
        assert "This daemon does not tell of its queues." in text
        same(f"queues-error-{size[0]}", text)


async def test_pauses_and_holds_are_told_with_who_since_when_and_why(where: Path) -> None:
    async with on_queues(where) as (monitor, _):
        assert "‖ pause" in await monitor.shows()
        text = await monitor.press("j", "j", "j")
        assert "paused for 3m by alice" in text
        monitor.app.front.go("reports")  # type: ignore[union-attr]
        assert "held: load average 9.1, held from 8 on; looked 4s ago" in await monitor.shows(1)


async def test_what_the_settings_file_sets_again_is_told(where: Path) -> None:
    async with on_queues(where) as (monitor, stock):
        stock.row("default")["declared"] = {"slots": 64}
        stock.more = {"file": "/etc/tq.toml"}
        assert "/etc/tq.toml sets slots again when the daemon starts" in await monitor.shows(LOOK_S + 1)


async def test_the_cursor_stays_on_its_queue_when_the_order_changes(where: Path) -> None:
    async with on_queues(where) as (monitor, _):
        await monitor.press("j")
        assert table_of(monitor).cursor_key == "mail"
        monitor.daemon.scenario.queues.insert(0, {**USUAL, **queue("new", 99_000)})
        await monitor.shows(LOOK_S + 1)
        assert (table_of(monitor).cursor_key, table_of(monitor).cursor_place) == ("mail", 2)


async def test_the_order_is_chosen_by_key_by_word_and_by_a_click_on_a_title(where: Path) -> None:
    async with on_queues(where) as (monitor, _):

        def first() -> object:
            return table_of(monitor).source.entry(0).key  # type: ignore[union-attr]

        assert "sort pending ▼" in await monitor.shows()
        assert "sort running ▼" in await monitor.press("s")
        assert first() == "default"
        await monitor.press("I")
        assert first() in ("billing", "gc")
        monitor.app.action_do("queues.sort", "name")
        assert "sort name ▲" in await monitor.shows()
        assert first() == "billing"
        await monitor.pilot.click("#queue-list", offset=(3, 0))
        assert "sort name ▼" in await monitor.shows()
        assert first() == "webhooks"
        monitor.app.action_do("queues.sort", "colour")
        assert "expected one of name, state" in await monitor.shows()


async def test_a_queue_is_gone_to_by_its_name(where: Path) -> None:
    async with on_queues(where) as (monitor, _):
        await monitor.press("colon", *"queue thu", "tab", "enter")
        assert table_of(monitor).cursor_key == "thumbs"
        monitor.app.action_do("queues.go", "nowhere")
        assert "expected a queue, got 'nowhere'" in await monitor.shows()


async def test_enter_shows_all_of_a_queue_and_escape_goes_back(where: Path) -> None:
    async with on_queues(where, size=(80, 24)) as (monitor, stock):
        stock.row("mail")["max_bytes"] = 1 << 30
        await monitor.press("j", "enter")
        text = await monitor.shows(LOOK_S + 1)
        assert "max bytes 1G" in text
        assert "PENDING" not in text
        await monitor.press("p")
        assert stock.row("mail")["paused"]
        assert "PENDING" in await monitor.press("escape")


async def test_the_page_of_a_queue_that_goes_says_so(where: Path) -> None:
    async with on_queues(where) as (monitor, _):
        await monitor.press("enter")
        del monitor.daemon.scenario.queues[0]
        assert "it is there no more" in await monitor.shows(LOOK_S + 1)


async def test_while_the_totals_stand_still_little_is_asked_and_nothing_drawn(where: Path) -> None:
    async with on_queues(where) as (monitor, stock):
        await monitor.shows(2)
        table, pane = table_of(monitor), monitor.app.screen.query_one(TextPane)
        monitor.daemon.asked.clear()
        before = table.lines_rendered
        for _ in range(10):
            await monitor.shows(1)
        asked = [verb for verb, _ in monitor.daemon.asked if verb not in ("chores", "status")]
        assert len(asked) <= 3
        assert set(asked) <= {"queues", "types"}
        assert table.lines_rendered == before
        stock.row("mail")["states"]["pending"] += 1
        drawn = pane.lines_rendered
        monitor.daemon.errors["history"] = ("refused", "later")  # a new point moves the course of every queue
        stock.told(pending=12_482)
        await monitor.shows(1)
        assert 1 <= table.lines_rendered - before <= 2  # its row, and once more when the mark of a change fades
        assert pane.lines_rendered - drawn <= pane.size.height


async def test_history_is_asked_for_what_is_seen_alone(where: Path) -> None:
    scenario = stocked()
    scenario.queues = [{**USUAL, **queue(f"q{number:03}", 1000 - number)} for number in range(400)]
    async with on_queues(where, scenario, size=(80, 24)) as (monitor, _):
        asked = {args["queue"] for args in monitor.daemon.asked_for("history")} - {None}
        assert "q000" in asked
        assert len(asked) <= 40
        await monitor.press("G")
        await monitor.shows(1)
        assert "q399" in {args["queue"] for args in monitor.daemon.asked_for("history")}


async def test_tasks_of_a_queue_are_shown_where_tasks_are_listed(where: Path, shown_tasks: list[tuple[str, str]]) -> None:
    async with on_queues(where) as (monitor, _):
        assert "t Tasks" in await monitor.shows()
        await monitor.press("t")
        await monitor.shows()
        assert shown_tasks == [("filter", "queue:default")]


HOSTILE = "\x1b[2J\x1b]52;c;eA==\x07[bold red]x[/][@click=app.exit]y\u202e日本"


@sizes
async def test_hostile_names_and_settings_are_shown_and_steer_nothing(where: Path, size: tuple[int, int]) -> None:
    scenario = stocked()
    held = {"rules": ["probe"], "why": HOSTILE, "age_ms": 1}
    scenario.queues = [{**USUAL, **queue(HOSTILE, 5, 1, 2), "held": held, "hold_probe": HOSTILE, "paused": True, "paused_by": HOSTILE}]
    scenario.totals = totals(pending=5)
    async with on_queues(where, scenario, size=size) as (monitor, _):
        for keys in ((), ("e",), ("escape",), ("X",), ("escape",), ("enter",)):
            await monitor.press(*keys)
            text = await monitor.shows(1)
            assert "\\x1b[2J" in text
            assert not {"\x1b", "\x07", "\u202e"} & set(text)
            if size[0] == 120:
                assert "[bold red]x[/]" in text


async def test_a_queue_whose_name_was_cleaned_is_itself_acted_upon(where: Path) -> None:
    scenario = stocked()
    scenario.queues = [{**USUAL, **queue("a\tb", 5)}]
    async with on_queues(where, scenario) as (monitor, _):
        await monitor.press("p")
        assert monitor.daemon.asked_for("set_queue") == [{"name": "a\tb", "paused": True}]
        scenario.queues.append({**USUAL, **queue("a\\x09b", 5)})
        await monitor.press("p")
        assert "look the same here" in await monitor.shows()
        assert len(monitor.daemon.asked_for("set_queue")) == 1

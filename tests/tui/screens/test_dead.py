"""The screen of the dead letters in its states, at both sizes, as kept texts; its groups, its panes, and when it asks."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.tui.conftest import Same
from tests.tui.fake import START_MS, Body, Driven, Scenario, driven
from tests.tui.stock import Stock, groups, stocked
from tui.screens.dead import EVERY_S, RESTS_S, errors_of, row_of
from tui.widgets.panes import TextPane, TracebackPane
from tui.widgets.table import PagedTable

sizes = pytest.mark.parametrize("size", [(120, 36), (80, 24)], ids=["120", "80"])


@asynccontextmanager
async def on_dead(
    where: Path, scenario: Scenario | None = None, dead: list[Body] | None = None, **how: Any
) -> AsyncIterator[tuple[Driven, Stock]]:
    async with driven(where, scenario or stocked(), **how) as monitor:
        stock = Stock(monitor.daemon, dead)
        await monitor.press("6")
        await monitor.shows(1)
        yield monitor, stock


def table_of(monitor: Driven) -> PagedTable:
    return monitor.app.screen.query_one("#dead-list", PagedTable)


@sizes
@pytest.mark.asyncio
async def test_normal_it_tells_what_went_wrong_how_often_and_shows_the_newest(where: Path, same: Same, size: tuple[int, int]) -> None:
    async with on_dead(where, size=size) as (monitor, _):
        text = await monitor.shows(1)
        assert "ConnectionError: [Errno 111] refused" in text
        assert "37 dead in 4 groups" in text
        same(f"dead-normal-{size[0]}", text)


@sizes
@pytest.mark.asyncio
async def test_empty_it_says_so_and_what_would_be_here(where: Path, same: Same, size: tuple[int, int]) -> None:
    async with on_dead(where, Scenario(), [], size=size) as (monitor, _):
        text = await monitor.shows(1)
        assert "No dead letters ✓" in text
        assert "Retry" not in text
        same(f"dead-empty-{size[0]}", text)


@sizes
@pytest.mark.asyncio
async def test_loading_it_says_that_it_waits(where: Path, same: Same, size: tuple[int, int]) -> None:
    async with driven(where, stocked(), size=size, start=False) as monitor:
        monitor.daemon.errors |= dict.fromkeys(("dead", "queues", "history", "status", "attention"), ("refused", "later"))
        await monitor.daemon.start()
        await monitor.press("6")
        text = await monitor.shows(1.5)
        assert "Waiting for the daemon's answer." in text
        same(f"dead-loading-{size[0]}", text)


@sizes
@pytest.mark.asyncio
async def test_stale_it_keeps_all_and_tells_its_age(where: Path, same: Same, size: tuple[int, int]) -> None:
    async with on_dead(where, size=size) as (monitor, _):
        monitor.daemon.silent = True
        text = await monitor.shows(12)
        assert "stale 12s" in text
        assert "no space left" in text
        same(f"dead-stale-{size[0]}", text)


@sizes
@pytest.mark.asyncio
async def test_down_it_keeps_all_and_offers_nothing_that_writes(where: Path, same: Same, size: tuple[int, int]) -> None:
    async with on_dead(where, size=size) as (monitor, _):
        await monitor.daemon.stop()
        text = await monitor.shows(5)
        assert "no space left" in text
        assert "Discard" not in text
        same(f"dead-down-{size[0]}", text)


@sizes
@pytest.mark.asyncio
async def test_read_only_it_shows_and_exports_and_changes_nothing(where: Path, same: Same, size: tuple[int, int]) -> None:
    async with on_dead(where, size=size, read_only=True) as (monitor, _):
        text = await monitor.press("r", "D")
        assert "READ ONLY" in text
        assert "x Export" in text
        assert "Discard" not in text
        assert not monitor.daemon.asked_for("retry") + monitor.daemon.asked_for("remove")
        same(f"dead-read-only-{size[0]}", text)


@sizes
@pytest.mark.asyncio
async def test_error_where_the_daemon_does_not_tell_it_says_so_and_why(where: Path, same: Same, size: tuple[int, int]) -> None:
    scenario = stocked()
    scenario.lacking = ("dead",)
    async with on_dead(where, scenario, size=size) as (monitor, _):
        text = await monitor.shows(1)
        assert "This daemon does not tell of its dead letters." in text
        same(f"dead-error-{size[0]}", text)


@pytest.mark.asyncio
async def test_the_cursor_and_the_mark_stay_with_their_group(where: Path) -> None:
    async with on_dead(where) as (monitor, stock):
        await monitor.press("space")
        assert table_of(monitor).cursor_key == "g0000000b"
        stock.dead = [{**groups()[3], "group": "g0000000e", "count": 99}, *stock.dead]
        stock.told(failed=136)
        text = await monitor.shows(EVERY_S + 0.5)
        assert (table_of(monitor).cursor_key, table_of(monitor).cursor_place) == ("g0000000b", 2)
        assert "1 group marked (21)" in text


@pytest.mark.asyncio
async def test_the_daemon_looks_through_its_tasks_again_only_after_their_number_changed(where: Path) -> None:
    async with on_dead(where) as (monitor, stock):
        await monitor.shows(1)
        monitor.daemon.asked.clear()
        table, before = table_of(monitor), table_of(monitor).lines_rendered
        for _ in range(20):
            await monitor.shows(1)
        assert {verb for verb, _ in monitor.daemon.asked} <= {"chores", "status"}
        assert table.lines_rendered == before  # ages of minutes stand still for so long
        stock.dead[1]["count"] = 10
        stock.told(failed=38)
        await monitor.shows(0.5)
        assert len(monitor.daemon.asked_for("dead")) == 1
        await monitor.shows(1)
        assert 1 <= table.lines_rendered - before <= 2
        await monitor.shows(RESTS_S + 1)
        assert len(monitor.daemon.asked_for("dead")) == 2


@pytest.mark.asyncio
async def test_a_cursor_that_runs_asks_for_nothing_until_it_rests(where: Path) -> None:
    async with on_dead(where) as (monitor, _):
        monitor.daemon.asked.clear()
        for _ in range(3):
            await monitor.pilot.press("j")
        await monitor.shows()
        assert not monitor.daemon.asked_for("find")
        await monitor.shows(1)
        assert [args["group"] for args in monitor.daemon.asked_for("find")] == ["g0000000d"]


@pytest.mark.asyncio
async def test_the_order_is_chosen_by_key_by_word_and_by_a_click_on_a_title(where: Path) -> None:
    async with on_dead(where) as (monitor, _):

        def first() -> object:
            return table_of(monitor).source.entry(0).key  # type: ignore[union-attr]

        assert first() == "g0000000a"
        await monitor.press("I")
        assert first() == "g0000000d"
        monitor.app.action_do("dead.sort", "error")
        assert "sort error ▲" in await monitor.shows()
        assert first() == "g0000000a"
        await monitor.pilot.click("#dead-list", offset=(4, 0))
        assert "sort count ▼" in await monitor.shows()


@pytest.mark.asyncio
async def test_enter_goes_into_the_error_or_where_there_is_a_list_of_tasks_to_its_tasks(
    where: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    async with on_dead(where) as (monitor, _):
        if "tasks" not in monitor.app.MODES:
            await monitor.press("enter")
            assert monitor.app.screen.query_one(TracebackPane).has_focus
    shown: list[tuple[str, str]] = request.getfixturevalue("shown_tasks")
    async with on_dead(where) as (monitor, _):
        await monitor.press("enter")
        await monitor.shows()
        assert shown == [("filter", 'state:failed type:hook.push error:"ConnectionError: [Errno " error:"] refused"')]


@pytest.mark.asyncio
async def test_a_group_without_a_name_is_told_and_never_acted_upon(where: Path) -> None:
    rest = {"group": None, "count": 5, "first_at": START_MS, "last_at": START_MS, "last_id": 8000, "queues": ["mail"]}
    async with on_dead(where, dead=[rest]) as (monitor, _):
        text = await monitor.press("r", "D", "x")
        assert "of other kinds" in text
        assert "Retry" not in text
        assert not monitor.daemon.asked_for("retry")


@pytest.mark.asyncio
async def test_a_newest_task_that_is_gone_is_told(where: Path) -> None:
    dead = groups()
    async with on_dead(where, dead=dead) as (monitor, stock):
        monitor.daemon.verbs["get"] = lambda _: {"tasks": [None]}
        stock.dead[1]["last_id"] = 1
        await monitor.press("j")
        assert "it is there no more" in await monitor.shows(1)


@sizes
@pytest.mark.asyncio
async def test_hostile_errors_are_shown_and_steer_nothing(where: Path, size: tuple[int, int]) -> None:
    bad = "\x1b[2J\x1b]52;c;eA==\x07[bold]x[/][@click=app.exit]y\u202e日本"
    dead = [{**groups()[0], "type": bad, "error": bad, "message": bad * 20, "queues": [bad]}]
    async with on_dead(where, dead=dead, size=size) as (monitor, _):
        for keys in ((), ("r",), ("escape",), ("D",), ("escape",), ("x",), ("escape",)):
            await monitor.press(*keys)
            text = await monitor.shows(1)
            assert "\\x1b[2J" in text
            assert not {"\x1b", "\x07", "\u202e"} & set(text)
        pane = monitor.app.screen.query_one(TextPane)
        assert "[bold]x[/][@click=app.exit]y" in pane.text


def test_errors_of_earlier_attempts_are_shown_beside_the_last() -> None:
    error = {"type": "E", "message": "m"}
    task = {"attempt": 3, "error": error, "attempts": [[1, 0, 1, "failed", "w", error, None], [2, 0, 1, "interrupted", "w", None, None]]}
    assert [number for number, _ in errors_of(task)] == [1, 3]
    assert errors_of({"attempt": 0, "error": None, "attempts": []}) == []


def test_a_group_of_several_queues_says_how_many_more() -> None:
    assert row_of({**groups()[0], "queues": ["a", "b", "c"]})["queues"] == "a +2"
    assert row_of({**groups()[0], "message": ""})["error"] == "ConnectionError"

"""The overview in its states, at both sizes, as kept texts; and what a person does on it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.tui.conftest import Same
from tests.tui.fake import Scenario, busy, driven, queue, totals
from tui.screens.overview import BUCKETS
from tui.widgets.charts import Chart
from tui.widgets.table import PagedTable

pytestmark = pytest.mark.asyncio
SIZES = [(120, 36), (80, 24)]
sizes = pytest.mark.parametrize("size", SIZES, ids=["120", "80"])


@sizes
async def test_normal_it_tells_how_it_goes_at_one_glance(where: Path, same: Same, size: tuple[int, int]) -> None:
    async with driven(where, busy(), size=size) as monitor:
        same(f"overview-normal-{size[0]}", await monitor.shows(1))


@sizes
async def test_empty_it_says_how_to_begin(where: Path, same: Same, size: tuple[int, int]) -> None:
    async with driven(where, Scenario(), size=size) as monitor:
        text = await monitor.shows(1)
        assert "No queue has had a task yet." in text
        same(f"overview-empty-{size[0]}", text)


@sizes
async def test_loading_it_says_that_it_waits(where: Path, same: Same, size: tuple[int, int]) -> None:
    async with driven(where, busy(), size=size, start=False) as monitor:
        monitor.daemon.errors |= dict.fromkeys(("queues", "history", "attention", "status"), ("refused", "later"))
        await monitor.daemon.start()
        same(f"overview-loading-{size[0]}", await monitor.shows(1.5))


@sizes
async def test_starting_it_says_where_it_looks_and_what_to_do(where: Path, same: Same, size: tuple[int, int]) -> None:
    async with driven(where, busy(), size=size, start=False) as monitor:
        text = await monitor.shows(1.5)
        assert "no daemon yet" in text
        assert str(where) in text
        same(f"overview-starting-{size[0]}", text)


@sizes
async def test_stale_it_keeps_all_and_tells_its_age(where: Path, same: Same, size: tuple[int, int]) -> None:
    async with driven(where, busy(), size=size) as monitor:
        await monitor.shows(1)
        monitor.daemon.silent = True
        text = await monitor.shows(12)
        assert "stale 12s" in text
        assert "12,038" in text
        same(f"overview-stale-{size[0]}", text)


@sizes
async def test_down_it_keeps_all_and_tells_when_it_tries_again(where: Path, same: Same, size: tuple[int, int]) -> None:
    async with driven(where, busy(), size=size) as monitor:
        await monitor.shows(1)
        await monitor.daemon.stop()
        text = await monitor.shows(5)
        assert "READ ONLY" in text
        assert "down 5.0s" in text
        assert "12,038" in text
        same(f"overview-down-{size[0]}", text)


@sizes
async def test_read_only_it_says_so_and_offers_nothing_that_writes(where: Path, same: Same, size: tuple[int, int]) -> None:
    async with driven(where, busy(), size=size, read_only=True) as monitor:
        await monitor.press("tab")
        text = await monitor.shows(1)
        assert "READ ONLY" in text
        assert "Mute" not in text
        same(f"overview-read-only-{size[0]}", text)


@sizes
async def test_an_older_daemon_shows_what_it_has(where: Path, same: Same, size: tuple[int, int]) -> None:
    scenario = busy()
    scenario.lacking = ("history", "attention")
    async with driven(where, scenario, size=size) as monitor:
        text = await monitor.shows(1)
        assert "no history" in text
        assert "12,038" in text
        same(f"overview-error-{size[0]}", text)


@pytest.mark.parametrize("size", [(70, 20), (60, 16), (59, 16), (60, 15), (30, 5)], ids=str)
async def test_small_it_drops_the_charts_and_below_sixty_by_sixteen_all_but_the_figures(
    where: Path, same: Same, size: tuple[int, int]
) -> None:
    async with driven(where, busy(), size=size) as monitor:
        text = await monitor.shows(1)
        assert ("needs 60 by 16" in text) == (size[0] < 60 or size[1] < 16)
        assert "Throughput" not in text
        same(f"overview-small-{size[0]}x{size[1]}", text)


async def test_ascii_has_nothing_else(where: Path, same: Same) -> None:
    async with driven(where, busy(), ascii=True) as monitor:
        await monitor.shows(1)
        screen = monitor.app.screen
        filters = monitor.app.get_line_filters()
        lines = []
        for strip in screen._compositor.render_strips(screen.size):
            segments = list(strip)
            for one in filters:
                segments = one.apply(segments, screen.background_colors[1])
            lines.append("".join(segment.text for segment in segments).rstrip())
        text = "\n".join(lines) + "\n"
        assert text.isascii()
        same("overview-ascii-120", text)


async def test_charts_are_full_at_once_and_then_only_what_is_new_is_asked_for(where: Path) -> None:
    async with driven(where, busy()) as monitor:
        await monitor.shows(5)
        asked = [args["limit"] for args in monitor.daemon.asked_for("history") if args["queue"] is None]
        assert asked[0] == BUCKETS[1]
        assert set(asked[1:]) <= {2, 3}
        assert len(asked) >= 5


async def test_a_window_goes_from_ten_minutes_to_five_days_and_round(where: Path) -> None:
    async with driven(where, busy()) as monitor:
        seen = []
        for _ in range(4):
            text = await monitor.press("w")
            text = await monitor.shows(1)
            seen += re.findall(r"(\w+)  now \S+  peak", text)
        assert seen == ["2h", "12h", "5d", "10m"]
        assert {args["step_s"] for args in monitor.daemon.asked_for("history") if args["queue"] is None} == {1, 10, 60, 600}


async def test_a_line_of_attention_opens_what_it_is_about(where: Path) -> None:
    async with driven(where, busy()) as monitor:
        await monitor.shows(1)
        attention = monitor.app.screen.query_one("#attention", PagedTable)
        attention.focus()
        await monitor.press("j", "enter")
        queues = monitor.app.screen.query_one("#queue-list", PagedTable)
        assert queues.has_focus
        assert queues.cursor_key == "webhooks"


async def test_a_line_of_attention_is_muted_for_an_hour(where: Path) -> None:
    async with driven(where, busy()) as monitor:
        text = await monitor.shows(1)
        assert "Mute" not in text
        monitor.app.screen.query_one("#attention", PagedTable).focus()
        assert "m Mute 1h" in await monitor.shows()
        text = await monitor.press("m")
        assert monitor.daemon.asked_for("mute") == [{"key": "queue:billing", "for_ms": 3_600_000}]
        assert "Muted for an hour: paused 3m02s, 24 waiting" in text


async def test_the_cursor_stays_on_its_queue_when_the_order_changes(where: Path) -> None:
    async with driven(where, busy()) as monitor:
        await monitor.shows(1)
        await monitor.press("j")
        table = monitor.app.screen.query_one("#queues", PagedTable)
        assert table.cursor_key == "mail"
        monitor.daemon.scenario.queues = [queue(f"new{number}", 90_000 + number) for number in range(5)] + monitor.daemon.scenario.queues
        await monitor.shows(2)
        assert table.cursor_key == "mail"
        assert table.cursor_place == 6


async def test_a_value_of_a_chart_is_read_by_key(where: Path) -> None:
    async with driven(where, busy()) as monitor:
        await monitor.shows(1)
        chart = monitor.app.screen.query_one("#throughput", Chart)
        chart.focus()
        text = await monitor.press("left", "left")
        assert chart.reading
        assert chart.reading in text


async def test_a_tick_without_news_draws_no_row_and_no_chart_again(where: Path) -> None:
    scenario = busy()
    scenario.attention = []
    async with driven(where, scenario) as monitor:
        await monitor.shows(1)
        monitor.daemon.errors["history"] = ("refused", "later")
        await monitor.shows(1)
        table, chart = monitor.app.screen.query_one("#queues", PagedTable), monitor.app.screen.query_one("#throughput", Chart)
        before = (table.lines_rendered, chart.lines_rendered)
        for _ in range(10):
            await monitor.shows(1)
        assert (table.lines_rendered, chart.lines_rendered) == before
        monitor.daemon.scenario.queues[1]["states"]["pending"] += 1
        await monitor.shows(1)
        assert table.lines_rendered - before[0] <= 2  # the row that changed, and once more when its mark fades
        assert chart.lines_rendered == before[1]


async def test_the_figures_follow_what_the_daemon_pushes(where: Path) -> None:
    async with driven(where, busy()) as monitor:
        await monitor.shows(1)
        monitor.daemon.scenario.totals = totals(pending=7_654_321)
        monitor.daemon.tell_totals()
        assert "7,654,321" in await monitor.shows()

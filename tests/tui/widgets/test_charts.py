"""Charts on the screen."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from textual.pilot import Pilot

from tests.tui.widgets.stage import Stage, rest, strips_of
from tui.charts import BLOCK, BRAILLE, Series
from tui.formats import ASCII, duration
from tui.widgets.charts import Chart, Drawn, Gauge, Spark

UNTIL = 1_763_822_000_000  # 14:33:20


@asynccontextmanager
async def staged(*widgets: Drawn, size: tuple[int, int] = (60, 11)) -> AsyncIterator[tuple[Stage, Pilot[None]]]:
    app = Stage(*widgets)
    async with app.run_test(size=size) as pilot:
        await rest(pilot)
        yield app, pilot


def shown(chart: Chart, *values: float | None, now_s: float = 0.0) -> None:
    chart.show([Series(values, name="ended")], until_ms=UNTIL, step_s=10, now_s=now_s)


@pytest.mark.asyncio
async def test_a_chart_is_full_at_once_with_its_axis_and_its_time() -> None:
    chart = Chart(drawing=BLOCK)
    async with staged(chart) as (app, pilot):
        shown(chart, *[214.0] * 60)
        await rest(pilot)
        assert app.lines[0].startswith("250 ┤")
        assert app.lines[4].startswith("125 ┤")
        assert app.lines[-1].startswith("    └10m───")
        assert app.lines[-1].endswith("now")
        assert app.lines[5].count("█") == 55


@pytest.mark.asyncio
async def test_a_redraw_draws_only_lines_that_look_different() -> None:
    chart = Chart()
    async with staged(chart) as (_, pilot):
        shown(chart, *[100.0] * 55)
        await rest(pilot)
        before = chart.lines_rendered
        shown(chart, *[100.0] * 55)
        await rest(pilot)
        assert chart.lines_rendered == before
        shown(chart, *[100.0] * 54, 80.0)
        await rest(pilot)
        assert chart.lines_rendered - before == 2  # the upper fifth of ten rows, in one column


@pytest.mark.asyncio
async def test_any_value_can_be_read_by_key() -> None:
    chart = Chart(writer=duration)
    async with staged(chart) as (app, pilot):
        shown(chart, *[float(n) for n in range(58)], None, 412.0)
        await pilot.press("left")
        await rest(pilot)
        assert chart.reading == "14:33:10  ended 412ms"
        assert chart.reading in app.lines[-1]
        assert app.lines[0].endswith("│") is True
        await pilot.press("left")
        assert chart.reading == "14:33:00  ended —"
        await pilot.press("h", "h")
        assert chart.reading == "14:32:40  ended 56ms"
        await pilot.press("home", "left")
        assert chart.reading == "14:23:20  ended 0ms"
        await pilot.press("shift+right", "l")
        assert chart.reading == "14:25:10  ended 11ms"
        await pilot.press("end")
        assert chart.reading == "14:33:10  ended 412ms"


@pytest.mark.asyncio
async def test_what_is_read_goes_away_with_the_focus_and_the_mouse() -> None:
    chart, spark = Chart(), Spark()
    chart.styles.height, spark.can_focus = 8, True
    async with staged(chart, spark) as (_, pilot):
        shown(chart, *[float(n) for n in range(60)])
        await pilot.press("left")
        assert chart.reading
        spark.focus()
        await rest(pilot)
        assert chart.reading == ""
        await pilot.hover(Chart, offset=(30, 2))
        await rest(pilot)
        assert chart.reading.startswith("14:")
        await pilot.hover(Spark, offset=(1, 0))
        await rest(pilot)
        assert chart.reading == ""


@pytest.mark.asyncio
async def test_three_lines_are_told_apart_by_style_and_by_what_they_are_made_of() -> None:
    chart = Chart(drawing=BRAILLE, writer=duration)
    lines = [
        Series([one] * 60, name, weight, name)
        for name, weight, one in (("p50", "thick", 200.0), ("p95", "thin", 900.0), ("p99", "dotted", 1900.0))
    ]
    async with staged(chart) as (app, pilot):
        chart.show(lines, until_ms=UNTIL, step_s=10, now_s=0.0)
        await rest(pilot)
        rows = [line[6:] for line in app.lines[:-1] if line[6:].strip()]
        assert len({row.strip()[5:9] for row in rows}) == 3
        colours = {
            segment.style.color
            for strip in strips_of(chart)
            for segment in strip
            if segment.text.strip("⠀ ") and ord(segment.text[-1]) > 0x2800
        }
        assert len(colours) == 3
        await pilot.press("left")
        assert chart.reading == "14:33:10  p50 200ms  p95 900ms  p99 1.9s"


@pytest.mark.asyncio
async def test_a_chart_without_values_is_an_axis_and_keys_do_nothing() -> None:
    chart = Chart()
    async with staged(chart) as (app, pilot):
        await pilot.press("left", "home", "end")
        shown(chart)
        await rest(pilot)
        assert app.lines[0].startswith("  1 ┤")
        assert chart.reading == ""


@pytest.mark.asyncio
async def test_charts_are_drawn_at_every_size_without_a_torn_line() -> None:
    chart = Chart()
    async with staged(chart) as (_, pilot):
        shown(chart, *[float(n % 17) for n in range(600)])
        await pilot.press("left")
        for width, height in ((1, 1), (2, 2), (9, 3), (12, 3), (30, 2), (140, 40), (60, 4)):
            await pilot.resize_terminal(width, height)
            await rest(pilot, 1)
            assert {strip.cell_length for strip in strips_of(chart)} == {width}


@pytest.mark.asyncio
async def test_an_ascii_chart_has_nothing_but_ascii_on_the_screen() -> None:
    chart = Chart(glyphs=ASCII)
    async with staged(chart) as (app, pilot):
        shown(chart, *[float(n) for n in range(60)])
        await pilot.press("left")
        await rest(pilot)
        assert "".join(app.lines).isascii()


@pytest.mark.asyncio
async def test_sparks_and_gauges_draw_their_one_line() -> None:
    spark, gauge = Spark("running"), Gauge("running")
    async with staged(spark, gauge, size=(24, 4)) as (app, pilot):
        spark.show([0, 4, None, 8], top=8)
        gauge.show(0.5, "4/8 files")
        await rest(pilot)
        assert app.lines[:2] == ["▁▁▁▁▁▁▄▄▄▄▄▄      ██████", "███████░░░░░░░ 4/8 files"]
        before = spark.lines_rendered
        spark.show([0, 4, None, 8], top=8)
        await rest(pilot)
        assert spark.lines_rendered == before
        spark.styles.height = 2
        await rest(pilot)
        assert [line[-6:] for line in app.lines[:2]] == ["██████"] * 2
        gauge.show(None)
        await rest(pilot)
        assert app.lines[2] == ""

"""Charts as rows of text."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.cells import cell_len

from tui import charts
from tui.charts import BLOCK, BRAILLE, DRAWINGS, PLAIN, Bound, Frame, Series
from tui.formats import ASCII, UNICODE, duration

VALUES = st.lists(st.none() | st.floats(min_value=0, max_value=1e9), max_size=300)


def text_of(lines: list[list[charts.Run]]) -> list[str]:
    return ["".join(text for text, _ in line) for line in lines]


@settings(deadline=None)
@given(VALUES, st.integers(1, 120), st.integers(1, 14), st.sampled_from(DRAWINGS), st.sampled_from(["fill", "thin", "thick", "dotted"]))
def test_every_row_is_exactly_as_wide_as_asked_for(values: charts.Values, width: int, height: int, drawing: str, weight: str) -> None:
    glyphs = ASCII if drawing == PLAIN else UNICODE
    lines = text_of(charts.chart([Series(values, weight=weight)], width, height, drawing, Frame(100.0, oldest="10m", middle="5m"), glyphs))
    assert len(lines) == height
    assert {cell_len(line) for line in lines} == {width}


def test_a_spike_among_six_hundred_values_is_seen_in_twenty_columns() -> None:
    values: list[float | None] = [1.0] * 600
    values[333] = 100.0
    assert charts.buckets(values, 20)[11] == (1.0, 100.0)
    assert charts.spark(values, 20).count("█") == 1
    assert charts.filled(values, 20, 4, 100.0)[0].strip() == "█"


def test_the_least_of_a_column_is_drawn_as_well_as_the_greatest() -> None:
    top = charts.dotted([Series([10.0, 0.0] * 40, weight="thin")], 4, 3, 10.0)
    assert [text.strip() for text in text_of(top)] == ["⣿⣿⣿⣿"] * 3


@pytest.mark.parametrize("drawing", DRAWINGS)
def test_a_gap_is_a_gap_and_a_zero_is_none(drawing: str) -> None:
    values = [5.0] * 10 + [None] * 10 + [0.0] * 10
    last = text_of(charts.chart([Series(values)], 30, 2, drawing, Frame(10.0)))[-1]
    assert last[10:20] == " " * 10
    assert " " not in last[:10] + last[20:]
    assert charts.spark(values, 30)[9:21] == "█" + " " * 10 + "▁"


def test_few_values_fill_all_columns_and_the_newest_is_at_the_right() -> None:
    assert charts.spark([0, 8], 4) == "▁▁██"
    assert charts.buckets([], 3) == [None] * 3
    assert [charts.place_of(column, 4, 2) for column in range(4)] == [(0, 1), (0, 1), (1, 2), (1, 2)]


def test_the_axis_begins_at_zero_and_is_named_at_its_ends_and_half() -> None:
    lines = text_of(charts.chart([Series([125.0] * 60)], 40, 11, BLOCK, Frame(250.0, oldest="10m", middle="5m")))
    assert [line[:5] for line in lines] == ["250 ┤", *["    │"] * 3, "125 ┤", *["    │"] * 4, "  0 ┤", "    └"]
    assert lines[4].count("█") == 0
    assert lines[5].count("█") == 35
    assert lines[-1][5:].startswith("10m─")
    assert lines[-1].endswith("─now")
    assert "5m" in lines[-1]


def test_where_there_is_no_room_for_an_axis_the_drawing_takes_all() -> None:
    frame = Frame(10.0)
    assert text_of(charts.chart([Series([10.0])], 8, 2, BLOCK, frame)) == ["████████"] * 2
    assert charts.axis_width(frame, 8, 2) == 0
    assert charts.axis_width(frame, 40, 11) == 5 - 1


def test_lines_differ_without_colour() -> None:
    frame = Frame(10.0)
    drawn = {
        weight: "".join(text_of(charts.chart([Series([5.0] * 60, weight=weight)], 20, 3, drawing, frame)))
        for drawing, weight in ((BRAILLE, "thin"), (BRAILLE, "thick"), (BRAILLE, "dotted"))
    }
    assert len(set(drawn.values())) == 3
    marks = [charts.plain([Series([5.0] * 20, weight=weight)], 20, 3, 10.0)[1][0][0][0] for weight in ("thin", "thick", "dotted")]
    assert marks == ["+", "#", "."]


def test_lines_of_one_chart_have_their_own_styles() -> None:
    lines = charts.dotted([Series([1.0] * 8, "p50", "thin"), Series([9.0] * 8, "p99", "thin")], 4, 4, 10.0)
    assert [style for _, style in lines[0]] == ["p99"]
    assert [style for _, style in lines[-1]] == ["p50"]


def test_an_ascii_chart_is_ascii() -> None:
    lines = charts.chart([Series([1.0, None, 3.0] * 9)], 40, 8, BLOCK, Frame(4.0, duration, "10m"), ASCII)
    assert "".join(text_of(lines)).isascii()
    assert charts.spark([1, 2, 3], 9, ASCII).isascii()
    assert charts.gauge(0.4, 9, ASCII).isascii()


def test_the_axis_grows_at_once_and_shrinks_only_after_a_while() -> None:
    bound = Bound()
    assert bound.above(90, 0.0) == 100
    assert bound.above(210, 1.0) == 250
    assert bound.above(10, 2.0) == 250
    assert bound.above(10, 31.9) == 250
    assert bound.above(240, 31.95) == 250  # it is needed again: the while begins anew
    assert bound.above(10, 32.0) == 250
    assert bound.above(10, 61.9) == 250
    assert bound.above(10, 62.0) == 10


def test_a_gauge_is_full_only_when_all_is_and_empty_only_when_nothing_is() -> None:
    assert charts.gauge(0.62, 16) == "█████████░░░░░░░"
    assert [charts.gauge(share, 4).count("█") for share in (0, 0.0001, 0.999, 1, 7)] == [0, 1, 3, 4, 4]
    assert charts.gauge(0.47, 5, empty=False) == "██▎  "
    assert charts.gauge(None, 5) == " " * 5
    assert {len(charts.gauge(n / 100, 7, empty=False)) for n in range(101)} == {7}

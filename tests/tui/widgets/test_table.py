"""The one table: lines drawn, cursor, marks, keys and mouse."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from textual import events
from textual.pilot import Pilot

from tests.tui.rows import Views, row
from tests.tui.widgets.stage import Stage, rest, strips_of
from tq.model import safe_text
from tui.formats import ASCII, UNICODE, Glyphs, age, cells
from tui.paging import ListSource, PagedSource
from tui.widgets.painting import fitted
from tui.widgets.table import FLASH_S, RANGE_MOST, STRIPS, Column, PagedTable

NOW = {"ms": 5_000_000}


def columns(glyphs: Glyphs = UNICODE) -> list[Column]:
    return [
        Column("id", "ID", 9, lambda one: [(str(one[0]), "text")]),
        Column("state", "STATE", 9, lambda one: [(glyphs.word(one[1]), one[1])]),
        Column("type", "NAME", 12, lambda one: [(one[2], "text")]),
        Column("priority", "P", 1, lambda one: [(str(one[4]), "text")], right=True, shown_from=100),
        Column("age", "AGE", 4, lambda one: [(age(NOW["ms"] - one[7]), "text")], right=True, ticks=True),
        Column("error", "LAST ERROR", 0, lambda one: [(one[12] or "", "dim")], sorts=False),
    ]


@asynccontextmanager
async def staged(views: Views, size: tuple[int, int] = (80, 24), **more: Any) -> AsyncIterator[tuple[Stage, Pilot[None], PagedTable]]:
    """A table over a view, opened and at rest."""
    source = PagedSource(views, matches=more.pop("matches", None))
    table = PagedTable(columns(more.get("glyphs", UNICODE)), source, **more)
    app = Stage(table)
    async with app.run_test(size=size) as pilot:
        await source.open({})
        await rest(pilot)
        yield app, pilot, table
        source.close()


def source_of(table: PagedTable) -> PagedSource:
    assert isinstance(table.source, PagedSource)
    return table.source


def told(app: Stage, kind: type) -> list[Any]:
    return [message for message in app.told if type(message) is kind]


@pytest.mark.asyncio
async def test_a_table_over_a_million_rows_draws_one_screen_of_them() -> None:
    async with staged(Views(1_000_000)) as (app, _, table):
        assert table.lines_rendered <= 2 * 23
        assert table.strips_made == 23
        assert app.lines[0].split() == ["ID", "STATE", "NAME", "AGE", "LAST", "ERROR"]
        assert app.lines[1].startswith("▸ 1000000   ✗ fail    hook.push      1h TimeoutError: read")
        assert table.virtual_size.height == 1_000_001
        assert table.show_vertical_scrollbar


@pytest.mark.asyncio
async def test_five_changed_rows_draw_five_lines_and_what_changed_is_reversed_for_a_second() -> None:
    views = Views(1_000_000)
    async with staged(views) as (_, pilot, table):
        table.tick(10.0)
        await rest(pilot)
        keys = table.visible_keys[3:8]
        views.rows = {key: row(key, "running") for key in keys}
        before = table.lines_rendered
        await source_of(table).freshen(keys)
        await rest(pilot)
        assert table.lines_rendered - before == 5
        line = table.render_line(4)
        state = next(segment for segment in line if "run" in segment.text)
        assert state.style is not None
        assert state.style.reverse
        assert not any(segment.style.reverse for segment in line if "hook" in segment.text)
        assert len({segment.style for segment in line if segment.style.reverse}) == 1  # one ground, its blanks too
        before = table.lines_rendered
        table.tick(10.0 + FLASH_S - 0.01)
        await rest(pilot)
        assert table.lines_rendered == before
        table.tick(10.0 + FLASH_S)
        await rest(pilot)
        assert table.lines_rendered - before == 5
        assert not any(segment.style.reverse for segment in table.render_line(4))


@pytest.mark.asyncio
async def test_where_flashes_are_off_a_change_is_only_drawn() -> None:
    views = Views(100)
    async with staged(views, flashes=False) as (_, pilot, table):
        views.rows = {99: row(99, "running")}
        await source_of(table).freshen([99])
        await rest(pilot)
        line = table.render_line(2)
        assert "run" in line.text
        assert not any(segment.style.reverse for segment in line)


@pytest.mark.asyncio
async def test_a_change_out_of_sight_draws_nothing() -> None:
    views = Views(1000)
    async with staged(views) as (_, pilot, table):
        views.rows = {850: row(850, "running")}
        before = table.lines_rendered
        await source_of(table).freshen([850])
        await rest(pilot)
        assert table.lines_rendered == before


@pytest.mark.asyncio
async def test_time_redraws_only_those_lines_whose_age_reads_differently(monkeypatch: pytest.MonkeyPatch) -> None:
    views = Views(100)
    views.rows = {100: [*row(100)[:7], 4_995_500, *row(100)[8:]]}
    async with staged(views) as (_, pilot, table):
        table.tick(1.0)
        await rest(pilot)
        before = table.lines_rendered
        monkeypatch.setitem(NOW, "ms", 5_000_500)
        table.tick(1.5)
        await rest(pilot)
        assert table.lines_rendered - before == 1


@pytest.mark.asyncio
async def test_a_step_of_the_cursor_draws_two_lines() -> None:
    async with staged(Views(1000)) as (app, pilot, table):
        before = table.lines_rendered
        await pilot.press("j")
        await rest(pilot)
        assert table.lines_rendered - before == 2
        assert (table.cursor_key, table.cursor_place) == (999, 1)
        assert app.cursor_position == (0, 2)
        reversed_lines = [y for y, strip in enumerate(strips_of(table)) if any(segment.style.reverse for segment in strip)]
        assert reversed_lines == [2]
        assert len({segment.style.color for segment in strips_of(table)[2]}) == 1  # which in reverse is the ground


@pytest.mark.asyncio
async def test_lines_that_were_drawn_before_are_not_made_again() -> None:
    async with staged(Views(1000)) as (_, pilot, table):
        await pilot.press("pagedown", "pageup", "pagedown", "pageup")
        await rest(pilot)
        made = table.strips_made
        table.scroll_to(y=10, animate=False)
        await rest(pilot)
        table.scroll_to(y=0, animate=False)
        await rest(pilot)
        assert table.strips_made - made <= 10
        for place in range(0, 1000, 23):
            table.move_to(place)
            strips_of(table)
        assert len(table._strips) <= STRIPS


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("keys", "place"),
    [("j down j", 3), ("j j k", 1), ("k up", 0), ("G", 999), ("end g", 0), ("G home", 0), ("ctrl+d", 11), ("ctrl+d ctrl+u", 0),
     ("pagedown pagedown", 46), ("pagedown pageup", 0), ("G j", 999)],
)  # fmt: skip
async def test_keys_move_the_cursor(keys: str, place: int) -> None:
    async with staged(Views(1000)) as (_, pilot, table):
        await pilot.press(*keys.split())
        await rest(pilot)
        assert (table.cursor_place, table.cursor_key) == (place, 1000 - place)
        first, end = table.window
        assert first <= place < end


@pytest.mark.asyncio
async def test_the_end_of_what_is_not_counted_yet_is_asked_for() -> None:
    views = Views(5000, counted=400)
    async with staged(views) as (_, pilot, table):
        await pilot.press("G")
        await rest(pilot, 6)
        assert (table.cursor_place, table.cursor_key) == (4999, 1)


@pytest.mark.asyncio
async def test_rows_that_are_not_here_are_dots_until_they_come() -> None:
    views = Views(1_000_000)
    async with staged(views) as (app, pilot, table):
        views.held = asyncio.Event()
        table.move_to(700_000)
        await rest(pilot)
        assert table.cursor_key is None
        assert set(app.lines[-1]) == {"▸", "·", " "}
        await pilot.press("enter", "space")
        assert told(app, PagedTable.Opened) == []
        assert table.marks == set()
        views.release()
        await rest(pilot, 6)
        assert table.cursor_key == 300_000
        assert told(app, PagedTable.CursorMoved)[-1].key == 300_000
        assert "hook.push" in app.lines[-1]


@pytest.mark.asyncio
async def test_the_cursor_stays_on_its_row_when_five_hundred_come_before_it() -> None:
    views = Views(2000)
    async with staged(views) as (app, pilot, table):
        await pilot.press(*"jjjjj")
        key, line = table.cursor_key, table.cursor_place - table.window[0]
        views.add(*range(3000, 2500, -1))
        await source_of(table).reload()
        await rest(pilot)
        assert (table.cursor_key, table.cursor_place) == (key, 505)
        assert table.cursor_place - table.window[0] == line
        assert app.lines[line + 1].startswith(f"▸ {key}")


@pytest.mark.asyncio
async def test_the_cursor_stays_on_its_row_in_another_order_and_a_row_that_is_gone_leaves_it_where_it_was() -> None:
    views = Views(2000)
    async with staged(views) as (_, pilot, table):
        await pilot.press(*"jjjjj")
        views.ids = list(range(1, 2001))
        await source_of(table).reload()
        await rest(pilot)
        assert (table.cursor_key, table.cursor_place) == (1995, 1994)
        views.ids = [one for one in range(1, 2001) if one != 1995]
        await source_of(table).reload()
        await rest(pilot)
        assert (table.cursor_key, table.cursor_place) == (1996, 1994)


@pytest.mark.asyncio
async def test_a_table_that_follows_stays_at_the_top() -> None:
    views = Views(2000)
    async with staged(views) as (app, pilot, table):
        table.follows = True
        views.add(2002, 2001)
        await source_of(table).reload()
        await rest(pilot)
        assert (table.cursor_key, table.cursor_place) == (2002, 0)
        assert app.lines[1].startswith("▸ 2002")


@pytest.mark.asyncio
async def test_a_row_that_no_longer_matches_stays_and_is_struck_through() -> None:
    views = Views(100)
    async with staged(views, matches=lambda one: one[1] == "failed") as (app, pilot, table):
        views.rows = {99: row(99, "succeeded"), 98: None}
        await source_of(table).freshen([99, 98])
        await rest(pilot)
        assert app.lines[2].startswith("  99")
        assert all(segment.style.strike for y in (2, 3) for segment in table.render_line(y) if segment.text.strip() and "9" in segment.text)
        assert not any(segment.style.strike for segment in table.render_line(4))


@pytest.mark.asyncio
async def test_a_task_that_was_removed_before_it_was_seen_says_so() -> None:
    views = Views(5)
    views.rows = {4: None}
    async with staged(views) as (app, pilot, table):
        assert app.lines[2].split() == ["removed"]
        await pilot.press("j", "enter")
        assert told(app, PagedTable.Opened) == []
        assert table.chosen == []


@pytest.mark.asyncio
async def test_marks_belong_to_rows_and_survive_what_moves_them() -> None:
    views = Views(1000)
    async with staged(views) as (app, pilot, table):
        await pilot.press("space", "j", "space")
        assert table.marks == {1000, 998}
        views.add(1001)
        await source_of(table).reload()
        await rest(pilot)
        assert [y for y, line in enumerate(app.lines) if "▌" in line] == [1, 3]  # the row with the cursor kept its line
        assert sorted(table.chosen) == [998, 1000]
        await pilot.press("U")
        assert (table.marks, table.chosen) == (set(), [997])
        assert len(told(app, PagedTable.MarksChanged)) == 3


@pytest.mark.asyncio
async def test_a_range_grows_and_shrinks_with_the_cursor_and_keeps_earlier_marks() -> None:
    async with staged(Views(1000)) as (app, pilot, table):
        await pilot.press("space", *"jj", "v", *"jjj", "k")
        assert table.marks == {1000, 997, 996, 995}
        await pilot.press(*"kkkk")
        assert table.marks == {1000, 999, 998, 997}
        await pilot.press("v", *"jjjj")
        assert table.marks == {1000, 999, 998, 997}
        assert sum("▌" in line for line in app.lines) == 4


@pytest.mark.asyncio
async def test_a_range_over_rows_that_are_not_here_fetches_them_and_one_that_is_too_long_is_refused() -> None:
    async with staged(Views(100_000)) as (app, pilot, table):
        await pilot.press("v")
        table.move_to(3000)
        await rest(pilot, 8)
        assert len(table.marks) == 3001
        table.move_to(RANGE_MOST + 10)
        await rest(pilot)
        assert len(table.marks) == 3001
        assert "A marks all that match" in told(app, PagedTable.Noted)[0].words


@pytest.mark.asyncio
async def test_all_that_match_is_a_flag_and_no_list() -> None:
    async with staged(Views(1_000_000)) as (app, pilot, table):
        await pilot.press("A")
        await rest(pilot)
        assert (table.all_marked, table.marks) == (True, set())
        assert sum("▌" in line for line in app.lines) == 23
        await pilot.press("space")
        await rest(pilot)
        assert (table.all_marked, table.marks) == (False, set())
        assert not any("▌" in line for line in app.lines)


@pytest.mark.asyncio
async def test_enter_opens_the_row_under_the_cursor() -> None:
    async with staged(Views(1000)) as (app, pilot, _):
        await pilot.press("j", "enter")
        await rest(pilot)
        assert [message.key for message in told(app, PagedTable.Opened)] == [999]


@pytest.mark.asyncio
async def test_a_click_selects_a_second_opens_and_the_middle_button_marks() -> None:
    async with staged(Views(1000)) as (app, pilot, table):
        await pilot.click(PagedTable, offset=(5, 4))
        await rest(pilot)
        assert (table.cursor_key, told(app, PagedTable.Opened)) == (997, [])
        await pilot.click(PagedTable, offset=(5, 4))
        await rest(pilot)
        assert [message.key for message in told(app, PagedTable.Opened)] == [997]
        await pilot.click(PagedTable, offset=(5, 6), button=2)
        await rest(pilot)
        assert (table.cursor_key, table.marks) == (995, {995})
        assert len(told(app, PagedTable.Opened)) == 1


@pytest.mark.asyncio
async def test_a_click_below_the_last_row_does_nothing() -> None:
    async with staged(Views(3)) as (app, pilot, table):
        await pilot.click(PagedTable, offset=(5, 9))
        await rest(pilot)
        assert (table.cursor_key, told(app, PagedTable.Opened)) == (3, [])


@pytest.mark.asyncio
async def test_a_click_on_a_title_asks_for_its_order_and_the_order_is_shown_there() -> None:
    async with staged(Views(100)) as (app, pilot, table):
        await pilot.click(PagedTable, offset=(14, 0))
        await pilot.click(PagedTable, offset=(60, 0))  # not to be sorted by
        await rest(pilot)
        assert [message.column for message in told(app, PagedTable.SortAsked)] == ["state"]
        table.sorted_by("state", descending=True)
        await rest(pilot)
        assert "STATE ▼" in app.lines[0]
        table.sorted_by("age")
        await rest(pilot)
        assert "AGE▲" in app.lines[0]
        assert "▼" not in app.lines[0]


@pytest.mark.asyncio
async def test_the_wheel_scrolls_and_leaves_the_cursor() -> None:
    async with staged(Views(1000)) as (app, pilot, table):
        await pilot._post_mouse_events([events.MouseScrollDown], PagedTable, (5, 5))
        await rest(pilot)
        assert table.window[0] > 0
        assert table.cursor_key == 1000
        assert not any(line.startswith("▸") for line in app.lines)


@pytest.mark.asyncio
async def test_narrow_screens_have_fewer_columns_and_the_last_takes_what_is_left() -> None:
    async with staged(Views(100), size=(120, 36)) as (app, pilot, _):
        assert " P " in app.lines[0]
        await pilot.resize_terminal(60, 20)
        await rest(pilot)
        assert " P " not in app.lines[0]
        assert {cells(strip.text) for strip in strips_of(app.query_one(PagedTable))} == {59}
        await pilot.resize_terminal(12, 5)
        await rest(pilot)
        assert len(app.lines) == 5


@pytest.mark.asyncio
async def test_the_cursor_stays_in_view_when_the_screen_becomes_lower() -> None:
    async with staged(Views(1000)) as (_, pilot, table):
        table.move_to(22)
        await rest(pilot)
        await pilot.resize_terminal(80, 10)
        await rest(pilot)
        first, end = table.window
        assert first <= 22 < end


@pytest.mark.asyncio
async def test_an_empty_table_says_why() -> None:
    async with staged(Views(0)) as (app, pilot, table):
        table.empty = ([("No task matches.", "text")], [("esc clears.", "dim")])
        table.refresh()
        await pilot.press("j", "G", "enter", "space", "v", "A", "U")
        await rest(pilot)
        assert [line.strip() for line in app.lines[:5]] == [app.lines[0].strip(), "", "No task matches.", "esc clears.", ""]
        assert told(app, PagedTable.Opened) == []
        assert table.cursor_key is None


@pytest.mark.asyncio
async def test_a_list_of_rows_is_shown_as_pages_are() -> None:
    source = ListSource(lambda one: one["name"])
    table = PagedTable([Column("name", "QUEUE", 0, lambda one: [(one["name"], "text")])], source)
    app = Stage(table)
    async with app.run_test(size=(40, 8)) as pilot:
        source.show([{"name": name} for name in ("mail", "thumbs", "gc")])
        await rest(pilot)
        await pilot.press("j")
        assert table.cursor_key == "thumbs"
        source.show([{"name": name} for name in ("thumbs", "mail", "new", "gc")])
        await rest(pilot)
        assert (table.cursor_key, table.cursor_place) == ("thumbs", 0)
        source.show([{"name": name} for name in ("mail", "gc")])
        await rest(pilot)
        assert table.cursor_key == "mail"
        assert [line.split() for line in app.lines[:3]] == [["QUEUE"], ["▸", "mail"], ["gc"]]
        other = ListSource(lambda one: one["name"])
        other.show([{"name": "w-01"}])
        await pilot.press("A")
        table.show(other)
        await rest(pilot)
        assert (table.cursor_key, table.all_marked) == ("w-01", False)


@pytest.mark.asyncio
async def test_data_that_is_no_longer_sure_is_dim_and_then_not() -> None:
    async with staged(Views(10)) as (_, pilot, table):
        table.brush.faded = True
        await rest(pilot)
        assert all(segment.style.dim for segment in table.render_line(2) if segment.text.strip())
        table.brush.faded = False
        await rest(pilot)
        assert not any(segment.style.dim for segment in table.render_line(3))


@pytest.mark.asyncio
async def test_another_theme_draws_all_lines_anew_and_every_segment_has_both_colours() -> None:
    views = Views(100)
    views.rows = {99: row(99, "running"), 98: None, 97: row(97, "of a newer daemon")}
    async with staged(views) as (app, pilot, table):
        dark = [segment.style for strip in strips_of(table) for segment in strip]
        app.theme = "tq-light"
        await rest(pilot)
        light = [segment.style for strip in strips_of(table) for segment in strip]
        assert all(style.color is not None and style.bgcolor is not None for style in [*dark, *light])
        assert {style.bgcolor for style in dark}.isdisjoint({style.bgcolor for style in light})


@pytest.mark.asyncio
async def test_an_ascii_table_is_ascii() -> None:
    async with staged(Views(100), glyphs=ASCII) as (app, pilot, table):
        table.sorted_by("id", descending=True)
        await pilot.press("space", "j", "A")
        await rest(pilot)
        assert "".join(app.lines).isascii()


HOSTILE = [
    "\x1b]52;c;aGFja2Vk\x07", "\x1b[31mred\x1b[0m", "\x9b31m", "[@click=app.quit]quit[/]", "[bold red]x[/]", "a\u202eb\u2066c",
    "\x00\x07\x08\x7f", "日本語テキスト" * 9, "e\u0301\u0302\u0303" * 40, "\u0301", "👩\u200d👩\u200d👧" * 20, "❤\ufe0f" * 30,
    "x" * 10_000, "a\nb\tc\rd", "\ud800",
]  # fmt: skip


@pytest.mark.asyncio
async def test_hostile_texts_reach_no_strip_as_they_are() -> None:
    views = Views(len(HOSTILE))
    views.rows = {number: row(number, type=text, error=text) for number, text in enumerate(HOSTILE, 1)}
    async with staged(views) as (_, _, table):
        assert table.source.total == len(HOSTILE)
        for strip in strips_of(table):
            assert cells(strip.text) == table.size.width == strip.cell_length
            assert not [char for char in strip.text if ord(char) < 32 or 127 <= ord(char) < 160 or char in "\u202e\u2066\ud800"]
            assert not any(segment.style.meta or segment.control for segment in strip)
        shown = "".join(strip.text for strip in strips_of(table))
        assert "[@click=app" in shown
        assert "\\x1b]52;c;" in shown


@settings(deadline=None)
@given(st.lists(st.tuples(st.text(max_size=30), st.sampled_from(["text", "dim"])), max_size=6), st.integers(0, 60), st.booleans())
def test_pieces_are_fitted_into_exactly_so_many_cells(runs: list[tuple[str, str]], width: int, right: bool) -> None:
    clean = [(safe_text(text), style) for text, style in runs]
    assert sum(cells(text) for text, _ in fitted(clean, width, right=right)) == width


@pytest.mark.asyncio
async def test_forty_sizes_are_drawn_without_a_torn_line() -> None:
    chance = random.Random(7)
    async with staged(Views(1000)) as (_, pilot, table):
        for _ in range(40):
            width, height = chance.randint(3, 140), chance.randint(1, 50)
            await pilot.resize_terminal(width, height)
            table.move_to(chance.randint(0, 999))
            strips = strips_of(table)
            assert {strip.cell_length for strip in strips} == {table.scrollable_content_region.width}

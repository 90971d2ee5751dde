"""Panes: scrolled, wrapped, searched, folded and followed."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from textual.pilot import Pilot

from tests.tui.widgets.stage import Stage, rest, strips_of
from tui.documents import absolute, relative
from tui.formats import ASCII, cells
from tui.widgets.panes import LOG_LINES, JsonPane, LogPane, TextPane, TracebackPane, between, parts_of


@asynccontextmanager
async def staged(pane: TextPane, size: tuple[int, int] = (40, 10)) -> AsyncIterator[tuple[Stage, Pilot[None]]]:
    app = Stage(pane)
    async with app.run_test(size=size) as pilot:
        await rest(pilot)
        yield app, pilot


def lines_of(app: Stage) -> list[str]:
    """What is on the screen, without the scroll bar."""
    return [line[: app.size.width - 1].rstrip() for line in (strip.text for strip in app.screen._compositor.render_strips(app.size))]


LINE = st.lists(
    st.tuples(st.text(st.characters(exclude_categories=["Cc", "Cs"]), max_size=30), st.sampled_from(["text", "dim"])), max_size=5
)


@settings(deadline=None)
@given(LINE, st.integers(2, 30))
def test_a_wrapped_line_keeps_its_text_and_its_styles(line: list[tuple[str, str]], width: int) -> None:
    text = "".join(piece for piece, _ in line)
    rows = parts_of(line, width)
    texts = ["".join(piece for piece, _ in row) for _, row in rows]
    assert all(cells(row) <= width for row in texts)
    styles = [style for piece, style in line for _ in piece]
    at = 0
    for (start, row), its in zip(rows, texts, strict=True):
        assert text[at:start] in ("", " ")  # the blank at which a full row ends
        at = start + len(its)
        assert text[start:at] == its
        assert [style for piece, style in row for _ in piece] == styles[start:at]
    assert text[at:] in ("", " ")


@settings(deadline=None)
@given(LINE, st.integers(0, 40), st.integers(0, 40))
def test_the_pieces_between_two_places_are_the_text_between_them(line: list[tuple[str, str]], first: int, end: int) -> None:
    text = "".join(piece for piece, _ in line)
    assert "".join(piece for piece, _ in between(line, first, end)) == text[first:end]


@pytest.mark.asyncio
async def test_a_text_is_scrolled_by_keys() -> None:
    pane = TextPane()
    async with staged(pane) as (app, pilot):
        pane.show_text("\n".join(f"line {n}" for n in range(100)))
        await rest(pilot)
        for keys, top in (
            ("j", 1),
            ("k", 0),
            ("G", 90),
            ("g", 0),
            ("pagedown", 10),
            ("ctrl+d", 15),
            ("ctrl+u", 10),
            ("pageup", 0),
            ("end home", 0),
        ):
            await pilot.press(*keys.split())
            await rest(pilot)
            assert lines_of(app)[0] == f"line {top}", keys
        assert pane.text.startswith("line 0\nline 1\n")


def test_a_line_is_wrapped_between_words_and_a_word_that_fits_nowhere_is_cut() -> None:
    def rows(text: str, width: int) -> list[str]:
        return ["".join(piece for piece, _ in row) for _, row in parts_of([(text, "text")], width)]

    assert rows("run     p50 31ms  failing 0%", 20) == ["run     p50 31ms  ", "failing 0%"]
    assert rows("twelve twelve", 6) == ["twelve", "twelve"]
    assert rows("a supercalifragilistic word", 10) == ["a ", "supercalif", "ragilistic", "word"]
    assert rows("    indented-and-long", 10) == ["    indent", "ed-and-lon", "g"]
    assert rows("日本語 日本語", 8) == ["日本語 ", "日本語"]


@pytest.mark.asyncio
async def test_long_lines_are_wrapped_or_shifted() -> None:
    pane = TextPane()
    async with staged(pane) as (app, pilot):
        pane.show_text("a" * 50 + "b" * 50 + "\nshort")
        await rest(pilot)
        assert [line[:3] for line in app.lines[:2]] == ["aaa", "sho"]
        await pilot.press(*"lllllll")
        await rest(pilot)
        assert app.lines[0].startswith("b" * 39)
        await pilot.press("h")
        await rest(pilot)
        assert app.lines[0].startswith("aabb")
        await pilot.press("w")
        await rest(pilot)
        assert [line for line in app.lines if line] == ["a" * 40, "a" * 10 + "b" * 30, "b" * 20, "short"]
        await pilot.resize_terminal(30, 10)
        await rest(pilot)
        assert len([line for line in app.lines if line]) == 5


@pytest.mark.asyncio
async def test_a_search_marks_all_hits_and_goes_from_one_to_the_next() -> None:
    pane = TextPane()
    async with staged(pane) as (app, pilot):
        pane.show_text("\n".join("an Error here" if n % 20 == 7 else f"line {n}" for n in range(100)))
        await pilot.press("slash", *"errox", "backspace", "r", "enter")
        await rest(pilot)
        assert app.lines[-1].startswith("/error  1 of 5")
        assert app.lines[7] == "an Error here"
        marked = [segment.text for segment in pane.render_line(7) if segment.style.reverse]
        assert marked == ["Error"]
        await pilot.press("n")
        await rest(pilot)
        assert app.lines[-1].startswith("/error  2 of 5")
        assert "an Error here" in lines_of(app)
        await pilot.press("N", "N")
        await rest(pilot)
        assert app.lines[-1].startswith("/error  5 of 5")
        await pilot.press("escape")
        await rest(pilot)
        assert not app.lines[-1].startswith("/")
        assert pane.find("nowhere") == 0
        await rest(pilot)
        assert app.lines[-1].startswith("/nowhere  not found")
        assert pane.find("LINE 99") == 1


@pytest.mark.asyncio
async def test_letters_typed_into_a_search_do_nothing_else() -> None:
    pane = JsonPane()
    async with staged(pane) as (_, pilot):
        pane.show_value({"password": "hunter2", "zw": [1, 2]})
        await pilot.press("slash", *"zw!nG", "escape")
        await rest(pilot)
        assert (pane.wrap, pane.hidden, len(pane.text.splitlines())) == (False, 1, 7)


@pytest.mark.asyncio
async def test_a_hit_far_to_the_right_is_brought_into_view() -> None:
    pane = TextPane()
    async with staged(pane) as (app, pilot):
        pane.show_text("x" * 500 + "needle" + "x" * 500)
        pane.find("needle")
        await rest(pilot)
        assert "needle" in app.lines[0]
        await pilot.press("w")
        await rest(pilot)
        pane.find("needle")
        await rest(pilot)
        assert any("needle" in line for line in app.lines[:-1])


@pytest.mark.asyncio
async def test_a_megabyte_of_text_costs_no_more_than_what_is_shown_of_it() -> None:
    pane = TextPane(wrap=True)
    async with staged(pane) as (_, pilot):
        pane.show_text("é" * (1 << 20))
        await rest(pilot)
        assert "cut at 64 KiB of 1.0 MiB" in pane.text
        assert len(pane.text) < 5000
        before = pane.lines_rendered
        await pilot.press("j")
        await rest(pilot)
        assert pane.lines_rendered - before <= 10


@pytest.mark.asyncio
async def test_json_is_folded_and_opened_where_the_cursor_is() -> None:
    pane = JsonPane()
    async with staged(pane, (40, 12)) as (app, pilot):
        pane.show_value({"id": 2**63 + 1, "body": {"items": [1, 2]}, "raw": b"\xde\xad"})
        await rest(pilot)
        assert lines_of(app)[:4] == ["▾ {", '    "id": 9223372036854775809,', '▾   "body": {', '▾     "items": [']
        assert '    "raw": 0xdead' in lines_of(app)
        await pilot.press(*"jj", "z")
        await rest(pilot)
        assert lines_of(app)[2:4] == ['▸   "body": { …1 },', '    "raw": 0xdead']
        await pilot.press("enter", "j", "j", "z")
        await rest(pilot)
        assert lines_of(app)[3] == '▸     "items": [ …2 ]'
        await pilot.click(JsonPane, offset=(4, 3))
        await rest(pilot)
        assert lines_of(app)[3] == '▾     "items": ['
        await pilot.press("G", "g", "pagedown", "z")
        await rest(pilot)
        assert lines_of(app)[0] == "▸ { …3 }"


@pytest.mark.asyncio
async def test_secrets_are_shown_when_asked_for_and_that_is_told() -> None:
    pane = JsonPane()
    async with staged(pane) as (app, pilot):
        pane.show_value({"password": "hunter2"})
        await rest(pilot)
        assert "hunter2" not in "".join(app.lines)
        assert pane.hidden == 1
        await pilot.press("exclamation_mark")
        await rest(pilot)
        assert "hunter2" in "".join(app.lines)
        assert [type(message) for message in app.told] == [JsonPane.SecretsShown]
        await pilot.press("exclamation_mark")
        await rest(pilot)
        assert "hunter2" not in "".join(app.lines)
        assert len(app.told) == 1
        await pilot.press("exclamation_mark")
        pane.show_value({"password": "another"})
        await rest(pilot)
        assert "another" not in "".join(app.lines)


@pytest.mark.asyncio
async def test_attempts_are_read_from_the_newest_to_the_oldest() -> None:
    pane = TracebackPane()
    lib = ["/usr/lib/python3.12/http/client.py", 214, "_recv", ""]
    async with staged(pane, (60, 10)) as (app, pilot):
        pane.show_errors(
            [
                (1, {"type": "First"}),
                (3, {"type": "Third", "message": "x", "frames": [["app.py", 1, "f", "g()"], lib]}),
                (2, {"type": "Second"}),
            ]
        )
        await rest(pilot)
        assert lines_of(app)[:4] == ["  app.py:1 in f", "    g()", "  … 1 library frame folded (client.py)", "Third: x"]
        assert pane.attempt == (3, 1, 3)
        await pilot.press("z")
        await rest(pilot)
        assert lines_of(app)[2] == "  /usr/lib/python3.12/http/client.py:214 in _recv"
        await pilot.press("left_square_bracket", "left_square_bracket", "left_square_bracket")
        await rest(pilot)
        assert (pane.attempt, lines_of(app)[0]) == ((1, 3, 3), "First")
        await pilot.press("right_square_bracket")
        assert pane.attempt == (2, 2, 3)
        pane.show_errors([])
        await pilot.press("left_square_bracket")
        await rest(pilot)
        assert (pane.attempt, lines_of(app)[0]) == ((0, 0, 0), "no attempt has failed")


def chunks(texts: Iterable[str]) -> list[tuple[int, int, bytes]]:
    return [(1_763_822_000_000 + at, 1, f"{text}\n".encode()) for at, text in enumerate(texts)]


@pytest.mark.asyncio
async def test_an_output_is_followed_until_somebody_scrolls_up_and_says_so() -> None:
    pane = LogPane()
    async with staged(pane) as (app, pilot):
        pane.append(chunks(f"line {n}" for n in range(50)))
        await rest(pilot)
        assert lines_of(app)[-2:] == ["line 49", "▮ end of output · following · 50 lines"[:39]]
        await pilot.press(*"kkk")
        await rest(pilot)
        pane.append(chunks(f"more {n}" for n in range(100)))
        await rest(pilot)
        assert lines_of(app)[-2] == "line 46"
        assert lines_of(app)[-1].startswith("▮ not following: 103 rows below")
        await pilot.press("F")
        await rest(pilot)
        assert lines_of(app)[-2] == "more 99"
        pane.append([], end=True)
        await rest(pilot)
        assert "the output is over" in app.lines[-1]
        pane.clear()
        await rest(pilot)
        assert lines_of(app)[0] == ""
        assert "0 lines" in app.lines[-1]


@pytest.mark.asyncio
async def test_what_is_read_stays_while_old_lines_go() -> None:
    pane = LogPane()
    async with staged(pane) as (app, pilot):
        pane.append(chunks(f"line {n}" for n in range(LOG_LINES)))
        pane.follows = False
        pane.scroll_to(y=1000, animate=False)
        await rest(pilot)
        assert lines_of(app)[0] == "line 1000"
        pane.append(chunks(f"more {n}" for n in range(500)))
        await rest(pilot)
        assert lines_of(app)[0] == "line 1000"
        assert "the last 2,000 kept" in pane._foot()[1][0]


@pytest.mark.asyncio
async def test_an_unfinished_line_is_shown_and_grows() -> None:
    pane = LogPane()
    async with staged(pane) as (app, pilot):
        pane.append([(1, 1, b" 10%")])
        await rest(pilot)
        assert lines_of(app)[0] == " 10%"
        pane.append([(2, 1, b"\r 60%")])
        pane.append([(2, 2, b"err\n")])
        await rest(pilot)
        assert lines_of(app)[:2] == ["err", " 60%"]
        pane.append([(3, 1, b"\r100%\n")])
        await rest(pilot)
        assert lines_of(app)[:3] == ["err", "100%", ""]


@pytest.mark.asyncio
async def test_times_are_shown_as_asked_for() -> None:
    pane = LogPane(stamps=(None, absolute, relative(1_763_822_000_000)))
    async with staged(pane) as (app, pilot):
        pane.append(chunks(["ERROR it broke"]))
        for words in ("ERROR it broke", "14:33:20.000 ERROR it broke", "+   0.000 ERROR it broke", "ERROR it broke"):
            await rest(pilot)
            assert lines_of(app)[0] == words
            await pilot.press("t")


@pytest.mark.asyncio
async def test_five_thousand_lines_a_second_for_ten_seconds_keep_only_the_last_two_thousand() -> None:
    pane = LogPane()
    async with staged(pane) as (_, pilot):
        pane.find("line 49")
        for batch in range(40):
            pane.append(chunks(f"INFO line {batch * 1250 + n} of a busy task, whose lines are wrapped" for n in range(1250)))
            await pilot.pause()
            kept = min(LOG_LINES, (batch + 1) * 1250)
            assert (len(pane._lines), len(pane._output), len(pane._rows)) == (kept, kept, 2 * kept)
            assert max(len(pane._parts), len(pane._hits)) <= LOG_LINES + 1250
        assert "INFO line 49999 of a busy task" in pane.text
        assert "INFO line 47999" not in pane.text
        assert pane.follows


HOSTILE = [
    b"\x1b]52;c;aGFja2Vk\x07", b"\x1b[31mred\x1b[0m", b"\x9b31m", b"[@click=app.quit]quit[/]", "a\u202eb\u2066c".encode(),
    b"\x00\x07\x08\x7f", "日本語テキスト".encode() * 9, "e\u0301\u0302".encode() * 40, "👩\u200d👧".encode() * 20, "\u0301".encode(),
    b"x" * 1_000_000, b"\xff\xfe\xed\xa0\x80",
]  # fmt: skip


@pytest.mark.asyncio
@pytest.mark.parametrize("wrap", [True, False], ids=["wrapped", "not wrapped"])
async def test_hostile_bytes_reach_no_strip_as_they_are(wrap: bool) -> None:
    texts = [text.decode("utf-8", "surrogateescape") for text in HOSTILE]
    log, value, error, text = LogPane(wrap=wrap), JsonPane(wrap=wrap), TracebackPane(wrap=wrap), TextPane(wrap=wrap)
    for pane in (log, value, error, text):
        async with staged(pane, (50, 60)) as (_, pilot):
            if pane is log:
                log.append([(1, 1, one + b"\n") for one in HOSTILE])
            elif pane is value:
                value.show_value({one[:2000]: [one, raw] for one, raw in zip(texts, HOSTILE, strict=True)})
            elif pane is error:
                error.show_errors([(1, {"type": one, "message": one, "frames": [[one, 1, one, one]]}) for one in texts])
            else:
                text.show_text("\n".join(texts))
            pane.find("red")
            for top in (0, 30, 60, 10_000):
                pane.scroll_to(y=top, animate=False)
                await rest(pilot, 1)
                for strip in strips_of(pane):
                    assert cells(strip.text) == strip.cell_length == pane.scrollable_content_region.width
                    assert not [char for char in strip.text if ord(char) < 32 or 127 <= ord(char) < 160 or char in "\u202e\u2066"]
                    assert not any(segment.control or (segment.style and segment.style.meta) for segment in strip)


@pytest.mark.asyncio
async def test_ascii_panes_are_ascii() -> None:
    pane = JsonPane(glyphs=ASCII)
    async with staged(pane) as (app, pilot):
        pane.show_value({"a": [1] * 300, "b": {"c": 1}})
        await pilot.press("z", "z", "j", "z")
        await rest(pilot)
        assert "".join(app.lines).isascii()

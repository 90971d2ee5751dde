"""Workers, schedules and events in all their states, at both sizes, as kept texts; and what their lists have in common."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.tui.conftest import Same
from tests.tui.crew import Crew, at
from tui.screens.lists import ListScreen

pytestmark = pytest.mark.asyncio
SIZES = [(120, 36), (80, 24)]
sizes = pytest.mark.parametrize("size", SIZES, ids=["120", "80"])
SCREENS = {"workers": "4", "schedules": "5", "events": "7"}
screens = pytest.mark.parametrize("screen", list(SCREENS))
QUESTIONS = ("workers", "rows", "schedules", "next_slots", "events")
EMPTY = {"workers": "No worker runs.", "schedules": "There is no schedule yet.", "events": "Nothing has been done here yet."}
ROW = {"workers": "w3", "schedules": "hook-retry", "events": "slot_skipped"}


@pytest.fixture
def in_cairo(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """This machine's clock shows the time of Cairo."""
    monkeypatch.setenv("TZ", "EET-2")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


@screens
@sizes
async def test_normal_it_shows_what_there_is(where: Path, same: Same, screen: str, size: tuple[int, int]) -> None:
    async with at(where, SCREENS[screen], size=size) as (monitor, _):
        text = await monitor.shows(1)
        assert ROW[screen] in text
        same(f"{screen}-normal-{size[0]}", text)


@screens
@sizes
async def test_empty_it_says_why_and_what_to_do(where: Path, same: Same, screen: str, size: tuple[int, int]) -> None:
    crew = Crew()
    crew.empty()
    async with at(where, SCREENS[screen], crew, size=size) as (monitor, _):
        text = await monitor.shows(1)
        assert EMPTY[screen] in text
        same(f"{screen}-empty-{size[0]}", text)


@screens
@sizes
async def test_loading_it_says_that_it_waits(where: Path, same: Same, screen: str, size: tuple[int, int]) -> None:
    async with at(where, "1", size=size) as (monitor, _):
        monitor.daemon.errors |= dict.fromkeys(QUESTIONS, ("refused", "later"))
        text = await monitor.press(SCREENS[screen])
        assert "Waiting for the daemon's answer." in text
        same(f"{screen}-loading-{size[0]}", text)


@screens
@sizes
async def test_stale_it_keeps_all_and_tells_its_age(where: Path, same: Same, screen: str, size: tuple[int, int]) -> None:
    async with at(where, SCREENS[screen], size=size) as (monitor, _):
        monitor.daemon.silent = True
        text = await monitor.shows(12)
        assert "stale 12s" in text
        assert ROW[screen] in text
        same(f"{screen}-stale-{size[0]}", text)


@screens
@sizes
async def test_down_it_keeps_all_and_offers_nothing_that_writes(where: Path, same: Same, screen: str, size: tuple[int, int]) -> None:
    async with at(where, SCREENS[screen], size=size) as (monitor, _):
        await monitor.daemon.stop()
        text = await monitor.shows(5)
        assert "down 5.0s" in text
        assert ROW[screen] in text
        assert not {"Drain", "Trigger", "Remove"} & set(text.splitlines()[-1].replace("…", "").split())
        same(f"{screen}-down-{size[0]}", text)


@screens
@sizes
async def test_read_only_it_says_so_and_offers_nothing_that_writes(where: Path, same: Same, screen: str, size: tuple[int, int]) -> None:
    async with at(where, SCREENS[screen], size=size, read_only=True) as (monitor, _):
        text = await monitor.shows(1)
        assert "READ ONLY" in text
        assert not {"Drain", "Trigger", "Remove", "More"} & set(text.splitlines()[-1].replace("…", "").split())
        same(f"{screen}-read-only-{size[0]}", text)


@screens
@sizes
async def test_an_older_daemon_that_does_not_know_is_told_of(where: Path, same: Same, screen: str, size: tuple[int, int]) -> None:
    async with at(where, "1", size=size) as (monitor, _):
        monitor.daemon.scenario.lacking = (screen,)
        await monitor.press(SCREENS[screen])
        text = await monitor.shows(1)
        assert "This daemon does not tell it:" in text
        same(f"{screen}-error-{size[0]}", text)


@screens
async def test_ascii_has_nothing_else(where: Path, screen: str) -> None:
    async with at(where, SCREENS[screen], ascii=True) as (monitor, _):
        await monitor.shows(1)
        app = monitor.app
        strips = app.screen._compositor.render_strips(app.screen.size)
        for strip in strips:
            segments = list(strip)
            for one in app.get_line_filters():
                segments = one.apply(segments, app.screen.background_colors[1])
            assert "".join(segment.text for segment in segments).isascii()


@screens
@pytest.mark.parametrize("size", [(70, 20), (60, 16), (200, 50)], ids=str)
async def test_at_other_sizes_the_list_is_still_there(where: Path, screen: str, size: tuple[int, int]) -> None:
    async with at(where, SCREENS[screen], size=size) as (monitor, _):
        assert ROW[screen] in await monitor.shows(1)


@screens
async def test_a_cursor_stays_with_its_row_when_others_come_before_it(where: Path, screen: str) -> None:
    async with at(where, SCREENS[screen]) as (monitor, crew):
        await monitor.press("j", "j")
        table = monitor.app.screen.query_one(monitor.app.screen.AUTO_FOCUS)
        key, place = table.cursor_key, table.cursor_place
        crew.workers = [{**crew.workers[0], "id": "w0"}, *crew.workers]
        crew.schedules = [*crew.schedules, {**crew.schedules[1], "name": "a-new-one", "next_at": 1}]
        crew.events = [*crew.events, {**crew.events[-1], "number": 2_001}]
        await monitor.shows(31)
        assert table.cursor_key == key
        assert table.cursor_place == place + 1


@screens
async def test_a_second_without_news_draws_no_row_again_but_those_with_an_age(where: Path, screen: str) -> None:
    crew = Crew()
    crew.workers = [{**one, "tasks": []} for one in crew.workers]  # no age in them
    for one in crew.schedules:
        one["paused"] = True
    async with at(where, SCREENS[screen], crew) as (monitor, _):
        for _ in range(8):
            await monitor.shows(16)
        table = monitor.app.screen.query_one(monitor.app.screen.AUTO_FOCUS)
        before = table.lines_rendered
        for _ in range(10):
            await monitor.shows(1)
        assert table.lines_rendered == before


@screens
async def test_while_nothing_happens_little_is_asked_and_when_something_does_once_a_second(where: Path, screen: str) -> None:
    async with at(where, SCREENS[screen]) as (monitor, _):
        await monitor.shows(12)
        before = len(monitor.daemon.asked_for(screen))
        await monitor.shows(10)
        idle = len(monitor.daemon.asked_for(screen)) - before
        assert idle <= 5
        before = len(monitor.daemon.asked_for(screen))
        for number in range(40):
            monitor.daemon.scenario.totals["states"]["succeeded"] = number
            monitor.daemon.tell_totals()
            await monitor.shows(0.25)
        assert 8 <= len([one for one in monitor.daemon.asked_for(screen)[before:] if "name" not in one]) <= 11


@screens
async def test_what_is_not_shown_is_not_asked_for(where: Path, screen: str) -> None:
    async with at(where, SCREENS[screen]) as (monitor, _):
        await monitor.press("1")
        before = {verb: len(monitor.daemon.asked_for(verb)) for verb in QUESTIONS}
        await monitor.shows(120)
        assert {verb: len(monitor.daemon.asked_for(verb)) for verb in QUESTIONS} == before


@screens
async def test_every_action_has_a_key_or_a_word_and_does_not_end_the_monitor(where: Path, screen: str) -> None:
    async with at(where, SCREENS[screen]) as (monitor, _):
        for action in list(monitor.app.registry.on(screen)):
            if action.screen == screen:
                assert action.keys or action.words
                for key in action.keys.split(",") if action.keys else ():
                    await monitor.press(key)
                    await monitor.press("escape")
        assert "live" in await monitor.shows(1)
        assert monitor.app.return_code is None


async def test_times_are_this_machines_or_utc_on_every_screen(where: Path, in_cairo: None) -> None:
    async with at(where, "7") as (monitor, _):
        utc = await monitor.shows(1)
        assert "14:32:10Z" in utc
        local = await monitor.press("T")
        assert "16:32:10" in local
        assert "16:32:10Z" not in local
        assert "16:31:" in local
        assert "14:31:" not in local
        schedules = await monitor.press("5")
        assert "16:33 (" in schedules
        assert "16:32:10Z" not in schedules
        assert "14:33 (" in await monitor.press("T")


async def test_an_order_is_chosen_by_key_turned_and_chosen_by_a_click(where: Path) -> None:
    async with at(where, "4") as (monitor, _):
        screen = monitor.app.screen
        assert isinstance(screen, ListScreen)
        names = [screen.table.source.entry(place).key for place in range(6)]  # type: ignore[union-attr]
        assert names == ["w1", "w2", "w3", "w4", "w5", "w6"]
        await monitor.press("s", "s")
        assert screen.order.written == "-cpu"
        assert "CPU ▼" in await monitor.shows()
        assert [screen.table.source.entry(place).key for place in range(3)] == ["w1", "w2", "w5"]  # type: ignore[union-attr]
        assert "CPU ▲" in await monitor.press("I")
        assert [screen.table.source.entry(place).key for place in range(2)] == ["w4", "w6"]  # type: ignore[union-attr]
        await monitor.pilot.click(screen.table, offset=(3, 0))
        assert screen.order.written == "id"


async def test_hostile_words_reach_no_terminal(where: Path) -> None:
    crew = Crew()
    evil = "\x1b]52;c;aGk=\x07[@click=app.quit]x[/]\u202e\x9b31m"
    crew.workers = [{**crew.workers[0], "hostname": evil, "id": f"w{evil}"}]
    crew.tasks[301][2] = evil
    crew.tasks[525][12] = evil
    crew.schedules = [{**one, "type": evil, "cron": evil, "tz": evil} for one in crew.schedules]
    crew.whole["hook-retry"] = {**crew.whole["hook-retry"], "options": {"label": evil, evil: evil}}
    crew.events = [{**one, "who": evil, "target": evil, "what": evil, "after": {evil: evil}} for one in crew.events]
    async with at(where, "4", crew) as (monitor, _):
        for screen in ("4", "5", "7"):
            await monitor.press(screen, "j")
            text = await monitor.shows(2)
            assert "@click" in text  # as it stands, and no link
            strips = monitor.app.screen._compositor.render_strips(monitor.app.screen.size)
            shown = [segment.text for strip in strips for segment in strip]
            assert not [one for one in shown if any(ord(char) < 32 or 127 <= ord(char) < 160 or char == "\u202e" for char in one)]
            assert not [segment for strip in strips for segment in strip if segment.style and segment.style.meta.get("@click")]

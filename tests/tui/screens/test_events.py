"""What a person does with events: read back, follow, choose, see what changed, go where it happened."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.tui.crew import Crew, at, event
from tests.tui.fake import Driven
from tui.app import MonitorApp
from tui.screens.events import EventsScreen
from tui.widgets.panes import TextPane

pytestmark = pytest.mark.asyncio


def screen_of(monitor: Driven) -> EventsScreen:
    found = monitor.app.front
    assert isinstance(found, EventsScreen)
    return found


async def test_a_line_tells_who_did_what_to_what_and_what_changed(where: Path) -> None:
    async with at(where, "7") as (monitor, _):
        line = next(line for line in (await monitor.shows()).splitlines() if "set_queue" in line)
        assert "● audit set_queue" in line
        assert "slots 2 → 8   keep none → 1h00m" in line or "slots 2 → 8   keep 0ms → 1h00m" in line
        assert line.endswith("user 1001 (pid 77)")


async def test_it_follows_until_somebody_moves_and_then_holds_still(where: Path) -> None:
    async with at(where, "7") as (monitor, crew):
        table = screen_of(monitor).table
        assert "following" in await monitor.shows()
        crew.events.append(event(2_001, "stopped", "daemon"))
        assert "stopped" in await monitor.shows(7)
        assert table.cursor_key == 2_001
        text = await monitor.press("j")
        assert "holding still" in text
        crew.events.append(event(2_002, "resumed", "late"))
        await monitor.shows(7)
        assert table.cursor_key == 2_000
        assert table.cursor_place == 2
        text = await monitor.press("F")
        assert "following" in text
        assert table.cursor_key == 2_002


async def test_who_pages_down_gets_older_events_and_the_end_is_told(where: Path) -> None:
    async with at(where, "7") as (monitor, _):
        assert "200 events   older ones below" in await monitor.shows()
        for _ in range(8):
            await monitor.press("pagedown")
        assert screen_of(monitor).events_here.loaded >= 300
        text = await monitor.press("G")
        text = await monitor.shows(1)
        assert "1,000 events   all that are kept" in text
        assert screen_of(monitor).table.cursor_key == 1_001


async def test_words_choose_as_they_are_typed_and_escape_shows_all_again(where: Path) -> None:
    async with at(where, "7") as (monitor, _):
        text = await monitor.press("slash", *"mail", "space", *"slots")
        rows = [line for line in text.splitlines() if "● audit" in line or "▲ warn" in line or "· info" in line]
        assert rows
        assert all("set_queue" in line for line in rows)
        await monitor.press("enter")
        assert screen_of(monitor).table.has_focus
        text = await monitor.shows(1)
        assert " match" in text
        text = await monitor.press("escape")
        assert "slot_skipped" in text
        assert " match" not in text


async def test_a_choice_that_nothing_matches_says_how_many_were_looked_through(where: Path) -> None:
    async with at(where, "7") as (monitor, _):
        await monitor.press(":", *"filter", "space", *"nowhere", "enter")
        text = await monitor.shows(1)
        assert "No event matches: nowhere" in text
        assert "1,000 events looked through" in text
        assert "set_queue" in await monitor.press(":", *"filter", "enter")


async def test_audit_only_is_what_people_did(where: Path) -> None:
    async with at(where, "7") as (monitor, _):
        text = await monitor.press("a")
        assert "audit only" in text
        assert "slot_skipped" not in text
        assert "paused" in text
        assert "slot_skipped" in await monitor.press("a")


@pytest.mark.parametrize(
    ("what", "target", "place"),
    [
        ("paused", "billing", ("queue", "billing")), ("slot_skipped", "schedule gc", ("schedule", "gc")),
        ("drained", "worker w1", ("worker", "w1")), ("restarted", "workers", ("workers", "")), ("cancelled", "4242", ("task", "4242")),
    ],
)  # fmt: skip
async def test_enter_goes_where_it_happened(
    where: Path, monkeypatch: pytest.MonkeyPatch, what: str, target: str, place: tuple[str, str]
) -> None:
    opened: list[tuple[str, str]] = []
    monkeypatch.setattr(MonitorApp, "open_place", lambda _, kind, name: opened.append((kind, name)))
    crew = Crew()
    crew.events = [event(2_000, what, target)]
    async with at(where, "7", crew) as (monitor, _):
        await monitor.press("enter")
        assert opened == [place]


async def test_what_has_no_place_says_so(where: Path) -> None:
    crew = Crew()
    crew.events = [event(2_000, "chore_done", "17")]
    async with at(where, "7", crew) as (monitor, _):
        assert "chore_done 17 has no place of its own to show." in await monitor.press("enter")


async def test_the_panel_has_all_that_changed_and_is_copied(where: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    copied: list[str] = []
    monkeypatch.setattr(MonitorApp, "copy_to_clipboard", lambda _, text: copied.append(text))
    crew = Crew()
    crew.events = [event(2_000, "set_queue", "mail", before={"routes": ["a.*"], "slots": 2}, after={"routes": ["b.*", "c"], "slots": 0})]
    async with at(where, "7", crew) as (monitor, _):
        text = monitor.app.screen.query_one("#event-details", TextPane).text
        assert "routes a.* → b.*, c" in text
        assert "slots 2 → 0" in text
        await monitor.press("y")
        assert copied == [text]


async def test_another_daemon_begins_the_list_anew(where: Path) -> None:
    async with at(where, "7") as (monitor, crew):
        await monitor.daemon.stop()
        monitor.daemon.boot = "b2"
        crew.events = [event(7, "restored", "store")]
        await monitor.daemon.start()
        await monitor.shows(7)
        text = await monitor.shows(7)
        assert "restored" in text
        assert screen_of(monitor).events_here.loaded == 1


async def test_an_alert_leads_to_its_events(where: Path) -> None:
    crew = Crew()
    crew.events.append(event(2_001, "alert_raised", "alert backlog", "tq"))
    async with at(where, "1", crew) as (monitor, _):
        monitor.app.open_place("alert", "backlog")
        text = await monitor.shows(7)
        assert "alert_raised" in text
        assert screen_of(monitor).events_here.total == 1

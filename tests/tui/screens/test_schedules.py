"""What a person does with schedules: see how they go, send one now, pause, remove."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.tui.crew import Crew, at, schedule
from tests.tui.fake import START_MS, Driven
from tui.app import MonitorApp
from tui.screens.schedules import LOOKED_AT, SchedulesScreen
from tui.widgets.confirm import Confirm
from tui.widgets.panes import TextPane

pytestmark = pytest.mark.asyncio


def line_of(text: str, name: str) -> str:
    return next(line for line in text.splitlines() if f" {name}" in line)


def screen_of(monitor: Driven) -> SchedulesScreen:
    found = monitor.app.front
    assert isinstance(found, SchedulesScreen)
    return found


async def test_a_line_tells_rule_next_last_and_how_late_it_began(where: Path) -> None:
    async with at(where, "5") as (monitor, _):
        text = await monitor.shows()
        assert "every 5m" in line_of(text, "gc")
        assert "14:35 (2m51s)" in line_of(text, "gc")
        assert "✗ 5.0s" in line_of(text, "hook-retry")
        assert "✗ fails" in line_of(text, "hook-retry")
        assert "+41.0s ▲" in line_of(text, "nightly-report")
        assert "paused" in line_of(text, "backup")
        assert "1 Dec 08:32" in line_of(text, "launch-mail")


async def test_the_last_twelve_runs_are_signs_and_the_last_runs_a_list(where: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[tuple[str, str]] = []
    monkeypatch.setattr(MonitorApp, "open_place", lambda _, kind, name: opened.append((kind, name)))
    async with at(where, "5") as (monitor, _):
        text = await monitor.shows(2)
        assert line_of(text, "nightly-report").endswith("✓✓✓✓✓✓✗✓✓✓✓✓")
        assert line_of(text, "hook-retry").endswith("·✗✗✗●")
        await monitor.press("j", "j")
        assert screen_of(monitor).table.cursor_key == "nightly-report"
        text = await monitor.shows()
        assert "OSError: n" in text
        await monitor.press("enter", "j", "enter")
        assert opened == [("task", "529")]


async def test_the_panel_tells_what_is_sent_with_secrets_hidden(where: Path) -> None:
    async with at(where, "5") as (monitor, _):
        await monitor.press("j", "j")
        await monitor.shows()
        text = monitor.app.screen.query_one("#schedule-details", TextPane).text
        assert "report.build   priority 3   queue reports" in text
        assert '"day": "yesterday"' in text
        assert "s3cret" not in text
        assert "only 00:00-06:00" in text
        assert "by the application" in text
        await monitor.press("k", "k")
        assert "curl -f 'https://hooks.example/again now'" in monitor.app.screen.query_one("#schedule-details", TextPane).text


async def test_the_next_day_is_drawn_from_slots_and_more_than_are_reckoned_as_several(where: Path) -> None:
    async with at(where, "5") as (monitor, _):
        lines = (await monitor.shows()).splitlines()
        by_name = {line[98:].split("│")[0].strip(): line[2:98] for line in lines[-9:] if line.startswith("│ ")}
        assert by_name[""].split()[:3] == ["14", "15", "16"]
        assert by_name["nightly-report"].count("■") == 1
        assert by_name["nightly-report"].index("■") == 48  # 02:00, twelve hours after the first cell
        assert set(by_name["hook-retry"][3:]) == {"▒"}
        assert "■" in by_name["‖ backup"]


async def test_trigger_asks_and_sends_once(where: Path) -> None:
    async with at(where, "5") as (monitor, _):
        text = await monitor.press("t")
        assert "schedule hook-retry sends its task now" in text
        await monitor.press("enter")
        assert not monitor.daemon.asked_for("run_schedule")
        await monitor.shows(1)
        await monitor.press("enter", "t")
        await monitor.shows(0.5)
        text = await monitor.press("y")
        assert monitor.daemon.asked_for("run_schedule") == [{"name": "hook-retry"}]
        assert "Sent: task 777" in text


async def test_pause_is_taken_back_and_resumes_what_is_paused(where: Path) -> None:
    async with at(where, "5") as (monitor, crew):
        paused = {one["name"]: one for one in crew.schedules}
        text = await monitor.press("p")
        assert paused["hook-retry"]["paused"] is True
        assert "Paused: schedule hook-retry" in text
        assert "‖ off" in line_of(await monitor.shows(1), "hook-retry")
        await monitor.press("u")
        assert paused["hook-retry"]["paused"] is False
        await monitor.press(":", *"resume", "space", *"backup", "enter")
        assert paused["backup"]["paused"] is False
        text = await monitor.press(":", *"resume", "space", *"backup", "enter")
        assert "schedule backup: not paused already" in text


async def test_marked_ones_are_paused_together(where: Path) -> None:
    async with at(where, "5") as (monitor, crew):
        await monitor.press("A", "p")
        assert all(one["paused"] for one in crew.schedules)
        await monitor.press("u")
        assert [one["name"] for one in crew.schedules if one["paused"]] == ["backup"]


async def test_remove_wants_the_name_typed(where: Path) -> None:
    async with at(where, "5") as (monitor, crew):
        await monitor.press("D")
        await monitor.shows(1)
        await monitor.press(*"hook-retri", "enter")
        assert isinstance(monitor.app.screen, Confirm)
        assert not monitor.daemon.asked_for("remove_schedule")
        await monitor.press("backspace", "y", "enter")
        assert monitor.daemon.asked_for("remove_schedule") == [{"name": "hook-retry"}]
        text = await monitor.shows(1)
        assert "Removed: schedule hook-retry" in text
        assert "hook-retry" not in [one["name"] for one in crew.schedules]
        assert screen_of(monitor).table.source.total == 4


async def test_of_several_the_number_is_typed_and_what_cannot_be_removed_is_told(where: Path) -> None:
    async with at(where, "5") as (monitor, _):
        await monitor.press("space", "space", "D")
        monitor.daemon.errors["remove_schedule"] = ("refused", "not now")
        await monitor.shows(1)
        text = await monitor.press("2", "enter")
        assert "0 of 2 removed; gc: not now" in text or "0 of 2 removed; hook-retry: not now" in text


async def test_a_run_that_ended_asks_for_its_schedule_again_and_for_no_other(where: Path) -> None:
    async with at(where, "5") as (monitor, crew):
        await monitor.shows(2)
        before = len([one for one in monitor.daemon.asked_for("schedules") if "name" in one])
        crew.schedules[1]["last"] = {**crew.schedules[1]["last"], "id": 521}
        await monitor.shows(32)
        after = [one["name"] for one in monitor.daemon.asked_for("schedules") if "name" in one][before:]
        assert after == ["gc"]


async def test_of_many_schedules_only_those_that_are_seen_are_looked_into(where: Path) -> None:
    crew = Crew()
    crew.schedules = [schedule(f"s{number:03}", 60_000 + number, every_ms=60_000) for number in range(300)]
    async with at(where, "5", crew) as (monitor, _):
        await monitor.shows(3)
        named = {one["name"] for one in monitor.daemon.asked_for("schedules") if "name" in one}
        assert 5 < len(named) <= LOOKED_AT
        await monitor.press("G")
        assert "s299" in await monitor.shows(2)
        assert "s299" in {one["name"] for one in monitor.daemon.asked_for("next_slots")}


async def test_a_line_of_attention_puts_the_cursor_on_its_schedule(where: Path) -> None:
    async with at(where, "1") as (monitor, crew):
        crew.schedules.append(schedule("nightly", 1_000, every_ms=1_000))
        monitor.app.open_place("schedule", "nightly")
        await monitor.shows(2)
        assert screen_of(monitor).table.cursor_key == "nightly"
        assert crew.daemon.clock.now_ms() > START_MS

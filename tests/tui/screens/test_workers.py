"""What a person does with workers: look into them, let them go, replace them, have more or fewer."""

from __future__ import annotations

from pathlib import Path
from typing import cast

import pytest

from tests.tui.crew import Crew, at, task
from tests.tui.fake import Driven
from tui.app import MonitorApp
from tui.screens.workers import WorkersScreen
from tui.widgets.confirm import Confirm
from tui.widgets.table import PagedTable

pytestmark = pytest.mark.asyncio


def screen_of(monitor: Driven) -> WorkersScreen:
    found = monitor.app.front
    assert isinstance(found, WorkersScreen)
    return found


async def agree(monitor: Driven) -> str:
    """Say yes to the dialog in front, once it listens."""
    assert isinstance(monitor.app.screen, Confirm)
    await monitor.shows(0.5)
    return await monitor.press("y")


async def test_the_slots_of_a_worker_say_what_runs_in_them_and_one_opens_its_task(where: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[tuple[str, str]] = []
    monkeypatch.setattr(MonitorApp, "open_place", lambda _, kind, name: opened.append((kind, name)))
    async with at(where, "4") as (monitor, _):
        text = await monitor.shows()
        assert "w1 slots" in text
        assert "report.build  november" in text
        assert "62%" in text
        await monitor.press("enter")
        slots = monitor.app.screen.query_one("#worker-slots", PagedTable)
        assert slots.has_focus
        await monitor.press("j", "j", "enter")
        assert opened == [("task", "303")]


async def test_another_worker_under_the_cursor_has_other_slots(where: Path) -> None:
    async with at(where, "4") as (monitor, _):
        text = await monitor.press("j", "j")
        assert "w3 slots" in text
        assert "‖ suspended" in text
        assert "report.build  november" not in text


async def test_drain_names_how_many_tasks_run_and_blind_enters_drain_nothing(where: Path) -> None:
    async with at(where, "4") as (monitor, _):
        text = await monitor.press("d")
        assert "worker w1 will finish and go: 3 tasks run there now" in text
        await monitor.press(*["enter"] * 5)
        assert isinstance(monitor.app.screen, Confirm)  # it was deaf
        await monitor.shows(1)
        await monitor.press("enter")
        assert not isinstance(monitor.app.screen, Confirm)
        assert not monitor.daemon.asked_for("drain_worker")
        await monitor.press("d")
        text = await agree(monitor)
        assert monitor.daemon.asked_for("drain_worker") == [{"id": "w1"}]
        assert "Draining; workers from now on: 4 to 8, as the work needs" in text


async def test_marked_workers_are_restarted_together_by_one_question(where: Path) -> None:
    async with at(where, "4") as (monitor, _):
        await monitor.press("space", "space")
        text = await monitor.press("R")
        assert "2 workers will finish and be replaced: 5 tasks run there now" in text
        await agree(monitor)
        assert monitor.daemon.asked_for("restart_workers") == [{"id": "w1"}, {"id": "w2"}]


async def test_what_the_application_refuses_is_told_and_ends_nothing(where: Path) -> None:
    async with at(where, "4") as (monitor, _):
        monitor.daemon.errors["restart_workers"] = ("config", "the application 'app.py' cannot be used by workers")
        await monitor.press("R")
        assert "cannot be used by workers" in await agree(monitor)


async def test_one_more_and_one_less_and_taken_back(where: Path) -> None:
    async with at(where, "4") as (monitor, crew):
        assert "4 to 8, as the work needs" in await monitor.shows()
        text = await monitor.press("plus")
        assert crew.sizes == {"min": 4, "max": 9}
        assert "Workers from now on: 4 to 9, as the work needs" in text
        await monitor.press("u")
        assert crew.sizes == {"min": 4, "max": 8}
        await monitor.shows(16)
        await monitor.press("minus")
        assert crew.sizes == {"min": 4, "max": 7}


async def test_one_less_of_one_is_one(where: Path) -> None:
    crew = Crew()
    crew.sizes = {"min": 1, "max": 1}
    async with at(where, "4", crew) as (monitor, _):
        await monitor.press("minus")
        assert crew.sizes == {"min": 1, "max": 1}
        await monitor.press("plus")
        assert crew.sizes == {"min": 2, "max": 2}


async def test_a_number_of_workers_is_said_on_the_line(where: Path) -> None:
    async with at(where, "4") as (monitor, crew):
        await monitor.press(":", *"scale", "space", "2", "space", "6", "enter")
        assert crew.sizes == {"min": 2, "max": 6}
        text = await monitor.press(":", *"scale", "space", *"many", "enter")
        assert "expected a number of workers" in text
        assert crew.sizes == {"min": 2, "max": 6}


async def test_a_worker_is_named_on_the_line_and_a_name_there_is_not_is_told(where: Path) -> None:
    async with at(where, "4") as (monitor, _):
        text = await monitor.press(":", *"drain", "space", "w", "9", "enter")
        assert "expected a worker, got 'w9'" in text
        await monitor.press(":", *"drain", "space", "w", "5", "enter")
        await agree(monitor)
        assert monitor.daemon.asked_for("drain_worker") == [{"id": "w5"}]


async def test_a_worker_without_a_sign_of_life_is_marked_by_more_than_a_colour(where: Path) -> None:
    async with at(where, "4") as (monitor, _):
        line = next(line for line in (await monitor.shows()).splitlines() if " w3 " in line)
        assert line.endswith("22s ▲")


async def test_a_worker_that_is_gone_leaves_the_list_and_its_marks_do_no_harm(where: Path) -> None:
    async with at(where, "4") as (monitor, crew):
        await monitor.press("space")
        crew.workers = crew.workers[1:]
        text = await monitor.shows(16)
        assert " w1 " not in text
        await monitor.press("d")
        await agree(monitor)
        assert monitor.daemon.asked_for("drain_worker") == [{"id": "w2"}]


async def test_only_the_row_that_changed_is_drawn_again(where: Path) -> None:
    crew = Crew()
    crew.workers = [{**one, "tasks": []} for one in crew.workers]
    async with at(where, "4", crew) as (monitor, _):
        for _ in range(8):
            await monitor.shows(16)
        table = screen_of(monitor).table
        before = table.lines_rendered
        crew.workers[3]["done"] += 1
        await monitor.shows(16)
        assert table.lines_rendered - before == 1


async def test_many_tasks_are_asked_for_in_one_answers_worth(where: Path) -> None:
    crew = Crew()
    crew.workers = [
        {**crew.workers[0], "id": f"w{number}", "tasks": list(range(number * 100, number * 100 + 90))} for number in range(1, 10)
    ]
    crew.tasks = {id_: task(id_, "running", "mail.send", 100) for one in crew.workers for id_ in cast("list[int]", one["tasks"])}
    async with at(where, "4", crew) as (monitor, _):
        text = await monitor.shows(12)
        assert max(len(args["ids"]) for args in monitor.daemon.asked_for("rows")) == 500
        assert "mail.send x90" in text


async def test_a_line_of_attention_about_workers_leads_here(where: Path) -> None:
    async with at(where, "1") as (monitor, _):
        monitor.app.screen.query_one("#attention", PagedTable).focus()
        text = await monitor.press("j", "j", "enter")
        assert "[4 Workers]" in text
        assert "w-07: no sign of life for 22s" in text

"""The page of a workflow: its tree, its scale of time, and how little is asked for."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.tui.conftest import Same
from tests.tui.fake import Driven
from tests.tui.nightly import at_workflows, nightly
from tui.screens.task import TaskPage
from tui.screens.workflow import WorkflowPage

pytestmark = pytest.mark.asyncio


def page_of(monitor: Driven) -> WorkflowPage:
    found = monitor.app.front
    assert isinstance(found, WorkflowPage)
    return found


@pytest.mark.parametrize(("size", "name"), [((140, 36), "140"), ((80, 24), "80"), ((60, 16), "60")])
async def test_the_page_as_it_stands(where: Path, same: Same, size: tuple[int, int], name: str) -> None:
    async with at_workflows(where, nightly(), size=size) as (monitor, _):
        await monitor.press("enter", "f")
        same(f"workflow-{name}", await monitor.shows(1))


async def test_enter_unfolds_a_step_and_opens_a_task_and_z_folds_all(where: Path) -> None:
    async with at_workflows(where, nightly()) as (monitor, _):
        await monitor.press("enter", "j")
        assert "transform[9]" not in await monitor.shows()
        text = await monitor.press("enter")
        assert "transform[9]" in text
        assert "enter folds it" in text
        assert "transform[9]" not in await monitor.press("z")
        assert "transform[9]" in await monitor.press("z")
        await monitor.press("j", "j", "enter")
        task = monitor.app.front
        assert isinstance(task, TaskPage)
        assert task.id_ == 103
        await monitor.press("escape")
        assert page_of(monitor).here is not None


async def test_f_goes_from_failure_to_failure_and_says_if_there_is_none(where: Path) -> None:
    async with at_workflows(where, nightly()) as (monitor, flows):
        await monitor.press("enter")
        flows.change(106, state="failed")
        await monitor.shows(2)
        found = []
        for _ in range(3):
            await monitor.press("f")
            found.append((page_of(monitor).here or {})["id"])
        assert found == [104, 106, 104]
        flows.change(104, state="succeeded", error=None)
        flows.change(106, state="succeeded", error=None)
        await monitor.shows(2)
        assert "nothing of it went wrong" in await monitor.press("f")


async def test_a_large_one_shows_its_first_steps_at_once_and_is_read_on_behind_them(where: Path) -> None:
    async with at_workflows(where, nightly(1001, 2000)) as (monitor, _):
        await monitor.press("enter")
        text = await monitor.shows()
        assert "transform" in text
        assert "reading its steps" in text
        text = await monitor.shows(3)
        assert "reading its steps" not in text
        assert "x2,000" in text
        assert max(len(args["ids"]) for args in monitor.daemon.asked_for("get")) <= 100
        assert len(monitor.daemon.asked_for("get")) == 21


async def test_what_changes_is_seen_and_what_does_not_is_not_asked_for(where: Path) -> None:
    async with at_workflows(where, nightly()) as (monitor, flows):
        await monitor.press("enter")
        flows.change(111, state="succeeded", finished_at=monitor.clock.now_ms())
        assert "13 of 14 over" in await monitor.shows(2)
        before = len(monitor.daemon.asked_for("rows")), len(monitor.daemon.asked_for("get"))
        await monitor.shows(30)
        assert (len(monitor.daemon.asked_for("rows")), len(monitor.daemon.asked_for("get"))) == before


async def test_a_task_that_is_gone_is_left_out_of_the_tree(where: Path) -> None:
    async with at_workflows(where, nightly()) as (monitor, flows):
        del flows.tasks[114]
        text = await monitor.press("enter")
        assert "notify" in text
        assert "page" not in text.split("STEP")[1].split("╭")[0]


async def test_an_error_of_the_daemon_is_told_and_reading_goes_on_when_it_is_over(where: Path) -> None:
    async with at_workflows(where, nightly()) as (monitor, flows):
        monitor.daemon.errors["get"] = ("refused", "the store is busy")
        assert "the store is busy" in await monitor.press("enter")
        del monitor.daemon.errors["get"]
        flows.tell()
        text = await monitor.shows(2)
        assert "extract" in text
        assert "the store is busy" not in text


async def test_in_plain_characters_and_without_colours_it_tells_the_same(where: Path) -> None:
    async with at_workflows(where, nightly(), ascii=True, environ={"NO_COLOR": "1"}) as (monitor, _):
        text = await monitor.press("enter")
        assert text.isascii()
        assert "x transform" in text

"""The kin of a task on its page: whom it comes after, who comes after it, and the way to them and to its workflow."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from tests.tui.conftest import Same
from tests.tui.fake import Body, Driven
from tests.tui.jobs import task
from tests.tui.nightly import Flows, at_workflows, nightly
from tui.screens.task import TaskPage
from tui.screens.workflow import WorkflowPage

pytestmark = pytest.mark.asyncio


def page_of(monitor: Driven) -> TaskPage:
    found = monitor.app.front
    assert isinstance(found, TaskPage)
    return found


@asynccontextmanager
async def at_task(
    where: Path, number: int, *more: Body, waiting: tuple[int, ...] = (), **wanted: object
) -> AsyncIterator[tuple[Driven, Flows]]:
    """A monitor with the page of this task of a workflow in front."""
    async with at_workflows(where, nightly(), list(more), **wanted) as (monitor, flows):
        monitor.daemon.verbs["why"] = lambda args: {"task": {}, "reasons": [["over", {}]], "children": list(waiting)}
        monitor.app.push_screen(TaskPage(number))
        await monitor.shows(1)
        yield monitor, flows


async def test_parents_and_children_stand_among_the_facts(where: Path, same: Same) -> None:
    async with at_task(where, 112, size=(140, 40)) as (monitor, _):
        same("task-kin-140", await monitor.shows())


async def test_children_are_looked_for_in_the_workflow_or_among_the_next_ids(where: Path) -> None:
    async with at_task(where, 112) as (monitor, _):
        assert monitor.daemon.asked_for("find")[-1]["where"] == "parent:112 id:113..114"
    async with at_task(where, 700, task(700, meta=None)) as (monitor, _):
        assert monitor.daemon.asked_for("find")[-1]["where"] == "parent:700 id:701..1700"


async def test_one_that_waits_far_away_is_named_by_the_daemon(where: Path) -> None:
    far = task(90_000, "blocked", "mail.send", parents=[700], meta=None)
    async with at_task(where, 700, task(700, "running", meta=None), far, waiting=(90_000,)) as (monitor, _):
        await monitor.press("tab")
        assert "before     90000  ◇ block  mail.send" in await monitor.shows()


async def test_a_chooses_one_and_another_key_shows_the_workflow(where: Path) -> None:
    async with at_task(where, 112) as (monitor, _):
        text = await monitor.press("a")
        assert "102  ✓ done  transform" in text
        assert "it stands before this one" in text
        await monitor.press("j", "enter")
        await monitor.shows(1)
        assert page_of(monitor).id_ == 103
        await monitor.press("W")
        page = monitor.app.front
        assert isinstance(page, WorkflowPage)
        assert page.graph.id == 101


async def test_neither_is_offered_where_there_is_none(where: Path) -> None:
    alone = task(90_000, meta=None)
    async with at_task(where, 90_000, alone) as (monitor, _):
        keys = (await monitor.shows()).splitlines()[-1]
        assert "After" not in keys
        assert "Workflow" not in keys
        assert "Next" not in keys  # it was opened from no list


async def test_while_it_waits_its_parents_are_looked_at_when_something_has_changed(where: Path) -> None:
    child = task(90_000, "blocked", parents=[111], meta=None)
    async with at_task(where, 90_000, child) as (monitor, flows):
        await monitor.press("tab")
        assert "after      111  ● run" in await monitor.shows()
        flows.change(111, state="failed")
        assert "after      111  ✗ fail" in await monitor.shows(2)

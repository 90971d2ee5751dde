"""The list of workflows: which are asked for when, what it tells of them, and the way to their steps."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.tui.conftest import Same
from tests.tui.fake import Driven
from tests.tui.nightly import at_workflows, nightly, step
from tui.screens.workflow import WorkflowPage
from tui.screens.workflows import WorkflowsScreen

pytestmark = pytest.mark.asyncio


def screen_of(monitor: Driven) -> WorkflowsScreen:
    found = monitor.app.front
    assert isinstance(found, WorkflowsScreen)
    return found


def filters(monitor: Driven) -> list[str]:
    """What the daemon was asked to look for."""
    return [args["where"] for args in monitor.daemon.asked_for("find") if "where" in args]


@pytest.mark.parametrize(("size", "name"), [((120, 36), "120"), ((80, 24), "80"), ((60, 16), "60")])
async def test_the_list_as_it_stands(where: Path, same: Same, size: tuple[int, int], name: str) -> None:
    done = [step(201, "build", "1/2", "succeeded", begun=30, took=4, flow="deploy"),
            step(202, "ship", "2/2", "succeeded", (201,), begun=26, took=8, flow="deploy")]  # fmt: skip
    waits = [step(301, "a", "1/1", "pending", flow="wait [b]here[/b] \x1b]0;x\x07")]
    async with at_workflows(where, nightly(), done, waits, size=size) as (monitor, _):
        same(f"workflows-{name}", await monitor.shows())


async def test_without_any_it_says_how_to_begin_one(where: Path) -> None:
    async with at_workflows(where) as (monitor, _):
        text = await monitor.shows()
        assert "There is no workflow yet." in text
        assert "tq workflow run deploy.toml" in text
        assert "No workflow" in text


async def test_all_tasks_are_looked_through_once_and_then_only_those_that_came(where: Path) -> None:
    async with at_workflows(where, nightly()) as (monitor, flows):
        assert filters(monitor) == ["meta.workflow.place:1/*"]
        flows.add(nightly(501, 3))
        text = await monitor.shows(3)
        assert filters(monitor)[1:] == ["meta.workflow.place:1/* id>114"]
        assert "2 workflows" in text
        flows.tell()
        await monitor.shows(3)
        assert len(filters(monitor)) == 2


async def test_while_nothing_changes_nothing_is_asked(where: Path) -> None:
    async with at_workflows(where, nightly()) as (monitor, _):
        await monitor.shows(2)
        before = len([one for one in monitor.daemon.asked if one[0] in ("find", "rows", "get")])
        await monitor.shows(60)
        assert len([one for one in monitor.daemon.asked if one[0] in ("find", "rows", "get")]) == before


async def test_what_changes_is_seen_and_asked_for_once_a_second_at_most(where: Path) -> None:
    async with at_workflows(where, nightly()) as (monitor, flows):
        before = len(monitor.daemon.asked_for("rows"))
        for _ in range(8):
            flows.change(111, state="succeeded", finished_at=monitor.clock.now_ms())
            await monitor.shows(0.25)
        assert len(monitor.daemon.asked_for("rows")) - before <= 3
        assert "13/14" in await monitor.shows(1)


async def test_a_large_workflow_is_read_in_parts_of_which_each_is_small(where: Path) -> None:
    async with at_workflows(where, nightly(1001, 3000)) as (monitor, _):
        for _ in range(5):
            await monitor.shows(1.1)
        sizes = [len(args["ids"]) for args in monitor.daemon.asked_for("rows")]
        assert max(sizes) <= 500
        assert screen_of(monitor).graphs[1001].read == 3004
        assert "3002/3004" in await monitor.shows()


async def test_a_first_task_that_was_cut_is_asked_for_alone(where: Path) -> None:
    async with at_workflows(where) as (monitor, flows):
        flows.cut = {101, 201}
        flows.tasks |= {one["id"]: one for one in [*nightly(), step(201, "x", "1/1", "running", begun=3, flow="other")]}
        flows.tell()
        text = await monitor.shows(2)
        assert "nightly" in text
        assert "other" in text


async def test_a_workflow_whose_tasks_are_gone_goes_too(where: Path) -> None:
    async with at_workflows(where, nightly(), nightly(301, 2)) as (monitor, flows):
        assert "2 workflows" in await monitor.shows()
        for one in range(301, 307):
            del flows.tasks[one]
        for _ in range(2):
            flows.tell()
            await monitor.shows(2)
        assert "1 workflow " in await monitor.shows()


async def test_another_order_is_kept_and_what_is_not_known_stands_last(where: Path) -> None:
    async with at_workflows(where, nightly(), [step(301, "a", "1/1", "succeeded", begun=9, took=1, flow="abc")]) as (monitor, _):
        await monitor.press("s")
        text = await monitor.shows()
        assert text.index("abc") < text.index("nightly")
        assert "sort name" in text


async def test_enter_opens_its_steps_and_the_word_opens_that_of_any_task(where: Path) -> None:
    async with at_workflows(where, nightly()) as (monitor, _):
        await monitor.press("enter")
        assert isinstance(monitor.app.front, WorkflowPage)
        await monitor.press("escape")
        await monitor.press(*":workflow", "space", *"107", "enter")
        page: Any = monitor.app.front
        assert isinstance(page, WorkflowPage)
        assert page.graph.id == 101


@pytest.mark.parametrize("words", ["nightly", "99999"])
async def test_a_word_that_leads_to_no_workflow_says_so(where: Path, words: str) -> None:
    async with at_workflows(where, nightly()) as (monitor, _):
        await monitor.press(*":workflow", "space", *words, "enter")
        assert "expected the id of a workflow" in await monitor.shows()


async def test_its_tasks_are_shown_where_tasks_are_listed(where: Path, shown_tasks: list[tuple[str, str]]) -> None:
    async with at_workflows(where, nightly()) as (monitor, _):
        await monitor.press("t")
        await monitor.shows()
        assert shown_tasks == [("filter", "id:101..114")]


async def test_a_daemon_that_refuses_is_told_and_asked_again_on_a_new_connection(where: Path) -> None:
    async with at_workflows(where) as (monitor, flows):
        monitor.daemon.errors["find"] = ("refused", "the store is busy")
        flows.add(nightly())
        assert "the store is busy" in await monitor.shows(3)
        del monitor.daemon.errors["find"]
        flows.tell()
        assert "nightly" in await monitor.shows(3)

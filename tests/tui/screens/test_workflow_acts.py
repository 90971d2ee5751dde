"""Cancelling a workflow and running one again: what is sent for it, in which order, and that it is asked for first."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.tui.fake import Driven
from tests.tui.nightly import at_workflows, nightly
from tui.widgets.confirm import Confirm

pytestmark = pytest.mark.asyncio


async def agree(monitor: Driven) -> str:
    """Say yes to the dialog in front, once it listens."""
    assert isinstance(monitor.app.screen, Confirm)
    await monitor.shows(0.5)
    await monitor.press("y")
    return await monitor.shows(1)


@pytest.mark.parametrize("keys", [(), ("enter",)])
async def test_retry_runs_what_failed_and_all_after_it_in_their_order(where: Path, keys: tuple[str, ...]) -> None:
    async with at_workflows(where, nightly()) as (monitor, _):
        await monitor.press(*keys)
        text = await monitor.press("r")
        assert "4 tasks will run again" in text
        assert "transform[2] (104)" in text
        assert not monitor.daemon.asked_for("retry")
        text = await agree(monitor)
        assert "Workflow 101: 4 tasks run again." in text
        assert monitor.daemon.asked_for("retry") == [{"ids": [104, 112, 113, 114], "in_order": True}]
        assert "✗" not in await monitor.shows(2)


async def test_what_could_not_be_retried_is_told(where: Path) -> None:
    async with at_workflows(where, nightly()) as (monitor, _):
        monitor.daemon.verbs["retry"] = lambda args: {"outcomes": ["retried", *["over"] * (len(args["ids"]) - 1)]}
        await monitor.press("r")
        assert "1 task run again, 3 not" in (await agree(monitor)).replace("tasks", "task")


async def test_what_went_well_is_not_offered_to_be_run_again(where: Path) -> None:
    async with at_workflows(where, nightly()[:0]) as (monitor, flows):
        good = [one | {"state": "succeeded", "error": None} for one in nightly()]
        flows.add(good)
        await monitor.shows(2)
        assert "Retry" not in await monitor.shows()
        await monitor.press("r")
        assert not isinstance(monitor.app.screen, Confirm)


async def test_cancel_asks_for_the_last_steps_first_and_only_for_what_is_not_over(where: Path) -> None:
    async with at_workflows(where, nightly()) as (monitor, _):
        assert "2 tasks will be cancelled" in await monitor.press("c")
        text = await agree(monitor)
        assert "Workflow 101: 2 tasks cancelled, or asked to end." in text
        assert monitor.daemon.asked_for("cancel") == [{"ids": [113, 111]}]
        assert "Cancel" not in (await monitor.shows(2)).splitlines()[-1]


async def test_a_large_one_is_cancelled_in_parts_and_an_error_says_how_far_it_came(where: Path) -> None:
    flow = [one | {"state": "pending"} for one in nightly(1001, 1200)]
    async with at_workflows(where, flow) as (monitor, _):
        await monitor.press("c")
        await agree(monitor)
        asked = [args["ids"] for args in monitor.daemon.asked_for("cancel")]
        assert [len(ids) for ids in asked] == [500, 500, 204]
        assert asked[0][0] == 2204
        monitor.daemon.errors["retry"] = ("refused", "the queue is full")
        await monitor.press("r")
        assert "retry: done to 0 tasks, then: the queue is full" in await agree(monitor)


async def test_who_only_reads_is_offered_neither(where: Path) -> None:
    async with at_workflows(where, nightly(), read_only=True) as (monitor, _):
        text = await monitor.shows()
        assert "Retry" not in text
        assert "Cancel" not in text
        await monitor.press("r", "c")
        assert not isinstance(monitor.app.screen, Confirm)

"""The page of the batches: what it tells of each, and that what is done to many is asked first."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.tui.conftest import Same
from tests.tui.fake import START_MS, Driven, busy, driven
from tests.tui.nightly import Flows
from tui.screens.batches import BatchesPage
from tui.widgets.confirm import Confirm

pytestmark = pytest.mark.asyncio


def batch(number: int, state: str = "running", **more: Any) -> dict[str, Any]:
    """A row of ``batches``: 100 members, of which 62 have succeeded."""
    found = {
        "id": number, "name": f"import {number}", "state": state, "auto": False, "meta": None, "created_at": START_MS - 90_000,
        "closed_at": 0 if state == "open" else START_MS - 80_000, "cancelled_at": 0,
        "finished_at": START_MS - 9_000 if state == "complete" else 0,
        "total": 100, "waiting": 30, "running": 5, "succeeded": 62, "failed": 3, "cancelled": 0, "expired": 0,
        "callbacks": {"on_complete": ["mail", None]}, "owed": [], **more,
    }  # fmt: skip
    return found


@asynccontextmanager
async def at_batches(where: Path, *batches: dict[str, Any], **how: Any) -> AsyncIterator[Driven]:
    """The page of these batches in front, at rest."""
    async with driven(where, busy(), **how) as monitor:
        Flows(monitor.daemon)
        verbs = ("cancel_batch", "retry_batch", "close_batch")
        monitor.daemon.verbs |= {"batches": lambda _: {"batches": list(batches)}, **dict.fromkeys(verbs, lambda _: {"chore": 7})}
        await monitor.press("9", "b")
        await monitor.shows(1)
        assert isinstance(monitor.app.front, BatchesPage)
        yield monitor


async def agree(monitor: Driven) -> str:
    assert isinstance(monitor.app.screen, Confirm)
    await monitor.shows(0.5)
    await monitor.press("y")
    return await monitor.shows()


def some() -> list[dict[str, Any]]:
    done = {"waiting": 0, "running": 0, "succeeded": 100, "failed": 0}
    sent = {"on_success": ["mail", 4711], "on_complete": ["hook", None]}
    return [
        batch(9, "open", total=0, waiting=0, running=0, succeeded=0, failed=0, name="e\x1b[31mvil [b]x[/b]"), batch(7),
        batch(5, "complete", **done, callbacks=sent, owed=["on_complete"]), batch(3, "complete", **done | {"succeeded": 98, "failed": 2}),
    ]  # fmt: skip


@pytest.mark.parametrize(("size", "name"), [((120, 36), "120"), ((80, 24), "80"), ((60, 16), "60")])
async def test_the_page_as_it_stands(where: Path, same: Same, size: tuple[int, int], name: str) -> None:
    async with at_batches(where, *some(), size=size) as monitor:
        same(f"batches-{name}", await monitor.press("j", "j"))


async def test_one_that_was_cancelled_says_so_when_it_is_over(where: Path) -> None:
    none = {"waiting": 0, "running": 0, "succeeded": 0, "failed": 0}
    gone = batch(7, "complete", **none, cancelled=3, total=3) | {"cancelled_at": START_MS - 70_000}
    async with at_batches(where, gone) as monitor:
        assert "⊘ cancel" in (await monitor.shows()).split("╭")[0]


async def test_callbacks_say_whether_they_were_sent(where: Path) -> None:
    async with at_batches(where, *some()) as monitor:
        text = await monitor.press("j", "j")
        assert "success  mail   task 4711" in text
        assert "complete hook   it is refused for now, and sent later" in text
        assert "complete mail   not sent" in await monitor.press("k")


async def test_without_any_it_says_how_to_make_one_and_without_the_verb_that_it_is_not_told(where: Path) -> None:
    async with at_batches(where) as monitor:
        assert "There is no batch yet." in await monitor.shows()
    scenario = busy()
    scenario.lacking = ("batches",)
    async with driven(where, scenario) as monitor:
        await monitor.press(*":batches", "enter")
        assert "This daemon does not tell it" in await monitor.shows(1)


@pytest.mark.parametrize(
    ("key", "verb", "says"), [("c", "cancel_batch", "35 members will be cancelled"), ("r", "retry_batch", "run again")]
)
async def test_what_is_done_to_many_is_asked_first_and_is_a_chore(where: Path, key: str, verb: str, says: str) -> None:
    async with at_batches(where, batch(7)) as monitor:
        assert says in await monitor.press(key)
        assert not monitor.daemon.asked_for(verb)
        assert "Batch 7: chore 7 does it" in await agree(monitor)
        assert monitor.daemon.asked_for(verb) == [{"id": 7}]


async def test_where_nothing_was_left_to_do_it_says_so(where: Path) -> None:
    async with at_batches(where, batch(7)) as monitor:
        monitor.daemon.verbs["retry_batch"] = lambda _: {"chore": None}
        await monitor.press("r")
        assert "Batch 7: nothing of it was left to do that to." in await agree(monitor)


async def test_an_open_one_is_closed_and_only_what_can_be_is_offered(where: Path) -> None:
    async with at_batches(where, *some()) as monitor:
        await monitor.press("C")
        assert monitor.daemon.asked_for("close_batch") == [{"id": 9}]
        await monitor.press("j", "j", "C", "c", "r")
        assert len(monitor.daemon.asked_for("close_batch")) == 1
        assert not isinstance(monitor.app.screen, Confirm)


async def test_enter_shows_its_members_where_tasks_are_listed(where: Path, shown_tasks: list[tuple[str, str]]) -> None:
    async with at_batches(where, batch(7)) as monitor:
        await monitor.press("enter")
        await monitor.shows()
        assert shown_tasks == [("filter", "batch:7")]


async def test_while_nothing_changes_it_is_asked_for_once_in_ten_seconds(where: Path) -> None:
    async with at_batches(where, *some()) as monitor:
        await monitor.shows(5)
        before = len(monitor.daemon.asked_for("batches"))
        await monitor.shows(30)
        assert len(monitor.daemon.asked_for("batches")) - before <= 3


async def test_a_filter_that_this_monitor_does_not_know_is_said_and_ends_nothing(where: Path) -> None:
    async with at_batches(where, batch(7)) as monitor:
        monitor.app.open_place("filter", "nonsense:7")
        text = await monitor.shows(0.5)
        assert "expected the name of a field" in text
        assert monitor.app.is_running

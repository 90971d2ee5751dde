"""The page of a task in its states, at both sizes, as kept texts; its panes, and what a person does on it."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.tui.conftest import Same
from tests.tui.fake import START_MS, Body, Driven, settle
from tests.tui.jobs import Jobs, at_tasks, task
from tq.model import pack
from tui.screens.task import PANES, TaskPage
from tui.widgets.choosing import Write
from tui.widgets.panes import JsonPane, LogPane, TextPane

pytestmark = pytest.mark.asyncio
sizes = pytest.mark.parametrize("size", [(120, 36), (80, 24)], ids=["120", "80"])


@asynccontextmanager
async def at_page(where: Path, tasks: list[Body], **wanted: Any) -> AsyncIterator[tuple[Driven, Jobs, TaskPage]]:
    """A monitor with the page of the newest task in front, at rest."""
    async with at_tasks(where, tasks, **wanted) as (monitor, jobs, _):
        await monitor.press("enter")
        await monitor.shows(1)
        page = monitor.app.front
        assert isinstance(page, TaskPage)
        yield monitor, jobs, page


async def see(monitor: Driven, name: str) -> str:
    """The screen with this pane in front."""
    await monitor.press("colon", *"pane", "space", *name, "enter")
    return await monitor.shows(0.2)


# the seven states


@sizes
@pytest.mark.parametrize("state", ["failed", "running", "scheduled", "succeeded"])
async def test_normal_it_tells_its_course(where: Path, same: Same, size: tuple[int, int], state: str) -> None:
    async with at_page(where, [task(7, state)], size=size) as (monitor, _, _page):
        same(f"task-{state}-{size[0]}", await monitor.shows())


@sizes
async def test_empty_a_task_that_is_gone_says_so(where: Path, same: Same, size: tuple[int, int]) -> None:
    async with at_tasks(where, [task(7)], size=size) as (monitor, _, _screen):
        monitor.app.open_place("task", "12345")
        text = await monitor.shows(0.5)
        assert "There is no task 12345." in text
        same(f"task-empty-{size[0]}", text)


@sizes
async def test_loading_it_says_so(where: Path, same: Same, size: tuple[int, int]) -> None:
    async with at_tasks(where, [task(7, "failed")], size=size) as (monitor, _, _screen):
        monitor.daemon.silent = True
        await monitor.press("enter")
        text = await monitor.shows(0.5)
        assert "waiting for the task" in text
        same(f"task-loading-{size[0]}", text)


@sizes
@pytest.mark.parametrize("state", ["stale", "down"])
async def test_cut_off_it_keeps_all_and_offers_nothing_that_writes(where: Path, same: Same, size: tuple[int, int], state: str) -> None:
    async with at_page(where, [task(7, "failed")], size=size) as (monitor, _, _page):
        if state == "down":
            await monitor.daemon.stop()
        monitor.daemon.silent = True
        text = await monitor.shows(12)
        assert "TimeoutError: read timed out" in text
        assert ("r Retry" in text) == (state == "stale")
        same(f"task-{state}-{size[0]}", text)


@sizes
async def test_read_only_it_offers_nothing_that_writes(where: Path, same: Same, size: tuple[int, int]) -> None:
    async with at_page(where, [task(7, "failed")], size=size, read_only=True) as (monitor, _, _page):
        text = await monitor.shows()
        assert "READ ONLY" in text
        assert "Retry" not in text
        same(f"task-read-only-{size[0]}", text)


@sizes
async def test_error_it_says_what_the_daemon_said(where: Path, same: Same, size: tuple[int, int]) -> None:
    async with at_tasks(where, [task(7, "failed")], size=size) as (monitor, _, _screen):
        monitor.daemon.errors["rows"] = ("damaged", "task 7: the record fails its checksum.")
        await monitor.press("enter")
        text = await monitor.shows(0.5)
        assert "the record fails its checksum" in text
        same(f"task-error-{size[0]}", text)


# panes


async def test_panes_are_reached_by_tab_by_word_and_by_click(where: Path) -> None:
    async with at_page(where, [task(7, "failed")], size=(80, 24)) as (monitor, _, page):
        seen = []
        for _ in PANES:
            assert page.focused is not None
            seen.append(page.focused.id)
            await monitor.press("tab")
        assert seen == list(PANES)
        await monitor.press("shift+tab")
        assert page.focused is not None
        assert page.focused.id == "raw"
        await monitor.pilot.click("#panes", offset=(3, 0))
        await monitor.shows(0.1)
        assert page.focused.id == "course"


async def test_the_traceback_is_folded_and_older_attempts_are_one_key_away(where: Path) -> None:
    async with at_page(where, [task(7, "failed")]) as (monitor, _, _page):
        text = await see(monitor, "trace")
        assert "hooks.py:88 in push" in text
        assert "1 library frame folded" in text
        assert "try 2, 1 of 2" in text
        assert "client.py:214" in await monitor.press("z")


async def test_whole_numbers_are_exact_and_secrets_hidden_until_asked_for(where: Path) -> None:
    payload = pack({"n": 2**63 + 1, "password": "hunter2", "items": list(range(200))})
    async with at_page(where, [task(7, payload=payload)]) as (monitor, _, _page):
        text = await see(monitor, "payload")
        assert str(2**63 + 1) in text
        assert "hunter2" not in text
        assert "1 secret hidden" in text
        assert "hunter2" in await monitor.press("exclamation_mark")


async def test_only_panes_that_are_seen_are_filled(where: Path) -> None:
    async with at_page(where, [task(7, "succeeded")], size=(80, 24)) as (monitor, _, page):
        assert page.query_one("#payload", JsonPane).text == ""
        assert not monitor.daemon.asked_for("events")
        assert [args["topics"] for args in monitor.daemon.asked_for("watch") if "output" in args["topics"]] == []
        assert '"ok": true' in await see(monitor, "result")
        assert page.query_one("#payload", JsonPane).text == ""


async def test_a_megabyte_opens_within_a_tenth_of_a_second(where: Path) -> None:
    """What is measured is the monitor's own time for the pane; unpacking and folding are all there is to it."""
    payload = pack({"rows": [{"id": number, "name": "x" * 80} for number in range(9000)]})
    assert len(payload) > 840_000
    async with at_page(where, [task(7, payload=payload)], size=(80, 24)) as (_, _jobs, page):
        best = 1.0
        for _ in range(3):
            began = time.process_time()
            page._show_payload()
            best = min(best, time.process_time() - began)
        assert best < 0.1
        assert "…9000" in page.query_one("#payload", JsonPane).text


async def test_what_was_done_to_it_and_all_of_it_are_shown(where: Path) -> None:
    async with at_page(where, [task(7, "failed")]) as (monitor, jobs, _page):
        jobs.events = [
            {"number": 2, "at": START_MS, "who": "alice", "what": "retry", "target": "7", "before": {"state": "failed"}, "after": None},
            {"number": 1, "at": START_MS, "who": "bob", "what": "retry", "target": "8", "before": None, "after": None},
        ]  # fmt: skip
        text = await see(monitor, "audit")
        assert "alice retry" in text
        assert "bob" not in text
        text = await see(monitor, "raw")
        assert '"queue": "webhooks"' in text


async def test_the_output_is_followed_while_it_is_seen(where: Path) -> None:
    async with at_page(where, [task(7, "running")], size=(80, 24)) as (monitor, _, page):
        await monitor.press("L")
        assert [args["ids"] for args in monitor.daemon.asked_for("watch") if "output" in args["topics"]] == [[7]]
        monitor.daemon.push("output", {"id": 7, "chunks": [[START_MS, 1, b"INFO one\ntwo \x1b[31m\n"]], "next": 5, "end": False})
        text = await monitor.shows(0.3)
        assert "INFO one" in text
        assert r"two \x1b[31m" in text
        assert "following" in text
        monitor.daemon.push("output", {"id": 7, "chunks": [], "next": 5, "end": True})
        assert "the output is over" in await monitor.shows(0.3)
        assert page.query_one("#log", LogPane).follows


async def test_a_torrent_of_output_leaves_two_thousand_lines_and_time_for_keys(where: Path) -> None:
    async with at_page(where, [task(7, "running")], size=(80, 24)) as (monitor, _, page):
        await monitor.press("L")
        pane = page.query_one("#log", LogPane)
        lines = b"".join(b"%06d POST https://hooks.example/cb 200\n" % number for number in range(500))
        spent = []
        for _ in range(100):  # ten seconds of 5,000 lines each
            began = time.process_time()
            pane.append([[START_MS, 1, lines]])
            spent.append(time.process_time() - began)
        await settle()
        assert pane.follows
        assert len(pane.text.splitlines()) <= 2000
        assert sorted(spent)[50] < 0.1  # of this process's own time; the few that a collection of garbage falls into aside
        assert "50,000 lines" in await monitor.shows(0.3)


# what a person does


async def test_one_walks_the_list_without_going_back(where: Path) -> None:
    async with at_page(where, [task(one, "failed") for one in range(1, 6)]) as (monitor, _, page):
        assert page.id_ == 5
        text = await monitor.press("J")
        assert page.id_ == 4
        assert "2 of 5" in text
        await monitor.press("K")
        assert page.id_ == 5
        assert "this is the first task" in await monitor.press("K")
        await monitor.press("escape")
        assert monitor.app.front is not page


async def test_a_task_is_asked_for_anew_only_after_its_row_changed(where: Path) -> None:
    async with at_page(where, [task(7)]) as (monitor, jobs, _page):
        before = len(monitor.daemon.asked_for("get"))
        for _ in range(3):
            jobs.tell()
            await monitor.shows(1)
        assert len(monitor.daemon.asked_for("get")) == before
        jobs.tasks[7] |= {"state": "running", "attempt": 1, "started_at": monitor.clock.now_ms(), "worker": "w-09"}
        jobs.tell()
        text = await monitor.shows(1.2)
        assert "w-09" in text
        assert "● run" in text


async def test_the_present_grows_while_it_runs(where: Path) -> None:
    async with at_page(where, [task(7, "running")], size=(80, 24)) as (monitor, _, page):
        before = page.query_one("#course", TextPane).text
        await monitor.shows(3)
        assert page.query_one("#course", TextPane).text != before


async def test_a_payload_is_edited_and_what_is_over_runs_again_with_it(where: Path) -> None:
    async with at_page(where, [task(7, "failed", payload=pack({"n": 1}))]) as (monitor, jobs, _page):
        await monitor.press("e")
        assert isinstance(monitor.app.screen, Write)
        await monitor.press("x", "ctrl+s")
        assert "line 1, column 1" in await monitor.shows()
        await monitor.press("backspace", "down", "end", "0", "ctrl+s")
        await monitor.shows(0.5)
        assert monitor.daemon.asked_for("retry") == [{"ids": [7], "changes": {"payload": pack({"n": 10})}}]
        assert jobs.tasks[7]["state"] == "pending"


async def test_what_was_written_is_not_thrown_away_by_one_escape(where: Path) -> None:
    async with at_page(where, [task(7, payload=pack({"n": 1}))]) as (monitor, _, _page):
        await monitor.press("e", "a", "escape")
        assert isinstance(monitor.app.screen, Write)
        await monitor.press("escape")
        assert not isinstance(monitor.app.screen, Write)
        assert not monitor.daemon.asked_for("edit")


async def test_a_payload_that_json_cannot_say_is_refused(where: Path) -> None:
    async with at_page(where, [task(7, payload=pack({"n": b"\xff"}))]) as (monitor, _, _page):
        await monitor.press("e")
        assert "expected a payload that JSON can say" in await monitor.shows(0.3)


async def test_what_is_copied_is_what_is_shown(where: Path) -> None:
    async with at_page(where, [task(7, "failed")], environ={"TERM": "xterm"}) as (monitor, _, _page):
        assert "Copied by the terminal" in await monitor.press("y")
        await monitor.press("Y", "j", "j", "enter")
        assert "Copied by the terminal" in await monitor.shows(0.3)

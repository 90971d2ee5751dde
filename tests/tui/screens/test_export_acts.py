"""Exporting from a list: what is marked or all that match, whole, told how far, stopped by the same key, replacing nothing unasked."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from tests.tui.jobs import at_tasks, mixed, task
from tui.widgets.confirm import DEAF_S, Confirm
from tui.widgets.form import Form

pytestmark = pytest.mark.asyncio


def ids(path: Path) -> list[int]:
    return [json.loads(line)["id"] for line in path.read_text().splitlines()]


async def test_what_is_marked_or_all_that_match_is_written_and_a_file_is_replaced_only_after_a_yes(
    where: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    async with at_tasks(where, mixed(30), read_only=True) as (monitor, jobs, screen):
        path = tmp_path / "o.jsonl"
        await monitor.press("space", "j", "space")
        text = await monitor.press("x")
        assert isinstance(monitor.app.screen, Form)
        assert "2 tasks" in text
        assert "tasks-20251121-143208.ndjson" in text
        await monitor.press("ctrl+u", *path.name, "enter")
        assert "Exported 2 tasks to" in await monitor.shows()
        assert ids(path) == [30, 28]
        jobs.tasks[20] = {**task(20, "failed", "mail.send"), "payload": None, "error": None, "cut": True}
        whole, get = task(20, "failed", "mail.send"), monitor.daemon.verbs["get"]
        monitor.daemon.verbs["get"] = lambda args: {"tasks": [whole]} if args["ids"] == [20] else get(args)
        await monitor.press("U")
        screen.put_filter("mail")
        await monitor.shows(1)
        monitor.app.action_do("tasks.state", "failed")
        await monitor.shows(1)
        monitor.app.action_do("tasks.export", str(path))
        assert "There is a file of this name" in await monitor.shows()
        assert isinstance(monitor.app.screen, Confirm)
        await monitor.clock.advance(2 * DEAF_S)
        await monitor.press("n")
        assert "the file that is there stays" in await monitor.shows()
        assert ids(path) == [30, 28]
        monitor.app.action_do("tasks.export", str(path))
        await monitor.shows()
        await monitor.clock.advance(2 * DEAF_S)
        await monitor.press("y")
        await monitor.shows()
        wanted = [
            one for one in sorted(jobs.tasks, reverse=True) if jobs.tasks[one]["state"] == "failed" and "mail" in jobs.tasks[one]["type"]
        ]
        assert ids(path) == wanted
        assert 20 in wanted
        cut = next(one for one in map(json.loads, path.read_text().splitlines()) if one["id"] == 20)
        assert cut["error"]["type"] == "TimeoutError"
        assert cut["payload"]["n"] == 2**60
        assert os.listdir(tmp_path) == [path.name]


async def test_many_are_written_in_pages_told_how_far_and_broken_off_without_a_daemon(where: Path, tmp_path: Path) -> None:
    async with at_tasks(where, [task(number) for number in range(1, 1203)]) as (monitor, _, _screen):
        find, asked = monitor.daemon.verbs["find"], list[Any]()
        monitor.daemon.verbs["find"] = lambda args: asked.append(args) or find(args)  # type: ignore[func-returns-value]
        path = tmp_path / "all.csv"
        monitor.app.action_do("tasks.export", str(path))
        await monitor.shows()
        assert "Exported 1,202 tasks" in await monitor.shows()
        assert len(path.read_text().splitlines()) == 1203
        assert len(asked) == 3
        monitor.daemon.silent = True
        monitor.app.action_do("tasks.export", str(tmp_path / "more.csv"))
        assert "export: 0 of 1,202 tasks" in await monitor.shows(1)
        assert (tmp_path / "more.csv").exists()
        await monitor.daemon.stop()
        assert "The export broke off after 0 tasks" in await monitor.shows(1)
        assert not (tmp_path / "more.csv").exists()
        assert monitor.app.exporting is None


async def test_an_export_that_is_stopped_leaves_nothing(where: Path, tmp_path: Path) -> None:
    async with at_tasks(where, [task(number) for number in range(1, 603)]) as (monitor, _, _screen):
        find, stops = monitor.daemon.verbs["find"], ["export.stop", "tasks.export"]

        def answer(args: Any) -> Any:
            monitor.app.call_later(monitor.app.action_do, stops.pop())  # while the page is on its way
            return find(args)

        monitor.daemon.verbs["find"] = answer
        for _ in range(2):
            monitor.app.action_do("tasks.export", str(tmp_path / "all.csv"))
            assert "Stopped after 0 tasks; nothing is left of" in await monitor.shows(1)
            assert os.listdir(tmp_path) == []

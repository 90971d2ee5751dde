"""What a person does to dead letters: counted first, refused where they changed, typed where something is lost."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.tui.fake import Body, Driven, driven
from tests.tui.stock import Stock, groups, stocked
from tq import query
from tui.screens.dead_acts import SPREAD_MOST, STEPS, filter_of
from tui.widgets.confirm import DEAF_S
from tui.widgets.form import Form

A, B = "g0000000a", "g0000000b"


@asynccontextmanager
async def on_dead(where: Path, dead: list[Body] | None = None, **how: Any) -> AsyncIterator[tuple[Driven, Stock]]:
    async with driven(where, stocked(), **how) as monitor:
        stock = Stock(monitor.daemon, dead)
        await monitor.press("6")
        await monitor.shows(1)
        yield monitor, stock


def done(monitor: Driven, verb: str) -> list[Body]:
    """What was asked for, without dry runs."""
    return [args for args in monitor.daemon.asked_for(verb) if not args.get("dry_run")]


@pytest.mark.asyncio
async def test_r_retries_the_group_after_a_count_and_a_y(where: Path) -> None:
    async with on_dead(where) as (monitor, _):
        text = await monitor.press("r")
        for words in ("21 tasks will run again", "ConnectionError", "webhooks", "Retry 21"):
            assert words in text
        assert not done(monitor, "retry")
        await monitor.clock.advance(2 * DEAF_S)
        text = await monitor.press("y")
        assert done(monitor, "retry") == [{"states": ["failed"], "group": A, "expected": 21}]
        assert "Retrying 21 tasks (chore 7)." in text
        assert "no space left" in await monitor.shows(3)
        assert "[Errno #]" not in await monitor.shows()


@pytest.mark.asyncio
async def test_marked_groups_are_retried_together(where: Path) -> None:
    async with on_dead(where) as (monitor, _):
        await monitor.press("space", "space", "r")
        text = await monitor.shows(2 * DEAF_S)
        assert "30 tasks will run again" in text
        assert "and 1 more group" in text
        await monitor.press("y")
        assert [(one["group"], one["expected"]) for one in done(monitor, "retry")] == [(A, 21), (B, 9)]


@pytest.mark.asyncio
async def test_one_task_alone_is_retried_at_once(where: Path) -> None:
    async with on_dead(where, [{**groups()[0], "count": 1}]) as (monitor, _):
        await monitor.press("r")
        assert [one["expected"] for one in done(monitor, "retry")] == [1]


@pytest.mark.parametrize("keys", [["enter"], ["n"], ["escape"]], ids=" ".join)
@pytest.mark.asyncio
async def test_no_has_the_focus(where: Path, keys: list[str]) -> None:
    async with on_dead(where) as (monitor, _):
        await monitor.press("r")
        await monitor.clock.advance(2 * DEAF_S)
        await monitor.press(*keys)
        assert monitor.app.screen is monitor.app.front
        assert not done(monitor, "retry")


@pytest.mark.asyncio
async def test_a_dry_run_tells_what_the_daemon_would_do_now(where: Path) -> None:
    async with on_dead(where) as (monitor, stock):
        await monitor.press("r")
        await monitor.clock.advance(2 * DEAF_S)
        stock.dead[0]["count"] = 23
        assert "the daemon would retry 23 now" in await monitor.press("d")
        assert not done(monitor, "retry")


@pytest.mark.asyncio
async def test_a_retry_is_spread_over_a_time_the_oldest_first(where: Path) -> None:
    async with on_dead(where) as (monitor, stock):
        await monitor.press("colon", *"retry 10m", "enter")
        assert "over 10m" in await monitor.shows(2 * DEAF_S)
        text = await monitor.press("y")
        asked = done(monitor, "retry")
        assert [one["ids"][0] for one in asked] == sorted(task["id"] for task in stock.tasks(A))
        delays = [one["changes"]["delay_ms"] for one in asked]
        assert delays[0] == 0
        assert delays == sorted(delays)
        assert delays[-1] == 600_000 * 20 // 21
        assert "Retried 21 tasks over 10m." in text


@pytest.mark.asyncio
async def test_many_are_spread_in_some_steps_and_too_many_are_refused(where: Path) -> None:
    async with on_dead(where, [{**groups()[0], "count": 1200, "last_id": 90_000}]) as (monitor, stock):
        monitor.app.action_do("dead.retry", "1h")
        await monitor.shows(2 * DEAF_S)
        await monitor.press("y")
        assert len(done(monitor, "retry")) == STEPS
        assert sum(len(one["ids"]) for one in done(monitor, "retry")) == 1200
        stock.dead[0]["count"] = SPREAD_MOST + 1
        monitor.app.action_do("dead.retry", "1h")
        assert "expected at most 10,000 tasks to spread, got 10,001" in await monitor.shows()
        monitor.app.action_do("dead.retry", "soon")
        assert "expected a duration" in await monitor.shows()


@pytest.mark.asyncio
async def test_what_the_daemon_refuses_is_told_with_what_was_done(where: Path) -> None:
    async with on_dead(where) as (monitor, _):
        await monitor.press("A", "r")
        await monitor.clock.advance(2 * DEAF_S)
        monitor.daemon.errors["retry"] = ("refused", "expected 21 tasks, now they are 40.")
        text = await monitor.press("y")
        assert "now they are 40. Nothing was done." in text


@pytest.mark.asyncio
async def test_a_discard_wants_the_number_typed(where: Path) -> None:
    async with on_dead(where) as (monitor, _):
        assert "21 tasks will be deleted for good" in await monitor.press("D")
        await monitor.clock.advance(2 * DEAF_S)
        await monitor.press("2", "enter")
        assert not done(monitor, "remove")
        text = await monitor.press("1", "enter")
        assert done(monitor, "remove") == [{"states": ["failed"], "group": A, "expected": 21}]
        assert "Discarding 21 tasks (chore 7)." in text


@pytest.mark.asyncio
async def test_what_is_gone_by_then_is_asked_for_nothing(where: Path) -> None:
    async with on_dead(where) as (monitor, stock):
        stock.dead = []
        assert "Nothing is left of it to retry." in await monitor.press("r")
        assert "Nothing is left of it to discard." in await monitor.press("D")


@pytest.mark.asyncio
async def test_an_export_asks_for_a_name_and_writes_every_task_of_the_marked_groups(where: Path, tmp_path: Path) -> None:
    async with on_dead(where, read_only=True) as (monitor, _):
        path = tmp_path / "out.ndjson"
        text = await monitor.press("space", "space", "x")
        assert "dead-20251121-143208.ndjson" in text
        assert "30 tasks" in text
        assert isinstance(monitor.app.screen, Form)
        await monitor.press("ctrl+u", *str(path), "enter")
        assert "Exported 30 tasks to" in await monitor.shows()
        tasks = [json.loads(line) for line in path.read_text().splitlines()]
        assert len({task["id"] for task in tasks}) == 30
        assert {task["type"] for task in tasks} == {"hook.push", "thumb.make"}
        assert tasks[0]["payload"] == {"id": 7}


@pytest.mark.asyncio
async def test_an_export_of_many_tasks_is_made_page_by_page(where: Path, tmp_path: Path) -> None:
    async with on_dead(where, [{**groups()[0], "count": 1201, "last_id": 90_000}]) as (monitor, _):
        monitor.daemon.asked.clear()
        monitor.app.action_do("dead.export", f"{tmp_path}/all.csv")
        await monitor.shows()
        assert len((tmp_path / "all.csv").read_text().splitlines()) == 1202
        assert len(monitor.daemon.asked_for("find")) == 3
        monitor.app.action_do("dead.export", f"{tmp_path}/all.csv")
        assert "There is a file of this name" in await monitor.shows()


@pytest.mark.asyncio
async def test_the_error_is_copied(where: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with on_dead(where) as (monitor, _):
        copied: list[str] = []
        monkeypatch.setattr(monitor.app, "copy_to_clipboard", copied.append)
        await monitor.press("y")
        assert copied == ["  /srv/hooks.py:88 in push\n    send(url)\nConnectionError: [Errno 111] refused"]


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({}, 'state:failed type:hook.push error:"ConnectionError: [Errno " error:"] refused"'),
        ({"type": "a b*", "message": 'say "no" #'}, r'state:failed type:"a b*" error:"ConnectionError: say \"no\" "'),
        ({"message": "# # #"}, 'state:failed type:hook.push error:"ConnectionError: "'),
        ({"type": "", "error": "", "message": ""}, 'state:failed error:"Error: "'),
    ],
)
def test_a_group_is_a_filter_of_what_does_not_vary_in_its_message(changes: Body, text: str) -> None:
    found = filter_of({**groups()[0], **changes})
    assert found == text
    assert str(query.parse(found)) == text

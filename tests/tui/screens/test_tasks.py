"""The list of tasks in its states, at both sizes, as kept texts; and what a person does on it."""

from __future__ import annotations

import random
import re
from pathlib import Path

import pytest

from tests.tui.conftest import Same
from tests.tui.fake import Driven, Scenario, busy, driven
from tests.tui.jobs import ERROR, Jobs, at_tasks, mixed, task
from tui.screens.task import TaskPage
from tui.screens.tasks import TasksScreen
from tui.widgets.choosing import Choose, Pick
from tui.widgets.confirm import Confirm
from tui.widgets.filterbar import FilterBar

pytestmark = pytest.mark.asyncio
sizes = pytest.mark.parametrize("size", [(120, 36), (80, 24)], ids=["120", "80"])


async def typed(monitor: Driven, text: str) -> str:
    """What the screen shows after this filter was typed, and the last key was a while ago."""
    await monitor.press("slash", *("space" if one == " " else "colon" if one == ":" else one for one in text))
    return await monitor.shows(0.2)


# the seven states


@sizes
async def test_normal_it_lists_tasks_and_says_what_can_be_done(where: Path, same: Same, size: tuple[int, int]) -> None:
    async with at_tasks(where, size=size) as (monitor, _, screen):
        text = await monitor.shows(0.5)
        assert len(re.findall(r"^(?:  |▸ )\d+ ", text, re.MULTILINE)) >= 15
        assert screen.query_one("#beside").display == (size[0] == 120)
        same(f"tasks-normal-{size[0]}", text)


@sizes
async def test_empty_it_says_how_to_send_the_first(where: Path, same: Same, size: tuple[int, int]) -> None:
    async with at_tasks(where, [], Scenario(), size=size) as (monitor, _, _screen):
        text = await monitor.shows(1)
        assert "There is no task yet." in text
        same(f"tasks-empty-{size[0]}", text)


@sizes
async def test_a_filter_that_finds_nothing_says_what_each_of_its_terms_finds(where: Path, same: Same, size: tuple[int, int]) -> None:
    async with at_tasks(where, size=size) as (monitor, _, _screen):
        await typed(monitor, "queue:mail type:nothing")
        text = await monitor.shows(1)
        assert "queue:mail alone matches 13" in text
        assert "type:nothing alone matches 0" in text
        same(f"tasks-nothing-{size[0]}", text)


@sizes
async def test_loading_it_says_that_it_waits(where: Path, same: Same, size: tuple[int, int]) -> None:
    async with driven(where, busy(), size=size) as monitor:
        Jobs(monitor.daemon, mixed())
        monitor.daemon.silent = True
        await monitor.press("3")
        text = await monitor.shows(0.5)
        assert "Waiting for the daemon's answer." in text
        same(f"tasks-loading-{size[0]}", text)


@sizes
async def test_stale_it_keeps_all_and_tells_its_age(where: Path, same: Same, size: tuple[int, int]) -> None:
    async with at_tasks(where, size=size) as (monitor, _, _screen):
        monitor.daemon.silent = True
        text = await monitor.shows(12)
        assert "stale 12s" in text
        assert "✗ fail    hook.push" in text
        same(f"tasks-stale-{size[0]}", text)


@sizes
async def test_down_it_keeps_all_and_offers_nothing_that_writes(where: Path, same: Same, size: tuple[int, int]) -> None:
    async with at_tasks(where, size=size) as (monitor, _, _screen):
        await monitor.daemon.stop()
        text = await monitor.shows(5)
        assert "down 5.0s" in text
        assert "✗ fail    hook.push" in text
        assert "Retry" not in text
        same(f"tasks-down-{size[0]}", text)


@sizes
async def test_read_only_it_lists_and_offers_nothing_that_writes(where: Path, same: Same, size: tuple[int, int]) -> None:
    async with at_tasks(where, size=size, read_only=True) as (monitor, _, _screen):
        text = await monitor.shows(0.5)
        assert "READ ONLY" in text
        assert "Retry" not in text
        assert "Delete" not in text
        same(f"tasks-read-only-{size[0]}", text)
        await monitor.press("r", "D", "c")
        assert not [verb for verb, _ in monitor.daemon.asked if verb in ("retry", "remove", "cancel")]


@sizes
async def test_error_it_says_what_the_daemon_said(where: Path, same: Same, size: tuple[int, int]) -> None:
    async with driven(where, busy(), size=size) as monitor:
        Jobs(monitor.daemon, mixed())
        monitor.daemon.errors["view"] = ("refused", "view: expected at most 64 of them, they are all taken.")
        await monitor.press("3")
        text = await monitor.shows(1)
        assert "they are all taken" in text
        same(f"tasks-error-{size[0]}", text)


# finding


async def test_a_newcomer_finds_why_one_task_failed_and_retries_it_in_eight_keys(where: Path) -> None:
    """With what stands on the screen alone: the digit, the filter, a part of the name, enter twice, r."""
    async with driven(where, busy()) as monitor:
        jobs = Jobs(monitor.daemon, mixed())
        text = await monitor.shows(1)
        assert "3 Tasks" in text
        text = await monitor.press("3")
        assert "/ Filter" in text
        keys = ["slash", "i", "n", "v", "enter"]
        await monitor.press(*keys)
        text = await monitor.shows(0.2)
        assert "enter Open" in text
        text = await monitor.press("enter")
        assert "TimeoutError: read timed out" in text
        assert "r Retry" in text
        text = await monitor.press("r")
        assert 1 + len(keys) + 2 == 8
        assert monitor.daemon.asked_for("retry") == [{"ids": [23]}]
        assert jobs.tasks[23]["state"] == "pending"
        assert "1 task retried." in text


async def test_a_filter_is_applied_a_moment_after_the_last_key_and_escape_brings_back_the_one_before(where: Path) -> None:
    async with at_tasks(where) as (monitor, _, screen):
        await monitor.press("slash", "m", "a", "i", "l")
        views = len(monitor.daemon.asked_for("view"))
        assert screen.query_one(FilterBar).text == ""
        text = await monitor.shows(0.2)
        assert len(monitor.daemon.asked_for("view")) == views + 1
        assert monitor.daemon.asked_for("view")[-1]["where"] == "mail"
        assert "match of" in text
        await monitor.press("escape")
        await monitor.shows(0.2)
        assert screen.query_one(FilterBar).text == ""
        assert screen.table.has_focus
        assert screen.table.source.total == 40


async def test_what_is_no_filter_changes_nothing_and_a_caret_shows_where(where: Path) -> None:
    async with at_tasks(where) as (monitor, _, screen):
        views = len(monitor.daemon.asked_for("view"))
        text = await typed(monitor, "queue:mail nofield:x")
        lines = text.splitlines()
        caret = next(at for at, line in enumerate(lines) if "^ " in line)
        assert lines[caret].index("^") == lines[caret - 1].index("nofield")
        assert "expected" in lines[caret]
        await monitor.press("enter")
        assert [args for args in monitor.daemon.asked_for("view")[views:] if "nofield" in str(args)] == []
        assert screen.typing


async def test_tab_puts_in_what_the_daemon_offers_and_up_finds_earlier_filters(where: Path) -> None:
    async with at_tasks(where) as (monitor, _, screen):
        text = await typed(monitor, "q")
        assert "queue: the line it waits in" in text
        await monitor.press("tab", "m", "a", "i", "l", "enter")
        await monitor.shows(0.2)
        assert screen.query_one(FilterBar).text == "queue:mail"
        assert {row[3] for place in range(screen.table.source.total) if (row := screen.table.source.entry(place).row)} == {"mail"}  # type: ignore[union-attr]
        await monitor.press("escape")
        await monitor.press("slash", "up", "enter")
        assert screen.query_one(FilterBar).text == "queue:mail"


async def test_states_are_tabs_for_keys_and_mouse_and_keep_the_filter(where: Path) -> None:
    async with at_tasks(where) as (monitor, _, screen):
        await monitor.press("l", "l")
        assert monitor.daemon.asked_for("view")[-1]["states"] == ["running"]
        assert screen.table.source.total == 3
        await monitor.pilot.click("#states", offset=(2, 0))
        await monitor.shows(0.2)
        assert "states" not in monitor.daemon.asked_for("view")[-1]
        await monitor.press("colon", *"state", "space", *"failed", "enter")
        text = await monitor.shows(0.2)
        assert "[✗ 37]" in text
        await monitor.press("escape")
        assert screen.table.source.total == 40


async def test_the_order_is_chosen_moved_and_inverted(where: Path) -> None:
    async with at_tasks(where) as (monitor, _, screen):

        def sort() -> str:
            return str(monitor.daemon.asked_for("view")[-1]["sort"])

        await monitor.press("s")
        assert isinstance(monitor.app.screen, Choose)
        await monitor.press("j", "j", "enter")
        assert sort() == "-type"
        await monitor.press("greater_than_sign")
        assert sort() == "-queue"
        await monitor.press("I")
        assert sort() == "queue"
        await monitor.press("less_than_sign", "less_than_sign", "less_than_sign")
        assert sort() == "id"
        key = screen.table.cursor_key
        await monitor.pilot.click("#list", offset=(13, 0))
        await monitor.shows(0.2)
        assert sort() == "-state"
        assert screen.table.cursor_key == key


async def test_an_order_that_the_daemon_refuses_is_told_and_the_list_stays(where: Path) -> None:
    async with at_tasks(where) as (monitor, jobs, screen):
        monitor.daemon.errors["view"] = ("refused", "sort: expected at most 100,000 tasks to sort, it is more.")
        await monitor.press("I")
        text = await monitor.shows(0.2)
        assert "invoice.pri" in text
        assert screen.table.source.total == 40
        assert jobs.views


async def test_columns_are_chosen(where: Path) -> None:
    async with at_tasks(where) as (monitor, _, screen):
        key = screen.table.cursor_key
        await monitor.press("C")
        assert isinstance(monitor.app.screen, Pick)
        await monitor.press("G", "k", "space", "enter")
        text = await monitor.shows(0.2)
        assert "WORKER" in text
        assert screen.table.cursor_key == key


async def test_one_goes_to_a_row_to_a_share_and_to_both_ends(where: Path) -> None:
    async with at_tasks(where, [task(one) for one in range(1, 2001)]) as (monitor, _, screen):
        for keys, place in ((("colon", *"1500", "enter"), 1499), (("colon", *"50%", "enter"), 1000), (("G",), 1999), (("g",), 0)):
            await monitor.press(*keys)
            await monitor.shows(0.2)
            assert screen.table.cursor_place == place
            assert screen.table.cursor_key == 2000 - place


# what is live


async def test_five_rows_that_change_draw_five_lines(where: Path) -> None:
    async with at_tasks(where, [task(one) for one in range(1, 101)]) as (monitor, jobs, screen):
        await monitor.shows(3)
        table = screen.table
        before = table.lines_rendered
        for key in list(table.visible_keys)[4:9]:
            jobs.tasks[key] |= {"state": "running", "attempt": 1, "started_at": monitor.clock.now_ms()}
        jobs.tell()
        await monitor.shows(0.3)
        assert 0 < table.lines_rendered - before <= 5


async def test_nothing_is_asked_while_nothing_changes_and_at_most_once_a_second_otherwise(where: Path) -> None:
    async with at_tasks(where, [task(one) for one in range(1, 101)]) as (monitor, jobs, _):
        for _ in range(3):
            await monitor.shows(1)
        before = len(monitor.daemon.asked_for("rows")), len(monitor.daemon.asked_for("news"))
        for _ in range(10):
            await monitor.shows(1)
        assert (len(monitor.daemon.asked_for("rows")), len(monitor.daemon.asked_for("news"))) == before
        for _ in range(12):
            jobs.tell()
            await monitor.shows(0.25)
        assert 2 <= len(monitor.daemon.asked_for("rows")) - before[0] <= 4


async def test_the_cursor_stays_on_its_task_through_news_another_order_a_filter_and_a_new_connection(where: Path) -> None:
    async with at_tasks(where, [task(one, "failed") for one in range(1, 101)]) as (monitor, jobs, screen):
        table = screen.table
        await monitor.press(*"jjjjj")
        assert table.cursor_key == 95
        line = (await monitor.shows()).splitlines().index(next(one for one in (await monitor.shows()).splitlines() if one.startswith("▸")))
        jobs.add(*(task(one, "failed") for one in range(101, 601)))
        text = await monitor.shows(2)
        assert table.cursor_key == 95
        assert text.splitlines()[line].startswith("▸ 95")
        assert "500 new" in text
        await monitor.press("full_stop")
        text = await monitor.shows(0.5)
        assert table.cursor_key == 95
        assert table.cursor_place == 505
        assert " new (" not in text
        await monitor.press("I")
        await monitor.shows(0.5)
        assert table.cursor_key == 95
        await typed(monitor, "hook")
        await monitor.press("enter")
        assert table.cursor_key == 95
        await monitor.daemon.stop()
        await monitor.shows(2)
        monitor.daemon.boot = "b2"
        await monitor.daemon.start()
        text = await monitor.shows(4)
        assert "live" in text
        assert table.cursor_key == 95


async def test_what_is_new_waits_behind_its_sign_unless_the_list_follows(where: Path) -> None:
    async with at_tasks(where, [task(one) for one in range(1, 41)]) as (monitor, jobs, screen):
        await monitor.press("j", "j")
        seen = list(screen.table.visible_keys)
        jobs.add(task(41))
        text = await monitor.shows(2)
        assert screen.table.visible_keys == seen
        assert "1 new (. to show)" in text
        text = await monitor.press("F")
        assert "following" in text
        assert screen.table.cursor_key == 41
        jobs.add(task(42))
        await monitor.shows(2)
        assert screen.table.cursor_key == 42
        await monitor.press("Z")
        jobs.add(task(43))
        text = await monitor.shows(3)
        assert "frozen" in text
        assert screen.table.cursor_key == 42
        await monitor.press("Z", "j")
        await monitor.shows(0.5)
        assert "following" not in await monitor.shows()


async def test_a_row_that_no_longer_matches_stays_struck_until_the_list_is_made_anew(where: Path) -> None:
    async with at_tasks(where) as (monitor, jobs, screen):
        await monitor.press("colon", *"state", "space", *"failed", "enter")
        await monitor.press("j")
        key = screen.table.cursor_key
        assert isinstance(key, int)
        jobs.tasks[key] |= {"state": "pending"}
        jobs.tell()
        await monitor.shows(2)
        entry = screen.table.source.entry(screen.table.cursor_place)
        assert entry is not None
        assert entry.struck
        assert entry.row[1] == "pending"
        await monitor.press("full_stop")
        await monitor.shows(0.5)
        assert screen.table.source.find(key) is None


async def test_the_pane_beside_the_list_waits_until_the_cursor_rests(where: Path) -> None:
    async with at_tasks(where) as (monitor, _, _screen):
        await monitor.shows(1)
        before = len(monitor.daemon.asked_for("get"))
        await monitor.press(*"jjjjjjjj")
        assert len(monitor.daemon.asked_for("get")) == before
        text = await monitor.shows(0.1)
        assert monitor.daemon.asked_for("get")[before:] == [{"ids": [32]}]
        assert "✗ TimeoutError: read tim…" in text


# acting


async def test_marks_are_kept_when_the_filter_changes_and_what_fails_stays_marked(where: Path) -> None:
    async with at_tasks(where, [task(one, "failed") for one in range(1, 31)]) as (monitor, jobs, screen):
        await monitor.press("space", "space", "v", "j", "j", "v")
        assert screen.table.marks == {30, 29, 28, 27, 26}
        await typed(monitor, "mail.nothing")
        text = await monitor.press("enter")
        assert "5 marked (5 not in view)" in text
        await monitor.press("slash", "ctrl+u", "enter")
        await monitor.shows(0.5)
        jobs.refused = {28: "running", 26: "taken"}
        await monitor.press("r")
        assert isinstance(monitor.app.screen, Confirm)
        await monitor.clock.advance(0.5)
        await monitor.press("y")
        text = await monitor.shows(0.5)
        assert "3 tasks retried, 2 not: 1 another live task has the unique name, 1 running." in text
        assert screen.table.marks == {28, 26}


async def test_all_that_match_are_one_request_counted_first_and_told_at_the_end(where: Path) -> None:
    tasks = [task(one, "failed") for one in range(1, 301)] + [task(one) for one in range(301, 400)]
    async with at_tasks(where, tasks) as (monitor, jobs, _screen):
        await monitor.press("colon", *"state", "space", *"failed", "enter")
        await monitor.press("A")
        assert "all 300 marked" in await monitor.shows(0.2)
        await monitor.press("r")
        text = await monitor.shows(0.5)
        assert "300 tasks will run again" in text
        assert "state:failed" in text
        await monitor.press("y")
        await monitor.shows(0.2)
        asked = monitor.daemon.asked_for("retry")
        assert asked == [{"states": ["failed"], "dry_run": True}, {"states": ["failed"], "expected": 300}]
        assert "retry: 1 task of 1 seen" in await monitor.shows(1.2)
        jobs.events = [
            {"number": 9, "at": monitor.clock.now_ms(), "who": "tq", "what": "chore_done", "target": "7", "before": None,
             "after": {"verb": "retry", "seen": 300, "changed": 297, "left": {"running": 3}}},
        ]  # fmt: skip
        monitor.daemon.scenario.chores = []
        text = await monitor.shows(2.5)
        assert "297 tasks retried, 3 skipped: 3 running." in text


@pytest.mark.parametrize("marked", ["one", "all"])
async def test_enter_pressed_blindly_fifty_times_deletes_nothing(where: Path, marked: str) -> None:
    async with at_tasks(where) as (monitor, jobs, _):
        if marked == "all":
            await monitor.press("A")
        await monitor.press("D")
        for _ in range(50):
            await monitor.press("enter")
            await monitor.clock.advance(0.1)
        await monitor.shows(1)
        assert len(jobs.tasks) == 40
        assert not [args for args in monitor.daemon.asked_for("remove") if not args.get("dry_run")]


async def test_deleting_wants_the_number_of_one_task_and_the_count_of_many(where: Path) -> None:
    async with at_tasks(where) as (monitor, jobs, _screen):
        await monitor.press("D")
        await monitor.clock.advance(0.5)
        text = await monitor.press("4", "1", "enter")
        assert "type 40 to go on" in text
        await monitor.press("backspace", "0", "enter")
        await monitor.shows(0.5)
        assert 40 not in jobs.tasks
        await monitor.press("A", "D")
        await monitor.clock.advance(0.5)
        await monitor.press("3", "9", "enter")
        await monitor.shows(0.5)
        assert not jobs.tasks


async def test_cancelling_what_runs_asks_once_and_what_waits_not_at_all(where: Path) -> None:
    async with at_tasks(where, [task(1, "running"), task(2)]) as (monitor, jobs, _screen):
        await monitor.press("c")
        await monitor.shows(0.3)
        assert jobs.tasks[2]["state"] == "cancelled"
        await monitor.press("j", "c")
        assert isinstance(monitor.app.screen, Confirm)
        assert jobs.tasks[1]["state"] == "running"
        await monitor.clock.advance(0.5)
        await monitor.press("y")
        await monitor.shows(0.3)
        assert jobs.tasks[1]["state"] == "cancelled"


async def test_a_priority_and_a_queue_are_asked_for_and_of_one_task_taken_back(where: Path) -> None:
    async with at_tasks(where, [task(1)]) as (monitor, jobs, _screen):
        await monitor.press("P", "backspace", "x", "enter")
        assert "expected a priority" in await monitor.shows()
        await monitor.press("backspace", "9", "enter")
        text = await monitor.shows(0.3)
        assert jobs.tasks[1]["priority"] == 9
        assert "u undo" in text
        await monitor.press("u")
        await monitor.shows(0.3)
        assert jobs.tasks[1]["priority"] == 5
        await monitor.press("colon", *"move", "space", *"slow", "enter")
        await monitor.shows(0.3)
        assert jobs.tasks[1]["queue"] == "slow"


async def test_copying_says_by_which_means(where: Path) -> None:
    async with at_tasks(where, environ={"TERM": "xterm"}) as (monitor, _, _screen):
        assert "Copied by the terminal (OSC 52)." in await monitor.press("y")
        await monitor.press("Y", "j", "j", "enter")
        assert "Copied by the terminal (OSC 52)." in await monitor.shows(0.3)


async def test_attention_and_other_screens_lead_here(where: Path) -> None:
    async with at_tasks(where) as (monitor, _, screen):
        await monitor.press("1")
        monitor.app.open_place("type", "invoice.print")
        await monitor.shows(0.5)
        assert monitor.app.front is screen
        assert screen.query_one(FilterBar).text == 'type:"invoice.print"'
        monitor.app.open_place("task", "23")
        await monitor.shows(0.5)
        assert isinstance(monitor.app.front, TaskPage)
        assert monitor.app.front.id_ == 23


# hostile


HOSTILE = "\x1b]0;owned\x07[@click=app.quit]x[/]\u202egnp\u0000\x9b31m"


async def test_what_tasks_say_steers_nothing(where: Path) -> None:
    error = ERROR | {"message": HOSTILE + "\n" + "y" * 1_000_000}
    tasks = [task(1, "failed", HOSTILE, HOSTILE, error=error, label=HOSTILE, worker=HOSTILE, meta={HOSTILE: HOSTILE})]
    async with at_tasks(where, tasks) as (monitor, _, _screen):
        texts = [await monitor.shows(1)]
        texts.append(await monitor.press("enter"))
        texts += [await monitor.press("tab") for _ in range(8)]
        for text in texts:
            assert not re.findall(r"[\x00-\x09\x0b-\x1f\x7f-\x9f\u202e]", text)
        assert any(r"\x1b]0;owned" in text for text in texts)
        assert monitor.app.is_running


async def test_keys_and_sizes_at_random_break_nothing(where: Path) -> None:
    chance = random.Random(7)
    keys = [*"jkgGhlsICvAUFZ.<>ryY", "slash", "enter", "escape", "space", "tab", "pagedown", "a", ":", "question_mark"]
    named = {"<": "less_than_sign", ">": "greater_than_sign", ".": "full_stop", ":": "colon"}
    async with at_tasks(where) as (monitor, _, screen):
        for _ in range(120):
            key = chance.choice(keys)
            await monitor.press(named.get(key, key))
            if chance.random() < 0.2:
                await monitor.pilot.resize_terminal(chance.randint(60, 160), chance.randint(16, 50))
            await monitor.clock.advance(0.4)
        assert monitor.app.is_running
        assert isinstance(screen, TasksScreen)

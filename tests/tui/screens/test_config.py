"""The settings in all their states, and what a person does with them: look, choose, edit, stage, write, take back."""

from __future__ import annotations

from pathlib import Path

import pytest
from textual import events
from textual.widgets import Input

from tests.tui.book import Book, at_settings
from tests.tui.conftest import Same
from tests.tui.fake import Driven, busy, driven
from tui.screens.config import ConfigScreen
from tui.screens.events import EventsScreen
from tui.widgets.confirm import Confirm

pytestmark = pytest.mark.asyncio


def screen_of(monitor: Driven) -> ConfigScreen:
    found = monitor.app.front
    assert isinstance(found, ConfigScreen)
    return found


def line_of(text: str, key: str) -> str:
    return next(line for line in text.splitlines() if line[2:].startswith(key))


async def type_in(monitor: Driven, key: str, text: str) -> str:
    """Edit this setting: put the text in the place of what stands there; the screen once the daemon has checked it."""
    screen_of(monitor).go(key)
    await monitor.press("enter")
    monitor.app.screen.query_one("#config-value", Input).value = text
    return await monitor.shows(0.3)


async def stage(monitor: Driven, key: str, text: str) -> None:
    """Edit this setting, and stage the text."""
    await type_in(monitor, key, text)
    await monitor.press("enter")


# the states


async def test_each_setting_tells_its_value_default_source_and_when_a_change_counts(where: Path, same: Same) -> None:
    async with at_settings(where) as (monitor, _):
        text = await monitor.press("l")
        assert "[Changed 6]" in text
        assert line_of(text, "workers.count").split() == ["workers.count", "6", "4", "file", "at", "once"]
        assert line_of(text, "daemon.grace").split() == ["daemon.grace", "7s", "25s", "environment", "at", "once"]
        assert line_of(text, "retention.finished").split() == ["retention.finished", "7d", "→", "2d", "7d", "default", "▲", "restart"]
        monitor.app.action_do("config.tab", "all")
        await stage(monitor, "workers.slots", "8")
        same("config-normal-120", await monitor.shows())
        await type_in(monitor, "workers.kill_grace", "soon")
        same("config-editing-120", await monitor.shows())
        await monitor.press("escape")
        assert screen_of(monitor).editing  # what was typed is not thrown away by one key
        await monitor.press("escape")
        assert not screen_of(monitor).editing
        assert list(screen_of(monitor).staged) == ["workers.slots"]


async def test_on_a_narrow_terminal_one_pane_stands_over_the_other(where: Path, same: Same) -> None:
    async with at_settings(where, size=(80, 24)) as (monitor, _):
        await stage(monitor, "workers.slots", "8")
        same("config-normal-80", await monitor.shows())


async def test_empty_it_says_that_nothing_differs_or_matches(where: Path, same: Same) -> None:
    book = Book()
    book.empty()
    async with at_settings(where, book) as (monitor, _):
        text = await monitor.press("l")
        assert "Nothing differs from its default." in text
        assert "no settings file yet" in text
        same("config-empty-120", text)
        monitor.app.action_do("config.words", "nowhere")
        assert "No setting matches: nowhere" in await monitor.shows()
        await monitor.press("escape")
        assert line_of(await monitor.press("escape"), "daemon.app")


async def test_loading_stale_and_down_it_says_so_keeps_all_and_offers_nothing_that_writes(where: Path, same: Same) -> None:
    async with driven(where, busy()) as monitor:
        Book().serve(monitor.daemon)
        monitor.daemon.errors["config"] = ("refused", "later")
        text = await monitor.press("8")
        assert "Waiting for the daemon's answer." in text
        same("config-loading-120", text)
        monitor.daemon.errors.clear()
        monitor.app.refresher.again()
        await monitor.shows(1)
        await stage(monitor, "workers.slots", "8")
        monitor.daemon.silent = True
        text = await monitor.shows(12)
        assert "stale 12s" in text
        assert "2 → 8 *" in line_of(text, "workers.slots")
        same("config-stale-120", text)
        await monitor.daemon.stop()
        text = await monitor.shows(5)
        assert "2 → 8 *" in line_of(text, "workers.slots")
        assert not {"Edit", "Write"} & set(text.splitlines()[-1].replace("…", "").split())
        same("config-down-120", text)
        assert "not possible here" in await monitor.press("enter")
        assert not screen_of(monitor).editing


async def test_read_only_it_shows_all_and_edits_nothing(where: Path, same: Same) -> None:
    async with at_settings(where, size=(80, 24), read_only=True) as (monitor, _):
        text = await monitor.shows()
        assert "READ ONLY" in text
        assert not {"Edit", "Write"} & set(text.splitlines()[-1].replace("…", "").split())
        same("config-read-only-80", text)
        await monitor.press("enter", "r")
        assert not screen_of(monitor).editing
        assert not screen_of(monitor).staged


async def test_an_older_daemon_and_a_file_that_cannot_be_used_are_told_of_and_hostile_text_steers_nothing(where: Path, same: Same) -> None:
    book = Book()
    book.file["daemon.app"] = "x\x1b]0;t\x07[@click=app.bell]y"
    book.named.append(("queues.\x1b[2J[b].slots", "\u202e8"))
    book.problem = "/data/tq/tq.toml: expected TOML, got: Expected ']' (at line 3, column 9). Mend that line."
    async with at_settings(where, book) as (monitor, _):
        text = await monitor.shows()
        assert "✗ the settings file cannot be used" in text
        assert "expected TOML" in text
        assert "[@click=app.bell]y" in text
        monitor.app.action_do("config.tab", "other")
        text += await monitor.shows()
        assert "queues.\\x1b[2J[b]" in text
        assert not {"\x1b", "\u202e"} & set(text)
        monitor.daemon.scenario.lacking = ("config",)
        monitor.app.known._bodies.clear()
        monitor.app.refresher.again()
        text = await monitor.shows(1)
        assert "This daemon does not tell it:" in text
        same("config-error-120", text)


async def test_in_ascii_on_a_small_terminal_there_is_room_for_all_that_matters(where: Path) -> None:
    async with at_settings(where, ascii=True, size=(66, 18)) as (monitor, _):
        text = await type_in(monitor, "workers.slots", "8")
        assert "new value  8" in text
        assert "+ valid" in text
        text = await monitor.press("enter")
        assert "2 -> 8 *" in line_of(text, "workers.slots")


# what a person does


async def test_words_and_tables_choose_and_a_name_leads_to_its_setting(where: Path) -> None:
    async with at_settings(where) as (monitor, _):
        text = await monitor.press("slash", "7", "d", "enter")
        assert [line[2:22].strip() for line in text.splitlines()[4:6]] == ["retention.finished", ""]
        screen = screen_of(monitor)
        screen.step_back()
        for _ in range(3):
            screen.step(1)
        text = await monitor.shows()
        assert "[Workers]" in text
        assert "daemon.app" not in text
        monitor.app.action_do("config.tab", "other")
        text = await monitor.shows()
        assert "queues.mail.slots" in text
        assert "alerts.deep.run" in text
        assert "not possible here" in await monitor.press("enter")
        with pytest.raises(ValueError, match="expected one of all, changed, daemon"):
            screen.show_tab("nothing")
        with pytest.raises(ValueError, match=r"expected a setting such as workers\.count, got 'nothing'"):
            screen.go("nothing")
        monitor.app.open_place("store", "")
        await monitor.shows()
        assert screen.table.cursor_key == "daemon.map_size"
        await monitor.press("1")
        monitor.app.open_place("setting", "workers.max")
        await monitor.shows(1)
        assert screen.table.cursor_key == "workers.max"


async def test_what_is_typed_is_checked_by_the_daemon_and_staged_only_if_it_can_be(where: Path) -> None:
    async with at_settings(where) as (monitor, _):
        screen = screen_of(monitor)
        text = await type_in(monitor, "retention.failed", "9x")
        assert "✗ expected a duration such as 90s or 7d" in text
        asked = [one["changes"] for one in monitor.daemon.asked_for("config") if one["ask"] == "validate"]
        assert asked == [{"retention.failed": "9x"}]  # once, for all that was typed
        await monitor.press("enter")
        assert screen.editing
        text = await monitor.press("backspace", "d", "enter")
        assert not screen.editing
        assert '+ retention.failed = "9d"' in text
        assert "1 change staged" in text
        await type_in(monitor, "logging.level", "")
        await monitor.press("tab", "tab", "enter")
        assert screen.staged["logging.level"].text == "info"
        screen.drop()
        assert list(screen.staged) == ["retention.failed"]
        monitor.app.action_do("config.drop_all")
        assert not screen.staged
        await monitor.press("u")
        assert list(screen.staged) == ["retention.failed"]
        await stage(monitor, "retention.failed", "")
        assert not screen.staged  # as the file has it
        screen.go("workers.count")
        for key in ("enter", "3", "2"):  # all at once, as after a moment in which nothing was read
            monitor.app.post_message(events.Key(key, "\r" if key == "enter" else key))
        assert "new value  632" in await monitor.shows(0.3)


async def test_writing_shows_the_difference_asks_can_be_taken_back_and_overwrites_nobody_unseen(where: Path, same: Same) -> None:
    async with at_settings(where) as (monitor, book):
        screen = screen_of(monitor)
        for key, text in (("workers.slots", "8"), ("workers.count", "5"), ("daemon.grace", "9s")):
            await stage(monitor, key, text)
        screen.go("daemon.app")
        await monitor.press("r", "W")
        text = await monitor.shows(1)
        assert isinstance(monitor.app.screen, Confirm)
        same("config-write-120", text)
        before, revision = dict(book.file), book.revision
        book.file["workers.slots"] = "16"  # by somebody else, while the dialog stands
        await monitor.press("y")
        changes = {"workers.slots": "8", "workers.count": "5", "daemon.grace": "9s", "daemon.app": ""}
        assert monitor.daemon.asked_for("configure") == [{"changes": changes, "revision": revision}]
        toast = str(monitor.app.screen.query_one("Toast").render())
        assert toast == "Nothing was written. workers.slots: the file said 2 when you began, says 16 now; you want 8. W asks again."
        text = await monitor.shows(1)
        assert "- workers.slots = 16" in text
        await monitor.press("W")
        assert "says 16 now" in await monitor.shows(1)
        await monitor.press("y")
        text = await monitor.shows(1)
        assert "4 settings written; 2 wait for a restart; TQ_GRACE_S wins over daemon.grace." in text
        assert not screen.staged
        assert "16 → 8" in line_of(text, "workers.slots")
        await monitor.press("u")
        assert book.file == {**before, "workers.slots": "16"}
        assert monitor.daemon.asked_for("configure")[2]["changes"]["daemon.grace"] is None


async def test_an_event_about_settings_leads_to_the_first_that_was_changed() -> None:
    row = {"what": "configured", "target": "settings", "before": {}, "after": {"workers.slots": "8"}}
    assert EventsScreen()._subject(row) == ("setting", "workers.slots")

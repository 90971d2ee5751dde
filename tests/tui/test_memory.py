"""What the monitor remembers: kept for its owner alone, never a reason not to start, and shared by two that run at once."""

from __future__ import annotations

import asyncio
import json
import os
from pathlib import Path

import pytest

from tests.tui.fake import HandClock, driven, settle
from tests.tui.jobs import Jobs, mixed
from tui.app import MonitorApp
from tui.memory import HISTORY_MOST, VERSION, VIEWS_MOST, Memory, View, path_of
from tui.preferences import Preferences
from tui.screens.tasks import TasksScreen

FILE = "tq-monitor/tq-1.json"


def kept(path: Path, **body: object) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"version": VERSION, **body}), "utf-8")
    return path


def test_what_was_changed_is_there_again_for_its_owner_alone(tmp_path: Path) -> None:
    one = Memory(tmp_path / FILE)
    assert (one.problem, one.changed) == ("", False)
    one.screen("dead")
    one.theme("tq-light")
    one.order("queues", "-running")
    one.columns("tasks", ["id", "error"])
    one.filter(r"error~\d")
    one.command("set theme tq-light")
    one.view("slow", View("run>10s", "", "-run"))
    one.view("gone", View("x"))
    one.view("gone", None)
    assert one.changed
    one.save()
    assert not one.changed
    again = Memory(tmp_path / FILE)
    assert again.problem == ""
    assert again.kept == one.kept
    assert (again.kept.filters, again.kept.columns) == ([r"error~\d"], {"tasks": ["id", "error"]})
    assert again.kept.views == {"slow": View("run>10s", "", "-run")}
    assert (tmp_path / FILE).stat().st_mode & 0o777 == 0o600
    assert (tmp_path / FILE).parent.stat().st_mode & 0o777 == 0o700
    assert [one.name for one in (tmp_path / FILE).parent.iterdir()] == ["tq-1.json"]


def test_a_view_has_a_name_that_can_be_typed_and_there_are_not_too_many() -> None:
    one = Memory()
    for name in ("", "x" * 41, "a\nb"):
        with pytest.raises(ValueError, match="expected a name of 1 to 40 characters"):
            one.view(name, View("x"))
    for number in range(VIEWS_MOST):
        one.view(f"v{number}", View("x"))
    assert one.view("v7", View("y")) == View("x")
    with pytest.raises(ValueError, match="expected at most 100 views"):
        one.view("more", View("x"))


def test_two_monitors_that_run_at_once_lose_nothing_of_each_other(tmp_path: Path) -> None:
    one, other = Memory(tmp_path / FILE), Memory(tmp_path / FILE)
    one.order("queues", "name")
    one.filter("state:failed")
    other.order("dead", "type")
    other.filter("queue:mail")
    one.save()
    other.save()
    found = Memory(tmp_path / FILE).kept
    assert (found.orders, found.filters) == ({"queues": "name", "dead": "type"}, ["state:failed", "queue:mail"])


def test_a_history_is_bounded_and_has_each_line_once(tmp_path: Path) -> None:
    one = Memory(tmp_path / FILE)
    for number in range(HISTORY_MOST + 20):
        one.command(f"row {number}")
    one.command("row 50")
    one.command("x" * 3000)
    one.command("")
    assert len(one.kept.commands) == HISTORY_MOST
    assert one.kept.commands[-2:] == [f"row {HISTORY_MOST + 19}", "row 50"]
    assert one.kept.commands.count("row 50") == 1


@pytest.mark.parametrize("data", [b"", b"{", b"[1]", b"\xff\xfe", b"[" * 100_000, b'"' + b"x" * (2 << 20) + b'"'], ids=range(6))
def test_a_damaged_file_is_said_and_made_anew(tmp_path: Path, data: bytes) -> None:
    path = kept(tmp_path / FILE)
    path.write_bytes(data)
    one = Memory(path)
    assert "is damaged" in one.problem
    one.screen("dead")
    one.save()
    assert Memory(path).kept.screen == "dead"


def test_what_is_wrong_in_a_file_is_left_out_and_the_rest_is_taken_and_cleaned(tmp_path: Path) -> None:
    path = kept(
        tmp_path / FILE, screen=7, theme="tq-mono", orders=["id"], columns={"tasks": "id"}, filters=["a\x1b]0;x\x07b"],
        commands=["x" * 3000], more={"a": 1}, views={"a": {"colour": "red"}},
    )  # fmt: skip
    one = Memory(path)
    assert one.problem == f"Left out of what was remembered: screen, commands, orders, columns, views in {path}"
    assert (one.kept.theme, one.kept.filters, one.kept.orders) == ("tq-mono", ["a\\x1b]0;x\\x07b"], {})


def test_a_file_of_a_later_version_or_of_no_file_is_left_alone(tmp_path: Path) -> None:
    path = kept(tmp_path / FILE)
    path.write_text('{"version": 2, "screen": "dead"}')
    (tmp_path / "link.json").symlink_to(path)
    os.mkfifo(tmp_path / "pipe.json")
    for name, why in ((FILE, "expected version 1, got 2"), ("link.json", "symbolic"), ("pipe.json", "one's own")):
        one = Memory(tmp_path / name)
        assert why in one.problem
        assert one.kept.screen == ""
        one.screen("tasks")
        one.save()
    assert path.read_text() == '{"version": 2, "screen": "dead"}'


def test_what_cannot_be_written_is_said_once_and_ends_nothing(tmp_path: Path) -> None:
    (tmp_path / "tq-monitor").write_text("")
    one = Memory(tmp_path / FILE)
    one.screen("dead")
    one.save()
    assert "Nothing" in one.problem
    one.screen("tasks")
    assert not one.changed
    one.save()
    assert one.kept.screen == "tasks"


def test_each_instance_has_a_file_of_its_own_and_no_place_is_none(tmp_path: Path) -> None:
    environ = {"XDG_STATE_HOME": str(tmp_path)}
    one, other = path_of("/srv/a/tq", environ), path_of("/srv/b/tq", environ)
    assert one is not None
    assert one != other
    assert one == path_of("/srv/a/tq/", environ)
    assert one.parent == tmp_path / "tq-monitor"
    assert one.name.startswith("tq-")
    weird = path_of("/srv/\x1b é/..x", environ)
    assert weird is not None
    assert weird.name.isascii()
    assert weird.parent == tmp_path / "tq-monitor"
    assert path_of("/srv/a", {"XDG_STATE_HOME": "relative"}) is None


@pytest.mark.asyncio
async def test_the_next_run_begins_where_the_last_one_was_left(where: Path, tmp_path: Path) -> None:
    path = tmp_path / FILE
    async with driven(where, memory=Memory(path)) as monitor:
        Jobs(monitor.daemon, mixed())
        await monitor.press("2", "s")
        await monitor.press("3", "I", "slash", *"mail", "enter")
        await monitor.press("colon", *"set", "space", *"theme", "space", *"tq-mono", "enter")
        assert not path.exists()
        await monitor.shows(6)
        assert path.exists()
    async with driven(where, memory=Memory(path)) as monitor:
        Jobs(monitor.daemon, mixed())
        await monitor.shows(1)
        front = monitor.app.front
        assert isinstance(front, TasksScreen)
        assert monitor.app.theme == "tq-mono"
        assert "sort id ▲" in await monitor.shows(1)
        assert "/ mail" in await monitor.press("slash", "up")
        assert ":set theme tq-mono" in await monitor.press("escape", "colon", "up")
        assert "sort running ▼" in await monitor.press("escape", "2")
    path.write_text("{")
    async with driven(where, memory=Memory(path)) as monitor:
        assert "What was remembered is lost" in await monitor.shows()
        assert "3 Tasks" in await monitor.shows()


@pytest.mark.asyncio
async def test_a_wish_wins_over_what_is_remembered_and_what_is_there_no_more_counts_for_nothing(where: Path, tmp_path: Path) -> None:
    path = kept(tmp_path / FILE, theme="tq-light", screen="gone", orders={"tasks": "colour"}, columns={"tasks": ["id", "gone"]})
    app = MonitorApp(str(where), Preferences(theme="tq-mono"), memory=Memory(path), clock=HandClock(), live=False, environ={})
    assert app.theme == "tq-mono"
    assert app.current_mode == "overview"
    kept(path, theme="gone")
    assert MonitorApp(str(where), memory=Memory(path), clock=HandClock(), live=False, environ={}).theme == "tq-dark"
    await settle()


@pytest.mark.asyncio
async def test_a_view_is_saved_opened_by_word_or_palette_from_any_screen_and_forgotten(where: Path, tmp_path: Path) -> None:
    memory = Memory(tmp_path / FILE)
    async with driven(where, memory=memory) as monitor:
        Jobs(monitor.daemon, mixed())
        app = monitor.app
        await monitor.press("3", "slash", *"mail", "enter")
        app.action_do("tasks.state", "failed")
        app.action_do("tasks.sort", "type")
        app.action_do("tasks.save", "broken mail")
        assert "View broken mail saved" in await monitor.shows()
        assert memory.kept.views == {"broken mail": View("mail", "failed", "type")}
        await monitor.press("escape", "escape", "ctrl+s", *"all")
        assert "Save this view as" in await monitor.shows()
        await monitor.press("enter")
        assert memory.kept.views["all"] == View("", "", "type")
        assert "View all forgotten." in await monitor.press("colon", *"unsave", "space", *"all", "enter")
        assert "all" not in memory.kept.views
        await monitor.press("u")
        assert "all" in memory.kept.views
        await monitor.press("2", "colon", *"view", "space", "b", "tab", "enter")
        screen = app.front
        assert isinstance(screen, TasksScreen)
        assert screen.view == View("mail", "failed", "type")
        assert "type ▲" in await monitor.shows(1)
        assert monitor.daemon.asked_for("view")[-1] == {"states": ["failed"], "where": "mail", "sort": "type"}
        app.action_do("view", "none such")
        assert "view: expected all, broken mail, got 'none such'" in await monitor.shows()
        memory.view("odd", View("colour:(", "blue", "colour"))
        app.action_do("view", "odd")
        assert "view odd: " in await monitor.shows(1)
        assert screen.view == View("mail", "failed", "type")
        memory.view("odd", View("", "blue", "colour"))
        app.action_do("view", "odd")
        await monitor.shows(1)
        assert screen.view == View("", "", "-id")
        await monitor.press("ctrl+p", *"view: bro")
        for _ in range(40):
            await asyncio.sleep(0)
            if "broken" in await monitor.shows(0.3):
                break
        await monitor.press("enter", "enter")
        await monitor.shows(1)
        assert screen.view.filter == "mail"

"""The application: it outlives the daemon, freezes, undoes, asks, and lets nobody fall into a trap."""

from __future__ import annotations

import asyncio
import random
from pathlib import Path

import pytest
from textual import events
from textual.widgets import Input

from tests.tui.conftest import Same
from tests.tui.fake import Driven, FakeDaemon, HandClock, Scenario, busy, driven, totals
from tq.errors import Refused
from tui.actions import Action, Context
from tui.app import MonitorApp
from tui.feed import Phase
from tui.screens.help import HelpScreen
from tui.widgets.confirm import Confirm, Question
from tui.widgets.table import PagedTable

pytestmark = pytest.mark.asyncio


def told(monitor: Driven) -> str:
    """The toast."""
    return str(monitor.app.screen.query_one("Toast").render())


async def test_a_daemon_that_dies_and_comes_back_ends_and_blanks_nothing(where: Path) -> None:
    async with driven(where, busy()) as monitor:
        await monitor.shows(1)
        await monitor.daemon.stop()
        for seconds in (0.5, 3, 60, 600):
            text = await monitor.shows(seconds)
            assert "✗ down" in text
            assert "12,038" in text
        monitor.daemon.boot = "b2"
        monitor.daemon.scenario.totals = totals(pending=5)
        await monitor.daemon.start()
        text = await monitor.shows(8.5)
        assert "● live" in text
        assert "▌5 " in text
        assert "The daemon was restarted" in text


async def test_at_rest_it_looks_once_a_second_and_what_comes_is_shown_at_once(where: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = HandClock()
    daemon = FakeDaemon(where, clock, Scenario())
    await daemon.start()
    app = MonitorApp(str(where), clock=clock, environ={})
    looked: list[float] = []
    flush = app.flush_now
    monkeypatch.setattr(app, "flush_now", lambda: (looked.append(clock.ticks()), flush()))
    try:
        async with app.run_test(size=(120, 36)):
            await clock.advance(30)  # until nothing is new any more
            looked.clear()
            await clock.advance(10)
            assert len(looked) == 10
            await clock.advance(0.5)
            looked.clear()
            app.known.touch("totals")
            await clock.advance(0)
            app.known.touch("totals")
            await clock.advance(0.2)
            assert len(looked) == 1
            await clock.advance(0.1)
            assert len(looked) == 2
    finally:
        await daemon.stop()


async def test_keys_that_come_in_one_burst_act_in_their_order(where: Path) -> None:
    async with driven(where, busy()) as monitor:
        await monitor.press(":")
        for key in (*"mab", "backspace", "c", "left", "left", "delete", "home", "x"):
            monitor.app.post_message(events.Key(key, key if len(key) == 1 else None))
        await monitor.shows()
        assert monitor.app.screen.query_one("#command", Input).value == "xmc"


async def test_a_key_tries_the_connection_at_once(where: Path) -> None:
    async with driven(where, busy()) as monitor:
        await monitor.daemon.stop()
        await monitor.shows(20)
        await monitor.daemon.start()
        assert "● live" in await monitor.press("j")


async def test_frozen_nothing_moves_and_the_line_says_so(where: Path) -> None:
    async with driven(where, busy()) as monitor:
        await monitor.shows(1)
        assert "‖ frozen 00:00" in await monitor.press("Z")
        asked = len(monitor.daemon.asked_for("queues"))
        monitor.daemon.scenario.totals = totals(pending=5)
        monitor.daemon.tell_totals()
        text = await monitor.shows(75)
        assert "‖ frozen 01:15" in text
        assert "12,481" in text
        assert len(monitor.daemon.asked_for("queues")) == asked
        text = await monitor.press("Z")
        assert "● live" in text
        assert "▌5 " in text


async def test_without_the_focus_of_the_terminal_it_asks_less(where: Path) -> None:
    async with driven(where, busy()) as monitor:
        await monitor.shows(1)
        monitor.app.on_app_blur()
        before = len(monitor.daemon.asked_for("queues"))
        assert "○ idle" in await monitor.shows(8)
        assert len(monitor.daemon.asked_for("queues")) - before <= 3
        monitor.app.on_app_focus()
        assert "● live" in await monitor.shows(1)


async def test_what_was_done_is_taken_back_while_the_toast_stands(where: Path) -> None:
    async with driven(where, busy()) as monitor:
        done: list[str] = []

        async def back() -> None:
            done.append("back")

        monitor.app.say("Paused mail.", undo=back)
        assert "Paused mail.   u undo" in await monitor.shows()
        assert "u Undo" in await monitor.shows()
        assert "Taken back." in await monitor.press("u")
        assert done == ["back"]
        monitor.app.say("Paused mail.", undo=back)
        assert "u Undo" not in await monitor.shows(10.5)
        await monitor.press("u")
        assert done == ["back"]


async def test_a_failed_action_is_a_toast_and_ends_nothing(where: Path) -> None:
    async with driven(where, busy()) as monitor:

        async def fail(_: Context) -> None:
            raise Refused("the queue is full\x1b[2J")

        monitor.app.carry_out(Action(id="x", title="X", help="Fails.", run=fail))
        assert "the queue is full\\x1b[2J" in await monitor.shows()
        monitor.app.carry_out(Action(id="x", title="Do it…", help="Not here.", run=fail, applies=lambda _: False))
        assert "Do it is not possible here and now." in await monitor.shows()


async def test_the_help_lists_every_action_of_the_screen(where: Path, same: Same) -> None:
    async with driven(where, busy(), keys={"freeze": "f9"}) as monitor:
        await monitor.shows(1)
        await monitor.press("?")
        assert isinstance(monitor.app.screen, HelpScreen)
        text = " ".join(str(monitor.app.screen.text()).split())
        for action in monitor.app.registry.on("overview"):
            assert action.help in text, action.id
        assert "f9" in text
        same("help-overview-120", await monitor.shows())
        await monitor.press("escape")
        assert not isinstance(monitor.app.screen, HelpScreen)


async def test_a_key_map_changes_keys_line_and_binding(where: Path) -> None:
    async with driven(where, busy(), keys={"freeze": "f9"}) as monitor:
        assert "f9 Freeze" in await monitor.shows(1)
        await monitor.press("Z")
        assert not monitor.app.frozen
        await monitor.press("f9")
        assert monitor.app.frozen


async def test_the_command_line_completes_remembers_and_says_what_it_wants(where: Path, same: Same) -> None:
    async with driven(where, busy()) as monitor:
        await monitor.shows(1)
        await monitor.press(":")
        same("prompt-overview-120", await monitor.shows())
        await monitor.press(*"frieze", "enter")
        assert "expected a command, got 'frieze'. Did you mean freeze?" in await monitor.shows()
        await monitor.press(*["backspace"] * 4, "tab", "enter")
        await monitor.shows()
        assert monitor.app.frozen
        await monitor.press(":", "up", "enter")
        await monitor.shows()
        assert not monitor.app.frozen
        await monitor.press(":", *"set theme tq-light", "enter")
        await monitor.shows()
        assert monitor.app.theme == "tq-light"
        await monitor.press(":", *"set theme no-such", "enter")
        assert "theme: expected one of" in await monitor.shows()
        await monitor.press(":", "escape")
        assert monitor.app.theme == "tq-light"


async def test_the_palette_offers_what_can_be_done_here_and_does_it(where: Path) -> None:
    async with driven(where, busy(), read_only=True) as monitor:
        await monitor.shows(1)
        await monitor.press("ctrl+p")
        for _ in range(20):
            text = await monitor.shows()
            if "Freeze" in text:
                break
        assert "Freeze" in text
        assert "Mute" not in text
        await monitor.press(*"freez")
        for _ in range(40):
            await asyncio.sleep(0)
            await monitor.shows(0.3)
        await monitor.press("enter")
        await monitor.press("enter")
        await monitor.shows()
        assert monitor.app.frozen


@pytest.mark.parametrize("still", [True, False])
async def test_with_reduced_motion_nothing_flashes_on_any_screen_and_no_cursor_ever_blinks(where: Path, still: bool) -> None:
    async with driven(where, busy(), reduce_motion=still) as monitor:
        flashing = set()
        for key in "123567":
            await monitor.press(key)
            assert monitor.app.front is not None
            flashing |= {table.id for table in monitor.app.front.query(PagedTable) if table.flashes}
        assert flashing == (set() if still else {"queues", "queue-list", "list", "schedule-list", "dead-list"})
        await monitor.press("ctrl+p")
        assert [field.cursor_blink for field in monitor.app.screen.query(Input)] == [False]


async def test_ctrl_c_ends_only_the_second_time_within_two_seconds(where: Path) -> None:
    async with driven(where, busy()) as monitor:
        assert "ctrl+c once more" in await monitor.press("ctrl+c")
        await monitor.shows(3)
        await monitor.press("ctrl+c")
        assert monitor.app.return_code is None
        await monitor.press("ctrl+c")
        assert monitor.app.return_code == 0


async def test_q_leaves_at_the_top(where: Path) -> None:
    async with driven(where, busy()) as monitor:
        await monitor.pilot.press("q")
        await monitor.pilot.pause()
        assert monitor.app.return_code == 0


async def test_a_daemon_is_started_by_a_word(where: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with driven(where, busy(), start=False) as monitor:
        started: list[str] = []
        monkeypatch.setattr("tui.shell.start_if_needed", lambda data_dir: started.append(data_dir) or 4242)
        await monitor.shows(1)
        await monitor.press(":", *"start", "enter")
        for _ in range(50):
            await asyncio.sleep(0.01)
            if started:
                break
        assert started == [str(where)]
    async with driven(where, busy(), start=False, read_only=True) as monitor:
        await monitor.press(":", *"start", "enter")
        assert "expected a command" not in await monitor.shows()
        assert "not possible here" in await monitor.shows()


async def test_a_demo_says_so_and_its_tasks_are_never_given_to_another_daemon(where: Path) -> None:
    async with driven(where, busy(), start=False) as monitor:
        assert ":start starts it" in await monitor.shows(2)
        monitor.app.demo = True
        text = await monitor.shows(1)
        assert "tq monitor   DEMO " in text.splitlines()[0]
        assert ":start starts it" not in text
        await monitor.press(":", *"start", "enter")
        assert "not possible here" in await monitor.shows()


async def ask(monitor: Driven, question: Question) -> list[bool]:
    """Open the dialog; its answer will be in the list."""
    found: list[bool] = []

    async def run(_: Context) -> None:
        found.append(await monitor.app.confirm(question))

    monitor.app.carry_out(Action(id="ask", title="Ask", help="Asks.", run=run))
    await monitor.shows()
    assert isinstance(monitor.app.screen, Confirm)
    return found


HEAVY = Question(
    "Delete tasks", "213 tasks will be deleted for good.", "Delete 213", 3, (("where", "state:failed type:hook.push"), ("oldest", "2d04h")),
    "12 have others that wait for them.", typed="213",
)  # fmt: skip


async def test_keys_within_300_ms_of_a_dialog_count_for_nothing(where: Path) -> None:
    async with driven(where, busy()) as monitor:
        found = await ask(monitor, Question("Retry", "213 tasks run again.", "Retry 213", 2))
        await monitor.press("y", "enter", "escape")
        assert found == []
        await monitor.clock.advance(0.31)
        await monitor.press("y")
        assert found == [True]


@pytest.mark.parametrize("weight", [2, 3, 4])
async def test_enter_pressed_blindly_fifty_times_confirms_nothing(where: Path, weight: int) -> None:
    async with driven(where, busy()) as monitor:
        found = await ask(monitor, Question("Purge", "All goes.", "Purge mail", weight, typed="mail" if weight > 2 else ""))
        for _ in range(50):
            await monitor.pilot.press("enter")
            await monitor.clock.advance(0.05)
        assert found == [False]


async def test_a_heavy_question_wants_the_number_typed(where: Path, same: Same) -> None:
    async with driven(where, busy()) as monitor:
        found = await ask(monitor, HEAVY)
        await monitor.clock.advance(1)
        await monitor.press("2", "1", "4")
        same("confirm-heavy-120", await monitor.shows())
        await monitor.press("enter")
        assert found == []
        await monitor.press("backspace", "3", "enter")
        assert found == [True]


async def test_a_heavy_question_is_taken_back_by_escape(where: Path) -> None:
    async with driven(where, busy()) as monitor:
        found = await ask(monitor, HEAVY)
        await monitor.clock.advance(1)
        await monitor.press("2", "1", "3", "escape")
        assert found == [False]


async def test_the_heaviest_waits_three_seconds_too(where: Path) -> None:
    async with driven(where, busy()) as monitor:
        found = await ask(monitor, Question("Purge", "All goes.", "Purge mail", 4, typed="mail"))
        await monitor.clock.advance(0.5)
        await monitor.press(*"mail", "enter")
        assert found == []
        await monitor.clock.advance(2.6)
        await monitor.press("enter")
        assert found == [True]


async def test_a_dry_run_tells_what_would_happen(where: Path) -> None:
    async def look() -> str:
        return "It would be 209 now."

    async with driven(where, busy()) as monitor:
        question = Question("Delete", "213 tasks.", "Delete 213", 3, typed="213", dry_run=look)
        found = await ask(monitor, question)
        await monitor.clock.advance(1)
        assert "It would be 209 now." in await monitor.press("d")
        assert found == []


async def test_an_hour_without_a_daemon_costs_a_try_every_eight_seconds(where: Path) -> None:
    async with driven(where, busy()) as monitor:
        await monitor.daemon.stop()
        await monitor.clock.advance(3600)
        assert monitor.app.feed.standing.phase is Phase.DOWN
        assert 440 <= monitor.app.feed.standing.tries <= 460


async def test_sixty_sizes_and_no_line_is_too_long(where: Path) -> None:
    async with driven(where, busy()) as monitor:
        await monitor.shows(1)
        rng = random.Random(7)
        for _ in range(60):
            width, height = rng.randint(20, 200), rng.randint(5, 60)
            await monitor.pilot.resize_terminal(width, height)
            lines = (await monitor.shows()).splitlines()
            assert len(lines) == height
            assert all(len(line) <= width for line in lines)


async def test_a_random_walk_over_all_keys_breaks_nothing(where: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(where)  # what is exported on the way
    keys = [*"123456789jkhlgGvAUuszZF.wTC+-nNyxXrcdDepPtiaWE<>?:/[]", "enter", "escape", "tab", "space", "up", "down", "left", "right"]
    keys += ["pageup", "pagedown", "home", "end", "ctrl+d", "ctrl+u", "ctrl+r", "ctrl+l", "ctrl+p", "f1", "backspace"]
    async with driven(where, busy()) as monitor:
        rng = random.Random(11)
        for step in range(150):
            await monitor.pilot.press(rng.choice(keys))
            if step % 25 == 24:
                await monitor.shows(0.5)
        for _ in range(4):
            await monitor.press("escape")
        assert monitor.app.return_code is None
        assert "tq monitor" in await monitor.shows(1)


async def test_no_word_of_a_task_steers_the_terminal_or_becomes_a_link(where: Path) -> None:
    evil = "\x1b]52;c;eA==\x07[@click=app.quit]x[/]\x1b[2J\u202e\x9b31m"
    scenario = busy()
    scenario.queues[0]["name"] = evil
    scenario.attention[0] |= {"what": evil, "about": ["queue", evil]}
    scenario.chores = [{"id": 1, "verb": evil, "where": evil, "seen": 5, "changed": 1}]
    async with driven(where, scenario) as monitor:
        text = await monitor.shows(1)
        monitor.app.say(evil)
        text += await monitor.shows()
        monitor.app.screen.query_one("#attention", PagedTable).focus()
        text += await monitor.press("m") + await monitor.press("enter")
        assert "\\x1b]52" in text
        assert not [one for one in text if one != "\n" and not one.isprintable()]
        styles = [
            segment.style
            for strip in monitor.app.screen._compositor.render_strips(monitor.app.screen.size)
            for segment in strip
            if segment.style is not None
        ]
        assert not [style for style in styles if style.link or "@click" in style.meta]


async def test_keys_typed_at_once_reach_what_the_first_of_them_opens(where: Path) -> None:
    async with driven(where, busy()) as monitor:
        await monitor.shows(1)
        for key in (*":hel", "enter"):
            monitor.app.post_message(events.Key("colon" if key == ":" else key, key if len(key) == 1 else "\r"))
        for _ in range(5):
            await monitor.pilot.pause()
            await monitor.shows()
        assert isinstance(monitor.app.screen, HelpScreen)

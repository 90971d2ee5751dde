"""Making, editing and skipping schedules: in a form that stays where the daemon refuses, and taken back by one key."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.tui.crew import at
from tests.tui.fake import START_MS
from tq.model import pack
from tui.screens.schedules import SchedulesScreen
from tui.widgets.form import Form

pytestmark = pytest.mark.asyncio


async def test_one_is_made_edited_skipped_and_each_is_taken_back(where: Path) -> None:
    async with at(where, "5") as (monitor, crew):
        daemon, screen = monitor.daemon, monitor.app.front
        assert isinstance(screen, SchedulesScreen)
        # a new one
        text = await monitor.press("plus")
        assert isinstance(monitor.app.screen, Form)
        assert "what the schedule is called" in text
        await monitor.press(*"tidy", "enter")
        assert "rule: expected such as 0 2 * * *" in await monitor.shows()
        daemon.errors["set_schedule"] = ("conflict", "expected a new name, got that of a schedule")
        await monitor.press("tab", *"@daily", "tab", "tab", "tab", "tab", *"true", "ctrl+s")
        assert "expected a new name" in await monitor.shows()
        del daemon.errors["set_schedule"]
        await monitor.press("ctrl+s")
        text = await monitor.shows(1)
        assert "Made schedule tidy." in text
        assert daemon.asked_for("set_schedule")[-1] == {
            "name": "tidy", "new": True, "cron": "@daily", "tz": "UTC", "misfire": "coalesce", "overlap": "allow",
            "task": ["shell", pack({"argv": ["true"]}), None],
        }  # fmt: skip
        assert screen.here is not None
        assert screen.here["name"] == "tidy"
        await monitor.press("u")
        await monitor.shows(1)
        assert "tidy" not in [one["name"] for one in crew.schedules]
        # another rule
        screen.seek("gc")
        await monitor.press("e", "ctrl+u", *"every 10m", "ctrl+s")
        assert "Set 1 setting of gc." in await monitor.shows(1)
        assert daemon.asked_for("set_schedule")[-1] == {"name": "gc", "every_ms": 600_000, "tz": "UTC"}
        assert "every 10m" in await monitor.shows(1)
        await monitor.press("u")
        assert daemon.asked_for("set_schedule")[-1] == {"name": "gc", "every_ms": 300_000, "tz": "UTC"}
        # the next slot
        await monitor.press("i")
        first = START_MS + 173_000
        assert daemon.asked_for("set_schedule")[-1] == {"name": "gc", "next_at": first + 300_000}
        assert "Skipped 21 Nov 14:35 of gc; next 21 Nov 14:40." in await monitor.shows()
        await monitor.press("u")
        assert daemon.asked_for("set_schedule")[-1] == {"name": "gc", "next_at": first}
        monitor.app.action_do("schedules.skip", "launch-mail")
        assert "none comes any more" in await monitor.shows()
        assert daemon.asked_for("set_schedule")[-1] == {"name": "launch-mail", "next_at": 0}
        daemon.verbs["next_slots"] = lambda args: {"slots": [], "paused": False, "tz": "UTC"}
        asked = len(daemon.asked_for("set_schedule"))
        monitor.app.action_do("schedules.skip", "gc")
        assert "gc: there is no slot to skip" in await monitor.shows()
        assert len(daemon.asked_for("set_schedule")) == asked

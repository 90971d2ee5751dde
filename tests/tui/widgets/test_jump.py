"""Jump letters: each pane has one, and no other key does anything but take them away."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.tui.fake import busy, driven
from tui.widgets.jump import Jump, panes_of

pytestmark = pytest.mark.asyncio


async def test_a_letter_on_each_pane_leads_there_and_any_other_key_leads_nowhere(where: Path) -> None:
    async with driven(where, busy()) as monitor:
        screen = monitor.app.front
        assert screen is not None
        first = screen.focused
        text = await monitor.press("ctrl+o")
        letters = re.findall(r" ([asdf]) ", text)
        assert len(letters) == len(panes_of(screen.focus_chain)) > 1
        await monitor.press("2")
        assert monitor.app.screen is screen
        assert screen.focused is first
        await monitor.press("ctrl+o", "s")
        assert screen.focused is panes_of(screen.focus_chain)[1]
        await monitor.press("ctrl+o")
        await monitor.pilot.resize_terminal(90, 30)
        await monitor.shows()
        assert monitor.app.screen is screen
        await monitor.press("2", "ctrl+o")
        assert isinstance(monitor.app.screen, Jump)

"""A few screens as pictures, to the colour: the overview in three themes, and a dialog; and those that the README shows, to the letter."""

from __future__ import annotations

import html
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.tui.fake import FakeDaemon, HandClock, busy, settle
from tests.tui.pictures import SCREENSHOTS, shot
from tui.app import MonitorApp
from tui.preferences import Preferences
from tui.widgets.confirm import Question


@pytest.fixture
def picture(where: Path, snap_compare: Any) -> Callable[..., bool]:
    """Whether the screen is as its kept picture (``--snapshot-update`` makes it anew)."""

    def compare(act: Callable[[MonitorApp], Any] | None = None, **wanted: Any) -> bool:
        clock = HandClock()
        daemon = FakeDaemon(where, clock, busy())
        app = MonitorApp(str(where), Preferences(**wanted), clock=clock, live=False, environ={})

        async def before(pilot: Any) -> None:
            await daemon.start()
            await clock.advance(1.5)
            if act is not None:
                act(app)
            await settle()
            app.flush_now()
            await pilot.pause()
            app.screen.set_focus(None)
            await pilot.pause()
            await daemon.stop()

        return bool(snap_compare(app, terminal_size=(120, 36), run_before=before))

    return compare


@pytest.mark.parametrize("theme", ["tq-dark", "tq-light", "tq-contrast"])
def test_the_overview_looks_as_it_did(picture: Callable[..., bool], theme: str) -> None:
    assert picture(theme=theme)


def test_a_question_that_loses_something_looks_as_it_did(picture: Callable[..., bool]) -> None:
    question = Question("Delete tasks", "213 tasks will be deleted for good.", "Delete 213", 3, (("where", "state:failed"),), typed="213")

    def act(app: MonitorApp) -> None:
        app.run_worker(app.confirm(question), exit_on_error=False)

    assert picture(act)


def text_in(svg: str) -> str:
    """What a picture says, line by line; blanks at the ends are cut."""
    cells: dict[tuple[int, int], str] = {}
    for x, line, text in re.findall(r'<text class="t-r\d+"[^>]* x="([\d.]+)"[^>]* clip-path="url\(#t-line-(\d+)\)">([^<]*)</text>', svg):
        cells |= {(int(line), round(float(x) / 12.2) + at): char for at, char in enumerate(html.unescape(text).replace("\xa0", " "))}
    height, width = (max(cell[side] for cell in cells) + 1 for side in (0, 1))
    return "\n".join("".join(cells.get((y, x), " ") for x in range(width)).rstrip() for y in range(height)) + "\n"


@pytest.mark.asyncio
async def test_the_screenshots_show_what_the_monitor_shows_and_fetch_nothing(where: Path) -> None:
    made = await shot(where)
    assert sorted(path.stem for path in SCREENSHOTS.iterdir()) == sorted(made)
    for name, (svg, text) in made.items():
        kept = (SCREENSHOTS / f"{name}.svg").read_text("utf-8")
        assert text_in(svg) == text.replace("\xa0", " ")
        assert text_in(kept) == text_in(svg), f"{name}.svg shows another monitor. Make it anew: python -m tests.tui.pictures"
        assert not re.search(r"@import|@font-face|href|url\((?!#)", kept)
        assert len(kept.encode()) < 150 << 10

"""A few screens as pictures, to the colour: the overview in three themes, and a dialog."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.tui.fake import FakeDaemon, HandClock, busy, settle
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

"""What the monitor's tests share: a place for the fake daemon, and dumps of screens that are kept as files.

For: fixtures of tests/tui.
Not for: the fake daemon itself (fake).
Runs in: pytest.
Promises: a dump that differs fails its test and shows both; ``UPDATE_DUMPS=1 pytest tests/tui`` writes them anew.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import pytest_textual_snapshot
from textual.cache import LRUCache
from textual.css.stylesheet import Stylesheet

from tests.tui.fake import come_to_rest

_PARSED: dict[Any, LRUCache[Any, Any]] = {}


def _shared(sheet: Stylesheet, variables: dict[str, str]) -> None:
    sheet._parse_cache = _PARSED.setdefault(frozenset(variables.items()), LRUCache(256))


@pytest.fixture(autouse=True, scope="session")
def _rules_are_parsed_once() -> Iterator[None]:
    """The rules of one theme are parsed once for all applications of a test run, which is a third of what a small test costs."""
    whole = pytest.MonkeyPatch()
    made, told = Stylesheet.__init__, Stylesheet.set_variables

    def make(self: Stylesheet, *, variables: dict[str, str] | None = None) -> None:
        made(self, variables=variables)
        _shared(self, variables or {})

    def tell(self: Stylesheet, variables: dict[str, str]) -> None:
        self._parse_cache = LRUCache(1)  # the one that would be emptied
        told(self, variables)
        _shared(self, variables)

    whole.setattr(Stylesheet, "__init__", make)
    whole.setattr(Stylesheet, "set_variables", tell)
    whole.setattr("textual.pilot.wait_for_idle", come_to_rest)
    whole.setattr("textual.app.wait_for_idle", come_to_rest)
    yield
    whole.undo()


pytest_textual_snapshot.SVGImageExtension.file_extension = "svg"  # which it calls otherwise with the newest syrupy

DUMPS = Path(__file__).with_name("dumps")
Same = Callable[[str, str], None]


@pytest.fixture
def where(data_dir: Path) -> Path:
    """The data directory, always called the same, since the monitor shows its name."""
    place = data_dir / "tq"
    place.mkdir()
    return place


@pytest.fixture
def same(where: Path) -> Same:
    """``same("overview-normal-120", text)``: the screen is as the kept dump has it."""

    def check(name: str, text: str) -> None:
        text = text.replace(str(where), "/data/tq")
        path = DUMPS / f"{name}.txt"
        if os.environ.get("UPDATE_DUMPS"):
            path.parent.mkdir(exist_ok=True)
            path.write_text(text, "utf-8")
        assert path.exists(), f"no dump {name}: make it with UPDATE_DUMPS=1"
        assert text == path.read_text("utf-8")

    return check


@pytest.fixture
def shown_tasks(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str]]:
    """What a list of tasks is asked to show: a stand-in for its screen, for those that lead there."""
    from tui.app import MonitorApp
    from tui.screens.screen import MonitorScreen

    shown: list[tuple[str, str]] = []

    class Tasks(MonitorScreen):
        title_id = "stand-in"

        def show_item(self, kind: str, name: str) -> bool:
            shown.append((kind, name))
            return True

    monkeypatch.setitem(MonitorApp.MODES, "tasks", Tasks)
    return shown

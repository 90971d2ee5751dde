"""The registry: every action is whole, reachable by key, palette and word, and none is in another's way."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from textual.binding import Binding
from textual.keys import _character_to_key

from tui.actions import Action, Context, Registry, shown_key, shown_keys
from tui.app import MonitorApp
from tui.screens.all import PAGES, SCREENS
from tui.widgets.charts import Chart
from tui.widgets.table import PagedTable

REGISTRY = MonitorApp.registry
CHARTLESS = {"tasks", "config", "queues"}
"""Screens that have no chart, and so need not leave its keys alone."""


def keys_of(bindings: Any) -> dict[str, str]:
    """The keys that a widget binds, and to what."""
    found: dict[str, str] = {}
    for binding in Binding.make_bindings(bindings):
        found[binding.key] = binding.action
    return found


@pytest.mark.parametrize("screen", [screen.title_id for screen in (*SCREENS, *PAGES)])
def test_no_two_active_actions_of_a_screen_share_a_key(screen: str) -> None:
    taken: dict[str, str] = {}
    for action in REGISTRY.on(screen):
        for key in filter(None, (one.strip() for one in action.keys.split(","))):
            assert taken.setdefault(key, action.id) == action.id, key


@pytest.mark.parametrize("screen", [screen.title_id for screen in SCREENS])
def test_no_list_and_no_chart_takes_a_key_of_an_action(screen: str) -> None:
    for widget in (PagedTable,) if screen in CHARTLESS else (PagedTable, Chart):
        inside = keys_of(widget.BINDINGS)
        for action in REGISTRY.on(screen):
            for key in filter(None, (one.strip() for one in action.keys.split(","))):
                name = _character_to_key(key) if len(key) == 1 else key
                assert name not in inside, (widget.__name__, key, action.id)


def test_every_action_has_words_for_the_help_and_a_way_to_it() -> None:
    for action in REGISTRY:
        assert action.title.strip(), action.id
        assert len(action.help) > 15, action.id
        assert action.help.endswith("."), action.id
        assert action.keys or action.words, action.id


@pytest.mark.parametrize("screen", SCREENS, ids=lambda screen: screen.title_id)
def test_what_enter_does_in_a_list_can_be_read_in_the_help_and_said_as_a_command(screen: Any) -> None:
    """``Opened`` comes of the list's own enter, which no action binds."""
    if hasattr(screen, "on_paged_table_opened"):
        told = [action for action in REGISTRY.on(screen.title_id) if action.screen and ("enter" in (action.by, *action.keys.split(",")))]
        told += [action for action in REGISTRY.on(screen.title_id) if action.screen and "enter does the same" in action.help]
        assert [action.id for action in told if action.words]


def test_ctrl_d_is_never_an_action() -> None:
    assert not [action.id for action in REGISTRY if "ctrl+d" in action.keys]


def test_upper_case_keys_alone_lose_something() -> None:
    """A lower-case verb is safe or reversible."""
    for action in REGISTRY:
        if action.weight >= 3:
            assert action.keys.split(",")[0][:1].isupper() or not action.keys, action.id
            assert action.title.endswith("…"), action.id


def nothing(_: Context) -> None:
    """Does nothing."""


def test_an_id_or_a_word_that_is_taken_is_refused() -> None:
    one = Action(id="a", title="A", help="Does a.", run=nothing, words=("go",))
    with pytest.raises(ValueError, match="each id once, got a twice"):
        Registry([one, one])
    with pytest.raises(ValueError, match="b: expected a word of its own, got 'go'"):
        Registry([one, Action(id="b", title="B", help="Does b.", run=nothing, words=("go",), screen="tasks")])


def test_what_loses_something_says_that_it_will_ask() -> None:
    with pytest.raises(ValueError, match="ends in …"):
        Action(id="d", title="Delete", help="Deletes.", run=nothing, weight=3)
    with pytest.raises(ValueError, match="weight from 0 to 4"):
        Action(id="d", title="Delete…", help="Deletes.", run=nothing, weight=5)


def test_what_writes_is_offered_only_where_it_may_be_done() -> None:
    action = Action(id="a", title="A", help="Does a.", run=nothing, writes=True)
    assert action.available(Context(SimpleNamespace(may_write=True), None))
    assert not action.available(Context(SimpleNamespace(may_write=False), None))


def test_a_screens_own_actions_come_first_and_anothers_not_at_all() -> None:
    everywhere = Action(id="e", title="E", help="Everywhere.", run=nothing)
    own = Action(id="o", title="O", help="Own.", run=nothing, screen="tasks")
    other = Action(id="x", title="X", help="Other.", run=nothing, screen="queues")
    assert [one.id for one in Registry([everywhere, own, other]).on("tasks")] == ["o", "e"]


@pytest.mark.parametrize(
    ("key", "shown"),
    [("ctrl+p", "^p"), ("question_mark", "?"), ("escape", "esc"), ("Z", "Z"), ("shift+tab", "shift+tab"), ("f1", "f1"), ("+", "+")],
)  # fmt: skip
def test_keys_are_written_as_people_read_them(key: str, shown: str) -> None:
    assert shown_key(key) == shown


def test_all_keys_of_an_action_are_shown() -> None:
    assert shown_keys("?,f1") == "?/f1"
    assert shown_keys("") == ""

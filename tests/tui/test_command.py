"""The ``:`` line: what is understood, what is completed, and the words for what is not."""

from __future__ import annotations

import re
from types import SimpleNamespace

import pytest

from tui.actions import Action, Context, Registry
from tui.command import complete, read


def nothing(_: Context) -> None:
    """Does nothing."""


def choices(_: Context) -> list[str]:
    return ["mail", "mailing list", "default"]


ACTIONS = Registry(
    [
        Action(id="quit", title="Quit", help="Quits.", run=nothing, words=("quit",)),
        Action(id="queue", title="Queue", help="Queue.", run=nothing, words=("queue", "q"), takes="NAME", choices=choices),
        Action(id="pause", title="Pause", help="Pauses.", run=nothing, words=("pause",), takes="[REASON]", writes=True),
        Action(id="row", title="Row", help="Goes to a row.", run=nothing, words=("row",), takes="NUMBER", screen="tasks"),
    ]
)


def context(screen: str = "tasks", *, may_write: bool = True) -> Context:
    return Context(SimpleNamespace(may_write=may_write), SimpleNamespace(title_id=screen))


@pytest.mark.parametrize(
    ("line", "id_", "words"),
    [
        ("quit", "quit", ""), (":quit", "quit", ""), ("  q mail ", "queue", "mail"), ("pa why not", "pause", "why not"),
        ("pause", "pause", ""),
        ("42000", "row", "42000"), ("50%", "row", "50%"), ("12.5%", "row", "12.5%"),
    ],
)  # fmt: skip
def test_a_line_is_an_action_and_what_stands_behind_its_word(line: str, id_: str, words: str) -> None:
    action, rest = read(line, ACTIONS, context())
    assert (action.id, rest) == (id_, words)


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("", "expected a command"), ("qu", "Did you mean queue, quit"), ("pasue", "Did you mean pause"), ("xyz", "got 'xyz'"),
        ("queue", "expected NAME behind it"), ("٣", "got '٣'"),
    ],
)  # fmt: skip
def test_what_is_not_understood_is_said_with_what_is_near(line: str, says: str) -> None:
    with pytest.raises(ValueError, match=re.escape(says)):
        read(line, ACTIONS, context())


def test_a_place_needs_a_list() -> None:
    with pytest.raises(ValueError, match="no list"):
        read("42", ACTIONS, context("overview"))


def test_what_may_not_be_done_says_why() -> None:
    with pytest.raises(ValueError, match="read-only"):
        read("pause", ACTIONS, context(may_write=False))


def test_words_are_completed_and_then_what_they_take() -> None:
    assert complete("", ACTIONS, context()) == ["pause", "q", "queue", "quit", "row"]
    assert complete("qu", ACTIONS, context()) == ["queue", "quit"]
    assert complete("queue ma", ACTIONS, context()) == ["queue mail", "queue mailing list"]
    assert complete("nothing x", ACTIONS, context()) == []
    assert complete("p", ACTIONS, context(may_write=False)) == []

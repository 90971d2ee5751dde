"""The keys line: what fits of what can be done now, and the help always."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from tui.actions import Action, Context
from tui.widgets.bars import key_pieces


def action(id_: str, footer: int, **more: object) -> Action:
    told = {"title": id_.title(), "help": f"Does {id_}.", "keys": id_[0], "run": lambda _: None, **more}
    return Action(id=id_, footer=footer, **told)  # type: ignore[arg-type]


ACTIONS = [
    action("help", 70, keys="?"),
    action("open", 10, by="enter", keys=""),
    action("retry", 20),
    action("never", 15, applies=lambda _: False),
]


@pytest.mark.parametrize(
    ("width", "shown"),
    [
        (80, " enter Open  r Retry  ? Help  "), (30, " enter Open  r Retry  ? Help  "), (28, " enter Open  r Retry  ? Help  "),
        (27, " enter Open  ? Help  "), (16, " ? Help  "),
    ],
)  # fmt: skip
def test_the_first_that_fit_are_shown_and_the_help_takes_the_place_of_the_last(width: int, shown: str) -> None:
    found = key_pieces(ACTIONS, Context(SimpleNamespace(may_write=True), None), {}, width)
    assert "".join(piece.text for piece in found) == shown

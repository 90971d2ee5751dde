"""The one registry of what a person can do: bindings, the keys line, the palette, the ``:`` line and the help are made from it.

For: ``Action`` and ``Registry``; the shell's actions stand in app, each screen's beside the screen.
Not for: what an action does, widgets, anything of Textual.
Runs in: the monitor.
Promises: an id, and a word of the ``:`` line on one screen, belong to one action; an action that changes something is offered only
where it may be carried out; no key is bound that is not listed here, but for moving about inside a widget.

Weights say what an action may cost, and how it is asked for:

    0   reversible          at once, and ``u`` undoes it for ten seconds
    1   one thing           at once, or one ``y``
    2   many, recoverable   a dialog with their number, the focus on No
    3   something is lost   the dialog, and their number (of one thing its name) is to be typed
    4   much is lost        the name is to be typed, and three seconds pass first
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

Applies = Callable[["Context"], bool]
Run = Callable[["Context"], Awaitable[None] | None]


@dataclass(frozen=True, slots=True)
class Context:
    """What an action is about: the application, the screen in front, and what stood behind its word on the ``:`` line."""

    app: Any
    screen: Any
    words: str = ""


def _always(_: Context) -> bool:
    return True


def _none(_: Context) -> Sequence[str]:
    return ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Action:
    """Something a person can do. ``keys`` as Textual names them, separated by commas; the keys line shows the first."""

    id: str
    title: str
    help: str
    keys: str = ""
    run: Run
    by: str = ""
    """Its key where the list or pane with the focus binds that itself: ``enter``."""
    screen: str = ""
    """The screen that it belongs to; "" is everywhere."""
    weight: int = 0
    writes: bool = False
    """Whether it changes something in the daemon: hidden where that is not allowed."""
    applies: Applies = _always
    says: Callable[[Context], str] | None = None
    """A title that fits what is selected: ``Retry 2 marked tasks``."""
    words: tuple[str, ...] = ()
    """Its words on the ``:`` line; the first is shown."""
    takes: str = ""
    """What stands behind its word: ``NAME``."""
    choices: Callable[[Context], Sequence[str]] = _none
    """What may stand there, for completion."""
    twin: Callable[[Context], str] | None = None
    """The command line that does the same."""
    footer: int = 50
    """Its place on the keys line, the smallest first; 0 is not there."""
    short: str = ""
    """Its name on the keys line, if shorter than the title."""
    group: str = "General"
    priority: bool = False
    """Its keys count also while text is typed."""

    def __post_init__(self) -> None:
        if not 0 <= self.weight <= 4:
            raise ValueError(f"{self.id}: expected a weight from 0 to 4, got {self.weight}")
        if self.weight >= 3 and not self.title.endswith("…"):
            raise ValueError(f"{self.id}: expected a title that ends in … where something may be lost, got {self.title!r}")

    def available(self, context: Context) -> bool:
        """Whether it can be done now, and may be."""
        return (not self.writes or bool(context.app.may_write)) and self.applies(context)

    def title_in(self, context: Context) -> str:
        return self.title if self.says is None else self.says(context)


class Registry:
    """All actions, in the order in which they were given. ValueError for an id or a word that is taken."""

    def __init__(self, actions: Iterable[Action]) -> None:
        self._actions: dict[str, Action] = {}
        self._words: dict[tuple[str, str], Action] = {}
        for action in actions:
            if action.id in self._actions:
                raise ValueError(f"expected each id once, got {action.id} twice")
            self._actions[action.id] = action
            for word in action.words:
                if (action.screen, word) in self._words or ("", word) in self._words:
                    raise ValueError(f"{action.id}: expected a word of its own, got {word!r}")
                self._words[action.screen, word] = action

    def __iter__(self) -> Iterator[Action]:
        return iter(self._actions.values())

    def __getitem__(self, id_: str) -> Action:
        return self._actions[id_]

    def __contains__(self, id_: object) -> bool:
        return id_ in self._actions

    def on(self, screen: str) -> list[Action]:
        """Those of a screen, its own first."""
        return [one for one in self if one.screen == screen != ""] + [one for one in self if one.screen == ""]

    def words(self, screen: str) -> dict[str, Action]:
        """The words of the ``:`` line on a screen."""
        return {word: action for action in self.on(screen) for word in action.words}


# What Textual calls a key, and how it is written on a screen.
_SHOWN = {
    "question_mark": "?", "colon": ":", "slash": "/", "full_stop": ".", "comma": ",", "minus": "-", "plus": "+", "less_than_sign": "<",
    "greater_than_sign": ">", "left_square_bracket": "[", "right_square_bracket": "]", "exclamation_mark": "!", "escape": "esc",
    "pageup": "pgup", "pagedown": "pgdn",
}  # fmt: skip


def shown_key(key: str) -> str:
    """A key as people read it: ``^p`` for ``ctrl+p``."""
    *modifiers, last = key.split("+") if key != "+" else ["+"]
    last = _SHOWN.get(last, last)
    if modifiers == ["ctrl"]:
        return f"^{last}"
    return "+".join([*modifiers, last])


def shown_keys(keys: str) -> str:
    """All keys of an action: ``?/f1``."""
    return "/".join(shown_key(key.strip()) for key in keys.split(",") if key.strip())

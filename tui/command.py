"""The ``:`` line: what a person types there, and what may come next.

For: ``read`` (the action and its words) and ``complete``; the registry says which words there are.
Not for: the line itself (widgets.bars), what actions do.
Runs in: the monitor; pure.
Promises: a word that is the beginning of exactly one is that one; what is not understood is a ValueError with what was expected.

A line is a word and what it takes (``queue mail``, ``set theme tq-light``), or a place in the list in front: ``42000`` or ``50%``.
"""

from __future__ import annotations

import difflib
import re

from tui.actions import Action, Context, Registry

PLACE = re.compile(r"\d{1,12}|\d{1,3}(?:\.\d+)?%", re.ASCII)
GO = "row"
"""The word of the action that goes to a place."""


def read(line: str, registry: Registry, context: Context) -> tuple[Action, str]:
    """The action that ``line`` names, and what stands behind its word. ValueError says what was expected."""
    screen = str(getattr(context.screen, "title_id", ""))
    words = registry.words(screen)
    text = line.strip().removeprefix(":").strip()
    if PLACE.fullmatch(text):
        if GO not in words:
            raise ValueError("there is no list to go to a row of here")
        return words[GO], text
    name, _, rest = text.partition(" ")
    if not name:
        raise ValueError("expected a command: help shows them all")
    found = words.get(name)
    if found is None:
        begin = {action.id: action for word, action in words.items() if word.startswith(name)}
        if len(begin) != 1:
            close = [word for word in words if word.startswith(name)] or difflib.get_close_matches(name, words, 3)
            raise ValueError(f"expected a command, got {name!r}." + (f" Did you mean {', '.join(sorted(close)[:4])}?" if close else ""))
        found = next(iter(begin.values()))
    if not found.available(context):
        reason = "is not possible here" if not found.writes or context.app.may_write else "would change something, and this is read-only"
        raise ValueError(f"{name} {reason}")
    if found.takes and not rest.strip() and not found.takes.startswith("["):
        raise ValueError(f"{name}: expected {found.takes} behind it")
    return found, rest.strip()


def complete(line: str, registry: Registry, context: Context) -> list[str]:
    """Whole lines that begin with what was typed, at most fifty."""
    screen = str(getattr(context.screen, "title_id", ""))
    words = registry.words(screen)
    text = line.lstrip()
    name, space, rest = text.partition(" ")
    if not space:
        return sorted({word for word, action in words.items() if word.startswith(name) and action.available(context)})[:50]
    action = words.get(name)
    if action is None or not action.available(context):
        return []
    return [f"{name} {choice}" for choice in action.choices(context) if choice.startswith(rest.lstrip())][:50]

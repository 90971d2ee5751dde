"""Errors of the daemon in the words of the command line: who typed ``--debounce`` reads of ``--debounce``, not of ``debounce_ms``.

For: ``in_options``, through which every error goes on its way to the terminal.
Not for: errors of options that are refused before anything is sent (options).
Runs in: the ``tq`` command, when something went wrong.
Promises: what stands in quotes is somebody's own and stays; a word that is no option of the command stays, too.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from tq.cli.options import COMMANDS

WORDS: dict[str, tuple[str, ...]] = {
    "retry_for_ms": ("retry_until",), "unique_policy": ("on_conflict",), "due_at": ("at",), "uses": ("use",), "routes": ("route",),
    "for_ms": ("span",), "per_ms": ("rate",), "scope": ("each_of",),
    "batch": ("in_batch",), "order": ("order_key",), "each": ("each_of",), "low": ("running", "rate"), "high": ("running", "rate"),
    "of": ("queue", "type", "tenant"), "delay_ms": ("delay", "in"), "types": ("type",), "start_at": ("start",), "until_at": ("until",),
}  # fmt: skip
"""Words of the wire whose options have other names; all others are the option's own, with ``_ms`` behind it where it is a time."""
SETTINGS = ("daemon start", "daemon restart", "service install", "bench")
"""Their errors are of settings, wherever these stand. And the words of lines of a batch are those of the wire."""
_VERB = re.compile(r"^[a-z]+(?:_[a-z]+)+: ")
_PLACE = re.compile(r"^((?:task \d+ of \d+: )?)([a-z]+)(?=: )")
_WORD = re.compile(r"(?<![-\w'\"`.:/=])[a-z]+(?:_[a-z]+)+(?![-\w'\"`=/])")


def in_options(text: str, name: str, values: Mapping[str, Any]) -> str:
    """The message of an error, for whom gave the command ``name`` these ``values``."""
    if name in SETTINGS or values.get("batch") is not None:
        return text
    flags = {option.key: next(flag for flag in option.flags if flag.startswith("--")) for option in COMMANDS[name].options}

    def flag_of(word: str, *, given: bool = False) -> str | None:
        keys = [key for key in (word, word.removesuffix("_ms"), *WORDS.get(word, ())) if key in flags]
        keys.sort(key=lambda key: not _is_given(values.get(key)))
        return flags[keys[0]] if keys and (not given or _is_given(values.get(keys[0]))) else None

    prefix = _VERB.match(text)
    if prefix and flag_of(prefix[0][:-2]) is None:  # the verb, which nobody has typed
        text = text[prefix.end() :]
    text = _PLACE.sub(lambda found: found[1] + (flag_of(found[2], given=True) or found[2]), text)
    return _WORD.sub(lambda found: flag_of(found[0]) or found[0], text)


def _is_given(value: object) -> bool:
    return value is not None and value is not False and value != []

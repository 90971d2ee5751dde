"""What a person wants of the monitor: the table ``[monitor]`` of the settings file, and the options of ``tq monitor`` before it.

For: ``Preferences`` and reading them.
Not for: the daemon's settings (tq.config), what the monitor remembers by itself (memory).
Runs in: the monitor, once, before the screen is taken.
Promises: what cannot be meant is a ConfigError that names the key, what was expected and what came; never a guess.

    [monitor]
    theme = "tq-light"          # tq-dark tq-light tq-contrast tq-mono tq-ansi, or one of Textual's own
    charts = "block"            # braille, block or ascii
    ascii = false               # nothing but plain characters
    mouse = true
    read_only = false
    reduce_motion = false       # nothing flashes; TEXTUAL_ANIMATIONS=none says so, too
    window = "10m"              # what charts show at first: 10m, 2h, 12h or 5d
    remember = true             # the screen, orders, columns and what was typed, from one run to the next

    [monitor.keys]              # keys by the ids that the help shows
    freeze = "f9"
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, cast

from tq.config import tables
from tq.errors import ConfigError

CHARTS = ("braille", "block", "ascii")
WINDOWS = {"10m": 1, "2h": 10, "12h": 60, "5d": 600}
"""What charts show: the name of a window, and the seconds of a step of its history."""


@dataclass(frozen=True, slots=True)
class Preferences:
    """Checked; ``keys``: keys by ids of actions. ``theme`` "" is the default one."""

    theme: str = ""
    charts: str = "block"
    ascii: bool = False
    mouse: bool = True
    read_only: bool = False
    window: str = "10m"
    remember: bool = True
    reduce_motion: bool = False
    keys: Mapping[str, str] = field(default_factory=dict)

    def given(self, **options: Any) -> Preferences:
        """With these options of the command line; None: not given. ConfigError as for the file."""
        return _checked("the command line", self, {name: value for name, value in options.items() if value is not None})


def preferences_of(data_dir: str, environ: Mapping[str, str]) -> Preferences:
    """What the settings file of the instance says, or the defaults. ConfigError names the file."""
    from pathlib import Path

    path, text = tables.read(Path(data_dir), environ)
    table = text.get(tables.MONITOR, {})
    if not isinstance(table, dict):
        raise ConfigError(f"{path}: expected a table [{tables.MONITOR}], got {table!r}.")
    still = environ.get("TEXTUAL_ANIMATIONS") == "none"
    found = Preferences(charts=_charts_for(environ), ascii=environ.get("TERM") == "dumb", reduce_motion=still)
    return _checked(f"{path}: [{tables.MONITOR}]", found, table)


def _charts_for(environ: Mapping[str, str]) -> str:
    """Blocks, unless the terminal has no more than the letters of its locale."""
    locale = next((value for name in ("LC_ALL", "LC_CTYPE", "LANG") if (value := environ.get(name))), "")
    utf8 = not locale or "utf" in locale.lower()
    return "block" if utf8 and environ.get("TERM") != "dumb" else "ascii"


def _checked(where: str, found: Preferences, values: Mapping[str, Any]) -> Preferences:
    kinds = {
        "theme": str,
        "charts": str,
        "ascii": bool,
        "mouse": bool,
        "read_only": bool,
        "window": str,
        "remember": bool,
        "reduce_motion": bool,
        "keys": dict,
    }
    words = {"charts": CHARTS, "window": tuple(WINDOWS)}
    for name, value in values.items():
        kind = kinds.get(name)
        if kind is None:
            close = difflib.get_close_matches(name, kinds, 1)
            raise ConfigError(
                f"{where}: expected one of {', '.join(kinds)}, got {name!r}." + (f" Did you mean {close[0]!r}?" if close else "")
            )
        if not isinstance(value, kind) or value == "":
            raise ConfigError(f"{where}: {name}: expected {_KINDS[kind]}, got {value!r}.")
        if name in words and value not in words[name]:
            raise ConfigError(f"{where}: {name}: expected {' or '.join(words[name])}, got {value!r}.")
        if name == "keys":
            keys = cast("dict[str, object]", value)
            wrong = {key: one for key, one in keys.items() if not isinstance(one, str) or not one}
            if wrong:
                raise ConfigError(f'{where}: keys: expected keys such as "ctrl+f" by ids of actions, got {wrong!r}.')
    return replace(found, **values)


_KINDS = {str: "a text", bool: "true or false", dict: "a table"}

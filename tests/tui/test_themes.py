"""Colours that can be read, and told apart or told by sign."""

from __future__ import annotations

import pytest
from textual.color import Color
from textual.theme import Theme

from tui.formats import UNICODE, WORDS
from tui.themes import DEFAULTS, NAMES, THEMES, names

SIGNALS = ("good", "warn", "bad", "muted")


def luminance(color: Color) -> float:
    """Relative luminance, as WCAG 2.2 defines it."""
    parts = [value / 255 for value in (color.r, color.g, color.b)]
    low, middle, high = (part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts)
    return 0.2126 * low + 0.7152 * middle + 0.0722 * high


def contrast(one: str, other: str) -> float:
    low, high = sorted((luminance(Color.parse(one)), luminance(Color.parse(other))))
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("theme", [theme for theme in THEMES if not theme.ansi], ids=lambda theme: str(theme.name))
def test_every_state_and_signal_can_be_read_on_every_ground(theme: Theme) -> None:
    grounds = [str(theme.background), str(theme.surface)]
    wanted = {name: theme.variables[name] for name in (*(f"state-{state}" for state in WORDS), *SIGNALS)} | {"text": str(theme.foreground)}
    weak = {(name, ground): round(contrast(color, ground), 2) for name, color in wanted.items() for ground in grounds}
    assert {pair: ratio for pair, ratio in weak.items() if ratio < 4.5} == {}


def test_the_loud_theme_is_black_and_white() -> None:
    loud = next(theme for theme in THEMES if theme.name == "tq-contrast")
    assert contrast(str(loud.foreground), str(loud.background)) >= 15


def test_every_theme_has_all_our_variables_and_so_do_the_defaults() -> None:
    for theme in THEMES:
        assert DEFAULTS.keys() <= theme.variables.keys(), theme.name


def test_no_state_is_told_by_its_colour_alone() -> None:
    assert len({UNICODE.state(state) for state in WORDS}) == len(WORDS)
    assert len(set(WORDS.values())) == len(WORDS)


def test_our_themes_are_named_first() -> None:
    assert names()[: len(NAMES)] == list(NAMES)
    assert "tokyo-night" in names()

"""The monitor's own themes: what each state looks like, dark, light, in high contrast, in grey, and in a terminal's sixteen colours.

For: ``THEMES``, ``DEFAULTS`` (what a theme of Textual's own lacks), and ``StyleSheet``, parsed once for a theme.
Not for: which glyph and word a state has (formats), where colours are used (monitor.tcss and the widgets).
Runs in: the monitor.
Promises: every state and every signal is readable on the ground of its theme, contrast 4.5 to 1 or more; no meaning is told by a
colour alone, so the palette (after Okabe and Ito) may fail whoever looks and nothing is lost.

Variables for styles and the style sheet: ``$state-pending`` and so on for each of the nine states, ``$good $warn $bad`` for
signals, ``$muted`` for what is said in passing, ``$rule`` for lines, ``$cursor`` and ``$marked`` for grounds of rows.
"""

from __future__ import annotations

from textual.css.stylesheet import Stylesheet
from textual.theme import BUILTIN_THEMES, Theme

from tui.formats import WORDS

STATES = tuple(WORDS)


def _states(*, grey: str, pink: str, blue: str, amber: str, green: str, red: str, brown: str) -> dict[str, str]:
    return {
        "state-scheduled": pink, "state-blocked": pink, "state-pending": grey, "state-running": blue, "state-retrying": amber,
        "state-succeeded": green, "state-failed": red, "state-cancelled": grey, "state-expired": brown,
        "good": green, "warn": amber, "bad": red,
    }  # fmt: skip


_DARK = _states(grey="#8A95A1", pink="#CC79A7", blue="#56B4E9", amber="#E69F00", green="#2FBF93", red="#F0743A", brown="#B79B6B")
_LIGHT = _states(grey="#5B6570", pink="#9A4F7C", blue="#0072B2", amber="#8F5F00", green="#007A59", red="#B34700", brown="#6E5A2E")
_LOUD = _states(grey="#C8C8C8", pink="#FFB3DE", blue="#7FD4FF", amber="#FFC247", green="#5CFFC4", red="#FF9A6B", brown="#E6CF9F")
_GREY = _states(grey="#9A9A9A", pink="#B4B4B4", blue="#E0E0E0", amber="#CFCFCF", green="#C0C0C0", red="#FFFFFF", brown="#A8A8A8")
_SIXTEEN = _states(
    grey="ansi_default", pink="ansi_magenta", blue="ansi_cyan", amber="ansi_yellow", green="ansi_green", red="ansi_red", brown="ansi_yellow"
)


def _theme(
    name: str,
    states: dict[str, str],
    *,
    ground: str,
    text: str,
    surface: str,
    muted: str,
    rule: str,
    cursor: str,
    marked: str,
    dark: bool = True,
) -> Theme:
    return Theme(
        name=name, dark=dark, primary=states["state-running"], secondary=states["state-scheduled"], accent=states["state-running"],
        warning=states["warn"], error=states["bad"], success=states["good"], foreground=text, background=ground, surface=surface,
        panel=surface, boost=surface,
        variables={
            **states, "muted": muted, "rule": rule, "cursor": cursor, "marked": marked,
            "block-cursor-background": cursor, "block-cursor-foreground": text, "block-cursor-text-style": "reverse",
            "input-cursor-background": text, "input-cursor-foreground": ground, "input-selection-background": marked,
            "scrollbar": rule, "scrollbar-hover": muted, "scrollbar-active": muted, "scrollbar-background": ground,
            "scrollbar-corner-color": ground, "border": rule, "border-blurred": rule,
        },
    )  # fmt: skip


THEMES = (
    _theme("tq-dark", _DARK, ground="#131A21", text="#D7DCE2", surface="#1B242D", muted="#8A95A1", rule="#3C4854", cursor="#26323E",
           marked="#2E3A23"),
    _theme("tq-light", _LIGHT, ground="#FBFBF9", text="#1E252B", surface="#F0F0EC", muted="#5B6570", rule="#B9BEC4", cursor="#DDE6EE",
           marked="#E9EBD3", dark=False),
    _theme("tq-contrast", _LOUD, ground="#000000", text="#FFFFFF", surface="#000000", muted="#D0D0D0", rule="#FFFFFF", cursor="#303030",
           marked="#003A3A"),
    _theme("tq-mono", _GREY, ground="#101010", text="#DADADA", surface="#1A1A1A", muted="#9A9A9A", rule="#505050", cursor="#2C2C2C",
           marked="#3A3A3A"),
    Theme(
        name="tq-ansi", ansi=True, primary="ansi_cyan", secondary="ansi_magenta", warning="ansi_yellow", error="ansi_red",
        success="ansi_green", accent="ansi_cyan", foreground="ansi_default", background="ansi_default", surface="ansi_default",
        panel="ansi_default", boost="ansi_default",
        variables={
            **_SIXTEEN, "muted": "ansi_default", "rule": "ansi_default", "cursor": "ansi_default", "marked": "ansi_default",
            "block-cursor-background": "ansi_default", "block-cursor-foreground": "ansi_default", "block-cursor-text-style": "reverse",
            "input-cursor-background": "ansi_default", "input-cursor-foreground": "ansi_default", "input-cursor-text-style": "reverse",
            "input-selection-background": "ansi_blue", "input-selection-foreground": "ansi_white",
            "screen-selection-background": "ansi_blue", "screen-selection-foreground": "ansi_white",
            "scrollbar": "ansi_bright_black", "scrollbar-hover": "ansi_white", "scrollbar-active": "ansi_white",
            "scrollbar-background": "ansi_default", "scrollbar-corner-color": "ansi_default", "border": "ansi_default",
            "border-blurred": "ansi_default", "ansi-background": "ansi_black", "ansi-foreground": "ansi_white",
        },
    ),
)  # fmt: skip
NAMES = tuple(theme.name for theme in THEMES)


def names() -> list[str]:
    """All that may be chosen: ours first, then Textual's own."""
    return [*NAMES, *sorted(BUILTIN_THEMES)]


DEFAULTS = {**_DARK, "muted": "#8A95A1", "rule": "#3C4854", "cursor": "#26323E", "marked": "#2E3A23"}
"""For Textual's own themes, which know nothing of states. Readable on dark grounds."""


class StyleSheet(Stylesheet):
    """Textual's, but for this: a screen that is shown for the first time parses no rule again that was parsed under these variables.
    It did so in a quarter of the time that such a screen took to come."""

    def __init__(self, *, variables: dict[str, str]) -> None:
        super().__init__(variables=variables)
        self._set, self._others = dict(variables), False

    def set_variables(self, variables: dict[str, str]) -> None:
        if variables != self._set:
            self._set, self._others = dict(variables), True
            super().set_variables(variables)

    def reparse(self) -> None:
        if self._others:
            self._others = False
            super().reparse()
        else:
            self.parse()

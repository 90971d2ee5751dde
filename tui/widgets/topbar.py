"""The first two lines of every screen: who and how (identity, connection, role, time), and where (the screens).

For: the pieces of both, from what is known and how the connection stands; and the banner's sentence.
Not for: drawing them (bars.Line), knowing any of it (feed, state).
Runs in: the monitor; pure functions of what they are given.
Promises: the connection's state is told by sign, word and age; a person who is cut off reads why, since when, what comes next
and what to do.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, tzinfo

from tui.feed import BACKOFF_S, BANNER_AFTER_S, Phase, Standing
from tui.formats import Glyphs, age, clock, duration, rate
from tui.widgets.bars import Piece

WIDE = 100
"""Cells from which on names are written in full."""


@dataclass(frozen=True, slots=True)
class View:
    """What the lines at the top tell of; ticks in seconds."""

    standing: Standing
    glyphs: Glyphs
    instance: str
    path: str
    now_ms: int
    ticks: float
    may_write: bool
    read_only: bool
    rate: float = 0.0
    progress: float = 0.0
    uptime_ms: int | None = None
    draining: bool = False
    frozen_since: float | None = None
    blurred: bool = False
    can_start: bool = True
    zone: tzinfo | None = UTC
    """Whose times are shown; None: this machine's."""
    demo: bool = False

    def time(self, ms: int) -> str:
        """``14:32:07Z``; without the Z by this machine's clock."""
        return clock(ms, self.zone) + ("Z" if self.zone is UTC else "")


def connection(view: View) -> Piece:
    """Sign and words of how the connection stands."""
    glyphs, standing = view.glyphs, view.standing
    since = duration(max(view.ticks - standing.since, 0) // 1 * 1000)
    wait = max(standing.next_try - view.ticks, 0)
    soon = f", try in {round(wait)}s" if wait >= 0.5 else ", trying"
    found = {
        Phase.STARTING: Piece(f"{glyphs.state('pending')} {'no daemon yet' if standing.tries else 'connecting'}", "$warn"),
        Phase.SYNCING: Piece(f"{glyphs.state('retrying')} syncing {view.progress:.0%}", "$warn"),
        Phase.STALE: Piece(f"{glyphs.warn} stale {age((view.ticks - standing.heard_at) * 1000)}", "bold $warn"),
        Phase.DOWN: Piece(f"{glyphs.bad} down {since}{soon}", "bold $bad"),
        Phase.FORBIDDEN: Piece(f"{glyphs.bad} not allowed{soon}", "bold $bad"),
        Phase.INCOMPATIBLE: Piece(f"{glyphs.bad} other protocol{soon}", "bold $bad"),
    }
    if standing.phase in found:
        return found[standing.phase]
    if view.frozen_since is not None:
        seconds = int(view.ticks - view.frozen_since)
        return Piece(f"{glyphs.paused} frozen {seconds // 60:02d}:{seconds % 60:02d}", "bold reverse $warn", "app.do('freeze')")
    if view.blurred:
        return Piece(f"{glyphs.state('pending')} idle", "$muted")
    return Piece(f"{glyphs.live} live {standing.round_trip_ms:.0f}ms {rate(view.rate)}", "$good")


def identity(view: View, width: int) -> tuple[list[Piece], list[Piece]]:
    """Line 1: its left and its right end."""
    wide = width >= WIDE
    name = [Piece(" DEMO ", "bold reverse $warn"), Piece("  ")] if view.demo else [Piece(f"{view.instance}  ")]
    left = [Piece(" tq monitor  " if wide else " tq  ", "bold"), *name, connection(view)]
    if wide and view.uptime_ms is not None and view.standing.phase.connected:
        left.append(Piece(f"  up {duration(view.uptime_ms // 1000 * 1000)}", "$muted"))
    if view.draining:
        left.append(Piece(f"  {view.glyphs.warn} draining", "bold $warn"))
    role = Piece("read/write  " if wide else "RW  ", "$muted") if view.may_write else Piece(" READ ONLY ", "bold reverse")
    version = str((view.standing.hello or {}).get("version", ""))
    right = [Piece(f"  v{version}", "$muted")] if wide and version else []
    return left, [*right, Piece(" "), role, Piece(f" {view.time(view.now_ms)} ", "$muted")]


@dataclass(frozen=True, slots=True)
class Place:
    """A screen as the second line names it."""

    id: str
    number: str
    name: str
    short: str
    note: str = ""
    """A count beside it."""


def places(here: str, all_places: Iterable[Place], width: int) -> list[Piece]:
    """Line 2: the screens, the one in front in brackets; where there is no room for their names, the others by their digits alone."""
    there = list(all_places)
    texts = [" ".join(filter(None, (one.number, one.name if width >= WIDE else one.short, one.note))) for one in there]
    if 1 + sum(len(text) + 2 for text in texts) > width:
        texts = [text if one.id == here else one.number for one, text in zip(there, texts, strict=True)]
    found = [Piece(" ")]
    for place, text in zip(there, texts, strict=True):
        shown = Piece(f"[{text}]", "bold", "") if place.id == here else Piece(f" {text} ", "$muted", f"app.do('screen.{place.id}')")
        found.append(shown)
    return found


def banner(view: View) -> tuple[str, str]:
    """What a person who is cut off is told, and the keys that help; both "" while nothing is wrong."""
    standing = view.standing
    shown = f" Showing {view.time(standing.heard_ms)}." if standing.heard_ms else ""
    keys = "^r Now  :start starts it  q Quit" if view.can_start else "^r Now  q Quit"
    if standing.phase is Phase.STARTING:
        return (f"No daemon answers at {view.path} yet ({standing.why}). Looking each second.", keys) if standing.tries else ("", "")
    if standing.phase is Phase.DOWN:
        steps = " ".join(f"{seconds:g}" for seconds in (*BACKOFF_S, BACKOFF_S[-1], BACKOFF_S[-1]))
        return f"The daemon does not answer ({standing.why}).{shown} Trying again after {steps} ... s.", keys
    if standing.phase is Phase.FORBIDDEN:
        return f"Not allowed to use {view.path}: {standing.why}{shown} Run the monitor as the user of the daemon.", "^r Now  q Quit"
    if standing.phase is Phase.INCOMPATIBLE:
        return f"The daemon speaks another protocol: {standing.why}{shown}", "^r Now  q Quit"
    if standing.phase is Phase.STALE and view.ticks - standing.heard_at >= BANNER_AFTER_S:
        return f"The daemon is connected and silent.{shown} It may be stopped, or very busy: tq daemon status.", "^r Reconnect  q Quit"
    return "", ""

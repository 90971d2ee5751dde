"""The settings as the screen tells them: rows of the list, what is about one, and what is staged as a difference.

For: ``rows_of`` (answers of ``config`` as rows), ``chosen``, ``Staged``, and the lines of both panes.
Not for: asking and writing (config), whether a value can be (the daemon says).
Runs in: the monitor; pure.
Promises: it is given what is cleaned; what is staged is told against what the file says now, also where somebody else has changed that.
"""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from tui.formats import Glyphs
from tui.state import Body
from tui.widgets.painting import Run, Runs

ALL, CHANGED, OTHER = "all", "changed", "other"
RESTART, AT_ONCE = "restart", "at once"
NAMED = (
    "A line of the tables of queues, alerts, limits, resources or the monitor. It is told here and changed in the file, or, of queues, "
    "limits and resources, where they are set while the daemon runs."
)
_PLAIN = re.compile(r"[+-]?\d+(\.\d+)?", re.ASCII)


@dataclass(frozen=True, slots=True)
class Staged:
    """A value that somebody wants: ``text`` as it would be written ("": none, so its default), ``base``: what the file said then."""

    text: str
    base: str | None


def rows_of(told: Body | None, schema: Body | None, staged: Mapping[str, Staged]) -> list[Body]:
    """A row for each setting, and for each line of the file's own tables; empty until both answers are here."""
    if told is None or schema is None:
        return []
    about = {one["key"]: one for one in schema["options"]}
    found = []
    for one in told["options"]:
        key = one["key"]
        if key in about:
            wanted = staged[key].text if key in staged else None
            found.append({**about[key], **one, "table": key.partition(".")[0], "wanted": wanted, "edits": True})
    line = {"default": "", "source": "file", "from": told["file"], "next": None, "live": False, "wanted": None, "edits": False}
    nothing = {"says": "", "expects": "", "choices": ()}
    return found + [{**line, **nothing, **one, "file": one["value"], "table": OTHER} for one in told["named"]]


def differs(row: Body) -> bool:
    """Whether a setting is no default now, or will not be one."""
    return bool(row["edits"]) and (row["value"] != row["default"] or row["next"] is not None or row["wanted"] is not None)


def tabs_of(rows: Iterable[Body]) -> list[tuple[str, int]]:
    """What the list can be cut down to, and how many there are of each."""
    counts: dict[str, int] = {}
    changed = total = 0
    for row in rows:
        counts[row["table"]] = counts.get(row["table"], 0) + 1
        changed += differs(row)
        total += 1
    return [(ALL, total), (CHANGED, changed), *counts.items()]


def chosen(rows: Iterable[Body], tab: str, words: Sequence[str]) -> list[Body]:
    """The rows of a tab that have all these words, in either case, in their key, value, source or sentence."""
    found = []
    for row in rows:
        if tab not in (ALL, row["table"]) and not (tab == CHANGED and differs(row)):
            continue
        text = f"{row['key']} {row['value']} {row['source']} {row['from']} {row['says']}".lower()
        if all(word in text for word in words):
            found.append(row)
    return found


def or_none(text: str | None, glyphs: Glyphs) -> str:
    """A value, or the sign for none."""
    return text or glyphs.nothing


def arrow(glyphs: Glyphs) -> str:
    return "→" if glyphs.more == "…" else "->"


def value_runs(row: Body, glyphs: Glyphs) -> Runs:
    """What it is; what it is to be, or will be."""
    now = or_none(row["value"], glyphs)
    if row["wanted"] is not None:
        return [(f"{now} {arrow(glyphs)} {or_none(row['wanted'] or row['default'], glyphs)} *", "warn")]
    if row["next"] is not None:
        return [(now, "text"), (f" {arrow(glyphs)} {or_none(row['next'], glyphs)}", "warn")]
    return [(now, "strong" if differs(row) else "text")]


def applies_runs(row: Body, glyphs: Glyphs) -> Runs:
    """When a change counts; a sign where one waits for that."""
    if not row["edits"]:
        return [("by hand", "dim")]
    word = AT_ONCE if row["live"] else RESTART
    return [(f"{glyphs.warn} {word}", "warn")] if row["next"] is not None else [(word, "good" if row["live"] else "dim")]


def about_lines(row: Body | None, glyphs: Glyphs, width: int) -> list[Runs]:
    """What there is to say of a setting, in a pane of so many cells."""
    if row is None:
        return [[("nothing is selected", "dim")]]
    if not row["edits"]:
        return [*_wrapped(NAMED, width), [("value ", "dim"), (or_none(row["value"], glyphs), "text")]]
    found: list[Runs] = [*_wrapped(row["says"], width), [("now ", "dim"), (or_none(row["value"], glyphs), "strong"), *_origin(row, glyphs)]]
    found.append([("expected ", "dim"), (row["expects"], "text")])
    if row["next"] is not None:
        when = "after the next start" if not row["live"] else "once the file is read again"
        found.append([(f"{glyphs.warn} {when} it is {or_none(row['next'], glyphs)}", "warn")])
    elif not row["live"]:
        found.append([("a change waits for the daemon's next start", "dim")])
    if wins := wins_of(row):
        found.append([(f"{glyphs.warn} {wins} wins over what the file says", "warn")])
    return found


def _wrapped(text: str, width: int) -> list[Runs]:
    return [[(line, "text")] for line in textwrap.wrap(text, max(width, 20))]


def _origin(row: Body, glyphs: Glyphs) -> list[Run]:
    default = f"   default {or_none(row['default'], glyphs)}"
    if row["source"] == "default":
        return [("   by default", "dim")]
    origin = {"runtime": "changed while it runs", "file": f"from {row['from']}"}.get(row["source"], f"by {row['from']}")
    return [(f"   {origin}", "dim"), (default, "dim")]


def wins_of(row: Body) -> str:
    """The variable, or the command line, that says a setting and wins over the file; "" for nobody."""
    return str(row["from"]) if row["source"] in ("environment", "command line") else ""


def written(key: str, text: str) -> str:
    """A line of the file."""
    return f"{key} = {text}" if _PLAIN.fullmatch(text) else f'{key} = "{text}"'


def told_against(key: str, one: Staged, now: str | None, glyphs: Glyphs) -> str:
    """What somebody else has made of it meanwhile; "" if nobody has."""
    if now == one.base:
        return ""
    was, is_now, wanted = (or_none(text, glyphs) for text in (one.base, now, one.text))
    return f"{key}: the file said {was} when you began, says {is_now} now; you want {wanted}"


def counts_when(row: Body) -> str:
    """When what is written of a setting counts."""
    if wins := wins_of(row):
        return f"no effect while {wins} says otherwise"
    return AT_ONCE if row["live"] else "waits for a restart"


def staged_lines(staged: Mapping[str, Staged], rows: Mapping[str, Body], glyphs: Glyphs) -> list[Runs]:
    """The difference that writing would make, each with when it counts and what is against it."""
    found: list[Runs] = []
    for key, one in staged.items():
        row = rows.get(key)
        now = row["file"] if row is not None else one.base
        if now is not None:
            found.append([(f"- {written(key, now)}", "bad")])
        found.append([(f"+ {written(key, one.text)}", "good")] if one.text else [("  its default again", "good")])
        found += [[(f"    {counts_when(row)}", "dim")]] if row is not None else []
        if against := told_against(key, one, now, glyphs):
            found.append([(f"  {glyphs.warn} {against}", "warn")])
    return found


def waiting_lines(rows: Iterable[Body], glyphs: Glyphs) -> list[Runs]:
    """What is in the file and not in force yet."""
    found: list[Runs] = []
    for row in rows:
        if row["next"] is not None:
            change = f"{or_none(row['value'], glyphs)} {arrow(glyphs)} {or_none(row['next'], glyphs)}"
            found.append([(f"{glyphs.warn} {row['key']} ", "warn"), (change, "text"), ("  waits for a restart" * (not row["live"]), "dim")])
    return found

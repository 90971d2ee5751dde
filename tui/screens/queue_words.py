"""A queue in words: its row of the table, and the lines that tell all of it.

For: ``Course`` (what its history says), ``row_of``, ``lines_of``.
Not for: asking (the screen), settings as they are typed (queue_settings, which this uses to write them).
Runs in: the monitor; pure, without Textual or clock.
Promises: a pause and a hold are told with who, since when and why; what is not known is no number.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tui.charts import spark
from tui.formats import Glyphs, age, clip, count, counted, duration, percent, rate, short, size
from tui.screens.flow_words import breaker_line, limit_line
from tui.screens.queue_settings import LABELS, texts_of
from tui.state import Body, History

STEP_S, BUCKETS = 10, 30
"""Of a queue's history: five minutes."""
WIDE = 100
"""Cells from which on there is room for an empty line."""
MINUTE = 60 // STEP_S
LIMITS_TOLD = 6
ENDS = ("succeeded", "failed", "retried")
Run = tuple[str, str]
Line = list[Run]


@dataclass(frozen=True, slots=True)
class Course:
    """How a queue went in the last five minutes. ``rate``: ends in a second, over the last minute; ``failing``: the share of runs that
    failed; the percentiles are ms of the newest bucket that has any; None: not known."""

    rate: float | None
    failing: float | None
    p50: float | None
    p95: float | None
    p99: float | None
    pending: tuple[float | None, ...]
    ended: tuple[float | None, ...]
    """So many in each bucket's second."""


def course_of(history: History | None) -> Course:
    """From the daemon's history of it; None: none has come."""
    history = history or History(STEP_S)
    parts = {name: history.last(name, BUCKETS) for name in ENDS}
    sums = {name: sum([value for value in values if value is not None]) for name, values in parts.items()}
    ended = [None if None in together else sum(together) for together in zip(*parts.values(), strict=True)]
    minute = [value for value in ended[-MINUTE:] if value is not None]
    newest = {name: next((one for one in reversed(history.last(name, BUCKETS)) if one is not None), None) for name in ("p50", "p95", "p99")}
    total = sum(sums.values())
    return Course(
        rate=sum(minute) / (STEP_S * len(minute)) if minute else None,
        failing=(sums["failed"] + sums["retried"]) / total if total else None,
        pending=tuple(history.last("pending", BUCKETS)),
        ended=tuple([None if value is None else value / STEP_S for value in ended]), **newest,
    )  # fmt: skip


def state_of(row: Body, glyphs: Glyphs, stop: str = "") -> Run:
    """Sign and word of how a queue is, with the name of a style. ``stop``: what else holds its tasks, "breaker" or "limit"."""
    running, slots = int((row.get("states") or {}).get("running") or 0), int(row.get("slots") or 0)
    if row.get("paused"):
        return f"{glyphs.paused} pause", "paused"
    if row.get("held"):
        return f"{glyphs.paused} held", "paused"
    if row.get("external"):
        return f"{glyphs.state('pending')} extern", "note"
    if stop == "breaker":
        return f"{glyphs.warn} breaker", "bad"
    if stop == "limit" or (slots and running >= slots):
        return f"{glyphs.live} limit", "warn"
    return f"{glyphs.live} run", "good"


def row_of(row: Body, course: Course, glyphs: Glyphs, stop: str = "") -> Body:
    """What the table shows of a row of ``queues``; numbers stay numbers, to be sorted by."""
    states, slots = row.get("states") or {}, int(row.get("slots") or 0)
    state, style = state_of(row, glyphs, stop)
    running = int(states.get("running") or 0)
    return {
        "name": row["name"], "state": state, "style": style, "pending": int(states.get("pending") or 0), "running": running,
        "slots": slots, "used": running / slots if slots else None, "retrying": int(states.get("retrying") or 0),
        "failed": int(states.get("failed") or 0), "rate": course.rate, "p95": course.p95, "fail": course.failing,
        "course": course.ended,
    }  # fmt: skip


def fail_style(share: float | None) -> str:
    """How loud a share of failures is told."""
    return "dim" if not share else "bad" if share >= 0.05 else "warn" if share >= 0.01 else "text"


@dataclass(frozen=True, slots=True)
class More:
    """What is asked for one queue alone; None: not answered. ``types``: name and figures of ``stats`` for each type that comes here."""

    next: Body | None = None
    """The task that is next, if one waits."""
    dead: Sequence[Body] | None = None
    types: Sequence[tuple[str, Body]] = ()
    file: str = ""
    """The settings file, if it declares queues."""
    limits: Sequence[Body] = ()
    """Those that have to do with it."""
    breakers: Sequence[Body] = ()
    """Those of its types that are not closed."""
    stop: str = ""


def lines_of(row: Body, course: Course, more: More, glyphs: Glyphs, now_ms: int, width: int) -> list[Line]:
    """All of a queue, what matters most first."""
    states = row.get("states") or {}
    lines: list[Line] = [_standing(row, states, glyphs, more.stop)]
    lines += _stopped(row, glyphs, now_ms)
    lines += [breaker_line(one, glyphs, now_ms) for one in more.breakers]
    for at, one in enumerate(more.limits[:LIMITS_TOLD]):
        lines.append([("limits  " if not at else " " * 8, "head"), *limit_line(one, glyphs, now_ms)])
    if len(more.limits) > LIMITS_TOLD:
        lines.append([(f"        and {len(more.limits) - LIMITS_TOLD} more", "dim")])
    lines.append(_times(course))
    room = max(min(60, (width - 40) // 2), 8)
    here = [value for value in course.ended if value is not None]
    lines.append([
        ("pending ", "head"), (spark(course.pending, room, glyphs), "pending"), (f" {short(states.get('pending'))}", "strong"),
        ("   done/s ", "head"), (spark(course.ended, room, glyphs), "live"), (f" {rate(here[-1] if here else None)}", "strong"),
    ])  # fmt: skip
    if more.next is not None:
        lines.append(_next(more.next, now_ms))
    lines += [[]] if width >= WIDE else []
    lines += _settings(row, more, width)
    lines += _errors(more, glyphs, width)
    if more.types:
        lines += wrapped("types   ", [_type(name, figures) for name, figures in more.types], width)
    return lines


def _type(name: str, figures: Body) -> str:
    p95 = figures.get("p95")
    times = duration(None if p95 is None else p95 * 1000)
    return f"{name} {count(figures.get('completed'))} done, {percent(figures.get('failure_rate'))} fail, p95 {times}"


def _standing(row: Body, states: Mapping[str, Any], glyphs: Glyphs, stop: str) -> Line:
    state, style = state_of(row, glyphs, stop)
    slots, running = int(row.get("slots") or 0), int(states.get("running") or 0)
    found: Line = [("state   ", "head"), (state, style), ("   slots ", "head")]
    found.append((f"{running:,} of {slots:,}" if slots else f"{running:,} of any number", "text"))
    for name in ("scheduled", "blocked", "retrying", "failed"):
        if states.get(name):
            found += [(f"   {name} ", "head"), (count(states[name]), name)]
    return [*found, ("   payloads ", "head"), (size(row.get("bytes")), "text")]


def _stopped(row: Body, glyphs: Glyphs, now_ms: int) -> list[Line]:
    """Why nothing of it starts."""
    lines: list[Line] = []
    if row.get("paused"):
        since, who = int(row.get("paused_at") or 0), row.get("paused_by")
        words = (f" for {age(now_ms - since)}" if since else "") + (f" by {who}" if who else "")
        lines.append([(f"{glyphs.paused} paused{words}", "paused"), ("   p resumes it", "dim")])
    if held := row.get("held"):
        looked = f"; looked {age(held['age_ms'])} ago" if "age_ms" in held else ""
        lines.append([(f"{glyphs.paused} held: {held.get('why', '')}{looked}", "paused")])
    return lines


def _times(course: Course) -> Line:
    found: Line = [("run     ", "head")]
    for name, value in (("p50", course.p50), ("p95", course.p95), ("p99", course.p99)):
        found += [(f"{name} ", name), (f"{duration(value)}  ", "text")]
    found += [("   failing ", "head"), (percent(course.failing), fail_style(course.failing))]
    return found


def _next(task: Body, now_ms: int) -> Line:
    since = int(task.get("ready_at") or task.get("created_at") or now_ms)
    return [("next    ", "head"), (f"{task['id']} {task['type']}", "text"), (f", waits {age(now_ms - since)}", "warn")]


def _settings(row: Body, more: More, width: int) -> list[Line]:
    """What is set, and what the settings file sets again at the next start."""
    texts = texts_of(row)
    told = [f"{LABELS[name]} {text}" for name, text in texts.items() if text and (name, text) not in _UNSAID]
    lines = wrapped("set     ", told or ["nothing: all as by default"], width)
    if row.get("declared"):
        names = ", ".join(LABELS.get(name, name) for name in row["declared"])
        lines.append([("file    ", "head"), (f"{more.file} sets {names} again when the daemon starts", "note")])
    return lines


_UNSAID = {("external", "no"), ("weight", "1"), ("slots", "0"), ("aging_ms", "1m"), ("aging_share", "10"), ("hold_every_ms", "10s")}
"""As they are where nobody has said anything."""


def _errors(more: More, glyphs: Glyphs, width: int) -> list[Line]:
    if more.dead is None or not more.dead:
        return []
    told = [f"{glyphs.bad} {one['count']:,} {one.get('error') or 'other'}: {clip(one.get('message') or '', 60)}" for one in more.dead[:3]]
    rest = sum(one["count"] for one in more.dead[3:])
    return wrapped("dead    ", [*told, *([f"and {counted(rest, 'other')}"] if rest else [])], width, "failed")


def wrapped(name: str, pieces: Iterable[str], width: int, style: str = "text") -> list[Line]:
    """Pieces under a name, as many in each line as it has room for."""
    lines: list[Line] = []
    text = ""
    for piece in pieces:
        if text and len(text) + 3 + len(piece) > width - len(name):
            lines.append([(name if not lines else " " * len(name), "head"), (text, style)])
            text = ""
        text = f"{text}   {piece}" if text else piece
    return [*lines, [(name if not lines else " " * len(name), "head"), (text, style)]]

"""A workflow in words: its row of the list, the lines of its tree, and what the panes tell of it and of a task in it.

For: ``row_of``, ``lines_of`` (the tree, folded), ``about_graph`` and ``about_line``, ``bar`` and ``stretch``.
Not for: what is known (graphs), asking and acting (workflows, workflow).
Runs in: the monitor; pure, without Textual or clock.
Promises: all stretches of one workflow have one scale; a step of many tasks is one line until it is unfolded, but what went wrong in it
is seen all the same.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import UTC, tzinfo
from itertools import islice
from typing import Any

from tq import workflows
from tui.formats import Glyphs, clip, clock, count, counted, duration, nice_above
from tui.graphs import LEFT_OUT, Graph

Run = tuple[str, str]
Line = list[Run]
Body = dict[str, Any]
LIVE = ("blocked", "scheduled", "pending", "retrying", "running")
SHOWN = ("failed", "expired", "running", "retrying", "pending", "scheduled", "blocked", "cancelled", "succeeded", LEFT_OUT)
"""In this order states are told, what somebody should look at first."""
BAD = ("failed", "expired")
FAILED_SHOWN = 3
"""Tasks of a folded step that are shown below it since they went wrong."""
BAR = 12
KIN = 6
_NONE = "nothing is selected"


def sign_of(state: str, glyphs: Glyphs) -> Run:
    """The sign of a state, with its style."""
    return (glyphs.state("cancelled"), "dim") if state == LEFT_OUT else (glyphs.state(state), state)


def word_of(state: str, glyphs: Glyphs) -> Run:
    """Sign and short word of a state."""
    return (f"{glyphs.state('cancelled')} {LEFT_OUT}", "dim") if state == LEFT_OUT else (glyphs.word(state), state)


def counts_of(counts: Mapping[str, int], glyphs: Glyphs) -> tuple[Run, ...]:
    """How many stand how: ``1 ✗ 3 ● 6 ✓``."""
    found: list[Run] = []
    for state in SHOWN:
        if counts.get(state):
            sign, style = sign_of(state, glyphs)
            found.append((f"{counts[state]:,} {LEFT_OUT if state == LEFT_OUT else sign} ", style))
    return tuple(found)


def bar_of(counts: Mapping[str, int], total: int, glyphs: Glyphs, width: int = BAR) -> tuple[Run, ...]:
    """How far so many are: what went well, what did not, what runs, and the rest; whatever there is has a cell at least."""
    found: list[Run] = []
    left = width
    parts = {
        "succeeded": counts["succeeded"], "failed": counts["failed"] + counts["expired"], "cancelled": counts["cancelled"],
        "running": counts["running"],
    }  # fmt: skip
    for style, number in parts.items():
        cells = min(max(1, number * width // max(total, 1)), left) if number else 0
        left -= cells
        found.append((glyphs.full * cells, style))
    return (*[one for one in found if one[0]], (glyphs.empty * left, "dim"))


def bar(graph: Graph, glyphs: Glyphs, width: int = BAR) -> tuple[Run, ...]:
    """The same of a workflow; what was not needed went well."""
    counts = graph.counts
    counts["succeeded"] += counts[LEFT_OUT]
    return bar_of(counts, graph.count, glyphs, width)


def row_of(graph: Graph, glyphs: Glyphs) -> Body:
    """What the list shows of a workflow; None where it is not known yet."""
    state, counts, over = graph.state, graph.counts, graph.over
    word, style = word_of(state, glyphs) if state else (f"{glyphs.note} reading", "dim")
    return {
        "id": graph.id, "name": graph.name, "state": state or None, "word": word, "style": style, "over": over, "count": graph.count,
        "share": over / graph.count if state else None, "bar": bar(graph, glyphs), "bad": sum(counts[one] for one in BAD),
        "running": counts["running"], "created": graph.created_at, "began": graph.began_at, "ended": graph.ended_at,
    }  # fmt: skip


def took(began: int, ended: int, now: int) -> int | None:
    """How long something took, or takes by now, in whole seconds while it goes on; None: it has not begun."""
    return (max(ended - began, 0) if ended else max(now - began, 0) // 1000 * 1000) if began else None


def about_graph(graph: Graph | None, glyphs: Glyphs, now: int, zone: tzinfo | None = UTC) -> list[Line]:
    """A workflow in a few lines."""
    if graph is None:
        return [[(_NONE, "dim")]]
    lines: list[Line] = [
        [("state   ", "head"), word_of(graph.state, glyphs) if graph.state else ("not read yet", "dim"), ("   tasks ", "head"),
         (f"{graph.over:,} of {graph.count:,} over", "text"), ("   ", "text"), *counts_of(graph.counts, glyphs)],
        [("sent    ", "head"), (clock(graph.created_at, zone), "text"), ("   begun ", "head"), (clock(graph.began_at, zone), "text"),
         ("   took ", "head"), (duration(took(graph.began_at, graph.ended_at, now)), "text")],
    ]  # fmt: skip
    if graph.read < graph.count:
        lines.append([("        ", "head"), (f"{graph.read:,} of {graph.count:,} tasks are read", "note")])
    for number, error in list(graph.errors.items())[:FAILED_SHOWN]:
        lines.append([("failed  ", "head"), (str(number), "key"), (f"  {error}", "failed")])
    return lines


# the tree


def scale_of(rows: Iterable[Mapping[str, Any]], now: int) -> tuple[int, int]:
    """From when to when the stretches are drawn (ms). While something goes on the end is put off in round steps, so that they stand."""
    first = last = 0
    live = False
    for row in rows:
        if start := _begun(row):
            first = min(first or start, start)
            last = max(last, row["finished_at"])
        live = live or row["state"] in LIVE
    span = max((now if live else last) - first, 1)
    return first, first + (int(nice_above(span / 1000) * 1000) if live else span)


def stretch(began: int, ended: int, scale: tuple[int, int], width: int, glyphs: Glyphs, style: str) -> list[Run]:
    """From ``began`` to ``ended`` on a line of ``width`` cells that is as long as the scale; at least one cell."""
    if not began or width <= 0:
        return []
    first, last = scale
    cells = width / max(last - first, 1)
    start = min(max(int((began - first) * cells), 0), width - 1)
    end = min(max(round((ended - first) * cells), start + 1), width)
    return [(" " * start, "text"), (glyphs.full * (end - start), style)]


def lines_of(
    tree: Sequence[tuple[int, str, Sequence[Mapping[str, Any]]]], opened: Collection[str], glyphs: Glyphs
) -> list[Body]:  # fmt: skip
    """The lines of the tree: each step, and the tasks of those that are ``opened``."""
    found: list[Body] = []
    for depth, step, rows in tree:
        if len(rows) == 1:
            found.append(_task(rows[0], depth, glyphs))
            continue
        counts = Counter(row["state"] for row in rows)
        live = any(counts[state] for state in LIVE)
        bad = any(counts[state] for state in BAD)
        begun = [row for row in rows if _begun(row)]
        state = "failed" if bad else "running" if counts["running"] else next(iter(counts)) if len(counts) == 1 else "pending"
        found.append({
            "key": step, "id": 0, "depth": depth, "name": step, "many": len(rows), "open": step in opened,
            "counts": counts_of(counts, glyphs), "state": state,
            "style": "dim" if state == LEFT_OUT else state, "bad": bad, "live": live and bool(begun), "error": "",
            "began": min((row["started_at"] for row in begun), default=0),
            "ended": 0 if live else max((row["finished_at"] for row in begun), default=0),
        })  # fmt: skip
        wrong = islice((row for row in rows if row["state"] in BAD), FAILED_SHOWN)
        found += [_task(row, depth + 1, glyphs) for row in (rows if step in opened else wrong)]
    return found


def _begun(row: Mapping[str, Any]) -> int:
    """When it began to run (ms); 0: it waits, be it again."""
    return int(row["started_at"]) if row["state"] == "running" or row["state"] not in LIVE else 0


def _task(row: Mapping[str, Any], depth: int, glyphs: Glyphs) -> Body:
    state = row["state"]
    word, style = word_of(state, glyphs)
    began = _begun(row)
    return {
        "key": row["id"], "id": row["id"], "depth": depth, "name": workflows.step_of(row), "many": 1, "open": None,
        "counts": ((word, style),), "state": state, "style": style, "bad": state in BAD, "live": state == "running", "error": row["error"],
        "began": began, "ended": 0 if state == "running" or not began else row["finished_at"],
    }  # fmt: skip


def name_of(line: Body, glyphs: Glyphs) -> list[Run]:
    """The cell of a line's name, as deep as it stands."""
    fold = "" if line["open"] is None else f"{glyphs.opened if line['open'] else glyphs.closed} "
    many = [(f" x{line['many']:,}", "dim")] if line["open"] is not None else []
    margin = "  " * min(line["depth"], 12)
    mark = f"{glyphs.bad} " if line["bad"] else ""
    return [(f"{margin}{fold}", "dim"), (f"{mark}{line['name']}", "failed" if line["bad"] else "text"), *many]


def about_line(line: Body | None, graph: Graph, glyphs: Glyphs, now: int, zone: tzinfo | None = UTC) -> list[Line]:
    """What is under the cursor of the tree in a few lines."""
    if line is None:
        return [[(_NONE, "dim")]]
    times: Line = [("begun   ", "head"), (clock(line["began"], zone), "text"), ("   ended ", "head"), (clock(line["ended"], zone), "text")]
    times += [("   took ", "head"), (duration(took(line["began"], line["ended"], now)), "text")]
    row = graph.rows.get(line["id"])
    if row is None:
        head: Line = [("step    ", "head"), (line["name"], "strong"), (f"   {counted(line['many'], 'task')}   ", "text"), *line["counts"]]
        hint = "enter folds it" if line["open"] else "enter unfolds it"
        return [head, times, [("        ", "head"), (hint, "dim")]]
    found: list[Line] = [
        [("task    ", "head"), (str(row["id"]), "key"), (f"  {row['type']}   ", "text"), *line["counts"]],
        times,
    ]
    if row["parents"]:
        found.append([("after   ", "head"), (_parents(row, graph, glyphs), "text")])
    if row["error"]:
        found.append([("error   ", "head"), (row["error"], "failed" if line["bad"] else "text")])
    return found


def _parents(row: Mapping[str, Any], graph: Graph, glyphs: Glyphs) -> str:
    """What a task waits for, or has waited for, and how that stands."""
    told = []
    for one in row["parents"][:KIN]:
        how = " (however it ends)" if one in row["any"] else " (if it fails)" if one in row["failure"] else ""
        parent = graph.rows.get(one)
        told.append(f"{sign_of(parent['state'], glyphs)[0]} {workflows.step_of(parent)}{how}" if parent else f"{one}{how}")
    more = len(row["parents"]) - KIN
    return ", ".join(told) + (f" and {count(more)} more" if more > 0 else "")


def title_of(graph: Graph) -> str:
    """What a workflow is called in a line."""
    return f"{clip(graph.name, 40)} {graph.id}"

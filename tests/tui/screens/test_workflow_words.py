"""Workflows in words: bars, stretches on one scale, and the tree with what went wrong in it."""

from __future__ import annotations

import pytest

from tests.tui.fake import START_MS
from tests.tui.jobs import row_of
from tests.tui.nightly import nightly, step
from tq import workflows
from tui.formats import ASCII, UNICODE
from tui.graphs import Graph, head_of
from tui.screens.workflow_words import about_line, bar, lines_of, name_of, scale_of, stretch, took
from tui.screens.workflow_words import row_of as line_of


def looked_into(parts: int = 10) -> Graph:
    flow = nightly(parts=parts)
    graph = head_of(flow[0])
    assert graph is not None
    graph.look_into(flow)
    return graph


def tree(graph: Graph) -> list[tuple[int, str, list[workflows.Mapping[str, object]]]]:
    return workflows.tree(graph.rows.values())


def test_a_bar_has_a_cell_for_all_that_there_is_and_is_never_longer() -> None:
    assert bar(looked_into(), UNICODE, 14) == (("█" * 10, "succeeded"), ("█", "failed"), ("█", "cancelled"), ("█", "running"), ("░", "dim"))
    graph = Graph(1, 1000, "x")
    graph.take([1], [row_of(step(1, "s", "1/1", "failed"))])
    assert bar(graph, ASCII, 5) == (("#", "failed"), ("....", "dim"))


def test_a_workflow_of_which_nothing_is_known_says_that_it_is_read() -> None:
    row = line_of(Graph(5, 3, "x"), UNICODE)
    assert (row["word"], row["state"], row["share"]) == ("· reading", None, None)


@pytest.mark.parametrize(
    ("began", "ended", "drawn"),
    [(0, 5, ""), (100, 200, "██████████"), (100, 101, "█"), (150, 160, "     █"), (195, 200, "         █"), (90, 500, "██████████")],
)
def test_a_stretch_stands_where_it_was_and_has_one_cell_at_least(began: int, ended: int, drawn: str) -> None:
    assert "".join(text for text, _ in stretch(began, ended, (100, 200), 10, UNICODE, "running")) == drawn


def test_the_scale_stands_while_something_goes_on_until_there_is_no_room() -> None:
    rows = looked_into().rows.values()
    first = START_MS - 80_000
    assert {scale_of(rows, START_MS - 1000 * at) for at in range(20)} == {(first, first + 80_000)}
    assert scale_of(rows, START_MS + 1000) == (first, first + 100_000)
    over = [row for row in rows if row["state"] == "succeeded"]
    assert scale_of(over, START_MS) == (first, START_MS - 56_000)
    assert scale_of([], START_MS) == (0, 1)


def test_a_step_of_many_is_one_line_and_what_went_wrong_stands_below_it() -> None:
    graph = looked_into()
    lines = lines_of(tree(graph), (), UNICODE)
    told = [(line["depth"], line["name"], line["many"], line["bad"]) for line in lines]
    assert told == [
        (0, "extract", 1, False), (1, "transform", 10, True), (2, "transform[2]", 1, True), (2, "load", 1, False), (3, "notify", 1, False),
        (3, "page", 1, False),
    ]  # fmt: skip
    assert lines[1]["counts"] == (("1 ✗ ", "failed"), ("1 ● ", "running"), ("8 ✓ ", "succeeded"))
    assert name_of(lines[1], UNICODE) == [("  ▸ ", "dim"), ("✗ transform", "failed"), (" x10", "dim")]
    assert len(lines_of(tree(graph), ("transform",), UNICODE)) == 15


def test_many_failures_of_a_folded_step_are_three_lines() -> None:
    graph = looked_into(8)
    for row in graph.rows.values():
        row["state"] = "failed"
    assert len([line for line in lines_of(tree(graph), (), UNICODE) if line["depth"] == 2 and line["name"].startswith("transform")]) == 3


def test_what_waits_again_has_not_begun() -> None:
    graph = looked_into()
    graph.rows[104]["state"] = "pending"
    line = next(line for line in lines_of(tree(graph), ("transform",), UNICODE) if line["id"] == 104)
    assert (line["began"], line["ended"], line["live"]) == (0, 0, False)


def test_how_long_is_counted_in_whole_seconds_until_it_is_over() -> None:
    assert [took(0, 0, 5000), took(1000, 0, 5900), took(1000, 2500, 9000)] == [None, 4000, 1500]


def test_a_task_says_after_whom_it_comes_and_how_that_stands() -> None:
    graph = looked_into()
    lines = {line["id"]: line for line in lines_of(tree(graph), (), UNICODE)}
    told = {number: "".join(text for line in about_line(lines[number], graph, UNICODE, START_MS) for text, _ in line) for number in lines}
    assert "after   ✓ transform[0], ✓ transform[1], ✗ transform[2], ✓ transform[3], ✓ transform[4], ✓ transform[5] and 4 more" in told[112]
    assert "after   ⊘ load (however it ends)" in told[113]
    assert "after   ⊘ load (if it fails)" in told[114]
    assert "error   ValueError: no \\x1b[31mrows" in told[104]
    assert "10 tasks   1 ✗ 1 ● 8 ✓ " in told[0]

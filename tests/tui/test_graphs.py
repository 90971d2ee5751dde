"""Workflows as they are kept: counts, the order in which tasks are asked for, and what is no task of one."""

from __future__ import annotations

import pytest

from tests.tui.fake import START_MS
from tests.tui.jobs import row_of
from tests.tui.nightly import nightly, step
from tui.graphs import MOST, Graph, head_of


def read(flow: list[dict[str, object]]) -> Graph:
    graph = head_of(flow[0])
    assert graph is not None
    graph.take(list(graph.ids), [row_of(one) for one in flow])
    return graph


def test_it_counts_its_tasks_and_has_the_state_that_the_command_line_tells() -> None:
    graph = read(nightly())
    assert (graph.id, graph.count, graph.name, graph.created_at) == (101, 14, "nightly", START_MS - 90_000)
    assert graph.counts == {"succeeded": 9, "failed": 1, "running": 1, "cancelled": 1, "left out": 1, "pending": 1}
    assert (graph.over, graph.read, graph.state) == (12, 14, "running")
    assert (graph.began_at, graph.ended_at) == (START_MS - 80_000, 0)
    graph.take([111, 113], [row_of(step(111, "t", "11/14", "succeeded", begun=70, took=90)), row_of(step(113, "n", "13/14", "succeeded"))])
    assert graph.state == "failed"
    assert graph.ended_at == START_MS + 20_000


def test_what_failed_says_why_cleaned_and_no_more_once_it_runs_again() -> None:
    graph = read(nightly())
    assert graph.errors == {104: "ValueError: no \\x1b[31mrows\\x1b[0m for [b]acme[/b]"}
    graph.take([104], [row_of(step(104, "t", "4/14", "pending"))])
    assert graph.errors == {}


def test_those_never_asked_for_come_first_then_those_that_are_not_over_in_turn() -> None:
    graph = Graph(11, 6, "x")
    assert graph.to_ask(4) == [11, 12, 13, 14]
    graph.take([11, 12, 13, 14], [row_of(step(one, "s", "1/6", "succeeded" if one < 13 else "pending")) for one in (11, 12, 13, 14)])
    assert graph.to_ask(2) == [15, 16]
    graph.take([15, 16], [row_of(step(one, "s", "1/6", "blocked")) for one in (15, 16)])
    assert [graph.to_ask(3), graph.to_ask(3), graph.to_ask(5)] == [[13, 14, 15], [13, 14, 16], [11, 13, 14, 15, 16]]


def test_when_all_are_over_they_are_asked_for_in_turn_since_one_may_have_been_retried() -> None:
    graph = Graph(11, 3, "x")
    graph.take([11, 12, 13], [row_of(step(one, "s", "1/3", "succeeded")) for one in (11, 12, 13)])
    assert [graph.to_ask(2), graph.to_ask(2)] == [[11, 12], [11, 13]]


def test_the_steps_are_known_of_what_was_looked_into_and_another_task_among_the_ids_is_none_of_it() -> None:
    flow = nightly()
    graph = read(flow)
    assert graph.not_looked_into(3) == [101, 102, 103]
    graph.look_into([*flow[:5], step(106, "s", "1/1", flow="other"), None])
    assert graph.not_looked_into(2) == [107, 108]
    assert graph.rows[104]["error"] == "ValueError: no \\x1b[31mrows\\x1b[0m for [b]acme[/b]"
    assert graph.rows[104]["parents"] == (101,)
    graph.take([104], [row_of(step(104, "t", "4/14", "running", begun=3))])
    assert (graph.rows[104]["state"], graph.rows[104]["error"]) == ("running", "")


def test_a_workflow_of_which_nothing_is_left_is_gone() -> None:
    graph = Graph(11, 2, "x")
    graph.take([11], [None])
    assert not graph.gone
    graph.take([12], [None])
    assert graph.gone
    assert graph.state == ""


@pytest.mark.parametrize("place", ["1/10001", "0/3", "x/3", "1/999999999999", ""])
def test_a_place_that_cannot_be_makes_no_workflow(place: str) -> None:
    assert head_of(step(7, "s", place)) is None


def test_the_largest_workflow_takes_little_and_its_state_is_soon_told() -> None:
    graph = Graph(1, MOST, "x")
    row = row_of(step(1, "s", "1/1", "succeeded", begun=5, took=1))
    graph.take(list(graph.ids), [row] * MOST)
    assert (graph.state, graph.over) == ("succeeded", MOST)
    assert len(graph._states) + len(graph._started) * 8 + len(graph._finished) * 8 < 180_000

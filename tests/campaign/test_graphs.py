"""Kill -9 of the daemon, ten times, in the midst of a graph of tasks (graphs.py), and that it would be seen if a callback were missed."""

from __future__ import annotations

import random

import pytest

from tests.campaign.graphs import FULL_EVERY, KILLS, SUITE, graph_of
from tests.campaign.suite import apart

pytestmark = [pytest.mark.flow, pytest.mark.slow, pytest.mark.timeout(600)]


def test_every_task_of_a_graph_ends_once_and_in_order_through_ten_kills() -> None:
    seed = FULL_EVERY * random.randrange(1, 1 << 30) + 1  # none of full size
    report = apart(SUITE, seed, SUITE.in_tests)
    assert (report.violations, report.cycles) == ([], SUITE.in_tests)
    assert report.counts["tasks"] > 1000
    assert report.counts["kills"] >= KILLS
    assert report.counts["midst"] > 3


def test_a_planted_bug_is_caught() -> None:
    assert apart(SUITE, 1, 1, "release_put_off").violations


def test_a_graph_holds_every_way_to_wait_and_to_end() -> None:
    graph = graph_of(random.Random(1), 40, 20, 600)
    ends = graph.ends()
    assert {ends[at] for at, node in enumerate(graph.nodes) if node.failed} == {"succeeded", "cancelled"}
    assert {ends[at] for at, node in enumerate(graph.nodes) if node.policy == "fail"} == {"succeeded", "failed"}
    assert {ends[at] for at, node in enumerate(graph.nodes) if node.kind == "gather"} == {"succeeded", "cancelled"}
    assert sum(graph.hub in node.after for node in graph.nodes) == 600

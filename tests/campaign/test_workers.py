"""Workers that die, run out of memory or hang (workers.py), and that it would be seen if their tasks were run twice at once."""

from __future__ import annotations

import random

import pytest

from tests.campaign.suite import apart
from tests.campaign.workers import SUITE, WAYS

pytestmark = [pytest.mark.flow, pytest.mark.slow, pytest.mark.timeout(600)]


def test_no_way_to_lose_a_worker_costs_anything_but_its_task_an_attempt() -> None:
    report = apart(SUITE, random.randrange(1, 1 << 32), SUITE.in_tests)
    assert (report.violations, report.cycles) == ([], SUITE.in_tests)
    assert report.counts["deaths"] >= SUITE.in_tests


def test_a_planted_bug_is_caught() -> None:
    """A task that ignores its end is run again while it still runs."""
    report = apart(SUITE, len(WAYS) + WAYS.index("ignores_term"), 1, "requeue_before_reap")
    assert any("expected its run before to be over" in line for line in report.violations)

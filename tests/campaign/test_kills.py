"""Kill -9 of the daemon at random moments, under load (kills.py), and that it would be seen if that lost something."""

from __future__ import annotations

import random

import pytest

from tests.campaign.kills import SUITE
from tests.campaign.suite import apart

pytestmark = [pytest.mark.flow, pytest.mark.slow, pytest.mark.timeout(600)]


def test_nothing_accepted_is_lost_and_nothing_survives_kills_at_any_moment() -> None:
    report = apart(SUITE, random.randrange(1, 1 << 32), SUITE.in_tests)
    assert (report.violations, report.cycles) == ([], SUITE.in_tests)
    assert report.counts["tasks"] > 10 * report.cycles


@pytest.mark.parametrize(("bug", "cycles"), [("index_skipped", 5)])
def test_a_planted_bug_is_caught(bug: str, cycles: int) -> None:
    assert apart(SUITE, 1, cycles, bug).violations

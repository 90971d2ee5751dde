"""A short soak (soak.py), and that an instance which holds ever more would be seen."""

from __future__ import annotations

import random

import pytest

from tests.campaign.soak import LIVES, run

pytestmark = [pytest.mark.flow, pytest.mark.slow, pytest.mark.timeout(300)]


def test_an_instance_holds_no_more_after_much_work_than_after_little() -> None:
    report = run(LIVES * random.randrange(1, 1 << 28) + LIVES - 2, 4, seconds=2)  # its third cycle ends with a death
    assert report.violations == []
    assert report.counts["tasks"] > 4 * 2 * 200
    assert report.counts["deaths"] == 1


def test_a_planted_bug_is_caught() -> None:
    report = run(1, 3, "answers_hoarded", seconds=2)
    assert any("expected daemon to stay at" in line for line in report.violations)

"""Storms of failing, killing and hanging tasks (storms.py), and that it would be seen if one of them ran twice at once."""

from __future__ import annotations

import random

import pytest

from tests.campaign.storms import STORMS, SUITE
from tests.campaign.suite import apart

pytestmark = [pytest.mark.flow, pytest.mark.slow, pytest.mark.timeout(600)]


def test_every_storm_passes_and_its_dead_letters_are_bounded() -> None:
    report = apart(SUITE, random.randrange(1, 1 << 32), len(STORMS))
    assert (report.violations, report.cycles) == ([], len(STORMS))
    assert report.counts["dead_letters"] > 100


def test_a_planted_bug_is_caught() -> None:
    """The task of storm 14 ignores its end."""
    report = apart(SUITE, 14, 1, "requeue_before_reap")
    assert any("expected its run before to be over" in line for line in report.violations)

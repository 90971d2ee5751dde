"""Each signal in each phase of a daemon's life (shutdowns.py), and that it would be seen if a SIGKILL lost what was accepted."""

from __future__ import annotations

import random

import pytest

from tests.campaign.shutdowns import COMBINED, SUITE
from tests.campaign.suite import apart

pytestmark = [pytest.mark.flow, pytest.mark.slow, pytest.mark.timeout(600)]


def test_an_end_in_any_phase_is_clean_loses_nothing_and_charges_nobody() -> None:
    report = apart(SUITE, random.randrange(1, 1 << 32), SUITE.in_tests)
    assert (report.violations, report.cycles) == ([], SUITE.in_tests)
    assert report.counts["tasks"] > 10 * report.cycles


def test_a_planted_bug_is_caught() -> None:
    report = apart(SUITE, COMBINED.index(("idle", "KILL")), 1, "answer_before_commit")
    assert any("accepted tasks on disk, lost" in line for line in report.violations)

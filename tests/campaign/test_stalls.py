"""A loop that fails, is slow or does not turn any more (stalls.py), and that it would be seen if nobody watched it."""

from __future__ import annotations

import random

import pytest

from tests.campaign.stalls import FAULTS, SUITE
from tests.campaign.suite import apart

pytestmark = [pytest.mark.flow, pytest.mark.slow, pytest.mark.timeout(600)]


def test_a_daemon_whose_loop_is_in_trouble_says_so_and_lets_nobody_wait() -> None:
    report = apart(SUITE, random.randrange(1, 1 << 32), len(FAULTS))
    assert (report.violations, report.cycles) == ([], len(FAULTS))


def test_a_planted_bug_is_caught() -> None:
    report = apart(SUITE, len(FAULTS) + FAULTS.index("stuck"), 1, "watchdog_asleep")
    assert any("expected an end within" in line for line in report.violations)

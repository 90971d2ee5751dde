"""Every call that changes a file fails (errors.py): no false answer, and words for whoever reads them."""

from __future__ import annotations

import random

import pytest

from tests.campaign.errors import KINDS, SUITE
from tests.campaign.suite import apart

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300), pytest.mark.usefixtures("compiler")]


def test_no_call_that_fails_makes_a_false_answer_or_a_damaged_store() -> None:
    report = apart(SUITE, random.randrange(1, 1 << 20) * len(KINDS) + random.randrange(len(KINDS)), SUITE.per_change)
    assert report.violations == []
    assert report.counts["faults"] > 150 * report.cycles


@pytest.mark.parametrize("bug", SUITE.sees)
def test_a_planted_bug_is_caught_in_one_session(bug: str) -> None:
    assert apart(SUITE, 0, 1, bug).violations

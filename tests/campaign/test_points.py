"""The store is killed at every call that changes a file (points.py), and it would be seen if that lost something."""

from __future__ import annotations

import random

import pytest

from tests.campaign.points import SUITE
from tests.campaign.suite import apart

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300), pytest.mark.usefixtures("compiler")]


def test_a_store_killed_at_any_call_that_changes_a_file_keeps_what_it_has_answered() -> None:
    report = apart(SUITE, random.randrange(1, 1 << 32), SUITE.in_tests)
    assert report.violations == []
    assert report.counts["calls"] > 250
    assert report.counts["kills"] > 1.5 * report.counts["calls"]


@pytest.mark.parametrize("bug", SUITE.sees)
def test_a_planted_bug_is_caught_in_one_session(bug: str) -> None:
    assert apart(SUITE, 1, 1, bug).violations


def test_an_answer_before_its_sync_is_told_as_such() -> None:
    assert any("synced before its answer" in line for line in apart(SUITE, 1, 1, "sync_off").violations)

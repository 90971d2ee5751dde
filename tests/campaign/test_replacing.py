"""The store is compacted and restored under kill -9 at every call (replacing.py), and a loss would be seen."""

from __future__ import annotations

import random

import pytest

from tests.campaign.replacing import SUITE
from tests.campaign.suite import apart

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300), pytest.mark.usefixtures("compiler")]


def test_a_compaction_or_a_restore_that_is_killed_or_fails_or_loses_power_at_any_call_leaves_the_old_store_or_the_new_one() -> None:
    report = apart(SUITE, random.randrange(1, 1 << 32), SUITE.in_tests)
    assert report.violations == []
    assert report.counts["points"] > 250
    assert report.counts["images"] > 100


@pytest.mark.parametrize(("bug", "says"), [("switch_unnoted", "expected the store as it was"), ("names_unsynced", "power cut")])
def test_a_planted_bug_is_caught(bug: str, says: str) -> None:
    assert any(says in line for line in apart(SUITE, 1, 1, bug).violations)

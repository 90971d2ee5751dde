"""The stores against their model (model.py), and that it would be seen if one of them differed."""

from __future__ import annotations

import random

import pytest

from tests.campaign.model import SUITE
from tests.campaign.suite import apart

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


def test_the_stores_are_the_model_through_every_history() -> None:
    report = apart(SUITE, random.randrange(1, 1 << 32), SUITE.in_tests)
    assert (report.violations, report.cycles) == ([], SUITE.in_tests)
    assert min(report.counts["memory"], report.counts["lmdb"]) >= report.cycles // 3


@pytest.mark.parametrize(("bug", "cycles"), [("index_skipped", 50), ("token_ignored", 400)])
def test_a_planted_bug_is_caught(bug: str, cycles: int) -> None:
    assert apart(SUITE, 200, cycles, bug).violations


@pytest.mark.parametrize(
    ("bug", "seed"),
    [
        ("loan_refused", 200),
        ("standing_unwritten", 1),
        ("running_uncounted", 200),
        ("tokens_refilled", 200),
        ("places_from_behind", 200),
        ("waits_kept", 201),
    ],
)
def test_a_planted_bug_of_flow_control_is_caught(bug: str, seed: int) -> None:
    """In few histories: most of the time goes into the start of the process."""
    assert apart(SUITE, seed, 60, bug).violations

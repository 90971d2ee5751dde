"""The planted bugs and the suites that see them."""

from __future__ import annotations

import pytest

from tests.campaign.__main__ import SUITES, suite
from tests.campaign.planted import BUGS

LOSING = (
    "answer_before_commit",
    "sync_off",
    "token_ignored",
    "index_skipped",
    "claim_before_commit",
    "requeue_before_reap",
    "release_put_off",
)


@pytest.mark.parametrize("bug", LOSING)
def test_every_bug_that_would_lose_a_task_is_seen_by_two_suites(bug: str) -> None:
    """That they do see it is shown beside each suite."""
    assert len([name for name in SUITES if bug in suite(name).sees]) >= 2


def test_no_suite_claims_to_see_what_is_not_planted() -> None:
    assert {bug for name in SUITES for bug in suite(name).sees} <= set(BUGS)

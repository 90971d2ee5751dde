"""Full queues, maps and disks refuse new tasks and are drained to nothing (full.py), and it would be seen if they were not."""

from __future__ import annotations

import os
import random
import shutil

import pytest

from tests.campaign.full import SUITE, on_a_full_disk, with_a_limit_of_files
from tests.campaign.suite import apart

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]
ROOT_ALONE = pytest.mark.skipif(os.geteuid() != 0 or not shutil.which("unshare"), reason="only root mounts file systems")


def test_a_store_that_was_filled_to_any_limit_is_drained_to_nothing() -> None:
    report = apart(SUITE, random.randrange(1, 1 << 32), SUITE.in_tests)
    assert (report.violations, report.cycles) == ([], SUITE.in_tests)
    assert report.counts["tasks"] > 50 * report.cycles


@pytest.mark.parametrize(("bug", "seed", "cycles"), [("room_unasked", 1, 5), ("ends_unprovided", 60, 20), ("index_skipped", 1, 10)])
def test_a_planted_bug_is_caught(bug: str, seed: int, cycles: int) -> None:
    assert apart(SUITE, seed, cycles, bug).violations


@ROOT_ALONE
@pytest.mark.flow
@pytest.mark.parametrize(
    "kind", ["tmpfs", pytest.param("ext4", marks=pytest.mark.skipif(not shutil.which("mkfs.ext4"), reason="needs mkfs.ext4"))]
)
def test_on_a_disk_that_others_fill_tasks_end_and_come_in_again_when_there_is_room(kind: str) -> None:
    assert on_a_full_disk(kind, 2) == []


@pytest.mark.flow
def test_where_no_file_may_grow_tasks_end_and_come_in_again() -> None:
    assert with_a_limit_of_files(2) == []

"""Damaged data files (damage.py), and the data directories of released versions (versions.py)."""

from __future__ import annotations

import subprocess
import tarfile
from pathlib import Path

import pytest

from tests.campaign.damage import SUITE
from tests.campaign.session import DATA, LIMITS
from tests.campaign.suite import apart, plain_env, python
from tests.campaign.versions import fixtures, lay_down, make, missing, shown
from tests.tq.broker_driver import Driver
from tq.store.files import FORMAT, open_store
from tq.store.verify import verify


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_damaged_file_is_refused_with_words_or_read_rightly_and_never_changed() -> None:
    report = apart(SUITE, 1, SUITE.in_tests)  # a change meets the same damage; the campaign goes on to other
    assert (report.violations, report.cycles) == ([], SUITE.in_tests)
    assert report.counts["refused"] > 0


@pytest.mark.slow
@pytest.mark.parametrize("bug", SUITE.sees)
def test_a_planted_bug_is_caught_in_a_hundred_damaged_files(bug: str) -> None:
    assert apart(SUITE, 1, 100, bug).violations


# released versions


@pytest.mark.parametrize("fixture", fixtures(), ids=lambda path: path.name.removesuffix(".tar.xz"))
def test_a_data_directory_of_a_released_version_is_whole_shows_the_same_and_goes_on(fixture: Path, tmp_path: Path) -> None:
    before = lay_down(fixture, tmp_path)
    assert verify(tmp_path / DATA) == []
    assert missing(before, shown(tmp_path / DATA)) == []
    d = Driver("lmdb", tmp_path / DATA / "store", LIMITS)
    d.now += 1_000_000
    held = len(d.store.held())
    interrupted, released = d.broker.recover(lambda task_id, claim: True, d.now)
    assert 0 < interrupted + released <= held
    (new,) = d.add(queue="new")
    d.ask("set_queue", name="ends", paused=False)
    for _ in range(10):
        d.now += 60_000  # leases lapse, retries come due
        tasks = d.grant(500)
        d.broker.settled([d.result(task) for task in tasks])
        d.settle_down()
    assert d.states(new) == ["succeeded"]
    assert {word for word, count in d.ask("stats")["states"].items() if count} <= {
        "succeeded", "failed", "cancelled", "expired", "scheduled", "blocked", "pending",
    }  # fmt: skip
    d.store.close()
    assert verify(tmp_path / DATA) == []


def test_every_kept_version_has_tasks_in_all_states_and_its_own_name() -> None:
    assert fixtures()
    for fixture in fixtures():
        with tarfile.open(fixture) as tar:
            assert set(tar.getnames()) == {f"{DATA}/store/data.mdb", "tasks.json"}


def test_what_would_be_kept_of_this_version_reads_as_it_was_shown(tmp_path: Path) -> None:
    make(tmp_path)
    assert verify(tmp_path / DATA) == []


def test_a_loss_between_versions_would_be_seen() -> None:
    old = {"tasks": {"1": {"state": "pending", "attempts": [{"outcome": "failed"}]}}}
    assert missing(old, {"tasks": {"1": {"state": "pending", "attempts": [{"outcome": "failed", "new": 1}]}}, "more": 1}) == []
    assert missing(old, {"tasks": {}}) != []
    assert missing(old, {"tasks": {"1": {"state": "pending", "attempts": []}}}) != []


@pytest.mark.flow
def test_a_data_directory_of_a_newer_version_is_refused_with_words_and_left_as_it_is(tmp_path: Path) -> None:
    lay_down(fixtures()[-1], tmp_path)
    (tmp_path / DATA).chmod(0o700)
    env, dbs = open_store(tmp_path / DATA / "store")
    with env.begin(write=True) as txn:
        txn.put(b"format", b"%d" % (int(FORMAT) + 1), db=dbs["meta"])
    env.close()
    before = (tmp_path / DATA / "store" / "data.mdb").read_bytes()
    for command in (
        ["tq.daemon", "--foreground", "--data-dir", str(tmp_path / DATA)],
        ["tq", "--data-dir", str(tmp_path / DATA), "verify"],
    ):
        done = subprocess.run(python("-m", *command), env=plain_env(), capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode != 0
        assert "Traceback" not in done.stderr
        assert f"expected store format {FORMAT.decode()} or older, got {int(FORMAT) + 1}. Use the tq that wrote it." in done.stderr
    assert (tmp_path / DATA / "store" / "data.mdb").read_bytes() == before

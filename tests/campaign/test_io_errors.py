"""Every call that changes a file fails (errors.py): no false answer, and words for who reads them; and whole daemons on such disks."""

from __future__ import annotations

import errno
import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.campaign import shim
from tests.campaign.errors import KINDS, SUITE
from tests.campaign.suite import apart, plain_env
from tests.living import Daemon
from tq.client import Client
from tq.daemon import EXIT_STORE
from tq.errors import DaemonError, Refused
from tq.store.verify import verify

pytestmark = [pytest.mark.timeout(300), pytest.mark.usefixtures("compiler")]


@pytest.mark.slow
def test_no_call_that_fails_makes_a_false_answer_or_a_damaged_store() -> None:
    report = apart(SUITE, random.randrange(1, 1 << 20) * len(KINDS) + random.randrange(len(KINDS)), SUITE.in_tests)
    assert report.violations == []
    assert report.counts["faults"] > 150 * report.cycles


@pytest.mark.slow
@pytest.mark.parametrize("bug", SUITE.sees)
def test_a_planted_bug_is_caught_in_one_session(bug: str) -> None:
    assert apart(SUITE, 0, 1, bug).violations


# a whole daemon


class Sick:
    """A daemon whose store's disk fails from the moment that ``fails`` is there."""

    def __init__(self, where: Path, library: Path, code: int) -> None:
        self.data_dir, self.fails = where / "d", where / "fails"
        fault = f"{shim.FAIL} 1 {code} 1"
        faulty = {"LD_PRELOAD": str(library), "SHIM_DIR": str(self.data_dir / "store"), "SHIM_FAULT": fault, "SHIM_GATE": str(self.fails)}
        self.daemon = Daemon(self.data_dir, plain_env(**faulty), workers=0)
        self.daemon.start()
        self.accepted: list[int] = []

    def send(self, client: Client) -> None:
        self.accepted.append(client.enqueue("shell", {"argv": ["true"]}, queue="parked").id)


@pytest.fixture
def library(compiler: None) -> Iterator[Path]:
    with shim.built() as built:
        yield built


@pytest.mark.flow
def test_a_daemon_whose_disk_fails_ends_rather_than_lies_and_the_next_has_all_that_was_accepted(tmp_path: Path, library: Path) -> None:
    sick = Sick(tmp_path, library, errno.EIO)
    try:
        with Client(sick.data_dir) as client:
            for _ in range(5):
                sick.send(client)
            sick.fails.touch()
            with pytest.raises(DaemonError):
                sick.send(client)
        assert sick.daemon.process.wait(20) == EXIT_STORE
        assert "the store cannot be written" in sick.daemon.log()
        assert verify(sick.data_dir) == []
        sick.fails.unlink()
        sick.daemon.start()
        with Client(sick.data_dir) as client:
            assert [client.get(one)["state"] for one in sick.accepted] == ["pending"] * 5
    finally:
        assert sick.daemon.end() == []


@pytest.mark.flow
@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT])
def test_a_daemon_whose_disk_is_full_refuses_goes_on_and_recovers_without_a_restart(tmp_path: Path, library: Path, code: int) -> None:
    sick = Sick(tmp_path, library, code)
    try:
        with Client(sick.data_dir) as client:
            sick.send(client)
            sick.fails.touch()
            for _ in range(3):
                with pytest.raises(Refused, match="has no room"):
                    sick.send(client)
            assert client.stats()["states"]["pending"] == 1
            sick.fails.unlink()
            sick.send(client)
            assert client.stats()["states"]["pending"] == len(sick.accepted) == 2
        assert sick.daemon.stop() == 0
        assert verify(sick.data_dir) == []
    finally:
        assert sick.daemon.end() == []

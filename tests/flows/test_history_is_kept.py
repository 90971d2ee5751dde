"""What the daemon knows of the past: true to what ran, there again after a restart, and paid for by nobody who sleeps."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.living import wake_ups
from tq.client import Client
from tq.errors import NotAllowed
from tq.history import WHOLE, History

FILE = "history.bin"
Tq = Callable[..., subprocess.CompletedProcess[str]]

pytestmark = pytest.mark.flow


def total(tq: Tq, name: str, *more: str) -> int:
    """What the last two minutes had of it."""
    done = tq("stats", "--history", "2m", "--json", *more)
    assert done.returncode == 0, done.stderr
    return sum(json.loads(line)[name] or 0 for line in done.stdout.splitlines())


def kept(data_dir: Path) -> list[int]:
    """What the file has of the last hour: added, succeeded, failed, retried."""
    history = History()
    history.restore((data_dir / FILE).read_bytes())
    return history.lately(WHOLE, 60, int(time.time() * 1000))


def test_what_ran_is_what_the_history_says(daemon: Any, tq: Tq, until: Any) -> None:
    daemon(workers=1)
    assert tq("add", "-q", "mail", "--wait", "--", "true").returncode == 0
    assert tq("add", "-q", "mail", "--wait", "--", "sh", "-c", "exit 3").returncode == 3
    assert tq("add", "--wait", "--", "true").returncode == 0
    until(lambda: (total(tq, "added"), total(tq, "succeeded"), total(tq, "failed")) == (3, 2, 1), 10, "the second in which it was is over")
    assert (total(tq, "added", "--queue", "mail"), total(tq, "failed", "--queue", "default")) == (2, 0)
    wrong = tq("stats", "--history", "1m", "--queue", "nobody")
    assert wrong.returncode == 2
    assert "expected one that there is, got 'nobody'" in wrong.stderr
    told = json.loads(tq("daemon", "status", "--json").stdout)["attention"]
    assert [one["key"] for one in told] == ["tasks_dead"]
    assert "1 failed for good in the last hour, in queue mail" in tq("daemon", "status").stdout


def test_a_restart_keeps_the_minutes(daemon: Any, tq: Tq, client: Client, data_dir: Path) -> None:
    one = daemon(workers=1)
    assert tq("add", "--wait", "--", "false").returncode == 1
    one.stop()
    assert (data_dir / FILE).stat().st_mode & 0o777 == 0o600
    assert kept(data_dir) == [1, 0, 1, 0]
    one.start()
    assert [line["what"] for line in client.attention()] == ["1 failed for good in the last hour, in queue default"]
    assert set(client.history(1, limit=600)["series"]["failed"][:-60]) == {None}  # of seconds, none are kept
    assert tq("add", "--wait", "--", "true").returncode == 0
    one.stop()
    assert kept(data_dir) == [2, 1, 1, 0]


def test_a_daemon_that_is_killed_loses_what_was_not_written_and_no_more(daemon: Any, tq: Tq, client: Client, data_dir: Path) -> None:
    one = daemon(workers=1)
    assert tq("add", "--wait", "--", "false").returncode == 1
    one.stop()
    one.start()
    assert tq("add", "--wait", "--", "true").returncode == 0
    one.kill()
    one.start()
    assert client.stats()["completed"] == 1
    assert [line["key"] for line in client.attention()] == ["tasks_dead"]
    one.stop()
    assert kept(data_dir) == [1, 0, 1, 0]


@pytest.mark.parametrize("harm", ["damaged", "foreign", "empty"])
def test_a_file_that_cannot_be_read_costs_the_past_and_nothing_else(daemon: Any, tq: Tq, data_dir: Path, harm: str) -> None:
    one = daemon(workers=1)
    assert tq("add", "--wait", "--", "true").returncode == 0
    one.stop()
    data = (data_dir / FILE).read_bytes()
    (data_dir / FILE).write_bytes({"damaged": data[:-1] + bytes([data[-1] ^ 1]), "foreign": b"SQLite format 3\0" * 50, "empty": b""}[harm])
    one.start()
    assert tq("add", "--wait", "--", "true").returncode == 0
    one.stop()
    assert one.words.read_text().count("history_left_out") == 1
    assert (data_dir / FILE).read_bytes().startswith(b"tq history")
    assert tq("verify").returncode == 0


def test_an_idle_daemon_is_not_woken_for_it(daemon: Any, tq: Tq) -> None:
    one = daemon(workers=1)
    assert tq("add", "--wait", "--", "true").returncode == 0
    assert wake_ups(one.pid) <= 4
    filled = tq("stats", "--history", "5s", "--json").stdout.splitlines()
    assert [(json.loads(line)["added"], json.loads(line)["pending"]) for line in filled[1:]] == [(0, 0)] * 4


def test_a_client_that_only_reads_is_refused_what_would_change_something(daemon: Any, data_dir: Path) -> None:
    daemon(workers=1)
    with Client(data_dir, read_only=True) as reader, Client(data_dir) as writer:
        task = writer.enqueue("shell", b"", allow_unknown=True, delay="1h").id
        assert reader.get(task)["state"] == "scheduled"
        with pytest.raises(NotAllowed, match="only reads"):
            reader.cancel(task)
        with pytest.raises(NotAllowed):
            reader.enqueue("shell", b"", allow_unknown=True)
        assert reader.get(task)["state"] == "scheduled"
        assert writer.cancel(task) == ["cancelled"]

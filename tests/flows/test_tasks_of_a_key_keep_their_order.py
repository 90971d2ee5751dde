"""Ordering keys with real workers: one of a key at a time and in order, over retries, failures and a kill -9 of the daemon."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tq.client import Client

pytestmark = [pytest.mark.flow, pytest.mark.timeout(300)]

Tq = Callable[..., subprocess.CompletedProcess[str]]


def _id(done: subprocess.CompletedProcess[str]) -> str:
    assert done.returncode == 0, done.stderr
    return done.stdout.split()[-1]


def _sh(text: str) -> dict[str, list[str]]:
    return {"argv": ["sh", "-c", text]}


def test_a_failure_holds_up_its_key_until_it_is_retried_or_given_up(tq: Tq, daemon: Any, tmp_path: Path) -> None:
    daemon(workers=2)
    out, mended = tmp_path / "out", tmp_path / "mended"
    first = _id(tq("add", "--order-key", "acct-1", "--", "sh", "-c", f"test -e {mended} && echo first >> {out}"))
    second = _id(tq("add", "--order-key", "acct-1", "--priority", "high", "--", "sh", "-c", f"echo second >> {out}"))
    other = _id(tq("add", "--order-key", "acct-2", "--", "true"))
    assert tq("wait", first).returncode == 1
    assert tq("wait", other).returncode == 0
    words = tq("why", second).stdout
    assert f"is blocked: 1 of ordering key acct-1 go before it, first of them task {first} (failed)." in words
    assert f"`tq why {first}`" in words
    words = tq("why", first).stdout
    assert "is failed: 1 more of ordering key acct-1 wait for it; it failed for good" in words
    assert f"`tq retry {first}` runs it again, `tq cancel {first}` lets the others go on." in words
    assert "ordering key    acct-1\n" in tq("show", second).stdout
    row = json.loads(tq("show", second, "--json").stdout)
    assert (row["order"], row["order_on_failure"], row["state"]) == ("acct-1", "block", "blocked")
    assert tq("list", "order-key:acct-1", "--json").stdout.count("\n") == 2
    mended.touch()
    tq("retry", first)
    assert tq("wait", second).returncode == 0
    assert out.read_text() == "first\nsecond\n"
    third = _id(tq("add", "--order-key", "acct-1", "--", "false"))
    last = _id(tq("add", "--order-key", "acct-1", "--", "true"))
    assert tq("wait", third).returncode == 1
    assert tq("cancel", third).returncode == 0
    assert tq("wait", last).returncode == 0
    assert tq("status", third).stdout.count("cancelled") == 1


def test_a_batch_and_a_schedule_have_ordering_keys(tq: Tq, daemon: Any) -> None:
    daemon(workers=1)
    lines = '{"type": "shell", "order_key": "k", "order_on_failure": "continue"}\n' * 2
    assert tq("enqueue", "--batch", "-", "--in", "1h", input=lines).stdout == "1\n2\n"
    assert [json.loads(tq("show", task, "--json").stdout)["state"] for task in "12"] == ["scheduled", "blocked"]
    tq("schedule", "add", "night", "--cron", "0 3 * * *", "--order-key", "k", "--", "true")
    assert _id(tq("schedule", "run", "night")) == "3"
    assert json.loads(tq("show", "3", "--json").stdout)["state"] == "blocked"
    assert tq("add", "--order-on-failure", "block", "--", "true").returncode == 2


@pytest.mark.slow
def test_keys_keep_their_order_when_the_daemon_is_killed_again_and_again(
    daemon: Callable[..., Any], client: Client, rows: Callable[..., Any], until: Callable[..., Any], tmp_path: Path
) -> None:
    one = daemon(workers=2)
    keys, each = 5, 12
    out = [tmp_path / f"out{key}" for key in range(keys)]
    tasks = []
    for number in range(each):
        for key in range(keys):
            text = f"test ! -e {out[key]}.busy && touch {out[key]}.busy && sleep 0.02; echo {number} >> {out[key]}; rm -f {out[key]}.busy"
            tasks.append(client.enqueue("shell", _sh(text), order_key=f"k{key}", priority=number % 3, retries=2, delay=(number % 4) * 0.05))
    for at in (8, 20, 35):
        until(lambda at=at: sum(len(path.read_text().split()) for path in out if path.exists()) >= at, 60, f"{at} runs")
        one.kill()
        for path in out:
            path.with_name(path.name + ".busy").unlink(missing_ok=True)
        one.start()
    found = rows([task.id for task in tasks], 120)
    assert {row["state"] for row in found} == {"succeeded"}
    for path in out:
        numbers = [int(word) for word in path.read_text().split()]
        assert numbers == sorted(numbers)  # one that was cut short may have written its line twice
        assert set(numbers) == set(range(each))

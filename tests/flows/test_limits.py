"""Limits with a real daemon and real workers: windows over a restart, those of the settings file, and one that follows the work."""

from __future__ import annotations

import signal
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tq.client import Client

pytestmark = [pytest.mark.flow, pytest.mark.timeout(120)]

Tq = Callable[..., subprocess.CompletedProcess[str]]
Until = Callable[..., Any]


def limits(client: Client) -> dict[str, Any]:
    return {row["name"]: row for row in client.limits()}


def test_a_window_lets_no_more_go_over_a_restart(daemon: Any, app: str, client: Client, tq: Tq, until: Until) -> None:
    one = daemon(app=app, workers=2)
    assert tq("limit", "set", "few", "--type", "noop", "--rate", "3/h", "--window", "sliding").returncode == 0
    ids = client.enqueue_many([("noop", None)] * 9)
    until(lambda: client.stats()["completed"] == 3, what="the window is used up")
    one.end()
    one.start()
    assert "is pending: limit few (3/h sliding) of type noop is reached until " in tq("why", str(ids[3])).stdout
    assert client.stats()["completed"] == 3
    assert tq("limit", "set", "few", "--rate", "5/h").returncode == 0
    until(lambda: client.stats()["completed"] == 5, what="two more go")
    assert "3/h sliding" not in tq("limit", "list").stdout
    assert tq("limit", "remove", "few").returncode == 0
    client.wait([ids[-1]], 30)


def test_a_settings_file_says_which_limits_there_are(daemon: Any, client: Client, data_dir: Path, tq: Tq, until: Until) -> None:
    settings = data_dir / "tq.toml"
    settings.write_text("[limits.mail]\ntype = 'email'\nrate = '100/m'\n[limits.shop]\nqueue = 'shop'\nrunning = '1..9'\nadaptive = true\n")
    settings.chmod(0o600)
    one = daemon(workers=1)
    assert {name: (row["rate"], row["running"], row["high"]) for name, row in limits(client).items()} == {
        "mail": (100, 0, 0), "shop": (0, 1, 9),
    }  # fmt: skip
    shown = tq("config", "show").stdout
    assert '[limits."shop"]\nqueue = "shop"' in shown
    said = tq("limit", "set", "mail", "--rate", "7/m")
    assert "the settings file has limit mail" in said.stderr
    settings.write_text("[limits.mail]\ntype = 'email'\nrate = 'fast'\n")
    assert "[limits.mail]: rate: expected so many in a time, such as 500/s, 100/m or 5/10s, got 'fast'" in tq("config", "check").stderr
    one.process.send_signal(signal.SIGHUP)
    settings.write_text("[limits.each]\neach = 'flow'\nrunning = 1\n")
    one.process.send_signal(signal.SIGHUP)
    until(lambda: limits(client).keys() == {"mail", "each"}, what="the file is read again; what a person changed stays")
    rows = {row["key"]: row["value"] for row in client.call("config", {"ask": "get"})["named"]}
    assert rows == {"limits.each.each": "flow", "limits.each.running": "1"}


def test_a_limit_follows_the_work(daemon: Any, app: str, client: Client, tq: Tq, until: Until) -> None:
    daemon(app=app, workers=2)
    assert tq("limit", "set", "slow", "--type", "noop", "--running", "1..20", "--adaptive").returncode == 0
    client.enqueue_many([("noop", None)] * 200)
    until(lambda: limits(client)["slow"]["running"] > 3, what="all goes well: it grows")
    assert "(1..20)" in tq("limit", "list").stdout
    assert "limit_adapted" in tq("events").stdout


def test_each_worker_has_its_share(daemon: Any, app: str, client: Client, tq: Tq, until: Until) -> None:
    daemon(app=app, workers=2)
    assert tq("limit", "set", "here", "--type", "noop", "--each", "worker", "--rate", "3/h", "--window", "sliding").returncode == 0
    until(lambda: len(client.workers()) == 2 and all(row["state"] == "idle" for row in client.workers()), what="both workers are there")
    ids = client.enqueue_many([("noop", None)] * 9)
    client.wait([client.enqueue("nap", {"seconds": 0.0}).id], 30)
    until(lambda: client.stats()["completed"] == 7, what="three on each worker, and what has no limit")
    assert {one["of"]: one["reached"] for one in limits(client)["here"]["used"]} == {"w1": True, "w2": True}
    assert "limit here (3/h sliding, on each worker) of type noop is reached until " in tq("why", str(ids[-1])).stdout
    assert tq("limit", "remove", "here").returncode == 0
    client.wait(list(ids), 30)

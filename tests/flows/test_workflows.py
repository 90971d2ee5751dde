"""Workflows and graphs with real workers: from a file, from Python, through failures and kills."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.living import ROOT, unmeasured
from tq.client import Client

pytestmark = pytest.mark.flow

Tq = Callable[..., subprocess.CompletedProcess[str]]
FILE = """
name = "deploy"

[steps.tell]
after_any = "test"
command = "echo told"

[steps.build]
command = ["echo", "built"]

[steps.test]
after = ["build"]
map = ["unit", "flows", "a b"]
command = 'test -e {gate} -o {} = unit && echo {} "$TQ_PARENTS"'

[steps.undo]
after-failure = "ship"
command = "false"

[steps.ship]
after = "test"
command = ["true"]
timeout = "1m"
"""


def test_a_file_is_run_shown_and_run_again_from_where_it_broke(tq: Tq, daemon: Any, tmp_path: Path) -> None:
    daemon(workers=2)
    gate, file = tmp_path / "gate", tmp_path / "deploy.toml"
    file.write_text(FILE.replace("{gate}", str(gate)))
    done = tq("workflow", "run", str(file), "--wait")
    assert (done.returncode, done.stdout) == (1, "1\n")
    shown = tq("workflow", "show", "4").stdout.splitlines()
    assert shown[0].startswith("workflow 1  deploy  failed  7 tasks  ")
    assert [line.split()[0] for line in shown[1:]] == [
        "build", "test", "test[1]", "test[2]", "tell", "ship", "undo",
    ]  # fmt: skip
    assert "    test  2-4  1 succeeded, 2 failed  " in shown[2]
    assert any(line.startswith("      ship  6  cancelled  -  ParentFailed: expected task ") for line in shown)
    assert "        undo  7  left out  -" in shown
    gate.touch()
    assert "workflow 1: 5 tasks run again" in tq("workflow", "retry", "3").stderr  # the two, tell, ship and undo
    assert tq("wait", "3", "4", "5", "6").returncode == 0
    shown = tq("workflow", "show", "1").stdout.splitlines()
    assert shown[0].startswith("workflow 1  deploy  succeeded  7 tasks  ")
    assert tq("log", "4").stdout == "a b 1\n"  # the item is one argument, and the parent's id is known
    rows = [json.loads(line) for line in tq("workflow", "show", "1", "--json").stdout.splitlines()]
    assert [(row["step"], row["attempt"]) for row in rows] == [
        ("build", 1), ("test[0]", 1), ("test[1]", 2), ("test[2]", 2), ("tell", 2), ("ship", 1), ("undo", 0),
    ]  # fmt: skip
    assert tq("workflow", "retry", "1").returncode == 75
    (listed,) = [json.loads(line) for line in tq("workflow", "list", "--name", "deploy", "--json").stdout.splitlines()]
    assert (listed["id"], listed["state"], listed["over"]) == (1, "succeeded", 7)
    assert tq("workflow", "list", "--name", "none").stderr.startswith("no workflows")
    assert tq("workflow", "show", "99").returncode == 66
    lone = tq("add", "--in", "1h", "--", "true").stdout.strip()
    assert tq("workflow", "show", lone).returncode == 66
    file.write_text('name = "later"\n[steps.first]\nin = "1h"\ncommand = "true"\n[steps.then]\nafter = "first"\ncommand = "true"\n')
    later = tq("workflow", "run", str(file)).stdout.strip()
    assert "2 tasks are cancelled" in tq("workflow", "cancel", later).stderr
    assert tq("workflow", "list").stdout.splitlines()[1].split()[:3] == [later, "later", "cancelled"]


def test_the_nightly_report_retries_what_failed_and_tells_the_total(daemon: Any, data_dir: Path, tmp_path: Path) -> None:
    daemon(app=str(ROOT / "examples" / "nightly_report.py"), workers=2)
    words = [sys.executable, "examples/nightly_report.py", str(tmp_path / "report")]
    env = unmeasured(TQ_DATA_DIR=str(data_dir))
    done = subprocess.run(words, cwd=ROOT, env=env, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == "workflow 1: succeeded\nthe report is there, 499500 in all\n"
    assert (tmp_path / "report" / "report.txt").read_text() == "coffee 249500\ntea 250000\n"
    with Client(data_dir) as q:
        assert [row["attempt"] for row in q.list(type="report.transform")].count(2) == 1


def test_every_task_of_a_graph_ends_once_though_the_daemon_is_killed(daemon: Any, data_dir: Path, until: Any, tmp_path: Path) -> None:
    layers, wide, account = 12, 5, tmp_path / "account"
    one = daemon(app="tests.flows.tasks_for_flows", workers=2)
    rows: list[Any] = []
    for layer in range(layers):
        after = [-1 - (layer - 1) * wide - at for at in range(wide)] if layer else []
        rows += [("note", {"path": str(account)}, {"after": after, "retries": 9})] * wide

    def ends() -> int:
        with Client(data_dir) as q:
            return int(q.stats()["states"]["succeeded"])

    with Client(data_dir) as q:
        ids = q.enqueue_graph(rows)
    for kills in range(1, 4):
        until(lambda kills=kills: ends() >= 10 * kills)
        one.kill()
        one.start()
    with Client(data_dir) as q:
        found = q.wait(ids, 60)
    assert [row["state"] for row in found if row] == ["succeeded"] * layers * wide
    begun = [int(line.split()[0]) for line in account.read_text().splitlines()]
    last = {task_id: at for at, task_id in enumerate(begun)}
    for at, task_id in enumerate(ids[wide:], wide):  # no task began before all of those that it waits for
        first = (at // wide - 1) * wide
        assert all(last[parent] < begun.index(task_id) for parent in ids[first : first + wide])

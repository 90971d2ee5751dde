"""Batches of tasks with real workers: the example, commands, and callbacks that come once though the daemon is killed again and again."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.living import unmeasured
from tq.client import Client

ROOT = Path(__file__).resolve().parents[2]
pytestmark = pytest.mark.flow
KILLS = 4


def test_the_example_adds_from_inside_and_sends_the_success_after_its_retry(daemon: Any, data_dir: Path, tmp_path: Path) -> None:
    daemon(app=str(ROOT / "examples" / "batch_import.py"), workers=2)
    words = [sys.executable, "examples/batch_import.py", str(tmp_path / "import")]
    env = unmeasured(TQ_DATA_DIR=str(data_dir))
    done = subprocess.run(words, cwd=ROOT, env=env, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == "batch 1: 14 succeeded, 1 failed\nbatch 1: 15 succeeded, 0 failed\n"
    told = (tmp_path / "import" / "told.txt").read_text().splitlines()
    assert sorted(line.partition(":")[0] for line in told) == ["a part failed", "all in", "all over"]
    assert "all in: 15 of 15" in told


def test_commands_join_a_batch_from_the_shell_and_from_inside(daemon: Any, data_dir: Path, tq: Any, tmp_path: Path) -> None:
    daemon(workers=2)
    told = tmp_path / "told"
    number = tq("batch", "create", "build", "--on-success", f'echo "batch $TQ_BATCH is in" >>{told}', "--on-failure", f"echo bad >>{told}")
    number = number.stdout.strip()
    inner = f"{sys.executable} -m tq --data-dir {data_dir} add --in-batch $TQ_BATCH -- true"
    assert tq("add", "--in-batch", number, "--shell", "--", inner).returncode == 0
    assert tq("run", "--in-batch", number, "--", "true").returncode == 0
    assert tq("batch", "close", number).returncode == 0
    assert tq("batch", "wait", number, "--timeout", "30s").returncode == 0
    with Client(data_dir) as q:
        row = q.get_batch(int(number)).progress()
        assert (row["total"], row["succeeded"]) == (3, 3)
        q.wait([row["callbacks"]["on_success"][1]], 30)
    assert told.read_text() == f"batch {number} is in\n"
    done = tq("add", "--in-batch", number, "--", "true")
    assert (done.returncode, done.stdout) == (2, "")
    assert "it is complete" in done.stderr
    assert tq("batch", "show", "99").returncode == 66
    assert "complete  3 of 3 over" in tq("batch", "show", number).stdout


def test_no_callback_is_missed_or_doubled_though_the_daemon_is_killed(
    daemon: Any, data_dir: Path, until: Any, tmp_path: Path, tq: Any
) -> None:
    batches, members = 12, 8
    one = daemon(app="tests.flows.tasks_for_flows", workers=2)
    account = tmp_path / "account"
    options = {"retries": 9}

    def ends() -> int:
        with Client(data_dir) as q:
            return int(q.stats()["states"]["succeeded"])

    made: list[int] = []
    with Client(data_dir) as q:
        for at in range(batches):
            calls = {word: ("note", {"path": f"{account}-{word}"}, options) for word in ("on_complete", "on_success", "on_failure")}
            with q.batch(f"b{at}", **calls) as batch:
                batch.enqueue_many([("note", {"path": str(account), "sleep": 0.02}, options)] * members)
                if at % 3 == 0:
                    batch.enqueue("note", {"path": str(tmp_path / "nowhere" / "x")}, retries=0)
            made.append(batch.id)
    for kills in range(1, KILLS + 1):
        until(lambda kills=kills: ends() >= batches * members * kills // (KILLS + 1))
        one.kill()
        one.start()
    with Client(data_dir) as q:
        rows = [q.get_batch(number).wait(60) for number in made]
        bad = [at % 3 == 0 for at in range(batches)]
        assert [(row["total"], row["succeeded"], row["failed"]) for row in rows] == [(members + one, members, one) for one in map(int, bad)]
        sent = [{word: task_id for word, (_, task_id) in row["callbacks"].items() if task_id} for row in rows]
        assert [set(calls) for calls in sent] == [{"on_complete", "on_failure" if one else "on_success"} for one in bad]
        ids = [task_id for calls in sent for task_id in calls.values()]
        assert len(set(ids)) == 2 * batches
        assert [row["state"] for row in q.wait(ids, 60) if row] == ["succeeded"] * len(ids)
        assert q.stats()["states"]["succeeded"] == batches * members + len(ids)
    assert tq("verify").returncode == 0

"""The command line and a real daemon: its life, autostart, commands run as tasks, batches."""

from __future__ import annotations

import asyncio
import json
import signal
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from tests.living import unmeasured
from tq.client import AsyncClient, Client, start_daemon, stop_daemon
from tq.errors import ConfigError, DaemonStartError, TaskFailed

pytestmark = pytest.mark.flow

Tq = Callable[..., subprocess.CompletedProcess[str]]

APP = """
import tq

@tq.task
def add(a: int, b: int = 0) -> int:
    print("adding")
    return a + b

@tq.task("boom")
def explode() -> None:
    raise ValueError("no good")
"""


@pytest.fixture
def app(tmp_path: Path) -> Path:
    path = tmp_path / "sums.py"
    path.write_text(APP)
    return path


def test_a_daemon_is_started_asked_restarted_and_stopped(tq: Tq, data_dir: Path, app: Path) -> None:
    started = tq("daemon", "start", "--app", app, "--workers", "1", "--slots", "2", "--grace", "3s")
    assert (started.returncode, started.stdout) == (0, ""), started.stderr
    first = json.loads(tq("daemon", "status", "--json").stdout)
    assert tq("enqueue", "--type", "add", "--payload", '{"a": 1, "b": 2}', "--wait").stdout == "1\n"

    assert tq("daemon", "log-level", "error").returncode == 0
    quiet = (data_dir / "daemon.log").read_text()
    assert tq("add", "--", "true").returncode == 0
    assert (data_dir / "daemon.log").read_text() == quiet
    refused = tq("daemon", "log-level", "loud")
    assert (refused.returncode, "expected debug, info, warning or error" in refused.stderr) == (2, True)

    second = tq("daemon", "start")
    assert second.returncode == 69
    assert len(second.stderr.strip().splitlines()) == 1

    good = app.read_text()
    app.write_text("import no_such_module_at_all\n")
    refused = tq("daemon", "restart")
    assert refused.returncode == 2
    assert "no_such_module_at_all" in refused.stderr
    assert json.loads(tq("daemon", "status", "--json").stdout)["pid"] == first["pid"]

    app.write_text(good)
    assert tq("daemon", "restart").returncode == 0
    again = json.loads(tq("daemon", "status", "--json").stdout)
    assert again["pid"] != first["pid"]
    assert again["options"] == first["options"]
    assert tq("result", "1").stdout == "3\n"

    assert tq("daemon", "stop").returncode == 0
    assert tq("daemon", "status").returncode == 69
    assert tq("daemon", "stop").returncode == 69


def test_an_application_that_does_not_import_is_shown_and_nothing_runs(tq: Tq, data_dir: Path, app: Path) -> None:
    app.write_text("raise RuntimeError('half written')\n")
    done = tq("daemon", "start", "--app", app)
    assert done.returncode == 2
    assert "RuntimeError: half written" in done.stderr
    assert tq("daemon", "status").returncode == 69


def test_the_first_add_starts_a_daemon_and_says_so_in_one_line(tq: Tq) -> None:
    done = tq("add", "--wait", "--", "true")
    assert (done.returncode, done.stdout) == (0, "1\n"), done.stderr
    assert done.stderr.startswith("tq: started a daemon for ")
    assert len(done.stderr.splitlines()) == 1
    assert tq("add", "--wait", "--", "false").stderr == "tq: task 2 failed: ExitCode: exit code 1\n"


def test_commands_that_start_a_daemon_at_the_same_time_get_one(tq: Tq) -> None:
    with ThreadPoolExecutor(4) as pool:
        done = list(pool.map(lambda n: tq("add", "--", "true"), range(4)))
    assert [one.returncode for one in done] == [0] * 4, [one.stderr for one in done]
    assert sorted(one.stdout for one in done) == ["1\n", "2\n", "3\n", "4\n"]
    assert sum("started a daemon" in one.stderr for one in done) == 1


def test_run_shows_both_streams_and_ends_with_the_commands_code(tq: Tq, daemon: Any, data_dir: Path, tmp_path: Path) -> None:
    daemon()
    script = 'echo "out $HERE"; echo err >&2; pwd; umask; exit 3'
    words = ["sh", "-c", f'cd "{tmp_path}" && umask 027 && HERE=there exec "{sys.executable}" -m tq run -- sh -c \'{script}\'']
    env = unmeasured(TQ_DATA_DIR=str(data_dir))
    done = subprocess.run(words, env=env, capture_output=True, text=True, timeout=30, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (3, f"out there\n{tmp_path}\n0027\n", "err\n")
    assert tq("log", "@last").stdout == done.stdout
    assert tq("run", "--", "no-such-command-here").returncode == 127
    assert tq("run", "--timeout", "0.2s", "--", "sleep", "30").returncode == 124


def test_ctrl_c_of_run_ends_the_command_and_exits_130(tq: Tq, daemon: Any, data_dir: Path) -> None:
    daemon()
    env = unmeasured(TQ_DATA_DIR=str(data_dir))
    words = [sys.executable, "-m", "tq", "run", "--", "sh", "-c", "echo begun; exec sleep 60"]
    with subprocess.Popen(words, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "begun\n"
        process.send_signal(signal.SIGINT)
        assert process.wait(20) == 130
    assert json.loads(tq("status", "1", "--json").stdout)["state"] == "cancelled"


def test_a_batch_is_stored_and_done(tq: Tq, daemon: Any, app: Path) -> None:
    daemon(app=app)
    lines = "".join(json.dumps({"type": "add", "payload": {"a": n}}) + "\n" for n in range(1200))
    done = tq("enqueue", "--batch", "-", "--wait", input=lines)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == [str(n) for n in range(1, 1201)]
    assert tq("result", "1200").stdout == "1199\n"
    stats = json.loads(tq("stats", "--json").stdout)
    assert (stats["completed"], stats["queues"]["default"]["completed"]) == (1200, 1200)
    assert json.loads(tq("list", "--limit", "1", "--json").stdout)["id"] == 1200


def test_peek_shows_what_a_busy_daemon_runs_next(tq: Tq, daemon: Any, until: Any) -> None:
    daemon(workers=1)
    assert tq("add", "--", "sleep", "60").stdout == "1\n"
    until(lambda: json.loads(tq("status", "1", "--json").stdout)["state"] == "running")
    for priority in ("low", "critical", "5"):
        assert tq("add", "-p", priority, "--", "true").returncode == 0
    assert [json.loads(line)["id"] for line in tq("peek", "--json").stdout.splitlines()] == [4, 3, 2]
    assert "asked to end" in tq("cancel", "1").stderr
    assert tq("wait", "1", "2", "--timeout", "20s").returncode == 143


def test_cancel_pause_and_resume(tq: Tq, daemon: Any) -> None:
    daemon()
    assert tq("queue", "pause", "default").returncode == 0
    for _ in range(3):
        assert tq("add", "--", "true").returncode == 0
    assert tq("cancel", "1").returncode == 0
    assert tq("wait", "1").returncode == 143
    assert tq("cancel", "77").returncode == 66
    assert tq("wait", "2", "--timeout", "0.1").returncode == 124
    assert tq("queue", "resume", "default").returncode == 0
    assert tq("wait", "2", "3", "--timeout", "20s").returncode == 0
    assert "paused" not in tq("queue", "list").stdout


def test_an_unknown_type_names_the_known_and_the_closest(tq: Tq, daemon: Any, app: Path) -> None:
    daemon(app=app)
    done = tq("enqueue", "--type", "ad", "--payload", "{}")
    assert (done.returncode, done.stdout) == (2, "")
    assert "add, boom, shell" in done.stderr
    assert "'add'" in done.stderr.partition("mean")[2]
    assert tq("enqueue", "--type", "later", "--allow-unknown").returncode == 0


async def _async_flow(data_dir: Path) -> list[Any]:
    async with AsyncClient(data_dir) as client:
        handles = [await client.enqueue("add", [n, 1]) for n in range(20)]
        return [await handle.result(20) for handle in handles]


def test_programs_start_use_and_stop_a_daemon_of_their_own(data_dir: Path, app: Path, until: Any) -> None:
    pid = start_daemon(data_dir, str(app), workers=1)
    try:
        with Client(data_dir) as client:
            assert client.status()["pid"] == pid
            handle = client.enqueue("add", {"a": 2, "b": 3})
            assert handle.result("20s") == 5
            assert handle.log() == "adding\n"
            with pytest.raises(TaskFailed, match=r"ValueError: no good"):
                client.enqueue("boom").result(20)
            assert asyncio.run(_async_flow(data_dir)) == list(range(1, 21))
            with closing(client.watch(["ends"])) as events:
                last = client.enqueue("add", [1], delay="0.3s").id
                assert next(event for event in events if event["id"] == last)["state"] == "succeeded"
            with pytest.raises(DaemonStartError) as caught:
                start_daemon(data_dir)
            assert caught.value.exit_code == 69
    finally:
        with Client(data_dir) as client:
            assert stop_daemon(client) == pid
    until(lambda: not Path(f"/proc/{pid}").exists())


def test_a_directory_that_others_may_write_is_refused_before_anything_starts(data_dir: Path) -> None:
    data_dir.chmod(0o777)
    with pytest.raises(ConfigError, match=r"writ"):
        start_daemon(data_dir)

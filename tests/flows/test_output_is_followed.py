"""What a task prints is seen while it runs: by the wire's ``watch``, by ``tq log -f`` and by ``tq run``."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.living import unmeasured
from tq.client import Client

pytestmark = pytest.mark.flow

Until = Callable[..., Any]


def script(gate: Path) -> list[str]:
    """A command that says one thing, waits for the gate, says another and ends with 3."""
    return ["sh", "-c", f"echo first; echo wrong >&2; while [ ! -e {gate} ]; do sleep 0.01; done; echo last; exit 3"]


class Follower:
    """Follows a task on a thread, as a person would."""

    def __init__(self, data_dir: Path, task_id: int, offset: int = 0) -> None:
        self.events: list[dict[str, Any]] = []
        self._thread = threading.Thread(target=self._follow, args=(data_dir, task_id, offset))
        self._thread.start()

    def _follow(self, data_dir: Path, task_id: int, offset: int) -> None:
        with Client(data_dir) as q:
            for event in q.watch(["output"], [task_id], offset=offset):
                self.events.append(event)
                if event["end"]:
                    return

    def text(self, stream: int = 1) -> str:
        return b"".join(data for event in self.events for _, one, data in event["chunks"] if one == stream).decode()

    def finish(self) -> None:
        self._thread.join(20)
        assert not self._thread.is_alive()


def test_lines_arrive_while_the_command_runs_and_the_end_after_the_last(
    daemon: Callable[..., Any], client: Client, data_dir: Path, gate: Path, until: Until
) -> None:
    daemon(workers=1)
    task = client.enqueue("shell", {"argv": script(gate)})
    follower = Follower(data_dir, task.id)
    until(lambda: follower.text(1) == "first\n" and follower.text(2) == "wrong\n", what="what it said so far")
    assert client.get(task.id)["state"] == "running"
    gate.touch()
    follower.finish()
    assert follower.text(1) == "first\nlast\n"
    assert [event["end"] for event in follower.events][-1] is True
    assert not any(event["end"] for event in follower.events[:-1])
    assert client.get(task.id)["exit_code"] == 3


def test_what_a_function_prints_is_followed_before_it_returns(
    daemon: Callable[..., Any], app: str, client: Client, data_dir: Path, gate: Path, until: Until
) -> None:
    daemon(app=app, workers=1)
    task = client.enqueue("speaks", {"lines": 3, "gate": str(gate)})
    follower = Follower(data_dir, task.id)
    until(lambda: follower.text() == "line 0\nline 1\n", what="two lines")
    gate.touch()
    follower.finish()
    assert follower.text() == "line 0\nline 1\nline 2\n" == task.log()


def test_with_several_slots_each_task_has_its_own_output(
    daemon: Callable[..., Any], app: str, client: Client, data_dir: Path, gate: Path, until: Until
) -> None:
    daemon(app=app, workers=1, slots=4)
    tasks = [client.enqueue("speaks", {"lines": lines, "gate": str(gate)}) for lines in (2, 3, 4)]
    followers = [Follower(data_dir, task.id) for task in tasks]
    until(lambda: [one.text().count("line") for one in followers] == [1, 2, 3], what="what they said so far")
    gate.touch()
    for follower, lines in zip(followers, (2, 3, 4), strict=True):
        follower.finish()
        assert follower.text() == "".join(f"line {number}\n" for number in range(lines))


def test_many_may_follow_one_task_from_anywhere_and_one_that_leaves_disturbs_nobody(
    daemon: Callable[..., Any], client: Client, data_dir: Path, gate: Path, until: Until
) -> None:
    daemon(workers=1)
    task = client.enqueue("shell", {"argv": script(gate)})
    first = Follower(data_dir, task.id)
    until(lambda: "first" in first.text() and "wrong" in first.text(2), what="what it said so far")
    with Client(data_dir) as q:
        leaving: Iterator[Any] = q.watch(["output"], [task.id])
        next(leaving)
        leaving.close()  # type: ignore[attr-defined]
    late = Follower(data_dir, task.id, offset=first.events[-1]["next"])
    gate.touch()
    first.finish()
    late.finish()
    assert first.text() == "first\nlast\n"
    assert late.text() == "last\n"


def test_a_task_that_is_over_is_followed_to_its_end_at_once(daemon: Callable[..., Any], client: Client, data_dir: Path) -> None:
    daemon(workers=1)
    task = client.enqueue("shell", {"argv": ["sh", "-c", "echo here"]})
    task.wait(20)
    follower = Follower(data_dir, task.id)
    follower.finish()
    assert follower.text() == "here\n"


def test_output_that_is_more_than_a_log_keeps_says_how_much_was_dropped(daemon: Callable[..., Any], client: Client, data_dir: Path) -> None:
    daemon(workers=1)
    task = client.enqueue("shell", {"argv": ["sh", "-c", "echo begin; head -c 3000000 /dev/zero | tr '\\0' x; echo; echo finish"]})
    assert task.wait(30) == "succeeded"
    text = task.log()
    assert text.startswith("begin\n")
    assert text.endswith("finish\n")
    assert len(text) <= 1 << 20
    notes = [data.decode() for _, stream, data in client.log_chunks(task.id) if stream == 0]
    assert any("dropped" in note for note in notes), notes


def test_run_streams_both_outputs_and_ends_with_the_commands_own_code(daemon: Callable[..., Any], data_dir: Path, gate: Path) -> None:
    daemon(workers=1)
    argv = [sys.executable, "-m", "tq", "run", "--", *script(gate)]
    env = unmeasured(TQ_DATA_DIR=str(data_dir))
    with subprocess.Popen(argv, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as run:
        assert run.stdout is not None
        assert run.stderr is not None
        assert run.stdout.readline() == "first\n"  # while the command still runs
        assert run.poll() is None
        gate.touch()
        assert run.stdout.read() == "last\n"
        assert "wrong\n" in run.stderr.read()
        assert run.wait(20) == 3


def test_log_follow_ends_with_the_task(daemon: Callable[..., Any], client: Client, data_dir: Path, gate: Path) -> None:
    daemon(workers=1)
    task = client.enqueue("shell", {"argv": script(gate)})
    argv = [sys.executable, "-m", "tq", "log", str(task.id), "--follow"]
    env = unmeasured(TQ_DATA_DIR=str(data_dir))
    with subprocess.Popen(argv, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as log:
        assert log.stdout is not None
        assert log.stderr is not None
        assert log.stdout.readline() == "first\n"
        gate.touch()
        assert log.stdout.read() == "last\n"
        assert "wrong\n" in log.stderr.read()
        assert log.wait(20) == 0


@pytest.mark.parametrize("refused", ["__init__", "watch"], ids=["instances", "watches"])
def test_a_daemon_that_gets_no_more_of_inotify_is_followed_all_the_same_and_lives_on(
    daemon: Callable[..., Any], client: Client, data_dir: Path, gate: Path, tmp_path: Path, until: Until, refused: str
) -> None:
    (tmp_path / "unwatching.py").write_text(
        "import errno, os, sys\n"
        "from tq.api import follow\n"
        "from tq.daemon import main\n"
        "def none(*_): raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))\n"
        f"follow._Inotify.{refused} = none\n"
        "if __name__ == '__main__': sys.exit(main())\n"
    )
    one = daemon(workers=1, env={"PYTHONPATH": os.pathsep.join([str(tmp_path), os.environ["PYTHONPATH"]])})
    one.stop()
    one.module = ["unwatching"]
    one.start()
    task = client.enqueue("shell", {"argv": script(gate)})
    followers = [Follower(data_dir, task.id) for _ in range(2)]
    until(lambda: all(each.text() == "first\n" for each in followers), what="what it said so far")
    assert client.get(task.id)["state"] == "running"
    gate.touch()
    for each in followers:
        each.finish()
        assert each.text() == "first\nlast\n"
    assert one.process.poll() is None
    assert one.stop() == 0


@pytest.mark.parametrize("verb", ["run", "log"])
def test_a_follower_goes_on_when_the_daemon_is_killed_and_another_comes(
    daemon: Callable[..., Any], client: Client, data_dir: Path, gate: Path, tmp_path: Path, until: Until, verb: str
) -> None:
    first = daemon(workers=1)
    loop = f"n=0; while [ ! -e {gate} ]; do n=$((n+1)); echo $TQ_ATTEMPT.$n; sleep 0.01; done; echo last; exit 3"
    shown = tmp_path / "shown"
    if verb == "log":
        task = client.enqueue("shell", {"argv": ["sh", "-c", loop]}).id
        argv = ["log", "--follow", str(task)]
    else:
        argv = ["run", "--", "sh", "-c", loop]
    env = unmeasured(TQ_DATA_DIR=str(data_dir))
    with (
        shown.open("wb") as file,
        subprocess.Popen([sys.executable, "-m", "tq", *argv], env=env, stdout=file, stderr=subprocess.PIPE, text=True) as follower,
    ):
        until(lambda: shown.read_text().count("\n") > 5, what="its first lines")
        first.kill()
        first.start()
        until(lambda: "2.5\n" in shown.read_text(), what="lines of the second attempt")
        gate.touch()
        assert follower.wait(20) == (3 if verb == "run" else 0), follower.stderr.read() if follower.stderr else ""
    lines = shown.read_text().splitlines()
    assert lines == client.log(client.list()[0]["id"]).splitlines()
    assert len(lines) == len(set(lines))
    assert lines[-1] == "last"

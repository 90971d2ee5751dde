"""How a command is to be run: the options, what they become, and what a real daemon makes of it."""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.living import unmeasured
from tq.cli.command import command_task, extras_of, words_of
from tq.client import connect
from tq.environment import ENVIRONMENT_KEY
from tq.errors import UsageError
from tq.model import unpack
from tq.store.files import open_store

Tq = Callable[..., subprocess.CompletedProcess[str]]


def test_what_is_not_said_is_as_the_sender_has_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    extras = extras_of({})
    assert (extras["cwd"], extras["env"]["PATH"]) == (str(tmp_path), os.environ["PATH"])
    assert extras["limits"]["nofile"] == resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    assert extras.keys() == {"cwd", "env", "umask", "limits"}


@pytest.mark.parametrize("clean", [False, True])
def test_a_task_that_adds_tasks_does_not_give_them_what_was_for_it_alone(monkeypatch: pytest.MonkeyPatch, clean: bool) -> None:
    alike = []
    for n in range(2):
        for name in ("TQ_COMMAND", "TQ_TASK_ID", "TQ_ATTEMPT", "TQ_PARENTS", "TQ_BATCH"):
            monkeypatch.setenv(name, str(n))
        monkeypatch.setenv("TQ_DATA_DIR", "/where/it/runs")
        alike.append(extras_of({"clean_env": clean})["env"])
    assert alike[0] == alike[1]  # one environment in the store, however many tasks add some
    assert alike[0].get("TQ_DATA_DIR") == (None if clean else "/where/it/runs")


def test_each_option_becomes_an_extra(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SECRET_OF_MINE", "x")
    extras = extras_of({
        "cwd": "below/it", "env": ["A=b=c", "B="], "clean_env": True, "ok_codes": "0, 2,255", "nice": "10", "ionice": "best-effort:7",
        "max_memory": "1M", "cpu_time": "1.2s",
    })  # fmt: skip
    assert (extras["cwd"], extras["set"], extras["ok"]) == (f"{tmp_path}/below/it", {"A": "b=c", "B": ""}, [0, 2, 255])
    assert (extras["nice"], extras["io"], extras["limits"]["as"], extras["limits"]["cpu"]) == (10, [2, 7], [1 << 20, 1 << 20], [2, 7])
    assert "SECRET_OF_MINE" not in extras["env"]
    assert extras_of({"cwd": "/"})["cwd"] == "/"
    assert (extras_of({"ionice": "idle"})["io"], extras_of({"ionice": "2"})["io"]) == ([3, None], [2, 4])


def test_a_line_for_the_shell_is_one_word(monkeypatch: pytest.MonkeyPatch) -> None:
    assert words_of({"shell": True, "command": ["ls | wc -l"]}) == ("/bin/sh", "-c", "ls | wc -l")
    with pytest.raises(UsageError, match="expected one line in quotes, got 2 words"):
        words_of({"shell": True, "command": ["ls", "-l"]})


def test_words_and_names_that_are_no_utf_8_travel_as_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ODD", os.fsdecode(b"\xff"))
    kind, payload, options = command_task({"command": ["echo", os.fsdecode(b"a\xff"), "", "b\nc"], "env": [os.fsdecode(b"N\xfe=v")]})
    assert (kind, unpack(payload)) == ("shell", {"argv": ["echo", b"a\xff", "", "b\nc"]})
    assert (options["extras"]["env"]["ODD"], options["extras"]["set"]) == (b"\xff", {b"N\xfe": "v"})


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"cwd": ""}, "--cwd: expected a directory"),
        ({"env": ["A"]}, "--env: expected NAME=VALUE, got one without ="),
        ({"env": ["=b"]}, "--env: expected NAME=VALUE, got one without a name"),
        ({"ok_codes": "0,x"}, "--ok-codes: expected a whole number"),
        ({"ok_codes": "256"}, "--ok-codes: expected exit codes from 0 to 255"),
        ({"ok_codes": ""}, "--ok-codes"),
        ({"nice": "20"}, "--nice: expected a number from -20 to 19"),
        ({"ionice": "idle:3"}, "--ionice: expected idle"),
        ({"ionice": "best-effort:8"}, "--ionice: expected idle"),
        ({"max_memory": "lots"}, "--max-memory: expected a size"),
        ({"max_memory": "0"}, "--max-memory: expected a size above 0"),
        ({"cpu_time": "0"}, "--cpu-time: expected more than nothing"),
    ],
)
def test_a_value_that_cannot_be_used_names_its_option(values: dict[str, Any], words: str) -> None:
    with pytest.raises(UsageError) as caught:
        extras_of(values)
    assert words in caught.value.message


def test_how_a_command_is_run_needs_a_command(run: Callable[..., tuple[int, str, str]]) -> None:
    code, _, err = run("schedule", "add", "x", "--every", "1h", "--type", "report", "--cwd", "/")
    assert (code, "--cwd: expected a command after --" in err) == (2, True)


@pytest.mark.flow
def test_a_command_runs_as_the_options_say(tq: Tq, tmp_path: Path) -> None:
    assert tq("daemon", "start", "--workers", "1").returncode == 0
    line = tq(
        "run",
        "--shell",
        "--cwd",
        tmp_path,
        "--env",
        "WHO=me",
        "--clean-env",
        "--",
        'pwd | tr a-z A-Z; echo "$WHO $HOME"; env | grep -c TQ_',
    )
    assert (line.returncode, line.stdout) == (0, f"{str(tmp_path).upper()}\nme {os.environ['HOME']}\n4\n"), line.stderr
    priority = os.getpriority(os.PRIO_PROCESS, 0)
    how = tq("run", "--nice", "2", "--ionice", "idle", "--max-memory", "1G", "--cpu-time", "9s", "--shell", "--",
             "nice; ionice -p $$; ulimit -v; ulimit -t")  # fmt: skip
    assert how.stdout.split() == [str(min(priority + 2, 19)), "idle", "1048576", "9"], how.stderr


@pytest.mark.flow
def test_umask_and_limits_are_the_senders(tq: Tq, data_dir: Path) -> None:
    assert tq("daemon", "start", "--workers", "1").returncode == 0
    line = f"umask 027; ulimit -n 99; ulimit -c 0; exec '{sys.executable}' -m tq run -- sh -c 'umask; ulimit -n; ulimit -c'"
    env = unmeasured(TQ_DATA_DIR=str(data_dir))
    done = subprocess.run(["sh", "-c", line], env=env, capture_output=True, text=True, timeout=30, check=False)
    assert (done.stdout.split(), done.stderr) == (["0027", "99", "0"], "")
    plain = tq("run", "--", "sh", "-c", "ulimit -n; ulimit -c").stdout.split()
    limits = (resource.getrlimit(resource.RLIMIT_NOFILE)[0], resource.getrlimit(resource.RLIMIT_CORE)[0])
    assert plain[0] == ("unlimited" if limits[0] < 0 else str(limits[0])), "the daemon asks for more for itself, not for commands"


@pytest.mark.flow
def test_an_exit_code_that_is_a_success_leaves_no_failure(tq: Tq) -> None:
    assert tq("daemon", "start", "--workers", "1").returncode == 0
    done = tq("run", "--ok-codes", "0,2", "--retries", "3", "--", "sh", "-c", "exit 2")
    assert (done.returncode, done.stderr) == (2, ""), "run gives the command's own code"
    shown = json.loads(tq("show", "@last", "--json").stdout)
    assert (shown["state"], shown["exit_code"], shown["attempt"], shown["error"]) == ("succeeded", 2, 1, None)
    assert tq("wait", "@last").returncode == 0
    assert json.loads(tq("stats", "--json").stdout)["completed"] == 1
    again = tq("run", "--ok-codes", "2", "--", "sh", "-c", "exit 3")
    assert (again.returncode, json.loads(tq("show", "@last", "--json").stdout)["state"]) == (3, "failed")


@pytest.mark.flow
def test_a_line_of_a_batch_may_be_a_command(tq: Tq, tmp_path: Path) -> None:
    assert tq("daemon", "start", "--workers", "1").returncode == 0
    lines = [
        {"command": ["sh", "-c", 'echo "$0 $A"; pwd', "é"], "env": {"A": "b"}, "cwd": str(tmp_path)},
        {"command": "exit 4 | exit 2", "shell": True, "ok_codes": [2], "label": "odd"},
    ]
    done = tq("enqueue", "--batch", "-", "--wait", input="".join(f"{json.dumps(line)}\n" for line in lines))
    first, second = done.stdout.split()
    assert (done.returncode, tq("log", first).stdout) == (0, f"é b\n{tmp_path}\n"), done.stderr
    shown = json.loads(tq("show", second, "--json").stdout)
    assert (shown["exit_code"], shown["label"], shown["payload"]) == (2, "odd", {"argv": ["/bin/sh", "-c", "exit 4 | exit 2"]})
    for line, words in (
        ({"command": "ls"}, "expected a list of words"),
        ({"command": ["ls"], "type": "x"}, 'expected either a "command" or a "type"'),
        ({"type": "shell", "cwd": "/"}, 'line 1: cwd: expected a "command" beside it'),
        ({"command": [], "nice": 1}, "expected a command"),
        ({"command": ["ls"], "nice": 30}, "line 1: --nice: expected a number"),
    ):
        bad = tq("enqueue", "--batch", "-", input=json.dumps(line))
        assert (bad.returncode, words in bad.stderr) == (2, True), bad.stderr


@pytest.mark.flow
def test_a_line_for_the_shell_gets_each_argument_as_its_first_and_never_as_a_program(tq: Tq) -> None:
    assert tq("daemon", "start", "--workers", "1").returncode == 0
    ids = tq("add", "--each", "--shell", "--wait", "--", 'echo "got $1" | tr a-z A-Z', input="$(touch x)\nb c\n").stdout.split()
    assert [tq("log", one).stdout for one in ids] == ["GOT $(TOUCH X)\n", "GOT B C\n"]
    assert 'expected "$1"' in tq("add", "--each", "--shell", "--", "rm {}", input="x\n").stderr


@pytest.mark.flow
def test_what_looks_secret_reaches_the_command_and_no_view(tq: Tq, data_dir: Path) -> None:
    assert tq("daemon", "start", "--workers", "1", "--log-level", "debug").returncode == 0
    env = {"MY_TOKEN": "hush-1", "DATABASE": "postgres://me:hush-2@host/db", "PLAIN": "seen"}
    words = ("--env", "API_KEY=hush-3", "--env", "MORE=shown", "--", "sh", "-c", "case $MY_TOKEN:$API_KEY in h*-1:h*-3) exit 5;; esac")
    assert tq("run", *words, env=env).returncode == 5
    assert tq("schedule", "add", "night", "--every", "1h", *words, env=env).returncode == 0
    shown = json.loads(tq("show", "@last", "--json").stdout)
    assert {name: shown["how"]["env"][name] for name in env} == {"MY_TOKEN": "***", "DATABASE": "***", "PLAIN": "seen"}
    assert shown["how"]["set"] == {"API_KEY": "***", "MORE": "shown"}
    assert "API_KEY=***  MORE=shown" in tq("show", "@last").stdout
    views = ["show @last", "show @last --json", "list --json", "status @last --json", "events", "events --json", "events @last --json"]
    views += ["schedule show night --json", "schedule show night", "dead list --json", "why @last --json", "log @last"]
    for view in views:
        seen = tq(*view.split())
        assert (seen.returncode, "hush" in seen.stdout + seen.stderr) == (0, False), view
    assert "hush" not in (data_dir / "daemon.log").read_text()
    with connect(data_dir) as client:
        told = client.call("schedules", {"name": "night"})["schedules"][0]["options"]["extras"]
        assert (told["env"]["MY_TOKEN"], told["set"]["API_KEY"]) == ("***", "***")


@pytest.mark.flow
def test_a_schedules_commands_and_a_consumer_get_the_whole_environment(tq: Tq, data_dir: Path) -> None:
    assert tq("daemon", "start", "--workers", "1").returncode == 0
    assert tq("schedule", "add", "night", "--every", "1h", "--", "sh", "-c", "echo $MARK", env={"MARK": "here"}).returncode == 0
    assert tq("schedule", "run", "night", "--wait").returncode == 0
    assert tq("log", "@last").stdout == "here\n"
    assert tq("queue", "set", "out", "--external").returncode == 0
    assert tq("add", "-q", "out", "--", "true", env={"MARK": "there"}).returncode == 0
    with connect(data_dir) as client:
        (task,) = client.call("claim", {"queues": ["out"]})["tasks"]
    assert task["extras"]["env"]["MARK"] == "there"


@pytest.mark.flow
def test_an_environment_is_stored_once_and_goes_with_its_last_task(tq: Tq, data_dir: Path) -> None:
    assert tq("daemon", "start", "--workers", "1").returncode == 0
    for mark, count in (("one", 3), ("two", 1)):
        for _ in range(count):
            assert tq("add", "--wait", "--", "true", env={"MARK": mark}).returncode == 0
    assert (environments(data_dir), tq("verify").returncode) == (2, 0)
    assert tq("remove", "4").returncode == 0
    assert environments(data_dir) == 1
    assert tq("remove", "1", "2", "3").returncode == 0
    assert (environments(data_dir), tq("verify").returncode) == (0, 0)


def environments(data_dir: Path) -> int:
    env, dbs = open_store(data_dir / "store", readonly=True)
    with env.begin() as txn:
        found = sum(len(key) == ENVIRONMENT_KEY for key in txn.cursor(dbs["environments"]).iternext(values=False))
    env.close()
    return found

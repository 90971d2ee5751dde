"""What holds for every command: no daemon, values that make no sense, closed and full outputs, Ctrl-C, a place one may not enter."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.living import ROOT, unmeasured
from tq import wire
from tq.cli.options import COMMANDS

Run = Callable[..., tuple[int, str, str]]
ALONE = {"demo", "bench", "verify", "backup", "restore", "compact", "doctor", "config", "service", "completion", "man"}
"""Commands that need no daemon, or bring their own."""
NEEDED = {
    "send": ["--eof"],
    "enqueue": ["--type=x"],
    "edit": ["--priority=3"],
    "dead retry": [],
    "queue set": ["--weight=2"],
    "resource set": ["2"],
    "limit set": ["--rate=5/s"],
    "tenant set": ["--queued=5"],
    "schedule add": ["--every=9s"],
}


WORKFLOW = str(ROOT / "examples" / "deploy.toml")


def words_of(name: str, *options: str) -> list[str]:
    """A command line that makes sense."""
    command = COMMANDS[name]
    command_line = ["--", "true"]
    kinds = {"none": [], "optional": ["1"], "any": ["1"], "some": ["1"], "one": ["1"], "rest": command_line, "named": ["1", *command_line]}
    arguments = kinds[command.takes]
    named = {"list": [], "daemon log-level": ["info"], "schedule import": ["/dev/null"]}
    named |= {"breaker set": ["1", "5 failures"], "workflow run": [WORKFLOW]}
    arguments = named.get(name, arguments)
    return [*name.split(), *(options or NEEDED.get(name, [])), *arguments]


@pytest.mark.parametrize("name", [name for name in COMMANDS if name.split()[0] not in ALONE and name != "daemon start"])
def test_without_a_daemon_a_command_says_so_in_one_line_and_makes_nothing(data_dir: Path, run: Run, name: str) -> None:
    code, out, err = run(*words_of(name))
    assert (code, out) == (69, ""), err
    assert err == f"tq: expected a daemon at {data_dir}/tq.sock, but nobody answers. Start one with `tq daemon start`.\n"
    assert os.listdir(data_dir) == []


# values that make no sense


NO_NUMBER = ("", "soon", "-1", "1.5", "0x10", "1e3", " 3", "٣", "9" * 30)
NO_DURATION = ("", "soon", "-1", "5 x", "nan", "1e300d", "9" * 30)
_NUMBERS = "limit tail attempt tasks workers min_workers max_workers slots min max retries weight aging_share max_tasks burst running"
_PACES = "debounce debounce_most throttle grace wait_for_room "
_DURATIONS = _PACES + "span missed_after delay ttl retry_delay max_delay timeout aging keep older_than newer_than every spread"
_NAMES = "queue type label tenant key unique correlation_id group prefix flow"
BAD: dict[str, tuple[str, ...]] = {
    **dict.fromkeys([*_NUMBERS.split(), "queued", "per_day"], NO_NUMBER),
    **dict.fromkeys(_DURATIONS.split(), NO_DURATION),
    "hold_every": NO_DURATION,
    "history": (*NO_DURATION, "0", "31d"),
    **dict.fromkeys(_NAMES.split(), ("", "\udcff")),
    **dict.fromkeys(("at", "retry_until", "deadline", "start", "until"), ("", "whenever", "25:00", "2030-13-01", "-1")),
    **dict.fromkeys(
        ("backoff", "on_conflict", "on_parent_failure", "log_level", "unset", "clear", "misfire", "overlap", "tz"), ("", "steep", "\udcff")
    ),
    "since": ("", "whenever", "-1", "25:00"),
    **dict.fromkeys(("on_failure", "on_recovery", "on_missed"), ("type:", "\udcff")),
    "cron": ("", "* * *", "61 * * * *", "@restart", "\udcff"),
    "cron_name": ("", "\udcff"),
    "only": ("", "22-6", "24:00-25:00", "09:00-09:00", "\udcff"),
    **dict.fromkeys(("after", "after_any", "after_failure"), ("", "x", "0", "1,", "1.5", "1,@newest", "٣", "9" * 30, "\udcff")),
    "priority": ("", "urgent", "10", "-1", "1.5"),
    **dict.fromkeys(("max_bytes", "max_memory", "max_stdin", "hold_memory", "bytes"), ("", "1X", "-1", "1.5G")),
    "cpu_time": NO_DURATION,
    "rate": ("", "5", "5/", "/s", "x/s", "0/s", "5/x", "-1/s", "5/s/s", "\udcff"),
    "each_of": ("", "queue", "\udcff"),
    "hold_load": ("", "high", "0", "-1", "nan", "inf"),
    "hold_probe": ("", " ", "\udcff"),
    "cwd": ("",),
    "theme": ("", "tq-drak", "\udcff"),
    "charts": ("", "pie", "\udcff"),
    "port": (*NO_NUMBER, "65536", "8080"),  # the last, since without --web there is no port
    "sessions": (*NO_NUMBER, "0", "65"),
    "idle": (*NO_DURATION, "0"),
    "env": ("", "x", "=x"),
    "ok_codes": ("", "x", "256", "1,,2", "-1"),
    "nice": ("", "x", "20", "-21", "1.5", "٣"),
    "ionice": ("", "slow", "idle:1", "best-effort:8", "2:", "realtime:x"),
    "state": ("", "asleep", "failed,asleep"),
    "sort": ("", "-", "colour", "--id", "label", "\udcff"),
    "where": ("", "colour:red", "(state:failed", "age>soon"),
    "meta": ("", "x", "=x", "\udcff=x"),
    "use": (":", "gpu:", ":2", "gpu:x", "gpu:0", "gpu:-1", "\udcff"),
    "route": ("", "a b", "\x07", "\udcff", "x" * 201),
    "payload": ("", "{", "@/nowhere/at/all"),
    "batch": ("", "/nowhere/at/all"),
    "task_id": ("abc", "0", "-1"),
    "data_dir": ("", "/tmp/" + "x" * 120),
}
ANYTHING = {"app": "a module's name, which the daemon looks for", "name": "of a service, which its manager checks"}
FEW = 1
VALUES = [(name, option) for name, command in COMMANDS.items() for option in command.options if option.kind in ("text", "many")]


def test_every_option_has_values_that_make_no_sense_below() -> None:
    assert {option.key for _, option in VALUES} <= BAD.keys() | ANYTHING.keys()


@pytest.mark.parametrize(("name", "option"), VALUES, ids=[f"{name} {option.flags[0]}" for name, option in VALUES])
def test_a_value_that_makes_no_sense_is_one_clear_line_before_anything_is_asked_for(fake: Any, run: Run, name: str, option: Any) -> None:
    fake.verbs["status"] = lambda _: {"pid": 1, "options": {"grace_s": 25.0}}
    more = {
        **{key: ["--unique=u"] for key in ("on_conflict", "debounce", "throttle")},
        "type": ["--payload=1"] if name == "enqueue" else [],
    }.get(option.key, [])
    if name == "enqueue" and option.key not in ("type", "batch"):
        more = [*more, "--type=x"]
    if name.startswith("dead") and option.key == "group" and name == "dead list":
        more = ["--tasks"]
    asks_which = option.key in ("where", "state", "type", "queue", "group", "older_than", "newer_than")
    values = BAD.get(option.key, ())
    first = next(where for where, one in VALUES if one.key == option.key)  # all of them in one command, some in each
    for value in values if name == first else values[:FEW]:
        given = [f"{option.flags[0]}={value}", *more]
        words = [*name.split(), *given] if asks_which and COMMANDS[name].takes == "any" else words_of(name, *given)
        if name == "edit" and asks_which:
            words.append("--priority=3")
        if option.key == "task_id":
            words = words[:-1]
        code, out, err = run(*words)
        assert (code, out) == (2, ""), (value, err)
        assert len(err.splitlines()) == 1, err
        assert err.startswith("tq: "), err
        assert "expected" in err, err
    assert not [verb for _, verb, _ in fake.requests if verb not in ("status", "hello")]


@pytest.mark.parametrize("name", [name for name, one in COMMANDS.items() if one.argument in ("id", "ids") and "worker" not in name])
def test_what_is_no_id_is_refused_before_it_is_sent(fake: Any, run: Run, name: str) -> None:
    for word in ("", "abc", "0", "1.5", "٣", "9" * 30):
        code, out, err = run(*name.split(), *NEEDED.get(name, []), word)
        assert (code, out) == (2, "")
        assert err.startswith("tq: expected ")
        assert len(err.splitlines()) == 1
    assert not fake.requests


@pytest.mark.parametrize(
    "words",
    [
        "queue set NONE --weight=2",
        "resource set NONE 2",
        "resource remove NONE",
        "breaker trip NONE",
        "limit set NONE --queue=q --running=1",
        "limit remove NONE",
        "tenant set NONE --queued=1",
        "tenant remove NONE",
        "tenant show NONE",
        "queue pause \udcff",
        "queue purge NONE",
        "worker drain NONE",
    ],
)
def test_what_names_nothing_is_refused_before_it_is_sent(fake: Any, run: Run, words: str) -> None:
    code, out, err = run(*("" if word == "NONE" else word for word in words.split()))
    assert (code, out) == (2, "")
    assert "expected" in err
    assert not fake.requests


# outputs that are closed or full, as processes


@pytest.fixture
def shell(data_dir: Path) -> Callable[..., tuple[int, str, str]]:
    """``shell('"$@" | head -1', "list")``: a line of a shell with a command of tq in it."""

    def act(line: str, *argv: str, **options: Any) -> tuple[int, str, str]:
        done = subprocess.run(
            ["bash", "-o", "pipefail", "-c", line, "bash", sys.executable, "-m", "tq", *argv],
            env=unmeasured(TQ_DATA_DIR=str(data_dir), TQ_AUTOSTART="0"), stdin=subprocess.DEVNULL, capture_output=True,
            text=True, timeout=60, check=False, **options,
        )  # fmt: skip
        return done.returncode, done.stdout, done.stderr

    return act


@pytest.mark.parametrize(
    "argv", [["status", "1"], ["enqueue", "--type", "x"], ["show", "1"], ["list", "--json"], ["events"], ["run", "--", "x"]]
)
@pytest.mark.parametrize("line", ['"$@" >&-', '"$@" <&- >&- 2>&-'])
def test_streams_that_are_closed_are_no_trouble(fake: Any, shell: Run, argv: list[str], line: str) -> None:
    fake.verbs["events"] = lambda _: {"events": []}
    fake.events = [{"topic": "output", "id": 1, "chunks": [], "next": 0, "end": True}]
    code, out, err = shell(line, *argv)
    assert (code, out) == (0, "")
    assert err == ("" if "2>" in line or argv != ["events"] else "no events yet\n")


def test_a_reader_that_has_seen_enough_ends_a_long_list_without_words(fake: Any, shell: Run, task_row: Any) -> None:
    page = [task_row(n, label="x" * 100) for n in range(1, 101)]
    fake.verbs["find"] = lambda args: {"tasks": page, "next": b"more"}
    code, out, err = shell('"$@" | head -1', "list", "--json", "--limit", "100000")
    assert (code, err) == (141, "")
    assert out.startswith('{"id": 1,')
    assert len(fake.asked("find")) < 100


@pytest.mark.parametrize("argv", [["status", "1"], ["show", "1"], ["list", "--json"], ["--help"]])
def test_an_output_that_is_full_is_said_in_one_line(fake: Any, shell: Run, argv: list[str]) -> None:
    assert shell('"$@" >/dev/full', *argv) == (1, "", "tq: the output cannot be written or read: No space left on device.\n")


def test_a_directory_that_is_gone_or_no_directory_at_all_is_said(fake: Any, shell: Run, tmp_path: Path) -> None:
    line = 'mkdir gone && cd gone && rmdir ../gone && "$@"'
    code, _, err = shell(line, "add", "--", "true", cwd=tmp_path)
    assert (code, err.count("\n")) == (2, 1)
    assert "expected a current directory to run it in" in err
    code, _, err = shell(line, "--data-dir", "x", "stats", cwd=tmp_path)
    assert code == 1
    assert err == "tq: the current directory cannot be written or read: No such file or directory. Change to one that is there.\n"
    for argv in (["stats"], ["list"]):
        code, _, err = shell('"$@"', "--data-dir", "", *argv)
        assert (code, err) == (2, "tq: --data-dir: expected the path of a directory, got nothing. Leave it out for the default one.\n")


# Ctrl-C


@pytest.mark.parametrize(
    ("argv", "verb", "says"),
    [
        (["wait", "1"], "wait", ""),
        (["add", "--wait", "--", "true"], "wait", ""),
        (["list"], "find", ""),
        (["log", "-f", "1"], "watch", ""),
        (["queue", "purge", "mail", "--wait"], "chores", "tq: chore 7 goes on. `tq queue chores` shows how far it is.\n"),
        (["enqueue", "--batch", "-"], "enqueue",
         "tq: interrupted. The tasks whose ids were printed are stored; whether more are, `tq list` shows.\n"),
    ],
)  # fmt: skip
def test_ctrl_c_ends_a_command_with_130_and_says_what_goes_on(
    fake: Any, data_dir: Path, until: Callable[..., Any], argv: list[str], verb: str, says: str
) -> None:
    fake.verbs["remove"] = lambda _: {"chore": 7}
    fake.silent = {verb}
    env = unmeasured(TQ_DATA_DIR=str(data_dir))
    with subprocess.Popen(
        [sys.executable, "-m", "tq", *argv], env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdin is not None
        process.stdin.write('{"type": "x"}\n' * (3000 if "-" in argv else 0))
        process.stdin.flush()
        until(lambda: fake.asked(verb), 20, f"the request to {verb}")
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=20)
    assert (process.returncode, [line for line in err.splitlines(True) if "there already" not in line]) == (130, [says] if says else [])


# a place one may not enter


AS_NOBODY = "setpriv --reuid=65534 --clear-groups"
FORBIDDEN = [["stats"], ["list"], ["add", "--", "true"], ["verify"], ["backup", "/tmp/tq-backup-of-nobody"], ["daemon", "start"]]


@pytest.mark.parametrize("argv", FORBIDDEN)
def test_a_directory_that_one_may_not_enter_is_said_in_one_line(data_dir: Path, tmp_path: Path, shell: Run, argv: list[str]) -> None:
    (data_dir / "store").mkdir()
    (data_dir / "store" / "data.mdb").touch()
    if os.geteuid() == 0:
        if shell(f'{AS_NOBODY} "$@"', "--version", cwd="/")[0] != 0:
            pytest.skip("nobody may not run this Python")
        code, out, err = shell(f'{AS_NOBODY} "$@"', *argv, cwd="/")
    else:
        data_dir.chmod(0)
        try:
            code, out, err = shell('"$@"', *argv)
        finally:
            data_dir.chmod(0o700)
    assert (code, out, err.count("\n")) == (2 if argv == ["daemon", "start"] and os.geteuid() == 0 else 77, "", 1), err
    assert "expected" in err or "cannot be written or read" in err
    assert not (data_dir / wire.SOCKET).exists()

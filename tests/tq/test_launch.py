"""How a command is started: what it finds is what its task says, from its first instruction on."""

from __future__ import annotations

import os
import resource
import shutil
import signal
import sys
from pathlib import Path
from typing import Any

import msgpack
import psutil
import pytest

from tq import launch
from tq.board import Board
from tq.errors import PayloadError
from tq.launch import Launch, launch_of
from tq.model import Header, Spec
from tq.output import OutputWriter
from tq.shell import Command, Ended


def spec(*argv: str | bytes, **extras: Any) -> Spec:
    return Spec(7, Header("shell", extras=extras or None), msgpack.packb({"argv": list(argv)}), 1)


def output_of(started: Launch) -> bytes:
    with started.start({}, stdin=-3, stdout=-1, stderr=-2) as process:
        out, _ = process.communicate(timeout=20)
    return out


def said(*argv: str | bytes, **extras: Any) -> bytes:
    return output_of(launch_of(spec(*argv, **extras)))


def soft(name: str) -> int:
    return resource.getrlimit(launch.LIMITS[name])[0]


def test_words_come_as_they_were_given(tmp_path: Path) -> None:
    words: tuple[str | bytes, ...] = ("", "a\nb", "*", "$HOME", b"\xff\xfe", "--", "é")
    script = "import os, sys; os.write(1, b'|'.join(map(os.fsencode, sys.argv[1:])))"
    assert said(sys.executable, "-c", script, *words) == b"|".join(os.fsencode(word) for word in words)


def test_variables_of_its_own_stand_over_the_environment() -> None:
    assert said("/usr/bin/env", env={"A": "1", "B": "2"}, set={"B": "3", b"C": b"\xff"}) == b"A=1\nB=3\nC=\xff\n"
    assert b"PATH=" in said("/usr/bin/env", set={"B": "3"}), "without an environment of its own it has the worker's"


def test_limits_that_are_the_workers_cost_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(launch, "_limiting", lambda limits: pytest.fail("prlimit was asked for"))
    assert said("true", limits={name: soft(name) for name in launch.LIMITS}) == b""


def test_limits_hold_from_the_first_instruction_on_and_for_what_it_starts() -> None:
    script = "ulimit -n; ulimit -v; (ulimit -t)"
    assert said("sh", "-c", script, limits={"nofile": 77, "as": [1 << 30, 1 << 30], "cpu": [5, 9]}) == b"77\n1048576\n5\n"
    assert said("sh", "-c", "ulimit -Hn", limits={"nofile": 77}).strip() == b"%d" % resource.getrlimit(resource.RLIMIT_NOFILE)[1]


def test_a_limit_above_the_workers_hard_one_is_that() -> None:
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    assert said("sh", "-c", "ulimit -n", limits={"nofile": [hard + 5, hard + 5]}).strip() == b"%d" % hard


def test_a_command_that_takes_too_much_memory_or_time_is_stopped(bench: Any) -> None:
    greedy = bench(sys.executable, "-c", "bytearray(1 << 30)", limits={"as": [1 << 28, 1 << 28]})
    assert (greedy.exit_code, "MemoryError" in bench.output()) == (1, True)
    assert bench("sh", "-c", "while :; do :; done", limits={"cpu": [1, 2]}) == (
        128 + signal.SIGXCPU, f"killed by signal {int(signal.SIGXCPU)} (SIGXCPU)",
    )  # fmt: skip


def test_what_is_not_there_is_said_the_same_way_with_limits(bench: Any, tmp_path: Path) -> None:
    limits = {"nofile": 77}
    assert bench("no-such-command", limits=limits) == (127, "no-such-command: command not found")
    assert bench("sh", cwd=str(tmp_path / "nowhere"), limits=limits).exit_code == 126
    script = tmp_path / "here"
    script.write_text("#!/bin/sh\nulimit -n\n")
    script.chmod(0o755)
    assert bench("./here", cwd=str(tmp_path), limits=limits).exit_code == 0
    assert bench("here", env={"PATH": "."}, cwd=str(tmp_path), limits=limits).exit_code == 0
    assert bench.output().endswith("77\n77\n")


def test_without_prlimit_a_limit_is_an_error_and_nothing_runs(bench: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    real = shutil.which
    monkeypatch.setattr(shutil, "which", lambda word, **more: None if word == "prlimit" else real(word, **more))
    code, why = bench("touch", str(tmp_path / "ran"), limits={"nofile": 77})
    assert (code, "expected prlimit" in why, (tmp_path / "ran").exists()) == (126, True, False)


def test_niceness_and_io_class_are_the_commands_alone() -> None:
    mine = os.getpriority(os.PRIO_PROCESS, 0)
    how = launch_of(spec("sh", "-c", "nice; ionice -p $$", nice=3, io=[2, 6]))
    assert output_of(how).decode().splitlines() == [str(min(mine + 3, 19)), "best-effort: prio 6"]
    assert said("sh", "-c", "ionice -p $$", io=[3, None]) == b"idle\n"
    assert os.getpriority(os.PRIO_PROCESS, 0) == mine
    assert psutil.Process().ionice().value != 6


def test_what_needs_a_privilege_is_an_error_and_nothing_runs(bench: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def refuse(*_: int) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "setpriority", refuse)  # as it is for everybody but root
    code, why = bench("touch", str(tmp_path / "ran"), nice=-5)
    assert (code, "cannot be made nicer by -5" in why, (tmp_path / "ran").exists()) == (126, True, False)


def test_a_refusal_of_the_system_is_an_error_and_nothing_runs(bench: Any, tmp_path: Path) -> None:
    code, why = bench("touch", str(tmp_path / "ran"), io=[7, 0])  # there is no such class
    assert (code, "the I/O class cannot be set" in why, (tmp_path / "ran").exists()) == (126, True, False)


@pytest.mark.parametrize(
    "extras", [{"umask": "x"}, {"nice": "x"}, {"io": []}, {"limits": {"nofile": "x"}}, {"limits": {"files": 3}}, {"ok": ["x"]}, {"set": 3}]
)
def test_extras_that_make_no_sense_are_a_payload_error(extras: dict[str, Any]) -> None:
    with pytest.raises(PayloadError, match="expected a payload"):
        launch_of(spec("true", **extras))


@pytest.mark.parametrize(
    "name",
    ["AWS_SECRET_ACCESS_KEY", "GITHUB_TOKEN", "PGPASSWORD", "MYSQL_PWD", "github.token", "apiKey", "SSH-AUTH", "DB_PASS", "X_CREDENTIALS"],
)
def test_names_that_look_secret_are_masked(name: str) -> None:
    assert launch.shown({"env": {name: "hush"}, "set": {name.encode(): b"hush"}}) == {"env": {name: "***"}, "set": {name: "***"}}


@pytest.mark.parametrize("name", ["PWD", "OLDPWD", "PATH", "MONKEY", "KEYBOARD_LAYOUT", "AUTHOR", "COMPASS", "TOKENIZERS_PARALLELISM"])
def test_names_that_only_sound_like_it_are_not(name: str) -> None:
    assert launch.shown({"env": {name: "/x"}, "cwd": b"/\xff"}) == {"env": {name: "/x"}, "cwd": "/\\xff"}


def test_an_address_with_a_password_in_it_is_masked_whatever_its_name() -> None:
    env = {"DATABASE": "postgres://me:hush@host/db", "PAGE": "https://host:80/a@b", "EMPTY_TOKEN": ""}
    assert launch.shown({"env": env})["env"] == {**env, "DATABASE": "***"}


@pytest.fixture
def bench(tmp_path: Path) -> Any:
    """Runs a command as a worker does; ``output()`` is what all have written."""
    board, writer, path = Board.create(tmp_path / "w1.board"), OutputWriter(tmp_path / "logs", 7), tmp_path / "logs"

    class Bench:
        def __call__(self, *argv: str, **extras: Any) -> Ended:
            task = spec(*argv, **extras)
            return Command(task, launch_of(task), 1, tmp_path, writer, board, 5000).run()

        def output(self) -> str:
            from tq import output

            return b"".join(data for _, _, data in output.read(path, 7)[0]).decode()

    yield Bench()
    writer.close()
    board.close()

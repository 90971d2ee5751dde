"""Many tasks from one input: arguments that come a line (or a NUL) at a time, in few commits, and what is wrong with one of them."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import msgpack
import pytest

from tq import wire
from tq.cli import fast
from tq.cli.many import ARGUMENT_MOST
from tq.client.core import ALIKE_TASKS, GROUP_BYTES, GROUP_TASKS, enqueue_args, groups
from tq.store.files import open_store
from tq.wire import WAITS_MOST

Run = Callable[..., tuple[int, str, str]]
Tq = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def typed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Callable[[bytes], None]]:
    """What standard input holds."""
    with ExitStack() as files:

        def type_in(data: bytes) -> None:
            (tmp_path / "input").write_bytes(data)
            monkeypatch.setattr(sys, "stdin", files.enter_context(open(tmp_path / "input")))

        yield type_in


def _commands(fake: Any) -> list[Any]:
    return [msgpack.unpackb(task[1])["argv"] for task in fake.tasks]


def test_each_line_takes_the_place_of_the_braces_or_stands_behind_the_command(fake: Any, run: Run, typed: Any) -> None:
    typed(b"a\n\nb c\n$x {}\n\xff")
    assert run("add", "--each", "--label", "l", "--", "cp", "{}", "to-{}.bak") == (0, "1\n2\n3\n4\n", "")
    assert _commands(fake)[:3] == [["cp", "a", "to-a.bak"], ["cp", "b c", "to-b c.bak"], ["cp", "$x {}", "to-$x {}.bak"]]
    assert _commands(fake)[3] == ["cp", b"\xff", b"to-\xff.bak"]
    typed(b"a\n")
    assert run("add", "--each", "--", "ls", "-l")[:2] == (0, "5\n")
    assert _commands(fake)[4] == ["ls", "-l", "a"]


def test_with_null_an_item_may_hold_anything_else_and_be_empty(fake: Any, run: Run, typed: Any) -> None:
    typed(b"a\nb\0\0c")
    assert run("add", "-0", "--", "gzip", "{}") == (0, "1\n2\n3\n", "")
    assert _commands(fake) == [["gzip", "a\nb"], ["gzip", ""], ["gzip", "c"]]


@pytest.mark.parametrize("flags", [["--each"], ["-0"], ["--each", "--null"]])
def test_no_input_is_no_task_and_no_error(fake: Any, run: Run, typed: Any, flags: list[str]) -> None:
    typed(b"")
    assert run("add", *flags, "--", "true") == (0, "", "")
    assert not [verb for _, verb, _ in fake.requests if verb == "enqueue"]


@pytest.mark.parametrize(
    ("flags", "command", "data", "words"),
    [
        (["--each"], ["rm"], b"a\nb\0c\nd\n", "tq: line 2: expected text, got a byte of NUL. For names that end in it: -0."),
        (["-0"], ["{}", "x"], b"a\0\0b", "tq: item 2: expected the name of a command, got an empty one."),
        (["--each"], ["rm"], b"a\n" + b"x" * (ARGUMENT_MOST + 1) + b"\n", f"tq: line 2: expected at most {ARGUMENT_MOST} bytes, got more."),
    ],
)
def test_a_line_that_can_be_no_argument_is_named_and_those_before_it_are_stored(
    fake: Any, run: Run, typed: Any, flags: list[str], command: list[str], data: bytes, words: str
) -> None:
    typed(data)
    code, out, err = run("add", *flags, "--", *command)
    assert (code, out) == (2, "1\n")
    assert err.startswith(words), err
    assert err.endswith(f"The tasks of {words[4:8]}s 1-1 are stored.\n"), err
    assert len(fake.tasks) == 1


def test_input_without_an_end_of_line_is_refused_before_it_fills_the_memory(fake: Any, run: Run, typed: Any) -> None:
    typed(b"x" * 100_000_000)
    code, _, err = run("add", "--each", "--", "ls")
    assert (code, err.startswith(f"tq: line 1: expected at most {ARGUMENT_MOST} bytes")) == (2, True)
    assert err.endswith("No task is stored.\n")


def test_words_of_the_command_are_none_of_ours() -> None:
    assert fast.parse(["add", "-0", "--", "true"]) == ("add", {"null": True, "command": ["true"]})
    assert fast.parse(["add", "--", "env", "-0"]) == ("add", {"command": ["env", "-0"]})


def test_options_that_tasks_share_are_sent_once_and_no_group_is_larger_than_a_frame() -> None:
    large = {"extras": {"env": {"A": "x" * 4000}}}
    other = {"extras": {"env": {"B": "x" * 4000}}}
    alike = list(groups([("shell", b"x" * 20, large)] * 6000))
    assert [len(group) for group in alike] == [ALIKE_TASKS, ALIKE_TASKS, 6000 - 2 * ALIKE_TASKS]
    args = enqueue_args(alike[0])
    assert (args["options"], args["tasks"][0]) == (large, ("shell", b"x" * 20, None))
    assert len(msgpack.packb(args)) < GROUP_BYTES
    turns = [("shell", b"x" * 20, large if n % 3 else other) for n in range(3000)]
    mixed = list(groups(turns))
    assert [task for group in mixed for task in group] == turns
    assert max(len(msgpack.packb(enqueue_args(group))) for group in mixed) < 2 * GROUP_BYTES
    named = list(groups([("shell", b"", {**large, "key": "k"})] * 10))
    assert "options" not in enqueue_args(named[0])
    assert [len(group) for group in groups([("a", b"", None)] * 1000)] == [GROUP_TASKS, GROUP_TASKS]


def test_tasks_that_wait_for_many_others_go_in_groups_that_a_daemon_takes() -> None:
    ids = list(range(1_000_000, 1_001_000))
    alike = [("shell", b"", {"extras": {}, "after": ids[:500], "after_any": ids[500:]})] * 250
    assert [len(group) for group in groups(alike)] == [100, 100, 50]
    assert [len(group) for group in groups([*alike[:60], None, *alike[:60]])] == [60, 0, 60]
    apart = [("a", b"", {"after": ids}) for _ in range(250)]
    made = list(groups(apart))
    assert [task for group in made for task in group] == apart
    assert max(len(msgpack.packb(enqueue_args(group))) for group in made) < 2 * GROUP_BYTES
    assert all(sum(len(task[2]["after"]) for task in group) <= WAITS_MOST for group in made)


@pytest.mark.parametrize(
    "options",
    [
        {"meta": {"note": "🚀" * 1500}},
        {"extras": {"env": {"A": "🚀" * 1500}}},
        {"label": "🚀" * 50, "queue": "q" * 200, "key": "k" * 200, "unique": "u" * 200, "tenant": "t" * 200, "correlation_id": "c" * 200},
        {"after": [2**40 + n for n in range(1000)]},
    ],
    ids=["meta", "environments", "names", "parents"],
)
def test_no_group_is_larger_than_a_frame_whatever_text_or_ids_its_options_hold(options: dict[str, Any]) -> None:
    tasks = [("t", b"x" * 500, {**options, "priority": n % 10}) for n in range(1000)]
    made = list(groups(tasks))
    assert [task for group in made for task in group] == tasks
    assert max(len(wire.pack([1, "enqueue", enqueue_args(group)])) for group in made) < wire.MAX_FRAME
    assert len(made) < len(tasks) / 20


@pytest.mark.flow
def test_ten_thousand_lines_are_a_handful_of_commits(tq: Tq, daemon: Any, data_dir: Path) -> None:
    daemon(workers=1)
    assert tq("queue", "pause", "default").returncode == 0
    env, _ = open_store(data_dir / "store", readonly=True)
    try:
        before = env.info()["last_txnid"]
        done = tq("add", "--each", "--", "echo", input="".join(f"{n}\n" for n in range(10_000)))
        after = env.info()["last_txnid"]
    finally:
        env.close()
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.split() == [str(n) for n in range(1, 10_001)]
    assert after - before <= 10
    assert json.loads(tq("status", "10000", "--json").stdout)["payload"] == {"argv": ["echo", "9999"]}


@pytest.mark.flow
def test_each_command_runs_and_waiting_for_all_gives_the_first_code_that_is_not_0(tq: Tq, daemon: Any) -> None:
    daemon(workers=2)
    done = tq("add", "--each", "--wait", "--", "sh", "-c", "exit {}", input="0\n3\n4\n")
    assert (done.returncode, done.stdout) == (3, "1\n2\n3\n")


@pytest.mark.flow
def test_what_comes_slowly_is_stored_as_it_comes(daemon: Any, data_dir: Path) -> None:
    daemon(workers=1)
    command = [sys.executable, "-m", "tq", "--data-dir", str(data_dir), "add", "--each", "--", "echo"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        for number in (1, 2, 3):
            process.stdin.write(f"{number}\n")
            process.stdin.flush()
            assert process.stdout.readline() == f"{number}\n"  # its id, while the input goes on
        process.stdin.close()
        assert process.wait(20) == 0

"""``tq send``: what is sent, in which parts, and what is said when it is not taken."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tq.cli import send
from tq.inlet import RECORD_MOST

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def taker(fake: Any) -> Any:
    fake.verbs["input"] = lambda _: {"outcome": "taken"}
    return fake


def sent(fake: Any) -> list[tuple[bytes, bool]]:
    return [(args["data"], args["end"]) for args in fake.asked("input")]


def test_a_text_is_sent_as_a_line_unless_it_is_to_be_exact(taker: Any, run: Run) -> None:
    assert run("send", "5", "yes, please") == (0, "", "")
    run("send", "5", "line\n")
    run("send", "5", "--exact", "y")
    run("send", "5", "--eof", "last")
    run("send", "5", "--eof")
    run("send", "5", "--", "-x")
    assert sent(taker) == [
        (b"yes, please\n", False),
        (b"line\n", False),
        (b"y", False),
        (b"last\n", False),
        (b"", True),
        (b"", True),
        (b"-x\n", False),
    ]
    assert taker.asked("input")[0]["id"] == 5


def test_standard_input_and_long_texts_are_sent_in_parts(taker: Any, data_dir: Path, run: Run) -> None:
    argv = [sys.executable, "-m", "tq", "--data-dir", str(data_dir), "send", "5", "-"]
    done = subprocess.run(argv, input=b"a\nb", capture_output=True, timeout=60, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")
    assert sent(taker) == [(b"a\nb", False)]
    run("send", "5", "x" * (2 * RECORD_MOST))
    parts = [data for data, _ in sent(taker)[1:]]
    assert b"".join(parts) == b"x" * (2 * RECORD_MOST) + b"\n"
    assert max(map(len, parts)) <= RECORD_MOST


@pytest.mark.parametrize(
    ("outcome", "code", "words"),
    [
        ("over", 75, "task 5 is over"),
        ("waiting", 75, "task 5 does not run yet"),
        ("closed", 75, "task 5 reads its input no more"),
        ("no_input", 2, "expected a command that was added with --interactive or --tty, got task 5"),
    ],
)
def test_what_is_not_taken_is_said_in_one_line(fake: Any, run: Run, outcome: str, code: int, words: str) -> None:
    fake.verbs["input"] = lambda _: {"outcome": outcome}
    got, out, err = run("send", "5", "yes")
    assert (got, out, err.count("\n")) == (code, "", 1)
    assert err.startswith(f"tq: {words}")


@pytest.mark.parametrize(
    ("words", "taken", "says"),
    [
        (["x" * (2 * RECORD_MOST)], 0, "task 5 is over: what was to be sent was not."),
        (["x" * (2 * RECORD_MOST)], 1, f"task 5 is over: {RECORD_MOST} bytes of what was to be sent were, but not all of it."),
        (["--eof", "yes"], 1, "task 5 is over: 4 bytes of what was to be sent were, but not all of it."),
    ],
)
def test_who_is_refused_half_way_hears_how_much_was_sent(fake: Any, run: Run, words: list[str], taken: int, says: str) -> None:
    answers = iter(["taken"] * taken + ["over"])
    fake.verbs["input"] = lambda _: {"outcome": next(answers)}
    assert run("send", "5", *words) == (75, "", f"tq: {says} See `tq status 5`.\n")


def test_a_command_that_reads_slowly_is_tried_again_and_not_for_ever(fake: Any, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    answers = iter(["full", "full", "taken"])
    fake.verbs["input"] = lambda _: {"outcome": next(answers)}
    assert run("send", "5", "yes")[0] == 0
    assert sent(fake) == [(b"yes\n", False)] * 3
    monkeypatch.setattr(send, "PATIENCE_S", 0.05)
    fake.verbs["input"] = lambda _: {"outcome": "full"}
    code, _, err = run("send", "5", "yes")
    assert (code, "has not read what was sent" in err) == (75, True)


@pytest.mark.parametrize("words", [["5"], ["5", "a", "b"], ["five", "a"]])
def test_a_line_that_makes_no_sense_is_refused_before_anything_is_sent(taker: Any, run: Run, words: list[str]) -> None:
    code, out, err = run("send", *words)
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert sent(taker) == []


@pytest.mark.parametrize("option", ["--interactive", "--tty"])
def test_run_has_no_retries_of_what_is_typed(fake: Any, run: Run, option: str) -> None:
    code, out, err = run("run", option, "--retries", "2", "--", "cat")
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert fake.tasks == []
    assert run("add", option, "--retries", "2", "--", "cat")[0] == 0
    assert fake.tasks[0][2]["extras"].get("interactive" if option == "--interactive" else "tty")

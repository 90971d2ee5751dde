"""``tq run --cron``: silent unless it failed, never two of a name, and the command's own exit code."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tests.tq.conftest import Refuse, row
from tq.model import unpack

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def ends(fake: Any) -> Callable[..., Any]:
    """``ends(state="failed", exit_code=3)``: how the next task ends on a daemon of paper; ``chunks`` are what it writes."""

    def so(chunks: Any = (), **how: Any) -> Any:
        fake.events = [{"topic": "output", "id": number, "chunks": chunks, "next": 9, "end": True} for number in (1, 2)]
        fake.verbs["wait"] = lambda args: {"tasks": [row(task_id, type="shell", **how) for task_id in args["ids"]], "done": True}
        return fake

    return so


def test_a_run_that_succeeds_prints_nothing_and_has_the_name_as_label_and_lock(ends: Any, run: Run) -> None:
    fake = ends(exit_code=0)
    assert run("run", "--cron", "night", "--timeout=1h", "--", "backup.sh", "-v") == (0, "", "")
    kind, payload, options = fake.tasks[0]
    assert (kind, unpack(payload)) == ("shell", {"argv": ["backup.sh", "-v"]})
    assert (options["label"], options["unique"], options["timeout_ms"]) == ("night", "cron night", 3_600_000)
    assert "unique_policy" not in options
    assert run("run", "--cron=night", "--verbose", "--", "true") == (0, "", "tq: night: task 2 succeeded.\n")


def test_a_run_that_fails_says_how_and_the_end_of_what_it_wrote_where_it_wrote_it(ends: Any, run: Run) -> None:
    lines = b"".join(b"%d\n" % number for number in range(300))
    chunks = [[1, 0, b"attempt 1\n"], [1, 1, lines[:700]], [1, 1, lines[700:]], [2, 2, b"oh \x1b[2J no"]]
    ends(chunks, state="failed", exit_code=3, error={"type": "ExitCode", "message": "exit code 3"}, output=True)
    code, out, err = run("run", "--cron", "night", "--", "x")
    assert code == 3
    assert out.splitlines() == [str(number) for number in range(201, 300)]
    said, more, last = err.splitlines()
    assert said == "tq: night: task 1 failed: ExitCode: exit code 3"
    assert more == "tq: its last lines follow, 100 at most; all of it: tq log 1"
    assert last == "oh \x1b[2J no"  # it goes to a mail, as the command wrote it


def test_other_ends_are_told_too(ends: Any, run: Run) -> None:
    ends(state="failed", exit_code=None, error={"type": "TimedOut", "message": "it ran too long"})
    code, out, err = run("run", "--cron", "\x1b]0;owned", "--", "x")
    assert (code, out) == (124, "")
    assert err == "tq: \\x1b]0;owned: task 1 failed: TimedOut: it ran too long\ntq: it has written nothing\n"
    ends(state="cancelled", started_at=0)
    code, out, err = run("run", "--cron", "night", "--", "x")
    assert (code, out, err) == (143, "", "tq: night: task 2 cancelled\ntq: it has written nothing\n")


def test_a_task_that_is_not_kept_is_known_by_the_end_of_its_output(ends: Any, run: Run) -> None:
    fake = ends()
    fake.verbs["wait"] = lambda args: {"tasks": [None for _ in args["ids"]], "done": True}
    fake.events = [{"topic": "output", "id": 1, "chunks": [], "next": 9, "end": True, "state": "succeeded", "exit_code": 0}]
    assert run("run", "--cron", "night", "--", "x") == (0, "", "")
    fake.events = [{"topic": "output", "id": 2, "chunks": [[1, 1, b"why"]], "next": 9, "end": True, "state": "failed", "exit_code": 5}]
    code, out, err = run("run", "--cron", "night", "--", "x")
    assert (code, out, err.splitlines()[0]) == (5, "why\n", "tq: night: task 2 failed")
    fake.events = [{"topic": "output", "id": 3, "chunks": [], "next": 9, "end": True}]
    code, out, err = run("run", "--cron", "night", "--", "x")
    assert (code, err.splitlines()[0]) == (66, "tq: night: task 3 is over, and no longer kept: nobody knows how it ended")


def test_a_run_is_left_out_while_the_one_before_goes_on_and_only_verbose_says_so(ends: Any, run: Run) -> None:
    fake = ends(exit_code=0)

    def taken(_: Any) -> Any:
        raise Refuse("conflict", "unique 'cron night': expected no live task of that name", {"id": 17})

    fake.verbs["enqueue"] = taken
    assert run("run", "--cron", "night", "--", "x") == (0, "", "")
    assert run("run", "--cron", "night", "--verbose", "--", "x") == (0, "", "tq: night: left out, since the run before goes on: task 17.\n")
    assert not fake.asked("wait")


def test_what_is_refused_for_another_reason_is_said(ends: Any, run: Run) -> None:
    fake = ends(exit_code=0)

    def full(_: Any) -> Any:
        raise Refuse("refused", "the queue is full", {})

    fake.verbs["enqueue"] = full
    assert run("run", "--cron", "night", "--", "x") == (75, "", "tq: the queue is full\n")


def test_an_answer_that_is_lost_while_it_waits_is_asked_for_again(ends: Any, run: Run) -> None:
    fake = ends(state="failed", exit_code=4, error={"type": "ExitCode", "message": "exit code 4"})
    fake.lose.append("wait")
    assert run("run", "--cron", "night", "--", "x")[0] == 4
    assert len(fake.asked("wait")) == 2
    assert len(fake.asked("enqueue")) == 1


@pytest.mark.parametrize("words", [["--key=k"], ["--unique=u"], ["--label=l"], ["--tty"], ["-i"]])
def test_what_cron_says_itself_or_needs_a_person_is_refused_beside_it(ends: Any, run: Run, words: list[str]) -> None:
    fake = ends()
    code, out, err = run("run", "--cron", "night", *words, "--", "x")
    assert (code, out, fake.requests) == (2, "", [])
    assert "expected either --cron or --" in err

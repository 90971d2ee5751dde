"""``tq events`` against a daemon of paper: what was done, a task's steps, the live stream."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.living import unmeasured
from tq.cli.render import spoken
from tq.model import duration_ms

Run = Callable[..., tuple[int, str, str]]
AT = 1_700_000_000_000
EVIL = "\x1b]0;owned\x07\u202e"
BOOM = {"type": "ValueError", "message": "no"}


def step(number: int, event: str, task_id: int = 1, **more: Any) -> dict[str, Any]:
    return {"topic": "steps", "number": number, "at": AT + number, "event": event, "id": task_id, "type": "email", "queue": "mail", **more}


# what people and the daemon did


def test_what_was_done_is_shown_with_who_to_what_and_from_what_to_what(fake: Any, run: Run) -> None:
    change = {"before": {"weight": 1}, "after": {"weight": 3}}
    one = {"number": 3, "at": AT, "who": "user 7 (pid 9)", "what": "set_queue", "target": "mail", **change}
    two = {"number": 2, "at": AT, "who": "tq", "what": "chore_done", "target": EVIL, "before": None, "after": {"seen": 9, "verb": EVIL}}
    fake.verbs["events"] = lambda _: {"events": [one, two]}
    code, out, _ = run("events", "-n", "2")
    assert code == 0
    for words in ("user 7 (pid 9)", "set_queue", "mail", "weight 1 -> 3", "chore_done", "seen 9"):
        assert words in out
    assert "\x1b" not in out + run("events", "--json")[1]
    assert [json.loads(line)["at"] for line in run("events", "--json")[1].splitlines()] == ["2023-11-14T22:13:20.000Z"] * 2
    assert fake.asked("events")[0] == {"limit": 2, "before": None, "after": None}


@pytest.mark.parametrize(
    ("before", "after", "words", "told"),
    [
        ({"timeout_ms": None}, {"timeout_ms": 30_000}, "timeout default -> 30s", {"timeout": 30.0}),
        ({"timeout_ms": 90_500}, {"timeout_ms": 0}, "timeout 1m30s500ms -> none", {"timeout": 0.0}),
        ({"aging_ms": 60_000}, {"aging_ms": 0}, "aging 1m -> never", {"aging": 0.0}),
        ({"keep_ms": None, "slots": 0}, {"keep_ms": 216_000_000, "slots": 2}, "keep default -> 2d12h  slots 0 -> 2",
         {"keep": 216_000.0, "slots": 2}),
        ({"max_bytes": None}, {"max_bytes": 500 << 20}, "max-bytes default -> 500M", {"max_bytes": 500 << 20}),
        ({"max_tasks": None}, {"max_tasks": 1000}, "max-tasks default -> 1000", {"max_tasks": 1000}),
        ({"routes": []}, {"routes": ["report.*", "pdf"]}, "route none -> report.* pdf", {"routes": ["report.*", "pdf"]}),
        ({"backoff": None}, {"backoff": ["linear", 3000, 1.0, 60_000, False]}, "backoff default -> linear 3s to 1m without jitter",
         {"backoff": {"kind": "linear", "delay": 3.0, "factor": 1.0, "max_delay": 60.0, "jitter": False}}),
        (None, {"outcome": "edited", "due_at": AT, "payload": 13, "label": EVIL},
         "outcome edited  at 2023-11-14T22:13:20.000Z  payload 13 bytes  label \\x1b]0;owned",
         {"outcome": "edited", "due_at": "2023-11-14T22:13:20.000Z", "payload": 13, "label": EVIL}),
        (None, {"expires_at": AT, "chore": 3, "meta": {"a": "b"}}, 'expires 2023-11-14T22:13:20.000Z  chore 3  meta {"a": "b"}',
         {"expires_at": "2023-11-14T22:13:20.000Z", "chore": 3, "meta": {"a": "b"}}),
    ],
)  # fmt: skip
def test_settings_are_told_as_a_person_sets_them(fake: Any, run: Run, before: Any, after: Any, words: str, told: Any) -> None:
    one = {"number": 3, "at": AT, "who": "user 7", "what": "set_queue", "target": "mail", "before": before, "after": after}
    fake.verbs["events"] = lambda _: {"events": [one]}
    assert words in run("events")[1]
    assert json.loads(run("events", "--json")[1])["after"] == told


@pytest.mark.parametrize("ms", [0, 1, 999, 1000, 61_000, 5_400_000, 86_400_000, 90_061_001, 3_162_240_000_000])
def test_durations_are_told_in_words_that_options_take(ms: int) -> None:
    assert duration_ms(spoken(ms)) == ms


def test_more_events_than_an_answer_holds_are_read_page_by_page(fake: Any, run: Run) -> None:
    def page(args: Any) -> Any:
        first = args["before"] or 1201
        numbers = range(first - 1, max(first - 1 - args["limit"], 0), -1)
        return {
            "events": [{"number": n, "at": AT, "who": "tq", "what": "x", "target": "y", "before": None, "after": None} for n in numbers]
        }

    fake.verbs["events"] = page
    lines = run("events", "-n", "1100", "--json")[1].splitlines()
    assert [json.loads(line)["number"] for line in lines] == list(range(1200, 100, -1))
    fake.verbs["events"] = lambda _: {"events": []}
    assert run("events") == (0, "", "no events yet\n")


# a task's own steps


def steps_of(run: Run, fake: Any, row: dict[str, Any]) -> list[dict[str, Any]]:
    fake.verbs["get"] = lambda _: {"tasks": [row]}
    assert run("events", "1")[0] == 0
    return [json.loads(line) for line in run("events", "1", "--json")[1].splitlines()]


def test_a_tasks_steps_are_read_back_from_its_state_and_its_attempts(fake: Any, run: Run, task_row: Any) -> None:
    attempts = [[1, AT + 10, AT + 20, "failed", "w1", BOOM, None], [2, AT + 30, AT + 40, "crashed", "w2", BOOM, None]]
    row = task_row(1, attempt=3, attempts=attempts, started_at=AT + 50, finished_at=AT + 75)
    steps = steps_of(run, fake, row)
    assert [one["event"] for one in steps] == ["added", "started", "failed", "started", "crashed", "started", "succeeded"]
    assert [one.get("attempt") for one in steps] == [None, 1, 1, 2, 2, 3, 3]
    assert (steps[2]["worker"], steps[2]["error"], steps[2]["run"]) == ("w1", BOOM, 0.01)
    assert "ValueError: no" in run("events", "1")[1]
    assert len(run("events", "1", "-n", "2")[1].splitlines()) == 2


@pytest.mark.parametrize(
    ("changes", "events"),
    [
        ({"state": "pending", "attempt": 0, "started_at": 0, "finished_at": 0}, ["added"]),
        ({"state": "scheduled", "attempt": 0, "started_at": 0, "finished_at": 0, "due_at": AT + 9}, ["added", "due"]),
        ({"state": "running", "attempt": 0, "finished_at": 0}, ["added", "started"]),
        ({"state": "cancelled", "attempt": 0, "started_at": 0}, ["added", "cancelled"]),
        ({"state": "expired", "attempt": 1, "attempts": [[1, AT, AT + 1, "failed", "w", BOOM, None]]},
         ["added", "started", "failed", "expired"]),
        ({"state": "failed", "attempt": 12, "error": {"type": "TimedOut", "message": "slow"},
          "attempts": [[11, AT, AT + 1, "failed", "w", BOOM, None]]},
         ["added", "not_kept", "started", "failed", "started", "timeout", "failed"]),
        ({"state": "retrying", "attempt": 1, "finished_at": 0, "due_at": AT + 9,
          "attempts": [[1, AT, AT + 1, "failed", "w", BOOM, None]]},
         ["added", "started", "failed", "due"]),
    ],
)  # fmt: skip
def test_steps_of_every_kind_of_life(fake: Any, run: Run, task_row: Any, changes: Any, events: list[str]) -> None:
    assert [one["event"] for one in steps_of(run, fake, task_row(1, **changes))] == events


# the live stream


def test_the_live_stream_prints_each_event_and_how_many_it_left_out(fake: Any, run: Run) -> None:
    fake.events = [
        step(1, "added", priority=1, correlation_id=EVIL),
        step(2, "failed", 2, state="retrying", error="ValueError"),
        step(700, "left_out", 0, number_of=698),
        step(701, "chore_done", 3, seen=5, changed=4),
    ]
    fake.ends_watch = True
    code, out, err = run("events", "-f")
    assert code == 69  # this daemon hangs up; a real one is left with Ctrl-C
    lines = out.splitlines()
    assert len(lines) == 4
    assert lines[0].startswith("2023-11-14T22:13:20.001Z  1  added       email  mail  priority 1  correlation id \\x1b")
    assert "state retrying" in lines[1]
    assert "number of 698" in lines[2]
    assert fake.asked("watch") == [{"topics": ["steps"]}]
    assert "ended the connection" in err


def test_following_one_task_ends_with_it_and_hears_of_no_chore_of_that_number(fake: Any, run: Run, task_row: Any) -> None:
    fake.verbs["get"] = lambda _: {"tasks": [task_row(1, state="running", finished_at=0)]}
    fake.events = [step(4, "chore_done", seen=1, changed=1), step(5, "failed", state="retrying"), step(9, "failed", state="failed")]
    code, out, _ = run("events", "1", "-f", "--json")
    assert code == 0
    assert [json.loads(line)["number"] for line in out.splitlines()] == [5, 9]
    assert fake.asked("watch") == [{"topics": ["steps"], "ids": [1]}]
    fake.verbs["get"] = lambda _: {"tasks": [task_row(1)]}
    assert run("events", "1", "-f")[:2] == (0, "")
    assert run("events", "-f", "-n", "3")[0] == 2


@pytest.mark.parametrize("how", ["ctrl-c", "closed pipe"])
def test_the_live_stream_is_left_without_a_traceback(fake: Any, data_dir: Path, how: str) -> None:
    fake.events = [step(n, "added", n) for n in range(1, 2000)]
    argv = [sys.executable, "-m", "tq", "events", "-f"]
    env = unmeasured(TQ_DATA_DIR=str(data_dir))
    with subprocess.Popen(argv, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert b"added" in process.stdout.readline()
        if how == "ctrl-c":
            process.send_signal(signal.SIGINT)
        process.stdout.close() if how == "closed pipe" else process.stdout.read()
        said = process.stderr.read()
        assert (process.wait(20), said) == (130 if how == "ctrl-c" else 141, b"")

"""``tq plan`` against a daemon of paper: rows for people and for programs."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

Run = Callable[..., tuple[int, str, str]]
AT = 1_893_456_000_000  # 2030-01-01T00:00:00Z
EVIL = "\x1b]0;owned\x07\u202e"
SLOT = {"at": AT, "schedule": "night", "slot_at": AT, "type": "shell", "queue": "default", "overlap": "allow"}
TASK = {"at": AT + 1000, "id": 17, "type": "report", "queue": "mail", "state": "scheduled", "attempt": 1, "label": None}


def answers(fake: Any, *rows: dict[str, Any], **more: Any) -> None:
    fake.verbs["plan"] = lambda _: {"rows": rows, "from": AT, "until": AT + 3_600_000, "more": False, "paused": [], **more}


def test_slots_and_tasks_are_told_in_a_table_and_as_json(fake: Any, run: Run) -> None:
    answers(fake, SLOT, TASK)
    code, out, err = run("plan", "--for", "2h", "-n", "7")
    assert (code, err) == (0, "")
    head, first, second = out.splitlines()
    assert head.split() == ["at", "what", "type", "queue", "note"]
    assert first.split() == ["2030-01-01T00:00:00.000Z", "schedule", "night", "shell", "default", "-"]
    assert second.split() == ["2030-01-01T00:00:01.000Z", "task", "17", "report", "mail", "-"]
    assert fake.asked("plan") == [{"for_ms": 7_200_000, "limit": 7}]
    told = [json.loads(line) for line in run("plan", "--json")[1].splitlines()]
    assert told == [
        {**SLOT, "at": "2030-01-01T00:00:00.000Z", "slot_at": "2030-01-01T00:00:00.000Z"}, {**TASK, "at": "2030-01-01T00:00:01.000Z"},
    ]  # fmt: skip
    assert fake.asked("plan")[1] == {"for_ms": 3_600_000, "limit": 100}


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ({**SLOT, "slot_at": AT - 1000}, "slot 2029-12-31T23:59:59.000Z"),
        ({**SLOT, "waits": [3, 4], "overlap": "queue_one"}, "waits for the end of 3, 4"),
        ({**SLOT, "overlap": "cancel_old"}, "if the run before goes on: cancel_old"),
        ({**SLOT, "queue_paused": True, "overlap": "skip"}, "if the run before goes on: skip; its queue is paused"),
        ({**SLOT, "problem": f"expected {EVIL}", "queue": None}, "cannot be sent: expected \\x1b"),
        ({**TASK, "state": "retrying", "attempt": 3, "label": EVIL}, "task 17 (\\x1b]0;owned\\x07\\u202e)  report  mail   attempt 3"),
        ({**SLOT, "schedule": EVIL}, "schedule \\x1b]0;owned"),
    ],
)  # fmt: skip
def test_what_is_odd_about_a_row_is_noted(fake: Any, run: Run, row: Any, words: str) -> None:
    answers(fake, row)
    out = run("plan")[1]
    assert words in out
    assert "\x1b" not in out


def test_that_there_is_more_or_nothing_or_what_is_paused_is_said(fake: Any, run: Run) -> None:
    answers(fake, SLOT, more=True, paused=["a", EVIL])
    said = run("plan", "--limit", "1")[2]
    assert "there is more until 2030-01-01T01:00:00.000Z: these are the first 1" in said
    assert "paused schedules, which would come due: a, \\x1b]0;owned" in said
    answers(fake)
    assert run("plan", "--for", "90m") == (0, "", "nothing comes due within 1h30m\n")
    assert run("plan", "--for", "soon")[0] == 2

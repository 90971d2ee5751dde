"""``tq alerts`` and what ``tq daemon status`` says of them, against a daemon of paper."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

Run = Callable[..., tuple[int, str, str]]
AT = 1_893_456_000_000  # 2030-01-01T00:00:00Z
EVIL = "\x1b]0;owned\x07\u202e"


def rule(watch: str, above: float, value: float | None, **more: Any) -> dict[str, Any]:
    told = {"name": "a", "watch": watch, "above": above, "queue": None, "type": None, "for_ms": 5000, "value": value}
    return {**told, "raised_at": 0, "changes_at": 0, **more}


@pytest.mark.parametrize(
    ("row", "words"),
    [
        (rule("queue_depth", 10, 12.0, raised_at=AT, queue="mail", type="t"),
         "a      raised since 2030-01-01T00:00:00.000Z  queue depth of queue mail type t  10     12"),
        (rule("oldest_wait", 300_000, 1500), "a      quiet  oldest wait  5 min 00 s  1.5 s"),
        (rule("failure_rate", 0.2, None), "a      quiet  failure rate  20.0%      -"),
        (rule("lost_worker", 0, 1, changes_at=AT), "quiet, raised at 2030-01-01T00:00:00.000Z  lost worker"),
        (rule("lost_worker", 0, 1, raised_at=AT - 1000, changes_at=AT), "since 2029-12-31T23:59:59.000Z, over at 2030-01-01T00:00:00"),
        (rule("late_schedule", 60_000, 0, name=EVIL), "\\x1b]0;owned\\x07\\u202e"),
    ],
)  # fmt: skip
def test_rules_are_told_with_their_state_and_value_in_its_unit(fake: Any, run: Run, row: Any, words: str) -> None:
    fake.verbs["alerts"] = lambda _: {"alerts": [row]}
    code, out, _ = run("alerts")
    assert code == 0
    assert words in out
    assert "\x1b" not in out


def test_rules_as_json_have_durations_in_seconds(fake: Any, run: Run) -> None:
    rows = [rule("oldest_wait", 300_000, 1500, raised_at=AT), rule("failure_rate", 0.2, 0.5, window_ms=60_000)]
    fake.verbs["alerts"] = lambda _: {"alerts": rows}
    slow, bad = map(json.loads, run("alerts", "--json")[1].splitlines())
    assert (slow["above"], slow["value"], slow["for"], slow["raised_at"], slow["changes_at"]) == (
        300.0,
        1.5,
        5.0,
        "2030-01-01T00:00:00.000Z",
        None,
    )
    assert (bad["above"], bad["value"], bad["window"]) == (0.2, 0.5, 60.0)


def test_without_rules_it_says_how_one_is_made(fake: Any, run: Run) -> None:
    fake.verbs["alerts"] = lambda _: {"alerts": []}
    code, out, err = run("alerts")
    assert (code, out) == (0, "")
    assert "[alerts.NAME]" in err


def test_the_daemons_status_says_what_needs_a_look_but_not_what_is_muted_or_said_already(fake: Any, run: Run) -> None:
    def line(key: str, weight: str, kind: str, name: str, muted_until: int = 0) -> dict[str, Any]:
        return {"key": key, "weight": weight, "about": [kind, name], "what": f"so {EVIL}", "since": AT, "muted_until": muted_until}

    lines = [
        line("queue_paused:m", "warn", "queue", EVIL), line("workers_none", "bad", "workers", ""),
        line("clock_stepped", "note", "clock", ""),
        line("alert:a", "bad", "alert", "a"), line("queue_held:q", "warn", "queue", "q"), line("tasks_dead", "warn", "tasks", "", AT),
    ]  # fmt: skip
    fake.verbs["status"] = lambda _: {"pid": 1, "version": "0", "started_at": 1, "options": {}}
    fake.verbs["attention"] = lambda _: {"lines": lines}
    said = run("daemon", "status")[1].splitlines()[1:]
    shown = EVIL.encode("unicode_escape").decode()
    expected = (("warning", f"queue {shown}"), ("wrong", "workers"), ("note", "clock"))
    assert said == [f"  {word:<12} {about}: so {shown}" for word, about in expected]
    told = json.loads(run("daemon", "status", "--json")[1])["attention"]
    assert [one["key"] for one in told] == [one["key"] for one in lines]
    at = "2030-01-01T00:00:00.000Z"
    assert (told[0]["since"], told[0]["muted_until"], told[-1]["muted_until"]) == (at, None, at)


def test_the_daemons_status_names_what_is_raised(fake: Any, run: Run) -> None:
    status = {"pid": 7, "version": "1", "started_at": AT, "options": {}, "workers": {}, "boot": "x", "alerts": {EVIL: AT}}
    fake.verbs["status"] = lambda _: status
    out = run("daemon", "status")[1]
    assert "alert        \\x1b]0;owned\\x07\\u202e is raised since 2030-01-01T00:00:00.000Z" in out
    assert json.loads(run("daemon", "status", "--json")[1])["alerts"] == {EVIL: "2030-01-01T00:00:00.000Z"}

"""``tq breaker``, against a daemon of paper."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

Run = Callable[..., tuple[int, str, str]]


def row(name: str = "smtp", **changes: Any) -> dict[str, Any]:
    usual = {
        "name": name, "type": "", "rule": "5 failures, cool 30s to 10m, probes 1, close 1", "fixed": False, "declared": None,
        "state": "closed", "since": 0, "until": 0, "level": 0, "why": "", "row": 1, "calls": 0, "failed": 0, "probes": 0, "won": 0,
    }  # fmt: skip
    return {**usual, **changes}


OPEN = row(
    "", type="evil\x1b[m", state="open", since=1_000, until=2_000, level=2, why="2 of 4 calls failed", calls=4, failed=2, row=0, fixed=True
)


def test_breakers_are_listed_with_their_states_and_why(fake: Any, run: Run) -> None:
    fake.verbs["breakers"] = lambda _: {"breakers": [row(), OPEN]}
    lines = run("breaker", "list")[1].splitlines()
    assert lines[1].split()[:5] == ["smtp", "closed", "1", "in", "a"]
    assert lines[2].split()[:2] == ["type:evil\\x1b[m", "OPEN"]
    assert lines[2].endswith("2 of 4 calls failed, since 1970-01-01T00:00:01.000Z, until 1970-01-01T00:00:02.000Z")
    told = [json.loads(line) for line in run("breaker", "list", "--json")[1].splitlines()]
    assert (told[1]["until"], told[0]["until"], told[1]["state"]) == ("1970-01-01T00:00:02.000Z", 0, "open")
    fake.verbs["breakers"] = lambda _: {"breakers": []}
    assert run("breaker", "list")[2].startswith("no breakers yet")


def test_one_is_shown_whole(fake: Any, run: Run) -> None:
    fake.verbs["breakers"] = lambda _: {"breakers": [OPEN]}
    code, out, _ = run("breaker", "show", "type:email")
    assert (code, "(set by hand)" in out, "2 times since it was closed" in out) == (0, True, True), out
    assert json.loads(run("breaker", "show", "smtp", "--json")[1])["level"] == 2
    assert fake.asked("breakers") == [{"type": "email"}, {"name": "smtp"}]


def test_a_rule_is_read_before_it_is_sent(fake: Any, run: Run) -> None:
    fake.verbs["set_breaker"] = lambda _: {"new": True}
    code, out, err = run("breaker", "set", "smtp", "3 failures in 1m")
    assert (code, out, "breaker smtp is new" in err) == (0, "", True)
    assert run("breaker", "set", "type:email", "3 failures") == (0, "", "")
    rule = "3 failures, cool 30s to 10m, probes 1, close 1"
    assert fake.asked("set_breaker") == [{"name": "smtp", "rule": rule.replace("es,", "es in 1m,")}, {"type": "email", "rule": rule}]


@pytest.mark.parametrize(
    "words", [["smtp"], ["smtp", "5 failures", "more"], ["smtp", "often"], ["", "5 failures"], ["type:", "5 failures"]]
)
def test_what_is_no_rule_or_name_is_refused_before_it_is_sent(fake: Any, run: Run, words: list[str]) -> None:
    code, out, err = run("breaker", "set", *words)
    assert (code, out, "expected" in err) == (2, "", True), err
    assert not fake.asked("set_breaker")


def test_one_is_tripped_reset_and_removed(fake: Any, run: Run) -> None:
    fake.verbs["trip_breaker"] = fake.verbs["reset_breaker"] = fake.verbs["remove_breaker"] = lambda _: {}
    for words in (["trip", "smtp"], ["trip", "smtp", "--for", "5m"], ["reset", "type:email"], ["remove", "smtp"]):
        assert run("breaker", *words) == (0, "", "")
    assert fake.asked("trip_breaker") == [{"name": "smtp"}, {"name": "smtp", "for_ms": 300_000}]
    assert (fake.asked("reset_breaker"), fake.asked("remove_breaker")) == ([{"type": "email"}], [{"name": "smtp"}])

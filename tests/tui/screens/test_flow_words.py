"""Limits and breakers in words, and limits as they are typed."""

from __future__ import annotations

from typing import Any

import pytest

from tests.tui.fake import START_MS
from tui.formats import ASCII, UNICODE
from tui.screens.flow_words import (
    back_to,
    breaker_line,
    breakers_of,
    changes_of,
    limit_line,
    limits_of,
    rate_text,
    span_of,
    texts_of,
)  # fmt: skip
from tui.widgets.painting import Runs


def limit(name: str = "slow", scope: str = "type", of: str | None = "email", **more: Any) -> dict[str, Any]:
    """A row of ``limits``."""
    return {"name": name, "scope": scope, "of": of, "rate": 100, "per_ms": 60_000, "burst": 1, "running": 10, "used": [], **more}


def used(of: str, running: int = 3, *, reached: bool = False, opens_at: int = 0) -> dict[str, Any]:
    return {"of": of, "running": running, "tokens": 0 if reached else 5, "reached": reached, "opens_at": opens_at}


def breaker(kind: str = "email", state: str = "open", **more: Any) -> dict[str, Any]:
    """A row of ``breakers``."""
    return {
        "name": "" if kind else "smtp", "type": kind, "rule": "5 failures, cool 30s", "fixed": False, "declared": None, "state": state,
        "since": START_MS - 12_000, "until": START_MS + 18_000, "level": 1, "why": "5 failures in a row", "row": 5, "calls": 0,
        "failed": 0, "probes": 0, "won": 0, **more,
    }  # fmt: skip


def text(line: Runs) -> str:
    return "".join(word for word, _ in line)


def test_a_queue_has_its_own_limits_those_of_its_types_and_those_that_somebody_has_reached() -> None:
    every = [
        limit("own", "queue", "mail"), limit("other", "queue", "web"), limit("typed"), limit("foreign", of="fetch"),
        limit("calm", "tenant", None, used=[used("acme")]), limit("full", "flow", None, used=[used("order-7", reached=True)]),
    ]  # fmt: skip
    assert [one["name"] for one in limits_of("mail", ["email"], every)] == ["full", "own", "typed"]


@pytest.mark.parametrize(
    ("one", "told"),
    [
        (limit(used=[used("email")]), "slow: type email 100/m, 10 at a time, 3 running"),
        (limit(rate=0, running=2), "slow: type email 2 at a time, 0 running"),
        (limit(running=0, per_ms=10_000, rate=5), "slow: type email 5/10s, 0 running"),
        (
            limit(used=[used("email", reached=True, opens_at=START_MS + 2_300)]),
            "slow: type email 100/m, 10 at a time, 3 running   ▲ reached; the next in 3.0s",
        ),
        (
            limit("e", "tenant", None, rate=0, running=1, used=[used(f"t{at}", 1, reached=True) for at in range(6)]),
            "e: each tenant 1 at a time, 6 running   ▲ reached by t0, t1, t2, t3 and 2 more; the next when one of them ends",
        ),
        (limit(window="sliding"), "slow: type email 100/m sliding, 10 at a time, 0 running"),
    ],
)
def test_a_limit_tells_its_rule_how_far_it_is_used_and_whom_it_holds(one: dict[str, Any], told: str) -> None:
    assert text(limit_line(one, UNICODE, START_MS)) == told


def test_breakers_are_told_while_they_are_not_closed() -> None:
    rows = [breaker(), breaker("fetch"), breaker("slow", "closed"), breaker("")]
    assert breakers_of(["email", "slow"], rows) == [breaker()]
    assert text(breaker_line(breaker(), UNICODE, START_MS)) == "‖ breaker of type email is open for 12s, 18.0s more: 5 failures in a row"
    assert "until it is reset" in text(breaker_line(breaker(until=0), ASCII, START_MS))
    assert text(breaker_line(breaker("", "half_open"), ASCII, START_MS)).startswith('" breaker smtp is half open: some run as probes')


@pytest.mark.parametrize("row", [limit(), limit("e", "flow", None), limit(rate=0), limit(per_ms=250), limit(running=0, window="fixed")])
def test_what_stands_in_the_form_sends_nothing_as_long_as_it_is_not_changed(row: dict[str, Any]) -> None:
    texts = texts_of(row)
    assert changes_of(texts, texts) == {}


@pytest.mark.parametrize(
    ("typed", "sent"),
    [
        ({"rate": "5/10s"}, {"rate": 5, "per_ms": 10_000}),
        ({"rate": "500/s", "burst": "7"}, {"rate": 500, "per_ms": 1000, "burst": 7}),
        ({"rate": "9/m sliding"}, {"rate": 9, "per_ms": 60_000, "window": "sliding"}),
        ({"burst": "20"}, {"rate": 100, "per_ms": 60_000, "burst": 20}),
        ({"rate": ""}, {"rate": 0}),
        ({"running": ""}, {"running": 0}),
        ({"whom": "each tenant"}, {"scope": "tenant"}),
        ({"whom": "queue mail"}, {"scope": "queue", "of": "mail"}),
    ],
)
def test_only_what_was_changed_is_sent(typed: dict[str, str], sent: dict[str, Any]) -> None:
    before = texts_of(limit())
    assert changes_of(before, before | typed) == {"name": "slow", **sent}


def test_a_new_one_sends_all_that_was_typed() -> None:
    typed = texts_of(None, "mail") | {"name": "quick", "rate": "5/s"}
    assert changes_of(None, typed) == {"name": "quick", "scope": "queue", "of": "mail", "rate": 5, "per_ms": 1000}
    typed = texts_of(limit()) | {"name": "twin"}
    assert changes_of(texts_of(limit()), typed) == {
        "name": "twin", "scope": "type", "of": "email", "rate": 100, "per_ms": 60_000, "burst": 1, "running": 10,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("typed", "message"),
    [
        ({"name": " "}, "name: expected what the limit is called"), ({"rate": "often"}, "rate: expected such as"),
        ({"rate": "0/s"}, "rate: expected such as"), ({"rate": "5/eternity"}, "rate: expected such as"),
        ({"burst": "x"}, "burst: expected a whole number, got 'x'"), ({"running": "-1"}, "at a time: expected a whole number, got '-1'"),
        ({"whom": "everybody"}, "whom: expected such as queue mail"),
    ],
)  # fmt: skip
def test_what_cannot_be_meant_says_what_was_expected(typed: dict[str, str], message: str) -> None:
    before = texts_of(limit())
    with pytest.raises(ValueError, match=message):
        changes_of(before, before | typed)


def test_a_limit_that_was_removed_is_made_again_as_it_was() -> None:
    assert back_to(limit()) == {"name": "slow", "scope": "type", "of": "email", "rate": 100, "per_ms": 60_000, "burst": 1, "running": 10}
    ways = {"window": "none", "adaptive": "none", "low": 1, "high": 9, "latency_ms": 0, "failures": 5, "factor": 50}
    assert "of" not in back_to(limit(scope="flow", of=None))
    assert back_to(limit(**ways)) == back_to(limit())
    assert "burst" not in back_to(limit(**ways | {"window": "fixed"}))
    assert back_to(limit(**ways | {"adaptive": "rate"}))["factor"] == 50


def test_a_time_for_a_breaker_may_be_none_and_must_be_one() -> None:
    assert [span_of(" "), span_of("10m")] == [{}, {"for_ms": 600_000}]
    with pytest.raises(ValueError, match="expected a time such as 10m"):
        span_of("long")


def test_a_rate_is_written_as_it_is_typed() -> None:
    assert [rate_text(limit(per_ms=ms)) for ms in (1000, 60_000, 90_000, 250)] == ["100/s", "100/m", "100/1m30s", "100/250ms"]

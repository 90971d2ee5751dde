"""Limits through a real broker: what is refused, what waits, who is woken, what is told; on both stores."""

from __future__ import annotations

from typing import Any

import pytest

from tests.tq.broker_driver import ANY, Driver
from tq.broker.limits import LIMITS_MOST
from tq.store import TypeInfo, Want

RULE = {"scope": "type", "of": "t", "rate": 0, "per_ms": 1000, "burst": 1, "running": 0, "window": "none"}


def granted(d: Driver) -> list[int]:
    return [task.id for _, tasks in d.turn(Want("w1", 9, ANY)).grants for task in tasks]


def rule(d: Driver, name: str) -> dict[str, Any]:
    (row,) = [row for row in d.ask("limits")["limits"] if row["name"] == name]
    return {key: row[key] for key in RULE}


def test_a_limit_is_set_changed_listed_and_removed(d: Driver) -> None:
    assert d.ask("limits") == {"limits": []}
    assert d.ask("set_limit", name="l", scope="type", of="t", rate=500) == {"new": True}
    assert rule(d, "l") == {**RULE, "rate": 500, "burst": 500}
    assert d.ask("set_limit", name="l", running=2) == {"new": False}
    assert d.ask("set_limit", name="l", rate=100, per_ms=60_000) == {"new": False}
    assert rule(d, "l") == {**RULE, "rate": 100, "per_ms": 60_000, "running": 2}
    first, *_ = d.add(count=3)
    assert granted(d) == [first]
    (row,) = d.ask("limits")["limits"]
    assert row["used"] == [{"of": "t", "running": 1, "tokens": 0, "reached": True, "opens_at": d.now + 600}]
    assert d.ask("remove_limit", name="l") == {}
    events = [(event["what"], event["target"], event["after"]) for event in d.ask("events", limit=4)["events"]]
    assert events[0] == ("remove_limit", "limit l", None)
    assert events[1] == ("set_limit", "limit l", {"rate": 100, "per_ms": 60_000, "burst": 1})
    assert len(granted(d)) == 2


@pytest.mark.parametrize(
    ("args", "says"),
    [
        ({"name": "l"}, "scope: expected one of queue, type, tenant, flow"),
        ({"name": "l", "scope": "worker", "rate": 1}, "scope: expected one of"),
        ({"name": "l", "scope": "queue", "rate": 1}, "of: expected the name of a queue, got none"),
        ({"name": "l", "scope": "tenant"}, "expected a rate, or how many may be running"),
        ({"name": "l", "scope": "flow", "of": "x" * 999, "rate": 1}, "of: expected a name of 1 to 200 bytes"),
        ({"name": "l 1", "scope": "flow", "rate": 1}, "without spaces"),
        ({"name": "l", "scope": "flow", "rate": -1}, "rate"),
        ({"name": "l", "scope": "flow", "rate": 1, "burst": 0}, "burst"),
        ({"name": "l", "scope": "flow", "rate": 1, "per_ms": 0}, "per_ms"),
        ({"name": "l", "scope": "flow", "rate": 1, "window": "open"}, "window: expected one of none, fixed, sliding, got 'open'"),
        ({"name": "l", "scope": "flow", "running": 1, "window": "fixed"}, "window: expected a rate for it"),
        ({"name": "l", "scope": "flow", "rate": 1, "window": "fixed", "burst": 2}, "burst: expected none beside a window"),
    ],
)
def test_what_is_no_limit_is_refused(d: Driver, args: dict[str, Any], says: str) -> None:
    code, message = d.refusal("set_limit", **args)
    assert code == "usage"
    assert says in message
    assert d.ask("limits") == {"limits": []}


def test_a_limit_gets_a_window_live_and_loses_it_again(d: Driver) -> None:
    d.now = 600_000
    d.ask("set_limit", name="l", scope="type", of="t", rate=2, per_ms=60_000)
    ids = d.add(count=6)
    assert granted(d) == ids[:1]
    assert d.ask("set_limit", name="l", window="sliding") == {"new": False}
    assert rule(d, "l") == {**RULE, "rate": 2, "per_ms": 60_000, "window": "sliding"}
    assert granted(d) == ids[1:2]
    (reason,) = [more for word, more in d.ask("why", id=ids[2])["reasons"] if word == "limit_reached"]
    assert (reason["window"], reason["opens_at"], d.broker.next_due) == ("sliding", 660_000, 660_000)
    d.now = 660_000
    assert granted(d) == ids[2:4]
    d.ask("set_limit", name="l", window="none")
    assert (rule(d, "l")["burst"], granted(d)) == (1, [])


def test_stats_and_queues_tell_of_limits_that_are_reached_and_breakers_that_are_open(d: Driver) -> None:
    none: dict[str, Any] = {"limits": [], "breakers": []}
    assert {key: d.ask("stats")[key] for key in none} == none
    d.ask("set_limit", name="one", scope="type", of="t", running=1)
    d.ask("set_limit", name="slow", scope="queue", of="post", rate=1)
    d.add(count=2)
    d.add(count=2, kind="u", queue="post")
    rows = {row["name"]: row for row in d.ask("queues")["queues"]}
    assert {key: rows["default"][key] for key in none} == none
    assert len(granted(d)) == 2
    told = d.ask("stats")
    assert told["limits"] == [
        {"name": "one", "scope": "type", "of": ["t"], "opens_at": 0},
        {"name": "slow", "scope": "queue", "of": ["post"], "opens_at": d.now + 1000},
    ]  # fmt: skip
    d.ask("trip_breaker", type="u")
    d.ask("trip_breaker", name="smtp")
    rows = {row["name"]: (row["limits"], row["breakers"]) for row in d.ask("queues")["queues"]}
    assert rows == {"default": (["one"], []), "post": (["slow"], ["u"])}
    assert [(row["type"], row["name"], row["state"]) for row in d.ask("stats")["breakers"]] == [("u", "", "open"), ("", "smtp", "open")]
    d.now += 1000
    assert [row["name"] for row in d.ask("stats")["limits"]] == ["one"], "time has opened it, though no turn has looked"


def test_peek_leaves_out_types_whose_breakers_are_open(d: Driver) -> None:
    first, second = d.add(), d.add(kind="u")
    d.ask("trip_breaker", type="t")
    assert [task["id"] for task in d.ask("peek")["tasks"]] == second
    d.ask("reset_breaker", type="t")
    assert [task["id"] for task in d.ask("peek")["tasks"]] == [*first, *second]


def test_no_more_than_so_many_limits_are_kept_and_one_there_is_not_is_named(d: Driver) -> None:
    for number in range(LIMITS_MOST):
        d.ask("set_limit", name=f"l{number}", scope="tenant", running=1)
    assert "at most" in d.refusal("set_limit", name="more", scope="tenant", running=1)[1]
    assert "Did you mean 'l7'" in d.refusal("remove_limit", name="l7x")[1]


def test_a_turn_is_due_when_a_token_comes_and_no_sooner(d: Driver) -> None:
    d.ask("set_limit", name="l", scope="type", of="t", rate=1)
    first, second = d.add(count=2)
    assert granted(d) == [first]
    assert d.broker.next_due == d.now + 1000
    d.now += 1000
    assert granted(d) == [second]
    due = d.broker.next_due
    assert due is None or due > d.now + 1000


def test_a_consumer_that_waits_is_given_what_a_limit_lets_go(d: Driver) -> None:
    d.ask("set_limit", name="l", scope="flow", rate=1)
    first, second = d.add(count=2, flow="k")
    assert [task["id"] for task in d.ask("claim", types=["t"], limit=9)["tasks"]] == [first]
    number = d.submit("claim", types=["t"], limit=9, wait_ms=60_000)
    d.turn()
    assert d.told[1][-1][0] != number
    d.now += 1000
    d.turn()
    assert [task["id"] for task in d.told[1][-1][2]["tasks"]] == [second]


def test_why_names_the_limit_and_when_it_opens(d: Driver) -> None:
    d.broker.put_types([TypeInfo("t")], d.now)
    d.ask("set_limit", name="slow", scope="type", of="t", rate=1)
    d.ask("set_limit", name="few", scope="flow", running=1)
    _, second = d.add(count=2, flow="k")
    granted(d)
    reasons = [details for word, details in d.ask("why", id=second)["reasons"] if word == "limit_reached"]
    assert [(one["limit"], one["scope"], one["of"], one["opens_at"]) for one in reasons] == [
        ("slow", "type", "t", d.now + 1000), ("few", "flow", "k", 0),
    ]  # fmt: skip


def test_tasks_that_a_limit_holds_call_for_no_more_workers(d: Driver) -> None:
    d.ask("set_limit", name="few", scope="type", of="t", running=3)
    d.add(count=50)
    assert d.broker.backlog(["t"]) == 3
    granted(d)
    assert d.broker.backlog(["t"]) == 0

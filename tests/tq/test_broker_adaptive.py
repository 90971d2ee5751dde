"""Limits that follow the work, through a real broker under a clock turned by hand, on both stores."""

from __future__ import annotations

from typing import Any

import pytest

from tests.tq.broker_driver import ANY, Driver
from tq.store import Claimed, Limit, Want

RULE = {"scope": "type", "of": "t", "adaptive": "running", "low": 1, "high": 30}


def shown(d: Driver, name: str = "l") -> dict[str, Any]:
    (row,) = [row for row in d.ask("limits")["limits"] if row["name"] == name]
    return dict(row)


def handed(d: Driver) -> list[Claimed]:
    return [task for _, tasks in d.turn(Want("w1", 99, ANY)).grants for task in tasks]


def work(d: Driver, rounds: int, kind: object = 0, ms: int = 10) -> None:
    """What is handed out ends so, a round after the other."""
    for _ in range(rounds):
        began, tasks = d.now, handed(d)
        d.now += ms
        d.broker.settled([[task.id, task.claim, kind, began, d.now, False, {} if kind else None] for task in tasks])
    d.turn()


def adapted(d: Driver) -> list[tuple[dict[str, Any], dict[str, Any]]]:
    return [(one["before"], one["after"]) for one in d.ask("events", limit=99)["events"] if one["what"] == "limit_adapted"][::-1]


def test_it_begins_low_and_grows_while_what_it_lets_run_goes_well(d: Driver) -> None:
    assert d.ask("set_limit", name="l", **RULE) == {"new": True}
    assert (shown(d)["running"], shown(d)["failures"], shown(d)["factor"]) == (1, 10, 90)
    d.add(count=60)
    work(d, 10)
    assert shown(d)["running"] == 2
    work(d, 5)
    assert shown(d)["running"] == 3
    assert len(handed(d)) == 3
    assert adapted(d) == [({"running": 1}, {"running": 2, "why": "10 outcomes went well"})], "the next event is ten seconds later"


def test_it_stays_while_nothing_waits_for_it(d: Driver) -> None:
    d.ask("set_limit", name="l", **{**RULE, "low": 5})
    for _ in range(20):
        d.add(count=3)
        work(d, 1)
    assert shown(d)["running"] == 5


@pytest.mark.parametrize(("kind", "ms"), [("failed", 10), ("timed_out", 10), (0, 500)])
def test_it_shrinks_when_too_many_fail_or_are_slow_once_for_those_that_began_before(d: Driver, kind: object, ms: int) -> None:
    d.ask("set_limit", name="l", **{**RULE, "low": 20, "latency_ms": 400})
    d.ask("set_limit", name="l", low=1)
    d.add(count=200)
    work(d, 1, kind, ms)
    assert shown(d)["running"] == 18, "one decrease for a window"
    work(d, 1, kind, ms)
    assert shown(d)["running"] == 16
    work(d, 60, kind, ms)
    assert shown(d)["running"] == 1
    first, *_ = adapted(d)
    assert (first[0], first[1]["running"], first[1]["why"].startswith("of ")) == ({"running": 20}, 18, True)


def test_ends_that_say_nothing_of_the_work_change_nothing(d: Driver) -> None:
    d.ask("set_limit", name="l", **{**RULE, "low": 20})
    d.add(count=100)
    work(d, 30, "released")
    assert shown(d)["running"] == 20


def test_a_level_is_the_same_after_a_restart_and_goes_with_its_bounds(d: Driver) -> None:
    d.ask("set_limit", name="l", **RULE)
    d.add(count=100)
    work(d, 15)
    assert shown(d)["running"] == 3
    d.reopen()
    assert shown(d)["running"] == 3
    assert d.ask("set_limit", name="l", failures=20) == {"new": False}
    assert (shown(d)["running"], shown(d)["failures"], shown(d)["high"]) == (3, 20, 30)
    d.ask("set_limit", name="l", low=5)
    assert shown(d)["running"] == 5
    d.ask("set_limit", name="l", low=1, high=2)
    assert (shown(d)["running"], len(handed(d))) == (2, 2)
    d.ask("set_limit", name="l", running=9)
    assert (shown(d)["running"], shown(d)["adaptive"], shown(d)["high"]) == (9, "none", 0)
    assert d.broker.desk.ends_seen == {}, "where no limit is adaptive nobody looks"


def test_a_rate_follows_the_work_and_its_burst_with_it(d: Driver) -> None:
    d.ask("set_limit", name="l", scope="type", of="t", adaptive="rate", low=10, high=1010)
    assert (shown(d)["rate"], shown(d)["burst"]) == (10, 10)
    d.add(count=160)
    for _ in range(3):
        work(d, 1)
        d.now += 1000
    assert (shown(d)["rate"], shown(d)["burst"]) == (40, 40), "by a hundredth of what is between its bounds"
    d.now += 1000
    work(d, 1, "failed")
    assert shown(d)["rate"] == 36


def test_one_that_is_reached_while_it_shrinks_lets_none_go_before_enough_have_ended(d: Driver) -> None:
    d.ask("set_limit", name="l", **{**RULE, "low": 20, "failures": 0})
    d.ask("set_limit", name="l", low=1)
    d.add(count=100)
    tasks, began = handed(d), d.now
    d.now += 5
    d.broker.settled([[tasks[0].id, tasks[0].claim, "failed", began, d.now, False, {}]])
    assert (handed(d), shown(d)["running"]) == ([], 18)
    d.broker.settled([[task.id, task.claim, 0, began, d.now, False, None] for task in tasks[1:3]])
    assert len(handed(d)) == 1


@pytest.mark.parametrize(
    ("args", "says"),
    [
        ({"adaptive": "both", "low": 1, "high": 2}, "adaptive: expected one of none, rate, running"),
        ({"adaptive": "running", "low": 3, "high": 2}, "low: expected a range that begins at 1 or more and rises, such as 2..50, got 3..2"),
        ({"adaptive": "running", "high": 2}, "low: expected a range that begins at 1 or more and rises, such as 2..50, got 0..2"),
        ({"adaptive": "running", "low": 1, "high": 2, "running": 2}, "running: expected low and high"),
        ({"running": 2, "high": 2}, "high: expected it with a limit that is adaptive alone"),
        ({"adaptive": "running", "low": 1, "high": 2, "factor": 100}, "factor"),
        ({"adaptive": "running", "low": 1, "high": 2, "failures": 101}, "failures"),
        ({"scope": "flow", "of": None, "adaptive": "running", "low": 1, "high": 2}, "adaptive: expected a limit of one flow"),
    ],
)
def test_what_cannot_follow_is_refused(d: Driver, args: dict[str, Any], says: str) -> None:
    given = {key: value for key, value in {"scope": "type", "of": "t", **args}.items() if value is not None}
    assert says in d.refusal("set_limit", name="l", **given)[1]
    assert d.ask("limits") == {"limits": []}


def test_both_stores_take_another_number_in_the_place_of_one(d: Driver) -> None:
    """As a turn does that is lost: nothing of it is left."""
    d.ask("set_limit", name="l", scope="type", of="t", running=2, rate=9)
    ids = d.add(count=9)
    assert [task.id for task in handed(d)] == ids[:2]
    d.store.begin(d.now)
    d.store.put_limit(Limit("l", "type", "t", rate=9, burst=9, running=5))
    assert [task.id for task in d.store.claim(Want("w", 9, ANY))] == ids[2:5]
    d.store.abort()
    assert handed(d) == []
    d.store.begin(d.now)
    d.store.put_limit(Limit("l", "type", "t", rate=9, burst=9, running=3))
    d.store.commit()
    assert [task.id for task in handed(d)] == ids[2:3]

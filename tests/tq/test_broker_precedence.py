"""Schedules that come after others: which runs a slot waits for, whatever becomes of those."""

from __future__ import annotations

from typing import Any

import pytest

from tests.tq.broker_driver import START, Driver
from tests.tq.test_broker_schedules import FIRST, MINUTE, events, pass_time, runs, schedule, told
from tq.model import pack
from tq.store import Claimed, TypeInfo


def ids(d: Driver, name: str) -> list[int]:
    return [task_id for _, task_id in told(d, name)["runs"]]


def end(d: Driver, task_id: int, kind: object = 0) -> None:
    """Have the one that is ready end so."""
    held: list[Claimed] = [one for one in d.grant(9) if one.id == task_id]
    d.broker.settled([d.result(held[0], kind, **({"error": {"type": "E"}, "permanent": True} if kind else {}))])
    d.settle_down()


@pytest.mark.parametrize("names", [("a", "b"), ("b", "a")])
def test_a_run_begins_when_that_of_the_same_slot_has_succeeded(d: Driver, names: tuple[str, str]) -> None:
    first, second = names
    schedule(d, first)
    schedule(d, second, after=[first])
    assert told(d, second)["after"] == [first]
    pass_time(d, FIRST - START)
    (one,), (two,) = ids(d, first), ids(d, second)
    assert (d.states(one, two), d.row(two)["parents"]) == (["pending", "blocked"], [one])
    end(d, one)
    assert d.states(two) == ["pending"]
    assert events(d, "slot_waits") == []


def test_a_run_comes_after_the_newest_that_was_due_before_it(d: Driver) -> None:
    schedule(d, "hourly", cron="0 * * * *")
    schedule(d, "often", cron="30 * * * *", after=["hourly"])
    pass_time(d, 100 * MINUTE)
    assert [d.row(one)["parents"] for one in ids(d, "often")] == [ids(d, "hourly")[:1]]
    end(d, ids(d, "hourly")[0])
    pass_time(d, 60 * MINUTE)
    assert d.row(ids(d, "often")[1])["parents"] == ids(d, "hourly")[1:2]


def test_where_none_was_due_before_it_a_run_waits_for_nobody(d: Driver) -> None:
    schedule(d, "a", cron="0 0 1 1 *")
    schedule(d, after=["a"])
    d.ask("run_schedule", name="a")
    pass_time(d, FIRST - START)
    assert d.states(*ids(d, "s")) == ["pending"]


@pytest.mark.parametrize(("policy", "state"), [(None, "cancelled"), ("fail", "failed"), ("run", "pending")])
@pytest.mark.parametrize("early", [True, False])
def test_after_a_failure_it_is_as_in_a_graph(d: Driver, policy: str | None, state: str, early: bool) -> None:
    schedule(d, "a")
    task = ["t", b"", {"on_parent_failure": policy} if policy else None]
    schedule(d, "b", cron="* * * * *" if early else "30 * * * * *", after=["a"], task=task)
    pass_time(d, FIRST - START)
    end(d, ids(d, "a")[0], "failed")
    if not early:
        pass_time(d, 30_000)
    assert d.states(ids(d, "b")[-1]) == [state]


def test_a_slot_waits_until_that_of_the_other_is_a_task(d: Driver) -> None:
    d.ask("set_queue", name="small", max_tasks=1)
    d.add(queue="small", delay_ms=600_000)
    schedule(d, "a", task=["t", b"", {"queue": "small"}])
    schedule(d, "b", after=["a"])
    pass_time(d, FIRST - START)
    assert (runs(d, "a"), runs(d, "b")) == ([], [])
    assert "schedule 'a', which it is after, has a slot before it" in events(d, "slot_waits")[1]["why"]
    d.ask("set_queue", name="small", max_tasks=9)
    pass_time(d, 1000)
    pass_time(d, 1000)
    assert (runs(d, "a"), runs(d, "b")) == ([FIRST], [FIRST])
    assert d.row(ids(d, "b")[0])["parents"] == ids(d, "a")


def test_a_slot_waits_for_one_that_is_spread_or_queued_behind_a_run(d: Driver) -> None:
    schedule(d, "a", overlap="queue_one", task=["t", b"", {"label": "a"}])
    schedule(d, "b", after=["a"], misfire="all")
    pass_time(d, FIRST - START)
    (one,) = d.grant(1)
    pass_time(d, MINUTE)
    assert (runs(d, "a"), runs(d, "b")) == ([FIRST], [FIRST])
    d.broker.settled([d.result(one)])
    d.settle_down()
    pass_time(d, 1000)
    assert (runs(d, "a"), runs(d, "b")) == ([FIRST, FIRST + MINUTE], [FIRST, FIRST + MINUTE])
    assert d.row(ids(d, "b")[1])["parents"] == ids(d, "a")[1:]


def test_one_that_is_paused_or_skipped_or_forgotten_is_not_waited_for(d: Driver) -> None:
    schedule(d, "a")
    schedule(d, "b", after=["a"])
    pass_time(d, FIRST - START)
    end(d, ids(d, "a")[0])
    d.ask("remove", ids=ids(d, "a"))
    d.ask("set_schedule", name="a", paused=True)
    pass_time(d, MINUTE)
    assert d.row(ids(d, "b")[1])["parents"] == []
    d.ask("set_schedule", name="a", paused=False)
    d.ask("set_schedule", name="a", next_at=FIRST + 4 * MINUTE)
    pass_time(d, MINUTE)
    assert d.row(ids(d, "b")[2])["state"] == "pending"


def test_what_was_missed_by_both_keeps_its_order(d: Driver) -> None:
    schedule(d, "b")
    schedule(d, "a")
    d.ask("set_schedule", name="b", after=["a"])
    d.reopen()
    pass_time(d, 9 * MINUTE)
    assert runs(d, "a") == runs(d, "b")
    assert d.row(ids(d, "b")[0])["parents"] == ids(d, "a")


def test_a_run_by_hand_waits_for_nobody(d: Driver) -> None:
    schedule(d, "a")
    schedule(d, "b", after=["a"])
    pass_time(d, FIRST - START)
    assert d.row(d.ask("run_schedule", name="b")["id"])["state"] == "pending"


def test_a_circle_is_refused_and_named(d: Driver) -> None:
    for name, after in (("a", []), ("b", ["a"]), ("c", ["b"])):
        schedule(d, name, after=after)
    code, message = d.refusal("set_schedule", name="a", after=["c"])
    assert (code, "in a circle, got 'a > b > c > a'" in message) == ("usage", True)
    assert "got 'a > a'" in d.refusal("set_schedule", name="a", after=["a"])[1]
    d.ask("set_schedule", name="c", after=[])
    d.ask("set_schedule", name="a", after=["c"])
    assert told(d, "a")["after"] == ["c"]


@pytest.mark.parametrize("after", [["nobody"], [5], [""], ["a"] * 21, ["x" * 201]])
def test_what_cannot_be_waited_for_is_refused(d: Driver, after: list[Any]) -> None:
    schedule(d, "a")
    code, message = d.refusal("set_schedule", name="s", new=True, cron="* * * * *", task=["t", b"", None], after=after)
    assert (code, "expected" in message) == ("usage", True)


def test_one_that_others_are_after_is_not_removed(d: Driver) -> None:
    schedule(d, "a")
    schedule(d, "b", after=["a"])
    code, message = d.refusal("remove_schedule", name="a")
    assert (code, "'b'" in message) == ("conflict", True)
    d.ask("set_schedule", name="b", after=[])
    d.ask("remove_schedule", name="a")


def test_an_application_may_name_what_it_declares_later(d: Driver) -> None:
    rows = {"late": {"cron": "* * * * *", "payload": pack({}), "after": ["report"]}, "report": {"cron": "* * * * *", "payload": pack({})}}
    d.broker.put_types([TypeInfo(name, schedule=row) for name, row in rows.items()], d.now)
    assert told(d, "late")["after"] == ["report"]
    pass_time(d, FIRST - START)
    assert d.row(ids(d, "late")[0])["parents"] == ids(d, "report")
    d.reopen()
    assert told(d, "late")["after"] == ["report"]

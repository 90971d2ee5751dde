"""Tenants through a real broker: what is set, what is refused and when it is let in, what is told; on both stores."""

from __future__ import annotations

from typing import Any

import pytest

from tests.tq.broker_driver import ANY, Driver
from tq.broker.tenants import PAGE
from tq.model import State
from tq.store import TypeInfo, Want
from tq.store.tenants import DAY_MS

NONE = {"queued": None, "running": None, "per_day": None, "bytes": None}


def granted(d: Driver) -> list[int]:
    return [task.id for _, tasks in d.turn(Want("w1", 9, ANY)).grants for task in tasks]


def row(d: Driver, name: str) -> dict[str, Any]:
    (found,) = d.ask("tenants", name=name)["tenants"]
    return found


def states(found: dict[str, Any]) -> dict[str, int]:
    return {state: count for state, count in found["states"].items() if count}


def test_a_tenant_is_set_changed_listed_and_removed(d: Driver) -> None:
    assert d.ask("tenants")["tenants"] == []
    assert d.ask("set_tenant", name="acme", queued=5, weight=3) == {"new": True}
    assert d.ask("set_tenant", name="acme", queued=0, bytes=100) == {"new": False}
    assert d.ask("set_tenant", name="acme", bytes=100) == {"new": False}
    found = row(d, "acme")
    assert (found["weight"], found["set"], found["quotas"]) == (3, True, {**NONE, "bytes": 100})
    assert d.ask("remove_tenant", name="acme") == {}
    assert d.ask("tenants")["tenants"] == []
    events = [(event["what"], event["target"], event["before"], event["after"]) for event in d.ask("events", limit=9)["events"]]
    assert events == [
        ("remove_tenant", "tenant acme", {"weight": 3, "bytes": 100}, None),
        ("set_tenant", "tenant acme", {}, {"bytes": 100}),
        ("set_tenant", "tenant acme", {}, {"weight": 3, "queued": 5}),
    ]


def test_what_there_is_of_each_and_of_all_is_told(d: Driver) -> None:
    first, _ = d.add(count=2, tenant="a", payload=b"12345")
    d.add(count=3, tenant="b", delay_ms=50)
    d.add(tenant=None)
    (task,) = d.grant(1)
    assert task.id == first
    d.broker.settled([d.result(task)])
    d.turn()
    d.ask("set_tenant", name="c", running=7)
    body = d.ask("tenants")
    assert [(one["name"], states(one), one["waiting"], one["bytes"], one["today"], one["set"]) for one in body["tenants"]] == [
        ("a", {"pending": 1, "succeeded": 1}, 1, 5, 2, False), ("b", {"scheduled": 3}, 3, 0, 3, False), ("c", {}, 0, 0, 0, True),
    ]  # fmt: skip
    total = body["total"]
    assert (total["name"], states(total), total["today"]) == (None, {"scheduled": 3, "pending": 1, "succeeded": 1}, 5)
    assert (body["tenants"][0]["mean_ms"], body["tenants"][1]["mean_ms"]) == (total["mean_ms"], None)
    assert (body["next"], body["tenants"][2]["quotas"]) == (None, {**NONE, "running": 7})
    page = d.ask("tenants", after="a", limit=1)
    assert ([one["name"] for one in page["tenants"]], page["next"]) == (["b"], "b")
    assert "Did you mean 'a'" in d.refusal("tenants", name="aa")[1]


@pytest.mark.parametrize(
    ("args", "says"),
    [
        ({}, "expected the argument name"),
        ({"name": "a"}, "expected a weight or a quota (queued, running, per_day, bytes), got none"),
        ({"name": "a", "weight": 0}, "weight: expected a number from 1"),
        ({"name": "a", "queued": -1}, "queued: expected a number from 0"),
        ({"name": "a", "bytes": "1M"}, "bytes: expected int"),
        ({"name": "x" * 201, "queued": 1}, "a name of 1 to 200 bytes"),
        ({"name": "a", "colour": 1}, "expected the arguments"),
    ],
)
def test_what_is_no_tenant_is_refused(d: Driver, args: dict[str, Any], says: str) -> None:
    code, message = d.refusal("set_tenant", **args)
    assert code == "usage"
    assert says in message
    assert d.ask("tenants")["tenants"] == []
    assert "limit: expected a number from 1" in d.refusal("tenants", limit=PAGE + 1)[1]


def test_no_more_than_so_many_are_set(d: Driver, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tq.broker.tenants.TENANTS_MOST", 2)
    for number in range(2):
        d.ask("set_tenant", name=f"t{number}", queued=1)
    assert "at most 2" in d.refusal("set_tenant", name="more", queued=1)[1]
    d.ask("set_tenant", name="t1", queued=2)
    assert "Did you mean 't1'" in d.refusal("remove_tenant", name="t1x")[1]


def test_what_passes_a_quota_is_refused_whole_and_let_in_when_a_task_begins(d: Driver) -> None:
    d.ask("set_tenant", name="a", queued=2)
    d.add(tenant="a")
    code, message = d.refusal("enqueue", tasks=[["t", b"", {"tenant": "b"}], *[["t", b"", {"tenant": "a"}]] * 2])
    assert code == "refused"
    assert "tenant 'a' has reached its quota: expected at most 2 tasks that wait, it has 1 and 2 came. Nothing was stored" in message
    assert "`tq tenant set 'a' --queued`" in message
    assert [one["name"] for one in d.ask("tenants")["tenants"]] == ["a"]
    d.add(tenant="a")
    assert len(granted(d)) == 2
    d.add(tenant="a", count=2)


def test_a_quota_of_a_day_ends_with_the_day_in_utc(d: Driver) -> None:
    d.now += DAY_MS - d.now % DAY_MS + 1000
    d.ask("set_tenant", name="a", per_day=2)
    d.add(tenant="a", count=2)
    assert "tasks accepted in a day (UTC), today it had 2 and 1 came" in d.refusal("enqueue", tasks=[["t", b"", {"tenant": "a"}]])[1]
    assert len(granted(d)) == 2
    assert d.refusal("enqueue", tasks=[["t", b"", {"tenant": "a"}]])[0] == "refused"
    d.now += DAY_MS - 2000
    assert d.refusal("enqueue", tasks=[["t", b"", {"tenant": "a"}]])[0] == "refused"
    d.now += 1000
    assert row(d, "a")["today"] == 0
    d.add(tenant="a", count=2)
    assert row(d, "a")["today"] == 2


def test_no_more_run_than_the_quota_says_and_why_says_it(d: Driver) -> None:
    d.broker.put_types([TypeInfo("t")], d.now)
    d.ask("set_tenant", name="a", running=1)
    first, second = d.add(count=2, tenant="a")
    assert d.broker.backlog(["t"]) == 1
    assert granted(d) == [first]
    assert d.broker.backlog(["t"]) == 0
    reasons = dict(d.ask("why", id=second)["reasons"])
    assert reasons["quota_reached"] == {"tenant": "a", "quota": 1, "running": 1}
    assert "limit_reached" not in reasons
    assert d.ask("limits") == {"limits": []}
    d.ask("set_tenant", name="a", running=0)
    assert granted(d) == [second]


def test_a_replaced_task_makes_room_for_the_one_that_takes_its_place(d: Driver) -> None:
    d.ask("set_tenant", name="a", queued=1)
    d.add(tenant="a", unique="u")
    (fresh,) = d.add(tenant="a", unique="u", unique_policy="replace")
    assert states(row(d, "a")) == {"pending": 1, "cancelled": 1}
    assert d.refusal("enqueue", tasks=[["t", b"", {"tenant": "a", "unique": "v"}]])[0] == "refused"
    assert d.add(tenant="a", unique="u", unique_policy="existing") == [fresh]


def test_what_people_bring_back_passes_a_quota_and_so_do_retries(d: Driver) -> None:
    d.ask("set_tenant", name="a", queued=1)
    (one,) = d.add(tenant="a")
    d.ask("cancel", ids=[one])
    (two,) = d.add(tenant="a")
    assert d.ask("retry", ids=[one]) == {"outcomes": ["retried"]}
    assert states(row(d, "a")) == {"pending": 2, "cancelled": 1}
    assert sorted(granted(d)) == [one, two]


def test_a_peek_at_a_tenant_shows_its_own_in_their_order(d: Driver) -> None:
    d.add(count=2, tenant="a")
    mine = d.add(count=3, tenant="b")
    d.add()
    assert [task["id"] for task in d.ask("peek", tenant="b", limit=2)["tasks"]] == mine[:2]
    assert d.ask("peek", tenant="c")["tasks"] == []
    assert d.broker.desk.store.states(mine) == [State.PENDING] * 3


def test_a_schedule_whose_tenant_is_at_its_quota_tries_again(d: Driver) -> None:
    d.ask("set_tenant", name="a", queued=1)
    (one,) = d.add(tenant="a")
    d.ask("set_schedule", name="s", new=True, every_ms=60_000, task=["t", b"", {"tenant": "a"}])
    d.now += 60_000
    d.turn()
    assert states(row(d, "a")) == {"pending": 1}
    d.ask("cancel", ids=[one])
    d.now += 60_000
    d.turn()
    assert states(row(d, "a"))["pending"] == 1

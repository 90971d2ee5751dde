"""Limits of each worker, through a real broker under a clock turned by hand, on both stores."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.tq.broker_driver import ANY, Driver
from tq.store import Claimed, Want


def handed(d: Driver, worker: str, limit: int = 9, **more: Any) -> list[int]:
    return [task.id for task in tasks_of(d, worker, limit, **more)]


def tasks_of(d: Driver, worker: str, limit: int = 9, **more: Any) -> list[Claimed]:
    return [task for _, tasks in d.turn(Want(worker, limit, ANY, **more)).grants for task in tasks]


def used(d: Driver) -> dict[str, tuple[int, bool]]:
    (row,) = d.ask("limits")["limits"]
    return {one["of"]: (one["running"], one["reached"]) for one in row["used"]}


def test_each_worker_runs_so_many_of_a_type_and_takes_others_beside_them(d: Driver) -> None:
    d.ask("set_limit", name="l", scope="type", of="t", each="worker", running=2)
    ids, others = d.add(count=7, priority=9), d.add(count=3, kind="u")
    first = tasks_of(d, "w1")
    assert [task.id for task in first] == [*ids[:2], *others]
    assert handed(d, "w2") == ids[2:4]
    assert used(d) == {"w1": (2, True), "w2": (2, True)}
    assert handed(d, "w1") == []
    d.broker.settled([d.result(first[0])])
    assert handed(d, "w1") == ids[4:5]
    d.broker.settled([d.result(first[1], "released")])
    assert handed(d, "w1") == ids[1:2], "what has not begun is the next again"


def test_a_queue_too_and_others_keep_their_order(d: Driver) -> None:
    d.ask("set_limit", name="l", scope="queue", of="mail", each="worker", running=1)
    mail, rest = d.add(count=3, queue="mail", priority=9), d.add(count=2)
    got = handed(d, "w1")
    assert sorted(got) == [mail[0], *rest]
    assert handed(d, "w1", queues=frozenset({"mail"})) == []
    assert handed(d, "w2", queues=frozenset({"mail"})) == mail[1:2]


@pytest.mark.parametrize("window", ["none", "sliding", "fixed"])
def test_each_worker_has_a_rate_of_its_own_and_is_woken_when_it_opens(d: Driver, window: str) -> None:
    d.now = 1_700_000_000_000
    d.ask("set_limit", name="l", scope="type", of="t", each="worker", rate=1, per_ms=1000, window=window)
    ids = d.add(count=5)
    assert (handed(d, "w1"), handed(d, "w2"), handed(d, "w1")) == (ids[:1], ids[1:2], [])
    assert d.broker.next_due == d.now + 1000
    d.now += 1000
    assert (handed(d, "w1"), handed(d, "w2")) == (ids[2:3], ids[3:4])
    d.now += 999
    assert handed(d, "w1") == []


def test_a_consumer_is_a_worker_and_one_that_waits_is_given_what_opens(d: Driver) -> None:
    d.ask("set_limit", name="l", scope="type", of="t", each="worker", rate=1)
    ids = d.add(count=4)
    assert [task["id"] for task in d.ask("claim", types=["t"], limit=9)["tasks"]] == ids[:1]
    number = d.submit("claim", types=["t"], limit=9, wait_ms=60_000)
    d.turn()
    assert d.answer(number) is None
    assert [task["id"] for task in d.ask("claim", conn=2, types=["t"], limit=9)["tasks"]] == ids[1:2]
    assert d.broker.next_due == d.now + 1000
    d.now += 1000
    d.turn()
    assert [task["id"] for task in d.answer(number)["tasks"]] == ids[2:3]
    due = d.broker.next_due
    d.broker.gone(1)
    d.now += 60_000
    d.turn()
    assert due is not None
    assert d.broker.next_due is None or d.broker.next_due > d.now, "who is gone wakes nobody again and again"


def test_a_clock_that_is_put_back_keeps_nobody_waiting_for_longer_than_his_time(d: Driver) -> None:
    d.ask("set_limit", name="l", scope="type", of="t", each="worker", rate=1)
    ids = d.add(count=3)
    assert [task["id"] for task in d.ask("claim", types=["t"])["tasks"]] == ids[:1]
    number = d.submit("claim", types=["t"], wait_ms=60_000)
    d.turn()
    d.step(-7_200_000)
    d.turn()
    assert d.broker.next_due is not None
    assert d.broker.next_due <= d.now + 1000
    d.now += 1000
    d.turn()
    assert [task["id"] for task in d.answer(number)["tasks"]] == ids[1:2]


def test_the_only_one_of_a_window_that_is_given_back_leaves_it_empty(d: Driver) -> None:
    d.ask("set_limit", name="l", scope="type", of="t", each="worker", rate=1, per_ms=60_000, window="sliding")
    first, *_ = d.add(count=2)
    (task,) = d.ask("claim", types=["t"], limit=9)["tasks"]
    d.ask("release", claims=[[task["id"], task["claim"]]])
    assert [one["id"] for one in d.ask("claim", types=["t"], limit=9)["tasks"]] == [first]


def test_a_lease_that_lapses_and_a_hand_out_that_is_given_back_free_their_places(d: Driver) -> None:
    d.ask("set_limit", name="l", scope="type", of="t", each="worker", running=1, rate=2, burst=2)
    first, *_ = d.add(count=4)
    (task,) = d.ask("claim", types=["t"], limit=9, lease_ms=1000)["tasks"]
    assert task["id"] == first
    assert d.ask("claim", types=["t"], limit=9)["tasks"] == []
    d.ask("release", claims=[[task["id"], task["claim"]]])
    (task,) = d.ask("claim", types=["t"], limit=9, lease_ms=1000)["tasks"]
    assert (task["id"], used(d)) == (first, {"consumer-1": (1, True)})
    d.now += 1001
    d.turn()
    assert [task["id"] for task in d.ask("claim", types=["t"], limit=9)["tasks"]] == [first]


def test_what_runs_counts_for_a_limit_that_is_new_and_after_a_restart(d: Driver) -> None:
    ids = d.add(count=5)
    (task,) = d.ask("claim", types=["t"], limit=1)["tasks"]
    d.ask("set_limit", name="l", scope="type", of="t", each="worker", running=1)
    assert d.ask("claim", types=["t"], limit=9)["tasks"] == []
    d.reopen()
    assert d.ask("claim", types=["t"], limit=9)["tasks"] == []
    d.ask("settle", results=[[task["id"], task["claim"], "succeeded", None]])
    assert [one["id"] for one in d.ask("claim", types=["t"], limit=9)["tasks"]] == ids[1:2]
    d.ask("set_limit", name="l", running=2)
    assert len(d.ask("claim", types=["t"], limit=9)["tasks"]) == 1
    assert d.ask("limits")["limits"][0]["each"] == "worker", "what is not named stays"
    d.ask("remove_limit", name="l")
    assert (len(d.ask("claim", types=["t"], limit=9)["tasks"]), d.broker.desk.each_worker, d.broker.desk.ends_seen) == (2, None, {})


def test_it_holds_beside_breakers_and_limits_of_all(d: Driver) -> None:
    d.ask("set_limit", name="l", scope="type", of="t", each="worker", running=2)
    d.ask("set_limit", name="all", scope="type", of="t", running=3)
    d.ask("trip_breaker", type="u")
    ids = d.add(count=5)
    d.add(count=2, kind="u")
    assert (handed(d, "w1"), handed(d, "w2")) == (ids[:2], ids[2:3])


@pytest.mark.parametrize(
    ("args", "says"),
    [
        ({"scope": "tenant", "of": "a", "each": "worker", "running": 1}, "each: expected none, or worker with a queue or a type"),
        ({"scope": "type", "of": "t", "each": "process", "running": 1}, "each: expected none, or worker"),
        (
            {"scope": "type", "of": "t", "each": "worker", "adaptive": "running", "low": 1, "high": 2},
            "adaptive: expected a limit that counts",
        ),
    ],
)
def test_what_cannot_be_counted_by_workers_is_refused(d: Driver, args: dict[str, Any], says: str) -> None:
    assert says in d.refusal("set_limit", name="l", **args)[1]


@given(st.lists(st.tuples(st.integers(0, 400), st.integers(0, 2), st.integers(1, 4), st.booleans()), max_size=40))
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_no_worker_ever_has_more_than_its_share(tmp_path_factory: Any, steps: list[tuple[int, int, int, bool]]) -> None:
    d = Driver("memory", tmp_path_factory.mktemp("d") / "store")
    d.ask("set_limit", name="l", scope="type", of="t", each="worker", running=3, rate=2, per_ms=500, window="sliding")
    d.add(count=80)
    d.add(count=80, kind="u")
    began: dict[str, list[int]] = {}
    runs: dict[str, list[Claimed]] = {}
    for later, worker, limit, ends in steps:
        d.now += later
        name = f"w{worker}"
        if ends and runs.get(name):
            d.broker.settled([d.result(runs[name].pop(0))])
        for task in tasks_of(d, name, limit):
            if task.header.type == "t":
                began.setdefault(name, []).append(d.now)
                runs.setdefault(name, []).append(task)
        assert len(runs.get(name, ())) <= 3
        assert sum(at > d.now - 500 for at in began.get(name, ())) <= 2
    d.store.close()

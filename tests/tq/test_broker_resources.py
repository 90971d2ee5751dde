"""Named resources and heavy tasks through a real broker: what is refused, what waits, what is told; on both stores."""

from __future__ import annotations

from typing import Any

import pytest

from tests.tq.broker_driver import ANY, Driver
from tests.tq.test_broker_reasons import sees, why
from tq.broker.resources import declared_resources
from tq.errors import ConfigError
from tq.store import TypeInfo, Want


def pool(free: int = 2, slots: int = 2) -> Want:
    return Want("w1", 9, ANY, at_once=1, free=free, slots=slots)


def granted(d: Driver, *wants: Want) -> list[int]:
    return [task.id for _, tasks in d.turn(*wants or (Want("w1", 9, ANY),)).grants for task in tasks]


def test_a_resource_is_set_changed_listed_and_removed(d: Driver) -> None:
    assert d.ask("resources") == {"resources": []}
    assert d.ask("set_resource", name="gpu", amount=2) == {"new": True}
    assert d.ask("set_resource", name="gpu", amount=3) == {"new": False}
    (task,) = d.add(uses={"gpu": 2})
    d.grant(9)
    assert d.ask("resources")["resources"] == [{"name": "gpu", "amount": 3, "in_use": 2, "tasks": [task], "kept_for": None}]
    d.ask("set_resource", name="gpu", amount=0)
    assert d.ask("resources")["resources"][0]["amount"] == 0
    assert d.ask("remove_resource", name="gpu") == {}
    assert d.ask("resources") == {"resources": []}
    events = [(one["what"], one["target"], one["before"], one["after"]) for one in d.ask("events")["events"]]
    assert events == [
        ("remove_resource", "resource gpu", {"amount": 0}, {"amount": None}),
        ("set_resource", "resource gpu", {"amount": 3}, {"amount": 0}),
        ("set_resource", "resource gpu", {"amount": 2}, {"amount": 3}),
        ("set_resource", "resource gpu", {"amount": None}, {"amount": 2}),
    ]


@pytest.mark.parametrize(
    ("verb", "args", "says"),
    [
        ("set_resource", {"name": "gpu"}, "argument amount"),
        ("set_resource", {"name": "g:1", "amount": 1}, "without spaces and colons"),
        ("set_resource", {"name": "g 1", "amount": 1}, "without spaces and colons"),
        ("set_resource", {"name": "", "amount": 1}, "name of 1"),
        ("set_resource", {"name": "gpu", "amount": -1}, "from 0 to 1000000"),
        ("set_resource", {"name": "gpu", "amount": 1_000_001}, "from 0 to 1000000"),
        ("set_resource", {"name": "gpu", "amount": True}, "expected int"),
        ("remove_resource", {"name": "gqu"}, "Did you mean 'gpu'"),
        ("resources", {"name": "gpu"}, "expected the arguments"),
    ],
)
def test_a_request_that_cannot_be_says_so_and_changes_nothing(d: Driver, verb: str, args: dict[str, Any], says: str) -> None:
    d.ask("set_resource", name="gpu", amount=2)
    code, message = d.refusal(verb, **args)
    assert (code, says in message) == ("usage", True), message
    assert [row["amount"] for row in d.ask("resources")["resources"]] == [2]


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"uses": {"gqu": 1}}, "expected a resource that there is (gpu), got 'gqu'. Did you mean 'gpu'?"),
        ({"uses": {"gpu": 3}}, "expected at most 2 of resource 'gpu', which is all there is, got 3. `tq resource set`"),
        ({"uses": {"gpu": 0}}, "uses: gpu: expected a whole number of units from 1 to 1000000, got 0"),
        ({"uses": {"gpu": True}}, "got True"),
        ({"uses": ["gpu"]}, "expected a map of at most 16 resources"),
        ({"uses": {f"r{n}": 1 for n in range(17)}}, "expected a map of at most 16 resources"),
        ({"uses": {"a b": 1}}, "expected a map of at most 16 resources"),
        ({"slots": 0}, "slots: expected a whole number of slots from 1 to"),
        ({"slots": 5}, "slots: expected at most 4, as many as the workers may have, got 5. `tq worker scale`"),
        ({"slots": 3, "queue": "small"}, "slots: expected at most 2, which is all that queue 'small' has, got 3. `tq queue set small"),
    ],
)
def test_a_task_that_could_never_run_is_refused_when_it_is_sent(d: Driver, options: dict[str, Any], says: str) -> None:
    d.ask("set_resource", name="gpu", amount=2)
    d.ask("set_queue", name="small", slots=2)
    d.broker.desk.intake.capacity = lambda: 4
    code, message = d.refusal("enqueue", tasks=[["t", b"", options]])
    assert (code, says in message) == ("usage", True), message
    (waits,) = d.add(delay_ms=1000)
    if "queue" not in options:
        assert d.refusal("edit", ids=[waits], changes=options)[0] == "usage"
    assert (d.row(waits)["slots"], d.row(waits)["uses"]) == (1, {})


def test_consumers_of_an_external_queue_are_not_bound_by_the_pool(d: Driver) -> None:
    d.broker.desk.intake.capacity = lambda: 1
    d.ask("set_queue", name="out", external=True)
    (task,) = d.add(slots=3, queue="out")
    assert d.row(task)["slots"] == 3


def test_a_limit_that_was_changed_holds_for_the_next_task(d: Driver) -> None:
    assert d.refusal("enqueue", tasks=[["t", b"", {"uses": {"gpu": 1}}]])[0] == "usage"
    d.ask("set_resource", name="gpu", amount=1)
    d.add(uses={"gpu": 1})
    d.ask("remove_resource", name="gpu")
    assert d.refusal("enqueue", tasks=[["t", b"", {"uses": {"gpu": 1}}]])[0] == "usage"


def test_a_type_says_what_its_tasks_need_unless_they_do(d: Driver) -> None:
    d.ask("set_resource", name="gpu", amount=2)
    d.broker.put_types([TypeInfo("t", slots=2, uses={"gpu": 1})], d.now)
    usual, own, none = d.add(), d.add(uses={"gpu": 2}, slots=1), d.add(uses={})
    found = [(d.row(*one)["slots"], d.row(*one)["uses"]) for one in (usual, own, none)]
    assert found == [(2, {"gpu": 1}), (1, {"gpu": 2}), (2, {})]


def test_the_same_request_in_another_order_of_words_is_the_same(d: Driver) -> None:
    for name in "ab":
        d.ask("set_resource", name=name, amount=2)
    first = d.add(uses={"a": 1, "b": 2}, key="k")
    assert d.add(uses={"b": 2, "a": 1}, key="k") == first
    assert d.refusal("enqueue", tasks=[["t", b"", {"uses": {"a": 2, "b": 2}, "key": "k"}]])[0] == "conflict"
    assert (d.row(first[0])["key"], d.row(first[0])["uses"]) == ("k", {"a": 1, "b": 2})


def test_a_resource_that_is_set_lets_go_who_waits_for_it_at_once(d: Driver) -> None:
    d.ask("set_resource", name="gpu", amount=1)
    first, second, third = d.add(3, uses={"gpu": 1})
    assert granted(d) == [first]
    number = d.submit("set_resource", name="gpu", amount=2)
    assert granted(d) == [second]
    assert d.answer(number) == {"new": False}
    d.ask("remove_resource", name="gpu")
    assert granted(d) == []
    assert d.states(first, second, third) == ["running", "running", "pending"]


def test_a_consumer_that_waits_hears_when_a_resource_is_free(d: Driver) -> None:
    d.ask("set_resource", name="gpu", amount=1)
    d.ask("set_queue", name="out", external=True)
    first, second = d.add(2, uses={"gpu": 1}, queue="out")
    (held,) = d.ask("claim", queues=["out"])["tasks"]
    assert held["id"] == first
    number = d.submit("claim", conn=2, queues=["out"], wait_ms=60_000)
    d.turn()
    assert d.answer(number, 2) is None
    d.ask("settle", results=[[held["id"], held["claim"], "succeeded", {}]])
    d.settle_down()
    assert [task["id"] for task in d.answer(number, 2)["tasks"]] == [second]


def test_what_a_waiting_task_needs_is_edited(d: Driver) -> None:
    d.ask("set_resource", name="gpu", amount=1)
    first, second = d.add(2, uses={"gpu": 1})
    assert granted(d) == [first]
    d.ask("edit", ids=[second], changes={"slots": 2})
    assert (d.row(second)["slots"], d.row(second)["uses"]) == (2, {"gpu": 1})
    assert granted(d) == []
    d.ask("edit", ids=[second], changes={"uses": {}})
    assert granted(d, pool(free=1)) == []
    assert granted(d, pool()) == [second]


def test_a_crash_of_the_daemon_gives_everything_back(d: Driver) -> None:
    d.ask("set_resource", name="gpu", amount=1)
    first, second = d.add(2, uses={"gpu": 1}, slots=2, retries=0)
    assert granted(d, pool()) == [first]
    d.reopen()
    assert granted(d, pool()) == []
    assert d.broker.recover(lambda *_: True, d.now) == (1, 0)
    assert d.store.in_use().resources == {}
    assert granted(d, pool()) == [first]  # it has kept its place
    assert d.states(second) == ["pending"]


# -- why -----------------------------------------------------------------------------------------------------------


def test_who_has_what_a_task_waits_for_is_told(d: Driver) -> None:
    sees(d)
    d.ask("set_resource", name="gpu", amount=2)
    one, two, third = d.add(3, uses={"gpu": 1})
    granted(d)
    taken = {"resource": "gpu", "amount": 1, "in_use": 2, "total": 2, "tasks": [one, two], "of": 2}
    assert why(d, third) == {"resource_taken": taken, "place": {"queue": "default", "ahead": 0}}
    d.ask("set_resource", name="gpu", amount=0)
    assert why(d, third)["resource_short"] == {"resource": "gpu", "amount": 1, "total": 0}
    d.ask("remove_resource", name="gpu")
    assert why(d, third)["resource_short"] == {"resource": "gpu", "amount": 1, "total": 0}


def test_a_heavy_task_says_how_many_slots_it_lacks(d: Driver) -> None:
    sees(d, active=1)
    (task,) = d.add(slots=2)
    assert why(d, task)["workers_busy"] == {"active": 1, "slots": 2, "needs": 2}
    d.ask("set_queue", name="default", slots=3)
    light, heavy = d.add(slots=1)[0], d.add(slots=3)[0]
    assert granted(d, pool(free=1)) == [light]
    assert why(d, heavy)["queue_slots_taken"] == {"queue": "default", "running": 1, "slots": 3, "needs": 3}


def test_for_whom_something_is_kept_is_told(d: Driver) -> None:
    sees(d, active=1)
    d.ask("set_resource", name="gpu", amount=2)
    d.ask("set_queue", name="default", aging_ms=50, aging_share=1)
    (running,) = d.add(uses={"gpu": 1})
    assert granted(d) == [running]
    (big,), (small,) = d.add(uses={"gpu": 2}), d.add(uses={"gpu": 1})
    d.now += 51
    assert granted(d) == []
    assert why(d, small)["kept"] == {"resource": "gpu", "queue": "default", "id": big}
    assert "kept" not in why(d, big)
    assert d.ask("resources")["resources"][0]["kept_for"] == big
    heavy = d.add(slots=2)[0]
    d.now += 51
    assert granted(d, pool(free=1)) == []
    assert why(d, small)["kept"]["id"] in (big, heavy)
    (plain,) = d.add()
    assert granted(d, pool(free=1)) == []
    assert why(d, plain)["kept"] == {"resource": "", "queue": "default", "id": heavy}


# -- workers for what waits ------------------------------------------------------------------------------------------


def test_what_waits_for_a_resource_wants_no_workers(d: Driver) -> None:
    types = frozenset({"t", "u"})
    d.ask("set_resource", name="gpu", amount=2)
    d.add(5, uses={"gpu": 1})
    assert d.broker.backlog(types) == 2
    granted(d)
    assert (d.broker.backlog(types), d.store.ready()) == (0, False)
    d.add(3)
    assert d.broker.backlog(types) == 3
    d.ask("set_resource", name="gpu", amount=3)
    assert d.broker.backlog(types) == 4
    assert d.broker.backlog(frozenset({"u"})) == 0


def test_a_heavy_task_wants_as_many_slots_as_it_takes(d: Driver) -> None:
    types = frozenset({"t"})
    d.add(slots=3)
    assert d.broker.backlog(types) == 3
    d.add(slots=2)
    assert d.broker.backlog(types) == 5


# -- the settings file -------------------------------------------------------------------------------------------------


def test_what_a_file_says_holds_from_each_start_on(d: Driver) -> None:
    d.broker.declare_resources({"gpu": 2, "licence": 1}, {}, "/etc/tq.toml", d.now)
    assert d.store.resources() == {"gpu": 2, "licence": 1}
    assert d.ask("resources")["file"] == "/etc/tq.toml"
    assert d.ask("set_resource", name="gpu", amount=5) == {"new": False, "declared": 2}
    d.ask("set_resource", name="own", amount=1)
    d.reopen()
    d.broker.declare_resources({"gpu": 2, "licence": 1}, {"gpu": 2, "licence": 1}, "/etc/tq.toml", d.now)
    assert d.store.resources() == {"gpu": 2, "licence": 1, "own": 1}
    d.ask("set_resource", name="licence", amount=7)
    d.broker.declare_resources({}, {"gpu": 2, "licence": 1}, "/etc/tq.toml", d.now)
    assert d.store.resources() == {"licence": 7, "own": 1}  # one was set since
    assert "file" not in d.ask("resources")


@pytest.mark.parametrize(
    ("table", "says"), [({"gpu": -1}, "from 0 to"), ({"gpu": "2"}, "whole number"), ({"g u": 1}, "without spaces"), ({"g": True}, "True")]
)
def test_a_table_that_cannot_be_names_the_file_and_the_resource(table: dict[str, Any], says: str) -> None:
    with pytest.raises(ConfigError, match=says) as error:
        declared_resources("/etc/tq.toml", table)
    assert error.value.message.startswith(f"/etc/tq.toml: [resources]: {next(iter(table))}: ")

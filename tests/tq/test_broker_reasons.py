"""Why a task is where it is: a true reason for every state, through a real broker; on both stores."""

from __future__ import annotations

from typing import Any

import pytest

from tests.tq.broker_driver import START, Driver
from tq.broker.desk import Sight
from tq.store import TypeInfo

BOOM = {"type": "ValueError", "message": "no"}
LATER = {"type": "Retry", "message": "in a while"}
NEVER = {"type": "Permanent", "message": "no"}
READY = Sight(draining=False, workers=2, starting=0, knowing=2, crashes=0, try_at=0, begun=True, ends_at=None)


@pytest.fixture(autouse=True)
def two_free_slots(d: Driver) -> None:
    sees(d)


def sees(d: Driver, active: int = 0, slots: int = 2, **more: Any) -> None:
    """What the daemon says of its workers."""
    d.broker.desk.slots = lambda: (active, slots)
    d.broker.desk.sight = lambda _: READY._replace(**more)


def why(d: Driver, task_id: int) -> dict[str, Any]:
    """Details by reason, in the reasons' order."""
    return dict(d.ask("why", id=task_id)["reasons"])


def settle(d: Driver, kind: object = 0, **outcome: Any) -> None:
    d.broker.settled([d.result(task, kind, **outcome) for task in d.grant(100)])
    d.turn()


def test_a_task_of_the_future_says_until_when(d: Driver) -> None:
    (task,) = d.add(delay_ms=5000)
    assert why(d, task) == {"not_due": {"due_at": START + 5000}}
    d.ask("set_queue", name="default", paused=True)
    assert list(why(d, task)) == ["not_due", "queue_paused"]


def test_a_retry_says_which_attempt_it_is_and_what_went_wrong(d: Driver) -> None:
    (task,) = d.add(retries=2, backoff=["fixed", 9000, 1.0, 9000, False])
    settle(d, "failed", error=BOOM)
    assert why(d, task) == {"retry_not_due": {"due_at": START + 9000, "failures": 1, "retries": 2, "attempt": 2, "error": BOOM}}


def test_a_blocked_task_says_for_which_others_it_waits_and_what_they_do(d: Driver) -> None:
    first, second = d.add(2)
    d.grant(1)
    (task,) = d.add(after=[first, second])
    assert why(d, task) == {"blocked": {"parents": [[first, "running"], [second, "pending"]], "waits": 2, "of": 2}}
    settle(d)
    assert why(d, task)["blocked"]["waits"] == 1
    many = d.add(20)
    (task,) = d.add(after_any=many)
    told = why(d, task)["blocked"]
    assert (len(told["parents"]), told["waits"], told["of"]) == (10, 20, 20)


def test_a_paused_queue_says_since_when_and_by_whom_also_after_a_restart(d: Driver) -> None:
    (task,) = d.add()
    d.now += 1000
    d.ask("set_queue", name="default", paused=True)
    d.now += 1000
    d.ask("set_queue", name="default", weight=3)
    if d.kind == "lmdb":
        d.reopen()
        sees(d)
    place = {"queue": "default", "ahead": 0}
    assert why(d, task) == {"queue_paused": {"queue": "default", "who": "tq", "since": START + 1000}, "place": place}
    d.ask("set_queue", name="default", paused=False)
    assert list(why(d, task)) == ["place"]


def test_an_external_queue_says_how_many_tasks_its_consumers_hold(d: Driver) -> None:
    d.ask("set_queue", name="out", external=True)
    first, second = d.add(2, queue="out")
    assert why(d, second) == {"queue_external": {"queue": "out", "running": 0}, "place": {"queue": "out", "ahead": 1}}
    d.ask("claim", queues=["out"], limit=1)
    assert why(d, second)["queue_external"]["running"] == 1
    assert why(d, first)["running"]["ends_at"] == START + 300_000


def test_a_place_counts_the_turns_of_tenants(d: Driver) -> None:
    much, (little,) = d.add(50, tenant="much"), d.add(1, tenant="little", priority=0)
    d.ask("set_tenant", name="much", weight=4)
    assert why(d, little)["place"] == {"queue": "default", "ahead": 1}
    assert why(d, much[10])["place"] == {"queue": "default", "ahead": 11}
    assert [(row["id"], row["why"]) for row in d.ask("peek", limit=3)["tasks"]] == [
        (much[0], "priority"), (little, "share"), (much[1], "priority"),
    ]  # fmt: skip


def test_a_type_that_no_worker_ever_had_or_none_has_any_more_says_so(d: Driver) -> None:
    (task,) = d.add(kind="odd", allow_unknown=True)
    sees(d, knowing=0)
    assert next(iter(why(d, task).items())) == ("no_worker_knows_type", {"type": "odd"})
    (task,) = d.add()
    assert next(iter(why(d, task).items())) == ("no_worker_has_type", {"type": "t", "workers": 2})


def test_a_suspected_type_says_how_often_it_crashed_and_when_one_is_tried(d: Driver) -> None:
    (task,) = d.add()
    sees(d, crashes=3, try_at=START + 700)
    assert why(d, task)["type_suspected"] == {"type": "t", "crashes": 3, "try_at": START + 700}


def test_what_waits_for_company_in_its_call_says_until_when(d: Driver) -> None:
    (task,) = d.add()
    sees(d, gathers=(3, 100, 40))
    assert why(d, task)["gathers"] == {"type": "t", "waiting": 3, "batch": 100, "begins_at": START + 40}


def test_no_workers_starting_ones_and_a_drain_are_told_apart(d: Driver) -> None:
    (task,) = d.add()
    for more, word in (({}, "no_workers"), ({"starting": 1}, "workers_start"), ({"draining": True}, "draining")):
        sees(d, slots=0, workers=0, knowing=0, **more)
        assert next(iter(why(d, task))) == word
        assert "estimate_ms" not in why(d, task)["place"]


def test_taken_slots_of_the_queue_and_of_the_workers_are_told(d: Driver) -> None:
    d.ask("set_queue", name="default", slots=1)
    *_, third = d.add(3)
    d.grant(1)
    assert why(d, third) == {
        "queue_slots_taken": {"queue": "default", "running": 1, "slots": 1, "needs": 1}, "place": {"queue": "default", "ahead": 1},
    }  # fmt: skip
    sees(d, active=2, slots=2)
    assert why(d, third)["workers_busy"] == {"active": 2, "slots": 2, "needs": 1}


def test_the_estimate_follows_from_the_mean_the_slots_and_the_share_of_the_queue(d: Driver) -> None:
    ids = d.add(5)
    assert why(d, ids[4]) == {"place": {"queue": "default", "ahead": 4}}  # nothing was measured yet
    d.broker.desk.mean = {"t": 1000.0}.get
    assert why(d, ids[0]) == {"place": {"queue": "default", "ahead": 0}}
    assert why(d, ids[4])["place"]["estimate_ms"] == 2000
    sees(d, active=2)
    assert why(d, ids[4])["place"]["estimate_ms"] == 2500  # one more must end
    d.ask("set_queue", name="default", slots=1)
    assert why(d, ids[4])["place"]["estimate_ms"] == 5000
    d.ask("set_queue", name="other", weight=3)
    d.add(queue="other")
    assert why(d, ids[4])["place"]["estimate_ms"] == 20_000
    d.ask("set_queue", name="other", paused=True)
    assert why(d, ids[4])["place"]["estimate_ms"] == 5000


def test_without_the_daemons_word_the_mean_of_all_runs_is_taken(d: Driver) -> None:
    d.add()
    (task,) = d.grant()
    d.broker.settled([[task.id, task.claim, 0, d.now, d.now + 400, False, None]])
    ids = d.add(3)
    assert why(d, ids[2])["place"]["estimate_ms"] == 400


def test_far_behind_it_says_at_least_and_a_time_to_live_when_it_ends(d: Driver) -> None:
    ids = d.add(502, ttl_ms=60_000)
    assert why(d, ids[-1]) == {
        "place": {"queue": "default", "ahead": 500, "or_more": True}, "expires": {"expires_at": START + 60_000},
    }  # fmt: skip


def test_a_running_task_says_where_since_when_and_until_when(d: Driver) -> None:
    (task,) = d.add(timeout_ms=5000, deadline_ms=4000)
    d.now += 10
    d.grant()
    assert why(d, task) == {"running": {"worker": "w1", "since": START + 10, "attempt": 1, "ends_at": START + 4000, "progress": None}}
    d.broker.desk.live = lambda _: {"suspended": True, "progress": (0.5, "half")}
    assert list(why(d, task)) == ["running", "suspended"]
    assert why(d, task)["running"]["progress"] == [0.5, "half"]
    for at, told in ((START + 3000, START + 3000), (START + 9000, START + 4000), (0, START + 4000)):
        sees(d, ends_at=at)  # the worker's word, which leaves out what it was suspended
        assert why(d, task)["running"]["ends_at"] == told
    d.ask("cancel", ids=[task])
    assert why(d, task)["cancel_asked"] == {"who": "tq"}


def test_a_task_that_its_worker_has_not_begun_is_not_said_to_run(d: Driver) -> None:
    (task,) = d.add()
    d.grant()
    sees(d, begun=False)
    assert why(d, task) == {"handed_out": {"worker": "w1", "since": START}}


@pytest.mark.parametrize(
    ("options", "kind", "outcome", "times", "told"),
    [
        ({}, 0, {}, 1, None),
        ({"retries": 0}, "failed", {"error": BOOM}, 1, "retries"),
        ({"retries": 5}, "failed", {"error": BOOM, "permanent": True}, 1, "permanent"),
        ({"retries": 5, "retry_for_ms": 1}, "failed", {"error": BOOM}, 1, "no_time"),
        ({"retries": 5, "deadline_ms": 900, "backoff": ["fixed", 1000, 1.0, 1000, False]}, "failed", {"error": BOOM}, 1, "no_time"),
        ({"retries": 5, "retry_for_ms": 60_000}, "failed", {"error": LATER, "delay_ms": 70_000}, 1, "no_time"),
        ({"retries": 5, "retry_for_ms": 60_000}, "failed", {"error": BOOM, "permanent": True}, 1, "permanent"),
        ({"retries": 5, "deadline_ms": 60_000}, "failed", {"error": BOOM, "permanent": True}, 1, "permanent"),
        ({"retries": 5, "retry_for_ms": 1}, "failed", {"error": NEVER, "permanent": True}, 1, "permanent"),
        ({}, "crashed", {"error": {"type": "WorkerDied", "message": ""}}, 3, "poison"),
        ({}, "interrupted", {"error": {"type": "Interrupted", "message": ""}}, 10, "interrupts"),
        ({"once": True}, "crashed", {"error": {"type": "WorkerDied", "message": ""}}, 1, "once"),
    ],
)  # fmt: skip
def test_what_is_over_says_why_it_is_not_tried_again(
    d: Driver, options: dict[str, Any], kind: object, outcome: dict[str, Any], times: int, told: str | None
) -> None:
    (task,) = d.add(**options)
    for _ in range(times):
        settle(d, kind, **outcome)
    over = why(d, task)["over"]
    assert (over["at"], over["attempts"], over["why"]) == (START, times, told)
    assert over["error"] == outcome.get("error")


def test_what_was_cancelled_says_by_whom_and_what_expired_says_of_what(d: Driver) -> None:
    cancelled, late, dead = *d.add(), *d.add(ttl_ms=10), *d.add(deadline_ms=20)
    d.ask("cancel", ids=[cancelled])
    d.now += 100
    d.turn()
    assert why(d, cancelled)["over"]["who"] == "tq"
    assert (why(d, late)["over"]["why"], why(d, dead)["over"]["why"]) == ("ttl", "deadline")


def test_a_task_that_is_next_has_no_reason_but_its_place_and_an_unknown_one_is_refused(d: Driver) -> None:
    d.broker.put_types([TypeInfo("t")], d.now)
    (task,) = d.add()
    assert why(d, task) == {"place": {"queue": "default", "ahead": 0}}
    assert d.refusal("why", id=999)[0] == "no_such_task"

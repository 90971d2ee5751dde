"""What a person does to tasks: outcomes, guards, bulk acts and their dry runs, events; on both stores."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.tq.broker_driver import Driver
from tq.broker import Said
from tq.model import pack
from tq.store import Limits


def run(d: Driver, kind: object = 0, **outcome: Any) -> int:
    """Run the next task to this end; its id."""
    (task,) = d.grant()
    d.broker.settled([d.result(task, kind, **outcome)])
    d.turn()
    return task.id


def fail(d: Driver, message: str = "no") -> int:
    return run(d, "failed", error={"type": "ValueError", "message": message}, permanent=True)


def claimed(d: Driver, count: int) -> list[int]:
    return [task.id for task in d.grant(count)]


# -- retry ---------------------------------------------------------------------------------------------------------


def test_a_failed_task_is_retried_with_counts_from_zero_and_its_claim_still_rises(d: Driver) -> None:
    (task,) = d.add()
    fail(d)
    assert d.states(task) == ["failed"]
    assert d.ask("retry", ids=[task]) == {"outcomes": ["retried"]}
    (again,) = d.grant()
    assert (again.id, again.claim, again.failures) == (task, 2, 0)


def test_a_retry_may_change_payload_priority_and_queue(d: Driver) -> None:
    (task,) = d.add(payload=pack({"to": "nobody"}))
    fail(d)
    d.ask("retry", ids=[task], changes={"payload": pack({"to": "bob"}), "priority": 3, "queue": "mail"})
    row = d.row(task)
    assert (row["state"], row["payload"], row["priority"], row["queue"]) == ("pending", pack({"to": "bob"}), 3, "mail")


def test_only_what_is_over_is_retried_and_the_outcome_says_what_was_not(d: Driver) -> None:
    waiting, runs = d.add(2)
    claimed(d, 1)
    assert d.ask("retry", ids=[waiting, runs, 99]) == {"outcomes": ["running", "waiting", "unknown"]}


def test_a_retried_task_runs_though_its_time_to_live_is_long_over(d: Driver) -> None:
    (task,) = d.add(ttl_ms=1000)
    d.now += 1000
    d.settle_down()
    assert d.states(task) == ["expired"]
    d.ask("retry", ids=[task])
    d.now += 1000
    assert claimed(d, 1) == [task]
    assert d.row(task)["expires_at"] == 0


# -- edit ----------------------------------------------------------------------------------------------------------


def test_a_waiting_task_can_be_given_another_priority_and_keeps_its_place_in_it(d: Driver) -> None:
    first, second, third = d.add(3)
    assert d.ask("edit", ids=[third, second], changes={"priority": 5}) == {"outcomes": ["edited", "edited"]}
    assert claimed(d, 3) == [second, third, first]


def test_a_waiting_task_can_be_moved_to_another_queue_and_given_another_payload(d: Driver) -> None:
    (task,) = d.add(payload=b"\x01")
    d.ask("edit", ids=[task], changes={"queue": "night", "payload": b"\x02", "retries": 7, "label": "moved"})
    row = d.row(task)
    assert (row["queue"], row["payload"], row["retries"], row["label"]) == ("night", b"\x02", 7, "moved")
    tallies = {(one.queue, one.type): sum(one.states) for one in d.store.tallies()}
    assert tallies["night", "t"] == 1
    assert tallies.get(("default", "t"), 0) == 0
    assert d.store.peek(1, "night")[0].id == task


def test_a_task_can_be_put_off_and_brought_forward_again(d: Driver) -> None:
    (task,) = d.add()
    d.ask("edit", ids=[task], changes={"delay_ms": 60_000})
    assert d.row(task)["state"] == "scheduled"
    assert claimed(d, 1) == []
    d.ask("edit", ids=[task], changes={"delay_ms": 0})
    assert claimed(d, 1) == [task]


def test_a_time_to_live_can_be_given_later(d: Driver) -> None:
    (task,) = d.add()
    d.ask("edit", ids=[task], changes={"ttl_ms": 500})
    d.now += 500
    d.settle_down()
    assert d.states(task) == ["expired"]


def test_what_runs_or_is_over_is_not_edited(d: Driver) -> None:
    runs, over = d.add(2)
    claimed(d, 1)
    d.ask("cancel", ids=[over])
    assert d.ask("edit", ids=[runs, over], changes={"priority": 5}) == {"outcomes": ["running", "over"]}


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({}, "expected changes"),
        ({"color": "red"}, "what can be changed"),
        ({"priority": 12}, "0 to 9"),
        ({"payload": "text"}, "packed msgpack"),
        ({"key": "k"}, "what can be changed"),
    ],
)
def test_a_change_that_makes_no_sense_is_refused_and_changes_nothing(d: Driver, changes: dict[str, Any], says: str) -> None:
    (task,) = d.add()
    code, message = d.refusal("edit", ids=[task], changes=changes)
    assert code in ("usage", "payload")
    assert says in message
    assert d.row(task)["priority"] == 1


# -- remove --------------------------------------------------------------------------------------------------------


def test_what_is_removed_is_gone_and_its_output_is_given_up(d: Driver) -> None:
    (task,) = d.add()
    (one,) = d.grant()
    d.broker.settled([[one.id, one.claim, 0, d.now, d.now, True, None]])
    d.turn()
    assert d.ask("remove", ids=[task]) == {"outcomes": ["removed"]}
    assert d.states(task) == ["none"]
    assert d.turns[-2].removed == [task] or d.turns[-1].removed == [task]


def test_a_waiting_task_that_is_removed_ends_as_cancelled_for_who_waits_for_it(d: Driver) -> None:
    (task,) = d.add()
    waits = d.submit("wait", conn=7, ids=[task], timeout_ms=10_000)
    d.turn()
    d.ask("remove", ids=[task])
    assert d.answer(waits, 7)["done"]
    assert d.states(task) == ["none"]


def test_what_runs_is_not_removed(d: Driver) -> None:
    (task,) = d.add()
    claimed(d, 1)
    assert d.ask("remove", ids=[task, 44]) == {"outcomes": ["running", "unknown"]}


# -- bulk ----------------------------------------------------------------------------------------------------------


def test_a_bulk_retry_keeps_the_order_of_arrival_and_touches_only_what_matches(d: Driver) -> None:
    ids = d.add(5)
    other = d.add(1, "u")
    d.ask("cancel", ids=[*ids, *other])
    chore = d.ask("retry", type="t", states=["cancelled"])["chore"]
    assert [one["id"] for one in d.ask("chores")["chores"]] in ([chore], [])
    d.settle_down()
    assert d.ask("chores") == {"chores": []}
    assert d.states(*other) == ["cancelled"]
    assert claimed(d, 9) == ids


def test_a_bulk_act_and_the_groups_of_dead_letters_may_be_of_one_tenant(d: Driver) -> None:
    theirs = d.add(2, tenant="acme", retries=0)
    for task in d.grant(2):
        d.broker.settled([d.result(task, "failed", error={"type": "OSError", "message": "no"})])
    d.turn()
    others = d.add(2, retries=0)
    assert [group["count"] for group in d.ask("dead", tenant="acme")["groups"]] == [2]
    assert d.ask("dead", tenant="other")["groups"] == []
    assert d.ask("retry", tenant="acme", dry_run=True)["count"] == 2
    d.ask("retry", tenant="acme")
    d.ask("cancel", tenant="acme")
    d.settle_down()
    assert d.states(*theirs, *others) == ["cancelled", "cancelled", "pending", "pending"]


def test_a_bulk_act_leaves_alone_what_came_after_it_was_asked_for(d: Driver) -> None:
    d.add(3)
    d.submit("remove", queue="default")
    d.submit("enqueue", 2, tasks=[["t", b"", None]])
    d.settle_down()
    assert d.states(1, 2, 3, 4) == ["none", "none", "none", "pending"]


def test_a_bulk_edit_carries_its_changes_through_a_restart(d: Driver) -> None:
    ids = d.add(1200)
    d.ask("edit", queue="default", changes={"priority": 4})
    d.reopen()
    d.settle_down()
    assert {d.row(task)["priority"] for task in (ids[0], ids[600], ids[-1])} == {4}


def test_a_dry_run_counts_what_would_be_changed_and_changes_nothing(d: Driver) -> None:
    ids = d.add(4)
    d.ask("cancel", ids=ids[:2])
    number = d.submit("remove", where="state:cancelled", dry_run=True)
    d.settle_down()
    answer = d.answer(number)
    assert answer["count"] == 2
    assert sorted(answer["some"]) == ids[:2]
    number = d.submit("retry", queue="default", dry_run=True)
    d.settle_down()
    assert d.answer(number)["count"] == 2  # what waits is not retried
    assert d.states(*ids) == ["cancelled"] * 2 + ["pending"] * 2


def test_a_filter_that_cannot_be_read_is_refused_with_its_column(d: Driver) -> None:
    code, message = d.refusal("cancel", where="state:failed nonsense:3")
    assert code == "usage"
    assert "nonsense" in message


def test_ids_and_a_filter_together_or_neither_are_refused(d: Driver) -> None:
    assert d.refusal("retry", ids=[1], queue="default")[0] == "usage"
    assert d.refusal("retry")[0] == "usage"


# -- dead letters --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("one", "other", "alike"),
    [
        ("port 80 closed", "port 8080 closed", True),
        ("no route to 10.0.0.1", "no route to 192.168.1.17", True),
        ("<Cart at 0x7f3a90>", "<Cart at 0x55d1c2>", True),
        ("order 550e8400-e29b-41d4-a716-446655440000", "order 0f8fad5b-d9cb-469f-a165-70867728950e", True),
        ("exit code 3", "exit code 4", False),
        ("Command 'fetch 17' returned non-zero exit status 3.", "Command 'fetch 18' returned non-zero exit status 4.", False),
        ("Command 'fetch 17' returned non-zero exit status 3.", "Command 'fetch 18' returned non-zero exit status 3.", True),
        ("killed by signal 9 (SIGKILL)", "killed by signal 11 (SIGSEGV)", False),
    ],
)
def test_numbers_make_no_difference_between_dead_letters_but_exit_codes_and_signals_do(
    d: Driver, one: str, other: str, alike: bool
) -> None:
    d.add(2)
    for message in (one, other):
        fail(d, message)
    number = d.submit("dead")
    d.settle_down()
    assert len(d.answer(number)["groups"]) == (1 if alike else 2)


def test_dead_letters_are_grouped_by_what_went_wrong_whatever_numbers_it_names(d: Driver) -> None:
    d.add(3)
    d.add(1, "u")
    for message in ("port 25 closed", "port 587 closed", "bad address"):
        fail(d, message)
    fail(d, "port 1 closed")
    number = d.submit("dead")
    d.settle_down()
    groups = d.answer(number)["groups"]
    assert (groups[0]["count"], groups[0]["type"], groups[0]["message"]) == (2, "t", "port # closed")
    assert sorted((one["count"], one["type"]) for one in groups) == [(1, "t"), (1, "u"), (2, "t")]
    d.ask("retry", states=["failed"], group=groups[0]["group"])
    d.settle_down()
    assert d.states(1, 2, 3, 4) == ["pending", "pending", "failed", "failed"]


# -- events --------------------------------------------------------------------------------------------------------


def test_what_a_person_did_is_an_event_with_what_it_was_before(d: Driver) -> None:
    (task,) = d.add()
    d.ask("set_queue", name="mail", weight=5)
    d.ask("set_queue", name="mail", paused=True)
    d.ask("cancel", ids=[task])
    events = d.ask("events")["events"]
    assert [(one["what"], one["target"]) for one in events] == [("cancel", str(task)), ("paused", "mail"), ("set_queue", "mail")]
    assert (events[2]["before"], events[2]["after"]) == ({"weight": 1}, {"weight": 5})
    assert d.ask("events", before=events[0]["number"], limit=1)["events"] == events[1:2]


def test_the_end_of_a_chore_is_an_event_with_what_it_did(d: Driver) -> None:
    d.add(5)
    d.add(1, "u")
    chore = d.ask("cancel", type="t")["chore"]
    d.settle_down()
    end, asked = d.ask("events")["events"]
    assert (end["who"], end["what"], end["target"]) == ("tq", "chore_done", str(chore))
    assert end["after"] == {"verb": "cancel", "seen": end["after"]["seen"], "changed": 5, "left": {}}
    assert (asked["what"], asked["target"], asked["after"]) == ("cancel", "type:t", {"chore": chore})


def test_a_retried_task_keeps_the_attempt_that_failed(d: Driver) -> None:
    (task,) = d.add()
    fail(d)
    d.ask("retry", ids=[task])
    run(d)
    (first,) = d.row(task)["attempts"]
    assert (first[0], first[3], first[5]["type"]) == (1, "failed", "ValueError")


def test_the_live_stream_tells_each_step_in_order_with_numbers_that_rise(d: Driver) -> None:
    number = d.submit("watch", topics=["steps"])
    d.turn()
    (task,) = d.add(correlation_id="order-17")
    run(d)
    steps = [one for one in d.events(number) if one["id"] == task]
    assert [one["event"] for one in steps] == ["added", "started", "succeeded"]
    assert {one["correlation_id"] for one in steps} == {"order-17"}
    assert [one["number"] for one in steps] == sorted(one["number"] for one in steps)


def test_a_watcher_of_one_tasks_steps_hears_of_no_other(d: Driver) -> None:
    number = d.submit("watch", topics=["steps"], ids=[2])
    d.turn()
    d.add(3)
    assert {one["id"] for one in d.events(number)} == {2}


# -- names ---------------------------------------------------------------------------------------------------------


def test_the_same_key_with_the_same_request_is_the_same_task(d: Driver) -> None:
    (task,) = d.add(key="order-17", payload=b"\x01")
    again = d.ask("enqueue", tasks=[["t", b"\x01", {"key": "order-17"}]])
    assert again == {"ids": [task], "existing": [0]}
    run(d)
    assert d.ask("enqueue", tasks=[["t", b"\x01", {"key": "order-17"}]])["ids"] == [task]  # also after its end
    assert d.store.last_id() == task


def test_the_same_key_with_another_request_is_a_conflict_that_names_the_task(d: Driver) -> None:
    (task,) = d.add(key="order-17", payload=b"\x01")
    code, message = d.refusal("enqueue", tasks=[["t", b"\x02", {"key": "order-17"}]])
    assert code == "conflict"
    assert f"task {task}" in message
    assert d.add(1, "u", b"\x02", key="order-17") == [task + 1]  # of another type it is another key


def test_a_request_is_the_same_whenever_and_wherever_it_is_made_again(d: Driver) -> None:
    first = {"key": "k", "delay_ms": 1000, "deadline_ms": 5000, "extras": {"env": {"A": "1"}}, "label": "x"}
    (task,) = d.add(**first)
    assert d.add(**{**first, "delay_ms": 900, "deadline_ms": 4900, "extras": {"env": {"A": "2"}}}) == [task]
    assert d.refusal("enqueue", tasks=[["t", b"", {**first, "label": "y"}]])[0] == "conflict"


def test_a_key_is_free_again_a_day_after_the_end(d: Driver) -> None:
    (task,) = d.add(key="k", payload=b"\x01")
    run(d)
    d.now += 86_400_000 + 1
    d.settle_down()
    assert d.add(key="k", payload=b"\x02") == [task + 1]


def test_a_batch_with_keys_stores_only_what_is_new_and_names_the_rest(d: Driver) -> None:
    (old,) = d.add(key="a", payload=b"\x01")
    rows = [["t", b"\x01", {"key": "a"}], ["t", b"\x02", {"key": "b"}], ["t", b"\x02", {"key": "b"}], ["t", b"\x03", None]]
    body = d.ask("enqueue", tasks=rows)
    assert body == {"ids": [old, old + 1, old + 1, old + 2], "existing": [0, 2]}


def test_a_keyed_request_repeated_after_a_lost_answer_gives_the_same_ids(d: Driver) -> None:
    rows = [["t", b"\x01", {"unique": "u"}], ["t", b"\x02", None]]
    number = d.submit("enqueue", nonce=b"n" * 8, tasks=rows)
    d.turn()
    ids = d.answer(number)["ids"]
    d.told.clear()
    d.submit("enqueue", 5, nonce=b"n" * 8, number=number, tasks=rows, again=True)
    d.turn()
    assert d.answer(number, 5)["ids"] == ids
    assert d.store.last_id() == ids[-1]


def test_at_most_one_live_task_has_a_unique_name(d: Driver) -> None:
    (task,) = d.add(unique="nightly")
    code, message = d.refusal("enqueue", tasks=[["t", b"", {"unique": "nightly"}]])
    assert code == "conflict"
    assert str(task) in message
    assert d.ask("enqueue", tasks=[["t", b"", {"unique": "nightly", "unique_policy": "existing"}]])["ids"] == [task]
    run(d)
    assert d.add(unique="nightly") == [task + 1]  # free in the transaction of the end


def test_a_waiting_task_is_replaced_and_a_running_one_is_not(d: Driver) -> None:
    (task,) = d.add(unique="build", payload=b"\x01")
    (newer,) = d.add(unique="build", payload=b"\x02", unique_policy="replace")
    assert d.states(task, newer) == ["cancelled", "pending"]
    claimed(d, 1)
    assert d.refusal("enqueue", tasks=[["t", b"", {"unique": "build", "unique_policy": "replace"}]])[0] == "conflict"


def test_a_replacement_that_is_refused_cancels_nothing(d: Driver, tmp_path: Path) -> None:
    small = Driver(d.kind, tmp_path / "small", Limits(queue_bytes=10))
    (task,) = small.add(unique="build")
    assert small.refusal("enqueue", tasks=[["t", b"x" * 20, {"unique": "build", "unique_policy": "replace"}]])[0] == "refused"
    assert small.states(task) == ["pending"]
    small.store.close()


def test_a_finished_task_is_not_retried_while_another_has_its_unique_name(d: Driver) -> None:
    (first,) = d.add(unique="x")
    fail(d)
    (second,) = d.add(unique="x")
    assert d.ask("retry", ids=[first]) == {"outcomes": ["taken"]}
    d.ask("cancel", ids=[second])
    assert d.ask("retry", ids=[first]) == {"outcomes": ["retried"]}
    assert d.refusal("enqueue", tasks=[["t", b"", {"unique": "x"}]])[0] == "conflict"


# -- queues --------------------------------------------------------------------------------------------------------


def test_a_queues_defaults_hold_where_neither_task_nor_type_says(d: Driver) -> None:
    d.ask("set_queue", name="mail", priority=4, retries=9, timeout_ms=1234, backoff=["fixed", 10, 1, 10, False])
    (task,) = d.add(queue="mail")
    row = d.row(task)
    assert (row["priority"], row["retries"], row["timeout_ms"], row["backoff"][:2]) == (4, 9, 1234, ["fixed", 10])
    (own,) = d.add(queue="mail", retries=1)
    assert (d.row(own)["retries"], d.row(own)["priority"]) == (1, 4)
    d.ask("set_queue", name="mail", unset=["retries", "priority"])
    (after,) = d.add(queue="mail")
    assert (d.row(after)["retries"], d.row(after)["priority"]) == (3, 1)


def test_a_queue_nobody_has_used_is_said_to_be_new(d: Driver) -> None:
    d.add()
    assert d.ask("set_queue", name="default", paused=True) == {"new": False}
    assert d.ask("set_queue", name="defualt", paused=True) == {"new": True}
    assert d.ask("set_queue", name="defualt", paused=False) == {"new": False}


def test_a_pattern_of_types_routes_tasks_that_name_no_queue(d: Driver) -> None:
    d.ask("set_queue", name="slow", routes=["report.*", "t"])
    assert d.row(d.add()[0])["queue"] == "slow"
    assert d.row(d.add(queue="fast")[0])["queue"] == "fast"
    assert d.row(d.add(1, "u")[0])["queue"] == "default"


def test_a_queue_that_is_full_refuses_with_a_hint_and_settling_still_works(d: Driver) -> None:
    d.ask("set_queue", name="default", max_tasks=2)
    d.add(2)
    code, message = d.refusal("enqueue", tasks=[["t", b"", None]])
    assert code == "refused"
    assert "2" in message
    run(d)
    d.add(1)


def test_a_queue_runs_no_more_tasks_than_it_has_slots(d: Driver) -> None:
    d.ask("set_queue", name="default", slots=2)
    ids = d.add(4)
    assert claimed(d, 10) == ids[:2]
    assert claimed(d, 10) == []
    assert not d.store.ready()


def test_finished_tasks_of_a_queue_that_keeps_none_are_gone_at_once(d: Driver) -> None:
    d.ask("set_queue", name="default", keep_ms=0)
    (task,) = d.add()
    run(d)
    d.settle_down()
    assert d.states(task) == ["none"]


@pytest.mark.parametrize(
    "settings",
    [{"weight": 0}, {"slots": -1}, {"priority": 10}, {"backoff": ["odd", 1, 1, 1, True]}, {"routes": [1]}, {"unset": ["paused"]}],
)
def test_a_setting_of_a_queue_that_makes_no_sense_is_refused(d: Driver, settings: dict[str, Any]) -> None:
    assert d.refusal("set_queue", name="q", **settings)[0] == "usage"
    assert "q" not in d.store.queues()


def test_the_aged_task_says_so_when_one_peeks(d: Driver) -> None:
    (low,) = d.add(priority=0)
    d.now += 61_000
    high = d.add(12, priority=3)
    order = [(row["id"], row["why"]) for row in d.ask("peek", limit=13)["tasks"]]
    assert (low, "aged") in order
    assert order.index((low, "aged")) <= 9
    assert order[-1][0] == high[-1]


def test_a_critical_task_waits_for_at_most_one_aged_task_however_many_there_are(d: Driver) -> None:
    for _ in range(10):
        d.add(100, priority=0)
    d.now += 600_000
    for _ in range(20):
        claimed(d, 7)
        (critical,) = d.add(priority=3)
        assert critical in claimed(d, 2)


def test_low_tasks_get_one_claim_in_ten_while_critical_ones_arrive_without_end(d: Driver) -> None:
    low = set(d.add(100, priority=0))
    d.now += 61_000
    taken: list[int] = []
    for _ in range(40):
        d.add(10, priority=3)
        taken += claimed(d, 10)
    assert 38 <= sum(task in low for task in taken) <= 42


def test_progress_is_a_step_of_the_live_stream_and_nothing_of_it_is_stored(d: Driver) -> None:
    (task,) = d.add(correlation_id="c")
    number = d.submit("watch", topics=["steps"])
    d.turn()
    claimed(d, 1)
    d.broker.said([Said(task, 0.5, "half")])
    assert d.broker.waiting
    d.turn()
    (step,) = [one for one in d.events(number) if one["event"] == "progress"]
    assert (step["id"], step["fraction"], step["text"], step["correlation_id"]) == (task, 0.5, "half", "c")


def test_two_full_queues_share_by_their_weights(d: Driver) -> None:
    d.ask("set_queue", name="heavy", weight=3)
    tasks = 400 if d.kind == "memory" else 8000
    for queue in ("heavy", "default"):
        for _ in range(tasks // 400):
            d.add(400, queue=queue)
    taken: list[str] = []
    while len(taken) < tasks * 10 // 8:
        taken += [task.header.queue for task in d.grant(1 + len(taken) % 37)]  # claims of all sizes
    assert 0.72 <= taken.count("heavy") / len(taken) <= 0.78


# -- as many as were expected ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("there", "expected", "done"),
    [
        (0, 0, True), (1, 0, True), (2, 0, False), (5, 6, True), (5, 7, False), (20, 22, True), (20, 23, False), (30, 33, True),
        (30, 27, False), (1200, 1100, True), (1200, 1099, False), (1200, 1300, True),
    ],
)  # fmt: skip
def test_a_bulk_act_is_refused_where_by_now_far_more_or_fewer_match_than_were_expected(
    d: Driver, there: int, expected: int, done: bool
) -> None:
    d.add(3, queue="other")
    if there:
        d.add(there)
    number = d.submit("cancel", queue="default", expected=expected)
    d.settle_down(1000)
    if done:
        assert d.answer(number) == {"chore": 1}
        assert d.ask("view", states=["cancelled"])["total"] == there
    else:
        assert d.error(number)[0] == "refused"
        assert d.error(number)[2] == {"count": there}
        assert f"there are {there:,} by now. Nothing was changed" in d.error(number)[1]
        assert d.ask("view", states=["cancelled"])["total"] == 0
    assert d.ask("view", queue="other", states=["pending"])["total"] == 3


@pytest.mark.parametrize("verb", ["cancel", "retry", "edit", "remove"])
def test_expected_counts_what_the_verb_would_change_with_its_changes_and_for_groups(d: Driver, verb: str) -> None:
    d.add(6, retries=0)
    for _ in range(3):
        fail(d)
    (group,) = d.ask("dead")["groups"]
    changes = {"changes": {"priority": 7}} if verb in ("retry", "edit") else {}
    which: dict[str, Any] = {"group": group["group"]} if verb in ("retry", "remove") else {"queue": "default"}
    number = d.submit(verb, **which, **changes, expected=3)
    d.settle_down()
    assert "chore" in d.answer(number)
    (done,) = [one for one in d.ask("events")["events"] if one["what"] == "chore_done"]
    assert done["after"]["changed"] == 3
    number = d.submit(verb, **which, **changes, expected=99)
    d.settle_down()
    assert d.error(number)[0] == "refused"


def test_expected_belongs_to_a_filter_and_not_to_a_dry_run(d: Driver) -> None:
    d.add()
    for args in ({"ids": [1], "expected": 1}, {"queue": "default", "dry_run": True, "expected": 1}, {"queue": "default", "expected": -1}):
        assert d.refusal("cancel", **args)[0] == "usage"
    assert "expected the arguments" in d.refusal("suspend", queue="default", expected=1)[1]
    assert d.states(1) == ["pending"]


def test_who_is_gone_before_all_are_counted_has_changed_nothing(d: Driver) -> None:
    d.add(500)
    d.tick_s = 0.001
    d.submit("cancel", queue="default", expected=500)
    d.turn()
    d.broker.gone(1)
    d.tick_s = 0.0
    d.settle_down()
    assert d.ask("view", states=["pending"])["total"] == 500


def test_events_are_told_from_a_number_on(d: Driver) -> None:
    d.add(3)
    for task in (1, 2, 3):
        d.ask("cancel", ids=[task])
    newest = d.ask("events")["events"]
    assert d.ask("events", after=0)["events"] == newest[::-1]
    assert d.ask("events", after=newest[1]["number"])["events"] == newest[:1]
    assert d.ask("events", after=newest[0]["number"])["events"] == []
    assert "before or after" in d.refusal("events", after=1, before=2)[1]
    assert d.refusal("events", after=-1)[0] == "usage"

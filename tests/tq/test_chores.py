"""Chores: their turns, their order where they meet, what they leave and say; on both stores."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tests.tq.broker_driver import Driver
from tq.model import pack
from tq.store import Limits


def under_way(d: Driver) -> dict[int, Any]:
    return {one["id"]: one for one in d.ask("chores")["chores"]}


def end_of(d: Driver, chore: int) -> Any:
    (end,) = [one for one in d.ask("events")["events"] if one["what"] == "chore_done" and one["target"] == str(chore)]
    return end["after"]


def slowly(d: Driver) -> None:
    """From now on a slice is two tasks."""
    d.tick_s = 0.001


def quickly(d: Driver) -> None:
    d.tick_s = 0.0


# -- turns ---------------------------------------------------------------------------------------------------------


def test_a_chore_over_few_tasks_does_not_wait_for_one_over_many(d: Driver) -> None:
    many, few = d.add(300), d.add(3, "u")
    slowly(d)
    long, short = d.ask("cancel", type="t")["chore"], d.ask("cancel", type="u")["chore"]
    turns = 0
    while short in under_way(d):
        turns += 1
        assert turns < 20
    assert d.states(*few) == ["cancelled"] * 3
    assert 0 < under_way(d)[long]["changed"] < 60
    quickly(d)
    d.settle_down(1000)
    assert set(d.states(*many)) == {"cancelled"}


def test_chores_that_may_be_about_the_same_tasks_meet_each_in_the_order_in_which_they_were_asked_for(d: Driver) -> None:
    ids = d.add(80)
    slowly(d)
    d.ask("edit", where="id>0", changes={"label": "first", "priority": 1})
    d.ask("edit", type="t", changes={"priority": 5})
    d.ask("edit", queue="default", changes={"priority": 7})
    turns = 0
    while under_way(d):
        turns += 1
        assert turns < 1000
        rows = d.ask("get", ids=ids)["tasks"]
        assert all(row["label"] == "first" for row in rows if row["priority"] in (5, 7))
    assert {row["priority"] for row in d.ask("get", ids=ids)["tasks"]} == {7}
    assert turns < 200  # they went along with each other, not one after the other


def test_a_later_chore_goes_past_an_earlier_one_if_their_queues_or_ids_differ_but_not_if_one_moves_tasks(d: Driver) -> None:
    d.add(100, queue="a")
    d.add(2, queue="b")
    slowly(d)
    d.ask("edit", where="id:1..100 queue:a", changes={"label": "x"})
    past = d.ask("edit", queue="b", changes={"priority": 2})["chore"]
    ids = d.ask("edit", where="id:101..102", changes={"label": "y"})["chore"]
    behind = d.ask("edit", queue="b", changes={"priority": 3})["chore"]
    other = d.ask("edit", queue="a", changes={"priority": 4})["chore"]
    moves = d.ask("edit", queue="b", changes={"queue": "a"})["chore"]
    for _ in range(30):
        d.turn()
    assert {past, behind, ids}.isdisjoint(under_way(d))
    assert {other, moves} <= set(under_way(d))  # one is about what the first is about, the other would put tasks in its way
    quickly(d)
    d.settle_down()
    assert under_way(d) == {}


def test_an_order_among_chores_outlives_the_daemon(d: Driver) -> None:
    ids = d.add(60)
    slowly(d)
    d.ask("edit", where="id>0", changes={"label": "first", "priority": 1})
    d.ask("edit", type="t", changes={"priority": 5})
    for _ in range(10):
        d.turn()
    d.reopen()
    for _ in range(5):
        d.turn()
    rows = d.ask("get", ids=ids)["tasks"]
    assert all(row["label"] == "first" for row in rows if row["priority"] == 5)
    quickly(d)
    d.settle_down()
    assert {(row["label"], row["priority"]) for row in d.ask("get", ids=ids)["tasks"]} == {("first", 5)}


# -- what happened meanwhile ---------------------------------------------------------------------------------------


def test_what_was_changed_between_two_slices_is_not_put_back(d: Driver) -> None:
    ids = d.add(40)
    slowly(d)
    d.ask("edit", type="t", changes={"label": "bulk"})
    d.turn()
    assert d.row(ids[20])["label"] is None
    d.ask("edit", ids=ids[20:], changes={"priority": 9, "payload": pack("newer")})
    quickly(d)
    d.settle_down()
    rows = d.ask("get", ids=ids)["tasks"]
    assert {row["label"] for row in rows} == {"bulk"}
    assert [row["priority"] for row in rows] == [1] * 20 + [9] * 20
    assert rows[20]["payload"] == pack("newer")


def test_what_began_to_run_between_two_slices_is_told_to_end(d: Driver) -> None:
    ids = d.add(40)
    d.add(1)
    d.ask("edit", ids=[ids[30]], changes={"priority": 9})
    slowly(d)
    d.ask("cancel", type="t")
    d.turn()
    (task,) = d.grant()
    assert task.id == ids[30]
    quickly(d)
    d.settle_down()
    assert d.row(ids[30])["cancel_asked"]
    assert set(d.states(*ids)) == {"running", "cancelled"}


def test_a_task_that_is_removed_between_two_slices_is_passed_over(d: Driver) -> None:
    ids = d.add(40)
    slowly(d)
    chore = d.ask("edit", type="t", changes={"label": "bulk"})["chore"]
    d.turn()
    d.ask("remove", ids=ids[30:])
    quickly(d)
    d.settle_down()
    assert end_of(d, chore)["changed"] == 30


# -- full queues ---------------------------------------------------------------------------------------------------


def dead(d: Driver, count: int, **options: Any) -> list[int]:
    """Tasks that failed for good."""
    ids = d.add(count, retries=0, **options)
    for task in d.grant(count):
        d.broker.settled([d.result(task, "failed", error={"type": "E", "message": "no"})])
    d.turn()
    assert set(d.states(*ids)) == {"failed"}
    return ids


def test_ids_that_a_full_queue_has_no_room_for_are_all_left_and_the_refusal_says_when_to_try_again(d: Driver) -> None:
    ids = dead(d, 3)
    other = d.add(1, queue="other")
    d.ask("set_queue", name="default", max_tasks=2)
    for verb, more in (("retry", {"ids": ids}), ("edit", {"ids": [*d.add(2), *other], "changes": {"queue": "default"}})):
        number = d.submit(verb, **more)
        neighbour = d.submit("enqueue", conn=2, tasks=[["t", b"", {"queue": "elsewhere"}]])
        d.settle_down()
        code, message, details = d.error(number)
        assert (code, details["queue"], details["retry_after"]) == ("refused", "default", 1.0)
        assert "'default' is full: expected at most 2 tasks" in message
        assert d.answer(neighbour, 2) is not None
    assert d.states(*ids) == ["failed"] * 3
    assert d.row(other[0])["queue"] == "other"


def test_a_chore_leaves_what_a_full_queue_has_no_room_for_and_says_how_many(d: Driver) -> None:
    ids = dead(d, 6) + dead(d, 2, queue="wide")
    d.ask("set_queue", name="default", max_tasks=4)
    chore = d.ask("retry", states=["failed"])["chore"]
    d.settle_down()
    assert d.states(*ids) == ["pending"] * 4 + ["failed"] * 2 + ["pending"] * 2
    assert end_of(d, chore) == {"verb": "retry", "seen": 8, "changed": 6, "left": {"full": 2}}
    for task in d.grant(4):
        d.broker.settled([d.result(task)])
    d.turn()
    again = d.ask("retry", states=["failed"])["chore"]
    d.settle_down()
    assert end_of(d, again)["changed"] == 2


def test_what_a_chore_has_left_so_far_outlives_the_daemon(d: Driver) -> None:
    dead(d, 30)
    d.ask("set_queue", name="default", max_tasks=1)
    slowly(d)
    chore = d.ask("retry", states=["failed"])["chore"]
    for _ in range(4):
        d.turn()
    before = under_way(d)[chore]["left"]["full"]
    assert 0 < before < 29
    quickly(d)
    d.reopen()
    d.settle_down()
    assert end_of(d, chore) == {"verb": "retry", "seen": 30, "changed": 1, "left": {"full": 29}}


def test_automatic_retries_come_back_however_full_the_queue_is(tmp_path: Path) -> None:
    d = Driver("lmdb", tmp_path / "store", Limits(queue_tasks=2))
    ids = d.add(2, retries=3, backoff=["fixed", 0, 1.0, 0, False])
    d.ask("set_queue", name="default", max_tasks=1)
    for task in d.grant(2):
        d.broker.settled([d.result(task, "failed", error={"type": "E", "message": "no"})])
    d.turn()
    d.now += 10
    d.turn()
    assert d.states(*ids) == ["pending", "pending"]
    d.store.close()


# -- suspend and resume --------------------------------------------------------------------------------------------


class Pool:
    """What the pool would do: ``running`` are commands that it runs."""

    def __init__(self, d: Driver, *running: int) -> None:
        self.running, self.suspended = set(running), set[int]()
        d.broker.desk.hold = self.hold
        d.broker.desk.live = lambda task_id: {"suspended": True} if task_id in self.suspended else {}

    def hold(self, verb: str, task_id: int) -> bool:
        if verb == "resume":
            was = task_id in self.suspended
            self.suspended.discard(task_id)
            return was
        self.suspended |= {task_id} & self.running
        return task_id in self.running


def test_each_id_is_suspended_or_said_why_not(d: Driver) -> None:
    function, *commands, over = *d.add(1), *d.add(3, "shell"), *d.add(1, "shell", queue="q")
    claimed = d.grant(5)
    d.broker.settled([d.result(next(task for task in claimed if task.id == over))])
    d.turn()
    pool = Pool(d, *commands[:2])
    ids = [function, *commands, over, 999]
    words = ["function", "suspended", "suspended", "not_running", "over", "unknown"]
    assert d.ask("suspend", ids=ids) == {"outcomes": words}
    assert pool.suspended == set(commands[:2])
    assert d.row(commands[0])["suspended"]
    resumed = ["function", "resumed", "resumed", "not_suspended", "over", "unknown"]
    assert d.ask("resume", ids=ids) == {"outcomes": resumed}
    events = [(one["what"], one["target"]) for one in d.ask("events")["events"]]
    assert events[:4] == [("resumed", str(i)) for i in commands[1::-1]] + [("suspended", str(i)) for i in commands[1::-1]]


def test_running_commands_that_a_filter_means_are_suspended_and_the_rest_is_counted(d: Driver) -> None:
    d.add(1)
    commands = d.add(3, "shell", label="night")
    d.grant(4)
    d.add(2, "shell", label="night")  # they do not run
    pool = Pool(d, *commands)
    for verb, count in (("suspend", 3), ("resume", 0)):
        number = d.submit(verb, where="id>0", dry_run=True)
        d.settle_down()
        assert d.answer(number)["count"] == count
    chore = d.ask("suspend", where="id>0")["chore"]
    d.settle_down()
    assert pool.suspended == set(commands)
    assert end_of(d, chore) == {"verb": "suspend", "seen": 4, "changed": 3, "left": {"function": 1}}
    number = d.submit("resume", where="label:night", dry_run=True)
    d.settle_down()
    assert d.answer(number) == {"count": 3, "some": commands[::-1]}
    chore = d.ask("resume", where=f"id:{commands[0]}")["chore"]
    d.settle_down()
    assert end_of(d, chore) == {"verb": "resume", "seen": 1, "changed": 1, "left": {}}
    assert pool.suspended == set(commands[1:])


def test_suspending_does_not_wait_for_a_chore_over_many_tasks(d: Driver) -> None:
    d.add(200)
    commands = d.add(2, "shell", priority=9)
    d.grant(2)
    pool = Pool(d, *commands)
    slowly(d)
    d.ask("edit", where="id>0", changes={"label": "x"})
    d.ask("suspend", where="id>0")
    for _ in range(6):
        d.turn()
    assert pool.suspended == set(commands)
    assert len(under_way(d)) == 1


def test_a_filter_or_ids_are_needed_to_suspend(d: Driver) -> None:
    assert "expected ids, or a filter" in d.refusal("suspend")[1]
    assert "got both" in d.refusal("resume", ids=[1], queue="q")[1]
    assert d.refusal("suspend", ids=["x"])[0] == "usage"

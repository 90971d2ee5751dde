"""Tasks that wait for other tasks: who is let go, who is cancelled, and when, whatever happens to the parents and the daemon."""

from __future__ import annotations

from typing import Any

import pytest

from tests.tq.broker_driver import Driver
from tq.broker.families import FEW, SLICE, TELL_S
from tq.store import SCAN_MOST


def _runs(d: Driver, *ids: int) -> dict[int, Any]:
    """Hand out everything there is; those of ``ids``, by id."""
    return {task.id: task for task in d.grant(100) if task.id in ids}


def _end(d: Driver, task: Any, kind: object = 0, **outcome: Any) -> None:
    d.broker.settled([d.result(task, kind, **outcome)])
    d.turn()


def _fail(d: Driver, task: Any) -> None:
    _end(d, task, "failed", error={"type": "E", "message": "no"}, permanent=True)


# -- what becomes of a child ---------------------------------------------------------------------------------------


def test_a_child_is_blocked_until_its_last_parent_succeeded(d: Driver) -> None:
    first, second = d.add(2)
    (child,) = d.add(after=[first, second, first])
    assert d.states(child) == ["blocked"]
    assert (d.row(child)["parents"], d.row(child)["waits"]) == ([first, second], 2)
    runs = _runs(d, first, second, child)
    assert child not in runs
    _end(d, runs[first])
    assert (d.states(child), d.row(child)["waits"]) == (["blocked"], 1)
    _end(d, runs[second])
    assert (d.states(child), d.row(child)["waits"]) == (["pending"], 0)
    _end(d, _runs(d, child)[child])
    assert d.states(child) == ["succeeded"]


def test_a_task_that_takes_the_place_of_the_one_it_waits_for_does_not_wait_for_ever(d: Driver) -> None:
    (old,) = d.add(unique="u", delay_ms=20_000)
    (new,) = d.add(unique="u", unique_policy="replace", after_any=[old])
    assert d.states(old, new) == ["cancelled", "pending"]
    (last,) = d.add(unique="u", unique_policy="replace", after=[new])
    assert d.states(new, last) == ["cancelled", "cancelled"]


@pytest.mark.parametrize("way", ["failed", "cancelled", "cancelled while it ran", "expired", "removed"])
def test_a_parent_that_did_not_succeed_cancels_its_child_which_says_why(d: Driver, way: str) -> None:
    (parent,) = d.add(ttl_ms=50, delay_ms=20_000 if way == "expired" else 0)
    (child,) = d.add(after=[parent])
    (loose,) = d.add(after_any=[parent])
    (both,) = d.add(after=[parent], after_any=[parent])
    waits = d.submit("wait", 5, ids=[child])
    d.turn()
    if way == "failed":
        _fail(d, _runs(d, parent)[parent])
    elif way == "expired":
        d.now += 60
        d.turn()
    elif way == "cancelled while it ran":
        run = _runs(d, parent)[parent]
        d.ask("cancel", ids=[parent])
        _end(d, run, "stopped")
    else:
        d.ask({"cancelled": "cancel", "removed": "remove"}[way], ids=[parent])
    assert d.states(child, loose, both) == ["cancelled", "pending", "cancelled"]
    word = {"failed": "failed", "expired": "expired"}.get(way, "was cancelled")
    assert d.row(child)["error"] == {
        "type": "ParentFailed", "message": f"expected task {parent} to succeed before this one runs, but it {word}",
    }  # fmt: skip
    assert d.row(child)["finished_at"] == d.now
    assert d.answer(waits, 5)["tasks"][0]["state"] == "cancelled"  # who waits for the child hears of it


def test_a_parent_that_is_over_already_counts(d: Driver) -> None:
    good, bad = d.add(2)
    runs = _runs(d, good, bad)
    _end(d, runs[good])
    _fail(d, runs[bad])
    (fine,) = d.add(after=[good], after_any=[bad])
    (lost,) = d.add(after=[good, bad])
    (later,) = d.add(after=[good], delay_ms=500)
    assert d.states(fine, lost, later) == ["pending", "cancelled", "scheduled"]
    assert f"task {bad} to succeed" in d.row(lost)["error"]["message"]
    d.now += 500
    d.turn()
    assert d.states(later) == ["pending"]


def test_a_parent_that_retries_is_not_over(d: Driver) -> None:
    (parent,) = d.add(retries=1)
    (child,) = d.add(after_any=[parent])
    _end(d, _runs(d, parent)[parent], "failed", error={"type": "E", "message": "no"}, delay_ms=100)
    assert d.states(parent, child) == ["retrying", "blocked"]
    d.now += 100
    d.turn()
    _fail(d, _runs(d, parent)[parent])
    assert d.states(parent, child) == ["failed", "pending"]


def test_a_parent_that_a_person_retries_does_not_touch_children_that_went_their_way(d: Driver) -> None:
    (parent,) = d.add()
    (lost,), (let_go,) = d.add(after=[parent]), d.add(after_any=[parent])
    _fail(d, _runs(d, parent)[parent])
    assert d.ask("retry", ids=[parent])["outcomes"] == ["retried"]
    (new,) = d.add(after=[parent])
    assert d.states(lost, let_go, new) == ["cancelled", "pending", "blocked"]
    _end(d, _runs(d, parent)[parent])
    assert d.states(parent, lost, new) == ["succeeded", "cancelled", "pending"]
    assert d.ask("retry", ids=[lost])["outcomes"] == ["retried"]
    assert d.states(lost) == ["pending"]  # by a person's will


def test_a_retry_in_the_turn_of_the_end_keeps_a_newer_child_out_of_it(d: Driver) -> None:
    (parent,) = d.add()
    (lost,) = d.add(after=[parent])
    run = _runs(d, parent)[parent]
    d.broker.settled([d.result(run, "failed", error={"type": "E", "message": "no"}, permanent=True)])
    d.submit("retry", ids=[parent])
    sent = d.submit("enqueue", tasks=[["t", b"", {"after": [parent]}]])
    d.turn()
    assert d.states(parent, lost, *d.answer(sent)["ids"]) == ["pending", "cancelled", "blocked"]


def test_ends_go_down_the_generations_in_one_turn(d: Driver) -> None:
    (eldest,) = chain = d.add()
    for _ in range(5):
        chain += d.add(after=[chain[-1]])
    (last,) = d.add(after_any=[chain[-1]])
    turns = len(d.turns)
    d.ask("cancel", ids=[eldest])
    assert len(d.turns) == turns + 1
    assert d.states(*chain) == ["cancelled"] * 6
    assert d.states(last) == ["pending"]
    assert f"task {chain[-2]} to succeed" in d.row(chain[-1])["error"]["message"]


def test_a_child_with_a_due_time_waits_for_that_too(d: Driver) -> None:
    (parent,) = d.add()
    soon, late = *d.add(after=[parent], delay_ms=10), *d.add(after=[parent], delay_ms=1000)
    d.now += 100
    _end(d, _runs(d, parent)[parent])
    assert d.states(soon, late) == ["pending", "scheduled"]
    d.now += 1000
    d.turn()
    assert d.states(late) == ["pending"]


def test_a_blocked_task_is_cancelled_edited_removed_and_expires_as_any_that_waits(d: Driver) -> None:
    (parent,) = d.add()
    cancelled, removed, edited, expired, put_off = (d.add(after=[parent], ttl_ms=ttl)[0] for ttl in (None, None, None, 50, None))
    assert d.ask("cancel", ids=[cancelled])["outcomes"] == ["cancelled"]
    assert d.ask("remove", ids=[removed])["outcomes"] == ["removed"]
    changes = {"priority": 7, "queue": "other", "payload": b"\x01"}
    assert d.ask("edit", ids=[edited], changes=changes)["outcomes"] == ["edited"]
    assert d.ask("edit", ids=[put_off], changes={"delay_ms": 1000})["outcomes"] == ["edited"]
    d.now += 60
    d.turn()
    assert d.states(cancelled, removed, edited, expired, put_off) == ["cancelled", "none", "blocked", "expired", "blocked"]
    d.reopen()
    _end(d, _runs(d, parent)[parent])
    assert d.states(cancelled, edited, expired, put_off) == ["cancelled", "pending", "expired", "scheduled"]
    assert (d.row(edited)["priority"], d.row(edited)["queue"]) == (7, "other")
    assert [task["id"] for task in d.ask("find", states=["blocked"])["tasks"]] == []


def test_why_names_exactly_those_that_are_waited_for(d: Driver) -> None:
    parents = d.add(14)
    (child,) = d.add(after=parents)
    runs = _runs(d, *parents)
    _end(d, runs[parents[0]])
    d.ask("retry", ids=[parents[0]])
    (word, details), *more = d.ask("why", id=child)["reasons"]
    assert (word, details["waits"], details["of"]) == ("blocked", 13, 14)
    assert details["parents"] == [[parent, "running"] for parent in parents[1:11]]
    assert more == []
    _fail(d, runs[parents[1]])
    ((word, details),) = d.ask("why", id=child)["reasons"]
    assert (word, details["error"]["type"]) == ("over", "ParentFailed")


def test_why_names_the_first_of_those_that_wait_for_a_task_as_long_as_they_do(d: Driver) -> None:
    parent, other = d.add(2)
    children = d.add(25, after=[parent])
    assert d.ask("why", id=parent)["children"] == children[:20]
    assert d.ask("why", id=other)["children"] == []
    runs = _runs(d, parent)
    assert d.ask("why", id=parent)["children"] == children[:20]
    _end(d, runs[parent])
    assert d.ask("why", id=parent)["children"] == []


def test_names_of_a_child_are_free_when_it_is_cancelled(d: Driver) -> None:
    (parent,) = d.add()
    (child,) = d.add(after=[parent], unique="u", key="k")
    assert d.refusal("enqueue", tasks=[["t", b"", {"unique": "u"}]])[0] == "conflict"
    d.ask("cancel", ids=[parent])
    (other,) = d.add(unique="u", after_any=[parent])
    assert d.states(child, other) == ["cancelled", "pending"]


# -- what is refused -----------------------------------------------------------------------------------------------


def test_a_parent_that_there_is_none_of_is_named_and_nothing_is_stored(d: Driver) -> None:
    (parent,) = d.add()
    code, message = d.refusal("enqueue", tasks=[["t", b"", {"after": [parent]}], ["t", b"", {"after_any": [99]}]])
    assert code == "no_such_task"
    assert message.startswith("task 2 of 2: after: expected the id of a task, got 99: there is none")
    assert d.store.last_id() == parent
    (child,) = d.add()
    assert d.refusal("enqueue", tasks=[["t", b"", {"after": [child + 1]}]])[0] == "no_such_task"  # its own id is no task's yet


@pytest.mark.parametrize("bad", [0, -1, "1", [0], [-2], [-10_001], ["1"], [True], [1.0], [1 << 63], [None], {}, [*range(1, 1002)]])
def test_what_is_no_list_of_ids_is_refused(d: Driver, bad: Any) -> None:
    for name in ("after", "after_any"):
        code, message = d.refusal("enqueue", tasks=[["t", b"", {name: bad}]])
        assert (code, "expected" in message) == ("usage", True)


# -- many ----------------------------------------------------------------------------------------------------------


def test_more_children_than_a_turn_may_touch_are_let_go_by_a_chore_that_survives_restarts(d: Driver) -> None:
    (parent,) = d.add()
    count = SCAN_MOST + 3 * SLICE
    children = d.add(count, after=[parent])
    run = _runs(d, parent)[parent]
    d.tick_s = 0.01  # a slice is over as soon as it looks at the clock
    _end(d, run)
    left = sum(state == "blocked" for state in (task.state.word for task in d.store.get(children) if task))
    assert left == count
    assert [chore["verb"] for chore in d.ask("chores", conn=999)["chores"]] == ["release"]
    for _ in range(3):
        d.reopen()
        d.turn()
    done = [task.state.word for task in d.store.get(children) if task]
    assert (done[0], done[-1]) == ("pending", "blocked")
    assert d.ask("remove", ids=[parent])["outcomes"] == ["removed"]  # its end is known without it
    d.settle_down()
    assert {task.state.word for task in d.store.get(children) if task} == {"pending"}
    assert d.ask("chores", conn=999)["chores"] == []
    assert [task.id for task in d.grant(count)] == children


def test_of_two_ends_of_one_parent_each_child_hears_only_of_the_first_after_it_was_sent(d: Driver) -> None:
    (parent,) = d.add()
    old = d.add(SCAN_MOST + SLICE, after=[parent])
    d.tick_s = 0.01
    _fail(d, _runs(d, parent)[parent])
    d.ask("retry", ids=[parent])
    new = d.add(3, after=[parent])
    _end(d, _runs(d, parent)[parent])
    d.settle_down()
    assert {task.state.word for task in d.store.get(old) if task} == {"cancelled"}
    assert {task.state.word for task in d.store.get(new) if task} == {"pending"}


def test_generations_wider_than_a_turn_are_cancelled_to_the_last(d: Driver) -> None:
    (parent,) = d.add()
    children = d.add(SCAN_MOST - 10, after=[parent])
    grandchildren = [child for one in children[:20] for child in d.add(2, after=[one])]
    (last,) = d.add(after=grandchildren)
    d.tick_s = 0.01
    d.ask("cancel", ids=[parent])
    assert d.ask("chores", conn=999)["chores"]
    d.settle_down()
    assert {task.state.word for task in d.store.get([*children, *grandchildren, last]) if task} == {"cancelled"}


def test_ends_of_more_parents_than_a_turn_may_touch_tell_a_child_each_in_the_turn_of_the_ends(d: Driver) -> None:
    parents = d.add(2 * SCAN_MOST)
    children = d.ask("enqueue", tasks=[["t", b"", {"after": [parent]}] for parent in parents])["ids"]
    runs = [task for _ in range(5) for task in d.grant(SCAN_MOST)]
    d.tick_s = 0.01  # no turn has time for more than the least
    d.broker.settled([d.result(task) for task in runs])
    d.turn()
    assert d.store.chores() == []
    assert {task.state.word for task in d.store.get(children) if task} == {"pending"}


def test_a_turn_works_off_as_many_releases_as_it_has_time_for(d: Driver) -> None:
    parents = d.add(SCAN_MOST)
    d.ask("enqueue", tasks=[["t", b"", {"after": [parent]}] for parent in parents for _ in range(FEW + 1)])
    runs = [task for _ in range(5) for task in d.grant(SCAN_MOST)]
    d.tick_s = 0.01
    d.broker.settled([d.result(task) for task in runs])
    d.turn()
    left = len(d.store.chores())
    assert left > SCAN_MOST / 2
    d.tick_s = TELL_S / 20
    d.turn()
    assert left - 20 < len(d.store.chores()) < left - 5
    d.tick_s = 0.0
    d.settle_down(2)
    assert d.store.chores() == []
    assert sorted(d.store.awaited(parents)) == []


def test_a_child_of_two_parents_that_end_in_one_turn_hears_of_both(d: Driver) -> None:
    first, second, third = d.add(3)
    both, loose, lost = d.add(after=[first, second])[0], d.add(after_any=[first, third])[0], d.add(after=[second, third])[0]
    runs = _runs(d, first, second, third)
    d.broker.settled([d.result(runs[first]), d.result(runs[second])])
    d.broker.settled([d.result(runs[third], "failed", error={"type": "E", "message": "no"}, permanent=True)])
    d.turn()
    assert d.states(both, loose, lost) == ["pending", "pending", "cancelled"]


def test_a_thousand_parents_let_their_child_go_with_the_last_of_them(d: Driver) -> None:
    parents = [*d.add(500), *d.add(500)]
    (child,) = d.add(after=parents)
    done = 0
    while tasks := d.grant(200):
        d.broker.settled([d.result(task) for task in tasks])
        d.turn()
        done += len(tasks)
        assert d.row(child)["waits"] == 1000 - done if done < 1000 else d.states(child) == ["pending"]
        if done == 1000:
            break
    assert done == 1000


def test_what_nobody_waits_for_is_looked_at_no_more(d: Driver) -> None:
    first, second = d.add(2)
    d.add(after=[first, second])
    assert sorted(d.store.awaited([first, second, 3])) == [first, second]
    d.ask("cancel", ids=[first])
    assert not d.store.awaited([first, second, 3])


# -- trouble -------------------------------------------------------------------------------------------------------


def test_an_end_whose_turn_could_not_be_committed_is_done_again_with_all_that_follows_from_it(
    d: Driver, monkeypatch: pytest.MonkeyPatch
) -> None:
    (parent,) = d.add()
    (child,) = d.add(after=[parent])
    run = _runs(d, parent)[parent]
    commit, fails = d.store.commit, iter([True])

    def refuse() -> None:
        if next(fails, False):
            raise RuntimeError("no commit")
        commit()

    monkeypatch.setattr(d.store, "commit", refuse)
    d.broker.settled([d.result(run)])
    d.turn()
    d.reopen()
    assert d.states(parent, child) == ["succeeded", "pending"]


def test_children_of_what_a_dead_daemon_was_running_hear_of_its_end_in_the_next_one(d: Driver) -> None:
    (parent,) = d.add(once=True)
    (child,) = d.add(after=[parent])
    _runs(d, parent)
    d.reopen()
    d.broker.recover(lambda *_: True, d.now)
    assert d.states(parent, child) == ["failed", "cancelled"]


# -- tasks of one request ------------------------------------------------------------------------------------------


def test_tasks_of_one_request_wait_for_each_other_by_their_places(d: Driver) -> None:
    (before,) = d.add()
    rows = [
        ["t", b"", {"after": [-3, before]}],  # one that stands behind it
        ["t", b"", {"after": [-1], "unique": "u"}],
        ["t", b"", None],
        ["t", b"", {"after": [-3], "after_any": [-1]}],
        ["t", b"", {"after": [-3], "after_any": [-1]}],
    ]
    first, second, third, fourth, fifth = d.ask("enqueue", tasks=rows)["ids"]
    assert d.states(first, second, third, fourth, fifth) == ["blocked", "blocked", "pending", "blocked", "blocked"]
    assert d.row(first)["parents"] == [third, before]
    assert (d.row(fourth)["parents"], d.row(fifth)["parents_any"]) == ([third, first], [first])
    for task_id in (before, third, first, second, fourth, fifth):
        d.settle_down()
        (task,) = d.grant()
        assert task.id == task_id
        _end(d, task)


def test_a_task_that_was_there_already_is_waited_for_by_the_place_that_it_has_in_the_request(d: Driver) -> None:
    (known,) = d.add(unique="u", delay_ms=50)
    rows = [["t", b"", {"unique": "u", "unique_policy": "existing"}], ["t", b"", {"after": [-1]}], ["t", b"", {"after": [-2]}]]
    body = d.ask("enqueue", tasks=rows)
    assert (body["ids"], body["existing"]) == ([known, known + 1, known + 2], [0])
    assert (d.row(known + 1)["parents"], d.row(known + 2)["parents"]) == ([known], [known + 1])
    assert d.states(*body["ids"]) == ["scheduled", "blocked", "blocked"]


def test_a_graph_that_hangs_on_a_task_that_failed_is_over_with_the_request(d: Driver) -> None:
    (bad,) = d.add()
    _fail(d, _runs(d, bad)[bad])
    rows = [["t", b"", {"after": [bad]}], ["t", b"", {"after": [-1]}], ["t", b"", {"after_any": [-2]}]]
    ids = d.ask("enqueue", tasks=rows)["ids"]
    assert d.states(*ids) == ["cancelled", "cancelled", "pending"]


@pytest.mark.parametrize(
    ("after", "circle"), [([[-1]], "1 > 1"), ([[-3], [-1], [-2]], "1 > 2 > 3 > 1"), ([[], [-4], [-2], [-3, -1]], "2 > 3 > 4 > 2")]
)
def test_a_circle_is_named_and_nothing_is_stored(d: Driver, after: list[list[int]], circle: str) -> None:
    code, message = d.refusal("enqueue", tasks=[["t", b"", {"after_any": some}] for some in after])
    assert code == "usage"
    assert f"in a circle, got {circle} (" in message
    assert d.store.last_id() == 0


def test_a_place_that_the_request_does_not_have_is_refused(d: Driver) -> None:
    code, message = d.refusal("enqueue", tasks=[["t", b"", None], ["t", b"", {"after": [-3]}]])
    assert (code, message) == ("usage", "task 2 of 2: after: expected a place in this request, got -3: it has 2.")


# -- failure policies ----------------------------------------------------------------------------------------------


def test_what_comes_after_a_failure_runs_then_alone(d: Driver) -> None:
    good, bad = d.add(2)
    runs = _runs(d, good, bad)
    children = [d.add(after_failure=[one])[0] for one in (good, bad)]
    (grandchild,) = d.add(after_any=children[:1])
    _end(d, runs[good])
    _fail(d, runs[bad])
    assert d.states(*children, grandchild) == ["cancelled", "pending", "pending"]
    assert d.row(children[0])["error"] == {
        "type": "ParentNotFailed", "message": f"expected task {good} to fail before this one runs, but it succeeded",
    }  # fmt: skip
    assert d.row(children[1])["parents_failed"] == [bad]
    later = [d.add(after_failure=[one])[0] for one in (good, bad)]
    assert d.states(*later) == ["cancelled", "pending"]


def test_a_task_says_what_becomes_of_it_if_its_parent_fails(d: Driver) -> None:
    (parent,) = d.add()
    cancels, fails, runs = (d.add(after=[parent], on_parent_failure=policy)[0] for policy in ("cancel", "fail", "run"))
    (told,) = d.add(after_failure=[fails])
    assert [d.row(one)["on_parent_failure"] for one in (cancels, fails)] == ["cancel", "fail"]
    assert d.row(runs)["parents_any"] == [parent]
    _fail(d, _runs(d, parent)[parent])
    assert d.states(cancels, fails, runs, told) == ["cancelled", "failed", "pending", "pending"]
    assert d.row(fails)["error"]["type"] == "ParentFailed"
    assert d.ask("why", id=fails)["reasons"][0][1]["why"] == "parent"
    assert [group["type"] for group in d.ask("dead")["groups"]] == ["t", "t"]


def test_no_task_may_have_to_succeed_and_to_fail(d: Driver) -> None:
    (parent,) = d.add()
    code, message = d.refusal("enqueue", tasks=[["t", b"", {"after": [parent], "after_failure": [parent]}]])
    assert (code, "got it in both" in message) == ("usage", True)
    assert d.refusal("enqueue", tasks=[["t", b"", {"on_parent_failure": "wait"}]])[0] == "usage"


# -- again, in order -----------------------------------------------------------------------------------------------


def test_retried_in_order_a_broken_graph_runs_from_where_it_broke(d: Driver) -> None:
    rows = [["t", b"", None], ["t", b"", {"after": [-1]}], ["t", b"", {"after": [-2]}], ["t", b"", {"after_any": [-3]}]]
    first, second, third, last = ids = d.ask("enqueue", tasks=rows)["ids"]
    _end(d, _runs(d, first)[first])
    _fail(d, _runs(d, second)[second])
    _end(d, _runs(d, last)[last])
    assert d.states(*ids) == ["succeeded", "failed", "cancelled", "succeeded"]
    assert d.ask("retry", ids=[third], in_order=True)["outcomes"] == ["over"]  # its parent has failed
    assert d.ask("retry", ids=[second, third, last], in_order=True)["outcomes"] == ["retried"] * 3
    assert d.states(*ids) == ["succeeded", "pending", "blocked", "blocked"]
    if d.kind == "lmdb":
        d.reopen()
    for task_id in (second, third, last):
        (task,) = d.grant(9)
        assert task.id == task_id
        _end(d, task)
    assert d.states(*ids) == ["succeeded"] * 4
    assert d.row(third)["attempt"] == 1


def test_an_end_of_before_is_none_of_a_child_that_waits_again(d: Driver) -> None:
    (parent,) = d.add()
    (child,) = d.add(after=[parent])
    run = _runs(d, parent)[parent]
    d.ask("cancel", ids=[child])
    d.broker.settled([d.result(run, "failed", error={"type": "E", "message": "no"}, permanent=True)])
    asked = d.submit("retry", ids=[parent, child], in_order=True)  # in the turn of the parent's end
    d.turn()
    assert d.answer(asked)["outcomes"] == ["retried", "retried"]
    assert d.states(parent, child) == ["pending", "blocked"]


def test_who_is_still_told_of_an_end_cannot_wait_again_yet(d: Driver) -> None:
    (parent,) = d.add()
    d.ask("enqueue", tasks=[["t", b"", {"after": [parent]}]] * (SCAN_MOST + 1))
    (child,) = d.add(after=[parent])
    d.ask("cancel", ids=[child])
    d.tick_s = 1.0  # each look at the clock takes all the time there is
    _fail(d, _runs(d, parent)[parent])
    assert d.refusal("retry", ids=[parent, child], in_order=True)[0] == "refused"
    assert d.states(parent) == ["failed"]
    d.tick_s = 0.0
    d.settle_down()
    assert d.ask("retry", ids=[parent, child], in_order=True)["outcomes"] == ["retried", "retried"]


def test_in_order_is_for_ids(d: Driver) -> None:
    assert d.refusal("retry", queue="default", in_order=True)[0] == "usage"

"""Ordering keys: one task of a key at a time, in the order in which they were accepted, on every store."""

from __future__ import annotations

import pytest

from tq.lifecycle import Transition, parents_over, turn_came
from tq.model import State
from tq.store import Limits
from tq.store.verify import verify

S = State


def turns(store):
    """Whose turn has come, which they hear of."""
    with store.turn() as raw:
        found = []
        while ids := raw.turns(2):
            found += ids
            raw.change(ids, lambda task: turn_came(task, store.now))
    return found


def line(store, order="k", queue="default"):
    return store.raw.ordered(queue, order, 99)


def states(store, ids):
    return [store.state(one).word for one in ids]


def test_the_first_of_a_key_is_ready_and_those_behind_it_are_blocked(store):
    ids = store.add(3, order="k") + store.add(order="k", priority=9, kind="u")
    assert states(store, ids) == ["pending", "blocked", "blocked", "blocked"]
    assert [store.get(one).status.waits for one in ids] == [0, 1, 1, 1]
    assert line(store) == ids
    assert store.raw.ordered("default", "k", 2) == ids[:2]
    assert turns(store) == []
    assert [one.id for one in store.claim(9)] == ids[:1]


def test_the_next_one_s_turn_comes_when_the_one_before_it_succeeds(store):
    ids = store.add(3, order="k")
    for at, one in enumerate(ids):
        assert line(store) == ids[at:]
        store.succeed(store.take(one))
        assert turns(store) == ids[at + 1 : at + 2]
    assert line(store) == []
    assert states(store, store.add(order="k")) == ["pending"]


def test_keys_of_other_names_and_queues_have_nothing_to_do_with_each_other(store):
    ids = store.add(order="k") + store.add(order="kk") + store.add(order="k", queue="q") + store.add()
    assert set(states(store, ids)) == {"pending"}
    behind = store.add(order="kk")
    store.succeed(store.take(ids[0]))
    assert (turns(store), line(store, "kk")) == ([], [ids[1], *behind])


@pytest.mark.parametrize("length", [1, 200])
def test_names_of_any_length_are_ordering_keys(store, length):
    ids = store.add(2, order="ä" * (length // 2) or "x", queue="q" * length)
    store.succeed(store.take(ids[0]))
    assert turns(store) == ids[1:]


def test_what_is_retried_or_not_due_keeps_those_behind_it_waiting(store):
    ids = store.add(order="k", retries=1, due_in=50) + store.add(order="k")
    assert states(store, ids) == ["scheduled", "blocked"]
    store.now += 60
    store.promote()
    store.settle(store.take(ids[0]), "failed", delay_ms=50)
    assert (turns(store), states(store, ids)) == ([], ["retrying", "blocked"])
    store.now += 60
    store.promote()
    store.succeed(store.take(ids[0]))
    assert turns(store) == ids[1:]


def test_a_delay_is_kept_by_one_that_waits_for_its_turn(store):
    ids = store.add(order="k") + store.add(order="k", due_in=500)
    store.succeed(store.take(ids[0]))
    assert turns(store) == ids[1:]
    assert states(store, ids[1:]) == ["scheduled"]
    assert store.get(ids[1]).status.due_at == store.now + 500


@pytest.mark.parametrize("goes_on", [False, True])
def test_a_failure_holds_up_those_behind_it_or_does_not(store, goes_on):
    ids = store.add(3, order="k", order_goes_on=goes_on)
    store.settle(store.take(ids[0]), "failed", permanent=True)
    assert turns(store) == (ids[1:2] if goes_on else [])
    assert line(store) == (ids[1:] if goes_on else ids)


def test_a_failure_that_is_retried_by_hand_and_succeeds_lets_the_others_go(store):
    ids = store.add(2, order="k")
    store.settle(store.take(ids[0]), "failed", permanent=True)
    store.reopen()
    assert store.retry(ids[0]).state is S.PENDING
    store.succeed(store.take(ids[0]))
    assert turns(store) == ids[1:]


def test_a_failure_that_is_given_up_lets_the_others_go(store):
    ids = store.add(2, order="k")
    store.settle(store.take(ids[0]), "failed", permanent=True, error={"type": "E", "message": "no"})
    task = store.cancel(ids[0])
    assert (task.state, task.status.error["message"]) == (S.CANCELLED, "no")
    assert turns(store) == ids[1:]
    assert store.cancel(ids[0]) is None


@pytest.mark.parametrize("how", ["removed", "retained"])
def test_a_failure_that_is_forgotten_lets_the_others_go(store, how):
    ids = store.add(3, order="k")
    store.settle(store.take(ids[0]), "failed", permanent=True)
    store.reopen()
    if how == "removed":
        store.remove(ids[0])
    else:
        store.retain(Limits(keep_failed_ms=0, keep=0))
    assert turns(store) == ids[1:2]
    assert line(store) == ids[1:]


@pytest.mark.parametrize("how", ["cancelled", "removed", "expired and goes on"])
def test_one_in_the_middle_that_goes_changes_no_turn(store, how):
    ids = store.add(order="k") + store.add(order="k", order_goes_on=True, ttl=50) + store.add(order="k")
    if how == "cancelled":
        store.cancel(ids[1])
    elif how == "removed":
        store.remove(ids[1])
    else:
        store.now += 60
        store.run_out(ids[1])
    assert turns(store) == []
    assert line(store) == [ids[0], ids[2]]
    store.succeed(store.take(ids[0]))
    assert turns(store) == [ids[2]]


def test_one_that_expires_behind_others_holds_up_the_rest_when_its_turn_comes(store):
    ids = store.add(order="k") + store.add(order="k", ttl=50) + store.add(order="k")
    store.now += 60
    store.run_out(ids[1])
    assert store.get(ids[1]).status.waits == 0
    store.succeed(store.take(ids[0]))
    assert turns(store) == [ids[1]]
    assert states(store, ids) == ["succeeded", "expired", "blocked"]
    store.retry(ids[1])
    store.succeed(store.take(ids[1]))
    assert turns(store) == [ids[2]]


def test_one_that_expired_behind_others_waits_behind_them_again_when_it_is_retried(store):
    ids = store.add(order="k") + store.add(order="k", ttl=50) + store.add(order="k")
    store.now += 60
    store.run_out(ids[1])
    assert (store.retry(ids[1]).state, store.get(ids[1]).status.waits) == (S.BLOCKED, 1)
    assert turns(store) == []
    assert line(store) == ids


@pytest.mark.parametrize("busy", [True, False])
def test_what_comes_back_to_life_takes_its_place_by_its_age(store, busy):
    ids = store.add(3, order="k", order_goes_on=True)
    store.settle(store.take(ids[0]), "failed", permanent=True)
    turns(store)
    held = store.take(ids[1])
    if not busy:
        store.succeed(held)
    assert store.retry(ids[0]).state is S.BLOCKED
    if busy:
        assert turns(store) == []
        store.succeed(held)
    assert turns(store) == [ids[0]]
    assert states(store, ids) == ["pending", "succeeded", "blocked"]


def test_one_that_moves_to_another_queue_stands_in_the_line_there(store):
    here, there = store.add(3, order="k"), store.add(2, order="k", queue="q")
    store.edit(here[1], queue="q")
    store.edit(here[0], queue="q", due_in=0)
    assert states(store, here + there) == ["blocked", "blocked", "blocked", "pending", "blocked"]
    assert turns(store) == [here[2]]
    assert (line(store), line(store, queue="q")) == ([here[2]], [there[0], *here[:2], there[1]])
    store.succeed(store.take(there[0], queues=frozenset("q")))
    assert turns(store) == [here[0]]
    assert store.state(here[0]) is S.PENDING


def test_one_that_moves_where_nobody_is_has_its_turn_at_once(store):
    ids = store.add(2, order="k")
    store.edit(ids[1], queue="q")
    assert turns(store) == [ids[1]]
    assert states(store, ids) == ["pending", "pending"]


def test_one_waits_for_its_parents_and_for_its_turn(store):
    (parent,) = store.add(queue="p")
    first, other = store.add(order="k"), store.add(order="k", parents=(parent,)) + store.add(order="k", parents=(parent,))
    assert [store.get(one).status.waits for one in other] == [2, 2]
    store.succeed(store.take(first[0], queues=frozenset(["default"])))
    assert turns(store) == other[:1]
    assert [store.get(one).status.waits for one in other] == [1, 2]
    store.succeed(store.take(parent))
    for one in other:
        store.apply(parents_over(store.get(one), {parent: S.SUCCEEDED}, store.now))
    assert states(store, other) == ["pending", "blocked"]
    assert store.raw.children(parent, 9) == []
    store.succeed(store.take(other[0]))
    assert turns(store) == other[1:]
    assert states(store, other) == ["succeeded", "pending"]


def test_a_turn_that_is_lost_takes_no_turn_away(store):
    ids = store.add(3, order="k")
    held = store.take(ids[0])
    with store.turn() as raw:
        raw.succeed([(held.id, held.claim, store.now, store.now, False, None)])
        assert raw.turns(9) == ids[1:2]
        raise store.lost
    assert line(store) == ids
    with store.turn() as raw:
        raw.enqueue([store.draft(order="n")])
        raise store.lost
    assert states(store, store.add(order="n")) == ["pending"]
    store.succeed(held)
    assert turns(store) == ids[1:2]


def test_what_comes_in_the_turn_in_which_a_line_is_left_stands_at_its_end(store):
    ids = store.add(2, order="k")
    held = store.take(ids[0])
    with store.turn() as raw:
        raw.succeed([(held.id, held.claim, store.now, store.now, False, None)])
        new = list(raw.enqueue([store.draft(order="k")] * 2))
        assert raw.turns(9) == ids[1:]
        raw.change(ids[1:], lambda task: turn_came(task, store.now))
    assert line(store) == [*ids[1:], *new]


def test_lines_are_there_after_a_restart(store):
    ids = store.add(3, order="k", order_goes_on=True)
    store.reopen()
    assert line(store) == ids
    store.settle(store.take(ids[0]), "failed", permanent=True)
    assert turns(store) == ids[1:2]
    store.reopen()
    assert line(store) == ids[1:]
    assert store.get(ids[2]).spec.header.order_goes_on
    if store.kind == "lmdb":
        store.raw.close()
        assert verify(store._path.parent) == []
        store.raw = store._make(store._path)


def test_a_guard_that_does_not_hold_moves_nobody(store):
    ids = store.add(2, order="k")
    assert store.apply(Transition(ids[0], "cancelled", frozenset({S.BLOCKED}), None, store.get(ids[1]).status)) is None
    assert line(store) == ids


def test_ten_thousand_of_one_key_are_one_line(store):
    count = 10_000 if store.kind == "lmdb" else 300
    ids = store.add(count, order="k")
    assert store.raw.ordered("default", "k", count + 9) == ids
    assert store.ids(states=frozenset({S.PENDING}), limit=9) == ids[:1]

"""Limits: how many tasks begin in a time and run at a time, on every store."""

from __future__ import annotations

import random

import pytest

from tq.model import State
from tq.store import Limits, Used, Want
from tq.store.limits import Limit

GPU = (("gpu", 1),)


def taken(store, limit=100, **want):
    return [one.id for one in store.claim(limit, **want)]


# -- tasks that run at a time ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("scope", "of"), [("queue", "default"), ("type", "t"), ("tenant", "acme"), ("flow", "k"), ("tenant", None), ("flow", None)]
)
def test_no_more_run_at_a_time_than_a_limit_says(store, scope, of):
    store.put_limit("few", scope, of, running=2)
    ids = store.add(5, tenant="acme", flow="k")
    first = store.claim(9)
    assert [one.id for one in first] == ids[:2]
    assert (taken(store), store.peek(), store.raw.ready()) == ([], [], False)
    store.succeed(first[0])
    assert (store.peek(), store.raw.ready()) == (ids[2:3], True)
    second = store.claim(9)
    assert [one.id for one in second] == ids[2:3]
    store.settle(first[1], "failed")
    store.settle(second[0], "released")
    assert taken(store) == ids[2:4]


def test_what_a_limit_does_not_count_goes_past_those_that_wait(store):
    store.put_limit("few", "type", "slow", running=1)
    slow, other = store.add(3, "slow", priority=9), store.add(3, "t")
    assert taken(store) == [slow[0], *other]
    assert store.raw.limited(Limit("few", "type", "slow", running=1), 9) == [Used("slow", 1, float("inf"), True)]


def test_each_flow_key_is_counted_by_itself_and_goes_in_order(store):
    store.put_limit("one", "flow", running=1)
    keys = [[task for _ in range(3) for task in store.add(flow=key)] for key in "abc"]
    for at in range(3):
        got = store.claim(9)
        assert [one.id for one in got] == [ids[at] for ids in keys]
        store.succeed(*got)


def test_a_limit_of_each_tenant_leaves_out_tasks_without_one(store):
    store.put_limit("each", "tenant", running=1)
    a, b, rest = store.add(3, tenant="a"), store.add(2, tenant="b"), store.add(3)
    assert taken(store) == [a[0], b[0], *rest]


def test_several_limits_hold_together(store):
    store.put_limit("queue", "queue", "default", running=3)
    store.put_limit("flow", "flow", running=1)
    store.put_limit("type", "type", "t", running=2)
    for key in "aab":
        store.add(flow=key)
    store.add(3, "u", flow="c")
    store.add(2, "u")
    got = store.claim(9)
    assert [one.id for one in got] == [1, 3, 4]
    store.succeed(got[1])
    assert taken(store) == [7]


def test_what_runs_already_counts_and_a_limit_that_goes_frees_all(store):
    ids = store.add(5)
    store.claim(3)
    store.put_limit("few", "queue", "default", running=2)
    assert (taken(store), store.raw.limited(Limit("few", "queue", "default", running=2), 9)[0].running) == ([], 3)
    store.reopen()
    assert taken(store) == []
    store.put_limit("few", "queue", "default", running=4)
    assert taken(store) == ids[3:4]
    store.drop_limit("few")
    assert (taken(store), store.raw.limits()) == (ids[4:], {})


# -- tasks that begin in a time --------------------------------------------------------------------------------------


@pytest.mark.parametrize(("scope", "of"), [("queue", "default"), ("type", "t"), ("tenant", "acme"), ("flow", None)])
def test_a_rate_lets_its_burst_go_and_then_one_for_each_token(store, scope, of):
    store.put_limit("slow", scope, of, rate=10, burst=3)
    ids = store.add(9, tenant="acme", flow="k")
    assert taken(store) == ids[:3]
    assert store.raw.next_due() == store.now + 110  # as late as no token is lost by it
    store.now += 99
    assert taken(store) == []
    store.now += 1
    assert taken(store) == ids[3:4]
    store.now += 10_000
    assert taken(store) == ids[4:7]


def test_a_sliding_window_lets_no_more_go_in_any_such_time(store):
    store.put_limit("win", "type", "t", rate=3, per_ms=1000, window="sliding")
    ids = store.add(9)
    store.now = 10_000
    assert [one.id for one in store.claim(2)] == ids[:2]
    store.now = 10_900
    assert taken(store) == ids[2:3]
    assert (store.raw.next_due(), store.raw.ready()) == (11_000, False)
    store.now = 11_000
    assert taken(store) == ids[3:5]
    store.now = 11_899
    assert taken(store) == []
    store.now = 11_900
    assert taken(store) == ids[5:6]


def test_a_fixed_window_begins_anew_at_its_time(store):
    store.put_limit("win", "flow", rate=2, per_ms=1000, window="fixed")
    ids = store.add(9, flow="k")
    store.now = 10_999
    assert taken(store) == ids[:2]
    assert store.raw.next_due() == 11_000
    store.now = 11_000
    assert taken(store) == ids[2:4]
    store.now = 11_999
    assert taken(store) == []


@pytest.mark.parametrize("window", ["sliding", "fixed"])
def test_a_window_outlives_a_restart_a_lost_turn_and_another_rate(store, window):
    store.put_limit("win", "type", "t", rate=2, per_ms=1000, window=window)
    ids = store.add(9)
    store.now = 10_000
    got = store.claim(1)
    with store.turn() as raw:
        assert [one.id for one in raw.claim(Want("w", 9, float("inf")))] == ids[1:2]
        raise store.lost
    store.reopen()
    assert taken(store) == ids[1:2]
    store.reopen()
    assert taken(store) == []
    store.settle(got[0], "released")
    assert taken(store) == ids[:1]
    store.put_limit("win", "type", "t", rate=4, per_ms=1000, window=window)
    assert taken(store) == ids[2:4]
    store.put_limit("win", "type", "t", rate=4, per_ms=1000, burst=4)
    assert taken(store) == []
    store.now += 250
    assert taken(store) == ids[4:5]


def test_limits_that_hold_something_back_are_told_with_whom(store):
    store.put_limit("few", "type", "slow", running=1)
    store.put_limit("each", "flow", running=1)
    store.put_limit("rate", "queue", "default", rate=1)
    assert store.raw.reaching(9) == []
    store.add(2, "slow")
    store.add(2, "t", flow="a")
    store.add(2, "t", flow="b")
    assert store.raw.reaching(9) == []
    first = store.claim(9)
    reached = {
        limit.name: [(one.of, one.opens_at - store.now if one.opens_at else 0) for one in used] for limit, used in store.raw.reaching(9)
    }
    assert reached == {"few": [("slow", 0)], "rate": [("default", 1000)]}
    store.drop_limit("rate")
    store.claim(9)
    assert [(limit.name, [one.of for one in used]) for limit, used in store.raw.reaching(1)] == [("each", ["a"]), ("few", ["slow"])]
    store.reopen()
    assert [(limit.name, [one.of for one in used]) for limit, used in store.raw.reaching(9)] == [("each", ["a", "b"]), ("few", ["slow"])]
    store.succeed(first[0])
    assert [limit.name for limit, _ in store.raw.reaching(9)] == ["each"]
    store.drop_limit("each")
    assert store.raw.reaching(9) == []


def test_what_comes_next_is_told_without_types_that_are_left_alone(store):
    store.put_limit("few", "type", "t", running=1)
    slow, other = store.add(2, "slow", priority=9), store.add(2, "t")
    assert store.raw.peek(9) != []
    assert [one.id for one in store.raw.peek(9, None, {"slow"})] == other[:1]
    store.drop_limit("few")
    assert [one.id for one in store.raw.peek(9, "default", {"slow"})] == other
    assert [one.id for one in store.raw.peek(9, None, ())] == [*slow, *other]


def test_nobody_is_woken_where_nothing_waits(store):
    store.put_limit("slow", "type", "t", rate=1)
    (only,) = store.add()
    store.take(only)
    assert store.raw.next_due() is None
    store.add()
    assert store.raw.next_due() == store.now + 1000
    store.now += 1000
    with store.turn():
        pass
    assert (store.raw.next_due(), store.raw.ready()) == (None, True)


def test_tokens_outlive_a_restart_and_a_lost_turn(store):
    store.put_limit("slow", "flow", rate=2, per_ms=1000, burst=2)
    ids = store.add(6, flow="k")
    assert taken(store) == ids[:2]
    store.reopen()
    assert taken(store) == []
    store.now += 500
    with store.turn() as raw:
        assert [one.id for one in raw.claim(Want("w", 9, float("inf")))] == ids[2:3]
        raise store.lost
    assert taken(store) == ids[2:3]
    store.now += 499
    assert taken(store) == []
    store.now += 1
    assert taken(store) == ids[3:4]


def test_a_hand_out_that_had_not_begun_gives_its_token_back(store):
    store.put_limit("slow", "type", "t", rate=1, burst=2)
    ids = store.add(5)
    first, second = store.claim(9)
    store.settle(second, "released")
    store.now += 400
    assert taken(store) == ids[1:2]
    store.settle(first, "failed")
    store.now += 599
    assert taken(store) == []
    store.now += 1
    assert taken(store) == ids[2:3]


def test_a_token_that_comes_back_late_does_not_let_two_go_at_once(store):
    store.put_limit("slow", "type", "t", rate=1)
    ids = store.add(3)
    (first,) = store.claim(9)
    store.now += 1000
    assert taken(store) == ids[1:2]
    store.settle(first, "released")
    assert taken(store) == []


def test_a_rate_that_changes_keeps_what_was_taken(store):
    store.put_limit("slow", "queue", "default", rate=10, burst=10)
    store.add(30)
    assert len(taken(store)) == 10
    store.put_limit("slow", "queue", "default", rate=10, burst=20)
    assert len(taken(store)) == 10
    store.put_limit("slow", "queue", "default", rate=1, per_ms=60_000)
    store.now += 59_999
    assert taken(store) == []
    store.now += 1
    assert len(taken(store)) == 1


def test_a_clock_that_is_put_back_closes_a_limit_for_no_longer_than_its_burst_takes(store):
    store.put_limit("slow", "type", "t", rate=1, burst=2)
    ids = store.add(4)
    assert taken(store) == ids[:2]
    store.now -= 500_000
    assert taken(store) == []
    store.now += 1000
    assert taken(store) == ids[2:3]


def test_over_any_time_no_more_begin_than_the_bucket_held_and_got(store):
    limit = Limit("slow", "type", "t", rate=7, per_ms=100, burst=5)
    store.put_limit("slow", "type", "t", rate=7, per_ms=100, burst=5)
    store.add(1000)
    chance, begun = random.Random(3), []
    began = store.now
    while store.now < began + 3000:
        begun += [store.now] * len(store.claim(chance.choice((1, 2, 9))))
        store.now += chance.choice((0, 1, 3, 20, 80))
    for at, first in enumerate(begun):
        for more, last in enumerate(begun[at:], 1):
            assert more <= limit.burst + (last - first) * limit.rate / limit.per_ms
    assert len(begun) > 80


# -- beside the rest -------------------------------------------------------------------------------------------------


def test_a_queue_that_waited_for_a_limit_saves_up_no_turns(store):
    store.put_limit("few", "queue", "a", running=1)
    a, b = store.add(20, queue="a"), store.add(40, queue="b")
    (hold,) = store.claim(1)
    assert hold.id == a[0]
    assert taken(store, 20) == b[:20]
    store.succeed(hold)
    store.drop_limit("few")
    assert sum(one in a for one in taken(store, 10)) <= 6


def test_nothing_is_kept_for_a_task_that_waits_for_a_limit(store):
    store.put_resource("gpu", 1)
    store.put_queue("default", aging_ms=10, aging_share=1)
    store.put_limit("none", "type", "held", running=1)
    store.take(store.add(kind="held")[0])
    store.add(kind="held", needs=GPU)
    store.now += 1000
    (other,) = store.add(needs=GPU)
    assert (store.raw.in_use().kept, store.raw.heaviest(frozenset({"held"})), store.peek()) == ({}, 0, [other])
    store.take(other)


def test_lists_show_those_that_wait_for_a_limit_in_their_places(store):
    store.put_limit("few", "flow", running=1)
    ids = store.add(4, flow="k")
    store.take(ids[0])
    assert store.ids(states=frozenset({State.PENDING})) == store.raw.line("default", 9) == ids[1:]
    assert (store.peek(), store.raw.would_start("default")) == ([], False)


def test_ends_beyond_what_is_kept_leave_the_counts_of_limits_right(store):
    store.put_limit("few", "type", "t", running=1)
    for _ in range(3):
        store.add()
        store.succeed(*store.claim(9))
    store.retain(Limits(keep=0))
    store.add(2)
    assert len(taken(store)) == 1

"""What every store promises: who is claimed first, by whom, and how much (promise 6)."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tq.errors import TqError
from tq.model import State
from tq.store import Held, Limits, Want

RUNNING = State.RUNNING


# -- claim -------------------------------------------------------------------------------------------------------


def test_within_a_level_the_first_in_is_the_first_out(store):
    ids = store.add(5) + store.add(5)
    assert [claimed.id for _ in range(5) for claimed in store.claim(2)] == ids


def test_a_higher_priority_goes_first_whatever_came_before(store):
    ids = {level: store.add(2, priority=level) for level in (3, 0, 9, 1, 5, 2)}
    expected = [task_id for level in sorted(ids, reverse=True) for task_id in ids[level]]
    assert store.peek() == expected
    assert [claimed.id for claimed in store.claim(100)] == expected


@pytest.mark.parametrize("tenant", [None, "x"])
def test_the_order_holds_across_types_and_flows_of_a_tenant(store, tenant):
    ids = store.enqueue([store.draft(f"t{n % 3}", tenant=tenant, flow=f"f{n % 4}" if n % 7 else None) for n in range(40)])
    assert store.peek() == ids
    assert [claimed.id for _ in range(14) for claimed in store.claim(3)] == ids


def test_the_order_survives_a_restart(store):
    store.add(10, priority=2)
    store.add(10, priority=3)
    order = store.peek()
    store.reopen()
    assert store.peek() == order
    assert [claimed.id for claimed in store.claim(20)] == order


def test_a_claim_is_a_running_task_with_a_higher_number(store):
    (task_id,) = store.add(payload=b"p", priority=3)
    store.now += 10
    claimed = store.take(task_id, worker="w7")
    task = store.get(task_id)
    assert (claimed.claim, claimed.attempt, claimed.crashes) == (1, 0, 0)
    assert claimed.record == task.spec.record()
    assert claimed.header == task.spec.header
    assert (task.state, task.status.claim, task.status.worker) == (RUNNING, 1, "w7")
    assert (task.status.started_at, task.status.finished_at, task.status.seq) == (store.now, 0, 1)
    assert store.held() == [Held(task_id, 1, "w7", store.now)]


def test_nothing_is_claimed_twice(store):
    ids = store.add(7)
    with store.turn() as raw:
        claimed = raw.claim(Want("a", 3, float("inf"))) + raw.claim(Want("b", 3, float("inf")))
    claimed += store.claim(3) + store.claim(3)
    assert [one.id for one in claimed] == ids
    assert not store.raw.ready()


@pytest.mark.parametrize("limit", [0, 1, 3, 10])
def test_the_limit_of_a_claim_holds(store, limit):
    store.add(5)
    assert len(store.claim(limit)) == min(limit, 5)


def test_peek_is_what_a_claim_then_takes(store):
    store.put_queue("a", weight=3)
    store.put_queue("c", paused=True)
    store.put_queue("d", external=True)
    for level in (1, 5, 2):
        for queue in "abcd":
            store.add(4, queue=queue, priority=level)
    expected = store.peek(20)
    assert store.peek(20) == expected
    assert [claimed.id for _ in range(4) for claimed in store.claim(5)] == expected
    for queue in "bcd":
        line = store.peek(queue=queue)
        assert [claimed.id for claimed in store.claim(100, queues=frozenset({queue}))] == line


def test_a_line_is_what_its_queue_gives_were_it_open_and_had_it_slots(store):
    store.put_queue("a", slots=1)
    for level in (1, 5, 2):
        store.add(2, queue="a", priority=level)
        store.add(2, queue="b", priority=level)
    assert len(store.claim(5, queues=frozenset({"a"}))) == 1
    assert store.peek(queue="a") == []
    line = store.raw.line("a", 100)
    store.put_queue("a", paused=True)
    assert store.raw.line("a", 100) == line
    assert store.raw.line("a", 2) == line[:2]
    assert store.raw.line("nothing", 2) == []
    store.put_queue("a")
    assert [claimed.id for claimed in store.claim(100, queues=frozenset({"a"}))] == line


def test_the_oldest_of_a_queue_and_a_type_is_known(store):
    assert store.raw.oldest(None, None) == 0
    assert store.raw.oldest_of_each() == {}
    began = store.now
    for number, (queue, kind) in enumerate([("a", "t"), ("b", "t"), ("a", "u"), ("a", "t")]):
        store.now = began + number
        store.enqueue([store.draft(kind, queue=queue, priority=3 - number % 2)])
    store.put_queue("a", paused=True)
    asked = [(None, None), ("b", None), ("a", "u"), (None, "u"), ("b", "u"), ("c", None)]
    assert [store.raw.oldest(*one) for one in asked] == [began, began + 1, began + 2, began + 2, 0, 0]
    assert store.raw.oldest_of_each() == {"a": began, "b": began + 1}
    store.put_queue("a")
    store.claim(1, queues=frozenset({"a"}), types=frozenset({"t"}))
    assert store.raw.oldest("a", "t") == began + 3
    store.claim(1, queues=frozenset({"b"}))
    assert store.raw.oldest_of_each() == {"a": began + 2}


@pytest.mark.parametrize("page", [1, 3, 500])
def test_what_will_come_due_is_told_in_its_order_page_by_page(store, page):
    now = store.now
    dues = [now + 700, now + 300, now + 500, now + 300, now + 900]
    first = [store.enqueue([store.draft(due_in=due - now)])[0] for due in dues]
    for number in range(5):  # timers of others stand between
        store.enqueue([store.draft("k", ttl=100 * number + 50)])
    expected = sorted(zip(dues, first, strict=True))[:4]
    found, after = [], (0, 0)
    for _ in range(50):
        some, after = store.raw.coming(after, now + 700, page)
        assert len(some) <= page
        found += some
        if after is None:
            break
    assert after is None
    assert found == expected
    assert store.raw.coming((0, 0), now + 299, 500) == ([], None)


def test_peek_gives_whole_tasks_and_no_more_than_asked(store):
    ids = store.add(5, payload=b"p")
    assert [one.id for one in store.raw.peek(2)] == ids[:2]
    assert store.raw.peek(0) == []


def test_a_claim_takes_only_the_types_it_wants(store):
    a, b, c, a2 = store.enqueue([store.draft(kind) for kind in "abca"])
    assert store.claim(5, types=frozenset()) == []
    assert store.claim(5, types=frozenset({"x"})) == []
    assert [claimed.id for claimed in store.claim(5, types=frozenset({"a", "c"}))] == [a, c, a2]
    assert store.peek() == [b]


def test_a_type_that_is_passed_over_keeps_its_place(store):
    slow, fast, late = store.enqueue([store.draft("slow"), store.draft("fast"), store.draft("slow")])
    store.take(fast, types=frozenset({"fast"}))
    assert store.peek() == [slow, late]


def test_a_claim_takes_only_from_the_queues_it_wants(store):
    a, b, c = store.enqueue([store.draft(queue=name) for name in "abc"])
    assert store.claim(5, queues=frozenset({"x"})) == []
    assert {claimed.id for claimed in store.claim(5, queues=frozenset({"a", "c"}))} == {a, c}
    assert store.peek() == [b]


def test_a_paused_queue_gives_nothing_until_it_is_resumed(store):
    ids = store.add(2, queue="q")
    store.put_queue("q", paused=True)
    assert store.claim(5) == store.claim(5, queues=frozenset({"q"})) == []
    assert store.peek() == store.peek(queue="q") == []
    assert not store.raw.ready()
    store.reopen()
    assert store.claim(5) == []
    store.put_queue("q")
    assert store.raw.ready()
    assert [claimed.id for claimed in store.claim(5)] == ids


def test_a_queue_that_was_paused_has_saved_up_no_turns(store):
    for name in "ab":
        store.add(40, queue=name)
    store.put_queue("a", paused=True)
    store.claim(20)
    store.put_queue("a")
    taken = [claimed.header.queue for claimed in store.claim(10)]
    assert taken.count("a") == taken.count("b") == 5


def test_an_external_queue_is_given_only_to_who_names_it(store):
    store.put_queue("out", external=True)
    (task_id,) = store.add(queue="out")
    assert store.claim(5) == []
    assert store.peek() == []
    assert not store.raw.ready()
    assert store.peek(queue="out") == [task_id]
    assert [claimed.id for claimed in store.claim(5, queues=frozenset({"out"}))] == [task_id]


def test_queues_of_one_weight_take_turns(store):
    for name in "abc":
        store.add(10, queue=name)
    taken = [claimed.header.queue for claimed in store.claim(12)]
    assert taken == list("abc") * 4


def test_queues_share_by_weight(store):
    store.put_queue("a", weight=4)
    for name in "ab":
        store.add(50, queue=name)
    taken = [claimed.header.queue for _ in range(10) for claimed in store.claim(5)]
    assert (taken.count("a"), taken.count("b")) == (40, 10)
    assert "bb" not in "".join(taken)


def test_a_queue_alone_is_never_held_back(store):
    store.put_queue("a", weight=9)
    ids = store.add(5, queue="b")
    assert [claimed.id for claimed in store.claim(5)] == ids


def test_a_queue_that_was_empty_has_saved_up_no_turns(store):
    store.add(60, queue="a")
    store.claim(30)
    store.add(30, queue="b")
    taken = [claimed.header.queue for claimed in store.claim(10)]
    assert taken.count("a") == taken.count("b") == 5


def test_priorities_hold_within_a_queue_not_between_them(store):
    (low,) = store.add(queue="a", priority=0)
    store.add(3, queue="b", priority=9)
    assert store.peek(1) == [low]


def test_a_claim_stops_before_the_budget_would_be_passed(store):
    store.add(10)
    assert len(store.claim(10, budget_ms=20, costs={"t": 5})) == 4
    assert len(store.claim(10, budget_ms=19, costs={"t": 5})) == 3
    assert len(store.claim(10, budget_ms=0, costs={"t": 5})) == 1
    assert len(store.claim(1, budget_ms=100, costs={"t": 5})) == 1
    assert len(store.claim(10, budget_ms=0, costs={"t": 0})) == 1


def test_a_type_without_a_known_cost_is_claimed_alone(store):
    store.enqueue([store.draft(kind) for kind in ("new", "new", "known", "known", "new")])
    costs = {"known": 1}
    sizes = [len(store.claim(10, budget_ms=1000, costs=costs)) for _ in range(5)]
    assert sizes == [1, 1, 2, 1, 0]


def test_a_budget_stops_at_a_costly_task_and_takes_nothing_behind_it(store):
    a, b, c, d = store.enqueue([store.draft(kind) for kind in ("cheap", "cheap", "dear", "cheap")])
    costs = {"cheap": 1, "dear": 100}
    assert [claimed.id for claimed in store.claim(10, budget_ms=20, costs=costs)] == [a, b]
    assert [claimed.id for claimed in store.claim(10, budget_ms=20, costs=costs)] == [c]
    assert store.peek() == [d]


def test_an_infinite_budget_takes_up_to_the_limit(store):
    store.add(10)
    assert len(store.claim(8, budget_ms=float("inf"))) == 8


def test_claims_tell_how_often_a_task_ran_and_crashed(store):
    (task_id,) = store.add(retries=2)
    store.settle(store.take(task_id), "crashed")
    claimed = store.take(task_id)
    assert (claimed.claim, claimed.attempt, claimed.crashes) == (2, 1, 1)
    store.settle(claimed, "released")
    claimed = store.take(task_id)
    assert (claimed.claim, claimed.attempt, claimed.crashes) == (3, 1, 1)


def test_running_tasks_are_told_with_their_claims_after_a_restart(store):
    store.add(4)
    first, *_ = store.claim(2, worker="w1")
    store.now += 5
    store.settle(first, "released")
    store.claim(2, worker="w2", lease_ms=700)
    held = store.held()
    assert held == [Held(1, 2, "w2", 1_000_005, 700), Held(2, 1, "w1", 1_000_000), Held(3, 1, "w2", 1_000_005, 700)]
    store.reopen()
    assert store.held() == held
    assert store.peek() == [4]


# -- many --------------------------------------------------------------------------------------------------------


def test_many_tasks_in_many_lanes_come_out_in_order(store):
    drafts = [store.draft(f"t{n % 7}", queue="q", priority=n * 7 % 10, flow=str(n % 11)) for n in range(3000)]
    ids = store.enqueue(drafts)
    order = sorted(ids, key=lambda task_id: (-drafts[task_id - 1].header.priority, task_id))
    taken = []
    while claimed := store.claim(137):
        taken += claimed
        store.succeed(*claimed)
    assert [claimed.id for claimed in taken] == order
    assert store.tally("q", "t0").succeeded == len(drafts[::7])


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(plan=st.lists(st.tuples(st.integers(0, 9), st.sampled_from("ab"), st.sampled_from([None, "x"])), min_size=1, max_size=30))
def test_any_mix_of_levels_types_and_flows_comes_out_in_order(store, plan):
    ids = store.enqueue([store.draft(type_, priority=level, flow=flow) for level, type_, flow in plan])
    levels = dict(zip(ids, (level for level, *_ in plan), strict=True))
    claimed = store.claim(1000)
    assert [one.id for one in claimed] == sorted(ids, key=lambda task_id: (-levels[task_id], task_id))
    assert all(a.claim == b.claim == 1 for a, b in pairwise(claimed))
    assert all(store.succeed(*claimed))


def test_errors_of_a_store_are_of_the_one_tree(store):
    store.reopen(Limits(queue_tasks=0))
    with pytest.raises(TqError) as refusal:
        store.add()
    assert refusal.value.code == "refused"
    assert "default" in refusal.value.message

"""What every store promises: the tenants of a queue share it by weight (promise 6)."""

from __future__ import annotations

from collections import Counter
from math import ceil

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.tq.store.conftest import Driver
from tq.model import State, needs_of
from tq.store import Want

AGED = 60_001
GPU = needs_of(1, {"gpu": 1})


def whose(store: Driver, limit: int, **want: object) -> str:
    """The tenants of what a claim takes, in its order; "-": of none."""
    return "".join(one.header.tenant or "-" for one in store.claim(limit, **want))


# -- turns -------------------------------------------------------------------------------------------------------


def test_tenants_take_turns_whoever_came_first_and_however_much_they_have(store):
    store.add(60, tenant="a")
    store.add(3, tenant="b")
    store.add(2)
    assert whose(store, 12) == "ab-ab-abaaaa"


def test_one_with_much_does_not_delay_one_with_little(store):
    count = 1_000 if store.kind == "memory" else 10_000
    store.add(count, tenant="hot")
    store.claim(100)
    small = store.add(10, tenant="small")
    taken = [one.id for one in store.claim(20)]
    assert set(small) <= set(taken)


@pytest.mark.parametrize("size", [1, 7, 100])
def test_weights_of_three_and_one_are_held(store, size):
    store.put_tenant("a", weight=3)
    store.add(400, tenant="a")
    store.add(400, tenant="b")
    taken = ""
    while len(taken) < 400:
        taken += whose(store, size)
    assert abs(taken[:400].count("a") / 400 - 0.75) <= 0.03 * 0.75
    for at in range(0, 400, 40):
        assert 29 <= taken[at : at + 40].count("a") <= 31


def test_a_weight_counts_from_when_it_is_set_and_after_a_restart(store):
    for tenant in "ab":
        store.add(100, tenant=tenant)
    assert Counter(whose(store, 20)) == {"a": 10, "b": 10}
    store.put_tenant("b", weight=4)
    assert Counter(whose(store, 20)) == {"a": 4, "b": 16}
    store.reopen()
    assert Counter(whose(store, 20)) == {"a": 4, "b": 16}
    store.drop_tenant("b")
    assert Counter(whose(store, 20)) == {"a": 10, "b": 10}


def test_a_tenant_s_turns_are_of_each_queue_by_itself(store):
    store.add(20, tenant="a", queue="p")
    assert whose(store, 10) == "a" * 10
    store.add(10, tenant="a", queue="q")
    store.add(10, tenant="b", queue="q")
    assert whose(store, 6, queues=frozenset({"q"})) == "ababab"


def test_a_tenant_alone_goes_in_one_run_whatever_its_weight(store):
    store.put_tenant("a", weight=5)
    ids = store.add(50, tenant="a")
    assert [one.id for one in store.claim(50)] == ids


# -- who comes back ------------------------------------------------------------------------------------------------


def test_a_tenant_that_had_no_work_has_saved_up_no_turns(store):
    store.add(80, tenant="a")
    store.claim(40)
    store.add(20, tenant="b")
    assert Counter(whose(store, 20)) == {"a": 10, "b": 10}


def test_a_tenant_that_empties_between_claims_gets_its_share_and_no_more(store):
    """One task at a time, each as soon as the last is claimed, beside a full tenant of three times the weight."""
    store.put_tenant("full", weight=4)
    store.add(400, tenant="full")
    store.add(tenant="thin")
    taken: Counter[str] = Counter()
    for _ in range(200):
        (one,) = store.claim(1)
        taken[one.header.tenant] += 1
        if one.header.tenant == "thin":
            store.add(tenant="thin")
    assert taken == {"full": 160, "thin": 40}


def test_a_tenant_that_a_limit_held_back_has_saved_up_no_turns(store):
    store.put_limit("one", "tenant", "b", running=1)
    for tenant in "ab":
        store.add(80, tenant=tenant)
    assert Counter(whose(store, 30)) == {"a": 29, "b": 1}
    store.drop_limit("one")
    assert Counter(whose(store, 20)) == {"a": 10, "b": 10}


def test_a_tenant_whose_type_nobody_asked_for_has_saved_up_no_turns(store):
    store.add(80, kind="t", tenant="a")
    store.add(80, kind="u", tenant="b")
    assert whose(store, 30, types=frozenset({"t"})) == "a" * 30
    assert Counter(whose(store, 20)) == {"a": 10, "b": 10}


def test_a_tenant_whose_resource_was_taken_has_saved_up_no_turns(store):
    store.put_resource("gpu", 1)
    store.add(80, tenant="a")
    store.add(80, tenant="b", needs=GPU)
    assert Counter(whose(store, 30)) == {"a": 29, "b": 1}
    store.put_resource("gpu", 100)
    assert Counter(whose(store, 20)) == {"a": 10, "b": 10}


def test_new_tenants_that_keep_coming_push_nobody_out(store):
    store.add(40, tenant="old")
    store.claim(2)
    taken = ""
    for number in range(30):
        store.add(tenant="new" + str(number))
        taken += "o" if store.claim(1)[0].header.tenant == "old" else "n"
    assert taken.count("o") >= 1


# -- within a tenant -----------------------------------------------------------------------------------------------


def test_levels_hold_within_a_tenant_and_not_between_them(store):
    low = store.add(2, tenant="a", priority=0)
    high = store.add(2, tenant="b", priority=9)
    top = store.add(1, tenant="a", priority=5)
    assert [one.id for one in store.claim(9)] == [top[0], high[0], low[0], high[1], low[1]]


def test_what_has_aged_takes_its_own_tenant_s_turns(store):
    store.put_queue("default", aging_share=3)
    (old,) = store.add(tenant="a", priority=0)
    store.now += AGED
    mine, others = store.add(4, tenant="a", priority=5), store.add(6, tenant="b", priority=1)
    expected = [mine[0], others[0], mine[1], others[1], old, others[2], mine[2], others[3], mine[3], *others[4:]]
    assert store.reasons()[4] == (old, "aged")
    assert [one.id for one in store.claim(20)] == expected


def test_peek_tells_who_goes_before_a_higher_task_because_of_its_share(store):
    low = store.add(2, tenant="a", priority=0)
    high = store.add(2, tenant="b", priority=9)
    assert store.reasons() == [(low[0], "share"), (high[0], "priority"), (low[1], "share"), (high[1], "priority")]


def test_a_line_is_in_the_order_of_shares(store):
    store.put_tenant("b", weight=2)
    for tenant in "ab":
        store.add(6, tenant=tenant)
    store.put_queue("default", paused=True)
    line = store.raw.line("default", 100)
    store.put_queue("default")
    assert [one.id for one in store.claim(100)] == line


def test_a_list_is_by_level_and_sequence_whoever_s_the_tasks_are(store):
    ids = [store.add(tenant=tenant)[0] for tenant in "aabab"]
    (high,) = store.add(tenant="b", priority=9)
    assert store.ids(states=frozenset({State.PENDING})) == [high, *ids]
    assert store.peek(2) == [ids[0], high]


# -- what may not go -----------------------------------------------------------------------------------------------


def test_those_whose_tasks_may_not_go_hold_up_nobody(store):
    store.put_limit("each", "tenant", running=1)
    for number in range(300):
        store.add(2, tenant=f"t{number}")
    first = store.claim(300)
    assert len({one.header.tenant for one in first}) == 300
    assert store.claim(1) == store.peek() == []
    (free,) = store.add()
    assert store.peek() == [free]
    assert [one.id for one in store.claim(5)] == [free]
    store.succeed(first[7])
    assert [one.header.tenant for one in store.claim(5)] == [first[7].header.tenant]


def test_a_type_limit_takes_turns_of_those_who_have_others(store):
    store.put_limit("one", "type", "t", running=2)
    for tenant in "ab":
        store.add(9, tenant=tenant)
    store.add(9, kind="u", tenant="b")
    taken = [(one.header.tenant, one.header.type) for one in store.claim(6)]
    assert Counter(taken) == {("a", "t"): 1, ("b", "t"): 1, ("b", "u"): 4}


def test_what_is_kept_for_one_that_waits_is_its_tenants_turn_too(store):
    store.put_resource("gpu", 2)
    store.put_queue("default", aging_share=2)
    (running,) = store.add(tenant="c", needs=GPU)
    claimed = store.take(running)
    (big,) = store.add(tenant="a", needs=needs_of(1, {"gpu": 2}))
    store.now += AGED
    little = store.add(6, tenant="b", needs=GPU)
    assert [one.id for one in store.claim(1)] == [little[0]]
    store.succeed(claimed)
    assert store.claim(5) == []
    store.succeed(*[one for one in store.held() if one.id == little[0]])
    assert store.peek(1) == [big]
    assert [one.id for one in store.claim(5)] == [big]


# -- what is kept --------------------------------------------------------------------------------------------------


def test_a_turn_that_is_lost_gives_back_its_turns(store):
    store.put_tenant("b", weight=2)
    for tenant in "abc":
        store.add(20, tenant=tenant)
    store.claim(5)
    expected = store.peek(30)
    with store.turn() as raw:
        raw.claim(Want("w", 7, float("inf")))
        raw.enqueue([store.draft(tenant="d")])
        raise store.lost
    assert store.peek(30) == expected
    assert [one.id for one in store.claim(30)] == expected


def test_after_a_restart_whoever_has_waited_longest_goes_first(store):
    ids = {tenant: store.add(3, tenant=tenant) for tenant in "cab"}
    store.cancel(ids["c"][0])
    store.add(tenant="c", priority=9)
    store.reopen()
    assert whose(store, 6) == "cabcab"


# -- any mix -------------------------------------------------------------------------------------------------------


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    tenants=st.lists(st.tuples(st.sampled_from([1, 2, 4, 8]), st.integers(1, 40)), min_size=2, max_size=6),
    sizes=st.lists(st.integers(1, 9), min_size=1, max_size=9),
)
def test_no_tenant_is_ever_more_than_one_task_from_its_fluid_share(store, tenants, sizes):
    """While all have work, each has had its weight's part of what was taken, but for one task (of each that shares)."""
    names = [f"{number}-{store.now}" for number in range(len(tenants))]
    for name, (weight, _) in zip(names, tenants, strict=True):
        store.put_tenant(name, weight=weight)
    queue = f"q{store.now}"
    for name, (_, count) in zip(names, tenants, strict=True):
        store.add(count, tenant=name, queue=queue)
    store.now += 1
    total, had, step = sum(weight for weight, _ in tenants), Counter[str](), 0
    while all(had[name] < count for name, (_, count) in zip(names, tenants, strict=True)):
        for one in store.claim(1 if min(sizes) == 1 else sizes[step % len(sizes)], queues=frozenset({queue})):
            had[one.header.tenant] += 1
            taken = had.total()
            for name, (weight, count) in zip(names, tenants, strict=True):
                if had[name] < count and all(had[other] < most for other, (_, most) in zip(names, tenants, strict=True)):
                    assert had[name] <= ceil(taken * weight / total) + 1
                    assert had[name] >= taken * weight / total - 1 - weight * len(tenants) / total
        step += 1
    while store.claim(100, queues=frozenset({queue})):
        pass

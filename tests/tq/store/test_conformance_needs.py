"""What every store promises: tasks that need several slots, or named resources (promise 6)."""

from __future__ import annotations

import pytest

from tests.tq.store.conftest import Driver
from tq.model import State, needs_of
from tq.store import Failure, InUse, Limits, Want
from tq.store.verify import verify

GPU, TWO, HEAVY = needs_of(1, {"gpu": 1}), needs_of(1, {"gpu": 2}), needs_of(2, {})
AGED = 60_001


def taken(store: Driver, limit: int = 9, **want: object) -> list[int]:
    return [one.id for one in store.claim(limit, **want)]


def pool(free: int, slots: int = 2, at_once: int = 1) -> dict[str, int]:
    return {"at_once": at_once, "free": free, "slots": slots}


@pytest.fixture(autouse=True)
def _sound(store, tmp_path):
    yield
    if store.kind == "lmdb":
        store.raw.close()
        assert verify(tmp_path) == []
        store.reopen()


# -- resources -----------------------------------------------------------------------------------------------------


def test_no_more_tasks_run_than_there_is_of_what_they_use(store):
    store.put_resource("gpu", 2)
    first, second, third, fourth = store.add(4, needs=GPU)
    (plain,) = store.add()
    assert store.peek() == [first, second, plain]
    assert taken(store) == [first, second, plain]
    assert (store.peek(), taken(store), store.raw.ready()) == ([], [], False)
    assert store.raw.in_use() == InUse({"gpu": 2}, {"default": 3}, 0, {})
    store.succeed(*[one for one in store.held() if one.id == first])
    assert (store.peek(), store.raw.ready()) == ([third], True)
    assert taken(store) == [third]
    assert store.state(fourth) is State.PENDING


@pytest.mark.parametrize("end", ["succeeded", "failed", "timed_out", "crashed", "interrupted", "released", "snoozed", "stopped"])
def test_every_end_gives_back_what_a_task_had(store, end):
    store.put_resource("gpu", 2)
    store.put_queue("default", slots=2)
    store.add(needs=needs_of(2, {"gpu": 2}), retries=1)
    (waits,) = store.add(needs=GPU)
    (claimed,) = store.claim(9, **pool(2))
    assert store.raw.in_use() == InUse({"gpu": 2}, {"default": 2}, 1, {})
    store.settle(claimed, end, delay_ms=5)
    assert store.raw.in_use() == InUse({}, {}, 0, {})
    if end not in ("crashed", "interrupted", "released"):
        assert taken(store) == [waits]


def test_successes_and_failures_in_a_batch_give_back_what_they_had(store):
    store.put_resource("gpu", 3)
    store.put_queue("default", slots=9)
    store.add(3, needs=needs_of(2, {"gpu": 1}), retries=1)
    one, two, three = store.claim(3, **pool(6, 6, 6))
    assert store.raw.in_use() == InUse({"gpu": 3}, {"default": 6}, 3, {})
    assert store.succeed(one, two, one) == [True, True, False]
    assert store.raw.in_use() == InUse({"gpu": 1}, {"default": 2}, 1, {})
    with store.turn() as raw:
        late = Failure(three.id, three.claim, store.now, store.now, False, {}, store.now + 5)
        assert raw.retry_later([late, late]) == [True, False]
    assert store.raw.in_use() == InUse({}, {}, 0, {})
    store.now += 5
    assert store.promote() == [three.id]
    assert taken(store, 9, **pool(6, 6, 6)) == [three.id]


def test_a_restart_and_a_turn_that_is_lost_change_nothing_of_what_is_in_use(store):
    store.put_resource("gpu", 3)
    store.add(2, needs=TWO)
    (held,) = store.claim(9, **pool(2))
    for _ in range(2):
        store.reopen()
        assert store.raw.in_use() == InUse({"gpu": 2}, {"default": 1}, 0, {})
        assert taken(store) == []
    with store.turn() as raw:
        raw.drop_resource("gpu")
        raise store.lost
    assert store.raw.resources() == {"gpu": 3}
    store.put_resource("gpu", 4)
    with store.turn() as raw:
        assert len(raw.claim(Want("w", 9, float("inf")))) == 1
        raise store.lost
    assert store.raw.in_use().resources == {"gpu": 2}
    store.succeed(held)
    assert store.raw.in_use().resources == {}
    assert len(taken(store)) == 1


def test_amounts_are_changed_while_tasks_run(store):
    store.put_resource("gpu", 2)
    store.add(4, needs=GPU)
    one, two = store.claim(9)
    store.put_resource("gpu", 1)
    store.succeed(one)
    assert taken(store) == []  # one still runs
    store.succeed(two)
    (three,) = store.claim(9)
    store.put_resource("gpu", None)
    store.succeed(three)
    assert (store.raw.resources(), taken(store)) == ({}, [])
    store.put_resource("gpu", 5)
    assert len(taken(store)) == 1


def test_resources_survive_a_restart(store):
    store.put_resource("gpu", 2)
    store.put_resource("ß licence", 1)
    store.reopen()
    assert store.raw.resources() == {"gpu": 2, "ß licence": 1}


def test_a_task_that_uses_two_things_waits_for_both(store):
    store.put_resource("gpu", 1)
    store.put_resource("licence", 1)
    (both,) = store.add(needs=needs_of(1, {"gpu": 1, "licence": 1}))
    licence = store.add(needs=needs_of(1, {"licence": 1}))
    store.add(needs=GPU)
    claimed = store.take(both)
    assert taken(store) == []
    store.succeed(claimed)
    assert store.peek() == [*licence, licence[0] + 1]


def test_what_is_edited_to_need_something_waits_for_it_and_keeps_its_place(store):
    store.put_resource("gpu", 1)
    first, second, third = store.add(3)
    store.take(store.add(needs=GPU, priority=5)[0])
    store.edit(second, needs=GPU)
    assert store.peek() == [first, third]
    store.edit(second, needs=())
    assert store.peek() == [first, second, third]


def test_consumers_share_resources_with_the_pool(store):
    store.put_resource("gpu", 1)
    store.put_queue("out", external=True)
    (outside,) = store.add(needs=GPU, queue="out")
    (inside,) = store.add(needs=GPU)
    (held,) = store.claim(9, queues=frozenset({"out"}), lease_ms=1000)
    assert (held.id, taken(store, **pool(2))) == (outside, [])
    store.succeed(held)
    assert taken(store, **pool(2)) == [inside]


# -- slots ---------------------------------------------------------------------------------------------------------


def test_a_heavy_task_counts_as_so_many_slots_of_its_queue(store):
    store.put_queue("default", slots=3)
    heavy, other = store.add(2, needs=HEAVY)
    light = store.add(2)
    assert store.peek() == [heavy, light[0]]
    first, second = store.claim(9)
    assert (first.id, second.id) == (heavy, light[0])
    store.succeed(second)
    assert taken(store) == [light[1]]
    store.succeed(first)
    assert taken(store) == [other]


def test_a_heavy_task_takes_so_many_slots_of_the_workers(store):
    (heavy,) = store.add(needs=HEAVY)
    light = store.add(3)
    assert taken(store, **pool(1)) == light[:3]  # one worker is busy: the heavy one is passed over, those in line behind it not
    other = store.add(2)
    with store.turn() as raw:
        (claimed,) = raw.claim(Want("w1", 1, float("inf"), at_once=1, free=2, slots=2))
        assert claimed.id == heavy
        assert raw.claim(Want("w2", 9, float("inf"), at_once=1, free=2, slots=2)) == []
    assert taken(store, **pool(1)) == []
    assert [one.id for one in store.claim(1, at_once=0, free=1, slots=2)] == other[:1]  # behind it, in its worker's line
    store.succeed(claimed)
    assert taken(store, **pool(2)) == other[1:]


def test_nothing_that_needs_something_waits_in_a_workers_line(store):
    store.put_resource("gpu", 5)
    first, second = store.add(2, needs=GPU)
    (plain,) = store.add()
    assert taken(store, **pool(2, at_once=0)) == [plain]
    (plain,) = store.add()
    assert taken(store, **pool(2)) == [first, plain]
    assert taken(store, **pool(1)) == [second]


def test_the_slots_of_one_worker_are_filled_and_no_more(store):
    (heavy,) = store.add(needs=needs_of(3, {}))
    light = store.add(5)
    assert taken(store, 4, **pool(4, 4, 4)) == [heavy, light[0]]


def test_what_consumers_hold_takes_no_slots_of_workers(store):
    store.add(needs=HEAVY)
    assert len(taken(store, lease_ms=1000)) == 1
    (plain,) = store.add()
    assert taken(store, **pool(1)) == [plain]


# -- nobody waits for ever -------------------------------------------------------------------------------------------


def test_who_needs_much_is_not_passed_over_for_ever(store):
    store.put_resource("gpu", 2)
    store.put_queue("default", aging_ms=50, aging_share=4)
    store.add(needs=GPU)
    store.claim(1)
    (big,) = store.add(needs=TWO)
    small = store.add(20, needs=GPU, queue="other")
    assert taken(store, 1) == small[:1]
    held = store.held()
    store.now += 51
    for at in range(1, 4):  # three others
        store.succeed(held[-1])
        assert store.peek(1) == [small[at]]
        assert taken(store, 1) == [small[at]]
        held = store.held()
    store.succeed(held[-1])
    assert (store.peek(), taken(store)) == ([], [])
    assert store.raw.in_use().kept == {"gpu": big}
    (plain,) = store.add()
    assert taken(store) == [plain]
    store.succeed(held[0])
    assert store.peek(1) == [big]
    assert taken(store) == [big]
    assert store.raw.in_use().kept == {}


def test_a_heavy_task_is_not_passed_over_for_ever_in_its_queue(store):
    store.put_queue("default", slots=2, aging_ms=50, aging_share=3)
    (light,) = store.claim(1) if store.add() else ()
    (heavy,) = store.add(needs=HEAVY)
    others = store.add(9)
    store.now += 51
    for at in range(2):
        (other,) = store.claim(9)
        assert other.id == others[at]
        store.succeed(other)
    assert (store.peek(), taken(store)) == ([], [])
    assert store.raw.in_use().kept == {("default",): heavy}
    assert taken(store, 9, queues=frozenset({"elsewhere"})) == []
    store.succeed(light)
    assert taken(store) == [heavy]


def test_a_heavy_task_is_not_passed_over_for_ever_by_the_workers(store):
    store.put_queue("default", aging_ms=50, aging_share=2)
    (light,) = store.claim(1, **pool(2)) if store.add() else ()
    (heavy,) = store.add(needs=HEAVY)
    others = store.add(5, queue="other")
    store.now += 51
    assert taken(store, 5, **pool(1)) == others[:1]
    store.succeed(*[one for one in store.held() if one.id == others[0]])
    assert store.raw.in_use(2).kept == {"": heavy}
    assert taken(store, 5, **pool(1)) == []
    assert taken(store, 5, **pool(1, at_once=0)) == []
    store.succeed(light)
    assert taken(store, 1, **pool(2)) == [heavy]


@pytest.mark.parametrize("too_much", ["resource", "gone", "queue", "workers", "paused", "strict"])
def test_nothing_is_kept_for_a_task_that_cannot_have_it(store, too_much):
    """However long it waits."""
    store.put_resource("gpu", 2)
    store.put_queue("q", aging_ms=50, aging_share=1)
    store.take(store.add(needs=GPU)[0], **pool(3, 3))
    (stuck,) = store.add(needs=needs_of(4 if too_much in ("queue", "workers") else 1, {"gpu": 2}), queue="q")
    if too_much in ("resource", "gone"):
        store.put_resource("gpu", 1 if too_much == "resource" else None)
        store.put_resource("gpu", 2 if too_much == "gone" else 1)
        store.edit(stuck, needs=needs_of(1, {"gpu": 3, "gone": 1}))
        store.put_resource("gpu", 2)
    elif too_much == "queue":
        store.put_queue("q", slots=3, aging_ms=50, aging_share=1)
    elif too_much == "paused":
        store.put_queue("q", paused=True, aging_ms=50, aging_share=1)
    elif too_much == "strict":
        store.put_queue("q", aging_ms=50, aging_share=0)
    store.now += AGED
    (small,) = store.add(needs=GPU, queue="other")
    assert taken(store, **pool(2, 3)) == [small]


def test_two_that_wait_for_the_same_things_do_not_keep_them_from_each_other(store):
    store.put_queue("default", aging_ms=50, aging_share=1)
    store.put_resource("a", 2)
    store.put_resource("b", 2)
    held = [store.take(store.add(needs=needs_of(1, {name: 1}))[0]) for name in "ab"]
    first, second = (store.add(needs=needs_of(1, {"a": 2, "b": 2}))[0] for _ in range(2))
    small = [store.add(needs=needs_of(1, {name: 1}))[0] for name in "ab"]
    store.now += 51
    for at, one in enumerate(held):
        assert taken(store) == []
        assert store.raw.in_use().kept == {"a": first, "b": first}
        store.succeed(one)
        assert at or taken(store) == []
    for task_id in (first, second):
        (claimed,) = store.claim(9)
        assert claimed.id == task_id
        store.succeed(claimed)
    assert taken(store) == small


def test_a_higher_priority_goes_before_what_has_waited_as_often_as_its_share_says(store):
    store.put_resource("gpu", 2)
    store.put_queue("default", aging_ms=50, aging_share=3)
    big = store.add(3, needs=TWO, priority=0)
    store.now += 51
    high = store.add(9, needs=GPU, priority=9)
    order = []
    for _ in range(9):
        got = store.claim(9)
        order.append([one.id for one in got])
        store.succeed(*got)
    assert [one for some in order for one in some if one in big] == big
    assert order[:4] == [high[:2], big[:1], high[2:4], big[1:2]]


def test_a_queue_that_lacks_something_saves_up_no_turns(store):
    store.put_resource("gpu", 1)
    (hold,) = store.claim(1) if store.add(queue="c", needs=GPU) else ()
    waits = store.add(6, queue="a", needs=GPU)
    other = store.add(40, queue="b")
    assert taken(store, 30) == other[:30]
    store.succeed(hold)
    store.put_resource("gpu", 9)
    assert sum(one in waits for one in taken(store, 6)) <= 4


# -- what can be asked -----------------------------------------------------------------------------------------------


def test_the_heaviest_that_could_run_is_known(store):
    everything = frozenset({"t", "u"})
    assert store.raw.heaviest(everything) == 0
    store.add()
    assert store.raw.heaviest(everything) == 1
    store.add(needs=needs_of(3, {"gpu": 1}))
    store.add(kind="u", needs=HEAVY)
    assert (store.raw.heaviest(everything), store.raw.heaviest(frozenset({"t"}))) == (2, 1)
    store.put_resource("gpu", 1)
    assert store.raw.heaviest(everything) == 3
    store.put_queue("default", paused=True)
    assert store.raw.heaviest(everything) == 0


def test_lists_show_what_waits_for_a_resource_in_its_place(store):
    store.put_resource("gpu", 1)
    first, second, third = (store.add(needs=needs)[0] for needs in (GPU, GPU, ()))
    pending = frozenset({State.PENDING})
    assert store.ids(states=pending) == store.raw.line("default", 9) == [first, second, third]
    store.take(first)
    assert store.ids(states=pending) == store.raw.line("default", 9) == [second, third]
    assert store.peek() == [third]


def test_a_turn_that_is_lost_takes_nothing_of_the_patience(store):
    store.put_resource("gpu", 2)
    store.put_queue("default", aging_ms=50, aging_share=2)
    store.take(store.add(needs=GPU)[0])
    (big,) = store.add(needs=TWO)
    small = store.add(2, needs=GPU)
    store.now += 51
    for _ in range(3):
        with store.turn() as raw:
            assert [one.id for one in raw.claim(Want("w", 1, float("inf")))] == small[:1]
            raise store.lost
    (other,) = store.claim(9)
    store.succeed(other)
    assert (taken(store), store.raw.in_use().kept) == ([], {"gpu": big})


def test_ends_beyond_what_is_kept_leave_the_counts_right(store):
    store.put_resource("gpu", 1)
    for _ in range(3):
        store.add(needs=GPU)
        store.succeed(*store.claim(1))
    store.retain(Limits(keep=1))
    assert store.raw.in_use() == InUse({}, {}, 0, {})

"""What every store promises: what has waited too long, how many of a queue run, how queues share, and why (promise 6)."""

from __future__ import annotations

from collections import Counter

import pytest

from tq.errors import Refused, UsageError
from tq.model import State
from tq.store import Limits, QueueInfo, Want

AGED = 60_001  # ms: longer than a queue's own aging


def waited(store, low=1, high=1, **queue):
    """``low`` tasks of level 0 that have aged, and ``high`` new ones of level 3."""
    if queue:
        store.put_queue("default", **queue)
    old = store.add(low, priority=0)
    store.now += AGED
    return old, store.add(high, priority=3)


# -- aging -------------------------------------------------------------------------------------------------------


def test_one_claim_in_ten_is_the_longest_waiting_lower_task_s(store):
    old, new = waited(store, 3, 40)
    assert [one.id for one in store.claim(35)] == [*new[:9], old[0], *new[9:18], old[1], *new[18:27], old[2], *new[27:32]]


@pytest.mark.parametrize("size", [1, 2, 7])
def test_the_share_of_what_has_aged_holds_across_claims(store, size):
    old, _ = waited(store, 100, 200, aging_share=4)
    taken = []
    while len(taken) < 84:
        taken += [one.id for one in store.claim(size)]
    assert [at for at, task_id in enumerate(taken) if task_id in old] == list(range(3, len(taken), 4))


def test_a_critical_task_waits_for_one_aged_task_at_most(store):
    """Whatever went before it, and however old the backlog is."""
    for before in range(12):
        old = store.add(30, priority=0)
        store.now += 600_000
        store.claim(before)
        (critical,) = store.add(priority=9)
        first, *rest = [one.id for one in store.claim(2)]
        assert critical in (first, *rest)
        store.cancel(critical)
        for task_id in old:
            store.cancel(task_id)


def test_what_has_not_waited_longer_than_the_aging_goes_by_its_level(store):
    store.put_queue("default", aging_ms=1000, aging_share=1)
    (old,) = store.add(priority=0)
    new = store.add(2, priority=1)
    store.now += 1000
    assert store.take(new[0]).id == new[0]
    store.now += 1
    assert store.take(old).id == old


@pytest.mark.parametrize("settings", [{"aging_ms": 0}, {"aging_share": 0}])
def test_without_aging_a_level_goes_strictly_before_those_below(store, settings):
    old, new = waited(store, 2, 30, **settings)
    assert [one.id for one in store.claim(32)] == [*new, *old]


def test_the_longest_waiting_is_chosen_among_all_lower_levels(store):
    store.put_queue("default", aging_share=2)
    a, b, c = store.add(priority=2)[0], store.add(priority=0)[0], store.add(priority=1, flow="x")[0]
    store.now += AGED
    new = store.add(9, priority=5)
    assert [one.id for one in store.claim(7)] == [new[0], a, new[1], b, new[2], c, new[3]]


def test_a_level_alone_is_never_interrupted(store):
    ids = store.add(30, priority=0)
    store.now += AGED
    assert [one.id for one in store.claim(30)] == ids


def test_only_types_that_are_wanted_have_aged(store):
    store.put_queue("default", aging_share=1)
    (old,) = store.add(kind="other", priority=0)
    store.now += AGED
    new = store.add(3, priority=3)
    assert [one.id for one in store.claim(2, types=frozenset({"t"}))] == new[:2]
    assert [one.id for one in store.claim(2)] == [old, new[2]]


def test_a_retry_keeps_no_age_and_a_release_keeps_all_of_it(store):
    store.put_queue("default", aging_share=1)
    released, failed = store.add(2, priority=0)
    one, two = store.claim(2)
    store.settle(one, "released")
    store.settle(two, "failed")
    store.now += AGED
    store.retry(failed)
    new = store.add(2, priority=3)
    assert store.reasons() == [(released, "aged"), (new[0], "priority"), (new[1], "priority"), (failed, "priority")]


def test_an_aborted_turn_gives_the_aged_their_turn_back(store):
    old, new = waited(store, 2, 9, aging_share=3)
    store.claim(2)
    with store.turn() as raw:
        assert [one.id for one in raw.peek(3)] == [old[0], new[2], new[3]]
        raw.claim(Want("w", 3, float("inf")))
        raise store.lost
    assert [one.id for one in store.claim(4)] == [old[0], new[2], new[3], old[1]]


def test_a_budget_also_holds_for_what_has_aged(store):
    old, new = waited(store, 1, 3, aging_share=2)
    costs = {"t": 10}
    assert [one.id for one in store.claim(5, budget_ms=10, costs=costs)] == [new[0]]
    assert [one.id for one in store.claim(5, budget_ms=29, costs=costs)] == [old[0], new[1]]
    assert [one.id for one in store.claim(5, budget_ms=29, costs=costs)] == [new[2]]


def test_many_that_have_aged_are_not_looked_through(store):
    count = 2_000 if store.kind == "memory" else 20_000
    store.put_queue("default", aging_share=10)
    with store.turn() as raw:
        raw.enqueue([store.draft(priority=0)] * count)
    store.now += 600_000
    (critical,) = store.add(priority=3)
    assert critical in [one.id for one in store.claim(2)]
    assert store.tally().states[State.PENDING] == count - 1


# -- slots -------------------------------------------------------------------------------------------------------


def test_a_queue_runs_no_more_tasks_than_it_has_slots(store):
    store.put_queue("q", slots=3)
    ids = store.add(10, queue="q")
    taken = store.claim(2)
    taken += store.claim(5)
    assert [one.id for one in taken] == ids[:3]
    assert store.claim(5) == store.peek() == []
    assert not store.raw.ready()
    store.succeed(taken[1])
    assert store.raw.ready()
    assert store.peek() == [ids[3]]
    assert [one.id for one in store.claim(5)] == [ids[3]]


@pytest.mark.parametrize("end", ["failed", "released", "crashed", "interrupted", "snoozed", "stopped", "lapsed"])
def test_every_end_of_an_attempt_gives_the_slot_back(store, end):
    store.put_queue("q", slots=1)
    store.add(2, queue="q", retries=5)
    (one,) = store.claim(5)
    store.settle(one, end)
    assert store.raw.ready()
    assert len(store.claim(5)) == 1
    assert not store.raw.ready()


def test_slots_hold_after_a_restart_and_an_abort(store):
    store.put_queue("q", slots=2)
    store.add(5, queue="q")
    store.claim(1)
    with store.turn() as raw:
        assert len(raw.claim(Want("w", 5, float("inf")))) == 1
        raise store.lost
    store.reopen()
    assert len(store.claim(5)) == 1
    store.reopen()
    assert store.claim(5) == []
    assert not store.raw.ready()


def test_slots_hold_for_consumers_too(store):
    store.put_queue("out", external=True, slots=2)
    store.add(5, queue="out")
    taken = store.claim(5, queues=frozenset({"out"}), lease_ms=1000)
    assert len(taken) == 2
    assert store.claim(5, queues=frozenset({"out"})) == []
    assert store.succeed(*taken) == [True, True]
    assert len(store.claim(5, queues=frozenset({"out"}))) == 2


def test_a_full_queue_does_not_hold_up_the_others(store):
    store.put_queue("a", slots=1)
    store.add(5, queue="a")
    others = store.add(5, queue="b")
    assert [one.header.queue for one in store.claim(6)] == ["a", *["b"] * 5]
    assert store.claim(5) == []
    assert len(others) == 5


def test_more_slots_open_a_queue_and_fewer_close_it(store):
    store.put_queue("q", slots=1)
    store.add(5, queue="q")
    store.claim(5)
    store.put_queue("q", slots=3)
    assert len(store.claim(5)) == 2
    store.put_queue("q", slots=2)
    assert not store.raw.ready()
    store.put_queue("q")
    assert len(store.claim(5)) == 2


def test_an_edited_task_does_not_take_a_slot_with_it(store):
    store.put_queue("a", slots=1)
    store.put_queue("b", slots=1)
    (first, second) = store.add(2, queue="a")
    store.take(first)
    store.edit(second, queue="b")
    store.take(second)
    assert store.claim() == []
    assert [held.id for held in store.held()] == [first, second]


# -- sharing -----------------------------------------------------------------------------------------------------


def test_weights_of_three_and_one_are_held_over_ten_thousand_tasks(store):
    total = 2_000 if store.kind == "memory" else 10_000
    store.put_queue("a", weight=3)
    with store.turn() as raw:
        raw.enqueue([store.draft(queue="a")] * total)
        raw.enqueue([store.draft(queue="b")] * total)
    shares: Counter[str] = Counter()
    while shares.total() < total:
        taken = store.claim(100)
        shares.update(one.header.queue for one in taken)
        store.succeed(*taken)
    assert abs(shares["a"] / total - 0.75) <= 0.03


def test_a_queue_that_empties_between_claims_gets_its_share_and_no_more(store):
    """One task at a time, each as soon as the last is claimed, beside a full queue of three times the weight."""
    store.put_queue("full", weight=3)
    store.add(400, queue="full")
    store.add(queue="thin")
    taken: Counter[str] = Counter()
    for _ in range(200):
        (one,) = store.claim(1)
        taken[one.header.queue] += 1
        if one.header.queue == "thin":
            store.add(queue="thin")
    assert taken == {"full": 150, "thin": 50}


def test_a_queue_without_slots_to_spare_saves_up_no_turns(store):
    store.put_queue("a", slots=5)
    for name in "ab":
        store.add(60, queue=name)
    first = store.claim(40)
    assert Counter(one.header.queue for one in first) == {"a": 5, "b": 35}
    store.put_queue("a")
    assert Counter(one.header.queue for one in store.claim(20)) == {"a": 10, "b": 10}


def test_slots_that_come_free_give_no_turns_for_the_time_before(store):
    store.put_queue("a", slots=2)
    for name in "ab":
        store.add(60, queue=name)
    first = [one for one in store.claim(40) if one.header.queue == "a"]
    assert store.succeed(*first) == [True, True]
    assert [one.header.queue for one in store.claim(4)] == list("abab")


def test_an_external_queue_that_nobody_takes_from_gives_no_turns_to_others(store):
    store.put_queue("out", external=True)
    store.add(queue="out")
    store.add(60, queue="a")
    store.claim(30)
    store.add(30, queue="b")
    taken = [one.header.queue for one in store.claim(10)]
    assert taken.count("a") == taken.count("b") == 5


# -- peek --------------------------------------------------------------------------------------------------------


def test_peek_tells_why_each_task_goes_first(store):
    store.put_queue("a", aging_share=2, slots=4)
    (old,) = store.add(queue="a", priority=0)
    store.now += AGED
    high = store.add(5, queue="a", priority=5)
    low = store.add(3, queue="b", priority=1)
    assert store.reasons() == [
        (high[0], "priority"), (low[0], "share"), (old, "aged"), (low[1], "share"), (high[1], "priority"), (low[2], "share"),
        (high[2], "priority"),
    ]  # fmt: skip


def test_peek_is_what_claims_then_take_with_everything_at_once(store):
    store.put_queue("a", weight=4, aging_share=3, slots=7)
    store.put_queue("b", weight=2, aging_ms=10, aging_share=2)
    store.put_queue("c", aging_ms=0, slots=1)
    for level in (0, 4, 2):
        for queue in "abcd":
            store.add(3, queue=queue, priority=level, tenant=str(level))
        store.now += AGED
    store.add(6, queue="a", priority=9)
    store.add(6, queue="b", kind="u", priority=9)
    store.claim(3)
    expected = store.peek(100)
    assert len(expected) > 20
    taken = []
    while len(taken) < len(expected):
        taken += store.claim(1 + len(taken) % 5)
    assert [one.id for one in taken] == expected


def test_peek_changes_nothing(store):
    waited(store, 5, 20, aging_share=2)
    before = store.reasons()
    for _ in range(3):
        assert store.reasons() == before
    assert [one.id for one in store.claim(25)] == [task_id for task_id, _ in before]


# -- settings ----------------------------------------------------------------------------------------------------


def test_all_settings_of_a_queue_survive_a_restart(store):
    info = QueueInfo(
        "q", True, 3, True, 5, 6, 7, 8, 9, 10, ["fixed", 10, 2.0, 100, False], 11, 12, 13, ("mail.*", "[a-c]?"), 14, "me", 2.5, 15,
        "test -e go", 16,
    )  # fmt: skip
    with store.turn() as raw:
        raw.put_queue(info)
    for _ in range(2):
        assert store.raw.queues()["q"] == info
        store.reopen()


@pytest.mark.parametrize(
    "setting", ["weight", "aging_ms", "aging_share", "slots", "max_tasks", "max_bytes", "keep_ms", "hold_load", "hold_memory"]
)
def test_a_setting_that_makes_no_sense_changes_nothing(store, setting):
    store.put_queue("q", slots=4)
    with store.turn() as raw, pytest.raises(UsageError, match=setting):
        raw.put_queue(QueueInfo("q", **{setting: -1}))
    assert store.raw.queues()["q"] == QueueInfo("q", slots=4)


# -- a queue's own limits ----------------------------------------------------------------------------------------


def test_a_queue_s_own_limits_go_before_the_store_s(store):
    store.reopen(Limits(queue_tasks=2, queue_bytes=100))
    store.put_queue("small", max_tasks=1, max_bytes=3)
    store.put_queue("large", max_tasks=4, max_bytes=1000)
    store.add(4, queue="large", payload=b"x" * 100)
    store.add(queue="small", payload=b"xxx")
    for queue, said in (("small", "'small' is full: expected at most 1 tasks"), ("large", "at most 4 tasks")):
        with pytest.raises(Refused, match=said) as refusal:
            store.add(queue=queue)
        assert (refusal.value.code, refusal.value.retry_after > 0, refusal.value.details["queue"]) == ("refused", True, queue)
    with pytest.raises(Refused, match="send less at once") as refusal:  # what never fits is not to be tried again
        store.add(2, queue="small")
    assert {**refusal.value.details} == {"queue": "small", "too_much": True}
    store.put_queue("small", max_tasks=9, max_bytes=3)
    with pytest.raises(Refused, match="at most 3 bytes of payload, it has 3 and 1 came"):
        store.add(queue="small", payload=b"x")
    store.put_queue("small")
    assert len(store.add(queue="small", payload=b"x" * 90)) == 1


def test_a_limit_of_nothing_lets_nothing_in(store):
    store.put_queue("q", max_tasks=0)
    with pytest.raises(Refused, match="at most 0 tasks"):
        store.add(queue="q")

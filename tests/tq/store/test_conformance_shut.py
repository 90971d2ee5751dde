"""Queues that are shut for now: nothing is given out of them, by any way, and nothing of it is stored."""

from __future__ import annotations

import pytest

from tq.lifecycle import cancel
from tq.store import QueueInfo, Want


def test_nothing_of_a_shut_queue_is_claimed_peeked_or_ready_and_it_would_start_all_the_same(store):
    held, other = store.add(3, queue="held"), store.add(2, queue="other")
    store.raw.shut({"held"})
    assert store.peek() == other
    assert store.peek(queue="held") == []
    assert [one.id for one in store.claim(9)] == other
    assert store.claim(9, queues=frozenset({"held", "other"}), lease_ms=1000) == []
    assert not store.raw.ready()
    assert store.raw.would_start("held")
    assert not store.raw.would_start("other")
    assert not store.raw.would_start("none")
    assert store.raw.line("held", 9) == held
    store.raw.shut(())
    assert store.raw.ready()
    assert store.peek() == held
    assert [one.id for one in store.claim(9)] == held
    assert not store.raw.would_start("held")
    store.check()


def test_what_is_paused_or_has_no_slot_left_would_not_start(store):
    store.put_queue("q", slots=1)
    store.add(2, queue="q")
    store.raw.shut({"q"})
    assert store.raw.would_start("q")
    store.put_queue("q", slots=1, paused=True)
    assert not store.raw.would_start("q")
    store.put_queue("q", slots=1)
    store.raw.shut(())
    (first,) = store.claim(2)
    store.raw.shut({"q"})
    assert not store.raw.would_start("q")
    store.succeed(first)
    assert store.raw.would_start("q")
    assert store.claim(2) == []


def test_what_is_shut_in_a_turn_is_so_at_once_and_stays_so_if_the_turn_is_lost(store):
    (first,) = store.add(queue="q")
    with store.turn() as raw:
        raw.put_queue(QueueInfo("q", weight=2))
        raw.shut({"q"})
        assert raw.claim(Want("w1", 9, float("inf"))) == []
        raise store.lost
    assert store.claim() == []
    assert store.raw.would_start("q")
    store.raw.shut(())
    assert [one.id for one in store.claim()] == [first]


def test_a_restart_knows_nothing_of_it(store):
    (task,) = store.add(queue="q")
    store.raw.shut({"q"})
    store.reopen()
    assert [one.id for one in store.claim()] == [task]


def test_what_waits_in_it_may_be_changed_and_cancelled_and_what_runs_may_end(store):
    first, second = store.add(2, queue="q")
    running = store.take(first)
    store.raw.shut({"q"})
    assert store.edit(second, priority=5).state.word == "pending"
    assert store.settle(running, "failed", permanent=True).state.word == "failed"
    assert store.apply(cancel(store.get(second), store.now)).state.word == "cancelled"
    assert not store.raw.would_start("q")
    store.check()


@pytest.mark.parametrize("weight", [1, 4])
def test_a_queue_that_is_let_go_has_saved_up_no_turns(store, weight):
    store.put_queue("held", weight=weight)
    store.add(40, queue="held")
    store.add(80, queue="other")
    store.claim(2)
    store.raw.shut({"held"})
    assert {one.header.queue for one in store.claim(40)} == {"other"}
    store.raw.shut(())
    taken = [one.header.queue for one in store.claim(10 * (weight + 1))]
    assert abs(taken.count("other") - 10) <= 1

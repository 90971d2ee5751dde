"""Batches: how many of their members stand where, kept with every change, through a restart, and undone by an abort."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tq.model import State
from tq.store import BatchInfo, Limits
from tq.store.batches import PLACES

DAY_MS = 86_400_000


def new(store, **what):
    with store.turn() as raw:
        return raw.put_batch(BatchInfo(0, **what)).number


def counts(store, number):
    """The counts that are not 0, by their words."""
    return {word: count for word, count in zip(PLACES, store.raw.batch(number).counts, strict=True) if count}


def touched(store):
    with store.turn() as raw:
        return raw.touched()


def test_a_batch_has_a_number_of_its_own_and_says_what_was_said_of_it_after_a_restart(store):
    callbacks = {"success": ["t", b"p", {"queue": "q"}]}
    first = new(store, name="import", created_at=7, auto=True, meta={"k": "v"}, callbacks=callbacks)
    second = new(store)
    assert (first, second) == (1, 2)
    for _ in range(2):
        found = store.raw.batch(first)
        assert (found.name, found.created_at, found.auto, found.meta, found.callbacks) == ("import", 7, True, {"k": "v"}, callbacks)
        assert (found.counts, found.total, found.closed_at, found.sent) == ((0,) * 6, 0, 0, {})
        assert store.raw.batch(3) is None
        store.reopen()
    with store.turn() as raw:
        raw.drop_batch(second)
    store.reopen()
    assert store.raw.batch(second) is None
    assert new(store) == 3
    store.check()


def test_members_are_counted_where_they_stand(store):
    number = new(store)
    ids = [*store.add(3, batch=number), *store.add(due_in=50, batch=number)]
    store.add(5)
    assert counts(store, number) == {"waiting": 4}
    won, failed, again = store.claim(3)
    assert counts(store, number) == {"waiting": 1, "running": 3}
    store.succeed(won)
    store.settle(failed, "failed", permanent=True)
    store.settle(again, "released")
    assert counts(store, number) == {"waiting": 2, "succeeded": 1, "failed": 1}
    store.reopen()
    assert counts(store, number) == {"waiting": 2, "succeeded": 1, "failed": 1}
    store.cancel(again.id)
    store.retry(failed.id)
    assert counts(store, number) == {"waiting": 2, "succeeded": 1, "cancelled": 1}
    info = store.raw.batch(number)
    assert (info.first, info.last, info.total, info.live, info.hit) == (ids[0], ids[-1], 4, 2, True)
    store.check()


def test_one_that_fails_and_is_retried_waits_and_has_not_failed_for_good(store):
    number = new(store)
    store.add(batch=number, retries=3)
    store.settle(store.claim()[0], "failed")
    assert counts(store, number) == {"waiting": 1}
    assert not store.raw.batch(number).hit
    store.check()


@pytest.mark.parametrize("state", [State.PENDING, State.SUCCEEDED])
def test_a_member_that_is_removed_counts_as_it_ended_and_as_cancelled_if_it_waited(store, state):
    number = new(store)
    (member,) = store.add(batch=number)
    if state is State.SUCCEEDED:
        store.succeed(*store.claim())
    with store.turn() as raw:
        assert raw.remove([member]) == [True]
    assert counts(store, number) == ({"cancelled": 1} if state is State.PENDING else {"succeeded": 1})
    store.reopen()
    assert counts(store, number) == ({"cancelled": 1} if state is State.PENDING else {"succeeded": 1})
    store.check()


def test_a_turn_that_is_lost_counts_nothing(store):
    number = new(store)
    store.add(2, batch=number)
    touched(store)
    with store.turn() as raw:
        raw.enqueue([store.draft(batch=number)])
        raw.put_batch(BatchInfo(0))
        raw.put_batch(replace(raw.batch(number), closed_at=5))
        assert raw.batch(number).counts[0] == 3
        raise store.lost
    assert counts(store, number) == {"waiting": 2}
    assert (store.raw.batch(number).closed_at, store.raw.batch(2)) == (0, None)
    assert touched(store) == []
    store.reopen()
    assert counts(store, number) == {"waiting": 2}


def test_a_batch_is_touched_by_ends_and_by_what_is_said_of_it(store):
    one, two = new(store), new(store)
    assert touched(store) == [one, two]
    store.add(batch=one)
    store.add(batch=two)
    (member, other) = store.claim(2)
    assert touched(store) == []
    store.settle(other, "released")
    assert touched(store) == []
    store.succeed(member)
    assert touched(store) == [one]
    assert touched(store) == []
    store.retry(member.id)
    assert touched(store) == [one]


def test_what_was_put_of_a_batch_is_there_and_its_counts_go_on(store):
    number = new(store)
    store.add(batch=number)
    with store.turn() as raw:
        raw.put_batch(replace(raw.batch(number), closed_at=3, sent={"failure": 9}))
        raw.enqueue([store.draft(batch=number)])
    store.reopen()
    info = store.raw.batch(number)
    assert (info.closed_at, info.sent, info.counts[0]) == (3, {"failure": 9}, 2)
    store.check()


def test_members_of_a_batch_that_there_is_none_of_count_nowhere(store):
    number = new(store)
    store.add(batch=number)
    with store.turn() as raw:
        raw.drop_batch(number)
    store.succeed(*store.claim())
    assert store.raw.batch(number) is None
    assert new(store) == number + 1


def test_batches_are_listed_from_either_end(store):
    numbers = [new(store, name=str(at)) for at in range(5)]
    assert [one.number for one in store.raw.batches(None, 2)] == [5, 4]
    assert [one.number for one in store.raw.batches(4, 9)] == [3, 2, 1]
    assert [one.number for one in store.raw.batches(None, 3, oldest=True)] == [1, 2, 3]
    assert store.raw.batch_count() == len(numbers)
    with store.turn() as raw:
        assert [one.number for one in raw.batches(None, 1)] == [5]


def test_a_batch_that_is_over_is_forgotten_in_time_unless_it_has_lived_again(store):
    gone, again = new(store), new(store)
    with store.turn() as raw:
        for number in (gone, again):
            raw.put_batch(replace(raw.batch(number), finished_at=store.now))
    with store.turn() as raw:
        raw.put_batch(replace(raw.batch(again), finished_at=0))
    store.now += Limits().keep_failed_ms - 1
    with store.turn() as raw:
        raw.due(10)
    assert store.raw.batch(gone) is not None
    store.now += 1
    with store.turn() as raw:
        assert raw.due(10) == []
    assert store.raw.batch(gone) is None
    assert store.raw.batch(again) is not None
    store.check()

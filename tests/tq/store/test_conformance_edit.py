"""What every store promises: edits, retries of something else, events, and what is kept how long."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tq.lifecycle import edit
from tq.model import Backoff, State, Task, spec_of
from tq.store import Event, Limits, QueueFull

PENDING, RUNNING, SUCCEEDED, FAILED = State.PENDING, State.RUNNING, State.SUCCEEDED, State.FAILED
ERROR = {"type": "ValueError", "message": "no"}


# -- edits -------------------------------------------------------------------------------------------------------


def test_an_edited_task_is_what_it_was_made(store):
    (task_id,) = store.add(payload=b"old", label="l")
    task = store.edit(task_id, type="u", queue="q", priority=7, payload=b"newer", label="m", retries=4)
    for _ in range(2):
        assert store.get(task_id) == task
        head = task.spec.header
        assert (head.type, head.queue, head.priority, head.label, head.retries) == ("u", "q", 7, "m", 4)
        assert (task.spec.payload, task.state, task.spec.created_at) == (b"newer", PENDING, store.now)
        store.reopen()
    claimed = store.take(task_id)
    assert claimed.header == task.spec.header
    assert spec_of(task_id, claimed.record).payload == b"newer"
    assert store.succeed(claimed) == [True]


def test_an_edited_task_stands_where_it_would_have_stood(store):
    a, b, c = store.add(3)
    high = store.add(2, priority=5)
    store.edit(b, priority=5)
    assert store.peek() == [b, *high, a, c]
    store.edit(high[0], priority=1)
    assert store.peek() == [b, high[1], a, c, high[0]]
    store.edit(c, queue="z", tenant="acme")
    assert store.peek(queue="z") == [c]
    assert store.peek(queue="default") == [b, high[1], a, high[0]]
    assert [one.id for one in store.claim(5, queues=frozenset({"default"}))] == [b, high[1], a, high[0]]


def test_an_edit_moves_a_task_s_counts_and_bytes_with_it(store):
    store.reopen(Limits(queue_tasks=2, queue_bytes=10))
    first, second = store.add(payload=b"12345"), store.add(payload=b"1234")
    store.edit(first[0], queue="q", payload=b"123456789")
    assert (store.tally().states[PENDING], store.tally().bytes) == (1, 4)
    assert (store.tally("q").states[PENDING], store.tally("q").bytes) == (1, 9)
    assert store.add(payload=b"12345") == [3]
    with pytest.raises(Exception, match="'q' is full: expected at most 10 bytes"):
        store.add(queue="q", payload=b"12")
    with pytest.raises(QueueFull, match="'q' is full: expected at most 10 bytes of payload, it has 9 and 4 came"):
        store.edit(second[0], queue="q")
    assert (store.tally("q").bytes, store.tally().bytes) == (9, 9)


@pytest.mark.parametrize("state", ["scheduled", "blocked", "pending", "retrying"])
def test_every_waiting_state_can_be_edited(store, state):
    more = {"scheduled": {"due_in": 500}, "blocked": {"parents": (1,)}}.get(state, {})
    (task_id,) = store.add(retries=2, backoff=Backoff("fixed", 500, jitter=False), **more)
    if state == "retrying":
        store.settle(store.take(task_id), "failed", error=ERROR)
    before = store.get(task_id)
    assert before.state.word == state
    task = store.edit(task_id, queue="q", payload=b"more")
    assert (task.state, task.status.due_at, task.status.attempts) == (before.state, before.status.due_at, before.status.attempts)
    store.reopen()
    assert store.get(task_id) == task
    store.now += 500
    expected = [task_id] if state in ("scheduled", "retrying") else []
    assert store.promote() == expected
    if expected:
        assert store.state(task_id) is PENDING
        assert store.peek(queue="q") == [task_id]


def test_a_failure_is_counted_once_however_often_its_retry_is_edited(store):
    (task_id,) = store.add(retries=2)
    store.settle(store.take(task_id), "failed", error=ERROR)
    for _ in range(3):
        store.edit(task_id, due_in=900)
    assert (store.tally().retried, store.tally().runs) == (1, 1)


@pytest.mark.parametrize("first", [0, 500])
@pytest.mark.parametrize("then", [0, 200, 900])
def test_a_new_time_takes_the_place_of_the_old_one(store, first, then):
    (other,) = store.add(priority=0)
    (task_id,) = store.add(due_in=first)
    task = store.edit(task_id, due_in=then)
    assert task.state is (State.SCHEDULED if then else PENDING)
    assert task.status.due_at == (store.now + then if then else 0)
    assert store.raw.next_due() == (store.now + then if then else None)
    assert store.peek() == ([other] if then else [task_id, other])
    store.now += 1000
    assert store.promote() == ([task_id] if then else [])


@pytest.mark.parametrize("first", [0, 500])
@pytest.mark.parametrize("then", [0, 200, 900])
def test_a_new_time_to_live_takes_the_place_of_the_old_one(store, first, then):
    (task_id,) = store.add(ttl=first)
    store.edit(task_id, ttl=then)
    assert store.raw.next_due() == (store.now + then if then else None)
    store.reopen()
    store.now += 1000
    assert store.due() == ([("expire", task_id)] if then else [])


def test_what_waits_no_more_is_not_edited(store):
    (task_id,) = store.add()
    task = store.get(task_id)
    change = edit(task, replace(task.spec, payload=b"late"), None, store.now)
    claimed = store.take(task_id)
    before = store.everything()
    assert store.apply(change) is None
    store.succeed(claimed)
    assert store.apply(change) is None
    assert store.get(task_id).spec.payload == b""
    assert before[0][0][0] == task_id


def test_an_edit_of_an_aborted_turn_never_was(store):
    (task_id,) = store.add(payload=b"p", ttl=500)
    before = store.everything()
    with store.turn() as raw:
        task = store.get(task_id)
        spec = replace(task.spec, payload=b"longer", expires_at=0, header=replace(task.spec.header, queue="q", priority=9))
        assert raw.apply([edit(task, spec, store.now + 5, store.now)])[0].state is State.SCHEDULED
        raise store.lost
    assert store.everything() == before
    assert store.get(task_id) == task


def test_a_task_is_edited_in_the_turn_that_accepts_it(store):
    with store.turn() as raw:
        (task_id,) = raw.enqueue([store.draft(payload=b"a")])
        (task,) = raw.get([task_id])
        raw.apply([edit(task, replace(task.spec, payload=b"b", header=replace(task.spec.header, priority=9)), None, store.now)])
        assert [raw.get([one.id])[0].spec.payload for one in raw.peek(1)] == [b"b"]


# -- retries of something else -----------------------------------------------------------------------------------


def test_a_retried_task_may_be_changed(store):
    (task_id,) = store.add(payload=b"bad", ttl=10_000)
    store.settle(store.take(task_id), "failed", error=ERROR)
    task = store.retry(task_id, payload=b"good", queue="q", priority=8)
    for _ in range(2):
        assert store.get(task_id) == task
        assert (task.spec.payload, task.spec.header.queue, task.spec.header.priority, task.spec.expires_at) == (b"good", "q", 8, 0)
        store.reopen()
    assert (store.tally().states[FAILED], store.tally("q").states[PENDING], store.tally("q").bytes) == (0, 1, 4)
    store.now += 20_000
    assert store.due() == []
    assert store.succeed(store.take(task_id)) == [True]


def test_limits_of_time_do_not_end_the_second_life(store):
    (task_id,) = store.add(ttl=100, deadline_ms=100, retry_for_ms=50)
    store.now += 100
    assert store.due() == [("expire", task_id)]
    store.run_out(task_id)
    task = store.retry(task_id)
    assert (task.spec.expires_at, task.spec.header.deadline_ms, task.spec.header.retry_for_ms) == (0, 0, 0)
    assert store.settle(store.take(task_id), "released").state is PENDING


# -- claims ------------------------------------------------------------------------------------------------------


def test_claims_tell_how_often_a_task_failed(store):
    (task_id,) = store.add(retries=5, backoff=Backoff("fixed", 0, jitter=False))
    for failures in range(3):
        claimed = store.take(task_id)
        assert (claimed.failures, claimed.attempt) == (failures, failures)
        store.settle(claimed, "failed", error=ERROR)
        store.come_due(task_id)
    store.settle(store.take(task_id), "crashed")
    assert store.take(task_id).failures == 3


# -- events ------------------------------------------------------------------------------------------------------


def test_events_are_numbered_and_told_newest_first(store):
    noted = [store.note("paused", before={"paused": False}, after={"paused": True}), store.note("resumed"), store.note("purged")]
    assert [event.number for event in noted] == [1, 2, 3]
    assert noted[0] == Event(1, store.now, "user 1 (pid 2)", "paused", "queue 'q'", {"paused": False}, {"paused": True})
    for _ in range(2):
        assert store.raw.events(None, 10) == noted[::-1]
        assert store.raw.events(None, 2) == [noted[2], noted[1]]
        assert store.raw.events(3, 1) == [noted[1]]
        assert store.raw.events(1, 10) == store.raw.events(0, 10) == store.raw.events(None, 0) == []
        assert store.raw.events(99, 1) == [noted[2]]
        store.reopen()
    assert store.note("again").number == 4


def test_events_are_told_from_a_number_on_oldest_first(store):
    store.reopen(Limits(keep_events=4))
    noted = [store.note(str(number)) for number in range(6)]
    assert store.raw.events_after(0, 10) == noted[2:]
    assert store.raw.events_after(4, 1) == [noted[4]]
    assert store.raw.events_after(6, 10) == store.raw.events_after(99, 10) == store.raw.events_after(0, 0) == []
    with store.turn() as raw:
        raw.note(Event(0, store.now, "tq", "seven", "x"))
        assert [event.number for event in raw.events_after(5, 10)] == [6, 7]


def test_events_are_read_in_the_turn_that_notes_them_and_gone_with_it(store):
    first = store.note("one")
    with store.turn() as raw:
        second = raw.note(Event(0, store.now, "tq", "two", "x"))
        assert raw.events(None, 10) == [second, first]
        raise store.lost
    assert store.raw.events(None, 10) == [first]
    assert store.note("three").number == 2


def test_no_more_events_are_kept_than_were_asked_for(store):
    store.reopen(Limits(keep_events=3))
    for number in range(10):
        store.note(str(number))
    assert [event.what for event in store.raw.events(None, 10)] == ["9", "8", "7"]
    store.reopen(Limits(keep_events=2))
    store.note("10")
    assert [event.number for event in store.raw.events(None, 10)] == [11, 10]
    store.reopen(Limits(keep_events=0))
    assert store.note("11").number == 12
    store.reopen()
    assert store.note("12").number == 13


# -- how much is kept --------------------------------------------------------------------------------------------


def ended(store, count, *, failed=False, payload=b""):
    ids = store.add(count, payload=payload)
    for claimed in store.claim(count):
        store.now += 10
        if failed:
            store.settle(claimed, "failed", error=ERROR)
        else:
            store.succeed(claimed)
    return ids


def weight(task: Task) -> int:
    return len(task.spec.record()) + len(task.status.record(task.id))


def test_what_is_over_its_bytes_goes_oldest_first_failed_apart(store):
    ids, failed = ended(store, 4, payload=b"x" * 1000), ended(store, 3, failed=True, payload=b"x" * 500)
    room = sum(weight(store.get(task_id)) for task_id in ids[2:])
    limits = Limits(keep_bytes=room)
    assert store.retain(limits) == [(task_id, False) for task_id in ids[:2]]
    assert store.retain(limits) == []
    store.reopen(limits)
    assert store.retain(limits) == []
    assert store.retain(Limits(keep_bytes=room - 1)) == [(ids[2], False)]
    least = weight(store.get(failed[2]))
    assert store.retain(Limits(keep_bytes=least), 1) == [(failed[0], False)]
    assert store.retain(Limits(keep_bytes=least), 5) == [(failed[1], False), (ids[3], False)]


def test_the_bytes_kept_are_those_of_records_however_a_task_ended(store):
    (again,) = ended(store, 1, payload=b"1")
    ended(store, 1, failed=True, payload=b"22")
    store.cancel(store.add(payload=b"333", due_in=50)[0])
    store.run_out(store.add(payload=b"4444", due_in=50)[0])
    (retried,) = store.add(retries=1, backoff=Backoff("fixed", 0, jitter=False))
    store.settle(store.take(retried), "failed", error=ERROR)
    store.come_due(retried)
    store.succeed(store.take(retried))
    store.check()  # recounts
    store.retry(again, payload=b"x" * 500)
    store.check()
    store.succeed(store.take(again))
    store.remove(again)
    store.retain(Limits(keep=1))
    store.check()
    store.retain(Limits(keep=0))
    assert store.tally().kept == [0, 0]


def test_nothing_is_kept_within_no_bytes(store):
    ids = ended(store, 2)
    assert store.retain(Limits(keep_bytes=0)) == [(task_id, False) for task_id in ids]


# -- a queue's own retention -------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["succeeded", "failed", "cancelled"])
@pytest.mark.parametrize("keep_ms", [0, 5000])
def test_a_queue_s_finished_tasks_are_to_be_forgotten_after_its_time(store, how, keep_ms):
    store.put_queue("default", keep_ms=keep_ms)
    store.now += 100
    if how == "cancelled":
        (task_id,) = store.add()
        store.cancel(task_id)
    else:
        (task_id,) = ended(store, 1, failed=how == "failed")
    other = store.add(queue="q")
    store.cancel(*other)
    store.reopen()
    if keep_ms:
        store.now += keep_ms - 1
        assert store.due() == []
        store.now += 1
    assert store.raw.next_due() == store.now
    assert store.due() == [("forget", task_id)]
    assert store.remove(task_id) == [True]
    assert store.due() == []
    assert store.ids() == other


def test_a_task_that_lives_again_is_not_forgotten(store):
    store.put_queue("default", keep_ms=1000)
    (task_id,) = ended(store, 1, failed=True)
    store.now += 500
    store.retry(task_id)
    store.now += 500
    assert store.due() == []
    store.succeed(store.take(task_id))
    store.now += 999
    assert store.due() == []
    store.now += 1
    assert store.due() == [("forget", task_id)]
    assert store.due() == []


def test_a_task_that_ended_twice_is_forgotten_for_its_last_end(store):
    store.put_queue("default", keep_ms=1000)
    (task_id,) = ended(store, 1, failed=True)
    store.now += 500
    store.retry(task_id)
    store.succeed(store.take(task_id))
    store.now += 500
    assert store.due() == []
    store.now += 500
    assert store.due() == [("forget", task_id)]


def test_a_queue_that_keeps_longer_now_keeps_what_it_has_longer(store):
    store.put_queue("default", keep_ms=1000)
    first, second = ended(store, 2)
    store.put_queue("default", keep_ms=3000)
    store.now += 1010
    assert store.due() == []
    store.now += 1980
    assert store.due() == [("forget", first)]
    store.put_queue("default")
    store.now += 9000
    assert store.due() == []
    assert second in store.ids()


def test_a_queue_s_own_time_outlives_a_removal(store):
    store.put_queue("default", keep_ms=1000)
    (task_id,) = ended(store, 1)
    store.remove(task_id)
    store.now += 1000
    assert store.due() == []


# -- timers that nobody needs ------------------------------------------------------------------------------------


def test_timers_of_tasks_that_are_over_do_not_hold_up_a_turn(store):
    """Thousands that mean nothing any more, and one that does: it is found, if not in the first look."""
    ids = store.add(1500, ttl=100)
    store.succeed(*store.claim(1500))
    (late,) = store.add(ttl=101)
    store.now += 200
    found, looks = [], 0
    while store.raw.next_due() is not None:
        found += store.due(10)
        looks += 1
    assert found == [("expire", late)]
    assert looks <= 5
    assert len(ids) == 1500

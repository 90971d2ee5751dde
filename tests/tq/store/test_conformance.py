"""What every store promises: turns, what is accepted, limits, settings.

The seven promises of tq.store and the rules of its operations stand in test_conformance*.py, case by case. Each is
driven on every store by the ``store`` fixture, which at its end also recounts what the store counts, then opens it
again and recounts once more.
"""

from __future__ import annotations

from dataclasses import replace

import pytest

from tq.errors import PayloadError, Refused, UsageError
from tq.lifecycle import Outcome, retry, settle
from tq.model import Backoff, Header, Spec, State, Status, pack, spec_of
from tq.store import Chore, Draft, Failure, Limits, QueueFull, QueueInfo, RequestId, Success, TypeInfo, Want

PENDING, RUNNING, SUCCEEDED, FAILED = State.PENDING, State.RUNNING, State.SUCCEEDED, State.FAILED
ERROR = {"type": "ValueError", "message": "no"}
NONCE = b"\x00\xff nonce"
HOSTILE = [" ", "../../etc/passwd", "a\x00b", "\x1b[2J\r\n", "'; drop table", "Ünï\u202e", "🐘" * 50, "x" * 200]


# -- turns -------------------------------------------------------------------------------------------------------


def test_what_was_committed_is_there_after_a_restart(store):
    first, second, third, later = *store.add(3, payload=b"data", label="x", meta={"k": "v"}), *store.add(due_in=500)
    store.succeed(store.take(first), result=pack(7))
    store.settle(store.take(second), "failed", error=ERROR)
    store.take(third)
    before = store.everything()
    store.reopen()
    assert store.everything() == before
    assert [store.state(i) for i in (first, second, third, later)] == [SUCCEEDED, FAILED, RUNNING, State.SCHEDULED]


def test_an_aborted_turn_leaves_nothing_behind(store):
    store.add(3, ttl=900)
    store.put_queue("q", weight=2)
    store.add(due_in=50)
    for _ in range(2):
        claimed = store.claim()
    store.succeed(*claimed)
    kept = store.put_chore(Chore(0, "purge", {}))
    store.now += 100
    before = store.everything()
    with store.turn() as raw:
        raw.enqueue([store.draft("new", queue="new", payload=b"x" * 100), store.draft(due_in=10)])
        raw.due(10)
        raw.claim(Want("w2", 1, float("inf")))
        raw.put_queue(QueueInfo("q", paused=True, weight=9))
        raw.put_types([TypeInfo("new")])
        raw.put_chore(Chore(0, "more", {}))
        raw.drop_chore(kept.id)
        raw.remove([claimed[0].id])
        raise store.lost
    assert store.everything() == before
    assert store.raw.queues()["q"] == QueueInfo("q", weight=2)
    assert "new" not in store.raw.types()
    store.reopen()
    assert store.everything() == before


def test_an_aborted_settle_can_be_repeated(store):
    store.add(2)
    one, two = store.claim(2)
    with store.turn() as raw:
        assert raw.succeed([Success(one.id, one.claim, 0, 5, False, None)]) == [True]
        change = settle(raw.get([two.id])[0], Outcome("failed"), store.now, 0.5)
        assert raw.apply([change])[0].state is FAILED
        raise store.lost
    assert [held.id for held in store.held()] == [one.id, two.id]
    assert store.succeed(one, two) == [True, True]


def test_a_lost_turn_does_not_disturb_the_order_of_those_after_it(store):
    (first,) = store.add()
    with store.turn() as raw:
        raw.enqueue([store.draft(priority=9)])
        raise store.lost
    (second,) = store.add()
    assert store.peek() == [first, second]
    assert second > first


def test_reads_see_the_turn_they_stand_in(store):
    with store.turn() as raw:
        (task_id,) = raw.enqueue([store.draft(payload=b"p")])
        assert raw.get([task_id])[0].spec.payload == b"p"
        assert [one.id for one in raw.peek(5)] == [task_id]
        assert raw.ready()
        assert raw.last_id() == task_id
        (claimed,) = raw.claim(Want("w", 5, float("inf")))
        assert raw.get([task_id])[0].state is RUNNING
        assert [held.id for held in raw.held()] == [task_id]
        assert not raw.ready()
        raw.succeed([Success(task_id, claimed.claim, 1, 2, False, None)])
        assert raw.get([task_id])[0].state is SUCCEEDED
        assert raw.remove([task_id]) == [True]
        assert raw.get([task_id]) == [None]


def test_a_task_is_claimed_in_the_turn_of_its_enqueue(store):
    with store.turn() as raw:
        (task_id,) = raw.enqueue([store.draft(payload=b"p")])
        (claimed,) = raw.claim(Want("w", 1))
    assert (claimed.id, claimed.claim, claimed.attempt) == (task_id, 1, 0)
    assert store.state(task_id) is RUNNING


def test_an_empty_store_answers_everything(store):
    assert store.raw.get([1, 0, -1, 2**63]) == [None] * 4
    assert store.claim(5) == store.due() == store.held() == store.peek() == store.ids() == store.raw.tallies() == store.raw.chores() == []
    assert store.raw.last_id() == 0
    assert store.raw.next_due() is None
    assert not store.raw.ready()
    assert store.remove(1) == [False]
    assert store.enqueue([]) == []
    assert store.succeed() == []
    assert store.retain(Limits(keep=0)) == []


# -- enqueue -----------------------------------------------------------------------------------------------------


def test_ids_count_from_one_without_gaps(store):
    assert store.add(3) == [1, 2, 3]
    assert store.add(2, due_in=100) == [4, 5]
    assert store.raw.last_id() == 5


def test_an_id_is_never_given_twice(store):
    (first,) = store.add()
    store.succeed(store.take(first))
    assert store.remove(first) == [True]
    store.reopen()
    assert store.raw.last_id() == first
    assert store.add() == [first + 1]


def test_a_specification_comes_back_as_it_was_sent(store):
    options = {"label": "l", "meta": {"a": "b"}, "tenant": "acme", "flow": "f", "correlation_id": "c", "extras": {"cwd": "/", "env": None}}
    header = Header("t", "mail", 7, 3, 9000, Backoff("linear", 5, 1.5, 100, jitter=False), once=True, **options)
    (task_id,) = store.enqueue([Draft(header, b"payload", store.now + 5, store.now + 9)])
    assert store.get(task_id).spec == Spec(task_id, header, b"payload", store.now, 0, store.now + 5, store.now + 9)


def test_a_ready_draft_is_pending_from_the_start(store):
    first, second = store.add(2)
    assert store.get(first).status == Status(PENDING, seq=1, ready_at=store.now)
    assert store.get(second).spec.seq == store.get(second).status.seq == 2


def test_a_draft_of_the_future_is_scheduled(store):
    (task_id,) = store.add(due_in=1)
    task = store.get(task_id)
    assert (task.state, task.spec.seq, task.status.due_at) == (State.SCHEDULED, 0, store.now + 1)


@pytest.mark.parametrize("late", [0, 1, 1000])
def test_a_draft_that_is_due_already_is_pending(store, late):
    (task_id,) = store.enqueue([Draft(Header("t"), b"", store.now - late)])
    assert store.state(task_id) is PENDING
    assert store.raw.next_due() is None


@pytest.mark.parametrize("due_in", [0, 50])
def test_a_draft_with_parents_is_blocked(store, due_in):
    (parent,) = store.add()
    (child,) = store.add(parents=(parent,), due_in=due_in)
    assert store.state(child) is State.BLOCKED
    assert store.peek() == [parent]
    store.now += 100
    assert store.due() == []
    assert store.state(child) is State.BLOCKED


def test_only_tasks_that_become_pending_use_up_a_sequence(store):
    store.add(2, due_in=100)
    (ready,) = store.add()
    assert store.get(ready).spec.seq == 1


@pytest.mark.parametrize("name", HOSTILE)
def test_names_from_anywhere_are_only_data(store, name):
    (task_id,) = store.add(kind=name, queue=name, tenant=name, flow=name, label=name, meta={name: name})
    store.put_queue(name, weight=3)
    store.put_types(TypeInfo(name, queue=name))
    store.reopen()
    assert store.raw.queues()[name] == QueueInfo(name, weight=3)
    assert store.raw.types()[name].queue == name
    assert store.ids(queue=name, type=name, tenant=name, label=name) == [task_id]
    claimed = store.take(task_id, worker=name, queues=frozenset({name}), types=frozenset({name}))
    assert claimed.header == store.get(task_id).spec.header
    store.succeed(claimed)
    assert store.tally(name, name).succeeded == 1
    assert store.get(task_id).status.worker == name


def test_names_that_look_alike_stay_apart(store):
    names = ["a", "a\x00", "a\x00b", "A", "á", "a\u0301", ""]
    ids = store.enqueue([store.draft(queue=name) for name in names])
    for name, task_id in zip(names, ids, strict=True):
        assert store.peek(queue=name) == store.ids(queue=name) == [task_id]
        assert store.tally(name).states[PENDING] == 1


@pytest.mark.parametrize("payload", [b"", b"\x00", b"\xff" * 7, bytes(range(256)), b"x" * 4096, b"\xc1" * 256 * 1024])
def test_payload_bytes_are_never_touched(store, payload):
    (task_id,) = store.add(payload=payload)
    assert store.tally().bytes == len(payload)
    store.reopen()
    assert store.get(task_id).spec.payload == payload
    claimed = store.take(task_id)
    assert spec_of(task_id, claimed.record).payload == payload


def test_a_header_that_no_record_can_hold_changes_nothing(store):
    before = store.everything()
    with store.turn() as raw:
        with pytest.raises(PayloadError, match="65535"):
            raw.enqueue([store.draft(), store.draft(extras={"env": "x" * 70_000})])
        assert raw.last_id() == 0
    assert store.everything() == before


# -- limits and request ids --------------------------------------------------------------------------------------


def test_a_full_queue_refuses_and_nothing_has_changed(store):
    store.reopen(Limits(queue_tasks=3))
    store.add(2, request=RequestId(NONCE, 1))
    before = store.everything()
    with store.turn() as raw, pytest.raises(Refused, match="at most 3") as refusal:
        raw.enqueue([store.draft(), store.draft(due_in=50)], RequestId(NONCE, 2))
    assert refusal.value.retry_after > 0
    assert store.everything() == before
    assert store.add(request=RequestId(NONCE, 2, again=True)) == [3]


def test_a_refusal_leaves_its_neighbours_in_the_turn_alone(store):
    store.reopen(Limits(queue_tasks=2))
    with store.turn() as raw:
        first = list(raw.enqueue([store.draft()]))
        with pytest.raises(Refused):
            raw.enqueue([store.draft("big"), store.draft("big")])
        second = list(raw.enqueue([store.draft()]))
    assert store.peek() == first + second == [1, 2]


def test_the_limit_of_bytes_counts_the_payloads_of_live_tasks(store):
    store.reopen(Limits(queue_bytes=10))
    (task_id,) = store.add(payload=b"x" * 8)
    with pytest.raises(Refused, match="at most 10 bytes"):
        store.add(payload=b"xyz")
    assert store.add(payload=b"xy") == [2]
    store.succeed(store.take(task_id))
    assert store.add(payload=b"x" * 8) == [3]


def test_each_queue_has_limits_of_its_own(store):
    store.reopen(Limits(queue_tasks=1))
    assert store.enqueue([store.draft(queue="a"), store.draft(queue="b")]) == [1, 2]
    with pytest.raises(Refused):
        store.enqueue([store.draft(queue="c"), store.draft(queue="b")])
    assert store.ids(queue="c") == []


def test_a_limit_counts_tasks_of_every_type_and_waiting_state(store):
    store.reopen(Limits(queue_tasks=3))
    store.add(kind="a")
    store.add(kind="b", due_in=50)
    store.add(kind="c")
    store.claim(1)
    with pytest.raises(Refused):
        store.add(kind="d")
    store.cancel(2)
    assert store.add(kind="d") == [4]


def test_limits_hold_after_a_restart(store):
    store.add(2)
    store.reopen(Limits(queue_tasks=2))
    with pytest.raises(Refused):
        store.add()


def test_a_full_queue_still_takes_every_settle_and_automatic_retry(store):
    store.reopen(Limits(queue_tasks=3, queue_bytes=6))
    ids = store.add(3, retries=3, payload=b"xx", backoff=Backoff("fixed", 0, jitter=False))
    store.put_queue("default", max_tasks=0, max_bytes=0)  # fuller than full
    failed, snoozed, released = store.claim(3)
    for one, kind, outcome in ((failed, "failed", {}), (snoozed, "snoozed", {"delay_ms": 0}), (released, "released", {})):
        store.settle(one, kind, **outcome)
    store.now += 10
    store.promote()
    again = store.claim(3)
    assert sorted(one.id for one in again) == ids
    with store.turn() as raw:
        run = raw.running([again[0].id])[0]
        assert raw.retry_later([Failure(again[0].id, run.claim, 1, 2, False, {}, store.now + 1)]) == [True]
    assert store.succeed(*again[1:]) == [True, True]


def test_what_is_retried_by_hand_or_moves_or_grows_needs_room_like_what_is_sent(store):
    store.reopen(Limits(queue_tasks=2, queue_bytes=10))
    (over,) = store.add(payload=b"1234")
    store.settle(store.take(over), "failed", permanent=True)
    one, two = store.add(2, payload=b"12")
    (other,) = store.add(queue="q", payload=b"12")
    before = [store.get(i) for i in (over, one, two, other)], store.tally(), store.tally("q")
    for act, said in (
        (lambda: store.retry(over), "expected at most 2 tasks, it has 2 and 1 came"),
        (lambda: store.edit(other, queue="default"), "expected at most 2 tasks, it has 2 and 1 came"),
        (lambda: store.edit(one, payload=b"123456789"), "expected at most 10 bytes of payload, it has 4 and 7 came"),
    ):
        with pytest.raises(QueueFull, match=said) as refusal:
            act()
        assert (refusal.value.code, refusal.value.retry_after, refusal.value.details["queue"]) == ("refused", 1.0, "default")
        assert ([store.get(i) for i in (over, one, two, other)], store.tally(), store.tally("q")) == before
    store.edit(one, priority=3, payload=b"12345678")  # up to the limit, and whatever takes no room
    store.edit(one, payload=b"1")
    store.cancel(two)
    assert store.retry(over).state is PENDING
    assert store.tally().states[PENDING] == 2


def test_a_batch_of_changes_is_refused_as_a_whole_if_together_they_would_fill_a_queue(store):
    ids = store.add(3)
    for one in store.claim(3):
        store.settle(one, "failed", permanent=True)
    store.put_queue("default", max_tasks=2)
    changes = [retry(store.get(task_id), store.now) for task_id in ids]
    with pytest.raises(QueueFull, match="it has 0 and 3 came"), store.turn() as raw:
        raw.apply(changes)
    with store.turn() as raw:
        assert [task.state for task in raw.apply(changes[:2])] == [PENDING, PENDING]
        assert raw.apply([changes[0]]) == [None]  # it waits already: that is no matter of room


def test_a_repeated_request_gets_the_ids_it_had(store):
    ids = store.add(3, request=RequestId(NONCE, 7))
    store.reopen()
    assert store.add(3, request=RequestId(NONCE, 7, again=True)) == ids
    assert store.raw.last_id() == 3


@pytest.mark.parametrize("back", [61_000, 86_400_000])
def test_a_repeat_is_known_though_the_clock_was_put_back(store, back):
    store.now += 2 * back
    ids = store.add(request=RequestId(NONCE, 7))
    store.reopen()
    store.now -= back
    assert store.add(request=RequestId(NONCE, 7, again=True)) == ids
    assert store.raw.last_id() == 1


def test_a_repeat_gets_the_ids_of_tasks_that_are_gone(store):
    ids = store.add(request=RequestId(NONCE, 7))
    store.succeed(store.take(ids[0]))
    store.remove(*ids)
    assert store.add(request=RequestId(NONCE, 7, again=True)) == ids
    assert store.ids() == []


@pytest.mark.parametrize("other", [RequestId(NONCE, 8, again=True), RequestId(b"another!", 7, again=True)])
def test_another_request_gets_ids_of_its_own(store, other):
    ids = store.add(request=RequestId(NONCE, 7))
    assert store.add(request=other) != ids


def test_a_request_that_was_not_sent_before_is_never_looked_up(store):
    ids = store.add(request=RequestId(NONCE, 7))
    assert store.add(request=RequestId(NONCE, 7)) != ids


def test_a_request_whose_turn_was_lost_is_carried_out_when_repeated(store):
    with store.turn() as raw:
        raw.enqueue([store.draft()], RequestId(NONCE, 1))
        raise store.lost
    (task_id,) = store.add(request=RequestId(NONCE, 1, again=True))
    assert store.state(task_id) is PENDING


def test_a_repeat_within_the_turn_is_recognised(store):
    with store.turn() as raw:
        first = raw.enqueue([store.draft()], RequestId(NONCE, 1))
        assert list(raw.enqueue([store.draft()], RequestId(NONCE, 1, again=True))) == list(first)


def test_request_ids_are_kept_as_long_as_promised_and_then_forgotten(store):
    store.reopen(Limits(keep_requests_ms=600_000))
    ids = store.add(request=RequestId(NONCE, 1))
    store.now += 599_000
    assert store.add(request=RequestId(NONCE, 1, again=True)) == ids
    store.now += 300_000
    assert store.add(request=RequestId(NONCE, 1, again=True)) != ids


# -- settings ----------------------------------------------------------------------------------------------------


def test_settings_are_remembered_and_replaced(store):
    store.put_queue("mail", weight=2, external=True)
    store.put_queue("mail", paused=True, weight=5)
    declared = TypeInfo("email", "mail", 5, 30_000, ["fixed", 10, 2.0, 100, False], 3, True)
    store.put_types(TypeInfo("email"), TypeInfo("other"))
    store.put_types(declared)
    for _ in range(2):
        assert store.raw.queues()["mail"] == QueueInfo("mail", paused=True, weight=5)
        assert {name: store.raw.types()[name] for name in ("email", "other")} == {"email": declared, "other": TypeInfo("other")}
        store.reopen()


@pytest.mark.parametrize("weight", [0, -1])
def test_a_weight_under_one_changes_nothing(store, weight):
    store.put_queue("q", weight=2)
    with store.turn() as raw, pytest.raises(UsageError, match="weight"):
        raw.put_queue(QueueInfo("q", weight=weight))
    assert store.raw.queues()["q"].weight == 2


def test_chores_are_numbered_moved_on_and_dropped(store):
    first = store.put_chore(Chore(0, "cancel", {"queue": "q", "states": ["pending"]}))
    second = store.put_chore(Chore(0, "purge", {}))
    assert second.id > first.id > 0
    moved = store.put_chore(replace(first, cursor=b"\x00\xff", seen=500, changed=499))
    store.reopen()
    assert store.raw.chores() == [moved, second]
    store.drop_chore(second.id)
    store.drop_chore(second.id)
    store.reopen()
    assert store.raw.chores() == [moved]
    assert store.put_chore(Chore(0, "again", {})).id > second.id

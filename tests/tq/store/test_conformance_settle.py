"""What every store promises: guarded changes, stale claims, timers, leases, forgetting."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tq.lifecycle import Outcome, Transition, parents_over, settle
from tq.model import Backoff, State, Status, pack, status_of
from tq.store import Held, Limits, Success
from tq.store.records import first_success

PENDING, RUNNING, SUCCEEDED, FAILED = State.PENDING, State.RUNNING, State.SUCCEEDED, State.FAILED
ERROR = {"type": "ValueError", "message": "no"}


# -- succeed and apply -------------------------------------------------------------------------------------------


def test_a_first_success_is_written_as_the_record_of_a_first_success(store):
    (task_id,) = store.add()
    store.now += 30
    assert store.succeed(store.take(task_id, worker="w3"), ran=20, output=True, result=pack("fine")) == [True]
    expected = first_success(1, 1, 1, "w3", store.now - 20, store.now, True, pack("fine"))
    assert store.get(task_id).status == status_of(task_id, expected)
    store.reopen()
    assert store.get(task_id).status == status_of(task_id, expected)
    assert store.held() == []


def test_a_success_after_failures_keeps_its_history(store):
    (task_id,) = store.add(retries=2, backoff=Backoff("fixed", 10, jitter=False))
    failed = store.settle(store.take(task_id), "failed", error=ERROR, exit_code=3, output=True)
    store.now += 10
    store.come_due(task_id)
    assert store.succeed(store.take(task_id, worker="w2"), ran=4, result=pack(1)) == [True]
    status = store.get(task_id).status
    assert (status.state, status.attempt, status.failures, status.claim) == (SUCCEEDED, 2, 1, 2)
    assert (status.started_at, status.finished_at, status.worker) == (store.now - 4, store.now, "w2")
    assert (status.result, status.error, status.exit_code, status.output) == (pack(1), None, None, True)
    assert status.attempts == failed.status.attempts != ()


def test_a_success_may_also_come_as_a_transition(store):
    (task_id,) = store.add()
    task = store.settle(store.take(task_id), "succeeded", result=pack(2), exit_code=0, started_at=store.now - 9)
    assert store.get(task_id) == task
    assert (task.state, task.status.result, task.status.exit_code, task.status.attempt) == (SUCCEEDED, pack(2), 0, 1)
    tally = store.tally()
    assert (tally.succeeded, tally.runs, tally.run_ms) == (1, 1, 9)


@pytest.mark.parametrize(
    "event", ["succeeded", "failed", "timed_out", "lapsed", "crashed", "interrupted", "released", "snoozed", "stopped"]
)
def test_a_stale_claim_never_changes_anything(store, event):
    (task_id,) = store.add()
    stale = store.take(task_id, lease_ms=1000)
    store.settle(stale, "released")
    task = store.get(store.take(task_id, lease_ms=1000).id)
    before = store.everything()
    change = settle(task, Outcome(event, delay_ms=5), store.now, 0.5)
    assert store.apply(replace(change, claim=stale.claim)) is None
    assert store.apply(replace(change, claim=stale.claim + 2)) is None
    assert store.succeed(stale) == [False]
    assert not store.extend(stale, 1000)
    assert store.everything() == before


def test_what_is_over_cannot_be_settled_again(store):
    (task_id,) = store.add()
    claimed = store.take(task_id)
    running = store.get(task_id)
    assert store.succeed(claimed) == [True]
    before = store.everything()
    assert store.succeed(claimed, result=pack("other")) == [False]
    for event in ("failed", "released", "crashed"):
        assert store.apply(settle(running, Outcome(event), store.now, 0.5)) is None
    assert store.everything() == before


def test_a_repeat_within_one_batch_is_told_apart(store):
    (task_id,) = store.add()
    claimed = store.take(task_id)
    assert store.succeed(claimed, claimed) == [True, False]
    assert store.tally().succeeded == 1


def test_a_task_that_is_not_there_is_an_answer(store):
    with store.turn() as raw:
        assert raw.succeed([Success(99, 1, 0, 0, False, None)]) == [False]
        assert raw.apply([Transition(99, "failed", frozenset({RUNNING}), 1, Status(FAILED))]) == [None]
        assert not raw.extend(99, 1, 1000)
        assert raw.remove([99]) == [False]
        assert raw.get([99]) == [None]


def test_each_of_a_batch_is_guarded_by_itself(store):
    store.add(3)
    one, two, three = store.claim(3)
    store.settle(two, "released")
    assert store.succeed(one, two, three) == [True, False, True]
    assert [store.state(claimed.id) for claimed in (one, two, three)] == [SUCCEEDED, PENDING, SUCCEEDED]


def test_a_transition_happens_only_from_its_start(store):
    (task_id,) = store.add()
    status = Status(State.CANCELLED, finished_at=store.now)
    assert store.apply(Transition(task_id, "cancelled", frozenset({State.SCHEDULED, RUNNING}), None, status)) is None
    assert store.state(task_id) is PENDING
    assert store.apply(Transition(task_id, "cancelled", frozenset({PENDING}), None, status)).state is State.CANCELLED


def test_apply_answers_with_the_task_as_it_is_now(store):
    (task_id,) = store.add(retries=1)
    assert store.settle(store.take(task_id), "failed", error=ERROR) == store.get(task_id)
    for verb in (store.come_due, store.cancel, store.retry):
        assert verb(task_id) == store.get(task_id)


def test_a_released_task_goes_back_to_its_place(store):
    first, second = store.add(2)
    (high,) = store.add(priority=2)
    assert [claimed.id for claimed in store.claim(2)] == [high, first]
    claimed = store.held()[0]
    task = store.get(first)
    released = store.apply(settle(task, Outcome("released"), store.now, 0.5))
    assert (released.state, released.status.seq, released.status.attempt) == (PENDING, 1, 0)
    assert (released.status.worker, released.status.started_at, released.status.claim) == ("", 0, claimed.claim)
    assert store.peek() == [first, second]


@pytest.mark.parametrize("event", ["crashed", "interrupted"])
def test_a_task_cut_short_keeps_its_place_in_the_line(store, event):
    first, second = store.add(2)
    task = store.settle(store.take(first), event, error=ERROR)
    assert (task.state, task.status.attempt, len(task.status.attempts)) == (PENDING, 1, 1)
    assert store.peek() == [first, second]


def test_a_task_that_comes_due_goes_to_the_end_of_its_line(store):
    (early,) = store.add(due_in=10)
    first, second = store.add(2)
    store.now += 10
    task = store.come_due(early)
    assert (task.state, task.status.seq, task.status.ready_at, task.status.due_at) == (PENDING, 3, store.now, 0)
    assert store.peek() == [first, second, early]


def test_a_failure_with_retries_left_waits_for_its_time(store):
    (task_id,) = store.add(retries=1, backoff=Backoff("fixed", 500, jitter=False))
    task = store.settle(store.take(task_id), "failed", error=ERROR)
    assert (task.state, task.status.due_at, task.status.failures) == (State.RETRYING, store.now + 500, 1)
    assert store.peek() == []
    assert store.raw.next_due() == store.now + 500
    store.now += 500
    assert store.promote() == [task_id]
    task = store.settle(store.take(task_id), "failed", error=ERROR)
    assert (task.state, task.status.attempt, task.status.error) == (FAILED, 2, ERROR)


def test_a_snoozed_task_is_scheduled_again(store):
    (task_id,) = store.add()
    task = store.settle(store.take(task_id), "snoozed", delay_ms=250)
    assert (task.state, task.status.due_at) == (State.SCHEDULED, store.now + 250)
    store.reopen()
    store.now += 250
    assert store.promote() == [task_id]


def test_cancelling_a_running_task_is_a_flag_and_the_claim_goes_on(store):
    (task_id,) = store.add()
    claimed = store.take(task_id, lease_ms=1000)
    running = store.get(task_id)
    assert store.cancel(task_id).status == replace(running.status, cancel_asked=True)
    store.reopen()
    assert store.get(task_id).status.cancel_asked
    assert store.held() == [Held(task_id, claimed.claim, "w1", store.now, 1000)]
    assert store.extend(claimed, 5000)
    assert store.settle(claimed, "failed").state is State.CANCELLED


@pytest.mark.parametrize("by_transition", [False, True])
def test_a_success_wins_over_a_cancel(store, by_transition):
    (task_id,) = store.add()
    claimed = store.take(task_id)
    store.cancel(task_id)
    if by_transition:
        store.settle(claimed, "succeeded")
    else:
        assert store.succeed(claimed) == [True]
    assert store.state(task_id) is SUCCEEDED


def test_a_flag_for_a_claim_that_is_over_changes_nothing(store):
    (task_id,) = store.add()
    claimed = store.take(task_id)
    running = store.get(task_id)
    store.settle(claimed, "released")
    store.take(task_id)
    flag = Transition(task_id, "cancel_asked", frozenset({RUNNING}), claimed.claim, replace(running.status, cancel_asked=True))
    assert store.apply(flag) is None
    assert not store.get(task_id).status.cancel_asked


@pytest.mark.parametrize("header", [{}, {"due_in": 100}, {"parents": (1,)}])
def test_a_waiting_task_is_cancelled_at_once(store, header):
    store.succeed(store.take(store.add()[0]))
    (task_id,) = store.add(**header)
    task = store.cancel(task_id)
    assert (task.state, task.status.finished_at, task.status.attempt) == (State.CANCELLED, store.now, 0)
    store.now += 100
    assert store.due() == store.claim(5) == []
    assert store.raw.next_due() is None


def test_an_unblocked_task_is_pending_or_scheduled(store):
    (parent,) = store.add()
    now_ready, later = store.enqueue([store.draft(parents=(parent,)), store.draft(parents=(parent,), due_in=80)])
    assert store.apply(parents_over(store.get(now_ready), {parent: State.SUCCEEDED}, store.now)).status.seq == 2
    assert store.apply(parents_over(store.get(later), {parent: State.SUCCEEDED}, store.now)).state is State.SCHEDULED
    assert store.peek() == [parent, now_ready]
    store.now += 80
    assert store.promote() == [later]


def test_a_retried_task_starts_anew_and_its_claim_number_goes_on(store):
    failed, other = store.add(2)
    store.settle(store.take(failed), "failed", error=ERROR)
    task = store.retry(failed)
    assert (task.state, task.status.failures, task.status.error, task.status.claim) == (PENDING, 0, None, 1)
    assert store.peek() == [other, failed]
    claimed = [claimed for claimed in store.claim(2) if claimed.id == failed]
    assert [(one.claim, one.attempt) for one in claimed] == [(2, 1)]


def test_a_transition_keeps_everything_that_a_status_holds(store):
    (task_id,) = store.add(retries=9)
    store.take(task_id, worker="w\x00é")
    error = {"type": "E", "message": "m" * 4096, "frames": [["f.py", 3, "go", "x = 1"]], "chain": [{"type": "C", "message": "c"}]}
    task = store.get(task_id)
    for _ in range(12):
        task = store.apply(settle(task, Outcome("failed", error=error, exit_code=-9, output=True, delay_ms=0), store.now, 0.5))
        store.apply(Transition(task_id, "came_due", frozenset({State.RETRYING, FAILED}), None, replace(task.status, state=PENDING, seq=0)))
        store.take(task_id)
        task = store.get(task_id)
    store.reopen()
    assert store.get(task_id) == task
    assert len(task.status.attempts) == 9


# -- timers ------------------------------------------------------------------------------------------------------


def test_timers_come_oldest_first_and_once(store):
    ids = [store.add(due_in=delay)[0] for delay in (300, 100, 200, 400)]
    assert store.raw.next_due() == store.now + 100
    assert store.promote() == []
    store.now += 300
    assert store.promote(2) == [ids[1], ids[2]]
    assert store.promote() == [ids[0]]
    assert store.promote() == []
    assert store.raw.next_due() == store.now + 100


def test_what_comes_due_is_left_to_promote_and_the_rest_is_not(store):
    (both,) = store.add(due_in=100, ttl=300)
    (other,) = store.add(ttl=200)
    store.now += 1000
    assert store.due() == [("expire", other), ("expire", both)]
    assert store.raw.next_due() == store.now - 900
    assert store.promote() == [both]
    assert store.raw.next_due() is None


def test_neither_what_comes_due_nor_expiries_hold_up_each_other_or_a_lease(store):
    """A thousand of each in the same millisecond, and in many."""
    (held,) = store.add()
    store.take(held, lease_ms=5000)
    for delay in range(20):
        store.add(50, due_in=3000 + delay)
        store.add(50, ttl=2990 + delay)
    early = store.add(due_in=1) + store.add(due_in=3019)
    store.now += 5000
    found = store.due(10)
    assert ("lease", held) in found
    assert [kind for kind, _ in found] == ["expire"] * 9 + ["lease"]
    assert store.promote(1) == early[:1]
    assert len(store.promote(600)) > 400
    assert len(store.due(600)) > 400
    while store.promote(600):
        pass
    assert store.state(early[1]) is State.PENDING


def test_timers_of_an_aborted_turn_fire_again(store):
    (task_id,) = store.add(due_in=100)
    store.now += 100
    (other,) = store.add(ttl=1)
    store.now += 1
    with store.turn() as raw:
        assert raw.promote(10) == [task_id]
        assert raw.due(10) == [("expire", other)]
        raise store.lost
    store.reopen()
    assert store.promote() == [task_id]
    assert store.due() == [("expire", other)]


def test_a_timer_is_due_at_its_instant_not_before(store):
    (task_id,) = store.add(due_in=100)
    store.now += 99
    assert store.promote() == []
    store.now += 1
    assert store.promote() == [task_id]


def test_an_expiry_fires_while_the_task_waits_and_not_when_it_is_over(store):
    waiting, _, gone = store.add(3, ttl=100)
    for claimed in store.claim(3):
        if claimed.id == waiting:
            store.settle(claimed, "released")
        else:
            store.succeed(claimed)
    store.remove(gone)
    store.now += 100
    assert store.due() == [("expire", waiting)]
    task = store.run_out(waiting)
    assert (task.state, task.status.finished_at) == (State.EXPIRED, store.now)
    assert store.due() == store.peek() == []


def test_the_timer_of_a_scheduled_task_goes_with_its_state(store):
    cancelled, early = store.add(2, due_in=100)
    store.cancel(cancelled)
    store.come_due(early)
    store.now += 100
    assert store.due() == []


def test_a_lease_that_is_not_extended_lapses(store):
    lapses, extended, local = store.add(3)
    store.take(lapses, lease_ms=1000)
    kept = store.take(extended, lease_ms=1000)
    store.take(local)
    store.now += 600
    assert store.extend(kept, 1000)
    assert store.raw.next_due() == store.now + 400
    store.now += 400
    assert store.due() == [("lease", lapses)]
    assert store.due() == []
    assert store.raw.next_due() == store.now + 600
    store.now += 600
    assert store.due() == [("lease", extended)]
    assert store.raw.next_due() is None


def test_a_lease_ends_with_its_claim(store):
    one, two = store.add(2)
    store.succeed(store.take(one, lease_ms=1000))
    store.settle(store.take(two, lease_ms=1000), "released")
    store.now += 500
    store.take(two, lease_ms=1000)
    store.now += 500
    assert store.due() == []
    store.now += 500
    assert store.due() == [("lease", two)]


def test_a_lease_that_lapsed_ends_with_its_settle(store):
    (task_id,) = store.add(retries=1)
    claimed = store.take(task_id, lease_ms=100)
    store.now += 100
    assert store.due() == [("lease", task_id)]
    assert store.settle(claimed, "lapsed").state is State.PENDING
    assert store.succeed(claimed) == [False]


def test_a_claim_without_a_lease_cannot_be_extended(store):
    claimed = store.take(store.add()[0])
    assert not store.extend(claimed, 1000)
    store.now += 2000
    assert store.due() == []


def test_leases_start_anew_after_a_restart(store):
    (task_id,) = store.add()
    store.take(task_id, lease_ms=1000)
    store.now += 5000
    store.reopen()
    assert store.due() == []
    store.now += 999
    assert store.due() == []
    store.now += 1
    assert store.due() == [("lease", task_id)]


# -- forgetting --------------------------------------------------------------------------------------------------


def test_what_runs_is_not_removed(store):
    (over,) = store.add()
    claimed = store.take(over)
    assert store.remove(over, 77) == [False, False]
    store.succeed(claimed)
    assert store.remove(over, over) == [True, False]
    assert store.ids() == []
    assert store.succeed(claimed) == [False]
    store.reopen()
    assert store.raw.get([over]) == [None]


@pytest.mark.parametrize("state", ["scheduled", "blocked", "pending", "retrying", "released"])
def test_what_waits_is_removed_with_all_that_belongs_to_it(store, state):
    more = {"scheduled": {"due_in": 500}, "blocked": {"parents": (1,)}}.get(state, {})
    (task_id,) = store.add(unique="u", key="k", digest=b"d", payload=b"12345", ttl=900, retries=2, backoff=Backoff("fixed", 500), **more)
    if state in ("retrying", "released"):
        store.settle(store.take(task_id), "failed" if state == "retrying" else "released", error=ERROR)
    assert store.remove(task_id, task_id) == [True, False]
    for _ in range(2):
        assert store.raw.get([task_id]) == [None]
        assert store.ids() == store.peek() == store.claim(5) == []
        assert (store.tally().states, store.tally().bytes, store.tally().kept) == ([0] * len(State), 0, [0, 0])
        assert store.holder("u") is None  # free at once
        assert store.holder("k", "key") == task_id  # the same request sent again is not run again
        store.reopen()
    store.now += Limits().keep_keys_ms
    assert store.due() == store.promote() == []
    assert store.holder("k", "key") is None
    assert store.raw.next_due() is None


def test_the_head_of_a_line_is_removed_and_the_next_one_runs(store):
    first, second, third = store.add(3)
    assert store.remove(first, third) == [True, True]
    assert store.peek() == [second]
    store.take(second)


def test_totals_outlive_the_tasks_they_counted(store):
    store.add(2)
    store.succeed(*store.claim(2), ran=7)
    store.remove(1, 2)
    tally = store.tally()
    assert (tally.succeeded, tally.runs, tally.run_ms, sum(tally.states)) == (2, 2, 14, 0)


def _ended(store, count, *, failed=False, output=False):
    ids = store.add(count)
    for claimed in store.claim(count):
        store.now += 10
        if failed:
            store.settle(claimed, "failed")
        else:
            store.succeed(claimed, output=output)
    return ids


def test_what_is_older_than_its_age_is_forgotten_and_no_more(store):
    old = _ended(store, 2, output=True)
    old_failed = _ended(store, 1, failed=True)
    store.now += 10_000
    young = _ended(store, 2)
    waiting = store.add(1)
    limits = Limits(keep_ms=5000, keep_failed_ms=50_000)
    assert store.retain(limits) == [(task_id, True) for task_id in old]
    assert store.retain(limits) == []
    assert store.ids() == sorted(old_failed + young + waiting, reverse=True)
    assert store.retain(Limits(keep_failed_ms=5000)) == [(old_failed[0], False)]


def test_what_is_over_the_count_goes_oldest_first(store):
    ids = _ended(store, 6)
    failed = _ended(store, 3, failed=True)
    gone = [task_id for task_id, _ in store.retain(Limits(keep=2))]
    assert sorted(gone) == ids[:4] + failed[:1]
    assert [task_id for task_id in gone if task_id in ids] == ids[:4]
    assert store.retain(Limits(keep=2)) == []


def test_cancelled_expired_and_succeeded_share_one_count(store):
    cancelled, expired = store.add(2, due_in=9999)
    store.cancel(cancelled)
    store.now += 1
    store.run_out(expired)
    store.now += 1
    ids = _ended(store, 2)
    assert store.retain(Limits(keep=3)) == [(cancelled, False)]
    assert store.retain(Limits(keep=1)) == [(expired, False), (ids[0], False)]


def test_retention_takes_no_more_than_it_is_asked_to(store):
    ids = _ended(store, 5)
    limits = Limits(keep=0)
    assert [store.retain(limits, 2) for _ in range(4)] == [[(i, False) for i in ids[n : n + 2]] for n in (0, 2, 4, 5)]


def test_retention_goes_by_the_end_not_by_the_id(store):
    late, early = store.add(2)
    one, two = store.claim(2)
    store.now += 10
    store.succeed(two)
    store.now += 10
    store.succeed(one)
    assert store.retain(Limits(keep=1)) == [(early, False)]
    assert store.ids() == [late]


def test_a_retried_task_is_no_longer_part_of_the_history(store):
    (task_id,) = _ended(store, 1, failed=True)
    store.retry(task_id)
    store.now += 10**12
    assert store.retain(Limits(keep=0, keep_ms=0, keep_failed_ms=0)) == []
    store.succeed(store.take(task_id))
    assert store.retain(Limits(keep=0)) == [(task_id, False)]

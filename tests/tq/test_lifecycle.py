"""The table, the picture and the functions of the life cycle say the same; what they promise holds for any task."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tq import lifecycle
from tq.lifecycle import (
    BY_EVENT,
    TABLE,
    Outcome,
    Row,
    Transition,
    backoff_ms,
    cancel,
    come_due,
    edit,
    parents_over,
    retry,
    run_out,
    settle,
    turn_came,
)
from tq.model import FINAL, MAX_ATTEMPTS_KEPT, MAX_CRASHES, MAX_INTERRUPTS, WAITING, Attempt, Backoff, Header, Spec, State, Status, Task
from tq.store import Draft, Want
from tq.store.memory import MemoryStore

S = State
NOW = 5_000
ENDS = ("succeeded", "failed", "timed_out", "lapsed", "crashed", "interrupted", "released", "snoozed", "stopped")
PICTURE = lifecycle.__doc__.partition("``TABLE``")[2].partition("``succeeded`` of a first")[0]
ONLY_IN_THE_TABLE = {"extended", "cancel_asked"}  # they change no state


PLAIN = Header("t")


def make(state: State = S.RUNNING, *, header: Header = PLAIN, **status: object) -> Task:
    return Task(Spec(1, header, b"", 1000), Status(state, **{"claim": 1, "seq": 4, "started_at": 4000, "worker": "w", **status}))


def brief(more: dict[str, object]) -> Task:
    """A running task whose time to live is over."""
    task = make(**more)
    return replace(task, spec=replace(task.spec, expires_at=NOW))


def changed(task: Task, due_at: int | None = None, **spec: object) -> Transition | None:
    return edit(task, replace(task.spec, **spec), due_at, NOW)


def end(kind: str, task: Task, **outcome: object) -> Transition:
    return settle(task, Outcome(kind, **outcome), NOW, 0.5)


# -- the picture and the table -------------------------------------------------------------------------------------


def test_every_state_and_event_stands_in_the_picture():
    words = set(re.findall(r"[a-z_]+", PICTURE))
    assert {state.word for state in State} <= words
    assert {row.event for row in TABLE} - words == ONLY_IN_THE_TABLE


def test_every_arrow_of_the_picture_is_a_row_of_the_table():
    drawn = set(re.findall(r"─([a-z_]+)[─,]", PICTURE)) | set(re.findall(r"(\w+) ──> scheduled", PICTURE))
    assert drawn | ONLY_IN_THE_TABLE >= {row.event for row in TABLE} - {"crashed", "interrupted", "timed_out", "lapsed"}
    assert drawn <= BY_EVENT.keys()
    arrows = re.findall(r"─([a-z_]+)─+> ([a-z]+|\(gone\))", PICTURE)
    assert len(arrows) >= 10
    arrows.remove(("edited", "a"))  # "a waiting state"
    assert BY_EVENT["edited"].to == WAITING
    for event, word in arrows:
        to = {state.word for state in BY_EVENT[event].to} or {"(gone)"}
        assert word in to, f"{event} ──> {word}"


def test_events_are_named_once():
    assert len(BY_EVENT) == len(TABLE)


def test_a_final_state_is_left_only_by_a_person():
    assert {row.event for row in TABLE if row.start & FINAL} == {"given_up", "retried", "removed"}


def test_every_state_can_be_reached_and_left():
    for state in State:
        assert [row for row in TABLE if state in row.to and state not in row.start]
        assert [row for row in TABLE if state in row.start and state not in row.to]


# -- each row, driven ----------------------------------------------------------------------------------------------


def in_store(**draft: object) -> tuple[MemoryStore, Task]:
    """A memory store in a turn, with one task."""
    store = MemoryStore()
    store.begin(NOW)
    parents = draft.pop("parents", ())
    head = {name: draft.pop(name) for name in ("strict", "parents_failed") if name in draft}
    (task_id,) = store.enqueue([Draft(Header("t", parents=parents, **head), b"", waits=parents, **draft)])
    return store, store.get([task_id])[0]


def hear(end: State, *parents: int, **draft: object) -> State:
    """A blocked task whose first parent came to this end."""
    store, task = in_store(parents=parents, **draft)
    change = parents_over(task, {parents[0]: end}, NOW)
    assert task.state in BY_EVENT[change.event].start
    (after,) = store.apply([change])
    return after.state


def claim() -> tuple[MemoryStore, int]:
    store, _ = in_store()
    (claimed,) = store.claim(Want("w", 1, lease_ms=9))
    return store, claimed.claim


def extend() -> State:
    store, token = claim()
    assert store.extend(1, token, 99)
    return store.get([1])[0].state


def remove() -> State | None:
    store, task = in_store()
    store.apply([cancel(task, NOW)])
    assert store.remove([1]) == [True]
    return store.get([1])[0]


AGAIN, ASKED = {"header": Header("t", retries=1)}, {"cancel_asked": True}
DRIVEN: dict[tuple[str, State | None], Callable[[], State | None]] = {
    ("enqueued", S.PENDING): lambda: in_store()[1].state,
    ("enqueued", S.SCHEDULED): lambda: in_store(due_at=NOW + 1)[1].state,
    ("enqueued", S.BLOCKED): lambda: in_store(parents=(9,))[1].state,
    ("parent_over", S.BLOCKED): lambda: hear(S.SUCCEEDED, 8, 9),
    ("turn_came", S.BLOCKED): lambda: turn_came(in_store(parents=(8, 9))[1], NOW).status.state,
    ("unblocked", S.PENDING): lambda: hear(S.SUCCEEDED, 9),
    ("unblocked", S.SCHEDULED): lambda: hear(S.SUCCEEDED, 9, due_at=NOW + 5),
    ("parent_failed", S.CANCELLED): lambda: hear(S.FAILED, 9),
    ("parent_failed", S.FAILED): lambda: hear(S.FAILED, 9, strict=True),
    ("claimed", S.RUNNING): lambda: claim()[0].get([1])[0].state,
    ("extended", S.RUNNING): extend,
    ("removed", None): remove,
    ("came_due", S.PENDING): lambda: come_due(make(S.RETRYING), NOW).status.state,
    ("cancel_asked", S.RUNNING): lambda: cancel(make(), NOW).status.state,
    ("cancelled", S.CANCELLED): lambda: cancel(make(S.PENDING), NOW).status.state,
    ("given_up", S.CANCELLED): lambda: cancel(make(S.FAILED, header=Header("t", order="k")), NOW).status.state,
    ("ran_out", S.EXPIRED): lambda: run_out(make(S.PENDING), NOW).status.state,
    ("retried", S.PENDING): lambda: retry(make(S.FAILED), NOW).status.state,
    ("retried", S.BLOCKED): lambda: retry(make(S.FAILED), NOW, None, (8, 9)).status.state,
    ("edited", S.PENDING): lambda: changed(make(S.SCHEDULED), due_at=0).status.state,
    ("edited", S.SCHEDULED): lambda: changed(make(S.PENDING), due_at=NOW + 5).status.state,
    ("edited", S.RETRYING): lambda: changed(make(S.RETRYING), due_at=NOW + 5).status.state,
    ("edited", S.BLOCKED): lambda: changed(make(S.BLOCKED), due_at=NOW + 5).status.state,
    ("succeeded", S.SUCCEEDED): lambda: end("succeeded", make()).status.state,
    ("released", S.PENDING): lambda: end("released", make()).status.state,
    ("snoozed", S.SCHEDULED): lambda: end("snoozed", make(), delay_ms=5).status.state,
    ("stopped", S.CANCELLED): lambda: end("stopped", make()).status.state,
    ("crashed", S.PENDING): lambda: end("crashed", make()).status.state,
    ("crashed", S.FAILED): lambda: end("crashed", make(crashes=MAX_CRASHES - 1)).status.state,
    ("interrupted", S.PENDING): lambda: end("interrupted", make()).status.state,
    ("interrupted", S.FAILED): lambda: end("interrupted", make(interrupts=MAX_INTERRUPTS - 1)).status.state,
    ("lapsed", S.PENDING): lambda: end("lapsed", make()).status.state,
    ("lapsed", S.FAILED): lambda: end("lapsed", make(crashes=MAX_CRASHES - 1)).status.state,
    **{(kind, S.RETRYING): lambda kind=kind: end(kind, make(**AGAIN)).status.state for kind in ("failed", "timed_out")},
    **{(kind, S.FAILED): lambda kind=kind: end(kind, make()).status.state for kind in ("failed", "timed_out")},
    **{
        (kind, S.EXPIRED): lambda kind=kind: settle(brief(AGAIN), Outcome(kind), NOW, 0.5).status.state
        for kind in ("failed", "timed_out", "lapsed", "crashed", "interrupted", "released", "snoozed")
    },
    **{
        (kind, S.CANCELLED): lambda kind=kind: end(kind, make(**ASKED, **AGAIN)).status.state
        for kind in ("failed", "timed_out", "lapsed", "crashed", "interrupted", "released", "snoozed")
    },
}


def test_the_drives_below_cover_the_whole_table():
    assert DRIVEN.keys() == {(row.event, to) for row in TABLE for to in row.to or (None,)}


@pytest.mark.parametrize(("event", "to"), DRIVEN)
def test_each_row_of_the_table_happens(event, to):
    assert DRIVEN[event, to]() is to


@pytest.mark.parametrize(
    "row", [row for row in TABLE if row.event in {"came_due", "cancelled", "ran_out", "retried"}], ids=lambda row: row.event
)
def test_a_waiting_or_finished_task_changes_from_each_state_of_its_row(row: Row):
    make_change = {"came_due": come_due, "cancelled": cancel, "ran_out": run_out, "retried": retry}[row.event]
    for state in row.start:
        change = make_change(make(state), NOW)
        assert (change.event, change.start) == (row.event, row.start)
        assert change.status.state in row.to


@pytest.mark.parametrize(("end", "runs"), [(S.SUCCEEDED, False), (S.FAILED, True), (S.CANCELLED, False), (S.EXPIRED, True)])
def test_what_comes_after_a_failure_runs_only_after_one(end, runs):
    assert hear(end, 9, parents_failed=(9,)) is (S.PENDING if runs else S.CANCELLED)
    assert hear(end, 9, parents_failed=(9,), strict=True) is (S.PENDING if runs else S.CANCELLED)  # not to be needed is no failure


@pytest.mark.parametrize("state", State)
def test_cancelling_and_retrying_know_when_there_is_nothing_to_do(state):
    task = make(state)
    change = cancel(task, NOW)
    assert (change is None) == state.final
    assert (retry(task, NOW) is None) == (not state.final)
    if state in WAITING:
        assert (change.status.state, change.status.finished_at, change.claim) == (S.CANCELLED, NOW, None)
    if state is S.RUNNING:
        assert (change.status, change.claim) == (replace(task.status, cancel_asked=True), 1)


# -- how an attempt ends -------------------------------------------------------------------------------------------


def test_a_success_has_its_result_and_nothing_of_the_failures_before():
    task = make(error={"type": "E", "message": "old"}, exit_code=3, failures=1, attempt=1)
    status = end("succeeded", task, result=b"\x07", started_at=4100, finished_at=4200, output=True).status
    assert (status.result, status.error, status.exit_code, status.output) == (b"\x07", None, None, True)
    assert (status.attempt, status.failures, status.started_at, status.finished_at) == (2, 1, 4100, 4200)


def test_a_failure_waits_for_its_backoff_and_then_has_no_place_in_the_line():
    header = Header("t", retries=2, backoff=Backoff("fixed", 300, jitter=False))
    status = end("failed", make(header=header), error={"type": "E", "message": "m"}).status
    assert (status.state, status.due_at, status.seq, status.failures, status.finished_at) == (S.RETRYING, NOW + 300, 0, 1, 0)


def test_a_failure_may_name_its_own_delay_or_forbid_a_retry():
    task = make(header=Header("t", retries=9))
    assert end("failed", task, delay_ms=77).status.due_at == NOW + 77
    assert end("failed", task, delay_ms=0).status.state is S.RETRYING
    assert end("failed", task, permanent=True).status.state is S.FAILED


@pytest.mark.parametrize("retries", range(4))
def test_there_are_as_many_retries_as_were_asked_for(retries):
    task, runs = make(header=Header("t", retries=retries)), 0
    while not task.state.final:
        change = end("failed", task)
        runs += 1
        task = replace(task, status=change.status if change.status.state.final else replace(change.status, state=S.RUNNING))
    assert (runs, task.status.failures, task.state) == (retries + 1, retries + 1, S.FAILED)


@pytest.mark.parametrize(("kind", "most", "count"), [("crashed", MAX_CRASHES, "crashes"), ("interrupted", MAX_INTERRUPTS, "interrupts")])
def test_being_cut_short_too_often_fails_a_task_whatever_its_retries(kind, most, count):
    task = make(header=Header("t", retries=99))
    for n in range(1, most + 1):
        status = end(kind, task).status
        assert (status.state, getattr(status, count)) == (S.FAILED if n == most else S.PENDING, n)
        assert status.failures == 0
        task = replace(task, status=replace(status, state=S.RUNNING))
    assert (MAX_CRASHES, MAX_INTERRUPTS) == (3, 10)


@pytest.mark.parametrize("kind", ["crashed", "interrupted"])
def test_a_task_to_run_once_does_not_run_again_by_itself(kind):
    once = Header("t", retries=5, once=True)
    assert end(kind, make(header=once)).status.state is S.FAILED
    assert end("failed", make(header=once)).status.state is S.RETRYING  # it came to its own end
    assert end("released", make(header=once)).status.state is S.PENDING  # it never began


@pytest.mark.parametrize("kind", ["crashed", "interrupted", "released"])
def test_what_was_cut_short_keeps_its_place_in_the_line(kind):
    assert end(kind, make()).status.seq == 4


def test_a_hand_out_given_back_unstarted_counts_nowhere():
    task = make(attempt=2, failures=1, ready_at=7)
    status = end("released", task).status
    assert status == replace(task.status, state=S.PENDING, started_at=0, worker="")


def test_a_person_s_retry_counts_from_zero_and_keeps_what_happened():
    runs = (Attempt(1, 1, 2, "failed"),)
    task = make(
        S.FAILED, attempt=4, failures=4, crashes=1, interrupts=2, claim=6, cancel_asked=True, result=b"x", exit_code=1, finished_at=9,
        attempts=runs,
    )  # fmt: skip
    status = retry(task, NOW).status
    assert (status.failures, status.crashes, status.interrupts, status.cancel_asked) == (0, 0, 0, False)
    assert (status.result, status.error, status.exit_code, status.finished_at, status.seq) == (None, None, None, 0, 0)
    assert (status.attempt, status.claim, status.ready_at) == (4, 6, NOW)
    last = Attempt(4, task.status.started_at, 9, "failed", task.status.worker, None, 1)
    assert status.attempts == (*runs, last)  # the last one, which the task held itself, is not lost
    over = replace(task, status=replace(status, state=S.CANCELLED, finished_at=12))
    assert retry(over, NOW).status.attempts == status.attempts  # and is not counted twice


# -- edits, and retries of something else --------------------------------------------------------------------------


@pytest.mark.parametrize("state", State)
def test_only_what_waits_is_edited_and_only_as_it_was_seen(state):
    task = make(state, due_at=9000)
    change = changed(task, payload=b"new")
    assert (change is None) == (state not in WAITING)
    if change is not None:
        assert (change.event, change.start, change.claim, change.status) == ("edited", frozenset({state}), None, task.status)
        assert change.spec == replace(task.spec, payload=b"new")


def test_an_edit_without_a_time_keeps_the_place_in_the_line():
    status = changed(make(S.PENDING, ready_at=7), header=Header("t", priority=9)).status
    assert (status.state, status.seq, status.ready_at) == (S.PENDING, 4, 7)


@pytest.mark.parametrize("state", [S.SCHEDULED, S.PENDING, S.RETRYING])
@pytest.mark.parametrize("due_at", [0, NOW - 1, NOW, NOW + 1])
def test_an_edit_may_bring_a_task_forward_or_put_it_off(state, due_at):
    task = make(state, due_at=9000 if state is not S.PENDING else 0, failures=2, attempts=(Attempt(1, 2, 3, "failed"),))
    status = changed(task, due_at=due_at).status
    if due_at > NOW:
        assert (status.state, status.due_at, status.seq) == (S.RETRYING if state is S.RETRYING else S.SCHEDULED, due_at, 0)
    elif state is S.PENDING:
        assert status == task.status
    else:
        assert (status.state, status.due_at, status.seq, status.ready_at) == (S.PENDING, 0, 0, NOW)
    assert (status.failures, status.attempts, status.claim) == (2, task.status.attempts, 1)


def test_the_time_that_a_blocked_task_is_given_is_for_when_it_waits_no_more():
    task = make(S.BLOCKED, due_at=9000)
    assert changed(task, due_at=NOW + 1).status == replace(task.status, due_at=NOW + 1)
    assert changed(task, due_at=0).status == replace(task.status, due_at=0)
    assert changed(task).status == task.status


def test_a_retry_may_be_of_something_else():
    task = make(S.FAILED)
    other = replace(task.spec, payload=b"better", header=Header("t", priority=9))
    change = retry(task, NOW, other)
    assert (change.spec, change.event, change.status.state) == (other, "retried", S.PENDING)
    assert retry(task, NOW).spec is None


@pytest.mark.parametrize("limit", [{"expires_at": NOW - 1}, {"deadline_ms": 5}, {"retry_for_ms": 5}])
@pytest.mark.parametrize("with_another", [False, True])
def test_a_retry_lifts_the_limits_of_time(limit, with_another):
    task = make(S.EXPIRED)
    if "expires_at" in limit:
        task = replace(task, spec=replace(task.spec, **limit))
    else:
        task = replace(task, spec=replace(task.spec, header=Header("t", **limit)))
    spec = retry(task, NOW, replace(task.spec, payload=b"better") if with_another else None).spec
    assert (spec.expires_at, spec.header.deadline_ms, spec.header.retry_for_ms) == (0, 0, 0)
    assert spec.payload == (b"better" if with_another else b"")


# -- limits of time ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["failed", "timed_out"])
@pytest.mark.parametrize(("wait", "state"), [(100, S.RETRYING), (101, S.FAILED)])
def test_no_retry_begins_after_the_time_for_retries(kind, wait, state):
    """The task was accepted at 1000."""
    header = Header("t", retries=9, retry_for_ms=NOW - 1000 + 100, backoff=Backoff("fixed", wait, jitter=False))
    status = end(kind, make(header=header)).status
    assert status.state is state
    assert status.failures == 1


@pytest.mark.parametrize("kind", ["crashed", "interrupted", "released", "snoozed"])
def test_the_time_for_retries_does_not_end_what_did_not_fail(kind):
    header = Header("t", retry_for_ms=1)
    assert end(kind, make(header=header), delay_ms=5).status.state in (S.PENDING, S.SCHEDULED)


@pytest.mark.parametrize(("wait", "state"), [(99, S.RETRYING), (100, S.FAILED)])
def test_no_retry_begins_at_or_after_the_deadline(wait, state):
    header = Header("t", retries=9, deadline_ms=NOW - 1000 + 100, backoff=Backoff("fixed", wait, jitter=False))
    assert end("failed", make(header=header)).status.state is state


@pytest.mark.parametrize("kind", ["timed_out", "crashed", "interrupted", "released", "snoozed", "lapsed"])
def test_what_is_cut_short_by_the_deadline_has_expired(kind):
    header = Header("t", retries=9, deadline_ms=NOW - 1000)
    assert end(kind, make(header=header), delay_ms=5).status.state is S.EXPIRED


def test_a_task_may_still_end_by_itself_at_its_deadline():
    header = Header("t", deadline_ms=1)
    assert end("succeeded", make(header=header)).status.state is S.SUCCEEDED
    assert end("failed", make(header=header)).status.state is S.FAILED
    assert end("stopped", make(header=header)).status.state is S.CANCELLED


def test_an_event_that_ends_nothing_is_an_error():
    with pytest.raises(ValueError, match="'claimed'"):
        end("claimed", make())


# -- properties ----------------------------------------------------------------------------------------------------

backoffs = st.builds(
    Backoff,
    st.sampled_from(["fixed", "linear", "exponential"]),
    st.integers(0, 10**8),
    st.floats(1, 1000),
    st.integers(0, 10**9),
    st.booleans(),
)
headers = st.builds(Header, st.just("t"), retries=st.integers(0, 4), once=st.booleans(), backoff=backoffs)
chances = st.floats(0, 1, exclude_max=True)
outcomes = st.builds(
    Outcome, st.sampled_from(ENDS), st.integers(0, 9000), st.integers(0, 9000), st.none() | st.binary(max_size=3),
    st.none() | st.just({"type": "E", "message": "m"}), st.none() | st.integers(-9, 255), st.booleans(),
    st.none() | st.integers(0, 10**6), st.booleans(),
)  # fmt: skip


@st.composite
def running(draw: st.DrawFn) -> Task:
    failures, crashes, interrupts = draw(st.integers(0, 4)), draw(st.integers(0, 2)), draw(st.integers(0, 9))
    attempt = failures + crashes + interrupts + draw(st.integers(0, 2))
    runs = tuple(Attempt(n, n, n + 1, "failed") for n in range(min(attempt, MAX_ATTEMPTS_KEPT - 1)))
    return make(
        header=draw(headers), claim=draw(st.integers(1, 99)), attempt=attempt, failures=failures, crashes=crashes, interrupts=interrupts,
        cancel_asked=draw(st.booleans()), attempts=runs,
    )  # fmt: skip


@given(task=running(), outcome=outcomes, chance=chances)
def test_settling_is_pure_and_follows_its_row(task, outcome, chance):
    before = repr(task)
    change = settle(task, outcome, NOW, chance)
    assert settle(task, outcome, NOW, chance) == change
    assert repr(task) == before
    row = BY_EVENT[outcome.kind]
    assert (change.id, change.event, change.start, change.claim) == (task.id, row.event, row.start, task.status.claim)
    assert change.status.state in row.to


@given(task=running(), outcome=outcomes, chance=chances)
def test_counts_never_fall_and_failures_never_pass_attempts(task, outcome, chance):
    old, new = task.status, settle(task, outcome, NOW, chance).status
    assert new.claim == old.claim
    assert new.attempt == old.attempt + (outcome.kind != "released")
    risen = [new.failures - old.failures, new.crashes - old.crashes, new.interrupts - old.interrupts]
    assert sorted(risen) in ([0, 0, 0], [0, 0, 1])
    assert new.failures + new.crashes + new.interrupts <= new.attempt
    assert len(new.attempts) < MAX_ATTEMPTS_KEPT
    assert new.output >= old.output


@given(task=running(), outcome=outcomes, chance=chances)
def test_a_cancel_wins_over_every_end_but_success(task, outcome, chance):
    status = settle(task, outcome, NOW, chance).status
    if outcome.kind == "succeeded":
        assert status.state is S.SUCCEEDED
    elif task.status.cancel_asked:
        assert status.state is S.CANCELLED


@given(task=running(), outcome=outcomes, chance=chances)
def test_what_is_over_has_an_end_and_what_runs_again_has_its_last_run(task, outcome, chance):
    status = settle(task, outcome, NOW, chance).status
    if status.state.final:
        assert status.finished_at == (outcome.finished_at or NOW if outcome.kind != "released" else NOW)
        assert status.attempts == task.status.attempts
        return
    assert status.finished_at == 0
    if status.state in (S.RETRYING, S.SCHEDULED):
        assert (status.due_at >= NOW, status.seq) == (True, 0)
    else:
        assert (status.due_at, status.seq) == (0, task.status.seq)
    if outcome.kind != "released":
        assert status.attempts[-1].number == task.status.attempt + 1
        assert status.attempts[:-1] == task.status.attempts[-MAX_ATTEMPTS_KEPT + 2 :]


@given(backoff=backoffs, failures=st.integers(0, 10**6), chance=chances)
def test_a_backoff_stays_within_its_bounds(backoff, failures, chance):
    full = backoff_ms(replace(backoff, jitter=False), failures, chance)
    assert 0 <= full <= backoff.cap_ms
    assert full <= backoff_ms(replace(backoff, jitter=False), failures + 1, chance)
    spread = backoff_ms(replace(backoff, jitter=True), failures, chance)
    assert full // 2 <= spread <= full


@pytest.mark.parametrize(
    ("kind", "delays"),
    [("fixed", [100, 100, 100, 100]), ("linear", [100, 200, 300, 350]), ("exponential", [100, 200, 350, 350])],
)
def test_backoffs_grow_as_they_are_named(kind, delays):
    backoff = Backoff(kind, 100, 2.0, 350, jitter=False)
    assert [backoff_ms(backoff, n, 0.9) for n in (1, 2, 3, 4)] == delays


def test_jitter_takes_up_to_half_of_the_delay():
    backoff = Backoff("fixed", 1000)
    assert [backoff_ms(backoff, 1, chance) for chance in (0.0, 0.5, 0.999)] == [500, 750, 999]

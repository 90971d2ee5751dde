"""Every row of the table of transitions, driven through the LMDB store: from each of its states, to each of its states."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.tq.store.conftest import Driver
from tq.lifecycle import BY_EVENT, TABLE, Row, Transition, parents_over, retry, turn_came
from tq.model import Backoff, State
from tq.store.verify import verify

S = State
FIXED = Backoff("fixed", 50, jitter=False)
Drive = Callable[[Driver, int], object]
Case = tuple[str, State | None, State | None]
"""Event, state before (None: it did not exist), state after (None: it is gone)."""


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Driver]:
    driver = Driver("lmdb", tmp_path / "store")
    yield driver
    driver.raw.close()


def bring(store: Driver, state: State | None, **draft: object) -> int:
    """A task in this state, and how it came there."""
    if state is None:
        return store.raw.last_id() + 1
    if state is S.SCHEDULED:
        return store.add(**{"due_in": 60_000, **draft})[0]
    if state is S.BLOCKED:
        return store.add(parents=tuple(store.add(draft.pop("waits", 1), due_in=1_000_000)), **draft)[0]
    if state is S.RETRYING:
        draft["retries"] = 9
    (task_id,) = store.add(backoff=FIXED, **draft)
    if state is S.CANCELLED:
        store.cancel(task_id)
    elif state is S.EXPIRED:
        store.run_out(task_id)
    elif state is not S.PENDING:
        claimed = store.take(task_id, lease_ms=1000)
        if state is not S.RUNNING:
            store.settle(claimed, "succeeded" if state is S.SUCCEEDED else "failed")
    assert store.state(task_id) is state
    return task_id


def held(store: Driver, task_id: int) -> object:
    (found,) = [one for one in store.held() if one.id == task_id]
    return found


def ends(event: str, to: State) -> tuple[dict[str, object], Drive]:
    """With what a task must be sent so that ``event`` ends its attempt in ``to``, and how."""
    draft: dict[str, object] = {}
    if to is S.EXPIRED:
        draft = {"ttl": 500, "retries": 1}
    elif to is S.RETRYING:
        draft = {"retries": 1}
    elif to is S.FAILED and event not in ("failed", "timed_out"):
        draft = {"once": True}

    def drive(store: Driver, task_id: int) -> object:
        claimed = held(store, task_id)
        if to is S.CANCELLED and event != "stopped":
            store.cancel(task_id)
        if to is S.EXPIRED:
            store.now += 500
        if event == "lapsed":
            store.now += 1000
            assert ("lease", task_id) in store.due()
        return store.settle(claimed, event, delay_ms=50 if event == "snoozed" else None)

    return draft, drive


def hears(end: State) -> Drive:
    """Its parent came to this end."""

    def drive(store: Driver, task_id: int) -> object:
        task = store.get(task_id)
        return store.apply(parents_over(task, {task.spec.header.parents[0]: end}, store.now))

    return drive


def turn_comes(store: Driver, task_id: int) -> object:
    """It has moved to a line where another goes first, and that one is gone."""
    (first,) = store.add(queue="q", order="k")
    store.edit(task_id, queue="q")
    assert store.get(task_id).status.waits == 2
    store.remove(first)
    with store.turn() as raw:
        return raw.turns(9) == [task_id] and raw.apply([turn_came(raw.get([task_id])[0], store.now)])[0]


def comes_due(store: Driver, task_id: int) -> object:
    store.now += 60_000
    assert store.due() == []
    return store.promote() == [task_id]


def runs_out(store: Driver, task_id: int) -> object:
    store.now += 500
    assert ("expire", task_id) in store.due()
    return store.run_out(task_id)


def waits_again(store: Driver, task_id: int) -> object:
    """Retried, behind what it was sent to wait for."""
    task = store.get(task_id)
    store.add(8, due_in=1_000_000)
    return store.apply(retry(task, store.now, None, task.spec.header.parents)) and store.raw.children(9, 9) == [task_id]


CASES: dict[Case, tuple[dict[str, object], Drive]] = {
    ("enqueued", None, S.SCHEDULED): ({}, lambda store, _: store.add(due_in=5)),
    ("enqueued", None, S.BLOCKED): ({}, lambda store, task_id: store.add(parents=(task_id + 1,)) + store.add()),
    ("enqueued", None, S.PENDING): ({}, lambda store, _: store.add()),
    ("came_due", S.SCHEDULED, S.PENDING): ({}, comes_due),
    ("came_due", S.RETRYING, S.PENDING): ({}, comes_due),
    ("parent_over", S.BLOCKED, S.BLOCKED): ({"waits": 2}, hears(S.SUCCEEDED)),
    ("turn_came", S.BLOCKED, S.BLOCKED): ({"order": "k"}, turn_comes),
    ("unblocked", S.BLOCKED, S.PENDING): ({}, hears(S.SUCCEEDED)),
    ("unblocked", S.BLOCKED, S.SCHEDULED): ({"due_in": 9}, hears(S.SUCCEEDED)),
    ("parent_failed", S.BLOCKED, S.CANCELLED): ({}, hears(S.EXPIRED)),
    ("parent_failed", S.BLOCKED, S.FAILED): ({"strict": True}, hears(S.EXPIRED)),
    ("claimed", S.PENDING, S.RUNNING): ({}, lambda store, task_id: store.take(task_id)),
    ("extended", S.RUNNING, S.RUNNING): ({}, lambda store, task_id: store.extend(held(store, task_id), 99)),
    ("cancel_asked", S.RUNNING, S.RUNNING): ({}, lambda store, task_id: store.cancel(task_id)),
    ("edited", S.PENDING, S.SCHEDULED): ({}, lambda store, task_id: store.edit(task_id, due_in=9)),
    ("edited", S.SCHEDULED, S.PENDING): ({}, lambda store, task_id: store.edit(task_id, due_in=0, queue="q")),
    ("edited", S.BLOCKED, S.BLOCKED): ({}, lambda store, task_id: store.edit(task_id, due_in=9, type="u")),
    ("edited", S.RETRYING, S.RETRYING): ({}, lambda store, task_id: store.edit(task_id, due_in=9, payload=b"x")),
    **{(row.event, state, to): ends(row.event, to) for row in TABLE if row.start == {S.RUNNING} and row.to != {S.RUNNING}
       for state in row.start for to in row.to},
    **{("cancelled", state, S.CANCELLED): ({}, lambda store, task_id: store.cancel(task_id)) for state in BY_EVENT["cancelled"].start},
    **{("given_up", state, S.CANCELLED): ({"order": "k"}, lambda store, task_id: store.cancel(task_id))
       for state in BY_EVENT["given_up"].start},
    **{("ran_out", state, S.EXPIRED): ({"ttl": 500}, runs_out) for state in BY_EVENT["ran_out"].start},
    **{("retried", state, S.PENDING): ({}, lambda store, task_id: store.retry(task_id)) for state in BY_EVENT["retried"].start},
    ("retried", S.CANCELLED, S.BLOCKED): ({"parents": (9,)}, waits_again),
    **{("removed", state, None): ({}, lambda store, task_id: store.remove(task_id) == [True]) for state in BY_EVENT["removed"].start},
}  # fmt: skip


@pytest.mark.parametrize("row", TABLE, ids=lambda row: row.event)
def test_every_row_is_driven_from_each_of_its_states_and_to_each(row: Row) -> None:
    driven = [case for case in CASES if case[0] == row.event]
    assert {start for _, start, _ in driven} == (set(row.start) or {None})
    assert {to for _, _, to in driven} == (set(row.to) or {None})


@pytest.mark.parametrize(
    "case", CASES, ids=lambda case: "-".join(["none" if part is None else getattr(part, "word", part) for part in case])
)
def test_a_row_of_the_table_happens_in_the_store(store: Driver, tmp_path: Path, case: Case) -> None:
    event, start, to = case
    draft, drive = CASES[case]
    task_id = bring(store, start, **draft)
    assert drive(store, task_id), event
    for _ in range(2):
        task = store.raw.get([task_id])[0]
        assert (None if task is None else task.state) is to
        store.check()
        store.reopen()
    store.raw.close()
    assert verify(tmp_path) == []
    store.raw = Driver("lmdb", tmp_path / "store").raw


def test_the_table_s_rows_have_no_other_events_in_the_store(store: Driver) -> None:
    """A guard that does not hold is an answer: from every other state each row changes nothing."""
    for row in TABLE:
        for state in set(State) - set(row.start):
            if row.event in ("enqueued", "claimed", "extended", "removed"):
                continue  # verbs of their own, with guards of their own
            task_id = bring(store, state)
            before = store.get(task_id)
            assert store.apply(Transition(task_id, row.event, row.start, None, before.status)) is None
            assert store.get(task_id) == before
            if state is S.PENDING:
                store.cancel(task_id)

"""What a store does for a task is the same work however many others there are: those that wait, are over, or are not yet due.

Counted are the calls it makes, not seconds, so a busy machine changes nothing. The memory store is not asked what it costs:
it writes a snapshot of everything, for tests.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import pytest

from tq.model import State

MANY = 4000
DAY_MS = 86_400_000
on_disk = pytest.mark.parametrize("store", ["lmdb"], indirect=True)


def calls(work: Callable[[], Any]) -> int:
    """How many functions, of Python and of C, are called by ``work``."""
    seen = 0

    def count(_frame: Any, event: str, _arg: Any) -> None:
        nonlocal seen
        seen += event in {"call", "c_call"}

    before = sys.getprofile()
    sys.setprofile(count)
    try:
        work()
    finally:
        sys.setprofile(before)
    return seen


@on_disk
def test_accepting_a_task_costs_the_same_however_many_wait(store: Any) -> None:
    store.add(20)
    few = calls(lambda: store.add(1))
    store.add(MANY)
    assert calls(lambda: store.add(1)) <= few + 5


@on_disk
def test_handing_out_and_settling_cost_the_same_however_many_are_over(store: Any) -> None:
    def one() -> None:
        store.succeed(*store.claim())

    store.add(MANY + 200)
    for _ in range(20):
        one()
    few = calls(one)
    while len(store.ids(states=frozenset({State.SUCCEEDED}), limit=10_000)) < MANY:
        store.succeed(*store.claim(500))
    assert calls(one) <= few + 5


def test_what_is_due_later_stays_in_the_store_and_is_handed_out_once(store: Any) -> None:
    """However long the delay, and however long the run: nobody holds it meanwhile, and nothing but its end brings it back."""
    later = store.add(300, due_in=30 * DAY_MS)
    (now,) = store.add()
    assert [one.id for one in store.claim(512)] == [now]
    store.now += 30 * DAY_MS - 1
    assert store.promote(512) == []
    assert store.claim(512) == []
    store.now += 1
    assert store.promote(512) == later
    assert [one.id for one in store.claim(512)] == later
    store.now += 365 * DAY_MS
    assert store.promote(512) == []
    assert store.due(512) == []
    assert store.claim(512) == []


@on_disk
def test_opening_a_store_costs_the_same_however_many_are_over(store: Any) -> None:
    def some(count: int) -> None:
        for _ in range(0, count, 500):
            store.add(500)
            store.succeed(*store.claim(500))

    some(500)
    few = calls(store.reopen)
    some(MANY)
    assert calls(store.reopen) <= few + 50

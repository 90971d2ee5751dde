"""When a batch goes, at a clock turned by hand."""

from __future__ import annotations

import pytest

from tq.pool.gathering import Gathering
from tq.store import TypeInfo


@pytest.fixture
def one() -> Gathering:
    found = Gathering()
    found.learn([TypeInfo("index", batch=10, batch_wait_ms=50), TypeInfo("plain")])
    return found


def test_without_such_types_there_is_nothing_to_gather() -> None:
    found = Gathering()
    found.learn([TypeInfo("plain")])
    assert (bool(found), found.kinds, found.next_due(0)) == (False, frozenset(), None)


def test_full_batches_go_at_once_and_the_rest_when_the_first_has_waited(one: Gathering) -> None:
    one.look({"index": 25}, 1000, granted=False)
    assert (one.batches("index", 1000), one.stirred, one.next_due(1000)) == (2, True, 1050)
    one.offered()
    one.look({"index": 5}, 1001, granted=True)
    assert (one.batches("index", 1049), one.stirred, one.next_due(1001)) == (0, False, 1050)
    assert (one.missing("index", 1010), one.missing("index", 1050), one.missing("plain", 1010)) == ((5, 10, 40), None, None)
    assert (one.batches("index", 1050), one.next_due(1050), one.unserved(1050)) == (1, None, 1)


def test_the_wait_counts_from_the_first_and_not_from_the_last(one: Gathering) -> None:
    for now in range(1000, 1050, 10):
        one.look({"index": (now - 990) // 10}, now, granted=False)
        assert one.batches("index", now) == 0
    assert one.batches("index", 1050) == 1
    one.look({"index": 0}, 1051, granted=True)
    one.look({"index": 1}, 1060, granted=False)
    assert (one.batches("index", 1109), one.batches("index", 1110)) == (0, 1)


def test_who_waits_for_nobody_is_always_offered_and_stirs_nobody_for_nothing() -> None:
    found = Gathering()
    found.learn([TypeInfo("now", batch=10)])
    found.look({}, 1000, granted=True)
    assert (found.batches("now", 1000), found.unserved(1000), found.stirred, found.next_due(1000)) == (1, 0, False, None)


def test_what_could_go_is_offered_again_only_after_something_was_given(one: Gathering) -> None:
    one.look({"index": 10}, 1000, granted=False)
    one.offered()
    one.look({"index": 10}, 1001, granted=False)
    assert not one.stirred
    one.look({"index": 10}, 1002, granted=True)
    assert one.stirred


def test_a_type_that_is_declared_otherwise_is_gathered_otherwise(one: Gathering) -> None:
    one.learn([TypeInfo("index", batch=2)])
    assert one.size("index") == 2
    one.learn([TypeInfo("index")])
    assert one.kinds == frozenset()

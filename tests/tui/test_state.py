"""What is known: cleaned once, merged, and marked where it changed."""

from __future__ import annotations

import pytest

from tui.state import History, Known

NOW = 1_000_000


def test_every_text_is_cleaned_where_it_enters_also_keys_and_deep_ones() -> None:
    known = Known()
    known.take("queues", {"queues": [{"name": "a\x1b[2J", "meta": {"k\x07": "\u202ev"}}]}, NOW)
    (row,) = known.rows("queues", "queues")
    assert row["name"] == "a\\x1b[2J"
    assert row["meta"] == {"k\\x07": "\\u202ev"}


def test_a_topic_is_dirty_once_it_changed_and_not_when_it_came_again_unchanged() -> None:
    known = Known()
    known.take("queues", {"queues": []}, NOW)
    assert known.dirty == {"queues"}
    known.dirty = set()
    known.take("queues", {"queues": []}, NOW + 1)
    assert known.dirty == set()
    assert known.taken["queues"] == NOW + 1


def test_what_never_came_is_none_and_no_rows() -> None:
    known = Known()
    assert known.get("queues") is None
    assert known.rows("queues", "queues") == ()
    assert known.totals is None


def test_what_is_lacking_is_told_once_and_forgotten_with_the_connection() -> None:
    known = Known()
    known.lacks("history:1", "expected a verb\x1b")
    assert known.lacking == {"history:1": "expected a verb\\x1b"}
    assert known.dirty == {"history:1"}
    known.dirty = set()
    known.lacks("history:1", "expected a verb")
    assert known.dirty == set()
    known.begin_anew()
    assert known.lacking == {}


def answer(until_s: int, values: list[float | None]) -> dict[str, object]:
    return {"step_s": 1, "until": until_s * 1000, "series": {"added": values}}


def test_newer_buckets_are_joined_to_those_that_are_known() -> None:
    known = Known()
    known.take_history("h", None, answer(10, [1, 2, 3]), NOW)
    known.take_history("h", None, answer(12, [30, 4, 5]), NOW)
    history = known.history(None, 1)
    assert history is not None
    assert history.series["added"] == [1, 2, 30, 4, 5]
    assert history.until == 12_000


def test_what_was_missed_is_a_gap_and_no_zero() -> None:
    history = History(1)
    history.merge(10_000, {"added": [1, 2]})
    history.merge(15_000, {"added": [7, 8]})
    assert history.series["added"] == [1, 2, None, None, None, 7, 8]


def test_a_clock_that_stepped_back_begins_anew() -> None:
    history = History(1)
    history.merge(10_000, {"added": [1, 2]})
    history.merge(5_000, {"added": [9]})
    assert history.series["added"] == [9]


def test_only_so_many_buckets_are_kept() -> None:
    history = History(1)
    for second in range(1, 2000):
        history.merge(second * 1000, {"added": [float(second)]})
    assert len(history.series["added"]) == 720
    assert history.last("added", 2) == [1998.0, 1999.0]


def test_the_last_of_a_short_series_are_filled_in_front_and_added_up_without_gaps() -> None:
    history = History(1)
    history.merge(3000, {"added": [1, None, 3]})
    assert history.last("added", 5) == [None, None, 1, None, 3]
    assert history.added_up("added", 5) == 4
    assert history.added_up("failed", 5) is None


def test_after_the_first_time_only_what_is_new_is_asked_for() -> None:
    known = Known()
    assert known.missing(None, 1, 600, NOW) == 600
    known.take_history("h", None, {"step_s": 1, "until": NOW, "series": {"added": [0.0] * 600}}, NOW)
    assert known.missing(None, 1, 600, NOW) == 2
    assert known.missing(None, 1, 600, NOW + 5_000) == 7
    assert known.missing(None, 1, 600, NOW + 9_000_000) == 600
    assert known.missing("mail", 1, 12, NOW) == 12


def test_runs_that_end_each_second_are_told_from_the_totals() -> None:
    known = Known()
    for second in range(30):
        known.take("totals", {"completed": 200 * second, "failed": 0, "retried": 14 * second}, NOW + second * 1000)
    assert known.ended_per_s(NOW + 29_000) == pytest.approx(214, rel=0.01)
    known.take("totals", {"completed": 0, "failed": 0, "retried": 0}, NOW + 30_000)
    assert known.ended_per_s(NOW + 30_000) == 0.0


def test_history_in_which_nothing_is_another_value_is_no_news() -> None:
    known = Known()
    known.take_history("h", None, answer(10, [0.0] * 720), NOW)
    known.dirty = set()
    known.take_history("h", None, answer(11, [0.0, 0.0]), NOW)
    assert known.dirty == set()
    known.take_history("h", None, answer(12, [0.0, 1.0]), NOW)
    assert known.dirty == {"h"}

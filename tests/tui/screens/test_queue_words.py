"""A queue in words: what is not known is no number, and what stops it is told first."""

from __future__ import annotations

from tests.tui.fake import START_MS, queue
from tests.tui.stock import USUAL
from tui.formats import ASCII, UNICODE, cells
from tui.screens.queue_words import BUCKETS, STEP_S, More, course_of, fail_style, lines_of, row_of, state_of, wrapped
from tui.state import Body, History


def told(row: Body, more: More | None = None, width: int = 116) -> str:
    """The lines of a queue as text."""
    lines = lines_of(row, course_of(None), more or More(), UNICODE, START_MS, width)
    return "\n".join("".join(text for text, _ in line) for line in lines)


def history(**series: list[float | None]) -> History:
    return History(STEP_S, START_MS, dict(series))


def test_without_history_nothing_is_claimed() -> None:
    course = course_of(None)
    assert (course.rate, course.failing, course.p95) == (None, None, None)
    assert "p95 —" in told({**USUAL, **queue("a", 1)})


def test_rates_are_of_the_last_minute_and_shares_of_all_five() -> None:
    ended: list[float | None] = [0.0] * (BUCKETS - 6) + [60.0] * 6
    course = course_of(history(succeeded=ended, failed=[0.0] * BUCKETS, retried=[0.0] * (BUCKETS - 1) + [120.0], p95=[None, 7.0, None]))
    assert course.rate == (6 * 6.0 + 12) / 6
    assert course.failing == 120 / 480
    assert course.p95 == 7.0


def test_a_gap_in_the_history_is_a_gap_and_no_zero() -> None:
    course = course_of(history(succeeded=[None, 10.0], failed=[None, 0.0], retried=[None, 0.0]))
    assert course.ended[-2:] == (None, 1.0)
    assert course.rate == 1.0


def test_how_a_queue_is_has_a_word_and_not_only_a_colour() -> None:
    rows = [
        queue("a", 0), queue("a", 0, 2, 2), queue("a", 0, paused=True), queue("a", 0, held={"why": "load"}), queue("a", 0, external=True),
    ]  # fmt: skip
    rows[4]["external"] = True
    assert [state_of(row, UNICODE)[0].split()[1] for row in rows] == ["run", "limit", "pause", "held", "extern"]
    assert all(state_of(row, ASCII)[0].isascii() for row in rows)


def test_slots_without_a_limit_have_no_share() -> None:
    assert row_of(queue("a", 0, 3), course_of(None), UNICODE)["used"] is None
    assert row_of(queue("a", 0, 3, 4), course_of(None), UNICODE)["used"] == 0.75


def test_only_what_somebody_set_is_told() -> None:
    assert "nothing: all as by default" in told({**USUAL, **queue("a", 1)})
    assert "max tasks 10   routes a.*" in told({**USUAL, **queue("a", 1), "max_tasks": 10, "routes": ("a.*",)})


def test_many_kinds_of_errors_are_three_and_a_number() -> None:
    dead = [{"count": 5 - at, "error": f"E{at}", "message": "m"} for at in range(5)]
    text = told({**USUAL, **queue("a", 1)}, More(dead=dead))
    assert "✗ 5 E0: m" in text
    assert "E3" not in text
    assert "and 3 others" in text


def test_pieces_fill_lines_and_no_more() -> None:
    lines = wrapped("types   ", [f"piece{number:03}" for number in range(40)], 60)
    assert len(lines) == 8
    assert all(cells("".join(text for text, _ in line)) <= 60 for line in lines)


def test_failures_are_loud_by_their_share() -> None:
    assert [fail_style(share) for share in (None, 0.0, 0.001, 0.02, 0.05)] == ["dim", "dim", "text", "warn", "bad"]

"""The windows of limits: never more within a window than the rate, whatever order of takes, gifts back and clocks."""

from __future__ import annotations

from hypothesis import example, given
from hypothesis import strategies as st

from tq.store.limits import FULL, Limit
from tq.store.windows import GRAINS

STEPS = st.lists(st.tuples(st.integers(0, 3000), st.integers(1, 9)), max_size=60)


def taken_of(limit: Limit, steps: list[tuple[int, int]], start: int = 1_000_000) -> tuple[list[tuple[int, int]], tuple[int, ...]]:
    """What a greedy taker gets at these instants (by ms since the one before): (instant, count), and the log."""
    now, log, got = start, FULL, list[tuple[int, int]]()
    for later, wants in steps:
        now += later
        count = int(min(limit.tokens(log, now), wants))
        if count:
            log = limit.taken(log, count, now)
            got.append((now, count))
        elif limit.tokens(log, now) < 1:
            at = limit.opens_at(log)
            assert at > now
            assert limit.tokens(log, at - 1) < 1 <= limit.tokens(log, at)
    return got, log


@given(st.integers(1, 12), st.sampled_from([1, 7, 100, 1000, 5000, 60_000]), STEPS)
@example(2, 60_000, [(0, 1), (400, 1), (59_599, 1), (1, 1)])
def test_no_stretch_of_a_sliding_window_holds_more_than_its_rate(rate: int, per_ms: int, steps: list[tuple[int, int]]) -> None:
    got, log = taken_of(Limit("l", "type", "t", rate, per_ms, window="sliding"), steps)
    for at, _ in got:
        assert sum(count for when, count in got if at <= when < at + per_ms) <= rate
    assert len(log) <= 2 * (GRAINS + 2)


@given(st.integers(1, 12), st.sampled_from([1, 7, 1000, 60_000]), STEPS)
def test_no_fixed_window_holds_more_than_its_rate(rate: int, per_ms: int, steps: list[tuple[int, int]]) -> None:
    got, _ = taken_of(Limit("l", "type", "t", rate, per_ms, window="fixed"), steps)
    for at, _ in got:
        assert sum(count for when, count in got if when // per_ms == at // per_ms) <= rate


@given(st.integers(1, 12), STEPS)
def test_a_sliding_window_loses_no_more_than_a_grain(rate: int, steps: list[tuple[int, int]]) -> None:
    """Whoever is refused had as many within the window and a grain."""
    limit = Limit("l", "type", "t", rate, 10_000, window="sliding")
    got, log = taken_of(limit, steps)
    now = 1_000_000 + sum(later for later, _ in steps)
    within = sum(count for at, count in got if at > now - 10_000 - 10_000 // GRAINS - 1)
    assert rate - within <= limit.tokens(log, now)


@given(st.sampled_from(["sliding", "fixed"]), STEPS, st.integers(0, 20_000))
def test_a_clock_that_was_put_back_closes_a_window_for_its_time_at_most(window: str, steps: list[tuple[int, int]], back: int) -> None:
    limit = Limit("l", "type", "t", 5, 1000, window=window)
    now = 1_000_000 + sum(later for later, _ in steps) - back
    log = limit.sound(taken_of(limit, steps)[1], now)
    assert limit.tokens(log, now + 1000) == 5


@given(st.sampled_from(["sliding", "fixed"]), STEPS, st.integers(1, 9))
def test_what_is_given_back_at_once_is_there_again(window: str, steps: list[tuple[int, int]], count: int) -> None:
    limit = Limit("l", "type", "t", 99_999, 1000, window=window)
    log = taken_of(limit, steps)[1]
    now = 1_000_000 + sum(later for later, _ in steps) + 5
    after = limit.taken(log, count, now)
    for _ in range(count):
        after = limit.given_back(after, now)
    assert limit.tokens(after, now) == limit.tokens(log, now)
    assert limit.given_back(after, now - 2_000_000) == after


@given(st.sampled_from(["sliding", "fixed", "none"]), st.sampled_from(["sliding", "fixed", "none"]), STEPS, st.integers(1, 9))
def test_another_kind_of_limit_goes_on_with_what_was_taken(was: str, becomes: str, steps: list[tuple[int, int]], rate: int) -> None:
    old = Limit("l", "type", "t", 5, 1000, 5, window=was)
    log, now = taken_of(old, steps)[1], 1_000_000 + sum(later for later, _ in steps)
    new = Limit("l", "type", "t", rate, 1000, rate, window=becomes)
    used = 5 - old.tokens(log, now)
    assert rate - new.tokens(new.carried(log, old, now), now) == min(used, rate)

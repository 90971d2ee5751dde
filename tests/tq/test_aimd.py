"""Additive increase, multiplicative decrease: within its bounds, a step at a time, once a window."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from tq.aimd import LEAST, Rule, Window

RULES = st.builds(
    lambda low, more, latency, failures, factor, step: Rule(low, low + more, latency, failures, factor, step),
    st.integers(1, 40), st.integers(0, 300), st.sampled_from([0, 100]), st.integers(0, 50), st.integers(1, 99), st.integers(1, 5),
)  # fmt: skip
ENDS = st.lists(st.tuples(st.integers(0, 50), st.integers(0, 300), st.booleans(), st.booleans()), max_size=400)


def after(rule: Rule, window: Window, count: int, *, took: int = 1, failed: bool = False, pressed: bool = True, now: int = 10) -> Window:
    for _ in range(count):
        window = window.heard(rule, now, now, took, failed=failed, pressed=pressed)
    return window


@given(RULES, ENDS, st.data())
def test_the_level_stays_in_its_bounds_and_a_window_changes_it_once(
    rule: Rule, ends: list[tuple[int, int, bool, bool]], data: st.DataObject
) -> None:
    window, now, heard = Window(data.draw(st.integers(rule.low, rule.high))), 1000, 0
    for later, took, failed, pressed in ends:
        now += later
        before, window = window, window.heard(rule, now, now - took, took, failed=failed, pressed=pressed)
        heard += before.since <= now - took
        assert rule.low <= window.level <= rule.high
        if window.level > before.level:
            assert (window.level - before.level <= rule.step, before.pressed or pressed, heard >= LEAST) == (True, True, True)
        if window.level < before.level:
            assert window.since == now
            assert window.level >= min(before.level - 1, before.level * rule.factor // 100)
            assert (before.bad + failed) * 100 > rule.failures * LEAST or before.slow * 10 + 10 > LEAST
        if window.good + window.bad == 0 and before != window:
            heard = 0


@given(st.integers(1, 15), st.integers(0, 12), st.integers(0, 60), st.integers(1, 99))
def test_good_work_at_the_limit_comes_to_the_upper_bound_and_bad_work_to_the_lower(low: int, more: int, failures: int, factor: int) -> None:
    rule = Rule(low, low + more, 0, failures, factor)
    window = after(rule, Window(low), 27 * 12)
    assert window.level == low + more
    assert after(rule, window, 27 * 13, failed=True).level == low


def test_it_grows_by_a_step_for_a_window_and_only_if_it_was_reached() -> None:
    rule = Rule(1, 50)
    assert after(rule, Window(20), 19).level == 20
    assert after(rule, Window(20), 20) == Window(21)
    assert after(rule, Window(20), 200, pressed=False).level == 20


def test_it_shrinks_as_soon_as_too_many_have_failed_or_were_slow_and_what_began_before_counts_no_more() -> None:
    rule = Rule(1, 50, latency_ms=100)
    assert after(rule, Window(20), 2, failed=True) == Window(20, 0, 0, 2, 0, True)
    shrunk = after(rule, Window(20), 3, failed=True)
    assert shrunk == Window(18, 10)
    assert after(rule, shrunk, 50, failed=True, now=9) == shrunk
    assert after(rule, Window(20), 3, took=101) == Window(18, 10)
    assert after(rule, Window(20), 20, took=100).level == 21
    assert after(rule, Window(2), 2, failed=True).level == 1, "by one at the least"


def test_it_says_why() -> None:
    assert Window(5, 0, 9, 1, 2).why() == "of 10 outcomes 1 failed and 2 took too long"
    assert Window(5, 0, 9).why() == "9 outcomes went well"

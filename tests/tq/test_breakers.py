"""Breakers and the words of their rules, at instants that the test names."""

from __future__ import annotations

import pytest

from tq.breakers import CLOSED, COUNT_MOST, HALF_OPEN, OPEN, PARTS, Breaker, Rule, words_of

T = 1_700_000_000_000


def breaker(rule: str) -> Breaker:
    return Breaker(Rule.of(rule))


@pytest.mark.parametrize(
    ("words", "rule"),
    [
        ("5 failures", Rule()),
        ("1 failure in 90s", Rule(1, 90_000)),
        ("5 Failures in 1m,  COOL 30s", Rule(5, 60_000)),
        ("50% of 20", Rule(0, 0, 50, 20)),
        ("50% in 1m", Rule(0, 0, 50, 0, 60_000)),
        ("50% of 30 in 1m, 3 failures", Rule(3, 0, 50, 30, 60_000)),
        ("cool 1s", Rule(cool_ms=1000, cool_most_ms=20_000)),
        ("cool 10h", Rule(cool_ms=36_000_000, cool_most_ms=86_400_000)),
        ("cool 10s to 5m, probes 2, close 3", Rule(5, 0, 0, 0, 0, 10_000, 300_000, 2, 3)),
    ],
)
def test_a_rule_is_read_from_its_words_and_says_them_again(words: str, rule: Rule) -> None:
    assert Rule.of(words) == rule
    assert Rule.of(str(rule)) == rule


@pytest.mark.parametrize(
    "words",
    [
        "", "5", "failures", "0 failures", "1001 failures", "5 failures in", "5 failures in 0s", "5 failures in soon", "5 failures in 2d",
        "0% of 20", "101% of 20", "50%", "50% of 1001", "50% in 5ms", "cool 0s", "cool 2d", "cool 30s to 10s",
        "probes 0", "close 0", "probes 1001",
        "5 failures, 6 failures", "5 failures,", "\uff15 failures", "cool nan", "-5 failures",
    ],
)  # fmt: skip
def test_words_that_are_no_rule_are_refused(words: str) -> None:
    with pytest.raises(ValueError, match="expected"):
        Rule.of(words)


def test_it_opens_after_failures_in_a_row_and_a_success_between_them_counts() -> None:
    one = breaker("3 failures, cool 10s")
    one = one.heard(T, 0, 2).heard(T, 1, 0).heard(T, 0, 2)
    assert (one.state, one.row) == (CLOSED, 2)
    one = one.heard(T, 4, 1)
    assert (one.state, one.row) == (CLOSED, 1)
    one = one.heard(T, 0, 2, why="OSError: no")
    assert (one.state, one.since, one.until) == (OPEN, T, T + 10_000)
    assert one.why == "3 failures in a row; the last: OSError: no"
    assert one.enter(T + 9_000)[1] == (False, 0, 1000)


def test_it_opens_after_failures_within_a_time_whatever_succeeds_between_them() -> None:
    one = breaker("3 failures in 10s")
    one = one.heard(T, 0, 1).heard(T + 5000, 9, 1).heard(T + 5000, 9, 0)
    assert one.heard(T + 10_001, 0, 1).state == CLOSED
    assert one.heard(T + 9_999, 5, 1).why == "3 failures in 10s"


def test_it_opens_at_a_rate_of_the_last_calls() -> None:
    one = breaker("50% of 4")
    assert one.heard(T, 0, 3).state == CLOSED, "of too few"
    one = one.heard(T, 100, 0).heard(T, 0, 1)
    assert one.lately() == (4, 1)
    assert one.heard(T, 0, 1).why == "2 of 4 calls failed"
    assert one.heard(T, 2, 1).state == OPEN
    assert one.heard(T, 3, 1).state == CLOSED


def test_it_opens_at_a_rate_within_a_time_and_what_is_older_counts_no_more() -> None:
    one = breaker("50% in 10s")
    one = one.heard(T, 6, 0).heard(T, 0, 4)
    assert (one.state, one.lately()) == (CLOSED, (10, 4))
    assert one.heard(T + 1, 0, 2).why == "6 of 12 calls failed"
    late = one.heard(T + 10_000, 5, 5)
    assert (late.state, late.lately()) == (OPEN, (0, 0))
    assert one.heard(T + 10_000, 6, 4).lately() == (10, 4)


def test_what_it_remembers_is_bounded() -> None:
    by_time, by_count, row = breaker("100% in 10s"), breaker(f"100% of {COUNT_MOST}"), breaker(f"{COUNT_MOST} failures in 1d")
    for n in range(3000):
        by_time, by_count = by_time.heard(T + n * 10, 1, 1), by_count.heard(T + n, 1, 1)
    row = row.heard(T, 0, COUNT_MOST - 1)
    assert len(by_time.calls) <= PARTS + 1
    assert sum(good + bad for _, good, bad in by_count.calls) == COUNT_MOST
    assert len(row.failed_at) == COUNT_MOST - 1


def test_after_its_cool_down_so_many_probes_pass_and_their_successes_close_it() -> None:
    one = breaker("1 failure, cool 10s, probes 2, close 3").heard(T, 0, 1)
    assert one.looked(T + 9_999).state == OPEN
    one, first = one.enter(T + 10_000)
    one, second = one.enter(T + 10_000)
    one, third = one.enter(T + 10_000)
    assert (one.state, first, second, third) == (HALF_OPEN, (True, 1, 0), (True, 2, 0), (False, 0, 2500))
    one = one.heard(T + 10_001, 1, 0, number=1).heard(T + 10_001, 1, 0, number=2)
    assert (one.state, one.won, one.places) == (HALF_OPEN, 2, 2)
    one, last = one.enter(T + 10_002)
    one = one.heard(T + 10_003, 1, 0, number=last.number)
    assert (one.state, one.level, one.why) == (CLOSED, 0, "its probes succeeded")


def test_a_probe_that_fails_opens_it_for_twice_as_long_up_to_a_bound() -> None:
    one, now, cooled = breaker("1 failure, cool 1s to 5s").heard(T, 0, 1), T, []
    for _ in range(4):
        cooled.append(one.until - now)
        now = one.until
        one, probe = one.enter(now)
        one = one.heard(now, 0, 1, number=probe.number, why="no")
    assert (cooled, one.why) == ([1000, 2000, 4000, 5000], "a probe failed: no")
    one, probe = one.enter(one.until)
    one = one.heard(now, 1, 0, number=probe.number).heard(now, 0, 1)
    assert one.until - now == 1000, "a breaker that was closed begins anew"


def test_a_probe_of_which_nothing_is_heard_gives_its_place_back() -> None:
    one = breaker("1 failure, cool 1s").heard(T, 0, 1)
    one, probe = one.enter(T + 1000, lost_ms=500)
    assert one.enter(T + 1499)[1].go is False
    after, again = one.enter(T + 1500)
    assert (again.go, again.number) == (True, 2)
    assert after.heard(T + 1600, 0, 1, number=probe.number) == after, "what it says late is not asked for"
    freed = one.heard(T + 1100, 0, 0, number=probe.number)
    assert (freed.state, freed.places) == (HALF_OPEN, 1)


def test_calls_that_began_before_it_opened_or_closed_change_nothing() -> None:
    one = breaker("2 failures, cool 1s")
    epoch = one.epoch
    one = one.heard(T, 0, 2, epoch=epoch)
    assert one.heard(T, 0, 9, epoch=epoch) == one
    one, probe = one.enter(T + 1000)
    assert one.heard(T + 1001, 5, 0, epoch=epoch, number=probe.number) == one
    assert one.heard(T + 1001, 5, 0, epoch=one.epoch) == one, "it was no probe"
    closed = one.heard(T + 1001, 1, 0, epoch=one.epoch, number=probe.number)
    assert closed.state == CLOSED
    assert closed.heard(T + 1002, 0, 9, epoch=one.epoch).state == CLOSED


def test_it_is_tripped_and_reset_by_hand() -> None:
    one = breaker("5 failures, cool 1s").opened(T, "by hand", until=0)
    assert one.looked(T + 10**9).state == OPEN
    assert one.enter(T + 10**9)[1] == (False, 0, 1000)
    assert one.closed(T + 1, "by hand").enter(T + 2)[1].go
    assert Breaker(Rule()).opened(T, "x", until=T + 5).looked(T + 5).state == HALF_OPEN


def test_another_rule_forgets_what_was_counted_but_not_that_it_is_open() -> None:
    one = breaker("5 failures").heard(T, 0, 4)
    assert one.ruled(Rule.of("5 failures")).row == 4
    assert one.ruled(Rule.of("4 failures")).row == 0
    assert one.opened(T, "x").ruled(Rule.of("4 failures")).state == OPEN


def test_what_is_recorded_is_read_again_and_a_half_open_one_is_asked_anew() -> None:
    one = breaker("5 failures in 1m, cool 2s").opened(T, "so it is")
    assert Breaker.recorded(one.record()) == one
    half, _ = one.enter(T + 2000)
    read = Breaker.recorded(half.record())
    assert (read.looked(T + 2000).state, read.passes, read.until, read.epoch) == (HALF_OPEN, (), half.until, half.epoch)


def test_durations_are_in_the_largest_unit_that_says_them() -> None:
    assert [words_of(ms) for ms in (0, 250, 1000, 90_000, 120_000, 7_200_000, 86_400_000)] == [
        "0ms",
        "250ms",
        "1s",
        "90s",
        "2m",
        "2h",
        "1d",
    ]

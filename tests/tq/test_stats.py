"""Statistics: the numbers add up, percentiles are where they are said to be, and the body always fits a frame."""

from __future__ import annotations

import pytest

from tq import wire
from tq.model import STATES, State
from tq.stats import MOST, percentile, stats
from tq.store import Tally


def tally(queue: str = "q", kind: str = "t", runs: tuple[int, ...] = (), **numbers: int) -> Tally:
    found = Tally(queue, kind, **{key: value for key, value in numbers.items() if key not in STATES})
    for word, count in numbers.items():
        if word in STATES:
            found.states[State[word.upper()]] = count
    for ms in runs:
        found.ran(ms)
    return found


def test_an_empty_store_has_zeros_and_no_rates() -> None:
    body = stats([], 0, 0)
    assert body["states"] == dict.fromkeys(STATES, 0)
    assert (body["queue_length"], body["running"], body["utilisation"]) == (0, 0, 0.0)
    assert {body[key] for key in ("avg_process_time", "success_rate", "failure_rate", "p50", "p95", "p99")} == {None}
    assert (body["queues"], body["types"]) == ({}, {})


def test_totals_are_the_sums_of_queues_and_of_types() -> None:
    rows = [
        tally("a", "x", (100, 200), pending=3, running=1, succeeded=2), tally("a", "y", (400,), failed=1, retried=4, bytes=50),
        tally("b", "x", pending=10, bytes=7),
    ]  # fmt: skip
    rows[0].succeeded, rows[1].failed = 2, 1
    body = stats(rows, 1, 2)
    assert (body["queue_length"], body["running"], body["completed"], body["failed"], body["retried"], body["bytes"]) == (
        13,
        1,
        2,
        1,
        4,
        57,
    )
    assert (body["success_rate"], body["failure_rate"]) == (2 / 3, 1 / 3)
    assert body["avg_process_time"] == pytest.approx(0.7 / 3)
    assert body["workers"] == {"active": 1, "total": 2}
    assert body["utilisation"] == 0.5
    assert {name: one["queue_length"] for name, one in body["queues"].items()} == {"a": 3, "b": 10}
    assert {name: one["queue_length"] for name, one in body["types"].items()} == {"x": 13, "y": 0}
    assert [one["bytes"] for one in body["types"].values()] == [7, 50]
    assert body["not_shown"] == {"queues": 0, "types": 0}


@pytest.mark.parametrize("share", [0.5, 0.95, 0.99, 1.0])
def test_a_percentile_is_never_below_and_at_most_a_fifth_above(share: float) -> None:
    runs = tuple(range(1, 5000, 7))
    found = percentile(tally(runs=runs).times, share)
    true = sorted(runs)[max(int(share * len(runs)) - 1, 0)] / 1000
    assert found is not None
    assert true <= found <= true * 1.19 + 0.001


def test_looking_at_the_tallies_does_not_change_them() -> None:
    rows = [tally("a", "x", (1, 2, 3)), tally("b", "x", (1, 2, 3))]
    before = [row.row() for row in rows]
    stats(rows, 0, 1)
    assert [row.row() for row in rows] == before


def test_ten_thousand_queues_fit_a_frame_and_the_busiest_are_shown() -> None:
    long = "n" * 190
    rows = [tally(f"{long}{n:05}", f"{long}{n % 3000:05}", tuple(range(1, 100)), pending=n, bytes=1 << 40) for n in range(10_000)]
    body = stats(rows, 0, 1)
    assert len(wire.frame([1, 0, body])) < wire.MAX_FRAME
    assert sorted(body["queues"]) == [f"{long}{n:05}" for n in range(10_000 - MOST, 10_000)]
    assert body["not_shown"] == {"queues": 10_000 - MOST, "types": 3000 - MOST}
    assert body["queue_length"] == sum(range(10_000))

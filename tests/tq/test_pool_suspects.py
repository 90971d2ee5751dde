"""Types that kill their workers are tried rarely, so that there are workers for the others."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.tq.test_pool import Yard, now_ms
from tq.pool.suspects import IN_A_ROW, REST, START_MS, Suspects

APP = """
import os, signal, time
import tq

@tq.task
def quick(value=None):
    return value

@tq.task
def nap(seconds):
    time.sleep(seconds)

@tq.task
def may_die(dies):
    if dies: os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.fixture
def told() -> list[tuple[Any, ...]]:
    return []


@pytest.fixture
def suspects(told: list[tuple[Any, ...]]) -> Suspects:
    return Suspects(lambda event, level="info", **more: told.append((event, more["type"])))


def test_one_crash_holds_back_nothing_and_any_other_end_is_forgiving(suspects: Suspects) -> None:
    for now in (1000, 2000, 3000):
        suspects.crashed("t", now)
        assert suspects.types == frozenset()
        suspects.ended("t")
    assert suspects.crashes == {}


def test_crashes_in_a_row_make_a_suspect_that_is_tried_after_a_rest(suspects: Suspects, told: list[tuple[Any, ...]]) -> None:
    suspects.started(200)
    for number in range(IN_A_ROW):
        suspects.crashed("t", 1000 + number)
    assert suspects.types == {"t"}
    assert suspects.try_at == 1000 + IN_A_ROW - 1 + REST * 200
    suspects.tried(5000)
    assert suspects.try_at == 5000 + REST * 200
    suspects.ended("t")
    assert (suspects.types, suspects.crashes) == (frozenset(), {})
    assert told == [("type_suspected", "t"), ("type_trusted", "t")]


def test_all_suspects_together_share_one_try_and_a_start_counts_within_bounds(suspects: Suspects) -> None:
    suspects.started(10_000_000)
    for kind in "abc":
        for _ in range(IN_A_ROW):
            suspects.crashed(kind, 0)
    assert suspects.try_at == REST * START_MS[1]
    suspects.started(300)
    suspects.started(2000)  # many started at once
    suspects.tried(REST * START_MS[1])
    assert suspects.try_at == REST * (START_MS[1] + 300)
    suspects.started(0)
    suspects.tried(suspects.try_at)
    assert suspects.try_at == REST * (START_MS[1] + 300 + START_MS[0])


@pytest.fixture
def yard(data_dir: Path) -> Iterator[Callable[..., Any]]:
    made: list[Any] = []

    def make(**options: Any) -> Any:
        made.append(Yard(data_dir, app=APP, **options))
        made[-1].start()
        return made[-1]

    yield make
    for one in made:
        assert one.end() == []


def wanted(one: Any, now: int) -> list[set[str]]:
    return [set(want.types) - {"shell"} for want in one.pool.wants(now)]


def test_workers_ask_for_one_task_of_a_suspected_type_at_its_time_and_for_all_others_at_any(yard: Callable[..., Any]) -> None:
    one = yard(workers=2)
    every = {"quick", "may_die", "nap"}
    assert one.results(*one.give("may_die", True)) == ["crashed"]
    one.until(lambda: [child.state for child in one.pool.workers] == ["ready"] * 2, "two workers")
    assert wanted(one, now_ms()) == [every, every]  # one crash says nothing yet
    assert one.results(*one.give("may_die", True)) == ["crashed"]
    one.until(lambda: [child.state for child in one.pool.workers] == ["ready"] * 2, "two workers")
    try_at = one.pool._suspects.try_at
    assert wanted(one, try_at - 1) == [{"quick", "nap"}] * 2
    assert one.pool.next_due <= try_at  # the loop will ask again by then
    crashes, wait_ms = one.pool.held_back("may_die")
    assert (crashes, 0 <= wait_ms <= try_at) == (2, True)
    assert one.pool.held_back("quick") == (0, 0)
    assert wanted(one, try_at) == [{"quick", "nap"}, {"quick", "nap"}, {"may_die"}]
    (probe,) = [want for want in one.pool.wants(try_at) if "may_die" in want.types]
    assert probe.limit == 1
    assert one.results(*one.give("may_die", False)) == [0]  # it lives
    assert wanted(one, now_ms()) == [every, every]


def test_the_pool_says_who_has_a_type_how_long_it_ran_and_what_is_begun(yard: Callable[..., Any]) -> None:
    one = yard(workers=2)
    one.until(lambda: [child.state for child in one.pool.workers] == ["ready"] * 2, "two workers")
    assert [one.pool.crew_for(kind) for kind in ("quick", "shell", "odd")] == [(2, 0, 2), (2, 0, 2), (2, 0, 0)]
    assert one.pool.mean("quick") is None
    assert one.results(*one.give("quick", 1)) == [0]
    assert 0 <= one.pool.mean("quick") < 1000


def test_the_pool_says_what_a_worker_has_begun_and_what_stands_behind_it(yard: Callable[..., Any]) -> None:
    one = yard()
    first, *behind = one.give("nap", 30.0, count=3)
    one.until(lambda: one.pool.begun(first), "the first to begin")
    assert [one.pool.begun(task_id) for task_id in behind] == [False, False]
    assert one.pool.begun(1 << 40)  # of what is in nobody's hands nothing is known


def test_what_was_never_begun_says_nothing_of_its_type(yard: Callable[..., Any]) -> None:
    one = yard()
    (first,) = one.give("may_die", True)
    behind = one.give("may_die", False, count=5)
    assert one.results(first, *behind) == ["crashed", *["released"] * 5]
    assert one.pool._suspects.crashes == {"may_die": 1}

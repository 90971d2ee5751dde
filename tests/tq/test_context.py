"""What a running task knows, what a handler may say, and what it says of its progress."""

from __future__ import annotations

import logging
import threading
from datetime import timedelta
from typing import Any

import pytest

from tq.context import Cancel, Context, Permanent, Retry, Snooze, Stopped, correlation, current, run_alone, run_here
from tq.errors import UsageError
from tq.model import Header, Spec, duration_ms


def context(**header: Any) -> Context:
    return Context(Spec(42, Header("email", **header), b"", 1), 3, 1_700_000_000_000)


def test_a_running_task_knows_itself() -> None:
    here = context(queue="mail", timeout_ms=30_000, label="l", meta={"k": "v"}, correlation_id="c")
    run_alone(here)
    try:
        assert current() is here
        assert (here.id, here.attempt, here.type, here.queue, here.label, here.meta) == (42, 3, "email", "mail", "l", {"k": "v"})
        assert (here.correlation_id, here.deadline, here.cancelled) == ("c", 1_700_000_030.0, False)
        seen: list[Context] = []
        thread = threading.Thread(target=lambda: seen.append(current()))
        thread.start()
        thread.join()
        assert seen == [here]
    finally:
        run_alone(None)
    assert context().deadline is None


def test_tasks_side_by_side_each_know_themselves() -> None:
    seen: dict[int, Context] = {}

    def work(number: int) -> None:
        mine = Context(Spec(number, Header("x"), b"", 1), 1, 1)
        run_here(mine)
        barrier.wait(10)
        seen[number] = current()

    barrier = threading.Barrier(4)
    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {number: found.id for number, found in seen.items()} == {0: 0, 1: 1, 2: 2, 3: 3}


def test_outside_of_a_task_there_is_no_current_one() -> None:
    with pytest.raises(UsageError, match="inside a handler"):
        current()


def test_the_logger_carries_the_task(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        context().logger.info("hello")
    (record,) = caplog.records
    assert (record.name, record.task_id, record.attempt) == ("tq.task.email", 42, 3)  # type: ignore[attr-defined]


def test_wishes_keep_what_they_were_given() -> None:
    assert Snooze("5m").after_ms == 300_000
    assert Cancel("enough").why == "enough"
    assert Retry(after=30).after_ms == 30_000
    assert Retry("busy").after_ms is None
    assert str(Permanent("gone")) == "gone"
    with pytest.raises(ValueError, match="expected a duration"):
        Snooze("soon")


@pytest.mark.parametrize(
    ("value", "ms"),
    [
        (0, 0),
        (1.5, 1500),
        ("10s", 10_000),
        ("1h30m", 5_400_000),
        ("2d 4h", 187_200_000),
        ("250ms", 250),
        ("3", 3000),
        (timedelta(minutes=2), 120_000),
    ],
)
def test_durations_are_read_from_numbers_text_and_timedeltas(value: object, ms: int) -> None:
    assert duration_ms(value) == ms


@pytest.mark.parametrize(
    "value", ["", "x", "5y", "-1s", -1, None, True, float("nan"), float("inf"), "1e3", "99999999d", b"5s", timedelta(seconds=-1)]
)
def test_what_is_no_duration_is_refused(value: object) -> None:
    with pytest.raises(ValueError, match="expected a duration"):
        duration_ms(value)


# progress


class Told(Context):
    """Remembers what was said."""

    __slots__ = ("told",)

    def _report(self, fraction: float, text: str) -> None:
        self.told = (fraction, text)


@pytest.mark.parametrize(
    ("fraction", "text", "told"),
    [
        (0, "", (0.0, "")),
        (1, "done", (1.0, "done")),
        (0.4, "x" * 300, (0.4, "x" * 200)),
        (0.5, "red \x1b[31m", (0.5, "red \\x1b[31m")),
        (0.5, "\n" * 200, (0.5, "\\x0a" * 50)),
        (0.5, 17, (0.5, "17")),
    ],
)
def test_progress_is_cleaned_and_cut_before_it_leaves(fraction: float, text: Any, told: tuple[float, str]) -> None:
    here = Told(Spec(1, Header("x"), b"", 1), 1, 1)
    here.progress(fraction, text)
    assert here.told == told
    assert type(here.told[0]) is float


@pytest.mark.parametrize("fraction", [-0.1, 1.1, float("nan"), float("inf"), True, "0.5", None, [1]])
def test_progress_that_is_no_fraction_is_refused(fraction: Any) -> None:
    with pytest.raises(UsageError, match="expected a fraction from 0 to 1"):
        context().progress(fraction)


# belonging


def test_what_a_running_task_sends_belongs_to_it() -> None:
    assert correlation() is None
    try:
        run_here(context())
        assert correlation() == "42"
        run_here(context(correlation_id="order-17"))
        assert correlation() == "order-17"
    finally:
        run_here(None)


def test_the_time_that_is_left_ends_with_the_timeout_or_the_total_deadline() -> None:
    spec = Spec(1, Header("x", timeout_ms=5000, deadline_ms=60_000), b"", 1_000_000)
    assert Context(spec, 1, 1_010_000).deadline == 1015.0
    assert Context(spec, 2, 1_058_000).deadline == 1060.0


def test_wishes_may_be_raised_and_stopping_is_not_swallowed_by_except_exception() -> None:
    assert issubclass(Snooze, Exception)
    assert issubclass(Cancel, Exception)
    assert not issubclass(Stopped, Exception)
    assert str(Snooze("5m")) == "run again after 300 s"

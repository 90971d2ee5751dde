"""The fake for tests of applications: the real rules, in one process, at a clock turned by hand."""

from __future__ import annotations

import asyncio
import doctest
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

import tq
import tq.testing
from tq.client import adefault, default
from tq.errors import ConfigError, Conflict, DaemonNotRunning, TaskCancelled, TaskFailed, TaskTimeout, UnknownType, UsageError
from tq.model import Backoff

START = datetime(2030, 1, 1, tzinfo=UTC)


@pytest.fixture
def q(app: tq.App) -> Iterator[tq.testing.Fake]:
    with tq.testing.fake(app, now=START) as q:
        yield q


def states(q: tq.testing.Fake) -> list[str]:
    return [row["state"] for row in q.tasks]


def test_the_examples_of_the_room_are_true() -> None:
    found = doctest.testmod(tq.testing)
    assert (found.failed, found.attempted > 3) == (0, True)


def test_what_is_enqueued_runs_when_it_is_told_to(app: tq.App, q: tq.testing.Fake) -> None:
    ran: list[int] = []

    @app.task
    def work(n: int) -> int:
        ran.append(n)
        return n

    handles = [work.enqueue(n) for n in range(3)]
    assert ran == []
    assert q.run_next()
    assert ran == [0]
    assert q.run_all() == 2
    assert [handle.result() for handle in handles] == [0, 1, 2]
    assert not q.run_next()
    assert [(row["type"], row["state"], row["payload"]) for row in q.tasks] == [("work", "succeeded", {"n": n}) for n in range(3)]


def test_the_highest_priority_goes_first_and_what_waits_too_long_is_not_starved(app: tq.App, q: tq.testing.Fake) -> None:
    ran: list[str] = []
    work = app.task("work")(ran.append)
    work.options(priority="low").enqueue("low")
    for name in ("a", "b"):
        work.enqueue(name)
    work.options(priority="critical").enqueue("critical")
    q.run_all()
    assert ran == ["critical", "a", "b", "low"]


def test_a_failing_task_is_retried_by_its_backoff_and_ends_as_a_dead_letter(app: tq.App, q: tq.testing.Fake) -> None:
    at: list[float] = []

    @app.task("work", retries=3, backoff=Backoff.exponential("10s", jitter=False))
    def work() -> None:
        at.append((q.now - START).total_seconds())
        raise OSError(f"failure {len(at)}")

    handle = work.enqueue()
    assert q.run_all() == 1
    assert states(q) == ["retrying"]
    assert q.advance("9s") == 0
    assert q.advance("1h") == 3
    assert at == [0, 10, 30, 70]
    assert [attempt[5]["message"] for attempt in q.tasks[0]["attempts"]] == ["failure 1", "failure 2", "failure 3"]
    assert [frame[3] for frame in q.tasks[0]["error"]["frames"]] == ['raise OSError(f"failure {len(at)}")']  # the handler's own only
    with pytest.raises(TaskFailed, match="failure 4"):
        handle.result()


@pytest.mark.parametrize(
    ("raises", "runs"), [(ConnectionError(), 4), (BrokenPipeError(), 1), (ValueError(), 1), (tq.Retry("again"), 4), (tq.Permanent("no"), 1)]
)
def test_only_what_its_type_names_is_tried_again(app: tq.App, q: tq.testing.Fake, raises: Exception, runs: int) -> None:
    @app.task("work", retries=3, retry_on=(ConnectionError,), retry_never=(BrokenPipeError,))
    def work() -> None:
        raise raises

    work.enqueue()
    q.advance("1h")
    assert (q.tasks[0]["state"], q.tasks[0]["attempt"]) == ("failed", runs)


def test_a_backoff_of_its_own_decides_and_where_it_fails_the_default_holds_and_the_log_says_so(app: tq.App, q: tq.testing.Fake) -> None:
    answers: list[Any] = [5, timedelta(minutes=1), "2h", None, "soon", ZeroDivisionError("oops")]

    def patience(failures: int, error: BaseException) -> Any:
        answer = answers[failures - 1]
        if isinstance(answer, Exception):
            raise answer
        return answer

    @app.task("work", retries=6, backoff=patience)
    def work() -> None:
        raise OSError

    handle = work.enqueue()
    waits = []
    for _ in range(6):
        q.run_all()
        waits.append((q.tasks[0]["due_at"] - q.now.timestamp() * 1000) / 1000)
        q.advance(waits[-1])
    assert waits == [5, 60, 7200, 6, 12, 24]  # 1 s doubled each time, at the middle of its jitter
    notes = b"".join(data for _, stream, data in q.client.log_chunks(handle.id) if stream == 0).decode()
    assert notes.count("\n") == 2
    assert "the default backoff holds, since this type's own failed: ValueError: expected a duration" in notes
    assert "ZeroDivisionError: oops" in notes
    assert handle.log() == ""


def test_no_retry_begins_after_the_time_it_may_be_retried_for(app: tq.App, q: tq.testing.Fake) -> None:
    @app.task("work", retries=100, backoff=Backoff.fixed("10m", jitter=False), retry_for="25m")
    def work() -> None:
        raise OSError

    work.enqueue()
    work.options(retry_for="1h").enqueue()
    q.advance("1d")
    assert [(row["state"], row["attempt"]) for row in q.tasks] == [("failed", 3), ("failed", 7)]


def test_delays_instants_and_times_to_live_are_kept_to_the_millisecond(app: tq.App, q: tq.testing.Fake) -> None:
    at: list[float] = []
    work = app.task("work")(lambda: at.append((q.now - START).total_seconds()))
    work.options(delay="90s").enqueue()
    work.options(at=START + timedelta(seconds=60)).enqueue()
    work.options(ttl="30s", queue="paused").enqueue()
    q.client.set_queue("paused", paused=True)
    q.advance("89999ms")
    assert (at, states(q)) == ([60], ["scheduled", "succeeded", "expired"])
    q.advance("1ms")
    assert at == [60, 90]
    assert q.now == START + timedelta(seconds=90)


def test_a_task_that_runs_into_its_timeout_or_deadline_is_timed_out(app: tq.App, q: tq.testing.Fake) -> None:
    @app.task("work", timeout="30s", retries=1, backoff=Backoff.fixed("1s", jitter=False))
    def work() -> None:
        q.advance("31s")

    work.enqueue()
    work.options(timeout="10m", deadline="20s", retries=9).enqueue()
    q.run_all()
    q.advance("1m")
    assert [(row["state"], row["attempt"]) for row in q.tasks] == [("failed", 2), ("expired", 1)]
    assert q.tasks[0]["error"]["type"] == "TimedOut"


def test_a_handler_may_snooze_and_cancel_by_returning_or_raising(app: tq.App, q: tq.testing.Fake) -> None:
    @app.task("work", retry_never=(Exception,))
    def work(how: str) -> str:
        if tq.current().attempt > 1:
            return "woke"
        wishes = {"s": tq.Snooze("5m"), "c": tq.Cancel("no longer needed")}
        if how.isupper():
            raise wishes[how.lower()]
        return wishes[how]  # type: ignore[return-value]

    handles = [work.enqueue(how) for how in "sScC"]
    q.run_all()
    assert states(q) == ["scheduled", "scheduled", "cancelled", "cancelled"]
    q.advance("5m")
    assert [handle.result() for handle in handles[:2]] == ["woke", "woke"]
    assert [row["failures"] for row in q.tasks] == [0] * 4
    with pytest.raises(TaskCancelled, match="no longer needed"):
        handles[3].result()


def test_what_a_running_task_enqueues_belongs_to_it(app: tq.App, q: tq.testing.Fake) -> None:
    @app.task
    def parent() -> None:
        child.enqueue()
        child.options(correlation_id="mine").enqueue()
        default().enqueue("child")
        default().enqueue_many([("child", None), ("child", None, {"label": "last"})])
        asyncio.run(amain())

    async def amain() -> None:
        await child.aenqueue()
        await (await adefault()).enqueue("child")

    @app.task
    def child() -> None:
        if tq.current().id == 2:
            child.enqueue()

    parent.enqueue()
    parent.options(correlation_id="order-17").enqueue()
    q.run_next()
    q.run_next()
    assert [row["correlation_id"] for row in q.tasks] == [
        None, "order-17", "1", "mine", "1", "1", "1", "1", "1", *["order-17", "mine"], *["order-17"] * 5,
    ]  # fmt: skip
    q.run_all()


def test_a_grandchild_belongs_to_the_first_task(app: tq.App, q: tq.testing.Fake) -> None:
    @app.task
    def nest(depth: int) -> None:
        if depth:
            nest.enqueue(depth - 1)

    nest.enqueue(3)
    q.run_all()
    assert [row["correlation_id"] for row in q.tasks] == [None, "1", "1", "1"]


def test_whoever_waits_for_a_task_runs_it_also_inside_another(app: tq.App, q: tq.testing.Fake) -> None:
    @app.task
    def sum_of(depth: int) -> int:
        mine = tq.current().id
        found = depth + (sum_of.enqueue(depth - 1).result() if depth else 0)
        assert tq.current().id == mine
        return found

    assert sum_of.enqueue(3).result() == 6
    assert sum_of.options(delay="1h").enqueue(0).state() == "scheduled"
    with pytest.raises(TaskTimeout, match=r"task 5 .* is scheduled, due in 3600 s, and no time passes"):
        q.client.wait([5])
    with pytest.raises(UsageError, match="outside of one"):
        tq.current()


def test_a_cancel_reaches_waiting_and_running_tasks(app: tq.App, q: tq.testing.Fake) -> None:
    seen: list[bool] = []

    @app.task
    def work(stop: bool) -> None:
        here = tq.current()
        seen.append(here.cancelled)
        if stop:
            assert q.client.cancel([here.id]) == ["asked"]
            seen.append(here.cancelled)
            raise RuntimeError("stopped early")

    work.options(delay="1h").enqueue(False).cancel()
    work.enqueue(True)
    q.advance("2h")
    assert states(q) == ["cancelled", "cancelled"]
    assert seen == [False, True]


def test_progress_is_seen_while_the_task_runs(app: tq.App, q: tq.testing.Fake) -> None:
    seen: list[Any] = []

    @app.task
    def work() -> None:
        tq.current().progress(0.5, "half")
        seen.append(q.client.get(tq.current().id)["progress"])

    work.enqueue()
    q.run_all()
    assert seen == [[0.5, "half"]]
    assert q.tasks[0]["progress"] is None


def test_async_programs_and_async_handlers_work_inside_and_outside_of_an_event_loop(app: tq.App, q: tq.testing.Fake) -> None:
    @app.task
    async def fetch(n: int) -> int:
        await asyncio.sleep(0)
        assert tq.current().type == "fetch"
        if n:
            await fetch.aenqueue(n - 1)
        return n

    async def main() -> list[int]:
        handles = [await fetch.aenqueue(2), await fetch.aenqueue(0)]
        q.run_all()
        async with tq.aconnect() as client:
            assert (await client.stats())["completed"] == 4
        return [await handle.result() for handle in handles]

    assert asyncio.run(main()) == [2, 0]
    assert fetch.enqueue(0).result() == 0


def test_a_handler_may_enqueue_from_a_thread_of_its_own(app: tq.App, q: tq.testing.Fake) -> None:
    @app.task
    def work(spread: bool) -> None:
        if spread:
            thread = threading.Thread(target=lambda: work.enqueue(False).wait())
            thread.start()
            thread.join(10)
            assert not thread.is_alive()

    work.enqueue(True)
    q.run_all()
    assert states(q) == ["succeeded", "succeeded"]


def test_keys_and_unique_names_hold(app: tq.App, q: tq.testing.Fake) -> None:
    work = app.task("work")(lambda n=0: n)
    first = work.options(key="order-17").enqueue(1)
    assert work.options(key="order-17").enqueue(1).id == first.id
    with pytest.raises(Conflict, match=r"key 'order-17' .* expected the request that task 1 was sent with"):
        work.options(key="order-17").enqueue(2)
    one = work.options(unique="report").enqueue(1)
    with pytest.raises(Conflict, match=r"unique 'report'"):
        work.options(unique="report").enqueue(2)
    assert work.options(unique="report", on_conflict="existing").enqueue(2).id == one.id
    other = work.options(unique="report", on_conflict="replace").enqueue(3)
    q.run_all()
    assert (one.state(), other.result()) == ("cancelled", 3)


def test_a_task_of_an_unknown_type_is_refused_and_one_declared_later_is_known(app: tq.App, q: tq.testing.Fake) -> None:
    with pytest.raises(UnknownType):
        q.client.enqueue("late")
    app.task("late")(lambda: "here")
    assert q.client.enqueue("late").result() == "here"


def test_commands_stay_pending_and_what_needs_a_daemon_says_so(q: tq.testing.Fake) -> None:
    q.client.enqueue("shell", {"argv": ["true"]})
    assert q.run_all() == 0
    assert states(q) == ["pending"]
    with pytest.raises(UsageError, match="expected a verb that needs neither processes nor files, got 'workers'"):
        q.client.workers()


def test_inside_a_fake_nothing_reaches_a_daemon_and_afterwards_everything_does(app: tq.App, data_dir: Path) -> None:
    with tq.testing.fake(app) as outer:
        with tq.testing.fake(app) as inner, tq.connect(data_dir) as client:
            client.enqueue("shell")
            assert len(inner.tasks) == 1
        default().enqueue("shell")
        assert len(outer.tasks) == 1
    with pytest.raises(DaemonNotRunning), tq.connect(data_dir) as client:
        client.stats()


def test_a_task_that_enqueues_itself_for_ever_is_noticed(app: tq.App, q: tq.testing.Fake, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tq.testing, "MOST", 50)

    @app.task
    def again() -> None:
        again.enqueue()

    again.enqueue()
    with pytest.raises(UsageError, match="Does a task enqueue itself"):
        q.run_all()


@pytest.mark.parametrize("raises", [SystemExit(3), tq.Stopped(), asyncio.CancelledError()])
def test_whatever_a_handler_raises_ends_its_run_as_in_a_worker(app: tq.App, q: tq.testing.Fake, raises: BaseException) -> None:
    @app.task("work", retries=0)
    def work() -> None:
        raise raises

    work.enqueue()
    assert (q.run_all(), states(q)) == (1, ["failed"])


def test_a_handler_sees_that_its_time_is_up(app: tq.App, q: tq.testing.Fake) -> None:
    seen: list[bool] = []

    @app.task("work", timeout="30s", retries=0)
    def work() -> None:
        for _ in range(2):
            q.advance("20s")
            seen.append(tq.current().cancelled)

    work.enqueue()
    q.run_all()
    assert seen == [False, True]


def test_ctrl_c_in_a_handler_reaches_the_test(app: tq.App, q: tq.testing.Fake) -> None:
    @app.task
    def work() -> None:
        raise KeyboardInterrupt

    work.enqueue()
    with pytest.raises(KeyboardInterrupt):
        q.run_all()
    with pytest.raises(UsageError, match="outside of one"):
        tq.current()


def test_results_that_are_too_large_or_no_data_are_as_in_a_worker(app: tq.App, q: tq.testing.Fake) -> None:
    big = app.task("big")(lambda: "x" * 100_000)
    bad = app.task("bad", retries=0)(lambda: {1, 2})
    assert big.enqueue().result() is None
    with pytest.raises(TaskFailed, match="cannot be stored"):
        bad.enqueue().result()


def test_a_consumer_outside_the_pool_has_its_lease_of_the_same_clock(q: tq.testing.Fake) -> None:
    q.client.set_queue("out", external=True)
    q.client.enqueue("letter", "hello", queue="out")
    (claimed,) = q.client.claim(["out"], lease="30s")
    assert claimed["payload"] == "hello"
    q.advance("31s")
    assert states(q) == ["pending"]
    assert q.client.settle([(claimed["id"], claimed["claim"], "succeeded", {})]) == [False]


def test_two_applications_with_a_type_in_common_are_refused(app: tq.App) -> None:
    other = tq.App()
    for one in (app, other):
        one.task("same")(lambda: None)
    with tq.testing.fake(app, other) as q, pytest.raises(ConfigError, match="'same' in two of them"):
        q.run_all()

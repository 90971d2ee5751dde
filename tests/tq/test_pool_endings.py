"""How tasks end that do not end by themselves: in time, all of them, and nobody else's work with them.

The bar of the product: within timeout + grace + 200 ms, and no process remains. ``LATE_S`` is those 200 ms.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.living import pressure
from tests.tq.test_pool import Yard, now_ms
from tq.model import Header, Spec, pack
from tq.store import Claimed, Want

pytestmark = pytest.mark.no_cover  # the bars are for workers as they are used
TIMEOUT_MS, GRACE_MS, LATE_S = 400, 500, 0.2
BAR_S = (TIMEOUT_MS + GRACE_MS) / 1000 + LATE_S
NAP = f"4711.{os.getpid()}"
"""Seconds, by which the sleepers of this process's tests are told from any other."""

APP = """
import asyncio, concurrent.futures, ctypes, os, signal, subprocess, sys, threading, time
import tq

helpers = concurrent.futures.ProcessPoolExecutor(1)

def note(path, *words):
    with open(path, "a") as file: print(*words, file=file)

@tq.task
def quick(value=None):
    return value

@tq.task
def endless():
    while True: pass

@tq.task
def stubborn():
    while True:
        try:
            while True: time.sleep(0.001)
        except BaseException:
            pass

@tq.task
def sleeps(seconds=60):
    time.sleep(seconds)
    return "slept"

@tq.task
def in_c():
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    ctypes.PyDLL(None).sleep(3600)  # with the interpreter's lock: no other thread of the worker runs

@tq.task
def stops():
    os.kill(os.getpid(), signal.SIGSTOP)

@tq.task
def forks(how, path):
    script = {"child": "sleep NAP", "setsid": "setsid sleep NAP & sleep NAP"}[how]
    child = subprocess.Popen(["sh", "-c", "sleep NAP & " + script])
    note(path, child.pid)
    while True:
        try:
            time.sleep(60)
        except BaseException:
            pass

@tq.task
def leaves(path):
    note(path, subprocess.Popen(["sleep", "NAP"]).pid)
    time.sleep(60)

@tq.task
def has_helped(what, number):
    return helpers.submit(*{"pow": (pow, number, 2), "sleep": (time.sleep, number)}[what]).result()

@tq.task
def leaves_a_thread():
    threading.Thread(target=time.sleep, args=(600,)).start()

@tq.task
def dies(path):
    note(path, subprocess.Popen(["sleep", "NAP"]).pid)
    time.sleep(0.2)
    os.kill(os.getpid(), signal.SIGKILL)

@tq.task
def dies_of(number):
    os.kill(os.getpid(), number)

@tq.task
def says(path):
    while not os.path.exists(path): time.sleep(0.005)
    for step in range(3):
        tq.current().progress(step / 3)
        time.sleep(0.12)
    return "done"

@tq.task
async def swallows(path):
    while True:
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            note(path, "cancelled")

@tq.task
async def coroutine(path):
    try:
        await asyncio.sleep(60)
    finally:
        note(path, "cleaned up")

@tq.task
def cleans_up(path):
    try:
        while True: time.sleep(60)
    except Exception:
        note(path, "swallowed")
    finally:
        note(path, "cleaned up", tq.current().cancelled)

@tq.task
def looks(path):
    while not tq.current().cancelled: time.sleep(0.005)
    note(path, "saw it")
    return "in time"

@tq.task
def prints():
    while True: print("x" * 200)

@tq.task
def traced():
    def step():
        return "went on"
    sys.settrace(lambda *_: None)
    try:
        return step()
    finally:
        sys.settrace(None)

@tq.task
def takes_term(path):
    def on_term(*_):
        note(path, "term")
        raise SystemExit(3)
    signal.signal(signal.SIGTERM, on_term)
    while True:
        try:
            while True: time.sleep(0.01)
        except tq.Stopped:
            note(path, "stopped")
""".replace("NAP", NAP)


@pytest.fixture
def yard(data_dir: Path) -> Iterator[Callable[..., Any]]:
    made: list[Any] = []

    def make(**options: Any) -> Any:
        made.append(Yard(data_dir, **{"app": APP, "grace_ms": GRACE_MS, **options}))
        made[-1].start()
        return made[-1]

    yield make
    for one in made:
        assert one.end() == []


def sleepers() -> list[int]:
    """Those that are still there when what was killed has had the time to go."""
    deadline = time.monotonic() + 1
    while found := [one.pid for one in psutil.process_iter(["cmdline"]) if one.info["cmdline"] == ["sleep", NAP]]:
        if time.monotonic() > deadline:
            break
        time.sleep(0.01)
    return found


def ends(one: Any, task: int) -> tuple[str, float]:
    """What became of a task, and how many seconds after it began; a machine that is slow itself is not blamed on tq."""
    one.begun(task)
    began, pressed = time.monotonic(), pressure()
    (kind,) = one.results(task)
    took = time.monotonic() - began
    return kind, max(took - (pressure() - pressed), min(took, TIMEOUT_MS / 1000))


def lives_on(one: Any, pid: int) -> None:
    assert [child.process.pid for child in one.pool.workers] == [pid]
    assert one.results(*one.give("quick", 1)) == [0]


@pytest.mark.parametrize("kind", ["endless", "sleeps"])
def test_a_function_that_does_not_look_is_stopped_and_its_worker_lives_on(yard: Callable[..., Any], kind: str) -> None:
    one = yard()
    pid = one.pool.workers[0].process.pid
    (task,) = one.give(kind, timeout_ms=TIMEOUT_MS)
    ended, took = ends(one, task)
    assert ended == "timed_out"
    assert TIMEOUT_MS / 1000 - 0.05 <= took < BAR_S - GRACE_MS / 2000
    error = one.rows[task][6]["error"]
    assert error["type"] == "TimedOut"
    assert error["frames"][-1][2] == kind  # where it was
    lives_on(one, pid)


@pytest.mark.parametrize("kind", ["stubborn", "in_c", "stops"])
def test_what_hears_nothing_is_killed_within_the_bar(yard: Callable[..., Any], kind: str) -> None:
    one = yard()
    pid = one.pool.workers[0].process.pid
    (task,) = one.give(kind, timeout_ms=TIMEOUT_MS)
    behind = one.give("quick", 1, count=3)
    ended, took = ends(one, task)
    assert ended == "timed_out"
    assert took < BAR_S
    assert not psutil.pid_exists(pid)  # settled only when it is reaped
    assert set(one.results(*behind)) == {"released"}


@pytest.mark.parametrize("how", ["child", "setsid"])
def test_what_a_function_started_is_ended_with_it(yard: Callable[..., Any], how: str, tmp_path: Path) -> None:
    one = yard()
    (task,) = one.give("forks", how, str(tmp_path / "note"), timeout_ms=TIMEOUT_MS)
    one.until(lambda: len(sleepers()) == (3 if how == "setsid" else 2), "all are there")
    ended, took = ends(one, task)
    assert ended == "timed_out"
    assert took < BAR_S
    assert sleepers() == []


@pytest.mark.parametrize("script", ["sleep NAP & sleep NAP", "trap '' TERM; sleep NAP & setsid sleep NAP & sleep NAP; sleep NAP"])
def test_what_a_command_started_is_ended_with_it(yard: Callable[..., Any], script: str) -> None:
    one = yard()
    pid = one.pool.workers[0].process.pid
    (task,) = one.give("shell", "sh", "-c", script.replace("NAP", NAP), timeout_ms=TIMEOUT_MS)
    one.until(lambda: len(sleepers()) == script.count("&") + 1, "all are there")
    ended, took = ends(one, task)
    assert ended == "timed_out"
    assert took < BAR_S
    assert sleepers() == []
    lives_on(one, pid)


def test_a_stopped_command_in_a_stopped_worker_ends_too(yard: Callable[..., Any]) -> None:
    one = yard()
    (task,) = one.give("shell", "sh", "-c", f"setsid sleep {NAP} & kill -STOP $PPID; kill -STOP $$", timeout_ms=TIMEOUT_MS)
    ended, took = ends(one, task)
    assert ended == "timed_out"
    assert took < BAR_S
    assert sleepers() == []


def test_what_a_stopped_function_left_behind_is_ended_and_its_worker_makes_place(yard: Callable[..., Any], tmp_path: Path) -> None:
    one = yard(grace_ms=20_000)  # on a machine that is busy, too, it ends by itself
    pid = one.pool.workers[0].process.pid
    (task,) = one.give("leaves", str(tmp_path / "note"), timeout_ms=TIMEOUT_MS)
    behind = one.give("quick", 1, count=3)
    assert ends(one, task)[0] == "timed_out"
    assert not psutil.pid_exists(int((tmp_path / "note").read_text()))  # not even as a zombie
    assert set(one.results(*behind)) == {"released"}
    one.until(lambda: [(child.state, child.process.pid == pid) for child in one.pool.workers] == [("ready", False)], "another worker")
    assert [event for event, _ in one.log] == ["worker_started", "worker_leaves", "worker_started"]
    assert one.results(*one.give("quick", 1)) == [0]


def test_helpers_of_a_module_end_with_a_function_that_is_stopped_and_the_next_task_has_others(yard: Callable[..., Any]) -> None:
    """They do the stopped task's work, however old they are: it must not go on beside its next attempt."""
    one = yard()
    assert one.results(*one.give("has_helped", "pow", 3)) == [0]
    worker = psutil.Process(one.pool.workers[0].process.pid)
    (helper,) = worker.children()
    (late,) = one.give("has_helped", "sleep", 60, timeout_ms=TIMEOUT_MS)
    ended, took = ends(one, late)
    assert ended == "timed_out"
    assert took < BAR_S
    assert not helper.is_running()
    one.until(lambda: [child.state for child in one.pool.workers] == ["ready"], "a worker is ready")
    (after,) = one.give("has_helped", "pow", 4)
    assert one.results(after) == [0]
    assert one.rows[after][6] == pack(16)


def test_a_command_that_is_stopped_leaves_helpers_of_functions_alone(yard: Callable[..., Any]) -> None:
    one = yard()
    pid = one.pool.workers[0].process.pid
    assert one.results(*one.give("has_helped", "pow", 3)) == [0]
    (late,) = one.give("shell", "sleep", NAP, timeout_ms=TIMEOUT_MS)
    assert ends(one, late)[0] == "timed_out"
    lives_on(one, pid)
    assert one.results(*one.give("has_helped", "pow", 4)) == [0]


@pytest.mark.parametrize(("kind", "noted"), [("coroutine", "cleaned up\n"), ("cleans_up", "cleaned up True\n")])
def test_who_is_stopped_may_clean_up(yard: Callable[..., Any], tmp_path: Path, kind: str, noted: str) -> None:
    one = yard()
    pid = one.pool.workers[0].process.pid
    (task,) = one.give(kind, str(tmp_path / "note"))
    one.begun(task)
    one.pool.cancel(task)
    assert one.results(task) == ["stopped"]
    assert (tmp_path / "note").read_text() == noted
    lives_on(one, pid)


def test_who_sees_that_it_was_asked_ends_by_itself_and_what_it_returns_counts(yard: Callable[..., Any], tmp_path: Path) -> None:
    one = yard(grace_ms=4000)
    (task,) = one.give("looks", str(tmp_path / "note"))
    one.begun(task)
    one.pool.cancel(task)
    assert one.results(task) == [0]
    assert one.rows[task][6] == pack("in time")


def test_a_coroutine_that_swallows_its_cancellation_is_ended_with_its_worker(yard: Callable[..., Any], tmp_path: Path) -> None:
    one = yard()
    (task,) = one.give("swallows", str(tmp_path / "note"), timeout_ms=TIMEOUT_MS)
    ended, took = ends(one, task)
    assert ended == "timed_out"
    assert took < BAR_S
    assert (tmp_path / "note").read_text() == "cancelled\n"


def test_a_handler_that_takes_term_for_itself_has_its_last_word(yard: Callable[..., Any], tmp_path: Path) -> None:
    one = yard()
    (task,) = one.give("takes_term", str(tmp_path / "note"), timeout_ms=TIMEOUT_MS)
    ended, took = ends(one, task)
    assert ended == "timed_out"
    assert took < BAR_S
    assert (tmp_path / "note").read_text() == "stopped\nterm\n"
    one.until(lambda: [child.state for child in one.pool.workers] == ["ready"], "another worker is there: TERM was the end of that one")


def test_what_was_printed_before_the_end_is_whole(yard: Callable[..., Any], data_dir: Path) -> None:
    from tq import output

    one = yard(grace_ms=5000)
    pid = one.pool.workers[0].process.pid
    for _ in range(5):
        (task,) = one.give("prints", timeout_ms=100)
        assert ends(one, task)[0] == "timed_out"
        lines = b"".join(data for _, stream, data in output.read(data_dir / "logs", task, 0, 1 << 19)[0] if stream == 1).splitlines()
        assert lines
        assert set(lines[:-1]) == {b"x" * 200}
    lives_on(one, pid)


def test_with_more_slots_one_is_stopped_and_the_others_go_on(yard: Callable[..., Any]) -> None:
    one = yard(slots=3)
    pid = one.pool.workers[0].process.pid
    (late,) = one.give("endless", timeout_ms=TIMEOUT_MS)
    (other,) = one.give("sleeps", 1.5)
    ended, took = ends(one, late)
    assert (ended, one.rows[late][6]["error"]["type"]) == ("timed_out", "TimedOut")
    assert took < BAR_S
    assert one.results(other) == [0]
    lives_on(one, pid)


def test_with_more_slots_the_neighbours_of_one_that_hears_nothing_are_interrupted_not_blamed(yard: Callable[..., Any]) -> None:
    one = yard(slots=3)
    (late,) = one.give("stubborn", timeout_ms=TIMEOUT_MS)
    (other,) = one.give("sleeps", 30)
    one.begun(other)
    ended, took = ends(one, late)
    assert ended == "timed_out"
    assert took < BAR_S
    assert one.results(other) == ["interrupted"]


@pytest.mark.parametrize("slots", [1, 3])
def test_nothing_of_a_stop_reaches_the_task_after_it(yard: Callable[..., Any], slots: int) -> None:
    """Cancels around the end of short tasks: each ends as itself, and no worker is lost."""
    one = yard(slots=slots, grace_ms=2)
    one.pool._grace_ms = 5000  # the pool never kills: what goes wrong would be seen
    pid = one.pool.workers[0].process.pid
    ends = set()
    for number in range(150):
        first, second = *one.give("sleeps", 0.004 + (number % 7) * 0.001), *one.give("quick", number)
        one.until(lambda first=first: one.pool.workers[0].board.count >= first, "it has begun")
        until = time.monotonic() + (number % 11) * 0.001
        while time.monotonic() < until:
            pass
        one.pool.cancel(first)
        ends |= set(one.results(first))
        assert one.results(second) == [0]
        assert one.rows[second][6] == pack(number)
    assert ends == {0, "stopped"}  # it came too late for some, and for some in time
    assert [child.process.pid for child in one.pool.workers] == [pid]


def test_what_comes_after_a_stopped_function_may_be_traced(yard: Callable[..., Any]) -> None:
    """Debuggers, profilers and coverage: up to Python 3.11 a traced call waits for ever while an exception is said to be on its way."""
    one = yard(slots=3)
    pid = one.pool.workers[0].process.pid
    (late,) = one.give("endless", timeout_ms=TIMEOUT_MS)
    assert ends(one, late)[0] == "timed_out"
    (after,) = one.give("traced", timeout_ms=5000)
    assert one.results(after) == [0]
    lives_on(one, pid)


# workers that are let go


def test_a_worker_that_was_let_go_ends_whatever_threads_its_handlers_have_left(yard: Callable[..., Any]) -> None:
    one = yard()
    assert one.results(*one.give("leaves_a_thread")) == [0]
    old = one.pool.workers[0]
    one.pool.restart([old.name], now_ms())
    one.until(lambda: old.state == "draining", "its successor is there")
    began = time.monotonic()
    one.until(lambda: old not in one.pool.workers, "it is gone")
    assert time.monotonic() - began < GRACE_MS / 1000 + LATE_S
    assert one.results(*one.give("quick", 1)) == [0]


def test_a_check_of_an_application_that_starts_threads_comes_to_its_end(yard: Callable[..., Any]) -> None:
    one = yard(app=APP + "threading.Thread(target=time.sleep, args=(600,)).start()")
    one.pool.spawn(now_ms(), only_checks=True)
    one.until(lambda: one.pool.checked, "it is checked", 10)
    ((_, types, refused),) = one.pool.checked
    assert refused is None
    assert "quick" in [info.name for info in types]


def test_nobody_is_started_in_a_pool_that_ends(yard: Callable[..., Any]) -> None:
    one = yard()
    (task,) = one.give("sleeps", 0.5)
    one.begun(task)
    one.pool.drain()
    one.pool.set_sizes(3, 3, now_ms())
    assert len(one.pool.workers) == 1
    one.until(lambda: one.pool.empty, "it is over", 5)
    assert one.results(task) == [0]


@pytest.mark.parametrize(("number", "how"), [(signal.SIGTERM, "SIGTERM"), (signal.SIGRTMIN + 3, "a real-time signal")])
def test_a_worker_may_die_of_any_signal(yard: Callable[..., Any], number: int, how: str) -> None:
    one = yard()
    (task,) = one.give("dies_of", int(number))
    assert one.results(task) == ["crashed"]
    error = one.rows[task][6]
    assert (error["exit_code"], error["error"]["message"].endswith(f"signal {int(number)} ({how})")) == (128 + number, True)


def test_a_crash_in_a_worker_that_was_let_go_leaves_no_process(yard: Callable[..., Any], tmp_path: Path) -> None:
    one = yard()
    (task,) = one.give("dies", str(tmp_path / "pid"))
    one.begun(task)
    one.until((tmp_path / "pid").exists, "it has a child")
    one.pool.drain()
    assert one.results(task) == ["crashed"]
    one.until(lambda: one.pool.empty and not sleepers(), "all are gone", 5)


def test_an_answer_behind_much_progress_counts_though_its_worker_has_ended(yard: Callable[..., Any], tmp_path: Path) -> None:
    one = yard()
    (task,) = one.give("says", str(tmp_path / "go"))
    one.begun(task)
    one.pool.drain()
    (tmp_path / "go").touch()
    process = psutil.Process(one.pool.workers[0].process.pid)
    while process.status() != psutil.STATUS_ZOMBIE:  # nobody hears it meanwhile
        time.sleep(0.01)
    assert one.results(task) == [0]


# the total deadline


def hand_out(one: Any, kind: str, *args: Any, created_ago_ms: int, **fields: int) -> int:
    one.last += 1
    header = Header(kind, **fields)
    record = Spec(one.last, header, pack([*args]), now_ms() - created_ago_ms, 1).record()
    one.pool.hand_out(Want(one.pool.workers[0].name, 1), [Claimed(one.last, 1, 0, 0, header, record)], now_ms(), now_ms())
    return int(one.last)


def test_a_deadline_ends_what_runs_whatever_its_timeout(yard: Callable[..., Any]) -> None:
    one = yard()
    task = hand_out(one, "sleeps", 60, created_ago_ms=9_600, deadline_ms=10_000, timeout_ms=60_000)
    ended, took = ends(one, task)
    assert ended == "timed_out"
    assert took < BAR_S
    assert one.rows[task][6]["error"]["message"] == "it was not over by its deadline"


def test_a_timeout_before_the_deadline_is_a_timeout(yard: Callable[..., Any]) -> None:
    one = yard()
    task = hand_out(one, "sleeps", 60, created_ago_ms=0, deadline_ms=60_000, timeout_ms=200)
    assert ends(one, task)[0] == "timed_out"
    assert "timeout of 0.2 s" in one.rows[task][6]["error"]["message"]


def test_what_is_past_its_deadline_is_not_begun(yard: Callable[..., Any]) -> None:
    one = yard()
    task = hand_out(one, "sleeps", 60, created_ago_ms=10_001, deadline_ms=10_000)
    assert one.results(task) == ["released"]
    assert one.pool.slots == (0, 1)


def test_a_handler_cannot_be_taken_for_the_signal_between_threads(yard: Callable[..., Any]) -> None:
    """The worker's own signal from outside, while nothing was asked: nothing happens."""
    one = yard()
    (task,) = one.give("sleeps", 0.3)
    one.begun(task)
    os.kill(one.pool.workers[0].process.pid, signal.SIGRTMIN)
    assert one.results(task) == [0]

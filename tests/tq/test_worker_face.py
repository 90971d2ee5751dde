"""What a type says of its tasks, kept by a real worker: retries, backoff, progress, middleware, typed payloads, belonging."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgpack
import pytest

from tests.tq.test_worker import Pool
from tq.model import Header, Spec
from tq.output import NOTE

APPLICATION = """
import dataclasses, logging, os, threading, time
import tq

class Busy(Exception): pass
class Gone(Busy): pass

def patience(failures, error):
    if str(error) == "leaves": raise SystemExit(4)
    if str(error) == "broken": raise LookupError("no idea \\x1b[31m")
    return {"default": None, "five": 5.0}.get(str(error), failures * 10)

@tq.task(retry_on=(Busy,), retry_never=Gone, backoff=patience)
def choosy(kind, why=""):
    if kind == "wish": raise tq.Snooze("5m") if why == "snooze" else tq.Cancel("enough")
    raise {"busy": Busy, "gone": Gone, "value": ValueError, "retry": tq.Retry, "exit": SystemExit, "permanent": tq.Permanent}[kind](why)

@tq.task(retry_on=Busy)
async def achoosy():
    raise ValueError("async")

@tq.task(retry_on=Busy)
def until_cancelled():
    while not tq.current().cancelled: time.sleep(0.005)
    raise ValueError("asked to end")

@tq.task
def steps(count, pause=0.0):
    here = tq.current()
    for step in range(count):
        here.progress(step / count, f"step {step}")
        time.sleep(pause)

@tq.task
async def asteps():
    tq.current().progress(0.25, "async")

@tq.task
def late():
    here = tq.current()
    threading.Timer(0.2, here.progress, (1, "late")).start()
    here.progress(0.5, "in time")

@tq.task
def half_way(path):
    tq.current().progress(0.1, "first")
    tq.current().progress(0.5, "second")
    while not os.path.exists(path): time.sleep(0.005)

@tq.task
def wrong_progress(): tq.current().progress(2)

@tq.task
def counts(): return [tq.current().attempt, tq.current().failures]

@dataclasses.dataclass
class Order:
    number: int

class Pay(tq.Task[Order, list[int]]):
    type = "pay"
    def __init__(self):
        self.seen = []
    def execute(self, payload: Order) -> list[int]:
        self.seen.append(payload.number)
        return self.seen

class Async(tq.Task[int, int]):
    type = "async"
    async def execute(self, payload: int) -> int:
        return payload + 1

@tq.around_run
def around(context, run):
    if context.label == "swap": return "swapped"
    if context.label == "log": tq.current().logger.warning("before")
    return run()
"""


@pytest.fixture(params=[1, 3], ids=["one slot", "three slots"])
def pool(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Pool]:
    (tmp_path / "mine.py").write_text(APPLICATION)
    pool = Pool(tmp_path, "mine", slots=request.param)
    yield pool
    pool.close()


def failed(pool: Pool, kind: str, payload: Any = None, failures: int = 0, retries: int = 5) -> dict[str, Any]:
    """The details of a task that must fail."""
    spec = Spec(1, Header(kind, retries=retries), b"" if payload is None else msgpack.packb(payload), 1)
    pool.tasks.send(msgpack.packb([False, [[1, 1, failures, spec.record(), failures]]]))
    row = only(pool.answer())
    assert row[2] == "failed", row
    details: dict[str, Any] = row[6]
    return details


def only(record: list[Any]) -> list[Any]:
    """The one row of an answer."""
    (row,) = record if isinstance(record[0], list) else (record,)
    assert isinstance(row, list)
    return row


@pytest.mark.parametrize(
    ("kind", "permanent"), [("busy", False), ("gone", True), ("value", True), ("exit", True), ("retry", False), ("permanent", True)]
)
def test_only_what_the_type_names_is_tried_again(pool: Pool, kind: str, permanent: bool) -> None:
    assert failed(pool, "choosy", [kind, "default"]).get("permanent", False) is permanent


def test_an_async_handler_is_judged_the_same(pool: Pool) -> None:
    assert failed(pool, "achoosy")["permanent"] is True


def test_what_a_task_raises_because_it_was_asked_to_end_is_not_judged(pool: Pool) -> None:
    pool.send((1, "until_cancelled", None))
    deadline = time.monotonic() + 10
    while not pool.begun(1):
        assert time.monotonic() < deadline
        time.sleep(0.005)
    pool.tell("cancel", 1)
    answer = only(pool.answer())
    assert answer[2] == "failed"
    assert "permanent" not in answer[6]


@pytest.mark.parametrize(
    ("failures", "why", "delay_ms"),
    [(0, "x", 10_000), (2, "x", 30_000), (0, "five", 5000), (0, "default", None), (4, "x", 50_000), (5, "x", None)],
)
def test_the_types_own_backoff_gives_the_delay_of_a_retry_that_is_left(pool: Pool, failures: int, why: str, delay_ms: int | None) -> None:
    assert failed(pool, "choosy", ["busy", why], failures).get("delay_ms") == delay_ms


@pytest.mark.parametrize(("why", "said"), [("broken", "LookupError: no idea \\x1b[31m"), ("leaves", "SystemExit: 4")])
def test_a_backoff_that_fails_leaves_the_default_and_a_note_in_the_log(pool: Pool, why: str, said: str) -> None:
    assert "delay_ms" not in failed(pool, "choosy", ["busy", why])
    note = pool.said(stream=NOTE).decode()
    assert note == f"the default backoff holds, since this type's own failed: {said}\n"


@pytest.mark.parametrize(("why", "kind", "details"), [("snooze", "snoozed", {"delay_ms": 300_000}), ("cancel", "stopped", None)])
def test_wishes_may_be_raised_whatever_the_type_says_of_exceptions(pool: Pool, why: str, kind: str, details: Any) -> None:
    row = pool.run("choosy", ["wish", why])
    assert row[2] == kind
    assert row[6] == (details or {"error": {"type": "Cancel", "message": "enough"}})


def test_a_handler_knows_how_often_it_ran_and_failed(pool: Pool) -> None:
    pool.tasks.send(msgpack.packb([False, [[1, 7, 4, Spec(1, Header("counts"), b"", 1).record(), 2]]]))
    assert msgpack.unpackb(pool.answer()[0][6]) == [5, 2]


# progress


def told(pool: Pool) -> tuple[list[list[Any]], list[Any]]:
    """The rows of progress until the next answer, and that."""
    rows = []
    while isinstance((record := pool.answer())[0], str):
        rows.append(record)
    return rows, record


def test_progress_is_told_at_most_ten_times_a_second_and_the_last_word_before_the_end(pool: Pool) -> None:
    began = time.monotonic()
    pool.send((1, "steps", [1000, 0.0005]))
    rows, ((task_id, *_),) = told(pool)
    took = time.monotonic() - began
    assert task_id == 1
    assert rows[0] == ["progress", 1, 1, 0.0, "step 0"]
    assert rows[-1] == ["progress", 1, 1, 0.999, "step 999"]
    assert 2 <= len(rows) <= took / 0.1 + 2
    assert [row[3] for row in rows] == sorted(row[3] for row in rows)


def test_the_last_word_does_not_wait_for_the_end_of_a_long_task(pool: Pool, tmp_path: Path) -> None:
    pool.send((1, "half_way", [str(tmp_path / "go")]))
    assert pool.answer() == ["progress", 1, 1, 0.1, "first"]
    assert pool.answer() == ["progress", 1, 1, 0.5, "second"]  # by the look at what long tasks say
    (tmp_path / "go").touch()
    assert pool.answer()[0][:3] == [1, 1, 0]


def test_nothing_is_told_of_a_task_that_is_over(pool: Pool) -> None:
    pool.send((1, "late", None))
    rows, _ = told(pool)
    assert [row[3:] for row in rows] == [[0.5, "in time"]]
    pool.send((2, "steps", [1, 0.4]))
    rows, _ = told(pool)
    assert [row[1] for row in rows] == [2]


def test_a_coroutine_tells_its_progress_and_a_wrong_one_fails_its_task(pool: Pool) -> None:
    pool.send((1, "asteps", None))
    assert told(pool)[0] == [["progress", 1, 1, 0.25, "async"]]
    assert "from 0 to 1, got 2" in failed(pool, "wrong_progress")["error"]["message"]


# typed, and around them


def test_a_typed_handler_is_made_once_and_gets_what_its_type_says(pool: Pool) -> None:
    assert pool.result("pay", {"number": 3}) == [3]
    assert pool.result("pay", {"number": 4}) == [3, 4]
    assert pool.result("async", 4) == 5


def test_a_typed_handler_refuses_what_does_not_fit_for_good(pool: Pool) -> None:
    details = failed(pool, "pay", {"number": "3"})
    assert details["permanent"] is True
    assert details["error"]["message"].startswith("task 'pay': the payload is no Order: number: Input should be a valid integer, got '3'")
    assert [frame[2] for frame in details["error"]["frames"]] == ["around"]  # none of tq's own
    assert failed(pool, "pay", None)["permanent"] is True


def test_middleware_goes_around_every_handler_and_its_frames_are_its_own(pool: Pool) -> None:
    assert msgpack.unpackb(pool.run("counts", label="swap")[6]) == "swapped"
    assert msgpack.unpackb(pool.run("counts", label="log")[6]) == [1, 0]
    functions = [frame[2] for frame in failed(pool, "choosy", ["value"])["error"]["frames"]]
    assert functions == ["around", "choosy"]


def test_a_worker_whose_middleware_does_not_fit_says_so_and_does_not_start(tmp_path: Path) -> None:
    (tmp_path / "bad.py").write_text(
        "import tq\n@tq.task\ndef work(): ...\n@tq.around_run\nasync def around(context, run): return await run()\n"
    )
    pool = Pool(tmp_path, "bad")
    try:
        word, text = pool.hello
        assert (word, "plain handler of 'work', got `async def` bad.around" in text) == ("refused", True)
        assert pool.process.wait(10) == 3
    finally:
        pool.close()
    assert os.path.exists(tmp_path)

"""Answers: they fit a frame, errors of ours keep their words, and a bug's text stays inside."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable
from typing import Any

import pytest

from tq import wire
from tq.answers import LEAST, Pairs, answer, error_answer, fitting, handed_out, outcome_of
from tq.errors import Refused, UnknownType
from tq.lists import Lists, Tasks
from tq.model import MAX_NAME, Header, Spec, State, Status, Task
from tq.query import parse
from tq.store import Claimed, Draft
from tq.waiting import Request


def decoded(data: bytes) -> list[Any]:
    assert len(data) - 4 <= wire.MAX_FRAME
    frames = wire.Frames()
    frames.feed(data)
    (body,) = frames.take()
    found = wire.message(body)
    assert isinstance(found, list)
    return found


def row(task_id: int, payload: bytes = b"", **status: Any) -> dict[str, Any]:
    name = "n" * MAX_NAME
    header = Header(name, name, label=name, tenant=name, flow=name, correlation_id=name, meta={"k": "v" * 4000})
    return Task(Spec(task_id, header, payload, 1), Status(State.FAILED, worker="w" * 30, **status)).row()


def test_the_least_that_is_left_of_a_task_is_as_small_as_it_is_said_to_be() -> None:
    task = decoded(fitting(1, {"tasks": [row(1 << 62, b"x" * 900_000), row(2, b"y" * 900_000)], "next": None}))[2]["tasks"][1]
    assert task["cut"]
    assert len(wire.pack(task)) <= LEAST


@pytest.mark.parametrize("size", [10, 2000, 60_000, 262_144])
def test_a_page_of_the_largest_tasks_fits_and_those_that_are_cut_say_so(size: int) -> None:
    error = {"type": "E", "message": "m" * 3900}
    rows = [row(n, b"p" * size, error=error, result=b"r" * 65_000) for n in range(1, 500)]
    tasks = decoded(fitting(7, {"tasks": [None, *rows], "next": b"x"}))[2]["tasks"]
    assert [task and task["id"] for task in tasks] == [None, *range(1, 500)]
    tasks = decoded(fitting(7, {"tasks": [None, *rows[:100]], "next": b"x"}))[2]["tasks"]
    whole = [task for task in tasks if task and not task.get("cut")]
    assert len(whole) >= 800_000 // (size + 75_000)
    assert all(len(task["payload"]) == size and len(task["result"]) == 65_000 for task in whole)
    assert all(task["payload"] is task["result"] is task["error"] is None for task in tasks if task and task.get("cut"))


def peak(work: Callable[[], object]) -> int:
    """Bytes that are needed at most while ``work`` runs."""
    tracemalloc.start()
    try:
        work()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    "large",
    [{"payload": b"x" * (200 << 10)}, {"result": b"x" * (200 << 10)}, {"error": {"m": "x" * (200 << 10)}}],
    ids=["payload", "result", "error"],
)
def test_a_page_that_cannot_fit_is_cut_before_it_is_packed(large: dict[str, Any]) -> None:
    rows = [row(n, **large) for n in range(1, 501)]
    assert peak(lambda: fitting(1, {"tasks": rows, "next": None})) < 8 << 20


def test_a_list_keeps_no_more_of_large_tasks_than_its_answer_holds() -> None:
    lists = Lists(lambda: 0.0)
    answers: list[tuple[int, bytes]] = []
    found = ((Task(Spec(n, Header("t"), bytes(200 << 10), 1), Status(State.FAILED)), b"c") for n in range(500))
    lists.add(Request(1, 7, "find", {}), found, parse(""), Tasks(500, Task.row))
    assert peak(lambda: answers.extend(lists.read_on(1, 0))) < 8 << 20
    tasks = decoded(answers[0][1])[2]["tasks"]
    assert [task["id"] for task in tasks] == list(range(500))
    assert len([task for task in tasks if not task.get("cut")]) >= 3


def test_a_small_task_behind_a_large_one_stays_whole() -> None:
    tasks = decoded(fitting(1, {"tasks": [row(1, b"x" * 1_100_000), row(2, b"small")]}))[2]["tasks"]
    assert [task.get("cut", False) for task in tasks] == [True, False]


def test_any_other_answer_that_is_too_large_becomes_an_error() -> None:
    assert decoded(answer(3, {"chores": []})) == [3, 0, {"chores": []}]
    number, kind, (code, text, _) = decoded(answer(3, {"chores": ["x" * 1000] * 2000}))
    assert (number, kind, code) == (3, 1, "usage")
    assert "Ask for less" in text


def test_errors_of_ours_travel_whole_and_others_without_their_text() -> None:
    assert decoded(error_answer(1, Refused("full", retry_after=2.0))) == [1, 1, ["refused", "full", {"retry_after": 2.0}]]
    assert decoded(error_answer(1, UnknownType("who?", known=["a"])))[2] == ["unknown_type", "who?", {"known": ["a"]}]
    code, text, details = decoded(error_answer(1, KeyError("a secret")))[2]
    assert (code, details) == ("error", {})
    assert "KeyError" in text
    assert "secret" not in text


def test_a_claimed_task_says_all_that_a_consumer_needs() -> None:
    header = Header("t", "q", priority=7, timeout_ms=9, label="l", meta={"a": "b"}, tenant="x", correlation_id="c", extras={"argv": ["ls"]})
    spec = Spec(5, header, b"data", 1)
    body = handed_out(Claimed(5, 3, 2, 0, header, spec.record()), 30_000)
    assert body == {
        "id": 5, "claim": 3, "type": "t", "queue": "q", "payload": b"data", "attempt": 3,
        "priority": 7, "timeout_ms": 9, "lease_ms": 30_000,
        "label": "l", "meta": {"a": "b"}, "tenant": "x", "correlation_id": "c", "extras": {"argv": ["ls"]},
    }  # fmt: skip


def test_a_workers_row_becomes_its_outcome() -> None:
    more = {"error": {"type": "E"}, "exit_code": 3, "delay_ms": 5, "permanent": True, "worker": "w1"}
    found = outcome_of([1, 2, "failed", 10, 20, True, more])
    assert (found.kind, found.started_at, found.finished_at, found.output) == ("failed", 10, 20, True)
    assert (found.error, found.exit_code, found.delay_ms, found.permanent, found.worker) == ({"type": "E"}, 3, 5, True, "w1")
    assert outcome_of([1, 2, "released", 0, 0, False, None]).error is None


def test_pairs_are_a_sequence_of_ids_and_drafts() -> None:
    drafts = [Draft(Header("t"), b""), Draft(Header("u"), b"")]
    pairs = Pairs([1, 2], drafts)
    assert list(pairs) == pairs[:] == [(1, drafts[0]), (2, drafts[1])]
    assert (len(pairs), pairs[-1][0]) == (2, 2)

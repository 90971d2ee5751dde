"""Workflows: what is sent for them, how they are found again, what state they are in, and what a retry runs."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import tq
import tq.testing
from tq import workflows
from tq.cli.workflows import rows_of
from tq.errors import NoSuchTask, TaskTimeout, UsageError
from tq.model import unpack

APP = tq.App()
BROKEN: set[str] = set()


@APP.task(retries=0)
def work(x: object = None, name: str = "") -> object:
    if name in BROKEN:
        raise ValueError(name)
    return [name, x]


@pytest.fixture
def q() -> Iterator[tq.testing.Fake]:
    BROKEN.clear()
    with tq.testing.fake(APP) as fake:
        yield fake


def nightly() -> tq.Workflow:
    flow = tq.workflow("nightly")
    first = flow.step("first", work.si(1, "first"))
    parts = flow.step("parts", tq.group(work.s(f"part{n}") for n in range(3)), after=first)
    last = flow.step("last", work.s("last"), after=[first, parts])
    flow.step("told", work.si(None, "told"), after_any=last)
    flow.step("undone", work.si(None, "undone"), after_failure=last)
    return flow


def test_the_tasks_of_a_workflow_stand_together_and_know_their_places(q: tq.testing.Fake) -> None:
    q.client.enqueue("work", {"name": "another"})
    run = nightly().enqueue()
    assert run.id == 2
    rows = run.tasks()
    assert [workflows.step_of(row) for row in rows] == ["first", "parts[0]", "parts[1]", "parts[2]", "last", "told", "undone"]
    assert [row["meta"]["workflow.place"] for row in rows][::6] == ["1/7", "7/7"]
    assert (run.state(), workflows.run_of(q.client, 5).id) == ("pending", 2)
    assert run.wait() == "succeeded"
    part = ["part0", ["first", 1]]
    assert run.results()["parts[0]"] == part
    assert run.results()["last"][1] == [["first", 1], part, ["part1", ["first", 1]], ["part2", ["first", 1]]]
    assert [one.id for one in workflows.runs(q.client)] == [2]
    assert workflows.runs(q.client, name="weekly") == []
    with pytest.raises(NoSuchTask, match="which is of none"):
        workflows.run_of(q.client, 1)


def test_a_retry_runs_what_did_not_succeed_and_what_comes_after_it(q: tq.testing.Fake) -> None:
    BROKEN.add("part1")
    run = nightly().enqueue()
    assert run.wait() == "failed"
    assert [row["state"] for row in run.tasks()] == ["succeeded", "succeeded", "failed", "succeeded", "cancelled", "succeeded", "cancelled"]
    BROKEN.clear()
    assert run.retry() == [3, 5, 6, 7]
    assert run.state() == "running"
    assert run.wait() == "succeeded"
    assert [row["attempt"] for row in run.tasks()] == [1, 1, 2, 1, 1, 2, 0]
    assert run.retry() == []


def test_a_workflow_is_cancelled_as_a_whole_and_found_when_its_first_task_is_gone(q: tq.testing.Fake) -> None:
    run = nightly().enqueue()
    q.run_next()
    assert run.cancel() == 6
    assert run.state() == "cancelled"
    q.client.remove(1)
    assert len(workflows.run_of(q.client, 3).tasks()) == 6
    with pytest.raises(NoSuchTask):
        workflows.Run(q.client, 1).tasks()


def test_waiting_for_a_workflow_ends_in_time(q: tq.testing.Fake) -> None:
    flow = tq.workflow("slow")
    flow.step("one", work.si().set(delay="1h"))
    with pytest.raises(TaskTimeout):
        flow.enqueue().wait(1)


def test_what_cannot_be_a_workflow_is_refused_before_it_is_sent(q: tq.testing.Fake) -> None:
    flow = tq.workflow("w")
    with pytest.raises(UsageError, match="at least one step"):
        flow.enqueue()
    flow.step("a", work.si())
    with pytest.raises(UsageError, match="'a' twice"):
        flow.step("a", work.si())
    with pytest.raises(UsageError, match="printable name"):
        flow.step("\x1b", work.si())
    flow.step("b", work.si().set(key="k"))
    with pytest.raises(UsageError, match="step 'b': key: expected a task of its own"):
        flow.enqueue()
    assert q.tasks == []


@pytest.mark.parametrize(
    ("words", "state"),
    [
        (["succeeded", "left out"], "succeeded"), (["succeeded", "blocked"], "running"), (["scheduled", "blocked"], "pending"),
        (["succeeded", "failed", "cancelled"], "failed"), (["cancelled", "expired"], "expired"), (["left out", "cancelled"], "cancelled"),
    ],
)  # fmt: skip
def test_the_state_of_a_workflow_is_that_of_its_tasks(words: list[str], state: str) -> None:
    skipped = {"state": "cancelled", "error": {"type": "ParentNotFailed"}}
    assert workflows.state_of([skipped if word == "left out" else {"state": word, "error": None} for word in words]) == state


# -- files ---------------------------------------------------------------------------------------------------------


def test_a_file_becomes_tasks_in_an_order_in_which_parents_stand_first(tmp_path: Path) -> None:
    steps: dict[str, Any] = {
        "last": {"after": "mapped", "after-any": ["first"], "type": "t", "payload": {"x": 1}, "retries": 2},
        "mapped": {"after": ["first"], "map": [1, "two"], "type": "t", "payload": {"item": "{}", "text": "<{}>", "list": ["{}"]}},
        "first": {"command": ["ls", "-l"], "cwd": str(tmp_path), "meta": {"k": "v"}},
        "each": {"map": ["a;b"], "command": "echo {}", "after_failure": "first", "in": "1h"},
        "items": {"map": [{"a": 1}], "type": "t"},
    }
    name, rows = rows_of({"name": "w", "steps": steps})
    by_step = {row[2]["meta"]["workflow.step"]: row for row in rows}
    order = list(by_step)
    assert name == "w"
    assert order.index("first") < order.index("mapped[0]") < order.index("last")
    place = {step: -1 - at for at, step in enumerate(order)}
    last, mapped = by_step["last"], by_step["mapped[1]"]
    assert (last[2]["after"], last[2]["after_any"]) == ([place["mapped[0]"], place["mapped[1]"]], [place["first"]])
    assert (last[2]["retries"], unpack(last[1])) == (2, {"x": 1})
    assert unpack(mapped[1]) == {"item": "two", "text": "<two>", "list": ["two"]}
    assert unpack(by_step["mapped[0]"][1])["item"] == 1
    assert by_step["first"][2]["extras"]["cwd"] == str(tmp_path)
    assert by_step["first"][2]["meta"]["k"] == "v"
    assert unpack(by_step["each[0]"][1])["argv"] == ["/bin/sh", "-c", 'echo "$1"', "sh", "a;b"]  # no part of the program
    assert (by_step["each[0]"][2]["after_failure"], by_step["each[0]"][2]["delay_ms"]) == ([place["first"]], 3_600_000)
    assert unpack(by_step["items[0]"][1]) == {"a": 1}


A = {"command": "true"}


@pytest.mark.parametrize(
    ("file", "message"),
    [
        ({}, "expected name"), ({"name": "w"}, "expected name"), ({"name": "w", "steps": {"a": 1}}, "expected name"),
        ({"name": "w", "steps": {"a": A}, "stages": {}}, "got 'stages'"), ({"name": "\x1b", "steps": {"a": A}}, "printable name"),
        ({"name": "w", "steps": {"a": {**A, "retires": 1}}}, "such as after, map and retries, got 'retires'. Did you mean 'retries'"),
        ({"name": "w", "steps": {"a": {**A, "key": "k"}}}, "command or type, and options such as after, map and retries, got 'key'"),
        ({"name": "w", "steps": {"a": {}}}, "step 'a': expected either a command or a type"),
        ({"name": "w", "steps": {"a": {**A, "type": "t"}}}, "got both"),
        ({"name": "w", "steps": {"a": {"type": "t", "cwd": "/"}}}, 'cwd: expected a "command"'),
        ({"name": "w", "steps": {"a": {**A, "map": []}}}, "map: expected a list"),
        ({"name": "w", "steps": {"a": {**A, "after": 1}}}, "after: expected the name of a step"),
        ({"name": "w", "steps": {"build": A, "b": {**A, "after": "biuld"}}}, "got 'biuld'. Did you mean 'build'"),
        ({"name": "w", "steps": {"a": {**A, "after": "b"}, "b": {**A, "after_any": "a"}}}, "in a circle, got a > b > a"),
        ({"name": "w", "steps": {"a": {**A, "timeout": "soon"}}}, "step 'a': --timeout: expected a duration"),
    ],
)  # fmt: skip
def test_a_file_that_cannot_be_used_is_refused_with_the_step(file: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError) as error:
        rows_of(file)
    assert message in error.value.message or message.replace("a > b > a", "b > a > b") in error.value.message


@pytest.mark.parametrize("name", ["", "[x", "[0]"])
def test_a_step_without_a_name_stands_once_in_the_tree_too(name: str) -> None:
    """Anybody may write such a note; the tree was drawn without an end."""
    rows = [{"id": at, "meta": {workflows.STEP: name}, "parents": [at - 1] if at > 1 else []} for at in (1, 2)]
    assert [(depth, step, len(some)) for depth, step, some in workflows.tree(rows)] == [(0, "", 2)]


def test_a_step_stands_once_in_the_tree_below_the_deepest_that_it_comes_after() -> None:
    def row(number: int, step: str, *parents: int) -> dict[str, Any]:
        return {"id": number, "meta": {"workflow.step": step}, "parents": list(parents)}

    rows = [row(1, "a"), row(2, "b[0]", 1), row(3, "b[1]", 1), row(4, "c", 1, 2, 3), row(5, "d"), row(6, "e", 4, 5, 99)]
    assert [(depth, step, len(some)) for depth, step, some in workflows.tree(rows)] == [
        (0, "a", 1),
        (1, "b", 2),
        (2, "c", 1),
        (3, "e", 1),
        (0, "d", 1),
    ]


def test_brackets_in_names_that_make_one_step_of_two_lose_no_task() -> None:
    def row(number: int, step: str, *parents: int) -> dict[str, Any]:
        return {"id": number, "meta": {"workflow.step": step}, "parents": list(parents)}

    rows = [row(1, "a[x]"), row(2, "b", 1), row(3, "a[y]", 2)]
    assert [(depth, step, len(some)) for depth, step, some in workflows.tree(rows)] == [(0, "a", 2), (1, "b", 1)]

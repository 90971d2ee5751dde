"""Signatures: what chains, groups and fan-in send, and what their tasks are called with, by the rules of the daemon."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest

import tq
import tq.testing
from tq.errors import TaskCancelled, TaskFailed, UsageError
from tq.signature import INTO, RESULTS_A_CALL

APP = tq.App()


@APP.task
def add(x: int, y: int = 10) -> int:
    return x + y


@APP.task
def total(numbers: list[int]) -> int:
    return sum(numbers)


@APP.task
def listed(first: int, /, *more: int) -> list[int]:
    return [first, *more]


@APP.task
async def seen() -> dict[str, Any]:
    return {str(one): value for one, value in tq.current().parents.items()}


@APP.task(retries=0)
def fails(x: int = 0) -> int:
    raise ValueError(x)


@APP.task
def shown(x: object) -> object:
    return x


@pytest.fixture
def q() -> Iterator[tq.testing.Fake]:
    with tq.testing.fake(APP) as fake:
        yield fake


def test_a_chain_gives_each_result_to_the_next_as_its_first_argument(q: tq.testing.Fake) -> None:
    sent = (add.s(1, 2) | add.s(5) | add.s()).enqueue()
    assert [row["state"] for row in q.tasks] == ["pending", "blocked", "blocked"]
    assert [row["payload"] for row in q.tasks] == [{"x": 1, "y": 2}, {"y": 5}, {}]
    assert sent.result() == 18
    assert [task.id for task in sent.tasks] == [1, 2, 3]
    assert (add.s(1, 1) | listed.s(7, 8) | shown.s()).enqueue().result() == [2, 7, 8]


def test_an_immutable_signature_takes_nothing_and_can_still_look(q: tq.testing.Fake) -> None:
    assert (add.si(1, 1) | seen.si()).enqueue().result() == {"1": 2}
    assert seen.si().enqueue().result() == {}


def test_what_stands_behind_a_group_gets_all_of_its_results_in_order(q: tq.testing.Fake) -> None:
    squares = tq.group(add.s(n, n) for n in range(10))
    assert (squares | shown.s()).enqueue().result() == [2 * n for n in range(10)]
    assert tq.chord([add.s(1, 1), add.s(2, 2)], total.s()).enqueue().result() == 6
    assert squares.enqueue().result() == [2 * n for n in range(10)]
    assert add.map([1, 2]).enqueue().result() == [11, 12]
    assert add.starmap([(1, 2), (3, 4)]).enqueue().result() == [3, 7]
    flat = add.si(1, 1) | tq.group(tq.group(add.s(1), add.s(2)), add.s(3) | add.s(4)) | shown.s()
    assert flat.enqueue().result() == [3, 4, 9]
    assert tq.chain(add.s(1, 1), tq.group(add.s(1)), shown.s()).enqueue().result() == [3]


def test_an_empty_group_is_an_empty_list_and_keeps_the_order(q: tq.testing.Fake) -> None:
    assert add.map([]).enqueue().result() == []
    sent = (add.si(1, 1) | add.map([]) | shown.s()).enqueue()
    assert (q.tasks[-1]["state"], q.tasks[-1]["parents"], sent.result()) == ("blocked", [1], [])


def test_more_parents_than_one_question_takes_give_all_of_their_results(q: tq.testing.Fake) -> None:
    count = RESULTS_A_CALL + 1
    assert (tq.group(add.s(n, 0) for n in range(count)) | total.s()).enqueue().result() == sum(range(count))


def test_options_are_those_of_one_task(q: tq.testing.Fake) -> None:
    (before,) = add.s(1).enqueue().tasks
    (add.s(1).set(priority=5, label="a") | add.s().set(queue="slow", after=before)).enqueue()
    assert [(row["priority"], row["label"], row["queue"], row["parents"]) for row in q.tasks[1:]] == [
        (5, "a", "default", []), (1, None, "slow", [2, 1]),
    ]  # fmt: skip
    q.run_all()
    assert q.tasks[-1]["result"] == 21  # of the chain's own, not of what it waits for beside it


def test_what_comes_behind_a_failure_is_cancelled_unless_it_says_otherwise(q: tq.testing.Fake) -> None:
    sent = (fails.s(1) | shown.s()).enqueue()
    with pytest.raises(TaskCancelled):
        sent.result()
    assert (fails.s(1) | shown.s().set(on_parent_failure="run")).enqueue().result() is None
    assert (tq.group(fails.s(1), add.s(1, 1)) | shown.s().set(on_parent_failure="run")).enqueue().result() == [2]
    with pytest.raises(TaskFailed):
        (fails.s(1) | shown.s().set(on_parent_failure="fail")).enqueue().result()


def test_a_result_that_is_gone_fails_the_task_that_is_called_with_it(q: tq.testing.Fake) -> None:
    sent = (add.s(1, 1) | shown.s()).enqueue()
    assert q.run_next()
    q.client.remove(1)
    with pytest.raises(TaskFailed, match="expected the result of task 1, which this one is called with, but that was removed"):
        sent.result()


@pytest.mark.parametrize("extras", [None, "x", [], ["x"], ["x", "y"], [1.5, 0], ["x", 0]])
def test_extras_that_make_no_sense_fail_the_task_and_say_so(q: tq.testing.Fake, extras: object) -> None:
    task = q.client.enqueue("shown", extras={INTO: extras})
    with pytest.raises(TaskFailed, match="expected extras of a chained task"):
        task.result()


def test_a_call_that_does_not_fit_fails_where_it_is_sent(q: tq.testing.Fake) -> None:
    for flow in (total.s(), add.s(1) | total.s(3), add.s(1) | total.s(numbers=[]), add.si() | total.s()):  # type: ignore[call-arg]
        with pytest.raises(TypeError):
            flow.enqueue()
    assert q.tasks == []


def test_a_flow_that_waits_can_be_cancelled_as_a_whole(q: tq.testing.Fake) -> None:
    sent = (add.s(1).set(delay=60) | add.s() | add.s()).enqueue()
    sent.cancel()
    assert sent.wait() == ["cancelled"]
    assert [row["state"] for row in q.tasks] == ["cancelled"] * 3


def test_middleware_of_the_application_sees_each_task_of_a_flow() -> None:
    shop, names = tq.App(), []

    @shop.task
    def one(x: int = 0) -> int:
        return x + 1

    @shop.around_send
    def route(task: tq.Outgoing, send: Any) -> object:
        names.append(task.type)
        task.options["queue"] = "routed"
        return send(task)

    with tq.testing.fake(shop) as q:
        assert (one.s(1) | one.s()).enqueue().result() == 3
        assert [row["queue"] for row in q.tasks] == ["routed"] * 2
    assert names == ["one", "one"]


def test_programs_with_an_event_loop_send_and_wait_the_same_way(q: tq.testing.Fake) -> None:
    async def main() -> None:
        sent = await (tq.group(add.s(1), add.s(2)) | total.s()).aenqueue()
        assert await sent.wait() == ["succeeded"]
        assert await sent.result() == 23
        assert (await (await add.map([]).aenqueue()).result()) == []
        waits = await (add.s(1).set(delay=60) | add.s()).aenqueue()
        await waits.cancel()
        assert await waits.ends[0].state() == "cancelled"

    asyncio.run(main())


def test_a_signature_says_what_it_is() -> None:
    assert repr(tq.group(add.s(1), add.si(2, y=3)) | total.s()) == "group(add.s(1), add.si(2, y=3)) | total.s()"


def test_places_are_for_graphs_alone(q: tq.testing.Fake) -> None:
    with pytest.raises(UsageError, match="enqueue_graph"):
        q.client.enqueue_many([("add", {"x": 1}), ("add", {"x": 1}, {"after": [-1]})])
    with pytest.raises(UsageError, match="outside of one"):
        tq.Context(_spec(), 1, 0).parents  # noqa: B018


def _spec() -> Any:
    from tq.model import Header, Spec

    return Spec(2, Header("t", parents=(1,)), b"", 0)

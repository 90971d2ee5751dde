"""Batch handlers without a daemon: what an item promises, what a handler's answer says of each, and the fake that runs them."""

from __future__ import annotations

import doctest

import pytest

import tq
import tq.batch
import tq.testing
from tq.errors import ConfigError, UsageError


def test_the_examples_of_the_room_are_true() -> None:
    found = doctest.testmod(tq.batch)
    assert (found.failed, found.attempted > 2) == (0, True)


def test_an_item_ends_once() -> None:
    item = tq.Item({"id": 7})
    item.done("stored")
    with pytest.raises(UsageError, match="once"):
        item.fail("no")
    assert (item.ended, item.result, item.error) == (True, "stored", None)
    assert (item.id, item.attempt, item.failures, item.cancelled, item.label, item.meta) == (0, 1, 0, False, None, {})


def test_a_call_takes_what_is_ready_and_no_more_than_its_size(app: tq.App, q: tq.testing.Fake) -> None:
    calls: list[list[int]] = []

    @app.task("index", batch=3)
    def index(items: list[tq.Item[int]]) -> list[int]:
        calls.append([item.payload for item in items])
        return [item.payload * 2 for item in items]

    handles = [index.enqueue(n) for n in range(7)]
    q.run_all()
    assert calls == [[0, 1, 2], [3, 4, 5], [6]]
    assert [handle.result() for handle in handles] == [0, 2, 4, 6, 8, 10, 12]


def test_each_task_of_a_call_ends_as_its_handler_says(app: tq.App, q: tq.testing.Fake) -> None:
    @app.task("index", batch=9, retries=1, backoff=tq.Backoff.fixed("1m", jitter=False))
    def index(items: list[tq.Item[str]]) -> list[object]:
        for item in items:
            if item.payload == "bad":
                item.fail(tq.Permanent("never"))
            elif item.payload == "later" and item.attempt == 1:
                item.retry("busy", after="5m")
            elif item.payload == "done":
                item.done("by name")
        return [ValueError("no") if item.payload == "error" else tq.Cancel("why") if item.payload == "cancel" else "ok" for item in items]

    handles = {name: index.enqueue(name) for name in ("fine", "bad", "later", "done", "error", "cancel")}
    q.run_all()
    assert {name: handle.state() for name, handle in handles.items()} == {
        "fine": "succeeded", "bad": "failed", "later": "retrying", "done": "succeeded", "error": "retrying", "cancel": "cancelled",
    }  # fmt: skip
    assert handles["done"].result() == "by name"
    q.advance("1m")
    assert (handles["error"].state(), handles["later"].state()) == ("failed", "retrying")
    q.advance("4m")
    assert handles["later"].result() == "ok"


def test_an_exception_fails_those_that_were_not_settled(app: tq.App, q: tq.testing.Fake) -> None:
    @app.task("index", batch=9, retries=0)
    async def index(items: list[tq.Item[int]]) -> None:
        items[1].done("first")
        raise RuntimeError("the index is down")

    handles = [index.enqueue(n) for n in range(3)]
    q.run_all()
    assert [handle.state() for handle in handles] == ["failed", "succeeded", "failed"]


@pytest.mark.parametrize("value", [[1], [1, 2, 3], "ab", {"0": 1}], ids=["too few", "too many", "text", "map"])
def test_an_answer_that_is_not_one_result_for_each_fails_all(app: tq.App, q: tq.testing.Fake, value: object) -> None:
    @app.task("index", batch=2, retries=0)
    def index(items: list[tq.Item[int]]) -> object:
        return value

    handles = [index.enqueue(n) for n in range(2)]
    q.run_all()
    assert [q.client.get(handle.id)["error"]["type"] for handle in handles] == ["TypeError"] * 2


def test_a_middleware_goes_around_the_call(app: tq.App, q: tq.testing.Fake) -> None:
    seen: list[int] = []

    @app.around_run
    def around(context: tq.Context, run: object) -> object:
        seen.append(context.id)
        return run()  # type: ignore[operator]

    @app.task("index", batch=5)
    def index(items: list[tq.Item[int]]) -> None:
        seen.append(len(items))

    for n in range(3):
        index.enqueue(n)
    q.run_all()
    assert seen == [1, 3]


@pytest.mark.parametrize(
    "options",
    [{"batch": 0}, {"batch": 1001}, {"batch": True}, {"batch": "5"}, {"batch_wait": "1s"}, {"batch": 5, "batch_wait": "2m"},
     {"batch": 5, "slots": 2}, {"batch": 5, "uses": {"gpu": 1}}],
)  # fmt: skip
def test_a_batch_that_makes_no_sense_is_refused_where_it_is_declared(app: tq.App, options: dict[str, object]) -> None:
    with pytest.raises(ConfigError, match="batch"):
        app.task("index", **options)(lambda items: None)  # type: ignore[arg-type]


def test_a_class_is_no_batch_handler(app: tq.App) -> None:
    with pytest.raises(ConfigError, match="batch"):

        class Index(tq.Task[int, int], app=app):
            type = "index"
            batch = 5

            def execute(self, payload: int) -> int:
                return payload


def test_the_hello_names_size_and_wait(app: tq.App) -> None:
    app.task("index", batch=100, batch_wait="50ms")(lambda items: None)
    assert app.tasks["index"].row()[-2:] == [100, 50]
    assert app.tasks["index"].handler().batch == 100

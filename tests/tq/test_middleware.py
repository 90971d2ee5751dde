"""Middleware: the two chains, in their order, for blocking and async programs and handlers."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

import tq
import tq.testing
from tq.context import Context
from tq.errors import ConfigError, UsageError
from tq.middleware import Outgoing, Run, Send


@pytest.fixture
def app() -> tq.App:
    app = tq.App()

    @app.task
    def work(n: int = 0) -> int:
        return n

    @app.task
    async def awork(n: int = 0) -> int:
        await asyncio.sleep(0)
        return n

    return app


@pytest.fixture
def q(app: tq.App) -> Iterator[tq.testing.Fake]:
    with tq.testing.fake(app) as q:
        yield q


def send(app: tq.App, name: str = "work", n: int = 1) -> Any:
    function: Any = app.tasks[name]
    return function.enqueue(n)


async def asend(app: tq.App, name: str = "work", n: int = 1) -> Any:
    function: Any = app.tasks[name]
    return await function.aenqueue(n)


# around send


def test_what_is_sent_is_what_the_chain_made_of_it_the_first_outermost(app: tq.App, q: tq.testing.Fake) -> None:
    order: list[str] = []

    @app.around_send
    def outer(task: Outgoing, send: Send) -> object:
        order.append("outer")
        task.payload = {"n": task.payload["n"] + 1}
        task.options["label"] = "outer"
        handle = send(task)
        order.append(f"stored {handle.id}")
        return handle

    @app.around_send
    def inner(task: Outgoing, send: Send) -> object:
        order.append("inner")
        task.payload = {"n": task.payload["n"] * 10}
        task.options["label"] += "/inner"
        return send(task)

    handle = send(app, n=1)
    assert order == ["outer", "inner", "stored 1"]
    assert (handle.id, handle.result()) == (1, 20)
    assert q.tasks[0]["label"] == "outer/inner"


def test_a_function_of_the_task_may_choose_its_queue(app: tq.App, q: tq.testing.Fake) -> None:
    @app.around_send
    def route(task: Outgoing, send: Send) -> object:
        task.options.setdefault("queue", "large" if task.payload["n"] > 10 else "small")
        return send(task)

    send(app, n=3)
    send(app, n=30)
    app.tasks["work"].options(queue="mine").enqueue(3)  # type: ignore[attr-defined]
    asyncio.run(asend(app, n=40))
    assert [row["queue"] for row in q.tasks] == ["small", "large", "mine", "large"]


def test_options_of_one_send_do_not_leak_into_the_next(app: tq.App, q: tq.testing.Fake) -> None:
    work: Any = app.tasks["work"]
    night = work.options(queue="night")

    @app.around_send
    def mark(task: Outgoing, send: Send) -> object:
        task.options["priority"] = task.options.get("priority", 3) + 1  # type: ignore[operator]
        return send(task)

    for _ in range(3):
        night.enqueue(1)
    assert [row["priority"] for row in q.tasks] == [4, 4, 4]


def test_an_async_chain_goes_around_aenqueue_and_plain_functions_in_it_too(app: tq.App, q: tq.testing.Fake) -> None:
    order: list[str] = []

    @app.around_send
    async def outer(task: Outgoing, send: Send) -> object:
        order.append("before")
        handle = await send(task)
        order.append(f"stored {handle.id}")
        return handle

    @app.around_send
    def plain(task: Outgoing, send: Send) -> object:
        order.append("plain")
        return send(task)

    handle = asyncio.run(asend(app))
    assert isinstance(handle, tq.AsyncHandle)
    assert order == ["before", "plain", "stored 1"]
    with pytest.raises(UsageError, match=r"plain function for a blocking enqueue, got `async def` .*outer"):
        send(app)
    assert len(q.tasks) == 1


def test_a_chain_that_sends_nothing_is_an_error(app: tq.App, q: tq.testing.Fake) -> None:
    @app.around_send
    def forgets(task: Outgoing, send: Send) -> object:
        return None

    with pytest.raises(UsageError, match="called 0 times"):
        send(app)
    with pytest.raises(UsageError, match="called 0 times"):
        asyncio.run(asend(app))
    assert q.tasks == []


def test_a_chain_that_does_not_return_the_handle_gives_it_all_the_same(app: tq.App, q: tq.testing.Fake) -> None:
    @app.around_send
    def silent(task: Outgoing, send: Send) -> None:
        send(task)

    assert send(app).id == 1


def test_an_exception_in_the_chain_keeps_the_task_from_being_sent(app: tq.App, q: tq.testing.Fake) -> None:
    @app.around_send
    def refuse(task: Outgoing, send: Send) -> object:
        raise PermissionError("not today")

    with pytest.raises(PermissionError):
        send(app)
    assert q.tasks == []


def test_a_client_has_a_chain_of_its_own_also_for_many(q: tq.testing.Fake) -> None:
    def mark(task: Outgoing, send: Send) -> object:
        task.options["label"] = f"{task.type}-{task.payload['n']}"
        return send(task)

    with tq.connect(around_send=[mark]) as client:
        assert client.enqueue("work", {"n": 1}, priority=5).id == 1
        options = {"priority": 7}
        assert client.enqueue_many([("work", {"n": 2}), ("work", {"n": 3}, options), ("work", {"n": 4}, options)]) == [2, 3, 4]
    assert [(row["label"], row["priority"]) for row in q.tasks] == [("work-1", 5), ("work-2", 1), ("work-3", 7), ("work-4", 7)]
    assert options == {"priority": 7}


def test_an_async_client_has_a_chain_of_its_own_also_for_many(q: tq.testing.Fake) -> None:
    async def mark(task: Outgoing, send: Send) -> object:
        await asyncio.sleep(0)
        task.options["label"] = f"{task.type}-{task.payload['n']}"
        return await send(task)

    async def main() -> None:
        async with tq.aconnect(around_send=[mark]) as client:
            await client.enqueue("work", {"n": 1})
            assert await client.enqueue_many([("work", {"n": 2}), ("work", {"n": 3})]) == [2, 3]

    asyncio.run(main())
    assert [row["label"] for row in q.tasks] == ["work-1", "work-2", "work-3"]


# around run


def test_a_run_has_the_chain_around_it_the_first_outermost(app: tq.App, q: tq.testing.Fake) -> None:
    order: list[Any] = []

    @app.around_run
    def outer(context: Context, run: Run) -> object:
        order.append(("outer", context.id, tq.current() is context))
        try:
            return run()
        finally:
            order.append("after")

    @app.around_run
    def inner(context: Context, run: Run) -> object:
        order.append("inner")
        return run() * 10

    assert send(app, n=4).result() == 40
    assert order == [("outer", 1, True), "inner", "after"]


def test_what_the_chain_raises_is_what_became_of_the_task(app: tq.App, q: tq.testing.Fake) -> None:
    @app.around_run
    def check(context: Context, run: Run) -> object:
        raise tq.Permanent("no licence")

    send(app)
    q.run_all()
    assert q.tasks[0]["state"] == "failed"
    assert q.tasks[0]["error"]["message"] == "no licence"


def test_a_chain_may_run_the_handler_again_or_not_at_all(app: tq.App, q: tq.testing.Fake) -> None:
    ran: list[int] = []

    @app.task
    def flaky() -> str:
        ran.append(1)
        if len(ran) == 1:
            raise ConnectionError
        return "well"

    @app.around_run
    def twice(context: Context, run: Run) -> object:
        if context.type != "flaky":
            return "skipped"
        try:
            return run()
        except ConnectionError:
            return run()

    assert flaky.enqueue().result() == "well"
    assert send(app).result() == "skipped"


def test_async_handlers_have_async_functions_around_them_and_plain_ones_that_return_run(app: tq.App) -> None:
    order: list[str] = []
    mine = tq.App()
    mine.task("awork")(app.tasks["awork"].function)

    @mine.around_run
    async def outer(context: Context, run: Run) -> object:
        order.append("before")
        found = await run()
        order.append("after")
        return found + 1

    @mine.around_run
    def plain(context: Context, run: Run) -> object:
        order.append("plain")
        return run()

    with tq.testing.fake(mine):
        assert send(mine, "awork", 3).result() == 4
    assert order == ["before", "plain", "after"]


def test_an_async_function_around_a_plain_handler_is_refused_before_anything_runs(app: tq.App) -> None:
    @app.around_run
    async def outer(context: Context, run: Run) -> object:
        return await run()

    with pytest.raises(ConfigError, match=r"plain handler of 'work', got `async def` .*outer"):
        app.handlers()


def test_objects_and_context_managers_serve_as_middleware(app: tq.App, q: tq.testing.Fake) -> None:
    open_ones: list[str] = []

    @contextmanager
    def session() -> Iterator[None]:
        open_ones.append("open")
        yield
        open_ones.append("closed")

    class Sessions:
        def __call__(self, context: Context, run: Run) -> object:
            with session():
                return run()

    app.around_run(Sessions())
    assert send(app, n=2).result() == 2
    assert open_ones == ["open", "closed"]


def test_typed_tasks_go_through_both_chains(app: tq.App, q: tq.testing.Fake) -> None:
    class Double(tq.Task[int, int], app=app):
        type = "double"

        def execute(self, payload: int) -> int:
            return payload * 2

    @app.around_send
    def more(task: Outgoing, send: Send) -> object:
        task.payload += 1
        return send(task)

    @app.around_run
    def again(context: Context, run: Run) -> object:
        return run() + 100

    assert Double.enqueue(4).result() == 110


def test_without_middleware_a_handler_is_called_directly(app: tq.App) -> None:
    call, _ = app.tasks["work"].bound()
    assert app.handlers()["work"].call.__code__ is call.__code__

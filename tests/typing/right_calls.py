"""Calls that a type checker must accept, with the types it must see. Checked by mypy, never run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Generic, TypedDict, TypeVar, assert_type

import tq
import tq.testing
from tq.middleware import Run, Send


@tq.task
def add(a: int, b: int = 0) -> int:
    return a + b


@tq.task("email", queue="mail", retries=5, timeout="30s")
def send_email(to: str, subject: str = "") -> str:
    return f"{to}: {subject}"


@tq.task
async def fetch(url: str) -> bytes:
    return url.encode()


@tq.task("index", batch=100, batch_wait="50ms")
def index(items: list[tq.Item[str]]) -> list[int]:
    return [len(item.payload) for item in items]


@tq.task("aindex", batch=100)
async def aindex(items: list[tq.Item[dict[str, int]]]) -> None:
    items[0].retry("busy", after="5s")


def of_many() -> None:
    assert_type(index(["a", tq.Item("b")]), list[int])
    assert_type(index.enqueue("a").id, int)
    index.options(unique="user:5", debounce="5s", debounce_most="1m").enqueue("a")
    aindex.options(unique="user:5", throttle="5s").enqueue({"a": 1})


def blocking() -> None:
    assert_type(add(1, b=2), int)
    assert_type(add.enqueue(1), tq.Handle[int])
    assert_type(add.enqueue(1, b=2).result(timeout="30s"), int)
    assert_type(send_email.options(delay="10m", priority="high").enqueue("a@b.c", subject="Hi").result(), str)
    assert_type(fetch.enqueue("http://localhost").result(), bytes)
    assert_type(add.enqueue(1).wait(30), str)
    assert_type(add.enqueue(1).log(), str)


def batches() -> None:
    with tq.connect() as q, q.batch("import", on_success=add.s(1), on_failure=("email", {"to": "a@b.c"}), on_complete=send_email) as b:
        assert_type(b.enqueue("email", {"to": "a@b.c"}, batch=b).id, int)
        assert_type(b.add(add.s(1) | add.s(2)), list[tq.Handle[Any]])
        assert_type(b.wait("1h"), dict[str, Any])
        add.options(batch=b).enqueue(1)


async def abatches() -> None:
    async with tq.aconnect() as q:
        async with q.batch("import", on_complete="email") as b:
            assert_type(await b.enqueue("email"), tq.AsyncHandle[Any])
        assert_type((await q.batch()).id, int)


async def awaited() -> None:
    assert_type(await fetch("http://localhost"), bytes)
    assert_type(await add.aenqueue(1), tq.AsyncHandle[int])
    assert_type(await (await fetch.aenqueue("http://localhost")).result(), bytes)
    async with tq.aconnect("/tmp/x") as q:
        handle = await q.enqueue("email", {"to": "a@b.c"}, at=datetime(2030, 1, 1, tzinfo=UTC))
        assert_type(handle, tq.AsyncHandle[Any])
        assert_type(await handle.state(), str)
        async for event in q.watch(["ends"]):
            assert_type(event["id"], Any)


def by_name() -> None:
    with tq.connect() as q:
        assert_type(q, tq.Client)
        handle = q.enqueue("email", {"to": "a@b.c"}, priority=5, delay=timedelta(minutes=10), ttl=3600, meta={"order": "17"})
        assert_type(handle, tq.Handle[Any])
        assert_type(q.enqueue_many([("email", {"to": "a@b.c"}), ("email", None, {"priority": 3})]), list[int])
        for event in q.watch(["totals"], hz=2):
            assert_type(event["states"], Any)


def acting() -> None:
    with tq.connect() as q:
        task = q.enqueue("email")
        assert_type(q.retry(task, priority="high"), Sequence[str])
        q.cancel(17)
        q.edit([17, task], delay="1h")
        q.remove(q.enqueue_many([("email", None)]))
        q.wait(task, "30s")
        assert_type(q.set_queue("mail", timeout="30s", keep=timedelta(days=2), priority="high", backoff="fixed", max_bytes="1G"), bool)
        q.set_queue("mail", paused=True, weight=3, slots=2, route=["report.*"], unset=["aging"])


async def acting_in_a_loop() -> None:
    async with tq.aconnect() as q:
        task = await q.enqueue("email")
        assert_type(await q.retry(task), Sequence[str])
        await q.cancel([17, task])
        assert_type(await q.set_queue("mail", aging=60, external=True), bool)


# typed tasks


@dataclass
class Order:
    number: int


class Receipt(TypedDict):
    paid: float


class Pay(tq.Task[Order, Receipt]):
    type = "pay"
    queue = "money"
    retries = 3
    timeout = "30s"
    backoff = tq.Backoff.exponential("5s", most="1h")
    retry_on = (ConnectionError, TimeoutError)
    retry_never = BrokenPipeError
    retry_for = timedelta(hours=2)

    def execute(self, payload: Order) -> Receipt:
        return {"paid": float(payload.number)}


class Fetch(tq.Task[str, bytes], app=tq.App()):
    type = "fetch"
    priority = "high"

    def backoff(self, failures: int, error: BaseException) -> float | None:
        return 5.0 * failures

    async def execute(self, payload: str) -> bytes | tq.Snooze:
        return payload.encode() if payload else tq.Snooze("5m")


class Add(tq.Task[int, int]):
    type = "add one"

    def execute(self, payload: int) -> int:
        return payload + 1


T = TypeVar("T")


class Sum(tq.Task[list[T], T], Generic[T]):
    """A base for others."""


class Total(Sum[int]):
    type = "total"
    backoff = tq.Backoff.fixed(30)

    def execute(self, payload: list[int]) -> int | tq.Cancel:
        return sum(payload)


def typed() -> None:
    assert_type(Pay.enqueue(Order(1)), tq.Handle[Receipt])
    assert_type(Pay.enqueue(Order(1)).result(30)["paid"], float)
    assert_type(Pay.on("night").options(delay="10m", key="order-17").enqueue(Order(1)).result(), Receipt)
    assert_type(Pay.options(unique="x", on_conflict="replace", wait_for_room="30s").on("x").enqueue(Order(1)).id, int)
    assert_type(Pay().execute(Order(1)), Receipt)
    assert_type(Total.enqueue([1, 2]).result(), int)
    assert_type(Pay.type, str)


async def typed_and_awaited() -> None:
    assert_type(await Fetch.aenqueue("http://localhost"), tq.AsyncHandle[bytes])
    assert_type(await (await Fetch.on("web").aenqueue("http://localhost")).result(), bytes)


# what a type says, and what goes around


def patience(failures: int, error: BaseException) -> timedelta | str | None:
    return timedelta(minutes=failures) if failures < 3 else "1h" if isinstance(error, OSError) else None


@tq.task("steady", backoff="fixed")
def steady() -> None: ...


@tq.task("stubborn", retry_on=OSError, retry_never=(FileNotFoundError,), backoff=patience, retry_for="2h")
def stubborn(n: int) -> int | tq.Cancel:
    tq.current().progress(0.4, "nearly")
    if n > 3:
        raise tq.Snooze("5m")
    return n


@tq.around_send
def route(task: tq.Outgoing, send: Send) -> object:
    task.options.setdefault("queue", "large" if len(task.payload) > 10 else "small")
    return send(task)


@tq.around_run
async def timed(context: tq.Context, run: Run) -> object:
    assert_type(context.attempt, int)
    return await run()


assert_type(route(tq.Outgoing("x", None), lambda task: task.type), object)


def tested() -> None:
    with tq.testing.fake(now=datetime(2030, 1, 1, tzinfo=UTC)) as q:
        assert_type(q, tq.testing.Fake)
        assert_type(q.run_all(), int)
        assert_type(q.advance("5m"), int)
        assert_type(q.tasks, list[dict[str, Any]])
    with tq.connect(around_send=[route], wait_for_room="30s") as client:
        client.enqueue("x", retry_for="2h", deadline=timedelta(hours=1), key="k", unique="u", on_conflict="existing")


@tq.task("square")
def square(n: int) -> int:
    return n * n


@tq.task("mean")
async def mean(numbers: list[int], digits: int = 2) -> float:
    return round(sum(numbers) / len(numbers), digits)


def flows() -> None:
    assert_type(square.s(3), tq.Signature[int])
    assert_type((square.s(3) | mean.s(digits=1)).enqueue().result(), float)
    assert_type(square.map(range(3)).enqueue().result(), list[int])
    assert_type(tq.chord([square.s(1), square.si(2)], mean.s()).enqueue().result(5), float)
    assert_type(tq.group(square.s(n) for n in range(3)).enqueue().wait("5s"), list[str])
    assert_type(square.s(1).set(queue="q", after_failure=3, on_parent_failure="run"), tq.Signature[int])
    assert_type(Pay.s(Order(1)), tq.Signature[Receipt])
    assert_type((square.s(3) | Add.s()).enqueue().result(), int)
    assert_type(Total.map([[1], [2]]).enqueue().result(), list[int])
    assert_type(tq.chord(square.map(range(3)), Total.on("night").s()).enqueue().result(), int)
    assert_type(Pay.options(order_key="acct-1", order_on_failure="continue").si(Order(1)).set(queue="q"), tq.Signature[Receipt])
    flow = tq.workflow("typed")
    first = flow.step("first", square.si(2))
    flow.step("then", tq.group(square.s(), mean.si([1])), after=first)
    assert_type(flow.enqueue().retry(), list[int])
    assert_type(tq.current().parents[3], Any)

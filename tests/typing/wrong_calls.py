"""Calls that a type checker must refuse: each line ends with the kind of its error. Checked by mypy, never run."""

from __future__ import annotations

from dataclasses import dataclass

import tq


@tq.task
def add(a: int, b: int = 0) -> int:
    return a + b


@tq.task("email", queue="mail")
def send_email(to: str, subject: str = "") -> str:
    return to + subject


add("1")  # wrong: arg-type
add.enqueue("1")  # wrong: arg-type
add.enqueue()  # wrong: call-arg
add.enqueue(1, c=3)  # wrong: call-arg
send_email.enqueue("a@b.c", subject=3)  # wrong: arg-type
send_email.options(prioritty=3)  # wrong: call-arg
tq.task("x", retriez=3)  # wrong: call-overload
text: str = add.enqueue(1).result()  # wrong: assignment


def by_name() -> None:
    with tq.connect() as q:
        q.enqueue(3)  # wrong: arg-type
        q.enqueue("email", {}, delay=[1])  # wrong: arg-type
        q.enqueue("email", {}, colour="red")  # wrong: call-arg
        q.enqueue("email", {}, unique="u", on_conflict="shout")  # wrong: arg-type
        q.get("42")  # wrong: arg-type
        q.retry("42")  # wrong: arg-type
        q.cancel(["42"])  # wrong: list-item
        q.edit(17, key="k")  # wrong: call-arg
        q.set_queue("mail", timeout_ms=30_000)  # wrong: call-arg
        q.set_queue("mail", keep=[1])  # wrong: arg-type


async def awaited() -> None:
    number: str = await (await add.aenqueue(1)).result()  # wrong: assignment
    async with tq.aconnect() as q:
        print(q.enqueue("email", 1).id)  # wrong: attr-defined
    print(number)


@dataclass
class Order:
    number: int


class Pay(tq.Task[Order, float]):
    type = "pay"

    def execute(self, payload: Order) -> float:
        return payload.number


Pay.enqueue({"number": 1})  # wrong: arg-type
Pay.enqueue(number=1)  # wrong: call-arg
Pay.on("night").enqueue(3)  # wrong: arg-type
Pay.on(3)  # wrong: arg-type
Pay.options(prioritty=3)  # wrong: call-arg
Pay().execute("x")  # wrong: arg-type
receipt: str = Pay.enqueue(Order(1)).result()  # wrong: assignment


class Other(tq.Task[Order, float]):
    type = "other"
    retries = "3"  # wrong: assignment

    def execute(self, payload: str) -> float:  # wrong: override
        return 1.0


class Wrong(tq.Task[Order, float]):
    type = "wrong"

    def execute(self, payload: Order) -> str:  # wrong: override
        return ""


async def typed_and_awaited() -> None:
    await Pay.aenqueue("x")  # wrong: arg-type
    paid: str = await (await Pay.aenqueue(Order(1))).result()  # wrong: assignment
    print(paid)


tq.task("stubborn", retry_on=3)  # wrong: call-overload


@tq.around_send  # wrong: type-var
def route(task: tq.Outgoing) -> object:
    return task


tq.current().progress("half")  # wrong: arg-type


@tq.task("square")
def square(n: int) -> int:
    return n * n


square.si("three")  # wrong: arg-type
wrong_flow: str = (square.s(1) | square.s()).enqueue().result()  # wrong: assignment
square.s(1) | square  # wrong: operator
Pay.s({"number": 1})  # wrong: call-overload
Pay.s(Order(1), Order(2))  # wrong: call-overload
Pay.si()  # wrong: call-arg
Pay.map([1])  # wrong: list-item
wrong_typed: str = Pay.s(Order(1)).enqueue().result()  # wrong: assignment
square.s(1).set(on_parent_failure="wait")  # wrong: arg-type
tq.workflow("w").step("a", square)  # wrong: arg-type

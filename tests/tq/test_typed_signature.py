"""Signatures of typed classes: in chains, groups, chords, maps and workflows, beside those of functions."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

import tq
import tq.testing
from tq.errors import PayloadError, TaskFailed, UsageError

APP = tq.App()


@dataclass(frozen=True)
class Order:
    number: int
    price: float = 1.5


@dataclass(frozen=True)
class Receipt:
    paid: float


class Pay(tq.Task[Order, Receipt], app=APP):
    type = "pay"
    retries = 0

    def execute(self, payload: Order) -> Receipt:
        return Receipt(payload.price)


class Sum(tq.Task[list[Receipt], Receipt], app=APP):
    type = "sum"

    async def execute(self, payload: list[Receipt]) -> Receipt:
        return Receipt(sum(one.paid for one in payload))


class Mail(tq.Task[Receipt, str], app=APP):
    type = "mail"
    retries = 0

    def execute(self, payload: Receipt) -> str:
        return f"{type(payload).__name__} of {payload.paid}"


class Base(tq.Task[int, int], app=APP):
    """No type of its own."""


@APP.task
def order(number: int) -> dict[str, float]:
    return {"number": number, "price": 2.5}


@APP.task
def paid(receipt: dict[str, float], more: float = 0.0) -> float:
    return receipt["paid"] + more


@pytest.fixture
def q() -> Iterator[tq.testing.Fake]:
    with tq.testing.fake(APP) as fake:
        yield fake


def test_each_gets_the_result_of_the_one_before_it_as_its_payload(q: tq.testing.Fake) -> None:
    sent = (Pay.s(Order(17)) | Mail.s()).enqueue()
    assert [row["payload"] for row in q.tasks] == [{"number": 17, "price": 1.5}, None]
    assert sent.result() == "Receipt of 1.5"
    assert sent.tasks[0].result() == Receipt(1.5)


def test_functions_and_classes_stand_in_one_chain(q: tq.testing.Fake) -> None:
    assert (order.s(3) | Pay.s() | paid.s(more=1.0)).enqueue().result() == 3.5


def test_groups_maps_and_chords_give_typed_results(q: tq.testing.Fake) -> None:
    assert Pay.map([Order(1), Order(2, 5.0)]).enqueue().result() == [Receipt(1.5), Receipt(5.0)]
    assert tq.chord([Pay.s(Order(1)), Pay.s(Order(2))], Sum.s()).enqueue().result() == Receipt(3.0)
    assert (Pay.map([Order(1)]) | Sum.s() | Mail.s()).enqueue().result() == "Receipt of 1.5"
    assert (tq.group() | Sum.s()).enqueue().result() == Receipt(0)
    assert tq.chain(order.s(1), Pay.s(), Mail.s()).enqueue().result() == "Receipt of 2.5"


def test_an_immutable_one_has_its_own_payload_and_options_go_with_it(q: tq.testing.Fake) -> None:
    sent = (order.s(1) | Pay.options(priority="high").si(Order(2)).set(queue="money")).enqueue()
    assert sent.result() == Receipt(1.5)
    assert [(row["queue"], row["priority"]) for row in q.tasks][1] == ("money", 2)
    assert Pay.on("night").s(Order(1)).enqueue().result() == Receipt(1.5)
    assert q.tasks[-1]["queue"] == "night"
    assert repr(Pay.si(Order(2))) == "pay.si(Order(number=2, price=1.5))"


def test_a_workflow_takes_them_as_steps(q: tq.testing.Fake) -> None:
    flow = tq.workflow("orders")
    pays = flow.step("pay", Pay.map([Order(1), Order(2)]))
    flow.step("mail", Sum.s() | Mail.s(), after=pays)
    flow.enqueue()
    q.run_all()
    assert q.tasks[-1]["result"] == "Receipt of 3.0"


def test_programs_with_an_event_loop_get_typed_results_too(q: tq.testing.Fake) -> None:
    async def main() -> None:
        sent = await (Pay.s(Order(17)) | Sum.si([Receipt(4.0)])).aenqueue()
        assert await sent.result() == Receipt(4.0)

    asyncio.run(main())


@pytest.mark.parametrize(
    ("flow", "words"),
    [
        (Pay.s, "expected one payload, got none"),
        (lambda: order.s(1) | Pay.s(Order(1)), "the result of what stands before it and another"),
        (lambda: Pay.s(Order(1), Order(2)), "expected one payload"),
    ],
)
def test_a_call_without_just_one_payload_is_an_error_of_the_sender(q: tq.testing.Fake, flow: object, words: str) -> None:
    with pytest.raises(TypeError, match=words):
        flow().enqueue()  # type: ignore[operator]
    assert q.tasks == []


def test_a_payload_that_does_not_fit_is_an_error_of_the_sender_or_of_the_task(q: tq.testing.Fake) -> None:
    with pytest.raises(PayloadError, match="the payload is no Order"):
        Pay.s({"number": "x"}).enqueue()  # type: ignore[call-overload]
    with pytest.raises(UsageError, match="a base for others"):
        Base.s(3)
    assert q.tasks == []
    with pytest.raises(TaskFailed, match="the payload is no Receipt"):
        (order.s(1) | Mail.s()).enqueue().result()

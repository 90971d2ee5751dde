"""Typed tasks: declared, sent, run and read, each value checked against its type."""

from __future__ import annotations

import asyncio
import dataclasses
import decimal
import doctest
import enum
import os
import subprocess
import sys
import uuid
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import pydantic
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from typing_extensions import TypedDict

import tq
import tq.testing
import tq.typed
from tq.client import decode, encode
from tq.errors import ConfigError, PayloadError, TaskFailed, UsageError
from tq.model import Backoff
from tq.typed import Shape

ROOT = Path(__file__).resolve().parents[2]


class Colour(enum.StrEnum):
    RED = "red"


@dataclasses.dataclass
class Item:
    name: str
    amount: decimal.Decimal = decimal.Decimal("1.50")


@dataclasses.dataclass(frozen=True, slots=True)
class Order:
    number: int
    items: tuple[Item, ...] = ()
    tags: frozenset[str] = frozenset()
    when: datetime = datetime(2030, 1, 1, tzinfo=UTC)
    colour: Colour = Colour.RED
    names: dict[int, str] = dataclasses.field(default_factory=dict)
    wait: timedelta = timedelta(minutes=5)
    key: uuid.UUID = dataclasses.field(default_factory=lambda: uuid.UUID(int=17))


class Receipt(TypedDict):
    order: int
    paid: float


class Model(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(strict=True, populate_by_name=True)
    day: date
    total: int = pydantic.Field(alias="Total", ge=0)

    @pydantic.computed_field  # type: ignore[prop-decorator]
    @property
    def double(self) -> int:
        return self.total * 2


T = TypeVar("T")


@dataclasses.dataclass
class Box(Generic[T]):
    inside: T


class Strange:
    """Nothing that pydantic knows a schema for."""


if TYPE_CHECKING:

    class Later:
        """Here it comes later still."""


# values on the way


@pytest.mark.parametrize(
    ("kind", "value", "data"),
    [
        (int, 3, 3),
        (str, "x", "x"),
        (type(None), None, None),
        (bytes, b"\xff\x00", b"\xff\x00"),
        (bytes | str, "x", "x"),
        (bytes | str, b"x", b"x"),
        (list[int], [1, 2], [1, 2]),
        (dict[str, Any], {"a": [1, None]}, {"a": [1, None]}),
        (int | None, None, None),
        (date, date(2030, 1, 31), "2030-01-31"),
        (Item, Item("x"), {"name": "x", "amount": "1.50"}),
        (Receipt, {"order": 1, "paid": 2.5}, {"order": 1, "paid": 2.5}),
        (Model, Model(day=date(2030, 1, 1), total=3), {"day": "2030-01-01", "Total": 3}),
        (Box[int], Box(3), {"inside": 3}),
        (Box[bytes], Box(b"\x80"), {"inside": b"\x80"}),
        (float, float("inf"), float("inf")),
    ],
)
def test_a_value_comes_back_as_it_was_sent(kind: Any, value: Any, data: Any) -> None:
    shape: Shape[Any] = Shape(kind, "x")
    plain = shape.plain(value)
    assert plain == data
    back = shape.read(decode(encode(plain)))
    assert back == value
    assert type(back) is type(value)


class Parcel(TypedDict):
    weight: float
    receipts: list[Receipt]


class Open(TypedDict):
    __pydantic_config__ = pydantic.ConfigDict(extra="allow")  # type: ignore[misc]
    order: int


@pytest.mark.parametrize(
    ("kind", "data", "path"),
    [
        (Receipt, {"order": 1, "paid": 2.5, "payed": 3}, "payed"),
        (Parcel, {"weight": 1.5, "receipts": [{"order": 1, "paid": 2.5, "payed": 3}]}, r"receipts\[0\]\.payed"),
        (dict[str, Receipt], {"a": {"order": 1, "paid": 2.5, "payed": 3}}, r"a\.payed"),
        (Item, {"name": "x", "payed": 3}, "payed"),
        (Order, {"number": 17, "items": [{"name": "x", "payed": 3}]}, r"items\[0\]\.payed"),
        (Model, {"day": "2030-01-01", "Total": 3, "payed": 3}, "payed"),
    ],
)
def test_a_key_that_no_field_has_is_an_error_and_not_dropped(kind: Any, data: Any, path: str) -> None:
    shape: Shape[Any] = Shape(kind, "the payload")
    with pytest.raises(PayloadError, match=rf": {path}: expected no such field, got 3\. Mend it, or the type\.$"):
        shape.read(decode(encode(data)))


def test_a_sender_hears_of_a_key_that_no_field_has() -> None:
    with pytest.raises(PayloadError, match="payed: expected no such field, got 3"):
        Shape(Receipt, "the payload").plain({"order": 1, "paid": 2.5, "payed": 3})  # type: ignore[typeddict-unknown-key]


def test_a_type_that_says_itself_what_becomes_of_other_keys_is_heeded() -> None:
    data = {"order": 1, "more": [2]}
    assert Shape(Open, "x").plain(data) == Shape(list[Open], "x").read([data])[0] == data  # type: ignore[arg-type]


def test_a_value_of_many_kinds_of_fields_comes_back_as_it_was_sent() -> None:
    shape: Shape[Order] = Shape(Order, "x")
    order = Order(17, (Item("a"), Item("b", decimal.Decimal(2))), frozenset({"new"}), names={3: "three"})
    assert shape.read(decode(encode(shape.plain(order)))) == order


@settings(max_examples=50)
@given(st.builds(Item, st.text(), st.decimals(allow_nan=False, allow_infinity=False)), st.integers(-(1 << 63), (1 << 63) - 1))
def test_whatever_a_type_holds_comes_back(item: Item, number: int) -> None:
    shape: Shape[Order] = Shape(Order, "x")
    try:
        plain = shape.plain(Order(number, (item,)))
    except PayloadError as error:
        assert "surrogate" in str(error) or "utf-8" in str(error)  # noqa: PT017 - text that no JSON can hold
        return
    assert shape.read(decode(encode(plain))) == Order(number, (item,))


@pytest.mark.parametrize(
    ("kind", "value", "words"),
    [
        (int, "3", r"is no int: Input should be a valid integer, got '3'"),
        (int, True, r"valid integer"),
        (Item, {"name": "x"}, r"is no Item: Input should be an instance of Item"),
        (Item, Item(3), r"name: Input should be a valid string, got 3"),
        (Order, Order(1, (Item("a"), Item([]))), r"is no Order: items\[1\]\.name: "),
        (Receipt, {"order": 1}, r"paid: Field required\."),
        (Model, Model.model_construct(day=date(2030, 1, 1), total=-1), r"Total: Input should be greater than or equal to 0, got -1"),
        (list[int], [1, "x", "y", "z", "w"], r"\[1\]: .* got 'x'; \[2\]: .*; \[3\]: .*; and 1 more"),
        (Any, object(), r"cannot travel"),
    ],
)
def test_what_does_not_fit_is_named_by_its_path_before_it_is_sent(kind: Any, value: Any, words: str) -> None:
    with pytest.raises(PayloadError, match=words):
        Shape(kind, "task 'x': the payload").plain(value)


@pytest.mark.parametrize(("kind", "data"), [(int, "3"), (float, "1.5"), (bool, 1), (str, 3), (date, 3), (list[int], "12"), (Item, ["x"])])
def test_nothing_is_converted_silently(kind: Any, data: Any) -> None:
    with pytest.raises(PayloadError, match="Input should be"):
        Shape(kind, "x").read(data)


@dataclasses.dataclass
class Early:
    later: Later


def test_a_type_may_be_completed_after_the_task_that_uses_it(monkeypatch: pytest.MonkeyPatch) -> None:
    shape: Shape[Early] = Shape(Early, "task 'x': the payload")
    with pytest.raises(ConfigError, match=r"task 'x': the payload: Early is not whole: .*not fully defined"):
        shape.plain(Early(None))  # type: ignore[arg-type]
    monkeypatch.setitem(globals(), "Later", Item)
    assert shape.plain(Early(Item("x"))) == {"later": {"name": "x", "amount": "1.50"}}  # type: ignore[arg-type]


# declaring


def test_a_class_registers_itself_with_what_it_declares(app: tq.App) -> None:
    class Pay(tq.Task[Order, Receipt], app=app):
        type = "pay"
        queue = "money"
        retries = 7
        timeout = "30s"
        backoff = Backoff.linear("10s", most="1m")
        priority = "high"
        once = True
        retry_on = (ConnectionError,)
        retry_never = BrokenPipeError
        retry_for = timedelta(hours=2)

        def execute(self, payload: Order) -> Receipt:
            return {"order": payload.number, "paid": 1.0}

    assert list(app.tasks) == ["pay"]
    assert app.tasks["pay"].row() == ["pay", "money", 7, 30_000, ["linear", 10_000, 1.0, 60_000, True], 2, True, 7_200_000]
    handler = app.handlers()["pay"]
    assert handler.may_retry(ConnectionError())
    assert not handler.may_retry(BrokenPipeError())
    assert Pay().execute(Order(3)) == {"order": 3, "paid": 1.0}


def test_a_base_class_passes_on_its_types_and_settings(app: tq.App) -> None:
    class Base(tq.Task[list[T], T]):
        queue = "sums"

    class Middle(Base[T]):
        retries = 1

    class Total(Middle[int], app=app):
        type = "total"

        def execute(self, payload: list[int]) -> int:
            return sum(payload)

    assert list(app.tasks) == ["total"]
    assert app.tasks["total"].row()[:3] == ["total", "sums", 1]
    assert Total.payload([1, 2]) == [1, 2]
    with pytest.raises(PayloadError, match=r"is no list\[int\]: \[0\]"):
        Total.payload(["x"])  # type: ignore[list-item]
    with pytest.raises(UsageError, match="a base for others"):
        Base.enqueue([1])


def test_a_class_that_cannot_be_a_task_is_refused_where_it_is_written(app: tq.App) -> None:
    with pytest.raises(ConfigError, match="expected the types of its payload and result"):

        class Bare(tq.Task, app=app):  # type: ignore[type-arg]
            type = "x"

            def execute(self, payload: Any) -> None: ...

    with pytest.raises(ConfigError, match="expected the types of its payload and result"):

        class Open(tq.Task[T, int], app=app):
            type = "x"

            def execute(self, payload: T) -> int:
                return 1

    with pytest.raises(ConfigError, match="expected a method execute"):

        class Idle(tq.Task[int, int], app=app):
            type = "x"

    with pytest.raises(ConfigError, match="a type that pydantic can check, got Strange"):

        class Odd(tq.Task[Strange, int], app=app):
            type = "x"

            def execute(self, payload: Strange) -> int:
                return 1

    with pytest.raises(ConfigError, match="got the name ForwardRef"):

        class Early(tq.Task["Later", int], app=app):  # type: ignore[name-defined]
            type = "x"

            def execute(self, payload: Any) -> int:
                return 1

    with pytest.raises(ConfigError, match="expected retries"):

        class Negative(tq.Task[int, int], app=app):
            type = "x"
            retries = -1

            def execute(self, payload: int) -> int:
                return 1

    assert app.tasks == {}


def test_two_classes_of_one_type_are_refused_naming_both(app: tq.App) -> None:
    def first() -> None:
        class One(tq.Task[int, int], app=app):
            type = "same"

            def execute(self, payload: int) -> int:
                return 1

    first()
    first()  # a module that is imported again
    with pytest.raises(ConfigError, match=r"taken: .*One.*Two"):

        class Two(tq.Task[int, int], app=app):
            type = "same"

            def execute(self, payload: int) -> int:
                return 2


# sending and running


def test_a_typed_task_gives_a_typed_result(app: tq.App, q: tq.testing.Fake) -> None:
    class Pay(tq.Task[Order, Item], app=app):
        type = "pay"

        def execute(self, payload: Order) -> Item:
            assert isinstance(payload, Order)
            return Item(str(payload.number), decimal.Decimal("0.30"))

    handle = Pay.enqueue(Order(17, (Item("a"),)))
    assert handle.result() == Item("17", decimal.Decimal("0.30"))
    assert q.client.result(handle.id) == {"name": "17", "amount": "0.30"}
    assert q.client.enqueue("pay", {"number": 3}).result() == {"name": "3", "amount": "0.30"}  # by its name


def test_a_handle_of_a_queue_sends_there(app: tq.App, q: tq.testing.Fake) -> None:
    class Pay(tq.Task[int, None], app=app):
        type = "pay"
        queue = "money"

        def execute(self, payload: int) -> None: ...

    night = Pay.on("night").options(priority=7)
    assert night.enqueue(1).result() is None
    Pay.options(label="x").on("noon").enqueue(2)
    Pay.enqueue(3)
    assert [(row["queue"], row["priority"], row["label"]) for row in q.tasks] == [("night", 7, None), ("noon", 1, "x"), ("money", 1, None)]


def test_an_async_handler_and_an_async_sender_are_typed_too(app: tq.App, q: tq.testing.Fake) -> None:
    class Double(tq.Task[int, int], app=app):
        type = "double"

        async def execute(self, payload: int) -> int:
            await asyncio.sleep(0)
            assert tq.current().type == "double"
            return payload * 2

    async def main() -> int:
        return await (await Double.on("x").aenqueue(4)).result()

    assert asyncio.run(main()) == 8
    assert Double.enqueue(5).result() == 10


def test_a_wrong_payload_is_not_sent(app: tq.App, q: tq.testing.Fake) -> None:
    class Pay(tq.Task[Item, None], app=app):
        type = "pay"

        def execute(self, payload: Item) -> None: ...

    for wrong in ({"name": "x"}, Item(3), "x", None):
        with pytest.raises(PayloadError, match="task 'pay': the payload is no Item"):
            Pay.enqueue(wrong)  # type: ignore[arg-type]
    assert q.tasks == []


def test_a_wrong_payload_that_was_sent_by_name_fails_for_good_and_names_the_field(app: tq.App, q: tq.testing.Fake) -> None:
    class Pay(tq.Task[Item, None], app=app):
        type = "pay"
        retries = 5

        def execute(self, payload: Item) -> None:
            raise AssertionError("it must not run")

    q.client.enqueue("pay", {"name": 3, "amount": "1"})
    q.client.enqueue("pay")
    q.run_all()
    assert [(row["state"], row["attempt"], row["error"]["type"]) for row in q.tasks] == [("failed", 1, "PayloadError")] * 2
    assert "is no Item: name: Input should be a valid string, got 3." in q.tasks[0]["error"]["message"]
    assert q.tasks[0]["error"]["frames"] == []  # none of them is the handler's


def test_a_wrong_result_fails_the_task_for_good_and_names_the_field(app: tq.App, q: tq.testing.Fake) -> None:
    class Pay(tq.Task[int, Receipt], app=app):
        type = "pay"

        def execute(self, payload: int) -> Receipt:
            return {"order": payload}  # type: ignore[typeddict-item]

    with pytest.raises(TaskFailed, match="the result is no Receipt: paid: Field required"):
        Pay.options(retries=5).enqueue(3).result()
    assert q.tasks[0]["attempt"] == 1


def test_a_result_that_another_version_left_is_a_payload_error_for_its_reader(app: tq.App, q: tq.testing.Fake) -> None:
    class Pay(tq.Task[int, int], app=app):
        type = "pay"

        def execute(self, payload: int) -> int:
            return payload

    handle = Pay.enqueue(1)
    (claimed,) = q.client.claim(["default"])
    q.client.settle([(claimed["id"], claimed["claim"], "succeeded", {"result": "old"})])
    with pytest.raises(PayloadError, match="the result is no int"):
        handle.result()


def test_one_instance_serves_all_tasks_of_a_worker(app: tq.App) -> None:
    made: list[object] = []

    class Count(tq.Task[None, int], app=app):
        type = "count"

        def __init__(self) -> None:
            made.append(self)
            self.runs = 0

        def execute(self, payload: None) -> int:
            self.runs += 1
            return self.runs

    with tq.testing.fake(app) as q:
        assert made == []
        assert [Count.enqueue(None).result() for _ in range(3)] == [1, 2, 3]
        q.run_all()
    with tq.testing.fake(app):
        assert Count.enqueue(None).result() == 1
    assert len(made) == 2


def test_an_instance_that_cannot_be_made_fails_its_task_and_is_tried_again(app: tq.App, q: tq.testing.Fake) -> None:
    tries: list[int] = []

    class Connected(tq.Task[None, str], app=app):
        type = "connected"
        retries = 1

        def __init__(self) -> None:
            tries.append(1)
            if len(tries) == 1:
                raise ConnectionError("no database yet")

        def execute(self, payload: None) -> str:
            return "done"

    handle = Connected.enqueue(None)
    q.advance("1m")
    assert handle.result() == "done"
    assert q.tasks[0]["failures"] == 1


def test_a_typed_handler_may_return_or_raise_its_wishes(app: tq.App, q: tq.testing.Fake) -> None:
    class Later(tq.Task[str, int], app=app):
        type = "later"

        def execute(self, payload: str) -> int | tq.Snooze | tq.Cancel:
            if tq.current().attempt > 1:
                return 3
            if payload == "raise":
                raise tq.Snooze("1m")
            return tq.Snooze("1m") if payload == "snooze" else tq.Cancel("why not")

    for word in ("snooze", "raise", "cancel"):
        Later.enqueue(word)
    q.run_all()
    assert [row["state"] for row in q.tasks] == ["scheduled", "scheduled", "cancelled"]
    q.advance("1m")
    assert [row["result"] for row in q.tasks] == [3, 3, None]


@pytest.mark.parametrize("static", [False, True])
def test_a_class_may_say_how_it_backs_off(app: tq.App, q: tq.testing.Fake, static: bool) -> None:
    seen: list[tuple[int, str]] = []

    def answer(failures: int, error: BaseException) -> float:
        seen.append((failures, str(error)))
        return 100.0 * failures

    class Try(tq.Task[None, None], app=app):
        type = "try"
        retries = 2
        if static:
            backoff = staticmethod(answer)
        else:

            def backoff(self, failures: int, error: BaseException) -> float:  # type: ignore[no-redef]
                return answer(failures, error)

        def execute(self, payload: None) -> None:
            raise OSError("not yet")

    Try.enqueue(None)
    q.run_all()
    assert (q.tasks[0]["due_at"] - q.now.timestamp() * 1000) == 100_000
    q.advance("99s")
    assert q.tasks[0]["attempt"] == 1
    q.advance("1s")
    assert (q.tasks[0]["due_at"] - q.now.timestamp() * 1000) == 200_000
    q.advance("200s")
    assert q.tasks[0]["state"] == "failed"
    assert seen == [(1, "not yet"), (2, "not yet")]  # not asked where no retry is left


# what it costs those who do not use it


def test_pydantic_is_imported_by_nothing_but_a_typed_task() -> None:
    code = (
        "import sys, tq\n"
        "@tq.task\n"
        "def work(n: int) -> int: return n\n"
        "tq.connect, tq.Backoff, tq.current, tq.Outgoing, work.payload(3), tq.Task, tq.typed\n"
        "print([name for name in sys.modules if name.startswith(('pydantic', 'asyncio'))])\n"
        "import tq.worker, tq.testing\n"
        "print([name for name in sys.modules if name.startswith(('pydantic', 'lmdb'))])\n"
        "class Typed(tq.Task[int, int]):\n"
        "    type = 'typed'\n"
        "    def execute(self, payload: int) -> int: return payload\n"
        "print('pydantic' in sys.modules)\n"
    )
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=30, check=True, env=env)
    assert done.stdout.splitlines() == ["[]", "[]", "True"]


def test_the_examples_of_the_room_are_true() -> None:
    found = doctest.testmod(tq.typed)
    assert (found.failed, found.attempted > 4) == (0, True)

"""Batches from programs: created, filled, closed, looked at from inside, in the blocking face and the asyncio one; by the real rules."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest

import tq
from tq import testing
from tq.client.batches import Batch
from tq.errors import BatchOver, NoSuchBatch, TaskTimeout, UsageError

app = tq.App()
heard: list[Any] = []


@app.task("load")
def load(n: int) -> int:
    return n * 2


@app.task("total")
def total(numbers: list[int]) -> int:
    return sum(numbers)


@app.task("tell")
def tell(text: str = "") -> None:
    batch = tq.current().batch
    assert batch is not None
    row = batch.progress()
    heard.append((text, batch.id, row["state"], row["succeeded"], row["failed"]))


@app.task("split")
def split(n: int) -> None:
    batch = tq.current().batch
    assert batch is not None
    assert batch.progress()["state"] == "running"
    for _ in range(n):
        batch.enqueue("load", {"n": 1})


@app.task("break", retries=0)
def breaks() -> None:
    raise ValueError("no")


@pytest.fixture
def fake() -> Iterator[testing.Fake]:
    heard.clear()
    with testing.fake(app) as one:
        yield one


@pytest.fixture
def q(fake: testing.Fake) -> tq.Client:
    return fake.client


def test_a_block_closes_its_batch_and_callbacks_read_it(q: tq.Client, fake: testing.Fake) -> None:
    with q.batch("import", on_success=tell.s("all in"), on_complete="tell", on_failure=("tell", {"text": "bad"}), meta={"k": "v"}) as b:
        one = b.enqueue("load", {"n": 1})
        many = b.enqueue_many([("load", {"n": 2}), ("load", {"n": 3}, {"priority": 3})])
        flow = b.add(tq.group(load.s(n) for n in (4, 5)) | total.s())
        fake.run_all()
        assert (b.progress()["state"], b.progress()["succeeded"], heard) == ("open", 6, [])
    row = b.wait(1)
    assert (row["state"], row["total"], row["name"], row["meta"]) == ("complete", 6, "import", {"k": "v"})
    assert [task["batch"] for task in q.get_many([one.id, *many, *flow]) if task] == [b.id] * 6
    assert flow[-1].result() == 18
    fake.run_all()
    assert heard == [("", b.id, "complete", 6, 0), ("all in", b.id, "complete", 6, 0)]
    assert [row["id"] for row in q.batches()] == [b.id]


def test_a_block_that_is_left_by_an_exception_leaves_its_batch_open(q: tq.Client, fake: testing.Fake) -> None:
    b = q.batch(on_complete="tell")
    b.enqueue("load", {"n": 1})
    with pytest.raises(ZeroDivisionError), b:
        raise ZeroDivisionError
    fake.run_all()
    assert (b.progress()["state"], heard) == ("open", [])
    assert q.get_batch(b.id).close()["state"] == "complete"
    fake.run_all()
    assert len(heard) == 1


def test_a_member_adds_others_from_inside_and_then_it_is_over(q: tq.Client, fake: testing.Fake) -> None:
    with q.batch(on_success=tell) as b:
        b.enqueue("split", {"n": 3})
    fake.run_all()
    assert (b.progress()["succeeded"], heard) == (4, [("", b.id, "complete", 4, 0)])
    with pytest.raises(BatchOver, match="it is complete") as error:
        b.enqueue("load", {"n": 1})
    assert error.value.details["id"] == b.id
    with pytest.raises(BatchOver):
        q.enqueue("load", {"n": 1}, batch=b)
    with pytest.raises(BatchOver):
        load.options(batch=b.id).enqueue(1)


def test_what_failed_is_retried_as_a_whole_and_what_waits_is_cancelled(q: tq.Client, fake: testing.Fake) -> None:
    with q.batch(on_failure=tell.s("bad"), on_success="tell") as b:
        b.enqueue("break")
        b.enqueue("load", {"n": 1}, delay="1h")
    fake.run_all()
    assert heard == [("bad", b.id, "running", 0, 1)]
    with pytest.raises(TaskTimeout, match=f"batch {b.id} to be complete, but 1 of its members"):
        b.wait()
    chore = b.cancel()
    assert chore is not None
    assert q.wait_chore(chore, 5)
    row = b.progress()
    assert (row["state"], row["failed"], row["cancelled"]) == ("complete", 1, 1)
    assert b.cancel() is None
    assert b.retry() is not None
    fake.run_all()
    row = b.progress()
    assert (row["state"], row["failed"], row["succeeded"]) == ("complete", 1, 1)
    b.remove()
    for verb in (b.progress, b.close, b.cancel, b.retry, b.remove):
        with pytest.raises(NoSuchBatch):
            verb()


def test_one_that_closes_itself(q: tq.Client, fake: testing.Fake) -> None:
    b = q.batch(auto=True, on_success="tell")
    assert repr(b) == f"<batch {b.id}>"
    assert b.add() == []
    b.add(load.s(1), load.s(2))
    fake.run_all()
    assert (b.progress()["state"], len(heard)) == ("complete", 1)


@pytest.mark.parametrize(
    ("callback", "words"),
    [
        (load.s(1) | tell.si(""), "a flow of 2"),
        (7, "got 7"),
        ((), "a signature"),
        ((1, 2), "a signature"),
        (("tell", 1, {}, 4), "a signature"),
    ],
)
def test_what_can_be_no_callback_is_refused_where_it_is_given(q: testing.Fake, callback: Any, words: str) -> None:
    with pytest.raises(UsageError, match="on_failure: expected") as error:
        q.batch(on_failure=callback)
    assert words in str(error.value)
    assert q.batches() == []


@pytest.mark.parametrize("bad", [0, -1, "1", None.__class__, True])
def test_what_is_no_batch_is_refused_before_it_is_sent(q: testing.Fake, bad: Any) -> None:
    with pytest.raises(UsageError, match="batch: expected the id of a batch or its handle"):
        q.enqueue("load", {"n": 1}, batch=bad)


def test_callbacks_go_through_the_middleware_of_who_sends_them() -> None:
    def marked(task: Any, go: Any) -> Any:
        task.options["label"] = "seen"
        return go(task)

    with testing.fake(app) as fake:
        with tq.connect(around_send=[marked]).batch(on_complete=("tell", {"text": "x"})):
            pass
        assert [row["label"] for row in fake.client.list(type="tell")] == ["seen"]


def test_outside_of_a_batch_there_is_none() -> None:
    def look() -> bool:
        return tq.current().batch is None

    plain = tq.App()
    plain.task("look")(look)
    with testing.fake(plain) as fake:
        task = fake.client.enqueue("look")
        fake.run_all()
        assert task.result() is True


def test_the_same_awaited(fake: testing.Fake) -> None:
    async def story() -> None:
        client = tq.aconnect()
        async with client.batch("b", on_success=tell.s("in"), on_complete=("tell", {"text": "all"})) as b:
            one = await b.enqueue("load", {"n": 1})
            ids = await b.enqueue_many([("load", {"n": 2})])
            flow = await b.add(load.s(3), load.s(4) | tell.si("member"))
            assert await b.add() == []
        assert (await b.progress())["waiting"] == 5
        fake.run_all()
        row = await b.wait(5)
        assert (row["state"], row["total"]) == ("complete", 5)
        assert len({one.id, *ids, *(task.id for task in flow)}) == 5
        assert [text for text, *_ in heard] == ["member", "all", "in"]
        assert isinstance(Batch(fake.client, b.id).progress()["id"], int)
        assert [found["id"] for found in await client.batches()] == [b.id]
        other = await client.batch()
        assert repr(other) == f"<batch {other.id}>"
        with pytest.raises(TaskTimeout):
            await other.wait(0.001)
        with pytest.raises(ZeroDivisionError):
            async with client.get_batch(other.id):
                raise ZeroDivisionError
        assert (await other.progress())["state"] == "open"
        assert (await other.cancel(), await other.retry()) == (None, None)
        await other.remove()

    asyncio.run(story())

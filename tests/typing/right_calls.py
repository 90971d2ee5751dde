"""Calls that a type checker must accept, with the types it must see. Checked by mypy, never run."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any, assert_type

import tq


@tq.task
def add(a: int, b: int = 0) -> int:
    return a + b


@tq.task("email", queue="mail", retries=5, timeout="30s")
def send_email(to: str, subject: str = "") -> str:
    return f"{to}: {subject}"


@tq.task
async def fetch(url: str) -> bytes:
    return url.encode()


def blocking() -> None:
    assert_type(add(1, b=2), int)
    assert_type(add.enqueue(1), tq.Handle[int])
    assert_type(add.enqueue(1, b=2).result(timeout="30s"), int)
    assert_type(send_email.options(delay="10m", priority="high").enqueue("a@b.c", subject="Hi").result(), str)
    assert_type(fetch.enqueue("http://localhost").result(), bytes)
    assert_type(add.enqueue(1).wait(30), str)
    assert_type(add.enqueue(1).log(), str)


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

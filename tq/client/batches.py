"""Batches as a client has them: tasks that belong together, and what is sent when they are over.

For: ``client.batch(...)`` and what it gives, in the blocking and the asyncio face; ``tq.current().batch`` inside of one.
Not for: when a batch is over (the daemon), handlers that take several tasks at once (``tq.batch``), tasks that wait for each other
(graphs).
Runs in: every process that uses a client.
Promises: a handle holds no copy of the batch: each question is asked anew; a block that ends with an exception leaves its batch open.

A batch is closed where its ``with`` block ends; until then it is never over, however fast its members are::

    with q.batch("import", on_success=tell.s("all in"), on_failure=("page", {"who": "ops"})) as b:
        for path in paths:
            b.enqueue("load", {"path": path})
        b.add(tq.group(check.s(n) for n in range(9)) | report.s())
    b.wait("1h")                      # {"state": "complete", "total": 120, "succeeded": 119, "failed": 1, ...}

A callback is a task: a signature, a function of ``@tq.task``, the name of a type, or (type, payload, options). Each is sent once at
most: ``on_failure`` when the first member has failed for good, ``on_complete`` when all are over, ``on_success`` when all have succeeded,
be it after some were retried. In a member, and in a callback, ``tq.current().batch`` is the batch: members may add to it.
"""

# ruff: noqa: ASYNC109  (a timeout here is an argument of the verb, which the daemon keeps)

from __future__ import annotations

import time
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, cast

from tq.client.core import WAIT_SLICE, Body, Duration, Options, encode, wire_options
from tq.errors import TaskTimeout, UsageError
from tq.model import brief, duration_ms

if TYPE_CHECKING:
    from types import TracebackType
    from typing import Protocol, Self, TypeAlias, Unpack

    from tq.client.aio import AsyncClient, AsyncHandle
    from tq.client.blocking import Client
    from tq.client.handle import Handle
    from tq.middleware import AroundSend
    from tq.signature import Flow, Plan

    class Signing(Protocol):
        """What ``@tq.task`` makes."""

        def s(self, *args: Any, **kwargs: Any) -> Flow[Any]: ...

    Callback: TypeAlias = str | Sequence[Any] | Flow[Any] | Signing | None
    """What is sent for a batch: see the module's text."""

_WORDS = ("on_complete", "on_success", "on_failure")


def _call_of(word: str, given: Callback) -> tuple[Sequence[Any], Plan | None]:
    """A callback as a row, and the plan that it stands in, if it is a signature. UsageError: it is none."""
    value: Any = given
    value = value.s() if hasattr(value, "s") else value
    if hasattr(value, "plan"):
        plan: Plan = value.plan()
        if len(plan.rows) != 1:
            raise UsageError(f"{word}: expected one task, got a flow of {len(plan.rows)}. Let that task send the others.")
        return plan.rows[0], plan
    row = (value,) if isinstance(value, str) else value
    if not isinstance(row, list | tuple) or not 1 <= len(row) <= 3 or not isinstance(row[0], str):
        raise UsageError(f"{word}: expected a signature, a task, the name of a type or (type, payload, options), got {brief(value)}.")
    return (*row, None, {})[:3] if len(row) < 2 else (*row, {})[:3], None


def _wire_call(row: Sequence[Any]) -> list[Any]:
    return [row[0], encode(row[1]), wire_options(cast("Options", row[2] or {}))]


def _joining(options: Options, number: int) -> Options:
    return {**options, "batch": number}


def _with_batch(rows: Iterable[Sequence[Any]], number: int) -> Iterator[tuple[str, Any, Options]]:
    for row in rows:
        yield row[0], row[1], _joining(row[2] if len(row) > 2 and row[2] else {}, number)


def _laid(flows: Sequence[Flow[Any]], number: int) -> Plan:
    """A plan of these flows, at least one, whose tasks join a batch."""
    first, *others = flows
    plan = first.plan(*others)
    plan.rows = [*_with_batch(plan.rows, number)]
    return plan


def _wait_args(number: int, deadline: float | None) -> tuple[Body, float]:
    left = WAIT_SLICE if deadline is None else min(max(deadline - time.monotonic(), 0.0), WAIT_SLICE)
    return {"id": number, "timeout_ms": int(left * 1000) or 1}, left


def _not_over(number: int, timeout: Duration | None) -> TaskTimeout:
    return TaskTimeout(f"expected batch {number} to be complete within {timeout}, but it is not. Wait longer, or look: `tq batch show`.")


class BatchVerbs:
    """What the blocking client has of batches."""

    _around: tuple[AroundSend, ...]

    def call(self, verb: str, args: Body | None = None, timeout: float | None = None) -> Body:
        raise NotImplementedError

    def batch(
        self, name: str | None = None, *, on_complete: Callback = None, on_success: Callback = None, on_failure: Callback = None,
        meta: Mapping[str, str] | None = None, auto: bool = False,
    ) -> Batch:  # fmt: skip
        """Create a batch, which is open: use it in a ``with``, or ``close`` it. ``auto``: it closes itself when it has members and they are
        over. UsageError names a callback that cannot be sent."""
        args: Body = {"name": name, "meta": meta, "auto": auto}
        for word, value in zip(_WORDS, (on_complete, on_success, on_failure), strict=True):
            if value is not None:
                row, plan = _call_of(word, value)
                if plan is not None:
                    (row,) = plan.through()
                elif self._around:
                    from tq.middleware import rows_through

                    (row,) = rows_through(self._around, [row])
                args[word] = _wire_call(row)
        return self.get_batch(self.call("create_batch", args)["id"])

    def get_batch(self, number: int) -> Batch:
        """The batch of that id, which is not asked for."""
        return Batch(cast("Client", self), number)

    def batches(self, limit: int = 50, before: int | None = None) -> Sequence[Body]:
        """Batches, newest first, as ``tq.wire`` has them; with ids below ``before``."""
        return cast("Sequence[Body]", self.call("batches", {"limit": limit, "before": before})["batches"])


class Batch:
    """One batch, by its client and id. BatchOver: it is complete or cancelled and takes no more members; NoSuchBatch: there is none."""

    __slots__ = ("client", "id")

    def __init__(self, client: Client, number: int) -> None:
        self.client, self.id = client, number

    def __repr__(self) -> str:
        return f"<batch {self.id}>"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if error is None:  # else nobody knows whether these were all
            self.close()

    def enqueue(self, type: str, payload: object = None, **options: Unpack[Options]) -> Handle[Any]:  # noqa: A002
        """Store a task that is a member; as ``Client.enqueue``. One that was there by its name does not join."""
        return self.client.enqueue(type, payload, **_joining(options, self.id))

    def enqueue_many(self, rows: Iterable[Sequence[Any]]) -> list[int]:
        """Store many members; as ``Client.enqueue_many``."""
        return self.client.enqueue_many(_with_batch(rows, self.id))

    def add(self, *flows: Flow[Any]) -> list[Handle[Any]]:
        """Store what is written with signatures (chains, groups, single calls), whole or not at all; its tasks, which are members."""
        from tq.client.handle import Handle

        plan = _laid(flows, self.id) if flows else None
        return [Handle(self.client, one) for one in self.client.enqueue_graph(plan.through())] if plan and plan.rows else []

    def close(self) -> Body:
        """That were all, but for what its members add; how it stands."""
        return cast(Body, self.client.call("close_batch", {"id": self.id})["batch"])

    def progress(self) -> Body:
        """How it stands: state (open, running or complete), total, waiting, running, succeeded, failed, cancelled, expired, ..."""
        return cast(Body, self.client.call("batch", {"id": self.id})["batch"])

    def wait(self, timeout: Duration | None = None) -> Body:
        """How it stands when it is complete. TaskTimeout if that takes longer than ``timeout``."""
        deadline = None if timeout is None else time.monotonic() + duration_ms(timeout) / 1000
        while True:
            args, left = _wait_args(self.id, deadline)
            body = self.client.call("wait_batch", args, left + self.client.timeout)
            if body["done"]:
                return cast(Body, body["batch"])
            if deadline is not None and time.monotonic() >= deadline:
                raise _not_over(self.id, timeout)

    def cancel(self) -> int | None:
        """Close it, cancel its members that wait and ask those that run to end: the chore that does it (``wait_chore``), None: nothing to
        do."""
        return cast("int | None", self.client.call("cancel_batch", {"id": self.id})["chore"])

    def retry(self) -> int | None:
        """Run its members again that failed, were cancelled or expired, each behind those it waits for: the chore, as for ``cancel``."""
        return cast("int | None", self.client.call("retry_batch", {"id": self.id})["chore"])

    def remove(self) -> None:
        """Forget it, but not its tasks. UsageError: members are not over."""
        self.client.call("remove_batch", {"id": self.id})


class AsyncBatchVerbs:
    """The same for programs with an event loop."""

    _around: tuple[AroundSend, ...]

    async def call(self, verb: str, args: Body | None = None, timeout: float | None = None) -> Body:
        raise NotImplementedError

    def batch(
        self, name: str | None = None, *, on_complete: Callback = None, on_success: Callback = None, on_failure: Callback = None,
        meta: Mapping[str, str] | None = None, auto: bool = False,
    ) -> AsyncBatch:  # fmt: skip
        """As that of the blocking client: ``async with q.batch("import") as b``, or ``b = await q.batch("import")``."""
        made = dict(zip(_WORDS, (on_complete, on_success, on_failure), strict=True))
        return AsyncBatch(cast("AsyncClient", self), 0, {"name": name, "meta": meta, "auto": auto}, made)

    async def _create_batch(self, args: Body, callbacks: Mapping[str, Callback]) -> int:
        found = dict(args)
        for word, value in callbacks.items():
            if value is not None:
                row, plan = _call_of(word, value)
                if plan is not None:
                    (row,) = await plan.athrough()
                elif self._around:
                    from tq.middleware import arows_through

                    (row,) = await arows_through(self._around, [row])
                found[word] = _wire_call(row)
        return cast(int, (await self.call("create_batch", found))["id"])

    def get_batch(self, number: int) -> AsyncBatch:
        return AsyncBatch(cast("AsyncClient", self), number)

    async def batches(self, limit: int = 50, before: int | None = None) -> Sequence[Body]:
        return cast("Sequence[Body]", (await self.call("batches", {"limit": limit, "before": before}))["batches"])


class AsyncBatch:
    """One batch, by its client and id; 0 until it is awaited, or its ``async with`` is entered."""

    __slots__ = ("_callbacks", "_made", "client", "id")

    def __init__(self, client: AsyncClient, number: int, made: Body | None = None, callbacks: Mapping[str, Callback] | None = None) -> None:
        self.client, self.id, self._made, self._callbacks = client, number, made, callbacks or {}

    def __repr__(self) -> str:
        return f"<batch {self.id}>"

    def __await__(self) -> Generator[Any, Any, Self]:
        return self._create().__await__()

    async def _create(self) -> Self:
        if self._made is not None:
            self.id, self._made = await self.client._create_batch(self._made, self._callbacks), None
        return self

    async def __aenter__(self) -> Self:
        return await self._create()

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if error is None:  # else nobody knows whether these were all
            await self.close()

    async def enqueue(self, type: str, payload: object = None, **options: Unpack[Options]) -> AsyncHandle[Any]:  # noqa: A002
        return await self.client.enqueue(type, payload, **_joining(options, self.id))

    async def enqueue_many(self, rows: Iterable[Sequence[Any]]) -> Sequence[int]:
        return await self.client.enqueue_many(_with_batch(rows, self.id))

    async def add(self, *flows: Flow[Any]) -> list[AsyncHandle[Any]]:
        from tq.client.aio import AsyncHandle

        plan = _laid(flows, self.id) if flows else None
        ids = await self.client.enqueue_graph(await plan.athrough()) if plan and plan.rows else []
        return [AsyncHandle(self.client, one) for one in ids]

    async def close(self) -> Body:
        return cast(Body, (await self.client.call("close_batch", {"id": self.id}))["batch"])

    async def progress(self) -> Body:
        return cast(Body, (await self.client.call("batch", {"id": self.id}))["batch"])

    async def wait(self, timeout: Duration | None = None) -> Body:
        deadline = None if timeout is None else time.monotonic() + duration_ms(timeout) / 1000
        while True:
            args, left = _wait_args(self.id, deadline)
            body = await self.client.call("wait_batch", args, left + self.client.timeout)
            if body["done"]:
                return cast(Body, body["batch"])
            if deadline is not None and time.monotonic() >= deadline:
                raise _not_over(self.id, timeout)

    async def cancel(self) -> int | None:
        return cast("int | None", (await self.client.call("cancel_batch", {"id": self.id}))["chore"])

    async def retry(self) -> int | None:
        return cast("int | None", (await self.client.call("retry_batch", {"id": self.id}))["chore"])

    async def remove(self) -> None:
        await self.client.call("remove_batch", {"id": self.id})

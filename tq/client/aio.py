"""The asyncio face of the client: ``AsyncClient`` and ``AsyncHandle``.

For: programs with an event loop; many requests may be on their way at once on one connection.
Not for: blocking callers (blocking), starting daemons (start).
Runs in: any process but the daemon, on the loop that made its first call.
Promises: an answer reaches the call that asked, in whatever order they come; a lost connection is made again once
and what was unanswered is repeated; a call that is cancelled disturbs no other.
"""

# ruff: noqa: ASYNC109  (a timeout here is an argument of the verb, which the daemon keeps)

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterable, Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Generic, Self, TypeVar, Unpack, cast
from weakref import WeakKeyDictionary

from tq import wire
from tq.client.acting import (
    EVENTS_MOST,
    READ_WITHIN,
    Act,
    Changes,
    LimitSettings,
    QueueSettings,
    Which,
    act_args,
    chore_goes_on,
    chore_of,
    end_of,
    pauses,
    which_args,
    wire_settings,
)
from tq.client.blocking import Found, Rows
from tq.client.core import (
    ANSWER_WITHIN,
    BACK_WITHIN,
    FRAMES_IN_FLIGHT,
    WAIT_SLICE,
    Body,
    Core,
    Duration,
    Ids,
    Options,
    Room,
    WireTask,
    claim_args,
    decode,
    decoded,
    encode,
    ended,
    error_of,
    groups,
    ids_of,
    no_such_task,
    not_over,
    watch_args,
    wire_options,
    wire_results,
    wire_tasks,
)
from tq.client.graphs import AsyncGraphVerbs
from tq.client.link import not_running, socket_path
from tq.client.schedules import AsyncScheduleVerbs
from tq.client.tenants import AsyncTenantVerbs
from tq.client.views import AsyncViewVerbs
from tq.errors import DaemonError, DaemonNotRunning, NoSuchTask, Refused, TqError
from tq.model import duration_ms

if TYPE_CHECKING:
    from tq.middleware import AroundSend

R = TypeVar("R")
T = TypeVar("T")
_Sent = tuple[int, asyncio.Future[tuple[int, Any]]]


class AsyncClient(AsyncScheduleVerbs, AsyncViewVerbs, AsyncGraphVerbs, AsyncTenantVerbs):
    """As ``tq.client.Client``, awaited; see there for what each verb gives and raises. Use it in an ``async with``."""

    def __init__(
        self, data_dir: str | Path, *, autostart: bool = False, timeout: float = ANSWER_WITHIN,
        around_send: Iterable[AroundSend] = (), wait_for_room: Duration = 0, read_only: bool = False,
    ) -> None:  # fmt: skip
        self.data_dir, self.timeout, self.autostart, self.wait_for_room = str(data_dir), timeout, autostart, wait_for_room
        self._around = tuple(around_send)
        self.path = socket_path(self.data_dir)
        self._met = False
        self._core = Core(read_only=read_only)
        self._waiting: dict[int, asyncio.Future[tuple[int, Any]]] = {}
        self._connecting = asyncio.Lock()
        self._writer: asyncio.StreamWriter | None = None
        self._reading: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connection; calls that wait fail. A later call connects again."""
        if self._reading is not None:
            self._reading.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._reading
            self._reading = None
        await self._hang_up()
        self._fail(DaemonNotRunning("the client was closed before the answer came. Ask again on an open one."))

    # the connection

    async def _open(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        try:
            return await asyncio.wait_for(asyncio.open_unix_connection(self.path, limit=1 << 18), self.timeout)
        except OSError as error:  # a TimeoutError is one
            raise not_running(self.path, error) from None

    async def _open_again(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """As ``_open``; where it may start a daemon, one that was there before has ``BACK_WITHIN`` to come back."""
        until = time.monotonic() + (BACK_WITHIN if self.autostart and self._met else 0.0)
        while True:
            try:
                return await self._open()
            except DaemonNotRunning:
                if time.monotonic() >= until:
                    raise
            await asyncio.sleep(0.05)

    async def _connect(self) -> asyncio.StreamWriter:
        async with self._connecting:
            if self._writer is None:
                try:
                    reader, writer = await self._open_again()
                except DaemonNotRunning:
                    if self._met or not self.autostart:
                        raise
                    from tq.client.start import start_if_needed

                    await asyncio.to_thread(start_if_needed, self.data_dir)
                    reader, writer = await self._open()
                writer.write(self._core.connected())
                self._writer, self._met = writer, True
                self._reading = asyncio.create_task(self._read(reader), name="tq-client-reader")
        return self._writer

    async def _hang_up(self) -> None:
        writer, self._writer = self._writer, None
        if writer is not None:
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()

    async def _read(self, reader: asyncio.StreamReader) -> None:
        """Hand each answer to its call until the connection ends; then connect once more if somebody still waits."""
        lost = False
        while True:
            try:
                data = await reader.read(1 << 18)
            except OSError:
                data = b""
            try:
                if data:
                    lost = not self._deliver(data) and lost
                    continue
                await self._hang_up()
                if lost:
                    raise DaemonNotRunning(f"the daemon at {self.path} ends the connection again and again. See its daemon.log.")
                if not self._core.unanswered:
                    return  # the next call connects
                lost = True
                async with self._connecting:
                    if self._writer is not None:
                        return  # a call has connected meanwhile, with a reader of its own
                    reader, writer = await self._open_again()
                    writer.write(self._core.connected())
                    self._writer = writer
            except TqError as error:
                self._fail(error)
                await self._hang_up()
                return

    def _deliver(self, data: bytes) -> bool:
        found = self._core.received(data)
        for number, kind, body in found:
            future = self._waiting.pop(number, None)
            if future is not None and not future.done():
                future.set_result((kind, body))
        return bool(found)

    def _fail(self, error: TqError) -> None:
        self._core.unanswered.clear()
        waiting, self._waiting = self._waiting, {}
        for future in waiting.values():
            if not future.done():
                future.set_exception(error)

    async def _send(self, verb: str, args: Body) -> _Sent:
        writer = await self._connect()
        number, data = self._core.request(verb, args)
        future = self._waiting[number] = asyncio.get_running_loop().create_future()
        writer.write(data)
        with contextlib.suppress(OSError):  # a connection that is lost here is the reader's to notice
            await writer.drain()
        return number, future

    async def _answer(self, sent: _Sent, within: float) -> Body:
        number, future = sent
        try:
            kind, body = await asyncio.wait_for(future, within)
        except TimeoutError:
            raise DaemonError(
                f"the daemon at {self.path} did not answer within {within:g} s; what was asked may or may not have been done. "
                "Look with `tq daemon status`, then ask again."
            ) from None
        finally:
            self._waiting.pop(number, None)
            self._core.unanswered.pop(number, None)
        if kind == wire.ERROR:
            raise error_of(body)
        return cast(Body, body)

    async def call(self, verb: str, args: Body | None = None, timeout: float | None = None) -> Body:
        """Any verb of ``tq.wire``, as it stands there. ``timeout``: seconds until the answer must be there."""
        return await self._answer(await self._send(verb, args or {}), self.timeout if timeout is None else timeout)

    # sending

    async def enqueue(self, type: str, payload: object = None, **options: Unpack[Options]) -> AsyncHandle[Any]:  # noqa: A002
        if not self._around:
            return await self._enqueue(type, payload, options)
        from tq.middleware import Outgoing, asend_through

        handle: AsyncHandle[Any] = await asend_through(
            self._around, Outgoing(type, payload, options), lambda task: self._enqueue(task.type, task.payload, task.options)
        )
        return handle

    async def _enqueue(self, type: str, payload: object, options: Options) -> AsyncHandle[Any]:  # noqa: A002
        args = {"tasks": [(type, encode(payload), wire_options(options))], "again": False}
        room = Room(options.get("wait_for_room", self.wait_for_room))
        while True:
            try:
                return AsyncHandle(self, (await self.call("enqueue", args))["ids"][0])
            except Refused as refused:
                pause = room.pause(refused)
                if pause is None:
                    raise
            await asyncio.sleep(pause)

    async def enqueue_many(self, rows: Iterable[Sequence[Any]]) -> Sequence[int]:
        done: deque[int] = deque()
        waiting: deque[tuple[_Sent, list[WireTask]]] = deque()
        failed: TqError | None = None
        room = Room(self.wait_for_room)
        if self._around:
            from tq.middleware import arows_through

            rows = await arows_through(self._around, rows)

        async def settle_one() -> None:
            nonlocal failed
            sent, group = waiting.popleft()
            room.begin()
            while True:
                try:
                    return done.extend((await self._answer(sent, self.timeout))["ids"])
                except TqError as error:
                    if failed is None and room.halves(error, group):
                        group, rest = group[: len(group) // 2], group[len(group) // 2 :]
                        sent = await self._send("enqueue", {"tasks": group, "again": False})
                        waiting.appendleft((await self._send("enqueue", {"tasks": rest, "again": False}), rest))
                        continue
                    pause = room.pause(error) if isinstance(error, Refused) and failed is None else None
                    if pause is None:
                        failed = failed or error
                        return None
                await asyncio.sleep(pause)
                sent = await self._send("enqueue", {"tasks": group, "again": False})

        try:
            for group in groups(wire_tasks(rows)):
                waiting.append((await self._send("enqueue", {"tasks": group, "again": False}), group))
                if len(waiting) >= FRAMES_IN_FLIGHT:
                    await settle_one()
                if failed is not None:
                    break
        except TqError as error:
            failed = error
        while waiting:
            await settle_one()
        if failed is not None:
            failed.details["ids"] = [*done]
            raise failed
        return [*done]

    # reading

    async def get(self, task_id: int) -> Body:
        task = (await self.get_many([task_id]))[0]
        if task is None:
            raise NoSuchTask(no_such_task(task_id))
        return task

    async def get_many(self, ids: Ids) -> Found:
        return [decoded(row) for row in (await self.call("get", {"ids": ids_of(ids)}))["tasks"]]

    async def list(self, *, limit: int = 50, before: bytes | None = None, **filters: object) -> Rows:
        rows = (await self.call("find", {**which_args(filters), "limit": limit, "before": before}, READ_WITHIN))["tasks"]
        return [cast(Body, decoded(row)) for row in rows]

    async def peek(self, limit: int = 10, queue: str | None = None, tenant: str | None = None) -> Rows:
        return [cast(Body, decoded(row)) for row in (await self.call("peek", {"limit": limit, "queue": queue, "tenant": tenant}))["tasks"]]

    async def wait(self, ids: Ids, timeout: Duration | None = None, any_one: bool = False) -> Found:
        wanted = ids_of(ids)
        rows, done = await self._wait(wanted, timeout, any_one)
        if not done:
            raise not_over(wanted, timeout)
        return [decoded(row) for row in rows]

    async def _wait(self, ids: Sequence[int], timeout: Duration | None, any_one: bool) -> tuple[Any, bool]:
        deadline = None if timeout is None else time.monotonic() + duration_ms(timeout) / 1000
        while True:
            left = WAIT_SLICE if deadline is None else min(max(deadline - time.monotonic(), 0.0), WAIT_SLICE)
            args = {"ids": [*ids], "timeout_ms": int(left * 1000) or 1, "any": any_one}
            body = await self.call("wait", args, left + self.timeout)
            if body["done"] or (deadline is not None and time.monotonic() >= deadline):
                return body["tasks"], body["done"]

    async def result(self, task_id: int, timeout: Duration | None = None) -> Any:
        rows, done = await self._wait([task_id], timeout, False)
        if rows[0] is None:
            raise NoSuchTask(no_such_task(task_id))
        if not done:
            raise not_over([task_id], timeout)
        return ended(rows[0])

    async def send_input(self, task_id: int, data: bytes = b"", *, end: bool = False, size: tuple[int, int] = (0, 0)) -> str:
        rows, columns = size
        body = await self.call("input", {"id": task_id, "data": data, "end": end, "rows": rows, "columns": columns})
        return cast(str, body["outcome"])

    async def log_chunks(self, task_id: int, offset: int = 0) -> AsyncIterator[tuple[int, int, bytes]]:
        while True:
            body = await self.call("log", {"id": task_id, "offset": offset, "limit": 256 * 1024})
            for at, stream, data in body["chunks"]:
                yield at, stream, data
            if body["end"] or not body["chunks"]:
                return
            offset = body["next"]

    async def log(self, task_id: int) -> str:
        return b"".join([data async for _, stream, data in self.log_chunks(task_id) if stream]).decode("utf-8", "replace")

    async def watch(
        self, topics: Sequence[str], ids: Sequence[int] | None = None, *, hz: int = 4, offset: int = 0
    ) -> AsyncGenerator[Body, None]:
        """As the blocking one, from the first step of the iteration on."""
        reader, writer = await self._open()
        core = Core(read_only=self._core.read_only)
        try:
            number, request = core.request("watch", watch_args(topics, ids, hz, offset))
            core.unanswered.clear()
            writer.write(core.connected() + request)
            while data := await reader.read(1 << 18):
                for got, kind, body in core.received(data):
                    if kind == wire.ERROR:
                        raise error_of(body)
                    if got == number and kind == wire.EVENT:
                        yield body
        except OSError:
            pass  # the same as an end
        finally:
            writer.close()
        raise DaemonNotRunning(f"the daemon at {self.path} ended the connection. Start one with `tq daemon start`.")

    async def dead(self, **which: Unpack[Which]) -> Sequence[Body]:
        return cast("Sequence[Body]", (await self.call("dead", which_args(which), READ_WITHIN))["groups"])

    async def why(self, task_id: int) -> Sequence[tuple[str, Body]]:
        return [(word, details) for word, details in (await self.call("why", {"id": task_id}))["reasons"]]

    async def events(self, limit: int = 50, before: int | None = None, after: int | None = None) -> Sequence[Body]:
        return cast("Sequence[Body]", (await self.call("events", {"limit": limit, "before": before, "after": after}))["events"])

    async def stats(self) -> Body:
        return await self.call("stats")

    async def history(self, step_s: int, queue: str | None = None, limit: int = 720, until: int | None = None) -> Body:
        return await self.call("history", {"step_s": step_s, "queue": queue, "limit": limit, "until": until})

    async def attention(self) -> Sequence[Body]:
        return cast("Sequence[Body]", (await self.call("attention"))["lines"])

    async def mute(self, key: str, duration: Duration) -> None:
        await self.call("mute", {"key": key, "for_ms": duration_ms(duration)})

    async def queues(self) -> Sequence[Body]:
        return cast("Sequence[Body]", (await self.call("queues"))["queues"])

    async def types(self) -> Sequence[Body]:
        return cast("Sequence[Body]", (await self.call("types"))["types"])

    async def workers(self) -> Sequence[Body]:
        return cast("Sequence[Body]", (await self.call("workers"))["workers"])

    async def status(self) -> Body:
        return await self.call("status")

    # acting

    async def cancel(self, ids: Ids) -> Sequence[str]:
        return cast("Sequence[str]", (await self.call("cancel", {"ids": ids_of(ids)}))["outcomes"])

    async def retry(self, ids: Ids, **changes: Unpack[Changes]) -> Sequence[str]:
        return cast("Sequence[str]", (await self.call("retry", act_args({"ids": ids_of(ids)}, changes)))["outcomes"])

    async def edit(self, ids: Ids, **changes: Unpack[Changes]) -> Sequence[str]:
        return cast("Sequence[str]", (await self.call("edit", act_args({"ids": ids_of(ids)}, changes)))["outcomes"])

    async def remove(self, ids: Ids) -> Sequence[str]:
        return cast("Sequence[str]", (await self.call("remove", {"ids": ids_of(ids)}))["outcomes"])

    async def suspend(self, ids: Ids) -> Sequence[str]:
        return cast("Sequence[str]", (await self.call("suspend", {"ids": ids_of(ids)}))["outcomes"])

    async def resume(self, ids: Ids) -> Sequence[str]:
        return cast("Sequence[str]", (await self.call("resume", {"ids": ids_of(ids)}))["outcomes"])

    async def start_chore(self, verb: Act, which: Which, expected: int | None = None, **changes: Unpack[Changes]) -> int:
        return cast(int, (await self.call(verb, act_args(which, changes, expected), READ_WITHIN))["chore"])

    async def dry_run(self, verb: Act, which: Which, **changes: Unpack[Changes]) -> tuple[int, Sequence[int]]:
        body = await self.call(verb, {**act_args(which, changes), "dry_run": True}, READ_WITHIN)
        return body["count"], body["some"]

    async def chores(self) -> Sequence[Body]:
        return cast("Sequence[Body]", (await self.call("chores"))["chores"])

    async def wait_chore(
        self, chore: int, timeout: Duration | None = None, progress: Callable[[Body], object] | None = None
    ) -> Body | None:
        deadline = None if timeout is None else time.monotonic() + duration_ms(timeout) / 1000
        for pause in pauses():
            state = chore_of(chore, await self.chores())
            if state is None:
                break
            if progress is not None:
                progress(state)
            if deadline is not None and time.monotonic() >= deadline:
                raise chore_goes_on(chore, timeout)
            await asyncio.sleep(pause)
        return end_of(chore, await self.events(EVENTS_MOST))

    async def set_queue(self, name: str, **settings: Unpack[QueueSettings]) -> bool:
        return bool((await self.call("set_queue", {"name": name, **wire_settings(settings)})).get("new"))

    async def resources(self) -> Sequence[Body]:
        """Named resources: name, amount, in_use, tasks (some that use it), kept_for (a task for which what is free is kept)."""
        return cast("Sequence[Body]", (await self.call("resources"))["resources"])

    async def set_resource(self, name: str, amount: int) -> bool:
        """How much there is of a named resource from now on; what runs goes on. Whether it is new."""
        return bool((await self.call("set_resource", {"name": name, "amount": amount}))["new"])

    async def limits(self) -> Sequence[Body]:
        """Limits: name, scope, of, rate, per_ms, burst, running, used (of whom, running, tokens, reached, opens_at)."""
        return cast("Sequence[Body]", (await self.call("limits"))["limits"])

    async def set_limit(self, name: str, **rule: Unpack[LimitSettings]) -> bool:
        """How many tasks of whom may begin in a time, and run at a time; what is absent stays. Whether it is new."""
        return bool((await self.call("set_limit", {"name": name, **rule}))["new"])

    async def remove_limit(self, name: str) -> None:
        """What it held goes on."""
        await self.call("remove_limit", {"name": name})

    async def remove_resource(self, name: str) -> None:
        """Tasks that need it wait until it is there again."""
        await self.call("remove_resource", {"name": name})

    async def stop(self, now: bool = False) -> None:
        await self.call("stop", {"now": now})

    # consuming from outside the pool

    async def claim(
        self, queues: Sequence[str], types: Sequence[str] | None = None, *, limit: int = 1, wait: Duration = 0, lease: Duration = 30
    ) -> Sequence[Body]:
        args = claim_args(queues, types, limit, wait, lease)
        body = await self.call("claim", args, args["wait_ms"] / 1000 + self.timeout)
        return [{**task, "payload": decode(task["payload"])} for task in body["tasks"]]

    async def extend(self, task_id: int, claim: int, lease: Duration = 30) -> bool:
        return bool((await self.call("extend", {"id": task_id, "claim": claim, "lease_ms": duration_ms(lease)}))["ok"])

    async def settle(self, results: Sequence[Sequence[Any]]) -> Sequence[bool]:
        return cast("Sequence[bool]", (await self.call("settle", {"results": wire_results(results)}))["settled"])

    async def release(self, claims: Sequence[tuple[int, int]]) -> Sequence[bool]:
        return cast("Sequence[bool]", (await self.call("release", {"claims": [[*claim] for claim in claims]}))["released"])


class AsyncHandle(Generic[R]):
    """One task, by its client and id. ``R`` is what its handler returns. See ``tq.client.Handle``."""

    __slots__ = ("_read", "client", "id")

    def __init__(self, client: AsyncClient, task_id: int, read: Callable[[Any], R] | None = None) -> None:
        self.client, self.id, self._read = client, task_id, read

    def __repr__(self) -> str:
        return f"<task {self.id}>"

    def reading(self, read: Callable[[Any], T]) -> AsyncHandle[T]:
        return AsyncHandle(self.client, self.id, read)

    async def state(self) -> str:
        return cast(str, (await self.client.get(self.id))["state"])

    async def wait(self, timeout: Duration | None = None) -> str:
        row = (await self.client.wait([self.id], timeout))[0]
        if row is None:
            raise NoSuchTask(no_such_task(self.id))
        return cast(str, row["state"])

    async def result(self, timeout: Duration | None = None) -> R:
        value = await self.client.result(self.id, timeout)
        return cast(R, value) if self._read is None else self._read(value)

    async def log(self) -> str:
        return await self.client.log(self.id)

    async def cancel(self) -> str:
        return (await self.client.cancel([self.id]))[0]


def aconnect(
    data_dir: str | Path | None = None,
    autostart: bool | None = None,
    *,
    around_send: Iterable[AroundSend] = (),
    wait_for_room: Duration = 0,
    read_only: bool = False,
) -> AsyncClient:
    """An asyncio client of the daemon of ``data_dir``, as ``tq.connect``: ``async with tq.aconnect() as q``."""
    from tq.config import data_dir_of

    if _instead is not None:
        return _instead(around_send=around_send, wait_for_room=wait_for_room, read_only=read_only)
    wanted = os.environ.get("TQ_AUTOSTART") == "1" if autostart is None else autostart
    more: dict[str, Any] = {"around_send": around_send, "wait_for_room": wait_for_room, "read_only": read_only}
    return AsyncClient(data_dir_of(data_dir), autostart=wanted, **more)


_defaults: WeakKeyDictionary[asyncio.AbstractEventLoop, dict[str | None, AsyncClient]] = WeakKeyDictionary()


_instead: Callable[..., AsyncClient] | None = None


def stand_in(make: Callable[..., AsyncClient] | None) -> Callable[..., AsyncClient] | None:
    """As that of ``tq.client.blocking``."""
    global _instead
    before, _instead = _instead, make
    return before


async def adefault() -> AsyncClient:
    """The asyncio client of the running loop for the data directory of the environment."""
    if _instead is not None:
        return _instead()
    clients = _defaults.setdefault(asyncio.get_running_loop(), {})
    name = os.environ.get("TQ_DATA_DIR")
    client = clients.get(name)
    if client is None:
        client = clients[name] = aconnect()
    return client

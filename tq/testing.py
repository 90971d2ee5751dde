"""Testing programs that enqueue, and handlers, without a daemon: everything runs in this process, at a clock turned by hand.

For: tests of applications. What is enqueued goes through the real broker, by the real rules: types, defaults, priorities,
     delays, retries and their backoff, deadlines, keys, unique names, middleware, typed payloads.
Not for: measuring; processes, sockets, crashes (start a daemon on a temporary directory for those).
Runs in: the test's process; handlers run on the thread that calls ``run_all``, ``advance``, ``wait`` or ``result``.
Promises: no file, no socket, no waiting; inside ``fake()`` no task reaches a daemon, also not by ``tq.connect()``; time passes
only when it is told to, so a test gives the same answer every time (jitter stands at its middle).

    >>> import tq, tq.testing
    >>> shop = tq.App()
    >>> @shop.task("charge", retries=2, backoff=tq.Backoff.fixed("1m", jitter=False))
    ... def charge(order: int) -> str:
    ...     if tq.current().attempt < 3:
    ...         raise ConnectionError("the bank does not answer")
    ...     return f"paid {order}"
    >>> with tq.testing.fake(shop) as q:
    ...     task = charge.options(delay="10m").enqueue(17)
    ...     q.run_all(), task.state()        # nothing is due yet
    ...     q.advance("10m"), task.state()   # its time has come: one run, which fails
    ...     q.advance("1m"), task.state()
    ...     q.advance("1m"), task.result()
    ...     [row["failures"] for row in q.tasks]
    (0, 'scheduled')
    (1, 'retrying')
    (1, 'retrying')
    (1, 'paid 17')
    [2]

A handler that calls ``advance`` makes time pass while it runs: so a test can let a task run into its timeout, which is
noticed when the handler is done. Commands (``shell``) are not run; they stay pending. What handlers print goes where the
test's own output goes. As a fixture::

    @pytest.fixture
    def q():
        with tq.testing.fake() as q:
            yield q
"""

from __future__ import annotations

import asyncio
import contextvars
import math
import threading
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from itertools import count
from typing import Any, NamedTuple, cast

from tq import app as apps
from tq import wire
from tq.app import App, Declared, Handler
from tq.batch import Item, outcomes
from tq.broker import Broker, Turn
from tq.broker.batches import is_over
from tq.client import AsyncClient, Client, aio, blocking
from tq.client.batches import Batch
from tq.client.core import Body, Core, Duration, decoded
from tq.client.link import Link
from tq.context import Context, Stopped, run_here, running
from tq.errors import ConfigError, TaskTimeout, UsageError
from tq.middleware import AroundSend
from tq.model import MAX_RESULT, Spec, duration_ms, pack, spec_of, unpack
from tq.roles import allow
from tq.signature import results_of
from tq.store import Claimed, TypeInfo, Want
from tq.store.memory import MemoryStore
from tq.waiting import Request
from tq.worker import calls

MOST = 10_000
"""Runs, or turns, after which something surely goes round in a circle."""
_HERE = "(in this process)"


@contextmanager
def fake(*applications: App, now: datetime | None = None) -> Iterator[Fake]:
    """In the ``with``, whatever this process enqueues goes to the Fake that it gives, which runs it when it is told to.

    ``applications``: whose handlers there are (none: what ``@tq.task`` registered, also later). ``now``: where its clock
    starts (with a time zone; none: the present).
    """
    one = Fake(applications, time.time_ns() // 1_000_000 if now is None else int(now.timestamp() * 1000))
    before, abefore = blocking.stand_in(one.connect), aio.stand_in(one.aconnect)
    try:
        yield one
    finally:
        blocking.stand_in(before)
        aio.stand_in(abefore)


class Fake:
    """A daemon and its one worker, without processes. ``client`` has all verbs of ``tq.client.Client``."""

    def __init__(self, applications: Iterable[App], now_ms: int) -> None:
        self._apps = tuple(applications)
        self._now = now_ms
        self._store = MemoryStore()
        self._broker = Broker(self._store, clock=lambda: self._now / 1000)
        self._broker.desk.live = self._live
        self._lock = threading.RLock()  # never held while a handler runs
        self._links = count(1)
        self._told: defaultdict[int, list[bytes]] = defaultdict(list)
        self._declared: dict[str, Declared] = {}
        self._handlers: dict[str, Handler] = {}
        self._calls: list[_Call] = []
        self._runs: list[_Run] = []  # innermost last: a handler that waits for a task runs it
        self._notes: defaultdict[int, list[tuple[int, int, bytes]]] = defaultdict(list)
        self.client: Client = self.connect()

    def connect(self, around_send: Iterable[AroundSend] = (), wait_for_room: Duration = 0, read_only: bool = False) -> Client:
        """Another client: what ``tq.connect`` gives meanwhile."""
        return _Client(self, around_send, wait_for_room, read_only)

    def aconnect(self, around_send: Iterable[AroundSend] = (), wait_for_room: Duration = 0, read_only: bool = False) -> AsyncClient:
        """Another client for event loops: what ``tq.aconnect`` gives meanwhile."""
        return _AsyncClient(self, around_send, wait_for_room, read_only)

    # -- looking ---------------------------------------------------------------------------------------------------

    @property
    def now(self) -> datetime:
        """What its clock shows."""
        return datetime.fromtimestamp(self._now / 1000, UTC)

    @property
    def tasks(self) -> list[dict[str, Any]]:
        """All tasks there are, as ``Client.get`` gives them, in the order in which they were enqueued."""
        with self._lock:
            found = self._store.get(range(1, self._store.last_id() + 1))
            return [cast(Body, decoded(self._broker.desk.row(task))) for task in found if task is not None]

    # -- acting ----------------------------------------------------------------------------------------------------

    def run_all(self) -> int:
        """Run what is ready, and what that enqueues, until nothing is ready any more; how many runs. No time passes."""
        for ran in range(MOST):
            if not self.run_next():
                return ran
        raise UsageError(
            f"expected an end of what is ready, but {MOST} runs later there is more. Does a task enqueue itself, or snooze for 0 s?"
        )

    def run_next(self) -> bool:
        """Run the one task that comes next, or with it all that are ready and its call takes; False if none is ready."""
        with self._lock:
            self._meet()
            fill = {name: handler.batch for name, handler in self._handlers.items() if handler.batch}
            grants = self._turn(Want("w1", 1, math.inf, types=frozenset(self._handlers), fill=fill)).grants
        for _, tasks in grants:
            if tasks[0].header.type in fill:
                self._run_together(tasks)
            else:
                self._run(tasks[0])
        self._settle_down()
        return bool(grants)

    def advance(self, by: Duration) -> int:
        """Let time pass, and run each task when it becomes due (and what is ready already); how many runs."""
        until = self._now + duration_ms(by)
        ran = self.run_all()
        for _ in range(MOST):
            due = self._broker.next_due
            if due is None or due > until:
                self._now = max(self._now, until)
                self._settle_down()
                return ran + self.run_all()
            self._now = max(self._now, math.ceil(due))
            self._settle_down()
            ran += self.run_all()
        raise UsageError(f"expected an end of what becomes due, but {MOST} steps later there is more. Advance by less at a time.")

    # -- the daemon's part -----------------------------------------------------------------------------------------

    def _meet(self) -> None:
        """Know the types that are declared by now."""
        declared: dict[str, Declared] = {}
        for app in self._apps or (apps.default_app,):
            for name, task in app.tasks.items():
                if declared.setdefault(name, task) is not task:
                    raise ConfigError(f"expected applications without a type in common, got {name!r} in two of them. Fake one at a time.")
        if declared != self._declared:
            self._broker.put_types([TypeInfo(*task.row()) for task in declared.values()], self._now)
            self._handlers = {name: task.handler() for name, task in declared.items()}
            self._declared = declared

    def _turn(self, *wants: Want) -> Turn:
        turn = self._broker.turn(self._now, wants)
        for conn, data in turn.answers:
            self._told[conn].append(data)
        for run in self._runs:
            task = self._store.get([run.id])[0]
            late = run.deadline is not None and self._now / 1000 > run.deadline
            run.cancelled = run.cancelled or late or (task is not None and task.status.cancel_asked)
        for call in self._calls:
            call.cancelled = all(item.cancelled for item in call.items)
        return turn

    def _settle_down(self) -> None:
        with self._lock:
            for _ in range(MOST):
                if not (self._turn().busy or self._broker.waiting):
                    return

    def _live(self, task_id: int) -> dict[str, Any]:
        said = next((run.said for run in self._runs if run.id == task_id), None)
        return {"progress": said} if said is not None else {}

    def request(self, link: int, data: bytes, core: Core) -> None:
        """Serve a frame of one of its clients; what there is to answer is in ``answers`` afterwards."""
        number, verb, args = wire.message(data[4:])
        allow(verb, core.read_only)
        if verb in ("wait", "wait_batch"):  # without the lock: what runs may ask for something on a thread of its own
            self.run_all()
        with self._lock:
            self._meet()
            if verb == "log":
                body = {"chunks": self._notes[args["id"]][args["offset"] :], "next": len(self._notes[args["id"]]), "end": True}
                self._told[link].append(wire.frame([number, wire.ANSWER, body]))
                return
            if verb not in self._broker.verbs:
                raise UsageError(
                    f"expected a verb that needs neither processes nor files, got {verb!r}. Test that with a daemon of its own."
                )
            if verb == "wait":
                self._answer_wait(args)
            if verb == "wait_batch":
                self._answer_wait_batch(args["id"])
            self._broker.submit(Request(link, number, verb, args, core.nonce))
            self._settle_down()

    def _answer_wait(self, args: Body) -> None:
        """TaskTimeout unless what somebody waits for is over: nothing would ever happen while he waits."""
        left = [task for task in self._store.get(args["ids"]) if task is not None and not task.state.final]
        if left and (not args.get("any") or len(left) == len(args["ids"])):
            due_at = left[0].status.due_at or left[0].spec.due_at
            when = f", due in {(due_at - self._now) / 1000:g} s" if due_at > self._now else ""
            raise TaskTimeout(
                f"expected task {left[0].id} to be over, but it is {left[0].state.word}{when}, and no time passes while one waits. "
                "Let it pass: advance(...)."
            )

    def _answer_wait_batch(self, number: int) -> None:
        """The same of a batch."""
        info = self._store.batch(number)
        if info is not None and not is_over(info):
            what = f"{info.live} of its members are not over" if info.live else "it is open"
            raise TaskTimeout(
                f"expected batch {number} to be complete, but {what}, and no time passes while one waits. Let it pass: advance(...)."
            )

    def answers(self, link: int) -> bytes:
        """What was said to a client since it last asked."""
        told = b"".join(self._told[link])
        self._told[link].clear()
        return told

    # -- the worker's part -----------------------------------------------------------------------------------------

    def _run(self, task: Claimed) -> None:
        run = self._begun(task)
        handler = self._handlers[run.type]
        self._runs.append(run)
        try:
            ended = self._called(handler, run)
        finally:
            self._runs.pop()
        self._answer(task, run, ended, handler)

    def _run_together(self, tasks: Sequence[Claimed]) -> None:
        runs = [self._begun(task) for task in tasks]
        handler = self._handlers[runs[0].type]
        call = _Call(self, runs)
        self._runs += runs
        self._calls.append(call)
        try:
            ended = self._called(handler, call)
            try:
                found = [ended.error] * len(runs) if isinstance(ended, _Raised) else outcomes(ended, len(runs))
            except TypeError as error:
                found = [error] * len(runs)
        finally:
            self._calls.pop()
            del self._runs[-len(runs) :]
        for task, run, item, value in zip(tasks, runs, call.items, found, strict=True):
            item.settle(value)
            self._answer(task, run, item.result if item.error is None else _Raised(item.error), handler)

    def _begun(self, task: Claimed) -> _Run:
        return _Run(self, spec_of(task.id, task.record), task.attempt + 1, self._now, task.failures)

    @staticmethod
    def _called(handler: Handler, run: _Run) -> Any:
        """What the handler returned or raised."""
        before = running()
        run_here(run)
        try:
            return _awaited(handler, run) if handler.is_async else handler.call(run)
        except (Exception, SystemExit, Stopped, asyncio.CancelledError) as error:  # noqa: BLE001 - as in a worker; Ctrl-C, a test's own go on
            return _Raised(error)
        finally:
            run_here(before)

    def _answer(self, task: Claimed, run: _Run, ended: object, handler: Handler) -> None:
        """Settle a task that ended with this value, or raised it."""
        spec = run.spec
        kind: int | str
        if isinstance(ended, _Raised):
            kind, last = calls.raised(ended.error, handler, run)
        else:
            try:
                kind, last = calls.returned(ended, pack, MAX_RESULT, run)
            except calls.Unpackable as error:
                kind, last = calls.raised(error, handler, run)
        ends_at = run.deadline
        if ends_at is not None and self._now / 1000 > ends_at:
            kind, last = "timed_out", {"error": {"type": "TimedOut", "message": "it ran longer than its timeout"}}
        self._broker.settled([[spec.id, task.claim, kind, run.started_at, self._now, bool(self._notes.get(spec.id)), last]])

    def note(self, task_id: int, text: str) -> None:
        """A word of tq's own in a task's log."""
        self._notes[task_id].append((self._now, 0, f"{text}\n".encode("utf-8", "backslashreplace")))


class _Raised(NamedTuple):
    """What a handler raised, where it stands for what it returned."""

    error: BaseException


class _Run(Context):
    """A task that runs in this process."""

    __slots__ = ("_fake", "said")

    def __init__(self, one: Fake, spec: Spec, attempt: int, started_at: int, failures: int) -> None:
        super().__init__(spec, attempt, started_at, failures)
        self._fake = one
        self.said: tuple[float, str] | None = None

    def _results(self) -> Mapping[int, Any]:
        return results_of(self.spec.header.parents)

    def _batch(self, number: int) -> Batch:
        return blocking.default().get_batch(number)

    def _report(self, fraction: float, text: str) -> None:
        self.said = (fraction, text)

    def note(self, text: str) -> None:
        self._fake.note(self.id, text)


class _Call(_Run):
    """Tasks that one call of their handler takes, as the run of the first of them."""

    __slots__ = ("_first", "items")

    def __init__(self, one: Fake, runs: Sequence[_Run]) -> None:
        first = self._first = runs[0]
        super().__init__(one, first.spec, first.attempt, first.started_at, first.failures)
        self.items = [Item(unpack(run.spec.payload) if run.spec.payload else None, run) for run in runs]

    def _report(self, fraction: float, text: str) -> None:
        self._first.said = (fraction, text)


def _awaited(handler: Handler, run: _Run) -> Any:
    """An async handler's value; on a thread of its own where this one has an event loop already."""

    async def await_it() -> Any:
        return await handler.call(run)

    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(await_it())
    found: list[Any] = []
    context = contextvars.copy_context()

    def on_a_thread() -> None:
        try:
            found.append(context.run(asyncio.run, await_it()))
        except BaseException as error:  # noqa: BLE001 - raised again, where somebody hears it
            found.extend((None, error))

    thread = threading.Thread(target=on_a_thread)
    thread.start()
    thread.join()
    if len(found) > 1:
        raise found[1]
    return found[0]


class _Link(Link):
    """A connection without a socket."""

    def __init__(self, one: Fake, read_only: bool) -> None:
        super().__init__(_HERE, 0.0, Core(read_only=read_only))
        self._fake, self._conn = one, next(one._links)

    def open(self) -> None:
        """Nothing is opened, so nothing is ever lost."""

    def _send(self, data: bytes) -> None:
        try:
            self._fake.request(self._conn, data, self.core)
        except BaseException:
            self.core.unanswered.clear()
            raise

    def receive(self, within: float) -> list[tuple[int, int, Any]]:
        data = self._fake.answers(self._conn)
        if not data:
            raise UsageError("expected something to come, but nothing happens by itself here. Call run_all() or advance(...) first.")
        return self.core.received(data)


class _Client(Client):
    def __init__(self, one: Fake, around_send: Iterable[AroundSend], wait_for_room: Duration, read_only: bool) -> None:
        super().__init__(_HERE, around_send=around_send, wait_for_room=wait_for_room, read_only=read_only)
        self._fake = one

    def _opened(self) -> Link:
        return _Link(self._fake, self._read_only)


class _AsyncClient(AsyncClient):
    def __init__(self, one: Fake, around_send: Iterable[AroundSend], wait_for_room: Duration, read_only: bool) -> None:
        super().__init__(_HERE, around_send=around_send, wait_for_room=wait_for_room, read_only=read_only)
        self._fake, self._conn = one, next(one._links)

    async def _send(self, verb: str, args: Body) -> tuple[int, asyncio.Future[tuple[int, Any]]]:
        number, data = self._core.request(verb, args)
        future = self._waiting[number] = asyncio.get_running_loop().create_future()
        try:
            self._fake.request(self._conn, data, self._core)
        except BaseException:
            self._waiting.pop(number)
            self._core.unanswered.clear()
            raise
        self._deliver(self._fake.answers(self._conn))
        return number, future

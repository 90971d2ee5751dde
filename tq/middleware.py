"""What an application puts around every send and every run of a handler: two chains, the first given outermost.

For: one place for what concerns all tasks: routing, signing, tracing, timing, a database connection for each run.
Not for: retries, time limits, uniqueness: those are the daemon's, and hold without any of this.
Runs in: the process that enqueues (around send) and the worker (around run).
Promises: without middleware nothing here is called; what is sent is what the innermost ``send`` was given, and a chain
that sends nothing is an error, never a task that silently was not sent.

Around send (an application's own, ``@app.around_send``, then the client's, ``tq.connect(around_send=[...])``)::

    @app.around_send
    def route(task: Outgoing, send: Send) -> object:
        if task.type.startswith("report."):
            task.options.setdefault("queue", "reports")  # a function of the task that chooses its queue
        return send(task)

Around run, in the worker, with the context that ``tq.current()`` gives::

    @app.around_run
    def timed(context: Context, run: Run) -> object:
        began = time.monotonic()
        try:
            return run()  # what the handler returns, or raises
        finally:
            context.logger.info("took %.3f s", time.monotonic() - began)

A plain function that returns ``send(task)`` also goes around ``aenqueue``, one that returns ``run()`` around ``async def``
handlers: what it returns is awaited. One that must do something afterwards there is an ``async def`` and awaits ``send(task)``
or ``run()`` itself; such a one cannot go around a blocking ``enqueue`` or a plain handler, which is an error that says so.
Commands have no middleware. What ``enqueue`` gives back is what the innermost send gave; what is kept as the result of a
task is what the outermost function around its run returned.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from tq.errors import ConfigError, UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from tq.client import Options
    from tq.context import Context


@dataclass(slots=True)
class Outgoing:
    """A task on its way to the queue; change what you like. ``payload`` is its value, not packed yet."""

    type: str
    payload: Any
    options: Options = field(default_factory=dict)  # type: ignore[assignment]


Send = Callable[[Outgoing], Any]
"""Sends the task; gives what ``enqueue`` gives (a coroutine of it for ``aenqueue``; None for a row of ``enqueue_many``)."""
AroundSend = Callable[[Outgoing, Send], Any]
Run = Callable[[], Any]
"""Runs the handler; gives what it returns (a coroutine of it for an ``async def``) or raises what it raises."""
AroundRun = Callable[["Context", Run], Any]
Call = Callable[["Context"], Any]


def is_async(function: object) -> bool:
    """Whether calling it gives a coroutine."""
    from inspect import iscoroutinefunction

    return iscoroutinefunction(function) or iscoroutinefunction(getattr(function, "__call__", None))  # noqa: B004 - an object's own


def place(function: object) -> str:
    """What a message calls it."""
    return f"{getattr(function, '__module__', '?')}.{getattr(function, '__qualname__', repr(function))}"


class _Sent:
    """The innermost send, and what it gave."""

    def __init__(self, send: Send, chain: Sequence[AroundSend]) -> None:
        self._send, self._chain = send, chain
        self.given: list[Any] = []

    def plain(self, task: Outgoing) -> Any:
        self.given.append(self._send(task))
        return self.given[-1]

    async def awaited(self, task: Outgoing) -> Any:
        self.given.append(await self._send(task))
        return self.given[-1]

    def only(self) -> Any:
        """What the one send gave."""
        if len(self.given) == 1:
            return self.given[0]
        names = ", ".join(map(place, self._chain))
        raise UsageError(
            f"around send ({names}): expected `send(task)` to be called once (and its coroutine returned or awaited), "
            f"it was called {len(self.given)} times. To keep a task from being sent, raise an exception."
        )


def send_through(chain: Sequence[AroundSend], task: Outgoing, send: Send) -> Any:
    """Send the task through the chain; what the innermost ``send`` gave."""
    sent = _Sent(send, chain)
    step: Send = sent.plain
    for around in reversed(chain):
        if is_async(around):
            raise UsageError(
                f"around send: expected a plain function for a blocking enqueue, got `async def` {place(around)}. "
                "Use aenqueue, or make it a plain function that returns send(task)."
            )
        step = partial(_send_step, around, step)
    step(task)
    return sent.only()


async def asend_through(chain: Sequence[AroundSend], task: Outgoing, send: Send) -> Any:
    """As ``send_through``, where ``send`` gives a coroutine."""
    sent = _Sent(send, chain)
    step: Send = sent.awaited
    for around in reversed(chain):
        step = partial(_asend_step, around, step)
    await step(task)
    return sent.only()


def _send_step(around: AroundSend, send: Send, task: Outgoing) -> Any:
    return around(task, send)


async def _asend_step(around: AroundSend, send: Send, task: Outgoing) -> Any:
    found = around(task, send)
    return await found if isinstance(found, Awaitable) else found


def rows_through(chain: Sequence[AroundSend], rows: Iterable[Sequence[Any]]) -> Iterator[tuple[str, Any, Options]]:
    """Rows of ``enqueue_many``, each through the chain; ``send`` only takes them, since they are stored in groups."""
    for row in rows:
        taken: list[Outgoing] = []
        send_through(chain, _outgoing(row), taken.append)
        yield taken[0].type, taken[0].payload, taken[0].options


async def arows_through(chain: Sequence[AroundSend], rows: Iterable[Sequence[Any]]) -> list[tuple[str, Any, Options]]:
    """As ``rows_through``, all at once."""
    taken: list[Outgoing] = []

    async def take(task: Outgoing) -> None:
        taken.append(task)

    for row in rows:
        await asend_through(chain, _outgoing(row), take)
    return [(task.type, task.payload, task.options) for task in taken]


def _outgoing(row: Sequence[Any]) -> Outgoing:
    given: Options | None = row[2] if len(row) > 2 else None
    return Outgoing(row[0], row[1], {**given} if given else {})


def run_through(chain: Sequence[AroundRun], call: Call, name: str, coroutine: bool) -> Call:
    """A handler's ``call`` with the chain around it. ConfigError if an ``async def`` of it meets a plain handler."""
    for around in reversed(chain):
        if coroutine:
            call = partial(_arun_step, around, call)
        elif is_async(around):
            raise ConfigError(
                f"around run: expected a plain function for the plain handler of {name!r}, got `async def` {place(around)}. "
                "Make it a plain function that returns run(), or the handler `async def`."
            )
        else:
            call = partial(_run_step, around, call)
    return call


def _run_step(around: AroundRun, call: Call, context: Context) -> Any:
    return around(context, partial(call, context))


async def _arun_step(around: AroundRun, call: Call, context: Context) -> Any:
    found = around(context, partial(call, context))
    return await found if isinstance(found, Awaitable) else found

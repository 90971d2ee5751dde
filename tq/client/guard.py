"""The guard: ``with tq.breaker("smtp"):`` around what calls a service, in handlers and anywhere else.

For: asking whether a service may be called, telling how the call went.
Not for: when a breaker opens and closes (``tq.breakers``), who decides it (the daemon).
Runs in: worker processes, and any program that uses a client.
Promises: while a breaker is closed a process asks once in AGE_S, however many calls it makes, on however many threads; a failure is told
at once, successes together with the next question; that a failure cannot be told never hides the failure itself.

All processes of one data directory share the breaker, since its daemon decides. What one of them has failed at the others see after AGE_S
at the latest. Without a daemon there is no answer: entering raises DaemonNotRunning.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Awaitable
from contextvars import ContextVar
from types import TracebackType
from typing import Any, NamedTuple, cast
from weakref import WeakKeyDictionary

from tq.breakers import CLOSED, Rule
from tq.client.blocking import Client, default
from tq.context import Cancel, Permanent, Retry, ServiceDown, Snooze
from tq.errors import TqError, UsageError
from tq.model import brief, is_resource, safe_text

TYPE_CHECKING = False
if TYPE_CHECKING:
    from tq.client.aio import AsyncClient

AGE_S = 0.25
"""How long an answer counts."""
TEXT_MOST = 200
NO_FAILURES = (Snooze, Cancel, Permanent)
"""What a handler raises to steer its task says nothing of the service; ``tq.Retry`` is a failure."""

Body = dict[str, Any]


class _Call(NamedTuple):
    """A call under way: the breaker's epoch when it began, and its number if it is a probe."""

    epoch: int
    number: int


class _Seen:
    """What one process knows of one breaker; used under ``lock``."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.answer: Body = {"state": "", "epoch": 0}
        self.fresh_until = 0.0
        self.good = 0

    def question(self, name: str, rule: str | None) -> _Call | Body:
        """What to ask the daemon; or the call, where what is known is fresh, and is that it may be made."""
        with self.lock:
            if self.answer["state"] == CLOSED and time.monotonic() < self.fresh_until:
                return _Call(self.answer["epoch"], 0)
            good, self.good = self.good, 0
            return {"name": name, "rule": rule, "epoch": self.answer["epoch"], "good": good}

    def heard(self, name: str, answer: Body) -> _Call:
        """What the daemon has answered; ServiceDown unless the call may be made."""
        if not answer["go"]:
            raise ServiceDown(name, answer["wait_ms"] / 1000, answer["why"])
        with self.lock:
            self._take(answer, time.monotonic() + AGE_S)
        return _Call(answer["epoch"], answer["pass"])

    def told(self, answer: Body) -> None:
        """What a report was answered: if it is open now, or was meanwhile, the next call asks."""
        with self.lock:
            if answer["epoch"] != self.answer["epoch"] or answer["state"] != CLOSED:
                self._take(answer, 0.0)

    def _take(self, answer: Body, until: float) -> None:
        if answer["epoch"] != self.answer["epoch"]:
            self.good = 0
        self.answer, self.fresh_until = answer, until

    def report(self, name: str, call: _Call, error: BaseException | None, failed: bool) -> Body | None:
        """What to tell the daemon of a call that is over; None: nothing yet."""
        with self.lock:
            good, ours = int(error is None), call.epoch == self.answer["epoch"]
            if not call.number and not failed:
                self.good += good if ours else 0
                return None
            if not call.number and ours:
                good, self.good = self.good, 0
        found: Body = {"name": name, "epoch": call.epoch, "good": good, "bad": int(failed), "pass": call.number}
        return {**found, "text": _words(error)} if failed and error is not None else found


_seen: WeakKeyDictionary[object, dict[str, _Seen]] = WeakKeyDictionary()
_seen_lock = threading.Lock()


def _seen_by(client: object, name: str) -> _Seen:
    with _seen_lock:
        return _seen.setdefault(client, {}).setdefault(name, _Seen())


def _words(error: BaseException) -> str:
    try:
        text = f"{type(error).__name__}: {error}"
    except Exception:  # noqa: BLE001 - an exception's own words may fail, which must not hide it
        text = type(error).__name__
    return safe_text(text[:TEXT_MOST])[:TEXT_MOST]


_under_way: ContextVar[tuple[tuple[Guard, _Call], ...]] = ContextVar("tq_breakers", default=())


class Guard:
    """What ``breaker`` gives; it may be kept and entered again and again, by many threads and coroutines."""

    def __init__(self, name: str, rule: str | None, failures: tuple[type[BaseException], ...], client: Client | AsyncClient | None) -> None:
        self.name, self._rule, self._failures, self._client = name, rule, failures, client

    def __repr__(self) -> str:
        return f"<tq.breaker {self.name!r}>"

    def __enter__(self) -> None:
        if self._client is not None and not isinstance(self._client, Client):
            raise UsageError(f"breaker {self.name!r}: expected `async with` for a client that is awaited, got `with`.")
        client = self._client or default()
        seen = _seen_by(client, self.name)
        call = seen.question(self.name, self._rule)
        if not isinstance(call, _Call):
            call = seen.heard(self.name, client.call("enter_breaker", call))
        self._begins(call)

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        client = cast("Client", self._client or default())
        seen = _seen_by(client, self.name)
        report = seen.report(self.name, self._ends(), error, self._is_failure(error))
        if report is not None:
            try:
                seen.told(client.call("report_breaker", report))
            except TqError:  # the daemon is gone, or stuck: what the block did counts for its caller all the same
                return

    async def __aenter__(self) -> None:
        client = await self._awaited()
        seen = _seen_by(client, self.name)
        call = seen.question(self.name, self._rule)
        if not isinstance(call, _Call):
            call = seen.heard(self.name, await client.call("enter_breaker", call))
        self._begins(call)

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        client = await self._awaited()
        seen = _seen_by(client, self.name)
        report = seen.report(self.name, self._ends(), error, self._is_failure(error))
        if report is not None:
            try:
                seen.told(await client.call("report_breaker", report))
            except TqError:  # as above
                return

    async def _awaited(self) -> AsyncClient:
        from tq.client.aio import AsyncClient, adefault

        if self._client is None:
            return await cast("Awaitable[AsyncClient]", adefault())
        if not isinstance(self._client, AsyncClient):
            raise UsageError(f"breaker {self.name!r}: expected `with` for a blocking client, got `async with`.")
        return self._client

    def _begins(self, call: _Call) -> None:
        _under_way.set((*_under_way.get(), (self, call)))

    def _ends(self) -> _Call:
        """The innermost call of this guard in this thread or coroutine."""
        calls = _under_way.get()
        at = max(at for at, (guard, _) in enumerate(calls) if guard is self)
        _under_way.set((*calls[:at], *calls[at + 1 :]))
        return calls[at][1]

    def _is_failure(self, error: BaseException | None) -> bool:
        return isinstance(error, self._failures) and not (isinstance(error, NO_FAILURES) and not isinstance(error, Retry))


def breaker(
    name: str,
    rule: str | None = None,
    *,
    failures: type[BaseException] | tuple[type[BaseException], ...] = Exception,
    client: Client | AsyncClient | None = None,
) -> Guard:
    """A circuit breaker around calls of a service, shared by all who have the same daemon: ``with tq.breaker("smtp"):``, or
    ``async with``. While it is open, entering raises ``tq.ServiceDown``, which a handler may let pass: its task runs again later.

    ``rule`` says when it opens, ``"5 failures in 1m, cool 30s"`` (``tq.breakers`` has all the words; the default is 5 in a row); one that a
    person has set (``tq breaker set``) wins. ``failures``: exceptions that count as the service's; others say nothing of it. ``client``: of
    another daemon than that of the environment. UsageError for what is no name or no rule.
    """
    if not is_resource(name):
        raise UsageError(f"breaker: name: expected 1 to 200 printable bytes without spaces and colons, got {brief(name)}.")
    if rule is not None:
        try:
            rule = str(Rule.of(rule))
        except ValueError as error:
            raise UsageError(f"breaker {name!r}: {error}.") from None
    return Guard(name, rule, failures if isinstance(failures, tuple) else (failures,), client)

"""What a running task knows of itself, and what a handler may say of how it goes on.

For: ``current()``; the values and exceptions by which a handler steers its task (Snooze, ServiceDown, Cancel, Retry, Permanent, Stopped).
Not for: naming handlers (app), running them (worker), deciding what an outcome leads to (lifecycle).
Runs in: worker processes, and programs that test their handlers; elsewhere there is no current task.
Promises: imports no more than the client does; what a running task enqueues belongs to it (``correlation``); progress is
checked before it leaves, so no reader meets a number outside 0 to 1 or text that could steer a terminal.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextvars import ContextVar

from tq.errors import UsageError
from tq.model import Spec, batch_of, brief, duration_ms, safe_text

TYPE_CHECKING = False
if TYPE_CHECKING:
    import logging
    from datetime import timedelta
    from typing import Any

    from tq.client.batches import Batch

    Duration = float | str | timedelta

MAX_PROGRESS_TEXT = 200


# what a handler may return or raise


class Snooze(Exception):
    """Return or raise it to run again after ``after`` (seconds, a timedelta, or ``5m``): not a failure, no retry is used."""

    def __init__(self, after: Duration) -> None:
        self.after_ms = duration_ms(after)
        super().__init__(f"run again after {self.after_ms / 1000:g} s")


class ServiceDown(Snooze):
    """Raised by ``with tq.breaker("smtp"):`` while that breaker is open. A handler that lets it pass runs again after ``retry_after``
    seconds: not a failure, no retry is used. ``name`` is the service's."""

    def __init__(self, name: str, retry_after: float, why: str = "") -> None:
        super().__init__(retry_after)
        self.name, self.retry_after, self.why = name, retry_after, why
        self.args = (f"the breaker of service {name!r} is open" + (f": {why}" if why else "") + f"; try again after {retry_after:g} s",)


class Cancel(Exception):
    """Return or raise it to end the task as cancelled, with the reason why."""

    def __init__(self, why: str = "") -> None:
        super().__init__(why)
        self.why = why


class Retry(Exception):
    """Raise it to fail this attempt and, if retries are left, run again after a delay of your own.

    It is your word against the type's: ``retry_on`` and ``retry_never`` are not asked.
    """

    def __init__(self, why: str = "", *, after: Duration | None = None) -> None:
        super().__init__(why)
        self.after_ms = None if after is None else duration_ms(after)


class Permanent(Exception):
    """Raise it to fail the task for good, whatever retries are left."""


class Stopped(BaseException):
    """Raised inside a function whose time is up, or that somebody cancelled, if ``current().cancelled`` was not enough.

    ``except Exception`` does not swallow it. Clean up in ``finally`` and let it pass: the process is ended if it stays.
    """

    def __init__(self, why: str = "its time is up, or a cancel was asked") -> None:
        super().__init__(why)


# what a running task knows of itself


class Context:
    """The task that runs here. ``cancelled`` turns true when somebody asks it to stop: long work looks at it.

    ``attempt`` counts its runs from 1, ``failures`` those before this one that failed.
    """

    __slots__ = ("_parents", "attempt", "cancelled", "failures", "spec", "started_at")
    _parents: Mapping[int, Any]

    def __init__(self, spec: Spec, attempt: int, started_at: int, failures: int = 0) -> None:
        self.spec = spec
        self.attempt = attempt
        self.started_at = started_at
        self.failures = failures
        self.cancelled = False

    @property
    def id(self) -> int:
        return self.spec.id

    @property
    def type(self) -> str:
        return self.spec.header.type

    @property
    def queue(self) -> str:
        return self.spec.header.queue

    @property
    def deadline(self) -> float | None:
        """When its time is up, in seconds since the epoch as ``time.time()`` counts; None without a timeout or deadline."""
        head = self.spec.header
        ends = [self.started_at + head.timeout_ms] if head.timeout_ms else []
        if head.deadline_ms:
            ends.append(self.spec.created_at + head.deadline_ms)
        return min(ends) / 1000 if ends else None

    @property
    def label(self) -> str | None:
        return self.spec.header.label

    @property
    def meta(self) -> Mapping[str, str]:
        return self.spec.header.meta or {}

    @property
    def correlation_id(self) -> str | None:
        return self.spec.header.correlation_id

    @property
    def parents(self) -> Mapping[int, Any]:
        """The results of the tasks after which it runs, by their ids, in the order in which these were named: of those that succeeded
        and are still there. The first look asks the daemon for them; None stands for no result, or one that was too large to be kept."""
        try:
            return self._parents
        except AttributeError:
            self._parents = self._results() if self.spec.header.parents else {}
        return self._parents

    def _results(self) -> Mapping[int, Any]:
        """Ask: for those who run tasks to say how."""
        raise UsageError("expected parents to be looked at by a task that runs, got a look from outside of one.")

    @property
    def batch(self) -> Batch | None:
        """The batch that it is a member of, or whose callback it is; None: there is none. Members may add to it:
        ``current().batch.enqueue("load", {...})``. Its methods block; a coroutine has ``(await tq.adefault()).get_batch(batch.id)``."""
        number = batch_of(self.spec.header)
        return self._batch(number) if number else None

    def _batch(self, number: int) -> Batch:
        """Its handle: for those who run tasks to say how."""
        raise UsageError("expected batch to be looked at by a task that runs, got a look from outside of one.")

    @property
    def logger(self) -> logging.LoggerAdapter[logging.Logger]:
        """A logger named ``tq.task.<type>`` whose records carry the task's id and attempt."""
        import logging

        return logging.LoggerAdapter(logging.getLogger(f"tq.task.{self.type}"), {"task_id": self.id, "attempt": self.attempt})

    def progress(self, fraction: float, text: str = "") -> None:
        """Say how far the task has come: 0 to 1, and a few words (200 characters; the rest is cut off).

        Say it as often as you like: at most ten times a second it goes out, and the last one always does. It is kept
        while the task runs. UsageError for a fraction that is no number from 0 to 1.
        """
        number: object = fraction  # whatever the caller gave
        if isinstance(number, bool) or not isinstance(number, int | float) or not 0 <= number <= 1:
            raise UsageError(f"progress: expected a fraction from 0 to 1, got {brief(fraction)}. Divide what is done by all there is.")
        self._report(float(fraction), safe_text(str(text)[:MAX_PROGRESS_TEXT])[:MAX_PROGRESS_TEXT])

    def _report(self, fraction: float, text: str) -> None:
        """Pass it on: for those who run tasks to say how; here nobody listens."""


_local: ContextVar[Context | None] = ContextVar("tq_current", default=None)
_alone: Context | None = None


def run_alone(context: Context | None) -> None:
    """Say which task this process runs, where it runs one at a time: cheaper than a context variable, and seen
    by the threads a handler starts."""
    global _alone
    _alone = context


def run_here(context: Context | None) -> None:
    """Say which task this thread or coroutine runs, where there are several at a time."""
    _local.set(context)


def running() -> Context | None:
    """The task that runs here, or None."""
    return _alone or _local.get()


def current() -> Context:
    """The task that runs here; UsageError outside of one."""
    context = _alone or _local.get()
    if context is None:
        raise UsageError("expected current() to be called by a running task, got a call from outside of one. Call it inside a handler.")
    return context


def correlation() -> str | None:
    """What a task that is enqueued here belongs to: the running task's correlation id, else its id; None outside of one."""
    context = _alone or _local.get()
    if context is None:
        return None
    return context.spec.header.correlation_id or str(context.spec.id)

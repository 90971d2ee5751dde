"""Many tasks in one call: what a batch handler is given, and how it says what became of each.

For: ``tq.Item``, one task of a call; telling the items of a call apart from what its handler returned or raised.
Not for: gathering tasks (pool), running the handler (worker), naming it (app).
Runs in: worker processes, and programs that test their handlers.
Promises: each item ends once; what a handler leaves unsaid of an item is settled by its answer: the value at the item's place in
the list that it returned, success where it returned None, and its exception where it raised one.

    >>> import tq
    >>> shop = tq.App()
    >>> @shop.task("index", batch=100, batch_wait="50ms")
    ... def index(items: list[tq.Item[str]]) -> list[int]:
    ...     for item in items:
    ...         if not item.payload:
    ...             item.fail(tq.Permanent("there is nothing to index"))
    ...     return [len(item.payload) for item in items]
    >>> index(["a text", "another"])
    [6, 7]

``index.enqueue("a text")`` sends one task. What the call prints stands in the log of its first task.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Generic, TypeVar, cast

from tq.context import Cancel, Context, Retry, Snooze
from tq.errors import UsageError
from tq.model import brief

TYPE_CHECKING = False
if TYPE_CHECKING:
    from tq.context import Duration

In = TypeVar("In")

BATCH_MOST = 1000
"""Tasks of one call: a worker's board remembers so many that have begun, for blame that is exact."""
WAIT_MOST_MS = 60_000


class Item(Generic[In]):
    """One task of a call: its ``payload``, and what a handler may know and say of it. To test a handler: ``Item(payload)``.

    ``done``, ``fail`` and ``retry`` settle it, from any thread, once; a second time is a UsageError.
    """

    __slots__ = ("_context", "_lock", "_told", "ended", "error", "payload", "result")

    def __init__(self, payload: In, context: Context | None = None, told: Callable[[Item[Any]], None] | None = None) -> None:
        self.payload = payload
        self.ended = False
        """Whether it was settled by name."""
        self.result: Any = None
        self.error: BaseException | None = None
        self._context = context
        self._told = told
        self._lock = threading.Lock()

    def __repr__(self) -> str:
        return f"<item {self.id}: {brief(self.payload)}>"

    @property
    def id(self) -> int:
        """The task's id; 0 in a test."""
        return self._context.id if self._context is not None else 0

    @property
    def attempt(self) -> int:
        """Which run of the task this is, from 1."""
        return self._context.attempt if self._context is not None else 1

    @property
    def failures(self) -> int:
        """How many of its runs have failed before."""
        return self._context.failures if self._context is not None else 0

    @property
    def label(self) -> str | None:
        return self._context.label if self._context is not None else None

    @property
    def meta(self) -> Mapping[str, str]:
        return self._context.meta if self._context is not None else {}

    @property
    def cancelled(self) -> bool:
        """Whether somebody asked for this task's end; the call goes on for the others."""
        return self._context is not None and self._context.cancelled

    def done(self, result: object = None) -> None:
        """It has succeeded, with this result (JSON-like data). ``tq.Snooze`` and ``tq.Cancel`` mean what they do when returned."""
        self._end(result)

    def fail(self, error: BaseException | str) -> None:
        """It has failed as if a handler of its own had raised ``error`` (a text: a RuntimeError), by the rules of its type."""
        self._end(RuntimeError(error) if isinstance(error, str) else error)

    def retry(self, why: str = "", *, after: Duration | None = None) -> None:
        """It has failed and is to run again, if retries are left, after a delay of your own: ``fail(tq.Retry(...))``."""
        self.fail(Retry(why, after=after))

    def settle(self, ended: object) -> bool:
        """For who runs handlers: it ended with this value or exception. False: it was settled by name before."""
        error = ended if isinstance(ended, BaseException) else None
        with self._lock:
            before, self.ended = self.ended, True
            if not before:
                self.result, self.error = None if error is not None else ended, error
        return not before

    def _end(self, ended: object) -> None:
        if not self.settle(ended):
            raise UsageError(
                f"item {self.id}: expected one of done, fail and retry, once, got a second. Say of each item once how it ended."
            )
        if self._told is not None:
            self._told(self)


def items_of(values: Sequence[Any]) -> list[Item[Any]]:
    """Payloads as items; items as they are."""
    return [value if isinstance(value, Item) else Item(value) for value in values]


def outcomes(value: object, count: int) -> list[Any]:
    """What a handler's value says of each of ``count`` items; TypeError if it says it of more or fewer."""
    if value is None or isinstance(value, Snooze | Cancel):
        return [value] * count
    if isinstance(value, list | tuple) and len(value) == count:
        return [*cast("Sequence[Any]", value)]
    got = f"{len(value)} of them" if isinstance(value, list | tuple) else type(value).__name__
    raise TypeError(f"expected a batch handler to return None or a list of {count} results, one for each item, got {got}")

"""Lists: long reads, done in slices so that nobody waits for them.

For: ``find``, whose filters may have to look at every task there is.
Not for: which tasks match (stores), what else a turn does (broker).
Runs in: the daemon, on the thread of its loop.
Promises: a slice ends soon after its time; several lists take turns; a damaged record is passed over (the log names
it); one that was given a cursor of its own making is answered with that error and harms no other; of large tasks it
keeps what its answer holds.
"""

from __future__ import annotations

import struct
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from tq.answers import Page, error_answer, fitting
from tq.errors import Refused, StoreDamaged, TqError, UsageError
from tq.model import Task
from tq.waiting import Request

MOST = 1000
"""Lists that may be under way."""


@dataclass(slots=True, eq=False)
class _List:
    """A page that is being gathered; ``next`` is the cursor behind it, once it is full."""

    request: Request
    found: Iterator[tuple[Task, bytes] | None]
    limit: int
    page: Page = field(default_factory=Page)
    next: bytes | None = None


class Lists:
    """All lists under way. ``clock`` gives seconds."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._lists: deque[_List] = deque()

    def __bool__(self) -> bool:
        return bool(self._lists)

    def add(self, request: Request, found: Iterator[tuple[Task, bytes] | None], limit: int) -> None:
        self._lists.append(_List(request, found, limit))

    def check(self) -> None:
        """Refused if there are too many already."""
        if len(self._lists) >= MOST:
            raise Refused(f"find: expected at most {MOST} lists under way, they all are. Try again later.")

    def gone(self, conn: int) -> None:
        """A connection is closed."""
        self._lists = deque(one for one in self._lists if one.request.conn != conn)

    def holds(self, conn: int) -> bool:
        return any(one.request.conn == conn for one in self._lists)

    def read_on(self, seconds: float) -> Iterator[tuple[int, bytes]]:
        """A slice of each in turn, for ``seconds`` in all: (connection, answer) of those that are done."""
        until = self._clock() + seconds
        while self._lists and self._clock() < until:
            one = self._lists.popleft()
            conn, number = one.request.conn, one.request.number
            try:
                if self._advance(one, until):
                    yield conn, fitting(number, {"tasks": one.page.rows, "next": one.next})
                else:
                    self._lists.append(one)
            except (StoreDamaged, struct.error, TypeError, ValueError) as error:
                known = isinstance(error, TqError)
                yield (
                    conn,
                    error_answer(number, error if known else UsageError("find: before: expected a cursor as it was given, got another.")),
                )

    def _advance(self, one: _List, until: float) -> bool:
        """Read on until the time is up (False) or the page is full or nothing is left (True)."""
        for found in one.found:
            if found is not None:
                one.page.add(found[0].row())
                if len(one.page.rows) == one.limit:
                    one.next = found[1]
                    return True
            elif self._clock() >= until:
                return False
        return True

"""Lists: long reads, done in slices so that nobody waits for them.

For: ``find``, counts and groups, whose filters may have to look at every task there is.
Not for: what else a turn does (broker), which tasks a filter means (query).
Runs in: the daemon, on the thread of its loop.
Promises: a slice ends soon after its time; several lists take turns, and so do connections; a damaged record is passed over (the log names
it); one that was given a cursor of its own making is answered with that error and harms no other; of large tasks it
keeps what its answer holds, of groups at most GROUPS.
"""

from __future__ import annotations

import re
import struct
import zlib
from collections import OrderedDict, deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from tq.answers import Page, answer, error_answer
from tq.errors import Refused, StoreDamaged, TqError, UsageError
from tq.model import Task
from tq.query import Filter
from tq.waiting import Request

MOST = 1000
"""Lists that may be under way."""
AT_ONCE = 16
"""Of these, how many are being read: each of them may hold nearly an answer."""
GROUPS = 500
SAMPLE = 10
MAY_DIFFER = 100
"""By how many tasks a count may be wrong by the time it is acted upon, if that is no more than a tenth."""
MOST_TOLD = 120
QUEUES_TOLD = 3
"""Characters of an error's type and message, and queues of a group: whatever they hold, GROUPS of them fit a frame."""
LOOK_EACH = 32
"""Tasks between two looks at the clock."""

Row = Callable[[Task], dict[str, Any]]


class Reader(Protocol):
    """What a list makes of the tasks it meets; ``take`` says whether it has enough. ``body`` is the answer's, or Refused; None: the
    answer comes from elsewhere."""

    def take(self, task: Task, cursor: bytes) -> bool: ...
    def body(self) -> dict[str, Any] | None: ...


class Tasks:
    """A page of them: ``limit`` rows, and the cursor behind the last if there may be more."""

    def __init__(self, limit: int, row: Row) -> None:
        self._limit, self._row = limit, row
        self._page = Page()
        self._next: bytes | None = None

    def take(self, task: Task, cursor: bytes) -> bool:
        self._page.add(self._row(task))
        full = len(self._page.rows) == self._limit
        self._next = cursor if full else None
        return full

    def body(self) -> dict[str, Any]:
        return {"tasks": self._page.rows, "next": self._next}


class Next(Tasks):
    """The tasks that are next to run, each with the reason in ``why``, by its id."""

    def __init__(self, why: Mapping[int, str], row: Row) -> None:
        super().__init__(len(why) + 1, lambda task: {**row(task), "why": why[task.id]})

    def body(self) -> dict[str, Any]:
        return {"tasks": self._page.rows}


class Count:
    """How many there are that would be changed, and the ids of some: what a dry run shows."""

    def __init__(self, meant: Callable[[Task], bool]) -> None:
        self._meant = meant
        self._count = 0
        self._some: list[int] = []

    def take(self, task: Task, cursor: bytes) -> bool:
        if self._meant(task):
            self._count += 1
            if len(self._some) < SAMPLE:
                self._some.append(task.id)
        return False

    def body(self) -> dict[str, Any] | None:
        return {"count": self._count, "some": self._some}


class Expected(Count):
    """Whether there are about as many as somebody has counted before: then ``go_on`` is called, which answers."""

    def __init__(self, meant: Callable[[Task], bool], expected: int, go_on: Callable[[], None]) -> None:
        super().__init__(meant)
        self._expected, self._go_on = expected, go_on

    def body(self) -> dict[str, Any] | None:
        if abs(self._count - self._expected) > max(min(self._expected // 10, MAY_DIFFER), 1):
            raise Refused(
                f"expected about {self._expected:,} tasks that match, there are {self._count:,} by now. Nothing was changed: look again.",
                count=self._count,
            )
        self._go_on()
        return None


_VARYING = re.compile(
    r"((?:exit (?:code|status)|by signal) -?\d+)|0x[0-9a-f]+|[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}|[0-9a-f]{8,}|\d+", re.IGNORECASE
)
"""Of a message: addresses, ids and numbers; but how a command ended, the first alternative, is what tells failures apart."""


def group_of(task: Task) -> tuple[str, str, str]:
    """What makes dead letters alike: type, type of the error, its message's first line without numbers (but with an exit code)."""
    error = task.status.error or {}
    lines = str(error.get("message", ""))[:400].splitlines() or [""]
    return task.spec.header.type, str(error.get("type", ""))[:MOST_TOLD], _VARYING.sub(lambda found: found[1] or "#", lines[0])[:MOST_TOLD]


def group_name(key: tuple[str, str, str]) -> str:
    """A short name of a group, the same wherever and whenever it is asked for; it begins with a letter, so it is no id."""
    return f"g{zlib.crc32(repr(key).encode(errors='backslashreplace')):08x}"


class Groups:
    """Tasks that failed alike, the largest group first; beyond GROUPS kinds the rest is one group without a name."""

    def __init__(self) -> None:
        self._groups: dict[tuple[str, str, str], dict[str, Any]] = {}

    def take(self, task: Task, cursor: bytes) -> bool:
        key = group_of(task)
        if key not in self._groups and len(self._groups) >= GROUPS:
            key = ("", "", "")
        ended = task.status.finished_at
        group = self._groups.get(key)
        if group is None:
            head = {"group": group_name(key), "type": key[0], "error": key[1], "message": key[2]} if any(key) else {"group": None}
            group = self._groups[key] = {**head, "count": 0, "first_at": ended, "last_at": ended, "last_id": task.id, "queues": []}
        group["count"] += 1
        group["first_at"] = min(group["first_at"], ended)
        if ended >= group["last_at"]:
            group["last_at"], group["last_id"] = ended, task.id
        queue = task.spec.header.queue
        if queue not in group["queues"] and len(group["queues"]) < QUEUES_TOLD:
            group["queues"].append(queue)
        return False

    def body(self) -> dict[str, Any]:
        return {"groups": sorted(self._groups.values(), key=lambda group: (-group["count"], str(group["group"])))}


@dataclass(slots=True, eq=False)
class _List:
    """A read under way. ``where`` chooses among what the store finds."""

    request: Request
    found: Iterator[tuple[Task, bytes] | None]
    where: Filter
    group: str | None
    reader: Reader


class Lists:
    """All lists under way. ``clock`` gives seconds."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._lists: deque[_List] = deque()  # those that are being read
        self._waiting: OrderedDict[int, deque[_List]] = OrderedDict()  # by connection, the one whose turn it is first
        self._asked = 0  # in this turn, at whose end they are added

    def __bool__(self) -> bool:
        return bool(self._lists or self._waiting)

    def add(
        self, request: Request, found: Iterator[tuple[Task, bytes] | None], where: Filter, reader: Reader, group: str | None = None
    ) -> None:
        self._waiting.setdefault(request.conn, deque()).append(_List(request, found, where, group, reader))

    def check(self) -> None:
        """Before ``add``: Refused if there are too many already."""
        if self._asked + len(self._lists) + sum(map(len, self._waiting.values())) >= MOST:
            raise Refused(f"find: expected at most {MOST} lists under way, they all are. Try again later.")
        self._asked += 1

    def gone(self, conn: int) -> None:
        """A connection is closed."""
        self._lists = deque(one for one in self._lists if one.request.conn != conn)
        self._waiting.pop(conn, None)

    def holds(self, conn: int) -> bool:
        return conn in self._waiting or any(one.request.conn == conn for one in self._lists)

    def _start(self) -> None:
        """Begin with as many as may be read at once."""
        while self._waiting and len(self._lists) < AT_ONCE:
            conn, queue = self._waiting.popitem(last=False)
            self._lists.append(queue.popleft())
            if queue:
                self._waiting[conn] = queue

    def read_on(self, seconds: float, now: int) -> Iterator[tuple[int, bytes]]:
        """A slice of each in turn, for ``seconds`` in all: (connection, answer) of those that are done."""
        self._asked = 0
        until = self._clock() + seconds
        while self and self._clock() < until:
            self._start()
            one = self._lists.popleft()
            conn, number = one.request.conn, one.request.number
            try:
                if not self._advance(one, until, now):
                    self._lists.append(one)
                elif (body := one.reader.body()) is not None:
                    yield conn, answer(number, body)
            except (Refused, StoreDamaged, struct.error, TypeError, ValueError) as error:
                known = isinstance(error, TqError)
                yield (
                    conn,
                    error_answer(number, error if known else UsageError("find: before: expected a cursor as it was given, got another.")),
                )

    def _advance(self, one: _List, until: float, now: int) -> bool:
        """Read on until the time is up (False), or the reader has enough or nothing is left (True)."""
        matches, group, take = one.where.matches, one.group, one.reader.take
        for at, found in enumerate(one.found):
            if found is not None:
                task, cursor = found
                if matches(task, now) and (group is None or group_name(group_of(task)) == group) and take(task, cursor):
                    return True
                if at % LOOK_EACH == LOOK_EACH - 1 and self._clock() >= until:
                    return False
            elif self._clock() >= until:
                return False
        return True

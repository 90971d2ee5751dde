"""Views: the tasks that match a filter, in one order that stays as it is while somebody looks at it.

For: ``view page place news``: windows onto a million tasks, a place of a task, how many came since.
Not for: what one answer holds whole (lists), which tasks a filter means (query), arguments (broker).
Runs in: the daemon, on the thread of its loop, in its memory; nothing of it outlives the daemon.
Promises: a view holds ids, four bytes each, and never a task; it is filled in slices that end soon after their time, views in turn, and
what is there already is answered first; a page is answered as soon as it is reached. A view is gone with its connection, KEEP_MS after the
last question, or where others need its room: who asks for it then is told so. Without views it costs nothing, nor wakes anybody.
"""

from __future__ import annotations

import logging
from array import array
from bisect import bisect_left
from collections import OrderedDict, deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from heapq import merge
from itertools import islice, repeat
from typing import Any, NamedTuple

from tq.answers import answer, error_answer
from tq.errors import Refused, StoreDamaged, TqError
from tq.model import Header, Spec, State, Status, Task
from tq.query import Filter
from tq.query.matching import LAST_ID
from tq.query.orders import Order
from tq.query.terms import FIELDS
from tq.store import Store, Tally
from tq.waiting import Request

MOST, MOST_EACH = 64, 8
"""Views there may be, and those of one connection."""
IDS_MOST = 20_000_000
"""Ids of all views together: 80 MB."""
KEEP_MS = 300_000
ASKS_MOST = 100
"""Questions to one view that may wait for its scan."""
SORT_MOST = 100_000
"""Matches that are put into another order than that of ids: it takes all of them at once."""
BY_TALLY = frozenset({"state", "queue", "type"})
"""Fields of which tallies know how many tasks have what."""
TALLIES_MOST = 1000
"""Pairs of queue and type that are looked at for that: some ten milliseconds."""
READ_EACH = 32
"""Tasks that are read between two looks at the clock."""
HEADERS_EACH = 100
"""The same of tasks of which only the header is read."""
KINDS_MOST = 4096
"""Kinds of tasks for which is remembered whether they match."""
RUN = 1000
"""Tasks that are sorted at once; such runs are then merged in slices."""
NEWS_AGAIN = 1000
"""Up to so many tasks that came since are looked at again each time: what a filter says of them may have changed."""
ERROR_MOST = 120
"""Characters of an error in a row."""
_FAR = 1 << 80
_log = logging.getLogger("tq.broker")


def line(task: Task, live: Mapping[str, Any]) -> list[Any]:
    """A task as a row of a list, as ``tq.wire`` has it; ``live`` is what only the pool knows of it."""
    spec, status, head = task.spec, task.status, task.spec.header
    error = status.error
    told = f"{str(error.get('type') or 'Error')[:ERROR_MOST]}: {str(error.get('message') or '')[:ERROR_MOST]}" if error else None
    return [
        spec.id, status.state.word, head.type, head.queue, head.priority, status.attempt, head.retries, spec.created_at,
        status.due_at or spec.due_at, status.started_at, status.finished_at, (live.get("progress") or (None,))[0],
        told and told[:ERROR_MOST], head.label, status.worker or None, bool(live.get("suspended")),
    ]  # fmt: skip


def count_of(where: Filter, tallies: Sequence[Tally]) -> int | None:
    """How many tasks match, if tallies can say so."""
    if where.root is None:
        return sum(sum(tally.states) for tally in tallies)
    if not where.fields <= BY_TALLY or len(tallies) > TALLIES_MOST:
        return None
    found = 0
    for tally in tallies:
        spec = Spec(0, Header(tally.type, tally.queue), b"", 0)
        found += sum(
            count for state, count in zip(State, tally.states, strict=True) if count and where.matches(Task(spec, Status(state)), 0)
        )
    return found


def tasks_of(store: Store, ids: Sequence[int]) -> list[Task]:
    """Those of these tasks that are there; one that cannot be read is passed over, and the log says so."""
    try:
        return [task for task in store.get(ids) if task is not None]
    except StoreDamaged as error:
        if len(ids) == 1:
            _log.error("task %d is passed over: %s", ids[0], error)
            return []
        return [task for one in ids for task in tasks_of(store, [one])]


def states_in(store: Store, ids: Sequence[int]) -> list[State | None]:
    """Where each of these tasks stands; one that cannot be read is passed over, and the log says so."""
    try:
        return store.states(ids)
    except StoreDamaged as error:
        if len(ids) == 1:
            _log.error("task %d is passed over: %s", ids[0], error)
            return [None]
        return [state for one in ids for state in states_in(store, [one])]


class Ask(NamedTuple):
    """A question to a view: ``page`` (offset, limit), ``place`` (id), ``news``, or ``view``, which asks for the view itself."""

    request: Request
    what: str
    at: int = 0
    limit: int = 0


@dataclass(slots=True, eq=False)
class View:
    """One of them. ``newest`` is the last id there was when it was made at ``now`` (ms), ``known`` how many match if that is known before
    all of them are found. ``jobs`` are what is to be done for it, each ready to be left at any step."""

    number: int
    conn: int
    where: Filter
    order: Order
    newest: int
    now: int
    ids: array[int]
    known: int | None
    until: float = 0.0
    done: bool = False
    cut: bool = False  # there are more than it may hold
    over: bool = False
    asks: list[Ask] = field(default_factory=list)
    jobs: deque[Iterator[None]] = field(default_factory=deque)
    news: int | None = None  # None: to be counted
    passed: int = 0  # of those that came since, the last that is not looked at again, ...
    passed_matches: int = 0  # ... and how many up to it matched

    @property
    def by_id(self) -> bool:
        return self.order.field == "id"

    def total(self) -> tuple[int, bool]:
        """How many match, and whether that is all."""
        if self.done:
            return len(self.ids), not self.cut
        return (self.known, True) if self.known is not None else (len(self.ids), False)

    def ready(self, ask: Ask) -> bool:
        """Whether it can be answered now."""
        if ask.what == "news":
            return self.news is not None
        if self.done:
            return True
        if ask.what == "view":
            return self.by_id or self.known is not None
        if ask.what == "page":
            return ask.at >= 0 and ask.at + ask.limit <= len(self.ids)
        return self.by_id and bool(self.ids) and (self.ids[-1] <= ask.at if self.order.descending else self.ids[-1] >= ask.at)

    def place(self, task_id: int) -> int | None:
        """Where a task stands, from 0."""
        if not self.by_id:
            try:
                return self.ids.index(task_id)
            except ValueError:
                return None
        at = bisect_left(self.ids, -task_id, key=int.__neg__) if self.order.descending else bisect_left(self.ids, task_id)
        return at if at < len(self.ids) and self.ids[at] == task_id else None


class Views:
    """All of them. ``row`` makes a row of a task; ``clock`` gives seconds and only bounds slices."""

    def __init__(self, store: Store, row: Callable[[Task], list[Any]], clock: Callable[[], float]) -> None:
        self._store, self._row, self._clock = store, row, clock
        self._views: OrderedDict[int, View] = OrderedDict()  # by number, the one asked for least recently first
        self._working: deque[View] = deque()  # those that have jobs
        self._asked: dict[View, None] = {}  # those with questions
        self._answers: list[tuple[int, bytes]] = []
        self._number = self._held = 0

    def __bool__(self) -> bool:
        """Whether a turn has something to do for them now."""
        return bool(self._working or self._asked or self._answers)

    # -- asking ----------------------------------------------------------------------------------------------------

    def open(self, request: Request, where: Filter, order: Order, now: int) -> None:
        """Begin a view, between turns. Its answer comes with the next slice; Refused (as an answer) if it cannot have that order."""
        store = self._store
        known = count_of(where, store.tallies())
        if order.field != "id" and known is not None and known > SORT_MOST:
            self._answers.append((request.conn, error_answer(request.number, _too_many(order, known))))
            return
        mine = [view for view in self._views.values() if view.conn == request.conn]
        if len(mine) >= MOST_EACH:
            self._drop(mine[0])
        if len(self._views) >= MOST:
            self._drop(next(iter(self._views.values())))
        self._number += 1
        newest = store.last_id()
        ids = array("I" if newest < 1 << 32 else "Q")
        view = View(self._number, request.conn, where, order, newest, now, ids, known if order.field == "id" else None, passed=newest)
        view.jobs.append(self._fill(view) if view.by_id else self._fill_sorted(view))
        self._views[view.number] = view
        self._working.append(view)
        self._ask(view, Ask(request, "view"), now)

    def ask(self, number: int, ask: Ask, now: int) -> None:
        """Put a question to a view, between turns; Refused (as an answer) if there is none of that number, or too many wait."""
        view = self._views.get(number)
        if view is None or view.conn != ask.request.conn:
            self._refuse(ask, _gone(number))
        elif len(view.asks) >= ASKS_MOST:
            text = f"view {number}: expected at most {ASKS_MOST} questions that wait for it, there are as many. Await some answers first."
            self._refuse(ask, Refused(text, retry_after=0.1))
        else:
            self._ask(view, ask, now)

    def _ask(self, view: View, ask: Ask, now: int) -> None:
        view.until = now + KEEP_MS
        self._views.move_to_end(view.number)
        if ask.what == "news" and not any(one.what == "news" for one in view.asks):
            view.news = None
            view.jobs.appendleft(self._count_news(view))
            if len(view.jobs) == 1:
                self._working.append(view)
        view.asks.append(ask)
        self._asked[view] = None

    def _refuse(self, ask: Ask, error: TqError) -> None:
        self._answers.append((ask.request.conn, error_answer(ask.request.number, error)))

    # -- forgetting ------------------------------------------------------------------------------------------------

    def gone(self, conn: int) -> None:
        """A connection is closed."""
        for view in [view for view in self._views.values() if view.conn == conn]:
            view.asks.clear()
            self._drop(view)

    def holds(self, conn: int) -> bool:
        """Whether a connection has an answer to expect."""
        return any(view.conn == conn for view in self._asked) or any(one == conn for one, _ in self._answers)

    @property
    def next_due(self) -> float | None:
        """When the first of them is to be forgotten (ms); None: there is none."""
        return next(iter(self._views.values())).until if self._views else None

    def forget_old(self, now: int) -> None:
        """Drop those that nobody has asked for since KEEP_MS."""
        while self._views and (view := next(iter(self._views.values()))).until <= now:
            self._drop(view)

    def stepped(self, ms: int) -> None:
        """The clock was put forward (or back, if less than 0) by so much."""
        for view in self._views.values():
            view.until += ms

    def _drop(self, view: View, error: TqError | None = None) -> None:
        view.over = True
        view.jobs.clear()
        self._held -= len(view.ids)
        del self._views[view.number]
        self._asked.pop(view, None)
        for ask in view.asks:
            self._refuse(ask, error or _gone(view.number))

    # -- in slices -------------------------------------------------------------------------------------------------

    def read_on(self, seconds: float) -> list[tuple[int, bytes]]:
        """Answer what can be answered, then work on each in turn, for ``seconds`` in all: (connection, answer) of what is answered."""
        until = self._clock() + seconds
        for view in list(self._asked):
            self._answer(view, until)
            if self._clock() >= until:
                break
        while self._working and self._clock() < until:
            view = self._working.popleft()
            if view.over:
                continue
            job = view.jobs.popleft()
            try:
                if self._goes_on(job, until):
                    view.jobs.append(job)
            except TqError as error:
                self._drop(view, error)
                continue
            if view.jobs:
                self._working.append(view)
            self._answer(view, until)
        answers, self._answers = self._answers, []
        return answers

    def _goes_on(self, job: Iterator[None], until: float) -> bool:
        """A slice of it; False if it has come to its end."""
        return any(self._clock() >= until for _ in job)

    def _answer(self, view: View, until: float) -> None:
        """The questions that can be answered, one at least."""
        waits: list[Ask] = []
        for at, ask in enumerate(view.asks):
            if not view.ready(ask):
                waits.append(ask)
                continue
            self._answers.append((ask.request.conn, answer(ask.request.number, self._body(view, ask))))
            if self._clock() >= until:
                waits += view.asks[at + 1 :]
                break
        view.asks = waits
        self._asked.pop(view, None)
        if waits:
            self._asked[view] = None  # behind the others

    def _body(self, view: View, ask: Ask) -> dict[str, Any]:
        if ask.what == "news":
            return {"new": view.news}
        if ask.what == "place":
            return {"offset": view.place(ask.at)}
        total, exact = view.total()
        if ask.what == "view":
            return {"view": view.number, "sort": str(view.order), "total": total, "exact": exact}
        offset = ask.at if ask.at >= 0 else max(len(view.ids) + ask.at, 0)
        rows = self.rows(view.ids[offset : offset + ask.limit])
        return {"rows": rows, "offset": offset, "total": total, "exact": exact, "done": view.done}

    def rows(self, ids: Sequence[int]) -> list[list[Any] | None]:
        """The rows of these tasks, None where there is none; tasks, which may be large, are read a few at a time."""
        found: dict[int, list[Any]] = {}
        for at in range(0, len(ids), READ_EACH):
            found |= {task.id: self._row(task) for task in tasks_of(self._store, list(ids[at : at + READ_EACH]))}
        return [found.get(one) for one in ids]

    # -- what is done for a view -----------------------------------------------------------------------------------

    def _walk(self, view: View, first: int, last: int, *, oldest: bool) -> Iterator[Sequence[int]]:
        """Ids among which are all that match, of those from the ``first`` to the ``last``."""
        low, high = view.where.ids_range or (1, LAST_ID)
        return self._store.walk(view.where.states, max(low, first), min(high, last), oldest=oldest)

    def _matching(self, view: View, first: int, last: int, *, oldest: bool) -> Iterator[list[Task]]:
        """The tasks of these that match, a few at a time."""
        matches, now = view.where.matches, view.now
        for ids in self._walk(view, first, last, oldest=oldest):
            for at in range(0, len(ids), READ_EACH):
                yield [task for task in tasks_of(self._store, ids[at : at + READ_EACH]) if matches(task, now)]

    def _ids(self, view: View, first: int, last: int, *, oldest: bool) -> Iterator[Sequence[int]]:
        """The same, but only ids; tasks are not read where the walk knows all that the filter asks."""
        if view.where.root is None or view.where.only_states:
            yield from self._walk(view, first, last, oldest=oldest)
            return
        if view.where.only_headers:
            yield from self._by_header(view, first, last, oldest=oldest)
            return
        for tasks in self._matching(view, first, last, oldest=oldest):
            yield [task.id for task in tasks]

    def _by_header(self, view: View, first: int, last: int, *, oldest: bool) -> Iterator[list[int]]:
        """The same, where each kind of task has to be looked at but once: a queue has few of them and many tasks."""
        store, matches = self._store, view.where.matches
        known: dict[tuple[bytes, State | None], bool] = {}
        look = "state" in view.where.fields
        for every in self._walk(view, first, last, oldest=oldest):
            for at in range(0, len(every), HEADERS_EACH):
                ids = every[at : at + HEADERS_EACH]
                found: list[int] = []
                for one, header, state in zip(ids, store.headers(ids), states_in(store, ids) if look else repeat(None), strict=False):
                    if header is None or (look and state is None):
                        continue
                    kind = header.packed, state
                    if kind not in known:
                        known = known if len(known) < KINDS_MOST else {}
                        known[kind] = matches(Task(Spec(one, header, b"", 0), Status(State.PENDING if state is None else state)), view.now)
                    if known[kind]:
                        found.append(one)
                yield found

    def _fill(self, view: View) -> Iterator[None]:
        known = None if "state" in view.where.fields else view.known  # where each stands may change meanwhile
        for ids in self._ids(view, 1, view.newest, oldest=not view.order.descending):
            if not self._take(view, ids):
                view.cut = True
                break
            if len(view.ids) == known:
                break
            yield
        view.done = True

    def _take(self, view: View, ids: Iterable[int]) -> bool:
        """Add what was found; False if there is no room for more, not even where others were."""
        before = len(view.ids)
        view.ids.extend(ids)
        self._held += len(view.ids) - before
        while self._held > IDS_MOST:
            other = next((one for one in self._views.values() if one is not view and one.ids), None)
            if other is None:
                return False
            self._drop(other)
        return True

    def _fill_sorted(self, view: View) -> Iterator[None]:
        get, now, none = FIELDS[view.order.field].get, view.now, -_FAR if view.order.descending else _FAR  # what has no value comes last
        runs: list[list[tuple[Any, int]]] = [[]]
        seen = 0
        for tasks in self._matching(view, 1, view.newest, oldest=True):
            runs[-1] += [(none if (value := get(task, now)) is None else value, task.id) for task in tasks]
            seen += len(tasks)
            if seen > SORT_MOST:
                raise _too_many(view.order, None)
            if len(runs[-1]) >= RUN:
                runs[-1].sort(reverse=view.order.descending)
                runs.append([])
            yield
        runs[-1].sort(reverse=view.order.descending)
        view.known = seen
        order = merge(*runs, reverse=view.order.descending)
        while ids := [task_id for _, task_id in islice(order, RUN // 2)]:
            self._take(view, ids)  # few enough that others give way
            yield
        view.done = True

    def _count_news(self, view: View) -> Iterator[None]:
        last, found = self._store.last_id(), 0
        for ids in self._ids(view, view.passed + 1, last, oldest=True):
            found += len(ids)
            yield
        view.news = view.passed_matches + found
        if last - view.passed > NEWS_AGAIN:
            view.passed, view.passed_matches = last, view.news


def _gone(number: int) -> Refused:
    return Refused(
        f"view {number}: expected a view that this connection has asked for lately, there is none: it is kept for "
        f"{KEEP_MS // 60_000} minutes, at most {MOST_EACH} of a connection. Ask for a new one.",
        gone=True,
    )  # fmt: skip


def _too_many(order: Order, count: int | None) -> Refused:
    return Refused(
        f"sort: expected at most {SORT_MOST:,} tasks to sort by {str(order)!r}, {'more' if count is None else f'{count:,}'} match. "
        "Sort by id or -id, which go with any number, or narrow the filter.",
        too_much=True,
        sorts=["id", "-id"],
    )

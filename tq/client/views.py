"""The verbs about views and filters, in both faces of the client.

For: ``Client.view`` and its like, for who scrolls through many tasks or helps somebody to write a filter; and the same to be awaited.
Not for: whole tasks (blocking, aio), keeping pages (the monitor), connections (blocking, aio).
Runs in: any process but the daemon.
Promises: words of time in a filter mean the wall clock of this process; a row has names for what ``tq.wire`` puts in order.

A view belongs to the connection on which it was asked for. An asyncio client has one; a blocking client has one for as long as one
thread uses it. If the daemon has ended it, or the view was not asked for in five minutes, ``Refused`` has ``gone`` in its details: ask for
a new one.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Unpack

from tq.client.acting import READ_WITHIN, Which, which_args
from tq.client.core import Body, Ids, ids_of


class TaskRow(NamedTuple):
    """A task in a list. Times in ms since 1970, 0: none; ``progress`` from 0 to 1; ``error``: ``Type: message``, cut to 120 characters."""

    id: int
    state: str
    type: str
    queue: str
    priority: int
    attempt: int
    retries: int
    created_at: int
    due_at: int
    started_at: int
    finished_at: int
    progress: float | None
    error: str | None
    label: str | None
    worker: str | None
    suspended: bool


class View(NamedTuple):
    """A view that was made. ``total``: how many tasks match; not ``exact``: at least so many, they are still counted."""

    number: int
    sort: str
    total: int
    exact: bool


class Page(NamedTuple):
    """Rows of a view from ``offset`` on, None where the task is gone meanwhile; ``done``: all that match are found."""

    rows: Sequence[TaskRow | None]
    offset: int
    total: int
    exact: bool
    done: bool


class Completion(NamedTuple):
    """What may stand in a filter from ``start`` to ``end`` (columns from 0): texts, each with a note."""

    start: int
    end: int
    choices: Sequence[tuple[str, str]]


def _view_args(sort: str, which: Which) -> Body:
    return {**which_args(which), "sort": sort}


def _view(body: Body) -> View:
    return View(body["view"], body["sort"], body["total"], body["exact"])


def _rows(body: Body) -> list[TaskRow | None]:
    return [None if row is None else TaskRow(*row) for row in body["rows"]]


def _page(body: Body) -> Page:
    return Page(_rows(body), body["offset"], body["total"], body["exact"], body["done"])


def _completion(body: Body) -> Completion:
    return Completion(body["start"], body["end"], [(text, note) for text, note in body["choices"]])


def _terms(body: Body) -> list[tuple[str, int | None]]:
    return [(text, count) for text, count in body["terms"]]


class ViewVerbs:
    """What ``Client`` is made of, too."""

    def call(self, verb: str, args: Body | None = None, timeout: float | None = None) -> Body:
        raise NotImplementedError

    def view(self, sort: str = "-id", **which: Unpack[Which]) -> View:
        """The tasks that match now, in an order that stays: a field of ``tq.wire``'s ``view``, ``-`` before it for downwards. Refused: too
        many for an order other than that of ids."""
        return _view(self.call("view", _view_args(sort, which), READ_WITHIN))

    def page(self, view: int, offset: int, limit: int = 200) -> Page:
        """At most 200 rows of the view of this number; an ``offset`` below 0 counts from its end."""
        return _page(self.call("page", {"view": view, "offset": offset, "limit": limit}, READ_WITHIN))

    def place(self, view: int, task_id: int) -> int | None:
        """Where a task stands in a view, from 0; None if it does not."""
        found: int | None = self.call("place", {"view": view, "id": task_id}, READ_WITHIN)["offset"]
        return found

    def rows(self, ids: Ids) -> Sequence[TaskRow | None]:
        """The rows of at most 500 tasks as they are now; None where there is none."""
        return _rows(self.call("rows", {"ids": ids_of(ids)}))

    def news(self, view: int) -> int:
        """How many tasks that came after a view was made match it."""
        found: int = self.call("news", {"view": view}, READ_WITHIN)["new"]
        return found

    def complete(self, text: str, at: int) -> Completion:
        """What may stand at column ``at`` of a filter's text."""
        return _completion(self.call("complete", {"text": text, "at": at}))

    def explain(self, where: str) -> Sequence[tuple[str, int | None]]:
        """How many tasks each term of a filter matches alone; None: there was no time to count them."""
        return _terms(self.call("explain", which_args({"where": where})))


class AsyncViewVerbs:
    """The same for ``AsyncClient``."""

    async def call(self, verb: str, args: Body | None = None, timeout: float | None = None) -> Body:  # noqa: ASYNC109 - an argument of the verb
        raise NotImplementedError

    async def view(self, sort: str = "-id", **which: Unpack[Which]) -> View:
        return _view(await self.call("view", _view_args(sort, which), READ_WITHIN))

    async def page(self, view: int, offset: int, limit: int = 200) -> Page:
        return _page(await self.call("page", {"view": view, "offset": offset, "limit": limit}, READ_WITHIN))

    async def place(self, view: int, task_id: int) -> int | None:
        found: int | None = (await self.call("place", {"view": view, "id": task_id}, READ_WITHIN))["offset"]
        return found

    async def rows(self, ids: Ids) -> Sequence[TaskRow | None]:
        return _rows(await self.call("rows", {"ids": ids_of(ids)}))

    async def news(self, view: int) -> int:
        found: int = (await self.call("news", {"view": view}, READ_WITHIN))["new"]
        return found

    async def complete(self, text: str, at: int) -> Completion:
        return _completion(await self.call("complete", {"text": text, "at": at}))

    async def explain(self, where: str) -> Sequence[tuple[str, int | None]]:
        return _terms(await self.call("explain", which_args({"where": where})))

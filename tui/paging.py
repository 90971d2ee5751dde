"""Where a table's rows come from: a window over a million of the daemon's, or a list that is here whole.

For: giving the row of a place, finding the place of a key, fetching what is about to be seen, and telling what changed.
Not for: drawing (widgets.table), the connection (feed), what is asked for when (screens).
Runs in: the monitor, on its event loop; without Textual.
Promises: of a view at most PAGES pages are kept and at most a few asked for at a time, however fast somebody scrolls; an answer that
belongs to an older view changes nothing; until a new view's first rows are here, the old ones stay; texts of rows are cleaned as they
come in.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Hashable, Iterable, Mapping, Sequence
from itertools import count
from typing import Any, Protocol

from tq.errors import TqError
from tui.formats import cleaned

PAGE = 200
"""Rows of one request; the most that the daemon gives."""
PAGES = 64
ROWS_MOST = 500
"""Ids of one request for rows that changed."""

Key = Hashable
Row = Any
Call = Callable[[str, dict[str, Any]], Awaitable[Any]]
"""Asks the daemon: a verb and its arguments; TqError where it refuses or nobody answers."""

_stamps = count(1)


class Entry:
    """A row as it is at one time. ``stamp`` is another one after each change, for all rows there ever were."""

    __slots__ = ("key", "row", "stamp", "struck")

    def __init__(self, key: Key, row: Row, struck: bool = False) -> None:
        self.key = key
        self.row = row
        self.struck = struck
        """It is no longer among what was asked for, and stays until somebody asks anew."""
        self.stamp = next(_stamps)


_REMOVED = Entry(None, None, struck=True)
"""Stands where a view has a task that there is no more: a row and a key of None."""

Change = tuple[int, Entry | None, Entry]
"""(place, the entry before or None, the entry now)."""


class Listener(Protocol):
    """Who shows the rows."""

    def held(self) -> tuple[Key | None, int]:
        """The key that stays where it is if it can, and the place to show if it is gone."""
        ...

    def rows_changed(self, changes: Sequence[Change]) -> None:
        """These places have other rows, or rows at last."""
        ...

    def rows_moved(self) -> None:
        """Places or their number are others: find the keys again."""
        ...


class Source(Protocol):
    """Rows by place, counted from 0."""

    @property
    def total(self) -> int:
        """How many rows there are; at least so many, if not ``exact``."""
        ...

    @property
    def exact(self) -> bool: ...

    def attach(self, listener: Listener) -> None:
        """Tell this one from now on, and no other."""
        ...

    def entry(self, place: int) -> Entry | None:
        """The row there; None: there is none, or it is not here yet."""
        ...

    def find(self, key: Key) -> int | None:
        """Where a row stands, if it is here."""
        ...

    def look(self, first: int, end: int) -> None:
        """These places are seen now: fetch what is missing."""
        ...

    async def last(self) -> int:
        """The last place; -1 if there are no rows. TqError: see ``Call``."""
        ...


class ListSource:
    """Rows that are all here, in the order in which they were given last."""

    def __init__(self, key: Callable[[Row], Key]) -> None:
        self._key = key
        self._entries: list[Entry] = []
        self._places: dict[Key, int] = {}
        self._listener: Listener | None = None

    @property
    def total(self) -> int:
        return len(self._entries)

    @property
    def exact(self) -> bool:
        return True

    def attach(self, listener: Listener) -> None:
        self._listener = listener

    def entry(self, place: int) -> Entry | None:
        return self._entries[place] if 0 <= place < len(self._entries) else None

    def find(self, key: Key) -> int | None:
        return self._places.get(key)

    def look(self, first: int, end: int) -> None:
        """Nothing is missing here."""

    async def last(self) -> int:
        return len(self._entries) - 1

    def show(self, rows: Iterable[Row]) -> None:
        """These rows from now on; of two with one key the first counts. What is equal to what was there is no change."""
        before, old = self._places, self._entries
        entries: list[Entry] = []
        places: dict[Key, int] = {}
        changes: list[Change] = []
        for row in rows:
            key = self._key(row)
            if key in places:
                continue
            known = old[before[key]] if key in before else None
            entry = known if known is not None and known.row == row else Entry(key, row)
            if entry is not known:
                changes.append((len(entries), known, entry))
            places[key] = len(entries)
            entries.append(entry)
        moved = len(entries) != len(old) or any(before.get(key) != place for key, place in places.items())
        self._entries, self._places = entries, places
        if self._listener is not None:
            if moved:
                self._listener.rows_moved()
            if changes:
                self._listener.rows_changed(changes)


class PagedSource:
    """A window over what a filter matches: the daemon pins the order, this keeps the pages that are near."""

    def __init__(self, call: Call, key: Callable[[Row], Key] = lambda row: row[0], matches: Callable[[Row], bool] | None = None) -> None:
        """``matches`` says of a row that changed whether it is still among what was asked for; None: it always is."""
        self._call, self._key, self.matches = call, key, matches
        self._listener: Listener | None = None
        self._asked: dict[str, Any] = {}
        self._view: int | None = None
        self._total, self._exact = 0, False
        self._pages: OrderedDict[int, list[Entry]] = OrderedDict()
        self._places: dict[Key, int] = {}
        self._under_way: dict[int, asyncio.Task[None]] = {}
        self._reopening: asyncio.Task[None] | None = None
        self._seen = (0, 0)
        self.problem = ""
        """Why rows are missing, in words; empty: nothing is wrong."""

    @property
    def total(self) -> int:
        return self._total

    @property
    def exact(self) -> bool:
        return self._exact

    @property
    def view(self) -> int | None:
        """The number of the daemon's view, for ``news``; None: there is none yet."""
        return self._view

    @property
    def loading(self) -> list[int]:
        """The pages asked for and not here yet, from 0."""
        return sorted(self._under_way)

    def attach(self, listener: Listener) -> None:
        self._listener = listener

    def entry(self, place: int) -> Entry | None:
        page = self._pages.get(place // PAGE) if place >= 0 else None
        return page[place % PAGE] if page is not None and place % PAGE < len(page) else None

    def find(self, key: Key) -> int | None:
        return self._places.get(key)

    async def open(self, asked: Mapping[str, Any]) -> None:
        """Show what this matches: the arguments of ``view``. TqError: what was shown stays."""
        asked = dict(asked)
        answer = await self._call("view", asked)
        view = answer["view"]
        key, place = self._listener.held() if self._listener is not None else (None, 0)
        found = (await self._call("place", {"view": view, "id": key}))["offset"] if key is not None else None
        first = (place if found is None else found) // PAGE
        page = await self._fetched(view, first)
        if first and not page["rows"]:  # there are fewer rows than there were
            first = 0
            page = await self._fetched(view, first)
        self._forget()
        self._asked, self._view, self.problem = asked, view, ""
        self._total, self._exact = answer["total"] or 0, bool(answer["exact"])
        self._take(first, page)
        if self._listener is not None:
            self._listener.rows_moved()

    async def reload(self) -> None:
        """The same again, with what has come since. TqError as in ``open``."""
        await self.open(self._asked)

    def close(self) -> None:
        """Nothing is asked for any more."""
        self._forget()
        if self._reopening is not None:
            self._reopening.cancel()

    def look(self, first: int, end: int) -> None:
        if self._view is None:
            return
        down = first >= self._seen[0]
        self._seen = (first, end)
        low, high = max(0, first) // PAGE, max(0, end - 1) // PAGE
        near = [high + 1, low - 1] if down else [low - 1, high + 1]
        wanted = [*range(low, high + 1), *near]
        for number in [number for number in self._under_way if number not in wanted]:
            self._under_way.pop(number).cancel()
        for number in wanted:
            if number in self._pages:
                self._pages.move_to_end(number)
            elif number >= 0 and number not in self._under_way and (not self._exact or number * PAGE < self._total):
                self._under_way[number] = asyncio.create_task(self._fetch(self._view, number))

    def fetch(self, first: int, end: int) -> None:
        """Have these places here, too, if they fit into half of what is kept; they are not those that are seen."""
        pages = range(max(0, first) // PAGE, min(max(0, end - 1) // PAGE + 1, first // PAGE + PAGES // 2))
        for number in pages:
            if self._view is not None and number not in self._pages and number not in self._under_way and number * PAGE < self._total:
                self._under_way[number] = asyncio.create_task(self._fetch(self._view, number))

    async def last(self) -> int:
        if not self._exact and self._view is not None:
            answer = await self._call("page", {"view": self._view, "offset": -1, "limit": 1})
            self._count(answer)
            if self._listener is not None:
                self._listener.rows_moved()
        return self._total - 1

    async def locate(self, key: Key) -> int | None:
        """Where a row stands among all that match, also far away; None: it is not among them. TqError: see ``Call``."""
        if (here := self.find(key)) is not None or self._view is None:
            return here
        offset = (await self._call("place", {"view": self._view, "id": key}))["offset"]
        return None if offset is None else int(offset)

    async def freshen(self, keys: Iterable[Key]) -> None:
        """Ask for these rows anew, those of them that are here. TqError: see ``Call``."""
        wanted = [key for key in keys if key in self._places]
        for at in range(0, len(wanted), ROWS_MOST):
            some = wanted[at : at + ROWS_MOST]
            answer = await self._call("rows", {"ids": some})
            changes = [change for key, row in zip(some, answer["rows"], strict=True) if (change := self._changed(key, row)) is not None]
            if changes and self._listener is not None:
                self._listener.rows_changed(changes)

    def _changed(self, key: Key, row: Row) -> Change | None:
        """Take in a row that was asked for anew; None: it is as it was, or no longer here."""
        place = self._places.get(key)
        old = None if place is None else self.entry(place)
        if place is None or old is None:
            return None
        if row is None:  # it was removed: what it was stays, struck
            row, struck = old.row, True
        else:
            row = cleaned(row)
            struck = self.matches is not None and not self.matches(row)
        if row == old.row and struck == old.struck:
            return None
        new = Entry(old.key, row, struck)
        self._pages[place // PAGE][place % PAGE] = new
        return place, old, new

    async def _fetched(self, view: int, number: int) -> dict[str, Any]:
        found: dict[str, Any] = await self._call("page", {"view": view, "offset": number * PAGE, "limit": PAGE})
        return found

    async def _fetch(self, view: int, number: int) -> None:
        try:
            page = await self._fetched(view, number)
        except TqError as error:
            if self._view == view:
                self._failed(error)
            return
        finally:
            if self._under_way.get(number) is asyncio.current_task():
                del self._under_way[number]
        if self._view != view:
            return
        self.problem = ""
        before = self._total
        changes = self._take(number, page)
        if self._listener is not None:
            if self._total != before:
                self._listener.rows_moved()
            self._listener.rows_changed(changes)

    def _failed(self, error: TqError) -> None:
        """A view that the daemon no longer has is asked for anew; after any other trouble the next look tries again."""
        self.problem = error.message
        if error.details.get("gone") and self._reopening is None:
            self._reopening = asyncio.create_task(self._reopen())

    async def _reopen(self) -> None:
        try:
            await self.reload()
        except TqError as error:
            self.problem = error.message
        finally:
            self._reopening = None

    def _take(self, number: int, page: Mapping[str, Any]) -> list[Change]:
        """Keep a page that has come, drop the one that was seen longest ago; what of it is new here."""
        rows = map(cleaned, page["rows"])
        entries = [_REMOVED if row is None else Entry(self._key(row), row) for row in rows]
        self._drop(number)
        self._pages[number] = entries
        self._places |= {entry.key: number * PAGE + at for at, entry in enumerate(entries) if entry is not _REMOVED}
        while len(self._pages) > PAGES:
            self._drop(next(iter(self._pages)))
        self._count(page)
        if len(entries) < PAGE and page.get("done", True):
            self._total, self._exact = max(number * PAGE + len(entries), 0) if entries or not number else self._total, True
        return [(number * PAGE + at, None, entry) for at, entry in enumerate(entries)]

    def _count(self, page: Mapping[str, Any]) -> None:
        """What an answer says of how many there are; while it is not exact, the number only rises."""
        offset, total = int(page["offset"]), page["total"]
        self._exact = bool(page["exact"])
        known = max(int(total or 0), offset + len(page["rows"]))
        self._total = known if self._exact else max(known, self._total)

    def _drop(self, number: int) -> None:
        for entry in self._pages.pop(number, ()):
            if entry is not _REMOVED and self._places.get(entry.key, -1) // PAGE == number:
                del self._places[entry.key]

    def _forget(self) -> None:
        for task in self._under_way.values():
            task.cancel()
        self._under_way.clear()
        self._pages.clear()
        self._places.clear()

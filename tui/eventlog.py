"""The events that are here: what people and the daemon did, the newest first, with older ones fetched as somebody goes down.

For: ``EventLog``, a source of a table: newer events put in front, older ones asked for page by page, and the choice among them.
Not for: asking for newer ones (refresh does), what an event looks like (the screen).
Runs in: the monitor, on its event loop; without Textual.
Promises: no event is here twice, and none is missing between two that are; one page is asked for at a time; at most KEEP_MOST are kept,
and whether there are older ones is known.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence

from tq.errors import TqError
from tui.formats import cleaned
from tui.paging import Call, ListSource
from tui.state import Body

PAGE = 200
NEWS_MOST = 500
"""Newer events of one answer."""
KEEP_MOST = 20_000
AHEAD = 60
"""Rows below what is seen that are fetched before somebody gets there."""
SYSTEM = ("tq", "application")
"""Who did what no person did."""


def text_of(event: Body) -> str:
    """All words of an event, for finding it by some of them."""
    return f"{event['what']} {event['target']} {event['who']} {event.get('before') or ''} {event.get('after') or ''}".lower()


class EventLog(ListSource):
    """Events of one daemon. ``words``: all of them must be in an event, with - before it one must not; ``people``: people's alone."""

    def __init__(self, call: Call, changed: Callable[[], None]) -> None:
        """``changed`` is called when older events have come, or have not."""
        super().__init__(lambda event: event["number"])
        self._call, self._changed = call, changed
        self._events: list[Body] = []
        self._texts: dict[int, str] = {}
        self._fetching: asyncio.Task[None] | None = None
        self._seen = 0
        self.words: tuple[str, ...] = ()
        self.people = False
        self.complete = False
        """There are none older than those that are here."""
        self.failed = ""
        """Why the last page did not come."""

    # what is here

    @property
    def exact(self) -> bool:
        return self.complete or not self._events or len(self._events) >= KEEP_MOST

    @property
    def loaded(self) -> int:
        """How many events are here, whether they are chosen or not."""
        return len(self._events)

    @property
    def newest(self) -> int:
        """The number of the newest; 0: none is here."""
        return int(self._events[0]["number"]) if self._events else 0

    def news(self) -> Body:
        """What to ask ``events`` for, so that nothing is missing in front."""
        return {"after": self.newest, "limit": NEWS_MOST} if self._events else {"limit": PAGE}

    def take(self, events: Iterable[Body]) -> None:
        """Events that are newer than those here, in any order; others are passed over. The first answer of all is the newest page."""
        first = not self._events
        fresh = sorted((one for one in events if one["number"] > self.newest), key=lambda one: -int(one["number"]))
        if first and len(fresh) < PAGE:
            self.complete = True
        if not fresh and not first:
            return
        self._events = fresh + self._events
        if len(self._events) > KEEP_MOST:
            self._events, self.complete = self._events[:KEEP_MOST], False
        self.choose(self.words, self.people)

    def forget(self) -> None:
        """The daemon is another one: begin anew."""
        self._events, self._texts, self.complete, self.failed = [], {}, False, ""
        self.show(())

    def choose(self, words: Sequence[str], people: bool) -> None:
        """Show those that have all these words, and of people alone if asked for."""
        self.words, self.people = tuple(words), people
        self.show([one for one in self._events if self._matches(one)])
        self._more()

    def _matches(self, event: Body) -> bool:
        if self.people and event["who"] in SYSTEM:
            return False
        if not self.words:
            return True
        number = int(event["number"])
        text = self._texts.get(number)
        if text is None:
            text = self._texts[number] = text_of(event)
        return all((word[1:] not in text) if word.startswith("-") and len(word) > 1 else word in text for word in self.words)

    # older ones

    def look(self, first: int, end: int) -> None:
        self._seen = end
        self._more()

    def _more(self) -> None:
        """Ask for a page of older ones, if what is here ends soon."""
        if self._events and not self.exact and self._fetching is None and not self.failed and self.total < self._seen + AHEAD:
            self._fetching = asyncio.create_task(self._fetch(), name="tq-monitor-events")

    async def _fetch(self) -> None:
        try:
            await self._page()
        except TqError as error:
            self.failed = error.message  # until somebody moves on, or the connection is back
        finally:
            self._fetching = None
            self._changed()
        self._more()

    async def _page(self) -> None:
        before = self._events[-1]["number"]
        found = cleaned((await self._call("events", {"before": before, "limit": PAGE})).get("events", ()))
        if not self._events or self._events[-1]["number"] != before:
            return  # begun anew meanwhile
        self._events += sorted((one for one in found if one["number"] < before), key=lambda one: -int(one["number"]))
        self.complete = len(found) < PAGE
        del self._events[KEEP_MOST:]
        self.show([one for one in self._events if self._matches(one)])

    def again(self) -> None:
        """What did not come may come now."""
        self.failed = ""
        self._more()

    async def last(self) -> int:
        """The place of the oldest one, when all of them are here. TqError: see Call."""
        if self._fetching is not None:
            await self._fetching
        while self._events and not self.exact:
            await self._page()
        self._changed()
        return self.total - 1

    def close(self) -> None:
        """Ask for nothing more."""
        if self._fetching is not None:
            self._fetching.cancel()

"""Asking again and again for what the visible screen shows, and for nothing else.

For: ``Want`` (a question and how often it is asked) and ``Refresher`` (who asks).
Not for: the connection (feed), what comes of an answer (state).
Runs in: the monitor's event loop.
Promises: a question is never asked while its answer is still out; what a screen that is left wanted is asked no more; after a
reconnect all is asked anew; a daemon that does not know a question is asked it once in a connection.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from tq.errors import NotAllowed, TqError, UsageError
from tui.clock import until_woken
from tui.feed import Feed, Phase
from tui.state import Body, Known

QUIET_AFTER_S = 5.0
QUIET_PACE = 3.0
"""So much slower is asked when no task has moved for so long: what else may change, settings and what needs a look, can wait."""


@dataclass(frozen=True, slots=True)
class Want:
    """A question of a screen: a verb and its arguments (made anew each time, if callable), at most once in ``every_s`` seconds."""

    verb: str
    args: Body | Callable[[], Body] = field(default_factory=dict)
    every_s: float = 1.0
    queue: str | None = None
    """Of whose history, if the verb is ``history``; None: of all."""
    of: Callable[[], object] | None = field(default=None, compare=False)
    """What the answer depends on, such as the totals that the daemon pushes, or what another answer said. While it is as it was when
    last asked, the question is asked in ``rest_s`` seconds only. Who changes it by another way than the totals wakes the refresher."""
    rest_s: float = 10.0


class Refresher:
    """Asks the feed for what is wanted and gives it to what is known. ``pace``: how much slower than wanted; 0 is not at all."""

    def __init__(self, feed: Feed, known: Known) -> None:
        self.pace = 1.0
        self._feed, self._known, self._clock = feed, known, feed.clock
        self._wants: dict[str, Want] = {}
        self._asked: dict[str, float] = {}
        self._stood: dict[str, object] = {}
        self._out: dict[str, asyncio.Task[None]] = {}
        self._left: set[str] = set()
        self._wake = asyncio.Event()
        self._greeting: Body | None = None
        self._stirred = self._clock.ticks()

    def want(self, wants: Mapping[str, Want]) -> None:
        """From now on these questions, by topic; the same question goes on at its pace."""
        for topic in [topic for topic, one in self._wants.items() if wants.get(topic) != one and not callable(one.args)]:
            self._asked.pop(topic, None)
        self._wants = dict(wants)
        self._wake.set()

    def again(self, *topics: str) -> None:
        """Ask for these, or for all, at once: something was done to them."""
        for topic in topics or tuple(self._wants):
            self._asked.pop(topic, None)
        self._wake.set()

    def stirred(self) -> None:
        """Tasks have moved: from now on, and until they rest, questions are asked at their own pace."""
        quiet, self._stirred = self.quiet, self._clock.ticks()
        if quiet or any(want.of is not None for want in self._wants.values()):
            self._wake.set()

    @property
    def quiet(self) -> bool:
        """Whether no task has moved for QUIET_AFTER_S."""
        return self._clock.ticks() - self._stirred >= QUIET_AFTER_S

    def wake(self) -> None:
        """The connection stands differently: look again."""
        self._wake.set()

    @property
    def progress(self) -> float:
        """The share of questions that were answered since the connection was made."""
        return 1.0 - len(self._left) / max(len(self._wants), 1)

    async def run(self) -> None:
        """Ask, until cancelled."""
        try:
            while True:
                self._wake.clear()
                self._look()
                await until_woken(self._clock, self._wake, self._next())
        finally:
            for task in self._out.values():
                task.cancel()

    def _look(self) -> None:
        standing = self._feed.standing
        if not standing.phase.connected:
            return
        if standing.hello is not self._greeting:
            self._greeting = standing.hello
            self._asked.clear()
            self._known.begin_anew()
            self._left = set(self._wants)
        now = self._clock.ticks()
        for topic, want in self._wants.items():
            if topic in self._out or topic in self._known.lacking:
                continue
            if now >= self._due(topic, want):
                self._asked[topic] = now
                self._stood[topic] = want.of() if want.of is not None else None
                self._out[topic] = asyncio.create_task(self._ask(topic, want), name=f"tq-monitor-{topic}")
        self._left &= self._wants.keys()
        if not self._left and standing.phase is Phase.SYNCING:
            self._feed.synced()

    def _due(self, topic: str, want: Want) -> float:
        asked = self._asked.get(topic)
        if asked is None:
            return 0.0
        if not self.pace:
            return float("inf")
        if want.of is not None:
            every = want.rest_s if want.of() == self._stood.get(topic) else want.every_s
        else:
            every = want.every_s * (QUIET_PACE if self.quiet else 1.0)
        return asked + every * self.pace

    def _next(self) -> float:
        """Seconds until the next question."""
        if not self._feed.standing.phase.connected:
            return 3600.0
        waits = [
            self._due(topic, want) for topic, want in self._wants.items() if topic not in self._out and topic not in self._known.lacking
        ]
        return min(max(min(waits, default=float("inf")) - self._clock.ticks(), 0.0), 3600.0)

    async def _ask(self, topic: str, want: Want) -> None:
        try:
            body = await self._feed.call(want.verb, want.args() if callable(want.args) else want.args)
            if want.verb == "history":
                self._known.take_history(topic, want.queue, body, self._clock.now_ms())
            else:
                self._known.take(topic, body, self._clock.now_ms())
        except (UsageError, NotAllowed) as error:
            self._known.lacks(topic, error.message)
        except TqError:
            pass  # the daemon is gone, which the feed says, or refuses for now
        finally:
            self._out.pop(topic, None)
            self._left.discard(topic)
            self._wake.set()

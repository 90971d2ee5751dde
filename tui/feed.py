"""The feed: the monitor's one connection to the daemon, which it never stops making.

For: asking (``call``), the running totals, following steps and output (``stream``), and knowing how the connection stands.
Not for: what is known (state), what is asked when (refresh), anything that is shown.
Runs in: the monitor, on its event loop; one reader.
Promises: ``run`` ends only by being cancelled; a lost connection is made again for ever, after 1 2 4 8 8 8 ... seconds, each 20 %
more or less; a request is never repeated by itself, since a person may have seen what became of it.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from enum import Enum
from typing import Any

from tq.client import AsyncClient
from tq.client.core import ERROR, EVENT, Body, Core, error_of
from tq.client.link import socket_path
from tq.errors import DaemonError, DaemonNotRunning, NotAllowed, ProtocolError, TqError
from tui.clock import Clock, until_woken

BACKOFF_S = (1.0, 2.0, 4.0, 8.0)
SPREAD = 0.2
STALE_AFTER_S, BANNER_AFTER_S = 3.0, 10.0
"""Silence after which data counts as stale, and after which a person is told what to do."""
BEAT_S = 1.0
ANSWER_WITHIN_S = 30.0
TOTALS_HZ = 4


class Phase(Enum):
    """How the connection stands."""

    STARTING = "starting"  # nobody has answered yet
    SYNCING = "syncing"
    LIVE = "live"
    STALE = "stale"  # connected, and silent
    DOWN = "down"
    FORBIDDEN = "forbidden"
    INCOMPATIBLE = "incompatible"

    @property
    def connected(self) -> bool:
        return self in (Phase.SYNCING, Phase.LIVE, Phase.STALE)


@dataclass(slots=True)
class Standing:
    """What there is to say of the connection; instants are ``Clock.ticks``."""

    phase: Phase = Phase.STARTING
    since: float = 0.0
    why: str = ""
    tries: int = 0
    """Attempts since the last that succeeded."""
    next_try: float = 0.0
    heard_at: float = 0.0
    """When anything last came."""
    heard_ms: int = 0
    """The same by the wall clock; 0: never."""
    round_trip_ms: float = 0.0
    hello: Body | None = None
    """What the daemon last said of itself: version, boot, pid, role."""
    restarts: int = 0
    """How often another daemon answered than before."""


Heard = Callable[[str, Body], None]


class Feed:
    """The connection to the daemon of ``data_dir``. ``heard`` gets each pushed event under its topic, and the answers of its own
    requests; ``changed`` is called when the connection stands differently. Both on the loop that runs ``run``."""

    def __init__(self, data_dir: str, clock: Clock, heard: Heard, changed: Callable[[], None], *, read_only: bool = False) -> None:
        self.data_dir, self.path = data_dir, socket_path(data_dir)
        self.clock, self.read_only = clock, read_only
        self.via = ""
        """What a person looks through, if not a terminal: the daemon tells it of whatever is done."""
        self.standing = Standing(since=clock.ticks())
        self._heard, self._changed = heard, changed
        self._core = Core()
        self._writer: asyncio.StreamWriter | None = None
        self._waiting: dict[int, asyncio.Future[tuple[int, Any]]] = {}
        self._awake = asyncio.Event()

    @property
    def may_write(self) -> bool:
        """Whether the daemon would carry out what changes something."""
        hello = self.standing.hello or {}
        return not self.read_only and hello.get("role", "read-write") == "read-write" and self.standing.phase.connected

    # asking

    async def call(self, verb: str, args: Body | None = None, within: float = ANSWER_WITHIN_S) -> Body:
        """Any verb of the protocol. The daemon's own error, DaemonNotRunning while nobody is there or when it goes before it has
        answered, DaemonError after ``within`` seconds."""
        writer = self._writer
        if writer is None or not self.standing.phase.connected:
            raise DaemonNotRunning(f"expected a daemon at {self.path}, but nobody answers. Start one with `tq daemon start`.")
        return await self._ask(writer, verb, args or {}, within)

    async def _ask(self, writer: asyncio.StreamWriter, verb: str, args: Body, within: float) -> Body:
        number, data = self._core.request(verb, args)
        self._core.unanswered.pop(number)
        future = self._waiting[number] = asyncio.get_running_loop().create_future()
        try:
            async with asyncio.timeout(within):
                writer.write(data)
                with suppress(OSError):  # the reader notices
                    await writer.drain()
                kind, body = await future
        except TimeoutError:
            raise DaemonError(f"the daemon did not answer {verb} within {within:g} s; it may still do what was asked.") from None
        finally:
            self._waiting.pop(number, None)
        if kind == ERROR:
            raise error_of(body)
        found: Body = body
        return found

    def stream(self, topics: Sequence[str], ids: Sequence[int] | None = None, *, offset: int = 0) -> AsyncGenerator[Body, None]:
        """The events of a ``watch`` on a connection of its own, which ends with the iteration; DaemonNotRunning when the daemon goes."""
        return AsyncClient(self.data_dir).watch(topics, ids, offset=offset)

    # the connection

    async def run(self) -> None:
        """Connect, read, and connect again, until cancelled."""
        while True:
            try:
                await self._session()
                self._lost(Phase.DOWN, "the daemon ended the connection")
            except (FileNotFoundError, ConnectionRefusedError) as error:
                never = self.standing.hello is None
                self._lost(Phase.STARTING if never else Phase.DOWN, (error.strerror or "nobody answers").lower())
            except PermissionError as error:
                self._lost(Phase.FORBIDDEN, (error.strerror or "not allowed").lower())
            except NotAllowed as error:
                self._lost(Phase.FORBIDDEN, error.message)
            except ProtocolError as error:
                self._lost(Phase.INCOMPATIBLE if self.standing.phase is not Phase.LIVE else Phase.DOWN, error.message)
            except (OSError, TqError) as error:
                self._lost(Phase.DOWN, str(error).lower() or type(error).__name__)
            await self._pause()

    async def _session(self) -> None:
        reader, writer = await asyncio.open_unix_connection(self.path, limit=1 << 18)
        self._core = Core(client="tq-monitor", read_only=self.read_only, via=self.via)
        self._writer = writer
        beat: asyncio.Task[None] | None = None
        try:
            writer.write(self._core.connected())
            while data := await reader.read(1 << 18):
                found = self._core.received(data)
                if beat is None and self._core.met is not None:
                    self._greeted(self._core.met)
                    beat = asyncio.create_task(self._beat(writer), name="tq-monitor-beat")
                self._arrived(found)
        finally:
            self._writer = None
            if beat is not None:
                beat.cancel()
            self._hang_up(writer)

    def _hang_up(self, writer: asyncio.StreamWriter) -> None:
        writer.close()
        waiting, self._waiting = self._waiting, {}
        gone = "the daemon went away before it answered; whether it did what was asked shows when it is back."
        for future in waiting.values():
            if not future.done():
                future.set_exception(DaemonNotRunning(gone))
                future.exception()  # who asked may have been cancelled, and then nobody looks

    def _greeted(self, hello: Body) -> None:
        standing = self.standing
        before = standing.hello
        standing.restarts += before is not None and before.get("boot") != hello.get("boot")
        standing.hello, standing.tries = hello, 0
        self._stands(Phase.SYNCING, "")

    def synced(self) -> None:
        """What is shown has been asked for anew, and has come."""
        if self.standing.phase is Phase.SYNCING:
            self._stands(Phase.LIVE, "")

    def _arrived(self, found: list[tuple[int, int, Any]]) -> None:
        standing = self.standing
        standing.heard_at, standing.heard_ms = self.clock.ticks(), self.clock.now_ms()
        if standing.phase is Phase.STALE:
            self._stands(Phase.LIVE, "")
        for number, kind, body in found:
            if kind == EVENT:
                self._heard(str(body.get("topic", "")), body)
            elif (future := self._waiting.get(number)) is not None and not future.done():
                future.set_result((kind, body))

    async def _beat(self, writer: asyncio.StreamWriter) -> None:
        """Ask for a sign of life each second (the list of chores, which costs nothing), and notice silence."""
        watch = asyncio.create_task(self._ask(writer, "watch", {"topics": ["totals"], "hz": TOTALS_HZ}, ANSWER_WITHIN_S))
        sign: asyncio.Task[None] | None = None
        try:
            while True:
                if sign is None or sign.done():
                    sign = asyncio.create_task(self._sign(writer))
                await self.clock.sleep(BEAT_S)
                silent = self.clock.ticks() - self.standing.heard_at
                if silent >= STALE_AFTER_S and self.standing.phase in (Phase.LIVE, Phase.SYNCING):
                    self._stands(Phase.STALE, "the daemon is silent")
        finally:
            for task in (watch, sign):
                if task is not None:
                    task.cancel()
                    task.add_done_callback(_looked_at)

    async def _sign(self, writer: asyncio.StreamWriter) -> None:
        asked = self.clock.ticks()
        with suppress(TqError):
            self._heard("chores", await self._ask(writer, "chores", {}, ANSWER_WITHIN_S))
            self.standing.round_trip_ms = (self.clock.ticks() - asked) * 1000

    def _lost(self, phase: Phase, why: str) -> None:
        tries = self.standing.tries
        pause = BACKOFF_S[min(tries, len(BACKOFF_S) - 1)] * (1 + SPREAD * (2 * self.clock.chance() - 1))
        if phase is Phase.STARTING:
            pause = BEAT_S
        self.standing.tries = tries + 1
        self.standing.next_try = self.clock.ticks() + pause
        self._stands(phase, why)

    async def _pause(self) -> None:
        """Wait for the next try, or for ``poke``."""
        self._awake.clear()
        await until_woken(self.clock, self._awake, self.standing.next_try - self.clock.ticks())

    def _stands(self, phase: Phase, why: str) -> None:
        if phase is not self.standing.phase:
            self.standing.phase, self.standing.since = phase, self.clock.ticks()
        self.standing.why = why
        self._changed()

    def poke(self) -> None:
        """Try again at once, if nobody answers; else nothing."""
        if self._writer is None:
            self._awake.set()

    def reconnect(self) -> None:
        """Let the connection go and make it anew."""
        if self._writer is not None:
            self._writer.close()
        self._awake.set()


def _looked_at(task: asyncio.Task[Any]) -> None:
    if not task.cancelled():
        task.exception()

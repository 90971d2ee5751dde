"""A daemon in the test's own process, and a clock turned by hand: what the monitor's tests run against.

For: ``FakeDaemon`` (a Unix socket that speaks ``tq.wire`` from a ``Scenario``), ``HandClock``, ``text_of``, ``driven``.
Not for: what the real daemon answers; a flow runs the same questions against one.
Runs in: pytest, on the loop of the test.
Promises: no real time passes and nothing is random: the same scenario gives the same screen, to the cell.
"""

from __future__ import annotations

import asyncio
import contextlib
import heapq
import socket
from collections.abc import AsyncIterator, Callable
from copy import deepcopy
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from tq import wire
from tq.errors import Refused
from tui.app import MonitorApp
from tui.memory import Memory
from tui.preferences import Preferences

START_MS = 1_763_735_527_000  # 2025-11-21 14:32:07 UTC
QUIET, MOST = 5, 20_000
"""So many turns of the loop without anything to do mean that all is done, also what was on its way in a socket; the most it takes."""
MOMENT_S, PUT_OFF = 0.02, 3
Body = dict[str, Any]


class HandClock:
    """Time that passes when ``advance`` is called, and then wakes who sleeps, in order."""

    def __init__(self, now_ms: int = START_MS) -> None:
        self._start, self._ticks = now_ms, 1000.0
        self._sleepers: list[tuple[float, int, asyncio.Future[None]]] = []
        self._number = 0

    def now_ms(self) -> int:
        return self._start + round((self._ticks - 1000.0) * 1000)

    def ticks(self) -> float:
        return self._ticks

    def chance(self) -> float:
        return 0.5

    async def sleep(self, seconds: float) -> None:
        if seconds <= 0:
            await asyncio.sleep(0)
            return
        self._number += 1
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        heapq.heappush(self._sleepers, (self._ticks + seconds, self._number, future))
        await future

    async def advance(self, seconds: float) -> None:
        """Let so much time pass, and all that it wakes happen."""
        until = self._ticks + seconds
        await settle()
        while self._sleepers and self._sleepers[0][0] <= until:
            due, _, future = heapq.heappop(self._sleepers)
            if future.done():
                continue
            self._ticks = max(self._ticks, due)
            future.set_result(None)
            await settle()
        self._ticks = until
        await settle()


async def settle() -> None:
    """Let everything happen that waits for no time to pass."""
    loop: Any = asyncio.get_running_loop()
    quiet = 0
    for _ in range(MOST):
        await asyncio.sleep(0)
        quiet = 0 if loop._ready else quiet + 1
        if quiet == QUIET:
            return
    raise AssertionError(f"expected the monitor to come to rest within {MOST} turns of the loop, it did not")


async def come_to_rest(*_: float) -> None:
    """The same, and what Textual itself puts off by a moment, such as a new size of the terminal.

    In the place of Textual's own way to wait, which takes a process that the machine gives no time for one that is done."""
    loop: Any = asyncio.get_running_loop()
    await settle()
    for _ in range(PUT_OFF):
        due = min((timer.when() for timer in loop._scheduled if not timer.cancelled()), default=float("inf")) - loop.time()
        if due > MOMENT_S:
            break
        await asyncio.sleep(max(due, 0))
        await settle()


# what a daemon knows


@cache
def course(number: int, low: float, high: float, seed: int = 1) -> list[float]:
    """``number`` values that go up and down between two bounds, the same for the same seed."""
    found, state = [], seed * 2_654_435_761 % 2**32
    for at in range(number):
        state = (state * 1_664_525 + 1_013_904_223) % 2**32
        wave = abs((at + seed * 37) % 240 - 120) / 120
        found.append(round(low + (high - low) * (0.6 * wave + 0.4 * state / 2**32), 1))
    return found


SERIES = {
    "added": (100, 200), "succeeded": (90, 214), "failed": (0, 1), "retried": (0, 6), "pending": (11_000, 12_481), "running": (40, 64),
    "scheduled": (900, 902), "retrying": (300, 341), "dead": (30, 37), "p50": (20, 38), "p95": (200, 412), "p99": (900, 1900),
}  # fmt: skip
STATES = ("scheduled", "blocked", "pending", "running", "retrying", "succeeded", "failed", "cancelled", "expired")


@cache
def _series(seed: int, scale: float, limit: int) -> dict[str, list[float]]:
    courses = {key: course(720, low, high, seed)[-limit:] for key, (low, high) in SERIES.items()}
    times = ("p50", "p95", "p99")
    return {key: list(had) if key in times else [round(value * scale) for value in had] for key, had in courses.items()}


def queue(name: str, pending: int, running: int = 0, slots: int = 0, **more: Any) -> Body:
    """A row of ``queues``."""
    states = dict.fromkeys(STATES, 0) | {"pending": pending, "running": running}
    return {"name": name, "states": states, "bytes": 100 * pending, "slots": slots, "paused": False, "external": False, **more}


def totals(**counts: int) -> Body:
    """A body of ``stats``."""
    states = dict.fromkeys(STATES, 0) | counts
    return {
        "states": states, "queue_length": states["pending"], "running": states["running"], "completed": states["succeeded"],
        "failed": states["failed"], "retried": 0, "bytes": 224_395_264 if counts else 0, "avg_process_time": 0.1, "success_rate": 0.99,
        "failure_rate": 0.01, "p50": 0.038, "p95": 0.412, "p99": 1.9, "workers": {"active": states["running"], "total": 80},
        "utilisation": 0.8, "queues": {}, "types": {}, "not_shown": {"queues": 0, "types": 0},
    }  # fmt: skip


@dataclass
class Scenario:
    """What the daemon of a test says, by verb; each may be changed while it runs."""

    totals: Body = field(default_factory=totals)
    queues: list[Body] = field(default_factory=list)
    attention: list[Body] = field(default_factory=list)
    chores: list[Body] = field(default_factory=list)
    limits: list[Body] = field(default_factory=list)
    breakers: list[Body] = field(default_factory=list)
    history: bool = False
    """Whether anything has happened."""
    status: Body = field(default_factory=lambda: {"started_at": START_MS - 273_600_000, "draining": False, "version": "1.4.0"})
    lacking: tuple[str, ...] = ()
    """Verbs that it does not know."""


def busy() -> Scenario:
    """Seven queues at work, two of them in trouble."""

    def line(weight: str, kind: str, name: str, what: str, ago_s: int) -> Body:
        return {
            "key": f"{kind}:{name}",
            "weight": weight,
            "about": [kind, name],
            "what": what,
            "since": START_MS - ago_s * 1000,
            "muted_until": 0,
        }

    return Scenario(
        totals=totals(pending=12_481, running=64, retrying=341, scheduled=902, succeeded=989_800, failed=37, cancelled=586),
        queues=[
            queue("default", 12_038, 48, 64), queue("mail", 301, 8, 8), queue("thumbs", 118, 4, 4), queue("billing", 24, 0, 2, paused=True),
            queue("reports", 0, 2, 4), queue("webhooks", 0, 2, 2), queue("gc", 0, 0, 1),
        ],
        attention=[
            line("bad", "queue", "billing", "paused 3m02s, 24 waiting", 182),
            line("bad", "queue", "webhooks", "6.4% failing: TimeoutError", 300),
            line("warn", "workers", "", "w-07: no sign of life for 22s", 22),
            line("warn", "queue", "thumbs", "oldest waits 12s", 12),
            line("warn", "tasks", "", "5 dead letters in 1h, 4 of them ConnError", 3000),
            line("note", "schedule", "nightly", "ran 41s late", 36_000),
        ],
        history=True,
    )  # fmt: skip


# the daemon


class FakeDaemon:
    """A socket in ``where``. ``asked`` has each request: its verb and arguments. ``verbs`` answers, or refuses; it may be added to."""

    def __init__(self, where: Path, clock: HandClock, scenario: Scenario) -> None:
        self.path, self.clock, self.scenario = where / wire.SOCKET, clock, scenario
        self.boot, self.role, self.version = "b1", "", "1.4.0"
        self.silent = False
        self.refuses: tuple[str, str] | None = None
        """Code and message with which it answers every hello."""
        self.asked: list[tuple[str, Body]] = []
        self.errors: dict[str, tuple[str, str]] = {}
        """By verb: code and message of its answer."""
        self.verbs: dict[str, Callable[[Body], Body]] = {
            "status": lambda _: self.scenario.status, "stats": lambda _: self.scenario.totals,
            "queues": lambda _: {"queues": self.scenario.queues}, "attention": lambda _: {"lines": self.scenario.attention},
            "chores": lambda _: {"chores": self.scenario.chores}, "limits": lambda _: {"limits": self.scenario.limits},
            "breakers": lambda _: {"breakers": self.scenario.breakers}, "history": self._history, "watch": lambda _: {},
            "mute": lambda _: {},
        }  # fmt: skip
        self._server: asyncio.Server | None = None
        self._writers: dict[asyncio.StreamWriter, dict[str, int]] = {}

    async def start(self) -> None:
        self.path.unlink(missing_ok=True)
        self._server = await asyncio.start_unix_server(self._serve, self.path)

    async def stop(self) -> None:
        """As a daemon that was killed: the socket stays, nobody answers."""
        if self._server is not None:
            self._server.close()
            self._server = None
            if not self.path.exists():  # from Python 3.13 on it goes with its server
                with socket.socket(socket.AF_UNIX) as left:
                    left.bind(str(self.path))
        for writer in list(self._writers):
            writer.close()
        await settle()

    def push(self, topic: str, body: Body) -> None:
        """An event to all who watch this topic."""
        for writer, watched in self._writers.items():
            if topic in watched:
                writer.write(wire.frame([watched[topic], wire.EVENT, {**deepcopy(body), "topic": topic}]))

    def tell_totals(self) -> None:
        """As the daemon does when they changed."""
        self.push("totals", self.scenario.totals)

    def asked_for(self, verb: str) -> list[Body]:
        return [args for name, args in self.asked if name == verb]

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers[writer] = {}
        frames = wire.Frames()
        with contextlib.suppress(ConnectionError):
            while data := await reader.read(1 << 16):
                frames.feed(data)
                for body in frames.take():
                    number, verb, args = wire.message(body)
                    self.asked.append((verb, args))
                    if not self.silent:
                        self._answer(writer, number, verb, args)
        self._writers.pop(writer, None)
        writer.close()

    def _answer(self, writer: asyncio.StreamWriter, number: int, verb: str, args: Body) -> None:
        error = self.refuses if verb == "hello" else self.errors.get(verb)
        if verb in self.scenario.lacking:
            error = ("protocol", f"expected a verb (cancel, ...), got '{verb}'.")
        if error is not None:
            writer.write(wire.error(number, *error))
            return
        if verb == "hello":
            role = self.role or ("read-only" if args.get("read_only") else "read-write")
            body = {"protocol": 1, "version": self.version, "boot": self.boot, "pid": 4242, "now": self.clock.now_ms(), "role": role}
        else:
            try:
                body = self.verbs[verb](args)
            except Refused as error:
                writer.write(wire.error(number, error.code, error.message, error.details))
                return
        writer.write(wire.frame([number, wire.ANSWER, body]))
        if verb == "watch":
            for topic in args["topics"]:
                self._writers[writer][topic] = number
            self.tell_totals()

    def _history(self, args: Body) -> Body:
        step, limit, name = args["step_s"], args["limit"], args["queue"]
        until = self.clock.now_ms() // (step * 1000) * step * 1000
        scale = 0.05 if name else 1.0
        seed = sum(map(ord, name or "")) + step
        series = _series(seed, scale, limit) if self.scenario.history else {key: [None] * limit for key in SERIES}
        return {"step_s": step, "until": until, "series": series}


# the monitor


@dataclass
class Driven:
    """A monitor under a test's hand."""

    app: MonitorApp
    pilot: Any
    clock: HandClock
    daemon: FakeDaemon

    async def shows(self, seconds: float = 0.0) -> str:
        """The screen as text after so much time."""
        await self.clock.advance(seconds)
        before, text = "", text_of(self.app)
        for _ in range(10):  # what comes may change the layout, and that what is asked for
            self.app.flush_now()
            await self.pilot.pause()
            await settle()
            before, text = text, text_of(self.app)
            if text == before:
                break
        return text

    async def press(self, *keys: str) -> str:
        """The screen as text after these keys."""
        for key in keys:
            await self.pilot.press(key)
            await settle()
        return await self.shows()


@contextlib.asynccontextmanager
async def driven(
    where: Path, scenario: Scenario | None = None, *, size: tuple[int, int] = (120, 36), start: bool = True,
    environ: dict[str, str] | None = None, memory: Memory | None = None, **wanted: Any,
) -> AsyncIterator[Driven]:  # fmt: skip
    """A monitor of the fake daemon in ``where``. ``wanted``: what a person prefers."""
    clock = HandClock()
    daemon = FakeDaemon(where, clock, scenario or Scenario())
    if start:
        await daemon.start()
    app = MonitorApp(str(where), Preferences(**wanted), memory=memory, clock=clock, live=False, environ=environ or {})
    try:
        async with app.run_test(size=size) as pilot:
            one = Driven(app, pilot, clock, daemon)
            await one.shows()
            yield one
    finally:
        await daemon.stop()


def text_of(app: MonitorApp) -> str:
    """What the terminal shows, line by line, without colours; blanks at the ends are cut."""
    screen = app.screen
    strips = screen._compositor.render_strips(screen.size)
    lines = ["".join(segment.text for segment in strip).rstrip() for strip in strips]
    return "\n".join(lines) + "\n"

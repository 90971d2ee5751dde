"""The monitor's time and chance: the real ones here, those of tests turned by hand.

For: everything in the monitor that waits, tells an age or spreads a pause.
Not for: the daemon's clock, which its answers bring along.
Runs in: the monitor; asks the machine for time and chance so that nobody else there does.
Promises: ``ticks`` never steps back; a sleep that is cancelled leaves nothing behind.
"""

from __future__ import annotations

import asyncio
import os
import time
from typing import Protocol


class Clock(Protocol):
    """What time it is, and waiting for it to pass."""

    def now_ms(self) -> int:
        """The wall clock, milliseconds since 1970 UTC."""
        ...

    def ticks(self) -> float:
        """Seconds of a clock that only rises."""
        ...

    def chance(self) -> float:
        """A number from 0 up to 1."""
        ...

    async def sleep(self, seconds: float) -> None:
        """Wait so long by ``ticks``."""
        ...


class MachineClock:
    """The clock of this machine."""

    def now_ms(self) -> int:
        return time.time_ns() // 1_000_000

    def ticks(self) -> float:
        return time.monotonic()

    def chance(self) -> float:
        return int.from_bytes(os.urandom(4), "big") / 2**32

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)


async def until_woken(clock: Clock, wake: asyncio.Event, seconds: float) -> None:
    """Wait for ``wake``, and at most so long."""
    tasks: list[asyncio.Task[object]] = [asyncio.create_task(clock.sleep(max(seconds, 0.0))), asyncio.create_task(wake.wait())]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()

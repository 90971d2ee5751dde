"""The batch handlers of the flows; each call leaves a line in the file ``TQ_CALLS``: when, which process, which tasks."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from pathlib import Path

import tq


def _line(items: list[tq.Item[dict[str, str]]]) -> None:
    ids = ",".join(str(item.id) for item in items)
    with open(os.environ["TQ_CALLS"], "a", encoding="utf-8") as file:
        file.write(f"{int(time.time() * 1000)} {os.getpid()} {ids}\n")


@tq.task("index", batch=100, batch_wait="50ms", retries=1, backoff=tq.Backoff.fixed("10ms"))
def index(items: list[tq.Item[dict[str, str]]]) -> list[object]:
    """Fail each that says so, in its first run; kill the worker where one says that."""
    _line(items)
    if any("kill" in item.payload for item in items) and all(item.attempt == 1 for item in items):
        os.kill(os.getpid(), signal.SIGKILL)
    return [ValueError("no") if "fail" in item.payload and item.attempt == 1 else item.id for item in items]


@tq.task("gather", batch=50, batch_wait="400ms")
def gather(items: list[tq.Item[dict[str, str]]]) -> None:
    _line(items)


@tq.task("aindex", batch=10, batch_wait="20ms")
async def aindex(items: list[tq.Item[dict[str, str]]]) -> None:
    _line(items)
    print("a call of", len(items))
    await asyncio.sleep(0.05)


@tq.task("stays", batch=4, batch_wait="300ms", retries=0, timeout="20s")
def stays(items: list[tq.Item[dict[str, str]]]) -> None:
    """Settle the last at once; stay until the gate is open, or all are asked to end."""
    _line(items)
    items[-1].done("early")
    while not Path(items[0].payload["gate"]).exists() and not tq.current().cancelled:
        time.sleep(0.01)
    for item in items:
        if item.cancelled and not item.ended:
            item.fail("asked to end")


@tq.task("late", batch=4, retries=0, timeout="300ms")
def late(items: list[tq.Item[dict[str, str]]]) -> None:
    """Take longer than there is time for, and settle one before."""
    _line(items)
    items[-1].done()
    for _ in range(6000):
        time.sleep(0.01)

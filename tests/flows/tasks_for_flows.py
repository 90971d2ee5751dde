"""The application of the flows: handlers that do nothing, wait, note that they ran, or end the process under them.

For: daemons that a test starts with ``app=`` this file.
Runs in: worker processes.
Promises: ``note`` appends one line a run, whole, before anything else happens: an account of runs from outside tq.
"""

from __future__ import annotations

import asyncio
import os
import signal
import time
from pathlib import Path

import tq


def _line(path: str, *words: object) -> None:
    """One line, in one write: lines of many processes do not mix."""
    fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    try:
        os.write(fd, (" ".join(map(str, words)) + "\n").encode())
    finally:
        os.close(fd)


@tq.task("noop")
def noop() -> None:
    """The least a task can do."""


@tq.task("note")
def note(path: str, sleep: float = 0.0) -> int:
    """Write "<id> <attempt> <pid>", then take some time."""
    now = tq.current()
    _line(path, now.id, now.attempt, os.getpid())
    time.sleep(sleep)
    return now.attempt


@tq.task("span")
def span(path: str, sleep: float = 0.0) -> None:
    """Write "begin <id>" and "end <id>" around some time."""
    _line(path, "begin", tq.current().id)
    time.sleep(sleep)
    _line(path, "end", tq.current().id)


@tq.task("call", backoff=tq.Backoff("fixed", 50))
def call(gate: str, rule: str) -> None:
    """Call a service that is there once the gate is."""
    with tq.breaker("smtp", rule, failures=OSError):
        if not os.path.exists(gate):
            raise OSError("connection refused")


@tq.task("nap")
def nap(seconds: float) -> float:
    time.sleep(seconds)
    return seconds


@tq.task("anap")
async def anap(seconds: float) -> float:
    await asyncio.sleep(seconds)
    return seconds


@tq.task("meets")
def meets(gate: str) -> None:
    """Wait until the file ``gate`` is there."""
    while not Path(gate).exists():
        time.sleep(0.2)


@tq.task("ameets")
async def ameets(gate: str) -> None:
    """As ``meets``, in an event loop."""
    while not Path(gate).exists():  # noqa: ASYNC110, ASYNC240 - another process opens it
        await asyncio.sleep(0.2)


@tq.task("hold")
def hold(path: str, gate: str = "", takes: float = 0.0) -> None:
    """Note the run, take some time, then wait until the file ``gate`` is there, if one is named."""
    _line(path, tq.current().id, tq.current().attempt, os.getpid())
    time.sleep(takes)
    while gate and not Path(gate).exists():
        time.sleep(0.01)


@tq.task("kills_its_worker")
def kills_its_worker(path: str, times: int = 1 << 30) -> str:
    """End the process under itself in its first ``times`` attempts."""
    now = tq.current()
    _line(path, now.id, now.attempt, os.getpid())
    if now.attempt <= times:
        os.kill(os.getpid(), signal.SIGKILL)
    return "survived"


@tq.task("speaks", timeout="60s")
def speaks(lines: int, gate: str) -> None:
    """Print lines; the last only when the file ``gate`` is there."""
    for number in range(lines - 1):
        print(f"line {number}", flush=True)
    while not Path(gate).exists():
        time.sleep(0.01)
    print(f"line {lines - 1}", flush=True)

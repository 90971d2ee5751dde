"""The application of the benches: handlers that cost exactly what is said."""

from __future__ import annotations

import time

from tq.app import App
from tq.context import current

app = App()


@app.task
def noop(_payload: object = None) -> None:
    """Nothing."""


@app.task
def stamp() -> int:
    """When the handler began, by the clock that all processes share."""
    return time.monotonic_ns()


@app.task
def burn(ms: float) -> None:
    """So many milliseconds of CPU."""
    until = time.thread_time() + ms / 1000
    while time.thread_time() < until:
        pass


@app.task
def nap(seconds: float) -> None:
    """Sleep."""
    time.sleep(seconds)


@app.task
def fails_once() -> None:
    """Fail at the first attempt, with a traceback of a few frames."""
    if current().attempt == 1:
        _deeper(3)


def _deeper(frames: int) -> None:
    if frames:
        _deeper(frames - 1)
    raise ValueError("the first attempt fails")

"""The application of the benches: handlers that cost exactly what is said."""

from __future__ import annotations

import time

from tq.app import App

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

"""How far a task has come, on its way to the pool: not more often than somebody could read.

For: ``tq.current().progress(...)`` in a worker: what is said too soon after the last waits for the next word, the helper
     thread's look (0.25 s) or the end of the task, whichever is first.
Not for: checking what was said (context), keeping it (pool).
Runs in: the worker, on the thread of the task and on the helper thread; a task that says nothing pays nothing.
Promises: at most EVERY_S a row for each task, the last word always before the task's own end, none after it.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

EVERY_S = 0.1


class Progress:
    """What one task says. ``tell`` sends a row: ``["progress", id, claim, fraction, text]``; ``soon`` asks for a ``look``."""

    def __init__(self, tell: Callable[[list[Any]], object], soon: Callable[[], object], task_id: int, claim: int) -> None:
        self._tell, self._soon, self._token = tell, soon, ("progress", task_id, claim)
        self._lock = threading.Lock()
        self._unsaid: tuple[float, str] | None = None
        self._said_at = -EVERY_S
        self._over = False

    def say(self, fraction: float, text: str) -> None:
        """Say it now, or keep it until it may be said."""
        with self._lock:
            if self._over:
                return
            self._unsaid = (fraction, text)
            if time.monotonic() - self._said_at >= EVERY_S:
                self._send()
                return
        self._soon()

    def look(self) -> None:
        """Say what was kept, if its time has come."""
        with self._lock:
            if self._unsaid is not None and not self._over and time.monotonic() - self._said_at >= EVERY_S:
                self._send()

    def end(self) -> None:
        """The task is over: the last word, and none after it."""
        with self._lock:
            if self._unsaid is not None and not self._over:
                self._send()
            self._over = True

    def _send(self) -> None:
        row = [*self._token, *(self._unsaid or ())]
        self._unsaid, self._said_at = None, time.monotonic()
        self._tell(row)

"""Types whose runs kill their workers: how often they are tried, so that there are workers for the others.

For: what is held back after crashes that follow each other, and until when.
Not for: what becomes of a task that crashed (lifecycle), starting workers (crew).
Runs in: the daemon, inside the pool; in tests under a clock turned by hand.
Promises: one crash holds back nothing; a type with ``IN_A_ROW`` crashes and no other end between them is suspected, and of all that
are suspected one task is tried in ``REST`` times the time that a worker takes to start, so that a storm of such tasks costs
about that share of a worker; any other end of a run, and the type is trusted again.
"""

from __future__ import annotations

from collections.abc import Callable

IN_A_ROW = 2
REST = 6
START_MS = (20, 10_000)
"""A worker's start is taken to last at least, and at most, so long."""


class Suspects:
    """Times in ms of a clock that never steps. ``types``: those that are suspected; ``crashes``: in a row, by type."""

    def __init__(self, log: Callable[..., None]) -> None:
        self.types: frozenset[str] = frozenset()
        self.crashes: dict[str, int] = {}
        self.try_at = 0
        """When the next task of a suspected type may be handed out."""
        self._log = log
        self._start_ms = START_MS[1]

    def started(self, took_ms: int) -> None:
        """A worker was ready so long after it was spawned. The shortest counts: many that start at once hold each other up."""
        self._start_ms = min(max(took_ms, START_MS[0]), self._start_ms)

    def crashed(self, kind: str, now: int) -> None:
        """A run of this type was cut short by the death of its worker."""
        self.crashes[kind] = count = self.crashes.get(kind, 0) + 1
        if count == IN_A_ROW:
            self.types |= {kind}
            self._log("type_suspected", "warning", type=kind, crashes=count)
        if count >= IN_A_ROW:
            self.tried(now)

    def ended(self, kind: str) -> None:
        """A run of this type came to an end, whichever. To be called for types in ``crashes`` only."""
        del self.crashes[kind]
        if kind in self.types:
            self.types -= {kind}
            self._log("type_trusted", type=kind)

    def tried(self, now: int) -> None:
        """A task of a suspected type was handed out."""
        self.try_at = max(self.try_at, now + REST * self._start_ms)

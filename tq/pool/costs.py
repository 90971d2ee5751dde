"""What tasks cost: the recent mean run time of each type.

For: telling how much work a worker has before it, so that it is fed neither too little nor too much.
Not for: statistics that people read (stats), deciding how much is fed (pool).
Runs in: the daemon, inside the pool.
Promises: a type is known only while it is quick on the average; a few runs are believed less than many.
"""

from __future__ import annotations

from dataclasses import dataclass

from tq.model import SHELL

SLOW_MS = 5.0
OVERHEAD_MS = 0.01
"""What a task costs its worker beside the handler; measured on a no-op."""
COMMAND_MS = 0.5
"""What a command costs at the least, whatever the last ones took: those that could not be started took nothing."""


@dataclass(slots=True)
class Means:
    """The recent mean run time of a type, in ms, and from how many runs."""

    mean: float = 0.0
    runs: int = 0

    def add(self, total_ms: float, runs: int) -> None:
        self.runs += runs
        self.mean += (total_ms / runs - self.mean) * min(1.0, runs / min(self.runs, 256))

    @property
    def cost(self) -> float:
        """Mean plus overhead, and while few runs are known a margin that shrinks with them (times are whole ms)."""
        return self.mean + OVERHEAD_MS + 2.0 / self.runs


class Costs:
    """What a task of each type costs, in ms."""

    def __init__(self) -> None:
        self._means: dict[str, Means] = {}
        self.known: dict[str, float] = {}
        """Types under SLOW_MS. What is not here is unknown or slow: nothing may wait behind it."""

    def mean(self, kind: str) -> float | None:
        """The recent mean run time of a type in ms; None if no run was seen."""
        means = self._means.get(kind)
        return means.mean if means is not None else None

    def share(self, kind: str, total_ms: float, tasks: int) -> None:
        """A call took so long for so many tasks of a type: its share of each. Such a type is handed out by calls, not by its cost."""
        self._means.setdefault(kind, Means()).add(max(total_ms, 0) / tasks, 1)

    def add(self, kind: str, total_ms: float, runs: int) -> None:
        """``runs`` of a type took ``total_ms`` together."""
        if not runs:
            return
        means = self._means.setdefault(kind, Means())
        means.add(max(total_ms, 0), runs)
        if means.cost <= SLOW_MS:
            self.known[kind] = means.cost if kind != SHELL else max(means.cost, COMMAND_MS)
        else:
            self.known.pop(kind, None)

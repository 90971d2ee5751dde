"""Queues as a store keeps them: their settings, from a row and back.

For: ``QueueInfo``, and whether a store can carry it out; ``tq.store`` has them under its own name.
Not for: what a person may say of a queue (broker.lines), holding it (daemon.holds).
Runs in: the daemon, and whatever shows settings.
Promises: settings that are new stand at the end of the row, so that a row written before them means their defaults.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from tq.errors import UsageError


@dataclass(frozen=True, slots=True)
class QueueInfo:
    """A named line and its settings; ``external`` leaves it to consumers outside the pool.

    While a head of a lower level has waited longer than ``aging_ms``, one claim in ``aging_share`` is the longest-waiting
    such head's (0 for either: strict priority). ``slots`` is how many of its tasks may run at once (0: any number).
    ``priority`` to ``backoff`` are for tasks that neither say themselves nor have a type that does (None: the daemon's).
    ``max_tasks`` and ``max_bytes`` bound what is unfinished (None: the daemon's limits); ``keep_ms`` is how long its
    finished tasks are kept (None: as everywhere). ``routes`` are patterns of types that go here (fnmatch). ``paused_at`` (ms) and
    ``paused_by`` say since when it is paused and who did it.

    The daemon holds the queue while the load average of the last minute is ``hold_load`` or more, less than ``hold_memory`` bytes
    are available, or the command line ``hold_probe``, run every ``hold_every_ms``, does not exit with 0 (None: no such rule).
    """

    name: str
    paused: bool = False
    weight: int = 1
    external: bool = False
    aging_ms: int = 60_000
    aging_share: int = 10
    slots: int = 0
    priority: int | None = None
    retries: int | None = None
    timeout_ms: int | None = None
    backoff: Sequence[Any] | None = None
    max_tasks: int | None = None
    max_bytes: int | None = None
    keep_ms: int | None = None
    routes: Sequence[str] = ()
    paused_at: int = 0
    paused_by: str = ""
    hold_load: float | None = None
    hold_memory: int | None = None
    hold_probe: str | None = None
    hold_every_ms: int = 10_000

    @property
    def has_holds(self) -> bool:
        """Whether it has a rule by which it may be held."""
        return any(rule is not None for rule in (self.hold_load, self.hold_memory, self.hold_probe))

    def row(self) -> list[Any]:
        return [getattr(self, name) for name in self.__slots__]


def queue_of(row: Sequence[Any]) -> QueueInfo:
    """The settings whose row this is."""
    info = QueueInfo(*row)
    return replace(info, routes=tuple(info.routes))


def checked(queue: QueueInfo) -> QueueInfo:
    """The settings, if a store can carry them out; else UsageError."""
    for name in ("weight", "aging_ms", "aging_share", "slots", "max_tasks", "max_bytes", "keep_ms", "hold_load", "hold_memory"):
        value, least = getattr(queue, name), int(name == "weight")
        if value is not None and value < least:
            raise UsageError(f"queue {queue.name!r}: expected {name} of at least {least}, got {value}. Nothing was changed.")
    return queue if isinstance(queue.routes, tuple) else replace(queue, routes=tuple(queue.routes))

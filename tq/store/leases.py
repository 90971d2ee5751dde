"""Leases of consumers outside the pool: until when each claim holds.

For: the in-memory heap of lease ends.
Not for: making leases durable: a claim's batch record is, and after a restart its lease starts anew.
Runs in: the daemon, inside the LMDB store.
Promises: extending is O(log n); an end that was pushed out is dropped when it surfaces.
"""

from __future__ import annotations

from heapq import heappop, heappush


class Leases:
    """Task id -> the instant (ms) at which its lease ends."""

    def __init__(self) -> None:
        self._ends: dict[int, int] = {}
        self._heap: list[tuple[int, int]] = []

    def hold(self, task_id: int, until: int) -> None:
        self._ends[task_id] = until
        heappush(self._heap, (until, task_id))

    def keep(self, task_id: int, old: Leases) -> bool:
        """Take a lease over as it stood in ``old``, if it was there."""
        until = old._ends.get(task_id)
        if until is not None:
            self.hold(task_id, until)
        return until is not None

    def shift(self, ms: int) -> None:
        """Every lease ends so much later, or earlier if less than 0."""
        self._ends = {task_id: until + ms for task_id, until in self._ends.items()}
        self._heap = sorted((until, task_id) for task_id, until in self._ends.items())

    def drop(self, task_id: int) -> None:
        self._ends.pop(task_id, None)

    @property
    def next(self) -> int | None:
        """The first end there is."""
        while self._heap and self._ends.get(self._heap[0][1]) != self._heap[0][0]:
            heappop(self._heap)
        return self._heap[0][0] if self._heap else None

    def lapsed(self, now: int, limit: int) -> list[int]:
        """Up to ``limit`` tasks whose lease is over; each is told once."""
        found: list[int] = []
        while len(found) < limit and (first := self.next) is not None and first <= now:
            found.append(heappop(self._heap)[1])
            del self._ends[found[-1]]
        return found

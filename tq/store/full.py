"""Full: what a queue or a tenant may hold, and the refusal of what would be more.

For: every store's bounds, and the words in which it says that they are reached.
Not for: room on the disk (room), who may set a bound (broker).
Runs in: the daemon, inside a store.
Promises: pure; what ends a run is never refused, it had its place all the time.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from tq.errors import Refused
from tq.lifecycle import Transition
from tq.model import Task
from tq.store.queues import QueueInfo


@dataclass(frozen=True, slots=True)
class Limits:
    """How much a queue may hold, and how long what is over is kept; ages in ms, counts in tasks."""

    queue_tasks: int = 20_000_000
    queue_bytes: int = 16 << 30
    keep_ms: int = 7 * 86_400_000
    keep_failed_ms: int = 30 * 86_400_000
    keep: int = 100_000
    keep_bytes: int = 4 << 30
    keep_requests_ms: int = 600_000
    keep_keys_ms: int = 86_400_000
    keep_events: int = 10_000


def bounds(queue: QueueInfo | None, limits: Limits) -> tuple[int, int]:
    """How many unfinished tasks and bytes of their payloads a queue may hold."""
    tasks, size = (None, None) if queue is None else (queue.max_tasks, queue.max_bytes)
    return limits.queue_tasks if tasks is None else tasks, limits.queue_bytes if size is None else size


class QueueFull(Refused):
    """A queue would pass its limit."""


def admit(queue: str, load: Sequence[int], came: tuple[int, int], most: tuple[int, int]) -> None:
    """QueueFull if with what ``came`` a queue would have more than ``most`` unfinished tasks or bytes; ``load`` is what it has."""
    for unit, have, more, limit in zip(("tasks", "bytes of payload"), load, came, most, strict=True):
        if have + more <= limit or (unit == "tasks" and not more):  # a task that only grows takes no other place
            continue
        text = f"queue {queue!r} is full: expected at most {limit} {unit}, it has {have} and {more} came. Nothing was stored; "
        if more > limit:  # that would not fit into an empty one
            raise QueueFull(f"{text}send less at once, or let it take more: `tq queue set`.", queue=queue, too_much=True)
        raise QueueFull(f"{text}try again later.", queue=queue, retry_after=1.0)


def arriving(changes: Iterable[tuple[Task | None, Transition]]) -> dict[str, tuple[int, int]]:
    """By queue, the tasks and bytes of payload that transitions of these tasks bring: what is retried by hand, moves to another
    queue, or grows. Whatever ends a run brings nothing: the task had its place all the time."""
    found: dict[str, tuple[int, int]] = {}
    for task, change in changes:
        if task is None or task.state not in change.start or change.status.state.final or change.claim not in (None, task.status.claim):
            continue
        spec = change.spec or task.spec
        queue, size = spec.header.queue, len(spec.payload)
        stays = not task.state.final and queue == task.spec.header.queue
        came = (0, size - len(task.spec.payload)) if stays else (1, size)
        if came > (0, 0):
            tasks, more = found.get(queue, (0, 0))
            found[queue] = tasks + came[0], more + came[1]
    return found


class NoRoom(Refused):
    """A write found the disk or the map full: the turn can only be aborted."""

"""Steps: what a turn did to tasks, in words that the log and ``tq events -f`` share.

For: an entry of ``Turn.steps`` as the task it is about and what there is to say of it.
Not for: writing it anywhere.
Runs in: the daemon, after the turn, and only for steps that somebody will read.
Promises: names nothing that a payload or a result holds.
"""

from __future__ import annotations

from typing import Any

from tq.broker.desk import Said
from tq.errors import StoreDamaged
from tq.model import Header, Task, error_in
from tq.store import Claimed, Draft, Store

WORDS = {"enqueued": "added", "claimed": "started"}
"""Events that people know by another name."""

Description = tuple[int, str, str, dict[str, Any]]
"""Id, type, queue, and more: ``correlation_id`` if it has one, and what belongs to the event."""


def _about(task_id: int, head: Header, **more: Any) -> Description:
    if head.correlation_id is not None:
        more["correlation_id"] = head.correlation_id
    return task_id, head.type, head.queue, more


def _sound(task_id: int, store: Store) -> Task | None:
    """The task, None if it cannot be read: what happened to it is told all the same."""
    try:
        return store.get([task_id])[0]
    except StoreDamaged:
        return None


def describe(row: Any, store: Store) -> Description:
    """What a row of ``Turn.steps`` is about: a claim, a task, an id and its draft, a chore, an id, or a worker's row."""
    if isinstance(row, Claimed):
        return _about(row.id, row.header, claim=row.claim, attempt=row.attempt + 1)
    if isinstance(row, Task):
        status = row.status
        error = (status.error or {}).get("type")
        return _about(row.id, row.spec.header, state=status.state.word, attempt=status.attempt, error=error)
    if isinstance(row, tuple) and len(row) == 2 and isinstance(row[1], Draft):
        return _about(row[0], row[1].header, priority=row[1].header.priority, bytes=len(row[1].payload))
    if isinstance(row, Said):
        task = _sound(row.id, store)
        more: dict[str, Any] = {"fraction": row.fraction, "text": row.text}
        return _about(row.id, task.spec.header, **more) if task is not None else (row.id, "", "", more)
    if isinstance(row, tuple):
        return row[0], row[1], "", {"seen": row[2], "changed": row[3]}
    task = _sound(row if isinstance(row, int) else row[0], store)
    if isinstance(row, int):
        more = {}
    elif row[2] == 0:
        more = {"run_ms": row[4] - row[3]}
    else:
        more = {"state": "retrying", "error": (error_in((row[6] or {}).get("error")) or {}).get("type")}
    if task is None:
        return row if isinstance(row, int) else row[0], "", "", more
    return _about(task.id, task.spec.header, **more)

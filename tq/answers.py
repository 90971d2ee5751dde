"""Answers: what the broker's outcomes look like to those who asked.

For: bodies of answers and errors, tasks as they are handed out, outcomes as they come from workers.
Not for: when to answer (broker), how it is sent (doors).
Runs in: the daemon.
Promises: an answer fits into a frame; an error of ours travels with its code and details, any other without its text.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from tq import wire
from tq.environment import environment_key
from tq.errors import StoreDamaged, TqError
from tq.lifecycle import Outcome
from tq.model import Header, Task, error_in, spec_of, unpack
from tq.store import Claimed, Draft

DAEMON_DIED = {"type": "Interrupted", "message": "the daemon ended while the task ran"}
LAPSED = {"type": "LeaseLapsed", "message": "the consumer neither settled nor extended its claim in time"}

BAD_RESULT = {"type": "BadResult", "message": "the worker's answer cannot be stored; see daemon.log"}


def environment_for(header: Header, read: Callable[[bytes], bytes | None]) -> tuple[bytes | None, dict[str, Any] | None]:
    """The environment that a task is to be run in, None if it has none of its own; and the details of its failure, if that cannot
    be read. ``read`` is ``Store.environment``.
    """
    key = environment_key(header)
    if key is None:
        return None, None
    try:
        found, why = read(key), "it is not there. Run `tq verify`, then restore a backup."
    except StoreDamaged as error:
        found, why = None, error.message
    if found is not None:
        return found, None
    said = {"type": "StoreDamaged", "message": f"expected the environment of the command, but {why}"}
    return None, {"error": said, "permanent": True}


class Pairs(Sequence[tuple[int, Draft]]):
    """Ids and drafts side by side without a tuple for each: the log looks at few of them."""

    def __init__(self, ids: list[int], drafts: list[Draft]) -> None:
        self._ids, self._drafts = ids, drafts

    def __len__(self) -> int:
        return len(self._ids)

    def __getitem__(self, at: Any) -> Any:
        if isinstance(at, slice):
            return list(zip(self._ids[at], self._drafts[at], strict=True))
        return self._ids[at], self._drafts[at]


def outcome_of(row: Sequence[Any]) -> Outcome:
    """The outcome of a pool's or consumer's row that is no success."""
    more: Mapping[str, Any] = row[6] or {}
    return Outcome(
        row[2], row[3], row[4], error=error_in(more.get("error")), exit_code=more.get("exit_code"), output=bool(row[5]),
        delay_ms=more.get("delay_ms"), permanent=bool(more.get("permanent")), worker=str(more.get("worker") or ""),
    )  # fmt: skip


def handed_out(task: Claimed, lease_ms: int, environment: bytes | None = None) -> dict[str, Any]:
    """A task as a consumer gets it; ``environment`` is a command's, packed."""
    head, spec = task.header, spec_of(task.id, task.record)
    extras = head.extras if environment is None else {**(head.extras or {}), "env": unpack(environment)}
    return {
        "id": task.id, "claim": task.claim, "type": head.type, "queue": head.queue, "payload": spec.payload,
        "attempt": task.attempt + 1, "priority": head.priority, "timeout_ms": head.timeout_ms, "lease_ms": lease_ms,
        "label": head.label, "meta": head.meta, "tenant": head.tenant, "correlation_id": head.correlation_id, "extras": extras,
    }  # fmt: skip


def error_answer(number: int, error: Exception) -> bytes:
    if isinstance(error, TqError):
        return wire.error(number, error.code, error.message, error.details)
    text = f"the daemon failed at this request ({type(error).__name__}). Nothing was changed; see daemon.log."
    return wire.error(number, "error", text)


LEAST = 2000
"""Bytes of a task without what may be large: seven names of MAX_NAME bytes, keys and numbers. 500 of them fit a frame."""
_LARGE: dict[str, Any] = {"payload": None, "result": None, "error": None, "meta": None, "attempts": [], "cut": True}


def answer(number: int, body: dict[str, Any]) -> bytes:
    """The answer; an error instead of one that no client would take, which only verbs that read can have."""
    if "tasks" in body:
        return fitting(number, body)
    data = wire.frame([number, wire.ANSWER, body])
    if len(data) <= wire.MAX_FRAME:
        return data
    return wire.error(number, "usage", f"expected an answer of at most {wire.MAX_FRAME} bytes, it has {len(data)}. Ask for less.")


class Page:
    """Rows of tasks for one answer. What cannot fit beside those before it is cut as it comes, so that nobody holds it."""

    __slots__ = ("_room", "rows")

    def __init__(self) -> None:
        self.rows: list[dict[str, Any] | None] = []
        self._room = wire.MAX_FRAME

    def add(self, row: dict[str, Any] | None) -> None:
        """``row`` as ``Task.row()`` gives it; None: there is no such task."""
        if row is not None:
            size = len(row["payload"] or b"") + len(row["result"] or b"") + len(wire.pack([row["error"], row["meta"], row["attempts"]]))
            if size > self._room:
                row = row | _LARGE
            else:
                self._room -= size
        self.rows.append(row)


def rows_of(
    get: Callable[[Sequence[int]], Sequence[Task | None]], ids: Sequence[int], row: Callable[[Task], dict[str, Any]] = Task.row
) -> list[dict[str, Any] | None]:
    """Rows of these tasks for one answer, read a few at a time: five hundred large ones are never in memory together."""
    page = Page()
    for start in range(0, len(ids), 16):
        for task in get(ids[start : start + 16]):
            page.add(row(task) if task is not None else None)
    return page.rows


def fitting(number: int, body: dict[str, Any]) -> bytes:
    """The answer, with as many of its tasks whole as fit into a frame; the others say ``cut`` and miss what may be large."""
    page = Page()
    for row in body["tasks"]:
        page.add(row)
    body = body | {"tasks": page.rows}
    data = wire.frame([number, wire.ANSWER, body])
    if len(data) <= wire.MAX_FRAME:
        return data
    tasks = [task and task | _LARGE for task in body["tasks"]]
    room = wire.MAX_FRAME - len(wire.frame([number, wire.ANSWER, body | {"tasks": tasks}]))
    for at, task in enumerate(body["tasks"]):
        more = len(wire.pack(task)) - len(wire.pack(tasks[at]))
        if more <= room:
            tasks[at] = task
            room -= more
    return wire.frame([number, wire.ANSWER, body | {"tasks": tasks}])

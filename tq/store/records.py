"""Statuses as bytes: what the table of transitions makes of one, without the objects in between.

For: the hot paths of the LMDB store: a first success, a success after that, a failure that is retried, what comes due.
Not for: deciding (lifecycle), what a status is (tq.model).
Runs in: the daemon, inside the LMDB store.
Promises: byte for byte what ``Status.record`` of the transition's status would be.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from typing import Any

from tq.model import MAX_ATTEMPTS_KEPT, State, Status, pack, seal, unseal


def first_success(
    task_id: int, claim: int, seq: int, worker: str, started_at: int, finished_at: int, output: bool, result: bytes | None
) -> bytes:
    """The record of a task that succeeded at its first attempt: ``Status(...).record()`` without the object.

    The hot path: nearly every task ends here, and the dataclass costs five times the packing.
    """
    body = pack([5, claim, seq, 0, 0, started_at, finished_at, 1, 0, 0, 0, False, worker, output, result])
    return body + zlib.crc32(body, task_id & 0xFFFFFFFF).to_bytes(4, "big")


def success_again(
    task_id: int, past: list[Any], claim: int, seq: int, worker: str, started_at: int, finished_at: int, output: bool, result: bytes | None
) -> bytes:
    """The record of a task with a past (its row) that succeeded: what ``lifecycle.settle`` would make of it."""
    row = [5, claim, seq, past[3], 0, started_at, finished_at, past[7] + 1, *past[8:12], worker, past[13] or output, result]
    if len(past) > 15:
        row += [None, None, past[17]]
    return seal(pack(row), task_id)


def retry_later(
    task_id: int,
    past: list[Any] | None,
    claim: int,
    worker: str,
    started_at: int,
    finished_at: int,
    output: bool,
    details: Mapping[str, Any],
    due_at: int,
) -> bytes:
    """The record of a task that failed and will be retried at ``due_at``: what ``lifecycle.settle`` would make of it.

    ``past`` is the row it had before this run, None if it had none; ``details`` holds error and exit_code.
    """
    past = past or _NO_PAST
    number, error, exit_code = past[7] + 1, details.get("error"), details.get("exit_code")
    run = [number, started_at, finished_at, "failed", worker, error, exit_code]
    runs = [*past[17], run][-MAX_ATTEMPTS_KEPT + 1 :] if len(past) > 15 else [run]
    row = [4, claim, 0, past[3], due_at, started_at, 0, number, past[8] + 1, *past[9:11], False, worker, past[13] or output, past[14]]
    return seal(pack([*row, exit_code, None if error is None else True, runs]), task_id)


def blocked(task_id: int, due_at: int, waits: int) -> bytes:
    """The record of a task that was accepted and waits for so many others."""
    return seal(pack([1, 0, 0, 0, due_at, 0, 0, 0, 0, 0, 0, False, "", False, None, None, None, [], waits]), task_id)


def heard(task_id: int, row: list[Any], ends: int, seq: int, now: int) -> tuple[State, bytes]:
    """A blocked task (its row) of which so many parents have ended as they should: its state from now on, and what
    ``lifecycle.parents_over`` would make of it, with this sequence if it is pending."""
    left = row[18] - ends
    if left > 0:
        return State.BLOCKED, seal(pack([*row[:18], left]), task_id)
    kept = row[1:18] if row[15:17] != [None, None] or row[17] else row[1:15]
    if row[4] > now:
        return State.SCHEDULED, seal(pack([0, *kept]), task_id)
    kept[1:4] = seq, now, 0
    return State.PENDING, seal(pack([2, *kept]), task_id)


_NO_PAST: list[Any] = Status(State.RUNNING).row()
_INT_BYTES = [1] * 256
for _first, _size in zip((0xCC, 0xCD, 0xCE, 0xCF), (2, 3, 5, 9), strict=True):
    _INT_BYTES[_first] = _size


def made_pending(task_id: int, record: bytes, due_at: int, seq: int, ready_at: int) -> tuple[State, bytes] | None:
    """A scheduled or retrying task whose time has come: its state until now, and what ``lifecycle.come_due`` would make of it.

    None if it is neither, or not due at ``due_at``. Of the record only the five numbers at its begin are looked at and
    changed: the rest, which may hold long tracebacks, is not even decoded.
    """
    body = unseal(record, "task", task_id)
    start = 3 if body[0] == 0xDC else 1  # behind the array's header stands the state, in one byte
    size = _INT_BYTES
    seq_at = start + 1 + size[body[start + 1]]
    ready_at_at = seq_at + size[body[seq_at]]
    due_at_at = ready_at_at + size[body[ready_at_at]]
    rest_at = due_at_at + size[body[due_at_at]]
    state = body[start]
    if state not in _TIMED or body[due_at_at:rest_at] != pack(due_at):
        return None
    new = b"%b\x02%b%b%b\x00%b" % (body[:start], body[start + 1 : seq_at], pack(seq), pack(ready_at), body[rest_at:])
    return _TIMED[state], seal(new, task_id)


_TIMED = {int(state): state for state in (State.SCHEDULED, State.RETRYING)}

"""The tree of errors, and what to do about each.

For: one exception type for each thing a caller can do something about.
Not for: answers. A guard that does not hold ("that claim is over") is a value, not an exception.
Runs in: every process.
Promises: every message says what was expected, what came and what to do next; ``code`` is the word that
travels on the wire, ``exit_code`` the code a command ends with (the table of ``tq --help``).

    TqError                     1   anything below
    ├── UsageError              2   the request itself is wrong: mend it, then send it again
    │   ├── UnknownType         2   no worker has ever named this type
    │   ├── PayloadError        2   too large, or not data that can be stored
    │   ├── ProtocolError       2   a frame or an argument of the wrong shape
    │   └── BatchOver           2   the batch that a task was to be added to is complete or cancelled; details have its ``id``
    ├── NoSuchTask             66   the id was never given, or the task was removed
    │   └── NoSuchBatch        66   the same of a batch
    ├── DaemonError            69   nobody answers
    │   ├── DaemonNotRunning   69
    │   └── DaemonStartError   69   it was started and refused; the message has its reason
    ├── Conflict               75   a key or a unique name that another task has; details have its ``id``
    ├── Refused                75   not now: a limit, a drain, a full disk; retry after ``retry_after`` seconds
    ├── NotAllowed             77   another user, or a read-only connection
    ├── StoreError              1   the store's own troubles
    │   ├── StoreLocked        69   another daemon holds this directory
    │   ├── StoreDamaged        1   a record or the file itself fails its check
    │   └── StoreTooNew         1   written by a newer tq
    ├── ConfigError             2   a setting, a directory or an application that cannot be used
    └── TaskFailed              1   a result was asked for and the task did not succeed
        ├── TaskCancelled     143
        └── TaskTimeout       124   it expired or timed out, or the wait for it did
"""

from __future__ import annotations


class TqError(Exception):
    """The root of every error of tq."""

    code = "error"
    exit_code = 1

    def __init__(self, message: str, **details: object) -> None:
        super().__init__(message)
        self.message = message
        self.details = details


class UsageError(TqError):
    code = "usage"
    exit_code = 2


class UnknownType(UsageError):
    code = "unknown_type"


class PayloadError(UsageError):
    code = "payload"


class ProtocolError(UsageError):
    code = "protocol"


class NoSuchTask(TqError):
    code = "no_such_task"
    exit_code = 66


class BatchOver(UsageError):
    """A batch that is complete, or was cancelled, takes no more members. Nothing was stored."""

    code = "batch_over"


class NoSuchBatch(NoSuchTask):
    code = "no_such_batch"


class DaemonError(TqError):
    code = "daemon"
    exit_code = 69


class DaemonNotRunning(DaemonError):
    code = "not_running"


class DaemonStartError(DaemonError):
    code = "start"


class Refused(TqError):
    """Not now. Nothing was stored; the same request may be sent again after ``retry_after`` seconds."""

    code = "refused"
    exit_code = 75

    @property
    def retry_after(self) -> float:
        value = self.details.get("retry_after", 1.0)
        return float(value) if isinstance(value, int | float) else 1.0


class Conflict(TqError):
    """The name is taken: ``details["id"]`` is the task that has it. Nothing was stored. To ask again helps only when that one is over."""

    code = "conflict"
    exit_code = 75


class NotAllowed(TqError):
    code = "not_allowed"
    exit_code = 77


class StoreError(TqError):
    code = "store"


class StoreLocked(StoreError):
    code = "locked"
    exit_code = 69


class StoreDamaged(StoreError):
    code = "damaged"


class StoreTooNew(StoreError):
    code = "too_new"


class ConfigError(TqError):
    code = "config"
    exit_code = 2


class TaskFailed(TqError):
    """The task ended without success; ``details`` has ``id``, ``state``, ``error`` and ``exit_code``."""

    code = "task_failed"

    @property
    def task_exit_code(self) -> int:
        value = self.details.get("exit_code")
        return value if isinstance(value, int) and value else self.exit_code


class TaskCancelled(TaskFailed):
    code = "task_cancelled"
    exit_code = 143


class TaskTimeout(TaskFailed):
    code = "task_timeout"
    exit_code = 124


def _tree(root: type[TqError]) -> dict[str, type[TqError]]:
    found = {root.code: root}
    for child in root.__subclasses__():
        found |= _tree(child)
    return found


BY_CODE: dict[str, type[TqError]] = _tree(TqError)


def from_wire(code: str, message: str, details: dict[str, object]) -> TqError:
    """The exception for an error answer; a code this version does not know becomes a plain TqError."""
    return BY_CODE.get(code, TqError)(message, **details)

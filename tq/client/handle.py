"""One task as its sender holds it.

For: asking what became of a task, by its client and id.
Not for: other verbs (the client has them all); event loops (``aio`` has its own).
Runs in: any process but the daemon.
Promises: holds no connection and no copy of the task: each question is asked anew.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Generic, TypeVar, cast

from tq.client.core import Duration, no_such_task
from tq.errors import NoSuchTask

if TYPE_CHECKING:
    from tq.client.blocking import Client

R = TypeVar("R")
T = TypeVar("T")


class Handle(Generic[R]):
    """One task, by its client and id. ``R`` is what its handler returns."""

    __slots__ = ("_read", "client", "id")

    def __init__(self, client: Client, task_id: int, read: Callable[[Any], R] | None = None) -> None:
        self.client, self.id, self._read = client, task_id, read

    def __repr__(self) -> str:
        return f"<task {self.id}>"

    def reading(self, read: Callable[[Any], T]) -> Handle[T]:
        """The same task, its result turned into what ``read`` makes of the stored value."""
        return Handle(self.client, self.id, read)

    def state(self) -> str:
        """The word of its state; NoSuchTask if it was removed."""
        return cast(str, self.client.get(self.id)["state"])

    def wait(self, timeout: Duration | None = None) -> str:
        """Its final state. TaskTimeout if it is not over in time, NoSuchTask if it was removed."""
        row = self.client.wait([self.id], timeout)[0]
        if row is None:
            raise NoSuchTask(no_such_task(self.id))
        return cast(str, row["state"])

    def result(self, timeout: Duration | None = None) -> R:
        """What the handler returned, once it is over; TaskFailed, TaskCancelled or TaskTimeout otherwise."""
        value = self.client.result(self.id, timeout)
        return cast(R, value) if self._read is None else self._read(value)

    def log(self) -> str:
        """What it has written so far."""
        return self.client.log(self.id)

    def cancel(self) -> str:
        """cancelled, asked (it runs, and was told), over, or unknown."""
        return self.client.cancel([self.id])[0]

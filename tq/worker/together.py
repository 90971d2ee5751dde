"""One call for many tasks: each begins, is told apart and ends as a task of its own.

For: a batch handler's items, and what becomes of each (``tq.batch`` says what a handler may do with them).
Not for: gathering tasks (pool), threads and event loops (worker, slots): a call runs there as one task does.
Runs in: the worker; ``Call.told`` on whichever thread of the handler settles an item.
Promises: all tasks of a call are on the board before its handler runs; each is answered once, what a handler settles by name at
once, so that a death leaves that alone; a cancel of one is a flag of its item, and only when all were asked is the call itself.

The first task keeps what the call prints and says of its progress, so it is answered last.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from tq.batch import Item, outcomes
from tq.errors import PayloadError
from tq.model import brief, unpack
from tq.worker.capture import Run

if TYPE_CHECKING:
    from tq.output import OutputWriter
    from tq.worker import Worker


CALL = "call"
"""In place of a record's ``quick``: one call of the handler takes all of it."""


class Member(Run):
    """One task of a call; ``call`` is set when all of its tasks have begun."""

    __slots__ = ("call",)
    call: Call


class First(Member):
    """The task whose output the call's is."""

    __slots__ = ()

    def output(self) -> OutputWriter:
        return self.call.output()

    def look(self) -> None:
        self.call.look()

    def end(self) -> bool:
        self.over = True
        return self.call.end()


class Call(Run):
    """The tasks that one call of their handler takes, as the run of the first of them."""

    __slots__ = ("_items", "_settling", "_worker")

    def __init__(self, worker: Worker, members: Sequence[Member], payloads: Sequence[Any]) -> None:
        first = members[0]
        super().__init__(first.spec, first.attempt, first.started_at, first.claim, first.failures)
        self._worker = worker
        self._settling = threading.Lock()
        self._items: dict[Item[Any], Member] = {}
        for member, payload in zip(members, payloads, strict=True):
            self._items[Item(payload, member, self._told)] = member
            member.call = self
        for member in members:
            member.stop = self._asked
            if member.cancelled:  # it came before anybody could be told
                self._asked()

    @property
    def items(self) -> list[Item[Any]]:
        return [*self._items]

    def _asked(self) -> None:
        """One of the tasks was asked to end."""
        if all(member.cancelled or member.over for member in self._items.values()) and not self.cancelled:
            self.cancelled = True
            if self.stop is not None:
                self.stop()
            else:
                self._worker.ask(self)

    def _told(self, item: Item[Any]) -> None:
        """The handler has settled an item by name."""
        member = self._items[item]
        if not isinstance(member, First):
            with self._settling:
                self._answer(item, member)
            self._worker.results.send()

    def _answer(self, item: Item[Any], member: Member) -> None:
        ended = item.result if item.error is None else item.error
        self._worker.show(self)
        if isinstance(ended, BaseException):
            self._worker.failed(member, ended)
        else:
            self._worker.returned(member, ended)

    def returned(self, value: object) -> None:
        """The handler has returned: what it left unsaid is in its value."""
        try:
            found = outcomes(value, len(self._items))
        except TypeError as error:
            return self._end([error] * len(self._items))
        return self._end(found)

    def raised(self, error: BaseException) -> None:
        """The handler has raised: so has each task of which it had said nothing."""
        self._worker.look_for_broken(self)
        self._end([error] * len(self._items))

    def _end(self, found: Sequence[Any]) -> None:
        """Answer for all that are not answered; the first, which has what was printed, behind the others."""
        for (item, member), ended in reversed([*zip(self._items.items(), found, strict=True)]):
            with self._settling:
                if item.settle(ended) or isinstance(member, First):
                    self._answer(item, member)


def begin(worker: Worker, entries: Sequence[list[Any]], slot: int = -1) -> Call | None:
    """The call for these tasks, all of them on the board; None if none of them is left to run."""
    members: list[Member] = []
    payloads: list[Any] = []
    for entry in entries:
        member = worker.begin(entry, -1 if members else slot, Member if members else First)
        if member is None:
            continue
        packed = member.spec.payload
        try:
            payloads.append(unpack(packed) if packed else None)
        except ValueError as error:
            worker.unfit(member, PayloadError(f"the payload: expected one packed msgpack value, got {brief(packed)}: {error}."))
            continue
        members.append(member)
    return Call(worker, members, payloads) if members else None

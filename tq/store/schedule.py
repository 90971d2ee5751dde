"""The record of a schedule, as every store keeps it.

For: what is remembered of a rule that sends its task again and again.
Not for: when a rule comes due (``tq.schedule``), what is done then (broker).
Runs in: the daemon, on the thread of its one loop.
Promises: a row of an earlier version, which has fewer values, is the same schedule: what is new stands at the end and has a default.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class Schedule:
    """A rule that sends its task again and again, and where it stands. ``number`` 0 is one not stored yet; instants in ms, 0 for none.

    ``rule`` is the row of a ``tq.schedule.Rule``, ``task`` [type, payload, options] as in an enqueue. ``due_at`` is when the store
    gives it out (``slots``). ``slot_at`` is the next slot to be looked at; ``slots`` have come and have no task yet, ``missed``
    before them (from ``missed_at`` on) will have none. ``held`` waits for the end of those of ``live`` that go on: tasks of it
    that may do so. ``runs`` are its newest tasks: [slot, id]. ``declared``: an application says it.
    ``alerts`` are what is told of it (``tq.broker.alerts``): ``watched`` are then the runs, [slot, id], whose ends are not told yet,
    ``failing`` and ``overdue`` the task and slot that were, until a run succeeds (by ``expect_at``), ``untold`` a slot that is still to be.
    ``boot`` is the boot of the machine, a number, in which it was made or last ran, for a rule that comes due once in each (``@reboot``).
    ``after`` are the names of those whose runs, due by then, must have succeeded before one of it begins.
    """

    number: int
    name: str
    rule: Sequence[Any]
    task: Sequence[Any]
    misfire: str = "coalesce"
    catch_up: int = 1
    overlap: str = "allow"
    paused: bool = False
    declared: bool = False
    made_at: int = 0
    due_at: int = 0
    slot_at: int = 0
    slots: Sequence[int] = ()
    missed: int = 0
    missed_at: int = 0
    held: int = 0
    live: Sequence[int] = ()
    runs: Sequence[Sequence[int]] = ()
    alerts: Mapping[str, Any] = field(default_factory=dict)
    watched: Sequence[Sequence[int]] = ()
    failing: int = 0
    overdue: int = 0
    expect_at: int = 0
    untold: Sequence[Any] = ()
    boot: int = 0
    after: Sequence[str] = ()

    def row(self) -> list[Any]:
        return [getattr(self, name) for name in self.__slots__]

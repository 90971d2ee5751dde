"""Whose turn it is among the tasks of an ordering key, in the most obvious way: the lines of the memory store.

For: what ordering.py is for the LMDB store.
Not for: which task is in a line (``lifecycle.in_line``).
Runs in: the process that opens a memory store.
Promises: what is changed in a turn is as it was if that is lost.
"""

from __future__ import annotations

from dataclasses import replace

from tq.lifecycle import in_line
from tq.model import Header, Spec, State, Status
from tq.store.orders import order_key
from tq.store.recorded import Recorded


class Ordered(Recorded):
    """The part of the memory store that keeps the lines of ordering keys."""

    def _waits_in_line(self, header: Header) -> bool:
        """Whether a new task of this header stands behind others."""
        key = order_key(header)
        there = key in self._contents.first or any((queue, order) == key for queue, order, _ in self._contents.behind)
        return header.order is not None and there

    def _comes(self, header: Header, task_id: int, *, behind: bool) -> None:
        """A new task has its place in the line of its ordering key."""
        mem, _ = self._turn()
        if behind:
            mem.behind.add((*order_key(header), task_id))
        elif header.order is not None:
            mem.first[order_key(header)] = task_id

    def _goes(self, header: Header, task_id: int) -> bool:
        """A task goes from its line; whether it was behind others."""
        mem, _ = self._turn()
        key = order_key(header)
        if mem.first.get(key) == task_id:
            del mem.first[key]
        was_behind = (*key, task_id) in mem.behind
        mem.behind.discard((*key, task_id))
        return was_behind

    def _follow(self, was: Spec, old: State, now: Spec, new: Status) -> Status:
        """Let a task's place follow its change: the status as it is with that."""
        mem, _ = self._turn()
        stood, stands = in_line(was.header, old), in_line(now.header, new.state)
        stays = stood and stands and was.header.queue == now.header.queue
        if stays and (old.final <= new.state.final or mem.first.get(order_key(now.header)) == now.id):
            return new
        behind = stood and self._goes(was.header, was.id)
        if stands:
            mem.behind.add((*order_key(now.header), now.id))
        if not stands or (behind and old is State.BLOCKED):  # that is counted already
            return new
        return replace(new, state=State.BLOCKED, waits=new.waits + 1, seq=0, ready_at=0)

    def turns(self, limit: int) -> list[int]:
        mem = self._contents
        found: list[int] = []
        for queue, order, task_id in sorted(mem.behind):
            if (queue, order) not in mem.first and len(found) < limit:
                mem, _ = self._turn()
                mem.first[queue, order] = task_id
                found.append(task_id)
        mem.behind -= {one for one in mem.behind if one[2] in found}
        return found

    def ordered(self, queue: str, order: str, limit: int) -> list[int]:
        mem = self._contents
        behind = sorted(one for *key, one in mem.behind if tuple(key) == (queue, order))
        return [*([mem.first[queue, order]] if (queue, order) in mem.first else []), *behind][:limit]

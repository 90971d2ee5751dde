"""Families: tasks that wait for other tasks, and what the end of those means to them.

For: which of a new task's parents it has to wait for; letting go, or cancelling, what waits for a task that is over.
Not for: what becomes of one child (lifecycle), which tasks wait for which (store).
Runs in: the daemon, inside the broker's turn.
Promises: the children hear of their parent's end in the transaction that holds it: up to SCAN_MOST in a turn at once, more by
a chore that is written there; whoever was cancelled by that is a parent that is over, too; each child meets the ends of one parent
in their order, and only those that came after it was sent.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace
from itertools import chain

from tq import lifecycle
from tq.broker.desk import Desk, Turn
from tq.errors import NoSuchTask, StoreDamaged
from tq.model import State, Task
from tq.store import RELEASE, SCAN_MOST, Chore, Draft, release

SLICE = 50
"""Children between two looks at the clock: about a millisecond."""
_log = logging.getLogger("tq.broker")


class Families:
    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self._last = 0  # the chore whose turn it was

    # -- what is sent ----------------------------------------------------------------------------------------------

    def meet(self, drafts: Sequence[Draft]) -> tuple[list[Draft], dict[int, State]]:
        """The drafts with the parents that each has to wait for, and those of these that are over, but not as they should be.

        NoSuchTask names the first parent that there is none of.
        """
        ids = sorted(set(chain.from_iterable(draft.header.parents for draft in drafts)))
        found: dict[int, State | None] = {}
        for start in range(0, len(ids), SCAN_MOST):
            part = ids[start : start + SCAN_MOST]
            found.update(zip(part, self._desk.store.states(part), strict=True))
        met: list[Draft] = []
        lost: dict[int, State] = {}
        for at, draft in enumerate(drafts):
            waits = []
            for parent in draft.header.parents:
                state = found[parent]
                if state is None:
                    where = f"task {at + 1} of {len(drafts)}: " if len(drafts) > 1 else ""
                    raise NoSuchTask(
                        f"{where}after: expected the id of a task, got {parent}: there is none, or it was removed. `tq list` shows those "
                        "there are."
                    )
                if not state.final:
                    waits.append(parent)
                elif state is not State.SUCCEEDED and parent not in draft.header.parents_any:
                    waits.append(parent)
                    lost[parent] = state
            met.append(replace(draft, waits=tuple(waits)) if waits else draft)
        return met, lost

    # -- what is over ----------------------------------------------------------------------------------------------

    def release(self, turn: Turn) -> None:
        """Tell the children of all that came to its end in this turn."""
        if not turn.over:
            return
        store, left = self._desk.store, SCAN_MOST
        held_up = {chore.args["parent"] for chore in store.chores() if chore.verb == RELEASE}
        for parent, state, below in turn.over:  # which grows, by those that are cancelled
            children = [child for child in store.children(parent, left + 1) if child < below]
            if len(children) > left or parent in held_up:
                store.put_chore(release(parent, state, below))
                held_up.add(parent)
                turn.busy = True
            else:
                left -= len(children)
                self._tell(children, parent, state, turn)
        turn.over.clear()

    def work(self, chores: Sequence[Chore], seconds: float, turn: Turn) -> None:
        """One slice of the release whose turn it is: they take turns, but those of one parent keep their order."""
        desk, store = self._desk, self._desk.store
        firsts = {chore.args["parent"]: chore for chore in reversed(chores)}
        chore = next((one for one in sorted(firsts.values(), key=lambda one: one.id) if one.id > self._last), chores[0])
        self._last = chore.id
        parent, state, below = chore.args["parent"], State(chore.args["state"]), chore.args["below"]
        until = desk.clock() + seconds
        after, seen, changed, over = int.from_bytes(chore.cursor or b"", "big"), chore.seen, chore.changed, False
        while not over and seen - chore.seen < SCAN_MOST:
            children = [child for child in store.children(parent, SLICE, after) if child < below]
            seen += len(children)
            changed += self._tell(children, parent, state, turn)
            over = len(children) < SLICE
            after = children[-1] if children else after
            if desk.clock() > until:
                break
        if over:
            store.drop_chore(chore.id)
            turn.steps.append(("chore_done", [(chore.id, chore.verb, seen, changed)]))
        else:
            store.put_chore(replace(chore, cursor=after.to_bytes(8, "big"), seen=seen, changed=changed))
        turn.busy = turn.stirred = True

    def _tell(self, children: Sequence[int], parent: int, state: State, turn: Turn) -> int:
        """These children hear that their parent is over; how many there are of them."""
        now = self._desk.now
        changes = [lifecycle.parent_over(task, parent, state, now) for task in self._sound(children) if task.state is State.BLOCKED]
        if changes:
            self._desk.carry_out_all(changes, turn)
            turn.stirred = True
        return len(changes)

    def _sound(self, ids: Sequence[int]) -> list[Task]:
        """The tasks. A damaged one keeps waiting: it must not keep its parent from coming to an end."""
        store, found = self._desk.store, []
        try:
            return [task for task in store.get(ids) if task is not None]
        except StoreDamaged:
            for task_id in ids:
                try:
                    found += [task for task in store.get([task_id]) if task is not None]
                except StoreDamaged as error:
                    _log.error("task %d waits on, though what it waits for is over: %s", task_id, error)
        return found

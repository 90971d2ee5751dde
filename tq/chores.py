"""Chores: what a verb left behind because it may touch more tasks than one turn should, worked off in slices.

For: bulk cancels today; each slice moves a durable cursor in the transaction of its changes.
Not for: what happens to a task that is met (the broker says), commits.
Runs in: the daemon, inside the broker's turn.
Promises: a chore survives a restart and goes on at its cursor; it comes to its end even if a slice finds nothing that
matches; a slice ends soon after its time, or after SCAN_MOST tasks; tasks that came after the verb are not touched.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import Any

from tq.arguments import some_states
from tq.errors import Refused
from tq.model import State, Task
from tq.store import SCAN_MOST, Chore, Query, Store

MOST = 1000


class Chores:
    """The chores of one store. ``clock`` gives seconds."""

    def __init__(self, store: Store, clock: Callable[[], float]) -> None:
        self._store = store
        self._clock = clock
        self._walks: dict[int, Iterator[tuple[Task, bytes] | None]] = {}

    def accept(self, verb: str, args: Mapping[str, Any]) -> int:
        """Write a new chore; its id. Refused if there are too many."""
        if len(self._store.chores()) >= MOST:
            raise Refused(f"expected at most {MOST} chores, they are all taken. See `chores`; try again later.", retry_after=5.0)
        return self._store.put_chore(Chore(0, verb, {**args, "below": self._store.last_id() + 1})).id

    def work(self, chore: Chore, seconds: float, act: Callable[[Task], bool], later: list[Callable[[], None]]) -> Chore | None:
        """One slice: ``act`` on each task it is about, which says whether it changed it. The chore as it ended, None: it goes on.

        ``later`` gets what is to be remembered once all this is committed.
        """
        until = self._clock() + seconds
        states = some_states(chore.args.get("states")) or frozenset(State)
        seen, changed, cursor = chore.seen, chore.changed, chore.cursor
        # Walk by id, downwards: a task that is cancelled leaves every index but that one. The walk itself is kept, since
        # a slice may find nothing that matches; after a restart it begins again at the last that did.
        query = Query(None, chore.args.get("queue"), chore.args.get("type"), limit=1 << 62, before=cursor)
        walk = self._walks.pop(chore.id, None) or self._store.find(query)
        for one in walk:
            if one is not None:
                task, cursor = one
                seen += 1
                before = task.id < chore.args.get("below", task.id + 1)  # none that was accepted after the chore
                if before and task.state in states and not task.state.final:
                    changed += act(task)
            if self._clock() > until or seen - chore.seen >= SCAN_MOST:
                self._store.put_chore(replace(chore, cursor=cursor, seen=seen, changed=changed))
                later.append(lambda: self._walks.update({chore.id: walk}))
                return None
        self._store.drop_chore(chore.id)
        return replace(chore, cursor=cursor, seen=seen, changed=changed)

    def aborted(self) -> None:
        """What was walked in the turn is not done: go on from where the store says."""
        self._walks.clear()

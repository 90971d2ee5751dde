"""Chores: what a verb left behind because it may touch more tasks than one turn should, worked off in slices.

For: the bulk forms of cancel, retry, edit and remove; each slice moves a durable cursor in the transaction of its changes.
Not for: what happens to a task that is met (the broker says), commits.
Runs in: the daemon, inside the broker's turn.
Promises: a chore survives a restart and goes on at its cursor; it comes to its end even if a slice finds nothing that
matches, or a task is damaged; a slice ends soon after its time, or after SCAN_MOST tasks; tasks that came after the verb are not touched.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import Any

from tq import query
from tq.errors import Refused
from tq.model import Task
from tq.store import SCAN_MOST, Chore, Query, Store

MOST = 1000
_log = logging.getLogger("tq.broker")


class Chores:
    """The chores of one store. ``clock`` gives seconds."""

    def __init__(self, store: Store, clock: Callable[[], float]) -> None:
        self._store = store
        self._clock = clock
        self._walks: dict[int, tuple[query.Filter, Iterator[tuple[Task, bytes] | None]]] = {}
        self._passed_over: set[int] = set()  # tasks at which a slice failed
        self._failed = False

    def accept(self, verb: str, where: query.Filter, changes: Mapping[str, Any], now: int) -> int:
        """Write a new chore that does ``verb`` to what ``where`` matches; its id. Refused if there are too many."""
        if len(self._store.chores()) >= MOST:
            raise Refused(f"expected at most {MOST} chores, they are all taken. See `tq queue chores`; try again later.", retry_after=5.0)
        args = {"where": str(where), "changes": changes, "below": self._store.last_id() + 1, "asked_at": now}
        return self._store.put_chore(Chore(0, verb, args)).id

    def work(self, chore: Chore, seconds: float, act: Callable[[Task], bool], later: list[Callable[[], None]]) -> Chore | None:
        """One slice: ``act`` on each task it is about, which says whether it changed it. The chore as it ended, None: it goes on.

        ``later`` gets what is to be remembered once all this is committed.
        """
        until = self._clock() + seconds
        below, asked_at = chore.args["below"], chore.args["asked_at"]
        seen, changed, cursor = chore.seen, chore.changed, chore.cursor
        # Walk by id, upwards: a task that is changed leaves every index but that one, and what runs again does so in its
        # old order. The walk itself is kept, since a slice may find nothing; after a restart it goes on at the cursor.
        kept = self._walks.pop(chore.id, None)
        if kept is None:
            where = query.parse(chore.args["where"])
            kept = where, self._store.find(Query(None, where.queue, where.type, limit=1 << 62, before=cursor, oldest=True))
        where, walk = kept
        for one in walk:
            if one is not None:
                task, cursor = one
                seen += 1
                if task.id < below and where.matches(task, asked_at):  # what came after it, or grew old enough, is not meant
                    changed += self._act(act, task)
            if self._clock() > until or seen - chore.seen >= SCAN_MOST:
                self._store.put_chore(replace(chore, cursor=cursor, seen=seen, changed=changed))
                later.append(lambda: self._walks.update({chore.id: kept}))
                return None
        self._store.drop_chore(chore.id)
        later.append(self._passed_over.clear)
        return replace(chore, cursor=cursor, seen=seen, changed=changed)

    def _act(self, act: Callable[[Task], bool], task: Task) -> bool:
        """``act``, but not at a task at which it failed before: one that is damaged must not stop the others, nor the daemon's turns."""
        if task.id in self._passed_over:
            return False
        try:
            return act(task)
        except Refused:  # no room, which is not the task's fault
            raise
        except Exception as error:
            _log.error("task %d is passed over: %s", task.id, error)
            self._passed_over.add(task.id)
            self._failed = True
            raise

    def aborted(self) -> bool:
        """What was walked in the turn is not done: go on from where the store says. True: a task was at fault, and is passed over now."""
        self._walks.clear()
        failed, self._failed = self._failed, False
        return failed

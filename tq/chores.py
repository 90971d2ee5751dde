"""Chores: what a verb left behind because it may touch more tasks than one turn should, worked off in slices.

For: the bulk forms of the verbs that act on tasks; each slice moves a durable cursor in the transaction of its changes.
Not for: what happens to a task that is met (the broker says), commits.
Runs in: the daemon, inside the broker's turn.
Promises: a chore survives a restart and goes on at its cursor; it comes to its end even if a slice finds nothing that
matches, or a task is damaged; a slice ends soon after its time, or after SCAN_MOST tasks; tasks that came after the verb are
not touched. Chores take turns, a slice each, so one over few tasks does not wait for one over a million; but of two that may
be about the same tasks, as far as their types, queues and ids tell, the later one stays behind the earlier one's cursor:
each task meets them in the order in which they were asked for.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from tq import query
from tq.errors import Refused, StoreDamaged
from tq.model import State, Task
from tq.store import RELEASE, SCAN_MOST, Chore, Query, Store

MOST = 1000
APART = frozenset({"suspend", "resume"})
"""What changes no task, and so has an order only among itself."""
LAST = (1 << 63) - 1
_log = logging.getLogger("tq.broker")

Act = Callable[[Task], tuple[str, bool] | None]
"""Does it to one task: the word for what became of it, and whether that is a change; None: the task is none that it is about."""


@dataclass(slots=True)
class _Walk:
    """Where a chore is: what it reads on from, and the task before which it stands because an earlier one has not been there."""

    where: query.Filter
    found: Iterator[tuple[Task, bytes] | None]
    ahead: tuple[Task, bytes] | None = None
    stale: bool = False  # whether what comes was read in an earlier turn, up to the next mark

    def __iter__(self) -> Iterator[tuple[Task, bytes] | None]:
        while True:
            try:
                one = self.ahead or next(self.found)
            except StopIteration:
                return
            self.ahead = None
            yield one


class Chores:
    """The chores of one store. ``clock`` gives seconds."""

    def __init__(self, store: Store, clock: Callable[[], float]) -> None:
        self._store = store
        self._clock = clock
        self._walks: dict[int, _Walk] = {}
        self._came_to: dict[int, int] = {}  # by chore: the task at which its last slice ended
        self._filters: dict[int, query.Filter] = {}
        self._last = 0  # whose turn it was
        self._passed_over: set[tuple[int, int]] = set()  # chores, and tasks at which a slice of them failed
        self._failed = False

    def accept(self, verb: str, where: query.Filter, changes: Mapping[str, Any], now: int) -> int:
        """Write a new chore that does ``verb`` to what ``where`` matches; its id. Refused if there are too many."""
        if sum(one.verb != RELEASE for one in self._store.chores()) >= MOST:
            raise Refused(f"expected at most {MOST} chores, they are all taken. See `tq queue chores`; try again later.", retry_after=5.0)
        args = {"where": str(where), "changes": changes, "below": self._store.last_id() + 1, "asked_at": now}
        return self._store.put_chore(Chore(0, verb, args)).id

    def next(self, chores: Sequence[Chore]) -> Chore:
        """The one whose turn it is, of all there are: the first after the last one that can go on."""
        for chore in [*(one for one in chores if one.id > self._last), *chores]:
            walk = self._walks.get(chore.id)
            if walk is None or walk.ahead is None or walk.ahead[0].id <= self._until(chore, chores):
                break
        self._last = chore.id
        return chore

    def work(
        self, chore: Chore, chores: Sequence[Chore], seconds: float, act: Act, states: frozenset[State] | None,
        later: list[Callable[[], None]],
    ) -> Chore | None:  # fmt: skip
        """One slice of one of all these chores: ``act`` on each task it is about. The chore as it ended, None: it goes on.

        It looks only at tasks in ``states`` (None: at all); ``later`` gets what is to be remembered once this is committed.
        """
        until = self._clock() + seconds
        below, asked_at = chore.args["below"], chore.args["asked_at"]
        seen, changed, cursor, left = chore.seen, chore.changed, chore.cursor, Counter(chore.left)
        walk = self._walks.pop(chore.id, None) or self._walk(chore, states)
        last = self._until(chore, chores)
        came_to, one = self._came_to.get(chore.id, 0), None
        for one in walk:
            if one is None:
                walk.stale = False
            elif one[0].id > last:
                walk.ahead = one
            else:
                task, cursor = self._again(one[0]) if walk.stale else one[0], one[1]
                came_to = one[0].id
                seen += 1
                if task is not None and task.id < below and walk.where.matches(task, asked_at):  # what grew old enough since is not meant
                    word, done = self._act(act, chore, task) or ("", False)
                    changed += done
                    left[word] += bool(word and not done)
            if walk.ahead or self._clock() > until or seen - chore.seen >= SCAN_MOST:
                break
        else:
            self._store.drop_chore(chore.id)
            later.append(lambda: self._forget(chore.id))
            return replace(chore, cursor=cursor, seen=seen, changed=changed, left=dict(+left))
        walk.stale = walk.stale or one is not None
        if seen != chore.seen:
            self._store.put_chore(replace(chore, cursor=cursor, seen=seen, changed=changed, left=dict(+left)))
        later.append(lambda: self._walks.update({chore.id: walk}))
        later.append(lambda: self._came_to.update({chore.id: came_to}))
        return None

    def _walk(self, chore: Chore, states: frozenset[State] | None) -> _Walk:
        # By id, upwards: a task that is changed leaves every index but that one, and what runs again does so in its old
        # order. The walk itself is kept, since a slice may find nothing; after a restart it goes on at the cursor.
        where = self.where(chore)
        first, last = where.ids_range or (1, LAST)
        ids = first, min(last, chore.args["below"] - 1)
        found = Query(states, where.queue, where.type, limit=1 << 62, before=chore.cursor, oldest=True, ids=ids)
        return _Walk(where, self._store.find(found))

    def where(self, chore: Chore) -> query.Filter:
        """What a chore is about."""
        if chore.id not in self._filters:
            self._filters[chore.id] = query.parse(chore.args["where"])
        return self._filters[chore.id]

    def _until(self, chore: Chore, chores: Sequence[Chore]) -> int:
        """The last task to which a chore may go: where those stand that were asked for earlier, and may be about the same."""
        return min((self._came_to.get(one.id, 0) for one in chores if one.id < chore.id and self._may_meet(one, chore)), default=LAST)

    def _may_meet(self, one: Chore, other: Chore) -> bool:
        """Whether two chores may be about the same tasks; types and ids never change, queues only by what the chores do."""
        if (one.verb in APART) != (other.verb in APART):
            return False
        mine, theirs = self.where(one), self.where(other)
        moved = any("queue" in (chore.args["changes"] or {}) for chore in (one, other))
        if None not in (mine.type, theirs.type) and mine.type != theirs.type:
            return False
        if not moved and None not in (mine.queue, theirs.queue) and mine.queue != theirs.queue:
            return False
        (low, high), (from_, to) = mine.ids_range or (0, LAST), theirs.ids_range or (0, LAST)
        return max(low, from_) < min(high + 1, to + 1, int(one.args["below"]))

    def _again(self, task: Task) -> Task | None:
        """The task as it is now; None if it is gone, or cannot be read."""
        try:
            return self._store.get([task.id])[0]
        except StoreDamaged as error:
            _log.error("task %d is passed over: %s", task.id, error)
            return None

    def _act(self, act: Act, chore: Chore, task: Task) -> tuple[str, bool] | None:
        """``act``, but not at a task at which it failed before: one that is damaged must not stop the others, nor the daemon's turns."""
        if (chore.id, task.id) in self._passed_over:
            return None
        try:
            return act(task)
        except Refused:  # no room, which is not the task's fault
            raise
        except Exception as error:
            _log.error("task %d is passed over: %s", task.id, error)
            self._passed_over.add((chore.id, task.id))
            self._failed = True
            raise

    def aborted(self) -> bool:
        """What was walked in the turn is not done: go on from where the store says. True: a task was at fault, and is passed over now."""
        self._walks.clear()
        self._filters.clear()  # a number that was given in the turn will be given again
        failed, self._failed = self._failed, False
        return failed

    def _forget(self, chore: int) -> None:
        self._filters.pop(chore, None)
        self._came_to.pop(chore, None)
        self._passed_over = {pair for pair in self._passed_over if pair[0] != chore}

"""Children: which tasks wait for which others in the LMDB store.

For: the entries in ``children``, from the acceptance of a blocked task until it waits no more; ``awaited children states``.
Not for: what becomes of a child when its parent is over (lifecycle), when that is looked at (broker).
Runs in: the daemon, inside the LMDB store, in the transaction of a turn.
Promises: there is one entry for each parent that a blocked task waits for, written and deleted with the records that say so;
tasks that nobody waits for cost one look at an empty set for a whole batch.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from typing import Any

from tq.errors import StoreDamaged
from tq.model import HEAD, State, unseal
from tq.store import Draft
from tq.store.keys import PAIR, U64
from tq.store.records import blocked
from tq.store.registry import Registry

PARENTS_KEPT = 100_000
"""Parents that are remembered; where there are more, each task that ends is looked up: a microsecond."""


class Children(Registry):
    """What ``LmdbStore`` is made of, between the settings and the hot path."""

    _gathered: dict[str, list[tuple[bytes, bytes]]]
    _parents: set[int] | None  # all tasks that others wait for; None: they are too many

    def _load_parents(self, txn: Any) -> None:
        """O(parents), as long as they are few enough to be remembered."""
        found: set[int] = set()
        cursor = txn.cursor(self._db["children"])
        more = cursor.first()
        while more and len(found) <= PARENTS_KEPT:
            parent, _ = PAIR.unpack(cursor.key())
            found.add(parent)
            more = cursor.set_range(U64.pack(parent + 1))
        self._parents = None if more else found

    def _block(self, task_id: int, draft: Draft, *, behind: bool) -> None:
        """A task was accepted that waits for others, or stands ``behind`` others of its ordering key."""
        self._gathered["states"].append((U64.pack(task_id), blocked(task_id, draft.due_at, len(draft.waits) + behind)))
        self._gathered["children"] += [(PAIR.pack(parent, task_id), b"") for parent in draft.waits]
        self._await(draft.waits)

    def _block_again(self, task_id: int, parents: Iterable[int]) -> None:
        """A task that was over waits for these."""
        for parent in parents:
            self._txn.put(PAIR.pack(parent, task_id), b"", db=self._db["children"])
        self._await(parents)

    def _await(self, parents: Iterable[int]) -> None:
        if self._parents is not None:
            self._parents.update(parents)
            if len(self._parents) > PARENTS_KEPT:
                self._parents = None

    def _unblock(self, task_id: int, parents: Iterable[int]) -> None:
        """It waits for none of these any more."""
        cursor = self._txn.cursor(self._db["children"])
        for parent in parents:
            if not cursor.set_key(PAIR.pack(parent, task_id)):
                continue
            more, prefix = cursor.delete() and bool(cursor.key()), U64.pack(parent)
            last = not (more and cursor.key()[:8] == prefix) and not (cursor.set_range(prefix) and cursor.key()[:8] == prefix)
            if last and self._parents is not None:
                self._parents.discard(parent)

    def _forget_pairs(self, pairs: list[tuple[int, int]]) -> None:
        """Of each parent and child: the child waits for it no more."""
        pairs.sort()
        cursor = self._txn.cursor(self._db["children"])
        for at, (parent, child) in enumerate(pairs):
            if cursor.set_key(PAIR.pack(parent, child)):
                cursor.delete()
            if self._parents is not None and (at + 1 == len(pairs) or pairs[at + 1][0] != parent):
                prefix = U64.pack(parent)
                if not (cursor.set_range(prefix) and cursor.key()[:8] == prefix):
                    self._parents.discard(parent)

    def awaited(self, ids: Iterable[int]) -> Collection[int]:
        if self._parents is not None:
            return self._parents.intersection(ids) if self._parents else ()
        return [task_id for task_id in ids if self.children(task_id, 1)]

    def children(self, parent: int, limit: int, after: int = 0) -> list[int]:
        found: list[int] = []
        with self._view() as txn:
            cursor = txn.cursor(self._db["children"])
            more = cursor.set_range(PAIR.pack(parent, after + 1))
            while more and len(found) < limit and cursor.key()[:8] == U64.pack(parent):
                found.append(PAIR.unpack(cursor.key())[1])
                more = cursor.next()
        return found

    def states(self, ids: Sequence[int]) -> list[State | None]:
        with self._view() as txn:
            return [self._state(txn, task_id) for task_id in ids]

    def _state(self, txn: Any, task_id: int) -> State | None:
        if task_id in self._running:
            return State.RUNNING
        key = U64.pack(task_id)
        record = txn.get(key, db=self._db["tasks"])
        if record is None:
            return None
        status = txn.get(key, db=self._db["states"])
        if status is None:
            return State.PENDING if HEAD.unpack_from(unseal(record, "task", task_id))[2] else State.SCHEDULED
        body = unseal(status, "task", task_id)
        try:
            return State(body[3 if body[0] == 0xDC else 1])  # behind the array's header
        except (IndexError, ValueError):
            raise StoreDamaged(f"task {task_id}: expected a status, found another record. Run `tq verify`, restore a backup.") from None

"""Names: which task holds an idempotency key or a unique name.

For: the records in ``names``, from the acceptance of a task to the end of its names.
Not for: what to do with a request whose name is taken (broker), the layout of a key (keys.py).
Runs in: the daemon, inside the LMDB store, in the transaction of a turn.
Promises: a unique name is held exactly while its task lives; a key for ``keep_keys_ms`` after the end, though the task be
removed meanwhile, and on and on if it comes back to life; tasks without names cost nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from tq.errors import UsageError
from tq.model import MAX_NAME, Header
from tq.store import Draft, Holder, KeyRef
from tq.store.files import Dbs
from tq.store.keys import KEY, KINDS, PAIR, TIMER, name_key


def is_named(header: Header) -> bool:
    return header.key is not None or header.unique is not None


def _keys_of(header: Header) -> Iterator[tuple[str, bytes]]:
    """The kinds of a header's names and their keys; UsageError if no store takes one."""
    for kind, name in zip(KINDS, (header.key, header.unique), strict=True):
        if name is not None:
            key = name_key(KeyRef(kind, header.type, name))
            if key is None:
                size = f"{len(name)} and {len(header.type)} characters"
                raise UsageError(f"expected a {kind} and a type of 1 to {MAX_NAME} bytes, got {size}. Nothing was changed.")
            yield kind, key


class Names:
    """The names of one store; each method works in the transaction it is given."""

    def __init__(self, dbs: Dbs, keep_ms: int) -> None:
        self._db = dbs["names"]
        self._timers = dbs["timers"]
        self._keep_ms = keep_ms

    def _owner(self, txn: Any, key: bytes) -> tuple[int, int, bytes] | None:
        """Who holds a name: task id, until when (0: while it lives), digest."""
        value = txn.get(key, db=self._db)
        return None if value is None else (*PAIR.unpack_from(value), value[PAIR.size :])

    def _give(self, txn: Any, key: bytes, task_id: int, digest: bytes, until: int = 0) -> None:
        txn.put(key, PAIR.pack(task_id, until) + digest, db=self._db)

    def holders(self, txn: Any, names: Sequence[KeyRef]) -> list[Holder | None]:
        owners = [self._owner(txn, key) if (key := name_key(ref)) is not None else None for ref in names]
        return [None if owner is None else Holder(owner[0], owner[2]) for owner in owners]

    def check(self, txn: Any, runs: Sequence[tuple[Header, Sequence[Draft]]]) -> None:
        """UsageError unless all names of these drafts, which have some, are free."""
        seen: set[bytes] = set()
        for header, run in runs:
            for kind, key in _keys_of(header):
                if len(run) > 1 or key in seen or self._owner(txn, key) is not None:
                    name = f"{kind} {getattr(header, kind)!r} of type {header.type!r}"
                    raise UsageError(f"{name}: expected a name that is free, got one that a task has. Nothing was stored.")
                seen.add(key)

    def take(self, txn: Any, task_id: int, header: Header, digest: bytes) -> None:
        """A task was accepted under the names of ``header``."""
        for _, key in _keys_of(header):
            self._give(txn, key, task_id, digest)

    def fit(self, txn: Any, task_id: int, old: Header, new: Header) -> bool:
        """Whether a task that was ``old`` may live on as ``new``: nobody else has the unique name, nor a name that it would move to."""
        kept = old.key if old.type == new.type else None  # a key that ran out may have found another task since
        for kind, key in _keys_of(new):
            owner = self._owner(txn, key)
            if owner is not None and owner[0] != task_id and not (kind == "key" and new.key == kept):
                return False
        return True

    def live_on(self, txn: Any, task_id: int, old: Header, new: Header) -> None:
        """A task that was ``old`` lives on as ``new``, or lives again. A key that ran out stays free."""
        had = {kind: (key, self._owner(txn, key)) for kind, key in _keys_of(old)}
        digests = {kind: owner[2] for kind, (_, owner) in had.items() if owner is not None and owner[0] == task_id}
        for kind in digests:
            txn.delete(had[kind][0], db=self._db)
        for kind, key in _keys_of(new):
            if kind == "unique" or kind in digests:
                self._give(txn, key, task_id, digests.get(kind, b""))

    def end(self, txn: Any, task_id: int, header: Header, now: int) -> None:
        """A task is over: its unique name is free, its key will be."""
        for kind, key in _keys_of(header):
            owner = self._owner(txn, key)
            if owner is None or owner[0] != task_id:
                continue
            if kind == "unique":
                txn.delete(key, db=self._db)
            else:
                self._give(txn, key, task_id, owner[2], now + self._keep_ms)
                txn.put(TIMER.pack(now + self._keep_ms, KEY, task_id), key, db=self._timers)

    def lapse(self, txn: Any, at: int, task_id: int, key: bytes) -> None:
        """A KEY timer is due: the name is free, unless its task has lived again since."""
        owner = self._owner(txn, key)
        if owner is not None and owner[:2] == (task_id, at):
            txn.delete(key, db=self._db)

    def forget(self, txn: Any, task_id: int) -> None:
        """Free whatever a task holds whose specification cannot be read: a walk over all names."""
        cursor = txn.cursor(self._db)
        more = cursor.first()
        while more:
            mine = PAIR.unpack_from(cursor.value())[0] == task_id
            more = (cursor.delete() and bool(cursor.key())) if mine else cursor.next()

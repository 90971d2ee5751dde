"""Names: which task holds an idempotency key or a unique name.

For: the records in ``names``, from the acceptance of a task to the end of its names.
Not for: what to do with a request whose name is taken (broker), the layout of a key (keys.py).
Runs in: the daemon, inside the LMDB store, in the transaction of a turn.
Promises: a unique name is held exactly while its task lives; a key for ``keep_keys_ms`` after the end, though the task be
removed meanwhile, and on and on if it comes back to life; a name that was lent until its instant; tasks without names cost nothing.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from typing import Any

from tq.errors import StoreDamaged, UsageError
from tq.model import MAX_NAME, Header, seal, unseal
from tq.store import Draft, Holder, KeyRef, Loan
from tq.store.files import Dbs
from tq.store.keys import KEY, PAIR, TIMER, name_key

_log = logging.getLogger("tq.store")


def is_named(header: Header) -> bool:
    return header.key is not None or header.unique is not None


def _keys_of(header: Header) -> Iterator[tuple[str, bytes]]:
    """The kinds of a header's names and their keys; UsageError if no store takes one."""
    for kind, name in (("key", header.key), ("unique", header.unique)):
        if name is not None:
            key = name_key(KeyRef(kind, header.type, name))
            if key is None:
                size = f"{len(name)} and {len(header.type)} characters"
                raise UsageError(f"expected a {kind} and a type of 1 to {MAX_NAME} bytes, got {size}. Nothing was changed.")
            yield kind, key


def _is_taken(kind: str, header: Header) -> UsageError:
    name = f"{kind} {getattr(header, kind)!r} of type {header.type!r}"
    return UsageError(f"{name}: expected a name that is free, got one that a task has. Nothing was stored.")


class Names:
    """The names of one store; each method works in the transaction it is given."""

    def __init__(self, dbs: Dbs, keep_ms: int) -> None:
        self._dbs = dbs
        self._keep_ms = keep_ms

    def _owner(self, txn: Any, key: bytes) -> tuple[int, int, bytes] | None:
        """Who holds a name: task id, until when (0: while it lives), digest. Nobody, if that cannot be read."""
        record = txn.get(key, db=self._dbs["names"])
        try:
            value = None if record is None else unseal(record, f"the name {key!r:.100}")
        except StoreDamaged as error:  # it must not keep its task from coming to an end
            _log.error("a name is taken to be free: %s", error)
            value = None
        return None if value is None else (*PAIR.unpack_from(value), value[PAIR.size :])

    def _give(self, txn: Any, key: bytes, task_id: int, digest: bytes, until: int = 0) -> None:
        txn.put(key, seal(PAIR.pack(task_id, until) + digest), db=self._dbs["names"])

    def _give_until(self, txn: Any, key: bytes, task_id: int, digest: bytes, until: int) -> None:
        """Until that instant, or the first one after it at which the task has no other name to lose: a timer frees one name."""
        while not txn.put(TIMER.pack(until, KEY, task_id), key, db=self._dbs["timers"], overwrite=False):
            until += 1
        self._give(txn, key, task_id, digest, until)

    def holders(self, txn: Any, names: Sequence[KeyRef]) -> list[Holder | None]:
        keys = [name_key(ref) for ref in names]
        found = self._found(txn, [key for key in keys if key is not None])
        records = [None if key is None else found.get(key) for key in keys]
        values = [None if record is None else unseal(record, f"the name {keys[at]!r:.100}") for at, record in enumerate(records)]
        return [None if value is None else Holder(PAIR.unpack_from(value)[0], value[PAIR.size :]) for value in values]

    def _found(self, txn: Any, keys: Sequence[bytes]) -> dict[bytes, bytes]:
        """The records of those names that somebody holds, read in the order of their pages."""
        return dict(txn.cursor(self._dbs["names"]).getmulti(sorted(keys)))

    def check(self, txn: Any, drafts: Sequence[Draft]) -> list[tuple[int, bytes]]:
        """UsageError unless all names of these drafts are free; else their keys, each with the place of its draft."""
        keys: list[tuple[int, bytes]] = []
        seen: dict[bytes, str] = {}
        for at, draft in enumerate(drafts):
            header = draft.header
            for kind, key in _keys_of(header):
                if key in seen:
                    raise _is_taken(kind, header)
                seen[key] = kind
                keys.append((at, key))
        taken = self._found(txn, list(seen))
        for at, key in keys if taken else ():
            if key in taken:
                raise _is_taken(seen[key], drafts[at].header)
        return keys

    def take(self, txn: Any, first: int, drafts: Sequence[Draft], keys: Sequence[tuple[int, bytes]]) -> None:
        """These drafts were accepted, from the id ``first`` on, under these names."""
        txn.cursor(self._dbs["names"]).putmulti(sorted([(key, seal(PAIR.pack(first + at, 0) + drafts[at].digest)) for at, key in keys]))

    def lend(self, txn: Any, loans: Sequence[Loan]) -> None:
        """These names are held until an instant, whoever held them before."""
        keys = []
        for name, *_ in loans:
            key = name_key(name)
            if key is None:
                raise UsageError(f"{name.kind}: expected a name and a type of 1 to {MAX_NAME} bytes. Nothing was changed.")
            keys.append(key)
        for key, (_, task_id, digest, until) in zip(keys, loans, strict=True):
            before = self._owner(txn, key)
            if before is not None and before[1]:
                txn.delete(TIMER.pack(before[1], KEY, before[0]), db=self._dbs["timers"])
            self._give_until(txn, key, task_id, digest, until)

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
            txn.delete(had[kind][0], db=self._dbs["names"])
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
                txn.delete(key, db=self._dbs["names"])
            else:
                self._give_until(txn, key, task_id, owner[2], now + self._keep_ms)

    def lapse(self, txn: Any, at: int, task_id: int, key: bytes) -> None:
        """A KEY timer is due: the name is free, unless its task has lived again since."""
        owner = self._owner(txn, key)
        if owner is not None and owner[:2] == (task_id, at):
            txn.delete(key, db=self._dbs["names"])

    def forget(self, txn: Any, task_id: int) -> None:
        """Free whatever a task holds whose specification cannot be read: a walk over all names."""
        cursor = txn.cursor(self._dbs["names"])
        more = cursor.first()
        while more:
            mine = PAIR.unpack_from(cursor.value())[0] == task_id
            more = (cursor.delete() and bool(cursor.key())) if mine else cursor.next()

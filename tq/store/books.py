"""Books: whether what an LMDB store says of its tenants and batches agrees with their tasks.

For: ``tq verify``: each task is counted, then the accounts and the batches are held against the counts.
Not for: keeping these (accounts, members), what an account or a batch is (tenants, batches).
Runs in: whatever verifies a store.
Promises: what cannot be read is told and counts for nothing; where tasks could not be read, nobody's count is called wrong.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from tq.model import Spec, State
from tq.store import Account
from tq.store.accounts import Recount, account_of, is_counted
from tq.store.batches import PLACE, PLACES, BatchInfo, batch_of
from tq.store.files import Dbs
from tq.store.keys import U64, opened, tenant_key
from tq.store.members import LAST

Read = Callable[..., Any]
"""Decodes a record, by what it is called; None: it cannot be, and that was told."""


class Books:
    """The counts of one store."""

    def __init__(self) -> None:
        self._tenants = Recount()
        self._batches: dict[int, list[int]] = {}  # members by PLACES

    def count(self, spec: Spec, state: State) -> None:
        self._tenants.count(spec, state)
        if spec.header.batch:
            self._batches.setdefault(spec.header.batch, [0] * len(PLACES))[PLACE[state]] += 1

    def problems(self, txn: Any, db: Dbs, read: Read, *, exact: bool) -> Iterator[str]:
        """What does not agree, in words; ``exact``: all tasks were counted."""
        yield from self._of_accounts(txn, db, read, exact)
        yield from self._of_batches(txn, db, read, exact)

    def _of_accounts(self, txn: Any, db: Dbs, read: Read, exact: bool) -> Iterator[str]:
        """What the accounts of tenants say of tasks that are not over is so."""
        if not is_counted(txn, db):
            return
        stored: dict[str, Account] = {}
        for key, value in txn.cursor(db["accounts"]):
            account = read(f"account {key!r:.100}", account_of, value)
            if account is not None and read(f"account {key!r:.100}", tenant_key, account.tenant) != key:
                yield f"account {key!r:.100}: expected that of this tenant, got that of {account.tenant!r:.100}."
            elif account is not None and account.tenant is not None:
                stored[account.tenant] = account
        if exact:
            yield from self._tenants.differences(stored)

    def _of_batches(self, txn: Any, db: Dbs, read: Read, exact: bool) -> Iterator[str]:
        """Each decodes, and counts its members: those that live exactly, and those that are over and kept at the least."""
        last = 0
        for key, value in txn.cursor(db["batches"]) if "batches" in db else ():
            if key == LAST:
                found = read("the last batch", opened, value, "the last batch")
                last = found[0] if found else 0
            elif len(key) == U64.size:
                (number,) = U64.unpack(key)
                stands = txn.get(key + b"s", db=db["batches"])
                info = read(f"batch {number}", _batch, number, value, stands)
                if info is not None and exact:
                    yield from self._of_batch(info, number)
        if numbers := [n for n in self._batches if n > last]:
            yield f"batch {max(numbers)}: expected a number up to the last one given, {last}."

    def _of_batch(self, info: BatchInfo, number: int) -> Iterator[str]:
        found = self._batches.get(number, [0] * len(PLACES))
        said = dict(zip(PLACES, info.counts, strict=True))
        if info.number != number:
            yield f"batch {number}: expected a record of that number, got that of {info.number!r:.100}."
        for place, have, count in zip(PLACES, found, info.counts, strict=True):
            if (have != count) if place in ("waiting", "running") else have > count:
                yield f"batch {number}: its counts say {said}, a recount finds {have} {place}."


def _batch(number: int, said: bytes, stands: bytes) -> BatchInfo:
    return batch_of(*(opened(row, f"batch {number}") for row in (said, stands)))

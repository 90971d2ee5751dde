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
from tq.store.files import Dbs
from tq.store.keys import tenant_key
from tq.store.members import Headcount

Read = Callable[..., Any]
"""Decodes a record, by what it is called; None: it cannot be, and that was told."""


class Books:
    """The counts of one store."""

    def __init__(self) -> None:
        self._tenants = Recount()
        self._members = Headcount()

    def count(self, spec: Spec, state: State) -> None:
        self._tenants.count(spec, state)
        if spec.header.batch:
            self._members.count(spec.header.batch, state)

    def problems(self, txn: Any, db: Dbs, read: Read, *, exact: bool) -> Iterator[str]:
        """What does not agree, in words; ``exact``: all tasks were counted."""
        yield from self._of_accounts(txn, db, read, exact)
        yield from self._members.problems(txn, db, sure=exact)

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

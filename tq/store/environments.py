"""Environments of commands in the LMDB store: each distinct one once, for as long as a task is there that has it.

For: keeping one when the first of its tasks comes, knowing who uses it, forgetting it with the last of them, reading it; and the
     names of inputs (``tq.spool``), which stand there, too.
Not for: what is in it (launch), other tasks than commands: they cost nothing here.
Runs in: the daemon, inside the LMDB store, in the transaction of a turn.
Promises: an environment is there as long as a task that names it; both come and go in one transaction; nothing is counted, so
nothing can be miscounted: each task has an entry of its own beside the environment; one that is read is whole.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

from tq.environment import ENVIRONMENT_KEY, environment_key, is_environment
from tq.errors import StoreDamaged
from tq.model import HEAD, Header, header_of
from tq.store.files import Dbs
from tq.store.keys import MALFORMED

_log = logging.getLogger("tq.store")


def keep(txn: Any, db: Dbs, header: Header, key: bytes) -> None:
    """Have the environment that a header brings, of that key."""
    if header.environment and txn.get(key, db=db["environments"]) is None:
        txn.put(key, header.environment, db=db["environments"])


def environment(txn: Any, db: Dbs, key: bytes) -> bytes | None:
    """The environment of that key, packed; None: there is none. StoreDamaged."""
    found: bytes | None = txn.get(key, db=db["environments"])
    if found is not None and not is_environment(key, found):
        raise StoreDamaged(
            f"environment {key.hex()}: its content is not what its key says. The disk or another program changed it. "
            "Run `tq verify`, then restore a backup."
        )
    return found


def inputs_of(txn: Any, db: Dbs) -> set[str]:
    """The names of all inputs that are kept for tasks; reads what stands beside each environment."""
    return {value.decode(errors="replace") for key, value in txn.cursor(db["environments"]) if len(key) > ENVIRONMENT_KEY and value}


def let_go(txn: Any, db: Dbs, ids: Sequence[bytes], inputs: list[str]) -> None:
    """These tasks, whose specifications are still there, are about to be forgotten; and with the last task its environment.

    ``inputs`` gets the names of those that were kept for them.
    """
    cursor = txn.cursor(db["environments"])
    used: set[bytes] = set()
    for task_id in ids:
        key = _key_of(txn.get(task_id, db=db["tasks"]))
        if key is not None and cursor.set_key(key + task_id):
            inputs += [cursor.value().decode(errors="replace")] if cursor.value() else []
            cursor.delete()
            used.add(key)
    for key in used:
        if cursor.set_key(key) and not (cursor.next() and cursor.key()[:ENVIRONMENT_KEY] == key):
            txn.delete(key, db=db["environments"])


def _key_of(record: bytes | None) -> bytes | None:
    try:
        return None if record is None else environment_key(header_of(record[HEAD.size : HEAD.size + HEAD.unpack_from(record)[5]]))
    except MALFORMED as error:  # a damaged task goes all the same; its entry stays, and `tq verify` names it
        _log.error("a task that cannot be read is forgotten, and its environment is not: %s", error)
        return None

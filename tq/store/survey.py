"""A store from outside: what its file holds, without going through its records.

For: ``tq doctor``.
Not for: whether the records are sound (verify: ask it first, since a damaged file may end the process that opens it).
Runs in: processes of the command line, also beside a running daemon.
Promises: changes nothing; costs a few reads, however many tasks there are.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import lmdb

from tq.model import State
from tq.store import Event
from tq.store.compaction import size_of
from tq.store.files import open_store
from tq.store.keys import COUNTED, HISTORY, counters_of, opened
from tq.store.room import live_bytes

BINDING = lmdb.__version__
ENGINE = ".".join(map(str, lmdb.version()))


class Survey(NamedTuple):
    """``size``, ``live``: bytes of the file, and what a compact copy would take; ``newest_at``: the latest instant stored (ms);
    ``readers``: pids of the processes that have a slot in the table of readers."""

    size: int
    live: int
    tasks: int
    last_id: int
    newest_at: int
    readers: tuple[int, ...]


def survey(data_dir: Path) -> Survey:
    """Look at the store of ``data_dir``; ConfigError, StoreDamaged or StoreTooNew if it cannot be opened."""
    path = data_dir / "store"
    env, dbs = open_store(path, readonly=True)
    try:
        with env.begin() as txn:
            last_id, *_ = counters_of(txn.get(COUNTED, db=dbs["tallies"]))
            live, tasks = live_bytes(txn, dbs), int(txn.stat(dbs["tasks"])["entries"])
            events, ended = txn.cursor(dbs["events"]), txn.cursor(dbs["history"])
            newest = Event(*opened(events.value(), "an event")).at if events.last() else 0
            for state in State:
                last = ended.prev() if ended.set_range(bytes([state + 1])) else ended.last()
                if last:
                    newest = max(newest, HISTORY.unpack(ended.key())[1])
        lines = env.readers().splitlines()[1:]
    finally:
        env.close()
    readers = tuple(int(line.split()[0]) for line in lines if line.split()[:1] and line.split()[0].isdigit())
    return Survey(size_of(path), live, tasks, last_id, newest, readers)

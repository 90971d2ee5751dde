"""The layout of the LMDB store: its databases, keys and values.

For: the structs that lmdb.py writes, lookup.py reads and verify.py checks.
Not for: logic.
Runs in: the daemon; ``tq verify``.
Promises: keys are big-endian, so their order is the index.

    tasks     id u64                              a specification (tq.model)
    states    id                                  a status (tq.model); none while nothing has happened
    ready     lane u32 | 9-priority u8 | seq u64  id u64 | ready_at u64, and one more byte if the task has a status
    lanes     number u32                          [queue, type, tenant, flow], while it has tasks
    running   batch u64                           [worker, claimed_at, lease_ms, [id...], [claim...] or nil] and CRC
    timers    at u64 | kind u8 | id u64           nothing
    history   state u8 | finished_at u64 | id u64 tally u32 | had output u8
    tallies   number u32                          a Tally's row; at COUNTED, beside them in one page: the last id, seq,
                                                  batch and chore given
    requests  minute u32 | nonce | number u64     first id u64 | how many u64
    types, queues, chores                         rows (tq.store), by name or number
    meta      "format", "engine"

A task is running if its newest batch names a claim that its status has not reached: settling writes a status with
that claim, so a batch record is written once, and deleted when its last task is settled.
"""

from __future__ import annotations

import struct

from tq.model import Header, Status

U32 = struct.Struct(">I")
U64 = struct.Struct(">Q")
PAIR = struct.Struct(">QQ")
READY = struct.Struct(">IBQ")
TIMER = struct.Struct(">QBQ")
HISTORY = struct.Struct(">BQQ")
ENDED = struct.Struct(">IB")
COUNTERS = struct.Struct(">QQQQ")
COUNTED = b"\xff\xff\xff\xff"
REQUEST = struct.Struct(">I8sQ")
DUE, EXPIRE = 0, 1
PAST = b"\x01"
"""Behind a ready entry's value: look for a status too."""


class Batch:
    """One hand-out: who holds which tasks, and how many of them are not settled yet."""

    __slots__ = ("claimed_at", "lease_ms", "left", "number", "worker")

    def __init__(self, number: int, worker: str, claimed_at: int, lease_ms: int) -> None:
        self.number = number
        self.worker = worker
        self.claimed_at = claimed_at
        self.lease_ms = lease_ms
        self.left = 0


Run = tuple[int, Batch, int, int, Status | None, Header]
"""A running task in memory: claim, batch, seq, payload bytes, the status before (None: no run began yet), header."""

"""The layout of the LMDB store: its databases, keys and values.

For: the structs that hot.py, again.py and lmdb.py write, lookup.py and order.py read, verify.py checks.
Not for: logic, but for the key of a name.
Runs in: the daemon; ``tq verify``.
Promises: keys are big-endian, so their order is the index.

    tasks     id u64                              a specification (tq.model)
    states    id                                  a status (tq.model); none while nothing has happened
    ready     lane u32 | 9-priority u8 | seq u64  id u64 | ready_at u64, and one more byte if the task has a status
    lanes     number u32                          [queue, type, tenant, flow] and, if any, its needs, and CRC, while it has tasks
    running   batch u64                           [worker, claimed_at, lease_ms, [id...], [claim...] or nil] and CRC
    timers    at u64 | kind u8 | id u64           nothing; of a KEY the key in names
    history   state u8 | finished_at u64 | id u64 tally u32 | had output u8 | bytes of specification and status u32
    names     kind u8 | size u8 | type | name     id u64 | until u64 (a KEY timer's instant; 0 while the task lives) | digest | CRC
    children  parent u64 | child u64              nothing; while the child is blocked and the parent has not come to its end for it
    environments  key (16 bytes)                  a command's environment, packed; the key is its hash
                  key | id u64                    the name of the task's input (tq.spool), or nothing; the task has that environment
    tallies   number u32                          a Tally's row and CRC; at COUNTED, beside them in one page: the last id, seq,
                                                  batch and chore given, and CRC
    requests  minute u32 | nonce | number u64     first id u64 | how many u64, or LISTED and each id u64; and CRC of key and all
    types, queues, chores, events, schedules      rows (tq.store) and CRC, by name or number
    resources name                                [name, amount] and CRC
    standings kind | NUL | name                   [kind, name, row] and CRC: what a room of the broker keeps, as of a breaker
    limits    name                                a Limit's row and CRC
    tenants   name, packed                        a Tenant's row and CRC
    accounts  name, packed, or nil                an Account's row and CRC; of those that are forgotten, all together
    tokens    [limit, of which of its scope]      those two, when its bucket is full again, and the last that were taken; and CRC
    meta      "format", "engine"; "copied" if it is a backup that no daemon has run on

Timers are DUE (a task becomes pending), EXPIRE (its time to live is over), KEY (a name is free again, whatever has
become of the task), FORGET (its queue keeps it no longer) and SLOT (a schedule's ``due_at``; the id is the schedule's number,
and this one never stays behind). One that nobody needs any more lapses when it is due.

A task is running if its newest batch names a claim that its status has not reached: settling writes a status with
that claim, so a batch record is written once, and deleted when its last task is settled.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

from tq.model import CRC, HEAD, Header, Needs, is_name, pack, seal, unpack, unseal
from tq.store import KeyRef

U32 = struct.Struct(">I")
U64 = struct.Struct(">Q")
PAIR = struct.Struct(">QQ")
READY = struct.Struct(">IBQ")
RUNG = struct.Struct(">IB")
"""What the ready entries of one level of a lane begin with."""
TIMER = struct.Struct(">QBQ")
HISTORY = struct.Struct(">BQQ")
ENDED = struct.Struct(">IBI")
_COUNTERS = struct.Struct(">QQQQ")
COUNTED = b"\xff\xff\xff\xff"
REQUEST = struct.Struct(">I8sQ")
LISTED = b"\x01"
"""Before ids that do not follow each other: one byte more than a multiple of an id's."""
DUE, EXPIRE, KEY, FORGET, SLOT = 0, 1, 2, 3, 4
SEALED = HEAD.size + CRC.size
"""Bytes of a specification beside its header and payload."""
MALFORMED = (ValueError, TypeError, KeyError, IndexError, AttributeError, struct.error)
"""What decoding a record raises that is not of its kind."""
KINDS = ("key", "unique", "pace")
"""Of names, by the number they have in a key."""
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


Run = tuple[int, Batch, int, int, list[Any] | None, Header, bool]
"""A running task in memory: claim, batch, seq, payload bytes, the status before as a row (None: no run
began yet), header, whether it may expire."""


def sealed(row: Sequence[Any]) -> bytes:
    """A small record: a row and its CRC."""
    return seal(pack(row))


def opened(record: bytes, what: str) -> list[Any]:
    """The row of a small record; StoreDamaged, which says what it was, if it is not as it was written."""
    row: list[Any] = unpack(unseal(record, what))
    return row


def counters_record(*given: int) -> bytes:
    """The record of the last id, sequence, batch and chore given."""
    return seal(_COUNTERS.pack(*given))


def counters_of(record: bytes | None) -> tuple[int, int, int, int]:
    """The last id, sequence, batch and chore given; of a store that has given none, zeros. StoreDamaged; struct.error."""
    if record is None:
        return 0, 0, 0, 0
    if len(record) != _COUNTERS.size:  # those of older stores have no checksum
        record = unseal(record, "the counters")
    ids, seq, batch, chore = _COUNTERS.unpack(record)
    return ids, seq, batch, chore


def lane_row(key: tuple[str, str, str | None, str | None, Needs]) -> list[Any]:
    """What a lane is, as a row; the last only if its tasks need something."""
    return list(key) if key[4] else list(key[:4])


def lane_key(row: Sequence[Any]) -> tuple[str, str, str | None, str | None, Needs]:
    """The lane whose row this is."""
    queue, kind, tenant, flow, *needs = row
    return queue, kind, tenant, flow, tuple([(name, amount) for name, amount in needs[0]]) if needs else ()


def tokens_key(counted: Sequence[str]) -> bytes:
    """The key of the tokens of those that a limit counts together: its name, and of which of its scope."""
    return pack(list(counted[:2]))


def tenant_key(name: str | None) -> bytes:
    """The key of what is kept of a tenant; None: of those that are forgotten."""
    return pack(name)


def name_key(ref: KeyRef) -> bytes | None:
    """The key of a name in ``names``; None if no store takes it (empty, or too long)."""
    head, name = _name_head(ref.kind, ref.type), ref.name
    return head + name.encode("utf-8", "surrogatepass") if head is not None and is_name(name) else None


@lru_cache(maxsize=256)
def _name_head(kind: str, type: str) -> bytes | None:  # noqa: A002 - what it is
    """What the keys of the names of one kind and type begin with."""
    if not is_name(type):
        return None
    encoded = type.encode("utf-8", "surrogatepass")
    return bytes((KINDS.index(kind), len(encoded))) + encoded


def standing_key(kind: str, name: str) -> bytes:
    """The key of what a room keeps under a name."""
    return kind.encode() + b"\0" + name.encode()


def ref_of(key: bytes) -> KeyRef:
    """The name whose key this is; ValueError or IndexError if it is none."""
    end = 2 + key[1]
    return KeyRef(KINDS[key[0]], key[2:end].decode("utf-8", "surrogatepass"), key[end:].decode("utf-8", "surrogatepass"))

"""Retention: the oldest ends of the history, and forgetting what stands behind them.

For: walking the history from its oldest end in each state, deleting in runs; requests and for how long they are known.
Not for: how long and how many (Limits), counting (lmdb.py).
Runs in: the daemon, inside the LMDB store, in the transaction of a turn.
Promises: costs O(forgotten), whatever is kept; records are deleted in the order of their ids, page by page; an end that
cannot be read is left where it is (``tq verify`` names it), and stops none behind it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from tq.model import State, seal, unseal
from tq.store import RequestId
from tq.store.files import Dbs
from tq.store.keys import ENDED, LISTED, PAIR, REQUEST, U32, U64

Ended = tuple[bytes, bytes]
"""A history key and its value."""


def take_oldest(
    history: Any, states: Sequence[State], over: tuple[int, int], before: int, most: int, is_sound: Callable[[bytes, bytes], bool]
) -> list[Ended]:
    """Delete from the history the oldest ends in ``states``, up to ``most``, and give them.

    As long as there are ``over`` (tasks, bytes) too many, or they ended before the instant ``before`` (ms). Those that are
    not sound stay.
    """
    taken: list[Ended] = []
    starts = {state: bytes((state,)) for state in states}
    limit = U64.pack(max(before, 0))
    tasks, size = over
    while len(taken) < most:
        oldest = ((state, history.key()) for state in states if history.set_range(starts[state]))
        heads = sorted((key[1:], state) for state, key in oldest if key[0] == state)
        if not heads:
            break
        until = heads[1][0] if len(heads) > 1 else b"\xff"  # another state's oldest end is older from there on
        state = heads[0][1]
        more = history.set_range(starts[state])
        begun = len(taken), starts[state]
        while more and len(taken) < most:
            key, value = history.item()
            if key[0] != state or key[1:] > until or (tasks <= 0 and size <= 0 and key[1:9] >= limit):
                break
            if not is_sound(key, value):
                starts[state] = key + b"\x00"
                more = history.next()
                continue
            taken.append((key, value))
            tasks -= 1
            if size > 0:
                size -= ENDED.unpack(value)[2]
            more = history.delete() and bool(history.key())
        if (len(taken), starts[state]) == begun:
            break
    return taken


def forget(txn: Any, db: Dbs, keys: Sequence[bytes]) -> None:
    """Delete the specifications and statuses of the tasks with these keys."""
    for name in ("tasks", "states"):
        cursor = txn.cursor(db[name])
        for key in sorted(keys):
            if cursor.set_key(key):
                cursor.delete()


def remember(key: bytes, ids: Sequence[int]) -> bytes:
    """What ``requests`` holds at ``key`` of the ids that a request got. The CRC is of the key, too: no other request must get them."""
    value = PAIR.pack(ids.start, len(ids)) if isinstance(ids, range) else LISTED + b"".join(map(U64.pack, ids))
    return seal(key + value)[len(key) :]


def remembered(key: bytes, record: bytes) -> Sequence[int]:
    """The ids in the record of ``requests`` at ``key``. StoreDamaged."""
    value = unseal(key + record, f"request {key.hex()}")[len(key) :]
    if len(value) % U64.size:
        return [task_id for (task_id,) in U64.iter_unpack(value[len(LISTED) :])]
    first, count = PAIR.unpack(value)
    return range(first, first + count)


def sent_before(txn: Any, requests: Any, request: RequestId, since: int) -> Sequence[int] | None:
    """The ids that a request got when it was sent before, in the minute ``since`` or later; None: it was not.

    Later than now, too: the clock may have been put back.
    """
    cursor = txn.cursor(db=requests)
    there = cursor.last()
    while there and (minute := U32.unpack(cursor.key()[:4])[0]) >= since:
        key = REQUEST.pack(minute, request.nonce, request.number)
        found = txn.get(key, db=requests)
        if found:
            return remembered(key, found)
        there = cursor.set_range(U32.pack(minute)) and cursor.prev()
    return None


def drop_requests(requests: Any, before_minute: int, most: int) -> None:
    """Delete up to ``most`` remembered requests older than a minute of the epoch."""
    more = requests.first()
    while more and most > 0 and U32.unpack(requests.key()[:4])[0] < before_minute:
        more = requests.delete() and bool(requests.key())
        most -= 1

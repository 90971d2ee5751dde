"""What tasks hold while they run, slots and named resources, and what is left of it for those that wait.

For: whether a task may go, for whom something is kept, and what is in use when it has gone.
Not for: who goes first among those that may (lanes, sharing), storing amounts.
Runs in: the daemon, inside a store.
Promises: knows no task but the heads that it is shown; costs nothing where nothing runs or waits that needs more than a slot.

A task that needs more than is free is passed over. Once it has waited longer than its queue's ``aging_ms`` and is the one that
has waited longest for something (a resource, or as a heavy task slots of its queue or of the workers), ``aging_share - 1`` others
may take of that before it; then what becomes free of it is kept for this one. As whoever came first has waited longest, two that
need the same things never keep them from each other. One that needs more than there is keeps nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, MutableMapping
from math import inf

from tq.model import Needs, slots_in
from tq.store import QueueInfo, Want

Key = str | tuple[str]
"""What can be waited for: a resource by its name, slots of a queue as ``(name,)``, slots of the workers as ``WORKERS``."""
WORKERS = ""
"""In what is in use: the slots of workers that heavy tasks take beside their own."""
Head = tuple[QueueInfo, Needs, int, int]
"""The first of some ready tasks that are alike: its queue, what it needs, its sequence, and since when it is ready."""


def is_free(needs: Needs, slots: float, totals: Mapping[str, int], used: Mapping[str, int]) -> bool:
    """Whether there is enough of everything, where its queue has so many slots left; the workers are not looked at."""
    return slots_in(needs) <= slots and all(amount <= totals.get(name, 0) - used.get(name, 0) for name, amount in needs if name)


def hold(used: MutableMapping[str, int], needs: Needs, local: bool) -> None:
    """A task with these needs runs from now on; ``local``: in a worker of the pool."""
    for name, amount in needs:
        if name:
            used[name] = used.get(name, 0) + amount
        elif local:
            used[WORKERS] = used.get(WORKERS, 0) + amount - 1


def let_go(used: MutableMapping[str, int], needs: Needs, local: bool) -> None:
    """It runs no longer."""
    for name, amount in needs:
        if name or local:
            left = used[name] - (amount if name else amount - 1)
            if left:
                used[name] = left
            else:
                del used[name]


class Supply:
    """What is left while one claim, or a look ahead, takes tasks. ``totals``: resources there are; ``used``: of them, what is in use;
    ``over``: how many took of something before the one that waits for it. Both change as tasks are taken.

    ``given``: slots of workers that were given away since the claim's ``free`` were counted.
    """

    def __init__(
        self, totals: Mapping[str, int], used: MutableMapping[str, int], over: MutableMapping[Key, int], want: Want | None, given: int = 0
    ) -> None:
        self._totals, self._used, self._over = totals, used, over
        self._local = want is not None and not want.lease_ms
        self._of_pool = want is not None and want.at_once is not None
        self._at_once: float = inf
        self._workers = self._slots = inf
        if want is not None and want.at_once is not None:
            self._at_once, self._slots = want.at_once, want.slots
            self._workers = want.free - given - used.get(WORKERS, 0)
        self._first: dict[Key, tuple[int, int]] = {}  # who waits longest: its sequence, and its queue's aging_share
        self._heavy = False

    def look(self, heads: Iterable[Head], now: int) -> None:
        """These wait and need something: find out who has waited too long, and for what."""
        self._first.clear()
        self._heavy = False
        for info, needs, seq, ready_at in heads:
            self._heavy = self._heavy or slots_in(needs) > 1
            if info.aging_ms and info.aging_share and now - ready_at > info.aging_ms:
                for key in self._wanted(info, needs):
                    if key not in self._first or seq < self._first[key][0]:
                        self._first[key] = (seq, info.aging_share)

    def _wanted(self, info: QueueInfo, needs: Needs) -> list[Key]:
        """What a task waits for; nothing if it can never have it as things are."""
        slots, found = slots_in(needs), list[Key]()
        for name, amount in needs:
            if name and amount > self._totals.get(name, 0):
                return []
            found += [name] if name else []
        if slots > 1 and info.slots:
            found.append((info.name,))
        if slots > 1 and self._of_pool:
            found.append(WORKERS)
        return [] if slots > self._slots or 0 < info.slots < slots else found

    @property
    def over(self) -> dict[Key, int]:
        """How many took of what others wait for, as it is now."""
        return dict(self._over)

    def kept(self) -> dict[Key, int]:
        """What is kept, and the sequence of the task for which it is."""
        return {key: seq for key, (seq, share) in self._first.items() if self._over.get(key, 0) >= share - 1}

    def _is_kept(self, key: Key, seq: int) -> bool:
        """Whether something is kept for another than the task with this sequence."""
        first = self._first.get(key)
        return first is not None and first[0] != seq and self._over.get(key, 0) >= first[1] - 1

    def allows(self, queue: str, left: float, needs: Needs = (), seq: int = 0) -> bool:
        """Whether a task of this queue, which has so many slots left, may go; one without needs has no ``seq`` here."""
        if self._first and (self._is_kept((queue,), seq) or self._is_kept(WORKERS, seq)):
            return False
        if not needs:
            return left >= 1 and (self._at_once < 1 or self._workers >= 1)
        if self._at_once < 1 or slots_in(needs) > self._workers or not is_free(needs, left, self._totals, self._used):
            return False
        return not any(self._is_kept(name, seq) for name, _ in needs if name)

    def most(self, queue: str) -> float:
        """How many tasks without needs may be taken from a queue before this is asked again."""
        most = 1 if self._heavy else inf
        if 1 <= self._workers < self._at_once:
            most = min(most, self._workers)
        for key in ((queue,), WORKERS):
            if key in self._first:
                most = min(most, self._first[key][1] - 1 - self._over.get(key, 0))
        return most

    def take(self, queue: str, needs: Needs, seq: int, count: int) -> None:
        """So many tasks go, each with these needs (if any, it is one), the first of them with this sequence."""
        self._workers -= min(count, self._at_once) + slots_in(needs) - 1
        self._at_once = max(self._at_once - count, 0)
        hold(self._used, needs, self._local)
        for key in (*(name for name, _ in needs if name), (queue,), *((WORKERS,) if self._of_pool else ())):
            first = self._first.get(key)
            if first is not None and first[0] == seq:
                self._over.pop(key, None)
            elif first is not None:
                self._over[key] = self._over.get(key, 0) + count

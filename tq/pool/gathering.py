"""Types whose handlers take many tasks at once: when there are enough of them, or the first has waited long enough.

For: which of these types a worker may be given now, and when that changes by itself.
Not for: claiming (broker), sending and answering (pool, jobs): until a batch goes, its tasks are pending like any other, and can
be cancelled, edited, paused and passed by what comes first.
Runs in: the daemon, inside the pool; in tests under a clock turned by hand.
Promises: a full batch goes as soon as a worker is free for it; the first of fewer waits no longer than ``batch_wait`` for company;
without such types nothing is counted.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from tq.store import TypeInfo


@dataclass(slots=True)
class _Kind:
    size: int
    wait_ms: int
    waiting: int = 0
    since: int | None = None
    """Since when the first of those that wait does, or earlier."""


@dataclass(slots=True)
class Gathering:
    """The types that are handed out in batches, as workers' hellos declare them, and what of them waits."""

    _kinds: dict[str, _Kind] = field(default_factory=dict)
    _ready: int = 0
    stirred: bool = False
    """A batch could go that nobody has been offered."""

    def learn(self, types: Iterable[TypeInfo]) -> None:
        """What a hello named; a type that is declared otherwise by now is gathered otherwise."""
        for info in types:
            if not info.batch:
                self._kinds.pop(info.name, None)
            elif (known := self._kinds.get(info.name)) is not None:
                known.size, known.wait_ms = info.batch, info.batch_wait_ms or 0
            else:
                self._kinds[info.name] = _Kind(info.batch, info.batch_wait_ms or 0)

    @property
    def kinds(self) -> frozenset[str]:
        return frozenset(self._kinds)

    def __bool__(self) -> bool:
        return bool(self._kinds)

    def size(self, kind: str) -> int:
        return self._kinds[kind].size

    def look(self, waiting: Mapping[str, int], now: int, *, granted: bool) -> None:
        """So many of each wait by now, at the end of a turn; ``granted``: something was handed out in it, so the next may be theirs."""
        for name, kind in self._kinds.items():
            count = waiting.get(name, 0)
            kind.since = None if not count else now if kind.since is None else kind.since
            kind.waiting = count
        ready = self.unserved(now)
        self.stirred = bool(ready) and (granted or ready > self._ready)
        self._ready = ready

    def batches(self, name: str, now: int) -> int:
        """How many calls there could be of a type now; of one that waits for nobody always one, since more may have come."""
        kind = self._kinds[name]
        if not kind.wait_ms:
            return max(-(-kind.waiting // kind.size), 1)
        over = kind.since is not None and now - kind.since >= kind.wait_ms
        return -(-kind.waiting // kind.size) if over else kind.waiting // kind.size

    def missing(self, name: str, now: int) -> tuple[int, int, int] | None:
        """Of a type whose next call waits for more tasks: how many there are, how many it takes, and how many ms it waits for them."""
        kind = self._kinds.get(name)
        if kind is None or kind.since is None or self.batches(name, now):
            return None
        return kind.waiting, kind.size, kind.since + kind.wait_ms - now

    def unserved(self, now: int) -> int:
        """How many calls wait for a worker."""
        return sum(min(self.batches(name, now), kind.waiting) for name, kind in self._kinds.items())

    def offered(self) -> None:
        """Whoever wants work has been offered what may go."""
        self.stirred = False

    def next_due(self, now: int) -> int | None:
        """The instant at which the first of fewer than a batch has waited long enough; None if none does."""
        return min(
            (due for kind in self._kinds.values() if kind.since is not None and (due := kind.since + kind.wait_ms) > now), default=None
        )

"""The room that the output of all tasks may take: beyond it, what was written longest ago goes first.

For: counting what lies in ``logs/``, and removing from it, in slices between turns.
Not for: the limit of one task's output (``tq.output``), the output of tasks that are forgotten (it goes with them).
Runs in: the daemon, on the thread of its loop.
Promises: the output of a task that is not over is never removed; a slice ends soon after its time; it looks only while tasks
run, once a minute at the most, and then only where something may have changed; it keeps a few numbers for a thousand tasks.
What is written between two looks may be too much until the next one.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Collection, Generator, Iterator
from dataclasses import dataclass
from pathlib import Path

from tq import output

EVERY_MS = 60_000
FIRST_MS = 5000
SLICE_S = 0.002
LOW = 0.9
"""When there is too much, so much of the limit is left: a look that removes little would soon be followed by another."""
FRESH_NS = 2_000_000_000
"""A directory that changed so short a time before it was looked at may have changed again in the same tick of its clock."""
_BLOCK = 4096


@dataclass(slots=True)
class _Shard:
    """One directory of a thousand tasks: its bytes on disk, and when the oldest that may go was written."""

    size: int
    oldest_ns: float
    changed_ns: int


@dataclass(slots=True)
class _Log:
    """One task's files."""

    size: int = 0
    written_ns: int = 0


class Sweeper:
    """Keeps all output below ``most`` bytes. ``running`` names tasks that run; ``is_over``: nobody will write for this one."""

    def __init__(
        self, logs: Path, most: int, running: Callable[[], Collection[int]], is_over: Callable[[int], bool],
        clock: Callable[[], float], removed: Callable[[int, int], None],
    ) -> None:  # fmt: skip
        self._logs, self.most = logs, most
        self._running, self._is_over, self._clock, self._removed = running, is_over, clock, removed
        self._shards: dict[int, _Shard] = {}
        self._written: set[int] = set()  # shards of tasks that ran at the last look
        self._round: Iterator[None] | None = None
        self._until = 0.0
        self.due_at: int | None = None
        """The tick (ms) at which it is to be called; None: nothing has run since it last looked."""

    @property
    def size(self) -> int:
        """Bytes on disk, as far as it has looked."""
        return sum(shard.size for shard in self._shards.values())

    def stir(self, ticks: int, within_ms: int = EVERY_MS) -> None:
        """Tasks have ended: look soon."""
        if self.due_at is None:
            self.due_at = ticks + within_ms

    def work(self, ticks: int) -> bool:
        """One slice, if it is due; whether there is more to do at once."""
        if self.due_at is None or ticks < self.due_at:
            return False
        if self._round is None:
            self._round = self._look()
        self._until = self._clock() + SLICE_S
        for _ in self._round:
            return True
        self._round = self.due_at = None
        return False

    def _look(self) -> Iterator[None]:
        """A round, which pauses at the end of each slice."""
        running = {task_id // 1000 for task_id in self._running()}
        changed = dict(self._directories())
        for shard in self._shards.keys() - changed.keys():
            del self._shards[shard]
        for number, changed_ns in changed.items():
            known = self._shards.get(number)
            same = known is not None and changed_ns and known.changed_ns == changed_ns
            if not same or number in running | self._written:
                yield from self._measure(number, changed_ns, set())
            if self._over():
                yield
        self._written = running
        if self.size > self.most:
            yield from self._make_room()

    def _over(self) -> bool:
        return self._clock() > self._until

    def _directories(self) -> Iterator[tuple[int, int]]:
        """Each shard and when its directory last changed; 0: it may be changing now."""
        try:
            with os.scandir(self._logs) as found:
                entries = [(int(one.name), one.stat(follow_symlinks=False).st_mtime_ns) for one in found if one.name.isdecimal()]
        except OSError:
            return
        newest = max((at for _, at in entries), default=0)
        for number, at in entries:
            yield number, 0 if at > newest - FRESH_NS else at

    def _measure(self, number: int, changed_ns: int, staying: Collection[int]) -> Generator[None, None, dict[int, _Log]]:
        """Look at each file of a shard; the tasks in it, but for those that are ``staying``, which may not go."""
        logs: dict[int, _Log] = {}
        try:
            with os.scandir(self._logs / str(number)) as found:
                for one in found:
                    task = one.name.partition(".")[0]
                    if task.isdecimal():
                        try:
                            about = one.stat(follow_symlinks=False)
                        except OSError:  # it is gone
                            continue
                        log = logs.setdefault(int(task), _Log())
                        log.size += -(-about.st_size // _BLOCK) * _BLOCK
                        log.written_ns = max(log.written_ns, about.st_mtime_ns)
                    if self._over():
                        yield
        except OSError:  # the directory is gone
            pass
        size = sum(log.size for log in logs.values())
        movable = {task_id: log for task_id, log in logs.items() if task_id not in staying}
        oldest = min((log.written_ns for log in movable.values()), default=math.inf)
        self._shards[number] = _Shard(size, oldest, changed_ns)
        return movable

    def _make_room(self) -> Iterator[None]:
        """Remove what was written longest ago, until there is room."""
        low = self.most * LOW
        staying: set[int] = set()
        gone = freed = 0
        while self.size > low:
            number, shard = min(self._shards.items(), key=lambda item: item[1].oldest_ns)
            if shard.oldest_ns == math.inf:
                break
            logs = yield from self._measure(number, 0, staying)
            shard = self._shards[number]
            until = min((one.oldest_ns for other, one in self._shards.items() if other != number), default=math.inf)
            for task_id, log in sorted(logs.items(), key=lambda item: item[1].written_ns):
                if self.size <= low or log.written_ns > until:
                    break
                del logs[task_id]
                if self._is_over(task_id):
                    output.remove(self._logs, task_id)
                    shard.size -= log.size
                    gone, freed = gone + 1, freed + log.size
                else:
                    staying.add(task_id)
                if self._over():
                    yield
            shard.oldest_ns = min((log.written_ns for log in logs.values()), default=math.inf)
        if gone:
            self._removed(gone, freed)

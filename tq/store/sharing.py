"""Whose turn it is, in the most obvious way: what is next in the memory store.

For: the order of claims (promise 6 of ``tq.store``), and that of lists of pending tasks.
Not for: changing anything.
Runs in: the process that opens a memory store.
Promises: one task at a time, each chosen anew by the rules of lanes.py; it costs what that costs.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice

from tq.model import environment_key, input_of, pack, unpack
from tq.store import Peeked, Query, QueueInfo
from tq.store.snapshot import Contents, Turn


@dataclass(slots=True)
class Going:
    """A queue while claims take from it, or would: its turn, what it may still give, the next of each level and those behind."""

    info: QueueInfo
    turn: Turn
    left: float
    heads: dict[int, tuple[int, int]]
    behind: dict[int, Iterator[tuple[int, int]]]

    def choose(self, mem: Contents, now: int) -> tuple[int, bool]:
        """The level of the next task, and whether because it has aged."""
        best, info = max(self.heads), self.info
        lower = [level for level in self.heads if level != best]
        passed_over, aged = self.turn.passed_over, False
        if lower and info.aging_ms and info.aging_share:
            oldest = min(lower, key=lambda level: self.heads[level])
            if now - mem.statuses[self.heads[oldest][1]].ready_at > info.aging_ms:
                aged = passed_over >= info.aging_share - 1
                best, passed_over = (oldest, 0) if aged else (best, passed_over + 1)
        self.turn = Turn(self.turn.passed + 1 / info.weight, passed_over, back=False)
        return best, aged


def joined(mem: Contents, queues: Sequence[str]) -> dict[str, Turn]:
    """The turns of these queues, when those that came back have joined the others."""
    turns = {name: mem.turns[name] for name in queues}
    least = min([turn.passed for turn in turns.values() if not turn.back] or [turn.passed for turn in turns.values()], default=0.0)
    for name, turn in turns.items():
        if turn.back:
            most = least + 1 / mem.queue(name).weight
            turns[name] = replace(turn, passed=min(max(turn.passed, least), most), back=False)
    return turns


def order(
    mem: Contents, queues: Sequence[str], types: frozenset[str] | None, now: int, most: float | None = None
) -> Iterator[tuple[int, str, str, Turn]]:
    """The ready tasks of these open queues as promise 6 orders them: id, why it goes first, its queue, whose turn is then this.

    ``most`` of each queue, None: as many as it has slots left.
    """
    going: dict[str, Going] = {}
    for name, turn in joined(mem, queues).items():
        behind = {
            level: iter([one for one in rung if types is None or mem.specs[one[1]].header.type in types])
            for level, rung in mem.ready[name].items()
        }
        heads = {level: head for level, rung in behind.items() if (head := next(rung, None)) is not None}
        if heads:
            going[name] = Going(mem.queue(name), turn, mem.slots_left(name) if most is None else most, heads, behind)
    while going:
        name = min(going, key=lambda queue: (going[queue].turn.passed, queue))
        one = going[name]
        level, aged = one.choose(mem, now)
        task_id = one.heads.pop(level)[1]
        following = next(one.behind[level], None)
        share = any(max(other.heads) > level for other in going.values() if other is not one)
        if following is not None:
            one.heads[level] = following
        one.left -= 1
        if not one.heads or not one.left:
            del going[name]
        yield task_id, "aged" if aged else "share" if share else "priority", name, one.turn


def in_order(mem: Contents, query: Query) -> Iterator[tuple[int, bytes]]:
    """Pending tasks as they would run if no queue were paused, external or full, and nothing had aged."""
    after = {name: (passed, tuple(place)) for name, passed, place in unpack(query.before)} if query.before is not None else {}
    lines: dict[str, list[tuple[int, int, int]]] = {}
    for name, line in mem.ready.items():
        if any(line.values()) and query.queue in (None, name):
            places = sorted((-level, *entry) for level, rung in line.items() for entry in rung)
            passed, place = after.get(name, (mem.turns[name].passed, (-10, 0, 0)))
            after[name], lines[name] = (passed, place), places[bisect_right(places, place) :][::-1]
    while lines := {name: line for name, line in lines.items() if line}:
        name = min(lines, key=lambda queue: (after[queue][0], queue))
        after[name] = (after[name][0] + 1 / mem.queue(name).weight, lines[name].pop())
        yield after[name][1][2], pack([[queue, *rest] for queue, rest in after.items()])


class Ahead:
    """The part of the memory store that says what comes next."""

    _contents: Contents
    _latest: int
    """Now, of this turn or the last."""
    _shut: frozenset[str] = frozenset()
    """Queues of which nothing is given out for now."""

    def shut(self, queues: Collection[str]) -> None:
        let_go, self._shut = self._shut - set(queues), frozenset(queues)
        for queue in let_go:
            self._comes_back(queue)

    def _comes_back(self, queue: str) -> None:
        """The queue joins the others at the next claim: it has not saved up turns."""
        turns = self._contents.turns
        turns[queue] = replace(turns.get(queue, Turn()), back=True)

    def would_start(self, queue: str) -> bool:
        mem = self._contents
        return any(mem.ready.get(queue, {}).values()) and not (mem.queue(queue).paused or mem.full(queue))

    def _open(self, queues: frozenset[str] | None) -> list[str]:
        """The queues with work that a claim for ``queues`` may take from."""
        mem = self._contents
        names = mem.ready.keys() - self._shut if queues is None else mem.ready.keys() & queues - self._shut
        infos = [mem.queue(name) for name in names if any(mem.ready[name].values())]
        return [i.name for i in infos if not (i.paused or (i.external and queues is None) or mem.full(i.name))]

    def peek(self, limit: int, queue: str | None = None) -> list[Peeked]:
        ahead = order(self._contents, self._open(None if queue is None else frozenset({queue})), None, self._latest)
        return [Peeked(task_id, why) for task_id, why, _, _ in islice(ahead, limit)]

    def line(self, queue: str, limit: int) -> list[int]:
        mem = self._contents
        some = [queue] if any(mem.ready.get(queue, {}).values()) else []
        return [task_id for task_id, *_ in order(mem, some, None, self._latest, limit)] if limit else []

    def oldest(self, queue: str | None, type: str | None) -> int:  # noqa: A002
        mem = self._contents
        ready = (
            mem.specs[task_id] for name, line in mem.ready.items() if queue in (None, name) for rung in line.values() for _, task_id in rung
        )
        return min((mem.statuses[spec.id].ready_at for spec in ready if type in (None, spec.header.type)), default=0)

    def coming(self, after: tuple[int, int], until: int, limit: int) -> tuple[list[tuple[int, int]], tuple[int, int] | None]:
        timers = self._contents.timers
        found = [(at, task_id) for at, kind, task_id in timers if kind == "due" and after < (at, task_id) and at <= until]
        return found[:limit], found[limit - 1] if len(found) > limit else None


class Commands:
    """The part of the memory store that knows what commands have beside their tasks."""

    _contents: Contents

    def environment(self, key: bytes) -> bytes | None:
        return self._contents.environments.get(key)

    def inputs(self) -> set[str]:
        headers = [spec.header for spec in self._contents.specs.values()]
        return {input_of(header).decode() for header in headers if environment_key(header) is not None} - {""}

    def freed(self) -> list[str]:
        found, self._contents.freed = self._contents.freed, []
        return found

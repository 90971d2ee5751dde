"""What the store in memory shows of its tasks, names and queues: a look at the dicts.

For: the readers of ``MemoryStore`` but those that look ahead (sharing.py).
Not for: changing anything.
Runs in: the process that opens a memory store.
Promises: those of ``tq.store``; what a reader holds is not changed by a later turn.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from tq.model import Header, State, Task, pack, unpack
from tq.store import SCAN_MOST, Held, Holder, KeyRef, Limits, Query, QueueInfo, RequestId, Tally
from tq.store.sharing import in_order
from tq.store.snapshot import Contents, copied


class Shown:
    """The part of the memory store that is read."""

    _contents: Contents
    _latest: int
    _limits: Limits

    def _task(self, task_id: int) -> Task | None:
        spec = self._contents.specs.get(task_id)
        return None if spec is None else Task(spec, self._contents.statuses[task_id])

    def get(self, ids: Sequence[int]) -> list[Task | None]:
        return [self._task(task_id) for task_id in ids]

    def find(self, query: Query) -> Iterator[tuple[Task, bytes] | None]:
        pending = query.states == frozenset({State.PENDING}) and not query.oldest
        shown = 0
        for seen, (task_id, cursor) in enumerate(in_order(self._contents, query) if pending else self._by_age(query), 1):
            task = self._task(task_id)  # None: it was removed while the reader was away
            if task is not None and _matches(query, task):
                if shown == query.limit:
                    return
                shown += 1
                yield task, cursor
            if seen % SCAN_MOST == 0:
                yield None

    def _by_age(self, query: Query) -> Iterator[tuple[int, bytes]]:
        last = None if query.before is None else unpack(query.before)
        for task_id in sorted(self._contents.specs, reverse=not query.oldest):
            if last is None or (task_id > last if query.oldest else task_id < last):
                yield task_id, pack(task_id)

    def walk(self, states: frozenset[State] | None, first: int, last: int, *, oldest: bool = False) -> Iterator[Sequence[int]]:
        ids = sorted((one for one in self._contents.specs if first <= one <= last), reverse=not oldest)
        for at in range(0, len(ids), SCAN_MOST):
            statuses = self._contents.statuses
            some = ids[at : at + SCAN_MOST]
            yield [one for one in some if one in statuses and (states is None or statuses[one].state in states)]

    def headers(self, ids: Sequence[int]) -> list[Header | None]:
        return [None if (spec := self._contents.specs.get(one)) is None else spec.header for one in ids]

    def sent(self, request: RequestId) -> Sequence[int] | None:
        at, ids = self._contents.requests.get((request.nonce, request.number), (0, None))
        return ids if at >= self._latest - self._limits.keep_requests_ms else None

    def holders(self, names: Sequence[KeyRef]) -> list[Holder | None]:
        owners = [self._contents.names.get(ref) for ref in names]
        return [None if owner is None else Holder(owner.id, owner.digest) for owner in owners]

    def held(self) -> list[Held]:
        return [held for _, (held, _) in sorted(self._contents.held.items())]

    def tallies(self) -> list[Tally]:
        return [copied(tally) for _, tally in sorted(self._contents.tallies.items())]

    def queues(self) -> dict[str, QueueInfo]:
        return dict(self._contents.queues)


def _matches(query: Query, task: Task) -> bool:
    head = task.spec.header
    asked = (query.queue, query.type, query.tenant, query.label)
    found = (head.queue, head.type, head.tenant, head.label)
    right = all(want is None or want == got for want, got in zip(asked, found, strict=True))
    meant = query.ids is None or query.ids[0] <= task.id <= query.ids[1]
    return right and meant and (query.states is None or task.state in query.states)

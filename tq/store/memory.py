"""The store in memory: plain dicts and sorted lists, the oracle every other store is compared with.

For: tests, simulations and throwaway instances; with a snapshot file also restarts, without a database.
Not for: millions of tasks or many writers: a turn that writes copies the dicts first, a snapshot writes them all.
Runs in: the process that opens it, on one thread.
Promises: those of ``tq.store``, each carried out in the most obvious way there is; ``abort`` puts back the copy
that the first write of the turn made; a snapshot is complete or not there at all (made beside its place, synced,
renamed), and opening one gives what the last commit held, but for the passes of the queues, which start anew.
"""

from __future__ import annotations

import os
from bisect import bisect_left, bisect_right, insort
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path
from typing import Any

from tq.errors import PayloadError, Refused, StoreError, StoreTooNew, UsageError
from tq.lifecycle import Transition
from tq.model import Header, Spec, State, Status, Task, pack, seal, spec_of, status_of, unpack, unseal
from tq.store import (
    SCAN_MOST,
    Chore,
    Claimed,
    Draft,
    Held,
    Limits,
    Query,
    QueueInfo,
    RequestId,
    Success,
    SuccessRow,
    Tally,
    TypeInfo,
    Want,
)

FORMAT = 1
"""The format of a snapshot; the records in it have versions of their own."""
MAX_HEADER = 0xFFFF
RETRY_AFTER = 1.0
"""Seconds until a refused enqueue may be worth another try: a guess, unmeasured."""
TIMED = frozenset({State.SCHEDULED, State.RETRYING})
RAN = frozenset({"succeeded", "failed", "timed_out"})

Place = tuple[int, int, int]
"""(minus priority, sequence, task id): the smallest of a queue goes first."""
Timer = tuple[int, str, int]
"""(instant in ms, "due" | "expire" | "lease", task id)."""


@dataclass(slots=True)
class _Contents:
    """All that is remembered. Values are never changed in place, but for the lists and tallies that ``copy`` copies."""

    last_id: int = 0
    last_seq: int = 0
    last_chore: int = 0
    specs: dict[int, Spec] = field(default_factory=dict)
    statuses: dict[int, Status] = field(default_factory=dict)
    held: dict[int, tuple[Held, int]] = field(default_factory=dict)  # with the instant its lease lapses, 0: never
    timers: list[Timer] = field(default_factory=list)  # sorted
    ready: dict[str, list[Place]] = field(default_factory=dict)  # by queue, each sorted
    passes: dict[str, float] = field(default_factory=dict)  # by queue: stride scheduling
    queues: dict[str, QueueInfo] = field(default_factory=dict)
    types: dict[str, TypeInfo] = field(default_factory=dict)
    chores: dict[int, Chore] = field(default_factory=dict)
    requests: dict[tuple[bytes, int], tuple[int, list[int]]] = field(default_factory=dict)  # when, and the ids
    tallies: dict[tuple[str, str], Tally] = field(default_factory=dict)

    def copy(self) -> _Contents:
        return replace(
            self, specs=dict(self.specs), statuses=dict(self.statuses), held=dict(self.held), timers=list(self.timers),
            ready={name: list(line) for name, line in self.ready.items()}, passes=dict(self.passes),
            queues=dict(self.queues), types=dict(self.types), chores=dict(self.chores), requests=dict(self.requests),
            tallies={key: _copied(tally) for key, tally in self.tallies.items()},
        )  # fmt: skip

    def record(self) -> bytes:
        """Everything but what follows from the rest (``ready``) or is a cache (``passes``)."""
        counters = [self.last_id, self.last_seq, self.last_chore]
        tasks = [[i, spec.record(), self.statuses[i].record()] for i, spec in self.specs.items()]
        held = [[h.id, h.claim, h.worker, h.claimed_at, h.lease_ms, lapses] for h, lapses in self.held.values()]
        requests = [[nonce, number, at, ids] for (nonce, number), (at, ids) in self.requests.items()]
        named = [[value.row() for value in kind.values()] for kind in (self.queues, self.types, self.chores, self.tallies)]
        return seal(pack([FORMAT, counters, tasks, held, self.timers, requests, *named]))


def _contents_of(record: bytes, what: str) -> _Contents:
    """Decode a snapshot; StoreDamaged or StoreTooNew if it is not a whole one of this format."""
    version, *rows = unpack(unseal(record, what))
    if version != FORMAT:
        raise StoreTooNew(f"{what}: expected snapshot format {FORMAT}, got {version}. Use the tq that wrote it.")
    counters, tasks, held, timers, requests, queues, types, chores, tallies = rows
    found = _Contents()
    found.last_id, found.last_seq, found.last_chore = counters
    found.timers = [(at, kind, task_id) for at, kind, task_id in timers]
    for task_id, spec, status in tasks:
        found.specs[task_id], found.statuses[task_id] = spec_of(task_id, spec), status_of(task_id, status)
        if found.statuses[task_id].state is State.PENDING:
            header = found.specs[task_id].header
            insort(found.ready.setdefault(header.queue, []), _place(header, found.statuses[task_id], task_id))
    found.passes = dict.fromkeys(found.ready, 0.0)
    found.held = {row[0]: (Held(*row[:5]), row[5]) for row in held}
    found.requests = {(nonce, number): (at, ids) for nonce, number, at, ids in requests}
    found.queues = {row[0]: QueueInfo(*row) for row in queues}
    found.types = {row[0]: TypeInfo(*row) for row in types}
    found.chores = {row[0]: Chore(*row) for row in chores}
    found.tallies = {(row[0], row[1]): Tally(*row) for row in tallies}
    return found


def _copied(tally: Tally) -> Tally:
    return replace(tally, states=list(tally.states), times=dict(tally.times))


def _place(header: Header, status: Status, task_id: int) -> Place:
    return (-header.priority, status.seq, task_id)


def _without(line: list[Any], value: tuple[Any, ...]) -> None:
    """Take ``value`` out of a sorted list, if it is there."""
    at = bisect_left(line, value)
    if at < len(line) and line[at] == value:
        del line[at]


def _first_status(spec: Spec) -> Status:
    """The status of a task that nothing has happened to."""
    if spec.seq:
        return Status(State.PENDING, seq=spec.seq, ready_at=spec.created_at)
    return Status(State.BLOCKED if spec.header.parents else State.SCHEDULED, due_at=spec.due_at)


class MemoryStore:
    """See ``tq.store.Store``. ``path`` names a snapshot file, written by each commit that changed something."""

    def __init__(self, path: Path | None = None, limits: Limits = Limits()) -> None:
        self._path = path
        self._limits = limits
        self._now: int | None = None  # None: no turn
        self._before: _Contents | None = None  # None: nothing written in this turn
        self._contents = _contents_of(path.read_bytes(), str(path)) if path is not None and path.exists() else _Contents()
        self._restarted = True

    # the turn

    def begin(self, now: int) -> None:
        if self._now is not None:
            raise StoreError("expected a commit or an abort of the turn before, got a second begin. End the first turn.")
        self._now = now
        if self._restarted and self._contents.held:  # nobody could extend a lease while nobody was there
            mem, _ = self._turn()
            mem.timers = [timer for timer in mem.timers if timer[1] != "lease"]
            for held, _ in list(mem.held.values()):
                self._hold(held, held.lease_ms)

    def commit(self) -> None:
        if self._before is not None and self._path is not None:
            self._write_snapshot(self._path)
        self._now = self._before = None
        self._restarted = False

    def abort(self) -> None:
        if self._before is not None:
            self._contents = self._before
        self._now = self._before = None

    def close(self) -> None:
        self.abort()

    def _write_snapshot(self, path: Path) -> None:
        fresh = path.with_name(path.name + ".new")
        try:
            with open(fresh, "wb") as file:
                file.write(self._contents.record())
                file.flush()
                os.fsync(file.fileno())
            os.rename(fresh, path)
            directory = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                os.fsync(directory)
            finally:
                os.close(directory)
        except OSError as e:
            raise StoreError(f"{path}: expected to write a snapshot, got: {e}. Nothing was committed; free space, then try again.") from e

    def _turn(self) -> tuple[_Contents, int]:
        """The contents to write to, and the turn's now; the first write of a turn keeps a copy for ``abort``."""
        if self._now is None:
            raise StoreError("expected a turn (begin ... commit), got a write outside of one. Call begin(now) first.")
        if self._before is None:
            self._before = self._contents.copy()
        return self._contents, self._now

    # writes

    def enqueue(self, drafts: Sequence[Draft], request: RequestId | None = None) -> Sequence[int]:
        mem, now = self._turn()
        oldest = now - self._limits.keep_requests_ms
        mem.requests = {key: kept for key, kept in mem.requests.items() if kept[0] >= oldest}
        if request is not None and request.again:
            known = mem.requests.get((request.nonce, request.number))
            if known is not None:
                return known[1]
        self._check(drafts)
        ids = []
        for draft in drafts:
            mem.last_id += 1
            pending = not draft.header.parents and draft.due_at <= now
            mem.last_seq += pending
            seq, due_at = (mem.last_seq, 0) if pending else (0, draft.due_at)
            spec = Spec(mem.last_id, draft.header, draft.payload, now, seq, due_at, draft.expires_at)
            mem.specs[spec.id] = spec
            self._move(spec, _first_status(spec))
            if spec.expires_at:
                insort(mem.timers, (spec.expires_at, "expire", spec.id))
            ids.append(spec.id)
        if request is not None:
            mem.requests[request.nonce, request.number] = (now, ids)
        return ids

    def _check(self, drafts: Sequence[Draft]) -> None:
        """Raise PayloadError or Refused if the drafts cannot all be stored."""
        tasks: Counter[str] = Counter()
        size: Counter[str] = Counter()
        for draft in drafts:
            packed = len(draft.header.packed)
            if packed > MAX_HEADER:
                raise PayloadError(f"expected at most {MAX_HEADER} bytes of names and options, got {packed}. Put data in the payload.")
            tasks[draft.header.queue] += 1
            size[draft.header.queue] += len(draft.payload)
        for queue in tasks:
            tallies = [tally for tally in self._contents.tallies.values() if tally.queue == queue]
            live = sum(count for tally in tallies for state, count in zip(State, tally.states, strict=True) if not state.final)
            stored = sum(tally.bytes for tally in tallies)
            for what, total, most in (
                ("tasks", live + tasks[queue], self._limits.queue_tasks),
                ("bytes of payload", stored + size[queue], self._limits.queue_bytes),
            ):
                if total > most:
                    message = f"queue {queue!r}: expected at most {most} {what}, got {total}. Nothing was stored; try again later."
                    raise Refused(message, queue=queue, retry_after=RETRY_AFTER)

    def _move(self, spec: Spec, new: Status) -> None:
        """Give the task its new status, with everything that follows from it: the line, timers, the claim, counts."""
        mem, _ = self._turn()
        task_id, header, old = spec.id, spec.header, mem.statuses.get(spec.id)
        tally = mem.tallies.setdefault((header.queue, header.type), Tally(header.queue, header.type))
        if old is not None:
            tally.states[old.state] -= 1
            tally.bytes -= 0 if old.state.final else len(spec.payload)
            if old.state is State.PENDING:
                _without(mem.ready[header.queue], _place(header, old, task_id))
            elif old.state in TIMED:
                _without(mem.timers, (old.due_at, "due", task_id))
            elif old.state is State.RUNNING and new.state is not State.RUNNING:
                _without(mem.timers, (mem.held.pop(task_id)[1], "lease", task_id))
        mem.statuses[task_id] = new
        tally.states[new.state] += 1
        tally.bytes += 0 if new.state.final else len(spec.payload)
        if new.state is State.PENDING:
            if not mem.ready.get(header.queue):
                self._join(header.queue)
            insort(mem.ready.setdefault(header.queue, []), _place(header, new, task_id))
        elif new.state in TIMED:
            insort(mem.timers, (new.due_at, "due", task_id))

    def _join(self, queue: str) -> None:
        """A queue that has work again starts level with the others: it has not saved up turns while it had none."""
        mem = self._contents
        others = [mem.passes[name] for name in mem.ready if name != queue and mem.ready[name] and not self._queue(name).paused]
        mem.passes[queue] = min(others, default=mem.passes.get(queue, 0.0))

    def _queue(self, name: str) -> QueueInfo:
        return self._contents.queues.get(name) or QueueInfo(name)

    def claim(self, want: Want) -> list[Claimed]:
        mem, now = self._turn()
        taken: list[int] = []
        cost = 0.0
        for task_id, passes in self._order(self._open(want.queues), want.types):
            added = want.costs.get(mem.specs[task_id].header.type, float("inf"))
            if len(taken) >= want.limit or (taken and cost + added > want.budget_ms):
                break
            cost += added
            taken.append(task_id)
            mem.passes |= passes
        claimed = []
        for task_id in taken:
            spec, old = mem.specs[task_id], mem.statuses[task_id]
            new = replace(old, state=State.RUNNING, claim=old.claim + 1, worker=want.worker, started_at=now, finished_at=0)
            self._move(spec, new)
            self._hold(Held(task_id, new.claim, want.worker, now, want.lease_ms), want.lease_ms)
            claimed.append(Claimed(task_id, new.claim, new.attempt, new.crashes, spec.header, spec.record()))
        return claimed

    def _hold(self, held: Held, lease_ms: int) -> None:
        mem, now = self._turn()
        lapses = now + lease_ms if lease_ms else 0
        mem.held[held.id] = (held, lapses)
        if lapses:
            insort(mem.timers, (lapses, "lease", held.id))

    def _open(self, queues: frozenset[str] | None) -> list[str]:
        """The queues with work that a claim for ``queues`` may take from."""
        mem = self._contents
        infos = [self._queue(name) for name in mem.ready if mem.ready[name] and (queues is None or name in queues)]
        return [info.name for info in infos if not info.paused and not (info.external and queues is None)]

    def _order(
        self, queues: Iterable[str], types: frozenset[str] | None = None, after: Mapping[str, tuple[float, Place]] | None = None
    ) -> Iterator[tuple[int, dict[str, float]]]:
        """The ready tasks of ``queues`` as promise 6 orders them, each with its queue's pass once it is taken.

        ``after`` gives, for queues that were read before, the pass and the place to go on from.
        """
        mem = self._contents
        passes: dict[str, float] = {}
        lines: dict[str, Iterator[Place]] = {}
        heads: dict[str, Place] = {}
        for name in queues:
            line, passes[name] = mem.ready[name], mem.passes[name]
            start = 0
            if after and name in after:
                passes[name], start = after[name][0], bisect_right(line, after[name][1])
            chosen = (place for place in islice(line, start, None) if types is None or mem.specs[place[2]].header.type in types)
            head = next(chosen, None)
            if head is not None:
                lines[name], heads[name] = chosen, head
        while heads:
            name = min(heads, key=lambda queue: (passes[queue], queue))
            passes[name] += 1 / self._queue(name).weight
            yield heads[name][2], {name: passes[name]}
            following = next(lines[name], None)
            if following is None:
                del heads[name]
            else:
                heads[name] = following

    def succeed(self, results: Sequence[SuccessRow]) -> list[bool]:
        mem, _ = self._turn()
        answers = []
        for end in map(Success._make, results):
            old = mem.statuses.get(end.id)
            holds = old is not None and old.state is State.RUNNING and old.claim == end.claim
            answers.append(holds)
            if old is None or not holds:
                continue
            if replace(old, state=State.PENDING, claim=0, worker="", started_at=0) == _first_status(mem.specs[end.id]):
                old = replace(old, ready_at=0)  # as first_success has it: it became ready when it was created
            new = replace(
                old, state=State.SUCCEEDED, attempt=old.attempt + 1, started_at=end.started_at, finished_at=end.finished_at,
                output=old.output or end.output, result=end.result, error=None, exit_code=None,
            )  # fmt: skip
            self._move(mem.specs[end.id], new)
            self._count(end.id, "succeeded", new)
        return answers

    def apply(self, transitions: Sequence[Transition]) -> list[Task | None]:
        mem, _ = self._turn()
        answers: list[Task | None] = []
        for change in transitions:
            old, new = mem.statuses.get(change.id), change.status
            if old is None or old.state not in change.start or change.claim not in (None, old.claim):
                answers.append(None)
                continue
            if new.state is State.RUNNING:
                new = replace(old, cancel_asked=new.cancel_asked)
            elif new.state is State.PENDING and not new.seq:
                mem.last_seq += 1
                new = replace(new, seq=mem.last_seq)
            self._move(mem.specs[change.id], new)
            self._count(change.id, change.event, new)
            answers.append(Task(mem.specs[change.id], new))
        return answers

    def _count(self, task_id: int, event: str, status: Status) -> None:
        """Add an end, and the run that came before it, to the totals."""
        header = self._contents.specs[task_id].header
        tally = self._contents.tallies[header.queue, header.type]
        tally.succeeded += status.state is State.SUCCEEDED
        tally.failed += status.state is State.FAILED
        tally.retried += status.state is State.RETRYING
        if event in RAN:
            # a task that will run again is not finished: its run stands in its attempts
            ended = status if status.state.final else status.attempts[-1]
            tally.ran(ended.finished_at - ended.started_at)

    def due(self, limit: int) -> list[tuple[str, int]]:
        mem, now = self._turn()
        found: list[tuple[str, int]] = []
        while mem.timers and mem.timers[0][0] <= now and len(found) < limit:
            _, kind, task_id = mem.timers.pop(0)
            status = mem.statuses.get(task_id)
            if status is not None and not status.state.final:  # a time to live outlives its task
                found.append((kind, task_id))
        return found

    def extend(self, task_id: int, claim: int, lease_ms: int) -> bool:
        mem, _ = self._turn()
        held, lapses = mem.held.get(task_id, (None, 0))
        if held is None or held.claim != claim or not lapses:
            return False
        _without(mem.timers, (lapses, "lease", task_id))
        self._hold(held, lease_ms)
        return True

    def remove(self, ids: Sequence[int]) -> list[bool]:
        return [self._remove(task_id) for task_id in ids]

    def _remove(self, task_id: int) -> bool:
        mem, _ = self._turn()
        status = mem.statuses.get(task_id)
        if status is None or not status.state.final:
            return False
        spec = mem.specs.pop(task_id)
        del mem.statuses[task_id]
        mem.tallies[spec.header.queue, spec.header.type].states[status.state] -= 1
        return True

    def retain(self, limits: Limits, most: int) -> list[tuple[int, bool]]:
        mem, now = self._turn()
        gone: list[int] = []
        for failed, keep_ms in ((True, limits.keep_failed_ms), (False, limits.keep_ms)):
            over = [(i, status) for i, status in mem.statuses.items() if status.state.final and (status.state is State.FAILED) == failed]
            over.sort(key=lambda pair: (pair[1].finished_at, pair[0]))
            surplus = len(over) - limits.keep
            gone += [i for n, (i, status) in enumerate(over) if n < surplus or status.finished_at < now - keep_ms]
        removed = [(task_id, mem.statuses[task_id].output) for task_id in gone[:most]]
        for task_id, _ in removed:
            self._remove(task_id)
        return removed

    def put_types(self, types: Sequence[TypeInfo]) -> None:
        mem, _ = self._turn()
        mem.types |= {info.name: info for info in types}

    def put_queue(self, queue: QueueInfo) -> None:
        if queue.weight < 1:
            raise UsageError(f"queue {queue.name!r}: expected a weight of 1 or more, got {queue.weight}. To stop a queue, pause it.")
        mem, _ = self._turn()
        resumed = self._queue(queue.name).paused and not queue.paused
        mem.queues[queue.name] = queue
        if resumed and mem.ready.get(queue.name):
            self._join(queue.name)

    def put_chore(self, chore: Chore) -> Chore:
        mem, _ = self._turn()
        if not chore.id:
            mem.last_chore += 1
            chore = replace(chore, id=mem.last_chore)
        mem.chores[chore.id] = chore
        return chore

    def drop_chore(self, chore_id: int) -> None:
        mem, _ = self._turn()
        mem.chores.pop(chore_id, None)

    # reads

    def _task(self, task_id: int) -> Task | None:
        spec = self._contents.specs.get(task_id)
        return None if spec is None else Task(spec, self._contents.statuses[task_id])

    def get(self, ids: Sequence[int]) -> list[Task | None]:
        return [self._task(task_id) for task_id in ids]

    def find(self, query: Query) -> Iterator[tuple[Task, bytes] | None]:
        in_order = query.states == frozenset({State.PENDING})
        shown = 0
        for seen, (task_id, cursor) in enumerate(self._in_order(query) if in_order else self._newest_first(query), 1):
            task = self._task(task_id)  # None: it was removed while the reader was away
            if task is not None and _matches(query, task):
                if shown == query.limit:
                    return
                shown += 1
                yield task, cursor
            if seen % SCAN_MOST == 0:
                yield None

    def _newest_first(self, query: Query) -> Iterator[tuple[int, bytes]]:
        before = None if query.before is None else unpack(query.before)
        for task_id in sorted(self._contents.specs, reverse=True):
            if before is None or task_id < before:
                yield task_id, pack(task_id)

    def _in_order(self, query: Query) -> Iterator[tuple[int, bytes]]:
        """Pending tasks as they will be claimed; those of paused and external queues as if they were open."""
        after = {name: (passed, tuple(place)) for name, passed, place in unpack(query.before)} if query.before is not None else {}
        mem = self._contents
        names = [name for name in mem.ready if mem.ready[name] and query.queue in (None, name)]
        for task_id, passes in list(self._order(names, after=after)):
            if task_id in mem.specs:
                [(name, passed)] = passes.items()
                after[name] = (passed, _place(mem.specs[task_id].header, mem.statuses[task_id], task_id))
                yield task_id, pack([[queue, *rest] for queue, rest in after.items()])

    def peek(self, limit: int, queue: str | None = None) -> list[Task]:
        order = self._order(self._open(None if queue is None else frozenset({queue})))
        specs, statuses = self._contents.specs, self._contents.statuses
        return [Task(specs[task_id], statuses[task_id]) for task_id, _ in islice(order, limit)]

    def held(self) -> list[Held]:
        return [held for _, (held, _) in sorted(self._contents.held.items())]

    def tallies(self) -> list[Tally]:
        return [_copied(tally) for _, tally in sorted(self._contents.tallies.items())]

    def queues(self) -> dict[str, QueueInfo]:
        return dict(self._contents.queues)

    def types(self) -> dict[str, TypeInfo]:
        return dict(self._contents.types)

    def chores(self) -> list[Chore]:
        return [chore for _, chore in sorted(self._contents.chores.items())]

    def last_id(self) -> int:
        return self._contents.last_id

    def ready(self) -> bool:
        return bool(self._open(None))

    def next_due(self) -> int | None:
        timers = self._contents.timers
        return timers[0][0] if timers else None


def _matches(query: Query, task: Task) -> bool:
    head = task.spec.header
    asked = (query.queue, query.type, query.tenant, query.label)
    found = (head.queue, head.type, head.tenant, head.label)
    right = all(want is None or want == got for want, got in zip(asked, found, strict=True))
    return right and (query.states is None or task.state in query.states)

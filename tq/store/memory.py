"""The store in memory: plain dicts and sorted lists, the oracle every other store is compared with.

For: tests, simulations and throwaway instances; with a snapshot file also restarts, without a database.
Not for: millions of tasks or many writers: a turn that writes copies the dicts first, a snapshot writes them all.
Runs in: the process that opens it, on one thread.
Promises: those of ``tq.store``, each carried out in the most obvious way there is; ``abort`` puts back the copy
that the first write of the turn made; a snapshot is complete or not there at all (made beside its place, synced,
renamed), and opening one gives what the last commit held, but for whose turn it is among the queues.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from tq.errors import PayloadError, StoreError, UsageError
from tq.lifecycle import Outcome, Transition, come_due, parents_over, settle, suits
from tq.model import MAX_HEADER, Header, Spec, State, Status, Task, is_name
from tq.store import (
    Account,
    Claimed,
    Draft,
    Failure,
    Held,
    KeyRef,
    LetGo,
    Limits,
    QueueInfo,
    RequestId,
    Running,
    Success,
    SuccessRow,
    Tally,
    Want,
    admit,
    arriving,
    bounds,
    checked,
    places_filled,
)
from tq.store.batches import join, moves
from tq.store.limits import FULL
from tq.store.ordered import Ordered
from tq.store.sharing import Ahead, Commands, Stock, joined, order
from tq.store.shown import Shown
from tq.store.snapshot import Contents, Owner, contents_of, write
from tq.store.tenants import admit_of

TIMED = frozenset({State.SCHEDULED, State.RETRYING})
RAN = frozenset({"succeeded", "failed", "timed_out"})


def _into(line: list[Any], value: tuple[Any, ...]) -> None:
    """Put ``value`` into a sorted list, unless it is there."""
    at = bisect_left(line, value)
    if line[at : at + 1] != [value]:
        line.insert(at, value)


def _without(line: list[Any], value: tuple[Any, ...]) -> None:
    """Take ``value`` out of a sorted list, if it is there."""
    at = bisect_left(line, value)
    if at < len(line) and line[at] == value:
        del line[at]


def _first_status(spec: Spec) -> Status:
    """The status of a task that nothing has happened to."""
    if spec.seq:
        return Status(State.PENDING, seq=spec.seq, ready_at=spec.created_at)
    return Status(State.SCHEDULED, due_at=spec.due_at)


def _names_of(header: Header) -> list[KeyRef]:
    named = (("key", header.key), ("unique", header.unique))
    return [KeyRef(kind, header.type, name) for kind, name in named if name is not None]


class MemoryStore(Ordered, Ahead, Shown, Stock, Commands):
    """See ``tq.store.Store``. ``path`` names a snapshot file, written by each commit that changed something."""

    def __init__(self, path: Path | None = None, limits: Limits = Limits()) -> None:
        self._path = path
        self._limits = limits
        self._now: int | None = None  # None: no turn
        self._latest = 0
        self._before: Contents | None = None  # None: nothing written in this turn
        self._contents = contents_of(path.read_bytes(), str(path)) if path is not None and path.exists() else Contents()
        self._restarted = True

    # the turn

    def begin(self, now: int) -> None:
        if self._now is not None:
            raise StoreError("expected a commit or an abort of the turn before, got a second begin. End the first turn.")
        if now < self._latest or self._restarted:
            self._contents.put_back(now)
        self._now = self._latest = now
        self._contents.given = 0
        if self._restarted and self._contents.held:  # nobody could extend a lease while nobody was there
            mem, _ = self._turn()
            mem.timers = [timer for timer in mem.timers if timer[1] != "lease"]
            for held, _ in list(mem.held.values()):
                self._hold(held, held.lease_ms)

    def commit(self) -> None:
        if self._before is not None and self._path is not None:
            write(self._path, self._contents.record())
        self._now = self._before = None
        self._restarted = False

    def abort(self) -> None:
        if self._before is not None:
            self._contents = self._before
        self._now = self._before = None

    def close(self) -> None:
        self.abort()

    def _turn(self) -> tuple[Contents, int]:
        """The contents to write to, and the turn's now; the first write of a turn keeps a copy for ``abort``."""
        if self._now is None:
            raise StoreError("expected a turn (begin ... commit), got a write outside of one. Call begin(now) first.")
        if self._before is None:
            self._before = self._contents.copy()
        return self._contents, self._now

    # writes

    def enqueue(self, drafts: Sequence[Draft], request: RequestId | None = None, places: Sequence[int] | None = None) -> Sequence[int]:
        mem, now = self._turn()
        if request is not None and request.again:
            known = self.sent(request)
            if known is not None:
                return known
        mem.requests = {key: kept for key, kept in mem.requests.items() if kept[0] >= now - self._limits.keep_requests_ms}
        self._check(drafts)
        ids = []
        for draft in drafts:
            mem.last_id += 1
            behind = self._waits_in_line(draft.header)
            pending = not (draft.waits or behind) and draft.due_at <= now
            mem.last_seq += pending
            seq, due_at = (mem.last_seq, 0) if pending else (0, draft.due_at)
            spec = Spec(mem.last_id, draft.header, draft.payload, now, seq, due_at, draft.expires_at)
            waits = len(draft.waits) + behind
            self._move(spec, Status(State.BLOCKED, due_at=due_at, waits=waits) if waits else _first_status(spec))
            self._comes(draft.header, spec.id, behind=behind)
            mem.children |= {(parent, spec.id) for parent in draft.waits}
            mem.keep(draft.header)
            if (tenant := draft.header.tenant) is not None:
                mem.accounts.setdefault(tenant, Account(tenant)).accept(1, now)
            mem.names |= dict.fromkeys(_names_of(draft.header), Owner(spec.id, draft.digest))
            ids.append(spec.id)
        if places is not None:
            ids = places_filled(ids, places)
        if request is not None:
            mem.requests[request.nonce, request.number] = (now, ids)
        return ids

    def _check(self, drafts: Sequence[Draft]) -> None:
        """Raise PayloadError, Refused or UsageError if the drafts cannot all be stored."""
        tasks: Counter[str] = Counter()
        size: Counter[str] = Counter()
        for draft in drafts:
            packed = len(draft.header.packed)
            if packed > MAX_HEADER:
                raise PayloadError(f"expected at most {MAX_HEADER} bytes of names and options, got {packed}. Put data in the payload.")
            tasks[draft.header.queue] += 1
            size[draft.header.queue] += len(draft.payload)
        self._admit_of(drafts)
        self._admit({queue: (tasks[queue], size[queue]) for queue in tasks})
        names = [name for draft in drafts for name in _names_of(draft.header)]
        for name in names:
            if not (is_name(name.type) and is_name(name.name)) or name in self._contents.names or names.count(name) > 1:
                raise UsageError(f"{name.kind} {name.name!r} of type {name.type!r}: expected a name that is free. Nothing was stored.")

    def _admit_of(self, drafts: Sequence[Draft]) -> None:
        """Raise QuotaReached unless each tenant may have all of its drafts."""
        mem, now = self._turn()
        for name, tenant in mem.tenants.items():
            if sizes := [len(draft.payload) for draft in drafts if draft.header.tenant == name]:
                admit_of(tenant, mem.account(name), len(sizes), sum(sizes), now)

    def _admit(self, more: dict[str, tuple[int, int]]) -> None:
        """Raise QueueFull unless so many tasks and bytes of payload more fit into each of these queues."""
        for queue, came in more.items():
            tallies = [tally for tally in self._contents.tallies.values() if tally.queue == queue]
            live = sum(count for tally in tallies for state, count in zip(State, tally.states, strict=True) if not state.final)
            admit(queue, (live, sum(tally.bytes for tally in tallies)), came, bounds(self._contents.queue(queue), self._limits))

    def _move(self, spec: Spec, new: Status) -> None:
        """Give the task its new specification and status, with everything that follows from them."""
        mem, _ = self._turn()
        was, old = mem.specs.get(spec.id), mem.statuses.get(spec.id)
        if was is not None and old is not None:
            self._leave(was, old, new)
            if spec.header.batch:
                self._member_moved(spec.header.batch, old.state, new.state)
        elif spec.header.batch:
            join(made := moves(), 1, spec.id, spec.id)
            mem.member(spec.header.batch, made)
        mem.specs[spec.id], mem.statuses[spec.id] = spec, new
        header, tally = (
            spec.header,
            mem.tallies.setdefault((spec.header.queue, spec.header.type), Tally(spec.header.queue, spec.header.type)),
        )
        tally.states[new.state] += 1
        tally.added += was is None
        if new.state.final:
            tally.kept[new.state is State.FAILED] += _size(spec, new)
            keep_ms = self._contents.queue(header.queue).keep_ms
            if keep_ms is not None and (old is None or not old.state.final):
                _into(mem.timers, (new.finished_at + keep_ms, "forget", spec.id))
        else:
            tally.bytes += len(spec.payload)
        if new.state is State.PENDING:
            if not any(mem.ready.get(header.queue, {}).values()):
                self._comes_back(header.queue)
            if not mem.waiting[header.queue, header.tenant]:
                mem.has_work(header.queue, header.tenant, new.seq)
            mem.line_up(spec, new)
        elif new.state in TIMED:
            _into(mem.timers, (new.due_at, "due", spec.id))
        if spec.expires_at and (was is None or was.expires_at != spec.expires_at):
            _into(mem.timers, (spec.expires_at, "expire", spec.id))

    def _leave(self, was: Spec, old: Status, new: Status) -> None:
        """Take the task out of where it stood: the line, timers, the claim, counts."""
        mem, _ = self._turn()
        task_id, queue = was.id, was.header.queue
        tally = mem.tallies[queue, was.header.type]
        tally.states[old.state] -= 1
        if old.state.final:
            tally.kept[old.state is State.FAILED] -= _size(was, old)
        else:
            tally.bytes -= len(was.payload)
        if old.state is State.PENDING:
            _without(mem.ready[queue][was.header.priority], (old.seq, task_id))
            mem.waiting[queue, was.header.tenant] -= 1
        elif old.state in TIMED:
            _without(mem.timers, (old.due_at, "due", task_id))
        elif old.state is State.RUNNING and new.state is not State.RUNNING:
            closed = self._contents.full(queue)
            _without(mem.timers, (mem.held.pop(task_id)[1], "lease", task_id))
            if closed and not self._contents.full(queue):
                self._comes_back(queue)

    def claim(self, want: Want) -> list[Claimed]:
        mem, now = self._turn()
        taken: list[int] = []
        cost = 0.0
        for queue in self._within(want.queues):
            if mem.lacks(queue, now):
                self._comes_back(queue)
        queues = self._open(want.queues)
        mem.turns |= joined(mem, queues)
        over = mem.over
        for one in order(mem, queues, want.types, now, reach=self._within(want.queues), want=want):
            header = mem.specs[one.id].header
            added = want.costs.get(header.type, float("inf"))
            if len(taken) >= want.limit or (taken and cost + added > want.budget_ms):
                break
            cost += added
            taken.append(one.id)
            mem.turns[header.queue], mem.had[header.queue, header.tenant], over = one.turn, one.had, one.over
        mem.over = over
        mem.given += min(len(taken), want.at_once or 0)
        claimed = []
        for task_id in taken:
            spec, old = mem.specs[task_id], mem.statuses[task_id]
            new = replace(old, state=State.RUNNING, claim=old.claim + 1, worker=want.worker, started_at=now, finished_at=0)
            self._move(spec, new)
            for name, of in mem.counted(spec.header):
                mem.tokens[name, of] = mem.limits[name].taken(mem.tokens.get((name, of), FULL), 1, now)
            self._hold(Held(task_id, new.claim, want.worker, now, want.lease_ms), want.lease_ms)
            claimed.append(Claimed(task_id, new.claim, new.attempt, new.crashes, spec.header, spec.record(), new.failures))
        return claimed

    def _hold(self, held: Held, lease_ms: int) -> None:
        mem, now = self._turn()
        lapses = now + lease_ms if lease_ms else 0
        mem.held[held.id] = (held, lapses)
        if lapses:
            _into(mem.timers, (lapses, "lease", held.id))

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
            self._end_names(end.id)
            self._goes(mem.specs[end.id].header, end.id)
            self._move(mem.specs[end.id], new)
            self._end(mem.specs[end.id], old, new)
            self._count(end.id, "succeeded", new)
        return answers

    def awaited(self, ids: Iterable[int]) -> Collection[int]:
        return {parent for parent, _ in self._contents.children} & set(ids)

    def children(self, parent: int, limit: int, after: int = 0) -> list[int]:
        return sorted(child for of, child in self._contents.children if of == parent and child > after)[:limit]

    def states(self, ids: Sequence[int]) -> list[State | None]:
        return [None if (task := self._task(task_id)) is None else task.state for task_id in ids]

    def running(self, ids: Sequence[int]) -> list[Running | None]:
        found: list[Running | None] = []
        for task_id in ids:
            task = self._task(task_id)
            if task is None or task.state is not State.RUNNING:
                found.append(None)
                continue
            head, status = task.spec.header, task.status
            plain = not (status.cancel_asked or task.spec.expires_at or head.deadline_ms or head.retry_for_ms or head.once)
            found.append(Running(status.claim, head, status.failures, plain))
        return found

    def retry_later(self, failures: Sequence[Failure]) -> list[bool]:
        held = []
        for one in failures:
            task = self._task(one.id)
            if task is None or task.state is not State.RUNNING or task.status.claim != one.claim:
                held.append(False)
                continue
            outcome = Outcome(
                "failed", one.started_at, one.finished_at, output=one.output, delay_ms=one.due_at,
                error=one.details.get("error"), exit_code=one.details.get("exit_code"),
            )  # fmt: skip
            held.append(self.apply([settle(task, outcome, 0, 0.0)])[0] is not None)
        return held

    def promote(self, limit: int) -> list[int]:
        mem, now = self._turn()
        due = [task_id for at, kind, task_id in mem.timers if at <= now and kind == "due"][:limit]
        for task_id in due:
            task = self._task(task_id)
            assert task is not None
            self.apply([come_due(task, now)])
        return due

    def apply(self, transitions: Sequence[Transition]) -> list[Task | None]:
        self._admit(arriving((self._task(change.id), change) for change in transitions))
        return [self._apply(change) for change in transitions]

    def change(self, ids: Sequence[int], decide: Callable[[Task], Transition | None]) -> list[tuple[Transition, Task | None]]:
        changes = [change for task in self.get(ids) if task is not None and (change := decide(task)) is not None]
        return list(zip(changes, self.apply(changes), strict=True))

    def let_go(self, ends: Mapping[int, Mapping[int, State]]) -> LetGo:
        done = LetGo([], [], [])
        for child, parents in ends.items():
            task = self._task(child)
            if task is None or task.state is not State.BLOCKED:
                continue
            if not all(suits(task.spec.header, parent, state) for parent, state in parents.items()):
                done.rest.append(child)
                continue
            change = parents_over(task, parents, self._turn()[1])
            self._apply(change)
            (done.waiting if change.event == "parent_over" else done.unblocked).append(child)
        return done

    def _apply(self, change: Transition) -> Task | None:
        mem, _ = self._turn()
        old, new = mem.statuses.get(change.id), change.status
        if old is None or old.state not in change.start or change.claim not in (None, old.claim):
            return None
        spec = change.spec or mem.specs[change.id]
        if new.state.final and not old.state.final:
            self._end_names(change.id)
        elif not new.state.final and not self._live_on(mem.specs[change.id], spec, again=old.state.final):
            return None
        new = self._follow(mem.specs[change.id], old.state, spec, new)
        if new.state is State.RUNNING:
            new = replace(old, cancel_asked=new.cancel_asked)
        elif new.state is State.PENDING and not new.seq:
            mem.last_seq += 1
            new = replace(new, seq=mem.last_seq)
        for name, of in mem.counted(spec.header) if change.event == "released" else ():
            mem.tokens[name, of] = mem.limits[name].given_back(mem.tokens.get((name, of), FULL), mem.held[change.id][0].claimed_at)
        if spec.expires_at != mem.specs[change.id].expires_at:
            _without(mem.timers, (mem.specs[change.id].expires_at, "expire", change.id))
        self._move(spec, new)
        self._end(spec, old, new)
        if change.parents or (old.waits and not new.waits):
            mem.children -= {(parent, change.id) for parent in (change.parents or spec.header.parents)}
        mem.children |= {(parent, change.id) for parent in change.waits}
        self._count(change.id, change.event, new)
        return Task(spec, new)

    def _end_names(self, task_id: int) -> None:
        """A task ends: its unique name is free, its key will be."""
        mem, now = self._turn()
        until = now + self._limits.keep_keys_ms
        for ref in _names_of(mem.specs[task_id].header):
            owner = mem.names.get(ref)
            if owner is not None and owner.id == task_id:
                if ref.kind == "unique":
                    del mem.names[ref]
                else:
                    mem.names[ref] = replace(owner, until=mem.free_name_at(until, task_id))

    def _live_on(self, was: Spec, now: Spec, *, again: bool) -> bool:
        """Let the names follow a task that lives on, or lives ``again``; False if another holds one of them."""
        mem, _ = self._turn()
        old, new = _names_of(was.header), _names_of(now.header)
        if old == new and not again:
            return True
        own = {ref: owner for ref in old if (owner := mem.names.get(ref)) is not None and owner.id == was.id}
        for ref in new:  # a key that ran out may have found another task since; a unique name may not
            if ref in mem.names and ref not in own and (ref.kind == "unique" or ref not in old):
                return False
        for ref in own:
            del mem.names[ref]
        digests = {ref.kind: owner.digest for ref, owner in own.items()}
        for ref in new:
            if ref.kind == "unique" or ref.kind in digests:
                mem.names[ref] = Owner(was.id, digests.get(ref.kind, b""))
        return True

    def _end(self, spec: Spec, old: Status, new: Status) -> None:
        """The account of a tenant: of what is over it has only how it ended."""
        if spec.header.tenant is not None and new.state.final and not old.state.final:
            self._contents.accounts[spec.header.tenant].states[new.state] += 1

    def _count(self, task_id: int, event: str, status: Status) -> None:
        """Add an end, and the run that came before it, to the totals."""
        header = self._contents.specs[task_id].header
        tally = self._contents.tallies[header.queue, header.type]
        if event != "edited":
            tally.succeeded += status.state is State.SUCCEEDED
            tally.failed += status.state is State.FAILED
            tally.retried += status.state is State.RETRYING
        if event in RAN:
            # a task that will run again is not finished: its run stands in its attempts
            ended = status if status.state.final else status.attempts[-1]
            tally.ran(ended.finished_at - ended.started_at)
            if header.tenant is not None:
                self._contents.accounts[header.tenant].ran(ended.finished_at - ended.started_at)

    def due(self, limit: int) -> list[tuple[str, int]]:
        mem, now = self._turn()
        found: list[tuple[str, int]] = []
        timers = [timer for timer in mem.timers if timer[0] <= now and timer[1] not in ("due", "slot")]
        leases = [timer for timer in timers if timer[1] == "lease"][: (limit + 1) // 2]
        for timer in [*(timer for timer in timers if timer[1] != "lease"), *leases]:
            if timer[1] != "lease" and len(found) + len(leases) >= limit:
                continue
            mem.timers.remove(timer)
            at, kind, task_id = timer
            status = mem.statuses.get(task_id)
            if kind == "batch":
                self._lapse_batch(task_id)
            elif kind == "key":
                mem.names = {ref: owner for ref, owner in mem.names.items() if (owner.id, owner.until) != (task_id, at)}
            elif status is not None and kind == "forget":
                keep_ms = self._contents.queue(mem.specs[task_id].header.queue).keep_ms
                if keep_ms is not None and status.state.final:
                    again = (status.finished_at + keep_ms, kind, task_id)
                    if again[0] <= now:
                        found.append((kind, task_id))
                    else:  # it has lived again since, or its queue keeps longer now
                        _into(mem.timers, again)
            elif status is not None and not status.state.final:  # a time to live outlives its task
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

    def stepped(self, ms: int) -> None:
        mem = self._contents
        mem.timers = sorted((at + ms if kind == "lease" else at, kind, task_id) for at, kind, task_id in mem.timers)
        mem.held = {task_id: (held, lapses and lapses + ms) for task_id, (held, lapses) in mem.held.items()}

    def remove(self, ids: Sequence[int]) -> list[bool]:
        return [self._remove(task_id) for task_id in ids]

    def _remove(self, task_id: int) -> bool:
        mem, _ = self._turn()
        status = mem.statuses.get(task_id)
        if status is None or status.state is State.RUNNING:
            return False
        if not status.state.final:
            self._end_names(task_id)
            if batch := mem.specs[task_id].header.batch:
                self._member_moved(batch, status.state, State.CANCELLED)
        spec = mem.specs.pop(task_id)
        mem.let_go(spec)
        self._goes(spec.header, task_id)
        mem.children -= {(parent, task_id) for parent in spec.header.parents}
        self._leave(spec, mem.statuses.pop(task_id), status)
        return True

    def short(self) -> bool:
        return False

    def retain(self, limits: Limits, most: int) -> list[tuple[int, bool]]:
        mem, now = self._turn()
        gone: list[int] = []
        for failed, keep_ms in ((True, limits.keep_failed_ms), (False, limits.keep_ms)):
            over = [(i, status) for i, status in mem.statuses.items() if status.state.final and (status.state is State.FAILED) == failed]
            over.sort(key=lambda pair: (pair[1].finished_at, pair[0]))
            tasks, size = len(over), sum(_size(mem.specs[i], status) for i, status in over)
            for i, status in over:
                if tasks <= limits.keep and size <= limits.keep_bytes and status.finished_at >= now - keep_ms:
                    break
                gone.append(i)
                tasks -= 1
                size -= _size(mem.specs[i], status)
        removed = [(task_id, mem.statuses[task_id].output) for task_id in gone[:most]]
        for task_id, _ in removed:
            self._remove(task_id)
        return removed

    def put_queue(self, queue: QueueInfo) -> None:
        mem, _ = self._turn()
        queue = checked(queue)
        closed = self._contents.queue(queue.name).paused or self._contents.full(queue.name)
        mem.queues[queue.name] = queue
        if closed and not (queue.paused or self._contents.full(queue.name)):
            self._comes_back(queue.name)

    # reads

    def last_id(self) -> int:
        return self._contents.last_id

    def ready(self) -> bool:
        return bool(self._open(None))

    def next_due(self) -> int | None:
        mem = self._contents
        instants = [at for at, *_ in mem.timers[:1]]
        if (allowance := mem.allowance(self._latest)) is not None:
            ready = [spec.header.lane for spec in mem.specs.values() if mem.statuses[spec.id].state is State.PENDING]
            instants += [at for lane in ready for at in allowance.wakes_at(lane)]
        return min(instants, default=None)


def _size(spec: Spec, status: Status) -> int:
    """What a finished task takes: the bytes of its records."""
    return len(spec.record()) + len(status.record(spec.id))

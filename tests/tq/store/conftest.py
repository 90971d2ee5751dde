"""Every store, driven one turn a call by a clock that is turned by hand."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from tq.lifecycle import Outcome, Transition, cancel, come_due, edit, retry, run_out, settle
from tq.model import Header, Spec, State, Status, Task
from tq.store import (
    Chore,
    Claimed,
    Draft,
    Event,
    Held,
    KeyRef,
    Limit,
    Limits,
    Query,
    QueueInfo,
    RequestId,
    Resource,
    Store,
    Success,
    Tally,
    Tenant,
    TypeInfo,
    Want,
)

STORES = {"memory": ("tq.store.memory", "MemoryStore"), "lmdb": ("tq.store.lmdb", "LmdbStore")}
EVERYTHING = Query(limit=1_000_000)


class Lost(Exception):
    """Ends a turn with an abort."""


class Driver:
    """One store and its clock. A verb of the protocol called here is a turn of its own."""

    def __init__(self, kind: str, path: Path) -> None:
        module, name = STORES[kind]
        self._make: Callable[..., Store] = getattr(import_module(module), name)
        self._path = path
        self.kind = kind
        self.now = 1_000_000
        self.raw = self._make(path)

    def reopen(self, limits: Limits = Limits()) -> None:
        """Close the store and open what it left behind, as a restart does."""
        self.raw.close()
        self.raw = self._make(self._path, limits)

    @contextmanager
    def turn(self) -> Iterator[Store]:
        """A turn of several operations: committed at the end, aborted (quietly) by ``raise store.lost``."""
        self.raw.begin(self.now)
        try:
            yield self.raw
        except BaseException as e:
            self.raw.abort()
            if not isinstance(e, Lost):
                raise
        else:
            self.raw.commit()

    lost = Lost

    # writes: each in a turn of its own

    def add(
        self,
        count: int = 1,
        kind: str = "t",
        *,
        payload: bytes = b"",
        due_in: int = 0,
        ttl: int = 0,
        digest: bytes = b"",
        request: RequestId | None = None,
        **head: Any,
    ) -> list[int]:
        """Accept ``count`` tasks of one kind; ``head`` are fields of the header, times are ms from now."""
        return self.enqueue([self.draft(kind, payload=payload, due_in=due_in, ttl=ttl, digest=digest, **head)] * count, request)

    def draft(
        self, kind: str = "t", *, payload: bytes = b"", due_in: int = 0, ttl: int = 0, digest: bytes = b"", **head: Any
    ) -> Draft:  # fmt: skip
        times = self.now + due_in if due_in else 0, self.now + ttl if ttl else 0
        return Draft(Header(kind, **head), payload, *times, digest, head.get("parents", ()))

    def enqueue(self, drafts: Sequence[Draft], request: RequestId | None = None, places: Sequence[int] | None = None) -> list[int]:
        with self.turn() as raw:
            return list(raw.enqueue(drafts, request, places))

    def claim(self, limit: int = 1, worker: str = "w1", budget_ms: float = float("inf"), **want: Any) -> list[Claimed]:
        with self.turn() as raw:
            return raw.claim(Want(worker, limit, budget_ms, **want))

    def take(self, task_id: int, **want: Any) -> Claimed:
        """Claim the next task, which must be ``task_id``."""
        (claimed,) = self.claim(**want)
        assert claimed.id == task_id
        return claimed

    def succeed(self, *ends: Claimed, ran: int = 0, output: bool = False, result: bytes | None = None) -> list[bool]:
        with self.turn() as raw:
            return raw.succeed([Success(end.id, end.claim, self.now - ran, self.now, output, result) for end in ends])

    def settle(self, claimed: Claimed, kind: str, **outcome: Any) -> Task:
        """End a hand-out as ``kind`` says; it must still be the newest."""
        task = self.get(claimed.id)
        change = settle(task, Outcome(kind, **outcome), self.now, 0.5)
        found = self.apply(replace(change, claim=claimed.claim))
        assert found is not None
        return found

    def cancel(self, task_id: int) -> Task | None:
        change = cancel(self.get(task_id), self.now)
        return None if change is None else self.apply(change)

    def retry(self, task_id: int, **changes: Any) -> Task | None:
        """``changes`` are fields of the header, or its payload."""
        change = retry(self.get(task_id), self.now, self._changed(task_id, **changes) if changes else None)
        return None if change is None else self.apply(change)

    def edit(self, task_id: int, *, due_in: int | None = None, **changes: Any) -> Task | None:
        """The same; ``due_in`` is when it is due, in ms from now."""
        change = edit(self.get(task_id), self._changed(task_id, **changes), None if due_in is None else self.now + due_in, self.now)
        return None if change is None else self.apply(change)

    def _changed(self, task_id: int, *, payload: bytes | None = None, ttl: int | None = None, **head: Any) -> Spec:
        spec = self.get(task_id).spec
        return replace(
            spec, header=replace(spec.header, **head), payload=spec.payload if payload is None else payload,
            expires_at=spec.expires_at if ttl is None else self.now + ttl if ttl else 0,
        )  # fmt: skip

    def come_due(self, task_id: int) -> Task | None:
        return self.apply(come_due(self.get(task_id), self.now))

    def run_out(self, task_id: int) -> Task | None:
        return self.apply(run_out(self.get(task_id), self.now))

    def apply(self, change: Transition) -> Task | None:
        with self.turn() as raw:
            return raw.apply([change])[0]

    def due(self, limit: int = 100) -> list[tuple[str, int]]:
        with self.turn() as raw:
            return raw.due(limit)

    def promote(self, limit: int = 100) -> list[int]:
        with self.turn() as raw:
            return raw.promote(limit)

    def extend(self, claimed: Claimed, lease_ms: int) -> bool:
        with self.turn() as raw:
            return raw.extend(claimed.id, claimed.claim, lease_ms)

    def remove(self, *ids: int) -> list[bool]:
        with self.turn() as raw:
            return raw.remove(ids)

    def retain(self, limits: Limits, most: int = 1000) -> list[tuple[int, bool]]:
        with self.turn() as raw:
            return raw.retain(limits, most)

    def sent(self, request: RequestId) -> list[int] | None:
        """In a turn, whose now says how long ago that was."""
        with self.turn() as raw:
            found = raw.sent(request)
        return None if found is None else list(found)

    def note(self, what: str, **more: Any) -> Event:
        with self.turn() as raw:
            return raw.note(Event(0, self.now, "user 1 (pid 2)", what, "queue 'q'", **more))

    def put_queue(self, name: str, **settings: Any) -> None:
        with self.turn() as raw:
            raw.put_queue(QueueInfo(name, **settings))

    def put_resource(self, name: str, amount: int | None) -> None:
        """How much there is of it; None: it is gone."""
        with self.turn() as raw:
            if amount is None:
                raw.drop_resource(name)
            else:
                raw.put_resource(Resource(name, amount))

    def put_limit(self, name: str, scope: str, of: str | None = None, **more: int) -> None:
        with self.turn() as raw:
            raw.put_limit(Limit(name, scope, of, **more))

    def drop_limit(self, name: str) -> None:
        with self.turn() as raw:
            raw.drop_limit(name)

    def put_tenant(self, name: str, **more: int) -> None:
        with self.turn() as raw:
            raw.put_tenant(Tenant(name, **more))

    def drop_tenant(self, name: str) -> None:
        with self.turn() as raw:
            raw.drop_tenant(name)

    def put_types(self, *types: TypeInfo) -> None:
        with self.turn() as raw:
            raw.put_types(types)

    def put_chore(self, chore: Chore) -> Chore:
        with self.turn() as raw:
            return raw.put_chore(chore)

    def drop_chore(self, chore_id: int) -> None:
        with self.turn() as raw:
            raw.drop_chore(chore_id)

    # reads

    def get(self, task_id: int) -> Task:
        (task,) = self.raw.get([task_id])
        assert task is not None
        return task

    def state(self, task_id: int) -> State:
        return self.get(task_id).state

    def page(self, **query: Any) -> list[tuple[int, bytes]]:
        """One page: ids, each with the cursor behind it."""
        return [(row[0].id, row[1]) for row in self.raw.find(Query(**query)) if row is not None]

    def ids(self, **query: Any) -> list[int]:
        return [task_id for task_id, _ in self.page(**query)]

    def peek(self, limit: int = 100, queue: str | None = None) -> list[int]:
        return [one.id for one in self.raw.peek(limit, queue)]

    def reasons(self, limit: int = 100, queue: str | None = None) -> list[tuple[int, str]]:
        return [(one.id, one.why) for one in self.raw.peek(limit, queue)]

    def holder(self, name: str, kind: str = "unique", type_: str = "t") -> int | None:
        """Which task holds a name."""
        (found,) = self.raw.holders([KeyRef(kind, type_, name)])
        return None if found is None else found.id

    def held(self) -> list[Held]:
        return sorted(self.raw.held(), key=lambda held: held.id)

    def tally(self, queue: str = "default", kind: str = "t") -> Tally:
        (found,) = [tally for tally in self.raw.tallies() if (tally.queue, tally.type) == (queue, kind)]
        return deepcopy(found)

    def everything(self) -> list[object]:
        """All that a reader can see, for "nothing has changed"."""
        tasks = [shown(row[0]) for row in self.raw.find(EVERYTHING) if row is not None]
        tallies = sorted(
            (deepcopy(tally) for tally in self.raw.tallies() if any(tally.states)), key=lambda tally: (tally.queue, tally.type)
        )
        return [tasks, tallies, self.held(), self.peek(), self.raw.types(), self.raw.chores(), self.raw.last_id(), self.raw.next_due()]

    def check(self) -> None:
        """The counts equal a recount, the claims the running tasks, what is next the pending ones."""
        tasks = [row[0] for row in self.raw.find(EVERYTHING) if row is not None]
        kinds = {(tally.queue, tally.type): tally for tally in self.raw.tallies()}
        assert {(task.spec.header.queue, task.spec.header.type) for task in tasks} <= kinds.keys()
        for (queue, type_), tally in kinds.items():
            mine = [task for task in tasks if (task.spec.header.queue, task.spec.header.type) == (queue, type_)]
            assert tally.states == [sum(task.state is state for task in mine) for state in State]
            assert tally.bytes == sum(len(task.spec.payload) for task in mine if not task.state.final)
            assert tally.runs == sum(tally.times.values())
            ended = [task for task in mine if task.state.final]
            sizes = [(task.state is State.FAILED, len(task.spec.record()) + len(task.status.record(task.id))) for task in ended]
            assert tally.kept == [sum(size for failed, size in sizes if failed is which) for which in (False, True)]
        for account in self.raw.accounts("", 1000):
            mine = [task for task in tasks if task.spec.header.tenant == account.tenant and not task.state.final]
            assert account.states[: State.SUCCEEDED] == [sum(task.state is state for task in mine) for state in State if not state.final]
            assert account.bytes == sum(len(task.spec.payload) for task in mine)
        running = {(task.id, task.status.claim, task.status.worker) for task in tasks if task.state is State.RUNNING}
        assert {(held.id, held.claim, held.worker) for held in self.held()} == running
        pending = {task.id for task in tasks if task.state is State.PENDING}
        assert set(self.ids(states=frozenset({State.PENDING}), limit=1_000_000)) == pending
        for name in {task.spec.header.queue for task in tasks}:
            line = [task for task in tasks if task.id in pending and task.spec.header.queue == name]
            order = [task.id for task in sorted(line, key=lambda task: (-task.spec.header.priority, task.status.seq))]
            assert self.ids(states=frozenset({State.PENDING}), queue=name, limit=1_000_000) == order


def shown(task: Task) -> tuple[int, Status]:
    """A task for comparing; ``ready_at`` 0 means "when it was created"."""
    return (task.id, replace(task.status, ready_at=task.status.ready_at or task.spec.created_at))


@pytest.fixture(params=STORES)
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Driver]:
    """Each store in turn, empty; what it holds at the end must agree with itself, also after a restart."""
    driver = Driver(request.param, tmp_path / "store")
    try:
        yield driver
        driver.check()
        driver.reopen()
        driver.check()
    finally:
        driver.raw.close()

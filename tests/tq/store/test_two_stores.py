"""Every store beside the one in memory: whose turn it is, with several queues, weights, slots, needs and ageing at once.

The model test has one queue at a time; here the simplest store is the model of the fast one.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.tq.store.conftest import Driver
from tq.lifecycle import Outcome, cancel, settle
from tq.model import State, needs_of
from tq.store import Query, QuotaReached, Success, Want

QUEUES = "abc"
PENDING = Query(frozenset({State.PENDING}), limit=1000)

NEEDS = [needs_of(1, {}), needs_of(1, {}), needs_of(1, {"g": 1}), needs_of(1, {"g": 2}), needs_of(2, {}), needs_of(2, {"g": 1, "h": 1})]
adds = st.tuples(
    st.just("add"), st.sampled_from(QUEUES), st.integers(0, 3), st.sampled_from("xy"), st.integers(1, 4), st.sampled_from(NEEDS),
    st.sampled_from([None, None, "x", "y"]),
)  # fmt: skip
claims = st.tuples(
    st.just("claim"), st.sampled_from([1, 2, 3, 9]), st.sampled_from([None, None, frozenset("a"), frozenset("ab"), frozenset("c")]),
    st.sampled_from([None, None, frozenset("x")]), st.booleans(), st.sampled_from([None, None, (1, 1, 2), (2, 3, 3), (0, 1, 2), (1, 0, 2)]),
)  # fmt: skip
ends = st.tuples(st.just("end"), st.integers(0, 99), st.sampled_from(["succeeded", "released", "crashed", "failed"]))
cancels = st.tuples(st.just("cancel"), st.integers(0, 99))
queues = st.tuples(
    st.just("queue"), st.sampled_from(QUEUES), st.booleans(), st.sampled_from([1, 2, 4]), st.booleans(), st.sampled_from([0, 20]),
    st.sampled_from([0, 1, 2, 3]), st.sampled_from([0, 0, 1, 3]),
)  # fmt: skip
resources = st.tuples(st.just("resource"), st.sampled_from("gh"), st.sampled_from([1, 2, 2, 3, None]))
limits = st.tuples(
    st.just("limit"), st.sampled_from("mn"),
    st.sampled_from([("queue", "a"), ("type", "x"), ("tenant", None), ("flow", None), ("flow", "x1")]),
    st.sampled_from([0, 0, 1, 3]), st.sampled_from([1, 2]), st.sampled_from([0, 1, 2]),
)  # fmt: skip
tenants = st.tuples(
    st.just("tenant"), st.sampled_from("xy"), st.sampled_from([0, 0, 1, 2]), st.sampled_from([0, 0, 9, 30]), st.sampled_from([1, 2, 4])
)  # fmt: skip
times = st.tuples(st.just("time"), st.sampled_from([1, 25]))
steps = st.lists(
    st.one_of(
        adds,
        adds,
        claims,
        claims,
        claims,
        ends,
        ends,
        cancels,
        queues,
        resources,
        resources,
        limits,
        limits,
        tenants,
        times,
        times,
        st.just(("restart",)),
    ),
    max_size=60,
)


@contextmanager
def both() -> Iterator[tuple[Driver, Driver]]:
    """Two empty stores."""
    folder = Path(tempfile.mkdtemp(prefix="tq-two-"))
    stores = (Driver("memory", folder / "memory"), Driver("lmdb", folder / "lmdb"))
    try:
        yield stores
    finally:
        for store in stores:
            store.raw.close()
        shutil.rmtree(folder)


def step(store: Driver, verb: str, *args: Any) -> object:
    """Carry out one step; what can be seen of it."""
    if verb == "add":
        queue, level, kind, count, needs, tenant = args
        flow = f"{kind}{count % 2}" if level < 2 else None
        with suppress(QuotaReached):
            return store.add(count, kind=kind, queue=queue, priority=level, tenant=tenant, needs=needs, flow=flow)
        return "refused"
    if verb == "claim":
        limit, named, types, lost, pool = args
        want = Want("w", limit, float("inf"), queues=named, types=types, lease_ms=0 if pool else 1 << 40)
        want = replace(want, at_once=pool[0], free=pool[1], slots=pool[2]) if pool else want
        with store.turn() as raw:
            taken = [(one.id, one.claim) for one in [*raw.claim(want), *raw.claim(replace(want, worker="v"))]]
            if lost:
                raise store.lost
        return taken
    if verb == "end":
        at, how = args
        held = store.held()
        if held and how == "succeeded":
            one = store.get(held[at % len(held)].id)
            with store.turn() as raw:
                raw.succeed([Success(one.id, one.status.claim, store.now, store.now, False, None)])
        elif held:
            task = store.get(held[at % len(held)].id)
            store.apply(settle(task, Outcome(how), store.now, 0.5))
    elif verb == "cancel":
        pending = store.ids(states=frozenset({State.PENDING}), limit=1000)
        if pending:
            store.apply(cancel(store.get(sorted(pending)[args[0] % len(pending)]), store.now))
    elif verb == "queue":
        name, paused, weight, external, aging_ms, aging_share, slots = args
        store.put_queue(
            name, paused=paused, weight=weight, external=external, aging_ms=aging_ms, aging_share=aging_share, slots=slots
        )  # fmt: skip
    elif verb == "resource":
        store.put_resource(*args)
    elif verb == "limit":
        name, (scope, of), rate, burst, running = args
        if rate or running:
            store.put_limit(name, scope, of, rate=rate, per_ms=20, burst=burst, running=running)
        else:
            store.drop_limit(name)
    elif verb == "tenant":
        name, running, queued, weight = args
        if running or queued or weight > 1:
            store.put_tenant(name, running=running, queued=queued, weight=weight)
        else:
            store.drop_tenant(name)
    elif verb == "time":
        store.now += args[0]
    else:
        store.reopen()
        with store.turn():
            pass
    return None


def limits_of(store: Driver) -> list[object]:
    """How far each limit is used, and of each ready task which of them hold it."""
    used = [(name, sorted(store.raw.limited(one, 99))) for name, one in sorted(store.raw.limits().items())]
    tasks = [row[0].spec for row in store.raw.find(PENDING) if row is not None]
    return [*used, *((spec.id, sorted(store.raw.reached(spec.header), key=lambda pair: pair[0].name)) for spec in tasks)]


def accounts_of(store: Driver) -> list[object]:
    """What there is of each tenant, and of all of them."""
    return [store.raw.account(None), store.raw.account("x"), store.raw.accounts("", 99)]


@settings(max_examples=200, deadline=None, suppress_health_check=list(HealthCheck))
@given(steps)
def test_all_stores_give_the_same_tasks_the_same_turns(history):
    with both() as (memory, lmdb):
        for one in history:
            assert step(memory, *one) == step(lmdb, *one)
            assert memory.reasons() == lmdb.reasons()
            assert memory.raw.ready() == lmdb.raw.ready() >= bool(memory.reasons())  # what is kept for others is ready
            assert memory.raw.in_use() == lmdb.raw.in_use()
            assert memory.raw.in_use(2) == lmdb.raw.in_use(2)
            assert limits_of(memory) == limits_of(lmdb)
            assert accounts_of(memory) == accounts_of(lmdb)
            assert memory.raw.heaviest("x") == lmdb.raw.heaviest("x")
            for queue in QUEUES:
                assert memory.reasons(queue=queue) == lmdb.reasons(queue=queue)
            assert [row[0].id for row in memory.raw.find(PENDING) if row] == [row[0].id for row in lmdb.raw.find(PENDING) if row]

"""The pool and heavy tasks: what claims are told of its slots, and how many workers it has for them."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.tq.test_pool import Yard, now_ms
from tq.model import Header, needs_of, pack
from tq.store import Draft, Success, Want
from tq.store.lmdb import LmdbStore
from tq.store.memory import MemoryStore

HEAVY = needs_of(2, {})


class Shop(Yard):
    """A pool that is fed by a store, as the daemon does it."""

    def __init__(self, folder: Path, store: MemoryStore | LmdbStore, **more: Any) -> None:
        super().__init__(folder, **more)
        self.store = store
        self.pool.backlog, self.pool.heaviest = self.backlog, store.heaviest
        self.pool.beside = lambda: store.in_use().workers
        self.most = 0

    def backlog(self, _types: Any) -> int:
        return sum(task.spec.header.slots for task in self.store.get([one.id for one in self.store.peek(99)]) if task is not None)

    def add(self, count: int, kind: str, *args: Any, **head: Any) -> list[int]:
        self.store.begin(now_ms())
        ids = self.store.enqueue([Draft(Header(kind, **head), pack([*args]))] * count)
        self.store.commit()
        return list(ids)

    def turn(self) -> None:
        self.loop.poll(0.005)
        now = now_ms()
        self.pool.tick(now)
        wants = self.pool.wants(now)
        self.store.begin(now)
        for row in self.pool.settled():
            self.rows[row[0]] = list(row)
            assert self.store.succeed([Success(row[0], row[1], row[3], row[4], False, None)]) == [True], row
        grants = [(want, self.store.claim(want)) for want in wants]
        self.store.commit()
        for want, tasks in grants:
            if tasks:
                self.pool.hand_out(want, tasks, now, now)
        self.pool.scale(now)
        (active, total), weights = self.pool.slots, [self.slots_of(one.id) for one in self.store.held()]
        self.most = max(self.most, active)
        assert active <= total
        standing = all(child.state == "ready" for child in self.pool.workers) and self.pool.workers
        if standing and all(weights):
            assert sum(weights) <= total, "more runs than there are slots for"

    def slots_of(self, task_id: int) -> int:
        """Slots that a task takes; 0 for a quick one, which may wait in line."""
        (task,) = self.store.get([task_id])
        assert task is not None
        return 0 if task.spec.header.type == "quick" else task.spec.header.slots


@pytest.fixture(params=[MemoryStore, LmdbStore])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Any:
    return request.param(tmp_path / "store")


@pytest.fixture
def shop_with(data_dir: Path, store: Any) -> Iterator[Callable[..., Shop]]:
    made: list[Shop] = []

    def make(**options: Any) -> Shop:
        made.append(Shop(data_dir, store, **options))
        made[-1].start()
        return made[-1]

    yield make
    for one in made:
        assert Yard.end(one) == []
    store.close()


@pytest.mark.parametrize(("workers", "slots"), [(3, 1), (1, 3)])
def test_a_heavy_task_leaves_so_many_slots_empty(shop_with: Any, store: Any, tmp_path: Path, workers: int, slots: int) -> None:
    shop = shop_with(workers=workers, slots=slots)
    (heavy,) = shop.add(1, "gate", str(tmp_path / "open"), needs=HEAVY)
    light = shop.add(4, "slow", 0.05)
    shop.until(lambda: len(store.held()) == 2, "one beside the heavy one")
    assert {one.id for one in store.held()} == {heavy, light[0]}
    assert shop.pool.slots == (3, 3)
    shop.until(lambda: set(light) <= shop.rows.keys(), "the light ones")
    assert heavy not in shop.rows  # they went one by one beside it
    (tmp_path / "open").touch()
    assert shop.results(heavy, *light) == [0] * 5
    assert store.in_use().workers == 0


def test_a_heavy_task_waits_for_slots_while_others_go_and_then_has_them_alone(shop_with: Any, store: Any, tmp_path: Path) -> None:
    shop = shop_with(workers=2)
    (long,) = shop.add(1, "gate", str(tmp_path / "open"))
    shop.until(store.held, "it runs")
    heavy = shop.add(2, "slow", 0.1, needs=HEAVY)
    (light,) = shop.add(1, "slow", 0.05)
    shop.until(lambda: light in shop.rows, "the light one goes before")
    assert long not in shop.rows
    (tmp_path / "open").touch()
    shop.results(*heavy)
    first, second = (shop.rows[task_id] for task_id in heavy)
    assert second[3] >= first[4] - 5  # one after the other: each takes both


def test_nothing_that_needs_something_is_sent_ahead_to_a_busy_worker(shop_with: Any, store: Any) -> None:
    shop = shop_with(workers=1)
    shop.results(*shop.add(300, "quick"))  # its cost is known
    assert "quick" in shop.pool._costs.known
    shop.add(1, "slow", 0.3)
    shop.until(store.held, "it runs")
    ids = shop.add(3, "quick", needs=HEAVY) + shop.add(3, "quick", needs=needs_of(1, {"gpu": 1}))
    store.begin(now_ms())
    want = Want("w1", 512, 20.0, shop.pool._costs.known, types=frozenset({"quick"}), at_once=0, free=0, slots=1)
    assert store.claim(want) == []
    store.commit()
    assert {one.id for one in store.held()}.isdisjoint(ids)


def test_workers_are_started_for_a_heavy_task_though_one_is_idle(shop_with: Any, store: Any) -> None:
    shop = shop_with(workers=1, most=3)
    (heavy,) = shop.add(1, "slow", 0.1, needs=needs_of(3, {}))
    shop.results(heavy)
    assert len(shop.pool.workers) == 3


def test_workers_are_started_for_others_while_a_heavy_task_has_all_slots(shop_with: Any, store: Any) -> None:
    shop = shop_with(workers=2, most=3)
    (heavy,) = shop.add(1, "slow", 20, needs=HEAVY)
    shop.until(store.held, "it runs")
    (light,) = shop.add(1, "slow", 0.01)
    shop.until(lambda: light in shop.rows, "a third worker runs it")
    assert heavy not in shop.rows


def test_no_worker_is_started_for_what_waits_for_a_resource(shop_with: Any, store: Any) -> None:
    shop = shop_with(workers=1, most=3)
    shop.add(1, "slow", 0.6)
    shop.until(store.held, "it runs")
    shop.add(5, "slow", 0.1, needs=needs_of(1, {"gpu": 1}))
    shop.until(lambda: len(shop.rows) == 1, "the first is over")
    assert len(shop.pool.workers) == 1


def test_what_claims_are_told_of_the_slots(shop_with: Any) -> None:
    one = shop_with(workers=2)
    idle = one.pool.wants(now_ms())
    assert [(want.at_once, want.free, want.slots) for want in idle] == [(1, 2, 2), (1, 2, 2)]
    assert one.pool.wants(now_ms())[0] is idle[0]  # nothing is made anew where nothing changes
    one.add(1, "slow", 0.2)
    one.until(one.store.held, "it runs")
    assert [(want.at_once, want.free, want.slots) for want in one.pool.wants(now_ms())] == [(1, 1, 2)]
    one.until(lambda: one.rows, "it is over")
    one.pool.beside = lambda: 1
    assert one.pool.slots == (1, 2)


def test_a_type_that_kills_its_workers_is_tried_with_all_free_slots_in_sight(shop_with: Any, store: Any) -> None:
    shop = shop_with(workers=2)
    suspects = shop.pool._suspects
    suspects.types, suspects.crashes = frozenset({"slow"}), {"slow": 3}
    (heavy,) = shop.add(1, "slow", 0.05, needs=HEAVY)
    wants = shop.pool.wants(now_ms())
    assert [(want.limit, want.types, want.free) for want in wants if want.types == frozenset({"slow"})] == [(1, frozenset({"slow"}), 2)]
    assert all(want.budget_ms == math.inf for want in wants if want.types == frozenset({"slow"}))
    assert shop.results(heavy) == [0]

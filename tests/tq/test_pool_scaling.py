"""How many workers there should be, under a clock turned by hand: the same decision the pool asks for at each turn."""

from __future__ import annotations

import heapq
from dataclasses import dataclass, field

import pytest

from tq.pool.scaling import LOOK_MS, UP_MS, Scaling

COOLDOWN = 10_000
STARTS_IN = 300
"""What a worker takes here from its start to its hello, in ms."""


@dataclass
class Shop:
    """Workers that take tasks of ``task_ms`` from a line; nothing runs but the clock."""

    low: int = 1
    high: int = 4
    task_ms: int = 50
    slots: int = 1
    now: int = 1_000_000
    waiting: int = 0
    asked: int = 0
    events: list[tuple[int, str]] = field(default_factory=list)
    sizes: list[tuple[int, int]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.scaling = Scaling(self.low, self.high, COOLDOWN, self.slots)
        self.size = self.ready = self.low
        self.busy = 0

    def _backlog(self) -> int:
        self.asked += 1
        return self.waiting

    def turn(self) -> None:
        while self.waiting and self.busy < self.ready:
            self.waiting -= 1
            self.busy += 1
            heapq.heappush(self.events, (self.now + self.task_ms, "done"))
        wanted = self.scaling.decide(self.now, self.size, self.ready, self.ready - self.busy, self._backlog)
        assert self.low <= wanted <= self.high
        for _ in range(wanted - self.size):
            heapq.heappush(self.events, (self.now + STARTS_IN, "hello"))
        gone = max(self.size - wanted, 0)
        assert gone <= self.ready - self.busy, "a worker with a task was let go"
        self.ready -= gone
        if wanted != self.size:
            self.sizes.append((self.now, wanted))
        self.size = wanted

    def run(self, until: int, arrivals: list[int] | None = None) -> int:
        """Turn whenever something happens, until then; how many turns it took."""
        for at in arrivals or []:
            heapq.heappush(self.events, (at, "task"))
        self.turn()
        turns = 1
        while True:
            due = self.scaling.next_due(self.now, self.size)
            times = ([self.events[0][0]] if self.events else []) + ([due] if due is not None else [])
            if not times or min(times) > until:
                self.now = until
                return turns
            self.now = max(min(times), self.now)
            while self.events and self.events[0][0] <= self.now:
                what = heapq.heappop(self.events)[1]
                self.waiting += what == "task"
                self.busy -= what == "done"
                self.ready += what == "hello"
            self.turn()
            turns += 1


def test_a_thousand_tasks_have_all_workers_within_two_seconds_and_one_again_after_the_cool_down() -> None:
    shop = Shop(waiting=1000)
    began = shop.now
    shop.run(began + 2000)
    assert (shop.size, shop.ready) == (4, 4)
    shop.run(began + 60_000)
    ended = began + 13_000
    assert shop.size == 1
    back = [at for at, size in shop.sizes if size == 1][-1]
    assert ended + COOLDOWN - 1000 <= back <= ended + COOLDOWN + 2000
    sizes = [size for _, size in shop.sizes]
    assert sizes[:2] == [2, 4]
    assert sizes[2:] == sorted(sizes[2:], reverse=True)  # up once, down once


@pytest.mark.parametrize("every_ms", [12, 15, 20, 26, 33, 49, 60, 200])
def test_a_steady_load_finds_its_number_and_keeps_it(every_ms: int) -> None:
    shop = Shop()
    began = shop.now
    shop.run(began + 120_000, [*range(began, began + 120_000, every_ms)])
    late = [size for at, size in shop.sizes if at > began + 30_000]
    assert late == []  # no flapping
    assert shop.size >= min(50 / every_ms, 4)


@pytest.mark.parametrize("burst", [5, 30])
def test_a_load_in_bursts_every_second_is_a_steady_load(burst: int) -> None:
    shop = Shop()
    began = shop.now
    shop.run(began + 90_000, [at for at in range(began, began + 90_000, 1000) for _ in range(burst)])
    assert [size for at, size in shop.sizes if at > began + 30_000] == []


def test_nobody_is_started_for_work_that_is_soon_done_nor_more_than_wait() -> None:
    shop = Shop(waiting=4)
    shop.run(shop.now + 5000)
    assert shop.sizes == []  # over before UP_MS
    slow = Shop(task_ms=60_000, waiting=3)
    began = slow.now
    slow.run(began + 5000)
    assert [size for _, size in slow.sizes] == [2, 3]  # each of three has its own, the fourth would have nothing
    assert slow.sizes[0][0] - began == UP_MS


def test_from_nobody_at_all_the_first_is_started_at_once() -> None:
    shop = Shop(low=0, high=2, waiting=1)
    shop.run(shop.now + 1000)
    assert shop.sizes[0][1] == 1
    shop.run(shop.now + COOLDOWN + 1000)
    assert shop.size == 0


def test_more_slots_need_fewer_workers() -> None:
    shop = Shop(slots=16, task_ms=60_000, waiting=17)
    assert shop.scaling.decide(shop.now, 1, 1, 0, lambda: 16) == 1
    assert shop.scaling.decide(shop.now + UP_MS, 1, 1, 0, lambda: 16) == 2


def test_the_store_is_asked_twenty_times_a_second_at_most_and_never_while_somebody_is_idle() -> None:
    scaling = Scaling(1, 4, COOLDOWN, 1)
    asked: list[int] = []
    for ms in range(1000):
        scaling.decide(ms, 4 if ms > 500 else 1, 1, 0, lambda ms=ms: asked.append(ms) or 0)  # type: ignore[func-returns-value, misc]
    assert len(asked) <= 500 / LOOK_MS + 1
    scaling.decide(5000, 1, 1, 1, lambda: pytest.fail("somebody is idle"))


def test_an_idle_pool_of_the_fewest_has_no_timer_and_a_busy_one_without_backlog_neither() -> None:
    shop = Shop()
    assert shop.run(shop.now + 86_400_000) == 1
    assert shop.scaling.next_due(shop.now, shop.size) is None
    shop.waiting, shop.task_ms = 1, 3_600_000
    assert shop.run(shop.now + 3_000_000) <= 3

"""The wall clock steps, or the machine sleeps, while a task is in each state there is: nothing is lost, run twice, or held up."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import product
from pathlib import Path

import pytest

from tests.tq.broker_driver import Driver
from tq.store import Claimed

MINUTE, HOUR, DAY = 60_000, 3_600_000, 86_400_000
STEPS = {
    "an hour back": -HOUR - 1,
    "a minute back": -MINUTE - 1,
    "a little back": -10_000,
    "a day forward": DAY,
    "asleep for a night": 8 * HOUR,
}
LEASE_MS = 30_000


class World(Driver):
    """One task, brought into a state; ``runs`` counts how often it was handed out."""

    def __init__(self, kind: str, path: Path) -> None:
        super().__init__(kind, path)
        self.ask("set_queue", name="out", external=True)
        self.runs = 0

    def lease(self) -> list[list[int]]:
        tasks = self.ask("claim", 7, queues=["out"], lease_ms=LEASE_MS)["tasks"]
        self.runs += len(tasks)
        return [[task["id"], task["claim"]] for task in tasks]

    def local(self) -> list[Claimed]:
        tasks = self.grant(5)
        self.runs += len(tasks)
        return tasks

    def over(self, task_id: int, within_ms: int) -> str:
        """Let time pass and run what comes, until the task is over; the state it ended in."""
        until = self.now + within_ms
        while self.now <= until:
            self.broker.settled([self.result(task) for task in self.local()])
            for claim in self.lease():
                assert self.ask("settle", 7, results=[[*claim, "succeeded", None]])["settled"] == [True]
            (state,) = self.states(task_id)
            if state in ("succeeded", "failed", "expired", "cancelled"):
                return state
            self.now += MINUTE
        raise AssertionError(f"{self.states(task_id)} after {within_ms} ms")


@pytest.fixture(params=["memory", "lmdb"])
def world(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[World]:
    one = World(str(request.param), tmp_path / "store")
    yield one
    one.store.close()


def delayed(world: World, step: int) -> None:
    """It runs once, and not before its time by the wall clock."""
    due_at = world.now + 5 * MINUTE
    (task_id,) = world.add(delay_ms=5 * MINUTE)
    world.step(step)
    assert world.over(task_id, 10 * MINUTE + max(-step, 0)) == "succeeded"
    assert world.now >= due_at
    assert world.runs == 1


def pending(world: World, step: int) -> None:
    """It is handed out at once, however the clock stands."""
    (task_id,) = world.add()
    world.step(step)
    assert world.over(task_id, 0) == "succeeded"
    assert world.runs == 1


def running(world: World, step: int) -> None:
    """It is its worker's until that answers."""
    (task_id,) = world.add(timeout_ms=MINUTE)
    (task,) = world.local()
    world.step(step)
    assert world.local() == []
    assert world.states(task_id) == ["running"]
    world.broker.settled([world.result(task)])
    assert world.over(task_id, 0) == "succeeded"
    assert (world.runs, world.row(task_id)["attempt"]) == (1, 1)


def leased(world: World, step: int) -> None:
    """Its lease lasts as long as it would have: a consumer that is in time is believed, and one that dies is noticed."""
    (task_id,) = world.add(queue="out")
    (claim,) = world.lease()
    world.now += LEASE_MS - 1000
    world.step(step)
    world.turn()
    assert world.lease() == []
    assert world.ask("extend", 7, id=claim[0], claim=claim[1], lease_ms=LEASE_MS) == {"ok": True}
    world.now += LEASE_MS - 1000
    assert world.ask("settle", 7, results=[[*claim, "succeeded", None]])["settled"] == [True]
    (left_id,) = world.add(queue="out")
    (left,) = world.lease()
    world.step(step)
    world.turn()
    assert world.states(left_id) == ["running"]
    behind = -2 * step if -MINUTE <= step < 0 else 0  # so little that time stands still until the clock has caught up
    world.now += LEASE_MS + behind
    assert world.over(left_id, 0) == "succeeded"
    assert world.ask("settle", 7, results=[[*left, "failed", None]])["settled"] == [False]
    assert (world.states(task_id), world.runs) == (["succeeded"], 3)


def retrying(world: World, step: int) -> None:
    """Its second attempt comes once, and not before its time by the wall clock."""
    (task_id,) = world.add(retries=1, backoff=["fixed", 5 * MINUTE, 1.0, 5 * MINUTE, False])
    (task,) = world.local()
    world.broker.settled([world.result(task, "failed", error={"type": "E", "message": "m"})])
    due_at = world.now + 5 * MINUTE
    world.turn()
    world.step(step)
    assert world.over(task_id, 10 * MINUTE + max(-step, 0)) == "succeeded"
    assert world.now >= due_at
    assert (world.runs, world.row(task_id)["attempt"]) == (2, 2)


def expiring(world: World, step: int) -> None:
    """It expires when its time is over by the wall clock, no sooner."""
    expires_at = world.now + 5 * MINUTE
    (task_id,) = world.add(ttl_ms=5 * MINUTE, delay_ms=4 * MINUTE + 59_000)
    world.ask("set_queue", name="default", paused=True)
    world.step(step)
    world.turn()
    assert world.states(task_id) == ["expired" if world.now >= expires_at else "scheduled"]
    assert world.over(task_id, 10 * MINUTE + max(-step, 0)) == "expired"
    assert world.now >= expires_at
    assert world.runs == 0


STATES: tuple[Callable[[World, int], None], ...] = (delayed, pending, running, leased, retrying, expiring)


@pytest.mark.parametrize(("state", "step"), list(product(STATES, STEPS)), ids=lambda one: one if isinstance(one, str) else one.__name__)
def test_a_clock_that_steps_loses_nothing_runs_nothing_twice_and_holds_nothing_up(
    world: World, state: Callable[[World, int], None], step: str
) -> None:
    state(world, STEPS[step])


@pytest.mark.parametrize("step", STEPS)
def test_after_a_step_and_a_restart_it_is_the_same(world: World, step: str) -> None:
    (late,) = world.add(delay_ms=5 * MINUTE)
    (soon,) = world.add()
    world.step(STEPS[step])
    world.reopen()
    assert world.over(late, 2 * HOUR) == "succeeded"
    assert world.states(soon) == ["succeeded"]
    assert world.runs == 2


def test_who_waits_waits_no_shorter_for_a_clock_that_is_put_forward(world: World) -> None:
    (task_id,) = world.add(delay_ms=2 * DAY)
    number = world.submit("wait", ids=[task_id], timeout_ms=MINUTE)
    world.turn()
    world.step(DAY)
    world.turn()
    assert world.answer(number) is None
    world.now += MINUTE
    world.turn()
    assert world.answer(number)["done"] is False


@pytest.mark.parametrize("step", ["an hour back", "a minute back", "a little back"])
def test_a_clock_that_is_put_back_holds_up_no_rate_and_no_retry_for_more_than_a_minute(world: World, step: str) -> None:
    world.ask("set_limit", name="slow", scope="type", of="u", rate=1, per_ms=1000, burst=1)
    ids = [*world.add(2, "u"), *world.add(retries=1, backoff=["fixed", 1000, 1.0, 1000, False])]
    first = world.local()
    world.step(STEPS[step])
    failed = [world.result(task, "failed", error={"type": "E", "message": "m"}) for task in first if task.id == ids[2]]
    world.broker.settled([*failed, *[world.result(task) for task in first if task.id != ids[2]]])
    began = world.now
    for task_id in ids:
        assert world.over(task_id, MINUTE) == "succeeded"
    assert world.now <= began + MINUTE

"""The heads of lanes: what a choice costs, and that nothing grows that nobody looks at."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from tq.lifecycle import cancel
from tq.model import Header, Needs
from tq.store import Draft, QueueInfo, Want
from tq.store.lanes import Lanes
from tq.store.lines import Lane
from tq.store.lmdb import EMPTY_LANES_KEPT, LmdbStore
from tq.store.verify import verify


def lane(lanes: Lanes, kind: str = "t", flow: str | None = None, queue: str = "q", tenant: str | None = None, needs: Needs = ()) -> Lane:
    return lanes.add(lanes.last + 1, (queue, kind, tenant, flow, needs))


def entries(lanes: Lanes) -> int:
    shares = [share for line in lanes.lines.values() for share in line.shares.values()]
    return sum(len(heap) for share in shares for _, _, stand in share.stands() for heap in stand.levels.values())


def test_heads_that_move_behind_one_that_does_not_take_no_room():
    """Strict priority: a low task that is never chosen must not make the queue remember every high one there was."""
    lanes = Lanes()
    lanes.configure(QueueInfo("q", aging_share=0))
    low, high, other = lane(lanes), lane(lanes, flow="a"), lane(lanes, flow="b")
    lanes.set_head(low, 9, (1, 0))
    for seq in range(2, 20_000, 2):
        lanes.set_head(high, 8, (seq, 0))
        lanes.set_head(other, 9, (seq + 1, 0))  # cancelled again and again, never chosen
    assert entries(lanes) <= 100
    pick = lanes.best(high.line, None, 0)
    assert (pick.lane, pick.level) == (high, 8)
    lanes.set_head(high, 8, None)
    assert (lanes.best(low.line, None, 0).lane, lanes.best(low.line, None, 0).until) == (low, 19_999)


def test_a_head_that_comes_back_stands_there_once():
    lanes = Lanes()
    one, two = lane(lanes), lane(lanes, flow="x")
    lanes.set_head(two, 8, (500, 0))
    for _ in range(100):
        lanes.set_head(one, 8, (5, 0))
        lanes.set_head(one, 8, (3, 0))
    lanes.set_head(one, 8, (5, 0))
    assert entries(lanes) <= 30
    assert lanes.best(one.line, None, 0).until == 500


def test_only_lines_with_work_are_looked_at():
    lanes = Lanes()
    for number in range(1000):
        one = lane(lanes, queue=f"q{number}")
        lanes.set_head(one, 8, (number + 1, 0))
        if number % 100:
            lanes.set_head(one, 8, None)
    assert [line.info.name for line in lanes.open_lines(None)] == [f"q{number}" for number in range(0, 1000, 100)]
    assert len(lanes.lines) == 1000


def test_a_line_whose_types_come_and_go_forgets_them():
    lanes = Lanes()
    line = lanes.line("q")
    for number in range(500):
        one = lane(lanes, kind=f"t{number}")
        lanes.set_head(one, 8, (number + 1, 0))
        assert lanes.best(line, None, 0).lane is one
        lanes.set_head(one, 8, None)
        assert lanes.best(line, None, 0) is None
    assert line.alone is None
    assert [share for share in line.shares.values() if share.plain] == []


def test_a_choice_among_ten_thousand_lanes_costs_as_much_as_among_ten():
    costs = {}
    for count in (10, 10_000):
        lanes = Lanes()
        for number in range(count):
            lanes.set_head(lane(lanes, flow=str(number)), number % 3, (number + 1, 0))
        line, best = lanes.line("q"), 1.0
        for seq in range(count + 1, count + 201):
            began = time.perf_counter()
            pick = lanes.best(line, None, 10**9)
            lanes.set_head(pick.lane, pick.level, (seq, 0))
            best = min(best, time.perf_counter() - began)
        costs[count] = best
    assert costs[10_000] < 5 * costs[10] + 50e-6  # a scan would cost a hundred times as much


@pytest.mark.parametrize("by_claim", [False, True])
def test_lanes_that_are_empty_are_forgotten_before_they_are_many(tmp_path: Path, by_claim: bool) -> None:
    store = LmdbStore(tmp_path / "store")
    for now in (1, 2):
        store.begin(now)
        ids = list(store.enqueue([Draft(Header("t", flow=f"{now} {n}"), b"") for n in range(EMPTY_LANES_KEPT + 1)]))
        (kept,) = store.enqueue([Draft(Header("t", priority=0), b"")])
        if by_claim:
            assert [one.id for one in store.claim(Want("w", len(ids), float("inf")))] == ids
        else:
            store.apply([change for task in store.get(ids) if task is not None and (change := cancel(task, now)) is not None])
        store.commit()
        assert len(store._lanes.by_key) == 1
    assert [one.id for one in store.peek(9)] == [kept - len(ids) - 1, kept]
    store.close()
    assert verify(tmp_path) == []

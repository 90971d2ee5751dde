"""The shares of tenants: what a choice costs, that who may not go is not looked at, and that nothing grows that nobody looks at."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tq.model import Header, Needs, needs_of
from tq.store import Draft, Limit, QueueInfo, Success, Want
from tq.store.gates import Gates
from tq.store.lanes import Lanes
from tq.store.lines import Lane, Line
from tq.store.lmdb import EMPTY_LANES_KEPT, LmdbStore
from tq.store.needs import Supply
from tq.store.shares import PASS, before, began, joins, ticked

GPU: Needs = needs_of(1, {"gpu": 1})
ANY = Want("w", 1, float("inf"))


def lane(lanes: Lanes, tenant: str | None, kind: str = "t", needs: Needs = ()) -> Lane:
    return lanes.add(lanes.last + 1, ("q", kind, tenant, None, needs))


def many(lanes: Lanes, count: int, kind: str = "t", needs: Needs = ()) -> list[Lane]:
    """So many tenants with one task each."""
    found = [lane(lanes, f"{kind}{number}{needs}", kind, needs) for number in range(count)]
    for number, one in enumerate(found):
        lanes.set_head(one, 8, (number + 1, 0))
    return found


def calls(work: Callable[[], Any]) -> int:
    """How many functions, of Python and of C, are called by ``work``."""
    seen = 0

    def count(_frame: Any, event: str, _arg: Any) -> None:
        nonlocal seen
        seen += event in {"call", "c_call"}

    sys.setprofile(count)
    try:
        work()
    finally:
        sys.setprofile(None)
    return seen


def take(lanes: Lanes, line: Line, types: frozenset[str] | None = None, supply: Supply | None = None) -> Lane:
    pick = lanes.best(line, types, 0, supply)
    assert pick is not None
    lanes.set_head(pick.lane, pick.level, None)
    lanes.took(line, pick, 1)
    return pick.lane


def mean(lanes: Lanes, **more: Any) -> float:
    """The calls of a choice, over a hundred of them; the first ones have more to drop."""
    line = lanes.line("q")
    return sum(calls(lambda: take(lanes, line, **more)) for _ in range(100)) / 100


def crowd(count: int, what: str) -> float:
    lanes, more = Lanes(), dict[str, Any]()
    lanes.configure(QueueInfo("q"))
    if what == "types":
        many(lanes, count, "u")
        more["types"] = frozenset("t")
    elif what == "needs":
        many(lanes, count, "t", GPU)
        more["supply"] = Supply({}, {}, {}, ANY)
    elif what == "shut":
        gates = Gates()
        gates.limits = {"none": Limit("none", "type", "u", running=1)}
        gates.began(gates.of(("q", "u", None, None, ())), 1)
        lanes.limit(gates, ())
        many(lanes, count, "u")
    elif what == "parked":
        gates = Gates()
        gates.limits = {"none": Limit("none", "flow", running=1)}
        gates.began(gates.of(("q", "t", None, "k", ())), 1)
        lanes.limit(gates, ())
        for number in range(count):
            parked = lanes.add(lanes.last + 1, ("q", "t", f"p{number}", "k", ()))
            lanes.set_head(parked, 8, (number + 1, 0))
    many(lanes, 200 if what else count)
    return mean(lanes, **more)


@pytest.mark.parametrize("what", ["", "types", "needs", "shut", "parked"])
def test_a_choice_costs_the_same_however_many_tenants_there_are_and_may_not_go(what: str) -> None:
    assert crowd(5000, what) <= crowd(200, what) + 10


def test_a_tenant_alone_stands_in_no_ring_and_is_chosen_in_as_many_steps_whatever_came_before() -> None:
    lanes = Lanes()
    one, line = lane(lanes, "one"), lanes.line("q")
    lanes.set_head(one, 8, (1, 0))
    alone = calls(lambda: lanes.best(line, None, 0))
    assert (line.alone, line.rings) == (one.share, {})
    for other in many(lanes, 50):
        lanes.set_head(other, 8, None)
    assert (line.alone, line.rings) == (one.share, {})
    assert calls(lambda: lanes.best(line, None, 0)) <= alone
    pick = lanes.best(line, None, 0)
    assert pick is not None
    assert (pick.lane, pick.most) == (one, None)


def test_tenants_that_come_and_go_behind_others_take_no_room() -> None:
    lanes = Lanes()
    one, two, late = lane(lanes, "one"), lane(lanes, "two"), lane(lanes, "late")
    line = lanes.line("q")
    lanes.set_head(one, 8, (1, 0))
    lanes.set_head(two, 8, (2, 0))
    for seq in range(3, 5000):
        lanes.set_head(late, 8, (seq, 0))
        lanes.set_head(late, 8, None)
    assert len(line.rings["t"].entries) <= 30
    lanes.set_head(late, 8, (5000, 0))
    assert [take(lanes, line) for _ in range(3)] == [one, two, late]


def test_a_tenant_edited_to_another_keeps_both_in_the_ring() -> None:
    """A task that leaves a tenant and comes again has the sequence that it had."""
    lanes = Lanes()
    one, two = lane(lanes, "one"), lane(lanes, "two")
    lanes.set_head(two, 8, (9, 0))
    for _ in range(3):
        lanes.set_head(one, 8, (1, 0))
        lanes.set_head(one, 8, None)
        lanes.set_head(one, 8, (1, 0))
    assert [take(lanes, lanes.line("q")) for _ in range(2)] == [one, two]


def test_those_who_need_something_again_after_nobody_did_are_found() -> None:
    lanes = Lanes()
    line, plain = lanes.line("q"), lane(lanes, "a")
    lanes.set_head(plain, 8, (1, 0))
    needy = [lane(lanes, tenant, needs=GPU) for tenant in "ab"]
    for seq in (2, 4):
        for number, one in enumerate(needy):
            lanes.set_head(one, 8, (seq + number, 0))
        found = [take(lanes, line, supply=Supply({"gpu": 9}, {}, {}, ANY)) for _ in range(2)]
        assert set(found) <= {plain, *needy}
        for one in needy:
            lanes.set_head(one, 8, None)
    assert line.needy == {}


def test_tenants_that_left_are_forgotten(tmp_path: Path) -> None:
    store = LmdbStore(tmp_path / "store")
    for now in range(1, 4):
        store.begin(now)
        store.enqueue([Draft(Header("t", tenant=f"{now} {n}"), b"") for n in range(EMPTY_LANES_KEPT + 1)])
        taken = store.claim(Want("w", 10_000, float("inf")))
        assert len(taken) == EMPTY_LANES_KEPT + 1
        store.succeed([Success(one.id, one.claim, now, now, False, None) for one in taken])
        store.commit()
        assert store._lanes.line("default").shares == {}
    store.close()


# -- arithmetic ------------------------------------------------------------------------------------------------------


def test_the_arithmetic_does_not_depend_on_who_counts_together() -> None:
    for weight in (1, 3, 7, 1000):
        passed, at, clock = 5 * PASS, 2 * PASS, 4 * PASS
        together = began(passed, at, 12, weight)
        clock_together = ticked(clock, together[1], 12, weight + 7)
        for _ in range(12):
            passed, at = began(passed, at, 1, weight)
            clock = ticked(clock, at, 1, weight + 7)
        assert (passed, at, clock) == (*together, clock_together)


def test_who_joins_has_no_turns_saved_up_and_is_one_task_behind_at_most() -> None:
    assert joins(0, 3 * PASS, 4 * PASS, 1) == 3 * PASS
    assert joins(4 * PASS, 3 * PASS, 4 * PASS, 1) == 4 * PASS
    assert joins(0, 9 * PASS, 4 * PASS, 1) == 5 * PASS
    assert joins(0, 9 * PASS, 4 * PASS, 2) == 4 * PASS + PASS // 2


def test_a_run_of_one_tenant_ends_before_it_would_be_ahead() -> None:
    assert before(0, 0, 1, 0) == 1
    assert before(0, 0, 1, PASS) == 1
    assert before(0, 0, 4, PASS) == 4
    assert before(0, PASS, 4, 3 * PASS) == 8

"""Ordering keys through the broker: one at a time and in order, whatever happens to the tasks."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.tq.broker_driver import STORES, Driver
from tq.errors import StoreDamaged
from tq.model import State
from tq.store import Claimed, Limits
from tq.store.verify import verify

BACK = {"backoff": ["fixed", 1000, 1.0, 1000, False]}
ONE_OF_THE_MIDDLE = {"cancel", "remove", "edit"}


@pytest.fixture(params=STORES)
def d(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Driver]:
    driver = Driver(request.param, tmp_path / "store")
    yield driver
    driver.store.close()


def take(d: Driver, limit: int = 9) -> list[Claimed]:
    return d.grant(limit)


def end(d: Driver, task: Claimed, kind: object = 0, **outcome: Any) -> None:
    d.broker.settled([d.result(task, kind, **outcome)])
    d.turn()


def run(d: Driver) -> list[int]:
    """All that can run without a clock, one after another."""
    ran = []
    while got := take(d):
        for task in got:
            ran.append(task.id)
            end(d, task)
    return ran


def test_tasks_of_a_key_run_one_after_another_whatever_they_are(d: Driver) -> None:
    ids = (
        d.add(order="k", delay_ms=500)
        + d.add(order="k", kind="u", priority=9)
        + d.add(order="k", priority=0)
        + d.add(order="k", priority=5)
    )
    other = d.add(kind="u", priority=0)
    assert run(d) == other
    d.now += 500
    assert run(d) == ids


def test_one_that_is_retried_keeps_the_others_waiting(d: Driver) -> None:
    ids = d.add(2, order="k", retries=1, **BACK)
    end(d, take(d)[0], "failed", error={"type": "E"})
    assert d.states(*ids) == ["retrying", "blocked"]
    assert take(d) == []
    d.now += 1000
    assert run(d) == ids


@pytest.mark.parametrize("what", ["retry", "cancel", "remove"])
def test_behind_a_failure_they_wait_until_somebody_does_something_about_it(d: Driver, what: str) -> None:
    ids = d.add(3, order="k", retries=0)
    end(d, take(d)[0], "failed", error={"type": "E"})
    assert (run(d), d.states(*ids)) == ([], ["failed", "blocked", "blocked"])
    d.reopen()
    d.turn()
    later = d.add(order="k")
    assert (run(d), d.states(*later)) == ([], ["blocked"])
    d.ask(what, ids=ids[:1])
    assert run(d) == ids[what != "retry" :] + later


def test_many_are_cancelled_but_not_those_that_failed(d: Driver) -> None:
    """They are given up by their ids."""
    ids = d.add(2, order="k", retries=0)
    end(d, take(d)[0], "failed", error={"type": "E"})
    d.ask("cancel", where="order:k")
    d.settle_down()
    assert d.states(*ids) == ["failed", "cancelled"]
    assert d.ask("cancel", ids=ids)["outcomes"] == ["cancelled", "over"]
    assert d.ask("why", id=ids[0])["reasons"][0][0] == "over"


def test_why_says_whom_a_task_of_a_key_waits_for_and_what_holds_that_up(d: Driver) -> None:
    (parent,) = d.add(delay_ms=5000)
    ids = d.add(order="k", retries=0) + d.add(2, order="k", after=[parent])
    held = take(d)[0]
    waits = ["in_order", {"order": "k", "queue": "default", "id": ids[0], "state": "running", "ahead": 2}]
    assert d.ask("why", id=ids[2])["reasons"] == [waits, ["blocked", {"parents": [[parent, "scheduled"]], "waits": 1, "of": 1}]]
    end(d, held, "failed", error={"type": "E"})
    holds, over = d.ask("why", id=ids[0])["reasons"]
    assert (holds, over[0]) == (["holds_up", {"order": "k", "queue": "default", "waiting": 2}], "over")
    d.ask("remove", ids=ids[:1])
    assert d.ask("why", id=ids[1])["reasons"] == [["blocked", {"parents": [[parent, "scheduled"]], "waits": 1, "of": 1}]]


def test_behind_a_failure_they_go_on_if_that_was_asked_for(d: Driver) -> None:
    ids = d.add(3, order="k", order_on_failure="continue", retries=0)
    assert d.row(ids[0])["order_on_failure"] == "continue"
    end(d, take(d)[0], "failed", error={"type": "E"})
    assert run(d) == ids[1:]


def test_one_that_failed_is_found_again_by_a_bulk_retry_in_its_old_order(d: Driver) -> None:
    ids = d.add(4, order="k", retries=0)
    end(d, take(d)[0], "failed", error={"type": "E"})
    d.ask("retry", where="state:failed")
    d.settle_down()
    assert run(d) == ids


def test_those_that_failed_are_given_up_by_a_bulk_cancel_that_speaks_of_states_and_by_no_other(d: Driver) -> None:
    ids = [*d.add(2, order="k", retries=0), *d.add(2, order="l", retries=0), *d.add(retries=0)]
    for task in (*d.grant(1), *d.grant(1), *d.grant(1)):
        d.broker.settled([d.result(task, "failed", error={"type": "E", "message": "m"})])
    d.settle_down()
    assert d.states(*ids) == ["failed", "blocked", "failed", "blocked", "failed"]
    d.ask("cancel", where="id:1..1")
    d.settle_down()
    assert d.states(*ids[:2]) == ["failed", "blocked"]
    assert d.ask("cancel", where="state:failed", dry_run=True)["count"] == 2
    d.ask("cancel", where="state:failed")
    d.settle_down()
    assert d.states(*ids) == ["cancelled", "pending", "cancelled", "pending", "failed"]


@pytest.mark.parametrize("verb", sorted(ONE_OF_THE_MIDDLE))
def test_one_of_the_middle_that_goes_leaves_the_order_of_the_others(d: Driver, verb: str) -> None:
    ids = d.add(4, order="k")
    first = take(d)
    d.ask(verb, ids=[ids[1]], **({"changes": {"queue": "q"}} if verb == "edit" else {}))
    assert [one.id for one in take(d)] == ([ids[1]] if verb == "edit" else [])
    end(d, first[0])
    assert run(d) == ids[2:]


def test_all_of_a_key_can_be_cancelled_in_one_chore(d: Driver) -> None:
    ids = d.add(700, order="k")
    take(d)
    d.ask("cancel", where="state:blocked")
    d.settle_down()
    (new,) = d.add(order="k")
    assert d.states(ids[0], ids[1], ids[-1], new) == ["running", "cancelled", "cancelled", "blocked"]


def test_two_requests_of_a_turn_stand_one_behind_the_other(d: Driver) -> None:
    rows = [["t", b"", {"order": "k"}]]
    numbers = [d.submit("enqueue", conn=conn, tasks=rows) for conn in (1, 2, 3)]
    d.turn()
    ids = [d.answer(number, conn)["ids"][0] for conn, number in zip((1, 2, 3), numbers, strict=True)]
    assert run(d) == ids


def test_an_end_and_a_new_one_in_a_turn_keep_their_order(d: Driver) -> None:
    ids = d.add(2, order="k")
    (first,) = take(d)
    d.broker.settled([d.result(first)])
    ids += d.add(order="k")
    assert d.states(*ids) == ["succeeded", "pending", "blocked"]
    assert run(d) == ids[1:]


def test_a_key_is_joined_with_what_a_task_waits_for_by_itself(d: Driver) -> None:
    (parent,) = d.add(delay_ms=5000)
    ids = d.add(order="k") + d.add(order="k", after=[parent]) + d.add(order="k")
    assert run(d) == ids[:1]
    d.now += 5000
    assert run(d) == [parent, *ids[1:]]


def test_one_whose_parent_fails_is_cancelled_and_the_next_one_goes(d: Driver) -> None:
    (parent,) = d.add(retries=0)
    ids = d.add(order="k", after=[parent]) + d.add(order="k")
    end(d, take(d)[0], "failed", error={"type": "E"})
    assert (d.states(ids[0]), run(d)) == (["cancelled"], ids[1:])


def test_one_that_fails_with_its_parent_holds_up_the_next_one(d: Driver) -> None:
    (parent,) = d.add(retries=0)
    ids = d.add(order="k", after=[parent], on_parent_failure="fail") + d.add(order="k")
    end(d, take(d)[0], "failed", error={"type": "E"})
    assert (run(d), d.states(*ids)) == ([], ["failed", "blocked"])


def test_a_circle_of_keys_and_parents_is_refused_and_named(d: Driver) -> None:
    rows = [["t", b"", {"order": "k", "after": [-3]}], ["t", b"", None], ["t", b"", {"order": "k"}]]
    code, message = d.refusal("enqueue", tasks=rows)
    assert (code, "1 > 3 > 1" in message, "ordering key" in message) == ("usage", True, True)
    assert d.add(order="k") == [1]
    rows[0][2] = {"order": "other", "after": [-3]}
    assert d.ask("enqueue", tasks=rows)["ids"] == [2, 3, 4]


@pytest.mark.parametrize("options", [{"order": ""}, {"order": 5}, {"order": "x" * 201}, {"order_on_failure": "block"},
                                     {"order": "k", "order_on_failure": "wait"}])  # fmt: skip
def test_a_key_that_cannot_be_one_is_refused(d: Driver, options: dict[str, Any]) -> None:
    code, message = d.refusal("enqueue", tasks=[["t", b"", options]])
    assert (code, "order" in message) == ("usage", True)
    assert d.refusal("enqueue", tasks=[["t", b"", {"key": "x", **options}]])[0] == "usage"


def test_names_and_an_ordering_key_go_together(d: Driver) -> None:
    ids = d.add(order="k", key="one") + d.add(order="k", unique="two") + d.add(order="k", unique="three")
    assert d.ask("enqueue", tasks=[["t", b"", {"order": "k", "key": "one"}]])["ids"] == ids[:1]
    ids[1:2] = []
    ids += d.ask("enqueue", tasks=[["t", b"", {"order": "k", "unique": "two", "unique_policy": "replace"}]])["ids"]
    assert run(d) == ids


def test_options_that_all_tasks_of_a_request_share_may_be_an_ordering_key(d: Driver) -> None:
    ids = d.ask("enqueue", tasks=[["t", b"", None]] * 3, options={"order": "k"})["ids"]
    assert run(d) == ids


def test_what_is_forgotten_by_age_holds_up_nobody(tmp_path: Path) -> None:
    d = Driver("lmdb", tmp_path / "store", Limits(keep_failed_ms=1000))
    ids = d.add(2, order="k", retries=0)
    end(d, take(d)[0], "failed", error={"type": "E"})
    assert run(d) == []
    d.now += 4_000_000
    d.settle_down()
    assert (run(d), d.states(*ids)) == (ids[1:], ["none", "succeeded"])


def test_a_damaged_one_is_passed_over_when_it_is_gone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    d = Driver("lmdb", tmp_path / "store")
    ids = d.add(3, order="k", retries=0)
    end(d, take(d)[0], "failed", error={"type": "E"})
    whole = d.store._read

    def read(txn: Any, task_id: int) -> Any:
        if task_id == ids[1]:
            raise StoreDamaged("no")
        return whole(txn, task_id)

    monkeypatch.setattr(d.store, "_read", read)
    d.ask("cancel", ids=ids[:1])
    assert d.store.ordered("default", "k", 9) == ids[1:]
    monkeypatch.undo()
    d.store.begin(d.now)
    d.store._lose(ids[1])
    d.store.commit()
    d.turn()
    d.add()
    assert ids[2] in run(d)


# -- whatever happens ------------------------------------------------------------------------------------------------

PICK = st.integers(0, 50)
steps = st.lists(
    st.one_of(
        *[st.tuples(st.just("add"), st.sampled_from(["k", "k", "m", None]), st.sampled_from(["default", "default", "q"]),
                    st.sampled_from(["block", "continue"]), st.sampled_from([{}, {}, {"delay_ms": 500}, {"ttl_ms": 900}]),
                    st.integers(0, 2), st.integers(1, 3))] * 3,
        *[st.tuples(st.just("take"), st.integers(1, 3))] * 3,
        *[st.tuples(st.just("end"), PICK, st.sampled_from([0, 0, "failed", "failed", "crashed", "interrupted", "released"]))] * 4,
        *[st.tuples(st.sampled_from(["cancel", "retry", "remove", "move"]), PICK)] * 3,
        st.tuples(st.just("retry_all")),
        st.tuples(st.just("time"), st.sampled_from([10, 600])),
        st.tuples(st.just("restart")),
    ),
    max_size=40,
)  # fmt: skip


class History:
    """What is done to a broker, and the tasks that came to their lines later than their ids say."""

    def __init__(self, kind: str, path: Path) -> None:
        self.d = Driver(kind, path)
        self.held: list[Claimed] = []
        self.late: set[int] = set()
        self.count = 0

    def step(self, verb: str, *args: Any) -> None:
        d = self.d
        some = args[0] % self.count + 1 if verb in ("cancel", "retry", "remove", "move") and self.count else 0
        if verb == "add":
            order, queue, policy, more, parents, count = args
            after = [one for one in range(max(self.count - parents, 1), self.count) if d.row(one)] if parents else []
            options = {"queue": queue, "retries": 1, **BACK, **more, **({"after_any": after} if after else {})}
            options |= {"order": order, "order_on_failure": policy} if order else {}
            self.count = d.add(count, **options)[-1]
        elif verb == "take":
            for task in d.grant(args[0]):
                self.begins(task)
        elif verb == "end" and self.held:
            end(d, self.held.pop(args[0] % len(self.held)), args[1], **({"error": {"type": "E"}} if args[1] else {}))
        elif verb == "retry_all":
            d.ask("retry", where="state:failed")
            d.settle_down()
        elif verb == "move" and some:
            if d.row(some) and d.ask("edit", ids=[some], changes={"queue": "q"})["outcomes"] == ["edited"]:
                self.late.add(some)
        elif some:
            before = d.row(some)
            if d.ask(verb, ids=[some])["outcomes"] == ["retried"] and before["order_on_failure"] == "continue":
                self.late.add(some)
            if verb == "retry" and before is not None and before["state"] in ("succeeded", "cancelled"):
                self.late.add(some)
        elif verb == "time":
            d.now += args[0]
        elif verb == "restart":
            d.reopen()
            d.broker.recover(lambda _id, _claim: False, d.now)
            self.held.clear()
        d.settle_down()

    def begins(self, task: Claimed) -> None:
        """No other of its key runs, nor stands one before it."""
        order, queue = task.header.order, task.header.queue
        if order is not None:
            for one in range(1, self.count + 1):
                row = self.d.row(one)
                if row and one != task.id and (row["order"], row["queue"]) == (order, queue):
                    assert row["state"] != "running"
                    holds = row["state"] in ("failed", "expired") and row["order_on_failure"] == "block"
                    stands = holds or row["state"] in ("pending", "scheduled", "retrying", "blocked")
                    assert not stands or one > task.id or one in self.late
        self.held.append(task)

    def states(self) -> list[str]:
        return self.d.states(*range(1, self.count + 1)) if self.count else []

    def drain(self) -> None:
        """All that is left comes to its end, if those that failed are retried."""
        for _ in range(4 * self.count + 4):
            while self.held:
                self.step("end", 0, 0)
            self.step("time", 1000)
            self.step("retry_all")
            for one in range(1, self.count + 1):
                if self.states()[one - 1] == "expired":
                    self.step("retry", one - 1)
            self.step("take", 3)
            if not self.held and not {*self.states()} - {"succeeded", "cancelled", "none"}:
                return
        raise AssertionError(self.states())


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(history=steps)
def test_one_at_a_time_in_order_whatever_happens_on_each_store_alike(history: list[Any]) -> None:
    folder = Path(tempfile.mkdtemp(prefix="tq-orders-"))
    told = [History(kind, folder / kind / "store") for kind in STORES if not (folder / kind).mkdir()]
    try:
        for one in history:
            for each in told:
                each.step(*one)
                rows = [row for row in map(each.d.row, range(1, each.count + 1)) if row and row["order"]]
                lines = [(row["queue"], row["order"]) for row in rows if row["state"] in LET_GO]
                assert len(set(lines)) == len(lines)
            assert told[0].states() == told[1].states()
        for each in told:
            each.drain()
            each.d.store.close()
        assert verify(folder / "lmdb") == []
    finally:
        for each in told:
            each.d.store.close()
        shutil.rmtree(folder)


LET_GO = {state.word for state in (State.PENDING, State.SCHEDULED, State.RETRYING, State.RUNNING)}

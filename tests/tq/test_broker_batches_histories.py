"""Batches through random histories: each callback comes once, and exactly when it is due; the counts equal a recount.

What becomes of members is read from the tasks themselves, and of those that are gone remembered; when callbacks are due is said again
in other words than the broker's.
"""

from __future__ import annotations

import shutil
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st

from tests.tq.broker_driver import STORES, Driver
from tq.model import BATCH_MARK
from tq.store.batches import PLACES

WAITING = ("scheduled", "blocked", "pending", "retrying")
CALLS = {f"on_{what}": [what, b"", {"queue": "back", "allow_unknown": True}] for what in ("failure", "complete", "success")}

which = st.integers(0, 99)
steps = st.lists(
    st.one_of(
        st.tuples(st.just("create"), st.booleans()),
        st.tuples(st.just("add"), which, st.integers(1, 3), st.sampled_from(["plain", "plain", "later", "short", "behind"])),
        st.tuples(st.just("add"), which, st.integers(1, 3), st.sampled_from(["plain", "behind"])),
        st.tuples(st.just("run"), st.integers(1, 4)),
        st.tuples(st.just("run"), st.integers(1, 4)),
        st.tuples(st.just("end"), which, st.sampled_from(["won", "won", "won", "lost", "again", "released", "stopped", "crashed"])),
        st.tuples(st.just("end"), which, st.sampled_from(["won", "lost"])),
        st.tuples(st.just("close"), which),
        st.tuples(st.just("close"), which),
        st.tuples(st.sampled_from(["cancel", "remove", "retry", "retry"]), which),
        st.tuples(st.sampled_from(["cancel_batch", "retry_batch"]), which),
        st.tuples(st.just("time"), st.sampled_from([100, 2000])),
        st.tuples(st.sampled_from(["restart", "broken turn", "full", "room"])),
    ),
    min_size=6, max_size=30,
)  # fmt: skip


@dataclass
class One:
    """A batch as the model has it."""

    auto: bool
    closed: bool = False
    cancelled: bool = False
    members: dict[int, str] = field(default_factory=dict)  # where each stands, or how it ended
    due: set[str] = field(default_factory=set)

    @property
    def over(self) -> bool:
        return not self.live and bool(self.closed or (self.auto and self.members))

    @property
    def live(self) -> bool:
        return any(state in (*WAITING, "running") for state in self.members.values())


class History:
    """A broker, and what it should have done."""

    def __init__(self, kind: str, path: Path) -> None:
        self.d = Driver(kind, path)
        self.batches: dict[int, One] = {}
        self.runs: list[Any] = []
        self.full = False
        self.d.ask("set_queue", name="back", paused=True)
        self.d.add(queue="back")

    def step(self, what: str, *args: Any) -> None:
        getattr(self, f"do_{what.replace(' ', '_')}")(*args)
        self.d.settle_down()
        if not self.full:  # what is owed is sent within a second
            self.d.now += 1000
            self.d.settle_down()
        self.check()

    def some(self, number: int, among: list[Any]) -> Any:
        return among[number % len(among)] if among else None

    # what happens

    def do_create(self, auto: bool) -> None:
        if len(self.batches) < 4:
            calls = {word: [*row] for word, row in CALLS.items()}
            self.batches[self.d.ask("create_batch", auto=auto, **calls)["id"]] = One(auto)

    def do_add(self, number: int, count: int, how: str) -> None:
        batch = self.some(number, list(self.batches))
        if batch is None:
            return
        one = self.batches[batch]
        options: dict[str, Any] = {"batch": batch, "retries": 1, "backoff": ["fixed", 500, 1.0, 500, False]}
        options |= {"later": {"delay_ms": 1500}, "short": {"ttl_ms": 1500, "delay_ms": 9000}}.get(how, {})
        if how == "behind":
            options["after"] = [*one.members][-1:]
        rows = [["t", b"", options]] * count
        if one.over or one.cancelled:
            assert self.d.refusal("enqueue", tasks=rows)[0] == "batch_over"
            event("refused")
            return
        if options.get("after") and one.members[options["after"][0]].startswith("gone"):
            return
        ids = self.d.ask("enqueue", tasks=rows)["ids"]
        one.members |= dict.fromkeys(ids, "pending")

    def do_run(self, count: int) -> None:
        self.runs += self.d.grant(count)

    def do_end(self, number: int, how: str) -> None:
        run = self.some(number, self.runs)
        if run is None:
            return
        self.runs.remove(run)
        error = {"error": {"type": "E", "message": "no"}}
        row = {
            "won": (0, {}), "lost": ("failed", {**error, "permanent": True}), "again": ("failed", error), "released": ("released", {}),
            "stopped": ("stopped", {}), "crashed": ("crashed", error),
        }[how]  # fmt: skip
        self.d.broker.settled([self.d.result(run, row[0], **row[1])])
        self.d.turn()

    def do_close(self, number: int) -> None:
        batch = self.some(number, list(self.batches))
        if batch is not None:
            self.d.ask("close_batch", id=batch)
            self.batches[batch].closed = True

    def _on_task(self, verb: str, number: int) -> None:
        ids = [member for one in self.batches.values() for member, state in one.members.items() if not state.startswith("gone")]
        member = self.some(number, ids)
        if member is not None:
            outcome = self.d.ask(verb, ids=[member])["outcomes"][0]
            if outcome == "removed":
                one = next(one for one in self.batches.values() if member in one.members)
                was = one.members[member]
                one.members[member] = f"gone {'cancelled' if was in WAITING else was}"

    def do_cancel(self, number: int) -> None:
        self._on_task("cancel", number)

    def do_remove(self, number: int) -> None:
        self._on_task("remove", number)

    def do_retry(self, number: int) -> None:
        self._on_task("retry", number)

    def do_cancel_batch(self, number: int) -> None:
        batch = self.some(number, list(self.batches))
        if batch is not None:
            one = self.batches[batch]
            one.cancelled = one.cancelled or not (one.closed and one.over)
            self.d.ask("cancel_batch", id=batch)
            one.closed = True

    def do_retry_batch(self, number: int) -> None:
        batch = self.some(number, list(self.batches))
        if batch is not None:
            self.d.ask("retry_batch", id=batch)
            self.batches[batch].cancelled = False

    def do_time(self, ms: int) -> None:
        self.d.now += ms

    def do_restart(self) -> None:
        self.d.reopen()
        self.d.broker.recover(lambda _id, _claim: True, self.d.now)
        self.runs.clear()

    def do_broken_turn(self) -> None:
        commit, broken = self.d.store.commit, [True]

        def fails() -> None:
            if broken.pop() if broken else False:
                raise RuntimeError("a turn is lost")
            commit()

        self.d.store.commit = fails  # type: ignore[method-assign]
        if self.runs:
            self.do_end(0, "won")
        self.do_close(0)
        self.d.store.commit = commit  # type: ignore[method-assign]

    def do_full(self) -> None:
        self.full = True
        self.d.ask("set_queue", name="back", max_tasks=1)

    def do_room(self) -> None:
        self.full = False
        self.d.ask("set_queue", name="back", unset=["max_tasks"])

    # what should be so

    def check(self) -> None:
        sent = self._sent()
        for number, one in self.batches.items():
            there = [member for member, state in one.members.items() if not state.startswith("gone")]
            one.members |= dict(zip(there, self.d.states(*there), strict=True))
            ends = [state.removeprefix("gone ") for state in one.members.values()]
            row = self.d.ask("batch", conn=998, id=number)["batch"]
            recount = {place: ends.count(place) for place in PLACES} | {"waiting": sum(state in WAITING for state in ends)}
            assert {place: row[place] for place in PLACES} == recount
            assert row["total"] == len(ends)
            one.closed = one.closed or one.over
            one.due |= {"failure"} if "failed" in ends else set()
            if one.over:
                one.due |= {"complete"} | ({"success"} if set(ends) <= {"succeeded"} else set())
            assert (row["state"] == "complete") == one.over
            assert bool(row["cancelled_at"]) == one.cancelled
            mine = [what for batch, what in sent if batch == number]
            assert len(mine) == len(set(mine))
            assert set(mine) <= one.due
            if not self.full:
                assert set(mine) == one.due
                assert row["owed"] == []

    def _sent(self) -> list[tuple[int, str]]:
        rows = self.d.ask("find", conn=997, queue="back", limit=100)["tasks"]
        tasks = self.d.store.get([row["id"] for row in rows])
        return [tuple(task.spec.header.extras[BATCH_MARK]) for task in tasks if task is not None and task.spec.header.extras]


@pytest.mark.parametrize("kind", STORES)
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(history=steps)
def test_each_callback_comes_once_and_when_it_is_due_and_the_counts_equal_a_recount(kind: str, history: list[tuple[Any, ...]]) -> None:
    folder = Path(tempfile.mkdtemp(prefix="tq-batches-"))
    one = History(kind, folder / "store")
    try:
        for what, *args in (("create", False), ("add", 0, 3, "plain"), ("run", 2), *history):
            one.step(what, *args)
        one.step("room")
    finally:
        one.d.store.close()
        shutil.rmtree(folder, ignore_errors=True)

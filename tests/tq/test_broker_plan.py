"""The plan: slots and due tasks in the order of time, as far as was asked for; on both stores."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.tq.broker_driver import START, Driver
from tq.model import pack

MINUTE = 60_000
HOUR = 3_600_000
FIRST = START - START % MINUTE + MINUTE


def plan(d: Driver, **args: Any) -> dict[str, Any]:
    number = d.submit("plan", **args)
    d.settle_down(10_000)
    assert d.error(number) is None, d.error(number)
    found: dict[str, Any] = d.answer(number)
    return found


def schedule(d: Driver, name: str, **given: Any) -> None:
    d.ask("set_schedule", **{"name": name, "new": True, "task": ["t", pack({"n": 1}), None], "every_ms": 10 * MINUTE, **given})


def test_slots_and_due_tasks_stand_in_the_order_of_their_instants(d: Driver) -> None:
    schedule(d, "often", every_ms=20 * MINUTE)
    schedule(d, "once", every_ms=0, at=START + 25 * MINUTE, task=["u", b"", {"queue": "mail"}])
    d.add(delay_ms=2 * HOUR)
    (later,) = d.add(delay_ms=30 * MINUTE, label="x")
    (failing,) = d.add(retries=1, backoff=["fixed", 10 * MINUTE, 1.0, 10 * MINUTE, False])
    (task,) = d.grant()
    d.broker.settled([d.result(task, "failed", error={"type": "E", "message": ""})])
    found = plan(d)
    assert (found["from"], found["until"], found["more"], found["paused"]) == (START, START + HOUR, False, [])
    told = [((row["at"] - START) // MINUTE, row.get("schedule") or row["id"], row["type"], row["queue"]) for row in found["rows"]]
    assert told == [
        (10, failing, "t", "default"), (20, "often", "t", "default"), (25, "once", "u", "mail"), (30, later, "t", "default"),
        (40, "often", "t", "default"), (60, "often", "t", "default"),
    ]  # fmt: skip
    first, slot = found["rows"][:2]
    assert (first["state"], first["attempt"]) == ("retrying", 2)
    assert (slot["slot_at"], slot["overlap"]) == (START + 20 * MINUTE, "allow")
    assert found["rows"][3]["label"] == "x"


def test_the_plan_is_what_then_happens_windows_zone_and_jitter_included(d: Driver) -> None:
    schedule(d, "a", cron="*/7 * * * *", every_ms=0, tz="Europe/Paris", jitter_ms=15 * MINUTE)
    schedule(d, "b", every_ms=9 * MINUTE, only=["22:30-23:00"])
    expected = [(row["at"], row["schedule"], row["slot_at"]) for row in plan(d, for_ms=2 * HOUR)["rows"]]
    assert expected == sorted(expected, key=lambda row: row[0])
    happened = []
    for _ in range(2 * 60 * 4):
        d.now += 15_000
        before = d.store.last_id()
        d.settle_down()
        happened += [(d.now, d.row(task_id)["meta"]["schedule"]) for task_id in range(before + 1, d.store.last_id() + 1)]
    assert [name for _, name, _ in expected] == [name for _, name in happened]
    assert all(0 <= at - due <= 15_000 for (due, _, _), (at, _) in zip(expected, happened, strict=True))


def test_what_is_paused_what_waits_and_what_cannot_be_sent_is_said(d: Driver) -> None:
    schedule(d, "stopped", paused=True)
    schedule(d, "queued", overlap="queue_one", task=["t", b"", {"queue": "mail"}])
    d.ask("set_queue", name="mail", paused=True)
    d.ask("set_schedule", name="odd", new=True, every_ms=25 * MINUTE, task=["odd", b"", {"allow_unknown": True}])
    one = d.store.schedules()["odd"]
    d.store.begin(d.now)
    d.store.put_schedule(type(one)(**{name: getattr(one, name) for name in one.__slots__} | {"task": ["odd", b"", None]}))
    d.store.commit()
    for _ in range(2):
        d.now += 10 * MINUTE
        d.settle_down()
    found = plan(d, for_ms=5 * MINUTE + 1)
    assert found["paused"] == []
    (held, odd) = found["rows"]
    assert (held["schedule"], held["slot_at"], held["at"], held["waits"]) == ("queued", START + 20 * MINUTE, d.now, [1])
    assert held["queue_paused"]
    assert held["overlap"] == "queue_one"
    assert "expected one that a worker has named" in odd["problem"]
    assert plan(d, for_ms=10 * MINUTE)["paused"] == ["stopped"]


def test_it_is_cut_off_where_it_was_asked_to_be_and_says_so(d: Driver) -> None:
    schedule(d, "often", every_ms=1000)
    d.add(5, delay_ms=2500)
    found = plan(d, limit=7)
    assert [row.get("id", 0) for row in found["rows"]] == [0, 0, 1, 2, 3, 4, 5]
    assert found["more"]
    assert not plan(d, for_ms=2500, limit=7)["more"]
    assert d.refusal("plan", for_ms=0)[0] == d.refusal("plan", limit=501)[0] == "usage"


def test_a_thousand_schedules_are_planned_in_slices_at_the_cost_of_what_is_asked_for(d: Driver, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(1000):
        words = {"name": f"s{number}", "new": True, "task": ["t", b"", None], "cron": f"{number % 60} {number % 24} * * *"}
        d.submit("set_schedule", **words)
    d.settle_down()
    assert len(d.store.schedules()) == 1000
    reckoned = 0
    from tq.schedule import Rule

    slots = Rule.slots

    def counted(self: Any, after: int, anchor: int) -> Iterator[int]:
        nonlocal reckoned
        for slot in slots(self, after, anchor):
            reckoned += 1
            yield slot

    monkeypatch.setattr(Rule, "slots", counted)
    d.tick_s = 0.0001
    before = len(d.turns)
    found = plan(d, for_ms=48 * HOUR, limit=100)
    assert len(found["rows"]) == 100
    assert reckoned <= 101
    assert len(d.turns) - before > 5

"""Schedules in the broker: what becomes of each slot, whatever happens to the daemon, its clock, its queues and the runs before."""

from __future__ import annotations

from pathlib import Path
from random import Random
from typing import Any

import pytest

from tests.tq.broker_driver import START, Driver
from tq.model import pack, unpack
from tq.store import TypeInfo
from tq.store.verify import verify

MINUTE = 60_000
FIRST = START - START % MINUTE + MINUTE
"""The first slot of `* * * * *`."""


def schedule(d: Driver, name: str = "s", **given: Any) -> None:
    when = given if {"cron", "every_ms", "at"} & given.keys() else {"cron": "* * * * *", **given}
    d.ask("set_schedule", **{"name": name, "new": True, "task": ["t", pack({"n": 1}), None], **when})


def told(d: Driver, name: str = "s") -> Any:
    return d.ask("schedules", name=name)["schedules"][0]


def runs(d: Driver, name: str = "s") -> list[int]:
    """The slots that have become tasks."""
    return [slot for slot, _ in told(d, name)["runs"]]


def pass_time(d: Driver, ms: int) -> None:
    d.now += ms
    d.settle_down()


def events(d: Driver, what: str) -> list[Any]:
    return [event["after"] for event in d.ask("events", limit=500)["events"][::-1] if event["what"] == what]


def newest(d: Driver) -> Any:
    return d.row(d.store.last_id())


def test_each_slot_becomes_a_task_that_says_which_it_is(d: Driver) -> None:
    schedule(d, task=["t", pack({"n": 7}), {"priority": 3, "meta": {"own": "x"}}])
    assert told(d)["next_at"] == FIRST
    pass_time(d, FIRST - START - 1)
    assert d.store.last_id() == 0
    pass_time(d, 1)
    row = newest(d)
    assert (row["id"], row["type"], row["priority"], row["state"], unpack(row["payload"])) == (1, "t", 3, "pending", {"n": 7})
    assert row["meta"] == {"own": "x", "schedule": "s", "slot": "2023-11-14T22:14:00.000Z"}
    assert told(d)["next_at"] == FIRST + MINUTE
    assert told(d)["last"] | {"state": ""} == {
        "id": 1, "slot_at": FIRST, "state": "", "started_at": 0, "finished_at": 0, "exit_code": None,
    }  # fmt: skip


def test_nothing_happens_while_no_schedule_is_due(d: Driver) -> None:
    for number in range(50):
        schedule(d, f"s{number}")
    assert d.broker.next_due == FIRST
    d.turn()
    assert not d.turn().busy
    assert d.broker.next_due == FIRST


@pytest.mark.parametrize(
    ("misfire", "slots", "missed"),
    [("coalesce", [9], 9), ("all", list(range(10)), 0), ("all:3", [7, 8, 9], 7), ("skip", [9], 9)],
)  # fmt: skip
def test_what_was_missed_is_made_up_for_as_it_says(d: Driver, misfire: str, slots: list[int], missed: int) -> None:
    schedule(d, misfire=misfire)
    d.reopen()
    pass_time(d, FIRST + 9 * MINUTE + 500 - START)
    assert runs(d) == [FIRST + n * MINUTE for n in slots]
    assert sum(event["count"] for event in events(d, "slots_missed")) == missed
    assert newest(d)["meta"].get("missed") == (str(missed) if missed and not misfire.startswith("all") else None)
    assert told(d)["next_at"] == FIRST + 10 * MINUTE


def test_skip_leaves_out_what_is_late_and_says_so(d: Driver) -> None:
    schedule(d, cron="0 * * * *", misfire="skip")
    pass_time(d, 3 * 3_600_000 + 30 * MINUTE)
    assert runs(d) == []
    assert [event["count"] for event in events(d, "slots_missed")] == [3]


def test_a_backlog_is_looked_at_in_slices_and_counted_exactly(d: Driver) -> None:
    schedule(d, cron="* * * * * *")
    d.tick_s = 0.0001
    began = len(d.turns)
    d.now += 2_000_000
    d.settle_down(1000)
    assert len(d.turns) - began > 20
    assert runs(d) == [START + 2_000_000]
    assert [event["count"] for event in events(d, "slots_missed")] == [1999]


def test_overlapping_slots_are_skipped_or_queued_or_cancel_the_old(d: Driver) -> None:
    for name in ("skip", "queue_one", "cancel_old", "allow"):
        schedule(d, name, overlap=name, task=["t", b"", {"label": name}])
    pass_time(d, FIRST - START)
    held = {d.row(task.id)["label"]: task for task in d.grant(10)}
    assert len(held) == 4
    pass_time(d, MINUTE)
    pass_time(d, MINUTE)
    assert {name: len(runs(d, name)) for name in held} == {"skip": 1, "queue_one": 1, "cancel_old": 1, "allow": 3}
    assert d.row(held["cancel_old"].id)["cancel_asked"]
    assert {told(d, name)["held_at"] for name in ("skip", "allow")} == {0}
    d.broker.settled([d.result(held["skip"]), d.result(held["queue_one"]), d.result(held["cancel_old"], "stopped", error=None)])
    d.turn()
    assert runs(d, "queue_one") == [FIRST, FIRST + MINUTE]  # the one that waited first
    assert runs(d, "cancel_old") == [FIRST, FIRST + 2 * MINUTE]  # the newest
    assert runs(d, "skip") == [FIRST]
    skipped = [(event["slot_at"] - FIRST) // MINUTE for event in events(d, "slot_skipped")]
    assert sorted(skipped) == [1, 1, 2, 2]
    pass_time(d, MINUTE)
    assert runs(d, "skip") == [FIRST, FIRST + 3 * MINUTE]


def test_a_slot_that_comes_in_the_turn_of_the_end_stands_behind_the_one_that_waits(d: Driver) -> None:
    names = ("queue_one", "cancel_old")
    for name in names:
        schedule(d, name, overlap=name, task=["t", b"", {"label": name, "queue": name}])
    pass_time(d, FIRST - START)
    held = {d.row(task.id)["label"]: task for task in d.grant(10)}
    pass_time(d, MINUTE)
    assert {told(d, name)["held_at"] for name in names} == {FIRST + MINUTE}
    d.add(2, queue="queue_one")
    d.ask("set_queue", name="queue_one", max_tasks=2)  # for a moment there is no room for the one that waits
    d.now += MINUTE
    d.broker.settled([d.result(held["queue_one"]), d.result(held["cancel_old"], "stopped", error=None)])
    d.settle_down()
    assert runs(d, "cancel_old") == [FIRST, FIRST + 2 * MINUTE]
    assert runs(d, "queue_one") == [FIRST]
    d.ask("set_queue", name="queue_one", max_tasks=9)
    pass_time(d, 1000)
    assert runs(d, "queue_one") == [FIRST, FIRST + MINUTE]
    assert [told(d, name)["held_at"] for name in names] == [FIRST + 2 * MINUTE, 0]
    assert [event["slot_at"] for event in events(d, "slot_skipped")] == [FIRST + MINUTE]
    d.broker.settled([d.result(task) for task in d.grant(10)])
    d.turn()
    assert runs(d, "queue_one") == [FIRST, FIRST + MINUTE, FIRST + 2 * MINUTE]


def test_a_slot_that_waits_for_an_end_outlives_the_daemon(d: Driver) -> None:
    schedule(d, overlap="queue_one")
    pass_time(d, FIRST - START)
    (task,) = d.grant()
    pass_time(d, MINUTE)
    d.reopen()
    d.broker.recover(lambda *_: True, d.now)  # the run was cut short: it will be tried again, so the slot waits on
    d.turn()
    assert runs(d) == [FIRST]
    (task,) = d.grant()
    d.broker.settled([d.result(task)])
    d.turn()
    assert runs(d) == [FIRST, FIRST + MINUTE]


def test_a_slot_waits_for_room_in_its_queue_and_says_so_once(d: Driver) -> None:
    d.ask("set_queue", name="small", max_tasks=1)
    schedule(d, task=["t", b"", {"queue": "small"}], misfire="all")
    pass_time(d, FIRST - START)
    for _ in range(90):
        pass_time(d, 1000)
    assert runs(d) == [FIRST]
    assert len(events(d, "slot_waits")) == 1
    (task,) = d.grant()
    d.broker.settled([d.result(task)])
    pass_time(d, 1000)
    assert runs(d) == [FIRST, FIRST + MINUTE]


def test_a_paused_schedule_does_nothing_and_goes_on_from_where_the_clock_is(d: Driver) -> None:
    schedule(d)
    d.ask("set_schedule", name="s", paused=True)
    assert d.broker.next_due is None
    pass_time(d, 10 * MINUTE)
    assert (runs(d), told(d)["next_at"]) == ([], 0)
    d.ask("set_schedule", name="s", paused=False)
    assert [event["count"] for event in events(d, "slots_missed")] == [10]
    assert told(d)["next_at"] == FIRST + 10 * MINUTE


def test_an_edit_keeps_what_it_does_not_name_and_never_sends_a_slot_twice(d: Driver) -> None:
    schedule(d, tz="Europe/Paris", overlap="skip")
    pass_time(d, FIRST - START)
    d.ask("set_schedule", name="s", cron="*/2 * * * *")
    row = told(d)
    assert (row["cron"], row["tz"], row["overlap"], row["next_at"]) == ("*/2 * * * *", "Europe/Paris", "skip", FIRST + 2 * MINUTE)
    d.ask("set_schedule", name="s", every_ms=5000)
    row = told(d)
    assert (row["cron"], row["every_ms"], row["next_at"]) == ("", 5000, d.now + 5000)
    assert len(runs(d)) == 1


def test_a_slot_is_skipped_by_naming_the_next_and_comes_again_until_its_time(d: Driver) -> None:
    schedule(d)
    skip = {"name": "s", "next_at": FIRST + MINUTE}
    for _ in range(2):  # to say it again is no second skip
        d.ask("set_schedule", **skip)
        assert told(d)["next_at"] == FIRST + MINUTE
        assert d.ask("next_slots", name="s", count=1)["slots"][0][0] == FIRST + MINUTE
    assert events(d, "edited") == [{"next_at": FIRST + MINUTE}]
    d.ask("set_schedule", name="s", next_at=FIRST)
    assert told(d)["next_at"] == FIRST
    d.ask("set_schedule", **skip)
    for ms in (FIRST - START, MINUTE, MINUTE):
        pass_time(d, ms)
    assert runs(d) == [FIRST + MINUTE, FIRST + 2 * MINUTE]
    d.ask("set_schedule", name="s", next_at=0)
    assert (told(d)["next_at"], d.broker.next_due) == (0, None)
    d.ask("set_schedule", name="s", next_at=FIRST + 5 * MINUTE)
    assert told(d)["next_at"] == FIRST + 5 * MINUTE
    for wrong in (FIRST, FIRST + 5 * MINUTE + 1, -1, 1 << 62):
        assert "expected a slot of its rule that is to come" in d.refusal("set_schedule", name="s", next_at=wrong)[1]
    d.ask("set_schedule", name="s", paused=True)
    assert "it is paused" in d.refusal("set_schedule", name="s", next_at=FIRST + 6 * MINUTE)[1]
    schedule(d, "boot", cron="@reboot")
    assert "at boot" in d.refusal("set_schedule", name="boot", next_at=0)[1]


def test_a_run_by_hand_is_a_task_beside_the_slots(d: Driver) -> None:
    schedule(d)
    task_id = d.ask("run_schedule", name="s")["id"]
    assert d.row(task_id)["meta"] == {"schedule": "s", "slot": "by hand"}
    assert (told(d)["next_at"], told(d)["last"]["id"]) == (FIRST, task_id)


def test_one_instant_is_one_run(d: Driver) -> None:
    schedule(d, at=START + 5000)
    pass_time(d, 10_000)
    assert (runs(d), told(d)["next_at"]) == ([START + 5000], 0)
    assert d.broker.next_due is None


def test_a_removed_schedule_is_gone_and_its_name_is_free(d: Driver) -> None:
    schedule(d)
    d.ask("remove_schedule", name="s")
    assert d.broker.next_due is None
    pass_time(d, 5 * MINUTE)
    assert d.store.last_id() == 0
    schedule(d)


def test_jitter_spreads_the_starts_and_not_the_slots(d: Driver) -> None:
    for number in range(20):
        schedule(d, f"s{number}", jitter_ms=30_000)
    pass_time(d, FIRST - START)
    assert d.store.last_id() < 5
    pass_time(d, 30_000)
    assert d.store.last_id() == 20
    assert all(runs(d, f"s{number}") == [FIRST] for number in range(20))


def test_a_clock_that_is_put_back_sends_nothing_twice_and_one_that_is_put_forward_misses(d: Driver) -> None:
    schedule(d, misfire="all")
    pass_time(d, FIRST - START)
    pass_time(d, MINUTE)
    for back in (30 * MINUTE, 5 * 3_600_000):
        pass_time(d, -back)
        pass_time(d, back)
    pass_time(d, MINUTE)
    assert runs(d) == [FIRST, FIRST + MINUTE, FIRST + 2 * MINUTE]
    pass_time(d, 60 * MINUTE)
    assert runs(d) == [FIRST + n * MINUTE for n in range(63)]


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"cron": "61 * * * *"}, "bad minute"),
        ({"cron": "0 0 30 2 *"}, "bad day-of-month"),
        ({"cron": "0 12 * * *", "only": ["22:00-06:00"]}, "never"),
        ({"at": START - 1}, "never"),
        ({"cron": "* * * * *", "tz": "Europe/Atlantis"}, "name of a time zone"),
        ({"cron": "* * * * *", "every_ms": 1000}, "one of cron, every and at"),
        ({"cron": "* * * * *", "only": [7]}, "a window"),
        ({"cron": "* * * * *", "misfire": "all:0"}, "coalesce, skip, all"),
        ({"cron": "* * * * *", "overlap": "perhaps"}, "allow, skip, queue_one, cancel_old"),
        ({"cron": "* * * * *", "task": ["t"]}, "[type, payload, options]"),
        ({"cron": "* * * * *", "task": ["t", b"", {"key": "k"}]}, "options that may be said of every run"),
        ({"cron": "* * * * *", "task": ["t", b"", {"meta": 7}]}, "a map of texts"),
        ({"cron": "* * * * *", "task": ["nobody", b"", None]}, "one that a worker has named"),
        ({"every_ms": 5}, "1000 to"),
    ],
)
def test_what_cannot_be_is_refused_and_changes_nothing(d: Driver, given: dict[str, Any], said: str) -> None:
    _, message = d.refusal("set_schedule", **{"name": "s", "new": True, "task": ["t", b"", None], **given})
    assert said in message
    assert d.ask("schedules")["schedules"] == []
    assert "expected a schedule" in d.refusal("set_schedule", name="s", paused=True)[1]


def test_pages_have_each_schedule_once(d: Driver) -> None:
    for number in range(7):
        schedule(d, f"s{number}")
    found, after = [], None
    while True:
        body = d.ask("schedules", limit=3, **({"after": after} if after else {}))
        found += [row["name"] for row in body["schedules"]]
        after = body["next"]
        if after is None:
            break
    assert found == [f"s{number}" for number in range(7)]


def test_next_slots_are_those_that_come(d: Driver) -> None:
    schedule(d, jitter_ms=1000)
    body = d.ask("next_slots", name="s", count=3)
    assert [slot for slot, _ in body["slots"]] == [FIRST, FIRST + MINUTE, FIRST + 2 * MINUTE]
    assert all(slot <= due <= slot + 1000 for slot, due in body["slots"])


# what an application declares


def declare(d: Driver, *types: TypeInfo) -> None:
    d.broker.put_types([TypeInfo("t"), *types], d.now)


def test_what_an_application_declares_is_there_until_it_says_so_no_more(d: Driver) -> None:
    declare(d, TypeInfo("report", schedule={"cron": "0 3 * * *", "payload": pack({"n": 1})}))
    assert (told(d, "report")["cron"], told(d, "report")["declared"]) == ("0 3 * * *", True)
    d.ask("set_schedule", name="report", cron="0 4 * * *", paused=True)
    d.reopen()
    declare(d, TypeInfo("report", schedule={"cron": "0 3 * * *", "payload": pack({"n": 1})}))
    assert (told(d, "report")["cron"], told(d, "report")["paused"]) == ("0 4 * * *", True)  # a person's word holds
    declare(d, TypeInfo("report", schedule={"cron": "0 5 * * *"}))  # until the application's changes
    assert (told(d, "report")["cron"], told(d, "report")["paused"]) == ("0 5 * * *", True)
    declare(d)
    assert d.ask("schedules")["schedules"] == []
    declare(d, TypeInfo("report", schedule={"cron": "0 5 * * *"}))
    assert told(d, "report")["cron"] == "0 5 * * *"
    declare(d, TypeInfo("report"))
    assert d.ask("schedules")["schedules"] == []


def test_a_schedule_of_a_person_is_not_the_applications(d: Driver) -> None:
    schedule(d, "report")
    declare(d, TypeInfo("report", schedule={"cron": "0 3 * * *"}))
    declare(d)
    assert told(d, "report")["cron"] == "* * * * *"


def test_a_declaration_that_makes_no_sense_costs_nobody_else_anything(d: Driver) -> None:
    declare(d, TypeInfo("report", schedule={"cron": "0 3 * * *", "tz": "Europe/Atlantis"}), TypeInfo("other"))
    assert d.ask("schedules")["schedules"] == []
    assert "other" in d.store.types()


# no slot missing, none twice


def test_a_thousand_slots_and_a_daemon_killed_at_random_commits(tmp_path: Path) -> None:
    """A fast clock; at about one turn in ten the process is gone, before or behind its commit."""
    d, random, died = Driver("lmdb", tmp_path / "store"), Random(17), 0
    for number in range(10):
        schedule(d, f"s{number}", cron="*/10 * * * * *", misfire="all:1000", jitter_ms=3000 * (number % 2))
    began = d.now
    while d.now < began + 1_000_000:
        d.now += random.choice([1000, 5000, 10_000, 35_000])
        fate = random.random()
        if fate < 0.06:
            d.store.commit = _dies  # type: ignore[method-assign]
            with pytest.raises(KeyboardInterrupt):
                d.turn()
        elif fate < 0.12:
            d.turn()
        else:
            d.settle_down()
            continue
        died += 1
        if d.store._txn is not None:  # type: ignore[attr-defined]
            d.store._txn.abort()  # type: ignore[attr-defined]
            d.store._txn = None  # type: ignore[attr-defined]
        d.reopen()
        d.broker.put_types([TypeInfo("t"), TypeInfo("u")], d.now)
    d.now = max(d.now, began + 1_000_000) + 10_000
    d.settle_down()
    sent: dict[str, list[str]] = {}
    for task in d.store.get(range(1, d.store.last_id() + 1)):
        assert task is not None
        meta = task.spec.header.meta
        assert meta is not None
        sent.setdefault(meta["schedule"], []).append(meta["slot"])
    assert died > 5
    for name, slots in sent.items():
        row = told(d, name)
        first = began - began % 10_000 + 10_000
        assert len(slots) == len(set(slots)) == (row["next_at"] - first) // 10_000
        assert slots == sorted(slots)
    assert sum(map(len, sent.values())) > 1000
    d.store.close()
    assert verify(tmp_path) == []


def _dies() -> None:
    raise KeyboardInterrupt

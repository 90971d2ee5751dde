"""What needs a look: each line comes when it should and goes with its reason; the weightiest first, what is muted last; on both stores."""

from __future__ import annotations

from typing import Any

import pytest

from tests.tq.broker_driver import ANY, Driver
from tq.broker.attention import DEAD_MINUTES, LINES_MOST, LOST_BAD, LOST_MS, MUTE_MS, WORKERS_MS
from tq.broker.desk import Hold
from tq.broker.rules import declared_rules
from tq.store import Space, Want

MIB = 1 << 20
BOOM = {"type": "ValueError", "message": "no"}


@pytest.fixture(autouse=True)
def slots_are_there(d: Driver) -> None:
    d.broker.desk.slots = lambda: (0, 2)


def lines(d: Driver) -> dict[str, dict[str, Any]]:
    found = d.ask("attention")["lines"]
    assert len({one["key"] for one in found}) == len(found)
    return {one["key"]: one for one in found}


def told(d: Driver) -> list[tuple[str, str, list[str], str]]:
    return [(key, one["weight"], one["about"], one["what"]) for key, one in lines(d).items()]


def later(d: Driver, seconds: float) -> None:
    """Time passes in turns, as it does where something happens now and then."""
    d.now += int(seconds * 1000)
    d.turn()


def end(d: Driver, count: int, kind: str = "succeeded", queue: str = "default", **details: Any) -> None:
    """So many tasks are sent, run in the pool, and end so."""
    d.ask("enqueue", tasks=[["t", b"", {"queue": queue, "retries": 0}]] * count)
    rows = []
    while len(rows) < count:
        turn = d.turn(Want("w", 100, budget_ms=ANY, queues=frozenset({queue})))
        rows += [[task.id, task.claim, kind if kind != "succeeded" else 0, d.now, d.now, False, details or None]
                 for _, tasks in turn.grants for task in tasks]  # fmt: skip
    d.broker.settled(rows)
    d.turn()


def test_an_instance_without_trouble_has_no_lines(d: Driver) -> None:
    end(d, 100)
    later(d, 2)
    assert told(d) == []


def test_a_paused_queue_is_a_line_while_work_waits_in_it(d: Driver) -> None:
    d.ask("set_queue", name="mail", paused=True)
    assert told(d) == []
    (task,) = d.ask("enqueue", tasks=[["t", b"", {"queue": "mail"}]])["ids"]
    assert told(d) == [("queue_paused:mail", "warn", ["queue", "mail"], "paused by tq, 1 task waits")]
    assert lines(d)["queue_paused:mail"]["since"] == d.now
    d.now += 3_600_000
    assert list(lines(d)) == ["queue_paused:mail"]  # not told as waiting long, too
    d.ask("cancel", ids=[task])
    assert told(d) == []


def test_a_held_queue_is_a_note_and_more_while_work_waits_in_it(d: Driver) -> None:
    d.ask("set_queue", name="mail", hold_load=1.5)
    d.broker.hold_queues({"mail": Hold((), "not known yet")})
    assert told(d) == []
    d.broker.hold_queues({"mail": Hold(("load",), "the load is 3.1", d.now)})
    assert told(d) == [("queue_held:mail", "note", ["queue", "mail"], "held: the load is 3.1; no task waits")]
    d.ask("enqueue", tasks=[["t", b"", {"queue": "mail"}]] * 2)
    assert told(d) == [("queue_held:mail", "warn", ["queue", "mail"], "held: the load is 3.1; 2 tasks wait")]


def test_a_queue_whose_next_waits_longer_than_its_aging_is_a_line(d: Driver) -> None:
    d.ask("set_queue", name="slow", aging_ms=10_000)
    d.ask("set_queue", name="strict", aging_ms=0)
    d.ask("enqueue", tasks=[["t", b"", {"queue": name}] for name in ("slow", "strict", "default")])
    sent = d.now
    later(d, 10)
    assert told(d) == []
    later(d, 0.001)
    assert list(lines(d)) == ["queue_waits:slow"]
    later(d, 50)
    found = lines(d)
    assert set(found) == {"queue_waits:slow", "queue_waits:strict", "queue_waits:default"}
    assert found["queue_waits:slow"]["what"] == "the next has waited for 60 s, more than 10 s; 1 task waits"
    assert (found["queue_waits:slow"]["since"], found["queue_waits:strict"]["since"]) == (sent + 10_000, sent + 60_000)


def test_a_queue_of_which_more_than_one_in_twenty_fails_is_a_line_for_ten_minutes(d: Driver) -> None:
    end(d, 18)
    end(d, 1, "failed", error=BOOM)
    assert "queue_fails:default" not in lines(d)  # of nineteen ends
    end(d, 1)
    assert "queue_fails:default" not in lines(d)  # exactly one in twenty
    end(d, 2, "failed", error=BOOM)
    later(d, 1)
    one = lines(d)["queue_fails:default"]
    assert (one["weight"], one["what"]) == ("warn", "3 of 22 attempts failed in the last 10 minutes (14%)")
    end(d, 20, "failed", error=BOOM)
    later(d, 1)
    assert lines(d)["queue_fails:default"]["weight"] == "bad"
    later(d, 12 * 60)
    assert "queue_fails:default" not in lines(d)


def test_tasks_that_failed_for_good_are_a_line_for_an_hour_with_the_queue_of_most(d: Driver) -> None:
    end(d, 3, "failed", "a", error=BOOM)
    later(d, 1)
    assert lines(d)["tasks_dead"]["what"] == "3 failed for good in the last hour, in queue a"
    end(d, 1, "failed", "b", error=BOOM)
    later(d, 1)
    assert lines(d)["tasks_dead"]["what"] == "4 failed for good in the last hour, 3 of them in queue a"
    assert (lines(d)["tasks_dead"]["about"], lines(d)["tasks_dead"]["weight"]) == (["tasks", ""], "warn")
    later(d, 60 * (DEAD_MINUTES + 1))
    assert "tasks_dead" not in lines(d)


def test_no_worker_is_a_line_once_work_of_the_pool_has_waited_for_one(d: Driver) -> None:
    d.broker.desk.slots = lambda: (0, 0)
    d.ask("set_queue", name="ext", external=True)
    d.ask("enqueue", tasks=[["t", b"", {"queue": "ext"}]])
    later(d, 60)
    assert "workers_none" not in lines(d)
    d.ask("enqueue", tasks=[["t", b"", None]] * 2)
    since = d.now
    later(d, WORKERS_MS / 1000)
    assert "workers_none" not in lines(d)
    later(d, 0.001)
    assert lines(d)["workers_none"] == {
        "key": "workers_none", "weight": "bad", "about": ["workers", ""], "what": "none is ready; 2 tasks wait", "since": since,
        "muted_until": 0,
    }  # fmt: skip
    d.broker.desk.slots = lambda: (0, 1)
    assert "workers_none" not in lines(d)


def test_workers_that_died_unasked_are_a_line_for_an_hour(d: Driver) -> None:
    lost = [0]
    d.broker.desk.lost = lambda: lost[0]
    lost[0] = 1
    d.turn()
    assert told(d) == [("workers_lost", "warn", ["workers", ""], "one died unasked in the last hour")]
    began = d.now
    later(d, LOST_MS / 2000)
    lost[0] = LOST_BAD
    d.turn()
    assert told(d) == [("workers_lost", "bad", ["workers", ""], f"{LOST_BAD} died unasked in the last hour")]
    assert lines(d)["workers_lost"]["since"] == began
    later(d, LOST_MS / 2000)
    assert lines(d)["workers_lost"]["weight"] == "warn"
    later(d, LOST_MS / 2000)
    assert told(d) == []


def test_a_type_that_is_held_back_is_a_line(d: Driver) -> None:
    d.broker.desk.suspected = lambda: {"t": 3}
    words = "suspected: 3 runs in a row killed their worker; its tasks are tried one at a time"
    assert told(d) == [("type_suspected:t", "warn", ["type", "t"], words)]


def test_a_schedule_that_fails_or_is_overdue_is_a_line(d: Driver) -> None:
    alerts = {"on_failure": ["u", b"", None], "on_missed": ["u", b"", None], "missed_after_ms": 60_000}
    d.ask("set_schedule", name="night", new=True, every_ms=3_600_000, task=["t", b"", {"retries": 0}], **alerts)
    task = d.ask("run_schedule", name="night")["id"]
    (grant,) = d.turn(Want("w", 1, budget_ms=ANY)).grants
    d.broker.settled([[task, grant[1][0].claim, "failed", d.now, d.now, False, {"error": BOOM}]])
    d.settle_down()
    found = lines(d)
    assert found["schedule_failing:night"]["what"] == f"failing since task {task}"
    assert found["schedule_failing:night"]["about"] == ["schedule", "night"]


def test_a_schedule_whose_run_does_not_succeed_in_time_is_overdue(d: Driver) -> None:
    alerts = {"on_missed": ["u", b"", None], "missed_after_ms": 60_000}
    d.ask("set_schedule", name="night", new=True, every_ms=3_600_000, task=["t", b"", None], **alerts)
    for _ in range(200):
        d.now = max(int(d.broker.next_due or d.now), d.now + 1)
        d.settle_down()
        if "schedule_overdue:night" in lines(d):
            break
    one = lines(d)["schedule_overdue:night"]
    assert (one["weight"], one["about"]) == ("bad", ["schedule", "night"])
    assert one["what"].startswith("overdue: no run since that of 2023-11-")
    assert one["since"] == d.store.schedules()["night"].overdue


def test_a_rule_that_is_raised_is_a_line(d: Driver) -> None:
    d.broker.watch_rules(declared_rules("tq.toml", {"deep": {"watch": "queue_depth", "above": 1}}), "tq.toml", d.now)
    d.ask("enqueue", tasks=[["t", b"", None]] * 2)
    later(d, 1)
    later(d, 1)
    assert lines(d)["alert:deep"]["weight"] == "bad"
    assert lines(d)["alert:deep"]["since"] == d.broker.raised["deep"]


@pytest.mark.parametrize(
    ("free", "live", "found"),
    [
        (1000, 1, []),
        (511, 1, [("store_disk", "warn")]),
        (63, 1, [("store_disk", "bad")]),
        (1000, 769, [("store_full", "warn")]),
        (1000, 961, [("store_full", "bad")]),
    ],
)
def test_a_disk_or_a_store_that_is_nearly_full_is_a_line(d: Driver, free: int, live: int, found: list[tuple[str, str]]) -> None:
    d.broker.desk.space = lambda: Space(free * MIB, 64 * MIB, live * MIB, 64 * MIB, 1024 * MIB)
    assert [(key, one["weight"]) for key, one in lines(d).items()] == found


def test_a_clock_that_was_put_forward_or_back_is_a_note_for_an_hour(d: Driver) -> None:
    d.turn()
    d.step(7_200_000)
    assert told(d) == [("clock_stepped", "note", ["clock", ""], "was put forward by 7,200 s; waits and leases last as before")]
    later(d, 1)
    d.step(-7_200_000)
    assert lines(d)["clock_stepped"]["what"] == "was put back by 7,200 s; waits and leases last as before"
    later(d, 3601)
    assert told(d) == []


def test_the_weightiest_come_first_then_those_that_are_so_longest_and_fifty_at_most(d: Driver) -> None:
    d.broker.desk.suspected = lambda: {f"t{at}": 2 for at in range(60)}
    d.broker.desk.space = lambda: Space(0, 64 * MIB, 0, 0, 1 << 40)
    d.ask("set_queue", name="mail", hold_load=1.5)
    d.broker.hold_queues({"mail": Hold(("load",), "busy", d.now)})
    found = list(lines(d).values())
    assert len(found) == LINES_MOST
    assert [one["weight"] for one in found] == ["bad"] + ["warn"] * 49
    d.broker.desk.suspected = lambda: {"t2": 2}
    assert "type_suspected:t1" not in lines(d)
    later(d, 5)
    d.broker.desk.suspected = lambda: {"t1": 2, "t2": 2}
    assert list(lines(d)) == ["store_disk", "type_suspected:t2", "type_suspected:t1", "queue_held:mail"]


def test_what_is_muted_comes_last_until_its_time_is_over_and_who_did_it_is_an_event(d: Driver) -> None:
    d.broker.desk.suspected = lambda: {"t": 2, "u": 3}
    first = next(iter(lines(d)))
    assert d.ask("mute", key=first, for_ms=60_000) == {}
    until = d.now + 60_000
    found = lines(d)
    assert [(key, one["muted_until"]) for key, one in found.items()][-1] == (first, until)
    assert found[first]["weight"] == "warn"
    event = d.ask("events", limit=1)["events"][0]
    assert (event["what"], event["target"], event["after"]) == ("muted", f"attention {first}", {"for_ms": 60_000, "until": until})
    d.now += 60_000
    assert lines(d)[first]["muted_until"] == 0
    d.ask("mute", key=first, for_ms=60_000)
    d.reopen()
    d.broker.desk.suspected, d.broker.desk.slots = lambda: {"t": 2, "u": 3}, lambda: (0, 2)
    assert {one["muted_until"] for one in lines(d).values()} == {0}


def test_only_a_line_that_is_there_is_muted_and_for_a_minute_to_a_week(d: Driver) -> None:
    long = "q" * 200
    d.ask("set_queue", name=long, paused=True)
    d.ask("enqueue", tasks=[["t", b"", {"queue": long}]])
    key = f"queue_paused:{long}"
    for for_ms in MUTE_MS:
        d.ask("mute", key=key, for_ms=for_ms)
    events = len(d.ask("events", limit=100)["events"])
    for args, words in (
        ({"key": "queue_paused:x", "for_ms": 60_000}, "expected that of a line that is there now"), ({"key": key}, "for_ms"),
        ({"key": 5, "for_ms": 60_000}, "expected that of a line"), ({"key": key, "for_ms": 59_999}, "60000"),
        ({"key": key, "for_ms": MUTE_MS[1] + 1}, "604800000"), ({"for_ms": 60_000}, "key"),
    ):  # fmt: skip
        code, message = d.refusal("mute", **args)
        assert code == "usage"
        assert words in message
    assert len(d.ask("events", limit=100)["events"]) == events

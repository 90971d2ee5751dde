"""Alerts of schedules: told once each, in the transaction of their cause, whatever becomes of the daemon; on both stores."""

from __future__ import annotations

from pathlib import Path
from random import Random
from typing import Any

import pytest

from tests.tq.broker_driver import ANY, START, Driver
from tq.model import pack, unpack
from tq.store import TypeInfo, Want
from tq.store.verify import verify

MINUTE = 60_000
FIRST = START - START % MINUTE + MINUTE
BOOM = {"type": "ValueError", "message": "no\x1b[m"}


ALERT = ["u", b"", None]
ALL = {"on_failure": ALERT, "on_recovery": ALERT, "on_missed": ALERT}


def schedule(d: Driver, name: str = "s", **given: Any) -> None:
    when = given if {"cron", "every_ms"} & given.keys() else {"cron": "* * * * *", **given}
    d.ask("set_schedule", **{"name": name, "new": True, "task": ["t", b"", {"retries": 0}], **when})


def told(d: Driver, name: str = "s") -> Any:
    return d.ask("schedules", name=name)["schedules"][0]


def alerts(d: Driver) -> list[dict[str, Any]]:
    """What the alerts that were sent tell, in their order."""
    found = [d.row(task_id) for task_id in range(1, d.store.last_id() + 1)]
    return [unpack(row["payload"]) for row in found if row["type"] == "u"]


def words(d: Driver) -> list[str]:
    return [one["alert"] for one in alerts(d)]


def pass_time(d: Driver, ms: int) -> None:
    d.now += ms
    d.settle_down()


def run(d: Driver, kind: object = 0, **outcome: Any) -> int:
    """The next slot comes, and its run ends so; alerts succeed. The run's id."""
    pass_time(d, MINUTE - d.now % MINUTE)
    found = 0
    for _ in range(3):
        for task in d.grant(10):
            if task.header.type == "t":
                found = task.id
                d.broker.settled([d.result(task, kind, **outcome)])
            else:
                d.broker.settled([d.result(task)])
        d.settle_down()
    return found


def fail(d: Driver) -> int:
    return run(d, "failed", error=BOOM, exit_code=3)


def events(d: Driver, what: str) -> list[Any]:
    return [event["after"] for event in d.ask("events", limit=500)["events"][::-1] if event["what"] == what]


def test_a_failure_is_told_once_until_a_run_succeeds_and_then_that(d: Driver) -> None:
    schedule(d, **ALL)
    assert run(d)
    assert alerts(d) == []
    first = fail(d)
    slot = "2023-11-14T22:15:00.000Z"
    failure = {
        "alert": "failure", "schedule": "s", "about": str(first), "outcome": "failed", "slot": slot, "count": "",
        "error": "ValueError: no\\x1b[m", "exit_code": "3",
    }  # fmt: skip
    assert alerts(d) == [failure]
    assert told(d)["failing"] == first
    fail(d)
    fail(d)
    assert words(d) == ["failure"]
    again = run(d)
    assert alerts(d)[1] == {**failure, "alert": "recovery", "about": str(again), "outcome": "succeeded", "error": "", "exit_code": "",
                            "slot": "2023-11-14T22:18:00.000Z"}  # fmt: skip
    assert told(d)["failing"] == 0
    run(d)
    fail(d)
    assert words(d) == ["failure", "recovery", "failure"]
    assert [event["alert"] for event in events(d, "alert_raised")] == ["failure", "recovery", "failure"]


def test_each_failure_is_told_where_that_is_asked_for(d: Driver) -> None:
    schedule(d, **ALL, alert_each=True)
    for _ in range(3):
        fail(d)
    run(d)
    run(d)
    assert words(d) == ["failure"] * 3 + ["recovery"]


def test_a_retry_is_no_failure_and_a_cancelled_run_neither_fails_nor_recovers(d: Driver) -> None:
    schedule(d, **ALL, task=["t", b"", {"retries": 1, "backoff": ["fixed", 1000, 1.0, 1000, False]}])
    fail(d)
    assert words(d) == []
    pass_time(d, 1000)
    d.broker.settled([d.result(task, "failed", error=BOOM) for task in d.grant(1)])
    d.settle_down()
    assert words(d) == ["failure"]
    pass_time(d, MINUTE - d.now % MINUTE)
    newest = told(d)["last"]["id"]
    d.ask("cancel", ids=[newest])
    assert words(d) == ["failure"]
    assert told(d)["failing"]


def test_a_run_that_expires_is_a_failure(d: Driver) -> None:
    schedule(d, **ALL, cron="0 * * * *", task=["t", b"", {"ttl_ms": 1000}])
    pass_time(d, 60 * MINUTE)
    pass_time(d, 60 * MINUTE)
    assert [one["outcome"] for one in alerts(d)] == ["expired"]


def test_only_what_is_asked_for_is_told_and_an_alert_may_be_ended(d: Driver) -> None:
    schedule(d, on_recovery=ALERT)
    fail(d)
    run(d)
    assert words(d) == ["recovery"]
    d.ask("set_schedule", name="s", on_recovery=[], on_failure=ALERT)
    fail(d)
    d.ask("set_schedule", name="s", on_failure=[])
    fail(d)
    run(d)
    assert words(d) == ["recovery", "failure"]
    one = d.store.schedules()["s"]
    assert (one.alerts, list(one.watched), one.failing) == ({}, [], 0)


def test_missed_and_skipped_slots_are_told_once_until_a_run_succeeds(d: Driver) -> None:
    schedule(d, **ALL)
    run(d)
    pass_time(d, 10 * MINUTE)  # nobody was there
    assert [(one["alert"], one["outcome"], one["count"]) for one in alerts(d)] == [("missed", "missed", "9")]
    pass_time(d, 10 * MINUTE)
    assert words(d) == ["missed"]
    run(d)
    assert words(d)[1:] == ["recovery"]
    schedule(d, "o", every_ms=5 * MINUTE, overlap="skip", on_missed=ALERT)
    pass_time(d, 5 * MINUTE)
    pass_time(d, 5 * MINUTE)
    found = [one for one in alerts(d) if one["schedule"] == "o"]
    assert [(one["outcome"], one["error"]) for one in found] == [("skipped", "the run before goes on")]


def test_a_slot_that_can_never_be_sent_is_told(d: Driver) -> None:
    schedule(d, **ALL)
    with_payload = d.broker.desk.intake
    d.broker.desk.intake.forget()
    known = with_payload._types
    with_payload._types = lambda: {"u": TypeInfo("u")}
    pass_time(d, MINUTE)
    with_payload._types = known
    assert [one["outcome"] for one in alerts(d)] == ["skipped"]
    assert "expected one that a worker has named" in alerts(d)[0]["error"]


def test_no_success_in_time_is_told_when_its_time_is_over_though_nothing_else_happens(d: Driver) -> None:
    schedule(d, on_missed=ALERT, on_recovery=ALERT, missed_after_ms=90_000, cron="0 * * * *")
    slot = FIRST - FIRST % (60 * MINUTE) + 60 * MINUTE
    pass_time(d, slot - d.now)
    assert d.broker.next_due == slot + 90_000
    (task,) = d.grant()
    pass_time(d, 89_999)
    assert words(d) == []
    pass_time(d, 1)
    assert [(one["outcome"], one["slot"]) for one in alerts(d)] == [("overdue", "2023-11-14T23:00:00.000Z")]
    pass_time(d, 30 * MINUTE)
    d.broker.settled([d.result(task)])
    d.settle_down()
    assert words(d) == ["missed", "recovery"]
    pass_time(d, slot + 60 * MINUTE - d.now)
    d.broker.settled([d.result(task) for task in d.grant(10)])
    pass_time(d, 30 * MINUTE)
    assert words(d) == ["missed", "recovery"]


def test_a_failure_that_was_told_is_not_told_again_as_overdue(d: Driver) -> None:
    schedule(d, **ALL, missed_after_ms=5000, cron="0 * * * *")
    pass_time(d, 60 * MINUTE - d.now % (60 * MINUTE))
    d.broker.settled([d.result(task, "failed", error=BOOM) for task in d.grant(10)])
    pass_time(d, 10 * MINUTE)
    assert words(d) == ["failure"]
    schedule(d, "quiet", on_missed=ALERT, missed_after_ms=5000)
    pass_time(d, MINUTE - d.now % MINUTE)
    pass_time(d, 5000)
    assert [one["outcome"] for one in alerts(d)[1:]] == ["overdue"]


def test_a_paused_schedule_expects_nothing(d: Driver) -> None:
    schedule(d, on_missed=ALERT, missed_after_ms=10_000, cron="0 * * * *")
    pass_time(d, 60 * MINUTE - d.now % (60 * MINUTE))
    d.ask("set_schedule", name="s", paused=True)
    pass_time(d, 30 * MINUTE)
    d.ask("set_schedule", name="s", paused=False)
    pass_time(d, 20 * MINUTE)
    assert words(d) == []


def test_an_alert_without_room_is_sent_when_there_is_some_and_nothing_is_lost(d: Driver) -> None:
    d.ask("set_queue", name="small", max_tasks=1)
    schedule(d, on_failure=["u", b"", {"queue": "small"}], on_missed=["u", b"", {"queue": "small"}])
    (first,) = d.add(queue="small", delay_ms=1 << 40)
    task = fail(d)
    assert words(d) == []
    assert told(d)["failing"] == 0
    if d.kind == "lmdb":
        d.reopen()
    pass_time(d, 2500)
    assert words(d) == []
    d.ask("cancel", ids=[first])
    pass_time(d, 1000)
    assert [(one["alert"], one["about"]) for one in alerts(d)] == [("failure", str(task))]


@pytest.mark.parametrize("paused", ["before", "while"])
def test_an_alert_of_a_paused_schedule_is_sent_too_when_there_is_room(d: Driver, paused: str) -> None:
    d.ask("set_queue", name="small", max_tasks=1)
    schedule(d, on_failure=["u", b"", {"queue": "small"}], paused=paused == "before")
    (first,) = d.add(queue="small", delay_ms=1 << 40)
    task = d.ask("run_schedule", name="s")["id"]
    (first_run,) = d.grant(1)
    d.broker.settled([d.result(first_run, "failed", error=BOOM)])
    d.settle_down()
    d.ask("set_schedule", name="s", paused=True)
    for _ in range(3):  # whenever the broker asks for a turn
        assert d.broker.next_due is not None
        assert d.broker.next_due <= d.now + 1000
        d.now = int(d.broker.next_due)
        d.settle_down()
    if d.kind == "lmdb":
        d.reopen()
    assert words(d) == []
    d.ask("cancel", ids=[first])
    pass_time(d, 1000)
    assert [(one["alert"], one["about"]) for one in alerts(d)] == [("failure", str(task))]
    assert d.store.schedules()["s"].due_at == 0
    pass_time(d, 10 * MINUTE)
    assert (len(alerts(d)), d.store.last_id()) == (1, task + 1)  # and none of its slots has come
    d.ask("set_schedule", name="s", paused=False)
    assert run(d) > task + 1


def test_an_alert_that_can_never_be_sent_is_an_event_and_harms_nothing(d: Driver) -> None:
    schedule(d, on_failure=["gone", b"", {"allow_unknown": True}])
    one = d.store.schedules()["s"]
    d.store.begin(d.now)
    d.store.put_schedule(type(one)(**{key: getattr(one, key) for key in one.__slots__} | {"alerts": {"on_failure": ["gone", b"", None]}}))
    d.store.commit()
    fail(d)
    (event,) = events(d, "alert_not_sent")
    assert "expected one that a worker has named" in event["why"]
    assert fail(d)


def test_a_command_finds_what_happened_in_its_environment_and_has_the_surroundings_of_its_schedule(d: Driver) -> None:
    surroundings = {"cwd": "/tmp", "umask": 18, "nice": 3, "set": {"OWN": "1"}}
    line = ["shell", pack({"argv": ["/bin/sh", "-c", "mail me"]}), {"retries": 7, "extras": None}]
    schedule(d, task=["shell", pack({"argv": ["false"]}), {"extras": surroundings}], on_failure=line)
    pass_time(d, MINUTE)
    d.broker.settled([d.result(task, "failed", error={"type": "ExitCode", "message": "exit code 1"}, exit_code=1) for task in d.grant(9)])
    d.turn()
    (task,) = [task for task in d.grant(9) if (task.header.label or "") == "alert failure"]
    extras = dict(task.header.extras or {})
    assert (extras["cwd"], extras["umask"], "nice" in extras) == ("/tmp", 18, False)
    assert extras["set"] == {
        "TQ_ALERT": "failure", "TQ_SCHEDULE": "s", "TQ_ABOUT": "1", "TQ_OUTCOME": "failed", "TQ_SLOT": "2023-11-14T22:14:00.000Z",
        "TQ_COUNT": "", "TQ_ERROR": "ExitCode: exit code 1", "TQ_EXIT_CODE": "1",
    }  # fmt: skip
    assert (task.header.retries, task.header.priority) == (7, 3)
    assert (task.header.meta or {})["about"] == "1"


@pytest.mark.parametrize(
    "given",
    [
        {"on_failure": ["u", b""]}, {"on_failure": ["u", b"", 7]}, {"on_failure": ["odd", b"", None]}, {"missed_after_ms": 1000},
        {"on_failure": ["u", b"", {"delay_ms": 7}]}, {"on_failure": ["u", b"", {"meta": 7}]}, {"on_missed": ALERT, "missed_after_ms": -1},
        {"on_missed": ["u", b"", {"retries": "x"}]},
    ],
)  # fmt: skip
def test_an_alert_that_makes_no_sense_is_refused(d: Driver, given: Any) -> None:
    assert d.refusal("set_schedule", name="s", new=True, cron="* * * * *", task=["t", b"", None], **given)[0] in ("usage", "unknown_type")
    assert d.store.schedules() == {}


def test_schedules_without_alerts_watch_nothing(d: Driver) -> None:
    schedule(d)
    fail(d)
    assert d.broker.desk.blocking == set()
    assert list(d.store.schedules()["s"].watched) == []
    d.ask("run_schedule", name="s")
    assert d.broker.desk.blocking == set()


def test_alerts_are_told_exactly_once_though_the_daemon_dies_at_any_commit(tmp_path: Path) -> None:
    rng = Random(5)
    d = Driver("lmdb", tmp_path / "store")
    schedule(d, **ALL)
    fails = [bool(rng.random() < 0.5) for _ in range(120)]
    for failed in fails:
        pass_time(d, MINUTE - d.now % MINUTE)
        ended = False
        while not ended:
            runs = [task for _, tasks in d.turn(Want("w1", 10, ANY, types=frozenset({"t"}))).grants for task in tasks]
            if not runs:
                break
            (task,) = runs
            d.broker.settled([d.result(task, "failed" if failed else 0, **({"error": BOOM} if failed else {}))])
            ended = True
            if rng.random() < 0.4:  # killed before this turn, or in it
                commit = d.store.commit
                if rng.random() < 0.5:
                    d.store.commit = _dies  # type: ignore[method-assign]
                    with pytest.raises(KeyboardInterrupt):
                        d.turn()
                    d.store._txn.abort()  # type: ignore[attr-defined]
                    d.store._txn = None  # type: ignore[attr-defined]
                    d.store.commit = commit  # type: ignore[method-assign]
                d.reopen()
                d.broker.recover(lambda *_: False, d.now)
                ended = False
        d.settle_down()
    expected, failing = [], False
    for failed in fails:
        if failed and not failing:
            expected.append("failure")
        elif failing and not failed:
            expected.append("recovery")
        failing = failed
    assert words(d) == expected
    assert len(expected) > 20
    d.store.close()
    assert verify(tmp_path) == []


def _dies() -> None:
    raise KeyboardInterrupt

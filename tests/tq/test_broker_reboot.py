"""``@reboot``: one run for each boot of the machine, whatever happens to the daemon, and none for the one the rule was made in."""

from __future__ import annotations

from typing import Any

import pytest

from tests.tq.broker_driver import Driver
from tests.tq.test_broker_schedules import events, runs, schedule, told
from tq.store import Want

FIRST, SECOND, THIRD = 7, (1 << 64) - 1, 9


def boots(d: Driver, boot: int) -> None:
    """The daemon dies, and another one starts in this boot of the machine."""
    d.reopen()
    d.broker.desk.boot = boot
    d.settle_down()


@pytest.fixture
def booted(d: Driver) -> Driver:
    d.broker.desk.boot = FIRST
    return d


def test_each_boot_is_one_run_however_often_the_daemon_starts_in_it(booted: Driver) -> None:
    d = booted
    schedule(d, cron="@reboot")
    assert (told(d)["next_at"], d.ask("next_slots", name="s")["slots"]) == (0, [])
    for _ in range(3):
        boots(d, FIRST)
    assert runs(d) == []
    d.now += 5000
    boots(d, SECOND)
    assert runs(d) == [d.now]
    row = d.row(d.store.last_id())
    assert (row["state"], row["meta"]["schedule"]) == ("pending", "s")
    at = d.now
    for _ in range(3):
        d.now += 60_000
        boots(d, SECOND)
    assert runs(d) == [at]
    boots(d, THIRD)
    assert runs(d) == [at, d.now]
    assert d.store.last_id() == 2


def test_a_daemon_that_dies_before_its_commit_leaves_the_run_to_the_next_one(booted: Driver) -> None:
    d = booted
    schedule(d, cron="@reboot")
    d.reopen()
    d.broker.desk.boot = SECOND
    commit = d.store.commit

    def dies() -> None:
        raise KeyboardInterrupt

    d.store.commit = dies  # type: ignore[method-assign]
    with pytest.raises(KeyboardInterrupt):
        d.turn()
    d.store.commit = commit  # type: ignore[method-assign]
    d.store.abort()
    boots(d, SECOND)
    assert len(runs(d)) == d.store.last_id() == 1
    boots(d, SECOND)
    assert len(runs(d)) == 1


def test_a_rule_that_becomes_one_of_boots_waits_for_the_next_one(booted: Driver) -> None:
    d = booted
    schedule(d, cron="0 3 * * *")
    boots(d, SECOND)
    d.ask("set_schedule", name="s", cron="@reboot")
    boots(d, SECOND)
    assert runs(d) == []
    boots(d, THIRD)
    assert len(runs(d)) == 1
    d.ask("set_schedule", name="s", cron="0 3 * * *")
    boots(d, FIRST)
    assert len(runs(d)) == 1


def test_a_boot_during_a_pause_is_skipped_and_said(booted: Driver) -> None:
    d = booted
    schedule(d, cron="@reboot", paused=True)
    boots(d, SECOND)
    assert runs(d) == []
    assert [event["why"] for event in events(d, "slot_skipped")] == ["paused"]
    d.ask("set_schedule", name="s", paused=False)
    boots(d, SECOND)
    assert runs(d) == []
    boots(d, THIRD)
    assert len(runs(d)) == 1


def test_a_boot_while_the_queue_is_full_waits_for_room(booted: Driver) -> None:
    d = booted
    schedule(d, cron="@reboot")
    d.ask("set_queue", name="default", max_tasks=1)
    d.ask("enqueue", tasks=[["t", b"", None]])
    boots(d, SECOND)
    assert runs(d) == []
    boots(d, SECOND)
    assert [event["slot_at"] for event in events(d, "slot_waits")] == [d.now]
    at = d.now
    d.ask("cancel", ids=[1])
    d.now += 1000
    d.settle_down()
    assert runs(d) == [at]


def test_a_run_that_still_goes_on_is_an_overlap_as_any(booted: Driver) -> None:
    d = booted
    schedule(d, cron="@reboot", overlap="skip")
    boots(d, SECOND)
    boots(d, THIRD)
    assert len(runs(d)) == 1
    assert [event["why"] for event in events(d, "slot_skipped")] == ["overlap"]


def test_it_is_claimed_in_the_turn_in_which_the_daemon_starts(booted: Driver) -> None:
    d = booted
    schedule(d, cron="@reboot")
    d.reopen()
    d.broker.desk.boot = SECOND
    turn = d.turn(Want("w1", 1))
    assert [claimed.id for _, tasks in turn.grants for claimed in tasks] == [1]


@pytest.mark.parametrize("more", [{"jitter_ms": 5}, {"only": ["01:00-02:00"]}, {"from_at": 5}, {"until_at": 1 << 42}])
def test_what_needs_a_clock_is_refused_beside_it(booted: Driver, more: dict[str, Any]) -> None:
    number = booted.submit("set_schedule", name="s", new=True, cron="@reboot", task=["t", b"", None], **more)
    booted.turn()
    code, message, _ = booted.error(number)
    assert (code, "without jitter, only, from and until" in message) == ("usage", True)


def test_who_knows_no_boot_runs_nothing(d: Driver) -> None:
    schedule(d, cron="@reboot")
    boots(d, 0)
    assert runs(d) == []
    boots(d, SECOND)
    assert len(runs(d)) == 1

"""Breakers of services and of types through a real broker: who may call, what is claimed, what a restart keeps; on both stores."""

from __future__ import annotations

from typing import Any

import pytest

from tests.tq.broker_driver import ANY, Driver
from tests.tq.test_broker_reasons import why
from tq.broker import breakers
from tq.store import TypeInfo, Want

RULE = "2 failures, cool 10s"


def enter(d: Driver, **more: Any) -> Any:
    return d.ask("enter_breaker", name="smtp", **more)


def fail(d: Driver, epoch: int = 0, bad: int = 1, **more: Any) -> Any:
    return d.ask("report_breaker", name="smtp", epoch=epoch, bad=bad, **more)


def shown(d: Driver, **which: str) -> Any:
    (row,) = d.ask("breakers", **which or {"name": "smtp"})["breakers"]
    return row


def events(d: Driver) -> list[tuple[str, str]]:
    d.settle_down()
    return [(one["what"], one["target"]) for one in reversed(d.ask("events")["events"]) if one["what"].startswith("breaker")]


def test_a_service_is_left_alone_after_its_failures_and_probed_after_its_cool_down(d: Driver) -> None:
    went = enter(d, rule=RULE)
    assert went == {"go": True, "state": "closed", "epoch": 0, "pass": 0, "wait_ms": 0, "why": ""}
    assert fail(d, text="OSError: no") == {"state": "closed", "epoch": 0}
    assert fail(d, text="OSError: no") == {"state": "open", "epoch": 1}
    d.now += 4000
    refused = enter(d, rule=RULE)
    assert (refused["go"], refused["wait_ms"], refused["why"]) == (False, 6300, "2 failures in a row; the last: OSError: no")
    d.now += 6000
    probe = enter(d, rule=RULE)
    assert (probe["go"], probe["state"], probe["pass"]) == (True, "half_open", 1)
    assert enter(d, rule=RULE)["go"] is False
    assert fail(d, probe["epoch"], 0, good=1, **{"pass": 1}) == {"state": "closed", "epoch": 2}
    assert events(d) == [("breaker_opened", "service smtp"), ("breaker_half_open", "service smtp"), ("breaker_closed", "service smtp")]


def test_successes_come_with_the_next_question_and_take_no_commit(d: Driver) -> None:
    enter(d, rule="50% of 4")
    fail(d, bad=1)
    before = d.store.last_id(), len(events(d))
    began = []
    real, d.store.begin = d.store.begin, lambda now: (began.append(now), real(now))[1]  # type: ignore[method-assign]
    assert enter(d, rule="50% of 4", good=3)["go"]
    assert not began
    assert (shown(d)["calls"], shown(d)["failed"], before[1]) == (4, 1, 0)
    assert enter(d, rule="50% of 4", good=9, epoch=7)["go"]
    assert shown(d)["failed"] == 1, "of another epoch"


def test_an_open_breaker_is_open_after_a_restart_and_what_a_person_set_stays(d: Driver) -> None:
    assert d.ask("set_breaker", name="smtp", rule=RULE) == {"new": True}
    assert d.ask("set_breaker", name="smtp", rule="3 failures") == {"new": False}
    enter(d, rule=RULE)
    assert shown(d)["rule"].startswith("3 failures"), "what a program declares is less than what a person says"
    fail(d, bad=3)
    d.reopen()
    found = shown(d)
    assert (found["state"], found["fixed"], found["why"]) == ("open", True, "3 failures in a row")
    d.ask("reset_breaker", name="smtp")
    d.reopen()
    assert (shown(d)["state"], shown(d)["fixed"]) == ("closed", True)
    assert d.ask("remove_breaker", name="smtp") == {}
    d.reopen()
    assert d.ask("breakers") == {"breakers": []}


def test_one_that_nobody_set_is_forgotten_when_it_is_closed_and_the_daemon_starts_anew(d: Driver) -> None:
    enter(d, rule=RULE)
    fail(d, bad=2)
    d.reopen()
    assert shown(d)["state"] == "open"
    d.now += 10_000
    probe = enter(d)
    assert fail(d, probe["epoch"], 0, good=1, **{"pass": probe["pass"]})["state"] == "closed"
    d.reopen()
    assert d.ask("breakers") == {"breakers": []}
    assert fail(d, 3) == {"state": "closed", "epoch": 0}, "a report about nothing that is known changes nothing"


def test_it_is_tripped_for_a_time_or_until_it_is_reset(d: Driver) -> None:
    d.ask("trip_breaker", name="smtp", for_ms=5000)
    assert enter(d)["wait_ms"] == 5250
    d.ask("trip_breaker", name="smtp")
    d.now += 10**8
    assert (enter(d)["go"], shown(d)["state"], shown(d)["until"]) == (False, "open", 0)
    d.ask("reset_breaker", name="smtp")
    assert enter(d)["go"]
    assert [what for what, _ in events(d)] == ["breaker_opened", "breaker_opened", "breaker_closed"]


@pytest.mark.parametrize(
    ("verb", "args", "says"),
    [
        ("set_breaker", {"name": "a:b", "rule": RULE}, "without spaces and colons"),
        ("set_breaker", {"name": "a", "rule": "sometimes"}, "expected a rule such as"),
        ("set_breaker", {"rule": RULE}, "one of them, got neither"),
        ("set_breaker", {"name": "a", "type": "b", "rule": RULE}, "one of them, got both"),
        ("reset_breaker", {"name": "smpt"}, "expected a breaker (smtp), got 'smpt'"),
        ("remove_breaker", {"type": "smtp"}, "expected a breaker (smtp), got 'type:smtp'"),
        ("trip_breaker", {"name": "a", "for_ms": 0}, "for_ms"),
        ("enter_breaker", {"name": "a", "good": -1}, "good"),
        ("enter_breaker", {"name": "a", "rule": "x"}, "expected a rule"),
        ("report_breaker", {"name": "a"}, "argument epoch"),
        ("breakers", {"name": "none"}, "expected a breaker"),
    ],
)
def test_a_request_that_cannot_be_says_so_and_changes_nothing(d: Driver, verb: str, args: dict[str, Any], says: str) -> None:
    d.ask("set_breaker", name="smtp", rule=RULE)
    code, message = d.refusal(verb, **args)
    assert (code, says in message) == ("usage", True), message
    assert [row["name"] for row in d.ask("breakers")["breakers"]] == ["smtp"]


def test_there_may_be_only_so_many(d: Driver, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(breakers, "MOST", 2)
    d.ask("set_breaker", name="a", rule=RULE)
    d.ask("enter_breaker", name="b")
    assert "at most 2 breakers" in d.refusal("enter_breaker", name="c")[1]
    assert "at most 2 breakers" in d.refusal("trip_breaker", name="c")[1]
    assert d.ask("enter_breaker", name="b")["go"]


def test_a_request_that_is_done_again_alone_counts_once(d: Driver, monkeypatch: pytest.MonkeyPatch) -> None:
    enter(d, rule="3 failures")
    number = d.submit("report_breaker", name="smtp", epoch=0, bad=1)
    d.submit("set_breaker", conn=2, name="other", rule=RULE)
    real, once = d.store.put_standing, [True]

    def put(*args: Any) -> None:
        if once:
            once.clear()
            raise RuntimeError("a bug")
        real(*args)

    monkeypatch.setattr(d.store, "put_standing", put)
    d.settle_down()
    assert d.answer(number) == {"state": "closed", "epoch": 0}
    assert shown(d)["row"] == 1


# types


def want(limit: int = 9) -> Want:
    return Want("w1", limit, ANY)


def test_of_a_type_whose_breaker_is_open_nothing_is_claimed_and_then_one_at_a_time(d: Driver) -> None:
    d.ask("set_breaker", type="t", rule=RULE)
    ids = d.add(6, retries=9, backoff=["fixed", 3_600_000, 1.0, 3_600_000, False])
    others = d.add(2, "u")
    for task in d.grant(2):
        d.broker.settled([d.result(task, "failed", error={"type": "OSError", "message": "no"})])
    turn = d.turn(want())
    assert [task.id for _, tasks in turn.grants for task in tasks] == others
    assert shown(d, type="t")["why"] == "2 failures in a row; the last: OSError: no"
    assert "breaker" in why(d, ids[3])
    assert [line["key"] for line in d.ask("attention")["lines"] if "breaker" in line["key"]] == ["breaker_open:type:t"]
    assert d.broker.backlog({"t", "u"}) == 0
    assert d.broker.next_due == d.now + 10_000
    d.now += 10_000
    (probe,) = (task for _, tasks in d.turn(want()).grants for task in tasks)
    assert probe.header.type == "t"
    assert d.grant(9) == []
    assert shown(d, type="t")["probes"] == 1
    d.broker.settled([d.result(probe)])
    assert len(d.grant(9)) == 3
    assert [what for what, _ in events(d)] == ["breaker_set", "breaker_opened", "breaker_half_open", "breaker_closed"]


def test_a_probe_that_fails_shuts_its_type_for_longer_and_one_given_back_frees_its_place(d: Driver) -> None:
    d.ask("set_breaker", type="t", rule=RULE)
    d.ask("trip_breaker", type="t", for_ms=1000)
    d.add(3)
    d.now += 1000
    (probe,) = d.grant(9)
    d.broker.settled([d.result(probe, "released")])
    (probe,) = d.grant(9)
    d.broker.settled([d.result(probe, "crashed", error={"type": "WorkerDied", "message": "x"})])
    assert d.grant(9) == []
    assert shown(d, type="t")["state"] == "open"


def test_a_consumer_that_claims_gets_nothing_of_it_and_a_lapsed_lease_frees_the_probes_place(d: Driver) -> None:
    d.ask("set_breaker", type="t", rule=RULE)
    d.ask("trip_breaker", type="t", for_ms=1000)
    d.add(2, retries=5)
    assert d.ask("claim", queues=["default"], limit=5)["tasks"] == []
    d.now += 1000
    assert len(d.ask("claim", queues=["default"], limit=5, lease_ms=1000)["tasks"]) == 1
    assert d.ask("claim", queues=["default"], limit=5)["tasks"] == []
    d.now += 2000
    d.settle_down()
    assert len(d.ask("claim", queues=["default"], limit=5)["tasks"]) == 1


def test_a_type_may_declare_its_breaker_and_a_person_may_say_otherwise(d: Driver) -> None:
    d.broker.put_types([TypeInfo("t", breaker=RULE)], d.now)
    assert (shown(d, type="t")["fixed"], shown(d, type="t")["declared"]) == (False, RULE)
    d.ask("set_breaker", type="t", rule="7 failures")
    d.reopen()
    assert shown(d, type="t")["rule"].startswith("7 failures")
    d.ask("remove_breaker", type="t")
    assert shown(d, type="t")["rule"].startswith("2 failures")
    d.broker.put_types([TypeInfo("t")], d.now)
    assert d.ask("breakers") == {"breakers": []}


def test_a_task_that_was_turned_away_says_by_which_service(d: Driver) -> None:
    (task,) = d.add()
    (run,) = d.grant()
    d.broker.settled(
        [d.result(run, "snoozed", delay_ms=5000, error={"type": "ServiceDown", "message": "the breaker of service 'smtp' is open"})]
    )
    d.turn()
    assert d.row(task)["failures"] == 0
    assert why(d, task)["service_down"] == {"error": "the breaker of service 'smtp' is open"}


def test_a_clock_that_is_put_forward_opens_nothing_sooner(d: Driver) -> None:
    d.ask("trip_breaker", name="smtp", for_ms=600_000)
    d.step(400_000)
    assert enter(d)["wait_ms"] == 630_000

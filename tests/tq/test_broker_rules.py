"""Alert rules: raised once and cleared once, whatever becomes of the daemon, and silent while nothing changes; on both stores."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.tq.broker_driver import Driver
from tq.broker.rules import declared_rules
from tq.errors import ConfigError, StoreDamaged
from tq.model import pack, unpack
from tq.store.keys import U64
from tq.store.lmdb import LmdbStore

BOOM = {"type": "ValueError", "message": "no"}


@pytest.fixture(autouse=True)
def kept_is_looked_at(d: Driver) -> None:
    d.turn()  # the first does so


def watch(d: Driver, **rules: dict[str, Any]) -> None:
    """Rules as a settings file has them; whom they tell is the type u."""
    tables = {name: {"run": "type:u", "clear": "type:u", **table} for name, table in rules.items()}
    d.broker.watch_rules(declared_rules("tq.toml", tables), "tq.toml", d.now)


def told(d: Driver) -> list[tuple[str, str, str]]:
    """What the alerts that were sent tell, in their order."""
    rows = [d.row(task_id) for task_id in range(1, d.store.last_id() + 1)]
    return [(one["rule"], one["alert"], one["value"]) for one in (unpack(row["payload"]) for row in rows if row and row["type"] == "u")]


def pass_time(d: Driver, ms: int) -> None:
    """Turns whenever the broker asks for one, as the daemon's loop has them."""
    until = d.now + ms
    for _ in range(10_000):
        d.settle_down()
        due = d.broker.next_due
        if due is None or due > until:
            d.now = until
            d.settle_down()
            return
        d.now = max(int(due), d.now + 1)
    raise AssertionError("it asks for turn after turn")


def wakes(d: Driver, ms: int) -> int:
    """How many turns the broker asks for in this time though nothing happens."""
    before = len(d.turns)
    pass_time(d, ms)
    return len(d.turns) - before


def run(d: Driver, count: int, failed: bool = False) -> None:
    d.add(count, retries=0)
    more = {"error": BOOM} if failed else {}
    d.broker.settled([d.result(task, "failed" if failed else 0, **more) for task in d.grant(1000) if task.header.type == "t"])
    pass_time(d, 1500)


def events(d: Driver) -> list[str]:
    found = [event for event in d.ask("events", limit=500)["events"][::-1] if event["target"].startswith("alert ")]
    return [event["what"] for event in found]


def test_a_deep_queue_is_told_once_and_its_end_once(d: Driver) -> None:
    watch(d, deep={"watch": "queue_depth", "above": 3})
    ids = d.add(3)
    pass_time(d, 5000)
    assert told(d) == []
    ids += d.add(2)
    pass_time(d, 60_000)
    assert told(d) == [("deep", "raised", "5")]
    assert d.broker.raised.keys() == {"deep"}
    d.add(1)
    pass_time(d, 60_000)
    assert len(told(d)) == 1
    d.ask("cancel", ids=ids)
    pass_time(d, 60_000)
    assert [one[:2] for one in told(d)] == [("deep", "raised"), ("deep", "cleared")]
    assert events(d) == ["alert_raised", "alert_cleared"]
    assert d.broker.raised == {}


def test_an_alert_wakes_its_worker_at_once(d: Driver) -> None:
    watch(d, deep={"watch": "queue_depth", "above": 0, "queue": "x"})
    d.add(1, queue="x")
    d.turn()
    d.now += 1000
    assert [task.header.type for task in d.grant(5)] == ["u", "t"]


def test_of_a_queue_or_a_type_only_its_tasks_count(d: Driver) -> None:
    watch(
        d, of_queue={"watch": "queue_depth", "above": 1, "queue": "mail"}, of_type={"watch": "queue_depth", "above": 1, "type": "t"},
        of_both={"watch": "queue_depth", "above": 1, "queue": "mail", "type": "t"},
    )  # fmt: skip
    d.add(2, queue="other", kind="t")
    d.add(1, queue="mail", kind="t")
    d.ask("enqueue", tasks=[["v", b"", {"queue": "mail", "allow_unknown": True}]])
    pass_time(d, 5000)
    assert sorted(one[0] for one in told(d)) == ["of_queue", "of_type"]


def test_for_is_how_long_it_must_be_so_and_how_long_it_must_be_over(d: Driver) -> None:
    watch(d, deep={"watch": "queue_depth", "above": 0, "queue": "x", "for": "10s"})
    for _ in range(3):  # in and out
        ids = d.add(1, queue="x")
        pass_time(d, 5000)
        d.ask("cancel", ids=ids)
        pass_time(d, 2000)
    assert told(d) == []
    ids = d.add(1, queue="x")
    pass_time(d, 9000)
    assert told(d) == []
    pass_time(d, 3000)
    assert [one[1] for one in told(d)] == ["raised"]
    d.ask("cancel", ids=ids)
    pass_time(d, 9000)
    assert [one[1] for one in told(d)] == ["raised"]
    pass_time(d, 3000)
    assert [one[1] for one in told(d)] == ["raised", "cleared"]


def test_the_oldest_wait_is_told_when_its_time_is_over_though_nothing_happens(d: Driver) -> None:
    watch(d, slow={"watch": "oldest_wait", "above": "5m", "queue": "x"})
    (task,) = d.add(1, queue="x")
    pass_time(d, 299_000)
    assert told(d) == []
    pass_time(d, 2000)
    assert [one[:2] for one in told(d)] == [("slow", "raised")]
    d.ask("cancel", ids=[task])
    pass_time(d, 2000)
    assert [one[:2] for one in told(d)] == [("slow", "raised"), ("slow", "cleared")]


def test_the_rate_of_failures_counts_what_ended_in_the_window_if_it_is_enough(d: Driver) -> None:
    watch(d, bad={"watch": "failure_rate", "above": "20%", "window": "1m", "least": 10})
    run(d, 5, failed=True)
    assert told(d) == []  # too few to say
    run(d, 20)
    assert told(d) == []  # 5 of 25 is not above
    run(d, 3, failed=True)
    assert [one[1] for one in told(d)] == ["raised"]
    run(d, 200)
    assert [one[1] for one in told(d)] == ["raised", "cleared"]
    run(d, 300, failed=True)
    pass_time(d, 120_000)
    assert [one[1] for one in told(d)] == ["raised", "cleared", "raised", "cleared"]  # what failed is long ago


def test_retries_count_as_failures_of_attempts(d: Driver) -> None:
    watch(d, bad={"watch": "failure_rate", "above": 0.5, "least": 4, "type": "t"})
    d.add(4, retries=5)
    d.turn()
    pass_time(d, 1100)
    d.broker.settled([d.result(task, "failed", error=BOOM) for task in d.grant(9)])
    pass_time(d, 1100)
    assert told(d) == [("bad", "raised", "1")]


def test_lost_workers_are_told_and_it_is_over_when_none_was_lost_for_the_window(d: Driver) -> None:
    lost = 0
    d.broker.desk.lost = lambda: lost
    watch(d, dying={"watch": "lost_worker", "window": "1m"}, many={"watch": "lost_worker", "above": 2, "window": "1m"})
    lost = 1
    pass_time(d, 2000)
    assert told(d) == [("dying", "raised", "1")]
    lost = 3
    pass_time(d, 2000)
    assert told(d)[1:] == [("many", "raised", "3")]
    pass_time(d, 120_000)
    assert sorted(told(d)[2:]) == [("dying", "cleared", "0"), ("many", "cleared", "2")]


def test_a_slot_that_waits_too_long_is_told(d: Driver) -> None:
    watch(d, late={"watch": "late_schedule", "above": "90s"})
    d.ask("set_queue", name="small", max_tasks=1)
    (task,) = d.add(queue="small")
    d.ask("set_schedule", name="s", new=True, every_ms=60_000, task=["t", b"", {"queue": "small"}])
    pass_time(d, 140_000)
    assert told(d) == []
    pass_time(d, 20_000)
    assert [one[:2] for one in told(d)] == [("late", "raised")]
    d.ask("set_schedule", name="s", paused=True)
    d.ask("cancel", ids=[task])
    pass_time(d, 2000)
    assert [one[:2] for one in told(d)] == [("late", "raised"), ("late", "cleared")]


def test_slots_that_wait_one_after_the_other_are_no_slot_that_waits_too_long(d: Driver) -> None:
    watch(d, late={"watch": "late_schedule", "above": "60s"})
    d.ask("set_schedule", name="s", new=True, every_ms=10_000, overlap="queue_one", task=["t", b"", None])
    pass_time(d, 10_000)
    (run,) = d.grant(1)
    for _ in range(10):  # each run ends when a slot comes, and one is left over: whenever one looks, some slot waits
        pass_time(d, 29_500)
        d.now += 500
        d.broker.settled([d.result(run)])
        (run,) = d.grant(1)
    assert told(d) == []
    assert d.ask("alerts")["alerts"][0]["value"] <= 30_000
    d.ask("run_schedule", name="s")  # one by hand is not the one that is waited for
    pass_time(d, 40_000)
    d.ask("run_schedule", name="s")
    pass_time(d, 40_000)
    assert [one[:2] for one in told(d)] == [("late", "raised")]


def test_a_slot_that_makes_way_for_a_newer_one_waits_since_the_first_of_them(d: Driver) -> None:
    watch(d, late={"watch": "late_schedule", "above": "90s"})
    d.ask("set_schedule", name="s", new=True, every_ms=60_000, overlap="cancel_old", task=["t", b"", None])
    pass_time(d, 60_000)
    assert d.grant(1)  # and it does not stop, though it is told to
    pass_time(d, 140_000)
    assert told(d) == []
    pass_time(d, 30_000)
    assert [one[:2] for one in told(d)] == [("late", "raised")]


def test_what_was_raised_is_known_after_a_restart_and_cleared_once(d: Driver) -> None:
    rule = {"deep": {"watch": "queue_depth", "above": 0, "queue": "x"}, "bad": {"watch": "failure_rate", "above": 0.1, "window": "1m"}}
    watch(d, **rule)
    ids = d.add(1, queue="x")
    d.ask("set_queue", name="x", paused=True)
    run(d, 20, failed=True)
    pass_time(d, 2000)
    assert sorted(one[:2] for one in told(d)) == [("bad", "raised"), ("deep", "raised")]
    d.reopen()
    watch(d, **rule)
    assert d.broker.raised.keys() == {"bad", "deep"}
    pass_time(d, 30_000)
    assert len(told(d)) == 2
    d.ask("cancel", ids=ids)
    pass_time(d, 60_000)
    assert sorted(one[:2] for one in told(d)[2:]) == [("bad", "cleared"), ("deep", "cleared")]
    d.reopen()
    watch(d, **rule)
    assert d.broker.raised == {}


def test_a_rule_that_is_gone_or_is_another_is_cleared(d: Driver) -> None:
    watch(d, deep={"watch": "queue_depth", "above": 0, "queue": "x"})
    d.add(1, queue="x")
    pass_time(d, 2000)
    watch(d, deep={"watch": "queue_depth", "above": 7, "queue": "x"})
    assert d.broker.raised == {}
    assert events(d) == ["alert_raised", "alert_cleared"]
    watch(d)
    assert d.ask("alerts") == {"alerts": []}


def test_a_rule_that_was_raised_and_is_gone_when_the_daemon_comes_back_is_cleared_once(d: Driver) -> None:
    watch(d, deep={"watch": "queue_depth", "above": 0, "queue": "x"})
    d.add(1, queue="x")
    pass_time(d, 2000)
    assert d.broker.raised.keys() == {"deep"}
    for _ in range(2):
        d.reopen()
        watch(d)
        assert d.broker.raised == {}
        assert events(d) == ["alert_raised", "alert_cleared"]


@pytest.mark.parametrize("store_kind", ["lmdb"])
@pytest.mark.parametrize("newest", [False, True])
def test_a_damaged_event_keeps_no_daemon_with_rules_from_starting(d: Driver, newest: bool, caplog: pytest.LogCaptureFixture) -> None:
    old, fresh = ({name: {"watch": "queue_depth", "above": 0, "queue": "x"}} for name in ("old", "fresh"))
    watch(d, **old)
    d.add(1, queue="x")
    pass_time(d, 2000)
    d.ask("set_queue", name="x", slots=3)
    spoilt = d.store.events(None, 1)[0].number
    for slots in range(0 if newest else 600):
        d.submit("set_queue", name="x", slots=slots + 1)
    d.settle_down(1000)
    if not newest:
        watch(d, **old, **fresh)
        pass_time(d, 2000)
    with _damaged(d, spoilt):
        d.reopen()
        watch(d, **old, **fresh)
        assert list(d.broker.raised) == ([] if newest else ["fresh"])
        assert "not known" in caplog.text
        pass_time(d, 2000)
        assert sorted(d.broker.raised) == ["fresh", "old"]
        assert d.add()


@contextmanager
def _damaged(d: Driver, number: int) -> Iterator[None]:
    """The event of this number cannot be read."""
    for good in (False, True):
        assert isinstance(d.store, LmdbStore)
        with d.store._env.begin(write=True) as txn:
            record = bytearray(txn.get(U64.pack(number), db=d.store._db["events"]))
            record[-1] ^= 0xFF
            assert txn.put(U64.pack(number), bytes(record), db=d.store._db["events"])
        if not good:
            yield


def test_a_transaction_that_meets_a_damaged_record_at_the_start_is_closed(d: Driver, monkeypatch: pytest.MonkeyPatch) -> None:
    def damaged(_: object) -> None:
        raise StoreDamaged("an event: it fails its checksum")

    watch(d, deep={"watch": "queue_depth", "above": 9})
    with monkeypatch.context() as patch:
        patch.setattr(d.store, "note", damaged)
        d.broker._rules.raised["deep"] = d.now
        with pytest.raises(StoreDamaged):
            watch(d)
    assert d.add()


def test_an_alert_without_room_is_told_when_there_is_some(d: Driver) -> None:
    d.ask("set_queue", name="default", max_tasks=1)
    (task,) = d.add()
    watch(d, deep={"watch": "queue_depth", "above": 0, "queue": "default"})
    pass_time(d, 10_000)
    assert d.broker.raised == {}
    d.ask("set_queue", name="default", max_tasks=5)
    pass_time(d, 3000)
    assert [one[1] for one in told(d)] == ["raised"]
    assert d.states(task) == ["pending"]


def test_a_rule_without_a_command_is_an_event_and_a_lost_turn_tells_it_later(d: Driver) -> None:
    watch(d, deep={"watch": "queue_depth", "above": 0, "queue": "x", "run": "", "clear": ""})
    ids = d.add(1, queue="x")
    note = d.store.note
    failed = []

    def fails(event: Any) -> Any:
        if event.target == "alert deep" and not failed:
            failed.append(event)
            raise RuntimeError("a bug")
        return note(event)

    d.store.note = fails  # type: ignore[method-assign]
    pass_time(d, 5000)
    assert failed
    assert events(d) == ["alert_raised"]
    d.ask("cancel", ids=ids)
    pass_time(d, 5000)
    assert events(d) == ["alert_raised", "alert_cleared"]


def test_nothing_is_asked_for_while_nothing_changes(d: Driver) -> None:
    watch(
        d, deep={"watch": "queue_depth", "above": 0, "queue": "x"}, slow={"watch": "oldest_wait", "above": "1m"},
        bad={"watch": "failure_rate", "above": 0.5, "window": "1m"}, dying={"watch": "lost_worker"}, late={"watch": "late_schedule"},
    )  # fmt: skip
    run(d, 20)
    pass_time(d, 300_000)
    assert d.broker.next_due is None or d.broker.next_due > d.now + 600_000
    assert wakes(d, 600_000) <= 2
    d.add(1, queue="x")
    pass_time(d, 300_000)
    assert wakes(d, 600_000) <= 2  # raised, and nothing more to say


def test_they_are_looked_at_at_most_once_a_second(d: Driver, monkeypatch: pytest.MonkeyPatch) -> None:
    watch(d, deep={"watch": "queue_depth", "above": 10_000})
    looked = 0
    tallies = d.store.tallies

    def counted() -> Any:
        nonlocal looked
        looked += 1
        return tallies()

    monkeypatch.setattr(d.broker._rules, "_value", lambda rule, now: float(len(counted())))
    for _ in range(300):
        d.add(1)
        d.now += 10
    assert looked <= 4


def test_the_rules_are_told_with_their_values(d: Driver) -> None:
    watch(d, deep={"watch": "queue_depth", "above": 1, "queue": "x", "for": "5s"}, bad={"watch": "failure_rate", "above": "20%"})
    d.add(2, queue="x")
    d.turn()
    d.now += 1000
    d.turn()
    deep, bad = d.ask("alerts")["alerts"]
    assert deep == {
        "name": "deep", "watch": "queue_depth", "above": 1, "queue": "x", "type": None, "for_ms": 5000, "value": 2, "raised_at": 0,
        "changes_at": d.now + 5000,
    }  # fmt: skip
    assert (bad["above"], bad["window_ms"], bad["value"]) == (0.2, 300_000, 0.0)


def test_a_command_finds_the_rule_in_its_environment(d: Driver) -> None:
    watch(d, deep={"watch": "queue_depth", "above": 0, "queue": "x", "run": "mail me"})
    d.add(1, queue="x")
    pass_time(d, 2000)
    (task,) = [task for task in d.grant(5) if task.header.type == "shell"]
    assert unpack(d.row(task.id)["payload"]) == {"argv": ["/bin/sh", "-c", "mail me"]}
    variables = (task.header.extras or {})["set"]
    assert variables == {
        "TQ_ALERT": "raised", "TQ_RULE": "deep", "TQ_WATCH": "queue_depth", "TQ_VALUE": "1", "TQ_ABOVE": "0", "TQ_QUEUE": "x",
        "TQ_TYPE": "",
    }  # fmt: skip


def test_an_instance_without_rules_looks_at_nothing(d: Driver) -> None:
    d.broker.watch_rules([], "tq.toml", d.now)
    d.add(3)
    assert d.broker._rules.next_due is None
    assert d.ask("alerts") == {"alerts": []}


@pytest.mark.parametrize(
    ("table", "says"),
    [
        ({}, "watch: expected queue_depth, oldest_wait, failure_rate, lost_worker, late_schedule, got None"),
        ({"watch": "queue_deep"}, "watch: expected queue_depth"),
        ({"watch": "queue_depth"}, "above: expected what queue_depth is not to pass"),
        ({"watch": "queue_depth", "above": -1}, "above: expected a number, 0 or more"),
        ({"watch": "queue_depth", "above": True}, "above: expected a number"),
        ({"watch": "queue_depth", "above": "many"}, "above: expected a number"),
        ({"watch": "queue_depth", "above": 1, "window": "5m"}, "window: expected it with failure_rate, lost_worker"),
        ({"watch": "queue_depth", "above": 1, "abov": 1}, "got 'abov'. Did you mean 'above'"),
        ({"watch": "queue_depth", "above": 1, "zzz": 1}, "The keys are: watch, above"),
        ({"watch": "queue_depth", "above": 1, "queue": ""}, "queue: expected a name"),
        ({"watch": "queue_depth", "above": 1, "for": "soon"}, "for: expected a duration"),
        ({"watch": "queue_depth", "above": 1, "run": 7}, "run: expected a line for the shell"),
        ({"watch": "oldest_wait", "above": "soon"}, "above: expected a duration"),
        ({"watch": "failure_rate", "above": 1.5}, "a share from 0 to 1"),
        ({"watch": "failure_rate", "above": "150%"}, "a share from 0 to 1"),
        ({"watch": "failure_rate", "above": "x%"}, "a share from 0 to 1"),
        ({"watch": "failure_rate", "above": 0.1, "least": 0}, "least: expected a number of attempts"),
        ({"watch": "failure_rate", "above": 0.1, "window": "10ms"}, "window: expected at least 1s"),
        ({"watch": "late_schedule", "queue": "x"}, "queue: expected it with queue_depth"),
    ],
)  # fmt: skip
def test_a_rule_that_makes_no_sense_names_the_file_and_the_table(table: dict[str, Any], says: str) -> None:
    with pytest.raises(ConfigError) as error:
        declared_rules("/x/tq.toml", {"r": table})
    assert str(error.value).startswith("/x/tq.toml: [alerts.r]: ")
    assert says in str(error.value)


def test_the_rules_of_the_example_can_be_used() -> None:
    path = Path(__file__).resolve().parents[2] / "examples" / "tq.toml"
    rules = {rule.name: rule for rule in declared_rules(path, tomllib.loads(path.read_text("utf-8"))["alerts"])}
    assert (rules["backlog"].above, rules["backlog"].for_ms, rules["failures"].above, rules["failures"].least) == (10_000, 300_000, 0.2, 20)


def test_a_rule_has_defaults_and_takes_durations_and_shares() -> None:
    late, lost, slow = declared_rules("f", {
        "late": {"watch": "late_schedule"}, "lost": {"watch": "lost_worker", "run": ["mail", "me"]},
        "slow": {"watch": "oldest_wait", "above": "1h30m"},
    })  # fmt: skip
    assert (late.above, lost.above, slow.above, lost.window_ms) == (60_000, 0, 5_400_000, 300_000)
    assert lost.run == ["shell", pack({"argv": ["mail", "me"]}), None]

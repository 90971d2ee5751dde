"""What goes wrong inside a turn: damaged records, no room, requests that change something and then fail; nobody else is harmed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.tq.broker_driver import START, Driver
from tq import wire
from tq.broker import AGAIN_MS, RETAIN_EVERY_MS, Broker
from tq.environment import environment_of
from tq.model import pack
from tq.store import Limits, NoRoom, TypeInfo
from tq.store.keys import HISTORY, U64
from tq.store.lmdb import LmdbStore


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Driver]:
    driver = Driver("lmdb", tmp_path / "store")
    yield driver
    driver.store.close()


def lmdb_of(d: Driver) -> LmdbStore:
    assert isinstance(d.store, LmdbStore)
    return d.store


def damage(d: Driver, task_id: int, name: str = "tasks") -> None:
    """One byte of a record changes on the disk."""
    store = lmdb_of(d)
    with store._env.begin(write=True) as txn:
        record = bytearray(txn.get(U64.pack(task_id), db=store._db[name]))
        record[-1] ^= 0xFF
        txn.put(U64.pack(task_id), bytes(record), db=store._db[name])


def small(d: Driver, path: Path) -> None:
    """The same with a map that is soon full."""
    d.store.close()
    d.store = LmdbStore(path, map_size=16 << 20)
    d.broker = Broker(d.store)
    d.broker.put_types([TypeInfo("t")], d.now)


# -- requests that fail --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["key", "unique"])
def test_two_different_tasks_of_one_name_in_a_request_are_a_conflict(d: Driver, name: str) -> None:
    first, second = ["t", b"\x01", {name: "a"}], ["t", b"\x02", {name: "a"}]
    code, message = d.refusal("enqueue", tasks=[first, second])
    assert code == "conflict"
    assert "two different ones" in message
    assert d.store.last_id() == 0


def test_the_same_keyed_task_twice_in_a_request_is_one_task(d: Driver) -> None:
    row = ["t", b"\x01", {"key": "a"}]
    assert d.ask("enqueue", tasks=[row, row]) == {"ids": [1, 1], "existing": [1]}
    assert d.ask("enqueue", tasks=[row, ["t", b"\x02", None], row]) == {"ids": [1, 2, 1], "existing": [0, 2]}


def test_the_last_of_those_that_replace_each_other_in_a_request_is_stored(d: Driver) -> None:
    rows = [["t", bytes([n]), {"unique": "a", "unique_policy": "replace"}] for n in (1, 2, 3)]
    assert d.ask("enqueue", tasks=rows)["ids"] == [1, 1, 1]
    assert d.row(1)["payload"] == b"\x03"


def test_an_edit_without_room_changes_none_of_its_tasks_and_the_daemon_goes_on(disk: Driver, tmp_path: Path) -> None:
    small(disk, tmp_path / "small")
    ids = disk.add(200, payload=b"x")
    number = disk.submit("edit", ids=ids, changes={"payload": b"y" * 100_000})
    disk.turn()
    assert disk.error(number)[0] == "refused"
    assert {len(disk.row(task_id)["payload"]) for task_id in ids} == {1}
    assert len(disk.grant(5)) == 5


def test_edits_leave_room_for_settling(disk: Driver, tmp_path: Path) -> None:
    small(disk, tmp_path / "small")
    ids = disk.add(200, payload=b"x")
    refused = None
    for at in range(200):
        number = disk.submit("edit", ids=[ids[at]], changes={"payload": b"y" * 100_000})
        disk.turn()
        disk.now += 1000
        if refused := disk.error(number):
            break
    assert refused
    assert "nearly full" in refused[1]
    tasks = disk.grant(200)
    disk.broker.settled([disk.result(task) for task in tasks])
    disk.settle_down()
    assert disk.broker.owed == []
    assert disk.states(*ids[:3]) == ["succeeded"] * 3


def test_a_queue_s_new_default_holds_for_the_next_request_of_the_same_turn(d: Driver) -> None:
    d.add()
    d.submit("set_queue", name="default", priority=7)
    number = d.submit("enqueue", tasks=[["t", b"", None]])
    d.settle_down()
    assert d.row(d.answer(number)["ids"][0])["priority"] == 7


def test_a_longer_time_to_live_does_not_outlast_the_deadline(d: Driver) -> None:
    (task,) = d.add(deadline_ms=1000)
    d.ask("edit", ids=[task], changes={"ttl_ms": 5000})
    d.now += 1000
    d.settle_down()
    assert d.states(task) == ["expired"]


# -- wake-ups ------------------------------------------------------------------------------------------------------


def test_a_consumer_gets_the_slot_that_another_frees_in_the_same_turn(d: Driver) -> None:
    d.ask("set_queue", name="q", slots=1, external=True)
    d.add(2, queue="q")
    (held,) = d.ask("claim", queues=["q"])["tasks"]
    number = d.submit("claim", conn=2, queues=["q"], wait_ms=60_000)
    d.submit("settle", results=[[held["id"], held["claim"], "succeeded", {}]])
    d.settle_down()
    assert [task["id"] for task in d.answer(number, 2)["tasks"]] == [2]


def test_a_crowd_that_comes_due_holds_up_no_lease_and_no_expiry(disk: Driver) -> None:
    disk.add(2000, due_at=disk.now + 1000)
    disk.add(1, queue="q")
    disk.ask("claim", queues=["q"], lease_ms=1000)
    (late,) = disk.add(ttl_ms=1000)
    disk.now += 1000
    disk.turn()
    assert disk.states(2001, late) == ["pending", "expired"]
    assert 0 < sum(tally.states[2] for tally in disk.store.tallies()) < 2000


# -- damage --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("verb", ["retry", "remove"])
def test_a_chore_passes_over_a_task_that_cannot_be_changed_and_nothing_else_stops(disk: Driver, verb: str) -> None:
    ids = disk.add(5)
    disk.ask("cancel", ids=ids)
    store = lmdb_of(disk)
    with store._env.begin(write=True) as txn:
        for task in (ids[1], ids[3]):
            assert txn.delete(HISTORY.pack(disk.store.get([task])[0].state, disk.now, task), db=store._db["history"])
    disk.submit(verb, queue="default")
    disk.settle_down()
    assert disk.ask("chores") == {"chores": []}
    left = {"retry": "pending", "remove": "none"}[verb]
    assert disk.states(*ids) == [left, "cancelled", left, "cancelled", left]
    disk.add()
    assert disk.grant(1)


@pytest.mark.parametrize("ask", [lambda d: d.ask("find", states=["pending"]), lambda d: d.ask("peek")], ids=["find", "peek"])
def test_a_damaged_task_is_passed_over_by_lists_of_what_is_next(
    disk: Driver, ask: Callable[[Driver], dict[str, list[dict[str, int]]]]
) -> None:
    disk.add(3)
    damage(disk, 1)
    assert [task["id"] for task in ask(disk)["tasks"]] == [2, 3]
    assert disk.ask("why", id=3)["reasons"]


def test_a_damaged_task_whose_end_is_watched_does_not_stop_the_daemon(disk: Driver) -> None:
    disk.add(2)
    tasks = disk.grant(2)
    damage(disk, 1)
    number = disk.submit("watch", topics=["steps"], conn=3)
    disk.turn()
    disk.broker.settled([disk.result(task) for task in tasks])
    disk.turn()
    assert [(event["event"], event["id"]) for event in disk.events(number, 3)] == [("succeeded", 1), ("succeeded", 2)]


@pytest.mark.parametrize("who", ["a worker", "a consumer"])
def test_children_of_a_task_that_cannot_be_read_go_their_way_at_once(disk: Driver, who: str) -> None:
    disk.ask("set_queue", name="q", external=who == "a consumer")
    (parent,) = disk.add(queue="q")
    loose, lost = *disk.add(after_any=[parent]), *disk.add(after=[parent])
    damage(disk, parent)
    if who == "a consumer":
        assert disk.ask("claim", queues=["q"])["tasks"] == []
    else:
        assert disk.grant(1) == []
    assert disk.turns[-1].busy  # else the loop would sleep
    disk.settle_down()
    assert disk.states(loose, lost) == ["pending", "cancelled"]
    assert not disk.turn().busy


def test_a_store_whose_running_task_is_damaged_opens_and_the_others_are_taken_back(disk: Driver) -> None:
    disk.add(3)
    disk.grant(2)
    damage(disk, 1)
    disk.reopen()
    assert disk.broker.recover(lambda task_id, claim: False, disk.now) == (0, 1)
    assert [task.id for task in disk.grant(5)] == [2, 3]


@pytest.mark.parametrize("harm", ["damaged", "gone"])
def test_a_command_whose_environment_cannot_be_read_fails_and_its_consumer_gets_the_next_one(disk: Driver, harm: str) -> None:
    disk.ask("set_queue", name="q", external=True)
    bad, good = (
        disk.add(600 if name == "A" else 1, "shell", pack({"argv": ["true"]}), queue="q", delay_ms=5000, extras={"env": {name: "1"}})
        for name in "AB"
    )
    store, key = lmdb_of(disk), environment_of({"A": "1"})[0]
    with store._env.begin(write=True) as txn:
        assert txn.delete(key, db=store._db["environments"])
        assert harm == "gone" or txn.put(key, b"what another program wrote", db=store._db["environments"])
    waits = disk.submit("claim", conn=7, queues=["q"], wait_ms=3_600_000)
    ends = disk.submit("wait", conn=8, ids=bad[-1:])
    disk.turn()
    disk.now += 5000
    (other,) = disk.add()
    disk.settle_down()
    (task,) = disk.answer(waits, 7)["tasks"]
    assert (task["id"], task["extras"]["env"]) == (good[0], {"B": "1"})
    assert disk.answer(ends, 8)["tasks"][0]["state"] == "failed"  # retries or not: the next run would not find it, either
    error = disk.row(bad[0])["error"]
    assert (error["type"], error["message"].split(",")[0]) == ("StoreDamaged", "expected the environment of the command")
    assert disk.ask("claim", conn=9, queues=["q"])["tasks"] == []
    assert [one.id for one in disk.grant(5)] == [other]


@pytest.mark.parametrize("value", [b"", b"\0\0\0\x01\0\0\0\0\x09 and more", b"\0\0\0\x63\0\0\0\0\x09"], ids=["empty", "long", "tally"])
def test_an_end_that_cannot_be_read_stays_and_holds_up_no_forgetting(disk: Driver, value: bytes, caplog: pytest.LogCaptureFixture) -> None:
    ids = disk.add(6)
    tasks = disk.grant(6)
    for at, (task, kind) in enumerate(zip(tasks, [0, "failed", 0, "failed", 0, 0], strict=True)):
        disk.now = START + 1000 * at
        disk.broker.settled([disk.result(task, kind, **({"permanent": True} if kind else {}))])
        disk.turn()
    store = lmdb_of(disk)
    for task_id in (ids[0], ids[1]):  # the oldest of their states, and so the first that would be forgotten
        status = disk.store.get([task_id])[0].status
        with store._env.begin(write=True) as txn:
            assert txn.replace(HISTORY.pack(status.state, status.finished_at, task_id), value, db=store._db["history"])
    disk.broker._limits = Limits(keep=0)
    for _ in range(3):
        disk.now += RETAIN_EVERY_MS
        disk.settle_down()
    assert disk.states(*ids) == ["succeeded", "failed", "none", "none", "none", "none"]
    assert len([record for record in caplog.records if "cannot be read" in record.message]) == 2
    assert "a turn failed" not in caplog.text
    for verb in ("retry", "remove"):
        code, message = disk.refusal(verb, ids=[ids[0]])
        assert (code, "its end in the history" in message) == ("damaged", True)
    assert disk.add(1) == [7]


def test_a_queue_that_keeps_nothing_forgets_those_behind_a_damaged_end(disk: Driver, caplog: pytest.LogCaptureFixture) -> None:
    disk.ask("set_queue", name="default", keep_ms=100)
    ids = disk.add(3)
    disk.broker.settled([disk.result(task) for task in disk.grant(3)])
    disk.turn()
    store, status = lmdb_of(disk), disk.store.get([ids[1]])[0].status
    with store._env.begin(write=True) as txn:
        assert txn.replace(HISTORY.pack(status.state, status.finished_at, ids[1]), b"no", db=store._db["history"])
    disk.now += 1000
    disk.settle_down()
    assert disk.states(*ids) == ["none", "succeeded", "none"]
    assert "a turn failed" not in caplog.text
    assert disk.broker.next_due != disk.now


# -- commits that fail ---------------------------------------------------------------------------------------------


def test_output_of_forgotten_tasks_is_given_up_only_once_that_is_committed(disk: Driver, monkeypatch: pytest.MonkeyPatch) -> None:
    disk.broker._removed = [17]  # as a recovery leaves them, before anybody listens

    def no_room() -> None:
        raise NoRoom("the disk is full", retry_after=1.0)

    with monkeypatch.context() as patch:
        patch.setattr(disk.store, "commit", no_room)
        disk.now += RETAIN_EVERY_MS
        assert disk.turn().removed == []
    assert disk.broker._removed == [17]
    disk.now += AGAIN_MS
    assert disk.turn().removed == [17]
    assert disk.broker._removed == []


def test_a_claim_that_could_not_be_committed_is_tried_again_soon_though_the_next_timer_is_far(
    d: Driver, monkeypatch: pytest.MonkeyPatch
) -> None:
    d.add(delay_ms=3_600_000)
    (task_id,) = d.add()

    def no_room() -> None:
        raise NoRoom("the disk is full", retry_after=1.0)

    with monkeypatch.context() as patch:
        patch.setattr(d.store, "commit", no_room)
        assert d.grant() == []
    assert d.broker.next_due == d.now + AGAIN_MS
    d.now += AGAIN_MS
    assert [task.id for task in d.grant()] == [task_id]


@pytest.mark.parametrize("back", [60_000, 3_500_000, 4_000_000])
def test_what_could_not_be_committed_is_tried_again_soon_though_the_clock_is_put_back(
    d: Driver, monkeypatch: pytest.MonkeyPatch, back: int
) -> None:
    d.ask("enqueue", tasks=[["t", b"", {}]])
    (task,) = d.grant(1)

    def no_room() -> None:
        raise NoRoom("the disk is full", retry_after=1.0)

    with monkeypatch.context() as patch:
        patch.setattr(d.store, "commit", no_room)
        d.broker.settled([d.result(task)])
        d.turn()
    assert len(d.broker.owed) == 1
    d.now -= back
    d.turn()
    d.now += AGAIN_MS
    assert not d.broker.owed or (d.broker.next_due is not None and d.broker.next_due <= d.now)
    d.turn()
    assert d.states(task.id) == ["succeeded"]
    d.ask("enqueue", tasks=[["t", b"", {}]])
    assert d.grant(1) != []


# -- answers that fit ----------------------------------------------------------------------------------------------


def test_dead_letters_in_many_groups_fit_an_answer_whatever_they_say(tmp_path: Path) -> None:
    d = Driver("memory", tmp_path / "store", Limits())
    long = "\N{GRINNING FACE}" * 900
    rows = []
    for n in range(600):
        letters = "".join(chr(97 + n // 26**place % 26) for place in range(3))
        rows.append(letters + long)
    tasks = [["t", b"", {"queue": f"q{'q' * 190}{n % 7}"}] for n in range(600)]
    d.ask("enqueue", tasks=tasks)
    ends = zip(d.grant(600), rows, strict=True)
    d.broker.settled([d.result(task, "failed", error={"type": text, "message": long}, permanent=True) for task, text in ends])
    number = d.submit("dead")
    d.settle_down()
    groups = d.answer(number)["groups"]
    assert len(groups) == 501
    assert sum(group["count"] for group in groups) == 600
    assert max(len(data) for turn in d.turns for _, data in turn.answers) <= wire.MAX_FRAME

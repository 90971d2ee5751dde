"""The broker: one turn is one commit, nothing is said before it, each verb and its refusals, on both stores."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.tq.broker_driver import ANY, Driver
from tq import wire
from tq.errors import ConfigError, Refused, StoreDamaged, StoreError
from tq.model import MAX_NAME, MAX_PAYLOAD, pack
from tq.store import Limits, TypeInfo, Want, lookup
from tq.waiting import INBOX_MOST

BIG = b"x" * (200 << 10)


class Trouble:
    """Makes a store's commit fail: ``count`` times, or while ``when()`` says so."""

    def __init__(self, driver: Driver, error: Exception, count: int = 1) -> None:
        self.left, self.error, self.commits = count, error, 0
        self._commit = driver.store.commit
        driver.store.commit = self  # type: ignore[method-assign]

    def __call__(self) -> None:
        if self.left:
            self.left -= 1
            raise self.error
        self.commits += 1
        self._commit()


# -- one turn, one commit ------------------------------------------------------------------------------------------


def test_many_requests_share_one_commit_and_reads_alone_need_none(d: Driver) -> None:
    trouble = Trouble(d, RuntimeError(), 0)
    for conn in range(1, 9):
        d.submit("enqueue", conn, tasks=[["t", b"", None]])
    d.turn()
    assert trouble.commits == 1
    assert sorted(body["ids"][0] for told in d.told.values() for _, _, body in told) == list(range(1, 9))
    d.ask("stats")
    d.ask("get", ids=[1])
    d.turn()
    assert trouble.commits == 1


def test_nothing_is_answered_when_the_store_cannot_be_written(d: Driver) -> None:
    Trouble(d, StoreError("the disk is gone"))
    d.submit("enqueue", tasks=[["t", b"", None]])
    with pytest.raises(StoreError, match="the disk is gone"):
        d.turn()
    assert d.told == {}
    d.store.abort()
    d.reopen()
    assert d.store.last_id() == 0


def test_a_request_sent_again_with_other_tasks_gives_what_it_gave_and_stores_nothing(d: Driver) -> None:
    first = d.submit("enqueue", nonce=b"12345678", number=7, tasks=[["t", b"", None]] * 3)
    d.turn()
    ids = d.answer(first)["ids"]
    for number, tasks in enumerate(([["t", b"", None]], [["t", b"", {"unique": "u"}]] * 2), 2):
        d.submit("enqueue", number, nonce=b"12345678", number=7, tasks=tasks, again=True)
        turn = d.turn()
        assert d.answer(7, number)["ids"] == ids
        assert not turn.steps
    assert d.add() == [ids[-1] + 1]


def test_a_group_that_cannot_be_committed_is_done_again_one_by_one_and_only_the_spoiled_request_fails(d: Driver) -> None:
    first = d.submit("enqueue", 1, tasks=[["t", b"a", None]])
    bad = d.submit("enqueue", 2, tasks=[["t", b"b", None]])
    last = d.submit("enqueue", 3, tasks=[["t", b"c", None]])
    enqueue, payloads = d.store.enqueue, []

    def spoiled(drafts: Any, request: Any = None) -> Any:
        payloads.append(drafts[0].payload)
        if drafts[0].payload == b"b":
            raise RuntimeError("a bug")
        return enqueue(drafts, request)

    d.store.enqueue = spoiled  # type: ignore[method-assign]
    d.settle_down()
    code, message, _ = d.error(bad, 2)
    assert code == "error"
    assert "RuntimeError" in message
    assert "a bug" not in message  # the text of a bug may hold anything
    (a,), (c,) = d.answer(first, 1)["ids"], d.answer(last, 3)["ids"]
    assert [d.row(task_id)["payload"] for task_id in (a, c)] == [b"a", b"c"]
    assert d.ask("stats")["states"]["pending"] == 2


def test_the_pools_results_come_first_then_requests_in_order_then_claims(d: Driver) -> None:
    d.add()
    (task,) = d.grant()
    d.broker.settled([d.result(task)])
    cancel = d.submit("cancel", ids=[task.id])
    added = d.submit("enqueue", tasks=[["t", b"", None]])
    turn = d.turn(Want("w1", 1, ANY))
    assert d.answer(cancel)["outcomes"] == ["over"]
    assert [number for number, _, _ in d.told[1][-2:]] == [cancel, added]
    assert [granted.id for _, tasks in turn.grants for granted in tasks] == d.answer(added)["ids"]


def test_a_request_that_is_refused_changes_nothing_and_harms_no_neighbour(d: Driver) -> None:
    good = d.submit("enqueue", tasks=[["t", b"", None]])
    bad = d.submit("enqueue", tasks=[["t", b"", None], ["nobody", b"", None]])
    d.turn()
    assert d.answer(good)["ids"] == [1]
    assert d.error(bad)[0] == "unknown_type"
    assert d.ask("stats")["states"]["pending"] == 1
    watch = d.submit("watch", topics=["ends", "nonsense"])
    d.turn()
    assert d.error(watch)[0] == "usage"
    d.ask("cancel", ids=[1])
    assert d.events(watch) == []


def test_without_room_a_workers_result_is_kept_and_stored_when_there_is_room(d: Driver) -> None:
    d.add(2)
    one, two = d.grant(2)
    trouble = Trouble(d, Refused("no room"), 2)  # the group, then the first one alone
    d.broker.settled([d.result(one), d.result(two)])
    d.turn()
    assert d.states(one.id, two.id) == ["running", "running"]
    assert not d.broker.waiting
    assert d.broker.next_due == d.now + 1000
    d.turn()
    assert trouble.commits == 0  # not tried again and again
    d.now += 1000
    d.turn()
    assert d.states(one.id, two.id) == ["succeeded", "succeeded"]


def test_own_work_that_cannot_be_committed_is_not_tried_in_a_circle(d: Driver) -> None:
    d.add(delay_ms=1000)
    d.now += 1000
    trouble = Trouble(d, Refused("no room"), 1_000_000)
    d.settle_down(3)
    assert d.broker.next_due == d.now + 1000
    trouble.left = 0
    d.now += 1000
    d.settle_down(3)
    assert d.states(1) == ["pending"]


def test_a_result_that_cannot_be_stored_is_a_crash_of_its_worker_and_not_a_task_that_runs_for_ever(d: Driver) -> None:
    d.add(retries=0)
    (task,) = d.grant()
    d.broker.settled([[task.id, task.claim, "failed", d.now, d.now, False, {"delay_ms": "soon", "error": {"type": "E", "message": ""}}]])
    d.add(retries=0)
    d.turn()
    assert d.states(1) == ["failed"]  # with no retries left the delay is never looked at
    d.add(retries=2)
    *_, last = d.grant(9)
    d.broker.settled([[last.id, last.claim, "failed", d.now, d.now, False, {"delay_ms": "soon"}]])
    d.turn()
    row = d.row(last.id)
    assert (row["state"], row["crashes"]) == ("pending", 1)


# -- enqueue -------------------------------------------------------------------------------------------------------


def test_a_repeated_request_gives_the_same_ids_also_after_a_restart(d: Driver) -> None:
    tasks = [["t", b"", None]] * 3
    first = d.submit("enqueue", nonce=b"12345678", number=7, tasks=tasks)
    d.turn()
    ids = d.answer(first)["ids"]
    d.reopen()
    again = d.submit("enqueue", 2, nonce=b"12345678", number=7, tasks=tasks, again=True)
    other = d.submit("enqueue", 2, nonce=b"12345678", number=8, tasks=tasks, again=True)
    d.turn()
    assert d.answer(again, 2)["ids"] == ids
    assert d.answer(other, 2)["ids"] == [4, 5, 6]


def test_a_full_queue_refuses_new_tasks_and_still_settles_and_cancels(store_kind: str, tmp_path: Path) -> None:
    d = Driver(store_kind, tmp_path / "store", Limits(queue_tasks=3))
    d.add(3)
    code, message = d.refusal("enqueue", tasks=[["t", b"", None]])
    assert code == "refused"
    assert "'default'" in message
    (task,) = d.grant()
    d.broker.settled([d.result(task)])
    assert d.ask("cancel", ids=[2])["outcomes"] == ["cancelled"]
    assert d.add(2) == [4, 5]
    d.store.close()


# -- arguments -----------------------------------------------------------------------------------------------------

LONG = "ü" * (MAX_NAME // 2 + 1)


@pytest.mark.parametrize(
    ("verb", "args", "says"),
    [
        ("get", {}, "ids"), ("get", {"ids": 5}, "ids: expected list"), ("get", {"ids": [0]}, "task numbers"),
        ("get", {"ids": [True]}, "task numbers"), ("get", {"ids": [1 << 63]}, "task numbers"), ("get", {"ids": [1] * 501}, "at most 500"),
        ("get", {"ids": [1], "more": 1}, "'more'"), ("find", {"limit": 0}, "from 1 to 500"),
        ("find", {"limit": True}, "limit: expected int"),
        ("find", {"states": ["lost"]}, "expected a state"), ("find", {"states": []}, "at least one state"),
        ("find", {"queue": ""}, "name of 1"),
        ("find", {"queue": LONG}, "200 bytes"), ("peek", {"limit": 501}, "from 1 to 500"), ("wait", {"ids": ["1"]}, "task numbers"),
        ("claim", {}, "at least one name"), ("claim", {"queues": [5]}, "names of 1"), ("claim", {"queues": [LONG]}, "200 bytes"),
        ("claim", {"queues": []}, "at least one name"), ("claim", {"queues": ["q"], "wait_ms": -1}, "wait_ms"),
        ("claim", {"queues": ["q"], "lease_ms": 1}, "lease_ms"), ("claim", {"queues": ["q"], "limit": 501}, "limit"),
        ("claim", {"queues": ["q"] * 501}, "at most 500"), ("extend", {"id": -1, "claim": 1}, "numbers above 0"),
        ("extend", {"id": 1}, "claim"), ("settle", {"results": [[1, 1, "succeeded"]]}, "[id, claim"),
        ("settle", {"results": [[1, 1, "crashed", None]]}, "succeeded or failed"),
        ("settle", {"results": [[-1, 1, "failed", None]]}, "above 0"),
        ("settle", {"results": [[1, 1, "succeeded", {"result": "text"}]]}, "packed msgpack"),
        ("settle", {"results": [[1, 1, "succeeded", {"result": b"x" * 65537}]]}, "65536"),
        ("settle", {"results": [[1, 1, "failed", {"error": {"type": 5, "message": ""}}]]}, "texts type and message"),
        ("settle", {"results": [[1, 1, "failed", {"error": {"type": "E", "message": "m", "frames": "x"}}]]}, "texts type and message"),
        ("settle", {"results": [[1, 1, "failed", {"error": {"type": "E", "message": "m" * 5000}}]]}, "4096"),
        ("settle", {"results": [[1, 1, "failed", {"delay_ms": "soon"}]]}, "delay_ms"),
        ("settle", {"results": [[1, 1, "failed", {"delay_ms": -1}]]}, "delay_ms"),
        ("settle", {"results": [[1, 1, "failed", {"exit_code": 1 << 40}]]}, "exit_code"),
        ("settle", {"results": [[1, 1, "failed", {"permanent": 3}]]}, "true or false"),
        ("settle", {"results": [[1, 1, "failed", None]] * 501}, "at most 500"), ("release", {"claims": [[1]]}, "[id, claim]"),
        ("cancel", {}, "got nothing"), ("cancel", {"states": []}, "at least one state"), ("cancel", {"queue": ""}, "name of 1"),
        ("cancel", {"ids": [1], "queue": "q"}, "got both"), ("set_queue", {"name": ""}, "name of 1"),
        ("set_queue", {"name": LONG}, "200 bytes"),
        ("set_queue", {"name": "q", "weight": 0}, "from 1 to 100"), ("set_queue", {"name": "q", "paused": 1}, "expected bool"),
        ("watch", {"topics": ["everything"]}, "ends, output, steps and totals"), ("watch", {"topics": ["totals"], "hz": 99}, "hz"),
    ],
)  # fmt: skip
def test_a_wrong_argument_is_refused_in_words_and_nothing_is_changed(tmp_path: Path, verb: str, args: dict[str, Any], says: str) -> None:
    d = Driver("memory", tmp_path / "store")
    d.add(queue="q")
    before = d.states(1), d.ask("stats"), d.ask("chores")
    code, message = d.refusal(verb, **args)
    assert code == "usage"
    assert says in message
    assert "got" in message
    assert (d.states(1), d.ask("stats"), d.ask("chores")) == before


def test_a_cursor_that_no_store_gave_is_refused_or_ends_at_once(d: Driver) -> None:
    d.add(3)
    for before in (b"", b"x", b"\xff" * 8, b"\xc1" * 8, b"y" * 9):
        for states in (None, ["pending"]):
            number = d.submit("find", states=states, before=before)
            d.settle_down(5)
            found, error = d.answer(number), d.error(number)
            assert found is not None or error[0] == "usage"


# -- consumers -----------------------------------------------------------------------------------------------------


def test_a_consumer_claims_extends_and_settles_and_a_stale_claim_changes_nothing(d: Driver) -> None:
    d.add(3, queue="q", retries=1)
    one, two, three = d.ask("claim", queues=["q"], limit=5, lease_ms=5000)["tasks"]
    assert (one["id"], one["claim"], one["attempt"], one["lease_ms"], one["type"]) == (1, 1, 1, 5000, "t")
    d.now += 3000
    assert d.ask("extend", id=1, claim=1, lease_ms=5000) == {"ok": True}
    assert d.ask("extend", id=1, claim=2, lease_ms=5000) == {"ok": False}
    error = {"type": "E", "message": "no"}
    results = [
        [1, 1, "succeeded", {"result": pack(42)}], [2, 1, "failed", {"error": error, "delay_ms": 700, "exit_code": 3}],
        [3, 9, "succeeded", None], [77, 1, "succeeded", None],
    ]  # fmt: skip
    assert d.ask("settle", results=results) == {"settled": [True, True, False, False]}
    done, failed, held = (d.row(task["id"]) for task in (one, two, three))
    assert (done["state"], done["result"], done["finished_at"] - done["started_at"]) == ("succeeded", pack(42), 3000)
    assert (failed["state"], failed["error"], failed["exit_code"], failed["due_at"]) == ("retrying", error, 3, d.now + 700)
    assert held["state"] == "running"
    assert d.ask("release", claims=[[3, 1], [3, 1], [1, 1]]) == {"released": [True, False, False]}
    assert (d.row(3)["state"], d.row(3)["attempt"]) == ("pending", 0)


def test_the_run_time_of_a_consumers_task_is_counted_however_many_it_settles_at_once(d: Driver) -> None:
    d.add(20, queue="q")
    tasks = d.ask("claim", queues=["q"], limit=20)["tasks"]
    d.now += 2000
    d.ask("settle", results=[[task["id"], task["claim"], "succeeded", None] for task in tasks])
    assert d.ask("stats")["avg_process_time"] == 2.0


def test_a_lease_that_lapses_gives_the_task_to_another_and_the_third_time_fails_it(d: Driver) -> None:
    d.add(queue="q")
    for claim in (1, 2, 3):
        assert d.ask("claim", queues=["q"], lease_ms=1000)["tasks"][0]["claim"] == claim
        assert d.broker.next_due == d.now + 1000
        d.now += 1000
        d.settle_down()
    row = d.row(1)
    assert (row["state"], row["crashes"], row["error"]["type"]) == ("failed", 3, "LeaseLapsed")
    assert d.ask("settle", results=[[1, 3, "succeeded", None]]) == {"settled": [False]}


def test_a_waiting_consumer_is_served_in_the_commit_of_the_enqueue_and_in_the_order_of_waiting(d: Driver) -> None:
    trouble = Trouble(d, RuntimeError(), 0)
    first, second = (d.submit("claim", conn, queues=["q"], wait_ms=20_000) for conn in (1, 2))
    d.turn()
    commits = trouble.commits
    d.submit("enqueue", 3, tasks=[["t", b"", {"queue": "q"}]])
    d.turn()
    assert trouble.commits == commits + 1
    assert d.answer(first, 1)["tasks"][0]["id"] == 1
    assert d.answer(second, 2) is None
    d.now += 20_000
    d.turn()
    assert d.answer(second, 2) == {"tasks": []}
    assert not d.broker.holds(2)
    d.add(queue="q")
    assert d.states(2) == ["pending"]


def test_what_a_consumer_claims_fits_into_one_answer_and_the_rest_keeps_its_place(d: Driver) -> None:
    for _ in range(4):
        d.add(3, payload=BIG, queue="q")
    tasks = d.ask("claim", queues=["q"], limit=500)["tasks"]
    assert [task["id"] for task in tasks] == [1, 2, 3, 4, 5]
    assert sum(len(task["payload"]) for task in tasks) <= wire.MAX_FRAME
    later = d.ask("claim", queues=["q"], limit=500)["tasks"]
    assert [(task["id"], task["attempt"]) for task in later] == [(i, 1) for i in range(6, 11)]
    d.add(300, queue="s")
    assert len(d.ask("claim", queues=["s"], limit=500)["tasks"]) == 300


def test_a_connection_that_is_gone_is_given_nothing_and_leaves_nothing_behind(d: Driver) -> None:
    d.add(queue="q")
    for _ in range(2):  # once what it asked for still lies in the inbox, once it waits already
        d.submit("claim", queues=["q"])
        d.submit("claim", queues=["other"], wait_ms=50_000)
        d.submit("wait", ids=[1])
        d.submit("watch", topics=["ends", "totals"])
        d.submit("enqueue", tasks=[["t", b"", None]])
        d.broker.gone(1)
        d.turn()
        assert d.states(1) == ["pending"]
        assert not d.broker.holds(1)
        assert d.broker._waiting.next_due is None
    assert d.ask("stats", 2)["states"]["pending"] == 3  # what it asked to be stored is stored
    d.submit("find")
    d.submit("wait", ids=[1])
    d.submit("claim", queues=["other"], wait_ms=50_000)
    d.turn()
    assert d.broker.holds(1)
    d.broker.gone(1)
    assert not d.broker.holds(1)
    assert d.broker._waiting.next_due is None


# -- waiting and watching ------------------------------------------------------------------------------------------


def test_wait_answers_when_all_or_any_are_over_and_says_when_the_time_is_up(d: Driver) -> None:
    d.add(3)
    every = d.submit("wait", ids=[1, 2])
    some = d.submit("wait", ids=[2, 3], any=True)
    short = d.submit("wait", ids=[3], timeout_ms=500)
    d.turn()
    assert d.broker.next_due == d.now + 500
    d.ask("cancel", ids=[2])
    assert [task["state"] for task in d.answer(some)["tasks"]] == ["cancelled", "pending"]
    assert d.answer(every) is None
    one, three = d.grant(2)
    d.broker.settled([d.result(one)])
    d.turn()
    assert [task["state"] for task in d.answer(every)["tasks"]] == ["succeeded", "cancelled"]
    d.now += 500
    d.turn()
    assert d.answer(short)["done"] is False
    assert three.id == 3
    assert d.ask("wait", ids=[1, 1, 2])["done"]
    assert d.ask("wait", ids=[3, 1], any=True)["done"]
    assert d.ask("wait", ids=[3, 99, 98], any=True)["done"]  # what is not here is over
    assert d.ask("wait", ids=[99]) == {"tasks": [None], "done": True}
    assert d.ask("wait", ids=[3], timeout_ms=0)["done"] is False
    assert d.ask("wait", ids=[], any=True) == {"tasks": [], "done": True}


def test_a_wait_and_the_end_it_waits_for_may_stand_in_one_turn(d: Driver) -> None:
    d.add(queue="q", ttl_ms=10_000)
    d.add(queue="q")
    claimed = d.ask("claim", queues=["q"])["tasks"][0]
    waits = d.submit("wait", 2, ids=[1])
    watch = d.submit("watch", 3, topics=["ends"])
    d.submit("settle", results=[[1, claimed["claim"], "succeeded", None]])
    d.turn()
    assert d.answer(waits, 2)["done"]
    assert d.events(watch, 3) == [{"topic": "ends", "id": 1, "state": "succeeded", "exit_code": None}]


def test_ends_are_told_to_those_who_watch_them(d: Driver) -> None:
    d.add(3, retries=0)
    everything = d.submit("watch", 1, topics=["ends"])
    only = d.submit("watch", 2, topics=["ends"], ids=[2])
    d.turn()
    assert d.answer(everything, 1) == d.answer(only, 2) == {}
    one, two = d.grant(2)
    d.broker.settled([d.result(one), d.result(two, "failed", exit_code=7)])
    d.submit("cancel", 3, ids=[3])
    d.turn()
    assert [(e["id"], e["state"], e["exit_code"]) for e in d.events(everything, 1)] == [
        (1, "succeeded", None), (2, "failed", 7), (3, "cancelled", None),
    ]  # fmt: skip
    assert [e["id"] for e in d.events(only, 2)] == [2]


def test_totals_are_told_at_once_then_only_when_something_changed_and_not_too_often(d: Driver) -> None:
    watch = d.submit("watch", topics=["totals"], hz=4)
    d.turn()
    assert len(d.events(watch)) == 1
    d.turn()
    assert d.broker.next_due is None  # nothing changes: nobody is woken
    d.now += 60_000
    d.turn()
    d.ask("stats", 2)
    assert len(d.events(watch)) == 1
    for _ in range(3):
        d.add(2)
        d.now += 10
    assert len(d.events(watch)) == 2
    d.now += 250
    d.turn()
    assert [event["queue_length"] for event in d.events(watch)] == [0, 2, 6]
    d.now += 250
    d.turn()
    assert len(d.events(watch)) == 3


def test_a_connection_may_only_wait_for_so_much(d: Driver, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tq.waiting.MOST", 10)
    d.add(20)
    for _ in range(2):
        d.submit("wait", ids=[1, 2, 3, 4, 5])
    d.turn()
    for verb, args in (("wait", {"ids": [1]}), ("claim", {"queues": ["q"], "wait_ms": 9}), ("watch", {"topics": ["ends"]})):
        code, message = d.refusal(verb, **args)
        assert (code, "at most 10" in message) == ("refused", True)
    assert d.ask("watch", 2, topics=["ends"]) == {}
    d.ask("cancel", 2, ids=[1, 2, 3, 4, 5])
    assert d.ask("watch", topics=["ends"]) == {}


# -- time ----------------------------------------------------------------------------------------------------------


def test_tasks_come_due_retry_and_expire_at_their_time(d: Driver) -> None:
    d.add(delay_ms=5000)
    d.add(due_at=d.now + 7000)
    d.add(queue="x", ttl_ms=6000)
    d.ask("set_queue", name="x", paused=True)
    assert d.broker.next_due == d.now + 5000
    d.now += 4999
    d.settle_down()
    assert d.states(1, 2, 3) == ["scheduled", "scheduled", "pending"]
    d.now += 1
    d.settle_down()
    assert d.states(1, 2, 3) == ["pending", "scheduled", "pending"]
    d.now += 2000
    d.settle_down()
    assert d.states(1, 2, 3) == ["pending", "pending", "expired"]


def test_a_clock_that_steps_back_a_little_stands_still_and_further_is_followed(d: Driver) -> None:
    d.add(delay_ms=10_000)
    start = d.now
    waits = d.submit("wait", ids=[1], timeout_ms=5000)
    d.turn()
    d.now = start - 30_000
    d.add()
    assert d.row(2)["created_at"] == start
    d.now = start - 7_200_000
    d.add()
    assert d.row(3)["created_at"] == start - 7_200_000
    assert d.broker.next_due == start - 7_200_000 + 5000  # the wait lasts as long as it would have
    d.now += 5000
    d.turn()
    assert d.answer(waits)["done"] is False
    d.now = start + 86_400_000  # and a day forwards
    d.settle_down()
    assert d.states(1) == ["pending"]


def test_a_deadline_of_what_is_over_wakes_nobody_and_is_forgotten(d: Driver) -> None:
    for _ in range(300):
        (task_id,) = d.add(queue="q")
        d.submit("wait", ids=[task_id], timeout_ms=3_600_000)
        d.ask("cancel", 2, ids=[task_id])
    assert d.broker.next_due is None
    assert len(d.broker._waiting._deadlines) == 0


def test_connections_take_turns_so_that_one_with_much_to_ask_delays_nobody(d: Driver) -> None:
    d.add(10)
    d.tick_s = 0.003  # two requests a turn
    many = [d.submit("cancel", 1, ids=[n]) for n in range(1, 8)]
    other, third = d.submit("get", 2, ids=[1]), d.submit("get", 3, ids=[1])
    d.turn()
    assert d.answer(many[0], 1)
    assert d.answer(other, 2)
    d.turn()
    assert d.answer(third, 3)
    late = d.submit("get", 4, ids=[1])
    d.turn()
    assert d.answer(late, 4)
    d.settle_down()
    assert [number for number, _, _ in d.told[1]][-7:] == many


def test_a_connection_is_full_while_more_of_its_requests_wait_than_it_may_have(d: Driver) -> None:
    for _ in range(INBOX_MOST):
        assert not d.broker.full(1)
        d.submit("get", 1, ids=[1])
    assert d.broker.full(1)
    assert not d.broker.full(2)
    d.settle_down()
    assert not d.broker.full(1)
    for _ in range(INBOX_MOST):
        d.submit("get", 1, ids=[1])
    d.broker.gone(1)
    assert not d.broker.full(1)
    assert not d.broker.waiting


def test_what_a_failed_turn_left_for_the_next_is_answered_once_and_in_order(d: Driver) -> None:
    d.tick_s = 0.003
    Trouble(d, Refused("no room"))
    numbers = [d.submit("enqueue", tasks=[["t", b"", None]]) for _ in range(7)]
    d.settle_down()
    assert [number for number, _, _ in d.told[1]] == numbers
    assert [d.answer(number) for number in numbers] == [{"ids": [n]} for n in range(1, 8)]


# -- reading -------------------------------------------------------------------------------------------------------


def test_a_list_is_read_in_slices_page_by_page_and_others_are_served_meanwhile(d: Driver) -> None:
    d.add(900)
    d.add(900, queue="q")
    d.tick_s = 0.0015
    number = d.submit("find", queue="default", limit=500)
    d.turn()
    assert d.answer(number) is None
    assert d.turns[-1].busy
    d.ask("get", 2, ids=[1])
    d.settle_down()
    page = d.answer(number)
    assert [task["id"] for task in page["tasks"]] == list(range(900, 400, -1))
    second = d.submit("find", queue="default", limit=500, before=page["next"])
    d.settle_down()
    rest = d.answer(second)
    assert ([task["id"] for task in rest["tasks"]], rest["next"]) == (list(range(400, 0, -1)), None)


def test_a_list_of_what_is_next_reads_each_task_once_however_rare_its_matches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    d = Driver("lmdb", tmp_path / "store")
    for _ in range(3):
        d.add(1000)
    d.add(kind="u")
    taken, take = [0], lookup.Order.take

    def counting(order: lookup.Order, txn: Any, count: int) -> list[int]:
        ids = take(order, txn, count)
        taken.append(len(ids))
        return ids

    monkeypatch.setattr(lookup.Order, "take", counting)
    number = d.submit("find", states=["pending"], type="u")
    d.settle_down()
    assert [task["id"] for task in d.answer(number)["tasks"]] == [3001]
    assert sum(taken) == 3001
    assert max(taken) <= lookup.SLICE
    d.store.close()


def test_a_peek_at_many_is_read_in_slices_and_keeps_the_order_of_its_turn(d: Driver) -> None:
    d.add(100)
    d.tick_s = 0.0008  # a few looks at the clock end the slice
    number = d.submit("peek", limit=100)
    d.turn()
    assert d.answer(number) is None
    d.ask("cancel", ids=[90])
    d.add(1, priority=9)
    d.settle_down()
    assert d.answer(number).keys() == {"tasks"}
    assert [(row["id"], row["why"]) for row in d.answer(number)["tasks"]] == [(n, "priority") for n in range(1, 101) if n != 90]


@pytest.mark.parametrize("verb", ["get", "find", "peek", "wait"])
def test_tasks_that_do_not_fit_into_a_frame_are_cut_and_say_so(d: Driver, verb: str) -> None:
    for _ in range(10):
        d.add(payload=BIG)
    args: dict[str, Any] = {"ids": list(range(1, 11))} if verb in ("get", "wait") else {"limit": 10}
    number = d.submit(verb, **args, **({"timeout_ms": 0} if verb == "wait" else {}))
    d.settle_down()
    tasks = d.answer(number)["tasks"]
    assert len(tasks) == 10
    whole = [task for task in tasks if not task.get("cut")]
    assert len(whole) >= 4
    assert all(task["payload"] == BIG for task in whole)
    assert all(task["payload"] is None for task in tasks if task.get("cut"))


def test_one_damaged_record_is_an_error_for_who_asks_for_it_and_no_one_else(tmp_path: Path) -> None:
    d = Driver("lmdb", tmp_path / "store")
    d.add(3)
    read = d.store._read  # type: ignore[attr-defined]

    def damaged(txn: Any, task_id: int) -> Any:
        if task_id == 2:
            raise StoreDamaged("task 2: the record fails its checksum")
        return read(txn, task_id)

    d.store._read = damaged  # type: ignore[attr-defined]
    added = d.submit("enqueue", 2, tasks=[["t", b"", None]])
    bad, lists = d.submit("get", ids=[2]), d.submit("find")
    cancel = d.submit("cancel", ids=[1, 2])
    good = d.submit("get", ids=[3])
    d.settle_down()
    assert d.error(bad)[0] == d.error(cancel)[0] == "damaged"
    assert [row["id"] for row in d.answer(lists)["tasks"]] == [4, 3, 1]
    assert d.states(1) == ["pending"]  # what is refused changes nothing
    d.ask("cancel", queue="default")
    d.settle_down()
    assert d.states(1, 3, 4) == ["cancelled"] * 3
    assert d.ask("chores")["chores"] == []
    assert d.answer(good)["tasks"][0]["id"] == 3
    assert d.answer(added, 2)["ids"] == [4]
    d.store.close()


def test_queues_and_types_and_stats_say_what_there_is(d: Driver) -> None:
    d.add(2, queue="b")
    d.ask("set_queue", name="a", external=True, weight=7)
    d.ask("set_queue", name="a", paused=True)
    rows = {row["name"]: row for row in d.ask("queues")["queues"]}
    assert (rows["a"]["external"], rows["a"]["weight"], rows["a"]["paused"]) == (True, 7, True)
    assert rows["b"]["states"]["pending"] == 2
    assert [row["name"] for row in d.ask("types")["types"]] == ["t", "u"]
    d.broker.desk.slots = lambda: (3, 4)
    totals = d.ask("stats")
    assert (totals["workers"], totals["utilisation"]) == ({"active": 3, "total": 4}, 0.75)
    assert d.add(kind="anything", queue="a") == [3]  # an external queue takes any type


def test_a_type_whose_name_no_store_takes_is_refused_with_its_name(d: Driver) -> None:
    with pytest.raises(ConfigError, match="1 to 200 bytes"):
        d.broker.put_types([TypeInfo("ü" * 101)], d.now)
    with pytest.raises(ConfigError, match="queue"):
        d.broker.put_types([TypeInfo("fine", queue="")], d.now)


# -- chores --------------------------------------------------------------------------------------------------------


def test_a_bulk_cancel_is_a_chore_that_goes_on_after_a_restart_and_spares_the_others(d: Driver) -> None:
    for _ in range(4):
        d.add(500, queue="q")
    d.add(700)
    (running,) = d.ask("claim", 2, queues=["q"])["tasks"]
    chore = d.ask("cancel", queue="q")["chore"]
    assert d.turns[-1].busy
    d.turn()
    (progress,) = d.ask("chores")["chores"]
    assert progress["id"] == chore
    assert 0 < progress["seen"] < 2000
    d.add(queue="q")  # came later: not meant
    d.reopen()
    d.settle_down()
    assert d.ask("chores") == {"chores": []}
    states = d.ask("stats")["queues"]["q"]["states"]
    assert (states["cancelled"], states["running"], states["pending"]) == (1999, 1, 1)
    assert d.row(running["id"])["cancel_asked"]
    assert d.ask("stats")["queues"]["default"]["states"]["pending"] == 700


def test_a_chore_comes_to_its_end_even_if_a_slice_finds_nothing_that_matches(d: Driver) -> None:
    d.add(queue="q")
    for _ in range(3):
        d.add(1000)
    d.tick_s = 0.003  # each look at the clock ends the slice
    d.ask("cancel", queue="q")
    d.settle_down(300)
    assert d.states(1) == ["cancelled"]


def test_a_chore_whose_slice_is_lost_starts_again_where_it_was(d: Driver) -> None:
    d.add(500)
    d.add(500)
    d.ask("cancel", queue="default", states=["pending"])
    Trouble(d, Refused("no room"))
    d.turn()
    d.now += 1000
    d.settle_down()
    assert d.ask("stats")["states"]["cancelled"] == 1000


def test_chores_are_bounded(d: Driver, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tq.chores.MOST", 2)
    numbers = [d.submit("cancel", queue="q") for _ in range(3)]
    d.turn()
    assert [d.answer(number) is not None for number in numbers] == [True, True, False]
    assert d.error(numbers[2])[0] == "refused"


# -- the end of things ---------------------------------------------------------------------------------------------


def test_what_is_over_the_limit_is_forgotten_also_when_nothing_else_happens(store_kind: str, tmp_path: Path) -> None:
    d = Driver(store_kind, tmp_path / "store", Limits(keep=10))
    d.add(500)
    d.ask("cancel", queue="default")
    d.settle_down()
    assert d.ask("stats")["states"]["cancelled"] == 10
    d.store.close()


def test_after_a_restart_what_had_begun_is_an_interrupt_and_what_had_not_is_free(d: Driver) -> None:
    d.ask("set_queue", name="q", external=True)
    d.add(3)
    d.add(queue="q")
    begun, unbegun, once = d.grant(3)
    (leased,) = d.ask("claim", queues=["q"], lease_ms=4000)["tasks"]
    d.reopen()
    assert d.broker.recover(lambda task_id, claim: (task_id, claim) in {(begun.id, 1), (once.id, 1)}, d.now) == (2, 1)
    first, second = d.row(begun.id), d.row(unbegun.id)
    assert (first["state"], first["attempt"], first["interrupts"]) == ("pending", 1, 1)
    assert (second["state"], second["attempt"], second["interrupts"]) == ("pending", 0, 0)
    d.now += 3999
    assert d.ask("settle", results=[[leased["id"], 1, "succeeded", None]]) == {"settled": [True]}  # a full lease anew
    assert [task.id for task in d.grant(5)] == [1, 2, 3]


def test_a_running_task_that_is_cancelled_ends_cancelled_unless_it_succeeds(d: Driver) -> None:
    d.add(2, retries=3)
    one, two = d.grant(2)
    assert d.ask("cancel", ids=[one.id, two.id, 99]) == {"outcomes": ["asked", "asked", "unknown"]}
    assert [word for turn in d.turns for word, _ in turn.steps].count("cancel_asked") == 2
    d.broker.settled([d.result(one), d.result(two, "failed")])
    d.turn()
    assert d.states(one.id, two.id) == ["succeeded", "cancelled"]


def test_a_cancel_of_a_running_task_outlives_the_daemon(d: Driver) -> None:
    d.add(2, retries=3)
    begun, unbegun = d.grant(2)
    assert d.ask("cancel", ids=[begun.id, unbegun.id]) == {"outcomes": ["asked", "asked"]}
    d.reopen()
    d.broker.recover(lambda task_id, _: task_id == begun.id, d.now)
    assert d.states(begun.id, unbegun.id) == ["cancelled", "cancelled"]
    assert d.grant(2) == []


def test_payloads_at_the_limit_are_accepted(d: Driver) -> None:
    (task_id,) = d.add(payload=b"x" * MAX_PAYLOAD)
    assert d.refusal("enqueue", tasks=[["t", b"x" * (MAX_PAYLOAD + 1), None]])[0] == "payload"
    assert len(d.row(task_id)["payload"]) == MAX_PAYLOAD


def test_a_hello_that_says_nothing_new_costs_no_commit_and_one_without_room_leaves_the_store_usable(d: Driver) -> None:
    d.broker.put_types([TypeInfo("fresh", queue="q")], d.now)
    begun: list[int] = []
    begin, commit = d.store.begin, d.store.commit

    def count(now: int) -> None:
        begun.append(now)
        begin(now)

    def full() -> None:
        raise Refused("the store has no room")

    d.store.begin = count  # type: ignore[method-assign]
    d.broker.put_types([TypeInfo("fresh", queue="q")], d.now)
    assert begun == []
    d.store.commit = full  # type: ignore[method-assign]
    with pytest.raises(Refused):
        d.broker.put_types([TypeInfo("other")], d.now)
    d.store.commit = commit  # type: ignore[method-assign]
    assert "other" not in d.store.types()
    assert d.add(1) == [1]


def test_a_claim_that_comes_in_one_turn_with_its_task_is_served(d: Driver) -> None:
    d.ask("set_queue", name="out", external=True)
    claim = d.submit("claim", 2, queues=["out"], wait_ms=60_000)
    d.submit("enqueue", 3, tasks=[["t", b"", {"queue": "out"}]])
    d.settle_down()
    assert [task["id"] for task in d.answer(claim, 2)["tasks"]] == [1]

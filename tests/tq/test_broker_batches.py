"""Batches: when one is over, which callbacks are sent, and that each comes once, whatever becomes of members and the daemon."""

from __future__ import annotations

from typing import Any

import pytest

from tests.tq.broker_driver import Driver
from tq.broker.batches import AGAIN_MS
from tq.model import BATCH_MARK as MARK
from tq.model import header_of, unpack
from tq.store import Limits

ALL = {f"on_{event}": [f"{event}d", b"", {"queue": "back"}] for event in ("failure", "complete", "success")}


def _create(d: Driver, **what: Any) -> int:
    d.broker.put_types([], d.now)
    number = d.ask("create_batch", **{**{word: [*row] for word, row in CALLS.items()}, **what})["id"]
    assert isinstance(number, int)
    return number


CALLS = {word: [row[0], row[1], {**row[2], "allow_unknown": True}] for word, row in ALL.items()}


def _batch(d: Driver, number: int) -> Any:
    return d.ask("batch", conn=998, id=number)["batch"]


def _counts(d: Driver, number: int) -> dict[str, int]:
    row = _batch(d, number)
    return {word: row[word] for word in ("waiting", "running", "succeeded", "failed", "cancelled", "expired") if row[word]}


def _sent(d: Driver, number: int | None = None) -> list[str]:
    """The callbacks that were ever stored, in order; of one batch, or of all."""
    rows = sorted(d.ask("find", conn=997, queue="back", limit=100)["tasks"], key=lambda row: row["id"])
    tasks = d.store.get([row["id"] for row in rows])
    marks = [task.spec.header.extras[MARK] for task in tasks if task is not None and task.spec.header.extras]
    return [event for batch, event in marks if number in (None, batch)]


def _runs(d: Driver) -> list[Any]:
    return [task for task in d.grant(100) if not header_of(task.header.packed).extras]


def _win(d: Driver, *tasks: Any) -> None:
    d.broker.settled([d.result(task) for task in tasks])
    d.turn()


def _fail(d: Driver, *tasks: Any) -> None:
    d.broker.settled([d.result(task, "failed", error={"type": "E", "message": "no"}, permanent=True) for task in tasks])
    d.turn()


def _close(d: Driver, number: int) -> Any:
    return d.ask("close_batch", id=number)["batch"]


# -- when it is over, and what is sent -----------------------------------------------------------------------------


def test_all_that_succeeded_sends_complete_and_success_once_it_is_closed(d: Driver) -> None:
    number = _create(d, name="import")
    d.add(3, batch=number)
    d.add(2)
    first, second, third = (task for task in _runs(d) if task.header.batch)
    _win(d, first, second, third)
    assert (_batch(d, number)["state"], _counts(d, number), _sent(d)) == ("open", {"succeeded": 3}, [])
    row = _close(d, number)
    assert (row["closed_at"], row["name"]) == (d.now, "import")
    row = _batch(d, number)
    assert (row["state"], row["finished_at"], row["total"], row["owed"]) == ("complete", d.now, 3, [])
    assert _sent(d) == ["complete", "success"]
    assert [row["callbacks"][word][0] for word in ("on_complete", "on_success")] == ["completed", "successd"]
    assert row["callbacks"]["on_failure"] == ["failured", None]
    _close(d, number)
    d.reopen()
    d.settle_down()
    assert _sent(d) == ["complete", "success"]


def test_a_callback_is_stored_in_the_turn_of_the_last_end_and_may_be_handed_out_in_it(d: Driver) -> None:
    number = _create(d)
    d.add(batch=number)
    _close(d, number)
    (member,) = _runs(d)
    d.broker.settled([d.result(member)])
    granted = d.grant(10)
    assert [task.header.type for task in granted] == ["completed", "successd"]
    assert [task.header.extras for task in granted] == [{MARK: [number, "complete"]}, {MARK: [number, "success"]}]
    assert [task.header.batch for task in granted] == [0, 0]


def test_an_empty_batch_is_over_when_it_is_closed(d: Driver) -> None:
    number = _create(d)
    d.turn()
    assert _sent(d) == []
    _close(d, number)
    assert (_batch(d, number)["state"], _sent(d)) == ("complete", ["complete", "success"])


def test_one_that_closes_itself_is_over_with_its_members_but_not_before_it_has_any(d: Driver) -> None:
    number = _create(d, auto=True)
    d.turn()
    assert _batch(d, number)["state"] == "open"
    d.add(2, batch=number)
    first, second = _runs(d)
    _win(d, first)
    assert _batch(d, number)["state"] == "open"
    _win(d, second)
    row = _batch(d, number)
    assert (row["state"], row["closed_at"], row["finished_at"], _sent(d)) == ("complete", d.now, d.now, ["complete", "success"])
    assert d.refusal("enqueue", tasks=[["t", b"", {"batch": number}]])[0] == "batch_over"


def test_the_first_that_fails_for_good_sends_failure_while_it_is_open_and_the_second_sends_none(d: Driver) -> None:
    number = _create(d)
    d.add(3, batch=number, retries=1, backoff=["fixed", 1000, 1.0, 1000, False])
    runs = _runs(d)
    d.broker.settled([d.result(runs[0], "failed", error={"type": "E", "message": "no"})])
    d.turn()
    assert (_counts(d, number), _sent(d)) == ({"waiting": 1, "running": 2}, [])
    _fail(d, runs[1])
    assert _sent(d) == ["failure"]
    _fail(d, runs[2])
    _close(d, number)
    assert _sent(d) == ["failure"]
    d.now += 1000
    _win(d, *_runs(d))
    assert (_counts(d, number), _sent(d)) == ({"succeeded": 1, "failed": 2}, ["failure", "complete"])


@pytest.mark.parametrize("way", ["cancelled", "cancelled while it ran", "expired", "removed", "its parent failed", "stopped"])
def test_a_member_that_neither_succeeds_nor_fails_completes_it_and_is_no_success(d: Driver, way: str) -> None:
    number = _create(d)
    (parent,) = d.add()
    (member,) = d.add(
        batch=number, ttl_ms=50, delay_ms=20_000 if way == "expired" else 0, **({"after": [parent]} if "parent" in way else {})
    )
    _close(d, number)
    if way == "expired":
        d.now += 60
        d.turn()
    elif way in ("cancelled", "removed"):
        d.ask("cancel" if way == "cancelled" else "remove", ids=[member])
    elif way == "its parent failed":
        _fail(d, *_runs(d))
    else:
        run = next(task for task in _runs(d) if task.id == member)
        if way == "stopped":
            d.broker.settled([d.result(run, "stopped")])
        else:
            d.ask("cancel", ids=[member])
            assert _counts(d, number) == {"running": 1}
            d.broker.settled([d.result(run, "failed", error={"type": "E", "message": "no"})])
        d.turn()
    d.settle_down()
    assert _counts(d, number) == {"expired" if way == "expired" else "cancelled": 1}
    assert _sent(d) == ["complete"]


def test_members_that_are_removed_or_forgotten_after_their_end_stay_counted(d: Driver) -> None:
    number = _create(d)
    ids = d.add(3, batch=number)
    first, second, third = _runs(d)
    _win(d, first, second)
    _fail(d, third)
    d.ask("remove", ids=ids)
    assert d.states(*ids) == ["none"] * 3
    _close(d, number)
    assert (_counts(d, number), _sent(d)) == ({"succeeded": 2, "failed": 1}, ["failure", "complete"])


def test_a_dead_letter_that_is_retried_and_succeeds_brings_success_but_no_second_complete(d: Driver) -> None:
    number = _create(d)
    ids = d.add(2, batch=number)
    _close(d, number)
    first, second = _runs(d)
    _win(d, first)
    _fail(d, second)
    assert _sent(d) == ["failure", "complete"]
    d.ask("retry", ids=[ids[1]])
    row = _batch(d, number)
    assert (row["state"], row["finished_at"], _counts(d, number)) == ("running", 0, {"waiting": 1, "succeeded": 1})
    _fail(d, *_runs(d))
    assert (_batch(d, number)["state"], _sent(d)) == ("complete", ["failure", "complete"])
    d.ask("retry", ids=[ids[1]])
    _win(d, *_runs(d))
    assert _sent(d) == ["failure", "complete", "success"]
    d.ask("retry", ids=[ids[0]])
    _win(d, *_runs(d))
    assert _sent(d) == ["failure", "complete", "success"]


def test_an_end_and_a_retry_in_one_turn_do_not_hide_the_end(d: Driver) -> None:
    number = _create(d)
    (member,) = d.add(batch=number)
    _close(d, number)
    (run,) = _runs(d)
    d.broker.settled([d.result(run, "failed", error={"type": "E", "message": "no"}, permanent=True)])
    d.submit("retry", ids=[member])
    d.turn()
    assert d.states(member) == ["pending"]
    assert _sent(d) == ["failure", "complete"]


def test_a_turn_that_cannot_be_committed_sends_nothing_and_the_next_one_sends_it_once(d: Driver, monkeypatch: pytest.MonkeyPatch) -> None:
    number = _create(d)
    d.add(batch=number)
    _close(d, number)
    (run,) = _runs(d)
    d.broker.settled([d.result(run)])
    commit, broken = d.store.commit, [True]

    def fails() -> None:
        if broken:
            broken.pop()
            raise RuntimeError("not now")
        commit()

    monkeypatch.setattr(d.store, "commit", fails)
    d.turn()
    assert not broken
    d.settle_down()
    assert (_counts(d, number), _sent(d)) == ({"succeeded": 1}, ["complete", "success"])


# -- who may be added ----------------------------------------------------------------------------------------------


def test_a_closed_batch_takes_members_as_long_as_one_is_not_over(d: Driver) -> None:
    number = _create(d)
    d.add(batch=number)
    _close(d, number)
    (run,) = _runs(d)
    d.add(2, batch=number)
    _win(d, run)
    assert (_batch(d, number)["state"], _counts(d, number), _sent(d)) == ("running", {"waiting": 2, "succeeded": 1}, [])
    _win(d, *_runs(d))
    assert _sent(d) == ["complete", "success"]
    last = d.store.last_id()
    code, text = d.refusal("enqueue", tasks=[["t", b"", None], ["t", b"", {"batch": number}]])
    assert (code, d.store.last_id()) == ("batch_over", last)
    assert f"batch {number}: expected one that is open" in text


def test_a_batch_whose_answer_was_lost_is_made_once(d: Driver) -> None:
    first = d.submit("create_batch", nonce=b"12345678", number=501, name="b")
    d.turn()
    for conn in (2, 3):
        d.submit("create_batch", conn=conn, nonce=b"12345678", number=501, name="b", again=True)
        d.turn()
        assert d.answer(501, conn) == d.answer(first)
        d.reopen()
        d.told[1].append((501, 0, {"id": 1}))
    d.submit("create_batch", conn=4, nonce=b"12345678", number=502, name="b", again=True)
    d.turn()
    assert d.answer(502, 4) == {"id": 2}


def test_there_must_be_such_a_batch(d: Driver) -> None:
    assert d.refusal("enqueue", tasks=[["t", b"", {"batch": 7}]])[0] == "no_such_batch"
    for verb in ("batch", "close_batch", "cancel_batch", "retry_batch", "remove_batch", "wait_batch"):
        code, text = d.refusal(verb, id=7)
        assert (code, "got 7" in text) == ("no_such_batch", True)
        assert d.refusal(verb, id=-1)[0] == "no_such_batch"
    for bad in (0, -3, "x", 1.5, True):
        assert d.refusal("enqueue", tasks=[["t", b"", {"batch": bad}]])[0] == "usage"


def test_a_request_that_is_sent_again_adds_its_members_once(d: Driver) -> None:
    number = _create(d)
    rows = [["t", b"", {"batch": number}]] * 2
    first = d.submit("enqueue", nonce=b"12345678", number=500, tasks=rows)
    d.turn()
    d.submit("enqueue", conn=2, nonce=b"12345678", number=500, tasks=rows, again=True)
    d.turn()
    assert d.answer(500, 2) == d.answer(first)
    assert _counts(d, number) == {"waiting": 2}


def test_a_task_that_was_there_by_its_name_does_not_join(d: Driver) -> None:
    number = _create(d)
    (there,) = d.add(unique="u")
    assert d.ask("enqueue", tasks=[["t", b"", {"unique": "u", "unique_policy": "existing", "batch": number}]])["ids"] == [there]
    assert _counts(d, number) == {}
    (new,) = d.add(key="k", batch=number)
    assert d.ask("enqueue", tasks=[["t", b"", {"key": "k", "batch": number}]])["ids"] == [new]
    assert _counts(d, number) == {"waiting": 1}
    (other,) = d.add(unique="v", batch=number)
    d.add(unique="v", unique_policy="replace", batch=number)
    assert (d.states(other), _counts(d, number)) == (["cancelled"], {"waiting": 2, "cancelled": 1})


def test_members_may_wait_for_each_other(d: Driver) -> None:
    number = _create(d)
    ids = d.ask("enqueue", tasks=[["t", b"", {"batch": number}], ["t", b"", {"batch": number, "after": [-1]}]])["ids"]
    _close(d, number)
    _fail(d, *_runs(d))
    assert (d.states(*ids), _sent(d)) == (["failed", "cancelled"], ["failure", "complete"])


# -- as a whole ----------------------------------------------------------------------------------------------------


def test_cancel_takes_all_members_that_are_not_over_and_closes_it(d: Driver) -> None:
    number = _create(d)
    ids = [*d.add(2, batch=number), *d.add(batch=number, delay_ms=20_000)]
    (other,) = d.add()
    run = d.grant(1)[0]
    assert d.ask("cancel_batch", id=number)["chore"] is not None
    d.settle_down()
    assert d.states(*ids, other) == ["running", "cancelled", "cancelled", "pending"]
    assert _batch(d, number)["state"] == "running"
    d.broker.settled([d.result(run, "stopped")])
    d.turn()
    assert (_counts(d, number), _sent(d)) == ({"cancelled": 3}, ["complete"])
    assert d.ask("cancel_batch", id=number)["chore"] is None


def test_nobody_adds_to_one_that_was_cancelled_not_even_a_member_that_still_runs_until_it_is_retried(d: Driver) -> None:
    number = _create(d)
    d.add(2, batch=number)
    run = d.grant(1)[0]
    d.ask("cancel_batch", id=number)
    d.settle_down()
    with pytest.raises(AssertionError, match=f"batch {number}: expected one that takes members, but it was cancelled"):
        d.add(batch=number)
    d.reopen()
    assert _batch(d, number)["cancelled_at"] == d.now
    with pytest.raises(AssertionError, match="it was cancelled"):
        d.add(batch=number)
    d.broker.settled([d.result(run, "stopped")])
    d.turn()
    d.ask("retry_batch", id=number)
    d.settle_down()
    d.add(batch=number)
    assert (_batch(d, number)["cancelled_at"], _batch(d, number)["total"]) == (0, 3)


def test_retry_runs_all_again_that_did_not_succeed_those_that_wait_for_others_behind_them(d: Driver) -> None:
    number = _create(d)
    options = {"batch": number}
    ids = d.ask("enqueue", tasks=[["t", b"", options], ["t", b"", options], ["t", b"", {**options, "after": [-2]}]])["ids"]
    _close(d, number)
    first, second = _runs(d)
    _win(d, first)
    _fail(d, second)
    d.settle_down()
    assert d.states(*ids) == ["succeeded", "failed", "cancelled"]
    assert d.ask("retry_batch", id=number)["chore"] is not None
    d.settle_down()
    assert d.states(*ids) == ["succeeded", "pending", "blocked"]
    _win(d, *_runs(d))
    _win(d, *_runs(d))
    assert (d.states(*ids), _sent(d)) == (["succeeded"] * 3, ["failure", "complete", "success"])
    assert d.ask("retry_batch", id=number)["chore"] is None


def test_remove_forgets_it_and_leaves_its_tasks(d: Driver) -> None:
    number = _create(d)
    (member,) = d.add(batch=number)
    assert "1 are not" in d.refusal("remove_batch", id=number)[1]
    _fail(d, *_runs(d))
    d.ask("remove_batch", id=number)
    assert d.refusal("batch", id=number)[0] == "no_such_batch"
    d.ask("retry", ids=[member])
    _win(d, *_runs(d))
    assert (d.states(member), _sent(d)) == (["succeeded"], ["failure"])


def test_who_waits_for_it_is_told_when_it_is_over_or_time_is_up(d: Driver) -> None:
    number = _create(d)
    d.add(batch=number)
    long, short, now = (d.submit("wait_batch", conn=5, id=number, timeout_ms=ms) for ms in (None, 100, 0))
    d.turn()
    assert d.answer(now, 5)["done"] is False
    d.now += 100
    d.turn()
    found = d.answer(short, 5)
    assert (found["done"], found["batch"]["waiting"]) == (False, 1)
    _win(d, *_runs(d))
    assert d.answer(long, 5) is None
    _close(d, number)
    found = d.answer(long, 5)
    assert (found["done"], found["batch"]["state"], found["batch"]["succeeded"]) == (True, "complete", 1)
    assert d.ask("wait_batch", id=number)["done"] is True


def test_who_waits_for_a_batch_that_is_removed_hears_it(d: Driver) -> None:
    number = _create(d)
    waits = d.submit("wait_batch", conn=5, id=number)
    d.turn()
    d.ask("remove_batch", id=number)
    assert d.error(waits, 5)[0] == "no_such_batch"


def test_batches_are_listed_newest_first(d: Driver) -> None:
    numbers = [_create(d, name=f"b{at}") for at in range(3)]
    assert [row["id"] for row in d.ask("batches")["batches"]] == numbers[::-1]
    assert [row["name"] for row in d.ask("batches", before=numbers[2], limit=1)["batches"]] == ["b1"]
    assert d.refusal("batches", limit=0)[0] == "usage"


def test_members_are_found_by_their_batch(d: Driver) -> None:
    one, two = _create(d), _create(d)
    ids = d.add(2, batch=one)
    d.add(batch=two)
    d.add()
    assert [row["id"] for row in d.ask("find", where=f"batch:{one}")["tasks"]] == ids[::-1]
    assert {row["batch"] for row in d.ask("find", where=f"batch:{one}")["tasks"]} == {one}
    assert d.row(d.add()[0])["batch"] is None


# -- callbacks that cannot be sent ---------------------------------------------------------------------------------


def test_a_callback_for_which_there_is_no_room_is_owed_and_sent_later_also_by_another_daemon(d: Driver) -> None:
    number = _create(d)
    d.add(batch=number)
    d.ask("set_queue", name="back", max_tasks=1, paused=True)
    d.add(queue="back")
    _close(d, number)
    _win(d, *_runs(d))
    assert (_batch(d, number)["owed"], _sent(d)) == (["on_complete", "on_success"], [])
    assert d.broker.next_due is not None
    assert d.broker.next_due <= d.now + AGAIN_MS
    d.reopen()
    d.turn()
    assert (_batch(d, number)["owed"], _sent(d)) == (["on_complete", "on_success"], [])
    d.ask("set_queue", name="back", max_tasks=10)
    d.now += AGAIN_MS
    d.turn()
    assert (_batch(d, number)["owed"], _sent(d)) == ([], ["complete", "success"])
    d.now += AGAIN_MS
    d.turn()
    assert _sent(d) == ["complete", "success"]
    assert d.store.standings("batch") == {}


def test_what_is_owed_stays_so_though_a_member_lives_again(d: Driver) -> None:
    number = _create(d)
    (member,) = d.add(batch=number)
    d.ask("set_queue", name="back", max_tasks=1, paused=True)
    d.add(queue="back")
    _close(d, number)
    _win(d, *_runs(d))
    d.ask("retry", ids=[member])
    d.reopen()
    d.turn()
    assert (_batch(d, number)["state"], _batch(d, number)["owed"], _sent(d)) == ("running", ["on_complete", "on_success"], [])
    d.ask("set_queue", name="back", max_tasks=10)
    d.now += AGAIN_MS
    d.turn()
    assert (_batch(d, number)["owed"], _sent(d)) == ([], ["complete", "success"])
    _fail(d, *_runs(d))
    assert _sent(d) == ["complete", "success", "failure"]


@pytest.mark.parametrize(
    ("what", "words"),
    [
        ({"on_success": ["nobody", b"", {}]}, "on_success: type: expected one that a worker has named"),
        ({"on_success": ["t"]}, "on_success: expected a task"),
        ({"on_failure": ["t", b"", {"key": "k"}]}, "without key"),
        ({"on_failure": ["t", b"", {"batch": 1}]}, "without batch"),
        ({"on_complete": ["t", b"", {"retries": -1}]}, "on_complete: retries: expected"),
        ({"on_complete": ["t", b"", 7]}, "on_complete: expected a task"),
        ({"on_complete": ["shell", b"", {"extras": {"stdin": "x", "env": {}}}]}, "no standard input"),
        ({"on_complete": ["t", b"", {"meta": {"k": "v" * 5000}}]}, "meta"),
        ({"meta": {"k": 1}}, "meta: expected a map of texts"),
        ({"name": ""}, "name"),
        ({"what": 1}, "expected the arguments"),
    ],
)
def test_what_cannot_be_a_batch_is_refused_and_nothing_is_stored(d: Driver, what: dict[str, Any], words: str) -> None:
    assert words in d.refusal("create_batch", **what)[1]
    assert d.ask("batches") == {"batches": []}


def test_where_there_are_too_many_the_oldest_that_is_over_makes_room(tmp_path: Any) -> None:
    d = Driver("memory", tmp_path / "s", Limits(keep=2))
    open_, over = _create(d), _create(d)
    _close(d, over)
    new = _create(d)
    assert [row["id"] for row in d.ask("batches")["batches"]] == [new, open_]
    code, text = d.refusal("create_batch")
    assert (code, "at most 2 batches" in text) == ("refused", True)


def test_a_callback_says_in_its_header_which_batch_it_is_about_beside_what_it_was_given(d: Driver) -> None:
    number = _create(d, on_success=["t", b"\xa1p", {"extras": {"x": 1}, "priority": 5, "meta": {"k": "v"}}], on_complete=None)
    _close(d, number)
    (task,) = d.grant(5)
    head = header_of(task.header.packed)
    assert (head.extras, head.priority, head.meta) == ({"x": 1, MARK: [number, "success"]}, 5, {"k": "v"})
    assert unpack(task.record[-8:-4][-2:]) == "p"

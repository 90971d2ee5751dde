"""Every store: which tasks wait for which others, and that it is so after whatever ends a turn, a wait or a process."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.tq.store.conftest import Driver
from tq.lifecycle import parents_over, retry
from tq.model import State
from tq.store import Chore, release
from tq.store import children as lmdb_children
from tq.store.files import open_store
from tq.store.keys import HEAD, U64
from tq.store.lmdb import LmdbStore
from tq.store.verify import broken_records

DONE, FAILED, BLOCKED = State.SUCCEEDED, State.FAILED, State.BLOCKED


def tell(store: Driver, child: int, parent: int, state: State = DONE) -> State:
    task = store.apply(parents_over(store.get(child), {parent: state}, store.now))
    assert task is not None
    return task.state


def test_children_are_found_from_their_acceptance_until_they_wait_no_more(store: Driver) -> None:
    first, second, third = store.add(3)
    both, one, other = *store.add(parents=(first, second)), *store.add(parents=(first,)), *store.add(parents=(second,))
    for _ in range(2):
        assert sorted(store.raw.awaited([first, second, third, both, 99])) == [first, second]
        assert store.raw.children(first, 9) == [both, one]
        assert store.raw.children(second, 9) == [both, other]
        assert store.raw.children(first, 1) == [both]
        assert store.raw.children(first, 9, both) == [one]
        assert store.raw.children(third, 9) == []
        assert store.raw.states([first, both, one, 99, 0]) == [State.PENDING, BLOCKED, BLOCKED, None, None]
        store.reopen()
    assert (tell(store, both, first), store.get(both).status.waits) == (BLOCKED, 1)
    assert (store.raw.children(first, 9), store.raw.children(second, 9)) == ([one], [both, other])
    assert tell(store, both, second) is State.PENDING
    assert (store.raw.children(first, 9), store.raw.children(second, 9)) == ([one], [other])
    assert tell(store, one, first) is State.PENDING
    assert sorted(store.raw.awaited([first, second])) == [second]
    assert store.peek() == [first, second, third, both, one]


def test_whatever_ends_a_wait_ends_all_of_it(store: Driver) -> None:
    first, second = store.add(2)
    failed, cancelled, expired, removed = store.enqueue([store.draft(parents=(first, second), ttl=50)] * 4)
    assert tell(store, failed, first, FAILED) is State.CANCELLED
    assert store.get(failed).status.error["type"] == "ParentFailed"
    store.cancel(cancelled)
    store.now += 60
    store.run_out(expired)
    assert store.raw.children(second, 9) == [removed]
    assert store.remove(removed) == [True]
    assert store.raw.children(first, 9) == store.raw.children(second, 9) == []
    assert not store.raw.awaited([first, second])


def test_an_aborted_turn_leaves_who_waits_for_whom_as_it_was(store: Driver) -> None:
    first, second = store.add(2)
    (child,) = store.add(parents=(first,))
    with store.turn() as raw:
        raw.enqueue([store.draft(parents=(second,))])
        task = raw.get([child])[0]
        assert task is not None
        raw.apply([parents_over(task, {first: DONE}, store.now)])
        assert (raw.children(first, 9), raw.children(second, 9)) == ([], [child + 1])
        raise store.lost
    assert (store.raw.children(first, 9), store.raw.children(second, 9)) == ([child], [])
    assert list(store.raw.awaited([first, second])) == [first]
    assert store.state(child) is BLOCKED


def test_a_child_that_hears_twice_or_too_late_stays_as_it_is(store: Driver) -> None:
    first, second = store.add(2)
    (child,) = store.add(parents=(first, second))
    change = parents_over(store.get(child), {first: FAILED}, store.now)
    assert store.apply(change).state is State.CANCELLED
    assert store.apply(change) is None
    assert store.state(child) is State.CANCELLED


def test_a_change_is_what_is_said_of_each_task_as_it_stands(store: Driver) -> None:
    first, second, third = store.add(3)
    both, one, other = *store.add(parents=(first, second, third)), *store.add(parents=(first,)), *store.add(due_in=50)
    with store.turn() as raw:
        changes = raw.change(
            [both, other, 99, one], lambda task: parents_over(task, {first: DONE}, store.now) if task.status.waits else None
        )
        assert [(change.id, task.state) for change, task in changes if task] == [(both, BLOCKED), (one, State.PENDING)]
    assert tell(store, both, 2) is BLOCKED
    with store.turn() as raw:
        ((_, task),) = raw.change([both], lambda task: parents_over(task, {second: DONE, third: FAILED}, store.now))
        assert task is not None
        assert task.status.error["message"].startswith(f"expected task {third} to succeed")
    assert not store.raw.awaited([first, second, third])


def family(store: Driver) -> tuple[list[int], dict[str, int]]:
    """Three parents, and children of every sort."""
    parents = store.add(3)
    first, second, third = parents
    kids = {
        "ready": store.add(parents=(first,)),
        "waits": store.add(parents=(first, third)),
        "later": store.add(parents=(first,), due_in=70),
        "loose": store.add(parents=(first, second), parents_any=(second,)),
        "strict": store.add(parents=(second,), strict=True),
        "lost": store.add(parents=(first, second)),
        "wanted": store.add(parents=(second,), parents_failed=(second,)),
        "of a tenant": store.add(parents=(first, second), parents_any=(second,), tenant="acme", flow="k", priority=5),
    }
    found = {name: ids[0] for name, ids in kids.items()}
    return parents, found


def test_what_children_hear_in_a_batch_is_what_each_would_hear_alone(tmp_path: Path, store: Driver) -> None:
    (first, second, third), kids = family(store)
    alone = Driver("memory", tmp_path / "alone")
    assert family(alone) == ([first, second, third], kids)
    ends = {
        child: {parent: FAILED if parent == second else DONE for parent in store.get(child).spec.header.parents} for child in kids.values()
    }
    ends[kids["waits"]] = {first: DONE}
    with store.turn() as raw:
        done = raw.let_go({**ends, third: {first: DONE}, 99: {first: DONE}})
        rest = raw.change(done.rest, lambda task: parents_over(task, ends[task.id], store.now) if task.state is BLOCKED else None)
    assert done.unblocked == [kids[name] for name in ("ready", "later", "loose", "wanted", "of a tenant")]
    assert done.waiting == [kids["waits"]]
    assert [change.id for change, _ in rest] == [kids["strict"], kids["lost"]]
    for child in (*done.unblocked, *done.waiting, kids["strict"], kids["lost"]):
        alone.apply(parents_over(alone.get(child), ends[child], alone.now))
    assert [store.get(child).status for child in kids.values()] == [alone.get(child).status for child in kids.values()]
    assert (store.raw.children(first, 9), store.raw.children(second, 9), store.raw.children(third, 9)) == ([], [], [kids["waits"]])
    assert list(store.raw.awaited([first, second, third])) == [third]
    store.reopen()
    assert store.peek() == alone.peek()
    store.now = alone.now = store.now + 70
    assert store.promote() == alone.promote() == [kids["later"]]


def test_a_child_that_was_retried_hears_in_a_batch_and_keeps_its_past(store: Driver) -> None:
    (parent,) = store.add()
    (child,) = store.add(priority=5)
    store.settle(store.take(child), "failed", permanent=True, error={"type": "E", "message": "m"})
    task = store.get(child)
    change = retry(task, store.now, waits=(parent,))
    assert change is not None
    store.apply(change)
    assert store.get(child).status.attempts
    with store.turn() as raw:
        assert raw.let_go({child: {parent: DONE}}) == ([child], [], [])
    status = store.get(child).status
    assert (status.state, status.waits, [one.error["type"] for one in status.attempts]) == (State.PENDING, 0, ["E"])


def test_an_edit_of_a_blocked_task_leaves_it_waiting(store: Driver) -> None:
    (parent,) = store.add()
    (child,) = store.add(parents=(parent,))
    assert store.edit(child, due_in=70, queue="q").status.waits == 1
    assert store.raw.children(parent, 9) == [child]
    assert tell(store, child, parent) is State.SCHEDULED
    store.now += 70
    assert store.promote() == [child]


def test_states_are_those_that_a_whole_read_finds(store: Driver) -> None:
    pending, scheduled, runs, done, failed = *store.add(), *store.add(due_in=50), *store.add(3, priority=5)
    for task in store.claim(3):
        if task.id == done:
            store.succeed(task, result=b"\x01")
        elif task.id == failed:
            store.settle(task, "failed", error={"type": "E", "message": "m" * 300}, permanent=True)
    ids = [pending, scheduled, runs, done, failed]
    assert store.raw.states(ids) == [store.state(one) for one in ids] == [State.PENDING, State.SCHEDULED, State.RUNNING, DONE, FAILED]


# -- LMDB ----------------------------------------------------------------------------------------------------------


def test_where_parents_are_too_many_to_be_remembered_each_is_looked_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lmdb_children, "PARENTS_KEPT", 2)
    store = Driver("lmdb", tmp_path / "store")
    parents = store.add(4)
    kids = [store.add(parents=(parent,))[0] for parent in parents]
    for _ in range(2):
        assert list(store.raw.awaited([*parents, *kids])) == parents
        store.reopen()
    assert tell(store, kids[0], parents[0]) is State.PENDING
    assert list(store.raw.awaited(parents)) == parents[1:]
    store.raw.close()
    assert broken_records(tmp_path / "store") == []


def test_a_parent_that_a_claim_sets_aside_leaves_word_for_its_children(tmp_path: Path) -> None:
    driver = Driver("lmdb", tmp_path / "store")
    (parent,) = driver.add()
    driver.add(parents=(parent,))
    driver.raw.close()
    env, dbs = open_store(tmp_path / "store")
    with env.begin(write=True) as txn:
        record = bytearray(txn.get(U64.pack(parent), db=dbs["tasks"]))
        record[HEAD.size] ^= 1
        txn.put(U64.pack(parent), bytes(record), db=dbs["tasks"])
    env.close()
    driver.raw = LmdbStore(tmp_path / "store")
    assert driver.claim() == []
    (chore,) = driver.raw.chores()
    assert chore == Chore(1, "release", release(parent, FAILED, parent + 2).args)
    driver.raw.close()


def test_a_store_of_before_tasks_waited_is_taken_over(tmp_path: Path) -> None:
    driver = Driver("lmdb", tmp_path / "store")
    (task,) = driver.add()
    driver.raw.close()
    env, dbs = open_store(tmp_path / "store")
    with env.begin(write=True) as txn:
        txn.drop(dbs["children"])
        txn.put(b"format", b"2", db=dbs["meta"])
    env.close()
    assert broken_records(tmp_path / "store") == []
    driver.raw = LmdbStore(tmp_path / "store")
    (child,) = driver.add(parents=(task,))
    assert driver.raw.children(task, 9) == [child]
    driver.raw.close()

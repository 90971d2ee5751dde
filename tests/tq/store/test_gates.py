"""Limits in the LMDB store: closed lanes are not looked at, and flow keys that come and go leave nothing behind."""

from __future__ import annotations

from pathlib import Path

from tq.model import Header
from tq.store import Draft, Limit, Success, Want
from tq.store.gates import Gates
from tq.store.lmdb import EMPTY_LANES_KEPT, LmdbStore
from tq.store.verify import verify

ANY = float("inf")


def work(store: LmdbStore, now: int, keys: range, each: int = 1) -> list[tuple[int, int]]:
    """A turn that accepts some tasks for each of these flow keys and claims what it may: (id, claim)."""
    store.begin(now)
    store.enqueue([Draft(Header("t", flow=f"k{key}"), b"") for key in keys for _ in range(each)])
    got = [(one.id, one.claim) for one in store.claim(Want("w", len(keys) * each, ANY))]
    store.commit()
    return got


def test_lanes_that_may_not_go_stand_in_no_heap(tmp_path: Path) -> None:
    store = LmdbStore(tmp_path / "store")
    store.begin(1)
    store.put_limit(Limit("one", "flow", running=1))
    store.commit()
    got = work(store, 2, range(2000), each=2)
    assert len(got) == 2000
    store.begin(3)
    assert store.claim(Want("w", 1, ANY)) == []
    assert [stand for share in store._lanes.line("default").shares.values() for _, _, stand in share.stands() if stand.levels] == []
    store.succeed([Success(*got[7], 2, 3, False, None)])
    assert [one.header.flow for one in store.claim(Want("w", 9, ANY))] == ["k7"]
    store.commit()
    store.close()


def test_keys_that_come_and_go_leave_no_gates_and_no_tokens_behind(tmp_path: Path) -> None:
    store = LmdbStore(tmp_path / "store")
    store.begin(1)
    store.put_limit(Limit("slow", "flow", rate=1, running=1))
    store.commit()
    for batch in range(20):
        now = 2 + batch * 5000
        got = work(store, now, range(batch * 500, batch * 500 + 500))
        assert len(got) == 500
        store.begin(now + 1)
        assert all(store.succeed([Success(*one, now, now + 1, False, None) for one in got]))
        store.commit()
    with store._view() as txn:
        tokens = txn.stat(store._db["tokens"])["entries"]
    assert len(store._lanes.gates) <= 2 * (EMPTY_LANES_KEPT + 500) + 1024
    assert tokens <= len(store._lanes.gates)
    store.close()
    assert list(verify(tmp_path)) == []


def test_a_gate_that_looks_again_and_again_is_timed_once() -> None:
    gates = Gates()
    gates.limits = {"slow": Limit("slow", "flow", rate=1)}
    gates.begin(1)
    mine = gates.of(("q", "t", None, "k", ()))
    gates.waits(mine)
    gates.began(mine, 1)
    for _ in range(100):
        gates.look(mine)
    assert (gates.next(), len(gates._opening), len(gates._waking)) == (1001, 1, 1)
    assert gates.begin(1001) == list(mine)
    assert gates.next() is None

"""The accounts of the LMDB store: bounded, counted anew for a store of before, and found out when they are wrong."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.tq.store.conftest import Driver
from tq.model import State
from tq.store import Tenant, accounts
from tq.store.accounts import COUNTED_SINCE
from tq.store.files import backup, open_store
from tq.store.keys import opened, sealed, tenant_key
from tq.store.restoring import restore
from tq.store.verify import verify


@contextmanager
def changing(data_dir: Path) -> Iterator[tuple[Any, Any]]:
    """The store's file, to damage it."""
    env, dbs = open_store(data_dir / "store")
    with env.begin(write=True) as txn:
        yield txn, dbs
    env.close()


@pytest.fixture
def store(tmp_path: Path):
    made = Driver("lmdb", tmp_path / "store")
    yield made
    made.raw.close()


def test_a_store_of_before_is_counted_when_it_is_first_opened(store: Driver, tmp_path: Path) -> None:
    store.add(2, tenant="a", payload=b"123")
    store.add(tenant="a", due_in=10)
    store.add(tenant="b")
    store.add()
    store.succeed(store.claim(1)[0])
    store.claim(1)
    told = [(one.tenant, one.states, one.bytes) for one in store.raw.accounts("", 9)]
    store.raw.close()
    with changing(tmp_path) as (txn, dbs):
        txn.drop(dbs["accounts"])
        txn.drop(dbs["tenants"])
        txn.delete(COUNTED_SINCE, db=dbs["meta"])
        txn.put(b"format", b"5", db=dbs["meta"])
    assert verify(tmp_path) == []
    store.reopen()
    assert [(one.tenant, one.states, one.bytes) for one in store.raw.accounts("", 9)] == told
    store.raw.close()
    assert verify(tmp_path) == []
    store.reopen()


def test_an_account_that_is_wrong_is_found(store: Driver, tmp_path: Path) -> None:
    store.add(2, tenant="a", payload=b"123")
    store.raw.close()
    with changing(tmp_path) as (txn, dbs):
        row = opened(txn.get(tenant_key("a"), db=dbs["accounts"]), "an account")
        row[1][State.PENDING] += 1
        txn.put(tenant_key("a"), sealed(row), db=dbs["accounts"])
        txn.put(tenant_key("b"), sealed(row), db=dbs["accounts"])
        txn.put(tenant_key("c"), b"no record", db=dbs["accounts"])
    problems = verify(tmp_path)
    assert "tenant 'a': its account says 3 pending and 6 bytes, a recount 2 pending and 6 bytes." in problems
    assert any("expected that of this tenant, got that of 'a'" in problem for problem in problems)
    assert len(problems) == 3
    with changing(tmp_path) as (txn, dbs):
        txn.delete(tenant_key("b"), db=dbs["accounts"])
        txn.delete(tenant_key("c"), db=dbs["accounts"])
        row[1][State.PENDING] -= 1
        txn.put(tenant_key("a"), sealed(row), db=dbs["accounts"])
    assert verify(tmp_path) == []
    store.reopen()


def test_tenants_that_are_gone_are_forgotten_and_stay_in_the_total(store: Driver, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(accounts, "IDLE_KEPT", 2)
    store.reopen()
    store.put_tenant("t0", weight=2)
    for at in range(20):
        store.add(tenant=f"t{at}")
        if at != 1:
            store.succeed(store.claim(9)[-1])
    names = [one.tenant for one in store.raw.accounts("", 99)]
    assert len(names) < 12
    assert {"t0", "t1", "t19"} <= set(names)
    for _ in range(2):
        total = store.raw.account(None)
        assert total is not None
        assert sum(total.states) == 20
        assert [one.tenant for one in store.raw.accounts("", 99)] == names
        store.reopen()
    assert store.raw.tenants() == {"t0": Tenant("t0", 2)}


def test_a_backup_has_the_tenants_and_their_counts(store: Driver, tmp_path: Path) -> None:
    store.put_tenant("a", weight=2, running=1, per_day=5)
    store.add(3, tenant="a", payload=b"123")
    store.succeed(store.claim(1)[0], ran=7)
    store.claim(1)
    told = store.raw.accounts("", 9)
    store.raw.close()
    backup(tmp_path, tmp_path / "copy")
    (tmp_path / "fresh").mkdir()
    restore(tmp_path / "copy", tmp_path / "fresh", "now")
    assert verify(tmp_path / "fresh") == []
    restored = Driver("lmdb", tmp_path / "fresh" / "store")
    assert restored.raw.tenants() == {"a": Tenant("a", 2, running=1, per_day=5)}
    assert restored.raw.accounts("", 9) == told
    assert restored.claim(1) == []
    restored.raw.close()
    store.reopen()

"""Tenants: what was set for each is kept through a restart, and undone by an abort."""

from __future__ import annotations

from tq.store import Tenant


def test_what_was_set_for_a_tenant_is_there_after_a_restart_and_gone_when_it_is_dropped(store):
    store.put_tenant("acme", weight=3, queued=10, running=2, per_day=100, bytes=1 << 20)
    store.put_tenant("gone", weight=9)
    store.put_tenant("küche\n", running=1)
    store.drop_tenant("gone")
    store.drop_tenant("never")
    store.put_tenant("acme", weight=4, queued=10)
    for _ in range(2):
        assert store.raw.tenants() == {"acme": Tenant("acme", 4, 10), "küche\n": Tenant("küche\n", running=1)}
        store.reopen()
    store.check()


def test_what_was_set_in_a_turn_that_is_lost_was_never_there(store):
    store.put_tenant("acme", weight=2)
    store.raw.begin(store.now)
    store.raw.put_tenant(Tenant("acme", weight=7))
    store.raw.put_tenant(Tenant("other"))
    store.raw.abort()
    assert store.raw.tenants() == {"acme": Tenant("acme", weight=2)}
    store.reopen()
    assert store.raw.tenants() == {"acme": Tenant("acme", weight=2)}

"""Tenants: what was set for each is kept, what there is of each is counted, and what passes a quota is refused."""

from __future__ import annotations

import pytest

from tq.model import State
from tq.store import Limits, QuotaReached, RequestId, Success, Tenant, Want
from tq.store.tenants import DAY_MS


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


def live(store, name: str | None = "a") -> dict[str, int]:
    """Where a tenant's tasks stand; of what is over how many ended so."""
    account = store.raw.account(name)
    return {} if account is None else {State(at).word: count for at, count in enumerate(account.states) if count}


def test_an_account_follows_its_tasks_through_every_state_and_a_restart(store):
    store.add(3, payload=b"12345", tenant="a")
    store.add(tenant="a", due_in=50)
    first, second, third = store.claim(3)
    store.add(tenant="b")
    store.add(tenant=None)
    assert live(store) == {"scheduled": 1, "running": 3}
    store.succeed(first, ran=40)
    store.settle(second, "failed", error={"type": "E", "message": "m"}, started_at=store.now - 20, finished_at=store.now)
    store.settle(third, "released")
    for _ in range(2):
        found = store.raw.account("a")
        assert live(store) == {"scheduled": 1, "pending": 1, "failed": 1, "succeeded": 1}
        assert (found.bytes, found.runs, found.run_ms, found.live, found.waiting) == (5, 2, 60, 2, 2)
        assert live(store, None) == {"scheduled": 1, "pending": 2, "failed": 1, "succeeded": 1}
        assert [one.tenant for one in store.raw.accounts("", 9)] == ["a", "b"]
        assert [one.tenant for one in store.raw.accounts("a", 9)] == ["b"]
        assert [one.tenant for one in store.raw.accounts("", 1)] == ["a"]
        assert store.raw.account("nobody") is None
        store.reopen()
    store.check()


def test_what_runs_when_the_store_is_opened_again_runs_in_the_account(store):
    store.add(2, tenant="a")
    store.claim(1)
    store.reopen()
    assert live(store) == {"pending": 1, "running": 1}
    assert live(store, None) == {"pending": 1, "running": 1}
    store.check()


def test_what_is_removed_goes_and_what_has_ended_stays_counted(store):
    ids = store.add(3, tenant="a", payload=b"x")
    store.cancel(ids[0])
    store.remove(ids[0], ids[1])
    assert live(store) == {"pending": 1, "cancelled": 1}
    assert store.raw.account("a").bytes == 1
    store.retain(Limits(keep=0))
    assert live(store) == {"pending": 1, "cancelled": 1}


def test_what_is_retried_by_hand_lives_again_and_its_end_stays_counted(store):
    (task_id,) = store.add(tenant="a", payload=b"xyz")
    store.cancel(task_id)
    assert store.raw.account("a").bytes == 0
    store.retry(task_id, payload=b"12345")
    assert live(store) == {"pending": 1, "cancelled": 1}
    assert store.raw.account("a").bytes == 5
    store.edit(task_id, payload=b"1", due_in=10)
    assert live(store) == {"scheduled": 1, "cancelled": 1}
    assert store.raw.account("a").bytes == 1
    store.check()


def test_an_account_of_a_turn_that_is_lost_is_as_it_was(store):
    store.add(2, tenant="a")
    with store.turn() as raw:
        raw.enqueue([store.draft(tenant="a"), store.draft(tenant="b")])
        raw.claim(Want("w", 1))
        raise store.lost
    assert live(store) == live(store, None) == {"pending": 2}
    assert store.raw.account("b") is None
    store.check()


def refused(store, *drafts, **details):
    """The refusal of these drafts; nothing has changed by it."""
    before, accounts = store.everything(), store.raw.accounts("", 9)
    with pytest.raises(QuotaReached) as found, store.turn() as raw:
        raw.enqueue(drafts)
    assert store.everything() == before
    assert store.raw.accounts("", 9) == accounts
    assert details.items() <= found.value.details.items()
    return found.value


def test_more_than_a_tenant_may_have_waiting_is_refused_whole_and_later_let_in(store):
    store.put_tenant("a", queued=3)
    store.add(2, tenant="a")
    store.add(9, tenant="b")
    error = refused(store, store.draft(), store.draft(tenant="a"), store.draft(tenant="a", kind="u"), tenant="a", quota="queued", have=2)
    assert error.message.startswith("tenant 'a' has reached its quota: expected at most 3 tasks that wait, it has 2 and 2 came. Nothing")
    assert (error.retry_after, error.exit_code) == (1.0, 75)
    store.add(tenant="a", due_in=50)
    refused(store, store.draft(tenant="a"))
    store.claim(1)  # what runs does not wait
    store.add(tenant="a")
    assert refused(store, *[store.draft(tenant="a")] * 4, too_much=True)
    store.drop_tenant("a")
    store.add(5, tenant="a")


def test_a_quota_of_bytes_counts_payloads_of_what_is_not_over(store):
    store.put_tenant("a", bytes=10)
    ids = store.add(2, tenant="a", payload=b"12345")
    assert refused(store, store.draft(tenant="a", payload=b"1"), quota="bytes", most=10, have=10)
    store.add(tenant="a")
    assert refused(store, store.draft(tenant="a", payload=b"1" * 11), too_much=True)
    store.take(ids[0])
    refused(store, store.draft(tenant="a", payload=b"1"))
    store.cancel(ids[1])
    store.add(tenant="a", payload=b"12345")


def test_a_quota_of_a_day_begins_anew_at_midnight_in_utc_and_lasts_through_a_restart(store):
    store.now = 5 * DAY_MS - 2000
    store.put_tenant("a", per_day=3)
    ids = store.add(2, tenant="a")
    store.remove(*ids)
    store.reopen()
    error = refused(store, *[store.draft(tenant="a")] * 2, quota="per_day", have=2)
    assert error.retry_after == 2.0
    store.add(tenant="a")
    store.now -= 5000  # no clock that is put back gives a day anew
    refused(store, store.draft(tenant="a"))
    store.now = 5 * DAY_MS
    store.add(3, tenant="a")
    refused(store, store.draft(tenant="a"), have=3)
    assert store.raw.account("a").accepted == 3


def test_retries_releases_and_what_a_person_brings_back_pass_every_quota(store):
    store.put_tenant("a", queued=1, bytes=1, per_day=2)
    (one,) = store.add(tenant="a", payload=b"1", retries=3)
    claimed = store.take(one)
    (two,) = store.add(tenant="a")
    store.settle(claimed, "failed", error={"type": "E", "message": "m"}, delay_ms=10)
    assert live(store) == {"pending": 1, "retrying": 1}
    store.cancel(two)
    store.retry(two, payload=b"12345")
    store.now += 10
    assert store.promote() == [one]
    assert live(store) == {"pending": 2, "cancelled": 1}
    store.check()


def test_the_same_request_sent_again_counts_once(store):
    store.put_tenant("a", per_day=1)
    ids = store.add(tenant="a", request=RequestId(b"nonce___", 1))
    assert store.add(tenant="a", request=RequestId(b"nonce___", 1, again=True)) == ids
    assert store.raw.account("a").accepted == 1


def test_no_more_of_a_tenant_run_than_its_quota_says_and_others_go_past(store):
    store.put_tenant("a", running=2)
    mine = store.add(3, tenant="a", queue="q") + store.add(tenant="a", queue="r")
    others = store.add(2, tenant="b") + store.add()
    taken = store.claim(9)
    assert sorted(one.id for one in taken) == sorted([mine[0], mine[3], *others])
    assert store.raw.limits() == {}
    assert store.raw.is_limited()
    (rule, used), *none = store.raw.reached(store.get(mine[1]).spec.header)
    assert (rule.is_quota, rule.of, rule.running, used.running, none) == (True, "a", 2, 2, [])
    assert store.raw.reached(store.get(others[0]).spec.header) == []
    store.reopen()
    assert store.claim(9) == []
    with store.turn() as raw:
        raw.succeed([Success(taken[0].id, taken[0].claim, store.now, store.now, False, None)])
        raise store.lost
    assert store.claim(9) == []
    store.succeed(*[one for one in taken if one.id == mine[0]])
    assert len(store.claim(9)) == 1
    store.put_tenant("a", running=3)
    assert len(store.claim(9)) == 1
    assert live(store) == {"running": 3, "succeeded": 1}
    store.check()


def test_a_quota_of_what_runs_that_is_taken_away_lets_all_go(store):
    store.put_tenant("a", running=1)
    store.add(4, tenant="a")
    assert len(store.claim(9)) == 1
    assert not store.raw.ready()
    store.put_tenant("a", weight=2)
    assert len(store.claim(1)) == 1
    store.put_tenant("a", running=1)
    store.drop_tenant("a")
    assert len(store.claim(9)) == 2
    assert not store.raw.is_limited()

"""What every store promises: idempotency keys, unique names, and requests some of whose tasks exist already."""

from __future__ import annotations

import pytest

from tq.errors import UsageError
from tq.model import State
from tq.store import Holder, KeyRef, Limits, Loan, RequestId

NONCE = b"\x00\xff nonce"
KEEP_MS = 10_000
HOSTILE = [" ", "a\x00b", "\x1b[2J", "Ünï\u202e", "🐘" * 50, "x" * 200]


@pytest.fixture
def store(store):
    store.reopen(Limits(keep_keys_ms=KEEP_MS))
    return store


def ended(store, task_id, how):
    """Bring a pending task to an end of this kind."""
    if how == "cancelled":
        store.cancel(task_id)
    elif how == "expired":
        store.run_out(task_id)
    elif how == "succeeded":
        store.succeed(store.take(task_id))
    elif how == "succeeded again":
        store.settle(store.take(task_id), "crashed")
        store.succeed(store.take(task_id))
    else:
        store.settle(store.take(task_id), "failed", permanent=True)


ENDS = ["cancelled", "expired", "succeeded", "succeeded again", "failed"]


# -- who holds a name --------------------------------------------------------------------------------------------


def test_a_name_leads_to_its_task_and_the_digest_of_its_request(store):
    (task_id,) = store.add(key="k", unique="u", digest=b"\x00digest")
    for _ in range(2):
        names = [KeyRef("key", "t", "k"), KeyRef("unique", "t", "u"), KeyRef("unique", "t", "k"), KeyRef("key", "other", "k")]
        assert store.raw.holders(names) == [Holder(task_id, b"\x00digest")] * 2 + [None] * 2
        store.reopen(Limits(keep_keys_ms=KEEP_MS))
    assert store.raw.holders([]) == []


def test_a_name_is_looked_up_in_the_turn_that_takes_it(store):
    with store.turn() as raw:
        (task_id,) = raw.enqueue([store.draft(key="k")])
        assert raw.holders([KeyRef("key", "t", "k")]) == [Holder(task_id, b"")]
        raise store.lost
    assert store.holder("k", "key") is None


def test_names_of_two_types_or_kinds_are_two_names(store):
    ids = store.enqueue([store.draft(kind, **{name: "x"}) for kind in "ab" for name in ("key", "unique")])
    assert [store.holder("x", name, kind) for kind in "ab" for name in ("key", "unique")] == ids


@pytest.mark.parametrize("name", HOSTILE)
def test_a_name_from_anywhere_is_only_data(store, name):
    (task_id,) = store.add(kind=name, key=name, unique=name)
    assert store.holder(name, "key", name) == store.holder(name, "unique", name) == task_id
    store.succeed(store.take(task_id))
    assert store.holder(name, "unique", name) is None
    store.now += KEEP_MS
    store.due()
    assert store.holder(name, "key", name) is None


@pytest.mark.parametrize("name", ["", "x" * 201, "🐘" * 51])
def test_a_name_that_no_store_takes_changes_nothing(store, name):
    assert store.holder(name) is None
    before = store.everything()
    with store.turn() as raw, pytest.raises(UsageError):
        raw.enqueue([store.draft(), store.draft(unique=name)])
    assert store.everything() == before


def test_a_name_that_is_taken_is_refused_and_nothing_has_changed(store):
    (task_id,) = store.add(unique="u")
    before = store.everything()
    with store.turn() as raw, pytest.raises(UsageError, match="free"):
        raw.enqueue([store.draft(), store.draft(unique="u")])
    with store.turn() as raw, pytest.raises(UsageError, match="free"):
        raw.enqueue([store.draft(unique="twice")] * 2)
    with store.turn() as raw, pytest.raises(UsageError, match="free"):
        raw.enqueue([store.draft(unique="twice"), store.draft(unique="twice")])
    assert store.everything() == before
    assert store.holder("u") == task_id
    assert store.holder("twice") is None


# -- the end of a name -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ENDS)
def test_a_unique_name_is_free_in_the_transaction_of_the_end(store, how):
    (task_id,) = store.add(unique="u")
    ended(store, task_id, how)
    assert store.holder("u") is None
    (other,) = store.add(unique="u")
    assert store.holder("u") == other


def test_a_unique_name_is_taken_anew_in_the_turn_that_freed_it(store):
    (task_id,) = store.add(unique="u")
    claimed = store.take(task_id)
    with store.turn() as raw:
        assert raw.succeed([(task_id, claimed.claim, 1, 2, False, None)]) == [True]
        (other,) = raw.enqueue([store.draft(unique="u")])
        assert raw.holders([KeyRef("unique", "t", "u")]) == [Holder(other, b"")]


@pytest.mark.parametrize("how", ["released", "crashed", "failed", "snoozed"])
def test_a_task_that_will_run_again_keeps_its_names(store, how):
    (task_id,) = store.add(unique="u", key="k", retries=3)
    store.settle(store.take(task_id), how)
    store.now += 10 * KEEP_MS
    store.due()
    assert store.holder("u") == store.holder("k", "key") == task_id


@pytest.mark.parametrize("how", ENDS)
@pytest.mark.parametrize("gone", [False, True])
def test_a_key_is_kept_for_its_time_after_the_end_even_if_the_task_is_not(store, how, gone):
    (task_id,) = store.add(key="k", digest=b"d")
    store.now += 5000
    ended(store, task_id, how)
    if gone:
        assert store.remove(task_id) == [True]
    store.reopen(Limits(keep_keys_ms=KEEP_MS))
    store.now += KEEP_MS - 1
    assert store.due() == []
    assert store.raw.holders([KeyRef("key", "t", "k")]) == [Holder(task_id, b"d")]
    assert store.raw.next_due() == store.now + 1
    store.now += 1
    assert store.due() == []
    assert store.holder("k", "key") is None
    assert store.raw.next_due() is None
    assert store.add(key="k") == [task_id + 1]


def test_a_key_outlives_retention(store):
    (task_id,) = store.add(key="k")
    store.succeed(store.take(task_id))
    assert store.retain(Limits(keep=0)) == [(task_id, False)]
    assert store.holder("k", "key") == task_id


def test_a_key_that_is_kept_for_no_time_is_free_at_the_next_look(store):
    store.reopen(Limits(keep_keys_ms=0))
    (task_id,) = store.add(key="k")
    store.succeed(store.take(task_id))
    assert store.holder("k", "key") == task_id
    assert store.due() == []
    assert store.holder("k", "key") is None


def test_an_aborted_end_frees_no_name(store):
    (task_id,) = store.add(unique="u", key="k")
    claimed = store.take(task_id)
    with store.turn() as raw:
        raw.succeed([(task_id, claimed.claim, 1, 2, False, None)])
        raise store.lost
    assert store.holder("u") == store.holder("k", "key") == task_id
    assert store.raw.next_due() is None


# -- coming back to life -----------------------------------------------------------------------------------------


def test_the_key_of_a_retried_task_lives_on(store):
    (task_id,) = store.add(key="k", digest=b"d")
    ended(store, task_id, "failed")
    store.now += KEEP_MS - 1
    store.retry(task_id)
    store.now += 3 * KEEP_MS
    assert store.due() == []
    assert store.raw.holders([KeyRef("key", "t", "k")]) == [Holder(task_id, b"d")]
    ended(store, task_id, "succeeded")
    store.now += KEEP_MS - 1
    assert store.due() == []
    assert store.holder("k", "key") == task_id
    store.now += 1
    store.due()
    assert store.holder("k", "key") is None


def test_a_first_end_s_timer_does_not_free_the_key_of_a_second_life(store):
    (task_id,) = store.add(key="k")
    ended(store, task_id, "failed")
    store.now += KEEP_MS // 2
    store.retry(task_id)
    ended(store, task_id, "failed")
    store.now += KEEP_MS // 2
    store.due()
    assert store.holder("k", "key") == task_id
    store.now += KEEP_MS // 2
    store.due()
    assert store.holder("k", "key") is None


def test_a_retried_task_takes_its_unique_name_again(store):
    (task_id,) = store.add(unique="u")
    ended(store, task_id, "failed")
    assert store.retry(task_id).state is State.PENDING
    assert store.holder("u") == task_id


def test_a_task_does_not_come_back_while_another_has_its_unique_name(store):
    (task_id,) = store.add(unique="u")
    ended(store, task_id, "failed")
    (other,) = store.add(unique="u")
    before = store.everything()
    assert store.retry(task_id) is None
    assert store.retry(task_id, priority=9) is None
    assert store.everything() == before
    store.cancel(other)
    assert store.retry(task_id).state is State.PENDING


def test_a_retried_task_whose_key_has_run_out_leaves_it_to_others(store):
    (task_id,) = store.add(key="k")
    ended(store, task_id, "failed")
    store.now += KEEP_MS
    store.due()
    (other,) = store.add(key="k")
    assert store.retry(task_id).state is State.PENDING
    assert store.holder("k", "key") == other
    store.cancel(task_id)
    assert store.holder("k", "key") == other


# -- edits -------------------------------------------------------------------------------------------------------


def test_names_follow_a_task_to_another_type(store):
    (task_id,) = store.add(unique="u", key="k", digest=b"d")
    assert store.edit(task_id, type="other").spec.header.type == "other"
    assert store.holder("u") is store.holder("k", "key") is None
    names = [KeyRef("unique", "other", "u"), KeyRef("key", "other", "k")]
    assert store.raw.holders(names) == [Holder(task_id, b"d")] * 2
    store.cancel(task_id)
    assert store.holder("u", "unique", "other") is None


@pytest.mark.parametrize("kind", ["key", "unique"])
def test_a_task_cannot_move_to_where_its_name_is_taken(store, kind):
    (task_id,) = store.add(**{kind: "x"})
    (other,) = store.add(kind="other", **{kind: "x"})
    before = store.everything()
    assert store.edit(task_id, type="other") is None
    assert store.everything() == before
    assert (store.holder("x", kind), store.holder("x", kind, "other")) == (task_id, other)


def test_an_edit_that_concerns_no_name_leaves_them_alone(store):
    (task_id,) = store.add(unique="u", key="k", digest=b"d")
    store.edit(task_id, priority=9, queue="q", payload=b"new")
    assert store.raw.holders([KeyRef("unique", "t", "u"), KeyRef("key", "t", "k")]) == [Holder(task_id, b"d")] * 2


# -- requests ----------------------------------------------------------------------------------------------------


def test_a_request_tells_what_it_got_when_it_was_sent_before(store):
    request = RequestId(NONCE, 3)
    assert store.sent(request) is None
    ids = store.add(3, request=request)
    for _ in range(2):
        assert store.sent(request) == ids
        assert store.sent(RequestId(NONCE, 4)) is None
        store.reopen(Limits(keep_keys_ms=KEEP_MS))


def test_the_ids_of_tasks_that_exist_already_are_given_in_their_places(store):
    old = store.add(3)
    drafts = [store.draft(unique="a"), store.draft(unique="b")]
    request = RequestId(NONCE, 5)
    expected = [4, old[2], 5, 4, old[0], 5]
    assert store.enqueue(drafts, request, [0, old[2], 0, -1, old[0], -2]) == expected
    store.reopen(Limits(keep_keys_ms=KEEP_MS))
    assert store.sent(request) == expected
    assert store.enqueue(drafts, RequestId(NONCE, 5, again=True)) == expected
    assert store.raw.last_id() == 5


def test_a_request_all_of_whose_tasks_exist_stores_none(store):
    old = store.add(2)
    request = RequestId(NONCE, 5)
    assert store.enqueue([], request, [old[1], old[0]]) == [old[1], old[0]]
    assert store.sent(request) == [old[1], old[0]]
    assert store.enqueue([], RequestId(NONCE, 6), []) == []
    assert store.sent(RequestId(NONCE, 6)) == []
    assert store.raw.last_id() == 2


def test_a_lent_name_is_held_until_its_instant_whatever_becomes_of_the_task(store):
    task, other = store.add(2)
    name = KeyRef("pace", "t", "k")
    with store.turn() as raw:
        raw.hold_names([Loan(name, task, b"digest", store.now + 1000)])
    store.cancel(task)
    store.remove(task)
    store.reopen()
    assert store.raw.holders([name]) == [Holder(task, b"digest")]
    with store.turn() as raw:  # whoever held it
        raw.hold_names([Loan(name, other, b"", store.now + 1500)])
    store.now += 1000
    store.due()
    assert store.raw.holders([name]) == [Holder(other, b"")]
    store.now += 500
    store.due()
    assert store.raw.holders([name]) == [None]


def test_names_of_one_task_that_would_be_free_at_one_instant_are_all_free_a_moment_later(store):
    """A timer has room for one of them: the others have the instants after it."""
    (task,) = store.add(key="k")
    lent = [KeyRef("pace", "t", name) for name in "xy"]
    with store.turn() as raw:
        raw.hold_names([Loan(name, task, b"", store.now + KEEP_MS) for name in lent])
    store.succeed(store.take(task))
    names = [*lent, KeyRef("key", "t", "k")]
    store.now += KEEP_MS - 1
    store.due()
    assert None not in store.raw.holders(names)
    store.now += 3
    store.due()
    assert store.raw.holders(names) == [None, None, None]


def test_a_lost_turn_lends_nothing(store):
    (task,) = store.add()
    before = store.everything()
    with store.turn() as raw:
        raw.hold_names([Loan(KeyRef("pace", "t", "k"), task, b"", store.now + 1000)])
        raise store.lost
    assert store.everything() == before
    assert store.raw.holders([KeyRef("pace", "t", "k")]) == [None]


def test_a_name_that_no_store_takes_is_not_lent(store):
    (task,) = store.add()
    with store.turn() as raw, pytest.raises(UsageError, match="expected a name"):
        raw.hold_names([Loan(KeyRef("pace", "t", name), task, b"", store.now + 1000) for name in ("k", "")])
    assert store.raw.holders([KeyRef("pace", "t", "k")]) == [None]

"""Waiting: each is given out once, a connection that is gone leaves nothing, and it equals an obvious model."""

from __future__ import annotations

import math
import random
from typing import Any

import pytest

from tq.errors import Refused
from tq.store import Want
from tq.waiting import INBOX_BYTES, INBOX_MOST, MOST, WATCHES_MOST, Claim, Inbox, Request, Wait, Waiting


def wait(conn: int, number: int, *ids: int, any_: bool = False, until: float = math.inf) -> Wait:
    return Wait(Request(conn, number, "wait", {}), [*ids], set(ids), any_, until)


def claim(conn: int, number: int, until: float = math.inf) -> Claim:
    return Claim(Request(conn, number, "claim", {}), Want("c", 1, queues=frozenset({"q"})), until)


def empty(waiting: Waiting) -> bool:
    parts = (
        waiting.claims,
        waiting._waits,
        waiting._parked,
        waiting._load,
        waiting._ends,
        waiting._steps,
        waiting._totals,
        waiting._watches,
    )
    return not any(parts) and waiting.next_due is None


@pytest.mark.parametrize("seed", range(20))
def test_it_gives_out_what_a_plain_list_would_and_each_only_once(seed: int) -> None:
    chance, waiting, model, now, given = random.Random(seed), Waiting(), [], 0.0, 0
    for number in range(600):
        now += chance.choice([0, 0, 1, 5])
        act = chance.random()
        if act < 0.5:
            until = chance.choice([math.inf, now + chance.randrange(1, 50)])
            conn = chance.randrange(5)
            one: Any = wait(conn, number, *{chance.randrange(1, 20) for _ in range(3)}, any_=chance.random() < 0.5, until=until)
            if chance.random() < 0.2:
                one = claim(conn, number, until)
            waiting.park(one)
            model.append((one, set(getattr(one, "left", ()))))
        elif act < 0.8:
            task_id = chance.randrange(1, 20)
            expected = []
            for entry in list(model):
                one, left = entry
                if task_id in left:
                    left.discard(task_id)
                    if one.any or not left:
                        expected.append(one)
                        model.remove(entry)
            assert waiting.ended(task_id) == expected
            given += len(expected)
        elif act < 0.9:
            expired = [one for one, _ in model if one.until <= now]
            model = [entry for entry in model if entry[0].until > now]
            assert set(waiting.expired(now)) == set(expired)
            given += len(expired)
        elif act < 0.95 and waiting.claims:
            first = next(iter(waiting.claims))
            waiting.served(first)
            model = [entry for entry in model if entry[0] is not first]
        else:
            conn = chance.randrange(5)
            waiting.gone(conn)
            model = [entry for entry in model if entry[0].request.conn != conn]
        assert list(waiting.claims) == [one for one, _ in model if isinstance(one, Claim)]
        assert waiting.next_due == min((one.until for one, _ in model if one.until != math.inf), default=None)
        assert all(waiting.holds(conn) == any(one.request.conn == conn for one, _ in model) for conn in range(5))
    assert given > 50
    for conn in range(5):
        waiting.gone(conn)
    assert empty(waiting)


def test_the_watches_of_one_connection_are_bounded_whatever_they_are_about() -> None:
    waiting = Waiting()
    for number in range(WATCHES_MOST):
        waiting.check_watches(1, 1)
        watch = (waiting.watch_ends, waiting.watch_steps)[number % 2]
        watch((1, number), frozenset({number}))
    with pytest.raises(Refused, match=f"at most {WATCHES_MOST} topics watched by one connection, it watches {WATCHES_MOST}"):
        waiting.check_watches(1, 1)
    waiting.check_watches(2, WATCHES_MOST)
    waiting.gone(1)
    waiting.check_watches(1, 1)


def test_watchers_hear_of_the_tasks_they_named_or_of_all() -> None:
    waiting = Waiting()
    waiting.watch_ends((1, 1), None)
    waiting.watch_ends((2, 1), frozenset({5}))
    assert list(waiting.watchers_of(5)) == [(1, 1), (2, 1)]
    assert list(waiting.watchers_of(6)) == [(1, 1)]
    assert waiting.for_ends
    waiting.gone(1)
    assert list(waiting.watchers_of(5)) == [(2, 1)]
    waiting.gone(2)
    assert not waiting.for_ends
    assert empty(waiting)


def test_totals_are_due_at_once_and_then_after_a_change_at_their_own_pace() -> None:
    waiting = Waiting()
    waiting.watch_totals((1, 1), 250, 1000)
    waiting.watch_totals((2, 1), 1000, 1000)
    assert waiting.next_due == 1000
    assert waiting.totals_due(1000) == [(1, 1), (2, 1)]
    assert waiting.next_due is None
    assert waiting.totals_due(9000) == []
    waiting.changed()
    assert waiting.totals_due(1100) == []
    assert waiting.next_due == 1250
    assert waiting.totals_due(1250) == [(1, 1)]
    assert waiting.next_due == 2000
    assert waiting.totals_due(2000) == [(2, 1)]
    assert waiting.next_due is None


def test_a_step_of_the_clock_moves_every_deadline_with_it() -> None:
    waiting = Waiting()
    first, second = wait(1, 1, 5, until=1500), claim(1, 2, until=1200)
    waiting.park(first)
    waiting.park(second)
    waiting.watch_totals((1, 3), 100, 5000)
    waiting.stepped(-1000)
    assert waiting.next_due == 200
    assert waiting.expired(200) == [second]
    assert waiting.expired(500) == [first]
    assert waiting.next_due == 4000


def test_a_connection_has_only_so_much_waiting_and_gets_room_again() -> None:
    waiting = Waiting()
    one = wait(1, 1, *range(1, MOST + 1))
    waiting.park(one)
    with pytest.raises(Refused, match=f"at most {MOST}"):
        waiting.check(1)
    waiting.check(2)
    for task_id in range(1, MOST + 1):
        waiting.ended(task_id)
    waiting.check(1)
    assert empty(waiting)


def test_nobody_is_read_while_the_requests_of_all_are_too_many_bytes() -> None:
    inbox = Inbox()
    for conn in range(8):
        assert not inbox.full(99)
        inbox.add(Request(conn, 1, "enqueue" if conn < 4 else "get", {}, size=INBOX_BYTES // 8))
    assert inbox.full(99)
    inbox.gone(7, lambda one: one.verb == "enqueue")
    assert not inbox.full(99)
    inbox.gone(0, lambda one: one.verb == "enqueue")  # what changes something stays
    inbox.add(Request(7, 2, "get", {}, size=INBOX_BYTES // 8))
    assert inbox.full(99)
    assert len(list(inbox.taken())) == 8
    assert not inbox.full(99)
    for number in range(INBOX_MOST):
        inbox.add(Request(1, number, "get", {}, size=10))
    assert inbox.full(1)
    assert not inbox.full(2)

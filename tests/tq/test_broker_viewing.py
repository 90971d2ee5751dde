"""The verbs of views, as the broker carries them out on both stores."""

from __future__ import annotations

from typing import Any

import pytest

from tests.tq.broker_driver import Driver
from tq.broker import Said, viewing
from tq.client.views import TaskRow
from tq.views import KEEP_MS


def rows(d: Driver, view: int, offset: int = 0, limit: int = 200) -> list[Any]:
    found: list[Any] = d.ask("page", view=view, offset=offset, limit=limit)["rows"]
    return found


def ids(d: Driver, **which: Any) -> list[int]:
    return [row[0] for row in rows(d, d.ask("view", **which)["view"])]


def test_a_view_its_pages_and_its_places_asked_for_in_one_go(d: Driver) -> None:
    added = d.add(300)
    view = d.submit("view")
    asked = [d.submit("page", view=1, offset=at, limit=100) for at in (0, 250, -50)]
    place, news = d.submit("place", view=1, id=added[10]), d.submit("news", view=1)
    d.turn()
    assert d.answer(view) == {"view": 1, "sort": "-id", "total": 300, "exact": True}
    pages = [d.answer(number) for number in asked]
    assert [[row[0] for row in page["rows"]] for page in pages] == [added[:199:-1], added[49::-1], added[49::-1]]
    assert [page["offset"] for page in pages] == [0, 250, 250]
    assert (d.answer(place), d.answer(news)) == ({"offset": 289}, {"new": 0})


def test_a_row_says_where_a_task_stands_and_is_that_of_the_client(d: Driver) -> None:
    (done, runs, again, waits) = d.add(4, label="night run", queue="mail", priority=7, retries=2)
    first, second, third = d.grant(3)
    d.broker.desk.live = lambda task_id: {"progress": (0.25, "a quarter"), "suspended": True} if task_id == runs else {}
    error = {"type": "ValueError", "message": "no"}
    d.broker.settled([d.result(first), d.result(third, "failed", error=error)])
    d.broker.said([Said(runs, 0.25, "a quarter")])
    d.turn()
    found = {row[0]: TaskRow(*row) for row in d.ask("rows", ids=[done, runs, again, waits])["rows"]}
    assert [(row.state, row.type, row.queue, row.priority, row.retries, row.label) for row in found.values()] == [
        (state, "t", "mail", 7, 2, "night run") for state in ("succeeded", "running", "retrying", "pending")
    ]
    assert [row.attempt for row in found.values()] == [1, 0, 1, 0]
    assert [row.progress for row in found.values()] == [None, 0.25, None, None]
    assert [row.suspended for row in found.values()] == [False, True, False, False]
    assert [row.worker for row in found.values()] == ["w1", "w1", "w1", None]
    assert (found[again].error, found[done].error) == ("ValueError: no", None)
    assert found[done].finished_at == found[runs].started_at == found[waits].created_at == d.now
    assert found[again].due_at > d.now
    assert second.id == runs
    assert d.ask("rows", ids=[99, done])["rows"][0] is None


def test_a_view_takes_what_find_takes_and_finds_the_same(d: Driver) -> None:
    d.add(5, queue="mail", label="x")
    d.add(5, "u", queue="web", tenant="acme")
    d.grant(3)
    d.ask("cancel", ids=[10])
    for which in (
        {}, {"where": "state:running"}, {"states": ["pending"]}, {"states": ["pending", "cancelled"], "queue": "web"}, {"type": "u"},
        {"tenant": "acme"}, {"label": "x"}, {"where": "id:2..8 -state:pending"}, {"where": "id>4", "queue": "mail"},
        {"where": "u OR label:x"}, {"where": "queue:mail queue:web"}, {"where": "priority:9"},
    ):  # fmt: skip
        found = {task["id"] for task in d.ask("find", **which)["tasks"]}
        assert ids(d, **which) == sorted(found, reverse=True), which
        assert ids(d, **which, sort="id") == sorted(found)
        assert ids(d, **which, sort="queue") == sorted(found), which


def test_an_order_other_than_that_of_ids(d: Driver) -> None:
    for priority in (3, 9, 0, 3):
        d.add(priority=priority)
    assert d.ask("view", sort="-priority") == {"view": 1, "sort": "-priority", "total": 4, "exact": True}
    assert [row[0] for row in rows(d, 1)] == [2, 4, 1, 3]
    assert ids(d, sort="priority") == [3, 1, 4, 2]
    code, message = d.refusal("view", sort="colour")
    assert code == "usage"
    assert "expected id, state, type" in message


def test_a_view_stays_and_is_told_what_came_since(d: Driver) -> None:
    d.add(3)
    view = d.ask("view", where="state:pending")["view"]
    d.grant(2)
    d.add(2)
    d.ask("remove", ids=[3])
    assert [row and (row[0], row[1]) for row in rows(d, view)] == [None, (2, "running"), (1, "running")]
    assert d.ask("news", view=view) == {"new": 2}


@pytest.mark.parametrize(
    ("verb", "args", "words"),
    [
        ("page", {"view": 1, "offset": 0, "limit": 0}, "limit: expected a number from 1 to 200"),
        ("page", {"view": 1, "offset": 0, "limit": viewing.PAGE_MOST + 1}, "limit: expected a number from 1 to 200"),
        ("page", {"view": 1, "offset": 1 << 63, "limit": 1}, "offset: expected"),
        ("page", {"view": 1, "offset": 0}, "expected the argument limit"),
        ("page", {"view": -1, "offset": 0, "limit": 1}, "expected the number of a view"),
        ("place", {"view": 1, "id": 0}, "expected task numbers"),
        ("news", {}, "expected the argument view"),
        ("rows", {"ids": [1] * 501}, "expected at most 500"),
        ("view", {"where": "colour:red"}, "column 1"),
        ("view", {"sort": 5}, "sort: expected str"),
    ],
)
def test_arguments_that_make_no_sense_are_refused(d: Driver, verb: str, args: dict[str, Any], words: str) -> None:
    code, message = d.refusal(verb, **args)
    assert code == "usage"
    assert words in message


def test_a_view_that_is_gone_says_so_and_a_new_one_is_another(d: Driver) -> None:
    d.add(3)
    assert d.ask("view")["view"] == 1
    assert d.refusal("page", conn=2, view=1, offset=0, limit=1)[0] == "refused"
    d.broker.gone(1)
    number = d.submit("news", view=1)
    d.turn()
    assert d.error(number)[0] == "refused"
    assert d.error(number)[2] == {"gone": True}
    assert d.ask("view")["view"] == 2


def test_a_turn_is_needed_once_for_a_view_that_nobody_asks_for_and_for_none_else(d: Driver) -> None:
    d.add(3, delay_ms=10 * KEEP_MS)
    d.turn()
    before = d.broker.next_due
    d.ask("view")
    assert d.broker.next_due == d.now + KEEP_MS
    d.now += KEEP_MS
    assert not d.turn().busy
    assert d.broker.next_due == before
    assert d.refusal("news", view=1)[0] == "refused"


def test_a_clock_that_is_put_forward_leaves_views_where_they_are(d: Driver) -> None:
    d.add(3)
    d.ask("view")
    d.step(2 * KEEP_MS)
    assert d.ask("news", view=1) == {"new": 0}


def test_a_scan_is_cut_into_slices_between_which_others_are_served(d: Driver) -> None:
    d.add(3000)
    d.tick_s = 0.0005
    view = d.submit("view", where="-label:x")
    last = d.submit("page", view=1, offset=-1, limit=1)
    first = d.submit("page", view=1, offset=0, limit=10)
    assert d.turn().busy
    assert d.broker.holds(1)
    d.turn()
    assert len(d.answer(first)["rows"]) == 10
    assert d.answer(view)["exact"] is False
    assert d.answer(last) is None
    d.ask("enqueue", conn=2, tasks=[["t", b"", None]])
    assert d.answer(last) is None
    d.settle_down(10_000)
    assert d.answer(last)["total"] == 3000
    assert not d.broker.holds(1)


def test_what_a_turn_that_fails_asked_of_views_is_asked_again(d: Driver, monkeypatch: pytest.MonkeyPatch) -> None:
    d.add(3)
    commits = [RuntimeError("lost")]

    def commit() -> None:
        if commits:
            raise commits.pop()
        real()

    real = d.store.commit
    monkeypatch.setattr(d.store, "commit", commit)
    d.submit("enqueue", tasks=[["t", b"", None]])
    view = d.submit("view")
    d.settle_down()
    assert d.answer(view)["total"] == 4
    assert len(rows(d, d.answer(view)["view"])) == 4

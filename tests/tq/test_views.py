"""Views kept by themselves: slices, turns, bounds and forgetting; over a store that only counts what it is asked for."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import pytest

from tq import views, wire
from tq.errors import StoreDamaged, UsageError
from tq.model import Header, Spec, State, Status, Task
from tq.query import Filter, from_options, parse
from tq.query.orders import SORTS, order_of
from tq.query.terms import FIELDS
from tq.store import Tally
from tq.views import ASKS_MOST, KEEP_MS, MOST, MOST_EACH, Ask, Views, count_of, line
from tq.waiting import Request

ALL = Filter(None)
NEWEST = order_of("-id")
STEP_S = 0.0001


def task_of(task_id: int, **status: Any) -> Task:
    return Task(Spec(task_id, Header("t", "q"), b"", 1000 + task_id), Status(**{"state": State.PENDING, **status}))


class Counted:
    """A store of tasks that are alike; ``read`` are the ids of those that were looked at, ``walked`` how many ids were given."""

    def __init__(self, count: int) -> None:
        self.tasks = {task_id: task_of(task_id) for task_id in range(1, count + 1)}
        self.read: list[int] = []
        self.walked = 0
        self.damaged: set[int] = set()

    def last_id(self) -> int:
        return max(self.tasks, default=0)

    def tallies(self) -> list[Tally]:
        tally = Tally("q", "t")
        for task in self.tasks.values():
            tally.states[task.state] += 1
        return [tally]

    def walk(self, states: frozenset[State] | None, first: int, last: int, *, oldest: bool = False) -> Iterator[Sequence[int]]:
        ids = sorted((one for one in self.tasks if first <= one <= last), reverse=not oldest)
        for at in range(0, len(ids), 100):
            self.walked += len(ids[at : at + 100])
            yield [one for one in ids[at : at + 100] if states is None or self.tasks[one].state in states]

    def headers(self, ids: Sequence[int]) -> list[Header | None]:
        return [None if (task := self.tasks.get(one)) is None else task.spec.header for one in ids]

    def states(self, ids: Sequence[int]) -> list[State | None]:
        if self.damaged & set(ids):
            raise StoreDamaged("a record fails its checksum")
        return [None if (task := self.tasks.get(one)) is None else task.state for one in ids]

    def get(self, ids: Sequence[int]) -> list[Task | None]:
        if self.damaged & set(ids):
            raise StoreDamaged("a record fails its checksum")
        self.read += ids
        return [self.tasks.get(one) for one in ids]


class Desk:
    """Views whose slices last as many steps as they are given; ``told`` are the answers."""

    def __init__(self, count: int = 1000) -> None:
        self.store = Counted(count)
        self.seconds = 0.0
        self.now = 1_000_000
        self.number = 0
        self.told: dict[int, Any] = {}
        self.views = Views(self.store, lambda task: line(task, {}), self.clock)  # type: ignore[arg-type]

    def clock(self) -> float:
        self.seconds += STEP_S
        return self.seconds

    def open(self, where: Filter = ALL, sort: str = "-id", conn: int = 1) -> int:
        self.number += 1
        self.views.open(Request(conn, self.number, "view", {}), where, order_of(sort), self.now)
        return self.number

    def ask(self, view: int, what: str, at: int = 0, limit: int = 1, conn: int = 1) -> int:
        self.number += 1
        self.views.ask(view, Ask(Request(conn, self.number, what, {}), what, at, limit), self.now)
        return self.number

    def slice(self, steps: float = 10) -> None:
        for conn, data in self.views.read_on(steps * STEP_S):
            number, kind, body = wire.message(data[4:])
            assert number not in self.told, "answered twice"
            self.told[number] = body if kind == wire.ANSWER else ("error", *body)
            assert conn

    def all(self) -> None:
        for _ in range(100_000):
            if not self.views:
                return
            self.slice()
        raise AssertionError("there is always more to do")

    def made(self, where: Filter = ALL, sort: str = "-id", conn: int = 1) -> int:
        """The number of a view that is whole."""
        asked = self.open(where, sort, conn)
        self.all()
        number: int = self.told[asked]["view"]
        return number

    def said(self, view: int, what: str, at: int = 0, limit: int = 1, conn: int = 1) -> Any:
        asked = self.ask(view, what, at, limit, conn)
        self.all()
        return self.told[asked]


def test_the_first_page_is_there_long_before_all_is_found_and_no_task_is_read_that_is_not_shown() -> None:
    desk = Desk(10_000)
    view, page = desk.open(), desk.ask(1, "page", 0, 20)
    desk.slice()
    assert desk.told[view] == {"view": 1, "sort": "-id", "total": 10_000, "exact": True}
    assert [row[0] for row in desk.told[page]["rows"]] == list(range(10_000, 9980, -1))
    assert not desk.told[page]["done"]
    assert desk.store.walked < 5000
    desk.all()
    assert len(desk.store.read) == 20
    assert desk.said(1, "page", 9990, 20) | {"rows": None} == {"rows": None, "offset": 9990, "total": 10_000, "exact": True, "done": True}


def test_a_slice_ends_soon_after_its_time_however_much_there_is_to_find() -> None:
    desk = Desk(10_000)
    desk.open(parse("error:none"))
    before = desk.seconds
    desk.slice(steps=10)
    assert desk.seconds - before < 20 * STEP_S
    assert len(desk.store.read) < 1000


def test_views_take_turns_and_what_is_there_is_answered_first() -> None:
    desk = Desk(2000)
    ready = desk.made()
    slow = [desk.open(parse("error:none"), conn=2), desk.open(parse("error:no"), conn=3)]
    page = desk.ask(ready, "page", 1000, 200)
    desk.slice(steps=5)
    assert page in desk.told
    assert len(desk.store.read) < 400
    desk.all()
    assert [desk.told[one]["view"] for one in slow] == [2, 3]


def test_a_page_is_answered_when_it_is_reached_and_from_the_end_when_all_is_found() -> None:
    desk = Desk(5000)
    desk.open(parse("age>=0s"))
    late, end = desk.ask(1, "page", 4000, 10), desk.ask(1, "page", -3, 200)
    desk.slice()
    assert late not in desk.told
    desk.all()
    assert [row[0] for row in desk.told[late]["rows"]] == list(range(1000, 990, -1))
    assert desk.told[end]["offset"] == 4997
    assert [row[0] for row in desk.told[end]["rows"]] == [3, 2, 1]
    assert desk.said(1, "page", 6000, 10)["rows"] == []
    assert [row[0] for row in desk.said(1, "page", -9999, 2)["rows"]] == [5000, 4999]


def test_what_a_filter_matches_is_counted_on_unless_tallies_know_it() -> None:
    desk = Desk(3000)
    desk.open(parse("id>1000"))
    page = desk.ask(1, "page", 0, 10)
    while page not in desk.told:
        desk.slice(steps=3)
    first = desk.told[page]
    assert (first["exact"], first["done"]) == (False, False)
    assert 10 <= first["total"] < 2000
    desk.all()
    last = desk.said(1, "page", 0, 10)
    assert (last["total"], last["exact"], last["done"]) == (2000, True, True)


def test_what_tallies_say_there_is_none_of_is_not_looked_for() -> None:
    desk = Desk(3000)
    assert desk.said(desk.made(parse("queue:other")), "page", 0, 10)["total"] == 0
    assert desk.store.walked <= 100


def test_a_view_stays_as_it_was_made_and_a_task_that_is_gone_leaves_its_place() -> None:
    desk = Desk(100)
    view = desk.made(parse("state:pending"))
    desk.store.tasks[90] = task_of(90, state=State.RUNNING)
    del desk.store.tasks[91]
    desk.store.tasks[101] = task_of(101)
    rows = desk.said(view, "page", 8, 4)["rows"]
    assert [row and row[:2] for row in rows] == [[92, "pending"], None, [90, "running"], [89, "pending"]]
    assert desk.said(view, "place", 90) == {"offset": 10}
    assert desk.said(view, "place", 101) == desk.said(view, "place", 7777) == {"offset": None}


@pytest.mark.parametrize("sort", ["id", "-id"])
def test_a_place_is_told_as_soon_as_the_scan_has_passed_it(sort: str) -> None:
    desk = Desk(5000)
    desk.open(parse("age>=0s"), sort)
    near, far = (4990, 10) if sort == "-id" else (11, 4991)
    places = [desk.ask(1, "place", near), desk.ask(1, "place", far)]
    while places[0] not in desk.told:
        desk.slice()
    assert places[1] not in desk.told
    desk.all()
    assert [desk.told[one]["offset"] for one in places] == [10, 4990]


@pytest.mark.parametrize("sort", SORTS)
@pytest.mark.parametrize("dash", ["", "-"])
def test_every_order_is_that_of_its_values_then_of_ids_and_what_has_none_comes_last(sort: str, dash: str) -> None:
    desk = Desk(0)
    for task_id in range(1, 2501):  # more than a run, so that runs are merged
        state = State(task_id * 7 % 9)
        started = task_id * 7919 % 500 if task_id % 3 else 0
        header = Header("abc"[task_id % 3], "xyz"[task_id // 7 % 3], priority=task_id % 10)
        status = Status(state, due_at=task_id % 50, attempt=task_id % 4, started_at=started, finished_at=started and started + task_id % 90)
        desk.store.tasks[task_id] = Task(Spec(task_id, header, b"", 5000 - task_id), status)
    view = desk.made(sort=dash + sort)
    rows = [row for at in range(0, 2500, 100) for row in desk.said(view, "page", at, 100)["rows"]]
    values = [(FIELDS[sort].get(desk.store.tasks[row[0]], desk.now), row[0]) for row in rows]
    given = [value for value in values if value[0] is not None]
    none = [value[1] for value in values if value[0] is None]
    assert len(values) == 2500
    assert given == sorted(given, reverse=bool(dash))
    assert none == sorted(none, reverse=bool(dash))
    assert values == given + [(None, one) for one in none]
    assert desk.said(view, "place", rows[77][0]) == {"offset": 77}
    assert desk.said(view, "place", 9999) == {"offset": None}


def test_too_many_tasks_for_an_order_are_refused_in_words_that_say_which_orders_remain(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(views, "SORT_MOST", 500)
    desk = Desk(600)
    known, counted = desk.open(sort="run"), desk.open(parse("error:x OR age>=0s"), sort="-run")
    desk.slice(steps=1)
    assert desk.store.walked == 0  # of the first nothing is even looked at
    desk.all()
    for asked, text in ((known, "'run', 600 match"), (counted, "'-run', more match")):
        _, code, message, details = desk.told[asked]
        assert code == "refused"
        assert text in message
        assert "Sort by id or -id" in message
        assert details == {"too_much": True, "sorts": ["id", "-id"]}
    assert desk.said(1, "page")[1] == "refused"
    assert desk.said(desk.made(parse("id<500"), sort="run"), "page", 0, 10)["total"] == 499


def test_what_is_no_order_is_refused_with_those_there_are() -> None:
    for text in ("", "-", "--id", "label", "colour"):
        with pytest.raises(UsageError, match="expected id, state"):
            order_of(text)
    assert str(order_of("-done")) == "-finished"


def test_a_filter_of_names_and_states_reads_no_task_and_looks_at_each_kind_once() -> None:
    desk = Desk(0)
    headers = [Header(kind, queue, label=label) for kind in "ab" for queue in "xy" for label in (None, "l", "m")]
    for task_id in range(1, 2001):
        spec = Spec(task_id, headers[task_id % 12], b"", 0)
        desk.store.tasks[task_id] = Task(spec, Status(State(task_id // 12 % 9)))
    for text in (
        "label:l",
        "-label:* type:a",
        "queue:x state:failed OR type:b label:m",
        "-(state:running,pending queue:y)",
        "priority:1 label:z",
    ):
        where = parse(text)
        assert where.only_headers, text
        asked: list[Task] = []
        test = where.matches
        object.__setattr__(where, "matches", lambda task, now, test=test, asked=asked: asked.append(task) or test(task, now))
        view = desk.made(where)
        expected = [one for one in sorted(desk.store.tasks, reverse=True) if test(desk.store.tasks[one], 0)]
        assert list(desk.views._views[view].ids) == expected, text
        assert len(asked) <= 12 * 9 * 2  # by tallies, and by kind
    assert desk.store.read == []
    for text in ("label:l age>1h", "x", "id:1", "error:y", "started:*"):
        assert not parse(text).only_headers, text


def test_kinds_of_tasks_without_end_are_not_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(views, "KINDS_MOST", 10)
    desk = Desk(0)
    desk.store.tasks = {one: Task(Spec(one, Header("t", key=f"k{one}"), b"", 0), Status(State.PENDING)) for one in range(1, 301)}
    assert desk.said(desk.made(parse("key:k*7")), "page", 0, 200)["total"] == 30


def test_news_are_what_came_since_and_matches() -> None:
    desk = Desk(10)
    view = desk.made(parse("state:pending"))
    assert desk.said(view, "news") == {"new": 0}
    desk.store.tasks |= {11: task_of(11), 12: task_of(12, state=State.RUNNING), 13: task_of(13)}
    desk.store.read.clear()
    together = [desk.ask(view, "news"), desk.ask(view, "news")]
    desk.all()
    assert [desk.told[one] for one in together] == [{"new": 2}, {"new": 2}]
    desk.store.tasks[12] = task_of(12)
    assert desk.said(view, "news") == {"new": 3}
    assert desk.store.read == []


def test_of_many_news_only_the_newest_are_looked_at_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(views, "NEWS_AGAIN", 50)
    desk = Desk(10)
    view = desk.made(parse("age>=0s"))
    desk.store.tasks |= {one: task_of(one) for one in range(11, 111)}
    assert desk.said(view, "news") == {"new": 100}
    desk.store.read.clear()
    desk.store.tasks |= {one: task_of(one) for one in range(111, 121)}
    assert desk.said(view, "news") == {"new": 110}
    assert desk.store.read == list(range(111, 121))


def test_a_view_is_its_connections_alone_and_gone_with_it() -> None:
    desk = Desk()
    view = desk.made(conn=1)
    assert desk.said(view, "page", conn=2)[1] == "refused"
    assert desk.said(view, "page", conn=2)[3] == {"gone": True}
    waits = desk.open(parse("age>=0s"), conn=1)
    assert desk.views.holds(1)
    desk.views.gone(1)
    assert not desk.views.holds(1)
    desk.all()
    assert waits not in desk.told
    assert desk.said(view, "page")[3] == {"gone": True}
    assert desk.views.next_due is None


def test_of_too_many_views_the_one_asked_for_least_recently_goes() -> None:
    desk = Desk(10)
    mine = [desk.made() for _ in range(MOST_EACH)]
    assert "rows" in desk.said(mine[0], "page")
    assert "rows" in desk.said(desk.made(), "page")
    assert desk.said(mine[1], "page")[3] == {"gone": True}
    assert "rows" in desk.said(mine[0], "page")
    for conn in range(2, MOST // MOST_EACH + 2):
        for _ in range(MOST_EACH):
            desk.made(conn=conn)
    assert desk.said(mine[2], "page")[3] == {"gone": True}


def test_a_view_that_is_dropped_tells_who_waits_for_it() -> None:
    desk = Desk(5000)
    desk.open(parse("age>=0s"))
    waits = desk.ask(1, "page", 4900, 10)
    for _ in range(MOST_EACH):
        desk.open()
    desk.all()
    assert desk.told[waits][3] == {"gone": True}


def test_a_view_is_forgotten_some_minutes_after_the_last_question_whatever_the_clock_does() -> None:
    desk = Desk(10)
    first, second = desk.made(), desk.made()
    desk.now += KEEP_MS - 1
    assert "rows" in desk.said(first, "page")
    assert desk.views.next_due == 1_000_000 + KEEP_MS
    desk.views.stepped(3_600_000)
    desk.now += 3_600_001
    assert desk.views.next_due == desk.now
    desk.views.forget_old(desk.now)
    assert desk.said(second, "page")[3] == {"gone": True}
    assert "rows" in desk.said(first, "page")


def test_questions_that_wait_are_bounded() -> None:
    desk = Desk(5000)
    desk.open(parse("age>=0s"))
    asked = [desk.ask(1, "page", -1, 1) for _ in range(ASKS_MOST + 5)]
    desk.all()
    refused = [desk.told[one] for one in asked if isinstance(desk.told[one], tuple)]
    assert 5 <= len(refused) <= 6  # the view's own answer waits, too
    assert refused[0][1] == "refused"
    assert "Await some answers first" in refused[0][2]


def test_ids_are_bounded_older_views_give_way_and_the_last_one_is_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(views, "IDS_MOST", 1500)
    desk = Desk(1000)
    first = desk.made()
    second = desk.made()
    assert desk.said(first, "page")[3] == {"gone": True}
    page = desk.said(second, "page", -1, 1)
    assert (page["total"], page["exact"], page["rows"][0][0]) == (1000, True, 1)
    desk.store.tasks |= {one: task_of(one) for one in range(1001, 2001)}
    page = desk.said(desk.made(), "page", -1, 1)
    assert page["done"]
    assert not page["exact"]
    assert page["total"] == 1600
    desk.views.gone(1)
    assert desk.said(desk.made(parse("id<100")), "page")["total"] == 99


def test_a_damaged_task_is_passed_over_and_harms_no_other(caplog: pytest.LogCaptureFixture) -> None:
    desk = Desk(100)
    desk.store.damaged = {50}
    view = desk.made(parse("age>=0s"))
    assert desk.said(view, "page", 0, 200)["total"] == 99
    assert desk.views.rows([49, 50, 51])[1] is None
    assert [row[0] for row in desk.views.rows([49, 51]) if row] == [49, 51]
    assert "task 50 is passed over" in caplog.text


def test_an_id_takes_four_bytes() -> None:
    desk = Desk(1000)
    view = desk.made()
    assert desk.views._views[view].ids.itemsize == 4
    desk.store.tasks = {1 << 33: task_of(1 << 33)}
    assert desk.said(desk.made(), "page")["rows"][0][0] == 1 << 33


def test_a_row_is_small_whatever_the_task_holds() -> None:
    name = "\U0001f600" * 50
    error = {"type": "E" * 5000, "message": "\U0001f600" * 50_000, "frames": [["f", 1, "g", "x" * 1000]]}
    status = Status(State.RETRYING, error=error, worker=name, result=b"x" * 60_000, finished_at=1 << 60, started_at=1 << 60)
    task = Task(Spec(1 << 62, Header(name, name, label=name), b"x" * 200_000, 1 << 60), status)
    row = line(task, {"progress": (0.5, "x" * 10_000), "suspended": True})
    assert len(wire.pack([row] * 500)) < wire.MAX_FRAME * 0.8
    assert len(row[12]) == views.ERROR_MOST
    assert (row[11], row[15]) == (0.5, True)
    assert line(replace(task, status=Status(State.FAILED, error={"type": "", "message": None})), {})[12] == "Error: "


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("", 60), ("state:failed", 20), ("-state:failed", 40), ("queue:a", 35), ("queue:a state:failed", 10), ("type:t*", 35),
        ("state:failed OR type:u", 35), ("state:*", 60), ("queue:none", 0), ("label:x", None), ("t", None), ("queue:a id>1", None),
        ("meta.a:b", None), ("-(queue:a state:failed)", 50),
    ],
)  # fmt: skip
def test_tallies_say_how_many_match_where_they_know(text: str, count: int | None) -> None:
    tallies = [Tally(queue, kind) for queue, kind in (("a", "t"), ("b", "u"), ("a", "u"), ("b", "tt"))]
    for tally, pending in zip(tallies, (10, 0, 15, 15), strict=True):
        tally.states[State.PENDING], tally.states[State.FAILED] = pending, 5
    assert count_of(parse(text), tallies) == count


def test_the_states_of_a_filter_are_all_of_it_only_if_they_are() -> None:
    for text, only in (("", True), ("state:failed", True), ("-state:failed,running", True), ("state:failed type:x", False), ("x", False)):
        assert parse(text).only_states is only, text
    assert from_options(states=["failed"]).only_states

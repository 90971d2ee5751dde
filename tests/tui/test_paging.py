"""Rows for a table: a window over many, and lists."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest

from tests.tui.rows import Views, row, settled
from tq.errors import DaemonError
from tui.paging import PAGE, PAGES, Change, Key, ListSource, PagedSource


class Listener:
    """Writes down what it is told."""

    def __init__(self, key: Key | None = None, place: int = 0) -> None:
        self.key, self.place = key, place
        self.changes: list[Change] = []
        self.moved = 0

    def held(self) -> tuple[Key | None, int]:
        return self.key, self.place

    def rows_changed(self, changes: Sequence[Change]) -> None:
        self.changes += changes

    def rows_moved(self) -> None:
        self.moved += 1


async def opened(views: Views, listener: Listener | None = None, **more: Any) -> PagedSource:
    source = PagedSource(views, **more)
    source.attach(listener or Listener())
    await source.open({"where": "state:failed", "sort": "-id"})
    return source


def ids_at(source: PagedSource, *places: int) -> list[Any]:
    return [entry.key if (entry := source.entry(place)) else None for place in places]


@pytest.mark.asyncio
async def test_a_million_rows_cost_one_page_to_open() -> None:
    views = Views(1_000_000)
    source = await opened(views)
    assert (source.total, source.exact, source.view) == (1_000_000, True, 1)
    assert ids_at(source, 0, 199, 200, -1) == [1_000_000, 999_801, None, None]
    assert [verb for verb, _ in views.calls] == ["view", "page"]
    assert views.asked("view") == [{"where": "state:failed", "sort": "-id"}]


@pytest.mark.asyncio
async def test_what_is_seen_is_fetched_and_one_page_in_each_direction() -> None:
    views = Views(1_000_000)
    listener = Listener()
    source = await opened(views, listener)
    source.look(500_000, 500_023)
    await settled()
    assert sorted(args["offset"] for args in views.asked("page")[1:]) == [499_800, 500_000, 500_200]
    assert ids_at(source, 500_000, 500_022) == [500_000, 499_978]
    assert source.find(500_000) == 500_000
    assert {place for place, _, _ in listener.changes} >= set(range(500_000, 500_023))


@pytest.mark.asyncio
async def test_requests_for_pages_that_are_no_longer_near_are_cancelled() -> None:
    views = Views(1_000_000)
    source = await opened(views)
    views.held = asyncio.Event()
    for first in range(10_000, 900_000, 10_000):
        source.look(first, first + 20)
        await settled(2)
    assert len(source.loading) <= 3
    views.release()
    await settled()
    assert source.loading == []
    assert ids_at(source, 890_000, 10_000) == [110_000, None]


@pytest.mark.asyncio
async def test_pages_that_were_passed_in_one_breath_are_never_asked_for() -> None:
    views = Views(1_000_000)
    source = await opened(views)
    for first in range(0, 900_000, 10_000):
        source.look(first, first + 20)
    await settled()
    assert len(views.asked("page")) <= 4


@pytest.mark.asyncio
async def test_only_so_many_pages_are_kept_those_seen_last() -> None:
    views = Views(100_000)
    source = await opened(views)
    for number in range(300):
        source.look(number * PAGE, number * PAGE + 20)
        await settled()
    kept = [place for place in range(0, 100_000, PAGE) if source.entry(place) is not None]
    assert len(kept) == PAGES
    assert kept[-1] == 300 * PAGE
    assert len(source._places) == PAGES * PAGE


@pytest.mark.asyncio
async def test_a_view_made_anew_keeps_the_row_it_was_told_to_keep() -> None:
    views = Views(5000)
    listener = Listener()
    source = await opened(views, listener)
    listener.key = 4990
    assert source.find(4990) == 10
    views.add(*range(6000, 5500, -1))
    await source.reload()
    assert source.find(4990) == 510
    assert listener.moved == 2
    assert source.total == 5500


@pytest.mark.asyncio
async def test_old_rows_stay_until_the_new_ones_are_here() -> None:
    views = Views(5000)
    source = await opened(views)
    views.held = asyncio.Event()
    views.add(5001)
    task = asyncio.create_task(source.reload())
    await settled()
    assert ids_at(source, 0) == [5000]
    views.release()
    await task
    assert ids_at(source, 0) == [5001]


@pytest.mark.asyncio
async def test_where_rows_went_away_the_first_page_is_shown() -> None:
    views = Views(5000)
    listener = Listener(place=4800)
    source = await opened(views, listener)
    views.ids = [3, 2, 1]
    await source.reload()
    assert (source.total, ids_at(source, 0, 2)) == (3, [3, 1])


@pytest.mark.asyncio
async def test_what_matches_none_is_a_view_of_no_rows() -> None:
    source = await opened(Views(0))
    assert (source.total, source.exact, source.entry(0)) == (0, True, None)
    assert await source.last() == -1


@pytest.mark.asyncio
async def test_while_the_number_is_not_known_it_grows_with_what_is_seen_and_the_end_asks_for_it() -> None:
    views = Views(1000, counted=300)
    source = await opened(views)
    assert (source.total, source.exact) == (300, False)
    source.look(190, 210)
    await settled()
    assert source.total == 600  # the page behind the one that is seen was fetched, too
    assert await source.last() == 999
    assert (source.total, source.exact) == (1000, True)
    assert views.asked("page")[-1] == {"view": 1, "offset": -1, "limit": 1}


@pytest.mark.asyncio
async def test_a_row_far_away_is_found_by_asking() -> None:
    views = Views(1_000_000)
    source = await opened(views)
    assert await source.locate(999_990) == 10
    assert views.asked("place") == []
    assert await source.locate(1000) == 999_000
    assert await source.locate(2_000_000) is None


@pytest.mark.asyncio
async def test_rows_asked_for_anew_say_what_changed_and_what_no_longer_matches() -> None:
    views = Views(1000)
    listener = Listener()
    source = await opened(views, listener, matches=lambda one: one[1] == "failed")
    views.rows = {1000: row(1000, "running"), 999: None, 998: row(998, error="another"), 997: row(997)}
    await source.freshen([1000, 999, 998, 997, 12])
    assert views.asked("rows") == [{"ids": [1000, 999, 998, 997]}]
    found = {place: (old and old.row[1], new.row[1], new.row[12], new.struck) for place, old, new in listener.changes}
    assert found == {
        0: ("failed", "running", "TimeoutError: read", True),
        1: ("failed", "failed", "TimeoutError: read", True),
        2: ("failed", "failed", "another", False),
    }
    assert listener.changes[0][1].stamp != listener.changes[0][2].stamp
    views.rows[1000] = row(1000)
    await source.freshen([1000])
    assert source.entry(0).struck is False


@pytest.mark.asyncio
async def test_at_most_five_hundred_rows_are_asked_for_at_once() -> None:
    views = Views(1000)
    source = await opened(views)
    source.fetch(0, 1000)
    await settled()
    await source.freshen(range(1, 1001))
    assert [len(args["ids"]) for args in views.asked("rows")] == [500, 500]


@pytest.mark.asyncio
async def test_a_view_that_the_daemon_has_forgotten_is_made_again() -> None:
    views = Views(1_000_000)
    source = await opened(views)
    views.view = 7
    source.look(500_000, 500_020)
    await settled(30)
    assert source.view == 8
    assert source.problem == ""
    source.look(500_000, 500_020)
    await settled()
    assert ids_at(source, 500_000) == [500_000]


@pytest.mark.asyncio
async def test_a_lost_connection_leaves_what_is_here_and_the_next_look_tries_again() -> None:
    views = Views(1_000_000)
    source = await opened(views)
    views.refuses = DaemonError("the daemon does not answer")
    source.look(500_000, 500_020)
    await settled()
    assert source.problem == "the daemon does not answer"
    assert ids_at(source, 0, 500_000) == [1_000_000, None]
    with pytest.raises(DaemonError):
        await source.reload()
    assert ids_at(source, 0) == [1_000_000]
    views.refuses = None
    source.look(500_000, 500_020)
    await settled()
    assert ids_at(source, 500_000) == [500_000]
    assert source.problem == ""


@pytest.mark.asyncio
async def test_an_answer_for_an_older_view_changes_nothing() -> None:
    views = Views(1_000_000)
    source = await opened(views)
    views.held = asyncio.Event()
    source.look(500_000, 500_020)
    await settled(2)
    held, views.held = views.held, None
    views.add(2_000_000)
    await source.reload()
    held.set()
    await settled()
    assert ids_at(source, 0, 500_000) == [2_000_000, None]


@pytest.mark.asyncio
async def test_texts_of_rows_are_cleaned_as_they_come_in() -> None:
    views = Views(3)
    views.rows = {3: row(3, type="\x1b]0;owned\x07", error="a\u202eb"), 2: None}
    source = await opened(views)
    assert source.entry(0).row[2] == "\\x1b]0;owned\\x07"
    assert source.entry(0).row[12] == "a\\u202eb"
    removed = source.entry(1)
    assert (removed.key, removed.row, removed.struck) == (None, None, True)
    assert source.find(None) is None
    views.rows[1] = row(1, error="\x9b31m")
    await source.freshen([1])
    assert source.entry(2).row[12] == "\\x9b31m"


@pytest.mark.asyncio
async def test_a_closed_source_asks_for_nothing_more() -> None:
    views = Views(1_000_000)
    source = await opened(views)
    views.held = asyncio.Event()
    source.look(500_000, 500_020)
    await settled(2)
    source.close()
    views.release()
    await settled()
    assert source.loading == []
    assert source.entry(500_000) is None


def named(*names: str) -> list[dict[str, Any]]:
    return [{"name": name.rstrip("!"), "pending": len(name)} for name in names]


def test_a_list_tells_rows_that_changed_from_rows_that_moved() -> None:
    source, listener = ListSource(lambda one: one["name"]), Listener()
    source.attach(listener)
    source.show(named("mail", "thumbs"))
    assert (listener.moved, [place for place, _, _ in listener.changes]) == (1, [0, 1])
    stamp = source.entry(0).stamp
    listener.changes.clear()
    source.show(named("mail", "thumbs!"))
    assert (listener.moved, [(place, old.row["pending"], new.row["pending"]) for place, old, new in listener.changes]) == (1, [(1, 6, 7)])
    assert source.entry(0).stamp == stamp
    listener.changes.clear()
    source.show(named("thumbs!", "mail", "mail"))
    assert (listener.moved, listener.changes, source.total) == (2, [], 2)
    assert [source.find(name) for name in ("mail", "thumbs", "gc")] == [1, 0, None]
    assert (source.entry(2), source.entry(-1)) == (None, None)

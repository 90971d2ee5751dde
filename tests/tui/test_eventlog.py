"""The list of events: nothing twice, nothing missing, older ones as somebody goes down."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from tests.tui.crew import history
from tests.tui.rows import settled
from tq.errors import DaemonNotRunning
from tui import eventlog
from tui.eventlog import PAGE, EventLog

pytestmark = pytest.mark.asyncio


class Daemon:
    """Answers ``events`` from a list, and writes down what it was asked for."""

    def __init__(self, number: int) -> None:
        self.events = history(number)
        self.asked: list[dict[str, Any]] = []
        self.gone = False

    async def __call__(self, verb: str, args: dict[str, Any]) -> Any:
        self.asked.append(args)
        await asyncio.sleep(0)
        if self.gone:
            raise DaemonNotRunning("nobody answers")
        if "after" in args:
            return {"events": [one for one in self.events if one["number"] > args["after"]][: args["limit"]]}
        return {"events": [one for one in reversed(self.events) if one["number"] < args.get("before", 1 << 60)][: args["limit"]]}


async def begun(number: int, seen: int = 20) -> tuple[EventLog, Daemon, list[int]]:
    """A list with its newest page, of so many events; and how often it told of others."""
    daemon, told = Daemon(number), [0]

    def changed() -> None:
        told[0] += 1

    log = EventLog(daemon, changed)
    log.take((await daemon("events", log.news()))["events"])
    log.look(0, seen)
    await settled()
    return log, daemon, told


def numbers(log: EventLog) -> list[int]:
    entries = [log.entry(place) for place in range(log.total)]
    return [entry.row["number"] for entry in entries if entry is not None]


async def test_the_newest_page_comes_first_and_no_more_than_is_seen_is_asked_for() -> None:
    log, daemon, _ = await begun(1_000)
    assert numbers(log) == list(range(2_000, 2_000 - PAGE, -1))
    assert daemon.asked == [{"limit": PAGE}]
    assert not log.exact


async def test_who_goes_down_gets_older_ones_page_by_page_until_there_are_none() -> None:
    log, daemon, told = await begun(450)
    log.look(180, 200)
    await settled()
    assert daemon.asked[1:] == [{"before": 1_801, "limit": PAGE}]
    log.look(380, 400)
    await settled()
    assert numbers(log) == list(range(2_000, 1_550, -1))
    assert log.exact
    assert log.complete
    log.look(440, 450)
    await settled()
    assert len(daemon.asked) == 3
    assert told[0] == 2


async def test_newer_ones_come_in_front_once_and_none_is_missing() -> None:
    log, daemon, _ = await begun(300)
    newest = {**daemon.events[-1], "number": 2_001}
    daemon.events += [newest, {**newest, "number": 2_002}]
    assert log.news() == {"after": 2_000, "limit": eventlog.NEWS_MOST}
    found = (await daemon("events", log.news()))["events"]
    log.take(found)
    log.take(found)
    assert numbers(log)[:4] == [2_002, 2_001, 2_000, 1_999]
    assert len(set(numbers(log))) == len(numbers(log))


async def test_the_last_place_is_that_of_the_oldest_of_all() -> None:
    log, _, _ = await begun(777)
    assert await log.last() == 776
    assert numbers(log)[-1] == 1_224


async def test_words_choose_what_has_them_all_and_a_minus_leaves_out() -> None:
    log, _, _ = await begun(60)
    log.choose(("paused", "billing"), people=False)
    assert {log.entry(place).row["what"] for place in range(log.total)} == {"paused"}  # type: ignore[union-attr]
    assert log.total == 10
    log.choose(("-paused",), people=False)
    assert log.total == 50
    log.choose(("3600000",), people=False)
    assert log.total == 10
    log.choose((), people=True)
    assert log.total == 40


async def test_a_choice_that_few_match_looks_further_back_until_the_screen_is_full() -> None:
    log, daemon, _ = await begun(1_000)
    log.choose(("chore_done",), people=False)
    await settled(60)
    assert log.total >= 20 + eventlog.AHEAD
    asked = len(daemon.asked)
    await settled(60)
    assert len(daemon.asked) == asked
    log.choose(("no such word",), people=False)
    await settled(200)
    assert log.total == 0
    assert log.loaded == 1_000
    assert log.complete


async def test_a_page_that_does_not_come_is_not_asked_for_again_until_somebody_says_so() -> None:
    log, daemon, _ = await begun(500)
    daemon.gone = True
    log.look(190, 200)
    await settled()
    asked = len(daemon.asked)
    assert log.failed == "nobody answers"
    log.look(191, 200)
    await settled()
    assert len(daemon.asked) == asked
    daemon.gone = False
    log.again()
    await settled()
    assert log.total == 400
    assert not log.failed


async def test_no_more_than_so_many_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(eventlog, "KEEP_MOST", 500)
    log, _, _ = await begun(2_000)
    assert await log.last() == 499
    assert log.exact
    assert not log.complete


async def test_begun_anew_nothing_of_before_is_left() -> None:
    log, daemon, _ = await begun(300)
    log.forget()
    assert log.total == 0
    assert log.news() == {"limit": PAGE}
    daemon.events = history(5)
    log.take((await daemon("events", log.news()))["events"])
    assert log.total == 5
    assert log.complete


async def test_an_answer_to_the_list_of_before_changes_nothing() -> None:
    log, _, _ = await begun(500)
    log.look(190, 200)
    log.forget()
    await settled()
    assert log.total == 0
    log.close()

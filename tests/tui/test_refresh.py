"""Asking for what the visible screen shows: when, how often, and when not."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.tui.fake import FakeDaemon, HandClock, Scenario, settle
from tui.feed import Feed, Phase
from tui.refresh import Refresher, Want
from tui.state import Known

pytestmark = pytest.mark.asyncio


class Asked:
    def __init__(self, where: Path) -> None:
        self.clock = HandClock()
        self.daemon = FakeDaemon(where, self.clock, Scenario())
        self.known = Known()
        self.feed = Feed(str(where), self.clock, lambda topic, body: self.known.take(topic, body, 0), self.wake)
        self.refresher = Refresher(self.feed, self.known)

    def wake(self) -> None:
        self.refresher.wake()

    def count(self, verb: str) -> int:
        return len(self.daemon.asked_for(verb))


@contextlib.asynccontextmanager
async def asked(where: Path, lacking: tuple[str, ...] = ()) -> AsyncIterator[Asked]:
    one = Asked(where)
    one.daemon.scenario.lacking = lacking
    await one.daemon.start()
    tasks = [asyncio.create_task(one.feed.run()), asyncio.create_task(one.refresher.run())]
    await settle()
    try:
        yield one
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await one.daemon.stop()


async def test_a_question_is_asked_at_once_and_then_at_its_pace(where: Path) -> None:
    async with asked(where) as one:
        one.refresher.want({"queues": Want("queues", every_s=2.0)})
        await settle()
        assert one.count("queues") == 1
        await one.clock.advance(1.9)
        assert one.count("queues") == 1
        await one.clock.advance(2.2)
        assert one.count("queues") == 3


async def test_while_no_task_moves_it_asks_less_and_at_once_when_one_does(where: Path) -> None:
    async with asked(where) as one:
        one.refresher.want({"queues": Want("queues")})
        await one.clock.advance(6.0)
        before = one.count("queues")
        await one.clock.advance(30.0)
        assert one.count("queues") - before == 10
        while one.count("queues") == before + 10:
            await one.clock.advance(0.5)
        before = one.count("queues")
        await one.clock.advance(2.0)
        assert one.count("queues") == before
        one.refresher.stirred()
        await settle()
        assert one.count("queues") == before + 1


async def test_what_nobody_sees_any_more_is_asked_no_more(where: Path) -> None:
    async with asked(where) as one:
        one.refresher.want({"queues": Want("queues")})
        await settle()
        one.refresher.want({"attention": Want("attention")})
        await one.clock.advance(5.0)
        assert one.count("queues") == 1
        assert one.count("attention") > 3


async def test_a_question_whose_answer_is_out_is_not_asked_again(where: Path) -> None:
    async with asked(where) as one:
        one.daemon.silent = True
        one.refresher.want({"queues": Want("queues")})
        await one.clock.advance(5.0)
        assert one.count("queues") == 1


async def test_a_daemon_that_does_not_know_a_question_is_asked_it_once_in_a_connection(where: Path) -> None:
    async with asked(where, lacking=("attention",)) as one:
        one.refresher.want({"attention": Want("attention"), "queues": Want("queues")})
        await one.clock.advance(5.0)
        assert one.count("attention") == 1
        assert "attention" in one.known.lacking
        assert one.count("queues") > 3
        one.daemon.scenario.lacking = ()
        one.feed.reconnect()
        await one.clock.advance(2.0)
        assert "attention" not in one.known.lacking
        assert one.known.get("attention") == {"lines": ()}


async def test_it_is_live_when_all_that_is_shown_has_come_again(where: Path) -> None:
    async with asked(where) as one:
        one.refresher.want({"queues": Want("queues")})
        await settle()
        assert one.feed.standing.phase is Phase.LIVE
        await one.daemon.stop()
        await one.daemon.start()
        one.daemon.errors["queues"] = ("refused", "later")
        await one.clock.advance(1.0)
        assert one.feed.standing.phase is Phase.LIVE
        assert one.refresher.progress == 1.0


async def test_slower_asks_less_and_frozen_asks_nothing(where: Path) -> None:
    async with asked(where) as one:
        one.refresher.want({"queues": Want("queues")})
        one.refresher.pace = 4.0
        await one.clock.advance(4.5)
        assert one.count("queues") == 2
        one.refresher.pace = 0.0
        one.refresher.wake()
        await one.clock.advance(60.0)
        assert one.count("queues") == 2


async def test_again_asks_at_once(where: Path) -> None:
    async with asked(where) as one:
        one.refresher.want({"queues": Want("queues", every_s=60.0)})
        await settle()
        one.refresher.again("queues")
        await settle()
        assert one.count("queues") == 2


async def test_what_depends_on_something_is_asked_seldom_while_that_stands_still(where: Path) -> None:
    async with asked(where) as one:
        stands = [1]
        one.refresher.want({"queues": Want("queues", every_s=1.0, of=lambda: stands[0], rest_s=10.0)})
        await settle()
        await one.clock.advance(9.5)
        assert one.count("queues") == 1
        stands[0] = 2
        one.refresher.wake()
        await settle()
        assert one.count("queues") == 2
        one.refresher.wake()
        await one.clock.advance(9.0)
        assert one.count("queues") == 2
        await one.clock.advance(1.5)
        assert one.count("queues") == 3


async def test_what_changes_all_the_time_is_asked_at_its_pace_and_no_faster(where: Path) -> None:
    async with asked(where) as one:
        stands = [0]
        one.refresher.want({"queues": Want("queues", every_s=1.0, of=lambda: stands[0], rest_s=10.0)})
        await settle()
        for _ in range(20):
            stands[0] += 1
            one.refresher.wake()
            await one.clock.advance(0.25)
        assert one.count("queues") in (5, 6)

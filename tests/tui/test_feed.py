"""The connection: how it stands, when it tries again, what becomes of requests that are out."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from tests.tui.fake import FakeDaemon, HandClock, Scenario, settle, totals
from tq.errors import DaemonNotRunning, NotAllowed, UsageError
from tui.feed import Feed, Phase

pytestmark = pytest.mark.asyncio


class Followed:
    """A feed that runs, the daemon it may find, and what it told."""

    def __init__(self, where: Path, **options: Any) -> None:
        self.clock = HandClock()
        self.daemon = FakeDaemon(where, self.clock, Scenario())
        self.heard: list[tuple[str, Any]] = []
        self.phases: list[Phase] = []
        self.feed = Feed(str(where), self.clock, lambda topic, body: self.heard.append((topic, body)), self.changed, **options)

    def changed(self) -> None:
        if not self.phases or self.phases[-1] is not self.feed.standing.phase:
            self.phases.append(self.feed.standing.phase)
        if self.feed.standing.phase is Phase.SYNCING:
            self.feed.synced()

    @property
    def phase(self) -> Phase:
        return self.feed.standing.phase


@contextlib.asynccontextmanager
async def followed(where: Path, *, start: bool = True, **options: Any) -> AsyncIterator[Followed]:
    one = Followed(where, **options)
    if start:
        await one.daemon.start()
    task = asyncio.create_task(one.feed.run())
    await settle()
    try:
        yield one
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
        await one.daemon.stop()


async def test_it_greets_watches_the_totals_and_is_live(where: Path) -> None:
    async with followed(where) as one:
        assert one.phases == [Phase.SYNCING, Phase.LIVE]
        assert one.feed.standing.hello is not None
        assert one.feed.standing.hello["version"] == "1.4.0"
        one.daemon.scenario.totals = totals(pending=3)
        one.daemon.tell_totals()
        await settle()
        assert [body["queue_length"] for topic, body in one.heard if topic == "totals"] == [0, 3]


async def test_without_a_daemon_it_looks_each_second_until_there_is_one(where: Path) -> None:
    async with followed(where, start=False) as one:
        assert one.phase is Phase.STARTING
        assert one.feed.standing.why == "no such file or directory"
        for _ in range(5):
            before = one.feed.standing.tries
            await one.clock.advance(1.0)
            assert one.feed.standing.tries == before + 1
        await one.daemon.start()
        await one.clock.advance(1.0)
        assert one.phase is Phase.LIVE
        assert one.feed.standing.tries == 0


async def test_when_the_daemon_goes_it_tries_after_1_2_4_8_8_seconds_for_ever(where: Path) -> None:
    async with followed(where) as one:
        await one.daemon.stop()
        assert one.phase is Phase.DOWN
        waits = []
        for _ in range(7):
            waits.append(one.feed.standing.next_try - one.clock.ticks())
            await one.clock.advance(waits[-1])
        assert waits == [1.0, 2.0, 4.0, 8.0, 8.0, 8.0, 8.0]


@pytest.mark.parametrize(("chance", "wait"), [(0.0, 0.8), (0.5, 1.0), (1.0, 1.2)])
async def test_the_pauses_are_spread_by_a_fifth(where: Path, monkeypatch: pytest.MonkeyPatch, chance: float, wait: float) -> None:
    async with followed(where) as one:
        monkeypatch.setattr(one.clock, "chance", lambda: chance)
        await one.daemon.stop()
        assert one.feed.standing.next_try - one.clock.ticks() == pytest.approx(wait)


async def test_a_poke_tries_at_once_and_does_nothing_to_a_connection(where: Path) -> None:
    async with followed(where) as one:
        one.feed.poke()
        await settle()
        assert len(one.daemon.asked_for("hello")) == 1
        await one.daemon.stop()
        await one.clock.advance(20.0)
        assert one.phase is Phase.DOWN
        await one.daemon.start()
        one.feed.poke()
        await settle()
        assert one.phase is Phase.LIVE


async def test_silence_is_stale_after_three_seconds_and_an_answer_ends_it(where: Path) -> None:
    async with followed(where) as one:
        await one.clock.advance(5.0)
        assert one.phase is Phase.LIVE
        one.daemon.silent = True
        await one.clock.advance(2.9)
        assert one.phase is Phase.LIVE
        await one.clock.advance(2.0)
        assert one.phase is Phase.STALE
        one.daemon.silent = False
        one.daemon.tell_totals()
        await settle()
        assert one.phase is Phase.LIVE


async def test_another_boot_is_a_restart_and_the_same_boot_is_none(where: Path) -> None:
    async with followed(where) as one:
        for boot, restarts in (("b1", 0), ("b2", 1), ("b2", 1)):
            await one.daemon.stop()
            one.daemon.boot = boot
            await one.daemon.start()
            await one.clock.advance(1.0)
            assert one.phase is Phase.LIVE
            assert one.feed.standing.restarts == restarts


async def test_what_was_asked_of_a_daemon_that_goes_fails_and_is_not_asked_again(where: Path) -> None:
    async with followed(where) as one:
        one.daemon.silent = True
        request = asyncio.create_task(one.feed.call("cancel", {"ids": [1]}))
        await settle()
        await one.daemon.stop()
        with pytest.raises(DaemonNotRunning, match="went away before it answered"):
            await request
        one.daemon.silent = False
        await one.daemon.start()
        await one.clock.advance(1.0)
        assert one.phase is Phase.LIVE
        assert len(one.daemon.asked_for("cancel")) == 1


async def test_what_is_asked_while_nobody_is_there_is_refused_in_words(where: Path) -> None:
    async with followed(where, start=False) as one:
        with pytest.raises(DaemonNotRunning, match="tq daemon start"):
            await one.feed.call("queues")


async def test_errors_of_the_daemon_come_as_its_own(where: Path) -> None:
    async with followed(where) as one:
        one.daemon.errors["cancel"] = ("usage", "expected ids")
        with pytest.raises(UsageError, match="expected ids"):
            await one.feed.call("cancel", {})
        one.daemon.errors["cancel"] = ("not_allowed", "read-only")
        with pytest.raises(NotAllowed):
            await one.feed.call("cancel", {})


@pytest.mark.parametrize(
    ("refusal", "phase"),
    [(("protocol", "expected protocol 2"), Phase.INCOMPATIBLE), (("not_allowed", "another user"), Phase.FORBIDDEN)],
)
async def test_a_daemon_that_refuses_is_told_by_its_reason_and_tried_again(where: Path, refusal: tuple[str, str], phase: Phase) -> None:
    async with followed(where, start=False) as one:
        one.daemon.refuses = refusal
        await one.daemon.start()
        await one.clock.advance(1.0)
        assert one.phase is phase
        assert refusal[1] in one.feed.standing.why
        one.daemon.refuses = None
        await one.clock.advance(8.0)
        assert one.phase is Phase.LIVE


async def test_read_only_is_asked_for_and_told(where: Path) -> None:
    async with followed(where) as one:
        assert one.feed.may_write
        assert "read_only" not in one.daemon.asked_for("hello")[0]
    async with followed(where, read_only=True) as one:
        assert not one.feed.may_write
        assert one.daemon.asked_for("hello")[0]["read_only"] is True


async def test_a_role_that_the_daemon_gives_is_obeyed(where: Path) -> None:
    async with followed(where, start=False) as one:
        one.daemon.role = "read-only"
        await one.daemon.start()
        await one.clock.advance(1.0)
        assert one.phase is Phase.LIVE
        assert not one.feed.may_write


async def test_reconnect_makes_the_connection_anew(where: Path) -> None:
    async with followed(where) as one:
        one.feed.reconnect()
        await settle()
        await one.clock.advance(1.0)
        assert one.phase is Phase.LIVE
        assert len(one.daemon.asked_for("hello")) == 2
        assert one.feed.standing.restarts == 0


async def test_a_stream_is_a_watch_on_a_connection_of_its_own(where: Path) -> None:
    async with followed(where) as one:
        stream = one.feed.stream(["steps"])
        first = asyncio.create_task(anext(stream))
        await settle()
        one.daemon.push("steps", {"number": 7})
        assert (await first)["number"] == 7
        assert len(one.daemon.asked_for("hello")) == 2
        await one.daemon.stop()
        with pytest.raises(DaemonNotRunning):
            await anext(stream)

"""The verbs about schedules, in both faces of the client.

For: ``Client.add_schedule`` and its like, and the same to be awaited.
Not for: what words of a rule mean (``tq.schedule``), connections (blocking, aio).
Runs in: any process but the daemon.
Promises: words of time mean the wall clock of the schedule's zone, or else of this process; a change says nothing that was not given.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Unpack

from tq.client.acting import READ_WITHIN
from tq.client.core import Body, Duration, Options, decode, encode, wire_options
from tq.errors import UsageError
from tq.model import duration_ms

if TYPE_CHECKING:
    from tq.client.aio import AsyncHandle
    from tq.client.handle import Handle
    from tq.schedule import When

KEEP: Any = object()
"""Says that a payload stays as it is: None is one, too."""


def rule_args(when: Mapping[str, Any], now_ms: int) -> Body:
    """What ``set_schedule`` takes for these words of ``tq.schedule.When``, said at ``now_ms``. UsageError names what cannot be."""
    from tq.schedule import wire_when  # most programs have no schedules

    return wire_when(when, now_ms)


def _set(name: str, kind: str | None, payload: object, options: Options | None, when: Mapping[str, Any]) -> Body:
    """The arguments of ``set_schedule``. UsageError names what cannot be."""
    found: Body = {"name": name, **rule_args(when, int(time.time() * 1000))}
    task = [kind, None if payload is KEEP else encode(payload), wire_options(options) if options else None]
    return found if task == [None] * 3 else found | {"task": task}


def _whole(body: Body) -> Body:
    """The one schedule of an answer, its payload decoded."""
    row: Body = body["schedules"][0]
    return row | {"payload": decode(row["payload"])}


def _two(name: str, slots: Sequence[int]) -> tuple[int, int]:
    """The next slot and the one behind it."""
    if not slots:
        raise UsageError(f"schedule {name!r}: expected one with a slot to come, got one that comes due no more, or only at boot.")
    first, second = (*slots, 0)[:2]
    return first, second


class ScheduleVerbs:
    """What ``Client`` is made of, too. A schedule that is not there is a UsageError."""

    def call(self, verb: str, args: Body | None = None, timeout: float | None = None) -> Body:
        raise NotImplementedError

    def add_schedule(
        self, name: str, type: str, payload: object = None, *, options: Options | None = None, **when: Unpack[When],  # noqa: A002
    ) -> None:  # fmt: skip
        """Send a task of this type again and again: ``add_schedule("night", "report", cron="0 3 * * *", tz="Europe/Paris")``."""
        self.call("set_schedule", {**_set(name, type, payload, options, when), "new": True})

    def edit_schedule(
        self, name: str, type: str | None = None, payload: object = KEEP, *, options: Options | None = None, **when: Unpack[When],  # noqa: A002
    ) -> None:  # fmt: skip
        """Change a schedule; what is not named stays. Another rule counts from now."""
        self.call("set_schedule", _set(name, type, payload, options, when))

    def pause_schedule(self, name: str) -> None:
        """No more of its slots become tasks."""
        self.call("set_schedule", {"name": name, "paused": True})

    def resume_schedule(self, name: str) -> None:
        """Go on from now; slots that passed meanwhile are not made up for."""
        self.call("set_schedule", {"name": name, "paused": False})

    def skip_schedule(self, name: str) -> tuple[int, int]:
        """Leave out its next slot, until the rule is changed or a pause ends: (that slot, the one that now comes, 0 for none), in ms since
        1970. UsageError: it has none, or is paused."""
        skipped, following = _two(name, self.next_slots(name, 2))
        self.call("set_schedule", {"name": name, "next_at": following})
        return skipped, following

    def remove_schedule(self, name: str) -> None:
        """Its tasks stay."""
        self.call("remove_schedule", {"name": name})

    def run_schedule(self, name: str) -> Handle[Any]:
        """Run it now, beside its slots."""
        from tq.client.handle import Handle

        return Handle(self, self.call("run_schedule", {"name": name})["id"])  # type: ignore[arg-type]  # it is a Client

    def schedules(self) -> Sequence[Body]:
        """All schedules by name, each with how its newest task fares; see ``tq.wire``."""
        found: list[Body] = []
        after = None
        while True:
            body = self.call("schedules", {"after": after})
            found += body["schedules"]
            after = body["next"]
            if after is None:
                return found

    def schedule(self, name: str) -> Body:
        """One schedule whole: also its payload, options and ``runs``, [slot, id of its task] each, the newest last."""
        return _whole(self.call("schedules", {"name": name}))

    def next_slots(self, name: str, count: int = 10) -> Sequence[int]:
        """Its next slots, in ms since 1970."""
        return [slot for slot, _ in self.call("next_slots", {"name": name, "count": count})["slots"]]

    def alerts(self) -> Sequence[Body]:
        """The alert rules of the settings file: ``raised_at`` (ms) is 0 for those that are not raised; see ``tq.wire``."""
        found: Sequence[Body] = self.call("alerts")["alerts"]
        return found

    def plan(self, within: Duration = "1h", limit: int = 100) -> Body:
        """What schedules and due tasks will do within this time: ``rows`` in its order, ``more`` if there are others; see ``tq.wire``."""
        return self.call("plan", {"for_ms": duration_ms(within), "limit": limit}, READ_WITHIN)


class AsyncScheduleVerbs:
    """The same for ``AsyncClient``."""

    async def call(self, verb: str, args: Body | None = None, timeout: float | None = None) -> Body:  # noqa: ASYNC109 - an argument of the verb
        raise NotImplementedError

    async def add_schedule(
        self, name: str, type: str, payload: object = None, *, options: Options | None = None, **when: Unpack[When],  # noqa: A002
    ) -> None:  # fmt: skip
        await self.call("set_schedule", {**_set(name, type, payload, options, when), "new": True})

    async def edit_schedule(
        self, name: str, type: str | None = None, payload: object = KEEP, *, options: Options | None = None, **when: Unpack[When],  # noqa: A002
    ) -> None:  # fmt: skip
        await self.call("set_schedule", _set(name, type, payload, options, when))

    async def pause_schedule(self, name: str) -> None:
        await self.call("set_schedule", {"name": name, "paused": True})

    async def resume_schedule(self, name: str) -> None:
        await self.call("set_schedule", {"name": name, "paused": False})

    async def skip_schedule(self, name: str) -> tuple[int, int]:
        skipped, following = _two(name, await self.next_slots(name, 2))
        await self.call("set_schedule", {"name": name, "next_at": following})
        return skipped, following

    async def remove_schedule(self, name: str) -> None:
        await self.call("remove_schedule", {"name": name})

    async def run_schedule(self, name: str) -> AsyncHandle[Any]:
        from tq.client.aio import AsyncHandle

        return AsyncHandle(self, (await self.call("run_schedule", {"name": name}))["id"])  # type: ignore[arg-type]  # it is an AsyncClient

    async def schedules(self) -> Sequence[Body]:
        found: list[Body] = []
        after = None
        while True:
            body = await self.call("schedules", {"after": after})
            found += body["schedules"]
            after = body["next"]
            if after is None:
                return found

    async def schedule(self, name: str) -> Body:
        return _whole(await self.call("schedules", {"name": name}))

    async def next_slots(self, name: str, count: int = 10) -> Sequence[int]:
        return [slot for slot, _ in (await self.call("next_slots", {"name": name, "count": count}))["slots"]]

    async def alerts(self) -> Sequence[Body]:
        found: Sequence[Body] = (await self.call("alerts"))["alerts"]
        return found

    async def plan(self, within: Duration = "1h", limit: int = 100) -> Body:
        return await self.call("plan", {"for_ms": duration_ms(within), "limit": limit}, READ_WITHIN)

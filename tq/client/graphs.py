"""Tasks that wait for each other, as a client sends them: a whole graph in one request, and the same run again from where it broke.

For: what the blocking and the asyncio face have of ``enqueue_graph`` and ``retry_in_order``.
Not for: single tasks and groups without ties (the faces themselves), what is written with signatures (``tq.signature``).
Runs in: every process that uses a client.
Promises: a graph is one request, so it is stored whole or not at all, and after a lost answer it is stored once.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, cast

from tq.client.acting import Changes, act_args
from tq.client.core import Body, Duration, Ids, Room, encode, ids_of, wire_options
from tq.errors import Refused

if TYPE_CHECKING:
    from typing import Unpack

    from tq.middleware import AroundSend

IDS_A_CALL = 500
Row = Sequence[Any]


def graph_args(rows: Iterable[Row]) -> Body:
    """The arguments of one ``enqueue`` of all these rows."""
    return {"tasks": [(row[0], encode(row[1]), wire_options(row[2] if len(row) > 2 and row[2] else {})) for row in rows], "again": False}


def _parts(ids: Sequence[int], changes: Changes) -> Iterable[Body]:
    for start in range(0, len(ids), IDS_A_CALL):
        yield {**act_args({"ids": ids[start : start + IDS_A_CALL]}, changes), "in_order": True}


class GraphVerbs:
    """What the blocking client has of them."""

    wait_for_room: Duration
    _around: tuple[AroundSend, ...]

    def call(self, verb: str, args: Body | None = None, timeout: float | None = None) -> Body:
        raise NotImplementedError

    def enqueue_graph(self, rows: Iterable[Row]) -> Sequence[int]:
        """Store ``(type, payload)`` or ``(type, payload, options)`` rows, which may wait for each other, in one commit or not at all;
        their ids, in order.

        In ``after``, ``after_any`` and ``after_failure`` -n is the n-th of these rows, counted from 1, before or behind it. UsageError
        names a circle. At most 10,000 rows, in a frame of at most a MiB: larger graphs go in layers, the later ones after ids of the
        earlier. What is refused for now is sent again for as long as the client waits for room.
        """
        if self._around:
            from tq.middleware import rows_through

            rows = rows_through(self._around, rows)
        args, room = graph_args(rows), Room(self.wait_for_room)
        while True:
            try:
                return cast("list[int]", self.call("enqueue", args)["ids"])
            except Refused as refused:
                pause = room.pause(refused)
                if pause is None:
                    raise
            time.sleep(pause)

    def retry_in_order(self, ids: Ids, **changes: Unpack[Changes]) -> Sequence[str]:
        """As ``retry``, but each task waits again for what it was sent to wait for, as far as that is not over; the ids of parents come
        before those of their children. "over": one of its parents did not end as it should, so it stays as it is."""
        return [word for args in _parts(ids_of(ids), changes) for word in self.call("retry", args)["outcomes"]]


class AsyncGraphVerbs:
    """The same for programs with an event loop."""

    wait_for_room: Duration
    _around: tuple[AroundSend, ...]

    async def call(self, verb: str, args: Body | None = None, timeout: float | None = None) -> Body:  # noqa: ASYNC109 - as its face has it
        raise NotImplementedError

    async def enqueue_graph(self, rows: Iterable[Row]) -> Sequence[int]:
        import asyncio

        if self._around:
            from tq.middleware import arows_through

            rows = await arows_through(self._around, rows)
        args, room = graph_args(rows), Room(self.wait_for_room)
        while True:
            try:
                return cast("list[int]", (await self.call("enqueue", args))["ids"])
            except Refused as refused:
                pause = room.pause(refused)
                if pause is None:
                    raise
            await asyncio.sleep(pause)

    async def retry_in_order(self, ids: Ids, **changes: Unpack[Changes]) -> Sequence[str]:
        return [word for args in _parts(ids_of(ids), changes) for word in (await self.call("retry", args))["outcomes"]]

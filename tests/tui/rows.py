"""A daemon's views for tests of paging: rows by number, an order that is pinned, every request written down."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from tq.errors import Refused

CREATED, ERROR = 7, 12


def row(number: int, state: str = "failed", **changes: Any) -> list[Any]:
    """A row as ``view`` and ``rows`` give it."""
    found = [number, state, "hook.push", "webhooks", 5, 3, 5, 1_000_000, 0, 0, 0, None, "TimeoutError: read", None, "w-01", False]
    for name, value in changes.items():
        found[{"type": 2, "queue": 3, "error": ERROR}[name]] = value
    return found


class Views:
    """Answers ``view page place rows news`` over ids from ``number`` down to 1. ``counted``: how many of them ``view`` and ``page`` know
    of until somebody asks from the end; ``held``: pages wait until ``release``."""

    def __init__(self, number: int, counted: int | None = None) -> None:
        self.ids = list(range(number, 0, -1)) if number <= 100_000 else range(number, 0, -1)
        self.counted = counted
        self.rows: dict[int, list[Any] | None] = {}
        self.calls: list[tuple[str, dict[str, Any]]] = []
        self.refuses: Exception | None = None
        self.held: asyncio.Event | None = None
        self.view = 0

    async def __call__(self, verb: str, args: dict[str, Any]) -> Any:
        self.calls.append((verb, args))
        if self.held is not None and verb == "page":
            await self.held.wait()
        if self.refuses is not None:
            raise self.refuses
        answer: Callable[[dict[str, Any]], Any] = getattr(self, f"_{verb}")
        return answer(args)

    def release(self) -> None:
        if self.held is not None:
            self.held.set()
            self.held = None

    def asked(self, verb: str) -> list[dict[str, Any]]:
        return [args for one, args in self.calls if one == verb]

    def add(self, *ids: int) -> None:
        """Tasks that came: a view made from now on has them first."""
        self.ids = [*ids, *self.ids]

    def _row(self, number: int) -> list[Any] | None:
        return self.rows[number] if number in self.rows else row(number)

    def _known(self) -> dict[str, Any]:
        exact = self.counted is None
        return {"total": len(self.ids) if self.counted is None else self.counted, "exact": exact}

    def _view(self, args: dict[str, Any]) -> Any:
        self.view += 1
        return {"view": self.view, "sort": args.get("sort", "-id"), **self._known()}

    def _check(self, args: dict[str, Any]) -> None:
        if args["view"] != self.view:
            raise Refused("view: there is none", gone=True)

    def _page(self, args: dict[str, Any]) -> Any:
        self._check(args)
        offset, limit = args["offset"], args["limit"]
        if offset < 0:
            offset, self.counted = len(self.ids) + offset, None
        rows = [self._row(number) for number in self.ids[offset : offset + limit]]
        done = offset + limit >= len(self.ids)
        if done:
            self.counted = None
        return {"rows": rows, "offset": offset, "done": done, **self._known()}

    def _place(self, args: dict[str, Any]) -> Any:
        self._check(args)
        return {"offset": self.ids.index(args["id"]) if args["id"] in self.ids else None}

    def _rows(self, args: dict[str, Any]) -> Any:
        return {"rows": [self._row(number) for number in args["ids"]]}


async def settled(times: int = 12) -> None:
    """Let everything run that can run without waiting for anything outside."""
    for _ in range(times):
        await asyncio.sleep(0)

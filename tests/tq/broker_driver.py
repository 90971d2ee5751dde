"""A broker under a clock turned by hand: requests in, decoded answers out, no socket and no process.

For: the broker's tests. ``Driver`` holds a store, a broker, and what each connection was told.
Not for: what stores promise (tests/tq/store).
Runs in: pytest.
Promises: a call is one turn unless it says otherwise; ``reopen`` is a power cut: only what was committed is left.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tq import wire
from tq.broker import Broker, Turn
from tq.intake import Defaults
from tq.store import Claimed, Limits, Store, TypeInfo, Want
from tq.store.lmdb import LmdbStore
from tq.store.memory import MemoryStore
from tq.waiting import Request

START = 1_700_000_000_000
STORES = {"memory": MemoryStore, "lmdb": LmdbStore}
ANY = float("inf")


class Driver:
    """``told[conn]`` is a list of (number, kind, body); ``turns`` all turns there were."""

    def __init__(self, kind: str, path: Path, limits: Limits = Limits(), defaults: Defaults = Defaults()) -> None:
        self.kind, self.path, self.limits, self.defaults = kind, path, limits, defaults
        self.now = START
        self.number = 0
        self.told: defaultdict[int, list[tuple[int, int, Any]]] = defaultdict(list)
        self.turns: list[Turn] = []
        self.seconds = 0.0
        self.tick_s = 0.0
        self.store: Store
        self.open()
        self.broker.put_types([TypeInfo("t"), TypeInfo("u")], self.now)

    def open(self) -> None:
        self.store = STORES[self.kind](self.path, self.limits)
        self.broker = Broker(self.store, self.limits, self.defaults, lambda: 0.5, self._clock)

    def _clock(self) -> float:
        self.seconds += self.tick_s
        return self.seconds + self.now / 1000

    def step(self, ms: int) -> None:
        """Put the wall clock forward, or back; no time passes."""
        self.now += ms
        self.seconds -= ms / 1000

    def reopen(self) -> None:
        """The daemon dies and another one starts."""
        self.store.close()
        self.told.clear()
        self.open()

    # -- asking ----------------------------------------------------------------------------------------------------

    def submit(self, verb: str, conn: int = 1, nonce: bytes | None = None, number: int | None = None, **args: Any) -> int:
        """Hand in a request for the next turn; its number."""
        if number is None:
            self.number += 1
            number = self.number
        self.broker.submit(Request(conn, number, verb, args, nonce))
        return number

    def turn(self, *wants: Want) -> Turn:
        turn = self.broker.turn(self.now, wants)
        self.turns.append(turn)
        for conn, data in turn.answers:
            frames = wire.Frames()
            frames.feed(data)
            (body,) = frames.take()
            self.told[conn].append(tuple(wire.message(body)))
        return turn

    def settle_down(self, most: int = 100) -> None:
        """Turn until there is nothing more to do at once."""
        for _ in range(most):
            if not (self.turn().busy or self.broker.waiting):
                return
        raise AssertionError(f"still busy after {most} turns")

    def answer(self, number: int, conn: int = 1) -> Any:
        """The one answer to a request, or None."""
        found = [body for got, kind, body in self.told[conn] if got == number and kind == wire.ANSWER]
        assert len(found) < 2
        return found[0] if found else None

    def error(self, number: int, conn: int = 1) -> Any:
        """(code, message, details) of the one error, or None."""
        found = [body for got, kind, body in self.told[conn] if got == number and kind == wire.ERROR]
        assert len(found) < 2
        return found[0] if found else None

    def events(self, number: int, conn: int = 1) -> list[Any]:
        return [body for got, kind, body in self.told[conn] if got == number and kind == wire.EVENT]

    def ask(self, verb: str, conn: int = 1, **args: Any) -> Any:
        """A request in a turn of its own; its answer. AssertionError shows an error."""
        number = self.submit(verb, conn, **args)
        self.turn()
        assert self.error(number, conn) is None, self.error(number, conn)
        return self.answer(number, conn)

    def refusal(self, verb: str, conn: int = 1, **args: Any) -> tuple[str, str]:
        """(code, message) of a request that must be refused."""
        number = self.submit(verb, conn, **args)
        self.turn()
        assert self.answer(number, conn) is None
        code, message, _ = self.error(number, conn)
        return code, message

    # -- tasks -----------------------------------------------------------------------------------------------------

    def add(self, count: int = 1, kind: str = "t", payload: bytes = b"", **options: Any) -> list[int]:
        found = self.ask("enqueue", tasks=[[kind, payload, options or None]] * count)["ids"]
        assert isinstance(found, list)
        return found

    def states(self, *ids: int) -> list[str]:
        return [task["state"] if task else "none" for task in self.ask("get", conn=999, ids=list(ids))["tasks"]]

    def row(self, task_id: int) -> Any:
        return self.ask("get", conn=999, ids=[task_id])["tasks"][0]

    def grant(self, limit: int = 1, worker: str = "w1") -> list[Claimed]:
        """What a local worker is given."""
        return [task for _, tasks in self.turn(Want(worker, limit, ANY)).grants for task in tasks]

    def result(self, task: Claimed, kind: object = 0, **outcome: Any) -> Sequence[Any]:
        """A worker's row."""
        return [task.id, task.claim, kind, self.now, self.now, False, outcome or None]

"""Batches: tasks that belong together, and the callbacks that are sent for what becomes of all of them.

For: ``batch batches wait_batch create_batch close_batch cancel_batch retry_batch remove_batch``; who may still be added to one; when
one is over, and which callbacks are due.
Not for: how many members stand where (store), handlers that take several tasks at once (tq.batch).
Runs in: the daemon, inside the broker's turn.
Promises: a callback is stored, and noted as sent, in the transaction of the end that it is about, so each comes at most once and
none is missed; one that is refused for now is owed, which is stored, and sent later. A batch that is not closed is never over, and
one that is over, or was cancelled, takes no more members.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Collection, Iterable, Mapping
from dataclasses import replace
from functools import partial
from typing import Any

from tq import query
from tq.arguments import arguments, between
from tq.broker.desk import Desk, Turn, Verb
from tq.errors import BatchOver, NoSuchBatch, Refused, StoreError, TqError, UsageError
from tq.intake import checked_options
from tq.model import BATCH_MARK, MAX_PAYLOAD, brief, pack
from tq.store import SCAN_MOST, BatchInfo, NoRoom
from tq.store.batches import PLACES
from tq.waiting import Request, Wait

EVENTS = ("failure", "complete", "success")
"""In the order in which callbacks are sent."""
CALLBACKS = {f"on_{event}": event for event in EVENTS}
OWED = "batch"
"""The kind of standing that says which batches have callbacks that could not be sent."""
AGAIN_MS = 1000
"""Until a callback that was refused is tried again."""
LOOKED_AT = 100
"""Where there are too many batches, so many of the oldest are looked at for some that are over."""
_NOT_THEIRS = frozenset({
    "key", "unique", "unique_policy", "debounce_ms", "debounce_most_ms", "throttle_ms", "after", "after_any", "after_failure",
    "on_parent_failure", "batch",
})  # fmt: skip
"""Options of tasks that callbacks do not have: they might be refused for ever, or be no new task."""
_log = logging.getLogger("tq.broker")


def is_over(info: BatchInfo) -> bool:
    """Whether nothing more will become of a batch by itself."""
    return not info.live and bool(info.closed_at or (info.auto and info.total))


def due(info: BatchInfo) -> list[str]:
    """The events whose callbacks are to be sent now."""
    over = is_over(info)
    came = {"failure": info.hit, "complete": over, "success": over and info.counts[PLACES.index("succeeded")] == info.total}
    return [event for event in EVENTS if came[event] and event in info.callbacks and event not in info.sent]


def state_of(info: BatchInfo) -> str:
    """open (it waits for more), running (members are not over) or complete."""
    return "complete" if is_over(info) else "running" if info.closed_at else "open"


def shown(info: BatchInfo, owed: Iterable[str] = ()) -> dict[str, Any]:
    """A batch as it travels to clients; ``owed`` are the events whose callbacks are to be sent."""
    callbacks = {f"on_{event}": [info.callbacks[event][0], info.sent.get(event)] for event in EVENTS if event in info.callbacks}
    return {
        "id": info.number, "name": info.name or None, "state": state_of(info), "auto": info.auto, "meta": dict(info.meta),
        "created_at": info.created_at, "closed_at": info.closed_at, "cancelled_at": info.cancelled_at,
        "finished_at": info.finished_at, "total": info.total,
        **dict(zip(PLACES, info.counts, strict=True)), "callbacks": callbacks, "owed": [f"on_{event}" for event in owed],
    }  # fmt: skip


class Batches:
    """``most``: how many there may be."""

    def __init__(self, desk: Desk, most: int) -> None:
        self._desk, self._most = desk, max(most, 1)
        self._owed = {int(name): tuple(map(str, row)) for name, row in desk.store.standings(OWED).items()}
        self._again_at = 0
        desk.intake.admit = self._admit
        self.writes: dict[str, Verb] = {
            "create_batch": self._create, "close_batch": self._close, "cancel_batch": self._cancel, "retry_batch": self._retry,
            "remove_batch": self._remove,
        }  # fmt: skip
        self.reads: dict[str, Verb] = {"batch": self._batch, "batches": self._list, "wait_batch": self._wait}

    # -- members and callbacks -------------------------------------------------------------------------------------

    def _admit(self, numbers: Collection[int]) -> None:
        """NoSuchBatch or BatchOver unless tasks may be added to these."""
        for number in numbers:
            info = self._named(number)
            if info.cancelled_at:
                raise BatchOver(
                    f"batch {number}: expected one that takes members, but it was cancelled. Nothing was stored. "
                    f"Create another, or take that back: `tq batch retry {number}`.",
                    id=number,
                )
            if is_over(info):
                raise BatchOver(
                    f"batch {number}: expected one that is open or has a member that is not over, but it is complete. Nothing was stored. "
                    "Create another, or add members before it is closed, or from inside of one.",
                    id=number,
                )

    @property
    def next_due(self) -> float | None:
        """The instant (ms) at which what is owed is tried again."""
        return self._again_at if self._owed else None

    def owes(self) -> bool:
        """Whether what is owed is to be tried now."""
        return bool(self._owed) and self._desk.now >= self._again_at

    def look(self, turn: Turn) -> None:
        """Send the callbacks that are due by what has happened in this turn until now."""
        numbers = self._desk.store.touched()
        if self.owes():
            turn.later.append(partial(setattr, self, "_again_at", self._desk.now + AGAIN_MS))
            numbers = sorted({*numbers, *self._owed})
        for number in numbers:
            info = self._desk.store.batch(number)
            if info is not None:
                self._follow(info, turn)
            elif number in self._owed:
                self._owes(number, turn, ())
        if numbers:
            self._desk.store.touched()  # its own words

    def _follow(self, info: BatchInfo, turn: Turn) -> None:
        store, now, new = self._desk.store, self._desk.now, info
        if is_over(info):
            new = replace(info, closed_at=info.closed_at or now, finished_at=info.finished_at or now)
            turn.complete.append(info.number)
        elif info.finished_at:
            new = replace(info, finished_at=0)
        refused = []
        for event in self._due(new):
            task_id = self._send(new, event, turn)
            if task_id:
                new = replace(new, sent={**new.sent, event: task_id})
            else:
                refused.append(event)
        if new != info:
            store.put_batch(new)
        self._owes(info.number, turn, tuple(refused))

    def _due(self, info: BatchInfo) -> list[str]:
        """What is to be sent now: what was refused once is due whatever has become of the batch since."""
        found = {*due(info), *self._owed.get(info.number, ())}
        return [event for event in EVENTS if event in found and event not in info.sent]

    def _owes(self, number: int, turn: Turn, events: tuple[str, ...]) -> None:
        """Callbacks of a batch could not be sent, or there is none any more that could not."""
        if events != self._owed.get(number, ()):
            self._desk.store.put_standing(OWED, str(number), events or None)
            turn.later.append(partial(self._remember, number, events))
        if events:
            turn.later.append(partial(setattr, self, "_again_at", self._desk.now + AGAIN_MS))

    def _remember(self, number: int, events: tuple[str, ...]) -> None:
        self._owed.pop(number, None)
        if events:
            self._owed[number] = events

    def _send(self, info: BatchInfo, event: str, turn: Turn) -> int:
        """Store a callback's task: its id; 0: it is refused for now."""
        desk, (kind, payload, options) = self._desk, info.callbacks[event]
        options = {**(options or {}), "allow_unknown": True}
        options["extras"] = {**(options.get("extras") or {}), BATCH_MARK: [info.number, event]}
        try:
            drafts, _ = desk.intake.drafts([[kind, payload, options]], desk.now)
            (task_id,) = desk.store.enqueue(drafts)
        except (NoRoom, StoreError):
            raise
        except TqError as error:
            if info.number not in self._owed:
                _log.warning("batch %d: its callback on_%s is tried again later: %s", info.number, event, error.message)
            return 0
        turn.steps.append(("added", [(task_id, drafts[0])]))
        turn.stirred = True
        return task_id

    # -- verbs -----------------------------------------------------------------------------------------------------

    def _named(self, number: int) -> BatchInfo:
        info = self._desk.store.batch(number) if 0 < number < 1 << 63 else None
        if info is None:
            raise NoSuchBatch(f"expected the id of a batch, got {number}: there is none, or it was removed. `tq batch list` shows them.")
        return info

    def _asked(self, request: Request) -> BatchInfo:
        return self._named(arguments(request.verb, request.args, "id", id=int)["id"])

    def _create(self, request: Request, turn: Turn) -> dict[str, Any]:
        args = arguments(request.verb, request.args, name=str, meta=dict, auto=bool, again=bool, **dict.fromkeys(CALLBACKS, list))
        meta = checked_options({"meta": args["meta"]})["meta"] if args.get("meta") else {}
        callbacks = {event: self._callback(word, args[word]) for word, event in CALLBACKS.items() if word in args}
        once = request.nonce + request.number.to_bytes(8, "big") if request.nonce else b""
        if args.get("again") and once:
            known = (info.number for info in self._desk.store.batches(None, SCAN_MOST) if info.request == once)
            if (number := next(known, 0)) != 0:
                return {"id": number}
        self._make_room()
        info = BatchInfo(0, args.get("name", ""), self._desk.now, bool(args.get("auto")), meta, callbacks, once)
        return {"id": self._desk.store.put_batch(info).number}

    def _callback(self, word: str, row: list[Any]) -> list[Any]:
        """A callback as it is kept; UsageError if it could not be sent."""
        options = row[2] if len(row) == 3 else None
        if not 2 <= len(row) <= 3 or not isinstance(options, dict | None):
            raise UsageError(f"{word}: expected a task, [type, payload, options], got {brief(row)}.")
        given = {name: value for name, value in (options or {}).items() if value is not None}
        if wrong := sorted(map(str, given.keys() & _NOT_THEIRS)):
            raise UsageError(f"{word}: expected a task without {wrong[0]}, which a callback cannot have. Drop it.")
        if isinstance(extras := given.get("extras"), dict) and extras.get("stdin") is not None:
            raise UsageError(f"{word}: expected a command that reads no standard input of its sender, got one that does.")
        if len(pack([row[0], row[1], given])) > MAX_PAYLOAD:
            raise UsageError(f"{word}: expected a task of at most {MAX_PAYLOAD} bytes with all its options, got a larger one.")
        try:
            self._desk.intake.drafts([[row[0], row[1], given]], self._desk.now)
        except TqError as error:
            error.message = f"{word}: {error.message}"
            raise
        return [row[0], row[1], given]

    def _make_room(self) -> None:
        """Forget the oldest that is over where there are too many. Refused: none is."""
        store = self._desk.store
        if store.batch_count() < self._most:
            return
        for count in (1, LOOKED_AT):
            for info in store.batches(None, count, oldest=True):
                if is_over(info) and not self._due(info):
                    store.drop_batch(info.number)
                    return
        raise Refused(
            f"expected at most {self._most} batches, and the oldest are not complete. Close, cancel or remove some: `tq batch list`.",
            retry_after=5.0,
        )

    def _close(self, request: Request, turn: Turn) -> dict[str, Any]:
        info = self._asked(request)
        if not info.closed_at:
            info = self._desk.store.put_batch(replace(info, closed_at=self._desk.now))
        return {"batch": shown(info, self._due(info))}

    def _cancel(self, request: Request, turn: Turn) -> dict[str, Any]:
        """Its members that are not over, by a chore; and nobody adds to it any more, not even those that still run."""
        info, desk = self._asked(request), self._desk
        if not info.cancelled_at and not (info.closed_at and is_over(info)):
            desk.store.put_batch(replace(info, closed_at=info.closed_at or desk.now, cancelled_at=desk.now))
        chore = self._chore("cancel", info, "state:scheduled,blocked,pending,running,retrying", {}, turn) if info.live else None
        desk.note(request, "cancel", f"batch {info.number}", None, {"chore": chore})
        return {"chore": chore}

    def _retry(self, request: Request, turn: Turn) -> dict[str, Any]:
        """Its members that are over and did not succeed, by a chore."""
        info = self._asked(request)
        if info.cancelled_at:
            info = self._desk.store.put_batch(replace(info, cancelled_at=0))
        lost = info.total - info.live - info.counts[PLACES.index("succeeded")]
        chore = self._chore("retry", info, "state:failed,cancelled,expired", {"in_order": True}, turn) if lost else None
        self._desk.note(request, "retry", f"batch {info.number}", None, {"chore": chore})
        return {"chore": chore}

    def _chore(self, verb: str, info: BatchInfo, states: str, changes: Mapping[str, Any], turn: Turn) -> int:
        where = query.parse(f"batch:{info.number} id:{info.first}..{info.last} {states}")
        turn.busy = True
        return self._desk.chores.accept(verb, where, changes, self._desk.now)

    def _remove(self, request: Request, turn: Turn) -> dict[str, Any]:
        info = self._asked(request)
        if info.live:
            raise UsageError(
                f"batch {info.number}: expected one whose members are over, but {info.live} are not. Wait, or cancel it first: "
                f"`tq batch cancel {info.number}`."
            )
        self._desk.store.drop_batch(info.number)
        turn.complete.append(info.number)  # who waits for it hears that it is gone
        self._owes(info.number, turn, ())
        self._desk.note(request, "removed", f"batch {info.number}", shown(info), None)
        return {}

    def _batch(self, request: Request, turn: Turn) -> dict[str, Any]:
        return {"batch": shown(info := self._asked(request), self._due(info))}

    def _list(self, request: Request, turn: Turn) -> dict[str, Any]:
        """Newest first."""
        args = arguments(request.verb, request.args, before=int, limit=int)
        limit = between(args.get("limit", 50), 1, SCAN_MOST, "limit")
        before = between(args["before"], 1, (1 << 63) - 1, "before") if "before" in args else None
        return {"batches": [shown(info, self._due(info)) for info in self._desk.store.batches(before, limit)]}

    def _wait(self, request: Request, turn: Turn) -> dict[str, Any] | None:
        args, desk = arguments(request.verb, request.args, "id", id=int, timeout_ms=int), self._desk
        info, timeout = self._named(args["id"]), args.get("timeout_ms")
        if is_over(info) or (timeout is not None and timeout <= 0):
            return self.answer(info.number)
        desk.waiting.check(request.conn)
        until = math.inf if timeout is None else desk.now + timeout
        # Among tasks, whose ids are above 0, a batch is waited for under its number below 0.
        turn.later.append(partial(desk.waiting.park, Wait(request, [-info.number], {-info.number}, False, until)))
        return None

    def answer(self, number: int) -> dict[str, Any]:
        """Of ``wait_batch``: how it stands, and whether it is over."""
        info = self._named(number)
        return {"batch": shown(info, self._due(info)), "done": is_over(info)}

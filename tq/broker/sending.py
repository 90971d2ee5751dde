"""Sending: accepting tasks, and what happens to one whose name is taken.

For: ``enqueue``; idempotency keys (the same request twice is one task), unique names (one live task about one thing), and names of
     what is sent again and again: debounce (the last of them, when no more come) and throttle (the first of them in a time).
Not for: checking the rows (intake), limits (store).
Runs in: the daemon, inside the broker's turn.
Promises: all tasks of a request are stored or none; names are looked up and taken in one transaction, so two senders
never both win; a request repeated after a lost answer gives the ids it gave the first time.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from tq import lifecycle
from tq.answers import Pairs
from tq.arguments import arguments
from tq.broker.desk import Desk, Turn, Undone, Verb
from tq.broker.families import Families
from tq.errors import Conflict, StoreError, TqError
from tq.model import WAITING, State
from tq.store import SCAN_MOST, Draft, Holder, KeyRef, Loan, RequestId, places_filled
from tq.waiting import Request

U64 = struct.Struct(">Q")
DAY_MS = 86_400_000
"""How long the name of a debounced task is kept, at the least, for one that waits behind others when its time has come."""


class Sending:
    def __init__(self, desk: Desk, families: Families) -> None:
        self._desk = desk
        self._families = families
        self.writes: dict[str, Verb] = {"enqueue": self._enqueue}

    def _enqueue(self, request: Request, turn: Turn) -> dict[str, Any]:
        args = arguments(request.verb, request.args, "tasks", tasks=list, options=dict, again=bool)
        desk = self._desk
        drafts, policies = desk.intake.drafts(args["tasks"], desk.now, args.get("options"))
        once = RequestId(request.nonce, request.number, bool(args.get("again"))) if request.nonce else None
        sent = desk.store.sent(once) if once is not None and once.again else None
        if sent is not None:
            return {"ids": list(sent), **({"existing": []} if policies else {})}
        turn.stirred = True
        if not policies:
            drafts, lost = self._met(drafts, self._next_ids(drafts))
            ids: Sequence[int] = desk.store.enqueue(drafts, once)
            body: dict[str, Any] = {"ids": list(ids)}
        else:
            body = self._named(drafts, policies, once, turn)
            ids, drafts, lost = body.pop("new"), body.pop("drafts"), body.pop("lost")
        for parent, state in lost.items():
            desk.are_over([parent], state, turn)
        if ids:
            turn.steps.append(("added", list(zip(ids, drafts, strict=True)) if len(ids) < SCAN_MOST else Pairs(list(ids), drafts)))
        return body

    def _met(self, drafts: list[Draft], given: Sequence[int]) -> tuple[list[Draft], dict[int, State]]:
        """As ``Families.meet``, for the drafts that were taken in last."""
        return self._families.meet(drafts, given) if self._desk.intake.waiting else (drafts, {})

    def _next_ids(self, drafts: Sequence[Draft]) -> range:
        """The ids that the store will give these."""
        first = self._desk.store.last_id() + 1
        return range(first, first + len(drafts))

    def _named(self, drafts: Sequence[Draft], policies: dict[int, str], once: RequestId | None, turn: Turn) -> dict[str, Any]:
        """Store those whose names are free. ``new`` are the ids of ``drafts``, those that were stored; ``lost`` is of ``meet``."""
        store = self._desk.store
        places: list[int] = []
        firsts: dict[KeyRef, int] = {}  # names taken by this very request: by which of its new drafts
        replaced: list[int] = []
        fresh: list[Draft] = []
        named = [_names_of(draft) for draft in drafts]
        pushed: dict[int, Draft] = {}
        holders = iter(store.holders([name for names in named for name in names]))
        for at, (draft, names) in enumerate(zip(drafts, named, strict=True)):
            policy, place = policies.get(at, "reject"), 0
            for name in names:
                holder = next(holders)
                if not place and name in firsts:
                    place = self._twin(draft, name, firsts[name], policy, fresh)
                elif not place and holder is not None:
                    place = self._taken(draft, name, holder, policy, replaced) if draft.pace is None else self._paced(draft, holder, pushed)
            places.append(place)
            if not place:
                for name in names:
                    firsts[name] = len(fresh)
                fresh.append(draft)
        self._make_way(replaced, turn)  # first: only then is the name free, and what is replaced no parent that anybody waits for
        try:
            fresh, lost = self._met(fresh, places_filled(self._next_ids(fresh), places))
            ids = list(store.enqueue(fresh, once, places))
        except TqError as error:
            raise Undone(error) if replaced and not isinstance(error, StoreError) else error from None
        given = [task_id for task_id, place in zip(ids, places, strict=True) if not place]
        self._keep_pace(given, fresh, pushed, turn)
        return {"ids": ids, "existing": [at for at, place in enumerate(places) if place], "new": given, "drafts": fresh, "lost": lost}

    def _paced(self, draft: Draft, holder: Holder, pushed: dict[int, Draft]) -> int:
        """The id of the task that stands for a draft of the same name, 0 if the time for that is over; a debounced one is ``pushed``."""
        pace, now = draft.pace, self._desk.now
        if pace is None:
            return 0
        if not pace.debounce:
            return holder.id if now < U64.unpack(holder.digest)[0] + pace.period_ms else 0
        task = self._desk.one(holder.id)
        if task is None or task.state not in WAITING:
            return 0
        pushed[holder.id] = draft
        return holder.id

    def _keep_pace(self, given: Sequence[int], fresh: Sequence[Draft], pushed: Mapping[int, Draft], turn: Turn) -> None:
        """Have new tasks hold their names for a time, and those that others were sent to take the place of be what came last, later."""
        desk = self._desk
        now = desk.now
        loans = [
            Loan(pace.name, task_id, U64.pack(now), now + pace.period_ms + ((pace.most_ms or DAY_MS) + DAY_MS if pace.debounce else 0))
            for task_id, draft in zip(given, fresh, strict=True)
            if (pace := draft.pace) is not None
        ]
        try:
            if loans:
                desk.store.hold_names(loans)
            for task_id, draft in pushed.items():
                task = desk.one(task_id)
                if task is not None and (pace := draft.pace) is not None:
                    latest = task.spec.created_at + pace.most_ms if pace.most_ms else draft.due_at
                    change = lifecycle.edit(task, replace(task.spec, payload=draft.payload), min(draft.due_at, latest), now)
                    if change is not None:
                        desk.carry_out(change, turn)
        except TqError as error:  # a queue without room for what grows, say: the tasks before it are stored already
            raise error if isinstance(error, StoreError) else Undone(error) from None

    def _make_way(self, replaced: Sequence[int], turn: Turn) -> None:
        """Cancel the tasks whose names others take."""
        desk = self._desk
        for start in range(0, len(replaced), SCAN_MOST):
            tasks = desk.store.get(replaced[start : start + SCAN_MOST])
            desk.carry_out_all([change for task in tasks if task is not None and (change := lifecycle.cancel(task, desk.now))], turn)

    def _twin(self, draft: Draft, name: KeyRef, first: int, policy: str, fresh: list[Draft]) -> int:
        """The place of a draft whose name another of its request has, the one at ``first`` of ``fresh``. Conflict if it is another task."""
        twin = fresh[first]
        if name.kind == "key":
            same = twin.digest == draft.digest
        elif name.kind == "pace":
            same = twin.pace is not None and draft.pace is not None and twin.pace.debounce == draft.pace.debounce
            if same and draft.pace is not None and draft.pace.debounce:
                fresh[first] = draft
        else:
            same = policy == "existing"
            if policy == "replace" and (twin.header.key, twin.header.unique) == (draft.header.key, draft.header.unique):
                fresh[first], same = draft, True  # it waits, so the later one takes its place
        if not same:
            raise Conflict(
                f"{name.kind} {name.name!r} of type {name.type!r}: expected one task of that name in a request, got two different ones. "
                "Nothing was stored. Give each a name of its own, or send them one after the other.",
            )
        return -1 - first

    def _taken(self, draft: Draft, name: KeyRef, holder: Holder, policy: str, replaced: list[int]) -> int:
        """The id of the task that a draft already is; 0 if it takes its place. Conflict if it may neither."""
        if name.kind == "key":
            if holder.digest == draft.digest:
                return holder.id
            raise Conflict(
                f"key {name.name!r} of type {name.type!r}: expected the request that task {holder.id} was sent with, got another. "
                "Nothing was stored. Use a key of its own for each request.",
                id=holder.id,
            )
        if policy == "existing":
            return holder.id
        (runs,) = self._desk.store.running([holder.id])
        if policy == "replace" and runs is None:
            replaced.append(holder.id)
            return 0
        task = self._desk.one(holder.id)
        state = task.state.word if task is not None else "unknown"
        what = "runs already and cannot be replaced" if policy == "replace" else f"is {state}"
        raise Conflict(
            f"unique {name.name!r} of type {name.type!r}: expected no live task of that name, but task {holder.id} {what}. "
            "Nothing was stored. Wait for it, or take the existing one (--on-conflict existing).",
            id=holder.id,
        )


def _names_of(draft: Draft) -> list[KeyRef]:
    if draft.pace is not None:
        return [draft.pace.name]
    head = draft.header
    return [KeyRef(kind, head.type, name) for kind, name in (("key", head.key), ("unique", head.unique)) if name]

"""Claims: handing tasks to the pool and to consumers, and what consumers say of theirs.

For: ``claim``, ``extend``, ``settle``, ``release``; the grants at a turn's end.
Not for: who is next (store), feeding workers (pool).
Runs in: the daemon, inside the broker's turn.
Promises: an answer to a claim fits a frame, and what was read beyond it goes back uncharged; a consumer that waits is
served in the commit of the enqueue that it waited for; a command whose environment cannot be read fails, and holds up nobody.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from tq import wire
from tq.answers import environment_for, handed_out
from tq.arguments import arguments, between, claim_of, claims_of, results_of, some_names
from tq.broker.desk import Desk, Turn, Verb
from tq.errors import UsageError
from tq.store import SCAN_MOST, Claimed, Want
from tq.waiting import Claim, Request

LEASE_MS = 30_000
MAX_LEASE_MS = 86_400_000
CLAIM_BYTES = wire.MAX_FRAME - (16 << 10)
CLAIM_FIRST = 8
"""A consumer's claim is looked up in growing steps, so that few tasks are read beyond what its answer holds."""
TASK_BYTES = 512
"""What an answer to a claim says of a task beside its record."""

Handed = tuple[Claimed, bytes | None]
"""A task and, if it is a command that has one, its environment."""


class Consumers:
    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self.writes: dict[str, Verb] = {
            "claim": self._claim, "extend": self._extend, "settle": self._settle, "release": self._release,
        }  # fmt: skip

    def grant(self, turn: Turn, wants: Sequence[Want]) -> bool:
        """Claims for consumers that wait, then for the pool's slots. True: there may be more for those that wait, in a next turn."""
        waiting, more = self._desk.waiting, False
        for claim in waiting.claims:
            tasks, cut_short = self._take(claim.want, turn)
            more = more or cut_short
            if tasks:
                self._answer_claim(claim.request, claim.want, tasks, turn)
                turn.later.append(partial(waiting.served, claim))
        for want in wants:
            got = self._claimed(want, turn)
            if want.fill and got and got[-1].header.type in want.fill:
                got = self._filled(want, got, turn)
            if got:
                turn.grants.append((want, got))
                turn.steps.append(("claimed", got))
        return more

    def _filled(self, want: Want, got: list[Claimed], turn: Turn) -> list[Claimed]:
        """With the others of a batch: the first of its tasks was next, and so all that its call takes are."""
        kind = got[-1].header.type
        more = want.fill[kind] - sum(task.header.type == kind for task in got)
        if more <= 0 or got[-1].crashes:
            return got
        others = replace(want, limit=more, budget_ms=math.inf, types=frozenset({kind}), at_once=0)
        return [*got, *self._claimed(others, turn)]

    def _claimed(self, want: Want, turn: Turn) -> list[Claimed]:
        """What the store gives, of types whose breakers let it, and limits of its worker."""
        gate, each = self._desk.gate, self._desk.each_worker
        claim = self._desk.store.claim if gate is None else lambda part: gate(part, turn)
        return claim(want) if each is None else each(want, claim, turn)

    def _take(self, want: Want, turn: Turn) -> tuple[list[Handed], bool]:
        """Claim for a consumer, no more than its answer holds; what was read beyond that goes back uncharged.

        Commands that cannot be run fail instead; True: so many that it was cut short.
        """
        taken: list[Handed] = []
        ends: list[Sequence[Any]] = []
        step, size, fit = CLAIM_FIRST, 0, 0
        while len(taken) < want.limit and fit == len(taken) and len(ends) < SCAN_MOST:
            most = min(step, want.limit - len(taken))
            got = self._claimed(replace(want, limit=most), turn)
            for task in got:
                environment, failed = environment_for(task.header, self._desk.store.environment)
                if failed:
                    ends.append([task.id, task.claim, "failed", 0, 0, False, failed])
                    continue
                taken.append((task, environment))
                size += len(task.record) + len(environment or b"") + TASK_BYTES
                fit += size <= CLAIM_BYTES or not fit
            if len(got) < most:
                break
            step *= 2
        cut_short = len(ends) >= SCAN_MOST
        ends += [[task.id, task.claim, "released", 0, self._desk.now, False, None] for task, _ in taken[fit:]]
        if ends:
            self._desk.settle_rows(ends, turn)
        return taken[:fit], cut_short

    def _answer_claim(self, request: Request, want: Want, tasks: Sequence[Handed], turn: Turn) -> None:
        body = {"tasks": [handed_out(task, want.lease_ms, environment) for task, environment in tasks]}
        turn.answers.append((request.conn, wire.frame([request.number, wire.ANSWER, body])))
        turn.steps.append(("claimed", [task for task, _ in tasks]))

    def _claim(self, request: Request, turn: Turn) -> None:
        args = arguments(request.verb, request.args, queues=list, types=list, limit=int, wait_ms=int, lease_ms=int)
        queues, types = args.get("queues"), args.get("types")
        limit = between(args.get("limit", 1), 1, SCAN_MOST, "limit")
        lease_ms = between(args.get("lease_ms", LEASE_MS), 100, MAX_LEASE_MS, "lease_ms")
        if not queues and not types:
            raise UsageError("claim: expected queues or types, at least one name, got neither.")
        names = some_names(queues, "queues"), some_names(types, "types")
        wait_ms = between(args.get("wait_ms", 0), 0, MAX_LEASE_MS, "wait_ms")
        waiting = self._desk.waiting
        waiting.check(request.conn)
        want = Want(f"consumer-{request.conn}", limit, math.inf, queues=names[0], types=names[1], lease_ms=lease_ms)
        tasks, _ = self._take(want, turn)
        if not tasks and wait_ms:
            turn.later.append(partial(waiting.park, Claim(request, want, self._desk.now + wait_ms)))
            return
        self._answer_claim(request, want, tasks, turn)

    def _extend(self, request: Request, turn: Turn) -> dict[str, Any]:
        args = arguments(request.verb, request.args, "id", "claim", id=int, claim=int, lease_ms=int)
        lease_ms = between(args.get("lease_ms", LEASE_MS), 100, MAX_LEASE_MS, "lease_ms")
        return {"ok": self._desk.store.extend(*claim_of("extend", args["id"], args["claim"]), lease_ms)}

    def _settle(self, request: Request, turn: Turn) -> dict[str, Any]:
        now = self._desk.now
        turn.stirred = True  # a slot of its queue is free, for who was told a moment ago that there is none
        results = results_of(arguments(request.verb, request.args, "results", results=list)["results"])
        tasks = self._desk.store.get([task_id for task_id, *_ in results])
        rows: list[Sequence[Any]] = []
        for (task_id, claim, kind, details), task in zip(results, tasks, strict=True):
            since = task.status.started_at if task is not None else now
            won = kind == "succeeded"
            rows.append([task_id, claim, 0 if won else kind, since, now, False, details["result"] if won else details])
        return {"settled": self._desk.settle_rows(rows, turn) if rows else []}

    def _release(self, request: Request, turn: Turn) -> dict[str, Any]:
        claims = claims_of(request.verb, arguments(request.verb, request.args, "claims", claims=list)["claims"])
        rows = [[task_id, claim, "released", 0, self._desk.now, False, None] for task_id, claim in claims]
        return {"released": self._desk.settle_rows(rows, turn) if rows else []}

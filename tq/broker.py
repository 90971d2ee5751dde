"""The broker: turns what arrived into one transaction, and says afterwards what to answer.

For: the verbs that read or change tasks; group commit; who waits for what.
Not for: sockets, processes, clocks, files: requests and results come in as values, answers and claims go out as values.
Runs in: the daemon, on the thread of its loop; the same in tests, under a hand-turned clock.
Promises: nothing is answered, handed out or published before the commit that holds it; within a turn the pool's
settles come first, then each connection's requests in order, then what is due, a slice of chores, and claims last; a
request that fails changes nothing and harms no neighbour. One turn is one commit; without changes there is none.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from operator import itemgetter
from time import monotonic
from typing import Any

from tq import lifecycle, wire
from tq.answers import BAD_RESULT, DAEMON_DIED, LAPSED, Pairs, answer, error_answer, fitting, handed_out, outcome_of, rows_of
from tq.arguments import arguments, between, claim_of, claims_of, named, results_of, some_names, some_states, task_ids
from tq.chores import Chores
from tq.errors import Refused, StoreDamaged, StoreError, TqError, UsageError
from tq.intake import Defaults, Intake
from tq.lifecycle import Outcome
from tq.lists import Lists
from tq.model import State
from tq.stats import stats
from tq.store import SCAN_MOST, Claimed, Limits, Query, QueueInfo, RequestId, Store, TypeInfo, Want
from tq.waiting import Claim, Inbox, Request, Wait, Waiting

SLICE_S = 0.002
"""How long a turn may work on chores, and on long reads."""
TURN_S = 0.004
"""How long a turn serves requests before it commits; the rest is the next group."""
AGAIN_MS = 1000
"""Until what could not be committed is tried again: ends without room, or a turn's own work."""
DUE_MOST = 256
CLOCK_BACK_MS = 3_600_000
"""A clock that steps back less than this stands still until it has caught up; further, it is followed."""
RETAIN_EACH = 64
"""Ends after which a turn looks at what is kept: looking at each would cost a trickle as much as storing it."""
RETAIN_EVERY_MS = 3_600_000
LEASE_MS = 30_000
MAX_LEASE_MS = 86_400_000
CLAIM_BYTES = wire.MAX_FRAME - (16 << 10)
CLAIM_FIRST = 8
"""A consumer's claim is looked up in growing steps, so that few tasks are read beyond what its answer holds."""
TASK_BYTES = 512
"""What an answer to a claim says of a task beside its record."""

_SUCCESS = itemgetter(0, 1, 3, 4, 5, 6)
"""A worker's row as the store takes it (see Success)."""
_log = logging.getLogger("tq.broker")


Step = tuple[str, Sequence[Any]]
"""For the log: an event and what it happened to; see ``describe``."""


@dataclass(slots=True)
class Turn:
    """What one turn did, to be acted on after it."""

    answers: list[tuple[int, bytes]] = field(default_factory=list)
    grants: list[tuple[Want, list[Claimed]]] = field(default_factory=list)
    steps: list[Step] = field(default_factory=list)
    ended: list[tuple[int, str, int | None]] = field(default_factory=list)
    removed: list[int] = field(default_factory=list)
    stirred: bool = False  # something may have become claimable
    busy: bool = False  # more to do at once
    later: list[Callable[[], None]] = field(default_factory=list)  # changes of the broker's own memory, after the commit


class Broker:
    """The deciding object. ``submit`` and ``settled`` gather; ``turn`` does the work."""

    def __init__(
        self,
        store: Store,
        limits: Limits = Limits(),
        defaults: Defaults = Defaults(),
        chance: Callable[[], float] = lambda: 0.5,
        clock: Callable[[], float] = monotonic,
    ) -> None:
        self._store = store
        self._limits = limits
        self._chance = chance
        self._clock = clock  # seconds; only bounds slices of long work
        self._intake = Intake(defaults, store.types, store.queues)
        self._inbox = Inbox()
        self.full = self._inbox.full
        self._settles: list[Sequence[Any]] = []
        self._stirred = False
        self._removed: list[int] = []  # tasks with output that were forgotten before anybody listened
        self.owed: list[Sequence[Any]] = []  # ends for which the store had no room
        self._again_at = 0
        self._lists = Lists(clock)
        self._chores = Chores(store, clock)
        self._waiting = Waiting()
        self._now = 0
        self._retain_at = 0
        self._unkept = 0  # ends and requests since retention was last looked at
        self.followed: set[int] = set()
        """Tasks whose end the daemon wants to see in ``Turn.ended``."""
        self.slots: Callable[[], tuple[int, int]] = lambda: (0, 0)
        """Slots that run a task, slots in all: the daemon's to say."""
        self._reads: dict[str, Callable[[Request, Turn], dict[str, Any] | None]] = {
            "get": self._get, "find": self._find, "peek": self._peek, "wait": self._wait, "stats": self._stats,
            "queues": self._queues, "types": self._types, "chores": self._chores_list, "watch": self._watch,
        }  # fmt: skip
        self._writes: dict[str, Callable[[Request, Turn], dict[str, Any] | None]] = {
            "enqueue": self._enqueue, "claim": self._claim, "extend": self._extend, "settle": self._settle,
            "release": self._release, "cancel": self._cancel, "set_queue": self._set_queue,
        }  # fmt: skip
        self.verbs = frozenset(self._reads) | frozenset(self._writes)

    def submit(self, request: Request) -> None:
        """Take a request for the next turn."""
        self._inbox.add(request)

    def settled(self, rows: Iterable[Sequence[Any]]) -> None:
        """Take results from the pool: ``[id, claim, 0 or kind, started_at, finished_at, output, result or outcome map]``."""
        self._settles.extend(rows)

    def gone(self, conn: int) -> None:
        """A connection is closed: nobody waits there any more. What it asked to be changed before still is."""
        self._inbox.gone(conn, lambda one: one.verb in self._writes and one.verb != "claim")
        self._lists.gone(conn)
        self._waiting.gone(conn)

    def holds(self, conn: int) -> bool:
        """Whether the connection has an answer or events to expect."""
        return self._inbox.holds(conn) or self._lists.holds(conn) or self._waiting.holds(conn)

    @property
    def waiting(self) -> bool:
        """Whether a turn has something to do now."""
        return bool(self._inbox or self._settles)

    def in_hurry(self, now: int) -> bool:
        """Whether ends that have come in must be stored now: somebody waits for them, or there is other work for a turn."""
        due = self.next_due
        return (
            bool(self._inbox or self._lists or self.followed)
            or self._waiting.for_ends
            or self._store.ready()
            or bool(self._store.chores())
            or (due is not None and due <= now)
        )

    def put_types(self, types: Sequence[TypeInfo], now: int) -> None:
        """Remember what a hello named, if it is new; its own commit, since the daemon waits for it. Refused: no room."""
        known = self._store.types()
        fresh = [info for info in types if known.get(info.name) != named(info)]
        if not fresh:
            return
        self._store.begin(max(now, self._now))
        try:
            self._store.put_types(fresh)
            self._store.commit()
        except Refused:
            self._store.abort()
            raise
        self._intake.forget()

    def recover(self, begun: Callable[[int, int], bool], now: int) -> tuple[int, int]:
        """Settle what local workers held when the daemon died: (interrupted, released). Before the first claim.

        ``begun(id, claim)`` says whether the worker had begun it; what had not is given back uncharged.
        """
        held = [one for one in self._store.held() if not one.lease_ms]
        interrupted = 0
        self._now = max(now, self._now)
        for start in range(0, len(held), SCAN_MOST):
            rows: list[Sequence[Any]] = []
            for one in held[start : start + SCAN_MOST]:
                cut = begun(one.id, one.claim)
                interrupted += cut
                kind, error = ("interrupted", DAEMON_DIED) if cut else ("released", None)
                rows.append([one.id, one.claim, kind, one.claimed_at, now, False, {"error": error}])
            self._settles = [*rows]
            self._removed += self.turn(now, ()).removed
        return interrupted, len(held) - interrupted

    def turn(self, now: int, wants: Sequence[Want]) -> Turn:
        """One turn at ``now`` (ms since the epoch); ``wants`` are the pool's free slots. StoreError ends the daemon."""
        if now < self._now and self._now - now < CLOCK_BACK_MS:
            now = self._now
        elif now < self._now:
            self._waiting.stepped(now - self._now)
            self._retain_at = self._again_at = 0
        self._now = now
        settles, self._settles = self._settles, []
        requests: list[Request] = []  # those that this turn takes
        if self.owed and now >= self._again_at:
            settles, self.owed = [*self.owed, *settles], []
        turn = Turn()
        try:
            self._work(turn, settles, requests, wants)
        except Exception as error:
            if isinstance(error, StoreError) and not isinstance(error, StoreDamaged):
                raise
            if not isinstance(error, Refused | StoreDamaged):
                _log.exception("a turn failed and is done again one request at a time")
            self._store.abort()
            self._chores.aborted()
            turn = self._one_by_one(settles, requests)
        parked = len(self._waiting.claims)
        for change in turn.later:
            change()
        if turn.stirred and len(self._waiting.claims) > parked:  # parked behind the grants of the turn that stirred
            self._stirred = turn.busy = True
        self._publish(turn)
        turn.answers += self._lists.read_on(SLICE_S)
        turn.busy = turn.busy or bool(self._lists)
        return turn

    def _work(self, turn: Turn, settles: Sequence[Sequence[Any]], requests: list[Request], wants: Sequence[Want]) -> None:
        """Steps 2 and 3 of the loop: everything in one transaction, committed."""
        store, now = self._store, self._now
        due = store.next_due()
        chores = store.chores()
        own = now >= self._again_at  # else its own work could not be committed a moment ago
        stirred, self._stirred = self._stirred, False
        changes = own and (
            stirred or bool(chores) or (due is not None and due <= now) or now >= self._retain_at or bool(wants and store.ready())
        )
        changes = changes or bool(settles) or any(r.verb in self._writes for r in self._inbox)
        if changes:
            store.begin(now)
        if settles:
            self._settle_rows(settles, turn)
        until = self._clock() + TURN_S
        for request in self._inbox.taken():
            requests.append(request)
            self._serve(request, turn)
            if self._clock() > until:
                break  # the rest is the next turn's: nobody waits long for a commit
        if not changes:
            return
        if own:
            if due is not None and due <= now:
                self._come_due(turn)
            if chores:
                over = self._chores.work(chores[0], SLICE_S, lambda task: self._cancel_one(task.id, turn) != "over", turn.later)
                turn.steps += [("chore_done", [(over.id, over.verb, over.seen, over.changed)])] if over else []
                turn.busy = True
            self._grant(turn, wants)
            self._unkept += len(settles) + len(turn.ended) + len(requests)
            if self._unkept >= RETAIN_EACH or now >= self._retain_at:
                self._retain(turn, 2 * self._unkept)
        store.commit()
        if turn.steps or turn.stirred or turn.removed:
            self._waiting.changed()

    def _one_by_one(self, settles: Sequence[Sequence[Any]], requests: Sequence[Request]) -> Turn:
        """The same, each in a transaction of its own, settles first; what still fails is answered so."""
        turn = Turn(stirred=True, busy=bool(settles or requests))
        if not turn.busy:  # it was the turn's own work that failed: at once it would fail again
            self._again_at = self._now + AGAIN_MS
        for at, one in enumerate(settles):
            failed = self._alone(turn, partial(self._settle_rows, [one]))
            if isinstance(failed, Refused):  # no room: an end is never lost, and the next would fare no better
                self.owed += settles[at:]
                self._again_at = self._now + AGAIN_MS
                break
            if failed is not None and not isinstance(failed, StoreDamaged):  # not what a worker may answer, nor would it become so
                row = [one[0], one[1], "crashed", 0, self._now, False, {"error": BAD_RESULT}]
                if self._alone(turn, partial(self._settle_rows, [row])) is not None:
                    self.owed.append(row)
                    self._again_at = self._now + AGAIN_MS
        for request in requests:
            failed = self._alone(turn, partial(self._serve, request))
            if failed is not None:
                turn.answers.append((request.conn, error_answer(request.number, failed)))
        return turn

    def _alone(self, turn: Turn, work: Callable[[Turn], object]) -> Exception | None:
        part = Turn()
        try:
            self._store.begin(self._now)
            work(part)
            self._store.commit()
        except Exception as error:
            if isinstance(error, StoreError) and not isinstance(error, StoreDamaged):
                raise
            self._store.abort()
            if not isinstance(error, TqError):
                _log.exception("a request failed")
            return error
        turn.answers += part.answers
        turn.steps += part.steps
        turn.ended += part.ended
        turn.removed += part.removed
        for change in part.later:  # it is committed: what comes next may need it
            change()
        self._waiting.changed()
        return None

    def _serve(self, request: Request, turn: Turn) -> None:
        verb = self._writes.get(request.verb) or self._reads[request.verb]
        later = len(turn.later)
        try:
            body = verb(request, turn)
        except TqError as error:
            if isinstance(error, StoreError) and not (isinstance(error, StoreDamaged) and request.verb in self._reads):
                raise
            del turn.later[later:]
            turn.answers.append((request.conn, error_answer(request.number, error)))
            return
        if body is not None:
            turn.answers.append((request.conn, answer(request.number, body)))

    @property
    def next_due(self) -> float | None:
        """The instant (ms) at which a turn is needed if nothing arrives; None: never."""
        own = self._store.next_due()
        if self.owed or self._again_at > self._now:  # what could not be done a moment ago, timer or claim
            own = self._again_at if own is None or self.owed else max(own, self._again_at)
        return min((at for at in (self._waiting.next_due, own) if at is not None), default=None)

    def _settle_rows(self, rows: Sequence[Sequence[Any]], turn: Turn) -> list[bool]:
        """Settle each row: successes in one batch, the rest by the table; whether each claim was still held."""
        store = self._store
        wins = [row for row in rows if row[2] == 0]
        won = store.succeed(list(map(_SUCCESS, wins))) if wins else []
        turn.steps.append(("succeeded", wins if all(won) else [row for row, ok in zip(wins, won, strict=True) if ok]))
        if len(wins) == len(rows) and not (self._waiting.for_ends or self.followed or turn.later):  # who is about to wait is in later
            return won
        next_won, held = iter(won), []
        for row in rows:
            if row[2] == 0:
                held.append(next(next_won))
                if held[-1]:
                    turn.ended.append((row[0], "succeeded", None))
                continue
            outcome = outcome_of(row)
            task = store.get([row[0]])[0]
            if task is None or task.state is not State.RUNNING or task.status.claim != row[1]:
                held.append(False)
                continue
            now = store.apply([lifecycle.settle(task, outcome, self._now, self._chance())])[0]
            held.append(now is not None)
            turn.stirred = True
            if now is not None:
                turn.steps.append((outcome.kind, [now]))
                if now.state.final:
                    turn.ended.append((now.id, now.state.word, now.status.exit_code))
        return held

    def _come_due(self, turn: Turn) -> None:
        fired = self._store.due(DUE_MOST)
        tasks = self._store.get([task_id for _, task_id in fired])
        for (what, _), task in zip(fired, tasks, strict=True):
            if task is None:
                continue
            if what == "due":
                change = lifecycle.come_due(task, self._now)
            elif what == "expire":
                if task.state is State.RUNNING:
                    continue
                change = lifecycle.run_out(task, self._now)
            else:
                change = lifecycle.settle(task, Outcome("lapsed", finished_at=self._now, error=LAPSED), self._now, self._chance())
            now = self._store.apply([change])[0]
            if now is not None:
                turn.steps.append((change.event, [now]))
                if now.state.final:
                    turn.ended.append((now.id, now.state.word, None))
        turn.stirred = True
        turn.busy = turn.busy or len(fired) == DUE_MOST

    def _retain(self, turn: Turn, most: int) -> None:
        self._unkept, most = 0, max(most, RETAIN_EACH)
        gone = self._store.retain(self._limits, most)
        turn.removed += [*self._removed, *(task_id for task_id, output in gone if output)]
        self._removed.clear()
        more = len(gone) >= most
        self._retain_at = self._now + (0 if more else RETAIN_EVERY_MS)
        turn.busy = turn.busy or more

    def _grant(self, turn: Turn, wants: Sequence[Want]) -> None:
        """Claims for consumers that wait, then for the pool's slots."""
        for claim in self._waiting.claims:
            tasks = self._take(claim.want, turn)
            if tasks:
                self._answer_claim(claim.request, claim.want, tasks, turn)
                turn.later.append(partial(self._waiting.served, claim))
        for want in wants:
            got = self._store.claim(want)
            if got:
                turn.grants.append((want, got))
                turn.steps.append(("claimed", got))

    def _take(self, want: Want, turn: Turn) -> list[Claimed]:
        """Claim for a consumer, no more than its answer holds; what was read beyond that goes back uncharged."""
        taken: list[Claimed] = []
        step, size, fit = CLAIM_FIRST, 0, 0
        while len(taken) < want.limit and fit == len(taken):
            most = min(step, want.limit - len(taken))
            got = self._store.claim(replace(want, limit=most))
            taken += got
            for task in got:
                size += len(task.record) + TASK_BYTES
                fit += size <= CLAIM_BYTES or not fit
            if len(got) < most:
                break
            step *= 2
        if taken[fit:]:
            self._settle_rows([[task.id, task.claim, "released", 0, self._now, False, None] for task in taken[fit:]], turn)
        return taken[:fit]

    def _answer_claim(self, request: Request, want: Want, tasks: list[Claimed], turn: Turn) -> None:
        body = {"tasks": [handed_out(task, want.lease_ms) for task in tasks]}
        turn.answers.append((request.conn, wire.frame([request.number, wire.ANSWER, body])))
        turn.steps.append(("claimed", tasks))

    def _claim(self, request: Request, turn: Turn) -> dict[str, Any] | None:
        args = arguments(request.verb, request.args, queues=list, types=list, limit=int, wait_ms=int, lease_ms=int)
        queues, types = args.get("queues"), args.get("types")
        limit = between(args.get("limit", 1), 1, SCAN_MOST, "limit")
        lease_ms = between(args.get("lease_ms", LEASE_MS), 100, MAX_LEASE_MS, "lease_ms")
        if not queues and not types:
            raise UsageError("claim: expected queues or types, at least one name, got neither.")
        names = some_names(queues, "queues"), some_names(types, "types")
        wait_ms = between(args.get("wait_ms", 0), 0, MAX_LEASE_MS, "wait_ms")
        self._waiting.check(request.conn)
        want = Want(f"consumer-{request.conn}", limit, math.inf, queues=names[0], types=names[1], lease_ms=lease_ms)
        tasks = self._take(want, turn)
        if not tasks and wait_ms:
            turn.later.append(partial(self._waiting.park, Claim(request, want, self._now + wait_ms)))
            return None
        self._answer_claim(request, want, tasks, turn)
        return None

    def _extend(self, request: Request, turn: Turn) -> dict[str, Any]:
        args = arguments(request.verb, request.args, "id", "claim", id=int, claim=int, lease_ms=int)
        lease_ms = between(args.get("lease_ms", LEASE_MS), 100, MAX_LEASE_MS, "lease_ms")
        return {"ok": self._store.extend(*claim_of("extend", args["id"], args["claim"]), lease_ms)}

    def _settle(self, request: Request, turn: Turn) -> dict[str, Any]:
        results = results_of(arguments(request.verb, request.args, "results", results=list)["results"])
        tasks = self._store.get([task_id for task_id, *_ in results])
        rows: list[Sequence[Any]] = []
        for (task_id, claim, kind, details), task in zip(results, tasks, strict=True):
            since = task.status.started_at if task is not None else self._now
            won = kind == "succeeded"
            rows.append([task_id, claim, 0 if won else kind, since, self._now, False, details["result"] if won else details])
        return {"settled": self._settle_rows(rows, turn) if rows else []}

    def _release(self, request: Request, turn: Turn) -> dict[str, Any]:
        claims = claims_of(request.verb, arguments(request.verb, request.args, "claims", claims=list)["claims"])
        rows = [[task_id, claim, "released", 0, self._now, False, None] for task_id, claim in claims]
        return {"released": self._settle_rows(rows, turn) if rows else []}

    def _enqueue(self, request: Request, turn: Turn) -> dict[str, Any]:
        args = arguments(request.verb, request.args, "tasks", tasks=list, again=bool)
        drafts = self._intake.drafts(args["tasks"], self._now)
        once = RequestId(request.nonce, request.number, bool(args.get("again"))) if request.nonce else None
        ids = list(self._store.enqueue(drafts, once))
        turn.stirred = True
        turn.steps.append(("added", list(zip(ids, drafts, strict=True)) if len(ids) < SCAN_MOST else Pairs(ids, drafts)))
        return {"ids": ids}

    def _cancel(self, request: Request, turn: Turn) -> dict[str, Any]:
        args = arguments(request.verb, request.args, ids=list, queue=str, type=str, states=list)
        if "ids" not in args:
            if not args:
                raise UsageError("cancel: expected ids, or a queue, type or states to choose them by, got nothing.")
            some_states(args.get("states"))
            turn.busy = True
            return {"chore": self._chores.accept("cancel", args)}
        if len(args) > 1:
            raise UsageError("cancel: expected ids, or a queue, type and states, got both. Drop one.")
        return {"outcomes": [self._cancel_one(task_id, turn) for task_id in task_ids(args["ids"])]}

    def _cancel_one(self, task_id: int, turn: Turn) -> str:
        task = self._store.get([task_id])[0]
        if task is None:
            return "unknown"
        change = lifecycle.cancel(task, self._now)
        now = self._store.apply([change])[0] if change is not None else None
        if change is None or now is None:
            return "over"
        turn.steps.append((change.event, [now]))
        if now.state.final:
            turn.ended.append((task_id, now.state.word, None))
        return "cancelled" if now.state.final else "asked"

    def _set_queue(self, request: Request, turn: Turn) -> dict[str, Any]:
        args = arguments(request.verb, request.args, "name", name=str, paused=bool, external=bool, weight=int)
        between(args.get("weight", 1), 1, 100, "weight")
        old = self._store.queues().get(args["name"], QueueInfo(args["name"]))
        self._store.put_queue(replace(old, **args))
        turn.later.append(self._intake.forget)
        turn.stirred = True
        return {}

    def _get(self, request: Request, turn: Turn) -> dict[str, Any]:
        ids = task_ids(arguments(request.verb, request.args, "ids", ids=list)["ids"])
        return {"tasks": rows_of(self._store.get, ids)}

    def _find(self, request: Request, turn: Turn) -> None:
        args = arguments(request.verb, request.args, states=list, queue=str, type=str, tenant=str, label=str, limit=int, before=bytes)
        limit = between(args.get("limit", 50), 1, SCAN_MOST, "limit")
        rest = {key: args.get(key) for key in ("queue", "type", "tenant", "label")}
        query = Query(some_states(args.get("states")), **rest, limit=limit, before=args.get("before"))
        self._lists.check()
        turn.later.append(lambda: self._lists.add(request, self._store.find(query), limit))

    def _peek(self, request: Request, turn: Turn) -> dict[str, Any]:
        args = arguments(request.verb, request.args, limit=int, queue=str)
        limit = between(args.get("limit", 10), 1, SCAN_MOST, "limit")
        return {"tasks": [task.row() for task in self._store.peek(limit, args.get("queue"))]}

    def _stats(self, request: Request, turn: Turn) -> dict[str, Any]:
        return stats(self._store.tallies(), *self.slots())

    def _queues(self, request: Request, turn: Turn) -> dict[str, Any]:
        counted = stats(self._store.tallies(), *self.slots())["queues"]
        infos = {name: QueueInfo(name) for name in counted} | self._store.queues()
        rows = [dict(zip(("name", "paused", "weight", "external"), info.row(), strict=True)) for info in infos.values()]
        return {
            "queues": [row | {"states": counted.get(row["name"], {}).get("states")} for row in sorted(rows, key=lambda r: str(r["name"]))]
        }

    def _types(self, request: Request, turn: Turn) -> dict[str, Any]:
        names = ("name", "queue", "retries", "timeout_ms", "backoff", "priority", "once")
        return {"types": [dict(zip(names, info.row(), strict=True)) for _, info in sorted(self._store.types().items())]}

    def _chores_list(self, request: Request, turn: Turn) -> dict[str, Any]:
        return {"chores": [{"id": c.id, "verb": c.verb, "seen": c.seen, "changed": c.changed} for c in self._store.chores()]}

    def _wait(self, request: Request, turn: Turn) -> dict[str, Any] | None:
        args = arguments(request.verb, request.args, "ids", ids=list, timeout_ms=int, any=bool)
        ids, every = task_ids(args["ids"]), not args.get("any")
        tasks = self._store.get(ids)
        left = {task.id for task in tasks if task is not None and not task.state.final}
        over = not left if every or not ids else len(left) < len(set(ids))
        timeout = args.get("timeout_ms")
        if over or (timeout is not None and timeout <= 0):
            return {"tasks": [task and task.row() for task in tasks], "done": over}
        self._waiting.check(request.conn)
        until = math.inf if timeout is None else self._now + timeout
        turn.later.append(partial(self._waiting.park, Wait(request, ids, left, not every, until)))
        return None

    def _publish(self, turn: Turn) -> None:
        """Tell who waits or watches what ended, and whose time is up."""
        waiting = self._waiting
        for task_id, state, exit_code in turn.ended:
            for wait in waiting.ended(task_id):
                self._answer_wait(wait, turn, done=True)
            for conn, number in waiting.watchers_of(task_id):
                event = {"topic": "ends", "id": task_id, "state": state, "exit_code": exit_code}
                turn.answers.append((conn, wire.frame([number, wire.EVENT, event])))
        for one in waiting.expired(self._now):
            if isinstance(one, Claim):
                turn.answers.append((one.request.conn, wire.frame([one.request.number, wire.ANSWER, {"tasks": []}])))
            else:
                self._answer_wait(one, turn, done=False)
        for conn, number in waiting.totals_due(self._now):
            event = {"topic": "totals", **stats(self._store.tallies(), *self.slots())}
            turn.answers.append((conn, wire.frame([number, wire.EVENT, event])))
        if turn.grants:
            waiting.changed()  # once they are handed out, more slots run a task

    def _answer_wait(self, wait: Wait, turn: Turn, *, done: bool) -> None:
        try:
            found = fitting(wait.request.number, {"tasks": rows_of(self._store.get, wait.ids), "done": done})
        except StoreDamaged as error:
            found = error_answer(wait.request.number, error)
        turn.answers.append((wait.request.conn, found))

    def _watch(self, request: Request, turn: Turn) -> dict[str, Any]:
        args = arguments(request.verb, request.args, "topics", topics=list, ids=list, hz=int)
        key = (request.conn, request.number)
        self._waiting.check(request.conn)
        for topic in args["topics"]:
            if topic == "ends":
                ids = frozenset(task_ids(args["ids"])) if args.get("ids") is not None else None
                turn.later.append(partial(self._waiting.watch_ends, key, ids))
            elif topic == "totals":
                every = 1000 // between(args.get("hz", 4), 1, 20, "hz")
                turn.later.append(partial(self._waiting.watch_totals, key, every, self._now))
            else:
                raise UsageError(f"watch: expected topics among ends, output and totals, got {topic!r:.80}.")
        return {}

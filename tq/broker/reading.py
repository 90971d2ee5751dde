"""Reading: everything that asks and changes nothing, now or when something has happened.

For: ``get find dead peek wait watch stats history events``; telling those who wait and watch.
Not for: reading the store (store), doing it in slices (lists).
Runs in: the daemon, inside the broker's turn; ``publish`` after its commit.
Promises: a read sees the turn it stands in; what is told to waiters and watchers is committed; an event of the live
stream has a number that rises by one, so that who misses some can see it.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from functools import partial
from typing import Any

from tq import wire
from tq.answers import error_answer, fitting, rows_of
from tq.arguments import arguments, between, filter_of, task_ids
from tq.broker.control import FILTER
from tq.broker.desk import Desk, Turn, Verb
from tq.broker.steps import WORDS, describe
from tq.errors import StoreDamaged, UsageError
from tq.history import STEPS, WHOLE
from tq.launch import shown
from tq.lists import Groups, Next, Tasks
from tq.model import SHELL, State, Task, brief, environment_key, unpack
from tq.query.matching import LAST_ID
from tq.stats import stats
from tq.store import SCAN_MOST, Query
from tq.waiting import Claim, Request, Wait

BUCKETS_MOST = 720
"""Of a history in one answer: some 40 KB."""
LIVE_MOST = 512
"""Steps of one turn that a watcher is told one by one; the rest is a number."""


class Reading:
    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self._event = 0  # of the live stream
        self.reads: dict[str, Verb] = {
            "get": self._get, "find": self._find, "dead": self._dead, "peek": self._peek, "wait": self._wait,
            "watch": self._watch, "stats": self._stats, "history": self._history, "events": self._events,
        }  # fmt: skip

    # -- at once ---------------------------------------------------------------------------------------------------

    def _get(self, request: Request, turn: Turn) -> dict[str, Any]:
        args = arguments(request.verb, request.args, "ids", ids=list, how=bool)
        ids, how = task_ids(args["ids"]), args.get("how")
        if how and len(ids) > 1:
            raise UsageError(
                f"get: how: expected one id with it, got {len(ids)}. An environment may be large: ask for one after the other."
            )
        return {"tasks": rows_of(self._desk.store.get, ids, self._with_how if how else self._desk.row)}

    def _with_how(self, task: Task) -> dict[str, Any]:
        """A task's row and, of a command, how it is run, with what looks secret masked."""
        row, head = self._desk.row(task), task.spec.header
        if head.type == SHELL and head.extras is not None:
            key = environment_key(head)
            packed = None if key is None else self._desk.store.environment(key)
            row["how"] = shown({**head.extras, "env": unpack(packed)} if packed is not None else head.extras)
        return row

    def _stats(self, request: Request, turn: Turn) -> dict[str, Any]:
        arguments(request.verb, request.args)
        return stats(self._desk.store.tallies(), *self._desk.slots())

    def _history(self, request: Request, turn: Turn) -> dict[str, Any]:
        """How the counts went, of all tasks or of a queue's."""
        args = arguments(request.verb, request.args, "step_s", queue=str, step_s=int, limit=int, until=int)
        step, queue, desk = args["step_s"], args.get("queue"), self._desk
        if step not in STEPS:
            raise UsageError(f"history: step_s: expected one of {', '.join(map(str, STEPS))} (seconds), got {step}.")
        limit = between(args.get("limit", BUCKETS_MOST), 1, BUCKETS_MOST, "history: limit")
        until = between(args.get("until", desk.now), 0, 1 << 62, "history: until")
        if queue is not None and queue not in desk.history and queue not in desk.store.queues():
            raise UsageError(f"history: queue: expected one that there is, got {brief(queue)}. `tq queue list` shows them.")
        end, series = desk.history.series(WHOLE if queue is None else queue, step, limit, min(desk.now, until))
        return {"step_s": step, "until": end, "series": series}

    def _events(self, request: Request, turn: Turn) -> dict[str, Any]:
        """What operators and the system did, newest first, or oldest first from a number on."""
        args = arguments(request.verb, request.args, limit=int, before=int, after=int)
        limit, after, store = between(args.get("limit", 50), 1, SCAN_MOST, "limit"), args.get("after"), self._desk.store
        if after is not None and "before" in args:
            raise UsageError("events: expected before or after, got both. Drop one.")
        names = ("number", "at", "who", "what", "target", "before", "after")
        found = store.events(args.get("before"), limit) if after is None else store.events_after(between(after, 0, LAST_ID, "after"), limit)
        return {"events": [dict(zip(names, one.row(), strict=True)) for one in found]}

    # -- in slices -------------------------------------------------------------------------------------------------

    def _find(self, request: Request, turn: Turn) -> None:
        named: dict[str, type] = {"label": str, "limit": int, "before": bytes}
        args = arguments(request.verb, request.args, **FILTER, **named)
        limit, before, group = between(args.pop("limit", 50), 1, SCAN_MOST, "limit"), args.pop("before", None), args.pop("group", None)
        desk, where = self._desk, filter_of(args)
        # The store is asked for what its indexes know, and the filter chooses among that.
        query = Query(where.states, where.queue, where.type, limit=1 << 62, before=before, ids=where.ids_range)
        desk.lists.check()
        turn.later.append(lambda: desk.lists.add(request, desk.store.find(query), where, Tasks(limit, desk.row), group))

    def _peek(self, request: Request, turn: Turn) -> None:
        """The order is that of this turn; the tasks, which may be large, are read one by one."""
        args = arguments(request.verb, request.args, limit=int, queue=str, tenant=str)
        limit, tenant = between(args.get("limit", 10), 1, SCAN_MOST, "limit"), args.get("tenant")
        desk = self._desk
        desk.lists.check()
        ahead = desk.store.peek(limit if tenant is None else SCAN_MOST, args.get("queue"))
        if tenant is not None:
            headers = desk.store.headers([one.id for one in ahead])
            ahead = [one for one, header in zip(ahead, headers, strict=True) if header is not None and header.tenant == tenant][:limit]
        why = {one.id: one.why for one in ahead}
        turn.later.append(lambda: desk.lists.add(request, self._waiting(why), filter_of({}), Next(why, desk.row)))

    def _waiting(self, ids: Iterable[int]) -> Iterator[tuple[Task, bytes] | None]:
        """Those that still wait. A damaged one is passed over: a claim sets it aside."""
        for task_id in ids:
            try:
                task = self._desk.one(task_id)
            except StoreDamaged:
                task = None
            yield (task, b"") if task is not None and task.state is State.PENDING else None

    def _dead(self, request: Request, turn: Turn) -> None:
        """What failed for good, grouped by what went wrong."""
        desk, where = self._desk, filter_of(arguments(request.verb, request.args, **{k: v for k, v in FILTER.items() if k != "group"}))
        query = Query(frozenset({State.FAILED}), where.queue, where.type, limit=1 << 62)
        desk.lists.check()
        turn.later.append(lambda: desk.lists.add(request, desk.store.find(query), where, Groups()))

    # -- when something has happened -------------------------------------------------------------------------------

    def _wait(self, request: Request, turn: Turn) -> dict[str, Any] | None:
        desk = self._desk
        args = arguments(request.verb, request.args, "ids", ids=list, timeout_ms=int, any=bool)
        ids, every = task_ids(args["ids"]), not args.get("any")
        tasks = desk.store.get(ids)
        left = {task.id for task in tasks if task is not None and not task.state.final}
        over = not left if every or not ids else len(left) < len(set(ids))
        timeout = args.get("timeout_ms")
        if over or (timeout is not None and timeout <= 0):
            return {"tasks": [task and desk.row(task) for task in tasks], "done": over}
        desk.waiting.check(request.conn)
        until = math.inf if timeout is None else desk.now + timeout
        turn.later.append(partial(desk.waiting.park, Wait(request, ids, left, not every, until)))
        return None

    def _watch(self, request: Request, turn: Turn) -> dict[str, Any]:
        args = arguments(request.verb, request.args, "topics", topics=list, ids=list, hz=int)
        key, waiting = (request.conn, request.number), self._desk.waiting
        waiting.check_watches(request.conn, len(args["topics"]))
        ids = frozenset(task_ids(args["ids"])) if args.get("ids") is not None else None
        for topic in args["topics"]:
            if topic == "ends":
                turn.later.append(partial(waiting.watch_ends, key, ids))
            elif topic == "steps":
                turn.later.append(partial(waiting.watch_steps, key, ids))
            elif topic == "totals":
                every = 1000 // between(args.get("hz", 4), 1, 20, "hz")
                turn.later.append(partial(waiting.watch_totals, key, every, self._desk.now))
            else:
                raise UsageError(f"watch: expected topics among ends, output, steps and totals, got {topic!r:.80}.")
        return {}

    def publish(self, turn: Turn) -> None:
        """Tell who waits or watches what ended, what else happened, and whose time is up."""
        desk = self._desk
        waiting, now = desk.waiting, desk.now
        for task_id, state, exit_code in turn.ended:
            for wait in waiting.ended(task_id):
                self._answer_wait(wait, turn, done=True)
            for conn, number in waiting.watchers_of(task_id):
                event = {"topic": "ends", "id": task_id, "state": state, "exit_code": exit_code}
                turn.answers.append((conn, wire.frame([number, wire.EVENT, event])))
        if waiting.for_steps:
            self._stream(turn)
        for one in waiting.expired(now):
            if isinstance(one, Claim):
                turn.answers.append((one.request.conn, wire.frame([one.request.number, wire.ANSWER, {"tasks": []}])))
            else:
                self._answer_wait(one, turn, done=False)
        for conn, number in waiting.totals_due(now):
            event = {"topic": "totals", **stats(desk.store.tallies(), *desk.slots())}
            turn.answers.append((conn, wire.frame([number, wire.EVENT, event])))
        if turn.grants:
            waiting.changed()  # once they are handed out, more slots run a task

    def _stream(self, turn: Turn) -> None:
        """The live stream: each step of the turn, or how many there were beyond LIVE_MOST."""
        told = 0
        for word, rows in turn.steps:
            for row in rows[: LIVE_MOST - told]:
                task_id, kind, queue, more = describe(row, self._desk.store)
                self._tell(turn, {"event": WORDS.get(word, word), "id": task_id, "type": kind, "queue": queue, **more})
            told += len(rows[: LIVE_MOST - told])
        left_out = sum(len(rows) for _, rows in turn.steps) - told
        if left_out:
            self._event += left_out - 1
            self._tell(turn, {"event": "left_out", "id": 0, "number_of": left_out})

    def _tell(self, turn: Turn, event: dict[str, Any]) -> None:
        self._event += 1
        full = {"topic": "steps", "number": self._event, "at": self._desk.now, **event}
        for conn, number in self._desk.waiting.step_watchers(event["id"]):
            turn.answers.append((conn, wire.frame([number, wire.EVENT, full])))

    def _answer_wait(self, wait: Wait, turn: Turn, *, done: bool) -> None:
        try:
            found = fitting(wait.request.number, {"tasks": rows_of(self._desk.store.get, wait.ids, self._desk.row), "done": done})
        except StoreDamaged as error:
            found = error_answer(wait.request.number, error)
        turn.answers.append((wait.request.conn, found))

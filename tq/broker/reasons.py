"""Reasons: why a task is where it is, for every state that it may be in.

For: ``why``: what holds it, since when and by whom, until when, how many are before it and how long that may take.
Not for: words (the command line has them), changing anything.
Runs in: the daemon, inside the broker's turn.
Promises: what is said is so in the turn in which it is said; an estimate says that it is one, and is left out where nothing
was measured; it looks at no more than PEEKED tasks of the line, NOTED events and PARENTS_TOLD parents.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import Any

from tq import lifecycle
from tq.arguments import arguments, task_ids
from tq.broker.breakers import Breakers
from tq.broker.desk import Desk, Hold, Sight, Turn, Verb
from tq.broker.resources import USERS_TOLD, users_of
from tq.errors import NoSuchTask, StoreDamaged
from tq.model import MAX_CRASHES, MAX_INTERRUPTS, SHELL, Header, State, Task
from tq.store import InUse, Limit, QueueInfo, Tally, Used
from tq.waiting import Request

PEEKED = 500
"""How far ahead it looks for a task's place."""
NOTED = 500
"""Of so many events, the newest, it looks for who cancelled a task."""
PARENTS_TOLD = 10
ERROR_MOST = 200
"""Characters of an error's type and message."""
Reason = list[Any]
"""[word, details]; the words are explained in tq/wire.py."""
_NO_OTHER = ("Permanent", "PayloadError")
"""Errors after which no other attempt is wanted, whatever time there is; after others that may be so, too."""
_CUT_SHORT = ("WorkerDied", "LeaseLapsed", "Interrupted")
"""Errors of tq's own that say that an attempt did not come to its end."""


class Reasons:
    def __init__(self, desk: Desk, breakers: Breakers) -> None:
        self._desk = desk
        self._breakers = breakers
        self.reads: dict[str, Verb] = {"why": self._why}

    def _why(self, request: Request, turn: Turn) -> dict[str, Any]:
        """Why a task is where it is: reasons, the most telling one first."""
        args = arguments(request.verb, request.args, "id", id=int)
        (task_id,) = task_ids([args["id"]])
        task = self._desk.one(task_id)
        if task is None:
            raise NoSuchTask(
                f"expected the id of a task, got {task_id}: there is none, or it was removed. `tq list` shows those there are."
            )
        return {"task": self._desk.row(task), "reasons": self._reasons(task)}

    def _reasons(self, task: Task) -> list[Reason]:
        if task.state.final:
            return [["over", self._end(task)]]
        if task.state is State.RUNNING:
            return self._running(task)
        if task.state is State.PENDING:
            return self._pending(task)
        head, status = task.spec.header, task.status
        if task.state is State.BLOCKED:
            reasons = [["blocked", self._outstanding(task)]]
        elif task.state is State.RETRYING:
            more = {"failures": status.failures, "retries": head.retries, "attempt": status.attempt + 1, "error": _error(task)}
            reasons = [["retry_not_due", {"due_at": status.due_at, **more}]]
        else:
            reasons = [["not_due", {"due_at": status.due_at or task.spec.due_at}]]
            if status.attempts and (error := status.attempts[-1].error) and error.get("type") == "ServiceDown":
                reasons.append(["service_down", {"error": str(error.get("message") or "")[:ERROR_MOST]}])
        info = self._desk.store.queues().get(head.queue)
        if info is not None and info.paused:
            reasons.append(_paused(info))
        return reasons + _expires(task)

    # -- over, or under way ----------------------------------------------------------------------------------------

    def _end(self, task: Task) -> dict[str, Any]:
        """How it ended, and for a failure why it is not tried again."""
        status, head = task.status, task.spec.header
        found: dict[str, Any] = {
            "at": status.finished_at, "attempts": status.attempt, "error": _error(task), "exit_code": status.exit_code, "why": None,
            "failures": status.failures, "crashes": status.crashes, "interrupts": status.interrupts, "retries": head.retries,
        }  # fmt: skip
        kind = (status.error or {}).get("type")
        if task.state is State.CANCELLED:
            found["who"] = self._who("cancel", task.id)
        elif task.state is State.EXPIRED:
            found["why"] = "deadline" if head.deadline_ms and status.finished_at >= task.spec.created_at + head.deadline_ms else "ttl"
        elif task.state is State.FAILED:
            if kind == "ParentFailed" and not status.attempt:
                found["why"] = "parent"
            elif kind in _CUT_SHORT and head.once:
                found["why"] = "once"
            elif kind in _CUT_SHORT and status.crashes >= MAX_CRASHES:
                found["why"] = "poison"
            elif kind in _CUT_SHORT and status.interrupts >= MAX_INTERRUPTS:
                found["why"] = "interrupts"
            elif status.failures > head.retries:
                found["why"] = "retries"
            else:
                found["why"] = "no_time" if kind == "Retry" or (kind not in _NO_OTHER and lifecycle.is_too_late(task)) else "permanent"
        return found

    def _who(self, what: str, task_id: int) -> str | None:
        """Who did this to the task, if that is among the newest events."""
        target = str(task_id)
        events = self._desk.store.events(None, NOTED)
        return next((event.who for event in events if event.what == what and event.target == target), None)

    def _running(self, task: Task) -> list[Reason]:
        status, head = task.status, task.spec.header
        live, sight = self._desk.row(task), self._desk.sight(task)
        if sight is not None and not sight.begun:
            return [["handed_out", {"worker": status.worker, "since": status.started_at}]]
        ends = [task.spec.created_at + head.deadline_ms] if head.deadline_ms else []
        if sight is not None and sight.ends_at is not None:
            ends += [sight.ends_at] if sight.ends_at else []
        elif head.timeout_ms and not live.get("suspended") and status.started_at:
            ends.append(status.started_at + head.timeout_ms)
        details = {"worker": status.worker, "since": status.started_at, "attempt": status.attempt + 1, "ends_at": min(ends, default=0)}
        reasons: list[Reason] = [["running", {**details, "progress": live["progress"]}]]
        if live.get("suspended"):
            reasons.append(["suspended", {}])
        if status.cancel_asked:
            reasons.append(["cancel_asked", {"who": self._who("cancel", task.id)}])
        return reasons

    def _outstanding(self, task: Task) -> dict[str, Any]:
        """For which tasks it waits: how many, and the first of them. One that a person has retried since it was over is none of them."""
        store, parents = self._desk.store, task.spec.header.parents
        told: list[list[Any]] = []
        for parent in islice((one for one in parents if store.children(one, 1, task.id - 1) == [task.id]), PARENTS_TOLD):
            try:
                (state,) = store.states([parent])
            except StoreDamaged:
                continue
            told += [[parent, state.word]] if state is not None else []  # a parent may go before all its children have heard
        return {"parents": told, "waits": task.status.waits, "of": len(parents)}

    # -- pending ---------------------------------------------------------------------------------------------------

    def _pending(self, task: Task) -> list[Reason]:
        store, head = self._desk.store, task.spec.header
        info, tallies = store.queues().get(head.queue, QueueInfo(head.queue)), store.tallies()
        active, slots = self._desk.slots()
        used = store.in_use(slots)
        running = used.slots.get(head.queue, 0)
        sight = self._desk.sight(task)
        reasons: list[Reason] = []
        if sight is not None and sight.draining:
            reasons.append(["draining", {}])
        if info.paused:
            reasons.append(_paused(info))
        if hold := self._held(info, running):
            reasons.append(["queue_held", {"queue": info.name, **hold.row(self._desk.now)}])
        if breaker := self._breakers.of_type(head.type):
            reasons.append(["breaker", {key: breaker[key] for key in ("type", "state", "until", "why", "probes", "rule")}])
        if info.external:
            reasons.append(["queue_external", {"queue": head.queue, "running": running}])
        else:
            reasons += self._workers(head.type, sight)
        reasons += [_limit(*one) for one in store.reached(head)]
        stuck = bool(reasons)
        reasons += self._resources(head, used)
        if info.slots and running + head.slots > info.slots:
            reasons.append(["queue_slots_taken", {"queue": head.queue, "running": running, "slots": info.slots, "needs": head.slots}])
        if not info.external and slots and active + head.slots > slots:
            reasons.append(["workers_busy", {"active": active, "slots": slots, "needs": head.slots}])
        keys: list[str | tuple[str]] = [*head.uses, (head.queue,), *([] if info.external else [""])]
        reasons += [
            ["kept", {"resource": key if isinstance(key, str) else None, "queue": head.queue, "id": used.kept[key]}]
            for key in keys
            if used.kept.get(key, task.id) != task.id
        ]
        places = 0 if stuck or info.external else min(slots, info.slots or slots)
        reasons += self._place(task, tallies, places, busy=bool(reasons))
        return reasons + _expires(task)

    def _resources(self, head: Header, used: InUse) -> Iterator[Reason]:
        """What it needs and cannot have now."""
        there = self._desk.store.resources() if head.needs else {}
        users = users_of(self._desk) if head.uses else {}
        for name, amount in head.uses.items():
            total, taken = there.get(name), used.resources.get(name, 0)
            if total is None or amount > total:
                yield ["resource_short", {"resource": name, "amount": amount, "total": total or 0}]
            elif amount > total - taken:
                some = users.get(name, [])
                more = {"in_use": taken, "total": total, "tasks": some[:USERS_TOLD], "of": len(some)}
                yield ["resource_taken", {"resource": name, "amount": amount, **more}]

    def _held(self, info: QueueInfo, running: int) -> Hold | None:
        """What holds the queue; of one whose tasks could not start anyway nobody need have looked."""
        hold = self._desk.held.get(info.name)
        waits = not (info.paused or 0 < info.slots <= running)
        return hold if hold is not None and (hold.rules or waits) else None

    def _workers(self, kind: str, sight: Sight | None) -> Iterator[Reason]:
        """What the workers have to do with it, beside being busy."""
        if kind != SHELL and kind not in self._desk.store.types():
            yield ["no_worker_knows_type", {"type": kind}]
        elif sight is not None and not sight.draining and sight.workers and not sight.knowing:
            yield ["no_worker_has_type", {"type": kind, "workers": sight.workers}]
        if sight is None or sight.draining:
            if sight is None and not self._desk.slots()[1]:
                yield ["no_workers", {}]
        elif not sight.workers:
            yield ["workers_start", {"starting": sight.starting}] if sight.starting else ["no_workers", {}]
        if sight is not None and sight.crashes:
            yield ["type_suspected", {"type": kind, "crashes": sight.crashes, "try_at": sight.try_at}]
        elif sight is not None and sight.gathers is not None:
            waiting, size, left_ms = sight.gathers
            yield ["gathers", {"type": kind, "waiting": waiting, "batch": size, "begins_at": self._desk.now + left_ms}]

    def _place(self, task: Task, tallies: list[Tally], places: int, busy: bool) -> Iterator[Reason]:
        """How many of its queue go before it, and how long that may take in so many ``places`` (0: nobody knows)."""
        queue = task.spec.header.queue
        next_ones = self._desk.store.line(queue, PEEKED)
        found = task.id in next_ones
        if not found and len(next_ones) < PEEKED:
            return
        ahead = next_ones.index(task.id) if found else PEEKED
        details: dict[str, Any] = {"queue": queue, "ahead": ahead}
        mean = self._mean(queue, tallies) if places else None
        if mean is not None and (ahead or busy):
            details["estimate_ms"] = round((ahead + busy) * mean / places / self._share(queue, tallies))
        yield ["place", details if found else {**details, "or_more": True}]

    def _mean(self, queue: str, tallies: list[Tally]) -> float | None:
        """The mean run time in ms of what waits in a queue; None if of some type none has run."""
        total = count = 0.0
        for tally in tallies:
            waits = tally.states[State.PENDING] if tally.queue == queue else 0
            if waits:
                mean = self._desk.mean(tally.type)
                if mean is None:
                    runs = sum(one.runs for one in tallies if one.type == tally.type)
                    if not runs:
                        return None
                    mean = sum(one.run_ms for one in tallies if one.type == tally.type) / runs
                total, count = total + mean * waits, count + waits
        return total / count if count else None

    def _share(self, queue: str, tallies: list[Tally]) -> float:
        """The queue's share of the workers beside the other queues in which tasks wait for them."""
        infos = self._desk.store.queues()
        waiting = {tally.queue for tally in tallies if tally.states[State.PENDING]} | {queue}
        open_ones = [infos.get(name, QueueInfo(name)) for name in waiting if name == queue or name not in self._desk.held]
        weights = {info.name: info.weight for info in open_ones if info.name == queue or not (info.paused or info.external)}
        return weights[queue] / sum(weights.values())


def _paused(info: QueueInfo) -> Reason:
    return ["queue_paused", {"queue": info.name, "who": info.paused_by or None, "since": info.paused_at}]


def _limit(limit: Limit, used: Used) -> Reason:
    """A limit that holds a task, and when it lets the next go; or its tenant's quota."""
    if limit.is_quota:
        return ["quota_reached", {"tenant": used.of, "quota": limit.running, "running": used.running}]
    rule = {"rate": limit.rate, "per_ms": limit.per_ms, "most": limit.running}
    return [
        "limit_reached",
        {"limit": limit.name, "scope": limit.scope, "of": used.of, **rule, "running": used.running, "opens_at": used.opens_at},
    ]


def _expires(task: Task) -> list[Reason]:
    """Whoever waits too long is over."""
    return [["expires", {"expires_at": task.spec.expires_at}]] if task.spec.expires_at else []


def _error(task: Task) -> dict[str, str] | None:
    """What went wrong last, in short: of a task that waits again the error stands with its last attempt."""
    error = task.status.error or (task.status.attempts[-1].error if task.status.attempts else None)
    return {key: str(error.get(key) or "")[:ERROR_MOST] for key in ("type", "message")} if error else None

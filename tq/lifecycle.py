"""The one table of transitions: everything that can happen to a task, and what it becomes.

For: deciding, from a task, what happened to it and the time, what it is now; the picture below is the table.
Not for: I/O, clocks, randomness (``now`` and ``chance`` are arguments), or knowing how a store carries it out.
Runs in: the daemon, inside the broker's turn.
Promises: pure; every change of state in tq is a row of ``TABLE``; a final state is left only by a person's
``retried``, ``given_up`` or ``removed``; ``claim`` never falls, so (id, claim) fences every settle.

    enqueued ──> scheduled ──came_due──> pending ──claimed──> running ──succeeded──> succeeded
       │             ^  ^                 ^  ^ ^                │ │ │
       │             │  └──────snoozed────┼──┼─┼────────────────┘ │ ├──failed──> failed      (out of retries, timed_out too)
       ├──> blocked ─┴──────unblocked─────┘  │ └──released────────┤ ├──crashed─> failed      (the third: poison)
       │                                     │    crashed,        │ └──stopped─> cancelled   (a cancel was asked)
       └──> pending            retrying ─────┘    interrupted     │
                                  ^     came_due                  │
                                  └─────failed, retries left──────┘      lapsed: as crashed
    whatever would run again after its time to live ──> expired
    any waiting state ──cancelled──> cancelled      any waiting state ──ran_out──> expired
    any waiting state ──edited──> a waiting state      blocked ──parent_over──> blocked    blocked ──parent_failed──> cancelled, failed
    blocked ──turn_came──> blocked (by its parents)    failed, expired ──given_up──> cancelled (it held up its ordering key)
    any final state ──retried──> pending, blocked   any final or waiting state ──removed──> (gone)

``succeeded`` of a first attempt and ``claimed`` are the hot path: stores carry them out from this table in
batches (``tq.store.records``), without an object for each step.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from tq.model import (
    FINAL,
    MAX_ATTEMPTS_KEPT,
    MAX_CRASHES,
    MAX_INTERRUPTS,
    WAITING,
    Attempt,
    Backoff,
    Header,
    Spec,
    State,
    Status,
    Task,
)

S = State
RUNNING = frozenset({S.RUNNING})
BLOCKED = frozenset({S.BLOCKED})
GIVEN_UP = frozenset({S.FAILED, S.EXPIRED})


class Row(NamedTuple):
    """One way a task can change. ``to`` None: it is gone."""

    event: str
    start: frozenset[State]  # empty: it did not exist
    to: frozenset[State]  # empty: it exists no more
    changes: str
    by: str


def _states(*states: State) -> frozenset[State]:
    return frozenset(states)


_ENDED = _states(S.FAILED, S.CANCELLED, S.EXPIRED)
"""What an attempt that did not succeed may end in: out of retries or poison, a cancel was asked, its time to live is over."""

TABLE: tuple[Row, ...] = (
    Row("enqueued", _states(), _states(S.SCHEDULED, S.BLOCKED, S.PENDING), "specification, seq or due time", "sender, schedule"),
    Row("came_due", _states(S.SCHEDULED, S.RETRYING), _states(S.PENDING), "seq, ready_at", "the clock"),
    Row("parent_over", BLOCKED, BLOCKED, "waits - the parents that are over", "parents' ends"),
    Row("turn_came", BLOCKED, BLOCKED, "waits - 1: it is the first of its ordering key", "the end of the one before"),
    Row("unblocked", _states(S.BLOCKED), _states(S.PENDING, S.SCHEDULED), "waits = 0, seq, ready_at", "the last parent's end, its turn"),
    Row("parent_failed", _states(S.BLOCKED), _states(S.CANCELLED, S.FAILED), "waits = 0, error, finished_at", "a parent's end"),
    Row("claimed", _states(S.PENDING), RUNNING, "claim + 1, worker, lease", "pool, consumer"),
    Row("extended", RUNNING, RUNNING, "lease", "consumer"),
    Row("cancel_asked", RUNNING, RUNNING, "cancel_asked", "person"),
    Row("succeeded", RUNNING, _states(S.SUCCEEDED), "attempt + 1, result", "worker, consumer"),
    Row("failed", RUNNING, _ENDED | {S.RETRYING}, "attempt + 1, failures + 1, error, due time", "worker, consumer"),
    Row("timed_out", RUNNING, _ENDED | {S.RETRYING}, "as failed", "pool"),
    Row("crashed", RUNNING, _ENDED | {S.PENDING}, "attempt + 1, crashes + 1, error", "pool"),
    Row("lapsed", RUNNING, _ENDED | {S.PENDING}, "as crashed: the consumer let its lease run out", "the clock"),
    Row("interrupted", RUNNING, _ENDED | {S.PENDING}, "attempt + 1, interrupts + 1", "pool, restart"),
    Row("released", RUNNING, _states(S.PENDING, S.CANCELLED, S.EXPIRED), "nothing: it keeps its place", "pool, consumer"),
    Row("snoozed", RUNNING, _states(S.SCHEDULED, S.CANCELLED, S.EXPIRED), "attempt + 1, due time", "worker"),
    Row("stopped", RUNNING, _states(S.CANCELLED), "attempt + 1", "worker"),
    Row("cancelled", WAITING, _states(S.CANCELLED), "finished_at", "person"),
    Row("given_up", _states(S.FAILED, S.EXPIRED), _states(S.CANCELLED), "nothing: those behind it in its ordering key go on", "person"),
    Row("edited", WAITING, WAITING, "specification, place or due time; waits in the line of another queue", "person"),
    Row("ran_out", WAITING, _states(S.EXPIRED), "finished_at", "the clock"),
    Row("retried", FINAL, _states(S.PENDING, S.BLOCKED), "failures, crashes, interrupts = 0; seq or waits", "person"),
    Row("removed", FINAL | WAITING, _states(), "the task is gone", "person, retention"),
)
BY_EVENT: dict[str, Row] = {row.event: row for row in TABLE}


@dataclass(frozen=True, slots=True)
class Outcome:
    """How an attempt, or a hand-out, ended. ``kind`` is the event of the table.

    ``result`` is packed msgpack; ``error`` a map with at least ``type`` and ``message``; ``delay_ms`` a delay
    of the handler's own (Retry, Snooze); ``permanent`` forbids a retry; ``output``: a log file was written.
    """

    kind: str
    started_at: int = 0
    finished_at: int = 0
    result: bytes | None = None
    error: Mapping[str, Any] | None = None
    exit_code: int | None = None
    output: bool = False
    delay_ms: int | None = None
    permanent: bool = False
    worker: str = ""


@dataclass(frozen=True, slots=True)
class Transition:
    """One guarded change: it happens only if the task is in ``start`` and, where given, ``claim`` is its newest."""

    id: int
    event: str
    start: frozenset[State]
    claim: int | None
    status: Status
    spec: Spec | None = None  # an edit's: what it is from now on
    parents: tuple[int, ...] = ()  # of one that stays blocked: the tasks that it waits for no more
    waits: tuple[int, ...] = ()  # of one that becomes blocked: the tasks that it waits for


def backoff_ms(backoff: Backoff, failures: int, chance: float) -> int:
    """The delay before the attempt after the ``failures``-th failure; ``chance`` in [0, 1) spreads it.

    Full delay d becomes d/2 + chance * d/2 with jitter on ("equal jitter", Brooker, AWS Architecture Blog 2015).
    """
    n = max(failures, 1)
    if backoff.kind == "fixed":
        delay = float(backoff.base_ms)
    elif backoff.kind == "linear":
        delay = float(backoff.base_ms) * n
    else:
        delay = backoff.base_ms * backoff.factor ** min(n - 1, 64)
    delay = min(delay, backoff.cap_ms)
    return int(delay / 2 + chance * delay / 2) if backoff.jitter else int(delay)


_ENDS = {"timed_out": "timeout", "lapsed": "crashed", "stopped": "cancelled"}


def settle(task: Task, outcome: Outcome, now: int, chance: float) -> Transition:
    """What a running task becomes when its attempt or hand-out ended with ``outcome``. Pure; ``now`` in ms."""
    old, head, kind = task.status, task.spec.header, outcome.kind
    ends_at = task.spec.created_at + head.deadline_ms if head.deadline_ms else 0
    late = 0 < task.spec.expires_at <= now or 0 < ends_at <= now  # its time was over while it was held
    if kind == "released":
        state = S.CANCELLED if old.cancel_asked else S.EXPIRED if late else S.PENDING
        new = replace(old, state=state, finished_at=now if state.final else 0, started_at=0, worker="")
        return Transition(task.id, kind, RUNNING, old.claim, new)

    number = old.attempt + 1
    started, finished = outcome.started_at or old.started_at or now, outcome.finished_at or now
    new = replace(
        old, attempt=number, started_at=started, finished_at=finished, error=outcome.error, exit_code=outcome.exit_code,
        worker=outcome.worker or old.worker, output=old.output or outcome.output,
    )  # fmt: skip
    word = _ENDS.get(kind, kind)
    end: State | None = None  # None: it will run again
    due_at = 0
    if kind == "succeeded":
        end, new = S.SUCCEEDED, replace(new, result=outcome.result, error=None)
    elif kind in {"failed", "timed_out"}:
        new = replace(new, failures=old.failures + 1)
        again_at = None if outcome.permanent else retry_at(head, new.failures, outcome.delay_ms, now, chance)
        if again_at is None or _too_late(task.spec, ends_at, again_at):
            end = S.FAILED
        else:
            due_at = again_at
        if kind == "timed_out" and 0 < ends_at <= now:
            end = S.EXPIRED
    elif kind in {"crashed", "lapsed"}:
        new = replace(new, crashes=old.crashes + 1)
        end = S.FAILED if head.once or new.crashes >= MAX_CRASHES else None
    elif kind == "interrupted":
        new = replace(new, interrupts=old.interrupts + 1)
        end = S.FAILED if head.once or new.interrupts >= MAX_INTERRUPTS else None
    elif kind == "snoozed":
        due_at = now + (outcome.delay_ms or 0)
    elif kind == "stopped":
        end = S.CANCELLED
    else:
        raise ValueError(f"expected an event that ends an attempt, got {kind!r}")

    if end is None and late:
        end = S.EXPIRED
    if old.cancel_asked and end is not S.SUCCEEDED:
        end = S.CANCELLED
    if end is None:
        run = Attempt(number, started, finished, word, new.worker, outcome.error, outcome.exit_code)
        new = replace(new, attempts=(*old.attempts, run)[-MAX_ATTEMPTS_KEPT + 1 :], finished_at=0)
        if kind == "snoozed":
            new = replace(new, state=S.SCHEDULED, due_at=due_at, seq=0)
        elif due_at:
            new = replace(new, state=S.RETRYING, due_at=due_at, seq=0)
        else:  # crashed or interrupted: back to its old place in the line
            new = replace(new, state=S.PENDING)
    else:
        new = replace(new, state=end)
    return Transition(task.id, kind, RUNNING, old.claim, new)


def retry_at(head: Header, failures: int, delay_ms: int | None, now: int, chance: float) -> int | None:
    """When a task that failed for the ``failures``-th time runs again; None: it does not. ``delay_ms`` is its own wish.

    Limits of time (time to live, deadline, ``retry_for``) are not looked at.
    """
    if failures > head.retries:
        return None
    return now + (delay_ms if delay_ms is not None else backoff_ms(head.backoff, failures, chance))


def _too_late(spec: Spec, ends_at: int, due_at: int) -> bool:
    """Whether a retry would begin when nobody wants it any more."""
    last = spec.created_at + spec.header.retry_for_ms if spec.header.retry_for_ms else 0
    return 0 < last < due_at or 0 < ends_at <= due_at


def is_too_late(task: Task) -> bool:
    """Whether a task that failed might, by its backoff, have been tried again only when nobody wanted it any more."""
    head, status = task.spec.header, task.status
    ends_at = task.spec.created_at + head.deadline_ms if head.deadline_ms else 0
    return _too_late(task.spec, ends_at, status.finished_at + backoff_ms(head.backoff, status.failures, 1.0))


def cancel(task: Task, now: int) -> Transition | None:
    """A person's cancel: at once while it waits, a stored flag while it runs, None when it is already over: but one that has failed
    and holds up others of its ordering key is given up."""
    if task.state in WAITING:
        return Transition(task.id, "cancelled", WAITING, None, replace(task.status, state=S.CANCELLED, finished_at=now, waits=0))
    if task.state is S.RUNNING:
        return Transition(task.id, "cancel_asked", RUNNING, task.status.claim, replace(task.status, cancel_asked=True))
    if in_line(task.spec.header, task.state):
        return Transition(task.id, "given_up", GIVEN_UP, None, replace(task.status, state=S.CANCELLED))
    return None


def come_due(task: Task, now: int) -> Transition:
    """A scheduled or retrying task whose time has come; the store gives it a new place in its lane."""
    status = replace(task.status, state=S.PENDING, seq=0, ready_at=now, due_at=0)
    return Transition(task.id, "came_due", BY_EVENT["came_due"].start, None, status)


def run_out(task: Task, now: int) -> Transition:
    """A waiting task whose time to live is over."""
    return Transition(task.id, "ran_out", WAITING, None, replace(task.status, state=S.EXPIRED, finished_at=now, waits=0))


def parents_over(task: Task, ends: Mapping[int, State], now: int) -> Transition:
    """A blocked task when some that it waits for are over, and in which states: it is cancelled or failed, waits on, or goes its way."""
    status, head = task.status, task.spec.header
    for parent, state in ends.items():
        if suits(head, parent, state):
            continue
        wanted, kind = ("fail", "ParentNotFailed") if parent in head.parents_failed else ("succeed", "ParentFailed")
        error = {"type": kind, "message": f"expected task {parent} to {wanted} before this one runs, but it {_ENDED_SO[state]}"}
        end = S.FAILED if head.strict and wanted == "succeed" else S.CANCELLED
        return Transition(task.id, "parent_failed", BLOCKED, None, replace(status, state=end, finished_at=now, waits=0, error=error))
    if status.waits > len(ends):
        return Transition(task.id, "parent_over", BLOCKED, None, replace(status, waits=status.waits - len(ends)), parents=tuple(ends))
    return _unblocked(task, now)


def turn_came(task: Task, now: int) -> Transition | None:
    """A task whose turn it is among those of its ordering key; None: it does not wait for that any more."""
    if task.state is not S.BLOCKED:
        return None
    if task.status.waits > 1:
        return Transition(task.id, "turn_came", BLOCKED, None, replace(task.status, waits=task.status.waits - 1))
    return _unblocked(task, now)


def _unblocked(task: Task, now: int) -> Transition:
    """It waits for nobody any more."""
    status = task.status
    if status.due_at > now:
        return Transition(task.id, "unblocked", BLOCKED, None, replace(status, state=S.SCHEDULED, waits=0))
    return Transition(task.id, "unblocked", BLOCKED, None, replace(status, state=S.PENDING, waits=0, seq=0, ready_at=now, due_at=0))


def in_line(head: Header, state: State) -> bool:
    """Whether a task in this state has a place among those of its ordering key: it is not over, or it failed and holds up the rest."""
    return head.order is not None and (not state.final or (state in GIVEN_UP and not head.order_goes_on))


_ENDED_SO = {S.SUCCEEDED: "succeeded", S.FAILED: "failed", S.CANCELLED: "was cancelled", S.EXPIRED: "expired"}


def suits(head: Header, parent: int, state: State) -> bool:
    """Whether a task with this header may run after its ``parent`` has come to this end."""
    if parent in head.parents_failed:
        return state in (S.FAILED, S.EXPIRED)
    return state is S.SUCCEEDED or parent in head.parents_any


def edit(task: Task, spec: Spec, due_at: int | None, now: int) -> Transition | None:
    """A person's change of a waiting task: what it is from now on, and when it is due (None: as before, 0: now).

    It keeps its sequence, so within its new level it stands where it would have stood. None if it waits no more.
    """
    if task.state not in WAITING:
        return None
    status = task.status
    if due_at is not None and task.state is S.BLOCKED:
        status = replace(status, due_at=due_at if due_at > now else 0)  # for when it waits no more
    elif due_at is not None:
        if due_at > now:
            state = S.RETRYING if task.state is S.RETRYING else S.SCHEDULED
            status = replace(status, state=state, due_at=due_at, seq=0, ready_at=0)
        elif task.state is not S.PENDING:
            status = replace(status, state=S.PENDING, due_at=0, seq=0, ready_at=now)
    return Transition(task.id, "edited", frozenset({task.state}), None, status, spec)


def retry(task: Task, now: int, spec: Spec | None = None, waits: tuple[int, ...] = ()) -> Transition | None:
    """A person's retry of a finished task: counts from zero, claim and attempts kept; None while it is not over.

    ``spec`` is what it is from now on, if that was changed, ``waits`` the tasks for whose end it is blocked again. Limits of time that
    have passed are lifted.
    """
    if not task.state.final:
        return None
    want = spec or task.spec
    if want.expires_at or want.header.deadline_ms or want.header.retry_for_ms:
        spec = replace(want, expires_at=0, header=replace(want.header, deadline_ms=0, retry_for_ms=0))
    status = replace(
        task.status, state=S.BLOCKED if waits else S.PENDING, seq=0, ready_at=0 if waits else now, due_at=0, finished_at=0, failures=0,
        crashes=0, interrupts=0, cancel_asked=False, result=None, error=None, exit_code=None, attempts=_with_last(task.status),
        waits=len(waits),
    )  # fmt: skip
    return Transition(task.id, "retried", FINAL, None, status, spec, waits=waits)


_OUTCOMES = {"TimedOut": "timeout", "WorkerDied": "crashed", "LeaseLapsed": "crashed", "Interrupted": "interrupted"}
"""What errors of tq's own say of an attempt."""


def _with_last(status: Status) -> tuple[Attempt, ...]:
    """The attempts of a finished task and its last one, which it held itself; what it had before a new life is not lost."""
    if not status.attempt or (status.attempts and status.attempts[-1].number == status.attempt):
        return status.attempts
    error = (status.error or {}).get("type")
    outcome = status.state.word if status.state in (S.SUCCEEDED, S.CANCELLED) else _OUTCOMES.get(str(error), "failed")
    last = Attempt(status.attempt, status.started_at, status.finished_at, outcome, status.worker, status.error, status.exit_code)
    return (*status.attempts, last)[-MAX_ATTEMPTS_KEPT + 1 :]

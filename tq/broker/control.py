"""Control: what a person does to tasks, one by one or to all that a filter matches.

For: ``cancel retry edit remove suspend resume``, each with ids or with a filter (then it is a chore), and their dry runs.
Not for: what a task becomes (lifecycle), stopping its process (pool).
Runs in: the daemon, inside the broker's turn.
Promises: each act is guarded and idempotent: a task that is not in a state for it is left as it is, and the outcome
says so; a bulk act touches only what was there when it was asked for, in the order of arrival.

A full queue takes what is retried by hand, or moved to it, as little as what is sent. Asked for ids, all of that is refused
and nothing is changed. A chore leaves those tasks as they are, goes on, and says at its end how many they were: asked again
when there is room, it does the rest.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

from tq import lifecycle
from tq.arguments import arguments, between, filter_of, task_ids
from tq.broker.desk import Desk, Turn, Verb
from tq.broker.families import Families
from tq.chores import APART
from tq.errors import Refused, UsageError
from tq.lists import Count, Expected, group_name, group_of
from tq.model import SHELL, WAITING, State, Task
from tq.query import Filter
from tq.query.matching import LAST_ID
from tq.store import Chore, Event, NoRoom, Query, QueueFull
from tq.waiting import Request

Act = Callable[[Task, Mapping[str, Any], Turn], str]
"""Does it to one task: the outcome's word."""
CHANGED = frozenset({"cancelled", "asked", "retried", "edited", "removed", "suspended", "resumed"})
EXPECTING = frozenset({"cancel", "retry", "edit", "remove"})
"""Verbs that may be told how many tasks they are expected to change."""
FILTER: dict[str, type] = {"where": str, "queue": str, "type": str, "tenant": str, "states": list, "group": str}


class Control:
    def __init__(self, desk: Desk, families: Families) -> None:
        self._desk, self._families = desk, families
        self._acts: dict[str, Act] = {
            "cancel": self._cancel, "retry": self._retry, "edit": self._edit, "remove": self._remove,
            "suspend": partial(self._hold, "suspend"), "resume": partial(self._hold, "resume"),
        }  # fmt: skip
        self.writes: dict[str, Verb] = dict.fromkeys(self._acts, self._act)
        self.reads: dict[str, Verb] = {"chores": self._chores}

    def _act(self, request: Request, turn: Turn) -> dict[str, Any] | None:
        """One verb for ids, or for all that match: then its chore's id, or with ``dry_run`` how many they are."""
        verb, desk = request.verb, self._desk
        more: dict[str, type] = {"changes": dict} if verb in ("retry", "edit") else {}
        more |= {"in_order": bool} if verb == "retry" else {}
        more |= {"expected": int} if verb in EXPECTING else {}
        args = arguments(verb, request.args, ids=list, dry_run=bool, **FILTER, **more)
        changes = desk.intake.changes(args.pop("changes", None) or {}, desk.now)
        if verb == "edit" and not changes:
            raise UsageError("edit: expected changes (priority, queue, payload, delay_ms, due_at, ...), got none.")
        in_order = args.pop("in_order", False)
        if "ids" in args and len(args) == 1:
            act = self._acts[verb]
            if in_order:
                act = self._retry_in_order
                self._families.release(turn)  # ends of this turn: who waits from now on must not hear of them
            outcomes = []
            for task_id in task_ids(args["ids"]):
                task = desk.one(task_id)
                outcomes.append("unknown" if task is None else act(task, changes, turn))
                if outcomes[-1] in ("suspended", "resumed"):
                    desk.note(request, outcomes[-1], str(task_id))
                elif outcomes[-1] in CHANGED:
                    desk.note(request, verb, str(task_id), None, {"outcome": outcomes[-1], **_shown(changes)})
            return {"outcomes": outcomes}
        if "ids" in args:
            raise UsageError(f"{verb}: expected ids, or a filter, got both, or what belongs to a filter. Drop one.")
        if in_order:
            raise UsageError("retry: in_order: expected ids, the parents before those that wait for them, got a filter.")
        dry_run, group, expected = args.pop("dry_run", False), args.pop("group", None), args.pop("expected", None)
        if dry_run and expected is not None:
            raise UsageError(f"{verb}: expected dry_run or expected, got both. Drop one.")
        if not args and group is None:
            raise UsageError(f"{verb}: expected ids, or a filter (queue, type, states, where), got nothing.")
        where = filter_of(args)
        if dry_run or expected is not None:
            self._count(request, where, group, expected, turn)
            return None
        turn.busy = True
        kept = {**changes, **({"group": group} if group is not None else {})}
        chore = desk.chores.accept(verb, where, kept, desk.now)
        desk.note(request, verb, str(where) or "all", None, {"chore": chore, **_shown(changes)})
        return {"chore": chore}

    def _count(self, request: Request, where: Filter, group: str | None, expected: int | None, turn: Turn) -> None:
        """How many a verb would change: as the answer, or to carry it out if that is as ``expected``."""
        desk, verb = self._desk, request.verb
        reader: Count = Count(partial(self._would, verb))
        if expected is not None:
            unguarded = request._replace(args={name: value for name, value in request.args.items() if name != "expected"})
            expected = between(expected, 0, LAST_ID, "expected")
            reader = Expected(partial(self._would, verb), expected, partial(desk.again, unguarded))
        desk.lists.check()
        states = frozenset(State) if where.states is None else where.states
        found = desk.store.find(Query(states & _open_to(verb, where), where.queue, where.type, limit=1 << 62, ids=where.ids_range))
        turn.later.append(lambda: desk.lists.add(request, found, where, reader, group))

    def work(self, chores: Sequence[Chore], seconds: float, turn: Turn) -> None:
        """One slice of the chore whose turn it is."""
        desk = self._desk
        chore = desk.chores.next(chores)
        changes = dict(chore.args["changes"] or {})
        group = changes.pop("group", None)
        act, open_to = self._acts[chore.verb], _open_to(chore.verb, desk.chores.where(chore))
        if changes.pop("in_order", False):
            act = self._retry_in_order_later
            self._families.release(turn)

        def one(task: Task) -> tuple[str, bool] | None:
            if task.state not in open_to or (group is not None and group_name(group_of(task)) != group):
                return None
            try:
                word = act(task, changes, turn)
            except QueueFull:
                word = "full"
            return word, word in CHANGED

        states = _HELD if chore.verb in APART else None  # of what may change its state meanwhile, nothing is left out
        over = desk.chores.work(chore, chores, seconds, one, states, turn.later)
        if over is not None:
            turn.steps.append(("chore_done", [(over.id, over.verb, over.seen, over.changed)]))
            counts = {"verb": over.verb, "seen": over.seen, "changed": over.changed, "left": over.left}
            desk.store.note(Event(0, desk.now, "tq", "chore_done", str(over.id), None, counts))  # who asked for it reads it there
        turn.busy = True

    def _cancel(self, task: Task, changes: Mapping[str, Any], turn: Turn) -> str:
        change = lifecycle.cancel(task, self._desk.now)
        now = self._desk.carry_out(change, turn) if change is not None else None
        if now is None:
            return "over"
        return "cancelled" if now.state.final else "asked"

    def _retry(self, task: Task, changes: Mapping[str, Any], turn: Turn) -> str:
        return self._again(task, changes, (), turn)

    def _retry_in_order(self, task: Task, changes: Mapping[str, Any], turn: Turn) -> str:
        """As ``_retry``, but it waits again for those of its parents that are not over, and stays as it is if one did not end as it
        should."""
        waits = self._families.outstanding(task) if task.state.final else ()
        return "over" if waits is None else self._again(task, changes, waits, turn)

    def _retry_in_order_later(self, task: Task, changes: Mapping[str, Any], turn: Turn) -> str:
        """The same in a chore, which cannot be refused: "telling" if some are still to hear how its parents ended."""
        try:
            return self._retry_in_order(task, changes, turn)
        except (NoRoom, QueueFull):
            raise
        except Refused:
            return "telling"

    def _again(self, task: Task, changes: Mapping[str, Any], waits: tuple[int, ...], turn: Turn) -> str:
        spec = self._desk.intake.changed(task.spec, changes) if changes else None
        change = lifecycle.retry(task, self._desk.now, spec, waits)
        if change is None:
            return "waiting" if task.state in WAITING else "running"
        turn.stirred = True
        return "retried" if self._desk.carry_out(change, turn) is not None else "taken"

    def _edit(self, task: Task, changes: Mapping[str, Any], turn: Turn) -> str:
        spec = self._desk.intake.changed(task.spec, changes)
        change = lifecycle.edit(task, spec, changes.get("due_at"), self._desk.now)
        now = self._desk.carry_out(change, turn) if change is not None else None
        if now is None:
            return "over" if task.state.final else "running"
        turn.stirred = True
        return "edited"

    def _remove(self, task: Task, changes: Mapping[str, Any], turn: Turn) -> str:
        """Who waits for a task that waited hears that it is cancelled."""
        if task.state is State.RUNNING:
            return "running"
        if not self._desk.store.remove([task.id])[0]:
            return "unknown"
        turn.steps.append(("removed", [task]))
        if task.state in WAITING:
            turn.ended.append((task.id, State.CANCELLED.word, None))
            if self._desk.store.awaited((task.id,)):
                self._desk.are_over([task.id], State.CANCELLED, turn)
        if task.status.output:
            turn.removed.append(task.id)
        return "removed"

    def _hold(self, verb: str, task: Task, changes: Mapping[str, Any], turn: Turn) -> str:
        """Only commands: a function runs in a worker's own process, which others need."""
        if task.spec.header.type != SHELL:
            return "function"
        if task.state.final:
            return "over"
        if task.state is State.RUNNING and self._desk.hold(verb, task.id):
            return "suspended" if verb == "suspend" else "resumed"
        return "not_running" if verb == "suspend" else "not_suspended"

    def _would(self, verb: str, task: Task) -> bool:
        """Whether a verb, asked for now, would change a task that is in a state for it."""
        if verb == "resume":
            return bool(self._desk.live(task.id).get("suspended"))
        if verb == "cancel" and task.state.final:
            return lifecycle.in_line(task.spec.header, task.state)
        return verb != "suspend" or task.spec.header.type == SHELL

    def _chores(self, request: Request, turn: Turn) -> dict[str, Any]:
        arguments(request.verb, request.args)
        chores = self._desk.store.chores()
        names = ("id", "verb", "seen", "changed", "left")
        return {"chores": [{name: getattr(one, name) for name in names} | {"where": one.args["where"]} for one in chores]}


_HELD = frozenset({State.RUNNING})
_FINAL = frozenset(state for state in State if state.final)
_OPEN_TO: dict[str, frozenset[State]] = {
    "cancel": WAITING | {State.RUNNING}, "retry": _FINAL, "edit": WAITING, "remove": _FINAL | WAITING,
    "suspend": _HELD, "resume": _HELD,
}  # fmt: skip
"""The states from which each verb changes something."""


def _open_to(verb: str, where: Filter) -> frozenset[State]:
    """The states in which a bulk verb looks at tasks. A failed one that holds up its ordering key is given up only where the filter
    speaks of states: who cancels a queue does not mean what is over."""
    if verb == "cancel" and where.states is not None:
        return _OPEN_TO[verb] | (lifecycle.GIVEN_UP & where.states)
    return _OPEN_TO[verb]


def _shown(changes: Mapping[str, Any]) -> dict[str, Any]:
    """Changes as an event keeps them: a payload by its size."""
    return {name: len(value) if name == "payload" else value for name, value in changes.items()}

"""The desk: what every verb of the broker works with, and how a change of a task is carried out.

For: what a turn did (``Turn``); settling and changing tasks so that log, waiters and watchers hear of it.
Not for: which verbs there are, the order of a turn's steps (the broker itself).
Runs in: the daemon, inside the broker's turn.
Promises: whatever changes a task goes through ``settle_rows`` or ``carry_out``, so that no end goes unheard.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from operator import itemgetter
from typing import Any, NamedTuple

from tq import lifecycle
from tq.answers import outcome_of
from tq.chores import Chores
from tq.errors import TqError
from tq.history import History
from tq.intake import Intake
from tq.lifecycle import Transition
from tq.lists import Lists
from tq.model import State, Task
from tq.store import Claimed, Event, Failure, Space, Store, Want
from tq.views import Views, line
from tq.waiting import Request, Waiting

BAD_ENDS = frozenset({"failed", "timed_out", "crashed", "lapsed"})
"""Ends of a run that are failures of its type; the others say nothing of it."""
_ID = itemgetter(0)
_SUCCESS = itemgetter(0, 1, 3, 4, 5, 6)
"""A worker's row as the store takes it (see Success)."""

Step = tuple[str, Sequence[Any]]
"""For the log: an event and what it happened to; see ``tq.broker.steps``."""


class Said(NamedTuple):
    """What a running task said of how far it is."""

    id: int
    fraction: float
    text: str


class Sight(NamedTuple):
    """What only the daemon knows that bears on when one task runs. ``try_at`` and ``ends_at`` in ms by the wall clock."""

    draining: bool
    workers: int
    """Processes that are ready, ..."""
    starting: int
    """... that are not yet, ..."""
    knowing: int
    """... and those of the ready ones that have the task's type."""
    crashes: int
    """In a row, of a type that is held back for them; one of it is tried at ``try_at``."""
    try_at: int
    begun: bool
    """Of a task that runs: its worker has come to it."""
    ends_at: int | None
    """Of a task that a worker has: when its time is up, without what it was suspended; 0: never, as things stand."""
    gathers: tuple[int, int, int] | None = None
    """Of a type whose next call waits for more tasks: how many there are, how many it takes, and how many ms it waits."""


class Hold(NamedTuple):
    """Why nothing of a queue starts for now."""

    rules: tuple[str, ...]
    """Which of its rules say so, "load", "memory" or "probe"; none: what they say is not known yet."""
    why: str
    """In words."""
    looked_at: int = 0
    """When that was found (ms)."""

    def row(self, now: int) -> dict[str, Any]:
        """As it travels to clients."""
        return {"rules": list(self.rules), "why": self.why, **({"age_ms": max(now - self.looked_at, 0)} if self.rules else {})}


@dataclass(slots=True)
class Turn:
    """What one turn did, to be acted on after it."""

    answers: list[tuple[int, bytes]] = field(default_factory=list)
    grants: list[tuple[Want, list[Claimed]]] = field(default_factory=list)
    steps: list[Step] = field(default_factory=list)
    ended: list[tuple[int, str, int | None]] = field(default_factory=list)
    over: list[tuple[int, State, int]] = field(default_factory=list)  # what others wait for: id, end, and the ids below which those are
    removed: list[int] = field(default_factory=list)  # tasks with output that were forgotten
    stirred: bool = False  # something may have become claimable
    busy: bool = False  # more to do at once
    complete: list[int] = field(default_factory=list)  # batches that are over
    later: list[Callable[[], None]] = field(default_factory=list)  # changes of the broker's own memory, after the commit


Verb = Callable[[Request, Turn], dict[str, Any] | None]
"""Carries out a request; the body of its answer, or None: it is (or was) answered otherwise."""


class Undone(Exception):
    """A request that failed after it had changed something: its turn is done again without it. ``cause`` is the answer."""

    def __init__(self, cause: TqError) -> None:
        super().__init__(cause.message)
        self.cause = cause


class Desk:
    """One broker's store and memory. ``now`` is the turn's, in ms; ``clock`` gives seconds and only bounds slices."""

    def __init__(self, store: Store, intake: Intake, chance: Callable[[], float], clock: Callable[[], float]) -> None:
        self.store = store
        self.intake = intake
        self.chance = chance
        self.clock = clock
        self.now = 0
        self.lists = Lists(clock)
        self.views = Views(store, lambda task: line(task, self.live(task.id) if task.state is State.RUNNING else {}), clock)
        self.chores = Chores(store, clock)
        self.waiting = Waiting()
        self.again: Callable[[Request], None] = lambda _: None
        """Take a request once more, for the next turn: the broker's to do."""
        self.history = History()
        self.followed: set[int] = set()
        """Tasks whose end the daemon wants to see in ``Turn.ended``."""
        self.blocking: set[int] = set()
        """Tasks for whose end slots of schedules wait."""
        self.declared: dict[str, dict[str, Any]] = {}
        """What the settings file says of queues, as the store has it."""
        self.declared_in: str | None = None
        self.slots: Callable[[], tuple[int, int]] = lambda: (0, 0)
        """Slots that run a task, slots in all: the daemon's to say."""
        self.live: Callable[[int], dict[str, Any]] = lambda _: {}
        """What only the pool knows of a running task, as keys of its row: the daemon's to say."""
        self.sight: Callable[[Task], Sight | None] = lambda _: None
        """What bears on when a task runs and stands in no store: the daemon's to say, None if nobody does."""
        self.mean: Callable[[str], float | None] = lambda _: None
        """How long a task of a type ran lately, in ms: the daemon's to say, None if it did not see any."""
        self.boot = 0
        """This boot of the machine: the daemon's to say, 0 if nobody does."""
        self.lost: Callable[[], int] = lambda: 0
        """How many workers have died unasked since the start: the daemon's to say."""
        self.suspected: Callable[[], Mapping[str, int]] = dict
        """Types that are held back, and how many crashes in a row each has: the daemon's to say."""
        self.space: Callable[[], Space | None] = lambda: None
        """How much room the store has: the daemon's to say, None if nobody does."""
        self.stepped: tuple[int, int] = (0, 0)
        """When the clock was put forward or back last (ms), and by how many ms; 0: it was not, since the start."""
        self.held: Mapping[str, Hold] = {}
        """The queues that are held for now; see ``Broker.hold_queues``."""
        self.holds_changed: Callable[[str], None] = lambda _: None
        """Rules of holds have been put to a queue, or taken from it, in this turn: the daemon's to hear."""
        self.ends_seen: dict[str, Callable[[Sequence[Sequence[Any]], Turn], None]] = {}
        """Who looks at rows before they are settled: breakers and adaptive limits, while there are any."""
        self.holding: Callable[[], dict[str, list[dict[str, Any]]]] = lambda: {"limits": [], "breakers": []}
        """The limits that hold back something, and the breakers that are not closed, as they travel to clients: the broker's to say."""
        self.left_seen: Callable[[int, Turn], None] | None = None
        """Hears of each task that may have left its worker by anything but its end; None: nobody wants to."""
        self.each_worker: Callable[[Want, Callable[[Want], list[Claimed]], Turn], list[Claimed]] | None = None
        """Claims for one worker, by a function that claims, what limits of each worker let it have; None: there are none."""
        self.gate: Callable[[Want, Turn], list[Claimed]] | None = None
        """Claims instead of the store what may be handed out now; None: all may. The breakers' to say."""
        self.hold: Callable[[str, int], bool] = lambda _verb, _task_id: False
        """"suspend" or "resume" the command of a running task; False: it is not one to which that can be done. The daemon's to
        do, at once and not with the commit: it changes no task, and doing it again changes nothing."""

    def row(self, task: Task) -> dict[str, Any]:
        """The task as it travels to clients."""
        row = task.row()
        if task.state is State.RUNNING:
            row |= self.live(task.id)
        return row

    def settle_rows(self, rows: Sequence[Sequence[Any]], turn: Turn) -> list[bool]:
        """Settle each row: successes and failures that are simply retried in batches, the rest one by one; whether each was held."""
        for look in self.ends_seen.values():
            look(rows, turn)
        wins = [row for row in rows if row[2] == 0]
        won = self.store.succeed(list(map(_SUCCESS, wins))) if wins else []
        if wins:
            turn.steps.append(("succeeded", wins if all(won) else [row for row, ok in zip(wins, won, strict=True) if ok]))
            if awaited := self.store.awaited(map(_ID, wins)):
                self.are_over([row[0] for row, ok in zip(wins, won, strict=True) if ok and row[0] in awaited], State.SUCCEEDED, turn)
        wanted = self.waiting.for_ends or self.followed or self.blocking or turn.later  # who is about to wait is in later
        if len(wins) == len(rows) and not wanted:
            return won
        again = self._retry_later([row for row in rows if row[2] == "failed"], turn) if len(wins) < len(rows) else set()
        next_won, held = iter(won), []
        for row in rows:
            if row[2] == 0:
                held.append(next(next_won))
                if held[-1]:
                    turn.ended.append((row[0], "succeeded", None))
            else:
                held.append(id(row) in again or self._settle_one(row, turn))
                turn.stirred = True
        return held

    def _retry_later(self, rows: Sequence[Sequence[Any]], turn: Turn) -> set[int]:
        """Settle in one batch the failures of which nothing but the number of retries decides; which rows that were, by ``id()``."""
        found: list[Failure] = []
        these: list[Sequence[Any]] = []
        taken: set[int] = set()  # a task that is answered for twice is held but once
        for row, run in zip(rows, self.store.running([row[0] for row in rows]), strict=True):
            more = row[6] or {}
            if run is None or not run.plain or run.claim != row[1] or row[0] in taken or not (row[3] and row[4]) or more.get("permanent"):
                continue
            due_at = lifecycle.retry_at(run.header, run.failures + 1, more.get("delay_ms"), self.now, self.chance())
            if due_at is not None and not more.get("worker"):
                taken.add(row[0])
                these.append(row)
                found.append(Failure(row[0], row[1], row[3], row[4], bool(row[5]), more, due_at))
        if found:
            self.store.retry_later(found)
            turn.steps.append(("failed", these))
        return set(map(id, these))

    def _settle_one(self, row: Sequence[Any], turn: Turn) -> bool:
        """Settle by the table; whether the claim was still held."""
        task = self.one(row[0])
        if task is None or task.state is not State.RUNNING or task.status.claim != row[1]:
            return False
        change = lifecycle.settle(task, outcome_of(row), self.now, self.chance())
        return self.carry_out(change, turn) is not None

    def carry_out(self, change: Transition, turn: Turn) -> Task | None:
        """Apply one transition; the task as it is now, None if its guard did not hold."""
        return self.carry_out_all([change], turn)[0]

    def carry_out_all(self, changes: Sequence[Transition], turn: Turn) -> list[Task | None]:
        """The same of several, in their order."""
        done = self.store.apply(changes)
        self._carried_out(zip(changes, done, strict=True), turn)
        return done

    def change_each(self, ids: Sequence[int], decide: Callable[[Task], Transition | None], turn: Turn) -> int:
        """Apply what ``decide`` says of each of these tasks, with one look at each; how many changed. No id may come twice."""
        done = self.store.change(ids, decide)
        self._carried_out(done, turn)
        return len(done)

    def _carried_out(self, done: Iterable[tuple[Transition, Task | None]], turn: Turn) -> None:
        for change, now in done:
            if now is not None:
                turn.steps.append((change.event, [now]))
                if self.left_seen is not None and now.state is not State.RUNNING:
                    self.left_seen(now.id, turn)
                if now.state.final:
                    turn.ended.append((now.id, now.state.word, now.status.exit_code))
                    if self.store.awaited((now.id,)):
                        self.are_over([now.id], now.state, turn)

    def are_over(self, parents: Iterable[int], state: State, turn: Turn) -> None:
        """Others wait for these tasks, which are over: they hear of it before the turn is committed."""
        below = self.store.last_id() + 1
        turn.over += [(parent, state, below) for parent in parents]

    def note(self, request: Request, what: str, target: str, *changes: dict[str, Any] | None) -> None:
        """Remember what a person did; ``changes`` are what it was before and after."""
        before, after = (*changes, None, None)[:2]
        self.store.note(Event(0, self.now, request.who or "tq", what, target, before, after))

    def one(self, task_id: int) -> Task | None:
        return self.store.get([task_id])[0]

    def forgotten(self, ids: Iterable[int], turn: Turn) -> None:
        """These tasks are gone, and they had output."""
        turn.removed += ids

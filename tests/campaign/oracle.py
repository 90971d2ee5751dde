"""What must hold, whatever happens: the invariants, checked against what actors were told.

For: ``Oracle``: the promises that were made (ids accepted, claims granted, ends reported), and the checks of a store against them.
Not for: making anything happen.
Runs in: the process of a simulation, between the turns of its daemon.
Promises: each violation is one sentence that begins with the invariant's name: I1 what was accepted is never absent; I2 a task is
in exactly one state, and in the index of that one; I3 one valid claim a task, stale ones change nothing; I4 local runs of a task
never overlap; I5 attempts recorded are at least those begun; I6 claims go by priority, then sequence; I7 counts equal a recount;
I8 limits hold; I9 a unique name has one live task; I10 nothing begins before what it waits for, nor is let go twice; I11 when the
faults stop, everything ends; I12 what was told is durable.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from typing import Any, NamedTuple

from tests.campaign.order import Order
from tests.campaign.simulated import Found, Machine
from tq.broker import Turn
from tq.errors import TqError
from tq.model import State, Task
from tq.store import Query, Store

WORDS = {state.word: state for state in State if state.final}
BRIEF = "brief"
"""The queue whose finished tasks are soon forgotten."""
RETRIED = "small"
"""The queue that operators retry and empty as a whole."""
FIRST = ("first-send0", "first-send1")
"""How senders label their tasks."""
MOST = 12
"""Tasks that it may hold."""


class Place(NamedTuple):
    """Where a task stands in its queue: the smaller goes first."""

    level: int
    seq: int
    type: str


Pending = Mapping[str, Mapping[int, Place]]
"""Places by queue and task."""


class Oracle:
    def __init__(self, machine: Machine) -> None:
        self.machine = machine
        # What a task's payload may be: of a unique name, any that was sent under it; of a debounced one, any that ever will be.
        self.owed: dict[int, AbstractSet[bytes]] = {}
        self.queue: dict[int, str] = {}
        self.sent: set[bytes] = set()
        self.named: dict[tuple[str, str], set[bytes]] = {}  # payloads sent under each unique name
        self.refused: set[bytes] = set()
        self.final: dict[int, State] = {}
        self.doubtful: Counter[int] = Counter()  # retries under way: what was final may not be
        self.lives: Counter[int] = Counter()  # how often a retry was asked for: what was heard of the life before means nothing
        self.removable: set[int] = set()
        self.gone: set[int] = set()
        self.newest: dict[int, int] = {}
        self.over: set[tuple[int, int]] = set()  # claims that were settled
        self.begun: Counter[int] = Counter()
        self.runs: dict[int, Any] = {}  # by task: the process in which it runs now
        self.labels: dict[int, set[str | None]] = {}  # what a task's label may be
        self.keys: dict[bytes, int] = {}
        self.emptied = False
        self.extra = 0  # tasks that came into RETRIED by other ways than being sent
        self.reached: set[State] = set()
        self.graphs: list[list[int]] = []  # tasks of requests in which some wait for others
        self.order = Order(self.wrong, self.lives, self._may_live_again)

    def wrong(self, invariant: str, text: str) -> None:
        raise Found(f"{invariant}: {text}")

    # -- what senders are told -------------------------------------------------------------------------------------

    def sends(self, tasks: Sequence[Sequence[Any]]) -> None:
        for kind, payload, options in tasks:
            self.sent.add(payload)
            if "unique" in options:
                self.named.setdefault((kind, options["unique"]), set()).add(payload)

    def accepted(self, tasks: Sequence[Sequence[Any]], body: dict[str, Any] | None, error: TqError | None) -> None:
        if body is None:
            if error is not None and error.code in ("conflict", "usage"):  # refused ones may have been stored before they were repeated
                self.refused |= {payload for _, payload, options in tasks if "key" not in options}
            return
        if len(body["ids"]) != len(tasks):
            self.wrong("I1", f"expected {len(tasks)} ids, got {body['ids']}")
        for task_id, (kind, payload, options) in zip(body["ids"], tasks, strict=True):
            if "key" in options and self.keys.setdefault(payload, task_id) != task_id:
                self.wrong("I1", f"expected key {payload!r} to name task {self.keys[payload]} again, got {task_id}")
            may_be = frozenset(self.named[kind, options["unique"]]) if "unique" in options else frozenset({payload})
            is_known = self.owed.get(task_id)
            if "debounce_ms" in options and (is_known is None or is_known is self.named[kind, options["unique"]]):
                self.owed[task_id] = self.named[kind, options["unique"]]
                self.queue[task_id] = ""
                self.labels.setdefault(task_id, set(FIRST))  # what an operator made of it is not undone by what comes again
                continue
            self.owed[task_id] = may_be & is_known if is_known is not None else may_be
            if not self.owed[task_id]:
                self.wrong("I1", f"expected an id that is given once, got {task_id} for {is_known} and {payload!r}")
            if is_known is None:
                self.queue[task_id] = options["queue"] if "unique" not in options else ""
                self.labels[task_id] = {options["label"]} if "unique" not in options else set(FIRST)

    def waited(self, lives: Mapping[int, int], body: dict[str, Any] | None) -> None:
        """``lives``: how often each was retried when it was asked."""
        for row in body["tasks"] if body is not None else ():
            if row is not None and (state := WORDS.get(row["state"])) is not None and self.lives[row["id"]] == lives[row["id"]]:
                self.ended(row["id"], state)

    # -- what consumers are told -----------------------------------------------------------------------------------

    def granted(self, task_id: int, claim: int) -> None:
        """A claim goes out to somebody."""
        if claim <= self.newest.get(task_id, 0):
            self.wrong("I3", f"expected a claim of task {task_id} above {self.newest[task_id]}, got {claim}: one claim in two hands")
        self.newest[task_id] = claim

    def leased(self, task_id: int, claim: int, payload: bytes) -> None:
        self._is_as_sent(task_id, payload)
        if (task_id, claim) in self.over:
            self.wrong("I3", f"expected a claim of task {task_id} that is not over, got {claim} again")
        self.newest[task_id] = max(claim, self.newest.get(task_id, 0))

    def is_over(self, task_id: int, claim: int) -> bool:
        """Whether a claim was settled, or another one given since, or it was never given."""
        return (task_id, claim) in self.over or claim != self.newest.get(task_id, 0)

    def settled(self, task_id: int, claim: int, kind: str, was: tuple[bool, int], body: dict[str, Any] | None) -> None:
        """``was``: whether it was over already when it was asked, and how often it had been retried."""
        if body is None or body["settled"] != [True]:
            return
        was_over, lives = was
        if was_over or (task_id, claim) in self.over:
            self.wrong("I3", f"expected claim {claim} of task {task_id} to be over, but it settled it")
        self.over.add((task_id, claim))
        if kind == "succeeded" and self.lives[task_id] == lives:
            self.ended(task_id, State.SUCCEEDED)

    def extended(self, task_id: int, claim: int, was_over: bool, body: dict[str, Any] | None) -> None:
        if body is not None and body["ok"] and was_over:
            self.wrong("I3", f"expected claim {claim} of task {task_id} to be over, but it was extended")

    def ended(self, task_id: int, state: State) -> None:
        """Somebody was told that a task is over: unless it is retried, it stays so."""
        if not self._may_live_again(task_id):
            known = self.final.setdefault(task_id, state)
            if known is not state:
                self.wrong("I12", f"expected task {task_id} to stay {known.word}, as was told, found it {state.word}")

    def _may_live_again(self, task_id: int) -> bool:
        return self.doubtful[task_id] > 0 or self.queue.get(task_id, "") in ("", RETRIED)

    # -- what operators are told -----------------------------------------------------------------------------------

    def acts(self, verb: str, ids: Iterable[int], changes: Mapping[str, Any] | None) -> None:
        """An operator asks for something; from now on it may happen."""
        for task_id in ids:
            if verb == "remove":
                self.removable.add(task_id)
            elif verb == "retry":
                self.doubtful[task_id] += 1
                self.lives[task_id] += 1
                self.final.pop(task_id, None)
                self.extra += self.queue[task_id] in ("", RETRIED)
            if changes is not None:
                self.labels[task_id].add(changes["label"])

    def acted(self, verb: str, ids: Sequence[int], changes: Mapping[str, Any] | None, body: dict[str, Any] | None) -> None:
        for task_id, outcome in zip(ids, body["outcomes"] if body is not None else [None] * len(ids), strict=True):
            if verb == "retry":
                self.doubtful[task_id] -= 1
            if outcome in ("edited", "retried") and changes is not None:
                self.labels[task_id] = {changes["label"]}  # a person does one thing after the other
            elif outcome == "removed":
                self.gone.add(task_id)
            elif outcome == "cancelled":
                self.ended(task_id, State.CANCELLED)

    def acts_on_queue(self, queue: str) -> None:
        """It is emptied, or retried, as a whole."""
        assert queue == RETRIED
        self.emptied = True
        self.extra += 1000

    # -- what workers do -------------------------------------------------------------------------------------------

    def begins(self, task_id: int, claim: int, payload: bytes, process: Any) -> None:
        self.machine.note("begins", task_id, claim, process.pid)
        self._is_as_sent(task_id, payload)
        other = self.runs.get(task_id)
        if other is not None:
            self.wrong("I4", f"expected one run of task {task_id} at a time, found it in processes {other.pid} and {process.pid}")
        if (task_id, claim) in self.over or claim < self.newest.get(task_id, 0):
            self.wrong("I3", f"expected task {task_id} to run under its newest claim {self.newest[task_id]}, found a run under {claim}")
        self.runs[task_id] = process
        self.begun[task_id] += 1

    def ends(self, task_id: int, process: Any) -> None:
        if self.runs.pop(task_id, None) is not process:
            self.wrong("I4", f"expected task {task_id} to run in process {process.pid}")

    def _is_as_sent(self, task_id: int, payload: bytes) -> None:
        if payload not in self.sent or payload not in self.owed.get(task_id, self.sent):
            self.wrong("I1", f"expected task {task_id} with the payload it was sent with, got {payload!r}")

    # -- the store against all that --------------------------------------------------------------------------------

    def look(self, store: Store, ids: Sequence[int]) -> None:
        """Some tasks, as they are now."""
        for task_id, task in zip(ids, store.get(ids), strict=True):
            self._look_at(task_id, task)

    def _look_at(self, task_id: int, task: Task | None) -> None:
        if task is None:
            forgotten = task_id in self.removable or self.queue[task_id] in ("", BRIEF) or (self.emptied and self.queue[task_id] == RETRIED)
            if not forgotten:
                self.wrong("I1", f"expected task {task_id}, which was accepted, found none")
            self.gone.add(task_id)
            return
        if task_id in self.gone:
            self.wrong("I12", f"expected task {task_id} to be gone, as was seen, found it {task.state.word}")
        if task.spec.payload not in self.owed[task_id]:
            self.wrong("I1", f"expected task {task_id} with a payload among {set(self.owed[task_id])}, got {task.spec.payload!r}")
        if isinstance(self.owed[task_id], frozenset):
            self.owed[task_id] = frozenset({task.spec.payload})
        self.queue[task_id] = task.spec.header.queue
        if task.spec.header.label not in self.labels[task_id]:
            self.wrong("I12", f"expected task {task_id} labelled {self.labels[task_id]}, as was told, found {task.spec.header.label!r}")
        if self.newest.get(task_id, 0) > task.status.claim:
            self.wrong("I3", f"expected task {task_id} with claim {self.newest[task_id]}, which was handed out, found {task.status.claim}")
        self.reached.add(task.state)
        if task.state.final:
            self.ended(task_id, task.state)
        elif task_id in self.final and not self._may_live_again(task_id):
            self.wrong("I12", f"expected task {task_id} to stay {self.final[task_id].word}, as was seen, found it {task.state.word}")
        if task.state.final and (begun := self.begun[task_id]) > task.status.attempt:
            self.wrong("I5", f"expected at least {begun} attempts of task {task_id}, which were begun, found {task.status.attempt}")

    def look_everywhere(self, store: Store) -> None:
        """Every task and every index."""
        self.look(store, [task_id for task_id in self.owed if task_id not in self.gone])
        tasks = {task.id: task for task, _ in _found(store, Query(limit=1 << 40))}
        payloads = Counter(task.spec.payload for task in tasks.values() if not task.spec.header.key)
        for payload, count in payloads.items():
            if payload not in self.sent or payload in self.refused:
                self.wrong("I1", f"expected tasks that were sent and not refused, found {payload!r}")
            if count > 1:
                self.wrong("I1", f"expected {payload!r} once, as it was sent, found it {count} times")
        named = Counter((t.spec.header.type, t.spec.header.unique) for t in tasks.values() if t.spec.header.unique and not t.state.final)
        for name, count in named.items():
            if count > 1:
                self.wrong("I9", f"expected one live task with the unique name {name}, found {count}")
        for state in State:
            by_index = sorted(task.id for task, _ in _found(store, Query(frozenset({state}), limit=1 << 40)))
            if by_index != (by_record := sorted(task.id for task in tasks.values() if task.state is state)):
                self.wrong("I2", f"expected the tasks that are {state.word} in their index ({by_record}), found {by_index}")
        self._recount(store, tasks.values())
        running = sorted(task.id for task in tasks.values() if task.state is State.RUNNING)
        if (held := sorted(one.id for one in store.held())) != running:
            self.wrong("I3", f"expected what runs ({running}) to be held once each, found {held}")

    def _recount(self, store: Store, tasks: Iterable[Task]) -> None:
        states: Counter[tuple[str, str, State]] = Counter()
        sizes: Counter[tuple[str, str]] = Counter()
        for task in tasks:
            key = (task.spec.header.queue, task.spec.header.type)
            states[*key, task.state] += 1
            sizes[key] += 0 if task.state.final else len(task.spec.payload)
        for tally in store.tallies():
            key = (tally.queue, tally.type)
            counted = [states.pop((*key, state), 0) for state in State]
            if (tally.states, tally.bytes) != (counted, sizes[key]):
                self.wrong("I7", f"expected counts {counted} and {sizes[key]} bytes of {key}, found {tally.states} and {tally.bytes}")
        if states:
            self.wrong("I7", f"expected counts of {dict(states)}, found none")

    # -- after each turn -------------------------------------------------------------------------------------------

    def turned(self, store: Store, turn: Turn, before: Pending | None) -> None:
        """``before``: what was pending, if that was looked at."""
        if any(event == "added" for event, _ in turn.steps):
            full = sum(sum(tally.states[: State.SUCCEEDED]) for tally in store.tallies() if tally.queue == RETRIED)
            if full > MOST + self.extra:
                self.wrong("I8", f"expected at most {MOST} tasks in queue {RETRIED!r}, found {full}")
        if before is not None and turn.grants:
            self._order(store, turn, before)

    def _order(self, store: Store, turn: Turn, before: Pending) -> None:
        """What still waits was not passed over by what was claimed, unless that had waited too long (aging)."""
        after = pending(store)
        for queue, line in before.items():
            info = store.queues().get(queue)
            aged = info is None or bool(info.aging_ms and info.aging_share)
            still = line.keys() & after.get(queue, {}).keys()
            for want, tasks in turn.grants:
                taken = [line[task.id] for task in tasks if task.id in line]
                kinds = want.types
                left = [line[one] for one in still if line[one] == after[queue][one] and (kinds is None or line[one].type in kinds)]
                for place in taken:
                    passed = [other for other in left if (other.level == place.level or not aged) and other < place]
                    if passed:
                        self.wrong("I6", f"expected {min(passed)} of queue {queue!r} to be claimed before {place}")

    def all_over(self, store: Store) -> bool:
        """Whether everything that was accepted has come to its end."""
        ids = [task_id for task_id in self.owed if task_id not in self.gone]
        return not store.chores() and all(task is None or task.state.final for task in store.get(ids))

    def unfinished(self, store: Store) -> dict[int, str]:
        ids = [task_id for task_id in self.owed if task_id not in self.gone]
        return {task.id: task.state.word for task in store.get(ids) if task is not None and not task.state.final}


def _found(store: Store, query: Query) -> Iterable[tuple[Task, bytes]]:
    return (one for one in store.find(query) if one is not None)


def pending(store: Store) -> Pending:
    """What waits for a worker."""
    found: dict[str, dict[int, Place]] = defaultdict(dict)
    for task, _ in _found(store, Query(frozenset({State.PENDING}), limit=1 << 40)):
        head = task.spec.header
        found[head.queue][task.id] = Place(9 - head.priority, task.status.seq, head.type)
    return found

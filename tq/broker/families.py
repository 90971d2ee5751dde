"""Families: tasks that wait for other tasks, those of their ordering key among them, and what the end of those means to them.

For: which of a new task's parents it has to wait for; letting go, or cancelling, what waits for a task that is over; letting go
    the next of an ordering key.
Not for: what becomes of one child (lifecycle), which tasks wait for which, whose turn it is (store).
Runs in: the daemon, inside the broker's turn.
Promises: the children hear of their parent's end in the transaction that holds it, or, where they are more than SCAN_MOST or the
turn's time for it has passed, by a chore that is written there; whoever was cancelled by that is a parent that is over, too; each
child meets the ends of one parent in their order, and only those that came after it was sent.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from itertools import chain

from tq import lifecycle
from tq.broker.desk import Desk, Turn
from tq.errors import NoSuchTask, Refused, StoreDamaged
from tq.lifecycle import Transition
from tq.model import Header, State, Task, with_own
from tq.store import RELEASE, SCAN_MOST, Chore, Draft, release

SLICE = 50
"""Children between two looks at the clock: about a millisecond."""
TELL_S = 0.01
"""How long a turn tells children of its own ends, if they are more than SCAN_MOST, and of earlier ones, if those are many."""
FEW = 2
"""Children that are told at any time of an end that the turn has brought: a chore for them would cost as much."""
_log = logging.getLogger("tq.broker")


class Families:
    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self._last = 0  # the chore whose turn it was

    # -- what is sent ----------------------------------------------------------------------------------------------

    def meet(self, drafts: Sequence[Draft], given: Sequence[int]) -> tuple[list[Draft], dict[int, State]]:
        """The drafts with the parents that each has to wait for, and those of these that are over, but not as they should be.

        ``given`` are the ids that the tasks of the request will have, by their places. NoSuchTask names the first parent that there is
        none of.
        """
        named = set(chain.from_iterable({draft.header.parents for draft in drafts}))
        fresh = self._desk.store.last_id() + 1
        found: dict[int, State | None] = dict.fromkeys((one for one in given if one >= fresh), State.BLOCKED)  # waiting, at any rate
        ids = sorted({one for one in named if one > 0} | {one for one in given if one < fresh and named and min(named) < 0})
        drafts = _with_ids(drafts, given)
        for start in range(0, len(ids), SCAN_MOST):
            part = ids[start : start + SCAN_MOST]
            found.update(zip(part, self._desk.store.states(part), strict=True))
        met: list[Draft] = []
        lost: dict[int, State] = {}
        for at, draft in enumerate(drafts):
            head, waits = draft.header, []
            for parent in head.parents:
                state = found.get(parent)
                if state is None:
                    where = f"task {at + 1} of {len(drafts)}: " if len(drafts) > 1 else ""
                    raise NoSuchTask(
                        f"{where}after: expected the id of a task, got {parent}: there is none, or it was removed. `tq list` shows those "
                        "there are."
                    )
                if not state.final:
                    waits.append(parent)
                elif not lifecycle.suits(head, parent, state):
                    waits.append(parent)
                    lost[parent] = state
            met.append(draft._replace(waits=tuple(waits)) if waits else draft)
        return met, lost

    # -- what is over ----------------------------------------------------------------------------------------------

    def release(self, turn: Turn) -> None:
        """Tell the children of all that came to its end in this turn, and whoever's turn in an ordering key it is with that."""
        if turn.over:
            self._tell_children(turn)
        now = self._desk.now
        while ids := self._desk.store.turns(SCAN_MOST):
            self._change(ids, lambda task: lifecycle.turn_came(task, now), turn)

    def _tell_children(self, turn: Turn) -> None:
        store, clock = self._desk.store, self._desk.clock
        until, told, first, at = clock() + TELL_S, 0, len(turn.over), 0
        held_up = {chore.args["parent"] for chore in store.chores() if chore.verb == RELEASE}
        ends: dict[int, dict[int, State]] = {}  # of which parents, by child that is yet to be told
        while at < len(turn.over) or ends:
            if at == len(turn.over):
                self._tell(ends, turn)  # turn.over grows by those that are cancelled
                ends = {}
                continue
            parent, state, below = turn.over[at]
            children = [child for child in store.children(parent, SCAN_MOST + 1) if child < below]
            late = told >= SCAN_MOST and (at >= first or len(children) > FEW) and clock() > until
            at += 1
            if children and (late or len(children) > SCAN_MOST or parent in held_up):
                store.put_chore(release(parent, state, below))
                held_up.add(parent)
                turn.busy = True
                continue
            told += len(children)
            for child in children:
                if len(ends) == SLICE and child not in ends:
                    self._tell(ends, turn)
                    ends = {}
                ends.setdefault(child, {}).setdefault(parent, state)
        turn.over.clear()

    def work(self, chores: Sequence[Chore], seconds: float, turn: Turn) -> None:
        """As many slices of releases as there is time for: they take turns, but those of one parent keep their order.

        There is more time than ``seconds`` if there are many: else their commits would take longer than they.
        """
        until = self._desk.clock() + (seconds if len(chores) <= SLICE else TELL_S)
        firsts = sorted({chore.args["parent"]: chore for chore in reversed(chores)}.values(), key=lambda one: one.id)
        for chore in [*(one for one in firsts if one.id > self._last), *(one for one in firsts if one.id <= self._last)]:
            self._last = chore.id
            self._slice(chore, until, turn)
            if self._desk.clock() > until:
                break
        turn.busy = turn.stirred = True

    def _slice(self, chore: Chore, until: float, turn: Turn) -> None:
        desk, store = self._desk, self._desk.store
        parent, state, below = chore.args["parent"], State(chore.args["state"]), chore.args["below"]
        after, seen, changed, over = int.from_bytes(chore.cursor or b"", "big"), chore.seen, chore.changed, False
        while not over and seen - chore.seen < SCAN_MOST:
            children = [child for child in store.children(parent, SLICE, after) if child < below]
            seen += len(children)
            changed += self._tell({child: {parent: state} for child in children}, turn)
            over = len(children) < SLICE
            after = children[-1] if children else after
            if desk.clock() > until:
                break
        if over:
            store.drop_chore(chore.id)
            turn.steps.append(("chore_done", [(chore.id, chore.verb, seen, changed)]))
        else:
            store.put_chore(replace(chore, cursor=after.to_bytes(8, "big"), seen=seen, changed=changed))

    def _tell(self, ends: Mapping[int, Mapping[int, State]], turn: Turn) -> int:
        """Each of these children hears which parents of it are over, and how; how many of them waited for these."""
        now = self._desk.now
        unblocked, waiting, rest = self._desk.store.let_go(ends)
        turn.steps += [(what, ids) for what, ids in (("unblocked", unblocked), ("parent_over", waiting)) if ids]

        def hear(task: Task) -> Transition | None:
            return lifecycle.parents_over(task, ends[task.id], now) if task.state is State.BLOCKED else None

        turn.stirred = turn.stirred or bool(unblocked)
        return len(unblocked) + len(waiting) + (self._change(rest, hear, turn) if rest else 0)

    def _change(self, ids: Sequence[int], hear: Callable[[Task], Transition | None], turn: Turn) -> int:
        """Have each of these tasks hear of it; how many changed."""
        try:
            changed = self._desk.change_each(ids, hear, turn)
        except StoreDamaged:
            changed = sum(self._change_one(one, hear, turn) for one in ids)
        turn.stirred = turn.stirred or changed > 0
        return changed

    def _change_one(self, child: int, hear: Callable[[Task], Transition | None], turn: Turn) -> int:
        """A damaged one keeps waiting: it must not keep its parent from coming to an end."""
        try:
            return self._desk.change_each([child], hear, turn)
        except StoreDamaged as error:
            _log.error("task %d waits on, though what it waits for is over: %s", child, error)
            return 0

    def outstanding(self, task: Task) -> tuple[int, ...] | None:
        """Which of a task's parents are not over; None if one did not end as it should. One that is gone is over.

        Refused while others are still to hear of an earlier end of one: it would be taken for a new one. Call ``release`` before.
        """
        head = task.spec.header
        if any(chore.verb == RELEASE and chore.args["parent"] in head.parents for chore in self._desk.store.chores()):
            text = f"task {task.id}: expected its parents' children to know how these ended, but some are still told."
            raise Refused(f"{text} Nothing was changed; try again later.", retry_after=0.2)
        states = self._desk.store.states(head.parents)
        pairs = [(parent, state) for parent, state in zip(head.parents, states, strict=True) if state is not None]
        if any(state.final and not lifecycle.suits(head, parent, state) for parent, state in pairs):
            return None
        return tuple(parent for parent, state in pairs if not state.final)


def _with_ids(drafts: Sequence[Draft], given: Sequence[int]) -> Sequence[Draft]:
    """The drafts with ids where they name others of their request by their places; those that wait for the same still share a header."""
    made: dict[int, Header] = {}
    found: list[Draft] = []
    for draft in drafts:
        head = draft.header
        if not head.parents or min(head.parents) > 0:
            found.append(draft)
            continue
        new = made.get(id(head))
        if new is None:
            after, loose, failed = (_ids(some, given) for some in (head.parents, head.parents_any, head.parents_failed))
            new = made[id(head)] = with_own(head, {"parents": after, "parents_any": loose, "parents_failed": failed})
        found.append(draft._replace(header=new))
    return found


def _ids(some: Sequence[int], given: Sequence[int]) -> tuple[int, ...]:
    return tuple(dict.fromkeys([given[-1 - one] if one < 0 else one for one in some])) if some else ()

"""The broker: turns what arrived into one transaction, and says afterwards what to answer.

For: the order of a turn, group commit, what is due, retention; the verbs stand in the modules beside this one.
Not for: sockets, processes, clocks, files: requests and results come in as values, answers and claims go out as values.
Runs in: the daemon, on the thread of its loop; the same in tests, under a hand-turned clock.
Promises: nothing is answered, handed out or published before the commit that holds it; within a turn the pool's
settles come first, then each connection's requests in order, then what is due, a slice of chores, and claims last; a
request that fails changes nothing and harms no neighbour. One turn is one commit; without changes there is none.

``desk`` is what the verbs share; ``sending consumers control lines reading viewing filters reasons plan resources limits schedules
rules attention breakers batches`` each hold some of them.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from time import monotonic
from typing import Any

from tq import lifecycle
from tq.answers import BAD_RESULT, DAEMON_DIED, LAPSED, answer, error_answer
from tq.arguments import named
from tq.broker.attention import Attention
from tq.broker.batches import Batches
from tq.broker.breakers import Breakers
from tq.broker.consumers import Consumers
from tq.broker.control import Control
from tq.broker.desk import Desk, Hold, Said, Step, Turn, Undone, Verb
from tq.broker.families import Families
from tq.broker.filters import Filters
from tq.broker.limits import Limited, reaching
from tq.broker.lines import Lines
from tq.broker.plan import Plan
from tq.broker.reading import Reading
from tq.broker.reasons import Reasons
from tq.broker.resources import Resources
from tq.broker.rules import Rule, Rules
from tq.broker.schedules import Schedules
from tq.broker.sending import Sending
from tq.broker.tenants import Tenants
from tq.broker.viewing import Viewing
from tq.errors import Refused, StoreDamaged, StoreError, TqError
from tq.intake import Defaults, Intake
from tq.lifecycle import Outcome
from tq.model import State
from tq.store import RELEASE, SCAN_MOST, Chore, Event, Limits, NoRoom, Store, TypeInfo, Want
from tq.waiting import Inbox, Request

__all__ = ["Broker", "Said", "Step", "Turn"]

SLICE_S = 0.002
"""How long a turn may work on chores, and on long reads."""
TURN_S = 0.004
"""How long a turn serves requests before it commits; the rest is the next group."""
AGAIN_MS = 1000
"""Until what could not be committed is tried again: ends without room, or a turn's own work."""
DUE_MOST = 256
CLOCK_BACK_MS = 60_000
"""A clock that steps back less than this stands still until it has caught up; further, it is followed: neither the wait of a
retry nor a limit's tokens are to stand still for longer."""
CLOCK_AHEAD_MS = 300_000
"""A clock that is so much further on than time has passed was put forward (or slept): leases and waits last as long as ever."""
AHEAD_MOST = 256
"""Where tasks need more than a slot, so many of those that come next are looked at, for how many workers they want."""
AT_A_TIME = 8
"""Finished tasks that are forgotten with each request where there is little room."""
RETAIN_EACH = 64
"""Ends after which a turn looks at what is kept: looking at each would cost a trickle as much as storing it."""
RETAIN_EVERY_MS = 3_600_000
ASKED = "enter_breaker"
"""The one verb that changes something, but nothing that is stored: it takes no commit."""
_log = logging.getLogger("tq.broker")


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
        self._clock = clock  # seconds; only bounds slices of long work
        self.desk = desk = Desk(store, Intake(defaults, store.types, store.queues, store.resources), chance, clock)
        self._waiting = desk.waiting
        self._lists, self._views = desk.lists, desk.views
        self._inbox = Inbox()
        desk.again = self._inbox.add
        self.full = self._inbox.full
        self._settles: list[Sequence[Any]] = []
        self._notes: list[Event] = []
        self._said: list[Said] = []
        self._stirred = False
        self._removed: list[int] = []  # tasks with output that were forgotten before anybody listened
        self.owed: list[Sequence[Any]] = []  # ends for which the store had no room
        self._wall = 0  # what the wall clock showed at the last turn, which is behind "now" while that stands still
        self._ticks = 0.0  # and the other one, that never steps
        self._again_at = 0  # by the wall clock
        self._retain_at = 0
        self._unkept = 0  # ends and requests since retention was last looked at
        self._families = Families(desk)
        self._consumers, self._control = Consumers(desk), Control(desk, self._families)
        sending, self._lines, self._schedules = Sending(desk, self._families), Lines(desk), Schedules(desk, self._families)
        self._resources, self._limited, tenants = Resources(desk), Limited(desk), Tenants(desk)
        self._breakers = Breakers(desk, self.note)
        desk.holding = lambda: {"limits": reaching(desk), "breakers": list(self._breakers.shut)}
        self._batches = Batches(desk, limits.keep)
        self._reading = Reading(desk, self._batches)
        self._rules = Rules(desk)
        self._attention = Attention(desk, self._rules, self._breakers)
        reasons = Reasons(desk, self._breakers, self._limited.each_worker)
        reading = (
            self._reading, self._control, self._lines, self._schedules, self._resources, reasons, Plan(desk),
            self._rules, self._attention, self._batches, self._limited, tenants, self._breakers, Viewing(desk), Filters(desk),
        )  # fmt: skip
        writing = (
            sending, self._consumers, self._control, self._lines, self._schedules, self._resources, self._attention, self._batches,
            self._limited, tenants, self._breakers,
        )  # fmt: skip
        self._reads: dict[str, Verb] = {verb: act for room in reading for verb, act in room.reads.items()}
        self._writes: dict[str, Verb] = {verb: act for room in writing for verb, act in room.writes.items()}
        self.verbs = frozenset(self._reads) | frozenset(self._writes)

    @property
    def _now(self) -> int:
        return self.desk.now

    def note(
        self, what: str, target: str, before: dict[str, Any] | None = None, after: dict[str, Any] | None = None, who: str = "tq"
    ) -> None:
        """Remember, with the next turn, something that was done outside of it."""
        self._notes.append(Event(0, 0, who, what, target, before, after))

    def hold_queues(self, held: Mapping[str, Hold]) -> None:
        """Hand out nothing of these queues until this is called again. While a turn is under way there may only be more of them."""
        before, self.desk.held = self.desk.held.keys(), held
        if before != held.keys():
            self._store.shut(held.keys())
            self._stirred = self._stirred or bool(before - held.keys())  # who waits for a task may find one

    def backlog(self, types: Collection[str]) -> int:
        """How many slots of workers tasks of these types wait for: pending, in queues that are open to the pool, as far as these have
        slots, and there is enough of what the tasks need."""
        queues = self._store.queues()
        waiting: dict[str, int] = {}
        for tally in self._store.tallies():
            if tally.type in types:
                count, places = tally.states[State.PENDING], self._breakers.places(tally.type)
                waiting[tally.queue] = waiting.get(tally.queue, 0) + (count if places is None else min(count, places))
        taken = self._store.in_use().slots if any(info.slots for info in queues.values()) else {}
        for name, info in queues.items():
            if info.paused or info.external or name in self.desk.held:
                waiting.pop(name, None)
            elif info.slots and name in waiting:
                waiting[name] = min(waiting[name], max(info.slots - taken.get(name, 0), 0))
        count = sum(waiting.values())
        heaviest = self._store.heaviest(types) if count else 0
        if not heaviest or (heaviest == 1 and not self._store.resources() and not self._store.is_limited()):
            return count if heaviest else 0
        ahead = [task.spec.header.slots for task in self._store.get([one.id for one in self._store.peek(AHEAD_MOST)]) if task is not None]
        return sum(ahead) if len(ahead) < AHEAD_MOST else max(count, sum(ahead))

    def waiting_of(self, types: Collection[str]) -> dict[str, int]:
        """How many tasks of these types are pending in queues that are open to the pool."""
        queues, held, found = self._store.queues(), self.desk.held, dict.fromkeys(types, 0)
        for tally in self._store.tallies():
            if tally.type in found and tally.queue not in held:
                info = queues.get(tally.queue)
                if info is None or not (info.paused or info.external):
                    found[tally.type] += tally.states[State.PENDING]
        return found

    def submit(self, request: Request) -> None:
        """Take a request for the next turn."""
        self._inbox.add(request)

    def settled(self, rows: Iterable[Sequence[Any]]) -> None:
        """Take results from the pool: ``[id, claim, 0 or kind, started_at, finished_at, output, result or outcome map]``."""
        self._settles.extend(rows)

    def said(self, words: Iterable[Said]) -> None:
        """Take what running tasks said of how far they are, for the log and who watches; nothing of it is stored."""
        self._said.extend(words)

    def gone(self, conn: int) -> None:
        """A connection is closed: nobody waits there any more. What it asked to be changed before still is."""
        self._inbox.gone(conn, lambda one: one.verb in self._writes and one.verb != "claim")
        self._lists.gone(conn)
        self._views.gone(conn)
        self._waiting.gone(conn)

    def holds(self, conn: int) -> bool:
        """Whether the connection has an answer or events to expect."""
        return self._inbox.holds(conn) or self._lists.holds(conn) or self._views.holds(conn) or self._waiting.holds(conn)

    @property
    def waiting(self) -> bool:
        """Whether a turn has something to do now."""
        return bool(self._inbox or self._settles or self._said)

    def in_hurry(self, now: int) -> bool:
        """Whether ends that have come in must be stored now: somebody waits for them, or there is other work for a turn."""
        due = self.next_due
        return (
            bool(self._inbox or self._lists or self._views or self.desk.followed)
            or self._waiting.for_ends
            or self._store.ready()
            or bool(self._store.chores())
            or (due is not None and due <= now)
        )

    def put_types(self, types: Sequence[TypeInfo], now: int) -> None:
        """Remember what a hello named, and its schedules, if it is new; its own commit, since the daemon waits for it. Refused: no room."""
        known = self._store.types()
        fresh = [info for info in types if known.get(info.name) != named(info)]
        gone = self._schedules.vanished(types)
        if not (fresh or gone):
            return
        with self._between_turns(now):
            self._store.put_types(fresh)
            self.desk.intake.forget()
            self._schedules.declare(fresh, known, gone)
        self._breakers.learn()

    def declare(self, declared: Mapping[str, Mapping[str, Any]], former: Mapping[str, Mapping[str, Any]], source: str, now: int) -> None:
        """Set queues as a file says, ``former`` being what it said before. Refused: no room."""
        with self._between_turns(now):
            self._lines.declare(declared, former, source)

    def declare_resources(self, declared: Mapping[str, int], former: Mapping[str, int], source: str, now: int) -> None:
        """The same of resources."""
        with self._between_turns(now):
            self._resources.declare(declared, former, source)

    def declare_limits(
        self, declared: Mapping[str, Mapping[str, Any]], former: Mapping[str, Mapping[str, Any]], source: str, now: int
    ) -> None:
        """The same of limits."""
        with self._between_turns(now):
            self._limited.declare(declared, former, source)
        self._limited.learn()
        self._stirred = True

    def watch_rules(self, rules: Sequence[Rule], source: str, now: int) -> None:
        """Look at these alert rules from now on. Refused: no room."""
        with self._between_turns(now):
            self._rules.declare(rules, source)

    @contextmanager
    def _between_turns(self, now: int) -> Iterator[None]:
        """A transaction of its own, before the first turn or between two; what cannot be done leaves nothing behind."""
        self.desk.now = max(now, self._now)
        self._store.begin(self._now)
        try:
            yield
            self._store.commit()
        except (Refused, StoreDamaged):
            self._store.abort()
            self.desk.intake.forget()
            raise

    @property
    def raised(self) -> Mapping[str, int]:
        """The alert rules that are raised, and since when (ms)."""
        return self._rules.raised

    def recover(self, begun: Callable[[int, int], bool], now: int) -> tuple[int, int]:
        """Settle what local workers held when the daemon died: (interrupted, released). Before the first claim.

        ``begun(id, claim)`` says whether the worker had begun it; what had not is given back uncharged.
        """
        held = [one for one in self._store.held() if not one.lease_ms]
        interrupted = 0
        self.desk.now = max(now, self._now)
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
        if now < self._wall:
            self._again_at = min(self._again_at, now + AGAIN_MS)
        ticks = self._clock()
        ahead = now - self._now - int((ticks - self._ticks) * 1000) if self._wall else 0
        self._wall, self._ticks = now, ticks
        if now < self._now and self._now - now < CLOCK_BACK_MS:
            now = self._now
        elif now < self._now:
            self._stepped(now - self._now)
            self._retain_at = self._again_at = 0
        elif ahead > CLOCK_AHEAD_MS:
            self._stepped(ahead)
        self.desk.now = now
        self.desk.history.turn(now, self._store.tallies)
        self._attention.saw()
        settles, self._settles = self._settles, []
        requests: list[Request] = []  # those that this turn takes
        if self.owed and self._wall >= self._again_at:
            settles, self.owed = [*self.owed, *settles], []
        turn = Turn()
        if self._said:
            turn.steps.append(("progress", self._said))
            self._said = []
        try:
            self._work(turn, settles, requests, wants)
        except Exception as error:
            if isinstance(error, StoreError) and not isinstance(error, StoreDamaged):
                raise
            if not isinstance(error, Refused | StoreDamaged | Undone):
                _log.exception("a turn failed and is done again one request at a time")
            self._store.abort()
            goes_on = self.desk.chores.aborted()
            self.desk.intake.forget()  # what it resolved by settings that are lost
            self._schedules.doubt()
            turn = self._one_by_one(settles, requests)
            if goes_on and not self.owed:
                self._again_at, turn.busy = 0, True
        parked = len(self._waiting.claims)
        for change in turn.later:
            change()
        if turn.stirred and len(self._waiting.claims) > parked:  # parked behind the grants of the turn that stirred
            self._stirred = turn.busy = True
        self._reading.publish(turn)
        turn.answers += self._lists.read_on(SLICE_S, now)
        self._views.forget_old(now)
        if self._views:
            turn.answers += self._views.read_on(SLICE_S)
        turn.busy = turn.busy or bool(self._lists or self._views)
        return turn

    def _stepped(self, ms: int) -> None:
        """The clock was put forward, or back: nobody who waits or holds a lease is to notice."""
        _log.warning("the clock was put %s by %d s", "forward" if ms > 0 else "back", abs(ms) // 1000)
        self.desk.stepped = (self._wall, ms)
        self._waiting.stepped(ms)
        self._views.stepped(ms)
        self._store.stepped(ms)
        self._breakers.stepped(ms)
        self._limited.each_worker.stepped(ms)

    def _work(self, turn: Turn, settles: Sequence[Sequence[Any]], requests: list[Request], wants: Sequence[Want]) -> None:
        """Steps 2 and 3 of the loop: everything in one transaction, committed."""
        store, now = self._store, self._now
        due = store.next_due()
        chores = store.chores()
        schedules, opened = self._schedules, self._limited.each_worker.look()
        own = self._wall >= self._again_at  # else its own work could not be committed a moment ago
        stirred, self._stirred = self._stirred, False
        changes = own and (
            stirred
            or schedules.unsure
            or bool(chores)
            or (due is not None and due <= now)
            or now >= self._retain_at
            or bool(wants and store.ready())
            or self._breakers.look()
            or self._batches.owes()
            or opened
        )
        alerts = self._rules.look() if own and self._rules.rules else []
        changes = changes or bool(settles or self._notes or alerts) or any(r.verb in self._writes and r.verb != ASKED for r in self._inbox)
        if changes:
            store.begin(now)
        if settles:
            self.desk.settle_rows(settles, turn)
            self._batches.look(turn)
        if self._notes:
            for event in self._notes:
                store.note(replace(event, at=now))
            turn.later.append(self._notes.clear)
        until = self._clock() + TURN_S
        for request in self._inbox.taken():
            requests.append(request)
            self._serve(request, turn)
            if changes:
                self._batches.look(turn)
            if self._clock() > until:
                break  # the rest is the next turn's: nobody waits long for a commit
        if not changes:
            return
        if own:
            if due is not None and due <= now:
                self._come_due(turn)
            if chores:
                self._work_off(chores, turn)
            schedules.ended(turn)
            if self._breakers.look():
                self._breakers.wake(turn)
            self._rules.tell(alerts, turn)
            self._follow_ends(turn)  # before the claims: what it lets go, or sends, may be handed out
            if self._consumers.grant(turn, wants):
                self._stirred = turn.busy = True
            turn.busy = turn.busy or any(chore.verb == RELEASE for chore in store.chores())  # what was claimed, but could not be read
            self._unkept += len(settles) + len(turn.ended) + len(requests)
            if self._unkept >= RETAIN_EACH or now >= self._retain_at or store.short():
                self._retain(turn, max(2 * self._unkept, RETAIN_EACH))
        self._follow_ends(turn)
        store.commit()
        self._rules.changed = True
        if turn.steps or turn.stirred or turn.removed:
            self._waiting.changed()

    def _follow_ends(self, turn: Turn) -> None:
        """Those who wait for tasks that are over hear of it, and the callbacks of batches are sent."""
        self._families.release(turn)
        self._batches.look(turn)

    def _work_off(self, chores: Sequence[Chore], turn: Turn) -> None:
        """A slice of what people asked for, and one of what ends have left behind."""
        releases = [chore for chore in chores if chore.verb == RELEASE]
        others = [chore for chore in chores if chore.verb != RELEASE]
        if others:
            self._control.work(others, SLICE_S, turn)
        if releases:
            self._families.work(releases, SLICE_S, turn)

    def _one_by_one(self, settles: Sequence[Sequence[Any]], requests: Sequence[Request]) -> Turn:
        """The same, each in a transaction of its own, settles first; what still fails is answered so."""
        turn = Turn(stirred=True, busy=bool(settles or requests))
        if not turn.busy:  # it was the turn's own work that failed: at once it would fail again, unless there is room now
            turn.busy = self._made_room(turn)
            self._again_at = self._wall + (0 if turn.busy else AGAIN_MS)
        for at, one in enumerate(settles):
            failed = self._with_room(turn, partial(self.desk.settle_rows, [one]))
            if isinstance(failed, Refused):  # no room: an end is never lost, and the next would fare no better
                self.owed += settles[at:]
                self._again_at = self._wall + AGAIN_MS
                break
            if failed is not None and not isinstance(failed, StoreDamaged):  # not what a worker may answer, nor would it become so
                row = [one[0], one[1], "crashed", 0, self._now, False, {"error": BAD_RESULT}]
                if self._alone(turn, partial(self.desk.settle_rows, [row])) is not None:
                    self.owed.append(row)
                    self._again_at = self._wall + AGAIN_MS
        for request in requests:
            failed = self._with_room(turn, partial(self._serve, request))
            if failed is not None:
                turn.answers.append((request.conn, error_answer(request.number, failed)))
        return turn

    def _with_room(self, turn: Turn, work: Callable[[Turn], object]) -> Exception | None:
        """The same, and again for as long as it lacks only room, and finished tasks can be forgotten to make some."""
        failed = self._alone(turn, work)
        while isinstance(failed, NoRoom) and self._made_room(turn):
            failed = self._alone(turn, work)
        return failed

    def _alone(self, turn: Turn, work: Callable[[Turn], object]) -> Exception | None:
        part = Turn()
        try:
            self._store.begin(self._now)
            work(part)
            self._follow_ends(part)
            if self._store.short():
                self._retain(part, AT_A_TIME)
            self._store.commit()
        except Exception as error:
            if isinstance(error, StoreError) and not isinstance(error, StoreDamaged):
                raise
            self._store.abort()
            if isinstance(error, Undone):
                return error.cause
            if not isinstance(error, TqError):
                _log.exception("a request failed")
            return error
        turn.answers += part.answers
        turn.steps += part.steps
        turn.ended += part.ended
        turn.complete += part.complete
        turn.removed += part.removed
        for change in part.later:  # it is committed: what comes next may need it
            change()
        self._waiting.changed()
        return None

    def _serve(self, request: Request, turn: Turn) -> None:
        verb = self._writes.get(request.verb) or self._reads[request.verb]
        later, steps = len(turn.later), len(turn.steps)
        try:
            body = verb(request, turn)
        except TqError as error:
            if isinstance(error, StoreError) and not (isinstance(error, StoreDamaged) and request.verb in self._reads):
                raise
            if isinstance(error, NoRoom) or len(turn.steps) > steps:  # it has changed something already
                raise Undone(error) from None
            del turn.later[later:]
            turn.answers.append((request.conn, error_answer(request.number, error)))
            return
        if body is not None:
            turn.answers.append((request.conn, answer(request.number, body)))

    @property
    def next_due(self) -> float | None:
        """The instant (ms) at which a turn is needed if nothing arrives; None: never."""
        limited = self._limited.each_worker.next_due
        rooms = self._store.next_due(), self._rules.next_due, self._breakers.next_due, self._batches.next_due, limited
        own = min((at for at in rooms if at is not None), default=None)
        if self.owed or self._again_at > self._wall:  # what could not be done a moment ago, timer or claim
            own = self._again_at
        return min((at for at in (self._waiting.next_due, self._views.next_due, own) if at is not None), default=None)

    def _come_due(self, turn: Turn) -> None:
        desk = self.desk
        self._schedules.come_due(SLICE_S, turn)
        promoted = self._store.promote(DUE_MOST)
        if promoted:
            turn.steps.append(("came_due", promoted))
        fired = self._store.due(DUE_MOST)
        tasks = self._store.get([task_id for _, task_id in fired])
        for (what, _), task in zip(fired, tasks, strict=True):
            if task is None:
                continue
            if what == "forget":
                try:
                    self._store.remove([task.id])
                except StoreDamaged as error:  # its timer is gone; those of others must not come back with it
                    _log.error("task %d is not forgotten: %s", task.id, error)
                    continue
                turn.steps.append(("removed", [task]))
                turn.removed += [task.id] if task.status.output else []
                continue
            if what == "expire":
                if task.state is State.RUNNING:
                    continue
                change = lifecycle.run_out(task, desk.now)
            else:
                change = lifecycle.settle(task, Outcome("lapsed", finished_at=desk.now, error=LAPSED), desk.now, desk.chance())
            desk.carry_out(change, turn)
        turn.stirred = True
        turn.busy = turn.busy or DUE_MOST in (len(fired), len(promoted))

    def _retain(self, turn: Turn, most: int) -> None:
        self._unkept = 0
        self._retain_at = self._now + AGAIN_MS  # if this is not committed
        gone = self._store.retain(self._limits, most)
        turn.removed += [*self._removed, *(task_id for task_id, output in gone if output)]
        more = len(gone) >= most
        turn.later.append(partial(self._retained, self._now + (0 if more else RETAIN_EVERY_MS)))
        turn.busy = turn.busy or more

    def _made_room(self, turn: Turn) -> bool:
        """Whether finished tasks could be forgotten, so that others can end; to forget many takes room, too."""
        before = self._kept()
        for most in (RETAIN_EACH, AT_A_TIME, 1) if before else ():
            self._alone(turn, lambda part, most=most: self._retain(part, most))  # type: ignore[misc]
            if self._kept() < before:
                return True
        return False

    def _kept(self) -> int:
        return sum(sum(tally.states[State.SUCCEEDED :]) for tally in self._store.tallies())

    def _retained(self, again_at: int) -> None:
        self._retain_at = again_at
        self._removed.clear()

"""Schedules: which slots become tasks, and what is done with those that were missed or that overlap.

For: ``set_schedule remove_schedule run_schedule schedules next_slots``; what is due; what an application declares.
Not for: when a rule comes due (``tq.schedule``), keeping schedules (store), what becomes of a task (lifecycle).
Runs in: the daemon, inside the broker's turn.
Promises: a schedule moves on in the transaction that stores its task, so a slot has one task or none, whenever the daemon dies;
each slot that has none is in an event, alone or in a number of them; a clock that steps changes when slots are acted
upon, and never which; of a backlog of slots a turn looks at so many as its time allows.

The run of a slot comes after those of the schedules that it is ``after``: of each, the newest whose slot is not later. Until these have
acted upon all slots up to then it waits to become a task; then its task waits for theirs, as any does for its parents. One that is
paused, gone, or had no such slot is not waited for, nor does a run by hand wait.

A slot that comes while its queue is full waits for room, and so do those behind it. Slots that are more than LATE_MS late are
missed: "coalesce" makes one task for the newest of all that have come, "skip" none, "all" one for each of the newest so many.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from itertools import islice
from typing import Any

from tq import lifecycle
from tq.arguments import arguments, between, unknown
from tq.broker.alerts import KINDS as ALERTS
from tq.broker.alerts import TELLS, ScheduleAlerts
from tq.broker.desk import Desk, Turn, Verb
from tq.broker.families import Families
from tq.errors import Conflict, Refused, StoreDamaged, StoreError, TqError, UsageError
from tq.launch import shown as how_shown
from tq.model import Task, brief, is_name
from tq.schedule import KINDS, LAST_MS, REBOOT, Rule, checked_rule, misfire_of, overlap_of, rule_of, words_of
from tq.store import SCAN_MOST, Event, NoRoom, Schedule, TypeInfo
from tq.waiting import Request

SCHEDULES_MOST = 5000
LATE_MS = 60_000
"""A slot that is acted upon so much later was missed: nobody was there, or the clock was put forward."""
AGAIN_MS = 1000
"""Until a slot that was refused for now is tried again."""
RUNS_KEPT = 100
AFTER_MOST = 20
PAUSED_MOST = 1000
"""Up to so many slots that passed during a pause are counted."""
SLOTS_MOST = 500
_log = logging.getLogger("tq.broker")

_RULE: dict[str, type] = {
    "cron": str, "every_ms": int, "at": int, "tz": str, "jitter_ms": int, "only": list, "from_at": int, "until_at": int,
}  # fmt: skip
_MORE: dict[str, type] = {"misfire": str, "overlap": str, "after": list, "paused": bool, "task": list, "next_at": int, **ALERTS}
NOT_IN_A_SCHEDULE = ("delay_ms", "due_at", "key", "unique", "unique_policy", "after", "after_any")
"""Options that say when, or name one task."""


class Schedules:
    def __init__(self, desk: Desk, families: Families) -> None:
        self._desk, self._families = desk, families
        self.writes: dict[str, Verb] = {"set_schedule": self._set, "remove_schedule": self._remove, "run_schedule": self._run}
        self.reads: dict[str, Verb] = {"schedules": self._list, "next_slots": self._next_slots}
        self.unsure = False
        """Whether a task may have ended for which a slot waits, or an alert, without anybody having seen it; or the machine started."""
        self._new: set[int] = set()  # tasks for whose end they wait since this turn
        self._alerts = ScheduleAlerts(desk)
        self.doubt()

    def doubt(self) -> None:
        """Something was lost: look, in the next turn, whether what slots and alerts wait for has ended."""
        self.unsure = any(one.held or one.watched or one.rule[0] == REBOOT for one in self._desk.store.schedules().values())

    # -- what is due -----------------------------------------------------------------------------------------------

    def come_due(self, seconds: float, turn: Turn) -> None:
        """Act on the schedules that are due, for so long."""
        desk = self._desk
        until = desk.clock() + seconds
        due = self._in_order(desk.store.slots(SCAN_MOST))
        for at, one in enumerate(due, 1):
            self._move_on(one, until, turn)
            if desk.clock() > until and at < len(due):
                turn.busy = True
                return
        turn.busy = turn.busy or len(due) == SCAN_MOST

    def _in_order(self, some: list[Schedule]) -> list[Schedule]:
        """The same, each behind those that it is after."""
        if not any(one.after for one in some):
            return some
        schedules = self._desk.store.schedules()
        depths = {one.name: len(behind(schedules, one.after)) for one in some}
        return sorted(some, key=lambda one: depths[one.name])

    def _move_on(self, one: Schedule, until: float, turn: Turn) -> None:
        """Look at the slots that have come, and act on them once all of them are known; while it is paused, only at its alerts."""
        desk, rule = self._desk, rule_of(one.rule)
        if one.paused:
            desk.store.put_schedule(self._alerts.look(one, turn))
            return
        slots, missed, missed_at = list(one.slots), one.missed, one.missed_at
        following = 0
        for slot in rule.slots(one.slot_at - 1, one.made_at) if one.slot_at else ():
            if slot + rule.delay(one.name, slot) > desk.now:
                following = slot
                break
            slots.append(slot)
            if len(slots) > one.catch_up:
                missed_at, missed = missed_at or slots[0], missed + 1
                del slots[0]
            if desk.clock() > until:
                desk.store.put_schedule(replace(one, slots=slots, missed=missed, missed_at=missed_at, slot_at=slot + 1, due_at=desk.now))
                turn.busy = True
                return
        if one.misfire == "skip" and slots and desk.now - slots[-1] - rule.delay(one.name, slots[-1]) > LATE_MS:
            missed_at, missed, slots = missed_at or slots[0], missed + len(slots), []
        due_at = following + rule.delay(one.name, following) if following else 0
        moved = replace(one, slots=slots, missed=missed, missed_at=missed_at, slot_at=following, due_at=due_at)
        desk.store.put_schedule(self._alerts.look(self._act(moved, one.slots, turn), turn))

    def _act(self, one: Schedule, waited: Sequence[int], turn: Turn) -> Schedule:
        """Make tasks of the slots that have come; the schedule as it stands then. It is known of those that ``waited`` that they do."""
        missed, left = one.missed, list(one.slots)
        if missed:
            self._tell(one.name, "slots_missed", count=missed, from_at=one.missed_at, misfire=one.misfire)
            one = self._alerts.came(self._alerts.missed(one, one.missed_at, "missed", missed), one.missed_at)
        if one.misfire == "all":  # each has its own task: those before have none
            missed = 0
        one = replace(one, missed=0, missed_at=0, slots=())
        while left:
            one, refused = self._begin(one, left[0], missed, turn)
            if refused:
                return self._later(one, left, refused if left[0] not in waited else "")
            del left[0]
        return one

    def _later(self, one: Schedule, slots: Sequence[int], why: str) -> Schedule:
        """Try these slots again in a moment."""
        if why:
            self._tell(one.name, "slot_waits", slot_at=slots[0], why=why)
        return replace(one, slots=slots, due_at=self._desk.now + AGAIN_MS)

    def _begin(self, one: Schedule, slot: int, missed: int, turn: Turn) -> tuple[Schedule, str]:
        """Start the run of a slot, unless one before it goes on; and why there is no room for it now, if there is none."""
        if one.overlap != "allow":
            live = self._still_live(one.live)
            if live and one.overlap == "cancel_old":
                changes = [change for task in live if (change := lifecycle.cancel(task, self._desk.now)) is not None]
                self._desk.carry_out_all(changes, turn)
                live = self._still_live([task.id for task in live])
            one = replace(one, live=[task.id for task in live])
            if live:
                return self._hold(one, slot), ""
            if one.held:
                return self._begin_held(one, slot, missed, turn)
        return self._send(one, slot, missed, turn)

    def _begin_held(self, one: Schedule, slot: int, missed: int, turn: Turn) -> tuple[Schedule, str]:
        """A slot comes in the very turn in which the run ends that one before it waits for: they keep their order."""
        if one.overlap == "queue_one":
            now, refused = self._send(replace(one, held=0), one.held, 0, turn)
            if refused:
                return one, refused
            return (self._hold(now, slot), "") if now.live else self._send(now, slot, missed, turn)
        return self._send(replace(self._hold(one, slot), held=0), slot, missed, turn)

    def _hold(self, one: Schedule, slot: int) -> Schedule:
        """A slot that overlaps: skip it, or let it wait for the end of what goes on."""
        skipped = slot if one.overlap == "skip" or (one.held and one.overlap == "queue_one") else one.held
        one = self._alerts.came(one, slot)
        if skipped:
            self._tell(one.name, "slot_skipped", slot_at=skipped, why="overlap", tasks=list(one.live)[:10])
            one = self._alerts.missed(one, skipped, "skipped", 1, "the run before goes on")
        if skipped == slot:
            return one
        self._new |= set(one.live)
        return replace(one, held=slot)

    def _send(self, one: Schedule, slot: int, missed: int, turn: Turn) -> tuple[Schedule, str]:
        """Store the task of a slot; and why it is refused for now, if it is. What can never be sent is a skipped slot."""
        desk = self._desk
        parents, why = self._runs_before(one, slot)
        if why:
            return one, why
        try:
            drafts, _ = desk.intake.drafts([as_sent(one, slot, missed, parents)], desk.now)
            drafts, lost = self._families.meet(drafts, [desk.store.last_id() + 1]) if parents else (drafts, {})
            ids = list(desk.store.enqueue(drafts))
        except (NoRoom, StoreError):
            raise
        except Refused as error:
            return one, error.message
        except TqError as error:
            self._tell(one.name, "slot_skipped", slot_at=slot, why=error.message)
            return self._alerts.missed(one, slot, "skipped", 1, error.message), ""
        for parent, state in lost.items():
            desk.are_over([parent], state, turn)
        turn.steps.append(("added", list(zip(ids, drafts, strict=True))))
        turn.stirred = True
        return self._sent(one, slot, ids[0]), ""

    def _runs_before(self, one: Schedule, slot: int) -> tuple[list[int], str]:
        """After which tasks that of a slot is to run; and why this is not known yet, if it is not. One that was removed is over."""
        store, found = self._desk.store, list[int]()
        schedules = store.schedules() if one.after else {}
        for other in (schedules[name] for name in one.after if name in schedules):
            if not other.paused and any(0 < at <= slot for at in (*other.slots[:1], other.held, other.slot_at)):
                return [], f"schedule {other.name!r}, which it is after, has a slot before it that is not a task yet"
            found += [task_id for at, task_id in other.runs if 0 < at <= slot][-1:]
        states = store.states(found)
        return [task_id for task_id, state in zip(found, states, strict=True) if state is not None], ""

    def _sent(self, one: Schedule, slot: int, task_id: int) -> Schedule:
        live = [*one.live, task_id][-RUNS_KEPT:] if one.overlap != "allow" else ()
        one = self._alerts.sent(replace(one, runs=[*one.runs, [slot, task_id]][-RUNS_KEPT:], live=live), slot, task_id)
        self._new |= {task_id} if one.watched else set()
        return one

    def _still_live(self, ids: Iterable[int]) -> list[Task]:
        found = []
        for task_id in ids:
            try:
                task = self._desk.one(task_id)
            except StoreDamaged:
                continue
            if task is not None and not task.state.final:
                found.append(task)
        return found

    def _tell(self, name: str, what: str, **more: Any) -> None:
        self._desk.store.note(Event(0, self._desk.now, "tq", what, f"schedule {name}", None, more))

    # -- slots and alerts that wait for an end ---------------------------------------------------------------------

    def ended(self, turn: Turn) -> None:
        """Begin what waited for tasks that have ended in this turn, and tell of those that are to be told of."""
        desk = self._desk
        over = {task_id for task_id, _, _ in turn.ended} if turn.ended else set()
        waited = not (desk.blocking.isdisjoint(over) and self._new.isdisjoint(over))
        if not (self._new or waited or self.unsure):
            return
        for one in self._in_order(list(desk.store.schedules().values())):
            now = self._booted(one, turn) if self.unsure and one.rule[0] == REBOOT else one
            if now.held and (self.unsure or not over.isdisjoint(now.live)) and not self._still_live(now.live):
                now = self._release(now, turn)
            if now.watched and (now is not one or self.unsure or not over.isdisjoint(task_id for _, task_id in now.watched)):
                now = self._alerts.look(now, turn)
            if now is not one:
                desk.store.put_schedule(now)
        schedules = desk.store.schedules().values()
        held = {task_id for one in schedules if one.held for task_id in one.live}
        held |= {task_id for one in schedules for _, task_id in one.watched}
        turn.later.append(partial(self._remember, held))
        self._new = set()

    def _booted(self, one: Schedule, turn: Turn) -> Schedule:
        """A rule of each boot, run if it has not seen this one."""
        desk = self._desk
        if one.boot == desk.boot or not desk.boot:
            return one
        one = replace(one, boot=desk.boot)
        if one.paused:
            self._tell(one.name, "slot_skipped", slot_at=desk.now, why="paused", tasks=[])
            return one
        return self._act(replace(one, slots=[*one.slots, desk.now][-one.catch_up :]), one.slots, turn)

    def _remember(self, held: set[int]) -> None:
        self._desk.blocking, self.unsure = held, False

    def _release(self, one: Schedule, turn: Turn) -> Schedule:
        slot, free = one.held, replace(one, held=0, live=())
        if one.paused:
            self._tell(one.name, "slot_skipped", slot_at=slot, why="paused", tasks=[])
            return free
        now, refused = self._send(free, slot, 0, turn)
        return self._later(now, [slot, *now.slots], refused) if refused else now

    # -- verbs -----------------------------------------------------------------------------------------------------

    def _set(self, request: Request, turn: Turn) -> dict[str, Any]:
        args = arguments(request.verb, request.args, "name", name=str, new=bool, **_RULE, **_MORE)
        name, new = args.pop("name"), args.pop("new", False)
        known = self._desk.store.schedules().get(name)
        if new and known is not None:
            raise Conflict(f"schedule {name!r}: expected a new name, got that of a schedule. `tq schedule edit` changes it.")
        if not new and known is None:
            raise unknown("schedule", self._desk.store.schedules(), name)
        self._put(known, name, args, request)
        return {}

    def _put(self, known: Schedule | None, name: str, args: dict[str, Any], request: Request, declared: bool = False) -> None:
        """Make or change a schedule; UsageError says what cannot be."""
        desk = self._desk
        if known is None and len(desk.store.schedules()) >= SCHEDULES_MOST:
            raise Refused(f"expected at most {SCHEDULES_MOST} schedules, they are all taken. Remove some: `tq schedule remove`.")
        one = known or Schedule(0, name, Rule().row(), (), made_at=desk.now, declared=declared)
        before = shown(one) if known is not None else None
        try:
            rule = self._rule(one, args)
            if "misfire" in args:
                misfire, catch_up = misfire_of(args["misfire"])
                one = replace(one, misfire=misfire, catch_up=catch_up)
            overlap = overlap_of(args.get("overlap", one.overlap))
            one = self._alerts.set(one, args)
            one = replace(one, after=self._after(one, args["after"], declared)) if "after" in args else one
        except ValueError as error:
            raise UsageError(f"schedule {name!r}: {error}.") from None
        if overlap != "allow" and one.overlap == "allow":
            one = replace(one, live=[task.id for task in self._still_live(task_id for _, task_id in one.runs)])
        one = replace(one, overlap=overlap, task=self._task(one, args.get("task", [None] * 3)))
        if rule.row() != list(one.rule):
            one = replace(one, rule=rule.row(), made_at=desk.now, slots=(), missed=0, missed_at=0, boot=desk.boot)
            one = self._from_now(one, must=rule.cron != REBOOT)
        one = self._pause(one, args["paused"]) if args.get("paused", one.paused) != one.paused else one
        one = self._next_at(one, args["next_at"]) if "next_at" in args else one
        one = self._alerts.timed(one, desk.now + AGAIN_MS if one.watched or one.untold else 0)
        desk.store.put_schedule(one)
        after = shown(one)
        if known is None:
            what = "added_schedule"
        elif one.paused != known.paused:
            what = "paused" if one.paused else "resumed"
        else:
            what = "edited"
        if known is not None and "next_at" in args:
            before, after = {**(before or {}), "next_at": known.slot_at}, {**after, "next_at": one.slot_at}
        changed = [key for key in after if before is None or after[key] != before[key]]
        if changed:
            was = {key: before[key] for key in changed} if before is not None else None
            desk.note(request, what, f"schedule {name}", was, {key: after[key] for key in changed})

    def _rule(self, one: Schedule, args: Mapping[str, Any]) -> Rule:
        said = {key: args[key] for key in _RULE if key in args}
        if "only" in said:
            said["only"] = tuple(said["only"])
        if any(kind in said for kind in KINDS):
            said = {"cron": "", "every_ms": 0, "at": 0} | said
        return checked_rule(replace(rule_of(one.rule), **said))

    def _after(self, one: Schedule, names: Sequence[Any], declared: bool) -> list[str]:
        """The schedules that it is to be after, if it can be; those that an application names may be declared later than it."""
        schedules = self._desk.store.schedules()
        if len(names) > AFTER_MOST or not all(isinstance(name, str) and is_name(name) for name in names):
            raise ValueError(f"after: expected at most {AFTER_MOST} names of schedules, got {brief(list(names))}")
        for name in names:
            if name != one.name and name not in schedules and not declared:
                raise unknown("schedule", schedules, name)
        for name in names:
            way = behind(schedules, [name]).get(one.name) if name != one.name else [name]
            if way is not None:
                circle = " > ".join([*reversed(way), one.name])
                raise ValueError(f"after: expected schedules that do not wait for each other in a circle, got {brief(circle)}")
        return list(dict.fromkeys(names))

    def _task(self, one: Schedule, task: Sequence[Any]) -> list[Any]:
        """The task as each slot sends it, if it can be sent."""
        if len(task) == 3 and one.task and isinstance(task[2], dict | None):  # what is not said stays
            options = {key: value for key, value in {**(one.task[2] or {}), **(task[2] or {})}.items() if value is not None}
            task = [*(old if new is None else new for old, new in zip(one.task[:2], task[:2], strict=True)), options]
        if len(task) != 3 or not isinstance(task[2], dict | None):
            raise UsageError(f"schedule {one.name!r}: expected a task, [type, payload, options], got {brief(list(task))}.")
        if isinstance(task[2], dict) and (wrong := [key for key in NOT_IN_A_SCHEDULE if task[2].get(key) is not None]):
            raise UsageError(f"schedule {one.name!r}: expected options that may be said of every run, got {', '.join(wrong)}. Drop them.")
        sound = isinstance((task[2] or {}).get("meta"), dict | None)  # else the intake says what is wrong with it
        self._desk.intake.drafts([as_sent(replace(one, task=task), LAST_MS, 1 << 40) if sound else list(task)], self._desk.now)
        return list(task)

    def _from_now(self, one: Schedule, must: bool) -> Schedule:
        """The schedule with its first slot from now on that was not taken before."""
        rule, after = rule_of(one.rule), max([self._desk.now, *(slot for slot, _ in one.runs[-1:])])
        slot = next(rule.slots(after, one.made_at), 0)
        if must and not slot:
            raise UsageError(f"schedule {one.name!r}: expected a rule that comes due some day, got one that never does.")
        return replace(one, slot_at=slot, due_at=slot + rule.delay(one.name, slot) if slot and not one.paused else 0)

    def _next_at(self, one: Schedule, slot: int) -> Schedule:
        """The schedule with this slot as its next, and those before it skipped; with 0 none comes any more."""
        rule = rule_of(one.rule)
        if one.paused or rule.cron == REBOOT:
            why = "it is paused" if one.paused else "it comes due at boot"
            raise UsageError(f"schedule {one.name!r}: expected one whose slots come, {why}.")
        if slot and (not self._desk.now < slot <= LAST_MS or next(rule.slots(slot - 1, one.made_at), 0) != slot):
            raise UsageError(f"schedule {one.name!r}: next_at: expected a slot of its rule that is to come, or 0, got {slot}.")
        waiting = one.due_at if one.slots else 0  # a slot that has come waits for room
        return replace(one, slot_at=slot, due_at=waiting or (slot + rule.delay(one.name, slot) if slot else 0))

    def _pause(self, one: Schedule, paused: bool) -> Schedule:
        if paused:
            return replace(one, paused=True, due_at=0)
        now, slots = self._desk.now, rule_of(one.rule).slots(one.slot_at - 1, one.made_at) if one.slot_at else iter(())
        passed = sum(1 for slot in islice(slots, PAUSED_MOST) if slot <= now) + len(one.slots) + one.missed
        if passed:
            self._tell(one.name, "slots_missed", count=passed, from_at=(*one.slots, one.slot_at)[0], misfire="paused")
        return self._from_now(replace(one, paused=False, slots=(), missed=0, missed_at=0), must=False)

    def _remove(self, request: Request, turn: Turn) -> dict[str, Any]:
        one = self._named(arguments(request.verb, request.args, "name", name=str)["name"])
        if waits := [other.name for other in self._desk.store.schedules().values() if one.name in other.after]:
            raise Conflict(
                f"schedule {one.name!r}: expected one that no other is after, but {brief(', '.join(waits))} is. Nothing was changed. "
                "`tq schedule edit NAME --clear after-schedule` ends that."
            )
        self._desk.store.drop_schedule(one.number)
        self._desk.note(request, "removed", f"schedule {one.name}", shown(one), None)
        return {}

    def _run(self, request: Request, turn: Turn) -> dict[str, Any]:
        """A run by hand: now, and whatever goes on."""
        one, desk = self._named(arguments(request.verb, request.args, "name", name=str)["name"]), self._desk
        drafts, _ = desk.intake.drafts([as_sent(one, 0, 0)], desk.now)
        ids = list(desk.store.enqueue(drafts))
        turn.steps.append(("added", list(zip(ids, drafts, strict=True))))
        turn.stirred = True
        desk.store.put_schedule(self._sent(one, 0, ids[0]))
        desk.note(request, "run", f"schedule {one.name}", None, {"task": ids[0]})
        return {"id": ids[0]}

    def _named(self, name: str) -> Schedule:
        one = self._desk.store.schedules().get(name)
        if one is None:
            raise unknown("schedule", self._desk.store.schedules(), name)
        return one

    def _list(self, request: Request, turn: Turn) -> dict[str, Any]:
        """One whole, or a page of all of them by name."""
        args = arguments(request.verb, request.args, name=str, after=str, limit=int)
        limit = between(args.get("limit", 100), 1, SCAN_MOST, "limit")
        if "name" in args:
            one = self._named(args["name"])
            targets = {key: one.alerts[key] for key in TELLS if key in one.alerts}
            alerts = {key: [kind, payload, _masked(options)] for key, (kind, payload, options) in targets.items()}
            more = {"payload": one.task[1], "options": _masked(one.task[2]), "runs": list(one.runs), "alerts": alerts}
            return {"schedules": [self._told(one) | more], "next": None}
        found = sorted(self._desk.store.schedules().items())
        found = [pair for pair in found if pair[0] > args.get("after", "")]
        following = found[limit - 1][0] if len(found) > limit else None
        return {"schedules": [self._told(one) for _, one in found[:limit]], "next": following}

    def _told(self, one: Schedule) -> dict[str, Any]:
        """A schedule as it travels, with how its newest task fares."""
        last = None
        if one.runs:
            slot, task_id = one.runs[-1]
            last = {"id": task_id, "slot_at": slot, "state": None, "started_at": 0, "finished_at": 0, "exit_code": None}
            try:
                task = self._desk.one(task_id)
            except StoreDamaged:
                task = None
            if task is not None:
                row = self._desk.row(task)
                last |= {key: row[key] for key in ("state", "started_at", "finished_at", "exit_code")}
        next_at, state = 0 if one.paused else one.slot_at, {"failing": one.failing, "overdue_at": one.overdue}
        return {"name": one.name, **shown(one), "declared": one.declared, "next_at": next_at, "held_at": one.held, "last": last, **state}

    def _next_slots(self, request: Request, turn: Turn) -> dict[str, Any]:
        args = arguments(request.verb, request.args, "name", name=str, count=int)
        count = between(args.get("count", 10), 1, SLOTS_MOST, "count")
        one = self._named(args["name"])
        rule = rule_of(one.rule)
        slots = list(islice(rule.slots(max(one.slot_at - 1, self._desk.now), one.made_at), count)) if one.slot_at else []
        return {"slots": [[slot, slot + rule.delay(one.name, slot)] for slot in slots], "paused": one.paused, "tz": rule.tz}

    # -- what an application declares ------------------------------------------------------------------------------

    def vanished(self, types: Sequence[TypeInfo]) -> list[Schedule]:
        """Declared schedules whose types an application does not have any more. One without types is none."""
        names = {info.name for info in types}
        return [one for one in self._desk.store.schedules().values() if types and one.declared and one.name not in names]

    def declare(self, fresh: Sequence[TypeInfo], known: Mapping[str, TypeInfo], vanished: Sequence[Schedule]) -> None:
        """Set schedules as the types say that are new or changed; ``known`` is what they were. In a turn, after they were put."""
        store = self._desk.store
        request = Request(0, 0, "set_schedule", {}, None, "application")
        for one in vanished:
            store.drop_schedule(one.number)
            self._desk.note(request, "removed", f"schedule {one.name}", shown(one), None)
            if one.name in known:  # when it comes back, it is declared anew
                store.put_types([replace(known[one.name], schedule=None)])
        for info in fresh:
            was = known[info.name].schedule if info.name in known else None
            if info.schedule == was:
                continue
            there = store.schedules().get(info.name)
            if there is not None and not there.declared:
                _log.warning("schedule %s is a person's, so the one that the application declares is left out", info.name)
            elif info.schedule is None and there is not None:
                store.drop_schedule(there.number)
                self._desk.note(request, "removed", f"schedule {info.name}", shown(there), None)
            elif info.schedule is not None:
                self._carefully(partial(self._put, there, info.name, self._words(info, there), request, True), info.name)

    def _words(self, info: TypeInfo, there: Schedule | None) -> dict[str, Any]:
        """The arguments of ``set_schedule`` for a declaration; what it does not say has its default again."""
        usual = {name: value for name, value in zip(_RULE, Rule().row(), strict=True) if name not in KINDS}
        given = dict(info.schedule or {})
        task = [info.name, given.pop("payload", b""), {}]
        words = arguments("set_schedule", given, **_RULE, misfire=str, overlap=str, after=list, **ALERTS)
        usual |= {"misfire": "coalesce", "overlap": "allow", "after": []}
        return usual | {key: kind() for key, kind in ALERTS.items()} | words | {"task": task}

    def _carefully(self, put: Callable[[], None], name: str) -> None:
        try:
            put()
        except (NoRoom, StoreError):
            raise
        except TqError as error:  # too many of them, or zone files that are not the worker's: the application works without
            _log.error("the schedule that the application declares for %s is left out: %s", name, error.message)


def behind(schedules: Mapping[str, Schedule], names: Iterable[str]) -> dict[str, list[str]]:
    """The schedules that come before one that is after these, directly or not; for each the way to it."""
    found = {name: [name] for name in names}
    left = list(found)
    while left:
        name = left.pop()
        for further in schedules[name].after if name in schedules else ():
            if further not in found:
                found[further] = [*found[name], further]
                left.append(further)
    return found


def as_sent(one: Schedule, slot: int, missed: int, after: Sequence[int] = ()) -> list[Any]:
    """The task of a slot (0: one by hand) as an enqueue has it: what sent it, for when, how many slots it stands for, and ``after`` what
    it runs."""
    type_, payload, options = one.task
    notes = {"schedule": one.name, "slot": words_of(slot) if slot else "by hand"}
    notes |= {"missed": str(missed)} if missed else {}
    links = {"after": list(after)} if after else {}
    return [type_, payload, {**(options or {}), **links, "meta": {**((options or {}).get("meta") or {}), **notes}}]


def _masked(options: Mapping[str, Any] | None) -> dict[str, Any]:
    """Options as they may be shown: what looks secret in a command's environment is masked."""
    options = dict(options or {})
    return options | {"extras": how_shown(options["extras"])} if isinstance(options.get("extras"), dict) else options


def shown(one: Schedule) -> dict[str, Any]:
    """What a person said of a schedule, as rows and events have it."""
    rule = dict(zip(_RULE, one.rule, strict=True))
    kind = one.task[0] if one.task else None
    misfire = f"all:{one.catch_up}" if one.misfire == "all" else one.misfire
    tells = {key: f"{one.alerts[key][0]}, {len(one.alerts[key][1] or b'')} bytes" if key in one.alerts else None for key in TELLS}
    alerts = {**tells, "missed_after_ms": one.alerts.get("missed_after_ms", 0), "alert_each": bool(one.alerts.get("alert_each"))}
    return {**rule, "misfire": misfire, "overlap": one.overlap, "after": list(one.after), "paused": one.paused, "type": kind, **alerts}

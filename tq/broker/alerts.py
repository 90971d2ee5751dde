"""Alerts: tasks that tell of what went wrong, and that it is well again.

For: what a schedule tells of its runs (it failed, it did not run, it is well again); an alert as a task, with what it tells.
Not for: slots (schedules), sending a mail or a message: that is the alert's own command or handler.
Runs in: the daemon, inside the broker's turn.
Promises: an alert is stored as a task in the transaction that takes note of its cause, so each is raised once, whatever dies; one
for which its queue has no room is tried again until there is some; a schedule that fails again and again tells it once, until a
run of it has succeeded (or each time, if it says so); what is told of a task is cleaned text.

An alert is an ordinary task: critical, run again up to three times, for five minutes at the most, unless it says otherwise. A command
finds in its environment, a function gets as keyword arguments if the alert has no payload of its own:

    TQ_ALERT     alert      failure, recovery or missed
    TQ_SCHEDULE  schedule   its name
    TQ_ABOUT     about      the id of the task that it is about; 0 if there is none. `tq log $TQ_ABOUT` is its output
    TQ_OUTCOME   outcome    how that ended: failed, expired, succeeded; or missed, skipped (overlap, ...), overdue
    TQ_SLOT      slot       the slot, in RFC 3339
    TQ_COUNT     count      how many slots are missed
    TQ_ERROR     error      what went wrong
    TQ_EXIT_CODE exit_code  of a command that failed, else nothing

TQ_TASK_ID is the alert's own, as for every command.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from tq.broker.desk import Desk, Turn
from tq.errors import Refused, StoreDamaged, StoreError, TqError, UsageError
from tq.model import SHELL, State, Task, brief, pack, safe_text
from tq.schedule import words_of
from tq.store import Event, NoRoom, Schedule

TELLS = ("on_failure", "on_recovery", "on_missed")
KINDS: dict[str, type] = {**dict.fromkeys(TELLS, list), "missed_after_ms": int, "alert_each": bool}
"""What a schedule may say of its alerts, by its names in ``tq.wire``."""
WATCHED_MOST = 100
AGAIN_MS = 1000
"""Until an alert for which there was no room is tried again."""
ERROR_MOST = 500
USUAL: dict[str, Any] = {"priority": 3, "retries": 3, "timeout_ms": 300_000}
NO_OPTIONS = ("delay_ms", "due_at", "key", "unique", "unique_policy", "after", "after_any")
_SURROUNDINGS = ("cwd", "env", "umask")
"""Of a command's extras: an alert that says none of its own has those of the command that it is about."""


def alert_row(target: Sequence[Any], about: Mapping[str, str], alike: Sequence[Any] = ()) -> list[Any]:
    """[type, payload, options] of an alert; ``about`` is what it tells, ``alike`` the task whose surroundings it may have."""
    kind, payload, options = target
    options = {**USUAL, "label": f"alert {about['alert']}", **{key: value for key, value in (options or {}).items() if value is not None}}
    options["meta"] = {**(options.get("meta") or {}), **{key: value for key, value in about.items() if value and key != "error"}}
    if kind == SHELL:
        extras = options.get("extras")
        if extras is None and alike and alike[0] == SHELL:
            extras = {key: value for key, value in ((alike[2] or {}).get("extras") or {}).items() if key in _SURROUNDINGS}
        variables = {f"TQ_{key.upper()}": value for key, value in about.items()}
        options["extras"] = {**(extras or {}), "set": {**((extras or {}).get("set") or {}), **variables}}
    return [kind, payload or pack(dict(about)) if kind != SHELL else payload, options]


def checked_target(desk: Desk, where: str, target: Sequence[Any]) -> list[Any]:
    """An alert that can be sent; UsageError says what is wrong with it."""
    if len(target) != 3 or not isinstance(target[2], dict | None) or not isinstance((target[2] or {}).get("meta"), dict | None):
        raise UsageError(f"{where}: expected a task, [type, payload, options], or nothing, got {brief(list(target))}.")
    wrong = [key for key in NO_OPTIONS if (target[2] or {}).get(key) is not None]
    if wrong:
        raise UsageError(f"{where}: expected options that may be said of every alert, got {', '.join(wrong)}. Drop them.")
    desk.intake.drafts([alert_row(target, _about("missed", "x", 1 << 62, 1 << 40, "x" * 10, "x" * ERROR_MOST))], desk.now)
    return list(target)


def _about(
    alert: str, schedule: str, about: int, slot: int, outcome: str, error: str = "", exit_code: int | None = None, count: int = 0
) -> dict[str, str]:
    slot_words = words_of(slot) if slot else ""
    return {
        "alert": alert, "schedule": schedule, "about": str(about), "outcome": outcome, "slot": slot_words, "count": str(count or ""),
        "error": safe_text(error)[:ERROR_MOST], "exit_code": "" if exit_code is None else str(exit_code),
    }  # fmt: skip


class ScheduleAlerts:
    """What becomes of a schedule's ``watched``, ``failing``, ``overdue``, ``expect_at`` and ``untold``. Each method gives the
    schedule as it is then; to be put in the same turn."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk

    def set(self, one: Schedule, args: Mapping[str, Any]) -> Schedule:
        """With the alerts that a person says; what is not said stays, an empty list ends one."""
        alerts = {**one.alerts, **{key: args[key] for key in KINDS if key in args}}
        for key in TELLS:
            if args.get(key):
                alerts[key] = checked_target(self._desk, f"schedule {one.name!r}: {key}", args[key])
        if not 0 <= alerts.get("missed_after_ms", 0) < 1 << 50:
            raise UsageError(f"schedule {one.name!r}: missed_after_ms: expected milliseconds, 0 or more, got {alerts['missed_after_ms']}.")
        alerts = {key: value for key, value in alerts.items() if value}
        if alerts.get("missed_after_ms") and "on_missed" not in alerts:
            raise UsageError(f"schedule {one.name!r}: missed_after_ms: expected on_missed too, to tell it, got none.")
        if alerts == one.alerts:
            return one
        one = replace(one, alerts=alerts)
        if "on_missed" not in alerts:
            one = replace(one, overdue=0, untold=())
        if not alerts:
            one = replace(one, watched=(), failing=0)
        return one if alerts.get("missed_after_ms") else replace(one, expect_at=0)

    def sent(self, one: Schedule, slot: int, task_id: int) -> Schedule:
        """A run of it has been stored."""
        if not one.alerts:
            return one
        return self.came(replace(one, watched=[*one.watched, [slot, task_id]][-WATCHED_MOST:]), slot)

    def came(self, one: Schedule, slot: int) -> Schedule:
        """A slot has come: from now on a run is expected to succeed."""
        within = one.alerts.get("missed_after_ms", 0)
        return replace(one, expect_at=slot + within) if within and slot and not (one.expect_at or one.overdue) else one

    def missed(self, one: Schedule, slot: int, outcome: str, count: int, why: str = "") -> Schedule:
        """Slots have not become tasks, from this one on."""
        if "on_missed" not in one.alerts or one.untold or (one.overdue and not one.alerts.get("alert_each")):
            return one
        return replace(one, overdue=slot, untold=[slot, outcome, count, why])

    def look(self, one: Schedule, turn: Turn) -> Schedule:
        """Tell what has ended, and what should have and has not."""
        if not one.alerts:
            return one
        left = list(one.watched)
        waits = False
        for slot, task_id in one.watched:
            task = self._one(task_id)
            if task is not None and not task.state.final:
                continue
            now = self._ended(one, slot, task, turn) if task is not None else one
            if now is None:
                waits = True
                break
            one = now
            left.remove([slot, task_id])
        one = replace(one, watched=left)
        if 0 < one.expect_at <= self._desk.now and not waits:
            told = one.failing and "on_failure" in one.alerts
            slot = one.expect_at - one.alerts["missed_after_ms"]
            one = replace(one, expect_at=0)
            one = one if told else self.missed(one, slot, "overdue", 0)
        if one.untold:
            slot, outcome, count, why = one.untold
            done = self._tell(one, "on_missed", _about("missed", one.name, 0, slot, outcome, why, None, count), turn)
            one, waits = (replace(one, untold=()) if done else one), waits or not done
        return self.timed(one, self._desk.now + AGAIN_MS if waits else 0)

    def timed(self, one: Schedule, again_at: int = 0) -> Schedule:
        """With an instant of its timer by which it has to be looked at; one that is paused, too, while an alert has no room."""
        if one.paused:
            return replace(one, expect_at=0, due_at=again_at)
        return replace(one, due_at=min((at for at in (one.due_at, one.expect_at, again_at) if at), default=0))

    def _one(self, task_id: int) -> Task | None:
        try:
            return self._desk.one(task_id)
        except StoreDamaged:
            return None

    def _ended(self, one: Schedule, slot: int, task: Task, turn: Turn) -> Schedule | None:
        """One of its runs is over; None: it could not be told, and is to be looked at again."""
        state, status = task.state, task.status
        error = status.error or {}
        words = f"{error.get('type') or 'Error'}: {error.get('message') or ''}" if error else ""
        if state is State.SUCCEEDED:
            about = _about("recovery", one.name, task.id, slot, state.word)
            if (one.failing or one.overdue) and not self._tell(one, "on_recovery", about, turn):
                return None
            ahead = [later for later, _ in one.watched if later > slot] if slot else []
            expect_at = min(ahead) + one.alerts["missed_after_ms"] if ahead and one.alerts.get("missed_after_ms") else 0
            return replace(one, failing=0, overdue=0, untold=(), expect_at=expect_at if slot else one.expect_at)
        if state in (State.FAILED, State.EXPIRED):
            about = _about("failure", one.name, task.id, slot, state.word, words, status.exit_code)
            if (not one.failing or one.alerts.get("alert_each")) and not self._tell(one, "on_failure", about, turn):
                return None
            return replace(one, failing=one.failing or task.id)
        return one  # somebody has cancelled it, and knows

    def _tell(self, one: Schedule, which: str, about: Mapping[str, str], turn: Turn) -> bool:
        """Store the alert, if there is to be one; False: there is no room for it now. One that cannot be sent at all is an event."""
        target = one.alerts.get(which)
        return target is None or send(self._desk, alert_row(target, about, one.task), f"schedule {one.name}", about, turn)


def send(desk: Desk, row: Sequence[Any], target: str, about: Mapping[str, str], turn: Turn) -> bool:
    """Store an alert and say so in an event; False: there is no room for it now."""
    told = {key: value for key, value in about.items() if value and key != "schedule"}
    try:
        drafts, _ = desk.intake.drafts([row], desk.now)
        ids = list(desk.store.enqueue(drafts))
    except (NoRoom, StoreError):
        raise
    except Refused:
        return False
    except TqError as error:
        desk.store.note(Event(0, desk.now, "tq", "alert_not_sent", target, None, {**told, "why": error.message[:ERROR_MOST]}))
        return True
    what = "alert_cleared" if about["alert"] == "cleared" else "alert_raised"
    desk.store.note(Event(0, desk.now, "tq", what, target, None, {**told, "sent": ids[0]}))
    turn.steps.append(("added", list(zip(ids, drafts, strict=True))))
    turn.stirred = True
    return True

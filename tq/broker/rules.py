"""Alert rules: conditions of the whole instance, told when they come true and when they are over.

For: ``alerts``; ``[alerts.NAME]`` of the settings file as rules; looking at them, raising and clearing.
Not for: alerts of single schedules, what an alert's task is made of (alerts).
Runs in: the daemon, inside the broker's turn.
Promises: a rule is raised once and cleared once, an event each, in the transaction that stores its task; what was raised is known
after a restart, as far back as events are kept. Rules are looked at when something has changed, at most once a second, and by
a timer only while time alone may change what they say: of an idle daemon no rule asks anything.

    watch          above (and its kind)      what it is
    queue_depth    tasks                     ready tasks of a queue, of a type, or of all
    oldest_wait    a duration                how long the oldest of these has waited
    failure_rate   a share (0.2, "20%")      of the attempts of these that ended within ``window``, if they were at least ``least``
    lost_worker    a number (0)              workers that died unasked within ``window``
    late_schedule  a duration (1m)           how long a slot waits to become a task: no room in its queue, or a run that goes on

``for`` is how long it must be so, or be over, before it is told. ``run`` is what is sent when it is raised, ``clear`` when it is
over: a line for the shell, the words of a command, or "type:NAME". They are told, as ``TQ_...`` or as keywords (see ``alerts``):
alert (raised or cleared), rule, watch, value, above, queue, type.
"""

from __future__ import annotations

import difflib
import logging
import math
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from tq.arguments import arguments
from tq.broker.alerts import alert_row, send
from tq.broker.desk import Desk, Turn, Verb
from tq.errors import ConfigError, StoreDamaged, UsageError
from tq.model import MAX_DURATION_MS, State, brief, duration_ms, is_name
from tq.schedule import alert_of
from tq.store import SCAN_MOST, Event
from tq.waiting import Request

WATCHES: dict[str, float | None] = {
    "queue_depth": None,
    "oldest_wait": None,
    "failure_rate": None,
    "lost_worker": 0,
    "late_schedule": 60_000,
}
"""What a rule may watch, and what it is above if it does not say."""
_OF_TASKS = ("queue_depth", "oldest_wait", "failure_rate")
_IN_WINDOW = ("failure_rate", "lost_worker")
_IN_TIME = ("oldest_wait", "late_schedule")
KEYS = ("watch", "above", "queue", "type", "for", "window", "least", "run", "clear")
RULES_MOST = 100
LOOK_MS = 1000
WINDOW_MS, LEAST = 300_000, 10
PARTS = 10
"""A window moves in so many steps."""
_log = logging.getLogger("tq.broker")


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule. ``above``: tasks, a share from 0 to 1, or ms; ``run`` and ``clear``: [type, payload, options], or nothing."""

    name: str
    watch: str
    above: float
    queue: str | None = None
    type: str | None = None
    for_ms: int = 0
    window_ms: int = WINDOW_MS
    least: int = LEAST
    run: Sequence[Any] = ()
    clear: Sequence[Any] = ()


Change = tuple[Rule, bool, float]
"""A rule, whether it is raised now (or cleared), and its value."""


class Rules:
    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self.reads: dict[str, Verb] = {"alerts": self._alerts}
        self.rules: dict[str, Rule] = {}
        self.raised: dict[str, int] = {}
        """Those that are raised: since when (ms)."""
        self._known = False  # whether it is known what was raised before
        self.changed = False
        """Whether something has happened since they were looked at."""
        self._since: dict[str, int] = {}  # when what a rule says began to differ from what was told
        self._values: dict[str, float] = {}
        self._ends: dict[str, deque[tuple[int, int, int]]] = {}  # of a window: until when, attempts that ended, those that failed
        self._counted: dict[str, tuple[int, int]] = {}
        self._lost: deque[int] = deque()
        self._lost_before = 0
        self._looked_at = 0
        self._begun_at = 0
        self._before: set[str] = set()  # raised before that, for reasons that are not known any more
        self._late: dict[int, tuple[int, int]] = {}  # by schedule, the first of the slots that wait, and the slot that ran before it
        self._due_at: float = math.inf

    def declare(self, rules: Sequence[Rule], who: str) -> None:
        """These are the rules from now on; in a turn. One that is gone, or is another, is cleared."""
        desk = self._desk
        fresh = {rule.name: rule for rule in rules}
        raised = self.raised if self._known else _last_told(desk)
        self._known = True
        gone = [name for name in raised if name not in fresh or (self.rules and self.rules.get(name) != fresh[name])]
        for name in gone:
            desk.store.note(Event(0, desk.now, who, "alert_cleared", f"alert {name}", None, {"why": "the rule is another, or gone"}))
        self.raised = {name: at for name, at in raised.items() if name not in gone}
        if fresh != self.rules:
            self.rules, self._since, self._values, self._ends, self._counted = fresh, {}, {}, {}, {}
            self._before = set(self.raised)
            self._lost_before, self._begun_at, self.changed, self._looked_at = desk.lost(), desk.now, True, 0

    # -- looking ---------------------------------------------------------------------------------------------------

    @property
    def next_due(self) -> float | None:
        """When they are to be looked at if nothing arrives."""
        if not self.rules:
            return None
        due = min(self._due_at, self._looked_at + LOOK_MS) if self.changed else self._due_at
        return None if due == math.inf else due

    def look(self) -> list[Change]:
        """What is to be told now; to be called before a turn's transaction. It may be called again, if that is lost."""
        now = self._desk.now
        if not self.changed and now < self._due_at and self._desk.lost() == self._lost_before:
            return []
        if 0 <= now - self._looked_at < LOOK_MS and now < self._due_at:
            self.changed = True
            return []
        self._looked_at, self.changed, self._due_at = now, False, math.inf
        lost = self._desk.lost()
        self._lost.extend([now] * min(lost - self._lost_before, SCAN_MOST))
        self._lost_before = lost
        found: list[Change] = []
        for name, rule in self.rules.items():
            value = self._values[name] = self._value(rule, now)
            bad = value > rule.above
            if name in self._before and not bad and rule.watch in _IN_WINDOW and now < self._begun_at + rule.window_ms:
                bad = True  # what led to it may not be over
                self._later(self._begun_at + rule.window_ms)
            if bad == (name in self.raised):
                self._since.pop(name, None)
                continue
            since = self._since.setdefault(name, now)
            if now - since >= rule.for_ms:
                found.append((rule, bad, value))
                self._later(now + LOOK_MS)  # if it cannot be told
            else:
                self._later(since + rule.for_ms)
        return found

    def tell(self, changes: Sequence[Change], turn: Turn) -> None:
        """Raise and clear, in the turn's transaction; what has no room stays as it was."""
        desk = self._desk
        for rule, bad, value in changes:
            about = {
                "alert": "raised" if bad else "cleared", "rule": rule.name, "watch": rule.watch, "value": f"{value:g}",
                "above": f"{rule.above:g}", "queue": rule.queue or "", "type": rule.type or "",
            }  # fmt: skip
            target = rule.run if bad else rule.clear
            if target:
                done = send(desk, alert_row(target, about), f"alert {rule.name}", about, turn)
            else:
                told = {key: text for key, text in about.items() if text and key not in ("rule", "alert")}
                desk.store.note(Event(0, desk.now, "tq", f"alert_{about['alert']}", f"alert {rule.name}", None, told))
                done = True
            if done:
                turn.later.append(partial(self._told, rule.name, bad, desk.now))

    def _told(self, name: str, bad: bool, now: int) -> None:
        self._since.pop(name, None)
        self._before.discard(name)
        if bad:
            self.raised[name] = now
        else:
            self.raised.pop(name, None)

    def _later(self, at: float) -> None:
        self._due_at = min(self._due_at, at)

    # -- figures ---------------------------------------------------------------------------------------------------

    def _value(self, rule: Rule, now: int) -> float:
        """What a rule compares."""
        store = self._desk.store
        if rule.watch == "queue_depth":
            return sum(tally.states[State.PENDING] for tally in store.tallies() if _is_of(rule, tally.queue, tally.type))
        if rule.watch == "oldest_wait":
            since = store.oldest(rule.queue, rule.type)
            return self._age(rule, since, now)
        if rule.watch == "failure_rate":
            return self._rate(rule, now)
        if rule.watch == "late_schedule":
            late: dict[int, tuple[int, int]] = {}
            for one in store.schedules().values():
                waits = [slot for slot in (*one.slots[:1], one.held) if slot and not one.paused]
                ran = next((slot for slot, _ in reversed(one.runs) if slot), 0)  # not one by hand
                if waits:
                    first, before = self._late.get(one.number, (0, 0))
                    late[one.number] = (first if first and before == ran else min(waits), ran)
            self._late = late
            return self._age(rule, min((slot for slot, _ in late.values()), default=0), now)
        while self._lost and self._lost[0] <= now - max(one.window_ms for one in self.rules.values() if one.watch == "lost_worker"):
            self._lost.popleft()
        lost = [at for at in self._lost if at > now - rule.window_ms]
        if lost:
            self._later(lost[0] + rule.window_ms)
        return len(lost)

    def _age(self, rule: Rule, since: int, now: int) -> float:
        """How long something waits; where it may yet become too long, time alone decides."""
        if since and now - since <= rule.above:
            self._later(since + rule.above + 1)
        return max(now - since, 0) if since else 0

    def _rate(self, rule: Rule, now: int) -> float:
        """The share of failures among the attempts that ended in the window, as it moves in steps; 0 of too few."""
        tallies = [tally for tally in self._desk.store.tallies() if _is_of(rule, tally.queue, tally.type)]
        failed = sum(tally.failed + tally.retried for tally in tallies)
        total = failed + sum(tally.succeeded for tally in tallies)
        before = self._counted.get(rule.name)
        self._counted[rule.name] = (total, failed)
        ends = self._ends.setdefault(rule.name, deque())
        while ends and ends[0][0] <= now:
            ends.popleft()
        if before is not None and total > before[0]:
            part = max(rule.window_ms // PARTS, 1)
            until = (now // part + 1) * part + rule.window_ms
            more, bad = total - before[0], failed - before[1]
            if ends and ends[-1][0] == until:
                _, had, had_bad = ends.pop()
                more, bad = more + had, bad + had_bad
            ends.append((until, more, bad))
        if ends:
            self._later(ends[0][0])
        runs = sum(more for _, more, _ in ends)
        return 0.0 if runs < rule.least else sum(bad for _, _, bad in ends) / runs

    # -- reading ---------------------------------------------------------------------------------------------------

    def _alerts(self, request: Request, turn: Turn) -> dict[str, Any]:
        arguments(request.verb, request.args)
        return {"alerts": [self._row(rule) for rule in self.rules.values()]}

    def _row(self, rule: Rule) -> dict[str, Any]:
        told = {name: getattr(rule, name) for name in ("name", "watch", "above", "queue", "type", "for_ms")}
        told |= {"window_ms": rule.window_ms} if rule.watch in _IN_WINDOW else {}
        value = self._values.get(rule.name)
        since, raised_at = self._since.get(rule.name, 0), self.raised.get(rule.name, 0)
        return {**told, "value": value, "raised_at": raised_at, "changes_at": since + rule.for_ms if since else 0}


def _is_of(rule: Rule, queue: str, kind: str) -> bool:
    return rule.queue in (None, queue) and rule.type in (None, kind)


def _last_told(desk: Desk) -> dict[str, int]:
    """The rules that were raised last, and since when, as events have it. Of what is older than an event that cannot be read, none."""
    found: dict[str, int] = {}
    known: set[str] = set()
    before: int | None = None
    most = SCAN_MOST
    while True:
        try:
            page = desk.store.events(before, most)
        except StoreDamaged as error:
            if most == 1:
                _log.error("alert rules that were raised before that are not known: %s", error)
                return found
            most //= 2
            continue
        for event in page:
            name = event.target.removeprefix("alert ") if event.target.startswith("alert ") else ""
            if name and event.what in _TOLD and name not in known:
                known.add(name)
                if (event.after or {}).get("alert", event.what.removeprefix("alert_")) == "raised":
                    found[name] = event.at
        if len(page) < most:
            return found
        before = page[-1].number


_TOLD = ("alert_raised", "alert_cleared", "alert_not_sent")


# the settings file


def declared_rules(source: object, tables: Mapping[str, Mapping[str, Any]]) -> list[Rule]:
    """What ``[alerts.NAME]`` of a file mean; ``source`` is its path. ConfigError names what cannot be."""
    if len(tables) > RULES_MOST:
        raise ConfigError(f"{source}: [alerts]: expected at most {RULES_MOST} rules, got {len(tables)}.")
    found = []
    for name, table in tables.items():
        try:
            found.append(_rule(name, table))
        except (UsageError, ValueError, TypeError) as error:
            raise ConfigError(f"{source}: [alerts.{name}]: {error}") from None
    return found


def _rule(name: str, table: Mapping[str, Any]) -> Rule:
    if not is_name(name):
        raise ValueError("expected a name of 1 to 200 bytes.")
    for key in table:
        if key not in KEYS:
            close = difflib.get_close_matches(key, KEYS, 1)
            hint = f"Did you mean {close[0]!r}?" if close else f"The keys are: {', '.join(KEYS)}."
            raise ValueError(f"expected a key of a rule, got {key!r}. {hint}")
    watch = table.get("watch")
    if watch not in WATCHES:
        raise ValueError(f"watch: expected {', '.join(WATCHES)}, got {brief(watch)}.")
    for key, useful in (("queue", _OF_TASKS), ("type", _OF_TASKS), ("window", _IN_WINDOW), ("least", ("failure_rate",))):
        if key in table and watch not in useful:
            raise ValueError(f"{key}: expected it with {', '.join(useful)}, got it with {watch}. Drop it.")
        if key in ("queue", "type") and key in table and not is_name(table[key]):
            raise ValueError(f"{key}: expected a name, got {brief(table[key])}.")
    rule = Rule(name, watch, _above(watch, table.get("above", WATCHES[watch])), table.get("queue"), table.get("type"))
    least = table.get("least", LEAST)
    if not isinstance(least, int) or isinstance(least, bool) or not 1 <= least <= 1 << 40:
        raise ValueError(f"least: expected a number of attempts, 1 or more, got {brief(least)}.")
    spans = {key: _span(key, table.get(key, usual)) for key, usual in (("for", 0), ("window", WINDOW_MS / 1000))}
    if spans["window"] < LOOK_MS:
        raise ValueError(f"window: expected at least 1s, got {brief(table['window'])}.")
    alerts = {}
    for key in ("run", "clear"):
        try:
            alerts[key] = alert_of(table.get(key, ""))
        except ValueError as error:
            raise ValueError(f"{key}: {error}.") from None
    return replace(rule, for_ms=spans["for"], window_ms=spans["window"], least=least, run=alerts["run"], clear=alerts["clear"])


def _span(key: str, value: object) -> int:
    try:
        return duration_ms(value)
    except ValueError as error:
        raise ValueError(f"{key}: {error}.") from None


def _above(watch: str, value: object) -> float:
    """The threshold of a rule in its own unit."""
    if value is None:
        raise ValueError(f"above: expected what {watch} is not to pass, got nothing.")
    if watch in _IN_TIME:
        return value if isinstance(value, int) and value == WATCHES[watch] else _span("above", value)
    text = value.strip().removesuffix("%") if isinstance(value, str) and value.strip().endswith("%") else None
    try:
        number = float(text) / 100 if text is not None else value
    except ValueError:
        number = value
    most = 1.0 if watch == "failure_rate" else float(MAX_DURATION_MS)
    if isinstance(number, bool) or not isinstance(number, int | float) or not 0 <= number <= most:
        unit = 'a share from 0 to 1, or "20%"' if watch == "failure_rate" else "a number, 0 or more"
        raise ValueError(f"above: expected {unit}, got {brief(value)}.")
    return number

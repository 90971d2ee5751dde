"""Limits that follow the work: which outcomes belong to each, and the change of its rate or of how many run.

For: ``Adaptive``, which sees ends before they are settled; what ``set_limit`` says of it.
Not for: when a level grows and shrinks (``tq.aimd``), other limits (limits).
Runs in: the daemon, inside the broker's turn.
Promises: a level is stored with the ends that changed it, so it is the same after a restart; what was counted since its last change
is in memory alone. An event tells of a change, one in TOLD_EVERY_MS for each limit. Without such limits nothing is looked at.

What a turn counts is beside what there is until its commit: a turn that is done again begins anew.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from tq.aimd import Rule, Window
from tq.broker.desk import BAD_ENDS, Desk, Turn
from tq.errors import UsageError
from tq.model import brief
from tq.store import Event, Limit, Running

TOLD_EVERY_MS = 10_000
STEPS = 100
"""A rate grows by so manyth of what is between its bounds, or by one if that is more."""
KINDS = ("none", "rate", "running")


class Adaptive:
    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self._limits: list[Limit] = []
        self._windows: dict[str, Window] = {}
        self._told: dict[str, tuple[int, int]] = {}
        """By limit: when its last event was, and what its level was then."""
        self._staged: tuple[dict[str, Window], dict[str, tuple[int, int]]] = {}, {}
        self._turn: Turn | None = None  # whose what is staged is
        self.learn()

    def learn(self) -> None:
        """Limits have changed; after a commit."""
        self._limits = [limit for limit in self._desk.store.limits().values() if limit.adaptive != "none"]
        levels = {limit.name: level_of(limit) for limit in self._limits}
        self._windows = {name: window for name, window in self._windows.items() if levels.get(name) == window.level}
        self._told = {name: told for name, told in self._told.items() if name in levels}
        if self._limits:
            self._desk.ends_seen["adaptive"] = self._ends
        else:
            self._desk.ends_seen.pop("adaptive", None)

    def _ends(self, rows: Sequence[Sequence[Any]], turn: Turn) -> None:
        """Before these rows are settled: what they say of the limits of their tasks."""
        if self._turn is not turn:
            self._turn, self._staged = turn, ({}, {})
            turn.later.append(self._keep)
        runs = self._desk.store.running([row[0] for row in rows])
        for limit in self._limits:
            mine = [
                (row, run)
                for row, run in zip(rows, runs, strict=True)
                if run is not None and run.claim == row[1] and limit.counts(run.header.lane) is not None
            ]
            if mine:
                self._heard(limit, mine, turn)

    def _heard(self, limit: Limit, ends: Sequence[tuple[Sequence[Any], Running]], turn: Turn) -> None:
        now, store, windows = self._desk.now, self._desk.store, self._staged[0]
        there = store.limits().get(limit.name)
        if there is None or there.adaptive == "none":  # it was changed a moment ago
            return
        rule, level = rule_of(there), level_of(there)
        window = windows.get(there.name) or self._windows.get(there.name) or Window(level)
        if window.level != level or window.since > now:  # a person has changed it, or the clock was put back
            window = Window(level, now)
        pressed = any(one.name == there.name for one, _ in store.reached(ends[0][1].header))
        for row, _ in ends:
            failed = row[2] in BAD_ENDS
            if not failed and row[2] not in (0, "succeeded"):
                continue
            began_at, ended_at = row[3] or now, row[4] or now
            after = window.heard(rule, now, began_at, max(ended_at - began_at, 0), failed=failed, pressed=pressed)
            if after.level != window.level:
                told = window._replace(good=window.good + (not failed), bad=window.bad + failed)
                self._becomes(there, after.level, told.why())
                turn.stirred = True
                there = at_level(there, after.level)
            window = after
        windows[there.name] = window

    def _becomes(self, limit: Limit, level: int, why: str) -> None:
        now, store, told = self._desk.now, self._desk.store, self._staged[1]
        store.put_limit(at_level(limit, level))
        at, before = told.get(limit.name) or self._told.get(limit.name) or (0, level_of(limit))
        if now - at >= TOLD_EVERY_MS and before != level:
            key = limit.adaptive
            store.note(Event(0, now, "tq", "limit_adapted", f"limit {limit.name}", {key: before}, {key: level, "why": why}))
            told[limit.name] = (now, level)

    def _keep(self) -> None:
        """The turn is committed."""
        self._windows |= self._staged[0]
        self._told |= self._staged[1]
        self._turn, self._staged = None, ({}, {})


def level_of(limit: Limit) -> int:
    return limit.rate if limit.adaptive == "rate" else limit.running


def at_level(limit: Limit, level: int) -> Limit:
    """The limit, with another level; a burst that nobody said goes with its rate."""
    if limit.adaptive == "running":
        return replace(limit, running=level)
    usual = limit.burst == usual_burst(limit.rate, limit.per_ms)
    return replace(limit, rate=level, burst=usual_burst(level, limit.per_ms) if usual else limit.burst)


def usual_burst(rate: int, per_ms: int) -> int:
    """What a second brings, one at the least."""
    return max(rate * 1000 // per_ms, 1)


def rule_of(limit: Limit) -> Rule:
    step = max((limit.high - limit.low) // STEPS, 1) if limit.adaptive == "rate" else 1
    return Rule(limit.low, limit.high, limit.latency_ms, limit.failures, limit.factor, step)


def adapting(verb: str, args: Mapping[str, Any], old: Limit) -> dict[str, Any]:
    """The fields of a limit that follows the work, as a request and ``old`` have them; empty if it is to follow nothing."""
    kind = args.get("adaptive", "none" if old.adaptive in args else old.adaptive)
    if kind not in KINDS:
        raise UsageError(f"{verb}: adaptive: expected one of {', '.join(KINDS)}, got {brief(kind)}.")
    given = args.keys() & {"low", "high", "latency_ms", "failures", "factor"}
    if kind == "none":
        if given:
            raise UsageError(f"{verb}: {min(given)}: expected it with a limit that is adaptive alone, got {args[min(given)]}.")
        return {"low": 0, "high": 0, "latency_ms": 0, "failures": 0, "factor": 0} if old.adaptive != "none" else {}
    same = old if old.adaptive == kind else Limit("", "", low=0, high=0, failures=10, factor=90)
    fields = {key: args.get(key, getattr(same, key)) for key in ("low", "high", "latency_ms", "failures", "factor")}
    if kind in args:
        raise UsageError(f"{verb}: {kind}: expected low and high for a limit that is adaptive, got {args[kind]} beside them.")
    if not 1 <= fields["low"] <= fields["high"]:
        got = f"{fields['low']}..{fields['high']}"
        raise UsageError(f"{verb}: low: expected a range that begins at 1 or more and rises, such as 2..50, got {got}.")
    level = min(max(level_of(same) if old.adaptive == kind else fields["low"], fields["low"]), fields["high"])
    return {"adaptive": kind, kind: level, **fields}

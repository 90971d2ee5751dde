"""Queues: their settings, what stands in them, and the types that are known.

For: ``queues``, ``set_queue``, ``types``.
Not for: emptying a queue (``remove`` with a filter), who is next (store).
Runs in: the daemon, inside the broker's turn.
Promises: a setting that is not named stays as it is; what was changed, by whom, and from what is an event.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from tq.arguments import arguments, between
from tq.broker.desk import Desk, Turn, Verb
from tq.errors import UsageError
from tq.intake import checked_options
from tq.model import MAX_DURATION_MS, State, brief, is_pattern
from tq.stats import stats
from tq.store import QueueInfo, TypeInfo
from tq.waiting import Request

_NUMBERS: dict[str, tuple[int, int]] = {
    "weight": (1, 100),
    "aging_ms": (0, MAX_DURATION_MS),
    "aging_share": (0, 1000),
    "slots": (0, 1_000_000),
    "max_tasks": (1, 1 << 62),
    "max_bytes": (1, 1 << 62),
    "keep_ms": (0, MAX_DURATION_MS),
    "hold_memory": (1, 1 << 62),
    "hold_every_ms": (100, MAX_DURATION_MS),
}
_FOR_TASKS = {"priority": int, "retries": int, "timeout_ms": int, "backoff": list}
"""Defaults of its tasks, checked as a task's own options are."""
_KINDS: dict[str, type] = {
    "paused": bool, "external": bool, "routes": list, "unset": list, "hold_load": float, "hold_probe": str,
    **dict.fromkeys(_NUMBERS, int), **_FOR_TASKS,
}  # fmt: skip
_PAUSE = ("paused_at", "paused_by")
"""What comes with a pause."""
ROUTES_MOST = 100
MAX_LOAD = 100_000
PROBE_MOST = 4096


class Lines:
    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self.writes: dict[str, Verb] = {"set_queue": self._set_queue}
        self.reads: dict[str, Verb] = {"queues": self._queues, "types": self._types}

    def _set_queue(self, request: Request, turn: Turn) -> dict[str, Any]:
        name, settings = checked_settings(request.verb, request.args)
        store = self._desk.store
        known = name in store.queues() or any(tally.queue == name for tally in store.tallies())
        self._put(name, settings, request)
        turn.stirred = True
        declared = [key for key in settings if key in self._desk.declared.get(name, ())]
        return {"new": not known, **({"declared": declared} if declared else {})}

    def _put(self, name: str, settings: dict[str, Any], request: Request) -> None:
        old = self._desk.store.queues().get(name, QueueInfo(name))
        new = replace(old, **settings)
        if new.paused != old.paused:
            since, who = (self._desk.now, request.who or "tq") if new.paused else (0, "")
            new = replace(new, paused_at=since, paused_by=who)
        self._desk.store.put_queue(new)
        if old.has_holds or new.has_holds:
            self._desk.holds_changed(name)
        changed = [key for key in QueueInfo.__slots__ if key not in _PAUSE and getattr(old, key) != getattr(new, key)]
        if changed:
            what = "set_queue" if changed != ["paused"] else "paused" if new.paused else "resumed"
            self._desk.note(request, what, name, {key: getattr(old, key) for key in changed}, {key: getattr(new, key) for key in changed})
        self._desk.intake.forget()

    def declare(self, declared: Mapping[str, Mapping[str, Any]], former: Mapping[str, Mapping[str, Any]], who: str) -> None:
        """Set what a file says of queues; what ``former`` said and it says no more has its default again, if nobody set it since."""
        queues = self._desk.store.queues()
        for name in {**former, **declared}:
            info = queues.get(name, QueueInfo(name))
            now, then = declared.get(name, {}), former.get(name, {})
            usual = QueueInfo(name)
            gone = [key for key, value in then.items() if key in _KINDS and key not in now and _same(getattr(info, key), value)]
            dropped = {key: getattr(usual, key) for key in gone}
            settings = {key: value for key, value in {**dropped, **now}.items() if not _same(getattr(info, key), value)}
            if settings:
                self._put(name, settings, Request(0, 0, "set_queue", {}, None, who))
        self._desk.declared = {name: dict(settings) for name, settings in declared.items()}
        self._desk.declared_in = who

    def _queues(self, request: Request, turn: Turn) -> dict[str, Any]:
        """Each queue's settings and counts."""
        arguments(request.verb, request.args)
        desk = self._desk
        counted = stats(desk.store.tallies(), *desk.slots())["queues"]
        infos = {name: QueueInfo(name) for name in counted} | desk.store.queues()
        rows = [dict(zip(QueueInfo.__slots__, info.row(), strict=True)) for _, info in sorted(infos.items())]
        held = self._held_back()
        for row in rows:
            row.update(held.get(row["name"], {"limits": [], "breakers": []}))
            row.update({key: counted.get(row["name"], {}).get(key) for key in ("states", "bytes")})
            if row["name"] in desk.declared:
                row["declared"] = desk.declared[row["name"]]
            if (hold := desk.held.get(row["name"])) is not None and hold.rules:
                row["held"] = hold.row(desk.now)
        return {"queues": rows, **({"file": desk.declared_in} if desk.declared else {})}

    def _held_back(self) -> dict[str, dict[str, list[str]]]:
        """By queue, the limits that are reached and the types whose breakers are not closed, of what waits in it."""
        holding, found = self._desk.holding(), dict[str, dict[str, list[str]]]()
        limits, breakers = holding["limits"], [row["type"] for row in holding["breakers"] if row["type"]]
        for tally in self._desk.store.tallies() if limits or breakers else ():
            if not tally.states[State.PENDING]:
                continue
            one = found.setdefault(tally.queue, {"limits": [], "breakers": []})
            names = {"queue": tally.queue, "type": tally.type}
            reached = [row["name"] for row in limits if names.get(row["scope"]) in row["of"]]
            one["limits"] += [name for name in reached if name not in one["limits"]]
            one["breakers"] += [tally.type] if tally.type in breakers else []
        return found

    def _types(self, request: Request, turn: Turn) -> dict[str, Any]:
        arguments(request.verb, request.args)
        return {"types": [dict(zip(TypeInfo.__slots__, info.row(), strict=True)) for _, info in sorted(self._desk.store.types().items())]}


def checked_settings(verb: str, given: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    """The queue's name and its settings as the store has them, from the arguments of ``set_queue``; UsageError for what cannot be."""
    args = arguments(verb, given, "name", name=str, **_KINDS)
    name, unset = args.pop("name"), args.pop("unset", [])
    for key, (low, high) in _NUMBERS.items():
        if key in args:
            between(args[key], low, high, key)
    if not 0 < args.get("hold_load", 1) <= MAX_LOAD:  # nor is one that is no number
        raise UsageError(f"hold_load: expected a load average above 0 and at most {MAX_LOAD}, such as 4, got {args['hold_load']!r}.")
    if "hold_load" in args:
        args["hold_load"] = float(args["hold_load"])
    if "hold_probe" in args and (not 0 < len(args["hold_probe"].encode()) <= PROBE_MOST or "\0" in args["hold_probe"]):
        raise UsageError(f"hold_probe: expected a line for /bin/sh of 1 to {PROBE_MOST} bytes, got {brief(args['hold_probe'])}.")
    args |= checked_options({key: args[key] for key in _FOR_TASKS if key in args})
    if "backoff" in args:
        args["backoff"] = args["backoff"].row()
    routes = args.get("routes", [])
    if len(routes) > ROUTES_MOST or not all(is_pattern(pattern) for pattern in routes):
        raise UsageError(f"routes: expected at most {ROUTES_MOST} patterns of types such as report.*, got {brief(routes)}.")
    for key in unset:
        if not isinstance(key, str) or key not in _KINDS or key in ("paused", "external", "unset"):
            raise UsageError(f"unset: expected settings of a queue ({', '.join(_KINDS)}), got {brief(key)}.")
        args.setdefault(key, getattr(QueueInfo(name), key))
    return name, args


def _same(one: Any, other: Any) -> bool:
    """Whether two values of a setting are one; the store gives lists as tuples."""
    return (list(one) if isinstance(one, tuple) else one) == (list(other) if isinstance(other, tuple) else other)

"""Limits: how many tasks of a queue, a type, a tenant or a flow key begin in a time and run at a time.

For: ``limits``, ``set_limit``, ``remove_limit``.
Not for: who goes first among those that may (store), the tokens (tq.store.limits).
Runs in: the daemon, inside the broker's turn.
Promises: a change ends nothing that runs, and what was begun under the old rule counts for the new one; what was changed, by
whom, and from what is an event.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from math import inf
from typing import Any

from tq.arguments import arguments, between, unknown
from tq.broker.adaptive import Adaptive, adapting, at_level, level_of, usual_burst
from tq.broker.desk import Desk, Turn, Verb
from tq.broker.each_worker import EachWorker
from tq.errors import UsageError
from tq.model import MAX_DURATION_MS, brief, is_pattern
from tq.store import Limit, Used
from tq.store.limits import SCOPES, WINDOWS
from tq.waiting import Request

LIMITS_MOST = 100
"""Each lane is held against every one of them once."""
USED_TOLD = 20
"""Of tenants and flow keys, so many are shown with a limit that counts each by itself."""
_NUMBERS = {
    "rate": (0, 1_000_000), "per_ms": (1, MAX_DURATION_MS), "burst": (1, 10_000_000), "running": (0, 1_000_000), "low": (1, 1_000_000),
    "high": (1, 1_000_000), "latency_ms": (0, MAX_DURATION_MS), "failures": (0, 100), "factor": (1, 99),
}  # fmt: skip
_WORDS = ("scope", "of", "window", "adaptive", "each")


class Limited:
    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self._adaptive = Adaptive(desk)
        self.each_worker = EachWorker(desk)
        self._declared: Collection[str] = ()
        self._declared_in = ""
        self.writes: dict[str, Verb] = {"set_limit": self._set, "remove_limit": self._remove}
        self.reads: dict[str, Verb] = {"limits": self._limits}

    def _set(self, request: Request, turn: Turn) -> dict[str, Any]:
        there = self._desk.store.limits()
        limit = limit_of(request.verb, request.args, there)
        old = there.get(limit.name)
        if old is None and len(there) >= LIMITS_MOST:
            raise UsageError(f"set_limit: expected at most {LIMITS_MOST} limits, got another. Remove one: `tq limit remove`.")
        if limit != old:
            self._put(limit, old, request)
            turn.later.append(self.learn)
        turn.stirred = True
        return {"new": old is None, **self._again(limit.name)}

    def _put(self, limit: Limit, old: Limit | None, request: Request) -> None:
        self._desk.store.put_limit(limit)
        usual = old or Limit(limit.name, "")
        changed = [key for key in Limit.__slots__ if getattr(usual, key) != getattr(limit, key) or (old is None and key == "scope")]
        before = {} if old is None else {key: getattr(old, key) for key in changed}
        after = {key: value for key in changed if (value := getattr(limit, key)) is not None}
        self._desk.note(request, "set_limit", f"limit {limit.name}", before, after)

    def _drop(self, limit: Limit, request: Request) -> None:
        self._desk.store.drop_limit(limit.name)
        self._desk.note(request, "remove_limit", f"limit {limit.name}", dict(zip(Limit.__slots__[1:], limit.row()[1:], strict=True)), None)

    def learn(self) -> None:
        """Limits have changed; after a commit."""
        self._adaptive.learn()
        self.each_worker.learn()

    def _again(self, name: str) -> dict[str, Any]:
        """Whether the settings file will set it anew."""
        return {"declared": True} if name in self._declared else {}

    def declare(self, declared: Mapping[str, Mapping[str, Any]], former: Mapping[str, Mapping[str, Any]], source: str) -> None:
        """Set what a file says; what ``former`` said and it says no more is gone, if nobody changed it since."""
        request = Request(0, 0, "set_limit", {}, None, source)
        for name in former.keys() - declared.keys():
            there = self._desk.store.limits().get(name)
            if there is not None and limit_of("set_limit", {"name": name, **former[name]}, {name: there}) == there:
                self._drop(there, request)
        for name, rule in declared.items():
            there = self._desk.store.limits().get(name)
            fresh = limit_of("set_limit", {"name": name, **rule}, {})
            if there is not None and there.adaptive == fresh.adaptive != "none":  # where it stands is not the file's to say
                level = min(max(level_of(there), fresh.low), fresh.high)
                fresh = at_level(fresh, level)
            if fresh != there:
                self._put(fresh, there, request)
        self._declared, self._declared_in = declared.keys(), source

    def _remove(self, request: Request, turn: Turn) -> dict[str, Any]:
        name, there = arguments(request.verb, request.args, "name", name=str)["name"], self._desk.store.limits()
        if name not in there:
            raise unknown("limit", there, name)
        self._drop(there[name], request)
        turn.later.append(self.learn)
        turn.stirred = True
        return self._again(name)

    def _limits(self, request: Request, turn: Turn) -> dict[str, Any]:
        """Each with how far it is used."""
        arguments(request.verb, request.args)
        rows = [
            {**dict(zip(Limit.__slots__, limit.row(), strict=True)), "used": [_used(one) for one in self._used(limit)]}
            for _, limit in sorted(self._desk.store.limits().items())
        ]
        return {"limits": rows, **({"file": self._declared_in} if self._declared else {})}

    def _used(self, limit: Limit) -> Sequence[Used]:
        if limit.each == "none":
            return self._desk.store.limited(limit, USED_TOLD)
        return sorted(self.each_worker.used(limit), key=lambda one: (not one.reached, one.of))[:USED_TOLD]


def reaching(desk: Desk) -> list[dict[str, Any]]:
    """The limits that hold back something now, as they travel to clients."""
    rows = []
    for limit, found in desk.store.reaching(USED_TOLD):
        used = [one for one in found if not 0 < one.opens_at <= desk.now]
        if used:
            until = 0 if any(not one.opens_at for one in used) else min(one.opens_at for one in used)
            rows.append({"name": limit.name, "scope": limit.scope, "of": [one.of for one in used], "opens_at": until})
    return rows


def _used(used: Used) -> dict[str, Any]:
    """How far a limit is used, as it travels to clients."""
    return {**used._asdict(), "tokens": None if used.tokens == inf else int(used.tokens)}


def limit_of(verb: str, given: dict[str, Any], there: Mapping[str, Limit]) -> Limit:
    """The limit that a request means; UsageError says what it lacks."""
    args = arguments(verb, given, "name", name=str, **dict.fromkeys(_WORDS, str), **dict.fromkeys(_NUMBERS, int))
    name = args["name"]
    if not is_pattern(name):
        raise UsageError(f"{verb}: name: expected a name of 1 to 200 printable bytes without spaces, got {brief(name)}.")
    for key, (low, high) in _NUMBERS.items():
        if key in args:
            between(args[key], low, high, key)
    old = there.get(name)
    if not args.keys() & {"scope", "of", "each"} and old is not None:
        args |= {"scope": old.scope, "of": old.of, "each": old.each}
    elif not args.keys() & {"scope", "of"} and old is not None:
        args |= {"scope": old.scope, "of": old.of}
    scope, of = args.get("scope"), args.get("of")
    if scope not in SCOPES:
        raise UsageError(f"{verb}: scope: expected one of {', '.join(SCOPES)} for a new limit, got {brief(scope)}.")
    if of is None and scope in ("queue", "type"):
        raise UsageError(f"{verb}: of: expected the name of a {scope}, got none. Only tenants and flow keys can be meant each by itself.")
    each = args.get("each", "none")
    if each not in ("none", "worker") or (each == "worker" and scope not in ("queue", "type")):
        raise UsageError(f"{verb}: each: expected none, or worker with a queue or a type, got {brief(each)} with a {scope}.")
    limit = replace(_ruled(verb, args, old or Limit(name, scope)), scope=scope, of=of, each=each)
    if limit.adaptive != "none" and each != "none":
        raise UsageError(f"{verb}: adaptive: expected a limit that counts all workers together, got one of each.")
    if limit.adaptive != "none" and of is None:
        raise UsageError(f"{verb}: adaptive: expected a limit of one {scope}, got one that counts each by itself.")
    return limit


def _ruled(verb: str, args: Mapping[str, Any], old: Limit) -> Limit:
    """``old``, with the numbers of a request."""
    follows = adapting(verb, args, old)
    rate, running = (follows.get(key, args.get(key, getattr(old, key))) for key in ("rate", "running"))
    per_ms = args.get("per_ms", 1000 if "rate" in args else old.per_ms)
    window = args.get("window", old.window)
    if window not in WINDOWS:
        raise UsageError(f"{verb}: window: expected one of {', '.join(WINDOWS)}, got {brief(window)}.")
    if window != "none" and "burst" in args:
        raise UsageError(f"{verb}: burst: expected none beside a window, which may be used up at once, got {args['burst']}.")
    if args.get("window", "none") != "none" and not rate:
        raise UsageError(f"{verb}: window: expected a rate for it, above 0, got none.")
    if not rate and not running:
        raise UsageError(f"{verb}: expected a rate, or how many may be running, above 0, got neither. `tq limit remove` takes one away.")
    other = "rate" in args or (rate, per_ms, window) != (old.rate, old.per_ms, old.window)
    burst = args.get("burst", usual_burst(rate, per_ms) if other else old.burst)
    adaptive = follows.pop("adaptive", "none")
    fields: dict[str, Any] = {**follows, "rate": rate, "running": running, "per_ms": per_ms, "burst": burst, "adaptive": adaptive}
    return replace(old, **fields, window=window if rate else "none")

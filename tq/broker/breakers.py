"""Breakers: services that handlers call and types of tasks that are left alone for a while because they fail.

For: ``breakers set_breaker remove_breaker reset_breaker trip_breaker enter_breaker report_breaker``; which types may be claimed.
Not for: when a breaker opens and closes (``tq.breakers``), how a handler asks (client.guard).
Runs in: the daemon, inside the broker's turn.
Promises: a breaker that opened is open after a restart, and one that a person has set has its rule; of one that is closed what was counted
is in memory alone; each opening, half opening and closing is an event. Whoever has no breaker pays one look at None for each batch of ends.

What a turn changes is beside what there is until its commit: a turn that is done again begins anew.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple

from tq.answers import outcome_of
from tq.arguments import arguments, between, unknown
from tq.breakers import CLOSED, HALF_OPEN, OPEN, Breaker, Rule
from tq.broker.desk import BAD_ENDS, Desk, Turn, Verb
from tq.errors import UsageError
from tq.model import MAX_DURATION_MS, brief, is_resource, safe_text
from tq.store import Claimed, Want
from tq.waiting import Request

KIND = "breaker"
MOST = 1000
"""So many services and types; more names would be a mistake, as those of users are."""
LOST_MS = 60_000
"""After which nobody expects to hear of a probe any more."""
SPREAD = 0.1
"""Whoever is turned away is to wait longer by up to this part of the time, so that not all come back at once."""
TEXT_MOST = 200
OF_TYPE = "type:"
"""Before the name of a type, which no service's can have: there may be no colon in it."""


class One(NamedTuple):
    """A breaker, and whether a person has set its rule."""

    breaker: Breaker
    fixed: bool = False


class Breakers:
    def __init__(self, desk: Desk, note: Callable[..., None]) -> None:
        self._desk = desk
        self._note_later = note  # with the next turn
        self._all: dict[str, One] = {}
        self._staged: dict[str, One | None] = {}
        self._turn: Turn | None = None  # whose what is staged is
        self._declared: dict[str, str] = {}
        for name, (fixed, *row) in desk.store.standings(KIND).items():
            self._all[name] = One(Breaker.recorded(row), fixed)
        self.reads: dict[str, Verb] = {"breakers": self._breakers}
        self.writes: dict[str, Verb] = {
            "enter_breaker": self._enter, "report_breaker": self._report, "set_breaker": self._set, "remove_breaker": self._remove,
            "reset_breaker": self._reset, "trip_breaker": self._trip,
        }  # fmt: skip
        self.learn()

    def learn(self) -> None:
        """Take over what types declare; between turns."""
        self._declared = {info.name: info.breaker for info in self._desk.store.types().values() if info.breaker}
        for name, one in list(self._all.items()):
            if name.startswith(OF_TYPE) and not one.fixed:
                declared = self._declared.get(name.removeprefix(OF_TYPE))
                if declared is None:
                    del self._all[name]
                else:
                    self._all[name] = One(one.breaker.ruled(Rule.of(declared)))
        for name, text in self._declared.items():
            self._all.setdefault(OF_TYPE + name, One(Breaker(Rule.of(text))))
        self._follow()

    def _follow(self) -> None:
        """Have ends looked at and claims gated, if there is reason to; after a commit."""
        of_types = [one.breaker for name, one in self._all.items() if name.startswith(OF_TYPE)]
        if of_types:
            self._desk.ends_seen["breakers"] = self._ends
        else:
            self._desk.ends_seen.pop("breakers", None)
        self._desk.gate = self._gate if any(one.state != CLOSED for one in of_types) else None

    # -- what there is, and in this turn -----------------------------------------------------------------------------

    def _get(self, name: str, turn: Turn) -> One | None:
        if self._turn is turn and name in self._staged:
            return self._staged[name]
        return self._all.get(name)

    def _put(self, name: str, one: One | None, turn: Turn, request: Request | None = None) -> None:
        """Have it so once the turn is committed; what must survive is stored, and what people hear of is an event."""
        if self._turn is not turn:
            self._turn, self._staged = turn, {}
        if not self._staged:
            turn.later.append(partial(self._keep, turn))
        was = self._get(name, turn)
        self._staged[name] = one
        if one is not None and one.breaker.state != CLOSED and name.startswith(OF_TYPE):
            self._desk.gate = self._gate  # the claims of this turn come after its ends
        before, after = was.breaker.state if was else CLOSED, one.breaker.state if one else CLOSED
        if one is not None and (before != after or (was is not None and was.breaker.epoch != one.breaker.epoch)):
            turn.stirred = True
            more = {"state": after, "why": one.breaker.why} if after != HALF_OPEN else {"state": after}
            who = (request.who if request is not None else None) or "tq"
            what = "breaker_opened" if after == OPEN else "breaker_half_open" if after == HALF_OPEN else "breaker_closed"
            turn.later.append(partial(self._note_later, what, words_for(name), {"state": before}, more, who))
            turn.busy = True  # the event is stored with the next turn
            if after != HALF_OPEN:
                self._store(name, one)

    def _store(self, name: str, one: One | None) -> None:
        stands = one is not None and (one.fixed or one.breaker.state != CLOSED)
        row = [one.fixed, *one.breaker.record()] if one is not None and stands else None
        if row is not None or name in self._desk.store.standings(KIND):
            self._desk.store.put_standing(KIND, name, row)

    def _keep(self, turn: Turn) -> None:
        if self._turn is not turn:
            return
        for name, one in self._staged.items():
            if one is None:
                self._all.pop(name, None)
            else:
                self._all[name] = one
        self._turn, self._staged = None, {}
        self._follow()

    def _named(self, verb: str, args: Mapping[str, Any]) -> str:
        """Which breaker is meant."""
        name, kind = args.get("name"), args.get("type")
        if (name is None) == (kind is None):
            raise UsageError(f"{verb}: expected the name of a service or a type, one of them, got {'both' if name else 'neither'}.")
        if kind is not None:
            return OF_TYPE + str(kind)
        if not is_resource(name):
            raise UsageError(f"{verb}: name: expected 1 to 200 printable bytes without spaces and colons, got {brief(name)}.")
        return str(name)

    def _there(self, verb: str, args: Mapping[str, Any], turn: Turn) -> tuple[str, One]:
        name = self._named(verb, args)
        one = self._get(name, turn)
        if one is None:
            raise unknown("breaker", self._all, name)
        return name, One(one.breaker.looked(self._desk.now), one.fixed)

    # -- the verbs -----------------------------------------------------------------------------------------------------

    def _breakers(self, request: Request, turn: Turn) -> dict[str, Any]:
        args = arguments(request.verb, request.args, name=str, type=str)
        names = [self._there(request.verb, args, turn)[0]] if args else sorted(self._all)
        rows = []
        for name in names:
            found = self._get(name, turn)
            if found is not None:
                rows.append(self._row(name, found))
        return {"breakers": rows}

    def _row(self, name: str, one: One) -> dict[str, Any]:
        breaker, kind = one.breaker.looked(self._desk.now), name.removeprefix(OF_TYPE) if name.startswith(OF_TYPE) else ""
        calls, failed = breaker.lately()
        return {
            "name": "" if kind else name, "type": kind, "rule": str(breaker.rule), "fixed": one.fixed, "declared": self._declared.get(kind),
            "state": breaker.state, "since": breaker.since, "until": breaker.until if breaker.state == OPEN else 0, "level": breaker.level,
            "why": breaker.why, "row": breaker.row, "calls": calls, "failed": failed, "probes": len(breaker.passes), "won": breaker.won,
        }  # fmt: skip

    def _set(self, request: Request, turn: Turn) -> dict[str, Any]:
        args = arguments(request.verb, request.args, "rule", name=str, type=str, rule=str)
        name, rule = self._named(request.verb, args), rule_of(request.verb, args["rule"])
        was = self._get(name, turn)
        self._room(name, was, request.verb)
        breaker = (was.breaker if was else Breaker()).looked(self._desk.now).ruled(rule)
        one = One(breaker, True)
        before = {"rule": str(was.breaker.rule)} if was else None
        self._desk.note(request, "breaker_set", words_for(name), before, {"rule": str(rule)})
        self._put(name, one, turn, request)
        self._store(name, one)
        return {"new": was is None}

    def _room(self, name: str, there: One | None, verb: str) -> None:
        if there is None and len(self._all) + len(self._staged) >= MOST:
            raise UsageError(f"{verb}: expected at most {MOST} breakers, got another, {brief(name)}. Remove one: `tq breaker remove`.")

    def _remove(self, request: Request, turn: Turn) -> dict[str, Any]:
        args = arguments(request.verb, request.args, name=str, type=str)
        name, one = self._there(request.verb, args, turn)
        declared = self._declared.get(name.removeprefix(OF_TYPE)) if name.startswith(OF_TYPE) else None
        self._desk.note(request, "breaker_removed", words_for(name), {"rule": str(one.breaker.rule)}, {"rule": declared})
        left = One(Breaker(Rule.of(declared))) if declared else None
        self._put(name, left, turn, request)
        self._store(name, left)
        turn.stirred = True
        return {}

    def _reset(self, request: Request, turn: Turn) -> dict[str, Any]:
        args = arguments(request.verb, request.args, name=str, type=str)
        name, (breaker, fixed) = self._there(request.verb, args, turn)
        one = One(breaker.closed(self._desk.now, "reset"), fixed)
        self._put(name, one, turn, request)
        self._store(name, one)
        return {}

    def _trip(self, request: Request, turn: Turn) -> dict[str, Any]:
        args = arguments(request.verb, request.args, name=str, type=str, for_ms=int)
        name = self._named(request.verb, args)
        now, found = self._desk.now, self._get(name, turn)
        self._room(name, found, request.verb)
        until = now + between(args["for_ms"], 1, MAX_DURATION_MS, "trip_breaker: for_ms") if "for_ms" in args else 0
        breaker, fixed = found or One(Breaker())
        one = One(replace(breaker.opened(now, "tripped", until), level=breaker.level), fixed)
        self._put(name, one, turn, request)
        self._store(name, one)
        return {}

    def _enter(self, request: Request, turn: Turn) -> dict[str, Any]:
        """Nothing is stored: what a crash would lose is a place for a probe."""
        args = arguments(request.verb, request.args, "name", name=str, rule=str, epoch=int, good=int)
        name, now = self._named(request.verb, args), self._desk.now
        found = self._get(name, turn)
        self._room(name, found, request.verb)
        breaker, fixed = found or One(Breaker())
        if "rule" in args and not fixed:
            breaker = breaker.ruled(rule_of(request.verb, args["rule"]))
        if good := between(args.get("good", 0), 0, MAX_DURATION_MS, "enter_breaker: good"):
            breaker = breaker.heard(now, good, 0, epoch=args.get("epoch", 0))
        breaker, permit = breaker.enter(now, LOST_MS)
        self._put(name, One(breaker, fixed), turn)
        return {
            "go": permit.go, "state": breaker.state, "epoch": breaker.epoch, "pass": permit.number,
            "wait_ms": permit.wait_ms + int(permit.wait_ms * SPREAD * self._desk.chance()), "why": "" if permit.go else breaker.why,
        }  # fmt: skip

    def _report(self, request: Request, turn: Turn) -> dict[str, Any]:
        kinds = {"name": str, "epoch": int, "good": int, "bad": int, "pass": int, "text": str}
        args = arguments(request.verb, request.args, "name", "epoch", **kinds)
        name = self._named(request.verb, args)
        good, bad = (between(args.get(key, 0), 0, MAX_DURATION_MS, f"report_breaker: {key}") for key in ("good", "bad"))
        found = self._get(name, turn)
        if found is None:  # removed, or the daemon was started meanwhile: of what was closed then nothing is known
            return {"state": CLOSED, "epoch": 0}
        why = safe_text(args.get("text", "")[:TEXT_MOST])
        breaker = found.breaker.heard(self._desk.now, good, bad, epoch=args["epoch"], number=args.get("pass", 0), why=why)
        self._put(name, One(breaker, found.fixed), turn)
        return {"state": breaker.state, "epoch": breaker.epoch}

    # -- types ---------------------------------------------------------------------------------------------------------

    def _ends(self, rows: Sequence[Sequence[Any]], turn: Turn) -> None:
        """Before these rows are settled: what they say of the types of their tasks."""
        now = self._desk.now
        for row, run in zip(rows, self._desk.store.running([row[0] for row in rows]), strict=True):
            if run is None or run.claim != row[1]:
                continue
            name = OF_TYPE + run.header.type
            one = self._get(name, turn)
            if one is None:
                continue
            good, bad = int(row[2] in (0, "succeeded")), int(row[2] in BAD_ENDS)
            breaker = one.breaker.looked(now)
            probe = row[0] if breaker.state == HALF_OPEN else 0
            after = breaker.heard(now, good, bad, number=probe, why=_error_of(row) if bad else "")
            if after is not one.breaker:
                self._put(name, One(after, one.fixed), turn)

    def _gate(self, want: Want, turn: Turn) -> list[Claimed]:
        """Claim: of a type that is half open as many as it has places for probes, of one that is open none, of all others as ever."""
        store, types = self._desk.store, want.types
        if types is None:
            types = frozenset(tally.type for tally in store.tallies())
        rest, got = set(types), list[Claimed]()
        for kind in sorted(types):
            one = self._get(OF_TYPE + kind, turn)
            if one is None or one.breaker.looked(self._desk.now).state == CLOSED:
                continue
            rest.discard(kind)
            breaker = self._without_lost(one.breaker)
            limit = min(want.limit - len(got), breaker.places) if breaker.state == HALF_OPEN else 0
            found = store.claim(_part(want, {kind}, limit, got)) if limit > 0 else []
            for task in found:
                breaker, _ = breaker.enter(self._desk.now, number=task.id)
            if breaker is not one.breaker:
                self._put(OF_TYPE + kind, One(breaker, one.fixed), turn)
            got += found
        if rest and len(got) < want.limit:
            got += store.claim(_part(want, rest, want.limit - len(got), got))
        return got

    def _without_lost(self, breaker: Breaker) -> Breaker:
        """As it is now, without probes that run no more and of which nothing was heard: a lease that lapsed, say."""
        now = self._desk.now
        breaker = breaker.looked(now)
        ids = [number for number, _ in breaker.passes]
        for task_id, run in zip(ids, self._desk.store.running(ids), strict=True):
            if run is None:
                breaker = breaker.heard(now, 0, 0, number=task_id)
        return breaker

    def places(self, kind: str) -> int | None:
        """How many tasks of a type may begin now; None: any number."""
        one = self._all.get(OF_TYPE + kind)
        if one is None or (state := one.breaker.looked(self._desk.now)).state == CLOSED:
            return None
        return state.places if state.state == HALF_OPEN else 0

    def of_type(self, kind: str) -> dict[str, Any] | None:
        """The breaker of a type as clients see it; None: it has none, or it is closed."""
        one = self._all.get(OF_TYPE + kind)
        row = self._row(OF_TYPE + kind, one) if one is not None else None
        return row if row is not None and row["state"] != CLOSED else None

    def look(self) -> bool:
        """Whether cool-downs of types have ended since the last look; between turns."""
        due = self.next_due
        return due is not None and due <= self._desk.now

    def wake(self, turn: Turn) -> None:
        """In a turn: types whose cool-down is over are half open."""
        now = self._desk.now
        for name in [name for name in self._all if name.startswith(OF_TYPE)]:
            one = self._get(name, turn)
            if one is not None and (after := one.breaker.looked(now)).state != one.breaker.state:
                self._put(name, One(after, one.fixed), turn)

    @property
    def next_due(self) -> int | None:
        """When the first type's cool-down is over (ms); None: none is open, or by hand alone."""
        if self._desk.gate is None:
            return None
        ends = (one.breaker.until for name, one in self._all.items() if name.startswith(OF_TYPE) and one.breaker.state == OPEN)
        return min((until for until in ends if until), default=None)

    def stepped(self, ms: int) -> None:
        """The clock was put forward or back: what is open stays so for as long as it would have."""
        for name, one in self._all.items():
            if one.breaker.state == OPEN and one.breaker.until:
                self._all[name] = One(replace(one.breaker, until=one.breaker.until + ms), one.fixed)

    @property
    def shut(self) -> Iterator[dict[str, Any]]:
        """Those that are not closed."""
        for name, one in self._all.items():
            row = self._row(name, one)
            if row["state"] != CLOSED:
                yield row


def _part(want: Want, types: set[str], limit: int, before: Sequence[Claimed]) -> Want:
    """The part of a claim that is about these types, when it was given some already."""
    begins = None if want.at_once is None else max(want.at_once - len(before), 0)
    return replace(want, types=frozenset(types), limit=limit, at_once=begins)


def words_for(name: str) -> str:
    """A breaker as the target of an event."""
    return f"type {name.removeprefix(OF_TYPE)}" if name.startswith(OF_TYPE) else f"service {name}"


def rule_of(verb: str, text: str) -> Rule:
    try:
        return Rule.of(text)
    except ValueError as error:
        raise UsageError(f"{verb}: rule: {error}. `python -m pydoc tq.breakers` has all the words.") from None


def _error_of(row: Sequence[Any]) -> str:
    """What went wrong, in short, of a worker's or a consumer's row."""
    error = outcome_of(row).error or {}
    return safe_text(f"{error.get('type') or row[2]}: {error.get('message') or ''}"[:TEXT_MOST])

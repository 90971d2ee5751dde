"""Filters: help for who writes one: what may stand where, and which part of it leaves nothing over.

For: ``complete explain``.
Not for: the language (query), finding tasks (lists, views).
Runs in: the daemon, inside the broker's turn; tasks are looked at in slices behind its commit.
Promises: what tallies know is answered at once; else the newest SEEN_MOST tasks are looked at for values, and for counts as many as
EXPLAIN_S allows: a count that is not known by then is nil.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from tq.arguments import arguments, between
from tq.broker.desk import Desk, Turn, Verb
from tq.errors import UsageError
from tq.model import STATES, State, Task
from tq.query import MAX_TEXT, Filter, parse
from tq.query.completing import Choice, Place, fields_at, fixed_values, place_of, values_at
from tq.query.terms import field_of, leaves_of, text_of
from tq.store import Query
from tq.views import count_of
from tq.waiting import Request

SEEN_MOST = 1000
CHOICES_MOST = 50
EXPLAIN_S = 1.0
LOOK_EACH = 64
"""Tasks between two looks at the clock."""
_SEEN = ("label", "tenant", "flow", "order", "correlation", "key", "unique", "error", "exit")
"""Fields whose values stand nowhere but in the tasks; so do those of ``meta``."""
_FAILED = frozenset({State.FAILED, State.RETRYING})


class Filters:
    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self.reads: dict[str, Verb] = {"complete": self._complete, "explain": self._explain}

    # -- what may stand where --------------------------------------------------------------------------------------

    def _complete(self, request: Request, turn: Turn) -> dict[str, Any] | None:
        args = arguments(request.verb, request.args, text=str, at=int)
        text = args.get("text", "")
        if len(text) > MAX_TEXT:
            raise UsageError(f"complete: text: expected at most {MAX_TEXT} characters, got {len(text)}.")
        place = place_of(text, between(args.get("at", len(text)), 0, len(text), "at"))
        if not place.field:
            if "meta.".startswith(place.typed.lower()[:5]) and place.typed:
                self._look(request, turn, _Seen(_keys_of, lambda found: _body(place, fields_at(place, (key for key, _ in found)))))
                return None
            return _body(place, fields_at(place))
        if place.field in _SEEN or place.field.startswith("meta."):
            states = _FAILED if place.field == "error" else None
            self._look(request, turn, _Seen(_value_of(place.field), lambda found: _body(place, values_at(place, found))), states)
            return None
        return _body(place, values_at(place, self._known(place)) if place.field != "?" else [])

    def _known(self, place: Place) -> Iterable[Choice]:
        """The values of a field that are known without looking at tasks, those that most have first."""
        desk, counts = self._desk, Counter[str]()
        if place.field == "state":
            counts.update(dict.fromkeys(STATES, 0))
            for tally in desk.store.tallies():
                counts.update(dict(zip(STATES, tally.states, strict=True)))
            return [(word, _told(counts[word])) for word in STATES]
        if place.field in ("queue", "type"):
            counts.update(dict.fromkeys(desk.store.queues() if place.field == "queue" else desk.store.types(), 0))
            for tally in desk.store.tallies():
                counts[getattr(tally, place.field)] += sum(tally.states)
        elif place.field == "worker":
            counts.update(held.worker for held in desk.store.held())
        else:
            return fixed_values(place)
        return [(name, _told(count)) for name, count in counts.most_common()]

    def _look(self, request: Request, turn: Turn, seen: _Seen, states: frozenset[State] | None = None) -> None:
        """Gather from the newest tasks what ``seen`` makes of them."""
        desk = self._desk
        desk.lists.check()
        turn.later.append(lambda: desk.lists.add(request, desk.store.find(Query(states, limit=SEEN_MOST)), Filter(None), seen))

    # -- what each part matches ------------------------------------------------------------------------------------

    def _explain(self, request: Request, turn: Turn) -> dict[str, Any] | None:
        where = parse(arguments(request.verb, request.args, where=str).get("where", ""))
        desk, tallies = self._desk, self._desk.store.tallies()
        parts = {text_of(part): Filter(part) for part in ([] if where.root is None else leaves_of(where.root))}
        counts = {text: count_of(part, tallies) for text, part in parts.items()}
        if None not in counts.values():
            return {"terms": [[text, count] for text, count in counts.items()]}
        desk.lists.check()
        alone = _Alone(parts, counts, desk.clock, desk.now)
        turn.later.append(lambda: desk.lists.add(request, desk.store.find(Query(limit=1 << 62)), Filter(None), alone))
        return None


def _body(place: Place, choices: Sequence[Choice]) -> dict[str, Any]:
    return {"start": place.start, "end": place.end, "choices": [list(one) for one in choices[:CHOICES_MOST]]}


def _told(count: int) -> str:
    return f"{count:,}" if count else ""


def _keys_of(task: Task) -> Iterable[str]:
    return tuple(task.spec.header.meta or ())


def _value_of(name: str) -> Callable[[Task], Iterable[str]]:
    """What a task has in this field, as a value of a filter."""
    get = field_of(name).get

    def values(task: Task) -> Iterable[str]:
        value = get(task, 0)
        if value is None:
            return ()
        return (str(value).partition(":")[0] if name == "error" else str(value),)

    return values


class _Seen:
    """The values that tasks have, with how many of them have each; ``body`` makes the answer of them."""

    def __init__(self, values: Callable[[Task], Iterable[str]], body: Callable[[list[Choice]], dict[str, Any]]) -> None:
        self._values, self._body = values, body
        self._counts: Counter[str] = Counter()

    def take(self, task: Task, cursor: bytes) -> bool:
        self._counts.update(self._values(task))
        return False

    def body(self) -> dict[str, Any]:
        return self._body([(text, _told(count)) for text, count in self._counts.most_common() if text])


class _Alone:
    """How many tasks each part matches, of those whose ``counts`` are None; they stay so if there is not time to look at all tasks."""

    def __init__(self, parts: dict[str, Filter], counts: dict[str, int | None], clock: Callable[[], float], now: int) -> None:
        self._counts, self._clock, self._now = counts, clock, now
        self._found = {text: 0 for text, count in counts.items() if count is None}
        self._tests = [(text, parts[text].matches) for text in self._found]
        self._until: float | None = None
        self._seen = 0
        self._all = True

    def take(self, task: Task, cursor: bytes) -> bool:
        self._until = self._until or self._clock() + EXPLAIN_S
        for text, matches in self._tests:
            self._found[text] += matches(task, self._now)
        self._seen += 1
        self._all = self._seen % LOOK_EACH != 0 or self._clock() < self._until
        return not self._all

    def body(self) -> dict[str, Any]:
        found = self._found if self._all else {}
        return {"terms": [[text, found.get(text, count)] for text, count in self._counts.items()]}

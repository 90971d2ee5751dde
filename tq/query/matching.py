"""What a filter's tree means: as a function of a task, and as what an index may use.

For: ``tq.query.Filter``.
Not for: texts (reading, terms).
Runs in: the daemon, on the thread of its loop; wherever else a filter is tried.
Promises: ``test_of`` does its work once, what it gives only compares; what ``states_of``, ``names_of`` and ``ids_of``
leave out does not match.
"""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Callable, Sequence
from typing import Any

from tq.model import State, Task
from tq.query.terms import ANY, NONE, TEXTS, And, Node, Not, Or, Span, Term, Text, error_text, field_of

Test = Callable[[Task, int], bool]
"""Whether a task matches; the present in ms."""

LAST_ID = (1 << 63) - 1
_ALL = frozenset(State)
_FAR = 1 << 80


def test_of(node: Node | None) -> Test:
    """The function that says whether a task matches."""
    if node is None:
        return lambda _task, _now: True
    if isinstance(node, Term):
        return _word(node.values[0]) if not node.field else _term(node)
    if isinstance(node, Not):
        inner = test_of(node.part)
        return lambda task, now: not inner(task, now)
    tests = tuple(test_of(part) for part in node.parts)
    return _all(tests) if isinstance(node, And) else _any(tests)


def _all(tests: Sequence[Test]) -> Test:
    def test(task: Task, now: int) -> bool:
        for one in tests:  # noqa: SIM110 - a generator costs three times the loop
            if not one(task, now):
                return False
        return True

    return test


def _any(tests: Sequence[Test]) -> Test:
    def test(task: Task, now: int) -> bool:
        for one in tests:  # noqa: SIM110 - as above
            if one(task, now):
                return True
        return False

    return test


# terms


def _term(term: Term) -> Test:
    about = field_of(term.field)
    get = about.get
    spans = [value for value in term.values if isinstance(value, Span)]
    texts = [value for value in term.values if isinstance(value, Text)]
    if term.field == "parent":
        return _parents(_numbers(term.sign, spans, [text for text in texts if text != NONE]), NONE in texts)
    if about.kind not in TEXTS:
        check = _numbers(term.sign, spans, texts)
        return lambda task, now: check(get(task, now), now)
    if about.kind == "found":
        search = _search(texts)
        return lambda task, now: search(get(task, now))
    exact = frozenset(one for text in texts if not text.pattern for one in ((text.text,) if text.text else ("", None)))
    patterns = [_pattern(text.text) for text in texts if text.pattern]
    if not patterns:
        return lambda task, now: get(task, now) in exact

    def test(task: Task, now: int) -> bool:
        value = get(task, now)
        if value in exact:
            return True
        if value is not None:
            for match in patterns:
                if match(value):
                    return True
        return False

    return test


def _pattern(text: str) -> Callable[[str], Any]:
    return re.compile(fnmatch.translate(text)).match


def _search(texts: Sequence[Text]) -> Callable[[str | None], bool]:
    """Whether one of these is in a text, in large or small letters; patterns must fit all of it."""
    parts = [text.text.lower() for text in texts if not text.pattern and text.text]
    patterns = [_pattern(text.text.lower()) for text in texts if text.pattern]
    none = NONE in texts

    def search(value: str | None) -> bool:
        if value is None:
            return none
        value = value.lower()
        for part in parts:
            if part in value:
                return True
        for match in patterns:  # noqa: SIM110 - as above
            if match(value):
                return True
        return False

    return search


def _word(value: Text | Span) -> Test:
    """A bare word: an id, or a part of the type, the label or the last error."""
    text = value.text if isinstance(value, Text) else ""
    search = _search([value]) if isinstance(value, Text) else _search([])
    number = int(text) if text.isascii() and text.isdigit() and len(text) < 20 else 0
    by_id = isinstance(value, Text) and value.pattern

    def test(task: Task, now: int) -> bool:
        spec = task.spec
        head = spec.header
        return (
            spec.id == number
            or search(head.type)
            or (head.label is not None and search(head.label))
            or (task.status.error is not None and search(error_text(task, now)))
            or (by_id and search(str(spec.id)))
        )

    return test


_Check = Callable[[Any, int], bool]
"""Whether a number, or None, is among the values; the present in ms."""


def _numbers(sign: str, spans: Sequence[Span], texts: Sequence[Text]) -> _Check:
    exact: set[int | None] = {span.low for span in spans if sign == ":" and span.low == span.high and not (span.low_now or span.high_now)}
    bounds = [_bounds(sign, span) for span in spans if sign != ":" or span.low != span.high or span.low_now or span.high_now]
    bounds += [(-_FAR, 0, _FAR, 0)] * (ANY in texts)
    if NONE in texts:
        exact.add(None)
    if not bounds:
        among = frozenset(exact)
        return lambda value, _: value in among
    if len(bounds) == 1 and not exact:
        low, low_now, high, high_now = bounds[0]
        if not (low_now or high_now):
            return lambda value, _: value is not None and low <= value <= high
        return lambda value, now: value is not None and low + now * low_now <= value <= high + now * high_now

    def check(value: int | None, now: int) -> bool:
        if value in exact:
            return True
        return value is not None and any(low + now * from_now <= value <= high + now * to_now for low, from_now, high, to_now in bounds)

    return check


def _bounds(sign: str, span: Span) -> tuple[int, int, int, int]:
    """Smallest and greatest value, both included, each with whether it counts from the present."""
    if sign == ":":
        return span.low, span.low_now, span.high, span.high_now
    if sign in (">", ">="):
        return span.low + (sign == ">"), span.low_now, _FAR, 0
    return -_FAR, 0, span.high - (sign == "<"), span.high_now


def _parents(check: _Check, none: bool) -> Test:
    def test(task: Task, now: int) -> bool:
        parents = task.spec.header.parents
        return any(check(one, now) for one in parents) if parents else none

    return test


# what an index may use


def states_of(node: Node | None) -> tuple[frozenset[State], frozenset[State]]:
    """The states that may match, and those of which every task does."""
    if isinstance(node, Term) and node.field == "state" and all(isinstance(value, Span) for value in node.values):
        named = frozenset(State(value.low) for value in node.values if isinstance(value, Span))
        return named, named
    if isinstance(node, Not):
        may, must = states_of(node.part)
        return _ALL - must, _ALL - may
    if isinstance(node, And | Or):
        both = [states_of(part) for part in node.parts]
        if isinstance(node, And):
            return _ALL.intersection(*(may for may, _ in both)), _ALL.intersection(*(must for _, must in both))
        return frozenset().union(*(may for may, _ in both)), frozenset().union(*(must for _, must in both))
    return _ALL, _ALL if node is None else frozenset()


def names_of(node: Node | None, field: str) -> frozenset[str] | None:
    """The texts that a field of a task that matches may have; None: any."""
    if isinstance(node, Term) and node.field == field:
        texts = [value for value in node.values if isinstance(value, Text)]
        return None if any(text.pattern for text in texts) else frozenset(text.text for text in texts)
    if isinstance(node, And | Or):
        found = [names_of(part, field) for part in node.parts]
        some = [names for names in found if names is not None]
        if isinstance(node, And):
            return frozenset.intersection(*some) if some else None
        return frozenset.union(*some) if len(some) == len(found) else None
    return None


def ids_of(node: Node | None) -> tuple[int, int]:
    """The smallest and the greatest id that may match; the first above the second: none does."""
    if isinstance(node, Term) and node.field == "id" and all(isinstance(value, Span) for value in node.values):
        bounds = [_bounds(node.sign, value) for value in node.values if isinstance(value, Span)]
        return max(min(low for low, *_ in bounds), 0), min(max(high for _, _, high, _ in bounds), LAST_ID)
    if isinstance(node, And | Or):
        found = [ids_of(part) for part in node.parts]
        if isinstance(node, And):
            return max(low for low, _ in found), min(high for _, high in found)
        some = [one for one in found if one[0] <= one[1]]
        return (min(low for low, _ in some), max(high for _, high in some)) if some else found[0]
    return 0, LAST_ID

"""Filters: which tasks, in one line of text: ``state:failed queue:mail age>1h -type:report.*``.

For: every command and verb that acts on or shows the tasks that match.
Not for: finding them (stores, lists, chores), the order (``tq.query.orders``) or the columns of a list, reading payloads and results.
Runs in: the daemon, on the thread of its loop, for a million tasks in slices; the ``tq`` command and the monitor.
Promises: pure: the present and the zone are arguments; a text is a filter or a UsageError with the column, what was
expected and what came; ``str`` of a filter is a text that means the same anywhere, its instants in UTC; what a filter
says of states, names and ids holds for every task that matches, so that an index may be used; all work is in ``parse``,
``matches`` only compares.

THE LANGUAGE

    filter   [or]
    or       and {"OR" and}                         and binds tighter; "AND" need not be written
    and      not {["AND"] not}
    not      ["NOT" | "-"] ("(" or ")" | term)
    term     field ":" value {"," value}            one of the values; ``=`` is the same, ``!=`` none of them
             | field (">" | ">=" | "<" | "<=") value
             | word                                 an id, or a part of the type, the label or the last error
    value    bare | "quoted" | 'quoted' | value ".." value

- Between field, sign and value there is no space. Quoted text is taken as it is; ``\\`` stands before a quote or itself.
- Texts may be patterns: ``*`` any characters, ``?`` one, ``[ab]`` one of these (not in quotes). Errors and bare words are
  found anywhere, in large or small letters, unless they are patterns, which must fit from the first letter to the last.
- ``field:*`` is any value, ``field:""`` none: ``-label:*`` has no label, ``started:*`` has begun once.
- States may be shortened (``fail``), priorities named (``high``), sizes in bytes or ``64k``, ``2m``.
- Durations are ``30s``, ``1h30m``; ``age:1h..2d`` lies between. Instants are as in ``tq.instants`` (in quotes if there are
  spaces) or ``-1h`` (an hour ago), ``+1h``: ``created>-1h``, ``finished:2026-11-20..2026-11-21`` (both days whole).
- An absent value is neither greater nor smaller than anything.

FIELDS    id  parent (of the tasks it waits for)  state  queue  type (name)  priority (prio)  label  tenant  worker  flow
          batch (its number)  correlation  key  unique  meta.K (also ``tag:K=V``)  error (``Type: message``)  exit (its code)
          attempt (try, tries)  failures  crashes  interrupts  size (bytes of the payload)
          created (enqueued)  due  started  finished (done)  expires                       instants
          age (since created)  wait (ready until it started)  run (its last attempt)       durations
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import tzinfo

from tq.errors import UsageError
from tq.model import State, duration_ms, state_named
from tq.query.matching import LAST_ID, Test, ids_of, names_of, states_of, test_of
from tq.query.reading import MAX_DEPTH, MAX_TEXT, Reader, joined
from tq.query.terms import OF_HEADERS, Node, Span, Term, Text, depth_of, fields_of, terms_of, text_of

MAX_TERMS = 128

__all__ = ["MAX_DEPTH", "MAX_TERMS", "MAX_TEXT", "Filter", "from_options", "parse"]


@dataclass(frozen=True, slots=True)
class Filter:
    """Which tasks. ``root`` None: all. Of equal filters the texts are equal.

    What follows holds for every task that matches (None: nothing is known): ``states`` it may be in (none at all: no
    task matches), its ``queue``, its ``type``, and ``ids_range``, the smallest and the greatest id (the first above the
    second: no task matches). ``only_states``: every task in ``states`` matches; ``only_headers``: of a task
    only its state and its header have a say. ``fields`` are the names of what it looks at, in
    them "" for a bare word.
    """

    root: Node | None
    matches: Test = field(init=False, repr=False, compare=False)
    """``matches(task, now)``: whether it is one of them; ``now`` in ms."""
    states: frozenset[State] | None = field(init=False, repr=False, compare=False)
    queue: str | None = field(init=False, repr=False, compare=False)
    type: str | None = field(init=False, repr=False, compare=False)
    ids_range: tuple[int, int] | None = field(init=False, repr=False, compare=False)
    only_states: bool = field(init=False, repr=False, compare=False)
    only_headers: bool = field(init=False, repr=False, compare=False)
    fields: frozenset[str] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        _check(self.root)
        (states, all_of), ids = states_of(self.root), ids_of(self.root)
        found = {"queue": names_of(self.root, "queue"), "type": names_of(self.root, "type")}
        object.__setattr__(self, "matches", test_of(self.root))
        object.__setattr__(self, "only_states", states == all_of)
        fields = frozenset() if self.root is None else fields_of(self.root)
        object.__setattr__(self, "fields", fields)
        object.__setattr__(self, "only_headers", all(one in OF_HEADERS or one == "state" or one.startswith("meta.") for one in fields))
        object.__setattr__(self, "states", None if len(states) == len(State) else states)
        object.__setattr__(self, "ids_range", None if ids == (0, LAST_ID) else ids)
        for name, names in found.items():
            object.__setattr__(self, name, next(iter(names)) if names is not None and len(names) == 1 else None)

    def __str__(self) -> str:
        return "" if self.root is None else text_of(self.root)


def parse(text: str, now: int | None = None, zone: tzinfo | None = None) -> Filter:
    """The filter of a text; an empty one is met by every task. UsageError has the ``column`` in its details.

    ``now`` in ms and the ``zone`` (None: this machine's) are for instants such as ``today`` and ``18:30``: without a
    present they are errors, and only dates, ``-1h`` and ``+1h`` are understood. The zone of a person is that of their
    process: send ``str`` of the filter, which is in UTC, to others.
    """
    if len(text) > MAX_TEXT:
        raise UsageError(
            f"filter: expected at most {MAX_TEXT} characters, got {len(text)}. Use patterns, or several filters.", column=MAX_TEXT + 1
        )
    return Filter(Reader(text, now, zone).read())


def from_options(
    *,
    states: Iterable[State | str] | None = None,
    queue: str | None = None,
    type: str | None = None,  # noqa: A002 - the option's name
    label: str | None = None,
    tenant: str | None = None,
    older_than: object = None,
    newer_than: object = None,
    text: str = "",
    now: int | None = None,
    zone: tzinfo | None = None,
) -> Filter:
    """The tasks that a command's options and its filter's ``text`` mean together; names are taken as they are, no patterns.

    ``older_than`` and ``newer_than`` are durations since they were created, in any form of ``tq.model.duration_ms``.
    UsageError names the option that is wrong.
    """
    parts: list[Node] = []
    if states is not None:
        try:
            named = [state if isinstance(state, State) else state_named(state) for state in states]
        except ValueError as error:
            raise UsageError(f"--state: {error}.") from None
        parts.append(Term("state", ":", tuple(Span(int(state), int(state)) for state in sorted({*named}))))
    for name, value in (("queue", queue), ("type", type), ("label", label), ("tenant", tenant)):
        if value is not None:
            parts.append(Term(name, ":", (Text(value),)))
    for option, sign, length in (("--older-than", ">", older_than), ("--newer-than", "<", newer_than)):
        if length is not None:
            try:
                ms = duration_ms(length)
            except ValueError as error:
                raise UsageError(f"{option}: {error}.") from None
            parts.append(Term("age", sign, (Span(ms, ms),)))
    root = parse(text, now, zone).root
    parts += [] if root is None else [root]
    return Filter(joined(parts) if parts else None)


def _check(root: Node | None) -> None:
    """UsageError if the filter is larger than its own text may be: it is stored and sent as that."""
    if root is None:
        return
    terms, depth, text = terms_of(root), depth_of(root), text_of(root)
    for count, most, what in ((terms, MAX_TERMS, "terms"), (depth, MAX_DEPTH, "brackets in brackets"), (len(text), MAX_TEXT, "characters")):
        if count > most:
            raise UsageError(
                f"filter: expected at most {most} {what} when written out in full, got {count}. Use patterns, or several filters."
            )
    try:
        text.encode()
    except UnicodeEncodeError:
        raise UsageError(f"filter: expected text in UTF-8, got {text!a:.80}.") from None

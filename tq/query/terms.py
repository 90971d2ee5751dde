"""What filters are made of: nodes, fields, and the one text that stands for them.

For: the rooms of ``tq.query``.
Not for: reading texts (reading), comparing (matching), the language's description (``tq.query``).
Runs in: every process that has a filter.
Promises: nodes are values: equal filters are equal trees; ``text_of`` gives a text that reads as the same tree.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from tq.model import SHELL, STATES, State, Task

# what a filter is made of


@dataclass(frozen=True, slots=True)
class Text:
    """A value of letters; a ``pattern`` was written without quotes. ``*`` alone is any value, an empty text none."""

    text: str
    pattern: bool = False


@dataclass(frozen=True, slots=True)
class Span:
    """A value of numbers, ``low`` to ``high``, both included; where ``_now`` is 1 the bound counts from the present."""

    low: int
    high: int
    low_now: int = 0
    high_now: int = 0


@dataclass(frozen=True, slots=True)
class Term:
    """``field`` is a name of FIELDS, ``meta.K``, or empty for a bare word; ``sign`` is ``: > >= <`` or ``<=``."""

    field: str
    sign: str
    values: tuple[Text | Span, ...]


@dataclass(frozen=True, slots=True)
class Not:
    part: Node


@dataclass(frozen=True, slots=True)
class And:
    parts: tuple[Node, ...]


@dataclass(frozen=True, slots=True)
class Or:
    parts: tuple[Node, ...]


Node = Term | Not | And | Or
ANY, NONE = Text("*", pattern=True), Text("")
"""The values ``*`` and ``""``: has one, has none."""


# fields


def error_text(task: Task, _: int) -> str | None:
    """Its last error as ``Type: message``."""
    error = task.status.error
    return f"{error.get('type') or 'Error'}: {error.get('message') or ''}" if error else None


def _exit(task: Task, _: int) -> int | None:
    done = task.status.state is State.SUCCEEDED and task.spec.header.type == SHELL
    return 0 if done else task.status.exit_code


def _wait(task: Task, now: int) -> int | None:
    """From when it was ready to run until it started, in ms; so far, if it is ready now. None while it is not."""
    spec, status = task.spec, task.status
    since = status.ready_at or max(spec.created_at, spec.due_at)
    if status.state is State.PENDING:
        return max(now - since, 0)
    if status.state is State.RUNNING or status.state.final:
        return max((status.started_at or status.finished_at) - since, 0)
    return None


def _run(task: Task, now: int) -> int | None:
    """How long its last attempt took, in ms; so far, if it runs."""
    status = task.status
    if status.state is State.RUNNING:
        return max(now - status.started_at, 0)
    if status.attempts and status.attempts[-1].number == status.attempt:  # cut short, or failed and to be retried
        return max(status.attempts[-1].finished_at - status.attempts[-1].started_at, 0)
    return max(status.finished_at - status.started_at, 0) if status.attempt and status.finished_at else None


def _meta(key: str) -> Callable[[Task, int], str | None]:
    def get(task: Task, _: int) -> str | None:
        meta = task.spec.header.meta
        return None if meta is None else meta.get(key)

    return get


@dataclass(frozen=True, slots=True)
class Field:
    """``kind``: text, found (a text found anywhere), number, size, priority, state, duration or instant. ``get`` gives None where
    there is no value, of ``parent`` a tuple."""

    kind: str
    get: Callable[[Task, int], Any]
    also: tuple[str, ...] = ()


FIELDS: dict[str, Field] = {
    "id": Field("number", lambda task, _: task.spec.id),
    "parent": Field("number", lambda task, _: task.spec.header.parents, ("parents",)),
    "state": Field("state", lambda task, _: task.status.state),
    "queue": Field("text", lambda task, _: task.spec.header.queue),
    "type": Field("text", lambda task, _: task.spec.header.type, ("name",)),
    "priority": Field("priority", lambda task, _: task.spec.header.priority, ("prio",)),
    "label": Field("text", lambda task, _: task.spec.header.label),
    "tenant": Field("text", lambda task, _: task.spec.header.tenant),
    "batch": Field("number", lambda task, _: task.spec.header.batch or None),
    "worker": Field("text", lambda task, _: task.status.worker or None),
    "flow": Field("text", lambda task, _: task.spec.header.flow),
    "order": Field("text", lambda task, _: task.spec.header.order, ("order_key",)),
    "correlation": Field("text", lambda task, _: task.spec.header.correlation_id, ("correlation_id",)),
    "key": Field("text", lambda task, _: task.spec.header.key),
    "unique": Field("text", lambda task, _: task.spec.header.unique),
    "error": Field("found", error_text),
    "exit": Field("number", _exit, ("exit_code",)),
    "attempt": Field("number", lambda task, _: task.status.attempt, ("attempts", "try", "tries")),
    "failures": Field("number", lambda task, _: task.status.failures),
    "crashes": Field("number", lambda task, _: task.status.crashes),
    "interrupts": Field("number", lambda task, _: task.status.interrupts),
    "size": Field("size", lambda task, _: len(task.spec.payload)),
    "created": Field("instant", lambda task, _: task.spec.created_at, ("created_at", "enqueued")),
    "due": Field("instant", lambda task, _: task.status.due_at or task.spec.due_at or None, ("due_at",)),
    "started": Field("instant", lambda task, _: task.status.started_at or None, ("started_at",)),
    "finished": Field("instant", lambda task, _: task.status.finished_at or None, ("finished_at", "done")),
    "expires": Field("instant", lambda task, _: task.spec.expires_at or None, ("expires_at",)),
    "age": Field("duration", lambda task, now: now - task.spec.created_at),
    "wait": Field("duration", _wait),
    "run": Field("duration", _run),
}
OF_HEADERS = frozenset({"queue", "type", "priority", "label", "tenant", "flow", "order", "correlation", "key", "unique", "parent", "batch"})
"""Fields, and ``meta`` beside them, of which a task's header has all there is to know."""
NAMES = {name: name for name in FIELDS} | {other: name for name, about in FIELDS.items() for other in about.also}


def field_of(name: str) -> Field:
    """The field of a name that a term has."""
    return Field("text", _meta(name[5:])) if name.startswith("meta.") else FIELDS[name]


# as text

_UNITS = (("w", 604_800_000), ("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1000), ("ms", 1))
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_BARE = re.compile(r"[\w./@+][\w./@+-]*", re.ASCII)
_META = re.compile(r"[\w.-]+")
JOINING = ("and", "or", "not")
TEXTS = ("text", "found")
"""The kinds of fields whose values are letters."""


def duration_text(ms: int) -> str:
    """``1h30m``: the shortest text that ``tq.model.duration_ms`` reads as ``ms``."""
    found = ""
    for unit, size in _UNITS:
        count, ms = divmod(ms, size)
        found += f"{count}{unit}" if count else ""
    return found or "0s"


def _number(kind: str, value: int, from_now: int) -> str:
    if kind == "state":
        return STATES[value]
    if kind == "duration":
        return duration_text(value)
    if kind != "instant":
        return str(value)
    if from_now:
        return ("-" if value < 0 else "+") + duration_text(abs(value))
    return (_EPOCH + timedelta(milliseconds=value)).isoformat(timespec="milliseconds").removesuffix("+00:00") + "Z"


def _quoted(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _value(kind: str, sign: str, value: Text | Span) -> str:
    if isinstance(value, Text):
        return value.text if value.pattern or _BARE.fullmatch(value.text) else _quoted(value.text)
    low = _number(kind, value.low, value.low_now)
    high = _number(kind, value.high, value.high_now)
    exact = kind != "duration" and not value.low_now  # else one alone is refused behind ":", since it is hardly ever met
    return low if low == high and (exact or sign != ":") else f"{low}..{high}"


def _term(term: Term) -> str:
    if not term.field:
        word = _value("text", ":", term.values[0])
        return _quoted(word) if word.lower() in JOINING else word
    if term.field.startswith("meta.") and not _META.fullmatch(term.field[5:]):
        key, found = term.field[5:], []
        for value in term.values:
            text = value.text if isinstance(value, Text) else ""
            bare = isinstance(value, Text) and value.pattern and value != ANY  # then the key was bare too
            found.append(f"{key}={text}" if bare else _quoted(key if value == ANY else f"{key}={text}"))
        return f"tag:{','.join(found)}"
    kind = field_of(term.field).kind
    return term.field + term.sign + ",".join(_value(kind, term.sign, value) for value in term.values)


def text_of(node: Node) -> str:
    """The text that reads as this node."""
    if isinstance(node, Term):
        return _term(node)
    if isinstance(node, Not):
        return "-" + (text_of(node.part) if isinstance(node.part, Term) else f"({text_of(node.part)})")
    if isinstance(node, Or):
        return " OR ".join(text_of(part) for part in node.parts)
    return " ".join(f"({text_of(part)})" if isinstance(part, Or) else text_of(part) for part in node.parts)


def depth_of(node: Node) -> int:
    """How deep the brackets of its text go."""
    if isinstance(node, Term):
        return 0
    if isinstance(node, Not):
        return depth_of(node.part) + (not isinstance(node.part, Term))
    return max(depth_of(part) + (isinstance(node, And) and isinstance(part, Or)) for part in node.parts)


def terms_of(node: Node) -> int:
    """How many terms it has."""
    if isinstance(node, Term):
        return 1
    return terms_of(node.part) if isinstance(node, Not) else sum(terms_of(part) for part in node.parts)


def fields_of(node: Node) -> frozenset[str]:
    """The names of the fields that it looks at; a bare word's is empty."""
    if isinstance(node, Term):
        return frozenset({node.field})
    if isinstance(node, Not):
        return fields_of(node.part)
    return frozenset().union(*map(fields_of, node.parts))


def leaves_of(node: Node) -> list[Node]:
    """Its terms from the left to the right, each with the NOT that stands before it alone."""
    if isinstance(node, Term) or (isinstance(node, Not) and isinstance(node.part, Term)):
        return [node]
    parts = (node.part,) if isinstance(node, Not) else node.parts
    return [leaf for part in parts for leaf in leaves_of(part)]


def written(text: str) -> str:
    """A text as a value that means just that."""
    return _value("text", ":", Text(text))

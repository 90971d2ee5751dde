"""From the text of a filter to its tree.

For: ``tq.query.parse``.
Not for: what the tree means (matching), how it is written (terms).
Runs in: every process that reads a filter.
Promises: any text is a tree or a UsageError that names the column, counted from 1; time and depth are bounded by the
text's length and MAX_DEPTH.
"""

from __future__ import annotations

import difflib
import re
from datetime import tzinfo
from typing import NamedTuple

from tq.errors import UsageError
from tq.model import brief
from tq.query.terms import ANY, FIELDS, JOINING, NAMES, NONE, TEXTS, And, Node, Not, Or, Span, Term, Text, field_of
from tq.query.values import span_of

MAX_TEXT = 2048
MAX_DEPTH = 8

_SPACE = re.compile(r"\s*")
_SIGNED = re.compile(r"([^\W\d][\w.-]*)(:|!=|>=|<=|=|>|<|~)")
_JOINING = re.compile(r"(AND|OR|NOT)(?=[\s()]|$)")
_BARE = re.compile(r"[^\s(),]+")
_WORD = re.compile(r"[^\s()]+")
_QUOTED = {mark: re.compile(rf"{mark}((?:[^{mark}\\]|\\.)*){mark}", re.DOTALL) for mark in "\"'"}
_ELSEWHERE = ("sort", "cols", "limit")
_CLOSED = ("args", "payload", "result", "try")


class Word(NamedTuple):
    """A value as it was written: where, and whether in quotes."""

    text: str
    at: int
    quoted: bool = False


class Reader:
    """Reads one text; ``now`` in ms (None: words that count from the present are errors), ``zone`` None: this machine's."""

    def __init__(self, text: str, now: int | None, zone: tzinfo | None) -> None:
        self._text, self._now, self._zone = text, now, zone
        self._at = self._depth = 0

    def read(self) -> Node | None:
        """The whole text; None if there is nothing in it."""
        self._skip()
        if self._at == len(self._text):
            return None
        node = self._or()
        if self._at < len(self._text):
            raise self._wrong(self._at, "the end, as no bracket is open")
        return node

    def _wrong(self, at: int, expected: str, hint: str = "") -> UsageError:
        rest = _WORD.match(self._text, at)
        got = "the end" if at >= len(self._text) else brief(rest[0] if rest else self._text[at])
        return UsageError(f"filter, column {at + 1}: expected {expected}, got {got}.{hint and ' '}{hint}", column=at + 1)

    def _skip(self) -> None:
        found = _SPACE.match(self._text, self._at)
        self._at = found.end() if found else self._at

    def _joining(self) -> str:
        """The word AND, OR or NOT that stands here, or nothing."""
        found = _JOINING.match(self._text, self._at)
        return found[1] if found else ""

    # what is joined

    def _or(self) -> Node:
        parts = [self._and()]
        while self._joining() == "OR":
            self._at += 2
            self._skip()
            parts.append(self._and())
        return (
            parts[0] if len(parts) == 1 else Or(tuple(one for part in parts for one in (part.parts if isinstance(part, Or) else (part,))))
        )

    def _and(self) -> Node:
        parts = [self._not()]
        while self._at < len(self._text) and self._text[self._at] != ")" and (word := self._joining()) != "OR":
            if word == "AND":
                self._at += 3
                self._skip()
            parts.append(self._not())
        return joined(parts)

    def _not(self) -> Node:
        negated = True
        if self._text.startswith("-", self._at):
            self._at += 1
        elif self._joining() == "NOT":
            self._at += 3
            self._skip()
        else:
            negated = False
        node = self._group() if self._text.startswith("(", self._at) else self._term()
        self._skip()
        return opposite(node) if negated else node

    def _group(self) -> Node:
        start = self._at
        self._depth += 1
        if self._depth > MAX_DEPTH:
            raise self._wrong(start, f"at most {MAX_DEPTH} brackets in brackets")
        self._at += 1
        self._skip()
        node = self._or()
        if not self._text.startswith(")", self._at):
            raise self._wrong(self._at, f"a ) for the ( of column {start + 1}")
        self._at += 1
        self._depth -= 1
        return node

    # terms

    def _term(self) -> Node:
        start = self._at
        head = self._text[start : start + 1]
        signed = _SIGNED.match(self._text, start)
        if signed is not None:
            self._at = signed.end()
            return self._compared(signed[1], signed[2], start)
        if head in ("'", '"'):
            text = self._quoted()
            if not text:
                raise self._wrong(start, "a word that is not empty")
            return Term("", ":", (Text(text),))
        if self._joining() or not head or head in "-)(:=!<>~,":
            hint = "Between a field, its sign and its value there is no space: age>10m." if head in tuple(":=!<>~") else ""
            raise self._wrong(start, "a field with a value such as state:failed, or a word", hint)
        found = _WORD.match(self._text, start)
        if found is None:
            raise self._wrong(start, "a term right behind the -")
        word = found[0]
        if word.lower() in JOINING:
            raise self._wrong(start, f"{word.upper()} in capitals, or the word in quotes")
        self._at = start + len(word)
        return Term("", ":", (self._letters(Word(word, start)),))

    def _compared(self, name: str, sign: str, start: int) -> Node:
        field, tag = self._name(name, sign, start), name.lower() == "tag"
        kind = "text" if tag else field_of(field).kind
        sign = ":" if sign == "=" else sign
        if sign == "~":
            raise self._wrong(
                start + len(name), f"one of : = != > >= < <= after {name}", f"For a part of a text use a pattern: {name}:*timed?out*"
            )
        if sign not in (":", "!=") and kind in (*TEXTS, "state"):
            raise self._wrong(start + len(name), f"one of : = != after {name}, which has no order")
        words = self._words(kind, sign)
        if tag:
            field, words = self._tag(words)
        if sign in (":", "!="):
            values = tuple(dict.fromkeys(self._value(field, kind, low, high) for low, high in words))
            return opposite(Term(field, ":", values)) if sign == "!=" else Term(field, ":", values)
        low, high = words[0]
        if high is not None:
            raise self._wrong(low.at, f"one value after {name}{sign}", f"For a range: {name}:{low.text}..{high.text}")
        span = self._span(kind, low)
        bound = (span.high, span.high_now) if sign in (">", "<=") else (span.low, span.low_now)
        return Term(field, sign, (Span(bound[0], bound[0], bound[1], bound[1]),))

    def _name(self, name: str, sign: str, start: int) -> str:
        """The field that ``name`` means; a meta key is as it was written."""
        word = name.lower().replace("-", "_")
        if word in NAMES:
            return NAMES[word]
        if word == "tag" or (word.startswith("meta.") and len(word) > 5):
            return f"meta.{name[5:]}"
        if word in _ELSEWHERE:
            raise self._wrong(
                start, "a field", f'A filter says which tasks are meant, not how they are shown. For the word: "{name}{sign}..."'
            )
        if word.split(".")[0] in _CLOSED:
            raise self._wrong(
                start, "a field", "Filters do not look into payloads, results and earlier attempts: give tasks a label or --meta K=V."
            )
        close = difflib.get_close_matches(word, [*NAMES, "meta.", "tag"], 1)
        hint = f"Did you mean {close[0]!r}?" if close else f"The fields are: {', '.join(FIELDS)}, meta.K."
        raise self._wrong(start, "the name of a field", f'{hint} For the text itself: "{name}{sign}..."')

    # values

    def _quoted(self, ranged: bool = False) -> str:
        found = _QUOTED[self._text[self._at]].match(self._text, self._at)
        if found is None:
            raise self._wrong(self._at, f"a {self._text[self._at]} at the end of what is in quotes")
        self._at = found.end()
        behind = self._text[self._at : self._at + 1]
        if not (behind.isspace() or behind in "(),") and not (ranged and self._text.startswith("..", self._at)):
            raise self._wrong(self._at, "a space behind what is in quotes")
        return re.sub(r"\\(.)", r"\1", found[1], flags=re.DOTALL)

    def _words(self, kind: str, sign: str) -> list[tuple[Word, Word | None]]:
        """The values behind a sign, each with the end of its range if it is one."""
        ranged = kind not in (*TEXTS, "state")
        found: list[tuple[Word, Word | None]] = []
        while True:
            low, high = self._one(ranged), None
            if ranged and self._text.startswith("..", self._at):
                self._at += 2
                high = self._one(ranged=False)
            found.append((low, high))
            if not self._text.startswith(",", self._at):
                return found
            if sign not in (":", "!="):
                raise self._wrong(self._at, "one value", "A list may stand after : = or !=.")
            self._at += 1

    def _one(self, ranged: bool) -> Word:
        start = self._at
        if self._text[start : start + 1] in ("'", '"'):
            return Word(self._quoted(ranged), start, quoted=True)
        found = _BARE.match(self._text, start)
        word = found[0].partition("..")[0] if found and ranged else found[0] if found else ""
        if not word:
            raise self._wrong(start, "a value", 'For none at all write "" in quotes.')
        self._at = start + len(word)
        return Word(word, start)

    def _tag(self, words: list[tuple[Word, Word | None]]) -> tuple[str, list[tuple[Word, Word | None]]]:
        """``tag:K=V,K=W`` as field and values: K alone is any value."""
        key = words[0][0].text.partition("=")[0]
        values: list[tuple[Word, Word | None]] = []
        for word, _ in words:
            name, equals, text = word.text.partition("=")
            if name != key or not key:
                raise self._wrong(word.at, "one key such as tag:tenant=acme,tenant=other", "For another: tag:a=1 OR tag:b=2.")
            values.append((Word(text, word.at, word.quoted) if equals else Word("*", word.at), None))
        return f"meta.{key}", values

    def _letters(self, word: Word) -> Text:
        return Text(word.text, pattern=not word.quoted and any(mark in word.text for mark in "*?["))

    def _value(self, field: str, kind: str, low: Word, high: Word | None) -> Text | Span:
        """What stands behind ``:``."""
        if kind in TEXTS:
            return self._letters(low)
        if high is None and (low.text, low.quoted) in (("*", False), ("", True)):
            return ANY if low.text else NONE
        first = self._span(kind, low)
        if high is None:
            if kind == "duration" or first.low_now:
                end = "2d" if kind == "duration" else "+0s"
                hint = f"Write {field}>{low.text}, {field}<{low.text} or {field}:{low.text}..{end}."
                raise self._wrong(low.at, "a sign or a range, as hardly a task has that to the millisecond", hint)
            return first
        last = self._span(kind, high)
        if first.low_now == last.high_now and first.low > last.high:
            raise self._wrong(low.at, "a range from the smaller to the greater")
        return Span(first.low, last.high, first.low_now, last.high_now)

    def _span(self, kind: str, word: Word) -> Span:
        try:
            return span_of(kind, word.text, self._now, self._zone)
        except ValueError as error:
            raise self._wrong(word.at, str(error)) from None


def opposite(node: Node) -> Node:
    """What it does not match."""
    return node.part if isinstance(node, Not) else Not(node)


def joined(parts: list[Node]) -> Node:
    """All of them, without brackets that say nothing."""
    flat = [one for part in parts for one in (part.parts if isinstance(part, And) else (part,))]
    return flat[0] if len(flat) == 1 else And(tuple(flat))

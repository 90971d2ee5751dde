"""Documents: a task's payload, result, error and output as lines that may be shown.

For: values as folded JSON, errors as tracebacks, bytes of an output as lines, texts as lines; each line as pieces with names of styles.
Not for: scrolling, searching and wrapping them (widgets.panes), fetching them (screens).
Runs in: the monitor; pure, without Textual or clock.
Promises: this is where such data enters the monitor, and every piece has been through ``safe_text``; no line is longer than LINE_MOST
characters and no document longer than LINES_MOST lines, and where something was left out a line says how much; whole numbers are shown
exactly, bytes as hexadecimal digits, and what looks like a secret as stars until somebody asks for it.
"""

from __future__ import annotations

import codecs
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tq.model import safe_text
from tui.formats import UNICODE, Glyphs, clock, counted, size

LINE_MOST = 4096
LINES_MOST = 10_000
TEXT_MOST = 64 * 1024
"""Characters of a text; a pager shows all of it."""
BYTES_MOST = 64
DEPTH_MOST = 60
MASK = "********"
MANY = 100
"""Items from which on a list or map inside another is shown folded at first."""

Run = tuple[str, str]
Line = list[Run]
Path = tuple[int, ...]
"""Which value: at each level, its number among its neighbours."""


def cut(text: str, most: int = LINE_MOST) -> str:
    """A line's text, cleaned; what is beyond ``most`` characters is counted and not looked at."""
    if len(text) <= most:
        return safe_text(text)
    return f"{safe_text(text[:most])}… {counted(len(text) - most, 'more character')}"


def text_lines(text: str, style: str = "text") -> list[Line]:
    """A text of several lines, tabs as blanks; at most TEXT_MOST characters of it."""
    kept = text[:TEXT_MOST]
    found: list[Line] = [[(cut(line.expandtabs(4)), style)] for line in kept.split("\n")]
    if len(text) > TEXT_MOST:
        found.append([(f"… cut at {size(TEXT_MOST)} of {size(len(text))}", "note")])
    return found


# -- JSON --------------------------------------------------------------------------------------------------------------

_SECRET_WORDS = frozenset({
    "auth", "authorization", "cookie", "cookies", "credential", "credentials", "creds", "dsn", "key", "keys", "pass", "passcode",
    "passphrase", "passwd", "password", "passwords", "pat", "private", "psk", "pw", "pwd", "secret", "secrets", "token", "tokens",
})  # fmt: skip
_SECRET_END = ("apikey", "privatekey", "password", "passphrase", "passwd", "secret", "token")
_WITH_PASSWORD = re.compile(r"://[^/@\s]{0,200}:[^/@\s]+@")
_WORD_BREAK = re.compile(r"[^A-Za-z0-9]+|(?<=[a-z0-9])(?=[A-Z])")


def is_secret(key: object, value: object) -> bool:
    """Whether what stands under a key may be a secret: by a word of the key, or an address with a password in it."""
    if isinstance(value, dict | list | bool) or value is None or value in ("", b""):
        return False
    if isinstance(value, str) and _WITH_PASSWORD.search(value[:LINE_MOST]):
        return True
    words = [word.lower() for word in _WORD_BREAK.split(str(key)[:200]) if word]
    return not _SECRET_WORDS.isdisjoint(words) or "".join(words).endswith(_SECRET_END)


@dataclass(frozen=True, slots=True)
class JsonLine:
    """A line of a value. ``path`` is the value that begins here; one that can be folded is ``opened`` or not, else that is None."""

    runs: Line
    path: Path
    opened: bool | None = None


class JsonText:
    """A value as lines, folded as its ``turned`` says. ``show_secrets``: nothing is hidden."""

    def __init__(self, value: Any, glyphs: Glyphs = UNICODE) -> None:
        self._value, self._glyphs = value, glyphs
        self._turned: set[Path] = set()
        self.show_secrets = False
        self.secrets = 0
        """How many values the last ``lines`` have hidden."""

    def turn(self, path: Path) -> None:
        """Fold what is open there, and open what is folded."""
        self._turned ^= {path}

    def lines(self) -> list[JsonLine]:
        """At most LINES_MOST lines; the last says so, if there are more."""
        self.secrets = 0
        found: list[JsonLine] = []
        for line in self._lines(self._value, (), [], ""):
            if len(found) == LINES_MOST:
                found.append(JsonLine([(f"… more than {LINES_MOST:,} lines", "note")], ()))
                break
            found.append(line)
        return found

    def _lines(self, value: Any, path: Path, before: Line, comma: str) -> Iterator[JsonLine]:
        """``before``: what stands on the line already."""
        if not isinstance(value, dict | list | tuple) or not value:
            yield JsonLine([*before, *_scalar(value), (comma, "dim")], path)
            return
        opening, closing = "{}" if isinstance(value, dict) else "[]"
        opened = (len(path) == 0 or len(value) <= MANY) != (path in self._turned)
        if len(path) >= DEPTH_MOST:
            yield JsonLine([*before, (f"{opening} {self._glyphs.more} deeper {closing}{comma}", "note")], path)
            return
        if not opened:
            yield JsonLine([*before, (f"{opening} {self._glyphs.more}{len(value)} {closing}{comma}", "dim")], path, opened=False)
            return
        yield JsonLine([*before, (opening, "dim")], path, opened=True)
        pad, last = "  " * (len(path) + 1), len(value) - 1
        items: Iterable[tuple[Any, Any]] = value.items() if isinstance(value, dict) else ((None, item) for item in value)
        for at, (key, item) in enumerate(items):
            start: Line = [(pad, "text")]
            if isinstance(value, dict):
                start += [(_quoted(key), "key"), (": ", "dim")]
                if not self.show_secrets and is_secret(key, item):
                    self.secrets += 1
                    yield JsonLine([*start, (MASK, "note"), ("," if at < last else "", "dim")], (*path, at))
                    continue
            elif not self.show_secrets and isinstance(item, str) and is_secret("", item):
                self.secrets += 1
                yield JsonLine([*start, (MASK, "note"), ("," if at < last else "", "dim")], (*path, at))
                continue
            yield from self._lines(item, (*path, at), start, "," if at < last else "")
        yield JsonLine([("  " * len(path) + closing + comma, "dim")], path)


_ESCAPES = str.maketrans({'"': '\\"', "\\": "\\\\", "\n": "\\n", "\r": "\\r", "\t": "\\t"})


def _quoted(value: Any) -> str:
    return f'"{cut(value.translate(_ESCAPES))}"' if isinstance(value, str) else _scalar(value)[0][0]


def _scalar(value: Any) -> Line:
    """A value that has no parts, as JSON writes it where JSON can."""
    if isinstance(value, str):
        return [(f'"{safe_text(value[:LINE_MOST].translate(_ESCAPES))}"', "string"), *_rest(len(value) - LINE_MOST, "character")]
    if value is None or isinstance(value, bool):
        return [({None: "null", True: "true", False: "false"}[value], "literal")]
    if isinstance(value, int | float):
        return [(repr(value), "number")]
    if isinstance(value, bytes):
        return [(f"0x{value[:BYTES_MOST].hex()}", "literal"), *_rest(len(value) - BYTES_MOST, "byte")]
    if isinstance(value, dict | list | tuple):
        return [("{}" if isinstance(value, dict) else "[]", "dim")]
    return [(cut(repr(value)), "literal")]


def _rest(number: int, what: str) -> Line:
    return [(f"… {counted(number, 'more ' + what)}", "note")] if number > 0 else []


# -- errors ------------------------------------------------------------------------------------------------------------

_LIBRARY = re.compile(r"(^|/)(site-packages|dist-packages)/|/lib(64)?/python3(\.\d+)?/|^<frozen ")


def traceback_lines(error: Mapping[str, Any], *, fold: bool = True) -> list[Line]:
    """An error map of a task, causes first, as Python tells it; ``fold``: frames of libraries are only counted."""
    found: list[Line] = []
    for one in [*reversed(error.get("chain") or ()), error]:
        if found:
            found += [[("", "text")], [("This was the cause of:", "dim")], [("", "text")]]
        found += _frames(one.get("frames") or (), fold)
        kind, message = str(one.get("type") or "Error"), str(one.get("message") or "")
        first, *more = message[:TEXT_MOST].split("\n")
        found.append([(cut(kind, 200), "bad"), (cut(f": {first}") if first else "", "strong")])
        found += [[(cut(line.expandtabs(4)), "text")] for line in more]
    return found


def _frames(frames: Sequence[Sequence[Any]], fold: bool) -> list[Line]:
    found: list[Line] = []
    folded: list[str] = []
    for frame in [*frames, None]:
        if frame is not None and fold and _LIBRARY.search(str(frame[0])):
            folded.append(str(frame[0]).rsplit("/", 1)[-1])
            continue
        if folded:
            names = ", ".join(dict.fromkeys(folded))
            found.append([(f"  … {counted(len(folded), 'library frame')} folded ({cut(names, 60)})", "note")])
            folded = []
        if frame is not None:
            file, line, function, *source = frame
            found.append([(f"  {cut(str(file), 300)}:{line}", "key"), (" in ", "dim"), (cut(str(function), 300), "strong")])
            if source and source[0]:
                found.append([("    ", "text"), (cut(str(source[0])), "code")])
    return found


# -- output ------------------------------------------------------------------------------------------------------------

_LEVEL = re.compile(r"\b(?:(FATAL|CRITICAL|ERROR|ERR)|(WARN|WARNING)|(INFO|NOTICE)|(DEBUG|TRACE))\b")
_LEVELS = ("bad", "warn", "note", "dim")
LEVEL_WITHIN = 80
"""Characters at the beginning of a line where the word for its level is looked for."""


@dataclass(frozen=True, slots=True)
class OutputLine:
    """A line of an output: when it began (ms), who wrote it (0 tq itself, 1 standard output, 2 standard error), its cleaned text."""

    at: int
    stream: int
    text: str

    def runs(self, stamp: Callable[[int], str] | None = None) -> Line:
        """Its pieces; ``stamp`` writes its time."""
        before: Line = [(f"{stamp(self.at)} ", "dim")] if stamp is not None else []
        level = _LEVEL.search(self.text[:LEVEL_WITHIN])
        style = "note" if self.stream == 0 else "text" if level is None else _LEVELS[(level.lastindex or 1) - 1]
        return [*before, (self.text, style)]


class OutputReader:
    """Takes the chunks of an output as they come and gives whole lines; the last line of each stream is kept until its end comes."""

    def __init__(self) -> None:
        self._decoders: dict[int, codecs.IncrementalDecoder] = {}
        self._open: dict[int, tuple[int, str, int]] = {}
        """By stream: when the line began, its text so far (at most LINE_MOST), how many characters of it were left out."""

    def read(self, chunks: Iterable[Sequence[Any]]) -> list[OutputLine]:
        """The lines that these chunks end: (milliseconds, stream, bytes) each."""
        found: list[OutputLine] = []
        for at, stream, data in chunks:
            decoder = self._decoders.get(stream)
            if decoder is None:
                decoder = self._decoders[stream] = codecs.getincrementaldecoder("utf-8")("backslashreplace")
            *ended, last = decoder.decode(data).split("\n")
            for text in ended:
                self._add(stream, at, text)
                found.append(self._line(stream))
                del self._open[stream]
            if last or stream in self._open:
                self._add(stream, at, last)
        return found

    def unfinished(self) -> list[OutputLine]:
        """The lines that have begun, each as it is by now."""
        return [self._line(stream) for stream in sorted(self._open)]

    def _add(self, stream: int, at: int, text: str) -> None:
        began, before, left_out = self._open.get(stream, (at, "", 0))
        kept = text[: LINE_MOST - len(before)]
        self._open[stream] = (began, before + kept, left_out + len(text) - len(kept))

    def _line(self, stream: int) -> OutputLine:
        at, text, left_out = self._open[stream]
        text = text.removesuffix("\r").rsplit("\r", 1)[-1]  # what was written over is gone, as on a terminal
        shown = safe_text(text.expandtabs(8))
        return OutputLine(at, stream, f"{shown}… {counted(left_out, 'more character')}" if left_out else shown)


def relative(since: int) -> Callable[[int], str]:
    """Writes an instant as seconds after another (both in ms): ``+  12.345``."""
    return lambda at: f"+{(at - since) / 1000:8.3f}"


def absolute(at: int) -> str:
    """Writes an instant as the time of day, in UTC."""
    return clock(at, millis=True)

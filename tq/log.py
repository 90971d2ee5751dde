"""The daemon's log: one JSON object a line in ``DATA_DIR/daemon.log``, or words on stderr.

For: what the daemon did and what happened to tasks, for people and for log collectors.
Not for: the output of tasks (output), payloads and results (never logged), what a terminal shows to clients (cli).
Runs in: the daemon.
Promises: one record is one line, whatever text it holds (control, bidirectional and line characters are escaped, long
texts cut); the file is 0600 and at most three times 10 MiB beside the current one; at most ``STEPS_A_SECOND`` steps of
tasks are written a second, and what was left out is counted in a ``steps_not_written`` line; a full disk loses lines,
which the next line counts, never the daemon.

Every line has ``at`` (RFC 3339, UTC, ms), ``level`` and ``event``; the rest are fields of the event. Any room may also
write with ``logging.getLogger("tq.<room>")``: its text becomes ``message``. The level is changed live by ``set_level``.
"""

from __future__ import annotations

import json
import logging
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from functools import lru_cache
from itertools import pairwise
from math import isfinite
from pathlib import Path
from typing import Any, TypeVar

from tq.model import safe_text

STEPS_A_SECOND = 1000
HOLD_MS = 50
FILE_BYTES = 10 << 20
FILES = 3
MAX_TEXT = 2000
FILE = "daemon.log"

Row = TypeVar("Row")
Step = tuple[int, str, str, Mapping[str, object] | None]
"""One step of a task: (id, type, queue, further fields or None)."""


class Log:
    """The log of one daemon. ``data_dir`` None: words on stderr instead (``--foreground``). Errors: only OSError at opening."""

    def __init__(self, data_dir: Path | None, level: str = "info") -> None:
        self._file = None if data_dir is None else _File(data_dir / FILE)
        self._logger = logging.getLogger("tq")
        self._before = self._logger.propagate, self._logger.level
        self._logger.propagate = False
        self._handler = self._file or logging.StreamHandler(sys.stderr)
        self._handler.setFormatter(_Words() if data_dir is None else _Json())
        self._logger.addHandler(self._handler)
        self._second = -1
        self._room = 0
        self._left_out: dict[str, int] = {}
        self._held: list[dict[str, object]] = []
        self._held_since = 0
        self.set_level(level)

    def set_level(self, level: str) -> None:
        """Write ``level`` (debug, info, warning, error) and worse from now on."""
        self.level = level
        self._logger.setLevel(level.upper())
        self._steps = self._logger.isEnabledFor(logging.INFO)

    def event(self, event: str, level: str = "info", **fields: object) -> None:
        """Write that something happened to the daemon itself. ``fields`` are numbers, texts, lists or maps of them."""
        number = logging.getLevelNamesMapping()[level.upper()]
        if self._logger.isEnabledFor(number):
            self.flush()
            self._write([{"event": event, **fields}], number)

    def steps(self, event: str, rows: Sequence[Row], describe: Callable[[Row], Step], now_ms: int) -> None:
        """Write that ``event`` happened to each of ``rows``, of which ``describe`` says what they are.

        Nearly free (a microsecond a call, not a row) when the level is above info or this second's lines are used
        up: ``describe`` is only called for rows that are written.
        """
        if not self._steps or not rows:
            return
        if now_ms // 1000 != self._second:
            self.turn_second(now_ms)
            self._second, self._room = now_ms // 1000, STEPS_A_SECOND
        write = rows[: self._room] if self._room else ()
        if len(write) < len(rows):
            self._left_out[event] = self._left_out.get(event, 0) + len(rows) - len(write)
        if write:
            self._room -= len(write)
            if not self._held:
                self._held_since = now_ms
            self._held += [_step(event, describe(row), now_ms) for row in write]

    def flush(self) -> None:
        """Write the steps that are held: they are gathered for ``HOLD_MS``, since a write a step costs more than the step."""
        if self._held:
            held, self._held = self._held, []
            self._write(held, logging.INFO)

    @property
    def due_at(self) -> int | None:
        """The instant (ms) at which ``turn_second`` has something to say, if nothing else happens until then; None: never."""
        owed = (self._second + 1) * 1000 if self._left_out else None
        return self._held_since + HOLD_MS if self._held else owed

    def turn_second(self, now_ms: int) -> None:
        """Write what has been held long enough; if a second is over in which steps were left out, say how many."""
        if self._held and now_ms >= self._held_since + HOLD_MS:
            self.flush()
        if self._left_out and now_ms // 1000 != self._second:
            left_out, self._left_out = self._left_out, {}
            self.flush()
            self._write([{"event": "steps_not_written", "number": sum(left_out.values()), "of": left_out}], logging.INFO, now_ms)

    def close(self) -> None:
        """Write what is still owed and close the file; what is logged from now on goes where it went before."""
        self.flush()
        self.turn_second((self._second + 1) * 1000)
        self._logger.removeHandler(self._handler)
        self._handler.close()
        self._logger.propagate, level = self._before
        self._logger.setLevel(level)

    def _write(self, lines: list[dict[str, object]], level: int, now_ms: int | None = None) -> None:
        if self._file is not None and self._file.lost:
            lines = [{"event": "lines_lost", "number": self._file.lost}, *lines]
            self._file.lost = 0
        record = self._logger.makeRecord("tq", level, "", 0, "", (), None, extra={"lines": lines})
        if now_ms is not None:
            record.created = now_ms / 1000
        self._logger.handle(record)


def _step(event: str, step: Step, now_ms: int) -> dict[str, object]:
    task_id, kind, queue, more = step
    line: dict[str, object] = {"at": _instant(now_ms / 1000), "event": event, "task": task_id, "type": kind, "queue": queue}
    return {**line, **more} if more else line


class _File(logging.Handler):
    """The rotated file; each record is one write. ``lost`` counts lines that the disk did not take."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.path = path
        self.lost = 0
        self._open()

    def _open(self) -> None:
        self._fd = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        self._size = os.fstat(self._fd).st_size

    def emit(self, record: logging.LogRecord) -> None:
        try:
            text = self.format(record).encode("ascii") + b"\n"
        except (TypeError, ValueError):  # a message that does not fit its arguments
            self.handleError(record)
            return
        try:
            if self._size and self._size + len(text) > FILE_BYTES:
                self._rotate()
            written = os.write(self._fd, text)
            if written == len(text):
                self._size += written
                return
            os.ftruncate(self._fd, self._size)  # the disk took half of it: no torn line stays
        except OSError:
            pass  # counted below; a log must not end the daemon
        self.lost += text.count(b"\n")

    def _rotate(self) -> None:
        """``daemon.log.2`` becomes ``.3`` and so on; if a rename fails the old file just grows on."""
        names = [self.path, *(self.path.with_name(f"{self.path.name}.{number}") for number in range(1, FILES + 1))]
        for old, new in reversed(list(pairwise(names))):
            if old.exists():
                old.replace(new)
        os.close(self._fd)
        self._open()

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
        super().close()


class _Json(logging.Formatter):
    """JSON objects, ASCII only, one a line."""

    def format(self, record: logging.LogRecord) -> str:
        head = {"at": _instant(record.created), "level": record.levelname.lower()}
        # json leaves DEL as it is; it can only stand inside a text
        return "\n".join(json.dumps(head | _plain(line)).replace("\x7f", "\\u007f") for line in _lines(record, self))


class _Words(logging.Formatter):
    """The same for people: time, level, event, then name=value."""

    def format(self, record: logging.LogRecord) -> str:
        head = f"{_instant(record.created)[11:23]} {record.levelname.lower():<7}"
        return "\n".join(
            " ".join([_clock(line, head), str(line.pop("event")), *(f"{_word(name)}={_word(value)}" for name, value in line.items())])
            for line in map(_plain, _lines(record, self))
        )


def _clock(line: dict[str, object], head: str) -> str:
    """The head of a line of words, with the line's own time if it has one."""
    at = line.pop("at", None)
    return f"{str(at)[11:23]}{head[12:]}" if at else head


def _lines(record: logging.LogRecord, formatter: logging.Formatter) -> list[dict[str, object]]:
    """The objects of a record: this module's own, or one made from a plain ``logging`` call."""
    lines: list[dict[str, object]] | None = getattr(record, "lines", None)
    if lines is not None:
        return lines
    line: dict[str, object] = {"event": record.name.removeprefix("tq."), "message": record.getMessage()}
    if record.exc_info:
        line["traceback"] = formatter.formatException(record.exc_info)[-4 * MAX_TEXT :].splitlines()
    return [line]


@lru_cache(maxsize=64)
def _instant(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _plain(value: Any) -> Any:
    """``value`` as JSON takes it, with long texts cut; what JSON does not know becomes its text."""
    kind = type(value)
    if kind is str and len(value) <= MAX_TEXT:
        return value
    if value is None or kind is int or isinstance(value, bool | int) or (kind is float and isfinite(value)):
        return value
    if isinstance(value, Mapping):
        return {_plain(str(name)): _plain(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    text = value if isinstance(value, str) else str(value)
    return text if len(text) <= MAX_TEXT else f"{text[:MAX_TEXT]}… ({len(text)} characters)"


def _word(value: object) -> str:
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return text if text and text.isprintable() and " " not in text else f'"{safe_text(text)}"'

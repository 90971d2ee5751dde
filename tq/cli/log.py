"""``tq log``, and how ``tq run`` shows what its command writes: a task's output on its way to a person or a pipe.

For: choosing of it (stream, attempt, time, last lines), following it, times before lines, JSON.
Not for: keeping it (``tq.output``), reading files (it comes from the daemon).
Runs in: the ``tq`` command.
Promises: a follower misses no line that is kept and shows none twice, also while the daemon is replaced; to a terminal goes
cleaned text, unless ``--raw``; memory is bounded by the lines that ``--tail`` asks for, however much there is.

What stdout and stderr of a task have written comes in the order and with the times in which tq took it: within
milliseconds of its being written by a command or by ``print``; what a function's child processes and C libraries write comes
to be seen within 0.25 s.
"""

from __future__ import annotations

import re
import sys
import time
from codecs import getincrementaldecoder
from collections import deque
from collections.abc import Iterable, Iterator
from typing import Any, Protocol

from tq.cli import hot
from tq.cli.options import task_ids, whole
from tq.cli.render import instant, json_line
from tq.client import Client
from tq.errors import DaemonNotRunning, UsageError
from tq.instants import instant_ms
from tq.model import duration_ms, safe_text

Chunk = tuple[int, int, bytes]
"""(ms since the epoch, stream, bytes); stream 1 is standard output, 2 standard error, 0 a note of tq's own."""
LONGEST = 64 << 10
"""Bytes without a line end that are shown as a line all the same."""
BACK_WITHIN = 30.0
"""Seconds that a follower waits for a daemon that is gone."""
PAGE = 256 << 10
_NAMES = ("tq", "stdout", "stderr")
_ATTEMPT = re.compile(rb"attempt (\d+)\n")
_DROPPED = re.compile(r"(\d+) bytes dropped")


class Screen:
    """A task's output on its way out: bytes as they are, but to a terminal cleaned text, unless ``raw``; or ``as_json`` objects.

    ``live``: it is read while it is written, so that hundreds of gaps may open; their total is told at the end.
    ``times``: each line begins with its own. ``only``: this stream alone is shown, on standard output.
    """

    def __init__(self, raw: bool, live: bool, as_json: bool = False, times: bool = False, only: int = 0) -> None:
        self._raw, self._live, self._json, self._times, self._only = raw, live, as_json, times, only
        self._lines = Lines() if times and not as_json else None
        self._dropped = 0
        utf8 = getincrementaldecoder("utf-8")  # a chunk may end within a character
        self._decoders = [utf8("replace") for _ in _NAMES]
        self._at = 0

    def write(self, chunks: Iterable[Chunk]) -> None:
        for at, stream, data in chunks if self._lines is None else self._lines.of(chunks):
            if self._json:
                self._at = at
                self._object(stream, self._decoders[stream].decode(data))
            elif stream:
                self._bytes(stream, b"%s %s\n" % (str(instant(at)).encode(), data.removesuffix(b"\n")) if self._times else data)
            else:
                self._note(data.decode("utf-8", "replace").rstrip())

    def _object(self, stream: int, text: str) -> None:
        if text:
            print(json_line({"at": instant(self._at), "stream": _NAMES[stream], "text": text}), flush=self._live)

    def _bytes(self, stream: int, data: bytes) -> None:
        out = sys.stdout if stream == 1 or self._only else sys.stderr
        if out is None:
            return
        if self._raw or not out.isatty():
            out.buffer.write(data)
        else:
            out.write(safe_text(self._decoders[stream].decode(data).replace("\r\n", "\n"), newlines=True))
        out.flush()

    def _note(self, text: str) -> None:
        found = _DROPPED.fullmatch(text) if self._live else None
        if found:
            self._dropped += int(found[1])
        else:
            hot.say(f"tq: {text}")

    def end(self) -> None:
        """The output is over: show what has no line end, and say how much is missing."""
        if self._lines is not None:
            rest, self._lines = self._lines.rest(), None
            self.write(rest)
        for stream in range(len(_NAMES)) if self._json else ():
            self._object(stream, self._decoders[stream].decode(b"", True))
        if self._dropped:
            hot.say(f"tq: {self._dropped} bytes of output are missing: of much output only the head and the tail are kept (log_bytes).")


class Writes(Protocol):
    """Who takes what a task writes."""

    def write(self, chunks: Iterable[Chunk]) -> None: ...


class Tail:
    """Who keeps the last lines of it, so many."""

    def __init__(self, most: int) -> None:
        self._lines, self._last = Lines(), deque[Chunk](maxlen=most)

    def write(self, chunks: Iterable[Chunk]) -> None:
        self._last.extend(self._lines.of(chunks))

    def end(self) -> list[Chunk]:
        """Those lines; what has no line end yet is one."""
        self._last.extend(self._lines.rest())
        return list(self._last)


class Lines:
    """Chunks made into lines, each with the time of its first byte; what has no end yet is kept, to LONGEST bytes."""

    def __init__(self) -> None:
        self._begun: dict[int, tuple[int, bytes]] = {}

    def of(self, chunks: Iterable[Chunk]) -> Iterator[Chunk]:
        for at, stream, data in chunks:
            if not stream:
                yield at, stream, data
                continue
            since, begun = self._begun.pop(stream, (at, b""))
            for line in _lines(begun + data):
                if line.endswith(b"\n") or len(line) >= LONGEST:
                    yield since, stream, line
                else:
                    self._begun[stream] = since, line
                since = at

    def rest(self) -> list[Chunk]:
        """The lines without an end, ended."""
        rest = [(at, stream, data + b"\n") for stream, (at, data) in self._begun.items()]
        self._begun.clear()
        return rest


def _lines(data: bytes) -> list[bytes]:
    """Lines that end with a newline alone: a bar of progress draws itself again with carriage returns."""
    lines = [line + b"\n" for line in data.split(b"\n")]
    last = lines.pop()[:-1]
    return [*lines, last] if last else lines


class _Choice:
    """Of a task's output, what was asked for: ``only`` a stream (0: all), since an instant, of one attempt (0: all)."""

    def __init__(self, only: int, since: int, attempt: int) -> None:
        self._only, self._since, self._attempt = only, since, attempt
        self._now = 1  # the attempt that what comes next belongs to

    def of(self, chunks: Iterable[Chunk]) -> Iterator[Chunk]:
        for at, stream, data in chunks:
            if stream == 0 and (found := _ATTEMPT.fullmatch(data)):
                again, self._now = self._now == int(found[1]), int(found[1])
                if again or self._attempt:  # it stands behind each gap, and who asks for one attempt knows it
                    continue
            wanted = at >= self._since and self._attempt in (0, self._now)
            if wanted and (not stream or self._only in (0, stream)):
                yield at, stream, data


def follow(client: Client, task_id: int, screen: Writes, offset: int = 0, choice: _Choice | None = None) -> dict[str, Any]:
    """Show what a task writes from ``offset`` on until it is over; its ``state`` and ``exit_code``, if it ended meanwhile. A daemon that
    goes has BACK_WITHIN to come back."""
    choice = choice or _Choice(0, 0, 0)
    gone_at = 0.0
    while True:
        try:
            for event in client.watch(["output"], [task_id], offset=offset):
                if event.get("topic") == "output" and event.get("id") == task_id:
                    screen.write(choice.of(event["chunks"]))
                    offset, gone_at = event["next"], 0.0
                    if event["end"]:
                        return {key: event[key] for key in ("state", "exit_code") if key in event}
        except DaemonNotRunning:
            if not gone_at:
                gone_at = time.monotonic()
            elif time.monotonic() - gone_at > BACK_WITHIN:
                raise
            time.sleep(0.05)


def log(client: Client, values: dict[str, Any]) -> int:
    since = 0 if values["since"] is None else _since(values["since"], time.time_ns() // 1_000_000)
    attempt = 0 if values["attempt"] is None else whole("--attempt", values["attempt"])
    tail = None if values["tail"] is None else whole("--tail", values["tail"])
    task_id = task_ids(client.call, [values["id"]])[0]
    row = hot.rows_of(client.call, [task_id])[0]
    only = 0 if values["stdout"] == values["stderr"] else 1 if values["stdout"] else 2
    screen = Screen(values["raw"], values["follow"], values["json"], values["timestamps"], only)
    choice = _Choice(only, since, attempt)
    offset = 0
    if tail is not None or not values["follow"]:
        offset = _what_there_is(client, task_id, screen, choice, tail)
        if not offset and row["output"]:
            hot.say(f"tq: task {task_id} has written output, which is no longer kept: see keep_logs in `tq config show`.")
    if values["follow"]:
        follow(client, task_id, screen, offset, choice)
    screen.end()
    return 0


def _since(text: str, now: int) -> int:
    """Milliseconds since the epoch: so long ago as a duration says, or an instant."""
    try:
        return now - duration_ms(text)
    except ValueError:
        pass
    try:
        return instant_ms(text, now, past=True)
    except ValueError as error:
        words = str(error).removeprefix("expected ")
        raise UsageError(f"--since: expected a duration such as 10m, or {words}. See `tq log --help`.") from None


def _what_there_is(client: Client, task_id: int, screen: Screen, choice: _Choice, tail: int | None) -> int:
    """Show it (of ``tail``: so many lines); where it ends."""
    lines = Lines()
    last: deque[Chunk] = deque(maxlen=tail)
    offset = 0
    while True:
        body = client.call("log", {"id": task_id, "offset": offset, "limit": PAGE})
        chunks = choice.of(body["chunks"])
        if tail is None:
            screen.write(chunks)
        else:
            last.extend(lines.of(chunks))
        if body["end"] or not body["chunks"]:
            break
        offset = body["next"]
    if tail is not None:
        last.extend((at, stream, data[:-1]) for at, stream, data in lines.rest())
        screen.write(last)
    return int(body["next"])

"""The file of the history: what the daemon knows of the past, kept for the next one.

For: ``DATA_DIR/history.bin``: read at the start, replaced while things happen, at most once a minute, and at the end.
Not for: what is in it (``tq.history``).
Runs in: the daemon; packing on the thread of its loop, squeezing and writing on a thread that lives for just that, both in C.
Promises: never an error: a file that is damaged, foreign or cannot be written is one line of the log, and the past is forgotten or
kept a minute later; the file is always a whole one, old or new, and after a power cut perhaps none: it is not synced, since nothing
depends on it. No loop is woken for it.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterable
from pathlib import Path

from tq.history import History, sealed
from tq.store import Tally

FILE = "history.bin"
EVERY_MS = 60_000
READ_MOST = 32 << 20
"""A larger file is none of ours."""
WRITTEN_WITHIN_S = 5.0
"""How long a daemon that ends waits for what is being written: a disk that hangs must not keep it."""


class Keeper:
    """Keeps ``history`` in a file of the directory ``where``; ``log`` is told what went wrong: event, level, fields."""

    def __init__(self, where: Path, history: History, tallies: Callable[[], Iterable[Tally]], log: Callable[..., None]) -> None:
        self._path = where / FILE
        self._history, self._tallies, self._log = history, tallies, log
        self._next = 0.0  # when it may be written again, by a clock that never steps
        self._writing: threading.Thread | None = None
        self._failed: OSError | None = None
        self._told = ""

    def load(self) -> None:
        """Begin where the last daemon ended. Before the first turn."""
        try:
            fd = os.open(self._path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
            with open(fd, "rb") as file:
                data = file.read(READ_MOST)
            self._history.restore(data)
        except FileNotFoundError:
            return
        except (OSError, ValueError) as error:
            self._log("history_left_out", "warning", file=str(self._path), why=str(error))

    def work(self, ticks: int) -> None:
        """After a turn, at ``ticks`` (ms): write what has changed, if the last time was a minute ago."""
        if ticks < self._next or not self._history.changed:
            return
        if self._next:  # the first minute says little
            self._write()
        self._next = ticks + EVERY_MS

    def close(self) -> None:
        """Write all there is, now."""
        self._write()
        if self._writing is not None:
            self._writing.join(WRITTEN_WITHIN_S)
        self._tell()

    def _write(self) -> None:
        self._tell()
        if self._writing is not None:
            self._writing.join(0)
            if self._writing.is_alive():
                return  # the disk is slow: with the next minute
        body = self._history.packed(self._tallies())
        self._writing = threading.Thread(target=self._replace, args=(body,), name="history", daemon=True)
        self._writing.start()

    def _replace(self, body: bytes) -> None:
        """On its own thread."""
        fresh = self._path.with_name(FILE + "-")
        try:
            fd = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
            with open(fd, "wb") as file:
                file.write(sealed(body))
            fresh.replace(self._path)
            self._failed = None
        except OSError as error:
            self._failed = error

    def _tell(self) -> None:
        """Say that it could not be written, once for each reason."""
        why = str(self._failed) if self._failed is not None else ""
        if why != self._told and why:
            self._log("history_not_written", "warning", file=str(self._path), why=why)
        self._told = why

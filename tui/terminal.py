"""The terminal below the monitor: what is read from it wakes nobody until it comes, and one that is gone ends the monitor.

For: ``TerminalDriver``, Textual's own driver with another end and another way of waiting.
Not for: what a key means (Textual, actions), a browser (web), tests, which have no terminal.
Runs in: the monitor; reading and writing each on a thread of Textual's, since a terminal may stall.
Promises: a monitor at rest is woken by no clock of the keyboard (Textual looks ten times a second, a third of what one at rest may
cost); after its terminal was closed nothing is waited for, and the exit code is GONE.
"""

from __future__ import annotations

import os
import select
import selectors
import signal
import sys
import time
from codecs import getincrementaldecoder
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Any, TextIO, cast

from textual import constants
from textual._xterm_parser import XTermParser
from textual.drivers.linux_driver import LinuxDriver

if TYPE_CHECKING:
    from textual.app import App

GONE = 128 + signal.SIGHUP
"""The exit code of a monitor whose terminal was closed."""
HELD = 1 << 16
"""Characters that are gathered before they are written, if no pause comes first."""


class Output:
    """What the thread that writes takes for a file. After the first error ``gone`` was called, and all that comes is dropped: that thread
    must go on to take what it is given, or who gives would wait for ever."""

    def __init__(self, file: TextIO, gone: Callable[[], None]) -> None:
        self._number, self._encoding = file.fileno(), file.encoding
        self._held: list[str] = []
        self._size = 0
        self._gone: Callable[[], None] | None = gone

    def fileno(self) -> int:
        return self._number

    def write(self, text: str) -> None:
        self._held.append(text)
        self._size += len(text)
        if self._size >= HELD:
            self.flush()

    def flush(self) -> None:
        data = "".join(self._held).encode(self._encoding, "backslashreplace")
        self._held, self._size = [], 0
        while data and self._gone is not None:
            try:
                data = data[os.write(self._number, data) :]  # past Python's buffer: what it could not write fails once more at exit
            except BlockingIOError:  # the terminal is another program's too, which will not wait for it
                select.select([], [self._number], [])
            except OSError:
                gone, self._gone = self._gone, None
                gone()


class TerminalDriver(LinuxDriver):
    """See the module's docstring."""

    def __init__(self, app: App[Any], *, debug: bool = False, mouse: bool = True, size: tuple[int, int] | None = None) -> None:
        super().__init__(app, debug=debug, mouse=mouse, size=size)
        self._file = cast("Any", Output(cast("TextIO", sys.__stderr__), self._gone))
        self._wakes, self._waker = os.pipe()

    def _gone(self) -> None:
        """The terminal is not there any more; from any thread."""
        with suppress(RuntimeError):  # the loop has ended already
            self._loop.call_soon_threadsafe(self._app.exit, GONE)

    def run_input_thread(self) -> None:
        """Give what is typed to the application until ``disable_input``, or until there is no terminal."""
        parser = XTermParser(self._debug)
        decode = getincrementaldecoder("utf-8")("replace").decode
        step = constants.ESCAPE_DELAY / 2
        until = 0.0  # an escape may stand for itself, which is known when nothing has come behind it for so long
        with selectors.SelectSelector() as selector:
            selector.register(self.fileno, selectors.EVENT_READ)
            selector.register(self._wakes, selectors.EVENT_READ)
            while True:
                ready = [key.fd for key, _ in selector.select(step if time.monotonic() < until else None)]
                if self._wakes in ready:
                    os.read(self._wakes, 1)
                    return
                if ready:
                    data = self._read()
                    if not data:
                        self._gone()
                        return
                    until = time.monotonic() + 4 * step
                    for event in parser.feed(decode(data)):
                        self.process_message(event)
                for event in parser.tick():
                    self.process_message(event)

    def _read(self) -> bytes:
        """What was typed; nothing once the terminal is gone."""
        try:
            return os.read(self.fileno, 4096)
        except OSError:
            return b""

    def disable_input(self) -> None:
        if self._key_thread is not None and self._key_thread.is_alive():
            os.write(self._waker, b"\0")
        super().disable_input()

    def close(self) -> None:
        super().close()
        os.close(self._wakes)
        os.close(self._waker)

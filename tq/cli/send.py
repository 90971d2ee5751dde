"""``tq send``, and what ``tq run --interactive`` and ``--tty`` pass on: text on its way into a running command.

For: reading it (from the command line, standard input, a terminal) and sending it in parts, as fast as the command reads.
Not for: what the command answers (log), input that is kept with a task.
Runs in: the ``tq`` command; the passing on is a thread of its own, with a connection of its own.
Promises: parts go in order and none twice; the terminal is as it was when ``tq run`` ends; with ``--tty`` each key goes to the
command, Ctrl-C too once that runs, and so does the size of the window.
"""

from __future__ import annotations

import os
import select
import signal
import sys
import termios
import threading
import time
from collections.abc import Iterator
from types import TracebackType
from typing import Any, Self

from tq.cli.options import task_ids
from tq.client import Client
from tq.errors import Refused, TqError, UsageError
from tq.inlet import RECORD_MOST

PATIENCE_S = 10.0
"""How long ``tq send`` waits for a command that reads nothing."""
PAUSE_S = 0.02
INTERRUPT = b"\x03"
_WHY = {
    "over": "is over",
    "waiting": "does not run yet, or not at this moment",
    "closed": "reads its input no more",
    "full": f"has not read what was sent to it for {PATIENCE_S:g} s",
}


def send(client: Client, values: dict[str, Any]) -> int:
    which, *words = values["id_and_text"]
    if len(words) > 1:
        raise UsageError(f"expected an id and one text, got {len(words)} texts. Put it in quotes: tq send 5 'yes, please'")
    if not words and not values["eof"]:
        raise UsageError("expected a text to be sent, or --eof, got none. For example: tq send 5 yes")
    (task_id,) = task_ids(client.call, [which])
    taken = 0
    for part in _parts(words[0], values["exact"]) if words else ():
        _sent(client, task_id, part, end=False, before=taken)
        taken += len(part)
    if values["eof"]:
        _sent(client, task_id, b"", end=True, before=taken)
    return 0


def _parts(text: str, exact: bool) -> Iterator[bytes]:
    if text == "-":
        while data := os.read(0, RECORD_MOST):
            yield data
        return
    data = os.fsencode(text)
    data += b"" if exact or data.endswith(b"\n") else b"\n"
    for at in range(0, len(data), RECORD_MOST):
        yield data[at : at + RECORD_MOST]


def _sent(client: Client, task_id: int, data: bytes, end: bool, before: int) -> None:
    """Send one part, ``before`` which so many bytes were; Refused if the command takes it not, or not in time."""
    until = time.monotonic() + PATIENCE_S
    while (outcome := client.send_input(task_id, data, end=end)) == "full" and time.monotonic() < until:
        time.sleep(PAUSE_S)
    if outcome == "no_input":
        raise UsageError(f"expected a command that was added with --interactive or --tty, got task {task_id}: its input is empty.")
    if outcome != "taken":
        what = f"{before} bytes of what was to be sent were, but not all of it" if before else "what was to be sent was not"
        raise Refused(f"task {task_id} {_WHY.get(outcome, outcome)}: {what}. See `tq status {task_id}`.")


class Passing:
    """Standard input, and with ``tty`` the size of the window, passed on to a task for as long as this is open."""

    def __init__(self, data_dir: str, task_id: int, tty: bool) -> None:
        self._data_dir, self._task_id, self._tty = data_dir, task_id, tty
        self._over = threading.Event()
        self._wake = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._before: list[Any] | None = None
        self._thread = threading.Thread(target=self._pass, name="tq-passing", daemon=True)

    def __enter__(self) -> Self:
        if self._tty and os.isatty(0):
            self._before = termios.tcgetattr(0)
        try:
            if self._before is not None:
                self._give_each_key()
            self._thread.start()
        except BaseException:  # a signal's, too: who has not entered does not leave
            self.__exit__(None, None, None)
            raise
        return self

    def _give_each_key(self) -> None:
        raw = termios.tcgetattr(0)
        raw[0] &= ~(termios.ICRNL | termios.IXON | termios.BRKINT | termios.INPCK | termios.ISTRIP)
        raw[3] &= ~(termios.ECHO | termios.ICANON | termios.IEXTEN | termios.ISIG)
        signal.signal(signal.SIGHUP, self._die)
        termios.tcsetattr(0, termios.TCSADRAIN, raw)
        signal.signal(signal.SIGWINCH, lambda *_: os.eventfd_write(self._wake, 1))

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._over.set()
        os.eventfd_write(self._wake, 1)
        if self._before is not None:
            for number in (signal.SIGWINCH, signal.SIGHUP):
                signal.signal(number, signal.SIG_DFL)
            try:
                termios.tcsetattr(0, termios.TCSADRAIN, self._before)
            except BaseException:  # one more signal, while a slow terminal takes what was written
                termios.tcsetattr(0, termios.TCSANOW, self._before)
                raise

    def _die(self, number: int, _frame: object) -> None:
        """Die of a signal, with the terminal as it was."""
        assert self._before is not None
        termios.tcsetattr(0, termios.TCSANOW, self._before)
        signal.signal(number, signal.SIG_DFL)
        os.kill(os.getpid(), number)

    def _pass(self) -> None:
        poll = select.poll()
        poll.register(0, select.POLLIN)
        poll.register(self._wake, select.POLLIN)
        try:
            with Client(self._data_dir) as client:
                while not self._over.is_set():
                    for fd, _ in poll.poll():
                        if fd == self._wake:
                            os.eventfd_read(fd)
                            going = self._over.is_set() or self._deliver(client, b"", size=window())
                        else:
                            data = os.read(0, RECORD_MOST)
                            going = self._deliver(client, data, end=not data) and bool(data)
                        if not going:
                            return
        except (OSError, TqError):
            return  # the follower has words for it

    def _deliver(self, client: Client, data: bytes, **more: Any) -> bool:
        """Whether it was taken: sent until it is, or the task is over. Where nobody takes keys yet, Ctrl-C is for ``tq run``."""
        while not self._over.is_set():
            outcome = client.send_input(self._task_id, data, **more)
            if outcome not in ("full", "waiting"):
                return outcome == "taken"
            if outcome == "waiting" and self._before is not None:
                while len(data) < RECORD_MOST and select.select([0], [], [], 0)[0] and (typed := os.read(0, RECORD_MOST - len(data))):
                    data += typed
                if INTERRUPT in data:
                    os.kill(os.getpid(), signal.SIGINT)
                    return False
            self._over.wait(PAUSE_S)
        return False


def window() -> tuple[int, int]:
    """(rows, columns) of the terminal that this command is shown on, or of the usual one."""
    for stream in (sys.__stdout__, sys.__stderr__, sys.__stdin__):
        try:
            size = os.get_terminal_size(stream.fileno()) if stream is not None else None
        except (OSError, ValueError):
            continue
        if size is not None and size.lines and size.columns:
            return size.lines, size.columns
    return 24, 80

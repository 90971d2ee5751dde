"""How a function ends that did not end when it was asked: an exception in its thread.

For: knowing which function runs on which thread, and raising ``tq.Stopped`` in one of them.
Not for: commands and coroutines, which have ways of their own; what ends a process (pool).
Runs in: the worker; ``call`` on the thread of the task, ``stop`` on the helper thread.
Promises: the exception is raised once, inside the handler or not at all: never in the worker's own code, in the middle
of a write to the task's output, or in the task after it; a function that is not stopped pays two assignments.

On the main thread it is a signal that raises, because that also ends what waits in the kernel: ``time.sleep``, a read,
``subprocess.run``. Any other thread hears of it at its next step in Python (``PyThreadState_SetAsyncExc``). C code that
never returns hears nothing: the pool ends its process. Processes below a worker in which a function is stopped are killed
where one task runs at a time (``end_what_it_started``), and the worker makes place for another: a ``ProcessPoolExecutor`` that
its modules hold, say, is broken now. Those that the module has started earlier end, too, since what they do for the stopped task
must not go on beside its next attempt. Of several tasks nobody could tell whose they are: there they are left alone.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import threading
from collections.abc import Callable
from types import FrameType
from typing import Any, TypeVar

from tq.board import end_below
from tq.context import Stopped
from tq.worker import capture
from tq.worker.capture import Run

T = TypeVar("T")

SIGNAL = signal.SIGRTMIN
"""Between a worker's own threads."""
_OURS = frozenset({
    "tq.output", "tq.batch", "tq.worker.capture", "tq.worker.progress", "tq.worker.stopping", "tq.worker.together", "logging",
})  # fmt: skip
"""Where an exception would leave something half done: it is raised when that is done, or a moment later. (``logging`` takes
its handlers' locks before the ``try`` that gives them back: one that stays taken would stop every other slot.)"""
_raise_in = ctypes.pythonapi.PyThreadState_SetAsyncExc
_raise_in.argtypes = (ctypes.c_ulong, ctypes.py_object)


def _half_done(frame: FrameType | None) -> bool:
    """Whether the thread whose innermost frame this is must not be interrupted just now."""
    while frame is not None:
        if frame.f_globals.get("__name__") in _OURS and frame.f_code is not Stopping.call.__code__:
            return True
        frame = frame.f_back
    return False


def end_what_it_started() -> bool:
    """Kill the processes below this one, where one task runs at a time: a function that did not end by itself left them, or
    they work for it. Whether there were any."""
    killed = end_below(os.getpid())
    for pid in killed:
        try:
            os.waitpid(pid, os.WNOHANG)  # not to be seen as a zombie, if it is our own child and gone already
        except ChildProcessError:
            continue
    return bool(killed)


class Stopping:
    """The functions that run in this process. Made by the main thread."""

    def __init__(self) -> None:
        self.inside: Run | None = None
        """What runs on the main thread, where tasks run one at a time: set around the handler's call, and nothing else."""
        self._main = threading.get_ident()
        self._threads: dict[Run, int] = {}
        self._lock = threading.Lock()
        signal.signal(SIGNAL, self._on_signal)
        capture.catch_up = self._catch_up

    def stop(self, run: Run) -> bool:
        """Raise Stopped in the function of ``run``; False: it has not been raised yet, ask again."""
        if run.over or run.stopped:
            return True
        if self.inside is run:
            signal.pthread_kill(self._main, SIGNAL)
            return False  # the main thread will say so
        with self._lock:
            thread = self._threads.get(run)
            if thread is not None and not run.stopped:
                run.overdue = _half_done(sys._current_frames().get(thread))
                if not run.overdue:
                    run.stopped = True
                    _raise_in(thread, ctypes.py_object(Stopped))
        return run.stopped

    def _on_signal(self, _number: int, frame: FrameType | None) -> None:
        run = self.inside
        if run is None or not run.cancelled or run.stopped:
            return
        run.overdue = _half_done(frame)
        if not run.overdue:
            run.stopped = True
            raise Stopped

    def _catch_up(self, run: Run) -> None:
        """On the task's thread, when what was half done is done: raise what could not be raised before."""
        here = threading.get_ident()
        with self._lock:
            run.overdue = False
            if run.stopped or not (self.inside is run if here == self._main else self._threads.get(run) == here):
                return
            run.stopped = True
        raise Stopped

    def call(self, run: Run, function: Callable[..., T], *args: Any) -> T:
        """``function(*args)`` on a thread of its own, where ``stop`` reaches it."""
        with self._lock:
            self._threads[run] = threading.get_ident()
        try:
            return function(*args)
        finally:
            try:
                self._leave(run)
            except Stopped:  # it was raised once, so this time it cannot be
                self._leave(run)

    def _leave(self, run: Run) -> None:
        """From here on nothing is raised any more, not even what was asked for a moment ago."""
        with self._lock:
            thread = self._threads.pop(run, None)
        if thread is not None and run.stopped:
            _hear_out(thread)


class _Over(BaseException):
    """Takes the place of an exception that is on its way to a thread and must not arrive any more."""


def _hear_out(here: int) -> None:
    """Let nothing be on its way to this thread.

    Taking back what is pending (a null exception) would not do: up to Python 3.12 the interpreter then believes for good that
    something is, looks for it at every step, and in 3.11 never gets past the start of a function that is traced.
    """
    try:
        while True:
            _raise_in(here, ctypes.py_object(_Over))  # again, if what another thread heard made the interpreter forget ours
    except _Over:
        return

"""The loop: sleeps until a descriptor is ready, a signal came or a time is reached, and calls who asked.

For: epoll, signals as events; the one place where the daemon sleeps.
Not for: what to do (daemon), timers of its own (the caller says how long it may sleep).
Runs in: the daemon, on its one busy thread.
Promises: level-triggered, so what was not read is offered again; a handler may remove itself or others while it runs;
an idle loop makes no system call.
"""

from __future__ import annotations

import os
import select
import signal
from collections.abc import Callable

READ, WRITE = select.EPOLLIN, select.EPOLLOUT
Handler = Callable[[int], None]


class Loop:
    """Descriptors and signals. ``poll`` is one wait."""

    def __init__(self) -> None:
        self._epoll = select.epoll()
        self._handlers: dict[int, Handler] = {}
        self._signals: dict[int, Callable[[], None]] = {}
        self.woke: Callable[[], None] = lambda: None
        """Called after each sleep, before the handlers: the time is another one."""
        self._wake_read, self._wake_write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self.add(self._wake_read, self._on_signal)

    def add(self, fd: int, handler: Handler, events: int = READ) -> None:
        """Call ``handler(events)`` whenever ``fd`` is ready."""
        self._handlers[fd] = handler
        self._epoll.register(fd, events)

    def change(self, fd: int, events: int) -> None:
        self._epoll.modify(fd, events)

    def remove(self, fd: int) -> None:
        """Before ``fd`` is closed. Unknown ones are ignored."""
        if self._handlers.pop(fd, None) is not None:
            self._epoll.unregister(fd)

    def on_signal(self, number: signal.Signals, handler: Callable[[], None]) -> None:
        """Call ``handler`` from the loop, never in the middle of other work. Main thread only."""
        self._signals[number] = handler
        signal.signal(number, lambda *_: None)
        signal.set_wakeup_fd(self._wake_write, warn_on_full_buffer=False)

    def _on_signal(self, _: int) -> None:
        for number in os.read(self._wake_read, 256):
            if number in self._signals:
                self._signals[number]()

    def poll(self, timeout_s: float | None) -> None:
        """Sleep at most ``timeout_s`` (None: for ever), then call the handlers of what is ready."""
        ready = self._epoll.poll(-1 if timeout_s is None else max(timeout_s, 0.0))
        self.woke()
        for fd, events in ready:
            handler = self._handlers.get(fd)
            if handler is not None:
                handler(events)

    def close(self) -> None:
        signal.set_wakeup_fd(-1)
        self._epoll.close()
        os.close(self._wake_read)
        os.close(self._wake_write)

"""Noticing that the application's files have changed, for ``tq daemon start --reload``.

For: telling the loop, at most once a second, that a file that workers imported is not what it was.
Not for: what is done about it (daemon); production, where a deployment says ``tq worker restart``.
Runs in: the daemon, on a thread of its own that only sleeps and asks for times of files.
Promises: a file that is gone for a moment, as editors have it, is no change until it is back; nothing is read.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterable

LOOK_S = 1.0


class Watcher(threading.Thread):
    """``wake`` can be read when something has changed; read it, then ask for ``changed``."""

    def __init__(self) -> None:
        super().__init__(name="reload", daemon=True)
        self.wake = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._known: dict[str, int] = {}
        self._changed: set[str] = set()
        self._over = threading.Event()
        self._lock = threading.Lock()

    def watch(self, files: Iterable[str]) -> None:
        """Look after these, too. Those that were known are compared with what they were."""
        with self._lock:
            for file in files:
                if file not in self._known:
                    self._known[file] = _time(file)

    def run(self) -> None:
        while not self._over.wait(LOOK_S):
            self.look()

    def look(self) -> None:
        """Compare each file with what it was."""
        with self._lock:
            found = {file: now for file, was in self._known.items() if (now := _time(file)) not in (0, was)}
            self._known |= found
            self._changed |= found.keys()
        if found:
            os.eventfd_write(self.wake, 1)

    def changed(self) -> list[str]:
        """What has changed since this was last asked."""
        os.eventfd_read(self.wake)
        with self._lock:
            found, self._changed = sorted(self._changed), set()
        return found

    def close(self) -> None:
        self._over.set()
        if self.is_alive():
            self.join()
        os.close(self.wake)


def _time(file: str) -> int:
    """When it was written last, in ns; 0 if it is not there."""
    try:
        return os.stat(file).st_mtime_ns
    except OSError:
        return 0

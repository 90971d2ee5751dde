"""The spool: what a command is to read from its standard input, kept on disk beside the store.

For: writing it before the task is sent, opening it for each attempt, removing it with the task, and what nobody needs any more.
Not for: what is sent to a command that runs (``tq.inlet``), the store: a task has only the name of its input.
Runs in: the ``tq`` command (writes), workers (read), the daemon (removes).
Promises: who has the name has all of it, synced, as it was read; nobody but this user can read it; each attempt reads it from its
beginning; a name leads nowhere but into ``DATA_DIR/stdin``.

The command line writes there itself: it is on this machine, of this user, and the daemon's loop is not for megabytes. What a client
has written and never sent (it died, say) is removed when a daemon starts, once it is an hour old; a client that waits for room says
at each try that it is still there.
"""

from __future__ import annotations

import os
from contextlib import suppress

from tq.errors import UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection

MOST = 64 << 20
"""Bytes of one input, unless its sender says otherwise."""
NAME = 32
"""Hexadecimal digits of a name."""
YOUNG_S = 3600.0
_CHUNK = 1 << 20


def is_input(name: object) -> bool:
    return isinstance(name, str) and len(name) == NAME and name.isascii() and name.isalnum()


def _place(data_dir: str) -> str:
    return os.path.join(data_dir, "stdin")


def keep(data_dir: str, source: int, most: int = MOST) -> str:
    """Write all that can be read from the descriptor ``source``; its name. UsageError: it is more than ``most`` bytes; OSError."""
    place, name = _place(data_dir), os.urandom(NAME // 2).hex()
    with suppress(FileExistsError):
        os.mkdir(place, 0o700)
    file = os.open(os.path.join(place, name), os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        size = 0
        while data := os.read(source, _CHUNK):
            size += len(data)
            if size > most:
                raise UsageError(f"--stdin: expected at most {most} bytes, got more. Nothing was stored. Allow more: --max-stdin 1G.")
            left = memoryview(data)
            while left:
                left = left[os.write(file, left) :]
        os.fsync(file)
        directory = os.open(place, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)
    except BaseException:
        forget(data_dir, name)
        raise
    finally:
        os.close(file)
    return name


def opened(data_dir: str, name: str) -> int:
    """A descriptor that reads this input from its beginning. OSError: it is gone."""
    return os.open(os.path.join(_place(data_dir), name), os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)


def hold(data_dir: str, name: str) -> None:
    """The task of this input is still on its way: it is as good as new."""
    with suppress(OSError):
        os.utime(os.path.join(_place(data_dir), name))


def forget(data_dir: str, name: str) -> None:
    """Remove an input; a name that is none, out of a damaged store, removes nothing."""
    if is_input(name):
        with suppress(OSError):
            os.unlink(os.path.join(_place(data_dir), name))


def names(data_dir: str) -> list[str]:
    """The inputs there are."""
    try:
        return [name for name in os.listdir(_place(data_dir)) if is_input(name)]
    except OSError:
        return []


def sweep(data_dir: str, needed: Collection[str], now_s: float) -> int:
    """Remove inputs that no task needs, but for those whose task may be on its way; how many."""
    gone = 0
    for name in names(data_dir):
        try:
            young = now_s - os.stat(os.path.join(_place(data_dir), name)).st_mtime < YOUNG_S
        except OSError:
            continue
        if name not in needed and not young:
            forget(data_dir, name)
            gone += 1
    return gone

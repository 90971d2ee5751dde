"""The page a worker shares with its parent: what it had begun, and which commands are its own.

For: knowing exactly, after any death, which tasks a worker had begun and which process groups to end. The page is
     a file mapped by both sides, so it outlives kill -9 of the worker, of the daemon, or of both.
Not for: results (they travel), locks, anything that must survive a power cut (a boot ends every process anyway).
Runs in: the worker (writes) and the daemon (reads; makes the file; ends what a dead worker left behind).
Promises: a token is on the board before the user's code runs and a command's group before anything else can go
wrong; one writer per word, so a reader never sees half of one; ``end_group`` never touches a process of others
that was given an old number again.

The file is ``DATA_DIR/run/<worker>.board``, mode 0600: 64-bit words of the machine's own byte order.

    word 0         MAGIC                      word 5..7      reserved, 0
    word 1         the machine's boot         8..1031        ring: the last 1024 begun tokens
    word 2         the worker's pid           1032..2055     the token each slot has begun last
    word 3         its start in clock ticks   2056..5127     commands: (process group, or STARTING; its start in ticks;
    word 4         how many were begun                             the mark in its environment)

A token is ``id << 16 | claim & 0xffff``, never 0. The ring tells what was begun and perhaps not answered; the slots
tell what was begun so long ago that the ring has forgotten it.
"""

from __future__ import annotations

import mmap
import os
import signal
import threading
from pathlib import Path
from typing import NamedTuple

from tq.errors import ConfigError

MAGIC = 0x7471_626F_6172_6402  # "tqboard", layout 2
RING = 1024
SLOTS = 1024
COMMANDS = 1024
_BOOT, _PID, _TICKS, _COUNT, _RING = 1, 2, 3, 4, 8
_SLOTS = _RING + RING
_COMMANDS = _SLOTS + SLOTS
_EACH = 3
_END = _COMMANDS + _EACH * COMMANDS
SIZE = _END * 8
STARTING = 1 << 63
"""In place of a process group: the worker does not know it yet."""
_PASSES = 20


def machine() -> int:
    """This boot of this machine as a 64-bit number: process numbers mean nothing beyond it."""
    with open("/proc/sys/kernel/random/boot_id", "rb") as file:  # a random UUID: its first half will do
        return int(file.read().replace(b"-", b"")[:16], 16)


class Board:
    """One worker's page. ``begin`` is for one thread at a time; the rest may be called from any."""

    __slots__ = ("_lock", "_map", "_words", "fd")

    def __init__(self, fd: int) -> None:
        self.fd = fd
        self._map = mmap.mmap(fd, SIZE)
        self._words = memoryview(self._map).cast("Q")
        self._lock = threading.Lock()

    @classmethod
    def create(cls, path: Path) -> Board:
        """A new, empty board at ``path``; one that was there is emptied. OSError: there is no room for it."""
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        try:
            os.posix_fallocate(fd, 0, SIZE)  # with its blocks: on a full disk the first word into a hole would be a SIGBUS
        except OSError:
            os.close(fd)
            path.unlink()
            raise
        board = cls(fd)
        board._words[_BOOT] = machine()
        board._words[0] = MAGIC
        return board

    @classmethod
    def open(cls, path: Path) -> Board:
        """The board at ``path``; ConfigError if it is not one."""
        return cls.attach(os.open(path, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW))

    @classmethod
    def attach(cls, fd: int) -> Board:
        """The board behind a descriptor, which is the board's from here on; ConfigError if it is not one."""
        size = os.fstat(fd).st_size
        if size == SIZE:
            board = cls(fd)
            if board._words[0] == MAGIC:
                return board
            board.close()
        else:
            os.close(fd)
        raise ConfigError(
            f"expected a worker's board of {SIZE} bytes, got a file of {size} that is none. Remove it from the run directory."
        )

    def close(self) -> None:
        self._words.release()
        self._map.close()
        os.close(self.fd)

    # what was begun

    @staticmethod
    def token(task_id: int, claim: int) -> int:
        return (task_id << 16 | claim & 0xFFFF) & 0xFFFF_FFFF_FFFF_FFFF

    def begin(self, task_id: int, claim: int, slot: int = -1) -> None:
        """Say that the user's code of this claim starts now. ``slot``: its number where there are several."""
        words = self._words
        count = words[_COUNT]
        words[_RING + count % RING] = token = (task_id << 16 | claim & 0xFFFF) & 0xFFFF_FFFF_FFFF_FFFF
        words[_COUNT] = count + 1
        if slot >= 0:
            words[_SLOTS + slot % SLOTS] = token

    def begun(self) -> set[int]:
        """The tokens the board remembers: the last 1024 and each slot's last."""
        return set(self._words[_RING:_COMMANDS]) - {0}

    @property
    def count(self) -> int:
        """How many tasks were begun in all."""
        return self._words[_COUNT]

    # who the worker is

    @property
    def machine(self) -> int:
        """The boot in which the board was made; if it is not ``machine()``, its numbers mean nothing any more."""
        return self._words[_BOOT]

    def set_worker(self, pid: int, ticks: int) -> None:
        self._words[_TICKS] = ticks
        self._words[_PID] = pid

    def worker(self) -> tuple[int, int]:
        """(pid, start in clock ticks) of the worker; (0, 0) before it was started."""
        return self._words[_PID], self._words[_TICKS]

    # the commands it runs

    def command_starting(self, mark: int) -> None:
        """Say that a command is about to be started with ``TQ_COMMAND=<mark in hex>`` in its environment.

        ConfigError beyond ``COMMANDS`` of them at once.
        """
        words = self._words
        with self._lock:
            for at in range(_COMMANDS, _END, _EACH):
                if not words[at]:
                    words[at + 2] = mark
                    words[at] = STARTING
                    return
        raise ConfigError(f"expected at most {COMMANDS} commands at once in a worker, got one more. Lower --slots.")

    def command_started(self, mark: int, pgid: int, ticks: int) -> None:
        """The command of that mark leads this process group, and started at ``ticks``; a group of 0: it did not start."""
        words = self._words
        with self._lock:
            for at in range(_COMMANDS, _END, _EACH):
                if words[at] == STARTING and words[at + 2] == mark:
                    words[at + 1] = ticks
                    words[at] = pgid
                    return

    def command_ended(self, pgid: int) -> None:
        words = self._words
        with self._lock:
            for at in range(_COMMANDS, _END, _EACH):
                if words[at] == pgid:
                    words[at] = 0
                    return

    def commands(self) -> list[tuple[int, int, int]]:
        """The commands that have not ended: (process group, start in ticks, mark); STARTING stands for a group not known yet."""
        words = self._words
        return [(words[at], words[at + 1], words[at + 2]) for at in range(_COMMANDS, _END, _EACH) if words[at]]


def _stat(pid: int | str) -> list[bytes] | None:
    """The fields of /proc/PID/stat behind the name, from the state (field 3) on; None if there is no such process."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            return file.read().rpartition(b")")[2].split()
    except OSError:
        return None


def start_ticks(pid: int) -> int | None:
    """When the process started, in clock ticks since boot (with the pid: its identity); None if there is none."""
    fields = _stat(pid)
    return int(fields[19]) if fields else None


def end_group(pgid: int, ticks: int) -> list[int]:
    """Kill every process of the session that ``pgid`` leads or led; the pids that were killed.

    Commands (and workers) are started in sessions of their own, so the session is what they and their children are.
    Nothing happens if the number now belongs to another process (other start ``ticks``). The kernel does not give a
    number away while a session still bears it; what made a session of its own is for ``sessions_below`` and ``end_command``.
    """
    killed: dict[int, None] = {}
    if start_ticks(pgid) not in (None, ticks):
        return []
    for _ in range(_PASSES):  # again, for those that were forked while we looked
        members = [int(name) for name in os.listdir("/proc") if name.isdigit() and _in_session(name, pgid, ticks)]
        if not members:
            break
        for pid in members:
            if _kill(pid, pgid, ticks):
                killed[pid] = None
    return list(killed)


def end_command(pgid: int, ticks: int, mark: int) -> list[int]:
    """Kill a command and all it started: its session, and every other whose environment bears its mark; the pids killed.

    ``pgid`` may be STARTING: its worker died as it started it. A process that made a session of its own is found as long
    as it kept the environment it was given.
    """
    killed = dict.fromkeys([] if pgid == STARTING else end_group(pgid, ticks))
    for _ in range(_PASSES):
        sessions = _marked(mark)
        if not sessions:
            break
        killed |= dict.fromkeys(pid for sid, since in sessions for pid in end_group(sid, since))  # one may take a moment to die
    return [*killed]


def _marked(mark: int) -> set[tuple[int, int]]:
    """(session, start in ticks) of living processes whose environment bears the mark of a command."""
    wanted = f"TQ_COMMAND={mark:x}".encode()
    found = set()
    for name in os.listdir("/proc"):
        try:
            with open(f"/proc/{name}/environ", "rb") as file:
                marked = name.isdigit() and wanted in file.read().split(b"\0")
        except OSError:
            continue
        fields = _stat(name) if marked else None
        if fields is not None and fields[0] not in (b"Z", b"X"):
            sid = int(fields[3])
            found.add((sid, start_ticks(sid) or int(fields[19])))
    return found


class Below(NamedTuple):
    """A living descendant of a process, and the session it belongs to."""

    pid: int
    session: int
    ticks: int


def below(pid: int) -> list[Below]:
    """The living descendants of ``pid``. Ask before it ends: what is orphaned is nobody's descendant any more."""
    children: dict[int, list[Below]] = {}
    for name in os.listdir("/proc"):
        fields = _stat(name) if name.isdigit() else None
        if fields is not None and fields[0] not in (b"Z", b"X"):
            children.setdefault(int(fields[1]), []).append(Below(int(name), int(fields[3]), int(fields[19])))
    found: list[Below] = []
    left = [pid]
    while left:
        found += (more := children.get(left.pop(), []))
        left += [child.pid for child in more]
    return found


def sessions_below(pid: int) -> list[tuple[int, int]]:
    """(session, start in ticks), as ``end_group`` takes them, of descendants of ``pid`` that left its session."""
    own = _stat(pid)
    found: dict[int, int] = {}
    for child in below(pid):
        if own is not None and child.session != int(own[3]):
            found[child.session] = min(child.ticks, found.get(child.session, child.ticks))
    return [(sid, start_ticks(sid) or since) for sid, since in found.items()]


def end_below(pid: int) -> list[int]:
    """Kill the descendants of ``pid``, whatever session they are in; the pids that were killed."""
    killed: dict[int, None] = {}
    for _ in range(_PASSES):  # again, for those that were forked while we looked
        found = below(pid)
        if not found:
            break
        killed |= {child.pid: None for child in found if _kill(child.pid, child.session, child.ticks)}
    return list(killed)


def _in_session(pid: int | str, sid: int, ticks: int) -> bool:
    """Whether the process lives (zombies do not), belongs to the session and did not start before its leader."""
    fields = _stat(pid)
    return fields is not None and int(fields[3]) == sid and fields[0] not in (b"Z", b"X") and int(fields[19]) >= ticks


def _kill(pid: int, sid: int, ticks: int) -> bool:
    try:
        handle = os.pidfd_open(pid)
    except OSError:
        return False
    try:  # the handle names one process for good, so look again through it before the signal
        if _in_session(pid, sid, ticks):
            signal.pidfd_send_signal(handle, signal.SIGKILL)
            return True
        return False
    except OSError:
        return False
    finally:
        os.close(handle)

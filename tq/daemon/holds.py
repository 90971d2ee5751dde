"""Queues that are held while the load, the free memory or a probe command says so.

For: looking at what the rules of queues compare, running their probes, saying which queues are held and why.
Not for: keeping the rules (store), handing nothing out (store, told by the broker), words for people beside the reason (cli).
Runs in: the daemon, on the thread of its loop; probes are processes of their own.
Promises: nothing is looked at and no probe runs unless a task of such a queue could start; load and memory are read once a second
at most, a probe runs once in ``hold_every_ms`` at most; a queue of which nothing is known, or which nobody has waited for since what was
known became old, is held until it is known; no probe outlives its limit or the daemon's end (if that was killed: the start of the
next one), nor does what it has started in its process group; it is an event when a queue becomes held and when it is let go, however
often it is looked at.

A probe is a line for /bin/sh: exit code 0 lets tasks start, anything else holds them. Its directory is the data directory, its
environment the daemon's, with TQ_DATA_DIR and TQ_QUEUE; what it reads is empty, what it writes goes nowhere. While it runs again,
what it said last holds; while the load or the memory holds the queue it is not run.
"""

from __future__ import annotations

import math
import os
import signal
import subprocess
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from tq.board import Board, start_ticks
from tq.broker import Broker
from tq.broker.desk import Hold
from tq.errors import ConfigError
from tq.loop import Loop
from tq.store import QueueInfo, Store

BOARD = "probes.board"
"""In ``run/``: what ends probes, with the daemon's next start, that outlived one that was killed."""
EACH_MS = 1000
"""How long a reading of load and memory counts."""
LIMIT_MS = 10_000
"""How long a probe may run."""
END_S = 5.0
"""How long the daemon's end waits for probes that were killed."""
UNKNOWN = Hold((), "nobody has looked yet")
ASKED = Hold((), "its probe has not answered yet")


class Reading(NamedTuple):
    """The load average of the last minute, and bytes of memory that are available; None: it cannot be read."""

    load: float | None
    memory: int | None


def read() -> Reading:
    """What the kernel says now."""
    try:
        load = os.getloadavg()[0]
    except OSError:
        load = None
    try:
        lines = Path("/proc/meminfo").read_bytes().splitlines()
        memory = next((int(line.split()[1]) << 10 for line in lines if line.startswith(b"MemAvailable:")), None)
    except (OSError, ValueError, IndexError):
        memory = None
    return Reading(load, memory)


class Probe:
    """One run of a probe, in a session of its own, which stands on ``board``. OSError, ConfigError: it cannot be started."""

    def __init__(self, line: str, place: Path, environ: Mapping[str, str], board: Board, kill_at: int) -> None:
        mark, null = int.from_bytes(os.urandom(8), "big") | 1, subprocess.DEVNULL
        environ = {**environ, "TQ_COMMAND": f"{mark:x}"}
        self._board = board
        board.command_starting(mark)
        try:
            self._process = subprocess.Popen(
                ["/bin/sh", "-c", line], stdin=null, stdout=null, stderr=null, cwd=place, env=environ, start_new_session=True
            )
        except BaseException:
            board.command_started(mark, 0, 0)
            raise
        board.command_started(mark, self._process.pid, start_ticks(self._process.pid) or 0)
        try:
            self.pidfd = os.pidfd_open(self._process.pid)
        except OSError:
            self.kill()
            self._process.wait()
            board.command_ended(self._process.pid)
            raise
        self.kill_at: float = kill_at
        self.counts = True
        """Whether anybody wants to know how it ends."""

    def kill(self) -> None:
        """Its process group; its own number is taken until it was reaped."""
        self.kill_at = math.inf
        try:
            os.killpg(self._process.pid, signal.SIGKILL)
        except OSError:  # nobody is left, or another user's
            pass

    def reap(self, within_s: float = 0) -> int | None:
        """Once it has ended: its exit code, less than 0 the signal; None if it has not within the time. What it leaves is killed."""
        self.kill()
        os.close(self.pidfd)
        try:
            code = self._process.wait(within_s)
        except subprocess.TimeoutExpired:  # nothing ends it: it is left to who reaps orphans
            return None
        self._board.command_ended(self._process.pid)
        return code


@dataclass(slots=True)
class _Line:
    """A queue with rules; instants are ticks (ms)."""

    info: QueueInfo
    hold: Hold | None = UNKNOWN
    due_at: float = -math.inf
    """When it is to be looked at, if its tasks could start."""
    answer: Hold | None = ASKED
    """What its probe said last; None: go."""
    answered_at: float = -math.inf
    probe: Probe | None = None
    """The one that runs."""
    exit_code: int | None = None
    """Of one that has just ended."""
    told: bool = False
    """Whether the last event was that it is held."""
    words: list[str] = field(default_factory=list)
    """What it was last seen by."""

    def forget(self) -> None:
        """What the probe said is no longer known."""
        self.answer, self.answered_at = ASKED, -math.inf


class Holds:
    """Holds of one daemon. ``look`` is to be called before each turn, ``due_at`` says when one is needed."""

    def __init__(
        self, loop: Loop, broker: Broker, store: Store, place: Path, environ: Mapping[str, str], sight: Callable[[], Reading] = read
    ) -> None:  # fmt: skip
        self._loop, self._broker, self._store = loop, broker, store
        self._path = place / "run" / BOARD
        self._place, self._environ, self._sight = place, {**environ, "TQ_DATA_DIR": str(place)}, sight
        self._lines: dict[str, _Line] = {}
        self._probes: set[Probe] = set()
        self._board: Board | None = None  # made with the first probe
        self._stale = True  # the rules in the store are others than those here
        self._stopped = False
        self._seen = Reading(None, None)
        self._seen_at = -math.inf  # by the ticks
        self._wall = 0  # the same by the wall clock
        broker.desk.holds_changed = self._changed

    # -- the loop --------------------------------------------------------------------------------------------------

    @property
    def due_at(self) -> float | None:
        """The tick (ms) at which something is to be looked at or killed if nothing arrives; None: never."""
        if not (self._lines or self._probes or self._stale):
            return None
        times = [probe.kill_at for probe in self._probes]
        if not self._stopped:
            times += [-math.inf] if self._stale else []
            times += [line.due_at for name, line in self._lines.items() if self._store.would_start(name)]
        due = min(times, default=math.inf)
        return None if due == math.inf else due

    def look(self, ticks: int, now: int) -> None:
        """Look at what is due and hold queues accordingly; between two turns. ``now``: the same by the wall clock."""
        if self._stopped:
            return
        if self._stale:
            self._read_rules()
        if not self._lines:
            return
        held = {}
        for name, line in self._lines.items():
            self._hear(line, ticks, now)
            line.hold = self._judge(line, ticks, now)
            self._tell(name, line)
            if line.hold is not None:
                held[name] = line.hold
        if held != self._broker.desk.held:
            self._broker.hold_queues(held)

    def stop(self) -> None:
        """Nothing starts any more: no probe is needed."""
        self._stopped = True
        for line in self._lines.values():
            self._drop(line)

    def close(self) -> None:
        """The daemon's end; it waits for what was killed, but not for ever."""
        self.stop()
        for probe in self._probes:
            self._loop.remove(probe.pidfd)
            probe.reap(END_S)
        self._probes.clear()
        if self._board is not None:
            left = self._board.commands()
            self._board.close()
            self._board = None
            if not left:
                self._path.unlink(missing_ok=True)

    # -- rules -----------------------------------------------------------------------------------------------------

    def _changed(self, name: str) -> None:
        """In a turn: a queue has other rules. One that had none is held from now on, since nobody has looked."""
        self._stale = True
        if name not in self._lines and not self._stopped:
            self._lines[name] = _Line(QueueInfo(name))
            self._broker.hold_queues({**self._broker.desk.held, name: UNKNOWN})

    def _read_rules(self) -> None:
        """Take over the rules as they are stored."""
        self._stale = False
        infos = {name: info for name, info in self._store.queues().items() if info.has_holds}
        for name in self._lines.keys() - infos.keys():
            line = self._lines.pop(name)
            self._drop(line)
            if line.told:
                self._broker.note("let_go", name, None, {"why": "it has no rule any more"})
        for name, info in infos.items():
            line = self._lines.setdefault(name, _Line(info))
            if info.hold_probe != line.info.hold_probe:
                self._drop(line)
            line.info = info
        if not self._lines:
            self._broker.hold_queues({})

    def _tell(self, name: str, line: _Line) -> None:
        """Note that it is held, or no more; what is not known changes nothing."""
        if line.hold is not None and line.hold.rules and not line.told:
            self._broker.note("held", name, None, {"why": line.hold.why})
            line.told = True
        elif line.hold is None and line.told:
            self._broker.note("let_go", name, None, {"why": "; ".join(line.words)})
            line.told = False

    # -- judging ---------------------------------------------------------------------------------------------------

    def _judge(self, line: _Line, ticks: int, now: int) -> Hold | None:
        """What holds a queue now; None: nothing."""
        info, waits = line.info, self._store.would_start(line.info.name)
        line.due_at, line.words = math.inf, []
        old = ticks - line.answered_at >= info.hold_every_ms
        if info.hold_load is not None or info.hold_memory is not None:
            if waits and ticks - self._seen_at >= EACH_MS:
                self._seen, self._seen_at, self._wall = self._sight(), ticks, now
            line.due_at = self._seen_at + EACH_MS
            unknown = ticks >= line.due_at
            rules = () if unknown else self._compare(line)
            if unknown or rules:
                if old:
                    line.forget()
                return Hold(rules, "; ".join(line.words), self._wall) if rules else UNKNOWN
        if info.hold_probe is None:
            return None
        if old and not waits:
            line.forget()
        elif old and line.probe is None:
            self._start(line, info.hold_probe, ticks, now)
        if line.probe is None:
            line.due_at = min(line.due_at, line.answered_at + info.hold_every_ms)
        line.words.append("its probe says go")
        return line.answer

    def _compare(self, line: _Line) -> tuple[str, ...]:
        """The rules that hold a queue by what was seen, and in ``words`` what that was: of those alone, if there are any."""
        load, memory = self._seen
        found = []
        if (most := line.info.hold_load) is not None:
            text = "the load cannot be read" if load is None else f"the load is {load:.2f}, it starts below {most:g}"
            found.append(("load", text, load is None or load >= most))
        if (least := line.info.hold_memory) is not None:
            text = "" if memory is None else f"the memory available is {_size(memory)}, it starts from {_size(least)} on"
            found.append(("memory", text or "the memory cannot be read", memory is None or memory < least))
        holding = tuple(rule for rule, _, holds in found if holds)
        line.words = [text for rule, text, _ in found if not holding or rule in holding]
        return holding

    # -- probes ----------------------------------------------------------------------------------------------------

    def _start(self, line: _Line, command: str, ticks: int, now: int) -> None:
        try:
            self._board = self._board or Board.create(self._path)
            environ = {**self._environ, "TQ_QUEUE": line.info.name}
            probe = Probe(command, self._place, environ, self._board, ticks + LIMIT_MS)
        except (OSError, ValueError, ConfigError) as error:
            self._answer(line, f"its probe cannot be started: {error}", ticks, now)
            return
        line.probe = probe
        self._probes.add(probe)
        self._loop.add(probe.pidfd, lambda _: self._ended(probe, line))

    def _ended(self, probe: Probe, line: _Line) -> None:
        """From the loop, which then comes to ``look``."""
        self._loop.remove(probe.pidfd)
        self._probes.discard(probe)
        code = probe.reap()
        if line.probe is probe:
            line.probe, line.exit_code = None, code if probe.counts else None

    def _hear(self, line: _Line, ticks: int, now: int) -> None:
        """What a probe has said, or has not in its time."""
        code, line.exit_code = line.exit_code, None
        if code is not None:
            words = f"says no (exit code {code})" if code >= 0 else f"was ended by signal {-code}"
            self._answer(line, f"its probe {words}" if code else "", ticks, now)
        elif line.probe is not None and ticks >= line.probe.kill_at:
            line.probe.kill()
            line.probe.counts = False
            self._answer(line, f"its probe did not end within {LIMIT_MS // 1000} s", ticks, now)

    def _answer(self, line: _Line, why: str, ticks: int, now: int) -> None:
        line.answer = Hold(("probe",), why, now) if why else None
        line.answered_at = ticks

    def _drop(self, line: _Line) -> None:
        """Nobody waits for what its probe says."""
        if line.probe is not None:
            line.probe.kill()
            line.probe = None
        line.exit_code = None
        line.forget()


def _size(size: int) -> str:
    """Bytes in words: 1.4 GiB."""
    shift = 30 if size >= 1 << 30 else 20
    return f"{size / (1 << shift):.1f} {'GiB' if shift == 30 else 'MiB'}"

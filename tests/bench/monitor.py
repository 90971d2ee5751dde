"""The monitor on a terminal: how soon it is there, how soon it is elsewhere, what it costs, and what the daemon pays for it.

For: the bars of ``tq monitor`` that a person feels, and those of the daemon below it.
Not for: how soon the daemon finds a page (scale), what is drawn how often (tests/tui count that exactly).
Runs in: the process that measures; the monitor in one of its own, on a terminal of 120 by 36 that a thread reads empty.
Promises: with and without a monitor are measured in turn in the same load; shares are of processor time that the kernel counted; a jump
has ended when its rows have come through the terminal, not when the monitor believes that it has drawn them.
"""

from __future__ import annotations

import fcntl
import os
import pty
import re
import struct
import subprocess
import sys
import termios
import threading
import time
from collections.abc import Iterator
from statistics import median, quantiles
from typing import Self

import psutil

from tests.bench.bars import ROOT, Bar, Size, at_most
from tq.bench import LATER, instance
from tq.client import Client

WITHIN_S = 60.0
QUIET_S = 0.05
MOST_ROWS = 20
"""Rows of the list that must be others after a jump; some more are on the screen."""
EVENTS_PER_S, EVENTS_A_TASK = 2000, 3
PAGE_UP, PAGE_DOWN = b"\x1b[5~", b"\x1b[6~"
"""Two of them: the first may do no more than take the cursor to the other end of the screen."""
_STYLE, _MOVE, _ROW = re.compile(rb"\x1b\[[0-9;]*m"), re.compile(rb"\x1b\[[0-9;?]*[A-Za-ln-z]"), re.compile("([0-9]+) +◷".encode())


def cpu_s(pid: int) -> float:
    """Seconds of CPU of one process, in all."""
    return sum(psutil.Process(pid).cpu_times()[:2])


class Terminal:
    """A monitor of the instance at ``data_dir``, from its start until the block ends. ``seen``: all bytes that it has sent."""

    def __init__(self, data_dir: str) -> None:
        self._data_dir, self.seen = data_dir, bytearray()
        self._listed: set[int] = set()
        self._more = threading.Condition()

    def __enter__(self) -> Self:
        ours, theirs = pty.openpty()
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 36, 120, 0, 0))
        env = {**os.environ, "PYTHONPATH": str(ROOT), "TERM": "xterm-256color", "COLORTERM": "truecolor", "LC_ALL": "C.UTF-8"}
        env.pop("NO_COLOR", None)
        argv = [sys.executable, "-m", "tq", "--data-dir", self._data_dir, "monitor"]
        self._began = time.monotonic()
        self._process = subprocess.Popen(argv, env=env, cwd=ROOT, stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True)
        os.close(theirs)
        self._ours, self.pid = ours, self._process.pid
        self._reader = threading.Thread(target=self._read)
        self._reader.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.end()
        self._reader.join()
        os.close(self._ours)

    def end(self) -> None:
        """As if its terminal were gone."""
        self._process.kill()
        self._process.wait()

    def _read(self) -> None:
        try:
            while data := os.read(self._ours, 1 << 16):
                with self._more:
                    self.seen += data
                    self._more.notify_all()
        except OSError:  # the other end of a terminal ends with EIO
            pass

    def shown(self, text: str) -> float:
        """Milliseconds from the start until this was on the screen."""
        with self._more:
            if not self._more.wait_for(lambda: text.encode() in self.seen, WITHIN_S):
                raise TimeoutError(f"{text!r} was not shown within {WITHIN_S:g} s")
        return (time.monotonic() - self._began) * 1000

    def press(self, keys: bytes) -> None:
        os.write(self._ours, keys)

    def types(self, text: str) -> None:
        """Type this and wait until it stands on the screen."""
        with self._more:
            before = len(self.seen)
            self.press(text.encode())
            if not self._more.wait_for(lambda: text.encode() in self._text(before), WITHIN_S):
                raise TimeoutError(f"{text!r} was typed, and not shown within {WITHIN_S:g} s")

    def jump(self, keys: bytes, to: int | None = None) -> float:
        """Milliseconds from these keys until the terminal had got a screen full of other rows, that of task ``to`` among them."""
        with self._more:
            before, began = len(self.seen), time.monotonic()
            os.write(self._ours, keys)
            if not self._more.wait_for(lambda: self._rows_since(before, to), WITHIN_S):
                raise TimeoutError(f"no other rows were shown within {WITHIN_S:g} s of {keys!r}")
            taken = time.monotonic() - began
            while self._more.wait(QUIET_S):  # what is still on its way is not the next jump's
                pass
            self._listed = self._drawn(before)
        return taken * 1000

    def _rows_since(self, before: int, to: int | None) -> bool:
        drawn = self._drawn(before)
        return len(drawn - self._listed) >= MOST_ROWS and (to is None or to in drawn)

    def _drawn(self, before: int) -> set[int]:
        """The tasks whose rows came since then."""
        return {int(number) for number in _ROW.findall(self._text(before))}

    def _text(self, before: int) -> bytes:
        """What came since then, without styles; a line for each place that was written to."""
        return _MOVE.sub(b"\n", _STYLE.sub(b"", bytes(self.seen[before:])))

    @property
    def rss_mib(self) -> float:
        return psutil.Process(self.pid).memory_info().rss / (1 << 20)


class Span:
    """What is used between its making and ``end``: by the daemon for each task that ended, and by a monitor if there is one."""

    def __init__(self, client: Client, daemon: int, terminal: Terminal | None = None) -> None:
        self._client, self._daemon, self._terminal = client, daemon, terminal
        self._before = self._now()

    def _now(self) -> tuple[float, float, float, float, float]:
        one = self._terminal
        return (
            time.monotonic(), cpu_s(self._daemon), float(self._client.stats()["completed"]), cpu_s(one.pid) if one else 0.0,
            float(len(one.seen)) if one else 0.0,
        )  # fmt: skip

    def end(self) -> tuple[float, float, float, float]:
        """(us of the daemon's CPU a task, tasks/s, % of a core of the monitor, kB/s to its terminal)."""
        seconds, cpu, tasks, its, sent = (after - before for after, before in zip(self._now(), self._before, strict=True))
        return 1e6 * cpu / max(tasks, 1), tasks / seconds, 100 * its / seconds, sent / seconds / 1000


def _under_load(client: Client, daemon: int, terminal: Terminal, seconds: float) -> list[tuple[float, float, float, float]]:
    """The same load with the monitor open, and after it was left."""
    load = subprocess.Popen([sys.executable, "-c", "from tests.bench.scale import load; load()", client.data_dir], cwd=ROOT)
    try:
        while not client.stats()["running"]:
            time.sleep(0.01)
        found = []
        for one in (terminal, None):
            span = Span(client, daemon, one)
            time.sleep(seconds)
            found.append(span.end())
            terminal.end()
        return found
    finally:
        load.kill()
        load.wait()


def monitor(size: Size) -> Iterator[Bar]:
    starts: list[tuple[float, float, float]] = []
    loads: list[list[tuple[float, float, float, float]]] = []
    with instance(keep=10 * size.queued) as client:
        for at in range(0, size.queued, 50_000):
            client.enqueue_many([("stamp", None, {"delay": LATER})] * min(50_000, size.queued - at))
        daemon = client.status()["pid"]
        for _ in range(min(size.rounds, 3)):
            with Terminal(client.data_dir) as terminal:
                painted = terminal.shown("tq monitor")
                used = 1000 * cpu_s(terminal.pid)
                starts.append((painted, used, terminal.shown("● live")))
                if len(starts) == 1:
                    yield from _at_rest(client, daemon, terminal, size)
                    yield from _jumps(terminal, size)
                loads.append(_under_load(client, daemon, terminal, size.load_s))
    painted, used, usable = (median(figures) for figures in zip(*starts, strict=True))
    yield at_most("monitor: first paint", painted, "ms", 700, beside=f"{used:.0f} ms of CPU by then")
    yield at_most(f"  with {size.queued:,} tasks stored: all that it shows is there", usable, "ms", 1000)
    ratio = median(beside[0] / alone[0] for beside, alone in loads)
    with_it, rate, its, sent = (median(figures) for figures in zip(*(beside for beside, _ in loads), strict=True))
    without = median(alone[0] for _, alone in loads)
    told = f"{with_it:.1f} us a task with it, {without:.1f} without"
    yield at_most("  the daemon's CPU a task under full load, with a monitor over without", ratio, "x", 1.1, beside=told)
    yield at_most("  its own CPU meanwhile, on the overview", its, "%", 5, beside=f"{rate:,.0f} tasks/s")
    yield at_most("  bytes to its terminal meanwhile", sent, "kB/s", 20)


def _at_rest(client: Client, daemon: int, terminal: Terminal, size: Size) -> Iterator[Bar]:
    time.sleep(min(5.0, size.idle_s))  # what its start began is over
    span = Span(client, daemon, terminal)
    before = cpu_s(daemon)
    time.sleep(size.idle_s)
    _, _, its, sent = span.end()
    below = 100 * (cpu_s(daemon) - before) / size.idle_s
    yield at_most("monitor at rest: CPU", its, "%", 0.5, beside=f"{sent:.2f} kB/s to the terminal")
    yield at_most("  the daemon's CPU meanwhile", below, "%", 0.5)
    yield at_most("  memory of the monitor", terminal.rss_mib, "MiB", 120)


def _jumps(terminal: Terminal, size: Size) -> Iterator[Bar]:
    """To both ends, to places between them, and by pages, in the list of all tasks, newest first."""
    last = size.queued
    terminal.jump(b"3", last)
    times = []
    for turn in range(size.turns):
        place = 1 + (turn * 7919 + last // 2) % (last - 100)
        times += [terminal.jump(b"\x1b[F", 1), terminal.jump(2 * PAGE_UP)]
        terminal.press(b":")
        terminal.types(str(place))
        times += [terminal.jump(b"\r", last - place + 1), terminal.jump(2 * PAGE_DOWN)]
        times += [terminal.jump(b"\x1b[H", last), terminal.jump(2 * PAGE_DOWN)]
    terminal.press(b"1")
    told = f"p50 {median(times):.0f} ms, {len(times)} jumps: End, Home, PgUp, PgDn and :row among {last:,}"
    yield at_most("  key to new rows on the terminal, p95", quantiles(times, n=20)[-1], "ms", 150, 50, beside=told)


def flood() -> None:
    """A process that lets EVENTS_PER_S happen to the tasks of a directory until it is ended."""
    with Client(sys.argv[1]) as client:
        due = time.monotonic()
        while True:
            client.enqueue_many([("noop", None)] * (EVENTS_PER_S // EVENTS_A_TASK // 20))
            due += 0.05
            time.sleep(max(due - time.monotonic(), 0.0))


def flooded(size: Size) -> Iterator[Bar]:
    """The list of tasks, following, while they come and go: minutes of it stand for an hour at a tenth of that."""
    with instance() as client, Terminal(client.data_dir) as terminal:
        load = subprocess.Popen([sys.executable, "-c", "from tests.bench.monitor import flood; flood()", client.data_dir], cwd=ROOT)
        try:
            terminal.shown("● live")
            terminal.press(b"3F")
            time.sleep(size.flood_s / 2)
            span, half = Span(client, client.status()["pid"], terminal), terminal.rss_mib
            time.sleep(size.flood_s / 2)
            _, rate, its, sent = span.end()
            told = f"{EVENTS_A_TASK * rate:,.0f} events/s, {sent:.0f} kB/s to the terminal"
            yield at_most("monitor in a flood, following the list of tasks: CPU", its, "%", 5, beside=told)
            grown = max(terminal.rss_mib - half, 0.0)
            yield at_most(f"  memory after {size.flood_s:,.0f} s of it", terminal.rss_mib, "MiB", 120)
            yield at_most("  of which came in the second half", grown, "MiB", 5)
        finally:
            load.kill()
            load.wait()
            terminal.press(b"F1")

"""Bad clients (T12, T13): slow, deaf, half-open, vanishing, far too many; and a daemon without descriptors.

For: a real daemon beside which a thousand bad clients and ten good ones work; ten thousand that do nothing; clients who make
it keep bytes for them; a limit of 64 descriptors.
Not for: what bytes mean (frames).
Runs in: the process that drives the suite; the good and the bad are processes of their own, made of this module.
Promises: a cycle is each of the scenarios once, on a fresh daemon each. Times are told and only generously bounded: what is
held to is that good clients get right answers, and that memory, the log and the CPU time of the daemon stay small.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import resource
import select
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil

from tests.campaign.suite import ROOT, Report, Suite, each, plain_env, python, scratch
from tests.living import Daemon, wait_until
from tq import wire
from tq.client import Client
from tq.errors import TqError
from tq.output import OUT, OutputWriter

GOOD, BAD = 10, 1000
GOOD_S = 1.5
"""How long the good clients work, in each of the two runs that are compared."""
IDLE = 10_000
GROWTH_MIB = 100
WORSE = 100
"""How much slower a good client's slowest round may be beside a thousand bad ones: only that it is not stuck is held to."""
STUCK_S = 5.0
HELLO = wire.frame([1, "hello", {"protocol": wire.PROTOCOL, "client": "bad", "nonce": None}])
BUSY_S = 0.3
"""CPU seconds that a daemon may take in one second in which nobody asks for anything."""
LOG_LINES = 50


# the good ones, in a process of their own


def _day(place: str, number: int, until: float, rounds: list[float], wrong: list[str]) -> None:
    """Send a task, claim it, settle it, look at it, until the time is over; each round's seconds."""
    name = f"good-{number}"
    with Client(place) as client:
        while time.monotonic() < until:
            began = time.monotonic()
            try:
                (sent,) = client.enqueue_many([(name, [number], {"queue": name})])
                (task,) = client.claim([name], limit=1)
                settled = client.settle([(task["id"], task["claim"], "succeeded", {"result": number})])
                (row,) = client.get_many([sent])
            except (TqError, ValueError) as error:
                wrong.append(f"client {number}: expected its task, got {error!r:.300}")
                return
            rounds.append(time.monotonic() - began)
            if task["id"] != sent or settled != [True] or row is None or row["state"] != "succeeded":
                wrong.append(f"client {number}: expected task {sent} to succeed, got {task!r:.200}, {settled}, {row!r:.200}")


def _good(place: str, seconds: str) -> None:
    rounds: list[float] = []
    wrong: list[str] = []
    with Client(place) as client:
        for number in range(GOOD):
            client.set_queue(f"good-{number}", external=True)
    until = time.monotonic() + float(seconds)
    threads = [threading.Thread(target=_day, args=(place, number, until, rounds, wrong)) for number in range(GOOD)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    rounds.sort()
    print(
        json.dumps(
            {
                "rounds": len(rounds),
                "p50": rounds[len(rounds) // 2],
                "p99": rounds[int(len(rounds) * 0.99)],
                "most": rounds[-1],
                "wrong": wrong,
            }
        )
    )


# the bad ones


class Crowd:
    """Many connections of one kind, driven by ``step``; ``closed`` counts those that the daemon has ended."""

    def __init__(self, place: str, count: int) -> None:
        self.path = f"{place}/{wire.SOCKET}"
        self.all: list[socket.socket] = []
        self.count = count
        self.closed = 0

    def connect(self) -> socket.socket:
        one = socket.socket(socket.AF_UNIX)
        one.connect(self.path)
        one.setblocking(False)
        self.all.append(one)
        return one

    def open(self) -> None:
        for _ in range(self.count):
            self.send(self.connect(), HELLO)

    def send(self, one: socket.socket, data: bytes) -> int:
        """As much as fits; a connection that is closed is left out."""
        try:
            return one.send(data)
        except BlockingIOError:
            return 0
        except OSError:
            one.close()
            if one in self.all:
                self.all.remove(one)
                self.closed += 1
            return 0

    def step(self) -> None:
        """What they do every tenth of a second."""

    def close(self) -> None:
        for one in self.all:
            one.close()


class Slow(Crowd):
    """A byte a second of a request each."""

    def __init__(self, place: str, count: int) -> None:
        super().__init__(place, count)
        self.body = wire.frame([2, "enqueue", {"tasks": [["slow", b"x" * 500, {"allow_unknown": True}]]}])
        self.at = 0

    def step(self) -> None:
        self.at += 1
        for one in self.all[self.at % 10 :: 10]:
            self.send(one, self.body[self.at // 10 : self.at // 10 + 1])


class Deaf(Crowd):
    """They follow a task's output and all that happens, ask for much, and read nothing."""

    def open(self) -> None:
        super().open()
        asked = [
            wire.frame([2, "watch", {"topics": ["output"], "ids": [1]}]), wire.frame([2, "watch", {"topics": ["steps"]}]),
            wire.frame([2, "watch", {"topics": ["totals"], "hz": 10}]),
        ]  # fmt: skip
        for at, one in enumerate(list(self.all)):
            self.send(one, asked[0] if at % 10 else asked[1 + at // 10 % 2])

    def step(self) -> None:
        for one in random.sample(self.all, min(2, len(self.all))):
            self.send(one, wire.frame([3, "find", {"limit": 500}]))


class Half(Crowd):
    """They wait for what does not come, and have ended their own side."""

    def open(self) -> None:
        super().open()
        for one in list(self.all):
            self.send(one, wire.frame([2, "wait", {"ids": [1]}]))
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_WR)


class Vanishing(Crowd):
    """They ask for something and are gone, and others come."""

    def step(self) -> None:
        for one in self.all[: len(self.all) // 5]:
            self.all.remove(one)
            one.close()
        while len(self.all) < self.count:
            one = self.connect()
            self.send(
                one,
                HELLO + wire.frame([2, "enqueue", {"tasks": [["gone", b"", {"allow_unknown": True}]] * 3}])[: random.randrange(20, 140)],
            )


class Heavy(Crowd):
    """Nearly a whole large frame each, and no more."""

    def open(self) -> None:
        super().open()
        for one in list(self.all):
            data = memoryview((1 << 20).to_bytes(4, "big") + b"x" * 900_000)
            one.setblocking(True)
            one.settimeout(5)
            with contextlib.suppress(OSError):
                one.sendall(data)


class Unread(Crowd):
    """They ask for large answers until nothing more is taken from them, and read none."""

    def open(self) -> None:
        super().open()
        for _ in range(12):
            for one in list(self.all):
                self.send(one, wire.frame([2, "find", {"limit": 500}]))


KINDS: dict[str, type[Crowd]] = {"slow": Slow, "deaf": Deaf, "half": Half, "vanishing": Vanishing, "heavy": Heavy, "unread": Unread}


def _bad(place: str, *counts: str) -> None:
    """Crowds, ``kind=count`` each, until standard input ends (or the process is killed)."""
    crowds = [KINDS[kind](place, int(count)) for kind, _, count in (word.partition("=") for word in counts)]
    for crowd in crowds:
        crowd.open()
    print("ready", flush=True)
    while not select.select([0], [], [], 0.1)[0]:
        for crowd in crowds:
            crowd.step()


# the daemon, looked at from outside


class Watched:
    """A daemon and what it costs."""

    def __init__(self, place: Path, plant: str | None, **settings: int) -> None:
        env = plain_env(**{f"TQ_{name.upper()}": str(value) for name, value in settings.items()})
        self.place = place
        self.daemon = Daemon(place, workers=0, log_level="warning")
        self.daemon.env = env
        if plant:
            self.daemon.module = ["tests.campaign.planted", plant, "tq.daemon"]
        self.daemon.start()
        self.process = psutil.Process(self.daemon.pid)
        self.rss = self.process.memory_info().rss

    @property
    def cpu(self) -> float:
        return sum(self.process.cpu_times()[:2])

    @property
    def grown_mib(self) -> int:
        """The peak of memory since the start."""
        with open(f"/proc/{self.daemon.pid}/status", encoding="ascii") as file:
            peak = next(int(line.split()[1]) for line in file if line.startswith("VmHWM"))
        return (peak - (self.rss >> 10)) >> 10

    def connections(self) -> int:
        with Client(self.place) as client:
            found: int = client.status()["connections"]
            return found

    def idle(self, seconds: float = 1.0) -> float:
        """CPU seconds of each second in which nobody asks."""
        before = self.cpu
        time.sleep(seconds)
        return (self.cpu - before) / seconds

    def done_with_what_was_asked(self) -> None:
        """Wait until it has nothing to do, or has grown beyond what is allowed: on a busy machine it has not yet seen all it was sent."""
        until = time.monotonic() + 30
        while self.idle(0.2) > BUSY_S and self.grown_mib <= GROWTH_MIB and time.monotonic() < until:
            pass

    def good(self) -> dict[str, Any]:
        """The good clients' day."""
        argv = python("-m", "tests.campaign.clients", "good", str(self.place), str(GOOD_S))
        done = subprocess.run(argv, cwd=ROOT, env=plain_env(), capture_output=True, text=True, check=False, timeout=100)
        found: dict[str, Any] = json.loads(done.stdout) if done.stdout else {"wrong": [done.stderr[-1000:]]}
        return found

    @contextlib.contextmanager
    def bad(self, **counts: int) -> Iterator[subprocess.Popen[bytes]]:
        """Crowds of bad clients; they are killed where they stand."""
        argv = python("-m", "tests.campaign.clients", "bad", str(self.place), *(f"{kind}={count}" for kind, count in counts.items()))
        process = subprocess.Popen(argv, cwd=ROOT, env=plain_env(), stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        assert process.stdout is not None
        try:
            process.stdout.readline()
            yield process
        finally:
            process.kill()
            process.communicate()

    def after(self) -> Iterator[str]:
        """When they have all left: nothing is left of them, nothing goes on, the log is short."""
        try:
            wait_until(lambda: self.connections() == 1, 10, "that all but one connection are gone")
        except (AssertionError, TqError) as error:
            yield f"expected the bad ones to be forgotten, got {error!r:.300}"
        busy = self.idle()
        if busy > BUSY_S:
            yield f"expected a daemon at rest, got {busy:.2f} s of CPU time in a second"
        yield from self.logged()

    def logged(self) -> Iterator[str]:
        lines = self.daemon.words.read_text(errors="replace").splitlines()
        wrong = [line for line in lines if " error " in line]
        if wrong or len(lines) > LOG_LINES:
            yield f"expected a short log without errors, got {len(lines)} lines: {(wrong or lines)[:3]}"


@contextlib.contextmanager
def watched(plant: str | None, **settings: int) -> Iterator[Watched]:
    with tempfile.TemporaryDirectory(prefix="tqc-", dir=scratch()) as place:
        one = Watched(Path(place) / "d", plant, **settings)
        try:
            yield one
        finally:
            one.daemon.end()
            one.daemon.words.unlink(missing_ok=True)


def _prepare(one: Watched) -> None:
    """A task that waits and has written much, and some others with payloads."""
    with Client(one.place) as client:
        client.enqueue("first", queue="x", delay="1h", allow_unknown=True)
        client.enqueue_many([("big", "x" * 10_000, {"queue": "x", "delay": "1h", "allow_unknown": True})] * 90)
    out = OutputWriter(one.place / "logs", 1)
    for number in range(200):
        out.write(OUT, b"y" * 4000 + b"\n", number)
    out.close()


# the scenarios


def _storm(report: Report, plant: str | None) -> Iterator[str]:
    """A thousand bad clients of four kinds, and ten good ones."""
    with watched(plant, max_connections=4000) as one:
        _prepare(one)
        alone = one.good()
        with one.bad(slow=BAD * 4 // 10, deaf=BAD * 2 // 10, half=BAD * 2 // 10, vanishing=BAD * 2 // 10):
            beside = one.good()
            there = one.connections()
        yield from (f"alone: {line}" for line in alone["wrong"])
        yield from (f"beside {BAD} bad ones: {line}" for line in beside["wrong"])
        if not alone["wrong"] and not beside["wrong"]:
            worse = beside["p99"] / alone["p99"]
            for where, day in (("alone", alone), (f"beside {there - 1} bad ones", beside)):
                p50, p99, most = (f"{day[key] * 1e3:.2f} ms" for key in ("p50", "p99", "most"))
                print(f"good clients {where}: {day['rounds']} rounds, p50 {p50}, p99 {p99}, most {most}")
            print(f"p99 is {worse:.1f} times what it was alone")
            report.add(rounds=alone["rounds"] + beside["rounds"])
            if beside["most"] > STUCK_S or worse > WORSE:
                yield f"expected good clients to be served, got p99 {worse:.1f} times what it was, and {beside['most']:.2f} s at most"
        if there < BAD // 2:
            yield f"expected some {BAD} bad clients beside the good ones, got {there}"
        print(f"memory grew by {one.grown_mib} MiB")
        if one.grown_mib > GROWTH_MIB:
            yield f"expected less than {GROWTH_MIB} MiB more, got {one.grown_mib}"
        yield from one.after()
        report.add(bad=BAD)


def _vanish(report: Report, plant: str | None) -> Iterator[str]:
    """Processes full of clients are killed with SIGKILL in the middle of what they do."""
    with watched(plant) as one:
        _prepare(one)
        for _ in range(3):
            with one.bad(vanishing=150, half=50, deaf=50, slow=50) as process:
                time.sleep(0.15)
                process.send_signal(signal.SIGKILL)
            report.add(killed=300)
        yield from one.good()["wrong"]
        yield from one.after()


def _hoard(report: Report, plant: str | None) -> Iterator[str]:
    """Clients make the daemon keep bytes: nearly a frame each, or answers that nobody reads."""
    for kind in ("heavy", "unread"):
        with watched(plant) as one:
            _prepare(one)
            with one.bad(**{kind: 200}):
                beside = one.good()
                one.done_with_what_was_asked()
                grown = one.grown_mib
            print(f"200 {kind} ones: memory grew by {grown} MiB; good clients beside them p99 {beside.get('p99', 0) * 1e3:.2f} ms")
            yield from (f"beside 200 {kind} ones: {line}" for line in beside["wrong"])
            if grown > GROWTH_MIB:
                yield f"{kind}: expected less than {GROWTH_MIB} MiB more, got {grown}"
            yield from one.after()
            report.add(hoarders=200)


def _idle(report: Report, plant: str | None) -> Iterator[str]:
    """Ten thousand connections, as far as descriptors allow, that only said hello."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    count = min(IDLE, hard - 500)
    with watched(plant, max_connections=IDLE + 100) as one:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        crowd = Crowd(str(one.place), count)
        try:
            began = time.monotonic()
            crowd.open()
            there = one.connections()
            took = time.monotonic() - began
            busy, grown = one.idle(), one.grown_mib
            good = one.good()
        finally:
            crowd.close()
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        print(
            f"{there - 1} idle ones (descriptors: {hard}) accepted in {took:.2f} s, {grown} MiB more "
            f"({(grown << 10) / count:.1f} KiB each), "
            f"{busy:.3f} s of CPU a second; good clients beside them p99 {good.get('p99', 0) * 1e3:.2f} ms"
        )
        if there != count + 1:
            yield f"expected {count} idle clients to be let in, got {there - 1}"
        if busy > BUSY_S or grown > GROWTH_MIB:
            yield f"expected {count} idle clients to cost nothing, got {busy:.2f} s of CPU a second and {grown} MiB"
        yield from (f"beside {count} idle ones: {line}" for line in good["wrong"])
        yield from one.after()
        report.add(idle=count)


def _starve(report: Report, plant: str | None) -> Iterator[str]:
    """The daemon has 64 descriptors, and 200 clients want in."""
    with watched(plant) as one, contextlib.ExitStack() as stack:
        first = stack.enter_context(Client(one.place))
        first.status()
        resource.prlimit(one.daemon.pid, resource.RLIMIT_NOFILE, (64, 64))
        crowd = Crowd(str(one.place), 0)
        stack.callback(crowd.close)
        for _ in range(200):
            crowd.send(crowd.connect(), HELLO)
        time.sleep(0.3)
        busy = one.idle()
        told = [_told(each_one) for each_one in crowd.all]
        refused = [words for words in told if words and words[0] == wire.ERROR]
        there = len(told) - told.count(None) - len(refused)
        print(f"64 descriptors, 200 clients: {there} in, {len(refused)} refused, {told.count(None)} wait; {busy:.3f} s of CPU a second")
        if first.status()["pid"] != one.daemon.pid:
            yield "expected the client that was there to be served"
        if not refused or any("descriptor" not in words[1][1] or words[1][0] != "refused" for words in refused):
            yield f"expected those who cannot get in to be told why, got {refused[:2]}"
        if busy > BUSY_S:
            yield f"expected no spinning without descriptors, got {busy:.2f} s of CPU time in a second"
        crowd.close()
        began = time.monotonic()
        try:
            with Client(one.place) as late:
                late.enqueue("late", allow_unknown=True)
        except TqError as error:
            yield f"expected a new client to get in when others have left, got {error!r:.300}"
        if time.monotonic() - began > STUCK_S:
            yield f"expected a new client to get in soon, got {time.monotonic() - began:.1f} s"
        first.close()
        yield from one.after()
        report.add(turned_away=len(refused))


def _told(one: socket.socket) -> tuple[int, Any] | None:
    """What a connection was told first; None: nothing yet."""
    frames = wire.Frames()
    with contextlib.suppress(OSError):
        frames.feed(one.recv(1 << 16))
    bodies = frames.take()
    if not bodies:
        return None
    _, kind, body = wire.message(bodies[0])
    return kind, body


SCENARIOS: dict[str, Callable[[Report, str | None], Iterator[str]]] = {
    "storm": _storm, "vanish": _vanish, "hoard": _hoard, "idle": _idle, "starve": _starve,
}  # fmt: skip


def scenario(name: str, plant: str | None = None) -> list[str]:
    """What is wrong with one scenario."""
    return list(SCENARIOS[name](Report("clients", 0), plant))


def run(seed: int, cycles: int, plant: str | None = None) -> Report:
    """Each scenario once a cycle."""

    def cycle(number: int, report: Report) -> list[str]:
        random.seed(number)
        return [f"{name}: {line}" for name, play in SCENARIOS.items() for line in play(report, plant)]

    return each("clients", seed, cycles, cycle)


SUITE = Suite("clients", f"{len(SCENARIOS)} scenarios of bad clients", 1, 20, run, ("nobody_hung_up_on",))

if __name__ == "__main__":
    os.environ.pop("TQ_DATA_DIR", None)
    if sys.argv[1] == "good":
        _good(*sys.argv[2:])
    else:
        _bad(*sys.argv[2:])

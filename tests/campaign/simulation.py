"""Deterministic simulation: the real daemon with its real stores, in virtual time, among clients, workers, faults and power cuts.

For: ``simulate``: ten minutes of life from one seed, then calm, then the end; ``SUITE``.
Not for: what the kernel does to real processes and files (kills, points, images).
Runs in: the process that runs the suite, which must not hold another daemon.
Promises: the daemon, broker, pool, door, client core and store are tq's own code; only the clock, the sockets, the
processes and the durability of commits are not. A seed gives the same events, to the last, wherever it runs.

A power cut leaves what was committed and synced: the open transaction is thrown away with the environment, and if the
store was opened without sync, so is everything since then. Every second seed or so has the store in memory instead.
"""

from __future__ import annotations

import logging
import math
import os
import shutil
import signal
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest import mock

import tq.api.unix
import tq.board
import tq.broker
import tq.child
import tq.daemon
import tq.daemon.keeping
import tq.daemon.verbs
import tq.pool.crew
import tq.store.room
from tests.campaign.actors import Client, Consumer, Operator, Sender, Worker
from tests.campaign.oracle import BRIEF, MOST, RETRIED, Oracle, pending
from tests.campaign.planted import plant
from tests.campaign.simulated import Cut, Found, Listener, Machine, Over, Records, SimChild, SimLoop
from tests.campaign.suite import Report, Suite, each, scratch
from tq.broker import Broker, Turn
from tq.config.settings import Settings
from tq.daemon.holds import Holds, Reading
from tq.errors import StoreError, TqError
from tq.store import Limits, NoRoom
from tq.store.lmdb import LmdbStore
from tq.store.memory import MemoryStore
from tq.store.snapshot import contents_of
from tq.store.verify import verify

LIVELY_MS = 600_000
DAY_MS = 86_400_000
HOUR_MS = 3_600_000
DRAIN_MS = 900_000
"""How long after the last fault everything may take to end."""
LOOK_EVERY = 16
"""Turns between two looks at the tasks that are not over."""


class Planned(Exception):
    """A bug that the simulation itself put into a commit."""


class InMemory(MemoryStore):
    """The store in memory, with what a daemon asks of a directory: it was not restored from a backup, and nobody knows its room."""

    copied = False

    def adopt(self) -> None:
        """Nothing to forget."""

    def space(self) -> None:
        return None


class AtOnce:
    """A thread whose work is done when it has been started: this machine has one alone."""

    def __init__(self, target: Callable[..., None], args: tuple[Any, ...], **_: object) -> None:
        self._work = partial(target, *args)

    def start(self) -> None:
        self._work()

    def join(self, _within_s: float) -> None:
        """It is over."""

    def is_alive(self) -> bool:
        return False


class Watch(logging.Handler):
    """Notices what the daemon logs as its own bug."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.bugs: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        error = record.exc_info[1] if record.exc_info else None
        if error is not None and not isinstance(error, Planned):
            self.bugs.append(f"{record.getMessage()}: {error!r}")


class World:
    """One seed's life. ``run`` returns what was violated, if anything."""

    def __init__(self, seed: int, log: list[str] | None = None) -> None:
        self.machine = machine = Machine(seed)
        machine.log = log
        self.began = machine.ticks
        self.memory = seed % 3 == 2
        self.folder = Path(tempfile.mkdtemp(prefix="tq-sim-", dir=scratch()))
        self.oracle = Oracle(machine)
        self.daemon: Any = None
        self.store: Any = None
        self.contents = b""  # of the store in memory: what is durable
        self.children: list[SimChild] = []
        self.fails: list[Exception] = []
        self.full = False
        self.turns = self.held_turns = self.shut_turns = self.cuts = self.boots = self.days = 0
        self.latest = 0  # the latest time that the wall clock has shown
        self.unsynced: bytes | None = None  # of a store that does not sync: what was there when it was opened
        self.watch = Watch()
        low = machine.between(1, 2)
        self.settings = Settings(
            data_dir=self.folder / "data", app="app", workers=low, min_workers=low, max_workers=machine.some(low, 3),
            slots=machine.some(1, 1, 1, 3), worker_recycle=machine.some(0, 0, 15), grace_s=machine.some(1.0, 10.0),
            kill_grace_s=machine.some(0.5, 3.0), log_level="error", scale_cooldown_s=5.0, keep_requests_ms=2 * DAY_MS * 4,
            keep_keys_ms=30 * DAY_MS, keep_ms=60 * DAY_MS, keep_failed_ms=60 * DAY_MS, queue_tasks=100_000,
        )  # fmt: skip
        self.low = low
        self.operator = Operator(machine, self.oracle, "operator")
        self.clients: list[Client] = [
            self.operator, *(Sender(machine, self.oracle, f"send{n}") for n in range(2)),
            *(Consumer(machine, self.oracle, f"take{n}") for n in range(2)),
        ]  # fmt: skip
        self.operator.ask("set_queue", name="out", external=True)
        self.operator.ask("set_queue", name=RETRIED, max_tasks=MOST)
        self.operator.ask("set_queue", name=BRIEF, keep_ms=30_000)
        machine.at(machine.between(5000, 30_000), self.fault)
        machine.at(LIVELY_MS, self.be_calm)
        self.ends_at = math.inf

    # -- faults ----------------------------------------------------------------------------------------------------

    def fault(self) -> None:
        machine = self.machine
        if machine.calm:
            return
        machine.at(int(machine.chance.expovariate(1 / 35_000)) + 1, self.fault)
        fault = machine.some("kill", "kill", "power", "power", "stop", "clock", "clock", "commit", "commit", "disk", "worker", "worker")
        machine.note("fault", fault)
        getattr(self, f"_{fault}")()

    def _kill(self) -> None:
        self.machine.doom = (self.machine.between(0, 60), "kill")

    def _power(self) -> None:
        self.machine.doom = (self.machine.between(0, 60), "power")

    def _stop(self) -> None:
        """SIGTERM, and perhaps a second one."""
        if self.daemon is not None:
            loop = self.daemon._loop
            loop.pending.append(signal.SIGTERM)
            if self.machine.often(0.3):
                self.machine.at(self.machine.between(0, 3000), lambda: loop.pending.append(signal.SIGTERM))

    def _clock(self) -> None:
        step = self.machine.some(-HOUR_MS, -HOUR_MS - 5000, -3000, -50, 700, 40_000, DAY_MS, 6 * HOUR_MS)  # 6 h: suspended
        if step >= HOUR_MS:
            self.days += 1
            if self.days > 5:
                return
        self.latest = max(self.latest, self.machine.wall())
        self.machine.offset += step
        self.machine.note("clock", step)

    def _commit(self) -> None:
        """The next commits fail: no room, a bug, or an I/O error of which nobody knows what it left."""
        kind = self.machine.some("room", "bug", "error")
        errors = {"room": NoRoom("no room"), "bug": Planned("a bug"), "error": StoreError("an I/O error")}
        self.fails = [errors[kind] for _ in range(1 if kind == "error" else self.machine.between(1, 4))]

    def _disk(self) -> None:
        """New work is refused for a while, and now and then a commit finds no room."""
        self.full = True
        self.machine.at(self.machine.between(500, 20_000), lambda: setattr(self, "full", False))

    def _worker(self) -> None:
        """Somebody else does something to a worker."""
        living = list(self.machine.processes.values())
        if living:
            victim: Any = self.machine.some(*living)
            self.machine.some(
                lambda: victim.die(-signal.SIGKILL), lambda: victim.die(-signal.SIGSEGV), lambda: victim.send_signal(signal.SIGSTOP)
            )()

    def be_calm(self) -> None:
        """The faults stop."""
        machine = self.machine
        machine.note("calm")
        machine.calm, machine.doom, self.fails, self.full = True, None, [], False
        self.operator.make_calm(self.low)
        machine.offset += max(self.latest - machine.wall(), 0)  # what was due before a step back is due again
        self.ends_at = machine.ticks + DRAIN_MS
        machine.at(1000, self.thaw)

    def thaw(self) -> None:
        """What hangs without a limit of time is ended: nothing of tq's would end it."""
        for process in list(self.machine.processes.values()):
            if isinstance(process, Worker) and process.frozen:
                process.die(-signal.SIGKILL)
        if not self.oracle.machine.calm or self.machine.ticks < self.ends_at:
            self.machine.at(5000, self.thaw)

    # -- the store -------------------------------------------------------------------------------------------------

    def open_store(self, path: Path, limits: Limits, map_size: int) -> Any:
        store: Any
        if self.memory:
            store = InMemory(None, limits)
            if self.contents:
                store._contents = contents_of(self.contents, "memory")
        else:
            store = LmdbStore(path, limits, 1 << 30)
            synced = store._env.flags()["sync"] and store._env.flags()["metasync"]
            self.unsynced = None if synced else (path / "data.mdb").read_bytes()
        commit, begin = store.commit, store.begin

        def begins(now: int) -> None:
            self.machine.point("begin")
            begin(now)

        def commits() -> None:
            self.machine.point("commit")
            if self.fails:
                failure = self.fails.pop()
                if isinstance(failure, StoreError) and self.machine.often(0.5):
                    commit()  # it failed, and is there all the same
                raise failure
            if self.full and self.machine.often(0.1):
                raise NoRoom("no room")
            self.machine.ticks += self.machine.some(0, 0, 0, 1, 1, 2, 30) if self.machine.often(0.98) else 2000
            commit()
            self.machine.point("committed")

        store.begin, store.commit = begins, commits
        self.store = store
        return store

    def lose_store(self, kind: str) -> None:
        """The process is gone: what its transaction held is, too; after a power cut, so is what was not synced."""
        store, self.store = self.store, None
        if store is None:
            return
        if self.memory:
            self.contents = (store._before or store._contents).record()
            return
        if store._txn is not None:
            store._txn.abort()
        store._env.close()
        if kind == "power" and self.unsynced is not None:
            (self.folder / "data" / "store" / "data.mdb").write_bytes(self.unsynced)

    # -- the daemon ------------------------------------------------------------------------------------------------

    def listen(self) -> Listener:
        self.machine.listener = Listener(self.machine)
        return self.machine.listener

    def spawn(self, child: SimChild, options: Mapping[str, Any], *pipes: Records) -> Worker:
        self.children.append(child)
        return Worker(child, options, pipes, self.oracle)

    def boot(self) -> None:
        """One daemon's life."""
        self.boots += 1
        self.oracle.order.forget()
        self.machine.note("boot")
        daemon = self.daemon = tq.daemon.Daemon(self.settings)
        turn = daemon._turn
        daemon._turn = lambda now: self.turned(turn, now)  # type: ignore[method-assign]
        daemon._loop.idle = self.sleeps  # type: ignore[attr-defined]
        try:
            try:
                daemon.start()
            except TqError as error:
                self.machine.note("refuses", error.message[-60:])
                daemon.close()
            else:
                daemon.run()
            self.after("stop")
        except Cut as cut:
            self.after(cut.kind)
        except (StoreError, Planned) as error:  # the latter outside of a turn: as it starts, or reads its settings again
            self.machine.note("fails", str(error))
            self.after("kill")

    def after(self, kind: str) -> None:
        """What the kernel does when a process ends, and what is left when the power does."""
        machine, daemon = self.machine, self.daemon
        self.cuts += kind != "stop"
        self.daemon, machine.doom, self.fails = None, None, []
        self.lose_store(kind)
        if machine.listener is not None:
            machine.listener.close()
        if kind != "stop":
            daemon._log.close()
            daemon._lock.close()
        for child in self.children:
            child.orphaned(kind)
        self.children.clear()
        if kind == "power":
            machine.boot += 1
            for path in sorted((self.folder / "data" / "run").glob("*.board")):
                if machine.often(0.3):
                    path.write_bytes(b"" if machine.often(0.5) else bytes(100))

    def look_at_breakers(self, done: Turn) -> None:
        """After a turn: nothing was given out of a type whose breaker is open, and no more than its probes run of one that is half open."""
        given = {one.header.type for _, tasks in done.grants for one in tasks}
        for row in self.daemon._broker._breakers.shut:
            self.shut_turns += 1
            if row["type"] in given and row["state"] == "open":
                self.oracle.wrong("I6", f"expected nothing of a type whose breaker is open to be given out, found some of {row['type']}")
            if row["state"] == "half_open" and row["probes"] > 2:
                self.oracle.wrong("I6", f"expected at most 2 probes of type {row['type']}, found {row['probes']}")

    def turned(self, turn: Callable[[int], Turn], now: int) -> Turn:
        """One turn of the daemon, and a look at what it did."""
        machine, oracle, store = self.machine, self.oracle, self.store
        self.turns += 1
        gated = any(self.daemon._broker._breakers.shut)  # then not the next one, but the next of another type is given out
        before = pending(store) if self.turns % 4 == 0 and store.ready() and not gated else None
        held = set(self.daemon._broker.desk.held)
        self.held_turns += bool(held)
        done = turn(now)
        if wrong := [(one.id, one.header.queue) for _, tasks in done.grants for one in tasks if one.header.queue in held]:
            oracle.wrong("I6", f"expected nothing of queues that are held ({held}) to be given out, found {wrong}")
        if machine.breakers:
            self.look_at_breakers(done)
            before = None if any(self.daemon._broker._breakers.shut) else before
        if self.watch.bugs:
            oracle.wrong("I11", f"expected a turn without a bug, found {self.watch.bugs[0]}")
        if machine.flows:
            oracle.order.turned(store, done, self.daemon._broker.desk.now)
            before = None if store.limits() else before
        oracle.turned(store, done, before)
        if self.turns % LOOK_EVERY == 0:
            oracle.look(store, [task_id for task_id in oracle.owed if task_id not in oracle.final and task_id not in oracle.gone])
            self.look_at_hands()
            if machine.calm and self.nobody_asks() and oracle.all_over(store):
                raise Over
        return done

    def sight(self) -> Reading:
        """Load and memory as the machine has them."""
        return Reading(self.machine.some(0.5, 3.99, 4.0, None), self.machine.some(1 << 30, 4 << 30))

    def nobody_asks(self) -> bool:
        """Whether all is answered that was asked, but for claims that wait."""
        return all(client.idle for client in self.clients if not isinstance(client, Consumer))

    def look_at_hands(self) -> None:
        """What runs for the pool is in the hands of one of its workers, or on its way back."""
        daemon = self.daemon
        jobs = {(job.id, job.claim) for child in daemon._pool.workers for job in child.jobs.values()}
        jobs |= {(row[0], row[1]) for row in [*daemon._pool._rows, *daemon._broker._settles, *daemon._broker.owed]}
        for one in self.store.held():
            if not one.lease_ms and (one.id, one.claim) not in jobs:
                self.oracle.wrong("I11", f"expected claim {one.claim} of task {one.id} in the hands of {one.worker}, found it in nobody's")

    def sleeps(self, ms: float) -> None:
        """It is about to sleep: not while a worker idles for whom there is work."""
        if self.machine.calm and self.machine.ticks > self.ends_at:
            raise Found(
                f"I11: expected everything over {DRAIN_MS // 1000} s after the last fault, found {self.oracle.unfinished(self.store)}"
            )
        daemon = self.daemon
        if (
            ms <= 1500
            or daemon is None
            or daemon._draining
            or daemon._door is None
            or daemon._pool._suspects.types
            or any(daemon._broker._breakers.shut)
        ):
            return
        idle = [child.name for child in daemon._pool.workers if child.state == "ready" and not child.jobs and not child.only_checks]
        if idle and self.store.limits():
            self.look_at_limits(ms)
        elif idle and self.store.ready():
            raise Found(f"I11: expected a daemon that hands out what is ready, found it asleep for {ms / 1000:g} s beside {idle}")

    def look_at_limits(self, ms: float) -> None:
        """While a worker idles: nothing waits that limits let go, or let go before the daemon wakes."""
        store = self.store
        if found := [one.id for one in store.peek(3)]:
            raise Found(f"I11: expected a daemon that hands out what limits let go, found it asleep for {ms / 1000:g} s before {found}")
        queues = {name: info for name, info in store.queues().items() if not (info.paused or info.slots or info.external)}
        ids = [task_id for name, line in pending(store).items() if name in queues or name not in store.queues() for task_id in line]
        headers = [header for header in store.headers(ids) if header is not None]
        now = self.daemon._broker.desk.now  # which stands still while the clock, put back, has not caught up
        if self.machine.wall() >= now and (text := self.oracle.order.overslept(store, headers, now, ms - 1000)):
            raise Found(f"I11: expected a daemon that wakes when limits open, found it asleep for {ms / 1000:g} s in spite of {text}")

    # -- all of it -------------------------------------------------------------------------------------------------

    def run(self) -> str | None:
        """Live; what was violated, None if nothing was."""
        try:
            with self.patched():
                try:
                    while True:
                        self.boot()
                        if self.machine.often(0.2) and not self.memory:
                            self.verify()
                        self.machine.sleep(self.machine.between(10, 2000))
                        if self.machine.ticks > self.ends_at:
                            raise Found(
                                "I11: expected a daemon that lives when nothing fails any more, found one that ends again and again"
                            )
                except Over:
                    self.end()
        except Found as found:
            self.machine.note(found)
            return f"{found} (at {self.machine.ticks} ms, boot {self.boots})"
        finally:
            self.leave()
        return None

    @property
    def lived_ms(self) -> int:
        return self.machine.ticks - self.began

    def end(self) -> None:
        """Everything is over: the last and longest look."""
        self.oracle.look_everywhere(self.store)
        self.after("kill")
        if not self.memory:
            self.verify()

    def verify(self) -> None:
        """I7: each index and count against the records; and the pages of the file."""
        problems = verify(self.folder / "data")
        if problems:
            raise Found(f"I7: expected a store that verifies clean, found {problems[:3]}")

    def leave(self) -> None:
        if self.daemon is not None:
            self.after("kill")
        for process in list(self.machine.processes.values()):
            process.code = -signal.SIGKILL
            process.let_go()
        shutil.rmtree(self.folder)

    @contextmanager
    def patched(self) -> Iterator[None]:
        """tq with this machine under it."""
        machine = self.machine
        child = type(
            "Child", (SimChild,), {"machine": machine, "start": staticmethod(self.spawn), "granted": staticmethod(self.oracle.granted)}
        )
        no_signals = SimpleNamespace(SIGTERM=signal.SIGTERM, SIGINT=signal.SIGINT, SIGHUP=signal.SIGHUP, SIG_IGN=None, signal=_nothing)
        no_gc = SimpleNamespace(collect=_nothing, freeze=_nothing, set_threshold=_nothing)
        watchdog = SimpleNamespace(start=_nothing, begin=_nothing, end=_nothing)
        here: list[tuple[Any, dict[str, Any]]] = [
            (tq.daemon, {
                "Loop": partial(SimLoop, machine), "LmdbStore": self.open_store, "Broker": partial(Broker, clock=machine.cpu),
                "Watchdog": lambda *_: watchdog, "now_ms": machine.wall, "ticks_ms": machine.now, "gc": no_gc, "signal": no_signals,
                "random": machine.chance, "Holds": partial(Holds, sight=self.sight),
            }),
            (tq.daemon.verbs, {"now_ms": machine.wall, "ticks_ms": machine.now}),
            (tq.daemon.keeping, {"threading": SimpleNamespace(Thread=AtOnce)}),
            (tq.api.unix.UnixDoor, {"_listen": lambda _: self.listen()}),
            (tq.api.unix, {"_open_spare": _nothing}),
            (tq.pool.crew, {
                "Child": child, "start_ticks": machine.start_ticks, "kill_and_wait": machine.kill_and_wait,
                "machine": lambda: machine.boot, "end_group": _none, "end_command": _none,
            }),
            (tq.board, {"machine": lambda: machine.boot}),
            (tq.child, {"sessions_below": _none}),
            (tq.store.room.Room, {"_free_bytes": lambda _: 0 if self.full else 1 << 40}),
        ]  # fmt: skip
        umask, logger = os.umask(0o077), logging.getLogger("tq")
        level, propagate = logger.level, logger.propagate
        logger.addHandler(self.watch)
        try:
            with ExitStack() as patches:
                for where, what in here:
                    patches.enter_context(mock.patch.multiple(where, **what))
                yield
        finally:
            logger.removeHandler(self.watch)
            logger.level, logger.propagate = level, propagate
            os.umask(umask)


def _nothing(*_: object) -> None:
    """In the place of what the machine has no use for."""


def _none(*_: object) -> list[Any]:
    """Nobody, where processes are looked for that a worker left behind: here they leave none."""
    return []


def cycle(seed: int, report: Report) -> Iterable[str]:
    world = World(seed)
    found = world.run()
    report.add(
        turns=world.turns,
        held_turns=world.held_turns,
        shut_turns=world.shut_turns,
        boots=world.boots,
        cuts=world.cuts,
        tasks=len(world.oracle.owed),
        minutes=world.lived_ms // 60_000,
        limited=world.oracle.order.claims,
        children=world.oracle.order.children,
    )
    report.add(**{f"with_{state.word}": 1 for state in sorted(world.oracle.reached)})
    return [] if found is None else [found]


def digest(seed: int) -> str:
    """The digest of all that happened in a seed: the same wherever it runs."""
    world = World(seed)
    found = world.run()
    return f"{world.machine.digest()} {world.machine.events} {found}"


def run(seed: int, cycles: int, bug: str | None = None) -> Report:
    plant(bug)
    return each("simulation", seed, cycles, cycle)


SUITE = Suite(
    "simulation", "seeds", per_change=300, deep=5000, run=run,
    sees=("answer_before_commit", "claim_before_commit", "index_skipped", "token_ignored", "release_put_off", "suits_any", "gates_open",
          "gates_unwoken", "breakers_unasked"), tested=30,
)  # fmt: skip

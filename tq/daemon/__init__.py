"""The daemon: settings made into store, broker, pool and door, and the one loop that drives them.

For: composition, start and stop, signals, the loop.
Not for: the daemon's own verbs (verbs), task verbs (broker), anything that computes for more than a millisecond.
Runs in: the daemon process (``python -m tq.daemon``), which this room is.
Promises: one turn at a time: take what arrived, one transaction, commit, then answer, hand out, publish, sleep;
SIGTERM drains and exits 0, a second one ends at once; an application that does not import stops the start, with its
traceback, before anything is answered; a store that cannot be written ends the process rather than lie.
"""

from __future__ import annotations

import argparse
import gc
import math
import os
import random
import resource
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from tq import __version__, inlet, output, spool, wire
from tq.api.follow import Followers
from tq.api.unix import DEAF_S, UnixDoor
from tq.board import machine
from tq.broker import Broker, Said, Turn
from tq.broker.steps import WORDS, Description, describe
from tq.config import data_dir_of, prepare_data_dir
from tq.config.editing import Sources
from tq.config.settings import OPTIONS, Settings
from tq.daemon.configuring import Book
from tq.daemon.declaring import declare
from tq.daemon.holds import Holds
from tq.daemon.keeping import Keeper
from tq.daemon.reload import Watcher
from tq.daemon.supervised import Supervisor
from tq.daemon.sweeping import FIRST_MS, Sweeper
from tq.daemon.verbs import LOOK_MS, Verbs, now_ms, ticks_ms
from tq.errors import ConfigError, Refused, StoreError, TqError
from tq.intake import Defaults
from tq.log import Log
from tq.loop import Loop
from tq.pool import Pool
from tq.store import Limits, TypeInfo
from tq.store.files import Lock
from tq.store.lmdb import LmdbStore

STALL_S = 5.0
"""A turn that takes longer is reported by the watchdog: the disk does not answer."""
STUCK_S = 60.0
"""A turn that takes longer never ends, as far as anybody can wait: the watchdog ends the process."""
GATHER_MS = 2
"""How long ends may wait for company when nobody waits for them: a commit less for each task of a trickle."""
COMPACT_S = 3600.0
"""How long a service manager is to wait while the store is written anew: as long as that takes."""
END_S = 60.0
"""The same when the running tasks are over: what is left to be stored and closed."""
EXIT_STORE = 74
"""The exit code when the store cannot be written (EX_IOERR)."""
EXIT_BROKEN = 70
"""The exit code when the loop has failed, or does not turn any more (EX_SOFTWARE)."""


class Watchdog(threading.Thread):
    """Notices a round of the loop that does not end, and calls ``stuck`` when it never will. It sleeps, and in an idle daemon
    it sleeps for ever."""

    def __init__(self, log: Log, stuck: Callable[[], None]) -> None:
        super().__init__(name="watchdog", daemon=True)
        self._log = log
        self._stuck = stuck
        self._loop_thread = threading.get_ident()
        self._awake = threading.Event()
        self.began: float = 0.0
        self._turns = 0

    def begin(self) -> None:
        self.began = time.monotonic()
        self._turns += 1
        if not self._awake.is_set():
            self._awake.set()

    def end(self) -> None:
        self.began = 0.0

    def run(self) -> None:
        naps = 0  # counted, since a process that was frozen has been slow for no fault of its own
        while self._awake.wait():
            turns = self._turns
            time.sleep(STALL_S)
            if turns != self._turns:
                naps = 0
            elif not self.began:
                naps = 0
                self._awake.clear()
            else:
                naps += 1
                seconds = round(time.monotonic() - self.began, 1)
                self._log.event("turn_stalled", "error", seconds=seconds, where=self._where())
                if naps * STALL_S >= STUCK_S:
                    self._log.event("daemon_stuck", "error", seconds=seconds, pid=os.getpid())
                    self._stuck()

    def _where(self) -> list[str]:
        """What the loop does: its innermost calls."""
        frame = sys._current_frames().get(self._loop_thread)
        return [f"{at.filename}:{at.lineno} {at.name}" for at in traceback.extract_stack(frame, 4)] if frame is not None else []


class Daemon(Verbs):
    """One running daemon. ``run`` returns its exit code. ``reload``: workers are replaced when the application's files change;
    ``book``: where its settings come from, which a SIGHUP reads again and ``configure`` changes."""

    def __init__(
        self, settings: Settings, foreground: bool = False, reload: bool = False, supervisor: Supervisor | None = None,
        book: Book | None = None,
    ) -> None:  # fmt: skip
        self._supervisor = supervisor or Supervisor({})
        book = book or Book.given(settings)
        where = prepare_data_dir(settings.data_dir)
        os.umask(0o077)
        self._lock = Lock(where)
        log = Log(None if foreground else where, settings.log_level)
        logs = where / "logs"
        logs.mkdir(mode=0o700, exist_ok=True)
        limits = Limits(
            queue_tasks=settings.queue_tasks, queue_bytes=settings.queue_bytes, keep=settings.keep, keep_ms=settings.keep_ms,
            keep_failed_ms=settings.keep_failed_ms, keep_requests_ms=settings.keep_requests_ms,
            keep_bytes=settings.keep_bytes, keep_keys_ms=settings.keep_keys_ms, keep_events=settings.keep_events,
        )  # fmt: skip
        store = LmdbStore(where / "store", limits, settings.map_size)
        defaults = Defaults(settings.retries_functions, int(settings.timeout_functions_s * 1000), settings.max_payload)
        broker = Broker(store, limits, defaults, random.random)
        self._loop = Loop()
        told = {
            "data_dir": str(where),
            "app": settings.app, "slots": settings.slots, "log_limit": settings.log_bytes, "result_limit": settings.max_result,
            "grace_ms": int(settings.kill_grace_s * 1000), "watch": reload, "files": FILES,
        }  # fmt: skip
        pool = Pool(
            self._loop, told, settings.worker_range, log.event,
            cooldown_ms=int(settings.scale_cooldown_s * 1000), recycle=settings.worker_recycle, max_rss=settings.worker_max_rss,
            failing=settings.worker_failing, environment=store.environment,
        )  # fmt: skip
        followers = Followers(self._loop, logs, self._send, lambda conn: self._door.unsent(conn) if self._door else 0)
        super().__init__(settings, book, store, broker, pool, followers, log, reload)
        self._loop.woke = self._woke
        pool.backlog, pool.heaviest, pool.beside = broker.backlog, store.heaviest, lambda: store.in_use().workers
        pool.failing = lambda name, failures: broker.note("worker_failing", f"worker {name}", None, {"failures": failures})
        broker.desk.intake.capacity = lambda: pool.sizes[1] * settings.slots
        broker.desk.boot = machine()
        broker.desk.slots = lambda: pool.slots
        broker.desk.live = self._live
        broker.desk.sight, broker.desk.mean, broker.desk.lost = self._sight, pool.mean, lambda: pool.lost
        broker.desk.suspected, broker.desk.space = pool.suspected, store.space
        broker.desk.hold = lambda verb, task_id: pool.suspend(task_id) if verb == "suspend" else pool.resume(task_id)
        self._sweeper = Sweeper(logs, settings.keep_logs, self._running, self._is_over, time.monotonic, self._swept)
        self._holding = Holds(self._loop, broker, store, where, os.environ)
        self._keeper = Keeper(where, broker.desk.history, store.tallies, log.event)
        self._keeper.load()
        self._watchdog = Watchdog(self._log, self._give_up)
        self._kill_at = math.inf
        self._gather_until = 0
        self._watcher: Watcher | None = None
        self._stale = False  # the application changed while it was being checked

    # -- the loop --------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Recover, start the workers, wait for the first hello, open the door. ConfigError: the application refused."""
        for number in (signal.SIGTERM, signal.SIGINT):
            self._loop.on_signal(number, self._on_stop_signal)
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        begun = self._pool.bury()
        interrupted, released = self._broker.recover((lambda *_: True) if self._store.copied else begun, now_ms())
        self._stored(self._pool.closed)
        inlet.sweep(self._dir / "run")
        if spool.names(str(self._dir)):
            spool.sweep(str(self._dir), self._store.inputs(), time.time())
        declare(self._broker, self._settings, now_ms())
        self._pool.start(ticks_ms())
        self._await_hello()
        max_frame, connections = self._settings.max_frame, self._settings.max_connections
        path, drained = self._dir / wire.SOCKET, self._followers.drained
        full, listener = self._broker.full, self._supervisor.listener(path)
        self._door = UnixDoor(self._loop, path, self._serve, self._gone, max_frame, connections, drained, full, listener)
        self._watchdog.start()
        self._sweeper.stir(ticks_ms(), FIRST_MS)
        if self._reload:
            self._watcher = Watcher()
            self._loop.add(self._watcher.wake, lambda _: self._on_change())
            self._watcher.start()
        self._log.event(
            "daemon_started", version=__version__, pid=os.getpid(), data_dir=str(self._dir), app=self._settings.app,
            workers=list(self._pool.sizes), slots=self._settings.slots, interrupted=interrupted, released=released,
        )  # fmt: skip
        self._loop.on_signal(signal.SIGHUP, self._read_again)
        self._supervised = self._supervisor.there
        self._supervisor.ready(f"serves {self._dir}")
        gc.collect()
        gc.freeze()
        gc.set_threshold(50_000, 20, 50)  # the hot path makes many short-lived tuples and no cycles

    def _await_hello(self) -> None:
        """Until one worker is ready, or one has refused."""
        while not self._draining and self._settings.worker_range[1]:
            workers = self._pool.workers
            refused = next((w.refused for w in workers if w.refused), None)
            ready = next((w for w in workers if w.state == "ready"), None)
            if refused is not None or not workers:
                self._end_workers()
                raise ConfigError(self._refusal(refused or "they end before their hello"))
            if ready is not None:
                self._broker.put_types(ready.types, now_ms())
                return
            self._loop.poll(1.0)
            self._pool.tick(ticks_ms())

    def _refusal(self, why: str) -> str:
        return f"the application {self._settings.app!r} cannot be used by workers:\n{why}"

    def _end_workers(self) -> None:
        self._pool.kill()
        while not self._pool.empty:
            self._loop.poll(1.0)

    def run(self) -> int:
        """Turn until told to stop."""
        turn = Turn(busy=True)
        while not (self._draining and self._pool.empty and not self._pool.waiting):
            self._watchdog.end()
            self._loop.poll(self._sleep_s(turn))
            self._pool.tick(ticks_ms())  # after what has arrived: an answer that is there is not late
            now = now_ms()
            if ticks_ms() >= self._kill_at:
                self._kill_at = math.inf
                self._pool.kill()
            if self._door is not None:
                self._door.read_on()
                self._door.hear()
            self._supervisor.beat(ticks_ms())
            if self._compactions:
                self._watchdog.end()  # takes as long as it takes
                self._supervisor.patience(COMPACT_S)
                self._compact_now()
                self._supervisor.patience(None)
            self._sweeper.work(ticks_ms())
            self._holding.look(ticks_ms(), now)
            if turn.busy or not self._gathers(now):
                turn = self._turn(now)
                self._keeper.work(ticks_ms())
        self._turn(now_ms())
        self._keeper.close()
        self._log.event("daemon_stopped", pid=os.getpid())
        self.close()
        return 0

    def _woke(self) -> None:
        """A round of the loop begins."""
        self._watchdog.begin()
        self._pool.wake(ticks_ms())

    def _give_up(self) -> None:
        """On the watchdog's thread: the loop will not turn again. Who waits hears so at once; workers end without a daemon."""
        if self._door is not None:
            self._door.hang_up()  # a process whose disk is stuck may take its time to end
        os._exit(EXIT_BROKEN)

    def failed(self, why: str) -> None:
        """The loop has failed: whoever reads the log finds why, and nothing is left that only the loop would end."""
        self._holding.stop()
        self._log.event("daemon_failed", "error", why=why, pid=os.getpid())

    def _gathers(self, now: int) -> bool:
        """Whether all there is to do is to store ends that nobody waits for: a moment later they share a commit."""
        if not self._pool.waiting or self._broker.in_hurry(now) or self._draining:
            self._gather_until = 0
            return False
        ticks = ticks_ms()
        self._gather_until = self._gather_until or ticks + GATHER_MS
        if ticks < self._gather_until:
            return True
        self._gather_until = 0
        return False

    def _sleep_s(self, turn: Turn) -> float | None:
        """How long nothing needs to be done, unless something arrives."""
        if self._gather_until and not turn.busy:
            return max(self._gather_until - ticks_ms(), 0) / 1000
        if turn.busy or self._pool.waiting or self._broker.waiting or self._followers.waiting or (self._door and self._door.unread):
            return 0.0
        now, ticks = now_ms(), ticks_ms()
        left = min(self._kill_at, self._supervisor.beat_at) - ticks
        by_ticks = self._pool.next_due, self._sweeper.due_at, self._holding.due_at, self._followers.due_at
        for at, clock in ((self._broker.next_due, now), (self._log.due_at, now), *((at, ticks) for at in by_ticks)):
            if at is not None and at - clock < left:
                left = at - clock
        if self._looks:
            left = min(left, max(self._looks[0][2] + LOOK_MS - ticks, 0))
        if self._door is not None and self._door.deaf:
            left = min(left, DEAF_S * 1000)
        return None if left == math.inf else min(max(left, 0) / 1000, 86_400.0)

    def _turn(self, now: int) -> Turn:
        broker, pool = self._broker, self._pool
        wants = [] if self._draining else pool.wants(ticks_ms())
        boards = pool.closed
        if pool.waiting:
            broker.settled(pool.settled())
            self._sweeper.stir(ticks_ms())
        if pool.said:
            broker.said(map(Said._make, pool.said))
            pool.said.clear()
        while pool.hellos:
            self._learn(pool.hellos.pop(), now)
        broker.desk.followed = self._followers.tasks
        turn = broker.turn(now, wants)
        self._stored(boards)
        for conn, data in turn.answers:
            self._send(conn, data)
        for want, tasks in turn.grants:
            pool.hand_out(want, tasks, ticks_ms(), now_ms())  # the commit may have taken long, which is not the worker's delay
        for event, rows in turn.steps:
            if event == "cancel_asked":
                for task in rows:
                    pool.cancel(task.id)
            self._log.steps(WORDS.get(event, event), rows, self._describe, now)
        if self._log.due_at is not None:
            self._log.turn_second(now)
        self._followers.look(ticks_ms())
        if self._followers.waiting:
            self._followers.push()
        for task_id, state, exit_code in turn.ended:
            self._followers.ended(task_id, state, exit_code)
        if turn.removed and self._followers.waiting:
            self._followers.push()  # what is followed to its end, and kept no longer
        for task_id in turn.removed:
            output.remove(self._logs, task_id)
        for name in self._store.freed():
            spool.forget(str(self._dir), name)
        if pool.gathers:
            pool.gather(broker.waiting_of(pool.gathers), ticks_ms(), granted=bool(turn.grants))
        pool.scale(ticks_ms())
        if pool.checked:
            self._answer_checks()
            self._try_application()
        if self._looks:
            self._answer_looks(ticks_ms())
        if self._door is not None:
            self._door.let_go(self._holds)
        return turn

    def _live(self, task_id: int) -> dict[str, Any]:
        """What only the pool knows of a running task, as keys of its row."""
        found: dict[str, Any] = {}
        if task_id in self._pool.progress:
            found["progress"] = self._pool.progress[task_id]
        if task_id in self._pool.suspended:
            found["suspended"] = True
        return found

    def _running(self) -> set[int]:
        return {task_id for worker in self._pool.workers for task_id in worker.jobs}

    def _is_over(self, task_id: int) -> bool:
        """Whether nobody will write output for a task: it has ended, or is not known any more."""
        try:
            task = self._store.get([task_id])[0]
        except StoreError:
            return False
        return task is None or task.state.final

    def _swept(self, tasks: int, size: int) -> None:
        self._log.event("output_removed", tasks=tasks, bytes=size, keep_logs=self._settings.keep_logs)

    def _describe(self, row: Any) -> Description:
        return describe(row, self._store)

    def _learn(self, types: list[TypeInfo], now: int) -> None:
        """Remember what a new worker's hello names; without room, the next worker's says it again."""
        if self._watcher is not None:
            self._watcher.watch(self._pool.files)
        try:
            self._broker.put_types(types, now)
        except (Refused, ConfigError) as error:
            self._log.event("types_not_stored", "warning", why=error.message)

    def _stored(self, boards: list[Path]) -> None:
        """What these boards of dead workers say is stored, unless there was no room for it: then they are still needed, as is
        the note that this store is a copy, whose tasks no board knows."""
        if self._broker.owed:
            return
        while boards:
            boards.pop().unlink(missing_ok=True)
        if self._store.copied:
            self._store.adopt()

    def close(self) -> None:
        if self._watcher is not None:
            self._watcher.close()
        if self._door is not None:
            self._door.shut()
        self._holding.close()
        self._store.close()
        self._supervisor.close()
        self._loop.close()
        self._log.close()
        self._lock.close()
        self._watchdog.end()

    # -- a changed application -------------------------------------------------------------------------------------

    def _on_change(self) -> None:
        """Files of the application have changed: try it, then replace the workers; a broken one changes nothing."""
        assert self._watcher is not None
        files = self._watcher.changed()
        self._log.event("application_changed", files=files[:10])
        self._stale = True
        self._try_application()

    def _try_application(self) -> None:
        """Import the application as it is now, if it has changed and nothing else is being tried."""
        if not self._stale or self._checks or self._draining:
            return
        self._stale = False
        try:
            self._check(0, self._reloaded)
        except (OSError, ConfigError) as error:  # no descriptors, no memory, no room: with the next change
            self._log.event("reload_refused", "error", why=str(error))

    def _read_again(self) -> None:
        """SIGHUP: take over of the settings what a running daemon can, and the application as it is now; a fault changes nothing."""
        if self._draining:
            return
        self._supervisor.reloading()
        try:
            fresh, said = self._book.sources.load()
            declare(self._broker, fresh, now_ms())
        except (ConfigError, Refused) as error:
            self._log.event("reload_refused", "error", why=error.message)
            self._supervisor.ready("its settings were not taken over: " + error.message)
            return
        self._adopt(fresh, said, {"log_level"})
        self._settings = replace(self._settings, queues=fresh.queues, alerts=fresh.alerts, resources=fresh.resources, limits=fresh.limits)
        later = [name for name in OPTIONS if getattr(fresh, name) != getattr(self._settings, name)]
        self._log.event("settings_read_again", file=str(fresh.file), need_a_restart=later)
        self._stale = True
        self._try_application()
        if self._stale or not self._checks:  # it is being checked already, or could not be: the words for that are in the log
            self._supervisor.ready(f"serves {self._dir}")

    def _sweep_beyond(self, most: int) -> None:
        if self._sweeper.most != most:
            self._sweeper.most = most
            self._sweeper.stir(ticks_ms())

    def _reloaded(self, _: list[TypeInfo], refused: str | None) -> None:
        self._supervisor.ready(f"serves {self._dir}" if refused is None else "the new application was refused: see the log")
        if self._stale:  # it has changed since
            return
        if refused is not None:
            self._log.event("reload_refused", "error", why=refused)
        else:
            self._pool.restart([worker.name for worker in self._pool.workers if not worker.only_checks], ticks_ms())

    # -- stopping --------------------------------------------------------------------------------------------------

    def _on_stop_signal(self) -> None:
        if self._draining:
            self._kill_at = 0
        else:
            self._drain(self._settings.grace_s)

    def _drain(self, grace_s: float) -> None:
        """No new work; what runs may finish within the grace, then it is interrupted."""
        if not self._draining:
            running = self._pool.slots[0]
            self._log.event("drain_started", grace_s=grace_s, running=running)
            self._supervisor.stopping(grace_s + self._settings.kill_grace_s + END_S, f"waits for {running} running tasks")
            self._draining = True
            self._holding.stop()
            self._pool.drain()
        self._kill_at = min(self._kill_at, ticks_ms() + int(grace_s * 1000))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tq.daemon", description="The tq daemon; `tq daemon start` starts it.")
    parser.add_argument("--data-dir")
    parser.add_argument("--app")
    parser.add_argument("--workers", type=int)
    parser.add_argument("--min-workers", type=int)
    parser.add_argument("--max-workers", type=int)
    parser.add_argument("--slots", type=int)
    parser.add_argument("--log-level")
    parser.add_argument("--grace", type=float, dest="grace_s")
    parser.add_argument("--ready-fd", type=int)
    parser.add_argument("--foreground", action="store_true")
    parser.add_argument("--reload", action="store_true")
    return parser


def _tell(fd: int | None, text: str) -> None:
    """Say to whoever started us how it went."""
    if fd is None:
        if text.startswith("error"):
            sys.stderr.write(text.split(" ", 2)[2].rstrip() + "\n")
        return
    try:
        os.write(fd, text.encode(errors="replace"))
        os.close(fd)
    except OSError:
        pass  # it did not wait


FILES = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
"""Descriptors that this process could have before it asked for more: what commands find, as whoever started it does."""


def _set_limits() -> None:
    """As many descriptors as the system allows: each client takes one and each worker five. No core: it would hold payloads."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    resource.setrlimit(resource.RLIMIT_CORE, (0, resource.getrlimit(resource.RLIMIT_CORE)[1]))


def main(argv: list[str] | None = None) -> int:
    """Start, run, stop; the process's exit code."""
    _set_limits()
    args = vars(_parser().parse_args(argv))
    ready_fd, foreground, reload = args.pop("ready_fd"), args.pop("foreground"), args.pop("reload")
    daemon, supervisor = None, Supervisor(os.environ)
    try:
        args["data_dir"] = str(Path(data_dir_of(args["data_dir"])))
        sources = Sources({name: value for name, value in args.items() if value is not None}, dict(os.environ))
        settings, said = sources.load()
        daemon = Daemon(settings, foreground, reload, supervisor, Book(sources, said))
        daemon.start()
    except TqError as error:
        supervisor.status(error.message)
        _tell(ready_fd, f"error {error.exit_code} {error.message}\n")
        if daemon is not None:
            daemon.close()
        return error.exit_code
    except OSError as error:
        _tell(ready_fd, f"error {EXIT_STORE} the daemon cannot start: {error}. Nothing is lost; see to that, then try again.\n")
        return EXIT_STORE
    _tell(ready_fd, f"ready {os.getpid()}\n")
    try:
        code = daemon.run()
        for number in (signal.SIGTERM, signal.SIGINT):  # it is over: one that still comes must not make it look killed
            signal.signal(number, signal.SIG_IGN)
        return code
    except StoreError as error:
        daemon.failed(error.message)
        sys.stderr.write(f"tq daemon: {error.message}\n")
        return EXIT_STORE
    except Exception:  # noqa: BLE001 - a bug: what is stored is whole, and the next daemon goes on from there
        daemon.failed(traceback.format_exc())
        traceback.print_exc()
        return EXIT_BROKEN

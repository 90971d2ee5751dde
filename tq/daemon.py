"""The daemon: settings made into store, broker, pool and door, and the one loop that drives them.

For: composition, start and stop, signals, the daemon's own verbs (status, workers, log, stop ...).
Not for: task verbs (broker), anything that computes for more than a millisecond.
Runs in: the daemon process (``python -m tq.daemon``), which this file is.
Promises: one turn at a time: take what arrived, one transaction, commit, then answer, hand out, publish, sleep;
SIGTERM drains and exits 0, a second one ends at once; an application that does not import stops the start, with its
traceback, before anything is answered; a store that cannot be written ends the process rather than lie.
"""

from __future__ import annotations

import argparse
import difflib
import gc
import math
import os
import random
import resource
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tq import __version__, output, wire
from tq.answers import error_answer
from tq.api.follow import Followers
from tq.api.unix import DEAF_S, Connection, UnixDoor
from tq.broker import Broker, Turn
from tq.child import Child
from tq.config import data_dir_of, load_settings, prepare_data_dir
from tq.config.settings import Settings
from tq.errors import ConfigError, NoSuchTask, ProtocolError, Refused, StoreError, TqError, UsageError
from tq.intake import Defaults
from tq.log import Log, Step
from tq.loop import Loop
from tq.model import Task
from tq.pool import Pool
from tq.store import Claimed, Draft, Limits, TypeInfo
from tq.store.files import Lock
from tq.store.lmdb import LmdbStore
from tq.waiting import Request

STALL_S = 5.0
"""A turn that takes longer is reported by the watchdog: the disk does not answer."""
GATHER_MS = 2
"""How long ends may wait for company when nobody waits for them: a commit less for each task of a trickle."""
EXIT_STORE = 74
"""The exit code when the store cannot be written (EX_IOERR)."""


def now_ms() -> int:
    """The wall clock: for what is stored and shown."""
    return time.time_ns() // 1_000_000


def ticks_ms() -> int:
    """A clock that never steps: for how long something takes."""
    return time.monotonic_ns() // 1_000_000


class Watchdog(threading.Thread):
    """Notices a turn that does not end. It sleeps, and in an idle daemon it sleeps for ever."""

    def __init__(self, log: Log) -> None:
        super().__init__(name="watchdog", daemon=True)
        self._log = log
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
        while self._awake.wait():
            turns = self._turns
            time.sleep(STALL_S)
            began = self.began
            if began and turns == self._turns:
                self._log.event("turn_stalled", "error", seconds=round(time.monotonic() - began, 1))
            elif turns == self._turns:
                self._awake.clear()


class Daemon:
    """One running daemon. ``run`` returns its exit code."""

    def __init__(self, settings: Settings, foreground: bool = False) -> None:
        self._settings = settings
        self._dir = settings.data_dir
        prepare_data_dir(self._dir)
        os.umask(0o077)
        self._lock = Lock(self._dir)
        self._log = Log(None if foreground else self._dir, settings.log_level)
        self._logs = self._dir / "logs"
        self._logs.mkdir(mode=0o700, exist_ok=True)
        limits = Limits(
            queue_tasks=settings.queue_tasks, queue_bytes=settings.queue_bytes, keep=settings.keep, keep_ms=settings.keep_ms,
            keep_failed_ms=settings.keep_failed_ms, keep_requests_ms=settings.keep_requests_ms,
        )  # fmt: skip
        self._store = LmdbStore(self._dir / "store", limits, settings.map_size)
        defaults = Defaults(settings.retries_functions, int(settings.timeout_functions_s * 1000), settings.max_payload)
        self._broker = Broker(self._store, limits, defaults, random.random)
        self._loop = Loop()
        told = {
            "data_dir": str(self._dir),
            "app": settings.app, "slots": settings.slots, "log_limit": settings.log_bytes, "result_limit": settings.max_result,
            "grace_ms": int(settings.kill_grace_s * 1000),
        }  # fmt: skip
        self._pool = Pool(self._loop, told, settings.workers, settings.worker_recycle, self._log.event)
        self._loop.woke = lambda: self._pool.wake(ticks_ms())
        self._broker.slots = lambda: self._pool.slots
        self._watchdog = Watchdog(self._log)
        self._started_at = now_ms()
        self._boot = os.urandom(8).hex()
        self._draining = False
        self._kill_at = math.inf
        self._gather_until = 0
        self._checks: dict[str, tuple[int, int]] = {}
        self._door: UnixDoor | None = None
        self._followers = Followers(self._loop, self._logs, self._send, lambda conn: self._door.unsent(conn) if self._door else 0)
        self._verbs: dict[str, Callable[[Connection, int, dict[str, Any]], dict[str, Any] | None]] = {
            "hello": self._hello, "status": self._status, "workers": self._workers, "log": self._log_verb,
            "set_log": self._set_log, "check_app": self._check_app, "stop": self._stop,
        }  # fmt: skip

    # -- the loop --------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Recover, start the workers, wait for the first hello, open the door. ConfigError: the application refused."""
        for number in (signal.SIGTERM, signal.SIGINT):
            self._loop.on_signal(number, self._on_stop_signal)
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        begun = self._pool.bury()
        interrupted, released = self._broker.recover(begun, now_ms())
        self._remove_boards(self._pool.closed)
        self._pool.start(ticks_ms())
        self._await_hello()
        max_frame, connections = self._settings.max_frame, self._settings.max_connections
        path, drained = self._dir / wire.SOCKET, self._followers.drained
        self._door = UnixDoor(self._loop, path, self._serve, self._gone, max_frame, connections, drained, self._broker.full)
        self._watchdog.start()
        self._log.event(
            "daemon_started", version=__version__, pid=os.getpid(), data_dir=str(self._dir), app=self._settings.app,
            workers=self._settings.workers, slots=self._settings.slots, interrupted=interrupted, released=released,
        )  # fmt: skip
        gc.collect()
        gc.freeze()
        gc.set_threshold(50_000, 20, 50)  # the hot path makes many short-lived tuples and no cycles

    def _await_hello(self) -> None:
        """Until one worker is ready, or one has refused."""
        while not self._draining and self._settings.workers:
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
            self._loop.poll(self._sleep_s(turn))
            self._pool.tick(ticks_ms())  # after what has arrived: an answer that is there is not late
            now = now_ms()
            if ticks_ms() >= self._kill_at:
                self._kill_at = math.inf
                self._pool.kill()
            if self._door is not None:
                self._door.read_on()
                self._door.hear()
            if turn.busy or not self._gathers(now):
                turn = self._turn(now)
        self._turn(now_ms())
        self._log.event("daemon_stopped", pid=os.getpid())
        self.close()
        return 0

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
        left = self._kill_at - ticks
        for at, clock in ((self._broker.next_due, now), (self._log.due_at, now), (self._pool.next_due, ticks)):
            if at is not None and at - clock < left:
                left = at - clock
        if self._door is not None and self._door.deaf:
            left = min(left, DEAF_S * 1000)
        return None if left == math.inf else min(max(left, 0) / 1000, 86_400.0)

    def _turn(self, now: int) -> Turn:
        broker, pool = self._broker, self._pool
        self._watchdog.begin()
        wants = [] if self._draining else pool.wants(ticks_ms())
        boards = pool.closed
        if pool.waiting:
            broker.settled(pool.settled())
        while pool.hellos:
            self._learn(pool.hellos.pop(), now)
        broker.followed = self._followers.tasks
        turn = broker.turn(now, wants)
        if boards and not broker.owed:
            self._remove_boards(boards)
        for conn, data in turn.answers:
            self._send(conn, data)
        for want, tasks in turn.grants:
            pool.hand_out(want, tasks, ticks_ms())  # the commit may have taken long, which is not the worker's delay
        for event, rows in turn.steps:
            if event == "cancel_asked":
                for task in rows:
                    pool.cancel(task.id)
            self._log.steps(_WORDS.get(event, event), rows, self._describe, now)
        if self._log.due_at is not None:
            self._log.turn_second(now)
        if self._followers.waiting:
            self._followers.push()
        for task_id, _, _ in turn.ended:
            self._followers.ended(task_id)
        for task_id in turn.removed:
            output.remove(self._logs, task_id)
        self._answer_checks()
        if self._door is not None:
            self._door.let_go(self._holds)
        self._watchdog.end()
        return turn

    def _learn(self, types: list[TypeInfo], now: int) -> None:
        """Remember what a new worker's hello names; without room, the next worker's says it again."""
        try:
            self._broker.put_types(types, now)
        except (Refused, ConfigError) as error:
            self._log.event("types_not_stored", "warning", why=error.message)

    def _remove_boards(self, boards: list[Path]) -> None:
        """What dead workers' boards say is stored."""
        while boards:
            boards.pop().unlink(missing_ok=True)

    def close(self) -> None:
        if self._door is not None:
            self._door.shut()
        self._store.close()
        self._loop.close()
        self._log.close()
        self._lock.close()

    def _send(self, conn: int, data: bytes) -> None:
        if self._door is not None:
            self._door.send(conn, data)

    # -- stopping --------------------------------------------------------------------------------------------------

    def _on_stop_signal(self) -> None:
        if self._draining:
            self._kill_at = 0
        else:
            self._drain(self._settings.grace_s)

    def _drain(self, grace_s: float) -> None:
        """No new work; what runs may finish within the grace, then it is interrupted."""
        if not self._draining:
            self._log.event("drain_started", grace_s=grace_s, running=self._pool.slots[0])
            self._draining = True
            self._pool.drain()
        self._kill_at = min(self._kill_at, ticks_ms() + int(grace_s * 1000))

    # -- requests --------------------------------------------------------------------------------------------------

    def _serve(self, connection: Connection, number: int, verb: str, args: dict[str, Any]) -> None:
        """One request: a verb of the daemon's own is answered here, one of the broker's in the next turn."""
        try:
            if not connection.greeted and verb != "hello":
                raise ProtocolError(f"expected hello as the first request, got {verb!r:.80}. See tq/wire.py.")
            own = self._verbs.get(verb)
            topics = args.get("topics")
            if verb == "watch" and isinstance(topics, list) and "output" in topics:
                own = self._follow
            if own is not None:
                body = own(connection, number, args)
                if body is not None:
                    self._send(connection.id, wire.frame([number, wire.ANSWER, body]))
                return
            if verb not in self._broker.verbs:
                known = sorted({*self._verbs, *self._broker.verbs})
                close = difflib.get_close_matches(verb, known, 1)
                hint = f" Did you mean {close[0]!r}?" if close else ""
                raise ProtocolError(f"expected a verb ({', '.join(known)}), got {verb!r:.80}.{hint}")
            if self._draining and verb in ("enqueue", "claim"):
                raise Refused("the daemon is stopping and takes no new work. Try again when it runs again.", retry_after=5.0)
            self._broker.submit(Request(connection.id, number, verb, args, connection.nonce))
        except TqError as error:
            self._send(connection.id, wire.error(number, error.code, error.message, error.details))
        except Exception as error:  # noqa: BLE001 - a bug in one verb must not end the daemon
            self._log.event("request_failed", "error", verb=verb, error=repr(error))
            self._send(connection.id, error_answer(number, error))

    def _holds(self, conn: int) -> bool:
        """Whether a connection has anything to expect."""
        return self._broker.holds(conn) or self._followers.holds(conn) or any(asked == conn for asked, _ in self._checks.values())

    def _gone(self, conn: int) -> None:
        self._broker.gone(conn)
        self._followers.gone(conn)

    def _hello(self, connection: Connection, number: int, args: dict[str, Any]) -> dict[str, Any]:
        if args.get("protocol") != wire.PROTOCOL:
            raise ProtocolError(
                f"hello: expected protocol {wire.PROTOCOL}, got {args.get('protocol')!r:.40}. Use a client of the same tq version."
            )
        nonce = args.get("nonce")
        if nonce is not None and not (isinstance(nonce, bytes) and len(nonce) == 8):
            raise ProtocolError("hello: nonce: expected 8 bytes or nil.")
        connection.nonce, connection.greeted = nonce, True
        return {
            "protocol": wire.PROTOCOL, "version": __version__, "boot": self._boot, "pid": os.getpid(), "now": now_ms(),
            "max_frame": self._settings.max_frame,
        }  # fmt: skip

    def _status(self, connection: Connection, number: int, args: dict[str, Any]) -> dict[str, Any]:
        settings, (active, total) = self._settings, self._pool.slots
        return {
            "pid": os.getpid(), "boot": self._boot, "version": __version__, "started_at": self._started_at, "data_dir": str(self._dir),
            "draining": self._draining, "connections": self._door.connections if self._door else 0,
            "workers": {"active": active, "total": total}, "last_id": self._store.last_id(),
            "options": {
                "app": settings.app, "workers": settings.workers, "slots": settings.slots,
                "log_level": settings.log_level, "grace_s": settings.grace_s,
            },
        }  # fmt: skip

    def _workers(self, connection: Connection, number: int, args: dict[str, Any]) -> dict[str, Any]:
        return {"workers": [self._worker(worker) for worker in self._pool.workers if not worker.only_checks]}

    def _worker(self, worker: Child) -> dict[str, Any]:
        import psutil  # only who looks pays for it

        try:
            process = psutil.Process(worker.process.pid)
            cpu, memory = sum(process.cpu_times()[:2]), process.memory_info().rss
        except psutil.Error:
            cpu, memory = 0.0, 0
        running = list(worker.jobs)[: self._settings.slots]
        past = now_ms() - ticks_ms()
        return {
            "id": worker.name, "hostname": socket.gethostname(), "pid": worker.process.pid, "state": _worker_state(worker),
            "started_at": past + worker.started_at, "last_heartbeat": past + worker.active_at, "tasks": running,
            "ahead": len(worker.jobs) - len(running), "done": worker.done, "cpu_s": cpu, "memory": memory,
        }  # fmt: skip

    def _task(self, task_id: object) -> Task:
        if not isinstance(task_id, int) or isinstance(task_id, bool):
            raise UsageError(f"id: expected a task number, got {task_id!r:.80}.")
        task = self._store.get([task_id])[0]
        if task is None:
            raise NoSuchTask(f"expected a task's id, got {task_id}, which is not (or no longer) here. See `tq list`.", id=task_id)
        return task

    def _log_verb(self, connection: Connection, number: int, args: dict[str, Any]) -> dict[str, Any]:
        task, offset, limit = self._task(args.get("id")), args.get("offset") or 0, args.get("limit") or 64 << 10
        if not isinstance(offset, int) or not isinstance(limit, int) or offset < 0 or not 0 < limit <= 512 << 10:
            raise UsageError("log: expected offset >= 0 and limit up to 524288 bytes.")
        chunks, after = output.read(self._logs, task.id, offset, limit)
        return {"chunks": [list(chunk) for chunk in chunks], "next": after, "end": task.state.final and not chunks}

    def _follow(self, connection: Connection, number: int, args: dict[str, Any]) -> None:
        ids, offset = args.get("ids") or [], args.get("offset") or 0
        if args.get("topics") != ["output"] or not isinstance(ids, list) or len(ids) != 1 or not isinstance(offset, int) or offset < 0:
            raise UsageError("watch: expected the topic output alone, with one id and an offset from 0 on.")
        task = self._task(ids[0])
        self._followers.add(connection.id, number, task.id, offset, task.state.final)
        self._send(connection.id, wire.frame([number, wire.ANSWER, {}]))

    def _set_log(self, connection: Connection, number: int, args: dict[str, Any]) -> dict[str, Any]:
        level = args.get("level")
        if level not in ("debug", "info", "warning", "error"):
            raise UsageError(f"set_log: expected debug, info, warning or error, got {level!r:.40}.")
        self._log.set_level(level)
        return {}

    def _check_app(self, connection: Connection, number: int, args: dict[str, Any]) -> None:
        if self._checks:
            raise Refused("expected one check of the application at a time, another is under way. Try again later.")
        worker = self._pool.spawn(ticks_ms(), only_checks=True)
        self._checks[worker.name] = (connection.id, number)

    def _answer_checks(self) -> None:
        for name, types, refused in self._pool.checked:
            conn, number = self._checks.pop(name, (0, 0))
            if refused is not None:
                self._send(conn, wire.error(number, ConfigError.code, self._refusal(refused)))
            else:
                self._send(conn, wire.frame([number, wire.ANSWER, {"types": [info.name for info in types]}]))
        self._pool.checked.clear()

    def _stop(self, connection: Connection, number: int, args: dict[str, Any]) -> dict[str, Any]:
        self._drain(0.0 if args.get("now") else self._settings.grace_s)
        return {}

    # -- what the log says of a step -------------------------------------------------------------------------------

    def _describe(self, row: Any) -> Step:
        """A row of ``Turn.steps`` as (id, type, queue, more); only called for rows that are written."""
        if isinstance(row, Claimed):
            return row.id, row.header.type, row.header.queue, {"claim": row.claim, "attempt": row.attempt + 1}
        if isinstance(row, Task):
            head, status = row.spec.header, row.status
            error = (status.error or {}).get("type")
            return row.id, head.type, head.queue, {"state": status.state.word, "attempt": status.attempt, "error": error}
        if isinstance(row, tuple) and len(row) == 2 and isinstance(row[1], Draft):
            return row[0], row[1].header.type, row[1].header.queue, {"priority": row[1].header.priority, "bytes": len(row[1].payload)}
        if isinstance(row, tuple):
            return row[0], row[1], "", {"seen": row[2], "changed": row[3]}
        task = self._store.get([row[0]])[0]
        kind, queue = (task.spec.header.type, task.spec.header.queue) if task is not None else ("", "")
        return row[0], kind, queue, {"run_ms": row[4] - row[3]}


_WORDS = {"claimed": "started"}


def _worker_state(worker: Child) -> str:
    if worker.state != "ready":
        return worker.state
    return "busy" if worker.jobs else "idle"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tq.daemon", description="The tq daemon; `tq daemon start` starts it.")
    parser.add_argument("--data-dir")
    parser.add_argument("--app")
    parser.add_argument("--workers", type=int)
    parser.add_argument("--slots", type=int)
    parser.add_argument("--log-level")
    parser.add_argument("--grace", type=float, dest="grace_s")
    parser.add_argument("--ready-fd", type=int)
    parser.add_argument("--foreground", action="store_true")
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


def _raise_limits() -> None:
    """As many descriptors as the system allows: each client takes one and each worker five."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def main(argv: list[str] | None = None) -> int:
    """Start, run, stop; the process's exit code."""
    _raise_limits()
    args = vars(_parser().parse_args(argv))
    ready_fd, foreground = args.pop("ready_fd"), args.pop("foreground")
    daemon = None
    try:
        args["data_dir"] = str(Path(data_dir_of(args["data_dir"])))
        daemon = Daemon(load_settings(args), foreground)
        daemon.start()
    except TqError as error:
        _tell(ready_fd, f"error {error.exit_code} {error.message}\n")
        if daemon is not None:
            daemon.close()
        return error.exit_code
    _tell(ready_fd, f"ready {os.getpid()}\n")
    try:
        return daemon.run()
    except StoreError as error:
        sys.stderr.write(f"tq daemon: {error.message}\n")
        return EXIT_STORE


if __name__ == "__main__":
    sys.exit(main())

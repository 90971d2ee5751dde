"""The verbs that the daemon answers itself: about its process, its workers, and what tasks print.

For: ``hello status workers log input watch(output) set_log check_app compact stop scale_workers drain_worker restart_workers config
configure``.
Not for: verbs about tasks (broker), what settings are and how they change (configuring), the loop (daemon).
Runs in: the daemon, on the thread of its loop, as requests arrive.
Promises: arguments are checked before anything is done; a bug in one verb is an error for who asked; what is sampled
(CPU, memory, signs of life) is sampled when somebody asks, and never else.
"""

from __future__ import annotations

import difflib
import math
import os
import socket
import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import replace
from typing import Any

from tq import __version__, inlet, output, wire
from tq.answers import error_answer
from tq.api.follow import Followers
from tq.api.unix import Connection, UnixDoor
from tq.arguments import arguments, between
from tq.broker import Broker
from tq.broker.desk import Sight
from tq.child import Child
from tq.config import editing
from tq.config.settings import LIVE, MAX_WORKERS, Settings
from tq.daemon.configuring import Book, Standing, changes_of
from tq.errors import ConfigError, NoSuchTask, ProtocolError, Refused, TqError, UsageError
from tq.log import Log
from tq.model import SHELL, State, Task, brief
from tq.pool import Pool
from tq.roles import READ_ONLY, READ_WRITE, allow
from tq.store import TypeInfo
from tq.store.lmdb import LmdbStore
from tq.waiting import Request

NUMBER = frozenset({"workers", "min_workers", "max_workers"})
"""Options that say how many workers there are."""
VIA_MOST = 20
LOOK_MS = 100
"""How long workers have, at most, to give a sign of life to who looks at them."""

Answer = dict[str, Any]
Checked = Callable[[list[TypeInfo], str | None], None]
"""Called when an application check is over: its types, and why it refused (None: it did not)."""


def now_ms() -> int:
    """The wall clock: for what is stored and shown."""
    return time.time_ns() // 1_000_000


def ticks_ms() -> int:
    """A clock that never steps: for how long something takes."""
    return time.monotonic_ns() // 1_000_000


class Verbs:
    """What the daemon is made of, and what it says of itself; ``Daemon`` builds on it."""

    def __init__(
        self, settings: Settings, book: Book, store: LmdbStore, broker: Broker, pool: Pool, followers: Followers, log: Log, reload: bool
    ) -> None:
        self._settings, self._book = settings, book
        self._dir = settings.data_dir
        self._logs = self._dir / "logs"
        self._store, self._broker, self._pool, self._followers, self._log = store, broker, pool, followers, log
        self._reload = reload
        self._door: UnixDoor | None = None
        self._supervised = False  # a service manager runs this process
        self._started_at = now_ms()
        self._boot = os.urandom(8).hex()
        self._draining = False
        self._checks: dict[str, tuple[int, Checked]] = {}
        self._compactions: list[tuple[Connection, int]] = []  # who asked for one, and the request
        self._looks: list[tuple[int, int, int]] = []  # who waits to see the workers: connection, request, since when
        self._cpu: dict[int, tuple[int, float]] = {}  # by pid: when its CPU time was last looked at, and how much it was (s)
        self._verbs: dict[str, Callable[[Connection, int, dict[str, Any]], Answer | None]] = {
            "hello": self._hello, "status": self._status, "workers": self._workers, "log": self._log_verb, "input": self._input,
            "set_log": self._set_log, "check_app": self._check_app, "compact": self._compact, "stop": self._stop,
            "scale_workers": self._scale_workers, "drain_worker": self._drain_worker, "restart_workers": self._restart_workers,
            "config": self._config, "configure": self._configure,
        }  # fmt: skip

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
                allow(verb, connection.read_only)
                body = own(connection, number, args)
                if body is not None:
                    self._send(connection.id, wire.frame([number, wire.ANSWER, body]))
                return
            if verb not in self._broker.verbs:
                known = sorted({*self._verbs, *self._broker.verbs})
                close = difflib.get_close_matches(verb[:80], known, 1)
                hint = f" Did you mean {close[0]!r}?" if close else ""
                raise ProtocolError(f"expected a verb ({', '.join(known)}), got {verb!r:.80}.{hint}")
            allow(verb, connection.read_only)
            if self._draining and verb in ("enqueue", "claim"):
                raise Refused("the daemon is stopping and takes no new work. Try again when it runs again.", retry_after=5.0)
            self._broker.submit(Request(connection.id, number, verb, args, connection.nonce, connection.who, connection.size))
        except TqError as error:
            self._send(connection.id, wire.error(number, error.code, error.message, error.details))
        except Exception as error:  # noqa: BLE001 - a bug in one verb must not end the daemon
            self._log.event("request_failed", "error", verb=verb, error=repr(error))
            self._send(connection.id, error_answer(number, error))

    def _send(self, conn: int, data: bytes) -> None:
        if self._door is not None:
            self._door.send(conn, data)

    def _holds(self, conn: int) -> bool:
        """Whether a connection has anything to expect."""
        waits = (
            (asked for asked, _ in self._checks.values()), (asked for asked, _, _ in self._looks),
            (connection.id for connection, _ in self._compactions),
        )  # fmt: skip
        return self._broker.holds(conn) or self._followers.holds(conn) or any(conn in asked for asked in waits)

    def _gone(self, conn: int) -> None:
        self._broker.gone(conn)
        self._followers.gone(conn)

    def _hello(self, connection: Connection, number: int, args: dict[str, Any]) -> Answer:
        if args.get("protocol") != wire.PROTOCOL:
            raise ProtocolError(
                f"hello: expected protocol {wire.PROTOCOL}, got {args.get('protocol')!r:.40}. Use a client of the same tq version."
            )
        nonce = args.get("nonce")
        if nonce is not None and not (isinstance(nonce, bytes) and len(nonce) == 8):
            raise ProtocolError("hello: nonce: expected 8 bytes or nil.")
        if not isinstance(args.get("read_only"), bool | None):
            raise ProtocolError(f"hello: read_only: expected true or false, got {args['read_only']!r:.40}.")
        via = args.get("via") or ""
        if not isinstance(via, str) or len(via) > VIA_MOST or (via and not (via.isascii() and via.isalpha())):
            raise ProtocolError(f"hello: via: expected a word of at most {VIA_MOST} letters or nil, got {via!r:.40}.")
        if via and not connection.greeted:
            connection.who += f" via {via}"
        connection.nonce, connection.greeted = nonce, True
        connection.read_only = connection.read_only or args.get("read_only") is True  # what reads only does so for good
        return {
            "protocol": wire.PROTOCOL, "version": __version__, "boot": self._boot, "pid": os.getpid(), "now": now_ms(),
            "max_frame": self._settings.max_frame, "role": READ_ONLY if connection.read_only else READ_WRITE,
        }  # fmt: skip

    # -- the process -----------------------------------------------------------------------------------------------

    def _status(self, connection: Connection, number: int, args: dict[str, Any]) -> Answer:
        settings, (active, total), (low, high) = self._settings, self._pool.slots, self._pool.sizes
        return {
            "pid": os.getpid(), "boot": self._boot, "version": __version__, "started_at": self._started_at, "data_dir": str(self._dir),
            "draining": self._draining, "connections": self._door.connections if self._door else 0,
            "workers": {"active": active, "total": total}, "last_id": self._store.last_id(),
            "options": {
                "app": settings.app, "min_workers": low, "max_workers": high, "slots": settings.slots,
                "log_level": settings.log_level, "grace_s": settings.grace_s, "reload": self._reload,
            },
            "supervised": self._supervised, "alerts": dict(self._broker.raised),
            "held": {name: hold.row(now_ms()) for name, hold in self._broker.desk.held.items() if hold.rules},
        }  # fmt: skip

    def _set_log(self, connection: Connection, number: int, args: dict[str, Any]) -> Answer:
        level = args.get("level")
        if level not in ("debug", "info", "warning", "error"):
            raise UsageError(f"set_log: expected debug, info, warning or error, got {level!r:.40}.")
        self._log.set_level(level)
        return {}

    def _stop(self, connection: Connection, number: int, args: dict[str, Any]) -> Answer:
        self._drain(0.0 if args.get("now") else self._settings.grace_s)
        return {}

    def _drain(self, grace_s: float) -> None:
        raise NotImplementedError  # what ends the loop is the daemon's own

    def _compact(self, connection: Connection, number: int, args: dict[str, Any]) -> None:
        if self._draining:
            raise Refused("the daemon is stopping. Compact the store when it has stopped, or runs again.", retry_after=5.0)
        self._compactions.append((connection, number))  # between two turns: a store that is lost on the way ends the daemon

    def _compact_now(self) -> None:
        """Nobody is served meanwhile, and what is sent waits; StoreError ends the daemon."""
        while self._compactions:
            connection, number = self._compactions.pop()
            began = ticks_ms()
            try:
                before, after = self._store.compact()
            except Refused as error:
                self._send(connection.id, wire.error(number, error.code, error.message, error.details))
                continue
            paused = ticks_ms() - began
            self._log.event("compacted", before=before, after=after, paused_ms=paused)
            self._broker.note("compacted", "store", {"bytes": before}, {"bytes": after}, connection.who)
            self._send(connection.id, wire.frame([number, wire.ANSWER, {"before": before, "after": after, "paused_ms": paused}]))

    # -- settings --------------------------------------------------------------------------------------------------

    @property
    def _by_hand(self) -> dict[str, object]:
        """Options that verbs of their own have changed since they were read."""
        settings, (low, high) = self._settings, self._pool.sizes
        found: dict[str, object] = {} if self._log.level == settings.log_level else {"log_level": self._log.level}
        return found if (low, high) == settings.worker_range else found | {"min_workers": low, "max_workers": high}

    def _standing(self) -> Standing:
        return self._book.look(self._settings, self._by_hand)

    def _config(self, connection: Connection, number: int, args: dict[str, Any]) -> Answer:
        args = arguments("config", args, "ask", ask=str, changes=dict)
        if args["ask"] == "schema":
            return {"options": editing.schema()}
        if args["ask"] == "get":
            return self._book.told(self._standing(), self._by_hand)
        if args["ask"] == "validate":
            return {"errors": self._book.errors(self._standing(), changes_of("config", args.get("changes") or {}))}
        raise UsageError(f"config: ask: expected get, schema or validate, got {brief(args['ask'])}.")

    def _configure(self, connection: Connection, number: int, args: dict[str, Any]) -> Answer:
        args = arguments("configure", args, "changes", "revision", changes=dict, revision=str)
        if self._draining:
            raise Refused("the daemon is stopping. Change settings when it runs again.", retry_after=5.0)
        changes, before = changes_of("configure", args["changes"]), self._standing()
        settings, said, was, become = self._book.change(before, args["revision"], changes)
        self._adopt(settings, said, {editing.KEYS[key] for key in changes})
        after = self._standing()
        if was != become:
            self._broker.note("configured", "settings", was, become, connection.who)
            self._log.event("configured", file=str(settings.file), before=was, after=become, who=connection.who)
        wins = {key: who for key in changes if (who := self._book.wins(editing.KEYS[key]))}
        waits = [key for key in changes if key not in wins and self._waits(editing.KEYS[key], after)]
        applied = [key for key, name in editing.KEYS.items() if before.values[name] != after.values[name]]
        return {"revision": after.revision, "applied": applied, "waits": waits, "wins": wins}

    @staticmethod
    def _waits(name: str, standing: Standing) -> bool:
        """Whether the next start would have another value."""
        return standing.next is not None and getattr(standing.next, name) != standing.values[name]

    def _adopt(self, fresh: Settings, said: Mapping[str, str], touched: Collection[str]) -> None:
        """Take over what a running daemon can of fresh settings; ``touched``: options that count even if they were the same before."""
        old = self._settings
        self._settings = replace(old, file=fresh.file, **{name: getattr(fresh, name) for name in LIVE})
        self._book.said = {name: who for name, who in self._book.said.items() if name not in LIVE}
        self._book.said |= {name: who for name, who in said.items() if name in LIVE}
        if "log_level" in touched or fresh.log_level != old.log_level:
            self._log.set_level(fresh.log_level)
        if fresh.worker_range != old.worker_range or not NUMBER.isdisjoint(touched):
            self._pool.set_sizes(*fresh.worker_range, ticks_ms())
            self._broker.desk.intake.forget()  # how heavy a task may be
        self._pool.set_wear(int(fresh.scale_cooldown_s * 1000), fresh.worker_recycle, fresh.worker_max_rss, fresh.worker_failing)
        self._sweep_beyond(fresh.keep_logs)

    def _sweep_beyond(self, most: int) -> None:
        raise NotImplementedError  # what is done between turns is the daemon's own

    # -- the application -------------------------------------------------------------------------------------------

    def _refusal(self, why: str) -> str:
        return f"the application {self._settings.app!r} cannot be used by workers:\n{why}"

    def _check(self, conn: int, checked: Checked) -> None:
        """Have a fresh worker import the application, then call ``checked``; ``conn`` waits for it (0: nobody)."""
        if self._checks:
            raise Refused("expected one check of the application at a time, another is under way. Try again later.")
        worker = self._pool.spawn(ticks_ms(), only_checks=True)
        self._checks[worker.name] = (conn, checked)

    def _answer_checks(self) -> None:
        checked, self._pool.checked = self._pool.checked, []
        for name, types, refused in checked:
            if name in self._checks:
                self._checks.pop(name)[1](types, refused)

    def _check_app(self, connection: Connection, number: int, args: dict[str, Any]) -> None:
        def checked(types: list[TypeInfo], refused: str | None) -> None:
            if refused is not None:
                self._send(connection.id, wire.error(number, ConfigError.code, self._refusal(refused)))
            else:
                self._send(connection.id, wire.frame([number, wire.ANSWER, {"types": [info.name for info in types]}]))

        self._check(connection.id, checked)

    # -- workers ---------------------------------------------------------------------------------------------------

    def _sight(self, task: Task) -> Sight:
        """What bears on when a task runs and stands in no store."""
        kind = task.spec.header.type
        ready, starting, knowing = self._pool.crew_for(kind)
        crashes, wait_ms = self._pool.held_back(kind)
        now, left = now_ms(), self._pool.time_left(task.id)
        ends_at = None if left is None else 0 if left == math.inf else now + int(left)
        try_at = now + wait_ms if crashes else 0
        gathers = self._pool.gathered(kind)
        return Sight(self._draining, ready, starting, knowing, crashes, try_at, self._pool.begun(task.id), ends_at, gathers)

    def _workers(self, connection: Connection, number: int, args: dict[str, Any]) -> None:
        self._looks.append((connection.id, number, ticks_ms()))
        self._pool.ask()

    def _answer_looks(self, ticks: int) -> None:
        """Show the workers to who asked, once each has given a sign of life or has had its time."""
        while self._looks:
            conn, number, since = self._looks[0]
            if ticks < since + LOOK_MS and self._pool.silent(since):
                return
            del self._looks[0]
            workers = [self._worker(worker, ticks) for worker in self._pool.workers if not worker.only_checks]
            pids = {row["pid"] for row in workers}
            self._cpu = {pid: seen for pid, seen in self._cpu.items() if pid in pids}
            self._send(conn, wire.frame([number, wire.ANSWER, {"workers": workers}]))

    def _worker(self, worker: Child, ticks: int) -> Answer:
        import psutil  # only who looks pays for it

        pid = worker.process.pid
        try:
            process = psutil.Process(pid)
            used, rss = sum(process.cpu_times()[:2]), process.memory_info().rss
        except psutil.Error:
            used, rss = 0.0, 0
        then, before = self._cpu.get(pid, (worker.started_at, 0.0))
        if ticks - then >= LOOK_MS or pid not in self._cpu:  # of less, the kernel's clock ticks say nothing
            self._cpu[pid] = (ticks, used)
        cpu = 100_000 * max(used - before, 0.0) / max(ticks - then, 1)
        running = worker.running(self._settings.slots)
        past = now_ms() - ticks
        return {
            "id": worker.name, "hostname": socket.gethostname(), "pid": pid, "state": _worker_state(worker),
            "started_at": past + worker.started_at, "last_heartbeat": past + worker.heard_at, "tasks": running,
            "ahead": len(worker.jobs) - len(running), "done": worker.done, "cpu": round(cpu, 1), "cpu_s": round(used, 3), "rss": rss,
        }  # fmt: skip

    def _scale_workers(self, connection: Connection, number: int, args: dict[str, Any]) -> Answer:
        given = arguments("scale_workers", args, min=int, max=int)
        if not given:
            raise UsageError("scale_workers: expected min, max or both, got neither.")
        before = self._pool.sizes
        low, high = given.get("min", before[0]), given.get("max", before[1])
        low, high = (low, max(low, high)) if "max" not in given else (min(low, high), high) if "min" not in given else (low, high)
        between(high, 0, MAX_WORKERS, "max")
        between(low, 0, high, "min")
        self._pool.set_sizes(low, high, ticks_ms())
        self._broker.desk.intake.forget()  # how heavy a task may be
        self._broker.note("scaled", "workers", _sizes(before), _sizes((low, high)), connection.who)
        return _sizes((low, high))

    def _drain_worker(self, connection: Connection, number: int, args: dict[str, Any]) -> Answer:
        name = arguments("drain_worker", args, "id", id=str)["id"]
        before = self._pool.sizes
        if not self._pool.dismiss(name):
            raise self._no_such_worker(name)
        self._broker.desk.intake.forget()
        self._broker.note("drained", f"worker {name}", _sizes(before), _sizes(self._pool.sizes), connection.who)
        return _sizes(self._pool.sizes)

    def _restart_workers(self, connection: Connection, number: int, args: dict[str, Any]) -> None:
        name = arguments("restart_workers", args, id=str).get("id")
        known = [worker.name for worker in self._pool.workers if not worker.only_checks]
        if name is not None and name not in known:
            raise self._no_such_worker(name)

        def checked(_: list[TypeInfo], refused: str | None) -> None:
            if refused is not None:
                self._send(connection.id, wire.error(number, ConfigError.code, self._refusal(refused)))
                return
            names = known if name is None else [name]
            self._pool.restart(names, ticks_ms())
            self._broker.note("restarted", "workers", None, {"workers": names}, connection.who)
            self._send(connection.id, wire.frame([number, wire.ANSWER, {"workers": names}]))

        self._check(connection.id, checked)

    def _no_such_worker(self, name: str) -> UsageError:
        known = ", ".join(worker.name for worker in self._pool.workers if not worker.only_checks)
        return UsageError(f"id: expected a worker ({known or 'there is none'}), got {brief(name)}. `tq worker list` shows them.")

    # -- what tasks print ------------------------------------------------------------------------------------------

    def _task(self, task_id: object) -> Task:
        if not isinstance(task_id, int) or isinstance(task_id, bool):
            raise UsageError(f"id: expected a task number, got {task_id!r:.80}.")
        task = self._store.get([task_id])[0]
        if task is None:
            raise NoSuchTask(f"expected a task's id, got {task_id}, which is not (or no longer) here. See `tq list`.", id=task_id)
        return task

    def _log_verb(self, connection: Connection, number: int, args: dict[str, Any]) -> Answer:
        task, offset, limit = self._task(args.get("id")), args.get("offset") or 0, args.get("limit") or 64 << 10
        if not isinstance(offset, int) or not isinstance(limit, int) or offset < 0 or not 0 < limit <= 512 << 10:
            raise UsageError("log: expected offset >= 0 and limit up to 524288 bytes.")
        chunks, after = output.read(self._logs, task.id, offset, limit)
        return {"chunks": [list(chunk) for chunk in chunks], "next": after, "end": task.state.final and not chunks}

    def _input(self, connection: Connection, number: int, args: dict[str, Any]) -> Answer:
        args = arguments("input", args, "id", id=int, data=bytes, end=bool, rows=int, columns=int)
        task, data = self._task(args["id"]), args.get("data", b"")
        rows, columns = (between(args.get(name, 0), 0, 0xFFFF, f"input: {name}") for name in ("rows", "columns"))
        if len(data) > inlet.RECORD_MOST:
            raise UsageError(f"input: expected data of at most {inlet.RECORD_MOST} bytes, got {len(data)}. Send it in parts.")
        extras = task.spec.header.extras or {}
        if task.spec.header.type != SHELL or not (extras.get("interactive") or extras.get("tty")):
            return {"outcome": "no_input"}
        if task.state.final:
            return {"outcome": "over"}
        outcome = inlet.ABSENT
        if task.state is State.RUNNING:
            outcome = inlet.send(self._dir, task.id, data, args.get("end", False), rows, columns)
        return {"outcome": "waiting" if outcome == inlet.ABSENT else outcome}

    def _follow(self, connection: Connection, number: int, args: dict[str, Any]) -> None:
        ids, offset = args.get("ids") or [], args.get("offset") or 0
        if args.get("topics") != ["output"] or not isinstance(ids, list) or len(ids) != 1 or not isinstance(offset, int) or offset < 0:
            raise UsageError("watch: expected the topic output alone, with one id and an offset from 0 on.")
        task = self._task(ids[0])
        self._followers.add(connection.id, number, task.id, offset, task.state.final)
        self._send(connection.id, wire.frame([number, wire.ANSWER, {}]))


def _sizes(sizes: tuple[int, int]) -> Answer:
    return {"min": sizes[0], "max": sizes[1]}


def _worker_state(worker: Child) -> str:
    if worker.state != "ready":
        return worker.state
    return "busy" if worker.jobs else "idle"

"""Malformed frames (T14): whatever bytes come, the daemon answers, refuses or hangs up, and goes on.

For: a whole daemon in this process (``House``): door, dispatcher, broker and store, without workers and without sockets, fed
with mutated frames and, by its test, with requests made from the verbs' own tables.
Not for: frames that cost much more than their bytes (bombs), sockets and bad timing (clients), what is printed (text).
Runs in: a process of its own, since memory is limited and measured.
Promises: a cycle is ``DECODED`` mutated frames through the decoder and ``SERVED`` through all of the daemon, on a fresh
instance, every tenth on LMDB; after each the daemon still serves, and what it stores is sound.
"""

from __future__ import annotations

import contextlib
import os
import random
import resource
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import msgpack

from tests.campaign.planted import plant as plant_bug
from tests.campaign.suite import Report, Suite, each, scratch
from tq import wire
from tq.api import unix
from tq.api.unix import Connection, UnixDoor
from tq.config.settings import Settings
from tq.daemon import Daemon
from tq.errors import Refused
from tq.loop import READ
from tq.model import State
from tq.store import Space, TypeInfo
from tq.store.lmdb import LmdbStore
from tq.store.memory import MemoryStore
from tq.store.verify import verify

DECODED, SERVED, TOGETHER = 1000, 100, 10
LMDB_EACH = 10
GROWTH_MIB = 100
"""What no frame, and no run of frames, may cost."""
START = 1_700_000_000_000


class Paper:
    """The daemon's end of a connection that is none: ``coming`` is what the client has sent, ``told`` what it was answered."""

    last = 1 << 20  # beyond any descriptor

    def __init__(self) -> None:
        Paper.last += 1
        self.number = Paper.last
        self.coming = memoryview(b"")
        self.told = bytearray()
        self.closed = False

    def fileno(self) -> int:
        return self.number

    def recv(self, most: int) -> bytes:
        if not self.coming:
            raise BlockingIOError
        data, self.coming = bytes(self.coming[:most]), self.coming[most:]
        return data

    def send(self, data: bytes) -> int:
        self.told += data
        return len(data)

    def close(self) -> None:
        self.closed = True


class _Memory(MemoryStore):
    """It has no file that could be compacted, or copied."""

    copied = False

    def compact(self) -> tuple[int, int]:
        return 0, 0

    def space(self) -> Space:
        return Space(1 << 40, 1 << 26, 0, 1 << 20, 1 << 30)


class House(Daemon):
    """A daemon without workers, whose clock is turned by hand. ``stops`` counts who told it to end."""

    def __init__(self, data_dir: Path, *, lmdb: bool = False, **settings: Any) -> None:
        self.lmdb = lmdb
        store: Any = LmdbStore if lmdb else lambda _, limits, __: _Memory(None, limits)
        umask = os.umask(0o077)
        with mock.patch("tq.daemon.LmdbStore", store):
            usual: dict[str, Any] = {"workers": 0, "map_size": 64 << 20, "log_level": "warning"}
            super().__init__(Settings(data_dir=data_dir, **usual | settings))
        os.umask(umask)
        self.now = START
        self.stops = 0
        pool: Any = self._pool
        pool.spawn, pool.scale, pool.set_sizes = self._no_process, lambda _: None, lambda *_: None
        max_frame, most = self._settings.max_frame, self._settings.max_connections
        path, drained = self._dir / wire.SOCKET, self._followers.drained
        self.door = self._door = UnixDoor(self._loop, path, self._serve, self._gone, max_frame, most, drained, self._broker.full)
        self._broker.put_types([TypeInfo("add"), TypeInfo("mail", queue="post")], self.now)

    @staticmethod
    def _no_process(*_: object, **__: object) -> None:
        raise Refused("there are no processes here.")

    def _drain(self, grace_s: float) -> None:
        self.stops += 1

    @property
    def known(self) -> set[str]:
        """All verbs."""
        return {*self._verbs, *self._broker.verbs}

    def connect(self, *, greet: bool = True) -> Connection:
        self.door._last += 1
        sock: Any = Paper()
        connection = Connection(self.door._last, sock, self._settings.max_frame, "user 0 (pid 1)")
        self.door._connections[connection.id] = connection
        if greet:
            self.take(connection, wire.frame([0, "hello", {"protocol": wire.PROTOCOL, "client": "paper", "nonce": b"12345678"}]))
        return connection

    def take(self, connection: Connection, data: bytes) -> None:
        """Read what a client sends, a piece at a time, serving as the loop does where it is more than one piece."""
        sock: Any = connection.sock
        sock.coming = memoryview(data)
        while sock.coming and not sock.closed:
            before = len(sock.coming)
            self.door._ready(connection, READ)
            if (sock.coming and len(sock.coming) == before) or len(data) > unix.READ_BYTES:
                self.settle_down(1)

    def settle_down(self, most: int = 10_000) -> None:
        """Turn, at most so often, until there is nothing more to do at once."""
        for _ in range(most):
            self.door.read_on()
            self._compact_now()
            if not (self._turn(self.now).busy or self._broker.waiting or self.door.unread or self._followers.waiting):
                return

    def told(self, connection: Connection) -> list[list[Any]]:
        """What a connection was told since it was last asked."""
        sock: Any = connection.sock
        frames = wire.Frames(1 << 30)
        frames.feed(bytes(sock.told))
        sock.told.clear()
        return [wire.message(body) for body in frames.take()]

    def ask(self, connection: Connection, verb: str, number: int = 1, **args: Any) -> list[Any]:
        """(kind, body) of the first that a request is told."""
        self.take(connection, wire.frame([number, verb, args]))
        self.settle_down()
        found = [one for one in self.told(connection) if one[0] == number]
        return found[0][1:] if found else [None, None]

    def wrong(self) -> list[str]:
        """What is not as it should be, looked at from outside: the log, a new client's day, the counts, the store."""
        client, found = self.connect(), []
        day: list[tuple[str, dict[str, Any]]] = [
            ("enqueue", {"tasks": [["out", b"\x01", {"queue": "still", "allow_unknown": True}]]}),
            ("set_queue", {"name": "still", "paused": False}),
        ]
        answers = [self.ask(client, verb, **args) for verb, args in day]
        found += [f"expected an answer to {verb}, got {got}" for (verb, _), got in zip(day, answers, strict=True) if got[0] != wire.ANSWER]
        if not found:
            found += self._unserved(client, answers[0][1]["ids"][0])
        found += self._miscounted()
        self._log.flush()
        lines = (self._dir / "daemon.log").read_text().splitlines()
        found += [f"expected no error in daemon.log, got {line}" for line in lines if '"level": "error"' in line]
        return found

    def _unserved(self, client: Connection, sent: int) -> list[str]:
        """Claim and settle what waits in the queue until what was just sent comes: what earlier requests left there may be due first."""
        for _ in range(sent):
            kind, body = self.ask(client, "claim", queues=["still"])
            if kind != wire.ANSWER:
                return [f"expected an answer to claim, got {body}"]
            (task,) = body["tasks"] or [None]
            if task is None:
                break
            settled = self.ask(client, "settle", results=[[task["id"], task["claim"], "succeeded", {}]])
            if settled != [wire.ANSWER, {"settled": [True]}]:
                return [f"expected to settle {task}, got {settled}"]
            if task["id"] == sent:
                return []
        return [f"expected to claim and settle task {sent}, which was just sent; it did not come"]

    def _miscounted(self) -> list[str]:
        last = self._store.last_id()
        tasks = [task for at in range(1, last + 1, 500) for task in self._store.get(range(at, min(at + 500, last + 1))) if task is not None]
        there = {state: sum(task.state is state for task in tasks) for state in State}
        counted = {state: sum(tally.states[state] for tally in self._store.tallies()) for state in State}
        return [] if there == counted else [f"expected counts of what is there, {there}, got {counted}"]


@contextlib.contextmanager
def house(*, lmdb: bool = False, **settings: Any) -> Iterator[House]:
    """A house in a directory of its own; on LMDB the files are verified when it is closed, and RuntimeError says what is wrong."""
    with tempfile.TemporaryDirectory(prefix="tqf-", dir=scratch()) as place:
        one = House(Path(place), lmdb=lmdb, **settings)
        try:
            yield one
        finally:
            one.close()
        problems = verify(Path(place)) if lmdb else []
        if problems:
            raise RuntimeError(f"verify: {problems}")


# what is sound


def session(one: House) -> list[list[Any]]:
    """Sound requests, one of each verb at least, about tasks that are there; a request is [number, verb, arguments]."""
    client = one.connect()
    options = {
        "queue": "post", "priority": 3, "delay_ms": 60_000, "ttl_ms": 9_000_000, "retries": 2, "timeout_ms": 1000, "once": False,
        "backoff": ["exponential", 1000, 2.0, 60_000, True], "label": "a label", "meta": {"branch": "main"}, "tenant": "t", "flow": "f",
        "correlation_id": "c-1", "extras": {"cwd": "/", "env": {"A": "b", b"\xff": b"\xfe"}, "umask": 18}, "key": "k1", "unique": "u1",
        "unique_policy": "existing", "retry_for_ms": 5000, "deadline_ms": 8_000_000, "allow_unknown": False,
    }  # fmt: skip
    one.ask(client, "set_queue", name="ext", external=True)
    ids = one.ask(
        client, "enqueue", tasks=[["add", b"\x92\x01\x02", None]] * 4 + [["mail", b"\xc0", options]] + [["x", b"", {"queue": "ext"}]] * 6
    )
    first = ids[1]["ids"][0]
    claims = [[task["id"], task["claim"]] for task in one.ask(client, "claim", queues=["ext"], limit=5)[1]["tasks"]]
    cursor = one.ask(client, "find", limit=2)[1]["next"]
    some = [first, first + 1, first + 4, claims[0][0], 999]
    asked: list[tuple[str, dict[str, Any]]] = [
        ("hello", {"protocol": 1, "client": "tq", "nonce": b"87654321"}), ("enqueue", {"tasks": [["add", b"\x92\x01\x02", options]],
        "again": False}),
        ("enqueue", {"tasks": [["add", b"\x92\x01\x02", {"due_at": START + 5000}], ["mail", b"", None]], "again": True}),
        ("enqueue", {"tasks": [["add", b"", {"unique": "d", "debounce_ms": 5000, "debounce_most_ms": 9000}]] * 2}),
        ("enqueue", {"tasks": [["add", b"", {"unique": "f", "throttle_ms": 5000}]]}),
        ("enqueue", {"tasks": [["add", b"", {"after": [1, 2], "after_any": [2, 3]}], ["add", b"", {"after": [5], "unique": "z"}]]}),
        ("enqueue", {"tasks": [["add", b"", {"after": [-2], "on_parent_failure": "fail"}], ["add", b"", {"after_failure": [1, -3]}],
        ["add", b"", {}]]}), ("retry", {"ids": [first + 1, first + 3], "in_order": True}),
        ("enqueue", {"tasks": [["add", b"", None], ["add", b"", {}]], "options": {"priority": 3, "extras": {"env": {"A": "b"}}}}),
        ("get", {"ids": some}), ("find", {"where": "state:pending,failed age>1h -type:add", "limit": 10, "before": cursor}),
        ("find", {"states": ["pending", "running"], "queue": "post", "type": "mail", "group": None, "tenant": "t", "label": "a label"}),
        ("dead", {"where": "error:timeout", "states": ["failed"], "queue": "ext", "type": "x"}), ("peek", {"limit": 5, "queue": "default"}),
        ("view", {"where": "type:add", "states": ["pending", "running"], "queue": "default", "type": "add", "sort": "-priority"}),
        ("view", {}), ("page", {"view": 1, "offset": -2, "limit": 5}), ("place", {"view": 2, "id": first}), ("news", {"view": 2}),
        ("rows", {"ids": some}), ("complete", {"text": "state:fa queue:", "at": 8}), ("explain", {"where": "type:add -label:x"}),
        ("cancel", {"where": "label:none", "expected": 1}), ("events", {"limit": 5, "after": 1}),
        ("why", {"id": first}), ("wait", {"ids": some, "timeout_ms": 1000, "any": True}),
        ("cancel", {"ids": [first + 1]}), ("cancel", {"where": "label:none", "dry_run": True}),
        ("retry", {"ids": [first + 1], "changes": {"payload": b"\x05", "priority": 4}}), ("retry", {"where": "id:999",
        "states": ["failed"], "type": "x"}),
        ("edit", {"ids": [first + 4], "changes": {key: options[key] for key in ("priority", "queue", "delay_ms", "ttl_ms", "backoff",
        "meta", "label")}}),
        ("edit", {"queue": "post", "changes": {"due_at": START + 70_000, "retries": 1, "once": True, "timeout_ms": 5}}),
        ("remove", {"ids": [first + 2]}), ("remove", {"group": "00000000", "where": "id:1"}), ("chores", {}), ("compact", {}),
        ("log", {"id": first, "offset": 0, "limit": 1024}),
        ("input", {"id": first, "data": b"x", "end": True, "rows": 1, "columns": 2}), ("stats", {}), ("queues", {}), ("types", {}),
        ("events", {"limit": 5, "before": 3}),
        ("set_queue", {
            "name": "post", "paused": True, "external": False, "weight": 3, "slots": 2, "aging_ms": 1000, "aging_share": 4, "priority": 2,
            "retries": 1, "timeout_ms": 500, "backoff": ["fixed", 1, 1.0, 1, False], "max_tasks": 1000, "max_bytes": 1 << 20,
            "keep_ms": 5000, "hold_load": 2.5, "hold_memory": 1 << 20, "hold_probe": "test -e go", "hold_every_ms": 1000,
            "routes": ["report.*"],
        }), ("enqueue", {"tasks": [["mail", b"", None]]}), ("mute", {"key": "queue_paused:post", "for_ms": 60_000}),
        ("set_queue", {"name": "post", "unset": ["slots", "routes", "hold_load", "hold_memory", "hold_probe"], "paused": False}),
        ("set_resource", {"name": "gpu", "amount": 3}), ("resources", {}), ("set_resource", {"name": "licence", "amount": 0}),
        ("enqueue", {"tasks": [["add", b"", {"slots": 2, "uses": {"gpu": 2}}]]}),
        ("edit", {"ids": [first + 5], "changes": {"slots": 1, "uses": {"gpu": 1}}}), ("remove_resource", {"name": "licence"}),
        ("set_breaker", {"type": "add", "rule": "2 failures, cool 1s"}), ("breakers", {}), ("breakers", {"type": "add"}),
        ("enter_breaker", {"name": "smtp", "rule": "1 failure", "epoch": 0, "good": 2}),
        ("report_breaker", {"name": "smtp", "epoch": 0, "good": 1, "bad": 1, "pass": 0, "text": "OSError: no"}),
        ("trip_breaker", {"type": "add", "for_ms": 5}), ("reset_breaker", {"type": "add"}), ("remove_breaker", {"name": "smtp"}),
        ("set_limit", {"name": "slow", "scope": "type", "of": "add", "rate": 5, "per_ms": 1000, "burst": 2, "running": 3}), ("limits", {}),
        ("set_limit", {"name": "each", "scope": "flow", "running": 1}), ("set_limit", {"name": "slow", "rate": 0}),
        ("enqueue", {"tasks": [["add", b"", {"flow": "k", "tenant": "t"}]]}), ("remove_limit", {"name": "each"}),
        ("set_tenant", {"name": "t", "weight": 2, "queued": 1000, "running": 9, "per_day": 9000, "bytes": 1 << 30}),
        ("tenants", {"name": "t"}), ("tenants", {"after": "a", "limit": 5}),
        ("set_tenant", {"name": "u", "bytes": 5}), ("remove_tenant", {"name": "u"}),
        ("peek", {"tenant": "t", "limit": 3}),
        ("workers", {}), ("scale_workers", {"min": 0, "max": 0}), ("drain_worker", {"id": "w1"}), ("restart_workers", {"id": None}),
        ("suspend", {"ids": [999]}), ("resume", {"ids": [999]}), ("status", {}), ("set_log", {"level": "warning"}), ("check_app", {}),
        ("config", {"ask": "get"}), ("config", {"ask": "schema"}),
        ("config", {"ask": "validate", "changes": {"workers.count": "x", "retention.failed": "9d", "daemon.grace": 3.5}}),
        ("configure", {"changes": {"retention.finished": "2d", "workers.recycle": 5, "logging.task_bytes": None}, "revision":
        one.ask(client, "config", ask="get")[1]["revision"]}),
        ("stop", {"now": True}),
        ("claim", {"queues": ["ext"], "types": ["x"], "limit": 1, "wait_ms": 100, "lease_ms": 30_000}),
        ("extend", {"id": claims[0][0], "claim": claims[0][1], "lease_ms": 1000}),
        ("settle", {"results": [[*claims[1], "succeeded", {"result": b"\x05"}], [*claims[2], "failed", {
            "error": {"type": "E", "message": "m"}, "delay_ms": 10, "permanent": False, "exit_code": 3}]]}),
        ("set_schedule", {"name": "s1", "new": True, "cron": "*/5 * * * *", "tz": "Europe/Paris", "jitter_ms": 10, "only": ["22:00-06:00"],
        "misfire": "all:3", "overlap": "skip", "task": ["add", b"\x92\x01\x02", {"queue": "post", "label": "x"}],
        "on_failure": ["mail", b"", {"queue": "post"}], "on_recovery": [], "on_missed": ["mail", b"\x05", None], "missed_after_ms": 1000,
        "alert_each": True}),
        ("set_schedule", {"name": "s2", "new": True, "every_ms": 60_000, "from_at": START, "until_at": START + 9_000_000, "paused": True,
        "task": ["mail", b"", None]}),
        ("schedules", {"after": "s", "limit": 5}), ("schedules", {"name": "s1"}), ("next_slots", {"name": "s1", "count": 3}),
        ("set_schedule", {"name": "s1", "next_at": 0}),
        ("plan", {"for_ms": 7_200_000, "limit": 5}), ("alerts", {}),
        ("history", {"queue": "post", "step_s": 10, "limit": 30, "until": START}), ("history", {"step_s": 1}), ("attention", {}),
        ("run_schedule", {"name": "s1"}), ("remove_schedule", {"name": "s2"}),
        ("release", {"claims": [claims[3]]}), ("watch", {"topics": ["ends", "totals"], "ids": [first], "hz": 4}),
        ("watch", {"topics": ["steps"], "ids": None}), ("watch", {"topics": ["output"], "ids": [first], "offset": 0}),
    ]  # fmt: skip
    one.door.close(client)
    return [[number, verb, args] for number, (verb, args) in enumerate(asked, 1)]


NO_PROCESSES = {"check_app", "restart_workers", "drain_worker"}
"""Verbs that are refused here, since there are no workers."""

# what is not


def _deep(depth: int, empty: object = None) -> Any:
    value = empty
    for _ in range(depth):
        value = [value]
    return value


VALUES: list[Any] = [
    None, True, False, 0, 1, -1, 9, 10, 255, 500, 501, 1 << 31, (1 << 62) - 1, 1 << 63, (1 << 64) - 1, -(1 << 63), START, START * 1000,
    0.5, 1e308,
    float("nan"), float("inf"), -float("inf"), "", "x", "x" * 200, "x" * 201, "ü" * 100, "\x1b[2J\x9b\u202e", "a\nb", "\0", "id:1",
    "(((((", "state:", "NOT " * 300,
    b"", b"\0", b"\xff" * 8, b"x" * 300, [], [[]], {}, {"": None}, {"a": {}}, [1], [1, 2, 3], [0], ["add"], [None] * 600, list(range(1,
    502)), _deep(40), _deep(600),
    {"x" * 300: 1}, {b"\xff": b"\xff"}, msgpack.Timestamp(1, 2), msgpack.ExtType(5, b"x"), ["ends", "output", "steps", "totals"],
]  # fmt: skip
BYTES = bytes(
    [
        0x00,
        0x7F,
        0x80,
        0x81,
        0x8F,
        0x90,
        0x91,
        0x9F,
        0xA0,
        0xA1,
        0xC0,
        0xC1,
        0xC4,
        0xC7,
        0xCA,
        0xCB,
        0xCF,
        0xD3,
        0xD4,
        0xD9,
        0xDB,
        0xDC,
        0xDD,
        0xDE,
        0xDF,
        0xFF,
    ]
)


def mangled(rng: random.Random, body: bytes, others: list[bytes]) -> bytes:
    """A frame's body with one to three things done to its bytes."""
    data = bytearray(body)
    for _ in range(1 if rng.random() < 0.6 else rng.randrange(2, 4)):
        at, what = int(rng.random() * (len(data) + 1)), int(rng.random() * 8)
        if what == 0 and at < len(data):
            data[at] ^= 1 << int(rng.random() * 8)
        elif what == 1 and at < len(data):
            data[at] = BYTES[int(rng.random() * len(BYTES))]
        elif what == 2:
            data.insert(at, BYTES[int(rng.random() * len(BYTES))])
        elif what == 3:
            del data[at : at + 1 + int(rng.random() * 8)]
        elif what == 4:
            del data[at:]
        elif what == 5:
            data[at:at] = data[at : at + int(rng.random() * 40)]
        elif what == 6:
            other = others[int(rng.random() * len(others))]
            data[at:] = other[int(rng.random() * len(other)) :]
        else:
            data[at : at + 4] = b"\xff\xff\xff\xff"[: 1 + int(rng.random() * 4)]
    return bytes(data)


def _places(value: Any, way: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    yield way
    for key, inner in value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ():
        yield from _places(inner, (*way, key))


def _put(value: Any, way: tuple[Any, ...], new: Any) -> Any:
    if not way:
        return new
    if isinstance(value, dict):
        return {key: _put(inner, way[1:], new) if key == way[0] else inner for key, inner in value.items()}
    return [_put(inner, way[1:], new) if at == way[0] else inner for at, inner in enumerate(value)]


def altered(rng: random.Random, request: list[Any], places: list[tuple[Any, ...]]) -> bytes:
    """The body of a request in which one value, or two, is another one."""
    new: Any = request
    for _ in range(1 if rng.random() < 0.7 else 2):
        try:
            new = _put(new, rng.choice(places), rng.choice(VALUES))
        except (TypeError, AttributeError):  # the place went with the first
            pass
    packed: bytes = wire.pack(new)
    return packed


def framed(body: bytes) -> bytes:
    return len(body).to_bytes(4, "big") + body


# the cycles


def decode(rng: random.Random, bodies: list[bytes], count: int) -> Iterator[str]:
    """Mutated frames through the decoder alone: some in streams as they should be, some with their lengths mangled, too."""
    for _ in range(0, count, 50):
        stream = b"".join(framed(mangled(rng, bodies[int(rng.random() * len(bodies))], bodies)) for _ in range(50))
        if rng.random() < 0.2:
            stream = mangled(rng, stream, bodies)
        frames, at = wire.Frames(), 0
        try:
            while at < len(stream):
                step = len(stream) if rng.random() < 0.5 else 1 + int(rng.random() * 2000)
                frames.feed(stream[at : at + step])
                at += step
                for body in frames.take():
                    found = unix._request(body)
                    if found is not None and not (type(found[0]) is int and type(found[1]) is str and type(found[2]) is dict):
                        yield f"expected a request or nothing, got {found!r:.200} of {body.hex():.400}"
        except wire.FrameTooLarge:
            pass
        except Exception as error:
            yield f"expected a request or nothing, got {error!r:.200} of a stream {stream.hex():.400}"


def serve(one: House, rng: random.Random, requests: list[list[Any]], count: int) -> Iterator[str]:
    """Mutated frames through all of the daemon."""
    bodies = [wire.pack(request) for request in requests]
    places = [list(_places(request)) for request in requests]
    connection = one.connect()
    sent: list[bytes] = []
    for number in range(1, count + 1):
        which = int(rng.random() * len(requests))
        body = mangled(rng, bodies[which], bodies) if rng.random() < 0.4 else altered(rng, requests[which], places[which])
        sent.append(body)
        try:
            one.take(connection, framed(body))
            if number % TOGETHER == 0:
                one.now += int(rng.random() * 2000)
                one.settle_down()
        except Exception as error:
            yield f"expected an answer, an error or an end, got {error!r:.200} of one of {[each.hex() for each in sent]!s:.3000}"
            return
        sock: Any = connection.sock
        if sock.closed or number % TOGETHER == 0:
            yield from judged(one.told(connection), sock.closed, sent)
            sent.clear()
        if sock.closed:
            connection = one.connect(greet=rng.random() < 0.9)
    one.door.close(connection)
    one.settle_down()


def judged(told: list[list[Any]], closed: bool, sent: list[bytes]) -> Iterator[str]:
    """What a client was told is well-formed, is no bug of the daemon's, and says why if it was hung up on."""
    for message in told:
        if not (len(message) == 3 and type(message[0]) is int and message[1] in (wire.ANSWER, wire.ERROR, wire.EVENT)):
            yield f"expected an answer, an error or an event, got {message!r:.300}"
        elif message[1] == wire.ERROR and message[2][0] in ("error", "store"):
            yield f"expected a refusal with a reason, got {message!r:.300} of one of {[each.hex() for each in sent]!s:.3000}"
    if closed and (not told or told[-1][:2] != [0, wire.ERROR] or told[-1][2][0] != "protocol"):
        yield f"expected a protocol error before the end, got {told[-1:]!r:.300} of {[each.hex() for each in sent]!s:.3000}"


def cycle(seed: int, report: Report) -> Iterator[str]:
    rng = random.Random(seed)
    try:
        with house(lmdb=seed % LMDB_EACH == 0) as one:
            requests = session(one)
            with limited(GROWTH_MIB):
                yield from decode(rng, [wire.pack(request) for request in requests], DECODED)
                yield from serve(one, rng, requests, SERVED)
            one.now += 3_600_000
            one.settle_down()
            yield from one.wrong()
    except RuntimeError as error:
        yield str(error)
    report.add(frames=DECODED + SERVED, served=SERVED)


# requests from the verbs' own tables


def tables(one: House) -> dict[str, dict[str, str]]:
    """The arguments of each verb and their kinds, as its own refusals name them."""
    client, found = one.connect(), dict[str, dict[str, str]]()
    no_such: dict[str, Any] = {"?": 1}
    for verb in sorted(one.known):
        kind, body = one.ask(client, verb, **no_such)
        if kind != wire.ERROR or "expected the arguments" not in body[1]:
            continue
        names = [name for name in body[1].split("expected the arguments ", 1)[1].rsplit(", got", 1)[0].split(", ") if name]
        kinds = {}
        for name in names:
            of_no_kind: dict[str, Any] = {name: 1.5}
            said = one.ask(client, verb, **of_no_kind)[1][1]
            refused = said.split(f"{name}: expected ", 1)[1:]
            kinds[name] = refused[0].split(",")[0] if refused else "float"
        found[verb] = kinds
    one.door.close(client)
    return found


# runs


def memory(what: str) -> int:
    """VmSize, VmRSS or VmHWM of this process, in KiB."""
    with open("/proc/self/status", encoding="ascii") as file:
        return next(int(line.split()[1]) for line in file if line.startswith(what))


@contextlib.contextmanager
def limited(mib: int) -> Iterator[None]:
    """No more than so much memory beyond what this process has."""
    before = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, ((memory("VmSize") << 10) + (mib << 20), before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)


def run(seed: int, cycles: int, plant: str | None = None) -> Report:
    """Cycles of mutated frames. For a process of its own (``suite.apart``): its memory is measured, and a plant stays in it."""
    plant_bug(plant)
    before = memory("VmRSS")
    report = each("frames", seed, cycles, lambda number, report: list(cycle(number, report)))
    grown = (memory("VmHWM") - before) >> 10
    report.add(mib=grown)
    if grown > GROWTH_MIB:
        report.violations.append(f"frames --seed {seed} --cycles {cycles}: expected less than {GROWTH_MIB} MiB more, got {grown}")
    return report


SUITE = Suite("frames", f"{DECODED} mutated frames decoded and {SERVED} served", 1000, 20_000, run, ("shape_unchecked",), tested=300)

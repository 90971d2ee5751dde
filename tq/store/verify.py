"""Whether an LMDB store is whole: every record, every index against the records, every count against a recount.

For: ``tq verify``, and the tests that kill things.
Not for: mending anything (restore a backup), deciding.
Runs in: a process of its own, also beside a running daemon: it reads one snapshot, which the daemon's writes pass by.
Promises: changes nothing; says each problem in a sentence, the first ``MOST`` of them; a damaged record is a problem,
never an exception; memory grows with what is running and with the number of lanes, not with the number of tasks
(a bit a task aside).

While no daemon holds the directory the pages of the file are checked first, byte by byte, by lmdb's own verifier:
a file that fails there is not handed to the engine at all.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import lmdb
import lmdb.verify as pages

from tq.errors import StoreDamaged, StoreLocked, TqError
from tq.model import ENVIRONMENT_KEY, Spec, State, Status, environment_key, is_environment, spec_of, status_of, unseal
from tq.store import RELEASE, Chore, Event, KeyRef, Resource, Schedule, Tally, TypeInfo, queue_of
from tq.store.files import Dbs, Lock, open_store
from tq.store.keys import (
    COUNTED,
    DUE,
    ENDED,
    EXPIRE,
    HISTORY,
    KEY,
    MALFORMED,
    PAIR,
    PAST,
    READY,
    REQUEST,
    SLOT,
    TIMER,
    U32,
    U64,
    counters_of,
    lane_key,
    name_key,
    opened,
    ref_of,
    standing_key,
    tokens_key,
)
from tq.store.limits import Limit
from tq.store.lookup import untouched
from tq.store.members import Headcount
from tq.store.retention import remembered

MOST = 100
"""Problems that are told; of the others only how many."""
_WAITS = (State.SCHEDULED, State.RETRYING)
_BITS = 10

T = TypeVar("T")
Entry = tuple[str, bytes, bytes]
"""What an index holds of a task: (database, key, value)."""


def verify(data_dir: Path) -> list[str]:
    """The problems of the store in ``data_dir``; none if it is whole. ConfigError: there is no store; StoreTooNew."""
    if (data_dir / "store" / "data.mdb").is_file() and (found := _check_pages(data_dir)):
        return found
    return broken_records(data_dir / "store")


def broken_records(store: Path) -> list[str]:
    """The problems of the records of the store at ``store``, whose pages are sound; as ``verify``."""
    try:
        env, dbs = open_store(store, readonly=True)
    except StoreDamaged as error:
        return [error.message]
    check = _Check(dbs)
    try:
        with env.begin() as txn:
            check.run(txn)
    except lmdb.Error as error:
        check.say(f"the data file cannot be read on: {error}")
    finally:
        env.close()
    return check.found()


def _check_pages(data_dir: Path) -> list[str]:
    """Problems of the file's pages; none while a daemon holds the lock, since it writes pages as they are read."""
    try:
        lock = Lock(data_dir)
    except StoreLocked:
        return []
    try:
        return broken_pages(data_dir / "store" / "data.mdb")
    finally:
        lock.close()


def broken_pages(data: Path) -> list[str]:
    """Problems of the pages of a data file that nobody writes meanwhile."""
    try:
        found: list[str] = pages.verify(str(data), subdir=False)  # type: ignore[no-untyped-call]
    except pages.VerifyError as error:
        found = [str(error)]
    return [f"data file: {problem}" for problem in found[:MOST]]


class _Seen:
    """Which numbers have come before, at a bit each."""

    def __init__(self) -> None:
        self._blocks: dict[int, int] = {}

    def add(self, number: int) -> bool:
        """Remember ``number``; whether it is new."""
        block, bit = number >> _BITS, 1 << (number & (1 << _BITS) - 1)
        old = self._blocks.get(block, 0)
        self._blocks[block] = old | bit
        return not old & bit


class _Check:
    """One pass over one snapshot."""

    def __init__(self, dbs: Dbs) -> None:
        self._db = dbs
        self._txn: Any = None
        self._problems: list[str] = []
        self._more = 0
        self._last_id = self._last_seq = self._last_batch = self._last_chore = 0
        self._lanes: dict[tuple[Any, ...], int] = {}
        self._tallies: dict[tuple[str, str], tuple[int, Tally]] = {}
        self._claims: dict[int, int] = {}  # task -> the claim that a running record holds
        self._seqs = _Seen()
        self._unread: set[int] = set()
        self._met = {"ready": 0, "timers": 0, "history": 0}  # entries that some task expects, as it expects them
        self._uses = 0  # entries in environments that commands account for
        self._waits = 0  # entries in children that blocked tasks account for
        self._released: set[int] = set()  # parents that are over, of which their children are still to hear
        self._batches = Headcount()
        self._recount: dict[tuple[str, str], list[int]] = {}  # tasks by state, bytes of those alive, bytes kept

    def say(self, problem: str) -> None:
        if len(self._problems) < MOST:
            self._problems.append(problem)
        else:
            self._more += 1

    def found(self) -> list[str]:
        return [*self._problems, f"and {self._more} more problems"] if self._more else self._problems

    def run(self, txn: Any) -> None:
        """Check everything that ``txn`` sees."""
        self._txn = txn
        self._read_counters()
        self._read_settings()
        self._read_lanes()
        self._read_tallies()
        self._read_running()
        self._walk_tasks()
        for name in self._met:
            self._look_for_strays(name)
        self._compare_tallies()
        for problem in self._batches.problems(self._txn, self._db, sure=not self._unread):
            self.say(problem)
        self._check_requests()
        self._check_names()
        self._check_children()
        self._check_environments()
        self._check_events()

    def _read(self, what: str, decode: Callable[..., T], *args: Any) -> T | None:
        """What ``decode`` gives; None, and a problem, if the record is not what it should be."""
        try:
            return decode(*args)
        except TqError as error:
            self.say(error.message)
        except MALFORMED as error:
            self.say(f"{what}: expected a record of its kind, got another ({type(error).__name__}: {error!s:.100}).")
        return None

    # -- the small databases ---------------------------------------------------------------------------------------

    def _read_counters(self) -> None:
        record = self._txn.get(COUNTED, db=self._db["tallies"])
        counters = self._read("the counters", counters_of, record) if record is not None else None
        if counters is not None:
            self._last_id, self._last_seq, self._last_batch, self._last_chore = counters

    def _read_settings(self) -> None:
        """Types, queues, chores and schedules: each decodes, under its own name; and each schedule that is due has its timer."""
        rows: tuple[tuple[str, Any, Callable[[Any], bytes]], ...] = (
            ("types", TypeInfo, lambda info: info.name.encode()),
            ("queues", lambda *row: queue_of(row), lambda info: info.name.encode()),
            ("chores", Chore, lambda chore: U64.pack(chore.id)),
            ("schedules", Schedule, lambda one: U64.pack(one.number)),
            ("resources", Resource, lambda one: one.name.encode()),
            ("standings", lambda kind, name, _row: (kind, name), lambda one: standing_key(*one)),
            ("limits", Limit, lambda one: one.name.encode()),
            ("tokens", lambda *row: row, tokens_key),
        )
        slots: set[bytes] = set()
        for name, kind, key_of in rows:
            for key, value in self._txn.cursor(self._db[name]) if name in self._db else ():  # a store of format 1 has no schedules
                what = f"{name} {key!r:.100}"
                info = self._read(what, lambda data, make=kind, what=what: make(*opened(data, what)), value)
                if info is not None and self._read(what, key_of, info) != key:
                    self.say(f"{what}: expected a record of that name, got that of {info!r:.100}.")
                if isinstance(info, Chore) and info.id > self._last_chore:
                    self.say(f"chore {info.id}: expected a number up to the counter's {self._last_chore}.")
                if isinstance(info, Chore) and info.verb == RELEASE:
                    self._released.add(info.args["parent"])
                if isinstance(info, Schedule) and info.due_at:
                    slots.add(TIMER.pack(info.due_at, SLOT, info.number))
        found = {key for key in self._txn.cursor(self._db["timers"]).iternext(values=False) if key[8:9] == bytes([SLOT])}
        for key in slots ^ found:
            at, _, number = TIMER.unpack(key)
            what = "its timer is missing" if key in slots else "it has a timer that it should not have"
            self.say(f"schedule {number}: due at {at}, and {what}.")

    def _read_lanes(self) -> None:
        for key, value in self._txn.cursor(self._db["lanes"]):
            row = self._read(f"lane {key.hex()}", _lane_of, key, value)
            if row is None:
                continue
            number, lane = row
            if lane in self._lanes:
                self.say(
                    f"lane {number}: expected a queue, type, tenant, flow and needs of its own, got those of lane {self._lanes[lane]}."
                )
            self._lanes.setdefault(lane, number)

    def _read_tallies(self) -> None:
        for key, value in self._txn.cursor(self._db["tallies"]):
            if key == COUNTED:
                continue
            row = self._read(f"tally {key.hex()}", lambda k, v: (U32.unpack(k)[0], Tally(*opened(v, f"tally {k.hex()}"))), key, value)
            if row is None:
                continue
            number, tally = row
            if (tally.queue, tally.type) in self._tallies:
                self.say(f"tally {number}: queue {tally.queue!r:.100} and type {tally.type!r:.100} have two tallies.")
            if tally.runs != sum(tally.times.values()):
                self.say(f"tally {number}: expected a histogram of its {tally.runs} runs, got one of {sum(tally.times.values())}.")
            self._tallies[tally.queue, tally.type] = row

    def _check_requests(self) -> None:
        for key, value in self._txn.cursor(self._db["requests"]):
            row = self._read(f"request {key.hex()}", lambda k, v: (REQUEST.unpack(k), remembered(k, v)), key, value)
            if row is not None and row[1] and not 0 < min(row[1]) <= max(row[1]) <= self._last_id:
                self.say(f"request {key.hex()}: expected ids up to {self._last_id}, got {len(row[1])} from {min(row[1])} on.")

    def _check_names(self) -> None:
        """Each name is held by a task that may hold it; a key that will run out has its timer."""
        for key, value in self._txn.cursor(self._db["names"]):
            row = self._read(f"name {key.hex()}", lambda k, v: (ref_of(k), *PAIR.unpack_from(unseal(v, f"name {k.hex()}"))), key, value)
            if row is not None:
                self._check_name(key, *row)
        for key, value in self._txn.cursor(self._db["timers"]):
            if key[8:9] == bytes([KEY]):
                self._read(f"timer {key.hex()}", ref_of, value)

    def _check_name(self, key: bytes, ref: KeyRef, task_id: int, until: int) -> None:
        what = f"{ref.kind} {ref.name!r:.100} of type {ref.type!r:.100}"
        if not 0 < task_id <= self._last_id:
            self.say(f"{what}: expected the id of a task up to {self._last_id}, got {task_id}.")
            return
        if until:
            if self._txn.get(TIMER.pack(until, KEY, task_id), db=self._db["timers"]) != key:
                self.say(f"{what}: it runs out, but the timer for that is missing.")
            return
        found = self._task(task_id)
        if task_id in self._unread:
            return
        head = None if found is None else found[0].header
        if found is None or found[1].final:
            self.say(f"{what}: expected a live task to hold it, but task {task_id} is {'gone' if found is None else found[1].word}.")
        elif head is not None and (head.type, getattr(head, ref.kind)) != (ref.type, ref.name):
            self.say(f"{what}: expected a task of that name to hold it, but task {task_id} has another.")

    def _check_children(self) -> None:
        """Each entry is of a blocked task (told with that) and of a parent that lives, or of whose end a chore tells."""
        cursor = self._txn.cursor(self._db["children"]) if "children" in self._db else ()
        entries, parent, waited = 0, 0, False
        for key, _ in cursor:
            row = self._read(f"children {key.hex()}", PAIR.unpack, key)
            entries += 1
            if row is None:
                continue
            if row[0] != parent:
                parent = row[0]
                found = None if parent in self._unread else self._task(parent)
                waited = parent in self._released or parent in self._unread or (found is not None and not found[1].final)
            if not waited:
                self.say(f"children: task {row[1]} waits for task {parent}, which is over or gone.")
        if entries != self._waits and not self._unread:
            self.say(f"children: expected the {self._waits} entries of the tasks that are blocked, got {entries}.")

    def _check_events(self) -> None:
        for key, value in self._txn.cursor(self._db["events"]):
            event = self._read(f"event {key.hex()}", lambda k, v: Event(*opened(v, f"event {_number(k)}")), key, value)
            if event is not None and U64.pack(event.number) != key:
                self.say(f"event {_number(key)}: expected a record of that number, got that of {event.number!r:.100}.")

    # -- who holds what --------------------------------------------------------------------------------------------

    def _read_running(self) -> None:
        for key, value in self._txn.cursor(self._db["running"]):
            what = f"running record {key.hex()}"
            row = self._read(what, lambda k, v: (U64.unpack(k)[0], *opened(v, f"running record {k.hex()}")), key, value)
            if row is None:
                continue
            number, _, _, _, ids, claims = row
            pairs = self._read(what, lambda i, c: [*zip(i, c or [1] * len(i), strict=True)], ids, claims) or []
            live = [self._hold(task_id, claim) for task_id, claim in pairs]
            if not any(live):
                self.say(f"running record {number}: expected at least one task that is not settled, found none among {len(live)}.")
            if number > self._last_batch:
                self.say(f"running record {number}: expected a number up to the counter's {self._last_batch}.")

    def _hold(self, task_id: int, claim: int) -> bool:
        """Whether this claim is live; a settled one has a status that has reached it."""
        key = U64.pack(task_id)
        if self._txn.get(key, db=self._db["tasks"]) is None:
            return False
        record = self._txn.get(key, db=self._db["states"])
        try:
            status = status_of(task_id, record) if record is not None else None
        except (TqError, *MALFORMED):
            return True  # the walk over the tasks tells
        if status is not None and (status.claim > claim or (status.claim == claim and status.state is not State.RUNNING)):
            return False
        if task_id in self._claims:
            self.say(f"task {task_id}: two running records hold it, with the claims {self._claims[task_id]} and {claim}.")
        self._claims[task_id] = max(claim, self._claims.get(task_id, 0))
        return True

    # -- tasks -----------------------------------------------------------------------------------------------------

    def _walk_tasks(self) -> None:
        """Specifications and statuses side by side, in the order of their ids."""
        states = self._txn.cursor(self._db["states"])
        more = states.first()
        for key, record in self._txn.cursor(self._db["tasks"]):
            while more and states.key() < key:
                self.say(f"task {_number(states.key())}: a status without a specification.")
                more = states.next()
            state = None
            if more and states.key() == key:
                state = states.value()
                more = states.next()
            if not self._read(f"task {_number(key)}", self._check_task, _number(key), record, state):
                self._unread.add(_number(key))
        while more:
            self.say(f"task {_number(states.key())}: a status without a specification.")
            more = states.next()

    def _check_task(self, task_id: int, record: bytes, state: bytes | None) -> bool:
        """Check one task in every respect; False if it cannot be read."""
        spec = self._read(f"task {task_id}", spec_of, task_id, record)
        if spec is None:
            return False
        status = untouched(spec) if state is None else self._read(f"task {task_id}", status_of, task_id, state)
        if status is None:
            return False
        if not 0 < task_id <= self._last_id:
            self.say(f"task {task_id}: expected an id up to the counter's {self._last_id}.")
        for seq in {spec.seq, status.seq} - {0}:
            if seq > self._last_seq:
                self.say(f"task {task_id}: expected a sequence up to the counter's {self._last_seq}, got {seq}.")
            if not self._seqs.add(seq):
                self.say(f"task {task_id}: its sequence {seq} was given to another task too.")
        now = self._state(spec, status, state is not None)
        head = spec.header
        size = len(record) + len(state or b"")
        counts = self._recount.setdefault((head.queue, head.type), [0] * (len(State) + 3))
        counts[now] += 1
        if head.batch:
            self._batches.count(head.batch, now)
        if now.final:
            counts[-1 if now is State.FAILED else -2] += size
        else:
            counts[-3] += len(spec.payload)
            self._check_held_names(spec, untouched=state is None)
        entry = self._entry(spec, status, now, size, state is not None)
        if entry is not None:
            self._expect(spec, now, *entry)
        elif now is State.PENDING:
            self.say(f"task {task_id}: pending, but the lane {head.lane!r:.200} is missing.")
        self._check_waits(spec, status, now)
        self._check_environment(spec)
        if spec.expires_at and state is None and now is not State.RUNNING and not self._has(TIMER.pack(spec.expires_at, EXPIRE, task_id)):
            self.say(f"task {task_id}: it expires, but the timer for that is missing.")
        return True

    def _check_held_names(self, spec: Spec, *, untouched: bool) -> None:
        """A live task holds its unique name, and its key if that cannot have run out in an earlier life."""
        head = spec.header
        for kind, name in (("key", head.key if untouched else None), ("unique", head.unique)):
            key = name_key(KeyRef(kind, head.type, name)) if name is not None else None
            if key is not None and (self._txn.get(key, db=self._db["names"]) or b"")[:8] != U64.pack(spec.id):
                self.say(f"task {spec.id}: it lives, but does not hold its {kind} {name!r:.100}.")

    def _check_environment(self, spec: Spec) -> None:
        """A command that names an environment has an entry beside it."""
        key = environment_key(spec.header)
        if key is None or "environments" not in self._db:
            return
        if self._txn.get(key + U64.pack(spec.id), db=self._db["environments"]) is None:
            self.say(f"task {spec.id}: it is not among those that have the environment {key.hex()}.")
        else:
            self._uses += 1

    def _check_environments(self) -> None:
        """Each environment is whole, and some task has it; each entry stands beside one, and is of a task that has it (told with that)."""
        current, used, uses = b"", True, 0
        for key, value in self._txn.cursor(self._db["environments"]) if "environments" in self._db else ():
            if len(key) == ENVIRONMENT_KEY:
                if not used:
                    self.say(f"environment {current.hex()}: no task has it.")
                current, used = key, False
                if not is_environment(key, value):
                    self.say(f"environment {key.hex()}: its content is not what its key says.")
                continue
            uses += 1
            if len(key) != ENVIRONMENT_KEY + U64.size or key[:ENVIRONMENT_KEY] != current:
                self.say(f"environment {key.hex()}: expected it to be there, since a task has it.")
            used = True
        if not used:
            self.say(f"environment {current.hex()}: no task has it.")
        if uses != self._uses and not self._unread:
            self.say(f"environments: expected the {self._uses} entries of the commands that have one, got {uses}.")

    def _check_waits(self, spec: Spec, status: Status, now: State) -> None:
        """A blocked task has an entry for each parent that it waits for; no other has any."""
        if "children" not in self._db:  # a store of an earlier format, in which nobody waits
            return
        there = sum(self._txn.get(PAIR.pack(parent, spec.id), db=self._db["children"]) is not None for parent in spec.header.parents)
        self._waits += there
        if there != status.waits or (now is State.BLOCKED) != (there > 0):
            self.say(f"task {spec.id}: {now.word}, waits for {status.waits} tasks, and has entries in children for {there}.")

    def _has(self, timer: bytes) -> bool:
        return self._txn.get(timer, db=self._db["timers"]) is not None

    def _state(self, spec: Spec, status: Status, touched: bool) -> State:
        """Where the task stands, running records and status together."""
        claim = self._claims.get(spec.id)
        if claim is None:
            if status.state is State.RUNNING:
                self.say(f"task {spec.id}: its status says running, but no running record holds it.")
            return status.state
        if status.state not in (State.PENDING, State.RUNNING):
            self.say(f"task {spec.id}: a running record holds it with claim {claim}, but it was {status.state.word} when it was claimed.")
        if touched and status.state is State.PENDING and claim != status.claim + 1:
            self.say(f"task {spec.id}: expected the claim {status.claim + 1} in its running record, got {claim}.")
        return State.RUNNING

    def _entry(self, spec: Spec, status: Status, now: State, size: int, touched: bool) -> Entry | None:
        """The index entry that a task in this state must have, its records of ``size`` bytes; None: none, or no lane for it."""
        head = spec.header
        if now is State.PENDING:
            lane = self._lanes.get(head.lane)
            value = PAIR.pack(spec.id, status.ready_at or spec.created_at) + (PAST if touched else b"")
            return None if lane is None else ("ready", READY.pack(lane, 9 - head.priority, status.seq), value)
        if now in _WAITS:
            return "timers", TIMER.pack(status.due_at or spec.due_at, DUE, spec.id), b""
        if now.final:
            number, _ = self._tallies.get((head.queue, head.type), (0, None))
            return "history", HISTORY.pack(now, status.finished_at, spec.id), ENDED.pack(number, status.output, size)
        return None

    def _expect(self, spec: Spec, now: State, name: str, key: bytes, value: bytes) -> None:
        found = self._txn.get(key, db=self._db[name])
        if found == value:
            self._met[name] += 1
        elif found is None:
            self.say(f"task {spec.id}: {now.word}, but its entry in {name} ({_words(name, key)}) is missing.")
        else:
            words = f"says {found.hex()}, expected {value.hex()}"
            self.say(f"task {spec.id}: {now.word}, but its entry in {name} ({_words(name, key)}) {words}.")

    # -- indexes and counts ----------------------------------------------------------------------------------------

    def _look_for_strays(self, name: str) -> None:
        """Entries that no task expects; looked for one by one only if there are more than were expected."""
        cursor = self._txn.cursor(self._db[name])
        if name == "timers":  # the others may stay behind when their task is over, until they are due
            there = sum(1 for key in cursor.iternext(values=False) if key[8:9] == bytes([DUE]))
        else:
            there = self._txn.stat(self._db[name])["entries"]
        if there == self._met[name]:
            return
        for key, value in self._txn.cursor(self._db[name]):
            task_id = _number(value[:8] if name == "ready" else key[-8:])
            if task_id in self._unread or (name == "timers" and key[8:9] != bytes([DUE])):
                continue
            if not self._wanted(task_id, name, key):
                self.say(f"{name}: the entry ({_words(name, key)}) names task {task_id}, which should have none there.")

    def _wanted(self, task_id: int, name: str, key: bytes) -> bool:
        """Whether the task expects this very entry (then what is wrong with it has been told)."""
        found = self._task(task_id)
        if found is None:
            return False
        spec, now, status, size, touched = found
        entry = self._entry(spec, status, now, size, touched)
        return entry is not None and entry[:2] == (name, key)

    def _task(self, task_id: int) -> tuple[Spec, State, Status, int, bool] | None:
        """A task by itself: specification, state, status, bytes of its records, whether it has a status of its own; None: it is gone."""
        key = U64.pack(task_id)
        record, state = self._txn.get(key, db=self._db["tasks"]), self._txn.get(key, db=self._db["states"])
        if record is None or task_id in self._unread:
            return None
        spec = spec_of(task_id, record)
        status = status_of(task_id, state) if state is not None else untouched(spec)
        now = State.RUNNING if task_id in self._claims else status.state
        return spec, now, status, len(record) + len(state or b""), state is not None

    def _compare_tallies(self) -> None:
        for kind in self._recount.keys() | self._tallies.keys():
            found = self._recount.get(kind, [0] * (len(State) + 3))
            said = self._tallies.get(kind)
            what = f"queue {kind[0]!r:.100}, type {kind[1]!r:.100}"
            if said is None:
                self.say(f"{what}: it has tasks but no tally.")
            elif not self._unread and (counts := [*said[1].states, said[1].bytes, *said[1].kept]) != found:
                self.say(f"{what}: the tally says {_counted(counts)}, a recount {_counted(found)}.")


def _number(key: bytes) -> int:
    return int.from_bytes(key, "big")


def _lane_of(key: bytes, value: bytes) -> tuple[int, tuple[Any, ...]]:
    lane = lane_key(opened(value, f"lane {key.hex()}"))
    if not all(isinstance(name, str | None) for name in (*lane[:4], *(name for name, _ in lane[4]))):
        raise ValueError("expected names")
    return U32.unpack(key)[0], lane


def _words(name: str, key: bytes) -> str:
    """An index key as it is meant."""
    try:
        if name == "ready":
            lane, level, seq = READY.unpack(key)
            return f"lane {lane}, priority {9 - level}, sequence {seq}"
        if name == "timers":
            at, _, task_id = TIMER.unpack(key)
            return f"due at {at}, task {task_id}"
        state, at, task_id = HISTORY.unpack(key)
        return f"{State(state).word} at {at}, task {task_id}"
    except MALFORMED:
        return f"key {key.hex()}"


def _counted(counts: list[int]) -> str:
    *states, live, kept, failed = counts
    words = [f"{count} {State(at).word}" for at, count in enumerate(states) if count]
    return f"{', '.join(words) or 'no tasks'} and {live} bytes, {kept} kept and {failed} of failed ones"

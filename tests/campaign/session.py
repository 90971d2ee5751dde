"""A scripted session of one daemon's store and broker, what it was promised, and the judgement of what is left of it.

For: ``Session`` (every kind of write that a data directory gets, in an order that a seed varies), ``Account`` (what its
answers promised), ``Reference`` (what the store holds after each commit if nothing goes wrong), ``judge``.
Not for: faults (points, images, errors, damage).
Runs in: the process under the shim; ``judge`` in a child that may die of what it opens.
Promises: a seed gives the same calls, commits and bytes each time, but for process numbers and log times; what was
promised is written to the record only after the turn that promised it was committed and its answers were decoded.
"""

from __future__ import annotations

import json
import random
import traceback
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from hashlib import sha1
from pathlib import Path
from typing import Any

from tests.tq.broker_driver import ANY, Driver
from tq.config import prepare_data_dir
from tq.errors import TqError
from tq.log import Log
from tq.model import State
from tq.store import Claimed, Limits, Want
from tq.store.files import COPIED, NAMES, Lock, backup
from tq.store.lmdb import LmdbStore
from tq.store.verify import verify

DAY = 86_400_000
FINAL = {state.word for state in State if state.final}
DATA, COPY = "d", "copy"
Mark = Callable[[str], None]
Dump = dict[str, str]
"""The contents of a store: by database, a digest of its keys and values."""


class Refusal(Exception):
    """A request was answered with an error."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(f"{code}: {message}")
        self.code = code


def digest(data: bytes) -> str:
    return sha1(data).hexdigest()[:12]


def dump(txn: Any, dbs: Any) -> Dump:
    found = {}
    for name in NAMES:
        total = sha1()
        # "engine" is for people alone: which LMDB made the store
        for key, value in ((key, value) for key, value in txn.cursor(dbs[name]) if key not in (COPIED, b"engine")):
            total.update(b"%d %d " % (len(key), len(value)) + key + value)
        found[name] = total.hexdigest()[:12]
    return found


class Session:
    """The steps are the methods named ``do_...``, in the order they stand in. ``root/d`` is the data directory.

    ``committed`` is called with the store when it is opened and after each commit. ``faulty``: a step that lacks what an earlier
    one could not do is left out.
    """

    def __init__(
        self, root: Path, seed: int, mark: Mark, committed: Callable[[Any], None] = lambda store: None, *, faulty: bool = False
    ) -> None:
        self.root = root
        self.data = root / DATA
        self.chance = random.Random(seed)
        self.committed = committed
        self.step = 0
        self.refusals: list[tuple[str, str]] = []
        self.ids: dict[str, list[int]] = {}
        self.held: dict[str, list[Claimed]] = {}
        self.leased: list[tuple[int, int]] = []
        self._faulty = faulty
        self._mark = mark
        self._said: dict[str, dict[str, Any]] = {}
        self._lock: Lock | None = None
        self._log: Log | None = None
        self._driver: Driver | None = None

    def run(self, until: str = "") -> None:
        """All steps before ``until``. StoreError and what else ends a daemon comes out of it; refusals are in ``refusals``."""
        try:
            for self.step, name in enumerate(STEPS, 1):
                if name == until:
                    break
                self._said = {}
                try:
                    getattr(self, name)()
                except Refusal as refusal:
                    self.refusals.append((name, refusal.code))
                except (KeyError, ValueError, IndexError) as error:
                    if not (self._faulty and traceback.extract_tb(error.__traceback__)[-1].filename == __file__):
                        raise
                self._mark(json.dumps({"done": self.step, **self._said}))
        finally:
            self._shut()

    # -- what steps are made of ------------------------------------------------------------------------------------

    @property
    def d(self) -> Driver:
        assert self._driver is not None
        return self._driver

    def _begin(self, touches: Iterable[int] | None = (), *, go: bool = False) -> None:
        """Say that a step begins which may change these tasks (None: any), and whether they may be gone after it."""
        self._mark(json.dumps({"begun": self.step, "touches": None if touches is None else list(touches), "go": go}))

    def _promise(self, what: str, values: dict[int, Any]) -> None:
        self._said.setdefault(what, {}).update({str(key): value for key, value in values.items()})

    def _open(self) -> None:
        """As the daemon does."""
        prepare_data_dir(self.data)
        self._lock = Lock(self.data)
        self._log = Log(self.data)
        (self.data / "logs").mkdir(mode=0o700, exist_ok=True)
        now = self._driver.now if self._driver is not None else None
        self._driver = _Watched("lmdb", self.data / "store", LIMITS, self)
        if now is not None:
            self._driver.now = now
        self._driver.broker.recover(lambda task_id, claim: task_id % 2 == 0, self._driver.now)
        self._log.event("daemon_started", pid=1)

    def _shut(self) -> None:
        if self._driver is not None:
            self._driver.store.close()
        if self._log is not None:
            self._log.close()
        if self._lock is not None:
            self._lock.close()
        self._log = self._lock = None

    def _turn(self, *wants: Want) -> list[Claimed]:
        turn = self.d.turn(*wants)
        assert self._log is not None
        self._log.steps("step", turn.steps, lambda one: (0, one[0], "", None), self.d.now)
        self._log.flush()
        return [task for _, tasks in turn.grants for task in tasks]

    def _answer(self, number: int, conn: int = 1) -> Any:
        error = self.d.error(number, conn)
        if error is not None:
            raise Refusal(error[0], error[1])
        return self.d.answer(number, conn)

    def _ask(self, verb: str, **args: Any) -> Any:
        number = self.d.submit(verb, **args)
        self._turn()
        return self._answer(number)

    def _payload(self, most: int) -> bytes:
        return self.chance.randbytes(self.chance.randrange(1, most))

    def _enqueue(self, name: str, rows: list[list[Any]], **args: Any) -> list[int]:
        self._begin()
        ids: list[int] = self._ask("enqueue", tasks=rows, **args)["ids"]
        self._added(name, ids, rows)
        return ids

    def _added(self, name: str, ids: Sequence[int], rows: Sequence[Sequence[Any]]) -> None:
        self.ids[name] = list(ids)
        self._promise("tasks", {task_id: digest(row[1]) for task_id, row in zip(ids, rows, strict=True)})

    def _grant(self, name: str, limit: int) -> None:
        self._begin(None)
        tasks = self._turn(Want("w1", limit, ANY, queues=frozenset({"default"})))
        self.held[name] = tasks
        self._promise("claims", {task.id: task.claim for task in tasks})

    def _settle(self, rows: list[Sequence[Any]], ends: dict[int, str]) -> None:
        self._begin([row[0] for row in rows])
        self.d.broker.settled(rows)
        self._turn()
        owed = {row[0] for row in self.d.broker.owed}
        self._promise("states", {task_id: word for task_id, word in ends.items() if task_id not in owed})

    # -- the script ------------------------------------------------------------------------------------------------

    def do_start(self) -> None:
        self._begin()
        self._open()

    def do_send(self) -> None:
        self._enqueue("plain", [["t", self._payload(900), None] for _ in range(self.chance.randrange(2, 6))])

    def do_send_large(self) -> None:
        self._enqueue("large", [["u", self._payload(30_000) + bytes(9_000), {"priority": 3}]])

    def do_send_with_a_request_number(self) -> None:
        rows = [["t", self._payload(50), {"queue": "q"}]] * 2
        self._begin()
        number = self.d.submit("enqueue", nonce=b"nonce123", tasks=rows)
        self._turn()
        ids = self._answer(number)["ids"]
        self._added("numbered", ids, rows)
        again = self.d.submit("enqueue", nonce=b"nonce123", number=number, tasks=rows, again=True)
        self.d.told.clear()
        self._turn()
        if self._answer(again)["ids"] != ids:
            raise RuntimeError(f"expected a request that was sent again to give {ids}, got {self._answer(again)}")

    def do_send_keyed(self) -> None:
        self._enqueue("keyed", [["t", b"k%d" % n, {"key": f"order-{n}"}] for n in range(2)])

    def do_send_unique(self) -> None:
        self._enqueue("unique", [["u", self._payload(90), {"unique": "one"}]])

    def do_replace_unique(self) -> None:
        rows = [["u", self._payload(90), {"unique": "one", "unique_policy": "replace"}]]
        old = self.ids["replaced"] = self.ids["unique"]
        self._begin(old)
        self._added("unique", self._ask("enqueue", tasks=rows)["ids"], rows)
        self._promise("states", {old[0]: "cancelled"})

    def do_send_for_later(self) -> None:
        delays = [{"delay_ms": 5000}, {"delay_ms": 20 * DAY}, {"ttl_ms": 6000, "queue": "slow"}]
        self._enqueue("later", [["t", self._payload(90), options] for options in delays])

    def do_two_at_once_and_one_refused(self) -> None:
        rows = [["t", self._payload(300), None]]
        self._begin()
        bad = self.d.submit("enqueue", 2, tasks=[["u", b"x", {"unique": "one"}]])
        good, other = (self.d.submit("enqueue", conn, tasks=rows) for conn in (1, 3))
        self._turn()
        self._added("two", self._answer(good)["ids"], rows)
        self._added("two", self._answer(other, 3)["ids"], rows)
        if self.d.error(bad, 2) is None:
            raise RuntimeError("expected a second task of a unique name to be refused, got an answer")

    def do_send_children(self) -> None:
        parents = [*self.ids["two"], self.ids["later"][1]]
        rows = [["t", self._payload(90), {"after": parents}], ["t", self._payload(90), {"after_any": parents, "queue": "kin"}]]
        self._enqueue("kin", rows)

    def do_send_commands(self) -> None:
        """Of two environments, for some later day."""
        how = [{"delay_ms": 40 * DAY, "extras": {"cwd": "/", "env": {"PLACE": word, "MORE": "m" * 3000}}} for word in ("x", "x", "y")]
        self._enqueue("commands", [["shell", self._payload(90), options] for options in how])

    def do_claim(self) -> None:
        self._grant("first", 4)

    def do_settle(self) -> None:
        done, failed, dead, *rest = self.held["first"]
        error = {"type": "ValueError", "message": "m" * 100}
        rows = [
            self.d.result(done, result=b"\x01"),
            self.d.result(failed, "failed", error=error, delay_ms=3000),
            self.d.result(dead, "failed", error=error, permanent=True),
            *(self.d.result(task, "released") for task in rest),
        ]
        self._settle(rows, {done.id: "succeeded", failed.id: "retrying", dead.id: "failed"})
        self.ids["dead"] = [dead.id]

    def do_set_queues(self) -> None:
        self._begin()
        self.d.submit("set_queue", name="out", external=True, weight=3)
        self._ask("set_queue", name="q", paused=True, keep_ms=DAY)

    def do_send_outside(self) -> None:
        self._enqueue("out", [["foreign", self._payload(200), {"queue": "out"}] for _ in range(3)])

    def do_lease(self) -> None:
        self._begin(self.ids["out"])
        tasks = self._ask("claim", queues=["out"], limit=3, lease_ms=30_000)["tasks"]
        self.leased = [(task["id"], task["claim"]) for task in tasks]
        self._promise("claims", dict(self.leased))

    def do_settle_outside(self) -> None:
        (first, claim), (second, claim2), _ = self.leased
        self._begin([first, second])
        results = self.d.submit("settle", results=[[first, claim, "succeeded", None]])
        released = self._ask("release", claims=[[second, claim2]])
        self._answer(results)
        self._promise("states", {first: "succeeded"} | ({second: "pending"} if released["released"] == [True] else {}))

    def do_cancel(self) -> None:
        ids, children = [*self.ids["two"], self.ids["later"][1]], self.ids.get("kin", [])
        self._begin([*ids, *children])
        outcomes = self._ask("cancel", ids=ids)["outcomes"]
        self._promise("states", {one: "cancelled" for one, word in zip(ids, outcomes, strict=True) if word == "cancelled"})
        if set(outcomes) == {"cancelled"}:  # their end and what follows from it are one transaction
            self._promise("states", dict(zip(children, ("cancelled", "pending"), strict=False)))

    def do_remove_commands(self) -> None:
        """One whose environment another has, and one whose nobody has."""
        ids = self.ids["commands"][1:]
        self._begin(ids, go=True)
        self._ask("remove", ids=ids)
        self._promise("maybe_gone", dict.fromkeys(ids, 1))

    def do_edit(self) -> None:
        ids, payload = [self.ids["out"][1]], self._payload(700)
        self._begin(ids)
        self._ask("edit", ids=ids, changes={"payload": payload, "priority": 7})
        self._promise("tasks", {ids[0]: digest(payload)})

    def do_retry_the_dead(self) -> None:
        self._begin(self.ids["dead"])
        self._ask("retry", ids=self.ids["dead"])
        self._promise("states", {self.ids["dead"][0]: "pending"})

    def do_wait(self) -> None:
        self._begin(None)
        self.d.now += 6000
        for _ in range(5):
            self._turn()
        (expired,) = [task for task in self._ask("get", ids=self.ids["later"][2:])["tasks"] if task]
        if expired["state"] != "expired" and not self._faulty:
            raise RuntimeError(f"expected task {expired['id']} to be expired, it is {expired['state']}")
        self._promise("states", {expired["id"]: expired["state"]})

    def do_send_many(self) -> None:
        rows = [["t", self._payload(400), {"priority": self.chance.randrange(10)}] for _ in range(self.chance.randrange(60, 90))]
        self._enqueue("many", rows)

    def do_claim_many(self) -> None:
        self._grant("many", 70)

    def do_settle_many(self) -> None:
        tasks = self.held["many"][:-5]
        self._settle([self.d.result(task) for task in tasks], {task.id: "succeeded" for task in tasks})

    def do_cancel_what_runs(self) -> None:
        (task,) = self.held["many"][-5:-4]
        self._begin([task.id])
        self._ask("cancel", ids=[task.id])
        self._settle([self.d.result(task, "failed", error={"type": "E", "message": "m"})], {task.id: "cancelled"})

    def do_remove_all_of_a_type(self) -> None:
        ids = self.ids["unique"] + self.ids["replaced"] + self.ids["large"]
        self._begin(None, go=True)
        self._ask("remove", type="u", states=["pending", "cancelled", "succeeded", "failed", "retrying"])
        for _ in range(5):
            self._turn()
        self._promise("maybe_gone", dict.fromkeys(ids, 1))

    def do_stop_and_copy(self) -> None:
        self._begin()
        self._shut()
        try:
            backup(self.data, self.root / COPY)
            self._said["copy"] = {}
        except TqError as error:  # of a command, not of the daemon
            raise Refusal(error.code, error.message) from error

    def do_start_again(self) -> None:
        self._begin(None)
        self._open()

    def do_send_more(self) -> None:
        self._enqueue("more", [["t", self._payload(5000), {"key": f"more-{n}"}] for n in range(3)])

    def do_forget(self) -> None:
        self._begin(None, go=True)
        self.d.now += 8 * DAY
        for _ in range(4):
            self._turn()
        self._said["forgotten"] = {}

    def do_send_after_all(self) -> None:
        self._enqueue("last", [["t", self._payload(60), None]])

    def do_stop(self) -> None:
        self._begin()
        self._shut()


STEPS = tuple(name for name in vars(Session) if name.startswith("do_"))
LIMITS = Limits()


class _Watched(Driver):
    """A driver that tells its session of each commit."""

    def __init__(self, kind: str, path: Path, limits: Limits, session: Session) -> None:
        self.session = session
        super().__init__(kind, path, limits)

    def open(self) -> None:
        super().open()
        self.session.committed(self.store)
        commit = self.store.commit

        def told() -> None:
            commit()
            self.session.committed(self.store)

        self.store.commit = told  # type: ignore[method-assign]


# -- what must be there --------------------------------------------------------------------------------------------


@dataclass(slots=True)
class Account:
    """What the marks of a record promise. ``touched`` are the tasks that an unanswered step may have changed (None: any)."""

    begun: int = 0
    done: int = 0
    tasks: dict[int, str] = field(default_factory=dict)
    states: dict[int, str] = field(default_factory=dict)
    claims: dict[int, int] = field(default_factory=dict)
    touched: set[int] | None = field(default_factory=set)
    go: bool = False
    copied: bool = False

    def read(self, mark: str) -> None:
        said = json.loads(mark)
        if "begun" in said:
            self.begun, self.go = said["begun"], said["go"]
            self._touch(said["touches"])
            return
        self.done = said["done"]
        if said.get("forgotten") is not None:  # retention decides what is left
            self.tasks.clear()
            self.states.clear()
            self.claims.clear()
        for name in ("tasks", "states", "claims"):
            getattr(self, name).update({int(key): value for key, value in said.get(name, {}).items()})
        for task_id in map(int, said.get("maybe_gone", ())):
            self.tasks.pop(task_id, None)
            self.states.pop(task_id, None)
            self.claims.pop(task_id, None)
        self.copied = self.copied or "copy" in said
        self.touched, self.go = set(), False

    def _touch(self, ids: list[int] | None) -> None:
        """What a step may change is not known until it is answered; a final state is changed only by who names the task."""
        self.touched = None if ids is None else {*(self.touched or ()), *ids}
        for task_id in [*self.states]:
            if task_id in (ids or ()) or self.states[task_id] not in FINAL:
                self.states.pop(task_id)

    def check(self, store: Any) -> list[str]:
        """What of it ``store`` does not keep."""
        found = []
        ids = sorted(self.tasks)
        for task_id, task in zip(ids, store.get(ids), strict=True):
            free = self.touched is None or task_id in self.touched
            if task is None:
                if not (self.go and free):
                    found.append(f"expected task {task_id}, which was acknowledged, found none")
                continue
            if digest(task.spec.payload) != self.tasks[task_id] and not free:
                found.append(f"expected the payload {self.tasks[task_id]} of task {task_id}, found {digest(task.spec.payload)}")
            if task.status.claim < self.claims.get(task_id, 0):
                found.append(f"expected claim {self.claims[task_id]} of task {task_id} or a later one, found {task.status.claim}")
            word = self.states.get(task_id, task.state.word)
            if task.state.word != word:
                found.append(f"expected task {task_id} to be {word}, which was acknowledged, found {task.state.word}")
        return found


def account(marks: Iterable[str]) -> Account:
    found = Account()
    for mark in marks:
        found.read(mark)
    return found


@dataclass(slots=True)
class Reference:
    """The contents after each commit of a run in which nothing went wrong, and which of them each step begins and ends with."""

    dumps: list[Dump] = field(default_factory=list)
    ends: list[int] = field(default_factory=lambda: [0])  # by step: how many contents there were when it was done

    def allowed(self, account: Account) -> list[Dump]:
        """What may be there: the contents at the end of the last step that was answered, or any of the one begun after it."""
        first = max(self.ends[account.done] - 1, 0)
        return self.dumps[first : self.ends[account.begun]]


def reference(root: Path, seed: int) -> Reference:
    """Of a session in ``root``, run now, in a process without faults. RuntimeError: it does not keep its own promises."""
    found, told = Reference(), Account()

    def look(store: Any) -> None:
        with store._env.begin() as txn:
            found.dumps.append(dump(txn, store._db))

    def mark(text: str) -> None:
        told.read(text)
        if "done" in json.loads(text):
            found.ends.append(len(found.dumps))
            if session._lock is not None and (wrong := told.check(session.d.store)):
                raise RuntimeError(f"{STEPS[told.done - 1]}: {wrong}")

    session = Session(root, seed, mark, look)
    session.run()
    if session.refusals:
        raise RuntimeError(f"expected no refusal in a session without faults, got {session.refusals}")
    return found


# -- judging -------------------------------------------------------------------------------------------------------


def judge(root: Path, told: Account, right: Reference | None = None, *, lives: bool = True) -> list[str]:
    """What is wrong with what is left in ``root``: whole, one of the states it may be in, and all that was promised there.

    ``right`` None: the session did not run as the reference did, only promises count. ``lives``: start on it, too.
    """
    data = root / DATA
    if told.done < 1 and not (data / "store").exists():
        return _live(root) if lives else []
    if not (data / "store").exists():
        return ["expected the store, in which tasks were acknowledged, found none"]
    found = []
    if problems := verify(data):
        return [f"expected a whole store, verify says: {problems[0]}"]
    try:
        found += _look(data, told, right.allowed(told) if right is not None else None)
    except TqError as error:
        return [f"expected a store that opens, got {type(error).__name__}: {error}"]
    copy = root / COPY
    if told.copied and not copy.exists():
        found.append("expected the backup, which was acknowledged, found none")
    elif copy.exists():
        found += [f"the backup: {problem}" for problem in verify(copy)]
        if right is not None and not found:
            found += [
                f"the backup: {line}" for line in _look(copy, Account(), right.dumps[right.ends[STEPS.index("do_stop_and_copy")] - 1 :][:1])
            ]
    return found or (_live(root) if lives else [])


def _look(data: Path, told: Account, allowed: list[Dump] | None) -> list[str]:
    """Open the store as the daemon does, and compare."""
    store = LmdbStore(data / "store", LIMITS)
    try:
        found = told.check(store)
        with store._env.begin() as txn:
            got = dump(txn, store._db)
    finally:
        store.close()
    if allowed is not None and got not in allowed:
        apart = min(([name for name in NAMES if got[name] != one[name]] for one in allowed), key=len, default=["all"])
        steps = f"step {told.done} ({STEPS[told.done - 1] if told.done else 'none'}) answered, step {told.begun} begun"
        found.append(f"expected one of the {len(allowed)} states of that moment ({steps}), found another: {', '.join(apart)} differ")
    return found


def _live(root: Path) -> list[str]:
    """A daemon starts on it, takes a task, hands it out, settles it, and leaves a whole store."""
    told: list[str] = []
    session = Session(root, 0, told.append)
    try:
        session._open()
        session.d.now += 30 * DAY
        session.ids["new"] = session._ask("enqueue", tasks=[["t", b"", {"priority": 9, "queue": "new"}]])["ids"]
        for _ in range(8):
            tasks = session._turn(Want("w9", 500, ANY))
            session.d.broker.settled([session.d.result(task) for task in tasks])
            session._turn()
        (state,) = session.d.states(session.ids["new"][0])
    except (TqError, OSError) as error:
        return [f"expected a daemon to start and work on what is left, got {type(error).__name__}: {error}"]
    finally:
        session._shut()
    if state != "succeeded":
        return [f"expected a new task to be carried out on what is left, but it is {state}"]
    return [f"after a daemon worked on what is left, verify says: {problem}" for problem in verify(root / DATA)[:1]]

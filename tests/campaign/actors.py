"""Who lives around a simulated daemon: workers that err, clients that send, consumers that take, an operator.

For: ``Worker`` (a process of the pool), ``Sender``, ``Consumer`` and ``Operator`` (clients over the real protocol core).
Not for: time and transport (simulated), what must hold (oracle), faults of daemon, disk and clock (simulation).
Runs in: the process of a simulation.
Promises: an actor knows only what it was told over its connection or pair; what it learns goes to the oracle.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from tests.campaign.oracle import Oracle
from tests.campaign.simulated import Machine, Process, Records, SimChild, Stream
from tq import wire
from tq.client.core import Core, error_of
from tq.errors import TqError
from tq.model import pack, spec_of, unpack

TYPES = ("t", "u")
POOLED = ("a", "b", "small", "brief")
OUTSIDE = "out"
NAMES = ("key", "unique", "unique_policy", "throttle_ms", "debounce_ms", "debounce_most_ms")
LIMITS = ("l", "m")
TYPE_ROWS = [["t", None, 2, 20_000, ["exponential", 200, 2.0, 5000, True], None, None, None], ["u", "b", *[None] * 6]]
"""What a hello names: two types, one with defaults of its own."""


class Worker(Process):
    """A worker process: reads records, runs tasks for some time, answers; what it has not sent dies with it."""

    def __init__(self, child: SimChild, options: Mapping[str, Any], pipes: tuple[Records, ...], oracle: Oracle) -> None:
        super().__init__(child.machine)
        self.child, self.oracle = child, oracle
        self.tasks, self.results, self.says, self.hears = pipes
        self.slots = int(options["slots"])
        self.todo: deque[list[Any]] = deque()
        self.quick = False
        self.active: dict[int, int] = {}  # claim, by task
        self.gathered: list[list[Any]] = []
        self.draining = self.stubborn = self.orphan = self.greeted = False
        self.hears.heard = lambda: self.machine.at(self.machine.between(0, 3), self.hear)
        self.tasks.heard = lambda: self.machine.at(self.machine.between(0, 2), self.go_on)
        machine = self.machine
        if machine.calm or machine.often(0.93):
            machine.at(machine.between(20, 400), self.greet)
        elif machine.often(0.5):
            machine.at(machine.between(20, 400), self.refuse)
        elif machine.often(0.7):
            machine.at(machine.between(0, 400), lambda: self.die(1))
        # else it never says a word

    # -- the pairs -------------------------------------------------------------------------------------------------

    def tell(self, *message: Any) -> None:
        self.says.records.append(pack(message))

    def greet(self) -> None:
        if self.code is None and not self.frozen:
            self.greeted = True
            self.tell("hello", {"pid": self.pid, "types": TYPE_ROWS})

    def refuse(self) -> None:
        if self.code is None:
            self.tell("refused", "it does not import")
            self.machine.at(1, lambda: self.die(1))

    def hear(self) -> None:
        while self.hears.records and self.code is None and not self.frozen:
            verb, *rest = unpack(self.hears.records.popleft())
            if verb == "flush":
                self.send()
            elif verb == "ping":
                self.tell("pong")
            elif verb == "cancel" and rest[0] in self.active and not self.stubborn:
                self.machine.at(self.machine.between(0, 300), partial(self.end, rest[0], self.active[rest[0]], "failed", _error("Stopped")))
            elif verb == "drain":
                self.draining = True
                self.machine.at(self.machine.between(0, 5), self.go_on)

    def send(self) -> None:
        if self.gathered and self.code is None and not self.frozen:
            rows, self.gathered = self.gathered, []
            self.results.records.append(pack(rows))

    # -- tasks -----------------------------------------------------------------------------------------------------

    def go_on(self) -> None:
        """Begin what can be begun; with nothing to do, send what was gathered, and end if that was asked."""
        if self.code is not None or self.frozen or not self.greeted:
            return
        while len(self.active) < self.slots:
            if not self.todo:
                if self.draining or not self.tasks.records:
                    break
                self.quick, entries = unpack(self.tasks.records.popleft())
                self.todo.extend(entries)
                if not self.quick:
                    self.send()
                continue
            entry = self.todo.popleft()
            if self.draining:
                self.gathered.append([entry[0], entry[1], "released", 0, 0, False, {}])
            else:
                self.begin(*entry)
        if not self.active and not self.todo:
            self.send()
            if self.draining:
                self.machine.at(self.machine.between(0, 30), lambda: self.die(0))

    def begin(self, task_id: int, claim: int, attempt: int, record: bytes, failures: int) -> None:
        machine, spec = self.machine, spec_of(task_id, record)
        self.child.board.begin(task_id, claim, len(self.active) if self.slots > 1 else -1)
        self.oracle.begins(task_id, claim, spec.payload, self)
        self.active[task_id] = claim
        took = machine.some(0, 0, 1, 2, 20, 300) if self.quick or machine.often(0.7) else machine.between(300, 9000)
        luck = machine.chance.random()
        if machine.calm or luck < 0.72:
            machine.at(took, lambda: self.end(task_id, claim, 0, machine.some(None, b"\x01")))
        elif luck < 0.84:
            more = machine.some({}, {"permanent": True}, {"delay_ms": 700})
            machine.at(took, lambda: self.end(task_id, claim, "failed", {**_error("ValueError"), **more}))
        elif luck < 0.87:
            machine.at(took, lambda: self.end(task_id, claim, "snoozed", {"delay_ms": machine.some(50, 5000)}))
        elif luck < 0.89:
            machine.at(took, lambda: self.end(task_id, claim, "stopped", _error("Cancel")))
        elif luck < 0.94:
            machine.at(took, lambda: self.die(machine.some(-11, -9, 3, 0)))
        elif spec.header.timeout_ms:  # it hangs
            self.stubborn = machine.often(0.4)
            if machine.often(0.3):
                self.frozen = True
        else:
            machine.at(30_000, lambda: self.end(task_id, claim, 0, None))

    def end(self, task_id: int, claim: int, kind: int | str, last: Any) -> None:
        if self.code is not None or self.frozen or self.active.get(task_id) != claim:
            return
        del self.active[task_id]
        self.oracle.ends(task_id, self)
        now = self.machine.wall()
        self.gathered.append([task_id, claim, kind, now, now, False, last])
        if not self.quick or self.slots > 1 or len(self.gathered) >= 64 or self.machine.often(0.1):
            self.send()
        self.go_on()

    # -- its end ---------------------------------------------------------------------------------------------------

    def ignores_term(self) -> bool:
        return self.stubborn or self.frozen

    def died(self) -> None:
        self.machine.note("worker", self.pid, "dies", self.code)
        for task_id in self.active:
            self.oracle.ends(task_id, self)
        self.says.ended = self.hears.ended = True
        self.let_go()

    def let_go(self) -> None:
        if self.orphan:
            self.child.board.close()


def _error(kind: str) -> dict[str, Any]:
    return {"error": {"type": kind, "message": "as the simulation wishes"}}


Then = Callable[[dict[str, Any] | None, TqError | None], None]
"""Called with the body of an answer or with its error."""


def nothing(_body: dict[str, Any] | None, _error: TqError | None) -> None:
    """What was asked for its own sake."""


class Client:
    """A client that connects again and again, and repeats what was not answered, as those of tq do."""

    def __init__(self, machine: Machine, oracle: Oracle, name: str) -> None:
        self.machine, self.oracle, self.name = machine, oracle, name
        self.core = Core(name.encode().ljust(8, b"."))
        self.then: dict[int, Then] = {}
        self.stream: Stream | None = None
        self.dialling = False
        self.dial(0)

    def dial(self, delay: int) -> None:
        if not self.dialling:
            self.dialling = True
            self.machine.at(delay, self._dial)

    def _dial(self) -> None:
        self.dialling = False
        listener = self.machine.listener
        if listener is None:
            self.dial(self.machine.between(50, 1500))
            return
        self.stream = listener.dial(self)
        self.stream.feed(self.core.connected())

    def ask(self, verb: str, then: Then = nothing, **args: Any) -> None:
        number, frame = self.core.request(verb, args)
        self.then[number] = then
        if self.stream is not None:
            self.stream.feed(frame)

    def take(self, stream: Stream, data: bytes) -> None:
        if stream is not self.stream:
            return
        for number, kind, body in self.core.received(data):
            if kind == wire.EVENT:
                continue
            then = self.then.pop(number, nothing)
            error = error_of(body) if kind == wire.ERROR else None
            self.machine.note(self.name, number, error.code if error is not None else wire.pack(body).hex())
            then(None, error) if error is not None else then(body, None)

    def lost(self, stream: Stream) -> None:
        if stream is self.stream:
            self.stream = None
            self.dial(self.machine.between(10, 1000))

    def vanish(self) -> None:
        """Lose the connection, whatever is on its way."""
        if self.stream is not None:
            self.stream.hang_up()
            self.stream = None
            self.dial(self.machine.between(10, 3000))

    @property
    def idle(self) -> bool:
        return not self.then


class Sender(Client):
    """Sends tasks of every kind, and waits for some."""

    def __init__(self, machine: Machine, oracle: Oracle, name: str) -> None:
        super().__init__(machine, oracle, name)
        self.machine.at(machine.between(0, 2000), self.act)
        self.count = 0

    def act(self) -> None:
        machine = self.machine
        if machine.calm:
            return
        machine.at(int(machine.chance.expovariate(1 / 18_000)) + 1, self.act)
        if len(self.then) > 20:
            return
        if machine.often(0.08):
            self.vanish()
        elif machine.often(0.15) and self.oracle.owed:
            ids = machine.chance.sample(list(self.oracle.owed), min(3, len(self.oracle.owed)))
            patience = machine.some(0, 1000, 30_000)
            lives = {task_id: self.oracle.lives[task_id] for task_id in ids}
            self.ask("wait", lambda body, _: self.oracle.waited(lives, body), ids=ids, timeout_ms=patience, any=machine.often(0.3))
        else:
            self.enqueue()

    def enqueue(self) -> None:
        machine = self.machine
        if machine.flows and machine.often(0.3):
            self.enqueue_graph()
            return
        tasks = [self.task() for _ in range(machine.some(1, 1, 1, 2, 3, 12))]
        self.oracle.sends(tasks)
        self.ask("enqueue", lambda body, error: self.oracle.accepted(tasks, body, error), tasks=tasks, again=False)

    def enqueue_graph(self) -> None:
        """Tasks that wait for others of their own request, by their places."""
        machine = self.machine
        tasks = [self.task() for _ in range(machine.between(2, 7))]
        for at, task in enumerate(tasks):
            for name in (*NAMES, "after", "after_any", "after_failure", "on_parent_failure"):
                task[2].pop(name, None)
            task[1] = f"{task[1].decode()}-of-{self.count}-{at}".encode()
            task[2]["label"] = f"first-{self.name}"
            for parent in machine.chance.sample(range(at), machine.between(0, min(at, 2))):
                task[2].setdefault(machine.some("after", "after", "after_any", "after_failure"), []).append(-1 - parent)
            task[2]["on_parent_failure"] = machine.some("cancel", "fail", "run")
        self.oracle.sends(tasks)

        def then(body: dict[str, Any] | None, error: TqError | None) -> None:
            self.oracle.accepted(tasks, body, error)
            if body is not None:
                self.oracle.graphs.append(body["ids"])

        self.ask("enqueue", then, tasks=tasks, again=False)

    def task(self) -> list[Any]:
        machine = self.machine
        queue = machine.some(*POOLED, "a", "b", OUTSIDE)
        options: dict[str, Any] = {
            "queue": queue, "priority": machine.some(0, 1, 1, 1, 2, 3, 9), "retries": machine.between(0, 2),
            "backoff": ["exponential", 100, 2.0, 5000, machine.often(0.5)], "label": f"first-{self.name}",
            "delay_ms": machine.some(0, 0, 0, 300, 4000, 40_000), "timeout_ms": machine.some(0, 2000, 8000),
        }  # fmt: skip
        if machine.often(0.1):
            options["ttl_ms"] = machine.some(500, 10_000, 60_000)
        if machine.often(0.05):
            options["deadline_ms"] = machine.some(3000, 60_000)
        if machine.often(0.05):
            options["retry_for_ms"] = 5000
        if machine.often(0.1):
            options["once"] = True
        if machine.often(0.12):
            options["unique"], options["unique_policy"] = f"thing-{machine.between(1, 3)}", machine.some("reject", "existing", "replace")
        elif machine.often(0.06):
            pace = machine.some({"throttle_ms": 3000}, {"debounce_ms": 500}, {"debounce_ms": 500, "debounce_most_ms": 2000})
            options |= {"unique": f"pace-{next(iter(pace))}", "delay_ms": 0, **pace}
        if machine.flows:
            options |= {name: of for name in ("tenant", "flow") if (of := machine.some(None, "x", "y")) is not None}
        self.count += 1
        payload = f"{self.name}-{self.count}"
        if machine.often(0.1):
            options["key"] = payload = f"key-{machine.between(1, 6)}"
            options |= {"priority": 1, "queue": "a", "retries": 1, "timeout_ms": 5000, "once": False, "backoff": None, "label": None}
            for name in (*NAMES[1:], "tenant", "flow"):
                options.pop(name, None)
        elif machine.often(0.12) and self.oracle.owed and not options.get("unique", "").startswith("pace"):
            options[machine.some("after", "after_any", "after_failure")] = machine.chance.sample(list(self.oracle.owed)[-20:], 1)
            options["on_parent_failure"] = machine.some("cancel", "fail", "run")
        if self.count % 7 == 0 and "key" not in options:
            options |= {"order": f"line-{self.count % 3}", "order_on_failure": "continue"}
        return ["t" if "key" in options else machine.some(*TYPES), payload.encode(), options]


class Consumer(Client):
    """Takes tasks under a lease; does them, forgets them, answers late, answers twice."""

    def __init__(self, machine: Machine, oracle: Oracle, name: str) -> None:
        super().__init__(machine, oracle, name)
        self.held: dict[tuple[int, int], int] = {}  # with its lease
        self.past: list[tuple[int, int]] = []
        self.asks = False
        self.machine.at(machine.between(0, 2000), self.act)

    def act(self) -> None:
        machine = self.machine
        pause = 1500 if machine.calm else int(machine.chance.expovariate(1 / 14_000)) + 1
        machine.at(pause, self.act)
        if len(self.then) > 10:
            return
        if not machine.calm and machine.often(0.05):
            self.vanish()
        elif not machine.calm and machine.often(0.15) and self.past:
            self.late(machine.some(*self.past))
        elif not self.asks:
            self.asks = True
            lease_ms, wait_ms = machine.some(1000, 5000, 30_000), 0 if machine.calm else machine.some(0, 0, 3000, 60_000)
            limit = 50 if machine.calm else machine.between(1, 4)
            self.ask("claim", lambda body, _: self.got(body, lease_ms), queues=[OUTSIDE], limit=limit, wait_ms=wait_ms, lease_ms=lease_ms)

    def got(self, body: dict[str, Any] | None, lease_ms: int) -> None:
        self.asks = False
        for task in body["tasks"] if body is not None else ():
            token = task["id"], task["claim"]
            self.oracle.leased(*token, task["payload"])
            self.held[token] = lease_ms
            took = self.machine.between(0, 200) if self.machine.calm else self.machine.some(10, 500, 3000, 20_000)
            self.machine.at(took, lambda token=token: self.finish(token))  # type: ignore[misc]
            self.machine.at(lease_ms // 3, lambda token=token: self.beat(token))  # type: ignore[misc]

    def beat(self, token: tuple[int, int]) -> None:
        """Extend a lease, unless this consumer is one that forgets."""
        if token in self.held and (self.machine.calm or self.machine.often(0.8)):
            lease_ms = self.held[token]
            self.ask("extend", id=token[0], claim=token[1], lease_ms=lease_ms)
            self.machine.at(lease_ms // 3, lambda: self.beat(token))

    def finish(self, token: tuple[int, int]) -> None:
        del self.held[token]
        self.past.append(token)
        luck = 0.0 if self.machine.calm else self.machine.chance.random()
        if luck < 0.6:
            self.settle(token, "succeeded")
        elif luck < 0.8:
            self.settle(token, "failed")
        elif luck < 0.9:
            self.ask("release", claims=[[*token]])

    def settle(self, token: tuple[int, int], kind: str) -> None:
        details = {} if kind == "succeeded" else _error("Failed") | {"delay_ms": 500}
        was = self.oracle.is_over(*token), self.oracle.lives[token[0]]
        self.ask("settle", lambda body, _: self.oracle.settled(*token, kind, was, body), results=[[*token, kind, details]])

    def late(self, token: tuple[int, int]) -> None:
        """Say again, or something else, of what was settled before; or name a claim that never was."""
        token = token[0], token[1] + self.machine.some(0, 0, -1, 5)
        if self.machine.often(0.7):
            self.settle(token, self.machine.some("succeeded", "failed"))
        else:
            over = self.oracle.is_over(*token)
            self.ask("extend", lambda body, _: self.oracle.extended(*token, over, body), id=token[0], claim=token[1], lease_ms=60_000)


class Operator(Client):
    """A person at the command line: one thing at a time, some of them unwise."""

    def __init__(self, machine: Machine, oracle: Oracle, name: str) -> None:
        super().__init__(machine, oracle, name)
        self.count = 0
        self.machine.at(machine.between(0, 5000), self.act)

    def act(self) -> None:
        machine = self.machine
        if machine.calm:
            return
        machine.at(int(machine.chance.expovariate(1 / 18_000)) + 1, self.act)
        if self.idle:
            getattr(
                self, machine.some("one", "one", "one", "many", "line", "line", "pool", "look", *(["limit", "graph"] * machine.flows))
            )()

    def one(self) -> None:
        """Something to single tasks."""
        machine, oracle = self.machine, self.oracle
        if not oracle.owed:
            return
        ids = machine.chance.sample(list(oracle.owed), min(machine.between(1, 3), len(oracle.owed)))
        verb = machine.some("cancel", "cancel", "retry", "edit", "remove")
        more: dict[str, Any] = {}
        if verb == "edit" or (verb == "retry" and machine.often(0.3)):
            self.count += 1
            more["changes"] = {"label": f"edit-{self.count}", **machine.some({}, {"priority": 5}, {"delay_ms": 2000}, {"delay_ms": 0})}
        oracle.acts(verb, ids, more.get("changes"))
        self.ask(verb, lambda body, _: oracle.acted(verb, ids, more.get("changes"), body), ids=ids, **more)

    def many(self) -> None:
        """The same to all that match: chores. Only one queue is ever retried or emptied so."""
        machine = self.machine
        if machine.often(0.3):
            self.ask(machine.some("cancel", "edit", "remove"), queue="a", dry_run=True)
        elif machine.often(0.5):
            self.oracle.acts_on_queue("small")
            self.ask(machine.some("retry", "remove"), queue="small")
        else:
            queue = machine.some("a", "b", OUTSIDE)
            self.ask("cancel", queue=queue, states=machine.some(["pending"], ["scheduled", "retrying"], ["running"]))

    def line(self) -> None:
        """Settings of a queue."""
        machine = self.machine
        if machine.breakers and machine.often(0.5):
            rule = machine.some("2 failures, cool 2s to 20s", "3 failures in 1m, cool 5s, probes 2, close 2", "50% of 4, cool 3s")
            verb, more = machine.some(
                ("set_breaker", {"rule": rule}), ("trip_breaker", {"for_ms": machine.between(1000, 20_000)}), ("reset_breaker", {}),
                ("remove_breaker", {}),
            )  # fmt: skip
            self.ask(verb, type=machine.some(*TYPES), **more)
            return
        name = machine.some("a", "b", OUTSIDE)
        setting: dict[str, Any] = machine.some(
            {"paused": True}, {"paused": False}, {"paused": False}, {"slots": machine.between(0, 3)}, {"weight": machine.between(1, 5)},
            {"aging_ms": machine.some(0, 1000, 60_000)}, {"aging_share": machine.some(0, 2, 10)},
        )  # fmt: skip
        if machine.holds and machine.often(0.5):
            setting = machine.some({"hold_load": 4}, {"hold_memory": 2 << 30}, {"unset": ["hold_load", "hold_memory"]})
        self.ask("set_queue", name=name, **setting)

    def limit(self) -> None:
        """A limit comes, changes, or goes, whatever runs."""
        machine = self.machine
        if machine.often(0.2):
            self.ask("remove_limit", name=machine.some(*LIMITS))
            return
        scope, of = machine.some(("queue", "a"), ("queue", OUTSIDE), ("type", "t"), ("tenant", "x"), ("tenant", None), ("flow", None))
        how = machine.some({"rate": machine.between(1, 3)}, {"running": machine.between(1, 2)}, {"rate": 2, "running": 1})
        how |= {"per_ms": machine.some(1000, 5000), "burst": machine.some(1, 2, 5)} if "rate" in how else {}
        self.ask("set_limit", name=machine.some(*LIMITS), scope=scope, of=of, **how)

    def graph(self) -> None:
        """All tasks of a request are cancelled, or run again, as those of a workflow are."""
        machine, oracle = self.machine, self.oracle
        if not oracle.graphs:
            return
        ids = machine.some(*oracle.graphs[-5:])
        verb = machine.some("cancel", "retry", "retry")
        oracle.acts(verb, ids, None)
        more = {"in_order": True} if verb == "retry" else {}
        self.ask(verb, lambda body, _: oracle.acted(verb, ids, None, body), ids=ids, **more)

    def pool(self) -> None:
        """The workers."""
        machine = self.machine
        what = machine.some("scale", "restart", "drain")
        if what == "scale":
            low = machine.between(0, 2)
            self.ask("scale_workers", min=low, max=low + machine.between(0, 2))
        elif what == "restart":
            self.ask("restart_workers")
        else:
            self.ask("drain_worker", id=machine.some("w1", "w2"))

    def look(self) -> None:
        machine = self.machine
        verb, args = machine.some(
            ("stats", {}), ("queues", {}), ("chores", {}), ("peek", {"limit": 20}), ("find", {"limit": 20}), ("events", {}),
            ("dead", {"states": ["failed"]}), ("workers", {}), ("find", {"states": ["running", "pending"], "queue": "a"}),
        )  # fmt: skip
        self.ask(verb, **args)

    def make_calm(self, low: int) -> None:
        """Undo what would keep tasks from their end."""
        for name in (*POOLED, OUTSIDE):
            self.ask(
                "set_queue", name=name, paused=False, slots=0, **({"unset": ["hold_load", "hold_memory"]} if self.machine.holds else {})
            )
        for name in LIMITS if self.machine.flows else ():
            self.ask("remove_limit", name=name)
        for kind in TYPES if self.machine.breakers else ():
            self.ask("set_breaker", type=kind, rule="1000 failures")
            self.ask("reset_breaker", type=kind)
        self.ask("scale_workers", min=low, max=max(low, 2))

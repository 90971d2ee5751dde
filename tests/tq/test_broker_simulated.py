"""Broker and store in a simulated world: clients, workers and consumers that err, a disk that fails, and power cuts.

Each seed is a world of its own, driven by one stream of chance; a failure names its seed. Checked after each step: an
acknowledged task is there with its payload, a final state never changes, a stale claim changes nothing, no task is in two
hands, what runs is in somebody's hands. At the end the faults stop and everything must come to its end, and the counts
must equal a recount. ``TQ_ROUNDS`` sets the number of seeds.
"""

from __future__ import annotations

import os
import random
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from tests.tq.broker_driver import ANY, Driver
from tq.errors import Refused
from tq.model import STATES, State
from tq.store import Claimed, Limits, Query, Want

ROUNDS = int(os.environ.get("TQ_ROUNDS", "30"))
STEPS = 120
WORKERS = ("w1", "w2", "w3")
ENDS = ("failed", "timed_out", "crashed", "interrupted", "released", "snoozed", "stopped")
FINAL = {state.word for state in State if state.final}


class World:
    def __init__(self, kind: str, path: Path, seed: int) -> None:
        self.chance = random.Random(seed)
        self.d = Driver(kind, path, Limits(queue_tasks=60))
        self.commit = self.d.store.commit
        self.fails: list[Exception] = []
        self.hook()
        self.accepted: dict[int, bytes] = {}
        self.final: dict[int, str] = {}
        self.hands: dict[int, tuple[str, Claimed]] = {}  # local grants, by task
        self.leased: list[tuple[int, int]] = []
        self.stale: list[list[Any]] = []
        self.asked: dict[int, list[list[Any]]] = {}  # enqueues without an answer yet, by number
        self.made = 0
        self.latest = 0

    def hook(self) -> None:
        commit = self.d.store.commit

        def maybe() -> None:
            if self.fails:
                raise self.fails.pop()
            commit()

        self.d.store.commit = maybe  # type: ignore[method-assign]

    # -- steps -----------------------------------------------------------------------------------------------------

    def enqueue(self) -> None:
        chance, tasks = self.chance, []
        for _ in range(chance.randrange(1, 5)):
            self.made += 1
            options = {
                "retries": chance.randrange(3), "priority": chance.randrange(10), "queue": chance.choice(["a", "b", "out"]),
                "delay_ms": chance.choice([0, 0, 500, 20_000]), "ttl_ms": chance.choice([None, None, 30_000]),
                "once": chance.random() < 0.2,
                "backoff": ["exponential", 100, 2.0, 5000, True],
            }  # fmt: skip
            tasks.append([chance.choice("tu"), b"%d" % self.made, options])
        number = self.d.submit("enqueue", nonce=b"a client", tasks=tasks)
        self.asked[number] = tasks

    def settle(self) -> None:
        for task_id in self.chance.sample(sorted(self.hands), min(len(self.hands), self.chance.randrange(1, 4))):
            _, task = self.hands.pop(task_id)
            kind = 0 if self.chance.random() < 0.5 else self.chance.choice(ENDS)
            more = {"delay_ms": 300, "error": {"type": "E", "message": "m"}} if kind else None
            row = [task.id, task.claim, kind, self.d.now, self.d.now, False, more]
            self.stale.append(row)
            self.d.broker.settled([row])

    def settle_stale(self) -> None:
        """What was answered before is answered again, and claims that never were."""
        if self.stale:
            row = list(self.chance.choice(self.stale))
            row[1] += self.chance.choice([0, -1, 7])
            if row[0] not in self.hands or self.hands[row[0]][1].claim != row[1]:
                held = {(one.id, one.claim) for one in self.d.store.held()}
                if (row[0], row[1]) not in held:
                    self.d.broker.settled([row])

    def consume(self) -> None:
        chance = self.chance
        if chance.random() < 0.5:
            number = self.d.submit("claim", 7, queues=["out"], limit=3, lease_ms=5000, wait_ms=chance.choice([0, 2000]))
            self.turn()
            for body in [self.d.answer(number, 7) or {"tasks": []}]:
                self.leased += [(task["id"], task["claim"]) for task in body["tasks"]]
        elif self.leased:
            one = self.leased.pop(chance.randrange(len(self.leased)))
            verb = chance.choice(["settle", "settle", "release", "extend"])
            if verb == "settle":
                self.d.submit("settle", 7, results=[[*one, chance.choice(["succeeded", "failed"]), None]])
            elif verb == "release":
                self.d.submit("release", 7, claims=[[*one]])
            else:
                self.d.submit("extend", 7, id=one[0], claim=one[1], lease_ms=9000)
                self.leased.append(one)

    def cancel(self) -> None:
        if self.chance.random() < 0.2:
            self.d.submit("cancel", queue=self.chance.choice("ab"))
        elif self.accepted:
            self.d.submit("cancel", ids=[self.chance.choice(sorted(self.accepted))])

    def clock(self) -> None:
        self.d.now += self.chance.choice([1, 50, 700, 6000, 25_000, -3000, -4_000_000])

    def fail(self) -> None:
        self.fails = [self.chance.choice([Refused("no room"), RuntimeError("a bug")]) for _ in range(self.chance.randrange(1, 4))]

    def leave(self) -> None:
        self.d.broker.gone(7)

    def power_cut(self) -> None:
        """Only what was committed is left; workers die; the client repeats what was not answered."""
        self.fails = []
        self.d.reopen()
        self.hook()
        begun = {task_id for task_id in self.hands if self.chance.random() < 0.6}
        self.d.broker.recover(lambda task_id, claim: task_id in begun, self.d.now)
        self.hands.clear()
        for number, tasks in self.asked.items():
            self.d.submit("enqueue", nonce=b"a client", number=number, tasks=tasks, again=True)

    # -- turns -----------------------------------------------------------------------------------------------------

    def turn(self) -> None:
        self.latest = max(self.latest, self.d.now)
        wants = [Want(name, 2, ANY) for name in WORKERS if sum(who == name for who, _ in self.hands.values()) < 3]
        turn = self.d.turn(*(wants if self.chance.random() < 0.8 else []))
        for want, tasks in turn.grants:
            for task in tasks:
                assert task.id not in self.hands, "one task in two hands"
                self.hands[task.id] = (want.worker, task)
        for number, tasks in list(self.asked.items()):
            if (body := self.d.answer(number)) is not None:
                assert len(body["ids"]) == len(tasks)
                for task_id, (_, payload, _) in zip(body["ids"], tasks, strict=True):
                    assert self.accepted.setdefault(task_id, payload) == payload, "an id given twice"
            elif self.d.error(number) is None:
                continue
            del self.asked[number]
        self.d.told[1].clear()

    def check(self) -> None:
        store = self.d.store
        ids = sorted(self.accepted)
        owed = {row[0] for row in self.d.broker.owed}
        held = {one.id: one for one in store.held()}
        assert len(held) == len(store.held())
        for task_id, task in zip(ids, store.get(ids), strict=True):
            assert task is not None, f"task {task_id} is lost"
            assert task.spec.payload == self.accepted[task_id]
            word = task.state.word
            assert self.final.get(task_id, word) == word, f"task {task_id} was {self.final[task_id]} and is {word}"
            if word in FINAL:
                self.final[task_id] = word
            assert (word == "running") == (task_id in held)
            if task_id in held and not held[task_id].lease_ms:
                assert task_id in self.hands or task_id in owed, f"task {task_id} runs in nobody's hands"
            if task_id in self.hands:
                assert word == "running"
                assert task.status.claim == self.hands[task_id][1].claim

    def recount(self) -> None:
        tasks = [one[0] for one in self.d.store.find(Query(limit=100_000)) if one is not None]
        counted = Counter(task.state.word for task in tasks)
        assert {word: count for word, count in self.d.ask("stats", 5)["states"].items() if count} == counted
        assert {task.id for task in tasks} >= set(self.accepted)

    def come_to_an_end(self) -> None:
        """The faults stop: everything ends within bounded time."""
        self.fails = []
        self.d.broker.gone(7)
        self.leased.clear()
        self.d.now = max(self.latest, self.d.now) + 86_400_000  # what was due before a clock stepped back is due again
        for _ in range(100):
            for task_id in list(self.hands):
                _, task = self.hands.pop(task_id)
                self.d.broker.settled([[task.id, task.claim, 0, self.d.now, self.d.now, False, None]])
            self.d.submit("claim", 8, queues=["out"], limit=50, lease_ms=100)
            self.turn()
            claims = [task for _, _, body in self.d.told.pop(8, []) for task in body["tasks"]]
            self.d.submit("settle", 9, results=[[task["id"], task["claim"], "succeeded", None] for task in claims])
            self.d.now += 1000
            self.turn()
            if len([word for word in self.final.values() if word in FINAL]) == len(self.accepted) and not self.asked:
                return
            self.check()
        left = {task_id: word for task_id, word in zip(self.accepted, self.d.states(*self.accepted), strict=True) if word not in FINAL}
        raise AssertionError(f"not over after all: {left}")


@pytest.mark.parametrize("kind", ["memory", "lmdb"])
def test_nothing_is_lost_or_done_twice_at_once_whatever_fails(kind: str, tmp_path: Path) -> None:
    steps = ["enqueue"] * 5 + ["settle"] * 6 + ["clock"] * 3 + ["consume"] * 2
    steps += ["settle_stale", "cancel", "fail", "leave", "power_cut"]
    seen: Counter[str] = Counter()
    for seed in range(ROUNDS):
        world = World(kind, tmp_path / f"store{seed}", seed)
        world.d.ask("set_queue", name="out", external=True)
        try:
            for _ in range(STEPS):
                getattr(world, world.chance.choice(steps))()
                if world.chance.random() < 0.7:
                    world.turn()
                    world.check()
            world.come_to_an_end()
            world.recount()
        except BaseException as error:
            error.add_note(f"seed {seed} on the {kind} store")
            raise
        finally:
            world.d.store.close()
        seen += Counter(world.final.values())
    assert set(seen) == FINAL & set(STATES)  # the world is rich enough to reach every end

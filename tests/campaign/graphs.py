"""Graphs of tasks, and ten kills -9 of the daemon in their midst: every task ends once, no callback is missed or doubled, order holds.

For: ``SUITE``: a graph a cycle, of layers whose tasks wait for some of the layer above, of chords, of callbacks for an end in success, in
failure or in any way, of a task that many wait for and one that waits for many; it is killed while it is sent, while it runs, while the
many are told, while it drains and while the next daemon starts.
Not for: tasks that wait for nobody (kills), a graph's figures (``tests.bench graph``).
Runs in: the process that drives it; daemons and workers are real.
Promises: a cycle's graph and the kinds of its kills come from its seed; the moments are not repeated exactly, real time passes. What must
become of each task is worked out here, from the graph alone. A seed that a hundred divides is of full size, 100,000 tasks in 1,000 layers:
``python -m tests.campaign graphs --seed 100 --cycles 1``.
"""

from __future__ import annotations

import random
import shutil
import subprocess
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from zlib import crc32

from tests.campaign.suite import ROOT, Report, Suite, each, plain_env, python, scratch
from tests.living import Daemon, Instance
from tq.client import Client
from tq.errors import DaemonError
from tq.signature import INTO

NAME = "graphs"
APP = ROOT / "tests" / "campaign" / "graph_tasks.py"
KILLS = 10
FULL_EVERY = 100
A_REQUEST = 1000
"""Tasks of a request at the most."""
SENDS_S, RUNS_S, DRAINS_S, BOOTS_S = 0.02, 0.005, 0.05, 0.6
"""How long after a moment began the kill comes at the latest."""
FAILED, SUCCEEDED, CANCELLED = "failed", "succeeded", "cancelled"
SHOWN = 5


@dataclass(slots=True)
class Node:
    """A task of a graph; what it waits for are places of others before it."""

    kind: str = "step"
    after: Sequence[int] = ()
    loose: Sequence[int] = ()
    failed: Sequence[int] = ()
    policy: str = "cancel"
    fails: bool = False
    nap: float = 0.0

    @property
    def parents(self) -> list[int]:
        return [*self.after, *self.loose, *self.failed]


@dataclass(slots=True)
class Graph:
    nodes: list[Node] = field(default_factory=list)
    hub: int = 0
    """The task that many wait for."""

    def add(self, node: Node) -> int:
        self.nodes.append(node)
        return len(self.nodes) - 1

    def ends(self) -> list[str]:
        """In which state each task must end."""
        found: list[str] = []
        for node in self.nodes:
            lost = [one for one in node.after if found[one] != SUCCEEDED] if node.policy != "run" else []
            spared = any(found[one] != FAILED for one in node.failed)
            if lost or spared:
                found.append(FAILED if lost and node.policy == "fail" else CANCELLED)
            else:
                found.append(FAILED if node.fails else SUCCEEDED)
        return found


def graph_of(rng: random.Random, layers: int, wide: int, many: int) -> Graph:
    """Layers that always succeed, each behind the one above, and beside them what fails, and what is to be told of it."""
    graph, above = Graph(), list[int]()
    naps = (0.0, 0.001, 0.004) if layers * wide < 10_000 else (0.0,)
    for layer in range(layers):
        here = []
        for at in range(wide):
            after = [above[(at + step) % len(above)] for step in rng.choice(((0,), (0, 1), (0, 1, 7)))] if above else []
            here.append(graph.add(Node(after=tuple(dict.fromkeys(after)), nap=rng.choice(naps))))
        if rng.random() < 0.3:
            _beside(graph, rng, rng.choice(here))
        if rng.random() < 0.3:
            here.append(graph.add(Node("gather", after=tuple(here))))
        if layer == layers // 2:
            graph.hub = graph.add(Node("gather", after=tuple(here)))
            fan = [graph.add(Node(after=(graph.hub,))) for _ in range(many)]
            here = [graph.add(Node("gather", after=tuple(fan)))]
        above = here
    return graph


def _beside(graph: Graph, rng: random.Random, parent: int) -> None:
    """A group of which some fail, the bodies of chords behind it, and callbacks of one of them."""
    group = [graph.add(Node(after=(parent,), fails=rng.random() < 0.4)) for _ in range(rng.randint(1, 5))]
    body = graph.add(Node("gather", after=tuple(group)))
    graph.add(Node("gather", after=tuple(group), policy="run"))
    one = rng.choice(group)
    graph.add(Node(failed=(one,)))
    graph.add(Node(loose=(one,)))
    strict = graph.add(Node(after=(one,), policy="fail"))
    graph.add(Node(loose=(body,), failed=(strict,)))
    graph.add(Node(after=(parent,), failed=(body,)))  # one that was cancelled has not failed


def size_of(seed: int) -> tuple[int, int, int]:
    """Layers, how wide they are, and how many wait for one."""
    return (1000, 96, 1000) if seed % FULL_EVERY == 0 else (40, 20, 600)


class Life:
    """One graph, and the daemons that were killed under it."""

    def __init__(self, seed: int, plant: str | None) -> None:
        self.rng = random.Random(seed)
        self.graph = graph_of(self.rng, *size_of(seed))
        self.full = seed % FULL_EVERY == 0
        self.stuck_s = 60.0 if plant is None else 5.0
        self.where = Path(tempfile.mkdtemp(prefix="tqg", dir=scratch()))
        self.data_dir = self.where / "d"
        self.data_dir.mkdir(mode=0o700)
        (self.data_dir / "tq.toml").write_text("keep = 1000000\nkeep_failed_ms = 1000000000\n")
        self.account = self.where / "account"
        self.ids: list[int] = []
        self.kills = self.midst = 0
        self.daemon = Daemon(self.data_dir, app=APP, workers=2)
        if plant is not None:
            self.daemon.module = ["tests.campaign.planted", plant, "tq.daemon"]
        self.daemon.env = plain_env(GRAPH=str(self.account))
        self.daemon.start()
        self.client = Client(self.data_dir)

    # -- sending ---------------------------------------------------------------------------------------------------

    def requests(self) -> Iterator[list[int]]:
        """The places of each request's tasks."""
        at, count = 0, len(self.graph.nodes)
        while at < count:
            size = self.rng.randint(A_REQUEST // 4, A_REQUEST)
            yield list(range(at, min(at + size, count)))
            at += size

    def row(self, place: int, first: int) -> tuple[str, dict[str, Any], dict[str, Any]]:
        """A task for ``enqueue_graph``, in a request that begins with the place ``first``; its key makes it itself when sent again."""
        node = self.graph.nodes[place]

        def named(places: Sequence[int]) -> list[int]:
            return [first - 1 - one if one >= first else self.ids[one] for one in places]

        options: dict[str, Any] = {"key": f"place-{place}", "on_parent_failure": node.policy}
        for name, places in (("after", node.after), ("after_any", node.loose), ("after_failure", node.failed)):
            if places:
                options[name] = named(places)
        if node.kind == "gather":
            options["extras"] = {INTO: [0, len(node.after)]}
            return "gather", [place], options
        return "step", {"at": place, "nap": node.nap, "fails": node.fails}, options

    def send(self) -> Iterator[str]:
        """All of it, with two kills while a request is on its way."""
        requests = list(self.requests())
        killed = set(self.rng.sample(range(len(requests)), min(2, len(requests))))
        for number, places in enumerate(requests):
            rows = [self.row(place, places[0]) for place in places]
            if number not in killed:
                self.ids += self.client.enqueue_graph(rows)
                continue
            timer = threading.Timer(self.rng.uniform(0, SENDS_S), self.daemon.kill)
            timer.start()
            told: list[int] = []
            with suppress(DaemonError):
                told = self.client.enqueue_graph(rows)
            timer.join()
            self.again()
            ids = self.client.enqueue_graph(rows)
            if told and told != ids:
                yield f"expected tasks {told[:SHOWN]} to be themselves when sent again, got {ids[:SHOWN]}"
            self.ids += ids

    # -- kills -----------------------------------------------------------------------------------------------------

    def over(self) -> int:
        states = self.client.stats()["states"]
        return int(sum(states[word] for word in (SUCCEEDED, FAILED, CANCELLED)))

    def until_over(self, mark: int) -> None:
        """Wait until so many tasks are over; AssertionError if none comes to its end for long."""
        over, since = self.over(), time.monotonic()
        while over < mark:
            time.sleep(0.005)
            before, over = over, self.over()
            since = since if over == before else time.monotonic()
            if time.monotonic() - since > self.stuck_s:
                raise AssertionError(f"expected {mark} of {len(self.ids)} tasks to end, {over} did and then none for {self.stuck_s:g} s")

    def again(self) -> None:
        """The daemon is dead: the next one."""
        self.kills += 1
        self.daemon.start()

    def killed(self) -> Iterator[str]:
        """The other kills, spread over what is left of the graph; one of them just as many are told of their parent's end."""
        kinds = self.rng.choices(("runs", "runs", "drain", "boot"), k=KILLS - self.kills - 1)
        count, began = len(self.ids), self.over()
        marks = [began + (count - began) * (number + 1) // (len(kinds) + 2) for number in range(len(kinds))]
        moments = [*zip(marks, kinds, strict=True), (self.graph.hub, "told")]
        for mark, kind in sorted(moments):
            if kind == "told":
                while not self.client.get(self.ids[self.graph.hub])["finished_at"]:
                    self.until_over(self.over() + 1)
            else:
                self.until_over(mark)
            self.midst += self.over() < count
            time.sleep(self.rng.uniform(0, RUNS_S))
            if kind == "drain":
                self.daemon.process.terminate()
                time.sleep(self.rng.uniform(0, DRAINS_S))
            self.daemon.kill()
            if kind == "boot":
                self._kill_at_boot()
            if not self.full:
                yield from (
                    f"{kind}: expected a store without faults, found: {problem}" for problem in Instance(self.data_dir).problems()[:3]
                )
            self.again()

    def _kill_at_boot(self) -> None:
        """Kill the next daemon, too, before, while or just after it becomes ready."""
        self.kills += 1
        argv = python("-m", *self.daemon.module, "--data-dir", str(self.data_dir), "--app", str(APP), "--workers", "2", "--foreground")
        null = subprocess.DEVNULL
        with subprocess.Popen(argv, stdin=null, stdout=null, stderr=null, env=self.daemon.env, cwd=ROOT) as process:
            time.sleep(self.rng.uniform(0, BOOTS_S))
            process.kill()

    # -- what came of it -------------------------------------------------------------------------------------------

    def end(self) -> Iterator[str]:
        """Let every task come to its end, and hold it against the graph and the account."""
        try:
            self.until_over(len(self.ids))
        except AssertionError as error:
            yield str(error)
            return
        rows = [row for at in range(0, len(self.ids), 500) for row in self.client.get_many(self.ids[at : at + 500])]
        totals = self.client.stats()
        code = self.daemon.stop()
        if code != 0:
            yield f"expected exit code 0 of the last daemon, got {code}"
        expected = self.graph.ends()
        ended = Counter(expected)
        if (totals["completed"], totals["failed"]) != (ended[SUCCEEDED], ended[FAILED]):
            yield f"expected each task to end once, {dict(ended)}, these were counted: {totals['completed']} and {totals['failed']} failed"
        lines = [line.split() for line in self.account.read_text().splitlines()]
        begun = Counter(int(words[1]) for words in lines if words[0] == "begin")
        for place, row in enumerate(rows):
            if row is None:
                yield f"task {self.ids[place]} at {place}: it was accepted and is not there"
            elif found := self.wrong(place, row, expected[place], begun[place]):
                yield f"task {row['id']} at {place}: {found}: {row}"
        yield from self.disorder(lines, expected)
        yield from Instance(self.data_dir).problems()[:3]

    def wrong(self, place: int, row: dict[str, Any], expected: str, begun: int) -> str:
        """What is wrong with a task at its end, which began ``begun`` times by the account; '' if nothing is."""
        ran = expected == SUCCEEDED or (expected == FAILED and self.graph.nodes[place].fails and not _of_parents(row))
        if row["state"] != expected:
            return f"expected it to be {expected}"
        if row["crashes"] or row["attempt"] != row["interrupts"] + ran:
            return "expected no crash, and an attempt for each interrupt and one for its end"
        if not (ran <= begun <= row["attempt"]):
            return f"expected its {begun} runs to be counted" if ran else f"expected it never to run, it did so {begun} times"
        if expected == SUCCEEDED and row["result"] != place:
            return f"expected its result to be {place}"
        return ""

    def disorder(self, lines: list[list[str]], expected: list[str]) -> Iterator[str]:
        """Tasks that began before all was over that they wait for, and such as were given something else than these gave."""
        first: dict[int, int] = {}
        last: dict[int, int] = {}
        sums: dict[int, set[int]] = {}
        for number, (word, place, *rest) in enumerate(lines):
            if word == "begin":
                first.setdefault(int(place), number)
            last[int(place)] = number
            if rest:
                sums.setdefault(int(place), set()).add(int(rest[0]))
        for place, began in first.items():
            node = self.graph.nodes[place]
            if late := [one for one in node.parents if last.get(one, -1) > began]:
                yield f"the task at {place}: expected it to begin behind all that it waits for, {late[:SHOWN]} ran later"
            given = [one for one in node.after if expected[one] == SUCCEEDED]
            if node.kind == "gather" and sums.get(place, set()) - {crc32(",".join(map(str, given)).encode())}:
                yield f"the task at {place}: expected it to be given what {given[:SHOWN]} gave ({len(given)}), it got something else"

    def close(self) -> None:
        self.client.close()
        self.daemon.end()
        self.daemon.words.unlink(missing_ok=True)
        shutil.rmtree(self.where, ignore_errors=True)


def _of_parents(row: dict[str, Any]) -> bool:
    """Whether a task failed because one before it did, and not in a run."""
    return (row["error"] or {}).get("type") == "ParentFailed"


def cycle(seed: int, report: Report, plant: str | None) -> Iterator[str]:
    life = Life(seed, plant)
    try:
        found: list[str] = []
        for stage in (life.send, life.killed, life.end):
            found = found or list(stage())
        yield from found[:SHOWN]
    except AssertionError as error:
        yield str(error)
    finally:
        report.add(tasks=len(life.ids), kills=life.kills, midst=life.midst)
        life.close()


def run(seed: int, cycles: int, plant: str | None = None) -> Report:
    return each(NAME, seed, cycles, lambda number, report: list(cycle(number, report, plant)))


SUITE = Suite(
    NAME, "graphs, each killed ten times", per_change=4, deep=300, run=run,
    sees=("answer_before_commit", "claim_before_commit", "index_skipped", "release_put_off"), tested=1,
)  # fmt: skip

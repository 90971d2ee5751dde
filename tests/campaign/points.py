"""T1x: the store is killed at every call that changes a file, from its first start on: nothing that was answered is lost.

For: ``SUITE``: a scripted session (session.py), killed before each of its writes, syncs, creates and renames, and halfway
through each write; what is left is judged, and a daemon starts on it. Also that each answer comes after a sync.
Not for: power cuts (images), calls that fail (errors), the whole daemon (kills).
Runs in: ``python -m tests.campaign.points`` under the shim; each point in a fork of its own, and its judgement in another.
Promises: every point of a session is visited, once; a kill right after a call is the kill before the next one: the same
files, and more that was promised.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from tests.campaign import planted, shim
from tests.campaign.session import STEPS, Account, Reference, Session, account, judge, reference
from tests.campaign.shim import Record, Shim
from tests.campaign.suite import Report, Suite, scratch

NAME = "points"
KILLED = f"{shim.DIED} SIGKILL"
HOW = {shim.KILL_BEFORE: "before", shim.KILL_HALF: "halfway through", shim.KILL_AFTER: "after"}


class Place:
    """Directories for sessions, one after the other: ``root`` for its files, ``record`` beside it."""

    def __init__(self, where: Path) -> None:
        self.root, self.record = where / "r", where / "record"

    def clear(self) -> None:
        shutil.rmtree(self.root, ignore_errors=True)
        self.record.unlink(missing_ok=True)
        self.root.mkdir()


@contextmanager
def place() -> Iterator[Place]:
    with tempfile.TemporaryDirectory(prefix="tq-", dir=scratch()) as where:
        yield Place(Path(where))


def play(at: Place, seed: int, plant: str | None, *, calls: bool, fault: Callable[[Shim], None] = lambda _: None) -> list[str]:
    """One session in a cleared place, in this process, with its record; the requests that were refused."""
    planted.plant(plant)
    counter = Shim()
    fd = os.open(at.record, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    counter.record(fd, calls=calls)
    counter.watch(at.root)
    fault(counter)
    session = Session(at.root, seed, counter.mark)
    session.run()
    return [f"{name} {code}" for name, code in session.refusals]


def recorded(at: Place, seed: int, plant: str | None) -> tuple[list[Record], list[str]]:
    """The record of a session that nothing happens to; and what did, for all that."""
    at.clear()
    problems = shim.in_child(partial(play, at, seed, plant, calls=True))
    return shim.records(at.record), [f"a session that nothing happened to: {problem}" for problem in problems]


def unsynced(records: list[Record], right: Reference) -> list[str]:
    """Answers that came before what they promise was synced."""
    found: list[str] = []
    told, pending, synced = Account(), set[str](), False
    for one in records:
        if one.kind == shim.MARK:
            before = told.done
            told.read(one.data.decode())
            if told.done == before:
                synced = False
                continue
            step = f"step {told.done} ({STEPS[told.done - 1]})"
            if pending:
                found.append(f"{step}: expected all that was written to be synced before its answer, {', '.join(sorted(pending))} was not")
            changed = right.dumps[right.ends[before] - 1] != right.dumps[right.ends[told.done] - 1] or told.done == 1
            if changed and not synced:
                found.append(f"{step}: expected a sync between what was asked and its answer, there was none")
        elif one.path.endswith(".mdb") and one.kind in (shim.WRITE, shim.SYNC):
            if one.kind == shim.SYNC:
                pending.discard(one.path)
                synced = True
            elif one.dsync and pending:
                found.append(f"expected the pages of a commit to be synced before its meta page is written, {one.path} was not")
            elif not one.dsync:
                pending.add(one.path)
    return found


def judged(at: Place, right: Reference) -> list[str]:
    return judge(at.root, account(shim.marks(at.record)), right)


def _cycle(seed: int, report: Report, plant: str | None) -> Iterator[str]:
    with place() as at:
        at.clear()
        right = reference(at.root, seed)
        record, problems = recorded(at, seed, plant)
        yield from [*problems, *unsynced(record, right)]
        calls = [one for one in record if one.kind != shim.MARK]
        report.add(calls=len(calls))
        halves = [(n, shim.KILL_HALF) for n, one in enumerate(calls, 1) if one.kind == shim.WRITE and len(one.data) > 1]
        points = [*((n, shim.KILL_BEFORE) for n in range(1, len(calls) + 1)), *halves, (len(calls), shim.KILL_AFTER)]
        for n, how in points:
            at.clear()
            ended = shim.in_child(partial(play, at, seed, plant, calls=False, fault=partial(Shim.fault, what=how, number=n)))
            report.add(kills=1)
            found = shim.in_child(partial(judged, at, right))
            if ended != [KILLED]:
                found = [f"expected to get there, the session ended with {ended}"]
            yield from (f"killed {HOW[how]} call {n} ({calls[n - 1]}): {problem}" for problem in found)


def run(seed: int, cycles: int, plant: str | None = None) -> Report:
    return shim.under("tests.campaign.points", seed, cycles, plant)


SEES = ("answer_before_commit", "sync_off", "index_skipped", "claim_before_commit")
SUITE = Suite(NAME, "session killed at every call", 1, 20, run, SEES)


if __name__ == "__main__":
    shim.serve(NAME, _cycle)

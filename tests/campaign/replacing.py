"""The store is replaced (compacted by a daemon or without one, restored) and killed at every call: the old one or the new one is there.

For: ``SUITE``: each of the three, killed before each write, sync, create, rename and removal, halfway through it or right after
it, each such call failing for want of room or of a sound disk, and the power going during it; then a start on what is left.
Not for: kills of a whole daemon (kills), of sessions (points).
Runs in: ``python -m tests.campaign.replacing`` under the shim; each point in a fork of its own, and its judgement in another.
Promises: every point of every one of the three is visited, once for each seed, which varies what the store holds.
"""

from __future__ import annotations

import errno
import os
import random
import shutil
import tempfile
from collections.abc import Callable, Iterator
from functools import partial
from math import inf
from pathlib import Path

from tests.campaign import planted, shim
from tests.campaign.images import WAYS as LOSSES
from tests.campaign.images import Disk
from tests.campaign.session import Dump, dump
from tests.campaign.shim import Shim
from tests.campaign.suite import Report, Suite, scratch
from tq.errors import Refused, StoreError
from tq.model import Header
from tq.store import Draft, Want
from tq.store.compaction import compact
from tq.store.files import Lock, backup
from tq.store.lmdb import LmdbStore
from tq.store.restoring import restore
from tq.store.verify import verify

NAME = "replacing"
STAMP = "then"
KILLED, REFUSED = f"{shim.DIED} SIGKILL", "refused:"
LOSSES_EACH = 2
"""Images of each call."""
EARLIER, LATER = 40, 25
"""Tasks at the time of the backup, and those that came after it."""


def fill(store: LmdbStore, chance: random.Random, count: int, now: int) -> None:
    """So many tasks; some of them are over, some run, some are gone and leave free pages."""
    headers = [Header(kind, queue=f"q{number}") for number, kind in enumerate(("mail", "report", "shell"))]
    store.begin(now)
    ids = store.enqueue([Draft(chance.choice(headers), chance.randbytes(chance.randrange(3000))) for _ in range(count)])
    store.commit()
    store.begin(now + 1)
    claimed = store.claim(Want("w1", count // 2, inf))
    store.succeed([(one.id, one.claim, now, now + 1, False, None) for one in claimed[: count // 4]])
    store.commit()
    store.begin(now + 2)
    store.remove([task_id for task_id in ids if chance.random() < 0.3])
    store.commit()


def make(root: Path, seed: int) -> None:
    """An instance, and a backup of an earlier state of it."""
    chance = random.Random(seed)
    (root / "live").mkdir(mode=0o700)
    store = LmdbStore(root / "live" / "store")
    fill(store, chance, EARLIER, 1000)
    store.close()
    backup(root / "live", root / "backup")
    store = LmdbStore(root / "live" / "store")
    fill(store, chance, LATER, 2000)
    store.close()


def contents(store: LmdbStore) -> Dump:
    with store._env.begin() as txn:
        return dump(txn, store._db)


def held(root: Path) -> Dump:
    """What a daemon would find that starts now."""
    lock = Lock(root / "live")
    store = LmdbStore(root / "live" / "store")
    try:
        return contents(store)
    finally:
        store.close()
        lock.close()


def compact_while_open(root: Path) -> None:
    lock = Lock(root / "live")
    store = LmdbStore(root / "live" / "store")
    before = contents(store)
    store.compact()
    assert contents(store) == before
    fill(store, random.Random(0), 5, 3000)
    store.close()
    lock.close()


WAYS: dict[str, Callable[[Path], object]] = {
    "compact": lambda root: compact(root / "live"),
    "compact while open": compact_while_open,
    "restore": lambda root: restore(root / "backup", root / "live", STAMP),
}


def play(root: Path, way: str, plant: str | None, fault: Callable[[Shim], None]) -> list[str]:
    """Do it in this process, with what is to happen on the way; how many calls that were, or which error of tq ended it."""
    planted.plant(plant)
    counter = Shim()
    counter.watch(root / "live")
    fault(counter)
    try:
        WAYS[way](root)
    except (Refused, StoreError) as error:
        return [f"{REFUSED} {error.message}"]
    finally:
        counter.fault(shim.NOTHING)
    return [str(counter.calls)]


def film(root: Path, way: str, seed: int, plant: str | None, record: Path) -> list[str]:
    """The same from nothing, with a record of all its calls; a mark stands where it begins."""
    planted.plant(plant)
    counter = Shim()
    counter.record(os.open(record, os.O_WRONLY | os.O_CREAT | os.O_APPEND), calls=True)
    counter.watch(root)
    make(root, seed)
    counter.mark("begins")
    WAYS[way](root)
    return []


def judge(root: Path, way: str, states: list[Dump], last_id: int) -> Iterator[str]:
    """What is wrong with what is left; ``states``: before, and each that was committed afterwards."""
    found = held(root)
    if found not in states:
        names = sorted(name for name in found if all(found[name] != state[name] for state in states))
        yield f"expected the store as it was before, or after, got neither ({', '.join(names) or 'a mixture'})"
    yield from verify(root / "live")
    aside = root / "live" / f"store.before-{STAMP}"
    if way == "restore" and found == states[-1] != states[0]:
        if not aside.is_dir():
            yield f"expected the old store to be kept as {aside.name}, found none"
        else:
            store = LmdbStore(aside)
            kept = contents(store)
            store.close()
            if kept != states[0]:
                yield f"expected the old store in {aside.name}, got another"
    rest = {path.name for path in (root / "live").iterdir()} - {"lock", "store", aside.name}
    if rest:
        yield f"expected a start to remove what was left, found {', '.join(sorted(rest))}"
    store = LmdbStore(root / "live" / "store")
    store.begin(5000)
    (fresh,) = store.enqueue([Draft(Header("mail"), b"")])
    store.commit()
    store.close()
    if fresh <= last_id:
        yield f"expected an id above {last_id}, which was given before, got {fresh}"


def states_of(root: Path, way: str, template: Path) -> list[Dump]:
    """The contents of the store before and after, and after each commit that follows."""
    renew(root, template)
    states = [held(root)]
    if way == "compact while open":
        store = LmdbStore(root / "live" / "store")
        commit = store.commit

        def committed() -> None:
            commit()
            states.append(contents(store))

        store.commit = committed  # type: ignore[method-assign]
        fill(store, random.Random(0), 5, 3000)
        store.close()
    else:
        WAYS[way](root)
        states.append(held(root))
    return states


def renew(root: Path, template: Path) -> None:
    shutil.rmtree(root, ignore_errors=True)
    shutil.copytree(template, root)


FAULTS: dict[str, Callable[[Shim, int], None]] = {
    "killed before": lambda counter, n: counter.fault(shim.KILL_BEFORE, n),
    "killed within or after": lambda counter, n: counter.fault(shim.KILL_HALF, n),
    "no room at": lambda counter, n: counter.fault(shim.FAIL, n, errno.ENOSPC),
    "a bad disk at": lambda counter, n: counter.fault(shim.FAIL, n, errno.EIO),
    "a bad disk from": lambda counter, n: counter.fault(shim.FAIL, n, errno.EIO, sticky=True),
}


def _cycle(seed: int, report: Report, plant: str | None) -> Iterator[str]:
    with tempfile.TemporaryDirectory(prefix="tq-", dir=scratch()) as place:
        root, template = Path(place) / "r", Path(place) / "template"
        template.mkdir()
        make(template, seed)
        renew(root, template)
        last_id = _last_id(root)
        for way in WAYS:
            states = states_of(root, way, template)
            renew(root, template)
            (calls,) = shim.in_child(partial(play, root, way, plant, lambda _: None))
            yield from _power(Path(place), way, seed, plant, states, last_id, report)
            for n, word in ((n, word) for n in range(1, int(calls) + 1) for word in FAULTS):
                renew(root, template)
                ended = shim.in_child(partial(play, root, way, plant, partial(_set, word, n)))
                report.add(points=1)
                wanted = ended == [KILLED] if word.startswith("killed") else ended[0].isdigit() or ended[0].startswith(REFUSED)
                if not wanted:
                    yield f"{way}, {word} call {n}: expected it to be {'reached' if 'killed' in word else 'refused'}, it ended with {ended}"
                for problem in shim.in_child(partial(_judged, root, way, states, last_id)):
                    yield f"{way}, {word} call {n}: {problem}"


def _power(place: Path, way: str, seed: int, plant: str | None, states: list[Dump], last_id: int, report: Report) -> Iterator[str]:
    """What is wrong with what a disk may hold when the power goes during each call."""
    root, record, chance = place / "p", place / f"record {way}", random.Random(seed)
    root.mkdir()
    if ended := shim.in_child(partial(film, root, way, seed, plant, record)):
        yield f"{way}: {ended}"
        return
    disk, begun = Disk(str(root.resolve())), False
    for number, call in enumerate(shim.records(record), 1):
        if call.kind == shim.MARK:
            begun = True
            continue
        disk.begin(call)
        for loss in chance.sample(range(len(LOSSES)), LOSSES_EACH) if begun else ():
            disk.image(root, loss, random.Random(seed))
            report.add(images=1)
            for problem in shim.in_child(partial(_judged, root, way, states, last_id)):
                yield f"{way}, power cut during call {number} ({call}), {LOSSES[loss]} of what was not synced: {problem}"
        disk.end(call)
    for loss, words in enumerate(LOSSES):
        disk.image(root, loss, random.Random(seed))
        report.add(images=1)
        for problem in shim.in_child(partial(_judged, root, way, states[-1:], last_id)):
            yield f"{way}, power cut after it returned, {words} of what was not synced: {problem}"
    shutil.rmtree(root)


def _set(word: str, n: int, counter: Shim) -> None:
    FAULTS[word](counter, n)


def _judged(root: Path, way: str, states: list[Dump], last_id: int) -> list[str]:
    return list(judge(root, way, states, last_id))


def _last_id(root: Path) -> int:
    store = LmdbStore(root / "live" / "store")
    try:
        return store.last_id()
    finally:
        store.close()


def run(seed: int, cycles: int, plant: str | None = None) -> Report:
    return shim.under("tests.campaign.replacing", seed, cycles, plant)


SUITE = Suite(NAME, "store replaced in three ways, killed at every call", 1, 20, run, ("switch_unnoted", "names_unsynced"))


if __name__ == "__main__":
    shim.serve(NAME, _cycle)

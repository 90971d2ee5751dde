"""T20: a data file whose bits have turned, or that was cut, zeroed or lengthened: it is refused with words, or what is read of it is right.

For: ``SUITE``: a store with tasks in every state, damaged in one place; ``tq verify`` and a daemon's start look at it.
Not for: damage by power cuts (images: there must be none), records with a wrong checksum one by one (tests of the store).
Runs in: the process that drives it; every look at a damaged file is in a fork, which LMDB may end: it reads its file as memory.
Promises: cycle ``i`` depends on nothing but ``i``. Expected: verify never dies, and what it does not report has done no harm;
a start is refused with words, or it goes on, and then no task is shown as another one than was stored; nobody
changes or shortens a file that was refused. That LMDB may die of it is counted, as ``crashes``.
"""

from __future__ import annotations

import random
import shutil
import tempfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

from tests.campaign import planted
from tests.campaign.session import DATA, LIMITS, Dump, Session, digest, dump
from tests.campaign.shim import DIED, in_child
from tests.campaign.suite import Report, Suite, each, scratch
from tq.errors import StoreDamaged, StoreError, TqError
from tq.store import Want
from tq.store.files import open_store
from tq.store.lmdb import LmdbStore
from tq.store.verify import verify

NAME = "damage"
PAGE = 4096
REFUSED = "refused: "


def whole(root: Path) -> None:
    """A store with tasks in every state, and some that were removed."""
    session = Session(root, 1, lambda _: None)
    session.run(until="do_forget")


def damaged(data: bytearray, rng: random.Random) -> str:
    """Damage ``data`` in one place; in words."""
    used = len(bytes(data).rstrip(b"\0")) // PAGE * PAGE + PAGE  # behind it the file is made ready for later
    at = rng.randrange(used if rng.random() < 0.95 else len(data))
    page = at // PAGE * PAGE
    way = rng.choice(["bit"] * 12 + ["cut", "cut to pages", "zeros", "noise", "more"])
    if way == "bit":
        bit = rng.randrange(8)
        data[at] ^= 1 << bit
        return f"bit {bit} of byte {at} (page {at // PAGE}) turned"
    if way == "cut":
        del data[at:]
        return f"cut to {at} bytes"
    if way == "cut to pages":
        del data[page:]
        return f"cut to {page // PAGE} pages"
    if way == "more":
        data += rng.randbytes(at % used)
        return f"{at % used} bytes of noise behind it"
    data[page : page + PAGE] = bytes(PAGE) if way == "zeros" else rng.randbytes(PAGE)
    return f"page {page // PAGE} full of {way}"


class Sound:
    """What the undamaged store holds: each task as it is shown, and all records."""

    def __init__(self, root: Path) -> None:
        self.data = (root / DATA / "store" / "data.mdb").read_bytes()
        env, dbs = open_store(root / DATA / "store", readonly=True)
        with env.begin() as txn:
            self.dump: Dump = dump(txn, dbs)
        env.close()
        store = LmdbStore(root / DATA / "store", LIMITS)
        self.ids = range(1, store.last_id() + 1)
        self.tasks = shown(store, self.ids)
        store.close()


def shown(store: LmdbStore, ids: range) -> dict[int, str]:
    """By id, all that a client is shown of the task, in short; what is refused as damaged is left out."""
    found = {}
    for task_id in ids:
        try:
            (task,) = store.get([task_id])
        except StoreDamaged:
            continue
        if task is not None:
            found[task_id] = digest(repr(task.row()).encode())
    return found


def _verified(root: Path, sound: Sound) -> list[str]:
    """Verify, as `tq verify` does. What it does not report must have done no harm."""
    try:
        if verify(root / DATA):
            return []
    except TqError as error:
        return [] if error.message else [f"expected words of verify, got {error!r}"]
    env, dbs = open_store(root / DATA / "store", readonly=True)
    with env.begin() as txn:
        got = dump(txn, dbs)
    env.close()
    apart = [name for name in got if got[name] != sound.dump[name]]
    return [f"verify reports nothing, but {', '.join(apart)} differ"] if apart else []


def _started(root: Path, sound: Sound) -> list[str]:
    """Start, read, hand out and settle, as a daemon does: all that is shown is as it was stored."""
    try:
        store = LmdbStore(root / DATA / "store", LIMITS)
    except StoreError as error:
        return [f"{REFUSED}{error.message}"]
    got = shown(store, sound.ids)
    wrong = [f"task {task_id} is shown as another than was stored" for task_id in got if got[task_id] != sound.tasks.get(task_id)]
    try:
        store.begin(10**13)
        tasks: list[Any] = store.claim(Want("w1", 500, float("inf")))
        store.succeed([(task.id, task.claim, 1, 2, False, None) for task in tasks])
        store.due(500)
        store.commit()
    except TqError as error:
        return wrong + ([] if error.message else [f"expected words, got {error!r}"])
    finally:
        store.close()
    return wrong


def _cycle(seed: int, report: Report, root: Path, sound: Sound, plant: str | None) -> Iterator[str]:
    data = bytearray(sound.data)
    what = damaged(data, random.Random(seed))
    file = root / DATA / "store" / "data.mdb"
    for look, name in ((_verified, "verify"), (_started, "a start")):
        (root / DATA / "store" / "lock.mdb").unlink(missing_ok=True)
        file.write_bytes(data)
        found = in_child(partial(look, root, sound))
        died = [line for line in found if line.startswith(DIED)]
        refused = [line for line in found if line.startswith(REFUSED)]
        if name == "verify" or refused:
            report.add(refused=len(refused))
            if file.read_bytes() != data:
                found.append("expected the file to stay as it was, it was changed")
        if name != "verify" and died and died[0].split()[-1].startswith("SIG"):
            report.add(crashes=1)
            found = []
        yield from (f"{what}: {name}: {line}" for line in found if not line.startswith(REFUSED))


def run(seed: int, cycles: int, plant: str | None = None) -> Report:
    planted.plant(plant)
    with tempfile.TemporaryDirectory(prefix="tq-", dir=scratch()) as where:
        root = Path(where) / "r"
        root.mkdir()
        whole(root)
        sound = Sound(root)
        shutil.rmtree(root / "copy")
        return each(NAME, seed, cycles, lambda number, report: _cycle(number, report, root, sound, plant))


SUITE = Suite(NAME, "damaged file", 300, 4000, run, ("checksum_unread",), tested=150)

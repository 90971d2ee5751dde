"""T2: power cuts: what a disk may hold at any moment, when only what was synced is certain; nothing that was answered is lost.

For: ``SUITE``: the record of a scripted session (session.py) is replayed up to a call, and what was not synced by then is
kept, lost, torn or reordered; each such image is opened, verified and compared with what had been answered.
Not for: kills (points: what was written stays), disks that lie about a sync.
Runs in: ``python -m tests.campaign.images`` under the shim; images are opened in forks, a hundred in each, and one by
one where a hundred died of one.
Promises: image ``i`` depends on nothing but ``i``: it belongs to session ``i // A_SESSION``, whose calls all get their share of
images; the disk is as bad as POSIX allows: 512 bytes are written whole or not at all, in any order, and a name is
certain only when its directory was synced.

A new size counts as written at once: only lock files and torn log lines are truncated, and longer files are longer by zeros.
"""

from __future__ import annotations

import gc
import random
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path, PurePath

from tests.campaign import shim
from tests.campaign.points import Place, place, recorded
from tests.campaign.session import Account, Reference, account, judge, reference
from tests.campaign.shim import Record
from tests.campaign.suite import MOST, Report, Suite

NAME = "images"
A_SESSION = 2500
"""Images of one session: its 300 calls get eight each, one of each way."""
A_FORK = 100
LIVES_EACH = 8
"""A daemon starts on one image in so many; all are verified and compared."""
SECTOR, PAGE = 512, 4096
ALL, NONE, LAST, NOT_LAST, OLDER, NEWER, PAGES, SECTORS = range(8)
WAYS = (
    "all of it written", "none of it written", "only the last write", "all but the last write", "the older half", "the newer half",
    "pages at random", "sectors at random",
)  # fmt: skip
EVER = 1 << 62


class File:
    """Bytes that are certain, and by sector the writes since: (number of the write, where in the sector, bytes)."""

    def __init__(self) -> None:
        self.certain = bytearray()
        self.waiting: dict[int, list[tuple[int, int, bytes]]] = {}

    def write(self, number: int, offset: int, data: bytes) -> None:
        at = 0
        while at < len(data):
            sector, start = divmod(offset + at, SECTOR)
            piece = data[at : at + SECTOR - start]
            self.waiting.setdefault(sector, []).append((number, start, piece))
            at += len(piece)

    def sync(self, sectors: range | None = None) -> None:
        for sector in [*self.waiting] if sectors is None else sectors:
            _put(self.certain, sector, self.waiting.pop(sector, []), EVER)

    def resize(self, size: int) -> None:
        if self.waiting and size < (max(self.waiting) + 1) * SECTOR:
            self.sync()
        self.certain[:] = self.certain[:size].ljust(size, b"\0")

    def numbers(self) -> list[int]:
        """Of the writes that wait."""
        return sorted({number for writes in self.waiting.values() for number, _, _ in writes})

    def image(self, way: int, rng: random.Random) -> bytes:
        """What the disk may hold of it."""
        data = bytearray(self.certain)
        if way == NONE or not self.waiting:
            return bytes(data)
        numbers = self.numbers()
        middle = numbers[len(numbers) // 2]
        last: dict[int, int] = {}
        for sector in sorted(self.waiting):
            writes = self.waiting[sector]
            if way in (PAGES, SECTORS):  # a sector on the disk is as it was after one of its writes
                unit = sector if way == SECTORS else sector * SECTOR // PAGE
                until = last.setdefault(unit, rng.choice([-1, EVER, rng.choice(numbers)]))
            elif way in (LAST, NEWER):  # it holds what was written to it before, too
                first = numbers[-1] if way == LAST else middle
                until = EVER if any(number >= first for number, _, _ in writes) else -1
            else:
                until = {ALL: EVER, NOT_LAST: numbers[-1] - 1, OLDER: middle - 1}[way]
            _put(data, sector, writes, until)
        return bytes(data)


def sectors(one: Record) -> range:
    """Those that a write touches."""
    return range(one.offset // SECTOR, (one.offset + len(one.data) - 1) // SECTOR + 1)


def _put(data: bytearray, sector: int, writes: list[tuple[int, int, bytes]], until: int) -> None:
    for number, start, piece in writes:
        if number <= until:
            at = sector * SECTOR + start
            if len(data) < at:
                data.extend(bytes(at - len(data)))
            data[at : at + len(piece)] = piece


class Directory:
    """Names as processes see them, names that are certain, and the changes since, each of which is whole or not at all."""

    def __init__(self) -> None:
        self.names: dict[str, Node] = {}
        self.certain: dict[str, Node] = {}
        self.waiting: list[dict[str, Node | None]] = []

    def change(self, names: dict[str, Node | None]) -> None:
        self.waiting.append(names)
        _rename(self.names, names)

    def sync(self) -> None:
        self.certain, self.waiting = dict(self.names), []

    def image(self, way: int, rng: random.Random) -> dict[str, Node]:
        """The names that the disk may hold: changes of one directory keep their order."""
        kept = {ALL: len(self.waiting), NONE: 0, NOT_LAST: len(self.waiting) - 1, OLDER: len(self.waiting) // 2}.get(way)
        names = dict(self.certain)
        for change in self.waiting[: rng.randint(0, len(self.waiting)) if kept is None else max(kept, 0)]:
            _rename(names, change)
        return names


Node = File | Directory


def _rename(names: dict[str, Node], change: dict[str, Node | None]) -> None:
    for name, node in change.items():
        if node is None:
            names.pop(name, None)
        else:
            names[name] = node


class Disk:
    """The files below ``top``, after the calls that were made on them."""

    def __init__(self, top: str) -> None:
        self.root = Directory()
        self._top = PurePath(top)
        self._number = 0

    def begin(self, one: Record) -> None:
        """A call is made; until ``end`` it has not returned."""
        place = PurePath(one.path).relative_to(self._top)
        parent, name = self._find(place.parent), place.name
        if one.kind in (shim.WRITE, shim.TRUNCATE):
            self._write(self._find(place), one)
        elif one.kind == shim.RENAME:
            target = PurePath(one.data.decode())
            if target.parent != PurePath(one.path).parent or not isinstance(parent, Directory):
                raise ValueError(f"expected a new name in the same directory, got {one}")
            parent.change({name: None, target.name: parent.names[name]})
        elif one.kind != shim.SYNC and isinstance(parent, Directory):
            parent.change({name: File() if one.kind == shim.CREATE else Directory() if one.kind == shim.MKDIR else None})

    def _write(self, node: Node | None, one: Record) -> None:
        if isinstance(node, File):  # else it was removed, and nobody will see it
            if one.kind == shim.TRUNCATE:
                node.resize(one.offset)
            else:
                self._number += 1
                node.write(self._number, one.offset, one.data)

    def end(self, one: Record) -> None:
        """It has returned: a sync is certain, and so is a write to a descriptor that syncs."""
        node = self._find(PurePath(one.path).relative_to(self._top))
        if one.kind == shim.SYNC and node is not None:
            node.sync()
        elif one.kind == shim.WRITE and one.dsync and isinstance(node, File):
            node.sync(sectors(one))

    def _find(self, place: PurePath) -> Node | None:
        node: Node | None = self.root
        for part in place.parts:
            node = node.names.get(part) if isinstance(node, Directory) else None
        return node

    def image(self, root: Path, way: int, rng: random.Random) -> None:
        """Lay down in ``root`` what the disk may hold."""
        shutil.rmtree(root, ignore_errors=True)
        root.mkdir()
        todo: list[tuple[Path, Directory]] = [(root, self.root)]
        while todo:
            where, directory = todo.pop()
            for name, node in directory.image(way, rng).items():
                if isinstance(node, Directory):
                    (where / name).mkdir(mode=0o700)
                    todo.append((where / name, node))
                else:
                    (where / name).write_bytes(node.image(way, rng))
                    (where / name).chmod(0o600)


class Film:
    """The images of one session. Image ``n`` (of A_SESSION) is of call ``moment(n)``; going back starts from the beginning."""

    def __init__(self, top: str, record: list[Record], right: Reference) -> None:
        self._top = top
        self._right = right
        self.calls: list[Record] = []
        self._told: list[Account] = []  # by call: what had been answered when it was made
        marks: list[str] = []
        told = Account()
        for one in record:
            if one.kind == shim.MARK:
                marks.append(one.data.decode())
                told = account(marks)
            elif one.kind != shim.REFUSED:
                self.calls.append(one)
                self._told.append(told)

    def compare(self, root: Path) -> list[str]:
        """Whether the calls that were seen are all that there were: they make the files that are there now."""
        disk = Disk(self._top)
        for one in self.calls:
            disk.begin(one)
        with tempfile.TemporaryDirectory(dir=root.parent) as where:
            disk.image(Path(where) / "r", ALL, random.Random(0))
            got, made = (_files(place) for place in (root, Path(where) / "r"))
        return [
            f"expected the record to make {name} as it is, it made another"
            for name in got.keys() | made.keys()
            if got.get(name) != made.get(name)
        ]

    def check(self, root: Path, first: int, count: int, session: int) -> list[str]:
        """What is wrong with images ``first`` and on of this session, which are laid down in ``root`` one after the other."""
        found: list[str] = []
        disk, made = Disk(self._top), 0
        for number in range(first, first + count):
            at, seed = number * len(self.calls) // A_SESSION, session * A_SESSION + number
            while made <= at:
                if made:
                    disk.end(self.calls[made - 1])
                disk.begin(self.calls[made])
                made += 1
            way = seed % len(WAYS)
            disk.image(root, way, random.Random(seed))
            problems = judge(root, self._told[at], self._right, lives=seed % LIVES_EACH == seed // LIVES_EACH % LIVES_EACH)
            what = f"power cut during call {at + 1} of {len(self.calls)} ({self.calls[at]}), {WAYS[way]} of what was not synced"
            found += [f"{NAME} --seed {seed} --cycles 1: {what}: {problem}" for problem in problems]
        return found

    def run(self, root: Path, first: int, count: int, session: int) -> Iterator[str]:
        """The same in forks: those that die with their images are looked at one image at a time."""
        for start in range(first, first + count, A_FORK):
            size = min(A_FORK, first + count - start)
            found = shim.in_child(partial(self.check, root, start, size, session))
            if any(line.startswith(shim.DIED) for line in found):
                for number in range(start, start + size):
                    alone = shim.in_child(partial(self.check, root, number, 1, session))
                    died = f"{NAME} --seed {session * A_SESSION + number} --cycles 1: expected an image that opens, "
                    yield from (died + line if line.startswith(shim.DIED) else line for line in alone)
            else:
                yield from found


def _files(root: Path) -> dict[str, bytes]:
    """By path, but for LMDB's own lock files, which it writes as memory and makes anew at each start."""
    return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file() and path.name != "lock.mdb"}


def _session(number: int, at: Place, plant: str | None) -> tuple[Film, list[str]]:
    at.clear()
    right = reference(at.root, number)
    record, problems = recorded(at, number, plant)
    film = Film(str(at.root.resolve()), record, right)
    problems += film.compare(at.root) if not problems else []
    return film, [f"{NAME}: session {number}: {problem}" for problem in problems]


def _images(seed: int, cycles: int, plant: str | None) -> Report:
    report, began = Report(NAME, seed), time.monotonic()
    with place() as at:
        while report.cycles < cycles and len(report.violations) < MOST:
            session, first = divmod(seed + report.cycles, A_SESSION)
            count = min(A_SESSION - first, cycles - report.cycles)
            film, problems = _session(session, at, plant)
            report.violations += problems
            for line in film.run(at.root, first, count, session):
                report.violations.append(line)
                if len(report.violations) >= MOST:
                    break
            report.cycles += count
            report.add(sessions=1)
    report.seconds = time.monotonic() - began
    return report


def run(seed: int, cycles: int, plant: str | None = None) -> Report:
    return shim.under("tests.campaign.images", seed, cycles, plant)


SUITE = Suite(
    NAME, "power cut", 5000, 100_000, run, ("answer_before_commit", "sync_off", "index_skipped", "claim_before_commit"), tested=1000
)


def main() -> None:
    gc.freeze()
    shim.tell(_images(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3] or None))


if __name__ == "__main__":
    main()

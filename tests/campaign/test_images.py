"""Power cuts (images.py): nothing answered is lost, and it would be seen; and that the images are what a disk may hold."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from tests.campaign import shim
from tests.campaign.images import A_SESSION, ALL, NONE, PAGES, SECTOR, SECTORS, SUITE, WAYS, Disk
from tests.campaign.shim import Record
from tests.campaign.suite import apart


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.usefixtures("compiler")
def test_nothing_answered_is_lost_in_power_cuts() -> None:
    report = apart(SUITE, random.randrange(1, 1 << 20) * A_SESSION, SUITE.in_tests)
    assert (report.violations, report.cycles) == ([], SUITE.in_tests)


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.usefixtures("compiler")
@pytest.mark.parametrize("bug", SUITE.sees)
def test_a_planted_bug_is_caught_in_one_session_of_power_cuts(bug: str) -> None:
    assert apart(SUITE, A_SESSION, A_SESSION, bug).violations


def call(kind: int, path: str, data: bytes = b"", offset: int = 0, *, dsync: bool = False) -> Record:
    return Record(kind, dsync, f"/top/{path}".rstrip("/"), offset, data)


def images(disk: Disk, where: Path) -> set[tuple[tuple[str, bytes], ...]]:
    """All that the ways and a hundred seeds make of it: the files with their contents."""
    found = set()
    for seed in range(100):
        for way in range(len(WAYS)):
            disk.image(where, way, random.Random(seed))
            found.add(tuple(sorted((str(path.relative_to(where)), path.read_bytes()) for path in where.rglob("*") if path.is_file())))
    return found


def done(disk: Disk, *calls: Record) -> None:
    for one in calls:
        disk.begin(one)
        disk.end(one)


def test_what_was_synced_is_in_every_image_and_what_was_not_in_some(tmp_path: Path) -> None:
    disk = Disk("/top")
    done(disk, call(shim.CREATE, "a"), call(shim.SYNC, ""))
    done(disk, call(shim.WRITE, "a", b"x" * 10), call(shim.SYNC, "a"))
    assert images(disk, tmp_path / "i") == {(("a", b"x" * 10),)}
    done(disk, call(shim.WRITE, "a", b"y" * 10))
    assert images(disk, tmp_path / "i") == {(("a", b"x" * 10),), (("a", b"y" * 10),)}


def test_a_name_is_certain_only_when_its_directory_was_synced(tmp_path: Path) -> None:
    disk = Disk("/top")
    done(disk, call(shim.CREATE, "a"), call(shim.WRITE, "a", b"x"), call(shim.SYNC, "a"))
    assert images(disk, tmp_path / "i") == {(), (("a", b"x"),)}
    done(disk, call(shim.SYNC, ""), call(shim.RENAME, "a", b"/top/b"))
    assert images(disk, tmp_path / "i") == {(("a", b"x"),), (("b", b"x"),)}
    done(disk, call(shim.SYNC, ""))
    assert images(disk, tmp_path / "i") == {(("b", b"x"),)}


def test_a_sector_is_written_whole_and_holds_what_was_written_to_it_before(tmp_path: Path) -> None:
    disk = Disk("/top")
    done(disk, call(shim.CREATE, "a"), call(shim.SYNC, ""), call(shim.WRITE, "a", bytes(2 * SECTOR)), call(shim.SYNC, "a"))
    done(disk, call(shim.WRITE, "a", b"1" * SECTOR, SECTOR // 2), call(shim.WRITE, "a", b"2", 2))
    half = SECTOR // 2
    first = {bytes(SECTOR), bytes(half) + b"1" * half, b"\0\0002" + bytes(half - 3) + b"1" * half}
    second = {bytes(SECTOR), b"1" * half + bytes(half)}
    found = {data for ((_, data),) in images(disk, tmp_path / "i")}
    assert found <= {one + other for one in first for other in second}
    assert len(found) >= 5


def test_a_write_that_syncs_is_certain_when_it_returns_and_not_before(tmp_path: Path) -> None:
    disk = Disk("/top")
    done(disk, call(shim.CREATE, "a"), call(shim.SYNC, ""), call(shim.WRITE, "a", bytes(9000)), call(shim.SYNC, "a"))
    meta, page = call(shim.WRITE, "a", b"m", 16, dsync=True), call(shim.WRITE, "a", b"p", 8192)
    disk.begin(page)
    disk.begin(meta)
    assert len(images(disk, tmp_path / "i")) == 4
    disk.end(meta)
    found = {data for ((_, data),) in images(disk, tmp_path / "i")}
    assert {data[16:17] for data in found} == {b"m"}
    assert {data[8192:8193] for data in found} == {b"p", b"\0"}


def test_a_file_that_was_removed_while_it_was_written_is_not_in_the_way(tmp_path: Path) -> None:
    disk = Disk("/top")
    done(disk, call(shim.MKDIR, "d"), call(shim.CREATE, "d/a"), call(shim.UNLINK, "d/a"), call(shim.WRITE, "d/a", b"x"))
    done(disk, call(shim.SYNC, "d"), call(shim.SYNC, ""))
    for way in (ALL, NONE, PAGES, SECTORS):
        disk.image(tmp_path / "i", way, random.Random(1))
        assert [path.name for path in (tmp_path / "i").rglob("*")] == ["d"]

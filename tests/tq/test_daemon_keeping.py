"""The file of the history: read once, replaced whole, once a minute at the most; whatever is wrong with it is one line of the log."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from tq.daemon.keeping import EVERY_MS, FILE, Keeper
from tq.history import WHOLE, History
from tq.store import Tally

START = 1_700_000_400_000


class Scene:
    """A keeper, its history and one tally; ``log`` is what was told."""

    def __init__(self, where: Path) -> None:
        self.where, self.tally, self.log = where, Tally("q", "t"), list[tuple[str, str, Any]]()
        self.history = History()
        self.keeper = Keeper(where, self.history, lambda: [self.tally], lambda event, level, **more: self.log.append((event, level, more)))
        self.keeper.load()

    def turn(self, at_ms: int, added: int = 0) -> None:
        self.history.turn(START + at_ms, lambda: [self.tally])
        self.tally.added += added
        self.keeper.work(1_000_000 + at_ms)
        if self.keeper._writing is not None:
            self.keeper._writing.join()

    def added(self, minutes: int, until_ms: int) -> list[int | None]:
        return self.history.series(WHOLE, 60, minutes, START + until_ms)[1]["added"]


@pytest.fixture
def scene(tmp_path: Path) -> Scene:
    return Scene(tmp_path)


def test_it_is_written_a_minute_after_a_change_at_the_most_once_a_minute_and_at_the_end(scene: Scene, tmp_path: Path) -> None:
    path = tmp_path / FILE
    scene.turn(0, added=1)
    scene.turn(EVERY_MS - 1, added=1)
    assert not path.exists()
    scene.turn(EVERY_MS, added=1)
    first = path.stat()
    scene.turn(EVERY_MS + 30_000, added=1)
    assert path.stat() == first
    scene.turn(2 * EVERY_MS, added=1)
    second = path.stat()
    assert second.st_ino != first.st_ino  # another file in its place
    for at in range(3, 9):  # nothing has happened but turns
        scene.turn(at * EVERY_MS)
    third = path.stat()
    scene.turn(9 * EVERY_MS)
    assert path.stat() == third
    scene.keeper.close()
    assert path.stat().st_ino != third.st_ino
    assert (path.stat().st_mode & 0o777, scene.log) == (0o600, [])
    assert [one.name for one in tmp_path.iterdir()] == [FILE]


def test_the_next_one_begins_where_it_ended(scene: Scene, tmp_path: Path) -> None:
    scene.turn(0, added=2)
    scene.turn(61_000, added=3)
    scene.keeper.close()
    later = Scene(tmp_path)
    later.turn(180_000)
    later.turn(240_000)
    assert later.added(4, 240_000) == [2, 3, None, 0]
    assert later.log == []


@pytest.mark.parametrize("harm", ["garbage", "directory", "fifo", "link", "unreadable"])
def test_a_file_that_is_none_of_ours_is_one_line_of_the_log_and_replaced_where_it_can_be(tmp_path: Path, harm: str) -> None:
    path = tmp_path / FILE
    if harm == "garbage":
        path.write_bytes(os.urandom(1000))
    elif harm == "directory":
        path.mkdir()
    elif harm == "fifo":
        os.mkfifo(path)
    elif harm == "link":
        (tmp_path / "other").write_text("of somebody")
        path.symlink_to(tmp_path / "other")
    else:
        path.write_bytes(b"")
    scene = Scene(tmp_path)
    assert [(event, level) for event, level, _ in scene.log] == [("history_left_out", "warning")]
    scene.turn(0, added=1)
    scene.keeper.close()
    if harm == "directory":
        assert [event for event, _, _ in scene.log] == ["history_left_out", "history_not_written"]
    else:
        assert len(scene.log) == 1
        assert Scene(tmp_path).log == []
    if harm == "link":
        assert (tmp_path / "other").read_text() == "of somebody"


def test_what_cannot_be_written_is_said_once_and_tried_again(scene: Scene, tmp_path: Path) -> None:
    (tmp_path / (FILE + "-")).mkdir()
    for minute in range(5):
        scene.turn(minute * EVERY_MS, added=1)
    assert [event for event, _, _ in scene.log] == ["history_not_written"]
    (tmp_path / (FILE + "-")).rmdir()
    scene.turn(5 * EVERY_MS, added=1)
    scene.keeper.close()
    assert len(scene.log) == 1
    later = Scene(tmp_path)
    later.turn(6 * EVERY_MS)
    assert later.added(6, 6 * EVERY_MS) == [1] * 6

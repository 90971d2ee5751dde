"""Following output: every byte once and in order, the end last, no faster than the client reads, nothing left watched."""

from __future__ import annotations

import errno
import random
import select
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from tq import wire
from tq.api import follow
from tq.api.follow import BEHIND, LOOK_MS, PIECE, PIECES_A_TURN, Followers
from tq.loop import Loop
from tq.output import OutputWriter


class Desk:
    """Followers, their loop, and what each connection was sent; ``unsent`` is the test's to set."""

    def __init__(self, logs: Path) -> None:
        self.logs = logs
        self.loop = Loop()
        self.sent: list[tuple[int, int, dict[str, Any]]] = []
        self.unsent: dict[int, int] = {}
        self.followers = Followers(self.loop, logs, self._send, lambda conn: self.unsent.get(conn, 0))

        self.ticks = 0

    def _send(self, conn: int, data: bytes) -> None:
        number, kind, body = wire.message(data[4:])
        assert kind == wire.EVENT
        assert len(data) <= wire.MAX_FRAME
        self.sent.append((conn, number, body))

    def turn(self, times: int = 1) -> None:
        for _ in range(times):
            self.loop.poll(0)
            self.followers.look(self.ticks)
            if self.followers.waiting:
                self.followers.push()

    def text(self, conn: int = 1, number: int = 1) -> bytes:
        bodies = [body for to, asked, body in self.sent if (to, asked) == (conn, number)]
        assert all(not body["end"] for body in bodies[:-1])
        return b"".join(data for body in bodies for _, stream, data in body["chunks"] if stream)

    def ended(self, conn: int = 1) -> bool:
        return any(to == conn and body["end"] for to, _, body in self.sent)

    def watches(self) -> int:
        return len(self.followers._watches)


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    (tmp_path / "logs").mkdir()
    one = Desk(tmp_path / "logs")
    yield one
    one.loop.close()


def test_output_is_pushed_as_it_is_written_and_the_end_comes_last(desk: Desk) -> None:
    desk.followers.add(1, 1, 42, 0, over=False)
    desk.turn()
    assert desk.sent == []
    with closing(OutputWriter(desk.logs, 42)) as writer:
        for n in range(5):
            writer.write(1 + n % 2, b"line %d\n" % n, 1000 + n)
            desk.turn(3)  # a new file is noticed, then watched, then read
            assert desk.text() == b"".join(b"line %d\n" % k for k in range(n + 1))
    assert not desk.followers.waiting
    desk.followers.ended(42, "succeeded", None)
    desk.turn()
    assert desk.ended()
    assert (desk.sent[-1][2]["state"], desk.sent[-1][2]["exit_code"]) == ("succeeded", None)
    assert desk.sent[-1][2]["next"] == desk.sent[-2][2]["next"]
    assert (desk.followers.tasks, desk.watches()) == (set(), 0)


def test_a_task_that_is_over_is_pushed_from_any_position_without_watching_anything(desk: Desk) -> None:
    with closing(OutputWriter(desk.logs, 7)) as writer:
        writer.write(1, b"one\n", 1)
        writer.write(1, b"two\n", 2)
    desk.followers.add(1, 1, 7, 0, over=True)
    desk.turn()
    assert (desk.text(), desk.ended(), desk.watches()) == (b"one\ntwo\n", True, 0)
    middle = 13 + 4
    desk.followers.add(2, 1, 7, middle, over=True)
    desk.followers.add(3, 1, 8, 0, over=True)  # has no output at all
    desk.turn()
    assert desk.text(2) == b"two\n"
    assert desk.text(3) == b""
    assert desk.ended(3)


def test_a_client_that_reads_slowly_is_waited_for_and_loses_nothing(desk: Desk) -> None:
    size = 3 * PIECE * PIECES_A_TURN
    data = random.Random(1).randbytes(size)
    with closing(OutputWriter(desk.logs, 5, limit=8 * size)) as writer:
        for at in range(0, size, 4096):
            writer.write(1, data[at : at + 4096], 1)
    desk.followers.add(1, 1, 5, 0, over=True)
    desk.turn()
    assert 0 < len(desk.text()) <= 2 * PIECE * PIECES_A_TURN
    assert not desk.ended()
    desk.unsent[1] = BEHIND + 1
    before = len(desk.sent)
    desk.turn(3)
    assert len(desk.sent) == before
    assert not desk.followers.waiting  # it sleeps until the client has read
    desk.followers.drained(99)
    assert not desk.followers.waiting
    desk.unsent[1] = 0
    desk.followers.drained(1)
    desk.turn(9)
    assert desk.text() == data
    assert desk.ended()


def test_a_task_that_ends_while_its_follower_is_behind_is_still_pushed_whole(desk: Desk) -> None:
    desk.followers.add(1, 1, 5, 0, over=False)
    with closing(OutputWriter(desk.logs, 5)) as writer:
        desk.unsent[1] = BEHIND + 1
        writer.write(1, b"late words", 1)
        desk.turn(3)
    desk.followers.ended(5, "succeeded", None)
    desk.turn(2)
    assert desk.sent == []
    desk.unsent.clear()
    desk.followers.drained(1)
    desk.turn(2)
    assert (desk.text(), desk.ended()) == (b"late words", True)


def test_a_log_that_rotates_is_followed_to_its_newest_byte(desk: Desk) -> None:
    desk.followers.add(1, 1, 1001, 0, over=False)
    lines = [b"%06d " % n + b"x" * 93 for n in range(3000)]
    with closing(OutputWriter(desk.logs, 1001, limit=16_384)) as writer:
        for line in lines:
            writer.write(1, line, 1)
            desk.turn()
    desk.followers.ended(1001, "succeeded", None)
    desk.turn(2)
    text = desk.text()
    got = [text[at : at + 100] for at in range(0, len(text), 100)]
    assert got[-1] == lines[-1]
    assert got == sorted(set(got))  # in order, none twice
    assert desk.ended()


def test_several_followers_each_get_all_and_one_that_leaves_takes_its_watches_along(desk: Desk) -> None:
    for conn, task_id in ((1, 10), (2, 10), (2, 11), (3, 5000)):
        desk.followers.add(conn, conn * 10, task_id, 0, over=False)
    for task_id in (10, 11, 5000):
        with closing(OutputWriter(desk.logs, task_id)) as writer:
            writer.write(1, b"task %d" % task_id, 1)
        desk.turn(3)
    assert desk.text(1, 10) == b"task 10"
    assert {body["id"] for conn, _, body in desk.sent if conn == 2} == {10, 11}
    assert desk.text(3, 30) == b"task 5000"
    assert desk.followers.holds(1)
    desk.followers.gone(1)
    assert not desk.followers.holds(1)
    assert desk.followers.tasks == {10, 11, 5000}
    desk.followers.gone(3)
    desk.followers.ended(10, "succeeded", None)
    desk.followers.gone(2)
    assert (desk.followers.tasks, desk.watches(), desk.followers.waiting) == (set(), 0, False)
    with closing(OutputWriter(desk.logs, 12)) as writer:
        writer.write(1, b"nobody follows", 1)
    desk.turn()  # the kernel's notes of watches that are gone are read away
    assert select.select([desk.loop._epoll.fileno()], [], [], 0)[0] == []


def test_more_changes_than_the_kernel_keeps_are_not_missed(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    desk.followers.add(1, 1, 42, 0, over=False)
    desk.turn()
    with closing(OutputWriter(desk.logs, 42)) as writer:
        writer.write(1, b"words", 1)
    read: Callable[[], Any] = desk.followers._inotify.read  # type: ignore[union-attr]
    monkeypatch.setattr(desk.followers._inotify, "read", lambda: [(-1, "")] if read() else [])
    desk.turn(2)
    assert desk.text() == b"words"


@pytest.mark.parametrize("left", ["no instance", 0, 1])
def test_where_the_kernel_gives_no_more_watches_output_is_looked_at_and_nobody_is_refused(
    desk: Desk, monkeypatch: pytest.MonkeyPatch, left: int | str
) -> None:
    real, given = follow._Inotify.watch, 0

    def none(self: Any) -> None:
        raise OSError(errno.EMFILE, "no more instances")

    def watch(self: Any, path: Path, mask: int) -> int:
        nonlocal given
        given += 1
        if given > left:  # type: ignore[operator]
            raise OSError(errno.ENOSPC, "no more watches")
        return real(self, path, mask)

    if left == "no instance":
        monkeypatch.setattr(follow._Inotify, "__init__", none)
    else:
        monkeypatch.setattr(follow._Inotify, "watch", watch)
    with closing(OutputWriter(desk.logs, 42)) as writer, closing(OutputWriter(desk.logs, 1042)) as other:
        writer.write(1, b"one\n", 1)
        other.write(1, b"other\n", 1)
        desk.followers.add(1, 1, 42, 0, over=False)
        desk.followers.add(2, 1, 1042, 0, over=False)
        assert desk.followers.due_at is not None
        desk.turn(3)
        assert (desk.text(), desk.text(2)) == (b"one\n", b"other\n")
        for n in range(3):
            writer.write(1, b"more %d\n" % n, 2)
            due = desk.followers.due_at
            assert due is not None
            assert due <= desk.ticks + LOOK_MS
            desk.ticks = due
            desk.turn(2)
            assert desk.text().endswith(b"more %d\n" % n)
            assert not desk.followers.waiting  # until it is time again
    desk.followers.ended(42, "succeeded", None)
    desk.turn(2)
    assert desk.ended()
    assert desk.followers.due_at is not None  # the other is followed still
    desk.followers.gone(2)
    assert (desk.followers.tasks, desk.watches(), desk.followers.due_at) == (set(), 0, None)


def test_a_task_that_is_watched_wakes_nobody_by_the_clock(desk: Desk) -> None:
    desk.followers.add(1, 1, 42, 0, over=False)
    with closing(OutputWriter(desk.logs, 42)) as writer:
        writer.write(1, b"words", 1)
        desk.turn(3)
    assert desk.text() == b"words"
    assert desk.followers.due_at is None

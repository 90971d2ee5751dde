"""What is sent to a running command: in order, at the command's own pace, and no harm if it reads no more."""

from __future__ import annotations

import os
import select
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from tq import inlet
from tq.inlet import ABSENT, CLOSED, FULL, RECORD_MOST, TAKEN, Feed, Inlet


class Command:
    """An inlet, its feed, and the pipe whose other end a command would read."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.inlet = Inlet(root / "run", 7)
        self.source, target = os.pipe()
        os.set_blocking(self.source, False)
        self.poll = select.poll()
        self.feed = Feed(self.inlet, target, self.poll, tty=False)

    def send(self, data: bytes, end: bool = False) -> str:
        return inlet.send(self.root, 7, data, end, 0, 0)

    def turn(self) -> None:
        for fd, _ in self.poll.poll(0):
            self.feed.ready(fd)

    def read(self) -> bytes | None:
        """What there is to read; None: the end."""
        try:
            return os.read(self.source, 1 << 20) or None
        except BlockingIOError:
            return b""

    def close(self) -> None:
        self.feed.close()
        self.inlet.close()
        os.close(self.source)


@pytest.fixture
def command(tmp_path: Path) -> Iterator[Command]:
    (tmp_path / "run").mkdir()
    before = len(os.listdir("/proc/self/fd"))
    one = Command(tmp_path)
    yield one
    one.close()
    assert os.listdir(tmp_path / "run") == []
    assert len(os.listdir("/proc/self/fd")) == before


def test_what_is_sent_comes_in_order_and_the_end_behind_it(command: Command) -> None:
    assert stat.S_IMODE((command.root / "run" / "7.in").stat().st_mode) == 0o600
    assert [command.send(b"one\n"), command.send(b"two\n", end=True)] == [TAKEN, TAKEN]
    command.turn()
    command.turn()
    assert command.read() == b"one\ntwo\n"
    assert command.read() is None
    assert command.send(b"more") == CLOSED
    command.turn()


def test_a_command_that_reads_slowly_is_waited_for_and_loses_nothing(command: Command) -> None:
    sent, got, full = b"", b"", False
    for number in range(200):
        part = bytes([number]) * RECORD_MOST
        while command.send(part) == FULL:
            full = True
            while command.poll.poll(0):  # until it sleeps, since the command does not read
                command.turn()
            got += command.read() or b""
            command.turn()
        sent += part
    while len(got) < len(sent):
        command.turn()
        got += command.read() or b""
    assert full
    assert got == sent


def test_a_command_that_reads_no_more_does_no_harm(command: Command) -> None:
    reader, command.source = command.source, os.open("/dev/null", os.O_RDONLY)
    os.close(reader)
    assert command.send(b"x") == TAKEN
    command.turn()
    assert command.send(b"x") == CLOSED
    command.turn()


def test_without_a_command_there_is_nobody_to_send_to(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    assert inlet.send(tmp_path, 7, b"x", False, 0, 0) == ABSENT


def test_the_inlet_of_a_dead_worker_is_closed_replaced_and_swept(tmp_path: Path) -> None:
    run = tmp_path / "run"
    run.mkdir()
    dead = Inlet(run, 7)
    dead.shut()
    assert inlet.send(tmp_path, 7, b"x", False, 0, 0) == CLOSED
    again = Inlet(run, 7)
    assert inlet.send(tmp_path, 7, b"x", True, 3, 4) == TAKEN
    assert again.take() == (b"x", True, 3, 4)
    assert again.take() is None
    again.shut()
    inlet.sweep(run)
    assert os.listdir(run) == []
    for one in (dead, again):
        one.close()


def test_a_path_too_long_for_an_address_is_no_trouble(tmp_path: Path) -> None:
    run = tmp_path / ("long" * 40) / "run"
    run.mkdir(parents=True)
    one = Inlet(run, 7)
    assert inlet.send(run.parent, 7, b"x", False, 0, 0) == TAKEN
    one.close()


@pytest.mark.parametrize("junk", [b"", b"\xc1", b"\x01", b"\x94\x01\x02\x03\xa1x", b"\x91\x01"])
def test_a_record_that_is_none_is_passed_over(command: Command, junk: bytes) -> None:
    import socket

    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
        sender.sendto(junk, str(command.root / "run" / "7.in"))
    command.turn()
    assert command.send(b"sound") == TAKEN
    command.turn()
    assert command.read() == b"sound"


@pytest.mark.parametrize("row", [[0, 80], [24], "ab", [24, 70_000], [True, 5], 5])
def test_a_size_that_is_none_is_refused(row: object) -> None:
    with pytest.raises((ValueError, TypeError)):
        inlet.size_of(row)
    assert inlet.size_of([24, 80]) == (24, 80)

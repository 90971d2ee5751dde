"""The board: what it promises about begun tasks, workers, commands, and the end of process groups."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tq.board import COMMANDS, RING, SLOTS, STARTING, Board, below, end_below, end_command, end_group, machine, sessions_below, start_ticks
from tq.errors import ConfigError


@pytest.fixture
def board(tmp_path: Path) -> Iterator[Board]:
    board = Board.create(tmp_path / "w1.board")
    yield board
    board.close()


def until(condition: Callable[[], object], within: float = 10) -> None:
    deadline = time.monotonic() + within
    while not condition():
        assert time.monotonic() < deadline, "it never came true"
        time.sleep(0.005)


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()[0] not in (b"Z", b"X")
    except OSError:
        return False


def test_what_was_begun_can_be_read_by_another_process_mapping(board: Board, tmp_path: Path) -> None:
    board.begin(42, 1)
    board.begin(43, 7)
    other = Board.open(tmp_path / "w1.board")
    assert other.begun() == {Board.token(42, 1), Board.token(43, 7)}
    assert other.count == 2
    other.close()


def test_a_killed_process_leaves_what_it_had_begun(board: Board, tmp_path: Path) -> None:
    code = "import os, signal, sys; from tq.board import Board; b = Board.attach(int(sys.argv[1])); b.begin(9, 3); os.kill(os.getpid(), 9)"
    process = subprocess.run([sys.executable, "-c", code, str(board.fd)], pass_fds=[board.fd], check=False)
    assert process.returncode == -signal.SIGKILL
    assert board.begun() == {Board.token(9, 3)}


def test_the_ring_remembers_the_last_1024(board: Board) -> None:
    for number in range(1, RING + 11):
        board.begin(number, 1)
    assert board.begun() == {Board.token(number, 1) for number in range(11, RING + 11)}
    assert board.count == RING + 10


def test_a_slot_remembers_its_task_after_the_ring_has_forgotten_it(board: Board) -> None:
    board.begin(7, 1, slot=0)
    for number in range(100, 100 + 2 * RING):
        board.begin(number, 1, slot=1)
    assert Board.token(7, 1) in board.begun()
    board.begin(8, 1, slot=0)
    assert Board.token(7, 1) not in board.begun()
    board.begin(9, 1, slot=SLOTS - 1)
    assert Board.token(9, 1) in board.begun()


def test_tokens_tell_claims_apart_and_fit_a_word(board: Board) -> None:
    assert Board.token(5, 1) != Board.token(5, 2)
    assert Board.token(5, 0x10001) == Board.token(5, 1)
    board.begin((1 << 48) - 1, 0xFFFF)
    assert board.begun() == {(1 << 64) - 1}


def test_a_new_board_at_the_same_place_is_empty_and_private(board: Board, tmp_path: Path) -> None:
    board.begin(1, 1)
    board.command_starting(99)
    board.set_worker(77, 88)
    again = Board.create(tmp_path / "w1.board")
    assert (again.begun(), again.commands(), again.worker(), again.count) == (set(), [], (0, 0), 0)
    assert again.machine == machine()
    assert (tmp_path / "w1.board").stat().st_mode & 0o777 == 0o600
    again.close()


def test_the_worker_is_known_by_pid_and_start(board: Board) -> None:
    ticks = start_ticks(os.getpid())
    assert ticks
    board.set_worker(os.getpid(), ticks)
    assert board.worker() == (os.getpid(), ticks)
    assert start_ticks(1 << 22) is None


@pytest.mark.parametrize("content", [b"", b"x" * 100, b"x" * 33000])
def test_another_file_is_not_taken_for_a_board(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "x.board").write_bytes(content)
    with pytest.raises(ConfigError, match="expected a worker's board"):
        Board.open(tmp_path / "x.board")


def test_a_symlink_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "x.board").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(OSError, match=r"symbolic|loop"):
        Board.create(tmp_path / "x.board")
    assert not (tmp_path / "elsewhere").exists()


def test_commands_come_and_go_and_their_number_is_bounded(board: Board) -> None:
    for number in range(1, COMMANDS + 1):
        board.command_starting(number)
        assert (STARTING, 0, number) in board.commands()
        board.command_started(number, number, number * 2)
    with pytest.raises(ConfigError, match="at most"):
        board.command_starting(5000)
    board.command_ended(17)
    board.command_ended(999_999)
    board.command_starting(5000)
    board.command_started(5000, 5000, 1)
    commands = board.commands()
    assert (5000, 1, 5000) in commands
    assert (17, 34, 17) not in commands
    assert len(commands) == COMMANDS


def test_a_group_is_ended_with_the_children_it_left_in_other_groups() -> None:
    script = "set -m; sleep 60 & sleep 60 & echo ready; wait"  # -m: each job in a process group of its own
    leader = subprocess.Popen(["bash", "-c", script], start_new_session=True, stdout=subprocess.PIPE)
    assert leader.stdout is not None
    assert leader.stdout.readline() == b"ready\n"
    ticks = start_ticks(leader.pid)
    assert ticks
    killed = end_group(leader.pid, ticks)
    assert leader.pid in killed
    assert len(killed) == 3
    assert leader.wait(10) == -signal.SIGKILL
    until(lambda: not any(alive(pid) for pid in killed))
    assert end_group(leader.pid, ticks) == []
    leader.stdout.close()


def test_children_of_a_leader_that_is_gone_are_ended_too() -> None:
    leader = subprocess.Popen(["sh", "-c", "sleep 60 & echo $!"], start_new_session=True, stdout=subprocess.PIPE)
    ticks = start_ticks(leader.pid)
    assert ticks
    assert leader.stdout is not None
    child = int(leader.stdout.readline())
    leader.wait(10)
    assert alive(child)
    assert end_group(leader.pid, ticks) == [child]
    until(lambda: not alive(child))
    leader.stdout.close()


def test_a_number_that_was_given_to_another_process_is_left_alone() -> None:
    with subprocess.Popen(["sleep", "60"], start_new_session=True) as stranger:
        ticks = start_ticks(stranger.pid)
        assert ticks
        assert end_group(stranger.pid, ticks - 1) == []
        assert end_group(stranger.pid, ticks + 1) == []
        assert alive(stranger.pid)
        assert end_group(stranger.pid, ticks) == [stranger.pid]


def test_a_command_whose_worker_died_while_starting_it_is_found_by_its_mark(board: Board) -> None:
    board.command_starting(0xABCDEF)
    env = {**os.environ, "TQ_COMMAND": "abcdef"}
    with subprocess.Popen(["sh", "-c", "sleep 60 & echo; wait"], env=env, start_new_session=True, stdout=subprocess.PIPE) as command:
        assert command.stdout is not None
        assert command.stdout.readline() == b"\n"
        ((group, ticks, mark),) = board.commands()
        assert (group, mark) == (STARTING, 0xABCDEF)
        assert end_command(STARTING, ticks, 0xABCDE) == []
        killed = end_command(group, ticks, mark)
    assert command.pid in killed
    assert len(killed) == 2
    until(lambda: not any(alive(pid) for pid in killed))


def test_a_command_that_could_not_start_leaves_no_entry(board: Board) -> None:
    board.command_starting(5)
    board.command_started(5, 0, 0)
    assert board.commands() == []


def test_all_descendants_are_ended_whatever_session_they_are_in() -> None:
    inner = "import subprocess; subprocess.Popen(['sleep', '60']); print(flush=True); input()"
    script = (
        "import subprocess, sys; subprocess.Popen(['sleep', '60']); "
        f"subprocess.Popen([sys.executable, '-c', {inner!r}], start_new_session=True); input()"
    )
    with subprocess.Popen([sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as parent:
        assert parent.stdout is not None
        assert parent.stdout.readline() == b"\n"
        assert len(sessions_below(parent.pid)) == 1
        killed = end_below(parent.pid)
        assert len(killed) == 3
        until(lambda: below(parent.pid) == [])  # one may take a moment to die
        assert end_below(parent.pid) == []
        assert alive(parent.pid)
        parent.kill()

"""The command handler: output, exit codes, cancel, and nothing left behind."""

from __future__ import annotations

import errno
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgpack
import pytest

from tq import inlet, output
from tq.board import STARTING, Board
from tq.errors import PayloadError
from tq.launch import launch_of
from tq.model import Header, Spec
from tq.output import ERR, OUT, OutputWriter
from tq.shell import Command, Ended


class Bench:
    """Runs commands as a worker would."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.logs = root / "logs"
        (root / "run").mkdir()
        self.board = Board.create(root / "w1.board")
        self.writer = OutputWriter(self.logs, 7)

    def command(self, *argv: str | bytes, grace_ms: int = 5000, **extras: Any) -> Command:
        payload = msgpack.packb({"argv": list(argv)})
        spec = Spec(7, Header("shell", extras=extras or None), payload, 1)
        return Command(spec, launch_of(spec), 2, self.root, self.writer, self.board, grace_ms)

    def run(self, *argv: str | bytes, **extras: Any) -> Ended:
        return self.command(*argv, **extras).run()

    def said(self, stream: int = OUT) -> bytes:
        chunks, offset, found = *output.read(self.logs, 7), b""
        while chunks:
            found += b"".join(data for _, which, data in chunks if which == stream)
            chunks, offset = output.read(self.logs, 7, offset)
        return found


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    bench = Bench(tmp_path)
    before = len(os.listdir("/proc/self/fd"))
    yield bench
    bench.writer.close()
    assert bench.board.commands() == [], "a command that ended is still on the board"
    assert len(os.listdir("/proc/self/fd")) <= before, "a descriptor was left open"
    bench.board.close()


def until(condition: Callable[[], Any], within: float = 10) -> Any:
    deadline = time.monotonic() + within
    while not (found := condition()):
        assert time.monotonic() < deadline, "it never came true"
        time.sleep(0.005)
    return found


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()[0] not in (b"Z", b"X")
    except OSError:
        return False


def test_standard_output_and_error_are_kept_apart(bench: Bench) -> None:
    assert bench.run("sh", "-c", "echo out; echo err >&2; cat") == (0, "")  # cat ends: standard input is empty
    assert (bench.said(OUT), bench.said(ERR)) == (b"out\n", b"err\n")


@pytest.mark.parametrize("code", [0, 1, 3, 255])
def test_the_exit_code_is_the_commands_own(bench: Bench, code: int) -> None:
    assert bench.run("sh", "-c", f"exit {code}") == (code, f"exit code {code}" if code else "")


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGSEGV])
def test_a_signal_is_told_as_128_and_its_number(bench: Bench, number: signal.Signals) -> None:
    assert bench.run("sh", "-c", f"kill -{int(number)} $$") == (128 + number, f"killed by signal {int(number)} ({number.name})")


def test_a_command_that_does_not_exist_ends_with_127_and_says_so(bench: Bench) -> None:
    assert bench.run("no-such-command-\x1b[31m").exit_code == 127
    assert bench.said(ERR) == b"tq: no-such-command-\\x1b[31m: command not found\n"


def test_a_file_that_cannot_be_run_ends_with_126_and_says_so(bench: Bench, tmp_path: Path) -> None:
    plain = tmp_path / "plain"
    plain.write_text("not a program")
    assert bench.run(str(plain)).exit_code == 126
    plain.chmod(0o755)
    assert bench.run(str(plain)).exit_code == 126
    assert bench.run("sh", cwd=str(tmp_path / "nowhere")).exit_code == 126
    assert bench.run("echo", "a\0b").exit_code == 126
    lines = bench.said(ERR).splitlines()
    assert [b"denied" in lines[0], b"Exec format" in lines[1], b"cannot enter the directory" in lines[2], b"null" in lines[3]] == [True] * 4


def test_directory_environment_and_umask_are_the_senders(bench: Bench, tmp_path: Path) -> None:
    script = 'pwd; umask; echo "$A $TQ_TASK_ID $TQ_ATTEMPT $TQ_DATA_DIR ${HOME-none}"'
    env = {"A": "b c", "PATH": os.environ["PATH"]}
    assert bench.run("sh", "-c", script, cwd=str(tmp_path), env=env, umask=0o027).exit_code == 0
    assert bench.said().decode().splitlines() == [str(tmp_path), "0027", f"b c 7 2 {tmp_path} none"]


def test_without_an_environment_it_has_the_workers(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOMETHING", "here")
    bench.run("sh", "-c", "echo $SOMETHING")
    assert bench.said() == b"here\n"


def test_bytes_that_are_no_text_survive(bench: Bench) -> None:
    bench.run("sh", "-c", 'printf "%s|%s" "$1" "$X"', "sh", b"\xff\xfe", env={b"X": b"\x80\x81", "PATH": os.environ["PATH"]})
    assert bench.said() == b"\xff\xfe|\x80\x81"


@pytest.mark.parametrize(
    ("payload", "extras"),
    [
        (b"", None),
        (b"\xc1", None),
        (msgpack.packb(["ls"]), None),
        (msgpack.packb({"argv": []}), None),
        (msgpack.packb({"argv": [""]}), None),
        (msgpack.packb({"argv": [3]}), None),
        (msgpack.packb({"argv": ["ls"]}), {"cwd": 3}),
        (msgpack.packb({"argv": ["ls"]}), {"env": ["A"]}),
        (msgpack.packb({"argv": ["ls"]}), {"env": {"A": 1}}),
        (msgpack.packb({"argv": ["ls"]}), {"umask": "022"}),
        (msgpack.packb({"argv": "ls"}), {"umask": []}),
    ],
)
def test_a_task_that_is_no_command_is_refused(bench: Bench, payload: bytes, extras: Any) -> None:
    with pytest.raises(PayloadError, match="expected a payload"):
        launch_of(Spec(7, Header("shell", extras=extras), payload, 1))


def test_it_is_over_when_its_leader_is_whatever_background_children_hold(bench: Bench) -> None:
    started = time.monotonic()
    assert bench.run("sh", "-c", "sleep 60 & echo $!").exit_code == 0
    assert time.monotonic() - started < 10
    child = int(bench.said())
    assert alive(child)  # it was put in the background on purpose
    os.kill(child, signal.SIGKILL)


def test_a_background_child_that_never_stops_printing_does_not_hold_it(bench: Bench) -> None:
    started = time.monotonic()
    assert bench.run("sh", "-c", "yes & echo $! >&2; exit 4").exit_code == 4
    assert time.monotonic() - started < 10
    until(lambda: not alive(int(bench.said(ERR))))  # its pipe is closed


def test_what_it_printed_last_is_not_lost(bench: Bench) -> None:
    for _ in range(10):
        bench.run("sh", "-c", "head -c 40000 /dev/zero | tr '\\0' x; echo end >&2")
    assert bench.said(OUT) == b"x" * 400_000
    assert bench.said(ERR).count(b"end\n") == 10


def test_it_is_on_the_board_while_it_runs(bench: Bench) -> None:
    command = bench.command("sh", "-c", "echo $$; read x < fifo", cwd=str(bench.root))
    os.mkfifo(bench.root / "fifo")
    thread = threading.Thread(target=command.run)
    thread.start()
    pid = int(until(bench.said))
    ((pgid, ticks, _),) = bench.board.commands()
    assert (pgid, os.getsid(pid), os.getpgid(pid)) == (pid, pid, pid)
    assert ticks > 0
    (bench.root / "fifo").write_text("go\n")
    thread.join(10)
    assert not thread.is_alive()


def cancelled(bench: Bench, script: str, grace_ms: int) -> tuple[Ended, float]:
    """How a bash script ends that is cancelled as soon as it says ``ready``, and after how many seconds."""
    command = bench.command("bash", "-c", script, grace_ms=grace_ms)
    found: list[Ended] = []
    thread = threading.Thread(target=lambda: found.append(command.run()))
    thread.start()
    until(lambda: b"ready" in bench.said())
    started = time.monotonic()
    command.cancel()
    command.cancel()
    thread.join(20)
    assert found, "it did not end"
    command.cancel()  # over: nothing happens
    return found[0], time.monotonic() - started


def test_a_cancel_is_term_first_so_it_may_clean_up(bench: Bench) -> None:
    ended, took = cancelled(bench, "trap 'echo bye; exit 9' TERM; echo ready; while :; do sleep 0.01; done", 15_000)
    assert ended.exit_code == 9
    assert took < 10
    assert bench.said().endswith(b"bye\n")


def test_a_command_that_ignores_term_is_killed_after_the_grace_with_its_children(bench: Bench) -> None:
    script = "trap '' TERM; sleep 60 & echo $!; set -m; sleep 60 & echo $!; echo ready; wait"
    ended, took = cancelled(bench, script, 300)
    assert ended.exit_code == 128 + signal.SIGKILL
    assert 0.25 < took < 10
    until(lambda: not any(alive(int(pid)) for pid in bench.said().split()[:2]))


def test_a_cancel_leaves_no_child_behind_when_the_leader_obeys(bench: Bench) -> None:
    ended, _ = cancelled(bench, "(trap '' TERM; sleep 60; sleep 60) & echo $!; echo ready; wait", 15_000)
    assert ended.exit_code == 128 + signal.SIGTERM
    until(lambda: not alive(int(bench.said().split()[0])))


def test_a_stopped_command_can_be_cancelled(bench: Bench) -> None:
    ended, took = cancelled(bench, "echo ready; kill -STOP $$; sleep 60", 15_000)
    assert ended.exit_code == 128 + signal.SIGTERM
    assert took < 10


@pytest.mark.parametrize("looks", [True, False], ids=["it is looked for", "nothing can be looked for"])
def test_a_command_that_cannot_be_watched_is_ended(bench: Bench, monkeypatch: pytest.MonkeyPatch, looks: bool) -> None:
    def out_of_descriptors(*_: object) -> Any:
        raise OSError(errno.EMFILE, "Too many open files")

    pids: list[int] = []

    def pidfd_open(pid: int) -> int:
        pids.append(pid)
        return int(out_of_descriptors())

    monkeypatch.setattr(os, "pidfd_open", pidfd_open)
    if not looks:
        monkeypatch.setattr("tq.shell.end_command", out_of_descriptors)
    with pytest.raises(OSError, match="Too many open files"):
        bench.run("sleep", "20")
    assert not alive(pids[0])


def test_a_command_whose_output_cannot_be_read_is_ended(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "readv", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        bench.run("sh", "-c", "echo $$; exec sleep 20")


def test_any_amount_of_output_is_bounded_on_disk(bench: Bench) -> None:
    assert bench.run("sh", "-c", "yes | head -c 50000000").exit_code == 0
    total = sum(path.stat().st_size for path in bench.logs.rglob("7.*"))
    assert (1 << 19) < total <= (1 << 20) + 200
    assert bench.said(output.NOTE) == b"%d bytes dropped\n" % (50_000_000 - len(bench.said()))


# what is sent to it


def sent(bench: Bench, data: bytes, end: bool = False, rows: int = 0, columns: int = 0) -> None:
    until(lambda: inlet.send(bench.root, 7, data, end, rows, columns) == inlet.TAKEN)


def running(command: Command) -> tuple[threading.Thread, list[Ended]]:
    found: list[Ended] = []
    thread = threading.Thread(target=lambda: found.append(command.run()))
    thread.start()
    return thread, found


def test_an_interactive_command_reads_what_is_sent_until_its_end(bench: Bench) -> None:
    thread, found = running(bench.command("sh", "-c", "read a; echo got $a; cat; echo end", interactive=True))
    sent(bench, b"one\n")
    until(lambda: bench.said() == b"got one\n")
    sent(bench, b"two\nthree", end=True)
    thread.join(10)
    assert (found, bench.said()) == ([(0, "")], b"got one\ntwo\nthreeend\n")
    assert inlet.send(bench.root, 7, b"x", False, 0, 0) == inlet.ABSENT


def test_an_interactive_command_that_never_reads_ends_as_any_other(bench: Bench) -> None:
    thread, found = running(bench.command("sleep", "100", interactive=True))
    for _ in range(3):
        sent(bench, b"x" * 32_768)
    os.kill(until(lambda: [pgid for pgid, *_ in bench.board.commands() if pgid != STARTING])[0], signal.SIGTERM)
    thread.join(10)
    assert found[0].exit_code == 128 + 15


def test_a_command_with_a_terminal_has_its_size_its_keys_and_one_stream(bench: Bench) -> None:
    # "up" and exec: a shell that waits for a command which ends by itself goes on after a Ctrl-C.
    script = "test -t 0 && test -t 1 && test -t 2 && echo yes >&2; : < /dev/tty && echo ours; read a; echo got $a; stty size; echo up; "
    script += "exec sleep 100"
    thread, found = running(bench.command("sh", "-c", script, tty=[30, 100]))
    sent(bench, b"word\n", rows=40, columns=120)
    until(lambda: b"got word\r\n40 120\r\nup\r\n" in bench.said())
    assert b"yes\r\n" in bench.said()
    assert b"ours\r\n" in bench.said()
    assert bench.said(ERR) == b""
    sent(bench, b"\x03")
    thread.join(10)
    assert found[0].exit_code == 128 + signal.SIGINT


def test_the_end_of_input_on_a_terminal_is_its_control_d(bench: Bench) -> None:
    thread, found = running(bench.command("cat", tty=[24, 80]))
    sent(bench, b"line\n", end=True)
    thread.join(10)
    assert (found, bench.said()) == ([(0, "")], b"line\r\nline\r\n")


def test_all_that_a_command_wrote_on_its_terminal_before_it_ended_is_kept(bench: Bench) -> None:
    for _ in range(20):
        bench.run("sh", "-c", "seq 300", tty=[24, 80])
    assert bench.said() == b"".join(b"%d\r\n" % n for n in range(1, 301)) * 20


def test_a_command_with_a_terminal_that_is_not_there_is_said_to_be(bench: Bench) -> None:
    assert bench.run("no-such-command-at-all", tty=[24, 80]).exit_code == 127
    with pytest.raises(PayloadError):
        bench.run("true", tty=[0, 80])

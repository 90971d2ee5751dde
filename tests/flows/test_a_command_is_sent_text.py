"""A running command reads what people send it: by ``tq send``, and through ``tq run`` from a pipe or a terminal."""

from __future__ import annotations

import fcntl
import os
import signal
import struct
import subprocess
import sys
import termios
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.living import unmeasured
from tq.client import Client

pytestmark = pytest.mark.flow

Tq = Callable[..., subprocess.CompletedProcess[str]]
ENTRY = [sys.executable, "-m", "tq"]


def test_a_line_is_sent_to_a_command_that_waits_for_it(
    daemon: Callable[..., Any], client: Client, tq: Tq, until: Callable[..., Any]
) -> None:
    daemon(workers=1)
    waits = tq("add", "--interactive", "--", "sh", "-c", 'echo ask; read a; echo "got $a"; cat').stdout.strip()
    until(lambda: client.log(int(waits)) == "ask\n", what="its question")
    behind = tq("add", "--interactive", "--", "cat").stdout.strip()
    assert tq("send", behind, "early").returncode == 75
    assert tq("send", waits, "yes").returncode == 0
    until(lambda: "got yes" in client.log(int(waits)), what="its answer")
    assert tq("send", waits, "-", input="more\nand more").returncode == 0
    assert tq("send", waits, "--eof").returncode == 0
    assert tq("wait", waits).returncode == 0
    assert client.log(int(waits)) == "ask\ngot yes\nmore\nand more"
    assert tq("send", waits, "late").returncode == 75
    until(lambda: tq("send", behind, "--eof").returncode == 0, what="the next one")
    plain = tq("run", "--", "cat")
    assert (plain.returncode, plain.stdout) == (0, "")  # without the option its input is empty
    assert "--interactive" in tq("send", "@last", "x").stderr


def test_run_passes_its_standard_input_on(daemon: Callable[..., Any], tq: Tq) -> None:
    daemon(workers=1)
    text = "".join(f"line {n}\n" for n in range(20_000))
    done = tq("run", "--interactive", "--", "cat", input=text)
    assert (done.returncode, done.stdout, done.stderr) == (0, text, "")


def test_a_retry_does_not_get_what_an_earlier_attempt_was_sent(
    daemon: Callable[..., Any], client: Client, tq: Tq, until: Callable[..., Any]
) -> None:
    daemon(workers=1)
    script = "read a; echo $TQ_ATTEMPT $a; test $TQ_ATTEMPT = 2"
    task = tq("add", "-i", "--retries", "1", "--retry-delay", "0s", "--", "sh", "-c", script).stdout.strip()
    until(lambda: tq("send", task, "once").returncode == 0, 30, "the first attempt")
    until(lambda: client.log(int(task)) == "1 once\n", 30, "its answer")
    until(lambda: tq("send", task, "again").returncode == 0, 30, "the second attempt")
    assert tq("wait", task).returncode == 0
    assert client.log(int(task)) == "1 once\n2 again\n"


@pytest.fixture
def terminal() -> Iterator[tuple[int, int]]:
    """Both ends of a terminal: ours, and that of the command."""
    ends = os.openpty()
    yield ends
    for end in ends:
        os.close(end)


@contextmanager
def run_on(end: int, data_dir: Path, *command: str, entry: Sequence[str] = ENTRY) -> Iterator[subprocess.Popen[bytes]]:
    """``tq run --tty`` of a command there; killed where it is left."""
    argv, env = [*entry, "run", "--tty", "--", *command], unmeasured(TQ_DATA_DIR=str(data_dir))
    with subprocess.Popen(argv, env=env, stdin=end, stdout=end, stderr=end) as run:
        try:
            yield run
        finally:
            run.kill()


def test_run_on_a_terminal_passes_keys_and_the_size_of_the_window(
    daemon: Callable[..., Any], data_dir: Path, until: Callable[..., Any], terminal: tuple[int, int]
) -> None:
    daemon(workers=1)
    ours, theirs = terminal
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 31, 101, 0, 0))
    before = termios.tcgetattr(theirs)
    seen = bytearray()

    def shown(words: bytes) -> bool:
        try:
            seen.extend(os.read(ours, 1 << 16))
        except BlockingIOError:
            pass
        return words in seen

    os.set_blocking(ours, False)
    # With a trap: a shell that waits for stty goes on after a Ctrl-C.
    script = 'trap "exit 130" INT; stty size; echo ready; while read a; do echo "got $a"; stty size; done'
    with run_on(theirs, data_dir, "sh", "-c", script) as run:
        until(lambda: shown(b"31 101\r\nready\r\n"), 30, "the size of the window")
        os.write(ours, b"one\r")
        until(lambda: shown(b"got one\r\n"), 30, "a line")
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 41, 111, 0, 0))
        run.send_signal(signal.SIGWINCH)
        until(lambda: os.write(ours, b"more\r") and shown(b"41 111\r\n"), 30, "the new size")
        os.write(ours, b"\x03")
        assert run.wait(20) == 128 + signal.SIGINT
        assert termios.tcgetattr(theirs) == before


@pytest.mark.parametrize("how", ["Ctrl-C", "SIGTERM"])
def test_run_on_a_terminal_can_be_left_while_its_task_waits_and_leaves_the_terminal_as_it_was(
    daemon: Callable[..., Any], client: Client, data_dir: Path, until: Callable[..., Any], terminal: tuple[int, int], how: str
) -> None:
    daemon(workers=1)
    client.call("set_queue", {"name": "default", "paused": True})
    ours, theirs = terminal
    before = termios.tcgetattr(theirs)
    with run_on(theirs, data_dir, "cat") as run:
        until(lambda: termios.tcgetattr(theirs) != before, 30, "a terminal that gives each key")
        if how == "Ctrl-C":
            os.write(ours, b"some\r")
            os.write(ours, b"\x03")
        else:
            run.terminate()
        assert run.wait(20) == 128 + (signal.SIGINT if how == "Ctrl-C" else signal.SIGTERM)
        assert termios.tcgetattr(theirs) == before
    assert client.get(1)["state"] == "cancelled"


TERMINATED_AT_ONCE = """
import os, signal, sys, termios
real, calls = termios.tcsetattr, []

def tcsetattr(*args):
    real(*args)
    calls.append(args)
    if len(calls) in (1, 2):  # it has just been set, and has just been set back
        os.kill(os.getpid(), signal.SIGTERM)

termios.tcsetattr = tcsetattr
from tq.cli.fast import main
main()
"""


def test_a_signal_at_the_moment_in_which_the_terminal_is_changed_leaves_it_as_it_was(
    daemon: Callable[..., Any], client: Client, data_dir: Path, terminal: tuple[int, int]
) -> None:
    daemon(workers=1)
    client.call("set_queue", {"name": "default", "paused": True})
    before = termios.tcgetattr(terminal[1])
    with run_on(terminal[1], data_dir, "cat", entry=(sys.executable, "-c", TERMINATED_AT_ONCE)) as run:
        assert run.wait(20) == 128 + signal.SIGTERM
        assert termios.tcgetattr(terminal[1]) == before

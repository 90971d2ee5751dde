"""What a service manager is told, on a real datagram socket, and the descriptors that it hands over."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tq.daemon.supervised import VARIABLES, Supervisor


@pytest.fixture
def manager(data_dir: Path) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.bind(str(data_dir / "n"))
        sock.settimeout(5)
        yield sock


def heard(manager: socket.socket) -> list[str]:
    return manager.recv(4096).decode().split("\n")


def silent(manager: socket.socket) -> bool:
    manager.setblocking(False)
    try:
        return not manager.recv(4096)
    except BlockingIOError:
        return True
    finally:
        manager.settimeout(5)


def test_each_message_is_what_sd_notify_asks_for(manager: socket.socket) -> None:
    one = Supervisor({"NOTIFY_SOCKET": manager.getsockname()})
    one.ready("serves here\nREADY=0")
    assert heard(manager) == ["READY=1", "STATUS=serves here READY=0"]  # a status is one line, whatever it holds
    one.reloading()
    word, clock = heard(manager)
    assert (word, clock.partition("=")[0]) == ("RELOADING=1", "MONOTONIC_USEC")
    assert int(clock.partition("=")[2]) > 0
    one.stopping(31.5, "waits for 2 running tasks")
    assert heard(manager) == ["STOPPING=1", "EXTEND_TIMEOUT_USEC=31500000", "STATUS=waits for 2 running tasks"]
    one.status("no room")
    assert heard(manager) == ["STATUS=no room"]
    one.close()
    one.status("after the end")
    assert silent(manager)


def test_a_sign_of_life_comes_at_half_of_the_time_that_is_waited_for_it(manager: socket.socket) -> None:
    one = Supervisor({"NOTIFY_SOCKET": manager.getsockname(), "WATCHDOG_USEC": "2000000", "WATCHDOG_PID": str(os.getpid())})
    one.beat(500)
    assert heard(manager) == ["WATCHDOG=1"]
    assert one.beat_at == 1500
    one.beat(1499)
    assert silent(manager)
    one.beat(1500)
    assert heard(manager) == ["WATCHDOG=1"]
    one.patience(3600)
    assert heard(manager) == ["WATCHDOG=1", "WATCHDOG_USEC=3600000000"]
    one.patience(None)
    assert heard(manager) == ["WATCHDOG=1", "WATCHDOG_USEC=2000000"]
    one.close()


@pytest.mark.parametrize("environ", [
    {}, {"NOTIFY_SOCKET": ""}, {"WATCHDOG_USEC": "2000000"}, {"WATCHDOG_USEC": "soon"}, {"LISTEN_FDS": "1"}, {"NOTIFY_SOCKET": "vsock:2:1"},
    {"LISTEN_FDS": "x", "LISTEN_PID": str(os.getpid())}, {"LISTEN_FDS": "2", "LISTEN_PID": "1"},
])  # fmt: skip
def test_without_a_manager_nothing_is_said_and_no_beat_is_due(environ: dict[str, str], data_dir: Path) -> None:
    one = Supervisor(environ)
    one.ready("x")
    one.beat(1 << 40)
    one.patience(1)
    assert (one.there, one.beat_at, one.listener(data_dir / "tq.sock")) == (False, float("inf"), None)


def test_another_process_is_not_asked_for_signs_of_life(manager: socket.socket) -> None:
    one = Supervisor({"NOTIFY_SOCKET": manager.getsockname(), "WATCHDOG_USEC": "2000000", "WATCHDOG_PID": "1"})
    assert (one.there, one.beat_at) == (True, float("inf"))
    one.close()


def test_a_manager_that_is_gone_harms_nobody_and_its_variables_are_not_inherited(data_dir: Path) -> None:
    environ = dict.fromkeys(VARIABLES, "1") | {"NOTIFY_SOCKET": str(data_dir / "nobody"), "PATH": "x"}
    one = Supervisor(environ)
    one.ready("x")
    one.close()
    assert environ == {"PATH": "x"}


_HANDED = """
import os, socket, sys
from pathlib import Path
from tq.daemon.supervised import Supervisor
from tq.errors import ConfigError
sock = socket.socket(socket.AF_UNIX, getattr(socket, sys.argv[2]))
sock.bind(sys.argv[1])
if sys.argv[2] == "SOCK_STREAM": sock.listen()
os.dup2(sock.fileno(), 3)
environ = {"LISTEN_FDS": "1", "LISTEN_PID": str(os.getpid()), "LISTEN_FDNAMES": "x"}
try:
    got = Supervisor(environ).listener(Path(sys.argv[3]))
    print(got.getsockname(), got.getblocking(), os.get_inheritable(3), os.get_inheritable(got.fileno()), environ)
except ConfigError as error:
    print(error)
"""


def hand_over(path: Path, kind: str, wanted: Path) -> str:
    words = [sys.executable, "-c", _HANDED, str(path), kind, str(wanted)]
    return subprocess.run(words, check=True, capture_output=True, text=True, timeout=30).stdout.strip()


def test_a_socket_that_is_handed_over_is_taken_if_it_is_the_right_one(data_dir: Path) -> None:
    place = data_dir / "tq.sock"
    assert hand_over(place, "SOCK_STREAM", place) == f"{place} False False False {{}}"
    place.unlink()
    said = hand_over(place, "SOCK_DGRAM", place)
    assert f"expected a Unix stream socket that listens at {place}" in said
    said = hand_over(data_dir / "other", "SOCK_STREAM", place)
    assert f"got '{data_dir}/other'. Mend ListenStream=" in said


def test_the_words_for_no_socket_at_all(data_dir: Path) -> None:
    code = "import os\n" + _HANDED.replace("os.dup2(sock.fileno(), 3)", "os.dup2(os.open('/dev/null', os.O_RDONLY), 3)")
    done = subprocess.run(
        [sys.executable, "-c", code, str(data_dir / "x"), "SOCK_STREAM", str(data_dir / "y")],
        check=True, capture_output=True, text=True, timeout=30,
    )  # fmt: skip
    assert "got no socket" in done.stdout

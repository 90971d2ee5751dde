"""A daemon under a service manager: ready, alive, reloading and ending are said; a socket that was there before is taken over."""

from __future__ import annotations

import json
import os
import queue
import re
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.living import Daemon, processes_of

pytestmark = pytest.mark.flow
Tq = Callable[..., subprocess.CompletedProcess[str]]

_ACTIVATE = """
import os, select, socket, sys
sock = socket.socket(socket.AF_UNIX)
sock.bind(sys.argv[1])
sock.listen()
os.dup2(sock.fileno(), 3)
os.set_inheritable(3, True)
print("listens", flush=True)
select.select([sock], [], [])
os.environ |= {"LISTEN_FDS": "1", "LISTEN_PID": str(os.getpid())}
os.execv(sys.executable, [sys.executable, "-m", "tq.daemon", "--foreground", "--workers", "1", "--data-dir", os.path.dirname(sys.argv[1])])
"""
"""What a socket unit does: listen, wait for a client, become the daemon."""


class Manager:
    def __init__(self, path: Path) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.sock.bind(str(path))
        self.heard: queue.Queue[str] = queue.Queue()
        self.thread = threading.Thread(target=self._hear)
        self.thread.start()  # as quick as a manager is: a socket holds ten messages
        self.env = {"NOTIFY_SOCKET": str(path)}

    def _hear(self) -> None:
        while text := self.sock.recv(4096).decode():
            self.heard.put(text)

    def next(self, *skip: str) -> list[str]:
        """The next message that does not begin with one of these."""
        while True:
            lines = self.heard.get(timeout=20).split("\n")
            if lines[0] not in skip:
                return lines


@pytest.fixture
def manager(data_dir: Path) -> Iterator[Manager]:
    one = Manager(data_dir.parent / f"{data_dir.name}.n")
    yield one
    one.sock.sendto(b"", one.env["NOTIFY_SOCKET"])  # its thread ends
    one.thread.join()
    one.sock.close()
    os.unlink(one.env["NOTIFY_SOCKET"])


def test_ready_signs_of_life_and_the_end_are_said(manager: Manager, daemon: Callable[..., Daemon], data_dir: Path, tq: Tq) -> None:
    one = daemon(env={**manager.env, "WATCHDOG_USEC": "400000"}, workers=1)
    assert manager.next() == ["READY=1", f"STATUS=serves {data_dir}"]
    for _ in range(3):  # of an idle daemon
        assert manager.next() == ["WATCHDOG=1"]
    assert json.loads(tq("daemon", "status", "--json").stdout)["supervised"] is True
    refused = tq("daemon", "restart")
    assert (refused.returncode, "systemctl restart tq" in refused.stderr) == (2, True)
    assert tq("run", "--", "sh", "-c", 'echo "${NOTIFY_SOCKET:-none} ${WATCHDOG_USEC:-none}"').stdout == "none none\n"
    compacted = tq("compact")
    assert compacted.returncode == 0, compacted.stderr
    one.process.terminate()
    said = []
    while (lines := manager.next())[0] != "STOPPING=1":
        said += lines
    assert "WATCHDOG_USEC=3600000000" in said  # a compaction takes as long as it takes
    assert said.index("WATCHDOG_USEC=400000") > said.index("WATCHDOG_USEC=3600000000")
    assert lines[1].startswith("EXTEND_TIMEOUT_USEC=9")
    assert one.process.wait(20) == 0


def test_a_start_that_fails_says_why(manager: Manager, daemon: Callable[..., Daemon]) -> None:
    with pytest.raises(RuntimeError, match="error 2"):
        daemon(env=manager.env, workers=1, app="no.such.module")
    (line,) = manager.next()
    assert line.startswith("STATUS=the application 'no.such.module' cannot be used by workers")


def test_a_hangup_takes_over_settings_of_queues_the_log_and_workers_and_the_application(
    manager: Manager, daemon: Callable[..., Daemon], data_dir: Path, tq: Tq, until: Any, tmp_path: Path
) -> None:
    app = tmp_path / "live.py"
    app.write_text("import tq\n\n@tq.task('v')\ndef v() -> int:\n    return 1\n")
    settings = data_dir / "tq.toml"
    settings.write_text("[workers]\nmin = 1\nmax = 1\n[queues.mail]\nslots = 2\n")
    one = Daemon(data_dir, {**os.environ, **manager.env}, app=str(app))
    del one.options["workers"]
    try:
        one.start()
        manager.next()

        def reload() -> list[str]:
            one.process.send_signal(signal.SIGHUP)
            assert manager.next()[0] == "RELOADING=1"
            return manager.next()

        def shown() -> dict[str, Any]:
            found: dict[str, Any] = json.loads(tq("queue", "show", "mail", "--json").stdout)
            return found

        assert shown()["slots"] == {"value": 2, "source": str(settings)}
        said = tq("queue", "set", "mail", "--slots", "7", "--weight", "3")
        assert "the settings file says slots of queue mail, too" in said.stderr
        assert shown()["slots"]["source"].startswith("tq queue set;")
        settings.write_text("[workers]\nmin = 1\nmax = 3\nslots = 5\n[queues.mail]\nretries = 4\n[logging]\nlevel = 'debug'\n")
        app.write_text(app.read_text().replace("return 1", "return 2"))
        assert reload()[0] == "READY=1"
        found = shown()
        assert (found["retries"]["value"], found["weight"]) == (4, {"value": 3, "source": "tq queue set"})
        assert found["slots"]["value"] == 7  # the file says it no more, but somebody set it since
        options = json.loads(tq("daemon", "status", "--json").stdout)["options"]
        assert (options["max_workers"], options["log_level"], options["slots"]) == (3, "debug", 1)
        assert re.search(r"need_a_restart=\S*slots", one.log())
        until(lambda: _runs_new(tq), 20)
        settings.write_text("[queues.mail]\nretires = 4\n")
        (ready, status) = reload()
        assert (ready, "Did you mean 'retries'" in status) == ("READY=1", True)
        assert shown()["retries"]["value"] == 4
        settings.write_text("")
        assert reload()[0] == "READY=1"
        assert shown()["retries"] == {"value": None, "source": "default"}
    finally:
        one.end()
        one.words.unlink(missing_ok=True)


def _runs_new(tq: Tq) -> bool:
    done = tq("enqueue", "--type", "v", "--payload", "null", "--wait")
    return tq("result", done.stdout.strip()).stdout.strip() == "2"


def test_a_socket_that_was_there_before_is_served_and_stays(data_dir: Path, tq: Tq) -> None:
    place = data_dir / "tq.sock"
    with subprocess.Popen([sys.executable, "-c", _ACTIVATE, str(place)], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "listens\n"
        inode = place.stat().st_ino
        done = tq("run", "--", "echo", "activated")  # the first client is what starts it
        assert (done.returncode, done.stdout) == (0, "activated\n"), done.stderr
        status = json.loads(tq("daemon", "status", "--json").stdout)
        assert (status["pid"], status["supervised"]) == (process.pid, True)
        assert tq("daemon", "stop").returncode == 0
        assert process.wait(20) == 0
    assert place.stat().st_ino == inode
    assert processes_of(data_dir) == []


def test_a_socket_that_a_manager_keeps_is_not_taken_from_it(data_dir: Path, tq: Tq) -> None:
    with socket.socket(socket.AF_UNIX) as kept:
        kept.bind(str(data_dir / "tq.sock"))
        kept.listen()
        inode = (data_dir / "tq.sock").stat().st_ino
        refused = tq("daemon", "start", "--workers", "0")
        assert (refused.returncode, "one that a service manager keeps" in refused.stderr) == (2, True), refused.stderr
        assert (data_dir / "tq.sock").stat().st_ino == inode
    assert tq("daemon", "start", "--workers", "0").returncode == 0  # nobody listens there any more
    assert tq("daemon", "stop").returncode == 0

"""Who may run an instance, who may enter it, and what can be seen of it from outside (T19, and security of the local face)."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import socket
import stat
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.campaign.instances import SUITE
from tests.campaign.suite import apart
from tests.living import processes_of
from tq.client import Client
from tq.errors import DaemonNotRunning

pytestmark = [pytest.mark.flow, pytest.mark.slow, pytest.mark.timeout(300)]

NOBODY = 65534
CANARY = "canary-7f3a9c1e"
ROOT_ALONE = pytest.mark.skipif(os.geteuid() != 0, reason="only root becomes another user")
Tq = Callable[..., subprocess.CompletedProcess[str]]


# one daemon a directory


def test_of_four_daemons_started_at_once_one_runs_whatever_was_left_there() -> None:
    report = apart(SUITE, random.randrange(1, 1 << 32), SUITE.in_tests)
    assert (report.violations, report.cycles) == ([], SUITE.in_tests)


def test_a_planted_bug_is_caught() -> None:
    assert apart(SUITE, 1, 1, "lock_ignored").violations


def test_a_second_start_harms_the_first_in_nothing(tq: Tq, daemon: Callable[..., Any], data_dir: Path) -> None:
    one = daemon(workers=1)
    with Client(data_dir) as client:
        running = client.status()
        for words in (["daemon", "start"], ["daemon", "start", "--foreground"]):
            done = tq(*words)
            assert (done.returncode, f"another daemon (pid {one.pid})" in done.stderr) == (69, True), done.stderr
        assert {**client.status(), "connections": 1} == {**running, "connections": 1}
    assert tq("add", "--wait", "--", "true").returncode == 0


@pytest.mark.parametrize("thief", ["removed", "file", "listener"])
def test_a_stolen_socket_is_not_the_daemons_end_nor_a_second_ones_beginning(
    tq: Tq, daemon: Callable[..., Any], data_dir: Path, thief: str
) -> None:
    """Who can write the directory can take the socket; the lock still says who runs, and the doctor what to do."""
    one = daemon(workers=0)
    path = data_dir / "tq.sock"
    path.unlink()
    listener = socket.socket(socket.AF_UNIX)
    if thief == "file":
        path.write_text("")
    elif thief == "listener":
        listener.bind(str(path))
        listener.listen(8)
        path.chmod(0o600)
        listener.settimeout(0.01)
    else:
        with pytest.raises(DaemonNotRunning), Client(data_dir) as client:
            client.status()
    done = tq("daemon", "start")
    assert (done.returncode, f"pid {one.pid}" in done.stderr) == (69, True), done.stderr
    listener.close()
    told = tq("doctor")
    assert (told.returncode, f"pid {one.pid} holds the directory but does not answer" in told.stdout) == (1, True), told.stdout
    assert one.stop() == 0
    one.start()
    assert tq("daemon", "status").returncode == 0


# directories that are no place for one


def linked(where: Path) -> Path:
    (where / "real").mkdir(mode=0o700)
    (where / "link").symlink_to(where / "real")
    return where / "link"


def open_to_all(where: Path) -> Path:
    (where / "open").mkdir()
    (where / "open").chmod(0o777)
    return where / "open"


def of_another(where: Path) -> Path:
    (where / "theirs").mkdir(mode=0o700)
    os.chown(where / "theirs", NOBODY, NOBODY)
    return where / "theirs"


def linked_store(where: Path) -> Path:
    (where / "elsewhere").mkdir()
    (where / "inst").mkdir(mode=0o700)
    (where / "inst" / "lock").symlink_to(where / "elsewhere" / "precious")
    return where / "inst"


@pytest.mark.parametrize(("make", "word"), [
    (linked, "symbolic link"), (open_to_all, "chmod 700"), (linked_store, "lock"),
    pytest.param(of_another, f"user {NOBODY}", marks=ROOT_ALONE),
])  # fmt: skip
def test_a_directory_that_others_could_reach_into_is_refused_and_left_as_it_is(
    tq: Tq, data_dir: Path, make: Callable[[Path], Path], word: str
) -> None:
    where = make(data_dir)
    before = sorted(str(path) for path in data_dir.rglob("*"))
    done = tq("--data-dir", str(where), "daemon", "start")
    assert done.returncode in (1, 2), done.stderr
    assert word in done.stderr
    assert "Traceback" not in done.stderr
    assert [path for path in sorted(str(path) for path in data_dir.rglob("*")) if path not in before and "daemon.out" not in path] == []
    assert not processes_of(where)


# other users


@pytest.fixture
def as_nobody() -> Iterator[Callable[..., subprocess.CompletedProcess[str]]]:
    """Runs Python as another user, with a copy of the client that he can read."""
    place = Path(tempfile.mkdtemp(prefix="tqn-", dir="/tmp"))
    place.chmod(0o755)

    def run(code: str, *argv: object) -> subprocess.CompletedProcess[str]:
        head = f"import os, socket, sys\nos.setgroups([]); os.setgid({NOBODY}); os.setuid({NOBODY})\n"
        return subprocess.run(
            [sys.executable, "-c", head + code, *map(str, argv)], capture_output=True, text=True, cwd=place, timeout=60, check=False
        )

    yield run
    shutil.rmtree(place)


@ROOT_ALONE
def test_another_user_cannot_connect_nor_read_anything(
    daemon: Callable[..., Any], data_dir: Path, as_nobody: Callable[..., subprocess.CompletedProcess[str]]
) -> None:
    daemon(workers=1)
    code = """
def attempt(what, act):
    try:
        act()
        print(what, "WORKED")
    except PermissionError:
        print(what, "refused")
where = sys.argv[1]
attempt("list", lambda: os.listdir(where))
attempt("connect", lambda: socket.socket(socket.AF_UNIX).connect(where + "/tq.sock"))
for name in ("store/data.mdb", "daemon.log", "lock", "logs", "run"):
    attempt(name, lambda: os.open(where + "/" + name, os.O_RDONLY))
"""
    done = as_nobody(code, data_dir)
    lines = done.stdout.splitlines()
    assert len(lines) == 7, done.stderr
    assert [line for line in lines if not line.endswith("refused")] == []


@ROOT_ALONE
def test_another_user_who_gets_to_the_socket_is_turned_away_by_name(
    daemon: Callable[..., Any], data_dir: Path, as_nobody: Callable[..., subprocess.CompletedProcess[str]]
) -> None:
    """The modes are one wall; the credentials of the connection are another."""
    daemon(workers=0)
    data_dir.chmod(0o755)
    (data_dir / "tq.sock").chmod(0o666)
    code = """
one = socket.socket(socket.AF_UNIX)
one.connect(sys.argv[1] + "/tq.sock")
data = b""
while piece := one.recv(4096):
    data += piece
print(data)
"""
    done = as_nobody(code, data_dir)
    assert "not_allowed" in done.stdout, done.stdout + done.stderr
    assert f"expected user {os.geteuid()}, got user {NOBODY}" in done.stdout
    with Client(data_dir) as client:
        assert client.status()["connections"] == 1


def test_every_file_of_an_instance_is_its_owners_alone(tq: Tq, daemon: Callable[..., Any], data_dir: Path, tmp_path: Path) -> None:
    old = os.umask(0)  # as careless as it gets
    try:
        one = daemon(workers=1, slots=2)
        assert tq("add", "--wait", "--", "sh", "-c", "echo out; touch made; umask").returncode == 0
        assert tq("backup", tmp_path / "copy").returncode == 0
        assert tq("compact").returncode == 0
        one.stop()
        assert tq("restore", tmp_path / "copy").returncode == 0
        one.start()
        assert tq("add", "--wait", "--", "true").returncode == 0
        one.kill()
        assert tq("daemon", "start").returncode == 0
        assert tq("verify").returncode == 0
    finally:
        os.umask(old)
        for path in Path().glob("made"):
            path.unlink()
    found = [path for root in (data_dir, tmp_path / "copy") for path in (root, *root.rglob("*"))]
    assert len(found) > 12
    wide = [f"{path} {stat.S_IMODE(path.lstat().st_mode):04o}" for path in found if stat.S_IMODE(path.lstat().st_mode) & 0o077]
    assert wide == []
    assert tq("daemon", "stop").returncode == 0


# what can be seen


def visible(data_dir: Path) -> dict[str, bytes]:
    """What the processes of an instance show to everybody, and what lies in its files beside the store and the output."""
    found: dict[str, bytes] = {}
    for process in [*processes_of(data_dir)]:
        for name in ("cmdline", "comm", "status"):
            found[f"{process.pid} {name}"] = Path(f"/proc/{process.pid}/{name}").read_bytes()
    for path in data_dir.rglob("*"):
        if path.is_file() and "store" not in path.parts and path.relative_to(data_dir).parts[0] != "logs":
            found[str(path.relative_to(data_dir))] = path.read_bytes()
    return found


def test_a_secret_in_a_payload_is_seen_in_no_log_and_no_list_of_processes(
    tq: Tq, daemon: Callable[..., Any], data_dir: Path, tmp_path: Path, until: Any
) -> None:
    app = tmp_path / "app.py"
    app.write_text(
        "import os\nimport time\nimport tq\n\n@tq.task\ndef good(secret: str) -> str:\n"
        f"    while not os.path.exists({str(tmp_path / 'gate')!r}):\n        time.sleep(0.02)\n    return secret\n\n"
        "@tq.task(retries=0)\ndef bad(secret: str) -> None:\n    raise ValueError('it was ' + secret)\n"
    )
    daemon(app=app, workers=1, log_level="debug")
    payload = json.dumps({"secret": CANARY})
    assert tq("enqueue", "--type", "bad", "--payload", "-", "--wait", input=payload).returncode == 1
    task = tq("enqueue", "--type", "good", "--payload", "-", input=payload).stdout.strip()
    with Client(data_dir) as client:
        until(lambda: client.get(int(task))["state"] == "running")
    while_it_runs = visible(data_dir)
    (tmp_path / "gate").touch()
    assert tq("wait", task).returncode == 0
    assert tq("enqueue", "--type", "good", "--payload", "-", input=payload.replace("secret", "wrong_name"), timeout=60).returncode == 0
    assert tq("enqueue", "--type", "nobody-knows", "--payload", "-", input=payload).returncode == 2
    assert tq("doctor").returncode == 0
    seen = {**while_it_runs, **visible(data_dir)}
    assert len([name for name in seen if name.endswith("cmdline")]) >= 2
    assert [name for name, data in seen.items() if CANARY.encode() in data] == []
    assert CANARY in tq("result", task).stdout  # who may ask gets it


def test_a_daemon_that_is_killed_by_a_bug_leaves_no_core_with_payloads(data_dir: Path, tq: Tq) -> None:
    """The limit is the daemon's own: it lowers what it was started with."""
    script = f"cd {data_dir} && ulimit -c unlimited 2>/dev/null; exec {sys.executable} -m tq --data-dir {data_dir} daemon start --workers 1"
    done = subprocess.run(["bash", "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    with Client(data_dir) as client:
        pid = client.status()["pid"]
        client.enqueue("t", CANARY, allow_unknown=True)
    line = next(line for line in Path(f"/proc/{pid}/limits").read_text().splitlines() if line.startswith("Max core file size"))
    assert line.split()[4] == "0"
    process = psutil.Process(pid)
    os.kill(pid, signal.SIGSEGV)
    psutil.wait_procs([process], 10)
    assert [path.name for path in data_dir.iterdir() if path.name.startswith("core")] == []
    assert tq("daemon", "start").returncode == 0  # what was killed is taken up
    assert tq("daemon", "stop", "--now").returncode == 0

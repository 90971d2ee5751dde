"""Bad input, from end to end: each mistake gets one clear line and its exit code, and costs nobody else anything."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lmdb
import pytest

from tq import wire
from tq.client import Client
from tq.config import prepare_data_dir
from tq.errors import ConfigError

pytestmark = pytest.mark.flow

Tq = Callable[..., subprocess.CompletedProcess[str]]
APP = "import tq\n\n@tq.task\ndef add(a: int, b: int = 0) -> int:\n    return a + b\n"
OFF = {"TQ_AUTOSTART": "0"}


@pytest.fixture
def app(tmp_path: Path) -> Path:
    path = tmp_path / "app.py"
    path.write_text(APP)
    return path


def refused(done: subprocess.CompletedProcess[str], code: int, *says: str, lines: int = 1) -> None:
    """It left with ``code``, nothing on stdout, and ``lines`` lines of words that say all of this."""
    assert (done.returncode, done.stdout) == (code, ""), done.stderr
    assert len(done.stderr.splitlines()) == lines, done.stderr
    for words in says:
        assert re.search(words, done.stderr), (words, done.stderr)


def test_what_a_running_daemon_is_asked_wrongly(daemon: Callable[..., Any], tq: Tq, data_dir: Path, app: Path) -> None:
    one = daemon(app=app, workers=1)
    kept = tq("enqueue", "--type", "add", "--payload", '{"a": 1}', "--in", "1h")
    assert kept.stdout == "1\n"
    refused(tq("enqueue", "--type", "ad"), 2, r"\(add, shell\), got 'ad'\. Did you mean 'add'\?", "--allow-unknown")
    refused(tq("enqueue", "--type", "add", "--payload", '{"a": 1,}'), 2, "expected JSON", "line 1 column [89]")  # 3.13 points at the comma
    batch = '{"type":"add","payload":{"a":1}}\n{"type":"add","payload":{"a":}}\n'
    half = tq("enqueue", "--batch", "-", input=batch)  # what stands before the bad line is stored, and its ids are printed
    assert (half.returncode, half.stdout) == (2, "2\n")
    assert re.search("line 2.*column 30.*are stored", half.stderr, re.DOTALL), half.stderr
    refused(tq("enqueue", "--type", "add", "--payload", "-", input=f'"{"x" * 270_000}"'), 2, "at most 262144 bytes, got 270005")
    refused(tq("enqueue", "--type", "add", "--payload", f"@{data_dir}/none"), 2, "No such file")
    refused(tq("enqueue", "--type", "add", "--label", "ü" * 101), 2, "200 bytes")
    for verb in ("status", "show", "result", "wait", "log", "cancel"):
        refused(tq(verb, "99"), 66, r"\b99\b", "tq list")
    refused(tq("status", "abc"), 2, "'abc'")
    second = subprocess.run(
        [sys.executable, "-m", "tq.daemon", "--data-dir", str(data_dir)], capture_output=True, text=True, timeout=60, check=False
    )
    refused(second, 69, f"another daemon \\(pid {one.pid}\\) holds this directory")
    assert "scheduled" in tq("status", "1").stdout
    with Client(data_dir) as client:
        assert client.status()["last_id"] == 2  # nothing else of all that was stored


def test_an_application_that_cannot_be_used_stops_the_start_and_a_restart_keeps_the_old_workers(tq: Tq, data_dir: Path, app: Path) -> None:
    wrong = {
        "import nothing_of_that_name\n": ("Traceback", "app.py., line 1", "No module named 'nothing_of_that_name'"),
        "import tq\ntq.task('five')(5)\n": ("expected a function to make a task of, got 5",),
        "def broken(:\n": ("SyntaxError", "line 1"),
        "import os\nos._exit(3)\n": ("exit code 3|before its hello|end",),
    }
    for text, says in wrong.items():
        app.write_text(text)
        done = tq("daemon", "start", "--app", str(app), "--workers", "1")
        assert (done.returncode, done.stdout) == (2, "")
        assert f"the application {str(app)!r} cannot be used" in done.stderr
        assert all(re.search(words, done.stderr) for words in says), done.stderr
        assert not (data_dir / wire.SOCKET).exists()
    app.write_text(APP)
    started = tq("daemon", "start", "--app", str(app), "--workers", "1")
    assert started.returncode == 0, started.stderr
    with Client(data_dir) as client:
        before = client.status()
        app.write_text("import nothing_of_that_name\n")
        done = tq("daemon", "restart")
        assert done.returncode == 2
        assert "No module named 'nothing_of_that_name'" in done.stderr
        assert client.status()["boot"] == before["boot"]
        task = client.enqueue("add", {"a": 2, "b": 3})
        assert task.result(20) == 5
    assert tq("daemon", "stop").returncode == 0


def test_without_a_daemon_and_without_autostart_it_says_so(tq: Tq, data_dir: Path) -> None:
    for argv in (["status", "1"], ["add", "--", "true"], ["enqueue", "--type", "x"], ["stats"], ["daemon", "stop"], ["wait", "1"]):
        refused(tq(*argv, env=OFF), 69, "nobody answers", "tq daemon start")
    assert os.listdir(data_dir) == []


def test_a_directory_that_others_could_write_is_not_used(tq: Tq, data_dir: Path) -> None:
    data_dir.chmod(0o777)
    refused(tq("add", "--", "true"), 2, "mode 0777", "chmod 700")
    data_dir.chmod(0o700)
    link = data_dir / "link"
    link.symlink_to(data_dir)
    refused(tq("--data-dir", str(link), "add", "--", "true"), 2, "symbolic link")
    assert os.listdir(data_dir) == ["link"]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a directory away")
def test_a_directory_of_another_user_is_not_used(tq: Tq, data_dir: Path) -> None:
    os.chown(data_dir, 12345, 12345)
    refused(tq("add", "--", "true"), 2, "one of user 12345")
    os.chown(data_dir, 0, 0)


def test_a_path_that_is_too_long_for_a_socket_is_refused(tq: Tq, data_dir: Path) -> None:
    long = data_dir / ("x" * 100)
    for argv in (["add", "--", "true"], ["status", "1"], ["daemon", "start"]):
        refused(tq("--data-dir", str(long), *argv), 2, "at most 107 bytes, got 1", "--data-dir")
    assert not long.exists()


def test_a_network_file_system_is_refused_unless_one_knows_better(data_dir: Path, tmp_path: Path) -> None:
    mounts = tmp_path / "mountinfo"
    for kind in ("nfs4", "cifs", "fuse.sshfs", "9p"):
        mounts.write_text(f"1 0 0:1 / / rw - ext4 /dev/a rw\n2 1 0:2 / {data_dir} rw,noatime - {kind} host:/x rw\n")
        with pytest.raises(ConfigError, match=f"local file system, got {re.escape(kind)}"):
            prepare_data_dir(data_dir, {}, str(mounts))
        assert prepare_data_dir(data_dir, {"TQ_ALLOW_NETWORK_FS": "1"}, str(mounts)) == data_dir


def test_a_damaged_a_foreign_and_a_newer_data_file_are_left_as_they_are(daemon: Callable[..., Any], tq: Tq, data_dir: Path) -> None:
    one = daemon(workers=1)
    assert tq("add", "--in", "1h", "--", "true").stdout == "1\n"
    one.stop()
    file = data_dir / "store" / "data.mdb"
    sound = file.read_bytes()
    for data, says in ((os.urandom(20_000), "expected an LMDB"), (b"", "found none"), (b"\0" * len(sound), "expected an LMDB")):
        file.write_bytes(data)
        refused(tq("add", "--", "true"), 1, says, "[Rr]estore a backup|--data-dir")
        refused(tq("daemon", "start"), 1, says)
        assert file.read_bytes() == data
    file.write_bytes(sound)
    with lmdb.open(str(data_dir / "store"), max_dbs=20, map_size=1 << 30) as env, env.begin(write=True) as txn:
        txn.put(b"format", b"99", db=env.open_db(b"meta", txn=txn))
    newer = file.read_bytes()
    refused(tq("add", "--", "true"), 1, r"store format \d+ or older, got 99", "Use the tq that wrote it")
    assert file.read_bytes() == newer
    file.write_bytes(sound)
    one.restart()
    assert "scheduled" in tq("status", "1").stdout


def test_clients_that_do_not_keep_to_the_protocol_are_their_own_trouble(daemon: Callable[..., Any], data_dir: Path, app: Path) -> None:
    one = daemon(app=app, workers=1)

    def talk(data: bytes) -> list[Any]:
        """What a raw client is answered until the daemon ends the connection, after our last word."""
        with socket.socket(socket.AF_UNIX) as raw:
            raw.settimeout(20)
            raw.connect(str(data_dir / wire.SOCKET))
            raw.sendall(data)
            raw.shutdown(socket.SHUT_WR)
            frames = wire.Frames()
            try:
                while piece := raw.recv(65536):
                    frames.feed(piece)
            except ConnectionResetError:
                pass  # closed with bytes of ours unread
            return [wire.message(body) for body in frames.take()]

    hello = wire.frame([1, "hello", {"protocol": 1}])
    asked = [
        ("get", {"ids": [1]}, "hello as the first"), ("hello", {"protocol": 99}, "expected protocol 1, got 99"),
        ("hello", {"protocol": 1, "nonce": b"x"}, "8 bytes"), ("hello", {}, "got None"),
    ]  # fmt: skip
    for verb, args, says in asked:
        ((number, kind, (code, text, _)),) = talk(wire.frame([1, verb, args]))
        assert (number, kind, code) == (1, wire.ERROR, "protocol")
        assert says in text
    wrong: list[tuple[str, dict[str, Any], str]] = [
        ("enqeue", {}, "Did you mean 'enqueue'?"), ("watch", {"topics": 5}, "topics: expected list"),
        ("watch", {"topics": ["output"]}, "one id"), ("watch", {"topics": ["output"], "ids": [1]}, "expected a task's id"),
        ("log", {"id": -(1 << 63)}, "which is not"), ("log", {"id": (1 << 64) - 1}, "which is not"), ("log", {"id": "1"}, "task number"),
        ("log", {}, "task number"), ("set_log", {"level": ["info"]}, "expected debug"), ("enqueue", {"tasks": 5}, "tasks: expected list"),
        ("enqueue", {"tasks": [["add", b"", {"extras": {"a": 1}, "delay_ms": -1}]]}, "delay_ms"),
        ("get", {b"ids": [1]}, "expected the arg"),
    ]  # fmt: skip
    answers = talk(hello + b"".join(wire.frame([n, verb, args]) for n, (verb, args, _) in enumerate(wrong, 2)))
    said = {number: what for number, _, what in answers}
    for number, (verb, _, says) in enumerate(wrong, 2):
        assert says in said[number][1], (verb, said[number])
    garbage = (hello + os.urandom(50), b"GET / HTTP/1.1\r\n\r\n", b"\xff" * 4, b"", hello[:5], hello + b"\0\0\0\1")
    for data in garbage:
        assert all(kind != wire.ERROR or what[0] == "protocol" for _, kind, what in talk(data))
    answers = talk(hello + wire.frame([2, "enqueue", {"tasks": [["add", b"\x92\x01\x02", None]]}]) + wire.frame([3, "wait", {"ids": [1]}]))
    assert [(number, kind) for number, kind, _ in answers] == [(1, 0), (2, 0), (3, 0)]  # its last word was said before the answer
    assert answers[2][2]["tasks"][0]["state"] == "succeeded"
    with Client(data_dir) as client:
        assert client.enqueue("add", {"a": 1, "b": 1}).result(20) == 2
        assert client.status()["pid"] == one.pid
        assert client.status()["connections"] == 1


def test_a_client_that_never_reads_is_closed_and_the_others_are_answered(daemon: Callable[..., Any], data_dir: Path, app: Path) -> None:
    one = daemon(app=app, workers=1)
    with Client(data_dir) as client, socket.socket(socket.AF_UNIX) as rude:
        ids = client.enqueue_many([("add", {"a": "x" * 200_000, "b": n}, {"delay": "1h"}) for n in range(4)])
        rude.settimeout(20)
        rude.connect(str(data_dir / wire.SOCKET))
        rude.sendall(wire.frame([1, "hello", {"protocol": 1}]))

        def ask(number: int) -> None:
            rude.sendall(wire.frame([number, "get", {"ids": list(ids)}]))
            assert client.status()["pid"] == one.pid

        with pytest.raises((BrokenPipeError, ConnectionResetError)):
            any(map(ask, range(2, 500)))
        assert client.cancel(ids) == ["cancelled"] * 4

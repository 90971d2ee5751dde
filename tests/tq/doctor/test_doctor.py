"""The doctor names what is wrong, and what to do: each check is made to complain, and none does about a sound instance."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from tq import doctor
from tq.config import check_data_dir
from tq.doctor import CHECKS, Finding, clock, examine, fill, limits, memory, room, sights, wrong_versions
from tq.model import Header
from tq.store import Draft, Event
from tq.store.files import Lock
from tq.store.lmdb import LmdbStore

MIB = 1 << 20
NOW = 1_800_000_000_000
ENV = {"HOME": "/nowhere", "XDG_CONFIG_HOME": "/nowhere"}


@pytest.fixture
def where(data_dir: Path) -> Path:
    store = LmdbStore(data_dir / "store")
    store.begin(NOW - 1000)
    store.enqueue([Draft(Header("mail"), b"x")])
    store.commit()
    store.close()
    Lock(data_dir).close()
    return data_dir


def found(where: Path, check: str, environ: Mapping[str, str] = ENV, now: int = NOW) -> list[Finding]:
    return [one for one in examine(where, now, environ) if one.check == check]


def only(where: Path, check: str, environ: Mapping[str, str] = ENV, now: int = NOW) -> Finding:
    (one,) = found(where, check, environ, now)
    return one


def test_a_sound_instance_has_nothing_wrong_and_every_check_says_something(where: Path) -> None:
    findings = examine(where, NOW, ENV)
    assert [one for one in findings if one.level == "wrong"] == []
    assert list(dict.fromkeys(one.check for one in findings)) == list(CHECKS)


def test_looking_changes_nothing(where: Path) -> None:
    def state() -> dict[str, tuple[int, int, bytes]]:
        paths = [path for path in where.rglob("*") if path.is_file() and path.name not in ("lock", "lock.mdb")]
        return {str(path): (path.stat().st_mode, path.stat().st_mtime_ns, path.read_bytes()) for path in paths}

    before = state()
    examine(where, NOW, ENV)
    assert state() == before


def test_a_directory_that_is_not_there_yet_is_not_made(tmp_path: Path) -> None:
    findings = examine(tmp_path / "a" / "b", NOW, ENV)
    assert [one for one in findings if one.level == "wrong"] == []
    assert "not there yet" in only(tmp_path / "a" / "b", "directory").found
    assert not (tmp_path / "a").exists()


# the place


def test_a_directory_that_a_daemon_would_refuse_is_refused(where: Path, tmp_path: Path) -> None:
    where.chmod(0o777)
    assert "chmod 700" in only(where, "directory").found
    where.chmod(0o700)
    (tmp_path / "link").symlink_to(where)
    assert "got a symbolic link" in only(tmp_path / "link", "directory").found
    assert {only(tmp_path / "link", "directory").level, only(where, "directory").level} == {"wrong", "ok"}


@pytest.mark.parametrize(("kind", "options", "level", "word"), [
    ("ext4", "rw", "ok", "on ext4"), ("tmpfs", "rw", "note", "memory"), ("overlay", "rw", "note", "container"),
    ("ext4", "rw,nobarrier", "wrong", "without barriers"), ("nfs4", "rw", "wrong", "expected a local file system, got nfs4"),
])  # fmt: skip
def test_the_file_system_is_judged(
    where: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, options: str, level: str, word: str
) -> None:
    device = os.stat(where).st_dev
    mounts = tmp_path / "mountinfo"
    mounts.write_text(f"1 0 {os.major(device)}:{os.minor(device)} / / rw,relatime - {kind} /dev/x {options}\n")
    look = sights.file_system_of
    monkeypatch.setattr(sights, "file_system_of", lambda where: look(where, str(mounts)))
    monkeypatch.setattr(doctor, "check_data_dir", lambda where, environ: check_data_dir(where, environ, str(mounts)))
    one = only(where, "directory")
    assert (one.level, word in one.found) == (level, True), one


def test_files_that_others_may_read_or_own_are_named_with_the_command_that_mends_them(where: Path) -> None:
    (where / "store" / "data.mdb").chmod(0o644)
    (where / "logs").mkdir(0o755)
    (where / "logs").chmod(0o755)
    (where / "run").symlink_to("/tmp")
    advice = {one.advice for one in found(where, "modes") if one.level == "wrong"}
    assert advice == {f"chmod go-rwx {where}/store/data.mdb", f"chmod go-rwx {where}/logs", "Put what it points to in its place."}
    for words in advice:
        if words.startswith("chmod"):
            subprocess.run(words.split(), check=True)
    (where / "run").unlink()
    assert only(where, "modes").level == "ok"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
def test_a_file_of_another_user_is_named(where: Path) -> None:
    os.chown(where / "store" / "data.mdb", 12345, -1)
    assert "belongs to user 12345" in only(where, "modes").found


@pytest.mark.parametrize(("free", "inodes", "of", "level"), [
    (1 << 40, 1 << 20, 1 << 24, "ok"), (1 << 40, 1 << 17, 1 << 24, "note"),
    (1 << 40, 1 << 22, 1 << 24, "ok"), (10 * MIB, 1 << 22, 1 << 24, "wrong"),
    (300 * MIB, 0, 0, "note"), (1 << 40, 50, 1 << 24, "wrong"), (1 << 40, 0, 0, "ok"), (1 << 40, 0, 1000, "wrong"),
])  # fmt: skip
def test_room_is_judged_by_bytes_and_by_inodes(free: int, inodes: int, of: int, level: str) -> None:
    assert room(free, inodes, of)[0] == level


def test_settings_that_cannot_be_used_are_wrong_and_say_where(where: Path) -> None:
    (where / "tq.toml").write_text("workerz = 3\n")
    one = only(where, "settings")
    assert (one.level, "Did you mean 'workers'" in one.found) == ("wrong", True)
    (where / "tq.toml").write_text("workers = 3\n")
    assert "workers" in only(where, "settings").found
    assert "TQ_SLOTS" in only(where, "settings", {**ENV, "TQ_SLOTS": "2"}).found


# the daemon


def test_a_killed_daemons_socket_and_pages_are_no_alarm(where: Path) -> None:
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(where / "tq.sock"))
    (where / "tq.sock").chmod(0o600)
    (where / "run").mkdir(0o700)
    (where / "run" / "w1.board").write_bytes(b"")
    assert "it was killed" in only(where, "daemon").found
    assert "1 workers' pages" in only(where, "leftovers").found
    assert [one for one in examine(where, NOW, ENV) if one.level == "wrong"] == []


def test_who_holds_the_directory_and_does_not_answer_is_named(where: Path) -> None:
    code = "import sys, time, pathlib; from tq.store.files import Lock\nlock = Lock(pathlib.Path(sys.argv[1]))\n"
    code += "print(1, flush=True); time.sleep(60)"
    with subprocess.Popen([sys.executable, "-c", code, where], stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        holder.stdout.readline()
        one = only(where, "daemon")
        holder.kill()
    assert (one.level, f"pid {holder.pid} holds the directory" in one.found) == ("wrong", True)
    assert "loses no accepted task" in one.advice


@pytest.mark.flow
def test_a_running_daemon_is_asked(where: Path, daemon: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    app = tmp_path / "app.py"
    app.write_text("import tq\n@tq.task\ndef one() -> None: ...\n")
    one = daemon(app=app, workers=1)
    assert f"runs: pid {one.pid}" in only(where, "daemon").found
    assert [bad for bad in examine(where, int(time.time() * 1000), ENV) if bad.level == "wrong"] == []
    assert "imports" in only(where, "application").found
    app.write_text("import no_such_thing\n")
    broken = only(where, "application")
    assert (broken.level, "no_such_thing" in broken.found) == ("wrong", True)
    monkeypatch.setattr(doctor, "__version__", "99")
    assert [one.advice for one in found(where, "daemon") if one.level == "note"] == ["tq daemon restart"]
    (where / "lock").unlink()
    assert "does not hold the directory" in only(where, "daemon").found
    monkeypatch.setattr(sights, "ANSWER_WITHIN", 0.2)
    os.kill(one.pid, signal.SIGSTOP)
    try:
        assert sights.Scene(where, NOW, ENV).status is None
    finally:
        os.kill(one.pid, signal.SIGCONT)


def test_an_application_that_does_not_import_is_shown_without_a_daemon(where: Path, tmp_path: Path) -> None:
    app = tmp_path / "app.py"
    app.write_text("1 / 0\n")
    (where / "tq.toml").write_text(f'app = "{app}"\n')
    one = only(where, "application")
    assert (one.level, "ZeroDivisionError" in one.found) == ("wrong", True)
    app.write_text("import tq\n")
    assert only(where, "application").level == "ok"


def test_errors_in_the_log_are_counted_and_the_last_is_shown_clean(where: Path) -> None:
    lines = [
        '{"at": "then", "level": "info", "event": "fine"}',
        "half a line",
        '{"at": "now", "level": "error", "event": "bad", "why": "\\u001b[1m"}',
    ]
    (where / "daemon.log").write_text("\n".join(lines) + "\n")
    one = only(where, "log")
    assert (one.level, one.found.startswith("1 errors")) == ("note", True)
    assert "\x1b" not in one.found


# the store


def test_a_damaged_store_is_told_and_nothing_else_opens_it(where: Path) -> None:
    os.truncate(where / "store" / "data.mdb", 4 * 4096)
    levels = {one.check: one.level for one in examine(where, NOW, ENV)}
    assert levels["store"] == "wrong"
    assert {levels["readers"], levels["clock"], levels["directory"]} == {"ok"}
    assert "tq restore" in found(where, "store")[-1].advice


@pytest.mark.parametrize(("size", "live", "level", "word"), [
    (10 * MIB, MIB, "ok", "records"), (100 * MIB, 10 * MIB, "note", "tq compact"), (980 * MIB, 970 * MIB, "wrong", "refused"),
    (900 * MIB, 800 * MIB, "note", "map_size"),
])  # fmt: skip
def test_a_store_that_is_nearly_full_or_mostly_free_is_named(size: int, live: int, level: str, word: str) -> None:
    judged = fill(size, live, 1024 * MIB)
    assert (judged[0], word in judged[1] + judged[2]) == (level, True)


def test_a_dead_reader_is_named(where: Path) -> None:
    keep = LmdbStore(where / "store")  # the first to open a store alone clears its table of readers
    code = "import sys, os, pathlib; from tq.store.files import open_store\nenv, _ = open_store(pathlib.Path(sys.argv[1]), readonly=True)\n"
    dead = subprocess.Popen([sys.executable, "-c", code + "txn = env.begin(); os.kill(os.getpid(), 9)", where / "store"])
    dead.wait(30)
    code = "import sys, pathlib; from tq.doctor import examine; print(*examine(pathlib.Path(sys.argv[1]), 0, {}))"
    told = subprocess.run([sys.executable, "-c", code, where], capture_output=True, text=True, check=True).stdout
    keep.close()
    assert f"readers that are dead pin pages of the store: pid {dead.pid}" in told


def test_what_lies_beside_the_store_and_foreign_output_are_named(where: Path) -> None:
    (where / "store.before-then").mkdir()
    (where / "store.before-then" / "data.mdb").write_bytes(b"x" * MIB * 3)
    (where / "logs" / "0").mkdir(parents=True)
    (where / "logs" / "0" / "77.head").write_bytes(b"")
    beside, output = found(where, "leftovers")
    assert (beside.level, "3 MiB" in beside.found, beside.advice) == (
        "note",
        True,
        f"Remove it when you no longer need it: rm -r {where}/store.before-then",
    )
    assert "output of task 77, but the store's last is 1" in output.found


def test_the_clock_is_held_against_what_is_stored(where: Path) -> None:
    store = LmdbStore(where / "store")
    store.begin(NOW + 3_600_000)
    store.note(Event(0, NOW + 3_600_000, "tq", "tested", "clock"))
    store.commit()
    store.close()
    one = only(where, "clock")
    assert (one.level, "3,600 s from now" in one.found) == ("wrong", True)
    assert only(where, "clock", now=NOW + 3_600_001).level == "ok"
    assert clock(NOW, NOW, 90_000)[:2] == ("note", "the clock was set forward by 90 s since the daemon was started")
    assert clock(NOW, NOW, -90_000)[:2] == ("note", "the clock was set back by 90 s since the daemon was started")


# the surroundings


def test_versions_that_tq_is_not_made_for_are_named() -> None:
    sound = {"python": (3, 12, 1), "lmdb": (3, 0, 0), "msgpack": (1, 2, 4)}
    assert list(wrong_versions(sound)) == []
    for name, version in (("python", (3, 10, 9)), ("lmdb", (2, 3, 0)), ("lmdb", (4, 0)), ("msgpack", (1, 0, 8))):
        (one,) = wrong_versions({**sound, name: version})
        assert (one[0], f"expected {name}" in one[1]) == ("wrong", True)
    assert {name: sound[name][:1] for name in sound} == {name: version[:1] for name, version in sights.versions().items()}


def test_limits_of_the_system_are_held_against_what_is_needed() -> None:
    none: dict[str, int | None] = {"files": None, "processes": None, "file_size": None, "address_space": None}
    assert list(limits(none, 4, 1024, 64 << 30)) == []
    cases: list[tuple[str, int, str, str]] = [
        ("files", 100, "wrong", "LimitNOFILE"), ("files", 1000, "note", "max_connections"), ("processes", 3, "wrong", "TasksMax"),
        ("file_size", MIB, "note", "ulimit -f"), ("address_space", 1 << 30, "wrong", "map_size"),
    ]  # fmt: skip
    for name, value, level, word in cases:
        (one,) = limits({**none, name: value}, 4, 1024, 64 << 30)
        assert (one[0], word in one[2]) == (level, True)


@pytest.mark.skipif(not Path("/proc/self/limits").exists(), reason="needs /proc")
def test_a_daemons_own_limits_are_read_not_those_of_the_command() -> None:
    code = "import resource, time; resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, 1 << 20)); print(1, flush=True); time.sleep(60)"
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) as other:
        assert other.stdout is not None
        other.stdout.readline()
        assert sights.limits_of(other.pid)["file_size"] == MIB
        other.kill()
    own = sights.limits_of(None)
    assert {name: own[name] for name in own if name != "processes"} == {
        name: value for name, value in sights.limits_of(os.getpid()).items() if name != "processes"
    }


@pytest.mark.parametrize("version", [1, 2])
def test_the_smallest_limit_of_all_control_groups_counts(tmp_path: Path, version: int) -> None:
    (tmp_path / "proc" / "7").mkdir(parents=True)
    lines = {1: "4:memory:/a/b\n0::/elsewhere\n", 2: "0::/a/b\n"}
    (tmp_path / "proc" / "7" / "cgroup").write_text(lines[version])
    top = tmp_path / "groups" / "memory" if version == 1 else tmp_path / "groups"
    name = "memory.limit_in_bytes" if version == 1 else "memory.max"
    (top / "a" / "b").mkdir(parents=True)
    (top / "a" / "b" / name).write_text("9223372036854771712\n" if version == 1 else "max\n")
    (top / "a" / name).write_text(f"{100 * MIB}\n")
    assert sights.memory_limit(7, tmp_path / "groups", tmp_path / "proc") == 100 * MIB
    (top / "a" / name).unlink()
    assert sights.memory_limit(7, tmp_path / "groups", tmp_path / "proc") is None
    assert [memory(limit, 2)[0] for limit in (None, 100 * MIB, 1 << 30)] == ["ok", "wrong", "ok"]


def program(folder: Path, text: str) -> str:
    folder.mkdir()
    (folder / "tq").write_text(text)
    (folder / "tq").chmod(0o755)
    return str(folder)


def test_another_program_called_tq_earlier_in_the_path_is_named(where: Path, tmp_path: Path) -> None:
    nq = program(tmp_path / "nq", '#!/bin/sh\nexec tail -F "${NQDIR:-.}"/,*\n')
    entry = (Path(doctor.__file__).parent.parent / "cli" / "entry").read_text()
    mine = program(tmp_path / "mine", entry)
    wrong = only(where, "path", {**ENV, "PATH": f"{nq}:{mine}"})
    assert (wrong.level, "another program" in wrong.found, mine in wrong.advice) == ("wrong", True, True)
    first, second = found(where, "path", {**ENV, "PATH": f"{mine}:{nq}"})
    assert (first.level, first.found, second.level) == ("ok", f"{mine}/tq", "note")
    assert only(where, "path", {**ENV, "PATH": "/nowhere"}).level == "note"


def test_a_check_that_cannot_be_made_is_a_finding_and_the_others_are_made(where: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def torn(place: Path) -> tuple[int, int, int]:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(sights, "free_space", torn)
    findings = examine(where, NOW, ENV)
    assert {one.check for one in findings} == set(CHECKS)
    (bad,) = [one for one in findings if one.level == "wrong"]
    assert (bad.check, "Input/output error" in bad.found) == ("space", True)

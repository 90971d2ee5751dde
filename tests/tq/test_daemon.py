"""The daemon's own part: its verbs, what a bug in one of them costs, the watchdog, and how a start ends."""

from __future__ import annotations

import math
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tq.client import Client
from tq.config import load_settings
from tq.daemon import EXIT_STORE, Daemon, Watchdog, main
from tq.daemon.verbs import now_ms
from tq.errors import ConfigError, NoSuchTask, Refused, TqError, UsageError
from tq.log import Log
from tq.model import Header, State, pack
from tq.store import Draft, NoRoom, Want
from tq.store.files import mark_copied
from tq.store.lmdb import LmdbStore

Until = Callable[..., Any]


@pytest.fixture
def running(data_dir: Path) -> Iterator[tuple[Daemon, Client]]:
    """A daemon without workers on this thread's signals, its loop on another; ended by its own verb."""
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)}
    umask = os.umask(0o077)
    one = Daemon(load_settings({"data_dir": str(data_dir), "workers": 0}, {}))
    one.start()
    thread = threading.Thread(target=one.run)
    signal.set_wakeup_fd(-1)
    client = Client(data_dir, timeout=20)
    # the loop closes what it opened on its own thread, but only the main thread may touch the wake-up descriptor
    one._loop.close = lambda: None  # type: ignore[method-assign]
    thread.start()
    yield one, client
    client.stop()
    thread.join(20)
    assert not thread.is_alive()
    assert not one._watchdog.began  # it would end the process that has outlived its daemon
    client.close()
    os.umask(umask)
    for number, handler in before.items():
        signal.signal(number, handler)


def test_a_bug_in_one_verb_is_an_error_for_who_asked_and_not_the_end(
    running: tuple[Daemon, Client], data_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, client = running

    def broken(*_: object) -> None:
        raise KeyError("a secret")

    monkeypatch.setitem(one._verbs, "workers", broken)
    with pytest.raises(TqError, match="KeyError") as caught:
        client.call("workers", {})
    assert "secret" not in str(caught.value)
    assert client.status()["draining"] is False
    assert "a secret" in (data_dir / "daemon.log").read_text()


def test_the_daemons_own_verbs_check_what_they_are_given(running: tuple[Daemon, Client]) -> None:
    _, client = running
    (task_id,) = client.call("enqueue", {"tasks": [["x", b"", {"allow_unknown": True}]]})["ids"]
    wrong: list[tuple[str, dict[str, Any], type[TqError]]] = [
        ("log", {"id": 99}, NoSuchTask), ("log", {"id": task_id, "offset": -1}, UsageError),
        ("log", {"id": task_id, "limit": 1 << 30}, UsageError),
        ("log", {"id": True}, UsageError), ("set_log", {"level": "loud"}, UsageError),
        ("watch", {"topics": ["output", "ends"]}, UsageError),
        ("watch", {"topics": ["output"], "ids": [1, 2]}, UsageError),
        ("watch", {"topics": ["output"], "ids": [task_id], "offset": -1}, UsageError),
        ("watch", {"topics": {"output": 1}}, UsageError),
    ]  # fmt: skip
    for verb, args, error in wrong:
        with pytest.raises(error):
            client.call(verb, args)
    assert client.call("log", {"id": task_id}) == {"chunks": [], "next": 0, "end": False}
    far = client.call("log", {"id": task_id, "offset": 1 << 62})
    assert (far["chunks"], far["next"]) == ([], 1 << 62)
    assert client.call("workers", {}) == {"workers": []}
    client.call("set_log", {"level": "debug"})
    assert client.status()["last_id"] == task_id


def test_one_application_check_at_a_time(running: tuple[Daemon, Client], monkeypatch: pytest.MonkeyPatch) -> None:
    one, client = running
    monkeypatch.setitem(one._checks, "w1", (12345, 1))
    with pytest.raises(Refused, match="another is under way"):
        client.call("check_app", {})
    monkeypatch.delitem(one._checks, "w1")
    assert isinstance(client.call("check_app", {}, 30)["types"], list)


def test_a_turn_that_does_not_end_is_reported(data_dir: Path, monkeypatch: pytest.MonkeyPatch, until: Until) -> None:
    monkeypatch.setattr("tq.daemon.STALL_S", 0.02)
    log = Log(data_dir, "info")
    stuck: list[int] = []
    dog = Watchdog(log, lambda: stuck.append(1))
    dog.start()
    dog.begin()
    until(lambda: "turn_stalled" in (data_dir / "daemon.log").read_text(), 10, "the report")
    assert "test_a_turn_that_does_not_end_is_reported" in (data_dir / "daemon.log").read_text()  # what the loop does meanwhile
    dog.end()
    until(lambda: not dog._awake.is_set(), 10, "the watchdog's sleep")
    assert stuck == []  # it was not long enough for that
    log.close()


def test_a_start_that_the_disk_refuses_ends_with_words_and_no_traceback(data_dir: Path) -> None:
    (data_dir / "logs").write_text("not a directory")
    argv = [sys.executable, "-m", "tq.daemon", "--foreground", "--data-dir", str(data_dir)]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == EXIT_STORE
    assert done.stderr.startswith("the daemon cannot start: ")
    assert f"{data_dir}/logs" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("room", ["never", "later"])
def test_what_ran_when_a_copy_was_made_counts_as_begun_until_that_is_stored(
    data_dir: Path, monkeypatch: pytest.MonkeyPatch, room: str
) -> None:
    store = LmdbStore(data_dir / "store")
    store.begin(1000)
    (task_id,) = store.enqueue([Draft(Header("shell", once=True), pack({"argv": ["true"]}))])
    assert store.claim(Want("w1", 1, math.inf))
    store.commit()
    store.close()
    mark_copied(data_dir / "store")

    def refuse(*_: object) -> None:
        raise NoRoom("the store has no room")

    with monkeypatch.context() as full:
        full.setattr(LmdbStore, "apply", refuse)
        with _started(data_dir) as first:
            assert first._broker.owed
            assert first._store.copied
            if room == "later":
                full.undo()
                first._turn(now_ms() + 2000)
                assert (first._broker.owed, first._store.copied) == ([], False)
    with _started(data_dir) as second:  # which finds no board of a worker that would know
        (task,) = second._store.get([task_id])
        assert task is not None
        assert (task.state, task.status.interrupts) == (State.FAILED, 1)
        assert not second._store.copied
    store = LmdbStore(data_dir / "store")
    assert not store.copied
    store.close()


@contextmanager
def _started(data_dir: Path) -> Iterator[Daemon]:
    """A daemon without workers that has started, and dies before it turns."""
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)}
    umask = os.umask(0o077)
    one = Daemon(load_settings({"data_dir": str(data_dir), "workers": 0}, {}))
    one.start()
    try:
        yield one
    finally:
        one.close()
        os.umask(umask)
        for number, handler in before.items():
            signal.signal(number, handler)


def test_a_start_that_fails_tells_whoever_waits_for_it_why_and_with_which_code(data_dir: Path, capfd: pytest.CaptureFixture[str]) -> None:
    umask = os.umask(0o077)
    for argv, code, says in (
        (["--data-dir", str(data_dir), "--workers", "-1"], ConfigError.exit_code, "workers"),
        (["--data-dir", str(data_dir / ("x" * 100))], ConfigError.exit_code, "107 bytes"),
    ):
        reader, writer = os.pipe()
        assert main([*argv, "--ready-fd", str(writer)]) == code
        assert os.read(reader, 4096).decode().startswith(f"error {code} ")
        os.close(reader)
        assert main([*argv, "--foreground"]) == code
        assert says in capfd.readouterr().err
    os.umask(umask)

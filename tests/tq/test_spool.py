"""The spool: what a command is to read is whole, private, and goes when nobody needs it."""

from __future__ import annotations

import os
import stat
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.living import wait_until
from tq import spool
from tq.client import connect
from tq.errors import UsageError
from tq.store.files import open_store

Tq = Callable[..., subprocess.CompletedProcess[str]]


def source(data: bytes) -> int:
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    os.write(writer, data)
    os.close(writer)
    return reader


def kept(data_dir: Path, data: bytes, most: int = spool.MOST) -> str:
    reader = source(data)
    try:
        return spool.keep(str(data_dir), reader, most)
    finally:
        os.close(reader)


def read(data_dir: Path, name: str) -> bytes:
    with open(spool.opened(str(data_dir), name), "rb") as file:
        return file.read()


def test_what_was_read_is_kept_whole_and_for_this_user_alone(tmp_path: Path) -> None:
    name = kept(tmp_path, b"a\0b\xff" * 5000)
    assert (read(tmp_path, name), read(tmp_path, name)) == (b"a\0b\xff" * 5000,) * 2
    modes = [stat.S_IMODE(os.stat(path).st_mode) for path in (tmp_path / "stdin", tmp_path / "stdin" / name)]
    assert (modes, spool.names(str(tmp_path))) == ([0o700, 0o600], [name])


def test_more_than_the_most_leaves_nothing(tmp_path: Path) -> None:
    assert read(tmp_path, kept(tmp_path, b"12345", 5)) == b"12345"
    with pytest.raises(UsageError, match="expected at most 5 bytes, got more"):
        kept(tmp_path, b"123456", 5)
    assert len(spool.names(str(tmp_path))) == 1


def test_what_nobody_needs_goes_once_it_is_an_hour_old(tmp_path: Path) -> None:
    needed, late, young = (kept(tmp_path, b"x") for _ in range(3))
    for name in (needed, late):
        os.utime(tmp_path / "stdin" / name, (1000, 1000))
    (tmp_path / "stdin" / "README").touch()
    assert spool.sweep(str(tmp_path), {needed}, os.stat(tmp_path / "stdin" / young).st_mtime + 5) == 1
    assert sorted(spool.names(str(tmp_path))) == sorted([needed, young])
    assert (tmp_path / "stdin" / "README").exists(), "what is no input is not ours"
    assert spool.sweep(str(tmp_path / "nowhere"), (), 0.0) == 0


@pytest.mark.parametrize("name", ["", "../lock", "x" * 33, "é" * 32, "/" * 32, 3, None])
def test_a_name_leads_nowhere_else(name: Any, tmp_path: Path) -> None:
    (tmp_path / "lock").touch()
    (tmp_path / "stdin").mkdir()
    assert not spool.is_input(name)
    spool.forget(str(tmp_path), name)
    assert (tmp_path / "lock").exists()


@pytest.mark.flow
def test_each_attempt_reads_its_input_from_the_beginning_and_it_goes_with_the_task(tq: Tq, data_dir: Path, tmp_path: Path) -> None:
    assert tq("daemon", "start", "--workers", "1").returncode == 0
    script = 'cat; test "$TQ_ATTEMPT" -ge 3'
    done = tq("run", "--stdin", "--retries", "5", "--retry-delay", "0", "--", "sh", "-c", script, input="one\ntwo\n")
    assert (done.returncode, done.stdout) == (0, "one\ntwo\n" * 3), done.stderr
    assert tq("add", "--stdin", "--wait", "--", "sh", "-c", "wc -c", input="x" * 300_000).returncode == 0
    assert tq("log", "@last").stdout == "300000\n"
    assert len(spool.names(str(data_dir))) == 2
    assert tq("retry", "1").returncode == 0, "it is kept as long as its task"
    assert tq("wait", "1").returncode == 0
    assert tq("remove", "1", "2").returncode == 0
    wait_until(lambda: not spool.names(str(data_dir)), what="the end of the inputs")
    assert tq("verify").returncode == 0


@pytest.mark.flow
def test_an_input_without_a_task_is_refused_or_swept_and_one_that_is_gone_is_said(tq: Tq, data_dir: Path) -> None:
    assert tq("daemon", "start", "--workers", "1").returncode == 0
    full = tq("add", "--stdin", "--max-stdin", "4", "--", "cat", input="12345")
    assert (full.returncode, "--max-stdin 1G" in full.stderr) == (2, True)
    assert tq("add", "--stdin", "--key", "k", "--in", "1h", "--", "cat", input="1").returncode == 0
    assert tq("add", "--stdin", "--key", "k", "--in", "1h", "--", "cat", input="1").returncode == 0, "the same task"
    assert tq("add", "--stdin", "--key", "k", "--", "other", input="2").returncode == 75
    (name,) = spool.names(str(data_dir))
    assert "expected either --stdin or --each" in tq("add", "--stdin", "--each", "--", "cat").stderr
    assert "expected either --stdin or" in tq("add", "--stdin", "--interactive", "--", "cat").stderr

    lost = kept(data_dir, b"lost")
    os.utime(data_dir / "stdin" / lost, (1000, 1000))
    os.utime(data_dir / "stdin" / name, (1000, 1000))
    assert tq("daemon", "restart").returncode == 0
    assert spool.names(str(data_dir)) == [name]
    spool.forget(str(data_dir), name)
    assert tq("edit", "1", "--in", "0").returncode == 0
    assert tq("wait", "1").returncode == 126
    assert "expected what it is to read" in tq("log", "1").stdout + tq("log", "1").stderr


@pytest.mark.flow
@pytest.mark.parametrize("extras", [{"stdin": "../../lock", "env": {}}, {"stdin": "0" * 32}, {"env": b"0" * 16}, {"env": {"A": 1}}])
def test_extras_that_name_no_input_or_environment_are_refused(tq: Tq, data_dir: Path, extras: Any) -> None:
    assert tq("daemon", "start", "--workers", "1").returncode == 0
    with connect(data_dir) as client, pytest.raises(UsageError, match=r"extras: (stdin|env): expected"):
        client.enqueue("shell", {"argv": ["true"]}, extras=extras)
    env, dbs = open_store(data_dir / "store", readonly=True)
    with env.begin() as txn:
        assert txn.stat(dbs["environments"])["entries"] == 0
    env.close()

"""T19: daemons that are started together in one directory, over whatever an earlier one or a stranger left there.

For: ``SUITE``: a cycle puts a seed's rubbish into a directory (a dead socket, another's pid in the lock, half a store), starts four
daemons at once, and lets the one that runs be killed now and then.
Not for: directories that must be refused, and who may enter (test_instances).
Runs in: the process that drives it; the daemons are real.
Promises: what is in the directory depends on the seed alone; which daemon is the first does not.
"""

from __future__ import annotations

import os
import random
import shutil
import signal
import socket
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

from tests.campaign import planted
from tests.campaign.suite import ROOT, Report, Suite, each, plain_env, python, scratch
from tests.living import processes_of
from tq.client import Client
from tq.errors import TqError
from tq.store.files import Lock
from tq.store.lmdb import LmdbStore
from tq.store.verify import verify

NAME = "instances"
AT_ONCE = 4
READY_WITHIN_S = 60
LOCKED = 69


def dead_socket(where: Path, chance: random.Random) -> None:
    (where / "tq.sock").unlink(missing_ok=True)
    with socket.socket(socket.AF_UNIX) as one:
        one.bind(str(where / "tq.sock"))


def foreign_socket(where: Path, chance: random.Random) -> None:
    """Not a socket at all."""
    (where / "tq.sock").unlink(missing_ok=True)
    (where / "tq.sock").write_text("not a socket")


def half_socket(where: Path, chance: random.Random) -> None:
    """Left between the binding of a socket and its move into place."""
    with socket.socket(socket.AF_UNIX) as one:
        one.bind(str(where / "tq.sock-"))


def lock_of_another(where: Path, chance: random.Random) -> None:
    """The pid of a process that lives, and is no daemon; or of none, or no pid."""
    (where / "lock").write_bytes(chance.choice((b"%d\n" % os.getpid(), b"1\n", b"4194303\n", b"rubbish\0\xff", b"", b"9" * 300)))


def half_store(where: Path, chance: random.Random) -> None:
    """Left by a first start that was cut short."""
    (where / "store.new").mkdir()
    (where / "store.new" / "data.mdb").write_bytes(chance.randbytes(chance.randrange(10_000)))


def half_compaction(where: Path, chance: random.Random) -> None:
    LmdbStore(where / "store").close()
    (where / "store.copy").mkdir()
    (where / "store.copy" / "data.mdb").write_bytes(chance.randbytes(5000))
    if chance.random() < 0.5:
        (where / "store.switch").write_text("store.old")
        (where / "store").rename(where / "store.old")


def boards(where: Path, chance: random.Random) -> None:
    """Of workers that are gone."""
    (where / "run").mkdir(0o700)
    for name in ("w1", "w2", "w77"):
        (where / "run" / f"{name}.board").write_bytes(chance.randbytes(chance.choice((0, 100, 41_024))))


def another_past(where: Path, chance: random.Random) -> None:
    """A history of another program, cut short, or empty."""
    (where / "history.bin").write_bytes(b"tq history 1\n"[: chance.randrange(14)] + chance.randbytes(chance.choice((0, 5, 5000))))


RUBBISH: tuple[Callable[[Path, random.Random], None], ...] = (
    dead_socket, foreign_socket, half_socket, lock_of_another, half_store, half_compaction, boards, another_past,
)  # fmt: skip


class Start:
    """One of the daemons that are started at the same time; ``word`` is what it said: "ready" or "error"."""

    def __init__(self, where: Path, plant: str | None) -> None:
        self._read, told = os.pipe()
        module = ["tests.campaign.planted", plant, "tq.daemon"] if plant else ["tq.daemon"]
        argv = python("-m", *module, "--data-dir", str(where), "--workers", "0", "--ready-fd", str(told))
        self.process = subprocess.Popen(
            argv, cwd=ROOT, env=plain_env(), pass_fds=[told], stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True,
        )  # fmt: skip
        os.close(told)

    def said(self) -> str:
        """What it told its parent; "" if it ended without a word."""
        with open(self._read, encoding="utf-8", errors="replace") as file:
            return file.read()


def together(where: Path, plant: str | None) -> tuple[list[Start], list[str]]:
    """Four starts at once: those that run, and what is wrong."""
    starts = [Start(where, plant) for _ in range(AT_ONCE)]
    running, found = [], []
    for one in starts:
        word, _, rest = one.said().partition(" ")
        if word == "ready":
            running.append(one)
            continue
        code = one.process.wait(READY_WITHIN_S)
        if code != LOCKED or "another daemon (pid " not in rest:
            found.append(
                f"expected a second daemon to be refused with {LOCKED} and told of the first, got {code} and {word} {rest[:300]!r}"
            )
    if len(running) != 1:
        found.append(f"expected one of {AT_ONCE} daemons to run, got {len(running)}")
    return running, found


def _cycle(seed: int, report: Report, plant: str | None) -> Iterator[str]:
    chance = random.Random(seed)
    with tempfile.TemporaryDirectory(prefix="tq-", dir=scratch()) as place:
        where = Path(place)
        where.chmod(0o700)
        for rubbish in chance.sample(RUBBISH, chance.randrange(len(RUBBISH))):
            rubbish(where, chance)
        accepted: set[int] = set()
        running: list[Start] = []
        try:
            for _ in range(1 + chance.randrange(2)):
                running, found = together(where, plant)
                report.add(starts=AT_ONCE)
                yield from found
                if not running:
                    return
                with Client(where) as client:
                    accepted |= {client.enqueue("t", allow_unknown=True).id for _ in range(5)}
                    if (pid := client.status()["pid"]) != running[0].process.pid:
                        yield f"expected the daemon that runs, pid {running[0].process.pid}, to answer, got pid {pid}"
                how = chance.choice((signal.SIGKILL, signal.SIGTERM))
                for one in running:
                    one.process.send_signal(how)
                    one.process.wait(READY_WITHIN_S)
        except TqError as error:
            yield f"expected the daemon that is ready to answer, got {error}"
        finally:
            for one in running:
                one.process.kill()
                one.process.wait()
        if left := [process.pid for process in processes_of(where)]:
            yield f"expected no daemon to be left, got {left}"
        Lock(where).close()
        store = LmdbStore(where / "store")
        missing = sorted(task_id for task_id, task in zip(accepted, store.get(list(accepted)), strict=True) if task is None)
        store.close()
        if missing:
            yield f"expected all {len(accepted)} accepted tasks, {missing} are missing"
        yield from verify(where)
        shutil.rmtree(where / "store")


def run(seed: int, cycles: int, plant: str | None = None) -> Report:
    if plant not in (None, "lock_ignored"):
        planted.plant(plant)
    return each(NAME, seed, cycles, lambda number, report: list(_cycle(number, report, plant)))


SUITE = Suite(NAME, "rounds of four daemons started at once", 6, 200, run, ("lock_ignored",), tested=2)

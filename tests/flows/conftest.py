"""What the flows share: the application, a client, an account kept outside tq, and what may not be left alive.

Not for: doubles; everything here looks at a real daemon from outside.
Runs in: pytest.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from tq.board import start_ticks
from tq.client import Client
from tq.store.files import open_store
from tq.store.keys import U64
from tq.store.verify import verify

APP = Path(__file__).with_name("tasks_for_flows.py")


def left_behind(place: Path) -> list[str]:
    """What is still there of a program that worked in ``place``: files, and processes that name it."""
    found = [path.name for path in place.iterdir()]
    for process in psutil.process_iter():
        try:
            if process.pid != os.getpid() and str(place) in " ".join(process.cmdline()) and process.status() != psutil.STATUS_ZOMBIE:
                found.append(" ".join(process.cmdline()))
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            continue
    return found


class Account:
    """What handlers wrote as they ran: lines that tq knows nothing of."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __str__(self) -> str:
        return str(self.path)

    def lines(self) -> list[list[str]]:
        """Each line in words."""
        return [line.split() for line in self.path.read_text().splitlines()] if self.path.exists() else []

    def runs(self, task_id: int) -> list[tuple[int, int]]:
        """(attempt, pid) of each run of a task, in order."""
        return [(int(words[1]), int(words[2])) for words in self.lines() if words[0] == str(task_id)]


class Instance:
    """An instance of tq, from outside."""

    def __init__(self, data_dir: Path) -> None:
        self.data_dir = data_dir

    def alive(self) -> dict[int, int]:
        """Every living process of the instance (daemon, workers, commands): pid -> start in ticks."""
        own = os.fsencode(f"TQ_DATA_DIR={self.data_dir}")
        place = os.fsencode(self.data_dir)
        found = {}
        for name in os.listdir("/proc"):
            if not name.isdigit() or int(name) == os.getpid():
                continue
            try:
                with open(f"/proc/{name}/environ", "rb") as environ, open(f"/proc/{name}/cmdline", "rb") as cmdline:
                    ours = own in environ.read().split(b"\0") or place in cmdline.read()
            except OSError:
                continue
            ticks = start_ticks(int(name))
            if ours and ticks is not None:
                found[int(name)] = ticks
        return found

    def gone(self, processes: dict[int, int], within_s: float) -> bool:
        """Whether all of these end within the time."""
        deadline = time.monotonic() + within_s
        while any(_lives(pid, ticks) for pid, ticks in processes.items()):
            if time.monotonic() > deadline:
                return False
            time.sleep(0.005)
        return True

    def missing(self, ids: set[int]) -> set[int]:
        """Ids that the store on disk does not know; for when no daemon runs."""
        env, dbs = open_store(self.data_dir / "store", readonly=True)
        try:
            with env.begin(db=dbs["tasks"]) as txn:
                return {task_id for task_id in ids if txn.get(U64.pack(task_id)) is None}
        finally:
            env.close()

    def problems(self) -> list[str]:
        return verify(self.data_dir)


def _lives(pid: int, ticks: int) -> bool:
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            state = file.read().rpartition(b")")[2].split()[0]
    except OSError:
        return False
    return start_ticks(pid) == ticks and state not in (b"Z", b"X")


@pytest.fixture
def app() -> str:
    """The application of the flows, for ``daemon(app=app)``."""
    return str(APP)


@pytest.fixture
def account(tmp_path: Path) -> Account:
    return Account(tmp_path / "account")


@pytest.fixture
def gate(tmp_path: Path) -> Path:
    """A file that is not there yet; tasks that ``hold`` wait for it."""
    return tmp_path / "gate"


@pytest.fixture
def instance(data_dir: Path) -> Instance:
    return Instance(data_dir)


@pytest.fixture
def client(data_dir: Path) -> Iterator[Client]:
    with Client(data_dir) as one:
        yield one


@pytest.fixture
def ready(client: Client, until: Callable[..., Any]) -> Callable[[int], dict[str, int]]:
    """``ready(2)`` waits until so many workers are ready for work; their names and pids."""

    def wait(count: int) -> dict[str, int]:
        def found() -> dict[str, int]:
            rows = [row for row in client.workers() if row["state"] in ("idle", "busy")]
            return {row["id"]: row["pid"] for row in rows} if len(rows) >= count else {}

        workers: dict[str, int] = until(found, 30, f"{count} ready workers")
        return workers

    return wait


@pytest.fixture
def rows(client: Client) -> Callable[..., list[dict[str, Any]]]:
    """``rows(ids, within)`` waits until all are over and gives them as they are then."""

    def wait(ids: list[int], within: float = 30.0) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = []
        deadline = time.monotonic() + within
        for at in range(0, len(ids), 500):
            for row in client.wait(ids[at : at + 500], max(deadline - time.monotonic(), 0.001)):
                assert row is not None
                found.append(row)
        return found

    return wait

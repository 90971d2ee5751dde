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

from tests.living import Account, Instance
from tq.client import Client

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

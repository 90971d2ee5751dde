"""A daemon of this example's own, in a temporary directory, that is gone when the program ends, however it ends."""

from __future__ import annotations

import os
import shutil
import signal
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tq.client import Client, start_daemon, stop_daemon
from tq.errors import DaemonError, DaemonNotRunning

ROOT = Path(__file__).resolve().parents[2]


@contextmanager
def private_daemon(app: str, workers: int) -> Iterator[Path]:
    """Start a daemon that everything in this process sends to; gives its data directory."""
    home: Path | None = None
    pid = 0
    try:
        with _undisturbed():
            room = "/tmp" if len(tempfile.gettempdir()) > 60 else None  # noqa: S108 - mkdtemp makes it private; a socket's path must be short
            home = Path(tempfile.mkdtemp(prefix="tq-shop-", dir=room))
            os.environ["TQ_DATA_DIR"] = str(home / "tq")  # where `enqueue` sends to, here and in the workers
            pid = start_daemon(home / "tq", app, workers=workers, cwd=str(ROOT))
        yield home / "tq"
    finally:
        with _undisturbed():
            if home is not None:
                _end(home / "tq", pid)
                shutil.rmtree(home, ignore_errors=True)


def _end(data_dir: Path, pid: int) -> None:
    if not pid:
        return  # it did not start
    try:
        stop_daemon(Client(data_dir, timeout=5.0), now=True, timeout=10.0)
    except DaemonNotRunning:
        pass
    except DaemonError:
        os.kill(pid, signal.SIGKILL)  # its workers end with it


@contextmanager
def _undisturbed() -> Iterator[None]:
    """Ctrl-C and SIGTERM wait for the end of this block: a daemon that is half started would be left behind."""
    came: list[int] = []
    before = {each: signal.signal(each, lambda number, _: came.append(number)) for each in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)
    if came:
        raise KeyboardInterrupt

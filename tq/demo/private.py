"""An instance of a demo's own, and harmless things to work on.

For: ``place`` and ``clean`` (a private directory, and the end of the daemon in it), ``handlers``, ``material`` (files), ``pages``.
Not for: what is done with them (show, busy).
Runs in: the process that shows, or the one beside the monitor.
Promises: ``clean`` leaves neither a process nor a file of the instance, by force if it must be.
"""

from __future__ import annotations

import contextlib
import http.server
import os
import shutil
import signal
import sysconfig
import tempfile
import threading
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from tq.client import Client, stop_daemon
from tq.errors import ConfigError, DaemonError, DaemonNotRunning

FILES = 400
FILE_BYTES = 64 << 10


def handlers() -> Path:
    """The file with the demos' handlers: inside an installed tq, or beside it in a checkout."""
    here = Path(__file__).resolve().parent.parent
    for path in (here / "examples" / "demo_tasks.py", here.parent / "examples" / "demo_tasks.py"):
        if path.is_file():
            return path
    raise ConfigError(f"expected examples/demo_tasks.py in {here} or {here.parent}, got neither. Install tq again.")


def place() -> Path:
    """A new private directory, short enough for the path of a socket in it."""
    room = "/tmp" if len(tempfile.gettempdir()) > 60 else None  # noqa: S108 - mkdtemp makes it private
    return Path(tempfile.mkdtemp(prefix="tq-demo-", dir=room))


def clean(home: Path, data_dir: Path, pid: int) -> None:
    """End the daemon of ``data_dir``, whose process is ``pid`` (0: it did not start), and remove all of ``home``."""
    try:
        stop_daemon(Client(data_dir, timeout=5.0), now=True, timeout=10.0)
    except DaemonNotRunning:
        pass
    except DaemonError:
        if pid:
            os.kill(pid, signal.SIGKILL)  # its workers end with it
    shutil.rmtree(home, ignore_errors=True)


def material(into: Path, number: int = FILES) -> Path:
    """Real files to work on: sources of Python's standard library, at most ``number`` of ``FILE_BYTES``; gives their directory."""
    into.mkdir()
    library = Path(sysconfig.get_path("stdlib"))
    found = [path for path in sorted([*library.glob("*.py"), *library.glob("*/*.py")]) if 0 < path.stat().st_size <= FILE_BYTES]
    for path in found[:number]:
        shutil.copyfile(path, into / ".".join(path.relative_to(library).parts))
    if not found:  # an interpreter whose library is packed into an archive
        for one in range(number):
            (into / f"{one}.txt").write_text(f"the quick brown fox number {one}\n" * 100)
    return into


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the name is the library's
        """The demos' own words are enough."""


@contextlib.contextmanager
def pages(folder: Path) -> Iterator[str]:
    """A web server on the loopback interface that shows ``folder``; gives its address."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), partial(_Quiet, directory=str(folder)))
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}/"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()

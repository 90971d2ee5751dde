"""Starting and stopping the daemon of a data directory.

For: ``tq daemon start|stop|restart``, the first command that finds no daemon, programs that bring their own.
Not for: what the daemon does when it runs (daemon), whether its directory may be used (config).
Runs in: any process but the daemon.
Promises: ``start_daemon`` returns when the daemon answers, or raises with the daemon's own reason; two callers that
start one at the same time get one daemon.
"""

from __future__ import annotations

import os
import select
import subprocess
import sys
import threading
import time
from pathlib import Path

from tq.client.blocking import Client
from tq.config import OF_A_TASK
from tq.errors import DaemonError, DaemonNotRunning, DaemonStartError

READY_WITHIN = 60.0
"""Seconds that a daemon may take to open its store and start its workers."""
OUT = "daemon.out"
"""In the data directory: what the daemon's process itself prints (its log is daemon.log)."""


def command(
    data_dir: str | Path,
    app: str | None = None,
    *,
    workers: int | None = None,
    min_workers: int | None = None,
    max_workers: int | None = None,
    slots: int | None = None,
    log_level: str | None = None,
    grace: float | None = None,
    reload: bool = False,
) -> list[str]:
    """The command line of a daemon; absent settings fall to tq.toml, the environment, the defaults."""
    given = {
        "--app": app, "--workers": workers, "--min-workers": min_workers, "--max-workers": max_workers, "--slots": slots,
        "--log-level": log_level, "--grace": grace,
    }  # fmt: skip
    words = [word for name, value in given.items() if value is not None for word in (name, str(value))] + ["--reload"] * reload
    return [sys.executable, "-m", "tq.daemon", "--data-dir", os.path.abspath(data_dir), *words]


def start_daemon(
    data_dir: str | Path,
    app: str | None = None,
    *,
    workers: int | None = None,
    min_workers: int | None = None,
    max_workers: int | None = None,
    slots: int | None = None,
    log_level: str | None = None,
    grace: float | None = None,
    reload: bool = False,
    cwd: str | None = None,
) -> int:
    """Start a daemon in the background; its pid, once it answers. ``grace`` in seconds; ``workers`` is ``min_workers`` and
    ``max_workers`` in one.

    Raises ConfigError (the directory), or DaemonStartError with the daemon's reason and exit code.
    """
    from tq.config import prepare_data_dir

    where = prepare_data_dir(data_dir)
    words = command(
        where, app, workers=workers, min_workers=min_workers, max_workers=max_workers, slots=slots, log_level=log_level, grace=grace,
        reload=reload,
    )  # fmt: skip
    out = os.open(where / OUT, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    ready, told = os.pipe()
    try:
        printed = os.fstat(out).st_size
        process = subprocess.Popen(
            [*words, "--ready-fd", str(told)], pass_fds=(told,), start_new_session=True, cwd=cwd,
            stdin=subprocess.DEVNULL, stdout=out, stderr=out,
            env={name: value for name, value in os.environ.items() if name not in OF_A_TASK},
        )  # fmt: skip
        os.close(told)
        told = -1
        answer = _read_all(ready, READY_WITHIN)
    finally:
        for fd in (out, ready, told):
            if fd >= 0:
                os.close(fd)
    word, _, rest = (answer or b"").decode("utf-8", "replace").partition(" ")
    if word == "ready":
        # Somebody has to wait for the process when it ends, or it stays a zombie for as long as this one lives.
        threading.Thread(target=process.wait, name="tq-daemon-reaper", daemon=True).start()
        return int(rest)
    if answer is None:
        process.kill()
    code = process.wait()
    if word == "error":
        number, _, reason = rest.partition(" ")
        code = int(number)
    elif answer is None:
        reason = f"expected the daemon to be ready within {READY_WITHIN:g} s, and it was not. See {where}/daemon.log."
    else:
        tail = (where / OUT).read_bytes()[printed:][-4000:].decode("utf-8", "replace")
        reason = f"the daemon ended with exit code {code} before it was ready.\n{tail}"
    error = DaemonStartError(reason.strip(), exit_code=code)
    error.exit_code = code if code > 0 else error.exit_code
    raise error


def _read_all(fd: int, within: float) -> bytes | None:
    """What is written to ``fd`` until its end; None if that does not come in time (seconds)."""
    deadline, data = time.monotonic() + within, b""
    while True:
        if not select.select([fd], [], [], max(deadline - time.monotonic(), 0.0))[0]:
            return None
        piece = os.read(fd, 65536)
        if not piece:
            return data
        data += piece


def start_if_needed(data_dir: str | Path) -> int | None:
    """Start a daemon unless one is there, or is being started by somebody else; its pid if this call started it."""
    deadline = time.monotonic() + READY_WITHIN
    while True:
        try:
            return start_daemon(data_dir)
        except DaemonStartError as error:
            if error.exit_code != 69:  # only "another daemon holds this directory" is no failure here
                raise
            with Client(data_dir) as client:
                try:
                    client.status()
                    return None
                except DaemonNotRunning:
                    if time.monotonic() > deadline:
                        raise error from None
            select.select([], [], [], 0.05)  # the other one is not ready yet


def stop_daemon(client: Client, now: bool = False, timeout: float = READY_WITHIN) -> int:
    """Stop the daemon and wait until its process is gone; its pid. DaemonError after ``timeout`` seconds."""
    pid = int(client.status()["pid"])
    try:
        process = os.pidfd_open(pid)
    except ProcessLookupError:
        return pid
    try:
        try:
            client.stop(now)
        except DaemonNotRunning:
            pass  # it ended before it could answer, which is what was asked
        if not select.select([process], [], [], timeout)[0]:
            raise DaemonError(f"the daemon (pid {pid}) drains for over {timeout:g} s. Wait, or end it with `tq daemon stop --now`.")
    finally:
        os.close(process)
        client.close()
    return pid

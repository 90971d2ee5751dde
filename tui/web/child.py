"""The process of one page: the monitor, drawn for a browser instead of a terminal.

For: ``command``, which a session starts, and what it does: ``python -m tui.web.child JSON``.
Not for: people; the server and its guards (server, session).
Runs in: a process of its own, with pipes for input and output and Textual's driver for the web on them.
Promises: the kernel ends it with the process that started it, however that ends.
"""

from __future__ import annotations

import ctypes
import json
import os
import signal
import sys
from dataclasses import asdict

from tq.errors import TqError
from tui import run
from tui.web import Look

PR_SET_PDEATHSIG = 1


def command(data_dir: str, look: Look, *, read_only: bool) -> list[str]:
    """The command of a page that this process starts from its main thread, and that ends with it."""
    wish = {"data_dir": data_dir, "parent": os.getpid(), "read_only": read_only, "look": asdict(look)}
    here = [] if {"", os.getcwd()} & set(sys.path) else ["-P"]  # modules of the current directory count only where they do for us
    return [sys.executable, *here, "-m", "tui.web.child", json.dumps(wish)]


def end_with(parent: int) -> bool:
    """From now on SIGKILL comes when the thread that started this process is gone. False: the parent has gone before."""
    if ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_PDEATHSIG)")
    return os.getppid() == parent


def main(argv: list[str]) -> int:
    wish = json.loads(argv[0])
    if not end_with(wish["parent"]):
        return 1
    try:
        return run(wish["data_dir"], os.environ, read_only=wish["read_only"], **wish["look"])
    except TqError as error:  # the settings file was changed since the server looked
        sys.stderr.write(f"{error}\n")
        return error.exit_code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

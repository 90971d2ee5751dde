"""The counter shim (shim.c): compiled, loaded, set, and its record read.

For: ``under`` and ``serve`` (a suite's work in a process that holds it), ``Shim`` (its settings from
inside), ``records`` (what it wrote down), ``in_child`` (work in a fork, which may die of it).
Not for: which faults there are to try.
Runs in: both: the process that drives a suite, and the process under the shim.
Promises: the library is built anew by the C compiler that is there and goes with its process; without a compiler
``NoCompiler`` says what to install.
"""

from __future__ import annotations

import ctypes
import gc
import json
import os
import shutil
import signal
import struct
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from itertools import islice
from pathlib import Path
from typing import NamedTuple

from tests.campaign.suite import MOST, ROOT, Report, each, plain_env, python

SOURCE = Path(__file__).with_name("shim.c")
NOTHING, KILL_BEFORE, KILL_HALF, KILL_AFTER, FAIL, FAIL_DONE, SHORT = range(7)
WRITE, TRUNCATE, SYNC, CREATE, MKDIR, RENAME, UNLINK, RMDIR, MARK, REFUSED = range(1, 11)
WORDS = ("nothing", "write", "truncate", "sync", "create", "mkdir", "rename", "unlink", "rmdir", "mark", "refused call")
DIED = "the process died of"
_HEAD = struct.Struct("<BBHIQ")


class NoCompiler(Exception):
    """There is no C compiler to build the shim with."""


@contextmanager
def built() -> Iterator[Path]:
    """The library, in a directory of its own. NoCompiler."""
    compiler = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    if compiler is None:
        raise NoCompiler(
            "expected a C compiler (cc, gcc or clang) to build tests/campaign/shim.c, found none. Install gcc, then try again."
        )
    with tempfile.TemporaryDirectory(prefix="tq-shim-") as where:
        library = Path(where) / "shim.so"
        command = [compiler, "-shared", "-fPIC", "-O1", "-Wall", "-Wextra", "-Werror", "-o", str(library), str(SOURCE), "-pthread"]
        built = subprocess.run(command, capture_output=True, text=True, check=False)
        if built.returncode:
            raise NoCompiler(f"expected {compiler} to build {SOURCE.name}, got:\n{built.stderr}")
        yield library


def under(module: str, seed: int, cycles: int, plant: str | None = None, *more: str) -> Report:
    """The report that ``python -m module seed cycles plant`` prints, in a process that holds the shim."""
    with built() as library:
        args = python("-m", module, str(seed), str(cycles), plant or "", *more)
        done = subprocess.run(
            args, env=plain_env(LD_PRELOAD=str(library), PYTHONHASHSEED="0"), cwd=ROOT, capture_output=True, text=True, check=False
        )
    if done.returncode:
        raise RuntimeError(f"{module} {seed} {cycles} {plant} ended with {done.returncode}:\n{done.stderr}")
    return Report(**json.loads(done.stdout.splitlines()[-1]))


def tell(report: Report) -> None:
    """Print a report for ``under``."""
    print(json.dumps(asdict(report)))


def serve(name: str, cycle: Callable[[int, Report, str | None], Iterable[str]]) -> None:
    """Be the process that ``under`` starts: run its cycles and tell; of each, the first violations."""
    seed, cycles, plant = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3] or None
    gc.freeze()
    tell(each(name, seed, cycles, lambda number, report: islice(cycle(number, report, plant), MOST)))


class Shim:
    """The settings of the shim in this process, which was started with it. RuntimeError: it was not."""

    def __init__(self) -> None:
        self._library = ctypes.CDLL(None)
        if not hasattr(self._library, "shim_watch"):
            raise RuntimeError("expected to run under the shim (LD_PRELOAD), got a plain process")
        self._library.shim_calls.restype = ctypes.c_long
        self._library.shim_fault.argtypes = [ctypes.c_int, ctypes.c_long, ctypes.c_int, ctypes.c_int]

    def watch(self, directory: Path) -> None:
        """Calls below ``directory`` count, from now on."""
        self._library.shim_watch(os.fsencode(directory.resolve()))

    def fault(self, what: int, number: int = 0, code: int = 0, *, sticky: bool = False) -> None:
        """What happens at call ``number``, and if ``sticky`` at every later one; ``NOTHING`` takes it back."""
        self._library.shim_fault(what, number, code, sticky)

    @property
    def calls(self) -> int:
        return int(self._library.shim_calls())

    def record(self, fd: int, *, calls: bool) -> None:
        """Marks go to ``fd`` from now on, with ``calls`` those too."""
        self._library.shim_record(fd, calls)

    def mark(self, text: str) -> None:
        """Write ``text`` to the record: what was done before this was done before this."""
        self._library.shim_mark(text.encode())


class Record(NamedTuple):
    """One call that was made, or that the kernel REFUSED. ``data``: what was written; the new path of a RENAME; the text of a MARK."""

    kind: int
    dsync: bool
    path: str
    offset: int
    data: bytes

    def __str__(self) -> str:
        return f"{WORDS[self.kind]} {self.path} {f'{len(self.data)} bytes at {self.offset}' if self.kind == WRITE else ''}".strip()


def records(path: Path) -> list[Record]:
    """The record as far as it is whole: its process may have been killed."""
    data, at, found = path.read_bytes(), 0, list[Record]()
    while at + _HEAD.size <= len(data):
        kind, dsync, name, size, offset = _HEAD.unpack_from(data, at)
        at += _HEAD.size
        if at + name + size > len(data):
            break
        found.append(Record(kind, bool(dsync), os.fsdecode(data[at : at + name]), offset, data[at + name : at + name + size]))
        at += name + size
    return found


def marks(path: Path) -> list[str]:
    return [one.data.decode() for one in records(path) if one.kind == MARK]


def in_child(work: Callable[[], Sequence[str]], limit_s: int = 60) -> list[str]:
    """The lines that ``work`` gives in a fork of this process; what it died of is a line, too. It never returns into the caller's code."""
    read, write = os.pipe()
    pid = os.fork()
    if not pid:
        signal.alarm(limit_s)
        code = 1
        try:
            os.close(read)
            try:
                lines = list(work())
            except Exception as error:
                frame = traceback.extract_tb(error.__traceback__)[-1]
                lines = [f"{DIED} {type(error).__name__}: {error} ({Path(frame.filename).name}:{frame.lineno})"]
            data = json.dumps(lines).encode()
            while data:
                data = data[os.write(write, data) :]
            code = 0
        finally:
            os._exit(code)
    os.close(write)
    with open(read, "rb") as file:
        data = file.read()
    _, status = os.waitpid(pid, 0)
    if os.WIFSIGNALED(status):
        return [f"{DIED} {signal.Signals(os.WTERMSIG(status)).name}"]
    if status:
        return [f"{DIED} its own accord, with {os.WEXITSTATUS(status)}"]
    found: list[str] = json.loads(data)
    return found

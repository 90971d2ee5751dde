"""The application of the suite of graphs: steps that succeed or fail, and gatherings of what steps gave.

For: daemons that the suite starts with ``app=`` this file and ``GRAPH=`` a file in their environment.
Not for: which task waits for which, and what must come of it (graphs).
Runs in: worker processes.
Promises: ``GRAPH`` has a line for each begin (``begin <place>``) and each end (``end <place> <checksum of what was given>``) of a run, in
the order in which they happened, over all workers and daemons.
"""

from __future__ import annotations

import os
import time
from zlib import crc32

import tq

_account = os.open(os.environ["GRAPH"], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)


def _note(*words: object) -> None:
    os.write(_account, (" ".join(map(str, words)) + "\n").encode())


def checksum(given: list[int]) -> int:
    return crc32(",".join(map(str, given)).encode())


@tq.task("step")
def step(at: int, nap: float = 0.0, fails: bool = False) -> int:
    """Gives its place."""
    _note("begin", at)
    time.sleep(nap)
    _note("end", at, 0)
    if fails:
        raise tq.Permanent("as planned")
    return at


@tq.task("gather")
def gather(given: list[int], at: int) -> int:
    """The body of a chord: comes after all of a group, with what these gave."""
    _note("begin", at)
    _note("end", at, checksum(given))
    return at

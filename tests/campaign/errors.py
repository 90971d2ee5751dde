"""T3: every call that changes a file fails, once, and from then on: nothing is acknowledged that is not stored.

For: ``SUITE``: a scripted session (session.py) one of whose calls fails with EIO, ENOSPC, EDQUOT or EINTR, writes only
half, or says that it failed though it did not; then the fault is over, what is left is judged, and a daemon starts on it.
Not for: a disk that is really full (its own suite), power cuts (images).
Runs in: ``python -m tests.campaign.errors`` under the shim; each failing call in a fork of its own.
Promises: every call of a session fails once for each kind of fault; a cycle is one kind of fault over one session.

Expected: a store that cannot be written or synced ends the daemon with words (StoreError); one without room refuses new
work and goes on; a log that cannot be written disturbs nobody; no other exception comes out.
"""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Iterator
from functools import partial
from typing import NamedTuple

from tests.campaign import planted, shim
from tests.campaign.points import Place, place, recorded
from tests.campaign.session import STEPS, Reference, Session, account, judge, reference
from tests.campaign.shim import Record, Shim
from tests.campaign.suite import Report, Suite
from tq.errors import TqError

NAME = "errors"
ROOM = (errno.ENOSPC, errno.EDQUOT)
STARTS = ("do_start", "do_start_again")
"""Here the daemon's ``main`` has words for an OSError."""


class Kind(NamedTuple):
    word: str
    how: int
    code: int
    sticky: bool


KINDS = (
    Kind("fails with EIO", shim.FAIL, errno.EIO, False),
    Kind("fails with ENOSPC, as all later ones", shim.FAIL, errno.ENOSPC, True),
    Kind("fails with EIO, as all later ones", shim.FAIL, errno.EIO, True),
    Kind("fails with ENOSPC", shim.FAIL, errno.ENOSPC, False),
    Kind("fails with EDQUOT", shim.FAIL, errno.EDQUOT, False),
    Kind("fails with EDQUOT, as all later ones", shim.FAIL, errno.EDQUOT, True),
    Kind("writes only half", shim.SHORT, 0, False),
    Kind("writes only half, as all later ones", shim.SHORT, 0, True),
    Kind("is interrupted", shim.FAIL, errno.EINTR, False),
    Kind("says EIO though it was made", shim.FAIL_DONE, errno.EIO, False),
    Kind("says EIO though it was made, as all later ones", shim.FAIL_DONE, errno.EIO, True),
)


def _play(at: Place, seed: int, kind: Kind, number: int, plant: str | None) -> list[str]:
    """One session with its fault; how it ended, as one line of JSON: its last step, the error's type and text, refusals."""
    planted.plant(plant)
    counter = Shim()
    counter.record(os.open(at.record, os.O_WRONLY | os.O_CREAT | os.O_APPEND), calls=False)
    counter.watch(at.root)
    counter.fault(kind.how, number, kind.code, sticky=kind.sticky)
    session = Session(at.root, seed, counter.mark, faulty=True)
    ended = words = ""
    try:
        session.run()
    except (TqError, OSError) as error:
        ended, words = type(error).__name__, str(error)
    owed = len(session.d.broker.owed) if session.step > 1 else 0
    return [json.dumps([STEPS[session.step - 1], ended, words, session.refusals, owed])]


def _judged(at: Place, right: Reference | None) -> list[str]:
    return judge(at.root, account(shim.marks(at.record)), right)


def _answer(kind: Kind, call: Record, ended: str, words: str, refusals: list[tuple[str, str]], step: str) -> Iterator[str]:
    """What was wrong with how the session took it."""
    store = call.path.endswith("/d/store/data.mdb")
    if (ended == "OSError" and not (step in STARTS and not store)) or (ended and not words):
        yield f"expected an error with words for a person, got {ended} ({words}) in {step}"
    if "damaged" in words or "Restore" in words:
        yield f"expected nothing about damage, got: {words}"
    if any(code != "refused" for name, code in refusals if name != "do_stop_and_copy"):
        yield f"expected refusals that may be tried again, got {refusals}"
    if call.path.endswith("daemon.log") and call.kind == shim.WRITE and not kind.sticky and (ended or refusals):
        yield f"expected a log that cannot be written to disturb nobody, got {ended} {words} {refusals}"
    if store and call.kind in (shim.WRITE, shim.SYNC) and kind.code == errno.EIO and kind.how == shim.FAIL and ended != "StoreError":
        yield f"expected a store that cannot be written to end the daemon with a StoreError, got {ended or 'none'} {words}"
    goes_on = step != "do_start" and not (kind.sticky and step == "do_start_again")
    if store and kind.code in ROOM and call.kind == shim.WRITE and not call.dsync and goes_on and ended:
        yield f"expected a store without room to go on, got {ended}: {words} in {step}"


def _cycle(cycle: int, report: Report, plant: str | None) -> Iterator[str]:
    seed, which = divmod(cycle, len(KINDS))
    kind = KINDS[which]
    with place() as at:
        at.clear()
        right = reference(at.root, seed)
        record, problems = recorded(at, seed, plant)
        yield from problems
        calls = [one for one in record if one.kind != shim.MARK and (kind.how != shim.SHORT or one.kind == shim.WRITE)]
        numbers = (
            [n for n, one in enumerate([one for one in record if one.kind != shim.MARK], 1) if one in calls]
            if kind.how == shim.SHORT
            else range(1, len(calls) + 1)
        )
        for number, call in zip(numbers, calls, strict=True):
            at.clear()
            what = f"call {number} ({call}) {kind.word}"
            (ended,) = shim.in_child(partial(_play, at, seed, kind, number, plant))
            report.add(faults=1)
            if ended.startswith(shim.DIED):
                yield f"{what}: {ended}"
                continue
            step, error, words, refusals, owed = json.loads(ended)
            found = [*_answer(kind, call, error, words, refusals, step)]
            strict = right if error and not refusals and not owed else None
            found += shim.in_child(partial(_judged, at, strict))
            yield from (f"{what}: {problem}" for problem in found)


def run(seed: int, cycles: int, plant: str | None = None) -> Report:
    return shim.under("tests.campaign.errors", seed, cycles, plant)


SUITE = Suite(NAME, "session with each call failing", 1, 5 * len(KINDS), run, ("answer_before_commit",))


if __name__ == "__main__":
    shim.serve(NAME, _cycle)

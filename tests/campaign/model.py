"""The stores against a small model, through random histories of fifty steps (histories.py).

For: ``SUITE``: so many histories, every other hundred on the store in memory, the others on LMDB.
Not for: the model and the steps themselves.
Runs in: a process of its own.
Promises: a history that goes wrong is shortened to the fewest steps that still do; the seeds that a violation names find
it again, wherever they run. What Hypothesis remembers between runs is not used.
"""

from __future__ import annotations

import re
import time
import traceback

from hypothesis import HealthCheck, Phase, seed, settings
from hypothesis.stateful import get_state_machine_test

from tests.campaign.histories import MACHINES
from tests.campaign.planted import plant
from tests.campaign.suite import Report, Suite

STEPS = 50
CHUNK = 100
"""Histories that share a seed: Hypothesis varies what it has found."""
HISTORIES = "histories.py"


def chunk(number: int, count: int, kind: str, phases: tuple[Phase, ...] = (Phase.generate, Phase.shrink)) -> str | None:
    """Some histories on one store, from one seed; the story of one that goes wrong."""
    test = get_state_machine_test(
        MACHINES[kind],
        settings=settings(
            max_examples=count, stateful_step_count=STEPS, deadline=None, database=None, suppress_health_check=list(HealthCheck),
            phases=phases, report_multiple_bugs=False, print_blob=False,
        ),
    )  # fmt: skip
    try:
        seed(number)(test)()
    except Exception as error:
        return _told(error)
    return None


def _told(error: Exception) -> str:
    """What went wrong, where, and the steps that led there; not the invariants that held between them."""
    frames = [at for at in traceback.extract_tb(error.__traceback__) if HISTORIES in at.filename]
    where = "; ".join(f"{at.name}, line {at.lineno}: {at.line}" for at in frames)
    steps = re.sub(r"^state\.\w+\(\)\n", "", "\n".join(getattr(error, "__notes__", ())), flags=re.MULTILINE)
    return re.sub(r"\s*\n\s*", "; ", f"{type(error).__name__}: {error}\n{where}\n{steps}")[:8000]


def run(first: int, cycles: int, bug: str | None = None) -> Report:
    plant(bug)
    report, began = Report("model", first), time.monotonic()
    for number in range(first, first + cycles, CHUNK):
        count = min(CHUNK, first + cycles - number)
        kind = "memory" if number // CHUNK % 2 else "lmdb"
        found = chunk(number, count, kind) if bug is None else chunk(number, count, kind, (Phase.generate,))
        report.cycles += count
        report.add(**{kind: count})
        if found is not None:
            report.violations.append(f"model --seed {number} --cycles {count}: the {kind} store: {found}")
            break
    report.seconds = time.monotonic() - began
    return report


SUITE = Suite(
    "model", "histories of 50 steps", per_change=1500, deep=20_000, run=run, tested=200,
    sees=("index_skipped", "token_ignored", "loan_refused", "standing_unwritten", "running_uncounted", "tokens_refilled",
          "places_from_behind", "waits_kept"),
)  # fmt: skip

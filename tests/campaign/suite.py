"""What the suites of the campaign have in common: a suite, and the report of a run of it.

For: ``Suite`` (how much of it a change gets, how much a deep run), ``Report`` (what a run found), ``each`` (the loop of most suites).
Not for: the faults themselves.
Runs in: the process that drives a suite: pytest, or ``python -m tests.campaign``.
Promises: cycle ``i`` of a run has the seed ``seed + i`` and nothing else to depend on, so runs add up, and one cycle is
repeated by its seed alone.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
APART_MOST_S = 1800.0
MOST = 10
"""Violations after which a run stops: the rest would say the same."""


@dataclass(slots=True)
class Report:
    """``cycles`` ran from ``seed`` on; ``violations`` are a line each: where (seed, point), what was expected, what was found."""

    suite: str
    seed: int
    cycles: int = 0
    seconds: float = 0.0
    violations: list[str] = field(default_factory=list)
    counts: dict[str, int] = field(default_factory=dict)
    """What else was counted: kills, images, frames."""

    def add(self, **counts: int) -> None:
        for name, count in counts.items():
            self.counts[name] = self.counts.get(name, 0) + count


@dataclass(frozen=True, slots=True)
class Suite:
    """``run(seed, cycles, plant)`` runs cycles of it, with a planted bug if one is named; ``unit`` is what a cycle is."""

    name: str
    unit: str
    per_change: int
    deep: int
    run: Callable[[int, int, str | None], Report]
    sees: tuple[str, ...] = ()
    """The planted bugs that it catches."""
    tested: int = 0
    """How many cycles the test command runs, which has other things to do and little time; 0: as many as a change gets."""

    @property
    def in_tests(self) -> int:
        return self.tested or self.per_change


def each(name: str, seed: int, cycles: int, cycle: Callable[[int, Report], Iterable[str]]) -> Report:
    """Run ``cycle(seed + i, report)`` for each i; what it returns is what was violated."""
    report, began = Report(name, seed), time.monotonic()
    for number in range(seed, seed + cycles):
        report.violations += [f"{name} --seed {number} --cycles 1: {line}" for line in cycle(number, report)]
        report.cycles += 1
        if len(report.violations) >= MOST:
            break
    report.seconds = time.monotonic() - began
    return report


def apart(suite: Suite, seed: int, cycles: int, plant: str | None = None) -> Report:
    """Some cycles in a process of their own, unmeasured and unpatched; if that dies, this is what they violated."""
    argv = python("-m", "tests.campaign", suite.name, "--seed", str(seed), "--cycles", str(cycles), "--json")
    argv += ["--plant", plant] if plant else []
    try:
        done = subprocess.run(argv, cwd=ROOT, env=plain_env(), capture_output=True, text=True, timeout=APART_MOST_S, check=False)
        return Report(**json.loads(done.stdout.splitlines()[-1]))
    except (ValueError, IndexError):
        print(done.stderr, file=sys.stderr)
        told = f"exit code {done.returncode}: {(done.stderr.splitlines() or ['nothing said'])[-1]}"
    except subprocess.TimeoutExpired:
        told = f"no end within {APART_MOST_S:.0f} s"
    return Report(suite.name, seed, cycles, violations=[f"{suite.name} --seed {seed} --cycles {cycles}: {told}"])


def scratch() -> str:
    """Where data directories are made: in memory where there is some, since no test here needs the disk to be slow."""
    return "/dev/shm" if os.access("/dev/shm", os.W_OK) else tempfile.gettempdir()


def plain_env(**more: str) -> dict[str, str]:
    """The environment of a process that is measured by nothing and reads no settings of this user."""
    env = {key: value for key, value in os.environ.items() if not key.startswith(("COV", "TQ_"))}
    return env | {"PYTHONPATH": str(ROOT)} | more


def python(*args: str) -> list[str]:
    return [sys.executable, *args]

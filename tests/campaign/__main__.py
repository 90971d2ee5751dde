"""``python -m tests.campaign [suite...]``: let the suites run, long if wanted, and add what they found to a results file.

For: as much of each suite as a change gets, and the deep tier; repeating one cycle that failed (``SUITE --seed N --cycles 1``);
showing that a suite sees a planted bug.
Not for: what the test command runs of each suite (``test_*.py`` beside this file).
Runs in: a terminal, from the root of a checkout; each chunk of a suite in a process of its own.
Promises: with ``--results`` a run that was cut short goes on where it stopped: a suite's next seed follows its last, and what
is there already is not run again; exit code 0 only if nothing was violated.
"""

from __future__ import annotations

import argparse
import json
import platform
import random
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from importlib import import_module
from pathlib import Path
from typing import Any

from tests.campaign.planted import BUGS
from tests.campaign.suite import ROOT, Report, Suite, apart

SUITES = (
    "kills",
    "graphs",
    "points",
    "replacing",
    "images",
    "errors",
    "damage",
    "workers",
    "shutdowns",
    "stalls",
    "storms",
    "frames",
    "clients",
    "text",
    "model",
    "simulation",
    "full",
    "instances",
    "soak",
)
CHUNK_S = 60.0
"""About how long one chunk may take: what is lost when a run is cut short."""


def suite(name: str) -> Suite:
    found = import_module(f"tests.campaign.{name}").SUITE
    assert isinstance(found, Suite)
    return found


class Results:
    """What was run so far: for each suite its cycles, and every run with commit, seed and findings."""

    def __init__(self, path: Path | None) -> None:
        self.path = path
        self.suites: dict[str, dict[str, Any]] = json.loads(path.read_text()) if path is not None and path.exists() else {}
        git = ["git", "-C", str(ROOT), "rev-parse", "--short", "HEAD"]
        self.commit = subprocess.run(git, capture_output=True, text=True, check=False).stdout.strip() or "unknown"

    def cycles(self, name: str) -> int:
        return int(self.suites.get(name, {}).get("cycles", 0))

    def seed(self, name: str) -> int:
        """The first seed that no run of the suite has had."""
        return max((run["seed"] + run["cycles"] for run in self.suites.get(name, {}).get("runs", [])), default=1)

    def add(self, one: Suite, report: Report) -> None:
        """Add a run; runs of one commit that follow each other are one."""
        kept = self.suites.setdefault(one.name, {"unit": one.unit, "cycles": 0, "violations": [], "counts": {}, "runs": []})
        kept["cycles"] += report.cycles
        kept["violations"] += report.violations
        for name, count in report.counts.items():
            kept["counts"][name] = kept["counts"].get(name, 0) + count
        last = kept["runs"][-1] if kept["runs"] else None
        key = {"commit": self.commit, "python": platform.python_version()}
        if last and {name: last[name] for name in key} == key and last["seed"] + last["cycles"] == report.seed:
            last["cycles"] += report.cycles
            last["seconds"] = round(last["seconds"] + report.seconds, 1)
        else:
            kept["runs"].append(key | {"seed": report.seed, "cycles": report.cycles, "seconds": round(report.seconds, 1)})
        if self.path is not None:
            fresh = self.path.with_suffix(".new")
            fresh.write_text(json.dumps(self.suites, indent=1, sort_keys=True) + "\n")
            fresh.replace(self.path)


def campaign(one: Suite, results: Results, seed: int | None, cycles: int, plant: str | None) -> int:
    """Run a suite up to ``cycles``, in chunks; how many violations there were."""
    at, left = (results.seed(one.name), cycles - results.cycles(one.name)) if seed is None else (seed, cycles)
    size, violations = max(1, min(one.per_change, left)), 0
    while left > 0:
        began = time.monotonic()
        report = apart(one, at, min(size, left), plant)
        took = max(time.monotonic() - began, 0.001)
        if plant is None:
            results.add(one, report)
        violations += len(report.violations)
        counts = "".join(f", {count:,} {name}" for name, count in report.counts.items())
        print(f"{one.name}: {report.cycles:,} {one.unit} from seed {report.seed} in {took:.0f} s{counts}: "
              f"{len(report.violations)} violations; {left - report.cycles:,} to go", flush=True)  # fmt: skip
        for line in report.violations:
            print(f"  {line}", flush=True)
        if plant is not None and violations:
            break
        at += max(report.cycles, 1)
        left -= max(report.cycles, 1)
        size = max(1, int(size * min(max(CHUNK_S / took, 0.25), 4.0)))
    return violations


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m tests.campaign", description="Search for what would lose a task; exit code 1 if found."
    )
    parser.add_argument("suites", nargs="*", metavar="suite", choices=[[], *SUITES], help=", ".join(SUITES))
    parser.add_argument("--cycles", type=int, help="how many of each suite (default: as many as a change gets)")
    parser.add_argument("--deep", action="store_true", help="as many as a deep run has, those in --results included")
    parser.add_argument("--seed", type=int, help="the first seed (default: the one after the last in --results, else any)")
    parser.add_argument("--plant", choices=BUGS, help="a bug that the suite is to find")
    parser.add_argument("--results", type=Path, help="a file that adds up what was run (JSON)")
    parser.add_argument("--jobs", type=int, default=1, help="how many suites at once")
    parser.add_argument("--json", action="store_true", help="one suite, here and now; its report as a line of JSON")
    args = parser.parse_args(argv)
    seed = args.seed if args.seed is not None or args.results else random.randrange(1, 1 << 32)
    if args.json:
        (name,) = args.suites
        print(json.dumps(asdict(suite(name).run(seed or 1, args.cycles or suite(name).per_change, args.plant))))
        return 0
    results = Results(args.results)

    def one(name: str) -> int:
        it = suite(name)
        return campaign(it, results, seed, args.cycles or (it.deep if args.deep else it.per_change), args.plant)

    with ThreadPoolExecutor(max(args.jobs, 1)) as pool:
        found = sum(pool.map(one, args.suites or SUITES))
    print(f"{found} violations")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())

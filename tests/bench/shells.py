"""Commands: how soon one starts on an idle daemon, and how many short ones a second beside task-spooler.

For: the bars of the shell half.
Not for: the costs of the command line itself (speed), output (outputs).
Runs in: the process that measures; each bench has a daemon of its own, and task-spooler (Debian: task-spooler) a server of its own.
Promises: both sides of a ratio are measured in turn in the same run, from the first process until the last command is over; a
command tells when it started by the wall clock, so its own start is in the figure.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from statistics import median
from typing import Any

from tests.bench.bars import ROOT, Bar, Size, at_most
from tq.bench import instance
from tq.cli.command import command_task
from tq.client import Client

SPOOLER_RATE = 330.0
"""Commands a second that task-spooler ran on such a machine, for where it is not installed."""


def _starts(client: Client, options: Mapping[str, Any], count: int) -> list[float]:
    """Milliseconds from when an enqueue has returned until the command runs, sorted; below 0: it was sooner."""
    _, payload, wire = command_task({"command": ["date", "+%s%N"], **options})
    found = []
    for _ in range(count):
        (task_id,) = client.call("enqueue", {"tasks": [["shell", payload, wire]]})["ids"]
        returned = time.time_ns()
        client.wait([task_id], 30)
        said = b"".join(data for _, stream, data in client.log_chunks(task_id) if stream == 1)
        found.append((int(said) - returned) / 1e6)
        time.sleep(0.02)  # until it is idle again
    return sorted(found)


def starts(size: Size) -> Iterator[Bar]:
    with instance() as client:
        for what, options in (("", {}), (", with a limit and a niceness", {"max_memory": "1G", "nice": "1"})):
            _starts(client, options, 3)
            found = _starts(client, options, size.pickups)
            told = f"p50 {median(found):.2f} ms, the longest {found[-1]:.1f} ms, of {len(found)}; `date` itself is in it"
            yield at_most(f"from add returning to a command's start{what}, p95", found[int(len(found) * 0.95)], "ms", 10, 3, told)


def _ours(client: Client, count: int, env: Mapping[str, str]) -> float:
    began = time.monotonic()
    line = [sys.executable, str(ROOT / "tq" / "cli" / "entry"), "add", "--each", "--wait", "--", "true"]
    lines = "".join(f"{number}\n" for number in range(count)).encode()
    subprocess.run(line, env={**env, "TQ_DATA_DIR": client.data_dir}, input=lines, check=True, stdout=subprocess.DEVNULL)
    return count / (time.monotonic() - began)


def _theirs(tool: str, home: Path, count: int, env: Mapping[str, str]) -> float:
    env = {**env, "TS_SOCKET": str(home / "tsp"), "TMPDIR": str(home), "TS_SLOTS": "2", "TS_MAXFINISHED": str(2 * count)}
    try:
        subprocess.run([tool, "-S", "2"], env=env, check=True, stdout=subprocess.DEVNULL)
        began = time.monotonic()
        for number in range(count):
            subprocess.run([tool, "-n", "true", str(number)], env=env, check=True, stdout=subprocess.DEVNULL)
        while b"running" in (said := subprocess.run([tool], env=env, check=True, capture_output=True).stdout) or b"queued" in said:
            time.sleep(0.002)
        return count / (time.monotonic() - began)
    finally:
        subprocess.run([tool, "-K"], env=env, check=False, stdout=subprocess.DEVNULL)


def trues(size: Size) -> Iterator[Bar]:
    tool = shutil.which("tsp")
    env = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    with instance(workers=2) as client:
        env |= {"PYTHONPATH": str(ROOT), "PYTHONPYCACHEPREFIX": f"{client.data_dir}/code"}
        _ours(client, 10, env)
        rounds = [
            (_ours(client, size.trues, env), _theirs(tool, Path(client.data_dir), size.trues, env) if tool else SPOOLER_RATE)
            for _ in range(min(size.rounds, 3))
        ]
    ours, theirs = (median(pair[side] for pair in rounds) for side in (0, 1))
    told = f"{ours:,.0f}/s over {theirs:,.0f}/s" + ("" if tool else ", its rate elsewhere: it is not installed")
    yield Bar(
        f"{size.trues} `true` through 2 slots from one call, beside task-spooler", median(a / b for a, b in rounds), "x", 1.5, beside=told
    )

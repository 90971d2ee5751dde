"""What tasks print: how much of it a second, in how little memory and room, and how soon a follower sees it.

For: the bars about the output of commands.
Not for: the costs of tasks that print nothing (speed).
Runs in: the process that measures; each bench has a daemon of its own.
Promises: memory is the highest that the kernel has seen; a line's way begins with the clock read before it is written.
"""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from statistics import median

import psutil

from tests.bench.bars import Bar, Size, at_most
from tq.bench import instance

LOUD = "import sys; line = b'%s' % (b'0123456789abcdef' * 4096); [sys.stdout.buffer.write(line) for _ in range(int(sys.argv[1]) * 16)]"
STAMPS = "import sys, time\nfor _ in range(int(sys.argv[1])): print(time.monotonic_ns(), flush=True); time.sleep(0.02)"


def _highest_mib(pid: int) -> float:
    lines = Path(f"/proc/{pid}/status").read_text("utf-8").splitlines()
    return sum(int(line.split()[1]) for line in lines if line.startswith("VmHWM:")) / 1024


def outputs(size: Size) -> Iterator[Bar]:
    with instance(workers=1) as client:
        client.wait([client.enqueue("shell", {"argv": [sys.executable, "-c", LOUD, "1"]})], 60)
        daemon = psutil.Process(client.status()["pid"])
        family = [daemon.pid, *(one.pid for one in daemon.children())]
        before = [_highest_mib(pid) for pid in family]
        argv = [sys.executable, "-c", LOUD, str(size.output_mib)]
        began = time.monotonic()
        with subprocess.Popen(argv, stdout=subprocess.PIPE) as alone:
            assert alone.stdout is not None
            while alone.stdout.read(1 << 16):
                pass
        bare = size.output_mib * 1.048576 / (time.monotonic() - began)
        began = time.monotonic()
        task = client.enqueue("shell", {"argv": argv})
        client.wait([task], 600)
        rate = size.output_mib * 1.048576 / (time.monotonic() - began)
        grown = [_highest_mib(pid) - was for pid, was in zip(family, before, strict=True)]
        kept = sum(path.stat().st_size for path in (Path(client.data_dir) / "logs").rglob(f"{task.id}.*"))
        what = f"a command that writes {size.output_mib:,} MiB"
        yield Bar(what, rate, "MB/s", 100, beside=f"{bare:,.0f} MB/s into a pipe that is only read")
        yield at_most("  memory that daemon and worker grew by", sum(grown), "MiB", 20, beside=", ".join(f"{one:.1f}" for one in grown))
        yield at_most("  its log on disk", kept / (1 << 20), "MiB", 1)


def follow(size: Size) -> Iterator[Bar]:
    with instance() as client:
        task = client.enqueue("shell", {"argv": [sys.executable, "-c", STAMPS, str(size.lines)]})
        ways: list[float] = []
        for event in client.watch(["output"], [task.id]):
            now = time.monotonic_ns()
            ways += [(now - int(stamp)) / 1e6 for _, stream, data in event.get("chunks", ()) if stream == 1 for stamp in data.split()]
            if event.get("end"):
                break
        ways.sort()
        told = f"p50 {median(ways):.2f} ms, the longest {ways[-1]:.1f} ms, of {len(ways)}"
        yield at_most("a line written by a command, until its follower has it, p95", ways[int(len(ways) * 0.95)], "ms", 20, beside=told)

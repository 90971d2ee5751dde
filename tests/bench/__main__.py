"""``python -m tests.bench [name...]``: measure, and print each figure beside its bar.

For: the developers' table of every bar, all ratios measured in one run.
Not for: users (``tq bench``).
Runs in: a terminal, from the root of a checkout.
Promises: exit code 0 only if every bar that was measured holds; an unknown name is an error before anything is measured.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time

from tests.bench import fairness, flow, graphs, life, monitor, outputs, scale, shells, speed, steady
from tests.bench.bars import TINY, Bar, Bench, Size
from tq.bench import machine

BENCHES: dict[str, Bench] = {
    "end_to_end": speed.end_to_end, "drain": speed.drain, "one_client": speed.one_client, "many_clients": speed.many_clients,
    "pickup": speed.pickup, "one_worker": speed.one_worker, "commands": speed.commands, "store": scale.store, "queued": scale.queued,
    "loaded": scale.loaded, "views": scale.views, "idle": steady.idle, "slots": steady.slots,
    "sleepers": steady.sleepers, "kills": steady.kills, "outputs": outputs.outputs,
    "follow": outputs.follow, "starts": shells.starts, "trues": shells.trues, "retries": life.retries, "million": life.million,
    "monitor": monitor.monitor, "flood": monitor.flooded, "graph": graphs.graph, "flow": flow.flow,
    "tenants": fairness.tenants,
}  # fmt: skip


def number(value: float | None) -> str:
    if value is None:
        return ""
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"


def row(bar: Bar) -> str:
    sign = ">=" if bar.least else "<="
    aim = f"{sign} {number(bar.aim)}" if bar.aim is not None else ""
    measured = f"{number(bar.measured):>8} {bar.unit:<4}"
    return f"{bar.what:<70} {sign} {number(bar.must):<8} {aim:<11} {measured} {bar.verdict:<7} {bar.beside}".rstrip()


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description="Measure, and print each figure beside its bar.")
    parser.add_argument("names", nargs="*", metavar="name", choices=[[], *BENCHES], help=", ".join(BENCHES))
    parser.add_argument("--tiny", action="store_true", help="so little that the figures mean nothing")
    args = parser.parse_args(argv)
    size = TINY if args.tiny else Size()
    where = machine(tempfile.gettempdir())
    print(", ".join(f"{key} {value}" for key, value in where.items()) + ", fsync on\n")
    print(f"{'what':<70} {'must':<11} {'aim':<11} {'measured':>8} {'':<4} {'verdict':<7} beside")
    missed = 0
    for name in args.names or BENCHES:
        began = time.monotonic()
        for bar in BENCHES[name](size):
            missed += bar.verdict == "MISSED"
            print(row(bar), flush=True)
        print(f"{'':<70} ({name}: {time.monotonic() - began:.0f} s)", flush=True)
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())

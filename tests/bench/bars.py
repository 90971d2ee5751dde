"""What the benches have in common: a bar, how large a run is, and the list of benches.

For: ``Bar`` (a figure beside what it must and should be), ``Size`` (the full measure, and one tiny enough for a test).
Not for: measuring.
Runs in: the process that measures.
Promises: a bar says by itself whether it holds.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
HANDLERS = f"{Path(__file__).with_name('handlers.py')}:app"


@dataclass(frozen=True, slots=True)
class Bar:
    """A measured figure. ``least``: it must be at least ``must``, else at most; ``beside`` says what it was held against."""

    what: str
    measured: float
    unit: str
    must: float
    aim: float | None = None
    beside: str = ""
    least: bool = True

    def meets(self, bar: float) -> bool:
        return self.measured >= bar if self.least else self.measured <= bar

    @property
    def verdict(self) -> str:
        if not self.meets(self.must):
            return "MISSED"
        return "aim" if self.aim is not None and self.meets(self.aim) else "holds"


def at_most(what: str, measured: float, unit: str, must: float, aim: float | None = None, beside: str = "") -> Bar:
    """A bar that less is better for."""
    return Bar(what, measured, unit, must, aim, beside, least=False)


@dataclass(frozen=True, slots=True)
class Size:
    """How much is measured: tasks, seconds, rounds."""

    tasks: int = 60_000
    drained: int = 200_000
    rounds: int = 5
    seconds: float = 0.5
    clients: int = 32
    pickups: int = 200
    processes: int = 40
    queued: int = 1_000_000
    few: int = 10_000
    turns: int = 40
    load_s: float = 10.0
    idle_s: float = 60.0
    flood_s: float = 300.0
    burns: int = 400
    naps: int = 100
    sleepers: int = 1000
    killed: int = 100_000
    kill_every_s: float = 1.0
    output_mib: int = 1024
    lines: int = 300
    trues: int = 500
    waiting: int = 100_000
    limited_s: float = 20.0
    lanes: int = 100_000
    hot: int = 100_000
    small: int = 1000


TINY = Size(
    tasks=400, drained=400, rounds=1, seconds=0.05, clients=2, pickups=5, processes=2, queued=2000, few=1000, turns=2,
    load_s=0.3, idle_s=0.3, flood_s=0.6, burns=20, naps=8, sleepers=20, killed=2000, kill_every_s=0.3, output_mib=8, lines=5, trues=5,
    waiting=700, limited_s=0.3, lanes=300,
    hot=50, small=20,
)  # fmt: skip

Bench = Callable[[Size], Iterator[Bar]]

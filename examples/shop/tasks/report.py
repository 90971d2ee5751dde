"""Work that can wait: it stands in the same queue and runs when nothing more urgent does."""

from __future__ import annotations

import statistics
import time
from dataclasses import dataclass

import tq


@dataclass(frozen=True)
class Report:
    month: str
    cents: tuple[int, ...]


@dataclass(frozen=True)
class Figures:
    month: str
    orders: int
    total: int
    median: float


class ReportTask(tq.Task[Report, Figures]):
    """Sum up a month."""

    type = "report"
    queue = "shop"
    priority = "low"
    timeout = "5m"

    def execute(self, payload: Report) -> Figures:
        for step in range(1, 5):
            time.sleep(0.02)  # for show: a real report would be reading something
            tq.current().progress(step / 4, f"{payload.month}: week {step}")
        return Figures(payload.month, len(payload.cents), sum(payload.cents), statistics.median(payload.cents))

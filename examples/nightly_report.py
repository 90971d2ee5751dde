"""A nightly report as a workflow: extract, ten transforms side by side, load, notify; a transform that fails is run again.

tq daemon start --app examples/nightly_report.py
python examples/nightly_report.py /tmp/report
tq workflow list

``/tmp/report`` is a directory for its files. The day's sales are made up, and the third part cannot be read at first, as happens: its
retry finds it whole. If a part stays broken, `notify` says so (it comes after `load` however that ends), and once it is mended
`tq workflow retry ID` goes on from there: nothing that succeeded runs again.
"""

from __future__ import annotations

import csv
import sys
from pathlib import Path

import tq

PARTS = 10
SOON = tq.Backoff.fixed("200ms")


@tq.task("report.extract", queue="reports")
def extract(place: str) -> list[str]:
    """A day's sales in files of parts; their paths."""
    folder = Path(place)
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"part-{part}.csv" for part in range(PARTS)]
    for part, path in enumerate(paths):
        path.write_text("".join(f"{'tea' if n % 2 else 'coffee'},{part * 100 + n}\n" for n in range(100)))
    return [str(path) for path in paths]


@tq.task("report.transform", queue="reports", retries=3, backoff=SOON)
def transform(paths: list[str], part: int) -> dict[str, int]:
    """What was sold in one part, by article."""
    if part == 3 and tq.current().attempt == 1:
        raise OSError(f"{paths[part]}: the disk did not answer")
    sums: dict[str, int] = {}
    with open(paths[part], newline="") as file:
        for article, cents in csv.reader(file):
            sums[article] = sums.get(article, 0) + int(cents)
    return sums


@tq.task("report.load", queue="reports")
def load(parts: list[dict[str, int]], place: str) -> int:
    """The whole report, written; its total."""
    articles = sorted({article for part in parts for article in part})
    lines = [f"{article} {sum(part.get(article, 0) for part in parts)}" for article in articles]
    (Path(place) / "report.txt").write_text("\n".join(lines) + "\n")
    return sum(sum(part.values()) for part in parts)


@tq.task("report.notify", queue="reports")
def notify(place: str) -> str:
    """Tell whoever waits for it; here a file."""
    totals = [*tq.current().parents.values()]  # of `load`, if that succeeded
    text = f"the report is there, {totals[0]} in all" if totals else "no report tonight"
    (Path(place) / "mail.txt").write_text(text + "\n")
    return text


def nightly(place: str) -> tq.Workflow:
    """The workflow; nothing is sent yet."""
    flow = tq.workflow("nightly report")
    files = flow.step("extract", extract.si(place))
    parts = flow.step("transform", tq.group(transform.s(part) for part in range(PARTS)), after=files)
    whole = flow.step("load", load.s(place), after=parts)
    flow.step("notify", notify.si(place), after_any=whole)
    return flow


if __name__ == "__main__":
    run = nightly(sys.argv[1]).enqueue()
    print(f"workflow {run.id}: {run.wait(timeout=60)}")
    print(run.results()["notify"])

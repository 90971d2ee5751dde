"""``tq demo``: a daemon of its own, real work on real files, and what became of it.

For: seeing in seconds what tq does, with nothing prepared; showing the client as any program would use it.
Not for: an instance to look around in (busy), measuring (bench).
Runs in: the process of ``tq demo``; its handlers are ``examples/demo_tasks.py``, in worker processes.
Promises: it works in a private temporary directory, and when it ends (also by Ctrl-C or SIGTERM) the daemon, its
workers and the directory are gone, unless ``keep`` was asked for; exit code 0 only if every task ended as it should.
"""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

from tq.client import Client, format_error, start_daemon
from tq.demo.private import clean, handlers, material, pages, place
from tq.errors import TaskTimeout
from tq.model import FINAL, SHELL, safe_text

AT_ONCE = 200
"""Tasks asked for in one request: an answer has at most 1 MiB."""
WORKERS = 2
WITHIN_S = 60.0
_WORKS = {
    "hash": "hash a file",
    "gzip": "pack a file",
    "words": "count the words of a file",
    "fetch": "fetch a page",
    SHELL: "run a command",
    "order": "fail on purpose",
}
Job = tuple[str, Any, dict[str, Any]]


def run(keep: bool = False) -> int:
    """Show tq at work; gives the exit code. ``keep`` leaves the instance running and says how to look around in it."""
    console = Console(highlight=False)
    home = place()
    kept, pid = False, 0
    with _interrupts() as interrupts:
        try:
            pid = start_daemon(home / "tq", app=str(handlers()), workers=WORKERS)
            interrupts.let_through()
            code = _show(console, home)
            kept = keep
        except KeyboardInterrupt:
            _say(console, "interrupted: the daemon is ended and its directory removed")
            code = 130
        finally:
            interrupts.held = True
            if not kept:
                clean(home, home / "tq", pid)
    if kept:
        _say(console, f"\nThe instance is still there: tq --data-dir {home / 'tq'} list")
        _say(console, f"When you have seen enough: tq --data-dir {home / 'tq'} daemon stop && rm -r {home}")
    return code


class _Interrupts:
    """What SIGINT, SIGTERM and SIGHUP do: one KeyboardInterrupt, not before ``let_through`` and not while cleaning up.

    An interrupt between the daemon's start and its answer would leave the daemon behind.
    """

    def __init__(self) -> None:
        self.held = True
        self.came = False

    def __call__(self, *_: object) -> None:
        self.came = True
        if not self.held:
            self.held = True
            raise KeyboardInterrupt

    def let_through(self) -> None:
        self.held = False
        if self.came:
            self()


@contextlib.contextmanager
def _interrupts() -> Iterator[_Interrupts]:
    signals = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    interrupts = _Interrupts()
    before = [signal.signal(each, interrupts) for each in signals]
    try:
        yield interrupts
    finally:
        for each, handler in zip(signals, before, strict=True):
            signal.signal(each, handler)


def _show(console: Console, home: Path) -> int:
    began = time.monotonic()
    source = material(home / "files")
    (home / "packed").mkdir()
    _say(console, f"A daemon with {WORKERS} worker processes runs in {home / 'tq'}, for this demo alone.")
    with Client(home / "tq") as client, pages(source) as address:
        jobs = _jobs(source, home / "packed", address)
        sent = time.monotonic()
        ids = client.enqueue_many(jobs)
        took = time.monotonic() - sent
        _say(console, f"{len(ids)} tasks are on disk, accepted in {took * 1000:.0f} ms.")
        with _progress(console, jobs) as show:
            _follow(client, show, len(jobs))
        took = time.monotonic() - sent
        groups = [client.get_many(ids[at : at + AT_ONCE]) for at in range(0, len(ids), AT_ONCE)]
        rows = [row for group in groups for row in group if row is not None]
        logs = {row["id"]: client.log(row["id"]) for row in rows if row["type"] in {SHELL, "fetch"}}
    good = _explain(console, rows, logs)
    volume = sum(row["result"]["bytes"] for row in rows if row["type"] == "hash" and row["result"])
    packed = sum(row["result"]["packed"] for row in rows if row["type"] == "gzip" and row["result"])
    _say(
        console,
        f"{len(rows)} tasks in {took:.1f} s; {volume / 1e6:.1f} MB hashed, and packed into {packed / 1e6:.1f} MB. "
        f"All in all {time.monotonic() - began:.1f} s.",
    )
    if not good:
        _say(console, "Some tasks did not end as they should have: see the table.")
    return 0 if good else 1


def _jobs(source: Path, packed: Path, address: str) -> list[Job]:
    """What is to be done: (type, payload, options), as ``Client.enqueue_many`` takes it."""
    files = sorted(source.iterdir())
    jobs: list[Job] = []
    for path in files:
        jobs += [("hash", {"path": str(path)}, {}), ("words", {"path": str(path)}, {})]
        jobs.append(("gzip", {"path": str(path), "into": str(packed)}, {}))
    for name in ("", files[0].name, files[-1].name):
        jobs.append(("fetch", {"url": address + name}, {"priority": "high"}))
    how = {"cwd": str(source), "env": dict(os.environ), "umask": 0o077}
    jobs.append((SHELL, {"argv": ["sh", "-c", "ls | wc -l; du -sk . | cut -f1"]}, {"extras": how, "label": "count the files"}))
    jobs.append(("order", {"amounts": ["3", "four", "5"]}, {"retries": 0}))
    return jobs


def _follow(client: Client, show: Callable[[dict[str, int]], None], number: int) -> None:
    """Show how many tasks of each type are over until all are. TaskTimeout if that takes too long."""
    deadline = time.monotonic() + WITHIN_S
    while True:
        types = client.stats()["types"]
        over = {kind: sum(about["states"][state.word] for state in FINAL) for kind, about in types.items()}
        show(over)
        left = number - sum(over.values())
        if not left:
            return
        if time.monotonic() > deadline:
            raise TaskTimeout(f"expected all tasks to end within {WITHIN_S:g} s, got {left} that have not. Is the machine busy?")
        time.sleep(0.1)


@contextlib.contextmanager
def _progress(console: Console, jobs: Sequence[Job]) -> Iterator[Callable[[dict[str, int]], None]]:
    """What shows how many are over: a bar for each kind of work on a terminal, else one plain line a second."""
    if not console.is_terminal:
        said = 0.0

        def line(over: dict[str, int]) -> None:
            nonlocal said
            number = sum(over.values())
            if number == len(jobs) or time.monotonic() - said >= 1:
                said = time.monotonic()
                _say(console, f"{number} of {len(jobs)} tasks are over")

        yield line
        return
    columns = (SpinnerColumn(), TextColumn("{task.description:26}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console) as progress:
        bars = {kind: progress.add_task(work, total=sum(job[0] == kind for job in jobs)) for kind, work in _WORKS.items()}

        def draw(over: dict[str, int]) -> None:
            for kind, bar in bars.items():
                progress.update(bar, completed=over.get(kind, 0))

        yield draw


def _say(console: Console, text: str) -> None:
    """A line of plain text, whatever stands in it; only a terminal breaks it."""
    console.print(text, markup=False, soft_wrap=True)


def _explain(console: Console, rows: list[dict[str, Any]], logs: dict[int, str]) -> bool:
    """Print the failure with its traceback and the table of what was done; whether all ended as it should."""
    for row in rows:
        if row["error"]:
            _say(console, f"\nTask {row['id']} ({safe_text(row['type'])}) failed, as tasks do; this is kept with it:")
            console.print(Text(format_error(row["error"]), style="red"), soft_wrap=True)
    table = Table("Task", "What", "State", "Took", "Result", title="What was done", title_justify="left")
    plain = []
    for kind, work in _WORKS.items():
        mine = [row for row in rows if row["type"] == kind]
        slowest = max(mine, key=lambda row: row["finished_at"] - row["started_at"])
        more = f" (the slowest of {len(mine)})" if len(mine) > 1 else ""
        took = f"{slowest['finished_at'] - slowest['started_at']} ms"
        cells = [str(slowest["id"]), work + more, slowest["state"], took, _outcome(slowest, logs)]
        plain.append("  ".join(cells))
        table.add_row(*(Text(cell) for cell in cells))
    console.print()
    if console.is_terminal:
        console.print(table)
    else:
        console.out("\n".join(plain), highlight=False)
    return all(row["state"] == ("failed" if row["type"] == "order" else "succeeded") for row in rows)


def _outcome(row: dict[str, Any], logs: dict[int, str]) -> str:
    """The result of a task in a few words, fit for a terminal."""
    if row["error"]:
        text = f"{row['error'].get('type')}: {row['error'].get('message')}"
    elif row["type"] == SHELL:
        text = f"exit code {row['exit_code']}, printed {' '.join(logs[row['id']].split())}"
    else:
        text = ", ".join(f"{name} {value}" for name, value in (row["result"] or {}).items())
    return safe_text(text if len(text) <= 72 else f"{text[:71]}…")

"""``tq monitor --demo``: a busy instance to look around in, kept by a process beside the monitor.

For: ``beside`` (its data directory, for as long as the block runs), and the load: mail, files, pages, payments, reports, workflows,
commands and schedules; most go well, some fail, some wait for their time, for others, or for a queue to be resumed.
Not for: showing work that is done for its own sake (show).
Runs in: ``beside`` in the process of ``tq monitor``, the rest in one of its own, which lives until its standard input ends.
Promises: however the monitor ends, kill -9 included, daemon, workers and directory are gone soon after; no instance of the user's
and none of the ``TQ_`` variables is looked at; what is unfinished and what is kept are bounded, whatever a person pauses.
"""

from __future__ import annotations

import contextlib
import math
import os
import random
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tq import workflows
from tq.client import Client, start_daemon
from tq.demo.private import clean, handlers, material, pages, place
from tq.errors import DaemonError, TqError
from tq.model import SHELL, Backoff

WORKERS, SLOTS = 3, 4
FILES = 60
TICK_S = 0.5
WAVE_S = 80.0
"""From one flood of mail to the next."""
UNFINISHED_MOST = 500
END_WITHIN_S = 30.0
SETTINGS = """\
[workers]
kill_grace = "1s"

[retention]
tasks = 5000
logs = "32M"

[queues.mail]
workers = 5
weight = 2

[queues.reports]
workers = 2
priority = "low"

[queues.web]
workers = 2
retries = 1
"""
COMMANDS = (
    ("count the files", "ls | wc -l; du -sk . | cut -f1"),
    ("rotate the logs", "for part in 1 2 3 4 5 6 7 8; do echo part $part of 8; sleep 0.7; done"),
    ("check the disk", "df -k . | tail -1; sleep 0.4"),
    ("sync the mirror", "echo connecting; sleep 1; echo 'mirror: the other side closed the connection' >&2; exit 12"),
)
PEOPLE = ("ada", "grace", "edsger", "barbara", "donald", "margaret")
Job = tuple[str, Any, dict[str, Any]]


@contextlib.contextmanager
def beside() -> Iterator[str]:
    """A busy instance; gives its data directory. DaemonError with the reason if it does not start."""
    env = {name: value for name, value in os.environ.items() if not name.startswith("TQ_")}
    keeper = subprocess.Popen(
        [sys.executable, "-m", "tq.demo.busy"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=env, text=True,
        start_new_session=True,  # a Ctrl-C is the monitor's; this one learns of its end
    )  # fmt: skip
    assert keeper.stdin is not None
    assert keeper.stdout is not None
    with keeper.stdin, keeper.stdout:
        try:
            word, _, rest = keeper.stdout.readline().strip().partition(" ")
            if word != "ready":
                raise DaemonError(f"the demo did not start: {rest or 'its process ended at once.'}")
            yield rest
        finally:
            keeper.stdin.close()
            keeper.wait(END_WITHIN_S)


class Load:
    """What makes the instance busy: ``begin`` once, then ``step`` each ``TICK_S``."""

    def __init__(self, client: Client, source: Path, packed: Path, address: str, mix: random.Random) -> None:
        self._client, self._packed, self._address, self._mix = client, packed, address, mix
        self._files = sorted(source.iterdir())
        self._how = {"cwd": str(source), "env": {"PATH": os.defpath}, "umask": 0o077}
        self._number = 0

    def begin(self) -> None:
        """Schedules, a paused queue, and enough work that there is something to see at once."""
        client = self._client
        client.add_schedule("heartbeat", SHELL, {"argv": ["date"]}, options={"extras": self._how, "queue": "ops"}, every="10s")
        client.add_schedule("health-check", "fetch", {"url": f"{self._address}healthz"}, options={"retries": 0}, every="20s")
        client.add_schedule("morning-report", "report", {"pages": 30, "seconds": 6}, cron="30 6 * * MON-FRI", tz="Europe/Berlin")
        client.add_schedule("backup", SHELL, {"argv": ["true"]}, options={"extras": self._how, "queue": "ops"}, cron="0 3 * * *")
        client.pause_schedule("backup")
        client.set_queue("invoices", paused=True)
        client.enqueue_many([self._mail(queue="invoices", label=f"invoice {number}") for number in range(1, 13)])
        client.enqueue_many([self._mail(delay=self._mix.uniform(20, 600)) for _ in range(15)])
        client.enqueue_many([job for _ in range(20) for job in self.jobs(WAVE_S / 4)])
        self._reports()
        self._nightly()

    def step(self, seconds: float) -> None:
        """What comes ``seconds`` after the beginning, unless too much is unfinished."""
        states = self._client.stats()["states"]
        if sum(states[word] for word in ("scheduled", "blocked", "pending", "running", "retrying")) > UNFINISHED_MOST:
            return
        self._number += 1
        self._client.enqueue_many(self.jobs(seconds))
        if self._number % 16 == 0:
            self._reports()
        if self._number % 80 == 0:
            self._nightly()
        if self._number % 50 == 0:
            later = self._client.enqueue("mail", self._mail()[1], delay="1h", label="withdrawn")
            self._client.cancel([later])

    def jobs(self, seconds: float) -> list[Job]:
        """The work of one step: more mail as the wave rises, some of everything else."""
        mix = self._mix
        flood = 2.5 * (1 - math.cos(2 * math.pi * seconds / WAVE_S)) + mix.random()
        found = [self._mail() for _ in range(round(flood))]
        file = str(mix.choice(self._files))
        work: list[Job] = [
            ("hash", {"path": file}, {}), ("words", {"path": file}, {"priority": mix.choice(["low", "normal", "high"])}),
            ("gzip", {"path": file, "into": str(self._packed)}, {}), ("fetch", {"url": self._address + Path(file).name}, {}),
        ]  # fmt: skip
        found += mix.sample(work, mix.randint(1, 3))
        number = mix.randrange(1000, 10_000)
        if mix.random() < 0.6:
            tries = mix.choices((1, 2, 3, 9), (86, 8, 4, 2))[0]
            policy = {"retries": 3, "backoff": Backoff.fixed("4s")}
            found.append(("charge", {"order": number, "answers_at": tries}, {**policy, "label": f"order {number}"}))
        if mix.random() < 0.04:
            found.append(("order", {"amounts": ["3", mix.choice(["four", "", "n/a"]), "5"]}, {"retries": 0, "label": f"order {number}"}))
        if mix.random() < 0.12:
            label, line = mix.choice(COMMANDS)
            extras = {"extras": self._how, "queue": "ops"}
            found.append((SHELL, {"argv": ["sh", "-c", line]}, {**extras, "label": label, "retries": mix.choice((0, 0, 1))}))
        if mix.random() < 0.06:
            found.append(self._mail(queue="invoices", ttl="5s", label="reminder"))
        if mix.random() < 0.08:
            found.append(self._mail(delay=mix.uniform(10, 90)))
        return found

    def _mail(self, **options: Any) -> Job:
        known = self._mix.random() > 0.02
        to = f"{self._mix.choice(PEOPLE) if known else 'nobody'}@example.org"
        return "mail", {"to": to, "seconds": round(self._mix.triangular(0.05, 1.2, 0.2), 2)}, options

    def _reports(self) -> None:
        """A report that takes a while, and mail that waits for it."""
        number = self._mix.randrange(8, 40)
        report = self._client.enqueue("report", {"pages": number, "seconds": round(number / 3, 1)}, label=f"quarter {number % 4 + 1}")
        self._client.enqueue("mail", self._mail()[1], after=report, label="report is ready")

    def _nightly(self) -> None:
        """A workflow: pages are fetched, their words counted side by side, prices checked, which goes wrong now and then, and a report."""
        files, mix = self._mix.sample(self._files, min(8, len(self._files))), self._mix
        names = ["fetch", *(f"count[{at}]" for at in range(len(files))), "prices", "report", "tell", "call somebody"]
        prices, report = -2 - len(files), -3 - len(files)
        jobs: list[Job] = [
            ("fetch", {"url": self._address + files[0].name}, {}),
            *(("words", {"path": str(file)}, {"after": [-1]}) for file in files),
            ("order", {"amounts": ["3", mix.choice(["4", "4", "four"]), "5"]}, {"after": [-1], "retries": 0}),
            ("report", {"pages": 12, "seconds": 4.0}, {"after": [*range(-2, prices, -1), prices]}),
            ("mail", self._mail()[1], {"after_any": [report]}),
            ("mail", self._mail()[1], {"after_failure": [report]}),
        ]
        marks = workflows.marks("nightly report", names)
        self._client.enqueue_graph([(kind, given, {**how, "meta": note}) for (kind, given, how), note in zip(jobs, marks, strict=True)])


def keep_busy(client: Client, home: Path, ended: list[int]) -> None:
    """Load the daemon of ``client`` until standard input ends, or something is in ``ended``."""
    (home / "packed").mkdir()
    source = material(home / "files", FILES)
    with pages(source) as address:
        load = Load(client, source, home / "packed", address, random.Random())
        load.begin()
        print(f"ready {client.data_dir}", flush=True)
        began = time.monotonic()
        while not ended and not select.select([sys.stdin], [], [], TICK_S)[0]:
            with contextlib.suppress(TqError):  # a person may drain, purge or even stop it
                load.step(time.monotonic() - began)


def main() -> None:
    """``python -m tq.demo.busy``: keep a busy instance until standard input ends, or a signal comes."""
    ended: list[int] = []
    for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
        signal.signal(number, lambda number, _: ended.append(number))
    home = place()
    data_dir, pid = home / "demo", 0
    os.environ["XDG_CONFIG_HOME"] = str(home)  # where the daemon finds its settings, and not the user's
    try:
        (home / "tq").mkdir()
        (home / "tq" / "tq.toml").write_text(SETTINGS, "utf-8")
        pid = start_daemon(data_dir, app=str(handlers()), workers=WORKERS, slots=SLOTS)
        with Client(data_dir) as client:
            keep_busy(client, home, ended)
    except TqError as error:
        print(f"error {error}".replace("\n", " "), flush=True)
    finally:
        clean(home, data_dir, pid)


if __name__ == "__main__":
    main()

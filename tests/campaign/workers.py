"""T6 to T8: workers that die, run out of memory or hang under their task, while seven others work beside them.

For: ``SUITE``: one killer among eight tasks a cycle (killers.py has the ways). The death is noticed at once, the pool has its size
again, no other task is touched, no run begins while an earlier one of its task lives, and the task ends as it should:
a crash is a crash, a hang a timeout, the third crash poison.
Not for: the end of the daemon (shutdowns, kills), floods of such tasks (storms).
Runs in: the process that drives it; daemon and workers are real.
Promises: a cycle's way and its chance come from its seed. A machine that is slow itself is not blamed on tq: a thread that
only sleeps says how late this process was, the kernel how long work waited, and bounds of time are so much wider.

A real end by the kernel's out-of-memory killer needs a cgroup that this user may make; without one, the cycle is counted as
``no_cgroup`` and its task is killed instead.
"""

from __future__ import annotations

import os
import random
import shutil
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from tests.campaign.suite import ROOT, Report, Suite, each, plain_env, scratch
from tests.living import Daemon, pressure, wait_until
from tq.client import Client

APP = ROOT / "tests" / "campaign" / "killers.py"
WORKERS = 8
NOTICED_S = 0.1
RESTORED_S = 1.0
TIMEOUT_S = 0.3
GRACE_S = 0.3
BROKEN_S = 0.6
"""How long the application cannot be imported."""
OOM_BYTES = 96 << 20
WAYS = (
    "killed", "segfault", "exits", "overflows", "breaks_import", "out_of_memory", "no_memory", "stops", "ignores_term", "endless", "in_c",
)  # fmt: skip
HANGS = {"stops", "ignores_term", "endless", "in_c"}


class Yardstick(threading.Thread):
    """How slow this machine is: since it was last asked, the worst oversleep, and the time that something waited for the
    processor or the disk (the kernel's pressure figures, where it has them), in seconds.
    """

    NAP_S = 0.005

    def __init__(self) -> None:
        super().__init__(name="yardstick", daemon=True)
        self._over = threading.Event()
        self.reset()

    def run(self) -> None:
        while not self._over.is_set():
            began = time.monotonic()
            time.sleep(self.NAP_S)
            self._worst = max(self._worst, time.monotonic() - began - self.NAP_S)

    def reset(self) -> None:
        self._worst, self._pressed = 0.0, pressure()

    def slack(self) -> float:
        """What a bound may be wider by: several processes of tq wait for the processor where this one waits once."""
        return 10 * self._worst + pressure() - self._pressed

    def end(self) -> None:
        self._over.set()
        self.join()


class Runs:
    """The account of the runs of tasks that killers.py keeps."""

    def __init__(self, place: Path) -> None:
        self.folder = place / "runs"
        self.folder.mkdir()

    def lines(self, task_id: int) -> list[list[str]]:
        try:
            return [line.split() for line in (self.folder / str(task_id)).read_text().splitlines()]
        except FileNotFoundError:
            return []

    def dies(self, task_id: int) -> dict[int, int]:
        """Attempt -> the instant of its death (ms since the epoch)."""
        return {int(words[1]): int(words[3]) for words in self.lines(task_id) if words[0] == "dies"}

    def begun(self, task_id: int) -> int:
        return sum(words[0] == "begin" for words in self.lines(task_id))

    def overlaps(self, task_id: int) -> Iterator[str]:
        """Runs of a task that were there at the same time."""
        ended = 0
        for word, attempt, *rest in self.lines(task_id):
            if word == "beside":
                yield f"task {task_id}: expected its run before to be over, it lived as attempt {attempt} began: process {rest[0]}"
            elif word == "begin" and int(rest[2]) < ended:
                yield f"task {task_id}: expected attempt {attempt} to begin after the one before, not {ended - int(rest[2])} ns earlier"
            elif word == "end":
                ended = int(rest[0])


def make_cgroup() -> Path | None:
    """A cgroup in which there is little memory; None if this user or this system cannot have one."""
    for top, limit in ((Path("/sys/fs/cgroup/memory"), "memory.limit_in_bytes"), (Path("/sys/fs/cgroup"), "memory.max")):
        group = top / f"tq-campaign-{os.getpid()}"
        try:
            group.mkdir()
        except OSError:
            continue
        try:
            (group / limit).write_text(str(OOM_BYTES))
            with suppress(OSError):  # where there is no swap to forbid
                (group / "memory.swap.max").write_text("0")
            return group
        except OSError:
            group.rmdir()
    return None


class Life:
    """A place and the daemon in it, with the killers as its application; ``options`` are the daemon's."""

    def __init__(self, plant: str | None, **options: object) -> None:
        self.where = Path(tempfile.mkdtemp(prefix="tqw", dir=scratch()))
        self.data_dir = self.where / "d"
        self.data_dir.mkdir(mode=0o700)
        (self.data_dir / "tq.toml").write_text(f"kill_grace_s = {GRACE_S}\nkeep = 1000000\n")
        self.runs = Runs(self.where)
        self.daemon = Daemon(self.data_dir, None, **{"app": APP, "workers": WORKERS, **options})
        if plant is not None:
            self.daemon.module = ["tests.campaign.planted", plant, "tq.daemon"]
        self.daemon.env = plain_env(KILLERS=str(self.where))
        self.client = Client(self.data_dir, timeout=30)
        self.yardstick = Yardstick()
        self.yardstick.start()

    def begin(self) -> list[str]:
        """What comes before the first cycle; what was violated."""
        return []

    def cycle(self, seed: int, report: Report) -> Iterator[str]:
        raise NotImplementedError

    def live(self, name: str, seed: int, cycles: int) -> Report:
        """Begin, run the cycles one after the other, and end; what is left behind is a violation too."""
        try:
            found = self.begin()
            report = each(name, seed, cycles, self.cycle)
        finally:
            left = self.close()
        report.violations += found + [f"expected no process to be left, got {one}" for one in left]
        return report

    def start(self) -> None:
        self.daemon.start()
        self.full()

    def ready(self) -> list[dict[str, Any]]:
        return [row for row in self.client.workers() if row["state"] in ("idle", "busy")]

    def full(self, within_s: float = 30.0) -> list[dict[str, Any]]:
        """Wait until the pool has its size; AssertionError if it does not come to it."""

        def there() -> list[dict[str, Any]]:
            rows = self.ready()
            return rows if len(rows) == self.daemon.options["workers"] else []

        return wait_until(there, within_s, "the pool at its size")

    def over(self, ids: list[int], within_s: float = 60.0) -> list[dict[str, Any]]:
        """Wait for the ends of tasks and give them as they are then; AssertionError names those that have none."""
        rows: list[dict[str, Any]] = []
        deadline = time.monotonic() + within_s
        for at in range(0, len(ids), 500):
            rows += [row or {} for row in self.client.wait(ids[at : at + 500], max(deadline - time.monotonic(), 0.001))]
        late = [row.get("id") for row in rows if row.get("state") not in ("succeeded", "failed", "cancelled", "expired")]
        assert not late, f"expected tasks to be over within {within_s:g} s, these are not: {late[:10]} ({len(late)})"
        return rows

    def close(self) -> list[str]:
        """End everything; what was left behind."""
        self.yardstick.end()
        self.client.close()
        left = self.daemon.end() if hasattr(self.daemon, "process") else []
        shutil.rmtree(self.where, ignore_errors=True)
        self.daemon.words.unlink(missing_ok=True)
        return left


class Bench(Life):
    """The life in which cycles happen, one after the other."""

    def __init__(self, plant: str | None) -> None:
        super().__init__(plant)
        self.cgroup = make_cgroup()
        if self.cgroup is not None:
            (self.where / "cgroup").write_text(str(self.cgroup))

    def close(self) -> list[str]:
        left = super().close()
        if self.cgroup is not None:
            wait_until(lambda: not (self.cgroup / "cgroup.procs").read_text(), 10, "the cgroup is empty")  # type: ignore[operator]
            self.cgroup.rmdir()
        return left

    def begin(self) -> list[str]:
        self.start()
        return list(self._spared())

    def _spared(self) -> Iterator[str]:
        """When memory runs out, workers go before the daemon."""
        score = _oom_score(self.daemon.pid)
        for row in self.ready():
            if _oom_score(row["pid"]) <= score:
                yield f"expected worker {row['id']} to be ended before the daemon when memory runs out, their scores are both {score}"

    def cycle(self, seed: int, report: Report) -> Iterator[str]:
        rng = random.Random(seed)
        way = WAYS[seed % len(WAYS)]
        if way == "out_of_memory" and self.cgroup is None:
            way = "killed"
            report.add(no_cgroup=1)
        most = 1 if way in HANGS or way == "breaks_import" else 4
        times = rng.randint(1, most)
        timeout = TIMEOUT_S if way in HANGS else 30
        batch: list[tuple[Any, ...]] = [("works", {"seconds": rng.uniform(0.2, 0.4)})] * (WORKERS - 1)
        batch.insert(rng.randrange(WORKERS), ("kills", {"way": way, "times": times}, {"timeout": timeout}))
        before = {row["id"]: row["pid"] for row in self.full()}
        self.yardstick.reset()
        ids = self.client.enqueue_many(batch)
        killer = next(task_id for task_id, row in zip(ids, batch, strict=True) if row[0] == "kills")
        if way == "breaks_import":
            wait_until(lambda: self.runs.dies(killer), 10, "the death that breaks the application")
            time.sleep(BROKEN_S)
            (self.where / "broken").unlink()
        rows = self.over(ids)
        yield from self._restored(way, killer, before)
        for row in rows:
            yield from self.runs.overlaps(row["id"])
            yield from self._killer(row, way, times, report) if row["id"] == killer else self._sibling(row)
        if self.daemon.process.poll() is not None:
            yield f"{way}: expected the daemon to live, it left with {self.daemon.process.returncode}"

    def _restored(self, way: str, killer: int, before: dict[str, int]) -> Iterator[str]:
        """The pool has its size again a second after the last death, and only workers that died were replaced."""
        last = max(self.runs.dies(killer).values(), default=0)
        now = {row["id"]: row["pid"] for row in self.full()}
        took = time.time() - last / 1000
        most = RESTORED_S + self.yardstick.slack()
        if way == "breaks_import":
            most += BROKEN_S + 1.0  # another worker is tried a second after one that could not start
        if way in HANGS:
            most += TIMEOUT_S + GRACE_S + 0.2
        if took > most + 0.4:  # the siblings run so long, and only then anybody looks
            yield f"{way}: expected the pool at its size within {most:.2f} s of the last death, it took {took:.2f} s"
        lost = sorted(pid for name, pid in before.items() if now.get(name) != pid)
        died = {int(words[2]) for words in self.runs.lines(killer) if words[0] == "begin"}
        if set(lost) - died:
            yield f"{way}: expected only the killer's workers to be replaced, so were {set(lost) - died}"

    def _sibling(self, row: dict[str, Any]) -> Iterator[str]:
        found = (row["state"], row["attempt"], row["crashes"], row["interrupts"], [words[0] for words in self.runs.lines(row["id"])])
        if found != ("succeeded", 1, 0, 0, ["begin", "end"]):
            yield f"sibling {row['id']}: expected one run, whole and uncharged, got {found}"

    def _killer(self, row: dict[str, Any], way: str, times: int, report: Report) -> Iterator[str]:
        kinds = [attempt[3] for attempt in row["attempts"]]
        told = f"{way} x{times}, task {row['id']}"
        if way in HANGS:
            want = ["timeout"] * times
        elif way == "no_memory" or (way == "overflows" and "failed" in kinds):  # newer Pythons see an overflow coming
            want = ["failed"] * times
        else:
            want = ["crashed"] * min(times, 3)
        report.add(deaths=len(want))
        poison = want.count("crashed") == 3
        counts = (row["crashes"], row["failures"], row["interrupts"])
        if counts != (want.count("crashed"), len(want) - want.count("crashed"), 0):
            yield f"{told}: expected crashes, failures and interrupts as for {want}, got {counts}"
        if kinds != (want[:-1] if poison else want):  # the last one is the task's own end
            yield f"{told}: expected {want}, got {kinds}"
        if row["state"] != ("failed" if poison else "succeeded") or (poison and (row["error"] or {}).get("type") != "WorkerDied"):
            yield f"{told}: expected it to be {'poison' if poison else 'succeeded'} at last, got {row['state']}: {row['error']}"
        if not row["attempt"] == self.runs.begun(row["id"]) == len(want) + (not poison):
            yield f"{told}: expected a run for each attempt, got {self.runs.begun(row['id'])} and {row['attempt']}"
        if way in {"killed", "segfault", "exits"}:  # of the others nobody knows the instant
            ends = [*(attempt[1] for attempt in row["attempts"]), row["finished_at"]]
            late = [ends[number - 1] - died for number, died in self.runs.dies(row["id"]).items()]
            report.add(noticed=len(late), noticed_ms_in_all=sum(late))
            if max(late) > 1000 * (NOTICED_S + self.yardstick.slack()):
                yield f"{told}: expected its death to be noticed within {NOTICED_S} s, it took {max(late)} ms"


def _oom_score(pid: int) -> int:
    return int(Path(f"/proc/{pid}/oom_score_adj").read_text())


def run(seed: int, cycles: int, plant: str | None = None) -> Report:
    return Bench(plant).live("workers", seed, cycles)


SUITE = Suite("workers", "tasks that kill or hang their worker", 2 * len(WAYS), 500, run, ("requeue_before_reap",))

"""T4, T5: a full queue, a full map, a really full disk: new tasks are refused, and what is there can always be drained to nothing.

For: ``SUITE``: a cycle fills a store to one of its limits with tasks, groups and payloads of a seed's sizes, and drains it by ends
of all kinds; ``on_a_full_disk``: the same of a real daemon on a file system that others fill to the last byte.
Not for: disks that fail (errors), queues that clients wait for (clients).
Runs in: the process that drives it; ``python -m tests.campaign.full DIR ROUNDS`` in one that has a file system of its own.
Promises: a cycle depends on its seed alone; no limit is raised and nothing is restarted between the refusal and the last task.
"""

from __future__ import annotations

import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from tests.campaign import planted
from tests.campaign.suite import ROOT, Report, Suite, each, plain_env, python, scratch
from tests.living import Daemon, wait_until
from tests.tq.broker_driver import Driver
from tq.broker import Broker
from tq.client import Client
from tq.errors import Refused
from tq.intake import Defaults
from tq.model import state_named
from tq.store import Claimed, Limits
from tq.store.lmdb import KEPT_AT_LEAST_MS, LmdbStore
from tq.store.room import DISK_RESERVE
from tq.store.verify import verify

NAME = "full"
MIB = 1 << 20
FILE_MIB = 24
TURNS_MOST = 4000
LOOKS_WITHIN_S = 5.0
"""A daemon looks at its disk once a second; what comes in until then is small, and lies in the ballast."""
VERIFY_EVERY = 10
"""One cycle in so many ends with a reading of every record; all end with a recount."""


class Small(Driver):
    """A broker on a store with a small map."""

    def __init__(self, path: Path, limits: Limits, map_size: int) -> None:
        self.map_size = map_size
        super().__init__("lmdb", path, limits, Defaults())

    def open(self) -> None:
        self.store = LmdbStore(self.path, self.limits, self.map_size)
        self.broker = Broker(self.store, self.limits, self.defaults, lambda: 0.5, self._clock)


class Case(NamedTuple):
    """What is to be filled: ``named`` is what the refusal must name, ``largest`` the payloads' size, ``group`` tasks a request."""

    limits: Limits
    map_size: int
    named: str
    largest: int
    group: int


def case_of(chance: random.Random) -> Case:
    count = int(2 ** chance.uniform(3, 9.3))
    group = min(int(2 ** chance.uniform(0, 9)), 1 + count // 3)
    which = chance.choice(("map", "map", "map", "tasks", "bytes"))
    if which == "map":
        size = chance.choice((4, 5, 6)) * MIB
        return Case(Limits(keep=chance.choice((0, 50, 100_000))), size, "map of", min(2 * size // count, 256 << 10), group)
    if which == "tasks":
        return Case(Limits(queue_tasks=count), 64 * MIB, "is full", 2000, group)
    largest = int(2 ** chance.uniform(2, 14))
    return Case(Limits(queue_bytes=count * largest // 2 + largest), 64 * MIB, "is full", largest, group)


def fill(d: Small, chance: random.Random, case: Case) -> tuple[int, list[str]]:
    """Enqueue until it is refused; how many tasks were taken, and what was wrong with the refusal."""
    taken, group = 0, case.group
    for _ in range(TURNS_MOST):
        options = {"retries": chance.choice((0, 0, 1, 3)), "priority": chance.randrange(4)}
        tasks = [["t", chance.randbytes(chance.randrange(case.largest)), options] for _ in range(group)]
        number = d.submit("enqueue", tasks=tasks)
        d.turn()
        d.now += chance.choice((0, 1, 1100))
        error = d.error(number)
        if not error:
            taken += group
            continue
        code, message, details = error
        if code != "refused" or case.named not in message or not ("retry_after" in details or details.get("too_much")):
            return taken, [f"expected a refusal that may be tried again and names {case.named!r}, got {error}"]
        if group == 1:
            return taken, []
        group //= 2  # less may still fit
    return taken, [f"expected a refusal within {TURNS_MOST} requests, got none after {taken} tasks"]


def row_of(d: Small, task: Claimed, chance: random.Random, largest: int) -> Any:
    """How a task ends: well, with a result of up to ``largest`` bytes; badly, with an error; or its worker dies."""
    kind = chance.choice((0, 0, "failed", "failed", "crashed"))
    if kind == 0:
        return d.result(task, 0, result=chance.randbytes(chance.randrange(largest)))
    return d.result(task, kind, error={"type": "E", "message": "x" * chance.randrange(min(largest, 3500))})


def drain(d: Small, chance: random.Random, count: int) -> Iterator[str]:
    """Let all of them end, each in some way; what stands in the way."""
    take, largest, still, idle = int(2 ** chance.uniform(0, 9)), int(2 ** chance.uniform(1, 15)), 0, 0
    while live := left(d):
        if chance.random() < 0.1 and not idle:
            number = d.submit(chance.choice(("cancel", "remove")), ids=chance.sample(range(1, count + 1), min(20, count)))
            d.turn()
            if d.error(number):
                yield f"expected tasks to be cancelled and removed on a full store, got {d.error(number)}"
                return
        tasks = d.grant(take)
        d.now += chance.choice((0, 20, 2000)) if tasks else 60_000  # the next retry
        d.broker.settled([row_of(d, task, chance, largest) for task in tasks])
        d.turn()
        still = still + 1 if d.broker.owed else 0
        idle = 0 if tasks else idle + 1
        if still > 20:
            yield f"expected ends to be stored on a full store, {len(d.broker.owed)} are owed after {still} turns; {live} tasks are left"
            return
        if idle > 50:
            yield f"expected each task to be handed out and to end, {live} of {count} are left after {idle} turns that handed out none"
            return
    failed = [task["id"] for task in d.ask("find", states=["failed"], limit=500)["tasks"]]
    for start in range(0, len(failed), 20):  # they wait for a person, and make way for ends only
        d.ask("remove", ids=failed[start : start + 20])
    d.now += KEPT_AT_LEAST_MS  # and the others are kept for who may ask for their results
    d.settle_down()
    number = d.submit("enqueue", tasks=[["t", b"again", None]])
    d.turn()
    if d.error(number):
        yield f"expected a drained store to take a task again, it said {d.error(number)}"


def left(d: Small) -> int:
    """Tasks that are not over."""
    states = d.ask("stats", conn=2)["states"]
    return sum(count for word, count in states.items() if not state_named(word).final)


def _cycle(seed: int, report: Report) -> Iterator[str]:
    chance = random.Random(seed)
    case = case_of(chance)
    with tempfile.TemporaryDirectory(prefix="tq-", dir=scratch()) as place:
        d = Small(Path(place) / "store", case.limits, case.map_size)
        count, problems = fill(d, chance, case)
        report.add(tasks=count)
        yield from problems
        if not problems:
            yield from drain(d, chance, count)
        d.store.close()
        if seed % VERIFY_EVERY == 0:
            yield from verify(Path(place))


def run(seed: int, cycles: int, plant: str | None = None) -> Report:
    planted.plant(plant)
    return each(NAME, seed, cycles, lambda number, report: list(_cycle(number, report)))


SUITE = Suite(
    NAME, "store filled to a limit and drained", 500, 20_000, run, ("room_unasked", "ends_unprovided", "index_skipped"), tested=100
)


# a disk that others fill


@contextmanager
def filled(where: Path) -> Iterator[None]:
    """Not a byte is free on the file system of ``where`` meanwhile."""
    path = where / "others"
    with path.open("wb", buffering=0) as file:
        for size in (MIB, 4096, 1):
            try:
                while file.write(b"\0" * size):
                    pass
            except OSError:
                continue
        os.fsync(file.fileno())
    try:
        yield
    finally:
        path.unlink()


def refused(client: Client, taken: list[int]) -> list[str]:
    """Ask until a task is refused, as it must be once the daemon has looked at its disk; what is wrong. ``taken`` gets those before."""
    deadline = time.monotonic() + LOOKS_WITHIN_S
    while time.monotonic() < deadline:
        try:
            taken.append(client.enqueue("echo", b"x" * 1000, queue="q", allow_unknown=True).id)
        except Refused as error:
            sound = error.exit_code == 75 and error.retry_after > 0
            return [] if sound else [f"expected a refusal with a time to try again, got {error}"]
        time.sleep(0.05)
    return [f"expected tasks to be refused on a full disk within {LOOKS_WITHIN_S:g} s, got task {taken[-1]}"]


def enqueued(client: Client) -> bool:
    try:
        client.enqueue("echo", b"", queue="q", allow_unknown=True)
    except Refused:
        return False
    return True


def ends(client: Client, count: int) -> Iterator[str]:
    """Let so many tasks end, half of them well, by a consumer; each answer must say that it is stored."""
    done = 0
    while done < count:
        tasks = client.claim(["q"], limit=min(16, count - done), lease=60)
        if not tasks:
            yield f"expected a task to claim on a full disk, got none after {done}"
            return
        rows: list[list[Any]] = []
        for number, task in enumerate(tasks):
            good = [task["id"], task["claim"], "succeeded", {"result": b"r" * 500}]
            rows.append(
                good
                if number % 2
                else [task["id"], task["claim"], "failed", {"error": {"type": "E", "message": "m" * 500}, "permanent": True}]
            )
        settled = client.call("settle", {"results": rows})["settled"]
        if not all(settled):
            yield f"expected all ends to be stored on a full disk, got {settled}"
        done += len(tasks)


def while_others_fill_it(client: Client, where: Path, rounds: int) -> Iterator[str]:
    for _ in range(rounds):
        ids = [client.enqueue("echo", os.urandom(2000), queue="q", allow_unknown=True).id for _ in range(120)]
        with filled(where):
            yield from refused(client, ids)
            yield from ends(client, 60)
            client.call("cancel", {"ids": ids[-20:]})
            yield from refused(client, ids)
            yield from ends(client, len(ids) - 80)
            if left := client.claim(["q"], limit=1, lease=60):
                yield f"expected a queue that is drained, got task {left[0]['id']}"
        wait_until(lambda: enqueued(client), LOOKS_WITHIN_S, "a task that is taken when there is room again")
        yield from ends(client, 1)


def on_a_full_disk(kind: str, rounds: int) -> list[str]:
    """The same on a tmpfs, or an ext4 in a file, in a mount namespace of its own; needs root."""
    size = (DISK_RESERVE >> 20) + 40
    with tempfile.TemporaryDirectory(prefix="tq-") as place:
        image, where = f"{place}/image", f"{place}/m"
        os.mkdir(where)
        if kind == "ext4":
            with open(image, "wb") as file:
                file.truncate(size * MIB)
            subprocess.run(["mkfs.ext4", "-q", "-F", "-m", "0", image], check=True, capture_output=True)
        mount = f"mount -t tmpfs -o size={size}m none {where}" if kind == "tmpfs" else f"mount -o loop {image} {where}"
        words = " ".join(python("-m", "tests.campaign.full", where, str(rounds)))
        script = f"{mount} && {words}; code=$?; umount {where}; exit $code"
        argv = ["unshare", "--mount", "--propagation", "private", "sh", "-c", script]
        done = subprocess.run(argv, cwd=ROOT, env=plain_env(), capture_output=True, text=True, check=False)
        if done.returncode:
            return [f"on {kind}: {line}" for line in done.stdout.splitlines() or [done.stderr[-2000:]]]
    return []


def with_a_limit_of_files(rounds: int) -> list[str]:
    """The same where no file may grow beyond some MiB (RLIMIT_FSIZE), which needs no root."""
    with tempfile.TemporaryDirectory(prefix="tq-", dir=scratch()) as where:
        words = " ".join(python("-m", "tests.campaign.full", where, str(rounds), "limited"))
        script = f"ulimit -f {FILE_MIB * 1024}; exec {words}"
        done = subprocess.run(["bash", "-c", script], cwd=ROOT, env=plain_env(), capture_output=True, text=True, check=False)
        return (done.stdout.splitlines() or [done.stderr[-2000:]]) if done.returncode else []


def until_refused(client: Client, where: Path, rounds: int) -> Iterator[str]:
    """Fill what the system allows with new tasks alone, and drain it, ``rounds`` times, forgetting what is over in between."""
    for _ in range(rounds):
        count = 0
        try:
            while count < 10_000:
                client.enqueue("echo", os.urandom(20_000), queue="q", allow_unknown=True)
                count += 1
        except Refused as error:
            if error.exit_code != 75 or count < 100:
                yield f"expected a refusal (75) of the task that does not fit, got {error} after {count}"
        yield from ends(client, count)
        chore = client.call("remove", {"where": "id>0"})["chore"]
        client.wait_chore(chore)
        if size := (where / "tq" / "store" / "data.mdb").stat().st_size > FILE_MIB * MIB:
            yield f"expected a file within its limit of {FILE_MIB} MiB, got one of {size} bytes"


def on_this_file_system(where: Path, rounds: int, story: Callable[[Client, Path, int], Iterator[str]]) -> Iterator[str]:
    """A daemon that lives through all of it; what was wrong."""
    daemon = Daemon(where / "tq", workers=0)
    daemon.start()
    try:
        with Client(where / "tq") as client:
            client.set_queue("q", external=True)
            yield from story(client, where, rounds)
        if code := daemon.stop():
            yield f"expected the daemon to end well, it ended with {code}"
    finally:
        left = daemon.end()
    if left:
        yield f"expected nothing to survive the daemon, found {left}"
    yield from verify(where / "tq")


def main() -> None:
    story = until_refused if sys.argv[3:] == ["limited"] else while_others_fill_it
    problems = list(on_this_file_system(Path(sys.argv[1]), int(sys.argv[2]), story))
    print(*problems, sep="\n")
    sys.exit(1 if problems else 0)


if __name__ == "__main__":
    main()

"""Commands about the instance as a whole: queues, workers, the store's files, the demo and the bench.

For: ``queue worker verify backup demo bench``.
Not for: tasks (tasks, hot), the daemon's life (daemon).
Runs in: the ``tq`` command.
Promises: ``verify`` and ``backup`` work whether a daemon runs or not; ``demo`` and ``bench`` use instances of their own.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tq.cli.hot import say
from tq.cli.options import whole
from tq.cli.render import clean, instant, json_line, plain, table
from tq.client import Client
from tq.errors import UsageError


def queue_list(client: Client, values: dict[str, Any]) -> int:
    rows = client.queues()
    if values["json"]:
        for row in rows:
            print(json_line(plain(row)))
        return 0
    cells = []
    for row in rows:
        flags = [word for word in ("paused", "external") if row[word]]
        states = "  ".join(f"{word} {count}" for word, count in row["states"].items() if count)
        cells.append((row["name"], row["weight"], " ".join(flags) or "open", states))
    print(table(("queue", "weight", "is", "tasks"), cells) if cells else "no queues yet: the first task makes one")
    return 0


def queue_set(client: Client, values: dict[str, Any]) -> int:
    changes: dict[str, object] = {}
    if values["external"] is not None:
        changes["external"] = values["external"]
    if values["weight"] is not None:
        changes["weight"] = whole("--weight", values["weight"])
    if not changes:
        raise UsageError("expected something to change (--external, --no-external, --weight N), got nothing.")
    client.set_queue(values["name"], **changes)
    return 0


def queue_pause(client: Client, values: dict[str, Any]) -> int:
    client.set_queue(values["name"], paused=True)
    return 0


def queue_resume(client: Client, values: dict[str, Any]) -> int:
    client.set_queue(values["name"], paused=False)
    return 0


def worker_list(client: Client, values: dict[str, Any]) -> int:
    rows = client.workers()
    if values["json"]:
        for row in rows:
            print(json_line(plain({**row, "started_at": instant(row["started_at"])})))
        return 0
    cells = [
        (row["id"], row["pid"], row["state"], instant(row["started_at"]), row["done"], ", ".join(map(str, row["tasks"])) or "-")
        for row in rows
    ]
    print(table(("worker", "pid", "state", "since", "done", "tasks"), cells) if cells else "no workers")
    return 0


def verify(client: Client, _values: dict[str, Any]) -> int:
    from tq.store.verify import verify as check

    problems = check(Path(client.data_dir))
    for problem in problems:
        print(clean(problem))
    say(f"{len(problems)} problems. Restore a backup." if problems else "the store is sound")
    return 1 if problems else 0


def backup(client: Client, values: dict[str, Any]) -> int:
    from tq.store.files import backup as copy

    print(copy(Path(client.data_dir), Path(values["dest"])))
    return 0


def demo(_client: Client, values: dict[str, Any]) -> int:
    from tq.demo import run

    return run(keep=values["keep"])


def bench(_client: Client, values: dict[str, Any]) -> int:
    from tq.bench import run

    numbers = {key: whole(f"--{key}", values[key]) for key in ("tasks", "workers") if values[key] is not None}
    return run(as_json=values["json"], **numbers)

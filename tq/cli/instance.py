"""Commands about the instance as a whole: the store's files, the demo and the bench.

For: ``verify backup demo bench``.
Not for: tasks (tasks, hot, control), queues (queues), workers (workers), the daemon's life (daemon).
Runs in: the ``tq`` command.
Promises: ``verify`` and ``backup`` work whether a daemon runs or not; ``demo`` and ``bench`` use instances of their own.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tq.cli.hot import say
from tq.cli.options import whole
from tq.cli.render import clean
from tq.client import Client


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

"""Commands about worker processes: ``worker list|scale|drain|restart``.

For: people who look after an instance.
Not for: what becomes of a task, or of the command that it runs (control), the daemon itself (daemon).
Runs in: the ``tq`` command.
Promises: what workers there will be is said as soon as it is certain.
"""

from __future__ import annotations

from typing import Any

from tq.cli.hot import say
from tq.cli.options import a_name, whole
from tq.cli.render import clean, instant, json_line, plain, print_table
from tq.client import Client
from tq.client.start import READY_WITHIN
from tq.errors import UsageError

MIB = 1 << 20


def worker_list(client: Client, values: dict[str, Any]) -> int:
    rows = client.workers()
    if values["json"]:
        for row in rows:
            print(json_line(plain({**row, **{key: instant(row[key]) for key in ("started_at", "last_heartbeat")}})))
        return 0
    head = ("worker", "host", "pid", "state", "started", "heartbeat", "done", "cpu", "memory", "tasks")
    cells = [
        (
            row["id"], clean(row["hostname"]), row["pid"], row["state"], instant(row["started_at"]), instant(row["last_heartbeat"]),
            row["done"], f"{row['cpu']:.0f} %", f"{row['rss'] / MIB:.0f} MiB", ", ".join(map(str, row["tasks"])) or "-",
        )
        for row in rows
    ]  # fmt: skip
    print_table(head, cells, "no workers")
    return 0


def worker_scale(client: Client, values: dict[str, Any]) -> int:
    given = {key: whole(f"--{key}", values[key]) for key in ("min", "max") if values[key] is not None}
    if values["count"] is not None:
        if given:
            raise UsageError("expected a number of workers, or --min and --max, got both. Drop one.")
        count = whole("count", values["count"])
        given = {"min": count, "max": count}
    if not given:
        raise UsageError("expected how many workers there are to be (`tq worker scale 4`), or --min and --max, got neither.")
    _say_sizes(client.call("scale_workers", given))
    return 0


def _say_sizes(sizes: dict[str, Any]) -> None:
    low, high = sizes["min"], sizes["max"]
    say(f"workers: {low}" if low == high else f"workers: {low} to {high}, as the work needs")


def worker_drain(client: Client, values: dict[str, Any]) -> int:
    sizes = client.call("drain_worker", {"id": a_name("ID", values["id"])})
    say(f"worker {values['id']}: finishes what runs in it and goes")
    _say_sizes(sizes)
    return 0


def worker_restart(client: Client, values: dict[str, Any]) -> int:
    args = {} if values["id"] is None else {"id": a_name("ID", values["id"])}
    names = client.call("restart_workers", args, READY_WITHIN)["workers"]  # a ConfigError with the traceback: all stay as they are
    say(f"restarting, one after the other: {', '.join(names) or 'there is none'}")
    return 0

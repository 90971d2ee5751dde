"""``tq stats --history 10m``: how the counts went, a line for each step of time.

For: the series of ``history`` as a table, or as JSON lines.
Not for: the totals of ``stats`` (hot, render), charts (the monitor).
Runs in: the ``tq`` command, over any ``call`` that sends a request.
Promises: at most some 150 lines a day; a step in which no daemon ran shows dashes, in JSON null; times are UTC.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tq.cli.options import a_name, duration
from tq.cli.render import instant, json_line, seconds, table
from tq.errors import UsageError

if TYPE_CHECKING:
    from tq.cli.options import Call

STEPS = ((120, 1), (1200, 10), (7200, 60), (30 * 86_400, 600))
"""Up to how many seconds, in steps of how many: as long as they are kept, and no more lines than one reads."""
AT_ONCE = 720
HEAD = ("time", "added/s", "done/s", "failed/s", "retried/s", "pending", "running", "p50", "p95")
_MS = ("p50", "p95", "p99")


def history(call: Call, values: dict[str, Any]) -> int:
    """Print it; UsageError for an option that cannot be used, before anything is asked for."""
    queue = None if values.get("queue") is None else a_name("--queue", values["queue"])
    if values.get("history") is None:
        raise UsageError("--queue: expected --history beside it, such as --history 1h, got none. `tq queue show` has a queue's totals.")
    span = duration("--history", values["history"]) // 1000
    step = next((step for most, step in STEPS if span <= most), 0)
    if not step or not span:
        raise UsageError(f"--history: expected one second to 30 days, got {values['history']!r}.")
    rows = _rows(call, queue, step, -(-span // step))
    if values.get("json"):
        for start, row in rows:
            times = {name: None if row[name] is None else row[name] / 1000 for name in _MS}
            print(json_line({"at": instant(start), "seconds": step, **row, **times}))
        return 0
    print(table(HEAD, [_cells(start, step, row) for start, row in rows]))
    return 0


def _cells(start: int, step: int, row: dict[str, Any]) -> tuple[object, ...]:
    rates = [None if row[name] is None else round(row[name] / step, 2) for name in ("added", "succeeded", "failed", "retried")]
    times = [None if row[name] is None else seconds(row[name] / 1000) for name in _MS[:2]]
    return (str(instant(start))[:-5], *rates, row["pending"], row["running"], *times)


def _rows(call: Call, queue: str | None, step: int, count: int) -> list[tuple[int, dict[str, Any]]]:
    """The last ``count`` buckets, oldest first: when each begins (ms), and its values."""
    found: list[tuple[int, dict[str, Any]]] = []
    until: int | None = None
    while len(found) < count:
        limit = min(count - len(found), AT_ONCE)
        body = call("history", {"queue": queue, "step_s": step, "limit": limit, "until": until})
        until = body["until"] - limit * step * 1000
        names = list(body["series"])
        values = zip(*body["series"].values(), strict=True)
        found[:0] = [(until + at * step * 1000, dict(zip(names, one, strict=True))) for at, one in enumerate(values)]
    return found

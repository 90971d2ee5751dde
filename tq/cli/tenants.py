"""``tq tenant list|show|set|remove``: whose tasks there are, how much they may have, and how much they do.

For: weights and quotas of tenants, what there is of each, and of all of them in the last row.
Not for: filters by tenant (control, tasks), limits of how many begin in a time (limits).
Runs in: the ``tq`` command.
Promises: what cannot be set is said before anything is sent; what is not named stays as it was; names are cleaned.
"""

from __future__ import annotations

from typing import Any

from tq.cli import hot
from tq.cli.options import a_name, refuse, whole
from tq.cli.render import clean, json_line, plain, print_table, seconds
from tq.client import Client
from tq.client.acting import size_of
from tq.errors import UsageError

_QUOTAS = ("queued", "running", "per_day", "bytes")
_ENDS = ("succeeded", "failed", "cancelled", "expired")
_KIB = 1024
_UNITS = ("KiB", "MiB", "GiB", "TiB")


def tenant_set(client: Client, values: dict[str, Any]) -> int:
    name = a_name("NAME", values["name"])
    settings: dict[str, Any] = {}
    if values["weight"] is not None:
        settings["weight"] = whole("--weight", values["weight"])
    for key in _QUOTAS:
        if values[key] is not None:
            settings[key] = _quota(f"--{key.replace('_', '-')}", key, values[key])
    if not settings:
        raise UsageError("expected --weight or a quota, such as --queued 1000, got neither. `tq tenant list` shows what there is.")
    if client.set_tenant(name, **settings):
        hot.say(f"for tenant {clean(name)} nothing was set before. `tq tenant list` shows what there is of each.")
    return 0


def _quota(flag: str, key: str, text: str) -> int:
    """A quota; none is 0."""
    if text == "none":
        return 0
    if key != "bytes":
        return whole(flag, text)
    try:
        return size_of(text)
    except ValueError as error:
        refuse(flag, str(error))


def tenant_remove(client: Client, values: dict[str, Any]) -> int:
    client.remove_tenant(a_name("NAME", values["name"]))
    return 0


def tenant_list(client: Client, values: dict[str, Any]) -> int:
    rows, total = client.tenants(), client.tenant_totals()
    if values["json"]:
        for row in [*rows, total]:
            print(json_line(_object(row)))
        return 0
    header = ("tenant", "weight", "waiting", "running", "today", "bytes", "succeeded", "failed", "mean")
    empty = "no tenants yet: `tq add --tenant acme -- make` sends a task of one, `tq tenant set acme --queued 1000` gives one a quota"
    cells = [_cells(row, clean(row["name"])) for row in rows]
    print_table(header, [*cells, _cells(total, "(all)")] if rows else [], empty)
    return 0


def _cells(row: dict[str, Any], name: str) -> tuple[str, ...]:
    states, quotas = row["states"], row["quotas"]
    used = (("queued", row["waiting"]), ("running", states["running"]), ("per_day", row["today"]))
    share = [f"{count}/{quotas[key]}" if quotas[key] else str(count) for key, count in used]
    space = f"{size(row['bytes'])}/{size(quotas['bytes'])}" if quotas["bytes"] else size(row["bytes"])
    weight = "-" if row["name"] is None else str(row["weight"])
    return (name, weight, *share, space, str(states["succeeded"]), str(states["failed"]), seconds(_mean(row)))


def tenant_show(client: Client, values: dict[str, Any]) -> int:
    row = client.tenant(a_name("NAME", values["name"]))
    if values["json"]:
        print(json_line(_object(row)))
        return 0
    states, quotas = row["states"], row["quotas"]
    waiting = {state: count for state, count in states.items() if count and state not in (*_ENDS, "running")}
    words = ", ".join(f"{count} {clean(state)}" for state, count in waiting.items())
    told = {
        "weight": str(row["weight"]),
        "waiting": f"{_of(row['waiting'], quotas['queued'])}{f' ({words})' if words else ''}",
        "running": _of(states["running"], quotas["running"]),
        "today": f"{_of(row['today'], quotas['per_day'])} accepted (UTC)",
        "bytes": f"{size(row['bytes'])}{' of ' + size(quotas['bytes']) if quotas['bytes'] else ''} of payload that is not over",
        "ended": ", ".join(f"{states[state]} {state}" for state in _ENDS if states[state]) or "none",
        "run time": f"{seconds(_mean(row))} on average",
    }
    print(clean(row["name"]))
    for key, value in told.items():
        print(f"  {key:<9} {value}")
    return 0


def _of(count: int, quota: int | None) -> str:
    return f"{count} of {quota}" if quota else str(count)


def _mean(row: dict[str, Any]) -> float | None:
    """Seconds that a run took on average."""
    return None if row["mean_ms"] is None else row["mean_ms"] / 1000


def size(count: int) -> str:
    """Bytes as people read them."""
    if count < _KIB:
        return f"{count} B"
    unit = min((count.bit_length() - 1) // 10, len(_UNITS))
    return f"{count / (1 << 10 * unit):.1f} {_UNITS[unit - 1]}"


def _object(row: dict[str, Any]) -> Any:
    """A tenant as JSON; of all together ``name`` is null."""
    found = {**row, "running": row["states"]["running"], "mean": _mean(row)}
    del found["mean_ms"]
    return plain(found)

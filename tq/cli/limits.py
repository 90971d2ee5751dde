"""``tq limit list|set|remove``: how many tasks of whom begin in a time and run at a time.

For: limits of queues, types, tenants and flow keys, how far each is used, and whom it holds.
Not for: slots of a queue (queues), resources (resources), who goes first among those that may (the store).
Runs in: the ``tq`` command.
Promises: what cannot be a limit is said before anything is sent; what is not named stays as it was.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tq.cli import hot
from tq.cli.options import a_name, duration, refuse, whole
from tq.cli.render import clean, instant, json_line, plain, print_table
from tq.client import Client
from tq.errors import UsageError
from tq.rates import between_numbers, between_rates, factor_of, percent_of, rate_of

_SCOPES = ("queue", "type", "tenant")
_WINDOWS = ("sliding", "fixed", "none")
_UNITS = {1000: "s", 60_000: "m", 3_600_000: "h", 86_400_000: "d"}


def limit_set(client: Client, values: dict[str, Any]) -> int:
    rule: dict[str, Any] = {"name": a_name("NAME", values["name"])}
    scopes = [(scope, a_name(f"--{scope}", values[scope])) for scope in _SCOPES if values[scope] is not None]
    if values["each_of"] is not None:
        if values["each_of"] not in ("tenant", "flow", "worker"):
            refuse("--each", f"expected tenant, flow or worker, got {values['each_of']!r}")
        if values["each_of"] == "worker":
            rule["each"] = "worker"
        else:
            scopes.append((values["each_of"], ""))
    if len(scopes) > 1:
        raise UsageError("expected one of --queue, --type, --tenant and --each, got several. Make a limit for each.")
    if "each" in rule and [scope for scope, _ in scopes] not in (["queue"], ["type"]):
        raise UsageError("--each worker: expected --type or --queue beside it: of which tasks each worker may have so many.")
    for scope, of in scopes:
        rule |= {"scope": scope, **({"of": of} if of else {})}
    rule |= _numbers(values)
    if values["window"] is not None:
        if values["window"] not in _WINDOWS:
            refuse("--window", f"expected {', '.join(_WINDOWS[:-1])} or {_WINDOWS[-1]}, got {values['window']!r}")
        rule["window"] = values["window"]
    if rule.keys() <= {"name", "scope", "of"}:
        raise UsageError("expected --rate 500/s, --running 10 or both, got neither. `tq limit list` shows what there is.")
    answer = client.call("set_limit", rule)
    if answer["new"]:
        hot.say(f"limit {rule['name']} is new. `tq limit list` shows whom it holds.")
    if answer.get("declared"):
        _say_declared(rule["name"])
    return 0


def _numbers(values: dict[str, Any]) -> dict[str, Any]:
    """What the options say of how many, and of how that follows the work."""
    rule: dict[str, Any] = {}
    ranges = [key for key in ("rate", "running") if values[key] is not None and ".." in values[key]]
    if ranges and not values["adaptive"]:
        refuse(f"--{ranges[0]}", f"expected one number, or a range such as {values[ranges[0]]} beside --adaptive")
    if values["adaptive"] and len(ranges) != 1:
        raise UsageError("--adaptive: expected one range, --running 1..50 or --rate 10/s..500/s, got " + ("two." if ranges else "none."))
    if values["rate"] is not None:
        if ".." in values["rate"]:
            rule["adaptive"] = "rate"
            rule["low"], rule["high"], rule["per_ms"] = _read("--rate", between_rates, values["rate"])
        else:
            rule |= rate("--rate", values["rate"])
    if values["burst"] is not None:
        rule["burst"] = whole("--burst", values["burst"])
    if values["running"] is not None:
        if ".." in values["running"]:
            rule["adaptive"] = "running"
            rule["low"], rule["high"] = _read("--running", between_numbers, values["running"])
        else:
            rule["running"] = whole("--running", values["running"])
    if values["latency"] is not None:
        rule["latency_ms"] = duration("--latency", values["latency"])
    if values["failures"] is not None:
        rule["failures"] = _read("--failures", percent_of, values["failures"])
    if values["factor"] is not None:
        rule["factor"] = _read("--factor", factor_of, values["factor"])
    return rule


def _read(flag: str, read: Callable[[str], Any], text: str) -> Any:
    try:
        return read(text)
    except ValueError as error:
        refuse(flag, str(error))


def rate(flag: str, text: str) -> dict[str, int]:
    """``rate`` and ``per_ms`` from 500/s, 100/m or 5/10s; 0 is none."""
    number, per_ms = _read(flag, rate_of, text)
    return {"rate": number, "per_ms": per_ms} if number else {"rate": 0}


def limit_remove(client: Client, values: dict[str, Any]) -> int:
    name = a_name("NAME", values["name"])
    if client.call("remove_limit", {"name": name}).get("declared"):
        _say_declared(name)
    return 0


def _say_declared(name: str) -> None:
    hot.say(f"the settings file has limit {name}: it is set again as that says when the daemon starts. `tq config path`")


def limit_list(client: Client, values: dict[str, Any]) -> int:
    rows = client.limits()
    if values["json"]:
        for row in rows:
            print(json_line(plain({**row, "used": [{**one, "opens_at": instant(one["opens_at"])} for one in row["used"]]})))
        return 0
    cells = []
    for row in rows:
        whom = (
            f"{row['scope']} {clean(row['of'])}" if row["of"] is not None else f"each {'flow key' if row['scope'] == 'flow' else 'tenant'}"
        )
        whom += ", each worker" if row["each"] == "worker" else ""
        held = [one for one in row["used"] if one["reached"]]
        names = ", ".join(clean(one["of"]) for one in held) if row["of"] is None or row["each"] == "worker" else "yes" if held else ""
        running = sum(one["running"] for one in row["used"])
        burst = row["burst"] if row["rate"] and row["window"] == "none" else "-"
        cells.append((clean(row["name"]), whom, _bounded(row, "rate"), burst, _bounded(row, "running"), running, names or "-"))
    header = ("limit", "of", "rate", "burst", "at a time", "running", "reached")
    print_table(header, cells, "no limits yet: `tq limit set mail --type email --rate 100/m` makes one")
    return 0


def _bounded(row: dict[str, Any], key: str) -> str:
    """What a limit allows now, and between which bounds if it follows the work: 12 (1..50)."""
    now = rate_words(row) if key == "rate" else str(row["running"] or "-")
    return f"{now} ({row['low']}..{row['high']})" if row["adaptive"] == key else now


def rate_words(row: dict[str, Any]) -> str:
    """A rate as it is typed: 500/s; and its window, if it has one."""
    if not row["rate"]:
        return "-"
    per, window = row["per_ms"], row["window"]
    unit = _UNITS[per] if per in _UNITS else f"{per // 1000}s" if per % 1000 == 0 else f"{per}ms"
    return f"{row['rate']}/{unit}{f' {window}' if window != 'none' else ''}"

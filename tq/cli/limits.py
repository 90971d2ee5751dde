"""``tq limit list|set|remove``: how many tasks of whom begin in a time and run at a time.

For: limits of queues, types, tenants and flow keys, how far each is used, and whom it holds.
Not for: slots of a queue (queues), resources (resources), who goes first among those that may (the store).
Runs in: the ``tq`` command.
Promises: what cannot be a limit is said before anything is sent; what is not named stays as it was.
"""

from __future__ import annotations

from typing import Any

from tq.cli import hot
from tq.cli.options import a_name, duration, refuse, whole
from tq.cli.render import clean, instant, json_line, plain, table
from tq.client import Client
from tq.errors import UsageError

_SCOPES = ("queue", "type", "tenant")
_WINDOWS = ("sliding", "fixed", "none")
_UNITS = {1000: "s", 60_000: "m", 3_600_000: "h", 86_400_000: "d"}
RATE_MOST = 1_000_000


def limit_set(client: Client, values: dict[str, Any]) -> int:
    rule: dict[str, Any] = {"name": a_name("NAME", values["name"])}
    scopes = [(scope, a_name(f"--{scope}", values[scope])) for scope in _SCOPES if values[scope] is not None]
    if values["each_of"] is not None:
        if values["each_of"] not in ("tenant", "flow"):
            refuse("--each", f"expected tenant or flow, got {values['each_of']!r}")
        scopes.append((values["each_of"], ""))
    if len(scopes) > 1:
        raise UsageError("expected one of --queue, --type, --tenant and --each, got several. Make a limit for each.")
    for scope, of in scopes:
        rule |= {"scope": scope, **({"of": of} if of else {})}
    rule |= _numbers(values)
    if values["window"] is not None:
        if values["window"] not in _WINDOWS:
            refuse("--window", f"expected {', '.join(_WINDOWS[:-1])} or {_WINDOWS[-1]}, got {values['window']!r}")
        rule["window"] = values["window"]
    if rule.keys() <= {"name", "scope", "of"}:
        raise UsageError("expected --rate 500/s, --running 10 or both, got neither. `tq limit list` shows what there is.")
    if client.call("set_limit", rule)["new"]:
        hot.say(f"limit {rule['name']} is new. `tq limit list` shows whom it holds.")
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
        rule |= _rates(values["rate"]) if "rate" in ranges else rate("--rate", values["rate"])
    if values["burst"] is not None:
        rule["burst"] = whole("--burst", values["burst"])
    if "running" in ranges:
        low, _, high = values["running"].partition("..")
        rule |= {"adaptive": "running", "low": whole("--running", low), "high": whole("--running", high)}
    elif values["running"] is not None:
        rule["running"] = whole("--running", values["running"])
    if values["latency"] is not None:
        rule["latency_ms"] = duration("--latency", values["latency"])
    if values["failures"] is not None:
        rule["failures"] = whole("--failures", values["failures"].removesuffix("%"))
    if values["factor"] is not None:
        rule["factor"] = _hundredths("--factor", values["factor"])
    return rule


def _rates(text: str) -> dict[str, Any]:
    """The two bounds of a rate that follows the work."""
    low, high = (rate("--rate", one) for one in text.split("..", 1))
    if low.get("per_ms") != high.get("per_ms") or not low["rate"]:
        refuse("--rate", f"expected two rates in the same time, such as 10/s..500/s, got {text!r}")
    return {"adaptive": "rate", "low": low["rate"], "high": high["rate"], "per_ms": low["per_ms"]}


def _hundredths(flag: str, text: str) -> int:
    """0.9 in hundredths."""
    whole_part, point, rest = text.partition(".")
    if whole_part != "0" or not point or not 0 < len(rest) <= 2 or not (rest.isascii() and rest.isdecimal()) or not int(rest):
        refuse(flag, f"expected a number from 0.01 to 0.99, got {text!r}")
    return int(rest.ljust(2, "0"))


def rate(flag: str, text: str) -> dict[str, int]:
    """``rate`` and ``per_ms`` from 500/s, 100/m or 5/10s; 0 is none."""
    count, slash, per = text.partition("/")
    if text == "0":
        return {"rate": 0}
    number = whole(flag, count) if count.isdecimal() else 0
    if not (slash and per) or not 0 < number <= RATE_MOST:
        refuse(flag, f"expected so many in a time, such as 500/s, 100/m or 5/10s, got {text!r}")
    return {"rate": number, "per_ms": max(duration(flag, per if per[0].isdigit() else f"1{per}"), 1)}


def limit_remove(client: Client, values: dict[str, Any]) -> int:
    client.remove_limit(a_name("NAME", values["name"]))
    return 0


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
        held = [one for one in row["used"] if one["reached"]]
        names = ", ".join(clean(one["of"]) for one in held) if row["of"] is None else "yes" if held else ""
        running = sum(one["running"] for one in row["used"])
        burst = row["burst"] if row["rate"] and row["window"] == "none" else "-"
        cells.append((clean(row["name"]), whom, _bounded(row, "rate"), burst, _bounded(row, "running"), running, names or "-"))
    header = ("limit", "of", "rate", "burst", "at a time", "running", "reached")
    print(table(header, cells) if cells else "no limits yet: `tq limit set mail --type email --rate 100/m` makes one")
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

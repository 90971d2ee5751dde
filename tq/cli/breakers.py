"""``tq breaker list|show|set|remove|reset|trip``: circuit breakers of services and of types.

For: what each of them does now and why, their rules, and opening and closing them by hand.
Not for: when they open (``tq.breakers``), who decides it (daemon).
Runs in: the ``tq`` command.
Promises: ``smtp`` is a service, ``type:email`` a type, in what is read as in what is printed; a rule is read before it is sent.
"""

from __future__ import annotations

from typing import Any

from tq.breakers import Rule
from tq.cli import hot
from tq.cli.options import a_name, duration
from tq.cli.render import clean, instant, json_line, plain, print_table
from tq.client import Client
from tq.errors import UsageError

_TIMES = ("since", "until")
STATES = {"closed": "closed", "open": "OPEN", "half_open": "half open"}


def breaker_list(client: Client, values: dict[str, Any]) -> int:
    rows = client.call("breakers")["breakers"]
    if values["json"]:
        for row in rows:
            print(json_line(_object(row)))
        return 0
    cells = [(_name(row), STATES.get(row["state"], clean(row["state"])), _counts(row), clean(row["rule"]), _why(row)) for row in rows]
    empty = "no breakers yet: `tq breaker set smtp '5 failures in 1m, cool 30s'` makes one, and so does `with tq.breaker(\"smtp\"):`"
    print_table(("breaker", "state", "failures", "rule", "why"), cells, empty)
    return 0


def breaker_show(client: Client, values: dict[str, Any]) -> int:
    (row,) = client.call("breakers", _which(values["name"]))["breakers"]
    if values["json"]:
        print(json_line(_object(row)))
        return 0
    by = "set by hand" if row["fixed"] else "declared by its handler" if row["declared"] else "declared by its callers, or the default"
    told = {
        "state": STATES.get(row["state"], clean(row["state"])), "rule": f"{clean(row['rule'])}  ({by})", "why": _why(row) or "-",
        "failures": _counts(row), "opened": f"{row['level']} times since it was closed",
        "probes": f"{row['probes']} under way, {row['won']} succeeded",
    }  # fmt: skip
    print(_name(row))
    for key, value in told.items():
        print(f"  {key:<9} {value}")
    return 0


def breaker_set(client: Client, values: dict[str, Any]) -> int:
    words = values["name_and_rule"]
    if len(words) != 2:
        raise UsageError(
            "expected a name and a rule: tq breaker set smtp '5 failures in 1m, cool 30s'. `tq breaker list` shows those there are."
        )
    try:
        rule = str(Rule.of(words[1]))
    except ValueError as error:
        raise UsageError(f"RULE: {error}. `python -m pydoc tq.breakers` has all the words.") from None
    if client.call("set_breaker", {**_which(words[0]), "rule": rule})["new"] and not words[0].startswith("type:"):
        hot.say(
            f"breaker {words[0]} is new: `with tq.breaker({words[0]!r}):` in a handler uses it. `tq breaker list` shows those there are."
        )
    return 0


def breaker_remove(client: Client, values: dict[str, Any]) -> int:
    client.call("remove_breaker", _which(values["name"]))
    return 0


def breaker_reset(client: Client, values: dict[str, Any]) -> int:
    client.call("reset_breaker", _which(values["name"]))
    return 0


def breaker_trip(client: Client, values: dict[str, Any]) -> int:
    span = {} if values["span"] is None else {"for_ms": duration("--for", values["span"])}
    client.call("trip_breaker", {**_which(values["name"]), **span})
    return 0


def _which(word: str) -> dict[str, Any]:
    """The breaker that a word names, as it travels."""
    kind = word.removeprefix("type:")
    return {"type": a_name("NAME", kind)} if kind != word else {"name": a_name("NAME", word)}


def _name(row: dict[str, Any]) -> str:
    return clean(f"type:{row['type']}" if row["type"] else row["name"])


def _counts(row: dict[str, Any]) -> str:
    """What has failed lately, as far as its rule looks at it."""
    lately = f", {row['failed']} of {row['calls']} calls" if row["calls"] else ""
    return f"{row['row']} in a row{lately}"


def _why(row: dict[str, Any]) -> str:
    if row["state"] == "closed":
        return ""
    until = f", until {instant(row['until'])}" if row["until"] else ", until `tq breaker reset`" if row["state"] == "open" else ""
    return f"{clean(row['why'])}, since {instant(row['since'])}{until}"


def _object(row: dict[str, Any]) -> dict[str, Any]:
    """For ``--json``: times in RFC 3339."""
    told: dict[str, Any] = plain({key: instant(value) if key in _TIMES and value else value for key, value in row.items()})
    return told
